//! CreateTopics, CreatePartitions, DeleteTopics: request in, records or a refusal out.
//!
//! Every topic of a request succeeds or fails alone; the order of the checks is Kafka's, so that a request with two faults
//! gets the same error. Source: Apache Kafka, `ReplicationControlManager` and `ControllerApis`, observed on 4.3.1.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ControllerError;
use super::placement::Placement;
use crate::config::{check_topic_setting, check_topic_settings};
use crate::metadata::{
    CLUSTER_METADATA_TOPIC, ConfigRecord, ConfigResource, Configs, GROUP_METADATA_TOPIC, Image, Partition,
    PartitionRecord, Record, Topic, TopicRecord,
};
use crate::model::{BrokerId, Endpoint, NodeId, PartitionIndex, TopicId, TopicName, Uuid, check_topic_name};

/// Partitions that one request may make. Source: Apache Kafka, `ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// DescribeConfigs gives a value back behind a 16-bit length in its older versions.
pub const CONFIG_VALUE_BYTES_MAX: usize = i16::MAX as usize;

/// What the broker's configuration and state add to a request.
#[derive(Clone, Copy, Debug)]
pub struct TopicDefaults<'a> {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// Partitions that all topics together may have.
    pub partitions_max: usize,
    /// How busy each slot of this node is, by number; empty: nothing is known.
    pub slot_loads: &'a [u64],
}

/// A topic as CreateTopics asks for it.
#[derive(Clone, Default, Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    /// -1: the default.
    pub partitions: i32,
    /// -1: the default.
    pub replication_factor: i16,
    /// Brokers of each partition, if the client chose them.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// In order; of a name given twice the last value counts.
    pub configs: Vec<(&'a str, Option<&'a str>)>,
}

/// What CreateTopics tells about a topic that was, or with `validate_only` would be, made.
#[derive(Clone, PartialEq, Debug)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: Configs,
}

/// More partitions for a topic, as CreatePartitions asks for them.
#[derive(Clone, Default, Debug)]
pub struct MorePartitions<'a> {
    pub name: &'a str,
    /// The number to come to.
    pub count: i32,
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// A topic as DeleteTopics names it; `id` is zero if it does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicToDelete<'a> {
    pub name: Option<&'a str>,
    pub id: TopicId,
}

/// What DeleteTopics tells about one topic.
#[derive(Clone, PartialEq, Debug)]
pub struct DeletedTopic {
    pub name: Option<TopicName>,
    pub id: TopicId,
    pub result: Result<(), ControllerError>,
}

/// Records to propose, as one atomic step, and an answer for each part of the request.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<T> {
    pub records: Vec<Record>,
    pub results: Vec<T>,
}

impl<T> Decision<T> {
    /// The same answers, and nothing done: `validate_only`.
    pub fn without_records(self) -> Decision<T> {
        Decision { records: Vec::new(), ..self }
    }
}

/// Decides about each topic of a CreateTopics request, in order. A name given more than once is refused once.
pub fn create_topics(
    image: &Image,
    topics: &[NewTopic<'_>],
    defaults: &TopicDefaults<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Decision<(TopicName, Result<CreatedTopic, ControllerError>)> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *times.entry(topic.name).or_default() += 1);
    let wanted: usize =
        topics.iter().map(|topic| partitions_wanted(topic, defaults)).fold(0, usize::saturating_add);

    let mut scratch = image.clone();
    let mut decision = Decision { records: Vec::new(), results: Vec::new() };
    for topic in topics {
        let result = match times.insert(topic.name, 0) {
            Some(0) => continue,
            Some(1) if wanted > PARTITIONS_PER_REQUEST_MAX => {
                Err(ControllerError::ExcessivePartitions { max: PARTITIONS_PER_REQUEST_MAX })
            }
            Some(1) => create_topic(&mut scratch, topic, defaults, random, &mut decision.records),
            _ => Err(ControllerError::DuplicateTopic),
        };
        decision.results.push((topic.name.into(), result));
    }
    decision
}

fn partitions_wanted(topic: &NewTopic<'_>, defaults: &TopicDefaults<'_>) -> usize {
    match topic.partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        -1 => usize::try_from(defaults.partitions).unwrap_or(0),
        count => usize::try_from(count).unwrap_or(0),
    }
}

