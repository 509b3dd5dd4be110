//! A node with several data directories.

use super::*;
use crate::protocol::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use crate::reactor::sim::Faults;

const DIRECTORIES: [&str; 3] = ["/a", "/b", "/c"];

const TOPICS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];

/// Two shards, three directories, and six topics of one partition: `t1` and `t4` are in `/b`, on one shard each.
fn bench() -> (Bench, Client) {
    bench_with("page-cache")
}

const WRITE_PATHS: [&str; 2] = ["page-cache", "journal"];

fn bench_with(write_path: &str) -> (Bench, Client) {
    let world = SimWorld::new(11, SimOptions { shard_count: 2, ..SimOptions::default() });
    let mut bench = Bench::start(world, 2, &DIRECTORIES);
    let mut client = bench.client();
    for topic in TOPICS {
        client.make(&mut bench, &create_with(topic, write_path));
        assert_eq!(client.produce(&mut bench, topic), Some(ErrorCode::None), "{topic}");
    }
    (bench, client)
}

impl Bench {
    fn directories(&self) -> Arc<DirectorySet> {
        Arc::clone(self.shards[0].0.partitions.directories())
    }

    /// The data directory in which a partition's folder is.
    fn directory_of(&self, partition: &str) -> Vec<&'static str> {
        let files: &mut dyn Files = &mut self.world.files();
        let is_there = |path: &Path, files: &mut dyn Files| files.kind(path).unwrap().is_some();
        DIRECTORIES.into_iter().filter(|path| is_there(&Path::new(path).join(partition), files)).collect()
    }

    fn failed_count(&self) -> usize {
        self.directories().iter().filter(|(_, directory)| directory.failure().is_some()).count()
    }

    /// Flushes fail, from a produce to this topic until its directory has failed.
    fn break_directory_of(&mut self, client: &mut Client, topic: &str) {
        // What the others have under way in the background ends first.
        self.run_until(Duration::from_secs(1), |_| false);
        let before = self.failed_count();
        self.world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
        client.send_batch(self, topic, &[7; 100]);
        assert!(self.run_until(LONG, |bench| bench.failed_count() > before), "nothing fails");
        // Not longer: the broker registers anew at once, in the directory of the metadata.
        self.world.set_faults(Faults::default());
        assert_eq!(client.produced(self), Some(ErrorCode::KafkaStorageError));
        self.run_until(Duration::from_secs(1), |_| false);
    }

    /// Another shard, say, has seen this directory fail.
    fn fail(&self, path: &str) {
        let error = std::io::Error::from_raw_os_error(libc::EIO);
        let error = crate::log::StorageError::new("flush", path, error);
        let directories = self.directories();
        let index = directories.index_of(Uuid([path.as_bytes()[1]; 16])).expect("one of them");
        directories.fail(index, Arc::new(error));
    }

    /// Directories that the operator was told of, and whether the broker must stop.
    fn told_offline(&mut self) -> Vec<(String, bool)> {
        let events = self.shards.iter_mut().flat_map(|(shard, ..)| shard.take_events());
        let told = events.filter_map(|event| match event {
            ShardEvent::DirectoryOffline { path, must_stop, .. } => {
                Some((path.display().to_string(), must_stop))
            }
            _ => None,
        });
        told.collect()
    }
}

impl Client {
    /// (code, leader, offline replicas) of the one partition of a topic
    fn leadership(&mut self, bench: &mut Bench, topic: &str) -> (Option<ErrorCode>, i32, Vec<i32>) {
        let named = MetadataRequestTopic { name: Some(topic), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![named].into()), ..Default::default() };
        self.send(bench, &request, 9);
        let answer = self.answer(bench).unwrap();
        let (_, mut body) = decode_response_header(&answer, ApiKey::Metadata, 9).unwrap();
        let response = MetadataResponse::decode(&mut body, 9).unwrap();
        let topics = response.topics.to_vec();
        let partitions = topics[0].partitions.to_vec();
        let part = &partitions[0];
        (ErrorCode::from_code(part.error_code), part.leader_id, part.offline_replicas.to_vec())
    }

    /// (path, code, number of topics) of each directory
    fn log_directories(&mut self, bench: &mut Bench) -> Vec<(String, Option<ErrorCode>, usize)> {
        self.send(bench, &DescribeLogDirsRequest { topics: None }, 4);
        let answer = self.answer(bench).unwrap();
        let (_, mut body) = decode_response_header(&answer, ApiKey::DescribeLogDirs, 4).unwrap();
        let response = DescribeLogDirsResponse::decode(&mut body, 4).unwrap();
        let directories = response.results.iter();
        directories
            .map(|directory| {
                let code = ErrorCode::from_code(directory.error_code);
                (directory.log_dir.as_str().to_owned(), code, directory.topics.iter().count())
            })
            .collect()
    }
}

