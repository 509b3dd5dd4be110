//! Offsets of all partitions of a data directory in one small text file, replaced as a whole.
//!
//! ```text
//! 0                            version
//! <count>
//! <topic> <partition> <offset> one line each
//! ```
//! `recovery-point-offset-checkpoint`: below it the bytes are flushed, damage there is no torn tail.
//! `log-start-offset-checkpoint`: below it records are deleted. Source: Apache Kafka `OffsetCheckpointFile`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Offset, TopicId, TopicPartition};
use crate::reactor::Files;

use super::error::{Context, StorageError};
use super::layout;

pub type Offsets = BTreeMap<TopicPartition, Offset>;

fn encode(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        writeln!(text, "{} {} {offset}", partition.topic, partition.partition)
            .expect("writing to a String cannot fail");
    }
    text
}

/// The offsets in the text of a checkpoint file. `None` if it makes no sense.
pub fn parse_offsets(text: &str) -> Option<Offsets> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut offsets = Offsets::new();
    for line in lines {
        let mut words = line.split(' ');
        let (topic, partition, offset) =
            (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        if words.next().is_some() {
            return None;
        }
        offsets.insert(TopicPartition::new(topic, partition), offset);
    }
    (offsets.len() == count).then_some(offsets)
}

/// The offsets in a checkpoint file; none if the file is missing.
/// Errors: `InvalidData` if the text makes no sense. It was written and renamed as a whole, so that is damage to the disk.
pub fn read_offsets(files: &mut dyn Files, path: &Path) -> Result<Offsets, StorageError> {
    let bytes = match files.read_all(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Offsets::new()),
        Err(error) => return Err(StorageError::new("read checkpoint", path, error)),
    };
    std::str::from_utf8(&bytes).ok().and_then(parse_offsets).ok_or_else(|| {
        StorageError::new("parse checkpoint", path, io::Error::from(io::ErrorKind::InvalidData))
    })
}

/// Replaces a checkpoint file as a whole, durably.
pub(super) fn write_offsets(
    files: &mut dyn Files,
    path: &Path,
    offsets: &Offsets,
) -> Result<(), StorageError> {
    files.replace(path, encode(offsets).as_bytes()).context("write checkpoint", path)
}

/// Where one partition stands, as its shard knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionOffsets {
    pub at: TopicPartition,
    pub topic_id: TopicId,
    pub recovery_point: Offset,
    pub log_start: Offset,
}

/// Both checkpoints of one data directory, to which every shard contributes its partitions.
///
/// The files name partitions, and a topic that is deleted and made again has the name of the old one; offsets of the old one
/// would make recovery look for records that never were, or drop those that are. So the book knows whose offsets it holds:
/// a partition is adopted at boot or begun when it is made, and what is said of another topic id is not taken.
///
/// Core: shared by the helper threads; only jobs and boot touch it, so no data core ever waits for its lock.
pub struct CheckpointBook {
    directory: PathBuf,
    entries: Mutex<Entries>,
}

struct Entries {
    recovery_points: Sheet,
    log_starts: Sheet,
    topic_ids: BTreeMap<TopicPartition, TopicId>,
}

/// One of the files, and what it will hold.
struct Sheet {
    name: &'static str,
    offsets: Offsets,
    /// Set until the file holds all of `offsets`: a write that failed is made up for by the next one.
    is_unwritten: bool,
}

impl Sheet {
    fn load(files: &mut dyn Files, directory: &Path, name: &'static str) -> Result<Sheet, StorageError> {
        Ok(Sheet { name, offsets: read_offsets(files, &directory.join(name))?, is_unwritten: false })
    }

    fn get(&self, at: &TopicPartition) -> Offset {
        self.offsets.get(at).copied().unwrap_or(0)
    }

    fn set(&mut self, at: &TopicPartition, offset: Option<Offset>) {
        let before = match offset {
            Some(offset) => self.offsets.insert(at.clone(), offset),
            None => self.offsets.remove(at),
        };
        self.is_unwritten |= before != offset;
    }

    fn keep_only(&mut self, is_known: impl Fn(&TopicPartition) -> bool) {
        let before = self.offsets.len();
        self.offsets.retain(|at, _| is_known(at));
        self.is_unwritten |= self.offsets.len() != before;
    }

    fn write(&mut self, files: &mut dyn Files, directory: &Path) -> Result<(), StorageError> {
        if self.is_unwritten {
            let path = directory.join(self.name);
            write_offsets(files, &path, &self.offsets)?;
            self.is_unwritten = false;
        }
        Ok(())
    }
}

impl Entries {
    fn drop_offsets(&mut self, at: &TopicPartition) {
        self.recovery_points.set(at, None);
        self.log_starts.set(at, None);
    }

