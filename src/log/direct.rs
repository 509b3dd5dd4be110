//! Writes past the page cache: whole blocks go to the segment, what is left of the last one goes to the journal.
//!
//! A segment is direct or cached for its whole life, so a topic changes from one to the other at a roll. A group of batches
//! that ends inside a block is two writes at once: the blocks that are full now, and an entry in the shard's journal with the
//! bytes behind them. The next group that fills the block writes it, from the bytes kept in memory. So each block of the
//! segment is written once, and no acknowledged byte is ever written over; a block that the power cuts in two held nothing
//! that is not in the journal.
//!
//! Each checkpoint of the journal carries the unfinished blocks forward (`carry`): they cannot be stored before they are full.
//! A rolled segment ends with its last block padded, and is trimmed when it is sealed.
//!
//! A segment of an `os` topic *pads*: its last block goes with each group, with zeros behind its batches, and is written again
//! once there are more. Nothing of it is in the journal, whose flush would cost more than the whole write (`DirectFile::pads`).
//!
//! Reads go through the page cache, which a direct write only throws out: a consumer that lags behind the tail cache fills it.
//!
//! Invariants, for a direct segment: its blocks are written up to `blocks_end`, into zeros; `unfinished` holds every batch that
//! has a byte behind it, and `stored` is where the first of them begins. At most one group is in flight.

use bytes::Bytes;

use super::appender::{Piece, keep_pieces, spare_pieces};
use super::journal::{Entry, EntrySink, Journal, PartitionKey, Place, Record};
use super::reader::TailChunk;
use super::segment::{Segment, SegmentState};
use super::write_cost::Measured;
use super::write_path::{Progress, SyncInFlight, Tag};
use super::{Durability, Log, StorageError, TailCache, WritePath};
use crate::buffer::{AlignedBuffer, Block, note_copied, spare_slices};
use crate::model::{LeaderEpoch, Monotonic, Offset, Position};
use crate::reactor::{DIRECT_BLOCK_BYTES, File, Io, Outcome};
use crate::record::BatchView;

/// Below this an `auto` segment goes on as it began, whatever the groups.
const JUDGED_SEGMENT_BYTES_MIN: u64 = 16 << 20;

/// Up to this a group gets zeros to be written into; above it the space is only reserved.
const ZEROS_GROUP_BYTES_MAX: u64 = 256 * 1024;

const BLOCK: u64 = DIRECT_BLOCK_BYTES as u64;

/// What a direct segment has beside its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DirectFile {
    /// Open past the page cache, from its first zeros on.
    pub file: Option<File>,
    /// Everything below is in the file: a multiple of the block's size, until the segment is finished.
    pub blocks_end: Position,
    /// Everything below is on the device.
    pub flushed_blocks_end: Position,
    /// The unfinished block is in the file too, as it was when the last group ended. It is written over then, so that a power
    /// cut may take of it what was acknowledged: only where no flush is promised, and none counts for the batches in it.
    pub pads: bool,
}

impl DirectFile {
    pub fn new(file: Option<File>, pads: bool) -> DirectFile {
        DirectFile { file, pads, ..DirectFile::default() }
    }
}

/// Whether a log of a topic that wants it may write past the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum MayBeDirect {
    /// There is no journal, or too many logs leave their unfinished blocks in it already.
    #[default]
    NotNow,
    Yes,
    /// The file system cannot.
    Never,
}

/// The batches of a direct segment that are not in its file whole, oldest first, all of them committed.
#[derive(Default)]
pub(super) struct Unfinished {
    pub pieces: Vec<Piece>,
    /// From this group of the journal on it has all that the file has not.
    sequence: u64,
}

/// A group on its way: blocks to the segment, the rest to the journal.
pub(super) struct DirectFlight {
    segment: Offset,
    position: Position,
    /// Where the write ends: with the unfinished block, if the segment pads.
    write_end: Position,
    blocks_end: Position,
    end_offset: Offset,
    /// What is stored whole once the group is done, and where that ends in the segment.
    stored: (Offset, Position),
    pieces: Vec<Piece>,
    /// What is unfinished once the group is done.
    rest: Vec<Piece>,
    with_sync: bool,
    /// The journal's group that has its entry.
    sequence: Option<u64>,
    is_writing: bool,
    is_journaling: bool,
    started: Monotonic,
    /// When the blocks were written.
    written_at: Option<Monotonic>,
}

