//! AlterConfigs: replaces all settings of a resource.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request AlterConfigsRequest<'a> of AlterConfigs {
        resources: Array<'a, AlterConfigsResource<'a>> => 0..;
        validate_only: bool                            => 0..;
    }

    struct AlterConfigsResource<'a> {
        resource_type: i8                       => 0..;
        resource_name: &'a str                  => 0..;
        configs: Array<'a, AlterableConfig<'a>> => 0..;
    }

    struct AlterableConfig<'a> {
        name: &'a str          => 0..;
        value: Option<&'a str> => 0.., null 0.., default Some("");
    }

    response AlterConfigsResponse<'a> of AlterConfigs {
        throttle_time_ms: i32                                  => 0..;
        responses: Array<'a, AlterConfigsResourceResponse<'a>> => 0..;
    }

    struct AlterConfigsResourceResponse<'a> {
        error_code: i16                => 0..;
        error_message: Option<Str<'a>> => 0.., null 0.., default Some(Str::EMPTY);
        resource_type: i8              => 0..;
        resource_name: Str<'a>         => 0..;
    }
}
