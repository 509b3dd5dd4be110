//! A log's side of the journals: hands its batches to one of its shard's, and brings them into their segments later.
//!
//! A batch goes tail -> journal group (durable: `flushed`, `written`, and so `committed` move) -> segment (`stored`), and the
//! segment's own flush (`file_flushed`) comes with a checkpoint, or when the segment is rolled. Until it is stored a batch is
//! kept in memory, and read from there. Of a topic that is acknowledged without a flush the mapped journal takes small groups;
//! `flushed` then stays where it is until the segments are flushed.
//!
//! Invariant: either a journal takes a log's batches or its segment does. The way changes only when nothing of the log is in
//! flight on the other, nor in memory only: to the segment, or to the mapped journal, once everything journaled is stored; to
//! the journal once everything is flushed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::appender::{Piece, keep_pieces, spare_pieces};
use super::journal::{
    Entry, EntrySink, Journal, JournalKind, Journals, MappedJournal, PartitionKey, Place, Record, Refusal,
};
use super::reader::TailChunk;
use super::write_path::{Progress, Tag, WriteInFlight, WriteKind};
use super::{Durability, Log, StorageError, TailCache, WritePath};
use crate::buffer::spare_slices;
use crate::model::{LeaderEpoch, Monotonic, Offset, Position};
use crate::reactor::{Io, Operation, SMALL_WRITE_BYTES_MAX};

/// A log with this much in memory writes it to its segment: larger writes cost less each, smaller ones take the core for a
/// shorter time. Twice as much doubles p99 of 256 partitions; half as much costs some requests a second under `fsync`.
const STORE_BYTES_MIN: usize = 128 * 1024;

/// So much goes on to the device at once: left to the flush of a checkpoint, all that was stored since the last one would
/// stand before the commits' own flushes.
const WRITE_OUT_BYTES_MIN: usize = 64 * 1024;

/// One write of journaled bytes: it is in time, and neither a reader of the same disk nor the shard that gives way to it should
/// wait for more.
const STORE_BYTES_MAX: usize = SMALL_WRITE_BYTES_MAX;
const STORE_PIECES_MAX: usize = 512;

/// A bug that the tests must catch: the journal goes on behind bytes whose own flush has not ended.
pub(super) const PLANTED_BYPASS_ORDER: bool = cfg!(corelog_planted = "102");

/// Groups of a log that are larger than this on the average are written to the segment: what is copied once more, and checked
/// once more, costs more than a write saved. Twice that and the log leaves the mapped journal.
const MAPPED_GROUP_BYTES_MAX: u64 = 32 * 1024;

/// Journaled batches on their way to the segment, oldest first. The write in flight keeps its pieces here until it is done.
pub(super) struct Unstored {
    pub pieces: VecDeque<Piece>,
    pub bytes: usize,
    /// Which journal has them; all are in the same.
    pub kind: JournalKind,
    /// Written soon, however little it is.
    pub is_wanted: bool,
}

impl Default for Unstored {
    fn default() -> Unstored {
        Unstored { pieces: VecDeque::new(), bytes: 0, kind: JournalKind::Durable, is_wanted: false }
    }
}

/// Larger ones are not remembered: the other logs of a round would feel their checksum.
const REMEMBERED_BYPASS_BYTES_MAX: usize = 1024 * 1024;

/// A group in flight that has batches of this log.
pub(super) struct JournalFlight {
    pub pieces: Vec<Piece>,
    pub end_offset: Offset,
    pub kind: JournalKind,
}

/// Which way the next batches go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Segment { with_sync: bool },
    Journal(JournalKind),
}

impl Log {
    /// The journal that flushes has this log's batches unless something speaks against it.
    pub(super) fn wants_journal(&self) -> bool {
        // Of a direct log here is what goes to a segment that is cached still.
        self.config.durability == Durability::Fsync && self.config.write_path != WritePath::PageCache
    }

    /// The mapped journal has this log's small batches.
    fn wants_mapped(&self) -> bool {
        self.config.durability != Durability::Fsync
            && matches!(self.config.write_path, WritePath::Auto | WritePath::Journal)
    }

