//! Membership of a group: joins, syncs, heartbeats, commits and the leave, each asked of the group's coordinator.
//!
//! Two tasks: one does jobs in the order in which they were given, so that a commit before a join is at the coordinator
//! before it; the other sends heartbeats while the member is in a generation. What they find is put into the state, and
//! `poll` acts on it: only there do partitions change hands (`rebalance`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::cluster::{ClusterImage, Lane, Node};
use crate::client::committed::{self, CommittedOffset, Committer};
use crate::client::connection::Connection;
use crate::client::coordinator::{self, subject};
use crate::client::error::{Abortable, ClientError, Misuse};
use crate::client::patience::Patience;
use crate::client::time::Instant;
use crate::model::{TopicName, TopicPartition};
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::protocol::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::assignor::{Assignor, GroupMember, GroupTopic, Members, RebalanceProtocol, Topics};
use super::state::Shared;
use super::wire::{Assignment, NO_GENERATION, Subscription};

const PROTOCOL_TYPE: &str = "consumer";

/// Longer than the broker waits for members, so that its answer is there first. Source: Apache Kafka,
/// `AbstractCoordinator.JOIN_GROUP_TIMEOUT_LAPSE`.
const JOIN_LAPSE: Duration = Duration::from_secs(5);

/// First versions of the fields that are not in all.
const JOIN_INSTANCES: i16 = 5;
const JOIN_REASON: i16 = 8;
const SYNC_INSTANCES: i16 = 3;
const SYNC_PROTOCOL: i16 = 5;
const HEARTBEAT_INSTANCES: i16 = 3;
const LEAVE_MEMBERS: i16 = 3;
const LEAVE_REASON: i16 = 5;

/// Told to the coordinator with a leave; it logs it.
const LEAVES_AT_CLOSE: &str = "the consumer is being closed";
const LEAVES_WITHOUT_POLL: &str = "max.poll.interval.ms passed without a poll";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Out,
    /// A join is under way, or its job waits.
    Joining,
    /// In a generation; `poll` may not have acted on it yet.
    In,
}

/// What a member knows of its group.
#[derive(Debug)]
pub(super) struct Group {
    pub stage: Stage,
    pub protocol: RebalanceProtocol,
    pub member_id: String,
    pub generation: i32,
    /// Why the member should join again.
    pub wants_join: Option<&'static str>,
    /// An assignment that came and that `poll` has not acted on.
    pub offered: Option<Vec<TopicPartition>>,
    /// The group went on without this member.
    pub is_lost: bool,
    /// Of the last generation, for the assignors that keep it.
    pub last_assignment: Vec<TopicPartition>,
    /// What was subscribed to at the last join.
    pub subscribed: BTreeSet<TopicName>,
    /// Of a leader: what it assigned.
    pub led: Option<Led>,
    pub last_poll: Instant,
    /// Told by every `poll`.
    pub failed: Option<ClientError>,
}

/// The topics of a group as its leader saw them when it assigned them; those that are not there have no partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Led {
    pub topics: Topics,
    /// Some member tells its rack, so racks of replicas count.
    minds_racks: bool,
}

impl Led {
    fn new<'t>(
        image: &ClusterImage,
        topics: impl IntoIterator<Item = &'t TopicName>,
        minds_racks: bool,
    ) -> Led {
        let topic = |name: &TopicName| GroupTopic {
            partition_count: image.partition_count(name),
            racks: if minds_racks { image.racks(name) } else { Vec::new() },
        };
        Led { topics: topics.into_iter().map(|name| (name.clone(), topic(name))).collect(), minds_racks }
    }

    /// Whether they look different now, so that they have to be assigned anew.
    pub fn differs(&self, image: &ClusterImage) -> bool {
        self.topics.iter().any(|(name, topic)| {
            image.partition_count(name) != topic.partition_count
                || (self.minds_racks && image.racks(name) != topic.racks)
        })
    }
}

impl Group {
    pub fn new(protocol: RebalanceProtocol) -> Group {
        Group {
            stage: Stage::Out,
            protocol,
            member_id: String::new(),
            generation: NO_GENERATION,
            wants_join: None,
            offered: None,
            is_lost: false,
            last_assignment: Vec::new(),
            subscribed: BTreeSet::new(),
            led: None,
            last_poll: Instant::now(),
            failed: None,
        }
    }

