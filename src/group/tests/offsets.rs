//! Commits, fetches, deletions and retention.

use super::*;

const DAY: Duration = secs(24 * 60 * 60);

fn fetch_all() -> FetchOffsets {
    FetchOffsets { topics: None, ..fetch("t", 0) }
}

fn delete_offsets(topic: &str) -> DeleteOffsets {
    DeleteOffsets { group: GROUP.into(), topics: vec![(topic.into(), vec![0, 1])] }
}

fn commit_to(topic: &str, partition: PartitionIndex, offset: i64) -> CommitOffsets {
    let mut request = commit("", -1, offset);
    request.topics[0].topic = topic.into();
    request.topics[0].partitions[0].partition = partition;
    request
}

#[test]
fn consumers_without_a_group_commit_only_while_it_is_empty_or_unknown() {
    let mut h = Harness::new();
    assert_eq!(h.commit(commit("", -1, 5)), Ok(()));
    assert_eq!(h.commit(commit("", -1, 6)), Ok(()));
    assert_eq!(h.offset(), 6);
    let described = h.describe().unwrap();
    assert_eq!((described.state, &*described.protocol_type), (State::Empty, ""));
    let id = h.stable_group(1).remove(0);
    assert_eq!(h.commit(commit("", -1, 7)), Err(GroupError::UnknownMemberId));
    assert_eq!(h.commit(commit(&id, -1, 7)), Err(GroupError::IllegalGeneration));
    h.leave(&id).unwrap();
    assert_eq!(h.commit(commit("", -1, 8)), Ok(()));
    assert_eq!(h.commit(commit("nobody", -1, 9)), Ok(()), "a generation below zero names nobody");
    assert_eq!(h.offset(), 9);
}

#[test]
fn an_offset_commit_from_an_old_generation_is_refused() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    assert_eq!(h.commit(commit(&ids[0], 2, 10)), Ok(()));
    assert_eq!(h.commit(commit(&ids[0], 1, 5)), Err(GroupError::IllegalGeneration));
    assert_eq!(h.commit(commit(&ids[0], 3, 11)), Err(GroupError::IllegalGeneration));
    assert_eq!(h.commit(commit("nobody", 1, 5)), Err(GroupError::UnknownMemberId));
    assert_eq!(h.offset(), 10);
}

#[test]
fn a_commit_of_a_generation_to_no_group_depends_on_the_version() {
    let mut h = Harness::new();
    assert_eq!(h.commit(commit("", 3, 6)), Err(GroupError::IllegalGeneration));
    let newer = CommitOffsets { expects_group_not_found: true, ..commit("", 3, 6) };
    assert_eq!(h.commit(newer), Err(GroupError::GroupIdNotFound));
    assert_eq!(h.coordinator.group_count(), 0);
    h.commit(commit("", -1, 6)).unwrap();
    assert_eq!(h.commit(commit("", 3, 7)), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_commit_while_preparing_is_accepted_and_while_completing_it_is_not() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let tokens = [h.join(join(&h.leader()))];
    assert_eq!(h.state(), State::PreparingRebalance);
    assert_eq!(h.commit(commit(&ids[1], 2, 21)), Ok(()));
    for id in &ids {
        h.join(join(id));
    }
    assert_eq!(h.state(), State::CompletingRebalance, "{tokens:?}");
    assert_eq!(h.commit(commit(&ids[1], 2, 22)), Err(GroupError::IllegalGeneration));
    assert_eq!(h.commit(commit(&ids[1], 3, 22)), Err(GroupError::RebalanceInProgress));
    assert_eq!(h.offset(), 21);
}

#[test]
fn a_commit_shows_once_it_is_durable() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 1)).unwrap();
    h.holds_appends = true;
    let token = h.send(commit("", -1, 2));
    assert_eq!((h.reply(token), h.offset()), (None, 1));
    let stable = h.send(FetchOffsets { require_stable: true, ..fetch("t", 0) });
    assert_eq!(h.reply(stable), None, "a stable fetch waits for what is on its way");
    h.settle(Ok(()));
    assert!(matches!(h.now_answered(token), Response::CommitOffsets(Ok(_))));
    let Response::FetchOffsets(Ok(topics)) = h.now_answered(stable) else { panic!() };
    assert_eq!((topics[0].partitions[0].offset, h.offset()), (2, 2));
    h.holds_appends = false;
    let stable = FetchOffsets { require_stable: true, ..fetch("t", 0) };
    assert!(matches!(h.ask(stable), Response::FetchOffsets(Ok(_))));
}

