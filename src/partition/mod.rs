//! Replicas of partitions on the shard that owns them: what may be appended, what may be read, and who waits for what.
//!
//! *Owns* each partition's log, its waiting appends (purgatory) and watches of fetches. *Never* knows an API or a connection:
//! who waits is named by a [`Waiter`] or a ticket. *Invariant*: `log_start <= high_watermark <= log_end`; the high watermark
//! never goes back within a leader epoch, and counts only what has reached the topic's durability level. (The only replica
//! is the leader until replication comes, so the high watermark is the log's committed offset.)
//! Called by `server` handlers; driven by `shard`, which carries the [`PartitionEvent`]s.

mod checkpoints;
mod counts;
mod creation;
mod deletion;
mod directory;
mod fetching;
mod handover;
mod jobs;
mod journal_waits;
mod journaling;
mod mapped_journaling;
mod offline;
mod old_files;
mod orders;
mod purgatory;
mod queries;
mod replica;
mod scrubbing;
mod session_watches;
mod set;
mod validate;

pub use counts::{AppendCounts, ReadCounts};
pub use creation::{BrokerLogConfig, NewPartition, log_config, open_at_boot};
pub use deletion::{Deletion, DeletionPart};
pub use directory::{DataDirectory, DirectoryIndex, DirectorySet, UnusableDirectory};
pub use fetching::{FetchBound, check_epoch};
pub use handover::{Arrivals, Arriving, HeldAppend};
pub use journaling::JournalNumbers;
pub use offline::{OfflineReason, OfflineReplica};
pub use orders::{FetchReads, ProduceOrders};
pub use purgatory::{Purgatory, Waiter, WaitingAppend};
pub use queries::{EpochOffset, OffsetSearch};
pub use replica::{Appended, Replica};
pub use scrubbing::{ScrubCounts, ScrubOptions};
pub use set::{
    AppendEnd, AppendOutcome, AppendRefusal, Failure, PartitionEvent, PartitionSet, PartitionSetOptions,
    ReplicaIndex,
};
pub use validate::{BatchError, BatchRules, check_batch, is_transactional, the_batch};
