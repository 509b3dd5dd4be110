use proptest::prelude::*;

use super::*;
use crate::config::Overrides;
use crate::metadata::{ConfigResource, Delta, Local, Topic};
use crate::model::{NodeId, ProducerId, TopicId, Uuid};

/// Words that look random and are not.
pub(super) fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    }
}

const LOCAL: Local = Local { node: NodeId(1), shards: 3 };

/// A formatted node 1 that has registered.
pub(super) fn image() -> Image {
    let format = Format { cluster_id: Uuid([7; 16]), slots: 16, endpoints: 2, min_insync_replicas: 1 };
    let image = apply_records(&Image::empty(LOCAL), format_records(&format).unwrap());
    apply_records(&image, register_broker(&registration()))
}

pub(super) fn registration() -> Registration {
    Registration {
        node: NodeId(1),
        host: "127.0.0.1".into(),
        port: 9092,
        endpoint_ports: Vec::new(),
        rack: None,
        directories: vec![Uuid([8; 16])],
    }
}

/// The image after an entry of these records.
pub(super) fn apply_records(image: &Image, records: Vec<Record>) -> Image {
    let entry = Entry { term: image.term, index: image.version + 1, records };
    apply(image.clone(), &entry).unwrap()
}

/// The image with these topics of so many partitions.
pub(super) fn with_topics(image: &Image, topics: &[(&str, i32)]) -> Image {
    let defaults =
        TopicDefaults { partitions: 1, replication_factor: 1, partitions_max: 1000, slot_loads: &[] };
    let topics: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|&(name, partitions)| NewTopic {
            name,
            partitions,
            replication_factor: 1,
            ..NewTopic::default()
        })
        .collect();
    let decision = create_topics(image, &topics, &defaults, &mut random(3));
    assert!(decision.results.iter().all(|(_, result)| result.is_ok()));
    apply_records(image, decision.records)
}

fn controller() -> Controller {
    let image = image();
    let quorum = SingleWriter::new(LOCAL.node, image.term, image.version);
    Controller::new(Box::new(quorum), image)
}

fn no_such_topic(controller: &Controller, name: &str) -> bool {
    controller.committed().topic(name).is_none()
}

fn propose_topic(controller: &mut Controller, name: &str) -> u64 {
    let defaults =
        TopicDefaults { partitions: 2, replication_factor: 1, partitions_max: 1000, slot_loads: &[] };
    let topic = NewTopic { name, partitions: -1, replication_factor: -1, ..NewTopic::default() };
    let decision =
        create_topics(controller.latest(), &[topic], &defaults, &mut random(controller.latest().version));
    controller.propose(decision.records).unwrap()
}

#[test]
fn a_proposal_counts_for_decisions_at_once_and_for_shards_when_durable() {
    let mut controller = controller();
    let index = propose_topic(&mut controller, "a");
    assert!(controller.latest().topic("a").is_some());
    assert!(no_such_topic(&controller, "a"));
    let again = propose_topic(&mut controller, "a");
    assert_eq!(again, index, "it exists already: nothing to write, and the same version to wait for");
    let append = controller.ready();
    assert_eq!(append.iter().map(|entry| entry.index).collect::<Vec<_>>(), [index]);
    assert!(no_such_topic(&controller, "a"), "not durable yet");
    controller.appended(index);
    assert!(controller.ready().is_empty());
    assert_eq!(controller.committed().version, index);
    assert_eq!(controller.committed().as_ref(), controller.latest());
}

#[test]
fn refused_entries_are_undone_and_those_before_them_stay() {
    let mut controller = controller();
    let first = propose_topic(&mut controller, "a");
    let second = propose_topic(&mut controller, "b");
    controller.ready();
    controller.refused(second);
    assert!(controller.latest().topic("a").is_some());
    assert!(controller.latest().topic("b").is_none());
    assert_eq!(propose_topic(&mut controller, "c"), second, "the index is given anew");
    controller.appended(first);
    let append = controller.ready();
    assert_eq!(append.iter().map(|entry| entry.index).collect::<Vec<_>>(), [second]);
    controller.appended(second);
    controller.ready();
    assert!(no_such_topic(&controller, "b"));
    assert!(!no_such_topic(&controller, "c"));
}

#[test]
fn producer_id_blocks_do_not_overlap() {
    let mut image = image();
    let mut expected = 0;
    for _ in 0..3 {
        let (records, mut block) = allocate_producer_ids(&image).unwrap();
        image = apply_records(&image, records);
        assert_eq!(block.take(), Some(ProducerId(expected)));
        assert_eq!(block.remaining(), PRODUCER_ID_BLOCK - 1);
        expected += PRODUCER_ID_BLOCK;
    }
    image.next_producer_id = ProducerId(i64::MAX - 5);
    assert_eq!(allocate_producer_ids(&image), None, "the last ids are not enough for a block");
}

