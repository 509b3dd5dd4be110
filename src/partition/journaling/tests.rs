//! A shard's journal under its partitions, on the model's disk: what is acknowledged is there after any crash.
//!
//! One record a batch, and each record says its offset, so what is found can be judged by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::{Durability, TopicConfig, WritePath};
use crate::log::journal::{JournalOptions, MappedJournal, redo_all};
use crate::log::layout::{self, FileSuffix};
use crate::log::{CheckpointBook, RecoveryInput, read_offsets, take_clean_shutdown};
use crate::metrics::{Distribution, JournalWait, Timing};
use crate::model::{LeaderEpoch, ShardId, TopicPartition, Uuid};
use crate::partition::{
    AppendOutcome, BrokerLogConfig, DataDirectory, DirectorySet, Failure, NewPartition, PartitionEvent,
    PartitionSetOptions, ScrubOptions, Waiter, open_at_boot,
};
use crate::reactor::OpenMode;
use crate::reactor::sim::{CrashKind, Delay, Faults, SimIo, SimOptions, SimWorld, Survivors, Turn};
use crate::record::{BatchBuilder, Batches, Records};

mod direct;
mod interval;
mod large;
mod recovery_points;

const DATA: &str = "/data";
const KIB: u64 = 1024;
const BYPASS: u64 = 40 * KIB;
/// Of topics that are flushed now and then.
const FLUSH_MS: u64 = 50;
const DIRECTORY: DirectoryIndex = DirectorySet::METADATA;

/// How a machine is set up.
#[derive(Clone, Copy)]
struct Setup {
    topics: u8,
    journal_bytes: u64,
    memory_bytes: u64,
    segment_bytes: u64,
    durability: Durability,
    write_path: WritePath,
    flush_messages: Option<u64>,
    /// There is a mapped journal too.
    is_mapped: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            topics: 3,
            journal_bytes: 256 * KIB,
            memory_bytes: 1024 * KIB,
            segment_bytes: 1 << 30,
            durability: Durability::Fsync,
            write_path: WritePath::Auto,
            flush_messages: None,
            is_mapped: true,
        }
    }
}

impl Setup {
    fn topic_config(&self) -> TopicConfig {
        TopicConfig {
            durability: self.durability,
            flush_ms: (self.durability == Durability::Interval).then_some(FLUSH_MS),
            flush_messages: self.flush_messages,
            write_path: self.write_path,
            segment_bytes: self.segment_bytes,
            ..TopicConfig::default()
        }
    }

    fn partition(&self, topic: u8) -> NewPartition {
        NewPartition {
            at: TopicPartition::new(format!("t{topic}"), 0),
            topic_id: Uuid([topic + 1; 16]),
            directory: Uuid::ZERO,
            leader_epoch: LeaderEpoch(0),
            config: Arc::new(self.topic_config()),
            is_internal: false,
        }
    }
}

fn broker() -> BrokerLogConfig {
    BrokerLogConfig { producer_id_expiration_ms: 1000, journal_bypass_bytes: BYPASS }
}

mod mapped;

/// The machine stopped.
#[derive(Debug)]
struct Crashed;

struct Bench {
    setup: Setup,
    world: SimWorld,
    io: SimIo,
    set: PartitionSet,
    replicas: Vec<ReplicaIndex>,
    /// Records appended to each topic.
    appended: Vec<Offset>,
    /// The highest committed offset of each topic that anybody could have seen.
    acknowledged: Vec<Offset>,
    /// Of those, what power loss must not take.
    promised: Vec<Offset>,
    /// From which offset on an acknowledgement promises that, if it does.
    promises_from: Vec<Option<Offset>>,
    failures: usize,
    /// The journal had so much in memory, or in use, at some time.
    pinned_max: u64,
    used_max: u64,
}

/// What a crash left of a topic: log start and log end.
type Found = Vec<(Offset, Offset)>;

fn value_of(offset: Offset, bytes: usize) -> Vec<u8> {
    let mut value = offset.to_be_bytes().to_vec();
    value.resize(bytes.max(8), offset as u8);
    value
}

impl Bench {
    fn new(seed: u64, setup: Setup) -> Bench {
        Bench::with_options(seed, setup, SimOptions::default())
    }

    fn with_options(seed: u64, setup: Setup, options: SimOptions) -> Bench {
        let options = SimOptions { written_once: &[".log", layout::NEXT_SEGMENT], ..options };
        let world = SimWorld::new(seed, options);
        world.files().create_directory(Path::new(DATA)).unwrap();
        world.files().sync_directory(Path::new("/")).unwrap();
        Bench::start(world, setup, "a new machine").expect("nothing stops it")
    }

