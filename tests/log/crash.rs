//! One script, stopped after each of its file operations in turn; then recovery itself, stopped the same way.

use corelog::log::{AppendError, Durability, LogConfig};

use crate::bench::{Bench, directory, recover, small_config};

/// Appends, rolls, deletes and checkpoints until done or stopped.
fn script(bench: &mut Bench) {
    for round in 0..14 {
        for _ in 0..3 {
            let bytes = bench.idempotent_batch(bench.next_sequence, 2);
            match bench.try_append(&bytes, round / 5) {
                Ok(_) => bench.next_sequence += 2,
                Err(AppendError::Wait | AppendError::Offline(_)) => return,
                Err(error) => panic!("append: {error}"),
            }
        }
        let filler = crate::bench::batch_of(bench.timestamp, &[&[round as u8; 700]], None);
        if bench.try_append(&filler, round / 5).is_err() {
            return;
        }
        bench.settle();
        if bench.disk.is_stopped() {
            return;
        }
        if round % 4 == 3 {
            bench.write_checkpoint();
            let (now, bound) = (bench.now(), bench.log.committed_offset());
            bench.log.enforce_retention(now.wall, bound);
        }
    }
}

fn config(durability: Durability) -> LogConfig {
    LogConfig { durability, segment_bytes: 2_500, retention_bytes: Some(6_000), ..small_config() }
}

fn fresh(durability: Durability) -> Bench {
    Bench::new(9, config(durability))
}

fn operations_of(durability: Durability) -> std::ops::Range<usize> {
    let mut bench = fresh(durability);
    let first = bench.disk.operations();
    script(&mut bench);
    first..bench.disk.operations()
}

/// Stops after `stop` operations, once as a killed process and several times as a power loss.
fn crash_at(durability: Durability, stop: usize) {
    for attempt in 0..4 {
        let mut bench = fresh(durability);
        bench.seed.0 += attempt;
        bench.disk.stop_at(Some(stop));
        script(&mut bench);
        let must_survive = if attempt == 0 {
            bench.disk.kill();
            bench.acknowledged
        } else {
            bench.disk.lose_power(&mut bench.seed);
            bench.acknowledged_flushed
        };
        let mut bench = bench.recover_and_check(must_survive);
        // Life goes on: offsets are given from where the log ends, and everything is read back.
        let end = bench.log.log_end_offset();
        assert_eq!(bench.append(3, 100).base_offset, end);
        bench.settle();
        bench.check_reads();
    }
}

#[test]
fn a_crash_after_any_operation_keeps_what_was_acknowledged_under_fsync() {
    let operations = operations_of(Durability::Fsync);
    assert!(operations.len() > 100, "the script does {} operations", operations.len());
    operations.for_each(|stop| crash_at(Durability::Fsync, stop));
}

#[test]
fn a_crash_after_any_operation_keeps_what_was_acknowledged_under_os() {
    operations_of(Durability::Os).for_each(|stop| crash_at(Durability::Os, stop));
}

#[test]
fn a_crash_inside_recovery_leaves_work_for_the_next_one() {
    let durability = Durability::Os;
    for seed in 0..30 {
        let stop = {
            let operations = operations_of(durability);
            operations.start + (seed as usize * 7) % operations.len()
        };
        for inner in 0..40 {
            let mut bench = fresh(durability);
            bench.seed.0 += seed;
            bench.disk.stop_at(Some(stop));
            script(&mut bench);
            bench.disk.lose_power(&mut bench.seed);
            let must_survive = bench.acknowledged_flushed;
            bench.disk.stop_at(Some(bench.disk.operations() + inner));
            let stopped = recover(&bench.disk, config(durability), bench.checkpoint, false);
            let is_done = stopped.is_ok();
            bench.disk.lose_power(&mut bench.seed);
            bench.recover_and_check(must_survive);
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn damage_below_the_recovery_point_is_reported_and_not_cut() {
    let mut bench = fresh(Durability::Fsync);
    script(&mut bench);
    bench.settle();
    let path = directory().join(format!("{:020}.log", bench.log.log_start_offset()));
    let end = bench.log.recovery_point();
    let checkpoint = (end, bench.log.log_start_offset());
    let config = *bench.log.config();
    let size = bench.disk.read(&path).unwrap().len();
    bench.disk.kill();
    bench.disk.damage(&path, |bytes| bytes.truncate(size - 10));
    let before = bench.disk.read(&path);
    let error = recover(&bench.disk, config, checkpoint, false).err().expect("damage is reported");
    assert!(error.to_string().starts_with("damaged: "), "{error}");
    assert_eq!(bench.disk.read(&path), before, "nothing was cut");
}