#[test]
fn a_log_of_another_cluster_or_node_is_told() {
    let image = image();
    assert_eq!(check_cluster(&image, Uuid([7; 16])), Ok(()));
    let found = image.cluster_id;
    let expected = Uuid([1; 16]);
    assert_eq!(check_cluster(&image, expected), Err(ForeignLog::OtherCluster { expected, found }));
    let mut elsewhere = image.clone();
    elsewhere.local.node = NodeId(2);
    let expected = Err(ForeignLog::OtherNode { expected: NodeId(2), found: NodeId(1) });
    assert_eq!(check_cluster(&elsewhere, Uuid([7; 16])), expected);
}

/// One request of any kind, over few names so that they meet.
#[derive(Clone, Debug)]
enum Request {
    Create(Vec<(u8, i32, Option<String>)>),
    Partitions(u8, i32),
    Delete(Vec<u8>),
    Alter(u8, &'static str, ConfigOperation, String),
    AlterBroker(bool, String),
    ProducerIds,
    Register,
}

fn arbitrary_request() -> impl Strategy<Value = Request> {
    let name = 0u8..12;
    let operation = prop_oneof![
        Just(ConfigOperation::Set),
        Just(ConfigOperation::Delete),
        Just(ConfigOperation::Append),
        Just(ConfigOperation::Subtract)
    ];
    let key = prop_oneof![Just("retention.ms"), Just("cleanup.policy"), Just("no.such")];
    let value = prop_oneof![Just("1"), Just("compact"), Just("delete"), Just("x")].prop_map(str::to_owned);
    prop_oneof![
        prop::collection::vec((name.clone(), -2i32..9, prop::option::of(value.clone())), 0..4)
            .prop_map(Request::Create),
        (name.clone(), -1i32..14).prop_map(|(name, count)| Request::Partitions(name, count)),
        prop::collection::vec(name.clone(), 0..3).prop_map(Request::Delete),
        (name, key, operation, value.clone())
            .prop_map(|(name, key, op, value)| Request::Alter(name, key, op, value)),
        (any::<bool>(), value).prop_map(|(own, value)| Request::AlterBroker(own, value)),
        Just(Request::ProducerIds),
        Just(Request::Register),
    ]
}

fn decide(image: &Image, request: &Request, seed: u64) -> Vec<Record> {
    let name = |number: &u8| {
        ["a.b", "a_b", "bad name", "__consumer_offsets"]
            .get(usize::from(*number))
            .map_or_else(|| format!("t{number}"), |name| (*name).to_owned())
    };
    let defaults =
        TopicDefaults { partitions: 3, replication_factor: 1, partitions_max: 60, slot_loads: &[] };
    match request {
        Request::Create(topics) => {
            let names: Vec<String> = topics.iter().map(|(number, ..)| name(number)).collect();
            let topics: Vec<NewTopic<'_>> = topics
                .iter()
                .zip(&names)
                .map(|((_, partitions, retention), name)| NewTopic {
                    name,
                    partitions: *partitions,
                    replication_factor: -1,
                    configs: retention.iter().map(|value| ("retention.ms", Some(value.as_str()))).collect(),
                    ..NewTopic::default()
                })
                .collect();
            create_topics(image, &topics, &defaults, &mut random(seed)).records
        }
        Request::Partitions(number, count) => {
            let more = MorePartitions { name: &name(number), count: *count, assignments: None };
            create_partitions(image, &[more], &defaults).records
        }
        Request::Delete(numbers) => {
            let names: Vec<String> = numbers.iter().map(name).collect();
            let topics: Vec<_> =
                names.iter().map(|n| TopicToDelete { name: Some(n), id: TopicId::ZERO }).collect();
            delete_topics(image, &topics, true).records
        }
        Request::Alter(number, key, operation, value) => {
            let change = ConfigChange { name: key, operation: *operation, value: Some(value) };
            let name = name(number);
            let alteration = ConfigAlteration { target: ConfigTarget::Topic(&name), changes: vec![change] };
            alter_configs(image, &[alteration], &Overrides::new()).records
        }
        Request::AlterBroker(own, value) => {
            let change = ConfigChange {
                name: "log.retention.ms",
                operation: ConfigOperation::Set,
                value: Some(value),
            };
            let target = ConfigTarget::Broker(if *own { "1" } else { "" });
            alter_configs(image, &[ConfigAlteration { target, changes: vec![change] }], &Overrides::new())
                .records
        }
        Request::ProducerIds => allocate_producer_ids(image).unwrap().0,
        Request::Register => register_broker(&registration()),
    }
}

/// What follows from an image's topics must be what the image counts and finds.
fn check_sums(image: &Image) {
    let partitions: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    assert_eq!(image.partition_count(), partitions);
    let mut slots = vec![0; image.slot_partitions().len()];
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        slots[usize::from(partition.slot.0)] += 1;
        assert!(image.owner_of(partition).is_some_and(|shard| shard.0 < image.local.shards));
    }
    assert_eq!(image.slot_partitions(), slots);
    for topic in image.topics() {
        assert_eq!(image.topic_by_id(topic.id), Some(topic));
        assert_eq!(image.topic(&topic.name), Some(topic));
        assert!(!topic.partitions.is_empty());
    }
}

