//! What the control thread and the shards say to each other, and the jobs a shard has running.

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::boot::{BootError, GroupBatches};
use crate::controller::Rebalance;
use crate::group::RecordError;
use crate::log::{ReadError, StorageError};
use crate::mesh::Ticket;
use crate::metrics::{Activity, ShardReport, SlotMoveOutcome, SlotsReport, Tell};
use crate::model::{PartitionIndex, PlacementSlot, ShardId, TopicPartition};
use crate::partition::OfflineReason;
use crate::server::JobFor;

/// What the control thread asks of a shard.
pub enum Command {
    /// Finish what was begun, flush, close.
    Stop,
    /// Say what the shard holds.
    Report(Tell<ShardReport>),
    /// Say which slots the shard has.
    Slots(Tell<SlotsReport>),
    /// Move a slot to another core; for the first shard.
    MoveSlot { slot: PlacementSlot, core: ShardId, tell: Tell<SlotMoveOutcome> },
    /// Say who is busy there, and what was slow.
    Activity(Tell<Activity>),
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum ShardEvent {
    /// Accepting connections ended: not recoverable, clients could no longer come.
    AcceptFailed(io::Error),
    /// A data directory failed: nothing in it is served any more.
    DirectoryOffline {
        path: PathBuf,
        error: Arc<StorageError>,
        /// The broker cannot do without it.
        must_stop: bool,
    },
    /// The file system of this directory has no O_DIRECT: the write path there is `page-cache`.
    NoJournal { path: PathBuf },
    /// Topics without a flush are written to their segments one by one.
    NoMappedJournal { error: StorageError },
    /// No room: appends are refused until there is. `at` is `None` for the checkpoints of a directory, which wait.
    NoSpace { at: Option<TopicPartition>, error: Arc<StorageError> },
    /// A partition is not served: nobody can say what was in it. The others are.
    Unopened { at: TopicPartition, reason: OfflineReason },
    /// Bytes that were flushed have rotted, or cannot be read. What is around them is served on.
    Damaged { at: TopicPartition, error: Arc<ReadError> },
    /// A topic has a setting that is accepted and does nothing yet.
    CompactionPending { topic: Arc<str> },
    /// A record of `__consumer_offsets` that this version cannot read was passed over.
    GroupRecordSkipped { partition: PartitionIndex, cause: RecordError },
    /// The groups of a partition of `__consumer_offsets` that moved here have no coordinator: its records cannot be read.
    GroupsUnread { error: BootError },
    /// The balancer moves a slot.
    Balanced(Rebalance),
    /// The shard has stopped serving and its files are closed.
    Stopped,
}

/// What came of a job.
pub(super) enum Finished {
    Reply { ticket: Ticket, body: Bytes },
    Groups { partition: PartitionIndex, batches: GroupBatches },
}

/// Jobs that handlers asked for and that run on the helper thread.
#[derive(Default)]
pub(super) struct RunningJobs {
    slots: Vec<Option<JobFor>>,
    free: Vec<u64>,
}

impl RunningJobs {
    /// The token value for a job.
    pub fn add(&mut self, job: JobFor) -> u64 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(job);
                slot
            }
            None => {
                self.slots.push(Some(job));
                (self.slots.len() - 1) as u64
            }
        }
    }

    /// What a finished job has brought.
    pub fn finish(&mut self, slot: u64, result: Box<dyn Any + Send>) -> Finished {
        match self.take(slot) {
            JobFor::Reply { ticket } => {
                Finished::Reply { ticket, body: *result.downcast().expect("a job for a reply makes a body") }
            }
            JobFor::Groups { partition } => {
                let batches = *result.downcast().expect("a job for groups reads their batches");
                Finished::Groups { partition, batches }
            }
        }
    }

    /// Takes a job out: it is done, or was not accepted.
    pub fn take(&mut self, slot: u64) -> JobFor {
        let job = self.slots[slot as usize].take().expect("a job ends once");
        self.free.push(slot);
        job
    }

    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}
