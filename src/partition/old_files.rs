//! Files of sealed segments that are held open on this shard: at most so many, the least recently read are closed first.
//!
//! A segment stays open when it is sealed, and is opened again for a consumer who reads it (on the helper thread, before the
//! read). The file that each log writes to is not counted: there is one for each partition that was written to. A file that is
//! being read is left alone; it is looked at again when the read has ended.

use std::collections::BTreeSet;

use super::set::{PartitionSet, ReplicaIndex};
use crate::log::OldFile;
use crate::model::{Monotonic, Offset};
use crate::reactor::Io;

/// Files looked at, at most, for each that was opened or read: those that are being read may stand before the others.
const LOOKED_AT_MAX: usize = 8;

pub(super) struct OldFiles {
    max: usize,
    /// By the last read, as it was when the file was last looked at. One that is not open any more is found so in its turn.
    order: BTreeSet<(Monotonic, ReplicaIndex, Offset)>,
    closed: u64,
}

impl OldFiles {
    pub fn new(max: usize) -> OldFiles {
        OldFiles { max: max.max(1), order: BTreeSet::new(), closed: 0 }
    }
}

impl PartitionSet {
    /// Old segments of this replica may have been opened, or left open.
    pub(super) fn note_old_files(&mut self, io: &mut dyn Io, index: ReplicaIndex) {
        let Some(replica) = self.replicas[index.0 as usize].as_mut() else { return };
        let old_files = &mut self.old_files;
        for (segment, last_read) in replica.log.take_opened() {
            old_files.order.insert((last_read, index, segment));
        }
        self.trim_old_files(io);
    }

    /// Closes what is beyond the bound.
    pub(super) fn trim_old_files(&mut self, io: &mut dyn Io) {
        for _ in 0..LOOKED_AT_MAX {
            let old_files = &mut self.old_files;
            if old_files.order.len() <= old_files.max {
                break;
            }
            let Some((noted, index, segment)) = old_files.order.pop_first() else { break };
            let Some(replica) = self.replicas[index.0 as usize].as_mut() else { continue };
            match replica.log.close_old_file(io, segment, noted) {
                OldFile::Closed => old_files.closed += 1,
                OldFile::NotOpen => {}
                OldFile::ReadAt(last_read) => _ = old_files.order.insert((last_read, index, segment)),
                OldFile::Lent => _ = old_files.order.insert((io.now(), index, segment)),
            }
        }
    }

    /// Old segments' files that are held open, and how many were closed since the last call to stay within the bound.
    pub fn old_file_counts(&mut self) -> (usize, u64) {
        (self.old_files.order.len(), std::mem::take(&mut self.old_files.closed))
    }
}
