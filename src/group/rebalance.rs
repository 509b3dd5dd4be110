//! Join, sync, heartbeat, leave and the timers behind them: how a classic group comes from one generation to the next.
//! The order of the checks decides which of two errors a client sees, and follows Kafka's.
//! Source: Apache Kafka, `GroupMetadataManager`, the methods named `classicGroup*`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Group;
use super::classic::{JoinWait, Member, State, millis};
use super::error::{AppendFailure, GroupError};
use super::message::{
    Heartbeat, JoinGroup, Joined, LeaveGroup, Leaving, Left, MemberId, Protocol, ReplyToken, Response,
    SyncGroup, Synced,
};
use super::records;
use super::timers::Timer;
use super::turn::{Change, Replacement, Then, Turn, Write};

/// A new member has no id to send heartbeats with until its join is answered; a client that is gone by then must not
/// hold the group for ever. Source: Apache Kafka, `group.new.member.join.timeout` (5 minutes, not configurable).
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A rebalance timeout is the client's choice and may be zero; a wait that repeats itself must not spin.
const REPEATED_JOIN_WAIT_MIN: Duration = Duration::from_millis(100);

pub(super) fn join(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    mut request: JoinGroup,
) -> Option<Write> {
    let member = request.member.clone();
    if !accepts(group, turn, &member) {
        turn.refuse_join(token, GroupError::GroupMaxSizeReached, "");
        remove(group, turn, &member, GroupError::UnknownMemberId);
        // It may be the last one the others have waited for.
        return complete_if_all_joined(group, turn);
    }
    if !group.classic.supports(&request.protocol_type, &request.protocols) {
        turn.refuse_join(token, GroupError::InconsistentGroupProtocol, &member);
        return None;
    }
    request.protocols = without_repeats(request.protocols);
    if member.is_empty() {
        join_without_id(group, turn, token, request)
    } else if group.classic.pending_joins().contains(&member) && request.instance.is_none() {
        add_member(group, turn, token, member, request)
    } else {
        rejoin(group, turn, token, request)
    }
}

/// Whether the group has room. While it prepares, those who have joined count: the slowest of too many stay out.
fn accepts(group: &Group, turn: &Turn, member: &str) -> bool {
    let known = group.classic.members().get(member);
    match group.classic.state() {
        State::Empty | State::Dead => true,
        State::PreparingRebalance => {
            known.is_some_and(Member::is_joining) || group.classic.joined_count() < turn.limits.group_size_max
        }
        State::CompletingRebalance | State::Stable => {
            known.is_some() || group.classic.members().len() < turn.limits.group_size_max
        }
    }
}

/// Support is counted by name, so a name counts once: the first, as Kafka keeps it.
fn without_repeats(protocols: Vec<Protocol>) -> Vec<Protocol> {
    let mut seen = std::collections::BTreeSet::new();
    protocols.into_iter().filter(|protocol| seen.insert(protocol.name.clone())).collect()
}

fn join_without_id(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    request: JoinGroup,
) -> Option<Write> {
    if let Some(instance) = &request.instance {
        let id = turn.new_member_id(instance);
        return match group.classic.static_member(instance).cloned() {
            Some(old) => replace_static_member(group, turn, token, old, id, request),
            None => add_member(group, turn, token, id, request),
        };
    }
    let id = turn.new_member_id(&request.client_id);
    if !request.requires_known_member {
        return add_member(group, turn, token, id, request);
    }
    if group.classic.pending_joins().len() >= turn.limits.pending_members_max {
        turn.refuse_join(token, GroupError::GroupMaxSizeReached, "");
        return None;
    }
    group.classic.add_pending(id.clone());
    turn.set_timer(Timer::Session(group.id.clone(), id.clone()), millis(request.session_timeout_ms));
    turn.refuse_join(token, GroupError::MemberIdRequired, &id);
    None
}

