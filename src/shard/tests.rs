//! A node of one process on the model, asked over its sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::config;
use crate::controller::Format;
use crate::limits::{Limits, Resources};
use crate::log::layout::MetaProperties;
use crate::log::{CheckpointBook, layout};
use crate::mesh::sim::SimMesh;
use crate::metadata::Local;
use crate::model::{Endpoint, LeaderEpoch, NodeId, Uuid};
use crate::partition::{DataDirectory, DirectorySet};
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::protocol::{ApiKey, ErrorCode, Message as _, Request, decode_response_header, write_request};
use crate::reactor::sim::{ClientId, ClientState, CrashKind, Delay, SimIo, SimOptions, SimWorld, Turn};
use crate::reactor::{Files, Io};
use crate::record::BatchBuilder;

mod damage;
mod directories;
mod distrust;
mod fetch_sessions;
mod old_files;
mod per_core;
mod stages;

const DATA: &str = "/data";

/// Old segments that are held open.
const OLD_FILES: u32 = 3;

struct Bench {
    world: SimWorld,
    shards: Vec<(Shard, SimIo, SimMesh)>,
    /// Of each endpoint, or the one of all.
    ports: Vec<u16>,
}

/// How a node is laid out.
#[derive(Clone, Copy)]
struct Shape {
    shards: u16,
    endpoints: u16,
    /// Clients see the endpoints.
    is_per_core: bool,
}

impl Shape {
    fn shared(shards: u16) -> Shape {
        Shape { shards, endpoints: shards, is_per_core: false }
    }
}

impl Bench {
    fn new(shard_count: u16, options: SimOptions) -> Bench {
        Bench::of_seed(11, shard_count, options)
    }

    fn of_seed(seed: u64, shard_count: u16, options: SimOptions) -> Bench {
        let world = SimWorld::new(seed, SimOptions { shard_count, ..options });
        Bench::start(world, shard_count, &[DATA])
    }

    fn start(world: SimWorld, shard_count: u16, paths: &[&str]) -> Bench {
        Bench::try_start(world, Shape::shared(shard_count), paths).unwrap()
    }

    fn start_as(world: SimWorld, shape: Shape, paths: &[&str]) -> Bench {
        Bench::try_start(world, shape, paths).unwrap()
    }

