//! Names of directories and files, and the small text formats beside the logs: the one place.
//!
//! ```text
//! <data directory>/
//!   meta.properties                   version, node, cluster and directory id
//!   .lock                             held by the running broker
//!   .kafka_cleanshutdown              there only after a clean stop
//!   .storage-failed                   there from a failed write or flush to the next start (`distrust`)
//!   shard-<n>.journal                 there while the broker runs, and after a crash (`journal::format`)
//!   shard-<n>.mapped                  as well: the mapped journal (`journal::mapped`)
//!   recovery-point-offset-checkpoint  per partition: flushed below this offset
//!   log-start-offset-checkpoint       per partition: deleted below this offset
//!   <topic>-<partition>/
//!     <base offset>.log               record batches, nothing between (`record::batch`)
//!     <base offset>.index             offset index (`offset_index`)
//!     <base offset>.timeindex         time index (`time_index`)
//!     <offset>.snapshot               producer state below the offset (`producer_state`)
//!     leader-epoch-checkpoint         first offset of each leader epoch (`leader_epoch_cache`)
//!     partition.metadata              topic id
//!     segment.next                    space reserved for the next segment; carries nothing
//! ```
//! Offsets in file names have 20 digits. Source: Apache Kafka `LogFileUtils`, `PartitionMetadataFile`, `MetaProperties`.

use std::path::{Path, PathBuf};

use crate::model::{DirectoryId, Offset, PartitionIndex, TopicId, TopicPartition, Uuid, check_topic_name};

pub const META_PROPERTIES: &str = "meta.properties";
pub const LOCK: &str = ".lock";
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// There from a failed write or flush to the next start.
pub const STORAGE_FAILED: &str = ".storage-failed";
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Does not end in `.log`: neither our recovery nor Kafka's takes it for a segment.
pub const NEXT_SEGMENT: &str = "segment.next";

/// The files named by an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSuffix {
    Log,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    ProducerSnapshot,
}

impl FileSuffix {
    pub const ALL: [FileSuffix; 5] = [
        FileSuffix::Log,
        FileSuffix::OffsetIndex,
        FileSuffix::TimeIndex,
        FileSuffix::TransactionIndex,
        FileSuffix::ProducerSnapshot,
    ];

    pub fn name(self) -> &'static str {
        match self {
            FileSuffix::Log => "log",
            FileSuffix::OffsetIndex => "index",
            FileSuffix::TimeIndex => "timeindex",
            FileSuffix::TransactionIndex => "txnindex",
            FileSuffix::ProducerSnapshot => "snapshot",
        }
    }
}

/// The journal of a shard. No partition's folder can have this name: those end in a number.
pub fn journal_file(shard: u16) -> String {
    format!("shard-{shard}.journal")
}

/// The mapped journal of a shard.
pub fn mapped_journal_file(shard: u16) -> String {
    format!("shard-{shard}.mapped")
}

pub fn is_mapped_journal(name: &str) -> bool {
    parse_journal_file(name).is_some_and(|shard| mapped_journal_file(shard) == name)
}

/// The shard whose journal, or mapped journal, has this name.
pub fn parse_journal_file(name: &str) -> Option<u16> {
    let (shard, ending) = name.strip_prefix("shard-")?.split_once('.')?;
    let shard = shard.parse().ok()?;
    let is_name = match ending {
        "mapped" => mapped_journal_file(shard) == name,
        _ => journal_file(shard) == name,
    };
    is_name.then_some(shard)
}

/// `<directory>/<offset, 20 digits>.<suffix>`
pub fn offset_file(directory: &Path, offset: Offset, suffix: FileSuffix) -> PathBuf {
    directory.join(format!("{offset:020}.{}", suffix.name()))
}

/// What an offset file's name says; `None` for any other file.
pub fn parse_offset_file(name: &str) -> Option<(Offset, FileSuffix)> {
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let suffix = FileSuffix::ALL.into_iter().find(|s| s.name() == suffix)?;
    Some((digits.parse().ok()?, suffix))
}

/// What recovery removes from a partition's directory: left by an interrupted replacement, deletion or cleaning.
pub fn is_leftover(name: &str) -> bool {
    name == NEXT_SEGMENT
        || [".tmp", ".deleted", ".cleaned", ".swap"].iter().any(|suffix| name.ends_with(suffix))
}

/// What a directory inside a data directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryKind {
    Partition(TopicPartition),
    /// Being deleted when the process ended: removed at start.
    Deleted,
    /// Put aside by an operator or by Kafka: left alone.
    PutAside,
    Foreign,
}

