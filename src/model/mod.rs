//! Plain values that every room speaks of. No I/O, no clocks, no state.
//!
//! All offsets are *exclusive ends* unless the name says `last` (see ARCHITECTURE, Glossary).

mod id;
mod map;
mod time;
mod topic;

pub use id::{
    BrokerEpoch, BrokerId, DirectoryId, Endpoint, LeaderEpoch, NodeId, PlacementSlot, ProducerEpoch,
    ProducerId, ShardId, TopicId, Uuid,
};
pub use map::{Map, Set};
pub use time::{Monotonic, Timestamp};
pub use topic::{InvalidTopicName, PartitionIndex, TopicName, TopicPartition, check_topic_name};

/// A record's place in its partition. As a bound it is exclusive: the offset of the next record.
pub type Offset = i64;

/// A byte's place in a file.
pub type Position = u64;
