//! Journals against random recipes.

use corelog_fuzz::generate::Random;
use corelog_fuzz::journal;

/// One to four changes.
fn recipe(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let length = 1 + 6 * (1 + random.below(4));
    (0..length).map(|_| random.word() as u8).collect()
}

#[test]
fn a_sound_directory_is_recovered_whole() {
    journal(&[0]);
    journal(&[1]);
}

#[test]
fn random_changes_leave_a_prefix_or_are_told() {
    (0..6000).for_each(|seed| journal(&recipe(seed)));
}
