//! Each anomaly, planted into a history that is clean without it.

use super::*;
use crate::{Event, HistoryError};

/// Ten sends of one ordered, idempotent producer to one partition, each acknowledged before the next, all read once.
fn clean() -> Vec<Event> {
    let mut events =
        vec![Event::Producer { producer: "p".into(), idempotent: true, ordered: true }, assigned("c")];
    for n in 0..10 {
        events.push(invoked("p", n, n * 10));
        events.push(acked("p", n, n as i64, n * 10 + 5));
    }
    events.extend((0..10).map(|n| read("c", n as i64, &value("p", n))));
    events.push(Event::ReadAll { consumer: "c".into(), topic: "t".into(), partition: 0, start: 0 });
    events
}

fn value(producer: &str, sequence: u64) -> String {
    format!("{producer}:{sequence}")
}

fn assigned(consumer: &str) -> Event {
    Event::Assigned { consumer: consumer.into(), at_ns: 0 }
}

fn invoked(producer: &str, sequence: u64, at_ns: u64) -> Event {
    let value = value(producer, sequence);
    Event::Invoked { producer: producer.into(), sequence, topic: "t".into(), partition: 0, value, at_ns }
}

fn acked(producer: &str, sequence: u64, offset: i64, at_ns: u64) -> Event {
    Event::Acked { producer: producer.into(), sequence, offset: Some(offset), at_ns }
}

fn read(consumer: &str, offset: i64, value: &str) -> Event {
    Event::Read {
        consumer: consumer.into(),
        topic: "t".into(),
        partition: 0,
        offset,
        value: value.into(),
        at_ns: 0,
    }
}

fn is_read_of(event: &Event, wanted: i64) -> bool {
    matches!(event, Event::Read { offset, .. } if *offset == wanted)
}

#[track_caller]
fn kinds(events: Vec<Event>, expected: &[Kind]) -> Report {
    let report = super::check(&History::from_events(events).unwrap());
    let mut found: Vec<Kind> = report.anomalies.iter().map(|a| a.kind).collect();
    found.dedup();
    assert_eq!(found, expected, "{:#?}", report.anomalies);
    report
}

#[test]
fn a_clean_history_has_no_anomaly() {
    let report = kinds(clean(), &[]);
    assert_eq!((report.sends, report.acked, report.reads, report.unseen), (10, 10, 10, 0));
}

#[test]
fn an_acknowledged_record_that_is_not_read_is_lost() {
    let mut events = clean();
    events.retain(|e| !is_read_of(e, 4));
    // The consumer jumped over a place that an acknowledgement had named.
    kinds(events, &[Kind::LostWrite, Kind::PollSkip]);
}

#[test]
fn a_record_that_was_read_before_a_fault_and_not_after_it_is_lost() {
    let mut events = clean();
    events.push(Event::ReadAll { consumer: "final".into(), topic: "t".into(), partition: 0, start: 0 });
    events.extend((0..9).map(|n| read("final", n, &value("p", n as u64))));
    let report = kinds(events.clone(), &[Kind::LostWrite]);
    assert_eq!(report.anomalies[0].offset, Some(9));
    events.push(read("final", 9, "p:9"));
    kinds(events, &[]);
}

#[test]
fn an_unacknowledged_record_that_was_read_stays() {
    let mut events = clean();
    events.extend([invoked("p", 10, 200), read("early", 10, "p:10")]);
    kinds(events.clone(), &[Kind::LostWrite]);
    events.push(read("c", 10, "p:10"));
    kinds(events, &[]);
}

#[test]
fn an_acknowledged_record_beyond_the_end_of_the_log_is_lost() {
    let mut events = clean();
    events.retain(|e| !is_read_of(e, 9));
    kinds(events, &[Kind::LostWrite]);
}

#[test]
fn an_acknowledged_record_that_nobody_could_have_read_is_only_unseen() {
    let mut events = clean();
    events.retain(|e| !is_read_of(e, 9));
    events.pop();
    assert_eq!(kinds(events, &[]).unseen, 1);
}

#[test]
fn a_record_below_the_log_start_is_not_lost() {
    let mut events = clean();
    events.retain(|e| !is_read_of(e, 0) && !is_read_of(e, 1));
    events.pop();
    events.push(Event::ReadAll { consumer: "c".into(), topic: "t".into(), partition: 0, start: 2 });
    kinds(events, &[]);
}

#[test]
fn an_acknowledgement_without_an_offset_must_be_read_somewhere() {
    let mut events = clean();
    events.insert(events.len() - 1, invoked("p", 10, 200));
    events.insert(
        events.len() - 1,
        Event::Acked { producer: "p".into(), sequence: 10, offset: None, at_ns: 210 },
    );
    kinds(events.clone(), &[Kind::LostWrite]);
    events.push(read("c", 10, "p:10"));
    kinds(events, &[]);
}

#[test]
fn one_value_at_two_offsets_is_a_duplicate_with_idempotence_only() {
    let mut events = clean();
    events.push(read("c", 10, "p:9"));
    kinds(events.clone(), &[Kind::Duplicate]);
    events[0] = Event::Producer { producer: "p".into(), idempotent: false, ordered: true };
    assert_eq!(kinds(events, &[]).duplicates_allowed, 1);
}

#[test]
fn two_values_at_one_offset_are_inconsistent() {
    let mut events = clean();
    events.push(invoked("q", 0, 300));
    events.extend([assigned("d"), read("d", 3, "q:0")]);
    kinds(events, &[Kind::InconsistentOffsets]);
}

