//! The background task: looks at what is missing, asks for it, and puts the answers into the state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::cluster::ClusterImage;
use crate::client::committed;
use crate::client::error::{Abortable, ClientError};
use crate::client::offsets::{self, OffsetSpec};
use crate::client::time::Instant;
use crate::model::{NodeId, TopicPartition};
use crate::protocol::ErrorCode;

use super::chunk::Position;
use super::fetch::{self, FetchPlan, Wanted};
use super::partition::Phase;
use super::session::Part;
use super::state::{Shared, State};
use super::validation;

/// Topics that are not named again are forgotten by the cluster; this is well within its shortest time.
const RENEW_INTEREST: Duration = Duration::from_secs(2);

/// Partitions with the versions of what was asked.
pub(super) type Asked = BTreeMap<TopicPartition, u64>;

/// What is to be asked now.
#[derive(Default)]
struct Plan {
    committed: Asked,
    resets: BTreeMap<TopicPartition, (u64, OffsetSpec)>,
    validations: BTreeMap<NodeId, Vec<validation::Question>>,
    fetches: Vec<FetchPlan>,
    /// The cluster is not known well enough.
    needs_refresh: bool,
    /// When to look again without being told to.
    next: Option<Instant>,
}

impl Plan {
    fn look_again(&mut self, moment: Instant) {
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
    }
}

/// Runs until the consumer ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut images = shared.cluster.watch();
    let mut asking = JoinSet::new();
    let mut renew = Instant::now();
    loop {
        let image = images.borrow_and_update().clone();
        let now = Instant::now();
        let mut plan = Plan::default();
        {
            let mut state = shared.state();
            if state.is_closed {
                return;
            }
            if now >= renew {
                shared.want_topics(&state);
                renew = now + RENEW_INTEREST;
            }
            make_plan(&shared, &mut state, &image, now, &mut plan);
        }
        if plan.needs_refresh {
            shared.cluster.request_refresh();
        }
        if !plan.committed.is_empty() {
            asking.spawn(ask_committed(shared.clone(), plan.committed));
        }
        if !plan.resets.is_empty() {
            asking.spawn(ask_resets(shared.clone(), plan.resets));
        }
        for (node, questions) in plan.validations {
            asking.spawn(validation::ask(shared.clone(), node, questions));
        }
        for fetch in plan.fetches {
            asking.spawn(fetch::run(shared.clone(), fetch));
        }
        let until = plan.next.unwrap_or(renew).min(renew);
        tokio::select! {
            () = shared.work.notified() => {}
            _ = images.changed() => {
                // Subscriptions by condition, and counts of partitions, are looked at by `poll`.
                shared.state().wake();
            }
            () = tokio::time::sleep_until(until) => {}
            Some(_ended) = asking.join_next() => {}
        }
    }
}

fn make_plan(shared: &Shared, state: &mut State, image: &ClusterImage, now: Instant, plan: &mut Plan) {
    if let Some(moment) = state.next_auto_commit {
        if moment <= now {
            state.wake();
        } else {
            plan.look_again(moment);
        }
    }
    let settings = &shared.settings;
    let has_room = state.buffered_bytes() < settings.fetch_bytes_max.max(1);
    let mut wanted: BTreeMap<NodeId, Wanted> = BTreeMap::new();
    for (partition, known) in &mut state.partitions {
        let Some(told) = image.partition(&partition.topic, partition.partition) else {
            plan.needs_refresh = true;
            continue;
        };
        if let Some(moment) = known.not_before.filter(|moment| *moment > now) {
            plan.look_again(moment);
            continue;
        }
        known.notice_leader(told);
        match &known.phase {
            Phase::Failed(_) => {}
            _ if known.is_asking => {}
            Phase::Unknown if settings.group_id.is_some() => {
                known.is_asking = true;
                plan.committed.insert(partition.clone(), known.version);
            }
            Phase::Unknown => match shared.reset() {
                Some(spec) => {
                    known.is_asking = true;
                    plan.resets.insert(partition.clone(), (known.version, spec));
                }
                None => {
                    known.phase = Phase::Failed(no_offset(partition));
                    plan.look_again(now);
                }
            },
            Phase::Resetting(spec) => {
                known.is_asking = true;
                plan.resets.insert(partition.clone(), (known.version, *spec));
            }
            Phase::Validating => match told.leader {
                Some(leader) => {
                    known.is_asking = true;
                    plan.validations.entry(leader).or_default().push(validation::Question {
                        partition: partition.clone(),
                        version: known.version,
                        position: known.fetch_from,
                        leader_epoch: told.leader_epoch,
                    });
                }
                None => plan.needs_refresh = true,
            },
            Phase::Fetching => {
                if known.replica.is_some_and(|(node, until)| until <= now || !image.nodes.contains_key(&node))
                {
                    known.replica = None;
                }
                let Some(node) = known.replica.map(|(node, _)| node).or(told.leader) else {
                    plan.needs_refresh = true;
                    continue;
                };
                if !has_room || !known.is_fetchable(now, settings.partition_fetch_bytes_max.max(1)) {
                    continue;
                }
                let part = Part {
                    offset: known.fetch_from.offset,
                    current_leader_epoch: told.leader_epoch,
                    bytes_max: i32::try_from(settings.partition_fetch_bytes_max).unwrap_or(i32::MAX),
                    topic_id: image.topic(&partition.topic).map(|topic| topic.id).unwrap_or_default(),
                };
                wanted.entry(node).or_default().insert(partition.clone(), (known.version, part));
            }
        }
    }
    for (node, wanted) in wanted {
        if state.fetching.contains(&node) {
            continue;
        }
        if let Some((_, moment)) = state.resting.get(&node).filter(|(_, moment)| *moment > now) {
            plan.look_again(*moment);
            continue;
        }
        for partition in wanted.keys() {
            if let Some(known) = state.partitions.get_mut(partition) {
                known.is_fetching = true;
            }
        }
        state.fetching.insert(node);
        let session = state.sessions.remove(&node).unwrap_or_default();
        plan.fetches.push(FetchPlan { node, wanted, session });
    }
    if state.partitions.values().any(|known| matches!(known.phase, Phase::Failed(_))) {
        state.wake();
    }
}