    /// The log starts go first: a recovery point may be above a log start, never the other way round.
    fn write(&mut self, files: &mut dyn Files, directory: &Path) -> Result<(), StorageError> {
        self.log_starts.write(files, directory)?;
        self.recovery_points.write(files, directory)
    }
}

impl CheckpointBook {
    pub fn load(files: &mut dyn Files, data_directory: &Path) -> Result<CheckpointBook, StorageError> {
        let entries = Entries {
            recovery_points: Sheet::load(files, data_directory, layout::RECOVERY_POINTS)?,
            log_starts: Sheet::load(files, data_directory, layout::LOG_STARTS)?,
            topic_ids: BTreeMap::new(),
        };
        Ok(CheckpointBook { directory: data_directory.to_owned(), entries: Mutex::new(entries) })
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// (recovery point, log start) of a partition that is about to be recovered; zero if unknown. They are its own from now on.
    pub fn adopt(&self, at: &TopicPartition, topic_id: TopicId) -> (Offset, Offset) {
        let mut entries = self.entries();
        entries.topic_ids.insert(at.clone(), topic_id);
        (entries.recovery_points.get(at), entries.log_starts.get(at))
    }

    /// Whether a partition of this name is in the checkpoints: from `made` until it is removed.
    pub fn was_made(&self, at: &TopicPartition) -> bool {
        self.entries().recovery_points.offsets.contains_key(at)
    }

    /// Forgets partitions that are none any more, durably: a crash came before their removal did. At boot.
    pub fn keep_only(
        &self,
        files: &mut dyn Files,
        is_known: impl Fn(&TopicPartition) -> bool,
    ) -> Result<(), StorageError> {
        let mut entries = self.entries();
        entries.recovery_points.keep_only(&is_known);
        entries.log_starts.keep_only(&is_known);
        entries.write(files, &self.directory)
    }

    /// A partition is about to be made: offsets of an older topic of this name go. `flush` before its folder is made.
    pub fn begin(&self, at: &TopicPartition, topic_id: TopicId) {
        let mut entries = self.entries();
        entries.topic_ids.insert(at.clone(), topic_id);
        entries.drop_offsets(at);
    }

    /// A partition's folder is there, durably: a start that does not find it knows that it is lost. `flush` before anything is
    /// appended.
    pub fn made(&self, at: &TopicPartition, topic_id: TopicId) {
        let mut entries = self.entries();
        if entries.topic_ids.get(at) == Some(&topic_id) {
            entries.recovery_points.set(at, Some(0));
        }
    }

    /// A partition is gone. Its offsets leave the files when they are written next.
    pub fn forget(&self, at: &TopicPartition, topic_id: TopicId) {
        let mut entries = self.entries();
        if entries.topic_ids.get(at) == Some(&topic_id) {
            entries.topic_ids.remove(at);
            entries.drop_offsets(at);
        }
    }

    /// Takes one shard's offsets and makes both files durable. Files that did not change are not written.
    pub fn write(&self, files: &mut dyn Files, told: &[PartitionOffsets]) -> Result<(), StorageError> {
        // The lock is held over the writes, so that two shards cannot replace a newer file with an older one.
        let mut entries = self.entries();
        for PartitionOffsets { at, topic_id, recovery_point, log_start } in told {
            if entries.topic_ids.get(at) == Some(topic_id) {
                entries.recovery_points.set(at, Some(*recovery_point));
                entries.log_starts.set(at, (*log_start > 0).then_some(*log_start));
            }
        }
        entries.write(files, &self.directory)
    }

    /// Makes durable what has changed since the last write.
    pub fn flush(&self, files: &mut dyn Files) -> Result<(), StorageError> {
        self.entries().write(files, &self.directory)
    }
}

/// The clean-shutdown marker: there only between a clean stop and the next start.
pub fn write_clean_shutdown(
    files: &mut dyn Files,
    data_directory: &Path,
    broker_epoch: i64,
) -> Result<(), StorageError> {
    let path = data_directory.join(layout::CLEAN_SHUTDOWN);
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    files.replace(&path, text.as_bytes()).context("write clean-shutdown marker", &path)
}

/// Whether the last stop was clean. The marker is removed, durably, before anything is appended.
pub fn take_clean_shutdown(files: &mut dyn Files, data_directory: &Path) -> Result<bool, StorageError> {
    let path = data_directory.join(layout::CLEAN_SHUTDOWN);
    match files.remove_file(&path) {
        Ok(()) => {
            files.sync_directory(data_directory).context("sync data directory", data_directory)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::new("remove clean-shutdown marker", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;
    use crate::reactor::sim::{SimOptions, SimWorld};

    #[test]
    fn text_reads_back_and_nonsense_does_not() {
        let mut offsets = Offsets::new();
        offsets.insert(TopicPartition::new("b", 1), 7);
        offsets.insert(TopicPartition::new("a", 10), 1 << 40);
        assert_eq!(encode(&offsets), "0\n2\na 10 1099511627776\nb 1 7\n");
        assert_eq!(parse_offsets(&encode(&offsets)), Some(offsets));
        let check = |text| assert_eq!(parse_offsets(text), None, "{text:?}");
        check("");
        check("1\n0\n");
        check("0\n1\n");
        check("0\n1\na 0\n");
        check("0\n1\na 0 1 2\n");
    }

    #[test]
    fn a_sheet_is_written_only_for_a_change() {
        let mut sheet = Sheet { name: "", offsets: Offsets::new(), is_unwritten: false };
        let at = TopicPartition::new("t", 0);
        let mut check = |offset, expected| {
            sheet.is_unwritten = false;
            sheet.set(&at, offset);
            assert_eq!(sheet.is_unwritten, expected, "{offset:?}");
        };
        check(Some(3), true);
        check(Some(3), false);
        check(None, true);
        check(None, false);
    }

    fn told(topic_id: u8, recovery_point: Offset, log_start: Offset) -> PartitionOffsets {
        PartitionOffsets {
            at: TopicPartition::new("t", 0),
            topic_id: Uuid([topic_id; 16]),
            recovery_point,
            log_start,
        }
    }

    fn book() -> (SimWorld, CheckpointBook) {
        let world = SimWorld::new(1, SimOptions::default());
        world.files().create_directory(Path::new("/data")).unwrap();
        let book = CheckpointBook::load(&mut world.files(), Path::new("/data")).unwrap();
        (world, book)
    }

    /// (recovery point, log start) of `t-0` for whoever starts now.
    fn on_disk(world: &SimWorld) -> (Offset, Offset) {
        let book = CheckpointBook::load(&mut world.files(), Path::new("/data")).unwrap();
        book.adopt(&TopicPartition::new("t", 0), Uuid::ZERO)
    }

    #[test]
    fn a_topic_made_anew_inherits_nothing() {
        let (world, book) = book();
        let (mut files, at) = (world.files(), TopicPartition::new("t", 0));
        book.begin(&at, Uuid([1; 16]));
        book.write(&mut files, &[told(1, 1000, 500)]).unwrap();
        assert_eq!(on_disk(&world), (1000, 500));
        book.begin(&at, Uuid([2; 16]));
        book.flush(&mut files).unwrap();
        assert_eq!(on_disk(&world), (0, 0));
        // The shard of the old one is late.
        book.write(&mut files, &[told(1, 1000, 500)]).unwrap();
        assert_eq!(on_disk(&world), (0, 0));
        book.write(&mut files, &[told(2, 7, 3)]).unwrap();
        book.forget(&at, Uuid([1; 16]));
        book.flush(&mut files).unwrap();
        assert_eq!(on_disk(&world), (7, 3));
        book.forget(&at, Uuid([2; 16]));
        book.flush(&mut files).unwrap();
        assert_eq!(on_disk(&world), (0, 0));
    }

    #[test]
    fn a_partition_is_known_from_when_it_was_made_until_it_is_removed() {
        let (world, book) = book();
        let (mut files, at) = (world.files(), TopicPartition::new("t", 0));
        let was_made = || CheckpointBook::load(&mut world.files(), Path::new("/data")).unwrap().was_made(&at);
        book.begin(&at, Uuid([1; 16]));
        book.flush(&mut files).unwrap();
        assert!(!was_made(), "it is being made");
        book.made(&at, Uuid([2; 16]));
        book.flush(&mut files).unwrap();
        assert!(!was_made(), "another topic's is");
        book.made(&at, Uuid([1; 16]));
        book.flush(&mut files).unwrap();
        assert!(was_made());
        book.keep_only(&mut files, |known| *known == at).unwrap();
        assert!(was_made());
        book.keep_only(&mut files, |_| false).unwrap();
        assert!(!was_made(), "the metadata does not know it");
        book.write(&mut files, &[told(1, 0, 0)]).unwrap();
        book.forget(&at, Uuid([1; 16]));
        book.flush(&mut files).unwrap();
        assert!(!was_made());
    }

    #[test]
    fn what_could_not_be_written_is_written_next_time() {
        let (world, book) = book();
        book.begin(&TopicPartition::new("t", 0), Uuid([1; 16]));
        world.set_quota(0);
        book.write(&mut world.files(), &[told(1, 9, 5)]).unwrap_err();
        world.set_quota(u64::MAX);
        book.write(&mut world.files(), &[told(1, 9, 5)]).unwrap();
        assert_eq!(on_disk(&world), (9, 5));
    }
}
