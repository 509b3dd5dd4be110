//! Produce: split by owner, append, wait for the durability level, answer in the order of the request.
//!
//! Down: [`accept`] on the connection's shard -> [`append_parts`] on the owner's -> `partition` -> `log`.
//! Up: `partition` says that an append is durable enough -> [`append_done`] -> [`answered`] on the connection's shard.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::{Spares, recycle};
use crate::log::Now;
use crate::mesh::{Message, ProduceAnswer, ProduceOrder, ProducePart, ProducePartAnswer, Ticket};
use crate::metadata::{Advertised, Partition, Topic};
use crate::metrics::{AppendTimes, Class, Stage, StageClock, Timed};
use crate::model::{Endpoint, LeaderEpoch, Monotonic, PartitionIndex, ShardId, TopicId, TopicName};
use crate::net::{Frame, Response};
use crate::partition::{
    AppendEnd, AppendOutcome, Appended, BatchError, HeldAppend, Waiter, is_transactional, the_batch,
};
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use crate::protocol::{ErrorCode, Message as _, Reader};
use crate::server::by_topic;
use crate::server::context::Context;
use crate::server::error_map;
use crate::server::leaders_told::LeadersTold;
use crate::server::pending::{Origin, Waiting};

/// A client that may write internal topics. Source: Apache Kafka, `AdminUtils.ADMIN_CLIENT_ID`.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// Topics have ids instead of names from this version on.
const BY_ID: i16 = 13;
/// An answer says where the leaders are that it names from this version on (KIP-951).
const TELLS_LEADERS: i16 = 10;

/// A produce request that waits for its parts.
pub struct PendingProduce {
    acks: i16,
    topics: Vec<PendingTopic>,
    /// Of all topics, by their number in the request: (partition, its answer once there).
    parts: Vec<(PartitionIndex, Option<ProducePartAnswer>)>,
    remaining: usize,
    clock: StageClock,
    /// What the shard that answered last says of its last part.
    last: Option<(Class, u32)>,
}

struct PendingTopic {
    name: TopicName,
    id: TopicId,
    /// Where its parts end among those of the request.
    parts_end: usize,
}

