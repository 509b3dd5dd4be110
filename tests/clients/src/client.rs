//! librdkafka with the settings and the waiting that every test needs.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use crate::Broker;

/// Longer than any answer takes on a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A client configuration for the broker, with quick reconnects.
pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "200");
    config.set("broker.address.family", "v4");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

// Producers.

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The number that `Producer::send` returned.
    pub sequence: u64,
    pub partition: i32,
    /// Absent when the broker had the record already and librdkafka does not know where.
    pub offset: Option<i64>,
    pub error: Option<RDKafkaErrorCode>,
}

#[derive(Debug, Default)]
pub struct Deliveries(Mutex<Vec<Delivery>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: Box<u64>) {
        let (message, error) = match result {
            Ok(message) => (message, None),
            Err((cause, message)) => (message, cause.rdkafka_error_code()),
        };
        let offset = (message.offset() >= 0).then_some(message.offset());
        let delivery = Delivery { sequence: *sequence, partition: message.partition(), offset, error };
        self.0.lock().expect("no holder panics").push(delivery);
    }
}

/// A record to send. Everything is optional but the topic.
#[derive(Debug, Default, Clone)]
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: Option<i64>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl<'a> Record<'a> {
    pub fn new(topic: &'a str, value: &'a str) -> Self {
        Self { topic, value: Some(value.as_bytes()), ..Self::default() }
    }

    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A producer that keeps every delivery report.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    sent: u64,
}

impl Producer {
    pub fn new(broker: &Broker, settings: &[(&str, &str)]) -> Self {
        Self::at(&broker.bootstrap(), settings)
    }

    pub fn at(bootstrap: &str, settings: &[(&str, &str)]) -> Self {
        let inner =
            BaseProducer::from_config_and_context(&config(bootstrap, settings), Deliveries::default());
        Self { inner: inner.expect("a valid producer configuration"), sent: 0 }
    }

    /// Hands the record to librdkafka and returns its number, which counts up from 0.
    pub fn send(&mut self, record: &Record<'_>) -> u64 {
        self.try_send(record).unwrap_or_else(|cause| panic!("send to {}: {cause}", record.topic))
    }

    /// Errors: the local queue is full, or the producer is dead.
    pub fn try_send(&mut self, record: &Record<'_>) -> Result<u64, KafkaError> {
        let sequence = self.sent;
        let mut message: BaseRecord<'_, [u8], [u8], Box<u64>> =
            BaseRecord::with_opaque_to(record.topic, Box::new(sequence));
        message.partition = record.partition;
        message.key = record.key;
        message.payload = record.value;
        message.timestamp = record.timestamp;
        if !record.headers.is_empty() {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(rdkafka::message::Header { key, value: *value })
            });
            message = message.headers(headers);
        }
        self.inner.send(message).map_err(|(cause, _)| cause)?;
        self.sent += 1;
        Ok(sequence)
    }

    /// Serves the delivery reports that are due and returns all that came since the last call.
    pub fn poll(&self, wait: Duration) -> Vec<Delivery> {
        self.inner.poll(wait);
        std::mem::take(&mut self.inner.context().0.lock().expect("no holder panics"))
    }

    /// Waits for every record that is under way and returns the reports, ordered by number.
    pub fn flush(&self) -> Vec<Delivery> {
        self.inner.flush(PATIENCE).unwrap_or_else(|cause| panic!("flush: {cause}"));
        let mut deliveries = self.poll(Duration::ZERO);
        deliveries.sort_by_key(|d| d.sequence);
        deliveries
    }

    /// As `flush`, and every record must have been accepted. Returns (partition, offset) by number.
    pub fn flush_ok(&self) -> Vec<(i32, i64)> {
        let place = |d: Delivery| {
            assert_eq!(d.error, None, "record {} was not accepted", d.sequence);
            (d.partition, d.offset.expect("an accepted record has an offset"))
        };
        self.flush().into_iter().map(place).collect()
    }

    pub fn in_flight(&self) -> i32 {
        self.inner.in_flight_count()
    }

    /// Why the producer is dead, if it is.
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }
}

/// Sends the values with default settings; returns (partition, offset) of each.
pub fn produce<'a>(
    broker: &Broker,
    topic: &str,
    values: impl IntoIterator<Item = &'a str>,
) -> Vec<(i32, i64)> {
    let mut producer = Producer::new(broker, &[]);
    for value in values {
        producer.send(&Record::new(topic, value));
    }
    producer.flush_ok()
}

// Consumers.

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: Timestamp,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|h| {
            h.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp(),
            headers: headers.unwrap_or_default(),
        }
    }

    /// The value as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().expect("a value")).expect("text")
    }

    pub fn place(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }
}

/// Counts what a group member lived through.
#[derive(Debug, Default)]
pub struct Rebalances(Mutex<Vec<String>>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.0.lock().expect("no holder panics").push(match rebalance {
            Rebalance::Assign(list) => format!("assign {}", list.count()),
            Rebalance::Revoke(list) => format!("revoke {}", list.count()),
            Rebalance::Error(cause) => format!("error {cause}"),
        });
    }
}

/// A consumer whose reads panic on any error but the end of a partition.
pub struct Reader {
    pub inner: BaseConsumer<Rebalances>,
}

