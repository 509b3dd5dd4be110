use super::*;
use crate::controller::tests::{apply_records, image, random, registration, with_topics};
use crate::controller::{Registration, register_broker};
use crate::model::InvalidTopicName;

const DEFAULTS: TopicDefaults<'_> =
    TopicDefaults { partitions: 4, replication_factor: 1, partitions_max: 20_000, slot_loads: &[] };

fn topic(name: &str) -> NewTopic<'_> {
    NewTopic { name, partitions: 1, replication_factor: 1, ..NewTopic::default() }
}

fn assigned(name: &str, assignments: &[(PartitionIndex, &[i32])]) -> NewTopic<'static> {
    NewTopic {
        name: name.to_owned().leak(),
        partitions: -1,
        replication_factor: -1,
        assignments: assignments
            .iter()
            .map(|(p, nodes)| (*p, nodes.iter().copied().map(BrokerId).collect()))
            .collect(),
        ..NewTopic::default()
    }
}

fn create(
    image: &Image,
    topics: &[NewTopic<'_>],
) -> Decision<(TopicName, Result<CreatedTopic, ControllerError>)> {
    create_topics(image, topics, &DEFAULTS, &mut random(1))
}

/// What creating one topic on a node with topics `old` and `a.b` comes to.
fn check(topic: NewTopic<'_>, expected: Result<(i32, i16), ControllerError>) {
    let image = with_topics(&image(), &[("old", 2), ("a.b", 1)]);
    let decision = create(&image, std::slice::from_ref(&topic));
    assert_eq!(decision.results.len(), 1);
    let (name, result) = &decision.results[0];
    assert_eq!(name.as_ref(), topic.name);
    assert_eq!(decision.records.is_empty(), result.is_err(), "records only with success: {topic:?}");
    let counts = result.clone().map(|created| (created.partitions, created.replication_factor));
    assert_eq!(counts, expected, "{topic:?}");
}

#[test]
fn create_topics_checks_in_kafkas_order() {
    use ControllerError::*;
    check(topic("new"), Ok((1, 1)));
    check(NewTopic { partitions: -1, replication_factor: -1, ..topic("new") }, Ok((4, 1)));
    let long = "n".repeat(250);
    let invalid = |name: &str, why| Err(InvalidTopicName { name: name.to_owned(), why });
    use crate::model::InvalidTopicName as Why;
    check(topic("a b"), invalid("a b", Why::BadCharacter));
    check(topic(""), invalid("", Why::Empty));
    check(topic("."), invalid(".", Why::Dots));
    check(topic(&long), invalid(&long, Why::TooLong));
    check(topic("old"), Err(TopicExists { name: "old".into() }));
    check(topic("a.b"), Err(TopicExists { name: "a.b".into() }));
    check(topic("a_b"), Err(TopicCollides { name: "a_b".into(), existing: "a.b".into() }));
    check(topic("__cluster_metadata"), Err(ReservedTopic { name: "__cluster_metadata".into() }));
    check(NewTopic { partitions: 0, ..topic("new") }, Err(InvalidPartitions));
    check(NewTopic { partitions: -2, ..topic("new") }, Err(InvalidPartitions));
    check(NewTopic { replication_factor: 0, ..topic("new") }, Err(InvalidReplicationFactor));
    check(NewTopic { replication_factor: 2, ..topic("new") }, Err(TooFewBrokers { factor: 2, nodes: 1 }));
    check(NewTopic { replication_factor: 0, partitions: 0, ..topic("new") }, Err(InvalidReplicationFactor));
    check(NewTopic { partitions: 10_001, ..topic("new") }, Err(ExcessivePartitions { max: 10_000 }));
    check(NewTopic { partitions: i32::MAX, ..topic("new") }, Err(ExcessivePartitions { max: 10_000 }));
}

#[test]
fn configs_are_checked_before_counts_and_nulls_before_values() {
    use crate::config::TopicConfigError::{Null, Unknown};
    let with = |configs: &[(&'static str, Option<&'static str>)]| NewTopic {
        configs: configs.to_vec(),
        replication_factor: 0,
        ..topic("new")
    };
    check(with(&[]), Err(ControllerError::InvalidReplicationFactor));
    let unknown = Unknown { name: "no.such.config".into() };
    check(with(&[("no.such.config", Some("1"))]), Err(unknown.into()));
    let null = Null { name: "retention.ms".into() };
    check(with(&[("no.such.config", Some("1")), ("retention.ms", None)]), Err(null.into()));

    let text = |configs: &[(&'static str, Option<&'static str>)]| {
        let decision = create(&image(), &[with(configs)]);
        decision.results[0].1.clone().unwrap_err().to_string()
    };
    assert_eq!(
        text(&[("retention.ms", Some("soon"))]),
        "Invalid value soon for configuration retention.ms: Not a number of type LONG"
    );
    assert!(
        text(&[("min.compaction.lag.ms", Some("10")), ("max.compaction.lag.ms", Some("5"))])
            .contains("conflict")
    );
    let decision = create(
        &image(),
        &[NewTopic {
            configs: vec![("retention.ms", Some("1")), ("retention.ms", Some("2"))],
            ..topic("new")
        }],
    );
    assert_eq!(decision.results[0].1.as_ref().unwrap().configs["retention.ms"], "2", "the last value counts");
}

#[test]
fn assignments_are_checked() {
    use ControllerError::*;
    check(assigned("new", &[(0, &[1]), (1, &[1])]), Ok((2, 1)));
    check(assigned("new", &[(1, &[1]), (0, &[1])]), Ok((2, 1)));
    let both = NewTopic { partitions: 3, replication_factor: 3, ..assigned("new", &[(0, &[1])]) };
    check(both, Err(AssignmentAndFactor));
    check(NewTopic { partitions: 3, ..assigned("new", &[(0, &[1])]) }, Err(AssignmentAndPartitions));
    check(assigned("new", &[(0, &[77])]), Err(UnknownBrokerInAssignment { broker: BrokerId(77) }));
    check(assigned("new", &[(0, &[1, 1])]), Err(BrokerTwiceInAssignment { broker: BrokerId(1) }));
    check(assigned("new", &[(0, &[])]), Err(EmptyAssignment));
    check(assigned("new", &[(0, &[1]), (0, &[1])]), Err(RepeatedAssignment { partition: 0 }));
    check(assigned("new", &[(0, &[1]), (2, &[1])]), Err(HoleInAssignment));
    check(assigned("new", &[(-1, &[1])]), Err(HoleInAssignment));
}

#[test]
fn an_assignment_to_an_endpoint_is_placed_there() {
    use ControllerError::*;
    let with_ports = Registration { endpoint_ports: vec![9092, 9093], ..registration() };
    let image = apply_records(&image(), register_broker(&with_ports));
    let check = |assignments: &[(PartitionIndex, &[i32])], expected: Result<&[i32], ControllerError>| {
        let decision = create(&image, &[assigned("new", assignments)]);
        let leaders = decision.results[0].1.clone().map(|_| {
            let image = apply_records(&image, decision.records.clone());
            let topic = image.topic("new").unwrap();
            topic.partitions.iter().map(|p| image.advertised_leader(p).unwrap().id.0).collect::<Vec<_>>()
        });
        assert_eq!(leaders.as_deref(), expected.as_deref(), "{assignments:?}");
    };
    check(&[(0, &[1001]), (1, &[1001]), (2, &[1000])], Ok(&[1001, 1001, 1000]));
    check(&[(0, &[1000, 1001])], Err(NodeTwiceInAssignment { node: NodeId(1) }));
    check(&[(0, &[1001, 1001])], Err(BrokerTwiceInAssignment { broker: BrokerId(1001) }));
    check(&[(0, &[1002])], Err(UnknownBrokerInAssignment { broker: BrokerId(1002) }));
    check(&[(0, &[1])], Err(UnknownBrokerInAssignment { broker: BrokerId(1) }));
    let factor = create(&image, &[NewTopic { replication_factor: 2, ..topic("new") }]);
    assert_eq!(factor.results[0].1, Err(TooFewBrokers { factor: 2, nodes: 1 }), "one process, one replica");
}

#[test]
fn topics_of_one_request_stand_alone_and_see_each_other() {
    let decision =
        create(&image(), &[topic("d"), topic("p.q"), topic("d"), topic("b a d"), topic("p_q"), topic("e")]);
    let outcomes: Vec<(&str, bool)> =
        decision.results.iter().map(|(name, r)| (name.as_ref(), r.is_ok())).collect();
    assert_eq!(outcomes, [("d", false), ("p.q", true), ("b a d", false), ("p_q", false), ("e", true)]);
    assert_eq!(decision.results[0].1, Err(ControllerError::DuplicateTopic));
    let made = decision.records.iter().filter(|record| matches!(record, Record::Topic(_))).count();
    assert_eq!(made, 2);
    assert_eq!(decision.without_records().records, []);
}

#[test]
fn the_cluster_carries_a_bounded_number_of_partitions() {
    let image = with_topics(&image(), &[("old", 2)]);
    let defaults = TopicDefaults { partitions_max: 3, ..DEFAULTS };
    let decision = create_topics(&image, &[topic("x"), topic("y")], &defaults, &mut random(1));
    assert!(decision.results[0].1.is_ok());
    assert_eq!(decision.results[1].1, Err(ControllerError::PartitionLimit { max: 3 }));
    let more = MorePartitions { name: "old", count: 4, assignments: None };
    let decision = create_partitions(&image, &[more], &defaults);
    assert_eq!(decision.results[0].1, Err(ControllerError::PartitionLimit { max: 3 }));
}

#[test]
fn create_partitions_checks() {
    use ControllerError::*;
    let image = with_topics(&image(), &[("old", 2)]);
    let check = |name: &'static str,
                 count,
                 assignments: Option<&[&[i32]]>,
                 expected: Result<usize, ControllerError>| {
        let assignments = assignments
            .map(|a| a.iter().map(|nodes| nodes.iter().copied().map(BrokerId).collect()).collect());
        let decision = create_partitions(&image, &[MorePartitions { name, count, assignments }], &DEFAULTS);
        let result = decision.results[0].1.clone().map(|()| decision.records.len());
        assert_eq!(result, expected, "{name} to {count}");
    };
    check("old", 5, None, Ok(3));
    check("old", 3, Some(&[&[1]]), Ok(1));
    check("none", 2, None, Err(UnknownTopic { name: "none".into() }));
    check("a b", 2, None, Err(UnknownTopic { name: "a b".into() }));
    check("old", 2, Some(&[]), Err(SameCount { count: 2 }));
    check("old", 1, None, Err(NoIncrease { name: "old".into(), current: 2, wanted: 1 }));
    check("old", -1, None, Err(NoIncrease { name: "old".into(), current: 2, wanted: -1 }));
    check("old", 4, Some(&[&[1]]), Err(AssignmentCount { added: 2, assigned: 1 }));
    check("old", 3, Some(&[&[77]]), Err(UnknownBrokerInAssignment { broker: BrokerId(77) }));
    check("old", 3, Some(&[&[]]), Err(EmptyAssignment));
    check("old", 3, Some(&[&[1, 1]]), Err(BrokerTwiceInAssignment { broker: BrokerId(1) }));
    check("old", i32::MAX, None, Err(ExcessivePartitions { max: 10_000 }));
    let twice = [3, 4].map(|count| MorePartitions { name: "old", count, assignments: None });
    let decision = create_partitions(&image, &twice, &DEFAULTS);
    assert_eq!(decision.results, [("old".into(), Err(DuplicateTopic))]);
}

#[test]
fn delete_topics_finds_by_name_or_id_and_refuses_both() {
    use ControllerError::*;
    let image = with_topics(&image(), &[("a", 1), ("b", 1)]);
    let (a, b) = (image.topic("a").unwrap().id, image.topic("b").unwrap().id);
    let unknown = Uuid([9; 16]);
    let check = |topics: &[(Option<&str>, TopicId)],
                 expected: &[(Option<&str>, TopicId, Result<(), ControllerError>)]| {
        let topics: Vec<_> = topics.iter().map(|&(name, id)| TopicToDelete { name, id }).collect();
        let decision = delete_topics(&image, &topics, true);
        let results: Vec<_> =
            decision.results.iter().map(|d| (d.name.as_deref(), d.id, d.result.clone())).collect();
        assert_eq!(results, expected);
        assert_eq!(decision.records.len(), results.iter().filter(|(_, _, result)| result.is_ok()).count());
    };
    check(&[(Some("a"), Uuid::ZERO), (None, b)], &[(Some("a"), a, Ok(())), (Some("b"), b, Ok(()))]);
    check(&[(Some("x"), Uuid::ZERO)], &[(Some("x"), Uuid::ZERO, Err(UnknownTopic { name: "x".into() }))]);
    check(&[(None, unknown)], &[(None, unknown, Err(UnknownTopicId(unknown)))]);
    check(&[(None, Uuid::ZERO)], &[(None, Uuid::ZERO, Err(NameOrIdMissing))]);
    check(&[(Some("a"), a)], &[(Some("a"), a, Err(NameAndIdGiven))]);
    check(&[(Some("a"), Uuid::ZERO); 2], &[(Some("a"), Uuid::ZERO, Err(DuplicateTopic))]);
    check(&[(None, a); 2], &[(None, a, Err(DuplicateTopicId))]);
    check(
        &[(None, a), (Some("a"), Uuid::ZERO)],
        &[(Some("a"), a, Ok(())), (Some("a"), Uuid::ZERO, Err(NameOfGivenId))],
    );
    let disabled = delete_topics(&image, &[TopicToDelete { name: Some("a"), id: Uuid::ZERO }], false);
    assert_eq!(disabled.results[0].result, Err(TopicDeletionDisabled));
}

#[test]
fn the_offsets_topic_passes_the_checks_of_any_topic() {
    let decision = create(&image(), &[offsets_topic(50, 1, "104857600")]);
    let created = decision.results[0].1.as_ref().unwrap();
    assert_eq!(created.partitions, 50);
    assert_eq!(created.configs["cleanup.policy"], "compact");
}

#[test]
fn invalid_names_say_why() {
    let error = ControllerError::InvalidTopicName { name: "a b".into(), why: InvalidTopicName::BadCharacter };
    assert!(error.to_string().contains("'a b'"));
}
