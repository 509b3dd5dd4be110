use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::config::TopicConfig;
use crate::log::{CheckpointBook, Now};
use crate::model::{LeaderEpoch, ShardId, TopicPartition, Uuid};
use crate::partition::{
    BrokerLogConfig, DataDirectory, DirectorySet, NewPartition, OfflineReason, PartitionSetOptions, Waiter,
};
use crate::reactor::sim::{Faults, SimIo, SimOptions, SimWorld, Turn};
use crate::record::BatchBuilder;

const DATA: &str = "/data";
const RATE: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A partition set with one partition of about ten sealed segments, on the model's disk.
struct Bench {
    world: SimWorld,
    io: SimIo,
    set: PartitionSet,
    events: Vec<PartitionEvent>,
}

impl Bench {
    fn new() -> Bench {
        let world = SimWorld::new(3, SimOptions::default());
        world.files().create_directory(Path::new(DATA)).unwrap();
        let book = Arc::new(CheckpointBook::load(&mut world.files(), Path::new(DATA)).unwrap());
        let directory = DataDirectory::new(DATA.into(), Uuid([9; 16]), book, false);
        let set = PartitionSet::new(PartitionSetOptions {
            directories: Arc::new(DirectorySet::of_one(directory)),
            broker: BrokerLogConfig { producer_id_expiration_ms: 1000, journal_bypass_bytes: 65536 },
            tail_cache_bytes: 1 << 20,
            old_files_max: 4,
            fetch_read_bytes_max: 16 << 20,
            scrub: ScrubOptions { bytes_per_second: RATE, interval: HOUR },
        });
        let io = world.io(ShardId(0));
        let mut bench = Bench { world, io, set, events: Vec::new() };
        let new = NewPartition {
            at: TopicPartition::new("t", 0),
            topic_id: Uuid([1; 16]),
            directory: Uuid::ZERO,
            leader_epoch: LeaderEpoch(0),
            config: Arc::new(TopicConfig { segment_bytes: 2000, ..TopicConfig::default() }),
            is_internal: false,
        };
        bench.set.create(vec![new], bench.io.wall_clock());
        bench.run(Duration::from_secs(1), false);
        let replica = bench.set.find(Uuid([1; 16]), 0).unwrap();
        for _ in 0..30 {
            let mut builder = BatchBuilder::new();
            builder.push(1_000, None, Some(&[7; 600]));
            let batch: Bytes = builder.finish(0, LeaderEpoch(-1));
            let now = Now::read(&bench.io);
            bench.set.append_own(replica, &batch, Waiter::Nobody, now);
            bench.run(Duration::from_secs(1), false);
        }
        bench.events.clear();
        bench
    }

    /// Runs for so long, with or without the scrubber.
    fn run(&mut self, how_long: Duration, scrubs: bool) {
        let until = self.world.now() + how_long;
        loop {
            let again = if scrubs { self.set.scrub(&mut self.io) } else { Monotonic::NEVER };
            self.set.drive(&mut self.io);
            self.io.wait(again.min(until));
            match self.world.next_turn(until) {
                Turn::Shard(_) => {}
                Turn::Idle => return,
                _ => panic!("neither a client nor a crash is in this test"),
            }
            let mut completions = Vec::new();
            self.io.reap(&mut completions);
            for completion in completions {
                let now = self.io.now();
                self.set.complete(&mut self.io, completion, now);
            }
            self.events.extend(self.set.take_events());
            if self.io.now() >= until {
                return;
            }
        }
    }

    fn sealed(&mut self) -> Vec<SealedSegment> {
        let at = self.set.find(Uuid([1; 16]), 0).unwrap();
        let replica = self.set.get_mut(at);
        let mut found: Vec<SealedSegment> = Vec::new();
        while let Some(next) = replica.log.sealed_segment_from(found.last().map_or(0, |s| s.end_offset)) {
            found.push(next);
        }
        found
    }

    fn bytes_of(&self, segment: &SealedSegment) -> Vec<u8> {
        let files: &mut dyn Files = &mut self.world.files();
        files.read_all(&segment.path).unwrap()
    }

    /// Errors that were told.
    fn damage(&self) -> Vec<String> {
        let told = self.events.iter().filter_map(|event| match event {
            PartitionEvent::Damaged { at, error } => {
                Some(format!("{at}: {error}").replace("/00000000000000000000", "/"))
            }
            _ => None,
        });
        told.collect()
    }
}

