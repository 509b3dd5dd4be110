//! One classic consumer group: its members, what they offer, and the state they are in together. No timers and no
//! replies here (`rebalance.rs` has them); parked requests are kept as tokens.
//!
//! ```text
//!            first member            all joined, or time is up          assignment is durable
//!   Empty ----------------> Preparing ------------------------> Completing ----------------> Stable
//!     ^                     Rebalance <------------------------ Rebalance                      |
//!     +--- nobody is left ----+  ^      a member joins, leaves,                                |
//!                                |      fails or changes                                       |
//!                                +-------------------------------------------------------------+
//! ```
//! Invariants: `generation` never goes back; every member supports `protocol` when the group is CompletingRebalance or
//! Stable; `joined_count` is the number of members with a parked join; an id is never both a member and pending.
//! Source: Apache Kafka, `ClassicGroup`, `ClassicGroupState`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::GroupError;
use super::message::{
    DescribedMember, GroupDescription, GroupId, InstanceId, JoinedMember, MemberId, Protocol, ReplyToken,
};
use super::records::{GroupMetadata, MemberMetadata};
use crate::model::Timestamp;

/// The protocol type whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// A group's state, named as the wire names it. `Dead` is only ever shown: for a group that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }

    fn may_follow(self, before: State) -> bool {
        match self {
            State::Empty | State::CompletingRebalance => before == State::PreparingRebalance,
            State::PreparingRebalance => {
                matches!(before, State::Empty | State::CompletingRebalance | State::Stable)
            }
            State::Stable => before == State::CompletingRebalance,
            State::Dead => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A member of a group.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Member {
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    /// No name twice.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Has never been in a finished generation: it cannot send heartbeats yet, so only its long first timeout counts.
    pub is_new: bool,
    joining: Option<ReplyToken>,
    pub syncing: Option<ReplyToken>,
}

impl Member {
    pub fn new(instance: Option<InstanceId>, client_id: Arc<str>, client_host: Arc<str>) -> Member {
        Member {
            instance,
            client_id,
            client_host,
            rebalance_timeout: Duration::ZERO,
            session_timeout: Duration::ZERO,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            is_new: false,
            joining: None,
            syncing: None,
        }
    }

    pub fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// A member with a parked request needs no heartbeat: it cannot send one on that connection.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| &*p.name == protocol).map_or_else(Bytes::new, |p| p.metadata.clone())
    }
}

/// What the running wait for members to join is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JoinWait {
    /// The first generation of an empty group: extended by each newcomer while time remains.
    Initial { delay: Duration, remaining: Duration },
    /// Ends with whoever has joined.
    Rebalance,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct ClassicGroup {
    state: State,
    state_before: State,
    /// `None`: loaded from a record that did not know.
    state_since: Option<Timestamp>,
    generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    leader: Option<MemberId>,
    // Ordered maps: peers choose client and instance ids, and members are listed in a stable order.
    members: BTreeMap<MemberId, Member>,
    static_members: BTreeMap<InstanceId, MemberId>,
    /// Ids given out with MEMBER_ID_REQUIRED that nobody has come back with.
    pending_joins: BTreeSet<MemberId>,
    /// Members that have the new generation and have not asked for their assignment.
    pub pending_syncs: BTreeSet<MemberId>,
    /// How many members offer each protocol; no zeros.
    support: BTreeMap<Arc<str>, usize>,
    joined_count: usize,
    subscribed_topics: Option<BTreeSet<Arc<str>>>,
    pub join_wait: JoinWait,
    /// Somebody joined since the initial wait was last extended.
    pub has_newcomer: bool,
    /// The generation whose assignment is on its way to the log.
    pub assigning: Option<i32>,
}

impl ClassicGroup {
    /// An empty group without a protocol type.
    pub fn new(wall: Timestamp) -> ClassicGroup {
        ClassicGroup {
            state: State::Empty,
            state_before: State::Dead,
            state_since: Some(wall),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            support: BTreeMap::new(),
            joined_count: 0,
            subscribed_topics: None,
            join_wait: JoinWait::Rebalance,
            has_newcomer: false,
            assigning: None,
        }
    }

    /// The group that a record describes: Stable with its members, or Empty.
    pub fn restore(stored: GroupMetadata) -> ClassicGroup {
        let mut group = ClassicGroup::new(stored.state_timestamp);
        group.state_since = Some(stored.state_timestamp).filter(|at| *at != -1);
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type).filter(|name| !name.is_empty());
        let protocol = stored.protocol.clone().unwrap_or_else(|| Arc::from(""));
        for stored in stored.members {
            let session_timeout = millis(stored.session_timeout_ms);
            let rebalance_timeout_ms = stored.rebalance_timeout_ms;
            let rebalance_timeout =
                if rebalance_timeout_ms == -1 { session_timeout } else { millis(rebalance_timeout_ms) };
            let mut member = Member::new(stored.instance, stored.client_id, stored.client_host);
            member.session_timeout = session_timeout;
            member.rebalance_timeout = rebalance_timeout;
            member.protocols = vec![Protocol { name: protocol.clone(), metadata: stored.subscription }];
            member.assignment = stored.assignment;
            // What comes from disk is not asserted: the first of two equal ids stays.
            let is_twice = group.members.contains_key(&stored.member)
                || member
                    .instance
                    .as_ref()
                    .is_some_and(|instance| group.static_members.contains_key(instance));
            if !is_twice {
                group.insert(stored.member, member);
            }
        }
        group.leader = stored.leader.filter(|leader| group.members.contains_key(leader));
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.protocol = Some(protocol);
            group.leader = group.leader.or_else(|| group.members.keys().next().cloned());
        }
        group.subscribed_topics = group.read_subscriptions();
        group
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    pub fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    pub fn member_ids(&self) -> Vec<MemberId> {
        self.members.keys().cloned().collect()
    }

    pub fn member_mut(&mut self, member: &str) -> Option<&mut Member> {
        self.members.get_mut(member)
    }

    pub fn static_member(&self, instance: &str) -> Option<&MemberId> {
        self.static_members.get(instance)
    }

    pub fn pending_joins(&self) -> &BTreeSet<MemberId> {
        &self.pending_joins
    }

    pub fn joined_count(&self) -> usize {
        self.joined_count
    }

    /// The wait of the first generation, in which nothing but the timer ends the join.
    pub fn is_initial_rebalance(&self) -> bool {
        self.state == State::PreparingRebalance && self.state_before == State::Empty
    }

    pub fn has_all_joined(&self) -> bool {
        self.joined_count == self.members.len() && self.pending_joins.is_empty()
    }

    /// The longest that any member asks for.
    pub fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or(Duration::ZERO)
    }

    pub fn transition(&mut self, to: State, wall: Timestamp) {
        assert!(to.may_follow(self.state), "a group in {} cannot become {to}", self.state);
        self.state_before = self.state;
        self.state = to;
        self.state_since = Some(wall);
    }

    pub fn add_pending(&mut self, member: MemberId) {
        assert!(!self.members.contains_key(&member), "{member} is a member already");
        self.pending_joins.insert(member);
    }

    /// Whether members with these protocols could be in the group.
    pub fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.support.get(&p.name).copied().unwrap_or(0) == self.members.len())
    }

    /// Adds a member whose join waits for the next generation. The first one leads and sets the protocol type.
    pub fn add(&mut self, id: MemberId, member: Member, protocol_type: Arc<str>, token: ReplyToken) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        self.insert(id.clone(), member);
        self.park_join(&id, token);
    }

    fn insert(&mut self, id: MemberId, member: Member) {
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.count_support(&member.protocols, true);
        self.pending_joins.remove(&id);
        let former = self.members.insert(id.clone(), member);
        assert!(former.is_none(), "{id} is a member twice");
    }

    /// Takes a member, a pending id, or nothing out. The tokens of its parked join and sync, to be answered.
    pub fn remove(&mut self, id: &str) -> (Option<ReplyToken>, Option<ReplyToken>) {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        let Some(member) = self.members.remove(id) else {
            return (None, None);
        };
        self.count_support(&member.protocols, false);
        self.joined_count -= usize::from(member.is_joining());
        if let Some(instance) = &member.instance
            && self.static_members.get(instance).is_some_and(|holder| &**holder == id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        (member.joining, member.syncing)
    }

    /// Gives a static member's place, with all it has, to a new id. The old one's parked requests, to be answered.
    pub fn replace(&mut self, old: &str, new: MemberId) -> (Option<ReplyToken>, Option<ReplyToken>) {
        let mut member = self.members.remove(old).expect("static_members names members only");
        let parked = (member.joining.take(), member.syncing.take());
        self.joined_count -= usize::from(parked.0.is_some());
        let instance = member.instance.clone().expect("only static members are replaced");
        self.static_members.insert(instance, new.clone());
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.clone());
        }
        self.members.insert(new, member);
        parked
    }

    /// Takes over what a joining member offers now.
    pub fn update(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout: Duration,
        session_timeout: Duration,
    ) {
        let member = self.members.get_mut(id).expect("the caller has looked the member up");
        let former = std::mem::replace(&mut member.protocols, protocols.clone());
        member.rebalance_timeout = rebalance_timeout;
        member.session_timeout = session_timeout;
        self.count_support(&former, false);
        self.count_support(&protocols, true);
    }

    /// Parks a member's join. Returns the join that was parked before, to be answered.
    pub fn park_join(&mut self, id: &str, token: ReplyToken) -> Option<ReplyToken> {
        let member = self.members.get_mut(id).expect("the caller has looked the member up");
        let former = member.joining.replace(token);
        self.joined_count += usize::from(former.is_none());
        former
    }

    /// Takes a member's parked join, to be answered.
    pub fn take_join(&mut self, id: &str) -> Option<ReplyToken> {
        let token = self.members.get_mut(id)?.joining.take();
        self.joined_count -= usize::from(token.is_some());
        token
    }

    fn count_support(&mut self, protocols: &[Protocol], joins: bool) {
        for protocol in protocols {
            let count = self.support.entry(protocol.name.clone()).or_default();
            if joins {
                *count += 1;
            } else {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(&protocol.name);
                }
            }
        }
    }

    /// Holds a request's member to the group. Errors: UnknownMemberId, FencedInstanceId.
    pub fn check_member(&self, id: &str, instance: Option<&InstanceId>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if &**holder != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        if generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Whether an offset commit comes from whom it claims to. Only the current generation's members may commit, and,
    /// while there are none, consumers that assign their partitions themselves (generation below zero).
    pub fn check_commit(
        &self,
        generation: i32,
        member: &str,
        instance: Option<&InstanceId>,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(member, instance)?;
        #[cfg(not(corelog_planted = "23"))]
        self.check_generation(generation)?;
        if self.state == State::CompletingRebalance {
            // The member has the new generation but not its partitions: what it commits belongs to the old ones.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Lets a member that has joined lead if the leader has not. False: nobody has joined, or there is nobody.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self.members[leader].is_joining() {
            return true;
        }
        match self.members.iter().find(|(_, m)| m.is_joining()) {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    /// Starts the next generation with the members there are: CompletingRebalance, or Empty without any.
    pub fn next_generation(&mut self, wall: Timestamp) {
        // Kafka's counter wraps into the negative, which no commit could name; starting over keeps the group usable.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(State::Empty, wall);
        } else {
            self.protocol = Some(self.elect_protocol());
            self.transition(State::CompletingRebalance, wall);
        }
        self.subscribed_topics = self.read_subscriptions();
    }

    /// The protocol that most members prefer among those all have; the leader's preference breaks ties.
    pub fn elect_protocol(&self) -> Arc<str> {
        let is_common = |name: &Arc<str>| self.support.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|p| &p.name).find(|name| is_common(name));
            *votes.entry(choice.expect("`supports` kept out who has no common protocol")).or_default() += 1;
        }
        let most = votes.values().max().expect("the caller knows of members");
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id)).into_iter();
        let preferences = leader.flat_map(|m| m.protocols.iter().map(|p| &p.name));
        let best = preferences.chain(votes.keys().copied()).find(|name| votes.get(name) == Some(most));
        best.expect("the chain has every protocol with a vote").clone()
    }

    /// All members as their leader sees them.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let members = self.members.iter();
        members
            .map(|(id, m)| JoinedMember {
                member: id.clone(),
                instance: m.instance.clone(),
                metadata: m.metadata(protocol),
            })
            .collect()
    }

    pub fn describe(&self, group: &GroupId) -> GroupDescription {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable).unwrap_or_else(|| Arc::from(""));
        let members = self.members.iter().map(|(id, m)| DescribedMember {
            member: id.clone(),
            instance: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: if is_stable { m.metadata(&protocol) } else { Bytes::new() },
            assignment: m.assignment.clone(),
        });
        GroupDescription {
            group: group.clone(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            members: members.collect(),
            protocol,
        }
    }

    /// The group for its record, with these assignments; a member without one has an empty one.
    pub fn stored(&self, assignments: &BTreeMap<MemberId, Bytes>) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let members = self.members.iter().map(|(id, m)| MemberMetadata {
            member: id.clone(),
            instance: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout_ms: to_millis(m.rebalance_timeout),
            session_timeout_ms: to_millis(m.session_timeout),
            subscription: m.metadata(protocol),
            assignment: assignments.get(id).cloned().unwrap_or_default(),
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_since.unwrap_or(-1),
            members: members.collect(),
        }
    }

    pub fn assignments(&self) -> BTreeMap<MemberId, Bytes> {
        self.members.iter().map(|(id, m)| (id.clone(), m.assignment.clone())).collect()
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether offsets of the topic are in use. A consumer group whose subscriptions cannot be read uses all.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// From when an offset's retention counts. `None`: nothing expires now.
    pub fn retention_start(&self, commit_timestamp: Timestamp) -> Option<Timestamp> {
        if self.protocol_type.is_none() {
            return Some(commit_timestamp);
        }
        match self.state {
            State::Empty => Some(self.state_since.unwrap_or(commit_timestamp)),
            State::Stable if self.subscribed_topics.is_some() => Some(commit_timestamp),
            _ => None,
        }
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if !self.members.is_empty() {
            let protocol = self.protocol.as_deref()?;
            for member in self.members.values() {
                read_subscription(&member.metadata(protocol), &mut topics)?;
            }
        }
        Some(topics)
    }

    #[cfg(test)]
    pub fn check_invariants(&self) {
        assert_eq!(self.joined_count, self.members.values().filter(|m| m.is_joining()).count());
        for (id, member) in &self.members {
            assert!(!self.pending_joins.contains(id), "{id} is pending and a member");
            if let Some(instance) = &member.instance {
                assert_eq!(self.static_members.get(instance), Some(id));
            }
            assert!(member.syncing.is_none() || self.state == State::CompletingRebalance);
            if matches!(self.state, State::CompletingRebalance | State::Stable) {
                let protocol = self.protocol.as_ref().expect("a generation has a protocol");
                assert!(member.protocols.iter().any(|p| p.name == *protocol), "{id} lacks {protocol}");
            }
        }
        for (instance, id) in &self.static_members {
            assert_eq!(self.members[id].instance.as_ref(), Some(instance));
        }
        assert_eq!(self.leader.is_some(), !self.members.is_empty());
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader));
        }
        assert!(self.state != State::Empty || self.members.is_empty());
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)));
    }
}

