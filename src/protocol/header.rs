//! Headers of requests and responses.
//!
//! | request header | bytes |
//! | --- | --- |
//! | api key | 2 |
//! | api version | 2 |
//! | correlation id | 4 |
//! | client id | int16 length, bytes; null: -1 (classic in every version) |
//! | tagged fields | header version 2 only |
//!
//! | response header | bytes |
//! | --- | --- |
//! | correlation id | 4 |
//! | tagged fields | header version 1 only |
//!
//! Source: Apache Kafka 4.3.1, `RequestHeader.json`, `ResponseHeader.json`.

use crate::protocol::api::ApiKey;
use crate::protocol::reader::{DecodeError, Reader};
use crate::protocol::writer::Writer;

/// What precedes every request's body. Key and version are as the peer sent them: known to us or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

impl RequestHeader<'_> {
    /// `None`: not an API of ours.
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_key(self.api_key)
    }

    /// The API, if we serve it in the version asked for.
    pub fn served_api(&self) -> Option<ApiKey> {
        self.api().filter(|api| api.serves(self.api_version))
    }

    fn version(&self) -> i16 {
        self.api().map_or(1, |api| api.request_header_version(self.api_version))
    }

    /// Writes the header of a request to an API of ours.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put(&self.api_key.to_be_bytes());
        writer.put(&self.api_version.to_be_bytes());
        writer.put(&self.correlation_id.to_be_bytes());
        writer.put_str(self.client_id, false);
        if self.version() >= 2 {
            writer.put_uvarint(0);
        }
    }
}

/// Splits a frame (without its length prefix) into header and body. The caller asks `served_api` before it decodes the
/// body; the header of an unknown API is read as version 1, which is the beginning of every other.
pub fn decode_header(frame: &[u8]) -> Result<(RequestHeader<'_>, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = decode_request_header(&mut reader)?;
    Ok((header, reader))
}

fn decode_request_header<'a>(reader: &mut Reader<'a>) -> Result<RequestHeader<'a>, DecodeError> {
    let in_header = |error: DecodeError| error.in_field("RequestHeader");
    let header = RequestHeader {
        api_key: i16::from_be_bytes(reader.array().map_err(in_header)?),
        api_version: i16::from_be_bytes(reader.array().map_err(in_header)?),
        correlation_id: i32::from_be_bytes(reader.array().map_err(in_header)?),
        client_id: reader
            .classic_nullable_str()
            .map_err(|error| error.in_field("RequestHeader.client_id"))?,
    };
    if header.version() >= 2 {
        reader.skip_tagged_fields().map_err(in_header)?;
    }
    Ok(header)
}

/// Splits a response frame (without its length prefix) into correlation id and body; the client knows what it asked.
pub fn decode_response_header(
    frame: &[u8],
    api: ApiKey,
    version: i16,
) -> Result<(i32, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let in_header = |error: DecodeError| error.in_field("ResponseHeader");
    let correlation_id = i32::from_be_bytes(reader.array().map_err(in_header)?);
    if api.response_header_version(version) >= 1 {
        reader.skip_tagged_fields().map_err(in_header)?;
    }
    Ok((correlation_id, reader))
}

/// Writes the header of the response to a request of `api` in `version`.
pub fn encode_response_header(writer: &mut Writer<'_>, api: ApiKey, version: i16, correlation_id: i32) {
    writer.put(&correlation_id.to_be_bytes());
    if api.response_header_version(version) >= 1 {
        writer.put_uvarint(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::reader::Fault;

    #[test]
    fn client_id_is_classic_even_in_a_flexible_header() {
        let header = RequestHeader { api_key: 18, api_version: 3, correlation_id: 7, client_id: Some("ab") };
        let mut out = BytesMut::new();
        header.encode(&mut Writer::contiguous(&mut out));
        assert_eq!(&out[..], b"\0\x12\0\x03\0\0\0\x07\0\x02ab\0");
        out.extend_from_slice(b"body");
        let (decoded, body) = decode_header(&out).unwrap();
        assert_eq!((decoded, body.remaining()), (header, &b"body"[..]));
    }

    #[test]
    fn unknown_apis_have_a_readable_header() {
        let (header, body) = decode_header(b"\x7f\xff\0\x01\0\0\0\x09\xff\xffrest").unwrap();
        assert_eq!((header.api(), header.correlation_id, header.client_id), (None, 9, None));
        assert_eq!(body.remaining(), b"rest");
        let (header, _) = decode_header(b"\0\0\0\x02\0\0\0\x09\xff\xff").unwrap();
        assert_eq!((header.api(), header.served_api()), (Some(ApiKey::Produce), None));
    }

    #[test]
    fn truncated_headers_are_errors() {
        let whole = b"\0\x12\0\x03\0\0\0\x07\0\x02ab\0";
        for length in 0..whole.len() {
            let error = decode_header(&whole[..length]).unwrap_err();
            assert!(matches!(error.fault, Fault::Truncated { .. }), "{length}: {error}");
        }
    }
}
