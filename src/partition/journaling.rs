//! The journals of one shard, one for each data directory: groups, stores, checkpoints.
//!
//! *Owns* when journaled bytes go to their segments, how many such writes run at a time, and when blocks of the journal are
//! released. A checkpoint goes: everything journaled so far is stored -> the files are flushed, one by one if they are few,
//! else by one `syncfs` on the helper thread -> the recovery points say so -> the next group tells recovery to start behind it.
//! So what a log's journaled batches were once is always known, by a recovery point or by a group that counts: a start that
//! does not find it tells of damage, and takes it for no torn end.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::directory::DirectoryIndex;
use super::jobs::{OwnJob, OwnResult};
use super::journal_waits::JournalWaits;
use super::mapped_journaling::{MappedNumbers, MappedSeat};
use super::replica::Replica;
use super::set::{Ended, OWN, PartitionSet, ReplicaIndex};
use crate::log::journal::{Entry, EntrySink, Journal, JournalCounts, Journals, PartitionKey, Record};
use crate::log::{LogSlot, Now, PartitionOffsets, Progress, StorageError, sync_file_system};
use crate::metrics::JournalWait;
use crate::model::{LeaderEpoch, Monotonic, Offset};
use crate::reactor::{File, Files, Io, Outcome, Room, Token};

/// Kind of token for groups; the number is the directory and the low bits of the group's sequence.
pub(super) const OWN_GROUP: u64 = 2;

/// Writes of journaled bytes to segments that run at a time: more of them delay the commits that share disk and core, fewer
/// leave the workers idle when the shard gives way to them.
const STORES_MAX: usize = 3;

/// So many files are flushed one by one, all at the same time; more by one `syncfs`, which is 15 to 32 times cheaper than
/// as many fdatasyncs from 256 files on (measured on ext4 and XFS).
const FILES_FLUSHED_SINGLY_MAX: usize = 4;

/// Recovery points that a checkpoint has room for at once.
const MOVED_EXPECTED: usize = 256;

/// A bug that the tests must catch: the journal is released before the segments are flushed.
const PLANTED_NO_SYNC: bool = cfg!(corelog_planted = "103");

/// What a shard's journals did since the numbers were last taken, and where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JournalNumbers {
    pub counts: JournalCounts,
    pub used_bytes: u64,
    pub capacity_bytes: u64,
    pub pinned_bytes: u64,
    /// How often, and how long, partitions' batches waited for a checkpoint or for memory.
    pub waits: u64,
    pub waited: Duration,
    pub segment_flushes: u64,
    pub file_system_flushes: u64,
    pub mapped: MappedNumbers,
}

/// Where a checkpoint stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// So many of the targets are not in their segments.
    Storing { waiting: usize },
    /// The targets' files are being flushed, one by one.
    Flushing,
    /// The file system is being flushed; of the targets so much was stored when that began.
    Syncing,
    /// The recovery points of what is flushed are being written.
    Recording,
}

/// What a checkpoint waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Target {
    index: ReplicaIndex,
    offset: Offset,
    /// The log has journaled bytes below the offset that are not in its segments.
    is_waiting: bool,
}

struct Checkpoint {
    /// Groups before it are released at the end.
    below: u64,
    /// By log: what was to be stored; from the flush on what is not flushed.
    targets: Vec<Target>,
    /// Logs whose unfinished block has to be journaled again.
    carrying: Vec<ReplicaIndex>,
    stage: Stage,
    /// When it was first looked at.
    begun: Option<Monotonic>,
}

impl Checkpoint {
    fn find(&self, index: ReplicaIndex) -> Result<usize, usize> {
        self.targets.binary_search_by_key(&index, |target| target.index)
    }

    fn set_target(&mut self, index: ReplicaIndex, offset: Offset) {
        match self.find(index) {
            Ok(at) => self.targets[at].offset = offset,
            Err(at) => self.targets.insert(at, Target { index, offset, is_waiting: false }),
        }
    }

    /// Waits no longer for this target to be stored.
    fn stop_waiting(&mut self, at: usize) {
        let was_waiting = std::mem::take(&mut self.targets[at].is_waiting);
        if let Stage::Storing { waiting } = &mut self.stage {
            *waiting -= usize::from(was_waiting);
        }
    }

