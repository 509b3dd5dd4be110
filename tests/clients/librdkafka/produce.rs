//! Producing: acks, idempotence, keys and values, headers, sizes, many partitions.

use corelog_clients::client::{Producer, Reader, Record, consume, create_topic, produce, topics};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, Timestamp};

#[test]
fn librdkafka_produce_acks_all_assigns_dense_offsets() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "dense", 1, &[]);
    let values: Vec<String> = (0..1000).map(|n| format!("value {n}")).collect();
    let places = produce(&broker, "dense", values.iter().map(String::as_str));
    assert_eq!(places, (0..1000).map(|n| (0, n)).collect::<Vec<_>>());
    let read = consume(&broker, "dense", 0, 1000);
    assert_eq!(read.iter().map(|r| r.text()).collect::<Vec<_>>(), values);
    assert_eq!(read.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
    broker.finish();
}

#[test]
fn librdkafka_produce_acks_1_and_0_reach_the_log() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "acks", 2, &[]);
    for (partition, acks) in [(0, "1"), (1, "0")] {
        let mut producer = Producer::new(&broker, &[("acks", acks)]);
        for n in 0..100 {
            producer.send(&Record::new("acks", &n.to_string()).partition(partition));
        }
        assert!(producer.flush().iter().all(|d| d.error.is_none()), "acks={acks}");
        let read = consume(&broker, "acks", partition, 100);
        assert_eq!(read.last().unwrap().text(), "99", "acks={acks}");
    }
    broker.finish();
}

#[test]
fn librdkafka_produce_creates_a_topic_automatically() {
    let broker = corelog_clients::options!().set("num.partitions", "3").start();
    produce(&broker, "from-nothing", ["one"]);
    assert_eq!(topics(&broker).get("from-nothing"), Some(&3));
    broker.finish();
}

#[test]
fn librdkafka_produce_to_an_unknown_topic_fails_without_auto_creation() {
    let broker = corelog_clients::options!().set("auto.create.topics.enable", "false").start();
    let mut producer = Producer::new(&broker, &[("topic.metadata.propagation.max.ms", "300")]);
    producer.send(&Record::new("nowhere", "lost"));
    assert_eq!(producer.flush()[0].error, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    assert_eq!(topics(&broker).get("nowhere"), None);
    broker.finish();
}

#[test]
fn librdkafka_idempotent_producer_keeps_order_over_many_partitions() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "idempotent", 8, &[]);
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "50")];
    let mut producer = Producer::new(&broker, &settings);
    for n in 0..4000 {
        producer.send(&Record::new("idempotent", &n.to_string()).partition(n % 8));
    }
    let places = producer.flush_ok();
    assert_eq!(producer.fatal_error(), None);
    for (n, place) in places.iter().enumerate() {
        assert_eq!(*place, (n as i32 % 8, n as i64 / 8));
    }
    for partition in 0..8 {
        let read: Vec<i32> = consume(&broker, "idempotent", partition, 500)
            .iter()
            .map(|r| r.text().parse().unwrap())
            .collect();
        assert_eq!(read, (0..500).map(|n| n * 8 + partition).collect::<Vec<_>>());
    }
    broker.finish();
}

#[test]
fn librdkafka_idempotent_producers_have_ids_of_their_own() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "shared", 1, &[]);
    let mut producers: Vec<_> = (0..4)
        .map(|_| Producer::new(&broker, &[("enable.idempotence", "true"), ("linger.ms", "0")]))
        .collect();
    for n in 0..50 {
        for (p, producer) in producers.iter_mut().enumerate() {
            producer.send(&Record::new("shared", &format!("{p} {n}")));
        }
    }
    for producer in &producers {
        assert_eq!(producer.flush_ok().len(), 50);
        assert_eq!(producer.fatal_error(), None);
    }
    let read = consume(&broker, "shared", 0, 200);
    for p in 0..4 {
        let own: Vec<_> = read.iter().map(|r| r.text()).filter(|v| v.starts_with(&p.to_string())).collect();
        assert_eq!(own, (0..50).map(|n| format!("{p} {n}")).collect::<Vec<_>>());
    }
    broker.finish();
}

#[test]
fn librdkafka_null_and_empty_keys_and_values_come_back_as_sent() {
    let broker = corelog_clients::options!().start();
    type Bytes<'a> = Option<&'a [u8]>;
    let cases: [(Bytes<'_>, Bytes<'_>); 6] = [
        (None, None),
        (None, Some(b"value")),
        (Some(b"key"), None),
        (Some(b""), Some(b"")),
        (Some(b"key"), Some(b"value")),
        (Some(&[0, 255, 128]), Some(&[0; 3])),
    ];
    create_topic(&broker, "nulls", 1, &[]);
    let mut producer = Producer::new(&broker, &[]);
    for (key, value) in cases {
        producer.send(&Record { topic: "nulls", key, value, ..Record::default() });
    }
    producer.flush_ok();
    let read = consume(&broker, "nulls", 0, cases.len());
    let read: Vec<_> = read.iter().map(|r| (r.key.as_deref(), r.value.as_deref())).collect();
    assert_eq!(read, cases);
    broker.finish();
}