    /// The way of the next group.
    pub(super) fn next_way(&self, journals: Option<&Journals<'_>>) -> Way {
        let to_segment = Way::Segment { with_sync: self.config.durability == Durability::Fsync };
        let Some(journals) = journals else { return to_segment };
        if self.wants_mapped() {
            let Some(mapped) = &journals.mapped else { return to_segment };
            return if self.suits_mapped(mapped) { Way::Journal(JournalKind::Mapped) } else { to_segment };
        }
        if !self.wants_journal() {
            return to_segment;
        }
        // Recovery goes on with the journal where the segments end, so nothing before may be missing.
        let is_flushed = self.flushed == self.written || !self.in_flight.journal.is_empty();
        let bypass_bytes = self.config.journal_bypass_bytes.min(journals.journal.entry_bytes_max());
        let is_large = self.tail.waiting_bytes > bypass_bytes;
        if is_flushed && !is_large {
            Way::Journal(JournalKind::Durable)
        } else {
            Way::Segment { with_sync: true }
        }
    }

    /// Groups are small, and this one fits.
    fn suits_mapped(&self, mapped: &MappedJournal) -> bool {
        let is_there = self.holds_journaled(JournalKind::Mapped);
        let average_max = if is_there { 2 * MAPPED_GROUP_BYTES_MAX } else { MAPPED_GROUP_BYTES_MAX };
        self.group_bytes <= average_max && self.tail.waiting_bytes <= mapped.entry_bytes_max()
    }

    /// That journal has, or is getting, batches of this log that no segment has.
    pub(super) fn holds_journaled(&self, kind: JournalKind) -> bool {
        let is_unstored = !self.unstored.pieces.is_empty() && self.unstored.kind == kind;
        is_unstored || self.in_flight.journal.back().is_some_and(|flight| flight.kind == kind)
    }

