//! The producer: records in, a future of where each one is out.
//!
//! ```text
//! interceptors -> serializers -> partitioner -> accumulator -> | sender -> connection -> broker
//!        caller's task, record by record                       | one task, batch by batch
//! ```
//!
//! *Owns* the way of a record from the caller to the broker's acknowledgement. [`Producer::send`] waits for the record to be
//! acknowledged; [`Producer::enqueue`] only for its place in its partition's order, and gives a [`Delivery`] to await; both
//! wait up to `max.block.ms` for the topic to be known and for room in `buffer.memory`. *Invariant*: a record that was taken
//! gets exactly one outcome, whatever happens: acknowledged with its place, or an error that says by its type what to do.
//! With idempotence, which is on by default, a record is appended at most once and in the order of the calls, whatever is
//! sent again.
//!
//! ```
//! # mod example {
//! use std::time::Duration;
//!
//! use corelog::client::{ClientError, Producer, ProducerRecord, ProducerSettings};
//!
//! # pub async fn run(broker: String) -> Result<(), ClientError> {
//! let bootstrap = "127.0.0.1:9092";
//! # let bootstrap = broker.as_str();
//! let settings = ProducerSettings::builder().set("bootstrap.servers", bootstrap).build()?;
//! let producer = Producer::new(settings)?;
//!
//! // One record, acknowledged.
//! let metadata = producer.send(ProducerRecord::to("orders").key(b"42").value(b"paid")).await?;
//! println!("{}-{} at {:?}", metadata.topic, metadata.partition, metadata.offset);
//! # assert!(metadata.offset.is_some());
//!
//! // Many, without waiting for each.
//! let mut deliveries = Vec::new();
//! for line in ["a", "b", "c"] {
//!     deliveries.push(producer.enqueue(ProducerRecord::to("orders").value(line.as_bytes())).await?);
//! }
//! for delivery in deliveries {
//!     delivery.await?;
//! }
//! producer.close(Duration::from_secs(10)).await?;
//! # assert_eq!(producer.metrics().records_acknowledged, 4);
//! # Ok(())
//! # }
//! # }
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
//! # fn main() { with_orders(example::run) }
//! ```

mod accumulator;
mod batch;
mod blocking;
mod delivery;
mod idempotence;
mod interceptor;
mod metrics;
mod partitioner;
mod record;
mod sender;
mod serializer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::model::{Timestamp, TopicName};
use crate::record::{BATCH_HEADER_BYTES, Header};

use super::cluster::Cluster;
use super::error::{Abortable, ClientError, Fatal, Part, Retriable, Waited};
use super::random::Random;
use super::settings::{PartitionerKind, ProducerSettings};
use super::time::{Instant, wall_clock_ms};

pub use blocking::BlockingProducer;
pub use delivery::{Callback, Delivery};
pub use interceptor::Interceptor;
pub use metrics::{ProducerMetrics, Quantiles};
pub use partitioner::{Choice, Partitioner, murmur2, partition_for_key};
pub use record::{Payload, ProducerRecord, RecordHeader, RecordMetadata, Stages};
pub use serializer::{BytesSerializer, JsonSerializer, SerializeError, Serializer, StringSerializer};

use accumulator::{Accumulator, Grant, NotAppended, TopicQueues};
use batch::Fields;
use delivery::done;
use idempotence::Place;
use interceptor::{Interceptors, Observer, guarded};
use metrics::Recorder;
use sender::Sender;

/// A producer of records. Cheap to clone; all clones share one pipeline, and any number of tasks may use it.
///
/// Close the last one: dropping it leaves what is queued to the background, with a warning.
pub struct Producer<K: ?Sized = [u8], V: ?Sized = [u8]> {
    shell: Arc<Shell<K, V>>,
}

impl<K: ?Sized, V: ?Sized> Clone for Producer<K, V> {
    fn clone(&self) -> Self {
        Producer { shell: self.shell.clone() }
    }
}

