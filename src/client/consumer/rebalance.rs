//! Where partitions change hands: in `poll`, never behind the application's back.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::committed::CommittedOffset;
use crate::client::time::Instant;
use crate::model::{Offset, TopicPartition};

use super::assignor::RebalanceProtocol;
use super::chunk::Position;
use super::group::{Job, Stage};
use super::state::{Shared, State};

/// Told, within `poll` and `close`, what the consumer gets and what it gives up. The calls come in order and are over before
/// `poll` goes on; they do not wait for anything.
pub trait RebalanceListener: Send {
    /// Partitions that are read from now on; [`Rebalance::seek`] says from where, if not from the committed offset.
    fn on_assigned(&mut self, change: &mut Rebalance) {
        let _ = change;
    }

    /// Partitions that another member may get next. What [`Rebalance::commit`] is given is committed before that.
    fn on_revoked(&mut self, change: &mut Rebalance) {
        let _ = change;
    }

    /// Partitions that may be another's already: nothing can be committed for them any more.
    fn on_lost(&mut self, change: &mut Rebalance) {
        let _ = change;
    }
}

/// A listener that does nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deaf;

impl RebalanceListener for Deaf {}

/// Partitions that come or go.
#[derive(Debug, Default)]
pub struct Rebalance {
    partitions: Vec<TopicPartition>,
    positions: BTreeMap<TopicPartition, CommittedOffset>,
    commits: BTreeMap<TopicPartition, CommittedOffset>,
    seeks: BTreeMap<TopicPartition, Offset>,
}

impl Rebalance {
    /// What the call is about, in order.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The next record that the application would have got; `None` if that is not known yet.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        Some(self.positions.get(partition)?.offset)
    }

    /// Commits an offset of a partition that is revoked; without effect for one that is lost.
    pub fn commit(&mut self, partition: TopicPartition, offset: CommittedOffset) {
        self.commits.insert(partition, offset);
    }

    /// Commits the positions of all partitions that are revoked.
    pub fn commit_positions(&mut self) {
        self.commits.extend(self.positions.clone());
    }

    /// Where to begin to read a partition that is assigned.
    pub fn seek(&mut self, partition: TopicPartition, offset: Offset) {
        self.seeks.insert(partition, offset);
    }

    pub(super) fn of(state: &State, partitions: &BTreeSet<TopicPartition>) -> Rebalance {
        let mut positions = state.positions();
        positions.retain(|partition, _| partitions.contains(partition));
        Rebalance { partitions: partitions.iter().cloned().collect(), positions, ..Rebalance::default() }
    }
}

/// Brings the partitions to what the group says, as far as that can be without waiting.
pub(super) fn turn(shared: &Shared, listener: &mut dyn RebalanceListener) {
    // Each step may make the next one possible.
    while step(shared, listener) {}
}

/// One change. False: there is nothing to do now.
fn step(shared: &Shared, listener: &mut dyn RebalanceListener) -> bool {
    let image = shared.cluster.image();
    let mut state = shared.state();
    if !state.wish.is_subscription() {
        return false;
    }
    let owned: BTreeSet<TopicPartition> = state.partitions.keys().cloned().collect();
    let Some(group) = &mut state.group else { return false };
    group.last_poll = Instant::now();
    if group.failed.is_some() {
        return false;
    }
    if group.is_lost {
        group.is_lost = false;
        group.wants_join.get_or_insert("the group went on without this member");
        drop(state);
        if !owned.is_empty() {
            let mut change = Rebalance::of(&shared.state(), &owned);
            listener.on_lost(&mut change);
        }
        shared.state().set_partitions(&BTreeSet::new());
        return true;
    }
    if let Some(offered) = group.offered.take() {
        let offered: BTreeSet<TopicPartition> = offered.into_iter().collect();
        let revoked: BTreeSet<TopicPartition> = owned.difference(&offered).cloned().collect();
        if !revoked.is_empty() {
            group.wants_join.get_or_insert("partitions were given up");
        }
        drop(state);
        revoke(shared, listener, &revoked);
        assign(shared, listener, &owned, &offered);
        return true;
    }
    if group.stage == Stage::Joining {
        return false;
    }
    // A subscription by condition is about nothing before the cluster is known.
    if image.nodes.is_empty() {
        shared.cluster.request_refresh();
        return false;
    }
    let topics = state.wish.topics(&image, shared.settings.excludes_internal_topics);
    let Some(group) = &mut state.group else { return false };
    if group.stage == Stage::In {
        if topics != group.subscribed {
            group.wants_join.get_or_insert("the subscription has changed");
        } else if group.led.as_ref().is_some_and(|led| led.differs(&image)) {
            group.wants_join.get_or_insert("a topic has other partitions, or replicas in other racks");
        }
        if group.wants_join.is_none() {
            return false;
        }
    }
    let why = group.wants_join.take().unwrap_or("the first join");
    tracing::debug!(why, "joining the group");
    group.stage = Stage::Joining;
    let revoked = match group.protocol {
        RebalanceProtocol::Eager => owned,
        RebalanceProtocol::Cooperative => {
            owned.into_iter().filter(|partition| !topics.contains(&partition.topic)).collect()
        }
    };
    drop(state);
    revoke(shared, listener, &revoked);
    if let Some(jobs) = &shared.jobs {
        // The task ends with the consumer only.
        drop(jobs.send(Job::Join));
    }
    false
}

/// Gives partitions up: positions are committed first if that is automatic, then what the listener wants.
pub(super) fn revoke(
    shared: &Shared,
    listener: &mut dyn RebalanceListener,
    revoked: &BTreeSet<TopicPartition>,
) {
    if revoked.is_empty() {
        return;
    }
    let mut change = Rebalance::of(&shared.state(), revoked);
    if shared.settings.auto_commit_interval.is_some() {
        change.commit_positions();
    }
    give_up(shared, listener, change);
}

/// Has the listener say what to commit of a change, and what remains is read on.
pub(super) fn give_up(shared: &Shared, listener: &mut dyn RebalanceListener, mut change: Rebalance) {
    tracing::debug!(partitions = ?change.partitions, "partitions revoked");
    listener.on_revoked(&mut change);
    if let Some(jobs) = shared.jobs.as_ref().filter(|_| !change.commits.is_empty()) {
        drop(jobs.send(Job::Commit { offsets: change.commits, retries: true, reply: None }));
    }
    let mut state = shared.state();
    let is_kept = |partition: &&TopicPartition| change.partitions.binary_search(*partition).is_err();
    let kept = state.partitions.keys().filter(is_kept).cloned().collect();
    state.set_partitions(&kept);
}

fn assign(
    shared: &Shared,
    listener: &mut dyn RebalanceListener,
    owned: &BTreeSet<TopicPartition>,
    offered: &BTreeSet<TopicPartition>,
) {
    let added: BTreeSet<TopicPartition> = offered.difference(owned).cloned().collect();
    {
        let mut state = shared.state();
        state.set_partitions(offered);
        shared.want_topics(&state);
    }
    let mut change = Rebalance::of(&shared.state(), &added);
    tracing::debug!(partitions = ?change.partitions, "partitions assigned");
    listener.on_assigned(&mut change);
    let mut state = shared.state();
    for (partition, offset) in change.seeks {
        let version = state.next_version();
        if let Some(known) = state.partitions.get_mut(&partition) {
            known.seek(version, Position::at(offset.max(0)));
        }
    }
    state.next_auto_commit = shared.settings.auto_commit_interval.map(|interval| Instant::now() + interval);
    drop(state);
    shared.work.notify_one();
}
