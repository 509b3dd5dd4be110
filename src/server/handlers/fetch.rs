//! Fetch: split by owner, read, wait for `min_bytes` in total if there is too little, answer with slices of the log.
//!
//! Down: [`accept`] on the connection's shard -> [`read_order`] on each owner's -> `partition` -> `log` (memory, or a ring
//! read into a lent buffer). Up: [`answered`] -> response header and slices -> one gather send.
//! A wait leaves watches on the owners' partitions; the first of them that moves wakes the fetch, and only the parts of
//! that owner are read again. A session has watches of its own, which stay between its fetches: of its partitions only those are
//! read, at first or again, that have moved.
//!
//! [`orders`]: what is asked of the owners; [`reading`]: what an owner does; [`waiting`]: from the owners' answers to the moment
//! of the reply; [`answer`]: the reply.

mod answer;
mod orders;
mod reading;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Spares;
use crate::mesh::FetchPart;
use crate::metrics::{Source, Stage, StageClock};
use crate::model::{Monotonic, ShardId, TopicName};
use crate::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchTopic, FetchableTopicResponse, PartitionData,
};
use crate::protocol::{DecodeError, Message as _, Reader};
use crate::server::context::Context;
use crate::server::fetch_session::{Ask, FetchScope, PartRead, View, Wanted};
use crate::server::pending::{Origin, Waiting};

use orders::OrderOf;
pub use reading::{finish_reads, read_order};
pub use waiting::{answered, cancelled, session_moved, timed_out, woken};

/// A fetch that waits for its owners, or for records.
pub struct PendingFetch {
    scope: FetchScope,
    /// What is read; of a session what may have changed.
    reads: Vec<PartRead>,
    max_bytes: u32,
    min_bytes: u32,
    read_committed: bool,
    /// Until when it may wait; `None` once it must answer with what there is.
    deadline: Option<Monotonic>,
    /// The asker says that it is a replica. No partition has a second one yet, so it is not one of ours.
    as_replica: bool,
    /// Owners whose answer is awaited.
    awaited: usize,
    /// Owners that hold watches for this fetch, which has no session, and whether each has been woken since.
    watching: Vec<(ShardId, bool)>,
    clock: StageClock,
    source: Source,
    /// It has too little, and waits for more.
    is_waiting: bool,
}

impl PendingFetch {
    /// Something may come that it waits for.
    fn waits(&self) -> bool {
        self.deadline.is_some() && (self.scope.session().is_some() || !self.watching.is_empty())
    }
}

