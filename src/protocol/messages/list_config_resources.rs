//! ListConfigResources: names of the resources that have settings.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request ListConfigResourcesRequest<'a> of ListConfigResources {
        resource_types: Array<'a, i8> => 1..;
    }

    response ListConfigResourcesResponse<'a> of ListConfigResources {
        throttle_time_ms: i32                           => 0..;
        error_code: i16                                 => 0..;
        config_resources: Array<'a, ConfigResource<'a>> => 0..;
    }

    struct ConfigResource<'a> {
        resource_name: Str<'a> => 0..;
        resource_type: i8      => 1.., default 16, ignorable;
    }
}