/// The reactor or the journal takes nothing more now.
struct NoRoom;

fn block_start(position: Position) -> Position {
    position - position % BLOCK
}

fn end_of(piece: &Piece) -> Position {
    piece.position + piece.bytes.len() as u64
}

/// Bytes of consecutive pieces from `start` to `end`, copied behind what the buffer has.
fn gather<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    start: Position,
    end: Position,
    mut into: impl FnMut(&[u8]),
) {
    let mut at = start;
    for piece in pieces {
        let (from, until) = (at.max(piece.position), end.min(end_of(piece)));
        if from < until {
            assert!(from == at, "a hole at {at} before {from}");
            into(&piece.bytes[(from - piece.position) as usize..(until - piece.position) as usize]);
            note_copied((until - from) as usize);
            at = until;
        }
    }
    assert!(at == end, "bytes to {end} are there to {at} only");
}

/// Bytes of consecutive pieces from `start` to `end`, less than a block: where they are if one piece has them all, else gathered.
fn in_one_piece<'a>(
    pieces: &'a [Piece],
    start: Position,
    end: Position,
    gathered: &'a mut Block,
) -> &'a [u8] {
    match pieces.last() {
        _ if start == end => &[],
        Some(last) if last.position <= start => {
            &last.bytes[(start - last.position) as usize..(end - last.position) as usize]
        }
        _ => {
            *gathered = Block::take(BLOCK as usize);
            gather(pieces.iter(), start, end, |bytes| gathered.extend_from_slice(bytes));
            gathered
        }
    }
}

/// Runs of bytes that are written from where they are; shorter ones are copied together.
const LENT_BYTES_MIN: u64 = 32 * 1024;

/// One slice of copies, so that a short one between long runs holds no memory for all of them.
const COPIED_BYTES_MAX: u64 = 256 * 1024;

/// The blocks from `start` to `end` as slices that each begin and end at a block: of the pieces themselves where their memory
/// allows it, else of copies.
fn blocks<'a>(pieces: impl Iterator<Item = &'a Piece>, start: Position, end: Position) -> Vec<Bytes> {
    let mut slices = spare_slices();
    let mut copy: Option<AlignedBuffer> = None;
    let mut at = start;
    for piece in pieces {
        let until = end.min(end_of(piece));
        assert!(until <= at || piece.position <= at, "a hole at {at} before {}", piece.position);
        let part =
            |from: Position, to: Position| (from - piece.position) as usize..(to - piece.position) as usize;
        while at < until {
            let lent_end = block_start(until);
            let is_lent = piece.is_aligned && at.is_multiple_of(BLOCK) && at + LENT_BYTES_MIN <= lent_end;
            let next = if is_lent {
                slices.extend(copy.take().map(AlignedBuffer::freeze));
                slices.push(piece.bytes.slice(part(at, lent_end)));
                lent_end
            } else {
                let room = || AlignedBuffer::with_capacity(COPIED_BYTES_MAX.min(end - at + BLOCK) as usize);
                let buffer = copy.get_or_insert_with(room);
                let left = COPIED_BYTES_MAX - buffer.len() as u64;
                // To the next block, from where the rest may be lent.
                let next = if piece.is_aligned { until.min(block_start(at) + BLOCK) } else { until };
                let next = next.min(at + left);
                buffer.extend_from_slice(&piece.bytes[part(at, next)]);
                note_copied((next - at) as usize);
                if next == at + left {
                    slices.extend(copy.take().map(AlignedBuffer::freeze));
                }
                next
            };
            at = next;
        }
    }
    assert!(at == end, "bytes to {end} are there to {at} only");
    if let Some(mut last) = copy {
        last.pad();
        slices.push(last.freeze());
    }
    slices
}

