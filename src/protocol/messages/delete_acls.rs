//! DeleteAcls: removes access control entries that match filters.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DeleteAclsRequest<'a> of DeleteAcls {
        filters: Array<'a, DeleteAclsFilter<'a>> => 1..;
    }

    struct DeleteAclsFilter<'a> {
        resource_type_filter: i8              => 1..;
        resource_name_filter: Option<&'a str> => 1.., null 1.., default Some("");
        pattern_type_filter: i8               => 1.., default 3;
        principal_filter: Option<&'a str>     => 1.., null 1.., default Some("");
        host_filter: Option<&'a str>          => 1.., null 1.., default Some("");
        operation: i8                         => 1..;
        permission_type: i8                   => 1..;
    }

    response DeleteAclsResponse<'a> of DeleteAcls {
        throttle_time_ms: i32                                 => 1..;
        filter_results: Array<'a, DeleteAclsFilterResult<'a>> => 1..;
    }

    struct DeleteAclsFilterResult<'a> {
        error_code: i16                                     => 1..;
        error_message: Option<Str<'a>>                      => 1.., null 1.., default Some(Str::EMPTY);
        matching_acls: Array<'a, DeleteAclsMatchingAcl<'a>> => 1..;
    }

    struct DeleteAclsMatchingAcl<'a> {
        error_code: i16                => 1..;
        error_message: Option<Str<'a>> => 1.., null 1.., default Some(Str::EMPTY);
        resource_type: i8              => 1..;
        resource_name: Str<'a>         => 1..;
        pattern_type: i8               => 1.., default 3;
        principal: Str<'a>             => 1..;
        host: Str<'a>                  => 1..;
        operation: i8                  => 1..;
        permission_type: i8            => 1..;
    }
}
