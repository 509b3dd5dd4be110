//! What is on a disk after recovery, read from the files alone: no code of the log room but its names.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use corelog::log::layout::{self, DirectoryKind, FileSuffix};
use corelog::log::read_offsets;
use corelog::model::{TopicPartition, Uuid};
use corelog::reactor::Files;
use corelog::reactor::sim::SimWorld;
use corelog::record::record::Records;
use corelog::record::{BatchView, Batches};

use super::promises::{History, Place};
use crate::ledger::Value;
use crate::node::DATA;

/// One partition's records: from the log start to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogView {
    pub start: i64,
    pub end: i64,
    /// Of the bytes of all segments.
    pub hash: u64,
}

/// The partitions on a disk, and what is wrong whatever was promised.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct View {
    pub logs: BTreeMap<Place, LogView>,
    pub violations: Vec<String>,
}

/// Recovery points on a disk that nobody has recovered yet. Unreadable ones are for recovery to complain of.
pub fn recovery_points(world: &SimWorld) -> BTreeMap<TopicPartition, i64> {
    read_offsets(&mut world.files(), &Path::new(DATA).join(layout::RECOVERY_POINTS)).unwrap_or_default()
}

fn topic_id(files: &mut dyn Files, folder: &Path) -> Option<Uuid> {
    let bytes = files.read_all(&folder.join(layout::PARTITION_METADATA)).ok()?;
    std::str::from_utf8(&bytes).ok().and_then(layout::parse_partition_metadata)
}

/// Reads all partitions of the trace's topics. `points`: what was flushed, as the disk said before recovery. `is_stopped`:
/// cleanly, so that every file is complete.
pub fn look(
    world: &SimWorld,
    history: &History,
    points: &BTreeMap<TopicPartition, i64>,
    is_stopped: bool,
) -> View {
    let files: &mut dyn Files = &mut world.files();
    let mut view = View::default();
    let starts = match read_offsets(files, &Path::new(DATA).join(layout::LOG_STARTS)) {
        Ok(starts) => starts,
        Err(error) => {
            view.violations.push(error.to_string());
            return view;
        }
    };
    for entry in files.list(Path::new(DATA)).expect("the data directory is there") {
        let DirectoryKind::Partition(at) = layout::directory_kind(&entry.name) else { continue };
        let folder = Path::new(DATA).join(&entry.name);
        let Some(topic_id) = topic_id(files, &folder) else { continue };
        let place = (topic_id, at.partition);
        let Some(records) = history.records.get(&place) else { continue };
        let mut reader = Reader { files, folder, is_stopped, wrong: Vec::new() };
        let mut log = reader.read(records);
        log.start = log.start.max(starts.get(&at).copied().unwrap_or(0));
        // Names are used again; what was flushed of an older topic says nothing of this one.
        if !at.topic.starts_with('d') && points.get(&at).is_some_and(|point| log.end < *point) {
            reader.wrong.push(format!("ends at {} below its recovery point {:?}", log.end, points.get(&at)));
        }
        let wrong = reader.wrong.into_iter().map(|what| format!("{at}: {what}"));
        view.violations.extend(wrong);
        view.logs.insert(place, log);
    }
    view
}

struct Reader<'a> {
    files: &'a mut dyn Files,
    folder: PathBuf,
    is_stopped: bool,
    wrong: Vec<String>,
}

/// A batch as its segment has it.
struct Placed {
    position: u64,
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    epoch: i32,
}

