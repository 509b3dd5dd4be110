//! The fate of records: one shared state for each batch, however many records wait for it.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::client::error::ClientError;
use crate::model::{Offset, Timestamp, TopicName};

use super::interceptor::{Observer, guarded};
use super::record::{RecordMetadata, Stages};

/// Called with the fate of one record.
pub type Callback = Box<dyn FnOnce(Result<RecordMetadata, ClientError>) + Send>;

/// The fate of one record: a future that is ready once the record was acknowledged or lost. Dropping it loses nothing but
/// the answer.
#[must_use = "a record may be lost; await the delivery, or give a callback"]
pub struct Delivery {
    batch: Arc<BatchShared>,
    record: RecordShare,
    /// The place of our waker among the batch's.
    waiter: Option<usize>,
}

/// What a record knows of itself, beside its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordShare {
    /// Its place in the batch.
    pub index: u32,
    pub timestamp: Timestamp,
    pub key_bytes: Option<usize>,
    pub value_bytes: Option<usize>,
}

/// What the records of a batch share with the sender.
pub(super) struct BatchShared {
    pub topic: TopicName,
    pub partition: i32,
    outcome: OnceLock<Outcome>,
    /// The outcome is for everybody to see: callbacks have been told.
    is_published: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

/// What became of a batch.
pub(super) enum Outcome {
    Appended {
        /// `None`: not told.
        base_offset: Option<Offset>,
        /// `None`: the records keep their own.
        log_append_time: Option<Timestamp>,
        stages: Stages,
    },
    Failed(ClientError),
    /// It was too large and became several: the first record of each, by index in this one.
    Split(Vec<(u32, Arc<BatchShared>)>),
}

impl BatchShared {
    pub fn new(topic: TopicName, partition: i32) -> Arc<BatchShared> {
        Arc::new(BatchShared {
            topic,
            partition,
            outcome: OnceLock::new(),
            is_published: AtomicBool::new(false),
            waiters: Mutex::default(),
        })
    }

    /// Decides. The first outcome stays: a batch that was given up is not acknowledged later.
    pub fn decide(&self, outcome: Outcome) {
        // A second one changes nothing.
        let _ = self.outcome.set(outcome);
    }

    /// Makes the futures ready.
    /// Panics before `decide`.
    pub fn publish(&self) {
        assert!(self.outcome.get().is_some(), "there is nothing to publish");
        self.is_published.store(true, Ordering::Release);
        let waiters = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        waiters.into_iter().for_each(Waker::wake);
    }

    /// What was decided, published or not.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    fn published(&self) -> Option<&Outcome> {
        self.is_published.load(Ordering::Acquire).then(|| self.outcome.get()).flatten()
    }

    /// Ready once there is an outcome; remembers the waker in `slot` otherwise.
    fn poll(&self, slot: &mut Option<usize>, context: &Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.published() {
            return Poll::Ready(outcome);
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // `publish` says so before it takes the wakers: seen now, or our waker is taken.
        if let Some(outcome) = self.published() {
            return Poll::Ready(outcome);
        }
        match *slot {
            Some(at) => waiters[at].clone_from(context.waker()),
            None => {
                *slot = Some(waiters.len());
                waiters.push(context.waker().clone());
            }
        }
        Poll::Pending
    }

    /// The fate of one record of the batch, through all its splits; `None`: not decided.
    pub fn fate(
        self: &Arc<BatchShared>,
        record: &RecordShare,
    ) -> Option<Result<RecordMetadata, ClientError>> {
        let mut batch = self;
        let mut index = record.index;
        loop {
            match batch.outcome()? {
                Outcome::Appended { base_offset, log_append_time, stages } => {
                    return Some(Ok(RecordMetadata {
                        topic: batch.topic.clone(),
                        partition: batch.partition,
                        offset: base_offset.map(|base| base + i64::from(index)),
                        timestamp: log_append_time.unwrap_or(record.timestamp),
                        serialized_key_bytes: record.key_bytes,
                        serialized_value_bytes: record.value_bytes,
                        stages: *stages,
                    }));
                }
                Outcome::Failed(error) => return Some(Err(error.clone())),
                Outcome::Split(parts) => {
                    let (first, part) = part_of(parts, index);
                    index -= first;
                    batch = part;
                }
            }
        }
    }
}

fn part_of(parts: &[(u32, Arc<BatchShared>)], index: u32) -> (u32, &Arc<BatchShared>) {
    let at = parts.partition_point(|(first, _)| *first <= index) - 1;
    (parts[at].0, &parts[at].1)
}

impl Delivery {
    pub(super) fn new(batch: Arc<BatchShared>, record: RecordShare) -> Delivery {
        Delivery { batch, record, waiter: None }
    }

