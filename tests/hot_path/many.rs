//! What stands idle: partitions and connections without work cost little memory, few descriptors and no rounds of the loop.
//!
//! `HOT_PATH_PARTITIONS=10000` for the full size, which takes a minute and a disk of its own; then the times are held to their
//! bars too. The counts are the same for each partition whatever their number.

use std::time::{Duration, Instant};

use crate::ALONE;
use crate::client::Client;
use crate::node::Node;

const PARTITIONS: usize = 500;
const PARTITIONS_TIMED: usize = 10_000;

/// Bars for 10,000 partitions.
const CREATE_MAX: Duration = Duration::from_secs(30);
const START_MAX: Duration = Duration::from_secs(5);

/// Bars for each partition, or connection.
const PARTITION_BYTES_MAX: usize = 16 << 10;
const PARTITION_FILES_MAX: f64 = 3.0;
const CONNECTION_BYTES_MAX: usize = 8 << 10;

const CONNECTIONS: usize = 500;

/// How long idleness is watched, and the rounds that a shard may make meanwhile: timers of its own, not of partitions.
const WATCHED: Duration = Duration::from_secs(3);
const IDLE_ROUNDS_MAX: u64 = 60;

/// Memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has it").count()
}

fn idle_rounds(node: &Node) -> u64 {
    let before = node.work();
    std::thread::sleep(WATCHED);
    node.work().since(before).rounds
}

#[test]
fn idle_partitions_cost_little() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let count = std::env::var("HOT_PATH_PARTITIONS").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(PARTITIONS);
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), 1, false, &[]);
    let (bytes, files) = (resident_bytes(), open_files());
    let began = Instant::now();
    let mut client = Client::connect(node.addresses[0]);
    client.create_topic("many", count as i32, &[]);
    let created = began.elapsed();
    let each_bytes = resident_bytes().saturating_sub(bytes) / count;
    let each_files = (open_files() - files) as f64 / count as f64;
    let rounds = idle_rounds(&node);
    let began = Instant::now();
    node.stop(directory.path());
    let stopped = began.elapsed();
    let began = Instant::now();
    let node = Node::start(directory.path(), 1, false, &[]);
    let started = began.elapsed();
    println!(
        "{count} partitions: created in {created:.2?}, stopped in {stopped:.2?}, started in {started:.2?}; each {each_bytes} \
         bytes and {each_files:.3} files; {rounds} rounds in {WATCHED:?}"
    );
    let mut client = Client::connect(node.addresses[0]);
    assert_eq!(client.leaders("many").len(), count, "partitions after a start");
    assert!(each_bytes <= PARTITION_BYTES_MAX, "{each_bytes} bytes a partition");
    assert!(each_files <= PARTITION_FILES_MAX, "{each_files} files a partition");
    assert!(rounds <= IDLE_ROUNDS_MAX, "{rounds} rounds for partitions without work");
    if count >= PARTITIONS_TIMED {
        assert!(created <= CREATE_MAX, "made in {created:?}");
        assert!(started <= START_MAX, "started in {started:?}");
    }
}

#[test]
fn idle_connections_cost_little() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), 1, false, &[]);
    let mut first = Client::connect(node.addresses[0]);
    first.create_topic("t", 1, &[]);
    let bytes = resident_bytes();
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Client::connect(node.addresses[0]);
            // It was served once, so everything it needs is there.
            client.leaders("t");
            client
        })
        .collect();
    let each_bytes = resident_bytes().saturating_sub(bytes) / CONNECTIONS;
    let rounds = idle_rounds(&node);
    println!(
        "{CONNECTIONS} connections: each {each_bytes} bytes, the client's end included; {rounds} rounds in {WATCHED:?}"
    );
    assert!(each_bytes <= CONNECTION_BYTES_MAX, "{each_bytes} bytes a connection");
    assert!(rounds <= IDLE_ROUNDS_MAX, "{rounds} rounds for connections without work");
    drop(clients);
}
