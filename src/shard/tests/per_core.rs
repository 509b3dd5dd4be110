//! Endpoints that are brokers of their own, on the model: who serves what, and where those are sent who came to the wrong one.

use super::*;
use crate::metadata::GROUP_METADATA_TOPIC;
use crate::metrics::SlotMoveOutcome;
use crate::model::{PlacementSlot, TopicId};
use crate::protocol::Reader;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use crate::protocol::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use crate::protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::protocol::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};

/// Node 1 on these shards, with the topic `t` of so many partitions. They go around the endpoints: partition p is at p mod E.
fn node(shards: u16, endpoints: u16, partitions: i32) -> Bench {
    let world = SimWorld::new(13, SimOptions { shard_count: shards, ..SimOptions::default() });
    node_on(world, shards, endpoints, partitions)
}

fn node_on(world: SimWorld, shards: u16, endpoints: u16, partitions: i32) -> Bench {
    let mut bench = Bench::start_as(world, Shape { shards, endpoints, is_per_core: true }, &[DATA]);
    let topic = CreatableTopic {
        name: "t",
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() };
    // Any broker takes it.
    bench.client_at(usize::from(endpoints) - 1).make(&mut bench, &request);
    bench
}

fn code(error: i16) -> ErrorCode {
    ErrorCode::from_code(error).expect("a code of Kafka's")
}

fn id_of(endpoint: usize) -> i32 {
    1000 + endpoint as i32
}

/// Error, the leader told, and how to reach whom.
type Sent = (ErrorCode, i32, Vec<(i32, i32)>);

