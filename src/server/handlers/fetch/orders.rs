//! What a fetch asks of the shards that own its partitions.

use std::sync::Arc;

use super::PendingFetch;
use super::reading::read_order;
use crate::mesh::{FetchOrder, FetchPart, FetchPartAnswer, Message, Ticket};
use crate::metadata::Topic;
use crate::model::{LeaderEpoch, Monotonic, ShardId, TopicId};
use crate::protocol::ErrorCode;
use crate::server::context::Context;
use crate::server::fetch_session::{PartRead, SessionFetch, Wanted};
use crate::server::pending::Origin;

/// What all orders of a fetch have in common.
pub(super) struct OrderOf {
    session: Option<i32>,
    max_bytes: u32,
    min_bytes: u32,
    read_committed: bool,
    watch_until: Option<Monotonic>,
}

impl OrderOf {
    /// `reply_share`: bytes that an answer may bring now.
    pub fn of(pending: &PendingFetch, reply_share: u32) -> OrderOf {
        OrderOf {
            session: pending.scope.session().map(|fetch| fetch.session_id),
            max_bytes: pending.max_bytes.min(reply_share),
            min_bytes: pending.min_bytes.min(reply_share),
            read_committed: pending.read_committed,
            watch_until: pending.deadline,
        }
    }

    pub fn order(&self, ticket: Ticket, parts: Vec<FetchPart>, sent: Monotonic) -> FetchOrder {
        let OrderOf { session, max_bytes, min_bytes, read_committed, watch_until } = *self;
        FetchOrder { ticket, parts, max_bytes, read_committed, watch_until, session, min_bytes, sent }
    }
}

/// Finds the owners of what is to be read, and what each of them is asked. True: something is refused here and now.
pub(super) fn split(
    ctx: &mut Context<'_>,
    origin: &Origin,
    session: Option<SessionFetch>,
    reads: &mut [PartRead],
    orders: &mut Vec<(ShardId, Vec<FetchPart>)>,
    as_replica: bool,
) -> bool {
    let mut is_refused = false;
    for (slot, read) in (0u32..).zip(reads).filter(|(_, read)| read.is_wanted) {
        read.is_wanted = false;
        let located = match read.owner {
            Some(known) => Ok(known),
            None => locate(ctx, &read.wanted, origin).map(|(owner, topic)| (owner, topic.id)),
        };
        let located = if as_replica { located.and(Err(ErrorCode::NotLeaderOrFollower)) } else { located };
        let (owner, topic_id) = match located {
            Ok(located) => located,
            Err(error) => {
                read.answer = Some(refusal(slot, error));
                is_refused = true;
                continue;
            }
        };
        if let Some(fetch) = session.filter(|_| read.owner.is_none()) {
            ctx.sessions.note_owner(fetch, read.part, owner, topic_id);
        }
        read.owner = Some((owner, topic_id));
        read.is_ordered = true;
        let part = fetch_part(slot, read.part, topic_id, &read.wanted);
        match orders.iter_mut().find(|(shard, _)| *shard == owner) {
            Some((_, parts)) => parts.push(part),
            None => {
                let mut parts = ctx.scratch.fetch.parts.take();
                parts.push(part);
                orders.push((owner, parts));
            }
        }
    }
    is_refused
}

fn fetch_part(slot: u32, session_part: u32, topic_id: TopicId, wanted: &Wanted) -> FetchPart {
    FetchPart {
        slot,
        session_part,
        topic_id,
        partition: wanted.partition,
        current_leader_epoch: wanted.current_leader_epoch,
        fetch_offset: wanted.fetch_offset,
        last_fetched_epoch: wanted.last_fetched_epoch,
        max_bytes: u32::try_from(wanted.max_bytes).unwrap_or(0),
    }
}

/// Who owns a wanted partition now, if it is served where the client came in.
fn locate<'i>(
    ctx: &'i Context<'_>,
    wanted: &Wanted,
    origin: &Origin,
) -> Result<(ShardId, &'i Arc<Topic>), ErrorCode> {
    let topic = if origin.version >= 13 {
        ctx.image.topic_by_id(wanted.topic_id).ok_or_else(|| {
            // The name lives on under another id: the topic was made anew since the session learned it.
            let recreated = !wanted.topic.is_empty() && ctx.image.topic(&wanted.topic).is_some();
            if recreated { ErrorCode::InconsistentTopicId } else { ErrorCode::UnknownTopicId }
        })?
    } else {
        ctx.image.topic(&wanted.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let partition = topic.partition(wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match ctx.image.owner_of(partition) {
        Some(owner)
            if partition.is_led_by(ctx.image.local.node) && ctx.image.is_at(partition, origin.endpoint) =>
        {
            Ok((owner, topic))
        }
        _ => Err(ErrorCode::NotLeaderOrFollower),
    }
}

pub(super) fn order(ctx: &mut Context<'_>, owner: ShardId, order: FetchOrder) {
    if owner == ctx.shard {
        read_order(ctx, order);
    } else {
        ctx.mesh.send(owner, Message::Fetch(Box::new(order)));
    }
}

pub(super) fn refusal(slot: u32, error: ErrorCode) -> FetchPartAnswer {
    FetchPartAnswer {
        slot,
        error,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        leader_epoch: LeaderEpoch(-1),
        diverging: None,
        records: Vec::new(),
        pipes: Vec::new(),
        record_bytes: 0,
    }
}
