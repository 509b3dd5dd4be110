//! The first entry of a directory, and what a broker says of itself each time it comes up.

use std::fmt;
use std::sync::Arc;

use crate::metadata::{
    ConfigRecord, ConfigResource, FeatureLevelRecord, FormatRecord, Image, Layout, LayoutError,
    METADATA_VERSION_FEATURE, METADATA_VERSION_LEVEL, Record, RegisterBrokerRecord,
};
use crate::model::{DirectoryId, NodeId, Uuid};

/// What is fixed when a data directory is formatted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    pub cluster_id: Uuid,
    pub slots: u16,
    pub endpoints: u16,
    /// Kept as a setting of the cluster, not of each broker: all brokers must agree about what the watermark waits for
    /// (KIP-966).
    pub min_insync_replicas: i32,
}

/// A broker process that comes up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub node: NodeId,
    /// Where clients are told to connect.
    pub host: Arc<str>,
    pub port: u16,
    /// As in [`RegisterBrokerRecord`].
    pub endpoint_ports: Vec<u16>,
    pub rack: Option<Arc<str>>,
    pub directories: Vec<DirectoryId>,
}

/// The records of the first entry.
pub fn format_records(format: &Format) -> Result<Vec<Record>, LayoutError> {
    Layout::new(format.slots, format.endpoints)?;
    Ok(vec![
        Record::Format(FormatRecord {
            cluster_id: format.cluster_id,
            slots: format.slots,
            endpoints: format.endpoints,
        }),
        Record::FeatureLevel(FeatureLevelRecord {
            name: METADATA_VERSION_FEATURE.into(),
            level: METADATA_VERSION_LEVEL,
        }),
        Record::Config(ConfigRecord {
            resource: ConfigResource::AllBrokers,
            name: "min.insync.replicas".to_owned(),
            value: Some(format.min_insync_replicas.to_string()),
        }),
    ])
}

/// The record of a registration; its broker epoch will be the index of the entry.
pub fn register_broker(registration: &Registration) -> Vec<Record> {
    vec![Record::RegisterBroker(RegisterBrokerRecord {
        node: registration.node,
        host: registration.host.clone(),
        port: registration.port,
        endpoint_ports: registration.endpoint_ports.clone(),
        rack: registration.rack.clone(),
        directories: registration.directories.clone(),
    })]
}

/// Why a metadata log is not this directory's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignLog {
    OtherCluster {
        expected: Uuid,
        found: Uuid,
    },
    /// Partitions of this cluster are on another node id, and none are on this one.
    OtherNode {
        expected: NodeId,
        found: NodeId,
    },
}

impl fmt::Display for ForeignLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForeignLog::OtherCluster { expected, found } => {
                write!(f, "the metadata log is of cluster {found}, the directory of {expected}")
            }
            ForeignLog::OtherNode { expected, found } => {
                write!(f, "the metadata log is of node {found}, this is node {expected}")
            }
        }
    }
}

impl std::error::Error for ForeignLog {}

/// Checks that a replayed log belongs to the directory's `meta.properties` and to this node.
pub fn check_cluster(image: &Image, cluster_id: Uuid) -> Result<(), ForeignLog> {
    if image.cluster_id != cluster_id {
        return Err(ForeignLog::OtherCluster { expected: cluster_id, found: image.cluster_id });
    }
    match image.brokers().next() {
        Some(other) if image.local_broker().is_none() => {
            Err(ForeignLog::OtherNode { expected: image.local.node, found: other.node })
        }
        _ => Ok(()),
    }
}
