//! Checkpoints of a shard's partitions, and closing them for a clean stop. Each directory has its own files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::directory::DirectoryIndex;
use super::jobs::{OwnJob, OwnResult};
use super::journaling::JournalSeat;
use super::replica::Replica;
use super::set::{PartitionEvent, PartitionSet, ReplicaIndex};
use crate::log::{PartitionOffsets, StorageError, note_storage_failure, sync_file_system};
use crate::reactor::Io;

/// A bug that the tests must catch: recovery points are written, and the directory is marked clean, before the last flush.
const PLANTED_MARK_BEFORE_FLUSH: bool = cfg!(corelog_planted = "14");

impl PartitionSet {
    /// Writes recovery points and log starts of this shard's partitions to their directories' checkpoint files.
    pub fn checkpoint(&mut self) {
        if self.checkpoint_running {
            return;
        }
        self.checkpoint_running = true;
        self.deletions.begin_checkpoint();
        let by_directory = self.offsets_to_checkpoint();
        let directories = Arc::clone(self.directories());
        self.start_job(OwnJob::Checkpoint, move |files| {
            let write = |(index, offsets): (DirectoryIndex, Vec<PartitionOffsets>)| {
                (index, directories.get(index).book.write(files, &offsets))
            };
            OwnResult::Checkpointed(by_directory.into_iter().map(write).collect())
        });
    }

    pub(super) fn checkpoint_done(&mut self, results: Vec<(DirectoryIndex, Result<(), StorageError>)>) {
        self.checkpoint_running = false;
        let (deletions, is_wanted_again) = self.deletions.end_checkpoint();
        let is_durable = results.iter().all(|(_, result)| result.is_ok());
        let told = |deletion| PartitionEvent::Deleted { deletion, is_durable };
        self.events.extend(deletions.into_iter().map(told));
        let written = |directory| results.iter().any(|(index, result)| *index == directory && result.is_ok());
        for slot in 0..self.replicas.len() as u32 {
            if let Some(replica) = self.replicas[slot as usize].as_mut()
                && written(replica.directory)
                && let Some(start) = replica.checkpointed_start.take()
            {
                replica.log.log_start_is_durable(start);
                self.mark_dirty(ReplicaIndex(slot));
            }
        }
        for (directory, result) in results {
            self.file_job_done(directory, None, result);
        }
        if is_wanted_again {
            self.checkpoint();
        }
    }

    fn by_online_directory<T>(&self) -> BTreeMap<DirectoryIndex, Vec<T>> {
        let online = self.directories().iter().filter(|(_, directory)| directory.failure().is_none());
        online.map(|(index, _)| (index, Vec::new())).collect()
    }

    /// What each directory that serves is told, even if this shard has nothing in it: removed partitions leave its files.
    fn offsets_to_checkpoint(&mut self) -> BTreeMap<DirectoryIndex, Vec<PartitionOffsets>> {
        let mut by_directory: BTreeMap<_, Vec<_>> = self.by_online_directory();
        for replica in self.replicas.iter_mut().flatten().filter(|replica| !replica.is_withdrawn) {
            if let Some(offsets) = by_directory.get_mut(&replica.directory) {
                replica.checkpointed_start = Some(replica.log.log_start_offset());
                offsets.push(replica.offsets());
            }
        }
        by_directory
    }

    /// A clean stop: flushes and closes all logs, then writes the checkpoints. Blocking. A directory in which something failed
    /// is offline, and must not be marked clean.
    pub fn close_all(&mut self, io: &mut dyn Io) {
        self.heed_failures();
        self.stop_scrubbing(io);
        let mut failures = Vec::new();
        let mut by_directory: BTreeMap<DirectoryIndex, Vec<Closed>> = self.by_online_directory();
        let files = io.files();
        for mut replica in self.replicas.drain(..).flatten().filter(|replica| !replica.is_withdrawn) {
            let told = replica.offsets();
            let mut point_if_synced = told.recovery_point;
            match replica.log.close_unsynced(files) {
                Ok(recovery_point) => point_if_synced = recovery_point,
                Err(error) => failures.push((replica.directory, error)),
            }
            let closed = Closed { told, point_if_synced };
            by_directory.entry(replica.directory).or_default().push(closed);
        }
        self.by_key.clear();
        let directories = Arc::clone(self.directories());
        for (index, mut closed) in by_directory {
            let directory = directories.get(index);
            // The journal's descriptor tells of what failed since the start, whoever else was told.
            let through = self.journals.get(&index).map(JournalSeat::sync_file);
            let synced = match PLANTED_MARK_BEFORE_FLUSH {
                true => Ok(()),
                false => sync_file_system(files, &directory.path, through),
            };
            match synced {
                Ok(()) => closed.iter_mut().for_each(|c| c.told.recovery_point = c.point_if_synced),
                Err(error) => failures.push((index, error)),
            }
            let offsets: Vec<PartitionOffsets> = closed.into_iter().map(|closed| closed.told).collect();
            if let Err(error) = directory.book.write(files, &offsets) {
                failures.push((index, error));
            }
            let is_clean = failures.iter().all(|(failed, _)| *failed != index);
            if let Some(seat) = self.journals.remove(&index)
                && let Err(error) = seat.close(files, is_clean)
            {
                failures.push((index, error));
            }
        }
        for (_, seat) in std::mem::take(&mut self.journals) {
            // Of directories that have failed before: what their journals hold is for the next start.
            let _ = seat.close(files, false);
        }
        for (index, error) in failures {
            // Nothing runs the job of a failure any more.
            let _ = note_storage_failure(files, &directories.get(index).path);
            self.fail_directory(index, Arc::new(error));
        }
    }
}

/// A log that was closed.
struct Closed {
    told: PartitionOffsets,
    /// Its recovery point once the file system is synced.
    point_if_synced: crate::model::Offset,
}

impl Replica {
    /// For the checkpoint files, which are told of them now.
    fn offsets(&mut self) -> PartitionOffsets {
        let recovery_point = self.log.recovery_point();
        self.told_recovery_point = Some(recovery_point);
        let (at, log_start) = (self.at.clone(), self.log.log_start_offset());
        PartitionOffsets { at, topic_id: self.topic_id, recovery_point, log_start }
    }

    /// As `offsets`, if the recovery point has moved since they were told. A file that could not be written keeps what it was
    /// told for the next time.
    pub(super) fn moved_offsets(&mut self) -> Option<PartitionOffsets> {
        let has_moved = self.told_recovery_point != Some(self.log.recovery_point());
        has_moved.then(|| self.offsets())
    }
}
