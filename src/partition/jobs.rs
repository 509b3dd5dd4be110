//! The blocking work of a shard's partitions, for its helper thread: what waits for it, what runs, and what comes of it.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use super::creation::Created;
use super::directory::DirectoryIndex;
use super::handover::{Given, Received};
use super::offline::OfflineReason;
use super::set::{OWN, PartitionEvent, PartitionSet, ReplicaIndex};
use crate::log::StorageError;
use crate::model::TopicPartition;
use crate::reactor::{Files, Io, Job, Operation, Room, Token};

/// Kind of token for jobs; the number is the job's place among those that run.
pub(super) const OWN_JOB: u64 = 1;

/// What a job is for.
pub(super) enum OwnJob {
    Create(DirectoryIndex),
    Remove(ReplicaIndex),
    /// The folder of an offline partition.
    RemoveOffline(DirectoryIndex, TopicPartition),
    Checkpoint,
    GrowJournal(DirectoryIndex),
    GrowMapped(DirectoryIndex),
    SyncFileSystem(DirectoryIndex),
    RecordRecoveryPoints(DirectoryIndex),
    NoteFailure,
    /// Closing what goes to another shard.
    Give(DirectoryIndex),
    /// Opening what comes from one.
    Receive(DirectoryIndex),
}

/// What a job brings back.
pub(super) enum OwnResult {
    Created(Created),
    Removed(Result<(), StorageError>),
    /// One for each directory that serves.
    Checkpointed(Vec<(DirectoryIndex, Result<(), StorageError>)>),
    JournalGrown(Result<u64, StorageError>),
    FileSystemSynced(Result<(), StorageError>),
    RecoveryPointsRecorded(Result<(), StorageError>),
    FailureNoted,
    Given(Given),
    Received(Received),
}

#[derive(Default)]
pub(super) struct Jobs {
    waiting: VecDeque<(OwnJob, Job)>,
    running: Vec<Option<OwnJob>>,
}

impl Jobs {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.iter().all(Option::is_none)
    }
}

impl PartitionSet {
    /// Runs on the helper thread, behind the jobs before it.
    pub(super) fn start_job(
        &mut self,
        kind: OwnJob,
        work: impl FnOnce(&mut dyn Files) -> OwnResult + Send + 'static,
    ) {
        self.jobs.waiting.push_back((kind, Box::new(move |files| Box::new(work(files)))));
    }

    /// Hands them to the helper thread, as far as the reactor has room.
    pub(super) fn submit_jobs(&mut self, io: &mut dyn Io) {
        let Jobs { waiting, running } = &mut self.jobs;
        while let Some((kind, job)) = waiting.pop_front() {
            let slot = running.iter().position(Option::is_none).unwrap_or_else(|| {
                running.push(None);
                running.len() - 1
            });
            let token = Token::new(Room::Log, OWN | OWN_JOB << 48 | slot as u64);
            match io.submit(token, Operation::Job(job)) {
                Ok(()) => running[slot] = Some(kind),
                Err(rejected) => {
                    let Operation::Job(job) = rejected.0 else {
                        panic!("a rejected job comes back as a job")
                    };
                    waiting.push_front((kind, job));
                    return;
                }
            }
        }
    }

    pub(super) fn job_done(&mut self, io: &mut dyn Io, slot: u64, result: Box<dyn Any + Send>) {
        let kind = self.jobs.running[slot as usize].take().expect("a job ends once");
        let result = *result.downcast::<OwnResult>().expect("jobs of the set return an OwnResult");
        match (kind, result) {
            (OwnJob::Create(directory), OwnResult::Created(Created { partitions, noted })) => {
                for (new, made) in partitions {
                    match made {
                        Ok(log) => {
                            let replica = self.insert(new, log);
                            self.events.push(PartitionEvent::Opened { replica });
                            self.take_offline_with_directory(replica);
                        }
                        Err(error) if !may_pass(&error) => {
                            let error = Arc::new(error);
                            self.insert_offline(&new, OfflineReason::Storage(Arc::clone(&error)));
                            self.events.push(PartitionEvent::Unopened);
                            self.fail_directory(directory, error);
                        }
                        Err(error) => {
                            let at = Some(new.at.clone());
                            self.events.push(PartitionEvent::NoSpace { at, error: Arc::new(error) });
                            self.unmade.push(new);
                        }
                    }
                }
                self.file_job_done(directory, None, noted);
            }
            (OwnJob::Remove(index), OwnResult::Removed(result)) => {
                let directory = self.get(index).directory;
                let at = self.release(io, index);
                self.file_job_done(directory, Some(at), result);
                self.events.push(PartitionEvent::Removed);
            }
            (OwnJob::RemoveOffline(directory, at), OwnResult::Removed(result)) => {
                self.file_job_done(directory, Some(at), result);
                self.events.push(PartitionEvent::Removed);
            }
            (OwnJob::GrowJournal(directory), OwnResult::JournalGrown(result)) => {
                self.journal_grown(directory, result);
            }
            (OwnJob::GrowMapped(directory), OwnResult::JournalGrown(result)) => {
                self.mapped_journal_grown(directory, result);
            }
            (OwnJob::SyncFileSystem(directory), OwnResult::FileSystemSynced(result)) => {
                self.file_system_synced(directory, result);
            }
            (OwnJob::RecordRecoveryPoints(directory), OwnResult::RecoveryPointsRecorded(result)) => {
                self.recovery_points_recorded(directory, result, io.now());
            }
            (OwnJob::NoteFailure, OwnResult::FailureNoted) => {}
            (OwnJob::Give(directory), OwnResult::Given(given)) => self.given(directory, given),
            (OwnJob::Receive(directory), OwnResult::Received(received)) => self.received(directory, received),
            (OwnJob::Checkpoint, OwnResult::Checkpointed(results)) => self.checkpoint_done(results),
            _ => panic!("a job of the partition set brought another job's result"),
        }
    }

    /// What could not be done for want of something is tried again; any other failure is the directory's.
    pub(super) fn file_job_done(
        &mut self,
        directory: DirectoryIndex,
        at: Option<TopicPartition>,
        result: Result<(), StorageError>,
    ) {
        match result {
            Ok(()) => {}
            Err(error) if may_pass(&error) => {
                self.events.push(PartitionEvent::NoSpace { at, error: Arc::new(error) });
            }
            Err(error) => self.fail_directory(directory, Arc::new(error)),
        }
    }
}

/// A shortage of space, or of the process's descriptors or memory: nothing is said of the disk, and what was there before is
/// there still.
pub(super) fn may_pass(error: &StorageError) -> bool {
    let errno = error.source.raw_os_error();
    error.is_no_space() || matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}