    fn forget(&mut self, index: ReplicaIndex) {
        if let Ok(at) = self.find(index) {
            self.stop_waiting(at);
            self.targets.remove(at);
        }
        self.carrying.retain(|carrying| *carrying != index);
    }
}

/// One journal and what is under way for it.
pub(super) struct JournalSeat {
    pub journal: Journal,
    /// For topics that want no flush, where files can be mapped. Stores and the bound of memory are shared.
    pub mapped: Option<MappedSeat>,
    /// Open for `syncfs` alone: it reports write-back errors since it was opened.
    sync_file: File,
    checkpoint: Option<Checkpoint>,
    /// Lists of the last one.
    spare_targets: Vec<Target>,
    spare_carrying: Vec<ReplicaIndex>,
    /// Logs whose journaled bytes are due in their segments.
    stores: VecDeque<ReplicaIndex>,
    stores_in_flight: usize,
    /// Journaled bytes in memory only.
    pinned_bytes: u64,
    pinned_bytes_max: u64,
    /// Entries without bytes that wait for room: what was deleted.
    controls: VecDeque<(PartitionKey, LeaderEpoch, Control)>,
}

/// What the journal remembers of a partition beside its batches. What it is told of takes effect by other files (the
/// checkpoint of log starts, the folder that goes); the entry keeps redo from bringing back what was deleted meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Control {
    LogStart(Offset),
    Delete,
}

/// Entries that wait; more of them are dropped, as they may be.
const CONTROLS_MAX: usize = 10_000;

impl JournalSeat {
    pub fn new(journal: Journal, sync_file: File, pinned_bytes_max: u64) -> JournalSeat {
        JournalSeat {
            journal,
            mapped: None,
            sync_file,
            checkpoint: None,
            spare_targets: Vec::new(),
            spare_carrying: Vec::new(),
            stores: VecDeque::new(),
            stores_in_flight: 0,
            pinned_bytes: 0,
            pinned_bytes_max,
            controls: VecDeque::new(),
        }
    }

    /// The journals, for the logs of a round: with too much in memory already they take nothing.
    pub fn for_round(&mut self) -> Journals<'_> {
        // Blocks that are carried forward must find room, or nothing is ever released.
        let is_carrying = self.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.carrying.is_empty())
            && self.journal.used_bytes() * 2 > self.journal.capacity_bytes();
        let is_full = self.pinned_bytes >= self.pinned_bytes_max;
        self.journal.set_blocked(match (is_full, is_carrying) {
            (true, _) => Some(JournalWait::Memory),
            (false, true) => Some(JournalWait::Ring),
            (false, false) => None,
        });
        let mut mapped = self.mapped.as_mut().map(|seat| &mut seat.journal);
        if let Some(mapped) = &mut mapped {
            mapped.set_blocked(is_full.then_some(JournalWait::Memory));
        }
        Journals { journal: &mut self.journal, mapped }
    }

    pub fn is_storing(&self) -> bool {
        self.stores_in_flight > 0
    }

    pub fn runs_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    pub fn sync_file(&self) -> File {
        self.sync_file
    }

    fn token(directory: DirectoryIndex, sequence: u64) -> Token {
        let number = u64::from(directory.0) << 32 | sequence & 0xffff_ffff;
        Token::new(Room::Log, OWN | OWN_GROUP << 48 | number)
    }

    /// Puts waiting entries without bytes into the forming group.
    fn append_controls(&mut self) {
        while self.journal.has_room(0)
            && let Some((key, leader_epoch, control)) = self.controls.pop_front()
        {
            let entry = match control {
                Control::LogStart(offset) => Entry::LogStart { offset },
                Control::Delete => Entry::Delete,
            };
            self.journal.append(None, &Record { key, leader_epoch, entry });
        }
    }

    /// Nothing is in flight. The jobs of a checkpoint are the set's.
    pub fn is_quiet(&self) -> bool {
        let is_mapped_quiet = self.mapped.as_ref().is_none_or(|seat| seat.journal.is_quiet());
        self.journal.is_quiet() && is_mapped_quiet && self.stores_in_flight == 0
    }

    /// Closes the journal's files. What it holds is in the segments, durably, if the stop is clean: then it goes.
    pub fn close(self, files: &mut dyn Files, is_clean: bool) -> Result<(), StorageError> {
        files.close(self.sync_file);
        let mapped = self.mapped.map(|seat| seat.journal);
        if is_clean {
            // First: the removal of the other makes both durable.
            let is_removed = mapped.map_or(Ok(()), |mapped| mapped.remove(files));
            self.journal.remove(files).and(is_removed)
        } else {
            mapped.into_iter().for_each(|mapped| mapped.close(files));
            self.journal.close(files);
            Ok(())
        }
    }
}

