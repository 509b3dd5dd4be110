//! How a journal's file becomes larger: four times as large each time, by a job, off the commit path. Both kinds of journal do it alike.

use std::path::Path;
use std::sync::Arc;

use super::format::{BLOCK_BYTES, JournalKind};
use super::ring::BlockRing;
use super::zero;
use crate::log::error::{Context, StorageError};
use crate::log::zeros::write_zeros;
use crate::model::Position;
use crate::reactor::{File, Files};

/// A small ring pays for a checkpoint often: while a durable one grew from 4 to 256 MiB by doubling, a request cost 1.004 flushes.
const TIMES: u64 = 4;

/// What of it concerns one journal.
pub(super) struct Grower {
    file: File,
    path: Arc<Path>,
    kind: JournalKind,
    size_bytes_max: u64,
    is_growing: bool,
}

impl Grower {
    pub fn new(file: File, path: Arc<Path>, kind: JournalKind, size_bytes_max: u64) -> Grower {
        Grower { file, path, kind, size_bytes_max, is_growing: false }
    }

    pub fn is_growing(&self) -> bool {
        self.is_growing
    }

    /// The job that makes more of the file, if the journal would use it; its result goes to `grown`. `is_too_small`: a log was
    /// refused for want of room, however little is in use.
    pub fn grow(&mut self, ring: &BlockRing, is_too_small: bool) -> Option<Growth> {
        let start = ring.size_bytes();
        let is_wanted = is_too_small || ring.used_bytes() * 4 > ring.capacity_bytes();
        // Until the lap ends the size says nothing of the last growth: another would zero the same blocks.
        if self.is_growing || ring.has_grown() || !is_wanted || start >= self.size_bytes_max {
            return None;
        }
        self.is_growing = true;
        let end = (start * TIMES).min(self.size_bytes_max).next_multiple_of(BLOCK_BYTES as u64);
        Some(Growth { file: self.file, path: self.path.clone(), kind: self.kind, start, end })
    }

    /// Takes the result of a growth. Want of space is no failure: the journal stays as it is.
    pub fn grown(
        &mut self,
        ring: &mut BlockRing,
        result: Result<u64, StorageError>,
    ) -> Result<(), StorageError> {
        self.is_growing = false;
        match result {
            Ok(end) => ring.grow_to(end / BLOCK_BYTES as u64),
            // Not tried again before the next start.
            Err(error) if error.is_no_space() => self.size_bytes_max = ring.size_bytes(),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Zeroing ahead. Blocking: in a job.
pub struct Growth {
    file: File,
    path: Arc<Path>,
    kind: JournalKind,
    start: Position,
    end: Position,
}

impl Growth {
    /// Returns where the file ends now.
    pub fn run(self, files: &mut dyn Files) -> Result<u64, StorageError> {
        let Growth { file, path, kind, start, end } = self;
        match kind {
            JournalKind::Durable => zero(files, file, start, end),
            // Written, and not only reserved: a store into a page without a block could find no space.
            JournalKind::Mapped => write_zeros(files, file, start, end),
        }
        .context("grow journal", &path)?;
        Ok(end)
    }
}
