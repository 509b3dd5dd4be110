//! What a consumer knows, shared by the application's calls and the background; always locked for a moment only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Notify, mpsc, watch};

use crate::client::cluster::{Cluster, ClusterImage};
use crate::client::committed::CommittedOffset;
use crate::client::error::{Abortable, ClientError};
use crate::client::offsets::{IsolationLevel, OffsetSpec};
use crate::client::random::Random;
use crate::client::settings::ConsumerSettings;
use crate::client::time::{Instant, wall_clock_ms};
use crate::model::{NodeId, TopicName, TopicPartition};

use super::chunk::Reading;
use super::group::{Group, Job};
use super::metrics::ConsumerMetrics;
use super::partition::{PartitionState, Phase};
use super::record::ConsumerRecord;
use super::session::Session;

/// Errors that wait for `poll`; more of them say nothing new.
const ERRORS_MAX: usize = 16;

/// What all parts of a consumer hold.
pub(super) struct Shared {
    pub settings: ConsumerSettings,
    pub cluster: Cluster,
    pub random: Random,
    state: Mutex<State>,
    /// The driver has something to look at.
    pub work: Notify,
    /// For the group's task; `None` without a group.
    pub jobs: Option<mpsc::UnboundedSender<Job>>,
    pub closing: watch::Sender<bool>,
}

/// What the application wants to read.
#[derive(Clone, Default)]
pub(super) enum Wish {
    #[default]
    Nothing,
    /// These partitions.
    Assigned,
    /// These topics, as one of a group.
    Topics(BTreeSet<TopicName>),
    /// Topics for whose names this is true, as one of a group.
    Where(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Nothing => f.write_str("Nothing"),
            Wish::Assigned => f.write_str("Assigned"),
            Wish::Topics(topics) => f.debug_tuple("Topics").field(topics).finish(),
            Wish::Where(_) => f.write_str("Where"),
        }
    }
}

impl Wish {
    pub fn is_subscription(&self) -> bool {
        matches!(self, Wish::Topics(_) | Wish::Where(_))
    }

