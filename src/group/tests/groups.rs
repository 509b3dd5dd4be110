//! Dynamic members: Kafka's rules for join, sync, heartbeat and leave.

use super::*;

fn v4(member: &str) -> JoinGroup {
    JoinGroup { requires_known_member: true, ..join(member) }
}

#[test]
fn a_new_dynamic_member_is_sent_back_with_an_id_and_the_group_waits_for_it() {
    let mut h = Harness::new();
    let first = h.join(v4(""));
    let (error, id) = h.join_refused(first);
    assert_eq!(error, GroupError::MemberIdRequired);
    assert_eq!(id, "c-00000000-0000-4001-8000-000000000002");
    assert_eq!(h.state(), State::Empty);

    let token = h.join(v4(&id));
    let joined = h.joined(token);
    assert_eq!((joined.generation, &*joined.leader, &*joined.member), (1, &*id, &*id));
    assert_eq!(joined.protocol.as_deref(), Some("range"));

    let token = h.send(sync(&id, 1));
    assert_eq!(h.synced(token), Ok(Bytes::new()));

    // A second one: the first joins again, and its join waits until the pending id is used.
    let second = h.join(v4(""));
    let (_, second_id) = h.join_refused(second);
    let rejoin = h.join(v4(&id));
    assert_eq!(h.reply(rejoin), None);
    let second = h.join(v4(&second_id));
    assert_eq!((h.joined(rejoin).generation, h.joined(second).generation), (2, 2));
}

#[test]
fn a_pending_id_expires_with_the_session_timeout() {
    let mut h = Harness::new();
    let token = h.join(v4(""));
    let (_, id) = h.join_refused(token);
    h.advance(Duration::from_millis(10_001));
    let token = h.join(v4(&id));
    assert_eq!(h.join_refused(token), (GroupError::UnknownMemberId, id));

    // And a rebalance that waits for it goes on.
    let members = h.stable_group(1);
    let token = h.join(v4(""));
    h.join_refused(token);
    let rejoin = h.join(join(&members[0]));
    assert_eq!(h.reply(rejoin), None);
    h.advance(Duration::from_millis(10_001));
    assert_eq!(h.joined(rejoin).generation, 2);
}

#[test]
fn requests_are_refused_in_kafkas_order() {
    let refused = |request: JoinGroup, expected: GroupError| {
        let mut h = Harness::new();
        h.stable_group(1);
        let token = h.join(request.clone());
        assert_eq!(h.join_refused(token).0, expected, "{request:?}");
    };
    let short = |request| JoinGroup { session_timeout_ms: 5_999, ..request };
    refused(JoinGroup { group: "".into(), ..short(join("")) }, GroupError::InvalidGroupId);
    refused(short(join("")), GroupError::InvalidSessionTimeout);
    refused(JoinGroup { session_timeout_ms: -1, ..join("") }, GroupError::InvalidSessionTimeout);
    refused(JoinGroup { session_timeout_ms: 1_800_001, ..join("") }, GroupError::InvalidSessionTimeout);
    refused(JoinGroup { group: "none".into(), ..join("nobody") }, GroupError::UnknownMemberId);
    refused(join("nobody"), GroupError::UnknownMemberId);
    refused(JoinGroup { protocols: vec![], ..join("nobody") }, GroupError::InconsistentGroupProtocol);
    refused(JoinGroup { protocols: vec![], ..v4("") }, GroupError::InconsistentGroupProtocol);
    refused(
        JoinGroup { protocols: vec![protocol("sticky", b"")], ..v4("") },
        GroupError::InconsistentGroupProtocol,
    );
    refused(JoinGroup { protocol_type: "connect".into(), ..join("") }, GroupError::InconsistentGroupProtocol);
    refused(
        JoinGroup { group: "other".into(), protocols: vec![], ..v4("") },
        GroupError::InconsistentGroupProtocol,
    );
    refused(
        JoinGroup { group: "other".into(), protocol_type: "".into(), ..v4("") },
        GroupError::InconsistentGroupProtocol,
    );
    refused(
        JoinGroup { protocols: vec![protocol("range", &[0; 2 << 20])], ..join("") },
        GroupError::GroupTooLarge,
    );
    refused(JoinGroup { client_id: "x".repeat(40_000).into(), ..join("") }, GroupError::GroupTooLarge);
}

