//! Carries out what the journals of a data directory hold, before anything else reads its segments.
//!
//! Every journal found is read, whatever the number of shards is now. Each append is written where it says it belongs; all of it
//! is made durable; then the journals are removed. A crash in between leaves them, and the next start does the same again.
//! What recovery does afterwards (`log/recovery.rs`) knows nothing of journals: it finds the bytes in the segments. A mapped
//! journal is carried out in the same way, and says nothing of what must be there: it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::format::{self, Entry, JournalKind, PartitionKey, Place};
use super::scan::{self, FoundGroup, JournalDamage, JournalDamageKind, JournalError, Scanned};
use crate::log::checkpoint::{Offsets, read_offsets, write_offsets};
use crate::log::error::{Context, Damage, Damaged, StorageError};
use crate::log::layout::{self, DirectoryKind, FileSuffix};
use crate::log::read_topic_id;
use crate::model::{LeaderEpoch, Offset, Position, TopicPartition};
use crate::reactor::{File, Files, OpenMode};
use crate::record::BatchView;

/// So many files are flushed one by one; more of them by one `syncfs`, which flushes whatever else is dirty there.
const FILES_FLUSHED_SINGLY_MAX: usize = 16;

/// Bytes read back at a time to check an extent.
const CHECK_BYTES: usize = 256 * 1024;

/// What the journals said of a partition that is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RedonePartition {
    /// Everything below was durable (exclusive).
    pub end_offset: Offset,
    /// Bytes that had been written past the journal, durably, and are not there.
    pub damaged: Option<Damaged>,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redone {
    pub partitions: BTreeMap<PartitionKey, RedonePartition>,
    pub journals: usize,
    pub groups: usize,
    /// Bytes put into segments.
    pub bytes: u64,
}

