//! All replicas of one shard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::counts::{AppendCounts, ReadCounts};
use super::creation::{self, BrokerLogConfig, NewPartition, log_config};
use super::deletion::{Deletion, WaitingDeletions};
use super::directory::{DirectoryIndex, DirectorySet};
use super::fetching::ReadTable;
use super::handover::{Arrivals, Giving};
use super::jobs::{Jobs, OWN_JOB, OwnJob, OwnResult};
use super::journal_waits::JournalWaits;
use super::journaling::{Control, JournalSeat, OWN_GROUP};
use super::offline::{OfflineReason, OfflineReplica};
use super::old_files::OldFiles;
use super::orders::{FetchReads, ProduceOrders};
use super::purgatory::{Purgatory, Waiter, WaitingAppend};
use super::replica::{Appended, Parked, Replica, rules_of};
use super::scrubbing::{ScrubOptions, Scrubbing};
use super::session_watches::SessionWatches;
use super::validate::{BatchError, check_batch, not_a_batch};
use crate::config::TopicConfig;
use crate::log::{AppendError, Log, LogSlot, Now, Progress, ReadError, StorageError, TailCache};
use crate::mesh::{HandedPartition, Ticket};
use crate::metrics::{AppendTimes, Busiest, Class, JournalMeter, Path, Tally, Traffic};
use crate::model::{Map, Monotonic, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use crate::net::Frame;
use crate::reactor::{Completion, Io, Outcome, Timers};
use crate::record::BatchView;

/// Bytes of batches that may wait for one log to make room; more are refused, so that a stuck disk stops producers and
/// not the process. One connection cannot reach it (`net` reads no more of one with 8 MiB unanswered); a refusal costs a
/// producer without idempotence its order, so it is the last resort.
const PARKED_BYTES_MAX: usize = 256 << 20;

/// A shortage of space is told of at most this often, for each partition.
const NO_SPACE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A log that nobody used for so long gives back descriptors and memory.
const IDLE_LOG: Duration = Duration::from_secs(60);

/// Names a replica of this shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaIndex(pub u32);

/// What became of an append.
#[derive(Debug)]
pub enum AppendOutcome {
    /// Durable already (a duplicate of what was).
    Done(Appended),
    /// The waiter is told.
    Waits,
    Refused {
        error: AppendRefusal,
        log_start_offset: Offset,
    },
}

/// Why a batch is not appended.
#[derive(Debug)]
pub enum AppendRefusal {
    Batch(BatchError),
    Log(AppendError),
    /// Too many batches wait for this log already.
    Overloaded,
}

/// Why an append that waited will never be durable.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A write or flush failed.
    Storage,
    /// There is no room for it.
    NoSpace,
    /// The partition was removed, or moved to another shard.
    Gone,
    /// The log refused it when its turn came.
    Refused(AppendError),
}

/// How an append came to its durability level, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendEnd {
    pub class: Class,
    /// `taken` is not the partition's to know.
    pub times: AppendTimes,
}

/// When the operation ended that moved a log's committed offset, and of a write with its flush, when the write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub path: Path,
    pub written: Monotonic,
    pub now: Now,
}

/// What happened on the partitions; the shard carries it to whom it concerns.
pub enum PartitionEvent {
    Satisfied {
        waiter: Waiter,
        appended: Appended,
        ended: AppendEnd,
    },
    Failed {
        waiter: Waiter,
        failure: Failure,
    },
    /// A partition that this fetch watches has moved.
    Woken(Ticket),
    /// The last read of a fetch order is done.
    ReadsDone {
        reading: u32,
    },
    Opened {
        replica: ReplicaIndex,
    },
    /// A new partition is offline: its directory is not there.
    Unopened,
    Removed,
    /// The partitions that were to be given to another shard are closed.
    Given(Vec<HandedPartition>),
    /// A partition that another shard gave is here: served, or offline for this reason.
    Arrived {
        at: TopicPartition,
        topic_id: TopicId,
        refused: Option<OfflineReason>,
    },
    /// The checkpoint that this deletion waited for has ended.
    Deleted {
        deletion: Deletion,
        is_durable: bool,
    },
    /// A data directory has failed, here or on another shard: its partitions on this shard are offline now.
    DirectoryOffline {
        directory: DirectoryIndex,
        error: Arc<StorageError>,
        /// This shard is the first to know.
        is_news: bool,
    },
    /// Bytes that were flushed are not what they must be, or cannot be read. Those around them are served on.
    Damaged {
        at: TopicPartition,
        error: Arc<ReadError>,
    },
    /// There is no room for something; it is tried again.
    NoSpace {
        /// `None`: for the checkpoints of a directory.
        at: Option<TopicPartition>,
        error: Arc<StorageError>,
    },
}

