//! Request headers: any bytes give a header or an error.

use bytes::BytesMut;
use corelog::protocol::{Writer, decode_header};

/// `data` is a frame without its length prefix.
pub fn header(data: &[u8]) {
    let Ok((header, body)) = decode_header(data) else {
        return;
    };
    assert!(data.ends_with(body.remaining()), "the body is the end of the frame");
    assert_eq!(body.position() + body.remaining().len(), data.len());
    // What we write is what we read; tagged fields are the only thing that may be gone.
    let mut out = BytesMut::new();
    header.encode(&mut Writer::contiguous(&mut out));
    let (again, rest) = decode_header(&out).expect("a header that we wrote");
    assert_eq!(again, header);
    assert!(rest.remaining().is_empty());
}
