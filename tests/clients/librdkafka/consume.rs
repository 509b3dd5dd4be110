//! Consuming without a group: seeks, watermarks, times, ends, limits.

use std::time::{Duration, Instant};

use corelog_clients::client::{PATIENCE, Producer, Reader, Record, consume, create_topic, produce};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

#[test]
fn librdkafka_watermarks_follow_the_log() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "marks", 2, &[]);
    let reader = Reader::assigned(&broker, &[], &[]);
    assert_eq!(reader.watermarks("marks", 0), (0, 0));
    let mut producer = Producer::new(&broker, &[]);
    for n in 0..7 {
        producer.send(&Record::new("marks", &n.to_string()).partition(1));
    }
    producer.flush_ok();
    assert_eq!(reader.watermarks("marks", 0), (0, 0));
    assert_eq!(reader.watermarks("marks", 1), (0, 7));
    broker.finish();
}

#[test]
fn librdkafka_offsets_for_times_find_the_first_record_at_or_after() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "times", 1, &[("retention.ms", "-1")]);
    let start = 1_700_000_000_000;
    let mut producer = Producer::new(&broker, &[("linger.ms", "0"), ("batch.num.messages", "10")]);
    for n in 0..100 {
        producer.send(&Record { timestamp: Some(start + n * 1000), ..Record::new("times", "v") });
    }
    producer.flush_ok();
    let reader = Reader::assigned(&broker, &[], &[]);
    let lookup = |ms: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("times", 0, Offset::Offset(ms)).unwrap();
        reader.inner.offsets_for_times(list, PATIENCE).unwrap().elements()[0].offset()
    };
    for (ms, expected) in [
        (0, Offset::Offset(0)),
        (start, Offset::Offset(0)),
        (start + 1, Offset::Offset(1)),
        (start + 50_000, Offset::Offset(50)),
        (start + 50_500, Offset::Offset(51)),
        (start + 99_000, Offset::Offset(99)),
        (start + 99_001, Offset::End),
    ] {
        assert_eq!(lookup(ms), expected, "at {}", ms - start);
    }
    broker.finish();
}

#[test]
fn librdkafka_assigned_consumer_starts_at_any_offset() {
    let broker = corelog_clients::options!().start();
    let values: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    produce(&broker, "start", values.iter().map(String::as_str));
    for (from, expected) in [
        (Offset::Beginning, 0),
        (Offset::Offset(20), 20),
        (Offset::OffsetTail(5), 45),
        (Offset::Offset(49), 49),
    ] {
        let read = Reader::assigned(&broker, &[("start", 0, from)], &[]).read(50 - expected);
        assert_eq!(read[0].text(), expected.to_string(), "{from:?}");
    }
    broker.finish();
}

#[test]
fn librdkafka_consumer_seeks_back_and_forth() {
    let broker = corelog_clients::options!().start();
    let values: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    produce(&broker, "seek", values.iter().map(String::as_str));
    let reader = Reader::assigned(&broker, &[("seek", 0, Offset::Beginning)], &[]);
    assert_eq!(reader.read(1)[0].offset, 0);
    for target in [250, 10, 299, 0] {
        reader.inner.seek("seek", 0, Offset::Offset(target), PATIENCE).unwrap();
        assert_eq!(reader.read(1)[0].offset, target);
    }
    broker.finish();
}

#[test]
fn librdkafka_consumer_at_the_end_waits_and_gets_what_comes() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "tail", 1, &[]);
    let settings = [("enable.partition.eof", "true"), ("fetch.wait.max.ms", "10000")];
    let reader = Reader::assigned(&broker, &[("tail", 0, Offset::Beginning)], &settings);
    assert!(matches!(reader.read_error(), KafkaError::PartitionEOF(0)));
    // The fetch that is parked now would wait 10 s for its first byte.
    let begin = Instant::now();
    produce(&broker, "tail", ["wake up"]);
    assert_eq!(reader.read(1)[0].text(), "wake up");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "a parked fetch took {:?} to be answered",
        begin.elapsed()
    );
    broker.finish();
}