/// The half of a producer that knows the types of keys and values.
struct Shell<K: ?Sized, V: ?Sized> {
    core: Arc<Core>,
    key_serializer: Box<dyn Serializer<K>>,
    value_serializer: Box<dyn Serializer<V>>,
    interceptors: Arc<Interceptors<K, V>>,
    /// The interceptors once more, if there are any.
    observer: Option<Arc<dyn Observer>>,
}

/// The half that knows bytes.
struct Core {
    settings: ProducerSettings,
    cluster: Cluster,
    accumulator: Accumulator,
    recorder: Recorder,
    partitioner: Option<Box<dyn Partitioner>>,
    clock: Clock,
    /// For callers that block, whose deadlines need a timer.
    runtime: Handle,
    random: Random,
    fatal: OnceLock<ClientError>,
    last_failure: Mutex<Option<(Instant, ClientError)>>,
    /// What is left is to be given up.
    is_forced: AtomicBool,
    has_ended: watch::Sender<bool>,
}

/// Gives timestamps to records that bring none.
type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// Puts a producer together.
pub struct ProducerBuilder<K: ?Sized, V: ?Sized> {
    settings: ProducerSettings,
    key_serializer: Box<dyn Serializer<K>>,
    value_serializer: Box<dyn Serializer<V>>,
    interceptors: Vec<Box<dyn Interceptor<K, V>>>,
    partitioner: Option<Box<dyn Partitioner>>,
    clock: Clock,
}

/// Why a record is not in its batch yet.
enum Obstacle {
    /// Its topic is not known.
    Topic,
    /// Its topic has no such partition, as far as is known.
    Partition {
        partition: i32,
        partition_count: i32,
    },
    /// So many bytes of memory are not free.
    Memory(usize),
    Failed(ClientError),
}

impl Producer {
    /// A producer of bytes. Must be called on a tokio runtime; connects when the first record comes.
    pub fn new(settings: ProducerSettings) -> Result<Producer, ClientError> {
        Producer::builder(settings, BytesSerializer, BytesSerializer).build()
    }
}

impl<K: ?Sized + Send + Sync + 'static, V: ?Sized + Send + Sync + 'static> Producer<K, V> {
    /// A producer with serializers, and perhaps interceptors and a partitioner.
    pub fn builder(
        settings: ProducerSettings,
        key_serializer: impl Serializer<K> + 'static,
        value_serializer: impl Serializer<V> + 'static,
    ) -> ProducerBuilder<K, V> {
        ProducerBuilder {
            settings,
            key_serializer: Box::new(key_serializer),
            value_serializer: Box::new(value_serializer),
            interceptors: Vec::new(),
            partitioner: None,
            clock: Box::new(wall_clock_ms),
        }
    }

    /// Sends a record and waits until it is acknowledged or lost.
    pub async fn send(&self, record: ProducerRecord<'_, K, V>) -> Result<RecordMetadata, ClientError> {
        self.enqueue(record).await?.await
    }

    /// Gives a record its place in its partition's order and waits for no more: the [`Delivery`] tells its fate. Of two
    /// calls, the one that returns first is first. Errors: it was not taken, nothing of it will be sent.
    pub async fn enqueue(&self, record: ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        self.shell.enqueue(record, &mut None).await
    }

    /// As [`Producer::enqueue`], with a callback instead of a future. It is called exactly once, also if the record was not
    /// taken; for the records of a partition in their order; mostly on the sender's task, so it must be quick.
    pub async fn enqueue_with(
        &self,
        record: ProducerRecord<'_, K, V>,
        callback: impl FnOnce(Result<RecordMetadata, ClientError>) + Send + 'static,
    ) {
        let mut callback: Option<Callback> = Some(Box::new(callback));
        let taken = self.shell.enqueue(record, &mut callback).await;
        if let (Err(error), Some(callback)) = (taken, callback) {
            callback(Err(error));
        }
    }

