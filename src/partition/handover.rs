//! Partitions that move to another shard of this process, or come from one.
//!
//! The shard that gives them away (`give`) waits until nothing of them is under way, closes their logs as a clean stop would, makes
//! that durable and says so (`PartitionEvent::Given`). The other one opens them as a clean start would (`receive`), and says so of
//! each (`PartitionEvent::Arrived`). Who may still send requests to whom is the shards' to see to (`shard/moves.rs`).
//!
//! Invariant: at most one shard has a partition's log. What the journal of the old shard holds of a partition is not released
//! before its segments have it durably: no checkpoint of a journal begins or runs from when the last log is at rest until all
//! are closed. What is left of it in that journal does no harm: a start that carries it out writes the same bytes to the same
//! places, whatever the new shard's journal says of the partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::creation::{BrokerLogConfig, NewPartition, open_at_boot};
use super::directory::{DataDirectory, DirectoryIndex};
use super::jobs::{OwnJob, OwnResult, may_pass};
use super::journaling::JournalSeat;
use super::offline::OfflineReason;
use super::set::{PartitionEvent, PartitionSet, ReplicaIndex};
use crate::log::journal::PartitionKey;
use crate::log::{Log, PartitionOffsets, RecoveryError, RecoveryInput, StorageError, sync_file_system};
use crate::mesh::{FetchOrder, HandedPartition};
use crate::model::{DirectoryId, PartitionIndex, Timestamp, TopicId};
use crate::reactor::{File, Files};

type Key = (TopicId, PartitionIndex);

/// Partitions that this shard gives to another one.
#[derive(Default)]
pub(super) struct Giving {
    /// Not closed yet.
    keys: Vec<Key>,
    /// Nothing of them is under way: journals begin no checkpoint until they are closed.
    is_at_rest: bool,
    jobs: usize,
    given: Vec<HandedPartition>,
}

/// A partition that another shard has closed, and what to open here.
pub struct Arriving {
    pub new: NewPartition,
    pub handed: HandedPartition,
}

/// An append for a partition that is on its way here.
pub struct HeldAppend {
    pub order: u32,
    pub part: u32,
    pub acks: i16,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub records: Bytes,
}

/// Partitions that come from another shard, and requests that wait for them. How much may wait is bounded by what
/// connections may have unanswered.
#[derive(Default)]
pub struct Arrivals {
    awaited: BTreeSet<Key>,
    /// In the order in which they came.
    appends: Vec<HeldAppend>,
    fetches: Vec<FetchOrder>,
    /// There was no room to open them; tried again.
    unopened: Vec<Arriving>,
}

impl Arrivals {
    /// This partition is on its way here.
    pub fn is_awaited(&self, topic_id: TopicId, partition: PartitionIndex) -> bool {
        !self.awaited.is_empty() && self.awaited.contains(&(topic_id, partition))
    }

    /// Of all that are awaited only these will come.
    pub fn await_only(&mut self, keys: BTreeSet<Key>) {
        self.awaited = keys;
    }

    /// This partition is here, and found if it is served. What was held for it goes before what comes now: see `take_ready`.
    pub fn arrived(&mut self, topic_id: TopicId, partition: PartitionIndex) {
        self.awaited.remove(&(topic_id, partition));
    }

    pub fn hold_append(&mut self, append: HeldAppend) {
        self.appends.push(append);
    }

    pub fn hold_fetch(&mut self, order: FetchOrder) {
        self.fetches.push(order);
    }

    /// What need not wait any longer, since nothing that it is about is on its way.
    pub fn take_ready(&mut self) -> (Vec<HeldAppend>, Vec<FetchOrder>) {
        let Arrivals { awaited, appends, fetches, .. } = self;
        let is_ready = |append: &mut HeldAppend| !awaited.contains(&(append.topic_id, append.partition));
        let appends = appends.extract_if(.., is_ready).collect();
        let waits =
            |order: &FetchOrder| order.parts.iter().any(|p| awaited.contains(&(p.topic_id, p.partition)));
        (appends, fetches.extract_if(.., |order| !waits(order)).collect())
    }
}