impl Client {
    fn produce_to(&mut self, bench: &mut Bench, partition: i32, version: i16) -> Sent {
        let mut batch = BatchBuilder::new();
        batch.push(1_700_000_000_000, None, Some(b"value"));
        let records = batch.finish(0, LeaderEpoch(-1));
        let data = PartitionProduceData { index: partition, records: Some(&records) };
        let topic = TopicProduceData { name: "t", partition_data: vec![data].into(), ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic].into(),
            ..ProduceRequest::default()
        };
        let body = self.ask(bench, &request, version);
        let response = ProduceResponse::decode(&mut Reader::new(&body), version).unwrap();
        let topic = response.responses.first().unwrap();
        let part = topic.partition_responses.first().unwrap();
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id, node.port)).collect();
        (code(part.error_code), part.current_leader.leader_id, endpoints)
    }

    fn fetch_from(&mut self, bench: &mut Bench, topic_id: TopicId, partition: i32) -> Sent {
        let part = FetchPartition { partition, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let topic = FetchTopic { topic_id, partitions: vec![part].into(), ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: 100,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![topic].into(),
            ..FetchRequest::default()
        };
        let body = self.ask(bench, &request, 16);
        let response = FetchResponse::decode(&mut Reader::new(&body), 16).unwrap();
        let topic = response.responses.first().unwrap();
        let part = topic.partitions.first().unwrap();
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id, node.port)).collect();
        (code(part.error_code), part.current_leader.leader_id, endpoints)
    }

    fn coordinator(&mut self, bench: &mut Bench, group: &str) -> i32 {
        for _ in 0..100 {
            let request =
                FindCoordinatorRequest { coordinator_keys: vec![group].into(), ..Default::default() };
            let body = self.ask(bench, &request, 4);
            let response = FindCoordinatorResponse::decode(&mut Reader::new(&body), 4).unwrap();
            let found = response.coordinators.first().unwrap();
            if found.error_code == 0 {
                let endpoint = usize::try_from(found.node_id - 1000).unwrap();
                assert_eq!(found.port, i32::from(bench.ports[endpoint]));
                return found.node_id;
            }
            // The topic of committed offsets is made on first use.
            bench.run_until(Duration::from_millis(10), |_| false);
        }
        panic!("no coordinator for {group}");
    }

    fn commit(&mut self, bench: &mut Bench, group: &str) -> ErrorCode {
        let part = OffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: "t", partitions: vec![part].into(), ..Default::default() };
        let request =
            OffsetCommitRequest { group_id: group, topics: vec![topic].into(), ..Default::default() };
        let body = self.ask(bench, &request, 8);
        let response = OffsetCommitResponse::decode(&mut Reader::new(&body), 8).unwrap();
        code(response.topics.first().unwrap().partitions.first().unwrap().error_code)
    }

    fn groups(&mut self, bench: &mut Bench) -> Vec<String> {
        let body = self.ask(bench, &ListGroupsRequest::default(), 4);
        let response = ListGroupsResponse::decode(&mut Reader::new(&body), 4).unwrap();
        assert_eq!(response.error_code, 0);
        response.groups.iter().map(|group| group.group_id.to_string()).collect()
    }

    /// The partitions that the broker says it has, as topic and number.
    fn log_dirs(&mut self, bench: &mut Bench) -> Vec<(String, i32)> {
        let body = self.ask(bench, &DescribeLogDirsRequest { topics: None }, 4);
        let response = DescribeLogDirsResponse::decode(&mut Reader::new(&body), 4).unwrap();
        let mut all = Vec::new();
        for topic in response.results.iter().flat_map(|directory| directory.topics) {
            all.extend(topic.partitions.iter().map(|part| (topic.name.to_string(), part.partition_index)));
        }
        all
    }

    /// The value of `message.max.bytes` that a broker tells of itself, or of another one.
    fn message_bytes(&mut self, bench: &mut Bench, broker: &str) -> Result<String, ErrorCode> {
        let keys = vec!["message.max.bytes"];
        let resource = DescribeConfigsResource {
            resource_type: 4,
            resource_name: broker,
            configuration_keys: Some(keys.into()),
        };
        let request = DescribeConfigsRequest { resources: vec![resource].into(), ..Default::default() };
        let body = self.ask(bench, &request, 4);
        let response = DescribeConfigsResponse::decode(&mut Reader::new(&body), 4).unwrap();
        let result = response.results.first().unwrap();
        match code(result.error_code) {
            ErrorCode::None => Ok(result.configs.first().unwrap().value.unwrap().to_string()),
            error => Err(error),
        }
    }

    fn set_message_bytes(&mut self, bench: &mut Bench, broker: &str, value: &str) -> (ErrorCode, String) {
        let change = AlterableConfig { name: "message.max.bytes", config_operation: 0, value: Some(value) };
        let resource =
            AlterConfigsResource { resource_type: 4, resource_name: broker, configs: vec![change].into() };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource].into(), validate_only: false };
        let body = self.ask(bench, &request, 1);
        let response = IncrementalAlterConfigsResponse::decode(&mut Reader::new(&body), 1).unwrap();
        let result = response.responses.first().unwrap();
        (code(result.error_code), result.error_message.map(|text| text.to_string()).unwrap_or_default())
    }
}

