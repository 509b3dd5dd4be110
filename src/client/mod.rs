//! A client for Kafka's protocol: producer, consumer, administration. For this broker and others.
//!
//! *Owns* what a client is: settings with Kafka's names ([`settings`]), connections with many requests in flight
//! ([`connection`]), the cluster as brokers tell of it ([`cluster`]), errors sorted by what the caller can do ([`error`]).
//! *Never* used by the broker itself: only `cli` imports it, and it knows no other room than `protocol`, `record`, `model`
//! and `config`. It runs on the caller's tokio runtime.
//!
//! Where to start: [`Producer`] sends records, [`Consumer`] reads them, [`Admin`] looks after topics, settings and groups
//! (examples are in [`producer`], [`consumer`], [`admin`]). To ask brokers something else, [`Cluster`] finds
//! them and [`Connection`] carries any request that `protocol` declares:
//!
//! ```
//! # mod example {
//! use corelog::client::{ClientError, ClientSettings, Cluster};
//! use corelog::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
//!
//! # pub async fn run(broker: String) -> Result<(), ClientError> {
//! let bootstrap = "127.0.0.1:9092";
//! # let bootstrap = broker.as_str();
//! let cluster = Cluster::new(ClientSettings::from_pairs([("bootstrap.servers", bootstrap)])?, false)?;
//! let image = cluster.refresh().await?;
//! for node in image.nodes.values() {
//!     let answer = cluster.ask(node.id, &ListGroupsRequest::default()).await?;
//!     let response: ListGroupsResponse<'_> = answer.decode()?;
//!     println!("{} coordinates {} groups", node.address, response.groups.len());
//! }
//! # assert_eq!(image.nodes.len(), 1);
//! # Ok(())
//! # }
//! # }
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
//! # fn main() { with_orders(example::run) }
//! ```

pub mod admin;
pub mod backoff;
pub mod cluster;
mod committed;
pub mod connection;
pub mod consumer;
mod coordinator;
pub mod error;
mod offsets;
mod patience;
pub mod producer;
pub mod random;
pub mod settings;
pub mod time;

pub use admin::Admin;
pub use cluster::{Cluster, ClusterImage, Lane};
pub use connection::{Answer, Connection};
pub use consumer::{Consumer, ConsumerHandle, ConsumerMetrics, ConsumerRecord, RebalanceListener};
pub use error::{Abortable, ClientError, Fatal, Misuse, Refusal, Retriable};
pub use producer::{Delivery, Producer, ProducerMetrics, ProducerRecord, RecordMetadata};
pub use settings::{AdminSettings, ClientSettings, ConsumerSettings, ProducerSettings, SettingError};

pub use crate::config::Address;
pub use crate::model::TopicPartition;
pub use crate::record::Codec;
