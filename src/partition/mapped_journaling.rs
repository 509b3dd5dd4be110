//! The mapped journals of one shard: what becomes of the batches of topics that are acknowledged without a flush.
//!
//! What a round has appended counts once its logs were driven: they are told before the round's replies leave. A checkpoint is
//! short: everything journaled so far is stored, and its blocks are free. The device is not waited for, nor are recovery points
//! written: nothing in here promises to survive the machine.

use std::ops::Bound;

use super::directory::DirectoryIndex;
use super::jobs::{OwnJob, OwnResult};
use super::journaling::JournalSeat;
use super::set::{Ended, PartitionSet, ReplicaIndex};
use crate::log::journal::{JournalCounts, MappedJournal};
use crate::log::{Now, StorageError};
use crate::metrics::Path;
use crate::model::Offset;

/// A bug that the tests must catch: a checkpoint releases groups whose bytes are not in the segments.
const PLANTED_NOT_STORED: bool = cfg!(corelog_planted = "106");

/// Stores are behind from this part of the ring on. Early: the rest is what a burst may bring before anybody waits.
const BEHIND_PART: u64 = 8;

/// A mapped journal and its checkpoint.
pub(super) struct MappedSeat {
    pub journal: MappedJournal,
    /// Groups before it are released at the end, if a checkpoint runs.
    releases_below: Option<u64>,
    /// The logs that have to store what it has of them, up to these offsets. Kept between checkpoints: rounds allocate nothing.
    waiting: Vec<(ReplicaIndex, Offset)>,
}

/// What mapped journals did since the numbers were last taken, and where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MappedNumbers {
    pub counts: JournalCounts,
    pub used_bytes: u64,
    pub capacity_bytes: u64,
}

impl MappedSeat {
    fn new(journal: MappedJournal) -> MappedSeat {
        MappedSeat { journal, releases_below: None, waiting: Vec::new() }
    }

    pub fn forget(&mut self, index: ReplicaIndex) {
        self.waiting.retain(|(waiting, _)| *waiting != index);
    }

    /// So much waits for its segment that the shard had better let it be written.
    fn is_behind(&self) -> bool {
        self.journal.used_bytes() * BEHIND_PART > self.journal.capacity_bytes()
    }

    pub fn give_up(&mut self) {
        self.journal.give_up();
        self.releases_below = None;
        self.waiting.clear();
    }
}

impl PartitionSet {
    /// Gives this shard a mapped journal for a directory. Panics if it has no journal there.
    pub fn use_mapped_journal(&mut self, directory: DirectoryIndex, journal: MappedJournal) {
        let before = self.seat(directory).mapped.replace(MappedSeat::new(journal));
        assert!(before.is_none(), "a shard has one mapped journal for a directory");
    }

    /// Mapped journals' numbers, summed over the directories.
    pub(super) fn mapped_numbers(&self) -> MappedNumbers {
        let mut numbers = MappedNumbers::default();
        for seat in self.journals.values().filter_map(|seat| seat.mapped.as_ref()) {
            numbers.counts.add(&seat.journal.counts());
            numbers.used_bytes += seat.journal.used_bytes();
            numbers.capacity_bytes += seat.journal.capacity_bytes();
        }
        numbers
    }

    /// Stores are in flight, and a mapped journal fills up meanwhile. The other journals need no such care: their shard waits
    /// for the device often enough.
    pub fn stores_are_behind(&self) -> bool {
        let is_behind =
            |seat: &JournalSeat| seat.is_storing() && seat.mapped.as_ref().is_some_and(MappedSeat::is_behind);
        self.journals.values().any(is_behind)
    }

    /// Calls `act` for each directory with a mapped journal that serves; without a list of them: this runs in every round.
    fn for_each_mapped(&mut self, mut act: impl FnMut(&mut PartitionSet, DirectoryIndex)) {
        let has_mapped = |seat: &JournalSeat| seat.mapped.is_some() && !seat.journal.is_given_up();
        let mut next = self.journals.keys().next().copied();
        while let Some(directory) = next {
            if has_mapped(&self.journals[&directory]) {
                act(self, directory);
            }
            next =
                self.journals.range((Bound::Excluded(directory), Bound::Unbounded)).next().map(|(k, _)| *k);
        }
    }

