//! CreateTopics: creates topics.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request CreateTopicsRequest<'a> of CreateTopics {
        topics: Array<'a, CreatableTopic<'a>> => 2..;
        timeout_ms: i32                       => 2.., default 60000;
        validate_only: bool                   => 2..;
    }

    struct CreatableTopic<'a> {
        name: &'a str                                          => 2..;
        num_partitions: i32                                    => 2..;
        replication_factor: i16                                => 2..;
        assignments: Array<'a, CreatableReplicaAssignment<'a>> => 2..;
        configs: Array<'a, CreatableTopicConfig<'a>>           => 2..;
    }

    struct CreatableReplicaAssignment<'a> {
        partition_index: i32       => 2..;
        broker_ids: Array<'a, i32> => 2..;
    }

    struct CreatableTopicConfig<'a> {
        name: &'a str          => 2..;
        value: Option<&'a str> => 2.., null 2.., default Some("");
    }

    response CreateTopicsResponse<'a> of CreateTopics {
        throttle_time_ms: i32                       => 2..;
        topics: Array<'a, CreatableTopicResult<'a>> => 2..;
    }

    struct CreatableTopicResult<'a> {
        name: Str<'a>                                         => 2..;
        topic_id: Uuid                                        => 7.., ignorable;
        error_code: i16                                       => 2..;
        error_message: Option<Str<'a>>                        => 2.., null 2.., default Some(Str::EMPTY);
        topic_config_error_code: i16                          => 5.., tag 0, ignorable;
        num_partitions: i32                                   => 5.., default -1, ignorable;
        replication_factor: i16                               => 5.., default -1, ignorable;
        configs: Option<Array<'a, CreatableTopicConfigs<'a>>> => 5.., null 5.., default Some(Array::EMPTY), ignorable;
    }

    struct CreatableTopicConfigs<'a> {
        name: Str<'a>          => 5..;
        value: Option<Str<'a>> => 5.., null 5.., default Some(Str::EMPTY);
        read_only: bool        => 5..;
        config_source: i8      => 5.., default -1, ignorable;
        is_sensitive: bool     => 5..;
    }
}
