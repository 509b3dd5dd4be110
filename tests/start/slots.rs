//! Slots that move between cores: on demand, and by the balancer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Broker;
use super::commands::{done, json_of};

/// `PUT`s to the admin server; the status and what it says.
fn put(broker: &Broker, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&broker.admin).expect("the admin server listens");
    write!(stream, "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers with text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

fn page(broker: &Broker, path: &str) -> Value {
    let answer = broker.get(path);
    json_of(answer.split_once("\r\n\r\n").expect("a head and a body").1)
}

fn core_of(broker: &Broker, slot: u64) -> u64 {
    let page = page(broker, "/slots");
    let slots = page["slots"].as_array().expect("a list");
    let found = slots.iter().find(|row| row["slot"] == slot).expect("every slot is somewhere");
    found["core"].as_u64().expect("a number")
}

#[test]
fn moves_that_make_no_sense_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    let check = |path: &str, status: u16, words: &str| {
        let (found, answer) = put(&broker, path);
        assert!(found == status && answer.contains(words), "{path}: {answer}");
    };
    check("/slots/64/core/1", 409, "there is no slot 64: they are numbered from 0 to 63");
    check("/slots/0/core/2", 409, "there is no core 2: this broker runs cores 0 to 1");
    check("/slots/0/core/0", 409, "the slot is on core 0 already");
    check("/slots/-1/core/0", 400, "");
    check("/slots/0/core/x", 400, "");
    check("/slots/0/core/1", 200, "\"core\": 1");
    check("/slots/0/core/1", 409, "the slot is on core 1 already");
    assert_eq!(core_of(&broker, 0), 1);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn the_balancer_moves_a_busy_slot_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let settings = ["--set", "balancer.enable=true", "--set", "balancer.interval.ms=1000"];
    let broker = Broker::start(directory.path(), &settings);
    // One in each of the first slots, which are on the cores in turn; those of the first core are busy.
    done(&broker, &["topic", "create", "t", "--partitions", "6"], b"");
    let busy = ["0", "2", "4"];
    assert!(busy.iter().all(|slot| core_of(&broker, slot.parse().unwrap()) == 0));
    let lines: Vec<u8> = (0..20_000).flat_map(|line| format!("{line:0100}\n").into_bytes()).collect();
    let deadline = Instant::now() + Duration::from_secs(100);
    let mut rounds = 0;
    while busy.iter().all(|slot| core_of(&broker, slot.parse().unwrap()) == 0) {
        assert!(Instant::now() < deadline, "no slot moves in {rounds} rounds: {}", broker.get("/slots"));
        for partition in busy {
            done(&broker, &["produce", "t", "--partition", partition], &lines);
        }
        rounds += 1;
    }
    for partition in busy {
        done(&broker, &["produce", "t", "--partition", partition], b"last\n");
        let read = done(&broker, &["consume", "t", "--partition", partition, "--format", "%o %v"], b"");
        let expected: String = (0..rounds * 20_000 + 1)
            .map(|offset| match offset == rounds * 20_000 {
                true => format!("{offset} last\n"),
                false => format!("{offset} {:0100}\n", offset % 20_000),
            })
            .collect();
        assert!(
            read == expected,
            "partition {partition}: {} lines after {rounds} rounds",
            read.lines().count()
        );
    }
    let counters = page(&broker, "/state")["counters"].clone();
    assert!(counters["corelog_balancer_moves_total"].as_u64().is_some_and(|count| count >= 1), "{counters}");
    assert!(counters["corelog_slot_moves_total"].as_u64().is_some_and(|count| count >= 1), "{counters}");
    assert_eq!(broker.stop().code(), Some(0));
}
