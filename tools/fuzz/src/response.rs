//! Response bodies of any API and version, as our client reads them.

use bytes::BytesMut;
use corelog::protocol::messages::AnyResponse;
use corelog::protocol::{ApiKey, Reader, Writer};

/// The first two bytes are the api key, the next two the version, the rest a response without length prefix and header.
pub fn response(data: &[u8]) {
    let Some((&[k0, k1, v0, v1], body)) = data.split_first_chunk() else {
        return;
    };
    let version = i16::from_be_bytes([v0, v1]);
    let Some(api) = ApiKey::from_key(i16::from_be_bytes([k0, k1])) else {
        return;
    };
    let Ok(response) = AnyResponse::decode(api, version, &mut Reader::new(body)) else {
        return;
    };
    let mut canonical = BytesMut::new();
    response.encode_to(&mut Writer::contiguous(&mut canonical), version);
    let mut reader = Reader::new(&canonical);
    let again = AnyResponse::decode(api, version, &mut reader).expect("a response that we wrote");
    assert!(reader.remaining().is_empty());
    assert_eq!(again, response);
    let mut twice = BytesMut::new();
    again.encode_to(&mut Writer::contiguous(&mut twice), version);
    assert_eq!(twice, canonical);
}
