//! How long partitions wait for their journal to take their batches, and how often the device is flushed for them.

use std::time::Duration;

use super::replica::Replica;
use super::set::PartitionSet;
use crate::log::journal::{Journals, Refusal};
use crate::metrics::JournalMeter;
use crate::model::Monotonic;

/// Tallies of a shard, for its numbers and its histograms.
pub(super) struct JournalWaits {
    pub meter: JournalMeter,
    /// Waits that were back-pressure, and how long they were.
    pub waits: u64,
    pub waited: Duration,
    pub segment_flushes: u64,
    pub file_system_flushes: u64,
}

impl JournalWaits {
    pub fn new(meter: JournalMeter) -> JournalWaits {
        let (waits, waited) = (0, Duration::ZERO);
        JournalWaits { meter, waits, waited, segment_flushes: 0, file_system_flushes: 0 }
    }

    /// Takes note of how a log was driven. `journals`: those one of which did not take all of its batches.
    pub fn note(&mut self, replica: &mut Replica, journals: Option<&Journals<'_>>, now: Monotonic) {
        self.segment_flushes += replica.log.take_flushes();
        // Two groups in flight make nobody wait longer than their flush takes: that is in the commits' times.
        let cause = match journals.and_then(|journals| replica.log.refusal_by(journals)) {
            Some(Refusal::Waits(cause)) => Some(cause),
            Some(Refusal::Busy) | None => None,
        };
        if cause == replica.journal_wait.map(|(cause, _)| cause) {
            return;
        }
        if let Some((cause, since)) = replica.journal_wait.take() {
            let waited = now.since(since);
            self.meter.waited(cause, waited);
            if cause.is_back_pressure() {
                self.waits += 1;
                self.waited += waited;
            }
        }
        replica.journal_wait = cause.map(|cause| (cause, now));
    }
}

impl PartitionSet {
    /// Where the journals' histograms go from now on.
    pub fn meter_journals(&mut self, meter: JournalMeter) {
        self.journal_waits.meter = meter;
    }
}