    /// The generation goes on, or is over, without this member.
    fn lose(&mut self, forgets_member: bool) {
        self.stage = Stage::Out;
        self.generation = NO_GENERATION;
        self.offered = None;
        self.is_lost = true;
        self.led = None;
        if forgets_member {
            self.member_id.clear();
        }
    }
}

/// Called with the outcome.
pub(super) type Reply = Box<dyn FnOnce(Result<(), ClientError>) + Send>;

/// Something for the coordinator, in its turn.
pub(super) enum Job {
    Join,
    Commit {
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
        /// Again, until `default.api.timeout.ms` is over.
        retries: bool,
        reply: Option<Reply>,
    },
    Leave {
        reply: Option<Reply>,
    },
}

/// A member's way to its coordinator.
pub(super) struct Seat {
    shared: Arc<Shared>,
    group_id: Arc<str>,
    assignors: Vec<Box<dyn Assignor>>,
    coordinator: Mutex<Option<Node>>,
}

/// Begins both tasks.
pub(super) fn start(
    shared: &Arc<Shared>,
    group_id: &str,
    assignors: Vec<Box<dyn Assignor>>,
    jobs: mpsc::UnboundedReceiver<Job>,
) {
    let seat =
        Seat { shared: shared.clone(), group_id: group_id.into(), assignors, coordinator: Mutex::new(None) };
    let seat = Arc::new(seat);
    tokio::spawn(work(seat.clone(), jobs));
    tokio::spawn(beat(seat));
}

async fn work(seat: Arc<Seat>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    loop {
        let job = tokio::select! {
            biased;
            job = jobs.recv() => job,
            () = seat.closing() => {
                let is_closed = seat.shared.state().is_closed;
                // If it is not, `close` has something for us yet.
                if is_closed { None } else { jobs.recv().await }
            }
        };
        match job {
            None => return,
            Some(Job::Join) => tokio::select! {
                () = seat.join() => {}
                () = seat.closing() => seat.shared.state().group.iter_mut().for_each(|group| group.stage = Stage::Out),
            },
            Some(Job::Commit { offsets, retries, reply }) => {
                let result = seat.commit(&offsets, retries).await;
                {
                    let mut state = seat.shared.state();
                    state.metrics.commits += 1;
                    state.metrics.commit_failures += u64::from(result.is_err());
                }
                match reply {
                    Some(reply) => reply(result),
                    None => {
                        if let Err(error) = result {
                            tracing::warn!(group = %seat.group_id, %error, "positions could not be committed");
                        }
                    }
                }
            }
            Some(Job::Leave { reply }) => {
                let result = seat.leave().await;
                if let Some(reply) = reply {
                    reply(result);
                }
            }
        }
    }
}

/// What a join asks with.
struct Question {
    member_id: String,
    protocols: Vec<(String, Vec<u8>)>,
    topics: BTreeSet<TopicName>,
    owns_something: bool,
}

/// What a join comes to.
struct Joined {
    generation: i32,
    member_id: String,
    assignment: Vec<TopicPartition>,
    led: Option<Led>,
}

impl Seat {
    async fn closing(&self) {
        // Ends with an error only when nobody can close any more.
        drop(self.shared.closing.subscribe().wait_for(|closing| *closing).await);
    }

    async fn connection(&self, lane: Lane) -> Result<Connection, ClientError> {
        let known = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let node = match known {
            Some(node) => node,
            None => {
                let node = coordinator::find(&self.shared.cluster, &self.group_id).await?;
                tracing::debug!(group = %self.group_id, coordinator = %node.address, "coordinator found");
                *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
                node
            }
        };
        let connection = self.shared.cluster.connection_to(&node.address, lane).await;
        connection.inspect_err(|error| self.look_away(error))
    }

