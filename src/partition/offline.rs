//! Partitions that belong to this shard and are not served: their directory is missing or failed, or their bytes are damaged.
//!
//! An offline partition has no log. Clients are told KAFKA_STORAGE_ERROR until a new start brings it back; nothing of it is
//! touched on disk unless its topic is deleted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::creation::{self, NewPartition};
use super::directory::DirectoryIndex;
use super::jobs::{OwnJob, OwnResult};
use super::replica::Replica;
use super::set::{Failure, Leaving, PartitionEvent, PartitionSet, ReplicaIndex};
use crate::config::TopicConfig;
use crate::log::{Damaged, RecoveryError, StorageError, note_storage_failure};
use crate::model::{DirectoryId, PartitionIndex, TopicId, TopicPartition};

/// Why a partition is not served.
#[derive(Clone, Debug)]
pub enum OfflineReason {
    /// The directory that holds it is not among those of this start.
    NoDirectory(DirectoryId),
    /// A read, write or flush failed, of this partition or of another one in the directory.
    Storage(Arc<StorageError>),
    /// Recovery or the scrubber found bytes that were flushed and are not what they must be.
    Damaged(Damaged),
}

impl fmt::Display for OfflineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OfflineReason::NoDirectory(id) => write!(f, "data directory {id} is not there"),
            OfflineReason::Storage(error) => error.fmt(f),
            OfflineReason::Damaged(damaged) => damaged.fmt(f),
        }
    }
}

impl From<RecoveryError> for OfflineReason {
    fn from(error: RecoveryError) -> OfflineReason {
        match error {
            RecoveryError::Storage(error) => OfflineReason::Storage(Arc::new(error)),
            RecoveryError::Damaged(damaged) => OfflineReason::Damaged(damaged),
        }
    }
}

/// A partition that is not served.
#[derive(Clone, Debug)]
pub struct OfflineReplica {
    pub at: TopicPartition,
    pub topic_id: TopicId,
    /// `None`: its directory is not there.
    pub directory: Option<DirectoryIndex>,
    pub reason: OfflineReason,
    pub config: Arc<TopicConfig>,
}

impl PartitionSet {
    /// Remembers a partition that could not be opened. It is told of with `offline` from now on, and `find` does not find it.
    pub fn insert_offline(&mut self, new: &NewPartition, reason: OfflineReason) {
        self.put_offline(OfflineReplica {
            at: new.at.clone(),
            topic_id: new.topic_id,
            directory: self.directories().index_of(new.directory),
            reason,
            config: Arc::clone(&new.config),
        });
    }

    fn put_offline(&mut self, replica: OfflineReplica) {
        let key = (replica.topic_id, replica.at.partition);
        assert!(self.find(key.0, key.1).is_none(), "{} is served and offline", replica.at);
        self.offline.insert(key, replica);
    }

    /// Stops to serve a partition of a failed directory: whoever waits for it is told so at once, its files are closed once
    /// nothing of it is in flight, and it is offline. For good: only a new start brings it back.
    /// Panics if its directory serves: journaled batches that are not in its segment yet would go with the log, and a
    /// checkpoint of the journal, which goes on, would release the blocks that hold them.
    fn take_offline(&mut self, index: ReplicaIndex, reason: OfflineReason) {
        let replica = self.get(index);
        let has_failed = self.directories().failure(replica.directory).is_some();
        assert!(has_failed, "{} is taken offline and its directory serves", replica.at);
        self.withdraw(index, Failure::Storage);
        let Replica { at, topic_id, directory, config, .. } = self.get(index);
        let (at, config) = (at.clone(), Arc::clone(config));
        let (topic_id, directory) = (*topic_id, Some(*directory));
        self.put_offline(OfflineReplica { at, topic_id, directory, reason, config });
    }

