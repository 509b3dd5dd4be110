//! Recovery of a partition's folder in which anything may have happened to the files.
//!
//! The input is no file but a recipe: what the checkpoints say, and what is done to the files of a sound folder before it is
//! opened. So every input is near the interesting ones.
//!
//! ```text
//! byte 0   bit 0: the last stop was clean (the recovery point is then the log's end)
//! byte 1   recovery point, in batches
//! byte 2   log start, in batches, at most the recovery point
//! then     steps of 5 bytes: file, kind of change, u16 position, value
//! ```
//! A folder of another kind of file (a journal) is one more row in `Sample::new`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use corelog::log::layout::{self, FileSuffix};
use corelog::log::{LeaderEpochCache, Log, LogConfig, ProducerState, RecoveryError, RecoveryInput};
use corelog::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};
use corelog::reactor::sim::{SimFiles, SimOptions, SimWorld};
use corelog::reactor::{Files, OpenMode};
use corelog::record::{BatchBuilder, BatchView, Batches, ProducerStamp};

/// The files of the folder, by name.
pub type Folder = BTreeMap<String, Vec<u8>>;

const FOLDER: &str = "/t-0";
const NOW: i64 = 1_000_000;
const RECORDS_PER_BATCH: usize = 2;
const BATCHES_PER_SEGMENT: usize = 4;
const SEGMENTS: usize = 3;
const LOG_END: Offset = (SEGMENTS * BATCHES_PER_SEGMENT * RECORDS_PER_BATCH) as Offset;
/// Where in a batch the leader epoch stands: no checksum covers it.
const EPOCH: std::ops::Range<usize> = 12..16;

/// What a recipe makes.
pub struct Scenario {
    pub folder: Folder,
    pub input: RecoveryInput,
    /// Something was done to the files.
    pub is_changed: bool,
}

/// Opens what `data` describes, twice.
pub fn recovery(data: &[u8]) {
    let Scenario { folder, input, is_changed } = scenario(data);
    let sample = sample();
    let mut files = disk(&folder);
    let first = open(&mut files, input);
    let after = read_folder(&mut files);
    let log = match first {
        Ok(log) => log,
        Err(RecoveryError::Damaged(damaged)) => {
            assert!(is_changed, "a sound folder is damaged: {damaged}");
            // Damage is never repaired by cutting; what was deleted before may go, and what was never flushed.
            for (name, bytes) in logs(&folder) {
                let is_below_start =
                    logs(&folder).any(|(other, _)| *other > *name && base_of(other) <= input.log_start);
                let is_kept = match after.get(name) {
                    Some(left) => {
                        let flushed_bytes = flushed_bytes(&sample, name, input.recovery_point);
                        bytes.starts_with(left) && left.len() >= bytes.len().min(flushed_bytes)
                    }
                    None => is_below_start || base_of(name) >= input.recovery_point,
                };
                assert!(is_kept, "{name} was changed: {damaged}");
            }
            return;
        }
        Err(RecoveryError::Storage(error)) => panic!("nothing is wrong with the disk: {error}"),
    };
    let log_end = log.log_end_offset();
    assert!(log_end <= LOG_END, "{log_end} offsets were never there");
    if input.recovery_point > input.log_start {
        assert!(log_end >= input.recovery_point, "cut to {log_end} below {input:?}");
    }
    if !is_changed {
        assert_eq!((log_end, log.log_start_offset()), (LOG_END, input.log_start));
    }
    let epochs = log.leader_epochs().entries();
    assert!(
        epochs
            .windows(2)
            .all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start_offset <= pair[1].start_offset)
    );
    check_prefix(&sample, &after, input, log_end);
    // Again: there is nothing left to do.
    let again = match open(&mut files, RecoveryInput { is_clean: false, ..input }) {
        Ok(log) => log,
        // After a clean stop indexes are believed, and what they lead past is not looked at.
        Err(RecoveryError::Damaged(_)) if input.is_clean && is_changed => return,
        Err(error) => panic!("it was opened before: {error}"),
    };
    assert_eq!((again.log_start_offset(), again.log_end_offset()), (log.log_start_offset(), log_end));
    let twice = read_folder(&mut files);
    for (name, bytes) in logs(&after) {
        assert!(twice.get(name) == Some(bytes), "{name} changed when it was opened again");
    }
    if !input.is_clean {
        assert_eq!(twice.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        assert!(twice == after, "opening again changed a file");
    }
}

