//! Opens a partition: trusts what was flushed, checks what may be torn, rebuilds what is only a cache.
//!
//! Batches above the recovery point are read whole, their checksums and offsets compared; the log is cut at the first byte
//! that is not what must follow, and never resumed behind it: a later write may have arrived where an earlier one did not.
//! Below the recovery point nothing is ever cut: what is wrong there was right once, so the partition is [`Damaged`].
//!
//! Recovery leaves the directory as if the surviving batches alone had ever been written, and flushed. A crash inside it
//! leaves less to do for the next one: later segments go first, from the end; then the cut; each is durable before the
//! log takes appends.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::{LeaderEpoch, Offset, Position, Timestamp, TopicId, TopicPartition};
use crate::reactor::{File, Files, OpenMode};
use crate::record::{BATCH_HEADER_BYTES, BatchView};

use super::error::{Context, Damage, Damaged, RecoveryError, StorageError};
use super::layout::{self, FileSuffix};
use super::offset_index::OffsetIndex;
use super::segment::{self, Depth, Found, Segment, SegmentIndexes, SegmentState, Walk};
use super::time_index::TimeIndex;
use super::walked_headers::WalkedHeaders;
use super::{LeaderEpochCache, Log, LogConfig, ProducerState};

/// How far back recovery looks for the last five batches of each producer, beyond the one in the snapshot.
const PRODUCER_WINDOW_BYTES: u64 = 1024 * 1024;

/// Bytes looked at together to tell whether a file ends in zeros.
const ZEROS_WINDOW_BYTES: usize = 256 * 1024;

/// Bugs that the tests must catch: damage below the recovery point is cut away; epochs outlive the records they came with.
const PLANTED_CUT_ANYWHERE: bool = cfg!(corelog_planted = "16");
const PLANTED_KEEP_EPOCHS: bool = cfg!(corelog_planted = "17");

/// What the checkpoints of the data directory say of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryInput {
    /// Below it everything was flushed.
    pub recovery_point: Offset,
    /// Below it everything is deleted.
    pub log_start: Offset,
    /// Below it everything was durable, in the segments or in the journal, and is in the segments now.
    pub journaled_end: Offset,
    /// The last stop was clean: every file is complete.
    pub is_clean: bool,
}

/// What recovery found and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Bytes of batches that were walked over, and of those whose checksum was compared.
    pub walked_bytes: u64,
    pub checked_bytes: u64,
    /// Where the log was cut, and why.
    pub cut: Option<Damaged>,
    /// Segments whose indexes were made anew.
    pub indexes_rebuilt: usize,
    /// The log ended below its start: what was left of it is gone, it starts empty.
    pub was_reset: bool,
}

/// The topic id in a partition's directory. `None` if the file is missing or makes no sense.
pub fn read_topic_id(files: &mut dyn Files, directory: &Path) -> Result<Option<TopicId>, StorageError> {
    let path = directory.join(layout::PARTITION_METADATA);
    match files.read_all(&path) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(layout::parse_partition_metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::new("read partition metadata", path, error)),
    }
}

impl Log {
    /// Opens a partition's directory after a stop or a crash. Blocking: at boot or in a job.
    /// `progress` is called with the bytes read since the last call.
    /// After return everything that can be read is on the device, and opening again changes nothing.
    pub fn recover(
        files: &mut dyn Files,
        directory: &Path,
        partition: TopicPartition,
        config: LogConfig,
        input: RecoveryInput,
        now: Timestamp,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Log, RecoveryReport), RecoveryError> {
        let topic_id = read_topic_id(files, directory)?.unwrap_or(TopicId::ZERO);
        let mut recovery = Recovery {
            files,
            directory,
            config: &config,
            input,
            now,
            progress,
            report: RecoveryReport::default(),
            rebuilt: BTreeSet::new(),
            walked: WalkedHeaders::default(),
            is_directory_changed: false,
        };
        let log = Log::new(directory, partition, topic_id, config);
        let log = recovery.open(log)?;
        Ok((log, recovery.report))
    }
}

