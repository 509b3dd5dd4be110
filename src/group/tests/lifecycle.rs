//! Loading, restarting, moving away, listing, and the growth of the log.

use super::*;

fn listed(h: &mut Harness, states: &[&str], types: &[&str]) -> Result<Vec<String>, GroupError> {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    match h.ask(ListGroups { states: texts(states), types: texts(types) }) {
        Response::List(result) => result.map(|groups| {
            groups.iter().map(|g| format!("{} {} {}", g.group, g.protocol_type, g.state)).collect()
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_are_placed_as_kafka_places_them() {
    // From Java: the absolute value of `hashCode()`, modulo 50.
    let check = |group: &str, expected| assert_eq!(partition_for(group, 50), expected, "{group}");
    check("", 0);
    check("g1", 42);
    check("a", 47);
    check("polygenelubricants", 0); // its hash is the smallest integer, which has no absolute value
    check("ü", 2);
    check("𝄞", 44);
}

#[test]
fn while_loading_a_coordinator_asks_for_patience() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    h.commit(commit(&id, 1, 5)).unwrap();
    let mut next = Harness::unloaded(h.limits.clone());
    let partition = partition_for(GROUP, 50);
    let not_coordinator = GroupError::NotCoordinator;
    assert_eq!(next.commit(commit(&id, 1, 6)), Err(not_coordinator));
    assert_eq!(next.describe(), Err(not_coordinator));

    next.step(Event::PartitionOwned { partition });
    let loading = GroupError::CoordinatorLoadInProgress;
    let token = next.join(join(&id));
    assert_eq!(next.join_refused(token).0, loading);
    let token = next.send(sync(&id, 1));
    assert_eq!(next.synced(token), Err(loading));
    assert_eq!(next.commit(commit(&id, 1, 6)), Err(loading));
    assert_eq!(next.ask(fetch("t", 0)), Response::FetchOffsets(Err(loading)));
    assert_eq!(next.delete(), Err(loading));
    assert_eq!(next.describe(), Err(loading));
    assert_eq!(listed(&mut next, &[], &[]), Err(loading), "a part of the groups is not the list of them");
    assert_eq!(next.heartbeat(&id, 1), Ok(()), "a member keeps its coordinator");
    assert_eq!(next.snapshot_of(partition), None);

    let records = h.log.iter().map(|(_, record)| record.clone()).collect();
    next.step(Event::Replay { partition, records });
    next.step(Event::Loaded { partition });
    assert_eq!(next.offset(), 5);
    assert_eq!(next.commit(commit(&id, 1, 6)), Ok(()));
}

#[test]
fn assignments_and_members_survive_a_restart() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    h.commit(commit(&ids[0], 2, 5)).unwrap();
    let mut next = h.restarted();
    assert_eq!(next.describe(), h.describe());
    assert_eq!(next.offset(), 5);
    for (i, id) in ids.iter().enumerate() {
        let token = next.send(sync(id, 2));
        assert_eq!(next.synced(token), Ok(number(i)));
        assert_eq!(next.heartbeat(id, 2), Ok(()));
    }
    // Every member gets a session's time to show up.
    next.advance(secs(11));
    assert_eq!(next.state(), State::Empty);
}

#[test]
fn a_coordinator_that_resigns_answers_everybody() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let parked_join = h.join(join(&h.leader()));
    h.holds_appends = true;
    let commit_token = h.send(commit(&ids[0], 2, 7));
    let stable = h.send(FetchOffsets { require_stable: true, ..fetch("t", 0) });
    let partition = partition_for(GROUP, 50);
    h.step(Event::PartitionResigned { partition });
    assert_eq!(h.join_refused(parked_join).0, GroupError::NotCoordinator);
    assert_eq!(h.now_answered(stable), Response::FetchOffsets(Err(GroupError::NotCoordinator)));
    assert_eq!(h.heartbeat(&ids[0], 2), Err(GroupError::NotCoordinator));
    assert_eq!(h.reply(commit_token), None, "its fate is not known yet");

    // It comes back: the late answer of the log changes nothing that was loaded since.
    h.step(Event::PartitionOwned { partition });
    h.step(Event::Loaded { partition });
    h.settle(Err(AppendFailure::NotLeader));
    assert_eq!(h.now_answered(commit_token), Response::CommitOffsets(Err(GroupError::NotCoordinator)));
    assert_eq!(h.offset(), -1);
    assert_eq!(h.coordinator.timers.count(), 1, "only the sweep is left");
}

#[test]
fn a_resigned_sync_is_answered_once() {
    let mut h = Harness::new();
    let token = h.join(join(""));
    let id = h.joined(token).member;
    h.holds_appends = true;
    let token = h.send(SyncGroup { assignments: vec![(id.clone(), number(1))], ..sync(&id, 1) });
    h.step(Event::PartitionResigned { partition: partition_for(GROUP, 50) });
    assert_eq!(h.synced(token), Err(GroupError::NotCoordinator));
    h.settle(Ok(()));
}

#[test]
fn records_of_another_kind_are_passed_over() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 5)).unwrap();
    let key = records::tests::hex("0003 00026731");
    h.log.insert(0, (partition_for(GROUP, 50), GroupRecord { key, value: None }));
    let mut next = h.restarted();
    assert_eq!(next.skipped, [RecordError::UnknownKey { kind: 3 }]);
    assert_eq!(next.offset(), 5);
}

