//! The journal and its redo on the model's disk. A `Bench` is one machine; a `Writer` is one partition, as its log would write it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::redo::RedonePartition;
use super::*;
use crate::log::error::Damage;
use crate::log::layout::FileSuffix;
use crate::log::{Damaged, read_offsets};
use crate::model::{LeaderEpoch, Monotonic, Offset, Position, ShardId, TopicPartition, Uuid};
use crate::reactor::sim::{CrashKind, Faults, SimDisk, SimIo, SimOptions, SimWorld, Survivors, Turn};
use crate::reactor::{Completion, Room};
use crate::record::BatchBuilder;

const DATA: &str = "/data";
const KIB: u64 = 1024;
const SMALL: u64 = 256 * KIB;

struct Bench {
    world: SimWorld,
    io: SimIo,
    journal: Journal,
    /// Completions that nobody has looked at.
    reaped: VecDeque<Completion>,
    meter: JournalMeter,
}

fn path_of(name: impl AsRef<Path>) -> PathBuf {
    Path::new(DATA).join(name)
}

fn token(sequence: u64) -> Token {
    Token::new(Room::Log, sequence)
}

fn options(size_bytes_max: u64) -> JournalOptions {
    JournalOptions { size_bytes_max, has_fua: false }
}

impl Bench {
    fn new(seed: u64, size: u64) -> Bench {
        let world = SimWorld::new(seed, SimOptions::default());
        let files = &mut world.files();
        files.create_directory(Path::new(DATA)).unwrap();
        files.sync_directory(Path::new("/")).unwrap();
        let journal = Journal::create(files, Path::new(DATA), 0, 77, options(size)).unwrap();
        let io = world.io(ShardId(0));
        Bench { world, io, journal, reaped: VecDeque::new(), meter: JournalMeter::detached() }
    }

    fn path(&self) -> PathBuf {
        self.journal.path().to_owned()
    }

    /// One group with this one entry on its way.
    fn send(&mut self, record: &Record<'_>) {
        self.journal.append(Some(LogSlot(0)), record);
        assert!(self.journal.commit(&mut self.io, token));
    }

    /// Lets the world go on until a group has ended.
    fn next_end(&mut self) -> (u32, Outcome) {
        loop {
            if let Some(completion) = self.reaped.pop_front() {
                return (completion.token.value as u32, completion.outcome);
            }
            let mut completions = Vec::new();
            self.io.reap(&mut completions);
            if !completions.is_empty() {
                self.reaped.extend(completions);
                continue;
            }
            self.io.wait(Monotonic::NEVER);
            assert_eq!(self.world.next_turn(Monotonic::NEVER), Turn::Shard(ShardId(0)), "no group ends");
        }
    }

    fn complete(&mut self, sequence: u32, outcome: Outcome) -> Result<Committed, StorageError> {
        self.journal.complete(sequence, outcome, self.world.now(), &self.meter)
    }

    /// A group with this entry, durable. Waits for the ones before.
    fn put(&mut self, record: &Record<'_>) {
        self.send(record);
        assert_eq!(self.next_committed(), [vec![LogSlot(0)]]);
    }

    /// Lets the world go on until groups count.
    fn next_committed(&mut self) -> Vec<Vec<LogSlot>> {
        loop {
            let (sequence, outcome) = self.next_end();
            let committed = self.journal.complete(sequence, outcome, self.world.now(), &self.meter).unwrap();
            if !committed.groups.is_empty() {
                return committed.groups;
            }
        }
    }

    /// All that was appended is in the segments, as far as recovery is told.
    fn checkpoint(&mut self) {
        self.journal.checkpointed(self.journal.next_sequence());
        assert!(self.journal.commit(&mut self.io, token));
        assert_eq!(self.next_committed(), [Vec::new()]);
    }

    fn lose_power(&self) {
        self.world.crash(CrashKind::PowerLoss);
        self.world.restart();
    }
}

/// A partition and what its segments must hold in the end.
struct Writer {
    key: PartitionKey,
    at: TopicPartition,
    leader_epoch: LeaderEpoch,
    segment: Offset,
    next: Offset,
    segments: BTreeMap<Offset, Vec<u8>>,
}