    /// As [`Producer::enqueue`] without waiting for anything. Errors, beside its: [`Retriable::Full`], and
    /// [`Retriable::TopicNotKnown`], after which the topic is asked about.
    pub fn try_enqueue(&self, record: ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        self.shell.try_enqueue(record)
    }

    /// As [`Producer::send`], blocking the thread. Not on a thread of the runtime.
    pub fn send_blocking(&self, record: ProducerRecord<'_, K, V>) -> Result<RecordMetadata, ClientError> {
        self.enqueue_blocking(record)?.wait()
    }

    /// As [`Producer::enqueue`], blocking the thread. Not on a thread of the runtime.
    pub fn enqueue_blocking(&self, record: ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        self.shell.core.runtime.block_on(self.enqueue(record))
    }

    /// Sends what is queued without lingering, and waits until every record that was taken before has its outcome. What the
    /// outcomes are, the deliveries say.
    pub async fn flush(&self) {
        let accumulator = &self.shell.core.accumulator;
        let _flushing = accumulator.flush();
        for batch in accumulator.incomplete_batches() {
            done(batch).await;
        }
    }

    /// Takes no more records, sends what is queued, and ends the background task. Errors: not everything had an outcome in
    /// `patience`; what was left was given up.
    pub async fn close(&self, patience: Duration) -> Result<(), ClientError> {
        let core = &self.shell.core;
        core.accumulator.close();
        let mut has_ended = core.has_ended.subscribe();
        let in_time = tokio::time::timeout(patience, has_ended.wait_for(|ended| *ended)).await.is_ok();
        if in_time {
            return Ok(());
        }
        core.is_forced.store(true, Ordering::Release);
        core.accumulator.wake.notify_one();
        // The task looks at the flag each time it wakes, and waits for nothing else; a runtime that ends it does as well.
        let _ = has_ended.wait_for(|ended| *ended).await;
        Err(Retriable::TimedOut {
            what: Waited::Close,
            after: patience,
            last: core.last_failure().map(Arc::new),
        }
        .into())
    }

    /// How many partitions the topic has, asked for if need be, for up to `max.block.ms`.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, ClientError> {
        let core = &self.shell.core;
        let topic = core.cluster.topic(&topic.into(), core.settings.max_block).await?;
        Ok(i32::try_from(topic.partitions.len()).expect("a partition's index is an i32"))
    }

    pub fn settings(&self) -> &ProducerSettings {
        &self.shell.core.settings
    }

    /// The cluster as this producer knows it.
    pub fn cluster(&self) -> &Cluster {
        &self.shell.core.cluster
    }

    /// What went wrong last on the way to the brokers, and when. It was tried again since, or will be; it tells why records
    /// wait if none of them had an outcome after it.
    pub fn last_failure(&self) -> Option<(Instant, ClientError)> {
        self.shell.core.dated_failure()
    }

    pub fn metrics(&self) -> ProducerMetrics {
        let core = &self.shell.core;
        let (buffer_bytes, buffer_free_bytes) = core.accumulator.memory();
        ProducerMetrics {
            queued_batches: core.accumulator.incomplete_count(),
            buffer_bytes,
            buffer_free_bytes,
            ..core.recorder.snapshot(core.settings.batch_size_bytes)
        }
    }
}

impl<K: ?Sized + Send + Sync + 'static, V: ?Sized + Send + Sync + 'static> ProducerBuilder<K, V> {
    /// Adds an interceptor behind those that are there.
    pub fn interceptor(mut self, interceptor: impl Interceptor<K, V> + 'static) -> Self {
        self.interceptors.push(Box::new(interceptor));
        self
    }

