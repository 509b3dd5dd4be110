//! One segment: its batches, and its indexes against them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::log::{Checked, SegmentCheck};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::BatchView;

use super::indexes::{OffsetEntries, TimeEntries};
use super::plan::{PartitionPlan, SegmentPlan};
use super::report::{Fault, Finding, Verdict};

/// Large enough that a disk reads at its full speed, small enough to stay in a core's cache until the CRC has seen it.
const PIECE_BYTES: usize = 1 << 20;

/// What the check of one segment brought.
#[derive(Default)]
pub(super) struct Segment {
    /// `None`: the file went away in the meantime, or cannot be read.
    pub end_offset: Option<Offset>,
    pub batches: u64,
    pub bytes: u64,
    pub first_epoch: Option<LeaderEpoch>,
    pub last_epoch: Option<LeaderEpoch>,
    /// The log ends inside this segment: what follows is no part of it.
    pub is_torn: bool,
    pub findings: Vec<Finding>,
}

/// Reads a segment from end to end. `progress` hears of the bytes read.
pub(super) fn check(partition: &PartitionPlan, plan: &SegmentPlan, progress: &dyn Fn(u64)) -> Segment {
    let mut segment = Segment::default();
    let result = open(&plan.path).and_then(|(mut file, size_bytes)| {
        let mut scan = Scan::new(partition, plan, size_bytes)?;
        scan.read(&mut file, &mut segment, progress)
    });
    match result {
        Ok(()) => {}
        // A live broker deletes old segments.
        Err(error) if error.kind() == io::ErrorKind::NotFound => segment.end_offset = None,
        Err(error) => {
            segment.end_offset = None;
            segment.findings.push(Finding::new(Verdict::Unreadable(Arc::new(error)), plan.path.clone()));
        }
    }
    segment
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    // Only advice: the pages of a running broker's readers are worth more than those of this one pass.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_NOREUSE);
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The way through one segment.
struct Scan<'a> {
    partition: &'a PartitionPlan,
    plan: &'a SegmentPlan,
    size_bytes: u64,
    index: Option<OffsetEntries>,
    times: Option<TimeEntries>,
    largest: Option<Timestamp>,
    are_epochs_told: bool,
    is_damaged: bool,
}

impl<'a> Scan<'a> {
    fn new(partition: &'a PartitionPlan, plan: &'a SegmentPlan, size_bytes: u64) -> io::Result<Scan<'a>> {
        Ok(Scan {
            partition,
            plan,
            size_bytes,
            index: plan
                .index
                .as_deref()
                .map(read_if_there)
                .transpose()?
                .flatten()
                .map(|bytes| OffsetEntries::new(plan.base_offset, bytes)),
            times: plan
                .time_index
                .as_deref()
                .map(read_if_there)
                .transpose()?
                .flatten()
                .map(|bytes| TimeEntries::new(plan.base_offset, bytes)),
            largest: None,
            are_epochs_told: false,
            is_damaged: false,
        })
    }

    fn read(&mut self, file: &mut File, segment: &mut Segment, progress: &dyn Fn(u64)) -> io::Result<()> {
        let mut check = SegmentCheck::new(self.plan.base_offset, self.size_bytes);
        let mut piece = vec![0; PIECE_BYTES];
        // A live log grows meanwhile: what lay there at the start is looked at, and no more.
        let mut left = self.size_bytes;
        while left > 0 && !check.is_lost() && !segment.is_torn {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let count = file.read(&mut piece[..wanted])?;
            if count == 0 {
                break;
            }
            left -= count as u64;
            segment.bytes += count as u64;
            progress(count as u64);
            check.take(&piece[..count], &mut |checked| self.tell(checked, segment));
        }
        if !segment.is_torn {
            check.finish(&mut |checked| self.tell(checked, segment));
        }
        // Behind a header that makes no sense the end is not known, and the boundary not worth a second line.
        if !segment.is_torn {
            segment.end_offset = (!check.is_lost()).then_some(check.next_offset());
        }
        if !self.is_damaged && !segment.is_torn {
            self.finish_indexes(segment);
        }
        Ok(())
    }

    fn tell(&mut self, checked: Checked<'_>, segment: &mut Segment) {
        if segment.is_torn {
            return;
        }
        match checked {
            Checked::Batch(batch, position) => self.batch(&batch, position, segment),
            Checked::Damaged { position, offset, damage } => {
                let verdict = if self.partition.recovery_point.covers(offset) {
                    self.is_damaged = true;
                    Verdict::Damaged(Fault::Batch(damage))
                } else {
                    segment.is_torn = true;
                    segment.end_offset = Some(offset);
                    Verdict::TornTail { end_offset: offset, bytes: self.size_bytes - position, damage }
                };
                segment.findings.push(Finding::new(verdict, self.plan.path.clone()).at(position));
            }
        }
    }

    fn batch(&mut self, batch: &BatchView<'_>, position: u64, segment: &mut Segment) {
        segment.batches += 1;
        let (epoch, path) = (batch.leader_epoch(), &self.plan.path);
        if let Some(before) = segment.last_epoch.filter(|before| *before > epoch) {
            let fault = Fault::EpochFalls { before, found: epoch };
            segment.findings.push(Finding::new(Verdict::Damaged(fault), path.clone()).at(position));
        }
        segment.first_epoch.get_or_insert(epoch);
        segment.last_epoch = Some(epoch);
        self.compare_epoch(batch, segment);
        if self.largest.is_none_or(|largest| batch.max_timestamp() > largest) {
            self.largest = Some(batch.max_timestamp());
        }
        if let (Some(index), false) = (&mut self.index, self.is_damaged) {
            index.pass(batch, position);
        }
        if let (Some(times), false, Some(largest)) = (&mut self.times, self.is_damaged, self.largest) {
            times.pass(batch, largest);
        }
    }

    /// The stored epochs hold for what was flushed, from the log start on.
    fn compare_epoch(&mut self, batch: &BatchView<'_>, segment: &mut Segment) {
        let PartitionPlan { epochs, recovery_point, log_start, directory, .. } = self.partition;
        let (epoch, offset) = (batch.leader_epoch(), batch.base_offset().max(*log_start));
        let Some(epochs) = epochs else { return };
        if self.are_epochs_told
            || epoch.0 < 0
            || batch.end_offset() <= *log_start
            || !recovery_point.covers(offset)
        {
            return;
        }
        let stored = epochs.epoch_of(offset);
        if stored != Some(epoch) {
            self.are_epochs_told = true;
            let fault = Fault::EpochStored { offset, stored, found: epoch };
            let path = directory.join(crate::log::layout::LEADER_EPOCHS);
            segment.findings.push(Finding::new(Verdict::Damaged(fault), path));
        }
    }

    fn finish_indexes(&mut self, segment: &mut Segment) {
        let mut tell = |fault: Option<(u64, Fault)>, path: &Path| {
            if let Some((at, fault)) = fault {
                segment.findings.push(Finding::new(Verdict::Damaged(fault), path.to_owned()).at(at));
            }
        };
        let mut missing = Vec::new();
        if let Some(path) = &self.plan.index {
            match self.index.take() {
                Some(index) => tell(index.finish(), path),
                None => missing.push(path),
            }
        }
        if let Some(path) = &self.plan.time_index {
            match self.times.take() {
                Some(times) => tell(times.finish(self.largest), path),
                None => missing.push(path),
            }
        }
        if self.size_bytes > 0 {
            for path in missing {
                segment.findings.push(Finding::new(Verdict::CacheMissing, path.clone()));
            }
        }
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
