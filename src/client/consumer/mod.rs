//! The consumer: records out of partitions, alone or as one of a group.
//!
//! ```text
//! poll, stream  <- positions, chunks <- | driver: offsets, validity, fetches of all brokers at the same time
//!    the application's task             | group: joins, heartbeats, commits        (background tasks)
//! ```
//!
//! *Owns* the way of a record from a broker to the application, and who of a group reads what. Fetching goes on while the
//! application works, up to `fetch.max.bytes` that wait, and one fetch of each broker beyond. *Invariant*: a position moves
//! only when `poll` returns what is before it, so a commit of positions never covers a record that was not returned; and
//! partitions change hands within `poll` only. Futures may be dropped at any time: what they waited for goes on, and the
//! next call finds it.
//!
//! ```
//! # mod example {
//! use std::time::Duration;
//!
//! use corelog::client::{ClientError, Consumer, ConsumerSettings};
//!
//! # pub async fn run(broker: String) -> Result<(), ClientError> {
//! let bootstrap = "127.0.0.1:9092";
//! # let bootstrap = broker.as_str();
//! let settings = ConsumerSettings::builder()
//!     .set("bootstrap.servers", bootstrap)
//!     .set("group.id", "billing")
//!     .set("auto.offset.reset", "earliest")
//!     .set("enable.auto.commit", false)
//!     .build()?;
//! let mut consumer = Consumer::new(settings)?;
//! consumer.subscribe(["orders"])?;
//! let mut seen = 0;
//! while seen < 3 {
//!     for record in consumer.poll(Duration::from_millis(500)).await? {
//!         println!("{}-{} {}: {:?}", record.topic, record.partition, record.offset, record.value);
//!         seen += 1;
//!     }
//!     // What was printed is done with.
//!     consumer.commit().await?;
//! }
//! # let first = corelog::client::TopicPartition::new("orders", 0);
//! # assert_eq!(consumer.committed(&[first.clone()]).await?[&first].as_ref().map(|c| c.offset), Some(3));
//! consumer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! # }
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
//! # fn main() { with_orders(example::run) }
//! ```
//!
//! Without a group, partitions are assigned by hand and positions kept by the application:
//!
//! ```
//! # mod example {
//! # use std::time::Duration;
//! # use corelog::client::{ClientError, Consumer, ConsumerSettings, TopicPartition};
//! # pub async fn run(broker: String) -> Result<(), ClientError> {
//! # let settings = ConsumerSettings::builder().set("bootstrap.servers", broker).build()?;
//! let mut consumer = Consumer::new(settings)?;
//! let partition = TopicPartition::new("orders", 0);
//! consumer.assign([partition.clone()])?;
//! consumer.seek_to_timestamp(&partition, 1_700_000_000_000)?;
//! let records = consumer.poll(Duration::from_secs(10)).await?;
//! # assert_eq!(records[0].offset, 0);
//! # Ok(())
//! # }
//! # }
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
//! # fn main() { with_orders(example::run) }
//! ```

pub mod assignor;
mod chunk;
mod driver;
mod fetch;
mod group;
mod handle;
mod metrics;
mod partition;
mod rebalance;
mod record;
mod session;
mod state;
mod stream;
mod validation;
pub(super) mod wire;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::model::{TopicName, TopicPartition};

use super::cluster::Cluster;
use super::error::{Abortable, ClientError, Fatal, Misuse, Retriable, Waited};
use super::settings::ConsumerSettings;
use super::time::Instant;

pub use super::committed::CommittedOffset;
pub use super::offsets::{FoundOffset, IsolationLevel, OffsetSpec};
pub use assignor::Assignor;
pub use chunk::CorruptBatch;
pub use handle::ConsumerHandle;
pub use metrics::ConsumerMetrics;
pub use rebalance::{Rebalance, RebalanceListener};
pub use record::{ConsumerHeader, ConsumerRecord};
pub use stream::RecordStream;
pub use wire::{Subscription, WireError};

use assignor::{RebalanceProtocol, built_in};
use group::{Group, Job};
use rebalance::Deaf;
use state::{Shared, Wish};

/// A consumer of records, for one task at a time. What may be called from others meanwhile is in its [`ConsumerHandle`],
/// which it derefs to.
///
/// Close it: a group learns at once then that it has to share anew. A drop tries to tell it, and commits nothing.
pub struct Consumer {
    handle: ConsumerHandle,
    listener: Box<dyn RebalanceListener>,
    is_closed: bool,
}

/// Makes a consumer with code of the caller's in it.
pub struct ConsumerBuilder {
    settings: ConsumerSettings,
    assignors: Vec<Box<dyn Assignor>>,
    listener: Box<dyn RebalanceListener>,
}

