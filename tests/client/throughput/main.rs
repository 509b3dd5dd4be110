//! Which client needs less: the library's own or librdkafka's, side by side against one broker?
//!
//! Workload: records of 1 KiB without keys and without compression, the same settings for both clients, rounds in turns (one,
//! then the other). `produce`: one producer, `acks=all`, idempotent. `consume`: one consumer reads topics that are full
//! already, of 1 and of 16 partitions, each value touched. `paced`: 10,000 records a second, open loop, `linger.ms=0`; a
//! record's time begins when it was due, and ends with its acknowledgement, or in the hands of a consumer of the same library.
//! Units: thousand records a second; microseconds of this process's CPU time a record, all threads; microseconds.
//! The broker is another process on the same machine, with `log.durability=os`, so that the disk is not the answer.
//! Cannot show: what either does on a machine of its own.
//!
//! `cargo bench -p corelog-clients --bench throughput -- [produce] [consume] [paced] [RECORDS [ROUNDS]]`, all three where none
//! is named; in tests it runs with few records.
// Tests and benches have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

mod consuming;
mod figures;
mod pacing;
mod producing;

use corelog_clients::Broker;

/// The bytes of every record that is not timed.
const VALUE: [u8; 1024] = [b'x'; 1024];

/// What the producers are told.
const PRODUCER: [(&str, &str); 4] =
    [("acks", "all"), ("enable.idempotence", "true"), ("batch.size", "262144"), ("linger.ms", "5")];

/// Sockets as the kernel likes them, which is what librdkafka does by itself.
const SOCKETS: [(&str, &str); 2] = [("receive.buffer.bytes", "-1"), ("send.buffer.bytes", "-1")];

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let is_bench = has("--bench");
    let records = numbers.first().copied().unwrap_or(if is_bench { 500_000 } else { 500 });
    let rounds = numbers.get(1).copied().unwrap_or(if is_bench { 5 } else { 1 });
    type Compare = fn(&Broker, usize, usize);
    let parts: [(&str, Compare); 3] =
        [("produce", producing::compare), ("consume", consuming::compare), ("paced", pacing::compare)];
    let is_chosen = parts.iter().any(|(name, _)| has(name));
    let broker = corelog_clients::options!().set("log.durability", "os").set("num.partitions", "1").start();
    for (name, compare) in parts {
        if has(name) || !is_chosen {
            compare(&broker, records, rounds);
        }
    }
    broker.finish();
}