fn copied(bytes: &[u8]) -> Bytes {
    let mut block = Block::take(Block::size_for(bytes.len()));
    block.extend_from_slice(bytes);
    note_copied(bytes.len());
    block.split().freeze()
}

/// The batches of a piece that have bytes behind `position`.
fn batches_behind(piece: &Piece, position: Position) -> Piece {
    let (mut at, mut base_offset) = (0, piece.base_offset);
    while at < piece.bytes.len() {
        let batch =
            BatchView::parse_header(&piece.bytes[at..]).expect("the tail holds batches that were parsed");
        if piece.position + (at + batch.size_bytes()) as u64 > position {
            break;
        }
        at += batch.size_bytes();
        base_offset = batch.end_offset();
    }
    let bytes = piece.bytes.slice(at..);
    // A slice keeps the whole block of the tail in memory, for as long as nobody appends.
    let is_small_part = bytes.len() * 4 < piece.bytes.len();
    let is_aligned = piece.is_aligned && !is_small_part;
    let bytes = if is_small_part { copied(&bytes) } else { bytes };
    Piece { position: piece.position + at as u64, base_offset, bytes, is_aligned, ..piece.clone() }
}

impl Log {
    /// The topic wants it, or leaves it to us and has groups so large that the page cache costs more than it gives: always where a
    /// flush follows each group, else where it was measured.
    fn is_direct_wanted(&self) -> bool {
        match self.config.write_path {
            WritePath::Direct => true,
            WritePath::Auto => {
                self.has_large_groups
                    && (self.config.durability == Durability::Fsync || self.is_direct_better)
            }
            WritePath::Journal | WritePath::PageCache => false,
        }
    }

    pub(super) fn wants_direct(&self) -> bool {
        self.is_direct_wanted() && self.may_be_direct == MayBeDirect::Yes
    }

    /// A direct segment that begins now pads.
    pub(super) fn wants_padding(&self) -> bool {
        self.config.durability == Durability::Os
    }

    /// The active segment has batches, and pads although a flush is promised now: it takes no more.
    pub(super) fn is_padding_over(&self) -> bool {
        let active = self.active();
        !active.is_empty() && active.direct.is_some_and(|direct| direct.pads) && !self.wants_padding()
    }

    /// Decides whether this log's groups are large ones, before a batch is appended. A change rolls the segment, so it takes
    /// a different size for a while, and an empty segment or one that is worth ending.
    pub(super) fn judge_group_size(&mut self, batch_bytes: usize) {
        if self.group_bytes == 0 {
            self.group_bytes = batch_bytes as u64;
        }
        let active = self.active();
        if active.is_empty() || active.size_bytes >= JUDGED_SEGMENT_BYTES_MIN {
            let bypass_bytes = self.config.journal_bypass_bytes as u64;
            let is_flushed = self.config.durability == Durability::Fsync;
            self.is_direct_better = self.costs.is_direct_better(self.active().direct.is_some());
            self.has_large_groups = match self.has_large_groups {
                false => self.group_bytes >= bypass_bytes,
                true => self.group_bytes >= bypass_bytes / if is_flushed { 2 } else { 4 },
            };
        }
    }

    /// Takes note of a group's size: an average over the last eight or so.
    pub(super) fn note_group(&mut self, bytes: usize) {
        self.group_bytes = (self.group_bytes * 7 + bytes as u64) / 8;
    }

    /// Groups are so large that zeros written ahead of them cost more than the second flush that they save; without flushes any
    /// are.
    pub(super) fn is_beyond_zeros(&self) -> bool {
        self.config.durability != Durability::Fsync || self.group_bytes >= ZEROS_GROUP_BYTES_MAX
    }

    /// The active segment is written in another way than the topic wants: it takes no more batches.
    pub(super) fn is_way_over(&self) -> bool {
        let pads = self.wants_direct().then(|| self.wants_padding());
        self.active().direct.map(|direct| direct.pads) != pads
    }