#[test]
fn every_endpoint_tells_the_same_of_the_cluster() {
    for (shards, endpoints) in [(2, 3), (3, 2)] {
        let mut bench = node(shards, endpoints, 4);
        let mut told = Vec::new();
        for endpoint in 0..usize::from(endpoints) {
            let mut client = bench.client_at(endpoint);
            let metadata =
                client.ask(&mut bench, &MetadataRequest { topics: None, ..Default::default() }, 12);
            told.push((metadata, client.ask(&mut bench, &DescribeClusterRequest::default(), 0)));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{shards} shards, {endpoints} endpoints");
        let (metadata, cluster) = &told[0];
        let expected: Vec<(i32, i32)> =
            bench.ports.iter().enumerate().map(|(e, port)| (id_of(e), i32::from(*port))).collect();
        let cluster = DescribeClusterResponse::decode(&mut Reader::new(cluster), 0).unwrap();
        let brokers: Vec<_> = cluster.brokers.iter().map(|broker| (broker.broker_id, broker.port)).collect();
        assert_eq!((brokers, cluster.controller_id), (expected.clone(), 1000));
        let metadata = MetadataResponse::decode(&mut Reader::new(metadata), 12).unwrap();
        let brokers: Vec<_> = metadata.brokers.iter().map(|broker| (broker.node_id, broker.port)).collect();
        assert_eq!((brokers, metadata.controller_id), (expected, 1000));
        for part in metadata.topics.first().unwrap().partitions {
            let id = 1000 + part.partition_index % i32::from(endpoints);
            assert_eq!((part.error_code, part.leader_id), (0, id));
            assert_eq!((part.replica_nodes.to_vec(), part.isr_nodes.to_vec()), (vec![id], vec![id]));
            assert!(part.offline_replicas.is_empty());
        }
    }
}

#[test]
fn a_partition_is_served_at_its_endpoint_and_others_say_where_that_is() {
    // An endpoint of several shards, a shard of several endpoints, and one each.
    for (shards, endpoints) in [(4, 2), (2, 3), (2, 2)] {
        let mut bench = node(shards, endpoints, 6);
        let topic_id = bench.shards[0].0.image().topic("t").unwrap().id;
        for endpoint in 0..usize::from(endpoints) {
            for partition in 0..6 {
                // Another connection each time: any shard of the endpoint may take it.
                let mut client = bench.client_at(endpoint);
                let home = partition as usize % usize::from(endpoints);
                let away = (id_of(home), i32::from(bench.ports[home]));
                let served = (ErrorCode::None, -1, Vec::new());
                let refused = (ErrorCode::NotLeaderOrFollower, away.0, vec![away]);
                let expected = if home == endpoint { served } else { refused };
                let produced = client.produce_to(&mut bench, partition, 10);
                assert_eq!(produced, expected, "produce to {partition} at {endpoint} of {endpoints}");
                let fetched = client.fetch_from(&mut bench, topic_id, partition);
                assert_eq!(fetched, expected, "fetch {partition} at {endpoint} of {endpoints}");
                let old = client.produce_to(&mut bench, partition, 9);
                assert_eq!(old, (expected.0, -1, Vec::new()), "without room for a hint");
            }
        }
    }
}

#[test]
fn questions_to_a_leader_are_refused_elsewhere() {
    let mut bench = node(2, 3, 3);
    for endpoint in 0..3 {
        let mut client = bench.client_at(endpoint);
        let expected = |partition: i32| match partition as usize == endpoint {
            true => ErrorCode::None,
            false => ErrorCode::NotLeaderOrFollower,
        };
        let part =
            |index| ListOffsetsPartition { partition_index: index, timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t", partitions: (0..3).map(part).collect() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic].into(), ..Default::default() };
        let body = client.ask(&mut bench, &request, 7);
        let response = ListOffsetsResponse::decode(&mut Reader::new(&body), 7).unwrap();
        let answered: Vec<_> = response.topics.iter().flat_map(|topic| topic.partitions).collect();
        assert_eq!(answered.len(), 3);
        for part in answered {
            assert_eq!(code(part.error_code), expected(part.partition_index), "ends at {endpoint}");
        }
        let part = |partition_index| DeleteRecordsPartition { partition_index, offset: -1 };
        let topic = DeleteRecordsTopic { name: "t", partitions: (0..3).map(part).collect() };
        let request = DeleteRecordsRequest { topics: vec![topic].into(), timeout_ms: 1000 };
        let body = client.ask(&mut bench, &request, 2);
        let response = DeleteRecordsResponse::decode(&mut Reader::new(&body), 2).unwrap();
        for part in response.topics.iter().flat_map(|topic| topic.partitions) {
            assert_eq!(code(part.error_code), expected(part.partition_index), "deletion at {endpoint}");
        }
    }
}

#[test]
fn a_write_without_an_answer_closes_the_connection_of_the_wrong_endpoint() {
    let mut bench = node(2, 2, 2);
    let mut client = bench.client_at(1);
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(b"value"));
    let records = batch.finish(0, LeaderEpoch(-1));
    let data = PartitionProduceData { index: 0, records: Some(&records) };
    let topic = TopicProduceData { name: "t", partition_data: vec![data].into(), ..Default::default() };
    let request = ProduceRequest { topic_data: vec![topic].into(), ..ProduceRequest::default() };
    client.send(&bench, &request, 9);
    assert_eq!(client.answer(&mut bench), None);
    assert_eq!(bench.world.client_state(client.id), ClientState::Ended);
}

#[test]
fn groups_are_coordinated_and_listed_at_one_endpoint() {
    for (shards, endpoints) in [(2, 3), (4, 2)] {
        let mut bench = node(shards, endpoints, 1);
        let names: Vec<String> = (0..12).map(|number| format!("group-{number}")).collect();
        let homes: Vec<usize> = names
            .iter()
            .map(|group| {
                let ids: Vec<i32> = (0..usize::from(endpoints))
                    .map(|endpoint| bench.client_at(endpoint).coordinator(&mut bench, group))
                    .collect();
                assert!(ids.iter().all(|id| *id == ids[0]), "{group} has coordinators {ids:?}");
                usize::try_from(ids[0] - 1000).unwrap()
            })
            .collect();
        assert!((0..usize::from(endpoints)).all(|endpoint| homes.contains(&endpoint)), "{homes:?}");
        for endpoint in 0..usize::from(endpoints) {
            let mut client = bench.client_at(endpoint);
            for (group, home) in names.iter().zip(&homes) {
                let is_here = *home == endpoint;
                let expected = if is_here { ErrorCode::None } else { ErrorCode::NotCoordinator };
                assert_eq!(client.commit(&mut bench, group), expected, "{group} at {endpoint}");
                let request = HeartbeatRequest { group_id: group, member_id: "m", ..Default::default() };
                let body = client.ask(&mut bench, &request, 3);
                let beat = HeartbeatResponse::decode(&mut Reader::new(&body), 3).unwrap();
                let expected = if is_here { ErrorCode::UnknownMemberId } else { ErrorCode::NotCoordinator };
                assert_eq!(code(beat.error_code), expected, "{group} at {endpoint}");
            }
        }
        for endpoint in 0..usize::from(endpoints) {
            let mut client = bench.client_at(endpoint);
            let mut listed = client.groups(&mut bench);
            listed.sort_unstable();
            let here = |(_, home): &(&String, &usize)| **home == endpoint;
            let mut expected: Vec<String> =
                names.iter().zip(&homes).filter(here).map(|(name, _)| name.clone()).collect();
            expected.sort_unstable();
            assert_eq!(listed, expected, "at {endpoint} of {endpoints}");
            let all = names.iter().map(String::as_str).collect();
            let request = DescribeGroupsRequest { groups: all, ..Default::default() };
            let body = client.ask(&mut bench, &request, 5);
            let described = DescribeGroupsResponse::decode(&mut Reader::new(&body), 5).unwrap();
            for group in described.groups {
                let error = code(group.error_code);
                let is_here = expected.iter().any(|name| *name == *group.group_id);
                assert_eq!(error == ErrorCode::None, is_here, "{} at {endpoint}", &*group.group_id);
                assert!(is_here || error == ErrorCode::NotCoordinator);
            }
        }
    }
}

#[test]
fn each_broker_tells_its_own_share_of_the_data_directory() {
    let mut bench = node(2, 3, 7);
    bench.client().coordinator(&mut bench, "g");
    // Whoever makes topics by naming them is not told when every shard has them.
    bench.run_until(Duration::from_secs(1), |_| false);
    let mut all = Vec::new();
    for endpoint in 0..3 {
        let told = bench.client_at(endpoint).log_dirs(&mut bench);
        for (topic, partition) in told.iter().filter(|(topic, _)| topic == "t") {
            assert_eq!(*partition as usize % 3, endpoint, "{topic}-{partition}");
        }
        all.extend(told);
    }
    all.sort_unstable();
    let of = |topic: &str, count: i32| (0..count).map(|index| (topic.to_owned(), index)).collect::<Vec<_>>();
    let mut expected = [of("t", 7), of(GROUP_METADATA_TOPIC, 50)].concat();
    expected.sort_unstable();
    assert_eq!(all, expected, "each once");
}

#[test]
fn a_broker_answers_for_its_own_settings_which_are_its_nodes() {
    let mut bench = node(2, 3, 1);
    let mut client = bench.client_at(1);
    for name in ["1001", "1"] {
        assert!(client.message_bytes(&mut bench, name).is_ok(), "{name}");
    }
    for name in ["1000", "1002", "1003", "x"] {
        assert_eq!(client.message_bytes(&mut bench, name), Err(ErrorCode::InvalidRequest), "{name}");
    }
    let (error, text) = client.set_message_bytes(&mut bench, "1002", "12345");
    assert_eq!(error, ErrorCode::InvalidRequest);
    assert!(text.contains("expected 1001"), "{text}");
    assert_eq!(client.set_message_bytes(&mut bench, "1001", "12345").0, ErrorCode::None);
    let mut other = bench.client_at(2);
    assert_eq!(other.message_bytes(&mut bench, "1002"), Ok("12345".to_owned()));
    assert_eq!(other.message_bytes(&mut bench, "1"), Ok("12345".to_owned()));
}

#[test]
fn one_process_holds_one_replica_however_many_brokers_it_is() {
    let mut bench = node(2, 3, 1);
    let topic =
        CreatableTopic { name: "u", num_partitions: 1, replication_factor: 3, ..CreatableTopic::default() };
    let request =
        CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() };
    let body = bench.client().ask(&mut bench, &request, 5);
    let response = CreateTopicsResponse::decode(&mut Reader::new(&body), 5).unwrap();
    assert_eq!(code(response.topics.first().unwrap().error_code), ErrorCode::InvalidReplicationFactor);
}