/// What came of closing the logs of one directory.
pub(super) struct Given {
    partitions: Vec<HandedPartition>,
    result: Result<(), StorageError>,
}

/// What came of opening them.
pub(super) type Received = Vec<(Arriving, Result<Log, RecoveryError>)>;

impl PartitionSet {
    /// Gives partitions of this shard away; announced with `Given`. Nobody sends requests for them here any more.
    pub fn give(&mut self, keys: Vec<Key>) {
        assert!(self.giving.is_none(), "one slot moves at a time");
        self.giving = Some(Giving { keys, ..Giving::default() });
    }

    /// Some partitions are being given away and their logs are at rest: what a checkpoint would release is needed until they are
    /// closed.
    pub(super) fn withholds_checkpoints(&self) -> bool {
        self.giving.as_ref().is_some_and(|giving| giving.is_at_rest)
    }

    /// Goes on with giving partitions away, if that is under way.
    pub(super) fn drive_giving(&mut self) {
        let Some(mut giving) = self.giving.take() else { return };
        if giving.jobs == 0 && !giving.keys.is_empty() {
            let mut is_at_rest = true;
            for key in &giving.keys {
                is_at_rest &= self.comes_to_rest(*key);
            }
            giving.is_at_rest = is_at_rest;
            let runs = |seat: &JournalSeat| seat.runs_checkpoint();
            if is_at_rest && !self.journals.values().any(runs) {
                self.close_given(&mut giving);
            }
        }
        if giving.jobs == 0 && giving.keys.is_empty() {
            self.events.push(PartitionEvent::Given(giving.given));
        } else {
            self.giving = Some(giving);
        }
    }

    /// Whether nothing of a partition is under way, neither an append nor a read, and all it has journaled is in its segments,
    /// which it is asked for.
    fn comes_to_rest(&mut self, key: Key) -> bool {
        let Some(index) = self.find(key.0, key.1) else {
            // It may have gone offline meanwhile.
            return !self.leaving.iter().any(|leaving| self.key_of(leaving.index) == key);
        };
        let log = &mut self.get_mut(index).log;
        if log.unstored_bytes() > 0 {
            log.want_stored();
            self.queue_store(index);
            return false;
        }
        let replica = self.get(index);
        let is_appending = replica.purgatory.has_appends() || !replica.parked.is_empty();
        !is_appending && replica.log.is_quiet() && !self.wanted_reads.has(key)
    }

    fn key_of(&self, index: ReplicaIndex) -> Key {
        let replica = self.get(index);
        (replica.topic_id, replica.at.partition)
    }

    fn close_given(&mut self, giving: &mut Giving) {
        let mut closing: BTreeMap<DirectoryIndex, Vec<(HandedPartition, Log)>> = BTreeMap::new();
        for key in std::mem::take(&mut giving.keys) {
            if let Some(index) = self.find(key.0, key.1) {
                let (directory, handed, log) = self.take_out(index);
                closing.entry(directory).or_default().push((handed, log));
            } else if let Some(offline) = self.offline.remove(&key) {
                let id_of = |directory| self.directories().get(directory).id;
                giving.given.push(HandedPartition {
                    topic: Arc::clone(&offline.at.topic),
                    topic_id: key.0,
                    partition: key.1,
                    directory: offline.directory.map_or(DirectoryId::ZERO, id_of),
                    end_offset: None,
                    is_complete: false,
                });
            }
        }
        for (directory, logs) in closing {
            giving.jobs += 1;
            let through = self.journals.get(&directory).map(JournalSeat::sync_file);
            let directories = Arc::clone(self.directories());
            // Behind the jobs of this shard that may still write of these partitions: checkpoints, seals.
            self.start_job(OwnJob::Give(directory), move |files| {
                OwnResult::Given(close_all(files, directories.get(directory), through, logs))
            });
        }
    }