    fn start(world: SimWorld, setup: Setup, what: &str) -> Result<Bench, Crashed> {
        match Bench::try_start(world.clone(), setup) {
            Ok(bench) => Ok(bench),
            Err(_) if world.crashed() => Err(Crashed),
            Err(error) => panic!("{what}: a start fails: {error}"),
        }
    }

    /// A start as the broker does it: journals, logs, journal. Errors: as an operator is told.
    fn try_start(world: SimWorld, setup: Setup) -> Result<Bench, String> {
        let files = &mut world.files();
        let data = Path::new(DATA);
        let redone = redo_all(files, data, &mut |_| {}).map_err(|error| error.to_string())?;
        let was_clean = take_clean_shutdown(files, data).map_err(|error| error.to_string())?;
        let was_clean = was_clean && redone.groups == 0;
        let book = CheckpointBook::load(files, data).map_err(|error| error.to_string())?;
        let book = Arc::new(book);
        let directory = DataDirectory::new(data.into(), Uuid([9; 16]), Arc::clone(&book), was_clean);
        let mut set = PartitionSet::new(PartitionSetOptions {
            directories: Arc::new(DirectorySet::of_one(directory)),
            broker: broker(),
            tail_cache_bytes: 1 << 20,
            old_files_max: 4,
            fetch_read_bytes_max: 16 << 20,
            scrub: ScrubOptions { bytes_per_second: 0, interval: Duration::ZERO },
        });
        let mut replicas = Vec::new();
        for topic in 0..setup.topics {
            let new = setup.partition(topic);
            let (recovery_point, log_start) = book.adopt(&new.at, new.topic_id);
            let key = PartitionKey { topic_id: new.topic_id, partition: 0 };
            let redone = redone.partitions.get(&key).cloned().unwrap_or_default();
            assert_eq!(redone.damaged, None);
            let journaled_end = redone.end_offset;
            let input = RecoveryInput { recovery_point, log_start, journaled_end, is_clean: was_clean };
            let (log, _) = open_at_boot(files, data, &book, &new, broker(), &input, 2_000, &mut |_| {})
                .map_err(|error| error.to_string())?;
            replicas.push(set.insert(new, log));
        }
        book.flush(files).map_err(|error| error.to_string())?;
        let options = JournalOptions { size_bytes_max: setup.journal_bytes, has_fua: false };
        let id = world.file_operations();
        let journal = Journal::create(files, data, 0, id, options).map_err(|error| error.to_string())?;
        let sync_file = files.open(journal.path(), OpenMode::Read).map_err(|error| error.to_string())?;
        set.use_journal(DIRECTORY, journal, sync_file, setup.memory_bytes);
        if setup.is_mapped {
            let mapped = MappedJournal::create(files, data, 0, id, setup.journal_bytes);
            set.use_mapped_journal(DIRECTORY, mapped.map_err(|error| error.to_string())?);
        }
        let appended: Vec<Offset> =
            replicas.iter().map(|index| set.get(*index).log().log_end_offset()).collect();
        let io = world.io(ShardId(0));
        let acknowledged = appended.clone();
        let is_fsync = setup.durability == Durability::Fsync;
        let promises_from = appended.iter().map(|end| is_fsync.then_some(*end)).collect();
        Ok(Bench {
            promised: acknowledged.clone(),
            promises_from,
            setup,
            world,
            io,
            set,
            replicas,
            appended,
            acknowledged,
            failures: 0,
            pinned_max: 0,
            used_max: 0,
        })
    }

