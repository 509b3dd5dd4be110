//! Consumer groups: rebalances with the eager and the cooperative protocol, commits, static members.

use std::collections::BTreeSet;

use corelog_clients::Broker;
use corelog_clients::client::{PATIENCE, Producer, Reader, Received, Record, create_topic, poll_all};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

const QUICK: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];

fn settings<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    QUICK.iter().copied().chain(more.iter().copied()).collect()
}

fn fill(broker: &Broker, topic: &str, partitions: i32, per_partition: i32) {
    let mut producer = Producer::new(broker, &[]);
    for n in 0..partitions * per_partition {
        let value = format!("{}", n / partitions);
        producer.send(&Record::new(topic, &value).partition(n % partitions));
    }
    producer.flush_ok();
}

/// Every partition has exactly one of the members.
fn covers(members: &[&Reader], partitions: usize) -> bool {
    let all: Vec<_> = members.iter().flat_map(|m| m.assignment()).collect();
    all.len() == partitions && all.iter().collect::<BTreeSet<_>>().len() == partitions
}

fn shares(members: &[&Reader]) -> Vec<usize> {
    members.iter().map(|m| m.assignment().len()).collect()
}

fn commit(reader: &Reader, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    reader.inner.commit(&list, CommitMode::Sync).unwrap();
}

/// One to three members and back to one; every record is read at least once, and by one member at a time.
fn rebalance(strategy: &str) {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "work", 6, &[]);
    // With offsets to go on from. Without, librdkafka 2.12 arms a timer of 500 ms for each partition whose leader it does not know
    // yet; when the partition has left and come back meanwhile, the timer resets it behind what was committed.
    let outside = Reader::outside(&broker, "team");
    (0..6).for_each(|partition| commit(&outside, "work", partition, 0));
    let options = settings(&[("partition.assignment.strategy", strategy)]);
    let join = || Reader::subscribed(&broker, "team", &["work"], &options);

    let first = join();
    poll_all(&[&first], |_| covers(&[&first], 6));
    let second = join();
    poll_all(&[&first, &second], |_| covers(&[&first, &second], 6) && shares(&[&first, &second]) == [3, 3]);
    let third = join();
    let members = [&first, &second, &third];
    poll_all(&members, |_| covers(&members, 6) && shares(&members) == [2, 2, 2]);

    fill(&broker, "work", 6, 20);
    let read = poll_all(&members, |read| read.iter().map(Vec::len).sum::<usize>() >= 120);
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40, 40]);
    for records in &read {
        assert_eq!(records.iter().map(|r| r.partition).collect::<BTreeSet<_>>().len(), 2);
    }
    for (member, records) in members.iter().zip(&read) {
        for partition in records.iter().map(|r| r.partition).collect::<BTreeSet<_>>() {
            commit(member, "work", partition, 20);
        }
    }
    // A member that closes leaves at once; its partitions go to the others long before its session would end.
    drop(third);
    poll_all(&[&first, &second], |_| covers(&[&first, &second], 6));
    drop(second);
    let last = poll_all(&[&first], |_| covers(&[&first], 6));
    assert_eq!(last[0], [], "records that were committed came again");

    fill(&broker, "work", 6, 5);
    let read = poll_all(&[&first], |read| read[0].len() >= 30);
    assert!(read[0].iter().all(|r| r.offset >= 20), "a member went back behind a commit");
    drop(first);
    broker.finish();
}

#[test]
fn librdkafka_group_rebalances_with_range() {
    rebalance("range");
}

#[test]
fn librdkafka_group_rebalances_with_roundrobin() {
    rebalance("roundrobin");
}

#[test]
fn librdkafka_group_rebalances_with_cooperative_sticky() {
    rebalance("cooperative-sticky");
}

#[test]
fn librdkafka_cooperative_rebalance_takes_only_what_moves() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "gentle", 4, &[]);
    let options = settings(&[("partition.assignment.strategy", "cooperative-sticky")]);
    let first = Reader::subscribed(&broker, "gentle", &["gentle"], &options);
    poll_all(&[&first], |_| covers(&[&first], 4));
    let second = Reader::subscribed(&broker, "gentle", &["gentle"], &options);
    poll_all(&[&first, &second], |_| shares(&[&first, &second]) == [2, 2]);
    let revoked: Vec<String> = first.rebalances().into_iter().filter(|r| r.starts_with("revoke")).collect();
    assert_eq!(revoked, ["revoke 2"]);
    drop((first, second));
    broker.finish();
}

#[test]
fn librdkafka_group_commits_and_resumes() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "resume", 2, &[]);
    fill(&broker, "resume", 2, 50);
    let first = Reader::subscribed(&broker, "resume", &["resume"], &settings(&[]));
    assert_eq!(first.committed("resume", 2), [None, None]);
    poll_all(&[&first], |read| read[0].len() == 100);
    commit(&first, "resume", 0, 30);
    commit(&first, "resume", 1, 50);
    assert_eq!(first.committed("resume", 2), [Some(30), Some(50)]);
    drop(first);
    let second = Reader::subscribed(&broker, "resume", &["resume"], &settings(&[]));
    let read = second.read(20);
    assert_eq!(
        read.iter().map(Received::place).collect::<Vec<_>>(),
        (30..50).map(|o| (0, o)).collect::<Vec<_>>()
    );
    drop(second);
    broker.finish();
}

