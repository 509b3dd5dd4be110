//! Accept, receive, send and close over loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use corelog::reactor::{
    Completion, Io, Listener, Operation, Outcome, Ring, RingOptions, Room, Slices, Socket, Token,
    check_port_free,
};

use crate::driver::{Driver, errno, is_done, name};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn listen(driver: &mut Driver) -> (Listener, Token, SocketAddr) {
    let (listener, address) = driver.ring.listen(LOOPBACK.into()).expect("listen");
    let accept = driver.submit(Operation::Accept { listener });
    (listener, accept, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A client and the server's side of its connection.
fn pair(driver: &mut Driver) -> (TcpStream, Socket) {
    let (_, accept, address) = listen(driver);
    let client = connect(address);
    match driver.outcome(accept) {
        (Outcome::Accepted { socket, peer }, true) => {
            assert_eq!(peer, Some(client.local_addr().unwrap()));
            (client, socket)
        }
        (other, _) => panic!("accept: {}", name(&other)),
    }
}

/// Bytes received until the stream ends or `count` are there.
fn receive(driver: &mut Driver, token: Token, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match driver.outcome(token) {
            (Outcome::Received(received), true) => {
                bytes.extend_from_slice(driver.ring.bytes(&received));
                driver.ring.give_back(received);
            }
            (other, _) => panic!("receive after {} bytes: {}", bytes.len(), name(&other)),
        }
    }
    bytes
}

#[test]
fn two_hundred_connections_get_their_own_bytes_back() {
    const CONNECTIONS: usize = 200;
    const ROUNDS: usize = 20;
    let mut driver = Driver::new();
    let (_, accept, address) = listen(&mut driver);
    let clients = std::thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(address)).collect();
        for round in 0..ROUNDS {
            let message = |client: usize| vec![(client * ROUNDS + round) as u8; 1 + client * 37 % 3000];
            for (client, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&message(client)).unwrap();
            }
            for (client, stream) in streams.iter_mut().enumerate() {
                let mut reply = message(client);
                let expected = reply.clone();
                reply.fill(0);
                stream.read_exact(&mut reply).unwrap();
                assert!(reply == expected, "client {client} round {round}");
            }
        }
    });
    // Per connection what is to be sent next, and whether a send is in flight.
    let mut echo = Echo::default();
    while echo.ended < CONNECTIONS {
        driver.next(|ring, completion| {
            echo.step(ring, accept, completion);
            Ok(())
        });
    }
    clients.join().unwrap();
    assert_eq!(driver.ring.counters().connections_refused, 0);
}

#[derive(Default)]
struct Echo {
    waiting: std::collections::BTreeMap<Socket, Vec<u8>>,
    is_sending: std::collections::BTreeSet<Socket>,
    ended: usize,
}

impl Echo {
    const RECEIVE: u64 = 1 << 40;
    const SEND: u64 = 2 << 40;
    const CLOSE: u64 = 3 << 40;

    fn token(kind: u64, socket: Socket) -> Token {
        Token::new(Room::Net, kind | u64::from(socket.0))
    }

    fn submit(ring: &mut Ring, kind: u64, operation: Operation, socket: Socket) {
        assert!(ring.submit(Self::token(kind, socket), operation).is_ok(), "the table is full");
    }

    fn step(&mut self, ring: &mut Ring, accept: Token, completion: Completion) {
        let socket = Socket(completion.token.value as u32);
        match (completion.token.value & !0xffff_ffff, completion.outcome) {
            (_, Outcome::Accepted { socket, .. }) if completion.token == accept => {
                Self::submit(ring, Self::RECEIVE, Operation::Receive { socket }, socket);
            }
            (Self::RECEIVE, Outcome::Received(received)) => {
                self.waiting.entry(socket).or_default().extend_from_slice(ring.bytes(&received));
                ring.give_back(received);
                self.send(ring, socket);
            }
            (Self::SEND, Outcome::Done) => {
                self.is_sending.remove(&socket);
                self.send(ring, socket);
            }
            (Self::RECEIVE, Outcome::EndOfStream) => {
                Self::submit(ring, Self::CLOSE, Operation::CloseSocket { socket }, socket);
            }
            (Self::CLOSE, Outcome::Done) => self.ended += 1,
            (kind, outcome) => panic!("{kind:#x}: {}", name(&outcome)),
        }
    }

