//! OffsetFetch: reads a group's offsets; several groups from version 8.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request OffsetFetchRequest<'a> of OffsetFetch {
        group_id: &'a str                                      => 1..=7;
        topics: Option<Array<'a, OffsetFetchRequestTopic<'a>>> => 1..=7, null 2..=7, default Some(Array::EMPTY);
        groups: Array<'a, OffsetFetchRequestGroup<'a>>         => 8..;
        require_stable: bool                                   => 7..;
    }

    struct OffsetFetchRequestTopic<'a> {
        name: &'a str                     => 1..=7;
        partition_indexes: Array<'a, i32> => 1..=7;
    }

    struct OffsetFetchRequestGroup<'a> {
        group_id: &'a str                                       => 8..;
        member_id: Option<&'a str>                              => 9.., null 9.., ignorable;
        member_epoch: i32                                       => 9.., default -1, ignorable;
        topics: Option<Array<'a, OffsetFetchRequestTopics<'a>>> => 8.., null 8.., default Some(Array::EMPTY);
    }

    struct OffsetFetchRequestTopics<'a> {
        name: &'a str                     => 8..=9, ignorable;
        topic_id: Uuid                    => 10.., ignorable;
        partition_indexes: Array<'a, i32> => 8..;
    }

    response OffsetFetchResponse<'a> of OffsetFetch {
        throttle_time_ms: i32                           => 3.., ignorable;
        topics: Array<'a, OffsetFetchResponseTopic<'a>> => 1..=7;
        error_code: i16                                 => 2..=7, ignorable;
        groups: Array<'a, OffsetFetchResponseGroup<'a>> => 8..;
    }

    struct OffsetFetchResponseTopic<'a> {
        name: Str<'a>                                           => 1..=7;
        partitions: Array<'a, OffsetFetchResponsePartition<'a>> => 1..=7;
    }

    struct OffsetFetchResponsePartition<'a> {
        partition_index: i32        => 1..=7;
        committed_offset: i64       => 1..=7;
        committed_leader_epoch: i32 => 5..=7, default -1, ignorable;
        metadata: Option<Str<'a>>   => 1..=7, null 1..=7, default Some(Str::EMPTY);
        error_code: i16             => 1..=7;
    }

    struct OffsetFetchResponseGroup<'a> {
        group_id: Str<'a>                                => 8..;
        topics: Array<'a, OffsetFetchResponseTopics<'a>> => 8..;
        error_code: i16                                  => 8..;
    }

    struct OffsetFetchResponseTopics<'a> {
        name: Str<'a>                                            => 8..=9, ignorable;
        topic_id: Uuid                                           => 10.., ignorable;
        partitions: Array<'a, OffsetFetchResponsePartitions<'a>> => 8..;
    }

    struct OffsetFetchResponsePartitions<'a> {
        partition_index: i32        => 8..;
        committed_offset: i64       => 8..;
        committed_leader_epoch: i32 => 8.., default -1, ignorable;
        metadata: Option<Str<'a>>   => 8.., null 8.., default Some(Str::EMPTY);
        error_code: i16             => 8..;
    }
}
