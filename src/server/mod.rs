//! The Kafka APIs on a data core: one frame in, one reply out, in the order of the connection.
//!
//! *Owns* the table of pending requests, fetch sessions and the seats of coordinator and controller. *Never* does I/O: it
//! leaves work for the loop's later phases. *Boundary*: [`take_frame`] on the shard of the connection, [`serve`] on the shard
//! that owns what a request is about. A request for several owners is split once (`gather`), an answer finds its request
//! by ticket. Only this room and `protocol` know wire error numbers (`error_map`).

mod by_topic;
pub mod context;
pub mod controller_seat;
pub mod error_map;
mod fetch_session;
mod frame_out;
mod gather;
pub mod group_seat;
pub mod handlers;
mod leaders_told;
mod pending;
mod stats;

use bytes::Bytes;

pub use context::{Asked, Context, JobFor, Random, Scratch, ServerTimer};
pub use controller_seat::ControllerSeat;
pub use fetch_session::FetchSessions;
pub use group_seat::{GroupSeat, LogStart, SkippedRecord};
pub use pending::PendingTable;
pub use stats::ServerStats;

use crate::mesh::{Message, SessionKey, Ticket};
use crate::model::{Monotonic, ShardId};
use crate::net::{ConnectionId, Frame, Response};
use crate::partition::{AppendEnd, Appended, Failure, Waiter};
use crate::protocol::{ApiKey, decode_header};
use crate::trace;
use gather::Asker;
use handlers as h;
use pending::{Origin, Waiting};

/// Takes one request frame of a connection of this shard, whose last byte was there at `received`. Its reply (or none) comes in
/// its place among the others.
pub fn take_frame(ctx: &mut Context<'_>, connection: ConnectionId, frame: &Frame<'_>, received: Monotonic) {
    let Some(sequence) = ctx.connections.reserve(connection, frame.bytes().len()) else { return };
    ctx.stats.requests += 1;
    let bytes = frame.bytes();
    let (header, reader) = match decode_header(bytes) {
        Ok(decoded) => decoded,
        Err(_) => return ctx.respond(connection, sequence, Response::Close),
    };
    let about = [header.api_key as u64, header.api_version as u64, header.correlation_id as u64];
    trace::event(ctx.now, "server: request (api, version, correlation)", about);
    let Some(api_key) = ApiKey::from_key(header.api_key) else {
        return ctx.respond(connection, sequence, Response::Close);
    };
    let endpoint = ctx.connections.get_mut(connection).and_then(|state| state.endpoint);
    let origin = Origin {
        connection,
        endpoint,
        sequence,
        api_key,
        version: header.api_version,
        correlation_id: header.correlation_id,
        received,
    };
    if !api_key.serves(header.api_version) {
        if api_key == ApiKey::ApiVersions {
            return h::api_versions::refuse_version(ctx, origin);
        }
        return ctx.respond(connection, sequence, Response::Close);
    }
    let body = reader.remaining();
    if let Some(state) = ctx.connections.get_mut(connection) {
        state.remember_client_id(header.client_id);
    }
    let decoded = match api_key {
        ApiKey::Produce => h::produce::accept(ctx, origin, header.client_id, body, frame),
        ApiKey::Fetch => h::fetch::accept(ctx, origin, body),
        _ => {
            let state = ctx.connections.get_mut(connection).expect("it was there a moment ago");
            let asker = Asker { origin, client_id: state.client_id.clone(), client_host: state.peer };
            route(ctx, asker, body, frame)
        }
    };
    if decoded.is_err() {
        ctx.stats.malformed += 1;
        ctx.respond(connection, sequence, Response::Close);
    }
}

/// Finds the shard, or shards, that serve a request other than Produce and Fetch.
fn route(
    ctx: &mut Context<'_>,
    asker: Asker,
    body: &[u8],
    frame: &Frame<'_>,
) -> Result<(), crate::protocol::DecodeError> {
    let route = h::route_of(ctx, asker.origin.api_key, asker.origin.version, body)?;
    match route {
        Route::Here => gather::relay_whole(ctx, asker, ctx.shard, frame.keep(body)),
        Route::Whole(shard) => gather::relay_whole(ctx, asker, shard, frame.keep(body)),
        Route::Parts(parts, merge) => gather::relay_parts(ctx, asker, parts, merge),
        Route::Everyone(merge) => {
            let body = frame.keep(body);
            let (layout, shards) = (ctx.image.layout, ctx.mesh.shard_count());
            let shards: Vec<ShardId> = match asker.origin.endpoint {
                None => (0..shards).map(ShardId).collect(),
                Some(endpoint) => layout.shards_of(endpoint, shards).collect(),
            };
            let parts = shards.into_iter().map(|shard| (shard, body.clone())).collect();
            gather::relay_parts(ctx, asker, parts, merge);
        }
    }
    Ok(())
}

/// Who serves a request.
pub enum Route {
    /// Any shard can: this one does.
    Here,
    Whole(ShardId),
    /// Each shard its part, as a request body of its own.
    Parts(Vec<(ShardId, Bytes)>, gather::Merge),
    /// All shards behind the endpoint that the client came in at get the whole request and answer for what they own there.
    Everyone(gather::Merge),
}

