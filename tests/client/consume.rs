//! What the consumer does alone: positions, seeks, pauses, commits, streams; and when the broker goes away.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use corelog::client::consumer::CommittedOffset;
use corelog::client::time::wall_clock_ms;
use corelog::client::{
    Abortable, ClientError, Consumer, ConsumerRecord, ConsumerSettings, Misuse, Producer, ProducerRecord,
    TopicPartition,
};
use futures_core::Stream;

use crate::admin::{admin, fill};
use crate::fixture::{Target, run, settings};
use crate::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(30);

pub fn consumer_settings(bootstrap: &str, pairs: &[(&str, &str)]) -> ConsumerSettings {
    ConsumerSettings::builder()
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "corelog-client-test")
        .set("auto.offset.reset", "earliest")
        .set("retry.backoff.ms", 2)
        .set("retry.backoff.max.ms", 20)
        .set("reconnect.backoff.ms", 1)
        .set("reconnect.backoff.max.ms", 20)
        .set_all(pairs.iter().copied())
        .build()
        .unwrap()
}

pub fn group(what: &str) -> String {
    format!("consumer-{what}-{}", std::process::id())
}

fn consumer(target: &Target, pairs: &[(&str, &str)]) -> Consumer {
    Consumer::new(consumer_settings(target.bootstrap(), pairs)).unwrap()
}

pub fn number(record: &ConsumerRecord) -> u64 {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

/// So many records, or fewer if no more come in time.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count && Instant::now() < deadline {
        records.extend(consumer.poll(Duration::from_millis(200)).await.unwrap());
    }
    records
}

fn partition(topic: &str, index: i32) -> TopicPartition {
    TopicPartition::new(topic, index)
}

#[test]
fn all_records_come_in_order_whatever_the_fetch_sizes_are() {
    run(async {
        let target = Target::start();
        for pairs in [
            &[][..],
            &[("max.partition.fetch.bytes", "200"), ("max.poll.records", "7")],
            &[("fetch.max.bytes", "1000"), ("max.poll.records", "1")],
        ] {
            let topic = target.topic(3).await;
            for index in 0..3 {
                fill(&target, &topic, index, 300).await;
            }
            let mut consumer = consumer(&target, pairs);
            consumer.assign((0..3).map(|index| partition(&topic, index))).unwrap();
            let records = take(&mut consumer, 900).await;
            for index in 0..3 {
                let of_one: Vec<&ConsumerRecord> = records.iter().filter(|r| r.partition == index).collect();
                assert!(
                    of_one.iter().enumerate().all(|(n, r)| r.offset == n as i64 && number(r) == n as u64)
                );
                assert_eq!(of_one.len(), 300, "{pairs:?}");
                assert_eq!(of_one[4].timestamp, 1_004);
                assert_eq!(consumer.position(&partition(&topic, index)), Some(300));
                assert_eq!(consumer.lag(&partition(&topic, index)), Some(0));
            }
            assert!(consumer.poll(Duration::from_millis(50)).await.unwrap().is_empty());
            consumer.close(PATIENCE).await.unwrap();
        }
        target.finish();
    });
}

