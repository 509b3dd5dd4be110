//! A client of plain sockets, and what can be seen of the broker from outside.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corelog::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{Request, Response, decode_response_header, write_request};
use corelog::record::BatchBuilder;
use corelog_clients::Broker;

/// Longer than any answer takes; who waits so long waits for nothing.
const PATIENCE: Duration = Duration::from_secs(20);

pub const PRODUCE_VERSION: i16 = 9;
pub const FETCH_VERSION: i16 = 11;

pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddrV4) -> Client {
        let stream = TcpStream::connect(address).expect("connect to the broker");
        stream.set_read_timeout(Some(PATIENCE)).expect("set the patience");
        stream.set_write_timeout(Some(PATIENCE)).expect("set the patience");
        stream.set_nodelay(true).expect("send at once");
        Client { stream }
    }

    /// Errors: the broker has closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends what the sockets' buffers take and no more.
    pub fn send_without_waiting(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).expect("switch to non-blocking");
        let mut sent = 0;
        while let Ok(count) = self.stream.write(&bytes[sent..])
            && sent + count < bytes.len()
        {
            sent += count;
        }
        self.stream.set_nonblocking(false).expect("switch to blocking");
        sent
    }

    /// One frame without its length. Errors: the stream ended.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Whether the broker closes without a word.
    pub fn is_closed_by_broker(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    pub fn end_of_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("close one side");
    }

    /// Asks, and hands the answer's body to `look`.
    pub fn ask<'q, Q: Request<'q>, T>(
        &mut self,
        request: &Q,
        version: i16,
        look: impl FnOnce(&mut corelog::protocol::Reader<'_>) -> T,
    ) -> T {
        self.send(&frame(request, version)).expect("send a request");
        let answer = self.receive().expect("receive the answer");
        let (_, mut reader) = decode_response_header(&answer, Q::API, version).expect("a response header");
        look(&mut reader)
    }

    /// Error code and base offset of a produce with acks=all.
    pub fn produce(&mut self, topic: &str, records: &[u8]) -> (i16, i64) {
        self.ask(&produce_request(topic, records), PRODUCE_VERSION, |reader| {
            let answer = read::<ProduceResponse<'_>>(reader, PRODUCE_VERSION);
            let part =
                answer.responses.first().expect("a topic").partition_responses.first().expect("a part");
            (part.error_code, part.base_offset)
        })
    }

    /// Error code, high watermark and the bytes of records from this offset.
    pub fn fetch(&mut self, topic: &str, offset: i64) -> (i16, i64, Vec<u8>) {
        self.ask(&fetch_request(topic, offset, 0, 1 << 20), FETCH_VERSION, |reader| {
            let answer = read::<FetchResponse<'_>>(reader, FETCH_VERSION);
            let part = answer.responses.first().expect("a topic").partitions.first().expect("a part");
            let records = part.records.map(|records| records.to_contiguous().into_owned());
            (part.error_code, part.high_watermark, records.unwrap_or_default())
        })
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic].into(), ..CreateTopicsRequest::default() };
        let error = self.ask(&request, 5, |reader| {
            read::<CreateTopicsResponse<'_>>(reader, 5).topics.first().expect("a topic").error_code
        });
        assert_eq!(error, 0, "create {name}");
    }
}

/// Decodes a body.
pub fn read<'a, R: Response<'a>>(reader: &mut corelog::protocol::Reader<'a>, version: i16) -> R {
    R::decode(reader, version).expect("the broker's answer decodes")
}

/// A whole request frame.
pub fn frame<'q, Q: Request<'q>>(request: &Q, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    write_request(request, version, 7, Some("hostile"), &mut out);
    out
}

pub fn produce_request<'q>(topic: &'q str, records: &'q [u8]) -> ProduceRequest<'q> {
    let part = PartitionProduceData { index: 0, records: Some(records) };
    let topic =
        TopicProduceData { name: topic, partition_data: vec![part].into(), ..TopicProduceData::default() };
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic].into(),
        ..ProduceRequest::default()
    }
}

pub fn fetch_request(topic: &str, offset: i64, max_wait_ms: i32, max_bytes: i32) -> FetchRequest<'_> {
    let part = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: max_bytes,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic, partitions: vec![part].into(), ..FetchTopic::default() };
    FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        topics: vec![topic].into(),
        ..FetchRequest::default()
    }
}

/// A valid batch of one record.
pub fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(1_000, None, Some(value));
    builder.finish(0, corelog::model::LeaderEpoch(-1)).to_vec()
}

/// The sum over the shards of a metric.
pub fn metric(broker: &Broker, name: &str) -> u64 {
    let mut stream = TcpStream::connect(broker.admin_address()).expect("connect to the admin server");
    stream.set_read_timeout(Some(PATIENCE)).expect("set the patience");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: corelog\r\nConnection: close\r\n\r\n").expect("ask");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("read the metrics");
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let value =
        |line: &str| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok()).expect("a number");
    let values: Vec<f64> = page.lines().filter(of_name).map(value).collect();
    assert!(!values.is_empty(), "{name} is no metric");
    values.iter().sum::<f64>() as u64
}

/// Waits until a metric is at most `bound`.
pub fn wait_until_at_most(broker: &Broker, name: &str, bound: u64) {
    wait_until(&format!("{name} <= {bound}"), || metric(broker, name) <= bound);
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resident memory of the broker in MiB, found by its data directory among the processes.
pub fn resident_mib(broker: &Broker) -> u64 {
    let data = broker.data_directory();
    let data = data.to_str().expect("a plain name");
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|byte| *byte == 0).any(|word| word == data.as_bytes()) {
            let status = fs::read_to_string(entry.path().join("status")).expect("read its status");
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
            return line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
                / 1024;
        }
    }
    panic!("no process of {data}");
}

/// A client beside the abuse: produces and fetches back, and remembers the longest it had to wait.
pub struct Probe {
    client: Client,
    slowest: Duration,
}

impl Probe {
    pub fn start(broker: &Broker) -> Probe {
        let mut client = Client::connect(broker.address());
        client.create_topic("probe", 1);
        let mut probe = Probe { client, slowest: Duration::ZERO };
        wait_until("the probe's topic", || probe.client.produce("probe", &batch(b"first")).0 == 0);
        probe
    }

    /// One record there and back.
    pub fn beat(&mut self) {
        let start = Instant::now();
        let (error, offset) = self.client.produce("probe", &batch(b"beat"));
        assert_eq!(error, 0, "the probe's record is refused");
        let (error, high_watermark, records) = self.client.fetch("probe", offset);
        assert_eq!((error, records.is_empty()), (0, false));
        assert!(high_watermark > offset);
        self.slowest = self.slowest.max(start.elapsed());
    }

    /// A debug build on a busy machine is given seconds; a client that starves waits for ever.
    pub fn finish(mut self) {
        self.beat();
        assert!(self.slowest < Duration::from_secs(5), "another client waited {:?}", self.slowest);
    }
}
