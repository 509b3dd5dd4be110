//! A fetch between its orders and its reply: it waits for the answers of the owners, then, if they have too little, for records.

use super::answer::reply;
use super::orders::{OrderOf, order, split};
use super::{PendingFetch, reply_share};
use crate::mesh::{FetchAnswer, Message, SessionKey, SessionPart, Ticket};
use crate::metrics::Stage;
use crate::model::{PartitionIndex, ShardId, TopicId};
use crate::protocol::ErrorCode;
use crate::server::context::Context;
use crate::server::fetch_session::PartRead;
use crate::server::pending::Waiting;

/// An owner has answered its parts.
pub fn answered(ctx: &mut Context<'_>, answer: FetchAnswer) {
    let is_from_afar = answer.from != ctx.shard;
    if is_from_afar {
        ctx.stats.hops.push(ctx.now.since(answer.sent));
    }
    let image = ctx.image;
    let Some((origin, Waiting::Fetch(pending))) = ctx.pending.get_mut(answer.ticket) else {
        // The request is over (its connection closed): the watches that this answer left must go too.
        // Those of a session are the session's.
        if answer.watched && !answer.is_of_session {
            unwatch(ctx, answer.from, answer.ticket);
        }
        return;
    };
    let mut parts = answer.parts;
    for mut part in parts.drain(..) {
        let read = &mut pending.reads[part.slot as usize];
        assert!(std::mem::take(&mut read.is_ordered), "a second answer to a part of a fetch");
        if part.error == ErrorCode::UnknownTopicOrPartition
            && origin.version >= 13
            && read.owner.is_some_and(|(_, id)| image.topic_by_id(id).is_none())
        {
            // A client that names topics by id is told that it is the id that is gone.
            part.error = ErrorCode::UnknownTopicId;
        }
        read.answer = Some(part);
    }
    ctx.partitions.reads.give_back(parts);
    pending.awaited -= 1;
    pending.source = pending.source.max(answer.source);
    if pending.awaited == 0 {
        // The way of the last answer is the request's.
        pending.clock.lap(Stage::Mesh, answer.taken);
        pending.clock.lap(Stage::Read, answer.read);
        if is_from_afar {
            pending.clock.lap(Stage::Mesh, ctx.now);
        }
    }
    if pending.scope.session().is_some() {
        if !answer.watched {
            // There is enough, or an error: it waits no more.
            pending.deadline = None;
        }
    } else if answer.watched {
        match pending.watching.iter_mut().find(|(shard, _)| *shard == answer.from) {
            // The wake-up came before this answer did.
            Some(_) => {}
            None => pending.watching.push((answer.from, false)),
        }
    }
    go_on(ctx, answer.ticket);
}

/// A watched partition has moved on `from`.
pub fn woken(ctx: &mut Context<'_>, from: ShardId, ticket: Ticket) {
    let Some((_, Waiting::Fetch(pending))) = ctx.pending.get_mut(ticket) else { return };
    match pending.watching.iter_mut().find(|(shard, _)| *shard == from) {
        Some((_, woken)) => *woken = true,
        None => pending.watching.push((from, true)),
    }
    go_on(ctx, ticket);
}

/// A partition of a session has moved, here or on shard `from`.
pub fn session_moved(ctx: &mut Context<'_>, from: ShardId, moved: SessionPart) {
    if !ctx.sessions.has(moved.session) {
        // Its watches were taken back, but an order that was held came later.
        forget_session(ctx, from, moved.session, None);
    } else if let Some(ticket) = ctx.sessions.note_moved(moved) {
        go_on(ctx, ticket);
    }
}

/// The wait is over.
pub fn timed_out(ctx: &mut Context<'_>, ticket: Ticket) {
    let Some((_, Waiting::Fetch(pending))) = ctx.pending.get_mut(ticket) else { return };
    pending.deadline = None;
    go_on(ctx, ticket);
}

