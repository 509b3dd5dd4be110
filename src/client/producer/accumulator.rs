//! Where records wait: one queue of batches for each partition, within `buffer.memory`.
//!
//! Appending encodes the record into the last batch of its partition, under that queue's lock alone. The sender is woken
//! when there is something new for it: a queue that was empty, or a batch that is full. *Invariant*: a record's place in its
//! partition is decided when `append` returns, and the queue is taken from its front only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::client::cluster::Topic;
use crate::client::time::Instant;
use crate::model::TopicName;

use super::batch::{Fields, OpenBatch};
use super::delivery::{BatchShared, Callback, Delivery, Notice};
use super::interceptor::Observer;
use super::partitioner::{Load, RoundRobin, Sticky};

/// Buffers that are kept for the next batches, at most; others go back to the allocator.
const KEPT_BUFFERS_MAX: usize = 64;

pub(super) struct Accumulator {
    batch_bytes: usize,
    linger: Duration,
    adaptive: bool,
    topics: RwLock<BTreeMap<TopicName, Arc<TopicQueues>>>,
    /// Queues that the sender does not know to be in use.
    announced: Mutex<Vec<Arc<PartitionQueue>>>,
    /// Of `buffer.memory`, in bytes.
    memory: Semaphore,
    memory_bytes: usize,
    /// Callers that wait for memory: everything is to be sent at once.
    pressed: AtomicUsize,
    /// Callers that flush, likewise.
    flushing: AtomicUsize,
    is_closing: AtomicBool,
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Batches that have no outcome yet, by number.
    incomplete: Mutex<BTreeMap<u64, Arc<BatchShared>>>,
    next_batch: AtomicU64,
    /// Wakes the sender.
    pub wake: Notify,
}

/// The queues of a topic's partitions, by index.
pub(super) struct TopicQueues {
    pub name: TopicName,
    pub partitions: Vec<Arc<PartitionQueue>>,
    pub sticky: Arc<Sticky>,
    pub turns: Arc<RoundRobin>,
}

pub(super) struct PartitionQueue {
    pub topic: TopicName,
    pub partition: i32,
    queue: Mutex<Queue>,
    /// Batches that wait, those that wait to be sent again included.
    pub queued: AtomicU32,
    /// The sender finds that its leader takes no requests.
    pub is_unavailable: AtomicBool,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Numbered>,
    /// The sender has it in its list.
    is_listed: bool,
}

struct Numbered {
    number: u64,
    batch: OpenBatch,
}

/// Memory that a caller has waited for; goes back unless a batch takes it.
pub(super) type Grant<'a> = SemaphorePermit<'a>;

/// Why a record was not appended.
#[derive(Debug)]
pub(super) enum NotAppended {
    /// So many bytes of memory are needed first.
    NeedsMemory(usize),
    Closed,
}

/// A batch that the sender took.
pub(super) struct Taken {
    pub number: u64,
    pub batch: OpenBatch,
}

/// What the sender finds at the front of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    /// Nothing, and the queue is off the sender's list.
    Empty,
    Ready {
        opened: Instant,
    },
    /// Ready at that moment, if not before.
    Lingers {
        until: Instant,
        opened: Instant,
    },
}

impl Accumulator {
    pub fn new(batch_bytes: usize, linger: Duration, memory_bytes: usize, adaptive: bool) -> Accumulator {
        let memory_bytes = memory_bytes.min(Semaphore::MAX_PERMITS);
        Accumulator {
            batch_bytes,
            linger,
            adaptive,
            topics: RwLock::default(),
            announced: Mutex::default(),
            memory: Semaphore::new(memory_bytes),
            memory_bytes,
            pressed: AtomicUsize::new(0),
            flushing: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            buffers: Mutex::default(),
            incomplete: Mutex::default(),
            next_batch: AtomicU64::new(0),
            wake: Notify::new(),
        }
    }