    /// Starts a node on these data directories; those that are new are formatted.
    fn try_start(world: SimWorld, shape: Shape, paths: &[&str]) -> Result<Bench, BootError> {
        let Shape { shards: shard_count, endpoints, is_per_core } = shape;
        let files: &mut dyn Files = &mut world.files();
        let config = Arc::new(config::parse(None, &[]).unwrap().config);
        let format = Format { cluster_id: Uuid([7; 16]), slots: 8, endpoints, min_insync_replicas: 1 };
        let mut usable = Vec::new();
        let mut first: Option<MetaProperties> = None;
        for path in paths.iter().copied().map(Path::new) {
            if files.kind(path).unwrap().is_none() {
                files.create_directory(path).unwrap();
                files.sync_directory(Path::new("/")).unwrap();
            }
            // The last letter of the path, so that a directory has the same id whatever its place.
            let id = Uuid([path.to_str().unwrap().bytes().last().unwrap(); 16]);
            let properties = match (read_meta_properties(files, path)?, &first) {
                (Some(properties), _) => properties,
                (None, None) => format_directory(files, path, NodeId(1), &format, id, 0)?,
                (None, Some(first)) => {
                    let properties = MetaProperties { directory_id: id, ..first.clone() };
                    format_added_directory(files, path, &properties)?;
                    properties
                }
            };
            usable.push(open_directory(files, path, properties.directory_id)?);
            first.get_or_insert(properties);
        }
        let properties = first.expect("a node has a directory");
        let directories = Arc::new(DirectorySet::new(usable, Vec::new()));
        let local = Local { node: NodeId(1), shards: shard_count };
        let metadata_directory = directories.metadata();
        let (path, book) = (&metadata_directory.path, &metadata_directory.book);
        let metadata =
            recover_metadata(files, path, &properties, local, book, &metadata_directory.redone, 0)?;
        for (index, _) in directories.iter() {
            sweep(files, &directories, index, &metadata.image)?;
        }
        let image = Arc::new(metadata.image.clone());
        let mut metadata = Some(metadata);
        let mut limits =
            Limits::new(&config, shard_count, Resources { memory_bytes: 1 << 30, open_files: 100_000 });
        // Fetches read from the disk.
        limits.shard_tail_cache_bytes = 0;
        limits.shard_old_files = OLD_FILES;
        let admission = admission(&limits);
        let mut meshes = crate::mesh::sim::mesh(shard_count, 5).into_iter();
        let count = if is_per_core { usize::from(endpoints) } else { 1 };
        let mut bench = Bench { world, shards: Vec::new(), ports: vec![0; count] };
        let mut listening = Vec::new();
        for shard in (0..shard_count).map(ShardId) {
            let mut io = bench.world.io(shard);
            let endpoints: Vec<Option<Endpoint>> = match is_per_core {
                true => image.layout.endpoints_of(shard, shard_count).map(Some).collect(),
                false => vec![None],
            };
            let mut listen = |endpoint: Option<Endpoint>| {
                let port = &mut bench.ports[endpoint.map_or(0, |endpoint| usize::from(endpoint.0))];
                let (listener, bound) = io.listen(*port);
                *port = bound;
                Entrance { listener, endpoint }
            };
            let entrances: Vec<Entrance> = endpoints.into_iter().map(&mut listen).collect();
            listening.push((shard.0, io, entrances));
        }
        for (index, mut io, entrances) in listening {
            let input = BootInput {
                shard: ShardId(index),
                shard_count,
                config: Arc::clone(&config),
                limits: limits.clone(),
                admission: Arc::clone(&admission),
                directories: Arc::clone(&directories),
                image: Arc::clone(&image),
                metadata: metadata.take(),
                registration: Registration {
                    node: NodeId(1),
                    host: "sim".into(),
                    port: bench.ports[0],
                    endpoint_ports: if is_per_core { bench.ports.clone() } else { Vec::new() },
                    rack: None,
                    directories: directories.online_ids(),
                },
            };
            let mut shard = boot(&mut io, input, &mut |_| {})?;
            shard.serve(&mut io, entrances);
            bench.shards.push((shard, io, meshes.next().unwrap()));
        }
        Ok(bench)
    }

    /// The process is killed; what is in the page cache stays.
    fn kill(self) -> SimWorld {
        drop(self.shards);
        self.world.crash(CrashKind::ProcessKill);
        self.world.restart();
        self.world
    }

    /// Runs until `is_done`, at most for so long. False: it did not come to that.
    fn run_until(&mut self, longest: Duration, mut is_done: impl FnMut(&mut Bench) -> bool) -> bool {
        let until = self.world.now() + longest;
        while !is_done(self) {
            match self.world.next_turn(until) {
                Turn::Shard(shard) => {
                    let (shard, io, mesh) = &mut self.shards[usize::from(shard.0)];
                    if !shard.has_stopped() {
                        shard.turn(io, mesh);
                    }
                    if shard.has_stopped() {
                        io.wait(Monotonic::NEVER);
                    } else {
                        wait(shard, io, mesh);
                    }
                }
                Turn::Client(_) => {}
                Turn::Crashed => panic!("nothing crashes the machine here"),
                Turn::Idle => return false,
            }
        }
        true
    }

    /// Whoever has files open in the folder of a partition is the one that the folder belongs to.
    fn check_folder(&mut self, name: &str) {
        let path = Path::new(DATA).join(name).join(layout::PARTITION_METADATA);
        let files: &mut dyn Files = &mut self.world.files();
        let Ok(bytes) = files.read_all(&path) else { return };
        let belongs_to = std::str::from_utf8(&bytes).ok().and_then(layout::parse_partition_metadata);
        let replicas = self.shards.iter().flat_map(|(shard, ..)| shard.partitions.iter());
        for (_, replica) in replicas.filter(|(_, replica)| replica.at().to_string() == name) {
            assert_eq!(Some(replica.topic_id()), belongs_to, "two replicas share {name}");
        }
    }

    fn client(&mut self) -> Client {
        self.client_at(0)
    }

