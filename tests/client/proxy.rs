//! A proxy between client and broker that knows frames: it puts itself into Metadata, so that all traffic passes it, and
//! does to produce requests and their answers what a test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use corelog::protocol::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use corelog::protocol::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use corelog::protocol::{ApiKey, ErrorCode, Message, decode_header, decode_response_header, write_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// What is done to one produce exchange.
#[derive(Clone, Debug)]
pub enum Act {
    Pass,
    /// So many bytes of the request reach the broker, then both connections end.
    CutRequest(usize),
    /// The broker has the whole request; so many bytes of its answer reach the client, then both connections end.
    CutAnswer(usize),
    /// The broker has the request; its answer never comes, and the connection stays.
    Swallow,
    /// The broker does not see the request; the client is told this error for every partition.
    Refuse(i16),
    /// As `Refuse` with NOT_LEADER_OR_FOLLOWER, naming another leader and where it is.
    Moved {
        leader: i32,
        epoch: i32,
        port: u16,
    },
    /// The broker has it; the answer is replaced by this error.
    AnswerWith(i16),
}

/// Decides about each produce request, counted from 0 over all connections of the proxy.
pub type Script = Box<dyn FnMut(usize, &ProduceRequest<'_>) -> Act + Send>;

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    port: u16,
    script: Mutex<Script>,
    seen: Mutex<Seen>,
    cut: watch::Sender<u64>,
    paused: watch::Sender<bool>,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub connections: usize,
    pub produces: usize,
    pub cuts: usize,
    /// Length of the last produce request, and of the last answer to one.
    pub request_bytes: usize,
    pub answer_bytes: usize,
    /// Produce requests without an answer, and the most there ever were.
    pub in_flight: usize,
    pub in_flight_max: usize,
}

