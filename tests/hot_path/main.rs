//! What a request costs in work that can be counted: heap allocations, system calls, copies, sends, messages between shards.
//!
//! Times depend on the machine, counts hardly: so these are promises, and a change that breaks one fails here. A broker of one
//! or two shards runs in this process on the kernel's ring; an allocator counts for the shards' threads alone.
//! `HOT_PATH_TELLS=1` prints where allocations come from.
#![allow(clippy::disallowed_methods, reason = "a test has threads of its own")]

mod allocator;
mod client;
mod many;
mod node;
mod page_cache;
mod sessions;

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use client::Client;
use corelog::model::LeaderEpoch;
use corelog::record::BatchBuilder;
use node::{Node, Work};

/// One broker at a time: system calls for each request depend on how much comes in together.
static ALONE: Mutex<()> = Mutex::new(());

const CONNECTIONS: usize = 32;
const IN_FLIGHT: usize = 8;
const PARTITIONS: i32 = 16;
const VALUE: &[u8] = &[b'v'; 1024];

/// Each window is so many rounds of all connections: 1,280 requests, few enough that some have no checkpoint and no timer.
const ROUNDS: usize = 5;
const WINDOWS: usize = 36;
const WARM_UP: usize = 40;

/// How clients meet the shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    OneShard,
    TwoShards,
    PerCore,
}

struct Load {
    node: Node,
    clients: Vec<Client>,
    /// The partition that a connection speaks of.
    partitions: Vec<i32>,
    _directory: tempfile::TempDir,
}

impl Load {
    fn new(mode: Mode, topic: &[(&str, &str)]) -> Load {
        let directory = tempfile::tempdir().expect("a directory");
        let shards = if mode == Mode::OneShard { 1 } else { 2 };
        // A tail cache that is full after the warm-up: what comes in later takes the place of what was there.
        let settings = ["shard.tail.cache.bytes=8388608", "journal.size=33554432"];
        let node = Node::start(directory.path(), shards, mode == Mode::PerCore, &settings);
        let mut admin = Client::connect(node.addresses[0]);
        admin.create_topic("t", PARTITIONS, topic);
        let leaders = admin.leaders("t");
        let mut clients = Vec::new();
        let mut partitions = Vec::new();
        for connection in 0..CONNECTIONS {
            let partition = connection % PARTITIONS as usize;
            let address = node.addresses.iter().find(|address| address.port() == leaders[partition]);
            clients.push(Client::connect(*address.expect("a leader's address")));
            partitions.push(partition as i32);
        }
        Load { node, clients, partitions, _directory: directory }
    }

    /// Every connection sends its frames at once, then all replies are awaited.
    fn rounds(&mut self, frames: &[Vec<u8>], count: usize, mut look: impl FnMut(usize, &[u8])) {
        for _ in 0..count {
            for (client, frames) in self.clients.iter_mut().zip(frames) {
                client.send(frames);
            }
            for (connection, client) in self.clients.iter_mut().enumerate() {
                for _ in 0..IN_FLIGHT {
                    look(connection, client.receive());
                }
            }
        }
    }

    /// What each window of the load costs, after a warm-up.
    fn windows(&mut self, frames: &[Vec<u8>], mut look: impl FnMut(usize, &[u8])) -> Vec<Work> {
        self.rounds(frames, WARM_UP * ROUNDS, &mut look);
        let tells = std::env::var_os("HOT_PATH_TELLS").is_some();
        (0..WINDOWS)
            .map(|_| {
                let before = self.node.work();
                allocator::TELLS.store(tells, Ordering::Relaxed);
                self.rounds(frames, ROUNDS, &mut look);
                allocator::TELLS.store(false, Ordering::Relaxed);
                self.node.work().since(before)
            })
            .collect()
    }

    fn produce_frames(&self) -> Vec<Vec<u8>> {
        self.partitions
            .iter()
            .map(|partition| client::produce("t", *partition, VALUE).repeat(IN_FLIGHT))
            .collect()
    }
}

fn sum(windows: &[Work], of: impl Fn(&Work) -> u64) -> f64 {
    windows.iter().map(of).sum::<u64>() as f64
}

fn tell(name: &str, windows: &[Work]) {
    let requests = sum(windows, |work| work.requests);
    let each = |of: fn(&Work) -> u64| sum(windows, of) / requests;
    println!(
        "{name:<32} {requests} requests; of each: {:.4} allocations, {:.4} system calls, {:.4} sends, {:.4} messages, {:.1} bytes copied, {:.4} rounds",
        each(|work| work.allocations),
        each(|work| work.enters),
        each(|work| work.sends),
        each(|work| work.messages),
        each(|work| work.copied_bytes),
        each(|work| work.rounds),
    );
    let allocations: Vec<u64> = windows.iter().map(|work| work.allocations).collect();
    println!("    allocations by window: {allocations:?}");
}

