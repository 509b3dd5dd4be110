use std::collections::BTreeMap;

use super::*;
use crate::model::ShardId;
use crate::net::AdmissionLimits;
use crate::reactor::sim::{ClientId, ClientState, SimIo, SimOptions, SimWorld, Turn};

/// A table of connections on the model's network. Requests are answered by the test.
struct Bench {
    world: SimWorld,
    io: SimIo,
    connections: Connections,
    port: u16,
    /// Not answered yet: whose, its place, its bytes.
    asked: VecDeque<(ConnectionId, Sequence, Vec<u8>)>,
}

const LIMITS: ConnectionLimits = ConnectionLimits {
    requests_max: 4,
    response_bytes_max: 1000,
    shard_reply_bytes_max: 8 << 20,
    request_bytes_max: 10_000,
    connections_max: 3,
    unfinished_bytes_max: 25_000,
};

fn admission(connections_max: u32) -> Arc<Admission> {
    let limits = AdmissionLimits { connections_max, address_max: u32::MAX, overrides: BTreeMap::new() };
    Arc::new(Admission::new(limits))
}

const IDLE: Duration = Duration::from_secs(5);

impl Bench {
    fn new() -> Bench {
        let world = SimWorld::new(3, SimOptions { send_window_bytes: 100, ..SimOptions::default() });
        let mut io = world.io(ShardId(0));
        let (listener, port) = io.listen(0);
        let mut connections = Connections::new(LIMITS, admission(u32::MAX), IDLE);
        connections.listen(&mut io, Entrance { listener, endpoint: None });
        io.wait(Monotonic::NEVER);
        Bench { world, io, connections, port, asked: VecDeque::new() }
    }

    /// Runs the shard and the network for so long, or until nothing happens.
    fn run(&mut self, how_long: Duration) {
        let until = self.world.now() + how_long;
        loop {
            match self.world.next_turn(until) {
                Turn::Shard(_) => self.turn(),
                Turn::Client(_) => {}
                Turn::Crashed => panic!("nothing crashes here"),
                Turn::Idle => return,
            }
        }
    }

    fn turn(&mut self) {
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        let now = self.io.now();
        for completion in completions {
            self.connections.complete(&mut self.io, completion, now).unwrap();
        }
        while let Some(id) = self.connections.take_readable() {
            let Some(mut reading) = self.connections.start_reading(id) else { continue };
            let (connections, asked) = (&mut self.connections, &mut self.asked);
            let result = reading.frames(&mut self.io, |input| {
                let connection = connections.get_mut(input.connection).unwrap();
                let bytes = input.frame.bytes().to_vec();
                asked.push_back((input.connection, connection.responses.reserve(bytes.len()), bytes));
                if connection.is_full(&LIMITS) { Taken::Later } else { Taken::Next }
            });
            self.connections.finish_reading(&mut self.io, reading, result.err(), false);
        }
        self.connections.flush(&mut self.io, now);
        self.io.wait(Monotonic::NEVER);
    }

    fn settle(&mut self) {
        self.run(Duration::from_secs(1));
    }

    /// Answers the oldest request.
    fn answer(&mut self, response: Response) {
        let (connection, sequence, _) = self.asked.pop_front().expect("a request is there");
        self.connections.respond(connection, sequence, response, None);
        let now = self.io.now();
        self.connections.flush(&mut self.io, now);
        self.io.wait(Monotonic(0));
        self.settle();
    }

    fn connect(&mut self) -> ClientId {
        let client = self.world.connect(self.port);
        self.settle();
        client
    }

    fn send(&mut self, client: ClientId, bytes: &[u8]) {
        self.world.client_send(client, bytes);
        self.settle();
    }

