//! What the admin client tells, and what it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use corelog::client::admin::{
    Admin, AdminSettings, ConfigChange, ConfigResource, ConfigSource, IsolationLevel, NewTopic, OffsetSpec,
    ResetTo,
};
use corelog::client::{ClientError, Producer, ProducerRecord, TopicPartition};
use corelog::model::TopicName;
use corelog::protocol::ErrorCode;

use crate::fixture::{Target, run, settings};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn admin(target: &Target) -> Admin {
    let settings = AdminSettings::builder().set("bootstrap.servers", target.bootstrap());
    Admin::new(settings.set("default.api.timeout.ms", 30_000).build().unwrap()).unwrap()
}

/// Values `0..count`, one millisecond apart from 1,000 on.
pub async fn fill(target: &Target, topic: &str, partition: i32, count: usize) {
    let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
    let mut deliveries = Vec::new();
    for n in 0..count {
        let text = n.to_string();
        let record = ProducerRecord::to(topic).value(text.as_bytes()).partition(partition);
        deliveries.push(producer.enqueue(record.timestamp(1_000 + n as i64)).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

fn name(what: &str) -> String {
    format!("admin-{what}-{}", std::process::id())
}

#[test]
fn topics_are_created_described_extended_and_deleted_each_with_its_own_result() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let good = name("good");
        let topics = [
            NewTopic::new(&good).partitions(2).replication_factor(1).config("retention.ms", "86400000"),
            NewTopic::new("no/name"),
        ];
        let validated = admin.validate_topics(&topics).await.unwrap();
        assert_eq!(validated[good.as_str()].as_ref().unwrap().partition_count, Some(2));
        assert!(admin.list_topics().await.unwrap().iter().all(|topic| *topic.name != *good));

        let created = admin.create_topics(&topics).await.unwrap();
        assert_eq!(created[good.as_str()].as_ref().unwrap().partition_count, Some(2));
        let error = created["no/name"].as_ref().unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::InvalidTopicException));
        assert!(matches!(error, ClientError::Abortable(_)));
        let again = admin.create_topics(&topics[..1]).await.unwrap();
        assert_eq!(
            again[good.as_str()].as_ref().unwrap_err().error_code(),
            Some(ErrorCode::TopicAlreadyExists)
        );

        let more = BTreeMap::from([(TopicName::from(good.as_str()), 5)]);
        admin.create_partitions(&more).await.unwrap()[good.as_str()].as_ref().unwrap();
        let fewer = BTreeMap::from([(TopicName::from(good.as_str()), 1)]);
        let refused = admin.create_partitions(&fewer).await.unwrap();
        assert_eq!(
            refused[good.as_str()].as_ref().unwrap_err().error_code(),
            Some(ErrorCode::InvalidPartitions)
        );
        let described = loop {
            let described = admin.describe_topics(&[&good, "nobody"]).await.unwrap();
            // Kafka's brokers hear of it a moment after the controller has answered.
            if described[good.as_str()].as_ref().is_ok_and(|topic| topic.partitions.len() != 2) {
                break described;
            }
        };
        let topic = described[good.as_str()].as_ref().unwrap();
        assert_eq!(topic.partitions.len(), 5);
        assert!(topic.partitions.iter().all(|partition| partition.leader.is_some()));
        assert!(described["nobody"].as_ref().unwrap_err().is_retriable());
        assert!(admin.list_topics().await.unwrap().iter().all(|topic| *topic.name != *"nobody"));

        let deleted = admin.delete_topics(&[&good, "nobody"]).await.unwrap();
        deleted[good.as_str()].as_ref().unwrap();
        assert_eq!(
            deleted["nobody"].as_ref().unwrap_err().error_code(),
            Some(ErrorCode::UnknownTopicOrPartition)
        );
        target.finish();
    });
}

#[test]
fn settings_are_told_with_their_source_and_changed_one_by_one() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let topic = target.topic(1).await;
        let resource = ConfigResource::topic(topic.as_str());
        let change = async |changes: Vec<ConfigChange>| {
            let changes = BTreeMap::from([(resource.clone(), changes)]);
            admin.alter_configs(&changes).await.unwrap().remove(&resource).unwrap()
        };
        let entry = async |name: &str| {
            let described = admin.describe_configs(std::slice::from_ref(&resource)).await.unwrap();
            let entries = described[&resource].as_ref().unwrap();
            entries.iter().find(|entry| entry.name == name).unwrap().clone()
        };
        assert_ne!(entry("retention.ms").await.source, ConfigSource::Topic);
        let bad = BTreeMap::from([(resource.clone(), vec![ConfigChange::set("retention.ms", "soon")])]);
        let refused = admin.validate_configs(&bad).await.unwrap().remove(&resource).unwrap().unwrap_err();
        assert_eq!(refused.error_code(), Some(ErrorCode::InvalidConfig));
        change(vec![ConfigChange::set("retention.ms", 1234)]).await.unwrap();
        // Kafka's brokers hear of it a moment after the controller has answered; that it never comes ends the test, too.
        let told = async |is_set: bool| loop {
            let told = entry("retention.ms").await;
            if (told.source == ConfigSource::Topic) == is_set {
                break told.value;
            }
        };
        assert_eq!(told(true).await.as_deref(), Some("1234"));
        change(vec![ConfigChange::delete("retention.ms")]).await.unwrap();
        assert_ne!(told(false).await.as_deref(), Some("1234"));
        let described = admin.describe_cluster().await.unwrap();
        let broker = ConfigResource::Broker(described.nodes[0].id);
        let brokers = admin.describe_configs(std::slice::from_ref(&broker)).await.unwrap();
        assert!(brokers[&broker].as_ref().unwrap().iter().any(|entry| entry.name == "num.partitions"));
        target.finish();
    });
}

