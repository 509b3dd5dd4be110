//! CreateAcls: adds access control entries.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request CreateAclsRequest<'a> of CreateAcls {
        creations: Array<'a, AclCreation<'a>> => 1..;
    }

    struct AclCreation<'a> {
        resource_type: i8         => 1..;
        resource_name: &'a str    => 1..;
        resource_pattern_type: i8 => 1.., default 3;
        principal: &'a str        => 1..;
        host: &'a str             => 1..;
        operation: i8             => 1..;
        permission_type: i8       => 1..;
    }

    response CreateAclsResponse<'a> of CreateAcls {
        throttle_time_ms: i32                     => 1..;
        results: Array<'a, AclCreationResult<'a>> => 1..;
    }

    struct AclCreationResult<'a> {
        error_code: i16                => 1..;
        error_message: Option<Str<'a>> => 1.., null 1.., default Some(Str::EMPTY);
    }
}
