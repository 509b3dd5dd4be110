//! Heartbeat: a member's sign of life, and how it hears of a rebalance.

use bytes::Bytes;

use super::encoded;
use crate::group::{Heartbeat, Request, Response};
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::{DecodeError, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = HeartbeatRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = HeartbeatRequest::decode(&mut Reader::new(asked.body), version)?;
    let heartbeat = Heartbeat {
        group: request.group_id.into(),
        generation: request.generation_id,
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
    };
    ask_one(ctx, asked, Request::Heartbeat(heartbeat), move |response| encode(response, version));
    Ok(())
}

fn encode(response: Response, version: i16) -> Bytes {
    let Response::Heartbeat(result) = response else { panic!("a heartbeat is answered as one") };
    let error_code = result.map_or_else(|error| group_error(error).code(), |()| 0);
    encoded(&HeartbeatResponse { error_code, ..HeartbeatResponse::default() }, version)
}
