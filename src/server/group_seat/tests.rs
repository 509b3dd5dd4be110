use super::*;
use crate::config::Config;
use crate::group::{CommitOffsets, CommitPartition, CommitTopic, Heartbeat};
use crate::limits::{Limits, Resources};
use crate::model::{ShardId, TopicId};
use crate::record::BatchView;

const NOW: Now = Now { monotonic: Monotonic(1_000), wall: 1_700_000_000_000 };

/// A seat that leads the only partition of the offsets topic.
fn seat() -> GroupSeat {
    let config = Config::default();
    let limits = Limits::new(&config, 1, Resources { memory_bytes: 1 << 30, open_files: 1024 });
    let mut seat = GroupSeat::new(&config, &limits, Some(1), 7);
    seat.begin_load(NOW, 0);
    seat.end_load(NOW, 0);
    seat
}

fn ask(seat: &mut GroupSeat, now: Now, ticket: Ticket, requests: Vec<Request>, encode: Encode) {
    seat.ask(now, ticket, requests, |_| true, encode);
}

fn ticket(slot: u32) -> Ticket {
    Ticket { shard: ShardId(0), slot, generation: 0 }
}

fn commit(group: &str, offset: i64, metadata: &str) -> Request {
    let partition = CommitPartition {
        partition: 0,
        offset,
        leader_epoch: LeaderEpoch(-1),
        metadata: Some(metadata.into()),
    };
    Request::CommitOffsets(CommitOffsets {
        group: group.into(),
        generation: -1,
        member: "".into(),
        instance: None,
        retention: None,
        expects_group_not_found: true,
        topics: vec![CommitTopic { topic: "t".into(), topic_id: TopicId::ZERO, partitions: vec![partition] }],
    })
}

/// A body that says which answers it was made of.
fn spell(responses: Vec<Response>) -> Bytes {
    let letter = |response: &Response| match response {
        Response::CommitOffsets(Ok(_)) => b'c',
        Response::Heartbeat(Err(GroupError::UnknownMemberId)) => b'u',
        Response::Describe(Ok(_)) => b'd',
        Response::Describe(Err(_)) => b'-',
        _ => b'?',
    };
    responses.iter().map(letter).collect()
}

fn heartbeat() -> Request {
    Request::Heartbeat(Heartbeat { group: "none".into(), generation: 1, member: "m".into(), instance: None })
}

#[test]
fn a_request_is_answered_once_all_its_questions_are_and_in_their_order() {
    let mut seat = seat();
    let describe = |group: &str| Request::Describe { group: group.into() };
    let questions = vec![commit("g", 5, ""), describe("h"), heartbeat()];
    ask(&mut seat, NOW, ticket(1), questions, Box::new(spell));
    ask(&mut seat, NOW, ticket(2), Vec::new(), Box::new(spell));
    assert_eq!(seat.take_answers(), [(ticket(2), Bytes::new())], "the commit is not durable yet");
    let appends = seat.take_appends(NOW);
    assert_eq!(appends.iter().map(|append| append.partition).collect::<Vec<_>>(), [0]);
    let batch = BatchView::parse(&appends[0].batch).expect("a whole batch");
    assert_eq!((batch.record_count(), batch.max_timestamp()), (1, NOW.wall));
    seat.appended(NOW, appends[0].ticket, Ok(0));
    assert_eq!(seat.take_answers(), [(ticket(1), Bytes::from_static(b"c-u"))]);
}

#[test]
fn a_commit_that_cannot_be_written_is_answered_too() {
    let mut seat = seat();
    ask(&mut seat, NOW, ticket(1), vec![commit("g", 5, "")], Box::new(spell));
    let append = seat.take_appends(NOW).pop().expect("a commit is written");
    seat.appended(NOW, append.ticket, Err(AppendFailure::Storage));
    assert_eq!(seat.take_answers(), [(ticket(1), Bytes::from_static(b"?"))]);
}

