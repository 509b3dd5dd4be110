//! The cluster as a client knows it, and the way to its brokers.
//!
//! *Owns* the newest [`ClusterImage`], the connections, and a task that asks again when the image is old or somebody found
//! it wrong. Brokers are found from `bootstrap.servers`, then from each other; when none of the known ones answers, the
//! bootstrap list is asked again. Leaders are compared by epoch, so that an answer which is behind undoes nothing.
//! *Never* decides what a request means. Callers: `producer`, `consumer`, `admin`.

mod image;
mod pool;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::config::Address;
use crate::model::{NodeId, TopicName};
use crate::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use crate::protocol::{ApiKey, ErrorCode, Request};

use super::connection::{Answer, Connection, Connector};
use super::error::{ClientError, Fatal, Retriable, Waited};
use super::random::Random;
use super::settings::ClientSettings;
use super::time::Instant;

pub use image::{ClusterImage, Node, Partition, Topic};
pub use pool::Lane;

use pool::Pool;

/// How often idle connections and unused topics are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// A handle of the cluster; clones share all. The last one to go ends the task and closes the connections.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ClientSettings,
    creates_topics: bool,
    pool: Pool,
    random: Random,
    image: watch::Sender<Arc<ClusterImage>>,
    interest: Mutex<Interest>,
    /// Held while an answer is awaited.
    refreshing: tokio::sync::Mutex<()>,
    refreshes_begun: AtomicU64,
    /// Which of them was the last to succeed, counted from 1.
    refreshed: AtomicU64,
    is_wanted: Arc<Notify>,
}

/// Which topics the image should hold.
#[derive(Debug, Default)]
struct Interest {
    all: bool,
    /// With the moment of the last use.
    topics: BTreeMap<TopicName, Instant>,
}

impl Cluster {
    /// Connects to nobody yet. Must be called on a tokio runtime. With `creates_topics`, brokers are told that they may
    /// create a topic that is asked about and not there.
    pub fn new(settings: ClientSettings, creates_topics: bool) -> Result<Cluster, ClientError> {
        let connector = Connector::new(&settings)?;
        let inner = Arc::new(Inner {
            pool: Pool::new(connector, settings.reconnect_backoff),
            settings,
            creates_topics,
            random: Random::new(),
            image: watch::Sender::default(),
            interest: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            refreshes_begun: AtomicU64::new(0),
            refreshed: AtomicU64::new(0),
            is_wanted: Arc::default(),
        });
        let max_age = inner.settings.metadata_max_age;
        tokio::spawn(keep_fresh(Arc::downgrade(&inner), inner.is_wanted.clone(), max_age));
        Ok(Cluster { inner })
    }

    pub fn settings(&self) -> &ClientSettings {
        &self.inner.settings
    }