#[test]
fn librdkafka_headers_come_back_as_sent() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "headers", 1, &[]);
    let headers: [(&str, Option<&[u8]>); 4] =
        [("trace", Some(b"one")), ("trace", Some(b"two")), ("nothing", None), ("empty", Some(b""))];
    let mut producer = Producer::new(&broker, &[]);
    producer.send(&Record { headers: &headers, ..Record::new("headers", "with") });
    producer.send(&Record::new("headers", "without"));
    producer.flush_ok();
    let read = consume(&broker, "headers", 0, 2);
    let expected: Vec<_> = headers.iter().map(|(k, v)| ((*k).to_owned(), v.map(<[u8]>::to_vec))).collect();
    assert_eq!(read[0].headers, expected);
    assert_eq!(read[1].headers, []);
    broker.finish();
}

#[test]
fn librdkafka_timestamps_are_the_producers_or_the_logs() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "create-time", 1, &[("retention.ms", "-1")]);
    create_topic(&broker, "append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let mut producer = Producer::new(&broker, &[]);
    for topic in ["create-time", "append-time"] {
        producer.send(&Record { timestamp: Some(1_700_000_000_000), ..Record::new(topic, "v") });
    }
    producer.flush_ok();
    assert_eq!(consume(&broker, "create-time", 0, 1)[0].timestamp, Timestamp::CreateTime(1_700_000_000_000));
    match consume(&broker, "append-time", 0, 1)[0].timestamp {
        Timestamp::LogAppendTime(ms) => assert!(ms > 1_700_000_000_000, "{ms}"),
        other => panic!("{other:?}"),
    }
    broker.finish();
}

#[test]
fn librdkafka_large_messages_up_to_the_limit_pass_and_above_are_refused() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "large", 1, &[("max.message.bytes", "3000000")]);
    // librdkafka's own check is out of the way, so that the broker's answers.
    let mut producer = Producer::new(&broker, &[("message.max.bytes", "20000000"), ("linger.ms", "0")]);
    let pattern: Vec<u8> = (0..2_990_000u32).map(|n| (n % 251) as u8).collect();
    producer.send(&Record { topic: "large", value: Some(&pattern), ..Record::default() });
    assert_eq!(producer.flush_ok(), [(0, 0)]);
    producer.send(&Record { topic: "large", value: Some(&vec![7; 3_000_001]), ..Record::default() });
    assert_eq!(producer.flush()[0].error, Some(RDKafkaErrorCode::MessageSizeTooLarge));
    producer.send(&Record::new("large", "after"));
    assert_eq!(producer.flush_ok(), [(0, 1)]);
    // A first batch larger than what the consumer asks for is still sent whole.
    let reader = Reader::assigned(
        &broker,
        &[("large", 0, Offset::Beginning)],
        &[("fetch.message.max.bytes", "10000")],
    );
    let read = reader.read(2);
    assert!(read[0].value.as_deref() == Some(&pattern[..]), "the large value came back changed");
    assert_eq!(read[1].text(), "after");
    broker.finish();
}

#[test]
fn librdkafka_many_partitions_take_records_at_once() {
    let broker = corelog_clients::options!().start();
    let partitions = 200;
    create_topic(&broker, "many", partitions, &[]);
    let mut producer = Producer::new(&broker, &[("linger.ms", "5")]);
    for n in 0..partitions * 10 {
        producer.send(&Record::new("many", &n.to_string()).partition(n % partitions));
    }
    for (n, place) in producer.flush_ok().into_iter().enumerate() {
        assert_eq!(place, (n as i32 % partitions, n as i64 / i64::from(partitions)));
    }
    let from: Vec<_> = (0..partitions).map(|p| ("many", p, Offset::Beginning)).collect();
    let mut read = Reader::assigned(&broker, &from, &[]).read(partitions as usize * 10);
    read.sort_by_key(|r| (r.offset, r.partition));
    let values: Vec<i32> = read.iter().map(|r| r.text().parse().unwrap()).collect();
    assert_eq!(values, (0..partitions * 10).collect::<Vec<_>>());
    broker.finish();
}

#[test]
fn librdkafka_records_go_to_the_partition_of_their_key() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "keyed", 4, &[]);
    let mut producer = Producer::new(&broker, &[("partitioner", "murmur2_random")]);
    for round in 0..3 {
        for key in 0..20u8 {
            let value = format!("{round}");
            producer.send(&Record { key: Some(&[key]), ..Record::new("keyed", &value) });
        }
    }
    let places = producer.flush_ok();
    for key in 0..20 {
        assert!((1..3).all(|round| places[key].0 == places[round * 20 + key].0), "key {key} moved");
    }
    broker.finish();
}

#[test]
fn librdkafka_produce_continues_when_the_broker_comes_back() {
    let mut broker = corelog_clients::options!().start();
    create_topic(&broker, "pause", 1, &[]);
    let mut producer = Producer::new(&broker, &[("enable.idempotence", "true")]);
    producer.send(&Record::new("pause", "before"));
    assert_eq!(producer.flush_ok(), [(0, 0)]);
    broker.stop();
    producer.send(&Record::new("pause", "while down"));
    assert_eq!(producer.poll(std::time::Duration::from_millis(100)), []);
    broker.start_again();
    assert_eq!(producer.flush_ok(), [(0, 1)]);
    assert_eq!(producer.fatal_error(), None);
    broker.finish();
}
