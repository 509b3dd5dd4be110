//! From one segment to the next, off the commit path.
//!
//! At a roll the spare becomes the active segment and takes bytes into the tail at once. Jobs then give it its name and make
//! the name durable, finish the segment before it (indexes, producer snapshot), save leader epochs and unlink what retention
//! took. The rolled segment goes `Draining` -> `Sealing` -> `Sealed`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::{Monotonic, Offset, Timestamp};
use crate::reactor::{File, Files, Io};

use super::direct::DirectFile;
use super::error::{Context, StorageError};
use super::layout::{self, FileSuffix};
use super::segment::{self, Loans, Segment, SegmentState};
use super::space::Spare;
use super::write_path::{Finished, JobResult, NO_SPACE_PAUSE, Tag, is_shortage, job};
use super::{Log, Now};

/// What a rolled segment still needs.
pub(super) struct Seal {
    pub segment: Offset,
    /// Producer state at the segment's end, taken at the roll.
    pub snapshot: Arc<Vec<u8>>,
}

/// A segment that left the log and waits for its files to be unlinked.
pub(super) struct Condemned {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub file: Option<File>,
    pub loans: Loans,
}

/// Ends a rolled segment: exact file, indexes, and the producer state that the next segment starts from.
fn seal(
    files: &mut dyn Files,
    directory: &Path,
    segment: Offset,
    end: (File, u64, Offset),
    indexes: &segment::SegmentIndexes,
    snapshot: &[u8],
) -> JobResult {
    let (file, size_bytes, end_offset) = end;
    let path = layout::offset_file(directory, segment, FileSuffix::Log);
    // Frees what was reserved and not used, zeros and the padding of a last block too.
    files.set_size(file, size_bytes).context("trim segment", &path)?;
    segment::write_indexes(files, directory, segment, indexes)?;
    segment::write_durable_file(
        files,
        &layout::offset_file(directory, end_offset, FileSuffix::ProducerSnapshot),
        snapshot,
    )?;
    files.sync_directory(directory).context("sync partition directory", directory)?;
    Ok(Finished::Sealed)
}

fn unlink(files: &mut dyn Files, directory: &Path, base_offsets: &[Offset]) -> JobResult {
    for base_offset in base_offsets {
        // The log last: while it is there, recovery knows what the others belong to.
        for suffix in FileSuffix::ALL.into_iter().rev() {
            let path = layout::offset_file(directory, *base_offset, suffix);
            match files.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::new("remove segment file", path, error));
                }
                _ => (),
            }
        }
    }
    Ok(Finished::Unlinked)
}

impl Log {
    /// Retention asks for a roll without an append.
    pub(super) fn roll_when_wanted(&mut self, now: Now) -> bool {
        if !self.is_roll_wanted {
            return true;
        }
        match self.spare {
            _ if self.active().is_empty() => self.is_roll_wanted = false,
            Spare::Ready { .. } if self.active().is_named => self.roll(now.wall),
            Spare::None => self.spare = Spare::Wanted,
            Spare::Refused { until } if now.monotonic >= until => self.spare = Spare::Wanted,
            Spare::Ready { .. } | Spare::Wanted | Spare::Making | Spare::Refused { .. } => (),
        }
        true
    }

    /// The spare becomes the active segment. Its bytes enter the tail at once; its name comes from a job.
    pub(super) fn roll(&mut self, now: Timestamp) {
        let Spare::Ready { file, direct, reserved_end } = std::mem::replace(&mut self.spare, Spare::None)
        else {
            panic!("roll of {} without a spare", self.partition);
        };
        let base_offset = self.log_end;
        self.tail.close_piece();
        let snapshot = Arc::new(self.producers.encode_snapshot());
        let rolled = self.active_mut();
        assert!(!rolled.is_empty() && rolled.is_named, "segment {} cannot roll", rolled.base_offset);
        rolled.indexes_mut().close();
        rolled.advance(SegmentState::Draining);
        let segment = rolled.base_offset;
        self.in_flight.seals.push_back(Seal { segment, snapshot });

        let mut active = Segment::new(base_offset, now);
        active.file = Some(file);
        active.direct = direct.map(|file| DirectFile::new(Some(file), self.wants_padding()));
        active.is_named = false;
        active.is_name_durable = false;
        self.segments.push_back(active);
        self.space.start_segment(reserved_end);
        self.is_roll_wanted = false;
        self.assert_offsets();
    }

    pub(super) fn start_naming(&mut self, io: &mut dyn Io) -> bool {
        if self.active().is_named || self.in_flight.is_naming {
            return true;
        }
        let (directory, base_offset) = (self.directory.clone(), self.active().base_offset);
        let name = job(move |files| {
            let path = layout::offset_file(&directory, base_offset, FileSuffix::Log);
            files.rename(&directory.join(layout::NEXT_SEGMENT), &path).context("name segment", &path)?;
            Ok(Finished::Named)
        });
        if !self.submit(io, Tag::Name, name) {
            return false;
        }
        self.in_flight.is_naming = true;
        true
    }

    /// The new name survives a power loss only once its directory is flushed; writes need not wait for that, acks do.
    pub(super) fn start_directory_sync(&mut self, io: &mut dyn Io) -> bool {
        if self.in_flight.directory.is_some() {
            return true;
        }
        let Some(newest) = self.segments.iter().rev().find(|s| s.is_named) else { return true };
        if newest.is_name_durable {
            return true;
        }
        let (directory, newest) = (self.directory.clone(), newest.base_offset);
        let sync = job(move |files| {
            files.sync_directory(&directory).context("sync partition directory", &directory)?;
            Ok(Finished::DirectorySynced)
        });
        if !self.submit(io, Tag::Directory, sync) {
            return false;
        }
        self.in_flight.directory = Some(newest);
        true
    }

