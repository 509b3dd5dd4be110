//! DescribeAcls: access control entries that match a filter.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeAclsRequest<'a> of DescribeAcls {
        resource_type_filter: i8              => 1..;
        resource_name_filter: Option<&'a str> => 1.., null 1.., default Some("");
        pattern_type_filter: i8               => 1.., default 3;
        principal_filter: Option<&'a str>     => 1.., null 1.., default Some("");
        host_filter: Option<&'a str>          => 1.., null 1.., default Some("");
        operation: i8                         => 1..;
        permission_type: i8                   => 1..;
    }

    response DescribeAclsResponse<'a> of DescribeAcls {
        throttle_time_ms: i32                          => 1..;
        error_code: i16                                => 1..;
        error_message: Option<Str<'a>>                 => 1.., null 1.., default Some(Str::EMPTY);
        resources: Array<'a, DescribeAclsResource<'a>> => 1..;
    }

    struct DescribeAclsResource<'a> {
        resource_type: i8                   => 1..;
        resource_name: Str<'a>              => 1..;
        pattern_type: i8                    => 1.., default 3;
        acls: Array<'a, AclDescription<'a>> => 1..;
    }

    struct AclDescription<'a> {
        principal: Str<'a>  => 1..;
        host: Str<'a>       => 1..;
        operation: i8       => 1..;
        permission_type: i8 => 1..;
    }
}