#[test]
fn a_commit_that_takes_too_long_is_answered_once() {
    let mut seat = seat();
    let timeout = Duration::from_millis(Config::default().offsets_commit_timeout_ms);
    let at = |after: Duration| Now { monotonic: NOW.monotonic + after, wall: NOW.wall };
    ask(&mut seat, NOW, ticket(1), vec![commit("g", 5, "")], Box::new(spell));
    let append = seat.take_appends(NOW).pop().expect("a commit is written");
    assert_eq!(seat.next_deadline(), Some(NOW.monotonic + timeout));
    seat.fire_timers(at(timeout - Duration::from_nanos(1)));
    assert_eq!(seat.take_answers(), []);
    seat.fire_timers(at(timeout));
    assert_eq!(seat.take_answers(), [(ticket(1), Bytes::from_static(b"?"))]);
    seat.appended(at(timeout), append.ticket, Ok(0));
    assert_eq!(seat.take_answers(), []);
    assert!(seat.next_deadline() > Some(NOW.monotonic + timeout), "the sweep of expired offsets is next");
}

/// Commits the same offset over and over, and gives every append the next offsets, as a log of one record a batch does.
/// Returns how many batches there were, and the log starts that came of them.
fn commit_much(seat: &mut GroupSeat, commits: i64) -> (i64, Vec<(PartitionIndex, LogStart)>) {
    let mut end_offset = 0;
    let mut starts = Vec::new();
    let metadata = "m".repeat(4000);
    for offset in 0..commits {
        ask(seat, NOW, ticket(1), vec![commit("g", offset, &metadata)], Box::new(spell));
        // The second call finds nothing to append, and may find a log to write anew.
        for _ in 0..2 {
            for append in seat.take_appends(NOW) {
                seat.appended(NOW, append.ticket, Ok(end_offset));
                end_offset += 1;
            }
        }
        starts.extend(seat.take_log_starts());
    }
    (end_offset, starts)
}

#[test]
fn a_long_log_is_written_anew_and_its_start_raised_to_that() {
    let mut seat = seat();
    let (batches, starts) = commit_much(&mut seat, 600);
    // 1 MiB is about 258 commits: after so many, one batch holds what is live.
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert_eq!(batches, 602);
    let [(0, LogStart::At(first)), (0, LogStart::At(second))] = starts.as_slice() else {
        panic!("a log start at a snapshot: {starts:?}")
    };
    assert!((250..270).contains(first) && (500..540).contains(second), "{starts:?}");
}

#[test]
fn a_rewrite_that_loses_a_batch_raises_nothing() {
    let mut rewrites = Rewrites::default();
    let check = |rewrites: &mut Rewrites, parts: &[Option<i64>], expected: &[(i32, LogStart)]| {
        rewrites.begin(0, parts.len());
        parts.iter().for_each(|part| rewrites.part_done(0, *part));
        assert_eq!(rewrites.take_log_starts(), expected, "{parts:?}");
    };
    rewrites.own(0);
    check(&mut rewrites, &[Some(7), Some(9)], &[(0, LogStart::At(7))]);
    check(&mut rewrites, &[Some(7), None, Some(9)], &[]);
    check(&mut rewrites, &[None, Some(9)], &[]);
    check(&mut rewrites, &[], &[(0, LogStart::Committed)]);
    rewrites.begin(0, 1);
    rewrites.resign(0);
    rewrites.own(0);
    rewrites.part_done(0, Some(3));
    assert_eq!(rewrites.take_log_starts(), [], "of a partition that was given up meanwhile");
}

#[test]
fn a_rewrite_is_cut_into_batches_at_their_size() {
    let check = |sizes: &[usize], expected: &[usize]| {
        let record =
            |size: &usize| GroupRecord { key: Bytes::new(), value: Some(Bytes::from(vec![0; *size])) };
        let records: Vec<_> = sizes.iter().map(record).collect();
        let lengths: Vec<_> = rewrite::batches(&records).iter().map(|batch| batch.len()).collect();
        assert_eq!(lengths, expected, "{sizes:?}");
    };
    check(&[], &[]);
    check(&[10], &[1]);
    check(&[200 << 10, 50 << 10, 100 << 10, 1], &[2, 2]);
    check(&[1 << 20, 1, 1 << 20], &[1, 1, 1]);
}

#[test]
fn a_shard_that_leads_nothing_is_no_coordinator() {
    let mut seat = seat();
    seat.resign(NOW, 0);
    let code = |responses: Vec<Response>| match responses.as_slice() {
        [Response::Heartbeat(Err(GroupError::NotCoordinator))] => Bytes::from_static(b"16"),
        _ => Bytes::new(),
    };
    ask(&mut seat, NOW, ticket(1), vec![heartbeat()], Box::new(code));
    assert_eq!(seat.take_answers(), [(ticket(1), Bytes::from_static(b"16"))]);
}