impl Writer {
    /// With its folder on the disk, durable, and an empty segment in it.
    fn new(files: &mut dyn Files, number: u8) -> Writer {
        let at = TopicPartition::new(format!("t{number}"), 0);
        let key = PartitionKey { topic_id: Uuid([number; 16]), partition: 0 };
        let writer = Writer {
            key,
            at,
            leader_epoch: LeaderEpoch(0),
            segment: 0,
            next: 0,
            segments: BTreeMap::from([(0, Vec::new())]),
        };
        writer.make_folder(files, key.topic_id);
        writer
    }

    fn folder(&self) -> PathBuf {
        layout::partition_directory(Path::new(DATA), &self.at)
    }

    fn path(&self, segment: Offset) -> PathBuf {
        layout::offset_file(&self.folder(), segment, FileSuffix::Log)
    }

    fn make_folder(&self, files: &mut dyn Files, topic_id: Uuid) {
        let folder = self.folder();
        files.create_directory(&folder).unwrap();
        let metadata = layout::encode_partition_metadata(topic_id);
        files.replace(&folder.join(layout::PARTITION_METADATA), metadata.as_bytes()).unwrap();
        let file = files.open(&self.path(0), OpenMode::Truncate).unwrap();
        files.close(file);
        files.sync_directory(&folder).unwrap();
        files.sync_directory(Path::new(DATA)).unwrap();
    }

    /// The next batch, and where it belongs.
    fn batch(&mut self, value_bytes: usize) -> (Place, Bytes) {
        let mut builder = BatchBuilder::new();
        let value = vec![self.next as u8 + self.key.topic_id.0[0]; value_bytes];
        builder.push(1_000, None, Some(&value));
        builder.push(1_001, None, Some(&value));
        let bytes: Bytes = builder.finish(self.next, self.leader_epoch);
        let segment = self.segments.entry(self.segment).or_default();
        let position = segment.len() as Position;
        segment.extend_from_slice(&bytes);
        let place =
            Place { base_offset: self.next, end_offset: self.next + 2, segment: self.segment, position };
        self.next += 2;
        (place, bytes)
    }

    fn record<'a>(&self, entry: Entry<'a>) -> Record<'a> {
        Record { key: self.key, leader_epoch: self.leader_epoch, entry }
    }

    /// A batch through the journal, durable.
    fn append(&mut self, bench: &mut Bench, value_bytes: usize) {
        let (place, bytes) = self.batch(value_bytes);
        bench.put(&self.record(Entry::Append { place, bytes: &bytes }));
    }

    fn roll(&mut self) {
        self.segment = self.next;
    }

    /// What the journal put there is what was written, for this partition.
    fn assert_there(&self, files: &mut dyn Files) {
        for (segment, expected) in &self.segments {
            let found = files.read_all(&self.path(*segment)).unwrap_or_default();
            assert!(&found == expected, "segment {segment} of {} is not what was written", self.at);
        }
    }

    fn is_there(&self, files: &mut dyn Files, segment: Offset) -> bool {
        files.kind(&self.path(segment)).unwrap().is_some()
    }
}

fn redo(world: &SimWorld) -> Result<Redone, JournalError> {
    redo_all(&mut world.files(), Path::new(DATA), &mut |_| {})
}

fn read(world: &SimWorld, path: &Path) -> Vec<u8> {
    let files: &mut dyn Files = &mut world.files();
    files.read_all(path).unwrap()
}

fn journals_left(world: &SimWorld) -> usize {
    let listed = world.files().list(Path::new(DATA)).unwrap();
    listed.iter().filter(|entry| layout::parse_journal_file(&entry.name).is_some()).count()
}

fn end_of(redone: &Redone, writer: &Writer) -> Option<Offset> {
    redone.partitions.get(&writer.key).map(|partition| partition.end_offset)
}

/// The disk as power loss leaves it, with nothing that was not flushed.
fn barest(world: &SimWorld) -> SimDisk {
    world.moment().crash(CrashKind::PowerLoss, Survivors::Nothing, 0)
}

fn started_on(disk: &SimDisk) -> SimWorld {
    SimWorld::on(1, SimOptions::default(), disk.clone())
}

#[test]
fn groups_survive_power_loss_and_are_put_into_segments() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, SMALL);
        let mut writers = [1, 2].map(|number| Writer::new(&mut bench.world.files(), number));
        for round in 0..10 {
            writers[round % 2].append(&mut bench, 100 * round);
        }
        bench.lose_power();
        let redone = redo(&bench.world).unwrap();
        assert_eq!((redone.journals, redone.groups), (1, 10));
        bench.lose_power();
        for writer in &writers {
            writer.assert_there(&mut bench.world.files());
            assert_eq!(end_of(&redone, writer), Some(10));
        }
        assert_eq!(journals_left(&bench.world), 0);
        assert_eq!(bench.world.open_files(), 0, "files are left open");
    }
}

