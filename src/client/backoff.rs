//! How long to wait before the next try: twice as long each time, within bounds, and never quite as long as the others.

use std::time::Duration;

use crate::client::random::Random;

/// A fifth up or down, so that clients that failed together do not come back together.
const JITTER: f64 = 0.2;

/// Exponential waits between `first` and `longest`. Source of the shape: KIP-580.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row, from 1 on. Zero before the first.
    pub fn wait(&self, failures: u32, random: &Random) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        // Kafka lets a first wait above the longest one be the longest.
        let first = self.first.min(self.longest);
        let doubled = first.checked_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let wait = doubled.unwrap_or(self.longest).min(self.longest);
        wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_a_fifth() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(1000) };
        let random = Random::seeded(1);
        let check = |failures, expected_ms: u64| {
            let expected = Duration::from_millis(expected_ms);
            for _ in 0..100 {
                let wait = backoff.wait(failures, &random);
                assert!(
                    wait >= expected.mul_f64(0.8) && wait <= expected.mul_f64(1.2),
                    "{failures}: {wait:?}"
                );
            }
        };
        check(0, 0);
        check(1, 100);
        check(2, 200);
        check(4, 800);
        check(5, 1000);
        check(40, 1000);
        check(u32::MAX, 1000);
        let turned = Backoff { first: Duration::from_secs(9), longest: Duration::from_secs(1) };
        assert!(turned.wait(1, &random) <= Duration::from_millis(1200));
    }
}
