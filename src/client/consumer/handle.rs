//! What can be asked of a consumer, and told to it, from any task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::client::committed::{self, CommittedOffset};
use crate::client::error::{Abortable, ClientError, Fatal, Misuse};
use crate::client::offsets::{self, FoundOffset, OffsetSpec};
use crate::client::patience::Patience;
use crate::client::settings::ConsumerSettings;
use crate::client::time::Instant;
use crate::model::{Offset, Timestamp, TopicPartition};

use super::chunk::Position;
use super::group::{Job, Reply};
use super::metrics::ConsumerMetrics;
use super::state::{Shared, State};

/// How often positions that did not move are committed again. Brokers keep them for days.
const REPEATED_COMMIT: Duration = Duration::from_secs(60);

/// A consumer's positions, commits and offsets; clones are about the same consumer.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("ConsumerHandle")
            .field("group_id", &self.shared.settings.group_id)
            .field("wish", &state.wish)
            .field("partitions", &state.partitions.keys())
            .finish()
    }
}

impl Shared {
    /// Commits positions if that is automatic and the time has come. Those that did not move are committed again now and
    /// then, so that they do not expire while nothing is written.
    pub(super) fn commit_if_due(&self, state: &mut State) {
        let (Some(interval), Some(moment)) = (self.settings.auto_commit_interval, state.next_auto_commit)
        else {
            return;
        };
        let now = Instant::now();
        if moment > now {
            return;
        }
        let repeat = state.last_auto_commit + REPEATED_COMMIT;
        if !state.has_moved && repeat > now {
            state.next_auto_commit = Some(repeat);
            return;
        }
        (state.last_auto_commit, state.has_moved) = (now, false);
        state.next_auto_commit = Some(now + interval);
        let offsets = state.positions();
        if let Some(jobs) = self.jobs.as_ref().filter(|_| !offsets.is_empty()) {
            // The task ends with the consumer only.
            drop(jobs.send(Job::Commit { offsets, retries: false, reply: None }));
        }
        self.work.notify_one();
    }

    /// Records are returned: there is something new to commit, after its interval.
    pub(super) fn note_moved(&self, state: &mut State) {
        state.has_moved = true;
        if let (Some(interval), Some(next)) =
            (self.settings.auto_commit_interval, &mut state.next_auto_commit)
        {
            *next = (*next).min(Instant::now() + interval);
        }
    }

    fn patience(&self) -> Patience {
        Patience::new(&self.settings.client, self.settings.api_timeout)
    }
}

impl ConsumerHandle {
    pub(super) fn new(shared: Arc<Shared>) -> ConsumerHandle {
        ConsumerHandle { shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn settings(&self) -> &ConsumerSettings {
        &self.shared.settings
    }

    /// The partitions that are read now.
    pub fn assignment(&self) -> BTreeSet<TopicPartition> {
        self.shared.state().partitions.keys().cloned().collect()
    }

    /// The next record that `poll` returns of a partition; `None` while that is not known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let state = self.shared.state();
        state.partitions.get(partition)?.known_position().map(|position| position.offset)
    }

    /// The positions of all partitions, as they would be committed.
    pub fn positions(&self) -> BTreeMap<TopicPartition, CommittedOffset> {
        self.shared.state().positions()
    }

    /// Records of a partition that were not returned yet, as of the last fetch.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let only_committed = self.shared.only_committed();
        self.shared.state().partitions.get(partition)?.lag(only_committed)
    }

    pub fn metrics(&self) -> ConsumerMetrics {
        let state = self.shared.state();
        ConsumerMetrics { buffered_bytes: state.buffered_bytes(), ..state.metrics.clone() }
    }

