//! The background half of the producer: takes batches that are ready, sends them to their leaders, hears what became of
//! them, and sends again what may be sent again.
//!
//! One task, which alone holds all that is out. It never waits for one thing: it does what can be done, then sleeps until a
//! record, an answer, a connection, news of the cluster or a moment that it knows wakes it. *Invariant*: a batch that was
//! taken is in exactly one place (a request under way, the partition's retries, or ended with an outcome), and when the task
//! ends every batch has an outcome.

mod partition;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::client::cluster::{ClusterImage, Lane};
use crate::client::connection::{Answer, Connection};
use crate::client::error::{Abortable, ClientError, Retriable, Waited};
use crate::client::random::Random;
use crate::client::settings::ProducerSettings;
use crate::client::time::Instant;
use crate::model::{NodeId, ProducerEpoch, ProducerId};
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::{ApiKey, ErrorCode};
use crate::record::Codec;

use super::accumulator::{Front, PartitionQueue};
use super::batch::{Batch, Packing};
use super::delivery::Outcome;
use super::idempotence::Identity;
use super::{Core, Place};

use partition::{PartitionState, Placed};
use request::{InRequest, PRODUCE_VERSION_MAX, Response, Said, Sent, ZSTD_VERSION_MIN};

/// How often topics in use are said to be in use, so that the cluster does not forget them.
const TOUCH: Duration = Duration::from_secs(60);

pub(super) struct Sender {
    core: Arc<Core>,
    random: Random,
    packing: Packing,
    partitions: Vec<PartitionState>,
    /// By topic and partition.
    slots: BTreeMap<(Arc<str>, i32), usize>,
    /// Partitions with something to send.
    active: Vec<usize>,
    nodes: BTreeMap<NodeId, NodeState>,
    requests: BTreeMap<u64, Sent>,
    next_request: u64,
    identity: IdentityState,
    image: watch::Receiver<Arc<ClusterImage>>,
    events: mpsc::UnboundedReceiver<Event>,
    event_sender: mpsc::UnboundedSender<Event>,
    touched: Instant,
    /// The image that topics were last compared with.
    followed: Arc<ClusterImage>,
    announced: Vec<Arc<PartitionQueue>>,
}

/// What the sender knows of a broker.
#[derive(Default)]
struct NodeState {
    in_flight: usize,
    is_connecting: bool,
    connection: Option<Connection>,
    /// The broker asked for a pause (KIP-219).
    not_before: Option<Instant>,
}

enum IdentityState {
    /// Not needed, or not asked for yet.
    Unknown,
    Asking,
    Known(Identity),
}

enum Event {
    Answered(u64, Result<Option<Answer>, ClientError>),
    Connected(NodeId, Result<Connection, ClientError>),
    Identified(Result<Identity, ClientError>),
}

/// A request that is being filled.
#[derive(Default)]
struct Draft {
    batches: Vec<InRequest>,
    bytes: usize,
}

/// What is to be done about a partition.
enum Examined {
    /// Nothing now.
    Idle,
    /// Nothing before this moment; an event may come first.
    Until(Instant),
    /// Something is to be sent and an event will say when it can.
    Blocked,
    Ready(NodeId),
}

impl Sender {
    pub fn new(core: Arc<Core>) -> Sender {
        let (event_sender, events) = mpsc::unbounded_channel();
        let settings = &core.settings;
        Sender {
            random: Random::new(),
            packing: Packing { codec: settings.compression, level: settings.compression_level },
            partitions: Vec::new(),
            slots: BTreeMap::new(),
            active: Vec::new(),
            nodes: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            identity: IdentityState::Unknown,
            image: core.cluster.watch(),
            events,
            event_sender,
            touched: Instant::now(),
            followed: Arc::default(),
            announced: Vec::new(),
            core,
        }
    }

