//! From the tail to the disk: through the shard's journal (`journaling`), or to the segment through the page cache.
//!
//! One write to a segment is in flight per log; the next group forms meanwhile. Under `Fsync` each is linked to its fdatasync
//! and completes once both have; otherwise flushes run beside the writes. Nothing is written to a file before it has its name;
//! nothing in a file counts as flushed before the name does (`roll`).
//!
//! Invariant: at most one operation of each kind is in flight, so a completion needs no number to be told from others.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::buffer::spare_slices;
use crate::model::{LeaderEpoch, Monotonic, Offset, Position};
use crate::reactor::{File, Files, Io, Job, Operation, Outcome, Room, Token};

use super::appender::{Piece, keep_pieces};
use super::direct::{DirectFile, DirectFlight};
use super::error::{StorageError, is_no_space};
use super::journal::{JournalKind, Journals};
use super::journaling::{JournalFlight, PLANTED_BYPASS_ORDER, Way};
use super::reader::TailChunk;
use super::roll::Seal;
use super::segment::{Segment, SegmentState};
use super::space::Spare;
use super::write_cost::Measured;
use super::{Durability, Log, Now, TailCache};

/// How long the log waits before it asks a full file system again.
pub(super) const NO_SPACE_PAUSE: Duration = Duration::from_millis(500);

/// A bug that the tests must catch: acknowledged before the flush is done.
const PLANTED_ACK_BEFORE_FLUSH: bool = cfg!(corelog_planted = "1");
/// Another: the flush is submitted beside its write, not behind it.
const PLANTED_FLUSH_BESIDE_WRITE: bool = cfg!(corelog_planted = "2");

/// Which log of its shard this is. A slot is given again only after its log is quiet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LogSlot(pub u32);

impl LogSlot {
    /// The log that a completion of [`Room::Log`] belongs to.
    pub fn of(token: Token) -> LogSlot {
        assert!(token.room == Room::Log, "{token:?} is not of the log");
        LogSlot(u32::try_from(token.value >> 8).expect("slots have 32 bits"))
    }
}

/// What a completion changed. Nothing set: nothing to do.
#[derive(Debug, Default)]
#[must_use]
pub struct Progress {
    /// `committed_offset` moved.
    pub committed: bool,
    /// Appends that were told to wait may try again (and may be refused now).
    pub append_again: bool,
    /// The log went offline just now: its directory is no longer trusted.
    pub failed: Option<Arc<StorageError>>,
    /// Journaled bytes that came into memory, less those that went to their segment.
    pub pinned_bytes: i64,
    /// A write of journaled bytes has ended.
    pub is_stored: bool,
    /// It was a group of a direct segment.
    pub is_direct: bool,
}

/// The kinds of operations, as they stand in the low byte of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Tag {
    Write = 1,
    Sync = 2,
    Reserve = 3,
    Spare = 4,
    Name = 5,
    Seal = 6,
    Epochs = 7,
    Unlink = 8,
    Directory = 9,
    Direct = 10,
    Zero = 11,
}

impl Tag {
    fn of(token: Token) -> Tag {
        match token.value as u8 {
            1 => Tag::Write,
            2 => Tag::Sync,
            3 => Tag::Reserve,
            4 => Tag::Spare,
            5 => Tag::Name,
            6 => Tag::Seal,
            7 => Tag::Epochs,
            8 => Tag::Unlink,
            9 => Tag::Directory,
            10 => Tag::Direct,
            11 => Tag::Zero,
            other => panic!("no operation of the log has tag {other}"),
        }
    }
}

/// What is under way, and what a completion needs to know of it.
#[derive(Default)]
pub(super) struct InFlight {
    pub write: Option<WriteInFlight>,
    /// A group of a direct segment, and then nothing else of the log.
    pub direct: Option<DirectFlight>,
    /// Journal groups with batches of this log, oldest first.
    pub journal: VecDeque<JournalFlight>,
    sync: Option<SyncInFlight>,
    pub is_naming: bool,
    /// The newest segment whose name the running flush of the directory covers.
    pub directory: Option<Offset>,
    /// Rolled segments, oldest first, whose indexes are not on disk yet.
    pub seals: VecDeque<Seal>,
    pub is_sealing: bool,
    /// After a failed try for want of space.
    pub seal_not_before: Monotonic,
    /// The epochs that a job is writing: those that start below this offset.
    pub epochs_below: Option<Offset>,
    pub unlinking: Option<usize>,
    /// Flushes of segment files since they were last asked for.
    flushes: Cell<u64>,
    /// Somebody was told to wait.
    pub is_append_parked: bool,
}

