//! LeaveGroup: one member before version 3, any number from it on.

use bytes::Bytes;

use super::encoded;
use crate::group::{LeaveGroup, Leaving, Request, Response};
use crate::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use crate::protocol::{DecodeError, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

/// From this version on a request names several members, and each has an answer of its own.
const NAMES_MEMBERS: i16 = 3;

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = LeaveGroupRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = LeaveGroupRequest::decode(&mut Reader::new(asked.body), version)?;
    let members = if version < NAMES_MEMBERS {
        vec![Leaving { member: request.member_id.into(), instance: None }]
    } else {
        let members = request.members.iter();
        members
            .map(|one| Leaving {
                member: one.member_id.into(),
                instance: one.group_instance_id.map(Into::into),
            })
            .collect()
    };
    let leave = LeaveGroup { group: request.group_id.into(), members };
    ask_one(ctx, asked, Request::Leave(leave), move |response| encode(response, version));
    Ok(())
}

fn encode(response: Response, version: i16) -> Bytes {
    let Response::Leave(result) = response else { panic!("a leave is answered as one") };
    let mut response = LeaveGroupResponse::default();
    let code = |result: Result<(), _>| result.map_or_else(|error| group_error(error).code(), |()| 0);
    match result {
        Err(error) => response.error_code = group_error(error).code(),
        Ok(left) if version < NAMES_MEMBERS => {
            response.error_code = left.first().map_or(0, |left| code(left.result));
        }
        Ok(left) => {
            let left = left.into_iter();
            response.members = left
                .map(|left| MemberResponse {
                    member_id: left.member.into(),
                    group_instance_id: left.instance.map(Str::from),
                    error_code: code(left.result),
                })
                .collect();
        }
    }
    encoded(&response, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupError, Left};

    #[test]
    fn the_one_member_of_old_versions_decides_the_error() {
        let left =
            vec![Left { member: "m".into(), instance: None, result: Err(GroupError::UnknownMemberId) }];
        for version in 0..=5 {
            let body = encode(Response::Leave(Ok(left.clone())), version);
            let response =
                LeaveGroupResponse::decode(&mut Reader::new(&body), version).expect("our own body");
            let of_member = response.members.first().map(|member| member.error_code);
            let expected = if version < 3 { (25, None) } else { (0, Some(25)) };
            assert_eq!((response.error_code, of_member), expected, "version {version}");
        }
    }
}
