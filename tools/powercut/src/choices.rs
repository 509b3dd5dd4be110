//! The seeded choices of a run.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): any seed will do, and each
/// of its numbers is a good seed for another.
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u64) -> Choices {
        Choices(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Choices of their own for somebody else: what one of them takes does not change what the other gets.
    pub fn fork(&mut self) -> Choices {
        Choices(self.word())
    }

    /// In `[low, high)`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "nothing between {low} and {high}");
        low + self.word() % (high - low)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// In `[low, high)`, each power of two as likely as the next: many small ones and some large ones.
    pub fn spread(&mut self, low: u64, high: u64) -> u64 {
        let (low_bits, high_bits) = ((low as f64).ln(), (high as f64).ln());
        let share = (self.word() >> 11) as f64 / (1u64 << 53) as f64;
        ((low_bits + (high_bits - low_bits) * share).exp() as u64).clamp(low, high - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_choices_again_and_another_seed_others() {
        let first = |seed| [0; 4].map(|_: i32| Choices::new(seed).word());
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }

    #[test]
    fn a_spread_reaches_both_ends_and_stays_within() {
        let mut choices = Choices::new(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| choices.spread(100, 200_000)).collect();
        assert!(drawn.iter().all(|n| (100..200_000).contains(n)));
        assert!(drawn.iter().any(|n| *n < 150) && drawn.iter().any(|n| *n > 150_000));
        assert!(
            drawn.iter().filter(|n| **n < 4_500).count() > 4_000,
            "half of them lie below the geometric mean"
        );
    }
}