    /// Settles how a segment without batches is written. A segment that recovery opened is cached: what a crash left of its
    /// last block may be all there is of it.
    pub(super) fn choose_way(&mut self) {
        if !self.active().is_empty() || !self.is_way_over() {
            return;
        }
        let (wants_direct, pads) = (self.wants_direct(), self.wants_padding());
        match self.active_mut().direct.take() {
            Some(DirectFile { file, .. }) if wants_direct => {
                self.active_mut().direct = Some(DirectFile::new(file, pads));
            }
            Some(DirectFile { file, .. }) => {
                self.lent.extend(file.map(|file| (file, super::Loans::default())))
            }
            None => {
                self.active_mut().direct = Some(DirectFile::new(None, pads));
                // What is reserved is not zeroed.
                self.space.start_anew();
            }
        }
    }

    /// Takes or gives back the right to leave unfinished blocks in the journal. Who pads needs none.
    pub(super) fn ask_journal(&mut self, journal: &mut Journal) {
        let is_wanted = self.is_direct_wanted();
        match self.may_be_direct {
            MayBeDirect::Never => return,
            MayBeDirect::NotNow if !is_wanted => return,
            _ if is_wanted => {
                let is_granted = self.wants_padding() || journal.may_carry(self.slot);
                self.may_be_direct = if is_granted { MayBeDirect::Yes } else { MayBeDirect::NotNow };
            }
            _ if !self.has_direct() => self.may_be_direct = MayBeDirect::NotNow,
            _ => {}
        }
        let is_carrying = is_wanted && !self.wants_padding();
        if !is_carrying && !self.unsealed_direct().any(|direct| !direct.pads) {
            journal.carries_no_more(self.slot);
        }
    }

    /// Tells the others of the core and directory what the last write cost, and learns what they know.
    pub(super) fn exchange_costs(&mut self, journal: &mut Journal) {
        if let Some(measured) = self.measured.take() {
            journal.costs.note(measured);
        }
        self.costs = journal.costs;
    }

    /// What the journal has of this log is the end of a direct segment, or was until its blocks were full.
    pub fn is_journal_direct(&self) -> bool {
        self.has_direct() && self.in_flight.journal.is_empty() && self.unstored.pieces.is_empty()
    }

    /// A segment is direct and not sealed yet.
    fn has_direct(&self) -> bool {
        self.unsealed_direct().next().is_some()
    }

    fn unsealed_direct(&self) -> impl Iterator<Item = DirectFile> {
        self.segments.range(self.first_unsealed()..).filter_map(|segment| segment.direct)
    }

    /// The rolled segment whose last block is not in the file, if the block waits for nothing else: no batch of the segment, or of
    /// one before, is in the tail.
    fn rolled_unfinished(&mut self) -> Option<Offset> {
        let is_unfinished = |s: &&Segment| {
            s.state != SegmentState::Active && s.direct.is_some_and(|direct| direct.blocks_end < s.size_bytes)
        };
        let segment = self.segments.range(self.first_unsealed()..).find(is_unfinished)?.base_offset;
        (self.tail.first().is_none_or(|piece| piece.segment > segment)).then_some(segment)
    }

    /// The next batches belong to a direct segment, or a direct segment waits for its end.
    pub(super) fn is_direct_next(&mut self) -> bool {
        let next = self.tail.first().map(|piece| piece.segment);
        self.rolled_unfinished().is_some()
            || next.is_some_and(|base| self.segment_mut(base).is_some_and(|s| s.direct.is_some()))
    }

    /// Sends the next group of a direct segment on its way. False: the reactor or the journal has no room for it.
    pub(super) fn start_direct(
        &mut self,
        io: &mut dyn Io,
        journal: Option<&mut Journal>,
        leader_epoch: LeaderEpoch,
        now: Monotonic,
    ) -> bool {
        assert!(self.in_flight.journal.is_empty() && self.unstored.pieces.is_empty(), "one way at a time");
        if self.in_flight.write.is_some() {
            return true;
        }
        let finished = self.rolled_unfinished();
        let mut group = spare_pieces();
        if finished.is_none() {
            group.extend_from_slice(self.tail.group());
        }
        let count = group.len();
        let started = self.submit_direct(io, journal, leader_epoch, now, finished, &group);
        keep_pieces(group);
        let Ok(flight) = started else { return false };
        if let Some(flight) = flight {
            let pieces = self.tail.take(count);
            let (first, written) = (pieces.first().map(|piece| piece.base_offset), self.written);
            assert!(
                first.is_none_or(|first| first == written),
                "a direct write of {first:?} after {written}"
            );
            self.in_flight.direct = Some(DirectFlight { pieces, ..flight });
        }
        true
    }

