//! One connection's state.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::admission::Admitted;
use super::framing::FrameSplitter;
use super::response_queue::ResponseQueue;
use crate::mesh::Ticket;
use crate::metrics::Tally;
use crate::model::{Endpoint, Monotonic};
use crate::reactor::{Received, Socket};

/// Bytes that arrived, and when.
pub(super) struct Arrived {
    pub received: Received,
    pub at: Monotonic,
}

/// Names a connection of this shard; a later connection in the same slot has another generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// What one connection may hold.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Requests received and not answered.
    pub requests_max: usize,
    /// Bytes of replies on their way, waiting to be sent, or promised.
    pub response_bytes_max: usize,
    /// Bytes of replies of all connections of this shard, on their way or waiting to be sent.
    pub shard_reply_bytes_max: usize,
    /// Bytes of one request frame.
    pub request_bytes_max: u32,
    /// Connections of this shard.
    pub connections_max: usize,
    /// Bytes of unfinished requests of all connections of this shard.
    pub unfinished_bytes_max: usize,
}

/// Bytes of requests that one connection may have unanswered before it is not read from: enough to keep a disk busy, and a
/// producer that is faster than the disk waits in its own socket instead of being refused, which would cost it its order.
const REQUEST_BYTES_UNANSWERED_MAX: usize = 8 << 20;

/// Bytes of requests that one connection has taken in a turn while others wait for theirs. One request may go beyond.
pub const TURN_REQUEST_BYTES_MAX: usize = 256 << 10;

/// Bytes of requests that a round takes of all connections: what is above waits until this round's appends and replies are on
/// their way. Twice what the receive buffers hold: the rest comes of connections that were not read from for a while.
pub const ROUND_REQUEST_BYTES_MAX: usize = 2 << 20;

/// How far a connection is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    /// No more requests are read; closes when what is queued to send is sent.
    LastReplies,
    /// The close operation is submitted.
    Closing,
}

/// One client's stream. *Invariant*: at most one receive and one send of it are in flight.
pub struct Connection {
    pub(super) socket: Socket,
    pub(super) phase: Phase,
    pub(super) splitter: Option<FrameSplitter>,
    /// Buffers received and not yet split, oldest first; after `backlog`.
    pub(super) inbox: VecDeque<Arrived>,
    /// Bytes used of its first buffer.
    pub(super) inbox_position: usize,
    /// Bytes kept aside while the connection is parked, so that it holds none of the shared buffers.
    pub(super) backlog: BytesMut,
    /// When the newest of them arrived. Nothing more is received until all of them are split, so they came together.
    pub(super) backlog_at: Monotonic,
    /// Bytes of an unfinished request, as counted in the table's total.
    pub(super) held_bytes: usize,
    pub(super) receive_armed: bool,
    pub(super) receive_cancelled: bool,
    pub(super) ended: bool,
    pub(super) sending: bool,
    /// Of the send in flight.
    pub(super) sending_bytes: usize,
    pub(super) queued_for_send: bool,
    pub(super) queued_for_input: bool,
    pub(super) last_active: Monotonic,
    pub responses: ResponseQueue,
    /// The requests from here that wait for an answer.
    pub pending: Vec<Ticket>,
    pub peer: IpAddr,
    /// Its place among those of the node, until it is gone.
    pub(super) _admitted: Admitted,
    /// Where it came in. `None`: at a port that all endpoints of the node share.
    pub endpoint: Option<Endpoint>,
    /// The last client id it sent; requests repeat it, so one allocation serves them all.
    pub client_id: Option<Arc<str>>,
    pub(super) tally: Tally,
}

impl Connection {
    pub(super) fn new(
        socket: Socket,
        peer: IpAddr,
        admitted: Admitted,
        endpoint: Option<Endpoint>,
        limits: &ConnectionLimits,
        now: Monotonic,
    ) -> Connection {
        Connection {
            socket,
            phase: Phase::Open,
            splitter: Some(FrameSplitter::new(limits.request_bytes_max)),
            inbox: VecDeque::new(),
            inbox_position: 0,
            backlog: BytesMut::new(),
            backlog_at: now,
            held_bytes: 0,
            receive_armed: false,
            receive_cancelled: false,
            ended: false,
            sending: false,
            sending_bytes: 0,
            queued_for_send: false,
            queued_for_input: false,
            last_active: now,
            responses: ResponseQueue::default(),
            pending: Vec::new(),
            peer,
            _admitted: admitted,
            endpoint,
            client_id: None,
            tally: Tally::default(),
        }
    }

    /// Takes no more requests for now: too many unanswered ones, or replies that the client does not read. One that is to
    /// be closed takes none ever: what comes after a request that ends the stream is not served.
    pub fn is_full(&self, limits: &ConnectionLimits) -> bool {
        self.responses.closes()
            || self.responses.len() >= limits.requests_max
            || self.reply_bytes() >= limits.response_bytes_max
            || self.responses.request_bytes() >= REQUEST_BYTES_UNANSWERED_MAX
    }

    fn reply_bytes(&self) -> usize {
        self.unsent_bytes() + self.responses.promised_bytes()
    }

    /// Bytes of replies that are there and have not left.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.sending_bytes + self.responses.queued_bytes()
    }

    /// The client has closed its side: it gets what it is owed and asks for nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Its end would be noticed: the kernel has a receive of it that is not on its way out.
    pub(super) fn is_heard(&self) -> bool {
        self.receive_armed && !self.receive_cancelled
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn has_input(&self) -> bool {
        self.backlog.has_remaining() || !self.inbox.is_empty()
    }

    /// Remembers the client id of a request; the same one again costs a comparison.
    pub fn remember_client_id(&mut self, client_id: Option<&str>) {
        if self.client_id.as_deref() != client_id {
            self.client_id = client_id.map(Arc::from);
        }
    }
}
