//! ApiVersions: which APIs and versions the broker speaks; the first request of most clients.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request ApiVersionsRequest<'a> of ApiVersions {
        client_software_name: &'a str    => 3.., ignorable;
        client_software_version: &'a str => 3.., ignorable;
    }

    response ApiVersionsResponse<'a> of ApiVersions {
        error_code: i16                                        => 0..;
        api_keys: Array<'a, ApiVersion>                        => 0..;
        throttle_time_ms: i32                                  => 1.., ignorable;
        supported_features: Array<'a, SupportedFeatureKey<'a>> => 3.., tag 0, ignorable;
        finalized_features_epoch: i64                          => 3.., tag 1, default -1, ignorable;
        finalized_features: Array<'a, FinalizedFeatureKey<'a>> => 3.., tag 2, ignorable;
        zk_migration_ready: bool                               => 3.., tag 3, ignorable;
    }

    struct ApiVersion {
        api_key: i16     => 0..;
        min_version: i16 => 0..;
        max_version: i16 => 0..;
    }

    struct SupportedFeatureKey<'a> {
        name: Str<'a>    => 3..;
        min_version: i16 => 3..;
        max_version: i16 => 3..;
    }

    struct FinalizedFeatureKey<'a> {
        name: Str<'a>          => 3..;
        max_version_level: i16 => 3..;
        min_version_level: i16 => 3..;
    }
}
