//! The data directories of a start: locked, looked at together, formatted where they are new, opened.
//!
//! The first holds the cluster metadata, and whatever is wrong with it keeps the broker from starting. Another one that
//! cannot be read or written is told of and left out: its partitions are offline. One that is not what it should be (of
//! another cluster, given twice) is refused, since going on would be going on with the wrong records.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelog::config::Config;
use corelog::controller::Format;
use corelog::host;
use corelog::log::journal::JournalError;
use corelog::log::layout::{self, MetaProperties};
use corelog::log::{CheckpointBook, StorageError, write_clean_shutdown};
use corelog::metadata::{CLUSTER_METADATA_TOPIC, Image};
use corelog::model::{DirectoryId, NodeId, Uuid};
use corelog::partition::{DataDirectory, DirectorySet, UnusableDirectory};
use corelog::reactor::{StdFiles, wall};
use corelog::shard::{
    self, BootError, LeftBehind, format_added_directory, format_directory, read_meta_properties, take_over,
};
use corelog::trace::{Level, LogLine, Logger};

use super::{StartError, once_released, random_id};

/// Why the data directories are not those to start with. One line: cause; remedy.
#[derive(Debug)]
pub enum DirectoriesError {
    Unusable {
        path: PathBuf,
        source: io::Error,
    },
    InUse {
        path: PathBuf,
        pid: String,
    },
    /// Two of the names lead to one directory.
    Twice {
        path: PathBuf,
    },
    /// One is a copy of the other.
    SameId {
        path: PathBuf,
        other: PathBuf,
        id: DirectoryId,
    },
    OtherCluster {
        path: PathBuf,
        expected: Uuid,
        found: String,
    },
    /// Not of the cluster and node that the first is of.
    Foreign {
        path: PathBuf,
        found: Box<MetaProperties>,
        first: PathBuf,
        expected: Box<MetaProperties>,
    },
    /// The first is new, another one is not.
    MetadataMissing {
        first: PathBuf,
        other: PathBuf,
        cluster_id: String,
    },
    /// The first is not the one that holds the cluster metadata.
    MetadataElsewhere {
        first: PathBuf,
        holder: PathBuf,
    },
    /// Partitions, or something else entirely, and no `meta.properties`.
    NotEmpty {
        path: PathBuf,
        entry: String,
    },
}

