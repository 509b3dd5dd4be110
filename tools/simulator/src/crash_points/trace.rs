//! The run that is stopped at every point: one node, several producers, topics of each durability, and administration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelog::config::Config;
use corelog::model::{LeaderEpoch, Monotonic, ProducerEpoch, ProducerId, Uuid};
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use corelog::protocol::messages::delete_topics::{
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use corelog::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{ApiKey, Message, Request, decode_response_header};
use corelog::reactor::sim::{CrashKind, SimMoment, SimOptions, SimRandom, SimWorld, Turn};
use corelog::record::record::Records;
use corelog::record::{BatchBuilder, Batches, ProducerStamp};

use super::promises::{Event, History, Place};
use crate::client::{Answer, Connection};
use crate::ledger::Value;
use crate::node::Node;

const PRODUCERS: usize = 4;
const IN_FLIGHT_MAX: usize = 5;

/// Virtual time in which anything asked for must have been answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of the trace.
struct Topic {
    name: &'static str,
    partitions: i32,
    settings: &'static [(&'static str, &'static str)],
    /// Bytes of the largest value.
    value_bytes_max: u64,
    /// How often it is written to.
    share: u64,
}

const TOPICS: [Topic; 5] = [
    Topic {
        name: "flushed",
        partitions: 3,
        settings: &[("durability", "fsync"), ("internal.segment.bytes", "3000")],
        value_bytes_max: 300,
        share: 10,
    },
    Topic {
        name: "os",
        partitions: 1,
        settings: &[("durability", "os"), ("internal.segment.bytes", "3000")],
        value_bytes_max: 300,
        share: 3,
    },
    Topic {
        name: "switched",
        partitions: 2,
        settings: &[("durability", "fsync"), ("internal.segment.bytes", "5000")],
        value_bytes_max: 300,
        share: 4,
    },
    Topic {
        name: "large",
        partitions: 1,
        settings: &[("durability", "fsync"), ("internal.segment.bytes", "40000")],
        value_bytes_max: 6_000,
        share: 5,
    },
    Topic {
        name: "d",
        partitions: 1,
        settings: &[("durability", "fsync"), ("internal.segment.bytes", "3000")],
        value_bytes_max: 300,
        share: 2,
    },
];

const SWITCHED: usize = 2;
const REMADE: usize = 4;

/// A moment of the machine, and how many events came before the next one.
pub struct Point {
    pub moment: SimMoment,
    pub events: usize,
}

struct Batch {
    topic: usize,
    place: Place,
    values: Vec<Value>,
}

#[derive(Default)]
struct Producer {
    connection: Option<Connection>,
    id: Option<(i64, i16)>,
    in_flight: BTreeMap<i32, Batch>,
    sequences: BTreeMap<Place, i32>,
}

pub struct Trace {
    pub points: Vec<Point>,
    pub history: History,
    /// Operations of clients by name.
    pub operations: BTreeMap<&'static str, u64>,
    world: SimWorld,
    config: Arc<Config>,
    node: Option<Node>,
    random: SimRandom,
    producers: Vec<Producer>,
    admin: Option<Connection>,
    admin_answers: Vec<Answer>,
    topic_ids: Vec<Uuid>,
    durability: &'static str,
    /// Write paths that this build offers.
    paths: Vec<&'static str>,
    numbers: BTreeMap<Place, u64>,
    starts: u64,
}

impl Trace {
    /// Plays `operations` operations of clients and keeps every moment of the disk.
    pub fn play(
        seed: u64,
        options: SimOptions,
        config: &Arc<Config>,
        paths: Vec<&'static str>,
        operations: u64,
    ) -> Trace {
        let mut trace = Trace {
            points: Vec::new(),
            history: History::default(),
            operations: BTreeMap::new(),
            world: SimWorld::new(seed, options),
            config: Arc::clone(config),
            node: None,
            random: SimRandom::new(seed, 300),
            producers: (0..PRODUCERS).map(|_| Producer::default()).collect(),
            admin: None,
            admin_answers: Vec::new(),
            topic_ids: Vec::new(),
            durability: "fsync",
            paths,
            numbers: BTreeMap::new(),
            starts: 0,
        };
        trace.world.keep_moments();
        trace.start();
        for topic in 0..TOPICS.len() {
            let id = trace.create(topic);
            trace.topic_ids.push(id);
        }
        for _ in 0..operations {
            trace.step();
        }
        trace.settle();
        trace.stop();
        trace.collect();
        let events = trace.history.events.len();
        trace.points.last_mut().expect("the trace touches the disk").events = events;
        trace
    }

    fn step(&mut self) {
        let name = match self.random.below(1000) {
            0..780 => self.produce(),
            780..880 => self.fetch(),
            880..930 => self.delete_records(),
            930..950 => self.switch(),
            950..965 => self.remake(),
            965..975 => {
                self.settle();
                self.stop();
                self.start();
                "clean stop and start"
            }
            975..990 => {
                let pause = Duration::from_millis(self.random.between(1, 30));
                self.run(self.world.now() + pause, |_| false);
                "pause"
            }
            _ => {
                self.settle();
                "settle"
            }
        };
        *self.operations.entry(name).or_default() += 1;
    }

    // Running.

    /// Takes the moments that have passed. All but the last are over: what is known now was known in them.
    fn collect(&mut self) {
        let events = self.history.events.len();
        let moments = self.world.take_moments();
        if moments.is_empty() {
            return;
        }
        if let Some(open) = self.points.last_mut() {
            open.events = events;
        }
        self.points.extend(moments.into_iter().map(|moment| Point { moment, events }));
    }

    /// Runs node and clients until `is_done`, at most until then. False: it did not come to that.
    fn run(&mut self, until: Monotonic, mut is_done: impl FnMut(&mut Trace) -> bool) -> bool {
        while !is_done(self) {
            let turn = self.world.next_turn(until);
            self.collect();
            match turn {
                Turn::Shard(shard) => {
                    let node = self.node.as_mut().expect("only a running node gets turns");
                    node.turn(shard);
                    assert!(!node.failed, "the disk of the trace has no faults");
                }
                Turn::Client(_) => self.take_answers(),
                Turn::Crashed => panic!("nothing stops the machine of the trace"),
                Turn::Idle if self.world.now() >= until => return false,
                Turn::Idle => {}
            }
        }
        true
    }

    fn wait(&mut self, what: &str, is_done: impl FnMut(&mut Trace) -> bool) {
        let until = self.world.now() + PATIENCE;
        assert!(self.run(until, is_done), "no answer to {what}");
    }

    /// Everything sent has been answered.
    fn settle(&mut self) {
        self.wait("batches in flight", |trace| trace.producers.iter().all(|p| p.in_flight.is_empty()));
    }

    fn start(&mut self) {
        self.starts += 1;
        let node = Node::start(&self.world, &self.config, 1, self.starts);
        self.collect();
        self.node =
            Some(node.unwrap_or_else(|error| panic!("the node of the trace does not start: {error}")));
        self.admin = None;
        for producer in &mut self.producers {
            producer.connection = None;
        }
    }

    fn stop(&mut self) {
        self.node.as_mut().expect("it runs").stop();
        self.wait("a clean stop", |trace| trace.node.as_ref().is_some_and(Node::has_stopped));
        // Only once the last shard has closed its files: not at any moment of that.
        self.collect();
        self.history.events.push(Event::Stopped);
        let node = self.node.take().expect("it has stopped");
        node.mark_clean(&self.world);
        self.collect();
        self.world.crash(CrashKind::ProcessKill);
        self.world.restart();
    }

    // Clients.

    fn take_answers(&mut self) {
        if let Some(admin) = &mut self.admin {
            // A connection ends with its node.
            self.admin_answers.extend(admin.answers(&self.world).unwrap_or_default());
        }
        for place in 0..PRODUCERS {
            let Some(connection) = &mut self.producers[place].connection else { continue };
            for answer in connection.answers(&self.world).unwrap_or_default() {
                self.take_produced(place, &answer);
            }
        }
    }

    fn take_produced(&mut self, producer: usize, answer: &Answer) {
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let producer = &mut self.producers[producer];
        if answer.api == ApiKey::InitProducerId {
            let response = InitProducerIdResponse::decode(&mut body, answer.version).expect("a body");
            assert_eq!(response.error_code, 0, "a producer id");
            producer.id = Some((response.producer_id, response.producer_epoch));
            return;
        }
        let response = ProduceResponse::decode(&mut body, answer.version).expect("a body");
        let batch =
            producer.in_flight.remove(&answer.correlation_id).expect("an answer to a batch in flight");
        let part = response.responses.first().and_then(|t| t.partition_responses.first()).expect("one part");
        assert_eq!(part.error_code, 0, "a batch to {} is refused", TOPICS[batch.topic].name);
        let end = part.base_offset + batch.values.len() as i64;
        for (offset, value) in (part.base_offset..).zip(batch.values) {
            self.history.note(batch.place, offset, value);
        }
        self.history.acknowledged += 1;
        let survives_power = self.survives_power(batch.topic);
        self.history.events.push(Event::Told { place: batch.place, end, survives_power });
    }

    fn survives_power(&self, topic: usize) -> bool {
        match topic {
            SWITCHED => self.durability == "fsync",
            _ => TOPICS[topic].settings.contains(&("durability", "fsync")),
        }
    }

    fn pick_topic(&mut self) -> usize {
        let mut left = self.random.below(TOPICS.iter().map(|topic| topic.share).sum());
        TOPICS
            .iter()
            .position(|topic| left.checked_sub(topic.share).map(|rest| left = rest).is_none())
            .expect("shares")
    }

    fn pick_place(&mut self, topic: usize) -> Place {
        (self.topic_ids[topic], self.random.below(TOPICS[topic].partitions as u64) as i32)
    }

    fn port(&self) -> u16 {
        self.node.as_ref().expect("it runs").port
    }

    fn produce(&mut self) -> &'static str {
        let number = self.random.below(PRODUCERS as u64) as usize;
        let topic = self.pick_topic();
        let place = self.pick_place(topic);
        if self.producers[number].connection.is_none() {
            self.producers[number].connection = Some(Connection::open(&self.world, self.port()));
        }
        // The first two are idempotent.
        if number < 2 && self.producers[number].id.is_none() {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: 60_000,
                ..Default::default()
            };
            let connection = self.producers[number].connection.as_mut().expect("opened above");
            connection.ask(&self.world, &request, ApiKey::InitProducerId, 4);
            self.wait("a producer id", |trace| trace.producers[number].id.is_some());
        }
        self.wait("a batch of five", |trace| trace.producers[number].in_flight.len() < IN_FLIGHT_MAX);

        let count = self.random.between(1, 4);
        let next = self.numbers.entry(place).or_default();
        let partition = topic as i32 * 100 + place.1;
        let values: Vec<Value> = (*next..*next + count)
            .map(|number_in_partition| Value {
                producer: number as u32,
                partition,
                number: number_in_partition,
            })
            .collect();
        *next += count;
        let mut builder = BatchBuilder::new();
        if let Some((id, epoch)) = self.producers[number].id {
            let sequence = self.producers[number].sequences.entry(place).or_default();
            let stamp =
                ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: *sequence };
            *sequence += count as i32;
            builder.producer(stamp);
        }
        for value in &values {
            let mut bytes = value.encode().to_vec();
            // Small ones behind large ones: one way of writing behind another.
            let length_max = if self.random.coin() { 100 } else { TOPICS[topic].value_bytes_max };
            let length = self.random.below(length_max) as usize;
            bytes.extend(std::iter::repeat_n(value.number as u8, length));
            builder.push(1_700_000_000_000 + value.number as i64, None, Some(&bytes));
        }
        let records = builder.finish(0, LeaderEpoch(-1));
        let data = PartitionProduceData { index: place.1, records: Some(&records) };
        let data = TopicProduceData {
            name: TOPICS[topic].name,
            partition_data: vec![data].into(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![data].into(),
            ..Default::default()
        };
        let producer = &mut self.producers[number];
        let connection = producer.connection.as_mut().expect("opened above");
        let id = connection.ask(&self.world, &request, ApiKey::Produce, 9);
        producer.in_flight.insert(id, Batch { topic, place, values });
        // Whoever sends at once shares a group; others meet the one before on its way.
        if self.random.coin() {
            let pause = Duration::from_micros(self.random.between(1, 2_000));
            self.run(self.world.now() + pause, |_| false);
        }
        "append"
    }

    /// Asks over the connection for administration and reading, and waits.
    fn ask<'a>(&mut self, request: &impl Request<'a>, api: ApiKey, version: i16) -> Answer {
        let port = self.port();
        let admin = self.admin.get_or_insert_with(|| Connection::open(&self.world, port));
        admin.ask(&self.world, request, api, version);
        self.wait("administration", |trace| !trace.admin_answers.is_empty());
        self.admin_answers.remove(0)
    }

    fn fetch(&mut self) -> &'static str {
        let topic = self.pick_topic();
        let place = self.pick_place(topic);
        let fetch_offset = self.random.below(self.numbers.get(&place).copied().unwrap_or(0) + 1) as i64;
        let part = FetchPartition {
            partition: place.1,
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let name = TOPICS[topic].name;
        let topic_part = FetchTopic { topic: name, partitions: vec![part].into(), ..Default::default() };
        let request =
            FetchRequest { max_bytes: 1 << 20, topics: vec![topic_part].into(), ..Default::default() };
        let answer = self.ask(&request, ApiKey::Fetch, 11);
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let response = FetchResponse::decode(&mut body, answer.version).expect("a body");
        let part = response.responses.first().and_then(|t| t.partitions.first()).expect("one part");
        // Above the end, or below the log start.
        if part.error_code != 0 {
            return "fetch";
        }
        let records = part.records.as_ref().map(|r| r.to_contiguous()).unwrap_or_default();
        let mut end = None;
        for batch in Batches::new(&records).map_while(Result::ok) {
            for record in Records::new(batch.records(), batch.record_count()) {
                let record = record.expect("a record");
                let offset = batch.base_offset() + i64::from(record.offset_delta);
                let value = record.value.and_then(Value::decode).expect("a value of ours");
                self.history.note(place, offset, value);
                end = Some(offset + 1);
            }
        }
        if let Some(end) = end {
            // What a reader saw while the topic was not yet flushed may be lost with the power.
            let survives_power = topic != SWITCHED && self.survives_power(topic);
            self.history.events.push(Event::Told { place, end, survives_power });
        }
        "fetch"
    }

    fn delete_records(&mut self) -> &'static str {
        let topic = self.pick_topic();
        let place = self.pick_place(topic);
        let appended = self.numbers.get(&place).copied().unwrap_or(0);
        // Mostly at the old end: a trace keeps something to lose.
        let offset = (self.random.below(appended + 1) * self.random.below(10) / 10) as i64;
        self.history.events.push(Event::StartAsked { place, start: offset });
        let part = DeleteRecordsPartition { partition_index: place.1, offset };
        let topic = DeleteRecordsTopic { name: TOPICS[topic].name, partitions: vec![part].into() };
        let request = DeleteRecordsRequest { topics: vec![topic].into(), timeout_ms: 30_000 };
        let answer = self.ask(&request, ApiKey::DeleteRecords, 1);
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let response = DeleteRecordsResponse::decode(&mut body, answer.version).expect("a body");
        let part = response.topics.first().and_then(|t| t.partitions.first()).expect("one part");
        if part.error_code == 0 {
            self.history.events.push(Event::StartTold { place, start: part.low_watermark });
        }
        "delete records"
    }

    /// Another durability, and another write path where there are several.
    fn switch(&mut self) -> &'static str {
        self.settle();
        let durability = ["fsync", "interval", "os"][self.random.below(3) as usize];
        let path = self.paths[self.random.below(self.paths.len() as u64) as usize];
        let set = |name, value| AlterableConfig { name, config_operation: 0, value: Some(value) };
        let configs = vec![set("durability", durability), set("flush.ms", "5"), set("write.path", path)];
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: TOPICS[SWITCHED].name,
            configs: configs.into(),
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource].into(), validate_only: false };
        // Until the answer the weaker of both holds.
        let before = std::mem::replace(&mut self.durability, "switching");
        let answer = self.ask(&request, ApiKey::IncrementalAlterConfigs, 1);
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let response = IncrementalAlterConfigsResponse::decode(&mut body, answer.version).expect("a body");
        let result = response.responses.first().expect("one resource");
        assert_eq!(
            result.error_code, 0,
            "{durability} and {path} after {before}: {:?}",
            result.error_message
        );
        // A switch to fsync takes effect once everything before is flushed.
        self.run(self.world.now() + Duration::from_millis(100), |_| false);
        self.durability = durability;
        "switch"
    }

    /// Deletes a topic and makes one of the same name.
    fn remake(&mut self) -> &'static str {
        self.settle();
        let topic = self.topic_ids[REMADE];
        self.history.events.push(Event::DeletionAsked { topic });
        let state = DeleteTopicState { name: Some(TOPICS[REMADE].name), topic_id: Uuid::ZERO };
        let request =
            DeleteTopicsRequest { topics: vec![state].into(), timeout_ms: 30_000, ..Default::default() };
        let answer = self.ask(&request, ApiKey::DeleteTopics, 6);
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let response = DeleteTopicsResponse::decode(&mut body, answer.version).expect("a body");
        assert_eq!(response.responses.first().map(|topic| topic.error_code), Some(0), "the topic is deleted");
        self.topic_ids[REMADE] = self.create(REMADE);
        "topic deleted and made again"
    }

    fn create(&mut self, topic: usize) -> Uuid {
        let Topic { name, partitions, settings, .. } = &TOPICS[topic];
        let config =
            |(name, value): &(&'static str, &'static str)| CreatableTopicConfig { name, value: Some(value) };
        let common = [("index.interval.bytes", "300"), ("retention.ms", "-1")];
        let configs: Vec<_> = settings.iter().chain(&common).map(config).collect();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name,
                num_partitions: *partitions,
                replication_factor: 1,
                configs: configs.into(),
                ..Default::default()
            }]
            .into(),
            timeout_ms: 30_000,
            ..Default::default()
        };
        let answer = self.ask(&request, ApiKey::CreateTopics, 7);
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        let response = CreateTopicsResponse::decode(&mut body, answer.version).expect("a body");
        let made = response.topics.first().expect("one topic");
        assert_eq!(made.error_code, 0, "{name} is not made: {:?}", made.error_message);
        self.history.names.insert(made.topic_id, name);
        let places = (0..*partitions).map(|partition| Event::Created { place: (made.topic_id, partition) });
        self.history.events.extend(places);
        made.topic_id
    }
}
