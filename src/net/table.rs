//! All connections of one shard and their socket operations.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::admission::Admission;
use super::connection::{Arrived, Connection, ConnectionId, ConnectionLimits, Phase};
use super::framing::{Frame, FrameError, FrameSplitter};
use super::response_queue::{Ready, Response, Sequence};
use crate::buffer::{keep_slices, note_copied, spare_slices};
use crate::mesh::Ticket;
use crate::metrics::{Busiest, BusyClient, Stage, Timed, Traffic};
use crate::model::{Endpoint, Monotonic};
use crate::reactor::{Completion, Io, Listener, Operation, Outcome, Piped, Room, Socket, Token};
use crate::trace;

/// Bytes of replies handed to one send. 1 MiB: enough to fill a socket buffer, small enough that a round's memory is bounded.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Bytes of replies whose sends one round starts: a send to a socket with room copies them at once, on this thread. What is
/// above waits for the next round, in order; small replies do not wait for large ones.
const ROUND_SEND_BYTES_MAX: usize = 4 << 20;
const SMALL_SEND_BYTES_MAX: usize = 64 << 10;

/// Least share of the memory for replies, however little is free: with it everybody goes on, slowly.
const REPLY_SHARE_BYTES_MIN: usize = 64 << 10;

const KIND_ACCEPT: u64 = 0;
const KIND_RECEIVE: u64 = 1;
const KIND_SEND: u64 = 2;
const KIND_CLOSE: u64 = 3;
const KIND_CANCEL: u64 = 4;

/// Token layout: 4 bits of kind, 24 bits of slot, 28 bits of generation.
fn token(kind: u64, id: ConnectionId) -> Token {
    Token::new(Room::Net, kind << 52 | u64::from(id.slot) << 28 | u64::from(id.generation))
}

fn parse_token(value: u64) -> (u64, ConnectionId) {
    (
        value >> 52,
        ConnectionId { slot: (value >> 28) as u32 & 0xff_ffff, generation: value as u32 & 0xfff_ffff },
    )
}

/// A listening socket, and whose clients come in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entrance {
    pub listener: Listener,
    /// `None`: those of all endpoints of the node.
    pub endpoint: Option<Endpoint>,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// One request of a connection, its bytes lent until the closure returns.
pub struct Input<'a> {
    pub connection: ConnectionId,
    pub frame: Frame<'a>,
    /// When its last byte was there.
    pub received: Monotonic,
    /// For readings of the clock.
    pub io: &'a dyn Io,
}

/// What the owner of the table does with a frame.
pub enum Taken {
    /// Go on with the next frame of this connection.
    Next,
    /// The shard can take no more requests now; the rest of the input stays.
    Later,
}

/// The connections of one shard.
pub struct Connections {
    limits: ConnectionLimits,
    admission: Arc<Admission>,
    idle_max: Duration,
    slots: Vec<Slot>,
    free: Vec<u32>,
    entrances: Vec<Entrance>,
    open_count: usize,
    /// Connections with unread input.
    to_read: VecDeque<ConnectionId>,
    /// Connections with a reply that can leave.
    to_send: VecDeque<ConnectionId>,
    /// Requests of connections that are gone, to be cancelled by the server. Tickets and not slots: until it does, some may
    /// be answered and their slots be given to requests of others.
    orphans: Vec<Ticket>,
    /// Requests of connections whose client has closed its side, for the server to wait no longer.
    unheard: Vec<Ticket>,
    /// Requests whose reply is on its way, with their times, since they were last taken.
    replied: Vec<(ConnectionId, Timed)>,
    busiest: Busiest<ConnectionId>,
    counts: NetCounts,
    /// Bytes of unfinished requests of all connections.
    held_bytes: usize,
    /// Bytes of replies of all connections that have not left.
    unsent_bytes: usize,
}

/// What the connections of a shard did since the counts were last taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetCounts {
    pub accepted: u64,
    /// Closed because there were too many, or too many bytes of unfinished requests.
    pub refused: u64,
    pub idle: u64,
    pub received_bytes: u64,
    /// Handed to the reactor.
    pub sent_bytes: u64,
    /// Sends, each of all replies that a connection had ready.
    pub sends: u64,
}

