//! ListGroups: groups of this coordinator.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request ListGroupsRequest<'a> of ListGroups {
        states_filter: Array<'a, &'a str> => 4..;
        types_filter: Array<'a, &'a str>  => 5..;
    }

    response ListGroupsResponse<'a> of ListGroups {
        throttle_time_ms: i32              => 1.., ignorable;
        error_code: i16                    => 0..;
        groups: Array<'a, ListedGroup<'a>> => 0..;
    }

    struct ListedGroup<'a> {
        group_id: Str<'a>      => 0..;
        protocol_type: Str<'a> => 0..;
        group_state: Str<'a>   => 4.., ignorable;
        group_type: Str<'a>    => 5.., ignorable;
    }
}