    /// Goes on at an offset. Errors: the partition is not assigned, or the offset is below zero.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        if offset < 0 {
            return Err(Abortable::Misuse(Misuse::NegativeOffset { offset }).into());
        }
        self.with(partition, |state, version| state.seek(version, Position::at(offset)))
    }

    pub fn seek_to_begin(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.with(partition, |state, version| state.seek_to(version, OffsetSpec::Earliest))
    }

    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.with(partition, |state, version| state.seek_to(version, OffsetSpec::Latest))
    }

    /// Goes on at the first record at this moment or after it; at the end if there is none.
    pub fn seek_to_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<(), ClientError> {
        self.with(partition, |state, version| state.seek_to(version, OffsetSpec::At(timestamp)))
    }

    /// Nothing of these partitions is returned or fetched until they are resumed. Errors: one is not assigned; then none
    /// is paused.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.set_paused(partitions, true)
    }

    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        self.set_paused(partitions, false)
    }

    pub fn paused(&self) -> BTreeSet<TopicPartition> {
        let state = self.shared.state();
        let paused = state.partitions.iter().filter(|(_, state)| state.is_paused);
        paused.map(|(partition, _)| partition.clone()).collect()
    }

    fn set_paused(&self, partitions: &[TopicPartition], is_paused: bool) -> Result<(), ClientError> {
        let mut state = self.shared.state();
        if let Some(missing) = partitions.iter().find(|partition| !state.partitions.contains_key(*partition))
        {
            return Err(not_assigned(missing));
        }
        for partition in partitions {
            if let Some(known) = state.partitions.get_mut(partition) {
                known.is_paused = is_paused;
            }
        }
        state.wake();
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    fn with(
        &self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut super::partition::PartitionState, u64),
    ) -> Result<(), ClientError> {
        let mut state = self.shared.state();
        let version = state.next_version();
        let Some(known) = state.partitions.get_mut(partition) else { return Err(not_assigned(partition)) };
        change(known, version);
        state.ready.retain(|ready| ready != partition);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Commits the positions: what `poll` has returned is done with. Tries again for `default.api.timeout.ms`.
    /// Errors: the group went on without this consumer, or rebalances, or nobody answers.
    pub async fn commit(&self) -> Result<(), ClientError> {
        let positions = self.positions();
        self.commit_offsets(positions).await
    }

    /// As [`ConsumerHandle::commit`], with offsets of the caller's: each is the next one to be read, not the last that was.
    pub async fn commit_offsets(
        &self,
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        let (sender, receiver) = oneshot::channel();
        let reply: Reply = Box::new(|result| drop(sender.send(result)));
        self.send(Job::Commit { offsets, retries: true, reply: Some(reply) })?;
        receiver.await.unwrap_or_else(|_ended| Err(Fatal::Closed.into()))
    }

    /// Commits the positions in the background, with one try; `done` is called with the outcome. Commits are made in the
    /// order of the calls.
    pub fn commit_async(
        &self,
        done: impl FnOnce(Result<(), ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        let offsets = self.positions();
        self.send(Job::Commit { offsets, retries: false, reply: Some(Box::new(done)) })
    }

    fn send(&self, job: Job) -> Result<(), ClientError> {
        let jobs = self.shared.jobs.as_ref();
        let jobs = jobs.ok_or_else(|| ClientError::from(Abortable::Misuse(Misuse::NoGroup)))?;
        jobs.send(job).map_err(|_ended| Fatal::Closed.into())
    }

    /// What the group has committed of some partitions; `None` where it has nothing.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>, ClientError> {
        let group = self.shared.settings.group_id.as_deref();
        let group = group.ok_or_else(|| ClientError::from(Abortable::Misuse(Misuse::NoGroup)))?;
        let mut patience = self.shared.patience();
        loop {
            let fetched = committed::fetch(&self.shared.cluster, group, Some(partitions)).await;
            let fetched: Result<BTreeMap<_, _>, ClientError> = fetched.and_then(|each| {
                each.into_iter().map(|(partition, result)| Ok((partition, result?))).collect()
            });
            match fetched {
                Ok(each) => return Ok(each),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Offsets by name or time, of any partitions; `None` where no record is that late.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> BTreeMap<TopicPartition, Result<Option<FoundOffset>, ClientError>> {
        let isolation = self.shared.settings.isolation;
        offsets::list(&self.shared.cluster, wanted, isolation, self.shared.patience()).await
    }
}

fn not_assigned(partition: &TopicPartition) -> ClientError {
    let TopicPartition { topic, partition } = partition.clone();
    Abortable::Misuse(Misuse::NotAssigned { topic, partition }).into()
}
