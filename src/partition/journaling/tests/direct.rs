//! Logs that write past the page cache: whole blocks in the segment, the end of the last one in the journal.

use super::*;

const DIRECT: Setup = Setup {
    is_mapped: true,
    topics: 3,
    journal_bytes: 256 * KIB,
    memory_bytes: 1024 * KIB,
    segment_bytes: 1 << 30,
    durability: Durability::Fsync,
    flush_messages: None,
    write_path: WritePath::Direct,
};

fn file_bytes(bench: &Bench, topic: usize, base_offset: Offset) -> u64 {
    let path = layout::offset_file(bench.log(topic).directory(), base_offset, FileSuffix::Log);
    let files = &mut bench.world.files();
    let file = files.open(&path, OpenMode::Read).unwrap();
    let size = files.size(file).unwrap();
    files.close(file);
    size
}

/// Bytes of the batches in a file, before any zeros.
fn batch_bytes(bench: &Bench, topic: usize, base_offset: Offset) -> u64 {
    let path = layout::offset_file(bench.log(topic).directory(), base_offset, FileSuffix::Log);
    let files: &mut dyn Files = &mut bench.world.files();
    let bytes = files.read_all(&path).unwrap();
    Batches::new(&bytes).map_while(Result::ok).map(|batch| batch.size_bytes() as u64).sum()
}

#[test]
fn a_crash_at_any_operation_keeps_what_blocks_and_journal_have() {
    let mut bench = Bench::new(1, DIRECT);
    busy(&mut bench, 60).unwrap();
    assert!((0..3).all(|topic| bench.log(topic).is_journal_direct()), "all of them are direct");
    assert!(bench.numbers().counts.checkpoints > 3, "{:?}", bench.numbers());
    crash_everywhere(CrashKind::PowerLoss, DIRECT, 13, |bench| busy(bench, 60));
    crash_everywhere(CrashKind::ProcessKill, DIRECT, 61, |bench| busy(bench, 60));
}

#[test]
fn a_crash_at_any_operation_around_rolls_of_direct_segments_keeps_what_was_acknowledged() {
    let setup = Setup { segment_bytes: 100 * KIB, ..DIRECT };
    crash_everywhere(CrashKind::PowerLoss, setup, 17, |bench| busy(bench, 40));
}

#[test]
fn without_a_flush_the_last_block_is_in_the_segment_and_nothing_in_the_journal() {
    let mut bench = Bench::new(1, Setup { topics: 1, durability: Durability::Os, ..DIRECT });
    for records in [500, 100, 9_000, 40] {
        bench.append(0, records);
        bench.settle().unwrap();
        assert_eq!(batch_bytes(&bench, 0, 0), bench.log(0).size_bytes(), "all of it, after {records} bytes");
    }
    assert!(bench.log(0).is_journal_direct());
    assert_eq!(bench.numbers().counts.groups, 0);
    assert!(bench.log(0).stored_offset() < 4, "what is written again counts as stored when it is full");
    assert_eq!(bench.assert_survives(CrashKind::ProcessKill, "padded"), [(0, 4)]);
}

#[test]
fn a_kill_at_any_operation_keeps_padded_blocks() {
    let setup = Setup { durability: Durability::Os, ..DIRECT };
    crash_everywhere(CrashKind::ProcessKill, setup, 17, |bench| busy(bench, 60));
    let setup = Setup { segment_bytes: 100 * KIB, ..setup };
    crash_everywhere(CrashKind::ProcessKill, setup, 17, |bench| busy(bench, 40));
}

/// What pads cannot be flushed for good, so its segment ends with a promise to flush.
#[test]
fn a_switch_to_fsync_ends_a_padded_segment() {
    let mut bench = Bench::new(1, Setup { topics: 1, durability: Durability::Os, ..DIRECT });
    bench.append(0, 500);
    bench.quiesce().unwrap();
    assert_eq!(bench.log(0).flushed_offset(), 0);
    bench.set_path(0, Durability::Fsync, WritePath::Direct);
    bench.quiesce().unwrap();
    assert_eq!((bench.log(0).flushed_offset(), bench.log(0).segment_count()), (1, 2));
    assert_eq!(bench.assert_survives_worst("after the switch"), [(0, 1)]);
}

#[test]
fn a_live_topic_changes_to_direct_and_back_at_any_time() {
    use Durability::{Fsync, Os};
    use WritePath::{Direct, Journal, PageCache};
    // From each way of writing to each other one, around rolls: a file changes its way at a roll.
    let work = |bench: &mut Bench| {
        let ways = [
            (Fsync, Direct),
            (Fsync, PageCache),
            (Os, Direct),
            (Fsync, Journal),
            (Fsync, Direct),
            (Os, PageCache),
            (Fsync, Direct),
            (Os, Journal),
            (Os, Direct),
            (Fsync, Direct),
            (Fsync, Journal),
        ];
        switch_through(bench, &ways, &[700, 5_000])
    };
    let setup = Setup { topics: 2, segment_bytes: 10_000, write_path: WritePath::Auto, ..DIRECT };
    survives_everywhere(setup, work);
}