/// Adds the topics of one `ConsumerProtocolSubscription`: version int16, then an array of strings, then what later
/// versions append. `None`: not such a structure. Source: Apache Kafka, `ConsumerProtocolSubscription.json`.
fn read_subscription(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.insert(Arc::from(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    // userData, nullable bytes, is in every version.
    let (length, rest) = rest.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => Some(()),
        length => rest.get(..usize::try_from(length).ok()?).map(drop),
    }
}

/// Milliseconds of the wire as a duration; below zero is none.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn to_millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::records::tests::hex;

    #[test]
    fn subscriptions_are_read_or_unknown() {
        let check = |metadata: &str, expected: Option<&[&str]>| {
            let mut topics = BTreeSet::new();
            let read = read_subscription(&hex(metadata), &mut topics).map(|()| topics);
            let expected = expected.map(|names| names.iter().map(|n| Arc::from(*n)).collect());
            assert_eq!(read, expected, "{metadata}");
        };
        check("0003 00000001 00027431 ffffffff 00000000 ffffffff ffff", Some(&["t1"]));
        check("0000 00000002 000161 000162 00000001 ff", Some(&["a", "b"]));
        check("0000 00000000 ffffffff", Some(&[]));
        check("00", None);
        check("0000 00000001 000261", None);
        check("0000 ffffffff ffffffff", None);
        check("0000 7fffffff 000161", None);
        check("0000 00000001 000161 00000002 ff", None);
        check("0000 00000001 ffff ffffffff", None);
        check("0000 00000001 0001ff ffffffff", None);
    }

    fn group_of(members: &[(&str, &[&str])]) -> ClassicGroup {
        let mut group = ClassicGroup::new(0);
        for (i, (id, protocols)) in members.iter().enumerate() {
            let mut member = Member::new(None, "c".into(), "h".into());
            let name = |name: &&str| Protocol { name: Arc::from(*name), metadata: Bytes::new() };
            member.protocols = protocols.iter().map(name).collect();
            group.add((*id).into(), member, CONSUMER.into(), ReplyToken(i as u64));
        }
        group
    }

    #[test]
    fn the_protocol_with_most_votes_among_the_common_ones_wins() {
        let check = |members: &[(&str, &[&str])], expected| {
            assert_eq!(&*group_of(members).elect_protocol(), expected, "{members:?}");
        };
        check(&[("a", &["range"])], "range");
        check(
            &[("a", &["range", "sticky"]), ("b", &["sticky", "range"]), ("c", &["sticky", "range"])],
            "sticky",
        );
        check(&[("a", &["sticky", "range"]), ("b", &["range"])], "range");
        check(&[("b", &["range", "sticky"]), ("a", &["sticky", "range"])], "range");
        check(&[("b", &["sticky", "range"]), ("a", &["range", "sticky"])], "sticky");
    }

    #[test]
    fn a_group_comes_back_from_its_record() {
        let mut group = group_of(&[("a", &["range"]), ("b", &["range"])]);
        group.transition(State::PreparingRebalance, 1);
        group.next_generation(2);
        let assignments = BTreeMap::from([(MemberId::from("b"), hex("01"))]);
        let stored = group.stored(&assignments);
        assert_eq!(stored.state_timestamp, 2);
        let restored = ClassicGroup::restore(stored.clone());
        assert_eq!((restored.state(), restored.generation()), (State::Stable, 1));
        assert_eq!(restored.stored(&restored.assignments()), stored);
        restored.check_invariants();
    }

    #[test]
    #[should_panic(expected = "a group in Empty cannot become Stable")]
    fn illegal_transitions_stop_the_process() {
        ClassicGroup::new(0).transition(State::Stable, 0);
    }
}