    /// A client of an endpoint.
    fn client_at(&mut self, endpoint: usize) -> Client {
        Client { id: self.world.connect(self.ports[endpoint]), received: Vec::new() }
    }

    /// A clean stop without the marker, to its end.
    fn stop(&mut self) {
        for (shard, io, _) in &mut self.shards {
            shard.command(io, Command::Stop);
            io.wait(Monotonic(0));
        }
        assert!(self.run_until(LONG, |bench| bench.has_stopped()), "the stop does not end");
    }

    /// `stop`, and a new start.
    fn restart(mut self) -> Bench {
        self.stop();
        let Bench { world, shards, .. } = self;
        let shard_count = shards.len() as u16;
        drop(shards);
        world.crash(CrashKind::ProcessKill);
        world.restart();
        Bench::start(world, shard_count, &[DATA])
    }

    fn has_stopped(&self) -> bool {
        self.shards.iter().all(|(shard, ..)| shard.has_stopped())
    }
}

/// What was left in a data directory is carried out.
fn open_directory(files: &mut dyn Files, path: &Path, id: Uuid) -> Result<DataDirectory, BootError> {
    let LeftBehind { was_clean, redone, .. } = take_over(files, path, &mut |_| {})?;
    let book = Arc::new(CheckpointBook::load(files, path)?);
    Ok(DataDirectory::new(path.to_owned(), id, book, was_clean).with_journals(redone, false, true))
}

struct Client {
    id: ClientId,
    received: Vec<u8>,
}

const LONG: Duration = Duration::from_secs(30);

impl Client {
    fn send<'a>(&self, bench: &Bench, request: &impl Request<'a>, version: i16) {
        let mut frame = BytesMut::new();
        write_request(request, version, 0, Some("test"), &mut frame);
        bench.world.client_send(self.id, &frame);
    }

    /// The next answer, if it comes.
    fn answer(&mut self, bench: &mut Bench) -> Option<Vec<u8>> {
        let whole = |client: &Client| {
            let length =
                client.received.first_chunk::<4>().map(|length| i32::from_be_bytes(*length) as usize);
            length.filter(|length| client.received.len() >= 4 + length)
        };
        bench.run_until(LONG, |bench| {
            self.received.extend(bench.world.client_received(self.id));
            whole(self).is_some() || bench.world.client_state(self.id) == ClientState::Ended
        });
        let length = whole(self)?;
        Some(self.received.drain(..4 + length).skip(4).collect())
    }

    /// Sends a request and waits for the body of its answer.
    fn ask<'a, Q: Request<'a>>(&mut self, bench: &mut Bench, request: &Q, version: i16) -> Vec<u8> {
        self.send(bench, request, version);
        let answer = self.answer(bench).expect("it is answered");
        let (_, body) = decode_response_header(&answer, Q::API, version).unwrap();
        body.remaining().to_vec()
    }

    fn create(&mut self, bench: &mut Bench, topic: &str) {
        self.make(bench, &create(topic));
    }

    fn make(&mut self, bench: &mut Bench, request: &CreateTopicsRequest<'_>) {
        self.send(bench, request, 5);
        let answer = self.answer(bench).expect("the topic is made");
        let (_, mut body) = decode_response_header(&answer, ApiKey::CreateTopics, 5).unwrap();
        let response = CreateTopicsResponse::decode(&mut body, 5).unwrap();
        assert_eq!(response.topics.first().unwrap().error_code, 0);
    }

    fn produce(&mut self, bench: &mut Bench, topic: &str) -> Option<ErrorCode> {
        self.send_batch(bench, topic, &[7; 100]);
        self.produced(bench)
    }

    fn produced(&mut self, bench: &mut Bench) -> Option<ErrorCode> {
        let answer = self.answer(bench)?;
        let (_, mut body) = decode_response_header(&answer, ApiKey::Produce, 9).unwrap();
        let response = ProduceResponse::decode(&mut body, 9).unwrap();
        let part = response.responses.first()?.partition_responses.first()?;
        ErrorCode::from_code(part.error_code)
    }

    fn send_batch(&self, bench: &Bench, topic: &str, value: &[u8]) {
        let mut batch = BatchBuilder::new();
        batch.push(1_700_000_000_000, None, Some(value));
        let records = batch.finish(0, LeaderEpoch(-1));
        let data = PartitionProduceData { index: 0, records: Some(&records) };
        let topic = TopicProduceData { name: topic, partition_data: vec![data].into(), ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic].into(),
            ..Default::default()
        };
        self.send(bench, &request, 9);
    }

    fn send_fetch(&self, bench: &Bench, topic: &str, offset: i64, min_bytes: i32) {
        let part =
            FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic, partitions: vec![part].into(), ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 10_000,
            min_bytes,
            max_bytes: 1000,
            session_epoch: -1,
            topics: vec![topic].into(),
            ..Default::default()
        };
        self.send(bench, &request, 11);
    }

    fn fetched(&mut self, bench: &mut Bench) -> Option<(ErrorCode, usize)> {
        let answer = self.answer(bench)?;
        let (_, mut body) = decode_response_header(&answer, ApiKey::Fetch, 11).unwrap();
        let response = FetchResponse::decode(&mut body, 11).unwrap();
        let topic = response.responses.to_vec().into_iter().next()?;
        let part = topic.partitions.to_vec().into_iter().next()?;
        let bytes = part.records.as_ref().map_or(0, |records| records.to_contiguous().len());
        Some((ErrorCode::from_code(part.error_code)?, bytes))
    }
}