#[test]
fn stored_groups_that_contradict_themselves_are_taken_as_far_as_possible() {
    let member = |member: &str, instance: Option<&str>| MemberMetadata {
        member: member.into(),
        instance: instance.map(Into::into),
        client_id: "c".into(),
        client_host: "h".into(),
        rebalance_timeout_ms: -1,
        session_timeout_ms: -5,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let stored = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: i32::MAX,
        protocol: None,
        leader: Some("nobody".into()),
        state_timestamp: -1,
        members: vec![member("m", Some("i")), member("m", None), member("n", Some("i"))],
    };
    let record = records::group_record(GROUP, Some(records::group_value(&stored)));
    let mut h = Harness::unloaded(GroupLimits::default());
    h.load(vec![(partition_for(GROUP, 50), record)]);
    assert_eq!(h.group().classic.members().len(), 0, "a session of no length is over at once");
    assert_eq!(h.generation(), 1, "the counter starts over");
}

#[test]
fn lists_are_filtered_without_regard_to_case() {
    let mut h = Harness::new();
    h.stable_group(1);
    h.commit(CommitOffsets { group: "simple".into(), ..commit("", -1, 1) }).unwrap();
    let (stable, simple) = ("g consumer Stable".to_string(), "simple  Empty".to_string());
    let mut check = |states: &[&str], types: &[&str], expected: &[&String]| {
        let expected: Vec<String> = expected.iter().map(|text| (*text).clone()).collect();
        assert_eq!(listed(&mut h, states, types), Ok(expected), "{states:?} {types:?}");
    };
    check(&[], &[], &[&stable, &simple]);
    check(&["stable"], &[], &[&stable]);
    check(&["Stable", " EMPTY "], &["Classic"], &[&stable, &simple]);
    check(&["Dead"], &[], &[]);
    check(&[], &["consumer"], &[]);
    check(&["nonsense"], &["classic"], &[]);
}

#[test]
fn descriptions_show_metadata_only_when_stable() {
    let mut h = Harness::new();
    assert_eq!(h.describe(), Err(GroupError::GroupIdNotFound));
    let token = h.join(join(""));
    let id = h.joined(token).member;
    let described = h.describe().unwrap();
    assert_eq!((described.state, &*described.protocol), (State::CompletingRebalance, ""));
    assert_eq!((described.members.len(), described.members[0].metadata.len()), (1, 0));
    let token = h.send(SyncGroup { assignments: vec![(id.clone(), number(3))], ..sync(&id, 1) });
    h.synced(token).unwrap();
    let described = h.describe().unwrap();
    let member = DescribedMember {
        member: id,
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        metadata: subscription(&["t"]).into(),
        assignment: number(3),
    };
    assert_eq!((&*described.protocol, described.members), ("range", vec![member]));
}

impl Harness {
    fn snapshot_of(&self, partition: PartitionIndex) -> Option<Vec<GroupRecord>> {
        self.coordinator.snapshot_records(partition)
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let mut h = Harness::new();
    let id = h.stable_group(1).remove(0);
    for i in 0..100 {
        h.commit(commit(&id, 1, i)).unwrap();
    }
    h.commit(CommitOffsets { group: "simple".into(), ..commit("", -1, 1) }).unwrap();
    h.holds_appends = true;
    h.send(commit(&id, 1, 100));
    let snapshot: Vec<_> =
        (0..50).flat_map(|p| h.snapshot_of(p).unwrap().into_iter().map(move |record| (p, record))).collect();
    assert_eq!(snapshot.len(), 3, "one group record and two offsets");
    h.settle(Ok(()));
    let mut next = Harness::unloaded(h.limits.clone());
    next.load(snapshot);
    assert_eq!(next.offset(), 100, "what is on its way stands before the snapshot in the log");
    assert_eq!(next.describe(), h.describe());
    assert_eq!(listed(&mut next, &[], &[]), listed(&mut h, &[], &[]));
}

#[test]
fn a_log_is_rewritten_when_little_of_it_lives() {
    const MIB: u64 = 1 << 20;
    assert!(!should_snapshot(MIB - 1, 0));
    assert!(should_snapshot(MIB, MIB / 4));
    assert!(!should_snapshot(MIB, MIB / 4 + 1));
    assert!(should_snapshot(100 * MIB, 25 * MIB));

    // Commits of the same partition alone would grow the log for ever; with snapshots it stays bounded.
    let mut h = Harness::new();
    let partition = partition_for(GROUP, 50);
    let bytes =
        |record: &GroupRecord| (record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + 70) as u64;
    let (mut log_bytes, mut rewritten) = (0, 0);
    for i in 0..30_000 {
        h.commit(commit("", -1, i)).unwrap();
        log_bytes += h.log.drain(..).map(|(_, record)| bytes(&record)).sum::<u64>();
        if should_snapshot(log_bytes, h.coordinator.live_bytes(partition)) {
            log_bytes = h.snapshot_of(partition).unwrap().iter().map(bytes).sum();
            rewritten += 1;
        }
        assert!(log_bytes <= MIB + 200);
    }
    assert!(rewritten >= 2, "{rewritten}");
}

#[test]
fn groups_without_a_generation_leave_nothing_behind() {
    let mut h = Harness::new();
    let token = h.join(JoinGroup { requires_known_member: true, ..join("") });
    h.join_refused(token);
    assert_eq!(h.describe().unwrap().state, State::Empty);
    h.advance(secs(1300));
    assert_eq!((h.coordinator.group_count(), h.coordinator.timers.count(), h.log.len()), (0, 1, 0));
}
