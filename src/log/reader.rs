//! Finds the batches for a fetch: in memory if they are recent, else by one read of the segment's file.
//!
//! Record bytes are never copied: memory gives slices of what was written, the disk gives slices of the read buffer.
//! A read starts with the batch that contains the offset and ends with a whole batch or, at its limit, with a part of one.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::buffer::spare_slices;
use crate::model::{Offset, Position};
use crate::reactor::{File, Files, Io, Job, OpenMode};
use crate::record::{BatchView, InvalidBatch};

use super::error::{Context, Damage, Damaged, ReadError, StorageError};
use super::layout::{self, FileSuffix};
use super::page_cache::READ_AHEAD_BYTES;
use super::segment::{Depth, Found, Loans, Walk};
use super::tail_cache::ChunkId;
use super::{Log, Now, TailCache, offset_index};

/// A read from disk is at least this large: one trip costs more than the bytes.
const READ_BYTES_MIN: u64 = 64 * 1024;

/// How many positions a log remembers for consumers that read on where they stopped.
const HINTS_MAX: usize = 16;

/// What a caller has to do to get the bytes.
pub enum ReadPlan {
    /// There is nothing to read between the offset and the bound.
    Empty,
    /// Whole batches, in order; behind them perhaps the beginning of one more.
    Memory(Vec<Bytes>),
    /// Submit `Operation::Read` of these bytes, then [`Log::finish_read`].
    Disk(DiskRead),
    /// An old segment: run this job, then [`Log::finish_locate`] and plan again.
    Locate(Job),
}

/// One read of a segment's file. Keep it with the fetch until the read completes: the file stays open as long.
#[derive(Clone, Debug)]
pub struct DiskRead {
    pub file: File,
    pub position: Position,
    pub length: u32,
    pub(super) segment: Offset,
    pub(super) offset: Offset,
    pub(super) bound: Offset,
    pub(super) max_bytes: usize,
    at_least_one: bool,
    /// Written bytes of the file: nothing is behind them.
    end: Position,
    /// Keeps the file open until the read is dropped.
    _loan: Loans,
}

/// What a finished read turned out to be.
#[derive(Debug)]
pub enum ReadDone {
    /// Whole batches, behind them perhaps the beginning of one more; empty if the first is larger than wanted.
    Batches(Bytes),
    /// The batch is larger than the read, or lies behind it: submit this one.
    Again(DiskRead),
}

/// Written batches of the tail that may still be in memory.
pub(super) struct TailChunk {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub chunk: ChunkId,
}

/// The batch with this offset starts at this position.
#[derive(Clone, Copy)]
pub(super) struct Hint {
    pub(super) segment: Offset,
    pub(super) offset: Offset,
    pub(super) position: Position,
}

/// What the job of [`ReadPlan::Locate`] brings back.
struct Located {
    hint: Hint,
    file: File,
    /// From here on it was read, from the device perhaps. `None`: all of it was in memory.
    read_from: Option<Position>,
}

/// Closes what a [`ReadPlan::Locate`] job brings back for a log that is gone. Panics if `result` is of another job.
pub fn discard_located(io: &mut dyn Io, result: Box<dyn Any + Send>) {
    let result = *result.downcast::<Result<Located, ReadError>>().expect("the result of a locate job");
    if let Ok(located) = result {
        io.close_file(located.file);
    }
}

impl Log {
    /// Plans a read from `offset` up to `bound` (exclusive), at most `max_bytes`, of batches that are written.
    /// With `at_least_one` the first batch is returned even if it is larger.
    pub fn read(
        &mut self,
        cache: &TailCache,
        offset: Offset,
        bound: Offset,
        max_bytes: usize,
        at_least_one: bool,
        now: Now,
    ) -> Result<ReadPlan, ReadError> {
        let (log_start, log_end) = (self.log_start, self.log_end);
        if offset < log_start || offset > log_end || self.is_retired {
            return Err(ReadError::OutOfRange { offset, log_start, log_end });
        }
        // Bytes on their way to the disk may still fail to arrive; nobody sees them before.
        let bound = bound.min(self.written);
        if offset >= bound || (max_bytes == 0 && !at_least_one) {
            return Ok(ReadPlan::Empty);
        }
        let wanted = Wanted { offset, bound, max_bytes, at_least_one };
        if let Some(slices) = self.read_memory(cache, &wanted) {
            return Ok(ReadPlan::Memory(slices));
        }
        if offset >= self.stored {
            return Ok(ReadPlan::Memory(self.read_unstored(&wanted)));
        }
        // What the segments do not have yet is not on this disk read.
        Ok(self.plan_disk(&Wanted { bound: bound.min(self.stored), ..wanted }, now))
    }

