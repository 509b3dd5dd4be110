//! The records that metadata is made of, and their bytes.
//!
//! An [`Entry`] is one atomic step of the metadata log: some records under one term and one index. It is stored as one
//! RecordBatch v2 in the folder `__cluster_metadata-0`, a record value for each [`Record`]; the batch's CRC makes it whole or
//! absent. Term and index stand in every value, so that a Raft log (one entry, one index) can take the place of one writer.
//!
//! Layout of a record value. Integers are big-endian; *text* and *list* begin with a LEB128 count; *option* with a byte 0 or 1.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | envelope version, 1 |
//! | 1 | kind, see below |
//! | 2 | version of the kind: 0 where the table below names no other |
//! | 3–10 | term, u64 |
//! | 11–18 | index, u64, from 1 |
//! | 19– | body |
//!
//! | kind | record | body |
//! |---|---|---|
//! | 1 | Format | cluster id 16 · slots u16 · endpoints u16 |
//! | 2 | FeatureLevel | name text · level i16 |
//! | 3 | RegisterBroker | node i32 · host text · port u16 · rack option text · list of directory ids 16; version 1: · list of the endpoints' ports u16 |
//! | 4 | Topic | topic id 16 · name text |
//! | 5 | Partition | topic id 16 · partition i32 · slot u16 · leader option i32 · leader epoch i32 · partition epoch i32 · list of replicas (node i32, directory id 16) · list of ISR nodes i32 |
//! | 6 | Config | resource (0 topic: topic id 16; 1 broker: node i32; 2 all brokers) · name text · value option text |
//! | 7 | RemoveTopic | topic id 16 |
//! | 8 | ProducerIds | first id not yet given out i64 |
//! | 9 | NoOp | nothing; a leader's first entry of a term |
//! | 10 | MoveSlot | node i32 · slot u16 · endpoint u16 · core u16 · cores u16 |

use std::fmt;
use std::sync::Arc;

use super::codec::{Reader, Writer};
use super::homes::SlotHome;
use super::image::{Partition, Replica};
use crate::model::{
    DirectoryId, Endpoint, LeaderEpoch, NodeId, PartitionIndex, PlacementSlot, ProducerId, ShardId, TopicId,
    TopicName, Uuid,
};

const ENVELOPE_VERSION: u8 = 1;

/// One atomic step of the metadata log: applied as a whole or not at all.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The reign of the writer that made it; never falls along the log.
    pub term: u64,
    /// Its place, from 1 and without holes. An image's version is the index of the last entry applied.
    pub index: u64,
    pub records: Vec<Record>,
}

/// One fact.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    Format(FormatRecord),
    FeatureLevel(FeatureLevelRecord),
    RegisterBroker(RegisterBrokerRecord),
    Topic(TopicRecord),
    Partition(PartitionRecord),
    Config(ConfigRecord),
    RemoveTopic(TopicId),
    ProducerIds(ProducerIdsRecord),
    NoOp,
    MoveSlot(MoveSlotRecord),
}

/// The first record of a directory; never repeated.
#[derive(Clone, PartialEq, Debug)]
pub struct FormatRecord {
    pub cluster_id: Uuid,
    pub slots: u16,
    pub endpoints: u16,
}

/// The cluster speaks a feature at this level from here on.
#[derive(Clone, PartialEq, Debug)]
pub struct FeatureLevelRecord {
    pub name: Arc<str>,
    pub level: i16,
}

/// A broker process came up. Its broker epoch is the index of the entry.
#[derive(Clone, PartialEq, Debug)]
pub struct RegisterBrokerRecord {
    pub node: NodeId,
    pub host: Arc<str>,
    pub port: u16,
    /// Empty unless clients see each endpoint as a broker of its own.
    pub endpoint_ports: Vec<u16>,
    pub rack: Option<Arc<str>>,
    pub directories: Vec<DirectoryId>,
}

/// A topic without partitions yet; its partitions follow in the same entry.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicRecord {
    pub id: TopicId,
    pub name: TopicName,
}

/// The whole state of one partition: a new one, which must be the next number, or a change of one.
#[derive(Clone, PartialEq, Debug)]
pub struct PartitionRecord {
    pub topic: TopicId,
    pub index: PartitionIndex,
    pub partition: Partition,
}

/// What a config belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigResource {
    Topic(TopicId),
    Broker(NodeId),
    AllBrokers,
}

/// An override, or with no value its removal.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigRecord {
    pub resource: ConfigResource,
    pub name: String,
    pub value: Option<String>,
}

/// Producer ids below this one belong to somebody.
#[derive(Clone, PartialEq, Debug)]
pub struct ProducerIdsRecord {
    pub next: ProducerId,
}

/// A slot of a node is at another endpoint and core from here on. The leader epochs of what the node leads in it rise by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MoveSlotRecord {
    pub node: NodeId,
    pub slot: PlacementSlot,
    pub home: SlotHome,
}

