//! An order on the shard that owns its partitions: reading, and leaving watches where there is too little.

use super::orders::refusal;
use super::waiting::answered;
use crate::log::Now;
use crate::mesh::{FetchOrder, FetchPart, Message, SessionKey};
use crate::partition::FetchBound;
use crate::protocol::ErrorCode;
use crate::server::by_topic;
use crate::server::context::Context;

/// Reads the parts that this shard owns. The answer follows at once if all is in memory, else when the reads are done.
pub fn read_order(ctx: &mut Context<'_>, order: FetchOrder) {
    let arrivals = &mut ctx.partitions.arrivals;
    if order.parts.iter().any(|part| arrivals.is_awaited(part.topic_id, part.partition)) {
        return arrivals.hold_fetch(order);
    }
    let mut budget = order.max_bytes;
    let is_from_afar = order.ticket.shard != ctx.shard;
    if is_from_afar {
        ctx.stats.hops.push(ctx.now.since(order.sent));
    }
    let taken = if is_from_afar { ctx.now } else { order.sent };
    let reading = ctx.partitions.reads.open(order.ticket, order.parts.len(), order.session.is_some(), taken);
    let session = order.session.map(|session| SessionKey { shard: order.ticket.shard, session });
    let mut any_bytes = false;
    for part in &order.parts {
        let bound = if order.read_committed { FetchBound::LastStable } else { FetchBound::HighWatermark };
        let answer = match ctx.partitions.find(part.topic_id, part.partition) {
            None => refusal(part.slot, absent(ctx, part)),
            Some(replica) => {
                // Only the first part that has anything may pass the limits, with one batch.
                let limit = part.max_bytes.min(budget);
                match ctx.partitions.fetch(
                    replica,
                    part,
                    bound,
                    limit,
                    !any_bytes,
                    reading,
                    Now { monotonic: ctx.now, wall: ctx.wall },
                ) {
                    Ok(answer) => answer,
                    // A disk read fills this place later; it counts with what it may bring.
                    Err(planned_bytes) => {
                        any_bytes = true;
                        budget = budget.saturating_sub(planned_bytes);
                        ctx.partitions.reads.note_disk(reading);
                        continue;
                    }
                }
            }
        };
        if let Some(session) = session
            && answer.record_bytes == 0
            && answer.error == ErrorCode::None
            && let Some(replica) = ctx.partitions.find(part.topic_id, part.partition)
        {
            ctx.partitions.watch_for_session(replica, session, part.session_part);
        }
        any_bytes |= answer.record_bytes > 0;
        budget = budget.saturating_sub(answer.record_bytes);
        ctx.partitions.reads.fill(reading, answer);
    }
    let enough = any_bytes && order.max_bytes - budget >= order.min_bytes;
    if order.watch_until.is_some() && !enough && !ctx.partitions.reads.has_error(reading) {
        for part in &order.parts {
            let Some(replica) = ctx.partitions.find(part.topic_id, part.partition) else { continue };
            match session {
                Some(session) => ctx.partitions.watch_for_session(replica, session, part.session_part),
                None => ctx.partitions.watch(replica, order.ticket),
            }
        }
        ctx.partitions.reads.note_watched(reading);
    }
    ctx.partitions.reads.note_read(reading, ctx.stage_end());
    ctx.scratch.fetch.parts.keep(order.parts);
    finish_reads(ctx, reading);
}

/// Why a partition that was asked for is not on this shard: it has been deleted (or is to be made with an image that has
/// not come yet), or it moved.
fn absent(ctx: &Context<'_>, part: &FetchPart) -> ErrorCode {
    match ctx.image.topic_by_id(part.topic_id).and_then(|topic| topic.partition(part.partition)) {
        None => ErrorCode::UnknownTopicOrPartition,
        Some(_) => by_topic::absent(ctx, part.topic_id, part.partition),
    }
}

/// Sends the answer of an order whose last read is done.
pub fn finish_reads(ctx: &mut Context<'_>, reading: u32) {
    let sent = ctx.stage_end();
    let Some(answer) = ctx.partitions.reads.take_finished(reading, ctx.shard, sent) else { return };
    let shard = answer.ticket.shard;
    if shard == ctx.shard {
        answered(ctx, answer);
    } else {
        ctx.mesh.send(shard, Message::FetchAnswer(Box::new(answer)));
    }
}
