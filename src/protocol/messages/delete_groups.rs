//! DeleteGroups: deletes empty groups.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DeleteGroupsRequest<'a> of DeleteGroups {
        groups_names: Array<'a, &'a str> => 0..;
    }

    response DeleteGroupsResponse<'a> of DeleteGroups {
        throttle_time_ms: i32                        => 0..;
        results: Array<'a, DeletableGroupResult<'a>> => 0..;
    }

    struct DeletableGroupResult<'a> {
        group_id: Str<'a> => 0..;
        error_code: i16   => 0..;
    }
}