pub fn partition_directory(data_directory: &Path, partition: &TopicPartition) -> PathBuf {
    data_directory.join(partition.to_string())
}

/// A name for the directory of a deleted partition, which a later partition of that name cannot meet.
pub fn deleted_directory(data_directory: &Path, partition: &TopicPartition, unique: Uuid) -> PathBuf {
    // Kafka cuts long topic names so that the whole stays within NAME_MAX (255).
    let suffix = format!(".{unique}-delete");
    let name = partition.to_string();
    let kept = name.len().min(255 - suffix.len());
    data_directory.join(format!("{}{suffix}", &name[..kept]))
}

pub fn directory_kind(name: &str) -> DirectoryKind {
    if name.ends_with("-delete") {
        return DirectoryKind::Deleted;
    }
    if name.ends_with("-stray") || name.ends_with("-future") {
        return DirectoryKind::PutAside;
    }
    let Some((topic, partition)) = name.rsplit_once('-') else { return DirectoryKind::Foreign };
    match partition.parse::<PartitionIndex>() {
        Ok(index) if index >= 0 && index.to_string() == partition && check_topic_name(topic).is_ok() => {
            DirectoryKind::Partition(TopicPartition::new(topic, index))
        }
        _ => DirectoryKind::Foreign,
    }
}

/// `partition.metadata`.
pub fn encode_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// `None` if the text is not version 0 of `partition.metadata`.
pub fn parse_partition_metadata(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version: ")?;
    let topic_id = lines.next()?.strip_prefix("topic_id: ")?;
    if version.trim() == "0" { Uuid::parse(topic_id.trim()) } else { None }
}

/// `meta.properties`: to which cluster and node a data directory belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: DirectoryId,
}

impl MetaProperties {
    pub fn encode(&self) -> String {
        format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        )
    }

    /// `None` if a key is missing or has no sense. Unknown keys and comments are passed over.
    pub fn parse(text: &str) -> Option<MetaProperties> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.trim())
        };
        if value("version")? != "1" {
            return None;
        }
        Some(MetaProperties {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: value("node.id")?.parse().ok()?,
            directory_id: Uuid::parse(value("directory.id")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_files_read_back() {
        let path = offset_file(Path::new("/d/t-0"), 4711, FileSuffix::TimeIndex);
        assert_eq!(path, Path::new("/d/t-0/00000000000000004711.timeindex"));
        let check = |name: &str, expected| assert_eq!(parse_offset_file(name), expected, "{name}");
        check("00000000000000004711.timeindex", Some((4711, FileSuffix::TimeIndex)));
        check("00000000000000000000.log", Some((0, FileSuffix::Log)));
        check("00000000000000000000.log.deleted", None);
        check("0.log", None);
        check("99999999999999999999.log", None);
        check("+0000000000000000001.log", None);
        check("leader-epoch-checkpoint", None);
    }

    #[test]
    fn directories_are_told_apart() {
        let check = |name: &str, expected| assert_eq!(directory_kind(name), expected, "{name}");
        check("a-b-12", DirectoryKind::Partition(TopicPartition::new("a-b", 12)));
        check("__consumer_offsets-0", DirectoryKind::Partition(TopicPartition::new("__consumer_offsets", 0)));
        check("a-0.AAAA-delete", DirectoryKind::Deleted);
        check("a-0.AAAA-stray", DirectoryKind::PutAside);
        check("a-01", DirectoryKind::Foreign);
        check("a--1", DirectoryKind::Partition(TopicPartition::new("a-", 1)));
        check("lost+found", DirectoryKind::Foreign);
    }

    #[test]
    fn a_deleted_directory_fits_in_a_name() {
        let path =
            deleted_directory(Path::new("/d"), &TopicPartition::new("x".repeat(249), 3), Uuid([1; 16]));
        let name = path.file_name().and_then(|n| n.to_str()).unwrap();
        assert_eq!(name.len(), 255);
        assert_eq!(directory_kind(name), DirectoryKind::Deleted);
    }

    #[test]
    fn texts_read_back() {
        let id = Uuid(*b"0123456789abcdef");
        assert_eq!(parse_partition_metadata(&encode_partition_metadata(id)), Some(id));
        assert_eq!(parse_partition_metadata("version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA"), None);
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 3, directory_id: id };
        assert_eq!(MetaProperties::parse(&format!("#comment\n{}", meta.encode())), Some(meta));
        assert_eq!(MetaProperties::parse("version=0\nbroker.id=1"), None);
    }
}
