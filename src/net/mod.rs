//! Connections of one shard: bytes to frames, and replies back in request order.
//!
//! *Owns* connection state, partial frames and response queues. *Never* decodes a request. *Invariant*: replies leave in the
//! order their requests came; nothing is sent for `acks=0`; what one connection can hold is bounded by `limits`.
//! Called by `shard`; returns what to do instead of doing I/O, except for the socket operations of [`Connections`].

mod admission;
mod connection;
mod framing;
mod response_queue;
mod table;

pub use admission::{Admission, AdmissionLimits};
pub use connection::{
    Connection, ConnectionId, ConnectionLimits, ROUND_REQUEST_BYTES_MAX, TURN_REQUEST_BYTES_MAX,
};
pub use framing::{Frame, FrameError, FrameSplitter};
pub use response_queue::{Piece, Response, ResponseQueue, Sequence};
pub use table::{Connections, Entrance, Input, NetCounts, Reading, Taken};