#[test]
fn librdkafka_offset_out_of_range_is_told_or_reset() {
    let broker = corelog_clients::options!().start();
    produce(&broker, "range", ["a", "b"]);
    let reader =
        Reader::assigned(&broker, &[("range", 0, Offset::Offset(100))], &[("auto.offset.reset", "error")]);
    let cause = reader.read_error();
    assert_eq!(cause.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset), "{cause}");
    let reader = Reader::assigned(&broker, &[("range", 0, Offset::Offset(100))], &[]);
    assert_eq!(reader.read(2)[0].text(), "a");
    broker.finish();
}

#[test]
fn librdkafka_consumer_of_an_unknown_partition_is_told() {
    let broker = corelog_clients::options!().set("auto.create.topics.enable", "false").start();
    create_topic(&broker, "small", 1, &[]);
    let reader = Reader::assigned(&broker, &[("small", 7, Offset::Beginning)], &[]);
    let cause = reader.read_error();
    assert_eq!(cause.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownPartition), "{cause}");
    broker.finish();
}

#[test]
fn librdkafka_small_fetches_read_everything_in_order() {
    let broker = corelog_clients::options!().set("log.segment.bytes", "1048576").start();
    create_topic(&broker, "small-fetch", 1, &[("segment.bytes", "1048576")]);
    let mut producer = Producer::new(&broker, &[("linger.ms", "1"), ("batch.num.messages", "7")]);
    let filler = "x".repeat(2000);
    let values: Vec<String> = (0..2000).map(|n| format!("{n} {filler}")).collect();
    for value in &values {
        producer.send(&Record::new("small-fetch", value));
    }
    producer.flush_ok();
    let settings =
        [("fetch.message.max.bytes", "5000"), ("fetch.max.bytes", "20000"), ("message.max.bytes", "20000")];
    let reader = Reader::assigned(&broker, &[("small-fetch", 0, Offset::Beginning)], &settings);
    let read = reader.read(2000);
    assert!(read.iter().map(|r| r.text()).eq(values), "records are missing or out of order");
    broker.finish();
}

#[test]
fn librdkafka_consumer_with_crc_check_accepts_every_batch() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "crc", 1, &[]);
    for codec in ["none", "gzip", "lz4"] {
        let mut producer = Producer::new(&broker, &[("compression.type", codec), ("linger.ms", "10")]);
        for n in 0..100 {
            producer.send(&Record::new("crc", &format!("{n} {codec}").repeat(20)));
        }
        producer.flush_ok();
    }
    let reader = Reader::assigned(&broker, &[("crc", 0, Offset::Beginning)], &[("check.crcs", "true")]);
    assert_eq!(reader.read(300).len(), 300);
    broker.finish();
}

#[test]
fn librdkafka_read_committed_sees_plain_records() {
    let broker = corelog_clients::options!().start();
    produce(&broker, "isolation", ["a", "b", "c"]);
    for isolation in ["read_committed", "read_uncommitted"] {
        let reader = Reader::assigned(
            &broker,
            &[("isolation", 0, Offset::Beginning)],
            &[("isolation.level", isolation)],
        );
        assert_eq!(reader.read(3)[2].text(), "c", "{isolation}");
    }
    broker.finish();
}

#[test]
fn librdkafka_many_consumers_read_one_partition_alike() {
    let broker = corelog_clients::options!().start();
    let values: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    produce(&broker, "fan-out", values.iter().map(String::as_str));
    let readers: Vec<_> =
        (0..8).map(|_| Reader::assigned(&broker, &[("fan-out", 0, Offset::Beginning)], &[])).collect();
    let first = consume(&broker, "fan-out", 0, 200);
    for reader in &readers {
        assert_eq!(reader.read(200), first);
    }
    broker.finish();
}