    /// What is known now; empty before the first answer.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.inner.image.borrow().clone()
    }

    /// Changes with every news of the cluster.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.inner.image.subscribe()
    }

    /// Keeps these topics in the image, from the next answer on.
    pub fn want_topics<'t>(&self, names: impl IntoIterator<Item = &'t TopicName>) {
        let now = Instant::now();
        self.inner.interest().topics.extend(names.into_iter().map(|name| (name.clone(), now)));
    }

    /// Keeps these topics and no others; for a consumer whose subscription changed.
    pub fn want_only<'t>(&self, names: impl IntoIterator<Item = &'t TopicName>) {
        let now = Instant::now();
        let topics = names.into_iter().map(|name| (name.clone(), now)).collect();
        *self.inner.interest() = Interest { all: false, topics };
    }

    /// Keeps all topics of the cluster in the image.
    pub fn want_all_topics(&self) {
        self.inner.interest().all = true;
    }

    /// Asks a broker what the cluster looks like, now. Callers at the same time share one question; it is asked after this
    /// call began. Errors: nobody answers, each broker was tried once.
    pub async fn refresh(&self) -> Result<Arc<ClusterImage>, ClientError> {
        self.inner.refresh().await
    }

    /// Has the cluster asked about soon, without waiting.
    pub fn request_refresh(&self) {
        self.inner.is_wanted.notify_one();
    }

    /// The topic, asked about until it is known or `patience` is over. Errors: the broker says that it may not be (name,
    /// authorization) at once; a topic that does not exist, or no broker, when the time is over.
    pub async fn topic(&self, name: &TopicName, patience: Duration) -> Result<Arc<Topic>, ClientError> {
        let deadline = Instant::now() + patience;
        let timed_out = |last: Option<ClientError>| {
            let what = Waited::Topic(name.clone());
            ClientError::from(Retriable::TimedOut { what, after: patience, last: last.map(Arc::new) })
        };
        let mut last = None;
        for attempt in 0.. {
            if let Some(topic) = self.image().topic(name) {
                return Ok(topic.clone());
            }
            self.want_topics([name]);
            if attempt > 0 {
                let wait = self.settings().retry_backoff.wait(attempt, &self.inner.random);
                if Instant::now() + wait >= deadline {
                    tokio::time::sleep_until(deadline).await;
                    break;
                }
                tokio::time::sleep(wait).await;
            }
            let image = match tokio::time::timeout_at(deadline, self.refresh()).await {
                Ok(Ok(image)) => image,
                Ok(Err(error)) if error.is_retriable() => {
                    last = Some(error);
                    continue;
                }
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => break,
            };
            if let Some(code) = image.refused_topics.get(name) {
                match ClientError::refused(ApiKey::Metadata, format!("topic {name}"), *code, None) {
                    Some(error) if !error.is_retriable() => return Err(error),
                    error => last = error,
                }
            }
        }
        Err(timed_out(last))
    }

    /// Takes a leader that a broker named in passing (KIP-951); older news than what is known changes nothing.
    pub fn learn_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: NodeId,
        leader_epoch: i32,
        endpoint: Option<Node>,
    ) -> bool {
        let mut learnt = false;
        self.inner.image.send_if_modified(|image| {
            let next = image.with_leader(topic, partition, leader, leader_epoch, endpoint);
            learnt = next.is_some();
            if let Some(next) = next {
                *image = Arc::new(next);
            }
            learnt
        });
        learnt
    }

    /// A connection to a broker of the image. Errors: there is no such broker, or it cannot be reached.
    pub async fn connection(&self, node: NodeId, lane: Lane) -> Result<Connection, ClientError> {
        match self.image().nodes.get(&node) {
            Some(node) => self.inner.connection(&node.address, lane).await,
            None => Err(Retriable::NoBroker { last: None }.into()),
        }
    }

    /// A connection to a broker that was named elsewhere than in the image, such as a group's coordinator.
    pub async fn connection_to(&self, address: &Address, lane: Lane) -> Result<Connection, ClientError> {
        self.inner.connection(address, lane).await
    }

    /// What a broker says now about these topics, or all of them; the cluster's own image does not change. Nothing is
    /// created by asking.
    pub async fn describe(&self, topics: Option<&[TopicName]>) -> Result<ClusterImage, ClientError> {
        let response = self.inner.ask_metadata(topics, false).await?;
        let response: MetadataResponse<'_> = response.decode()?;
        ClientError::check(ApiKey::Metadata, "the cluster", response.error_code, None)?;
        Ok(ClusterImage::default().after(&response, None))
    }

    /// A connection to any broker; one that cannot be reached is followed by the next.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        let mut last = None;
        for address in self.inner.candidates() {
            match self.inner.connection(&address, Lane::Main).await {
                Err(error) if error.is_unreachable() || is_about_one_broker(&error) => {
                    last = Some(Arc::new(error));
                }
                other => return other,
            }
        }
        Err(nobody(last))
    }

    /// The connection to a broker if it is open.
    pub fn open_connection(&self, node: NodeId, lane: Lane) -> Option<Connection> {
        self.inner.pool.open_connection(&self.image().nodes.get(&node)?.address, lane)
    }

    /// Asks one broker, in the newest version that it and we speak.
    pub async fn ask<'r, Q: Request<'r>>(&self, node: NodeId, request: &Q) -> Result<Answer, ClientError> {
        self.connection(node, Lane::Main).await?.ask(request).await
    }

    /// Asks any broker; one that cannot be reached is followed by the next.
    pub async fn ask_any<'r, Q: Request<'r>>(&self, request: &Q) -> Result<Answer, ClientError> {
        self.inner.ask_any(request).await
    }

    /// Asks the controller, or any broker while none is known: those that are not it pass it on or say so.
    pub async fn ask_controller<'r, Q: Request<'r>>(&self, request: &Q) -> Result<Answer, ClientError> {
        match self.image().controller {
            Some(controller) => self.ask(controller, request).await,
            None => self.ask_any(request).await,
        }
    }
}

