//! One request after another in blocking calls: topics, and who leads their partitions.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use corelog::protocol::messages::api_versions::ApiVersionsRequest;
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::{ApiKey, DecodeError, ErrorCode, Request, write_request};
use corelog_measure::clock::now_ns;
use corelog_measure::signals;

use super::answers::response;
use super::requests::{API_VERSIONS_VERSION, CLIENT_ID, fetch_bytes};

const CREATE_VERSION: i16 = 4;
const DELETE_VERSION: i16 = 4;
const METADATA_VERSION: i16 = 9;
/// Beyond what any fetch here asks for: what announces more is no answer.
pub const ANSWER_BYTES_MOST: usize = 1 << 30;

const METADATA_WAIT_NS: u64 = 60_000_000_000;

/// What goes wrong between a broker and us.
#[derive(Debug)]
pub enum WireError {
    Resolve {
        address: String,
        source: Option<io::Error>,
    },
    Connect {
        address: String,
        source: io::Error,
    },
    Exchange {
        api: ApiKey,
        source: io::Error,
    },
    Unreadable {
        api: ApiKey,
        source: DecodeError,
    },
    /// Nothing about what was asked for.
    Incomplete {
        api: ApiKey,
    },
    Interrupted,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Resolve { address, source: Some(source) } => write!(f, "look up {address}: {source}"),
            WireError::Resolve { address, source: None } => write!(f, "{address} has no address"),
            WireError::Connect { address, source } => {
                write!(f, "connect to {address}: {source}; is the broker running?")
            }
            WireError::Exchange { api, source } => write!(f, "ask for {}: {source}", api.name()),
            WireError::Unreadable { api, source } => {
                write!(f, "an answer to {} that cannot be read: {source}", api.name())
            }
            WireError::Incomplete { api } => {
                write!(f, "an answer to {} without what was asked for", api.name())
            }
            WireError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WireError::Connect { source, .. } | WireError::Exchange { source, .. } => Some(source),
            WireError::Resolve { source, .. } => source.as_ref().map(|source| source as _),
            WireError::Unreadable { source, .. } => Some(source),
            WireError::Incomplete { .. } | WireError::Interrupted => None,
        }
    }
}

/// Why there is no such topic.
#[derive(Debug)]
pub enum TopicError {
    Wire(WireError),
    /// The broker's answer.
    Refused {
        topic: String,
        code: i16,
        message: String,
    },
    /// Metadata does not name a leader for each partition.
    NotServed {
        topic: String,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Wire(error) => error.fmt(f),
            TopicError::Refused { topic, code, message } => {
                write!(f, "the broker refuses topic {topic} with {}: {message}", error_text(*code))
            }
            TopicError::NotServed { topic } => {
                write!(f, "the broker named no leaders for all partitions of {topic} in 60 s")
            }
        }
    }
}

impl std::error::Error for TopicError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TopicError::Wire(error) => Some(error),
            TopicError::Refused { .. } | TopicError::NotServed { .. } => None,
        }
    }
}

impl From<WireError> for TopicError {
    fn from(error: WireError) -> TopicError {
        TopicError::Wire(error)
    }
}

impl TopicError {
    /// The broker does not know a setting, or not its value.
    pub fn is_about_settings(&self) -> bool {
        matches!(self, TopicError::Refused { code, .. } if *code == ErrorCode::InvalidConfig.code())
    }
}

/// Kafka's name of an error, and its number.
pub fn error_text(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(error) => error.to_string(),
        None => format!("error {code}"),
    }
}

/// Who leads which partitions of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    pub topic: String,
    pub partitions: i32,
    /// An address each, with its partitions, ascending.
    pub leaders: Vec<(SocketAddr, Vec<i32>)>,
}

/// A connection for questions one by one.
pub struct Admin {
    stream: TcpStream,
    address: SocketAddr,
    correlation: i32,
}

pub fn resolve(address: &str) -> Result<SocketAddr, WireError> {
    let failed = |source| WireError::Resolve { address: address.to_owned(), source };
    let mut found = address.to_socket_addrs().map_err(|source| failed(Some(source)))?;
    found.next().ok_or_else(|| failed(None))
}

