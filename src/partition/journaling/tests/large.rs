//! `auto` logs whose groups are large: written past the page cache while they are, from the memory that they came in.

use super::*;

const LARGE: usize = 5 * BYPASS as usize;
const SETUP: Setup = Setup {
    is_mapped: true,
    topics: 2,
    journal_bytes: 256 * KIB,
    memory_bytes: 1024 * KIB,
    segment_bytes: 1024 * KIB,
    durability: Durability::Fsync,
    flush_messages: None,
    write_path: WritePath::Auto,
};

/// Large batches, with small ones between them so that none begins where a block does, and rolls among them.
fn large(bench: &mut Bench) -> Result<(), Crashed> {
    for round in 0..16 {
        bench.append(0, LARGE + round * 1_001);
        bench.append(1, 300 + round);
        if round % 3 == 0 {
            bench.append(0, 700);
        }
        bench.turn()?;
        if round % 4 == 3 {
            bench.settle()?;
        }
    }
    bench.settle()
}

#[test]
fn large_groups_of_an_auto_log_are_direct_and_small_ones_are_not() {
    let mut bench = Bench::new(1, SETUP);
    large(&mut bench).unwrap();
    bench.quiesce().unwrap();
    assert!(bench.log(0).is_journal_direct());
    assert!(!bench.log(1).is_journal_direct());
    assert!(bench.log(0).segment_count() > 3);
    bench.assert_survives(CrashKind::PowerLoss, "large groups");
}

#[test]
fn an_auto_log_goes_back_to_the_journal_once_its_groups_are_small() {
    let mut bench = Bench::new(1, SETUP);
    large(&mut bench).unwrap();
    let stored = bench.log(0).segment_count();
    for _ in 0..300 {
        bench.append(0, 8_000);
        bench.settle().unwrap();
    }
    bench.quiesce().unwrap();
    assert!(bench.log(0).segment_count() > stored, "it rolled");
    assert!(!bench.log(0).is_journal_direct());
    bench.assert_survives(CrashKind::PowerLoss, "large groups, then small ones");
}

#[test]
fn a_crash_at_any_operation_around_large_groups_keeps_what_was_acknowledged() {
    crash_everywhere(CrashKind::PowerLoss, SETUP, 3, large);
    crash_everywhere(CrashKind::ProcessKill, SETUP, 17, large);
}

/// Nobody waits for a flush, so the way is a matter of speed. The small batches between go to their segments as well.
const UNFLUSHED: Setup = Setup { is_mapped: false, durability: Durability::Os, ..SETUP };

/// Both ways take the same time: `write`.
fn both_ways(write: Delay) -> Bench {
    Bench::with_options(1, UNFLUSHED, SimOptions { write, ..SimOptions::default() })
}

/// Large batches for some segments, and for a trial of 128 MiB.
const SEGMENTS: usize = 64;
const TRIAL: usize = (128 << 20) / LARGE;

/// So many large batches. Whether one of them was past the page cache.
fn was_direct(bench: &mut Bench, batches: usize) -> bool {
    let mut is_direct = false;
    for _ in 0..batches {
        bench.append(0, LARGE);
        bench.settle().unwrap();
        is_direct |= bench.log(0).is_journal_direct();
    }
    is_direct
}

#[test]
fn without_flushes_a_slow_page_cache_is_left_for_a_trial_and_a_fast_one_is_not() {
    // 0.2 ns a byte, and 5.
    let mut bench = both_ways(Delay::micros(40, 41));
    assert!(!was_direct(&mut bench, SEGMENTS));
    let mut bench = both_ways(Delay::micros(1_000, 1_001));
    assert!(was_direct(&mut bench, SEGMENTS));
    // The disk was not faster than that, as is known once the trial is over.
    assert!(was_direct(&mut bench, TRIAL));
    assert!(!was_direct(&mut bench, SEGMENTS));
    bench.quiesce().unwrap();
    assert!(!bench.log(0).is_journal_direct());
    bench.assert_survives(CrashKind::ProcessKill, "a trial");
}

#[test]
fn a_kill_at_any_operation_around_a_trial_keeps_what_was_acknowledged() {
    let trial = |bench: &mut Bench| {
        for round in 0..40 {
            bench.append(0, LARGE + round * 101);
            bench.turn()?;
            bench.append(1, 300 + round);
            bench.settle()?;
        }
        Ok(())
    };
    let mut seen = Bench::new(1, UNFLUSHED);
    trial(&mut seen).unwrap();
    assert!(seen.log(0).is_journal_direct(), "it ends within the trial");
    crash_everywhere(CrashKind::ProcessKill, UNFLUSHED, 5, trial);
}