    /// `group`: what of the tail goes now; or `finished`, a segment whose end does. `None`: nothing can go yet. The flight has no
    /// pieces.
    fn submit_direct(
        &mut self,
        io: &mut dyn Io,
        journal: Option<&mut Journal>,
        leader_epoch: LeaderEpoch,
        now: Monotonic,
        finished: Option<Offset>,
        group: &[Piece],
    ) -> Result<Option<DirectFlight>, NoRoom> {
        let Some(segment_base) = finished.or_else(|| group.first().map(|piece| piece.segment)) else {
            return Ok(None);
        };
        let written = self.written;
        let segment = self.segments.iter().find(|s| s.base_offset == segment_base);
        let segment = segment.expect("unwritten bytes belong to a segment");
        if !segment.is_name_durable {
            // Blocks in a file whose name is lost would be lost with it.
            return Ok(None);
        }
        let DirectFile { file, blocks_end: start, pads, .. } =
            segment.direct.expect("looked at a moment ago");
        let file = file.expect("bytes enter the tail once there are zeros for them");
        let last = group.last().or(self.unfinished.pieces.last()).expect("a group, or an end to write");
        let (end, end_offset) = (end_of(last), last.end_offset);
        let is_end = segment.state != SegmentState::Active && end == segment.size_bytes;
        let blocks_end = if is_end { end } else { block_start(end) };
        assert!(start <= blocks_end, "blocks are written to {start}, a group ends at {end}");
        let write_end = if pads { end } else { blocks_end };
        let is_writing = start < write_end;
        let pieces = || self.unfinished.pieces.iter().chain(group);
        let mut rest = spare_pieces();
        rest.extend(pieces().filter(|piece| end_of(piece) > blocks_end).cloned());
        if let Some(first) = rest.first_mut().filter(|piece| piece.position < blocks_end) {
            *first = batches_behind(first, blocks_end);
        }
        let stored = rest.first().map_or((end_offset, end), |piece| (piece.base_offset, piece.position));

        // What is behind the blocks and not in the journal yet.
        let first_position = group.first().map_or(end, |piece| piece.position);
        let from = first_position.max(write_end);
        let mut gathered = Block::default();
        let behind = in_one_piece(group, from, end, &mut gathered);
        let has_entry = !behind.is_empty();
        if has_entry && !journal.as_ref().is_some_and(|journal| journal.has_room(behind.len())) {
            keep_pieces(rest);
            return Err(NoRoom);
        }
        let mut with_sync = self.config.durability == Durability::Fsync;
        if is_writing {
            let slices = blocks(pieces(), start, write_end);
            let flushed = SyncInFlight { segment: segment_base, end_offset: stored.0, blocks_end };
            match self.submit_commit(io, Tag::Direct, (file, start), slices, with_sync, flushed) {
                Some(is_linked) => with_sync = is_linked,
                None => {
                    keep_pieces(rest);
                    return Err(NoRoom);
                }
            }
        }
        let sequence = journal.filter(|_| has_entry).map(|journal| {
            let is_sure = from == first_position && self.flushed == written;
            let base_offset = if from == first_position { written } else { stored.0 };
            let place = Place { base_offset, end_offset, segment: segment_base, position: from };
            let bytes = behind;
            let entry = if is_sure { Entry::Append { place, bytes } } else { Entry::Block { place, bytes } };
            let key = PartitionKey { topic_id: self.topic_id, partition: self.partition.partition };
            journal.append(Some(self.slot), &Record { key, leader_epoch, entry });
            journal.next_sequence()
        });
        if let Some(first) = group.first() {
            self.note_group((end - first.position) as usize);
        }
        Ok(Some(DirectFlight {
            segment: segment_base,
            position: start,
            write_end,
            blocks_end,
            end_offset,
            stored,
            pieces: Vec::new(),
            rest,
            with_sync,
            sequence,
            is_writing,
            is_journaling: has_entry,
            started: now,
            written_at: None,
        }))
    }

