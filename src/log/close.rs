//! The ends of a log's life in memory: quiet, retired, or closed by a clean stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Monotonic, Offset};
use crate::reactor::{File, Files, Io};

use super::appender::Piece;
use super::direct::{DirectFile, last_blocks};
use super::error::{Context, StorageError};
use super::layout::{self, FileSuffix};
use super::segment::{self, Segment, SegmentState};
use super::space::Spare;
use super::{Log, Now, TailCache};

/// What became of a wish to close the file of an old segment.
pub enum OldFile {
    Closed,
    NotOpen,
    /// It was read later than was known.
    ReadAt(Monotonic),
    /// It is being read, or about to be.
    Lent,
}

impl Log {
    /// Gives back what a quiet log does not need: descriptors of old segments, an idle block, silent producers.
    pub fn tidy(&mut self, io: &mut dyn Io, cache: &TailCache, now: Now, idle: Duration) {
        for segment in &mut self.segments {
            let is_idle = segment.state == SegmentState::Sealed
                && now.monotonic.since(segment.last_read) > idle
                && !segment.loans.is_lent();
            if let Some(file) = segment.file.take_if(|_| is_idle) {
                io.close_file(file);
            }
        }
        self.close_returned(io);
        self.tail.release_idle_block(now.monotonic, idle);
        self.cached.retain(|chunk| cache.get(chunk.chunk).is_some());
        self.producers.expire(now.wall, self.config.producer_id_expiration_ms);
    }

    /// Sealed segments whose files were opened, or left open, since the last call, and when each was last read.
    pub fn take_opened(&mut self) -> Vec<(Offset, Monotonic)> {
        let opened = std::mem::take(&mut self.opened);
        let last_read = |segment| self.segment_mut(segment).map(|found| (segment, found.last_read));
        opened.into_iter().filter_map(last_read).collect()
    }

    pub fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// The file of the segment with this offset is open.
    #[cfg(test)]
    pub fn is_open_at(&self, offset: Offset) -> bool {
        self.segments.iter().any(|s| s.base_offset <= offset && offset < s.end_offset && s.file.is_some())
    }

    /// Closes the file of a sealed segment, unless it was read after `noted` or is about to be.
    pub fn close_old_file(&mut self, io: &mut dyn Io, segment: Offset, noted: Monotonic) -> OldFile {
        let Some(segment) = self.segment_mut(segment).filter(|s| s.state == SegmentState::Sealed) else {
            return OldFile::NotOpen;
        };
        if segment.file.is_none() {
            return OldFile::NotOpen;
        }
        if segment.loans.is_lent() {
            return OldFile::Lent;
        }
        if segment.last_read > noted {
            return OldFile::ReadAt(segment.last_read);
        }
        if let Some(file) = segment.file.take() {
            io.close_file(file);
        }
        OldFile::Closed
    }

    /// Takes nothing any more, for a partition that is being deleted. Completions must still be given to `complete`
    /// until the log is quiet; then `close_files`.
    pub fn retire(&mut self) {
        self.is_retired = true;
        let error = io::Error::from(io::ErrorKind::NotFound);
        self.offline.get_or_insert_with(|| {
            Arc::new(StorageError::new("use a deleted partition", &*self.directory, error))
        });
    }

    /// Closes every descriptor of a log that is retired or offline. Panics if something is in flight: a job may still use
    /// a descriptor.
    pub fn close_files(mut self, io: &mut dyn Io) {
        assert!(!self.is_working(), "{} is closed with operations in flight", self.partition);
        self.take_files().for_each(|file| io.close_file(file));
    }

    /// Closes the files of segments that are gone, once nobody plans to read them.
    pub(super) fn close_returned(&mut self, io: &mut dyn Io) {
        self.lent.retain(|(file, loans)| {
            // Only one holder is left: this list.
            let is_lent = loans.is_lent();
            if !is_lent {
                io.close_file(*file);
            }
            is_lent
        });
    }

    pub(super) fn take_files(&mut self) -> impl Iterator<Item = File> {
        let spare = match std::mem::replace(&mut self.spare, Spare::None) {
            Spare::Ready { file, direct, .. } => [Some(file), direct],
            Spare::None | Spare::Wanted | Spare::Making | Spare::Refused { .. } => [None, None],
        };
        let files_of = |s: &mut Segment| [s.file.take(), s.direct.take().and_then(|direct| direct.file)];
        let segments = self.segments.iter_mut().flat_map(files_of).flatten();
        segments
            .chain(self.condemned.iter_mut().filter_map(|c| c.file.take()))
            .chain(self.lent.drain(..).map(|(file, _)| file))
            .chain(spare.into_iter().flatten())
    }