#[test]
fn a_group_counts_only_when_the_device_has_it() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, SMALL);
        let mut writer = Writer::new(&mut bench.world.files(), 1);
        for round in 0..10 {
            writer.append(&mut bench, 500 * round);
            // In the worst case: nothing is there that was not flushed.
            let redone = redo(&started_on(&barest(&bench.world))).unwrap();
            assert_eq!(end_of(&redone, &writer), Some(writer.next), "seed {seed}, group {round}");
        }
    }
}

#[test]
fn a_torn_last_group_does_not_count_and_those_before_do() {
    for seed in 0..60 {
        let mut bench = Bench::new(seed, SMALL);
        let mut writer = Writer::new(&mut bench.world.files(), 1);
        (0..4).for_each(|_| writer.append(&mut bench, 700));
        let acknowledged = writer.segments.clone();
        // Two on their way: any part of them may be there.
        for _ in 0..2 {
            let (place, bytes) = writer.batch(9_000);
            bench.send(&writer.record(Entry::Append { place, bytes: &bytes }));
        }
        for _ in 0..seed % 4 {
            bench.world.advance_to_next_event();
        }
        bench.lose_power();
        let redone = redo(&bench.world).unwrap();
        assert!((4..=6).contains(&redone.groups), "{} groups", redone.groups);
        let found = read(&bench.world, &writer.path(0));
        assert!(found.starts_with(&acknowledged[&0]) && writer.segments[&0].starts_with(&found));
        assert_eq!(end_of(&redone, &writer), Some(redone.groups as Offset * 2));
    }
}

