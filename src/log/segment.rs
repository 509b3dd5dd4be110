//! One segment: a file of batches with consecutive offsets, its indexes, and the walk from batch to batch.
//!
//! Invariant: `base_offset <= flushed_end <= end_offset`; a segment that is not the last of its log never changes.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::model::{Monotonic, Offset, Position, Timestamp};
use crate::reactor::{File, Files};
use crate::record::{BATCH_HEADER_BYTES, BatchView, InvalidBatch};

use super::direct::DirectFile;
use super::layout::{self, FileSuffix};
use super::offset_index::OffsetIndex;
use super::time_index::{TimeIndex, TimestampAt};

/// Bytes a walk reads at a time when batches lie close together.
const WALK_WINDOW_BYTES: usize = 256 * 1024;

/// Both indexes of a segment in memory, and the state that decides when an entry is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentIndexes {
    pub offset: OffsetIndex,
    pub time: TimeIndex,
    /// The largest timestamp so far and the last offset of its batch.
    pub largest: Option<TimestampAt>,
    bytes_since_entry: u64,
}

impl SegmentIndexes {
    pub fn new(base_offset: Offset) -> SegmentIndexes {
        SegmentIndexes {
            offset: OffsetIndex::new(base_offset),
            time: TimeIndex::new(base_offset),
            largest: None,
            bytes_since_entry: 0,
        }
    }

    /// From what was on disk; `largest` then is what the time index knows.
    pub fn loaded(offset: OffsetIndex, time: TimeIndex) -> SegmentIndexes {
        SegmentIndexes { largest: time.last(), offset, time, bytes_since_entry: 0 }
    }