/// Moves a slot, and waits until it is there or is refused.
pub(super) fn move_slot(bench: &mut Bench, slot: PlacementSlot, core: u16) -> Result<(), String> {
    let told = Arc::new(std::sync::Mutex::new(None));
    let tell = {
        let told = Arc::clone(&told);
        Box::new(move |outcome: SlotMoveOutcome| {
            *told.lock().unwrap() = Some(outcome.map_err(|error| error.to_string()));
        })
    };
    let (first, io, _) = &mut bench.shards[0];
    first.command(io, Command::MoveSlot { slot, core: ShardId(core), tell });
    io.wait(Monotonic(0));
    assert!(bench.run_until(LONG, |_| told.lock().unwrap().is_some()), "the move does not end");
    told.lock().unwrap().take().unwrap()
}

#[test]
fn a_slot_that_moves_is_led_by_the_endpoint_of_its_new_core() {
    let mut bench = node(2, 2, 4);
    let topic_id = bench.shards[0].0.image().topic("t").unwrap().id;
    let slot = bench.shards[0].0.image().partition("t", 0).unwrap().slot;
    let (mut old, mut new) = (bench.client_at(0), bench.client_at(1));
    let is_led = (ErrorCode::None, -1, Vec::new());
    let sent_to = |bench: &Bench, id: i32| {
        let port = i32::from(bench.ports[id as usize - 1000]);
        (ErrorCode::NotLeaderOrFollower, id, vec![(id, port)])
    };
    for round in 0..3 {
        assert_eq!(old.produce_to(&mut bench, 0, 11), is_led);
        assert_eq!(new.produce_to(&mut bench, 0, 11), sent_to(&bench, 1000));
        assert_eq!(move_slot(&mut bench, slot, 1), Ok(()));
        assert_eq!(old.produce_to(&mut bench, 0, 11), sent_to(&bench, 1001));
        assert_eq!(new.produce_to(&mut bench, 0, 11), is_led);
        assert_eq!(old.fetch_from(&mut bench, topic_id, 0), sent_to(&bench, 1001));
        assert_eq!(new.fetch_from(&mut bench, topic_id, 0), is_led);
        // The other partitions are where they were.
        assert_eq!(old.produce_to(&mut bench, 2, 11), is_led);
        assert_eq!(new.produce_to(&mut bench, 1, 11), is_led);
        assert!(move_slot(&mut bench, slot, 1).unwrap_err().contains("already"));
        assert_eq!(move_slot(&mut bench, slot, 0), Ok(()));
        let partition = bench.shards[1].0.image().partition("t", 0).unwrap().clone();
        assert_eq!(partition.leader_epoch, LeaderEpoch(2 * round + 2));
    }
    let (first, ..) = &bench.shards[0];
    let replica = first.partitions().find(topic_id, 0).expect("it is back");
    assert_eq!(first.partitions().get(replica).log().log_end_offset(), 6);
}

