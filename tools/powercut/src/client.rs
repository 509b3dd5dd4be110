//! A small Kafka client on a blocking socket: the few requests that the harness needs.
//!
//! It tries nothing twice and hides nothing: what was answered, and that nothing was, is what the harness is about.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use corelog::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{
    ApiKey, DecodeError, ErrorCode, Message, Request, decode_response_header, write_request,
};

/// Longer than any stall that is played, and than a broker may need for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const CREATE_TOPICS_VERSION: i16 = 4;
const INIT_PRODUCER_ID_VERSION: i16 = 1;
const ALTER_CONFIGS_VERSION: i16 = 0;

/// A topic and the number of one of its partitions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Partition {
    pub topic: String,
    pub index: i32,
}

/// What the broker said about one partition of a produce request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Appended { base_offset: i64 },
    Refused { code: i16 },
}

/// What the broker said about one partition of a fetch request.
pub struct Fetched {
    pub partition: Partition,
    pub error_code: i16,
    pub high_watermark: i64,
    pub log_start: i64,
    pub records: Bytes,
}

pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    out: BytesMut,
}

fn broken(what: &str) -> impl Fn(DecodeError) -> io::Error {
    move |error| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {error}"))
}

/// The name of a Kafka error, for people.
pub fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |known| known.name().to_owned())
}

