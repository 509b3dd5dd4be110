//! What a large write costs through the page cache and past it, measured on the writes that a log makes anyway.
//!
//! Neither way is always the better one. The page cache copies, and takes a page for each page: usually less than a
//! microsecond for 4 KiB, but where the host of a virtual machine has to find the memory first it was 10 µs here, five times
//! what the disk took for the same bytes. And a slow disk behind a fast cache is the other way round. So an `auto` log that
//! may be written either way, because nobody waits for a flush, goes past the cache only where the cache is seen to be slow,
//! and stays there only if that is seen to be faster. What one log has measured, all of its core and directory know: their
//! journal keeps it.
//!
//! A disk does many writes at a time and each takes longer for it, a core copies one after the other. So a write costs the
//! time since the one before it ended, or since it began itself if that was later: what it took of the whole.

use std::time::Duration;

use crate::model::Monotonic;

/// Smaller writes say more of what a write costs than of what its bytes do.
const MEASURED_BYTES_MIN: usize = 32 * 1024;

/// So many writes are enough for a verdict. A cost is an average over some of them, the last ones above all.
const JUDGED_WRITES: u32 = 16;

/// What went past the cache before that is judged: it begins beside the write-back of what the cache was given, and the first
/// writes may be 50 times as slow as those behind them.
const TRIAL_BYTES: u64 = 128 << 20;

/// After so long without a write past the cache another trial is worth its two segments.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// A cache that takes 1 GiB/s or more is left in peace, whatever the disk can do.
const SLOW_CACHE_PS_PER_BYTE: u64 = 1_000;

/// One way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Cost {
    ps_per_byte: Option<u64>,
    last_ended: Monotonic,
    all_bytes: u64,
    /// Since the last verdict.
    writes: u32,
    bytes: u64,
    time: Duration,
}

impl Cost {
    fn note(&mut self, write: Measured) {
        self.time += write.ended.since(write.started.max(self.last_ended));
        self.last_ended = self.last_ended.max(write.ended);
        self.bytes += write.bytes as u64;
        self.all_bytes += write.bytes as u64;
        self.writes += 1;
        if self.writes < JUDGED_WRITES {
            return;
        }
        let ps = u64::try_from(self.time.as_nanos() * 1000 / u128::from(self.bytes)).unwrap_or(u64::MAX);
        // One write that met a stalled disk is not to decide for the next ones.
        let average = |before: u64| (before + ps.min(before.saturating_mul(4))) / 2;
        self.ps_per_byte = Some(self.ps_per_byte.map_or(ps, average));
        (self.writes, self.bytes, self.time) = (0, 0, Duration::ZERO);
    }
}

/// One write that has ended, with nobody waiting for a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Measured {
    pub is_direct: bool,
    pub bytes: usize,
    pub started: Monotonic,
    pub ended: Monotonic,
}

/// Both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct WriteCosts {
    cached: Cost,
    direct: Cost,
}

impl WriteCosts {
    pub fn note(&mut self, measured: Measured) {
        if measured.bytes >= MEASURED_BYTES_MIN {
            if !measured.is_direct && measured.ended.since(self.direct.last_ended) > TRIED_AGAIN_AFTER {
                self.direct = Cost::default();
            }
            let cost = if measured.is_direct { &mut self.direct } else { &mut self.cached };
            cost.note(measured);
        }
    }

