//! A small share of the seeds on every test run; `.ci/run` plays a thousand and more.

use corelog_simulator::{Plan, Report, run};

fn play(seed: u64) -> Report {
    run(seed, Plan::of_seed(seed))
}

#[test]
fn a_hundred_seeds_keep_every_promise() {
    let mut crashes = 0;
    for seed in 1..=100 {
        let report = play(seed);
        assert!(report.violations.is_empty(), "{report}");
        crashes += report.crashes;
    }
    assert!(crashes > 100, "only {crashes} crashes: the seeds show little");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in [3, 17, 40, 41, 77] {
        let (first, second) = (play(seed), play(seed));
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(play(3).event_hash, play(17).event_hash);
}

/// A flush fails, the process starts again under the same kernel, recovers records that are in the page cache alone, and
/// acknowledges others behind them; then the power goes.
#[test]
fn what_a_failed_flush_left_in_the_page_cache_is_not_built_upon() {
    let report = play(13_413);
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.crashes >= 2, "a failure and a power loss: {report}");
}

/// The canary: on a disk that acknowledges flushes and does not flush, acknowledged records get lost, and the checks must
/// say so. A harness that cannot fail proves nothing.
#[test]
fn a_disk_that_lies_about_flushes_is_caught() {
    let caught = (1..=30).filter(|seed| {
        let plan = Plan { lying_disk: true, durability: "fsync", ..Plan::of_seed(*seed) };
        !run(*seed, plan).violations.is_empty()
    });
    let caught = caught.count();
    assert!(caught >= 10, "only {caught} of 30 seeds on a lying disk show a loss");
}