    /// The blocks are in the segment, or will never be.
    pub(super) fn complete_direct(
        &mut self,
        cache: &mut TailCache,
        outcome: Outcome,
        now: Monotonic,
    ) -> Result<(), StorageError> {
        let flight = self.in_flight.direct.as_mut().expect("a direct write was in flight");
        flight.is_writing = false;
        let (segment, position, with_sync) = (flight.segment, flight.position, flight.with_sync);
        match outcome {
            Outcome::Done => {
                flight.written_at = Some(now);
                let bytes = (flight.write_end - flight.position) as usize;
                if !flight.with_sync {
                    let started = flight.started;
                    self.measured = Some(Measured { is_direct: true, bytes, started, ended: now });
                }
                self.end_direct(cache);
                Ok(())
            }
            Outcome::Failed(error) => {
                if !flight.is_journaling {
                    self.in_flight.direct = None;
                }
                let operation = if with_sync { "write and flush segment" } else { "write segment" };
                Err(StorageError::new(operation, self.log_path(segment), error).at(position))
            }
            _ => panic!("a write cannot end like this"),
        }
    }

    /// The entry of the group in flight is durable. `None`: no group of a direct segment is.
    pub(super) fn direct_journaled(&mut self, cache: &mut TailCache) -> Option<Progress> {
        let flight = self.in_flight.direct.as_mut()?;
        assert!(flight.is_journaling, "a group of the journal ended that no direct write waits for");
        flight.is_journaling = false;
        let committed_before = self.committed;
        let is_ended = self.end_direct(cache);
        Some(Progress {
            committed: self.committed != committed_before,
            append_again: is_ended && std::mem::take(&mut self.in_flight.is_append_parked),
            ..Progress::default()
        })
    }

    /// Takes note of the group in flight once both its parts are done.
    fn end_direct(&mut self, cache: &mut TailCache) -> bool {
        let Some(flight) =
            self.in_flight.direct.take_if(|flight| !flight.is_writing && !flight.is_journaling)
        else {
            return false;
        };
        // After another operation failed nothing more is committed, whatever still succeeds.
        if self.offline.is_some() {
            return true;
        }
        let DirectFlight { segment, blocks_end, end_offset, stored, mut pieces, rest, .. } = flight;
        assert!(end_offset >= self.written, "written went back from {} to {end_offset}", self.written);
        let written_segment = self.segment_mut(segment).expect("a segment with a write in flight stays");
        let direct = written_segment.direct.as_mut().expect("a segment is direct for its whole life");
        let has_blocks = direct.blocks_end < blocks_end;
        direct.blocks_end = blocks_end;
        if has_blocks && flight.with_sync {
            direct.flushed_blocks_end = blocks_end;
        }
        written_segment.written_bytes = stored.1;
        if has_blocks && flight.with_sync {
            written_segment.flushed_end = written_segment.flushed_end.max(stored.0);
        }
        if (has_blocks || self.unfinished.pieces.is_empty())
            && let Some(sequence) = flight.sequence
        {
            self.unfinished.sequence = sequence;
        }
        keep_pieces(std::mem::replace(&mut self.unfinished.pieces, rest));
        (self.written, self.stored) = (end_offset, stored.0);
        self.advance_flushed();
        self.forget_dropped_chunks(cache);
        for Piece { base_offset, end_offset, bytes, .. } in pieces.drain(..) {
            self.tail.unwritten_bytes -= bytes.len();
            self.cached.push_back(TailChunk { base_offset, end_offset, chunk: cache.insert(bytes) });
        }
        keep_pieces(pieces);
        if let Some(now) = flight.written_at.filter(|_| self.flushed < self.written) {
            self.unflushed_since.get_or_insert(now);
        }
        self.commit();
        self.assert_direct(segment);
        true
    }

