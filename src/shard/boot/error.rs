//! Why a broker does not start.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::controller::{ApplyError, ForeignLog};
use crate::log::journal::JournalError;
use crate::log::{RecoveryError, StorageError};
use crate::metadata::{DecodeError, LayoutError};
use crate::model::{NodeId, Offset, TopicPartition};
use crate::record::compression::CompressionError;
use crate::record::record::RecordError;

/// Why there is no serving. Each says what and where; `main` adds what to do.
#[derive(Debug)]
pub enum BootError {
    Storage(StorageError),
    Journal(JournalError),
    Recovery {
        at: TopicPartition,
        error: RecoveryError,
    },
    MetaProperties {
        path: PathBuf,
    },
    Metadata {
        path: PathBuf,
        error: DecodeError,
    },
    Apply {
        path: PathBuf,
        error: ApplyError,
    },
    Foreign(ForeignLog),
    OtherNode {
        path: PathBuf,
        expected: NodeId,
        found: i32,
    },
    Layout(LayoutError),
    AlreadyFormatted {
        path: PathBuf,
        cluster_id: String,
    },
    /// A partition's folder is in another data directory than the metadata says.
    Misplaced {
        path: PathBuf,
        to: PathBuf,
    },
    GroupRecords {
        at: TopicPartition,
        offset: Offset,
        error: GroupBatchError,
    },
}

/// Why a batch of group records cannot be read although its checksum is right.
#[derive(Debug)]
pub enum GroupBatchError {
    Compression(CompressionError),
    Records(RecordError),
}

impl fmt::Display for GroupBatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupBatchError::Compression(error) => error.fmt(f),
            GroupBatchError::Records(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GroupBatchError {}

impl From<CompressionError> for GroupBatchError {
    fn from(error: CompressionError) -> GroupBatchError {
        GroupBatchError::Compression(error)
    }
}

impl From<RecordError> for GroupBatchError {
    fn from(error: RecordError) -> GroupBatchError {
        GroupBatchError::Records(error)
    }
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Storage(error) => error.fmt(f),
            BootError::Recovery { at, error: error @ RecoveryError::Damaged(_) } => {
                write!(f, "recover {at}: {error}; bring its folder back from a replica or a backup")
            }
            BootError::Journal(error) => error.fmt(f),
            BootError::Recovery { at, error } => write!(f, "recover {at}: {error}"),
            BootError::MetaProperties { path } => {
                write!(
                    f,
                    "{} is not a meta.properties of this version; use another --data-dir",
                    path.display()
                )
            }
            BootError::Metadata { path, error } => write!(f, "read metadata in {}: {error}", path.display()),
            BootError::Apply { path, error } => write!(f, "apply metadata in {}: {error}", path.display()),
            BootError::Foreign(error) => {
                write!(f, "{error}; use the directory it belongs to, or another --data-dir")
            }
            BootError::OtherNode { path, expected, found } => write!(
                f,
                "{} belongs to node {found} and this is node {}; set node.id={found}, or use another --data-dir",
                path.display(),
                expected.0
            ),
            BootError::Layout(error) => write!(f, "{error}; change placement.slots or advertised.endpoints"),
            BootError::AlreadyFormatted { path, cluster_id } => write!(
                f,
                "{} is formatted already, for cluster {cluster_id}; start it, or use another --data-dir",
                path.display()
            ),
            BootError::Misplaced { path, to } => {
                write!(
                    f,
                    "{} belongs into another data directory; move it back to {}",
                    path.display(),
                    to.display()
                )
            }
            BootError::GroupRecords { at, offset, error } => {
                write!(f, "read group records of {at} at offset {offset}: {error}")
            }
        }
    }
}

impl std::error::Error for BootError {}

impl BootError {
    /// The file operation that failed, if that is what it is.
    pub fn storage(&self) -> Option<&StorageError> {
        match self {
            BootError::Storage(error)
            | BootError::Journal(JournalError::Storage(error))
            | BootError::Recovery { error: RecoveryError::Storage(error), .. } => Some(error),
            _ => None,
        }
    }
}

impl From<StorageError> for BootError {
    fn from(error: StorageError) -> BootError {
        BootError::Storage(error)
    }
}

pub(super) fn storage(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BootError {
    move |source| BootError::Storage(StorageError::new(operation, path, source))
}