/// Set in the token of an operation that is the set's own and no log's.
pub(super) const OWN: u64 = 1 << 55;

/// Kinds of own operations, above 40 bits of number.
pub(super) const OWN_READ: u64 = 0;
pub(super) const OWN_SCRUB: u64 = 3;

/// A replica that is no longer served and whose log is not quiet yet.
pub(super) struct Leaving {
    pub index: ReplicaIndex,
    /// Its topic is gone: the folder goes too.
    pub removes_folder: bool,
}

/// What the set needs from its surroundings.
pub struct PartitionSetOptions {
    pub directories: Arc<DirectorySet>,
    pub broker: BrokerLogConfig,
    pub tail_cache_bytes: usize,
    /// Files of sealed segments held open.
    pub old_files_max: usize,
    /// Bytes that disk reads for fetches may bring that are under way.
    pub fetch_read_bytes_max: usize,
    pub scrub: ScrubOptions,
}

/// Replicas, and what of them is in motion.
pub struct PartitionSet {
    pub orders: ProduceOrders,
    pub reads: FetchReads,
    pub(super) options: PartitionSetOptions,
    pub(super) replicas: Vec<Option<Replica>>,
    free: Vec<u32>,
    pub(super) by_key: Map<(TopicId, PartitionIndex), ReplicaIndex>,
    /// Partitions of this shard that are not served. Disjoint from `by_key`.
    pub(super) offline: BTreeMap<(TopicId, PartitionIndex), OfflineReplica>,
    /// Failed directories whose partitions are offline here.
    pub(super) heeded: BTreeSet<DirectoryIndex>,
    pub(super) cache: TailCache,
    pub(super) journals: BTreeMap<DirectoryIndex, JournalSeat>,
    pub(super) journal_waits: JournalWaits,
    /// A mapped journal has room again, for logs that it refused in this round.
    pub(super) has_made_room: bool,
    /// Logs with something to submit.
    pub(super) dirty: Vec<ReplicaIndex>,
    pub(super) events: Vec<PartitionEvent>,
    pub(super) wanted_reads: ReadTable,
    pub(super) watched: BTreeMap<Ticket, Vec<ReplicaIndex>>,
    pub(super) woken: Vec<Ticket>,
    pub(super) session_watches: SessionWatches,
    pub(super) old_files: OldFiles,
    pub(super) jobs: Jobs,
    timers: Timers<ReplicaIndex>,
    pub(super) counts: AppendCounts,
    pub(super) read_counts: ReadCounts,
    pub(super) busiest: Busiest<ReplicaIndex>,
    /// Those through which something went that nobody has been told of.
    pub(super) untold: Vec<ReplicaIndex>,
    scratch: Vec<u8>,
    /// Partitions that could not be made yet.
    pub(super) unmade: Vec<NewPartition>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) checkpoint_running: bool,
    pub(super) deletions: WaitingDeletions,
    pub(super) scrubbing: Scrubbing,
    pub(super) giving: Option<Giving>,
    pub arrivals: Arrivals,
}