impl Connections {
    pub fn new(limits: ConnectionLimits, admission: Arc<Admission>, idle_max: Duration) -> Connections {
        Connections {
            limits,
            admission,
            idle_max,
            slots: Vec::new(),
            free: Vec::new(),
            entrances: Vec::new(),
            open_count: 0,
            to_read: VecDeque::new(),
            to_send: VecDeque::new(),
            orphans: Vec::new(),
            unheard: Vec::new(),
            replied: Vec::new(),
            busiest: Busiest::default(),
            counts: NetCounts::default(),
            held_bytes: 0,
            unsent_bytes: 0,
        }
    }

    /// Starts to accept.
    pub fn listen(&mut self, io: &mut dyn Io, entrance: Entrance) {
        self.entrances.push(entrance);
        let listener = entrance.listener;
        let id = ConnectionId { slot: listener.0, generation: 0 };
        submit(io, token(KIND_ACCEPT, id), Operation::Accept { listener });
    }

    pub fn open_count(&self) -> usize {
        self.open_count
    }

    pub fn take_counts(&mut self) -> NetCounts {
        std::mem::take(&mut self.counts)
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation { slot.connection.as_mut() } else { None }
    }

    /// Takes a completion of a socket operation. Errors: accepting ended with this error.
    pub fn complete(
        &mut self,
        io: &mut dyn Io,
        completion: Completion,
        now: Monotonic,
    ) -> Result<(), std::io::Error> {
        let (kind, id) = parse_token(completion.token.value);
        match (kind, completion.outcome) {
            (KIND_ACCEPT, Outcome::Accepted { socket, peer }) => {
                self.accept(io, Listener(id.slot), socket, peer, now);
            }
            (KIND_ACCEPT, Outcome::Failed(error)) => return Err(error),
            (KIND_ACCEPT, _) => {}
            (KIND_RECEIVE, outcome) => self.received(io, id, outcome, completion.more, now),
            (KIND_SEND, Outcome::Done) => self.sent(io, id, now),
            (KIND_SEND, _) => {
                if let Some(connection) = self.get_mut(id) {
                    connection.sending = false;
                }
                self.close(io, id);
            }
            (KIND_CLOSE, _) => self.closed(id),
            (KIND_CANCEL, _) => {}
            (kind, _) => panic!("no socket operation has kind {kind}"),
        }
        Ok(())
    }

    fn accept(
        &mut self,
        io: &mut dyn Io,
        listener: Listener,
        socket: Socket,
        peer: Option<SocketAddr>,
        now: Monotonic,
    ) {
        self.counts.accepted += 1;
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |p| p.ip());
        let has_room = self.open_count < self.limits.connections_max;
        let Some(admitted) = has_room.then(|| self.admission.admit(peer)).flatten() else {
            self.counts.refused += 1;
            let nobody = ConnectionId { slot: 0xff_ffff, generation: 0 };
            submit(io, token(KIND_CLOSE, nobody), Operation::CloseSocket { socket });
            return;
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.generation = (entry.generation + 1) & 0xfff_ffff;
        let id = ConnectionId { slot, generation: entry.generation };
        let mut entrances = self.entrances.iter();
        let entrance = entrances.find(|one| one.listener == listener).expect("it accepts for this table");
        let mut connection = Connection::new(socket, peer, admitted, entrance.endpoint, &self.limits, now);
        connection.receive_armed = true;
        entry.connection = Some(connection);
        self.open_count += 1;
        trace::event(now, "net: accepted (connection, open)", [u64::from(slot), self.open_count as u64, 0]);
        submit(io, token(KIND_RECEIVE, id), Operation::Receive { socket });
    }

    fn received(&mut self, io: &mut dyn Io, id: ConnectionId, outcome: Outcome, more: bool, now: Monotonic) {
        if let Outcome::Received(received) = &outcome {
            self.counts.received_bytes += io.bytes(received).len() as u64;
        }
        let Some(connection) = self.get_mut(id) else {
            if let Outcome::Received(received) = outcome {
                io.give_back(received);
            }
            return;
        };
        if !more {
            connection.receive_armed = false;
        }
        match outcome {
            Outcome::Received(received) => {
                if connection.phase != Phase::Open {
                    io.give_back(received);
                    return;
                }
                connection.last_active = now;
                if connection.receive_cancelled {
                    let bytes = io.bytes(&received);
                    note_copied(bytes.len());
                    connection.backlog.extend_from_slice(bytes);
                    connection.backlog_at = now;
                    io.give_back(received);
                } else {
                    connection.inbox.push_back(Arrived { received, at: now });
                }
                self.want_input(id);
            }
            Outcome::EndOfStream => {
                connection.ended = true;
                let waiting = connection.pending.clone();
                let has_input = connection.has_input();
                self.unheard.extend(waiting);
                if has_input {
                    self.want_input(id);
                } else {
                    self.close_when_answered(io, id);
                }
            }
            Outcome::Cancelled => {
                // The room may have come back between the cancel and its completion.
                self.want_input(id);
            }
            Outcome::Failed(_) => self.close(io, id),
            _ => panic!("a receive brings bytes, the end or an error"),
        }
    }

