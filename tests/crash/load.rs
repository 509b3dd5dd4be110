//! The clients of a crash run: producers that never stop sending, a consumer that never stops reading.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corelog_clients::Broker;
use corelog_clients::client::{Delivery, PATIENCE, Producer, Reader, Received, Record};
use history_checker::Event;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use crate::recorder::Recorder;

/// Records that a producer has under way at most: a broker that is down must not build up an hour of work.
const WINDOW: usize = 300;
/// Every so many records one is this large, so that batches, segments and torn tails differ.
const LARGE_EVERY: u64 = 50;
const LARGE_BYTES: usize = 40_000;

/// Topics that exist for sure: their creation was answered.
#[derive(Debug, Default)]
pub struct Topics(Mutex<Vec<(String, i32)>>);

impl Topics {
    pub fn add(&self, name: &str, partitions: i32) {
        self.0.lock().expect("no holder panics").push((name.to_owned(), partitions));
    }

    pub fn all(&self) -> Vec<(String, i32)> {
        self.0.lock().expect("no holder panics").clone()
    }

    /// All partitions of all topics, in the order of their creation.
    fn partitions(&self) -> Vec<(String, i32)> {
        self.all().into_iter().flat_map(|(name, count)| (0..count).map(move |p| (name.clone(), p))).collect()
    }
}

/// What all clients of a run share.
pub struct Run {
    pub recorder: Recorder,
    pub topics: Topics,
    /// Producers without idempotence keep the order of their sends. Not across a change of leader: their one request in flight
    /// is one for each connection, and a later record goes to the new leader while the old one's answer is out
    /// (librdkafka's issues 1092 and 1969).
    pub is_plain_ordered: bool,
    pub producers_stop: AtomicBool,
    pub consumer_stop: AtomicBool,
}

impl Run {
    pub fn new(is_plain_ordered: bool) -> Arc<Self> {
        Arc::new(Self {
            recorder: Recorder::new(),
            topics: Topics::default(),
            is_plain_ordered,
            producers_stop: AtomicBool::new(false),
            consumer_stop: AtomicBool::new(false),
        })
    }
}

/// The bytes of a value: its name, then filler that depends on it, so that a record that was mixed up is noticed.
fn body(value: &str, bytes: usize) -> String {
    let mut body = format!("{value} ");
    while body.len() < bytes {
        body.push_str(value);
        body.push('.');
    }
    body
}

/// The value's name, or all of the body if it is not what a producer made.
fn value_of(received: &Received) -> String {
    let text = String::from_utf8_lossy(received.value.as_deref().unwrap_or_default()).into_owned();
    let value = text.split(' ').next().unwrap_or_default().to_owned();
    if body(&value, text.len()) == text { value } else { format!("damaged: {text}") }
}

/// Sends to every partition in turn until told to stop, then waits for what is under way.
pub fn produce(run: &Run, bootstrap: &str, name: &str, idempotent: bool) {
    let in_flight = if idempotent { "5" } else { "1" };
    let settings = [
        ("acks", "all"),
        ("enable.idempotence", if idempotent { "true" } else { "false" }),
        // Without idempotence a retry may pass what was sent later; one at a time keeps the order.
        ("max.in.flight.requests.per.connection", in_flight),
        ("linger.ms", "2"),
        ("retry.backoff.ms", "20"),
        ("retry.backoff.max.ms", "200"),
        ("topic.metadata.refresh.fast.interval.ms", "50"),
        ("message.timeout.ms", "300000"),
        ("queue.buffering.max.messages", "100000"),
    ];
    let mut producer = Producer::at(bootstrap, &settings);
    let ordered = idempotent || run.is_plain_ordered;
    run.recorder.push(Event::Producer { producer: name.to_owned(), idempotent, ordered });
    let mut partitions = Vec::new();
    let (mut sequence, mut open) = (0u64, 0usize);
    while !run.producers_stop.load(Ordering::Relaxed) {
        if sequence % 64 == 0 {
            partitions = run.topics.partitions();
        }
        if open < WINDOW {
            let (topic, partition) = &partitions[(sequence % partitions.len() as u64) as usize];
            let value = format!("{name}:{sequence}");
            let bytes = if sequence % LARGE_EVERY == LARGE_EVERY - 1 { LARGE_BYTES } else { 100 };
            run.recorder.push(Event::Invoked {
                producer: name.to_owned(),
                sequence,
                topic: topic.clone(),
                partition: *partition,
                value: value.clone(),
                at_ns: run.recorder.now_ns(),
            });
            let sent = producer.send(&Record::new(topic, &body(&value, bytes)).partition(*partition));
            assert_eq!(sent, sequence);
            (sequence, open) = (sequence + 1, open + 1);
        }
        // The wait is what paces the load.
        for delivery in producer.poll(Duration::from_millis(1)) {
            record(run, name, &delivery);
            open -= 1;
        }
        assert_eq!(producer.fatal_error(), None, "{name} is dead");
    }
    for delivery in producer.flush() {
        record(run, name, &delivery);
    }
}