/// Serves a request, or the part of one, that was routed to this shard. The answer goes to `asked.ticket`, now or later.
pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) {
    if h::serve(ctx, asked).is_err() {
        ctx.stats.malformed += 1;
        ctx.answer(asked.ticket, None);
    }
}

/// A shard has answered a relayed request of a connection of this one.
pub fn relay_answered(ctx: &mut Context<'_>, ticket: Ticket, body: Option<Bytes>) {
    let Some((_, waiting)) = ctx.pending.get_mut(ticket) else { return };
    let body = match (waiting, body) {
        (_, None) => None,
        (Waiting::Gather(gather), Some(body)) => {
            gather.bodies.push(body);
            gather.remaining -= 1;
            if gather.remaining > 0 {
                return;
            }
            Some(Bytes::new())
        }
        (_, Some(body)) => Some(body),
    };
    let Some((origin, waiting)) = ctx.unpark(ticket) else { return };
    let response = match (waiting, body) {
        (_, None) => Response::Close,
        (Waiting::Gather(gather), Some(_)) => {
            let body = (gather.merge)(origin.version, &gather.bodies);
            Response::Send(frame_out::frame_of_bytes(&origin, body))
        }
        (_, Some(body)) => Response::Send(frame_out::frame_of_bytes(&origin, body)),
    };
    ctx.reply(&origin, response);
}

/// Takes a message of another shard, except those that the shard itself handles (images, stops).
pub fn take_message(ctx: &mut Context<'_>, from: ShardId, message: Message) -> Option<Message> {
    match message {
        Message::Produce(order) => h::produce::append_order(ctx, *order),
        Message::ProduceAnswer(answer) => h::produce::answered(ctx, *answer),
        Message::Fetch(order) => h::fetch::read_order(ctx, *order),
        Message::FetchAnswer(answer) => h::fetch::answered(ctx, *answer),
        Message::FetchWoken(ticket) => h::fetch::woken(ctx, from, ticket),
        Message::FetchUnwatch(ticket) => ctx.partitions.unwatch(ticket),
        Message::SessionMoved(parts) => {
            parts.into_iter().for_each(|part| h::fetch::session_moved(ctx, from, part));
        }
        Message::SessionForgets { session, partition } => {
            ctx.partitions.forget_session(SessionKey { shard: from, session }, partition);
        }
        Message::Relay(relay) => ctx.relay(ctx.shard, *relay),
        Message::RelayAnswer(answer) => relay_answered(ctx, answer.ticket, answer.body),
        Message::AutoCreate { topics } => h::auto_create::create(ctx, topics),
        other => return Some(other),
    }
    None
}

/// An append has reached its durability level.
pub fn append_done(ctx: &mut Context<'_>, waiter: Waiter, appended: &Appended, ended: &AppendEnd) {
    match waiter {
        Waiter::Produce { order, part } => h::produce::append_done(ctx, order, part, appended, ended),
        Waiter::Group { ticket } => ctx.groups.appended(ctx.both_clocks(), ticket, Ok(appended.base_offset)),
        Waiter::Metadata { index } => {
            ctx.controller.as_mut().expect("shard 0 appends metadata").appended(index);
        }
        Waiter::Nobody => {}
    }
}

/// An append will never reach it. Metadata that cannot be written is the shard's to handle.
pub fn append_failed(ctx: &mut Context<'_>, waiter: Waiter, failure: Failure) {
    match waiter {
        Waiter::Produce { order, part } => {
            h::produce::append_failed(ctx, order, part, error_map::failure(&failure))
        }
        Waiter::Group { ticket } => {
            let failure = error_map::group_append_failed(&failure);
            ctx.groups.appended(ctx.both_clocks(), ticket, Err(failure));
        }
        Waiter::Metadata { .. } | Waiter::Nobody => {}
    }
}

/// The wait of a pending request is over.
pub fn timer_fired(ctx: &mut Context<'_>, timer: ServerTimer) {
    match timer {
        ServerTimer::Pending(ticket) => match ctx.pending.get_mut(ticket) {
            Some((_, Waiting::Fetch(_))) => h::fetch::timed_out(ctx, ticket),
            Some((_, Waiting::Produce(_))) => {
                if let Some((origin, Waiting::Produce(pending))) = ctx.unpark(ticket) {
                    h::produce::timed_out(ctx, origin, pending);
                }
            }
            Some(_) | None => {}
        },
    }
}

/// The client of a pending request sends no more and has probably gone: a long poll ends with what there is.
pub fn client_ended(ctx: &mut Context<'_>, ticket: Ticket) {
    if let Some((_, Waiting::Fetch(_))) = ctx.pending.get_mut(ticket) {
        h::fetch::timed_out(ctx, ticket);
    }
}

/// The connection of a pending request is gone: nobody waits for its answer.
pub fn connection_gone(ctx: &mut Context<'_>, ticket: Ticket) {
    if let Some((_, Waiting::Fetch(pending))) = ctx.unpark(ticket) {
        h::fetch::cancelled(ctx, ticket, &pending);
    }
}
