//! A small share of the crash points on every test run. All of them, for one write path:
//! `cargo run --release -p corelog-simulator -- crash-points --path journal --operations 1000 --subsets 64`.

use corelog_simulator::crash_points::{CrashPoints, Exploration, explore, paths};

fn explored(path: &str) -> Exploration {
    // Another seed for each path: what they share is seen from several sides.
    let seed = 1 + path.len() as u64;
    let asked =
        CrashPoints { seed, operations: 60, subsets: 4, path: path.to_owned(), every: 8, point: None };
    explore(&asked).expect("a write path that is there")
}

#[test]
fn what_was_promised_survives_a_crash_at_any_point_on_every_write_path() {
    for path in paths() {
        let found = explored(path);
        assert!(found.violations.is_empty(), "{path}: {found}");
        assert_eq!(found.is_idle(), None, "{path}: {found}");
    }
}

#[test]
fn the_same_seed_tries_the_same_states() {
    let numbers = |found: Exploration| (found.points, found.states, found.recoveries, found.promises);
    assert_eq!(numbers(explored("auto")), numbers(explored("auto")));
}

#[test]
fn a_write_path_that_is_not_there_is_named() {
    let asked =
        CrashPoints { seed: 1, operations: 1, subsets: 1, path: "by-post".to_owned(), every: 1, point: None };
    let error = explore(&asked).err().expect("there is no such path");
    assert!(error.contains("by-post") && error.contains("page-cache"), "{error}");
}
