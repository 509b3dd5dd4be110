//! Produce: appends record batches to partitions.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Records, Str};

message! {
    request ProduceRequest<'a> of Produce {
        transactional_id: Option<&'a str>           => 3.., null 3..;
        acks: i16                                   => 3..;
        timeout_ms: i32                             => 3..;
        topic_data: Array<'a, TopicProduceData<'a>> => 3..;
    }

    struct TopicProduceData<'a> {
        name: &'a str                                       => 3..=12, ignorable;
        topic_id: Uuid                                      => 13.., ignorable;
        partition_data: Array<'a, PartitionProduceData<'a>> => 3..;
    }

    struct PartitionProduceData<'a> {
        index: i32                => 3..;
        records: Option<&'a [u8]> => 3.., null 3..;
    }

    /// [`ProduceRequest`] as a producer composes it: records leave from where they lie.
    request ProduceBatchesRequest<'a> of Produce {
        transactional_id: Option<&'a str>       => 3.., null 3..;
        acks: i16                               => 3..;
        timeout_ms: i32                         => 3..;
        topic_data: Array<'a, TopicBatches<'a>> => 3..;
    }

    /// [`TopicProduceData`] as a producer composes it.
    struct TopicBatches<'a> {
        name: &'a str                                   => 3..=12, ignorable;
        topic_id: Uuid                                  => 13.., ignorable;
        partition_data: Array<'a, PartitionBatches<'a>> => 3..;
    }

    /// [`PartitionProduceData`] as a producer composes it.
    struct PartitionBatches<'a> {
        index: i32                   => 3..;
        records: Option<Records<'a>> => 3.., null 3..;
    }

    response ProduceResponse<'a> of Produce {
        responses: Array<'a, TopicProduceResponse<'a>> => 3..;
        throttle_time_ms: i32                          => 3..;
        node_endpoints: Array<'a, NodeEndpoint<'a>>    => 10.., tag 0;
    }

    struct TopicProduceResponse<'a> {
        name: Str<'a>                                                => 3..=12, ignorable;
        topic_id: Uuid                                               => 13.., ignorable;
        partition_responses: Array<'a, PartitionProduceResponse<'a>> => 3..;
    }

    struct PartitionProduceResponse<'a> {
        index: i32                                              => 3..;
        error_code: i16                                         => 3..;
        base_offset: i64                                        => 3..;
        log_append_time_ms: i64                                 => 3.., default -1;
        log_start_offset: i64                                   => 5.., default -1, ignorable;
        record_errors: Array<'a, BatchIndexAndErrorMessage<'a>> => 8.., ignorable;
        error_message: Option<Str<'a>>                          => 8.., null 8.., ignorable;
        current_leader: LeaderIdAndEpoch                        => 10.., tag 0;
    }

    struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32                           => 8..;
        batch_index_error_message: Option<Str<'a>> => 8.., null 8..;
    }

    struct LeaderIdAndEpoch {
        leader_id: i32    => 10.., default -1;
        leader_epoch: i32 => 10.., default -1;
    }

    struct NodeEndpoint<'a> {
        node_id: i32          => 10..;
        host: Str<'a>         => 10..;
        port: i32             => 10..;
        rack: Option<Str<'a>> => 10.., null 10..;
    }
}
