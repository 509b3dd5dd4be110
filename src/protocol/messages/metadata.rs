//! Metadata: brokers, topics, partitions and their leaders.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request MetadataRequest<'a> of Metadata {
        topics: Option<Array<'a, MetadataRequestTopic<'a>>> => 0.., null 1.., default Some(Array::EMPTY);
        allow_auto_topic_creation: bool                     => 4.., default true;
        include_cluster_authorized_operations: bool         => 8..=10;
        include_topic_authorized_operations: bool           => 8..;
    }

    struct MetadataRequestTopic<'a> {
        topic_id: Uuid        => 10.., ignorable;
        name: Option<&'a str> => 0.., null 10.., default Some("");
    }

    response MetadataResponse<'a> of Metadata {
        throttle_time_ms: i32                          => 3.., ignorable;
        brokers: Array<'a, MetadataResponseBroker<'a>> => 0..;
        cluster_id: Option<Str<'a>>                    => 2.., null 2.., ignorable;
        controller_id: i32                             => 1.., default -1, ignorable;
        topics: Array<'a, MetadataResponseTopic<'a>>   => 0..;
        cluster_authorized_operations: i32             => 8..=10, default i32::MIN;
        error_code: i16                                => 13.., ignorable;
    }

    struct MetadataResponseBroker<'a> {
        node_id: i32          => 0..;
        host: Str<'a>         => 0..;
        port: i32             => 0..;
        rack: Option<Str<'a>> => 1.., null 1.., ignorable;
    }

    struct MetadataResponseTopic<'a> {
        error_code: i16                                      => 0..;
        name: Option<Str<'a>>                                => 0.., null 12.., default Some(Str::EMPTY);
        topic_id: Uuid                                       => 10.., ignorable;
        is_internal: bool                                    => 1.., ignorable;
        partitions: Array<'a, MetadataResponsePartition<'a>> => 0..;
        topic_authorized_operations: i32                     => 8.., default i32::MIN;
    }

    struct MetadataResponsePartition<'a> {
        error_code: i16                  => 0..;
        partition_index: i32             => 0..;
        leader_id: i32                   => 0..;
        leader_epoch: i32                => 7.., default -1, ignorable;
        replica_nodes: Array<'a, i32>    => 0..;
        isr_nodes: Array<'a, i32>        => 0..;
        offline_replicas: Array<'a, i32> => 5.., ignorable;
    }
}