    pub fn topic(&self, name: &str) -> Option<Arc<TopicQueues>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The queues of a topic, made or grown to what the cluster says. A topic never shrinks here: what is queued for a
    /// partition that is gone has to be told so.
    pub fn set_topic(&self, topic: &Topic) -> Arc<TopicQueues> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let known = topics.get(&topic.name);
        let mut partitions = known.map_or_else(Vec::new, |known| known.partitions.clone());
        if let Some(known) = known
            && partitions.len() >= topic.partitions.len()
        {
            return known.clone();
        }
        for partition in partitions.len()..topic.partitions.len() {
            partitions.push(Arc::new(PartitionQueue {
                topic: topic.name.clone(),
                partition: i32::try_from(partition).expect("a partition's index is an i32"),
                queue: Mutex::default(),
                queued: AtomicU32::new(0),
                is_unavailable: AtomicBool::new(false),
            }));
        }
        let sticky = || Arc::new(Sticky::new(self.batch_bytes, self.adaptive));
        let queues = Arc::new(TopicQueues {
            name: topic.name.clone(),
            partitions,
            sticky: known.map_or_else(sticky, |known| known.sticky.clone()),
            turns: known.map(|known| known.turns.clone()).unwrap_or_default(),
        });
        topics.insert(topic.name.clone(), queues.clone());
        queues
    }

    /// All topics that were sent to.
    pub fn topics(&self) -> Vec<Arc<TopicQueues>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Appends a record to its partition's last batch, or to a new one. `grant` is memory that was waited for; what is not
    /// needed goes back. The callback is left where it is unless the record was appended.
    pub fn append(
        &self,
        topic: &TopicQueues,
        queue: &Arc<PartitionQueue>,
        fields: &Fields<'_>,
        grant: &mut Option<Grant<'_>>,
        callback: &mut Option<Callback>,
        observer: Option<&Arc<dyn Observer>>,
    ) -> Result<Delivery, NotAppended> {
        let bytes = fields.bytes_max();
        let mut guard = queue.lock();
        // Under the lock, so that nothing is appended behind the sender's last look.
        if self.is_closing.load(Ordering::Acquire) {
            return Err(NotAppended::Closed);
        }
        let fits = |batch: &OpenBatch| batch.size_bytes() + bytes <= self.batch_bytes;
        let has_room = guard.batches.back().is_some_and(|last| fits(&last.batch));
        let mut wakes = false;
        if !has_room {
            let needed = self.batch_bytes.max(crate::record::BATCH_HEADER_BYTES + bytes);
            let charged = match grant.take() {
                Some(grant) if grant.num_permits() >= needed => {
                    let charged = grant.num_permits();
                    grant.forget();
                    charged
                }
                too_small => {
                    drop(too_small);
                    if !self.take(needed) {
                        return Err(NotAppended::NeedsMemory(needed));
                    }
                    needed
                }
            };
            let shared = BatchShared::new(queue.topic.clone(), queue.partition);
            let number = self.register(&shared);
            let batch = OpenBatch::new(shared, self.buffer(needed), charged, Instant::now());
            // The batch before it is full now; a first one starts to linger.
            wakes = !guard.batches.is_empty() || self.linger.is_zero();
            guard.batches.push_back(Numbered { number, batch });
            queue.queued.fetch_add(1, Ordering::Relaxed);
        }
        let last = &mut guard.batches.back_mut().expect("there was one, or one was made").batch;
        let before = last.size_bytes();
        let record = last.push(fields);
        if callback.is_some() || observer.is_some() {
            let notice = Notice { record, callback: callback.take(), observer: observer.cloned() };
            last.notify(notice);
        }
        let is_full = last.size_bytes() >= self.batch_bytes;
        let (taken, delivery) = (last.size_bytes() - before, Delivery::new(last.shared.clone(), record));
        let is_batch_end = !has_room || is_full;
        if !guard.is_listed {
            guard.is_listed = true;
            self.announced.lock().unwrap_or_else(PoisonError::into_inner).push(queue.clone());
            wakes = true;
        }
        drop(guard);
        if wakes || is_full {
            self.wake.notify_one();
        }
        topic.sticky.appended(queue.partition, taken, is_batch_end);
        Ok(delivery)
    }

    /// Queues that got their first record since the last call.
    pub fn take_announced(&self, into: &mut Vec<Arc<PartitionQueue>>) {
        into.append(&mut self.announced.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether a batch need not be full, nor its time be over.
    pub fn sends_at_once(&self) -> bool {
        self.pressed.load(Ordering::Relaxed) > 0
            || self.flushing.load(Ordering::Relaxed) > 0
            || self.is_closing.load(Ordering::Relaxed)
    }

    /// What is at the front of a queue. With `may_leave`, an empty queue is off the list afterwards.
    pub fn front(&self, queue: &PartitionQueue, now: Instant, may_leave: bool) -> Front {
        let mut guard = queue.lock();
        let Some(first) = guard.batches.front() else {
            guard.is_listed = !may_leave;
            return Front::Empty;
        };
        let opened = first.batch.opened;
        let until = opened + self.linger;
        let is_full = guard.batches.len() > 1 || first.batch.size_bytes() >= self.batch_bytes;
        if is_full || until <= now || self.sends_at_once() {
            Front::Ready { opened }
        } else {
            Front::Lingers { until, opened }
        }
    }

    /// The size of the batch at the front, before compression.
    pub fn front_bytes(&self, queue: &PartitionQueue) -> usize {
        queue.lock().batches.front().map_or(0, |first| first.batch.size_bytes())
    }

    /// Takes the batch at the front.
    pub fn take_front(&self, queue: &PartitionQueue) -> Option<Taken> {
        let Numbered { number, batch } = queue.lock().batches.pop_front()?;
        queue.queued.fetch_sub(1, Ordering::Relaxed);
        Some(Taken { number, batch })
    }

    /// Numbers a batch that was split off another.
    pub fn register(&self, batch: &Arc<BatchShared>) -> u64 {
        let number = self.next_batch.fetch_add(1, Ordering::Relaxed);
        self.incomplete().insert(number, batch.clone());
        number
    }

    /// A batch that keeps its number is another now: the first part of what it was.
    pub fn renumber(&self, number: u64, batch: &Arc<BatchShared>) {
        self.incomplete().insert(number, batch.clone());
    }

    /// Gives the memory of a batch back.
    pub fn release(&self, charged_bytes: usize) {
        self.memory.add_permits(charged_bytes);
    }

    /// The batch has its outcome, for everybody to see: nobody flushes for it any more.
    pub fn completed(&self, number: u64) {
        self.incomplete().remove(&number);
    }

    /// A buffer that may serve again.
    pub fn keep_buffer(&self, buffer: Option<Vec<u8>>) {
        // Larger ones were made for single records; small ones are left-overs of compression.
        let fits = |buffer: &Vec<u8>| (self.batch_bytes..=2 * self.batch_bytes).contains(&buffer.capacity());
        if let Some(buffer) = buffer.filter(fits) {
            let mut kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_BUFFERS_MAX {
                kept.push(buffer);
            }
        }
    }

    /// Waits for memory, first come first served.
    pub async fn wait_for_memory(&self, bytes: usize) -> Grant<'_> {
        struct Pressed<'a>(&'a AtomicUsize);
        impl Drop for Pressed<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.pressed.fetch_add(1, Ordering::Relaxed);
        let _pressed = Pressed(&self.pressed);
        self.wake.notify_one();
        let count = u32::try_from(bytes).expect("records are checked against max.request.size, an i32");
        self.memory.acquire_many(count).await.expect("the semaphore is never closed")
    }

    /// Bytes of `buffer.memory`, and how many of them are free.
    pub fn memory(&self) -> (usize, usize) {
        (self.memory_bytes, self.memory.available_permits())
    }

    /// Batches that have no outcome yet.
    pub fn incomplete_batches(&self) -> Vec<Arc<BatchShared>> {
        self.incomplete().values().cloned().collect()
    }

    pub fn incomplete_count(&self) -> usize {
        self.incomplete().len()
    }

    /// While this lives, nothing lingers.
    pub fn flush(&self) -> Flushing<'_> {
        self.flushing.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
        Flushing(&self.flushing)
    }

    /// From now on nothing is appended, and what there is does not linger.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    fn take(&self, bytes: usize) -> bool {
        let Ok(count) = u32::try_from(bytes) else { return false };
        match self.memory.try_acquire_many(count) {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_) => false,
        }
    }

    fn buffer(&self, bytes: usize) -> Vec<u8> {
        let kept = if bytes <= self.batch_bytes {
            self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop()
        } else {
            None
        };
        kept.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    fn incomplete(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<BatchShared>>> {
        self.incomplete.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody flushes.
pub(super) struct Flushing<'a>(&'a AtomicUsize);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartitionQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicQueues {
    /// What each partition has to do already; `has_leader` says which of them anybody leads.
    pub fn loads(&self, has_leader: impl Fn(i32) -> bool) -> Vec<Load> {
        let load = |queue: &Arc<PartitionQueue>| Load {
            partition: queue.partition,
            queued: queue.queued.load(Ordering::Relaxed),
            is_available: has_leader(queue.partition) && !queue.is_unavailable.load(Ordering::Relaxed),
        };
        self.partitions.iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cluster::Partition;
    use crate::model::Uuid;

    const LINGER: Duration = Duration::from_millis(5);

    fn topic(partition_count: i32) -> Topic {
        let partition = |index| Partition {
            index,
            leader: None,
            leader_epoch: -1,
            replicas: Vec::new(),
            in_sync: Vec::new(),
            offline: Vec::new(),
            error_code: 0,
        };
        let partitions = (0..partition_count).map(partition).collect();
        Topic { name: "t".into(), id: Uuid::ZERO, is_internal: false, partitions }
    }

    fn append(accumulator: &Accumulator, partition: usize, value: &[u8]) -> Result<Delivery, NotAppended> {
        let queues = accumulator.set_topic(&topic(2));
        let fields = Fields { timestamp: 1, key: None, value: Some(value), headers: &[] };
        accumulator.append(&queues, &queues.partitions[partition], &fields, &mut None, &mut None, None)
    }

    fn front(accumulator: &Accumulator, partition: usize) -> Front {
        let queues = accumulator.topic("t").unwrap();
        accumulator.front(&queues.partitions[partition], Instant::now(), true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_ready_when_full_or_when_it_has_lingered() {
        let accumulator = Accumulator::new(1000, LINGER, 10_000, true);
        let _first = append(&accumulator, 0, &[0; 100]).unwrap();
        let opened = Instant::now();
        assert_eq!(front(&accumulator, 0), Front::Lingers { until: opened + LINGER, opened });
        tokio::time::advance(LINGER).await;
        assert_eq!(front(&accumulator, 0), Front::Ready { opened });
        for _ in 0..10 {
            drop(append(&accumulator, 1, &[0; 100]).unwrap());
        }
        let opened = Instant::now();
        assert_eq!(front(&accumulator, 1), Front::Ready { opened }, "a second batch was begun");
        let queues = accumulator.topic("t").unwrap();
        let taken = accumulator.take_front(&queues.partitions[1]).unwrap();
        assert!(taken.batch.size_bytes() <= 1000 && taken.batch.record_count() > 5);
        assert!(matches!(front(&accumulator, 1), Front::Lingers { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn flush_pressure_and_close_end_lingering() {
        let accumulator = Accumulator::new(1000, LINGER, 2000, true);
        let _delivery = append(&accumulator, 0, b"a").unwrap();
        let opened = Instant::now();
        let lingers = Front::Lingers { until: opened + LINGER, opened };
        let flushing = accumulator.flush();
        assert_eq!(front(&accumulator, 0), Front::Ready { opened });
        drop(flushing);
        assert_eq!(front(&accumulator, 0), lingers);
        {
            let pressed = accumulator.wait_for_memory(2000);
            tokio::pin!(pressed);
            assert!(futures_pending(pressed.as_mut()).await);
            assert_eq!(front(&accumulator, 0), Front::Ready { opened });
        }
        assert_eq!(front(&accumulator, 0), lingers);
        accumulator.close();
        assert_eq!(front(&accumulator, 0), Front::Ready { opened });
        assert!(matches!(append(&accumulator, 0, b"b"), Err(NotAppended::Closed)));
    }

    async fn futures_pending<'a>(future: std::pin::Pin<&mut impl Future<Output = Grant<'a>>>) -> bool {
        let mut future = Some(future);
        std::future::poll_fn(|context| {
            let pending = future.take().expect("polled once").poll(context).is_pending();
            std::task::Poll::Ready(pending)
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_comes_back() {
        let accumulator = Accumulator::new(1000, LINGER, 2000, true);
        drop(append(&accumulator, 0, &[0; 900]).unwrap());
        drop(append(&accumulator, 1, &[0; 900]).unwrap());
        assert_eq!(accumulator.memory(), (2000, 0));
        assert!(matches!(append(&accumulator, 0, &[0; 900]), Err(NotAppended::NeedsMemory(1000))));
        assert_eq!(accumulator.incomplete_count(), 2);
        let queues = accumulator.topic("t").unwrap();
        let taken = accumulator.take_front(&queues.partitions[0]).unwrap();
        accumulator.release(taken.batch.charged_bytes);
        accumulator.completed(taken.number);
        assert_eq!((accumulator.memory(), accumulator.incomplete_count()), ((2000, 1000), 1));
        let mut grant = Some(accumulator.wait_for_memory(1000).await);
        let fields = Fields { timestamp: 1, key: None, value: Some(&[0; 900]), headers: &[] };
        let appended =
            accumulator.append(&queues, &queues.partitions[0], &fields, &mut grant, &mut None, None);
        assert!(appended.is_ok() && grant.is_none());
        assert_eq!(accumulator.memory(), (2000, 0));
        // A record larger than a batch takes what it needs.
        assert!(
            matches!(append(&accumulator, 0, &[0; 1500]), Err(NotAppended::NeedsMemory(bytes)) if bytes > 1500)
        );
    }

    #[test]
    fn a_queue_is_announced_once_until_the_sender_lets_go_of_it() {
        let accumulator = Accumulator::new(1000, Duration::ZERO, 10_000, true);
        let announced = |accumulator: &Accumulator| {
            let mut queues = Vec::new();
            accumulator.take_announced(&mut queues);
            queues.len()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        drop(append(&accumulator, 0, b"a").unwrap());
        drop(append(&accumulator, 0, b"b").unwrap());
        assert_eq!(announced(&accumulator), 1);
        let queues = accumulator.topic("t").unwrap();
        accumulator.take_front(&queues.partitions[0]);
        drop(append(&accumulator, 0, b"c").unwrap());
        assert_eq!(announced(&accumulator), 0);
        accumulator.take_front(&queues.partitions[0]);
        assert_eq!(front(&accumulator, 0), Front::Empty);
        drop(append(&accumulator, 0, b"d").unwrap());
        assert_eq!(announced(&accumulator), 1);
    }
}