#[test]
fn a_commit_that_cannot_be_written_changes_nothing() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 1)).unwrap();
    h.holds_appends = true;
    let token = h.send(commit("", -1, 2));
    let stable = h.send(FetchOffsets { require_stable: true, ..fetch("t", 0) });
    h.settle(Err(AppendFailure::NotReplicated));
    assert_eq!(h.now_answered(token), Response::CommitOffsets(Err(GroupError::CoordinatorNotAvailable)));
    let Response::FetchOffsets(Ok(topics)) = h.now_answered(stable) else { panic!() };
    assert_eq!((topics[0].partitions[0].offset, h.offset()), (1, 1));
}

#[test]
fn metadata_that_is_too_long_fails_its_partition_alone() {
    let mut h = Harness::new();
    let partition = |partition, metadata: &str| CommitPartition {
        partition,
        offset: 5,
        leader_epoch: LeaderEpoch(-1),
        metadata: Some(metadata.into()),
    };
    let mut request = commit("", -1, 0);
    request.topics[0].partitions = vec![partition(0, &"x".repeat(4097)), partition(1, &"x".repeat(4096))];
    let Response::CommitOffsets(Ok(topics)) = h.ask(request.clone()) else { panic!() };
    assert_eq!(topics[0].partitions, [(0, Err(GroupError::OffsetMetadataTooLarge)), (1, Ok(()))]);
    request.topics[0].partitions.truncate(1);
    let before = h.log.len();
    assert!(matches!(h.ask(request), Response::CommitOffsets(Ok(_))), "nothing to write is answered at once");
    assert_eq!((h.log.len(), h.offset()), (before, -1));
}

#[test]
fn fetches_name_what_they_have_and_never_fail_for_what_they_have_not() {
    let mut h = Harness::new();
    let none = FetchedOffset { partition: 9, offset: -1, leader_epoch: LeaderEpoch(-1), metadata: "".into() };
    let unknown =
        Response::FetchOffsets(Ok(vec![FetchedTopic { topic: "t".into(), partitions: vec![none] }]));
    assert_eq!(h.ask(fetch("t", 9)), unknown, "of a group that does not exist");
    assert_eq!(h.ask(fetch_all()), Response::FetchOffsets(Ok(vec![])));

    h.commit(commit_to("t", 0, 9)).unwrap();
    h.commit(commit_to("u", 1, -1)).unwrap();
    assert_eq!(h.ask(fetch("t", 9)), unknown);
    let offset = |partition, offset| FetchedOffset {
        partition,
        offset,
        leader_epoch: LeaderEpoch(3),
        metadata: "".into(),
    };
    let all = vec![
        FetchedTopic { topic: "t".into(), partitions: vec![offset(0, 9)] },
        FetchedTopic { topic: "u".into(), partitions: vec![offset(1, -1)] },
    ];
    assert_eq!(h.ask(fetch_all()), Response::FetchOffsets(Ok(all)));
    assert_eq!(
        h.ask(FetchOffsets { topics: Some(vec![]), ..fetch_all() }),
        Response::FetchOffsets(Ok(vec![])),
        "an empty list is nothing, not all"
    );
}

#[test]
fn the_empty_group_id_still_commits_and_fetches() {
    let mut h = Harness::new();
    assert_eq!(h.commit(CommitOffsets { group: "".into(), ..commit("", -1, 6) }), Ok(()));
    let Response::FetchOffsets(Ok(topics)) = h.ask(FetchOffsets { group: "".into(), ..fetch("t", 0) }) else {
        panic!()
    };
    assert_eq!(topics[0].partitions[0].offset, 6);
    assert!(matches!(h.ask(Request::Describe { group: "".into() }), Response::Describe(Ok(_))));
    assert_eq!(h.ask(Request::Delete { group: "".into() }), Response::Delete(Ok(())));
    let delete = DeleteOffsets { group: "".into(), ..delete_offsets("t") };
    assert_eq!(h.ask(delete), Response::DeleteOffsets(Err(GroupError::InvalidGroupId)));
}

#[test]
fn offsets_of_a_former_topic_of_the_same_name_are_not_shown() {
    let mut h = Harness::new();
    let (old, new) = (crate::model::Uuid([1; 16]), crate::model::Uuid([2; 16]));
    let mut request = commit("", -1, 5);
    request.topics[0].topic_id = old;
    h.commit(request).unwrap();
    let mut offset_with = |topic_id| {
        let mut request = fetch("t", 0);
        request.topics.as_mut().unwrap()[0].topic_id = topic_id;
        let Response::FetchOffsets(Ok(topics)) = h.ask(request) else { panic!() };
        topics[0].partitions[0].offset
    };
    assert_eq!((offset_with(old), offset_with(TopicId::ZERO), offset_with(new)), (5, 5, -1));
}

