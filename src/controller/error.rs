//! Why a request about topics or configs is refused. The texts go to the client as they are.

use std::fmt;

use super::NotLeader;
use crate::config::{BrokerConfigError, TopicConfigError};
use crate::model::{BrokerId, InvalidTopicName, NodeId, PartitionIndex, TopicId};

/// One refused topic or config resource. `server/error_map.rs` gives each its wire code.
#[derive(Clone, PartialEq, Debug)]
pub enum ControllerError {
    /// The request names a topic, a resource or a key more than once.
    DuplicateTopic,
    DuplicateTopicId,
    DuplicateResource,
    DuplicateConfigs {
        names: Vec<String>,
    },
    /// A deletion that says neither or both of name and id.
    NameOrIdMissing,
    NameAndIdGiven,
    /// A name whose topic the request names by id too.
    NameOfGivenId,

    InvalidTopicName {
        name: String,
        why: InvalidTopicName,
    },
    /// The metadata log's own folder.
    ReservedTopic {
        name: String,
    },
    TopicExists {
        name: String,
    },
    TopicCollides {
        name: String,
        existing: String,
    },
    UnknownTopic {
        name: String,
    },
    UnknownTopicId(TopicId),
    TopicDeletionDisabled,

    InvalidPartitions,
    InvalidReplicationFactor,
    TooFewBrokers {
        factor: i16,
        nodes: usize,
    },
    /// More partitions in one request than are made at once.
    ExcessivePartitions {
        max: usize,
    },
    /// More partitions than the cluster is configured to carry.
    PartitionLimit {
        max: usize,
    },
    SameCount {
        count: i32,
    },
    NoIncrease {
        name: String,
        current: i32,
        wanted: i32,
    },

    AssignmentAndFactor,
    AssignmentAndPartitions,
    RepeatedAssignment {
        partition: PartitionIndex,
    },
    EmptyAssignment,
    UnknownBrokerInAssignment {
        broker: BrokerId,
    },
    BrokerTwiceInAssignment {
        broker: BrokerId,
    },
    /// Replicas on one machine protect from nothing.
    NodeTwiceInAssignment {
        node: NodeId,
    },
    /// A partition has one slot, and so the same endpoint on each of its nodes.
    EndpointsInAssignment,
    UnevenAssignment {
        found: usize,
        expected: usize,
    },
    HoleInAssignment,
    AssignmentCount {
        added: i32,
        assigned: usize,
    },

    TopicConfig(TopicConfigError),
    BrokerConfig(BrokerConfigError),
    NullConfigs {
        names: Vec<String>,
    },
    /// Append or subtract on a broker setting that is no list.
    NotAList {
        name: String,
    },
    NoDefaultTopicConfigs,
    /// Longer than an answer could carry it back.
    LongConfig {
        name: String,
        max: usize,
    },
    /// Broker settings are asked of the broker they are for.
    OtherBroker {
        expected: BrokerId,
        found: String,
    },
    BadBrokerId {
        found: String,
    },

    NotController(NotLeader),
}