impl Reader {
    fn create(broker: &Broker, settings: &[(&str, &str)]) -> Self {
        // A consumer needs a group name even if it never uses the group.
        let mut config =
            config(&broker.bootstrap(), &[("group.id", "unused"), ("auto.offset.reset", "earliest")]);
        config.set("enable.auto.commit", "false");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let inner = BaseConsumer::from_config_and_context(&config, Rebalances::default());
        Self { inner: inner.expect("a valid consumer configuration") }
    }

    /// Reads partitions of its own choice from the given offsets on.
    pub fn assigned(broker: &Broker, from: &[(&str, i32, Offset)], settings: &[(&str, &str)]) -> Self {
        let reader = Self::create(broker, settings);
        reader.assign(from);
        reader
    }

    pub fn assign(&self, from: &[(&str, i32, Offset)]) {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in from {
            list.add_partition_offset(topic, *partition, *offset).expect("a valid offset");
        }
        self.inner.assign(&list).expect("assign");
    }

    /// Asks about a group without being in it.
    pub fn outside(broker: &Broker, group: &str) -> Self {
        Self::create(broker, &[("group.id", group)])
    }

    /// A member of a group.
    pub fn subscribed(broker: &Broker, group: &str, topics: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("group.id", group)];
        all.extend_from_slice(settings);
        let reader = Self::create(broker, &all);
        reader.inner.subscribe(topics).expect("subscribe");
        reader
    }

    pub fn poll(&self, wait: Duration) -> Option<Received> {
        match self.inner.poll(wait)? {
            Ok(message) => Some(Received::new(&message)),
            Err(KafkaError::PartitionEOF(_)) => None,
            // Only told, not an end: librdkafka goes on connecting.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => None,
            Err(cause) => panic!("poll: {cause}"),
        }
    }

    /// Waits for exactly `count` records.
    pub fn read(&self, count: usize) -> Vec<Received> {
        let deadline = Instant::now() + PATIENCE;
        let mut received = Vec::new();
        while received.len() < count {
            assert!(Instant::now() < deadline, "read {} of {count} records", received.len());
            received.extend(self.poll(POLL));
        }
        received
    }

    /// Waits for the error that the next poll ends with.
    pub fn read_error(&self) -> KafkaError {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no error came");
            if let Some(Err(cause)) = self.inner.poll(POLL) {
                return cause;
            }
        }
    }

    /// The assigned partitions, sorted.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        let list = self.inner.assignment().expect("an assignment");
        let mut partitions: Vec<_> =
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        partitions.sort();
        partitions
    }

    /// What this member lived through so far: `assign N`, `revoke N`.
    pub fn rebalances(&self) -> Vec<String> {
        self.inner.context().0.lock().expect("no holder panics").clone()
    }

    /// (low, high) watermark as the broker answers now.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.inner.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks")
    }

    /// The group's committed offsets of a topic's partitions, absent where none is.
    pub fn committed(&self, topic: &str, partitions: i32) -> Vec<Option<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = self.inner.committed_offsets(list, PATIENCE).expect("committed offsets");
        committed
            .elements()
            .iter()
            .map(|e| match e.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            })
            .collect()
    }
}

/// Reads a topic's partition from its start, `count` records.
pub fn consume(broker: &Broker, topic: &str, partition: i32, count: usize) -> Vec<Received> {
    Reader::assigned(broker, &[(topic, partition, Offset::Beginning)], &[]).read(count)
}

/// Polls all members in turn until `done`; returns what they received, by member.
pub fn poll_all(members: &[&Reader], mut done: impl FnMut(&[Vec<Received>]) -> bool) -> Vec<Vec<Received>> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = vec![Vec::new(); members.len()];
    while !done(&received) {
        assert!(
            Instant::now() < deadline,
            "the group did not get there; assignments {:?}, rebalances {:?}",
            members.iter().map(|m| m.assignment()).collect::<Vec<_>>(),
            members.iter().map(|m| m.rebalances()).collect::<Vec<_>>()
        );
        for (member, received) in members.iter().zip(&mut received) {
            received.extend(member.poll(POLL));
        }
    }
    received
}

// Administration.

pub type Admin = AdminClient<DefaultClientContext>;

pub fn admin(broker: &Broker) -> Admin {
    AdminClient::from_config(&config(&broker.bootstrap(), &[])).expect("a valid client configuration")
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Creates a topic and returns once the broker said so.
pub fn create_topic(broker: &Broker, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let created = futures_executor::block_on(admin(broker).create_topics([&topic], &admin_options()));
    assert_eq!(created.expect("an answer"), [Ok(name.to_owned())]);
}

/// Replaces what is set for a topic and returns once the broker said so.
pub fn configure_topic(broker: &Broker, name: &str, configs: &[(&str, &str)]) {
    let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
    for (key, value) in configs {
        change = change.set(key, value);
    }
    let altered = futures_executor::block_on(admin(broker).alter_configs([&change], &admin_options()));
    assert!(altered.expect("an answer").iter().all(Result::is_ok), "{name} takes {configs:?}");
}

/// Partition counts by topic, as the metadata has them now.
pub fn topics(broker: &Broker) -> BTreeMap<String, usize> {
    let metadata = admin(broker).inner().fetch_metadata(None, PATIENCE).expect("metadata");
    metadata.topics().iter().map(|t| (t.name().to_owned(), t.partitions().len())).collect()
}
