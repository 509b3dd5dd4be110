//! What a large write costs through the page cache and past it, measured on the writes that a log makes anyway.
//!
//! Neither way is always the better one. The page cache copies, and takes a page for each page: usually less than a
//! microsecond for 4 KiB, but where the host of a virtual machine has to find the memory first it was 10 µs here, five times
//! what the disk took for the same bytes. And a slow disk behind a fast cache is the other way round. So an `auto` log that
//! may be written either way, because nobody waits for a flush, goes past the cache only where the cache is seen to be slow,
//! and stays there only if that is seen to be faster. What one log has measured, all of its core and directory know: their
//! journal keeps it.

use std::time::Duration;

/// Smaller writes say more of what a write costs than of what its bytes do.
const MEASURED_BYTES_MIN: usize = 32 * 1024;

/// So many writes are enough for a verdict. A cost is an average over as many.
const JUDGED_WRITES_MIN: u32 = 16;

/// A cache that takes 1 GiB/s or more of one log is left in peace, whatever the disk can do.
const SLOW_CACHE_PS_PER_BYTE: u64 = 1_000;

/// The average of one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cost {
    ps_per_byte: u64,
    writes: u32,
}

impl Cost {
    fn note(&mut self, bytes: usize, elapsed: Duration) {
        let ps = u64::try_from(elapsed.as_nanos() * 1000 / bytes as u128).unwrap_or(u64::MAX);
        // One write that met a stalled disk is not to decide for the next ones.
        let ps =
            if self.writes < JUDGED_WRITES_MIN { ps } else { ps.min(self.ps_per_byte.saturating_mul(4)) };
        let count = u64::from(self.writes.min(JUDGED_WRITES_MIN - 1));
        self.ps_per_byte = (self.ps_per_byte.saturating_mul(count).saturating_add(ps)) / (count + 1);
        self.writes = self.writes.saturating_add(1);
    }

    fn known(&self) -> Option<u64> {
        (self.writes >= JUDGED_WRITES_MIN).then_some(self.ps_per_byte)
    }
}

/// One write: bytes, and from submission to completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measured {
    Cached(usize, Duration),
    Direct(usize, Duration),
}

/// Both ways. Time from submission to completion, with what a write waits for others: that is what a producer waits, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct WriteCosts {
    cached: Cost,
    direct: Cost,
}

impl WriteCosts {
    pub fn note(&mut self, measured: Measured) {
        let (cost, bytes, elapsed) = match measured {
            Measured::Cached(bytes, elapsed) => (&mut self.cached, bytes, elapsed),
            Measured::Direct(bytes, elapsed) => (&mut self.direct, bytes, elapsed),
        };
        if bytes >= MEASURED_BYTES_MIN {
            cost.note(bytes, elapsed);
        }
    }

    /// Whether large writes should go past the page cache from now on. A change is worth a quarter of the cost at least, or the log
    /// would go to and fro; what is not known yet is tried, if the cache is slow.
    pub fn is_direct_better(&self, is_direct: bool) -> bool {
        match (self.cached.known(), self.direct.known()) {
            (None, _) => is_direct,
            (Some(cached), None) => is_direct || cached > SLOW_CACHE_PS_PER_BYTE,
            // Who came for a trial stays only if it was worth it.
            (Some(cached), Some(direct)) => cached > SLOW_CACHE_PS_PER_BYTE && direct < cached / 4 * 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cached` and `direct`: microseconds of each of 16 writes of 1 MiB, none if 0.
    fn costs(cached: u64, direct: u64) -> WriteCosts {
        let mut costs = WriteCosts::default();
        for _ in 0..JUDGED_WRITES_MIN {
            if cached > 0 {
                costs.note(Measured::Cached(1 << 20, Duration::from_micros(cached)));
            }
            if direct > 0 {
                costs.note(Measured::Direct(1 << 20, Duration::from_micros(direct)));
            }
        }
        costs
    }

    #[test]
    fn the_way_follows_what_was_measured() {
        // (microseconds of 1 MiB cached, direct), from the cache, from direct
        for ((cached, direct), from_cached, from_direct) in [
            ((0, 0), false, true),        // nothing known: as it is
            ((200, 0), false, true),      // a fast cache is not left for a trial
            ((2700, 0), true, true),      // a slow one is
            ((2700, 500), true, true),    // and the trial was worth it
            ((8000, 7800), false, false), // a slow disk behind a full cache: the trial was not
            ((2700, 2100), false, false), // nor for less than a quarter
            ((200, 100), false, false),   // a fast cache serves those who read, too
        ] {
            let costs = costs(cached, direct);
            assert_eq!(costs.is_direct_better(false), from_cached, "{cached} {direct} from the cache");
            assert_eq!(costs.is_direct_better(true), from_direct, "{cached} {direct} from direct");
        }
    }

    #[test]
    fn few_writes_and_small_ones_decide_nothing() {
        let mut costs = WriteCosts::default();
        for _ in 1..JUDGED_WRITES_MIN {
            costs.note(Measured::Cached(1 << 20, Duration::from_millis(50)));
        }
        for _ in 0..100 {
            costs.note(Measured::Cached(MEASURED_BYTES_MIN - 1, Duration::from_millis(50)));
        }
        assert!(!costs.is_direct_better(false));
        costs.note(Measured::Cached(1 << 20, Duration::from_millis(50)));
        assert!(costs.is_direct_better(false));
    }

    #[test]
    fn one_stalled_write_does_not_send_a_log_past_a_fast_cache() {
        let mut costs = costs(200, 0);
        costs.note(Measured::Cached(1 << 20, Duration::from_secs(30)));
        assert!(!costs.is_direct_better(false));
        // But a cache that is slow from now on is noticed within a few dozen writes.
        (0..64).for_each(|_| costs.note(Measured::Cached(1 << 20, Duration::from_micros(2700))));
        assert!(costs.is_direct_better(false));
    }
}
