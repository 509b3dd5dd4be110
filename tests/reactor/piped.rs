//! Pages of a file that go to a socket through a pipe.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use corelog::reactor::{File, Files, Io, OpenMode, Operation, Outcome, PIPE_BYTES, Socket, StdFiles};

use crate::driver::{Driver, is_done, name};

const FILE_BYTES: usize = 5 << 20;

struct Scene {
    driver: Driver,
    client: TcpStream,
    socket: Socket,
    file: File,
    content: Vec<u8>,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        let content: Vec<u8> = (0..FILE_BYTES).map(|i| (i * 7 + i / 4096 * 3 + i / 251) as u8).collect();
        let mut files = StdFiles;
        let file = files.open(&directory.path().join("pages"), OpenMode::Write).expect("a file");
        files.write_at(file, 0, &content).expect("it has room");
        let mut driver = Driver::new();
        let (listener, address) = driver.ring.listen((Ipv4Addr::LOCALHOST, 0).into()).expect("listen");
        let accept = driver.submit(Operation::Accept { listener });
        let client = TcpStream::connect(address).expect("connect");
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (Outcome::Accepted { socket, .. }, true) = driver.outcome(accept) else { panic!("an accept") };
        Scene { driver, client, socket, file, content, _directory: directory }
    }

    fn is_told(&mut self) -> bool {
        let is_told = self.driver.ring.is_resident(self.file, 0, FILE_BYTES as u64);
        if !is_told {
            println!("skipped: this kernel does not say what is in the page cache (cachestat, Linux 6.5)");
        }
        is_told
    }
}

#[test]
fn bytes_before_and_behind_the_pages_come_in_order() {
    let mut scene = Scene::new();
    if !scene.is_told() {
        return;
    }
    let mut reader = scene.client.try_clone().unwrap();
    // More of them, one after the other, than there are pipes.
    for number in 0..40usize {
        let head = vec![number as u8; if number % 4 == 0 { 0 } else { number * 5000 }];
        let (position, length) = (number * 12_345, PIPE_BYTES as usize - 12_345 * (number % 3));
        let piped =
            scene.driver.ring.take_pages(scene.file, position as u64, length).expect("a pipe is free");
        assert!(piped.len() <= length && piped.len() > length - 4096);
        let pages = &scene.content[position..position + piped.len()];
        let expected = [head.as_slice(), pages].concat();
        let count = expected.len();
        let reading = std::thread::spawn(move || {
            let mut received = vec![0; count];
            reader.read_exact(&mut received).expect("all of it");
            (reader, received)
        });
        let slices = vec![Bytes::from(head)];
        let is_sent = scene.driver.run(Operation::SendPiped { socket: scene.socket, slices, piped });
        assert!(is_done(&is_sent), "{}", name(&is_sent));
        let (again, received) = reading.join().unwrap();
        assert!(received == expected, "send {number}");
        reader = again;
    }
    let is_sent = scene
        .driver
        .run(Operation::Send { socket: scene.socket, slices: vec![Bytes::from_static(b"behind")] });
    assert!(is_done(&is_sent));
    let mut behind = [0; 6];
    reader.read_exact(&mut behind).unwrap();
    assert_eq!(&behind, b"behind");
}

#[test]
fn pipes_are_few_and_come_back() {
    let mut scene = Scene::new();
    if !scene.is_told() {
        return;
    }
    let mut taken = Vec::new();
    while let Some(piped) = scene.driver.ring.take_pages(scene.file, 0, 8192) {
        taken.push(piped);
        assert!(taken.len() < 1000, "pipes without end");
    }
    let count = taken.len();
    assert!(count >= 4, "{count} pipes");
    // With what is in it: it is closed, and another is made in its place.
    drop(taken.pop());
    taken.push(scene.driver.ring.take_pages(scene.file, 4096, 100).expect("one is free"));
    assert!(scene.driver.ring.take_pages(scene.file, 0, 8192).is_none());
    // Sent: it is empty, and used again.
    let piped = taken.pop().unwrap();
    assert_eq!(piped.len(), 100);
    assert!(is_done(&scene.driver.run(Operation::SendPiped {
        socket: scene.socket,
        slices: Vec::new(),
        piped
    })));
    let piped = scene.driver.ring.take_pages(scene.file, 0, 50).expect("one is free");
    assert!(is_done(&scene.driver.run(Operation::SendPiped {
        socket: scene.socket,
        slices: Vec::new(),
        piped
    })));
    let mut received = [0; 150];
    scene.client.read_exact(&mut received).unwrap();
    assert!(received[..100] == scene.content[4096..4196] && received[100..] == scene.content[..50]);
}

#[test]
fn a_close_ends_a_send_that_nobody_reads() {
    let mut scene = Scene::new();
    if !scene.is_told() {
        return;
    }
    // One after the other until the socket takes no more.
    let send = loop {
        let piped = scene.driver.ring.take_pages(scene.file, 0, PIPE_BYTES as usize).expect("a pipe is free");
        let head = vec![Bytes::from_static(b"head")];
        let send = scene.driver.submit(Operation::SendPiped { socket: scene.socket, slices: head, piped });
        match scene.driver.end_within(send, Duration::from_secs(1)) {
            Some(outcome) => assert!(is_done(&outcome), "{}", name(&outcome)),
            None => break send,
        }
    };
    let close = scene.driver.submit(Operation::CloseSocket { socket: scene.socket });
    match scene.driver.end(send) {
        Outcome::Failed(error) => {
            assert!(matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECANCELED)), "{error}");
        }
        other => panic!("{}", name(&other)),
    }
    assert!(is_done(&scene.driver.end(close)));
    assert_eq!(scene.driver.ring.open_sockets(), 0);
}
