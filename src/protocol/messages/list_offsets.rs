//! ListOffsets: finds offsets by timestamp, or the ends of partitions.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request ListOffsetsRequest<'a> of ListOffsets {
        replica_id: i32                         => 1..;
        isolation_level: i8                     => 2..;
        topics: Array<'a, ListOffsetsTopic<'a>> => 1..;
        timeout_ms: i32                         => 10.., ignorable;
    }

    struct ListOffsetsTopic<'a> {
        name: &'a str                               => 1..;
        partitions: Array<'a, ListOffsetsPartition> => 1..;
    }

    struct ListOffsetsPartition {
        partition_index: i32      => 1..;
        current_leader_epoch: i32 => 4.., default -1, ignorable;
        timestamp: i64            => 1..;
    }

    response ListOffsetsResponse<'a> of ListOffsets {
        throttle_time_ms: i32                           => 2.., ignorable;
        topics: Array<'a, ListOffsetsTopicResponse<'a>> => 1..;
    }

    struct ListOffsetsTopicResponse<'a> {
        name: Str<'a>                                       => 1..;
        partitions: Array<'a, ListOffsetsPartitionResponse> => 1..;
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32 => 1..;
        error_code: i16      => 1..;
        timestamp: i64       => 1.., default -1;
        offset: i64          => 1.., default -1;
        leader_epoch: i32    => 4.., default -1;
    }
}