impl ConsumerBuilder {
    /// Assignors instead of those that `partition.assignment.strategy` names, the most wanted first.
    pub fn assignors(mut self, assignors: Vec<Box<dyn Assignor>>) -> ConsumerBuilder {
        self.assignors = assignors;
        self
    }

    pub fn listener(mut self, listener: impl RebalanceListener + 'static) -> ConsumerBuilder {
        self.listener = Box::new(listener);
        self
    }

    /// Connects to nobody yet. Must be called on a tokio runtime. Errors: files that the settings name for TLS.
    pub fn build(self) -> Result<Consumer, ClientError> {
        let ConsumerBuilder { settings, mut assignors, listener } = self;
        if assignors.is_empty() {
            assignors = settings.assignors.iter().map(|kind| built_in(*kind)).collect();
        }
        let cluster = Cluster::new(settings.client.clone(), settings.allow_auto_create_topics)?;
        let all_cooperate =
            assignors.iter().all(|assignor| assignor.protocol() == RebalanceProtocol::Cooperative);
        let protocol = if all_cooperate { RebalanceProtocol::Cooperative } else { RebalanceProtocol::Eager };
        let group_id = settings.group_id.clone();
        let (sender, receiver) = mpsc::unbounded_channel();
        let group = group_id.as_ref().map(|_| Group::new(protocol));
        let jobs = group_id.as_ref().map(|_| sender);
        let shared = Arc::new(Shared::new(settings, cluster, group, jobs));
        tokio::spawn(driver::run(shared.clone()));
        if let Some(group_id) = group_id {
            group::start(&shared, &group_id, assignors, receiver);
        }
        Ok(Consumer { handle: ConsumerHandle::new(shared), listener, is_closed: false })
    }
}

impl Deref for Consumer {
    type Target = ConsumerHandle;
    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Consumer {
    /// A consumer with the built-in assignors and no listener. As [`ConsumerBuilder::build`].
    pub fn new(settings: ConsumerSettings) -> Result<Consumer, ClientError> {
        Consumer::builder(settings).build()
    }

    pub fn builder(settings: ConsumerSettings) -> ConsumerBuilder {
        ConsumerBuilder { settings, assignors: Vec::new(), listener: Box::new(Deaf) }
    }

    /// What other tasks may use while this one polls.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    fn shared(&self) -> &Shared {
        self.handle.shared()
    }

