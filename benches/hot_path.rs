//! Question: what do the parts of a produce request cost before the log has it? Workload: one core, data in cache; CRC-32C
//! over batches of 1 KiB to 1 MiB, the decoding of a Produce request, the check of its batch. Unit: nanoseconds per call,
//! median and spread of several rounds. It cannot show: cache misses, the kernel, other cores.
//!
//! `cargo bench`; in `cargo test` it runs once with tiny inputs.
#![allow(clippy::disallowed_methods, reason = "a bench has its own clock")]

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use corelog::model::LeaderEpoch;
use corelog::protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelog::protocol::{Message, Reader};
use corelog::record::{BatchBuilder, BatchView, crc32c};

/// Times `work`, which returns something that depends on all it did; prints a row.
fn measure(name: &str, calls: u32, rounds: usize, mut work: impl FnMut() -> u64) {
    let mut hash = 0u64;
    let mut each: Vec<f64> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..calls {
                hash = hash.rotate_left(1) ^ black_box(work());
            }
            started.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    each.sort_by(f64::total_cmp);
    let (low, median, high) = (each[0], each[each.len() / 2], each[each.len() - 1]);
    println!("{name:<28} {median:>10.0} ns ({low:.0} to {high:.0})   result {hash:016x}");
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (calls, rounds) = if is_bench { (2000, 9) } else { (3, 2) };
    let mut bytes = vec![0u8; 1 << 20];
    bytes.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index * 31) as u8);
    for size in [1 << 10, 16 << 10, 1 << 20] {
        measure(&format!("crc32c of {size} bytes"), calls, rounds, || {
            u64::from(crc32c(black_box(&bytes[..size])))
        });
    }
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(&bytes[..1024]));
    let records = batch.finish(0, LeaderEpoch(-1));
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "topic",
            partition_data: vec![PartitionProduceData { index: 3, records: Some(&records) }].into(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.encode(&mut body, 9);
    measure("decode Produce, one batch", calls, rounds, || {
        let request =
            ProduceRequest::decode(&mut Reader::new(black_box(&body)), 9).expect("an encoded request");
        let parts = request.topic_data.iter().flat_map(|topic| topic.partition_data.to_vec());
        parts.map(|part| part.records.map_or(0, <[u8]>::len) as u64).sum()
    });
    measure("check a batch of one record", calls, rounds, || {
        let batch = BatchView::parse(black_box(&records)).expect("a built batch");
        u64::from(batch.check_crc().is_ok()) + batch.record_count() as u64
    });
}
