//! Hashes of keys and batches of records, byte for byte as Java's client makes them.
//!
//! Needs Java and Kafka's jars (`questions.rs`). Left out, with a line, without them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelog::client::producer::{murmur2, partition_for_key};
use corelog::client::{Producer, ProducerRecord};
use corelog::record::{BatchView, Codec};

use crate::fixture::{Target, run, settings};
use crate::proxy::{Act, Proxy};
use crate::questions::asked;

const PATIENCE: Duration = Duration::from_secs(30);

const PROGRAM: &str = "Encodings.java";

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x{digits}")
}

fn hex_or_null(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "-".to_owned(), hex)
}

/// Bytes without a pattern.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn keys_have_javas_hash_and_partition() {
    // All lengths around the hash's words of four bytes, with high bits set and not.
    let keys: Vec<Vec<u8>> = (0..200).map(|n| noise(n, n as usize % 40)).collect();
    let counts = [1, 2, 3, 7, 12, 50, 1000];
    let with_count = || keys.iter().zip(counts.iter().copied().cycle());
    let questions: Vec<String> =
        with_count().map(|(key, count)| format!("murmur2 {} {count}", hex(key))).collect();
    let Some(answers) = asked(PROGRAM, &questions) else { return };
    for ((key, count), answer) in with_count().zip(answers) {
        assert_eq!(format!("{} {}", murmur2(key), partition_for_key(key, count)), answer, "{key:?}");
    }
}

/// A record as the test sends it.
struct Sent {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Sent {
    /// As Java is told of it, and tells of it.
    fn text(&self) -> String {
        let (key, value) = (hex_or_null(self.key.as_deref()), hex_or_null(self.value.as_deref()));
        let headers =
            self.headers.iter().map(|(name, value)| format!("/{}/{}", hex(name.as_bytes()), hex(value)));
        format!("{}/{key}/{value}{}", self.timestamp, headers.collect::<String>())
    }
}

fn records() -> Vec<Sent> {
    let record = |n: u64| Sent {
        // Back and forth, also by more than a varint's byte.
        timestamp: 1_700_000_000_000 + (n as i64 * 7_919) % 500 - 200,
        key: (!n.is_multiple_of(3)).then(|| noise(n, n as usize % 5)),
        value: (!n.is_multiple_of(5)).then(|| noise(n, n as usize * 3 % 200)),
        headers: (0..n % 3).map(|h| (format!("header é {h}"), noise(h, h as usize))).collect(),
    };
    (0..100).map(record).collect()
}

/// The batch that the producer sends for these records.
async fn batch_of(target: &Target, records: &[Sent], codec: &str) -> Vec<u8> {
    let topic = target.topic(1).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let proxy = Proxy::start(target.bootstrap(), move |_, request| {
        for topic in &request.topic_data {
            let batches = topic.partition_data.iter().filter_map(|data| data.records.map(<[u8]>::to_vec));
            noted.lock().unwrap().extend(batches);
        }
        Act::Pass
    })
    .await;
    // All of them in one.
    let pairs = [("linger.ms", "60000"), ("batch.size", "1000000"), ("compression.type", codec)];
    let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
    for sent in records {
        let mut record = ProducerRecord::to(&topic).timestamp(sent.timestamp);
        record.key = sent.key.as_deref().map(corelog::client::producer::Payload::Borrowed);
        record.value = sent.value.as_deref().map(corelog::client::producer::Payload::Borrowed);
        for (name, value) in &sent.headers {
            record = record.header(name, value);
        }
        drop(producer.enqueue(record).await.unwrap());
    }
    producer.close(PATIENCE).await.unwrap();
    let mut batches = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(batches.len(), 1);
    batches.remove(0)
}

#[test]
fn batches_are_javas_byte_for_byte_and_java_reads_those_of_every_codec() {
    run(async {
        let target = Target::start();
        let records = records();
        let texts: Vec<String> = records.iter().map(Sent::text).collect();
        let mut questions = Vec::new();
        let mut batches = Vec::new();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = batch_of(&target, &records, codec.name()).await;
            let batch = BatchView::parse(&bytes).unwrap();
            assert_eq!((batch.compression(), batch.record_count()), (codec, 100));
            if codec == Codec::None {
                let stamp = batch.producer().expect("the producer is idempotent");
                let (id, epoch, sequence) = (stamp.id.0, stamp.epoch.0, stamp.base_sequence);
                questions.push(format!("build {id} {epoch} {sequence} {}", texts.join(" ")));
                batches.push(bytes.clone());
            }
            questions.push(format!("read {}", hex(&bytes)));
        }
        target.finish();
        let Some(answers) = tokio::task::spawn_blocking(move || asked(PROGRAM, &questions)).await.unwrap()
        else {
            return;
        };
        let ours = hex(&batches[0]);
        let first_other = ours[1..].bytes().zip(answers[0].bytes()).position(|(ours, javas)| ours != javas);
        assert_eq!((first_other, ours.len() - 1), (None, answers[0].len()), "{ours}\n{}", answers[0]);
        for (codec, read) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().zip(&answers[1..]) {
            assert_eq!(read.split(' ').collect::<Vec<_>>(), texts, "{codec}");
        }
    });
}
