//! The numbers of a shard's journals that are more than counts.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{JournalWait, Timing};
use super::histogram::Histogram;

/// As readers see them.
pub struct JournalHistograms {
    waits: [Histogram; JournalWait::ALL.len()],
    commits: Histogram,
    checkpoints: Histogram,
    group_bytes: Histogram,
    group_entries: Histogram,
}

impl JournalHistograms {
    pub(super) fn new() -> JournalHistograms {
        JournalHistograms {
            waits: std::array::from_fn(|_| Histogram::new()),
            commits: Histogram::new(),
            checkpoints: Histogram::new(),
            group_bytes: Histogram::new(),
            group_entries: Histogram::new(),
        }
    }

    pub fn wait(&self, cause: JournalWait) -> &Histogram {
        &self.waits[cause as usize]
    }

    /// The histogram without labels of its own; `None`: it is another's, or has causes (`wait`).
    pub fn of(&self, timing: Timing) -> Option<&Histogram> {
        match timing {
            Timing::JournalCommit => Some(&self.commits),
            Timing::JournalCheckpoint => Some(&self.checkpoints),
            Timing::JournalGroupBytes => Some(&self.group_bytes),
            Timing::JournalGroupEntries => Some(&self.group_entries),
            _ => None,
        }
    }
}

/// The pen of the shard's journals. One writer, like [`Meter`](super::Meter): not `Clone`, not `Sync`, taken once of a meter.
pub struct JournalMeter {
    histograms: Arc<JournalHistograms>,
    one_thread: PhantomData<Cell<()>>,
}

impl JournalMeter {
    pub(super) fn of(histograms: Arc<JournalHistograms>) -> JournalMeter {
        JournalMeter { histograms, one_thread: PhantomData }
    }

    /// For journals that nobody asks.
    pub fn detached() -> JournalMeter {
        JournalMeter::of(Arc::new(JournalHistograms::new()))
    }

    /// The reader's side.
    pub fn histograms(&self) -> Arc<JournalHistograms> {
        Arc::clone(&self.histograms)
    }

    /// A partition's batches were taken after so long.
    pub fn waited(&self, cause: JournalWait, duration: Duration) {
        self.histograms.waits[cause as usize].record(duration);
    }

    /// A group is durable.
    pub fn committed(&self, latency: Duration, bytes: u64, entries: u64) {
        self.histograms.commits.record(latency);
        self.histograms.group_bytes.record_value(bytes);
        self.histograms.group_entries.record_value(entries);
    }

    pub fn checkpointed(&self, duration: Duration) {
        self.histograms.checkpoints.record(duration);
    }
}
