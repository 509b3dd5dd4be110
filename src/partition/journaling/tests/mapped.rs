//! The mapped journal: what is acknowledged survives the process, and nothing is damaged when the machine goes.

use super::*;

fn setup() -> Setup {
    Setup { durability: Durability::Os, ..Setup::default() }
}

#[test]
fn what_is_acknowledged_survives_a_kill_though_no_segment_was_written() {
    let mut bench = Bench::new(1, setup());
    (0..3).for_each(|topic| bench.append(topic, 100));
    bench.settle().unwrap();
    let (writes, flushes) = (bench.world.file_operations(), bench.numbers().segment_flushes);
    for round in 0..30 {
        (0..3).for_each(|topic| bench.append(topic, 20 * round));
        bench.settle().unwrap();
    }
    let mapped = bench.set.mapped_numbers();
    assert!(mapped.counts.groups >= 30 && mapped.counts.entries >= 90, "{mapped:?}");
    assert_eq!(bench.log(0).stored_offset(), 0, "a segment was written");
    assert_eq!(bench.numbers().counts.groups, 0, "it went through the journal that flushes");
    assert_eq!(bench.numbers().segment_flushes, flushes);
    assert!(bench.world.file_operations() > writes, "puts are counted, or no crash is tried there");
    assert_eq!(bench.assert_survives(CrashKind::ProcessKill, "kill"), [(0, 31); 3]);
}

#[test]
fn all_of_a_round_are_acknowledged_in_it() {
    let mut bench = Bench::new(1, Setup { topics: 40, ..setup() });
    (0..40).for_each(|topic| bench.append(topic, 100));
    bench.settle().unwrap();
    (0..40).for_each(|topic| bench.append(topic, 100));
    let before = bench.set.mapped_numbers().counts;
    bench.set.drive(&mut bench.io);
    let after = bench.set.mapped_numbers().counts;
    assert_eq!((after.groups - before.groups, after.entries - before.entries), (1, 40));
    assert!((0..40).all(|topic| bench.set.get(bench.replicas[topic]).high_watermark() == 2));
}

#[test]
fn a_kill_at_any_operation_keeps_what_was_acknowledged() {
    let work = |bench: &mut Bench| busy(bench, 160);
    let mut bench = Bench::new(1, setup());
    work(&mut bench).unwrap();
    let mapped = bench.set.mapped_numbers();
    assert!(mapped.counts.written_bytes > 3 * mapped.capacity_bytes, "it wrapped: {mapped:?}");
    assert!(mapped.counts.checkpoints > 3, "{mapped:?}");
    crash_everywhere(CrashKind::ProcessKill, setup(), 7, work);
    // Nothing is promised; what is there is a beginning of what was appended, and no start takes it for damage.
    crash_everywhere(CrashKind::PowerLoss, setup(), 13, work);
}

#[test]
fn a_kill_at_any_operation_around_rolls_keeps_what_was_acknowledged() {
    let setup = Setup { segment_bytes: 100 * KIB, ..setup() };
    crash_everywhere(CrashKind::ProcessKill, setup, 7, |bench| busy(bench, 40));
    crash_everywhere(CrashKind::PowerLoss, setup, 17, |bench| busy(bench, 40));
}

#[test]
fn a_checkpoint_releases_nothing_that_is_not_in_the_segments() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, setup());
        (0..3).for_each(|topic| bench.append(topic, 5_000));
        bench.settle().unwrap();
        bench.set.checkpoint_journals();
        for _ in 0..seed % 4 {
            bench.append(0, 500);
            bench.turn().unwrap();
        }
        bench.assert_survives(CrashKind::ProcessKill, "while a checkpoint runs");
    }
    let mut bench = Bench::new(1, setup());
    (0..3).for_each(|topic| bench.append(topic, 5_000));
    bench.settle().unwrap();
    bench.set.checkpoint_journals();
    bench.quiesce().unwrap();
    bench.set.drive(&mut bench.io);
    assert_eq!(bench.set.mapped_numbers().counts.checkpoints, 1);
    assert!(bench.set.mapped_numbers().used_bytes <= 4096, "all but the group that tells of it is released");
    assert_eq!(bench.log(0).stored_offset(), 1);
    assert_eq!(bench.numbers().segment_flushes, 0, "nobody asked for a flush");
    assert_eq!(bench.assert_survives(CrashKind::ProcessKill, "after a checkpoint"), [(0, 1); 3]);
}