/// Why bytes are no metadata record.
#[derive(Clone, PartialEq, Debug)]
pub enum DecodeError {
    Truncated,
    TrailingBytes(usize),
    LongCount,
    NotUtf8(std::str::Utf8Error),
    BadFlag(u8),
    BadResource(u8),
    NegativePartition(PartitionIndex),
    /// Written by a later release.
    UnknownEnvelope(u8),
    UnknownKind(u8),
    UnknownVersion {
        kind: u8,
        version: u8,
    },
    /// The values of one batch disagree about their term or index.
    Mixed {
        first: (u64, u64),
        other: (u64, u64),
    },
    /// A batch without a record.
    Empty,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("the record ends too early"),
            DecodeError::TrailingBytes(count) => write!(f, "{count} bytes follow the record"),
            DecodeError::LongCount => f.write_str("a count takes more than 5 bytes"),
            DecodeError::NotUtf8(error) => write!(f, "a text is not UTF-8: {error}"),
            DecodeError::BadFlag(byte) => write!(f, "{byte} where 0 or 1 was due"),
            DecodeError::BadResource(byte) => write!(f, "unknown kind {byte} of config resource"),
            DecodeError::NegativePartition(index) => write!(f, "partition number {index}"),
            DecodeError::UnknownEnvelope(version) => {
                write!(f, "envelope version {version} is not known to this release")
            }
            DecodeError::UnknownKind(kind) => write!(f, "record kind {kind} is not known to this release"),
            DecodeError::UnknownVersion { kind, version } => {
                write!(f, "version {version} of record kind {kind} is not known to this release")
            }
            DecodeError::Mixed { first, other } => {
                write!(f, "one batch holds (term, index) {first:?} and {other:?}")
            }
            DecodeError::Empty => f.write_str("a batch holds no record"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DecodeError::NotUtf8(error) => Some(error),
            _ => None,
        }
    }
}

impl Entry {
    /// The record values of the batch that stores this entry, in order.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        assert!(!self.records.is_empty(), "entry {} has no record", self.index);
        self.records.iter().map(|record| encode(self.term, self.index, record)).collect()
    }

    /// Reads the record values of one batch back. All must be of one term and index.
    pub fn decode<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Entry, DecodeError> {
        let mut entry: Option<Entry> = None;
        for value in values {
            let (term, index, record) = decode(value)?;
            match &mut entry {
                None => entry = Some(Entry { term, index, records: vec![record] }),
                Some(entry) if (entry.term, entry.index) == (term, index) => entry.records.push(record),
                Some(entry) => {
                    return Err(DecodeError::Mixed {
                        first: (entry.term, entry.index),
                        other: (term, index),
                    });
                }
            }
        }
        entry.ok_or(DecodeError::Empty)
    }
}

fn encode(term: u64, index: u64, record: &Record) -> Vec<u8> {
    let mut to = Writer::default();
    to.u8(ENVELOPE_VERSION);
    to.u8(kind(record));
    to.u8(version(record));
    to.u64(term);
    to.u64(index);
    match record {
        Record::Format(r) => {
            to.uuid(r.cluster_id);
            to.u16(r.slots);
            to.u16(r.endpoints);
        }
        Record::FeatureLevel(r) => {
            to.text(&r.name);
            to.i16(r.level);
        }
        Record::RegisterBroker(r) => {
            to.i32(r.node.0);
            to.text(&r.host);
            to.u16(r.port);
            to.optional_text(r.rack.as_deref());
            to.count(r.directories.len());
            r.directories.iter().for_each(|directory| to.uuid(*directory));
            if version(record) >= 1 {
                to.count(r.endpoint_ports.len());
                r.endpoint_ports.iter().for_each(|port| to.u16(*port));
            }
        }
        Record::Topic(r) => {
            to.uuid(r.id);
            to.text(&r.name);
        }
        Record::Partition(r) => encode_partition(r, &mut to),
        Record::Config(r) => {
            match r.resource {
                ConfigResource::Topic(id) => {
                    to.u8(0);
                    to.uuid(id);
                }
                ConfigResource::Broker(node) => {
                    to.u8(1);
                    to.i32(node.0);
                }
                ConfigResource::AllBrokers => to.u8(2),
            }
            to.text(&r.name);
            to.optional_text(r.value.as_deref());
        }
        Record::RemoveTopic(id) => to.uuid(*id),
        Record::ProducerIds(r) => to.i64(r.next.0),
        Record::NoOp => {}
        Record::MoveSlot(r) => {
            to.i32(r.node.0);
            let SlotHome { endpoint, core, cores } = r.home;
            [r.slot.0, endpoint.0, core.0, cores].into_iter().for_each(|number| to.u16(number));
        }
    }
    to.bytes
}