struct Recovery<'a> {
    files: &'a mut dyn Files,
    directory: &'a Path,
    config: &'a LogConfig,
    input: RecoveryInput,
    now: Timestamp,
    progress: &'a mut dyn FnMut(u64),
    report: RecoveryReport,
    /// Base offsets of segments whose indexes were made or completed by a walk.
    rebuilt: BTreeSet<Offset>,
    walked: WalkedHeaders,
    is_directory_changed: bool,
}

/// Offsets in the names of the files found.
#[derive(Default)]
struct Listing {
    logs: BTreeSet<Offset>,
    snapshots: BTreeSet<Offset>,
    others: Vec<(Offset, FileSuffix)>,
}

/// A segment after its walk.
struct Walked {
    segment: Segment,
    /// Why the walk ended before the file did.
    stop: Option<(Position, Damage)>,
}

impl Recovery<'_> {
    fn open(&mut self, mut log: Log) -> Result<Log, RecoveryError> {
        let mut listing = self.list()?;
        self.drop_deleted(&mut listing)?;
        let bases: Vec<Offset> = listing.logs.iter().copied().collect();
        let kept = match self.open_segments(&mut log, &bases) {
            Ok(kept) => kept,
            Err(error) => return Err(self.give_up(log, error)),
        };
        for base_offset in bases[kept..].iter().rev() {
            // Its snapshot goes with it, even if the log now ends where it began.
            listing.snapshots.remove(base_offset);
            self.remove_segment(*base_offset)?;
        }
        let log_end = log.segments.back().map_or(Offset::MIN, |s| s.end_offset);
        let must_hold = self.must_hold();
        if log_end < must_hold {
            let damage = Damage::Short { end_offset: log_end.max(0), expected: must_hold };
            let damaged = Damaged { path: self.directory.to_owned(), position: 0, damage };
            return Err(self.give_up(log, damaged.into()));
        }
        // Ends below its own start (records that were deleted before they were flushed), or was never begun.
        if log_end < self.input.log_start || log.segments.is_empty() {
            return self.reset(log, &listing);
        }
        self.finish_segments(&mut log)?;
        log.log_start = self.input.log_start.max(log.segments[0].base_offset);
        log.set_end(log_end);
        log.durable_log_start = self.input.log_start;
        let size_bytes = log.active().size_bytes;
        log.space.start_segment(size_bytes);
        if let Err(error) = self.restore_producers_and_epochs(&mut log, &listing) {
            return Err(self.give_up(log, error));
        }
        self.sync_directory()?;
        log.assert_offsets();
        Ok(log)
    }

    /// The partition is not served, and others are: nothing of it stays open.
    fn give_up(&mut self, log: Log, error: RecoveryError) -> RecoveryError {
        for file in log.segments.iter().filter_map(|segment| segment.file) {
            self.files.close(file);
        }
        error
    }

    /// The offset that the log must reach: what is deleted anyway need not be there.
    fn must_hold(&self) -> Offset {
        let durable_end = self.input.recovery_point.max(self.input.journaled_end);
        if durable_end > self.input.log_start && !PLANTED_CUT_ANYWHERE { durable_end } else { Offset::MIN }
    }

    fn list(&mut self) -> Result<Listing, StorageError> {
        let mut listing = Listing::default();
        for entry in self.files.list(self.directory).context("list partition directory", self.directory)? {
            if layout::is_leftover(&entry.name) {
                self.remove(&self.directory.join(&entry.name))?;
                continue;
            }
            match layout::parse_offset_file(&entry.name) {
                Some((offset, FileSuffix::Log)) => _ = listing.logs.insert(offset),
                Some((offset, FileSuffix::ProducerSnapshot)) => _ = listing.snapshots.insert(offset),
                Some(other) => listing.others.push(other),
                None => (),
            }
        }
        // Indexes whose log is gone: an unlink that a crash cut short.
        for (offset, suffix) in std::mem::take(&mut listing.others) {
            if !listing.logs.contains(&offset) {
                self.remove(&layout::offset_file(self.directory, offset, suffix))?;
            }
        }
        Ok(listing)
    }

    /// Segments wholly below the log start: their deletion was decided, the unlink did not happen or did not last.
    fn drop_deleted(&mut self, listing: &mut Listing) -> Result<(), StorageError> {
        loop {
            let mut bases = listing.logs.iter().copied();
            match (bases.next(), bases.next()) {
                (Some(first), Some(second)) if second <= self.input.log_start => {
                    listing.logs.remove(&first);
                    listing.snapshots.remove(&first);
                    self.remove_segment(first)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Opens segments until one is cut; returns how many belong to the log.
    fn open_segments(&mut self, log: &mut Log, bases: &[Offset]) -> Result<usize, RecoveryError> {
        let must_hold = self.must_hold();
        for (i, base_offset) in bases.iter().enumerate() {
            let next_base = bases.get(i + 1).copied();
            let path = layout::offset_file(self.directory, *base_offset, FileSuffix::Log);
            let damaged = |position, damage| Damaged { path: path.clone(), position, damage };
            if let Some(last) = log.segments.back()
                && last.end_offset > *base_offset
            {
                // No history of writes leaves this behind.
                let damage = Damage::Offset { expected: last.end_offset, found: *base_offset };
                return Err(damaged(0, damage).into());
            }
            let Walked { segment, mut stop } = self.open_segment(*base_offset, next_base)?;
            let end_offset = segment.end_offset;
            if let (None, Some(expected)) = (stop, next_base)
                && end_offset < expected
            {
                stop = Some((segment.size_bytes, Damage::Short { end_offset, expected }));
            }
            if stop.is_none() && next_base.is_none() && end_offset < must_hold {
                stop = Some((segment.size_bytes, Damage::Short { end_offset, expected: must_hold }));
            }
            let size_bytes = segment.size_bytes;
            log.segments.push_back(segment);
            let Some((position, damage)) = stop else { continue };
            if end_offset < must_hold {
                return Err(damaged(position, damage).into());
            }
            assert!(position == size_bytes, "the cut at {position} is not the end {size_bytes}");
            self.report.cut = Some(damaged(position, damage));
            return Ok(i + 1);
        }
        Ok(bases.len())
    }

    /// Opens one segment and walks over what its indexes do not vouch for.
    fn open_segment(
        &mut self,
        base_offset: Offset,
        next_base: Option<Offset>,
    ) -> Result<Walked, StorageError> {
        let path = layout::offset_file(self.directory, base_offset, FileSuffix::Log);
        let file = self.files.open(&path, OpenMode::Write).context("open segment", &path)?;
        let walked = self.load_and_walk(file, &path, base_offset, next_base);
        if walked.is_err() {
            self.files.close(file);
        }
        walked
    }

    fn load_and_walk(
        &mut self,
        file: File,
        path: &Path,
        base_offset: Offset,
        next_base: Option<Offset>,
    ) -> Result<Walked, StorageError> {
        let size = self.files.size(file).context("read segment size", path)?;
        let is_settled =
            self.input.is_clean || next_base.is_some_and(|next| next <= self.input.recovery_point);
        // A segment that may be torn had its indexes in memory when the process ended: they are made from the log.
        let loaded = if is_settled { self.load_indexes(base_offset, size)? } else { None };
        let start = loaded.as_ref().and_then(|indexes| indexes.offset.last());
        if let (Some(indexes), Some((anchor, position))) = (loaded, start)
            && let Some(walked) = self.walk(file, path, base_offset, indexes, (anchor, position), size)?
        {
            return Ok(walked);
        }
        let indexes = SegmentIndexes::new(base_offset);
        let walked = self.walk(file, path, base_offset, indexes, (base_offset, 0), size)?;
        Ok(walked.expect("a walk from the start needs no anchor"))
    }

    /// Indexes of a settled segment as far as they are sound; `None` if a file is missing.
    fn load_indexes(
        &mut self,
        base_offset: Offset,
        size: u64,
    ) -> Result<Option<SegmentIndexes>, StorageError> {
        let mut read = |suffix| {
            let path = layout::offset_file(self.directory, base_offset, suffix);
            match self.files.read_all(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(StorageError::new("read index", path, error)),
            }
        };
        let (Some(offsets), Some(times)) = (read(FileSuffix::OffsetIndex)?, read(FileSuffix::TimeIndex)?)
        else {
            return Ok(None);
        };
        let (offset, _) = OffsetIndex::decode(base_offset, &offsets, size);
        let (time, is_time_sound) = TimeIndex::decode(base_offset, &times);
        // The largest timestamp decides over deletion: a time index with a torn end is not taken for it.
        Ok(is_time_sound.then(|| SegmentIndexes::loaded(offset, time)))
    }

    /// Walks from `start` (an index entry, or the beginning) to the end of what is valid. `None`: the entry does not lead to
    /// its batch, so the indexes are worth nothing.
    fn walk(
        &mut self,
        file: File,
        path: &Path,
        base_offset: Offset,
        indexes: SegmentIndexes,
        start: (Offset, Position),
        size: u64,
    ) -> Result<Option<Walked>, StorageError> {
        let (anchor, start_position) = start;
        let mut segment = Segment::new(base_offset, self.now);
        segment.file = Some(file);
        let mut indexes = indexes;
        let entries_before = (indexes.offset.len(), indexes.time.len());
        let mut walk = Walk::new(file, start_position, size);
        let mut next_offset = (start_position == 0).then_some(base_offset);
        let mut reported = start_position;
        self.walked.begin_segment(base_offset, start_position == 0);
        let stop = loop {
            let position = walk.position();
            let depth = match next_offset {
                Some(next) if next >= self.input.recovery_point => Depth::Checked,
                _ => Depth::Header,
            };
            let batch = match walk.next(self.files, depth).context("read segment", path)? {
                Found::End => break None,
                Found::Invalid(_) if next_offset.is_none() => return Ok(None),
                Found::Invalid(invalid) => break Some((position, Damage::Batch(invalid))),
                Found::Batch(batch, _) => batch,
            };
            // A header that claims more than was flushed would make what follows it look torn.
            let (size, end_offset) = (batch.size_bytes(), batch.end_offset());
            let is_across = depth == Depth::Header && end_offset > self.input.recovery_point;
            let batch = if is_across {
                let bytes = walk.whole_batch(self.files, position, size).context("read segment", path)?;
                match BatchView::parse(bytes).and_then(|batch| batch.check_crc().map(|()| batch)) {
                    Ok(batch) => batch,
                    Err(_) if next_offset.is_none() => return Ok(None),
                    Err(invalid) => break Some((position, Damage::Batch(invalid))),
                }
            } else {
                batch
            };
            match next_offset {
                None if batch.last_offset() == anchor => (),
                None => return Ok(None),
                Some(next) if batch.base_offset() == next => {
                    indexes.note(&batch, position, self.config.index_interval_bytes);
                }
                Some(next) => {
                    break Some((position, Damage::Offset { expected: next, found: batch.base_offset() }));
                }
            }
            next_offset = Some(end_offset);
            self.walked.push(&batch);
            if position == 0 {
                segment.first_timestamp = Some(batch.max_timestamp());
            }
            self.report.walked_bytes += size as u64;
            if is_across || depth == Depth::Checked {
                self.report.checked_bytes += size as u64;
            }
            let walked = walk.position();
            if walked - reported >= PRODUCER_WINDOW_BYTES {
                (self.progress)(walked - reported);
                reported = walked;
            }
        };
        (self.progress)(walk.position() - reported);
        let end_offset = next_offset.unwrap_or(base_offset);
        let stop = match stop {
            // Space ahead of the batches. Whether one is missing, the caller knows.
            Some((position, Damage::Batch(_))) if self.is_zero(file, position, size, path)? => None,
            stop => stop,
        };
        // The walk has stepped over a batch that does not belong there.
        segment.size_bytes = stop.map_or(walk.position(), |(position, _)| position);
        segment.written_bytes = segment.size_bytes;
        segment.end_offset = end_offset;
        segment.largest_timestamp = indexes.largest.map(|l| l.timestamp);
        segment.flushed_end = segment.end_offset;
        if start_position == 0 || entries_before != (indexes.offset.len(), indexes.time.len()) {
            self.rebuilt.insert(base_offset);
        }
        segment.indexes = Some(Arc::new(indexes));
        if start_position > 0 {
            segment.first_timestamp = self.first_timestamp(file, path, size)?;
        }
        Ok(Some(Walked { segment, stop }))
    }

    fn first_timestamp(
        &mut self,
        file: File,
        path: &Path,
        size: u64,
    ) -> Result<Option<Timestamp>, StorageError> {
        match Walk::new(file, 0, size).next(self.files, Depth::Header).context("read segment", path)? {
            Found::Batch(batch, _) => Ok(Some(batch.max_timestamp())),
            Found::End | Found::Invalid(_) => Ok(None),
        }
    }

    /// Whether a file holds zeros alone from `position` to its end.
    fn is_zero(
        &mut self,
        file: File,
        position: Position,
        size: u64,
        path: &Path,
    ) -> Result<bool, StorageError> {
        let mut at = position;
        // Most files that end otherwise show it at once.
        let mut window = vec![0; BATCH_HEADER_BYTES];
        while at < size {
            let wanted = window.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
            let read = self.files.read_at(file, at, &mut window[..wanted]).context("read segment", path)?;
            if read == 0 || window[..read].iter().any(|byte| *byte != 0) {
                return Ok(read == 0);
            }
            at += read as u64;
            window.resize(ZEROS_WINDOW_BYTES, 0);
        }
        Ok(true)
    }

    /// Cuts what is behind the batches, makes everything durable, and leaves each segment in its state.
    fn finish_segments(&mut self, log: &mut Log) -> Result<(), StorageError> {
        let last = log.segments.len() - 1;
        for (i, segment) in log.segments.iter_mut().enumerate() {
            let path = layout::offset_file(self.directory, segment.base_offset, FileSuffix::Log);
            let file = segment.file.expect("opened by open_segment");
            // A segment that was rolled and not sealed yet may have zeros behind its batches.
            let is_cut = self.files.size(file).context("read segment size", &path)? > segment.size_bytes;
            if is_cut {
                self.files.set_size(file, segment.size_bytes).context("cut segment", &path)?;
            }
            // Valid bytes above the recovery point may be in the page cache only.
            if is_cut || !self.input.is_clean && segment.end_offset > self.input.recovery_point {
                self.files.sync(file).context("flush segment", &path)?;
            }
            // Nothing in it counted as flushed, so its name may be in the page cache only: a process that was killed between
            // the rename and the flush of the folder leaves it like that. What is appended from now on must not hang on it.
            self.is_directory_changed |=
                !self.input.is_clean && segment.base_offset >= self.input.recovery_point;
            let is_rebuilt = self.rebuilt.contains(&segment.base_offset);
            self.report.indexes_rebuilt += usize::from(is_rebuilt && !segment.is_empty());
            if i == last {
                continue;
            }
            segment.indexes_mut().close();
            let indexes = segment.indexes.take().expect("just closed");
            if is_rebuilt {
                segment::write_indexes(self.files, self.directory, segment.base_offset, &indexes)?;
                self.is_directory_changed = true;
            }
            segment.state = SegmentState::Sealed;
            self.files.close(file);
            segment.file = None;
        }
        Ok(())
    }

    /// Nothing of the log survives above its start.
    fn reset(&mut self, mut log: Log, listing: &Listing) -> Result<Log, RecoveryError> {
        for segment in std::mem::take(&mut log.segments).into_iter().rev() {
            if let Some(file) = segment.file {
                self.files.close(file);
            }
            self.remove_segment(segment.base_offset)?;
            self.report.was_reset = true;
        }
        for offset in &listing.snapshots {
            self.remove(&layout::offset_file(self.directory, *offset, FileSuffix::ProducerSnapshot))?;
        }
        self.write_epochs(&LeaderEpochCache::default())?;
        Ok(log.with_first_segment(self.files, self.input.log_start, self.now)?)
    }

    /// Producer state from the newest snapshot and a replay of what came after; epochs from their file and the same
    /// replay.
    fn restore_producers_and_epochs(
        &mut self,
        log: &mut Log,
        listing: &Listing,
    ) -> Result<(), RecoveryError> {
        let (log_end, first_base) = (log.log_end, log.segments[0].base_offset);
        let (snapshot_offset, snapshot) = self.newest_snapshot(listing, first_base, log_end)?;
        log.producers = snapshot;
        let stored = self.read_epochs()?;
        log.epochs = stored.clone().unwrap_or_default();
        if !PLANTED_KEEP_EPOCHS {
            log.epochs.truncate_from_end(log_end);
        }

        let mut start = snapshot_offset.min(log_end);
        if !log.producers.is_empty() {
            start = start.min(self.window_start(log));
        }
        if !self.input.is_clean {
            start = start.min(self.input.recovery_point);
        }
        if stored.is_none() {
            start = first_base;
        }
        let mut window = ProducerState::default();
        if self.replay(log, start, snapshot_offset, &mut window)?.is_some() {
            // The stored epochs contradict the batches; the batches are right.
            log.epochs = LeaderEpochCache::default();
            (window, log.producers) = (ProducerState::default(), ProducerState::default());
            if let Some(damaged) = self.replay(log, first_base, first_base, &mut window)? {
                return Err(damaged.into());
            }
        }
        log.producers.complete_from(&window);
        log.producers.expire(self.now, self.config.producer_id_expiration_ms);
        log.epochs.truncate_from_start(log.log_start);
        if !PLANTED_KEEP_EPOCHS {
            log.epochs.truncate_from_end(log_end);
        }

        if stored.as_ref() != Some(&log.epochs) {
            let path = self.directory.join(layout::LEADER_EPOCHS);
            self.files
                .replace(&path, log.epochs.encode().as_bytes())
                .context("write leader epochs", &path)?;
        }
        // Kept: one snapshot per segment, and the newest, which saves the next start a replay.
        for offset in &listing.snapshots {
            let is_segment = log.segments.iter().any(|s| s.base_offset == *offset);
            if !is_segment && *offset != snapshot_offset {
                self.remove(&layout::offset_file(self.directory, *offset, FileSuffix::ProducerSnapshot))?;
            }
        }
        Ok(())
    }

    /// The newest snapshot that can be read, and the offset that it describes; nothing known at the log's first offset.
    fn newest_snapshot(
        &mut self,
        listing: &Listing,
        first_base: Offset,
        log_end: Offset,
    ) -> Result<(Offset, ProducerState), StorageError> {
        for offset in listing.snapshots.range(first_base..=log_end).rev() {
            let path = layout::offset_file(self.directory, *offset, FileSuffix::ProducerSnapshot);
            let bytes = self.files.read_all(&path).context("read producer snapshot", &path)?;
            if let Ok(state) = ProducerState::decode_snapshot(&bytes) {
                return Ok((*offset, state));
            }
        }
        Ok((first_base, ProducerState::default()))
    }

    fn write_epochs(&mut self, epochs: &LeaderEpochCache) -> Result<(), StorageError> {
        let path = self.directory.join(layout::LEADER_EPOCHS);
        self.files.replace(&path, epochs.encode().as_bytes()).context("write leader epochs", &path)
    }

    fn read_epochs(&mut self) -> Result<Option<LeaderEpochCache>, StorageError> {
        let path = self.directory.join(layout::LEADER_EPOCHS);
        match self.files.read_all(&path) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(LeaderEpochCache::parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::new("read leader epochs", path, error)),
        }
    }

    /// An offset about `PRODUCER_WINDOW_BYTES` before the end: inside the active segment, or where older segments begin
    /// that fit in the window whole.
    fn window_start(&self, log: &Log) -> Offset {
        let active = log.active();
        let indexes = active.indexes.as_ref().expect("an active segment has its indexes in memory");
        let Some(mut left) = PRODUCER_WINDOW_BYTES.checked_sub(active.size_bytes) else {
            return indexes.offset.offset_at(active.size_bytes - PRODUCER_WINDOW_BYTES);
        };
        let mut start = active.base_offset;
        for segment in log.segments.iter().rev().skip(1) {
            match left.checked_sub(segment.size_bytes) {
                Some(rest) => (left, start) = (rest, segment.base_offset),
                None => break,
            }
        }
        start
    }

    /// Replays batch headers from the one with `start`. Returns the place of a batch that the epochs known so far contradict;
    /// no checksum covers a batch's epoch.
    /// Errors: Damaged, in a segment that was flushed and has not been walked before.
    fn replay(
        &mut self,
        log: &mut Log,
        start: Offset,
        snapshot_offset: Offset,
        window: &mut ProducerState,
    ) -> Result<Option<Damaged>, RecoveryError> {
        let Log { segments, producers, epochs, .. } = log;
        let mut replay = Replay { producers, epochs, window, snapshot_offset, position: 0 };
        for segment in segments.iter().filter(|s| s.end_offset > start) {
            let path = layout::offset_file(self.directory, segment.base_offset, FileSuffix::Log);
            let contradiction = match self.walked.segment(segment.base_offset, segment.end_offset) {
                Some(mut batches) => {
                    replay.position = 0;
                    batches.find_map(|batch| replay.take(&batch))
                }
                None => replay_segment(self.files, segment, &path, start, &mut replay)?,
            };
            if let Some(damage) = contradiction {
                return Ok(Some(Damaged { path, position: replay.position, damage }));
            }
        }
        Ok(None)
    }

    fn remove_segment(&mut self, base_offset: Offset) -> Result<(), StorageError> {
        // The log last: while it is there, the others have an owner.
        for suffix in FileSuffix::ALL.into_iter().rev() {
            self.remove(&layout::offset_file(self.directory, base_offset, suffix))?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<(), StorageError> {
        match self.files.remove_file(path) {
            Ok(()) => self.is_directory_changed = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(StorageError::new("remove file", path, error)),
        }
        Ok(())
    }

    /// A removed segment that came back after a crash would meet offsets that were given again.
    fn sync_directory(&mut self) -> Result<(), StorageError> {
        if self.is_directory_changed {
            self.files.sync_directory(self.directory).context("sync partition directory", self.directory)?;
        }
        Ok(())
    }
}

/// Reads the headers of a segment that was not walked as a whole.
fn replay_segment(
    files: &mut dyn Files,
    segment: &Segment,
    path: &Path,
    start: Offset,
    replay: &mut Replay<'_>,
) -> Result<Option<Damage>, RecoveryError> {
    let position = segment.indexes.as_ref().map_or(0, |indexes| indexes.offset.position_before(start));
    let file = match segment.file {
        Some(file) => file,
        None => files.open(path, OpenMode::Read).context("open segment", path)?,
    };
    let mut walk = Walk::new(file, position, segment.size_bytes);
    let result = loop {
        replay.position = walk.position();
        match walk.next(files, Depth::Header).context("read segment", path) {
            Ok(Found::Batch(batch, position)) => {
                replay.position = position;
                if let Some(damage) = replay.take(&batch) {
                    break Ok(Some(damage));
                }
            }
            Ok(Found::End) => break Ok(None),
            Ok(Found::Invalid(invalid)) => {
                let damage = Damage::Batch(invalid);
                break Err(Damaged { path: path.to_owned(), position: replay.position, damage }.into());
            }
            Err(error) => break Err(error.into()),
        }
    };
    if segment.file.is_none() {
        files.close(file);
    }
    result
}

/// What a replay of batches makes: who produced, and under which epochs.
struct Replay<'a> {
    producers: &'a mut ProducerState,
    epochs: &'a mut LeaderEpochCache,
    window: &'a mut ProducerState,
    /// Below it the producers are known from a snapshot.
    snapshot_offset: Offset,
    /// Of the next batch.
    position: Position,
}

impl Replay<'_> {
    /// Takes note of the next batch, unless the epochs known so far contradict it.
    fn take(&mut self, batch: &BatchView<'_>) -> Option<Damage> {
        if self.epochs.contradicts(batch.leader_epoch(), batch.base_offset()) {
            let expected = self.epochs.latest().map_or(LeaderEpoch(0), |latest| latest.epoch);
            return Some(Damage::Epoch { expected, found: batch.leader_epoch() });
        }
        if batch.base_offset() >= self.snapshot_offset {
            self.producers.replay(batch);
        }
        self.window.replay(batch);
        self.epochs.assign(batch.leader_epoch(), batch.base_offset());
        self.position += batch.size_bytes() as u64;
        None
    }
}
