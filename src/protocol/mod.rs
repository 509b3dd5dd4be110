//! Kafka's wire protocol: frames to borrowed messages and back. No I/O, no state, no clock.
//!
//! Owns the table of APIs (`api`), headers, error codes and one file per API under `messages`, where each field stands
//! once with its type, versions, nullability, tag and default (`message` has the legend). Never holds a connection, and
//! knows no meaning: what a request asks for is `server`'s business.
//!
//! Boundary: what peers send is parsed here and never asserted. A count or length is held against the bytes left before
//! anything is taken; decoding allocates nothing at all (arrays are views of the frame that are read again on use), so a
//! request's memory is its frame. What we send is ours: a field set in a version that lacks it is asserted in debug builds.
//!
//! Callers: `net` cuts the byte stream into frames; `server/dispatch` splits header and body and decodes; handlers compose
//! responses; `client` and tests use the other direction of the same messages.
//!
//! Decoding a request and encoding its response:
//!
//! ```
//! use bytes::BytesMut;
//! use corelog::protocol::messages::metadata::{MetadataRequest, MetadataResponse, MetadataResponseTopic};
//! use corelog::protocol::{Message, decode_header, write_request, write_response};
//!
//! let mut sent = BytesMut::new();
//! write_request(&MetadataRequest { topics: None, ..Default::default() }, 12, 7, Some("me"), &mut sent);
//!
//! let (header, mut body) = decode_header(&sent[4..])?; // after the length prefix
//! assert_eq!(header.client_id, Some("me"));
//! let request = MetadataRequest::decode(&mut body, header.api_version)?;
//! assert!(request.topics.is_none(), "null means all topics");
//!
//! let name: std::sync::Arc<str> = "orders".into();
//! let response = MetadataResponse {
//!     controller_id: 1,
//!     topics: vec![MetadataResponseTopic { name: Some((&name).into()), ..Default::default() }].into(),
//!     ..Default::default()
//! };
//! let mut answer = BytesMut::new();
//! write_response(&response, header.api_version, header.correlation_id, &mut answer);
//! # Ok::<(), corelog::protocol::DecodeError>(())
//! ```
//!
//! (A request for a version of ApiVersions that we do not serve has no body for us: `served_api` says no, and the answer is
//! an `ApiVersionsResponse` written in version 0.)
//!
//! A fetch response sends slices of the log from where they lie:
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use corelog::protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
//! use corelog::protocol::{Records, response_slices};
//!
//! let tail = vec![Bytes::from_static(b"batch 1"), Bytes::from_static(b"batch 2")];
//! let partition = PartitionData { high_watermark: 9, records: Some(tail.into()), ..Default::default() };
//! let topic = FetchableTopicResponse { partitions: vec![partition].into(), ..Default::default() };
//! let response = FetchResponse { responses: vec![topic].into(), ..Default::default() };
//!
//! let mut scratch = BytesMut::new();
//! let pieces = response_slices(&response, 16, 7, &mut scratch);
//! assert_eq!(pieces.len(), 4); // what comes before the records, two slices, what comes after
//! let total: usize = pieces.iter().map(Bytes::len).sum();
//! assert_eq!(pieces[0][..4], (total as u32 - 4).to_be_bytes());
//! ```

pub mod api;
mod array;
mod codec;
mod error_code;
mod frame;
mod header;
mod message;
pub mod messages;
mod reader;
pub mod shape;
mod text;
mod writer;

pub use api::ApiKey;
pub use array::{Array, Iter};
pub use codec::{Format, Nullable, Wire};
pub use error_code::ErrorCode;
pub use frame::{request_slices, response_slices, response_slices_into, write_request, write_response};
pub use header::{RequestHeader, decode_header, decode_response_header, encode_response_header};
pub use message::{Message, Request, Response};
pub use reader::{DecodeError, Fault, Reader};
pub use text::{Blob, Records, Str};
pub use writer::{Cuts, Writer};