impl PartitionSet {
    /// Gives this shard a journal for a directory. `sync_file`: any file of its file system, opened for this alone.
    pub fn use_journal(
        &mut self,
        directory: DirectoryIndex,
        journal: Journal,
        sync_file: File,
        pinned_bytes_max: u64,
    ) {
        let before = self.journals.insert(directory, JournalSeat::new(journal, sync_file, pinned_bytes_max));
        assert!(before.is_none(), "a shard has one journal for a directory");
    }

    /// Journals' numbers, summed over the directories.
    pub fn journal_numbers(&self) -> JournalNumbers {
        let mut numbers = JournalNumbers { mapped: self.mapped_numbers(), ..JournalNumbers::default() };
        for seat in self.journals.values() {
            numbers.counts.add(&seat.journal.counts());
            numbers.used_bytes += seat.journal.used_bytes();
            numbers.capacity_bytes += seat.journal.capacity_bytes();
            numbers.pinned_bytes += seat.pinned_bytes;
        }
        let JournalWaits { waits, waited, segment_flushes, file_system_flushes, .. } = self.journal_waits;
        JournalNumbers { waits, waited, segment_flushes, file_system_flushes, ..numbers }
    }

    /// Carries on what the journals have to do this round, after the logs were driven.
    pub(super) fn drive_journals(&mut self, io: &mut dyn Io, now: Now) {
        // Without a list of them: this runs in every round.
        let mut next = self.journals.keys().next().copied();
        while let Some(directory) = next {
            next =
                self.journals.range((Bound::Excluded(directory), Bound::Unbounded)).next().map(|(k, _)| *k);
            if self.seat(directory).journal.is_given_up() {
                continue;
            }
            self.begin_checkpoint_if_due(directory);
            self.run_stores(io, directory);
            self.advance_checkpoint(directory, now.monotonic);
            let seat = self.seat(directory);
            seat.append_controls();
            // What the reactor has no room for goes with the next round.
            let _ = seat.journal.commit(io, |sequence| JournalSeat::token(directory, sequence));
            if let Some(growth) = seat.journal.grow() {
                self.start_job(OwnJob::GrowJournal(directory), move |files| {
                    OwnResult::JournalGrown(growth.run(files))
                });
            }
        }
    }

    pub(super) fn seat(&mut self, directory: DirectoryIndex) -> &mut JournalSeat {
        self.journals.get_mut(&directory).expect("a directory's journal stays as long as the set")
    }

    /// A group of a journal has ended.
    pub(super) fn group_done(&mut self, number: u64, outcome: Outcome, ended: Ended) {
        let directory = DirectoryIndex(u8::try_from(number >> 32).expect("a directory's number has 8 bits"));
        let seat = self.journals.get_mut(&directory).expect("a directory's journal stays as long as the set");
        match seat.journal.complete(number as u32, outcome, ended.now.monotonic, &self.journal_waits.meter) {
            Ok(mut committed) => {
                for slot in committed.groups.iter_mut().flat_map(|members| members.drain(..)) {
                    self.journaled(slot, ended);
                }
                self.seat(directory).journal.give_back(committed);
            }
            Err(error) => self.journal_failed(directory, error),
        }
    }

    /// The oldest group in flight of a log, in either journal, counts.
    pub(super) fn journaled(&mut self, slot: LogSlot, ended: Ended) {
        let index = ReplicaIndex(slot.0);
        let replica = self.replicas[slot.0 as usize].as_mut().expect("a log stays until it is quiet");
        let (directory, is_withdrawn) = (replica.directory, replica.is_withdrawn);
        let progress = replica.log.journaled(&mut self.cache, ended.now.monotonic);
        let pinned = progress.pinned_bytes;
        self.seat(directory).pinned_bytes +=
            u64::try_from(pinned).expect("a group adds to what is in memory");
        if !is_withdrawn {
            self.progressed(index, progress, ended);
        }
        self.mark_dirty(index);
    }

