//! Administration: topics, partitions, configs, records, groups.

use corelog_clients::Broker;
use corelog_clients::client::{
    Producer, Reader, Record, admin, admin_options, consume, create_topic, poll_all, produce, topics,
};
use futures_executor::block_on;
use rdkafka::admin::{
    AlterConfig, ConfigSource, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

/// Raises the topic's partition count.
pub fn grow(broker: &Broker, topic: &str, partitions: usize) {
    let result =
        block_on(admin(broker).create_partitions([&NewPartitions::new(topic, partitions)], &admin_options()));
    assert_eq!(result.unwrap(), [Ok(topic.to_owned())]);
}

fn config_of(
    broker: &Broker,
    resource: &ResourceSpecifier<'_>,
    name: &str,
) -> (Option<String>, ConfigSource) {
    let answer = block_on(admin(broker).describe_configs([resource], &admin_options())).unwrap();
    let resource = answer.into_iter().next().unwrap().unwrap();
    let entry = resource.get(name).unwrap_or_else(|| panic!("no config {name}"));
    (
        entry.value.clone(),
        match entry.source {
            ConfigSource::DynamicTopic => ConfigSource::DynamicTopic,
            ConfigSource::Default => ConfigSource::Default,
            ConfigSource::StaticBroker => ConfigSource::StaticBroker,
            _ => ConfigSource::Unknown,
        },
    )
}

#[test]
fn librdkafka_admin_creates_and_deletes_topics() {
    let broker = corelog_clients::options!().set("auto.create.topics.enable", "false").start();
    create_topic(&broker, "one", 1, &[]);
    create_topic(&broker, "five", 5, &[]);
    assert_eq!((topics(&broker).get("one"), topics(&broker).get("five")), (Some(&1), Some(&5)));
    let deleted = block_on(admin(&broker).delete_topics(&["one", "absent"], &admin_options())).unwrap();
    assert_eq!(deleted[0], Ok("one".to_owned()));
    assert_eq!(deleted[1], Err(("absent".to_owned(), RDKafkaErrorCode::UnknownTopicOrPartition)));
    assert_eq!(topics(&broker).get("one"), None);
    broker.finish();
}

#[test]
fn librdkafka_admin_refuses_bad_topics() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "taken", 1, &[]);
    let long = "x".repeat(250);
    let name_with =
        |name, partitions, replicas| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    for (topic, expected) in [
        (name_with("taken", 1, 1), RDKafkaErrorCode::TopicAlreadyExists),
        (name_with("bad name", 1, 1), RDKafkaErrorCode::InvalidTopic),
        (name_with(&long, 1, 1), RDKafkaErrorCode::InvalidTopic),
        (name_with("two-replicas", 1, 2), RDKafkaErrorCode::InvalidReplicationFactor),
        (name_with("bad-config", 1, 1).set("no.such.key", "1"), RDKafkaErrorCode::InvalidConfig),
        (name_with("bad-value", 1, 1).set("retention.ms", "soon"), RDKafkaErrorCode::InvalidConfig),
    ] {
        let result = block_on(admin(&broker).create_topics([&topic], &admin_options())).unwrap();
        let code = result[0].as_ref().unwrap_err().1;
        assert_eq!(code, expected, "{:?}", result[0]);
    }
    let partitions =
        block_on(admin(&broker).create_partitions([&NewPartitions::new("taken", 1)], &admin_options()));
    assert_eq!(partitions.unwrap()[0].as_ref().unwrap_err().1, RDKafkaErrorCode::InvalidPartitions);
    broker.finish();
}

#[test]
fn librdkafka_admin_validates_without_creating() {
    let broker = corelog_clients::options!().start();
    let topic = NewTopic::new("dry", 3, TopicReplication::Fixed(1));
    let options = admin_options().validate_only(true);
    let result = block_on(admin(&broker).create_topics([&topic], &options)).unwrap();
    assert_eq!(result, [Ok("dry".to_owned())]);
    assert_eq!(topics(&broker).get("dry"), None);
    broker.finish();
}

#[test]
fn librdkafka_admin_raises_partition_count() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "grow", 1, &[]);
    produce(&broker, "grow", ["old"]);
    grow(&broker, "grow", 4);
    assert_eq!(topics(&broker).get("grow"), Some(&4));
    let mut producer = Producer::new(&broker, &[]);
    producer.send(&Record::new("grow", "new").partition(3));
    assert_eq!(producer.flush_ok(), [(3, 0)]);
    assert_eq!(consume(&broker, "grow", 0, 1)[0].text(), "old");
    assert_eq!(consume(&broker, "grow", 3, 1)[0].text(), "new");
    broker.finish();
}

