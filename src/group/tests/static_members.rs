//! Members with a `group.instance.id`.

use super::*;

fn static_join(instance: &str) -> JoinGroup {
    JoinGroup { instance: Some(instance.into()), requires_known_member: true, ..join("") }
}

/// A Stable group of one static member.
fn static_group(h: &mut Harness) -> MemberId {
    let token = h.join(static_join("i"));
    let id = h.joined(token).member;
    let assignments = vec![(id.clone(), number(4))];
    let token = h.send(SyncGroup { assignments, instance: Some("i".into()), ..sync(&id, 1) });
    assert_eq!(h.synced(token), Ok(number(4)));
    id
}

#[test]
fn a_static_member_joins_without_the_detour() {
    let mut h = Harness::new();
    let token = h.join(static_join("inst"));
    assert_eq!(&*h.joined(token).member, "inst-00000000-0000-4001-8000-000000000002");
}

#[test]
fn a_static_member_that_comes_back_keeps_its_place_without_a_rebalance() {
    for can_skip_assignment in [false, true] {
        let mut h = Harness::new();
        let old = static_group(&mut h);
        h.holds_appends = true;
        let token = h.join(JoinGroup { can_skip_assignment, ..static_join("i") });
        assert_eq!(h.reply(token), None, "the new id is answered once it is durable");
        h.settle(Ok(()));
        let joined = h.joined(token);
        assert_eq!((joined.generation, h.state()), (1, State::Stable));
        assert_ne!(joined.member, old);
        assert_eq!(
            (joined.skip_assignment, joined.members.len()),
            (can_skip_assignment, can_skip_assignment.into())
        );
        // A client that cannot skip the assignment must not think that it leads.
        assert_eq!(joined.leader, if can_skip_assignment { joined.member.clone() } else { old.clone() });

        let token = h.send(sync(&joined.member, 1));
        assert_eq!(h.synced(token), Ok(number(4)));
        assert_eq!(h.heartbeat(&joined.member, 1), Ok(()));
    }
}

#[test]
fn the_former_holder_of_an_instance_id_is_fenced() {
    let mut h = Harness::new();
    let old = static_group(&mut h);
    let token = h.join(static_join("i"));
    let new = h.joined(token).member;
    let instance = Some(InstanceId::from("i"));
    let beat = |member: &MemberId| Heartbeat {
        group: GROUP.into(),
        generation: 1,
        member: member.clone(),
        instance: instance.clone(),
    };
    let fenced = GroupError::FencedInstanceId;
    assert_eq!(h.ask(beat(&old)), Response::Heartbeat(Err(fenced)));
    assert_eq!(h.ask(beat(&new)), Response::Heartbeat(Ok(())));
    let token = h.send(SyncGroup { instance: instance.clone(), ..sync(&old, 1) });
    assert_eq!(h.synced(token), Err(fenced));
    let token = h.join(JoinGroup { member: old.clone(), ..static_join("i") });
    assert_eq!(h.join_refused(token), (fenced, old.to_string()));
    assert_eq!(h.commit(CommitOffsets { instance: instance.clone(), ..commit(&old, 1, 1) }), Err(fenced));
    assert_eq!(h.commit(CommitOffsets { instance: instance.clone(), ..commit(&new, 1, 1) }), Ok(()));
    let members = vec![Leaving { member: old, instance }];
    let Response::Leave(Ok(left)) = h.ask(LeaveGroup { group: GROUP.into(), members }) else { panic!() };
    assert_eq!(left[0].result, Err(fenced));
}

#[test]
fn parked_requests_of_the_former_holder_are_fenced() {
    let mut h = Harness::new();
    let old = static_group(&mut h);
    let newcomer = h.join(join(""));
    let parked = h.join(JoinGroup { member: old.clone(), ..static_join("i") });
    let rejoined = (h.joined(parked), h.joined(newcomer));
    assert_eq!((rejoined.0.generation, h.state()), (2, State::CompletingRebalance));
    h.holds_appends = true;
    let parked = h.send(SyncGroup { instance: Some("i".into()), ..sync(&old, 2) });
    // In CompletingRebalance the leader may be assigning to the old id: a new rebalance.
    let token = h.join(static_join("i"));
    assert_eq!(h.synced(parked), Err(GroupError::FencedInstanceId));
    assert_eq!((h.state(), h.reply(token)), (State::PreparingRebalance, None));
    let again = h.join(static_join("i"));
    assert_eq!(h.join_refused(token).0, GroupError::FencedInstanceId);
    assert_eq!(h.reply(again), None);
}

#[test]
fn a_static_member_that_changes_the_protocol_starts_a_rebalance() {
    let mut h = Harness::new();
    let ranges = || vec![protocol("range", b""), protocol("sticky", b"")];
    let token = h.join(JoinGroup { protocols: ranges(), ..static_join("i") });
    let id = h.joined(token).member;
    let token = h.send(sync(&id, 1));
    h.synced(token).unwrap();
    let mut protocols = ranges();
    protocols.reverse();
    let token = h.join(JoinGroup { protocols, ..static_join("i") });
    let joined = h.joined(token);
    assert_eq!((joined.generation, joined.protocol.as_deref()), (2, Some("sticky")));
}

