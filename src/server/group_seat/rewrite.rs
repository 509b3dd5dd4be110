//! Keeping the logs of the coordinator's partitions short: what is live is written anew at the end, and once that is
//! durable the log start is raised to it.
//!
//! A log's length counts from the log start, not in segments: the rewrite of a log that fits one segment would otherwise
//! seem to have gained nothing and be done again at once.

use std::collections::BTreeMap;

use crate::group::{self, GroupRecord};
use crate::model::{Offset, PartitionIndex};

/// Looking at all groups to know what is live costs more than an append; it is done once for so many new bytes.
const CHECK_BYTES: u64 = 1 << 20;

/// A batch of a rewrite is closed at this size: well below any `max.message.bytes`, large enough to be few.
const BATCH_BYTES: usize = 256 << 10;

/// Where a log may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogStart {
    At(Offset),
    /// Nothing in the log is live: at the end of what is durable.
    Committed,
}

#[derive(Default)]
struct Growth {
    log_bytes: u64,
    /// Log bytes at which live bytes are counted next.
    check_at: u64,
    rewriting: Option<Rewriting>,
}

struct Rewriting {
    batches_left: usize,
    /// Of the first batch, once it is durable.
    base_offset: Option<Offset>,
    has_failed: bool,
    /// Log bytes when it began: what is before the rewrite.
    bytes_before: u64,
}

/// How long the logs of this shard's coordinator partitions are.
#[derive(Default)]
pub struct Rewrites {
    partitions: BTreeMap<PartitionIndex, Growth>,
    log_starts: Vec<(PartitionIndex, LogStart)>,
}

impl Rewrites {
    pub fn own(&mut self, partition: PartitionIndex) {
        self.partitions.insert(partition, Growth { check_at: CHECK_BYTES, ..Growth::default() });
    }

    pub fn resign(&mut self, partition: PartitionIndex) {
        self.partitions.remove(&partition);
    }

    pub fn appended(&mut self, partition: PartitionIndex, bytes: usize) {
        if let Some(growth) = self.partitions.get_mut(&partition) {
            growth.log_bytes += bytes as u64;
        }
    }

    /// A partition whose log is worth writing anew, if there is one.
    pub fn take_due(&mut self, live_bytes: impl Fn(PartitionIndex) -> u64) -> Option<PartitionIndex> {
        let due = |growth: &Growth| growth.rewriting.is_none() && growth.log_bytes >= growth.check_at;
        for (partition, growth) in self.partitions.iter_mut().filter(|(_, growth)| due(growth)) {
            growth.check_at = growth.log_bytes + CHECK_BYTES;
            if group::should_snapshot(growth.log_bytes, live_bytes(*partition)) {
                return Some(*partition);
            }
        }
        None
    }

    /// The rewrite of a partition begins with so many batches, all to be appended now.
    pub fn begin(&mut self, partition: PartitionIndex, batches: usize) {
        let growth = self.partitions.get_mut(&partition).expect("only owned partitions are due");
        if batches == 0 {
            growth.log_bytes = 0;
            growth.check_at = CHECK_BYTES;
            self.log_starts.push((partition, LogStart::Committed));
            return;
        }
        growth.rewriting = Some(Rewriting {
            batches_left: batches,
            base_offset: None,
            has_failed: false,
            bytes_before: growth.log_bytes,
        });
    }

    /// One batch of a rewrite is durable at this offset, or lost (`None`). They come back in order.
    pub fn part_done(&mut self, partition: PartitionIndex, base_offset: Option<Offset>) {
        // The partition may have gone, and come back, since the rewrite began.
        let Some(growth) = self.partitions.get_mut(&partition) else { return };
        let Some(rewriting) = &mut growth.rewriting else { return };
        rewriting.batches_left -= 1;
        rewriting.has_failed |= base_offset.is_none();
        rewriting.base_offset = rewriting.base_offset.or(base_offset);
        if rewriting.batches_left > 0 {
            return;
        }
        let rewriting = growth.rewriting.take().expect("it was there a moment ago");
        // Without one of its batches the records before it are still needed; the next check tries again.
        if let Some(base_offset) = rewriting.base_offset.filter(|_| !rewriting.has_failed) {
            growth.log_bytes -= rewriting.bytes_before;
            growth.check_at = growth.log_bytes + CHECK_BYTES;
            self.log_starts.push((partition, LogStart::At(base_offset)));
        }
    }

    pub fn take_log_starts(&mut self) -> Vec<(PartitionIndex, LogStart)> {
        std::mem::take(&mut self.log_starts)
    }
}

/// The records cut into batches.
pub fn batches(records: &[GroupRecord]) -> Vec<&[GroupRecord]> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, record) in records.iter().enumerate() {
        let record_bytes = record.key.len() + record.value.as_ref().map_or(0, |value| value.len());
        if index > start && bytes + record_bytes > BATCH_BYTES {
            batches.push(&records[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += record_bytes;
    }
    if start < records.len() {
        batches.push(&records[start..]);
    }
    batches
}