#[test]
fn sync_heartbeat_and_leave_name_the_first_fault() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    let generation = h.generation();
    let mut syncs = |request: SyncGroup, expected: Result<Bytes, GroupError>| {
        let token = h.send(request.clone());
        assert_eq!(h.synced(token), expected, "{request:?}");
    };
    syncs(sync(&id, generation), Ok(number(0)));
    syncs(SyncGroup { group: "".into(), ..sync(&id, generation) }, Err(GroupError::InvalidGroupId));
    syncs(SyncGroup { group: "none".into(), ..sync(&id, generation) }, Err(GroupError::UnknownMemberId));
    syncs(sync("nobody", generation + 1), Err(GroupError::UnknownMemberId));
    syncs(sync(&id, generation + 1), Err(GroupError::IllegalGeneration));
    let typed = |protocol_type: &str, protocol: &str| SyncGroup {
        protocol_type: Some(protocol_type.into()),
        protocol: Some(protocol.into()),
        ..sync(&id, generation)
    };
    syncs(typed("consumer", "range"), Ok(number(0)));
    syncs(typed("connect", "range"), Err(GroupError::InconsistentGroupProtocol));
    syncs(typed("consumer", "sticky"), Err(GroupError::InconsistentGroupProtocol));

    assert_eq!(h.heartbeat(&id, generation), Ok(()));
    assert_eq!(h.heartbeat("nobody", generation + 1), Err(GroupError::UnknownMemberId));
    assert_eq!(h.heartbeat(&id, generation + 1), Err(GroupError::IllegalGeneration));
    let instance = Some(InstanceId::from("i"));
    let beat = Heartbeat { group: GROUP.into(), generation, member: id.clone(), instance };
    assert_eq!(h.ask(beat.clone()), Response::Heartbeat(Err(GroupError::UnknownMemberId)));
    for (group, expected) in [("", GroupError::InvalidGroupId), ("none", GroupError::UnknownMemberId)] {
        let beat = Heartbeat { group: group.into(), ..beat.clone() };
        assert_eq!(h.ask(beat), Response::Heartbeat(Err(expected)));
    }

    assert_eq!(h.leave("nobody"), Err(GroupError::UnknownMemberId));
    let unknown = LeaveGroup {
        group: "none".into(),
        members: vec![Leaving { member: "nobody".into(), instance: Some("i".into()) }],
    };
    let left = Left {
        member: "nobody".into(),
        instance: Some("i".into()),
        result: Err(GroupError::UnknownMemberId),
    };
    assert_eq!(h.ask(unknown), Response::Leave(Ok(vec![left])));
    assert_eq!(
        h.ask(LeaveGroup { group: "".into(), members: vec![] }),
        Response::Leave(Err(GroupError::InvalidGroupId))
    );
    assert_eq!(h.leave(&id), Ok(()));
    assert_eq!(h.leave(&id), Err(GroupError::UnknownMemberId));
    assert_eq!(h.heartbeat(&id, generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_full_group_takes_no_more() {
    let mut h = Harness::with(|limits| limits.group_size_max = 2);
    let ids = h.stable_group(2);
    let token = h.join(join(""));
    assert_eq!(h.join_refused(token), (GroupError::GroupMaxSizeReached, String::new()));
    // Its members come and go as before.
    let token = h.join(join(&ids[1]));
    assert_eq!(h.joined(token).generation, 2);
}

#[test]
fn a_group_made_too_large_by_a_new_limit_keeps_those_who_join_first() {
    let mut h = Harness::new();
    let ids = h.stable_group(3);
    h.limits.group_size_max = 2;
    let mut h = h.restarted();
    assert_eq!(h.state(), State::PreparingRebalance);
    let tokens: Vec<_> = ids.iter().map(|id| h.join(join(id))).collect();
    assert_eq!(h.join_refused(tokens[2]).0, GroupError::GroupMaxSizeReached);
    assert_eq!(h.joined(tokens[0]).generation, 4);
    assert_eq!(h.joined(tokens[1]).generation, 4);
}

#[test]
fn hostile_joins_find_bounds() {
    let mut h = Harness::with(|limits| {
        limits.pending_members_max = 2;
        limits.groups_max = 2;
    });
    for expected in
        [GroupError::MemberIdRequired, GroupError::MemberIdRequired, GroupError::GroupMaxSizeReached]
    {
        let token = h.join(v4(""));
        assert_eq!(h.join_refused(token).0, expected);
    }
    let token = h.join(JoinGroup { group: "h".into(), ..v4("") });
    assert_eq!(h.join_refused(token).0, GroupError::MemberIdRequired);
    let token = h.join(JoinGroup { group: "i".into(), ..v4("") });
    assert_eq!(h.join_refused(token).0, GroupError::TooManyGroups);
    let simple = CommitOffsets { group: "i".into(), ..commit("", -1, 1) };
    assert_eq!(h.commit(simple), Err(GroupError::TooManyGroups));
    // Unused groups go with the next sweep.
    h.advance(h.limits.offsets_retention_check_interval);
    assert_eq!((h.coordinator.group_count(), h.log.len()), (0, 0));
}

#[test]
fn the_first_generation_waits_for_more_members_up_to_the_rebalance_timeout() {
    let mut h = Harness::with(|limits| limits.initial_rebalance_delay = secs(3));
    let request = || JoinGroup { rebalance_timeout_ms: 7_000, ..join("") };
    let first = h.join(request());
    h.advance(secs(2));
    let second = h.join(request());
    h.advance(Duration::from_millis(3_999));
    assert_eq!(h.reply(first), None, "each newcomer extends the wait by another delay");
    let third = h.join(request());
    h.advance(secs(1));
    assert_eq!(h.reply(second), None, "3 + 3 + 1 seconds make the rebalance timeout");
    h.advance(Duration::from_millis(1));
    let joined = h.joined(first);
    assert_eq!((joined.generation, joined.members.len()), (1, 3));
    assert!(h.joined(second).members.is_empty(), "only the leader sees the members");
    assert_eq!(h.joined(third).leader, joined.member);
}

#[test]
fn a_join_ends_at_the_longest_rebalance_timeout_without_the_late_ones() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let newcomer = h.join(JoinGroup { rebalance_timeout_ms: 90_000, ..join("") });
    assert_eq!(h.heartbeat(&ids[1], 2), Err(GroupError::RebalanceInProgress));
    let on_time = h.join(join(&ids[0]));
    for _ in 0..10 {
        h.advance(Duration::from_millis(8_999));
        assert_eq!(h.heartbeat(&ids[1], 2), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(h.reply(on_time), None);
    h.advance(Duration::from_millis(10));
    assert_eq!(h.joined(on_time).members.len(), 2);
    assert_eq!(h.joined(newcomer).generation, 3);
    assert_eq!(h.heartbeat(&ids[1], 3), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_follower_that_rejoins_unchanged_gets_the_running_generation() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let follower = ids.iter().find(|id| **id != h.leader()).unwrap().clone();
    let token = h.join(join(&follower));
    let joined = h.joined(token);
    assert_eq!((joined.generation, joined.leader, joined.members.len()), (2, h.leader(), 0));
    assert_eq!(h.state(), State::Stable);

    let changed = JoinGroup { protocols: vec![protocol("range", b"other")], ..join(&follower) };
    let token = h.join(changed);
    assert_eq!((h.state(), h.reply(token)), (State::PreparingRebalance, None));
}

#[test]
fn a_leader_that_rejoins_starts_a_rebalance() {
    let mut h = Harness::new();
    h.stable_group(2);
    let token = h.join(join(&h.leader()));
    assert_eq!((h.state(), h.reply(token)), (State::PreparingRebalance, None));
}

#[test]
fn a_member_whose_join_answer_was_lost_gets_it_again() {
    let mut h = Harness::new();
    let token = h.join(join(""));
    let joined = h.joined(token);
    assert_eq!(h.state(), State::CompletingRebalance);
    let token = h.join(join(&joined.member));
    assert_eq!(h.joined(token), joined);

    // With other metadata there is a new generation.
    let token = h.join(JoinGroup {
        protocols: vec![protocol("range", b""), protocol("x", b"")],
        ..join(&joined.member)
    });
    assert_eq!(h.joined(token).generation, 2);
}

#[test]
fn a_join_that_is_sent_again_replaces_the_parked_one() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let (first, again) = (h.join(join(&h.leader())), h.join(join(&h.leader())));
    assert_eq!(h.join_refused(first).0, GroupError::RebalanceInProgress);
    let other = ids.iter().find(|id| **id != h.leader()).unwrap().clone();
    h.join(join(&other));
    assert_eq!(h.joined(again).generation, 3);
}

#[test]
fn followers_wait_for_the_leaders_assignment_and_only_for_a_durable_one() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let tokens = [h.join(join(&h.leader())), h.join(join(&ids[0])), h.join(join(&ids[1]))];
    let leader = h.leader();
    let follower = ids.iter().find(|id| **id != leader).unwrap().clone();
    assert_eq!(h.state(), State::CompletingRebalance, "{tokens:?}");
    h.holds_appends = true;
    let early = h.send(sync(&follower, 3));
    let again = h.send(sync(&follower, 3));
    assert_eq!(
        h.synced(early),
        Err(GroupError::RebalanceInProgress),
        "a repeated sync replaces the parked one"
    );
    let nobodys = (MemberId::from("nobody"), number(9));
    let assignments = vec![(follower.clone(), number(7)), nobodys];
    let lead = h.send(SyncGroup { assignments, ..sync(&leader, 3) });
    assert_eq!((h.reply(again), h.reply(lead)), (None, None));
    assert_eq!(h.state(), State::CompletingRebalance);
    h.settle(Ok(()));
    assert_eq!(h.synced(again), Ok(number(7)));
    assert_eq!(h.synced(lead), Ok(Bytes::new()), "who is not assigned anything has an empty assignment");
    assert_eq!(h.state(), State::Stable);
}

#[test]
fn a_generation_has_one_assignment_even_if_the_leader_sends_two() {
    let mut h = Harness::new();
    let token = h.join(join(""));
    let id = h.joined(token).member;
    h.holds_appends = true;
    let with = |i| SyncGroup { assignments: vec![(id.clone(), number(i))], ..sync(&id, 1) };
    let (first, second) = (h.send(with(1)), h.send(with(2)));
    assert_eq!(h.held.len(), 1);
    h.settle(Ok(()));
    assert_eq!(h.synced(first), Err(GroupError::RebalanceInProgress));
    assert_eq!(h.synced(second), Ok(number(1)));
    let mut next = h.restarted();
    let token = next.send(sync(&id, 1));
    assert_eq!(next.synced(token), Ok(number(1)));
}

#[test]
fn an_assignment_that_cannot_be_written_starts_the_rebalance_again() {
    let check = |failure, expected| {
        let mut h = Harness::new();
        let token = h.join(join(""));
        let id = h.joined(token).member;
        h.holds_appends = true;
        let token = h.send(SyncGroup { assignments: vec![(id.clone(), number(1))], ..sync(&id, 1) });
        h.settle(Err(failure));
        assert_eq!(h.synced(token), Err(expected));
        assert_eq!(h.state(), State::PreparingRebalance);
        let token = h.join(join(&id));
        assert_eq!(h.joined(token).generation, 2);
    };
    check(AppendFailure::NotLeader, GroupError::NotCoordinator);
    check(AppendFailure::Storage, GroupError::NotCoordinator);
    check(AppendFailure::NotReplicated, GroupError::CoordinatorNotAvailable);
    check(AppendFailure::TooLarge, GroupError::GroupTooLarge);
}

#[test]
fn an_assignment_that_comes_back_after_the_next_rebalance_began_is_not_handed_out() {
    let mut h = Harness::new();
    let token = h.join(join(""));
    let id = h.joined(token).member;
    h.holds_appends = true;
    let synced = h.send(SyncGroup { assignments: vec![(id.clone(), number(1))], ..sync(&id, 1) });
    let newcomer = h.join(join(""));
    assert_eq!(h.synced(synced), Err(GroupError::RebalanceInProgress));
    h.settle(Ok(()));
    assert_eq!(h.state(), State::PreparingRebalance);
    let rejoined = h.join(join(&id));
    assert_eq!((h.joined(rejoined).generation, h.joined(newcomer).generation), (2, 2));
}

#[test]
fn a_leader_that_never_syncs_is_removed_after_the_rebalance_timeout() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let leader = h.leader();
    let follower = ids.iter().find(|id| **id != leader).unwrap().clone();
    for id in &ids {
        h.join(join(id));
    }
    assert_eq!(h.state(), State::CompletingRebalance);
    let waiting = h.send(sync(&follower, 3));
    for _ in 0..6 {
        h.advance(Duration::from_millis(9_999));
        assert_eq!(h.heartbeat(&leader, 3), Ok(()), "it lives, but does not do its work");
    }
    assert_eq!(h.reply(waiting), None);
    h.advance(Duration::from_millis(10));
    assert_eq!(h.synced(waiting), Err(GroupError::RebalanceInProgress));
    assert_eq!(h.heartbeat(&leader, 3), Err(GroupError::UnknownMemberId));
    let token = h.join(join(&follower));
    let joined = h.joined(token);
    assert_eq!((joined.generation, joined.leader), (4, follower));
}

#[test]
fn a_member_without_heartbeats_is_removed_and_the_others_rebalance() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    h.advance(secs(9));
    assert_eq!(h.heartbeat(&ids[0], 2), Ok(()));
    h.advance(secs(2));
    assert_eq!(h.heartbeat(&ids[0], 2), Err(GroupError::RebalanceInProgress));
    assert_eq!(h.heartbeat(&ids[1], 2), Err(GroupError::UnknownMemberId));
    let token = h.join(join(&ids[0]));
    assert_eq!(h.joined(token).members.len(), 1);
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    for i in 0..3 {
        h.advance(secs(9));
        assert_eq!(h.commit(commit(&id, 1, i)), Ok(()));
    }
    h.advance(secs(11));
    assert_eq!(h.commit(commit(&id, 1, 9)), Err(GroupError::UnknownMemberId));
}

