//! OffsetForLeaderEpoch: where a leader epoch ends: how clients and followers find a divergence.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request OffsetForLeaderEpochRequest<'a> of OffsetForLeaderEpoch {
        replica_id: i32                             => 3.., default -2, ignorable;
        topics: Array<'a, OffsetForLeaderTopic<'a>> => 2..;
    }

    struct OffsetForLeaderTopic<'a> {
        topic: &'a str                                  => 2..;
        partitions: Array<'a, OffsetForLeaderPartition> => 2..;
    }

    struct OffsetForLeaderPartition {
        partition: i32            => 2..;
        current_leader_epoch: i32 => 2.., default -1;
        leader_epoch: i32         => 2..;
    }

    response OffsetForLeaderEpochResponse<'a> of OffsetForLeaderEpoch {
        throttle_time_ms: i32                             => 2..;
        topics: Array<'a, OffsetForLeaderTopicResult<'a>> => 2..;
    }

    struct OffsetForLeaderTopicResult<'a> {
        topic: Str<'a>                        => 2..;
        partitions: Array<'a, EpochEndOffset> => 2..;
    }

    struct EpochEndOffset {
        error_code: i16   => 2..;
        partition: i32    => 2..;
        leader_epoch: i32 => 2.., default -1;
        end_offset: i64   => 2.., default -1;
    }
}