fn create_topic(
    image: &mut Image,
    topic: &NewTopic<'_>,
    defaults: &TopicDefaults<'_>,
    random: &mut dyn FnMut() -> u64,
    records: &mut Vec<Record>,
) -> Result<CreatedTopic, ControllerError> {
    check_new_name(image, topic.name)?;
    let configs = check_configs(&topic.configs)?;
    let partitions = place(image, topic, defaults)?;
    check_partition_limit(image, partitions.len(), defaults)?;

    let id = new_topic_id(image, random);
    let name: TopicName = topic.name.into();
    let count = PartitionIndex::try_from(partitions.len()).expect("bounded by PARTITIONS_PER_REQUEST_MAX");
    let created = CreatedTopic {
        id,
        partitions: count,
        replication_factor: partitions.first().map_or(0, |p| p.replicas.len() as i16),
        configs: configs.clone().into(),
    };
    image.put_topic(id, name.clone());
    records.push(Record::Topic(TopicRecord { id, name }));
    for (key, value) in configs {
        image.put_topic_config(id, &key, Some(&value));
        let resource = ConfigResource::Topic(id);
        records.push(Record::Config(ConfigRecord { resource, name: key, value: Some(value) }));
    }
    add_partitions(image, id, 0, partitions, records);
    Ok(created)
}

/// A name that no topic has, nor one that looks the same to a metrics system.
fn check_new_name(image: &Image, name: &str) -> Result<(), ControllerError> {
    check_name(name)?;
    if name == CLUSTER_METADATA_TOPIC {
        return Err(ControllerError::ReservedTopic { name: name.to_owned() });
    }
    if image.topic(name).is_some() {
        return Err(ControllerError::TopicExists { name: name.to_owned() });
    }
    match image.colliding_topic(name) {
        Some(existing) => {
            Err(ControllerError::TopicCollides { name: name.to_owned(), existing: existing.to_string() })
        }
        None => Ok(()),
    }
}

/// Kafka's rule for topic names.
pub fn check_name(name: &str) -> Result<(), ControllerError> {
    check_topic_name(name).map_err(|why| ControllerError::InvalidTopicName { name: name.to_owned(), why })
}

/// The settings of a new topic. Null values are told before anything else is looked at.
fn check_configs(given: &[(&str, Option<&str>)]) -> Result<BTreeMap<String, String>, ControllerError> {
    if let Some((name, _)) = given.iter().find(|(_, value)| value.is_none()) {
        return Err(crate::config::TopicConfigError::Null { name: (*name).to_owned() }.into());
    }
    let configs: BTreeMap<String, String> =
        given.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned()))).collect();
    for (name, value) in &configs {
        check_topic_setting(name, Some(value))?;
        check_length(name, value)?;
    }
    check_topic_settings(&configs)?;
    Ok(configs)
}

pub(super) fn check_length(name: &str, value: &str) -> Result<(), ControllerError> {
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(ControllerError::LongConfig { name: name.to_owned(), max: CONFIG_VALUE_BYTES_MAX });
    }
    Ok(())
}

fn place(
    image: &Image,
    topic: &NewTopic<'_>,
    defaults: &TopicDefaults<'_>,
) -> Result<Vec<Partition>, ControllerError> {
    let mut placement = Placement::new(image, None, defaults.slot_loads);
    if !topic.assignments.is_empty() {
        let assigned = check_assignments(image, topic)?;
        return Ok(assigned.iter().map(|place| placement.place_on(&place.nodes, place.endpoint)).collect());
    }
    let factor = match topic.replication_factor {
        -1 => defaults.replication_factor,
        factor if factor < 1 => return Err(ControllerError::InvalidReplicationFactor),
        factor => factor,
    };
    let count = match topic.partitions {
        -1 => defaults.partitions,
        count if count < 1 => return Err(ControllerError::InvalidPartitions),
        count => count,
    };
    place_many(image, &mut placement, count, factor)
}

fn place_many(
    image: &Image,
    placement: &mut Placement<'_>,
    count: i32,
    factor: i16,
) -> Result<Vec<Partition>, ControllerError> {
    let place = |_| {
        placement
            .place(factor)
            .ok_or_else(|| ControllerError::TooFewBrokers { factor, nodes: image.brokers().count() })
    };
    (0..count).map(place).collect()
}

/// Where a client wants a partition.
struct Assigned {
    /// The leader first.
    nodes: Vec<NodeId>,
    /// `None`: these nodes are one broker each to clients, and any slot will do.
    endpoint: Option<Endpoint>,
}

