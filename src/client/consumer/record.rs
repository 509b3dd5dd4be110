//! What `poll` returns.

use bytes::Bytes;

use crate::model::{Offset, Timestamp, TopicName, TopicPartition};
use crate::record::TimestampType;

/// A record that was read. Key, value and headers are slices of what came from the broker, which stays in memory for as
/// long as one of them: copy what is to be kept for long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    pub topic: TopicName,
    pub partition: i32,
    pub offset: Offset,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
    pub timestamp_type: TimestampType,
    /// Of the leader that appended it; -1 where it is not known.
    pub leader_epoch: i32,
    /// `None` is Kafka's null, which differs from empty.
    pub key: Option<Bytes>,
    /// `None` is Kafka's null, a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In their order; names may repeat.
    pub headers: Vec<ConsumerHeader>,
}

/// A header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerHeader {
    /// UTF-8 where the producer kept to the rules.
    pub name: Bytes,
    pub value: Option<Bytes>,
}

impl ConsumerRecord {
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<&ConsumerHeader> {
        self.headers.iter().rev().find(|header| *header.name == *name.as_bytes())
    }

    /// Of key and value.
    pub fn size_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }
}