    fn batch(&self, topic: usize, value_bytes: usize) -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.push(1_000, None, Some(&value_of(self.appended[topic], value_bytes)));
        builder.finish(0, LeaderEpoch(-1))
    }

    fn append(&mut self, topic: usize, value_bytes: usize) {
        let batch = self.batch(topic, value_bytes);
        let now = Now::read(&self.io);
        let outcome = self.set.append_own(self.replicas[topic], &batch, Waiter::Nobody, now);
        assert!(!matches!(outcome, AppendOutcome::Refused { .. }), "{outcome:?}");
        self.appended[topic] += 1;
    }

    fn log(&self, topic: usize) -> &crate::log::Log {
        self.set.get(self.replicas[topic]).log()
    }

    /// One round, and whatever happens until the next one.
    fn turn(&mut self) -> Result<(), Crashed> {
        self.set.drive(&mut self.io);
        if self.set.has_events() && !self.world.crashed() {
            // The mapped journal has taken something: nobody waits for more.
            self.reap();
            return Ok(());
        }
        self.io.wait(self.set.next_deadline().unwrap_or(Monotonic::NEVER));
        match self.world.next_turn(Monotonic::NEVER) {
            Turn::Shard(_) => {}
            Turn::Crashed => return Err(Crashed),
            turn => panic!("{turn:?}: the set waits for nothing"),
        }
        self.reap();
        Ok(())
    }

    fn reap(&mut self) {
        let now = self.io.now();
        self.set.fire_timers(now);
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            self.set.complete(&mut self.io, completion, now);
        }
        for event in self.set.take_events() {
            match event {
                PartitionEvent::DirectoryOffline { .. } => self.failures += 1,
                PartitionEvent::Failed { failure: Failure::Storage, .. } => {}
                PartitionEvent::Failed { failure, .. } => panic!("{failure:?}"),
                _ => {}
            }
        }
        for (topic, index) in self.replicas.iter().enumerate() {
            if self.failures == 0 {
                let committed = self.set.get(*index).high_watermark();
                assert!(committed >= self.acknowledged[topic], "acknowledged goes back");
                self.acknowledged[topic] = committed;
                if self.promises_from[topic].is_some_and(|from| committed > from) {
                    self.promised[topic] = committed;
                }
                // Whatever was promised before: the log says that it is there.
                let flushed = self.set.get(*index).log().file_flushed_offset();
                self.promised[topic] = self.promised[topic].max(flushed.min(committed));
            }
        }
        let numbers = self.set.journal_numbers();
        self.pinned_max = self.pinned_max.max(numbers.pinned_bytes);
        self.used_max = self.used_max.max(numbers.used_bytes);
    }

    /// As `turn`, and no later than `until`. False: that time is here.
    fn turn_until(&mut self, until: Monotonic) -> bool {
        self.set.drive(&mut self.io);
        self.io.wait(until);
        match self.world.next_turn(until) {
            Turn::Shard(_) => self.reap(),
            Turn::Idle => return false,
            turn => panic!("{turn:?}"),
        }
        self.world.now() < until
    }

    /// Runs until everything appended is acknowledged.
    fn settle(&mut self) -> Result<(), Crashed> {
        while self.acknowledged != self.appended {
            self.turn()?;
        }
        Ok(())
    }

    /// Runs until nothing is in flight.
    fn quiesce(&mut self) -> Result<(), Crashed> {
        self.settle()?;
        loop {
            self.set.drive(&mut self.io);
            if self.world.crashed() {
                return Err(Crashed);
            }
            if self.set.is_quiet() {
                return Ok(());
            }
            self.turn()?;
        }
    }

    fn set_path(&mut self, topic: usize, durability: Durability, write_path: WritePath) {
        let config = Setup { durability, write_path, ..self.setup }.topic_config();
        match durability {
            Durability::Fsync => _ = self.promises_from[topic].get_or_insert(self.appended[topic]),
            _ => self.promises_from[topic] = None,
        }
        self.set.set_config(self.replicas[topic], Arc::new(config));
    }

    fn numbers(&mut self) -> JournalNumbers {
        self.set.journal_numbers()
    }

    /// Begins a checkpoint now and runs until it is told, durably.
    fn checkpoint(&mut self) -> Result<(), Crashed> {
        let before = self.numbers().counts.checkpoints;
        self.set.checkpoint_journals();
        while self.numbers().counts.checkpoints == before {
            self.turn()?;
        }
        self.quiesce()
    }

    /// Everything acknowledged is there, in order, and nothing else.
    fn assert_found(&self, world: SimWorld, kind: CrashKind, what: &str) -> Found {
        let kept = match kind {
            CrashKind::PowerLoss => &self.promised,
            CrashKind::ProcessKill => &self.acknowledged,
        };
        let found = match Bench::start(world.clone(), self.setup, what) {
            Ok(bench) => bench,
            Err(Crashed) => panic!("{what}: no crash is armed"),
        };
        let mut all = Found::new();
        for (topic, kept) in kept.iter().enumerate() {
            let log = found.log(topic);
            let (start, end) = (log.log_start_offset(), log.log_end_offset());
            assert!(end >= *kept, "{what}: topic {topic} ends at {end}, {kept} acknowledged");
            assert!(end <= self.appended[topic], "{what}: topic {topic} has what was never appended");
            assert_records(&world, log.directory(), start, end, what);
            all.push((start, end));
        }
        all
    }

    fn assert_survives(&self, kind: CrashKind, what: &str) -> Found {
        self.world.crash(kind);
        self.world.restart();
        self.assert_found(self.world.clone(), kind, what)
    }

    /// A machine that starts now on what power loss leaves in the worst case.
    fn assert_survives_worst(&self, what: &str) -> Found {
        let disk = self.world.moment().crash(CrashKind::PowerLoss, Survivors::Nothing, 0);
        self.assert_found(SimWorld::on(2, SimOptions::default(), disk), CrashKind::PowerLoss, what)
    }
}

