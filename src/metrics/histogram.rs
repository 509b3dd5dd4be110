//! Durations in log-linear buckets, written by one thread and read by another without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 64 buckets to each power of two: a value is known to within 1.6 %.
const SUB_BUCKET_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << SUB_BUCKET_BITS;
/// 2^36 ns are 68 s; larger ones count as that. `max` stays exact.
const LARGEST_BITS: u32 = 36;
const BUCKETS: usize = (LARGEST_BITS - SUB_BUCKET_BITS + 1) as usize * SUB_BUCKETS;

const _: () = assert!(bucket_of((1 << LARGEST_BITS) - 1) == BUCKETS - 1);

/// A histogram of nanoseconds, or of counts. One writer: it loads and stores, no atomic read-modify-write. A reader on another thread may
/// see an increment's parts apart (count before sum), never a torn word.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// The bucket of a value below 2^36. Values below 64 have one each; from there on the top seven bits choose.
const fn bucket_of(ns: u64) -> usize {
    if ns < SUB_BUCKETS as u64 {
        return ns as usize;
    }
    let exponent = ns.ilog2() - SUB_BUCKET_BITS;
    (exponent as usize * SUB_BUCKETS) + (ns >> exponent) as usize
}

/// The smallest value of a bucket.
const fn lower_bound(bucket: usize) -> u64 {
    if bucket < 2 * SUB_BUCKETS {
        return bucket as u64;
    }
    let exponent = bucket / SUB_BUCKETS - 1;
    ((bucket % SUB_BUCKETS + SUB_BUCKETS) as u64) << exponent
}

/// The largest value of a bucket; the last one holds all that is larger as well.
const fn upper_bound(bucket: u16) -> u64 {
    if bucket as usize == BUCKETS - 1 { u64::MAX } else { lower_bound(bucket as usize + 1) - 1 }
}

/// The one writer's addition: nobody else stores, so nothing is lost between load and store.
pub(super) fn add(word: &AtomicU64, amount: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, duration: Duration) {
        self.record_value(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn record_value(&self, value: u64) {
        add(&self.buckets[bucket_of(value.min((1 << LARGEST_BITS) - 1))], 1);
        add(&self.sum, value);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}

/// What several histograms of one thing hold together, at one moment or between two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Distribution {
    /// (bucket, count) of each bucket that has one, ascending.
    counts: Vec<(u16, u64)>,
    sum: u64,
    max: u64,
}

impl Distribution {
    /// All of several shards' values, as they are now.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Distribution {
        let mut merged = vec![0; BUCKETS];
        let (mut sum, mut max) = (0u64, 0);
        for histogram in histograms {
            for (into, count) in merged.iter_mut().zip(&histogram.buckets) {
                *into += count.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(histogram.sum());
            max = max.max(histogram.max());
        }
        let counts = (0u16..).zip(merged).filter(|&(_, count)| count > 0).collect();
        Distribution { counts, sum, max }
    }

    /// What came after `earlier`. Its largest value is known as well as any other.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut before = earlier.counts.iter().peekable();
        let counts: Vec<(u16, u64)> = self
            .counts
            .iter()
            .filter_map(|&(bucket, count)| {
                while before.next_if(|(b, _)| *b < bucket).is_some() {}
                let known = before.next_if(|(b, _)| *b == bucket).map_or(0, |(_, known)| *known);
                Some((bucket, count.saturating_sub(known))).filter(|&(_, new)| new > 0)
            })
            .collect();
        let max = counts.last().map_or(0, |&(bucket, _)| upper_bound(bucket).min(self.max));
        Distribution { counts, sum: self.sum.wrapping_sub(earlier.sum), max }
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count().max(1) as f64
    }

    /// A value that so much of all values does not exceed, and that is itself at most 1.6 % too large; 0 if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.count() as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for &(bucket, count) in &self.counts {
            below += count;
            if below >= rank {
                return upper_bound(bucket).min(self.max);
            }
        }
        self.max
    }

    /// How many values are below `bound`. A bucket counts if its smallest value is: off by 1.6 % of the bound at most.
    pub fn below(&self, bound: u64) -> u64 {
        self.counts
            .iter()
            .take_while(|(bucket, _)| lower_bound(usize::from(*bucket)) < bound)
            .map(|c| c.1)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_meet_without_gap_or_overlap() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(lower_bound(bucket)), bucket);
            if bucket > 0 {
                assert_eq!(bucket_of(lower_bound(bucket) - 1), bucket - 1);
            }
        }
    }

    proptest! {
        #[test]
        fn a_value_is_known_to_within_two_percent(ns in 0u64..1 << LARGEST_BITS) {
            let bound = lower_bound(bucket_of(ns));
            prop_assert!(bound <= ns && (ns - bound) * 64 <= ns, "{ns} in the bucket of {bound}");
        }
    }

    #[test]
    fn quantiles_come_out_as_they_went_in() {
        let (one, two) = (Histogram::new(), Histogram::new());
        for microseconds in 1..=1000u64 {
            let histogram = if microseconds % 2 == 0 { &one } else { &two };
            histogram.record(Duration::from_micros(microseconds));
        }
        let merged = Distribution::of([&one, &two]);
        assert_eq!(merged.count(), 1000);
        for (quantile, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = merged.quantile(quantile) as f64;
            assert!((0.0..0.02).contains(&((found - expected) / expected)), "{quantile}: {found}");
        }
        assert_eq!((merged.max(), merged.sum()), (1_000_000, 500_500_000));
        let below = merged.below(500_001);
        assert!((500..=508).contains(&below), "{below}");
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }

    #[test]
    fn a_window_holds_what_came_in_it() {
        let histogram = Histogram::new();
        for microseconds in [5, 5, 900] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let before = Distribution::of([&histogram]);
        assert_eq!(before.since(&before), Distribution::default());
        for microseconds in [5, 30, 40] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let window = Distribution::of([&histogram]).since(&before);
        assert_eq!((window.count(), window.sum()), (3, 75_000));
        let max = window.max();
        assert!((40_000..40_700).contains(&max), "{max}: the 900 are of before");
        assert!((30_000..30_500).contains(&window.quantile(0.5)), "{}", window.quantile(0.5));
    }

    #[test]
    fn the_longest_durations_saturate() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_secs(3600));
        let distribution = Distribution::of([&histogram]);
        assert_eq!((distribution.count(), distribution.max()), (1, 3_600_000_000_000));
        assert_eq!(distribution.quantile(0.5), 3_600_000_000_000);
    }
}
