//! Heartbeat: a classic group member's sign of life.

use crate::protocol::message::message;

message! {
    request HeartbeatRequest<'a> of Heartbeat {
        group_id: &'a str                  => 0..;
        generation_id: i32                 => 0..;
        member_id: &'a str                 => 0..;
        group_instance_id: Option<&'a str> => 3.., null 3..;
    }

    response HeartbeatResponse of Heartbeat {
        throttle_time_ms: i32 => 1.., ignorable;
        error_code: i16       => 0..;
    }
}
