//! A broker that does nothing: it answers the same requests from one thread and keeps no log. What separates a broker from it
//! in the same run is the broker; what it takes itself is the network, the kernel and the generator.
//!
//! Batches of topics made with `null.keep=true` are remembered up to 2 MiB a partition, so that fetches have something to
//! bring and a consumer can be told of what has just been produced.

mod partition;
mod peer;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use corelog::protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use corelog::protocol::messages::create_topics::{
    CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use corelog::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use corelog::protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use corelog::protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use corelog::protocol::{ApiKey, ErrorCode, Message, Records, Str, decode_header};
use corelog_measure::clock::now_ns;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use partition::Partition;
use peer::{Peer, PeerError};

/// The topic setting that makes it remember batches.
pub const KEEP: &str = "null.keep";

const LISTENER: u64 = u64::MAX;

/// The APIs that it answers.
const SERVED: [ApiKey; 6] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::Metadata,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
];

struct Topic {
    partitions: Vec<Partition>,
    keeps: bool,
}

/// A fetch that waits for something to be produced.
struct Held {
    peer: usize,
    frame: Vec<u8>,
    until_ns: u64,
}

struct Null {
    address: SocketAddr,
    topics: BTreeMap<String, Topic>,
    held: Vec<Held>,
}

/// Serves until it is killed. `ready` is told the address.
pub fn serve(listen: SocketAddr, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    ready(address);
    let mut null = Null { address, topics: BTreeMap::new(), held: Vec::new() };
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let timeout = if null.held.is_empty() { EpollTimeout::NONE } else { EpollTimeout::from(5_u8) };
        let count = match epoll.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            count => count?,
        };
        for event in &events[..count] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut peers)?;
                continue;
            }
            let index = event.data() as usize;
            let Some(peer) = peers[index].as_mut() else { continue };
            let received = peer.receive(|peer, frame| null.serve(peer, index, frame));
            let served = received.and_then(|()| Ok(peer.flush(&epoll, index)?));
            close_if_failed(served, index, &mut peers, &mut null);
        }
        for (index, frame, is_late) in null.due() {
            let Some(peer) = peers[index].as_mut() else { continue };
            let answered = null.fetch(peer, index, &frame, is_late);
            let served = answered.and_then(|()| Ok(peer.flush(&epoll, index)?));
            close_if_failed(served, index, &mut peers, &mut null);
        }
    }
}

fn close_if_failed(served: Result<(), PeerError>, index: usize, peers: &mut [Option<Peer>], null: &mut Null) {
    let Err(error) = served else { return };
    if !matches!(&error, PeerError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof) {
        eprintln!("null: a connection is closed: {error}");
    }
    peers[index] = None;
    null.held.retain(|held| held.peer != index);
}

fn accept(listener: &TcpListener, epoll: &Epoll, peers: &mut Vec<Option<Peer>>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let index = peers.iter().position(Option::is_none).unwrap_or_else(|| {
            peers.push(None);
            peers.len() - 1
        });
        peers[index] = Some(Peer::new(stream, epoll, index)?);
    }
}