fn add_member(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    id: MemberId,
    request: JoinGroup,
) -> Option<Write> {
    let mut member = Member::new(request.instance, request.client_id, request.client_host);
    member.rebalance_timeout = millis(request.rebalance_timeout_ms);
    member.session_timeout = millis(request.session_timeout_ms);
    member.protocols = request.protocols;
    member.is_new = true;
    if group.classic.is_initial_rebalance() {
        group.classic.has_newcomer = true;
    }
    group.classic.add(id.clone(), member, request.protocol_type, token);
    turn.set_timer(Timer::Session(group.id.clone(), id), NEW_MEMBER_JOIN_TIMEOUT);
    rebalance(group, turn)
}

/// A join with an id: of a member that comes back, or of nobody.
fn rejoin(group: &mut Group, turn: &mut Turn, token: ReplyToken, request: JoinGroup) -> Option<Write> {
    let id = request.member.clone();
    if let Err(error) = group.classic.check_member(&id, request.instance.as_ref()) {
        turn.refuse_join(token, error, &id);
        return None;
    }
    let is_unchanged = group.classic.members()[&id].protocols == request.protocols;
    let is_leader = group.classic.is_leader(&id);
    match group.classic.state() {
        // The first answer was lost: the member gets it again.
        State::CompletingRebalance if is_unchanged => {
            let joined = joined(group, &id, is_leader);
            turn.reply_join(token, joined);
            None
        }
        // A follower only wants its assignment. The leader may know of new partitions, which changes no metadata.
        State::Stable if is_unchanged && !is_leader => {
            let joined = joined(group, &id, false);
            turn.reply_join(token, joined);
            None
        }
        State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
            update_member(group, turn, token, &id, request);
            rebalance(group, turn)
        }
        State::Empty | State::Dead => {
            turn.refuse_join(token, GroupError::UnknownMemberId, &id);
            None
        }
    }
}

fn update_member(group: &mut Group, turn: &mut Turn, token: ReplyToken, id: &MemberId, request: JoinGroup) {
    let (rebalance, session) = (millis(request.rebalance_timeout_ms), millis(request.session_timeout_ms));
    group.classic.update(id, request.protocols, rebalance, session);
    if let Some(former) = group.classic.park_join(id, token) {
        // The client gave up on that one; whoever may still listen joins again.
        turn.refuse_join(former, GroupError::RebalanceInProgress, id);
    }
}

/// A static member comes back without its id: it keeps its place and its assignment under a new one.
fn replace_static_member(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    old: MemberId,
    new: MemberId,
    request: JoinGroup,
) -> Option<Write> {
    let old_leader = group.classic.leader().cloned().expect("a group with a member has a leader");
    let member = &group.classic.members()[&old];
    let mut replacement = Replacement {
        group: group.id.clone(),
        generation: group.classic.generation(),
        new: new.clone(),
        old: old.clone(),
        old_leader,
        old_protocols: member.protocols.clone(),
        old_rebalance_timeout: member.rebalance_timeout,
        old_session_timeout: member.session_timeout,
        can_skip_assignment: request.can_skip_assignment,
    };
    swap_ids(group, turn, &old, &new);
    update_member(group, turn, token, &new, request);
    match group.classic.state() {
        State::Stable if Some(group.classic.elect_protocol()) == group.classic.protocol => {
            replacement.generation = group.classic.generation();
            let assignments = group.classic.assignments();
            let mut write = group_write(group, &assignments);
            write.then = Then::Replace(Box::new(replacement));
            Some(write)
        }
        State::Stable | State::PreparingRebalance => rebalance(group, turn),
        // The leader may be assigning partitions to the old id at this moment.
        State::CompletingRebalance => prepare(group, turn),
        State::Empty | State::Dead => {
            // Not reachable: an empty group has no static members. The member starts over if it ever is.
            remove(group, turn, &new, GroupError::UnknownMemberId);
            None
        }
    }
}

