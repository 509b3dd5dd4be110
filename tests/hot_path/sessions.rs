//! What a fetch session costs: as much as has changed in it, however many partitions it has.

use std::time::{Duration, Instant};

use crate::ALONE;
use crate::client::{self, Client};
use crate::node::{Node, Work};

const ROUNDS: usize = 200;

/// The partition with the record, the one that the request names, and seldom one that is looked at in vain.
const PARTS_MAX: f64 = 2.5;

/// Of a poll and its produce, whatever the number of partitions: a block of the tail for each log, and where messages go to
/// another shard, there and back and to wake the poll, what is in them.
const ALLOCATIONS_MAX: f64 = 8.0;
const ALLOCATIONS_AFAR_MAX: f64 = 20.0;
const MESSAGES_MAX: f64 = 8.0;

/// A broker with a topic of so many partitions, one who produces to it, and one who polls a session of all of them.
struct Polls {
    node: Node,
    producer: Client,
    consumer: Client,
    partitions: i32,
    /// Where each of the two partitions ends that records come to.
    ends: [i64; 2],
    _directory: tempfile::TempDir,
}

impl Polls {
    fn new(shards: u16, partitions: i32) -> Polls {
        let directory = tempfile::tempdir().expect("a directory");
        let node = Node::start(directory.path(), shards, false, &["shard.tail.cache.bytes=8388608"]);
        let (mut producer, consumer) =
            (Client::connect(node.addresses[0]), Client::connect(node.addresses[0]));
        producer.create_topic("many", partitions, &[("durability", "os")]);
        Polls { node, producer, consumer, partitions, ends: [0; 2], _directory: directory }
    }

    /// Polls of a new session, in each of which one record comes to one of its partitions; what that cost the shards, and the
    /// time of a poll. `waits`: the record comes while the poll waits.
    fn run(&mut self, waits: bool) -> (Work, Duration) {
        // From both halves, so that with two shards some are the other one's.
        let busy = [0, self.partitions / 2 + 1];
        let frames = busy.map(|partition| client::produce("many", partition, b"value"));
        let mut all: Vec<(i32, i64)> = (0..self.partitions).map(|partition| (partition, 0)).collect();
        for (partition, end) in busy.iter().zip(self.ends) {
            all[*partition as usize].1 = end;
        }
        self.consumer.send(&client::fetch_in_session("many", 0, 0, &all, 0));
        let (id, parts) = client::fetched_in_session(self.consumer.receive());
        assert!(id > 0 && parts.len() == all.len(), "a full fetch names them all");
        let mut named = Vec::new();
        let (mut before, mut began) = (Work::default(), Instant::now());
        for round in 0..2 * ROUNDS {
            if round == ROUNDS {
                (before, began) = (self.node.work(), Instant::now());
            }
            let which = round % busy.len();
            let request = client::fetch_in_session("many", id, 1 + round as i32, &named, 1);
            if waits {
                self.consumer.send(&request);
            }
            self.producer.send(&frames[which]);
            self.ends[which] = client::produced(self.producer.receive()) + 1;
            if !waits {
                self.consumer.send(&request);
            }
            let (_, parts) = client::fetched_in_session(self.consumer.receive());
            assert_eq!(parts.len(), 1, "what has not changed is not in the answer");
            assert!(parts[0].0 == busy[which] && parts[0].1 > 0, "round {round}: {parts:?}");
            named = vec![(busy[which], self.ends[which])];
        }
        (self.node.work().since(before), began.elapsed() / ROUNDS as u32)
    }
}

#[test]
fn a_fetch_session_costs_what_has_changed() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for shards in [1, 2] {
        for partitions in [10, 1000] {
            let mut polls = Polls::new(shards, partitions);
            for waits in [false, true] {
                let (work, time) = polls.run(waits);
                let each = |count: u64| count as f64 / ROUNDS as f64;
                let (parts, allocations, messages) =
                    (each(work.fetch_parts), each(work.allocations), each(work.messages));
                let name = format!("{shards} shards, {partitions} partitions, waits {waits}");
                println!(
                    "{name}: of each poll {parts:.2} partitions looked at, {allocations:.2} allocations, {messages:.2} \
                     messages, {time:.2?} with its produce"
                );
                assert!(parts <= PARTS_MAX, "{name}: {parts} partitions looked at");
                let (allocations_max, messages_max) =
                    if shards == 1 { (ALLOCATIONS_MAX, 0.0) } else { (ALLOCATIONS_AFAR_MAX, MESSAGES_MAX) };
                assert!(allocations <= allocations_max, "{name}: {allocations} allocations");
                assert!(messages <= messages_max, "{name}: {messages} messages");
            }
        }
    }
}