/// Memory of fetches that were answered, for those to come.
#[derive(Default)]
pub struct Scratch {
    wanted: Spares<Wanted>,
    reads: Spares<PartRead>,
    parts: Spares<FetchPart>,
    orders: Vec<(ShardId, Vec<FetchPart>)>,
    rows: Vec<PartitionData<'static>>,
    topics: Vec<(usize, &'static Wanted)>,
    responses: Vec<FetchableTopicResponse<'static>>,
}

/// Takes a request. `Err`: it does not decode, the connection closes.
pub fn accept(ctx: &mut Context<'_>, origin: Origin, body: &[u8]) -> Result<(), DecodeError> {
    let request = FetchRequest::decode(&mut Reader::new(body), origin.version)?;
    let by_id = origin.version >= 13;
    let mut wanted = ctx.scratch.fetch.wanted.take();
    for topic in &request.topics {
        add_wanted(ctx, &topic, by_id, &mut wanted);
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name = TopicName::from(topic.topic);
        forgotten.extend(topic.partitions.iter().map(|partition| (name.clone(), topic.topic_id, partition)));
    }
    let (session_id, epoch) =
        if origin.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
    let as_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    if let Some(before) = ctx.sessions.waiting(session_id) {
        // The session's client waits for this one now.
        timed_out(ctx, before);
    }
    let view = View { metadata_version: ctx.image.version, endpoint: origin.endpoint, as_replica };
    let ask = Ask { session_id, epoch, by_id, forgotten: &forgotten, view, now: ctx.now };
    let mut reads = ctx.scratch.fetch.reads.take();
    let scope = ctx.sessions.resolve(&ask, &mut wanted, &mut reads, ctx.random);
    ctx.scratch.fetch.wanted.keep(wanted);
    waiting::take_back_watches(ctx);
    let scope = match scope {
        Ok(scope) => scope,
        Err(error) => {
            ctx.scratch.fetch.reads.keep(reads);
            answer::top_level_error(ctx, origin, error);
            return Ok(());
        }
    };
    let max_bytes = u32::try_from(request.max_bytes).unwrap_or(0).min(ctx.config.fetch_bytes_max);
    let max_bytes = max_bytes.min(reply_share(ctx));
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    // Only the time to read is granted to a client that has closed its side: it has probably gone.
    let has_ended =
        ctx.connections.get_mut(origin.connection).is_none_or(|connection| connection.has_ended());
    let wait = if has_ended { Duration::ZERO } else { wait };
    let pending = PendingFetch {
        reads,
        max_bytes,
        // More than the answer may hold would be waited for in vain.
        min_bytes: u32::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        read_committed: request.isolation_level == 1,
        deadline: (!wait.is_zero()).then(|| ctx.now + wait),
        awaited: 0,
        watching: Vec::new(),
        as_replica,
        scope,
        clock: StageClock::start(origin.received),
        source: Source::Nowhere,
        is_waiting: false,
    };
    start(ctx, origin, pending);
    Ok(())
}

fn add_wanted(ctx: &Context<'_>, topic: &FetchTopic<'_>, by_id: bool, wanted: &mut Vec<Wanted>) {
    let known = if by_id { ctx.image.topic_by_id(topic.topic_id) } else { ctx.image.topic(topic.topic) };
    let name = known.map_or_else(|| TopicName::from(topic.topic), |known| Arc::clone(&known.name));
    let topic_id = known.map_or(topic.topic_id, |known| known.id);
    let of = |part: FetchPartition| Wanted {
        topic: name.clone(),
        topic_id,
        partition: part.partition,
        current_leader_epoch: part.current_leader_epoch,
        fetch_offset: part.fetch_offset,
        last_fetched_epoch: part.last_fetched_epoch,
        max_bytes: part.partition_max_bytes,
    };
    wanted.extend(topic.partitions.iter().map(of));
}

/// What a fetch may bring while others have not taken their replies.
fn reply_share(ctx: &Context<'_>) -> u32 {
    u32::try_from(ctx.connections.reply_share()).unwrap_or(u32::MAX)
}

/// Most bytes of records that the answer can hold, beside a first batch that is larger.
fn promised_bytes(ctx: &Context<'_>, pending: &PendingFetch) -> usize {
    let each = |read: &PartRead| u64::try_from(read.wanted.max_bytes).unwrap_or(0);
    let all: u64 = match pending.scope.session() {
        Some(fetch) => ctx.sessions.max_bytes(fetch),
        None => pending.reads.iter().map(each).sum(),
    };
    all.min(u64::from(pending.max_bytes)) as usize
}

/// Orders the reads, and parks the request.
fn start(ctx: &mut Context<'_>, origin: Origin, mut pending: PendingFetch) {
    let mut orders = std::mem::take(&mut ctx.scratch.fetch.orders);
    let is_refused = orders::split(
        ctx,
        &origin,
        pending.scope.session(),
        &mut pending.reads,
        &mut orders,
        pending.as_replica,
    );
    if is_refused {
        // An error on any partition is answered at once.
        pending.deadline = None;
    }
    let sent = ctx.stage_end();
    pending.clock.lap(Stage::Decoded, sent);
    pending.awaited = orders.len();
    if orders.is_empty() && !(pending.waits() && pending.min_bytes > 0) {
        ctx.scratch.fetch.orders = orders;
        answer::reply(ctx, origin, pending);
        return;
    }
    pending.is_waiting = orders.is_empty();
    let (session, watch_until) = (pending.scope.session(), pending.deadline);
    let template = OrderOf::of(&pending, reply_share(ctx));
    // The reads take memory before the answer is there: what they may bring counts towards the connection's bound.
    let promised = promised_bytes(ctx, &pending);
    if let Some(connection) = ctx.connections.get_mut(origin.connection) {
        connection.responses.promise(origin.sequence, promised);
    }
    let ticket = ctx.park(origin, Waiting::Fetch(pending), watch_until);
    if let Some(fetch) = session.filter(|_| watch_until.is_some()) {
        ctx.sessions.wait(fetch, ticket);
    }
    for (owner, parts) in orders.drain(..) {
        orders::order(ctx, owner, template.order(ticket, parts, sent));
    }
    ctx.scratch.fetch.orders = orders;
}
