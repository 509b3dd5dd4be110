//! Redo of a data directory in which anything may have happened to the journal and to the segments.
//!
//! As for `recovery`, the input is a recipe: what is done to a sound directory before it is opened. The sound one is what a
//! power loss leaves of a journal that has wrapped: each group went out when the one before it was durable.
//!
//! ```text
//! byte 0   bit 0: the recovery points say what was flushed at the last checkpoint, else nothing
//! then     steps of 6 bytes: file, kind of change, u16 where, u16 value
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use corelog::log::journal::{
    BLOCK_BYTES, Entry, EntrySink, Journal, JournalError, JournalOptions, PartitionKey, Place, Record,
    Redone, redo_all,
};
use corelog::log::layout::{self, FileSuffix};
use corelog::log::{Log, LogConfig, LogSlot, RecoveryError, RecoveryInput, read_offsets};
use corelog::metrics::JournalMeter;
use corelog::model::{LeaderEpoch, Monotonic, Offset, Position, ShardId, TopicPartition, Uuid};
use corelog::reactor::sim::{SimFiles, SimIo, SimOptions, SimWorld, Turn};
use corelog::reactor::{Files, Io, OpenMode, Room, Token};
use corelog::record::{BatchBuilder, Batches};

/// The files of the directory, by their path in it.
type Directory = BTreeMap<PathBuf, Vec<u8>>;

const DATA: &str = "/data";
const NOW: i64 = 1_000_000;
const JOURNAL_BYTES: u64 = 64 * 1024;
const PARTITIONS: u8 = 2;
/// Groups until the end, and after which of them there was a checkpoint.
const ROUNDS: u64 = 22;
const CHECKPOINTS: [u64; 3] = [5, 10, 15];
/// The log of the second partition has another segment from here on.
const ROLL_ROUND: u64 = 18;
const LOG_START_ROUND: u64 = 19;
const LOG_START: Offset = 3;
/// These bytes of the first partition went past the journal.
const EXTENT_ROUND: u64 = 17;

/// One partition of the sound directory.
struct Written {
    key: PartitionKey,
    at: TopicPartition,
    segments: BTreeMap<Offset, Vec<u8>>,
    next: Offset,
    /// In the segments, durably, since the last checkpoint, or past the journal.
    flushed: BTreeMap<Offset, Vec<u8>>,
    recovery_point: Offset,
    /// The log's end once the group with this sequence was durable.
    ends: BTreeMap<u64, Offset>,
}

impl Written {
    fn new(number: u8) -> Written {
        Written {
            key: PartitionKey { topic_id: Uuid([number + 1; 16]), partition: 0 },
            at: TopicPartition::new(format!("t{number}"), 0),
            segments: BTreeMap::from([(0, Vec::new())]),
            next: 0,
            flushed: BTreeMap::from([(0, Vec::new())]),
            recovery_point: 0,
            ends: BTreeMap::new(),
        }
    }

    fn folder(&self) -> PathBuf {
        layout::partition_directory(Path::new(""), &self.at)
    }

    fn path(&self, segment: Offset) -> PathBuf {
        layout::offset_file(&self.folder(), segment, FileSuffix::Log)
    }

    fn record<'a>(&self, entry: Entry<'a>) -> Record<'a> {
        Record { key: self.key, leader_epoch: LeaderEpoch(0), entry }
    }

    /// The next batch, of so many records, and where it belongs.
    fn batch(&mut self, records: u64, value_bytes: usize) -> (Place, Vec<u8>) {
        let mut builder = BatchBuilder::new();
        for record in 0..records {
            let value = vec![self.next as u8 + 3 * record as u8 + self.key.topic_id.0[0]; value_bytes];
            builder.push(NOW - 1000, None, Some(&value));
        }
        let bytes = builder.finish(self.next, LeaderEpoch(0)).to_vec();
        let mut last = self.segments.last_entry().expect("there is one from the beginning");
        let (segment, position) = (*last.key(), last.get().len() as Position);
        last.get_mut().extend_from_slice(&bytes);
        let end_offset = self.next + records as Offset;
        let place = Place { base_offset: self.next, end_offset, segment, position };
        self.next = end_offset;
        (place, bytes)
    }
}