/// Answers if there is enough or nothing more to wait for; else reads again what has moved.
fn go_on(ctx: &mut Context<'_>, ticket: Ticket) {
    let Some((origin, Waiting::Fetch(pending))) = ctx.pending.get_mut(ticket) else { return };
    if pending.awaited > 0 {
        return;
    }
    if pending.is_waiting {
        pending.clock.lap(Stage::Waited, ctx.now);
    }
    let answers = || pending.reads.iter().filter_map(|read| read.answer.as_ref());
    let bytes: u64 = answers().map(|answer| u64::from(answer.record_bytes)).sum();
    let is_urgent = answers().any(|answer| answer.error != ErrorCode::None || answer.diverging.is_some());
    if !pending.waits() || is_urgent || bytes >= u64::from(pending.min_bytes) {
        let Some((origin, Waiting::Fetch(pending))) = ctx.unpark(ticket) else {
            unreachable!("the entry was there a moment ago")
        };
        give_up_watches(ctx, ticket, &pending);
        reply(ctx, origin, pending);
        return;
    }
    let (origin, session) = (*origin, pending.scope.session());
    let mut reads = std::mem::take(&mut pending.reads);
    if let Some(fetch) = session {
        ctx.sessions.read_moved(fetch, &mut reads);
    }
    for (moved, _) in pending.watching.extract_if(.., |(_, woken)| *woken) {
        let of_it = |read: &&mut PartRead| read.owner.is_some_and(|(owner, _)| owner == moved);
        reads.iter_mut().filter(of_it).for_each(|read| read.is_wanted = true);
    }
    let as_replica = pending.as_replica;
    let mut orders = std::mem::take(&mut ctx.scratch.fetch.orders);
    let is_refused = split(ctx, &origin, session, &mut reads, &mut orders, as_replica);
    let share = reply_share(ctx);
    let Some((_, Waiting::Fetch(pending))) = ctx.pending.get_mut(ticket) else {
        unreachable!("the entry was there a moment ago")
    };
    pending.reads = reads;
    pending.awaited = orders.len();
    pending.is_waiting = orders.is_empty();
    if is_refused {
        pending.deadline = None;
    }
    let template = OrderOf::of(pending, share);
    let is_over = is_refused && orders.is_empty();
    for (owner, parts) in orders.drain(..) {
        order(ctx, owner, template.order(ticket, parts, ctx.now));
    }
    ctx.scratch.fetch.orders = orders;
    if is_over {
        go_on(ctx, ticket);
    }
}

/// The connection is gone.
pub fn cancelled(ctx: &mut Context<'_>, ticket: Ticket, pending: &PendingFetch) {
    give_up_watches(ctx, ticket, pending);
}

/// Ends the wait. The watches of a session stay, for its next fetch.
fn give_up_watches(ctx: &mut Context<'_>, ticket: Ticket, pending: &PendingFetch) {
    if let Some(fetch) = pending.scope.session() {
        ctx.sessions.end_wait(fetch, ticket);
    }
    for (shard, woken) in &pending.watching {
        if !woken {
            unwatch(ctx, *shard, ticket);
        }
    }
}

fn unwatch(ctx: &mut Context<'_>, shard: ShardId, ticket: Ticket) {
    if shard == ctx.shard {
        ctx.partitions.unwatch(ticket);
    } else {
        ctx.mesh.send(shard, Message::FetchUnwatch(ticket));
    }
}

/// Takes back the watches of sessions that are over, and on partitions that sessions have forgotten.
pub(super) fn take_back_watches(ctx: &mut Context<'_>) {
    for (owner, session, partition) in ctx.sessions.take_unwatched() {
        forget_session(ctx, owner, session, partition);
    }
}

fn forget_session(
    ctx: &mut Context<'_>,
    owner: ShardId,
    session: i32,
    partition: Option<(TopicId, PartitionIndex)>,
) {
    if owner == ctx.shard {
        ctx.partitions.forget_session(SessionKey { shard: owner, session }, partition);
    } else {
        ctx.mesh.send(owner, Message::SessionForgets { session, partition });
    }
}
