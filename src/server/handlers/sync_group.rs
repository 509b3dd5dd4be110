//! SyncGroup: answered when the leader's assignment is durable.

use bytes::Bytes;

use super::encoded;
use crate::group::{GroupError, Request, Response, SyncGroup};
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::protocol::{DecodeError, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

/// Protocol type and name came with this version, and must be there from it on.
const NAMES_PROTOCOL: i16 = 5;

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = SyncGroupRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = SyncGroupRequest::decode(&mut Reader::new(asked.body), version)?;
    if version >= NAMES_PROTOCOL && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        let body = encode(Response::Sync(Err(GroupError::InconsistentGroupProtocol)), version);
        ctx.answer(asked.ticket, Some(body));
        return Ok(());
    }
    let assignments = request.assignments.iter();
    let sync = SyncGroup {
        group: request.group_id.into(),
        generation: request.generation_id,
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        protocol_type: request.protocol_type.map(Into::into),
        protocol: request.protocol_name.map(Into::into),
        assignments: assignments
            .map(|one| (one.member_id.into(), Bytes::copy_from_slice(one.assignment)))
            .collect(),
    };
    ask_one(ctx, asked, Request::Sync(sync), move |response| encode(response, version));
    Ok(())
}

fn encode(response: Response, version: i16) -> Bytes {
    let Response::Sync(result) = response else { panic!("a sync is answered as one") };
    let response = match result {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type.map(Str::from),
            protocol_name: synced.protocol.map(Str::from),
            assignment: synced.assignment.into(),
            ..SyncGroupResponse::default()
        },
        Err(error) => {
            SyncGroupResponse { error_code: group_error(error).code(), ..SyncGroupResponse::default() }
        }
    };
    encoded(&response, version)
}
