//! Whole frames: length prefix, header, body.

use bytes::{Bytes, BytesMut};

use crate::protocol::header::{RequestHeader, encode_response_header};
use crate::protocol::message::{Request, Response};
use crate::protocol::writer::{Cuts, Writer};

/// Appends the whole response frame to `out`. For responses without records: those would be copied.
pub fn write_response<'a>(
    response: &impl Response<'a>,
    version: i16,
    correlation_id: i32,
    out: &mut BytesMut,
) {
    let mut writer = Writer::contiguous(out);
    fill_response(response, version, correlation_id, &mut writer);
}

/// The whole response frame as pieces to send in order. Records stay where they are; the small bytes between them come
/// from `scratch`, which is left as it was and can serve again at once. The pieces' total is the length prefix plus four.
pub fn response_slices<'a>(
    response: &impl Response<'a>,
    version: i16,
    correlation_id: i32,
    scratch: &mut BytesMut,
) -> Vec<Bytes> {
    let mut writer = Writer::slices(scratch);
    fill_response(response, version, correlation_id, &mut writer);
    writer.into_slices()
}

/// As [`response_slices`], with memory that was used before: the pieces go to the end of `pieces`, the small bytes among them are
/// split off the front of `scratch`, which has to be empty.
pub fn response_slices_into<'a>(
    response: &impl Response<'a>,
    version: i16,
    correlation_id: i32,
    scratch: &mut BytesMut,
    room: &mut Cuts,
    pieces: &mut Vec<Bytes>,
) {
    assert!(scratch.is_empty(), "a frame begins at the front of its buffer");
    let mut writer = Writer::slices_in(scratch, room);
    fill_response(response, version, correlation_id, &mut writer);
    writer.move_slices(room, pieces);
}

fn fill_response<'a, M: Response<'a>>(
    response: &M,
    version: i16,
    correlation_id: i32,
    writer: &mut Writer<'_>,
) {
    writer.put(&[0; 4]);
    encode_response_header(writer, M::API, version, correlation_id);
    response.encode_to(writer, version);
    writer.patch_frame_length();
}

/// Appends the whole request frame to `out`.
pub fn write_request<'a, M: Request<'a>>(
    request: &M,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    out: &mut BytesMut,
) {
    let mut writer = Writer::contiguous(out);
    fill_request(request, version, correlation_id, client_id, &mut writer);
}

/// The whole request frame as pieces to send in order, as [`response_slices`] gives those of a response.
pub fn request_slices<'a>(
    request: &impl Request<'a>,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    scratch: &mut BytesMut,
) -> Vec<Bytes> {
    let mut writer = Writer::slices(scratch);
    fill_request(request, version, correlation_id, client_id, &mut writer);
    writer.into_slices()
}

fn fill_request<'a, M: Request<'a>>(
    request: &M,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    writer: &mut Writer<'_>,
) {
    writer.put(&[0; 4]);
    RequestHeader { api_key: M::API.key(), api_version: version, correlation_id, client_id }.encode(writer);
    request.encode_to(writer, version);
    writer.patch_frame_length();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api::ApiKey;
    use crate::protocol::header::decode_header;
    use crate::protocol::header::decode_response_header;
    use crate::protocol::message::Message;
    use crate::protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::protocol::messages::produce::{
        PartitionBatches, ProduceBatchesRequest, ProduceRequest, TopicBatches,
    };
    use crate::protocol::text::Records;

    fn partition(index: i32, records: Records<'static>) -> PartitionData<'static> {
        PartitionData { partition_index: index, records: Some(records), ..Default::default() }
    }

    #[test]
    fn a_fetch_response_as_slices_is_the_contiguous_one_without_the_copy() {
        let log = Bytes::from(vec![0xab; 10_000]);
        let partitions = vec![
            partition(0, vec![log.slice(..4_000), log.slice(4_000..9_000)].into()),
            partition(1, Records::EMPTY),
            partition(2, log.slice(9_000..).into()),
        ];
        let topic = FetchableTopicResponse { partitions: partitions.into(), ..Default::default() };
        let response = FetchResponse { responses: vec![topic].into(), ..Default::default() };
        for version in ApiKey::Fetch.versions() {
            let mut scratch = BytesMut::from(&b"kept"[..]);
            let pieces = response_slices(&response, version, 77, &mut scratch);
            assert_eq!(scratch, &b"kept"[..]);
            let mut whole = BytesMut::new();
            write_response(&response, version, 77, &mut whole);
            assert_eq!(pieces.concat(), whole, "version {version}");
            assert_eq!(whole[..4], (whole.len() as u32 - 4).to_be_bytes());
            for slice in [0..4_000, 4_000..9_000, 9_000..10_000] {
                let slice = log.slice(slice);
                assert!(
                    pieces.iter().any(|piece| piece.as_ptr() == slice.as_ptr() && piece.len() == slice.len())
                );
            }
            let (correlation_id, mut body) =
                decode_response_header(&whole[4..], ApiKey::Fetch, version).unwrap();
            assert_eq!(correlation_id, 77);
            let decoded = FetchResponse::decode(&mut body, version).unwrap();
            let partitions = decoded.responses.first().unwrap().partitions;
            let sizes: Vec<_> = partitions.iter().map(|partition| partition.records.unwrap().len()).collect();
            assert_eq!(sizes, [9_000, 0, 1_000]);
        }
    }

    #[test]
    fn a_producers_batches_leave_from_where_they_lie_as_the_request_that_a_broker_reads() {
        let batch = Bytes::from(vec![0xab; 1_000]);
        let ours = ProduceBatchesRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicBatches {
                name: "orders",
                partition_data: vec![PartitionBatches { index: 3, records: Some(batch.clone().into()) }]
                    .into(),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        };
        for version in 3..=12 {
            let pieces = request_slices(&ours, version, 7, Some("me"), &mut BytesMut::new());
            assert_eq!(pieces[1].as_ptr(), batch.as_ptr());
            let whole = pieces.concat();
            assert_eq!(whole[..4], (whole.len() as u32 - 4).to_be_bytes());
            let (header, mut body) = decode_header(&whole[4..]).unwrap();
            assert_eq!((header.api_version, header.correlation_id), (version, 7));
            let theirs = ProduceRequest::decode(&mut body, version).unwrap();
            assert!(body.remaining().is_empty());
            assert_eq!((theirs.acks, theirs.timeout_ms), (-1, 30_000));
            let topic = theirs.topic_data.first().unwrap();
            let data = topic.partition_data.first().unwrap();
            assert_eq!((topic.name, data.index, data.records), ("orders", 3, Some(&batch[..])));
        }
    }

    #[test]
    fn frames_append_to_what_the_buffer_holds() {
        let mut out = BytesMut::new();
        for correlation_id in [1, 2] {
            write_response(&FetchResponse::default(), 4, correlation_id, &mut out);
        }
        let half = out.len() / 2;
        assert_eq!(out[..4], out[half..half + 4]);
        assert_eq!((out[7], out[half + 7]), (1, 2));
    }
}