    /// What a completion of a log changed for its journal.
    pub(super) fn note_stored(&mut self, index: ReplicaIndex, progress: &Progress) {
        let directory = self.get(index).directory;
        let Some(seat) = self.journals.get_mut(&directory).filter(|_| progress.is_stored) else { return };
        seat.stores_in_flight -= 1;
        seat.pinned_bytes -= progress.pinned_bytes.unsigned_abs();
        self.note_stored_for_checkpoint(index);
        self.queue_store(index);
    }

    /// A checkpoint waits no longer for a log that has stored what it had, or never will.
    pub(super) fn note_stored_for_checkpoint(&mut self, index: ReplicaIndex) {
        let replica = self.replicas[index.0 as usize].as_ref().expect("a log that stores is there");
        let seat = self.journals.get_mut(&replica.directory);
        if let Some(checkpoint) = seat.and_then(|seat| seat.checkpoint.as_mut())
            && let Ok(at) = checkpoint.find(index)
            && (replica.log.stored_offset() >= checkpoint.targets[at].offset
                || replica.log.offline().is_some())
        {
            checkpoint.stop_waiting(at);
        }
    }

    /// Queues a log whose journaled bytes are due in its segment.
    pub(super) fn queue_store(&mut self, index: ReplicaIndex) {
        let replica = self.get(index);
        let directory = replica.directory;
        if replica.log.is_store_due()
            && let Some(seat) = self.journals.get_mut(&directory)
            && !self.replicas[index.0 as usize].as_ref().expect("found above").is_store_queued
        {
            seat.stores.push_back(index);
            self.get_mut(index).is_store_queued = true;
        }
    }

    /// Tells the journal of a partition's directory what was deleted of it.
    pub(super) fn tell_journal(&mut self, index: ReplicaIndex, control: Control) {
        let replica = self.get(index);
        let key = PartitionKey { topic_id: replica.topic_id, partition: replica.at.partition };
        let (directory, leader_epoch) = (replica.directory, replica.leader_epoch);
        if let Some(seat) = self.journals.get_mut(&directory)
            && seat.controls.len() < CONTROLS_MAX
            && seat.journal.has_appends()
        {
            seat.controls.push_back((key, leader_epoch, control));
        }
    }

    /// A log leaves: what it has in memory is no longer the journal's concern.
    pub(super) fn forget_journaled(&mut self, index: ReplicaIndex) {
        let replica = self.get(index);
        let (directory, bytes) = (replica.directory, replica.log.unstored_bytes() as u64);
        if let Some(seat) = self.journals.get_mut(&directory) {
            seat.pinned_bytes -= bytes;
            seat.mapped.iter_mut().for_each(|mapped| mapped.forget(index));
            seat.journal.carries_no_more(LogSlot(index.0));
            seat.stores.retain(|queued| *queued != index);
            if let Some(checkpoint) = &mut seat.checkpoint {
                checkpoint.forget(index);
            }
        }
    }

    fn run_stores(&mut self, io: &mut dyn Io, directory: DirectoryIndex) {
        let seat = self.seat(directory);
        if seat.pinned_bytes * 2 > seat.pinned_bytes_max && seat.stores.is_empty() {
            self.want_all_stored(directory);
        }
        for _ in 0..self.seat(directory).stores.len() {
            if self.seat(directory).stores_in_flight >= STORES_MAX {
                return;
            }
            let Some(index) = self.seat(directory).stores.pop_front() else { return };
            let replica = self.get_mut(index);
            replica.is_store_queued = false;
            if !replica.log.is_store_due() {
                continue;
            }
            if replica.log.start_store(io) {
                self.seat(directory).stores_in_flight += 1;
            } else {
                replica.is_store_queued = true;
                self.seat(directory).stores.push_back(index);
            }
        }
    }

    /// All logs of a directory bring their journaled bytes home, however few each has.
    fn want_all_stored(&mut self, directory: DirectoryIndex) {
        for slot in 0..self.replicas.len() as u32 {
            let Some(replica) = self.replicas[slot as usize].as_mut() else { continue };
            if replica.directory == directory && replica.log.unstored_bytes() > 0 && !replica.is_store_queued
            {
                replica.log.want_stored();
                self.queue_store(ReplicaIndex(slot));
            }
        }
    }

    /// Empties the journals although they have room: an idle broker starts without any of it to read.
    pub fn checkpoint_journals(&mut self) {
        self.checkpoint_mapped_journals();
        let directories: Vec<DirectoryIndex> = self.journals.keys().copied().collect();
        for directory in directories {
            let seat = self.seat(directory);
            if seat.checkpoint.is_none() && !seat.journal.is_given_up() && seat.journal.has_appends() {
                self.begin_checkpoint(directory);
            }
        }
    }

