//! What can go wrong with a partition's bytes. No wire codes here: `server/error_map.rs` has them.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{LeaderEpoch, Offset, Position, ProducerEpoch, ProducerId, Timestamp};
use crate::record::InvalidBatch;

/// The machine's fault: a file operation failed.
#[derive(Debug)]
pub struct StorageError {
    /// A verb phrase: "open segment", "read index".
    pub operation: &'static str,
    pub path: PathBuf,
    pub position: Option<Position>,
    pub source: io::Error,
}

/// Why a batch was not appended. Nothing changed, whichever it is.
#[derive(Clone, Debug)]
pub enum AppendError {
    /// Larger than `max.message.bytes`.
    TooLarge {
        size_bytes: usize,
        max_bytes: usize,
    },
    /// Larger than `segment.bytes`.
    LargerThanSegment {
        size_bytes: usize,
        segment_bytes: u64,
    },
    /// A producer's timestamp lies outside what the topic allows around the broker's clock, or the producer set the
    /// LogAppendTime bit, which is the broker's.
    Timestamp {
        timestamp: Timestamp,
        now: Timestamp,
    },
    Producer(ProducerError),
    /// Space is being reserved, a segment is being made, or too much is unwritten. Nothing is wrong: append again once a
    /// [`Progress`](super::Progress) says `append_again`.
    Wait,
    /// The file system has no room. The log stays online; a later append asks again.
    NoSpace,
    /// A write or flush failed before; only recovery brings the partition back.
    Offline(Arc<StorageError>),
}

/// A producer's batch does not follow what the partition knows of that producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProducerError {
    /// An older incarnation of the producer.
    OldEpoch { id: ProducerId, epoch: ProducerEpoch, current: ProducerEpoch },
    /// A gap, or a duplicate older than the last five batches.
    OutOfOrderSequence { id: ProducerId, last_sequence: i32, base_sequence: i32 },
}

/// Why a read found no bytes to serve.
#[derive(Debug)]
pub enum ReadError {
    /// Below the log start or above the log end. A lookup raced with a deletion gives this too.
    OutOfRange {
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    Storage(StorageError),
    /// The bytes on disk are not the batch that must be there. They are not served.
    Corrupt(Damaged),
}

/// Bytes that were once flushed are not what they must be. Never repaired by cutting: another replica has to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    pub path: PathBuf,
    pub position: Position,
    pub damage: Damage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    Batch(InvalidBatch),
    /// A valid batch that does not belong here.
    Offset {
        expected: Offset,
        found: Offset,
    },
    /// The bytes end before an offset that had been flushed.
    Short {
        end_offset: Offset,
        expected: Offset,
    },
    /// Leader epochs fall.
    Epoch {
        expected: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// A folder with records in it does not say to which topic they belong.
    TopicId,
    /// The folder of a partition that had been made is not there.
    Folder,
}

/// Why a partition could not be opened.
#[derive(Debug)]
pub enum RecoveryError {
    Storage(StorageError),
    Damaged(Damaged),
}

impl StorageError {
    pub fn new(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> StorageError {
        StorageError { operation, path: path.into(), position: None, source }
    }

    pub fn at(mut self, position: Position) -> StorageError {
        self.position = Some(position);
        self
    }

    /// The same once more, to be kept in another place.
    pub fn again(&self) -> StorageError {
        let source = match self.source.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::from(self.source.kind()),
        };
        StorageError { operation: self.operation, path: self.path.clone(), position: self.position, source }
    }

    /// The file system has no such way of reading and writing.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
    }

    /// The device, or the file system by its own decision, did not do it.
    pub fn is_of_device(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::EIO | libc::EROFS))
    }

    /// No room on the file system or in the quota: the one storage error that is not final.
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }
}

pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds what was done, and to which file, to an error of the kernel.
pub(super) trait Context<T> {
    fn context(self, operation: &'static str, path: &std::path::Path) -> Result<T, StorageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &std::path::Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::new(operation, path, source))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::TooLarge { size_bytes, max_bytes } => {
                write!(f, "the batch has {size_bytes} bytes and the topic allows {max_bytes}")
            }
            AppendError::LargerThanSegment { size_bytes, segment_bytes } => {
                write!(f, "the batch has {size_bytes} bytes and a segment {segment_bytes}")
            }
            AppendError::Timestamp { timestamp, now } => {
                write!(f, "timestamp {timestamp} is not allowed at {now}")
            }
            AppendError::Producer(error) => error.fmt(f),
            AppendError::Wait => f.write_str("the log is making room"),
            AppendError::NoSpace => f.write_str("no space left on the file system"),
            AppendError::Offline(error) => write!(f, "the log is offline: {error}"),
        }
    }
}

impl std::error::Error for AppendError {}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProducerError::OldEpoch { id, epoch, current } => {
                write!(f, "producer {} has epoch {}, the partition has seen {}", id.0, epoch.0, current.0)
            }
            ProducerError::OutOfOrderSequence { id, last_sequence, base_sequence } => {
                write!(f, "producer {} sends sequence {base_sequence} after {last_sequence}", id.0)
            }
        }
    }
}

impl std::error::Error for ProducerError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OutOfRange { offset, log_start, log_end } => {
                write!(f, "offset {offset} is outside {log_start}..{log_end}")
            }
            ReadError::Storage(error) => error.fmt(f),
            ReadError::Corrupt(damaged) => damaged.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged: {} at byte {}: ", self.path.display(), self.position)?;
        match self.damage {
            Damage::Batch(invalid) => invalid.fmt(f),
            Damage::Offset { expected, found } => write!(f, "offset {found} where {expected} must be"),
            Damage::Short { end_offset, expected } => {
                write!(f, "the log ends at offset {end_offset} and was flushed up to {expected}")
            }
            Damage::Epoch { expected, found } => {
                write!(f, "leader epoch {} where {} or a later one must be", found.0, expected.0)
            }
            Damage::TopicId => f.write_str("no topic id where one must be"),
            Damage::Folder => f.write_str("the folder of a partition that had been made is not there"),
        }
    }
}

impl std::error::Error for Damaged {}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Storage(error) => error.fmt(f),
            RecoveryError::Damaged(damaged) => damaged.fmt(f),
        }
    }
}

impl std::error::Error for RecoveryError {}

impl From<StorageError> for RecoveryError {
    fn from(error: StorageError) -> RecoveryError {
        RecoveryError::Storage(error)
    }
}

impl From<Damaged> for RecoveryError {
    fn from(damaged: Damaged) -> RecoveryError {
        RecoveryError::Damaged(damaged)
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> ReadError {
        ReadError::Storage(error)
    }
}
