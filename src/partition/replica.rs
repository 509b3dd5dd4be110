//! One partition's replica on this shard.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::directory::DirectoryIndex;
use super::purgatory::{Purgatory, Waiter};
use super::validate::BatchRules;
use crate::config::{self, TopicConfig};
use crate::log::Log;
use crate::metrics::{JournalWait, Tally, Traffic};
use crate::model::{LeaderEpoch, Monotonic, Offset, Timestamp, TopicId, TopicPartition};
use crate::reactor::TimerId;
use crate::record::TimestampType;

/// Bytes that a compressed batch may unpack to where the broker has to look inside (compacted topics, searches by time).
pub(super) const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// An append that has reached its durability level, as the producer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// -1 unless the topic has LogAppendTime.
    pub log_append_time_ms: Timestamp,
    pub log_start_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// A batch that waits for the log to have room for it. Order is kept: whoever comes later waits behind it.
pub(super) struct Parked {
    pub batch: Bytes,
    pub waiter: Waiter,
}

/// A replica and who waits on it.
pub struct Replica {
    pub(super) at: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) directory: DirectoryIndex,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) config: Arc<TopicConfig>,
    pub(super) rules: BatchRules,
    pub(super) log: Log,
    pub(super) purgatory: Purgatory,
    pub(super) parked: VecDeque<Parked>,
    pub(super) parked_bytes: usize,
    /// In the set's list of logs to drive.
    pub(super) is_dirty: bool,
    /// In the queue of logs with journaled bytes to write to their segments.
    pub(super) is_store_queued: bool,
    /// The topic is gone, or the partition offline: it is not found any more, what is in flight is awaited.
    pub(super) is_withdrawn: bool,
    /// When a shortage of space was last told of.
    pub(super) no_space_told: Option<Monotonic>,
    pub(super) is_internal: bool,
    /// The end that readers were last told of.
    pub(super) told_end: Offset,
    /// When the log wants to be driven although nothing happens.
    pub(super) deadline: Option<(Monotonic, TimerId)>,
    /// Since when the journal takes no more of its batches, and why.
    pub(super) journal_wait: Option<(JournalWait, Monotonic)>,
    /// The log start that a running checkpoint makes durable.
    pub(super) checkpointed_start: Option<Offset>,
    /// What the checkpoint of recovery points was last told.
    pub(super) told_recovery_point: Option<Offset>,
    pub(super) tally: Tally,
    /// What went through since somebody took it (`PartitionSet::take_traffic`).
    pub(super) untold: Traffic,
}

impl Replica {
    pub fn at(&self) -> &TopicPartition {
        &self.at
    }

    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The data directory that holds it.
    pub fn directory(&self) -> DirectoryIndex {
        self.directory
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn config(&self) -> &TopicConfig {
        &self.config
    }

    /// What went through since this shard has it.
    pub fn traffic(&self) -> Traffic {
        self.tally.total()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Exclusive end of what consumers may read.
    pub fn high_watermark(&self) -> Offset {
        self.log.committed_offset()
    }

    /// Exclusive end of what `read_committed` consumers may read: the high watermark as long as no transaction is open.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    pub fn min_insync_replicas(&self) -> u32 {
        self.config.min_insync_replicas
    }
}

/// What the topic's settings say about produced batches.
pub(super) fn rules_of(config: &TopicConfig) -> BatchRules {
    let bound = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    BatchRules {
        max_message_bytes: config.max_message_bytes,
        segment_bytes: config.segment_bytes,
        timestamp_type: match config.timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: bound(config.timestamp_before_max_ms),
        timestamp_after_max_ms: bound(config.timestamp_after_max_ms),
        needs_keys: config.cleanup_policy.compact,
        unpacked_bytes_max: UNPACKED_BYTES_MAX,
    }
}