#[test]
fn offsets_of_a_subscribed_group_expire_seven_days_after_it_became_empty() {
    let mut h = Harness::new();
    let token = h.join(JoinGroup { session_timeout_ms: 30 * 60 * 1000, ..join("") });
    let id = h.joined(token).member;
    let token = h.send(sync(&id, 1));
    h.synced(token).unwrap();
    h.commit(commit(&id, 1, 5)).unwrap();
    for _ in 0..8 * 24 * 3 {
        // A living group keeps the offsets of what it reads, however old.
        h.advance(secs(20 * 60));
        assert_eq!(h.heartbeat(&id, 1), Ok(()));
    }
    assert_eq!(h.offset(), 5);
    h.leave(&id).unwrap();
    h.advance(DAY * 7 - secs(700));
    assert_eq!(h.offset(), 5);
    h.advance(secs(700 + 600));
    assert_eq!(h.offset(), -1);
    assert_eq!(h.describe(), Err(GroupError::GroupIdNotFound), "an empty group goes with its last offset");
}

#[test]
fn a_living_group_loses_old_offsets_of_topics_it_has_left() {
    let mut h = Harness::with(|limits| limits.offsets_retention = secs(60));
    h.commit(commit_to("former", 0, 5)).unwrap();
    let id = h.stable_group(1).remove(0);
    h.commit(commit(&id, 1, 6)).unwrap();
    for _ in 0..80 {
        h.advance(secs(9));
        assert_eq!(h.heartbeat(&id, 1), Ok(()));
    }
    assert_eq!(h.offset(), 6);
    let Response::FetchOffsets(Ok(topics)) = h.ask(fetch("former", 0)) else { panic!() };
    assert_eq!(topics[0].partitions[0].offset, -1);
}

#[test]
fn offsets_of_simple_consumers_expire_seven_days_after_the_commit() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 5)).unwrap();
    h.advance(DAY * 4);
    h.commit(commit_to("u", 0, 6)).unwrap();
    h.advance(DAY * 3 + secs(600));
    assert_eq!(h.offset(), -1);
    let Response::FetchOffsets(Ok(topics)) = h.ask(fetch_all()) else { panic!() };
    assert_eq!(topics.len(), 1);
    h.advance(DAY * 4);
    assert_eq!(h.coordinator.group_count(), 0);
    assert_eq!(h.restarted().coordinator.group_count(), 0, "what expired stays gone");
}

#[test]
fn a_commit_may_bring_its_own_retention() {
    let mut h = Harness::new();
    h.commit(CommitOffsets { retention: Some(secs(3600)), ..commit("", -1, 5) }).unwrap();
    h.advance(secs(3599));
    assert_eq!(h.offset(), 5);
    h.advance(secs(601));
    assert_eq!(h.offset(), -1);
}

#[test]
fn a_sweep_takes_many_groups_in_turns() {
    let mut h = Harness::new();
    for i in 0..3000 {
        let group: GroupId = format!("group-{i}").into();
        h.commit(CommitOffsets { group: group.clone(), ..commit("", -1, 5) }).unwrap();
        h.commit(CommitOffsets { group, ..commit_to("u", 1, 5) }).unwrap();
    }
    h.set_now(h.now + DAY * 8);
    h.step(Event::Timer);
    let after_one_step = h.coordinator.group_count();
    assert!((1..3000).contains(&after_one_step), "{after_one_step} groups are left");
    h.advance(secs(1));
    assert_eq!(h.coordinator.group_count(), 0);
}

#[test]
fn a_group_whose_last_tombstone_may_be_lost_waits_for_the_next_sweep() {
    let mut h = Harness::with(|limits| limits.offsets_partition_count = 1);
    h.commit(commit("", -1, 5)).unwrap();
    h.holds_appends = true;
    h.send(delete_offsets("t"));
    h.advance(DAY * 8);
    h.settle(Err(AppendFailure::Storage));
    assert_eq!(h.offset(), 5);
    h.holds_appends = false;
    h.advance(secs(600));
    assert_eq!((h.coordinator.group_count(), h.restarted().coordinator.group_count()), (0, 0));
}

#[test]
fn a_deletion_does_not_rely_on_one_that_may_be_lost() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 5)).unwrap();
    h.holds_appends = true;
    h.send(delete_offsets("t"));
    let again = h.send(delete_offsets("t"));
    h.settle(Err(AppendFailure::Storage));
    h.settle(Ok(()));
    assert!(matches!(h.now_answered(again), Response::DeleteOffsets(Ok(_))));
    assert_eq!((h.offset(), h.restarted().offset()), (-1, -1));
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut h = Harness::new();
    assert_eq!(h.delete(), Err(GroupError::GroupIdNotFound));
    let id = h.stable_group(1).remove(0);
    h.commit(commit(&id, 1, 5)).unwrap();
    assert_eq!(h.delete(), Err(GroupError::NonEmptyGroup));
    h.leave(&id).unwrap();
    assert_eq!(h.delete(), Ok(()));
    assert_eq!((h.describe(), h.offset()), (Err(GroupError::GroupIdNotFound), -1));
    let mut h = h.restarted();
    assert_eq!((h.describe(), h.offset()), (Err(GroupError::GroupIdNotFound), -1));
}

