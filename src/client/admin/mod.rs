//! Administration: topics, settings, groups, offsets, log directories, the cluster.
//!
//! *Owns* what an operator asks of a cluster. A call that is about several things answers for each of them: a map from the
//! thing to its result, so that one refusal hides nothing else. Errors that time may heal are tried again for
//! `default.api.timeout.ms`; what is then returned says by its type whether asking again later makes sense. Nothing is
//! created by asking about it.
//!
//! ```
//! # mod example {
//! use corelog::client::admin::{Admin, AdminSettings, NewTopic, ResetTo};
//! use corelog::client::ClientError;
//!
//! # pub async fn run(broker: String) -> Result<(), ClientError> {
//! let bootstrap = "127.0.0.1:9092";
//! # let bootstrap = broker.as_str();
//! let admin = Admin::new(AdminSettings::builder().set("bootstrap.servers", bootstrap).build()?)?;
//!
//! let invoices = NewTopic::new("invoices").partitions(3).config("retention.ms", "86400000");
//! for (name, result) in admin.create_topics(&[invoices]).await? {
//!     match result {
//!         Ok(created) => println!("{name} has {:?} partitions", created.partition_count),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # assert_eq!(admin.list_topics().await?.len(), 2);
//!
//! for row in admin.group_lag("billing").await? {
//!     println!("{} at {:?} of {:?}", row.partition, row.committed, row.end);
//! }
//! // What a reset would do; the group keeps its offsets.
//! for planned in admin.plan_reset("billing", &["orders"], ResetTo::Earliest).await? {
//!     println!("{}: {:?} -> {}", planned.partition, planned.from, planned.to);
//! }
//! # Ok(())
//! # }
//! # }
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
//! # fn main() { with_orders(example::run) }
//! ```

mod asking;
mod cluster;
mod configs;
mod groups;
mod log_dirs;
mod offsets;
mod topics;

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::error::ClientError;

pub use super::offsets::{FoundOffset, IsolationLevel, OffsetSpec};
pub use super::settings::AdminSettings;
pub use cluster::ClusterDescription;
pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym, ConfigType};
pub use groups::{
    CommittedOffset, GroupDescription, GroupListing, GroupListings, MemberDescription, PartitionLag,
    PlannedReset, ResetTo,
};
pub use log_dirs::{LogDir, LogDirReplica};
pub use topics::{CreatedTopic, NewTopic, TopicListing};

/// A result for each thing that a call was about.
pub type Each<K, V> = BTreeMap<K, Result<V, ClientError>>;

/// A client for administration. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Admin {
    settings: AdminSettings,
    cluster: Cluster,
}

impl Admin {
    /// Connects to nobody yet. Must be called on a tokio runtime. Errors: files that the settings name for TLS.
    pub fn new(settings: AdminSettings) -> Result<Admin, ClientError> {
        let cluster = Cluster::new(settings.client.clone(), false)?;
        Ok(Admin { settings, cluster })
    }

    pub fn settings(&self) -> &AdminSettings {
        &self.settings
    }

    /// The cluster as this client knows it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}