#[test]
fn a_slot_waits_until_another_one_is_there() {
    let mut bench = node(2, 2, 4);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (first, io, _) = &mut bench.shards[0];
    for slot in [0, 2, 3] {
        let told = Arc::clone(&told);
        let tell = Box::new(move |outcome: SlotMoveOutcome| {
            told.lock().unwrap().push((slot, outcome.map_err(|error| error.to_string())));
        });
        let core = ShardId(1 - slot % 2);
        first.command(io, Command::MoveSlot { slot: PlacementSlot(slot), core, tell });
    }
    io.wait(Monotonic(0));
    assert!(bench.run_until(LONG, |_| told.lock().unwrap().len() == 3), "the move does not end");
    let busy = Err("another slot is being moved; try again when it is there".to_owned());
    assert_eq!(*told.lock().unwrap(), [(2, busy.clone()), (3, busy), (0, Ok(()))]);
    assert_eq!(move_slot(&mut bench, PlacementSlot(2), 1), Ok(()));
}

#[test]
fn groups_move_with_their_slot() {
    let mut bench = node(2, 2, 1);
    let home = bench.client_at(0).coordinator(&mut bench, "g") - 1000;
    let (home, other) = (home as usize, 1 - home as usize);
    assert_eq!(bench.client_at(home).commit(&mut bench, "g"), ErrorCode::None);
    let image = Arc::clone(bench.shards[0].0.image());
    let index = image.group_partition("g").unwrap();
    let slot = image.partition(GROUP_METADATA_TOPIC, index).unwrap().slot;
    assert_eq!(move_slot(&mut bench, slot, other as u16), Ok(()));
    let (mut old, mut new) = (bench.client_at(home), bench.client_at(other));
    assert_eq!(old.coordinator(&mut bench, "g"), id_of(other));
    assert_eq!(old.commit(&mut bench, "g"), ErrorCode::NotCoordinator);
    // What it had committed has come along.
    assert_eq!((old.groups(&mut bench), new.groups(&mut bench)), (vec![], vec!["g".to_owned()]));
    assert_eq!(new.commit(&mut bench, "g"), ErrorCode::None);
}