/// The segments hold the records from `start` to `end`.
fn assert_records(world: &SimWorld, folder: &Path, start: Offset, end: Offset, what: &str) {
    let files: &mut dyn Files = &mut world.files();
    let names = files.list(folder).unwrap();
    let parsed = names.iter().filter_map(|entry| layout::parse_offset_file(&entry.name));
    let mut bases: Vec<Offset> =
        parsed.filter(|(_, suffix)| *suffix == FileSuffix::Log).map(|(base, _)| base).collect();
    bases.sort_unstable();
    let mut next = bases[0];
    assert!(next <= start, "{what}: {folder:?} begins at {next}, not {start}");
    for base in bases {
        let bytes = files.read_all(&layout::offset_file(folder, base, FileSuffix::Log)).unwrap();
        for batch in Batches::new(&bytes) {
            let batch = batch.unwrap();
            assert_eq!(batch.base_offset(), next, "{what}: {folder:?}");
            batch.check_crc().unwrap();
            let record = Records::new(batch.records(), 1).next().unwrap().unwrap();
            let value = record.value.unwrap();
            assert_eq!(value, value_of(next, value.len()), "{what}: {folder:?} at {next}");
            next += 1;
        }
    }
    assert_eq!(next, end, "{what}: {folder:?}");
}

#[test]
fn what_is_acknowledged_survives_power_loss_though_no_segment_was_flushed() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, Setup::default());
        for round in 0..30 {
            bench.append(round % 3, 20 * (round + seed as usize));
            if round % 4 == 3 {
                bench.turn().unwrap();
            }
        }
        bench.settle().unwrap();
        let numbers = bench.numbers();
        assert!(numbers.counts.groups > 0 && numbers.counts.entries >= numbers.counts.groups);
        assert_eq!(bench.log(0).file_flushed_offset(), 0);
        let found = bench.assert_survives(CrashKind::PowerLoss, "power loss");
        assert_eq!(found, [(0, 10); 3]);
    }
}

#[test]
fn one_group_takes_the_batches_of_all_partitions() {
    let mut bench = Bench::new(1, Setup { topics: 40, ..Setup::default() });
    bench.turn().unwrap();
    (0..40).for_each(|topic| bench.append(topic, 100));
    bench.settle().unwrap();
    // The first appends may wait for space in their segments, one by one.
    let before = bench.numbers().counts;
    (0..40).for_each(|topic| bench.append(topic, 100));
    bench.settle().unwrap();
    let after = bench.numbers().counts;
    assert_eq!((after.groups - before.groups, after.entries - before.entries), (1, 40));
}

/// Appends of all sizes to three topics until the journal has wrapped several times.
fn busy(bench: &mut Bench, rounds: usize) -> Result<(), Crashed> {
    for round in 0..rounds {
        for (topic, size) in [(0, 3_000), (1, 200), (2, 9_000)] {
            // Every tenth is larger than what the journal takes of one log at a time.
            let is_large = (round + topic) % 10 == 9;
            bench.append(topic, if is_large { 2 * BYPASS as usize } else { size * (1 + round % 3) });
        }
        bench.turn()?;
        if round % 4 == 3 {
            bench.settle()?;
        }
    }
    bench.settle()
}