fn create(name: &str) -> CreateTopicsRequest<'_> {
    // Through the page cache: what the journal has not brought home yet would be read from memory, and not from the disk.
    create_with(name, "page-cache")
}

fn create_with<'a>(name: &'a str, write_path: &'a str) -> CreateTopicsRequest<'a> {
    let write_path = CreatableTopicConfig { name: "write.path", value: Some(write_path) };
    let topic = CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![write_path].into(),
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() }
}

fn delete(name: &str) -> DeleteTopicsRequest<'_> {
    let topic = DeleteTopicState { name: Some(name), ..Default::default() };
    DeleteTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() }
}

#[test]
fn a_topic_goes_though_a_fetch_reads_it() {
    // The read outlasts all that the deletion does.
    let mut bench =
        Bench::new(2, SimOptions { read: Delay::micros(500_000, 600_000), ..SimOptions::default() });
    let (mut reader, mut admin) = (bench.client(), bench.client());
    admin.create(&mut bench, "t");
    assert_eq!(admin.produce(&mut bench, "t"), Some(ErrorCode::None));
    reader.send_fetch(&bench, "t", 0, 1);
    bench.run_until(Duration::from_millis(10), |_| false);
    admin.send(&bench, &delete("t"), 6);
    assert!(admin.answer(&mut bench).is_some(), "the deletion is answered");
    assert_eq!(reader.fetched(&mut bench), Some((ErrorCode::UnknownTopicOrPartition, 0)));
    // Later images are applied.
    admin.create(&mut bench, "t");
}

#[test]
fn a_parked_fetch_is_told_that_its_topic_is_gone() {
    let mut bench = Bench::new(1, SimOptions::default());
    let (mut reader, mut admin) = (bench.client(), bench.client());
    admin.create(&mut bench, "t");
    reader.send_fetch(&bench, "t", 0, 1);
    bench.run_until(Duration::from_millis(100), |_| false);
    let began = bench.world.now();
    admin.send(&bench, &delete("t"), 6);
    assert_eq!(reader.fetched(&mut bench), Some((ErrorCode::UnknownTopicOrPartition, 0)));
    assert!(bench.world.now().since(began) < Duration::from_secs(5), "it waited to its end");
}

#[test]
fn more_bytes_than_the_answer_may_hold_are_not_waited_for() {
    let mut bench = Bench::new(1, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "t");
    for _ in 0..8 {
        assert_eq!(client.produce(&mut bench, "t"), Some(ErrorCode::None));
    }
    let began = bench.world.now();
    client.send_fetch(&bench, "t", 0, 1 << 20);
    let (error, bytes) = client.fetched(&mut bench).unwrap();
    assert_eq!((error, bytes), (ErrorCode::None, 1000));
    assert!(bench.world.now().since(began) < Duration::from_secs(5), "it waited to its end");
}

