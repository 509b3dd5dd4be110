//! Space on the file system, taken before bytes need it: reservations and zeros ahead of the tail, and the next segment's file.
//!
//! A batch enters the tail only into a reserved range, so a full disk is found here, where it costs a refused append, and
//! never by a write, where it would cost the log.
//!
//! A direct segment gets zeros: its whole blocks are written where nothing was, and a flush that finds a hole, or space that is
//! only reserved, costs a second one. So does a cached segment whose log has bypassed the journal. They are written by a job, a
//! step at a time, always beyond what the tail may use: they never meet a batch. Where groups are so large that writing twice
//! costs more than that flush, or zeros come too late again and again, the space is only reserved.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::model::{Monotonic, Offset, Position};
use crate::reactor::{DIRECT_BLOCK_BYTES, File, Files, Io, OpenMode, Operation, Outcome};

use super::Log;
use super::direct::MayBeDirect;
use super::error::{Context, StorageError, is_no_space};
use super::layout;
use super::segment::Segment;
use super::write_path::{Finished, JobResult, NO_SPACE_PAUSE, Tag, is_shortage, job};
use super::zeros::write_zeros;

/// Reservations follow the partition's rate between these two; a step is what one reservation adds. They have the file for
/// themselves: `fallocate` waits for direct writes in flight and keeps the next ones out, so a fast log wants few of them. At
/// 400 MB/s steps of 4 MiB made a tenth of the batches wait, for 6 ms at p99.
const RESERVE_BYTES_MIN: u64 = 64 * 1024;
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// No step has more than this part of a segment, unless that is less than the largest step of zeros.
const SEGMENT_PART: u64 = 16;

/// Zeros are written, so more of them at once delay what is written beside.
const ZEROS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Batches that waited for so many steps of zeros, more than came in time: the disk has no time for both.
const LATE_ZEROS_MAX: u8 = 4;

/// A step that lasted less than this was too small.
const RESERVE_LAST_TIME: Duration = Duration::from_secs(1);

/// Space of the active segment beyond its bytes, reserved or zeroed.
#[derive(Default)]
pub(super) struct Space {
    reserved_end: Position,
    step_bytes: u64,
    asked: Monotonic,
    state: SpaceState,
    /// The file system cannot reserve (EOPNOTSUPP): a full disk is then found by the write, and is final.
    is_unsupported: bool,
    /// The log has written past the journal, with a flush of its own: its space is zeroed.
    pub has_bypassed: bool,
    /// A batch waits for the step that is being made, which is as large as such a step can be.
    is_waited_for: bool,
    /// Steps of zeros that were waited for, less those that were not.
    late_zeros: u8,
}

/// How space is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SpaceKind {
    Reserved,
    Zeros,
    /// As `Reserved`, and the file is opened past the page cache.
    DirectReserved,
    /// As `Zeros`, past the page cache.
    DirectZeros,
}

impl SpaceKind {
    fn is_direct(self) -> bool {
        matches!(self, SpaceKind::DirectReserved | SpaceKind::DirectZeros)
    }

    fn is_zeroed(self) -> bool {
        matches!(self, SpaceKind::Zeros | SpaceKind::DirectZeros)
    }