#[test]
fn a_full_ring_makes_appends_wait_and_goes_on_by_itself() {
    let mut bench = Bench::new(1, Setup { topics: 8, ..setup() });
    for _ in 0..20 {
        for topic in 0..8 {
            (0..4).for_each(|_| bench.append(topic, 6_000));
        }
        // Far more than the ring has, in few rounds.
        bench.settle().unwrap();
    }
    assert!(bench.numbers().waits > 0, "nothing waited: {:?}", bench.set.mapped_numbers());
    bench.assert_survives(CrashKind::ProcessKill, "after much");
}

#[test]
fn large_groups_go_to_their_segments() {
    let mut bench = Bench::new(1, setup());
    for _ in 0..10 {
        bench.append(0, 100);
        bench.append(1, 40_000);
        bench.settle().unwrap();
    }
    assert_eq!((bench.log(0).stored_offset(), bench.log(1).stored_offset()), (0, 10));
    // What was small is large from now on: first what is journaled, then the rest.
    for _ in 0..30 {
        bench.append(0, 40_000);
        bench.settle().unwrap();
    }
    assert!(bench.log(0).stored_offset() > 20);
    assert_eq!(bench.assert_survives(CrashKind::ProcessKill, "after a change")[0], (0, 40));
}

#[test]
fn without_mappings_batches_are_written_to_their_segments() {
    let mut bench = Bench::new(1, Setup { is_mapped: false, ..setup() });
    (0..3).for_each(|topic| bench.append(topic, 100));
    bench.settle().unwrap();
    assert_eq!(bench.log(0).stored_offset(), 1);
    assert_eq!(bench.numbers().counts.groups, 0);
}

#[test]
fn a_switch_to_fsync_flushes_what_was_only_mapped() {
    let mut bench = Bench::new(1, setup());
    bench.append(0, 500);
    bench.settle().unwrap();
    assert_eq!(bench.log(0).stored_offset(), 0);
    bench.set_path(0, Durability::Fsync, WritePath::Auto);
    bench.quiesce().unwrap();
    assert_eq!(bench.log(0).file_flushed_offset(), 1);
    assert_eq!(bench.assert_survives_worst("after the switch")[0], (0, 1));
}

#[test]
fn a_clean_stop_leaves_no_mapped_journal() {
    let mut bench = Bench::new(1, setup());
    (0..3).for_each(|topic| bench.append(topic, 500));
    bench.quiesce().unwrap();
    bench.set.close_all(&mut bench.io);
    let path = Path::new(DATA).join(layout::mapped_journal_file(0));
    assert_eq!(bench.world.files().kind(&path).unwrap(), None);
    assert_eq!(bench.world.open_files(), 0, "files are left open");
    assert_eq!(bench.assert_survives(CrashKind::PowerLoss, "a clean stop"), [(0, 1); 3]);
}

#[test]
fn a_store_that_fails_ends_the_directory_and_is_not_acknowledged() {
    let mut bench = Bench::new(1, setup());
    (0..3).for_each(|topic| bench.append(topic, 500));
    bench.settle().unwrap();
    bench.world.set_faults(Faults { write_error: 1_000_000, ..Faults::default() });
    bench.append(0, 500);
    bench.turn().unwrap();
    assert_eq!(bench.failures, 1);
    assert_eq!(bench.set.get(bench.replicas[0]).log().committed_offset(), 1);
    assert!(bench.set.get(bench.replicas[1]).log().offline().is_some(), "all logs of the directory");
    bench.world.set_faults(Faults::default());
    bench.assert_survives(CrashKind::ProcessKill, "a failure");
}

#[test]
fn stores_are_behind_while_they_are_in_flight_and_the_ring_fills() {
    let mut bench = Bench::new(1, setup());
    bench.append(0, 5_000);
    bench.settle().unwrap();
    assert!(!bench.set.stores_are_behind(), "nothing is being stored");
    // An eighth of the ring, of logs that store what they have only at a checkpoint.
    while bench.set.mapped_numbers().used_bytes * 8 <= bench.set.mapped_numbers().capacity_bytes {
        bench.append(0, 5_000);
        bench.settle().unwrap();
    }
    assert!(!bench.set.stores_are_behind(), "nothing is being stored");
    bench.set.checkpoint_journals();
    bench.set.drive(&mut bench.io);
    assert!(bench.set.stores_are_behind());
    bench.quiesce().unwrap();
    assert!(!bench.set.stores_are_behind(), "all is stored");
}