#[test]
fn a_round_reads_every_sealed_segment_once_at_its_pace() {
    let mut bench = Bench::new();
    let total: u64 = bench.sealed().iter().map(|segment| segment.size_bytes).sum();
    assert!(bench.sealed().len() >= 9, "{:?}", bench.sealed());
    let open_before = bench.world.open_files();
    bench.run(Duration::from_secs(1), true);
    let first = bench.set.take_scrub_counts().bytes;
    assert!(first > 0 && first <= RATE + 2_000, "{first} bytes in a second");
    bench.run(Duration::from_secs(60), true);
    assert_eq!(first + bench.set.take_scrub_counts().bytes, total);
    assert_eq!(bench.damage(), Vec::<String>::new());
    assert_eq!(bench.world.open_files(), open_before, "every file is closed again");
    // The next round is due an hour after the first began.
    bench.run(HOUR - Duration::from_secs(120), true);
    assert_eq!(bench.set.take_scrub_counts(), ScrubCounts::default());
    bench.run(Duration::from_secs(120), true);
    assert_eq!(bench.set.take_scrub_counts(), ScrubCounts { bytes: total, ..ScrubCounts::default() });
}

#[test]
fn damage_is_told_once_and_nothing_is_changed() {
    let mut bench = Bench::new();
    let segments = bench.sealed();
    let (third, last) = (&segments[2], segments.last().unwrap());
    // In the second batch of the one, and in both batches of the other.
    bench.world.flip_bit(&third.path, third.size_bytes - 1, 3).unwrap();
    bench.world.flip_bit(&last.path, 100, 3).unwrap();
    bench.world.flip_bit(&last.path, last.size_bytes - 100, 3).unwrap();
    let before = bench.bytes_of(third);
    bench.run(Duration::from_secs(60), true);
    assert_eq!(bench.set.take_scrub_counts().damaged, 3);
    let told = bench.damage();
    assert_eq!(told.len(), 2, "{told:?}");
    let name = third.path.file_name().unwrap().to_str().unwrap();
    assert!(told[0].starts_with("t-0: damaged: /data/t-0/"), "{told:?}");
    assert!(told[0].contains(name) || told[0].contains("at byte"), "{told:?}");
    bench.run(HOUR + HOUR, true);
    assert!(bench.set.take_scrub_counts().damaged >= 3);
    assert_eq!(bench.damage().len(), 2, "later rounds say nothing new");
    assert_eq!(bench.bytes_of(third), before);
}

#[test]
fn one_file_that_the_disk_does_not_read_is_told_of_and_the_others_are_served() {
    let mut bench = Bench::new();
    let segments = bench.sealed();
    bench.world.fail_sector(&segments[2].path, 600).unwrap();
    bench.run(HOUR * 3, true);
    assert_eq!(bench.damage().len(), 1, "{:?}", bench.damage());
    // Once in each round, and it stays one file.
    assert!(bench.set.take_scrub_counts().read_errors >= 2);
    assert!(bench.set.directories().metadata().failure().is_none());
    assert!(bench.set.find(Uuid([1; 16]), 0).is_some());
}

#[test]
fn a_second_file_that_the_disk_does_not_read_takes_the_directory_offline() {
    let mut bench = Bench::new();
    let segments = bench.sealed();
    bench.world.fail_sector(&segments[2].path, 600).unwrap();
    bench.world.fail_sector(&segments[5].path, 0).unwrap();
    bench.run(Duration::from_secs(60), true);
    assert_eq!(bench.damage().len(), 2, "{:?}", bench.damage());
    assert_eq!(bench.set.take_scrub_counts().read_errors, 2);
    let failure = bench.set.directories().metadata().failure().expect("the disk fails").to_string();
    assert!(failure.contains(segments[5].path.to_str().unwrap()), "{failure}");
    let offline = bench.set.offline(Uuid([1; 16]), 0).expect("its directory is offline");
    assert!(matches!(offline.reason, OfflineReason::Storage(_)), "{:?}", offline.reason);
}

#[test]
fn a_refused_operation_is_tried_again() {
    let mut bench = Bench::new();
    let total: u64 = bench.sealed().iter().map(|segment| segment.size_bytes).sum();
    bench.world.set_faults(Faults { rejection: 300_000, ..Faults::default() });
    bench.run(Duration::from_secs(120), true);
    assert_eq!(bench.set.take_scrub_counts(), ScrubCounts { bytes: total, ..ScrubCounts::default() });
}

#[test]
fn a_topic_that_is_deleted_meanwhile_is_no_damage() {
    let mut bench = Bench::new();
    let open_before = bench.world.open_files();
    bench.run(Duration::from_millis(300), true);
    let replica = bench.set.find(Uuid([1; 16]), 0).unwrap();
    bench.set.remove(replica);
    bench.run(Duration::from_secs(60), true);
    assert_eq!(bench.damage(), Vec::<String>::new());
    assert!(bench.world.open_files() < open_before, "its files are closed");
}

#[test]
fn a_stop_closes_the_file_under_check() {
    let mut bench = Bench::new();
    bench.run(Duration::from_millis(300), true);
    while !bench.set.is_quiet() {
        bench.run(Duration::from_millis(50), false);
        bench.set.take_events();
    }
    bench.set.close_all(&mut bench.io);
    assert!(bench.set.directories().metadata().failure().is_none());
    assert_eq!(bench.world.open_files(), 0);
}