    /// Takes note of one batch, in log order. Append and recovery both come here, so a rebuilt index is the same index.
    pub fn note(&mut self, batch: &BatchView<'_>, position: Position, interval_bytes: u32) {
        let (timestamp, last_offset) = (batch.max_timestamp(), batch.last_offset());
        if self.largest.is_none_or(|largest| timestamp > largest.timestamp) {
            self.largest = Some(TimestampAt { timestamp, last_offset });
        }
        if self.bytes_since_entry > u64::from(interval_bytes) {
            self.offset.push(last_offset, position);
            self.close();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += batch.size_bytes() as u64;
    }

    /// The entry that ends a time index: a search must find the largest timestamp of a sealed segment.
    pub fn close(&mut self) {
        if let Some(largest) = self.largest {
            self.time.push(largest);
        }
    }
}

/// Counts the plans that name a file. The reactor keeps a file open while an operation is in flight on it; a read that is
/// planned and not submitted yet is known here alone, and a descriptor closed under it would be another file's by then.
#[derive(Clone, Debug, Default)]
pub(super) struct Loans(Arc<()>);

impl Loans {
    pub fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Where a segment stands between being written and being left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SegmentState {
    /// The last segment: takes appends.
    Active,
    /// Rolled: its last bytes are being written, then flushed.
    Draining,
    /// Flushed; indexes and the producer snapshot are being written.
    Sealing,
    /// Never changes again.
    Sealed,
}

pub(super) struct Segment {
    pub base_offset: Offset,
    /// Exclusive. Of the active segment: the log end, perhaps not written yet.
    pub end_offset: Offset,
    /// Bytes appended, perhaps not written yet.
    pub size_bytes: u64,
    /// Bytes of batches that are in the file whole; where the next write goes, unless the segment is direct.
    pub written_bytes: u64,
    /// What this process has written, or read and compared with its checksums, through the page cache: of it what is still in
    /// memory need not be compared again.
    pub known: Range<Position>,
    /// Below it everything in this segment is on the device.
    pub flushed_end: Offset,
    pub state: SegmentState,
    /// False until the file has its name: no write goes to a file that recovery would not find.
    pub is_named: bool,
    /// False until its directory entry is flushed: until then nothing in the file survives a power loss.
    pub is_name_durable: bool,
    /// Open while active; opened on demand later.
    pub file: Option<File>,
    /// Set for a segment that is written past the page cache; its reads go through `file` all the same.
    pub direct: Option<DirectFile>,
    /// Planned reads of the file, submitted or not.
    pub loans: Loans,
    pub last_read: Monotonic,
    /// In memory until written to their files; read from disk afterwards.
    pub indexes: Option<Arc<SegmentIndexes>>,
    /// Largest timestamp of a record, if any has one.
    pub largest_timestamp: Option<Timestamp>,
    /// Of the first batch: a segment's age counts from it.
    pub first_timestamp: Option<Timestamp>,
    /// Wall clock when the segment was made or opened, its age when no record has a timestamp.
    pub created: Timestamp,
}

impl Segment {
    pub fn new(base_offset: Offset, created: Timestamp) -> Segment {
        Segment {
            base_offset,
            end_offset: base_offset,
            size_bytes: 0,
            written_bytes: 0,
            known: 0..0,
            flushed_end: base_offset,
            state: SegmentState::Active,
            is_named: true,
            is_name_durable: true,
            file: None,
            direct: None,
            loans: Loans::default(),
            last_read: Monotonic::default(),
            indexes: Some(Arc::new(SegmentIndexes::new(base_offset))),
            largest_timestamp: None,
            first_timestamp: None,
            created,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    /// These bytes, whole batches, are as they should be: they were just written, or read and checked.
    pub fn note_known(&mut self, bytes: Range<Position>) {
        if bytes.start < self.known.start || bytes.start > self.known.end {
            self.known = bytes;
        } else {
            self.known.end = self.known.end.max(bytes.end);
        }
    }

    /// Somebody reads the file from here on, and what comes may come from the device.
    pub fn forget_known(&mut self, from: Position) {
        self.known.end = self.known.end.min(from).max(self.known.start);
    }

    /// All of it that others may see is in its file, and nobody writes to it.
    pub fn is_quiet(&self) -> bool {
        self.direct.is_none() && self.written_bytes == self.size_bytes
    }

    /// The indexes of a segment that takes appends.
    pub fn indexes_mut(&mut self) -> &mut SegmentIndexes {
        Arc::make_mut(self.indexes.as_mut().expect("an active segment has its indexes in memory"))
    }

    /// How old the segment's newest record is for retention: its largest timestamp, else when we first saw the segment.
    pub fn newest(&self) -> Timestamp {
        self.largest_timestamp.filter(|t| *t >= 0).unwrap_or(self.created)
    }

    /// Moves to the next state. There is no way back, and no way around the flush.
    pub fn advance(&mut self, to: SegmentState) {
        let is_legal = matches!(
            (self.state, to),
            (SegmentState::Active, SegmentState::Draining)
                | (SegmentState::Draining, SegmentState::Sealing)
                | (SegmentState::Sealing, SegmentState::Sealed)
        );
        assert!(is_legal, "segment {} cannot go from {:?} to {to:?}", self.base_offset, self.state);
        if to == SegmentState::Sealing {
            assert!(
                self.flushed_end == self.end_offset,
                "segment {} is sealed before its flush",
                self.base_offset
            );
        }
        self.state = to;
    }
}

/// Writes both index files and makes them durable, the time index first: an offset index that is complete then has a
/// complete time index beside it, which `recovery` counts on when it looks for the largest timestamp.
pub(super) fn write_indexes(
    files: &mut dyn Files,
    directory: &Path,
    base_offset: Offset,
    indexes: &SegmentIndexes,
) -> Result<(), super::error::StorageError> {
    let (time, offset) = index_files(directory, base_offset);
    write_durable_file(files, &time, &indexes.time.encode())?;
    write_durable_file(files, &offset, &indexes.offset.encode())
}

/// Writes both index files; the caller sees to their durability.
pub(super) fn write_indexes_unsynced(
    files: &mut dyn Files,
    directory: &Path,
    base_offset: Offset,
    indexes: &SegmentIndexes,
) -> Result<(), super::error::StorageError> {
    let (time, offset) = index_files(directory, base_offset);
    write_file(files, &time, &indexes.time.encode())?;
    write_file(files, &offset, &indexes.offset.encode())
}

/// (time index, offset index)
fn index_files(directory: &Path, base_offset: Offset) -> (std::path::PathBuf, std::path::PathBuf) {
    let file = |suffix| layout::offset_file(directory, base_offset, suffix);
    (file(FileSuffix::TimeIndex), file(FileSuffix::OffsetIndex))
}

/// Replaces a cache file in place and makes it durable. A crash in between leaves a short or empty one, which is rebuilt.
pub(super) fn write_durable_file(
    files: &mut dyn Files,
    path: &Path,
    bytes: &[u8],
) -> Result<(), super::error::StorageError> {
    use super::error::Context;
    write_file(files, path, bytes)?;
    let file = files.open(path, crate::reactor::OpenMode::Write).context("open file", path)?;
    let synced = files.sync(file);
    files.close(file);
    synced.context("flush file", path)
}

/// Replaces a cache file in place; the caller sees to its durability.
pub(super) fn write_file(
    files: &mut dyn Files,
    path: &Path,
    bytes: &[u8],
) -> Result<(), super::error::StorageError> {
    use super::error::Context;
    let file = files.open(path, crate::reactor::OpenMode::Truncate).context("create file", path)?;
    let written = files.write_at(file, 0, bytes);
    files.close(file);
    written.context("write file", path)
}

/// What a walk finds at its position.
pub(super) enum Found<'w> {
    Batch(BatchView<'w>, Position),
    /// Exactly the end of the range.
    End,
    Invalid(InvalidBatch),
}

/// How much of each batch a walk reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// 61 bytes: the view has no records behind the header.
    Header,
    /// Everything; the checksum is compared.
    Checked,
}

/// Goes from batch to batch through a range of a log file.
pub(super) struct Walk {
    file: File,
    position: Position,
    end: Position,
    window: Vec<u8>,
    window_at: Position,
}

impl Walk {
    pub fn new(file: File, position: Position, end: Position) -> Walk {
        Walk { file, position, end, window: Vec::new(), window_at: position }
    }