    fn send(&mut self, ring: &mut Ring, socket: Socket) {
        if let Some(bytes) = self.waiting.get_mut(&socket)
            && !bytes.is_empty()
            && self.is_sending.insert(socket)
        {
            let slices = vec![Bytes::from(std::mem::take(bytes))];
            Self::submit(ring, Self::SEND, Operation::Send { socket, slices }, socket);
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_big_gather_send() {
    let mut driver = Driver::new();
    let (mut client, socket) = pair(&mut driver);
    let slices: Slices = (0..3000usize).map(|i| Bytes::from(vec![i as u8; i * 7 % 9000])).collect();
    let expected = slices.concat();
    assert!(expected.len() > 8 << 20, "more than the socket buffers take");
    let length = expected.len();
    let send = driver.submit(Operation::Send { socket, slices });
    driver.poll();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; length];
        // Small bites, so that the sender meets a full socket buffer again and again.
        for bite in bytes.chunks_mut(10_007) {
            client.read_exact(bite).unwrap();
        }
        (client, bytes)
    });
    assert!(is_done(&driver.end(send)));
    let (_client, bytes) = reader.join().unwrap();
    assert!(bytes == expected);
}

#[test]
fn large_replies_go_in_pieces_while_others_are_sent_small_ones() {
    const LARGE: usize = 1 << 20;
    let mut driver = Driver::new();
    let (mut small_client, small) = pair(&mut driver);
    let (large_client, large) = pair(&mut driver);
    let expected: Vec<u8> = (0..LARGE).map(|i| (i / 3) as u8 ^ (i >> 16) as u8).collect();
    let slices: Slices = expected.chunks(300_001).map(Bytes::copy_from_slice).collect();
    // Entries of the kernel that a large reply takes; as many as it wants are read at the other end.
    let enters = |driver: &mut Driver| {
        let mut client = large_client.try_clone().unwrap();
        let expected = expected.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; LARGE];
            client.read_exact(&mut bytes).unwrap();
            assert!(bytes == expected);
        });
        let before = driver.ring.enters();
        assert!(is_done(&driver.run(Operation::Send { socket: large, slices: slices.clone() })));
        reader.join().unwrap();
        driver.ring.enters() - before
    };
    let in_pieces_least = (LARGE / (128 << 10)) as u64;
    let alone = enters(&mut driver);
    assert!(alone < in_pieces_least, "{alone} entries for a reply that nobody waits behind");
    let is_sent = driver.run(Operation::Send { socket: small, slices: vec![Bytes::from_static(b"small")] });
    assert!(is_done(&is_sent));
    let beside = enters(&mut driver);
    assert!(beside >= in_pieces_least, "{beside} entries beside small replies");
    // A small one to who is sent large ones is none to wait for. The last of the others is forgotten.
    (0..300).for_each(|_| driver.poll());
    let is_sent = driver.run(Operation::Send { socket: large, slices: vec![Bytes::from_static(b"small")] });
    assert!(is_done(&is_sent));
    let mut bytes = [0; 5];
    (&large_client).read_exact(&mut bytes).unwrap();
    small_client.read_exact(&mut bytes).unwrap();
    let after = enters(&mut driver);
    assert!(after < in_pieces_least, "{after} entries after the small ones");
}

#[test]
fn the_end_of_a_stream_and_a_reset_are_told_apart() {
    let mut driver = Driver::new();
    let (client, socket) = pair(&mut driver);
    let token = driver.submit(Operation::Receive { socket });
    (&client).write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(&mut driver, token, 10), b"last words");
    assert!(matches!(driver.end(token), Outcome::EndOfStream));
    assert!(is_done(&driver.run(Operation::CloseSocket { socket })));

    let (client, socket) = pair(&mut driver);
    let token = driver.submit(Operation::Receive { socket });
    // Unread bytes at the close make the kernel send a reset.
    assert!(is_done(&driver.run(Operation::Send { socket, slices: vec![Bytes::from("unread")] })));
    client.peek(&mut [0; 6]).unwrap();
    drop(client);
    assert_eq!(errno(driver.end(token)), libc::ECONNRESET);
    assert!(is_done(&driver.run(Operation::CloseSocket { socket })));
    assert_eq!(driver.ring.open_sockets(), 0);
}

#[test]
fn a_cancelled_receive_can_be_taken_up_again() {
    let mut driver = Driver::new();
    let (client, socket) = pair(&mut driver);
    for round in 0..20u8 {
        let token = driver.submit(Operation::Receive { socket });
        (&client).write_all(&[round; 3]).unwrap();
        assert_eq!(receive(&mut driver, token, 3), [round; 3]);
        let cancel = driver.submit(Operation::CancelReceive { socket });
        assert!(matches!(driver.end(token), Outcome::Cancelled));
        assert!(is_done(&driver.end(cancel)));
    }
    assert!(is_done(&driver.run(Operation::CancelReceive { socket })), "nothing to cancel");
    // What arrives while nobody receives waits in the socket.
    (&client).write_all(b"later").unwrap();
    driver.poll();
    let token = driver.submit(Operation::Receive { socket });
    assert_eq!(receive(&mut driver, token, 5), b"later");
}