/// The image that a delta leads to, built from records alone.
fn follow(before: &Image, delta: &Delta) -> Vec<Arc<Topic>> {
    let mut topics: std::collections::BTreeMap<_, _> =
        before.topics().map(|topic| (topic.id, topic.clone())).collect();
    for topic in &delta.deleted {
        assert_eq!(topics.remove(&topic.id).as_ref(), Some(topic), "what is deleted was there");
    }
    for change in &delta.changed {
        let old = topics.insert(change.after.id, change.after.clone());
        assert_eq!(old.as_ref(), Some(&change.before), "what is changed was there");
        assert_ne!(change.before, change.after);
    }
    for topic in &delta.created {
        assert_eq!(topics.insert(topic.id, topic.clone()), None, "what is created was not there");
    }
    let mut topics: Vec<_> = topics.into_values().collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_replay_to_the_image_they_were_decided_into(
        requests in prop::collection::vec((arbitrary_request(), any::<bool>()), 0..40),
    ) {
        let mut controller = controller();
        let start = Image::clone(controller.committed());
        let mut log = Vec::new();
        let mut images = vec![start.clone()];
        for (seed, (request, settle)) in (1..).zip(&requests) {
            let records = decide(controller.latest(), request, seed);
            controller.propose(records).unwrap();
            check_sums(controller.latest());
            log.extend(controller.ready());
            if *settle && let Some(last) = log.last() {
                controller.appended(last.index);
                prop_assert!(controller.ready().is_empty());
                prop_assert_eq!(controller.committed().as_ref(), controller.latest());
                images.push(Image::clone(controller.committed()));
            }
        }
        let mut replayed = start;
        for entry in &log {
            let bytes = entry.encode();
            let entry = Entry::decode(bytes.iter().map(Vec::as_slice)).unwrap();
            replayed = apply(replayed, &entry).unwrap();
        }
        prop_assert_eq!(&replayed, controller.latest());
        for pair in images.windows(2) {
            let delta = Delta::between(&pair[0], &pair[1]);
            prop_assert!(follow(&pair[0], &delta).iter().eq(pair[1].topics()));
        }
    }
}

#[test]
fn ten_thousand_topics_change_one_at_a_time() {
    let mut image = image();
    let names: Vec<String> = (0..10_000).map(|number| format!("topic-{number}")).collect();
    let defaults =
        TopicDefaults { partitions: 1, replication_factor: 1, partitions_max: 100_000, slot_loads: &[] };
    for chunk in names.chunks(500) {
        let topics: Vec<NewTopic<'_>> = chunk
            .iter()
            .map(|name| NewTopic { name, partitions: 1, replication_factor: 1, ..NewTopic::default() })
            .collect();
        let decision = create_topics(&image, &topics, &defaults, &mut random(image.version));
        image = apply_records(&image, decision.records);
    }
    let before = image.clone();
    let id = image.topic("topic-77").unwrap().id;
    let config = crate::metadata::ConfigRecord {
        resource: ConfigResource::Topic(id),
        name: "retention.ms".into(),
        value: Some("1".into()),
    };
    image = apply_records(&image, vec![Record::Config(config)]);
    let shared = before.topics().zip(image.topics()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!(shared, 9_999, "the other topics are the same objects");
    let delta = Delta::between(&before, &image);
    assert_eq!((delta.created.len(), delta.deleted.len(), delta.changed.len()), (0, 0, 1));
    let spread =
        image.slot_partitions().iter().max().unwrap() - image.slot_partitions().iter().min().unwrap();
    assert!(spread <= 1, "slots differ by {spread}");
}
