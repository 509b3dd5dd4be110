//! Chance for jitter and for the choice of partitions. Not for secrets.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// A sequence of numbers that look random (SplitMix64), cheap enough for one a record.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Starts where the process's own randomness says.
    #[expect(
        clippy::disallowed_types,
        reason = "the one source of chance of the client, which no simulation replays"
    )]
    pub fn new() -> Random {
        Random::seeded(std::hash::RandomState::new().build_hasher().finish())
    }

    pub fn seeded(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        // Source of the constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// One of `0..bound`. Panics if there is none.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to choose from");
        // The high half of the product is as even as 64 bits allow.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 up to, not including, 1.
    pub fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let random = Random::seeded(7);
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[random.below(5) as usize] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_ne!(Random::new().next(), Random::new().next());
    }
}
