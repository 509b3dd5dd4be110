//! Recovery against random recipes, and `corelog log verify` against recovery.

use corelog_fuzz::generate::Random;
use corelog_fuzz::recovery;

/// One to four changes, most of them to the logs.
fn recipe(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let length = 3 + 5 * (1 + random.below(4));
    (0..length).map(|_| random.word() as u8).collect()
}

#[test]
fn a_sound_folder_is_recovered_whole() {
    for recovery_point in 0..=12 {
        recovery(&[0, recovery_point, 0]);
        recovery(&[0, 12, recovery_point]);
    }
    recovery(&[1]);
}

#[test]
fn random_changes_leave_a_prefix_or_are_told() {
    (0..4000).for_each(|seed| recovery(&recipe(seed)));
}