#[test]
fn a_rolled_file_and_one_of_a_clean_stop_end_with_their_batches() {
    let setup = Setup { topics: 1, segment_bytes: 50_000, ..DIRECT };
    let mut bench = Bench::new(3, setup);
    for _ in 0..12 {
        bench.append(0, 5_001);
        bench.settle().unwrap();
    }
    bench.quiesce().unwrap();
    assert!(bench.log(0).is_journal_direct());
    let rolled = batch_bytes(&bench, 0, 0);
    assert!(rolled > 40_000 && !rolled.is_multiple_of(4096), "{rolled} bytes end inside a block");
    assert_eq!(file_bytes(&bench, 0, 0), rolled);
    assert_eq!(bench.log(0).segment_count(), 2);
    let active = bench.log(0).size_bytes() - rolled;
    let base_offset = rolled as Offset / (active as Offset / (12 - 9));
    assert!(file_bytes(&bench, 0, base_offset) > active, "zeros are ahead of the active one's batches");
    let directory = bench.log(0).directory().to_owned();
    bench.set.close_all(&mut bench.io);
    let path = layout::offset_file(&directory, base_offset, FileSuffix::Log);
    let files: &mut dyn Files = &mut bench.world.files();
    assert_eq!(files.read_all(&path).unwrap().len() as u64, active);
    assert_eq!(bench.assert_survives(CrashKind::PowerLoss, "a clean stop"), [(0, 12)]);
}

#[test]
fn zeros_come_in_steps_and_only_where_there_are_records() {
    let mut bench = Bench::new(1, DIRECT);
    bench.append(0, 500);
    bench.quiesce().unwrap();
    // The segment may have a GiB.
    let zeroed = file_bytes(&bench, 0, 0);
    assert!((64 * KIB..=68 * KIB).contains(&zeroed), "{zeroed} bytes are zeroed");
    assert_eq!(file_bytes(&bench, 1, 0), 0);
}

/// The beginning of a batch is in a block of the segment, its end in the journal: it is flushed once both are.
#[test]
fn a_switch_to_fsync_waits_for_the_block_that_a_batch_begins_in() {
    let mut bench = Bench::new(1, Setup { topics: 1, durability: Durability::Os, ..DIRECT });
    let is_block = |bytes: &usize| bench.batch(0, *bytes).len() == 4096;
    let one_block = (3_900..4_096).find(is_block).expect("a batch of one block");
    bench.append(0, one_block);
    bench.settle().unwrap();
    bench.set_path(0, Durability::Fsync, WritePath::Direct);
    bench.quiesce().unwrap();
    assert_eq!((bench.log(0).stored_offset(), bench.log(0).flushed_offset()), (1, 1));
    bench.set_path(0, Durability::Os, WritePath::Direct);
    bench.append(0, 6_000);
    bench.quiesce().unwrap();
    assert_eq!(
        (bench.log(0).stored_offset(), bench.log(0).flushed_offset()),
        (1, 1),
        "half of it is flushed"
    );
    bench.set_path(0, Durability::Fsync, WritePath::Direct);
    bench.append(0, 100);
    bench.settle().unwrap();
    assert!(bench.log(0).is_journal_direct());
    assert_eq!(bench.assert_survives_worst("after the switch"), [(0, 3)]);
}

#[test]
fn an_unfinished_block_outlives_the_laps_of_the_journal() {
    let mut bench = Bench::new(1, Setup { topics: 2, ..DIRECT });
    bench.set_path(1, Durability::Fsync, WritePath::Journal);
    bench.append(0, 500);
    bench.quiesce().unwrap();
    let before = bench.numbers();
    while bench.numbers().counts.written_bytes < before.counts.written_bytes + 4 * before.capacity_bytes {
        bench.append(1, 20_000);
        bench.settle().unwrap();
    }
    assert!(bench.log(0).is_journal_direct());
    assert_eq!(bench.log(0).stored_offset(), 0, "the segment does not have it");
    assert_eq!(bench.assert_survives_worst("after some laps")[0], (0, 1));
}

#[test]
fn more_direct_logs_than_the_journal_has_room_for_are_written_through_the_page_cache() {
    let mut bench = Bench::new(1, Setup { topics: 40, ..DIRECT });
    for _ in 0..20 {
        (0..40).for_each(|topic| bench.append(topic, 2_000));
        bench.settle().unwrap();
    }
    let direct = (0..40).filter(|topic| bench.log(*topic).is_journal_direct()).count();
    assert!((1..40).contains(&direct), "{direct} are direct");
    assert_eq!(bench.assert_survives(CrashKind::PowerLoss, "many logs"), [(0, 20); 40]);
}
