//! JoinGroup: makes a member of a classic group, or keeps it one through a rebalance.

use crate::protocol::message::message;
use crate::protocol::{Array, Blob, Str};

message! {
    request JoinGroupRequest<'a> of JoinGroup {
        group_id: &'a str                                  => 0..;
        session_timeout_ms: i32                            => 0..;
        rebalance_timeout_ms: i32                          => 1.., default -1, ignorable;
        member_id: &'a str                                 => 0..;
        group_instance_id: Option<&'a str>                 => 5.., null 5..;
        protocol_type: &'a str                             => 0..;
        protocols: Array<'a, JoinGroupRequestProtocol<'a>> => 0..;
        reason: Option<&'a str>                            => 8.., null 8.., ignorable;
    }

    struct JoinGroupRequestProtocol<'a> {
        name: &'a str      => 0..;
        metadata: &'a [u8] => 0..;
    }

    response JoinGroupResponse<'a> of JoinGroup {
        throttle_time_ms: i32                           => 2.., ignorable;
        error_code: i16                                 => 0..;
        generation_id: i32                              => 0.., default -1;
        protocol_type: Option<Str<'a>>                  => 7.., null 7.., ignorable;
        protocol_name: Option<Str<'a>>                  => 0.., null 7.., default Some(Str::EMPTY);
        leader: Str<'a>                                 => 0..;
        skip_assignment: bool                           => 9..;
        member_id: Str<'a>                              => 0..;
        members: Array<'a, JoinGroupResponseMember<'a>> => 0..;
    }

    struct JoinGroupResponseMember<'a> {
        member_id: Str<'a>                 => 0..;
        group_instance_id: Option<Str<'a>> => 5.., null 5.., ignorable;
        metadata: Blob<'a>                 => 0..;
    }
}
