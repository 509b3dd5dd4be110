use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::{CleanupPolicy, TopicConfig};
use crate::log::{CheckpointBook, Now, RecoveryInput, layout, read_offsets};
use crate::model::{LeaderEpoch, Monotonic, ShardId, TopicPartition, Uuid};
use crate::partition::{
    AppendOutcome, DataDirectory, DirectorySet, NewPartition, PartitionEvent, PartitionSetOptions,
    ScrubOptions, Waiter, open_at_boot,
};
use crate::reactor::sim::{SimIo, SimOptions, SimWorld, Turn};
use crate::reactor::{Files, Io};
use crate::record::BatchBuilder;

const DATA: &str = "/data";

/// A partition set with one partition, on the model's disk.
struct Bench {
    world: SimWorld,
    io: SimIo,
    set: PartitionSet,
    replica: ReplicaIndex,
    events: VecDeque<PartitionEvent>,
}

fn broker() -> crate::partition::BrokerLogConfig {
    crate::partition::BrokerLogConfig { producer_id_expiration_ms: 1000, journal_bypass_bytes: 65536 }
}

fn new_partition(topic_id: u8, cleanup_policy: CleanupPolicy) -> NewPartition {
    NewPartition {
        at: TopicPartition::new("t", 0),
        topic_id: Uuid([topic_id; 16]),
        directory: Uuid::ZERO,
        leader_epoch: LeaderEpoch(0),
        config: Arc::new(TopicConfig { cleanup_policy, ..TopicConfig::default() }),
        is_internal: false,
    }
}

const DELETE: CleanupPolicy = CleanupPolicy { compact: false, delete: true };

impl Bench {
    fn new(cleanup_policy: CleanupPolicy) -> Bench {
        let world = SimWorld::new(7, SimOptions::default());
        world.files().create_directory(Path::new(DATA)).unwrap();
        world.files().sync_directory(Path::new("/")).unwrap();
        let book = Arc::new(CheckpointBook::load(&mut world.files(), Path::new(DATA)).unwrap());
        let directory = DataDirectory::new(DATA.into(), Uuid([9; 16]), book, false);
        let set = PartitionSet::new(PartitionSetOptions {
            directories: Arc::new(DirectorySet::of_one(directory)),
            broker: broker(),
            tail_cache_bytes: 1 << 20,
            old_files_max: 4,
            fetch_read_bytes_max: 16 << 20,
            scrub: ScrubOptions { bytes_per_second: 0, interval: Duration::ZERO },
        });
        let io = world.io(ShardId(0));
        let mut bench = Bench { world, io, set, replica: ReplicaIndex(0), events: VecDeque::new() };
        bench.make(new_partition(1, cleanup_policy));
        bench
    }

    fn make(&mut self, new: NewPartition) {
        self.set.create(vec![new], self.io.wall_clock());
        let opened = |event: &PartitionEvent| match event {
            PartitionEvent::Opened { replica } => Some(*replica),
            _ => None,
        };
        self.replica = self.run_until(opened);
    }

    /// Runs until an event is the one that `wanted` knows.
    fn run_until<T>(&mut self, wanted: impl Fn(&PartitionEvent) -> Option<T>) -> T {
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            self.set.drive(&mut self.io);
            self.io.wait(Monotonic::NEVER);
            let turn = self.world.next_turn(Monotonic::NEVER);
            assert!(matches!(turn, Turn::Shard(_)), "the set does nothing more");
            let mut completions = Vec::new();
            self.io.reap(&mut completions);
            for completion in completions {
                let now = self.io.now();
                self.set.complete(&mut self.io, completion, now);
            }
            self.events.extend(self.set.take_events());
        }
    }

    fn append(&mut self, records: usize) {
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            builder.push(1_000, None, Some(b"v"));
        }
        let batch: Bytes = builder.finish(0, LeaderEpoch(-1));
        let now = Now::read(&self.io);
        let outcome = self.set.append_own(self.replica, &batch, Waiter::Nobody, now);
        assert!(matches!(outcome, AppendOutcome::Waits));
        self.run_until(|event| matches!(event, PartitionEvent::Satisfied { .. }).then_some(()));
    }

    fn deletion(&self, slot: u32) -> Deletion {
        Deletion { ticket: Ticket { shard: ShardId(0), slot, generation: 0 }, version: 2, parts: Vec::new() }
    }

    /// (slot of the deletion, is it durable)
    fn next_deleted(&mut self) -> (u32, bool) {
        self.run_until(|event| match event {
            PartitionEvent::Deleted { deletion, is_durable } => Some((deletion.ticket.slot, *is_durable)),
            _ => None,
        })
    }

    fn log_start_on_disk(&self) -> Option<Offset> {
        let path = Path::new(DATA).join(layout::LOG_STARTS);
        let starts = read_offsets(&mut self.world.files(), &path).unwrap();
        starts.get(&TopicPartition::new("t", 0)).copied()
    }

    /// The process is killed; a new one opens the partition. (log start, log end)
    fn reopened(&mut self, new: &NewPartition) -> (Offset, Offset) {
        let files = &mut self.world.files();
        let book = CheckpointBook::load(files, Path::new(DATA)).unwrap();
        let (recovery_point, log_start) = book.adopt(&new.at, new.topic_id);
        let input = RecoveryInput { recovery_point, log_start, journaled_end: 0, is_clean: false };
        let (log, _) =
            open_at_boot(files, Path::new(DATA), &book, new, broker(), &input, 2_000, &mut |_| {}).unwrap();
        (log.log_start_offset(), log.log_end_offset())
    }
}