impl Null {
    fn serve(&mut self, peer: &mut Peer, index: usize, frame: &[u8]) -> Result<(), PeerError> {
        let (header, mut body) = decode_header(frame)?;
        let (version, correlation) = (header.api_version, header.correlation_id);
        let Some(api) = header.served_api() else { return Err(PeerError::Api(header.api_key)) };
        match api {
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut body, version)?;
                let response = self.produce(&request);
                if request.acks != 0 {
                    peer.answer(&response, version, correlation);
                }
            }
            ApiKey::Fetch => self.fetch(peer, index, frame, false)?,
            ApiKey::ApiVersions => peer.answer(&api_versions(), version, correlation),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut body, version)?;
                peer.answer(&self.metadata(&request), version, correlation);
            }
            ApiKey::CreateTopics => {
                let request = CreateTopicsRequest::decode(&mut body, version)?;
                peer.answer(&self.create(&request), version, correlation);
            }
            ApiKey::DeleteTopics => {
                let request = DeleteTopicsRequest::decode(&mut body, version)?;
                peer.answer(&self.delete(&request), version, correlation);
            }
            other => return Err(PeerError::Api(other.key())),
        }
        Ok(())
    }

    fn produce<'a>(&mut self, request: &ProduceRequest<'a>) -> ProduceResponse<'a> {
        let mut responses = Vec::with_capacity(request.topic_data.len());
        for topic in &request.topic_data {
            let mut found = self.topics.get_mut(topic.name);
            let mut partitions = Vec::with_capacity(topic.partition_data.len());
            for partition in &topic.partition_data {
                let mut response = PartitionProduceResponse { index: partition.index, ..Default::default() };
                let place = found.as_deref_mut().and_then(|topic| {
                    let keeps = topic.keeps;
                    topic.partitions.get_mut(partition.index as usize).map(|place| (place, keeps))
                });
                match place {
                    Some((place, keeps)) => {
                        response.base_offset = place.append(partition.records.unwrap_or_default(), keeps);
                    }
                    None => response.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                }
                partitions.push(response);
            }
            responses.push(TopicProduceResponse {
                name: Str::Borrowed(topic.name),
                topic_id: topic.topic_id,
                partition_responses: partitions.into(),
            });
        }
        ProduceResponse { responses: responses.into(), ..Default::default() }
    }

    /// Answers, or holds the request until there is something to answer with.
    fn fetch(&mut self, peer: &mut Peer, index: usize, frame: &[u8], is_late: bool) -> Result<(), PeerError> {
        let (header, mut body) = decode_header(frame)?;
        let version = header.api_version;
        let request = FetchRequest::decode(&mut body, version)?;
        let (mut responses, mut bytes, mut is_error) = (Vec::new(), 0, false);
        for topic in &request.topics {
            let found = self.topics.get(topic.topic);
            let partition = |asked: FetchPartition| {
                let mut answer = PartitionData { partition_index: asked.partition, ..Default::default() };
                match found.and_then(|topic| topic.partitions.get(asked.partition as usize)) {
                    Some(place) => {
                        answer.high_watermark = place.next_offset;
                        answer.last_stable_offset = place.next_offset;
                        answer.log_start_offset = place.log_start();
                        match place.read(asked.fetch_offset, asked.partition_max_bytes.max(0) as usize) {
                            Some(slices) => {
                                bytes += slices.iter().map(Bytes::len).sum::<usize>();
                                answer.records = Some(Records::Slices(slices));
                            }
                            None => answer.error_code = ErrorCode::OffsetOutOfRange.code(),
                        }
                    }
                    None => answer.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                }
                is_error |= answer.error_code != 0;
                answer
            };
            let partitions: Vec<PartitionData> = topic.partitions.iter().map(partition).collect();
            responses.push(FetchableTopicResponse {
                topic: Str::Borrowed(topic.topic),
                topic_id: topic.topic_id,
                partitions: partitions.into(),
            });
        }
        if bytes == 0 && !is_error && !is_late && request.max_wait_ms > 0 {
            let until_ns = now_ns() + request.max_wait_ms as u64 * 1_000_000;
            self.held.push(Held { peer: index, frame: frame.to_vec(), until_ns });
            return Ok(());
        }
        let response = FetchResponse { responses: responses.into(), ..Default::default() };
        peer.answer_slices(&response, version, header.correlation_id);
        Ok(())
    }

    /// Fetches that were held and are to be tried again; those that are late are answered with what there is.
    fn due(&mut self) -> Vec<(usize, Vec<u8>, bool)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let now = now_ns();
        // The deadline of one that waits on is its first one; few wait, and a retry costs a microsecond.
        let mut due = Vec::new();
        let mut kept = Vec::new();
        for held in self.held.drain(..) {
            if held.until_ns <= now {
                due.push((held.peer, held.frame, true));
            } else {
                kept.push(held);
            }
        }
        for held in kept {
            if self.has_news(&held.frame) {
                due.push((held.peer, held.frame, false));
            } else {
                self.held.push(held);
            }
        }
        due
    }

    fn has_news(&self, frame: &[u8]) -> bool {
        let Ok((header, mut body)) = decode_header(frame) else { return true };
        let Ok(request) = FetchRequest::decode(&mut body, header.api_version) else { return true };
        request.topics.iter().any(|topic| {
            let found = self.topics.get(topic.topic);
            topic.partitions.iter().any(|asked| {
                found
                    .and_then(|topic| topic.partitions.get(asked.partition as usize))
                    .is_none_or(|place| place.next_offset > asked.fetch_offset)
            })
        })
    }

    fn metadata(&self, request: &MetadataRequest<'_>) -> MetadataResponse<'_> {
        let names: Vec<String> = match &request.topics {
            Some(topics) => topics.iter().filter_map(|topic| topic.name.map(str::to_owned)).collect(),
            None => self.topics.keys().cloned().collect(),
        };
        let broker = MetadataResponseBroker {
            host: Str::Owned(self.address.ip().to_string()),
            port: i32::from(self.address.port()),
            ..Default::default()
        };
        let topic = |name: String| {
            let mut response = MetadataResponseTopic::default();
            match self.topics.get(&name) {
                Some(found) => {
                    let partition = |index: usize| MetadataResponsePartition {
                        partition_index: index as i32,
                        replica_nodes: vec![0].into(),
                        isr_nodes: vec![0].into(),
                        ..Default::default()
                    };
                    response.partitions =
                        (0..found.partitions.len()).map(partition).collect::<Vec<_>>().into();
                }
                None => response.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            response.name = Some(Str::Owned(name));
            response
        };
        let topics: Vec<MetadataResponseTopic> = names.into_iter().map(topic).collect();
        MetadataResponse { brokers: vec![broker].into(), topics: topics.into(), ..Default::default() }
    }

    fn create<'a>(&mut self, request: &CreateTopicsRequest<'a>) -> CreateTopicsResponse<'a> {
        let mut results = Vec::new();
        for topic in &request.topics {
            let keeps =
                topic.configs.iter().any(|config| (config.name, config.value) == (KEEP, Some("true")));
            let mut result = CreatableTopicResult { name: Str::Borrowed(topic.name), ..Default::default() };
            if self.topics.contains_key(topic.name) {
                result.error_code = ErrorCode::TopicAlreadyExists.code();
            } else {
                let partitions = (0..topic.num_partitions.max(1)).map(|_| Partition::default()).collect();
                self.topics.insert(topic.name.to_owned(), Topic { partitions, keeps });
            }
            results.push(result);
        }
        CreateTopicsResponse { topics: results.into(), ..Default::default() }
    }

    fn delete<'a>(&mut self, request: &DeleteTopicsRequest<'a>) -> DeleteTopicsResponse<'a> {
        // Topics have no ids here: up to version 5 names come alone, from 6 on each beside an id.
        let named = request.topics.iter().filter_map(|topic| topic.name);
        let result = |name: &'a str| {
            let is_gone = self.topics.remove(name).is_some();
            let error_code = if is_gone { 0 } else { ErrorCode::UnknownTopicOrPartition.code() };
            DeletableTopicResult { name: Some(Str::Borrowed(name)), error_code, ..Default::default() }
        };
        let responses: Vec<_> = request.topic_names.iter().chain(named).map(result).collect();
        DeleteTopicsResponse { responses: responses.into(), ..Default::default() }
    }
}

fn api_versions() -> ApiVersionsResponse<'static> {
    let key = |api: ApiKey| ApiVersion {
        api_key: api.key(),
        min_version: *api.versions().start(),
        max_version: *api.versions().end(),
    };
    let api_keys: Vec<ApiVersion> = SERVED.into_iter().map(key).collect();
    ApiVersionsResponse { api_keys: api_keys.into(), ..Default::default() }
}