#[test]
fn librdkafka_commit_metadata_comes_back() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "noted", 1, &[]);
    let reader = Reader::subscribed(&broker, "noted", &["noted"], &settings(&[]));
    poll_all(&[&reader], |_| covers(&[&reader], 1));
    let mut list = TopicPartitionList::new();
    list.add_partition("noted", 0).set_offset(Offset::Offset(0)).unwrap();
    list.find_partition("noted", 0).unwrap().set_metadata("a note");
    reader.inner.commit(&list, CommitMode::Sync).unwrap();
    // The answer refers to the client's partitions: a client that is closed while it lives waits for ever.
    let note = reader.inner.committed(PATIENCE).unwrap().elements()[0].metadata().to_owned();
    assert_eq!(note, "a note");
    drop(reader);
    broker.finish();
}

#[test]
fn librdkafka_auto_commit_resumes_after_close() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "auto", 1, &[]);
    fill(&broker, "auto", 1, 40);
    let options = settings(&[("enable.auto.commit", "true"), ("auto.commit.interval.ms", "100")]);
    let first = Reader::subscribed(&broker, "auto", &["auto"], &options);
    assert_eq!(first.read(40).len(), 40);
    drop(first);
    fill(&broker, "auto", 1, 3);
    let second = Reader::subscribed(&broker, "auto", &["auto"], &options);
    assert_eq!(second.read(3).iter().map(|r| r.offset).collect::<Vec<_>>(), [40, 41, 42]);
    drop(second);
    broker.finish();
}

#[test]
fn librdkafka_member_that_stops_polling_loses_its_partitions() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "stuck", 2, &[]);
    let options = settings(&[("max.poll.interval.ms", "6000")]);
    let first = Reader::subscribed(&broker, "stuck", &["stuck"], &options);
    poll_all(&[&first], |_| covers(&[&first], 2));
    let second = Reader::subscribed(&broker, "stuck", &["stuck"], &options);
    // Only the second is polled from here on; the first leaves the group when its poll interval is over.
    poll_all(&[&second], |_| covers(&[&second], 2));
    drop((second, first));
    broker.finish();
}

#[test]
fn librdkafka_static_member_returns_without_a_rebalance() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "static", 4, &[]);
    let named = |id: &'static str| settings(&[("group.instance.id", id)]);
    let first = Reader::subscribed(&broker, "fixed", &["static"], &named("one"));
    let second = Reader::subscribed(&broker, "fixed", &["static"], &named("two"));
    poll_all(&[&first, &second], |_| shares(&[&first, &second]) == [2, 2]);
    let (before, rebalances) = (second.assignment(), first.rebalances());
    drop(second);
    let again = Reader::subscribed(&broker, "fixed", &["static"], &named("two"));
    poll_all(&[&first, &again], |_| shares(&[&first, &again]) == [2, 2]);
    assert_eq!(again.assignment(), before);
    assert_eq!(first.rebalances(), rebalances, "the other member was disturbed");
    drop((first, again));
    broker.finish();
}

#[test]
fn librdkafka_group_of_two_topics_and_a_pattern() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "sales-eu", 2, &[]);
    create_topic(&broker, "sales-us", 1, &[]);
    create_topic(&broker, "other", 1, &[]);
    let reader = Reader::subscribed(&broker, "pattern", &["^sales-.*"], &settings(&[]));
    poll_all(&[&reader], |_| covers(&[&reader], 3));
    let names: BTreeSet<String> = reader.assignment().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["sales-eu", "sales-us"]);
    drop(reader);
    broker.finish();
}

#[test]
fn librdkafka_group_notices_new_partitions() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "growing", 1, &[]);
    let options = settings(&[("topic.metadata.refresh.interval.ms", "500")]);
    let reader = Reader::subscribed(&broker, "growing", &["growing"], &options);
    poll_all(&[&reader], |_| covers(&[&reader], 1));
    crate::admin::grow(&broker, "growing", 3);
    poll_all(&[&reader], |_| covers(&[&reader], 3));
    drop(reader);
    broker.finish();
}

#[test]
fn librdkafka_group_list_describes_members() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "listed", 1, &[]);
    let reader = Reader::subscribed(&broker, "listed-group", &["listed"], &settings(&[("client.id", "me")]));
    poll_all(&[&reader], |_| covers(&[&reader], 1));
    let groups = reader.inner.fetch_group_list(Some("listed-group"), PATIENCE).unwrap();
    let group = &groups.groups()[0];
    assert_eq!((group.name(), group.state(), group.protocol_type()), ("listed-group", "Stable", "consumer"));
    assert_eq!(group.protocol(), "range");
    assert_eq!(group.members().len(), 1);
    assert_eq!(group.members()[0].client_id(), "me");
    let all = reader.inner.fetch_group_list(None, PATIENCE).unwrap();
    assert!(all.groups().iter().any(|g| g.name() == "listed-group"));
    drop(reader);
    broker.finish();
}
