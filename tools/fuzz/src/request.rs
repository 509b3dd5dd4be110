//! Whole requests: header and body of any API and version.

use bytes::BytesMut;
use corelog::protocol::messages::AnyRequest;
use corelog::protocol::{Reader, Writer, decode_header};

/// `data` is a frame without its length prefix.
pub fn request(data: &[u8]) {
    let Ok((header, mut body)) = decode_header(data) else {
        return;
    };
    let Some(api) = header.served_api() else {
        return;
    };
    let version = header.api_version;
    let Ok(request) = AnyRequest::decode(api, version, &mut body) else {
        return;
    };
    // Writing reads every lazy array again. What was written is the canonical form: it reads and writes as itself.
    let mut canonical = BytesMut::new();
    request.encode_to(&mut Writer::contiguous(&mut canonical), version);
    let mut reader = Reader::new(&canonical);
    let again = AnyRequest::decode(api, version, &mut reader).expect("a request that we wrote");
    assert!(reader.remaining().is_empty());
    assert_eq!(again, request);
    let mut twice = BytesMut::new();
    again.encode_to(&mut Writer::contiguous(&mut twice), version);
    assert_eq!(twice, canonical);
}