/// The places of the partitions, by their numbers.
fn check_assignments(image: &Image, topic: &NewTopic<'_>) -> Result<Vec<Assigned>, ControllerError> {
    if topic.replication_factor != -1 {
        return Err(ControllerError::AssignmentAndFactor);
    }
    if topic.partitions != -1 {
        return Err(ControllerError::AssignmentAndPartitions);
    }
    let mut by_number: BTreeMap<PartitionIndex, Assigned> = BTreeMap::new();
    let mut factor = None;
    for (partition, brokers) in &topic.assignments {
        if by_number.contains_key(partition) {
            return Err(ControllerError::RepeatedAssignment { partition: *partition });
        }
        let assigned = check_assignment(image, brokers, factor)?;
        factor = Some(brokers.len());
        by_number.insert(*partition, assigned);
    }
    if by_number.keys().copied().ne(0..by_number.len() as PartitionIndex) {
        return Err(ControllerError::HoleInAssignment);
    }
    Ok(by_number.into_values().collect())
}

fn check_assignment(
    image: &Image,
    brokers: &[BrokerId],
    factor: Option<usize>,
) -> Result<Assigned, ControllerError> {
    let mut seen = BTreeSet::new();
    let mut nodes = Vec::with_capacity(brokers.len());
    let mut endpoints = Vec::with_capacity(brokers.len());
    for &broker in brokers {
        let found = image.node_of(broker);
        let (node, endpoint) = found.ok_or(ControllerError::UnknownBrokerInAssignment { broker })?;
        if !seen.insert(broker) {
            return Err(ControllerError::BrokerTwiceInAssignment { broker });
        }
        if nodes.contains(&node) {
            return Err(ControllerError::NodeTwiceInAssignment { node });
        }
        nodes.push(node);
        endpoints.extend(endpoint);
    }
    match factor {
        _ if brokers.is_empty() => Err(ControllerError::EmptyAssignment),
        Some(expected) if expected != brokers.len() => {
            Err(ControllerError::UnevenAssignment { found: brokers.len(), expected })
        }
        _ if endpoints.windows(2).any(|pair| pair[0] != pair[1]) => {
            Err(ControllerError::EndpointsInAssignment)
        }
        _ => Ok(Assigned { nodes, endpoint: endpoints.first().copied() }),
    }
}

fn check_partition_limit(
    image: &Image,
    added: usize,
    defaults: &TopicDefaults<'_>,
) -> Result<(), ControllerError> {
    let max = defaults.partitions_max;
    if image.partition_count().saturating_add(added) > max {
        return Err(ControllerError::PartitionLimit { max });
    }
    Ok(())
}

fn new_topic_id(image: &Image, random: &mut dyn FnMut() -> u64) -> TopicId {
    loop {
        let id = Uuid::from_random(&mut *random);
        if image.topic_by_id(id).is_none() {
            return id;
        }
    }
}

fn add_partitions(
    image: &mut Image,
    topic: TopicId,
    first: usize,
    added: Vec<Partition>,
    records: &mut Vec<Record>,
) {
    for (index, partition) in (first as PartitionIndex..).zip(added) {
        let fits = image.put_partition(topic, index, partition.clone());
        assert!(fits, "partition {index} follows the last of topic id {topic}");
        records.push(Record::Partition(PartitionRecord { topic, index, partition }));
    }
}

/// Decides about each topic of a CreatePartitions request, in order. A name given more than once is refused once.
pub fn create_partitions(
    image: &Image,
    topics: &[MorePartitions<'_>],
    defaults: &TopicDefaults<'_>,
) -> Decision<(TopicName, Result<(), ControllerError>)> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *times.entry(topic.name).or_default() += 1);
    let mut scratch = image.clone();
    let mut decision = Decision { records: Vec::new(), results: Vec::new() };
    for topic in topics {
        let result = match times.insert(topic.name, 0) {
            Some(0) => continue,
            Some(1) => more_partitions(&mut scratch, topic, defaults, &mut decision.records),
            _ => Err(ControllerError::DuplicateTopic),
        };
        decision.results.push((topic.name.into(), result));
    }
    decision
}

fn more_partitions(
    image: &mut Image,
    wanted: &MorePartitions<'_>,
    defaults: &TopicDefaults<'_>,
    records: &mut Vec<Record>,
) -> Result<(), ControllerError> {
    let name = wanted.name;
    let topic = image.topic(name).cloned();
    let topic = topic.ok_or_else(|| ControllerError::UnknownTopic { name: name.to_owned() })?;
    let current = topic.partitions.len() as i32;
    if wanted.count == current {
        return Err(ControllerError::SameCount { count: current });
    }
    if wanted.count < current {
        return Err(ControllerError::NoIncrease { name: name.to_owned(), current, wanted: wanted.count });
    }
    let added = wanted.count - current;
    let made = records.iter().filter(|record| matches!(record, Record::Partition(_))).count();
    if made + added as usize > PARTITIONS_PER_REQUEST_MAX {
        return Err(ControllerError::ExcessivePartitions { max: PARTITIONS_PER_REQUEST_MAX });
    }
    let partitions = place_more(image, &topic, added, wanted.assignments.as_deref(), defaults.slot_loads)?;
    check_partition_limit(image, partitions.len(), defaults)?;
    add_partitions(image, topic.id, topic.partitions.len(), partitions, records);
    Ok(())
}