impl Admin {
    pub fn connect(address: &str) -> Result<Admin, WireError> {
        let resolved = resolve(address)?;
        let failed = |source| WireError::Connect { address: address.to_owned(), source };
        let stream = TcpStream::connect_timeout(&resolved, Duration::from_secs(10)).map_err(failed)?;
        let ready =
            stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(120))));
        ready.map_err(failed)?;
        Ok(Admin { stream, address: resolved, correlation: 0 })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a frame and returns its answer, without the length before it.
    fn ask(&mut self, api: ApiKey, frame: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut exchange = || {
            self.stream.write_all(frame)?;
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length > ANSWER_BYTES_MOST {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("an answer of {length} bytes"),
                ));
            }
            let mut answer = vec![0; length];
            self.stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        exchange().map_err(|source| WireError::Exchange { api, source })
    }

    fn request<'a, Q: Request<'a>>(&mut self, request: &Q, version: i16) -> Result<Vec<u8>, WireError> {
        let mut frame = BytesMut::new();
        write_request(request, version, self.correlation(), Some(CLIENT_ID), &mut frame);
        self.ask(Q::API, &frame)
    }

    fn correlation(&mut self) -> i32 {
        self.correlation += 1;
        self.correlation
    }

    /// Makes a topic with one replica.
    pub fn create(
        &mut self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), TopicError> {
        let config = |&(name, value)| CreatableTopicConfig { name, value: Some(value) };
        let configs: Vec<_> = settings.iter().map(config).collect();
        let creatable = CreatableTopic {
            name: topic,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.into(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![creatable].into(), timeout_ms: 60_000, ..Default::default() };
        let answer = self.request(&request, CREATE_VERSION)?;
        let (_, response) = response::<CreateTopicsResponse>(&answer, CREATE_VERSION)?;
        let result = response.topics.first().ok_or(WireError::Incomplete { api: ApiKey::CreateTopics })?;
        let message = result.error_message.as_deref().unwrap_or("no message");
        refused(topic, result.error_code, message)
    }

    pub fn delete(&mut self, topic: &str) -> Result<(), TopicError> {
        let request =
            DeleteTopicsRequest { topic_names: vec![topic].into(), timeout_ms: 60_000, ..Default::default() };
        let answer = self.request(&request, DELETE_VERSION)?;
        let (_, response) = response::<DeleteTopicsResponse>(&answer, DELETE_VERSION)?;
        let result = response.responses.first().ok_or(WireError::Incomplete { api: ApiKey::DeleteTopics })?;
        refused(topic, result.error_code, "it cannot be deleted")
    }

    /// Waits until every partition has a leader that says so.
    pub fn layout(&mut self, topic: &str, partitions: i32) -> Result<Layout, TopicError> {
        let give_up = now_ns() + METADATA_WAIT_NS;
        loop {
            if let Some(layout) = self.layout_now(topic, partitions)? {
                return Ok(layout);
            }
            if now_ns() > give_up {
                return Err(TopicError::NotServed { topic: topic.to_owned() });
            }
            if signals::received().is_some() {
                return Err(WireError::Interrupted.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// None: some partition has no leader yet.
    fn layout_now(&mut self, topic: &str, partitions: i32) -> Result<Option<Layout>, TopicError> {
        let wanted = MetadataRequestTopic { name: Some(topic), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![wanted].into()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.request(&request, METADATA_VERSION)?;
        let (_, response) = response::<MetadataResponse>(&answer, METADATA_VERSION)?;
        let found = response.topics.first().ok_or(WireError::Incomplete { api: ApiKey::Metadata })?;
        if found.error_code != 0 || found.partitions.len() != partitions as usize {
            return Ok(None);
        }
        let mut by_leader = std::collections::BTreeMap::<i32, Vec<i32>>::new();
        for partition in &found.partitions {
            if partition.error_code != 0 || partition.leader_id < 0 {
                return Ok(None);
            }
            by_leader.entry(partition.leader_id).or_default().push(partition.partition_index);
        }
        let mut leaders = Vec::new();
        for (leader, mut owned) in by_leader {
            let Some(broker) = response.brokers.iter().find(|broker| broker.node_id == leader) else {
                return Ok(None);
            };
            owned.sort_unstable();
            leaders.push((resolve(&format!("{}:{}", &*broker.host, broker.port))?, owned));
        }
        Ok(Some(Layout { topic: topic.to_owned(), partitions, leaders }))
    }

    pub fn ask_versions(&mut self) -> Result<(), WireError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID,
            client_software_version: env!("CARGO_PKG_VERSION"),
        };
        self.request(&request, API_VERSIONS_VERSION).map(drop)
    }

    /// Sends a produce request as it is and returns its answer.
    pub fn produce(&mut self, frame: &[u8]) -> Result<Vec<u8>, WireError> {
        self.ask(ApiKey::Produce, frame)
    }

    /// One fetch, whose answer the caller reads: the bytes behind the length.
    pub fn fetch(
        &mut self,
        topic: &str,
        partitions: impl Iterator<Item = (i32, i64)>,
        bytes_most: i32,
    ) -> Result<Vec<u8>, WireError> {
        let correlation = self.correlation();
        let frame = fetch_bytes(correlation, topic, partitions, bytes_most, 0);
        self.ask(ApiKey::Fetch, &frame)
    }
}

fn refused(topic: &str, code: i16, message: &str) -> Result<(), TopicError> {
    match code {
        0 => Ok(()),
        code => Err(TopicError::Refused { topic: topic.to_owned(), code, message: message.to_owned() }),
    }
}