    /// Forgets the coordinator if the error says that it is another.
    fn look_away(&self, error: &ClientError) {
        if coordinator::has_moved(error) {
            *self.coordinator.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Joins until the member is in a generation, or an error that time does not heal has been told.
    async fn join(&self) {
        let mut failures = 0;
        loop {
            let Some(question) = self.question() else { return };
            let error = match self.join_once(&question).await {
                Ok(joined) => return self.joined(question, joined),
                Err(error) => error,
            };
            self.look_away(&error);
            tracing::debug!(group = %self.group_id, %error, "not joined yet");
            match error.error_code() {
                // The coordinator gave us an id; it wants to hear it.
                Some(ErrorCode::MemberIdRequired) => continue,
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    let forgets = error.error_code() == Some(ErrorCode::UnknownMemberId);
                    let mut state = self.shared.state();
                    let Some(group) = &mut state.group else { return };
                    if question.owns_something {
                        group.lose(forgets);
                        state.wake();
                        return;
                    }
                    if forgets {
                        group.member_id.clear();
                    }
                }
                Some(ErrorCode::RebalanceInProgress) => {}
                _ if error.is_retriable() => {}
                _ => {
                    let mut state = self.shared.state();
                    let Some(group) = &mut state.group else { return };
                    group.stage = Stage::Out;
                    if error.is_fatal() {
                        group.failed = Some(error);
                    } else {
                        // The next poll but one tries again.
                        group.wants_join = Some("an error was told");
                        state.push_error(error);
                    }
                    state.wake();
                    return;
                }
            }
            failures += 1;
            tokio::time::sleep_until(self.shared.next_try(failures)).await;
        }
    }

    /// `None`: there is no subscription any more.
    fn question(&self) -> Option<Question> {
        let image = self.shared.cluster.image();
        let state = self.shared.state();
        if !state.wish.is_subscription() {
            return None;
        }
        let topics = state.wish.topics(&image, self.shared.settings.excludes_internal_topics);
        let group = state.group.as_ref()?;
        let owned: Vec<TopicPartition> = state.partitions.keys().cloned().collect();
        let rack = Some(self.shared.settings.rack.as_str()).filter(|rack| !rack.is_empty());
        let protocols = self.assignors.iter().map(|assignor| {
            let subscription = Subscription {
                topics: topics.clone(),
                user_data: assignor.user_data(&group.last_assignment, group.generation),
                owned: owned.clone(),
                generation: Some(group.generation),
                rack: rack.map(Into::into),
            };
            (assignor.name().to_owned(), subscription.encode())
        });
        Some(Question {
            member_id: group.member_id.clone(),
            protocols: protocols.collect(),
            topics,
            owns_something: !owned.is_empty(),
        })
    }

    async fn join_once(&self, question: &Question) -> Result<Joined, ClientError> {
        let api = ApiKey::JoinGroup;
        let settings = &self.shared.settings;
        let connection = self.connection(Lane::Coordinator).await?;
        let version = connection.version(api)?;
        let instance = settings.group_instance_id.as_deref();
        if instance.is_some() && version < JOIN_INSTANCES {
            let address = connection.address().clone();
            return Err(Abortable::Unsupported { api, address }.into());
        }
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let protocols = question.protocols.iter();
        let request = JoinGroupRequest {
            group_id: &self.group_id,
            session_timeout_ms: millis(settings.session_timeout),
            rebalance_timeout_ms: millis(settings.poll_interval_max),
            member_id: &question.member_id,
            group_instance_id: instance,
            protocol_type: PROTOCOL_TYPE,
            protocols: protocols
                .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
                .collect::<Vec<_>>()
                .into(),
            reason: (version >= JOIN_REASON).then_some("a subscription or the group has changed"),
        };
        let patience = settings.client.request_timeout.max(settings.poll_interval_max + JOIN_LAPSE);
        let answer = connection.submit(&request, version, patience).await?;
        let response: JoinGroupResponse<'_> = answer.decode()?;
        if response.error_code == ErrorCode::MemberIdRequired.code()
            && let Some(group) = &mut self.shared.state().group
        {
            group.member_id = response.member_id.as_str().to_owned();
        }
        ClientError::check(api, subject(&self.group_id), response.error_code, None)?;
        let generation = response.generation_id;
        let member_id = response.member_id.as_str().to_owned();
        if let Some(group) = &mut self.shared.state().group {
            group.member_id.clone_from(&member_id);
        }
        let name = response.protocol_name.as_deref().unwrap_or("").to_owned();
        let leads = response.leader.as_str() == member_id && !response.skip_assignment;
        let mut shares = Vec::new();
        let mut led = None;
        if leads {
            let members = members(&response);
            let unknown =
                || ClientError::from(Abortable::Misuse(Misuse::UnknownAssignor { name: name.clone() }));
            let assignor =
                self.assignors.iter().find(|assignor| assignor.name() == name).ok_or_else(unknown)?;
            let topics = self.topics_of(&members).await?;
            let mut existing = topics.topics.clone();
            existing.retain(|_, topic| topic.partition_count > 0);
            for (id, partitions) in assignor.assign(&existing, &members) {
                shares.push((id, Assignment { partitions, user_data: None }.encode()));
            }
            led = Some(topics);
        }
        let assignment = self.sync(&connection, generation, &member_id, &name, &shares).await?;
        Ok(Joined { generation, member_id, assignment, led })
    }

    /// The topics of a group as the cluster has them now.
    async fn topics_of(&self, members: &Members) -> Result<Led, ClientError> {
        let topics: BTreeSet<&TopicName> =
            members.values().flat_map(|member| &member.subscription.topics).collect();
        self.shared.cluster.want_topics(topics.iter().copied());
        let image = self.shared.cluster.refresh().await?;
        let minds_racks = members.values().any(|member| member.rack().is_some());
        Ok(Led::new(&image, topics, minds_racks))
    }

    async fn sync(
        &self,
        connection: &Connection,
        generation: i32,
        member_id: &str,
        protocol: &str,
        shares: &[(String, Vec<u8>)],
    ) -> Result<Vec<TopicPartition>, ClientError> {
        let api = ApiKey::SyncGroup;
        let settings = &self.shared.settings;
        let version = connection.version(api)?;
        let shares = shares.iter();
        let request = SyncGroupRequest {
            group_id: &self.group_id,
            generation_id: generation,
            member_id,
            group_instance_id: settings.group_instance_id.as_deref().filter(|_| version >= SYNC_INSTANCES),
            protocol_type: (version >= SYNC_PROTOCOL).then_some(PROTOCOL_TYPE),
            protocol_name: (version >= SYNC_PROTOCOL).then_some(protocol),
            assignments: shares
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect::<Vec<_>>()
                .into(),
        };
        let patience = settings.client.request_timeout.max(settings.poll_interval_max + JOIN_LAPSE);
        let answer = connection.submit(&request, version, patience).await?;
        let response: SyncGroupResponse<'_> = answer.decode()?;
        ClientError::check(api, subject(&self.group_id), response.error_code, None)?;
        match Assignment::decode(&response.assignment) {
            Ok(assignment) => Ok(assignment.partitions),
            Err(error) => {
                // Nothing is read until the next rebalance; a leader that writes such a thing is another program.
                tracing::error!(group = %self.group_id, %error, "the group's leader sent no assignment");
                Ok(Vec::new())
            }
        }
    }

    fn joined(&self, question: Question, joined: Joined) {
        tracing::info!(
            group = %self.group_id,
            generation = joined.generation,
            member = %joined.member_id,
            leads = joined.led.is_some(),
            partitions = joined.assignment.len(),
            "joined the group"
        );
        let mut state = self.shared.state();
        state.metrics.rebalances += 1;
        let Some(group) = &mut state.group else { return };
        group.stage = Stage::In;
        group.generation = joined.generation;
        group.member_id = joined.member_id;
        group.last_assignment.clone_from(&joined.assignment);
        group.offered = Some(joined.assignment);
        group.led = joined.led;
        group.subscribed = question.topics;
        state.wake();
        drop(state);
        self.shared.work.notify_one();
    }

    /// As whom offsets are committed now.
    fn committer(&self) -> Result<Committer, ClientError> {
        let state = self.shared.state();
        match &state.group {
            Some(group) if group.generation != NO_GENERATION => Ok(Committer::Member {
                generation: group.generation,
                member_id: group.member_id.clone(),
                instance_id: self.shared.settings.group_instance_id.clone(),
            }),
            _ if state.wish.is_subscription() => Err(self.not_a_member()),
            _ => Ok(Committer::Nobody),
        }
    }

    fn not_a_member(&self) -> ClientError {
        Abortable::NotAMember { group: self.group_id.clone() }.into()
    }

    async fn commit(
        &self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        retries: bool,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut patience = Patience::new(&self.shared.settings.client, self.shared.settings.api_timeout);
        loop {
            let error = match self.commit_once(offsets).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.look_away(&error);
            match error.error_code() {
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    let forgets = error.error_code() == Some(ErrorCode::UnknownMemberId);
                    self.lost(forgets);
                    return Err(self.not_a_member());
                }
                Some(ErrorCode::RebalanceInProgress) => {
                    self.rejoin("the group rebalances");
                    return Err(error);
                }
                // The coordinator knows no such topic: what waits behind this commit, perhaps a join, would wait in vain.
                Some(ErrorCode::UnknownTopicOrPartition) => return Err(error),
                _ if retries => patience.after(error).await?,
                _ => return Err(error),
            }
        }
    }

