//! OffsetDelete: deletes a group's offsets of some partitions.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request OffsetDeleteRequest<'a> of OffsetDelete {
        group_id: &'a str                               => 0..;
        topics: Array<'a, OffsetDeleteRequestTopic<'a>> => 0..;
    }

    struct OffsetDeleteRequestTopic<'a> {
        name: &'a str                                       => 0..;
        partitions: Array<'a, OffsetDeleteRequestPartition> => 0..;
    }

    struct OffsetDeleteRequestPartition {
        partition_index: i32 => 0..;
    }

    response OffsetDeleteResponse<'a> of OffsetDelete {
        error_code: i16                                  => 0..;
        throttle_time_ms: i32                            => 0..;
        topics: Array<'a, OffsetDeleteResponseTopic<'a>> => 0..;
    }

    struct OffsetDeleteResponseTopic<'a> {
        name: Str<'a>                                        => 0..;
        partitions: Array<'a, OffsetDeleteResponsePartition> => 0..;
    }

    struct OffsetDeleteResponsePartition {
        partition_index: i32 => 0..;
        error_code: i16      => 0..;
    }
}
