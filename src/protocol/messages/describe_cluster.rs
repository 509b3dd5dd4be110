//! DescribeCluster: brokers and the controller.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeClusterRequest of DescribeCluster {
        include_cluster_authorized_operations: bool => 0..;
        endpoint_type: i8                           => 1.., default 1;
        include_fenced_brokers: bool                => 2..;
    }

    response DescribeClusterResponse<'a> of DescribeCluster {
        throttle_time_ms: i32                         => 0..;
        error_code: i16                               => 0..;
        error_message: Option<Str<'a>>                => 0.., null 0..;
        endpoint_type: i8                             => 1.., default 1;
        cluster_id: Str<'a>                           => 0..;
        controller_id: i32                            => 0.., default -1;
        brokers: Array<'a, DescribeClusterBroker<'a>> => 0..;
        cluster_authorized_operations: i32            => 0.., default i32::MIN;
    }

    struct DescribeClusterBroker<'a> {
        broker_id: i32        => 0..;
        host: Str<'a>         => 0..;
        port: i32             => 0..;
        rack: Option<Str<'a>> => 0.., null 0..;
        is_fenced: bool       => 2..;
    }
}
