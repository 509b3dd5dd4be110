//! Frames that are none: wrong lengths, halves, garbage, truncated and changed bodies of every API in every version.

use bytes::BytesMut;
use corelog::protocol::messages::AnyRequest;
use corelog::protocol::{ApiKey, RequestHeader, Writer};
use corelog_clients::options;

use crate::wire::{Client, Probe, metric, resident_mib, wait_until_at_most};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

#[test]
fn a_length_that_cannot_be_closes_the_connection() {
    let broker = options!().cores(2).set("socket.request.max.bytes", "1000000").start();
    let mut probe = Probe::start(&broker);
    let before = resident_mib(&broker);
    for length in [0i32, -1, i32::MIN, i32::MAX, 1_000_001] {
        for _ in 0..20 {
            let mut client = Client::connect(broker.address());
            client.send(&length.to_be_bytes()).expect("send four bytes");
            assert!(client.is_closed_by_broker(), "length {length}");
        }
        probe.beat();
    }
    let after = resident_mib(&broker);
    assert!(after < before + 16, "{before} MiB grew to {after}");
    probe.finish();
    broker.finish();
}

#[test]
fn claimed_lengths_take_no_memory() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let before = resident_mib(&broker);
    let mut claims: Vec<Client> = (0..300).map(|_| Client::connect(broker.address())).collect();
    for client in &mut claims {
        client.send(&(100i32 << 20).to_be_bytes()).expect("claim 100 MiB");
    }
    for _ in 0..10 {
        for client in &mut claims {
            client.send(&[0]).expect("send one byte of it");
        }
        probe.beat();
    }
    let after = resident_mib(&broker);
    assert!(after < before + 32, "300 claims of 100 MiB took {before} MiB to {after}");
    drop(claims);
    wait_until_at_most(&broker, "corelog_connections", 1);
    probe.finish();
    broker.finish();
}

#[test]
fn unfinished_requests_are_bounded_together() {
    let settings = [("socket.request.max.bytes", "4000000"), ("queued.max.request.bytes", "8000000")];
    let options =
        settings.into_iter().fold(options!().cores(1), |options, (key, value)| options.set(key, value));
    let broker = options.start();
    let mut probe = Probe::start(&broker);
    let before = resident_mib(&broker);
    let piece = vec![0; 3_900_000];
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(broker.address());
        client.send(&4_000_000i32.to_be_bytes()).expect("claim");
        // The broker may close while it is sent.
        client.send(&piece).ok();
        held.push(client);
        probe.beat();
    }
    let after = resident_mib(&broker);
    assert!(after < before + 48, "unfinished requests took {before} MiB to {after}");
    assert!(metric(&broker, "corelog_connections_refused_total") >= 30, "those beyond the bound are closed");
    probe.finish();
    broker.finish();
}

#[test]
fn every_api_and_version_survives_truncated_and_changed_bodies() {
    let broker = options!().cores(2).set("auto.create.topics.enable", "false").start();
    let mut probe = Probe::start(&broker);
    let mut random = Random(7);
    for &api in ApiKey::ALL {
        for version in api.versions() {
            let mut whole = BytesMut::new();
            let mut writer = Writer::contiguous(&mut whole);
            let header = RequestHeader {
                api_key: api.key(),
                api_version: version,
                correlation_id: 1,
                client_id: Some("hostile"),
            };
            header.encode(&mut writer);
            AnyRequest::default_of(api).encode_to(&mut writer, version);
            for round in 0..12 {
                let mut body = whole.to_vec();
                if round < 4 {
                    body.truncate(random.below(body.len()).max(1));
                } else {
                    for _ in 0..=random.below(4) {
                        let at = 8 + random.below(body.len() - 8);
                        body[at] = random.below(256) as u8;
                    }
                }
                let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
                bytes.extend_from_slice(&body);
                let mut client = Client::connect(broker.address());
                client.send(&bytes).ok();
                // Half of them go without waiting for what comes.
                if round % 2 == 0 {
                    client.end_of_sending();
                    client.receive().ok();
                }
            }
        }
        probe.beat();
    }
    probe.finish();
    wait_until_at_most(&broker, "corelog_connections", 0);
    broker.finish();
}

#[test]
fn garbage_is_no_request() {
    let broker = options!().cores(2).start();
    let probe = Probe::start(&broker);
    let mut random = Random(11);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..1 + random.below(5000)).map(|_| random.below(256) as u8).collect();
        let mut client = Client::connect(broker.address());
        client.send(&bytes).ok();
    }
    for text in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03"] {
        let mut client = Client::connect(broker.address());
        client.send(text.as_bytes()).expect("send");
        assert!(client.is_closed_by_broker(), "{text:?}");
    }
    probe.finish();
    wait_until_at_most(&broker, "corelog_connections", 0);
    broker.finish();
}
