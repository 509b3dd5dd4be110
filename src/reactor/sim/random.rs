//! Random numbers from a seed. One stream per purpose, so that a new draw in one model does not shift all others.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct SimRandom {
    state: u64,
}

impl SimRandom {
    /// The stream of one purpose.
    pub fn new(seed: u64, purpose: u64) -> SimRandom {
        let mut random = SimRandom { state: seed ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03) };
        random.word();
        random
    }

    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "no number is below zero");
        // The high half of the product: as even as a 64-bit word allows, without a division.
        ((u128::from(self.word()) * u128::from(end)) >> 64) as u64
    }

    /// A number of `first..=last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        assert!(first <= last, "{first} > {last}");
        first + self.below(last - first + 1)
    }

    pub fn coin(&mut self) -> bool {
        self.word() >> 63 == 1
    }

    /// True `count` times in a million.
    pub fn per_million(&mut self, count: u32) -> bool {
        // Without a fault no draw: switching one fault on leaves the others where they were.
        count > 0 && self.below(1_000_000) < u64::from(count)
    }
}