/// Memory of produce requests that were answered, for those to come.
#[derive(Default)]
pub struct Scratch {
    topics: Spares<PendingTopic>,
    parts: Spares<(PartitionIndex, Option<ProducePartAnswer>)>,
    orders: Vec<(ShardId, LentPart<'static>)>,
    topic_rows: Vec<TopicProduceResponse<'static>>,
    rows: Vec<PartitionProduceResponse<'static>>,
}

/// Takes a request. `Err`: it does not decode, the connection closes.
pub fn accept(
    ctx: &mut Context<'_>,
    origin: Origin,
    client_id: Option<&str>,
    body: &[u8],
    frame: &Frame<'_>,
) -> Result<(), crate::protocol::DecodeError> {
    let request = ProduceRequest::decode(&mut Reader::new(body), origin.version)?;
    let acks_valid = matches!(request.acks, -1..=1);
    let mut pending = PendingProduce {
        acks: request.acks,
        topics: ctx.scratch.produce.topics.take(),
        parts: ctx.scratch.produce.parts.take(),
        remaining: 0,
        clock: StageClock::start(origin.received),
        last: None,
    };
    let mut orders: Vec<(ShardId, LentPart<'_>)> = recycle(std::mem::take(&mut ctx.scratch.produce.orders));
    let mut slot = 0u32;
    for topic_data in &request.topic_data {
        let topic = if origin.version >= BY_ID {
            ctx.image.topic_by_id(topic_data.topic_id)
        } else {
            ctx.image.topic(topic_data.name)
        };
        for data in &topic_data.partition_data {
            let admitted = if !acks_valid {
                Err(refusal(ErrorCode::InvalidRequiredAcks, None))
            } else {
                admit(ctx, &origin, topic, data.index, data.records, &request, client_id)
            };
            match admitted {
                Ok((owner, topic_id, records)) => {
                    let part = LentPart { slot, topic_id, partition: data.index, records };
                    orders.push((owner, part));
                    pending.remaining += 1;
                    pending.parts.push((data.index, None));
                }
                Err(answer) => pending.parts.push((data.index, Some(ProducePartAnswer { slot, ..answer }))),
            }
            slot += 1;
        }
        let name = topic.map_or_else(|| TopicName::from(topic_data.name), |topic| Arc::clone(&topic.name));
        let id = topic.map_or(topic_data.topic_id, |topic| topic.id);
        pending.topics.push(PendingTopic { name, id, parts_end: pending.parts.len() });
    }
    let decoded = ctx.stage_end();
    pending.clock.lap(Stage::Decoded, decoded);
    if pending.remaining == 0 {
        reply(ctx, origin, pending);
        return Ok(());
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    // A disk that hangs must not hang the client for longer than it asked for.
    let deadline = (request.acks != 0).then(|| ctx.now + timeout.max(Duration::from_millis(1)));
    let ticket = ctx.park(origin, Waiting::Produce(pending), deadline);
    orders.sort_unstable_by_key(|(owner, part)| (*owner, part.slot));
    for parts in orders.chunk_by(|(one, _), (other, _)| one == other) {
        let owner = parts[0].0;
        let parts = parts.iter().map(|(_, part)| *part);
        if owner == ctx.shard {
            append_parts(ctx, ticket, request.acks, parts, frame, decoded);
        } else {
            let parts = parts.map(|part| part.keep(frame)).collect();
            let order = ProduceOrder { ticket, acks: request.acks, parts, sent: decoded };
            ctx.mesh.send(owner, Message::Produce(Box::new(order)));
        }
    }
    ctx.scratch.produce.orders = recycle(orders);
    Ok(())
}

/// A part of the request that still borrows from its frame.
#[derive(Clone, Copy)]
pub struct LentPart<'a> {
    slot: u32,
    topic_id: TopicId,
    partition: PartitionIndex,
    records: &'a [u8],
}

impl LentPart<'_> {
    fn keep(self, frame: &Frame<'_>) -> ProducePart {
        ProducePart {
            slot: self.slot,
            topic_id: self.topic_id,
            partition: self.partition,
            records: frame.keep(self.records),
        }
    }
}

/// The checks that need no log: is it there, is it here, may it be written, is it one batch?
fn admit<'a>(
    ctx: &Context<'_>,
    origin: &Origin,
    topic: Option<&Arc<Topic>>,
    index: PartitionIndex,
    records: Option<&'a [u8]>,
    request: &ProduceRequest<'_>,
    client_id: Option<&str>,
) -> Result<(ShardId, TopicId, &'a [u8]), ProducePartAnswer> {
    let unknown = match topic {
        None if origin.version >= BY_ID => ErrorCode::UnknownTopicId,
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    let batch = records
        .ok_or_else(|| refusal(ErrorCode::InvalidRecord, None))
        .and_then(|records| the_batch(records, origin.version).map_err(|error| batch_refusal(&error)));
    let Some((topic, partition)) = topic.and_then(|topic| Some((topic, topic.partition(index)?))) else {
        return Err(refusal(unknown, None));
    };
    if topic.internal && client_id != Some(ADMIN_CLIENT_ID) {
        return Err(refusal(ErrorCode::InvalidTopicException, None));
    }
    let batch = batch?;
    if is_transactional(batch) {
        let error = match request.transactional_id {
            None => ErrorCode::TransactionalIdAuthorizationFailed,
            Some(_) => ErrorCode::InvalidTxnState,
        };
        return Err(refusal(error, Some("transactions are not served yet".to_owned())));
    }
    let owner = leader_here(ctx, partition, origin.endpoint)?;
    Ok((owner, topic.id, batch))
}

/// The owning shard, if this node leads the partition at the endpoint where the client came in.
fn leader_here(
    ctx: &Context<'_>,
    partition: &Partition,
    endpoint: Option<Endpoint>,
) -> Result<ShardId, ProducePartAnswer> {
    match ctx.image.owner_of(partition) {
        Some(owner) if partition.is_led_by(ctx.image.local.node) && ctx.image.is_at(partition, endpoint) => {
            Ok(owner)
        }
        _ => Err(refusal(ErrorCode::NotLeaderOrFollower, None)),
    }
}

fn refusal(error: ErrorCode, message: Option<String>) -> ProducePartAnswer {
    ProducePartAnswer {
        slot: 0,
        error,
        message,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        leader_epoch: LeaderEpoch(-1),
        record_errors: Vec::new(),
    }
}

fn batch_refusal(error: &BatchError) -> ProducePartAnswer {
    let (code, record_errors) = error_map::batch_error(error);
    ProducePartAnswer { record_errors, ..refusal(code, Some(error.to_string())) }
}

/// Appends the parts that this shard owns; called with the frame they are lent from, or with owned parts of another shard.
/// `taken`: when they came to this shard.
pub fn append_parts<'a>(
    ctx: &mut Context<'_>,
    ticket: Ticket,
    acks: i16,
    parts: impl ExactSizeIterator<Item = LentPart<'a>>,
    frame: &Frame<'_>,
    taken: Monotonic,
) {
    let order = ctx.partitions.orders.open(ticket, parts.len(), taken);
    for (part_index, part) in (0u32..).zip(parts) {
        if is_coming(ctx, ticket, &part) {
            ctx.partitions.orders.set_slot(order, part_index, part.slot);
            ctx.partitions.arrivals.hold_append(HeldAppend {
                order,
                part: part_index,
                acks,
                topic_id: part.topic_id,
                partition: part.partition,
                records: frame.keep(part.records),
            });
            continue;
        }
        match append_part(ctx, order, part_index, acks, &part, frame) {
            None => ctx.partitions.orders.set_slot(order, part_index, part.slot),
            Some(answer) => {
                let answer = ProducePartAnswer { slot: part.slot, ..answer };
                ctx.partitions.orders.fill(order, answer);
            }
        }
    }
    ctx.partitions.orders.note_appended(order, ctx.stage_end());
    finish_order(ctx, order);
}

