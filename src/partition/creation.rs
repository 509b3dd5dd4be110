//! Making partitions on disk, in jobs on the helper thread, and taking them away again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::DataDirectory;
use crate::config::{self, TopicConfig};
use crate::log::layout::{self, FileSuffix};
use crate::log::{self, CheckpointBook, Durability, Log, LogConfig, StorageError, WritePath};
use crate::model::{DirectoryId, LeaderEpoch, Timestamp, TopicId, TopicPartition, Uuid};
use crate::reactor::{FileKind, Files};
use crate::record::TimestampType;

/// A partition that the image places on this shard.
#[derive(Clone, Debug)]
pub struct NewPartition {
    pub at: TopicPartition,
    pub topic_id: TopicId,
    /// The data directory that holds it; zero: the first.
    pub directory: DirectoryId,
    pub leader_epoch: LeaderEpoch,
    pub config: Arc<TopicConfig>,
    pub is_internal: bool,
}

/// What the broker's settings say about all logs.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLogConfig {
    pub producer_id_expiration_ms: u64,
    pub journal_bypass_bytes: u64,
}

/// What a topic's settings mean to its logs.
pub fn log_config(config: &TopicConfig, broker: BrokerLogConfig, is_internal: bool) -> LogConfig {
    let durability = match config.durability {
        // Coordinators answer by what they wrote here, whatever the topic says.
        _ if is_internal => Durability::Fsync,
        config::Durability::Fsync => Durability::Fsync,
        config::Durability::Interval => Durability::Interval {
            flush_ms: config.flush_ms.unwrap_or(u64::MAX),
            flush_messages: config.flush_messages.unwrap_or(u64::MAX),
        },
        config::Durability::Os => Durability::Os,
    };
    // A compacted topic keeps everything until compaction comes; only `delete` may remove segments.
    let deletes = config.cleanup_policy.delete;
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or(u32::MAX),
        segment_index_bytes: u32::try_from(config.segment_index_bytes).unwrap_or(u32::MAX),
        retention_ms: config.retention_ms.filter(|_| deletes),
        retention_bytes: config.retention_bytes.filter(|_| deletes),
        max_message_bytes: config.max_message_bytes as usize,
        durability,
        timestamp_type: match config.timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        producer_id_expiration_ms: i64::try_from(broker.producer_id_expiration_ms).unwrap_or(i64::MAX),
        journal_bypass_bytes: usize::try_from(broker.journal_bypass_bytes).unwrap_or(usize::MAX),
        write_path: match config.write_path {
            config::WritePath::Auto => WritePath::Auto,
            config::WritePath::Journal => WritePath::Journal,
            config::WritePath::Direct => WritePath::Direct,
            config::WritePath::PageCache => WritePath::PageCache,
        },
        ..LogConfig::default()
    }
}

/// What came of partitions that were to be made in one data directory.
pub(super) struct Created {
    pub partitions: Vec<(NewPartition, Result<Log, StorageError>)>,
    /// Whether the checkpoints know those that were made. Without room for that the next checkpoint makes up for it.
    pub noted: Result<(), StorageError>,
}

/// Makes the folders and first segments of partitions. Runs in a job. What cannot be made comes back with its error.
pub(super) fn create_all(
    files: &mut dyn Files,
    data_directory: &Path,
    book: &CheckpointBook,
    partitions: Vec<(NewPartition, LogConfig)>,
    now: Timestamp,
) -> Created {
    // All of them first, so that the checkpoints are written once.
    partitions.iter().for_each(|(new, _)| book.begin(&new.at, new.topic_id));
    let begun = book.flush(files);
    let create = |(new, config): (NewPartition, LogConfig)| {
        let path = layout::partition_directory(data_directory, &new.at);
        let made = match &begun {
            Ok(()) => create_one(files, data_directory, &path, &new, config, now),
            Err(error) => Err(error.again()),
        };
        (new, made)
    };
    let partitions: Vec<_> = partitions.into_iter().map(create).collect();
    let made = partitions.iter().filter(|(_, made)| made.is_ok());
    made.for_each(|(new, _)| book.made(&new.at, new.topic_id));
    // What could not be begun comes back already.
    let noted = if begun.is_ok() { book.flush(files) } else { Ok(()) };
    Created { partitions, noted }
}

fn create_one(
    files: &mut dyn Files,
    data_directory: &Path,
    path: &Path,
    new: &NewPartition,
    config: LogConfig,
    now: Timestamp,
) -> Result<Log, StorageError> {
    // An older topic of the same name may have left its folder (its removal is under way), and so may a crash while this
    // partition was being made. Neither holds anything that was acknowledged under this topic id.
    if let Ok(Some(FileKind::Directory)) = files.kind(path) {
        set_aside(files, data_directory, path, &new.at)?;
    }
    Log::create(files, path, new.at.clone(), new.topic_id, config, now)
}

