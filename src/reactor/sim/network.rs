//! Streams between clients of the test and the shards.
//!
//! # What can go wrong
//! - Bytes arrive in any segmentation, each segment after a delay of its own; order within a direction holds.
//! - Connections arrive at any of the shards that listen on the port.
//! - A client stops to read: sends stand still once the window is full. It ends its half of the stream, or resets it: bytes
//!   under way may be lost, sends fail with ECONNRESET or EPIPE, receives with ECONNRESET.
//! - A server that closes with bytes unread resets the connection, as Linux does: replies under way may be lost.
//! - When the machine stops, all connections are reset.
//!
//! # What cannot
//! Bytes are neither changed, lost from the middle, nor repeated: TCP sees to that. One machine: no partition between brokers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::operation::{Finished, SimOutcome, Work, assert_usable};
use super::world::{Event, World};
use crate::model::{Monotonic, ShardId};
use crate::reactor::{Listener, Socket, Token};

/// Largest piece in which bytes travel: small, so that frames are cut often.
const SEGMENT_BYTES_MAX: u64 = 16 << 10;

/// A client of the test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ClientId(pub u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientState {
    /// Not yet accepted.
    Connecting,
    Open,
    /// The server ended the stream; all it sent was received.
    Ended,
    /// The connection broke.
    Reset,
    /// Nobody listens on the port.
    Refused,
}

pub(super) enum Segment {
    Bytes(Vec<u8>),
    End,
    Reset,
}

struct ListenerState {
    shard: ShardId,
    port: u16,
    accept: Option<u64>,
    /// Connections that wait to be accepted.
    backlog: VecDeque<ClientId>,
}

struct Client {
    port: u16,
    state: ClientState,
    socket: Option<Socket>,
    received: Vec<u8>,
    is_paused: bool,
    has_ended: bool,
    /// Sent before the server accepted.
    early: VecDeque<Segment>,
    /// Arrived while paused.
    unread: VecDeque<Segment>,
    /// Sent by the server since the pause: what fills the window.
    unread_bytes: usize,
    /// When the last segment in each direction arrives: later ones arrive later.
    to_server_until: Monotonic,
    to_client_until: Monotonic,
}

pub(super) struct SocketState {
    shard: ShardId,
    client: ClientId,
    receive: Option<u64>,
    send: Option<u64>,
    pub close: Option<u64>,
    inbox: VecDeque<u8>,
    has_ended: bool,
    is_reset: bool,
}