    /// Where the next batch starts.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The batch at the position, and steps over it. After `End` or `Invalid` the position stays.
    pub fn next(&mut self, files: &mut dyn Files, depth: Depth) -> io::Result<Found<'_>> {
        let rest = self.end.saturating_sub(self.position);
        if rest == 0 {
            return Ok(Found::End);
        }
        let given = self.fill(files, BATCH_HEADER_BYTES.min(usize::try_from(rest).unwrap_or(usize::MAX)))?;
        let size = match BatchView::parse_header(given) {
            Ok(batch) => batch.size_bytes(),
            Err(invalid) => return Ok(Found::Invalid(invalid)),
        };
        if size as u64 > rest {
            let given_bytes = usize::try_from(rest).unwrap_or(usize::MAX);
            return Ok(Found::Invalid(InvalidBatch::Truncated { needed_bytes: size, given_bytes }));
        }
        let at = self.position;
        if depth == Depth::Checked
            && let Err(invalid) = BatchView::parse(self.fill(files, size)?).and_then(|b| b.check_crc())
        {
            return Ok(Found::Invalid(invalid));
        }
        self.position += size as u64;
        let start = usize::try_from(at - self.window_at).expect("the window starts at or before the batch");
        let batch = BatchView::parse_header(&self.window[start..]).expect("parsed above");
        Ok(Found::Batch(batch, at))
    }

    /// All bytes of a batch that `next` returned; the walk goes on behind it.
    pub fn whole_batch(
        &mut self,
        files: &mut dyn Files,
        position: Position,
        size: usize,
    ) -> io::Result<&[u8]> {
        let next = std::mem::replace(&mut self.position, position);
        let filled = self.fill(files, size).map(|bytes| bytes.len());
        self.position = next;
        let start =
            usize::try_from(position - self.window_at).expect("the window starts at or before the batch");
        filled.map(|length| &self.window[start..start + length])
    }

    /// The bytes at the position: at least `needed` unless the file ends before.
    fn fill(&mut self, files: &mut dyn Files, needed: usize) -> io::Result<&[u8]> {
        let held = self
            .position
            .checked_sub(self.window_at)
            .map_or(0, |skip| (self.window.len() as u64).saturating_sub(skip));
        if held < needed as u64 || self.position < self.window_at {
            let rest = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            let length = needed.max(WALK_WINDOW_BYTES).min(rest);
            self.window.resize(length, 0);
            self.window_at = self.position;
            let read = files.read_at(self.file, self.position, &mut self.window)?;
            self.window.truncate(read);
        }
        let start = usize::try_from(self.position - self.window_at)
            .expect("the window starts at or before the position");
        Ok(&self.window[start..])
    }
}