    async fn commit_once(
        &self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        let committer = self.committer()?;
        let connection = self.connection(Lane::Main).await?;
        let each = committed::commit_at(&connection, &self.group_id, &committer, offsets).await?;
        each.into_values().collect()
    }

    fn lost(&self, forgets_member: bool) {
        let mut state = self.shared.state();
        if let Some(group) = state.group.as_mut().filter(|group| group.stage == Stage::In) {
            group.lose(forgets_member);
        }
        state.wake();
    }

    fn rejoin(&self, why: &'static str) {
        let mut state = self.shared.state();
        if let Some(group) = state.group.as_mut().filter(|group| group.stage == Stage::In) {
            group.wants_join.get_or_insert(why);
        }
        state.wake();
    }

    /// Leaves the group, at the end of the subscription.
    async fn leave(&self) -> Result<(), ClientError> {
        let member_id = {
            let mut state = self.shared.state();
            let Some(group) = &mut state.group else { return Ok(()) };
            group.stage = Stage::Out;
            group.generation = NO_GENERATION;
            std::mem::take(&mut group.member_id)
        };
        self.take_out(&member_id, LEAVES_AT_CLOSE).await
    }

    /// Takes a member out of the group, so that the others need not wait for its session to end. Static members stay: they
    /// are expected back.
    async fn take_out(&self, member_id: &str, reason: &str) -> Result<(), ClientError> {
        let api = ApiKey::LeaveGroup;
        if member_id.is_empty() || self.shared.settings.group_instance_id.is_some() {
            return Ok(());
        }
        // Not behind a join that waits for others.
        let connection = self.connection(Lane::Main).await?;
        let version = connection.version(api)?;
        let identity = MemberIdentity {
            member_id,
            group_instance_id: None,
            reason: (version >= LEAVE_REASON).then_some(reason),
        };
        let request = if version >= LEAVE_MEMBERS {
            LeaveGroupRequest {
                group_id: &self.group_id,
                members: vec![identity].into(),
                ..Default::default()
            }
        } else {
            LeaveGroupRequest { group_id: &self.group_id, member_id, ..Default::default() }
        };
        let answer = connection.submit(&request, version, connection.request_timeout()).await?;
        let response: LeaveGroupResponse<'_> = answer.decode()?;
        tracing::info!(group = %self.group_id, member = member_id, reason, "left the group");
        ClientError::check(api, subject(&self.group_id), response.error_code, None)
    }