#[test]
fn nothing_is_durable_before_the_group_in_front_of_it() {
    let mut bench = Bench::new(1, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    for slot in [3, 4] {
        let (place, bytes) = writer.batch(10);
        assert!(bench.journal.has_room(bytes.len()));
        bench.journal.append(Some(LogSlot(slot)), &writer.record(Entry::Append { place, bytes: &bytes }));
        assert!(bench.journal.commit(&mut bench.io, token));
    }
    assert!(!bench.journal.has_room(10), "two are in flight");
    assert_eq!(bench.complete(2, Outcome::Done).unwrap().groups, Vec::<Vec<LogSlot>>::new());
    let both = bench.complete(1, Outcome::Done).unwrap();
    assert_eq!(both.groups, [[LogSlot(3)], [LogSlot(4)]]);
    assert!(bench.journal.is_quiet() && bench.journal.has_room(10));
}

#[test]
fn a_failed_group_is_told_with_its_path_and_what_is_behind_it_never_counts() {
    let mut bench = Bench::new(1, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    for _ in 0..2 {
        let (place, bytes) = writer.batch(10);
        bench.send(&writer.record(Entry::Append { place, bytes: &bytes }));
    }
    let error = std::io::Error::from_raw_os_error(libc::EIO);
    let failed = bench.complete(1, Outcome::Failed(error)).unwrap_err();
    assert_eq!(&*failed.path, bench.path());
    assert!(bench.complete(2, Outcome::Done).unwrap().groups.is_empty());
}

#[test]
fn a_rejected_group_goes_out_with_the_next_try() {
    let mut bench = Bench::new(1, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    bench.world.set_faults(Faults { rejection: 1_000_000, ..Faults::default() });
    let (place, bytes) = writer.batch(10);
    bench.journal.append(Some(LogSlot(0)), &writer.record(Entry::Append { place, bytes: &bytes }));
    assert!(!bench.journal.commit(&mut bench.io, token));
    assert!(bench.journal.is_busy() && !bench.journal.is_quiet());
    bench.world.set_faults(Faults::default());
    assert!(bench.journal.commit(&mut bench.io, token));
    let (sequence, outcome) = bench.next_end();
    assert_eq!(bench.complete(sequence, outcome).unwrap().groups, [[LogSlot(0)]]);
}

#[test]
fn groups_of_an_earlier_lap_are_not_carried_out() {
    let mut bench = Bench::new(3, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    for round in 0..60 {
        writer.append(&mut bench, 4_000);
        if round % 5 == 4 {
            // The log was cut and written anew: what the journal released is no longer what the segment holds.
            bench.checkpoint();
            (writer.next, writer.segments) = (0, BTreeMap::from([(0, Vec::new())]));
            writer.leader_epoch = LeaderEpoch(writer.leader_epoch.0 + 1);
        }
    }
    (0..3).for_each(|_| writer.append(&mut bench, 50));
    assert!(bench.journal.next_sequence() > 2 * bench.journal.capacity_bytes() / 16_384, "it never wrapped");
    bench.lose_power();
    let redone = redo(&bench.world).unwrap();
    // The one that tells of the checkpoint, and what came after it.
    assert_eq!(redone.groups, 4);
    assert_eq!(end_of(&redone, &writer), Some(6));
    writer.assert_there(&mut bench.world.files());
}

#[test]
fn redo_again_changes_nothing() {
    let mut bench = Bench::new(5, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    for round in 0..12 {
        writer.append(&mut bench, 300 * round);
        if round % 5 == 4 {
            writer.roll();
        }
    }
    let files = &mut bench.world.files();
    let journal = read(&bench.world, &bench.path());
    let first = redo(&bench.world).unwrap();
    writer.assert_there(files);
    let file = files.open(&bench.path(), OpenMode::Truncate).unwrap();
    files.write_at(file, 0, &journal).unwrap();
    let second = redo(&bench.world).unwrap();
    writer.assert_there(files);
    assert_eq!(first, second);
}

#[test]
fn redo_that_was_cut_off_is_done_again() {
    let mut bench = Bench::new(6, SMALL);
    let mut writers: Vec<Writer> =
        (1..=20).map(|number| Writer::new(&mut bench.world.files(), number)).collect();
    for (round, writer) in writers.iter_mut().enumerate() {
        writer.append(&mut bench, 10 * round);
        writer.roll();
        writer.append(&mut bench, 700);
    }
    let start = |record: &Writer| record.record(Entry::LogStart { offset: 1 });
    bench.put(&start(&writers[3]));
    let disk = barest(&bench.world);
    for nth in 1.. {
        let world = started_on(&disk);
        world.arm_crash(CrashKind::PowerLoss, nth);
        let result = redo(&world);
        world.disarm_crash();
        if !world.crashed() {
            result.unwrap();
            assert!(nth > 100, "only {nth} operations were cut off");
            break;
        }
        world.restart();
        redo(&world).unwrap();
        world.crash(CrashKind::PowerLoss);
        world.restart();
        for writer in &writers {
            writer.assert_there(&mut world.files());
        }
        let starts = read_offsets(&mut world.files(), &path_of(layout::LOG_STARTS)).unwrap();
        assert_eq!(starts.get(&writers[3].at), Some(&1), "cut off at operation {nth}");
    }
}

#[test]
fn a_partition_that_is_gone_or_another_topics_is_left_alone() {
    let mut bench = Bench::new(7, SMALL);
    let mut writers = [1, 2, 3].map(|number| Writer::new(&mut bench.world.files(), number));
    writers.iter_mut().for_each(|writer| writer.append(&mut bench, 10));
    let files = &mut bench.world.files();
    files.remove_directory(&writers[0].folder()).unwrap();
    files.remove_directory(&writers[1].folder()).unwrap();
    writers[1].make_folder(files, Uuid([99; 16]));
    let redone = redo(&bench.world).unwrap();
    assert_eq!(files.kind(&writers[0].folder()).unwrap(), None);
    assert_eq!(read(&bench.world, &writers[1].path(0)), b"");
    writers[2].assert_there(files);
    // Should anybody know them still: their folders were there, or nothing of them would be in a journal.
    let is_lost = |writer: &Writer| match &redone.partitions[&writer.key].damaged {
        Some(damaged) => damaged.damage == Damage::Folder,
        None => false,
    };
    assert_eq!(writers.each_ref().map(is_lost), [true, true, false]);
}

#[test]
fn a_deleted_partition_gets_nothing() {
    let mut bench = Bench::new(7, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    writer.append(&mut bench, 10);
    bench.put(&writer.record(Entry::Delete));
    let redone = redo(&bench.world).unwrap();
    assert_eq!(redone.partitions, BTreeMap::new());
    assert_eq!(read(&bench.world, &writer.path(0)), b"");
}

#[test]
fn segments_of_deleted_records_do_not_come_back_and_others_get_all_their_bytes() {
    let mut bench = Bench::new(8, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    for _ in 0..3 {
        (0..3).for_each(|_| writer.append(&mut bench, 100));
        writer.roll();
    }
    // Segments at 0, 6 and 12; the records below 8 are deleted, the first segment with them.
    bench.put(&writer.record(Entry::LogStart { offset: 8 }));
    let files = &mut bench.world.files();
    files.remove_file(&writer.path(0)).unwrap();
    let redone = redo(&bench.world).unwrap();
    assert!(!writer.is_there(files, 0), "a segment of deleted records came back");
    writer.segments.remove(&0);
    writer.assert_there(files);
    assert_eq!(end_of(&redone, &writer), Some(18));
    let starts = read_offsets(files, &path_of(layout::LOG_STARTS)).unwrap();
    assert_eq!(starts.get(&writer.at), Some(&8));
}

#[test]
fn a_log_start_that_is_known_already_never_goes_back() {
    let mut bench = Bench::new(8, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    (0..5).for_each(|_| writer.append(&mut bench, 100));
    let files: &mut dyn Files = &mut bench.world.files();
    let known = format!("0\n1\n{} 0 6\n", writer.at.topic);
    files.replace(&path_of(layout::LOG_STARTS), known.as_bytes()).unwrap();
    for offset in [4, 2] {
        bench.put(&writer.record(Entry::LogStart { offset }));
    }
    redo(&bench.world).unwrap();
    let starts = read_offsets(files, &path_of(layout::LOG_STARTS)).unwrap();
    assert_eq!(starts.get(&writer.at), Some(&6));
}

#[test]
fn a_segment_that_lost_its_name_is_made_again() {
    let mut bench = Bench::new(9, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    writer.append(&mut bench, 100);
    writer.roll();
    writer.append(&mut bench, 100);
    assert!(!writer.is_there(&mut bench.world.files(), 2));
    redo(&bench.world).unwrap();
    bench.lose_power();
    writer.assert_there(&mut bench.world.files());
}

#[test]
fn a_truncation_cuts_what_was_appended_before_it_and_nothing_after() {
    let mut bench = Bench::new(10, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    (0..3).for_each(|_| writer.append(&mut bench, 100));
    let kept = writer.segments[&0].len() / 3 * 2;
    bench.put(&writer.record(Entry::Truncate { offset: 4 }));
    writer.next = 4;
    writer.segments.get_mut(&0).unwrap().truncate(kept);
    let without_more = barest(&bench.world);
    writer.leader_epoch = LeaderEpoch(1);
    let cut = writer.segments.clone();
    writer.append(&mut bench, 20);
    let redone = redo(&bench.world).unwrap();
    assert_eq!(end_of(&redone, &writer), Some(6));
    writer.assert_there(&mut bench.world.files());

    let world = started_on(&without_more);
    let redone = redo(&world).unwrap();
    assert_eq!(end_of(&redone, &writer), Some(4));
    writer.segments = cut;
    writer.assert_there(&mut world.files());
}

#[test]
fn a_truncation_inside_one_entry_keeps_its_first_batches() {
    let mut bench = Bench::new(10, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    let (first, kept) = writer.batch(100);
    let (last, dropped) = writer.batch(100);
    let place = Place { end_offset: last.end_offset, ..first };
    bench.put(&writer.record(Entry::Append { place, bytes: &[&kept[..], &dropped[..]].concat() }));
    // Recovery cuts whole batches: one that contains the offset goes.
    bench.put(&writer.record(Entry::Truncate { offset: 3 }));
    let redone = redo(&bench.world).unwrap();
    assert_eq!(end_of(&redone, &writer), Some(2));
    assert_eq!(read(&bench.world, &writer.path(0)), kept);
}

#[test]
fn between_two_journals_the_leader_epoch_decides() {
    // The partition moved from shard 1 to shard 0 and was cut by its new leader. The older journal has more groups, so the
    // numbers of groups say nothing.
    let mut bench = Bench::new(11, SMALL);
    let files = &mut bench.world.files();
    let older = Journal::create(files, Path::new(DATA), 1, 78, options(SMALL)).unwrap();
    let mut writer = Writer::new(files, 1);
    let newer = std::mem::replace(&mut bench.journal, older);
    (0..6).for_each(|_| writer.append(&mut bench, 100));
    bench.journal = newer;
    writer.leader_epoch = LeaderEpoch(1);
    bench.put(&writer.record(Entry::Truncate { offset: 8 }));
    let kept = writer.segments[&0].len() / 6 * 4;
    writer.next = 8;
    writer.segments.get_mut(&0).unwrap().truncate(kept);
    let redone = redo(&bench.world).unwrap();
    assert_eq!(redone.journals, 2);
    assert_eq!(end_of(&redone, &writer), Some(8));
    writer.assert_there(files);
}

#[test]
fn journals_of_shards_that_are_no_more_are_carried_out() {
    let mut bench = Bench::new(12, SMALL);
    let mut writers = Vec::new();
    for shard in 1..6 {
        let files = &mut bench.world.files();
        let journal = Journal::create(files, Path::new(DATA), shard, shard.into(), options(SMALL)).unwrap();
        std::mem::replace(&mut bench.journal, journal).close(files);
        let mut writer = Writer::new(files, shard as u8);
        writer.append(&mut bench, 100);
        writers.push(writer);
    }
    bench.lose_power();
    let redone = redo(&bench.world).unwrap();
    assert_eq!((redone.journals, redone.groups), (6, 5));
    writers.iter().for_each(|writer| writer.assert_there(&mut bench.world.files()));
    assert_eq!(journals_left(&bench.world), 0);
}

fn damage_of(result: Result<Redone, JournalError>) -> JournalDamage {
    match result {
        Err(JournalError::Damaged(damage)) => damage,
        other => panic!("{other:?} is no damage"),
    }
}

#[test]
fn damage_inside_the_chain_refuses_the_start_with_path_and_sequence() {
    let mut bench = Bench::new(13, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    (0..8).for_each(|_| writer.append(&mut bench, 100));
    let disk = barest(&bench.world);
    // Each group has one block, behind the header's.
    for sequence in 1..=7 {
        for byte in [0, 30, 70, 200] {
            let world = started_on(&disk);
            world.flip_bit(&bench.path(), sequence * BLOCK_BYTES as u64 + byte, 2).unwrap();
            let damage = damage_of(redo(&world));
            assert_eq!(damage.path, bench.path());
            assert_eq!(damage.kind, scan::JournalDamageKind::Missing { sequence, newest: 8 });
            assert!(damage.to_string().contains(&format!("{}: group {sequence} ", bench.path().display())));
            assert_eq!(journals_left(&world), 1, "a damaged journal stays");
            assert_eq!(world.open_files(), 0, "files are left open");
        }
    }
    // Nothing knows that the last one was durable: it ends like a torn one.
    let world = started_on(&disk);
    world.flip_bit(&bench.path(), 8 * BLOCK_BYTES as u64 + 70, 2).unwrap();
    assert_eq!(end_of(&redo(&world).unwrap(), &writer), Some(14));
    let world = started_on(&disk);
    world.flip_bit(&bench.path(), 9, 0).unwrap();
    assert_eq!(damage_of(redo(&world)).kind, scan::JournalDamageKind::Header);
}

#[test]
fn of_two_groups_in_flight_the_second_says_nothing_of_the_first() {
    let mut bench = Bench::new(13, SMALL);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    (0..4).for_each(|_| writer.append(&mut bench, 100));
    for _ in 0..2 {
        let (place, bytes) = writer.batch(100);
        bench.send(&writer.record(Entry::Append { place, bytes: &bytes }));
    }
    let mut ended = 0;
    while ended < 2 {
        ended += bench.next_committed().len();
    }
    let disk = barest(&bench.world);
    for (sequence, kept) in [(4, None), (5, Some(8)), (6, Some(10))] {
        let world = started_on(&disk);
        world.flip_bit(&bench.path(), sequence * BLOCK_BYTES as u64 + 70, 2).unwrap();
        match kept {
            Some(end) => assert_eq!(end_of(&redo(&world).unwrap(), &writer), Some(end)),
            None => {
                let kind = scan::JournalDamageKind::Missing { sequence, newest: 6 };
                assert_eq!(damage_of(redo(&world)).kind, kind);
            }
        }
    }
}

#[test]
fn extents_that_are_not_what_was_written_are_told() {
    let check = |damages: &dyn Fn(&SimWorld, &Writer), is_damaged: bool, end_offset| {
        let mut bench = Bench::new(14, SMALL);
        let mut writer = Writer::new(&mut bench.world.files(), 1);
        writer.append(&mut bench, 100);
        // Past the journal: to the segment, and flushed there.
        let (place, bytes) = writer.batch(300_000);
        let files = &mut bench.world.files();
        let file = files.open(&writer.path(0), OpenMode::Write).unwrap();
        files.write_at(file, place.position, &bytes).unwrap();
        files.sync(file).unwrap();
        let (length, crc) = (bytes.len() as u32, crate::record::crc32c(&bytes));
        bench.put(&writer.record(Entry::Extent { place, length, crc }));
        bench.lose_power();
        damages(&bench.world, &writer);
        let redone = redo(&bench.world).unwrap();
        let damage = Damage::Short { end_offset: 2, expected: 4 };
        let damaged = Damaged { path: writer.path(0), position: place.position, damage };
        let damaged = is_damaged.then_some(damaged);
        let expected = RedonePartition { end_offset, damaged };
        assert_eq!(redone.partitions[&writer.key], expected);
    };
    check(&|_, _| {}, false, 4);
    check(&|world, writer| world.flip_bit(&writer.path(0), 100_000, 3).unwrap(), true, 4);
    let cut = |world: &SimWorld, writer: &Writer| {
        let files = &mut world.files();
        let file = files.open(&writer.path(0), OpenMode::Write).unwrap();
        files.set_size(file, 200_000).unwrap();
        files.close(file);
    };
    check(&cut, true, 4);
    check(&|world, writer| world.files().remove_file(&writer.path(0)).unwrap(), true, 4);
}

#[test]
fn it_grows_in_steps_and_wraps_at_the_new_end() {
    let mut bench = Bench::new(15, 8 * FIRST_BYTES);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    let mut sizes = vec![bench.journal.capacity_bytes()];
    for _ in 0..40 {
        writer.append(&mut bench, 400_000);
        if let Some(growth) = bench.journal.grow() {
            let end = growth.run(&mut bench.world.files());
            bench.journal.grown(end).unwrap();
        }
        if bench.journal.capacity_bytes() != sizes[sizes.len() - 1] {
            sizes.push(bench.journal.capacity_bytes());
        }
    }
    let block = BLOCK_BYTES as u64;
    assert_eq!(sizes, [1, 4, 8].map(|times| times * FIRST_BYTES - block));
    bench.lose_power();
    let redone = redo(&bench.world).unwrap();
    assert_eq!(redone.groups, 40);
    writer.assert_there(&mut bench.world.files());
}

#[test]
fn without_space_to_grow_it_stays_as_it_is() {
    let mut bench = Bench::new(16, 4 * FIRST_BYTES);
    let mut writer = Writer::new(&mut bench.world.files(), 1);
    (0..3).for_each(|_| writer.append(&mut bench, 400_000));
    bench.world.set_quota(FIRST_BYTES + 64 * KIB);
    let growth = bench.journal.grow().expect("more than a quarter is used");
    let result = growth.run(&mut bench.world.files());
    assert!(result.as_ref().unwrap_err().is_no_space());
    bench.journal.grown(result).unwrap();
    assert!(bench.journal.grow().is_none(), "it is not tried again");
    assert_eq!(bench.journal.capacity_bytes(), FIRST_BYTES - BLOCK_BYTES as u64);
    while bench.journal.has_room(400_000) {
        let (place, bytes) = writer.batch(190_000);
        bench.put(&writer.record(Entry::Append { place, bytes: &bytes }));
    }
    bench.checkpoint();
    assert!(bench.journal.has_room(400_000));
}

#[test]
fn a_journal_that_was_not_finished_is_made_anew() {
    let disk = {
        let world = SimWorld::new(1, SimOptions::default());
        world.files().create_directory(Path::new(DATA)).unwrap();
        world.files().sync_directory(Path::new("/")).unwrap();
        barest(&world)
    };
    for nth in 1.. {
        let world = started_on(&disk);
        world.arm_crash(CrashKind::PowerLoss, nth);
        let made = Journal::create(&mut world.files(), Path::new(DATA), 0, 5, options(SMALL));
        world.disarm_crash();
        if !world.crashed() {
            made.unwrap();
            assert!(nth > 5, "only {nth} operations were cut off");
            break;
        }
        world.restart();
        assert_eq!(redo(&world).unwrap().groups, 0, "cut off at operation {nth}");
        Journal::create(&mut world.files(), Path::new(DATA), 0, 6, options(SMALL)).unwrap();
    }
}
