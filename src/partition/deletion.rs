//! DeleteRecords: log starts are raised at once, and told once a checkpoint has made them durable.

use super::set::{PartitionSet, ReplicaIndex};
use crate::mesh::Ticket;
use crate::model::{Offset, PartitionIndex, TopicName};
use crate::protocol::ErrorCode;

/// In place of an offset: all that consumers may read now. Source: Apache Kafka `DeleteRecordsRequest.HIGH_WATERMARK`.
const UP_TO_HIGH_WATERMARK: Offset = -1;

/// What a request did to partitions of this shard. Its answer waits until that is durable.
#[derive(Debug)]
pub struct Deletion {
    pub ticket: Ticket,
    pub version: i16,
    pub parts: Vec<DeletionPart>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletionPart {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    /// The log start that now holds.
    pub outcome: Result<Offset, ErrorCode>,
}

/// Deletions that wait for a checkpoint.
#[derive(Default)]
pub(super) struct WaitingDeletions {
    /// The checkpoint under way holds their log starts.
    covered: Vec<Deletion>,
    /// They came after it began.
    next: Vec<Deletion>,
}

impl WaitingDeletions {
    /// A checkpoint begins: it will hold everything that was done until now.
    pub fn begin_checkpoint(&mut self) {
        assert!(self.covered.is_empty(), "one checkpoint runs at a time");
        std::mem::swap(&mut self.covered, &mut self.next);
    }

    /// The checkpoint has ended: whom it covered, and whether another one is wanted.
    pub fn end_checkpoint(&mut self) -> (Vec<Deletion>, bool) {
        (std::mem::take(&mut self.covered), !self.next.is_empty())
    }
}

impl PartitionSet {
    /// Deletes the records below `before`; returns the log start that now holds, in memory so far.
    /// Errors: PolicyViolation for a topic that is only compacted, OffsetOutOfRange beyond the high watermark.
    pub fn delete_records(&mut self, index: ReplicaIndex, before: Offset) -> Result<Offset, ErrorCode> {
        let replica = self.get_mut(index);
        let policy = replica.config.cleanup_policy;
        if policy.compact && !policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = replica.high_watermark();
        let before = if before == UP_TO_HIGH_WATERMARK { high_watermark } else { before };
        if before < 0 || before > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        Ok(self.advance_log_start(index, before).0)
    }

    /// Announces the deletion with `PartitionEvent::Deleted` after a checkpoint that holds its log starts.
    pub fn make_durable(&mut self, deletion: Deletion) {
        self.deletions.next.push(deletion);
        self.checkpoint();
    }
}

#[cfg(test)]
mod tests;