#[test]
fn the_last_member_to_leave_empties_the_group_and_is_answered_once_that_is_durable() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    h.holds_appends = true;
    let members = vec![Leaving { member: id.clone(), instance: None }];
    let token = h.send(LeaveGroup { group: GROUP.into(), members });
    assert_eq!(h.reply(token), None);
    h.settle(Ok(()));
    assert!(matches!(h.now_answered(token), Response::Leave(Ok(_))));
    let described = h.describe().unwrap();
    assert_eq!(
        (described.state, &*described.protocol_type, &*described.protocol),
        (State::Empty, "consumer", "")
    );
    assert_eq!(h.generation(), 2);
}

#[test]
fn a_leave_whose_record_is_lost_is_refused_as_a_whole() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    h.holds_appends = true;
    let members = vec![Leaving { member: id, instance: None }];
    let token = h.send(LeaveGroup { group: GROUP.into(), members });
    h.settle(Err(AppendFailure::NotLeader));
    assert_eq!(h.now_answered(token), Response::Leave(Err(GroupError::NotCoordinator)));
}

#[test]
fn whoever_leaves_with_a_parked_request_is_told() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let parked = h.join(join(&ids[0]));
    assert_eq!(h.leave(&ids[0]), Ok(()));
    assert_eq!(h.join_refused(parked).0, GroupError::UnknownMemberId);
    let token = h.join(join(&ids[1]));
    assert_eq!(h.joined(token).members.len(), 1);

    let newcomer = h.join(join(""));
    let rejoined = h.join(join(&ids[1]));
    let (id, leader) = (h.joined(newcomer).member, h.joined(rejoined).leader);
    assert_eq!(leader, ids[1]);
    let parked = h.send(sync(&id, h.generation()));
    assert_eq!(h.leave(&id), Ok(()));
    assert_eq!(h.synced(parked), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_pending_member_can_leave() {
    let mut h = Harness::new();
    let token = h.join(v4(""));
    let (_, id) = h.join_refused(token);
    assert_eq!(h.leave(&id), Ok(()));
    let token = h.join(v4(&id));
    assert_eq!(h.join_refused(token).0, GroupError::UnknownMemberId);
}

#[test]
fn an_empty_group_takes_any_protocol_type() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    h.leave(&id).unwrap();
    let token = h.join(JoinGroup {
        protocol_type: "connect".into(),
        protocols: vec![protocol("default", b"")],
        ..join("")
    });
    assert_eq!(h.joined(token).generation, 3);
    assert_eq!(&*h.describe().unwrap().protocol_type, "connect");
}

#[test]
fn a_protocol_name_given_twice_counts_once() {
    let mut h = Harness::new();
    let twice =
        || JoinGroup { protocols: vec![protocol("range", b"a"), protocol("range", b"b")], ..join("") };
    let first = h.join(twice());
    let joined = h.joined(first);
    assert_eq!(joined.members[0].metadata, Bytes::from("a"));
    let second = h.join(twice());
    let rejoin = h.join(JoinGroup { member: joined.member, ..twice() });
    assert_eq!((h.joined(second).generation, h.joined(rejoin).generation), (2, 2));
}

#[test]
fn a_new_member_that_never_hears_its_join_is_dropped_after_five_minutes() {
    let mut h = Harness::new();
    h.stable_group(1);
    h.join(JoinGroup { rebalance_timeout_ms: 1_000_000, ..join("") });
    let id = h.leader();
    let forgotten = h.next_token;
    for _ in 0..33 {
        h.advance(secs(9));
        assert_eq!(h.heartbeat(&id, 1), Err(GroupError::RebalanceInProgress));
    }
    h.advance(secs(4));
    assert_eq!(h.join_refused(ReplyToken(forgotten)).0, GroupError::UnknownMemberId);
}