    /// Chooses partitions in the place of `partitioner.class`.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Some(Box::new(partitioner));
        self
    }

    /// Gives timestamps to records that bring none, in the place of the host's clock.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Starts the producer's task. Must be called on a tokio runtime; connects when the first record comes.
    pub fn build(self) -> Result<Producer<K, V>, ClientError> {
        let settings = self.settings;
        let core = Arc::new(Core {
            cluster: Cluster::new(settings.client.clone(), true)?,
            accumulator: Accumulator::new(
                settings.batch_size_bytes,
                settings.linger,
                settings.buffer_memory_bytes,
                settings.partitioner_adaptive,
            ),
            recorder: Recorder::new(),
            partitioner: self.partitioner,
            clock: self.clock,
            runtime: Handle::current(),
            random: Random::new(),
            fatal: OnceLock::new(),
            last_failure: Mutex::default(),
            is_forced: AtomicBool::new(false),
            has_ended: watch::Sender::new(false),
            settings,
        });
        tokio::spawn(Sender::new(core.clone()).run());
        let interceptors = Arc::new(Interceptors(self.interceptors));
        let observer = (!interceptors.0.is_empty()).then(|| Arc::clone(&interceptors) as Arc<dyn Observer>);
        let (key_serializer, value_serializer) = (self.key_serializer, self.value_serializer);
        let shell = Shell { core, key_serializer, value_serializer, interceptors, observer };
        Ok(Producer { shell: Arc::new(shell) })
    }
}

impl<K: ?Sized, V: ?Sized> Shell<K, V> {
    async fn enqueue(
        &self,
        mut record: ProducerRecord<'_, K, V>,
        callback: &mut Option<Callback>,
    ) -> Result<Delivery, ClientError> {
        self.interceptors.on_send(&mut record);
        let result = self.serialize_and_place(&record, callback).await;
        self.observe_failure(&result);
        result
    }

    async fn serialize_and_place(
        &self,
        record: &ProducerRecord<'_, K, V>,
        callback: &mut Option<Callback>,
    ) -> Result<Delivery, ClientError> {
        let mut scratch = Scratch::of(record);
        let fields = self.fields(record, &mut scratch)?;
        self.core.place(&record.topic, record.partition, &fields, callback, self.observer.as_ref()).await
    }

    fn try_enqueue(&self, mut record: ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        self.interceptors.on_send(&mut record);
        let result = self.try_serialize_and_place(&record);
        self.observe_failure(&result);
        result
    }

    fn try_serialize_and_place(&self, record: &ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        let mut scratch = Scratch::of(record);
        let fields = self.fields(record, &mut scratch)?;
        let (topic, observer) = (&record.topic, self.observer.as_ref());
        let core = &self.core;
        match core.try_place(topic, record.partition, &fields, &mut None, &mut None, observer) {
            Ok(delivery) => Ok(delivery),
            Err(Obstacle::Topic) => {
                let topic: TopicName = Arc::from(&**topic);
                core.cluster.want_topics([&topic]);
                core.cluster.request_refresh();
                Err(Retriable::TopicNotKnown { topic }.into())
            }
            Err(Obstacle::Partition { partition, partition_count }) => {
                Err(no_such_partition(topic, partition, partition_count))
            }
            Err(Obstacle::Memory(_)) => Err(Retriable::Full.into()),
            Err(Obstacle::Failed(error)) => Err(error),
        }
    }

    /// The record in bytes, as it will be appended.
    fn fields<'f>(
        &self,
        record: &'f ProducerRecord<'_, K, V>,
        scratch: &'f mut Scratch<'_>,
    ) -> Result<Fields<'f>, ClientError> {
        let (topic, key, value) = (&record.topic, record.key.as_deref(), record.value.as_deref());
        let key = serialize(Part::Key, &*self.key_serializer, topic, key, &mut scratch.key)?;
        let value = serialize(Part::Value, &*self.value_serializer, topic, value, &mut scratch.value)?;
        let timestamp = record.timestamp.unwrap_or_else(|| (self.core.clock)());
        let fields = Fields { timestamp, key, value, headers: &scratch.headers };
        self.core.check_size(&fields)?;
        Ok(fields)
    }

    /// Interceptors are told of every record; the sender tells them of those that were taken.
    fn observe_failure(&self, result: &Result<Delivery, ClientError>) {
        if let (Err(error), Some(observer)) = (result, &self.observer) {
            observer.acknowledged(Err(error));
        }
    }
}