    /// The topics that it comes to in a cluster like this.
    pub fn topics(&self, image: &ClusterImage, excludes_internal: bool) -> BTreeSet<TopicName> {
        match self {
            Wish::Nothing | Wish::Assigned => BTreeSet::new(),
            Wish::Topics(topics) => topics.clone(),
            Wish::Where(condition) => {
                let visible = image.topics.values().filter(|topic| !(excludes_internal && topic.is_internal));
                visible.filter(|topic| condition(&topic.name)).map(|topic| topic.name.clone()).collect()
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub is_closed: bool,
    pub wish: Wish,
    pub partitions: BTreeMap<TopicPartition, PartitionState>,
    /// Partitions with chunks, the one whose turn it is first.
    pub ready: VecDeque<TopicPartition>,
    versions: u64,
    pub group: Option<Group>,
    pub errors: VecDeque<ClientError>,
    /// Whoever waits for records.
    waker: Option<Waker>,
    /// Sessions of brokers that no fetch is under way to.
    pub sessions: BTreeMap<NodeId, Session>,
    /// Brokers that a fetch is under way to.
    pub fetching: BTreeSet<NodeId>,
    pub resting: BTreeMap<NodeId, (u32, Instant)>,
    pub next_auto_commit: Option<Instant>,
    pub last_auto_commit: Instant,
    /// Records were returned since the last automatic commit.
    pub has_moved: bool,
    pub metrics: ConsumerMetrics,
}

impl Shared {
    pub fn new(
        settings: ConsumerSettings,
        cluster: Cluster,
        group: Option<Group>,
        jobs: Option<mpsc::UnboundedSender<Job>>,
    ) -> Shared {
        let state = State {
            is_closed: false,
            wish: Wish::Nothing,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            versions: 0,
            group,
            errors: VecDeque::new(),
            waker: None,
            sessions: BTreeMap::new(),
            fetching: BTreeSet::new(),
            resting: BTreeMap::new(),
            next_auto_commit: settings.auto_commit_interval.map(|interval| Instant::now() + interval),
            last_auto_commit: Instant::now(),
            has_moved: false,
            metrics: ConsumerMetrics::default(),
        };
        Shared {
            settings,
            cluster,
            random: Random::new(),
            state: Mutex::new(state),
            work: Notify::new(),
            jobs,
            closing: watch::Sender::new(false),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reading(&self) -> Reading {
        Reading {
            checks_crcs: self.settings.check_crcs,
            decompressed_bytes_max: self.settings.decompressed_bytes_max,
            only_committed: self.only_committed(),
        }
    }

    /// What `auto.offset.reset` comes to now. `None`: an error.
    pub fn reset(&self) -> Option<OffsetSpec> {
        self.settings.auto_offset_reset.map(|reset| reset.spec(wall_clock_ms()))
    }

    pub fn only_committed(&self) -> bool {
        self.settings.isolation == IsolationLevel::ReadCommitted
    }

    /// The moment of the next try after so many failures in a row.
    pub fn next_try(&self, failures: u32) -> Instant {
        Instant::now() + self.settings.client.retry_backoff.wait(failures.max(1), &self.random)
    }

    /// Tells the cluster which topics are of interest.
    pub fn want_topics(&self, state: &State) {
        match &state.wish {
            Wish::Where(_) => self.cluster.want_all_topics(),
            Wish::Topics(topics) => self.cluster.want_topics(topics),
            Wish::Nothing | Wish::Assigned => {}
        }
        let assigned: BTreeSet<&TopicName> = state.partitions.keys().map(|p| &p.topic).collect();
        self.cluster.want_topics(assigned);
        if let Some(led) = state.group.as_ref().and_then(|group| group.led.as_ref()) {
            self.cluster.want_topics(led.topics.keys());
        }
    }

    /// Ends what runs in the background.
    pub fn end(&self) {
        let waker = {
            let mut state = self.state();
            state.is_closed = true;
            state.waker.take()
        };
        self.closing.send_replace(true);
        self.work.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    /// A version that no partition has had.
    pub fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Remembers who waits; an earlier one is not told any more.
    pub fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Has whoever waits look again.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn push_error(&mut self, error: ClientError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
        self.wake();
    }

    pub fn buffered_bytes(&self) -> usize {
        self.partitions.values().map(PartitionState::buffered_bytes).sum()
    }

    /// The state, if it is still the one that something was asked for.
    pub fn asked(&mut self, partition: &TopicPartition, version: u64) -> Option<&mut PartitionState> {
        self.partitions.get_mut(partition).filter(|state| state.version == version)
    }

    /// Makes `partitions` the assigned ones; those that stay keep all they have.
    pub fn set_partitions(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.partitions.retain(|partition, _| partitions.contains(partition));
        for partition in partitions {
            if !self.partitions.contains_key(partition) {
                let state = PartitionState::new(self.next_version());
                self.partitions.insert(partition.clone(), state);
            }
        }
        self.ready.retain(|partition| partitions.contains(partition));
    }

    /// Up to `count_max` records of the partitions that have some. Errors: a partition whose next batch cannot be read or
    /// that has failed otherwise; told when there is nothing before it.
    pub fn take(&mut self, count_max: usize, reading: Reading) -> Result<Vec<ConsumerRecord>, ClientError> {
        let mut out = Vec::new();
        let mut passed = Vec::new();
        while out.len() < count_max {
            let Some(partition) = self.ready.pop_front() else { break };
            let Some(state) = self.partitions.get_mut(&partition) else { continue };
            if state.is_paused || !matches!(state.phase, Phase::Fetching | Phase::Validating) {
                if !state.chunks.is_empty() {
                    passed.push(partition);
                }
                continue;
            }
            let Some(chunk) = state.chunks.front_mut() else { continue };
            let (topic, index) = (&partition.topic, partition.partition);
            let read = chunk.read(&mut state.position, topic, index, count_max, reading, &mut out);
            match read {
                Ok(()) => {
                    if chunk.is_empty() {
                        // Control batches at the end move the position, too.
                        state.position = chunk.end();
                        state.chunks.pop_front();
                        if !state.chunks.is_empty() {
                            self.ready.push_back(partition);
                        }
                    } else {
                        self.ready.push_front(partition);
                    }
                }
                Err(source) => {
                    let offset = state.position.offset;
                    self.ready.push_front(partition.clone());
                    if out.is_empty() {
                        self.ready.extend(passed);
                        let TopicPartition { topic, partition } = partition;
                        let source = Arc::new(source);
                        return Err(Abortable::Corrupt { topic, partition, offset, source }.into());
                    }
                    break;
                }
            }
        }
        self.ready.extend(passed);
        if out.is_empty() {
            for state in self.partitions.values() {
                if let Phase::Failed(error) = &state.phase {
                    return Err(error.clone());
                }
            }
        }
        self.metrics.records += out.len() as u64;
        Ok(out)
    }

    /// What the application has read, of every partition whose position is known.
    pub fn positions(&self) -> BTreeMap<TopicPartition, CommittedOffset> {
        let known = self.partitions.iter().filter_map(|(partition, state)| {
            let position = state.known_position()?;
            let leader_epoch = position.epoch.unwrap_or(-1);
            let committed =
                CommittedOffset { offset: position.offset, leader_epoch, metadata: String::new() };
            Some((partition.clone(), committed))
        });
        known.collect()
    }
}