impl SocketState {
    fn arrive(&mut self, segment: Segment) {
        match segment {
            Segment::Bytes(bytes) => self.inbox.extend(bytes),
            Segment::End => self.has_ended = true,
            Segment::Reset => {
                self.is_reset = true;
                self.inbox.clear();
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Network {
    listeners: BTreeMap<u32, ListenerState>,
    clients: BTreeMap<ClientId, Client>,
    sockets: BTreeMap<Socket, SocketState>,
    next_listener: u32,
    next_client: u32,
    next_socket: u32,
    next_port: u16,
    changed: BTreeSet<ClientId>,
}

impl Network {
    pub fn take_changed(&mut self) -> Option<ClientId> {
        self.changed.pop_first()
    }

    pub fn take_received(&mut self, client: ClientId) -> Vec<u8> {
        std::mem::take(&mut self.client(client).received)
    }

    pub fn state(&self, client: ClientId) -> ClientState {
        self.clients[&client].state
    }

    fn client(&mut self, client: ClientId) -> &mut Client {
        self.clients.get_mut(&client).expect("clients are made by `connect` and kept")
    }

    fn socket(&mut self, socket: Socket) -> &mut SocketState {
        self.sockets
            .get_mut(&socket)
            .unwrap_or_else(|| panic!("{socket:?} is used after its CloseSocket completed"))
    }

    /// The machine stopped.
    pub fn lose_machine(&mut self) {
        self.listeners.clear();
        self.sockets.clear();
        for (&id, client) in &mut self.clients {
            client.socket = None;
            client.early.clear();
            client.unread.clear();
            if matches!(client.state, ClientState::Connecting | ClientState::Open) {
                client.state = ClientState::Reset;
                self.changed.insert(id);
            }
        }
    }
}

impl World {
    /// A listening socket of a shard. Port 0: the next free one.
    pub fn listen(&mut self, shard: ShardId, port: u16) -> (Listener, u16) {
        let network = &mut self.network;
        let port = if port == 0 {
            network.next_port += 1;
            40_000 + network.next_port
        } else {
            port
        };
        network.next_listener += 1;
        let id = network.next_listener;
        network.listeners.insert(id, ListenerState { shard, port, accept: None, backlog: VecDeque::new() });
        (Listener(id), port)
    }

    fn listener(&mut self, shard: ShardId, listener: Listener) -> &mut ListenerState {
        let state = self.network.listeners.get_mut(&listener.0);
        let state = state.unwrap_or_else(|| panic!("{listener:?} is used after its CloseListener completed"));
        assert_eq!(state.shard, shard, "{listener:?} belongs to another shard");
        state
    }

    pub fn begin_accept(&mut self, shard: ShardId, operation: u64, listener: Listener) {
        let state = self.listener(shard, listener);
        assert!(state.accept.is_none(), "{listener:?} accepts already");
        state.accept = Some(operation);
        self.accept_waiting(listener);
    }

    fn accept_waiting(&mut self, listener: Listener) {
        let state = self.network.listeners.get_mut(&listener.0).expect("the caller has it");
        let (Some(accept), shard) = (state.accept, state.shard) else { return };
        for client in std::mem::take(&mut state.backlog) {
            self.network.next_socket += 1;
            let socket = Socket(self.network.next_socket);
            let state = SocketState {
                shard,
                client,
                receive: None,
                send: None,
                close: None,
                inbox: VecDeque::new(),
                has_ended: false,
                is_reset: false,
            };
            self.network.sockets.insert(socket, state);
            let peer = self.network.client(client);
            peer.socket = Some(socket);
            for segment in std::mem::take(&mut peer.early) {
                self.network.socket(socket).arrive(segment);
            }
            self.note(&[0xacc, u64::from(shard.0), u64::from(client.0)]);
            // Each client has an address of its own, on a loopback network.
            let [_, _, high, low] = client.0.to_be_bytes();
            let peer = SocketAddr::from((Ipv4Addr::new(127, 0, high, low), 50_000));
            let shard = self.shard(shard);
            let token = shard.flights[&accept].token;
            shard.ready.push(Finished {
                token,
                outcome: SimOutcome::Accepted { socket, peer },
                more: true,
                written: None,
            });
        }
    }

    pub fn close_listener(&mut self, shard: ShardId, token: Token, listener: Listener) {
        self.listener(shard, listener);
        let state = self.network.listeners.remove(&listener.0).expect("looked up just now");
        for client in state.backlog {
            self.reset_client(client);
        }
        if let Some(accept) = state.accept {
            self.finish(shard, accept, SimOutcome::Cancelled);
        }
        self.shard(shard).ready.push(Finished {
            token,
            outcome: SimOutcome::Done,
            more: false,
            written: None,
        });
    }

    fn reset_client(&mut self, client: ClientId) {
        self.network.client(client).state = ClientState::Reset;
        self.network.changed.insert(client);
    }

    // Clients.

    pub fn connect(&mut self, port: u16) -> ClientId {
        self.network.next_client += 1;
        let id = ClientId(self.network.next_client);
        let client = Client {
            port,
            state: ClientState::Connecting,
            socket: None,
            received: Vec::new(),
            is_paused: false,
            has_ended: false,
            early: VecDeque::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            to_server_until: self.now,
            to_client_until: self.now,
        };
        self.network.clients.insert(id, client);
        let time = self.travel(id, true);
        self.schedule_at(time, Event::Connect { client: id });
        id
    }

    /// When the next segment in a direction arrives.
    fn travel(&mut self, client: ClientId, is_to_server: bool) -> Monotonic {
        let delay = self.options.network.draw(&mut self.network_random);
        let (now, client) = (self.now, self.network.client(client));
        let until = if is_to_server { &mut client.to_server_until } else { &mut client.to_client_until };
        // Strictly later than the one before: of events at one moment any may come first.
        *until = (*until + Duration::from_nanos(1)).max(now + delay);
        *until
    }

    fn send_in_segments(&mut self, client: ClientId, mut bytes: &[u8], is_to_server: bool) -> Monotonic {
        let mut arrival = self.now;
        while !bytes.is_empty() {
            let most = match self.network_random.below(4) {
                0 => 1 + self.network_random.below(16),
                1 => 1 + self.network_random.below(512),
                _ => SEGMENT_BYTES_MAX,
            };
            let (segment, rest) = bytes.split_at(bytes.len().min(most as usize));
            arrival = self.travel(client, is_to_server);
            let segment = Segment::Bytes(segment.to_vec());
            let event = if is_to_server {
                Event::ToServer { client, segment }
            } else {
                Event::ToClient { client, segment }
            };
            self.schedule_at(arrival, event);
            bytes = rest;
        }
        arrival
    }

    pub fn connection_arrives(&mut self, client: ClientId) {
        let port = self.network.client(client).port;
        let listening: Vec<u32> = self
            .network
            .listeners
            .iter()
            .filter(|(_, listener)| listener.port == port)
            .map(|(&id, _)| id)
            .collect();
        self.network.changed.insert(client);
        if listening.is_empty() {
            self.network.client(client).state = ClientState::Refused;
            return;
        }
        let chosen = listening[self.network_random.below(listening.len() as u64) as usize];
        // The kernel completes the handshake; the server accepts when it comes to it. By then the client may have reset it.
        let state = self.network.client(client);
        if state.state == ClientState::Connecting {
            state.state = ClientState::Open;
        }
        self.network.listeners.get_mut(&chosen).expect("one of the keys").backlog.push_back(client);
        self.accept_waiting(Listener(chosen));
    }

    pub fn client_send(&mut self, client: ClientId, bytes: &[u8]) {
        let state = self.network.client(client);
        assert!(!state.has_ended, "{client:?} sends after it ended its stream");
        if matches!(state.state, ClientState::Connecting | ClientState::Open) {
            self.send_in_segments(client, bytes, true);
        }
    }

    pub fn client_end(&mut self, client: ClientId, segment: Segment) {
        let state = self.network.client(client);
        state.has_ended = true;
        if matches!(segment, Segment::Reset) {
            state.state = ClientState::Reset;
            state.unread.clear();
        }
        let time = self.travel(client, true);
        self.schedule_at(time, Event::ToServer { client, segment });
    }

    pub fn client_pause(&mut self, client: ClientId) {
        let state = self.network.client(client);
        (state.is_paused, state.unread_bytes) = (true, 0);
    }

    pub fn client_resume(&mut self, client: ClientId) {
        let state = self.network.client(client);
        state.is_paused = false;
        let socket = state.socket;
        for segment in std::mem::take(&mut state.unread) {
            self.take_segment(client, segment);
        }
        // A send that stood still goes on. One that has all its bytes under way completes by itself.
        let Some(socket) = socket else { return };
        let state = self.network.socket(socket);
        let (shard, send) = (state.shard, state.send);
        if let Some(send) = send
            && let Work::Send { bytes, .. } = &self.shard(shard).flights[&send].work
            && !bytes.is_empty()
        {
            self.transmit(shard, send, socket);
        }
    }

    pub fn segment_reaches_client(&mut self, client: ClientId, segment: Segment) {
        let state = self.network.client(client);
        if state.state != ClientState::Open {
            return;
        }
        if state.is_paused && !matches!(segment, Segment::Reset) {
            state.unread.push_back(segment);
            return;
        }
        self.take_segment(client, segment);
    }

    fn take_segment(&mut self, client: ClientId, segment: Segment) {
        let state = self.network.client(client);
        match segment {
            Segment::Bytes(bytes) => {
                state.received.extend_from_slice(&bytes);
                self.note_bytes(&bytes);
            }
            Segment::End => state.state = ClientState::Ended,
            Segment::Reset => state.state = ClientState::Reset,
        }
        self.network.changed.insert(client);
    }

    // The server's side.

    pub fn segment_arrives(&mut self, client: ClientId, segment: Segment) {
        let Some(socket) = self.network.client(client).socket else {
            if self.network.listeners.values().any(|listener| listener.backlog.contains(&client)) {
                self.network.client(client).early.push_back(segment);
            } else if self.network.state(client) == ClientState::Open && matches!(segment, Segment::Bytes(_))
            {
                // The server has closed: its kernel answers with a reset.
                self.reset_client(client);
            }
            return;
        };
        self.note(&[0x5e6, u64::from(socket.0)]);
        let state = self.network.socket(socket);
        state.arrive(segment);
        if state.is_reset
            && let Some(send) = state.send.take()
        {
            let shard = state.shard;
            self.finish(shard, send, SimOutcome::Failed(libc::ECONNRESET));
        }
        self.deliver(socket);
    }

    pub fn begin_receive(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        let state = self.network.socket(socket);
        assert_usable(socket, state);
        assert_eq!(state.shard, shard, "{socket:?} belongs to another shard");
        assert!(state.receive.is_none(), "{socket:?} receives already");
        state.receive = Some(operation);
        self.deliver(socket);
    }

    /// Hands bytes that are there to the receive that wants them, as far as there are buffers.
    fn deliver(&mut self, socket: Socket) {
        while self.deliver_one(socket, false) {}
    }

    /// Fills one buffer, unless others wait for theirs and it is not this socket's turn. True: there may be more to do.
    fn deliver_one(&mut self, socket: Socket, is_its_turn: bool) -> bool {
        let buffer_bytes = self.options.receive_buffer_bytes as usize;
        let Some(state) = self.network.sockets.get_mut(&socket) else { return false };
        let (Some(receive), shard) = (state.receive, state.shard) else { return false };
        let end = match (state.is_reset, state.inbox.is_empty(), state.has_ended) {
            (true, ..) => SimOutcome::Failed(libc::ECONNRESET),
            (false, true, true) => SimOutcome::EndOfStream,
            (false, true, false) => return false,
            (false, false, _) => {
                let queue = &mut self.shards[usize::from(shard.0)];
                if queue.free_buffers == 0 || !(is_its_turn || queue.starved.is_empty()) {
                    if !queue.starved.contains(&socket) {
                        queue.starved.push_back(socket);
                    }
                    return false;
                }
                queue.free_buffers -= 1;
                let length = state.inbox.len().min(buffer_bytes);
                let bytes: Vec<u8> = state.inbox.drain(..length).collect();
                let token = queue.flights[&receive].token;
                queue.ready.push(Finished {
                    token,
                    outcome: SimOutcome::Received { socket, bytes },
                    more: true,
                    written: None,
                });
                return true;
            }
        };
        state.receive = None;
        self.finish(shard, receive, end);
        false
    }

    /// A buffer came back: the receive that has waited for one longest goes on, and then waits behind the others.
    pub fn buffer_came_back(&mut self, shard: ShardId) {
        self.shard(shard).free_buffers += 1;
        while self.shard(shard).free_buffers > 0
            && let Some(socket) = self.shard(shard).starved.pop_front()
        {
            self.deliver_one(socket, true);
            self.deliver(socket);
        }
    }

    pub fn cancel_receive(&mut self, shard: ShardId, token: Token, socket: Socket) {
        let state = self.network.socket(socket);
        assert_usable(socket, state);
        let receive = state.receive.take();
        if let Some(receive) = receive {
            self.finish(shard, receive, SimOutcome::Cancelled);
        }
        self.shard(shard).ready.push(Finished {
            token,
            outcome: SimOutcome::Done,
            more: false,
            written: None,
        });
    }

    pub fn begin_send(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        let state = self.network.socket(socket);
        assert_usable(socket, state);
        assert!(state.send.is_none(), "{socket:?} sends already");
        if state.is_reset {
            return self.finish(shard, operation, SimOutcome::Failed(libc::EPIPE));
        }
        state.send = Some(operation);
        self.transmit(shard, operation, socket);
    }

    /// Sends what the window takes; the operation completes once all is on its way.
    fn transmit(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        let window = self.options.send_window_bytes;
        let client = self.network.socket(socket).client;
        let peer = self.network.client(client);
        let room = if peer.is_paused { window.saturating_sub(peer.unread_bytes) } else { usize::MAX };
        let flight = self.shard(shard).flights.get_mut(&operation).expect("the send is in flight");
        let Work::Send { bytes, .. } = &mut flight.work else { unreachable!("the caller has a send") };
        let rest = bytes.split_off(bytes.len().min(room));
        let now = std::mem::replace(bytes, rest);
        let is_done = bytes.is_empty();
        // Counted here, not at arrival: what is under way fills the window as well.
        self.network.client(client).unread_bytes += now.len();
        self.send_in_segments(client, &now, false);
        if is_done {
            // It is over once the bytes are in the socket's buffer, not when they arrive.
            let delay = self.options.round.draw(&mut self.network_random);
            self.schedule(delay, Event::Complete { shard, operation });
        }
    }

    pub fn sent(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        self.network.socket(socket).send = None;
        self.finish(shard, operation, SimOutcome::Done);
    }

    pub fn begin_close(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        let state = self.network.socket(socket);
        assert_usable(socket, state);
        state.close = Some(operation);
        let (receive, send) = (state.receive.take(), state.send.take());
        // What was received and not yet reaped: nothing more is received once a socket is closing.
        let queue = self.shard(shard);
        let before = queue.ready.len();
        queue.ready.retain(
            |end| !matches!(end.outcome, SimOutcome::Received { socket: received, .. } if received == socket),
        );
        for _ in queue.ready.len()..before {
            self.buffer_came_back(shard);
        }
        if let Some(receive) = receive {
            let outcome =
                if self.network_random.coin() { SimOutcome::Cancelled } else { SimOutcome::EndOfStream };
            self.finish(shard, receive, outcome);
        }
        if let Some(send) = send {
            self.finish(shard, send, SimOutcome::Failed(libc::EPIPE));
        }
        let delay = self.options.round.draw(&mut self.network_random);
        self.schedule(delay, Event::Complete { shard, operation });
    }

    pub fn closed(&mut self, shard: ShardId, operation: u64, socket: Socket) {
        let state = self.network.sockets.remove(&socket).expect("a socket closes once");
        let client = state.client;
        self.network.client(client).socket = None;
        if !state.is_reset {
            let segment = if state.inbox.is_empty() { Segment::End } else { Segment::Reset };
            // A reset overtakes nothing here: whether bytes under way are lost is the coin's choice.
            let is_abrupt = matches!(segment, Segment::Reset) && self.network_random.coin();
            let time = if is_abrupt { self.now } else { self.travel(client, false) };
            self.schedule_at(time, Event::ToClient { client, segment });
        }
        self.finish(shard, operation, SimOutcome::Done);
    }
}
