//! Fetch: reads record batches from partitions, for consumers and followers.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Records, Str};

message! {
    request FetchRequest<'a> of Fetch {
        cluster_id: Option<&'a str>                          => 12.., null 12.., tag 0, ignorable;
        replica_id: i32                                      => 4..=14, default -1;
        replica_state: ReplicaState                          => 15.., tag 1;
        max_wait_ms: i32                                     => 4..;
        min_bytes: i32                                       => 4..;
        max_bytes: i32                                       => 4.., default i32::MAX;
        isolation_level: i8                                  => 4..;
        session_id: i32                                      => 7.., ignorable;
        session_epoch: i32                                   => 7.., default -1, ignorable;
        topics: Array<'a, FetchTopic<'a>>                    => 4..;
        forgotten_topics_data: Array<'a, ForgottenTopic<'a>> => 7..;
        rack_id: &'a str                                     => 11.., ignorable;
    }

    struct ReplicaState {
        replica_id: i32    => 15.., default -1;
        replica_epoch: i64 => 15.., default -1;
    }

    struct FetchTopic<'a> {
        topic: &'a str                        => 4..=12, ignorable;
        topic_id: Uuid                        => 13.., ignorable;
        partitions: Array<'a, FetchPartition> => 4..;
    }

    struct FetchPartition {
        partition: i32             => 4..;
        current_leader_epoch: i32  => 9.., default -1, ignorable;
        fetch_offset: i64          => 4..;
        last_fetched_epoch: i32    => 12.., default -1;
        log_start_offset: i64      => 5.., default -1, ignorable;
        partition_max_bytes: i32   => 4..;
        replica_directory_id: Uuid => 17.., tag 0, ignorable;
        high_watermark: i64        => 18.., tag 1, default i64::MAX, ignorable;
    }

    struct ForgottenTopic<'a> {
        topic: &'a str             => 7..=12, ignorable;
        topic_id: Uuid             => 13.., ignorable;
        partitions: Array<'a, i32> => 7..;
    }

    response FetchResponse<'a> of Fetch {
        throttle_time_ms: i32                            => 4..;
        error_code: i16                                  => 7.., ignorable;
        session_id: i32                                  => 7..;
        responses: Array<'a, FetchableTopicResponse<'a>> => 4..;
        node_endpoints: Array<'a, NodeEndpoint<'a>>      => 16.., tag 0;
    }

    struct FetchableTopicResponse<'a> {
        topic: Str<'a>                           => 4..=12, ignorable;
        topic_id: Uuid                           => 13.., ignorable;
        partitions: Array<'a, PartitionData<'a>> => 4..;
    }

    struct PartitionData<'a> {
        partition_index: i32                                        => 4..;
        error_code: i16                                             => 4..;
        high_watermark: i64                                         => 4..;
        last_stable_offset: i64                                     => 4.., default -1;
        log_start_offset: i64                                       => 5.., default -1, ignorable;
        diverging_epoch: EpochEndOffset                             => 12.., tag 0;
        current_leader: LeaderIdAndEpoch                            => 12.., tag 1;
        snapshot_id: SnapshotId                                     => 12.., tag 2;
        aborted_transactions: Option<Array<'a, AbortedTransaction>> => 4.., null 4.., default Some(Array::EMPTY);
        preferred_read_replica: i32                                 => 11.., default -1;
        records: Option<Records<'a>>                                => 4.., null 4.., default Some(Records::EMPTY);
    }

    struct EpochEndOffset {
        epoch: i32      => 12.., default -1;
        end_offset: i64 => 12.., default -1;
    }

    struct LeaderIdAndEpoch {
        leader_id: i32    => 12.., default -1;
        leader_epoch: i32 => 12.., default -1;
    }

    struct SnapshotId {
        end_offset: i64 => 4.., default -1;
        epoch: i32      => 4.., default -1;
    }

    struct AbortedTransaction {
        producer_id: i64  => 4..;
        first_offset: i64 => 4..;
    }

    struct NodeEndpoint<'a> {
        node_id: i32          => 16..;
        host: Str<'a>         => 16..;
        port: i32             => 16..;
        rack: Option<Str<'a>> => 16.., null 16..;
    }
}