/// Every batch that recovery has looked at is the one that was there.
fn check_prefix(sample: &Folder, after: &Folder, input: RecoveryInput, log_end: Offset) {
    let found: Vec<(&String, &Vec<u8>)> = logs(after).collect();
    let mut next = None;
    for (i, (name, bytes)) in found.iter().enumerate() {
        let base = base_of(name);
        let next_base = found.get(i + 1).map_or(Offset::MAX, |(name, _)| base_of(name));
        // Of segments that were flushed as a whole only what lies behind the last index entries was read.
        if input.is_clean || next_base <= input.recovery_point {
            next = Some(next_base);
            continue;
        }
        assert!(next.is_none_or(|next| next == base), "{name} does not follow on {next:?}");
        let mut offset = base;
        for batch in Batches::new(bytes) {
            let batch = batch.unwrap_or_else(|invalid| panic!("{name} at offset {offset}: {invalid}"));
            assert_eq!(batch.base_offset(), offset, "{name}");
            if offset >= input.recovery_point {
                batch.check_crc().unwrap_or_else(|invalid| panic!("{name} at offset {offset}: {invalid}"));
                let was = batch_at(sample, offset);
                assert_eq!(batch.bytes()[EPOCH.end..], was[EPOCH.end..], "the batch at {offset} of {name}");
            }
            offset = batch.end_offset();
        }
        next = Some(offset);
    }
    assert!(next.is_none_or(|next| next == log_end || next == Offset::MAX), "{next:?} is not {log_end}");
}

/// How much of a sound segment lies below the recovery point; nothing of one that was not in the sample.
fn flushed_bytes(sample: &Folder, name: &str, recovery_point: Offset) -> usize {
    let Some(bytes) = sample.get(name) else { return 0 };
    let batches = Batches::new(bytes).map(|batch| batch.expect("the sample is sound"));
    batches.take_while(|batch| batch.end_offset() <= recovery_point).map(|batch| batch.size_bytes()).sum()
}

fn batch_at(sample: &Folder, offset: Offset) -> &[u8] {
    let (_, bytes) = logs(sample).filter(|(name, _)| base_of(name) <= offset).last().expect("below the end");
    let batch = Batches::new(bytes).map(|batch| batch.expect("the sample is sound"));
    let found: Option<BatchView<'_>> = batch.into_iter().find(|batch| batch.base_offset() == offset);
    found.expect("batches begin where they began").bytes()
}

fn logs(folder: &Folder) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    folder.iter().filter(|(name, _)| matches!(layout::parse_offset_file(name), Some((_, FileSuffix::Log))))
}

fn base_of(name: &str) -> Offset {
    layout::parse_offset_file(name).expect("a file with an offset in its name").0
}

fn config() -> LogConfig {
    LogConfig { index_interval_bytes: 100, ..LogConfig::default() }
}

fn open(files: &mut SimFiles, input: RecoveryInput) -> Result<Log, RecoveryError> {
    let at = TopicPartition::new("t", 0);
    Log::recover(files, Path::new(FOLDER), at, config(), input, NOW, &mut |_| {}).map(|(log, _)| log)
}

/// What `data` makes of the sound folder.
pub fn scenario(data: &[u8]) -> Scenario {
    let byte = |i: usize| data.get(i).copied().unwrap_or(0);
    let batches = (SEGMENTS * BATCHES_PER_SEGMENT) as u8 + 1;
    let offset = |byte: u8| Offset::from(byte % batches) * RECORDS_PER_BATCH as Offset;
    let is_clean = byte(0) & 1 == 1;
    let recovery_point = if is_clean { LOG_END } else { offset(byte(1)) };
    let log_start = offset(byte(2)).min(recovery_point);
    let input = RecoveryInput { recovery_point, log_start, journaled_end: 0, is_clean };
    let sound = sample();
    let mut folder = sound.clone();
    let steps = data.get(3..).unwrap_or_default();
    for step in steps.as_chunks::<5>().0 {
        change(&mut folder, &sound, step);
    }
    Scenario { is_changed: folder != sound, folder, input }
}