    /// A write or flush in a directory failed, or another operation that leaves what is there in doubt: the directory goes
    /// offline on all shards. This one heeds it at once, the others when they look next (`heed_failures`).
    pub fn fail_directory(&mut self, directory: DirectoryIndex, error: Arc<StorageError>) {
        let is_news = self.directories().fail(directory, error);
        if is_news {
            self.heed(directory, true);
            let path = self.directories().get(directory).path.clone();
            self.start_job(OwnJob::NoteFailure, move |files| {
                // What cannot be noted cannot be written either.
                let _ = note_storage_failure(files, &path);
                OwnResult::FailureNoted
            });
        }
    }

    /// Takes the partitions of directories offline that have failed since the last call, on whichever shard. Returns all that
    /// have failed.
    pub fn heed_failures(&mut self) -> &BTreeSet<DirectoryIndex> {
        let directories = Arc::clone(self.directories());
        for (index, _) in directories.iter().filter(|(_, directory)| directory.failure().is_some()) {
            self.heed(index, false);
        }
        &self.heeded
    }

    fn heed(&mut self, directory: DirectoryIndex, is_news: bool) {
        if !self.heeded.insert(directory) {
            return;
        }
        let error = Arc::clone(self.directories().failure(directory).expect("it has failed"));
        let in_it = |(_, replica): &(ReplicaIndex, &Replica)| replica.directory == directory;
        let all: Vec<ReplicaIndex> = self.served().filter(in_it).map(|(index, _)| index).collect();
        for index in all {
            self.take_offline(index, OfflineReason::Storage(Arc::clone(&error)));
        }
        self.give_up_journal(directory, &error);
        self.events.push(PartitionEvent::DirectoryOffline { directory, error, is_news });
    }

    /// For a partition that was made while its directory failed.
    pub(super) fn take_offline_with_directory(&mut self, index: ReplicaIndex) {
        if let Some(error) = self.directories().failure(self.get(index).directory).cloned() {
            self.take_offline(index, OfflineReason::Storage(error));
        }
    }

    /// Why a partition of this shard is not served; `None`: it is, or is not of this shard.
    pub fn offline(&self, topic_id: TopicId, partition: PartitionIndex) -> Option<&OfflineReplica> {
        self.offline.get(&(topic_id, partition))
    }

    /// All partitions that are not served.
    pub fn iter_offline(&self) -> impl Iterator<Item = &OfflineReplica> {
        self.offline.values()
    }

    /// Removes the folder of a partition that has no log open; announced with `Removed`.
    pub(super) fn remove_closed(&mut self, directory: DirectoryIndex, at: TopicPartition, topic_id: TopicId) {
        let directories = Arc::clone(self.directories());
        self.start_job(OwnJob::RemoveOffline(directory, at.clone()), move |files| {
            OwnResult::Removed(creation::remove(files, directories.get(directory), &at, topic_id))
        });
    }

    fn is_of(&self, leaving: &Leaving, topic_id: TopicId, partition: PartitionIndex) -> bool {
        let replica = self.get(leaving.index);
        (replica.topic_id, replica.at.partition) == (topic_id, partition)
    }

    /// Removes an offline partition whose topic is gone, with its folder if that can be reached; announced with `Removed`.
    /// False: there is none.
    pub fn remove_offline(&mut self, topic_id: TopicId, partition: PartitionIndex) -> bool {
        let Some(replica) = self.offline.remove(&(topic_id, partition)) else { return false };
        if let Some(leaving) =
            self.leaving.iter().position(|leaving| self.is_of(leaving, topic_id, partition))
        {
            // It was taken offline a moment ago and goes when it is quiet.
            self.leaving[leaving].removes_folder = true;
            return true;
        }
        let reachable =
            replica.directory.filter(|directory| self.directories().failure(*directory).is_none());
        match reachable {
            Some(directory) => self.remove_closed(directory, replica.at, topic_id),
            // A start that finds the folder again sets it aside: the metadata does not know it any more.
            None => self.events.push(PartitionEvent::Removed),
        }
        true
    }
}