#[test]
fn one_offset_acknowledged_twice_is_inconsistent() {
    let mut events = clean();
    events.extend([invoked("q", 0, 300), acked("q", 0, 9, 310)]);
    kinds(events, &[Kind::InconsistentOffsets]);
}

#[test]
fn a_read_of_a_failed_or_unknown_value_is_told_apart() {
    let mut events = clean();
    events.extend([invoked("p", 10, 200), Event::Unknown { producer: "p".into(), sequence: 10, at_ns: 210 }]);
    events.push(read("c", 10, "p:10"));
    kinds(events.clone(), &[]);
    events.extend([invoked("p", 11, 220), Event::Failed { producer: "p".into(), sequence: 11, at_ns: 230 }]);
    events.push(read("c", 11, "p:11"));
    kinds(events.clone(), &[Kind::FailedRead]);
    events.push(read("c", 12, "nobody's"));
    kinds(events, &[Kind::FailedRead, Kind::UnsentRead]);
}

#[test]
fn a_poll_that_goes_back_is_seen_unless_the_consumer_was_assigned_anew() {
    let mut events = clean();
    events.push(read("c", 2, "p:2"));
    kinds(events.clone(), &[Kind::NonMonotonicPoll]);
    let last = events.len() - 1;
    events.insert(last, assigned("c"));
    kinds(events, &[]);
}

#[test]
fn a_poll_that_jumps_over_a_record_is_seen_and_a_gap_in_the_log_is_not() {
    let mut events = clean();
    events.extend([assigned("d"), read("d", 2, "p:2"), read("d", 5, "p:5")]);
    kinds(events, &[Kind::PollSkip]);

    let mut gap = clean();
    gap.extend([invoked("p", 10, 200), acked("p", 10, 12, 210), read("c", 12, "p:10")]);
    kinds(gap, &[]);
}

#[test]
fn sends_of_one_producer_out_of_order_are_seen() {
    // In flight together, so real time says nothing.
    let mut events = vec![Event::Producer { producer: "p".into(), idempotent: true, ordered: true }];
    events.extend([invoked("p", 0, 0), invoked("p", 1, 1), acked("p", 0, 1, 10), acked("p", 1, 0, 11)]);
    events.extend([read("c", 0, "p:1"), read("c", 1, "p:0")]);
    kinds(events.clone(), &[Kind::ReorderedSends]);
    events[0] = Event::Producer { producer: "p".into(), idempotent: true, ordered: false };
    kinds(events, &[]);
}

#[test]
fn a_send_that_began_after_anothers_acknowledgement_stands_behind_it() {
    let mut events =
        vec![invoked("p", 0, 0), acked("p", 0, 1, 10), invoked("q", 0, 11), acked("q", 0, 0, 20)];
    events.extend([read("c", 0, "q:0"), read("c", 1, "p:0")]);
    kinds(events, &[Kind::RealtimeOrder]);
    // Together in flight: either order will do.
    let mut events = vec![invoked("p", 0, 0), acked("p", 0, 1, 10), invoked("q", 0, 9), acked("q", 0, 0, 20)];
    events.extend([read("c", 0, "q:0"), read("c", 1, "p:0")]);
    kinds(events, &[]);
}

#[test]
fn a_realtime_violation_is_found_across_many_records_between() {
    let mut events = vec![invoked("p", 0, 0), acked("p", 0, 1000, 10)];
    for n in 0..500 {
        events.extend([invoked("q", n, 5), acked("q", n, 500 + n as i64, 5000)]);
    }
    events.extend([invoked("r", 0, 11), acked("r", 0, 0, 20)]);
    let report = super::check(&History::from_events(events).unwrap());
    let found: Vec<_> = report.anomalies.iter().map(|a| (a.kind, a.offset)).collect();
    assert_eq!(found, [(Kind::RealtimeOrder, Some(0))]);
}

#[test]
fn a_history_goes_through_its_text_unchanged() {
    let text: Vec<String> = clean().iter().map(|e| serde_json::to_string(e).unwrap()).collect();
    let history = History::from_lines(text.join("\n").as_bytes()).unwrap();
    assert!(super::check(&history).is_clean());
    assert_eq!(
        text[2],
        r#"{"event":"invoked","producer":"p","sequence":0,"topic":"t","partition":0,"value":"p:0","at_ns":0}"#
    );
}

#[test]
fn a_faulty_history_is_refused() {
    let refused = |events: Vec<Event>| History::from_events(events).unwrap_err();
    assert!(matches!(
        refused(vec![acked("p", 0, 0, 0)]),
        HistoryError::AnswerWithoutSend { sequence: 0, .. }
    ));
    let twice = vec![invoked("p", 0, 0), invoked("p", 0, 0)];
    assert!(matches!(refused(twice), HistoryError::SequenceUsedTwice { sequence: 0, .. }));
    let answers = vec![invoked("p", 0, 0), acked("p", 0, 0, 1), acked("p", 0, 1, 2)];
    assert!(matches!(refused(answers), HistoryError::AnsweredTwice { sequence: 0, .. }));
    assert!(matches!(History::from_lines("{}".as_bytes()), Err(HistoryError::Parse { line: 1, .. })));
}

#[test]
fn the_cost_grows_no_faster_than_sorting() {
    // A quadratic pass over this many would not end within a test run.
    let count = 200_000;
    let mut events = vec![Event::Producer { producer: "p".into(), idempotent: true, ordered: true }];
    for n in 0..count {
        events.extend([
            invoked("p", n, n * 2),
            acked("p", n, n as i64, n * 2 + 1),
            read("c", n as i64, &value("p", n)),
        ]);
    }
    kinds(events, &[]);
}
