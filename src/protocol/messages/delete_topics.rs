//! DeleteTopics: deletes topics, by name or, from version 6, by id.

use crate::model::Uuid;
use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DeleteTopicsRequest<'a> of DeleteTopics {
        topics: Array<'a, DeleteTopicState<'a>> => 6..;
        topic_names: Array<'a, &'a str>         => 1..=5, ignorable;
        timeout_ms: i32                         => 1..;
    }

    struct DeleteTopicState<'a> {
        name: Option<&'a str> => 6.., null 6..;
        topic_id: Uuid        => 6..;
    }

    response DeleteTopicsResponse<'a> of DeleteTopics {
        throttle_time_ms: i32                          => 1..;
        responses: Array<'a, DeletableTopicResult<'a>> => 1..;
    }

    struct DeletableTopicResult<'a> {
        name: Option<Str<'a>>          => 1.., null 6.., default Some(Str::EMPTY);
        topic_id: Uuid                 => 6.., ignorable;
        error_code: i16                => 1..;
        error_message: Option<Str<'a>> => 5.., null 5.., ignorable;
    }
}
