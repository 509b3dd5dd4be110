//! Well-formed requests in numbers that nobody needs.

use corelog::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelog::protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use corelog::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelog_clients::options;

use crate::wire::{
    Client, FETCH_VERSION, Probe, batch, fetch_request, frame, metric, read, resident_mib, wait_until,
    wait_until_at_most,
};

fn wanted(partition: i32) -> FetchPartition {
    FetchPartition { partition, partition_max_bytes: 1000, ..FetchPartition::default() }
}

#[test]
fn a_fetch_session_takes_a_hundred_thousand_partitions_in_its_stride() {
    let broker = options!().cores(1).start();
    let mut probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    let session_of = |reader: &mut corelog::protocol::Reader<'_>| {
        let answer = read::<FetchResponse<'_>>(reader, FETCH_VERSION);
        (answer.error_code, answer.session_id)
    };
    let request = FetchRequest { session_epoch: 0, ..fetch_request("probe", 0, 0, 1000) };
    let (error, session_id) = client.ask(&request, FETCH_VERSION, session_of);
    assert_eq!(error, 0);
    assert!(session_id > 0);
    let partitions: Vec<FetchPartition> = (0..100_000).map(wanted).collect();
    let topic = FetchTopic { topic: "probe", partitions: partitions.into(), ..FetchTopic::default() };
    let grow = FetchRequest { session_id, session_epoch: 1, topics: vec![topic].into(), ..request };
    client.send(&frame(&grow, FETCH_VERSION)).expect("ask");
    probe.beat();
    client.receive().expect("an answer");
    probe.finish();
    broker.finish();
}

#[test]
fn a_record_wakes_ten_thousand_fetches_that_wait_for_it() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let mut producer = Client::connect(broker.address());
    producer.create_topic("awaited", 1);
    wait_until("the topic", || producer.produce("awaited", &batch(b"x")).0 == 0);
    let ask = frame(&fetch_request("awaited", 1, i32::MAX, 100), FETCH_VERSION);
    let mut waiting: Vec<Client> = (0..100).map(|_| Client::connect(broker.address())).collect();
    for client in &mut waiting {
        client.send(&ask.repeat(100)).expect("ask");
    }
    wait_until("all wait", || metric(&broker, "corelog_pending_requests") >= 10_000);
    probe.beat();
    assert_eq!(producer.produce("awaited", &batch(b"y")), (0, 1));
    for client in &mut waiting {
        for _ in 0..100 {
            client.receive().expect("the record");
        }
    }
    wait_until_at_most(&broker, "corelog_pending_requests", 0);
    probe.finish();
    broker.finish();
}

#[test]
fn floods_of_small_requests_are_answered_rightly() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    client.create_topic("t", 1);
    let before = resident_mib(&broker);

    let mut last = -1;
    for _ in 0..1000 {
        let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let (error, id) = client.ask(&request, 2, |reader| {
            let answer = read::<InitProducerIdResponse>(reader, 2);
            (answer.error_code, answer.producer_id)
        });
        assert_eq!(error, 0);
        assert_ne!(id, last, "a producer id is given once");
        last = id;
    }
    probe.beat();

    // The coordinator is there once the topic of offsets is.
    let find = corelog::protocol::messages::find_coordinator::FindCoordinatorRequest {
        key: "g",
        ..Default::default()
    };
    let commit = |client: &mut Client, offset: i64| {
        let part = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: "t", partitions: vec![part].into(), ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: "g",
            topics: vec![topic].into(),
            ..OffsetCommitRequest::default()
        };
        client.ask(&request, 5, |reader| {
            let answer = read::<OffsetCommitResponse<'_>>(reader, 5);
            answer.topics.first().expect("a topic").partitions.first().expect("a part").error_code
        })
    };
    wait_until("the coordinator", || {
        client.ask(&find, 1, |_| ());
        commit(&mut client, 0) == 0
    });
    for offset in 1..500 {
        assert_eq!(commit(&mut client, offset), 0);
    }
    probe.beat();

    let mut joining = Vec::new();
    for member in 0..200 {
        let mut joiner = Client::connect(broker.address());
        let metadata = vec![0; 10_000];
        let request = JoinGroupRequest {
            group_id: "crowd",
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 6_000,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: &metadata }].into(),
            ..JoinGroupRequest::default()
        };
        joiner.send(&frame(&request, 3)).expect("join");
        joining.push(joiner);
        if member % 50 == 0 {
            probe.beat();
        }
    }
    drop(joining);
    probe.beat();
    let after = resident_mib(&broker);
    assert!(after < before + 64, "floods took {before} MiB to {after}");
    probe.finish();
    broker.finish();
}

#[test]
fn hundreds_of_topics_and_metadata_of_all_of_them_in_a_loop() {
    let broker = options!().cores(2).start();
    let mut probe = Probe::start(&broker);
    let mut client = Client::connect(broker.address());
    for batch in 0..10 {
        let names: Vec<String> = (0..20).map(|n| format!("topic-{batch}-{n}")).collect();
        let topics: Vec<CreatableTopic<'_>> = names
            .iter()
            .map(|name| CreatableTopic {
                name,
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            })
            .collect();
        let request = CreateTopicsRequest { topics: topics.into(), ..CreateTopicsRequest::default() };
        let refused = client.ask(&request, 5, |reader| {
            let answer = read::<CreateTopicsResponse<'_>>(reader, 5);
            answer.topics.iter().filter(|topic| topic.error_code != 0).count()
        });
        assert_eq!(refused, 0);
        probe.beat();
    }
    let before = resident_mib(&broker);
    let all = frame(&MetadataRequest { topics: None, ..MetadataRequest::default() }, 8);
    let mut greedy = Client::connect(broker.address());
    // It asks 2000 times and reads nothing.
    greedy.send_without_waiting(&all.repeat(2000));
    for _ in 0..20 {
        probe.beat();
    }
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let topics = client.ask(&request, 8, |reader| read::<MetadataResponse<'_>>(reader, 8).topics.len());
    assert_eq!(topics, 201, "the probe's topic is one more");
    let after = resident_mib(&broker);
    assert!(after < before + 64, "metadata in a loop took {before} MiB to {after}");
    probe.finish();
    broker.finish();
}