#[test]
fn offsets_are_found_by_name_and_time_and_records_deleted_below_one() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let topic = target.topic(2).await;
        fill(&target, &topic, 0, 10).await;
        let partition = TopicPartition::new(topic.as_str(), 0);
        let offset = async |spec| {
            let wanted = BTreeMap::from([(partition.clone(), spec)]);
            let found = admin.list_offsets(&wanted, IsolationLevel::ReadCommitted).await;
            found[&partition].clone().unwrap().map(|found| found.offset)
        };
        assert_eq!(offset(OffsetSpec::Earliest).await, Some(0));
        assert_eq!(offset(OffsetSpec::Latest).await, Some(10));
        assert_eq!(offset(OffsetSpec::At(1_004)).await, Some(4));
        assert_eq!(offset(OffsetSpec::At(2_000)).await, None);
        assert_eq!(offset(OffsetSpec::MaxTimestamp).await, Some(9));
        let deleted = admin.delete_records(&BTreeMap::from([(partition.clone(), 3)])).await;
        assert_eq!(deleted[&partition].clone().unwrap(), 3);
        assert_eq!(offset(OffsetSpec::Earliest).await, Some(3));
        let beyond = admin.delete_records(&BTreeMap::from([(partition.clone(), 99)])).await;
        let error = beyond[&partition].clone().unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::OffsetOutOfRange));
        let nowhere = TopicPartition::new(topic.as_str(), 9);
        let wanted = BTreeMap::from([(nowhere.clone(), OffsetSpec::Latest)]);
        let found = admin.list_offsets(&wanted, IsolationLevel::ReadUncommitted).await;
        assert!(matches!(found[&nowhere], Err(ClientError::Abortable(_))), "{found:?}");
        target.finish();
    });
}

#[test]
fn a_reset_is_planned_first_and_then_done() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let topic = target.topic(2).await;
        fill(&target, &topic, 0, 10).await;
        let group = name("group");
        let plan = async |to| {
            let planned = admin.plan_reset(&group, &[&topic], to).await.unwrap();
            planned.iter().map(|reset| (reset.from, reset.to)).collect::<Vec<_>>()
        };
        assert_eq!(plan(ResetTo::Latest).await, [(None, 10), (None, 0)]);
        assert!(admin.group_offsets(&group).await.unwrap().is_empty());
        let planned = admin.plan_reset(&group, &[&topic], ResetTo::Timestamp(1_006)).await.unwrap();
        for result in admin.reset_offsets(&group, &planned).await.unwrap().into_values() {
            result.unwrap();
        }
        assert_eq!(plan(ResetTo::ShiftBy(-2)).await, [(Some(6), 4), (Some(0), 0)]);
        assert_eq!(plan(ResetTo::ShiftBy(100)).await, [(Some(6), 10), (Some(0), 0)]);
        assert_eq!(plan(ResetTo::Offset(7)).await, [(Some(6), 7), (Some(0), 0)]);
        let lag: Vec<_> = admin.group_lag(&group).await.unwrap().iter().map(|row| row.lag).collect();
        assert_eq!(lag, [Some(4), Some(0)]);
        let listed = admin.list_groups().await.unwrap();
        assert!(listed.groups.iter().any(|listing| listing.id == group), "{listed:?}");

        let partition = TopicPartition::new(topic.as_str(), 1);
        let deleted = admin.delete_group_offsets(&group, std::slice::from_ref(&partition)).await.unwrap();
        deleted[&partition].clone().unwrap();
        assert_eq!(admin.group_offsets(&group).await.unwrap().len(), 1);
        admin.delete_groups(&[&group]).await[&group].clone().unwrap();
        assert!(admin.group_offsets(&group).await.unwrap().is_empty());
        let error = admin.delete_groups(&[&group]).await[&group].clone().unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::GroupIdNotFound));
        target.finish();
    });
}

#[test]
fn log_directories_have_their_replicas() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let topic = target.topic(2).await;
        fill(&target, &topic, 1, 100).await;
        let found = admin.describe_log_dirs(None).await.unwrap();
        let replicas: Vec<_> = found
            .values()
            .flat_map(|dirs| dirs.as_ref().unwrap())
            .inspect(|dir| assert!(dir.failure.is_none(), "{dir:?}"))
            .flat_map(|dir| &dir.replicas)
            .filter(|replica| *replica.partition.topic == *topic)
            .collect();
        assert!(replicas.iter().any(|replica| replica.partition.partition == 1 && replica.size_bytes > 100));
        target.finish();
    });
}

#[test]
fn a_call_that_nobody_answers_ends_with_its_time() {
    run(async {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let settings = AdminSettings::builder()
            .set("bootstrap.servers", format!("127.0.0.1:{port}"))
            .set("request.timeout.ms", 200)
            .set("default.api.timeout.ms", 500)
            .build()
            .unwrap();
        let error = Admin::new(settings).unwrap().describe_cluster().await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(error.to_string().contains("500 ms; the last failure was: no broker"), "{error}");
    });
}