fn crash_everywhere(kind: CrashKind, setup: Setup, stride: u64, work: fn(&mut Bench) -> Result<(), Crashed>) {
    let mut whole = Bench::new(1, setup);
    let before = whole.world.file_operations();
    work(&mut whole).expect("no crash is armed");
    let operations = whole.world.file_operations() - before;
    assert!(operations > 4 * stride, "{operations} file operations are not many");
    let mut nth = 1;
    while nth <= operations {
        let mut bench = Bench::new(1, setup);
        bench.world.arm_crash(kind, nth);
        work(&mut bench).expect_err("it stops in the middle");
        bench.world.restart();
        bench.assert_found(bench.world.clone(), kind, &format!("operation {nth} of {operations}"));
        nth += stride;
    }
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_acknowledged() {
    let work = |bench: &mut Bench| busy(bench, 60);
    let mut bench = Bench::new(1, Setup::default());
    work(&mut bench).unwrap();
    let numbers = bench.numbers();
    assert!(numbers.counts.written_bytes > 3 * numbers.capacity_bytes, "it wrapped: {numbers:?}");
    assert!(numbers.counts.checkpoints > 3, "{numbers:?}");
    crash_everywhere(CrashKind::PowerLoss, Setup::default(), 13, work);
    crash_everywhere(CrashKind::ProcessKill, Setup::default(), 61, work);
}

#[test]
fn a_crash_at_any_operation_around_rolls_keeps_what_was_acknowledged() {
    let setup = Setup { segment_bytes: 100 * KIB, ..Setup::default() };
    crash_everywhere(CrashKind::PowerLoss, setup, 17, |bench| busy(bench, 40));
}

#[test]
fn a_checkpoint_releases_nothing_that_is_not_on_the_device() {
    let mut bench = Bench::new(1, Setup::default());
    (0..3).for_each(|topic| bench.append(topic, 5_000));
    bench.quiesce().unwrap();
    bench.checkpoint().unwrap();
    assert!(bench.numbers().used_bytes <= 4096, "all but the group that tells of it is released");
    // Nothing that was not flushed survives, and the journal has nothing to give.
    assert_eq!(bench.assert_survives_worst("after a checkpoint"), [(0, 1); 3]);
}

#[test]
fn many_logs_are_flushed_by_one_sync_of_the_file_system() {
    let mut bench = Bench::new(1, Setup { topics: 40, ..Setup::default() });
    (0..40).for_each(|topic| bench.append(topic, 500));
    bench.quiesce().unwrap();
    bench.checkpoint().unwrap();
    assert_eq!(bench.assert_survives_worst("after a checkpoint"), [(0, 1); 40]);
}

#[test]
fn a_failed_write_or_flush_ends_every_log_of_the_directory() {
    let all = 1_000_000;
    for faults in
        [Faults { sync_error: all, ..Faults::default() }, Faults { write_error: all, ..Faults::default() }]
    {
        let mut bench = Bench::new(3, Setup::default());
        (0..3).for_each(|topic| bench.append(topic, 500));
        bench.settle().unwrap();
        // One group is on its way without a fault, as a topic may be that nothing of is in the failing group.
        bench.append(0, 500);
        bench.world.set_faults(faults);
        while bench.failures == 0 {
            bench.turn().unwrap();
        }
        bench.world.set_faults(Faults::default());
        for topic in 0..3 {
            assert!(bench.set.offline(Uuid([topic + 1; 16]), 0).is_some(), "topic {topic} goes on");
        }
        for _ in 0..100 {
            bench.set.drive(&mut bench.io);
            if bench.world.advance_to_next_event().is_none() {
                break;
            }
            bench.reap();
        }
        assert!(bench.set.is_quiet(), "a stop waits for the failed journal for ever");
        let note = Path::new(DATA).join(layout::STORAGE_FAILED);
        assert!(
            bench.world.files().kind(&note).unwrap().is_some(),
            "the next start must not trust the page cache"
        );
        bench.set.close_all(&mut bench.io);
        let found = bench.assert_survives(CrashKind::PowerLoss, "a failed directory");
        assert!(found[1..].iter().all(|found| *found == (0, 1)));
    }
}

#[test]
fn a_large_group_between_small_ones_keeps_order_and_is_flushed_itself() {
    for seed in 0..10 {
        let mut bench = Bench::new(seed, Setup { topics: 2, ..Setup::default() });
        bench.append(0, 100);
        bench.append(1, 100);
        bench.settle().unwrap();
        for _ in 0..3 {
            bench.append(0, 200);
            bench.turn().unwrap();
            bench.append(0, 2 * BYPASS as usize);
            bench.append(1, 300);
            bench.turn().unwrap();
            bench.append(0, 200);
            while bench.acknowledged != bench.appended {
                bench.turn().unwrap();
                bench.assert_survives_worst("around a bypass");
            }
        }
        let entries = bench.numbers().counts.entries;
        assert!((7..=16).contains(&entries), "{entries} entries: the large ones are not among them");
    }
}

#[test]
fn what_comes_behind_a_bypass_in_flight_waits_for_it() {
    // With `auto` a log that begins with large groups has none of them past its journal: it is direct.
    let setup = Setup { topics: 1, write_path: WritePath::Journal, ..Setup::default() };
    for seed in 0..10 {
        let mut bench = Bench::new(seed, setup);
        // Until there are zeros ahead for more than one of them.
        for _ in 0..6 {
            bench.append(0, 2 * BYPASS as usize);
            bench.settle().unwrap();
        }
        for _ in 0..5 {
            bench.append(0, 2 * BYPASS as usize);
            bench.set.drive(&mut bench.io);
            let before = bench.acknowledged[0];
            bench.append(0, 200);
            while bench.acknowledged != bench.appended {
                bench.turn().unwrap();
                assert_eq!(bench.failures, 0);
                bench.assert_survives_worst("behind a bypass");
            }
            assert_eq!(bench.acknowledged[0], before + 2);
            bench.quiesce().unwrap();
        }
    }
}

/// Found by crash points (journal, seed 1, point 3010): a start took what was lost with the file's name for damage.
#[test]
fn a_bypass_is_remembered_once_the_name_of_its_file_lasts() {
    let setup =
        Setup { topics: 2, segment_bytes: 5 * BYPASS, write_path: WritePath::Journal, ..Setup::default() };
    // Bytes are flushed long before the folder is.
    let options = SimOptions {
        sync: Delay::micros(50, 100),
        job: Delay::micros(10_000, 20_000),
        ..SimOptions::default()
    };
    for seed in 0..5 {
        let mut bench = Bench::with_options(seed, setup, options);
        for large in 0..8 {
            bench.append(0, 200);
            bench.append(0, 2 * BYPASS as usize);
            while bench.acknowledged[0] != bench.appended[0] {
                // Its group would bring the memory of it.
                bench.append(1, 100);
                bench.turn().unwrap();
                assert_eq!(bench.failures, 0);
                bench.assert_survives_worst(&format!("seed {seed}, bypass {large}"));
            }
        }
    }
}

#[test]
fn a_full_journal_makes_appends_wait_and_goes_on_after_the_checkpoint() {
    let setup = Setup { topics: 12, ..Setup::default() };
    let mut bench = Bench::new(1, setup);
    for _ in 0..12 {
        (0..12).for_each(|topic| bench.append(topic, 9_000));
        bench.settle().unwrap();
    }
    bench.quiesce().unwrap();
    let numbers = bench.numbers();
    assert!(numbers.waits > 0 && numbers.waited > Duration::ZERO, "{numbers:?}");
    assert!(numbers.counts.checkpoints > 2, "{numbers:?}");
    assert!(bench.used_max <= numbers.capacity_bytes);
    let found = bench.assert_survives(CrashKind::PowerLoss, "after waits");
    assert_eq!(found, [(0, 12); 12]);
}

#[test]
fn journaled_bytes_in_memory_are_bounded_and_commits_go_on_after_stores() {
    let setup = Setup { topics: 12, journal_bytes: 4096 * KIB, memory_bytes: 64 * KIB, ..Setup::default() };
    let mut bench = Bench::new(1, setup);
    for _ in 0..12 {
        (0..12).for_each(|topic| bench.append(topic, 9_000));
        bench.settle().unwrap();
    }
    bench.quiesce().unwrap();
    let numbers = bench.numbers();
    // What one round brings may come on top: 12 batches of 9 kB in each of two groups.
    assert!(waits_for(&bench, JournalWait::Memory) > 0 && waits_for(&bench, JournalWait::Ring) == 0);
    assert!(bench.pinned_max <= 64 * KIB + 2 * 12 * 9_200, "{} bytes in memory", bench.pinned_max);
    assert!(numbers.waits > 0 && numbers.waited > Duration::ZERO, "{numbers:?}");
    assert!(numbers.pinned_bytes <= 64 * KIB, "{numbers:?}");
}

/// Milliseconds of load: in each, `bytes` in records of 4 KiB over all topics, unless more than `backlog` records of a topic
/// wait already.
fn load(bench: &mut Bench, milliseconds: u64, bytes: u64, backlog: Offset) -> u64 {
    const RECORD: u64 = 4 * KIB;
    let (begin, mut due, mut topic) = (bench.world.now(), 0, 0);
    let before: Offset = bench.acknowledged.iter().sum();
    for tick in 1..=milliseconds {
        due += bytes;
        let mut refused = 0;
        while due >= RECORD && refused < bench.replicas.len() {
            topic = (topic + 1) % bench.replicas.len();
            if bench.appended[topic] - bench.acknowledged[topic] < backlog {
                bench.append(topic, RECORD as usize - 80);
                due -= RECORD;
                refused = 0;
            } else {
                refused += 1;
            }
        }
        while bench.turn_until(begin + Duration::from_millis(tick)) {}
    }
    (bench.acknowledged.iter().sum::<Offset>() - before) as u64 * RECORD
}

/// How often batches have waited for this cause.
fn waits_for(bench: &Bench, cause: JournalWait) -> u64 {
    Distribution::of([bench.set.journal_waits.meter.histograms().wait(cause)]).count()
}

#[test]
fn at_four_fifths_of_what_checkpoints_drain_nothing_waits_and_above_it_the_waits_are_told() {
    let options = SimOptions {
        write: Delay::micros(1_000, 5_000),
        sync: Delay::micros(5_000, 20_000),
        ..SimOptions::default()
    };
    let setup = Setup { topics: 16, journal_bytes: 4096 * KIB, memory_bytes: 4096 * KIB, ..Setup::default() };
    // Of a seed whose full load waits and whose disk does not stall for longer than the journal lasts.
    let mut bench = Bench::with_options(7, setup, options);
    load(&mut bench, 50, 4096, 8);
    let drained = load(&mut bench, 400, 4096 * KIB, 8);
    assert!(bench.numbers().waits > 0, "{drained} bytes are no full load");
    bench.quiesce().unwrap();
    let before = bench.numbers();
    let paced = load(&mut bench, 600, drained / 400 * 8 / 10, Offset::MAX);
    let after = bench.numbers();
    assert!(paced > drained, "{paced} and {drained} bytes");
    assert!(after.counts.checkpoints > before.counts.checkpoints + 3, "{after:?}");
    assert_eq!(after.waits, before.waits, "{after:?}");
    let ring = waits_for(&bench, JournalWait::Ring);
    assert!(ring > 0, "the full load waited for blocks");

    // Half as much again waits. As far as a topic may fall behind here, nothing of it is large enough to go past the journal.
    load(&mut bench, 400, drained / 400 * 3 / 2, 8);
    bench.quiesce().unwrap();
    let above = bench.numbers();
    assert!(above.waits > after.waits && above.waited > after.waited, "{above:?}");
    assert!(waits_for(&bench, JournalWait::Ring) > ring);
    assert_eq!(waits_for(&bench, JournalWait::Memory), 0, "memory has as much room as the journal");
    let waits = waits_for(&bench, JournalWait::Ring) + waits_for(&bench, JournalWait::Memory);
    assert_eq!(above.waits, waits, "every wait is in the histogram");
}

#[test]
fn a_full_group_is_no_back_pressure() {
    let setup = Setup { topics: 24, journal_bytes: 2048 * KIB, memory_bytes: 4096 * KIB, ..Setup::default() };
    let mut bench = Bench::new(1, setup);
    // In one round more than a group takes, which is a quarter of the journal, and less than the journal has.
    for _ in 0..4 {
        for topic in 0..24 {
            (0..3).for_each(|_| bench.append(topic, 12_000));
        }
        bench.quiesce().unwrap();
    }
    let numbers = bench.numbers();
    let groups = waits_for(&bench, JournalWait::Group);
    assert!(groups > 0, "no group was full: {numbers:?}");
    assert_eq!((numbers.waits, numbers.waited), (0, Duration::ZERO), "{numbers:?}");
    let histograms = bench.set.journal_waits.meter.histograms();
    let values = |timing| Distribution::of([histograms.of(timing).unwrap()]);
    let count = |timing| values(timing).count();
    assert_eq!(count(Timing::JournalCommit), numbers.counts.groups);
    assert_eq!(values(Timing::JournalGroupEntries).sum(), numbers.counts.entries);
    assert_eq!(values(Timing::JournalGroupBytes).sum(), numbers.counts.written_bytes);
    assert_eq!(count(Timing::JournalCheckpoint), numbers.counts.checkpoints);
    assert_eq!(numbers.counts.flushes, numbers.counts.groups);
    // So many logs are flushed by one `syncfs`.
    assert!((1..=numbers.counts.checkpoints).contains(&numbers.file_system_flushes), "{numbers:?}");
}

/// Takes the first topic from each of these ways to the next, while it is appended to. `behind`: what comes right behind each
/// switch.
fn switch_through(
    bench: &mut Bench,
    ways: &[(Durability, WritePath)],
    behind: &[usize],
) -> Result<(), Crashed> {
    for (durability, write_path) in ways {
        for size in [500, 3_000] {
            bench.append(0, size);
            bench.append(1, size);
            bench.turn()?;
        }
        // Without waiting for what is in flight.
        bench.set_path(0, *durability, *write_path);
        behind.iter().for_each(|size| bench.append(0, *size));
        bench.turn()?;
        if *durability == Durability::Fsync {
            bench.append(0, 900);
            bench.settle()?;
        }
    }
    bench.settle()
}

/// What is acknowledged is there after the work is done, and after a crash at any operation of it.
fn survives_everywhere(setup: Setup, work: fn(&mut Bench) -> Result<(), Crashed>) {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, setup);
        work(&mut bench).unwrap();
        bench.assert_survives(CrashKind::PowerLoss, "after the work");
    }
    crash_everywhere(CrashKind::PowerLoss, setup, 1, work);
    crash_everywhere(CrashKind::ProcessKill, setup, 3, work);
}