    fn begin_checkpoint_if_due(&mut self, directory: DirectoryIndex) {
        let seat = self.seat(directory);
        let is_due = seat.journal.used_bytes() * 3 > seat.journal.capacity_bytes();
        if is_due && seat.checkpoint.is_none() && seat.journal.has_appends() {
            self.begin_checkpoint(directory);
        }
    }

    fn begin_checkpoint(&mut self, directory: DirectoryIndex) {
        if self.withholds_checkpoints() {
            return;
        }
        let seat = self.seat(directory);
        let below = seat.journal.next_sequence();
        let mut targets = std::mem::take(&mut seat.spare_targets);
        let mut carrying = std::mem::take(&mut seat.spare_carrying);
        let mut waiting = 0;
        for slot in 0..self.replicas.len() as u32 {
            let Some(replica) = self.replicas[slot as usize].as_mut() else { continue };
            let log = &mut replica.log;
            if replica.directory != directory || log.offline().is_some() {
                continue;
            }
            if log.is_journal_direct() {
                carrying.push(ReplicaIndex(slot));
            } else if log.file_flushed_offset() < log.journal_end() {
                let (index, offset) = (ReplicaIndex(slot), log.journal_end());
                let is_waiting = log.stored_offset() < offset;
                targets.push(Target { index, offset, is_waiting });
                if is_waiting {
                    waiting += 1;
                    // What is in flight to the journal now is stored as soon as it is durable there.
                    log.want_stored();
                    self.queue_store(index);
                }
            }
        }
        let stage = Stage::Storing { waiting };
        let begun = None;
        self.seat(directory).checkpoint = Some(Checkpoint { below, targets, carrying, stage, begun });
    }

    fn advance_checkpoint(&mut self, directory: DirectoryIndex, now: Monotonic) {
        let Some(mut checkpoint) = self.seat(directory).checkpoint.take() else { return };
        checkpoint.begun.get_or_insert(now);
        self.carry(directory, &mut checkpoint);
        if checkpoint.carrying.is_empty() && checkpoint.stage == (Stage::Storing { waiting: 0 }) {
            checkpoint.stage = self.flush_stored(directory, &mut checkpoint.targets);
        }
        if checkpoint.stage == Stage::Flushing {
            checkpoint.targets.retain(|target| {
                let log = &self.get(target.index).log;
                log.offline().is_none() && log.file_flushed_offset() < target.offset
            });
            if checkpoint.targets.is_empty() {
                checkpoint.stage = self.record_recovery_points(directory);
            }
        }
        self.seat(directory).checkpoint = Some(checkpoint);
    }

    /// Journals the unfinished blocks of direct logs again, as far as there is room now. What left such a block for its segment
    /// is flushed with the rest.
    fn carry(&mut self, directory: DirectoryIndex, checkpoint: &mut Checkpoint) {
        let Some(seat) = self.journals.get_mut(&directory).filter(|_| !checkpoint.carrying.is_empty()) else {
            return;
        };
        seat.journal.set_blocked(None);
        let mut carrying = std::mem::take(&mut checkpoint.carrying);
        carrying.retain(|index| {
            let replica =
                self.replicas[index.0 as usize].as_mut().expect("a log that leaves is forgotten first");
            let log = &mut replica.log;
            if !log.carry(&mut seat.journal, replica.leader_epoch, checkpoint.below) {
                return true;
            }
            checkpoint.set_target(*index, log.stored_offset());
            false
        });
        checkpoint.carrying = carrying;
    }

    /// Everything is in the segments: makes it durable there. What is so already is no target any more.
    fn flush_stored(&mut self, directory: DirectoryIndex, targets: &mut Vec<Target>) -> Stage {
        targets.retain(|target| {
            self.get(target.index).log.file_flushed_offset() < target.offset && !PLANTED_NO_SYNC
        });
        if targets.len() <= FILES_FLUSHED_SINGLY_MAX {
            for target in targets {
                self.get_mut(target.index).log.want_file_flushed(target.offset);
                self.mark_dirty(target.index);
            }
            return Stage::Flushing;
        }
        for target in targets {
            target.offset = self.get(target.index).log.stored_offset();
        }
        let (file, directories) = (self.seat(directory).sync_file, Arc::clone(self.directories()));
        self.journal_waits.file_system_flushes += 1;
        self.start_job(OwnJob::SyncFileSystem(directory), move |files| {
            let path = &directories.get(directory).path;
            OwnResult::FileSystemSynced(sync_file_system(files, path, Some(file)))
        });
        Stage::Syncing
    }