impl Proxy {
    pub async fn start(
        upstream: &str,
        script: impl FnMut(usize, &ProduceRequest<'_>) -> Act + Send + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            port: address.port(),
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            cut: watch::Sender::new(0),
            paused: watch::Sender::new(false),
        });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.seen.lock().unwrap().connections += 1;
                tokio::spawn(serve(client, accepting.clone()));
            }
        });
        Proxy { address, shared }
    }

    pub async fn pass(upstream: &str) -> Proxy {
        Proxy::start(upstream, |_, _| Act::Pass).await
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn seen(&self) -> Seen {
        *self.shared.seen.lock().unwrap()
    }

    pub fn set_script(&self, script: impl FnMut(usize, &ProduceRequest<'_>) -> Act + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Ends all connections now.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// While paused no produce request goes on.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.send_replace(paused);
    }
}

/// What the next answer is for.
struct Asked {
    api: ApiKey,
    version: i16,
    act: Act,
    /// What the client is told instead of the broker's answer. It waits for those before it: clients count on the order.
    ours: Option<BytesMut>,
}

impl Act {
    fn reaches_the_broker(&self) -> bool {
        !matches!(self, Act::Refuse(_) | Act::Moved { .. })
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(broker) = TcpStream::connect(&shared.upstream).await else { return };
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (asked, asked_receiver) = mpsc::unbounded_channel();
    let mut cut = shared.cut.subscribe();
    tokio::select! {
        _ = requests(from_client, to_broker, asked, &shared) => {}
        _ = answers(from_broker, to_client, asked_receiver, &shared) => {}
        _ = cut.changed() => {}
    }
    shared.seen.lock().unwrap().cuts += 1;
}

/// A frame with its length; `None` at the end of the stream.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).await.ok()?;
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: mpsc::UnboundedSender<Asked>,
    shared: &Shared,
) -> Option<()> {
    loop {
        let frame = frame(&mut from).await?;
        let (header, mut body) = decode_header(&frame[4..]).unwrap();
        let (api, version) = (header.api().unwrap(), header.api_version);
        if api != ApiKey::Produce {
            asked.send(Asked { api, version, act: Act::Pass, ours: None }).ok()?;
            to.write_all(&frame).await.ok()?;
            continue;
        }
        let mut paused = shared.paused.subscribe();
        paused.wait_for(|paused| !paused).await.ok()?;
        let request = ProduceRequest::decode(&mut body, version).unwrap();
        let act = {
            let mut seen = shared.seen.lock().unwrap();
            let at = seen.produces;
            seen.produces += 1;
            seen.request_bytes = frame.len();
            seen.in_flight += 1;
            seen.in_flight_max = seen.in_flight_max.max(seen.in_flight);
            drop(seen);
            (shared.script.lock().unwrap())(at, &request)
        };
        if let Act::CutRequest(bytes) = act {
            shared.seen.lock().unwrap().in_flight -= 1;
            to.write_all(&frame[..bytes.min(frame.len())]).await.ok()?;
            // The broker reads what it got before it sees the end.
            to.shutdown().await.ok()?;
            return None;
        }
        let refused = match act {
            Act::Refuse(code) | Act::AnswerWith(code) => Some((code, None)),
            Act::Moved { leader, epoch, port } => {
                Some((ErrorCode::NotLeaderOrFollower.code(), Some((leader, epoch, port))))
            }
            _ => None,
        };
        let ours =
            refused.map(|(code, moved)| refusal(&request, version, header.correlation_id, code, moved));
        let is_passed_on = act.reaches_the_broker();
        if request.acks != 0 || !is_passed_on {
            asked.send(Asked { api, version, act, ours }).ok()?;
        }
        if is_passed_on {
            to.write_all(&frame).await.ok()?;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<Asked>,
    shared: &Shared,
) -> Option<()> {
    let mut swallowed = VecDeque::<Vec<u8>>::new();
    loop {
        let Asked { api, version, act, ours } = asked.recv().await?;
        if !act.reaches_the_broker() {
            shared.seen.lock().unwrap().in_flight -= 1;
            to.write_all(&ours.expect("made with the request")).await.ok()?;
            continue;
        }
        let frame = frame(&mut from).await?;
        if api == ApiKey::Metadata {
            let answer = through_us(&frame, version, shared);
            to.write_all(&answer).await.ok()?;
            continue;
        }
        if api == ApiKey::Produce {
            let mut seen = shared.seen.lock().unwrap();
            seen.answer_bytes = frame.len();
            seen.in_flight -= 1;
        }
        match act {
            Act::CutAnswer(bytes) => {
                to.write_all(&frame[..bytes.min(frame.len())]).await.ok()?;
                to.shutdown().await.ok()?;
                return None;
            }
            Act::Swallow => swallowed.push_back(frame),
            Act::AnswerWith(_) => to.write_all(&ours.expect("made with the request")).await.ok()?,
            _ => to.write_all(&frame).await.ok()?,
        }
    }
}

/// The answer with this error for every partition of the request.
fn refusal(
    request: &ProduceRequest<'_>,
    version: i16,
    correlation_id: i32,
    code: i16,
    moved: Option<(i32, i32, u16)>,
) -> BytesMut {
    let topics = request.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.into(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse {
                index: partition.index,
                error_code: code,
                base_offset: -1,
                current_leader: moved
                    .map_or_else(LeaderIdAndEpoch::default, |(leader_id, leader_epoch, _)| {
                        LeaderIdAndEpoch { leader_id, leader_epoch }
                    }),
                ..Default::default()
            })
            .collect(),
    });
    let endpoints = moved.iter().map(|&(node_id, _, port)| NodeEndpoint {
        node_id,
        host: "127.0.0.1".into(),
        port: port.into(),
        rack: None,
    });
    let response = ProduceResponse {
        responses: topics.collect(),
        node_endpoints: endpoints.collect(),
        ..Default::default()
    };
    let mut out = BytesMut::new();
    write_response(&response, version, correlation_id, &mut out);
    out
}

/// Metadata that names this proxy in the place of the broker.
fn through_us(frame: &[u8], version: i16, shared: &Shared) -> BytesMut {
    let (correlation_id, mut body) = decode_response_header(&frame[4..], ApiKey::Metadata, version).unwrap();
    let mut response = MetadataResponse::decode(&mut body, version).unwrap();
    let ours = response.brokers.iter().map(|broker| MetadataResponseBroker {
        host: "127.0.0.1".into(),
        port: shared.port.into(),
        ..broker
    });
    response.brokers = ours.collect();
    let mut out = BytesMut::new();
    write_response(&response, version, correlation_id, &mut out);
    out
}

/// A moment in which nothing is expected to happen.
pub async fn moment() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}