/// Renames a partition folder so that no recovery takes it for live, and removes it.
fn set_aside(
    files: &mut dyn Files,
    data_directory: &Path,
    path: &Path,
    at: &TopicPartition,
) -> Result<(), StorageError> {
    // Unique among folders of this partition that wait to be removed; the listing decides, so no random number is needed.
    let mut number = 0u128;
    let target = loop {
        let target = layout::deleted_directory(data_directory, at, Uuid(number.to_be_bytes()));
        match files.kind(&target) {
            Ok(None) => break target,
            Ok(Some(_)) => number += 1,
            Err(source) => return Err(StorageError::new("look for a deleted folder", target, source)),
        }
    };
    files
        .rename(path, &target)
        .map_err(|source| StorageError::new("set partition folder aside", path, source))?;
    files
        .sync_directory(data_directory)
        .map_err(|source| StorageError::new("sync data directory", data_directory, source))?;
    files
        .remove_directory(&target)
        .map_err(|source| StorageError::new("remove partition folder", target, source))
}

/// Removes a deleted partition from the checkpoints, then its folder. Runs in a job.
pub(super) fn remove(
    files: &mut dyn Files,
    directory: &DataDirectory,
    at: &TopicPartition,
    topic_id: TopicId,
) -> Result<(), StorageError> {
    directory.book.forget(at, topic_id);
    // First: a start that finds the partition in the checkpoints and not on the disk holds it for damaged, and so it would a
    // new one of this name.
    directory.book.flush(files)?;
    remove_folder(files, &directory.path, at, topic_id)
}

/// Removes the folder of a deleted partition, if it is still the one of that topic.
fn remove_folder(
    files: &mut dyn Files,
    data_directory: &Path,
    at: &TopicPartition,
    topic_id: TopicId,
) -> Result<(), StorageError> {
    let path: PathBuf = layout::partition_directory(data_directory, at);
    let metadata = path.join(layout::PARTITION_METADATA);
    let found = match files.read_all(&metadata) {
        Ok(bytes) => std::str::from_utf8(&bytes).ok().and_then(layout::parse_partition_metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StorageError::new("read partition metadata", metadata, source)),
    };
    if found != Some(topic_id) {
        return Ok(());
    }
    set_aside(files, data_directory, &path, at)
}

/// To which topic the folder of a partition belongs; `None` if it is not there, or was never finished.
/// Errors: Damaged if it has records and does not say whose. A partition that is made has its topic id on disk before its
/// first segment, so no crash leaves that behind; and what is taken for another topic's is removed.
fn read_owner(files: &mut dyn Files, path: &Path) -> Result<Option<TopicId>, log::RecoveryError> {
    let metadata = path.join(layout::PARTITION_METADATA);
    let is_there = match files.read_all(&metadata) {
        Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(layout::parse_partition_metadata) {
            Some(topic_id) => return Ok(Some(topic_id)),
            None => true,
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(source) => return Err(StorageError::new("read partition metadata", metadata, source).into()),
    };
    if is_there || has_records(files, path)? {
        return Err(log::Damaged { path: metadata, position: 0, damage: log::Damage::TopicId }.into());
    }
    Ok(None)
}

fn has_records(files: &mut dyn Files, path: &Path) -> Result<bool, StorageError> {
    match files.list(path) {
        Ok(entries) => {
            let is_log = |name: &str| matches!(layout::parse_offset_file(name), Some((_, FileSuffix::Log)));
            Ok(entries.iter().any(|entry| is_log(&entry.name) && entry.size_bytes > 0))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StorageError::new("list partition directory", path, source)),
    }
}

/// Opens a partition at boot: recovers its log, or makes it if the metadata names it and the disk has never got it. `book`:
/// to be flushed before anything is appended.
#[allow(clippy::too_many_arguments, reason = "each is one fact of the boot")]
pub fn open_at_boot(
    files: &mut dyn Files,
    data_directory: &Path,
    book: &CheckpointBook,
    new: &NewPartition,
    broker: BrokerLogConfig,
    input: &log::RecoveryInput,
    now: Timestamp,
    progress: &mut dyn FnMut(u64),
) -> Result<(Log, log::RecoveryReport), log::RecoveryError> {
    let config = log_config(&new.config, broker, new.is_internal);
    let path = layout::partition_directory(data_directory, &new.at);
    let found = read_owner(files, &path)?;
    if found == Some(new.topic_id) {
        return Log::recover(files, &path, new.at.clone(), config, *input, now, progress);
    }
    // Made once: what it held is lost, and an empty log in its place would hide it.
    if found.is_none() && book.was_made(&new.at) {
        return Err(log::Damaged { path, position: 0, damage: log::Damage::Folder }.into());
    }
    book.begin(&new.at, new.topic_id);
    book.flush(files)?;
    let log = create_one(files, data_directory, &path, new, config, now)?;
    book.made(&new.at, new.topic_id);
    Ok((log, log::RecoveryReport::default()))
}
