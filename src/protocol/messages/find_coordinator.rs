//! FindCoordinator: which broker coordinates a group or a transactional id; several keys from version 4.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request FindCoordinatorRequest<'a> of FindCoordinator {
        key: &'a str                         => 0..=3;
        key_type: i8                         => 1..;
        coordinator_keys: Array<'a, &'a str> => 4..;
    }

    response FindCoordinatorResponse<'a> of FindCoordinator {
        throttle_time_ms: i32                    => 1.., ignorable;
        error_code: i16                          => 0..=3;
        error_message: Option<Str<'a>>           => 1..=3, null 1..=3, default Some(Str::EMPTY), ignorable;
        node_id: i32                             => 0..=3;
        host: Str<'a>                            => 0..=3;
        port: i32                                => 0..=3;
        coordinators: Array<'a, Coordinator<'a>> => 4..;
    }

    struct Coordinator<'a> {
        key: Str<'a>                   => 4..;
        node_id: i32                   => 4..;
        host: Str<'a>                  => 4..;
        port: i32                      => 4..;
        error_code: i16                => 4..;
        error_message: Option<Str<'a>> => 4.., null 4.., default Some(Str::EMPTY), ignorable;
    }
}