    /// The segment of the unfinished block.
    fn unfinished_direct(&self) -> Option<DirectFile> {
        let first = self.unfinished.pieces.first()?;
        let segment = self.segments.iter().rev().find(|s| s.base_offset == first.segment);
        Some(segment.and_then(|s| s.direct).expect("an unfinished block is of a direct segment"))
    }

    /// Of what is not stored the journal has nothing: a flush of the segment says nothing of it.
    pub(super) fn is_unfinished_padded(&self) -> bool {
        self.unfinished_direct().is_some_and(|direct| direct.pads)
    }

    /// What is in the segment of a batch whose end is in the journal is on the device. Of the unfinished ones it can only be the
    /// first.
    pub(super) fn is_begun_batch_flushed(&self) -> bool {
        let Some(direct) = self.unfinished_direct() else { return true };
        self.unfinished.pieces[0].position >= direct.blocks_end
            || direct.blocks_end == direct.flushed_blocks_end
    }

    fn assert_direct(&self, base_offset: Offset) {
        let Some(segment) = self.segments.iter().find(|s| s.base_offset == base_offset) else { return };
        let direct = segment.direct.expect("a segment is direct for its whole life");
        let end = self.unfinished.pieces.last().map_or(segment.written_bytes, end_of);
        assert!(
            segment.written_bytes <= direct.blocks_end && end < direct.blocks_end + BLOCK,
            "blocks of {base_offset} end at {}, batches at {}, the rest at {end}",
            direct.blocks_end,
            segment.written_bytes
        );
    }

    /// Puts the unfinished block into the journal again, for a checkpoint that releases the groups before `below`. False: later;
    /// a group is in flight, or the journal has no room.
    pub fn carry(&mut self, journal: &mut Journal, leader_epoch: LeaderEpoch, below: u64) -> bool {
        if self.offline.is_some() {
            return true;
        }
        let flight = self.in_flight.direct.as_ref();
        if flight.and_then(|flight| flight.sequence).is_some_and(|sequence| sequence < below) {
            return false;
        }
        let (Some(first), Some(last)) = (self.unfinished.pieces.first(), self.unfinished.pieces.last())
        else {
            return true;
        };
        let direct = self.unfinished_direct().expect("there is an unfinished block");
        if self.unfinished.sequence >= below || direct.pads {
            return true;
        }
        let (segment, end, position) = (first.segment, end_of(last), direct.blocks_end);
        let mut gathered = Block::default();
        let bytes = in_one_piece(&self.unfinished.pieces, position, end, &mut gathered);
        if !journal.has_room(bytes.len()) {
            return false;
        }
        let place = Place { base_offset: first.base_offset, end_offset: last.end_offset, segment, position };
        let key = PartitionKey { topic_id: self.topic_id, partition: self.partition.partition };
        // Nobody waits for it: the group that ends the checkpoint comes after it, and counts only if this one does.
        journal.append(None, &Record { key, leader_epoch, entry: Entry::Block { place, bytes } });
        self.unfinished.sequence = journal.next_sequence();
        true
    }

    /// The journal failed, and with it the entry of the group in flight.
    pub(super) fn fail_direct(&mut self) {
        if let Some(flight) = &mut self.in_flight.direct {
            flight.is_journaling = false;
            if !flight.is_writing {
                self.in_flight.direct = None;
            }
        }
    }

    /// The end of what the journal has or is getting of a direct group.
    pub(super) fn direct_journal_end(&self) -> Option<Offset> {
        let flight = self.in_flight.direct.as_ref()?;
        flight.sequence.map(|_| flight.end_offset)
    }
}

/// The end of a direct segment as it is written at a clean stop: all from where its blocks end, padded to whole blocks.
pub(super) fn last_blocks<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    blocks_end: Position,
    size_bytes: u64,
) -> AlignedBuffer {
    let length = (size_bytes - blocks_end).next_multiple_of(BLOCK);
    let mut buffer = AlignedBuffer::with_capacity(length as usize);
    gather(pieces, blocks_end, size_bytes, |bytes| buffer.extend_from_slice(bytes));
    buffer.pad();
    buffer
}