impl PartitionSet {
    pub fn new(options: PartitionSetOptions) -> PartitionSet {
        PartitionSet {
            orders: ProduceOrders::default(),
            reads: FetchReads::default(),
            old_files: OldFiles::new(options.old_files_max),
            cache: TailCache::new(options.tail_cache_bytes),
            scrubbing: Scrubbing::new(options.scrub),
            options,
            replicas: Vec::new(),
            free: Vec::new(),
            by_key: Map::default(),
            offline: BTreeMap::new(),
            heeded: BTreeSet::new(),
            journals: BTreeMap::new(),
            journal_waits: JournalWaits::new(JournalMeter::detached()),
            has_made_room: false,
            dirty: Vec::new(),
            events: Vec::new(),
            wanted_reads: ReadTable::default(),
            watched: BTreeMap::new(),
            woken: Vec::new(),
            session_watches: SessionWatches::default(),
            jobs: Jobs::default(),
            timers: Timers::new(),
            counts: AppendCounts::default(),
            read_counts: ReadCounts::default(),
            busiest: Busiest::default(),
            untold: Vec::new(),
            scratch: Vec::new(),
            unmade: Vec::new(),
            leaving: Vec::new(),
            checkpoint_running: false,
            deletions: WaitingDeletions::default(),
            giving: None,
            arrivals: Arrivals::default(),
        }
    }

    /// The replica of a partition, if this shard owns it.
    pub fn find(&self, topic_id: TopicId, partition: PartitionIndex) -> Option<ReplicaIndex> {
        self.by_key.get(&(topic_id, partition)).copied()
    }

    /// Panics if there is no such replica: indexes come from `find` in the same round.
    pub fn get(&self, index: ReplicaIndex) -> &Replica {
        self.replicas[index.0 as usize].as_ref().expect("a replica that was found is there")
    }

    pub fn get_mut(&mut self, index: ReplicaIndex) -> &mut Replica {
        self.replicas[index.0 as usize].as_mut().expect("a replica that was found is there")
    }

