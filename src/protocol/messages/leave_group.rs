//! LeaveGroup: takes members out of a classic group.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request LeaveGroupRequest<'a> of LeaveGroup {
        group_id: &'a str                      => 0..;
        member_id: &'a str                     => 0..=2;
        members: Array<'a, MemberIdentity<'a>> => 3..;
    }

    struct MemberIdentity<'a> {
        member_id: &'a str                 => 3..;
        group_instance_id: Option<&'a str> => 3.., null 3..;
        reason: Option<&'a str>            => 5.., null 5.., ignorable;
    }

    response LeaveGroupResponse<'a> of LeaveGroup {
        throttle_time_ms: i32                  => 1.., ignorable;
        error_code: i16                        => 0..;
        members: Array<'a, MemberResponse<'a>> => 3..;
    }

    struct MemberResponse<'a> {
        member_id: Str<'a>                 => 3..;
        group_instance_id: Option<Str<'a>> => 3.., null 3.., default Some(Str::EMPTY);
        error_code: i16                    => 3..;
    }
}