impl fmt::Display for DirectoriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoriesError::Unusable { path, source } if source.kind() == io::ErrorKind::StorageFull => {
                write!(f, "no space left in {}; free some, or choose another --data-dir", path.display())
            }
            DirectoriesError::Unusable { path, source } => write!(
                f,
                "cannot use {}: {source}; check its owner and mode, or choose another --data-dir",
                path.display()
            ),
            DirectoriesError::InUse { path, pid } => write!(
                f,
                "{} is in use by another broker (process {pid}); stop it, or choose another --data-dir",
                path.display()
            ),
            DirectoriesError::Twice { path } => {
                write!(f, "{} is given twice as a data directory; name each once", path.display())
            }
            DirectoriesError::SameId { path, other, id } => write!(
                f,
                "{} and {} both say that they are data directory {id}: one is a copy; name only the one that was used last",
                other.display(),
                path.display()
            ),
            DirectoriesError::OtherCluster { path, expected, found } => write!(
                f,
                "{} belongs to cluster {found} and cluster.id says {expected}; correct it, or choose another --data-dir",
                path.display()
            ),
            DirectoriesError::Foreign { path, found, first, expected } => write!(
                f,
                "{} belongs to cluster {}, node {}, and {} to cluster {}, node {}; name only directories of one broker",
                path.display(),
                found.cluster_id,
                found.node_id,
                first.display(),
                expected.cluster_id,
                expected.node_id
            ),
            DirectoriesError::MetadataMissing { first, other, cluster_id } => write!(
                f,
                "{} must hold the cluster metadata and is not formatted, while {} belongs to cluster {cluster_id}; bring the first directory back, or name only empty ones",
                first.display(),
                other.display()
            ),
            DirectoriesError::MetadataElsewhere { first, holder } => write!(
                f,
                "{} does not hold the cluster metadata, {} does; name that one first",
                first.display(),
                holder.display()
            ),
            DirectoriesError::NotEmpty { path, entry } => write!(
                f,
                "{} holds {entry} but no meta.properties, and is not taken for a new directory; put meta.properties back, or choose an empty --data-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirectoriesError {}

/// A data directory that this process alone uses, as long as this value lives.
struct LockedDirectory {
    path: PathBuf,
    /// `None`: it is not formatted.
    properties: Option<MetaProperties>,
    lock: File,
}

/// The locks of the directories in use; given back when dropped.
pub struct Locks(#[allow(dead_code, reason = "held, not read")] Vec<File>);

/// The data directories of the configuration, looked at and unchanged but for their locks.
pub struct LockedDirectories {
    /// The first holds the cluster metadata, or will.
    directories: Vec<LockedDirectory>,
    unusable: Vec<UnusableDirectory>,
}

impl LockedDirectories {
    /// Makes those that are missing, and locks all. Errors: the first cannot be used, another one is in use, or one is given
    /// twice.
    pub fn lock(paths: &[PathBuf]) -> Result<LockedDirectories, StartError> {
        let mut locked = LockedDirectories { directories: Vec::new(), unusable: Vec::new() };
        for (place, path) in paths.iter().enumerate() {
            match locked.lock_one(path) {
                Ok(directory) => locked.directories.push(directory),
                Err(StartError::Directories(DirectoriesError::Unusable { path, source })) if place > 0 => {
                    let error = StorageError::new("use data directory", &path, source);
                    locked.unusable.push(UnusableDirectory { path, error });
                }
                Err(StartError::Boot(BootError::Storage(error))) if place > 0 => {
                    locked.unusable.push(UnusableDirectory { path: path.clone(), error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(locked)
    }

    fn lock_one(&self, path: &Path) -> Result<LockedDirectory, StartError> {
        let refused = |source| DirectoriesError::Unusable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(refused)?;
        let path = path.canonicalize().map_err(refused)?;
        if self.directories.iter().any(|other| other.path == path) {
            return Err(DirectoriesError::Twice { path }.into());
        }
        let refused = |source| DirectoriesError::Unusable { path: path.clone(), source };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(layout::LOCK))
            .map_err(refused)?;
        let locked = once_released(|| lock.try_lock(), |error| matches!(error, TryLockError::WouldBlock));
        if let Err(error) = locked {
            return Err(match error {
                TryLockError::WouldBlock => in_use(path, &mut lock).into(),
                TryLockError::Error(source) => refused(source).into(),
            });
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(refused)?;
        let properties = read_meta_properties(&mut StdFiles, &path)?;
        Ok(LockedDirectory { path, properties, lock })
    }

    fn first(&self) -> &LockedDirectory {
        self.directories.first().expect("without the first one there is an error")
    }

    /// All of them are to be formatted with a new cluster.
    pub fn is_new(&self) -> bool {
        self.first().properties.is_none()
    }

    pub fn paths(&self) -> Vec<&Path> {
        self.directories.iter().map(|directory| directory.path.as_path()).collect()
    }

    /// Errors: one cannot be used.
    pub fn check_all_usable(&self) -> Result<(), StartError> {
        check_none_unusable(&self.unusable)
    }

    /// Errors unless all are of one cluster and node, each is there once, and the first is the one with the metadata.
    pub fn check_identities(&self, config: &Config) -> Result<(), DirectoriesError> {
        let first = self.first();
        let others = self.directories.iter().skip(1);
        let formatted = others.filter_map(|other| Some((&other.path, other.properties.as_ref()?)));
        let Some(expected) = &first.properties else {
            return match formatted.clone().next() {
                None => Ok(()),
                Some((other, properties)) => Err(DirectoriesError::MetadataMissing {
                    first: first.path.clone(),
                    other: other.clone(),
                    cluster_id: properties.cluster_id.clone(),
                }),
            };
        };
        if let Some(wanted) = config.cluster_id
            && wanted.to_string() != expected.cluster_id
        {
            let (path, found) = (first.path.clone(), expected.cluster_id.clone());
            return Err(DirectoriesError::OtherCluster { path, expected: wanted, found });
        }
        let mut ids = BTreeMap::from([(expected.directory_id, &first.path)]);
        for (path, found) in formatted {
            if (&found.cluster_id, found.node_id) != (&expected.cluster_id, expected.node_id) {
                return Err(DirectoriesError::Foreign {
                    path: path.clone(),
                    found: Box::new(found.clone()),
                    first: first.path.clone(),
                    expected: Box::new(expected.clone()),
                });
            }
            let id = found.directory_id;
            if let Some(other) = ids.insert(id, path) {
                return Err(DirectoriesError::SameId { path: path.clone(), other: other.clone(), id });
            }
        }
        let holds_metadata = |directory: &&LockedDirectory| {
            directory.path.join(format!("{CLUSTER_METADATA_TOPIC}-0")).is_dir()
        };
        match self.directories.iter().find(holds_metadata) {
            Some(holder) if holder.path != first.path && !holds_metadata(&first) => {
                let (first, holder) = (first.path.clone(), holder.path.clone());
                Err(DirectoriesError::MetadataElsewhere { first, holder })
            }
            _ => Ok(()),
        }
    }

    /// The configuration with what the directories say where nothing else was said.
    pub fn adopt(&self, mut config: Config) -> Config {
        if let Some(properties) = &self.first().properties
            && !config.explicit.contains_key("node.id")
        {
            config.node_id = properties.node_id;
            config.explicit.insert("node.id".to_owned(), properties.node_id.to_string());
        }
        config
    }

    /// Formats all of them with a new cluster. Errors: one of them is formatted, or holds something.
    pub fn format(self, node: NodeId, format: &Format) -> Result<FormattedDirectories, StartError> {
        for LockedDirectory { path, properties, .. } in &self.directories {
            match properties {
                Some(MetaProperties { cluster_id, .. }) => {
                    let (path, cluster_id) = (path.clone(), cluster_id.clone());
                    return Err(BootError::AlreadyFormatted { path, cluster_id }.into());
                }
                None => check_fresh(path)?,
            }
        }
        let first = self.directories.first().expect("without the first one there is an error");
        let properties = format_directory(&mut StdFiles, &first.path, node, format, random_id(), wall())?;
        self.format_rest(Some(properties))
    }

    /// Formats those that were added to a broker.
    pub fn format_added(self) -> Result<FormattedDirectories, StartError> {
        self.format_rest(None)
    }

    /// `new`: what the first was formatted with a moment ago.
    fn format_rest(self, new: Option<MetaProperties>) -> Result<FormattedDirectories, StartError> {
        let LockedDirectories { directories, mut unusable } = self;
        let mut formatted: Vec<(LockedDirectory, MetaProperties)> = Vec::new();
        for directory in directories {
            let known = directory.properties.as_ref().or(new.as_ref().filter(|_| formatted.is_empty()));
            let properties = match (known, formatted.first()) {
                (Some(properties), _) => properties.clone(),
                (None, Some((_, first))) => {
                    check_fresh(&directory.path)?;
                    let properties = MetaProperties { directory_id: random_id(), ..first.clone() };
                    match format_added_directory(&mut StdFiles, &directory.path, &properties) {
                        Ok(()) => properties,
                        Err(BootError::Storage(error)) => {
                            unusable.push(UnusableDirectory { path: directory.path, error });
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                (None, None) => panic!("the first directory is formatted with the cluster"),
            };
            formatted.push((directory, properties));
        }
        Ok(FormattedDirectories { directories: formatted, unusable })
    }
}

/// Where all directories are wanted, unlike at a start: the first that cannot be used is an error.
fn check_none_unusable(unusable: &[UnusableDirectory]) -> Result<(), StartError> {
    let Some(UnusableDirectory { path, error }) = unusable.first() else { return Ok(()) };
    let source = io::Error::from(error.source.kind());
    Err(DirectoriesError::Unusable { path: path.clone(), source }.into())
}

/// Who holds the lock: another process, or this one under another name of the directory.
fn in_use(path: PathBuf, lock: &mut File) -> DirectoriesError {
    let mut pid = String::new();
    // The holder writes its pid; a lock of another program may say nothing.
    let _ = lock.read_to_string(&mut pid);
    match pid.trim() {
        pid if pid == std::process::id().to_string() => DirectoriesError::Twice { path },
        "" => DirectoriesError::InUse { path, pid: "unknown".to_owned() },
        pid => DirectoriesError::InUse { path, pid: pid.to_owned() },
    }
}

/// Errors unless the directory is one to format: a lost `meta.properties` must not make its partitions strays of a new cluster.
fn check_fresh(directory: &Path) -> Result<(), DirectoriesError> {
    let refused = |source| DirectoriesError::Unusable { path: directory.to_owned(), source };
    let metadata = format!("{CLUSTER_METADATA_TOPIC}-0");
    for entry in std::fs::read_dir(directory).map_err(refused)? {
        let entry = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
        // What a format that was cut off leaves, and what mkfs makes.
        let is_known =
            [layout::LOCK, "lost+found", &metadata].contains(&entry.as_str()) || entry.ends_with(".tmp");
        if !is_known {
            return Err(DirectoriesError::NotEmpty { path: directory.to_owned(), entry });
        }
    }
    Ok(())
}

/// Data directories of one broker, each with its identity.
pub struct FormattedDirectories {
    directories: Vec<(LockedDirectory, MetaProperties)>,
    unusable: Vec<UnusableDirectory>,
}

impl FormattedDirectories {
    /// Of the first.
    pub fn properties(&self) -> &MetaProperties {
        &self.directories.first().expect("the first one is formatted").1
    }

    /// Errors: one could not be formatted.
    pub fn check_all_usable(&self) -> Result<(), StartError> {
        check_none_unusable(&self.unusable)
    }

    pub fn names(&self) -> String {
        let names: Vec<String> =
            self.directories.iter().map(|(directory, _)| directory.path.display().to_string()).collect();
        names.join(", ")
    }

    /// Takes the clean-shutdown markers, carries out the journals and reads the checkpoints.
    pub fn open(self, logger: &Logger) -> Result<(Arc<DirectorySet>, Locks), StartError> {
        let FormattedDirectories { directories, mut unusable } = self;
        let (mut usable, mut locks) = (Vec::new(), Vec::new());
        for (LockedDirectory { path, properties: before, lock }, properties) in directories {
            locks.push(lock);
            match open_one(&path) {
                Ok((book, LeftBehind { was_clean, had_failed, redone })) => {
                    if had_failed {
                        tell_failed(logger, &path);
                    }
                    // One that was formatted a moment ago has nothing to recover.
                    let was_clean = was_clean || before.is_none();
                    let has_fua = host::has_fua(&path);
                    let can_map = host::file_system(&path).is_ok_and(|found| found.kind.keeps_blocks());
                    let directory = DataDirectory::new(path, properties.directory_id, book, was_clean);
                    usable.push(directory.with_journals(redone, has_fua, can_map));
                }
                Err(BootError::Storage(error) | BootError::Journal(JournalError::Storage(error)))
                    if !usable.is_empty() =>
                {
                    unusable.push(UnusableDirectory { path, error });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((Arc::new(DirectorySet::new(usable, unusable)), Locks(locks)))
    }
}

/// Logs that a directory was found with the note of a failure, which is gone now.
fn tell_failed(logger: &Logger, path: &Path) {
    let text = "a write or flush had failed here: what the kernel had cached is forgotten, and the logs are read from the device; look at the disk";
    let line = LogLine::new(Level::Warn, "start", text);
    logger.log(line.with("note", path.join(layout::STORAGE_FAILED).display().to_string()));
}

fn open_one(path: &Path) -> Result<(Arc<CheckpointBook>, LeftBehind), BootError> {
    let left = take_over(&mut StdFiles, path, &mut |_| ())?;
    Ok((Arc::new(CheckpointBook::load(&mut StdFiles, path)?), left))
}

/// Sets aside what the metadata does not know, in every directory. One in which that fails is offline, unless it is the first.
pub fn sweep(directories: &DirectorySet, image: &Image, logger: &Logger) -> Result<(), StartError> {
    for (index, _) in directories.iter() {
        match shard::sweep(&mut StdFiles, directories, index, image) {
            Ok(strays) => {
                for stray in strays {
                    let text = "partition unknown to the metadata, set aside";
                    let line = LogLine::new(Level::Warn, "start", text);
                    logger.log(line.with("path", stray.display().to_string()));
                }
            }
            Err(BootError::Storage(error)) if index != DirectorySet::METADATA => {
                directories.fail(index, Arc::new(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Logs what of this broker's partitions cannot be served.
pub fn tell(directories: &DirectorySet, image: &Image, logger: &Logger) {
    let failed =
        directories.iter().filter_map(|(_, directory)| Some((&directory.path, &**directory.failure()?)));
    let unusable = directories.unusable().iter().map(|directory| (&directory.path, &directory.error));
    for (path, error) in failed.chain(unusable) {
        let text = "a data directory cannot be used: its partitions are offline until it can";
        let line = LogLine::new(Level::Error, "start", text).with("path", path.display().to_string());
        logger.log(line.with("cause", error.to_string()));
    }
    let mut missing: BTreeMap<DirectoryId, u64> = BTreeMap::new();
    for topic in image.topics() {
        for partition in topic.partitions.iter().filter(|partition| image.owner_of(partition).is_some()) {
            let id = image.directory_of(partition);
            if directories.index_of(id).is_none() {
                *missing.entry(id).or_default() += 1;
            }
        }
    }
    for (id, partitions) in missing {
        let text = "partitions are offline: their data directory is not there; start with it, or delete their topics";
        let line = LogLine::new(Level::Error, "start", text).with("directory", id.to_string());
        logger.log(line.with("partitions", partitions));
    }
}

/// Marks the directories clean that serve to the end: the next start trusts what it finds there.
pub fn mark_clean(directories: &DirectorySet) -> Result<(), StartError> {
    for (_, directory) in directories.iter().filter(|(_, directory)| directory.failure().is_none()) {
        write_clean_shutdown(&mut StdFiles, &directory.path, 0)?;
    }
    Ok(())
}
