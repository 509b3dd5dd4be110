//! What a caller gives to a producer, and what it gets back.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::client::time::Instant;
use crate::model::{Offset, Timestamp, TopicName};

/// A record to be sent. It borrows what it can: key and value are copied once, into their batch.
pub struct ProducerRecord<'a, K: ?Sized = [u8], V: ?Sized = [u8]> {
    pub topic: Cow<'a, str>,
    /// `None`: the partitioner chooses.
    pub partition: Option<i32>,
    /// Milliseconds since the Unix epoch; `None`: the moment of sending.
    pub timestamp: Option<Timestamp>,
    /// `None` is Kafka's null, which differs from empty.
    pub key: Option<Payload<'a, K>>,
    /// `None` is Kafka's null, a tombstone in a compacted topic.
    pub value: Option<Payload<'a, V>>,
    pub headers: Vec<RecordHeader<'a>>,
}

/// A key or value, the caller's or one that an interceptor put in its place.
pub enum Payload<'a, T: ?Sized> {
    Borrowed(&'a T),
    Owned(Box<T>),
}

/// A header of a record. Names may repeat; their order is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader<'a> {
    pub name: Cow<'a, str>,
    pub value: Option<Cow<'a, [u8]>>,
}

/// Where a record is, and what it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    pub topic: TopicName,
    pub partition: i32,
    /// `None`: the broker did not tell (`acks=0`, or a duplicate that it no longer knows the place of).
    pub offset: Option<Offset>,
    /// The record's own, or the broker's where the topic says LogAppendTime.
    pub timestamp: Timestamp,
    /// `None`: the key is null.
    pub serialized_key_bytes: Option<usize>,
    /// `None`: the value is null.
    pub serialized_value_bytes: Option<usize>,
    /// When the record's batch passed the stages of the pipeline.
    pub stages: Stages,
}

/// When a batch passed the stages of the pipeline; of a batch that was sent again, its last try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stages {
    /// Its first record was appended.
    pub opened: Instant,
    /// It was closed, compressed and given its sequence.
    pub drained: Instant,
    /// Its request was given to the connection.
    pub sent: Instant,
    /// The broker's answer was read.
    pub acknowledged: Instant,
    /// Tries before the last.
    pub retries: u32,
}

impl Stages {
    /// How long the batch collected records and waited to be sent.
    pub fn in_accumulator(&self) -> Duration {
        self.drained.duration_since(self.opened)
    }

    /// From the last request to its answer.
    pub fn on_the_way(&self) -> Duration {
        self.acknowledged.duration_since(self.sent)
    }
}

impl<'a> ProducerRecord<'a> {
    /// A record of bytes, without key and value yet.
    pub fn to(topic: &'a str) -> ProducerRecord<'a> {
        ProducerRecord::typed(topic)
    }
}

impl<'a, K: ?Sized, V: ?Sized> ProducerRecord<'a, K, V> {
    /// A record whose key and value have the types of the producer's serializers.
    pub fn typed(topic: &'a str) -> ProducerRecord<'a, K, V> {
        ProducerRecord {
            topic: Cow::Borrowed(topic),
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    pub fn key(mut self, key: &'a K) -> Self {
        self.key = Some(Payload::Borrowed(key));
        self
    }

    pub fn value(mut self, value: &'a V) -> Self {
        self.value = Some(Payload::Borrowed(value));
        self
    }

    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Adds a header behind those that are there.
    pub fn header(mut self, name: &'a str, value: &'a [u8]) -> Self {
        self.headers.push(RecordHeader { name: Cow::Borrowed(name), value: Some(Cow::Borrowed(value)) });
        self
    }
}

impl<T: ?Sized> Deref for Payload<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Payload::Borrowed(value) => value,
            Payload::Owned(value) => value,
        }
    }
}

/// Without key and value, which may be anything.
impl<K: ?Sized, V: ?Sized> fmt::Debug for ProducerRecord<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("timestamp", &self.timestamp)
            .field("has_key", &self.key.is_some())
            .field("has_value", &self.value.is_some())
            .field("headers", &self.headers)
            .finish()
    }
}