    /// Runs until the producer is closed and everything has an outcome, or the closing is forced.
    pub async fn run(mut self) {
        let core = self.core.clone();
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.heard(event);
            }
            // Whatever is left ends with the task.
            if core.is_forced() || core.fatal().is_some() {
                return;
            }
            let wake_at = self.pump();
            if core.accumulator.is_closing() && core.accumulator.incomplete_count() == 0 {
                return;
            }
            tokio::select! {
                biased;
                event = self.events.recv() => self.heard(event.expect("the sender holds one end itself")),
                _ = core.accumulator.wake.notified() => {}
                _ = self.image.changed() => {}
                _ = sleep_until(wake_at) => {}
            }
        }
    }

    fn settings(&self) -> &ProducerSettings {
        &self.core.settings
    }

    /// Does what can be done now; gives the moment at which there is more, whatever happens.
    fn pump(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.list_announced();
        let image = self.image.borrow_and_update().clone();
        self.follow_topics(&image, now);
        let mut wake_at = self.expire_in_flight(now);
        loop {
            let mut drafts: BTreeMap<NodeId, Draft> = BTreeMap::new();
            let mut at = 0;
            while at < self.active.len() {
                let slot = self.active[at];
                match self.examine(slot, now, &image, &drafts) {
                    Examined::Idle if !self.partitions[slot].is_listed => {
                        self.active.swap_remove(at);
                        continue;
                    }
                    Examined::Idle | Examined::Blocked => {}
                    Examined::Until(moment) => earlier(&mut wake_at, moment),
                    Examined::Ready(node) => self.fill(slot, node, now, &mut drafts),
                }
                at += 1;
            }
            if drafts.is_empty() {
                break;
            }
            for (node, draft) in drafts {
                self.send(node, draft);
            }
            // No partition is always the first, which alone is sure to fit.
            if !self.active.is_empty() {
                self.active.rotate_left(1);
            }
        }
        wake_at
    }

    fn list_announced(&mut self) {
        let mut announced = std::mem::take(&mut self.announced);
        self.core.accumulator.take_announced(&mut announced);
        for queue in announced.drain(..) {
            let slot = self.slot(&queue);
            self.list(slot);
        }
        self.announced = announced;
    }

    fn slot(&mut self, queue: &Arc<PartitionQueue>) -> usize {
        let next = self.partitions.len();
        let slot = *self.slots.entry((queue.topic.clone(), queue.partition)).or_insert(next);
        if slot == next {
            self.partitions.push(PartitionState::new(queue.clone()));
        }
        slot
    }

    fn list(&mut self, slot: usize) {
        if !self.partitions[slot].is_listed {
            self.partitions[slot].is_listed = true;
            self.active.push(slot);
        }
    }

    /// Topics in use stay known, and grow when they get more partitions.
    fn follow_topics(&mut self, image: &Arc<ClusterImage>, now: Instant) {
        let is_due = now.duration_since(self.touched) >= TOUCH;
        if is_due {
            self.touched = now;
        }
        if !is_due && Arc::ptr_eq(image, &self.followed) {
            return;
        }
        self.followed = image.clone();
        for queues in self.core.accumulator.topics() {
            if let Some(topic) = image.topic(&queues.name) {
                self.core.accumulator.set_topic(topic);
            }
            let is_used = |queue: &Arc<PartitionQueue>| queue.queued.load(Ordering::Relaxed) > 0;
            if is_due && queues.partitions.iter().any(is_used) {
                self.core.cluster.want_topics([&queues.name]);
            }
        }
    }

    /// Tells those whose time is over. Their requests stay out: what comes of them still counts for the numbers.
    fn expire_in_flight(&mut self, now: Instant) -> Option<Instant> {
        let timeout = self.settings().delivery_timeout;
        let mut wake_at = None;
        let core = self.core.clone();
        for sent in self.requests.values_mut() {
            for batch in sent.batches.iter_mut().map(|batch| &mut batch.placed.batch) {
                let end = batch.opened + timeout;
                if batch.is_given_up() {
                } else if end <= now {
                    let error = undelivered(timeout, batch.last_error.clone());
                    core.count_failed(batch.record_count);
                    batch.tell(Outcome::Failed(error));
                    batch.shared.publish();
                } else {
                    earlier(&mut wake_at, end);
                }
            }
        }
        wake_at
    }

    fn examine(
        &mut self,
        slot: usize,
        now: Instant,
        image: &ClusterImage,
        drafts: &BTreeMap<NodeId, Draft>,
    ) -> Examined {
        self.expire(slot, now);
        let core = self.core.clone();
        let idempotent = core.settings.idempotence;
        if self.partitions[slot].restarts() && !self.restart(slot) {
            return Examined::Blocked;
        }
        let state = &mut self.partitions[slot];
        let is_quiet = state.in_flight() == 0 && !state.has_retries();
        let expires;
        let mut lingers_until = None;
        if let Some(first) = state.first_retry() {
            expires = first.opened + core.settings.delivery_timeout;
        } else {
            match core.accumulator.front(&state.queue, now, is_quiet) {
                Front::Empty => {
                    state.is_listed = !is_quiet;
                    state.blocked_since = None;
                    return Examined::Idle;
                }
                Front::Ready { opened } => expires = opened + core.settings.delivery_timeout,
                Front::Lingers { until, opened } => {
                    expires = opened + core.settings.delivery_timeout;
                    lingers_until = Some(until);
                }
            }
        }
        if let Some(until) = lingers_until {
            return Examined::Until(until.min(expires));
        }
        if let Some(moment) = state.not_before.filter(|moment| *moment > now) {
            return Examined::Until(moment.min(expires));
        }
        let keeps_order_alone = !idempotent && core.settings.in_flight_max == 1;
        if !state.may_send(core.settings.in_flight_max, keeps_order_alone) {
            return Examined::Until(expires);
        }
        let Some(leader) = image.leader(&state.queue.topic, state.queue.partition) else {
            core.cluster.want_topics([&state.queue.topic]);
            core.cluster.request_refresh();
            let again = now + core.settings.client.retry_backoff.longest.max(Duration::from_millis(10));
            return Examined::Until(again.min(expires));
        };
        if idempotent && state.sequencer.identity().is_none() {
            match self.identity {
                IdentityState::Known(identity) => state.sequencer.start(identity),
                IdentityState::Asking => return Examined::Until(expires),
                IdentityState::Unknown => {
                    self.ask_identity();
                    return Examined::Until(expires);
                }
            }
        }
        let node = leader.id;
        // Asked once for each request: a connection that ends while one is being filled is found out when it is sent.
        if !drafts.contains_key(&node) && !self.takes_requests(node, now) {
            self.blocked(slot, now);
            let moment = self.nodes.get(&node).and_then(|node| node.not_before).unwrap_or(expires);
            return Examined::Until(moment.min(expires));
        }
        let state = &mut self.partitions[slot];
        if state.blocked_since.take().is_some() {
            state.queue.is_unavailable.store(false, Ordering::Relaxed);
        }
        if let Some(draft) = drafts.get(&node) {
            let holds_partition = draft.batches.iter().any(|batch| batch.slot == slot);
            let next_bytes = match state.first_retry() {
                Some(batch) => batch.bytes.len(),
                None => core.accumulator.front_bytes(&state.queue),
            };
            if holds_partition || draft.bytes + next_bytes > core.settings.request_bytes_max {
                return Examined::Blocked;
            }
        }
        Examined::Ready(node)
    }

    /// A partition whose leader takes nothing for too long gets no records without a key.
    fn blocked(&mut self, slot: usize, now: Instant) {
        let timeout = self.settings().partitioner_availability_timeout;
        let state = &mut self.partitions[slot];
        let since = *state.blocked_since.get_or_insert(now);
        if timeout.is_some_and(|timeout| now.duration_since(since) >= timeout) {
            state.queue.is_unavailable.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request can go to the broker now; has a connection made if there is none.
    fn takes_requests(&mut self, node: NodeId, now: Instant) -> bool {
        let state = self.nodes.entry(node).or_default();
        let has_room = state.in_flight < self.core.settings.in_flight_max;
        if !has_room || state.is_connecting || state.not_before.is_some_and(|moment| moment > now) {
            return false;
        }
        state.not_before = None;
        if state.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            return true;
        }
        state.connection = self.core.cluster.open_connection(node, Lane::Main);
        if state.connection.is_some() {
            return true;
        }
        state.is_connecting = true;
        let (cluster, events) = (self.core.cluster.clone(), self.event_sender.clone());
        tokio::spawn(async move {
            let connected = cluster.connection(node, Lane::Main).await;
            // A sender that is gone needs none.
            drop(events.send(Event::Connected(node, connected)));
        });
        false
    }

    /// Takes the partition's next batch into the request for its leader.
    fn fill(&mut self, slot: usize, node: NodeId, now: Instant, drafts: &mut BTreeMap<NodeId, Draft>) {
        let Some(placed) = self.next_batch(slot, now) else { return };
        let draft = drafts.entry(node).or_default();
        draft.bytes += placed.batch.bytes.len();
        draft.batches.push(InRequest { slot, placed });
    }

    fn next_batch(&mut self, slot: usize, now: Instant) -> Option<Placed> {
        let idempotent = self.settings().idempotence;
        let state = &mut self.partitions[slot];
        if let Some(retry) = state.take_retry() {
            return Some(retry);
        }
        let taken = self.core.accumulator.take_front(&state.queue)?;
        let waited = now.saturating_duration_since(taken.batch.opened);
        let (records, plain_bytes) = (taken.batch.record_count(), taken.batch.size_bytes());
        self.core.recorder.drained(waited, records, plain_bytes);
        let stamp = idempotent.then(|| state.sequencer.stamp(records));
        let closed = taken.batch.close(taken.number, self.packing, stamp);
        self.core.accumulator.keep_buffer(closed.left_over);
        let placed = state.place(closed.batch);
        match closed.fault {
            None => Some(placed),
            Some(fault) => {
                self.fail(slot, placed, fault);
                None
            }
        }
    }

    fn send(&mut self, node: NodeId, draft: Draft) {
        let connection = self.nodes.get(&node).and_then(|state| state.connection.clone());
        let connection = connection.expect("a broker without a connection takes no requests");
        let mut batches = draft.batches;
        let version = match connection.version_at_most(ApiKey::Produce, PRODUCE_VERSION_MAX) {
            Ok(version) if self.packing.codec == Codec::Zstd && version < ZSTD_VERSION_MIN => {
                let address = connection.address().clone();
                Err(Abortable::Unsupported { api: ApiKey::Produce, address }.into())
            }
            other => other,
        };
        let version = match version {
            Ok(version) => version,
            Err(error) => {
                for InRequest { slot, placed } in batches {
                    self.fail(slot, placed, error.clone());
                }
                return;
            }
        };
        for batch in &mut batches {
            batch.placed.batch.attempts += 1;
            self.core.recorder.bytes_sent.fetch_add(batch.placed.batch.bytes.len() as u64, Ordering::Relaxed);
            self.partitions[batch.slot].sent(batch.placed.place);
        }
        self.core.recorder.batches_sent.fetch_add(batches.len() as u64, Ordering::Relaxed);
        self.core.recorder.requests_in_flight.fetch_add(1, Ordering::Relaxed);
        tracing::trace!(node = node.0, batches = batches.len(), bytes = draft.bytes, "send");
        let token = self.next_request;
        self.next_request += 1;
        let events = self.event_sender.clone();
        request::submit(&connection, version, &self.core.settings, &mut batches, move |answer| {
            // A sender that is gone has told everybody.
            drop(events.send(Event::Answered(token, answer)));
        });
        self.nodes.entry(node).or_default().in_flight += 1;
        self.requests.insert(token, Sent { node, at: Instant::now(), batches });
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Answered(token, answer) => self.answered(token, answer),
            Event::Connected(node, connected) => {
                let state = self.nodes.entry(node).or_default();
                state.is_connecting = false;
                match connected {
                    Ok(connection) => state.connection = Some(connection),
                    Err(error) => {
                        tracing::warn!(node = node.0, %error, "cannot reach a leader");
                        self.core.set_last_failure(error);
                        self.core.cluster.request_refresh();
                    }
                }
            }
            Event::Identified(Ok(identity)) => self.identity = IdentityState::Known(identity),
            Event::Identified(Err(error)) => {
                tracing::error!(%error, "no producer id is to be had");
                self.core.set_fatal(error);
                self.identity = IdentityState::Unknown;
            }
        }
    }

    fn ask_identity(&mut self) {
        self.identity = IdentityState::Asking;
        let (core, events) = (self.core.clone(), self.event_sender.clone());
        tokio::spawn(async move {
            let identified = identity(&core).await;
            // A sender that is gone needs none.
            drop(events.send(Event::Identified(identified)));
        });
    }

    /// Begins the partition's numbers anew. Says whether it could: another id may have to come first.
    fn restart(&mut self, slot: usize) -> bool {
        let state = &mut self.partitions[slot];
        let identity = match (state.sequencer.next_identity(), &self.identity) {
            (Some(next), _) => next,
            (None, IdentityState::Known(other))
                if Some(other.id) != state.sequencer.identity().map(|i| i.id) =>
            {
                *other
            }
            (None, IdentityState::Asking) => return false,
            (None, _) => {
                self.ask_identity();
                return false;
            }
        };
        state.sequencer.start(identity);
        let (sequencer, retries) = state.retries_mut();
        for batch in retries {
            let stamp = sequencer.stamp(batch.record_count);
            batch.set_stamp(stamp);
            batch.may_be_appended = false;
        }
        self.core.recorder.epoch_bumps.fetch_add(1, Ordering::Relaxed);
        let (topic, partition) = (&state.queue.topic, state.queue.partition);
        tracing::info!(%topic, partition, epoch = identity.epoch.0, "a batch was lost; its partition starts a new epoch");
        true
    }

    fn answered(&mut self, token: u64, answer: Result<Option<Answer>, ClientError>) {
        // After everything was failed, answers still come.
        let Some(sent) = self.requests.remove(&token) else { return };
        self.core.recorder.requests_in_flight.fetch_sub(1, Ordering::Relaxed);
        let node = self.nodes.entry(sent.node).or_default();
        node.in_flight -= 1;
        for batch in &sent.batches {
            self.partitions[batch.slot].answered(batch.placed.place);
            self.list(batch.slot);
        }
        let read = answer.and_then(|answer| match answer {
            Some(answer) => {
                self.core.recorder.answered(answer.latency);
                request::read(&answer, &sent.batches).map(Some)
            }
            None => Ok(None),
        });
        match read {
            Ok(Some(response)) => self.hear_response(sent, response),
            // acks=0: given to the kernel is all that there is to know.
            Ok(None) => {
                for InRequest { slot, placed } in sent.batches {
                    self.appended(slot, placed, sent.at, None, None);
                }
            }
            // Cut, timed out, or no answer of a broker: what became of the batches is not known.
            Err(error) => {
                tracing::debug!(node = sent.node.0, %error, "a request failed");
                self.core.cluster.request_refresh();
                for InRequest { slot, mut placed } in sent.batches {
                    placed.batch.may_be_appended = true;
                    let backoff = self.settings().client.retry_backoff;
                    let wait = backoff.wait(placed.batch.attempts, &self.random);
                    self.retry_or_fail(slot, placed, error.clone(), wait);
                }
            }
        }
    }

    fn hear_response(&mut self, sent: Sent, response: Response) {
        if response.throttle_ms > 0 {
            let pause = Duration::from_millis(response.throttle_ms.into());
            self.nodes.entry(sent.node).or_default().not_before = Some(Instant::now() + pause);
        }
        for (InRequest { slot, mut placed }, said) in sent.batches.into_iter().zip(response.said) {
            let Some(said) = said else {
                // An answer that leaves a batch out says nothing of it.
                placed.batch.may_be_appended = true;
                let error = ClientError::left_out(ApiKey::Produce, placed.batch.shared.topic.to_string());
                self.failed(slot, placed, error, false);
                continue;
            };
            let learnt = said.leader.is_some_and(|(leader, epoch)| {
                let endpoint = response.endpoints.iter().find(|node| node.id == leader).cloned();
                let shared = &placed.batch.shared;
                self.core.cluster.learn_leader(&shared.topic, shared.partition, leader, epoch, endpoint)
            });
            self.hear_batch(slot, placed, sent.at, said, learnt);
        }
    }

    fn hear_batch(&mut self, slot: usize, placed: Placed, sent_at: Instant, said: Said, learnt_leader: bool) {
        let code = ErrorCode::from_code(said.error_code);
        let subject = format!("{}-{}", placed.batch.shared.topic, placed.batch.shared.partition);
        let refused =
            ClientError::refused(ApiKey::Produce, subject, said.error_code, said.message.as_deref());
        let (Some(error), idempotent) = (refused, self.settings().idempotence) else {
            let offset = Some(said.base_offset).filter(|offset| *offset >= 0);
            let time = Some(said.log_append_time).filter(|time| *time >= 0);
            return self.appended(slot, placed, sent_at, offset, time);
        };
        match code {
            // The broker has it, from a try whose answer was lost; it no longer knows where.
            Some(ErrorCode::DuplicateSequenceNumber) if idempotent => {
                self.appended(slot, placed, sent_at, None, None)
            }
            Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId) if idempotent => {
                let state = &mut self.partitions[slot];
                if state.first_open().is_none_or(|first| placed.place < first) {
                    state.sequencer.missing_before(placed.place);
                }
                let wait = self.wait_after_first(&placed.batch);
                self.retry_or_fail(slot, placed, error, wait);
            }
            Some(ErrorCode::InvalidProducerEpoch) if idempotent => {
                self.partitions[slot].sequencer.refused(placed.place);
                let wait = self.wait_after_first(&placed.batch);
                self.retry_or_fail(slot, placed, error, wait);
            }
            Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge)
                if placed.batch.record_count > 1 && !placed.batch.is_given_up() =>
            {
                self.split(slot, placed, error)
            }
            Some(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) => {
                let mut placed = placed;
                placed.batch.may_be_appended = true;
                self.failed(slot, placed, error, learnt_leader)
            }
            _ => {
                if error.is_retriable() && !learnt_leader {
                    self.core.cluster.want_topics([&placed.batch.shared.topic]);
                    self.core.cluster.request_refresh();
                }
                self.failed(slot, placed, error, learnt_leader)
            }
        }
    }

    fn split(&mut self, slot: usize, placed: Placed, error: ClientError) {
        let Placed { place, width, batch } = placed;
        let (accumulator, number) = (&self.core.accumulator, batch.number);
        match batch.split(self.packing, |second| accumulator.register(second)) {
            Ok([first, second]) => {
                accumulator.renumber(number, &first.shared);
                self.core.recorder.batches_split.fetch_add(1, Ordering::Relaxed);
                let half = width / 2;
                let state = &mut self.partitions[slot];
                state.retry(Placed { place: Place(place.0 + half), width: half, batch: second });
                state.retry(Placed { place, width: half, batch: first });
            }
            Err(batch) => self.fail(slot, Placed { place, width, batch: *batch }, error),
        }
    }

    fn appended(
        &mut self,
        slot: usize,
        placed: Placed,
        sent_at: Instant,
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
    ) {
        self.partitions[slot].sequencer.appended(placed.place);
        let stages = placed.batch.stages(sent_at, Instant::now());
        self.end(placed.batch, Outcome::Appended { base_offset, log_append_time, stages });
    }

    /// What has to be sent again because of another batch goes at once; not for ever, should the broker never agree.
    fn wait_after_first(&self, batch: &Batch) -> Duration {
        self.settings().client.retry_backoff.wait(batch.attempts.saturating_sub(1), &self.random)
    }

    /// A try failed. It is followed by another, if the error, the settings and the time allow it.
    fn failed(&mut self, slot: usize, placed: Placed, error: ClientError, learnt_leader: bool) {
        if !error.is_retriable() {
            return self.fail(slot, placed, error);
        }
        let backoff = self.settings().client.retry_backoff;
        // Another leader need not be spared.
        let wait =
            if learnt_leader { Duration::ZERO } else { backoff.wait(placed.batch.attempts, &self.random) };
        self.retry_or_fail(slot, placed, error, wait);
    }

    fn retry_or_fail(&mut self, slot: usize, mut placed: Placed, error: ClientError, wait: Duration) {
        let settings = &self.core.settings;
        let now = Instant::now();
        let is_over = placed.batch.opened + settings.delivery_timeout <= now;
        if placed.batch.is_given_up() || is_over || placed.batch.attempts > settings.retries {
            let error = if is_over { undelivered(settings.delivery_timeout, Some(error)) } else { error };
            return self.fail(slot, placed, error);
        }
        self.core.recorder.batches_retried.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            topic = %placed.batch.shared.topic,
            partition = placed.batch.shared.partition,
            attempts = placed.batch.attempts,
            %error,
            "send again"
        );
        self.core.set_last_failure(error.clone());
        placed.batch.last_error = Some(error);
        let state = &mut self.partitions[slot];
        if !wait.is_zero() {
            state.not_before = Some(state.not_before.unwrap_or(now).max(now + wait));
        }
        state.retry(placed);
        self.list(slot);
    }

    /// The end of a batch that is lost, with what it means for those behind it.
    fn fail(&mut self, slot: usize, placed: Placed, error: ClientError) {
        let Placed { place, batch, .. } = placed;
        if batch.stamp.is_some() {
            self.partitions[slot].sequencer.given_up(place, batch.may_be_appended);
            self.list(slot);
        }
        if error.is_fatal() {
            self.core.set_fatal(error.clone());
        }
        self.end(batch, Outcome::Failed(error));
    }

    /// The end of a batch: callbacks are told, then what was counted and what is free is right, then futures are ready, then
    /// nobody flushes for it.
    fn end(&self, mut batch: Batch, outcome: Outcome) {
        let recorder = &self.core.recorder;
        let counter = match outcome {
            Outcome::Appended { .. } => &recorder.records_acknowledged,
            Outcome::Failed(_) | Outcome::Split(_) => &recorder.records_failed,
        };
        if !batch.is_given_up() {
            counter.fetch_add(batch.record_count.unsigned_abs().into(), Ordering::Relaxed);
        }
        batch.tell(outcome);
        let accumulator = &self.core.accumulator;
        accumulator.release(batch.charged_bytes);
        batch.shared.publish();
        accumulator.completed(batch.number);
        accumulator.keep_buffer(batch.into_buffer());
    }

    /// Ends what has waited too long, first those to be sent again, then those never sent.
    fn expire(&mut self, slot: usize, now: Instant) {
        let timeout = self.settings().delivery_timeout;
        let is_over = |opened: Instant| opened + timeout <= now;
        while self.partitions[slot].first_retry().is_some_and(|batch| is_over(batch.opened)) {
            let placed = self.partitions[slot].take_retry().expect("there is a first one");
            let last = placed.batch.last_error.clone();
            self.fail(slot, placed, undelivered(timeout, last));
        }
        let core = self.core.clone();
        loop {
            let queue = &self.partitions[slot].queue;
            let opened = match core.accumulator.front(queue, now, false) {
                Front::Empty => return,
                Front::Ready { opened } | Front::Lingers { opened, .. } => opened,
            };
            if !is_over(opened) {
                return;
            }
            let last = core.last_failure();
            self.drop_front(slot, undelivered(timeout, last));
        }
    }

    /// Ends the batch at the front of a queue, which was never sent.
    fn drop_front(&self, slot: usize, error: ClientError) {
        let Some(taken) = self.core.accumulator.take_front(&self.partitions[slot].queue) else { return };
        let plain = Packing { codec: Codec::None, level: None };
        let closed = taken.batch.close(taken.number, plain, None);
        self.end(closed.batch, Outcome::Failed(error));
    }

    /// Ends everything that has no outcome.
    fn fail_all(&mut self) {
        let error = self.core.fatal().unwrap_or_else(|| Abortable::Aborted.into());
        for (_, sent) in std::mem::take(&mut self.requests) {
            for InRequest { slot, placed } in sent.batches {
                self.partitions[slot].answered(placed.place);
                self.end(placed.batch, Outcome::Failed(error.clone()));
            }
            self.core.recorder.requests_in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        self.list_announced();
        for slot in 0..self.partitions.len() {
            while let Some(placed) = self.partitions[slot].take_retry() {
                self.end(placed.batch, Outcome::Failed(error.clone()));
            }
            let queue = self.partitions[slot].queue.clone();
            while self.core.accumulator.front(&queue, Instant::now(), false) != Front::Empty {
                self.drop_front(slot, error.clone());
            }
        }
    }
}

