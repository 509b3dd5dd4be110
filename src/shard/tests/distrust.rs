//! Starts after a write or flush that failed: what the kernel has cached is not trusted.

use super::*;
use crate::reactor::sim::Faults;

fn fail_flushes(world: &SimWorld, fail: bool) {
    let sync_error = if fail { 1_000_000 } else { 0 };
    world.set_faults(Faults { sync_error, ..Faults::default() });
}

fn has_note(world: &SimWorld) -> bool {
    world.files().kind(&Path::new(DATA).join(layout::STORAGE_FAILED)).unwrap().is_some()
}

/// A start that fails, and its process with it.
fn refused(world: &SimWorld) -> String {
    let started = Bench::try_start(world.clone(), Shape::shared(1), &[DATA]);
    let error = started.err().expect("the start fails").to_string();
    world.crash(CrashKind::ProcessKill);
    world.restart();
    error
}

/// A start whose node serves what is on the device, and nothing else.
fn check_start(world: &SimWorld) {
    let log_end = |bench: &Bench| {
        let mut replicas = bench.shards[0].0.partitions.served();
        replicas.find(|(_, replica)| replica.at().topic.as_ref() == "a").unwrap().1.log().log_end_offset()
    };
    let bench = Bench::start(world.clone(), 1, &[DATA]);
    assert!(!has_note(world), "it is heeded");
    let end = log_end(&bench);
    assert!(end >= 1, "what was acknowledged is gone");
    drop(bench);
    world.crash(CrashKind::PowerLoss);
    world.restart();
    assert_eq!(log_end(&Bench::start(world.clone(), 1, &[DATA])), end, "it was in the page cache alone");
}

#[test]
fn a_start_that_cannot_flush_leaves_a_note_and_the_next_reads_the_device() {
    let mut bench = Bench::new(1, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "a");
    assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::None));
    client.send_batch(&bench, "a", &[8; 5000]);
    bench.run_until(Duration::from_micros(100), |_| false);
    let world = bench.kill();
    fail_flushes(&world, true);
    assert!(refused(&world).contains("os error 5"));
    fail_flushes(&world, false);
    assert!(has_note(&world));
    check_start(&world);
}

#[test]
fn a_failure_whose_process_was_killed_before_it_left_a_note_is_told_by_the_kernel() {
    for seed in 0..10 {
        let mut bench = Bench::of_seed(seed, 1, SimOptions::default());
        let mut client = bench.client();
        client.create(&mut bench, "a");
        assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::None));
        bench.run_until(Duration::from_secs(1), |_| false);
        fail_flushes(&bench.world, true);
        client.send_batch(&bench, "a", &[8; 5000]);
        let has_failed =
            |bench: &mut Bench| bench.shards[0].0.partitions.directories().metadata().failure().is_some();
        assert!(bench.run_until(LONG, has_failed));
        fail_flushes(&bench.world, false);
        let world = bench.kill();
        assert!(!has_note(&world), "it had the time: this shows nothing");
        let error = refused(&world);
        assert!(error.contains("os error 5"), "{error}");
        assert!(has_note(&world));
        check_start(&world);
    }
}