/// Appends one part. `None`: it waits.
fn append_part(
    ctx: &mut Context<'_>,
    order: u32,
    part_index: u32,
    acks: i16,
    part: &LentPart<'_>,
    frame: &Frame<'_>,
) -> Option<ProducePartAnswer> {
    let waiter = Waiter::Produce { order, part: part_index };
    let Some(replica) = ctx.partitions.find(part.topic_id, part.partition) else {
        return Some(refusal(by_topic::absent(ctx, part.topic_id, part.partition), None));
    };
    if acks == -1 && ctx.partitions.get(replica).min_insync_replicas() > 1 {
        return Some(refusal(ErrorCode::NotEnoughReplicas, None));
    }
    let now = Now { monotonic: ctx.now, wall: ctx.wall };
    match ctx.partitions.append(replica, part.records, frame, waiter, now) {
        AppendOutcome::Waits => None,
        AppendOutcome::Done(appended) => Some(success(&appended)),
        AppendOutcome::Refused { error, log_start_offset } => {
            let (code, message, record_errors) = error_map::append_error(&error);
            let log_start_offset = if error_map::tells_log_start(&error) { log_start_offset } else { -1 };
            Some(ProducePartAnswer { log_start_offset, record_errors, ..refusal(code, message) })
        }
    }
}

/// Whether the partition is on its way here from another shard, or the asking shard serves by a newer image, which has it here.
fn is_coming(ctx: &Context<'_>, ticket: Ticket, part: &LentPart<'_>) -> bool {
    if ctx.partitions.arrivals.is_awaited(part.topic_id, part.partition) {
        return true;
    }
    let owner = || {
        let topic = ctx.image.topic_by_id(part.topic_id)?;
        ctx.image.owner_of(topic.partition(part.partition)?)
    };
    ticket.shard != ctx.shard
        && ctx.partitions.find(part.topic_id, part.partition).is_none()
        && owner().is_some_and(|owner| owner != ctx.shard)
}

/// Appends what was held for partitions that are here now, or will not come.
pub fn append_held(ctx: &mut Context<'_>, held: Vec<HeldAppend>) {
    for HeldAppend { order, part: part_index, acks, topic_id, partition, records } in held {
        let part = LentPart { slot: 0, topic_id, partition, records: &records };
        let frame = Frame::Owned(records.clone());
        if let Some(answer) = append_part(ctx, order, part_index, acks, &part, &frame) {
            ctx.partitions.orders.fill_waiting(order, part_index, answer, None);
            finish_order(ctx, order);
        }
    }
}