/// The sound directory, and what must come of it.
struct Sample {
    directory: Directory,
    partitions: Vec<Written>,
    journal: PathBuf,
    /// Where each group of the last lap stands in the journal, by its sequence.
    groups: BTreeMap<u64, std::ops::Range<usize>>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(make_sample)
}

/// Sends the forming group on its way and waits until it counts.
fn commit(world: &SimWorld, io: &mut SimIo, journal: &mut Journal) {
    assert!(journal.commit(io, |sequence| Token::new(Room::Log, sequence)), "the model's ring has room");
    let mut completions = Vec::new();
    while completions.is_empty() {
        io.wait(Monotonic::NEVER);
        assert_eq!(world.next_turn(Monotonic::NEVER), Turn::Shard(ShardId(0)), "the group ends");
        io.reap(&mut completions);
    }
    let meter = JournalMeter::detached();
    for completion in completions {
        let committed =
            journal.complete(completion.token.value as u32, completion.outcome, world.now(), &meter);
        assert_eq!(committed.expect("the model's disk works").groups.len(), 1);
    }
}

fn make_sample() -> Sample {
    let world = SimWorld::new(1, SimOptions::default());
    let mut files = world.files();
    files.create_directory(Path::new(DATA)).expect("the model's disk works");
    let options = JournalOptions { size_bytes_max: JOURNAL_BYTES, has_fua: false };
    let mut journal =
        Journal::create(&mut files, Path::new(DATA), 0, 77, options).expect("the model's disk works");
    let mut io = world.io(ShardId(0));
    let mut partitions: Vec<Written> = (0..PARTITIONS).map(Written::new).collect();
    for round in 1..=ROUNDS {
        let mut extent = None;
        for (number, written) in (0u64..).zip(&mut partitions) {
            if round == ROLL_ROUND && number == 1 {
                written.segments.insert(written.next, Vec::new());
            }
            if round == EXTENT_ROUND && number == 0 {
                // It waits until what came before is in the segment, and goes there with a flush of its own.
                let (place, bytes) = written.batch(2, 2_000);
                written.flushed.clone_from(&written.segments);
                let crc = corelog::record::crc32c(&bytes);
                extent = Some(Entry::Extent { place, length: bytes.len() as u32, crc });
            } else if (round + number) % 3 != 0 {
                let (place, bytes) = written.batch(1 + round % 2, (100 * (round % 12 + number)) as usize);
                journal.append(Some(LogSlot(0)), &written.record(Entry::Append { place, bytes: &bytes }));
            }
        }
        if let Some(extent) = extent {
            journal.append(None, &partitions[0].record(extent));
        }
        if round == LOG_START_ROUND {
            journal.append(None, &partitions[0].record(Entry::LogStart { offset: LOG_START }));
        }
        commit(&world, &mut io, &mut journal);
        note_ends(&mut partitions, journal.next_sequence() - 1);
        if CHECKPOINTS.contains(&round) {
            for written in &mut partitions {
                written.flushed.clone_from(&written.segments);
                written.recovery_point = written.next;
            }
            journal.checkpointed(journal.next_sequence());
            commit(&world, &mut io, &mut journal);
            note_ends(&mut partitions, journal.next_sequence() - 1);
        }
    }
    let name = layout::journal_file(0);
    let files: &mut dyn Files = &mut files;
    let bytes = files.read_all(&Path::new(DATA).join(&name)).expect("the model's disk works");
    let mut directory = Directory::new();
    for written in &partitions {
        let metadata = layout::encode_partition_metadata(written.key.topic_id);
        directory.insert(written.folder().join(layout::PARTITION_METADATA), metadata.into_bytes());
        for (segment, bytes) in &written.flushed {
            directory.insert(written.path(*segment), bytes.clone());
        }
    }
    let groups = groups_of(&bytes);
    assert!(*groups.keys().next_back().expect("there are groups") == journal.next_sequence() - 1);
    assert!(groups.len() < journal.next_sequence() as usize - 1, "the ring has wrapped");
    let journal = PathBuf::from(name);
    directory.insert(journal.clone(), bytes);
    Sample { directory, partitions, journal, groups }
}

