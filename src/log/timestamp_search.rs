//! The first record at or after a timestamp: largest timestamps of the segments, time index, offset index, then a walk that
//! ends inside a batch.
//!
//! Old segments have their indexes on disk and batches may be compressed, so the search runs as a job.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{LeaderEpoch, Offset, Position, Timestamp};
use crate::reactor::{Files, OpenMode};
use crate::record::{
    BatchView, Codec, CompressionError, DecompressBounds, RecordError, Records, TimestampType, decompress,
};

use super::Log;
use super::error::{Context, Damage, Damaged, ReadError, StorageError};
use super::layout::{self, FileSuffix};
use super::reader::index_position;
use super::segment::{Depth, Found, SegmentIndexes, Walk};
use super::time_index::TimeIndex;

/// The answer to a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordAt {
    pub timestamp: Timestamp,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// Why a search gave no answer, which is not the same as "no such record".
#[derive(Debug)]
pub enum SearchError {
    Read(ReadError),
    /// The records inside a batch could not be unpacked.
    Unpack {
        base_offset: Offset,
        source: CompressionError,
    },
    Records {
        base_offset: Offset,
        source: RecordError,
    },
}

/// Either there is nothing to search, or a search to run.
pub enum TimestampPlan {
    /// No record is that late.
    None,
    Search(TimestampSearch),
}

/// A search, ready to run in a job: it holds what memory knows and reads the rest.
pub struct TimestampSearch {
    directory: Arc<Path>,
    /// Segments that may have such a record, oldest first.
    candidates: Vec<Candidate>,
    timestamp: Timestamp,
    /// Records below are deleted.
    start: Offset,
    bound: Offset,
    /// Batches behind the segments that are in memory alone, oldest first.
    unstored: Vec<Bytes>,
}

struct Candidate {
    base_offset: Offset,
    written_bytes: u64,
    /// Where to begin, if the indexes are in memory.
    position: Option<Position>,
}

impl Log {
    /// Plans a search for the first record with a timestamp at or after `timestamp`, below `bound`.
    pub fn plan_timestamp(&mut self, timestamp: Timestamp, bound: Offset) -> TimestampPlan {
        let bound = bound.min(self.written);
        let mut candidates = Vec::new();
        for segment in &mut self.segments {
            let may_have_it = segment.largest_timestamp.is_some_and(|largest| largest >= timestamp);
            if !may_have_it || segment.base_offset >= bound || segment.end_offset <= self.log_start {
                continue;
            }
            // The search reads it, some of it from the device perhaps.
            segment.forget_known(0);
            let position_before = |indexes: &Arc<SegmentIndexes>| {
                indexes.offset.position_before(indexes.time.offset_before(timestamp))
            };
            candidates.push(Candidate {
                base_offset: segment.base_offset,
                written_bytes: segment.written_bytes,
                position: segment.indexes.as_ref().map(position_before),
            });
        }
        if candidates.is_empty() {
            return TimestampPlan::None;
        }
        let directory = self.directory.clone();
        let unstored = self.unstored_from(self.log_start).map(|(_, _, bytes)| bytes.clone()).collect();
        TimestampPlan::Search(TimestampSearch {
            unstored,
            directory,
            candidates,
            timestamp,
            start: self.log_start,
            bound,
        })
    }

    /// Plans a search for the first record that has the largest timestamp of the log.
    pub fn plan_max_timestamp(&mut self, bound: Offset) -> TimestampPlan {
        let largest = self.segments.iter().filter_map(|s| s.largest_timestamp).max();
        largest.map_or(TimestampPlan::None, |largest| self.plan_timestamp(largest, bound))
    }
}

impl TimestampSearch {
    /// Blocking: in a job. `bounds` hold for each batch that has to be unpacked.
    pub fn run(
        self,
        files: &mut dyn Files,
        bounds: DecompressBounds,
    ) -> Result<Option<RecordAt>, SearchError> {
        for candidate in &self.candidates {
            if let Some(found) = self.search_segment(files, candidate, bounds)? {
                return Ok((found.offset < self.bound).then_some(found));
            }
        }
        for bytes in &self.unstored {
            if let Some(found) = self.search_memory(bytes, bounds)? {
                return Ok((found.offset < self.bound).then_some(found));
            }
        }
        Ok(None)
    }