    /// Takes a log at rest out of service.
    fn take_out(&mut self, index: ReplicaIndex) -> (DirectoryIndex, HandedPartition, Log) {
        self.wake_watchers(index);
        self.forget_journaled(index);
        let replica = self.vacate(index);
        assert!(replica.log.is_quiet(), "{} is given away with operations in flight", replica.at);
        let handed = HandedPartition {
            topic: Arc::clone(&replica.at.topic),
            topic_id: replica.topic_id,
            partition: replica.at.partition,
            directory: self.directories().get(replica.directory).id,
            end_offset: Some(replica.log.log_end_offset()),
            is_complete: false,
        };
        (replica.directory, handed, replica.log)
    }

    /// The logs of one directory are closed.
    pub(super) fn given(&mut self, directory: DirectoryIndex, given: Given) {
        let giving = self.giving.as_mut().expect("logs are closed while they are given away");
        giving.jobs -= 1;
        giving.given.extend(given.partitions);
        if let Err(error) = given.result {
            // The new shard finds it failed, and the partitions with it.
            self.fail_directory(directory, Arc::new(error));
        }
    }

    /// These partitions come from another shard: requests for them are held until they are here.
    pub fn await_arrival(&mut self, keys: impl Iterator<Item = Key>) {
        self.arrivals.awaited.extend(keys);
    }

    /// Removes a partition that another shard has closed and whose topic is gone; announced with `Removed`.
    pub fn remove_handed(&mut self, handed: &HandedPartition) {
        let (at, topic_id) = (handed.at(), handed.topic_id);
        let directory = self.directories().index_of(handed.directory);
        match directory.filter(|directory| self.directories().failure(*directory).is_none()) {
            Some(directory) => self.remove_closed(directory, at, topic_id),
            // A start that finds the folder again sets it aside: the metadata does not know it any more.
            None => self.events.push(PartitionEvent::Removed),
        }
    }

    /// Opens partitions that another shard has closed; each is announced with `Arrived`.
    pub fn receive(&mut self, arriving: Vec<Arriving>, now: Timestamp) {
        let mut opening: BTreeMap<DirectoryIndex, Vec<Arriving>> = BTreeMap::new();
        for arriving in arriving {
            let directory = self.directories().index_of(arriving.new.directory);
            match self.why_not_opened(directory, &arriving) {
                None => opening.entry(directory.expect("it is there")).or_default().push(arriving),
                Some(reason) => self.arrived_offline(&arriving.new, reason),
            }
        }
        let broker = self.options.broker;
        for (directory, all) in opening {
            let directories = Arc::clone(self.directories());
            self.start_job(OwnJob::Receive(directory), move |files| {
                OwnResult::Received(open_all(files, directories.get(directory), all, broker, now))
            });
        }
    }

    /// Some partitions could not be opened for want of room and are tried again; a stop need not wait for them.
    pub fn has_unopened(&self) -> bool {
        !self.arrivals.unopened.is_empty()
    }

    /// Tries again to open what could not be opened for want of room.
    pub fn retry_arrivals(&mut self, now: Timestamp) {
        if !self.arrivals.unopened.is_empty() {
            let unopened = std::mem::take(&mut self.arrivals.unopened);
            self.receive(unopened, now);
        }
    }

    fn why_not_opened(
        &self,
        directory: Option<DirectoryIndex>,
        arriving: &Arriving,
    ) -> Option<OfflineReason> {
        let new = &arriving.new;
        let Some(directory) = directory else { return Some(OfflineReason::NoDirectory(new.directory)) };
        let directory = self.directories().get(directory);
        if let Some(error) = directory.failure() {
            return Some(OfflineReason::Storage(Arc::clone(error)));
        }
        let key = PartitionKey { topic_id: new.topic_id, partition: new.at.partition };
        let damaged = directory.redone.partitions.get(&key).and_then(|redone| redone.damaged.clone());
        damaged.filter(|_| arriving.handed.end_offset.is_none()).map(OfflineReason::Damaged)
    }