    /// What the journal has and no segment yet is kept in memory, in the tail cache or not.
    fn read_unstored(&self, wanted: &Wanted) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut taken = 0;
        for (base_offset, end_offset, bytes) in self.unstored_from(wanted.offset) {
            let is_inside = base_offset >= wanted.offset && end_offset <= wanted.bound;
            if !take_in_memory(bytes, is_inside, wanted, &mut taken, &mut slices) {
                break;
            }
        }
        slices
    }

    fn read_memory(&self, cache: &TailCache, wanted: &Wanted) -> Option<Vec<Bytes>> {
        let first = self.cached.partition_point(|chunk| chunk.end_offset <= wanted.offset);
        let chunk = self.cached.get(first)?;
        if chunk.base_offset > wanted.offset {
            return None;
        }
        cache.get(chunk.chunk)?;
        let mut slices = spare_slices();
        let mut taken = 0;
        for chunk in self.cached.range(first..) {
            let Some(bytes) = cache.get(chunk.chunk) else { break };
            let is_inside = chunk.base_offset >= wanted.offset && chunk.end_offset <= wanted.bound;
            if !take_in_memory(bytes, is_inside, wanted, &mut taken, &mut slices) {
                break;
            }
        }
        Some(slices)
    }

    fn plan_disk(&mut self, wanted: &Wanted, now: Now) -> ReadPlan {
        let index = self.segments.partition_point(|s| s.end_offset <= wanted.offset);
        let segment = &mut self.segments[index];
        segment.last_read = now.monotonic;
        let (base_offset, end) = (segment.base_offset, segment.written_bytes);
        let hint = self.hints.iter().find(|h| h.segment == base_offset && h.offset == wanted.offset);
        let position = match (hint, &segment.indexes) {
            (Some(hint), _) => Some(hint.position),
            (None, Some(indexes)) => Some(indexes.offset.position_before(wanted.offset)),
            (None, None) => None,
        };
        match (segment.file, position) {
            (Some(file), Some(position)) => {
                // Without a hint the batch starts up to one index interval later.
                let slack = if hint.is_some() { 0 } else { u64::from(self.config.index_interval_bytes) };
                let loan = segment.loans.clone();
                ReadPlan::Disk(wanted.read(file, loan, base_offset, position, end, slack))
            }
            _ => {
                let (directory, offset) = (self.directory.clone(), wanted.offset);
                ReadPlan::Locate(Box::new(move |files| {
                    Box::new(locate(files, &directory, base_offset, offset, end))
                }))
            }
        }
    }

    /// Takes the result of a [`ReadPlan::Locate`] job; the same read then gives a `Disk` plan.
    /// Panics if `result` is of another job.
    pub fn finish_locate(&mut self, io: &mut dyn Io, result: Box<dyn Any + Send>) -> Result<(), ReadError> {
        let result = *result.downcast::<Result<Located, ReadError>>().expect("the result of a locate job");
        let Located { hint, file, read_from } = result?;
        if let (Some(from), Some(segment)) = (read_from, self.segment_mut(hint.segment)) {
            segment.forget_known(from);
        }
        let is_online = self.offline.is_none();
        match self.segment_mut(hint.segment) {
            Some(segment) if is_online && segment.file.is_none() => {
                segment.file = Some(file);
                self.opened.push(hint.segment);
            }
            _ => io.close_file(file),
        }
        self.remember(hint);
        Ok(())
    }

    /// Takes the bytes that a [`DiskRead`] brought; checks and trims them to whole batches.
    pub fn finish_read(&mut self, read: &DiskRead, bytes: BytesMut) -> Result<ReadDone, ReadError> {
        let bytes = bytes.freeze();
        let corrupt = |at: usize, damage| {
            let path = layout::offset_file(&self.directory, read.segment, FileSuffix::Log);
            ReadError::Corrupt(Damaged { path, position: read.position + at as u64, damage })
        };
        // First over the batches before the wanted one, then over those that are taken.
        let (mut start, mut at) = (0, 0);
        let mut next_offset = None;
        let mut part = 0;
        while at < bytes.len() {
            let batch = match BatchView::parse(&bytes[at..]) {
                Ok(batch) => batch,
                Err(InvalidBatch::Truncated { needed_bytes, .. }) => {
                    let position = read.position + at as u64;
                    if position + needed_bytes as u64 > read.end {
                        let given_bytes = usize::try_from(read.end - position).unwrap_or(usize::MAX);
                        return Err(corrupt(
                            at,
                            Damage::Batch(InvalidBatch::Truncated { needed_bytes, given_bytes }),
                        ));
                    }
                    if next_offset.is_none() {
                        return Ok(ReadDone::Again(read.again(position, needed_bytes)));
                    }
                    break;
                }
                Err(invalid) => return Err(corrupt(at, Damage::Batch(invalid))),
            };
            let size = batch.size_bytes();
            if batch.last_offset() < read.offset {
                at += size;
                start = at;
                continue;
            }
            let is_expected = match next_offset {
                None => batch.base_offset() <= read.offset,
                Some(next) => batch.base_offset() == next,
            };
            if !is_expected {
                let expected = next_offset.unwrap_or(read.offset);
                return Err(corrupt(at, Damage::Offset { expected, found: batch.base_offset() }));
            }
            let is_first = next_offset.is_none();
            let fits = at + size - start <= read.max_bytes || (is_first && read.at_least_one);
            next_offset = Some(batch.base_offset());
            if batch.end_offset() > read.bound {
                break;
            }
            if !fits {
                part = room_for_part(read.max_bytes, at - start);
                break;
            }
            // A bad disk or cable shows here, before anybody gets the bytes.
            batch.check_crc().map_err(|invalid| corrupt(at, Damage::Batch(invalid)))?;
            next_offset = Some(batch.end_offset());
            at += size;
        }
        let Some(next_offset) = next_offset else {
            let position = read.position + at as u64;
            if position >= read.end || bytes.is_empty() {
                let damage = Damage::Short { end_offset: read.offset, expected: read.bound };
                return Err(corrupt(at, damage));
            }
            return Ok(ReadDone::Again(read.again(position, 0)));
        };
        let whole_end = read.position + at as u64;
        if let Some(segment) = self.segment_mut(read.segment) {
            segment.note_known(read.position + start as u64..whole_end);
        }
        self.remember(Hint { segment: read.segment, offset: next_offset, position: whole_end });
        Ok(ReadDone::Batches(bytes.slice(start..at + part)))
    }

    pub(super) fn remember(&mut self, hint: Hint) {
        self.hints.retain(|h| h.offset != hint.offset);
        if self.hints.len() == HINTS_MAX {
            self.hints.remove(0);
        }
        self.hints.push(hint);
    }
}

