//! The data directories of this broker, as all shards see them.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::log::journal::Redone;
use crate::log::{CheckpointBook, StorageError};
use crate::model::DirectoryId;

/// Names a usable data directory of this start, in the order of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirectoryIndex(pub u8);

/// With so many files that the disk cannot read a directory goes offline. Apache Kafka does so at the first read that fails,
/// which makes one bad sector every partition's; going on for ever would hide a disk that dies.
const UNREADABLE_FILES_MAX: usize = 2;

/// A data directory that could be read when the broker started.
pub struct DataDirectory {
    pub path: PathBuf,
    pub id: DirectoryId,
    pub book: Arc<CheckpointBook>,
    /// The last stop left it clean: logs are as its checkpoints say.
    pub was_clean: bool,
    /// What its journals said of partitions when the broker started.
    pub redone: Redone,
    /// Its device writes through its cache when asked to (FUA).
    pub has_fua: bool,
    /// Its files can be mapped and written to in place: a page that has its block on the disk keeps it.
    pub can_map: bool,
    /// Files of partitions that the disk could not read, of all shards.
    unreadable_files: AtomicUsize,
    /// The write or flush that failed. Set once: what the kernel dropped is known only to a new start.
    failure: OnceLock<Arc<StorageError>>,
}

impl DataDirectory {
    pub fn new(path: PathBuf, id: DirectoryId, book: Arc<CheckpointBook>, was_clean: bool) -> DataDirectory {
        DataDirectory {
            path,
            id,
            book,
            was_clean,
            redone: Redone::default(),
            has_fua: false,
            can_map: false,
            unreadable_files: AtomicUsize::new(0),
            failure: OnceLock::new(),
        }
    }

    /// With what its journals held, and what its device and its file system can do.
    pub fn with_journals(self, redone: Redone, has_fua: bool, can_map: bool) -> DataDirectory {
        DataDirectory { redone, has_fua, can_map, ..self }
    }

    /// Takes note of one more file that the disk could not read. Returns whether the directory is to be given up for it: one
    /// file is a bad place of the disk, and what is around it is served; a second one says that the disk fails.
    pub fn note_unreadable_file(&self) -> bool {
        // Relaxed: a number that nothing else is ordered by.
        self.unreadable_files.fetch_add(1, Ordering::Relaxed) + 1 >= UNREADABLE_FILES_MAX
    }

    /// Why it is offline, if it is.
    pub fn failure(&self) -> Option<&Arc<StorageError>> {
        self.failure.get()
    }
}

impl fmt::Debug for DataDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.id)
    }
}

/// A configured directory that could not be read when the broker started. Nobody knows its id.
#[derive(Debug)]
pub struct UnusableDirectory {
    pub path: PathBuf,
    pub error: StorageError,
}

/// All data directories of this broker; the first holds the cluster metadata, and without it there is no broker.
///
/// Core: shared by all shards, which read it; all that ever changes is that a directory fails, once. Each shard looks before
/// it acknowledges, so nothing that rests on a directory is acknowledged after any shard has seen it fail.
#[derive(Debug)]
pub struct DirectorySet {
    usable: Vec<DataDirectory>,
    unusable: Vec<UnusableDirectory>,
}

impl DirectorySet {
    /// The directory that holds the cluster metadata.
    pub const METADATA: DirectoryIndex = DirectoryIndex(0);

    /// Panics if there is no usable directory.
    pub fn new(usable: Vec<DataDirectory>, unusable: Vec<UnusableDirectory>) -> DirectorySet {
        assert!(!usable.is_empty(), "a broker has the directory of its metadata");
        assert!(usable.len() <= usize::from(u8::MAX), "the configuration bounds the number of directories");
        DirectorySet { usable, unusable }
    }

    /// A broker with one directory.
    pub fn of_one(directory: DataDirectory) -> DirectorySet {
        DirectorySet::new(vec![directory], Vec::new())
    }

    pub fn get(&self, index: DirectoryIndex) -> &DataDirectory {
        &self.usable[usize::from(index.0)]
    }

    pub fn metadata(&self) -> &DataDirectory {
        self.get(DirectorySet::METADATA)
    }

    pub fn iter(&self) -> impl Iterator<Item = (DirectoryIndex, &DataDirectory)> {
        (0..).map(DirectoryIndex).zip(&self.usable)
    }

    /// Directories that could not be read when the broker started.
    pub fn unusable(&self) -> &[UnusableDirectory] {
        &self.unusable
    }

    /// The directory with this id. Records from before there were several say zero and mean the first.
    pub fn index_of(&self, id: DirectoryId) -> Option<DirectoryIndex> {
        if id.is_zero() {
            return Some(DirectorySet::METADATA);
        }
        self.iter().find(|(_, directory)| directory.id == id).map(|(index, _)| index)
    }

    /// Ids of the directories that serve.
    pub fn online_ids(&self) -> Vec<DirectoryId> {
        self.usable.iter().filter(|directory| directory.failure().is_none()).map(|d| d.id).collect()
    }

    pub fn is_online(&self, id: DirectoryId) -> bool {
        self.usable.iter().any(|directory| directory.id == id && directory.failure().is_none())
    }

    /// Takes a directory offline for good. False if it was so already.
    pub fn fail(&self, index: DirectoryIndex, error: Arc<StorageError>) -> bool {
        self.get(index).failure.set(error).is_ok()
    }

    pub fn failure(&self, index: DirectoryIndex) -> Option<&Arc<StorageError>> {
        self.get(index).failure()
    }
}
