//! JoinGroup: answered when the rebalance that the join takes part in has found its members.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::encoded;
use crate::group::{JoinGroup, Protocol, Request, Response};
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::protocol::{DecodeError, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = JoinGroupRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = JoinGroupRequest::decode(&mut Reader::new(asked.body), version)?;
    let protocol = |protocol: crate::protocol::messages::join_group::JoinGroupRequestProtocol<'_>| Protocol {
        name: protocol.name.into(),
        metadata: Bytes::copy_from_slice(protocol.metadata),
    };
    let join = JoinGroup {
        group: request.group_id.into(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        client_id: asked.client_id.clone().unwrap_or_else(|| "".into()),
        client_host: host_text(asked.client_host),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.into(),
        protocols: request.protocols.iter().map(protocol).collect(),
        requires_known_member: version >= 4,
        can_skip_assignment: version >= 9,
    };
    ask_one(ctx, asked, Request::Join(join), move |response| encode(response, version));
    Ok(())
}

fn encode(response: Response, version: i16) -> Bytes {
    let Response::Join(result) = response else { panic!("a join is answered as one") };
    let response = match result {
        Ok(joined) => JoinGroupResponse {
            generation_id: joined.generation,
            protocol_type: joined.protocol_type.map(Str::from).filter(|_| version >= 7),
            // Null came with version 7.
            protocol_name: joined.protocol.map(Str::from).or((version < 7).then_some(Str::EMPTY)),
            leader: joined.leader.into(),
            skip_assignment: joined.skip_assignment,
            member_id: joined.member.into(),
            members: joined
                .members
                .into_iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: member.member.into(),
                    group_instance_id: member.instance.map(Str::from),
                    metadata: member.metadata.into(),
                })
                .collect(),
            ..JoinGroupResponse::default()
        },
        Err(refused) => JoinGroupResponse {
            error_code: group_error(refused.error).code(),
            member_id: refused.member.into(),
            ..JoinGroupResponse::default()
        },
    };
    encoded(&response, version)
}

/// A member's host as Kafka shows it: Java's form of an address without a name.
fn host_text(host: IpAddr) -> Arc<str> {
    match host.to_canonical() {
        IpAddr::V4(host) => format!("/{host}").into(),
        IpAddr::V6(host) => {
            let groups = host.segments().map(|segment| format!("{segment:x}"));
            format!("/{}", groups.join(":")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupError, JoinRefused, Joined, JoinedMember};

    #[test]
    fn hosts_are_written_as_java_does() {
        let check = |host: &str, expected: &str| {
            assert_eq!(&*host_text(host.parse().expect("an address")), expected);
        };
        check("127.0.0.1", "/127.0.0.1");
        check("::1", "/0:0:0:0:0:0:0:1");
        check("::ffff:10.0.0.7", "/10.0.0.7");
        check("fe80::a:b", "/fe80:0:0:0:0:0:a:b");
    }

    #[test]
    fn a_refusal_keeps_the_member_id_and_has_no_generation() {
        let refused = JoinRefused { error: GroupError::MemberIdRequired, member: "m-1".into() };
        for version in 0..=9 {
            let body = encode(Response::Join(Err(refused.clone())), version);
            let response = JoinGroupResponse::decode(&mut Reader::new(&body), version).expect("our own body");
            assert_eq!((response.error_code, response.generation_id), (79, -1));
            assert_eq!((&*response.member_id, &*response.leader), ("m-1", ""));
        }
    }

    #[test]
    fn a_group_without_a_protocol_has_no_null_before_version_7() {
        let joined = Joined {
            member: "m".into(),
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: None,
            leader: "m".into(),
            skip_assignment: false,
            members: vec![JoinedMember {
                member: "m".into(),
                instance: Some("i".into()),
                metadata: Bytes::new(),
            }],
        };
        for version in 0..=9 {
            let body = encode(Response::Join(Ok(joined.clone())), version);
            let response = JoinGroupResponse::decode(&mut Reader::new(&body), version).expect("our own body");
            assert_eq!(response.protocol_name.is_none(), version >= 7);
            assert_eq!(response.protocol_type.is_some(), version >= 7);
            let member = response.members.first().expect("one member");
            assert_eq!(member.group_instance_id.is_some(), version >= 5);
        }
    }
}