    /// Reads these partitions, and no others. Where: at the group's offset if there is a group, else where
    /// `auto.offset.reset` says, unless a seek follows. Errors: it is subscribed.
    pub fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), ClientError> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let shared = self.shared();
        let mut state = shared.state();
        if state.wish.is_subscription() {
            return Err(Abortable::Misuse(Misuse::AssignedAndSubscribed).into());
        }
        state.wish = Wish::Assigned;
        state.set_partitions(&partitions);
        shared.want_topics(&state);
        drop(state);
        shared.work.notify_one();
        Ok(())
    }

    /// Reads these topics, and no others, together with the rest of the group. Errors: there is no group, or partitions are
    /// assigned by hand.
    pub fn subscribe<N: Into<TopicName>>(
        &mut self,
        topics: impl IntoIterator<Item = N>,
    ) -> Result<(), ClientError> {
        self.wish_for(Wish::Topics(topics.into_iter().map(Into::into).collect()))
    }

    /// Reads all topics for whose names `condition` is true, also those that will be.
    pub fn subscribe_where(
        &mut self,
        condition: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        self.wish_for(Wish::Where(Arc::new(condition)))
    }

    fn wish_for(&mut self, wish: Wish) -> Result<(), ClientError> {
        let shared = self.shared();
        if shared.settings.group_id.is_none() {
            return Err(Abortable::Misuse(Misuse::NoGroup).into());
        }
        let mut state = shared.state();
        if matches!(state.wish, Wish::Assigned) {
            return Err(Abortable::Misuse(Misuse::AssignedAndSubscribed).into());
        }
        state.wish = wish;
        shared.want_topics(&state);
        if let Some(group) = &mut state.group {
            group.last_poll = Instant::now();
            group.wants_join = Some("the subscription has changed");
        }
        drop(state);
        shared.cluster.request_refresh();
        shared.work.notify_one();
        Ok(())
    }

    /// Reads nothing any more, and leaves the group. Positions are committed if that is automatic.
    pub fn unsubscribe(&mut self) {
        let shared = self.handle.shared();
        let (was_subscribed, owned) = {
            let mut state = shared.state();
            let owned: BTreeSet<TopicPartition> = state.partitions.keys().cloned().collect();
            let was_subscribed = state.wish.is_subscription();
            state.wish = Wish::Nothing;
            (was_subscribed, owned)
        };
        if was_subscribed {
            rebalance::revoke(shared, &mut *self.listener, &owned);
            if let Some(jobs) = &shared.jobs {
                // The task ends with the consumer only.
                drop(jobs.send(Job::Leave { reply: None }));
            }
        }
        shared.state().set_partitions(&BTreeSet::new());
        shared.work.notify_one();
    }

    /// The next records, `max.poll.records` at most: those that are there, or the first that come within `timeout`; none
    /// if none do. A call says that what the calls before returned is done with. Errors: something went wrong with a
    /// partition or the group; the next call goes on, unless the error is fatal.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let count_max = self.shared().settings.poll_records_max;
        let next = std::future::poll_fn(|context| self.poll_next_records(context, count_max));
        tokio::time::timeout(timeout, next).await.unwrap_or_else(|_elapsed| Ok(Vec::new()))
    }

    /// Records one by one, for as long as the stream is asked. A record is done with when the next one is asked for.
    pub fn stream(&mut self) -> RecordStream<'_> {
        RecordStream::new(self)
    }

    /// As `poll`, for whoever waits by himself.
    fn poll_next_records(
        &mut self,
        context: &mut Context<'_>,
        count_max: usize,
    ) -> Poll<Result<Vec<ConsumerRecord>, ClientError>> {
        let shared = self.handle.shared();
        // Before anything is looked at: news that come meanwhile are not missed then.
        shared.state().wait(context.waker());
        rebalance::turn(shared, &mut *self.listener);
        let mut state = shared.state();
        if state.is_closed {
            return Poll::Ready(Err(Fatal::Closed.into()));
        }
        if matches!(state.wish, Wish::Nothing) {
            return Poll::Ready(Err(Abortable::Misuse(Misuse::NothingAssigned).into()));
        }
        if let Some(error) = state.group.as_ref().and_then(|group| group.failed.clone()) {
            return Poll::Ready(Err(error));
        }
        shared.commit_if_due(&mut state);
        if let Some(error) = state.errors.pop_front() {
            return Poll::Ready(Err(error));
        }
        match state.take(count_max, shared.reading()) {
            Ok(records) if records.is_empty() => {
                drop(state);
                // Empty chunks may have gone, which makes room.
                shared.work.notify_one();
                Poll::Pending
            }
            Ok(records) => {
                shared.note_moved(&mut state);
                drop(state);
                shared.work.notify_one();
                Poll::Ready(Ok(records))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Commits positions if that is automatic, tells the listener, leaves the group, ends all. What is not done within
    /// `timeout` is not done. Errors: the commit or the leave failed; the consumer is closed all the same.
    pub async fn close(mut self, timeout: Duration) -> Result<(), ClientError> {
        self.is_closed = true;
        let shared = self.handle.shared();
        let closed = tokio::time::timeout(timeout, close(shared, &mut *self.listener)).await;
        shared.end();
        match closed {
            Ok(result) => result,
            Err(_elapsed) => {
                Err(Retriable::TimedOut { what: Waited::Close, after: timeout, last: None }.into())
            }
        }
    }
}

async fn close(shared: &Shared, listener: &mut dyn RebalanceListener) -> Result<(), ClientError> {
    // A join that waits for others, and heartbeats, end with this.
    shared.closing.send_replace(true);
    let Some(jobs) = &shared.jobs else { return Ok(()) };
    let (positions, change, is_subscribed) = {
        let state = shared.state();
        let owned: BTreeSet<TopicPartition> = state.partitions.keys().cloned().collect();
        (state.positions(), Rebalance::of(&state, &owned), state.wish.is_subscription())
    };
    let mut committed = None;
    if shared.settings.auto_commit_interval.is_some() && !positions.is_empty() {
        let (sender, receiver) = oneshot::channel();
        let reply: group::Reply = Box::new(|result| drop(sender.send(result)));
        drop(jobs.send(Job::Commit { offsets: positions, retries: true, reply: Some(reply) }));
        committed = Some(receiver);
    }
    let (sender, left) = oneshot::channel();
    if is_subscribed {
        rebalance::give_up(shared, listener, change);
        let reply: group::Reply = Box::new(|result| drop(sender.send(result)));
        drop(jobs.send(Job::Leave { reply: Some(reply) }));
    } else {
        drop(sender);
    }
    // A task that is gone has told why before.
    let committed = match committed {
        Some(receiver) => receiver.await.unwrap_or(Ok(())),
        None => Ok(()),
    };
    let left = left.await.unwrap_or(Ok(()));
    committed.and(left)
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let shared = self.handle.shared();
        if let Some(jobs) = &shared.jobs {
            // The task does what it has been given before it ends.
            drop(jobs.send(Job::Leave { reply: None }));
        }
        shared.end();
    }
}