/// Where a record's bytes are until they are in their batch.
struct Scratch<'r> {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<Header<'r>>,
}

impl<'r> Scratch<'r> {
    fn of<K: ?Sized, V: ?Sized>(record: &'r ProducerRecord<'_, K, V>) -> Scratch<'r> {
        let header = |header: &'r RecordHeader<'_>| Header {
            key: header.name.as_bytes(),
            value: header.value.as_deref(),
        };
        let headers = record.headers.iter().map(header).collect();
        Scratch { key: Vec::new(), value: Vec::new(), headers }
    }
}

fn serialize<'v, T: ?Sized>(
    part: Part,
    serializer: &dyn Serializer<T>,
    topic: &str,
    value: Option<&'v T>,
    scratch: &'v mut Vec<u8>,
) -> Result<Option<&'v [u8]>, ClientError> {
    let Some(value) = value else { return Ok(None) };
    match guarded(|| serializer.serialize(topic, value, scratch)) {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        Ok(Err(error)) => Err(Abortable::Serialize { part, source: Arc::from(error) }.into()),
        Err(message) => Err(Abortable::Panicked { part, message }.into()),
    }
}

fn no_such_partition(topic: &str, partition: i32, partition_count: i32) -> ClientError {
    Abortable::NoSuchPartition { topic: topic.into(), partition, partition_count }.into()
}

impl Core {
    /// Appends a record, waiting for what it needs, all in all for `max.block.ms`.
    async fn place(
        &self,
        topic: &str,
        partition: Option<i32>,
        fields: &Fields<'_>,
        callback: &mut Option<Callback>,
        observer: Option<&Arc<dyn Observer>>,
    ) -> Result<Delivery, ClientError> {
        let mut grant: Option<Grant<'_>> = None;
        let mut deadline = None;
        let mut has_refreshed = false;
        loop {
            let obstacle = match self.try_place(topic, partition, fields, &mut grant, callback, observer) {
                Ok(delivery) => return Ok(delivery),
                Err(obstacle) => obstacle,
            };
            // The clock is only read by those who have to wait.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.settings.max_block);
            let left = deadline.saturating_duration_since(Instant::now());
            match obstacle {
                Obstacle::Topic => {
                    self.accumulator.set_topic(&*self.cluster.topic(&topic.into(), left).await?);
                }
                // It may have been added a moment ago.
                Obstacle::Partition { .. } if !has_refreshed => {
                    has_refreshed = true;
                    if let Ok(Ok(image)) = tokio::time::timeout(left, self.cluster.refresh()).await
                        && let Some(topic) = image.topic(topic)
                    {
                        self.accumulator.set_topic(topic);
                    }
                }
                Obstacle::Partition { partition, partition_count } => {
                    return Err(no_such_partition(topic, partition, partition_count));
                }
                Obstacle::Memory(bytes) => {
                    grant = match tokio::time::timeout(left, self.accumulator.wait_for_memory(bytes)).await {
                        Ok(grant) => Some(grant),
                        Err(_elapsed) => {
                            let last = self.last_failure().map(Arc::new);
                            let after = self.settings.max_block;
                            return Err(Retriable::TimedOut { what: Waited::Buffer, after, last }.into());
                        }
                    };
                }
                Obstacle::Failed(error) => return Err(error),
            }
        }
    }