    /// The partition that was chosen.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// The fate if it is known.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, ClientError>> {
        let mut batch = &self.batch;
        let mut index = self.record.index;
        while let Outcome::Split(parts) = batch.published()? {
            let (first, part) = part_of(parts, index);
            index -= first;
            batch = part;
        }
        batch.fate(&RecordShare { index, ..self.record })
    }

    /// Blocks the thread until the fate is known. Not on a thread of the runtime that the producer runs on.
    pub fn wait(self) -> Result<RecordMetadata, ClientError> {
        block_on(self)
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let Delivery { batch, record, waiter } = &mut *self;
            let Poll::Ready(outcome) = batch.poll(waiter, context) else { return Poll::Pending };
            if let Outcome::Split(parts) = outcome {
                let (first, part) = part_of(parts, record.index);
                record.index -= first;
                let part = Arc::clone(part);
                (self.batch, self.waiter) = (part, None);
                continue;
            }
            return Poll::Ready(batch.fate(record).expect("there is an outcome, and no split"));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({}-{})", self.batch.topic, self.batch.partition)
    }
}

/// Ready once the batch, with all that it was split into, has an outcome.
pub(super) async fn done(batch: Arc<BatchShared>) {
    let mut open = vec![batch];
    while let Some(batch) = open.pop() {
        let mut slot = None;
        std::future::poll_fn(|context| batch.poll(&mut slot, context).map(|_| ())).await;
        if let Some(Outcome::Split(parts)) = batch.outcome() {
            open.extend(parts.iter().map(|(_, part)| Arc::clone(part)));
        }
    }
}

/// A record whose fate somebody wants to be told: a callback, or interceptors.
pub(super) struct Notice {
    pub record: RecordShare,
    pub callback: Option<Callback>,
    pub observer: Option<Arc<dyn Observer>>,
}

impl Notice {
    /// Tells the fate of the record of this batch, which is decided.
    pub fn tell(self, batch: &Arc<BatchShared>) {
        let fate = batch.fate(&self.record).expect("told after the decision");
        if let Some(observer) = self.observer {
            observer.acknowledged(fate.as_ref());
        }
        if let Some(callback) = self.callback
            && let Err(message) = guarded(|| callback(fate))
        {
            tracing::warn!(message, "a callback panicked");
        }
    }
}

/// Runs a future on a thread that has nothing else to do.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::Fatal;
    use crate::client::time::Instant;

    fn share(index: u32) -> RecordShare {
        RecordShare { index, timestamp: 5, key_bytes: None, value_bytes: Some(1) }
    }

    fn appended(base_offset: i64) -> Outcome {
        let now = Instant::now();
        let stages = Stages { opened: now, drained: now, sent: now, acknowledged: now, retries: 0 };
        Outcome::Appended { base_offset: Some(base_offset), log_append_time: None, stages }
    }

    #[tokio::test]
    async fn every_record_of_a_batch_learns_its_own_offset() {
        let batch = BatchShared::new("t".into(), 3);
        let waiting: Vec<_> =
            (0..3).map(|at| tokio::spawn(Delivery::new(batch.clone(), share(at)))).collect();
        tokio::task::yield_now().await;
        batch.decide(appended(70));
        batch.decide(Outcome::Failed(Fatal::Closed.into()));
        tokio::task::yield_now().await;
        assert!(!waiting[0].is_finished(), "callbacks come first");
        batch.publish();
        for (at, waiting) in waiting.into_iter().enumerate() {
            let metadata = waiting.await.unwrap().unwrap();
            assert_eq!((metadata.partition, metadata.offset), (3, Some(70 + at as i64)));
            assert_eq!((metadata.timestamp, metadata.serialized_value_bytes), (5, Some(1)));
        }
    }

    #[tokio::test]
    async fn a_record_follows_its_batch_through_splits() {
        let (whole, left, right) = (
            BatchShared::new("t".into(), 0),
            BatchShared::new("t".into(), 0),
            BatchShared::new("t".into(), 0),
        );
        let waiting: Vec<_> =
            (0..5).map(|at| tokio::spawn(Delivery::new(whole.clone(), share(at)))).collect();
        tokio::task::yield_now().await;
        let first = Delivery::new(whole.clone(), share(1));
        whole.decide(Outcome::Split(vec![(0, left.clone()), (2, right.clone())]));
        whole.publish();
        assert!(first.try_result().is_none());
        let all = tokio::spawn(done(whole));
        tokio::task::yield_now().await;
        right.decide(appended(40));
        right.publish();
        tokio::task::yield_now().await;
        assert!(!all.is_finished());
        left.decide(appended(20));
        left.publish();
        assert_eq!(first.try_result().unwrap().unwrap().offset, Some(21));
        all.await.unwrap();
        let mut offsets = Vec::new();
        for waiting in waiting {
            offsets.push(waiting.await.unwrap().unwrap().offset.unwrap());
        }
        assert_eq!(offsets, [20, 21, 40, 41, 42]);
    }
}