    /// The client sends no more: it gets what it is owed (it may have closed one side only), then the connection goes.
    fn close_when_answered(&mut self, io: &mut dyn Io, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.responses.is_empty() && !connection.sending {
            self.close(io, id);
        }
    }

    fn want_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if !connection.queued_for_input {
            connection.queued_for_input = true;
            self.to_read.push_back(id);
        }
    }

    /// Unread input is there: the shard must not sleep.
    pub fn has_input(&self) -> bool {
        !self.to_read.is_empty()
    }

    /// Connections with unread input, each once; the caller reads each with [`Connections::read`].
    pub fn take_readable(&mut self) -> Option<ConnectionId> {
        let id = self.to_read.pop_front()?;
        if let Some(connection) = self.get_mut(id) {
            connection.queued_for_input = false;
        }
        Some(id)
    }

    /// Takes the unread input of one connection out of the table, for [`Reading::next`].
    pub fn start_reading(&mut self, id: ConnectionId) -> Option<Reading> {
        let limits = self.limits();
        let connection = self.get_mut(id)?;
        if connection.phase != Phase::Open {
            return None;
        }
        let is_full = connection.is_full(&limits);
        let splitter = connection.splitter.take()?;
        Some(Reading {
            id,
            splitter,
            backlog: std::mem::take(&mut connection.backlog).freeze(),
            backlog_at: connection.backlog_at,
            inbox: std::mem::take(&mut connection.inbox),
            position: std::mem::take(&mut connection.inbox_position),
            is_full,
        })
    }

    /// Puts back what was not used. A connection that is full is parked: its bytes are copied out of the shared
    /// buffers and its receive is cancelled until replies have left.
    pub fn finish_reading(
        &mut self,
        io: &mut dyn Io,
        mut reading: Reading,
        failed: Option<FrameError>,
        blocked: bool,
    ) {
        let id = reading.id;
        let limits = self.limits();
        let Some(connection) = self.get_mut(id).filter(|c| c.phase == Phase::Open && failed.is_none()) else {
            for Arrived { received, .. } in reading.inbox.drain(..) {
                io.give_back(received);
            }
            self.close(io, id);
            return;
        };
        if reading.is_empty() {
            let held_bytes = reading.splitter.held_bytes();
            let before = std::mem::replace(&mut connection.held_bytes, held_bytes);
            connection.splitter = Some(reading.splitter);
            // Its memory serves what arrives next.
            connection.inbox = reading.inbox;
            let has_ended = connection.ended;
            self.held_bytes = self.held_bytes - before + held_bytes;
            if held_bytes > before && self.held_bytes > limits.unfinished_bytes_max {
                // Closing it frees memory; only ceasing to read from it would keep what it has.
                self.counts.refused += 1;
                self.close(io, id);
                return;
            }
            let connection = self.get_mut(id).expect("it was there a moment ago");
            if has_ended {
                self.close_when_answered(io, id);
                return;
            }
            if !connection.receive_armed {
                connection.receive_armed = true;
                connection.receive_cancelled = false;
                let socket = connection.socket;
                submit(io, token(KIND_RECEIVE, id), Operation::Receive { socket });
            }
            return;
        }
        connection.splitter = Some(reading.splitter);
        if !connection.is_full(&limits) && !blocked {
            // It had its turn; the next one is behind those of others, and soon: the buffers stay lent.
            connection.backlog = reading.backlog.into();
            (connection.inbox, connection.inbox_position) = (reading.inbox, reading.position);
            self.want_input(id);
            return;
        }
        connection.backlog.extend_from_slice(&reading.backlog);
        while let Some(Arrived { received, at }) = reading.inbox.pop_front() {
            connection.backlog_at = at;
            let bytes = &io.bytes(&received)[reading.position..];
            note_copied(bytes.len());
            connection.backlog.extend_from_slice(bytes);
            reading.position = 0;
            io.give_back(received);
        }
        let socket = connection.socket;
        if connection.receive_armed && !connection.receive_cancelled {
            connection.receive_cancelled = true;
            submit(io, token(KIND_CANCEL, id), Operation::CancelReceive { socket });
        }
        if blocked && !connection.is_full(&limits) {
            self.want_input(id);
        }
    }

    /// Puts a reply in its place; a reply to a connection that is gone is dropped.
    pub fn respond(
        &mut self,
        id: ConnectionId,
        sequence: Sequence,
        response: Response,
        timed: Option<Timed>,
    ) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.phase != Phase::Open && matches!(response, Response::Nothing) {
            return;
        }
        let before = connection.unsent_bytes();
        connection.responses.fill(sequence, response, timed);
        let (after, is_ready) = (connection.unsent_bytes(), connection.responses.is_ready());
        self.unsent_bytes = self.unsent_bytes - before + after;
        if is_ready {
            self.want_send(id);
        }
        self.go_on_reading(id);
    }

    /// Starts one gather send for each connection that has replies ready and none in flight, those that are large as far as
    /// the round's share goes.
    pub fn flush(&mut self, io: &mut dyn Io, now: Monotonic) {
        let mut left = ROUND_SEND_BYTES_MAX;
        for _ in 0..self.to_send.len() {
            let id = self.to_send.pop_front().expect("as many as there were");
            let Some(connection) = self.get_mut(id) else { continue };
            let is_small = connection.responses.queued_bytes() <= SMALL_SEND_BYTES_MAX;
            if left == 0 && !is_small && !connection.sending {
                self.to_send.push_back(id);
                continue;
            }
            connection.queued_for_send = false;
            let sent_before = self.counts.sent_bytes;
            self.start_send(io, id, now);
            left = left.saturating_sub((self.counts.sent_bytes - sent_before) as usize);
        }
    }

    /// Replies wait for the next round: the shard must not sleep.
    pub fn has_sends(&self) -> bool {
        !self.to_send.is_empty()
    }

    fn want_send(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if !connection.queued_for_send {
            connection.queued_for_send = true;
            self.to_send.push_back(id);
        }
    }

    fn start_send(&mut self, io: &mut dyn Io, id: ConnectionId, now: Monotonic) {
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)
        else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else { return };
        if connection.sending || connection.phase == Phase::Closing {
            return;
        }
        let mut slices = spare_slices();
        let replied = &mut self.replied;
        let leave = |mut timed: Timed| {
            timed.clock.lap(Stage::Replied, now);
            replied.push((id, timed));
        };
        let mut piped = None;
        // A reply that has begun goes to its end.
        if connection.phase == Phase::Open || connection.responses.has_begun() {
            match connection.responses.take_ready(&mut slices, SEND_BYTES_MAX, leave) {
                Ready::Taken => {}
                Ready::Piped(pages) => piped = Some(pages),
                Ready::Close => connection.phase = Phase::LastReplies,
            }
        }
        let socket = connection.socket;
        if slices.is_empty() && piped.is_none() {
            keep_slices(slices);
            let is_over = connection.ended && connection.responses.is_empty() && !connection.has_input();
            if connection.phase == Phase::LastReplies || is_over {
                self.close(io, id);
            }
        } else {
            connection.sending = true;
            let piped_bytes = piped.as_ref().map_or(0, Piped::len);
            connection.sending_bytes = slices.iter().map(Bytes::len).sum::<usize>() + piped_bytes;
            let out_bytes = connection.sending_bytes as u64;
            self.counts.sent_bytes += out_bytes;
            self.counts.sends += 1;
            self.busiest.add(id, &mut connection.tally, &Traffic { out_bytes, ..Traffic::default() });
            let operation = match piped {
                None => Operation::Send { socket, slices },
                Some(piped) => Operation::SendPiped { socket, slices, piped },
            };
            submit(io, token(KIND_SEND, id), operation);
        }
        self.go_on_reading(id);
    }

    fn sent(&mut self, io: &mut dyn Io, id: ConnectionId, now: Monotonic) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.sending = false;
        let sent_bytes = std::mem::take(&mut connection.sending_bytes);
        connection.last_active = now;
        let has_more = connection.phase == Phase::Open && connection.responses.is_ready();
        self.unsent_bytes -= sent_bytes;
        if has_more {
            self.want_send(id);
            self.go_on_reading(id);
        } else {
            // There is nothing: it may be time to close.
            self.start_send(io, id, now);
        }
    }

    /// What each connection may hold at this moment.
    pub fn limits(&self) -> ConnectionLimits {
        let response_bytes_max = self.limits.response_bytes_max.min(self.reply_share());
        ConnectionLimits { response_bytes_max, ..self.limits }
    }

    /// Bytes of replies that one connection may have unsent: a quarter of what is free, so that those who are slow to take
    /// theirs leave something for whoever comes, and never less than is worth a trip.
    pub fn reply_share(&self) -> usize {
        (self.limits.shard_reply_bytes_max.saturating_sub(self.unsent_bytes) / 4).max(REPLY_SHARE_BYTES_MIN)
    }

    /// Bytes of replies of all connections that have not left.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Accepts no more.
    pub fn stop_listening(&mut self, io: &mut dyn Io, listener: Listener) {
        let nobody = ConnectionId { slot: 0xff_ffff, generation: 0 };
        submit(io, token(KIND_CLOSE, nobody), Operation::CloseListener { listener });
    }

    /// Closes each connection once the replies that are ready have been sent.
    pub fn close_all_after_replies(&mut self, io: &mut dyn Io) {
        for slot in 0..self.slots.len() {
            let id = ConnectionId { slot: slot as u32, generation: self.slots[slot].generation };
            let now = io.now();
            // What waits for its round goes now.
            self.start_send(io, id, now);
            let Some(connection) = self.get_mut(id) else { continue };
            match connection.phase {
                Phase::Closing => {}
                Phase::Open | Phase::LastReplies if connection.sending => {
                    connection.phase = Phase::LastReplies;
                }
                Phase::Open | Phase::LastReplies => self.close(io, id),
            }
        }
    }

    /// Closes each connection, whatever it is owed.
    pub fn close_all(&mut self, io: &mut dyn Io) {
        for slot in 0..self.slots.len() {
            self.close(io, ConnectionId { slot: slot as u32, generation: self.slots[slot].generation });
        }
    }

    /// Drops a connection; replies still due to it are not sent.
    pub fn close(&mut self, io: &mut dyn Io, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.phase == Phase::Closing {
            return;
        }
        connection.phase = Phase::Closing;
        let socket = connection.socket;
        let inbox = std::mem::take(&mut connection.inbox);
        let mut pending = std::mem::take(&mut connection.pending);
        for Arrived { received, .. } in inbox {
            io.give_back(received);
        }
        self.orphans.append(&mut pending);
        submit(io, token(KIND_CLOSE, id), Operation::CloseSocket { socket });
    }

    fn closed(&mut self, id: ConnectionId) {
        if self.get_mut(id).is_none() {
            return;
        }
        let slot = &mut self.slots[id.slot as usize];
        self.held_bytes -= slot.connection.as_ref().map_or(0, |connection| connection.held_bytes);
        self.unsent_bytes -= slot.connection.as_ref().map_or(0, Connection::unsent_bytes);
        slot.connection = None;
        self.free.push(id.slot);
        self.open_count -= 1;
    }

    /// Pending requests whose connection has closed since the last call.
    pub fn take_orphans(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.orphans)
    }

    /// Requests that wait and whose client has closed its side since the last call.
    pub fn take_unheard(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.unheard)
    }

    /// Takes the place of a request of so many bytes; `None` if the connection is gone.
    pub fn reserve(&mut self, id: ConnectionId, request_bytes: usize) -> Option<Sequence> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let connection = slot.connection.as_mut()?;
        let request = Traffic { requests: 1, in_bytes: request_bytes as u64, ..Traffic::default() };
        self.busiest.add(id, &mut connection.tally, &request);
        Some(connection.responses.reserve(request_bytes))
    }

    /// Ends a window of the busiest, if it is time.
    pub fn turn_busiest(&mut self, now: Monotonic) {
        let slots = &self.slots;
        self.busiest.turn(now, |id| {
            let slot = slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
            slot.connection.as_ref().map(|connection| connection.tally)
        });
    }

    /// The busiest connections that are still there.
    pub fn busiest(&self) -> Vec<BusyClient> {
        let client = |busy: &crate::metrics::Busy<ConnectionId>| {
            let slot = self.slots.get(busy.key.slot as usize)?;
            let connection = slot.connection.as_ref().filter(|_| slot.generation == busy.key.generation)?;
            Some(BusyClient {
                client_id: connection.client_id.clone(),
                peer: connection.peer,
                moved: busy.moved,
                total: connection.tally.total(),
            })
        };
        self.busiest.last().0.iter().filter_map(client).collect()
    }

    /// Requests whose reply was handed to the reactor since the last call.
    pub fn take_replied(&mut self) -> Vec<(ConnectionId, Timed)> {
        std::mem::take(&mut self.replied)
    }

    /// Takes the list back when it is empty again, so that no round allocates one.
    pub fn give_back_replied(&mut self, replied: Vec<(ConnectionId, Timed)>) {
        assert!(replied.is_empty() && self.replied.is_empty(), "replies were not told");
        self.replied = replied;
    }

    /// A connection that was full goes on with the input that it was parked with.
    fn go_on_reading(&mut self, id: ConnectionId) {
        let limits = self.limits();
        if self.get_mut(id).is_some_and(|connection| connection.has_input() && !connection.is_full(&limits)) {
            self.want_input(id);
        }
    }

    /// Closes connections that did nothing for `connections.max.idle.ms`. One that waits for a reply is not idle,
    /// unless its send makes no progress, or it is parked: then nobody would notice that it is gone.
    pub fn close_idle(&mut self, io: &mut dyn Io, now: Monotonic) {
        let idle: Vec<ConnectionId> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let connection = entry.connection.as_ref()?;
                let waits = !connection.responses.is_empty() && !connection.sending && connection.is_heard();
                let idle = now.since(connection.last_active) > self.idle_max;
                (idle && !waits).then_some(ConnectionId { slot: slot as u32, generation: entry.generation })
            })
            .collect();
        self.counts.idle += idle.len() as u64;
        for id in idle {
            self.close(io, id);
        }
    }
}