#[test]
fn the_write_path_of_a_live_topic_can_change_at_any_time() {
    use Durability::{Fsync, Os};
    use WritePath::{Auto, Journal, PageCache};
    let work = |bench: &mut Bench| {
        let ways = [
            (Fsync, PageCache),
            (Fsync, Auto),
            (Os, PageCache),
            (Fsync, Journal),
            (Os, Journal),
            (Os, Auto),
            (Fsync, Auto),
            (Os, Auto),
            (Fsync, PageCache),
            (Os, Journal),
            (Os, PageCache),
            (Os, Auto),
        ];
        switch_through(bench, &ways, &[700])
    };
    survives_everywhere(Setup { topics: 2, ..Setup::default() }, work);
}

#[test]
fn a_clean_stop_leaves_no_journal_and_a_start_that_reads_none() {
    let mut bench = Bench::new(1, Setup::default());
    (0..3).for_each(|topic| bench.append(topic, 500));
    bench.quiesce().unwrap();
    bench.set.close_all(&mut bench.io);
    let path = Path::new(DATA).join(layout::journal_file(0));
    assert_eq!(bench.world.files().kind(&path).unwrap(), None);
    assert_eq!(bench.world.open_files(), 0, "files are left open");
    assert_eq!(bench.assert_survives(CrashKind::PowerLoss, "a clean stop"), [(0, 1); 3]);
}

