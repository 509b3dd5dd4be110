//! DescribeConfigs: settings of topics, brokers and groups, with where each value comes from.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeConfigsRequest<'a> of DescribeConfigs {
        resources: Array<'a, DescribeConfigsResource<'a>> => 1..;
        include_synonyms: bool                            => 1..;
        include_documentation: bool                       => 3..;
    }

    struct DescribeConfigsResource<'a> {
        resource_type: i8                              => 1..;
        resource_name: &'a str                         => 1..;
        configuration_keys: Option<Array<'a, &'a str>> => 1.., null 1.., default Some(Array::EMPTY);
    }

    response DescribeConfigsResponse<'a> of DescribeConfigs {
        throttle_time_ms: i32                         => 1..;
        results: Array<'a, DescribeConfigsResult<'a>> => 1..;
    }

    struct DescribeConfigsResult<'a> {
        error_code: i16                                       => 1..;
        error_message: Option<Str<'a>>                        => 1.., null 1.., default Some(Str::EMPTY);
        resource_type: i8                                     => 1..;
        resource_name: Str<'a>                                => 1..;
        configs: Array<'a, DescribeConfigsResourceResult<'a>> => 1..;
    }

    struct DescribeConfigsResourceResult<'a> {
        name: Str<'a>                                   => 1..;
        value: Option<Str<'a>>                          => 1.., null 1.., default Some(Str::EMPTY);
        read_only: bool                                 => 1..;
        config_source: i8                               => 1.., default -1;
        is_sensitive: bool                              => 1..;
        synonyms: Array<'a, DescribeConfigsSynonym<'a>> => 1..;
        config_type: i8                                 => 3.., ignorable;
        documentation: Option<Str<'a>>                  => 3.., null 1.., default Some(Str::EMPTY), ignorable;
    }

    struct DescribeConfigsSynonym<'a> {
        name: Str<'a>          => 1..;
        value: Option<Str<'a>> => 1.., null 1.., default Some(Str::EMPTY);
        source: i8             => 1..;
    }
}