    fn is_open(&self, client: ClientId) -> bool {
        self.world.client_state(client) == ClientState::Open
    }
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn reply(bytes: &'static [u8]) -> Response {
    Response::Send(vec![Bytes::from_static(bytes)])
}

#[test]
fn a_client_with_too_many_unanswered_requests_is_not_read() {
    // In one piece, and one at a time: neither passes the limit.
    for in_one_piece in [true, false] {
        let mut bench = Bench::new();
        let client = bench.connect();
        let frames: Vec<Vec<u8>> = (0..10).map(|number| frame(&[number])).collect();
        if in_one_piece {
            bench.send(client, &frames.concat());
        } else {
            frames.iter().for_each(|frame| bench.send(client, frame));
        }
        assert_eq!(bench.asked.len(), LIMITS.requests_max, "in one piece: {in_one_piece}");
        for number in 0..10 {
            assert_eq!(bench.asked[0].2, [number]);
            bench.answer(reply(b"x"));
        }
        assert_eq!(bench.world.client_received(client), b"xxxxxxxxxx");
        bench.send(client, &frame(b"more"));
        assert_eq!(bench.asked.len(), 1, "it is read again");
    }
}

#[test]
fn a_client_that_does_not_take_its_replies_is_not_read() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.world.client_pause(client);
    bench.send(client, &frame(b"1"));
    bench.answer(reply(&[7; 600]));
    bench.send(client, &frame(b"2"));
    bench.answer(reply(&[7; 600]));
    bench.send(client, &frame(b"3"));
    assert!(bench.asked.is_empty(), "600 bytes are being sent and 600 wait");
    bench.world.client_resume(client);
    bench.settle();
    assert_eq!(bench.asked.len(), 1);
}

#[test]
fn large_replies_wait_for_their_round_and_small_ones_do_not() {
    let mut bench = Bench::new();
    let clients = [bench.connect(), bench.connect(), bench.connect()];
    clients.iter().for_each(|client| bench.world.client_pause(*client));
    clients.iter().for_each(|client| bench.send(*client, &frame(b"?")));
    // More than a round sends, a large one and a small one, ready in this order.
    for bytes in [ROUND_SEND_BYTES_MAX, SMALL_SEND_BYTES_MAX + 1, SMALL_SEND_BYTES_MAX] {
        let (connection, sequence, _) = bench.asked.pop_front().expect("all have asked");
        let reply = Response::Frame(Bytes::from(vec![7; bytes]));
        bench.connections.respond(connection, sequence, reply, None);
    }
    let now = bench.io.now();
    bench.connections.flush(&mut bench.io, now);
    let sent = bench.connections.take_counts();
    assert_eq!((sent.sends, sent.sent_bytes as usize), (2, ROUND_SEND_BYTES_MAX + SMALL_SEND_BYTES_MAX));
    assert!(bench.connections.has_sends(), "the round after this one has something to do");
    bench.connections.flush(&mut bench.io, now);
    assert_eq!(bench.connections.take_counts().sends, 1);
    assert!(!bench.connections.has_sends());
}

#[test]
fn replies_that_are_not_taken_leave_less_for_others_and_something_for_all() {
    let mut bench = Bench::new();
    let full = LIMITS.shard_reply_bytes_max / 4;
    assert_eq!(bench.connections.reply_share(), full);
    let (slow, quick) = (bench.connect(), bench.connect());
    bench.world.client_pause(slow);
    bench.send(slow, &frame(b"?"));
    let (connection, sequence, _) = bench.asked.pop_front().expect("it has asked");
    let reply = Response::Frame(Bytes::from(vec![7; LIMITS.shard_reply_bytes_max / 2]));
    bench.connections.respond(connection, sequence, reply, None);
    assert_eq!(bench.connections.reply_share(), full / 2);
    let now = bench.io.now();
    bench.connections.flush(&mut bench.io, now);
    assert_eq!(bench.connections.reply_share(), full / 2, "a send that stands still holds what it has");
    // Beyond the bound.
    bench.send(quick, &frame(b"?"));
    let (connection, sequence, _) = bench.asked.pop_front().expect("it has asked");
    let reply = Response::Frame(Bytes::from(vec![7; LIMITS.shard_reply_bytes_max]));
    bench.connections.respond(connection, sequence, reply, None);
    assert_eq!(bench.connections.reply_share(), REPLY_SHARE_BYTES_MIN);
    bench.connections.flush(&mut bench.io, now);
    bench.io.wait(Monotonic(0));
    bench.settle();
    assert_eq!(bench.connections.reply_share(), full / 2, "the quick one has taken its own");
    bench.world.client_reset(slow);
    bench.settle();
    assert_eq!((bench.connections.reply_share(), bench.connections.unsent_bytes()), (full, 0));
}