fn no_offset(partition: &TopicPartition) -> ClientError {
    let TopicPartition { topic, partition } = partition.clone();
    Abortable::NoOffset { topic, partition }.into()
}

/// Where the group is; where it is nowhere, `auto.offset.reset` says.
async fn ask_committed(shared: Arc<Shared>, asked: Asked) {
    let Some(group) = shared.settings.group_id.as_deref() else { return };
    let partitions: Vec<TopicPartition> = asked.keys().cloned().collect();
    let answer = committed::fetch(&shared.cluster, group, Some(&partitions)).await;
    let mut state = shared.state();
    let mut fatal = None;
    for (partition, version) in asked {
        let next_version = state.next_version();
        let Some(known) = state.asked(&partition, version) else { continue };
        known.is_asking = false;
        let result = match &answer {
            Ok(each) => each.get(&partition).cloned().unwrap_or(Ok(None)),
            Err(error) => Err(error.clone()),
        };
        match result {
            Ok(Some(committed)) => {
                let epoch = Some(committed.leader_epoch).filter(|epoch| *epoch >= 0);
                known.seek(next_version, Position { offset: committed.offset, epoch });
            }
            Ok(None) => match shared.reset() {
                Some(spec) => known.seek_to(next_version, spec),
                None => known.fail(next_version, no_offset(&partition)),
            },
            Err(error) => {
                known.back_off(shared.next_try(known.failures + 1));
                if !error.is_retriable() {
                    fatal = Some(error);
                }
            }
        }
    }
    if let Some(error) = fatal {
        state.push_error(error);
    }
    drop(state);
    shared.work.notify_one();
}

async fn ask_resets(shared: Arc<Shared>, asked: BTreeMap<TopicPartition, (u64, OffsetSpec)>) {
    let wanted = asked.iter().map(|(partition, (_, spec))| (partition.clone(), *spec)).collect();
    let timeout_ms = i32::try_from(shared.settings.client.request_timeout.as_millis()).unwrap_or(i32::MAX);
    let isolation = shared.settings.isolation;
    let mut found = offsets::list_once(&shared.cluster, &wanted, isolation, timeout_ms).await;
    let mut needs_refresh = false;
    let mut state = shared.state();
    let mut ended = None;
    for (partition, (version, spec)) in asked {
        let next_version = state.next_version();
        let Some(known) = state.asked(&partition, version) else { continue };
        known.is_asking = false;
        match found.remove(&partition) {
            Some(Ok(Some(offset))) => {
                tracing::debug!(%partition, offset = offset.offset, ?spec, "position found");
                known.found(next_version, offset);
            }
            // No record is that late: what comes next is.
            Some(Ok(None)) => known.seek_to(next_version, OffsetSpec::Latest),
            Some(Err(error)) => {
                needs_refresh = true;
                known.back_off(shared.next_try(known.failures + 1));
                let is_stale = matches!(
                    error.error_code(),
                    Some(ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch)
                );
                if !error.is_retriable() && !is_stale {
                    ended = Some(error);
                }
            }
            None => known.back_off(shared.next_try(known.failures + 1)),
        }
    }
    if let Some(error) = ended {
        state.push_error(error);
    }
    drop(state);
    if needs_refresh {
        shared.cluster.request_refresh();
    }
    shared.work.notify_one();
}