#[test]
fn receives_wait_for_a_buffer_and_go_on() {
    const CLIENTS: usize = 8;
    let options = RingOptions { receive_buffer_count: 2, receive_buffer_bytes: 4096, ..Default::default() };
    let mut driver = Driver::with_options(options);
    let mut pairs: Vec<(TcpStream, Socket, Token)> = Vec::new();
    for _ in 0..CLIENTS {
        let (client, socket) = pair(&mut driver);
        pairs.push((client, socket, driver.submit(Operation::Receive { socket })));
    }
    for (client, _, _) in &pairs {
        (&*client).write_all(&[9; 3 * 4096]).unwrap();
    }
    // Both buffers are kept: the others starve, and are not heard of.
    let held = [0, 1].map(|_| {
        driver.next(|_, completion| match completion.outcome {
            Outcome::Received(received) => Ok((completion.token, received)),
            _ => panic!("{}", name(&completion.outcome)),
        })
    });
    let mut left = 3 * 4096 * CLIENTS;
    for (_, received) in held {
        left -= driver.ring.bytes(&received).len();
        driver.ring.give_back(received);
    }
    while left > 0 {
        left -= driver.next(|ring, completion| match completion.outcome {
            Outcome::Received(received) => {
                let count = ring.bytes(&received).len();
                ring.give_back(received);
                Ok(count)
            }
            _ => panic!("{}", name(&completion.outcome)),
        });
    }
    assert!(driver.ring.counters().receives_starved > 0, "{:?}", driver.ring.counters());
}

#[test]
fn who_says_little_is_heard_beside_those_who_fill_all_buffers() {
    const BUFFERS: usize = 8;
    const BUFFER_BYTES: usize = 4096;
    let options = RingOptions {
        receive_buffer_count: BUFFERS as u16,
        receive_buffer_bytes: BUFFER_BYTES as u32,
        ..Default::default()
    };
    let mut driver = Driver::with_options(options);
    // What each has in its socket would fill all buffers eight times.
    let greedy: Vec<TcpStream> = (0..4)
        .map(|_| {
            let (client, socket) = pair(&mut driver);
            (&client).write_all(&vec![7; 8 * BUFFERS * BUFFER_BYTES]).unwrap();
            driver.submit(Operation::Receive { socket });
            client
        })
        .collect();
    let (polite, socket) = pair(&mut driver);
    let token = driver.submit(Operation::Receive { socket });
    for question in 0..10 {
        (&polite).write_all(b"?").unwrap();
        let mut before = 0;
        loop {
            let (from, count) = driver.next(|ring, completion| match completion.outcome {
                Outcome::Received(received) => {
                    let count = ring.bytes(&received).len();
                    ring.give_back(received);
                    Ok((completion.token, count))
                }
                _ => panic!("{}", name(&completion.outcome)),
            });
            if from == token {
                assert_eq!(count, 1);
                break;
            }
            before += 1;
        }
        // Those that are full when it asks, those that are filled before it is in the line, and one of each in it.
        let most = 2 * BUFFERS + greedy.len();
        assert!(before <= most, "question {question}: {before} buffers of others came first");
    }
}

#[test]
fn a_starved_receive_can_be_cancelled_and_closed() {
    let options = RingOptions { receive_buffer_count: 1, receive_buffer_bytes: 4096, ..Default::default() };
    let mut driver = Driver::with_options(options);
    let (client, socket) = pair(&mut driver);
    let token = driver.submit(Operation::Receive { socket });
    (&client).write_all(&[1; 4 * 4096]).unwrap();
    let (Outcome::Received(held), true) = driver.outcome(token) else { panic!("no bytes") };
    while driver.ring.counters().receives_starved == 0 {
        driver.poll();
    }
    let cancel = driver.submit(Operation::CancelReceive { socket });
    assert!(matches!(driver.end(token), Outcome::Cancelled));
    assert!(is_done(&driver.end(cancel)));

    let token = driver.submit(Operation::Receive { socket });
    while driver.ring.counters().receives_starved == 1 {
        driver.poll();
    }
    let close = driver.submit(Operation::CloseSocket { socket });
    assert!(matches!(driver.end(token), Outcome::Cancelled));
    assert!(is_done(&driver.end(close)));
    driver.ring.give_back(held);
    assert_eq!(driver.ring.open_sockets(), 0);
}