#[test]
fn a_moved_slot_stays_at_its_endpoint_with_another_number_of_cores() {
    // The machine has as many shards as the most that run on it.
    let park = |world: &SimWorld, from: u16, to: u16| {
        (from..to).for_each(|idle| world.io(ShardId(idle)).wait(Monotonic::NEVER));
    };
    for shards in [1, 3] {
        let most = shards.max(2);
        let world = SimWorld::new(13, SimOptions { shard_count: most, ..SimOptions::default() });
        park(&world, 2, most);
        let mut bench = node_on(world, 2, 2, 4);
        let slot = bench.shards[0].0.image().partition("t", 0).unwrap().slot;
        assert_eq!(bench.client_at(0).produce_to(&mut bench, 0, 11).0, ErrorCode::None);
        assert_eq!(move_slot(&mut bench, slot, 1), Ok(()));
        bench.world.crash(CrashKind::PowerLoss);
        let Bench { world, shards: old, .. } = bench;
        drop(old);
        world.restart();
        park(&world, shards, most);
        let mut bench = Bench::start_as(world, Shape { shards, endpoints: 2, is_per_core: true }, &[DATA]);
        assert_eq!(bench.client_at(1).produce_to(&mut bench, 0, 11).0, ErrorCode::None);
        assert_eq!(bench.client_at(0).produce_to(&mut bench, 0, 11).1, 1001);
        let end = bench.shards.iter().find_map(|(shard, ..)| {
            let topic_id = shard.image().topic("t")?.id;
            let replica = shard.partitions().find(topic_id, 0)?;
            Some(shard.partitions().get(replica).log().log_end_offset())
        });
        assert_eq!(end, Some(2), "with {shards} shards");
    }
}

