//! What there is to check: the files of a data directory, a partition's folder or one segment, and what must hold for them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::layout::{self, DirectoryKind, FileSuffix, MetaProperties};
use crate::log::{LeaderEpochCache, Offsets, ProducerState, parse_offsets};
use crate::model::{Offset, TopicPartition};

use super::VerifyError;
use super::report::{Fault, Finding, Verdict};

/// Everything that is to be looked at, and what was found while looking for it.
#[derive(Default)]
pub(super) struct Plan {
    pub partitions: Vec<PartitionPlan>,
    pub journals: Vec<PathBuf>,
    pub findings: Vec<Finding>,
}

/// One partition's folder.
pub(super) struct PartitionPlan {
    pub directory: PathBuf,
    /// Below it everything was flushed: what is wrong there is damage. Above it a crash may have left anything.
    pub recovery_point: RecoveryPoint,
    pub log_start: Offset,
    pub epochs: Option<LeaderEpochCache>,
    /// By base offset.
    pub segments: Vec<SegmentPlan>,
    /// All segments of the partition are in `segments`, so that its ends can be compared.
    pub is_whole: bool,
}

/// Up to where a log was flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecoveryPoint {
    At(Offset),
    /// The last stop was clean: everything is flushed, and the log must reach this offset.
    Clean(Offset),
    /// No data directory around it says: everything is held to be flushed.
    Unknown,
}

impl RecoveryPoint {
    /// Whether a batch that should begin at `offset` was flushed, so that it must be there.
    pub fn covers(self, offset: Offset) -> bool {
        match self {
            RecoveryPoint::At(point) => offset < point,
            RecoveryPoint::Clean(_) | RecoveryPoint::Unknown => true,
        }
    }

    /// The offset that the log must reach.
    pub fn must_reach(self) -> Option<Offset> {
        match self {
            RecoveryPoint::At(point) | RecoveryPoint::Clean(point) => Some(point),
            RecoveryPoint::Unknown => None,
        }
    }
}

pub(super) struct SegmentPlan {
    pub base_offset: Offset,
    /// Where the next segment begins, if there is one.
    pub next_base: Option<Offset>,
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Index files that were complete before the last stop or checkpoint, so that they must agree with the log.
    pub index: Option<PathBuf>,
    pub time_index: Option<PathBuf>,
}

/// What the checkpoints beside the partitions say.
struct Directory {
    recovery_points: Option<Offsets>,
    log_starts: Offsets,
    is_clean: bool,
    is_known: bool,
}

impl Plan {
    pub fn make(path: &Path) -> Result<Plan, VerifyError> {
        let unreadable = |source| VerifyError::Read { path: path.to_owned(), source };
        // Links resolved, so that `.` has a name and a parent.
        let path = &fs::canonicalize(path).map_err(unreadable)?;
        let is_directory = fs::metadata(path).map_err(unreadable)?.is_dir();
        let mut plan = Plan::default();
        match (is_directory, partition_of(path), segment_of(path)) {
            (true, Some(at), _) => {
                let around = plan.directory_around(path);
                plan.add_partition(path, &at, &around)?;
            }
            (true, None, _) => plan.add_data_directory(path)?,
            (false, _, Some(base_offset)) => plan.add_segment(path, base_offset)?,
            (false, _, None) => return Err(VerifyError::NotSegment { path: path.to_owned() }),
        }
        Ok(plan)
    }

