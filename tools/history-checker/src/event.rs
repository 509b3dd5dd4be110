//! One line of a history.

use serde::{Deserialize, Serialize};

/// Something that a producer or a consumer did or saw.
/// Order: as it happened; `at_ns` comes from one monotonic clock for the whole history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What a producer promises, before its first send. A producer that is not declared is neither.
    Producer {
        producer: String,
        /// A value of it may stand in the log only once.
        idempotent: bool,
        /// Its values stand in each partition in the order of its sequence.
        ordered: bool,
    },
    /// A send begins. Values are unique in the whole history.
    Invoked {
        producer: String,
        sequence: u64,
        topic: String,
        partition: i32,
        value: String,
        at_ns: u64,
    },
    /// The broker acknowledged it. The offset is absent when the broker answered that it has the record already.
    Acked {
        producer: String,
        sequence: u64,
        offset: Option<i64>,
        at_ns: u64,
    },
    /// The broker refused it: it must never be read.
    Failed {
        producer: String,
        sequence: u64,
        at_ns: u64,
    },
    /// No answer: it may be read or not. A time-out is this, never a failure.
    Unknown {
        producer: String,
        sequence: u64,
        at_ns: u64,
    },
    /// The consumer starts from a place of its choice: its next reads need not follow its last ones.
    Assigned {
        consumer: String,
        at_ns: u64,
    },
    Read {
        consumer: String,
        topic: String,
        partition: i32,
        offset: i64,
        value: String,
        at_ns: u64,
    },
    /// After the last fault this consumer, which did not read before, reads the whole partition from its log start.
    ReadAll {
        consumer: String,
        topic: String,
        partition: i32,
        start: i64,
    },
}