    /// Takes note of a group that went past the journal, durably: a later group remembers it, and recovery then tells damage to it
    /// from a torn tail.
    pub(super) fn note_bypass(&mut self, segment: Offset, position: Position, pieces: &[Piece]) {
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return };
        let place = Place { base_offset: first.base_offset, end_offset: last.end_offset, segment, position };
        let is_remembered = self.wants_journal() && bytes <= REMEMBERED_BYPASS_BYTES_MAX;
        self.bypassed = is_remembered.then_some(place);
    }

    /// Lets the group that forms remember what went past the journal. None is formed for it alone, and nothing is kept in memory
    /// for it: what the cache has let go is not remembered.
    pub(super) fn offer_extent(
        &mut self,
        journal: &mut Journal,
        cache: &TailCache,
        leader_epoch: LeaderEpoch,
    ) {
        if !journal.is_forming() || !journal.has_room(0) {
            return;
        }
        // Bytes in a file whose name may be lost are not there after a power loss, and that is no damage.
        let Some(place) = self.bypassed.take_if(|place| place.end_offset <= self.flushed) else { return };
        let (mut length, mut crc, mut next) = (0, 0, place.base_offset);
        let first = self.cached.partition_point(|chunk| chunk.base_offset < place.base_offset);
        for chunk in self.cached.range(first..).take_while(|chunk| chunk.end_offset <= place.end_offset) {
            let Some(bytes) = cache.get(chunk.chunk) else { return };
            length += bytes.len();
            crc = crate::record::crc32c_append(crc, bytes);
            next = chunk.end_offset;
        }
        if next != place.end_offset {
            return;
        }
        let length = u32::try_from(length).expect("it is bounded");
        let key = PartitionKey { topic_id: self.topic_id, partition: self.partition.partition };
        journal.append(None, &Record { key, leader_epoch, entry: Entry::Extent { place, length, crc } });
    }

    /// Hands waiting batches to a journal's forming group, as many as it takes. False: it has no room for all of them now.
    pub(super) fn offer(
        &mut self,
        journal: &mut dyn EntrySink,
        kind: JournalKind,
        leader_epoch: LeaderEpoch,
    ) -> bool {
        let key = PartitionKey { topic_id: self.topic_id, partition: self.partition.partition };
        let mut taken = spare_pieces();
        let mut segment = None;
        while let Some(piece) = self.tail.first() {
            // What is behind a roll may have to go another way.
            let is_direct =
                || self.segments.iter().any(|s| s.base_offset == piece.segment && s.direct.is_some());
            if segment.replace(piece.segment) != Some(piece.segment) && is_direct() {
                break;
            }
            if !journal.has_room(piece.bytes.len()) {
                break;
            }
            let place = Place {
                base_offset: piece.base_offset,
                end_offset: piece.end_offset,
                segment: piece.segment,
                position: piece.position,
            };
            let entry = Entry::Append { place, bytes: &piece.bytes };
            // The log is told once for each group, whatever the number of pieces.
            let slot = taken.is_empty().then_some(self.slot);
            journal.append(slot, &Record { key, leader_epoch, entry });
            let mut piece = self.tail.take(1);
            taken.append(&mut piece);
            keep_pieces(piece);
        }
        if taken.is_empty() {
            keep_pieces(taken);
        } else if let (Some(first), Some(last)) = (taken.first(), taken.last()) {
            let before = self.in_flight.journal.back().map_or(self.written, |flight| flight.end_offset);
            assert!(
                first.base_offset == before || PLANTED_BYPASS_ORDER,
                "journal of {} after {before} in {}",
                first.base_offset,
                self.partition
            );
            let end_offset = last.end_offset;
            self.note_group(taken.iter().map(|piece| piece.bytes.len()).sum());
            self.in_flight.journal.push_back(JournalFlight { pieces: taken, end_offset, kind });
        }
        self.tail.is_empty()
    }

    /// The oldest group in flight with batches of this log counts: it is durable, or in the mapped journal. Call `drive` afterwards.
    pub fn journaled(&mut self, cache: &mut TailCache, now: Monotonic) -> Progress {
        if let Some(progress) = self.direct_journaled(cache) {
            return Progress { is_direct: true, ..progress };
        }
        let JournalFlight { mut pieces, end_offset, kind } =
            self.in_flight.journal.pop_front().expect("a group with batches of this log was in flight");
        let mut progress = Progress::default();
        // After another operation failed nothing more is committed, whatever still succeeds.
        if self.offline.is_some() {
            return progress;
        }
        assert!(end_offset > self.written, "written went back from {} to {end_offset}", self.written);
        self.written = end_offset;
        match kind {
            JournalKind::Durable => self.flushed = end_offset,
            JournalKind::Mapped => _ = self.unflushed_since.get_or_insert(now),
        }
        assert!(
            self.unstored.pieces.is_empty() || self.unstored.kind == kind,
            "{} has batches in both journals",
            self.partition
        );
        self.unstored.kind = kind;
        self.forget_dropped_chunks(cache);
        for piece in pieces.drain(..) {
            self.tail.unwritten_bytes -= piece.bytes.len();
            self.unstored.bytes += piece.bytes.len();
            progress.pinned_bytes += piece.bytes.len() as i64;
            let Piece { base_offset, end_offset, ref bytes, .. } = piece;
            let chunk = cache.insert(bytes.clone());
            self.cached.push_back(TailChunk { base_offset, end_offset, chunk });
            self.unstored.pieces.push_back(piece);
        }
        keep_pieces(pieces);
        let committed_before = self.committed;
        self.commit();
        progress.committed = self.committed != committed_before;
        progress.append_again = std::mem::take(&mut self.in_flight.is_append_parked);
        progress
    }

    /// Journaled bytes in memory are enough for a write of their own, or are wanted in the segment.
    pub fn is_store_due(&self) -> bool {
        let Some(first) = self.unstored.pieces.front() else { return false };
        let is_rolled = first.segment != self.active().base_offset;
        let is_wanted = self.unstored.is_wanted || !self.is_stored(self.interval_end);
        let is_due = is_wanted || self.unstored.bytes >= STORE_BYTES_MIN || is_rolled;
        is_due && self.in_flight.write.is_none() && self.offline.is_none()
    }

    /// Everything journaled so far goes to the segment soon.
    pub fn want_stored(&mut self) {
        self.unstored.is_wanted |= !self.unstored.pieces.is_empty() || !self.in_flight.journal.is_empty();
    }

    /// None of the batches below the offset waits in memory for its segment.
    pub(super) fn is_stored(&self, offset: Offset) -> bool {
        self.unstored.pieces.front().is_none_or(|piece| piece.base_offset >= offset)
    }

    /// Writes journaled bytes to their segment. False: the reactor was full, or the segment's file has no name yet.
    pub fn start_store(&mut self, io: &mut dyn Io) -> bool {
        assert!(self.in_flight.write.is_none(), "{} writes already", self.partition);
        let Some(first) = self.unstored.pieces.front() else { return true };
        let (segment_base, position) = (first.segment, first.position);
        let (mut slices, mut bytes, mut end_offset) = (spare_slices(), 0, first.base_offset);
        for piece in self.unstored.pieces.iter().take(STORE_PIECES_MAX) {
            let fits = bytes == 0 || bytes + piece.bytes.len() <= STORE_BYTES_MAX;
            if piece.segment != segment_base || !fits {
                break;
            }
            assert!(piece.position == position + bytes as u64, "a hole before {}", piece.base_offset);
            bytes += piece.bytes.len();
            end_offset = piece.end_offset;
            slices.push(piece.bytes.clone());
        }
        let segment = self.segment_mut(segment_base).expect("unstored bytes belong to a segment");
        if !segment.is_named {
            return false;
        }
        let file = segment.file.expect("a segment with unstored bytes is open");
        assert!(segment.written_bytes == position, "{} written, {position} next", segment.written_bytes);
        let count = slices.len();
        // Nobody flushes what is in the mapped journal: the kernel writes it when it likes.
        let operation = if bytes >= WRITE_OUT_BYTES_MIN && self.unstored.kind == JournalKind::Durable {
            Operation::WriteOut { file, position, slices }
        } else {
            Operation::Write { file, position, slices }
        };
        if !self.submit(io, Tag::Write, operation) {
            return false;
        }
        let kind = WriteKind::Store { count };
        self.in_flight.write = Some(WriteInFlight {
            segment: segment_base,
            position,
            end_offset,
            kind,
            pieces: Vec::new(),
            bytes,
        });
        true
    }

    /// A write of journaled bytes is done: they are in the segment.
    pub(super) fn stored_pieces(&mut self, count: usize, bytes: usize, end_offset: Offset) {
        self.unstored.pieces.drain(..count);
        self.unstored.bytes -= bytes;
        assert!(end_offset <= self.written, "{end_offset} is stored, {} written", self.written);
        self.stored = end_offset;
        self.unstored.is_wanted &= !self.unstored.pieces.is_empty() || !self.in_flight.journal.is_empty();
    }

    /// Journaled bytes in memory.
    pub fn unstored_bytes(&self) -> usize {
        self.unstored.bytes
    }

    /// Below it everything is in the segments' files.
    pub fn stored_offset(&self) -> Offset {
        self.stored
    }

    /// Below it everything is in the segments' files, durably.
    pub fn file_flushed_offset(&self) -> Offset {
        self.file_flushed
    }

    /// The end of what the journal has or is getting of this log, or what was flushed before.
    pub fn journal_end(&self) -> Offset {
        let durable = self.in_flight.journal.back().filter(|flight| flight.kind == JournalKind::Durable);
        durable.map(|flight| flight.end_offset).or(self.direct_journal_end()).unwrap_or(self.flushed)
    }

    /// The end of what the mapped journal has of this log.
    pub fn mapped_end(&self) -> Option<Offset> {
        let is_there = !self.unstored.pieces.is_empty() && self.unstored.kind == JournalKind::Mapped;
        is_there.then_some(self.written)
    }

    /// The segments' files need a flush up to this offset: a checkpoint wants it.
    pub fn want_file_flushed(&mut self, offset: Offset) {
        self.file_flush_wanted = self.file_flush_wanted.max(offset);
    }

    /// A sync of the whole file system covered what was stored below this offset.
    pub fn file_system_synced(&mut self, offset: Offset) {
        assert!(offset <= self.stored, "{offset} is synced, {} stored", self.stored);
        if self.offline.is_some() {
            return;
        }
        let first = self.first_unsealed();
        for segment in self.segments.range_mut(first..) {
            // What it had of the segment was written to its name, which the sync has covered.
            segment.is_name_durable |= segment.base_offset < offset;
            segment.flushed_end = segment.flushed_end.max(offset.min(segment.end_offset));
        }
        self.advance_flushed();
        self.commit();
    }

    /// The journal failed: what this log has in it, or hands to it, will never be durable.
    pub fn fail(&mut self, error: Arc<StorageError>) {
        self.in_flight.journal.clear();
        self.fail_direct();
        self.offline.get_or_insert(error);
    }

    /// Why its journal does not take this log's next batch, if there is one that it does not take.
    pub fn refusal_by(&mut self, journals: &Journals<'_>) -> Option<Refusal> {
        let is_mapped = self.wants_mapped();
        let bytes = self.tail.first()?.bytes.len();
        match &journals.mapped {
            Some(mapped) if is_mapped => mapped.refusal(bytes),
            _ => journals.journal.refusal(bytes),
        }
    }

    /// Committed batches that are not stored, from the one that holds `offset` on.
    pub(super) fn unstored_from(&self, offset: Offset) -> impl Iterator<Item = (Offset, Offset, &Bytes)> {
        // The end of a direct segment comes before what was journaled for the next one.
        let pieces = self.unfinished.pieces.iter().chain(&self.unstored.pieces);
        let from = pieces.skip_while(move |piece| piece.end_offset <= offset);
        from.map(|p| (p.base_offset, p.end_offset, &p.bytes))
    }
}
