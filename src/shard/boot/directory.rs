//! One data directory at a start: formatted, taken over as it was left, swept of what nobody knows.

use std::path::{Path, PathBuf};

use super::error::{BootError, storage};
use super::metadata::{METADATA_TOPIC_ID, metadata_log_config, metadata_partition};
use crate::controller::{Format, format_records};
use crate::log::journal::{Redone, redo_all};
use crate::log::layout::{self, DirectoryKind, FileSuffix, MetaProperties};
use crate::log::{Log, Now, heed_storage_failure, note_storage_failure, read_topic_id, take_clean_shutdown};
use crate::metadata::{CLUSTER_METADATA_TOPIC, Entry, Image};
use crate::model::{NodeId, Timestamp, TopicPartition, Uuid};
use crate::partition::{DirectoryIndex, DirectorySet};
use crate::reactor::{FileKind, Files};
use crate::shard::seats::entry_batch;

/// `meta.properties` of a directory; `None` if it is not formatted.
pub fn read_meta_properties(
    files: &mut dyn Files,
    data_directory: &Path,
) -> Result<Option<MetaProperties>, BootError> {
    let path = data_directory.join(layout::META_PROPERTIES);
    match files.read_all(&path) {
        Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(MetaProperties::parse) {
            Some(properties) => Ok(Some(properties)),
            None => Err(BootError::MetaProperties { path }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage("read", &path)(error)),
    }
}

/// Formats a directory that holds no metadata log, for a broker that has one elsewhere.
pub fn format_added_directory(
    files: &mut dyn Files,
    data_directory: &Path,
    properties: &MetaProperties,
) -> Result<(), BootError> {
    let path = data_directory.join(layout::META_PROPERTIES);
    files.replace(&path, properties.encode().as_bytes()).map_err(storage("write", &path))
}

/// Formats a directory: metadata log first, `meta.properties` last, so that a crash in between leaves it unformatted.
pub fn format_directory(
    files: &mut dyn Files,
    data_directory: &Path,
    node: NodeId,
    format: &Format,
    directory_id: Uuid,
    now: Timestamp,
) -> Result<MetaProperties, BootError> {
    if let Some(found) = read_meta_properties(files, data_directory)? {
        return Err(BootError::AlreadyFormatted {
            path: data_directory.to_owned(),
            cluster_id: found.cluster_id,
        });
    }
    let records = format_records(format).map_err(BootError::Layout)?;
    let at = metadata_partition();
    let path = layout::partition_directory(data_directory, &at);
    if let Ok(Some(FileKind::Directory)) = files.kind(&path) {
        // Left by a format that was cut off.
        files.remove_directory(&path).map_err(storage("remove half-made metadata log", &path))?;
    }
    let log = Log::create(files, &path, at, METADATA_TOPIC_ID, metadata_log_config(), now)?;
    log.close(files)?;
    let batch =
        entry_batch(&Entry { term: 0, index: 1, records }, Now { monotonic: Default::default(), wall: now });
    let segment = layout::offset_file(&path, 0, FileSuffix::Log);
    files.replace(&segment, &batch).map_err(storage("write first metadata", &segment))?;
    let properties =
        MetaProperties { cluster_id: format.cluster_id.to_string(), node_id: node.0, directory_id };
    let path = data_directory.join(layout::META_PROPERTIES);
    files.replace(&path, properties.encode().as_bytes()).map_err(storage("write", &path))?;
    Ok(properties)
}

/// What a data directory was left with.
pub struct LeftBehind {
    /// The last stop was clean: logs are as the checkpoints say.
    pub was_clean: bool,
    /// A write or flush had failed there; what the kernel had cached of it is forgotten.
    pub had_failed: bool,
    /// What its journals held, now in the segments.
    pub redone: Redone,
}

/// Takes note of how the directory was left, and carries out its journals: before its checkpoints are loaded and any of its
/// logs is read. `progress` hears the bytes read since its last call.
pub fn take_over(
    files: &mut dyn Files,
    data_directory: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<LeftBehind, BootError> {
    let had_failed = heed_storage_failure(files, data_directory)?;
    note_if_failed(files, data_directory, |files| {
        let redone = redo_all(files, data_directory, progress).map_err(BootError::Journal)?;
        let was_clean = take_clean_shutdown(files, data_directory)? && redone.groups == 0;
        Ok(LeftBehind { was_clean, had_failed, redone })
    })
}

/// A step of a start. A storage error of it may be a flush that failed, of which the kernel tells once: the next start is not to
/// trust the page cache.
pub(super) fn note_if_failed<T>(
    files: &mut dyn Files,
    data_directory: &Path,
    step: impl FnOnce(&mut dyn Files) -> Result<T, BootError>,
) -> Result<T, BootError> {
    let result = step(files);
    if result.as_ref().is_err_and(|error| error.storage().is_some()) {
        // What cannot be noted cannot be written either.
        let _ = note_storage_failure(files, data_directory);
    }
    result
}

/// Partitions that the metadata does not know leave the checkpoints. Their folders are renamed out of the way (Kafka's `-stray`);
/// those of deleted partitions, and of partitions being made, are removed.
pub fn sweep(
    files: &mut dyn Files,
    directories: &DirectorySet,
    swept: DirectoryIndex,
    image: &Image,
) -> Result<Vec<PathBuf>, BootError> {
    let data_directory = &directories.get(swept).path;
    let is_known = |at: &TopicPartition| {
        at.topic.as_ref() == CLUSTER_METADATA_TOPIC || image.partition(&at.topic, at.partition).is_some()
    };
    directories.get(swept).book.keep_only(files, is_known)?;
    let mut strays = Vec::new();
    for entry in files.list(data_directory).map_err(storage("list", data_directory))? {
        if !entry.is_directory {
            continue;
        }
        let path = data_directory.join(&entry.name);
        match layout::directory_kind(&entry.name) {
            DirectoryKind::Deleted => {
                files.remove_directory(&path).map_err(storage("remove deleted partition", &path))?;
            }
            DirectoryKind::Partition(at) if at.topic.as_ref() == CLUSTER_METADATA_TOPIC => {}
            DirectoryKind::Partition(at) => {
                match whose(files, directories, image, &at, &path)? {
                    Whose::Directory(directory) if directory == swept => continue,
                    Whose::Moved { to } => return Err(BootError::Misplaced { path, to }),
                    Whose::Directory(_) | Whose::Nobody => {}
                }
                let stray = data_directory.join(format!("{}-stray", entry.name));
                files.rename(&path, &stray).map_err(storage("set stray partition aside", &path))?;
                strays.push(stray);
            }
            DirectoryKind::PutAside | DirectoryKind::Foreign => {}
        }
    }
    Ok(strays)
}

/// To what a partition's folder belongs.
enum Whose {
    /// The partition is in this directory.
    Directory(DirectoryIndex),
    /// It is the partition's only folder, and not where the metadata has it.
    Moved {
        to: PathBuf,
    },
    Nobody,
}

fn whose(
    files: &mut dyn Files,
    directories: &DirectorySet,
    image: &Image,
    at: &TopicPartition,
    folder: &Path,
) -> Result<Whose, BootError> {
    let found = image.topic(&at.topic).zip(image.partition(&at.topic, at.partition));
    let Some((topic, partition)) = found.filter(|(_, partition)| image.owner_of(partition).is_some()) else {
        return Ok(Whose::Nobody);
    };
    let Some(index) = directories.index_of(image.directory_of(partition)) else { return Ok(Whose::Nobody) };
    let to = layout::partition_directory(&directories.get(index).path, at);
    // One that somebody moved must not be made anew, and empty, where it was. A copy, or an older topic, is a stray.
    let is_moved = to != folder
        && matches!(files.kind(&to), Ok(None))
        && read_topic_id(files, folder)? == Some(topic.id);
    Ok(if is_moved { Whose::Moved { to } } else { Whose::Directory(index) })
}