/// Moves a static member to another id and fences whoever still uses the former one.
fn swap_ids(group: &mut Group, turn: &mut Turn, old: &MemberId, new: &MemberId) {
    let (join, sync) = group.classic.replace(old, new.clone());
    if let Some(token) = join {
        turn.refuse_join(token, GroupError::FencedInstanceId, old);
    }
    if let Some(token) = sync {
        turn.reply_sync(token, Err(GroupError::FencedInstanceId));
    }
    turn.timers.cancel(&Timer::Session(group.id.clone(), old.clone()));
    extend_session(group, turn, new);
}

/// The record of a static member's new id is durable, or lost: answer it, or put the former id back.
pub(super) fn replaced(
    group: &mut Group,
    turn: &mut Turn,
    replacement: Replacement,
    result: Result<(), AppendFailure>,
) -> Option<Write> {
    let Replacement { new, old, .. } = replacement;
    let is_current =
        group.classic.state() == State::Stable && group.classic.generation() == replacement.generation;
    let is_waiting = group.classic.members().get(&new).is_some_and(Member::is_joining);
    if !is_current || !is_waiting {
        // A rebalance has begun, which will answer the join, or the member has gone and was answered.
        return None;
    }
    let token = group.classic.take_join(&new).expect("is_waiting");
    match result {
        Ok(()) => {
            let is_leader = group.classic.is_leader(&new) && replacement.can_skip_assignment;
            let mut joined = joined(group, &new, is_leader);
            joined.skip_assignment = is_leader;
            if !replacement.can_skip_assignment {
                // Clients that cannot skip the assignment must not take themselves for the leader of a settled group.
                joined.leader = replacement.old_leader;
            }
            turn.reply_join(token, joined);
            extend_session(group, turn, &new);
        }
        Err(failure) => {
            group.classic.update(
                &new,
                replacement.old_protocols,
                replacement.old_rebalance_timeout,
                replacement.old_session_timeout,
            );
            swap_ids(group, turn, &new, &old);
            turn.refuse_join(token, failure.into(), "");
        }
    }
    None
}

fn joined(group: &Group, member: &MemberId, with_members: bool) -> Joined {
    Joined {
        member: member.clone(),
        generation: group.classic.generation(),
        protocol_type: group.classic.protocol_type.clone(),
        protocol: group.classic.protocol.clone(),
        leader: group.classic.leader().cloned().unwrap_or_else(|| MemberId::from("")),
        skip_assignment: false,
        members: if with_members { group.classic.joined_members() } else { Vec::new() },
    }
}

/// Begins a rebalance, or ends the running one if everybody is there.
fn rebalance(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    if group.classic.state() == State::PreparingRebalance {
        return complete_if_all_joined(group, turn);
    }
    prepare(group, turn)
}

fn complete_if_all_joined(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    let is_due = group.classic.state() == State::PreparingRebalance
        && !group.classic.is_initial_rebalance()
        && group.classic.has_all_joined();
    if is_due { complete_join(group, turn) } else { None }
}

/// Starts the wait for members to join.
pub(super) fn prepare(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    if group.classic.state() == State::CompletingRebalance {
        propagate(group, turn, Err(GroupError::RebalanceInProgress));
    }
    group.classic.pending_syncs.clear();
    turn.timers.cancel(&Timer::Sync(group.id.clone()));
    let is_initial = group.classic.state() == State::Empty;
    group.classic.transition(State::PreparingRebalance, turn.moment.wall);
    if is_initial {
        let delay = turn.limits.initial_rebalance_delay;
        let remaining = group.classic.rebalance_timeout().saturating_sub(delay);
        group.classic.join_wait = JoinWait::Initial { delay, remaining };
        group.classic.has_newcomer = false;
        turn.set_timer(Timer::Join(group.id.clone()), delay);
        return None;
    }
    group.classic.join_wait = JoinWait::Rebalance;
    if group.classic.has_all_joined() {
        return complete_join(group, turn);
    }
    turn.set_timer(Timer::Join(group.id.clone()), group.classic.rebalance_timeout());
    None
}