#[test]
fn partitions_are_spread_over_the_directories() {
    let (mut bench, mut client) = bench();
    for (topic, directory) in TOPICS.into_iter().zip(DIRECTORIES.into_iter().cycle()) {
        assert_eq!(bench.directory_of(&format!("{topic}-0")), [directory], "{topic}");
    }
    let none = Some(ErrorCode::None);
    let expected = DIRECTORIES.map(|path| (path.to_owned(), none, 2));
    assert_eq!(client.log_directories(&mut bench), expected);
    client.send(&bench, &delete("t1"), 6);
    assert!(client.answer(&mut bench).is_some());
    client.create(&mut bench, "t6");
    assert_eq!(bench.directory_of("t6-0"), ["/b"], "the one with the fewest");
}

#[test]
fn a_failed_directory_is_offline_on_every_shard_and_the_others_carry_on() {
    WRITE_PATHS.into_iter().for_each(check_that_the_others_carry_on);
}

fn check_that_the_others_carry_on(write_path: &str) {
    let (mut bench, mut client) = bench_with(write_path);
    bench.break_directory_of(&mut client, "t1");
    assert_eq!(bench.told_offline(), [("/b".to_owned(), false)], "told once");
    for (topic, directory) in TOPICS.into_iter().zip(DIRECTORIES.into_iter().cycle()) {
        let (produced, led) = match directory {
            "/b" => (ErrorCode::KafkaStorageError, (Some(ErrorCode::LeaderNotAvailable), -1, vec![1])),
            _ => (ErrorCode::None, (Some(ErrorCode::None), 1, vec![])),
        };
        assert_eq!(client.produce(&mut bench, topic), Some(produced), "produce to {topic}");
        client.send_fetch(&bench, topic, 0, 1);
        assert_eq!(client.fetched(&mut bench).map(|(code, _)| code), Some(produced), "fetch of {topic}");
        assert_eq!(client.leadership(&mut bench, topic), led, "{topic}");
    }
    let none = Some(ErrorCode::None);
    let expected = [
        ("/a".to_owned(), none, 2),
        ("/b".to_owned(), Some(ErrorCode::KafkaStorageError), 0),
        ("/c".to_owned(), none, 2),
    ];
    assert_eq!(client.log_directories(&mut bench), expected);

    // What is offline can be deleted, and nothing new goes there.
    client.send(&bench, &delete("t1"), 6);
    assert!(client.answer(&mut bench).is_some());
    for topic in ["t6", "t7", "t8"] {
        client.create(&mut bench, topic);
        assert_ne!(bench.directory_of(&format!("{topic}-0")), ["/b"]);
    }
    bench.stop();
}

#[test]
fn a_stop_leaves_the_directories_clean_that_have_not_failed() {
    let (mut bench, client) = bench_with("journal");
    bench.fail("/b");
    // Both journals of it have something in flight, or had a moment ago.
    client.send_batch(&bench, "t1", &[7; 100]);
    client.send_batch(&bench, "t4", &[7; 100]);
    bench.stop();
    let directories = bench.directories();
    let failed: Vec<bool> = directories.iter().map(|(_, d)| d.failure().is_some()).collect();
    assert_eq!(failed, [false, true, false]);
}

#[test]
fn without_the_directory_of_the_metadata_the_broker_stops() {
    let (mut bench, mut client) = bench();
    bench.break_directory_of(&mut client, "t0");
    assert_eq!(bench.told_offline(), [("/a".to_owned(), true)]);
    bench.stop();
}

