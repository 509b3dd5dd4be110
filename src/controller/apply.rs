//! The state machine: image + entry = next image. Nothing but the entry goes in: no clock, no chance, no settings.

use std::fmt;

use crate::metadata::{
    Broker, ConfigRecord, ConfigResource, Entry, Image, Layout, LayoutError, METADATA_VERSION_FEATURE,
    METADATA_VERSION_LEVEL, Record, RegisterBrokerRecord,
};
use crate::model::{BrokerEpoch, NodeId, PartitionIndex, PlacementSlot, TopicId, TopicName};

/// Why an entry does not follow from the image: the log is damaged, of another cluster, or of a later release.
#[derive(Clone, PartialEq, Debug)]
pub enum ApplyError {
    /// Indices have no holes.
    Gap {
        expected: u64,
        found: u64,
    },
    /// Terms never fall.
    TermFell {
        from: u64,
        to: u64,
    },
    /// A format record comes first and only once.
    NotFormatted,
    FormattedTwice,
    Layout(LayoutError),
    UnknownTopic(TopicId),
    TopicExists(TopicName),
    /// Beyond the next partition, or in a slot that the layout does not have.
    BadPartition {
        topic: TopicId,
        index: PartitionIndex,
    },
    /// A broker does not have one port for each endpoint of the layout, or its id leaves no room for theirs.
    BadEndpoints {
        node: NodeId,
        ports: usize,
    },
    /// A slot, or the endpoint it moves to, is not in the layout.
    BadMove {
        slot: PlacementSlot,
    },
    /// This release cannot read what a cluster of that level writes.
    LevelTooHigh {
        level: i16,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Gap { expected, found } => {
                write!(f, "metadata entry {found} where {expected} was due")
            }
            ApplyError::TermFell { from, to } => write!(f, "metadata term {to} after term {from}"),
            ApplyError::NotFormatted => f.write_str("the metadata log does not begin with its format"),
            ApplyError::FormattedTwice => f.write_str("the metadata log holds a second format"),
            ApplyError::Layout(error) => write!(f, "the format is not usable: {error}"),
            ApplyError::UnknownTopic(id) => write!(f, "a record names topic id {id}, which is not there"),
            ApplyError::TopicExists(name) => write!(f, "topic {name} is made a second time"),
            ApplyError::BadPartition { topic, index } => {
                write!(f, "partition {index} of topic id {topic} does not fit in")
            }
            ApplyError::BadEndpoints { node, ports } => {
                write!(f, "node {node} comes with {ports} ports, which does not fit the layout")
            }
            ApplyError::BadMove { slot } => write!(f, "the move of slot {} does not fit the layout", slot.0),
            ApplyError::LevelTooHigh { level } => write!(
                f,
                "{METADATA_VERSION_FEATURE} is {level}, and this release knows {METADATA_VERSION_LEVEL} at most: run the release that wrote it"
            ),
        }
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ApplyError::Layout(error) => Some(error),
            _ => None,
        }
    }
}

/// The image after `entry`. On error there is no image: nobody can use a half-applied entry.
pub fn apply(mut image: Image, entry: &Entry) -> Result<Image, ApplyError> {
    let expected = image.version + 1;
    if entry.index != expected {
        return Err(ApplyError::Gap { expected, found: entry.index });
    }
    if entry.term < image.term {
        return Err(ApplyError::TermFell { from: image.term, to: entry.term });
    }
    for record in &entry.records {
        apply_record(&mut image, entry.index, record)?;
    }
    image.version = entry.index;
    image.term = entry.term;
    Ok(image)
}

fn apply_record(image: &mut Image, index: u64, record: &Record) -> Result<(), ApplyError> {
    let is_formatted = !image.cluster_id.is_zero();
    match record {
        Record::Format(_) if is_formatted => return Err(ApplyError::FormattedTwice),
        Record::Format(format) => {
            let layout = Layout::new(format.slots, format.endpoints).map_err(ApplyError::Layout)?;
            image.put_format(format.cluster_id, layout);
        }
        _ if !is_formatted => return Err(ApplyError::NotFormatted),
        Record::FeatureLevel(feature) => {
            if &*feature.name == METADATA_VERSION_FEATURE && feature.level > METADATA_VERSION_LEVEL {
                return Err(ApplyError::LevelTooHigh { level: feature.level });
            }
            image.put_feature(feature.name.clone(), feature.level);
        }
        Record::RegisterBroker(broker) => register(image, index, broker)?,
        Record::Topic(topic) => {
            if image.topic(&topic.name).is_some() || image.topic_by_id(topic.id).is_some() {
                return Err(ApplyError::TopicExists(topic.name.clone()));
            }
            image.put_topic(topic.id, topic.name.clone());
        }
        Record::Partition(record) => {
            if !image.put_partition(record.topic, record.index, record.partition.clone()) {
                return Err(ApplyError::BadPartition { topic: record.topic, index: record.index });
            }
        }
        Record::Config(config) => apply_config(image, config)?,
        Record::RemoveTopic(id) => {
            image.remove_topic(*id).ok_or(ApplyError::UnknownTopic(*id))?;
        }
        Record::ProducerIds(ids) => image.next_producer_id = image.next_producer_id.max(ids.next),
        Record::NoOp => {}
        Record::MoveSlot(moved) => {
            if !image.move_slot(moved.node, moved.slot, moved.home) {
                return Err(ApplyError::BadMove { slot: moved.slot });
            }
        }
    }
    Ok(())
}