/// What a read is to bring.
struct Wanted {
    offset: Offset,
    bound: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

impl Wanted {
    fn read(
        &self,
        file: File,
        loan: Loans,
        segment: Offset,
        position: Position,
        end: Position,
        slack: u64,
    ) -> DiskRead {
        let length = (self.max_bytes as u64).saturating_add(slack).max(READ_BYTES_MIN).min(end - position);
        DiskRead {
            file,
            position,
            length: u32::try_from(length).expect("a segment is smaller than 2 GiB"),
            segment,
            offset: self.offset,
            bound: self.bound,
            max_bytes: self.max_bytes,
            at_least_one: self.at_least_one,
            end,
            _loan: loan,
        }
    }
}

impl DiskRead {
    fn again(&self, position: Position, needed_bytes: usize) -> DiskRead {
        assert!(position < self.end, "a read at {position} of {} bytes", self.end);
        let length = u64::from(self.length).max(needed_bytes as u64).min(self.end - position);
        DiskRead {
            position,
            length: u32::try_from(length).expect("a segment is smaller than 2 GiB"),
            ..self.clone()
        }
    }
}

/// How much of a batch that does not fit is returned behind whole ones: what the limit leaves. Kafka cuts its answer at
/// the limit wherever that falls, and clients drop the cut batch; none is returned alone.
fn room_for_part(max_bytes: usize, whole_bytes: usize) -> usize {
    if whole_bytes == 0 { 0 } else { max_bytes.saturating_sub(whole_bytes) }
}

/// Adds what is wanted of a chunk. `is_inside`: all its batches are between the offset and the bound. False: that was all.
fn take_in_memory(
    bytes: &Bytes,
    is_inside: bool,
    wanted: &Wanted,
    taken: &mut usize,
    slices: &mut Vec<Bytes>,
) -> bool {
    let selected = if is_inside && *taken + bytes.len() <= wanted.max_bytes {
        0..bytes.len()
    } else {
        select_in_memory(bytes, wanted, *taken)
    };
    let is_to_the_end = selected.end == bytes.len();
    *taken += selected.len();
    if !selected.is_empty() {
        slices.push(bytes.slice(selected));
    }
    is_to_the_end && *taken < wanted.max_bytes
}

/// The part of a chunk that is wanted, `taken` bytes having been found before it.
fn select_in_memory(bytes: &[u8], wanted: &Wanted, taken: usize) -> Range<usize> {
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        let batch = BatchView::parse_header(&bytes[end..]).expect("the tail holds batches that were parsed");
        let size = batch.size_bytes();
        if batch.last_offset() < wanted.offset {
            end += size;
            start = end;
            continue;
        }
        let total = taken + end + size - start;
        let fits = total <= wanted.max_bytes || (total == size && wanted.at_least_one);
        if batch.end_offset() > wanted.bound {
            break;
        }
        if !fits {
            end += room_for_part(wanted.max_bytes, total - size);
            break;
        }
        end += size;
    }
    start..end
}