    pub fn total_bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|partition| &partition.segments).map(|s| s.size_bytes).sum()
    }

    fn add_data_directory(&mut self, path: &Path) -> Result<(), VerifyError> {
        let directory = self.read_directory(path);
        if !directory.is_known {
            return Err(VerifyError::NotDataDirectory { path: path.to_owned() });
        }
        for (name, is_directory) in list(path)? {
            let entry = path.join(&name);
            match layout::directory_kind(&name) {
                DirectoryKind::Partition(at) if is_directory => {
                    self.add_partition(&entry, &at, &directory)?
                }
                // Being removed, or left by a replacement that a crash cut short: the next start removes it.
                DirectoryKind::Deleted if is_directory => {}
                _ if layout::is_leftover(&name) => {}
                _ if CHECKED_HERE.contains(&name.as_str()) => {}
                _ if !is_directory && layout::parse_journal_file(&name).is_some() => {
                    self.journals.push(entry);
                }
                // Put aside, foreign, or of a kind that this command does not know.
                _ => self.findings.push(Finding::new(Verdict::NotChecked, entry)),
            }
        }
        Ok(())
    }

    /// One segment: what the folder and the data directory around it say counts for it, too.
    fn add_segment(&mut self, path: &Path, base_offset: Offset) -> Result<(), VerifyError> {
        let folder = path.parent().expect("a file has a folder");
        let Some(at) = partition_of(folder) else {
            let size_bytes = size_of(path)?;
            let segment = SegmentPlan {
                base_offset,
                next_base: None,
                path: path.to_owned(),
                size_bytes,
                index: None,
                time_index: None,
            };
            self.partitions.push(PartitionPlan {
                directory: folder.to_owned(),
                recovery_point: RecoveryPoint::Unknown,
                log_start: 0,
                epochs: None,
                segments: vec![segment],
                is_whole: false,
            });
            return Ok(());
        };
        let around = self.directory_around(folder);
        self.add_partition(folder, &at, &around)?;
        let partition = self.partitions.last_mut().expect("just added");
        partition.segments.retain(|segment| segment.base_offset == base_offset);
        partition.is_whole = false;
        self.findings.retain(|finding| finding.path.parent() != Some(folder));
        Ok(())
    }

    fn directory_around(&mut self, folder: &Path) -> Directory {
        let found = folder.parent().map(|path| self.read_directory(path));
        // What is wrong there was not asked for; what cannot be read there is not known.
        self.findings.clear();
        found.unwrap_or(Directory {
            recovery_points: None,
            log_starts: Offsets::new(),
            is_clean: false,
            is_known: false,
        })
    }

    fn read_directory(&mut self, path: &Path) -> Directory {
        // The recovery points first: a live broker raises them while its logs grow, never the other way round.
        let points_path = path.join(layout::RECOVERY_POINTS);
        let recovery_points = self.read_text(&points_path, Fault::NotCheckpoint, parse_offsets);
        let starts_path = path.join(layout::LOG_STARTS);
        let log_starts = self.read_text(&starts_path, Fault::NotCheckpoint, parse_offsets);
        let meta_path = path.join(layout::META_PROPERTIES);
        let meta = self.read_text(&meta_path, Fault::NotMetadata, MetaProperties::parse);
        let is_known = !matches!(meta, Text::Missing) || matches!(recovery_points, Text::Parsed(_));
        Directory {
            is_clean: path.join(layout::CLEAN_SHUTDOWN).exists(),
            recovery_points: match recovery_points {
                Text::Parsed(points) => Some(points),
                // Never written yet: nothing is known to be flushed.
                Text::Missing if is_known => Some(Offsets::new()),
                Text::Missing | Text::Damaged => None,
            },
            log_starts: match log_starts {
                Text::Parsed(starts) => starts,
                Text::Missing | Text::Damaged => Offsets::new(),
            },
            is_known,
        }
    }

    fn add_partition(
        &mut self,
        path: &Path,
        at: &TopicPartition,
        around: &Directory,
    ) -> Result<(), VerifyError> {
        let point = around.recovery_points.as_ref().map(|points| points.get(at).copied().unwrap_or(0));
        let log_start = around.log_starts.get(at).copied().unwrap_or(0);
        let recovery_point = match point {
            // What is deleted anyway need not be there.
            Some(point) => {
                let must_reach = if point > log_start { point } else { 0 };
                if around.is_clean { RecoveryPoint::Clean(must_reach) } else { RecoveryPoint::At(must_reach) }
            }
            None => RecoveryPoint::Unknown,
        };
        let mut files = BTreeMap::new();
        let names = match list(path) {
            Ok(names) => names,
            Err(VerifyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (mut has_metadata, mut bytes) = (false, 0);
        let mut snapshots = Vec::new();
        for (name, _) in names {
            let file = path.join(&name);
            match layout::parse_offset_file(&name) {
                Some((base_offset, FileSuffix::Log)) => {
                    // Gone in the meantime: a live broker deletes old segments.
                    if let Ok(size) = size_of(&file) {
                        bytes += size;
                        files.insert(base_offset, (file, size));
                    }
                }
                Some((offset, FileSuffix::ProducerSnapshot)) => snapshots.push((offset, file)),
                Some((_, FileSuffix::OffsetIndex | FileSuffix::TimeIndex)) => {}
                Some((_, FileSuffix::TransactionIndex)) => {
                    self.findings.push(Finding::new(Verdict::NotChecked, file));
                }
                None if name == layout::PARTITION_METADATA => {
                    has_metadata = true;
                    self.read_text(&file, Fault::NotMetadata, layout::parse_partition_metadata);
                }
                None if name == layout::LEADER_EPOCHS || layout::is_leftover(&name) => {}
                None => self.findings.push(Finding::new(Verdict::NotChecked, file)),
            }
        }
        if !has_metadata && bytes > 0 && around.is_known {
            let missing = path.join(layout::PARTITION_METADATA);
            self.findings.push(Finding::new(Verdict::Damaged(Fault::Missing), missing));
        }
        for (offset, file) in snapshots {
            self.check_snapshot(offset, file, recovery_point);
        }
        let epochs_path = path.join(layout::LEADER_EPOCHS);
        let epochs = match self.read_text(&epochs_path, Fault::NotCheckpoint, LeaderEpochCache::parse) {
            Text::Parsed(epochs) => Some(epochs),
            Text::Missing | Text::Damaged => None,
        };
        let bases: Vec<Offset> = files.keys().copied().collect();
        let next_base = |i: usize| bases.get(i + 1).copied();
        let segment = |(i, (base_offset, (file, size_bytes)))| {
            let next_base = next_base(i);
            // Indexes of other segments are made anew at the next start, whatever they hold.
            let is_settled = match recovery_point {
                RecoveryPoint::At(point) => next_base.is_some_and(|next| next <= point),
                RecoveryPoint::Clean(_) => true,
                RecoveryPoint::Unknown => next_base.is_some(),
            };
            let index = |suffix| is_settled.then(|| layout::offset_file(path, base_offset, suffix));
            SegmentPlan {
                base_offset,
                next_base,
                path: file,
                size_bytes,
                index: index(FileSuffix::OffsetIndex),
                time_index: index(FileSuffix::TimeIndex),
            }
        };
        // Wholly below the log start: their deletion was decided, the next start makes up for it.
        let is_deleted = |next: Option<Offset>| next.is_some_and(|next| next <= log_start);
        let segments =
            files.into_iter().enumerate().map(segment).filter(|s| !is_deleted(s.next_base)).collect();
        self.partitions.push(PartitionPlan {
            directory: path.to_owned(),
            recovery_point,
            log_start,
            epochs,
            segments,
            is_whole: true,
        });
        Ok(())
    }

    fn check_snapshot(&mut self, offset: Offset, file: PathBuf, recovery_point: RecoveryPoint) {
        // A younger one may have been under way when the process ended.
        if !recovery_point.covers(offset) {
            return;
        }
        match fs::read(&file) {
            Ok(bytes) => {
                if let Err(invalid) = ProducerState::decode_snapshot(&bytes) {
                    let fault = Fault::Snapshot(invalid);
                    self.findings.push(Finding::new(Verdict::Damaged(fault), file));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.findings.push(Finding::new(Verdict::Unreadable(Arc::new(error)), file)),
        }
    }

    fn read_text<T>(&mut self, path: &Path, fault: Fault, parse: fn(&str) -> Option<T>) -> Text<T> {
        match fs::read(path) {
            Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(parse) {
                Some(parsed) => Text::Parsed(parsed),
                None => {
                    self.findings.push(Finding::new(Verdict::Damaged(fault), path.to_owned()));
                    Text::Damaged
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Text::Missing,
            Err(error) => {
                self.findings.push(Finding::new(Verdict::Unreadable(Arc::new(error)), path.to_owned()));
                Text::Damaged
            }
        }
    }
}

enum Text<T> {
    Parsed(T),
    Missing,
    Damaged,
}

/// Files of a data directory that are read on the way, or carry nothing.
const CHECKED_HERE: &[&str] = &[
    layout::META_PROPERTIES,
    layout::LOCK,
    layout::CLEAN_SHUTDOWN,
    layout::RECOVERY_POINTS,
    layout::LOG_STARTS,
];

fn partition_of(path: &Path) -> Option<TopicPartition> {
    match layout::directory_kind(path.file_name()?.to_str()?) {
        DirectoryKind::Partition(at) => Some(at),
        _ => None,
    }
}

fn segment_of(path: &Path) -> Option<Offset> {
    match layout::parse_offset_file(path.file_name()?.to_str()?) {
        Some((base_offset, FileSuffix::Log)) => Some(base_offset),
        _ => None,
    }
}

/// Names in a directory, sorted, and whether each is a directory itself.
fn list(path: &Path) -> Result<Vec<(String, bool)>, VerifyError> {
    let unreadable = |source| VerifyError::Read { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.push((entry.file_name().to_string_lossy().into_owned(), is_directory));
    }
    names.sort();
    Ok(names)
}

fn size_of(path: &Path) -> Result<u64, VerifyError> {
    let unreadable = |source| VerifyError::Read { path: path.to_owned(), source };
    Ok(fs::metadata(path).map_err(unreadable)?.len())
}
