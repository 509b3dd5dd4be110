//! SyncGroup: hands the leader's assignment to the coordinator and each member's share back.

use crate::protocol::message::message;
use crate::protocol::{Array, Blob, Str};

message! {
    request SyncGroupRequest<'a> of SyncGroup {
        group_id: &'a str                                      => 0..;
        generation_id: i32                                     => 0..;
        member_id: &'a str                                     => 0..;
        group_instance_id: Option<&'a str>                     => 3.., null 3..;
        protocol_type: Option<&'a str>                         => 5.., null 5.., ignorable;
        protocol_name: Option<&'a str>                         => 5.., null 5.., ignorable;
        assignments: Array<'a, SyncGroupRequestAssignment<'a>> => 0..;
    }

    struct SyncGroupRequestAssignment<'a> {
        member_id: &'a str   => 0..;
        assignment: &'a [u8] => 0..;
    }

    response SyncGroupResponse<'a> of SyncGroup {
        throttle_time_ms: i32          => 1.., ignorable;
        error_code: i16                => 0..;
        protocol_type: Option<Str<'a>> => 5.., null 5.., ignorable;
        protocol_name: Option<Str<'a>> => 5.., null 5.., ignorable;
        assignment: Blob<'a>           => 0..;
    }
}