impl Reader<'_> {
    fn read(&mut self, records: &BTreeMap<i64, Value>) -> LogView {
        let names = self.files.list(&self.folder).expect("the folder is there");
        let bases = names.iter().filter_map(|entry| layout::parse_offset_file(&entry.name));
        let mut bases: Vec<i64> =
            bases.filter(|(_, suffix)| *suffix == FileSuffix::Log).map(|(base, _)| base).collect();
        bases.sort_unstable();
        let Some(start) = bases.first().copied() else {
            self.wrong.push("no segment".to_owned());
            return LogView { start: 0, end: 0, hash: 0 };
        };
        let mut hash = rustc_hash::FxHasher::default();
        let mut end = start;
        let mut batches = Vec::new();
        let active = bases.last().copied();
        for base in bases {
            if base != end {
                self.wrong.push(format!("segment {base} does not begin where the log ends, at {end}"));
            }
            let bytes = self.file(base, FileSuffix::Log).unwrap_or_default();
            bytes.hash(&mut hash);
            let first = batches.len();
            self.read_segment(&bytes, records, &mut end, &mut batches);
            // Those of the active segment live in memory: what is in its files is not read before a clean stop wrote them.
            if Some(base) != active || self.is_stopped {
                self.check_indexes(base, &batches[first..]);
            }
        }
        self.check_epochs(&batches);
        LogView { start, end, hash: hash.finish() }
    }

    fn file(&mut self, base: i64, suffix: FileSuffix) -> Option<Vec<u8>> {
        self.files.read_all(&layout::offset_file(&self.folder, base, suffix)).ok()
    }

    fn read_segment(
        &mut self,
        bytes: &[u8],
        records: &BTreeMap<i64, Value>,
        end: &mut i64,
        batches: &mut Vec<Placed>,
    ) {
        let mut position = 0;
        for batch in Batches::new(bytes) {
            let Ok(batch) = batch else {
                // Zeros behind the last batch are space, not bytes.
                if bytes[position as usize..].iter().any(|byte| *byte != 0) {
                    self.wrong.push(format!("no batch at {position} behind offset {end}"));
                }
                return;
            };
            if batch.check_crc().is_err() {
                self.wrong.push(format!("bad checksum at offset {}", batch.base_offset()));
                return;
            }
            if batch.base_offset() != *end {
                self.wrong.push(format!("a batch at offset {} where {end} must follow", batch.base_offset()));
                return;
            }
            self.check_records(&batch, records);
            *end = batch.end_offset();
            batches.push(Placed {
                position,
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset(),
                max_timestamp: batch.max_timestamp(),
                epoch: batch.leader_epoch().0,
            });
            position += batch.size_bytes() as u64;
        }
    }

    /// What was written there, and nothing else.
    fn check_records(&mut self, batch: &BatchView<'_>, records: &BTreeMap<i64, Value>) {
        for record in Records::new(batch.records(), batch.record_count()) {
            let Ok(record) = record else {
                return self.wrong.push(format!("bad record in the batch at {}", batch.base_offset()));
            };
            let offset = batch.base_offset() + i64::from(record.offset_delta);
            let value = record.value.and_then(Value::decode);
            if value.is_none() || records.get(&offset) != value.as_ref() {
                self.wrong.push(format!("offset {offset} is {value:?} and was {:?}", records.get(&offset)));
            }
        }
    }

    /// Entries name batches of the segment; a rebuild would give the same or more of them.
    fn check_indexes(&mut self, base: i64, batches: &[Placed]) {
        let word = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
        for entry in self.file(base, FileSuffix::OffsetIndex).unwrap_or_default().chunks_exact(8) {
            let (last, position) = (base + i64::from(word(&entry[..4])), word(&entry[4..]) as u64);
            if !batches.iter().any(|batch| batch.position == position && batch.last_offset == last) {
                self.wrong.push(format!("index of {base}: no batch ends with {last} at {position}"));
            }
        }
        for entry in self.file(base, FileSuffix::TimeIndex).unwrap_or_default().chunks_exact(12) {
            let timestamp = i64::from_be_bytes(entry[..8].try_into().expect("eight bytes"));
            let last = base + i64::from(word(&entry[8..]));
            if !batches.iter().any(|batch| batch.last_offset == last && batch.max_timestamp == timestamp) {
                self.wrong.push(format!("time index of {base}: no batch of {timestamp} ends with {last}"));
            }
        }
    }

    /// Epochs strictly grow, starts never fall, and each batch has the epoch that the file says. The file may be behind.
    fn check_epochs(&mut self, batches: &[Placed]) {
        let Ok(bytes) = self.files.read_all(&self.folder.join(layout::LEADER_EPOCHS)) else { return };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let line = |line: &str| {
            let (epoch, start) = line.split_once(' ')?;
            Some((epoch.parse::<i32>().ok()?, start.parse::<i64>().ok()?))
        };
        let stored: Vec<(i32, i64)> = text.lines().skip(2).filter_map(line).collect();
        if stored.windows(2).any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 > pair[1].1) {
            self.wrong.push(format!("epochs {stored:?} do not grow"));
        }
        let end = batches.last().map_or(i64::MAX, |batch| batch.last_offset + 1);
        if let Some(beyond) = stored.iter().find(|(_, start)| *start > end) {
            self.wrong.push(format!("epoch {} starts at {} beyond the end {end}", beyond.0, beyond.1));
        }
        for batch in batches {
            let told = stored.iter().rev().find(|(_, start)| *start <= batch.base_offset);
            if told.is_some_and(|(epoch, _)| *epoch > batch.epoch) {
                self.wrong.push(format!("epoch {told:?} at {} is {}", batch.base_offset, batch.epoch));
            }
        }
    }
}