/// Opens an old segment and finds where the batch with `offset` starts: index, then a short walk.
fn locate(
    files: &mut dyn Files,
    directory: &Path,
    segment: Offset,
    offset: Offset,
    end: Position,
) -> Result<Located, ReadError> {
    let path = layout::offset_file(directory, segment, FileSuffix::Log);
    let file = files.open(&path, OpenMode::Read).context("open segment", &path)?;
    let mut read_from = None;
    let found = index_position(files, directory, segment, offset).and_then(|position| {
        let in_reach = READ_AHEAD_BYTES.min(end.saturating_sub(position));
        if !files.is_resident(file, position, in_reach) {
            read_from = Some(position);
        }
        match find_batch(files, file, &path, position, offset, end) {
            // The index may be damaged: the log itself decides.
            Err(ReadError::Corrupt(_)) if position > 0 => {
                read_from = Some(0);
                find_batch(files, file, &path, 0, offset, end)
            }
            found => found,
        }
    });
    match found {
        Ok((base_offset, position)) => {
            // The plan that follows asks for `offset`, which may lie inside the batch.
            assert!(base_offset <= offset, "located {base_offset} for {offset}");
            Ok(Located { hint: Hint { segment, offset, position }, file, read_from })
        }
        Err(error) => {
            files.close(file);
            Err(error)
        }
    }
}

/// A position at or before the batch with `offset`, from the index file; the start if there is none.
pub(super) fn index_position(
    files: &mut dyn Files,
    directory: &Path,
    segment: Offset,
    offset: Offset,
) -> Result<Position, ReadError> {
    let path = layout::offset_file(directory, segment, FileSuffix::OffsetIndex);
    let file = match files.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StorageError::new("open index", path, error).into()),
    };
    let position = offset_index::position_before_in_file(files, file, segment, offset);
    files.close(file);
    Ok(position.context("read index", &path)?)
}

/// Walks from `position` to the batch that contains `offset`; its base offset and position.
fn find_batch(
    files: &mut dyn Files,
    file: File,
    path: &Path,
    position: Position,
    offset: Offset,
    end: Position,
) -> Result<(Offset, Position), ReadError> {
    let mut walk = Walk::new(file, position.min(end), end);
    let corrupt =
        |position, damage| Err(ReadError::Corrupt(Damaged { path: path.to_owned(), position, damage }));
    loop {
        let at = walk.position();
        match walk.next(files, Depth::Header).context("read segment", path)? {
            Found::Batch(batch, _) if batch.last_offset() < offset => (),
            Found::Batch(batch, position) if batch.base_offset() <= offset => {
                return Ok((batch.base_offset(), position));
            }
            Found::Batch(batch, _) => {
                return corrupt(at, Damage::Offset { expected: offset, found: batch.base_offset() });
            }
            Found::Invalid(invalid) => return corrupt(at, Damage::Batch(invalid)),
            Found::End => return corrupt(at, Damage::Short { end_offset: offset, expected: offset + 1 }),
        }
    }
}