/// Appends of another shard's connection.
pub fn append_order(ctx: &mut Context<'_>, order: ProduceOrder) {
    let taken = ctx.now;
    ctx.stats.hops.push(taken.since(order.sent));
    // Each part owns its bytes, so each is its own frame: what must be kept is shared, not copied.
    if let [part] = order.parts.as_slice() {
        let frame = Frame::Owned(part.records.clone());
        append_parts(ctx, order.ticket, order.acks, std::iter::once(lent(part)), &frame, taken);
        return;
    }
    let frame = Frame::Lent(&[]);
    append_parts(ctx, order.ticket, order.acks, order.parts.iter().map(lent), &frame, taken);
}

fn lent(part: &ProducePart) -> LentPart<'_> {
    LentPart { slot: part.slot, topic_id: part.topic_id, partition: part.partition, records: &part.records }
}

/// An append has reached its durability level.
pub fn append_done(ctx: &mut Context<'_>, order: u32, part: u32, appended: &Appended, ended: &AppendEnd) {
    let answer = success(appended);
    ctx.partitions.orders.fill_waiting(order, part, answer, Some(ended));
    finish_order(ctx, order);
}

/// An append will never reach it: the partition went away or its disk failed.
pub fn append_failed(ctx: &mut Context<'_>, order: u32, part: u32, error: ErrorCode) {
    ctx.partitions.orders.fill_waiting(order, part, refusal(error, None), None);
    finish_order(ctx, order);
}

fn success(appended: &Appended) -> ProducePartAnswer {
    ProducePartAnswer {
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        leader_epoch: appended.leader_epoch,
        ..refusal(ErrorCode::None, None)
    }
}

fn finish_order(ctx: &mut Context<'_>, order: u32) {
    let Some(answer) = ctx.partitions.orders.take_finished(order, ctx.shard, ctx.now) else { return };
    let shard = answer.ticket.shard;
    if shard == ctx.shard {
        answered(ctx, answer);
    } else {
        ctx.mesh.send(shard, Message::ProduceAnswer(Box::new(answer)));
    }
}

/// Parts of a pending request are answered.
pub fn answered(ctx: &mut Context<'_>, answer: ProduceAnswer) {
    let is_from_afar = answer.from != ctx.shard;
    if is_from_afar {
        ctx.stats.hops.push(ctx.now.since(answer.sent));
    }
    let Some((_, Waiting::Produce(pending))) = ctx.pending.get_mut(answer.ticket) else { return };
    let mut parts = answer.parts;
    for part in parts.drain(..) {
        let slot = part.slot;
        let (_, place) = &mut pending.parts[slot as usize];
        assert!(place.is_none(), "part {slot} of a produce request is answered twice");
        *place = Some(part);
        pending.remaining -= 1;
    }
    ctx.partitions.orders.give_back(parts);
    if pending.remaining == 0 {
        // The way of this answer is the request's: those of other shards were there before it.
        let AppendTimes { taken, appended, written, committed } = answer.times;
        pending.clock.lap(Stage::Mesh, taken);
        pending.clock.lap(Stage::Appended, appended);
        pending.clock.lap(Stage::Written, written);
        pending.clock.lap(Stage::Flushed, committed);
        if is_from_afar {
            pending.clock.lap(Stage::Mesh, ctx.now);
        }
        pending.last = answer.last;
        let Some((origin, Waiting::Produce(pending))) = ctx.unpark(answer.ticket) else {
            unreachable!("the entry was there a moment ago")
        };
        reply(ctx, origin, pending);
    }
}

/// `timeout.ms` is over: what has not answered yet is told so. It may still be appended.
pub fn timed_out(ctx: &mut Context<'_>, origin: Origin, mut pending: PendingProduce) {
    pending.clock.lap(Stage::Written, ctx.now);
    pending.last = None;
    for (slot, (_, part)) in (0..).zip(&mut pending.parts) {
        if part.is_none() {
            *part = Some(ProducePartAnswer { slot, ..refusal(ErrorCode::RequestTimedOut, None) });
        }
    }
    reply(ctx, origin, pending);
}

impl PendingProduce {
    /// The partition of a part.
    fn partition(&self, slot: u32) -> (TopicId, PartitionIndex) {
        let topic = self.topics.partition_point(|topic| topic.parts_end <= slot as usize);
        (self.topics[topic].id, self.parts[slot as usize].0)
    }