impl fmt::Display for ControllerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ControllerError::*;
        match self {
            DuplicateTopic => f.write_str("Duplicate topic name."),
            DuplicateTopicId => f.write_str("Duplicate topic id."),
            DuplicateResource => f.write_str("Each resource must appear at most once."),
            DuplicateConfigs { names } => write!(f, "A config is given more than once: {}", names.join(",")),
            NameOrIdMissing => f.write_str("Neither topic name nor id were specified."),
            NameAndIdGiven => f.write_str("You may not specify both topic name and topic id."),
            NameOfGivenId => f.write_str("The topic of this name is given by its id, too."),
            InvalidTopicName { name, why } => write!(f, "Topic name '{name}' is invalid: {why}"),
            ReservedTopic { name } => write!(f, "The name {name} is reserved."),
            TopicExists { name } => write!(f, "Topic '{name}' already exists."),
            TopicCollides { name, existing } => write!(f, "Topic '{name}' collides with existing topic: {existing}"),
            UnknownTopic { name } => write!(f, "The topic '{name}' does not exist."),
            UnknownTopicId(id) => write!(f, "There is no topic with id {id}."),
            TopicDeletionDisabled => f.write_str("Topic deletion is disabled (delete.topic.enable)."),
            InvalidPartitions => f.write_str("The number of partitions must be larger than 0, or -1 for the default."),
            InvalidReplicationFactor => {
                f.write_str("Replication factor must be larger than 0, or -1 to use the default value.")
            }
            TooFewBrokers { factor, nodes } => {
                write!(f, "A replication factor of {factor} needs as many nodes; {nodes} are registered.")
            }
            ExcessivePartitions { max } => write!(f, "A request may make {max} partitions at most."),
            PartitionLimit { max } => write!(f, "The cluster may have {max} partitions at most (partitions.max)."),
            SameCount { count } => write!(f, "Topic already has {count} partition(s)."),
            NoIncrease { name, current, wanted } => {
                write!(f, "The topic {name} currently has {current} partition(s); {wanted} would not be an increase.")
            }
            AssignmentAndFactor => {
                f.write_str("A manual partition assignment was specified, but replication factor was not set to -1.")
            }
            AssignmentAndPartitions => {
                f.write_str("A manual partition assignment was specified, but the number of partitions was not set to -1.")
            }
            RepeatedAssignment { partition } => write!(f, "Partition {partition} is assigned more than once."),
            EmptyAssignment => f.write_str("The manual partition assignment includes an empty replica list."),
            UnknownBrokerInAssignment { broker } => {
                write!(f, "The manual partition assignment includes broker {broker}, but no such broker is registered.")
            }
            BrokerTwiceInAssignment { broker } => {
                write!(f, "The manual partition assignment includes the broker {broker} more than once.")
            }
            NodeTwiceInAssignment { node } => {
                write!(f, "The manual partition assignment includes several brokers of node {node}: one process holds no second replica.")
            }
            EndpointsInAssignment => {
                f.write_str("The manual partition assignment includes different endpoints: a partition is at the same one of each node.")
            }
            UnevenAssignment { found, expected } => {
                write!(f, "A partition is assigned to {found} replica(s), others to {expected}.")
            }
            HoleInAssignment => f.write_str("Partitions must be numbered from 0 without holes."),
            AssignmentCount { added, assigned } => {
                write!(f, "{added} partition(s) are to be added, but {assigned} assignment(s) were specified.")
            }
            TopicConfig(error) => error.fmt(f),
            BrokerConfig(error) => error.fmt(f),
            NullConfigs { names } => write!(f, "Null value not supported for : {}", names.join(",")),
            NotAList { name } => write!(f, "Config value append is not allowed for config key: {name}"),
            NoDefaultTopicConfigs => f.write_str("Default topic resources are not allowed."),
            LongConfig { name, max } => write!(f, "The value of {name} is longer than {max} bytes."),
            OtherBroker { expected, found } => {
                write!(f, "Unexpected broker id, expected {expected}, but received {found}")
            }
            BadBrokerId { found } => write!(f, "Broker id must be an integer, but it is: {found}"),
            NotController(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ControllerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ControllerError::TopicConfig(error) => Some(error),
            ControllerError::BrokerConfig(error) => Some(error),
            ControllerError::NotController(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TopicConfigError> for ControllerError {
    fn from(error: TopicConfigError) -> Self {
        ControllerError::TopicConfig(error)
    }
}

impl From<BrokerConfigError> for ControllerError {
    fn from(error: BrokerConfigError) -> Self {
        ControllerError::BrokerConfig(error)
    }
}

impl From<NotLeader> for ControllerError {
    fn from(error: NotLeader) -> Self {
        ControllerError::NotController(error)
    }
}