fn encode_partition(record: &PartitionRecord, to: &mut Writer) {
    let partition = &record.partition;
    to.uuid(record.topic);
    to.i32(record.index);
    to.u16(partition.slot.0);
    to.u8(u8::from(partition.leader.is_some()));
    if let Some(leader) = partition.leader {
        to.i32(leader.0);
    }
    to.i32(partition.leader_epoch.0);
    to.i32(partition.partition_epoch);
    to.count(partition.replicas.len());
    for replica in partition.replicas.iter() {
        to.i32(replica.node.0);
        to.uuid(replica.directory);
    }
    to.count(partition.isr.len());
    partition.isr.iter().for_each(|node| to.i32(node.0));
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Format(_) => 1,
        Record::FeatureLevel(_) => 2,
        Record::RegisterBroker(_) => 3,
        Record::Topic(_) => 4,
        Record::Partition(_) => 5,
        Record::Config(_) => 6,
        Record::RemoveTopic(_) => 7,
        Record::ProducerIds(_) => 8,
        Record::NoOp => 9,
        Record::MoveSlot(_) => 10,
    }
}

/// The oldest version that can say it, so that the releases that know that can read it.
fn version(record: &Record) -> u8 {
    match record {
        Record::RegisterBroker(r) => u8::from(!r.endpoint_ports.is_empty()),
        _ => 0,
    }
}

/// The newest version of a kind that this release reads.
fn newest_version(kind: u8) -> u8 {
    if kind == 3 { 1 } else { 0 }
}

/// One record value: term, index, record.
fn decode(value: &[u8]) -> Result<(u64, u64, Record), DecodeError> {
    let mut from = Reader { bytes: value };
    let envelope = from.u8()?;
    if envelope != ENVELOPE_VERSION {
        return Err(DecodeError::UnknownEnvelope(envelope));
    }
    let (kind, version) = (from.u8()?, from.u8()?);
    let (term, index) = (from.u64()?, from.u64()?);
    if (1..=10).contains(&kind) && version > newest_version(kind) {
        return Err(DecodeError::UnknownVersion { kind, version });
    }
    let record = match kind {
        1 => Record::Format(FormatRecord {
            cluster_id: from.uuid()?,
            slots: from.u16()?,
            endpoints: from.u16()?,
        }),
        2 => Record::FeatureLevel(FeatureLevelRecord { name: from.shared_text()?, level: from.i16()? }),
        3 => Record::RegisterBroker(RegisterBrokerRecord {
            node: NodeId(from.i32()?),
            host: from.shared_text()?,
            port: from.u16()?,
            rack: from.optional_text()?.map(Arc::from),
            directories: (0..from.count()?).map(|_| from.uuid()).collect::<Result<_, _>>()?,
            endpoint_ports: match version {
                0 => Vec::new(),
                _ => (0..from.count()?).map(|_| from.u16()).collect::<Result<_, _>>()?,
            },
        }),
        4 => Record::Topic(TopicRecord { id: from.uuid()?, name: from.shared_text()? }),
        5 => Record::Partition(decode_partition(&mut from)?),
        6 => Record::Config(ConfigRecord {
            resource: match from.u8()? {
                0 => ConfigResource::Topic(from.uuid()?),
                1 => ConfigResource::Broker(NodeId(from.i32()?)),
                2 => ConfigResource::AllBrokers,
                other => return Err(DecodeError::BadResource(other)),
            },
            name: from.text()?.to_owned(),
            value: from.optional_text()?.map(str::to_owned),
        }),
        7 => Record::RemoveTopic(from.uuid()?),
        8 => Record::ProducerIds(ProducerIdsRecord { next: ProducerId(from.i64()?) }),
        9 => Record::NoOp,
        10 => Record::MoveSlot(MoveSlotRecord {
            node: NodeId(from.i32()?),
            slot: PlacementSlot(from.u16()?),
            home: SlotHome {
                endpoint: Endpoint(from.u16()?),
                core: ShardId(from.u16()?),
                cores: from.u16()?,
            },
        }),
        other => return Err(DecodeError::UnknownKind(other)),
    };
    from.end()?;
    Ok((term, index, record))
}

fn decode_partition(from: &mut Reader<'_>) -> Result<PartitionRecord, DecodeError> {
    let topic = from.uuid()?;
    let index = from.i32()?;
    if index < 0 {
        return Err(DecodeError::NegativePartition(index));
    }
    let partition = Partition {
        slot: PlacementSlot(from.u16()?),
        leader: if from.flag()? { Some(NodeId(from.i32()?)) } else { None },
        leader_epoch: LeaderEpoch(from.i32()?),
        partition_epoch: from.i32()?,
        replicas: (0..from.count()?)
            .map(|_| Ok(Replica { node: NodeId(from.i32()?), directory: from.uuid()? }))
            .collect::<Result<_, DecodeError>>()?,
        isr: (0..from.count()?).map(|_| from.i32().map(NodeId)).collect::<Result<_, _>>()?,
    };
    Ok(PartitionRecord { topic, index, partition })
}

#[cfg(test)]
mod tests;