    async fn heartbeat(&self, generation: i32, member_id: &str) -> Result<(), ClientError> {
        let api = ApiKey::Heartbeat;
        let connection = self.connection(Lane::Coordinator).await?;
        let version = connection.version(api)?;
        let instance = self.shared.settings.group_instance_id.as_deref();
        let request = HeartbeatRequest {
            group_id: &self.group_id,
            generation_id: generation,
            member_id,
            group_instance_id: instance.filter(|_| version >= HEARTBEAT_INSTANCES),
        };
        // Later than the session's end the answer is of no use.
        let patience = connection.request_timeout().min(self.shared.settings.session_timeout);
        let answer = connection.submit(&request, version, patience).await?;
        let response: HeartbeatResponse = answer.decode()?;
        ClientError::check(api, subject(&self.group_id), response.error_code, None)
    }
}

fn members(response: &JoinGroupResponse<'_>) -> Members {
    let member = |told: crate::protocol::messages::join_group::JoinGroupResponseMember<'_>| {
        let id = told.member_id.as_str().to_owned();
        let subscription = Subscription::decode(&told.metadata).unwrap_or_else(|error| {
            tracing::warn!(member = %id, %error, "a member's subscription cannot be read: it gets nothing");
            Subscription::default()
        });
        let instance_id = told.group_instance_id.as_deref().map(str::to_owned);
        (id, GroupMember { instance_id, subscription })
    };
    response.members.iter().map(member).collect()
}