fn note_ends(partitions: &mut [Written], sequence: u64) {
    for written in partitions {
        written.ends.insert(sequence, written.next);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The group that begins with this block, if one does: header, entries, no padding. Byte table: `log/journal/format.rs`.
fn group_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let header = bytes.get(at..at + 64).filter(|header| header.starts_with(b"CLJGROUP"))?;
    let payload = u32::from_le_bytes(header[12..16].try_into().expect("four bytes"));
    bytes.get(at..at + 64 + payload as usize)
}

/// Where the groups of a sound journal stand.
fn groups_of(bytes: &[u8]) -> BTreeMap<u64, std::ops::Range<usize>> {
    let blocks = (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
    let whole = blocks.filter_map(|at| {
        let group = group_at(bytes, at)?;
        let is_whole = corelog::record::crc32c(&group[12..]).to_le_bytes() == group[8..12];
        is_whole.then(|| (u64_at(group, 16 + 8), at..at + group.len()))
    });
    whole.collect()
}

/// What a recipe makes.
struct Scenario {
    directory: Directory,
    knows_recovery_points: bool,
    /// A header says something else, under a checksum that fits: nothing is promised of what such a journal leads to but that
    /// no bytes are made up.
    is_forged: bool,
}

fn scenario(sample: &Sample, data: &[u8]) -> Scenario {
    let mut directory = sample.directory.clone();
    let mut is_forged = false;
    for step in data.get(1..).unwrap_or_default().as_chunks::<6>().0 {
        is_forged |= change(sample, &mut directory, step);
    }
    Scenario { directory, knows_recovery_points: data.first().is_some_and(|b| b & 1 == 1), is_forged }
}

/// Returns whether it was the header of a group, under a checksum that fits.
fn change(sample: &Sample, directory: &mut Directory, step: &[u8; 6]) -> bool {
    let [file, kind, high, low, value_high, value_low] = *step;
    let place = usize::from(u16::from_be_bytes([high, low]));
    let value = u16::from_be_bytes([value_high, value_low]);
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|suffix| suffix == "log");
    let segments: Vec<PathBuf> = directory.keys().filter(is_segment).cloned().collect();
    // The journal twice as often as all segments together.
    let path = match usize::from(file) % 6 {
        0..=3 => sample.journal.clone(),
        _ if segments.is_empty() => return false,
        other => segments[(other + usize::from(file) / 6) % segments.len()].clone(),
    };
    let Some(bytes) = directory.get_mut(&path) else { return false };
    if kind % 9 == 6 {
        directory.remove(&path);
        return false;
    }
    if bytes.is_empty() {
        return false;
    }
    // The upper bits choose the block and the lower ones the byte in it, headers more often than others.
    let block = place / 64 * BLOCK_BYTES % bytes.len().next_multiple_of(BLOCK_BYTES);
    let at = (block + if place % 64 < 40 { place % 64 * 2 } else { place % 64 * 53 }).min(bytes.len() - 1);
    match kind % 9 {
        0 | 1 => bytes[at] ^= value as u8,
        // Sectors that never arrived, or were lost.
        2 => {
            let sectors = at / 512 * 512..at / 512 * 512 + 512 * (1 + usize::from(value % 9));
            bytes.iter_mut().take(sectors.end).skip(sectors.start).for_each(|byte| *byte = 0);
        }
        3 => bytes.truncate(at),
        4 => bytes.extend(std::iter::repeat_n(0, usize::from(value % 64) * 512)),
        // Blocks of another place, as a misdirected write leaves them.
        5 => {
            let from = usize::from(value) * BLOCK_BYTES % bytes.len();
            let moved: Vec<u8> = bytes.iter().copied().skip(from).take(BLOCK_BYTES * 2).collect();
            bytes.iter_mut().skip(block).zip(moved).for_each(|(byte, moved)| *byte = moved);
        }
        7 => {
            let other = usize::from(value) * BLOCK_BYTES % bytes.len();
            let end = BLOCK_BYTES.min(bytes.len() - other).min(bytes.len().saturating_sub(block));
            (0..end).for_each(|byte| bytes.swap(block + byte, other + byte));
        }
        8 => return forge(bytes, block, place, value),
        _ => {}
    }
    false
}

/// Changes one word of a group's header, and the checksum with it.
fn forge(bytes: &mut [u8], block: usize, place: usize, value: u16) -> bool {
    let Some(length) = group_at(bytes, block).map(<[u8]>::len) else { return false };
    let group = &mut bytes[block..block + length];
    // Sequence, first live, newest durable, size, lap with the number of entries.
    let at = [24, 32, 56, 40, 48][place % 5];
    let word = u64_at(group, at);
    let word = match value % 5 {
        0 => word.wrapping_add(u64::from(value / 5)),
        1 => word.wrapping_sub(u64::from(value / 5)),
        2 => u64::MAX - u64::from(value / 5),
        3 => u64::from(value / 5),
        _ => word ^ 1 << (value / 5 % 64),
    };
    group[at..at + 8].copy_from_slice(&word.to_le_bytes());
    let crc = corelog::record::crc32c(&group[12..]);
    group[8..12].copy_from_slice(&crc.to_le_bytes());
    true
}

fn disk(directory: &Directory) -> SimFiles {
    let mut files = SimWorld::new(1, SimOptions::default()).files();
    let data = Path::new(DATA);
    files.create_directory(data).expect("the model's disk works");
    for (path, bytes) in directory {
        let folder = data.join(path.parent().expect("a relative path has a parent"));
        if files.kind(&folder).expect("the model's disk works").is_none() {
            files.create_directory(&folder).expect("the model's disk works");
        }
        let file = files.open(&data.join(path), OpenMode::Truncate).expect("the model's disk works");
        files.write_at(file, 0, bytes).expect("the model's disk works");
        files.close(file);
    }
    files
}

fn read_back(files: &mut dyn Files, folder: &Path, into: &mut Directory) {
    for entry in files.list(&Path::new(DATA).join(folder)).expect("the model's disk works") {
        let path = folder.join(&entry.name);
        if entry.is_directory {
            read_back(files, &path, into);
        } else {
            let bytes = files.read_all(&Path::new(DATA).join(&path)).expect("the model's disk works");
            into.insert(path, bytes);
        }
    }
}

fn redo(files: &mut SimFiles) -> Result<Redone, JournalError> {
    redo_all(files, Path::new(DATA), &mut |_| {})
}

/// Starts on what `data` describes, twice.
pub fn journal(data: &[u8]) {
    let sample = sample();
    let Scenario { directory, knows_recovery_points, is_forged } = scenario(sample, data);
    let is_changed = directory != sample.directory;
    let mut files = disk(&directory);
    let redone = match redo(&mut files) {
        Ok(redone) => redone,
        Err(JournalError::Damaged(damage)) => {
            assert!(is_changed, "a sound journal is damaged: {damage}");
            let mut after = Directory::new();
            read_back(&mut files, Path::new(""), &mut after);
            assert!(is_forged || after == directory, "something was changed although {damage}");
            return;
        }
        Err(JournalError::Storage(error)) => panic!("nothing is wrong with the disk: {error}"),
    };
    let newest_whole = newest_unchanged(sample, &directory);
    let starts = read_offsets(&mut files, &Path::new(DATA).join(layout::LOG_STARTS));
    let starts = starts.expect("the model's disk works");
    for written in &sample.partitions {
        let found = redone.partitions.get(&written.key).cloned().unwrap_or_default();
        if let Some(damaged) = found.damaged {
            assert!(is_changed, "bytes past a sound journal are damaged: {damaged}");
            continue;
        }
        let recovery_point = if knows_recovery_points { written.recovery_point } else { 0 };
        let log_start = starts.get(&written.at).copied().unwrap_or(0);
        let input = RecoveryInput {
            recovery_point: recovery_point.max(log_start),
            log_start,
            journaled_end: found.end_offset,
            is_clean: false,
        };
        let log = match recover(&mut files, written, input) {
            Ok(log) => log,
            Err(RecoveryError::Damaged(damaged)) => {
                assert!(is_changed, "a sound log is damaged: {damaged}");
                continue;
            }
            Err(RecoveryError::Storage(error)) => panic!("nothing is wrong with the disk: {error}"),
        };
        let log_end = log.log_end_offset();
        assert!(log_end <= written.next, "{log_end} offsets were never there");
        assert!(log_end >= found.end_offset.max(recovery_point), "cut to {log_end} below {input:?}");
        // Nothing before a group that is there may be missing: each went out when the one before was durable. What a checkpoint
        // has brought home the journal does not know any more.
        let is_home_whole = written.flushed.keys().all(|segment| {
            let path = written.path(*segment);
            directory.get(&path) == sample.directory.get(&path)
        });
        if let Some(sequence) = newest_whole.filter(|_| !is_forged && is_home_whole) {
            let acknowledged = written.ends[&sequence];
            assert!(log_end >= acknowledged, "{log_end} of {acknowledged} in {}, {sequence}", written.at);
        }
        if !is_changed {
            assert_eq!(log_end, written.next);
            assert_eq!(log_start, if written.key.topic_id.0[0] == 1 { LOG_START } else { 0 });
        }
        check_prefix(&mut files, written, input.recovery_point, log_end);
    }
    // Again: there is nothing left to do.
    let again = redo(&mut files).expect("the journals are gone");
    assert_eq!((again.journals, again.groups, again.bytes), (0, 0, 0));
}

/// The newest group whose bytes nothing was done to.
fn newest_unchanged(sample: &Sample, directory: &Directory) -> Option<u64> {
    let (sound, bytes) = (&sample.directory[&sample.journal], directory.get(&sample.journal)?);
    let is_whole = |range: &std::ops::Range<usize>| bytes.get(range.clone()) == sound.get(range.clone());
    sample.groups.iter().rev().find(|(_, range)| is_whole(range)).map(|(sequence, _)| *sequence)
}

fn recover(files: &mut SimFiles, written: &Written, input: RecoveryInput) -> Result<Log, RecoveryError> {
    let folder = Path::new(DATA).join(written.folder());
    let config = LogConfig::default();
    Log::recover(files, &folder, written.at.clone(), config, input, NOW, &mut |_| {}).map(|(log, _)| log)
}

/// Every batch that recovery has looked at is one that was written there.
fn check_prefix(files: &mut SimFiles, written: &Written, recovery_point: Offset, log_end: Offset) {
    let mut found = Directory::new();
    read_back(files, &written.folder(), &mut found);
    for (path, bytes) in found {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are digits and a suffix");
        let Some((base, FileSuffix::Log)) = layout::parse_offset_file(name) else { continue };
        let mut position = 0;
        for batch in Batches::new(&bytes) {
            let batch = batch.unwrap_or_else(|invalid| panic!("{} at {position}: {invalid}", path.display()));
            if batch.base_offset() >= recovery_point {
                batch.check_crc().unwrap_or_else(|invalid| panic!("{}: {invalid}", path.display()));
                let was = written
                    .segments
                    .get(&base)
                    .and_then(|was| was.get(position..position + batch.size_bytes()));
                assert_eq!(was, Some(batch.bytes()), "{} at {position}", path.display());
            }
            assert!(batch.end_offset() <= log_end, "{} goes on behind {log_end}", path.display());
            position += batch.size_bytes();
        }
    }
}
