//! The client's side: requests made once and sent again and again, so that what is counted is the broker's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use corelog::model::{LeaderEpoch, Uuid};
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{Message, Reader, Request, write_request};
use corelog::record::BatchBuilder;

pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const METADATA: i16 = 12;

/// One blocking connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an open socket");
        Client { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).expect("the broker reads");
    }

    /// The next response, without its length.
    pub fn receive(&mut self) -> &[u8] {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the broker answers");
        self.buffer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.buffer).expect("the broker answers");
        &self.buffer
    }

    /// Sends one request; `look` reads the body of its response.
    fn ask<'a, M: Request<'a>, T>(
        &mut self,
        request: &M,
        version: i16,
        header_bytes: usize,
        look: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> T {
        self.send(&frame(request, version));
        look(&mut Reader::new(&self.receive()[header_bytes..]))
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let configs: Vec<_> =
            settings.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.into(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 60_000, ..Default::default() };
        let code = self.ask(&request, CREATE_TOPICS, 5, |reader| {
            let response = CreateTopicsResponse::decode(reader, CREATE_TOPICS).expect("it decodes");
            response.topics.first().expect("one topic").error_code
        });
        assert_eq!(code, 0, "{name} is not made");
    }

    /// The port of the broker that leads each partition.
    pub fn leaders(&mut self, name: &str) -> Vec<u16> {
        let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic].into()), ..Default::default() };
        self.ask(&request, METADATA, 5, |reader| {
            let response = MetadataResponse::decode(reader, METADATA).expect("it decodes");
            let port = |id| {
                let broker = response.brokers.iter().find(|broker| broker.node_id == id).expect("a broker");
                u16::try_from(broker.port).expect("a port")
            };
            let topic = response.topics.first().expect("one topic");
            let mut ports = vec![0; topic.partitions.len()];
            for partition in topic.partitions.iter() {
                ports[partition.partition_index as usize] = port(partition.leader_id);
            }
            ports
        })
    }
}

fn frame<'a, M: Request<'a>>(request: &M, version: i16) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_request(request, version, 7, Some("hot-path"), &mut out);
    out.to_vec()
}

/// A request that brings whole batches.
pub fn produce_batch(topic: &str, partition: i32, records: &[u8]) -> Vec<u8> {
    let data = PartitionProduceData { index: partition, records: Some(records) };
    let topic = TopicProduceData { name: topic, partition_data: vec![data].into(), ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic].into(), ..Default::default() };
    frame(&request, PRODUCE)
}

/// A request that brings one record to one partition.
pub fn produce(topic: &str, partition: i32, value: &[u8]) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(value));
    produce_batch(topic, partition, &batch.finish(0, LeaderEpoch(-1)))
}

/// The offset that a produce response tells; panics at an error.
pub fn produced(response: &[u8]) -> i64 {
    let response = ProduceResponse::decode(&mut Reader::new(&response[5..]), PRODUCE).expect("it decodes");
    let topic = response.responses.first().expect("one topic");
    let part = topic.partition_responses.first().expect("one partition");
    assert_eq!(part.error_code, 0, "a produce failed");
    part.base_offset
}

/// A request without a session for so many bytes of one partition.
pub fn fetch(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Vec<u8> {
    let part = FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    let topic = FetchTopic { topic, topic_id: Uuid::ZERO, partitions: vec![part].into() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic].into(),
        ..Default::default()
    };
    frame(&request, FETCH)
}

/// A request of a fetch session: what it names is (partition, offset).
pub fn fetch_in_session(topic: &str, id: i32, epoch: i32, named: &[(i32, i64)], min_bytes: i32) -> Vec<u8> {
    let part = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions: Vec<_> = named.iter().map(part).collect();
    let topic = FetchTopic { topic, topic_id: Uuid::ZERO, partitions: partitions.into() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 20_000,
        min_bytes,
        max_bytes: 50 << 20,
        session_id: id,
        session_epoch: epoch,
        topics: if named.is_empty() { Vec::new().into() } else { vec![topic].into() },
        ..Default::default()
    };
    frame(&request, FETCH)
}

/// The session that a fetch response speaks of, and (partition, bytes of records) of each in it; panics at an error.
pub fn fetched_in_session(response: &[u8]) -> (i32, Vec<(i32, usize)>) {
    let response = FetchResponse::decode(&mut Reader::new(&response[5..]), FETCH).expect("it decodes");
    assert_eq!(response.error_code, 0, "a fetch failed");
    let mut parts = Vec::new();
    for topic in response.responses.iter() {
        for part in topic.partitions.iter() {
            assert_eq!(part.error_code, 0, "a fetch failed");
            parts.push((part.partition_index, part.records.as_ref().map_or(0, |records| records.len())));
        }
    }
    (response.session_id, parts)
}

/// The error of a fetch response's one partition, and its records.
pub fn fetched_records(response: &[u8]) -> (i16, Vec<u8>) {
    let response = FetchResponse::decode(&mut Reader::new(&response[5..]), FETCH).expect("it decodes");
    let topic = response.responses.first().expect("one topic");
    let part = topic.partitions.first().expect("one partition");
    (
        part.error_code,
        part.records.as_ref().map_or(Vec::new(), |records| records.to_contiguous().into_owned()),
    )
}

/// How many bytes of records a fetch response brings; panics at an error.
pub fn fetched(response: &[u8]) -> usize {
    let response = FetchResponse::decode(&mut Reader::new(&response[5..]), FETCH).expect("it decodes");
    assert_eq!(response.error_code, 0, "a fetch failed");
    let topic = response.responses.first().expect("one topic");
    let part = topic.partitions.first().expect("one partition");
    assert_eq!(part.error_code, 0, "a fetch failed");
    part.records.as_ref().map_or(0, |records| records.len())
}