    fn arrived_offline(&mut self, new: &NewPartition, reason: OfflineReason) {
        self.insert_offline(new, reason.clone());
        self.arrived(new, Some(reason));
    }

    fn arrived(&mut self, new: &NewPartition, refused: Option<OfflineReason>) {
        self.events.push(PartitionEvent::Arrived { at: new.at.clone(), topic_id: new.topic_id, refused });
    }

    /// The logs of one directory are open, or not.
    pub(super) fn received(&mut self, directory: DirectoryIndex, received: Received) {
        for (arriving, opened) in received {
            match opened {
                Ok(log) => {
                    let replica = self.insert(arriving.new.clone(), log);
                    self.take_offline_with_directory(replica);
                    self.arrived(&arriving.new, None);
                }
                Err(RecoveryError::Storage(error)) if may_pass(&error) => {
                    let at = Some(arriving.new.at.clone());
                    self.events.push(PartitionEvent::NoSpace { at, error: Arc::new(error) });
                    self.arrivals.unopened.push(arriving);
                }
                Err(RecoveryError::Storage(error)) => {
                    let error = Arc::new(error);
                    self.arrived_offline(&arriving.new, OfflineReason::Storage(Arc::clone(&error)));
                    self.fail_directory(directory, error);
                }
                Err(RecoveryError::Damaged(damaged)) => {
                    self.arrived_offline(&arriving.new, OfflineReason::Damaged(damaged));
                }
            }
        }
    }
}

/// Closes logs and makes all they have durable in their segments. Runs in a job.
fn close_all(
    files: &mut dyn Files,
    directory: &DataDirectory,
    through: Option<File>,
    logs: Vec<(HandedPartition, Log)>,
) -> Given {
    let (mut partitions, mut offsets, mut result) = (Vec::new(), Vec::new(), Ok(()));
    for (mut handed, log) in logs {
        let (at, topic_id, log_start) = (log.partition().clone(), log.topic_id(), log.log_start_offset());
        match log.close_unsynced(files) {
            Ok(recovery_point) => {
                handed.is_complete = true;
                offsets.push(PartitionOffsets { at, topic_id, recovery_point, log_start });
            }
            // All records are in the segments; indexes, epochs and producers are made from them.
            Err(error) if may_pass(&error) => {}
            Err(error) => result = Err(error),
        }
        partitions.push(handed);
    }
    result = result.and_then(|()| sync_file_system(files, &directory.path, through));
    if result.is_ok() {
        result = match directory.book.write(files, &offsets) {
            // The book has them; the next checkpoint writes them.
            Err(error) if may_pass(&error) => Ok(()),
            written => written,
        };
    }
    Given { partitions, result }
}

/// Opens what another shard has closed. Runs in a job.
fn open_all(
    files: &mut dyn Files,
    directory: &DataDirectory,
    all: Vec<Arriving>,
    broker: BrokerLogConfig,
    now: Timestamp,
) -> Received {
    let mut received = Vec::new();
    for arriving in all {
        let new = &arriving.new;
        let (recovery_point, log_start) = directory.book.adopt(&new.at, new.topic_id);
        let key = PartitionKey { topic_id: new.topic_id, partition: new.at.partition };
        let redone_end = directory.redone.partitions.get(&key).map_or(0, |redone| redone.end_offset);
        let input = RecoveryInput {
            recovery_point,
            log_start,
            // A log that ends before is damaged: all that was there is in its segments.
            journaled_end: arriving.handed.end_offset.unwrap_or(redone_end),
            is_clean: match arriving.handed.end_offset {
                Some(_) => arriving.handed.is_complete,
                None => directory.was_clean,
            },
        };
        let book = &directory.book;
        let opened = open_at_boot(files, &directory.path, book, new, broker, &input, now, &mut |_| ());
        received.push((arriving, opened.map(|(log, _)| log)));
    }
    received
}