#[test]
fn librdkafka_admin_describes_and_alters_topic_configs() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "tuned", 1, &[("retention.ms", "3600000")]);
    let tuned = ResourceSpecifier::Topic("tuned");
    let value = |name: &str| config_of(&broker, &tuned, name);
    assert_eq!(value("retention.ms"), (Some("3600000".to_owned()), ConfigSource::DynamicTopic));
    assert_eq!(value("cleanup.policy").0.as_deref(), Some("delete"));
    let change = AlterConfig::new(tuned).set("retention.ms", "7200000").set("max.message.bytes", "2000");
    let altered = block_on(admin(&broker).alter_configs([&change], &admin_options())).unwrap();
    assert_eq!(altered, [Ok(OwnedResourceSpecifier::Topic("tuned".to_owned()))]);
    assert_eq!(value("retention.ms"), (Some("7200000".to_owned()), ConfigSource::DynamicTopic));
    // The change holds on the live topic.
    let mut producer = Producer::new(&broker, &[]);
    producer.send(&Record::new("tuned", &"x".repeat(5000)));
    assert_eq!(producer.flush()[0].error, Some(RDKafkaErrorCode::MessageSizeTooLarge));
    let bad = AlterConfig::new(ResourceSpecifier::Topic("tuned")).set("retention.ms", "never");
    // The crate drops the error that a resource is answered with; that nothing changed shows it.
    block_on(admin(&broker).alter_configs([&bad], &admin_options())).unwrap().remove(0).unwrap();
    assert_eq!(value("retention.ms").0.as_deref(), Some("7200000"));
    broker.finish();
}

#[test]
fn librdkafka_admin_describes_broker_configs() {
    let broker = corelog_clients::options!().set("num.partitions", "3").start();
    let metadata = admin(&broker).inner().fetch_metadata(None, corelog_clients::client::PATIENCE).unwrap();
    let id = metadata.brokers()[0].id();
    let (value, _) = config_of(&broker, &ResourceSpecifier::Broker(id), "num.partitions");
    assert_eq!(value.as_deref(), Some("3"));
    broker.finish();
}

#[test]
fn librdkafka_admin_deletes_records_below_an_offset() {
    let mut broker = corelog_clients::options!().start();
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    produce(&broker, "shrink", values.iter().map(String::as_str));
    let delete = |broker: &Broker, offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("shrink", 0, offset).unwrap();
        let answer = block_on(admin(broker).delete_records(&list, &admin_options())).unwrap();
        let element = &answer.elements()[0];
        element.error().map(|()| element.offset()).map_err(|cause| cause.rdkafka_error_code())
    };
    assert_eq!(delete(&broker, Offset::Offset(40)), Ok(Offset::Offset(40)));
    assert_eq!(delete(&broker, Offset::Offset(101)), Err(Some(RDKafkaErrorCode::OffsetOutOfRange)));
    assert_eq!(Reader::assigned(&broker, &[], &[]).watermarks("shrink", 0), (40, 100));
    assert_eq!(consume(&broker, "shrink", 0, 60)[0].text(), "40");
    broker.restart();
    assert_eq!(Reader::assigned(&broker, &[], &[]).watermarks("shrink", 0), (40, 100));
    assert_eq!(delete(&broker, Offset::End), Ok(Offset::Offset(100)));
    assert_eq!(Reader::assigned(&broker, &[], &[]).watermarks("shrink", 0), (100, 100));
    broker.finish();
}

#[test]
fn librdkafka_admin_deletes_groups() {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, "grouped", 1, &[]);
    let member = Reader::subscribed(&broker, "doomed", &["grouped"], &[]);
    poll_all(&[&member], |_| member.assignment().len() == 1);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("grouped", 0, Offset::Offset(0)).unwrap();
    member.inner.commit(&list, CommitMode::Sync).unwrap();
    let delete =
        |name: &str| block_on(admin(&broker).delete_groups(&[name], &admin_options())).unwrap().remove(0);
    assert_eq!(delete("doomed").unwrap_err().1, RDKafkaErrorCode::NonEmptyGroup);
    drop(member);
    assert_eq!(delete("doomed"), Ok("doomed".to_owned()));
    assert_eq!(delete("doomed").unwrap_err().1, RDKafkaErrorCode::GroupIdNotFound);
    assert_eq!(Reader::outside(&broker, "doomed").committed("grouped", 1), [None]);
    broker.finish();
}

#[test]
fn librdkafka_admin_recreated_topic_starts_empty() {
    let broker = corelog_clients::options!().start();
    for round in 0..3 {
        create_topic(&broker, "again", 2, &[]);
        let mut producer = Producer::new(&broker, &[]);
        producer.send(&Record::new("again", &round.to_string()).partition(1));
        assert_eq!(producer.flush_ok(), [(1, 0)], "round {round}");
        assert_eq!(consume(&broker, "again", 1, 1)[0].text(), round.to_string());
        let deleted = block_on(admin(&broker).delete_topics(&["again"], &admin_options())).unwrap();
        assert_eq!(deleted, [Ok("again".to_owned())]);
    }
    broker.finish();
}