#[test]
fn a_topic_that_is_deleted_while_its_slot_moves_leaves_nothing_behind() {
    for delay in 0..12 {
        let mut bench = node(2, 2, 2);
        let slot = bench.shards[0].0.image().partition("t", 0).unwrap().slot;
        let (first, io, _) = &mut bench.shards[0];
        first.command(io, Command::MoveSlot { slot, core: ShardId(1), tell: Box::new(drop) });
        io.wait(Monotonic(0));
        bench.run_until(Duration::from_micros(delay * 150), |_| false);
        let topic = DeleteTopicState { name: Some("t"), ..Default::default() };
        let request =
            DeleteTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() };
        let mut client = bench.client_at(1);
        client.ask(&mut bench, &request, 6);
        for index in 0..2 {
            let folder = Path::new(DATA).join(format!("t-{index}"));
            assert_eq!(bench.world.files().kind(&folder).unwrap(), None, "{folder:?} after {delay}");
        }
    }
}

#[test]
fn a_name_that_is_taken_again_at_once_waits_until_the_old_log_is_closed() {
    for (moves, seed) in [false, true].into_iter().flat_map(|moves| (0..5).map(move |seed| (moves, seed))) {
        // A read outlasts all else that a move or a deletion does.
        let options =
            SimOptions { shard_count: 2, read: Delay::micros(500_000, 600_000), ..SimOptions::default() };
        let mut bench = node_on(SimWorld::new(seed, options), 2, 2, 2);
        let (mut reader, mut admin) = (bench.client_at(0), bench.client_at(1));
        let old = bench.shards[0].0.image().topic("t").unwrap().clone();
        assert_eq!(reader.produce_to(&mut bench, 0, 11).0, ErrorCode::None);
        if !moves {
            // The other core has fewest partitions then: `t-0` comes there when it comes again.
            admin.create(&mut bench, "u");
        }
        reader.send_fetch(&bench, "t", 0, 1);
        bench.run_until(Duration::from_millis(10), |_| false);
        let (first, io, _) = &mut bench.shards[0];
        if moves {
            let (slot, tell) = (old.partitions[0].slot, Box::new(drop));
            first.command(io, Command::MoveSlot { slot, core: ShardId(1), tell });
            io.wait(Monotonic(0));
        }
        // All in one flush of the metadata log.
        admin.send(&bench, &delete("t"), 6);
        admin.send(&bench, &create("t"), 5);
        let is_served = |bench: &mut Bench| {
            bench.check_folder("t-0");
            let new = bench.shards[0].0.image().topic("t").filter(|topic| topic.id != old.id).cloned();
            let finds = |id| bench.shards.iter().find(|(shard, ..)| shard.partitions().find(id, 0).is_some());
            new.is_some_and(|topic| finds(topic.id).is_some_and(|(shard, ..)| shard.id == ShardId(1)))
        };
        assert!(bench.run_until(LONG, is_served), "moves: {moves}, seed {seed}");
        for _ in 0..2 {
            assert!(admin.answer(&mut bench).is_some());
        }
        assert_eq!(admin.produce_to(&mut bench, 0, 11).0, ErrorCode::None, "moves: {moves}, seed {seed}");
    }
}