#[test]
fn a_deletion_of_records_is_in_the_journal_before_a_checkpoint_has_it() {
    let mut bench = Bench::new(1, Setup::default());
    for _ in 0..5 {
        bench.append(0, 100);
        bench.settle().unwrap();
    }
    assert_eq!(bench.set.delete_records(bench.replicas[0], 3), Ok(3));
    bench.append(1, 100);
    bench.settle().unwrap();
    let starts = |world: &SimWorld| {
        let path = Path::new(DATA).join(layout::LOG_STARTS);
        read_offsets(&mut world.files(), &path).unwrap().get(&bench.setup.partition(0).at).copied()
    };
    assert_eq!(starts(&bench.world), None);
    assert_eq!(bench.assert_survives_worst("after a deletion")[0], (3, 5));
}

#[test]
fn a_flush_that_fails_at_a_clean_stop_is_noted() {
    let note = Path::new(DATA).join(layout::STORAGE_FAILED);
    let stop = |bench: &mut Bench| {
        bench.set.close_all(&mut bench.io);
        bench.world.set_faults(Faults::default());
        assert!(bench.set.directories().metadata().failure().is_some(), "nobody learns of it");
        assert!(bench.world.files().kind(&note).unwrap().is_some(), "the next start trusts the page cache");
    };
    let mut bench = Bench::new(1, Setup::default());
    bench.append(0, 5_000);
    bench.quiesce().unwrap();
    bench.world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
    stop(&mut bench);

    // Of a write-back that failed before, another program has heard by its own `syncfs`.
    let mut bench = Bench::new(1, Setup { durability: Durability::Os, ..Setup::default() });
    bench.world.set_faults(Faults { write_back_error: 1_000_000, ..Faults::default() });
    bench.append(0, 5_000);
    bench.quiesce().unwrap();
    bench.world.set_faults(Faults::default());
    bench.world.files().sync_file_system(Path::new("/")).unwrap_err();
    stop(&mut bench);
}

#[test]
fn a_second_checkpoint_does_not_need_the_block_of_the_first() {
    // All is stored and flushed when the checkpoint begins, so it ends as soon as the recovery points are written, again and
    // again.
    let mut bench = Bench::new(1, Setup::default());
    for round in 0..200 {
        bench.append(round % 3, 8_000);
        bench.settle().unwrap();
        if round % 20 == 19 {
            for _ in 0..20 {
                bench.set.checkpoint_journals();
                bench.turn().unwrap();
                bench.append(0, 10);
            }
        }
    }
    bench.settle().unwrap();
    bench.assert_survives(CrashKind::PowerLoss, "after many checkpoints");
}