/// What the state says a heartbeat is to do.
enum Beat {
    Nothing,
    Send {
        generation: i32,
        member_id: String,
    },
    /// The application does not poll.
    Leave {
        member_id: String,
    },
}

fn beat_for(group: &mut Group, poll_interval_max: Duration) -> Beat {
    if group.stage != Stage::In {
        return Beat::Nothing;
    }
    if group.last_poll.elapsed() >= poll_interval_max {
        // What it had may be another's from now on.
        let member_id = group.member_id.clone();
        group.lose(true);
        return Beat::Leave { member_id };
    }
    Beat::Send { generation: group.generation, member_id: group.member_id.clone() }
}

async fn beat(seat: Arc<Seat>) {
    let settings = &seat.shared.settings;
    loop {
        tokio::select! {
            () = tokio::time::sleep(settings.heartbeat_interval) => {}
            () = seat.closing() => return,
        }
        let beat = match &mut seat.shared.state().group {
            Some(group) => beat_for(group, settings.poll_interval_max),
            None => Beat::Nothing,
        };
        let (generation, member_id) = match beat {
            Beat::Nothing => continue,
            Beat::Leave { member_id } => {
                tracing::warn!(
                    group = %seat.group_id,
                    "no poll within max.poll.interval.ms: the consumer leaves its group; poll more often, or raise it, or \
                     take fewer records at once with max.poll.records"
                );
                if let Err(error) = seat.take_out(&member_id, LEAVES_WITHOUT_POLL).await {
                    tracing::debug!(group = %seat.group_id, %error, "the leave was not heard");
                }
                continue;
            }
            Beat::Send { generation, member_id } => (generation, member_id),
        };
        let result = tokio::select! {
            result = seat.heartbeat(generation, &member_id) => result,
            () = seat.closing() => return,
        };
        let Err(error) = result else { continue };
        seat.look_away(&error);
        // It may be about a generation that is over by now.
        let is_current = seat.shared.state().group.as_ref().is_some_and(|group| {
            group.stage == Stage::In && group.generation == generation && group.member_id == member_id
        });
        if !is_current {
            continue;
        }
        match error.error_code() {
            Some(ErrorCode::RebalanceInProgress) => seat.rejoin("the group rebalances"),
            Some(ErrorCode::IllegalGeneration) => seat.lost(false),
            Some(ErrorCode::UnknownMemberId) => seat.lost(true),
            _ if error.is_retriable() => {
                tracing::debug!(group = %seat.group_id, %error, "a heartbeat was not heard");
            }
            _ => {
                let mut state = seat.shared.state();
                if let Some(group) = &mut state.group {
                    group.lose(true);
                    if error.is_fatal() {
                        group.failed = Some(error.clone());
                    }
                }
                state.push_error(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Group {
        let mut group = Group::new(RebalanceProtocol::Eager);
        (group.stage, group.generation, group.member_id) = (Stage::In, 3, "m".to_owned());
        group.offered = Some(Vec::new());
        group
    }

    #[test]
    fn a_member_that_is_lost_forgets_its_generation_and_its_id_only_if_that_is_unknown() {
        let check = |forgets: bool, member_id: &str| {
            let mut group = member();
            group.lose(forgets);
            assert_eq!(
                (group.stage, group.generation, &*group.member_id),
                (Stage::Out, NO_GENERATION, member_id)
            );
            assert!(group.is_lost && group.offered.is_none());
        };
        check(true, "");
        check(false, "m");
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_go_on_until_the_application_has_not_polled_for_too_long() {
        let interval = Duration::from_secs(10);
        let mut group = member();
        assert!(matches!(beat_for(&mut group, interval), Beat::Send { generation: 3, .. }));
        tokio::time::advance(interval / 2).await;
        group.last_poll = Instant::now();
        tokio::time::advance(interval - Duration::from_millis(1)).await;
        assert!(matches!(beat_for(&mut group, interval), Beat::Send { .. }));
        tokio::time::advance(Duration::from_millis(1)).await;
        let Beat::Leave { member_id } = beat_for(&mut group, interval) else { panic!("it leaves") };
        assert_eq!(member_id, "m");
        // A poll that comes now joins as somebody new.
        assert!(group.is_lost && group.member_id.is_empty());
        assert!(matches!(beat_for(&mut group, interval), Beat::Nothing));
    }
}