fn register(image: &mut Image, index: u64, broker: &RegisterBrokerRecord) -> Result<(), ApplyError> {
    let ports = broker.endpoint_ports.len();
    let has_room = (0..=NodeId::WITH_ENDPOINTS_MAX.0).contains(&broker.node.0);
    if ports > 0 && (ports != usize::from(image.layout.endpoints()) || !has_room) {
        return Err(ApplyError::BadEndpoints { node: broker.node, ports });
    }
    image.put_broker(Broker {
        node: broker.node,
        // The index of its registration, as in Kafka: a later incarnation has a larger one.
        epoch: BrokerEpoch(i64::try_from(index).expect("an entry index fits an i64")),
        host: broker.host.clone(),
        port: broker.port,
        endpoint_ports: broker.endpoint_ports.clone(),
        rack: broker.rack.clone(),
        directories: broker.directories.clone(),
    });
    Ok(())
}

fn apply_config(image: &mut Image, config: &ConfigRecord) -> Result<(), ApplyError> {
    let value = config.value.as_deref();
    match config.resource {
        ConfigResource::Topic(id) => {
            if !image.put_topic_config(id, &config.name, value) {
                return Err(ApplyError::UnknownTopic(id));
            }
        }
        ConfigResource::Broker(node) => image.put_broker_config(node, &config.name, value),
        ConfigResource::AllBrokers => image.put_default_broker_config(&config.name, value),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{FeatureLevelRecord, FormatRecord, Local, ProducerIdsRecord, TopicRecord};
    use crate::model::{NodeId, ProducerId, Uuid};

    fn format() -> Record {
        Record::Format(FormatRecord { cluster_id: Uuid([9; 16]), slots: 8, endpoints: 2 })
    }

    fn topic(id: u8, name: &str) -> Record {
        Record::Topic(TopicRecord { id: Uuid([id; 16]), name: name.into() })
    }

    /// Applies `records` as entry 2 of term 5 to a formatted image.
    fn check(records: Vec<Record>, expected: Result<(), ApplyError>) {
        let empty = Image::empty(Local { node: NodeId(1), shards: 1 });
        let image = apply(empty, &Entry { term: 5, index: 1, records: vec![format()] }).unwrap();
        assert_eq!(apply(image, &Entry { term: 5, index: 2, records }).map(drop), expected);
    }

    #[test]
    fn records_that_do_not_follow_are_refused() {
        check(vec![topic(1, "a"), topic(2, "b")], Ok(()));
        check(vec![format()], Err(ApplyError::FormattedTwice));
        check(vec![topic(1, "a"), topic(2, "a")], Err(ApplyError::TopicExists("a".into())));
        check(vec![topic(1, "a"), topic(1, "b")], Err(ApplyError::TopicExists("b".into())));
        check(vec![Record::RemoveTopic(Uuid([7; 16]))], Err(ApplyError::UnknownTopic(Uuid([7; 16]))));
        let level =
            |level| Record::FeatureLevel(FeatureLevelRecord { name: METADATA_VERSION_FEATURE.into(), level });
        check(vec![level(METADATA_VERSION_LEVEL)], Ok(()));
        check(vec![level(31)], Err(ApplyError::LevelTooHigh { level: 31 }));
    }

    #[test]
    fn entries_come_in_order_and_after_the_format() {
        let empty = || Image::empty(Local { node: NodeId(1), shards: 1 });
        let entry = |term, index, records| Entry { term, index, records };
        assert_eq!(apply(empty(), &entry(1, 1, vec![topic(1, "a")])), Err(ApplyError::NotFormatted));
        assert_eq!(
            apply(empty(), &entry(1, 2, vec![format()])),
            Err(ApplyError::Gap { expected: 1, found: 2 })
        );
        let image = apply(empty(), &entry(5, 1, vec![format()])).unwrap();
        let fell = apply(image.clone(), &entry(4, 2, vec![Record::NoOp]));
        assert_eq!(fell, Err(ApplyError::TermFell { from: 5, to: 4 }));
        let image = apply(image, &entry(6, 2, vec![Record::NoOp])).unwrap();
        assert_eq!((image.version, image.term), (2, 6));
    }

    #[test]
    fn producer_ids_never_go_back() {
        let empty = Image::empty(Local { node: NodeId(1), shards: 1 });
        let ids = |next| Record::ProducerIds(ProducerIdsRecord { next: ProducerId(next) });
        let entry = Entry { term: 1, index: 1, records: vec![format(), ids(2000), ids(1000)] };
        assert_eq!(apply(empty, &entry).unwrap().next_producer_id, ProducerId(2000));
    }
}
