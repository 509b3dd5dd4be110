//! SaslHandshake: names the mechanism of the login that follows. Only our client asks it.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request SaslHandshakeRequest<'a> of SaslHandshake {
        mechanism: &'a str => 0..;
    }

    response SaslHandshakeResponse<'a> of SaslHandshake {
        error_code: i16                => 0..;
        mechanisms: Array<'a, Str<'a>> => 0..;
    }
}