    /// The file system of a directory was flushed for a checkpoint.
    pub(super) fn file_system_synced(&mut self, directory: DirectoryIndex, result: Result<(), StorageError>) {
        let seat = self.seat(directory);
        if seat.journal.is_given_up() {
            return;
        }
        if let Err(error) = result {
            return self.journal_failed(directory, error);
        }
        let checkpoint = seat.checkpoint.take().filter(|checkpoint| checkpoint.stage == Stage::Syncing);
        let mut checkpoint = checkpoint.expect("a file system is flushed for a checkpoint");
        for Target { index, offset, .. } in &checkpoint.targets {
            self.get_mut(*index).log.file_system_synced(*offset);
            self.mark_dirty(*index);
        }
        checkpoint.stage = self.record_recovery_points(directory);
        self.seat(directory).checkpoint = Some(checkpoint);
    }

    /// Everything below the checkpoint is flushed in the segments: before its groups are released the recovery points say so.
    fn record_recovery_points(&mut self, directory: DirectoryIndex) -> Stage {
        let here = |replica: &&mut Replica| replica.directory == directory && !replica.is_withdrawn;
        let mut moved: Vec<PartitionOffsets> = Vec::with_capacity(self.replicas.len().min(MOVED_EXPECTED));
        let replicas = self.replicas.iter_mut().flatten().filter(here);
        moved.extend(replicas.filter_map(Replica::moved_offsets));
        let directories = Arc::clone(self.directories());
        self.start_job(OwnJob::RecordRecoveryPoints(directory), move |files| {
            OwnResult::RecoveryPointsRecorded(directories.get(directory).book.write(files, &moved))
        });
        Stage::Recording
    }

    /// The recovery points of a checkpoint were written.
    pub(super) fn recovery_points_recorded(
        &mut self,
        directory: DirectoryIndex,
        result: Result<(), StorageError>,
        now: Monotonic,
    ) {
        // Without room for them the journal goes on all the same: all that is lost is what they say of damage.
        self.file_job_done(directory, None, result);
        let seat = self.seat(directory);
        if seat.journal.is_given_up() {
            return;
        }
        let checkpoint = seat.checkpoint.take().filter(|checkpoint| checkpoint.stage == Stage::Recording);
        let Checkpoint { below, begun, mut targets, mut carrying, .. } =
            checkpoint.expect("recovery points are written for a checkpoint");
        seat.journal.checkpointed(below);
        targets.clear();
        carrying.clear();
        (seat.spare_targets, seat.spare_carrying) = (targets, carrying);
        let begun = begun.expect("it was looked at when its flush began");
        self.journal_waits.meter.checkpointed(now.since(begun));
    }

    pub(super) fn journal_grown(&mut self, directory: DirectoryIndex, result: Result<u64, StorageError>) {
        let seat = self.seat(directory);
        if let Err(error) = seat.journal.grown(result)
            && !seat.journal.is_given_up()
        {
            self.journal_failed(directory, error);
        }
    }

    /// A write or flush of a journal, or of the file system under it, failed: so has the directory.
    pub(super) fn journal_failed(&mut self, directory: DirectoryIndex, error: StorageError) {
        self.fail_directory(directory, Arc::new(error));
    }

    /// The directory has failed, whatever of it: what its journal holds, or is getting, will never be durable. No log waits for
    /// it any more, not even one that was leaving.
    pub(super) fn give_up_journal(&mut self, directory: DirectoryIndex, error: &Arc<StorageError>) {
        let Some(seat) = self.journals.get_mut(&directory) else { return };
        seat.checkpoint = None;
        seat.stores.clear();
        seat.journal.give_up();
        seat.mapped.iter_mut().for_each(MappedSeat::give_up);
        let in_it = |replica: &&mut Replica| replica.directory == directory;
        for replica in self.replicas.iter_mut().flatten().filter(in_it) {
            replica.is_store_queued = false;
            replica.log.fail(Arc::clone(error));
        }
    }
}

#[cfg(test)]
mod tests;