#[test]
fn only_what_may_be_deleted_is() {
    let check = |cleanup_policy, before, expected| {
        let mut bench = Bench::new(cleanup_policy);
        bench.append(10);
        let replica = bench.replica;
        bench.set.delete_records(replica, 3).ok();
        assert_eq!(bench.set.delete_records(replica, before), expected, "{cleanup_policy:?} before {before}");
    };
    let compacted = CleanupPolicy { compact: true, delete: false };
    let both = CleanupPolicy { compact: true, delete: true };
    check(DELETE, 4, Ok(4));
    check(DELETE, 10, Ok(10));
    check(DELETE, -1, Ok(10));
    check(DELETE, 1, Ok(3));
    check(DELETE, 11, Err(ErrorCode::OffsetOutOfRange));
    check(DELETE, -2, Err(ErrorCode::OffsetOutOfRange));
    check(compacted, 4, Err(ErrorCode::PolicyViolation));
    check(both, 4, Ok(4));
}

#[test]
fn a_deletion_is_told_once_a_restart_keeps_it() {
    let mut bench = Bench::new(DELETE);
    bench.append(10);
    bench.set.delete_records(bench.replica, 4).unwrap();
    let first = bench.deletion(1);
    bench.set.make_durable(first);
    // The checkpoint that is being written does not have this one.
    bench.set.delete_records(bench.replica, 6).unwrap();
    let second = bench.deletion(2);
    bench.set.make_durable(second);
    assert_eq!(bench.log_start_on_disk(), None);
    assert_eq!(bench.next_deleted(), (1, true));
    assert_eq!(bench.log_start_on_disk(), Some(4));
    assert_eq!(bench.next_deleted(), (2, true));
    assert_eq!(bench.log_start_on_disk(), Some(6));
    assert_eq!(bench.reopened(&new_partition(1, DELETE)), (6, 10));
}

#[test]
fn a_deletion_without_a_checkpoint_is_told_so_and_can_be_tried_again() {
    let mut bench = Bench::new(DELETE);
    bench.append(10);
    bench.set.delete_records(bench.replica, 4).unwrap();
    bench.world.set_quota(0);
    let first = bench.deletion(1);
    bench.set.make_durable(first);
    assert_eq!(bench.next_deleted(), (1, false));
    bench.world.set_quota(u64::MAX);
    assert_eq!(bench.set.delete_records(bench.replica, 4), Ok(4));
    let second = bench.deletion(2);
    bench.set.make_durable(second);
    assert_eq!(bench.next_deleted(), (2, true));
    assert_eq!(bench.log_start_on_disk(), Some(4));
}

#[test]
fn a_topic_made_anew_keeps_its_records_through_a_crash() {
    let mut bench = Bench::new(DELETE);
    bench.append(10);
    bench.set.delete_records(bench.replica, 8).unwrap();
    let deletion = bench.deletion(1);
    bench.set.make_durable(deletion);
    assert_eq!(bench.next_deleted(), (1, true));
    bench.set.remove(bench.replica);
    bench.run_until(|event| matches!(event, PartitionEvent::Removed).then_some(()));
    let anew = new_partition(2, DELETE);
    bench.make(anew.clone());
    bench.append(5);
    assert_eq!(bench.reopened(&anew), (0, 5));
}