    /// A clean stop: writes what is left, trims the files, writes indexes, epochs and producer state, and makes it all
    /// durable. Returns the recovery point for the checkpoint file. Blocking, after the shard has stopped serving.
    /// Panics if something is in flight.
    pub fn close(self, files: &mut dyn Files) -> Result<Offset, StorageError> {
        let directory = self.directory.clone();
        let recovery_point = self.close_unsynced(files)?;
        files.sync_file_system(&directory).context("sync file system", &directory)?;
        Ok(recovery_point)
    }

    /// As `close`, and nothing is durable before the caller has synced the file system: one `syncfs` for a thousand logs
    /// takes milliseconds, their files one by one took 20 s.
    pub fn close_unsynced(mut self, files: &mut dyn Files) -> Result<Offset, StorageError> {
        assert!(!self.is_working(), "{} is closed with operations in flight", self.partition);
        let result = if self.offline.is_none() { self.write_out(files) } else { Ok(()) };
        self.take_files().for_each(|file| files.close(file));
        result.map(|()| if self.offline.is_none() { self.log_end } else { self.recovery_point() })
    }

    /// Writes the last pieces of one segment, in the way that its other bytes were written.
    fn write_pieces(&mut self, files: &mut dyn Files, pieces: &[Piece]) -> Result<(), StorageError> {
        let path = self.log_path(pieces[0].segment);
        let segment = self.segment_mut(pieces[0].segment).expect("unwritten bytes belong to a segment");
        assert!(segment.written_bytes == pieces[0].position, "a hole before {}", pieces[0].base_offset);
        segment.written_bytes = segment.size_bytes;
        if let Some(DirectFile { file, blocks_end, .. }) = &mut segment.direct {
            // Padded; the file is trimmed afterwards.
            let blocks = last_blocks(pieces.iter(), *blocks_end, segment.size_bytes);
            let file = file.expect("bytes enter the tail once there are zeros for them");
            files.write_at(file, *blocks_end, blocks.as_ref()).context("write segment", &path)?;
            *blocks_end = segment.size_bytes;
            return Ok(());
        }
        let file = segment.file.expect("and the segment is open");
        for piece in pieces {
            files.write_at(file, piece.position, &piece.bytes).context("write segment", &path)?;
        }
        Ok(())
    }

    /// Writes the last block of a direct segment: all that is committed is in the segments then.
    pub(super) fn finish_direct(&mut self, files: &mut dyn Files) -> Result<(), StorageError> {
        let pieces = std::mem::take(&mut self.unfinished.pieces);
        if !pieces.is_empty() {
            self.write_pieces(files, &pieces)?;
            self.stored = self.written;
        }
        Ok(())
    }

    fn write_out(&mut self, files: &mut dyn Files) -> Result<(), StorageError> {
        let directory = self.directory.clone();
        if !self.active().is_named {
            let path = self.log_path(self.active().base_offset);
            files.rename(&directory.join(layout::NEXT_SEGMENT), &path).context("name segment", &path)?;
            self.active_mut().is_named = true;
        }
        let mut pieces = std::mem::take(&mut self.unfinished.pieces);
        pieces.extend(std::mem::take(&mut self.unstored.pieces));
        loop {
            let count = self.tail.group().len();
            if count == 0 {
                break;
            }
            pieces.append(&mut self.tail.take(count));
        }
        for of_segment in pieces.chunk_by(|a, b| a.segment == b.segment) {
            self.write_pieces(files, of_segment)?;
        }
        if let Spare::Ready { .. } = self.spare {
            let path = directory.join(layout::NEXT_SEGMENT);
            files.remove_file(&path).context("remove spare segment", &path)?;
        }
        let active = self.active_mut();
        active.indexes_mut().close();
        for segment in &self.segments {
            let (Some(indexes), Some(file)) = (&segment.indexes, segment.file) else { continue };
            let path = layout::offset_file(&directory, segment.base_offset, FileSuffix::Log);
            files.set_size(file, segment.size_bytes).context("trim segment", &path)?;
            segment::write_indexes_unsynced(files, &directory, segment.base_offset, indexes)?;
        }
        for seal in &self.in_flight.seals {
            let Some(segment) = self.segments.iter().find(|s| s.base_offset == seal.segment) else {
                continue;
            };
            let path = layout::offset_file(&directory, segment.end_offset, FileSuffix::ProducerSnapshot);
            segment::write_file(files, &path, &seal.snapshot)?;
        }
        let path = layout::offset_file(&directory, self.log_end, FileSuffix::ProducerSnapshot);
        segment::write_file(files, &path, &self.producers.encode_snapshot())?;
        let path = directory.join(layout::LEADER_EPOCHS);
        segment::write_file(files, &path, self.epochs.encode().as_bytes())
    }
}