/// Whatever ends the task, be it the runtime: every record has an outcome.
impl Drop for Sender {
    fn drop(&mut self) {
        self.core.accumulator.close();
        self.fail_all();
        self.core.ended();
    }
}

/// Asks for a producer id until there is one. Errors: none is to be had, ever.
async fn identity(core: &Core) -> Result<Identity, ClientError> {
    let random = Random::new();
    let request = InitProducerIdRequest {
        transactional_id: None,
        // Without transactions nobody looks at it.
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    for failures in 1.. {
        let asked = core.cluster.ask_any(&request).await.and_then(|answer| {
            let response: InitProducerIdResponse = answer.decode()?;
            ClientError::check(ApiKey::InitProducerId, "a producer id", response.error_code, None)?;
            Ok(Identity {
                id: ProducerId(response.producer_id),
                epoch: ProducerEpoch(response.producer_epoch),
            })
        });
        match asked {
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "no producer id yet");
                core.set_last_failure(error);
                tokio::time::sleep(core.settings.client.retry_backoff.wait(failures, &random)).await;
            }
            other => return other,
        }
    }
    unreachable!("the loop ends by returning")
}

fn undelivered(after: Duration, last: Option<ClientError>) -> ClientError {
    Retriable::TimedOut { what: Waited::Delivery, after, last: last.map(Arc::new) }.into()
}

fn earlier(moment: &mut Option<Instant>, other: Instant) {
    *moment = Some(moment.map_or(other, |moment| moment.min(other)));
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
