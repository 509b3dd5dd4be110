//! Response frames: length prefix, response header, body.

use bytes::{BufMut, Bytes, BytesMut};

use super::pending::Origin;
use crate::buffer::{Arena, keep_slices, spare_slices};
use crate::net::{Piece, Response};
use crate::protocol::messages::fetch::FetchResponse;
use crate::protocol::{self, Cuts, response_slices_into, write_response};
use crate::reactor::Piped;

/// The frame of an encoded body, without copying it: prefix and header are a slice of their own.
pub fn frame_of_bytes(origin: &Origin, body: Bytes) -> Vec<Bytes> {
    // Correlation id, and an empty tag section in flexible versions.
    let header_bytes = if origin.api_key.response_header_version(origin.version) >= 1 { 5 } else { 4 };
    let mut head = BytesMut::with_capacity(4 + header_bytes);
    let length = i32::try_from(header_bytes + body.len()).expect("a response stays below 2 GiB");
    head.put_i32(length);
    head.put_i32(origin.correlation_id);
    head.put_bytes(0, header_bytes - 4);
    if body.len() < 1024 {
        // One small slice costs less than two entries of a gather list.
        head.extend_from_slice(&body);
        return vec![head.freeze()];
    }
    vec![head.freeze(), body]
}

pub fn frame_of(origin: &Origin, body: BytesMut) -> Vec<Bytes> {
    frame_of_bytes(origin, body.freeze())
}

/// Bytes of a reply without records, with which most of them find room.
const REPLY_BYTES: usize = 256;

/// Replies are made in blocks of this size: a round of a few hundred small ones.
const BLOCK_BYTES: usize = 64 << 10;

/// Memory for replies, used again once they are sent.
pub struct Frames {
    arena: Arena,
    cuts: Cuts,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames { arena: Arena::new(BLOCK_BYTES), cuts: Cuts::default() }
    }
}

impl Frames {
    /// The frame of a response without records.
    pub fn whole<'a>(&mut self, origin: &Origin, response: &impl protocol::Response<'a>) -> Response {
        Response::Frame(self.arena.make(REPLY_BYTES, |buffer| {
            write_response(response, origin.version, origin.correlation_id, buffer);
        }))
    }

    /// The frame of a fetch response: small pieces from one buffer, record bytes from where they lie, those in pipes in the order
    /// of the partitions that leave them out.
    pub fn slices(&mut self, origin: &Origin, response: &FetchResponse<'_>, pipes: Vec<Piped>) -> Response {
        let mut pieces = spare_slices();
        let buffer = self.arena.buffer(REPLY_BYTES);
        let (version, correlation_id) = (origin.version, origin.correlation_id);
        response_slices_into(response, version, correlation_id, buffer, &mut self.cuts, &mut pieces);
        if pipes.is_empty() {
            return Response::Send(pieces);
        }
        let mut pipes = pipes.into_iter();
        let piece = |bytes: Bytes| match bytes.is_empty() {
            true => Piece::Piped(pipes.next().expect("a place for each pipe")),
            false => Piece::Bytes(bytes),
        };
        let all = pieces.drain(..).map(piece).collect();
        keep_slices(pieces);
        Response::Pieces(all)
    }
}