/// The wait for members to join is over: extends it once more for newcomers of a new group, or ends it.
pub(super) fn join_timer(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    if group.classic.state() != State::PreparingRebalance {
        return None;
    }
    match group.classic.join_wait {
        JoinWait::Initial { delay, remaining } if group.classic.has_newcomer && !remaining.is_zero() => {
            group.classic.has_newcomer = false;
            let next = turn.limits.initial_rebalance_delay.min(remaining);
            group.classic.join_wait =
                JoinWait::Initial { delay: next, remaining: remaining.saturating_sub(delay) };
            turn.set_timer(Timer::Join(group.id.clone()), next);
            None
        }
        JoinWait::Initial { .. } | JoinWait::Rebalance => complete_join(group, turn),
    }
}

/// Ends the join: drops dynamic members that are late, starts the generation and tells everybody.
fn complete_join(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    turn.timers.cancel(&Timer::Join(group.id.clone()));
    let is_late = |member: &Member| !member.is_joining() && member.instance.is_none();
    let late: Vec<_> =
        group.classic.members().iter().filter(|(_, m)| is_late(m)).map(|(id, _)| id.clone()).collect();
    for id in late {
        remove(group, turn, &id, GroupError::UnknownMemberId);
    }
    if !group.classic.elect_joined_leader() && !group.classic.members().is_empty() {
        // Only static members are left and none has joined: wait until they do, or their sessions end.
        let again = group.classic.rebalance_timeout().max(REPEATED_JOIN_WAIT_MIN);
        turn.set_timer(Timer::Join(group.id.clone()), again);
        return None;
    }
    group.classic.next_generation(turn.moment.wall);
    if group.classic.state() == State::Empty {
        return Some(group_write(group, &BTreeMap::new()));
    }
    for id in group.classic.member_ids() {
        if let Some(token) = group.classic.take_join(&id) {
            let joined = joined(group, &id, group.classic.is_leader(&id));
            turn.reply_join(token, joined);
        }
        group.classic.member_mut(&id).expect("it is one of the members").is_new = false;
        group.classic.pending_syncs.insert(id.clone());
        extend_session(group, turn, &id);
    }
    turn.set_timer(Timer::Sync(group.id.clone()), group.classic.rebalance_timeout());
    None
}

pub(super) fn sync(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    request: SyncGroup,
) -> Option<Write> {
    if let Err(error) = check_sync(group, &request) {
        turn.reply_sync(token, Err(error));
        return None;
    }
    match group.classic.state() {
        State::PreparingRebalance => {
            turn.reply_sync(token, Err(GroupError::RebalanceInProgress));
            None
        }
        State::CompletingRebalance => {
            let member = group.classic.member_mut(&request.member).expect("check_sync has found the member");
            if let Some(former) = member.syncing.replace(token) {
                turn.reply_sync(former, Err(GroupError::RebalanceInProgress));
            }
            member_synced(group, turn, &request.member);
            // One assignment for each generation: a second one, written after the first is handed out, would be
            // another after a restart than the one that members work by.
            let generation = group.classic.generation();
            if !group.classic.is_leader(&request.member) || group.classic.assigning == Some(generation) {
                return None;
            }
            group.classic.assigning = Some(generation);
            let mut assignments: BTreeMap<MemberId, Bytes> = request.assignments.into_iter().collect();
            assignments.retain(|id, _| group.classic.members().contains_key(id));
            let mut write = group_write(group, &assignments);
            write.then = Then::Assign { group: group.id.clone(), generation, assignments };
            Some(write)
        }
        State::Stable => {
            member_synced(group, turn, &request.member);
            let assignment = group.classic.members()[&request.member].assignment.clone();
            let synced = synced(group, assignment);
            turn.reply_sync(token, Ok(synced));
            None
        }
        State::Empty | State::Dead => {
            turn.reply_sync(token, Err(GroupError::UnknownMemberId));
            None
        }
    }
}

