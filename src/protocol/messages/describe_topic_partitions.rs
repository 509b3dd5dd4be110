//! DescribeTopicPartitions: topics and partitions page by page.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeTopicPartitionsRequest<'a> of DescribeTopicPartitions {
        topics: Array<'a, TopicRequest<'a>> => 0..;
        response_partition_limit: i32       => 0.., default 2000;
        cursor: Option<Cursor<'a>>          => 0.., null 0..;
    }

    struct TopicRequest<'a> {
        name: &'a str => 0..;
    }

    struct Cursor<'a> {
        topic_name: Str<'a>  => 0..;
        partition_index: i32 => 0..;
    }

    response DescribeTopicPartitionsResponse<'a> of DescribeTopicPartitions {
        throttle_time_ms: i32                                       => 0..;
        topics: Array<'a, DescribeTopicPartitionsResponseTopic<'a>> => 0..;
        next_cursor: Option<Cursor<'a>>                             => 0.., null 0..;
    }

    struct DescribeTopicPartitionsResponseTopic<'a> {
        error_code: i16                                                     => 0..;
        name: Option<Str<'a>>                                               => 0.., null 0.., default Some(Str::EMPTY);
        topic_id: Uuid                                                      => 0..;
        is_internal: bool                                                   => 0..;
        partitions: Array<'a, DescribeTopicPartitionsResponsePartition<'a>> => 0..;
        topic_authorized_operations: i32                                    => 0.., default i32::MIN;
    }

    struct DescribeTopicPartitionsResponsePartition<'a> {
        error_code: i16                                  => 0..;
        partition_index: i32                             => 0..;
        leader_id: i32                                   => 0..;
        leader_epoch: i32                                => 0.., default -1;
        replica_nodes: Array<'a, i32>                    => 0..;
        isr_nodes: Array<'a, i32>                        => 0..;
        eligible_leader_replicas: Option<Array<'a, i32>> => 0.., null 0..;
        last_known_elr: Option<Array<'a, i32>>           => 0.., null 0..;
        offline_replicas: Array<'a, i32>                 => 0..;
    }
}