fn change(folder: &mut Folder, sound: &Folder, step: &[u8; 5]) {
    let [file, kind, high, low, value] = *step;
    let Some(name) = folder.keys().nth(usize::from(file) % folder.len().max(1)).cloned() else { return };
    let other = sound.values().nth(usize::from(value) % sound.len()).expect("a file of the sample");
    let bytes = folder.get_mut(&name).expect("just found");
    let at = usize::from(u16::from_be_bytes([high, low])) % bytes.len().max(1);
    match kind % 9 {
        // A bit, or several, of one byte.
        0 | 1 if !bytes.is_empty() => bytes[at] ^= value,
        // Sectors that never arrived: zeros.
        2 => bytes.iter_mut().skip(at / 64 * 64).take(64 * (1 + usize::from(value % 8))).for_each(|b| *b = 0),
        3 => bytes.truncate(at),
        4 => bytes.extend(std::iter::repeat_n(0, usize::from(value) * 16)),
        // Bytes of another place of this file, as a misdirected or stale write leaves them.
        5 => {
            let moved: Vec<u8> = bytes.iter().copied().skip(usize::from(value) * 8).take(200).collect();
            bytes.iter_mut().skip(at).zip(moved).for_each(|(byte, moved)| *byte = moved);
        }
        6 => _ = folder.remove(&name),
        7 => bytes.clone_from(other),
        8 => bytes.extend_from_slice(other),
        _ => {}
    }
}

fn disk(folder: &Folder) -> SimFiles {
    let world = SimWorld::new(1, SimOptions::default());
    let mut files = world.files();
    files.create_directory(Path::new(FOLDER)).expect("the model's disk works");
    for (name, bytes) in folder {
        let path = Path::new(FOLDER).join(name);
        let file = files.open(&path, OpenMode::Truncate).expect("the model's disk works");
        files.write_at(file, 0, bytes).expect("the model's disk works");
        files.close(file);
    }
    files
}

fn read_folder(files: &mut dyn Files) -> Folder {
    let read = |files: &mut dyn Files| -> io::Result<Folder> {
        let mut folder = Folder::new();
        for entry in files.list(Path::new(FOLDER))? {
            let bytes = files.read_all(&Path::new(FOLDER).join(&entry.name))?;
            folder.insert(entry.name, bytes);
        }
        Ok(folder)
    };
    read(files).expect("the model's disk works")
}

/// The sound folder: three segments of an idempotent producer's batches under three leader epochs, with all that stands
/// beside them after a clean stop.
pub fn sample() -> Folder {
    let mut folder = Folder::new();
    let mut epochs = LeaderEpochCache::default();
    let mut producers = ProducerState::default();
    for segment in 0..SEGMENTS {
        let base = (segment * BATCHES_PER_SEGMENT * RECORDS_PER_BATCH) as Offset;
        let file = |suffix| {
            let path = layout::offset_file(Path::new(""), base, suffix);
            path.to_str().expect("digits and a suffix").to_owned()
        };
        if segment > 0 {
            folder.insert(file(FileSuffix::ProducerSnapshot), producers.encode_snapshot());
        }
        let (mut log, mut index, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..BATCHES_PER_SEGMENT {
            let offset = base + (number * RECORDS_PER_BATCH) as Offset;
            let epoch = LeaderEpoch(segment as i32 + i32::from(segment == 2 && number > 1));
            let batch = batch(offset, epoch);
            let view = BatchView::parse(&batch).expect("just built");
            epochs.assign(epoch, offset);
            producers.replay(&view);
            let relative = (view.last_offset() - base) as i32;
            if number > 0 {
                index.extend([relative.to_be_bytes(), (log.len() as i32).to_be_bytes()].concat());
                times.extend([&view.max_timestamp().to_be_bytes()[..], &relative.to_be_bytes()].concat());
            }
            log.extend_from_slice(&batch);
        }
        folder.insert(file(FileSuffix::Log), log);
        folder.insert(file(FileSuffix::OffsetIndex), index);
        folder.insert(file(FileSuffix::TimeIndex), times);
    }
    folder.insert(layout::LEADER_EPOCHS.to_owned(), epochs.encode().into_bytes());
    let metadata = layout::encode_partition_metadata(Uuid([1; 16]));
    folder.insert(layout::PARTITION_METADATA.to_owned(), metadata.into_bytes());
    folder
}

fn batch(offset: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let base_sequence = offset as i32;
    builder.producer(ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(0), base_sequence });
    for record in 0..RECORDS_PER_BATCH as Offset {
        let value = format!("value of offset {}, long enough to fill a sector", offset + record);
        builder.push(NOW - 1000 + offset, Some(b"key"), Some(value.as_bytes()));
    }
    builder.finish(offset, epoch).to_vec()
}
