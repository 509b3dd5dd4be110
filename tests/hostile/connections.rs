//! Clients that come and go, ask and do not read, wait for ever, or are very many.

use corelog::protocol::messages::api_versions::ApiVersionsRequest;
use corelog_clients::options;

use crate::wire::{
    Client, FETCH_VERSION, Probe, batch, fetch_request, frame, metric, resident_mib, wait_until,
    wait_until_at_most,
};

#[test]
fn fetches_of_clients_that_have_gone_are_forgotten() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let end = Client::connect(broker.address()).fetch("probe", 0).1;
    let ask = frame(&fetch_request("probe", end, i32::MAX, 1000), FETCH_VERSION);
    for pipelined in [1, 100] {
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(broker.address())).collect();
        for client in &mut clients {
            client.send(&ask.repeat(pipelined)).expect("ask");
        }
        wait_until("the fetches wait", || {
            metric(&broker, "corelog_pending_requests") >= 20 * pipelined as u64
        });
        drop(clients);
        wait_until_at_most(&broker, "corelog_pending_requests", 0);
        wait_until_at_most(&broker, "corelog_connections", 1);
    }
    probe.beat();
    probe.finish();
    broker.finish();
}

#[test]
fn a_client_that_closed_one_side_gets_what_it_asked_for() {
    let broker = options!().cores(2).start();
    let probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    client.send(&frame(&fetch_request("probe", 1, i32::MAX, 1000), FETCH_VERSION)).expect("ask");
    client.send(&frame(&ApiVersionsRequest::default(), 0)).expect("ask");
    client.end_of_sending();
    client.receive().expect("the fetch is answered with what there is");
    client.receive().expect("the next one too");
    assert!(client.is_closed_by_broker());
    probe.finish();
    broker.finish();
}

#[test]
fn a_full_connection_that_stands_still_is_closed_as_idle() {
    let options = options!().cores(1).set("connections.max.idle.ms", "1000");
    let broker = options.set("connection.requests.in.flight.max", "4").start();
    let probe = Probe::start(&broker);
    let end = Client::connect(broker.address()).fetch("probe", 0).1;
    let mut client = Client::connect(broker.address());
    let ask = frame(&fetch_request("probe", end, i32::MAX, 1000), FETCH_VERSION);
    client.send(&ask.repeat(20)).expect("ask more than may be in flight");
    wait_until("it is full", || metric(&broker, "corelog_pending_requests") == 4);
    drop(client);
    drop(probe);
    wait_until_at_most(&broker, "corelog_pending_requests", 0);
    broker.finish();
}

#[test]
fn large_fetches_that_nobody_reads_take_bounded_memory() {
    // Memory for recent records is small, so that the reads go to the disk and their buffers are the broker's own.
    let broker = options!().cores(2).set("shard.tail.cache.bytes", "1048576").start();
    let mut probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    client.create_topic("big", 1);
    let records = batch(&vec![b'x'; 900_000]);
    wait_until("the topic", || client.produce("big", &records).0 == 0);
    for _ in 0..30 {
        assert_eq!(client.produce("big", &records).0, 0);
    }
    let before = resident_mib(&broker);
    let ask = frame(&fetch_request("big", 0, 100, 20 << 20), FETCH_VERSION);
    let mut greedy: Vec<Client> = (0..3).map(|_| Client::connect(broker.address())).collect();
    for client in &mut greedy {
        client.send(&ask.repeat(200)).expect("ask 200 times for 20 MiB");
    }
    for _ in 0..20 {
        probe.beat();
        let now = resident_mib(&broker);
        assert!(now < before + 256, "600 fetches of 20 MiB took {before} MiB to {now}");
    }
    // One of them reads after all, and gets every answer.
    let mut reader = greedy.remove(0);
    for _ in 0..10 {
        assert!(reader.receive().expect("an answer").len() > 15 << 20);
    }
    drop((reader, greedy));
    wait_until_at_most(&broker, "corelog_pending_requests", 0);
    probe.finish();
    broker.finish();
}

#[test]
fn a_deep_pipeline_is_answered_in_full() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    let all = frame(&ApiVersionsRequest::default(), 0).repeat(10_000);
    let mut sent = client.send_without_waiting(&all);
    probe.beat();
    let mut received = 0;
    while received < 10_000 {
        if sent < all.len() {
            sent += client.send_without_waiting(&all[sent..]);
        }
        client.receive().expect("an answer");
        received += 1;
    }
    probe.finish();
    broker.finish();
}

#[test]
fn thousands_of_connections_come_and_go() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let versions = frame(&ApiVersionsRequest::default(), 0);
    let fetch = frame(&fetch_request("probe", 0, 1000, 1000), FETCH_VERSION);
    for round in 0..50 {
        for turn in 0..100 {
            let mut client = Client::connect(broker.address());
            match turn % 4 {
                0 => {}
                1 => client.send(&versions).expect("ask"),
                2 => client.send(&fetch).expect("ask"),
                _ => client.send(&versions[..7]).expect("send a half"),
            }
        }
        if round % 5 == 0 {
            probe.beat();
        }
    }
    wait_until_at_most(&broker, "corelog_connections", 1);
    wait_until_at_most(&broker, "corelog_pending_requests", 0);
    probe.finish();
    broker.finish();
}

#[test]
fn an_address_has_no_more_connections_than_it_may() {
    let few = [("max.connections.per.ip", "1"), ("max.connections.per.ip.overrides", "127.0.0.1:3,[::1]:2")];
    let broker =
        few.into_iter().fold(options!().cores(2), |options, (key, value)| options.set(key, value)).start();
    let mut clients: Vec<Client> = (0..7).map(|_| Client::connect(broker.address())).collect();
    let refused = || metric(&broker, "corelog_connections_refused_total");
    wait_until("four are refused", || refused() == 4 && metric(&broker, "corelog_connections") == 3);
    clients.clear();
    wait_until_at_most(&broker, "corelog_connections", 0);
    Client::connect(broker.address()).fetch("t", 0);
    assert_eq!(refused(), 4);
    broker.finish();
}

#[test]
fn idle_connections_cost_little_and_those_beyond_the_bound_are_closed() {
    let broker = options!().cores(2).set("max.connections", "400").start();
    let mut probe = Probe::start(&broker);
    let before = resident_mib(&broker);
    // The probe is one of those who are in.
    let idle: Vec<Client> = (0..700).map(|_| Client::connect(broker.address())).collect();
    wait_until("all are accepted or refused", || {
        metric(&broker, "corelog_connections_accepted_total") >= 701
            && metric(&broker, "corelog_connections") == 400
    });
    probe.beat();
    let after = resident_mib(&broker);
    assert!(after < before + 32, "idle connections took {before} MiB to {after}");
    drop(idle);
    wait_until_at_most(&broker, "corelog_connections", 1);
    for _ in 0..100 {
        Client::connect(broker.address()).fetch("probe", 0);
    }
    probe.finish();
    broker.finish();
}
