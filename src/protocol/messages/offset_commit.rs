//! OffsetCommit: stores a group's offsets.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request OffsetCommitRequest<'a> of OffsetCommit {
        group_id: &'a str                               => 2..;
        generation_id_or_member_epoch: i32              => 2.., default -1;
        member_id: &'a str                              => 2..;
        group_instance_id: Option<&'a str>              => 7.., null 7..;
        retention_time_ms: i64                          => 2..=4, default -1, ignorable;
        topics: Array<'a, OffsetCommitRequestTopic<'a>> => 2..;
    }

    struct OffsetCommitRequestTopic<'a> {
        name: &'a str                                           => 2..=9, ignorable;
        topic_id: Uuid                                          => 10.., ignorable;
        partitions: Array<'a, OffsetCommitRequestPartition<'a>> => 2..;
    }

    struct OffsetCommitRequestPartition<'a> {
        partition_index: i32                => 2..;
        committed_offset: i64               => 2..;
        committed_leader_epoch: i32         => 6.., default -1, ignorable;
        committed_metadata: Option<&'a str> => 2.., null 2.., default Some("");
    }

    response OffsetCommitResponse<'a> of OffsetCommit {
        throttle_time_ms: i32                            => 3.., ignorable;
        topics: Array<'a, OffsetCommitResponseTopic<'a>> => 2..;
    }

    struct OffsetCommitResponseTopic<'a> {
        name: Str<'a>                                        => 2..=9, ignorable;
        topic_id: Uuid                                       => 10.., ignorable;
        partitions: Array<'a, OffsetCommitResponsePartition> => 2..;
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32 => 2..;
        error_code: i16      => 2..;
    }
}