    fn step_bytes_max(self, segment_bytes: u64) -> u64 {
        match self {
            SpaceKind::Zeros | SpaceKind::DirectZeros => ZEROS_BYTES_MAX,
            SpaceKind::Reserved | SpaceKind::DirectReserved => {
                (segment_bytes / SEGMENT_PART).clamp(ZEROS_BYTES_MAX, RESERVE_BYTES_MAX)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum SpaceState {
    #[default]
    Idle,
    Wanted {
        end: Position,
    },
    Reserving {
        segment: Offset,
        start: Position,
        end: Position,
        kind: SpaceKind,
    },
    Refused {
        until: Monotonic,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SpaceAnswer {
    Yes,
    Wait,
    Refused,
}

/// The file of the next segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spare {
    None,
    Wanted,
    Making,
    Ready { file: File, direct: Option<File>, reserved_end: Position },
    Refused { until: Monotonic },
}

impl Space {
    /// Whether bytes up to `end` have a place. Asks for more well before the last reservation is used up.
    fn take(&mut self, end: Position, segment_bytes: u64, kind: SpaceKind, now: Monotonic) -> SpaceAnswer {
        if self.is_unsupported && !kind.is_direct() {
            return SpaceAnswer::Yes;
        }
        let is_ample =
            end + self.step_bytes / 2 <= self.reserved_end || self.reserved_end >= segment_bytes.max(end);
        let may_ask = match self.state {
            SpaceState::Idle => true,
            SpaceState::Refused { until } => now >= until,
            SpaceState::Wanted { .. } | SpaceState::Reserving { .. } => false,
        };
        if !is_ample && may_ask {
            let is_quick = self.step_bytes > 0 && now.since(self.asked) < RESERVE_LAST_TIME;
            let step = if is_quick { self.step_bytes * 2 } else { self.step_bytes / 2 };
            self.step_bytes = step.clamp(RESERVE_BYTES_MIN, kind.step_bytes_max(segment_bytes));
            self.asked = now;
            let end = (end.max(self.reserved_end) + self.step_bytes).min(segment_bytes.max(end));
            self.state = SpaceState::Wanted { end };
        }
        match self.state {
            _ if end <= self.reserved_end => SpaceAnswer::Yes,
            SpaceState::Refused { .. } => SpaceAnswer::Refused,
            _ => {
                self.is_waited_for |= self.step_bytes >= kind.step_bytes_max(segment_bytes);
                SpaceAnswer::Wait
            }
        }
    }

    /// A step is there: remembers whether it was in time.
    fn note_step(&mut self, kind: SpaceKind) {
        let is_late = std::mem::take(&mut self.is_waited_for);
        self.late_zeros = match (kind.is_zeroed(), is_late) {
            (false, _) => self.late_zeros,
            (true, true) => self.late_zeros.saturating_add(1).min(LATE_ZEROS_MAX),
            (true, false) => self.late_zeros.saturating_sub(1),
        };
    }

    /// Zeros were late for so long that space is only reserved, to the end of the segment; one step of the next tries again.
    fn are_zeros_late(&self) -> bool {
        self.late_zeros >= LATE_ZEROS_MAX
    }

    pub fn is_reserving(&self) -> bool {
        matches!(self.state, SpaceState::Reserving { .. })
    }

    /// The file system has not so much. The smallest step may fit still: whoever waits asks for it.
    fn refused(&mut self, now: Monotonic) {
        self.state = match self.step_bytes {
            ..=RESERVE_BYTES_MIN => SpaceState::Refused { until: now + NO_SPACE_PAUSE },
            _ => SpaceState::Idle,
        };
        // Asked for again at once it is twice this.
        self.step_bytes = RESERVE_BYTES_MIN / 2;
    }

    /// The active segment has no space that is of use: it begins anew, with small steps.
    pub fn start_anew(&mut self) {
        self.start_segment(0);
        self.step_bytes = 0;
    }

    /// The active segment is another file now.
    pub fn start_segment(&mut self, reserved_end: Position) {
        self.reserved_end = reserved_end;
        self.late_zeros = self.late_zeros.saturating_sub(1);
        if let SpaceState::Wanted { .. } = self.state {
            self.state = SpaceState::Idle;
        }
    }
}

/// Makes the next segment's file. Its contents do not matter and its name is not a segment's.
fn make_spare(files: &mut dyn Files, directory: &Path, bytes: u64, kind: SpaceKind) -> JobResult {
    let path = directory.join(layout::NEXT_SEGMENT);
    let file = files.open(&path, OpenMode::Truncate).context("create next segment", &path)?;
    let direct = match kind {
        // If it cannot be opened like this, the first zeros of the segment will tell.
        SpaceKind::DirectReserved | SpaceKind::DirectZeros => files.open(&path, OpenMode::Direct).ok(),
        SpaceKind::Reserved | SpaceKind::Zeros => None,
    };
    let is_too_much = |made: &io::Result<()>| made.as_ref().is_err_and(is_no_space);
    let (bytes, reserved) = match files.reserve(file, 0, bytes) {
        made if is_too_much(&made) => (RESERVE_BYTES_MIN, files.reserve(file, 0, RESERVE_BYTES_MIN)),
        made => (bytes, made),
    };
    let made = match reserved {
        Err(error) if !cannot_reserve(&error) => Err(error),
        reserved => Ok(reserved.is_ok()),
    };
    let made = made.and_then(|is_reserved| match kind {
        SpaceKind::Reserved => Ok((if is_reserved { bytes } else { 0 }, is_reserved)),
        _ if kind.is_direct() && direct.is_none() => Ok((0, is_reserved)),
        SpaceKind::DirectReserved if is_reserved => files.set_size(file, bytes).map(|()| (bytes, true)),
        SpaceKind::DirectReserved => Ok((0, false)),
        // Nothing is in the file yet: want of space is no failure, wherever it is found.
        SpaceKind::Zeros | SpaceKind::DirectZeros => {
            let through = direct.unwrap_or(file);
            write_zeros(files, through, 0, bytes).and_then(|()| files.sync(through))?;
            Ok((bytes, is_reserved))
        }
    });
    match made {
        Ok((reserved_end, is_reserved)) => Ok(Finished::Spare { file, direct, reserved_end, is_reserved }),
        Err(error) => {
            direct.into_iter().chain([file]).for_each(|file| files.close(file));
            Err(StorageError::new("reserve next segment", path, error))
        }
    }
}

/// Makes zeros durable behind the bytes of a segment, or only reserves their space. `file`: a direct one is opened if there is
/// none yet.
fn zero_ahead(
    files: &mut dyn Files,
    path: &Path,
    file: Option<File>,
    (start, end): (Position, Position),
    kind: SpaceKind,
) -> JobResult {
    let (through, opened) = match file {
        Some(file) => (file, None),
        None => match files.open(path, OpenMode::Direct) {
            Ok(file) => (file, Some(file)),
            Err(error) if cannot_open_direct(&error) => return Ok(Finished::NoDirect),
            Err(source) => {
                let error = StorageError::new("open segment past the page cache", path, source);
                return if is_shortage(&error) { Ok(Finished::NoZeros) } else { Err(error) };
            }
        },
    };
    let reserved = match files.reserve(through, start, end - start) {
        Err(error) if cannot_reserve(&error) => Ok(false),
        reserved => reserved.map(|()| true),
    };
    let zeroed = reserved.and_then(|is_reserved| match kind {
        // A write that extends the file would have it to itself, and change its size each time.
        SpaceKind::DirectReserved if is_reserved => files.set_size(through, end).map(|()| false),
        _ => write_zeros(files, through, start, end).map(|()| true),
    });
    let result = match zeroed {
        Ok(false) => Ok(Finished::Zeroed { opened }),
        // Batches are in the page cache of the same file: a flush that fails may be theirs, whatever the error.
        Ok(true) => files.sync(through).map(|()| Finished::Zeroed { opened }),
        Err(error) if is_no_space(&error) => Ok(Finished::NoZeros),
        Err(error) => Err(error),
    };
    if !matches!(result, Ok(Finished::Zeroed { .. })) {
        opened.into_iter().for_each(|file| files.close(file));
    }
    result.map_err(|error| StorageError::new("write zeros to segment", path, error).at(start))
}

fn cannot_open_direct(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

/// The file system has no `fallocate`.
fn cannot_reserve(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

impl Log {
    pub(super) fn start_reserve(&mut self, io: &mut dyn Io) -> bool {
        let SpaceState::Wanted { end } = self.space.state else { return true };
        let kind = self.space_kind();
        let Segment { base_offset: segment, file, direct, is_named, .. } = *self.active();
        let file = file.expect("the active segment is open");
        let start = self.space.reserved_end;
        let end =
            if kind == SpaceKind::Reserved { end } else { end.next_multiple_of(DIRECT_BLOCK_BYTES as u64) };
        let (tag, operation) = match kind {
            SpaceKind::Reserved => {
                (Tag::Reserve, Operation::Reserve { file, position: start, length: end - start })
            }
            // It is opened by its name; the job that gives it drives the log again.
            _ if kind.is_direct() && !is_named => return true,
            _ => {
                let through = direct.map_or(Some(file), |direct| direct.file);
                let path = self.log_path(segment);
                (Tag::Zero, job(move |files| zero_ahead(files, &path, through, (start, end), kind)))
            }
        };
        if !self.submit(io, tag, operation) {
            return false;
        }
        self.space.state = SpaceState::Reserving { segment, start, end, kind };
        true
    }

    /// Whether bytes up to `end` of the active segment have a place.
    pub(super) fn ask_space(&mut self, end: Position, now: Monotonic) -> SpaceAnswer {
        let kind = self.space_kind();
        self.space.take(end, self.config.segment_bytes, kind, now)
    }

    fn space_kind(&self) -> SpaceKind {
        match self.active().direct {
            Some(_) => self.kind_for(true),
            // Without reservations batches do not wait for space: zeros could meet them.
            None if self.space.is_unsupported => SpaceKind::Reserved,
            None => self.kind_for(false),
        }
    }

    fn kind_for(&self, is_direct: bool) -> SpaceKind {
        match (is_direct, self.is_beyond_zeros() || self.space.are_zeros_late()) {
            (true, true) => SpaceKind::DirectReserved,
            (true, false) => SpaceKind::DirectZeros,
            (false, false) if self.space.has_bypassed => SpaceKind::Zeros,
            (false, _) => SpaceKind::Reserved,
        }
    }

    pub(super) fn start_spare(&mut self, io: &mut dyn Io) -> bool {
        let Segment { size_bytes, is_named, .. } = *self.active();
        let is_nearly_full =
            size_bytes > 0 && size_bytes + 2 * self.space.step_bytes >= self.config.segment_bytes;
        // Only one file has the spare's name: the last one must have been renamed.
        if !is_named {
            return true;
        }
        if self.spare == Spare::None && is_nearly_full {
            self.spare = Spare::Wanted;
        }
        if self.spare != Spare::Wanted {
            return true;
        }
        let directory = self.directory.clone();
        let kind = self.kind_for(self.wants_direct());
        let bytes_max = kind.step_bytes_max(self.config.segment_bytes);
        let bytes = self.space.step_bytes.clamp(RESERVE_BYTES_MIN, bytes_max).min(self.config.segment_bytes);
        let bytes = bytes.next_multiple_of(DIRECT_BLOCK_BYTES as u64);
        if !self.submit(io, Tag::Spare, job(move |files| make_spare(files, &directory, bytes, kind))) {
            return false;
        }
        self.spare = Spare::Making;
        true
    }

    pub(super) fn complete_reserve(&mut self, outcome: Outcome, now: Monotonic) -> Result<(), StorageError> {
        let SpaceState::Reserving { segment, .. } = self.space.state else {
            panic!("no reservation was in flight");
        };
        match outcome {
            Outcome::Done => {
                self.space_made();
                Ok(())
            }
            Outcome::Failed(error) if is_no_space(&error) => {
                self.space.refused(now);
                Ok(())
            }
            Outcome::Failed(error) if cannot_reserve(&error) => {
                (self.space.is_unsupported, self.space.state) = (true, SpaceState::Idle);
                Ok(())
            }
            Outcome::Failed(error) => {
                self.space.state = SpaceState::Idle;
                Err(StorageError::new("reserve space", self.log_path(segment), error)
                    .at(self.space.reserved_end))
            }
            _ => panic!("a reservation cannot end like this"),
        }
    }

    /// What was being made is there. It counts if it is still what the active segment needs: a segment without batches may
    /// have become direct meanwhile.
    fn space_made(&mut self) {
        let SpaceState::Reserving { segment, start, end, kind } = self.space.state else {
            panic!("no space was being made");
        };
        self.space.state = SpaceState::Idle;
        self.space.note_step(kind);
        let active = self.active();
        let is_of_use = active.direct.is_none() || kind.is_direct();
        if segment == active.base_offset && is_of_use && start <= self.space.reserved_end {
            self.space.reserved_end = self.space.reserved_end.max(end);
        }
    }

    pub(super) fn complete_zeros(
        &mut self,
        io: &mut dyn Io,
        result: JobResult,
        now: Monotonic,
    ) -> Result<(), StorageError> {
        let SpaceState::Reserving { segment, .. } = self.space.state else {
            panic!("no zeros were being written");
        };
        match result {
            Ok(Finished::Zeroed { opened }) => {
                self.space_made();
                let direct = self.segment_mut(segment).and_then(|segment| segment.direct.as_mut());
                match (opened, direct) {
                    (Some(file), Some(direct)) if direct.file.is_none() => direct.file = Some(file),
                    (Some(file), _) => io.close_file(file),
                    (None, _) => {}
                }
                Ok(())
            }
            Ok(Finished::NoZeros) => {
                self.space.refused(now);
                Ok(())
            }
            // Nothing is in the segment, and nothing came in: the first batch finds it cached.
            Ok(Finished::NoDirect) => {
                self.space.state = SpaceState::Idle;
                self.may_be_direct = MayBeDirect::Never;
                self.choose_way();
                Ok(())
            }
            Ok(_) => panic!("the job wrote no zeros"),
            Err(error) => {
                self.space.state = SpaceState::Idle;
                Err(error)
            }
        }
    }

    pub(super) fn complete_spare(
        &mut self,
        io: &mut dyn Io,
        result: JobResult,
        now: Monotonic,
    ) -> Result<(), StorageError> {
        assert!(self.spare == Spare::Making, "no spare was being made: {:?}", self.spare);
        self.spare = Spare::None;
        match result {
            Ok(Finished::Spare { file, direct, .. }) if self.offline.is_some() => {
                direct.into_iter().chain([file]).for_each(|file| io.close_file(file));
            }
            Ok(Finished::Spare { file, direct, reserved_end, is_reserved }) => {
                self.space.is_unsupported |= !is_reserved;
                self.spare = Spare::Ready { file, direct, reserved_end };
            }
            Ok(_) => panic!("the job made no spare"),
            Err(error) if is_shortage(&error) => self.spare = Spare::Refused { until: now + NO_SPACE_PAUSE },
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT_BYTES: u64 = 1 << 30;

    /// Uses up the space there is, and has more made. `is_late`: a batch comes before it is there.
    fn step(space: &mut Space, kind: SpaceKind, is_late: bool) {
        let now = Monotonic::default();
        let used = space.reserved_end;
        space.take(used.max(1), SEGMENT_BYTES, kind, now);
        let SpaceState::Wanted { end } = space.state else { panic!("nothing is asked for: {used}") };
        if is_late {
            assert_eq!(space.take(used + 1, SEGMENT_BYTES, kind, now), SpaceAnswer::Wait);
        }
        space.state = SpaceState::Idle;
        space.note_step(kind);
        space.reserved_end = end;
    }

    #[test]
    fn zeros_that_are_late_again_and_again_are_given_up_for_a_segment() {
        let mut space = Space::default();
        let zeros = |space: &mut Space, is_late| step(space, SpaceKind::DirectZeros, is_late);
        // Small steps are waited for until they have grown.
        while space.step_bytes < ZEROS_BYTES_MAX {
            zeros(&mut space, true);
        }
        assert!(space.late_zeros <= 1, "{} of small steps", space.late_zeros);
        for _ in 0..20 {
            zeros(&mut space, true);
            zeros(&mut space, false);
        }
        assert!(!space.are_zeros_late(), "every second one was in time");
        (0..LATE_ZEROS_MAX).for_each(|_| zeros(&mut space, true));
        assert!(space.are_zeros_late());
        step(&mut space, SpaceKind::DirectReserved, true);
        step(&mut space, SpaceKind::DirectReserved, false);
        assert!(space.are_zeros_late(), "steps without zeros say nothing of them");
        // The next segment tries once.
        space.start_segment(RESERVE_BYTES_MIN);
        assert!(!space.are_zeros_late());
        zeros(&mut space, true);
        assert!(space.are_zeros_late());
        space.start_segment(RESERVE_BYTES_MIN);
        (0..LATE_ZEROS_MAX).for_each(|_| zeros(&mut space, false));
        assert_eq!(space.late_zeros, 0);
    }
}