#[test]
fn a_topic_made_anew_takes_its_folder_after_the_old_one_has_left() {
    for seed in 0..10 {
        let mut bench = Bench::of_seed(seed, 2, SimOptions::default());
        let (mut first, mut second) = (bench.client(), bench.client());
        first.create(&mut bench, "t");
        assert_eq!(first.produce(&mut bench, "t"), Some(ErrorCode::None));
        // While the first is being made the others come, and the last of them is all that the shards are given.
        second.send(&bench, &create("other"), 5);
        second.send(&bench, &delete("t"), 6);
        second.send(&bench, &create("t"), 5);
        bench.run_until(Duration::from_millis(100), |bench| {
            bench.check_folder("t-0");
            false
        });
        for _ in 0..3 {
            assert!(second.answer(&mut bench).is_some());
        }
        assert_eq!(first.produce(&mut bench, "t"), Some(ErrorCode::None));
    }
}

#[test]
fn a_node_whose_disk_is_full_can_be_stopped() {
    let mut bench = Bench::new(2, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "t");
    bench.world.set_quota(0);
    client.send(&bench, &create("u"), 5);
    bench.run_until(LONG, |_| false);
    bench.stop();
}

#[test]
fn decisions_that_wait_for_room_together_are_undone_together() {
    let mut bench = Bench::new(1, SimOptions::default());
    bench.client().create(&mut bench, "t");
    bench.world.set_quota(0);
    // More than the space that is reserved for the metadata log takes.
    let mut clients: Vec<Client> = (0..40).map(|_| bench.client()).collect();
    for (number, client) in clients.iter().enumerate() {
        for part in 0..10 {
            client.send(&bench, &create(&format!("{number}-{part}-{}", "x".repeat(200))), 5);
        }
    }
    bench.run_until(LONG, |_| false);
    bench.world.set_quota(u64::MAX);
    let answers = clients.iter_mut().map(|client| client.answer(&mut bench));
    let refused = answers.filter(Option::is_none).count();
    assert!(refused > 1, "the room sufficed: this shows nothing");
    bench.client().create(&mut bench, "u");
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_a_stop() {
    let mut bench = Bench::new(1, SimOptions { send_window_bytes: 10, ..SimOptions::default() });
    let mut client = bench.client();
    client.create(&mut bench, "t");
    bench.world.client_pause(client.id);
    client.send_batch(&bench, "t", &[1; 50]);
    bench.run_until(Duration::from_secs(1), |_| false);
    bench.stop();
}

#[test]
fn a_node_without_space_registers_once_there_is_some() {
    let mut bench = Bench::new(1, SimOptions::default());
    bench.world.set_quota(0);
    bench.run_until(LONG, |_| false);
    assert!(!bench.shards[0].0.is_registered(), "the quota leaves no room: else this shows nothing");
    bench.world.set_quota(u64::MAX);
    assert!(bench.run_until(LONG, |bench| bench.shards[0].0.is_registered()));
    bench.client().create(&mut bench, "t");
}

#[test]
fn the_epoch_of_a_fetch_is_known_before_the_first_batch_of_it() {
    let mut bench = Bench::new(1, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "t");
    let mut check = |last_fetched_epoch, expected| {
        let part = FetchPartition { last_fetched_epoch, ..Default::default() };
        let topic = FetchTopic { topic: "t", partitions: vec![part].into(), ..Default::default() };
        let request =
            FetchRequest { session_epoch: -1, topics: vec![topic].into(), ..FetchRequest::default() };
        client.send(&bench, &request, 12);
        let answer = client.answer(&mut bench).unwrap();
        let (_, mut body) = decode_response_header(&answer, ApiKey::Fetch, 12).unwrap();
        let response = FetchResponse::decode(&mut body, 12).unwrap();
        let part = response.responses.first().unwrap().partitions.first().unwrap();
        let found = (ErrorCode::from_code(part.error_code), part.diverging_epoch.end_offset);
        assert_eq!(found, expected, "last fetched epoch {last_fetched_epoch}");
    };
    check(-1, (Some(ErrorCode::None), -1));
    check(0, (Some(ErrorCode::None), -1));
    check(1, (Some(ErrorCode::OffsetOutOfRange), -1));
}
