//! Bytes that are no message: an error or a shorter message, never a panic, never memory.

use corelog::protocol::messages::{AnyRequest, AnyResponse};
use corelog::protocol::{ApiKey, DecodeError, Fault, Reader, decode_header};
use proptest::prelude::*;

use crate::allocation::allocated_bytes;
use crate::codecs::{Direction, Layout, layouts};
use crate::generate::{Generator, Random};

/// Decodes and asserts that nothing was allocated for it.
fn decode(layout: Layout, body: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(body);
    let (result, bytes) = allocated_bytes(|| match layout.direction {
        Direction::Request => AnyRequest::decode(layout.api, layout.version, &mut reader).map(drop),
        Direction::Response => AnyResponse::decode(layout.api, layout.version, &mut reader).map(drop),
    });
    assert_eq!(bytes, 0, "{layout:?} allocated for {} bytes", body.len());
    result
}

/// Decodes, and reads every array again by encoding, which must not fail once decoding did not.
fn decode_and_walk(layout: Layout, body: &[u8]) {
    if decode(layout, body).is_ok() {
        let mut reader = Reader::new(body);
        let mut out = bytes::BytesMut::new();
        let mut writer = corelog::protocol::Writer::contiguous(&mut out);
        match layout.direction {
            Direction::Request => AnyRequest::decode(layout.api, layout.version, &mut reader)
                .unwrap()
                .encode_to(&mut writer, layout.version),
            Direction::Response => AnyResponse::decode(layout.api, layout.version, &mut reader)
                .unwrap()
                .encode_to(&mut writer, layout.version),
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for layout in layouts() {
        for round in 0..3 {
            let mut random = Random::new(round);
            let (body, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
            assert_eq!(decode(layout, &body), Ok(()), "{layout:?}");
            for length in 0..body.len() {
                // No schema ends in an optional part, so a shorter body is never whole.
                let error = decode(layout, &body[..length]).unwrap_err();
                assert!(error.position <= length, "{layout:?} at {length}: {error}");
            }
        }
    }
}

#[test]
fn counts_beyond_the_frame_are_refused_before_anything_is_made() {
    let check = |api, version, body: &[u8], count, field: &str| {
        let layout = Layout { api, direction: Direction::Request, version };
        let error = decode(layout, body).unwrap_err();
        assert!(matches!(error.fault, Fault::CountBeyondFrame { count: c, .. } if c == count), "{error}");
        assert_eq!(error.field, field);
    };
    // Two billion topics in a classic and in a compact array.
    check(ApiKey::Metadata, 1, b"\x7f\xff\xff\xff\0\0\0\0", 0x7fff_ffff, "MetadataRequest.topics");
    check(ApiKey::Metadata, 9, b"\xff\xff\xff\xff\x07\0\0\0\0", 0x7fff_fffe, "MetadataRequest.topics");
    // Three int32 in eleven bytes.
    let mut fetch = vec![0; 29];
    fetch.extend_from_slice(b"\0\0\0\x01\0\x01t\0\0\0\x0312345678901");
    check(ApiKey::Fetch, 7, &fetch, 3, "ForgottenTopic.partitions");
}

#[test]
fn errors_name_field_and_byte() {
    let check = |api, version, body: &[u8], fault, field: &str, position| {
        let error = decode(Layout { api, direction: Direction::Request, version }, body).unwrap_err();
        assert_eq!((error.fault, error.field, error.position), (fault, field, position));
    };
    check(
        ApiKey::Heartbeat,
        0,
        b"\0\x02g",
        Fault::Truncated { wanted: 2, left: 1 },
        "HeartbeatRequest.group_id",
        2,
    );
    check(ApiKey::Heartbeat, 0, b"\0\x02\xff\xff", Fault::NotUtf8, "HeartbeatRequest.group_id", 2);
    check(ApiKey::Heartbeat, 0, b"\xff\xff", Fault::Null, "HeartbeatRequest.group_id", 2);
    check(ApiKey::Heartbeat, 0, b"\xff\xfe", Fault::NegativeLength(-2), "HeartbeatRequest.group_id", 2);
    check(
        ApiKey::Heartbeat,
        4,
        b"\x81\x80\x02",
        Fault::StringTooLong(32_768),
        "HeartbeatRequest.group_id",
        3,
    );
    check(ApiKey::Heartbeat, 5, b"", Fault::UnsupportedVersion { api_key: 12, version: 5 }, "", 0);
    // A tagged field (cluster id) that announces one byte more than its string takes.
    let mut fetch = vec![0; 21];
    fetch.extend_from_slice(b"\xff\xff\xff\xff\x01\x01\x01\x01\x00\x03\x02a?");
    check(ApiKey::Fetch, 12, &fetch, Fault::TagSize { tag: 0 }, "FetchRequest.cluster_id", 33);
}

/// Any layout by number.
fn layout_at(index: usize) -> Layout {
    let all: Vec<_> = layouts().collect();
    all[index % all.len()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate(index in any::<usize>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_and_walk(layout_at(index), &body);
        let _ = decode_header(&body);
    }

    #[test]
    fn mutated_bodies_neither_panic_nor_allocate(
        index in any::<usize>(),
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let layout = layout_at(index);
        let (mut body, _) =
            Generator::new(layout.api, layout.version, &mut Random::new(seed)).body(layout.shape());
        for (place, byte) in changes {
            if !body.is_empty() {
                let at = place.index(body.len());
                body[at] = byte;
            }
        }
        decode_and_walk(layout, &body);
    }
}