    fn search_memory(&self, bytes: &[u8], bounds: DecompressBounds) -> Result<Option<RecordAt>, SearchError> {
        let mut at = 0;
        while at < bytes.len() {
            let batch = BatchView::parse(&bytes[at..]).expect("the tail holds batches that were parsed");
            at += batch.size_bytes();
            if self.is_candidate(&batch)
                && let Some(found) = self.found_in(&batch, bounds)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The batch may hold the record.
    fn is_candidate(&self, batch: &BatchView<'_>) -> bool {
        batch.base_offset() < self.bound
            && batch.max_timestamp() >= self.timestamp
            && batch.last_offset() >= self.start
            && !batch.attributes().is_control()
    }

    /// The record in a whole batch.
    fn found_in(
        &self,
        batch: &BatchView<'_>,
        bounds: DecompressBounds,
    ) -> Result<Option<RecordAt>, SearchError> {
        let found = if batch.timestamp_type() == TimestampType::LogAppendTime {
            // All records carry the batch's time; none needs to be unpacked.
            Some((batch.max_timestamp(), batch.base_offset().max(self.start)))
        } else {
            self.first_in(batch, bounds)?
        };
        let leader_epoch = batch.leader_epoch();
        Ok(found.map(|(timestamp, offset)| RecordAt { timestamp, offset, leader_epoch }))
    }

    fn search_segment(
        &self,
        files: &mut dyn Files,
        candidate: &Candidate,
        bounds: DecompressBounds,
    ) -> Result<Option<RecordAt>, SearchError> {
        let base_offset = candidate.base_offset;
        let path = layout::offset_file(&self.directory, base_offset, FileSuffix::Log);
        let file = match files.open(&path, OpenMode::Read) {
            Ok(file) => file,
            // Retention took the segment since the plan was made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::new("open segment", path, error).into()),
        };
        let result = self.start_position(files, candidate).and_then(|position| {
            let from = |files: &mut dyn Files, position, bounds: DecompressBounds| {
                let mut walk = Walk::new(file, position, candidate.written_bytes);
                self.walk(files, &mut walk, &path, bounds)
            };
            match from(files, position, bounds) {
                // A damaged index leads between two batches: the log itself decides.
                Err(SearchError::Read(ReadError::Corrupt(_))) if position > 0 => from(files, 0, bounds),
                found => found,
            }
        });
        files.close(file);
        result
    }

    fn start_position(&self, files: &mut dyn Files, candidate: &Candidate) -> Result<Position, SearchError> {
        if let Some(position) = candidate.position {
            return Ok(position);
        }
        let path = layout::offset_file(&self.directory, candidate.base_offset, FileSuffix::TimeIndex);
        let bytes = match files.read_all(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(StorageError::new("read time index", path, error).into()),
        };
        let (index, _) = TimeIndex::decode(candidate.base_offset, &bytes);
        let offset = index.offset_before(self.timestamp);
        let position = index_position(files, &self.directory, candidate.base_offset, offset)?;
        Ok(position.min(candidate.written_bytes))
    }

    fn walk(
        &self,
        files: &mut dyn Files,
        walk: &mut Walk,
        path: &Path,
        bounds: DecompressBounds,
    ) -> Result<Option<RecordAt>, SearchError> {
        loop {
            let position = walk.position();
            let batch = match walk.next(files, Depth::Header).context("read segment", path)? {
                Found::Batch(batch, _) => batch,
                Found::End => return Ok(None),
                Found::Invalid(invalid) => {
                    let path = path.to_owned();
                    let damaged = Damaged { path, position, damage: Damage::Batch(invalid) };
                    return Err(SearchError::Read(ReadError::Corrupt(damaged)));
                }
            };
            if batch.base_offset() >= self.bound {
                return Ok(None);
            }
            if !self.is_candidate(&batch) {
                continue;
            }
            let found = if batch.timestamp_type() == TimestampType::LogAppendTime {
                self.found_in(&batch, bounds)?
            } else {
                let size = batch.size_bytes();
                let bytes = walk.whole_batch(files, position, size).context("read segment", path)?;
                let batch = BatchView::parse(bytes).map_err(|invalid| {
                    let path = path.to_owned();
                    SearchError::Read(ReadError::Corrupt(Damaged {
                        path,
                        position,
                        damage: Damage::Batch(invalid),
                    }))
                })?;
                self.found_in(&batch, bounds)?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

impl TimestampSearch {
    /// The first wanted record of a batch: (timestamp, offset).
    fn first_in(
        &self,
        batch: &BatchView<'_>,
        bounds: DecompressBounds,
    ) -> Result<Option<(Timestamp, Offset)>, SearchError> {
        let base_offset = batch.base_offset();
        let mut unpacked = Vec::new();
        let payload = match batch.compression() {
            Codec::None => batch.records(),
            codec => {
                decompress(codec, batch.records(), bounds, &mut unpacked)
                    .map_err(|source| SearchError::Unpack { base_offset, source })?;
                &unpacked
            }
        };
        for record in Records::new(payload, batch.record_count()) {
            let record = record.map_err(|source| SearchError::Records { base_offset, source })?;
            let timestamp = batch.base_timestamp().saturating_add(record.timestamp_delta);
            let offset = base_offset.saturating_add(i64::from(record.offset_delta));
            if timestamp >= self.timestamp && offset >= self.start {
                return Ok(Some((timestamp, offset)));
            }
        }
        Ok(None)
    }
}

impl From<StorageError> for SearchError {
    fn from(error: StorageError) -> SearchError {
        SearchError::Read(ReadError::Storage(error))
    }
}

impl From<ReadError> for SearchError {
    fn from(error: ReadError) -> SearchError {
        SearchError::Read(error)
    }
}

impl std::fmt::Display for SearchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SearchError::Read(error) => error.fmt(f),
            SearchError::Unpack { base_offset, source } => write!(f, "unpack batch {base_offset}: {source}"),
            SearchError::Records { base_offset, source } => {
                write!(f, "read records of batch {base_offset}: {source}")
            }
        }
    }
}

impl std::error::Error for SearchError {}