    pub(super) fn replica_and_cache(&mut self, index: ReplicaIndex) -> (&mut Replica, &mut TailCache) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("a replica that was found is there");
        (replica, &mut self.cache)
    }

    /// All replicas that have a log, by slot; among them those that are no longer served and not quiet yet.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaIndex, &Replica)> {
        (0u32..)
            .zip(&self.replicas)
            .filter_map(|(slot, replica)| Some((ReplicaIndex(slot), replica.as_ref()?)))
    }

    /// The replicas that are served, by slot.
    pub fn served(&self) -> impl Iterator<Item = (ReplicaIndex, &Replica)> {
        self.iter().filter(|(_, replica)| !replica.is_withdrawn)
    }

    /// Where this shard's partitions are kept.
    pub fn directories(&self) -> &Arc<DirectorySet> {
        &self.options.directories
    }

    /// Partitions that are served.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Of disk reads for fetches: bytes that those under way may bring, and how many wait.
    pub fn disk_reads(&self) -> (usize, usize) {
        (self.wanted_reads.running_bytes(), self.wanted_reads.waiting())
    }

    /// Disk reads wait for the next round alone.
    pub fn has_reads_to_begin(&self) -> bool {
        self.wanted_reads.is_cut_short()
    }

    /// Bytes of recent records in memory.
    pub fn tail_cache_bytes(&self) -> usize {
        self.cache.used_bytes()
    }

    /// Puts a recovered or newly made log into service. Panics if the partition's directory is not there.
    pub fn insert(&mut self, new: NewPartition, mut log: Log) -> ReplicaIndex {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.replicas.push(None);
            (self.replicas.len() - 1) as u32
        });
        let index = ReplicaIndex(slot);
        log.attach(LogSlot(slot));
        let directory = self.directories().index_of(new.directory);
        let key = (new.topic_id, new.at.partition);
        let told_end = log.committed_offset();
        self.replicas[slot as usize] = Some(Replica {
            rules: rules_of(&new.config),
            at: new.at,
            topic_id: new.topic_id,
            directory: directory.expect("a log is in one of the directories"),
            leader_epoch: new.leader_epoch,
            config: new.config,
            log,
            purgatory: Purgatory::default(),
            parked: VecDeque::new(),
            parked_bytes: 0,
            is_dirty: false,
            is_store_queued: false,
            is_withdrawn: false,
            no_space_told: None,
            is_internal: new.is_internal,
            told_end,
            deadline: None,
            journal_wait: None,
            checkpointed_start: None,
            told_recovery_point: None,
            tally: Tally::default(),
            untold: Traffic::default(),
        });
        let before = self.by_key.insert(key, index);
        assert!(before.is_none(), "a partition has two replicas on one shard");
        self.mark_dirty(index);
        index
    }

    /// Appends a produced batch.
    pub fn append(
        &mut self,
        index: ReplicaIndex,
        records: &[u8],
        frame: &Frame<'_>,
        waiter: Waiter,
        now: Now,
    ) -> AppendOutcome {
        let log_start_offset = self.get(index).log.log_start_offset();
        let refused = |error| AppendOutcome::Refused { error, log_start_offset };
        let batch = match BatchView::parse(records) {
            Ok(batch) => batch,
            Err(error) => return refused(AppendRefusal::Batch(not_a_batch(error))),
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let checked = check_batch(&batch, &self.get(index).rules, now.wall, &mut scratch);
        scratch.clear();
        self.scratch = scratch;
        if let Err(error) = checked {
            return refused(AppendRefusal::Batch(error));
        }
        self.append_checked(index, &batch, || frame.keep(records), waiter, now)
    }

    /// Appends a batch that this process made itself (coordinators, the controller).
    pub fn append_own(
        &mut self,
        index: ReplicaIndex,
        batch: &Bytes,
        waiter: Waiter,
        now: Now,
    ) -> AppendOutcome {
        let view = BatchView::parse(batch).expect("own batches are well formed");
        self.append_checked(index, &view, || batch.clone(), waiter, now)
    }

    fn append_checked(
        &mut self,
        index: ReplicaIndex,
        batch: &BatchView<'_>,
        keep: impl FnOnce() -> Bytes,
        waiter: Waiter,
        now: Now,
    ) -> AppendOutcome {
        let failure = self.directories().failure(self.get(index).directory).cloned();
        let replica = self.get_mut(index);
        let log_start_offset = replica.log.log_start_offset();
        let result = if let Some(error) = failure {
            // What was acknowledged before may be sent again, and must not be acknowledged again.
            Err(AppendError::Offline(error))
        } else if replica.parked.is_empty() {
            replica.log.append(batch, replica.leader_epoch, now)
        } else {
            Err(AppendError::Wait)
        };
        let is_duplicate = result.as_ref().ok().map(|appended| appended.is_duplicate);
        let outcome = match result {
            Ok(appended) => {
                let waiting = replica.waiting(&appended, waiter, Monotonic(0));
                if waiting.end_offset <= replica.log.committed_offset() {
                    AppendOutcome::Done(replica.told(&waiting))
                } else {
                    replica.purgatory.wait_for(waiting);
                    AppendOutcome::Waits
                }
            }
            Err(AppendError::Wait) => {
                let bytes = batch.size_bytes();
                if replica.parked_bytes + bytes > PARKED_BYTES_MAX && !replica.parked.is_empty() {
                    AppendOutcome::Refused { error: AppendRefusal::Overloaded, log_start_offset }
                } else {
                    replica.parked_bytes += bytes;
                    replica.parked.push_back(Parked { batch: keep(), waiter });
                    AppendOutcome::Waits
                }
            }
            Err(error) => AppendOutcome::Refused { error: AppendRefusal::Log(error), log_start_offset },
        };
        if let AppendOutcome::Refused { error: AppendRefusal::Log(AppendError::NoSpace), .. } = outcome {
            self.tell_no_space(index, now);
        }
        if let Some(is_duplicate) = is_duplicate {
            self.count(index, batch, is_duplicate);
        }
        self.mark_dirty(index);
        outcome
    }

    /// Tries again what waited for room, in order, until something must wait on.
    fn append_parked(&mut self, index: ReplicaIndex, now: Now) {
        loop {
            let replica = self.replicas[index.0 as usize].as_mut().expect("only live replicas park");
            let Some(parked) = replica.parked.pop_front() else { break };
            let view = BatchView::parse(&parked.batch).expect("it was parsed before it was parked");
            match replica.log.append(&view, replica.leader_epoch, now) {
                Ok(appended) => {
                    replica.parked_bytes -= parked.batch.len();
                    let waiting = replica.waiting(&appended, parked.waiter, now.monotonic);
                    replica.purgatory.wait_for(waiting);
                    self.count(index, &view, appended.is_duplicate);
                }
                Err(AppendError::Wait) => {
                    replica.parked.push_front(parked);
                    break;
                }
                Err(AppendError::NoSpace) => {
                    // All of them: a smaller one behind it may fit, and would leave a gap in the metadata log or in a
                    // producer's sequence.
                    replica.parked.push_front(parked);
                    self.fail_parked(index, Failure::NoSpace);
                    self.tell_no_space(index, now);
                    break;
                }
                Err(error) => {
                    replica.parked_bytes -= parked.batch.len();
                    let failure = match error {
                        AppendError::Offline(_) => Failure::Storage,
                        refused => Failure::Refused(refused),
                    };
                    self.events.push(PartitionEvent::Failed { waiter: parked.waiter, failure });
                }
            }
        }
        self.mark_dirty(index);
    }

    fn tell_no_space(&mut self, index: ReplicaIndex, now: Now) {
        let replica = self.get_mut(index);
        let is_told = |told: Monotonic| now.monotonic.since(told) < NO_SPACE_TOLD_EVERY;
        if replica.no_space_told.is_some_and(is_told) {
            return;
        }
        replica.no_space_told = Some(now.monotonic);
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let error = Arc::new(StorageError::new("reserve space", replica.log.directory(), source));
        let at = Some(replica.at.clone());
        self.events.push(PartitionEvent::NoSpace { at, error });
    }

    pub(super) fn mark_dirty(&mut self, index: ReplicaIndex) {
        let replica = self.get_mut(index);
        if !replica.is_dirty {
            replica.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Commits this round: hands the logs' writes and flushes, wanted reads and jobs to the reactor.
    pub fn drive(&mut self, io: &mut dyn Io) {
        let now = Now::read(io);
        self.has_made_room = false;
        self.advance_mapped_checkpoints();
        let mut dirty = std::mem::take(&mut self.dirty);
        // The ring is full for the others, or the journal; what ends next makes room.
        dirty.retain(|index| !self.drive_log(io, *index, now));
        let has_refused = !dirty.is_empty();
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.has_made_room = false;
        self.commit_mapped_journals(now);
        // Only what was refused waits for room.
        self.has_made_room &= has_refused;
        self.drive_giving();
        self.drive_journals(io, now);
        self.submit_reads(io);
        self.release_quiet(io);
        self.submit_jobs(io);
    }

    /// Hands what a log wants to the reactor. False: not all of it could be.
    fn drive_log(&mut self, io: &mut dyn Io, index: ReplicaIndex, now: Now) -> bool {
        let Some(replica) = self.replicas[index.0 as usize].as_mut() else { return true };
        let mut journals = self.journals.get_mut(&replica.directory).map(JournalSeat::for_round);
        let log = &mut replica.log;
        let is_driven = match &mut journals {
            Some(journals) => log.drive_with(io, now, journals, &self.cache, replica.leader_epoch),
            None => log.drive(io, now),
        };
        replica.is_dirty = !is_driven;
        self.journal_waits.note(replica, journals.filter(|_| !is_driven).as_ref(), now.monotonic);
        if is_driven {
            self.set_deadline(index);
        }
        self.queue_store(index);
        is_driven
    }

    fn set_deadline(&mut self, index: ReplicaIndex) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("it was driven a moment ago");
        let wanted = replica.log.next_deadline();
        match replica.deadline {
            Some((at, _)) if at == wanted => return,
            Some((_, timer)) => {
                self.timers.cancel(timer);
                replica.deadline = None;
            }
            None => {}
        }
        if wanted != Monotonic::NEVER {
            replica.deadline = Some((wanted, self.timers.insert(wanted, index)));
        }
    }

    /// Logs whose deadline is here are driven this round.
    pub fn fire_timers(&mut self, now: Monotonic) {
        while let Some(index) = self.timers.pop_due(now) {
            if let Some(replica) = self.replicas[index.0 as usize].as_mut() {
                replica.deadline = None;
                self.mark_dirty(index);
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next_deadline()
    }

    /// Work waits that no completion announces.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || self.session_watches.has_moved() || self.has_made_room
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<PartitionEvent> {
        std::mem::take(&mut self.events)
    }

    /// Takes the list of the events back when they are carried out, so that no round allocates one. What came meanwhile stays.
    pub fn give_back_events(&mut self, mut events: Vec<PartitionEvent>) {
        assert!(events.is_empty(), "events were not carried out");
        if self.events.is_empty() {
            std::mem::swap(&mut self.events, &mut events);
        }
    }

    /// Takes a completion of `Room::Log`.
    pub fn complete(&mut self, io: &mut dyn Io, completion: Completion, now: Monotonic) {
        let (token, written) = (completion.token, completion.written.unwrap_or(now));
        if token.value & OWN != 0 {
            let (kind, number) = (token.value >> 48 & 0x7f, token.value & 0xffff_ffff_ffff);
            match (kind, completion.outcome) {
                (OWN_READ, outcome) => self.read_done(io, number, outcome, now),
                (OWN_JOB, Outcome::Job(result)) => self.job_done(io, number, result),
                (OWN_SCRUB, outcome) => self.scrub_done(io, outcome),
                (OWN_GROUP, outcome) => {
                    let now = Now { monotonic: now, wall: io.wall_clock() };
                    self.group_done(number, outcome, Ended { path: Path::Journal, written, now });
                }
                _ => panic!("no operation of the partition set ends like this"),
            }
            return;
        }
        let index = ReplicaIndex(LogSlot::of(token).0);
        let replica = self.replicas[index.0 as usize].as_mut().expect("a log stays until it is quiet");
        let progress = replica.log.complete(io, &mut self.cache, token, completion.outcome, now);
        let has_opened = replica.log.has_opened();
        self.note_stored(index, &progress);
        if has_opened {
            self.note_old_files(io, index);
        }
        if self.get(index).is_withdrawn {
            return;
        }
        let now = Now { monotonic: now, wall: io.wall_clock() };
        self.progressed(index, progress, Ended { path: Path::PageCache, written, now });
        self.mark_dirty(index);
    }

    pub(super) fn progressed(&mut self, index: ReplicaIndex, progress: Progress, ended: Ended) {
        let directory = self.get(index).directory;
        if let Some(error) = progress.failed {
            self.fail_directory(directory, error);
            return;
        }
        // Another shard may have seen the directory fail since this one looked: then nothing more is acknowledged.
        if self.heed_failures().contains(&directory) {
            return;
        }
        if progress.committed {
            let path = if progress.is_direct { Path::Direct } else { ended.path };
            self.satisfy(index, Ended { path, ..ended });
        }
        if progress.append_again {
            self.append_parked(index, ended.now);
        }
    }

    /// Tells appends that the committed offset has reached, and the fetches that watch.
    fn satisfy(&mut self, index: ReplicaIndex, ended: Ended) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("it has just progressed");
        let committed = replica.log.committed_offset();
        let class = Class::Produce(replica.config.durability, ended.path);
        while let Some(waiting) = replica.purgatory.pop_satisfied(committed) {
            let appended = replica.told(&waiting);
            let (written, committed) = (ended.written, ended.now.monotonic);
            let times = AppendTimes { taken: Monotonic(0), appended: waiting.appended, written, committed };
            let ended = AppendEnd { class, times };
            self.events.push(PartitionEvent::Satisfied { waiter: waiting.waiter, appended, ended });
        }
        assert!(committed >= replica.told_end, "the high watermark of {} went back", replica.at);
        replica.told_end = committed;
        self.wake_watchers(index);
    }

    fn fail_waiters(&mut self, index: ReplicaIndex, failure: Failure) {
        let replica =
            self.replicas[index.0 as usize].as_mut().expect("its waiters are failed while it is there");
        while let Some(waiting) = replica.purgatory.pop_any() {
            self.events.push(PartitionEvent::Failed { waiter: waiting.waiter, failure: failure.clone() });
        }
        self.fail_parked(index, failure);
    }

    fn fail_parked(&mut self, index: ReplicaIndex, failure: Failure) {
        let replica =
            self.replicas[index.0 as usize].as_mut().expect("its waiters are failed while it is there");
        replica.parked_bytes = 0;
        for parked in replica.parked.drain(..) {
            self.events.push(PartitionEvent::Failed { waiter: parked.waiter, failure: failure.clone() });
        }
    }

    /// Makes partitions on disk; each is announced with `Opened`, or `Unopened` if its directory is not there.
    pub fn create(&mut self, new: Vec<NewPartition>, now: Timestamp) {
        let broker = self.options.broker;
        let mut by_directory: BTreeMap<DirectoryIndex, Vec<_>> = BTreeMap::new();
        for new in new {
            let Some(directory) = self.directories().index_of(new.directory) else {
                self.insert_offline(&new, OfflineReason::NoDirectory(new.directory));
                self.events.push(PartitionEvent::Unopened);
                continue;
            };
            if let Some(error) = self.directories().failure(directory).cloned() {
                self.insert_offline(&new, OfflineReason::Storage(error));
                self.events.push(PartitionEvent::Unopened);
                continue;
            }
            let config = log_config(&new.config, broker, new.is_internal);
            by_directory.entry(directory).or_default().push((new, config));
        }
        // A job for each directory: one that fails says nothing of the others' partitions.
        for (directory, all) in by_directory {
            let directories = Arc::clone(self.directories());
            self.start_job(OwnJob::Create(directory), move |files| {
                let directory = directories.get(directory);
                OwnResult::Created(creation::create_all(files, &directory.path, &directory.book, all, now))
            });
        }
    }

    /// Some partitions could not be made yet and are tried again; with nothing else under way, a stop need not wait for them.
    pub fn has_unmade(&self) -> bool {
        !self.unmade.is_empty()
    }

    /// Tries again to make what could not be made.
    pub fn retry_creation(&mut self, now: Timestamp) {
        if !self.unmade.is_empty() {
            let unmade = std::mem::take(&mut self.unmade);
            self.create(unmade, now);
        }
    }

    /// Takes a partition out of service for good and removes its folder; announced with `Removed`.
    pub fn remove(&mut self, index: ReplicaIndex) {
        self.tell_journal(index, Control::Delete);
        self.withdraw(index, Failure::Gone);
        self.leaving.last_mut().expect("it was withdrawn a moment ago").removes_folder = true;
    }

    /// Serves a replica no more. Its slot stays until nothing of it is in flight.
    pub(super) fn withdraw(&mut self, index: ReplicaIndex, failure: Failure) {
        self.fail_waiters(index, failure);
        self.wake_watchers(index);
        let replica = self.get_mut(index);
        replica.is_withdrawn = true;
        replica.log.retire();
        let key = (replica.topic_id, replica.at.partition);
        let deadline = replica.deadline.take();
        if let Some((_, timer)) = deadline {
            self.timers.cancel(timer);
        }
        self.by_key.remove(&key);
        self.leaving.push(Leaving { index, removes_folder: false });
    }

    /// Lets go of withdrawn replicas that nothing is in flight for any more, neither an operation of the log nor a read of a
    /// fetch: their files are closed, and the folders of those whose topic is gone are removed first.
    fn release_quiet(&mut self, io: &mut dyn Io) {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|Leaving { index, removes_folder }| {
            let is_quiet = self.get(*index).log.is_quiet();
            if is_quiet && *removes_folder {
                self.remove_folder(*index);
            } else if is_quiet {
                self.release(io, *index);
            }
            !is_quiet
        });
        self.leaving = leaving;
    }

    /// Takes a replica that is served out of its slot, log and all.
    pub(super) fn vacate(&mut self, index: ReplicaIndex) -> Replica {
        let replica = self.replicas[index.0 as usize].take().expect("a replica that was found is there");
        self.free.push(index.0);
        self.by_key.remove(&(replica.topic_id, replica.at.partition));
        if let Some((_, timer)) = replica.deadline {
            self.timers.cancel(timer);
        }
        replica
    }

    pub(super) fn release(&mut self, io: &mut dyn Io, index: ReplicaIndex) -> TopicPartition {
        self.forget_journaled(index);
        let replica = self.replicas[index.0 as usize].take().expect("a replica is released once");
        replica.log.close_files(io);
        self.free.push(index.0);
        replica.at
    }

    fn remove_folder(&mut self, index: ReplicaIndex) {
        let replica = self.get(index);
        let (at, topic_id, directory) = (replica.at.clone(), replica.topic_id, replica.directory);
        let directories = Arc::clone(self.directories());
        self.start_job(OwnJob::Remove(index), move |files| {
            OwnResult::Removed(creation::remove(files, directories.get(directory), &at, topic_id))
        });
    }

    /// Changes the settings of a live partition.
    pub fn set_config(&mut self, index: ReplicaIndex, config: Arc<TopicConfig>) {
        let broker = self.options.broker;
        let replica = self.get_mut(index);
        replica.rules = rules_of(&config);
        replica.log.set_config(log_config(&config, broker, replica.is_internal));
        replica.config = config;
        self.mark_dirty(index);
    }

    /// Raises a partition's log start, bounded by its high watermark: what lies before may be removed from the disk once
    /// the checkpoint that says so is there. Returns the log start that now holds.
    pub fn raise_log_start(&mut self, index: ReplicaIndex, offset: Offset) -> Offset {
        let (start, is_raised) = self.advance_log_start(index, offset.min(self.get(index).high_watermark()));
        if is_raised {
            self.checkpoint();
        }
        start
    }

    /// The log start that now holds, in memory, and whether it is a new one. The caller sees to a checkpoint.
    pub(super) fn advance_log_start(&mut self, index: ReplicaIndex, offset: Offset) -> (Offset, bool) {
        let log = &mut self.get_mut(index).log;
        let before = log.log_start_offset();
        let start = log.advance_log_start(offset);
        if start > before {
            self.mark_dirty(index);
            self.tell_sessions(index);
            self.tell_journal(index, Control::LogStart(start));
        }
        (start, start > before)
    }

    /// Retention by time and size, and what a quiet log can give back.
    pub fn enforce_retention(&mut self, io: &mut dyn Io) {
        let now = Now::read(io);
        let mut started_higher = false;
        for slot in 0..self.replicas.len() as u32 {
            let Some(replica) = self.replicas[slot as usize].as_mut().filter(|replica| !replica.is_withdrawn)
            else {
                continue;
            };
            let bound = replica.log.committed_offset();
            let is_raised = replica.log.enforce_retention(now.wall, bound);
            replica.log.tidy(io, &self.cache, now, IDLE_LOG);
            let start = replica.log.log_start_offset();
            if is_raised {
                started_higher = true;
                self.tell_sessions(ReplicaIndex(slot));
                self.tell_journal(ReplicaIndex(slot), Control::LogStart(start));
            }
            self.mark_dirty(ReplicaIndex(slot));
        }
        if started_higher {
            // Segments are unlinked once the checkpoint that lets recovery do without them is on disk.
            self.checkpoint();
        }
    }

    /// Nothing is on its way to disk or waits for it.
    pub fn is_quiet(&self) -> bool {
        self.events.is_empty()
            && !self.scrubbing.is_busy()
            && self.jobs.is_idle()
            && self.wanted_reads.is_empty()
            && self.journals.values().all(JournalSeat::is_quiet)
            && self.replicas.iter().flatten().all(|replica| {
                replica.log.is_quiet()
                    && (replica.log.offline().is_some() || !replica.purgatory.has_appends())
            })
    }
}

impl Replica {
    fn waiting(&self, appended: &crate::log::Appended, waiter: Waiter, at: Monotonic) -> WaitingAppend {
        WaitingAppend {
            end_offset: appended.end_offset,
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time.unwrap_or(-1),
            waiter,
            appended: at,
        }
    }

    fn told(&self, waiting: &WaitingAppend) -> Appended {
        Appended {
            base_offset: waiting.base_offset,
            log_append_time_ms: waiting.log_append_time,
            log_start_offset: self.log.log_start_offset(),
            leader_epoch: self.leader_epoch,
        }
    }
}
