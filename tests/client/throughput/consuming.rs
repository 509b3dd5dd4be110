//! Consumers: a topic that is full already, as quickly as they can.

use std::hint::black_box;
use std::time::Duration;

use corelog::client::admin::NewTopic;
use corelog::client::{Admin, AdminSettings, Consumer, ConsumerSettings, TopicPartition};
use corelog_clients::Broker;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::figures::{self, Figures, Pair, measured};
use crate::producing;
use crate::{SOCKETS, VALUE};

/// What both consumers are told; librdkafka would leave checksums alone. What a fetch brings is the default of both, 1 MiB of
/// a partition and 50 MiB in all.
pub const CONSUMER: [(&str, &str); 3] =
    [("check.crcs", "true"), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];

pub fn compare(broker: &Broker, records: usize, rounds: usize) {
    let bootstrap = broker.bootstrap();
    for partitions in [1, 16] {
        let topic = format!("full-{partitions}");
        fill(&bootstrap, &topic, partitions, records);
        let pairs: Vec<Pair> = (0..rounds)
            .map(|_| Pair {
                ours: round_of_ours(&bootstrap, &topic, partitions, records),
                theirs: round_of_theirs(&bootstrap, &topic, partitions, records),
            })
            .collect();
        figures::print(&format!("consume, {partitions} partitions"), &pairs);
    }
}

pub async fn make_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let settings = AdminSettings::builder().set("bootstrap.servers", bootstrap).build().expect("settings");
    let admin = Admin::new(settings).expect("an admin");
    let topic = NewTopic::new(topic).partitions(partitions).replication_factor(1);
    let made = admin.create_topics(&[topic]).await.expect("an answer");
    assert!(made.values().all(Result::is_ok), "{made:?}");
}

fn fill(bootstrap: &str, topic: &str, partitions: i32, records: usize) {
    let runtime = producing::runtime();
    let producer = producing::ours(&runtime, bootstrap, &[]);
    runtime.block_on(async {
        make_topic(bootstrap, topic, partitions).await;
        producing::fill(&producer, topic, records).await;
        producer.close(Duration::from_secs(10)).await.expect("closed");
    });
}

pub fn ours(bootstrap: &str, topic: &str, partitions: i32) -> Consumer {
    let settings = ConsumerSettings::builder().set("bootstrap.servers", bootstrap).set_all(SOCKETS);
    // Without a group there is nothing to commit, and the setting would be one too many.
    let settings = settings.set_all(CONSUMER.into_iter().filter(|(name, _)| *name != "enable.auto.commit"));
    let mut consumer = Consumer::new(settings.build().expect("settings")).expect("a consumer");
    consumer.assign((0..partitions).map(|index| TopicPartition::new(topic, index))).expect("assigned");
    consumer
}

fn round_of_ours(bootstrap: &str, topic: &str, partitions: i32, records: usize) -> Figures {
    let runtime = producing::runtime();
    measured(records, || {
        runtime.block_on(async {
            let mut consumer = ours(bootstrap, topic, partitions);
            let mut left = records;
            while left > 0 {
                let read = consumer.poll(Duration::from_secs(10)).await.expect("records");
                assert!(!read.is_empty(), "{left} records do not come");
                for record in &read {
                    let value = record.value.as_deref().expect("every record has a value");
                    assert_eq!(black_box(value).len(), VALUE.len());
                }
                left -= read.len();
            }
            consumer.close(Duration::from_secs(10)).await.expect("closed");
        });
    })
}

pub fn theirs(bootstrap: &str, topic: &str, partitions: i32) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "unused");
    for (name, value) in CONSUMER {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for index in 0..partitions {
        list.add_partition_offset(topic, index, Offset::Beginning).expect("a place to begin");
    }
    consumer.assign(&list).expect("assigned");
    consumer
}

fn round_of_theirs(bootstrap: &str, topic: &str, partitions: i32, records: usize) -> Figures {
    measured(records, || {
        let consumer = theirs(bootstrap, topic, partitions);
        for left in (0..records).rev() {
            let record = consumer.poll(Duration::from_secs(10));
            let record = record.unwrap_or_else(|| panic!("{left} records do not come")).expect("a record");
            let value = record.payload().expect("every record has a value");
            assert_eq!(black_box(value).len(), VALUE.len());
        }
    })
}