#[test]
fn a_seek_is_followed_by_what_is_there_and_nothing_from_before_it() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 100).await;
        let here = partition(&topic, 0);
        let mut consumer = consumer(&target, &[("max.poll.records", "1")]);
        consumer.assign([here.clone()]).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 0);
        consumer.seek(&here, 42).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 42);
        consumer.seek_to_timestamp(&here, 1_077).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 77);
        consumer.seek_to_begin(&here).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 0);
        for seek_past_the_end in [true, false] {
            if seek_past_the_end {
                consumer.seek_to_timestamp(&here, 1_000_000).unwrap();
            } else {
                consumer.seek_to_end(&here).unwrap();
            }
            let deadline = Instant::now() + PATIENCE;
            while consumer.position(&here) != Some(100) && Instant::now() < deadline {
                assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
            }
            assert_eq!(consumer.position(&here), Some(100));
        }
        // Beyond the log: `auto.offset.reset` says where to go on.
        consumer.seek(&here, 1_000).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 0);

        let error = consumer.seek(&partition(&topic, 5), 1).unwrap_err();
        assert!(matches!(error, ClientError::Abortable(Abortable::Misuse(Misuse::NotAssigned { .. }))));
        let error = consumer.seek(&here, -1).unwrap_err();
        assert!(matches!(error, ClientError::Abortable(Abortable::Misuse(Misuse::NegativeOffset { .. }))));
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn without_a_reset_an_offset_that_is_nowhere_is_an_error_until_somebody_seeks() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 10).await;
        let here = partition(&topic, 0);
        let mut consumer = consumer(&target, &[("auto.offset.reset", "none")]);
        consumer.assign([here.clone()]).unwrap();
        for _ in 0..2 {
            let error = consumer.poll(PATIENCE).await.unwrap_err();
            assert!(matches!(error, ClientError::Abortable(Abortable::NoOffset { .. })), "{error}");
        }
        consumer.seek(&here, 99).unwrap();
        for _ in 0..2 {
            let error = consumer.poll(PATIENCE).await.unwrap_err();
            let expected =
                matches!(error, ClientError::Abortable(Abortable::OffsetOutOfRange { offset: 99, .. }));
            assert!(expected, "{error}");
        }
        consumer.seek(&here, 9).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 9);
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_reset_by_duration_begins_at_the_first_record_that_is_no_older() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let now = wall_clock_ms();
        for age_hours in [5, 3, 1] {
            let record = ProducerRecord::to(&topic).value(b"0").timestamp(now - age_hours * 3_600_000);
            producer.send(record).await.unwrap();
        }
        let here = partition(&topic, 0);
        for (age, expected) in [("PT6H", 0), ("PT4H", 1), ("P1DT-22H", 2), ("PT30M", 3)] {
            let reset = format!("by_duration:{age}");
            let mut consumer = consumer(&target, &[("auto.offset.reset", &reset)]);
            consumer.assign([here.clone()]).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while consumer.position(&here).is_none() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(consumer.position(&here), Some(expected), "{age}");
            consumer.close(PATIENCE).await.unwrap();
        }
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_paused_partition_brings_nothing_and_goes_on_where_it_was() {
    run(async {
        let target = Target::start();
        let topic = target.topic(2).await;
        fill(&target, &topic, 0, 50).await;
        fill(&target, &topic, 1, 50).await;
        let mut consumer = consumer(&target, &[("max.poll.records", "10")]);
        consumer.assign([partition(&topic, 0), partition(&topic, 1)]).unwrap();
        let mut records = take(&mut consumer, 10).await;
        consumer.pause(&[partition(&topic, 0)]).unwrap();
        let seen =
            |records: &[ConsumerRecord], index| records.iter().filter(|r| r.partition == index).count();
        let before = seen(&records, 0);
        let deadline = Instant::now() + PATIENCE;
        while seen(&records, 1) < 50 && Instant::now() < deadline {
            records.extend(consumer.poll(Duration::from_millis(100)).await.unwrap());
        }
        assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
        assert_eq!((seen(&records, 0), seen(&records, 1)), (before, 50));
        consumer.resume(&[partition(&topic, 0)]).unwrap();
        records.extend(take(&mut consumer, 50 - before).await);
        let offsets: Vec<i64> = records.iter().filter(|r| r.partition == 0).map(|r| r.offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn commits_are_where_the_next_consumer_begins() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 100).await;
        let here = partition(&topic, 0);
        let group = group("commits");
        let pairs = [("group.id", &*group), ("enable.auto.commit", "false"), ("max.poll.records", "10")];
        let make = || {
            let mut consumer = consumer(&target, &pairs);
            consumer.assign([here.clone()]).unwrap();
            consumer
        };
        let mut first = make();
        take(&mut first, 20).await;
        first.commit().await.unwrap();
        take(&mut first, 10).await;
        first.close(PATIENCE).await.unwrap();

        let mut second = make();
        assert_eq!(take(&mut second, 1).await[0].offset, 20);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        second.commit_async(move |result| drop(sender.send(result))).unwrap();
        receiver.await.unwrap().unwrap();
        let committed = second.committed(std::slice::from_ref(&here)).await.unwrap();
        assert_eq!(committed[&here].as_ref().unwrap().offset, 30);
        let words = CommittedOffset { metadata: "by hand".to_owned(), ..CommittedOffset::at(55) };
        second.commit_offsets(BTreeMap::from([(here.clone(), words.clone())])).await.unwrap();
        second.close(PATIENCE).await.unwrap();

        let mut third = make();
        assert_eq!(take(&mut third, 1).await[0].offset, 55);
        assert_eq!(third.committed(std::slice::from_ref(&here)).await.unwrap()[&here], Some(words));
        third.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn automatic_commits_cover_what_was_returned_before_and_the_rest_at_close() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 100).await;
        let here = partition(&topic, 0);
        let group = group("automatic");
        let pairs = [("group.id", &*group), ("auto.commit.interval.ms", "0"), ("max.poll.records", "10")];
        let mut first = consumer(&target, &pairs);
        first.assign([here.clone()]).unwrap();
        take(&mut first, 10).await;
        let second = take(&mut first, 10).await;
        assert_eq!(second[0].offset, 10);
        // What the last poll returned may still be worked on: a commit never covers it.
        let deadline = Instant::now() + PATIENCE;
        let mut committed = None;
        while committed != Some(10) && Instant::now() < deadline {
            committed =
                first.committed(std::slice::from_ref(&here)).await.unwrap()[&here].as_ref().map(|c| c.offset);
            assert!(committed.is_none_or(|offset| offset <= 10), "{committed:?}");
        }
        assert_eq!(committed, Some(10));
        first.close(PATIENCE).await.unwrap();
        let mut second = consumer(&target, &pairs);
        second.assign([here.clone()]).unwrap();
        assert_eq!(take(&mut second, 1).await[0].offset, 20);
        second.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_stream_brings_one_record_after_the_other_and_may_be_dropped() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 100).await;
        let here = partition(&topic, 0);
        let mut consumer = consumer(&target, &[]);
        consumer.assign([here.clone()]).unwrap();
        let handle = consumer.handle();
        for expected in 0..60 {
            // A new one each few records: nothing is lost with it.
            let mut stream = consumer.stream();
            let next = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
            assert_eq!(next.unwrap().unwrap().offset, expected);
            assert_eq!(handle.position(&here), Some(expected + 1));
        }
        let rest = take(&mut consumer, 40).await;
        assert_eq!(rest[0].offset, 60);
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_consumer_with_nothing_to_read_asks_once_for_each_wait_and_commits_nothing_new() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 1).await;
        let group = group("idle");
        let pairs = [("group.id", &*group), ("auto.commit.interval.ms", "0"), ("fetch.max.wait.ms", "100")];
        let mut consumer = consumer(&target, &pairs);
        consumer.assign([partition(&topic, 0)]).unwrap();
        assert_eq!(take(&mut consumer, 1).await.len(), 1);
        let before = consumer.metrics();
        assert!(consumer.poll(Duration::from_secs(1)).await.unwrap().is_empty());
        let after = consumer.metrics();
        assert!((2..=15).contains(&(after.fetches - before.fetches)), "{before:?} {after:?}");
        assert!(after.commits - before.commits <= 1, "{before:?} {after:?}");
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn calls_that_do_not_fit_are_errors() {
    run(async {
        let target = Target::start();
        let misuse = |result: Result<(), ClientError>| match result.unwrap_err() {
            ClientError::Abortable(Abortable::Misuse(misuse)) => misuse,
            other => panic!("{other}"),
        };
        let mut alone = consumer(&target, &[]);
        assert_eq!(misuse(alone.poll(Duration::ZERO).await.map(drop)), Misuse::NothingAssigned);
        assert_eq!(misuse(alone.subscribe(["a"])), Misuse::NoGroup);
        assert_eq!(misuse(alone.commit().await), Misuse::NoGroup);
        alone.assign([partition("a", 0)]).unwrap();
        alone.close(PATIENCE).await.unwrap();
        let mut grouped = consumer(&target, &[("group.id", "g")]);
        grouped.subscribe(["a"]).unwrap();
        assert_eq!(misuse(grouped.assign([partition("a", 0)])), Misuse::AssignedAndSubscribed);
        grouped.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn records_deleted_below_the_position_are_passed_over() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 100).await;
        let here = partition(&topic, 0);
        admin(&target).delete_records(&BTreeMap::from([(here.clone(), 60)])).await[&here].clone().unwrap();
        let mut consumer = consumer(&target, &[]);
        consumer.assign([here.clone()]).unwrap();
        consumer.seek(&here, 5).unwrap();
        assert_eq!(take(&mut consumer, 1).await[0].offset, 60);
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_broker_that_restarts_in_the_middle_costs_time_and_nothing_else() {
    run(async {
        let Some(mut target) = Target::start_own(|options| options) else { return };
        let topic = target.topic(2).await;
        fill(&target, &topic, 0, 200).await;
        fill(&target, &topic, 1, 200).await;
        let mut consumer =
            consumer(&target, &[("max.poll.records", "20"), ("max.partition.fetch.bytes", "500")]);
        consumer.assign([partition(&topic, 0), partition(&topic, 1)]).unwrap();
        let mut records = take(&mut consumer, 100).await;
        target.broker().kill9();
        // While nobody is there, polls end in time and without an error.
        while !consumer
            .poll(Duration::from_millis(100))
            .await
            .map(|more| {
                let is_empty = more.is_empty();
                records.extend(more);
                is_empty
            })
            .unwrap()
        {}
        target.broker().start_again();
        let left = 400 - records.len();
        records.extend(take(&mut consumer, left).await);
        for index in 0..2 {
            let offsets: Vec<i64> =
                records.iter().filter(|r| r.partition == index).map(|r| r.offset).collect();
            assert_eq!(offsets, (0..200).collect::<Vec<_>>());
        }
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn cut_connections_lose_nothing_and_repeat_nothing() {
    run(async {
        let target = Target::start();
        let topic = target.topic(2).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let pairs =
            [("max.poll.records", "25"), ("max.partition.fetch.bytes", "400"), ("fetch.max.wait.ms", "20")];
        let mut consumer = Consumer::new(consumer_settings(&proxy.bootstrap(), &pairs)).unwrap();
        consumer.assign([partition(&topic, 0), partition(&topic, 1)]).unwrap();
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let mut records = Vec::new();
        for round in 0..40i64 {
            for n in 0..20i64 {
                let text = (round * 20 + n).to_string();
                let record = ProducerRecord::to(&topic).value(text.as_bytes()).partition((n % 2) as i32);
                drop(producer.enqueue(record).await.unwrap());
            }
            records.extend(consumer.poll(Duration::from_millis(10)).await.unwrap());
            proxy.cut();
        }
        producer.close(PATIENCE).await.unwrap();
        let left = 800 - records.len();
        records.extend(take(&mut consumer, left).await);
        for index in 0..2u64 {
            let numbers: Vec<u64> =
                records.iter().filter(|r| r.partition as u64 == index).map(number).collect();
            assert_eq!(numbers, (0..800).filter(|n| n % 2 == index).collect::<Vec<_>>());
        }
        assert!(proxy.seen().connections > 10, "{:?}", proxy.seen());
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}
