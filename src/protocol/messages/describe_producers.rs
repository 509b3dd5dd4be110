//! DescribeProducers: producers with state on partitions.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeProducersRequest<'a> of DescribeProducers {
        topics: Array<'a, TopicRequest<'a>> => 0..;
    }

    struct TopicRequest<'a> {
        name: &'a str                     => 0..;
        partition_indexes: Array<'a, i32> => 0..;
    }

    response DescribeProducersResponse<'a> of DescribeProducers {
        throttle_time_ms: i32                => 0..;
        topics: Array<'a, TopicResponse<'a>> => 0..;
    }

    struct TopicResponse<'a> {
        name: Str<'a>                                => 0..;
        partitions: Array<'a, PartitionResponse<'a>> => 0..;
    }

    struct PartitionResponse<'a> {
        partition_index: i32                       => 0..;
        error_code: i16                            => 0..;
        error_message: Option<Str<'a>>             => 0.., null 0..;
        active_producers: Array<'a, ProducerState> => 0..;
    }

    struct ProducerState {
        producer_id: i64              => 0..;
        producer_epoch: i32           => 0..;
        last_sequence: i32            => 0.., default -1;
        last_timestamp: i64           => 0.., default -1;
        coordinator_epoch: i32        => 0..;
        current_txn_start_offset: i64 => 0.., default -1;
    }
}
