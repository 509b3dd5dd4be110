//! Random operations on one log against a list of what was appended.

use corelog::log::{AppendError, Durability, LogConfig, ProducerState};
use corelog::record::BatchView;

use crate::bench::{Bench, close, recover, small_config};
use crate::folder;

const DURABILITIES: [Durability; 3] =
    [Durability::Fsync, Durability::Interval { flush_ms: 50, flush_messages: 40 }, Durability::Os];

/// `LOG_SEEDS=n` runs n times as many seeds as a usual test run.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let times: u64 = std::env::var("LOG_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    first..first + count * times
}

fn random_step(bench: &mut Bench) {
    match bench.seed.below(24) {
        0..8 => {
            let (count, bytes) = (1 + bench.seed.below(5) as usize, bench.seed.below(900) as usize);
            bench.append(count, bytes);
        }
        8..10 => idempotent(bench),
        10..16 => _ = bench.step(),
        16 => bench.settle(),
        17 => bench.check_reads(),
        18 => bench.write_checkpoint(),
        19 => {
            let ms = 1 + bench.seed.below(100);
            bench.pass_time(ms);
        }
        20 => {
            let durability = DURABILITIES[bench.seed.below(3) as usize];
            let retention_bytes = bench.seed.chance(2).then_some(20_000);
            bench.log.set_config(LogConfig { durability, retention_bytes, ..*bench.log.config() });
        }
        21 => {
            let (now, bound) = (bench.now(), bench.log.committed_offset());
            bench.log.enforce_retention(now.wall, bound);
        }
        22 => {
            let (start, end) = (bench.log.log_start_offset(), bench.log.committed_offset());
            if end > start && bench.seed.chance(4) {
                let offset = start + bench.seed.below((end - start) as u64 + 1) as i64;
                assert_eq!(bench.log.advance_log_start(offset), offset);
            }
        }
        _ => {
            let now = bench.now();
            bench.log.tidy(&mut bench.io, &bench.cache, now, std::time::Duration::from_millis(20));
        }
    }
}

/// A producer that repeats batches now and then, as after a lost answer.
fn idempotent(bench: &mut Bench) {
    let count = 1 + bench.seed.below(3) as usize;
    let sequence = bench.next_sequence;
    let bytes = bench.idempotent_batch(sequence, count);
    let first = bench.try_append(&bytes, 0).unwrap();
    assert!(!first.is_duplicate, "sequence {sequence} is new");
    bench.next_sequence += count as i32;
    if bench.seed.chance(2) {
        let again = bench.try_append(&bytes, 0).unwrap();
        assert!(again.is_duplicate);
        assert_eq!((again.base_offset, again.end_offset), (first.base_offset, first.end_offset));
    }
    let gap = bench.idempotent_batch(sequence + 1_000, 1);
    assert!(matches!(bench.try_append(&gap, 0), Err(AppendError::Producer(_))), "a gap is refused");
}

fn run(seed: u64, steps: usize, mut end: impl FnMut(Bench) -> Bench) {
    let mut bench = Bench::new(seed, small_config());
    if seed.is_multiple_of(3) {
        bench.io.reject_one_in = Some(3);
    }
    for _ in 0..3 {
        for _ in 0..steps {
            random_step(&mut bench);
        }
        let sequence = bench.next_sequence;
        bench = end(bench);
        // What was lost may be sent again; the producer starts over to keep the model small.
        bench.next_sequence =
            bench.log.producers().iter().next().map_or(sequence, |(_, p)| p.last_sequence() + 1);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    for seed in seeds(0, 150) {
        run(seed, 120, |bench| {
            bench.disk.kill();
            let must_survive = bench.acknowledged;
            bench.recover_and_check(must_survive)
        });
    }
}

#[test]
fn a_power_loss_loses_nothing_that_was_flushed() {
    for seed in seeds(1_000_000, 150) {
        run(seed, 120, |mut bench| {
            bench.disk.lose_power(&mut bench.seed);
            let must_survive = bench.acknowledged_flushed;
            bench.recover_and_check(must_survive)
        });
    }
}

#[test]
fn a_clean_stop_leaves_a_folder_without_mismatch() {
    for seed in seeds(2_000_000, 60) {
        let mut bench = Bench::new(seed, small_config());
        for _ in 0..200 {
            random_step(&mut bench);
        }
        bench.settle();
        let config = *bench.log.config();
        let log_end = bench.log.log_end_offset();
        let producers = bench.log.producers().clone();
        let (disk, checkpoint, kept) = close(bench);
        assert_eq!(disk.open_files(), 0, "every descriptor is closed");
        folder::check_closed(&disk, &crate::bench::directory());
        let (log, report) = recover(&disk, config, checkpoint, true).unwrap();
        assert_eq!((log.log_end_offset(), report.cut), (log_end, None));
        assert_eq!(report.checked_bytes, 0, "a clean start checks nothing");
        let last = |p: &ProducerState| {
            p.iter().map(|(id, e)| (id, e.epoch, e.last_batch().copied())).collect::<Vec<_>>()
        };
        assert_eq!(last(log.producers()), last(&producers), "producers survive a clean stop");
        assert!(kept.iter().all(|k| k.end_offset <= log_end));
        log.close(&mut disk.clone()).unwrap();
        folder::check_closed(&disk, &crate::bench::directory());
    }
}

#[test]
fn indexes_written_at_a_stop_equal_a_rebuild() {
    let mut bench = Bench::new(1, LogConfig { segment_bytes: 30_000, ..small_config() });
    for _ in 0..200 {
        let (count, bytes) = (1 + bench.seed.below(5) as usize, bench.seed.below(900) as usize);
        bench.append(count, bytes);
        if bench.seed.chance(4) {
            idempotent(&mut bench);
        }
        bench.step();
    }
    bench.settle();
    let (disk, ..) = close(bench);
    folder::check_indexes_complete(&disk, &crate::bench::directory());
    // For Apache's kafka-dump-log.sh, which `.ci` runs over it.
    if let Some(target) = std::env::var_os("LOG_FOLDER") {
        for path in disk.files() {
            let name = path.file_name().expect("a file has a name");
            std::fs::write(std::path::Path::new(&target).join(name), disk.read(&path).unwrap()).unwrap();
        }
    }
}

#[test]
fn appended_bytes_are_the_bytes_that_were_given() {
    let mut bench = Bench::new(3, small_config());
    let bytes = bench.idempotent_batch(0, 3);
    bench.try_append(&bytes, 4).unwrap();
    bench.settle();
    let found = bench.read(0, 3, 1 << 20);
    assert_eq!(found[0].sealed, bytes.slice(17..));
    assert_eq!(BatchView::parse(&bytes).unwrap().record_count(), 3);
    assert_eq!(bench.log.end_offset_for_epoch(corelog::model::LeaderEpoch(4)).map(|(_, end)| end), Some(3));
}