    pub(super) fn start_seal(&mut self, io: &mut dyn Io, now: Monotonic) -> bool {
        if self.in_flight.is_sealing || now < self.in_flight.seal_not_before {
            return true;
        }
        let Some(Seal { segment, snapshot }) = self.in_flight.seals.front() else { return true };
        let (base_offset, snapshot) = (*segment, snapshot.clone());
        let Some(rolled) = self.segment_mut(base_offset) else {
            // Retention took it first: its snapshot is of no use without it.
            self.in_flight.seals.pop_front();
            return true;
        };
        if rolled.flushed_end < rolled.end_offset || !rolled.is_name_durable {
            return true;
        }
        let end = (rolled.file.expect("an unsealed segment is open"), rolled.size_bytes, rolled.end_offset);
        let indexes = rolled.indexes.clone().expect("an unsealed segment has its indexes in memory");
        let directory = self.directory.clone();
        if !self.submit(
            io,
            Tag::Seal,
            job(move |files| seal(files, &directory, base_offset, end, &indexes, &snapshot)),
        ) {
            return false;
        }
        let rolled = self.segment_mut(base_offset).expect("found above");
        if rolled.state == SegmentState::Draining {
            rolled.advance(SegmentState::Sealing);
        }
        self.in_flight.is_sealing = true;
        true
    }

    pub(super) fn start_saving_epochs(&mut self, io: &mut dyn Io) -> bool {
        if self.unsaved_epoch_start.is_none() || self.in_flight.epochs_below.is_some() {
            return true;
        }
        // Should the epoch's first record be lost in a crash, recovery cuts the epochs with the log.
        let (path, text) = (self.directory.join(layout::LEADER_EPOCHS), self.epochs.encode());
        let save = job(move |files| {
            files.replace(&path, text.as_bytes()).context("write leader epochs", &path)?;
            Ok(Finished::EpochsSaved)
        });
        if !self.submit(io, Tag::Epochs, save) {
            return false;
        }
        self.in_flight.epochs_below = Some(self.log_end);
        true
    }

    pub(super) fn start_unlinking(&mut self, io: &mut dyn Io) -> bool {
        if self.in_flight.unlinking.is_some() {
            return true;
        }
        let count = self.condemned.iter().take_while(|c| c.end_offset <= self.durable_log_start).count();
        if count == 0 {
            return true;
        }
        let base_offsets: Vec<Offset> = self.condemned[..count].iter().map(|c| c.base_offset).collect();
        let directory = self.directory.clone();
        if !self.submit(io, Tag::Unlink, job(move |files| unlink(files, &directory, &base_offsets))) {
            return false;
        }
        for condemned in &mut self.condemned[..count] {
            if let Some(file) = condemned.file.take() {
                self.lent.push((file, std::mem::take(&mut condemned.loans)));
            }
        }
        self.close_returned(io);
        self.in_flight.unlinking = Some(count);
        true
    }

    pub(super) fn complete_job(
        &mut self,
        io: &mut dyn Io,
        tag: Tag,
        result: JobResult,
        now: Monotonic,
    ) -> Result<(), StorageError> {
        match tag {
            Tag::Spare => self.complete_spare(io, result, now),
            Tag::Name => {
                self.in_flight.is_naming = false;
                result?;
                self.active_mut().is_named = true;
                Ok(())
            }
            Tag::Directory => {
                let newest = self.in_flight.directory.take().expect("a directory was being flushed");
                result?;
                for segment in self.segments.iter_mut().rev().take_while(|s| s.state != SegmentState::Sealed)
                {
                    segment.is_name_durable |= segment.base_offset <= newest;
                }
                if self.offline.is_none() {
                    self.advance_flushed();
                    self.commit();
                }
                Ok(())
            }
            Tag::Seal => self.complete_seal(io, result, now),
            Tag::Zero => self.complete_zeros(io, result, now),
            Tag::Epochs => {
                let below = self.in_flight.epochs_below.take().expect("epochs were being saved");
                match result {
                    Ok(_) => {
                        let unsaved = self
                            .epochs
                            .entries()
                            .iter()
                            .map(|e| e.start_offset)
                            .find(|start| *start >= below);
                        self.unsaved_epoch_start = unsaved;
                        Ok(())
                    }
                    // Tried again with the next `drive`; until then the recovery point stays below.
                    Err(error) if is_shortage(&error) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Tag::Unlink => {
                let count = self.in_flight.unlinking.take().expect("segments were being removed");
                self.condemned.drain(..count);
                result.map(|_| ())
            }
            Tag::Write | Tag::Direct | Tag::Sync | Tag::Reserve => panic!("{tag:?} is no job"),
        }
    }

    fn complete_seal(
        &mut self,
        io: &mut dyn Io,
        result: JobResult,
        now: Monotonic,
    ) -> Result<(), StorageError> {
        self.in_flight.is_sealing = false;
        match result {
            Ok(_) => {
                let Seal { segment, .. } =
                    self.in_flight.seals.pop_front().expect("a segment was being sealed");
                self.in_flight.seal_not_before = Monotonic::default();
                if let Some(sealed) = self.segment_mut(segment) {
                    sealed.advance(SegmentState::Sealed);
                    sealed.indexes = None;
                    if let Some(file) = sealed.direct.take().and_then(|direct| direct.file) {
                        io.close_file(file);
                    }
                    self.opened.push(segment);
                }
                Ok(())
            }
            // The indexes stay in memory until there is room for them.
            Err(error) if is_shortage(&error) => {
                self.in_flight.seal_not_before = now + NO_SPACE_PAUSE;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
