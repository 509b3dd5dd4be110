//! CreatePartitions: adds partitions to topics.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request CreatePartitionsRequest<'a> of CreatePartitions {
        topics: Array<'a, CreatePartitionsTopic<'a>> => 0..;
        timeout_ms: i32                              => 0..;
        validate_only: bool                          => 0..;
    }

    struct CreatePartitionsTopic<'a> {
        name: &'a str                                                  => 0..;
        count: i32                                                     => 0..;
        assignments: Option<Array<'a, CreatePartitionsAssignment<'a>>> => 0.., null 0.., default Some(Array::EMPTY);
    }

    struct CreatePartitionsAssignment<'a> {
        broker_ids: Array<'a, i32> => 0..;
    }

    response CreatePartitionsResponse<'a> of CreatePartitions {
        throttle_time_ms: i32                               => 0..;
        results: Array<'a, CreatePartitionsTopicResult<'a>> => 0..;
    }

    struct CreatePartitionsTopicResult<'a> {
        name: Str<'a>                  => 0..;
        error_code: i16                => 0..;
        error_message: Option<Str<'a>> => 0.., null 0..;
    }
}