#[test]
fn a_group_on_its_way_out_takes_no_requests() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 5)).unwrap();
    h.holds_appends = true;
    let late = h.send(commit("", -1, 6));
    let deletion = h.send(Request::Delete { group: GROUP.into() });
    assert_eq!(h.commit(commit("", -1, 7)), Err(GroupError::CoordinatorNotAvailable));
    let token = h.join(join(""));
    assert_eq!(h.join_refused(token).0, GroupError::CoordinatorNotAvailable);
    let stable = h.send(FetchOffsets { require_stable: true, ..fetch("t", 0) });
    assert_eq!(h.offset(), 5);
    h.settle(Ok(()));
    assert!(matches!(h.now_answered(late), Response::CommitOffsets(Ok(_))));
    h.settle(Ok(()));
    assert_eq!(h.now_answered(deletion), Response::Delete(Ok(())));
    let Response::FetchOffsets(Ok(topics)) = h.now_answered(stable) else { panic!() };
    assert_eq!(topics[0].partitions[0].offset, -1);
    assert_eq!(h.restarted().coordinator.group_count(), 0, "the commit on its way is deleted too");
}

#[test]
fn a_deletion_that_cannot_be_written_leaves_the_group() {
    let mut h = Harness::new();
    h.commit(commit("", -1, 5)).unwrap();
    h.holds_appends = true;
    let deletion = h.send(Request::Delete { group: GROUP.into() });
    h.settle(Err(AppendFailure::Storage));
    assert_eq!(h.now_answered(deletion), Response::Delete(Err(GroupError::NotCoordinator)));
    h.holds_appends = false;
    assert_eq!(h.offset(), 5);
    assert_eq!(h.commit(commit("", -1, 6)), Ok(()));
}

#[test]
fn offsets_of_subscribed_topics_cannot_be_deleted() {
    let mut h = Harness::new();
    let results = |response| match response {
        Response::DeleteOffsets(result) => {
            result.map(|topics| topics[0].partitions.iter().map(|(_, result)| *result).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(results(h.ask(delete_offsets("t"))), Err(GroupError::GroupIdNotFound));
    h.commit(commit_to("former", 0, 4)).unwrap();
    let id = h.stable_group(1).remove(0);
    h.commit(commit(&id, 1, 5)).unwrap();
    let subscribed = Err(GroupError::GroupSubscribedToTopic);
    assert_eq!(results(h.ask(delete_offsets("t"))), Ok(vec![subscribed, subscribed]));
    assert_eq!(results(h.ask(delete_offsets("former"))), Ok(vec![Ok(()), Ok(())]));
    h.leave(&id).unwrap();
    assert_eq!(results(h.ask(delete_offsets("t"))), Ok(vec![Ok(()), Ok(())]));
    let Response::FetchOffsets(Ok(topics)) = h.ask(fetch_all()) else { panic!() };
    assert_eq!(topics, []);

    // What the coordinator cannot read may be anything.
    let token = h.join(JoinGroup { protocols: vec![protocol("range", b"\x00")], ..join("") });
    h.joined(token);
    assert_eq!(results(h.ask(delete_offsets("any"))), Ok(vec![subscribed, subscribed]));

    let mut h = Harness::new();
    let connect = JoinGroup { protocol_type: "connect".into(), ..join("") };
    let token = h.join(connect);
    h.joined(token);
    assert_eq!(results(h.ask(delete_offsets("t"))), Err(GroupError::NonEmptyGroup));
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut h = Harness::new();
    h.commit(commit_to("t", 0, 5)).unwrap();
    h.commit(commit_to("t", 7, 5)).unwrap();
    h.commit(commit_to("u", 0, 6)).unwrap();
    h.holds_appends = true;
    let pending = h.send(commit_to("t", 8, 7));
    h.step(Event::TopicDeleted { topic: "t".into() });
    h.settle(Ok(()));
    h.settle(Ok(()));
    assert!(h.reply(pending).is_some() && h.held.is_empty());
    for mut h in [h.restarted(), h] {
        let Response::FetchOffsets(Ok(topics)) = h.ask(fetch_all()) else { panic!() };
        assert_eq!(topics.iter().map(|t| &*t.topic).collect::<Vec<_>>(), ["u"]);
    }
}