#[test]
fn nothing_is_taken_after_a_request_that_ends_the_connection() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.send(client, &[frame(b"1"), frame(b"2")].concat());
    let (connection, second, _) = bench.asked.pop_back().unwrap();
    bench.connections.respond(connection, second, Response::Close, None);
    bench.send(client, &frame(b"3"));
    assert_eq!(bench.asked.len(), 1);
    bench.answer(reply(b"last"));
    assert_eq!(bench.world.client_received(client), b"last");
    assert!(!bench.is_open(client));
}

#[test]
fn a_client_that_has_ended_its_stream_gets_what_it_is_owed() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.world.client_send(client, &frame(b"1"));
    bench.world.client_close(client);
    bench.settle();
    assert_eq!(bench.connections.open_count(), 1);
    bench.answer(reply(b"answer"));
    assert_eq!(bench.world.client_received(client), b"answer");
    assert_eq!(bench.connections.open_count(), 0);
}

#[test]
fn a_broken_stream_and_one_too_many_are_closed() {
    let mut bench = Bench::new();
    let clients: Vec<ClientId> = (0..4).map(|_| bench.connect()).collect();
    assert_eq!(clients.iter().filter(|client| bench.is_open(**client)).count(), 3);
    assert_eq!(bench.connections.open_count(), 3);
    bench.send(clients[0], &[0xff; 4]);
    assert!(!bench.is_open(clients[0]));
    // Unfinished requests: together they hold too much.
    let unfinished = [&9_000u32.to_be_bytes()[..], &[0; 8_000]].concat();
    bench.send(clients[1], &unfinished);
    assert!(bench.is_open(clients[1]));
    bench.send(clients[2], &unfinished);
    assert!(!bench.is_open(clients[2]));
    bench.world.client_reset(clients[1]);
    bench.settle();
    assert_eq!((bench.connections.open_count(), bench.connections.held_bytes), (0, 0));
    assert_eq!(bench.connections.take_counts().refused, 2);
}

#[test]
fn idle_is_who_neither_asks_nor_waits() {
    let mut bench = Bench::new();
    let (idle, waiting, stuck) = (bench.connect(), bench.connect(), bench.connect());
    bench.send(waiting, &frame(b"long poll"));
    bench.world.client_pause(stuck);
    bench.send(stuck, &frame(b"1"));
    bench.asked.rotate_left(1);
    bench.answer(reply(&[7; 600]));
    bench.run(IDLE);
    bench.world.advance_to_next_event();
    let now = bench.io.now() + IDLE;
    bench.connections.close_idle(&mut bench.io, now);
    bench.io.wait(Monotonic(0));
    bench.settle();
    assert!(!bench.is_open(idle));
    assert!(bench.is_open(waiting));
    assert_eq!(bench.connections.open_count(), 1, "one whose send makes no progress goes too");
}

#[test]
fn a_stop_closes_after_the_replies_under_way_and_a_second_one_at_once() {
    let mut bench = Bench::new();
    let (quick, stuck) = (bench.connect(), bench.connect());
    bench.world.client_pause(stuck);
    bench.send(stuck, &frame(b"1"));
    bench.answer(reply(&[7; 600]));
    for _ in 0..2 {
        bench.connections.close_all_after_replies(&mut bench.io);
        bench.io.wait(Monotonic(0));
        bench.settle();
        assert!(!bench.is_open(quick));
        assert_eq!(bench.connections.open_count(), 1);
    }
    bench.connections.close_all(&mut bench.io);
    bench.connections.close_all_after_replies(&mut bench.io);
    bench.connections.close_all(&mut bench.io);
    bench.io.wait(Monotonic(0));
    bench.settle();
    assert_eq!(bench.connections.open_count(), 0);
}