/// A list of partitions as requests have it: each topic once.
fn by_topic<'a, T: Copy, P>(
    list: &[(&'a Partition, T)],
    make: impl Fn(i32, T) -> P,
) -> BTreeMap<&'a str, Vec<P>> {
    let mut topics: BTreeMap<&str, Vec<P>> = BTreeMap::new();
    for (partition, with) in list {
        topics.entry(&partition.topic).or_default().push(make(partition.index, *with));
    }
    topics
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, correlation_id: 0, out: BytesMut::new() })
    }

    fn send<'a, M: Request<'a>>(&mut self, request: &M, version: i16) -> io::Result<()> {
        self.correlation_id += 1;
        self.out.clear();
        write_request(request, version, self.correlation_id, Some("powercut"), &mut self.out);
        self.stream.write_all(&self.out)
    }

    /// One frame, without its length.
    fn receive(&mut self) -> io::Result<Bytes> {
        let late = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()))
            }
            _ => error,
        };
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(late)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).map_err(late)?;
        Ok(frame.into())
    }

    /// Sends batches, at most one a partition; `receive_produced` takes the answer. Several may be under way.
    pub fn send_produce(&mut self, batches: &[(&Partition, &Bytes)]) -> io::Result<()> {
        let topics =
            by_topic(batches, |index, records| PartitionProduceData { index, records: Some(records) });
        let topics = topics.into_iter().map(|(name, data)| TopicProduceData {
            name,
            partition_data: data.into(),
            ..Default::default()
        });
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: topics.collect::<Vec<_>>().into(),
            ..Default::default()
        };
        self.send(&request, PRODUCE_VERSION)
    }

    /// The answers to the oldest request under way.
    pub fn receive_produced(&mut self) -> io::Result<Vec<(Partition, Answer)>> {
        let frame = self.receive()?;
        let (_, mut body) =
            decode_response_header(&frame, ApiKey::Produce, PRODUCE_VERSION).map_err(broken("Produce"))?;
        let response = ProduceResponse::decode(&mut body, PRODUCE_VERSION).map_err(broken("Produce"))?;
        let mut answers = Vec::new();
        for topic in response.responses.iter() {
            for answer in topic.partition_responses.iter() {
                let partition = Partition { topic: topic.name.as_str().to_owned(), index: answer.index };
                let answer = match answer.error_code {
                    0 => Answer::Appended { base_offset: answer.base_offset },
                    code => Answer::Refused { code },
                };
                answers.push((partition, answer));
            }
        }
        Ok(answers)
    }

    /// Reads from each position on; waits up to `wait` for the first bytes.
    pub fn fetch(&mut self, from: &[(&Partition, i64)], wait: Duration) -> io::Result<Vec<Fetched>> {
        let topics = by_topic(from, |partition, fetch_offset| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 8 << 20,
            ..Default::default()
        });
        let topics = topics.into_iter().map(|(topic, partitions)| FetchTopic {
            topic,
            partitions: partitions.into(),
            ..Default::default()
        });
        let request = FetchRequest {
            max_wait_ms: wait.as_millis() as i32,
            min_bytes: 1,
            max_bytes: 32 << 20,
            session_epoch: -1,
            topics: topics.collect::<Vec<_>>().into(),
            ..Default::default()
        };
        self.send(&request, FETCH_VERSION)?;
        let frame = self.receive()?;
        let (_, mut body) =
            decode_response_header(&frame, ApiKey::Fetch, FETCH_VERSION).map_err(broken("Fetch"))?;
        let response = FetchResponse::decode(&mut body, FETCH_VERSION).map_err(broken("Fetch"))?;
        let mut fetched = Vec::new();
        for topic in response.responses.iter() {
            for data in topic.partitions.iter() {
                let records = data.records.unwrap_or_default();
                fetched.push(Fetched {
                    partition: Partition {
                        topic: topic.topic.as_str().to_owned(),
                        index: data.partition_index,
                    },
                    error_code: data.error_code,
                    high_watermark: data.high_watermark,
                    log_start: data.log_start_offset,
                    records: frame.slice_ref(&records.to_contiguous()),
                });
            }
        }
        Ok(fetched)
    }

    /// Returns once the broker has said that the topic exists.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> io::Result<()> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name,
                num_partitions: partitions,
                replication_factor: 1,
                configs: configs.collect::<Vec<_>>().into(),
                ..Default::default()
            }]
            .into(),
            timeout_ms: 15_000,
            ..Default::default()
        };
        self.send(&request, CREATE_TOPICS_VERSION)?;
        let frame = self.receive()?;
        let (_, mut body) = decode_response_header(&frame, ApiKey::CreateTopics, CREATE_TOPICS_VERSION)
            .map_err(broken("CreateTopics"))?;
        let response =
            CreateTopicsResponse::decode(&mut body, CREATE_TOPICS_VERSION).map_err(broken("CreateTopics"))?;
        let result =
            response.topics.first().ok_or_else(|| io::Error::other("CreateTopics without a topic"))?;
        if result.error_code == 0 {
            return Ok(());
        }
        let why = result.error_message.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
        Err(io::Error::other(format!("topic {name}: {} {why}", error_name(result.error_code))))
    }

    /// Sets one setting of a topic.
    pub fn alter_topic(&mut self, topic: &str, name: &str, value: &str) -> io::Result<()> {
        const TOPIC: i8 = 2;
        const SET: i8 = 0;
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: topic,
                configs: vec![AlterableConfig { name, config_operation: SET, value: Some(value) }].into(),
            }]
            .into(),
            ..Default::default()
        };
        self.send(&request, ALTER_CONFIGS_VERSION)?;
        let frame = self.receive()?;
        let api = ApiKey::IncrementalAlterConfigs;
        let what = broken("IncrementalAlterConfigs");
        let (_, mut body) = decode_response_header(&frame, api, ALTER_CONFIGS_VERSION).map_err(&what)?;
        let response =
            IncrementalAlterConfigsResponse::decode(&mut body, ALTER_CONFIGS_VERSION).map_err(&what)?;
        match response.responses.first().map_or(0, |result| result.error_code) {
            0 => Ok(()),
            code => Err(io::Error::other(format!("topic {topic}: {name}={value}: {}", error_name(code)))),
        }
    }

    /// A producer's id and epoch.
    pub fn init_producer(&mut self) -> io::Result<(i64, i16)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        self.send(&request, INIT_PRODUCER_ID_VERSION)?;
        let frame = self.receive()?;
        let api = ApiKey::InitProducerId;
        let what = broken("InitProducerId");
        let (_, mut body) = decode_response_header(&frame, api, INIT_PRODUCER_ID_VERSION).map_err(&what)?;
        let response = InitProducerIdResponse::decode(&mut body, INIT_PRODUCER_ID_VERSION).map_err(&what)?;
        match response.error_code {
            0 => Ok((response.producer_id, response.producer_epoch)),
            code => Err(io::Error::other(format!("InitProducerId: {}", error_name(code)))),
        }
    }
}
