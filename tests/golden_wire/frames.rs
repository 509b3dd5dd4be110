//! Frames of our own, byte for byte: what a client library would never send, and what any client sees first.
//! The hundreds of cases that are compared with Apache Kafka's answers stand with the oracle (`tools/suites/golden.sh`).
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use corelog_clients::Broker;

const CASES: &str = include_str!("frames.txt");
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes, with `None` where any byte will do.
fn pattern(hex: &str) -> Vec<Option<u8>> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {hex:?}");
    let byte = |pair: &[char]| match pair {
        ['.', '.'] => None,
        pair => Some(u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("two hex digits")),
    };
    digits.chunks(2).map(byte).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    pattern(hex).into_iter().map(|b| b.expect("a byte to send")).collect()
}

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    stream.set_nodelay(true).expect("set no delay");
    stream
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).expect("an answer");
    let size = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
    assert!(size < 1 << 20, "an answer of {size} bytes");
    frame.resize(4 + size, 0);
    stream.read_exact(&mut frame[4..]).expect("the whole answer");
    frame
}

/// The pattern is the whole answer, or its beginning when the length is left open.
fn assert_matches(case: &str, expected: &[Option<u8>], answer: &[u8]) {
    let open_end = expected[..4] == [None; 4];
    let same = expected.iter().zip(answer).all(|(e, a)| e.is_none_or(|e| e == *a));
    let hex: String = answer.iter().map(|b| format!("{b:02x}")).collect();
    assert!(same && (open_end || expected.len() == answer.len()), "{case}: answered {hex}");
}

fn run(broker: &Broker, case: &str, steps: &[(&str, &str)]) {
    let mut stream = connect(broker);
    for (step, hex) in steps {
        match *step {
            "send" => stream.write_all(&bytes(hex)).expect("send"),
            "bytewise" => {
                for byte in bytes(hex) {
                    stream.write_all(&[byte]).expect("send");
                }
            }
            "expect" => assert_matches(case, &pattern(hex), &read_frame(&mut stream)),
            "closed" => match stream.read(&mut [0; 1]) {
                Ok(0) => {}
                Err(cause) if cause.kind() == ErrorKind::ConnectionReset => {}
                other => panic!("{case}: not closed: {other:?}"),
            },
            other => panic!("{case}: no step is called {other:?}"),
        }
    }
}

fn cases() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let mut cases: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "case" => cases.push((rest, Vec::new())),
            step => cases.last_mut().expect("a case first").1.push((step, rest)),
        }
    }
    cases
}

#[test]
fn every_stored_frame_is_answered_as_stored() {
    // What is wrong with a request may be told in the log.
    let broker = corelog_clients::options!().allow_warning("").start();
    for (case, steps) in cases() {
        run(&broker, case, &steps);
    }
    // None of that harmed the broker.
    let (case, steps) = &cases()[0];
    run(&broker, case, steps);
    broker.finish();
}

#[test]
fn a_silent_connection_disturbs_nobody() {
    let broker = corelog_clients::options!().start();
    let mut half = connect(&broker);
    // A length that promises a large frame, and then nothing.
    half.write_all(&1_000_000u32.to_be_bytes()).expect("send");
    let idle: Vec<_> = (0..50).map(|_| connect(&broker)).collect();
    let (case, steps) = &cases()[0];
    run(&broker, case, steps);
    drop((half, idle));
    broker.finish();
}