/// Carries out and removes all journals of a data directory. Blocking, before any partition is opened.
/// `progress` gets the bytes read since the last call. Nothing was changed on an error, or less than all: start again.
pub fn redo_all(
    files: &mut dyn Files,
    data_directory: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Redone, JournalError> {
    let names = journal_names(files, data_directory)?;
    let mut scanned = Vec::new();
    let mut result = Ok(());
    for name in &names {
        match scan::scan(files, &data_directory.join(name), progress) {
            Ok(journal) => scanned.push(journal),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    let redone = result.and_then(|()| redo(files, data_directory, &scanned, progress));
    scanned.iter().for_each(|journal| files.close(journal.file));
    let redone = redone?;
    remove(files, data_directory, &names)?;
    Ok(redone)
}

fn journal_names(files: &mut dyn Files, data_directory: &Path) -> Result<Vec<String>, StorageError> {
    let listed = files.list(data_directory).context("list data directory", data_directory)?;
    let names = listed.into_iter().filter(|entry| !entry.is_directory).map(|entry| entry.name);
    Ok(names.filter(|name| layout::parse_journal_file(name).is_some()).collect())
}

fn remove(files: &mut dyn Files, data_directory: &Path, names: &[String]) -> Result<(), StorageError> {
    for name in names {
        let path = data_directory.join(name);
        files.remove_file(&path).context("remove journal", &path)?;
    }
    if !names.is_empty() {
        files.sync_directory(data_directory).context("sync data directory", data_directory)?;
    }
    Ok(())
}

/// When an entry was made. Entries of one partition are in the order of its leader epochs, which rise when it moves to another
/// shard and so to another journal, and within one epoch in the order of the one journal that has them.
type Age = (LeaderEpoch, u64);

/// What later entries say about earlier ones.
#[derive(Default)]
struct Verdict {
    /// Some journal has entries of it durably.
    is_durable: bool,
    is_deleted: bool,
    log_start: Option<Offset>,
    cuts: Vec<(Age, Offset)>,
    /// For each segment that appends name, where the last of them ends.
    segment_ends: BTreeMap<Offset, Offset>,
}

impl Verdict {
    /// Where an append of that age was cut later, if at all.
    fn cut_after(&self, age: Age) -> Offset {
        let later = self.cuts.iter().filter(|(cut, _)| *cut > age);
        later.map(|(_, offset)| *offset).min().unwrap_or(Offset::MAX)
    }
}

/// A partition that is on the disk.
struct Target {
    at: TopicPartition,
    directory: PathBuf,
    log_start: Offset,
}

struct Redo<'a> {
    files: &'a mut dyn Files,
    targets: BTreeMap<PartitionKey, Target>,
    open: BTreeMap<PathBuf, File>,
    /// Folders of the files that were written.
    changed: BTreeSet<PathBuf>,
    redone: Redone,
}

fn redo(
    files: &mut dyn Files,
    data_directory: &Path,
    journals: &[Scanned],
    progress: &mut dyn FnMut(u64),
) -> Result<Redone, JournalError> {
    let mut redone = Redone { journals: journals.len(), ..Redone::default() };
    redone.groups = journals.iter().map(|journal| journal.groups.len()).sum();
    if redone.groups == 0 {
        return Ok(redone);
    }
    let verdicts = judge(files, journals)?;
    let targets = find_targets(files, data_directory, &verdicts)?;
    let holds_records =
        |verdict: &Verdict| verdict.is_durable && !verdict.is_deleted && !verdict.segment_ends.is_empty();
    for (key, _) in
        verdicts.iter().filter(|(key, verdict)| !targets.contains_key(key) && holds_records(verdict))
    {
        // Whoever still knows the partition learns that its folder was there.
        let damaged = Damaged { path: data_directory.to_owned(), position: 0, damage: Damage::Folder };
        redone.partitions.insert(*key, RedonePartition { end_offset: 0, damaged: Some(damaged) });
    }
    let mut redo = Redo { files, targets, open: BTreeMap::new(), changed: BTreeSet::new(), redone };
    let result = redo.run(journals, &verdicts, data_directory, progress);
    let Redo { files, open, redone, .. } = redo;
    open.into_values().for_each(|file| files.close(file));
    result.map(|()| redone)
}

fn for_each(
    files: &mut dyn Files,
    scanned: &Scanned,
    group: &FoundGroup,
    act: &mut dyn FnMut(format::Record<'_>) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut buffer = Vec::new();
    let payload = scan::read_payload(files, scanned, group, &mut buffer)?;
    for record in format::entries(payload) {
        let invalid = |_| {
            let kind = JournalDamageKind::Entry { sequence: group.header.sequence, position: group.position };
            JournalError::Damaged(JournalDamage { path: scanned.path.clone(), kind })
        };
        act(record.map_err(invalid)?)?;
    }
    Ok(())
}

/// Reads all entries once: which partitions they are of, and what was cut or deleted later.
fn judge(
    files: &mut dyn Files,
    journals: &[Scanned],
) -> Result<BTreeMap<PartitionKey, Verdict>, JournalError> {
    let mut verdicts: BTreeMap<PartitionKey, Verdict> = BTreeMap::new();
    for (scanned, group) in groups(journals) {
        for_each(files, scanned, group, &mut |record| {
            let verdict = verdicts.entry(record.key).or_default();
            verdict.is_durable |= scanned.kind == JournalKind::Durable;
            match record.entry {
                Entry::Append { place, .. } | Entry::Block { place, .. } | Entry::Extent { place, .. } => {
                    let end = verdict.segment_ends.entry(place.segment).or_default();
                    *end = place.end_offset.max(*end);
                }
                Entry::Truncate { offset } => {
                    verdict.cuts.push(((record.leader_epoch, group.header.sequence), offset));
                }
                Entry::LogStart { offset } => verdict.log_start = verdict.log_start.max(Some(offset)),
                Entry::Delete => verdict.is_deleted = true,
            }
            Ok(())
        })?;
    }
    Ok(verdicts)
}

fn groups(journals: &[Scanned]) -> impl Iterator<Item = (&Scanned, &FoundGroup)> {
    journals.iter().flat_map(|scanned| scanned.groups.iter().map(move |group| (scanned, group)))
}

/// The folders of the partitions that entries name. One that is not there was deleted, set aside, or is lost.
fn find_targets(
    files: &mut dyn Files,
    data_directory: &Path,
    verdicts: &BTreeMap<PartitionKey, Verdict>,
) -> Result<BTreeMap<PartitionKey, Target>, JournalError> {
    let log_starts = read_offsets(files, &data_directory.join(layout::LOG_STARTS))?;
    let mut targets = BTreeMap::new();
    for entry in files.list(data_directory).context("list data directory", data_directory)? {
        let kind =
            if entry.is_directory { layout::directory_kind(&entry.name) } else { DirectoryKind::Foreign };
        let DirectoryKind::Partition(at) = kind else { continue };
        let directory = data_directory.join(&entry.name);
        let Some(topic_id) = read_topic_id(files, &directory)? else { continue };
        let key = PartitionKey { topic_id, partition: at.partition };
        let Some(verdict) = verdicts.get(&key).filter(|verdict| !verdict.is_deleted) else { continue };
        let known = log_starts.get(&at).copied().unwrap_or(0);
        let log_start = verdict.log_start.unwrap_or(0).max(known);
        targets.insert(key, Target { at, directory, log_start });
    }
    Ok(targets)
}

impl Redo<'_> {
    fn run(
        &mut self,
        journals: &[Scanned],
        verdicts: &BTreeMap<PartitionKey, Verdict>,
        data_directory: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), JournalError> {
        let mut extents = Vec::new();
        let mut buffer = Vec::new();
        for (scanned, group) in groups(journals) {
            let payload = scan::read_payload(self.files, scanned, group, &mut buffer)?;
            progress(payload.len() as u64);
            for record in format::entries(payload) {
                let Ok(record) = record else { unreachable!("`judge` has been over the same bytes") };
                let verdict = &verdicts[&record.key];
                let cut = verdict.cut_after((record.leader_epoch, group.header.sequence));
                match record.entry {
                    Entry::Append { place, bytes } => {
                        let (bytes, end_offset) = up_to(bytes, place, cut);
                        if self.put(record.key, place, bytes, verdict.segment_ends[&place.segment])?
                            && scanned.kind == JournalKind::Durable
                        {
                            let partition = self.redone.partitions.entry(record.key).or_default();
                            partition.end_offset = partition.end_offset.max(end_offset);
                        }
                    }
                    // A log is cut when all it has is in its segments, this block too.
                    Entry::Block { place, bytes } if place.end_offset <= cut => {
                        self.put(record.key, place, bytes, verdict.segment_ends[&place.segment])?;
                    }
                    Entry::Extent { place, length, crc } if place.end_offset <= cut => {
                        extents.push((record.key, place, length, crc));
                    }
                    _ => {}
                }
            }
        }
        for (key, place, length, crc) in extents {
            self.check(key, place, length, crc)?;
        }
        self.raise_log_starts(data_directory, verdicts)?;
        Ok(self.flush(journals)?)
    }

    /// Writes bytes where they belong. False: they are deleted.
    fn put(
        &mut self,
        key: PartitionKey,
        place: Place,
        bytes: &[u8],
        segment_end: Offset,
    ) -> Result<bool, JournalError> {
        let Some(target) = self.targets.get(&key).filter(|_| !bytes.is_empty()) else { return Ok(false) };
        let path = layout::offset_file(&target.directory, place.segment, FileSuffix::Log);
        // A segment of deleted records that is gone must not come back. One that is there gets all its bytes, deleted or not:
        // those behind them can only be found by walking over them.
        if segment_end <= target.log_start
            && self.files.kind(&path).context("look for segment", &path)?.is_none()
        {
            return Ok(false);
        }
        let file = self.open(&path)?;
        self.files.write_at(file, place.position, bytes).context("put journal entry into segment", &path)?;
        self.redone.bytes += bytes.len() as u64;
        Ok(true)
    }

    fn open(&mut self, path: &Path) -> Result<File, StorageError> {
        if let Some(file) = self.open.get(path) {
            return Ok(*file);
        }
        let file = self.files.open(path, OpenMode::Write).context("open segment", path)?;
        // The segment was rolled to, and its name did not last, or is in the page cache only: the journal goes, the name must
        // stay.
        self.changed.insert(path.parent().expect("a segment lies in a folder").to_owned());
        self.open.insert(path.to_owned(), file);
        Ok(file)
    }

    /// Compares what was written past the journal with what is there now.
    fn check(&mut self, key: PartitionKey, place: Place, length: u32, crc: u32) -> Result<(), StorageError> {
        let Some(target) = self.targets.get(&key).filter(|target| place.end_offset > target.log_start) else {
            return Ok(());
        };
        let path = layout::offset_file(&target.directory, place.segment, FileSuffix::Log);
        let found = match self.files.kind(&path).context("look for segment", &path)? {
            Some(_) => {
                let file = self.open(&path)?;
                read_crc(self.files, file, place.position, length).context("read segment", &path)?
            }
            None => None,
        };
        let partition = self.redone.partitions.entry(key).or_default();
        partition.end_offset = partition.end_offset.max(place.end_offset);
        if found != Some(crc) && partition.damaged.is_none() {
            let damage = Damage::Short { end_offset: place.base_offset, expected: place.end_offset };
            partition.damaged = Some(Damaged { path, position: place.position, damage });
        }
        Ok(())
    }

    /// What deletions of records said, for the file that recovery reads.
    fn raise_log_starts(
        &mut self,
        data_directory: &Path,
        verdicts: &BTreeMap<PartitionKey, Verdict>,
    ) -> Result<(), StorageError> {
        let told = self.targets.iter().filter(|(key, _)| verdicts[key].log_start.is_some());
        let raised: Offsets = told.map(|(_, target)| (target.at.clone(), target.log_start)).collect();
        if raised.is_empty() {
            return Ok(());
        }
        let path = data_directory.join(layout::LOG_STARTS);
        let mut offsets = read_offsets(self.files, &path)?;
        offsets.extend(raised);
        write_offsets(self.files, &path, &offsets)
    }

    fn flush(&mut self, journals: &[Scanned]) -> Result<(), StorageError> {
        if self.open.len() > FILES_FLUSHED_SINGLY_MAX {
            let through = &journals[0];
            return self
                .files
                .sync_file_system_through(through.file)
                .context("sync file system of journal", &through.path);
        }
        for (path, file) in &self.open {
            self.files.sync(*file).context("flush segment", path)?;
        }
        for directory in &self.changed {
            self.files.sync_directory(directory).context("sync partition directory", directory)?;
        }
        Ok(())
    }
}

/// The bytes of whole batches that end at or below `cut`, and where they end.
fn up_to(bytes: &[u8], place: Place, cut: Offset) -> (&[u8], Offset) {
    if place.end_offset <= cut {
        return (bytes, place.end_offset);
    }
    let (mut at, mut end_offset) = (0, place.base_offset);
    while let Ok(batch) = BatchView::parse(&bytes[at..])
        && batch.end_offset() <= cut
    {
        at += batch.size_bytes();
        end_offset = batch.end_offset();
    }
    (&bytes[..at], end_offset)
}

/// The checksum of bytes of a file; `None` if it is too short.
fn read_crc(files: &mut dyn Files, file: File, position: Position, length: u32) -> io::Result<Option<u32>> {
    let mut buffer = vec![0; CHECK_BYTES.min(length as usize)];
    let (mut at, end) = (position, position + u64::from(length));
    let mut crc = 0;
    while at < end {
        let wanted = buffer.len().min((end - at) as usize);
        let read = files.read_at(file, at, &mut buffer[..wanted])?;
        if read < wanted {
            return Ok(None);
        }
        crc = crate::record::crc32c_append(crc, &buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(Some(crc))
}