pub(super) struct WriteInFlight {
    pub segment: Offset,
    pub position: Position,
    pub end_offset: Offset,
    pub kind: WriteKind,
    pub pieces: Vec<Piece>,
    pub bytes: usize,
}

/// What a write to a segment is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteKind {
    /// It commits what it writes; with the linked flush, durably.
    Commit { with_sync: bool, started: Monotonic },
    /// It brings so many journaled pieces home.
    Store { count: usize },
}

pub(super) struct SyncInFlight {
    pub segment: Offset,
    pub end_offset: Offset,
    /// Of a direct segment: where its blocks ended.
    pub blocks_end: Position,
}

/// What a job of the write path brings back.
pub(super) enum Finished {
    Spare {
        file: File,
        direct: Option<File>,
        reserved_end: Position,
        is_reserved: bool,
    },
    /// `opened`: the segment's file, past the page cache.
    Zeroed {
        opened: Option<File>,
    },
    /// There is no space for them.
    NoZeros,
    /// The file cannot be opened past the page cache.
    NoDirect,
    Named,
    DirectorySynced,
    Sealed,
    EpochsSaved,
    Unlinked,
}

pub(super) type JobResult = Result<Finished, StorageError>;

pub(super) fn job(work: impl FnOnce(&mut dyn Files) -> JobResult + Send + 'static) -> Operation {
    let job: Job = Box::new(move |files| Box::new(work(files)));
    Operation::Job(job)
}

