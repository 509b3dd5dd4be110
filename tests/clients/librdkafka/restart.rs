//! A broker that stops and starts again, cleanly or not, with what it had.

use corelog_clients::Broker;
use corelog_clients::client::{Producer, Reader, Record, consume, create_topic, poll_all, produce, topics};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

/// Topics, records, commits and configs stand after `down` and a new start.
fn keeps_everything(down: fn(&mut Broker)) {
    let mut broker = corelog_clients::options!().start();
    create_topic(&broker, "kept", 3, &[("max.message.bytes", "5000")]);
    let mut producer = Producer::new(&broker, &[("enable.idempotence", "true")]);
    for n in 0..300 {
        producer.send(&Record::new("kept", &n.to_string()).partition(n % 3));
    }
    producer.flush_ok();
    let member = Reader::subscribed(&broker, "kept", &["kept"], &[]);
    poll_all(&[&member], |_| member.assignment().len() == 3);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("kept", 1, Offset::Offset(42)).unwrap();
    member.inner.commit(&list, CommitMode::Sync).unwrap();
    drop(member);

    for round in 1..=2 {
        down(&mut broker);
        broker.start_again();
        assert_eq!(topics(&broker).get("kept"), Some(&3));
        for partition in 0..3 {
            let read = consume(&broker, "kept", partition, 100 + (round - 1) as usize);
            assert_eq!(read[99].text(), (297 + partition).to_string());
        }
        let reader = Reader::outside(&broker, "kept");
        assert_eq!(reader.committed("kept", 3), [None, Some(42), None]);
        // The same idempotent producer goes on: its id and sequences are known.
        for partition in 0..3 {
            producer.send(&Record::new("kept", "after").partition(partition));
        }
        assert_eq!(producer.flush_ok(), [(0, 99 + round), (1, 99 + round), (2, 99 + round)]);
        assert_eq!(producer.fatal_error(), None);
        let mut large = Producer::new(&broker, &[]);
        large.send(&Record::new("kept", &"x".repeat(6000)));
        assert!(large.flush()[0].error.is_some(), "the topic's config is gone");
    }
    broker.finish();
}

#[test]
fn librdkafka_everything_is_kept_over_a_clean_restart() {
    keeps_everything(Broker::stop);
}

#[test]
fn librdkafka_everything_is_kept_over_kill_9() {
    keeps_everything(Broker::kill9);
}

#[test]
fn librdkafka_consumer_goes_on_over_a_restart() {
    let mut broker = corelog_clients::options!().start();
    create_topic(&broker, "on", 1, &[]);
    produce(&broker, "on", ["a", "b"]);
    let reader =
        Reader::assigned(&broker, &[("on", 0, Offset::Beginning)], &[("auto.offset.reset", "error")]);
    assert_eq!(reader.read(2)[1].text(), "b");
    broker.restart();
    produce(&broker, "on", ["c"]);
    assert_eq!(reader.read(1)[0].offset, 2);
    broker.finish();
}

#[test]
fn librdkafka_group_member_survives_a_restart() {
    let mut broker = corelog_clients::options!().start();
    create_topic(&broker, "member", 2, &[]);
    let options = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
    let member = Reader::subscribed(&broker, "member", &["member"], &options);
    poll_all(&[&member], |_| member.assignment().len() == 2);
    broker.restart();
    produce(&broker, "member", ["x"]);
    poll_all(&[&member], |read| read[0].len() == 1);
    member.inner.commit_consumer_state(CommitMode::Sync).unwrap();
    drop(member);
    broker.finish();
}

#[test]
fn librdkafka_many_segments_are_read_after_a_restart() {
    let mut broker = corelog_clients::options!().start();
    create_topic(&broker, "segments", 1, &[("segment.bytes", "1048576")]);
    let mut producer = Producer::new(&broker, &[("batch.size", "100000")]);
    let filler = "y".repeat(10_000);
    for n in 0..500 {
        producer.send(&Record::new("segments", &format!("{n} {filler}")));
    }
    producer.flush_ok();
    broker.restart();
    let read = consume(&broker, "segments", 0, 500);
    for (n, record) in read.iter().enumerate() {
        assert!(record.offset == n as i64 && record.text().starts_with(&format!("{n} ")), "record {n}");
    }
    let logs = std::fs::read_dir(broker.data_directory().join("segments-0")).unwrap();
    let count = logs.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "log")).count();
    assert!(count >= 5, "5 MB in segments of 1 MiB lie in {count} files");
    broker.finish();
}
