//! What the cluster is: brokers, topics, partitions, configs. Values only; deciding about them is `controller`'s work.
//!
//! *Owns* the immutable [`Image`] that every shard holds, the [`Delta`] between two images, and the [`Record`]s that an
//! image is built from, with their bytes on disk. *Never* does I/O, never reads a clock, never decides.
//! Written by `controller` alone (it applies records); read by every room above through `Arc<Image>`.
//!
//! Invariant: an image is a pure function of the entries applied to it, in order, and of [`Local`].

mod advertised;
mod codec;
mod delta;
mod homes;
mod image;
mod layout;
mod persistent_map;
mod records;

pub use advertised::Advertised;
pub use delta::{Delta, MovedSlot, TopicChange};
pub use homes::SlotHome;
pub use image::{Broker, Configs, Image, Local, Partition, Replica, Topic, coordinator_partition};
pub use layout::{Layout, LayoutError};
pub use persistent_map::PersistentMap;
pub use records::{
    ConfigRecord, ConfigResource, DecodeError, Entry, FeatureLevelRecord, FormatRecord, MoveSlotRecord,
    PartitionRecord, ProducerIdsRecord, Record, RegisterBrokerRecord, TopicRecord,
};

/// The feature whose level says which records and wire versions the cluster speaks.
/// Source: Apache Kafka, `org.apache.kafka.server.common.MetadataVersion`.
pub const METADATA_VERSION_FEATURE: &str = "metadata.version";

/// The level that corelog formats with: 4.3-IV0.
pub const METADATA_VERSION_LEVEL: i16 = 30;

/// Placement slots of a new directory, unless the operator asks for another number.
pub const SLOTS_DEFAULT: u16 = 64;

/// Advertised endpoints of a new directory: one a data core, up to this many. Clients keep a connection, and librdkafka a
/// thread, for each of them.
pub const ENDPOINTS_DEFAULT_MAX: u16 = 16;

/// Where committed offsets live. Source: Apache Kafka, `org.apache.kafka.common.internals.Topic`.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";

/// Where transactions will live. Source: as above.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

/// Where share groups would live. Source: as above.
pub const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";

/// The folder of the metadata log; no topic may take the name.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Internal topics are listed as such and refuse client writes.
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, GROUP_METADATA_TOPIC | TRANSACTION_STATE_TOPIC | SHARE_GROUP_STATE_TOPIC)
}