/// What holds whatever is asked. `allocations_max`: for each request.
fn check(name: &str, mode: Mode, windows: &[Work], allocations_max: f64) {
    tell(name, windows);
    let requests = sum(windows, |work| work.requests);
    let each = |of: fn(&Work) -> u64| sum(windows, of) / requests;
    assert_eq!(requests as usize, WINDOWS * ROUNDS * CONNECTIONS * IN_FLIGHT, "{name}");
    let allocations = each(|work| work.allocations);
    assert!(allocations <= allocations_max, "{name}: {allocations} allocations a request");
    if mode != Mode::TwoShards {
        let least = windows.iter().map(|work| work.allocations).min();
        assert_eq!(least, Some(0), "{name}: each window allocates, so requests do");
    }
    let enters = each(|work| work.enters);
    // A flush for each log and commit, waited for one after another, has more rounds than requests to fill them.
    let is_flushed_each = name.contains("fsync, page-cache") || name.contains("fsync, direct");
    let enters_max = if is_flushed_each { 0.25 } else { 0.1 };
    // Between two shards there is one more way to wait; the bar is for requests that their shard serves.
    let enters_max = if mode == Mode::TwoShards { 2.0 * enters_max } else { enters_max };
    assert!(enters <= enters_max, "{name}: {enters} system calls a request");
    let sends = each(|work| work.sends);
    assert!(
        sends <= 1.5 / IN_FLIGHT as f64,
        "{name}: {sends} sends a request, where one has {IN_FLIGHT} replies"
    );
    let messages = each(|work| work.messages);
    match mode {
        Mode::TwoShards => assert!(messages <= 2.0, "{name}: {messages} messages a request"),
        Mode::OneShard => assert_eq!(messages, 0.0, "{name}: messages a request"),
        Mode::PerCore => assert!(messages <= TOLD_MAX, "{name}: {messages} messages a request"),
    }
}

fn check_produce(mode: Mode, durability: &str, path: &str, allocations_max: f64, copies_max: f64) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut load = Load::new(mode, &[("durability", durability), ("write.path", path)]);
    let frames = load.produce_frames();
    let windows = load.windows(&frames, |_, response| _ = client::produced(response));
    let name = format!("produce, {mode:?}, {durability}, {path}");
    check(&name, mode, &windows, allocations_max);
    let copied = sum(&windows, |work| work.copied_bytes) / sum(&windows, |work| work.requests);
    let batch = batch_bytes() as f64;
    // A frame that lies across two receive buffers is put together, once more.
    assert!(copied <= (copies_max + 0.02) * batch, "{name}: {copied} bytes copied for a batch of {batch}");
    assert!(copied >= 0.99 * batch, "{name}: {copied} bytes copied for a batch of {batch}: what is counted?");
}

fn batch_bytes() -> usize {
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(VALUE));
    batch.finish(0, LeaderEpoch(-1)).len()
}

/// What is not of requests: indexes that grow, memory that more of than ever before is in use at a time. A fiftieth of a percent
/// to a fifth.
const GROWTH: f64 = 0.005;

/// And checkpoints of the journal, three for each: two jobs for the helper, and what one is to write.
const JOURNAL: f64 = GROWTH + 0.001;

/// What shards tell each other every ten seconds, whatever is asked.
const TOLD_MAX: f64 = 0.001;

/// Messages to another shard, their lists, and the batch that is kept for it.
const MESSAGES: f64 = 4.0;

#[test]
fn a_produce_costs_its_copies_and_allocates_nothing() {
    check_produce(Mode::OneShard, "os", "page-cache", GROWTH, 1.0);
    check_produce(Mode::PerCore, "os", "page-cache", GROWTH, 1.0);
    check_produce(Mode::TwoShards, "os", "page-cache", MESSAGES, 2.0);
    check_produce(Mode::OneShard, "os", "auto", JOURNAL, 2.0);
    check_produce(Mode::PerCore, "os", "auto", JOURNAL, 2.0);
}

#[test]
fn a_durable_produce_is_copied_once_more_for_the_journal() {
    check_produce(Mode::OneShard, "fsync", "journal", JOURNAL, 2.0);
    check_produce(Mode::OneShard, "fsync", "page-cache", GROWTH, 1.0);
    check_produce(Mode::PerCore, "fsync", "journal", JOURNAL, 2.0);
}

#[test]
fn a_direct_produce_is_copied_once_more_for_its_blocks_and_what_is_left_of_one_for_the_journal() {
    check_produce(Mode::OneShard, "fsync", "direct", JOURNAL, 2.5);
    check_produce(Mode::OneShard, "os", "direct", JOURNAL, 2.5);
}

#[test]
fn a_fetch_from_the_tail_cache_allocates_and_copies_nothing() {
    for mode in [Mode::OneShard, Mode::PerCore, Mode::TwoShards] {
        let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut load = Load::new(mode, &[("durability", "os")]);
        let mut offsets = vec![0; CONNECTIONS];
        let frames = load.produce_frames();
        load.rounds(&frames, 10, |connection, response| offsets[connection] = client::produced(response));
        let fetch = |(partition, offset): (&i32, &i64)| {
            client::fetch("t", *partition, *offset, 64 << 10).repeat(IN_FLIGHT)
        };
        let frames: Vec<Vec<u8>> = load.partitions.iter().zip(&offsets).map(fetch).collect();
        let mut bytes = 0;
        let windows = load.windows(&frames, |_, response| bytes += client::fetched(response));
        assert!(bytes > 0, "nothing was fetched");
        let name = format!("fetch, {mode:?}");
        // One in thousands is of the clock's: timers that other work left behind.
        check(&name, mode, &windows, if mode == Mode::TwoShards { MESSAGES } else { 0.001 });
        assert_eq!(sum(&windows, |work| work.copied_bytes), 0.0, "{name}");
        assert_eq!(sum(&windows, |work| work.disk_reads), 0.0, "{name}: not from memory");
    }
}