#[test]
fn a_replacement_that_cannot_be_written_puts_the_former_id_back() {
    let mut h = Harness::new();
    let old = static_group(&mut h);
    h.holds_appends = true;
    let token = h.join(JoinGroup { session_timeout_ms: 20_000, ..static_join("i") });
    h.settle(Err(AppendFailure::Storage));
    assert_eq!(h.join_refused(token).0, GroupError::NotCoordinator);
    assert_eq!(h.heartbeat(&old, 1), Ok(()));
    assert_eq!(h.group().classic.members()[&old].session_timeout, secs(10));
}

#[test]
fn a_replacement_overtaken_by_a_rebalance_is_answered_by_it() {
    let mut h = Harness::new();
    static_group(&mut h);
    h.holds_appends = true;
    let token = h.join(static_join("i"));
    let newcomer = h.join(join(""));
    assert_eq!((h.joined(token).generation, h.joined(newcomer).generation), (2, 2));
    h.settle(Ok(()));
    assert_eq!(h.state(), State::CompletingRebalance);
}

#[test]
fn a_static_member_stays_while_it_is_silent_for_less_than_its_session() {
    let mut h = Harness::new();
    let id = static_group(&mut h);
    h.advance(Duration::from_millis(9_999));
    let token = h.join(static_join("i"));
    assert_eq!(h.joined(token).generation, 1);
    h.advance(Duration::from_millis(10_001));
    assert_eq!(h.state(), State::Empty);
    let token = h.join(JoinGroup { member: id, ..static_join("i") });
    assert_eq!(h.join_refused(token).0, GroupError::UnknownMemberId);
}

#[test]
fn a_static_member_is_not_dropped_for_a_late_join() {
    let mut h = Harness::new();
    let id = static_group(&mut h);
    let request = JoinGroup { session_timeout_ms: 120_000, ..static_join("i") };
    let token = h.join(request);
    let id = Some(h.joined(token).member).filter(|new| *new != id).unwrap();
    let newcomer = h.join(join(""));
    h.advance(secs(61));
    let joined = h.joined(newcomer);
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
    assert_eq!(joined.leader, joined.member, "a leader that has not joined is replaced");
    // It then has to sync in time.
    assert_eq!(h.heartbeat(&id, 2), Ok(()));
    let sync = h.send(sync(&joined.member, 2));
    h.synced(sync).unwrap();
    for _ in 0..7 {
        h.advance(secs(9));
        let _ = h.heartbeat(&joined.member, 2);
    }
    assert_eq!(h.heartbeat(&id, 2), Err(GroupError::UnknownMemberId));
    assert_eq!(h.state(), State::PreparingRebalance);
}

#[test]
fn a_group_whose_static_members_all_stay_away_waits_for_their_sessions_without_spinning() {
    let mut h = Harness::new();
    let token = h.join(JoinGroup { rebalance_timeout_ms: 0, ..static_join("i") });
    let id = h.joined(token).member;
    // The dynamic member that caused the rebalance leaves again.
    let newcomer = h.join(JoinGroup { rebalance_timeout_ms: 0, ..join("") });
    assert_eq!(h.state(), State::CompletingRebalance, "with a timeout of zero nobody is waited for");
    let other = h.joined(newcomer).member;
    let token = h.join(JoinGroup {
        rebalance_timeout_ms: 0,
        protocols: vec![protocol("range", b"x")],
        ..join(&other)
    });
    h.joined(token);
    h.leave(&other).unwrap();
    assert_eq!(h.state(), State::PreparingRebalance);
    assert!(h.coordinator.next_deadline().unwrap() > h.now);
    h.advance(secs(11));
    assert_eq!(h.state(), State::Empty, "the session of {id} is over");
}

#[test]
fn an_administrator_removes_static_members_by_instance_in_one_batch() {
    let mut h = Harness::new();
    static_group(&mut h);
    let by_instance = |instance: &str| Leaving { member: "".into(), instance: Some(instance.into()) };
    let nobody = Leaving { member: "".into(), instance: None };
    let members = vec![by_instance("i"), by_instance("unknown"), nobody];
    let Response::Leave(Ok(left)) = h.ask(LeaveGroup { group: GROUP.into(), members }) else { panic!() };
    let results: Vec<_> = left.iter().map(|left| left.result).collect();
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!(results, [Ok(()), unknown, unknown]);
    assert_eq!(h.state(), State::Empty);
}

#[test]
fn a_pending_id_cannot_turn_static() {
    let mut h = Harness::new();
    let token = h.join(JoinGroup { requires_known_member: true, ..join("") });
    let (_, id) = h.join_refused(token);
    let token = h.join(JoinGroup { member: id.as_str().into(), ..static_join("i") });
    assert_eq!(h.join_refused(token).0, GroupError::UnknownMemberId);
}
