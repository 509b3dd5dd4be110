//! Producers: as many records as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corelog::client::{Producer, ProducerRecord, ProducerSettings, RecordMetadata};
use corelog_clients::Broker;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::figures::{self, Figures, Pair, measured};
use crate::{PRODUCER, SOCKETS, VALUE};

pub fn compare(broker: &Broker, records: usize, rounds: usize) {
    let bootstrap = broker.bootstrap();
    let pairs: Vec<Pair> = (0..rounds)
        .map(|round| Pair {
            ours: round_of_ours(&bootstrap, &format!("ours-{round}"), records),
            theirs: round_of_theirs(&bootstrap, &format!("theirs-{round}"), records),
        })
        .collect();
    figures::print("produce", &pairs);
}

/// What our clients run on; librdkafka brings threads of its own.
const WORKERS: usize = 1;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("runtime")
}

pub fn ours(runtime: &tokio::runtime::Runtime, bootstrap: &str, more: &[(&str, &str)]) -> Producer {
    let settings =
        ProducerSettings::builder().set("bootstrap.servers", bootstrap).set_all(PRODUCER).set_all(SOCKETS);
    let settings = settings.set_all(more.iter().copied()).build().expect("settings");
    let _entered = runtime.enter();
    Producer::new(settings).expect("a producer")
}

/// Puts that many records into a topic and waits for all of them.
pub async fn fill(producer: &Producer, topic: &str, records: usize) {
    let failed = Arc::new(AtomicUsize::new(0));
    for _ in 0..records {
        let failed = Arc::clone(&failed);
        let told = move |fate: Result<RecordMetadata, _>| {
            failed.fetch_add(usize::from(fate.is_err()), Ordering::Relaxed);
        };
        producer.enqueue_with(ProducerRecord::to(topic).value(&VALUE), told).await;
    }
    producer.flush().await;
    assert_eq!(failed.load(Ordering::Relaxed), 0, "records failed");
}

fn round_of_ours(bootstrap: &str, topic: &str, records: usize) -> Figures {
    let runtime = runtime();
    let producer = ours(&runtime, bootstrap, &[]);
    runtime.block_on(producer.send(ProducerRecord::to(topic).value(&VALUE))).expect("a first record");
    let figures = measured(records, || runtime.block_on(fill(&producer, topic, records)));
    runtime.block_on(producer.close(Duration::from_secs(10))).expect("closed");
    figures
}

/// Calls `T` with what became of a record and the number that it was sent with.
pub struct Told<T>(pub T);

impl<T: Send + Sync> rdkafka::client::ClientContext for Told<T> {}

impl<T: Fn(bool, u64) + Send + Sync> ProducerContext for Told<T> {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        self.0(result.is_ok(), *number);
    }
}

pub fn theirs<T: Fn(bool, u64) + Send + Sync + 'static>(
    bootstrap: &str,
    told: T,
    more: &[(&str, &str)],
) -> ThreadedProducer<Told<T>> {
    let mut config = ClientConfig::new();
    // As much memory as `buffer.memory` of ours.
    config.set("bootstrap.servers", bootstrap).set("queue.buffering.max.kbytes", "32768");
    for (name, value) in PRODUCER.iter().chain(more) {
        config.set(*name, *value);
    }
    config.create_with_context(Told(told)).expect("a producer")
}

pub fn put<T: Fn(bool, u64) + Send + Sync + 'static>(
    producer: &ThreadedProducer<Told<T>>,
    topic: &str,
    number: u64,
    value: &[u8],
) {
    let mut record = BaseRecord::<str, [u8], _>::with_opaque_to(topic, Box::new(number)).payload(value);
    while let Err((_, back)) = producer.send(record) {
        record = back;
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn round_of_theirs(bootstrap: &str, topic: &str, records: usize) -> Figures {
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let told = move |is_stored: bool, _| {
        count.fetch_add(usize::from(!is_stored), Ordering::Relaxed);
    };
    let producer = theirs(bootstrap, told, &[]);
    let flush = || producer.flush(Duration::from_secs(60)).expect("flushed");
    put(&producer, topic, 0, &VALUE);
    flush();
    let figures = measured(records, || {
        for _ in 0..records {
            put(&producer, topic, 0, &VALUE);
        }
        flush();
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "records failed");
    figures
}