fn record(run: &Run, name: &str, delivery: &Delivery) {
    let (producer, sequence, at_ns) = (name.to_owned(), delivery.sequence, run.recorder.now_ns());
    run.recorder.push(match delivery.error {
        None => Event::Acked { producer, sequence, offset: delivery.offset, at_ns },
        // An earlier try may have reached the log, whatever the last one was answered.
        Some(_) => Event::Unknown { producer, sequence, at_ns },
    });
}

/// Reads all partitions from their start until told to stop; takes in topics as they come.
/// An offset that the broker does not have any more is an error: it was read, so it was committed.
pub fn consume(run: &Run, reader: &Reader, name: &str) {
    let mut assigned = 0;
    run.recorder.push(Event::Assigned { consumer: name.to_owned(), at_ns: run.recorder.now_ns() });
    while !run.consumer_stop.load(Ordering::Relaxed) {
        let partitions = run.topics.partitions();
        if partitions.len() > assigned {
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &partitions[assigned..] {
                list.add_partition_offset(topic, *partition, Offset::Beginning).expect("a valid offset");
            }
            reader.inner.incremental_assign(&list).expect("assign");
            assigned = partitions.len();
        }
        if let Some(received) = reader.poll(Duration::from_millis(20)) {
            record_read(run, name, &received);
        }
    }
}

fn record_read(run: &Run, name: &str, received: &Received) {
    run.recorder.push(Event::Read {
        consumer: name.to_owned(),
        topic: received.topic.clone(),
        partition: received.partition,
        offset: received.offset,
        value: value_of(received),
        at_ns: run.recorder.now_ns(),
    });
}

/// Reads every partition from its log start to its end, once, with a client of its own. Offsets must be dense.
pub fn read_all(run: &Run, broker: &Broker, name: &str) {
    let partitions = run.topics.partitions();
    let from: Vec<_> = partitions.iter().map(|(t, p)| (t.as_str(), *p, Offset::Beginning)).collect();
    let reader = Reader::assigned(broker, &from, &[("auto.offset.reset", "error")]);
    run.recorder.push(Event::Assigned { consumer: name.to_owned(), at_ns: run.recorder.now_ns() });
    let mut missing = 0;
    for (topic, partition) in &partitions {
        let (start, end) = reader.watermarks(topic, *partition);
        run.recorder.push(Event::ReadAll {
            consumer: name.to_owned(),
            topic: topic.clone(),
            partition: *partition,
            start,
        });
        missing += end - start;
    }
    let mut deadline = Instant::now() + PATIENCE;
    while missing > 0 {
        if let Some(received) = reader.poll(Duration::from_millis(20)) {
            record_read(run, name, &received);
            missing -= 1;
            deadline = Instant::now() + PATIENCE;
        }
        assert!(Instant::now() < deadline, "{missing} records between the watermarks do not come");
    }
}
