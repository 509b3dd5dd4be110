//! The coordinator against a log in memory, with time and appends in the test's hand.

mod groups;
mod lifecycle;
mod offsets;
mod random;
mod static_members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::*;
use crate::metadata::coordinator_partition as partition_for;
use crate::model::{LeaderEpoch, Monotonic, PartitionIndex, Timestamp, TopicId};

const GROUP: &str = "g";

/// A coordinator of all partitions, its log, and the answers nobody has looked at yet.
struct Harness {
    coordinator: Coordinator,
    limits: GroupLimits,
    now: Monotonic,
    wall: Timestamp,
    random: u64,
    next_token: u64,
    /// Every record in the order of the appends that were not refused.
    log: Vec<(PartitionIndex, GroupRecord)>,
    /// Appends that have not come back; empty unless `holds_appends`.
    held: VecDeque<(Ticket, PartitionIndex, Vec<GroupRecord>)>,
    holds_appends: bool,
    replies: BTreeMap<ReplyToken, Response>,
    skipped: Vec<RecordError>,
}

impl Harness {
    fn new() -> Harness {
        Harness::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut GroupLimits)) -> Harness {
        let mut limits = GroupLimits { initial_rebalance_delay: Duration::ZERO, ..GroupLimits::default() };
        change(&mut limits);
        let mut harness = Harness::unloaded(limits);
        harness.load(Vec::new());
        harness
    }

    fn unloaded(limits: GroupLimits) -> Harness {
        Harness {
            coordinator: Coordinator::new(limits.clone()),
            limits,
            now: Monotonic(1_000_000_000),
            wall: 1_700_000_000_000,
            random: 0,
            next_token: 0,
            log: Vec::new(),
            held: VecDeque::new(),
            holds_appends: false,
            replies: BTreeMap::new(),
            skipped: Vec::new(),
        }
    }

    fn load(&mut self, log: Vec<(PartitionIndex, GroupRecord)>) {
        for partition in 0..self.limits.offsets_partition_count {
            self.step(Event::PartitionOwned { partition });
            let of_partition = log.iter().filter(|(p, _)| *p == partition);
            let records = of_partition.map(|(_, record)| record.clone()).collect();
            self.step(Event::Replay { partition, records });
            self.step(Event::Loaded { partition });
        }
        self.log.extend(log);
    }

    /// A coordinator that starts from this one's log.
    fn restarted(&self) -> Harness {
        let mut next = Harness::unloaded(self.limits.clone());
        (next.now, next.wall, next.random) = (self.now, self.wall, self.random + 1_000_000);
        next.load(self.log.clone());
        next
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        let random = &mut self.random;
        let mut next_random = || {
            *random += 1;
            *random
        };
        let mut moment = Moment { now: self.now, wall: self.wall, random: &mut next_random };
        self.coordinator.step(event, &mut moment, &mut effects);
        if let Some(group) = self.coordinator.groups.get(GROUP) {
            group.classic.check_invariants();
        }
        for effect in effects {
            match effect {
                Effect::Reply(token, response) => {
                    let former = self.replies.insert(token, response);
                    assert!(former.is_none(), "{token:?} is answered twice");
                }
                Effect::Append { partition, records, ticket } => {
                    assert!(!records.is_empty(), "an append without records");
                    self.held.push_back((ticket, partition, records));
                }
                Effect::RecordSkipped { cause, .. } => self.skipped.push(cause),
            }
        }
        while !self.holds_appends && !self.held.is_empty() {
            self.settle(Ok(()));
        }
    }

    /// The first held append comes back.
    fn settle(&mut self, result: Result<(), AppendFailure>) {
        let (ticket, partition, records) = self.held.pop_front().expect("an append is held");
        if result.is_ok() {
            self.log.extend(records.into_iter().map(|record| (partition, record)));
        }
        self.step(Event::Appended { ticket, result });
    }

    fn send(&mut self, request: impl Into<Request>) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.step(Event::Request(token, request.into()));
        token
    }

    fn reply(&mut self, token: ReplyToken) -> Option<Response> {
        self.replies.remove(&token)
    }

    fn ask(&mut self, request: impl Into<Request>) -> Response {
        let token = self.send(request);
        self.reply(token).expect("an answer at once")
    }

    fn now_answered(&mut self, token: ReplyToken) -> Response {
        self.reply(token).expect("answered by now")
    }

    /// Lets time pass, with every timer at its moment.
    fn advance(&mut self, by: Duration) {
        let target = self.now + by;
        while let Some(at) = self.coordinator.next_deadline()
            && at <= target
        {
            self.set_now(self.now.max(at));
            self.step(Event::Timer);
        }
        self.set_now(target);
        self.step(Event::Timer);
    }

    fn set_now(&mut self, now: Monotonic) {
        self.wall += now.since(self.now).as_millis() as i64;
        self.now = now;
    }

    fn join(&mut self, request: JoinGroup) -> ReplyToken {
        self.send(request)
    }

    fn joined(&mut self, token: ReplyToken) -> Joined {
        match self.now_answered(token) {
            Response::Join(Ok(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn join_refused(&mut self, token: ReplyToken) -> (GroupError, String) {
        match self.now_answered(token) {
            Response::Join(Err(refused)) => (refused.error, refused.member.to_string()),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn synced(&mut self, token: ReplyToken) -> Result<Bytes, GroupError> {
        match self.now_answered(token) {
            Response::Sync(result) => result.map(|synced| synced.assignment),
            other => panic!("not a sync: {other:?}"),
        }
    }

    /// A Stable group of that many dynamic members, of which the first leads; each is assigned its own number.
    fn stable_group(&mut self, size: usize) -> Vec<MemberId> {
        let mut ids: Vec<MemberId> = Vec::new();
        for _ in 0..size {
            let first = self.join(join(""));
            let rejoins: Vec<_> = ids.clone().iter().map(|id| self.join(join(id))).collect();
            let newcomer = self.joined(first);
            for token in rejoins {
                self.joined(token);
            }
            ids.push(newcomer.member);
        }
        let generation = self.generation();
        let leader = self.leader();
        let assignments = ids.iter().enumerate().map(|(i, id)| (id.clone(), number(i))).collect::<Vec<_>>();
        let followers: Vec<_> = ids.iter().filter(|id| **id != leader).cloned().collect();
        let syncs: Vec<_> = followers.iter().map(|id| self.send(sync(id, generation))).collect();
        let leader_sync = self.send(SyncGroup { assignments, ..sync(&leader, generation) });
        for token in syncs.into_iter().chain([leader_sync]) {
            self.synced(token).unwrap();
        }
        assert_eq!(self.state(), State::Stable);
        ids
    }

    fn group(&self) -> &Group {
        &self.coordinator.groups[GROUP]
    }

    fn state(&self) -> State {
        self.group().classic.state()
    }

    fn generation(&self) -> i32 {
        self.group().classic.generation()
    }

    fn leader(&self) -> MemberId {
        self.group().classic.leader().expect("the group has members").clone()
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let beat = Heartbeat { group: GROUP.into(), generation, member: member.into(), instance: None };
        match self.ask(beat) {
            Response::Heartbeat(result) => result,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, member: &str) -> Result<(), GroupError> {
        let members = vec![Leaving { member: member.into(), instance: None }];
        match self.ask(LeaveGroup { group: GROUP.into(), members }) {
            Response::Leave(Ok(left)) => left[0].result,
            other => panic!("not a leave: {other:?}"),
        }
    }

    fn commit(&mut self, request: CommitOffsets) -> Result<(), GroupError> {
        match self.ask(request) {
            Response::CommitOffsets(result) => result.and_then(|topics| topics[0].partitions[0].1),
            other => panic!("not a commit: {other:?}"),
        }
    }

    /// The offset of partition 0 of `t` that a consumer would see.
    fn offset(&mut self) -> i64 {
        match self.ask(fetch("t", 0)) {
            Response::FetchOffsets(Ok(topics)) => topics[0].partitions[0].offset,
            other => panic!("not a fetch: {other:?}"),
        }
    }

    fn describe(&mut self) -> Result<GroupDescription, GroupError> {
        match self.ask(Request::Describe { group: GROUP.into() }) {
            Response::Describe(result) => result,
            other => panic!("not a description: {other:?}"),
        }
    }

    fn delete(&mut self) -> Result<(), GroupError> {
        match self.ask(Request::Delete { group: GROUP.into() }) {
            Response::Delete(result) => result,
            other => panic!("not a deletion: {other:?}"),
        }
    }
}

/// A join as clients before JoinGroup v4 send it, without the detour over MEMBER_ID_REQUIRED.
fn join(member: &str) -> JoinGroup {
    JoinGroup {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", &subscription(&["t"]))],
        requires_known_member: false,
        can_skip_assignment: false,
    }
}

fn sync(member: &str, generation: i32) -> SyncGroup {
    SyncGroup {
        group: GROUP.into(),
        generation,
        member: member.into(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

/// A commit of partition 0 of `t`.
fn commit(member: &str, generation: i32, offset: i64) -> CommitOffsets {
    let partition = CommitPartition { partition: 0, offset, leader_epoch: LeaderEpoch(3), metadata: None };
    let topic = CommitTopic { topic: "t".into(), topic_id: TopicId::ZERO, partitions: vec![partition] };
    CommitOffsets {
        group: GROUP.into(),
        generation,
        member: member.into(),
        instance: None,
        retention: None,
        expects_group_not_found: false,
        topics: vec![topic],
    }
}

fn fetch(topic: &str, partition: PartitionIndex) -> FetchOffsets {
    let topic = FetchTopic { topic: topic.into(), topic_id: TopicId::ZERO, partitions: vec![partition] };
    FetchOffsets { group: GROUP.into(), topics: Some(vec![topic]), require_stable: false }
}

fn protocol(name: &str, metadata: &[u8]) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::copy_from_slice(metadata) }
}

fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes
}

fn number(i: usize) -> Bytes {
    Bytes::from(vec![i as u8])
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! into_request {
    ($($name:ident as $variant:ident),*) => {
        $(impl From<$name> for Request {
            fn from(request: $name) -> Request {
                Request::$variant(request)
            }
        })*
    };
}
into_request!(
    JoinGroup as Join,
    SyncGroup as Sync,
    Heartbeat as Heartbeat,
    LeaveGroup as Leave,
    CommitOffsets as CommitOffsets,
    FetchOffsets as FetchOffsets,
    DeleteOffsets as DeleteOffsets,
    ListGroups as List
);