fn place_more(
    image: &Image,
    topic: &Topic,
    added: i32,
    assignments: Option<&[Vec<BrokerId>]>,
    slot_loads: &[u64],
) -> Result<Vec<Partition>, ControllerError> {
    let mut placement = Placement::new(image, Some(topic), slot_loads);
    let factor = topic.replication_factor();
    let Some(assignments) = assignments else { return place_many(image, &mut placement, added, factor) };
    if assignments.len() != added as usize {
        return Err(ControllerError::AssignmentCount { added, assigned: assignments.len() });
    }
    let factor = usize::try_from(factor).ok();
    let assigned: Vec<Assigned> = assignments
        .iter()
        .map(|brokers| check_assignment(image, brokers, factor))
        .collect::<Result<_, _>>()?;
    Ok(assigned.iter().map(|place| placement.place_on(&place.nodes, place.endpoint)).collect())
}

/// Decides about each topic of a DeleteTopics request, in order. What is named twice is refused once.
pub fn delete_topics(
    image: &Image,
    topics: &[TopicToDelete<'_>],
    is_enabled: bool,
) -> Decision<DeletedTopic> {
    let mut times: BTreeMap<(Option<&str>, TopicId), usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *times.entry((topic.name, topic.id)).or_default() += 1);
    let given_ids: BTreeSet<TopicId> = topics.iter().filter(|t| t.name.is_none()).map(|t| t.id).collect();
    let mut decision = Decision { records: Vec::new(), results: Vec::new() };
    for topic in topics {
        let result = match times.insert((topic.name, topic.id), 0) {
            Some(0) => continue,
            _ if !is_enabled => Err(ControllerError::TopicDeletionDisabled),
            Some(1) => find_for_deletion(image, topic, &given_ids),
            _ if topic.name.is_none() && topic.id.is_zero() => Err(ControllerError::NameOrIdMissing),
            _ if topic.name.is_none() => Err(ControllerError::DuplicateTopicId),
            _ => Err(ControllerError::DuplicateTopic),
        };
        let given = DeletedTopic { name: topic.name.map(TopicName::from), id: topic.id, result: Ok(()) };
        decision.results.push(match result {
            Ok(found) => {
                decision.records.push(Record::RemoveTopic(found.id));
                DeletedTopic { name: Some(found.name.clone()), id: found.id, result: Ok(()) }
            }
            Err(error) => DeletedTopic { result: Err(error), ..given },
        });
    }
    decision
}

fn find_for_deletion<'i>(
    image: &'i Image,
    topic: &TopicToDelete<'_>,
    given_ids: &BTreeSet<TopicId>,
) -> Result<&'i Topic, ControllerError> {
    match topic.name {
        None if topic.id.is_zero() => Err(ControllerError::NameOrIdMissing),
        None => {
            image.topic_by_id(topic.id).map(AsRef::as_ref).ok_or(ControllerError::UnknownTopicId(topic.id))
        }
        Some(_) if !topic.id.is_zero() => Err(ControllerError::NameAndIdGiven),
        Some(name) => {
            let found =
                image.topic(name).ok_or_else(|| ControllerError::UnknownTopic { name: name.to_owned() })?;
            if given_ids.contains(&found.id) { Err(ControllerError::NameOfGivenId) } else { Ok(found) }
        }
    }
}

/// `__consumer_offsets` as it is made on first use, with Kafka's settings for it: compacted, small segments, and the
/// producer's compression left alone. Committed offsets are flushed whatever the broker's default is. Source: Apache Kafka, `GroupCoordinatorService.groupMetadataTopicConfigs`.
pub fn offsets_topic(partitions: i32, replication_factor: i16, segment_bytes: &str) -> NewTopic<'_> {
    NewTopic {
        name: GROUP_METADATA_TOPIC,
        partitions,
        replication_factor,
        assignments: Vec::new(),
        configs: vec![
            ("cleanup.policy", Some("compact")),
            ("compression.type", Some("producer")),
            ("segment.bytes", Some(segment_bytes)),
            ("durability", Some("fsync")),
        ],
    }
}

#[cfg(test)]
mod tests;