#[test]
fn a_close_ends_what_is_in_flight_first() {
    let mut driver = Driver::new();
    let (mut client, socket) = pair(&mut driver);
    let receive = driver.submit(Operation::Receive { socket });
    // Nobody reads: the send cannot end by itself.
    let send = driver.submit(Operation::Send { socket, slices: vec![Bytes::from(vec![1; 32 << 20])] });
    driver.poll();
    let close = driver.submit(Operation::CloseSocket { socket });
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(driver.next(|_, completion| {
            assert!(!completion.more);
            Ok((completion.token, completion.outcome))
        }));
    }
    assert!(matches!(ended.pop(), Some((token, Outcome::Done)) if token == close), "the close is last");
    for (token, outcome) in ended {
        match outcome {
            Outcome::EndOfStream | Outcome::Cancelled => assert_eq!(token, receive),
            Outcome::Failed(error) => {
                assert_eq!(token, send);
                assert!(matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECANCELED)), "{error}");
            }
            other => panic!("{}", name(&other)),
        }
    }
    assert_eq!((driver.ring.open_sockets(), driver.ring.in_flight()), (0, 1), "the accept is left");
    client.read_to_end(&mut Vec::new()).ok();
}

#[test]
fn a_closed_listener_accepts_no_more() {
    let mut driver = Driver::new();
    let (listener, accept, address) = listen(&mut driver);
    assert_eq!(check_port_free(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let _client = connect(address);
    assert!(matches!(driver.outcome(accept), (Outcome::Accepted { .. }, true)));
    let close = driver.submit(Operation::CloseListener { listener });
    assert!(matches!(driver.end(accept), Outcome::Cancelled));
    assert!(is_done(&driver.end(close)));
    assert!(TcpStream::connect(address).is_err());
    check_port_free(address).expect("nobody listens");
}

#[test]
fn a_port_that_another_process_shares_is_seen() {
    let mut driver = Driver::new();
    let (_listener, _accept, address) = listen(&mut driver);
    assert!(driver.ring.listen(address).is_ok(), "shards share the port");
    assert!(check_port_free(address).is_err(), "with SO_REUSEPORT on both sides a bind alone would not tell");
    let other = TcpListener::bind(LOOPBACK).unwrap();
    assert!(check_port_free(other.local_addr().unwrap()).is_err());
}

#[test]
fn a_connection_beyond_the_table_is_closed_at_once() {
    let mut driver = Driver::with_options(RingOptions { sockets_max: 2, ..Default::default() });
    let (_, accept, address) = listen(&mut driver);
    let clients: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    let mut sockets = Vec::new();
    while driver.ring.counters().connections_refused == 0 || sockets.len() < 2 {
        driver.poll();
        driver.next(|_, completion| match completion.outcome {
            Outcome::Accepted { socket, .. } if sockets.len() < 2 => {
                sockets.push(socket);
                Ok(())
            }
            _ => panic!("{}", name(&completion.outcome)),
        });
        if sockets.len() == 2 {
            while driver.ring.counters().connections_refused == 0 {
                driver.poll();
            }
        }
    }
    let ends = clients.iter().filter(|client| {
        client.set_nonblocking(true).unwrap();
        matches!((&**client).read(&mut [0; 1]), Ok(0))
    });
    assert_eq!(ends.count(), 1);
    assert!(is_done(&driver.run(Operation::CloseSocket { socket: sockets[0] })));
    let _late = connect(address);
    assert!(matches!(driver.outcome(accept), (Outcome::Accepted { .. }, true)), "a place came free");
}

/// Lowering the limit of open files would disturb the other tests, so this one runs in a process of its own.
#[test]
fn accepting_pauses_while_descriptors_are_short() {
    const IN_CHILD: &str = "REACTOR_TEST_CHILD";
    if std::env::var_os(IN_CHILD).is_none() {
        let name = "socket::accepting_pauses_while_descriptors_are_short";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(IN_CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let mut driver = Driver::new();
    let (_, accept, address) = listen(&mut driver);
    let _clients: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").unwrap());
    setrlimit(Resource::RLIMIT_NOFILE, next as u64, hard).unwrap();
    while driver.ring.counters().accept_pauses == 0 {
        driver.poll();
    }
    // Through two more pauses the ring sleeps: it enters the kernel a few times, not as often as it can.
    let before = driver.ring.counters().enters;
    while driver.ring.counters().accept_pauses < 3 {
        let soon = driver.ring.now() + Duration::from_secs(1);
        driver.ring.wait(soon);
        driver.poll();
    }
    let enters = driver.ring.counters().enters - before;
    assert!(enters < 50, "{enters} system calls in two pauses");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    for _ in 0..4 {
        assert!(matches!(driver.outcome(accept), (Outcome::Accepted { .. }, true)));
    }
}