    fn mapped(&mut self, directory: DirectoryIndex) -> &mut MappedSeat {
        self.seat(directory).mapped.as_mut().expect("only directories with a mapped journal are asked for it")
    }

    /// Before the logs are driven: what was stored since the last round may have made room.
    pub(super) fn advance_mapped_checkpoints(&mut self) {
        self.for_each_mapped(PartitionSet::advance_mapped_checkpoint);
    }

    /// After the logs were driven: tells those with appends in this round, and begins checkpoints that are due.
    pub(super) fn commit_mapped_journals(&mut self, now: Now) {
        self.for_each_mapped(|set, directory| {
            let mut members = match set.mapped(directory).journal.commit() {
                Ok(members) => members,
                Err(error) => return set.journal_failed(directory, error),
            };
            for slot in members.drain(..) {
                set.journaled(slot, Ended { path: Path::Journal, written: now.monotonic, now });
            }
            let seat = set.mapped(directory);
            seat.journal.give_back(members);
            if seat.journal.is_checkpoint_due() && seat.releases_below.is_none() {
                set.begin_mapped_checkpoint(directory);
                set.advance_mapped_checkpoint(directory);
            }
            if let Some(growth) = set.mapped(directory).journal.grow() {
                set.start_job(OwnJob::GrowMapped(directory), move |files| {
                    OwnResult::JournalGrown(growth.run(files))
                });
            }
        });
    }

    /// Empties the mapped journals although they have room.
    pub(super) fn checkpoint_mapped_journals(&mut self) {
        self.for_each_mapped(|set, directory| {
            let seat = set.mapped(directory);
            if seat.releases_below.is_none() && seat.journal.has_appends() {
                set.begin_mapped_checkpoint(directory);
                set.advance_mapped_checkpoint(directory);
            }
        });
    }

    fn begin_mapped_checkpoint(&mut self, directory: DirectoryIndex) {
        let seat = self.mapped(directory);
        seat.releases_below = Some(seat.journal.next_sequence());
        let mut waiting = std::mem::take(&mut seat.waiting);
        assert!(waiting.is_empty(), "a checkpoint begins while another one waits");
        for slot in 0..self.replicas.len() as u32 {
            let Some(replica) = self.replicas[slot as usize].as_mut() else { continue };
            if replica.directory == directory
                && replica.log.offline().is_none()
                && let Some(end_offset) = replica.log.mapped_end()
            {
                replica.log.want_stored();
                self.queue_store(ReplicaIndex(slot));
                waiting.push((ReplicaIndex(slot), end_offset));
            }
        }
        self.mapped(directory).waiting = waiting;
    }

    fn advance_mapped_checkpoint(&mut self, directory: DirectoryIndex) {
        let Some(below) = self.mapped(directory).releases_below else { return };
        let mut waiting = std::mem::take(&mut self.mapped(directory).waiting);
        if PLANTED_NOT_STORED {
            waiting.clear();
        }
        // From the end only: each is looked at once, but for the one that it stops at.
        while let Some((index, end_offset)) = waiting.last() {
            let log = &self.get(*index).log;
            if log.stored_offset() < *end_offset && log.offline().is_none() {
                break;
            }
            waiting.pop();
        }
        let is_over = waiting.is_empty();
        let seat = self.mapped(directory);
        seat.waiting = waiting;
        if is_over {
            seat.releases_below = None;
            seat.journal.checkpointed(below);
            self.has_made_room = true;
        }
    }

    pub(super) fn mapped_journal_grown(
        &mut self,
        directory: DirectoryIndex,
        result: Result<u64, StorageError>,
    ) {
        let seat = self.mapped(directory);
        if let Err(error) = seat.journal.grown(result)
            && !self.seat(directory).journal.is_given_up()
        {
            self.journal_failed(directory, error);
        }
    }
}