/// The unread input of one connection while its frames are handled.
pub struct Reading {
    id: ConnectionId,
    splitter: FrameSplitter,
    backlog: Bytes,
    backlog_at: Monotonic,
    inbox: VecDeque<Arrived>,
    /// Bytes used of the first buffer of `inbox`.
    position: usize,
    /// The connection took all it may before this input came.
    is_full: bool,
}

impl Reading {
    fn is_empty(&self) -> bool {
        !self.backlog.has_remaining() && self.inbox.is_empty()
    }

    /// Hands frames to `take` until the input ends, `take` says `Later`, or the stream is broken.
    pub fn frames(
        &mut self,
        io: &mut dyn Io,
        mut take: impl FnMut(Input<'_>) -> Taken,
    ) -> Result<Taken, FrameError> {
        if self.is_full {
            return Ok(Taken::Later);
        }
        loop {
            if self.backlog.has_remaining() {
                let backlog = self.backlog.clone();
                let mut input: &[u8] = &backlog;
                let more = self.split(&mut input, self.backlog_at, &*io, &mut take);
                let used = backlog.len() - input.len();
                self.backlog.advance(used);
                match more? {
                    Some(Taken::Later) => return Ok(Taken::Later),
                    Some(Taken::Next) => continue,
                    None => {}
                }
            }
            let Some(Arrived { received, at }) = self.inbox.pop_front() else { return Ok(Taken::Next) };
            let bytes = io.bytes(&received);
            let mut input = &bytes[self.position..];
            let outcome = loop {
                match self.split(&mut input, at, &*io, &mut take) {
                    Ok(Some(Taken::Next)) => {}
                    other => break other,
                }
            };
            self.position = bytes.len() - input.len();
            if matches!(outcome, Ok(Some(Taken::Later))) && self.position < bytes.len() {
                self.inbox.push_front(Arrived { received, at });
                return Ok(Taken::Later);
            }
            self.position = 0;
            io.give_back(received);
            if matches!(outcome?, Some(Taken::Later)) {
                return Ok(Taken::Later);
            }
        }
    }

    /// One frame from `input`, if it is whole.
    fn split(
        &mut self,
        input: &mut &[u8],
        received: Monotonic,
        io: &dyn Io,
        take: &mut impl FnMut(Input<'_>) -> Taken,
    ) -> Result<Option<Taken>, FrameError> {
        let id = self.id;
        Ok(self.splitter.next(input)?.map(|frame| take(Input { connection: id, frame, received, io })))
    }
}

/// Submits an operation that must not be lost. The in-flight table is sized so that one receive, one send and one close
/// of every connection fit beside the file operations (`limits`).
fn submit(io: &mut dyn Io, token: Token, operation: Operation) {
    assert!(
        io.submit(token, operation).is_ok(),
        "the in-flight table holds less than limits promise: {token:?}"
    );
}

#[cfg(test)]
mod tests;