impl Inner {
    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self) -> Result<Arc<ClusterImage>, ClientError> {
        let begun = self.refreshes_begun.load(Ordering::Acquire);
        let _guard = self.refreshing.lock().await;
        // Somebody asked after this call began, and the answer is there.
        if self.refreshed.load(Ordering::Acquire) > begun {
            return Ok(self.image.borrow().clone());
        }
        let number = self.refreshes_begun.fetch_add(1, Ordering::AcqRel) + 1;
        let asked = {
            let interest = self.interest();
            (!interest.all).then(|| interest.topics.keys().cloned().collect::<Vec<_>>())
        };
        let answer = self.ask_metadata(asked.as_deref(), self.creates_topics).await?;
        let response: MetadataResponse<'_> = answer.decode()?;
        if response.error_code == ErrorCode::RebootstrapRequired.code() {
            self.image.send_replace(Arc::default());
        }
        ClientError::check(ApiKey::Metadata, "the cluster", response.error_code, None)?;
        let next = Arc::new(self.image.borrow().after(&response, asked.as_deref()));
        self.image.send_if_modified(|image| {
            let is_news = *image != next;
            *image = next.clone();
            is_news
        });
        self.refreshed.store(number, Ordering::Release);
        Ok(next)
    }

    async fn ask_metadata(
        &self,
        topics: Option<&[TopicName]>,
        creates_topics: bool,
    ) -> Result<Answer, ClientError> {
        let topics = topics.map(|names| {
            let topic = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
            names.iter().map(|name| topic(name.as_ref())).collect()
        });
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: creates_topics, ..Default::default() };
        self.ask_any(&request).await
    }

    fn sweep(&self) {
        self.pool.sweep(self.settings.connections_max_idle);
        let idle_max = self.settings.metadata_max_idle;
        self.interest().topics.retain(|_, used| used.elapsed() < idle_max);
    }

    async fn ask_any<'r, Q: Request<'r>>(&self, request: &Q) -> Result<Answer, ClientError> {
        let mut last = None;
        for address in self.candidates() {
            let asked = match self.connection(&address, Lane::Main).await {
                Ok(connection) => connection.ask(request).await,
                Err(error) => Err(error),
            };
            match asked {
                Err(error) if error.is_unreachable() || is_about_one_broker(&error) => {
                    last = Some(Arc::new(error))
                }
                other => return other,
            }
        }
        Err(nobody(last))
    }

    /// As the pool's. Whoever hangs up on the first request may be no broker; once a broker has told of the cluster, it is
    /// one that stops or whose connections are cut.
    async fn connection(&self, address: &Address, lane: Lane) -> Result<Connection, ClientError> {
        match self.pool.connection(address, lane).await {
            Err(ClientError::Fatal(Fatal::NotKafka { address })) if !self.image.borrow().nodes.is_empty() => {
                let source = Arc::new(std::io::ErrorKind::ConnectionReset.into());
                Err(Retriable::Disconnected { address, api: Some(ApiKey::ApiVersions), source }.into())
            }
            other => other,
        }
    }

    /// Whom to ask, the most promising first: brokers with an open connection and little in flight, others, those that
    /// could not be reached last time; then the bootstrap list.
    fn candidates(&self) -> Vec<Address> {
        let image = self.image.borrow().clone();
        let mut known: Vec<(usize, u64, Address)> = image
            .nodes
            .values()
            .map(|node| {
                let open = self.pool.open_connection(&node.address, Lane::Main);
                let rank = match open {
                    Some(open) => open.in_flight(),
                    None if self.pool.is_in_backoff(&node.address, Lane::Main) => usize::MAX,
                    None => usize::MAX - 1,
                };
                (rank, self.random.next(), node.address.clone())
            })
            .collect();
        known.sort_by_key(|(rank, chance, _)| (*rank, *chance));
        let mut addresses: Vec<Address> = known.into_iter().map(|(_, _, address)| address).collect();
        if addresses.is_empty() || self.settings.rebootstrap_after.is_some() {
            let more = self.settings.bootstrap.iter().filter(|more| !addresses.contains(more));
            let more: Vec<Address> = more.cloned().collect();
            addresses.extend(more);
        }
        addresses
    }
}

/// The error of a question that none of the brokers could be asked.
fn nobody(last: Option<Arc<ClientError>>) -> ClientError {
    match last.as_deref() {
        // Not a matter of time: told as it is.
        Some(error) if error.is_fatal() => error.clone(),
        _ => Retriable::NoBroker { last }.into(),
    }
}

/// Failures of one broker that say nothing about the next.
fn is_about_one_broker(error: &ClientError) -> bool {
    use super::error::Fatal::{Malformed, NotKafka, Unsupported};
    matches!(error, ClientError::Fatal(NotKafka { .. } | Unsupported { .. } | Malformed { .. }))
}

/// Ends the task.
impl Drop for Inner {
    fn drop(&mut self) {
        self.is_wanted.notify_one();
    }
}

/// Refreshes when wanted and when the image is old, sweeps what is unused. Ends with the last handle.
async fn keep_fresh(inner: Weak<Inner>, is_wanted: Arc<Notify>, max_age: Duration) {
    let mut due = Instant::now() + max_age;
    let mut failures = 0u32;
    loop {
        // Nothing is held while the task waits, so that the cluster can go.
        let until = due.min(Instant::now() + SWEEP);
        let wanted = tokio::time::timeout_at(until, is_wanted.notified()).await.is_ok();
        let Some(inner) = inner.upgrade() else { return };
        inner.sweep();
        // What nobody has asked about yet is not old.
        let is_old = Instant::now() >= due && !inner.image.borrow().nodes.is_empty();
        if !wanted && !is_old {
            due = due.max(Instant::now());
            continue;
        }
        match inner.refresh().await {
            Ok(_) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(%error, "cannot learn what the cluster looks like");
                is_wanted.notify_one();
            }
        }
        due = Instant::now() + max_age;
        // Also after a success: news that are found wrong at once are asked for again at this pace and no faster.
        let wait = inner.settings.retry_backoff.wait(failures.max(1), &inner.random);
        drop(inner);
        tokio::time::sleep(wait).await;
    }
}