    /// Whether large writes should go past the page cache from now on. A change is worth a quarter of the cost at least, or the log
    /// would go to and fro; what is not known yet is tried, if the cache is slow.
    pub fn is_direct_better(&self, is_direct: bool) -> bool {
        let direct = self.direct.ps_per_byte.filter(|_| self.direct.all_bytes >= TRIAL_BYTES);
        match (self.cached.ps_per_byte, direct) {
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

    /// Writes of 1 MiB, the next one begun when so many are in flight. Each takes `micros` for itself, and waits for those
    /// before it.
    fn write(costs: &mut WriteCosts, is_direct: bool, count: u32, micros: u64, in_flight: u64) {
        let mut clock = costs.cached.last_ended.max(costs.direct.last_ended);
        for _ in 0..count {
            let ended = clock + Duration::from_micros(micros);
            let started = Monotonic(clock.0.saturating_sub((in_flight - 1) * micros * 1000));
            costs.note(Measured { is_direct, bytes: 1 << 20, started, ended });
            clock = ended;
        }
    }

    /// `cached` and `direct`: microseconds of each of 16 writes, none if 0.
    fn costs(cached: u64, direct: u64, in_flight: u64) -> WriteCosts {
        let mut costs = WriteCosts::default();
        for (is_direct, micros) in [(false, cached), (true, direct)].into_iter().filter(|(_, m)| *m > 0) {
            write(&mut costs, is_direct, if is_direct { 128 } else { JUDGED_WRITES }, micros, in_flight);
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
            for in_flight in [1, 8] {
                let costs = costs(cached, direct, in_flight);
                assert_eq!(costs.is_direct_better(false), from_cached, "{cached} {direct} from the cache");
                assert_eq!(costs.is_direct_better(true), from_direct, "{cached} {direct} from direct");
            }
        }
    }

    #[test]
    fn a_disk_that_does_many_at_a_time_beats_a_cache_that_does_one() {
        let mut costs = costs(2_700, 0, 1);
        // Each takes 8 ms, 16 at a time.
        let begun = costs.cached.last_ended;
        for round in 0..8 {
            let started = begun + Duration::from_millis(8 * round);
            for _ in 0..16 {
                let ended = started + Duration::from_millis(8);
                costs.note(Measured { is_direct: true, bytes: 1 << 20, started, ended });
            }
        }
        assert!(costs.is_direct_better(true) && costs.is_direct_better(false), "{costs:?}");
    }

    #[test]
    fn a_trial_is_judged_by_its_end_and_made_again_in_time() {
        let mut costs = costs(2_700, 0, 1);
        write(&mut costs, true, JUDGED_WRITES, 25_000, 1);
        assert!(costs.is_direct_better(true), "it goes on");
        write(&mut costs, true, 128 - JUDGED_WRITES, 500, 1);
        assert!(costs.is_direct_better(true) && costs.is_direct_better(false));
        // This one was not worth it.
        write(&mut costs, true, JUDGED_WRITES * 8, 25_000, 1);
        assert!(!costs.is_direct_better(true));
        write(&mut costs, false, JUDGED_WRITES, 2_700, 1);
        assert!(!costs.is_direct_better(false));
        costs.cached.last_ended = costs.cached.last_ended + TRIED_AGAIN_AFTER;
        write(&mut costs, false, 1, 2_700, 1);
        assert!(costs.is_direct_better(false));
    }

    #[test]
    fn few_writes_and_small_ones_decide_nothing() {
        let mut costs = WriteCosts::default();
        write(&mut costs, false, JUDGED_WRITES - 1, 50_000, 1);
        let ended = costs.cached.last_ended + Duration::from_millis(50);
        let small = Measured { is_direct: false, bytes: MEASURED_BYTES_MIN - 1, started: ended, ended };
        (0..100).for_each(|_| costs.note(small));
        assert!(!costs.is_direct_better(false));
        write(&mut costs, false, 1, 50_000, 1);
        assert!(costs.is_direct_better(false));
    }

    #[test]
    fn one_stalled_write_does_not_send_a_log_past_a_fast_cache() {
        let mut costs = costs(200, 0, 1);
        write(&mut costs, false, 1, 30_000_000, 1);
        write(&mut costs, false, JUDGED_WRITES - 1, 200, 1);
        assert!(!costs.is_direct_better(false));
        // But a cache that is slow from now on is noticed within a few dozen writes.
        write(&mut costs, false, 4 * JUDGED_WRITES, 2_700, 1);
        assert!(costs.is_direct_better(false));
    }
}
