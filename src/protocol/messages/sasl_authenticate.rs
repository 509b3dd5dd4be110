//! SaslAuthenticate: carries the messages of a login. Only our client asks it.

use crate::protocol::message::message;
use crate::protocol::{Blob, Str};

message! {
    request SaslAuthenticateRequest<'a> of SaslAuthenticate {
        auth_bytes: &'a [u8] => 0..;
    }

    response SaslAuthenticateResponse<'a> of SaslAuthenticate {
        error_code: i16                => 0..;
        error_message: Option<Str<'a>> => 0.., null 0..;
        auth_bytes: Blob<'a>           => 0..;
        session_lifetime_ms: i64       => 1.., ignorable;
    }
}
