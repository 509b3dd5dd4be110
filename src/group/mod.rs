//! Consumer groups: who reads what, and how far they have come.
//!
//! A [`Coordinator`] holds the groups whose partition of the offsets topic this shard leads (`coordinator_partition`). It is a
//! pure state machine: [`Coordinator::step`] takes one event and the moment it happens at, and appends what is to be
//! done to a list of effects. It reads no clock, makes no random number and does no I/O. Called by `shard` with events,
//! and by `server` handlers through it; it knows nothing of the wire.
//!
//! What the shard does around it:
//! - leads a partition of the offsets topic: `PartitionOwned`, then `Replay` with every record from the log start to the
//!   log end, then `Loaded`. Requests in between are answered LOAD_IN_PROGRESS by the coordinator itself;
//! - `Effect::Append`: writes one batch with `fsync` durability, then sends `Appended` with the same ticket, also when it
//!   has failed and also after `PartitionResigned`. For one partition in the order of the tickets;
//! - `Effect::Reply`: every `Event::Request` gets exactly one, now or later;
//! - `next_deadline`: sends `Timer` at that moment, or later; too early does no harm;
//! - after some appends: `should_snapshot`, and if so `snapshot_records` as batches before any other append to that
//!   partition, and once those are durable the log start is raised to the first of them.
//!
//! Invariants: an offset is shown only once its record is durable, and never goes back but by a commit or a deletion; a
//! generation's assignment is handed out only once its record is durable; replaying the records rebuilds what Describe
//! and OffsetFetch show; only the current generation's members commit while a group has members.
//!
//! | file             | what                                                     |
//! |------------------|----------------------------------------------------------|
//! | `message.rs`     | events, requests, responses, effects                     |
//! | `coordinator.rs` | all groups of a shard: routing, loading, appends, expiry |
//! | `classic.rs`     | one group's members and state                            |
//! | `rebalance.rs`   | join, sync, heartbeat, leave and their timers            |
//! | `offsets.rs`     | committed offsets of a group, their retention            |
//! | `records.rs`     | the records of the offsets topic                         |
//! | `turn.rs`        | what a step may use, and what it wants written           |
//! | `timers.rs`      | deadlines                                                |
//! | `error.rs`       | why a request is refused, why an append failed           |

mod classic;
mod coordinator;
mod error;
mod message;
mod offsets;
mod rebalance;
mod records;
mod timers;
mod turn;

#[cfg(test)]
mod tests;

use std::time::Duration;

use coordinator::Group;

pub use classic::State;
pub use coordinator::Coordinator;
pub use error::{AppendFailure, GroupError};
pub use message::{
    CommitOffsets, CommitPartition, CommitTopic, CommittedOffset, DeleteOffsets, DescribedMember, Effect,
    Event, FetchOffsets, FetchTopic, FetchedOffset, FetchedTopic, GroupDescription, GroupId, GroupRecord,
    Heartbeat, InstanceId, JoinGroup, JoinRefused, Joined, JoinedMember, LeaveGroup, Leaving, Left,
    ListGroups, ListedGroup, MemberId, Protocol, ReplyToken, Request, Response, SyncGroup, Synced, Ticket,
    TopicResults,
};
pub use records::{GroupMetadata, MemberMetadata, RecordError, Stored, decode as decode_record};
pub use turn::Moment;

/// A log is rewritten when it is this many times its live records, so that what a snapshot writes stays a third of what
/// commits write; below the minimum it is not worth a batch.
const SNAPSHOT_LOG_RATIO: u64 = 4;
const SNAPSHOT_LOG_BYTES_MIN: u64 = 1024 * 1024;

/// The bounds of a coordinator. Defaults are Kafka's where Kafka has the setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLimits {
    /// Partitions of the offsets topic; `offsets.topic.num.partitions` until it exists.
    pub offsets_partition_count: i32,
    /// `group.max.size`
    pub group_size_max: usize,
    /// `group.min.session.timeout.ms`
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay: Duration,
    /// `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
    pub offset_metadata_chars_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
    /// Groups of this coordinator; Kafka has no bound.
    pub groups_max: usize,
    /// Member ids of one group that were given out and not used; Kafka has no bound.
    pub pending_members_max: usize,
    /// Bytes of the protocols of one member; Kafka finds out when the group's record does not fit.
    pub member_metadata_bytes_max: usize,
}

impl Default for GroupLimits {
    fn default() -> GroupLimits {
        GroupLimits {
            offsets_partition_count: 50,
            group_size_max: i32::MAX as usize,
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            offset_metadata_chars_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
            groups_max: 100_000,
            pending_members_max: 10_000,
            member_metadata_bytes_max: 1024 * 1024,
        }
    }
}

/// Whether a partition of the offsets topic is worth rewriting.
pub fn should_snapshot(log_bytes: u64, live_bytes: u64) -> bool {
    log_bytes >= SNAPSHOT_LOG_BYTES_MIN && log_bytes / SNAPSHOT_LOG_RATIO >= live_bytes
}
