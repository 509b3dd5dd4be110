//! Topic names and partitions.

use std::fmt;
use std::sync::Arc;

/// A topic's name, shared by reference so that a message between cores copies a pointer.
pub type TopicName = Arc<str>;

/// A partition's number inside its topic, 0-based. An `i32` as on the wire; negative values come from peers only.
pub type PartitionIndex = i32;

/// One partition of one topic, by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

impl TopicPartition {
    pub fn new(topic: impl Into<TopicName>, partition: PartitionIndex) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Why a topic cannot have this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidTopicName {
    Empty,
    Dots,
    TooLong,
    BadCharacter,
}

/// Checks Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
/// Source: Apache Kafka, `org.apache.kafka.common.internals.Topic`.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    match name {
        "" => Err(InvalidTopicName::Empty),
        "." | ".." => Err(InvalidTopicName::Dots),
        _ if name.len() > 249 => Err(InvalidTopicName::TooLong),
        _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => Ok(()),
        _ => Err(InvalidTopicName::BadCharacter),
    }
}

impl fmt::Display for InvalidTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidTopicName::Empty => "the empty string is not allowed",
            InvalidTopicName::Dots => "\".\" and \"..\" are not allowed",
            InvalidTopicName::TooLong => "the length is longer than the max allowed length 249",
            InvalidTopicName::BadCharacter => {
                "it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        let check = |name: &str, expected| assert_eq!(check_topic_name(name), expected, "{name}");
        check("a", Ok(()));
        check("A-z_0.9", Ok(()));
        check("", Err(InvalidTopicName::Empty));
        check("..", Err(InvalidTopicName::Dots));
        check(&"x".repeat(249), Ok(()));
        check(&"x".repeat(250), Err(InvalidTopicName::TooLong));
        check("a b", Err(InvalidTopicName::BadCharacter));
        check("é", Err(InvalidTopicName::BadCharacter));
    }
}