    fn timed(&self, origin: &Origin) -> Timed {
        Timed {
            class: Some(self.last.map_or(Class::ProduceRefused, |(class, _)| class)),
            clock: self.clock,
            partition: self.last.map(|(_, slot)| self.partition(slot)),
            ..origin.timed()
        }
    }
}

fn reply(ctx: &mut Context<'_>, origin: Origin, mut pending: PendingProduce) {
    let timed = pending.timed(&origin);
    let response = if pending.acks == 0 {
        let failed = |(_, answer): &(PartitionIndex, Option<ProducePartAnswer>)| {
            answer.as_ref().is_some_and(|answer| answer.error != ErrorCode::None)
        };
        // Without a reply, closing is the only way to tell the client that its metadata may be stale.
        if pending.parts.iter().any(failed) { Response::Close } else { Response::Nothing }
    } else {
        encode(ctx, &origin, &mut pending)
    };
    ctx.scratch.produce.topics.keep(pending.topics);
    ctx.scratch.produce.parts.keep(pending.parts);
    ctx.reply_timed(&origin, response, timed);
}

fn encode(ctx: &mut Context<'_>, origin: &Origin, pending: &mut PendingProduce) -> Response {
    let mut leaders = LeadersTold::default();
    let mut rows: Vec<PartitionProduceResponse<'_>> = recycle(std::mem::take(&mut ctx.scratch.produce.rows));
    let mut topics = pending.topics.iter();
    let mut topic = topics.next();
    for (slot, (index, answer)) in pending.parts.iter_mut().enumerate() {
        // A topic may come without partitions.
        while topic.is_some_and(|topic| topic.parts_end <= slot) {
            topic = topics.next();
        }
        let name = &topic.expect("every part belongs to a topic").name;
        let answer = answer.take().expect("every part is answered");
        let leader = match origin.version {
            TELLS_LEADERS.. => leader_to_tell(ctx, name, *index, &answer, &mut leaders),
            _ => LeaderIdAndEpoch::default(),
        };
        rows.push(partition_response(*index, answer, leader));
    }
    let mut responses: Vec<TopicProduceResponse<'_>> =
        recycle(std::mem::take(&mut ctx.scratch.produce.topic_rows));
    let mut start = 0;
    for topic in &pending.topics {
        let (name, topic_id) =
            if origin.version >= BY_ID { ("", topic.id) } else { (&*topic.name, TopicId::ZERO) };
        let partition_responses = rows[start..topic.parts_end].into();
        responses.push(TopicProduceResponse { name: name.into(), topic_id, partition_responses });
        start = topic.parts_end;
    }
    let endpoint = |broker: Advertised<'_>| NodeEndpoint {
        node_id: broker.id.0,
        host: broker.host.into(),
        port: i32::from(broker.port),
        rack: broker.rack.map(Into::into),
    };
    let node_endpoints = leaders.brokers(ctx.image).map(endpoint).collect();
    let response = ProduceResponse { responses: responses[..].into(), throttle_time_ms: 0, node_endpoints };
    let response = ctx.scratch.frames.whole(origin, &response);
    ctx.scratch.produce.topic_rows = recycle(responses);
    ctx.scratch.produce.rows = recycle(rows);
    response
}

/// Who leads a partition that the client looked for at the wrong broker.
fn leader_to_tell(
    ctx: &Context<'_>,
    topic: &TopicName,
    index: PartitionIndex,
    answer: &ProducePartAnswer,
    leaders: &mut LeadersTold,
) -> LeaderIdAndEpoch {
    match ctx.image.partition(topic, index) {
        Some(partition) if answer.error == ErrorCode::NotLeaderOrFollower => LeaderIdAndEpoch {
            leader_id: leaders.tell(ctx.image, partition),
            leader_epoch: partition.leader_epoch.0,
        },
        _ => LeaderIdAndEpoch::default(),
    }
}

fn partition_response(
    index: PartitionIndex,
    answer: ProducePartAnswer,
    current_leader: LeaderIdAndEpoch,
) -> PartitionProduceResponse<'static> {
    PartitionProduceResponse {
        index,
        error_code: answer.error.code(),
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
        log_start_offset: answer.log_start_offset,
        record_errors: answer
            .record_errors
            .into_iter()
            .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: Some(message.into()),
            })
            .collect(),
        error_message: answer.message.map(Into::into),
        current_leader,
    }
}