#[test]
fn nothing_is_acknowledged_once_another_shard_has_seen_the_failure() {
    let high_watermark = |bench: &Bench| {
        let mut replicas = bench.shards[1].0.partitions.served();
        let (_, replica) = replicas.find(|(_, replica)| replica.at().topic.as_ref() == "t1").unwrap();
        (replica.log().log_end_offset(), replica.high_watermark())
    };
    let mut failed_before_commit = 0;
    // At each of these moments after the append, until its flush is done.
    for (write_path, micros) in
        WRITE_PATHS.into_iter().flat_map(|path| (0..400).step_by(50).map(move |at| (path, at)))
    {
        let (mut bench, _) = bench_with(write_path);
        let mut producer = bench.client();
        producer.send_batch(&bench, "t1", &[9; 100]);
        assert!(bench.run_until(LONG, |bench| high_watermark(bench).0 == 2), "it is appended");
        bench.run_until(Duration::from_micros(micros), |_| false);
        if high_watermark(&bench).1 == 2 {
            continue;
        }
        bench.fail("/b");
        assert_eq!(
            producer.produced(&mut bench),
            Some(ErrorCode::KafkaStorageError),
            "{write_path}, after {micros} µs"
        );
        failed_before_commit += 1;
    }
    assert!(failed_before_commit > 3, "the flush is over too soon: this shows nothing");
}

#[test]
fn a_partition_whose_directory_is_missing_waits_for_it() {
    let (bench, client) = bench();
    drop(client);
    let mut bench = Bench::start(bench.kill(), 2, &["/a", "/c"]);
    let mut client = bench.client();
    assert_eq!(client.produce(&mut bench, "t1"), Some(ErrorCode::KafkaStorageError));
    assert_eq!(client.leadership(&mut bench, "t1"), (Some(ErrorCode::LeaderNotAvailable), -1, vec![1]));
    assert_eq!(client.produce(&mut bench, "t2"), Some(ErrorCode::None));
    assert_eq!(bench.directory_of("t1-0"), ["/b"], "not made anew elsewhere");
    // An empty disk in its place has another id.
    let mut bench = Bench::start(bench.kill(), 2, &["/a", "/c", "/d"]);
    let mut client = bench.client();
    assert_eq!(client.produce(&mut bench, "t1"), Some(ErrorCode::KafkaStorageError));
    let mut bench = Bench::start(bench.kill(), 2, &DIRECTORIES);
    let mut client = bench.client();
    client.send_fetch(&bench, "t1", 0, 1);
    let (code, bytes) = client.fetched(&mut bench).unwrap();
    assert!(code == ErrorCode::None && bytes > 0, "its records are there: {code:?}, {bytes} bytes");
    assert_eq!(client.produce(&mut bench, "t1"), Some(ErrorCode::None));
}

#[test]
fn a_folder_in_another_directory_is_a_stray_or_refused() {
    let (bench, client) = bench();
    drop(client);
    let world = bench.kill();
    let files: &mut dyn Files = &mut world.files();
    files.rename(Path::new("/b/t1-0"), Path::new("/c/t1-0")).unwrap();
    let id = |path: &str| Uuid([path.as_bytes()[1]; 16]);
    let usable = DIRECTORIES.map(|path| open_directory(files, Path::new(path), id(path)).unwrap());
    let usable = Vec::from(usable);
    let directories = DirectorySet::new(usable, Vec::new());
    let first = directories.metadata();
    let properties = read_meta_properties(files, &first.path).unwrap().unwrap();
    let local = Local { node: NodeId(1), shards: 2 };
    let metadata =
        recover_metadata(files, &first.path, &properties, local, &first.book, &first.redone, 0).unwrap();
    let last = directories.iter().last().unwrap().0;
    let refused = sweep(files, &directories, last, &metadata.image).unwrap_err();
    assert!(matches!(&refused, BootError::Misplaced { to, .. } if to == Path::new("/b/t1-0")), "{refused}");
    // A folder in both places: the one that the metadata names counts.
    files.create_directory(Path::new("/b/t1-0")).unwrap();
    let strays = sweep(files, &directories, last, &metadata.image).unwrap();
    assert_eq!(strays, [Path::new("/c/t1-0-stray")]);
}
