//! DescribeGroups: states and members of classic groups.

use crate::protocol::message::message;
use crate::protocol::{Array, Blob, Str};

message! {
    request DescribeGroupsRequest<'a> of DescribeGroups {
        groups: Array<'a, &'a str>          => 0..;
        include_authorized_operations: bool => 3..;
    }

    response DescribeGroupsResponse<'a> of DescribeGroups {
        throttle_time_ms: i32                 => 1.., ignorable;
        groups: Array<'a, DescribedGroup<'a>> => 0..;
    }

    struct DescribedGroup<'a> {
        error_code: i16                              => 0..;
        error_message: Option<Str<'a>>               => 6.., null 6..;
        group_id: Str<'a>                            => 0..;
        group_state: Str<'a>                         => 0..;
        protocol_type: Str<'a>                       => 0..;
        protocol_data: Str<'a>                       => 0..;
        members: Array<'a, DescribedGroupMember<'a>> => 0..;
        authorized_operations: i32                   => 3.., default i32::MIN;
    }

    struct DescribedGroupMember<'a> {
        member_id: Str<'a>                 => 0..;
        group_instance_id: Option<Str<'a>> => 4.., null 4.., ignorable;
        client_id: Str<'a>                 => 0..;
        client_host: Str<'a>               => 0..;
        member_metadata: Blob<'a>          => 0..;
        member_assignment: Blob<'a>        => 0..;
    }
}