/// Errors after which the same request may succeed later, without anything having been lost.
pub(super) fn is_shortage(error: &StorageError) -> bool {
    is_no_space(&error.source)
        || matches!(error.source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Log {
    /// Starts whatever is due and not under way. Call it after appends, after completions and at `next_deadline`.
    /// Returns false if the ring was full: call it again after the next reap.
    pub fn drive(&mut self, io: &mut dyn Io, now: Now) -> bool {
        self.offline.is_some()
            || self.start_commit(io, None, LeaderEpoch(0), now.monotonic) & self.drive_files(io, now)
    }

    /// As `drive`, with the journals of the log's directory: batches may go to a group that forms. False as well if the journal
    /// has no room; call it again after the next group has ended. `leader_epoch`: of the replica.
    pub fn drive_with(
        &mut self,
        io: &mut dyn Io,
        now: Now,
        journals: &mut Journals<'_>,
        cache: &TailCache,
        leader_epoch: LeaderEpoch,
    ) -> bool {
        if self.offline.is_some() {
            return true;
        }
        self.exchange_costs(journals.journal);
        self.ask_journal(journals.journal);
        let is_committing = self.start_commit(io, Some(&mut *journals), leader_epoch, now.monotonic);
        self.offer_extent(journals.journal, cache, leader_epoch);
        is_committing & self.drive_files(io, now)
    }

    /// What is due on the log's files beside its commits.
    fn drive_files(&mut self, io: &mut dyn Io, now: Now) -> bool {
        self.start_sync(io, now.monotonic)
            && self.roll_when_wanted(now)
            && self.start_reserve(io)
            && self.start_spare(io)
            && self.start_naming(io)
            && self.start_directory_sync(io)
            && self.start_seal(io, now.monotonic)
            && self.start_saving_epochs(io)
            && self.start_unlinking(io)
    }

    /// When `drive` has to be called although nothing happens.
    pub fn next_deadline(&self) -> Monotonic {
        let flush = match (self.config.durability, self.unflushed_since) {
            (Durability::Interval { flush_ms, .. }, Some(since))
                if self.in_flight.sync.is_none() && !self.is_interval_over() =>
            {
                since + Duration::from_millis(flush_ms)
            }
            _ => Monotonic::NEVER,
        };
        let seal = match self.in_flight.seals.is_empty() || self.in_flight.is_sealing {
            false if self.in_flight.seal_not_before > Monotonic::default() => self.in_flight.seal_not_before,
            _ => Monotonic::NEVER,
        };
        if self.offline.is_some() { Monotonic::NEVER } else { flush.min(seal) }
    }

    /// Nothing is in flight and no read is planned: the slot may go to another log, the log may be closed or moved.
    pub fn is_quiet(&self) -> bool {
        let is_lent = self.segments.iter().any(|s| s.loans.is_lent())
            || self.condemned.iter().any(|c| c.loans.is_lent());
        !self.is_working() && !is_lent && self.lent.iter().all(|(_, loans)| !loans.is_lent())
    }

    /// Operations of the log itself are in flight.
    pub(super) fn is_working(&self) -> bool {
        let InFlight {
            write,
            direct,
            journal,
            sync,
            is_naming,
            directory,
            is_sealing,
            epochs_below,
            unlinking,
            ..
        } = &self.in_flight;
        write.is_some()
            || direct.is_some()
            || !journal.is_empty()
            || sync.is_some()
            || *is_naming
            || directory.is_some()
            || *is_sealing
            || epochs_below.is_some()
            || unlinking.is_some()
            || self.spare == Spare::Making
            || self.space.is_reserving()
    }

    /// Everything appended is written, flushed where the topic wants it, and nothing is in flight.
    pub fn is_settled(&self) -> bool {
        self.is_quiet()
            && self.tail.is_empty()
            && self.committed == self.log_end
            && self.in_flight.seals.is_empty()
    }

    pub(super) fn submit(&self, io: &mut dyn Io, tag: Tag, operation: Operation) -> bool {
        let token = Token::new(Room::Log, u64::from(self.slot.0) << 8 | tag as u64);
        let is_flush = matches!(operation, Operation::WriteThenSync { .. } | Operation::Sync { .. });
        let is_submitted = io.submit(token, operation).is_ok();
        self.in_flight.flushes.update(|flushes| flushes + u64::from(is_flush && is_submitted));
        is_submitted
    }

    /// Flushes of segment files that were submitted since the last call.
    pub fn take_flushes(&self) -> u64 {
        self.in_flight.flushes.take()
    }

    /// Sends waiting batches on their way. False: the reactor or the journal has no room for them.
    fn start_commit(
        &mut self,
        io: &mut dyn Io,
        journals: Option<&mut Journals<'_>>,
        leader_epoch: LeaderEpoch,
        now: Monotonic,
    ) -> bool {
        if self.in_flight.direct.is_some() {
            return true;
        }
        if self.is_direct_next() {
            if self.in_flight.journal.is_empty() && self.unstored.pieces.is_empty() {
                let journal = journals.map(|journals| &mut *journals.journal);
                return self.start_direct(io, journal, leader_epoch, now);
            }
            self.want_stored();
            return true;
        }
        if self.tail.is_empty() {
            return true;
        }
        let is_committing =
            self.in_flight.write.as_ref().is_some_and(|write| matches!(write.kind, WriteKind::Commit { .. }));
        if is_committing && !PLANTED_BYPASS_ORDER {
            return true;
        }
        let way = self.next_way(journals.as_deref());
        let is_left = match way {
            Way::Journal(JournalKind::Durable) => self.holds_journaled(JournalKind::Mapped),
            Way::Journal(JournalKind::Mapped) => self.holds_journaled(JournalKind::Durable),
            Way::Segment { .. } => !self.in_flight.journal.is_empty() || !self.unstored.pieces.is_empty(),
        };
        if is_left {
            // Their turn comes first; what ends drives the log again.
            self.want_stored();
            return true;
        }
        match (way, journals) {
            (Way::Journal(JournalKind::Durable), Some(Journals { journal, .. })) => {
                self.offer(*journal, JournalKind::Durable, leader_epoch)
            }
            (Way::Journal(JournalKind::Mapped), Some(Journals { mapped: Some(mapped), .. })) => {
                self.offer(*mapped, JournalKind::Mapped, leader_epoch)
            }
            (Way::Segment { with_sync }, journals) => {
                self.space.has_bypassed |= with_sync && journals.is_some() && self.wants_journal();
                self.start_write(io, with_sync, now)
            }
            (Way::Journal(_), _) => unreachable!("a journal takes batches only if there is one"),
        }
    }

    fn start_write(&mut self, io: &mut dyn Io, with_sync: bool, now: Monotonic) -> bool {
        if self.in_flight.write.is_some() {
            return true;
        }
        let group = self.tail.group();
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return true };
        let (count, segment_base, end_offset) = (group.len(), first.segment, last.end_offset);
        assert!(first.base_offset == self.written, "write of {} after {}", first.base_offset, self.written);
        let mut slices = spare_slices();
        slices.extend(group.iter().map(|piece| piece.bytes.clone()));
        let bytes = group.iter().map(|piece| piece.bytes.len()).sum();

        let segment = self.segment_mut(segment_base).expect("unwritten bytes belong to a segment");
        if !segment.is_named {
            return true;
        }
        let file = segment.file.expect("a segment with unwritten bytes is open");
        let position = segment.written_bytes;
        let flushed = SyncInFlight { segment: segment_base, end_offset, blocks_end: 0 };
        let Some(with_sync) =
            self.submit_commit(io, Tag::Write, (file, position), slices, with_sync, flushed)
        else {
            return false;
        };
        let pieces = self.tail.take(count);
        let kind = WriteKind::Commit { with_sync, started: now };
        self.in_flight.write =
            Some(WriteInFlight { segment: segment_base, position, end_offset, kind, pieces, bytes });
        true
    }

    /// Submits a write, linked to its flush if it is to have one. `None`: the reactor has no room; else whether its completion is
    /// that of the flush too. `flushed`: what a flush of its own covers.
    pub(super) fn submit_commit(
        &mut self,
        io: &mut dyn Io,
        tag: Tag,
        (file, position): (File, Position),
        slices: Vec<Bytes>,
        with_sync: bool,
        flushed: SyncInFlight,
    ) -> Option<bool> {
        let is_flush_beside = PLANTED_FLUSH_BESIDE_WRITE && with_sync;
        let with_sync = with_sync && !PLANTED_FLUSH_BESIDE_WRITE;
        let operation = if with_sync {
            Operation::WriteThenSync { file, position, slices }
        } else {
            Operation::Write { file, position, slices }
        };
        if !self.submit(io, tag, operation) {
            return None;
        }
        if is_flush_beside
            && self.in_flight.sync.is_none()
            && self.submit(io, Tag::Sync, Operation::Sync { file })
        {
            self.in_flight.sync = Some(flushed);
        }
        Some(with_sync)
    }

    /// The oldest segment that has written bytes to flush, and up to which offset, if a flush is due.
    fn due_sync(&self) -> Option<(&Segment, Offset)> {
        let stored_end = |segment: &Segment| self.stored.min(segment.end_offset);
        let is_unflushed = |s: &&Segment| {
            let is_behind = |direct: DirectFile| direct.flushed_blocks_end < direct.blocks_end;
            s.flushed_end < stored_end(s) || s.direct.is_some_and(is_behind)
        };
        let segment = self.segments.range(self.first_unsealed()..).find(is_unflushed)?;
        let is_due = match (segment.state, self.config.durability) {
            // A rolled segment is flushed once its last byte is written.
            (SegmentState::Draining, _) if self.stored >= segment.end_offset => true,
            _ if self.file_flushed < self.file_flush_wanted.min(self.stored) => true,
            // Left unflushed by another durability before: no linked sync will cover it.
            (_, Durability::Fsync) => {
                let is_behind = self.flushed < self.stored || !self.is_begun_batch_flushed();
                is_behind && self.in_flight.write.is_none()
            }
            (_, Durability::Interval { .. }) => self.is_interval_over() && self.is_stored(self.interval_end),
            (_, Durability::Os) => false,
        };
        is_due.then(|| (segment, stored_end(segment)))
    }

    /// An interval is over and the flush that it asks for has not ended. What is in memory only goes to the segments first.
    fn is_interval_over(&self) -> bool {
        self.flushed < self.interval_end
    }

    /// Of a topic that is flushed now and then: asks for the flush of what is written so far, and no more: under a steady load
    /// there is always something behind it.
    fn end_interval_if_due(&mut self, now: Monotonic) {
        let Durability::Interval { flush_ms, flush_messages } = self.config.durability else { return };
        if self.is_interval_over() {
            return;
        }
        let unflushed = u64::try_from(self.written - self.flushed).expect("flushed <= written");
        let is_old = self.unflushed_since.is_some_and(|t| now.since(t) >= Duration::from_millis(flush_ms));
        if is_old || unflushed >= flush_messages {
            self.interval_end = self.written;
        }
    }

    /// Sealed segments are flushed, and come before all others.
    pub(super) fn first_unsealed(&self) -> usize {
        self.segments.iter().rposition(|s| s.state == SegmentState::Sealed).map_or(0, |last| last + 1)
    }

    fn start_sync(&mut self, io: &mut dyn Io, now: Monotonic) -> bool {
        if self.in_flight.sync.is_some() {
            return true;
        }
        self.end_interval_if_due(now);
        let Some((segment, end_offset)) = self.due_sync() else { return true };
        let file = segment.file.expect("an unflushed segment is open");
        let blocks_end = segment.direct.map_or(0, |direct| direct.blocks_end);
        let segment = segment.base_offset;
        if !self.submit(io, Tag::Sync, Operation::Sync { file }) {
            return false;
        }
        self.in_flight.sync = Some(SyncInFlight { segment, end_offset, blocks_end });
        true
    }

    /// Takes a completion of this log's own operations. Call `drive` afterwards.
    pub fn complete(
        &mut self,
        io: &mut dyn Io,
        cache: &mut TailCache,
        token: Token,
        outcome: Outcome,
        now: Monotonic,
    ) -> Progress {
        let committed_before = self.committed;
        let mut progress = Progress::default();
        let result = match (Tag::of(token), outcome) {
            (Tag::Write, outcome) => self.complete_write(cache, outcome, now, &mut progress),
            (Tag::Direct, outcome) => {
                progress.is_direct = true;
                self.complete_direct(cache, outcome, now)
            }
            (Tag::Sync, outcome) => self.complete_sync(outcome, now),
            (Tag::Reserve, outcome) => self.complete_reserve(outcome, now),
            (tag, Outcome::Job(result)) => {
                let result = *result.downcast::<JobResult>().expect("jobs of the log return a JobResult");
                self.complete_job(io, tag, result, now)
            }
            (tag, _) => panic!("{tag:?} cannot end like this"),
        };
        if let Err(error) = result
            && self.offline.is_none()
        {
            let error = Arc::new(error);
            self.offline = Some(error.clone());
            progress.failed = Some(error);
        }
        progress.committed = self.committed != committed_before;
        assert!(self.committed >= committed_before, "committed went back from {committed_before}");
        // Whatever ended may be what a parked append waits for; if not, it is parked again.
        progress.append_again = std::mem::take(&mut self.in_flight.is_append_parked);
        progress
    }

    fn complete_write(
        &mut self,
        cache: &mut TailCache,
        outcome: Outcome,
        now: Monotonic,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        let write = self.in_flight.write.take().expect("a write was in flight");
        let WriteInFlight { segment, position, end_offset, kind, mut pieces, bytes } = write;
        progress.is_stored = matches!(kind, WriteKind::Store { .. });
        let operation = match kind {
            WriteKind::Commit { with_sync: true, .. } => "write and flush segment",
            WriteKind::Commit { with_sync: false, .. } | WriteKind::Store { .. } => "write segment",
        };
        match outcome {
            Outcome::Done => (),
            Outcome::Failed(error) => {
                return Err(StorageError::new(operation, self.log_path(segment), error).at(position));
            }
            _ => panic!("a write cannot end like this"),
        }
        // After another operation failed nothing more is committed, whatever still succeeds.
        if self.offline.is_some() {
            return Ok(());
        }
        let written = self.segment_mut(segment).expect("a segment with a write in flight stays");
        written.written_bytes = position + bytes as u64;
        written.note_known(position..written.written_bytes);
        let (with_sync, started) = match kind {
            WriteKind::Commit { with_sync, started } => (with_sync, started),
            WriteKind::Store { count } => {
                self.stored_pieces(count, bytes, end_offset);
                progress.pinned_bytes -= bytes as i64;
                return Ok(());
            }
        };
        self.note_group(bytes);
        if !with_sync {
            self.measured = Some(Measured { is_direct: false, bytes, started, ended: now });
        }
        self.tail.unwritten_bytes -= bytes;
        assert!(end_offset > self.written, "written went back from {} to {end_offset}", self.written);
        (self.written, self.stored) = (end_offset, end_offset);
        if with_sync {
            self.flushed_segment(segment, end_offset);
            self.note_bypass(segment, position, &pieces);
        }
        self.forget_dropped_chunks(cache);
        for Piece { base_offset, end_offset, bytes, .. } in pieces.drain(..) {
            self.cached.push_back(TailChunk { base_offset, end_offset, chunk: cache.insert(bytes) });
        }
        keep_pieces(pieces);
        if self.flushed < self.written {
            self.unflushed_since.get_or_insert(now);
        }
        self.commit();
        Ok(())
    }

    /// Chunks that the cache has let go are not looked for again.
    pub(super) fn forget_dropped_chunks(&mut self, cache: &TailCache) {
        while self.cached.front().is_some_and(|front| cache.get(front.chunk).is_none()) {
            self.cached.pop_front();
        }
    }

    fn complete_sync(&mut self, outcome: Outcome, now: Monotonic) -> Result<(), StorageError> {
        let SyncInFlight { segment, end_offset, blocks_end } =
            self.in_flight.sync.take().expect("a flush was in flight");
        match outcome {
            Outcome::Done => (),
            Outcome::Failed(error) => {
                return Err(StorageError::new("flush segment", self.log_path(segment), error));
            }
            _ => panic!("a flush cannot end like this"),
        }
        if self.offline.is_none() {
            let end_offset =
                if PLANTED_FLUSH_BESIDE_WRITE { end_offset.min(self.stored) } else { end_offset };
            if let Some(direct) = self.segment_mut(segment).and_then(|segment| segment.direct.as_mut()) {
                direct.flushed_blocks_end = direct.flushed_blocks_end.max(blocks_end);
            }
            self.flushed_segment(segment, end_offset);
            self.unflushed_since = (self.flushed < self.written).then_some(now);
            self.commit();
        }
        Ok(())
    }

    /// A flush of one segment's file covered its bytes up to `end_offset`.
    fn flushed_segment(&mut self, segment: Offset, end_offset: Offset) {
        // Retention may have taken the segment meanwhile.
        if let Some(segment) = self.segment_mut(segment) {
            segment.flushed_end = segment.flushed_end.max(end_offset.min(segment.end_offset));
        }
        self.advance_flushed();
    }

    /// The log is flushed as far as its segments are, one after the other without a hole.
    pub(super) fn advance_flushed(&mut self) {
        let mut flushed = self.file_flushed;
        for segment in self.segments.range(self.first_unsealed()..) {
            if segment.base_offset <= flushed && flushed <= segment.end_offset && segment.is_name_durable {
                flushed = flushed.max(segment.flushed_end);
            }
        }
        assert!(flushed >= self.file_flushed, "flushed went back from {} to {flushed}", self.file_flushed);
        self.file_flushed = flushed;
        self.flushed = self.flushed.max(flushed);
        // What is not stored is in the journal, but for what a block has of the first batch; durably, if it is not the mapped one.
        let is_rest_durable = self.mapped_end().is_none() && !self.is_unfinished_padded();
        if is_rest_durable && self.file_flushed == self.stored && self.is_begun_batch_flushed() {
            self.flushed = self.written;
        }
        if self.flushed == self.written {
            self.unflushed_since = None;
        }
    }

    /// Moves `committed` to where the topic's durability puts it.
    pub(super) fn commit(&mut self) {
        let level = match self.config.durability {
            Durability::Fsync => {
                self.is_fsync_in_effect |= self.flushed >= self.committed;
                if self.is_fsync_in_effect && !PLANTED_ACK_BEFORE_FLUSH { self.flushed } else { self.written }
            }
            Durability::Interval { .. } | Durability::Os => self.written,
        };
        self.committed = self.committed.max(level);
        self.assert_offsets();
    }
}
