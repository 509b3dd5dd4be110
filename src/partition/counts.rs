//! What went through the partitions of a shard: counts for the metrics, and which partitions were the busiest.

use std::sync::Arc;
use std::time::Duration;

use super::set::{PartitionSet, ReplicaIndex};
use crate::mesh::FetchPartAnswer;
use crate::metrics::{Busy, BusyPartition, Traffic};
use crate::model::{Monotonic, PartitionIndex, TopicId};
use crate::record::BatchView;

/// What was appended since the counts were last taken, the process's own batches included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AppendCounts {
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    /// Sent again by an idempotent producer, and not appended again.
    pub duplicates: u64,
}

impl AppendCounts {
    fn add(&mut self, batch: &BatchView<'_>, is_duplicate: bool) {
        if is_duplicate {
            self.duplicates += 1;
            return;
        }
        self.batches += 1;
        self.records += u64::try_from(batch.record_count()).unwrap_or(0);
        self.bytes += batch.size_bytes() as u64;
    }
}

/// Reads of partitions for clients since the counts were last taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReadCounts {
    /// Partitions looked at, with something to read or without.
    pub parts: u64,
    pub memory: u64,
    pub memory_bytes: u64,
    pub disk: u64,
    /// As many as were read, some of which clients are not given.
    pub disk_bytes: u64,
    /// Given to clients out of the page cache, without a copy.
    pub piped_bytes: u64,
    /// From wanting a read of the disk to handing it to the ring, in microseconds.
    pub waited_us: u64,
}

impl PartitionSet {
    pub fn take_counts(&mut self) -> AppendCounts {
        std::mem::take(&mut self.counts)
    }

    pub fn take_read_counts(&mut self) -> ReadCounts {
        std::mem::take(&mut self.read_counts)
    }

    /// Counts a batch that the log has taken.
    pub(super) fn count(&mut self, index: ReplicaIndex, batch: &BatchView<'_>, is_duplicate: bool) {
        self.counts.add(batch, is_duplicate);
        let appended = Traffic {
            requests: 1,
            records: u64::try_from(batch.record_count()).unwrap_or(0),
            in_bytes: batch.size_bytes() as u64,
            out_bytes: 0,
        };
        let replica = self.replicas[index.0 as usize].as_mut().expect("it has just taken a batch");
        if !is_duplicate {
            self.busiest.add(index, &mut replica.tally, &appended);
            self.keep_untold(index, &appended);
        }
    }

    /// Ends a window of the busiest, if it is time.
    pub fn turn_busiest(&mut self, now: Monotonic) {
        let replicas = &self.replicas;
        // A stop has let go of all of them.
        let replica = |index: ReplicaIndex| replicas.get(index.0 as usize)?.as_ref();
        self.busiest.turn(now, |index| replica(index).map(|replica| replica.tally));
    }

    /// The busiest partitions of the last window that are still served, and how long that was.
    pub fn busiest(&self) -> (Vec<BusyPartition>, Duration) {
        let (last, length) = self.busiest.last();
        let partition = |busy: &Busy<ReplicaIndex>| {
            let replica = self.replicas.get(busy.key.0 as usize)?.as_ref()?;
            let (topic, partition) = (Arc::clone(&replica.at.topic), replica.at.partition);
            Some(BusyPartition { topic, partition, moved: busy.moved, total: replica.tally.total() })
        };
        (last.iter().filter_map(partition).collect(), length)
    }

    /// Counts what a client is given of a partition.
    pub(super) fn count_read(&mut self, index: ReplicaIndex, answer: &FetchPartAnswer) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("it has just been read");
        let read = Traffic { requests: 1, out_bytes: u64::from(answer.record_bytes), ..Traffic::default() };
        self.busiest.add(index, &mut replica.tally, &read);
        self.keep_untold(index, &read);
    }

    fn keep_untold(&mut self, index: ReplicaIndex, more: &Traffic) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("it has just moved something");
        if replica.untold == Traffic::default() {
            self.untold.push(index);
        }
        replica.untold.add(more);
    }

    /// What went through each partition since this was last asked; of those through which nothing went nothing is said, and
    /// they cost nothing.
    pub fn take_traffic(&mut self, mut tell: impl FnMut(TopicId, PartitionIndex, Traffic)) {
        for index in self.untold.drain(..) {
            // One whose place another has taken was named before it went.
            let Some(replica) = self.replicas.get_mut(index.0 as usize).and_then(Option::as_mut) else {
                continue;
            };
            tell(replica.topic_id, replica.at.partition, std::mem::take(&mut replica.untold));
        }
    }
}