fn check_sync(group: &Group, request: &SyncGroup) -> Result<(), GroupError> {
    group.classic.check_member(&request.member, request.instance.as_ref())?;
    group.classic.check_generation(request.generation)?;
    let differs = |asked: &Option<_>, ours: &Option<_>| asked.is_some() && ours.is_some() && asked != ours;
    if differs(&request.protocol_type, &group.classic.protocol_type)
        || differs(&request.protocol, &group.classic.protocol)
    {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    Ok(())
}

fn member_synced(group: &mut Group, turn: &mut Turn, member: &MemberId) {
    group.classic.pending_syncs.remove(member);
    if group.classic.pending_syncs.is_empty() {
        turn.timers.cancel(&Timer::Sync(group.id.clone()));
    }
}

fn synced(group: &Group, assignment: Bytes) -> Synced {
    Synced {
        protocol_type: group.classic.protocol_type.clone(),
        protocol: group.classic.protocol.clone(),
        assignment,
    }
}

/// The record of a generation's assignment is durable, or lost.
pub(super) fn assigned(
    group: &mut Group,
    turn: &mut Turn,
    generation: i32,
    assignments: BTreeMap<MemberId, Bytes>,
    result: Result<(), AppendFailure>,
) -> Option<Write> {
    if group.classic.assigning == Some(generation) {
        group.classic.assigning = None;
    }
    if group.classic.state() != State::CompletingRebalance || group.classic.generation() != generation {
        // The group has moved on while the record was on its way.
        return None;
    }
    match result {
        Ok(()) => {
            propagate(group, turn, Ok(assignments));
            group.classic.transition(State::Stable, turn.moment.wall);
            None
        }
        Err(failure) => {
            propagate(group, turn, Err(failure.into()));
            rebalance(group, turn)
        }
    }
}

/// Gives members their assignment, or takes it from them, and answers those who wait for it.
fn propagate(
    group: &mut Group,
    turn: &mut Turn,
    mut assignments: Result<BTreeMap<MemberId, Bytes>, GroupError>,
) {
    for id in group.classic.member_ids() {
        let assignment =
            assignments.as_mut().map(|all| all.remove(&id).unwrap_or_default()).map_err(|error| *error);
        let member = group.classic.member_mut(&id).expect("it is one of the members");
        member.assignment = assignment.clone().unwrap_or_default();
        if let Some(token) = member.syncing.take() {
            let answer = assignment.map(|assignment| synced(group, assignment));
            turn.reply_sync(token, answer);
            // The session may have run out during the wait, in which nothing could be heard of the member.
            extend_session(group, turn, &id);
        }
    }
}

/// Members that have not asked for their assignment in time are out, the leader too.
pub(super) fn sync_timer(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    let is_waiting = matches!(group.classic.state(), State::CompletingRebalance | State::Stable);
    if !is_waiting || group.classic.pending_syncs.is_empty() {
        return None;
    }
    for id in std::mem::take(&mut group.classic.pending_syncs) {
        remove(group, turn, &id, GroupError::UnknownMemberId);
    }
    prepare(group, turn)
}

pub(super) fn heartbeat(group: &mut Group, turn: &mut Turn, request: &Heartbeat) -> Result<(), GroupError> {
    group.classic.check_member(&request.member, request.instance.as_ref())?;
    group.classic.check_generation(request.generation)?;
    extend_session(group, turn, &request.member);
    match group.classic.state() {
        State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
        State::CompletingRebalance | State::Stable => Ok(()),
        State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
    }
}

pub(super) fn leave(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    request: LeaveGroup,
) -> Option<Write> {
    let mut results = Vec::with_capacity(request.members.len());
    for leaving in request.members {
        let result = leave_one(group, turn, &leaving);
        results.push(Left { member: leaving.member, instance: leaving.instance, result });
    }
    let has_left = results.iter().any(|left| left.result.is_ok());
    let write = match group.classic.state() {
        State::Stable | State::CompletingRebalance | State::PreparingRebalance if has_left => {
            rebalance(group, turn)
        }
        _ => None,
    };
    let response = Response::Leave(Ok(results));
    match write {
        Some(write) => Some(Write { then: Then::Reply(token, response), ..write }),
        None => {
            turn.reply(token, response);
            None
        }
    }
}

fn leave_one(group: &mut Group, turn: &mut Turn, leaving: &Leaving) -> Result<(), GroupError> {
    let id = if leaving.member.is_empty() {
        let instance = leaving.instance.as_ref().ok_or(GroupError::UnknownMemberId)?;
        group.classic.static_member(instance).cloned().ok_or(GroupError::UnknownMemberId)?
    } else {
        if !group.classic.pending_joins().contains(&leaving.member) {
            group.classic.check_member(&leaving.member, leaving.instance.as_ref())?;
        }
        leaving.member.clone()
    };
    remove(group, turn, &id, GroupError::UnknownMemberId);
    Ok(())
}

/// A session has ended without a sign of life, or nobody came back with an id.
pub(super) fn session_timer(group: &mut Group, turn: &mut Turn, id: &MemberId) -> Option<Write> {
    let is_pending = group.classic.pending_joins().contains(id);
    match group.classic.members().get(id) {
        Some(member) if member.is_excused() => return None,
        None if !is_pending => return None,
        Some(_) | None => {}
    }
    remove(group, turn, id, GroupError::UnknownMemberId);
    match group.classic.state() {
        State::Stable | State::CompletingRebalance if !is_pending => rebalance(group, turn),
        // Also in the first wait of a group: there may be nobody left to wait for.
        State::PreparingRebalance if group.classic.has_all_joined() => complete_join(group, turn),
        _ => None,
    }
}

/// Takes a member, or a pending id, out of the group and answers what it has parked.
fn remove(group: &mut Group, turn: &mut Turn, id: &MemberId, error: GroupError) {
    let (join, sync) = group.classic.remove(id);
    if let Some(token) = join {
        turn.refuse_join(token, error, "");
    }
    if let Some(token) = sync {
        turn.reply_sync(token, Err(error));
    }
    turn.timers.cancel(&Timer::Session(group.id.clone(), id.clone()));
}

/// Restarts the session of a member.
fn extend_session(group: &Group, turn: &mut Turn, id: &MemberId) {
    if let Some(member) = group.classic.members().get(id) {
        turn.set_timer(Timer::Session(group.id.clone(), id.clone()), member.session_timeout);
    }
}

/// After a start: every member gets a session's time to show up, and a group above its size is told to rebalance.
pub(super) fn resume(group: &mut Group, turn: &mut Turn) -> Option<Write> {
    for id in group.classic.member_ids() {
        extend_session(group, turn, &id);
    }
    let is_too_large = group.classic.members().len() > turn.limits.group_size_max;
    if is_too_large { prepare(group, turn) } else { None }
}

/// Ends all that the group has running; everybody who waits is told this error.
pub(super) fn dissolve(group: &mut Group, turn: &mut Turn, error: GroupError) {
    for id in group.classic.member_ids() {
        remove(group, turn, &id, error);
    }
    for id in group.classic.pending_joins().clone() {
        remove(group, turn, &id, error);
    }
    turn.timers.cancel(&Timer::Join(group.id.clone()));
    turn.timers.cancel(&Timer::Sync(group.id.clone()));
}

/// The group's record with these assignments.
fn group_write(group: &Group, assignments: &BTreeMap<MemberId, Bytes>) -> Write {
    let value = records::group_value(&group.classic.stored(assignments));
    let changes = vec![Change::Group { group: group.id.clone(), value }];
    Write { partition: group.partition, changes, then: Then::Nothing }
}