    fn try_place(
        &self,
        name: &str,
        partition: Option<i32>,
        fields: &Fields<'_>,
        grant: &mut Option<Grant<'_>>,
        callback: &mut Option<Callback>,
        observer: Option<&Arc<dyn Observer>>,
    ) -> Result<Delivery, Obstacle> {
        let topic = match self.accumulator.topic(name) {
            Some(topic) => topic,
            None => match self.cluster.image().topic(name) {
                Some(topic) => self.accumulator.set_topic(topic),
                None => return Err(self.fatal().map_or(Obstacle::Topic, Obstacle::Failed)),
            },
        };
        let partition = match partition {
            Some(partition) => partition,
            None => self.choose(&topic, fields).map_err(Obstacle::Failed)?,
        };
        let queue = usize::try_from(partition).ok().and_then(|index| topic.partitions.get(index));
        let Some(queue) = queue else {
            return Err(Obstacle::Partition { partition, partition_count: partition_count(&topic) });
        };
        match self.accumulator.append(&topic, queue, fields, grant, callback, observer) {
            Ok(delivery) => {
                self.recorder.records_appended.fetch_add(1, Ordering::Relaxed);
                Ok(delivery)
            }
            Err(NotAppended::NeedsMemory(bytes)) => Err(Obstacle::Memory(bytes)),
            Err(NotAppended::Closed) => {
                Err(Obstacle::Failed(self.fatal().unwrap_or_else(|| Fatal::Closed.into())))
            }
        }
    }

    fn choose(&self, topic: &TopicQueues, fields: &Fields<'_>) -> Result<i32, ClientError> {
        let partition_count = partition_count(topic);
        if let Some(partitioner) = &self.partitioner {
            let choice = Choice { topic: &topic.name, key: fields.key, value: fields.value, partition_count };
            return guarded(|| partitioner.partition(&choice))
                .map_err(|message| Abortable::Panicked { part: Part::Partitioner, message }.into());
        }
        let loads = || {
            let image = self.cluster.image();
            topic.loads(|partition| image.leader(&topic.name, partition).is_some())
        };
        match (self.settings.partitioner, fields.key) {
            (PartitionerKind::RoundRobin, _) => Ok(topic.turns.next(&loads())),
            (PartitionerKind::Default, Some(key)) if !self.settings.partitioner_ignores_keys => {
                Ok(partition_for_key(key, partition_count))
            }
            (PartitionerKind::Default, _) => Ok(topic.sticky.partition(&self.random, loads)),
        }
    }

    fn check_size(&self, fields: &Fields<'_>) -> Result<(), ClientError> {
        let size_bytes = BATCH_HEADER_BYTES + fields.bytes_max();
        let limits = [
            (self.settings.request_bytes_max, "max.request.size"),
            (self.accumulator.memory().0, "buffer.memory"),
        ];
        match limits.into_iter().find(|(limit_bytes, _)| size_bytes > *limit_bytes) {
            None => Ok(()),
            Some((limit_bytes, setting)) => {
                Err(Abortable::RecordTooLarge { size_bytes, limit_bytes, setting }.into())
            }
        }
    }

    fn set_fatal(&self, error: ClientError) {
        // The first one is the cause of the others.
        let _ = self.fatal.set(error);
        self.accumulator.close();
    }

    fn fatal(&self) -> Option<ClientError> {
        self.fatal.get().cloned()
    }

    fn set_last_failure(&self, error: ClientError) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error));
    }

    /// What went wrong last on the way to the brokers; what a record that waited in vain is told.
    fn last_failure(&self) -> Option<ClientError> {
        self.dated_failure().map(|(_, error)| error)
    }

    fn dated_failure(&self) -> Option<(Instant, ClientError)> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count_failed(&self, records: i32) {
        self.recorder.records_failed.fetch_add(u64::from(records.unsigned_abs()), Ordering::Relaxed);
    }

    fn is_forced(&self) -> bool {
        self.is_forced.load(Ordering::Acquire)
    }

    /// The sender is gone.
    fn ended(&self) {
        self.has_ended.send_replace(true);
    }
}

fn partition_count(topic: &TopicQueues) -> i32 {
    i32::try_from(topic.partitions.len()).expect("a partition's index is an i32")
}

/// The last handle is gone. What is queued is still sent, as long as the runtime lives; nobody knows whether it does.
impl<K: ?Sized, V: ?Sized> Drop for Shell<K, V> {
    fn drop(&mut self) {
        if !self.core.accumulator.is_closing() {
            let batches = self.core.accumulator.incomplete_count();
            tracing::warn!(batches, "a producer was dropped and not closed");
            self.core.accumulator.close();
        }
    }
}
