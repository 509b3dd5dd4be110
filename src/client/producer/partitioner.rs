//! Who chooses a record's partition.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::client::random::Random;

/// What a partitioner may look at.
#[derive(Debug)]
pub struct Choice<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// At least one.
    pub partition_count: i32,
}

/// Chooses partitions for records that name none.
pub trait Partitioner: Send + Sync {
    /// One of `0..choice.partition_count`; anything else, and a panic, is the error of that record.
    fn partition(&self, choice: &Choice<'_>) -> i32;
}

/// The partition of a key, as the Java client finds it, so that both agree.
/// Source: Apache Kafka, `BuiltInPartitioner.partitionForKey`.
pub fn partition_for_key(key: &[u8], partition_count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partition_count
}

/// MurmurHash2 of 32 bits, with Kafka's seed. Source: Apache Kafka, `Utils.murmur2`; Austin Appleby, MurmurHash2.
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MIX);
        word = (word ^ (word >> SHIFT)).wrapping_mul(MIX);
        hash = hash.wrapping_mul(MIX) ^ word;
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MIX);
    (hash ^ (hash >> 15)) as i32
}

/// Each partition in turn, those without a leader left out.
#[derive(Debug, Default)]
pub(super) struct RoundRobin(AtomicU32);

impl RoundRobin {
    /// One of `loads`. Panics if there is none.
    pub fn next(&self, loads: &[Load]) -> i32 {
        let turn = self.0.fetch_add(1, Ordering::Relaxed) as usize;
        let available = loads.iter().filter(|load| load.is_available).count();
        match loads.iter().filter(|load| load.is_available).nth(turn % available.max(1)) {
            Some(load) => load.partition,
            None => loads[turn % loads.len()].partition,
        }
    }
}

/// What a partition has to do already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    pub partition: i32,
    /// Batches that wait to be sent.
    pub queued: u32,
    /// It has a leader that takes requests.
    pub is_available: bool,
}

/// Stays with one partition until a batch's worth of bytes went there, then chooses another: at random, and with
/// `adaptive` the less often the more batches wait there already. Source: KIP-794, `BuiltInPartitioner`.
#[derive(Debug)]
pub(super) struct Sticky {
    current: Mutex<Option<Current>>,
    batch_bytes: usize,
    adaptive: bool,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    partition: i32,
    bytes: usize,
}

impl Sticky {
    pub fn new(batch_bytes: usize, adaptive: bool) -> Sticky {
        Sticky { current: Mutex::default(), batch_bytes: batch_bytes.max(1), adaptive }
    }

    /// The partition to use now; `loads` is asked when another is to be chosen.
    pub fn partition(&self, random: &Random, loads: impl FnOnce() -> Vec<Load>) -> i32 {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match *current {
            Some(current) => current.partition,
            None => {
                let partition = choose(&loads(), self.adaptive, random);
                *current = Some(Current { partition, bytes: 0 });
                partition
            }
        }
    }

    /// Counts a record that was appended. A partition that had its share is left at the end of a batch, or at twice the
    /// share, so that switching does not leave batches half full.
    pub fn appended(&self, partition: i32, bytes: usize, is_batch_end: bool) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stay) = current.as_mut().filter(|current| current.partition == partition) {
            stay.bytes += bytes;
            if (stay.bytes >= self.batch_bytes && is_batch_end) || stay.bytes >= 2 * self.batch_bytes {
                *current = None;
            }
        }
    }
}

/// Panics if there is no partition at all.
fn choose(loads: &[Load], adaptive: bool, random: &Random) -> i32 {
    let available = || loads.iter().filter(|load| load.is_available);
    let candidates: Vec<Load> =
        if available().next().is_some() { available().copied().collect() } else { loads.to_vec() };
    let longest = candidates.iter().map(|load| load.queued).max().expect("a topic has a partition");
    let weight = |load: &Load| if adaptive { u64::from(longest - load.queued) + 1 } else { 1 };
    let total: u64 = candidates.iter().map(weight).sum();
    let mut chance = random.below(total);
    for load in &candidates {
        match chance.checked_sub(weight(load)) {
            Some(rest) => chance = rest,
            None => return load.partition,
        }
    }
    unreachable!("chance was below the sum of all weights")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_the_java_clients() {
        // The values of Apache Kafka's `UtilsTest.testMurmur2`.
        let check = |key: &[u8], expected| assert_eq!(murmur2(key), expected, "{key:?}");
        check(b"21", -973_932_308);
        check(b"foobar", -790_332_482);
        check(b"a-little-bit-long-string", -985_981_536);
        check(b"a-little-bit-longer-string", -1_486_304_829);
        check(b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check(b"abc", 479_470_107);
    }

    #[test]
    fn a_key_has_one_partition() {
        for key in [&b""[..], b"a", b"orders", &[0xff; 100]] {
            let partition = partition_for_key(key, 7);
            assert!((0..7).contains(&partition), "{partition}");
            assert_eq!(partition, partition_for_key(key, 7));
        }
        // 479470107 & 0x7fffffff = 479470107; mod 10 = 7. A negative hash loses its sign bit alone:
        // -973932308 & 0x7fffffff = 1173551340; mod 10 = 0.
        assert_eq!((partition_for_key(b"abc", 10), partition_for_key(b"21", 10)), (7, 0));
    }

    fn loads(queued: &[(u32, bool)]) -> Vec<Load> {
        let load = |(&(queued, is_available), partition)| Load { partition, queued, is_available };
        queued.iter().zip(0..).map(load).collect()
    }

    #[test]
    fn sticky_stays_for_a_batchs_worth_of_bytes() {
        let (sticky, random) = (Sticky::new(100, true), Random::seeded(3));
        let first = sticky.partition(&random, || loads(&[(0, true); 50]));
        let again = || sticky.partition(&random, || panic!("nothing is to be chosen"));
        sticky.appended(first, 99, true);
        assert_eq!(again(), first);
        sticky.appended(first + 1, 1000, true);
        assert_eq!(again(), first, "what went elsewhere does not count");
        sticky.appended(first, 1, false);
        assert_eq!(again(), first, "not in the middle of a batch");
        sticky.appended(first, 1, true);
        let chosen: Vec<i32> = (0..20)
            .map(|_| {
                let partition = sticky.partition(&random, || loads(&[(0, true); 50]));
                sticky.appended(partition, 200, false);
                partition
            })
            .collect();
        assert!(chosen.iter().any(|partition| *partition != chosen[0]), "{chosen:?}");
    }

    #[test]
    fn longer_queues_are_chosen_less_often_and_unavailable_ones_never() {
        let random = Random::seeded(5);
        let count = |adaptive, queued: &[(u32, bool)]| {
            let mut counts = vec![0; queued.len()];
            for _ in 0..6_000 {
                counts[choose(&loads(queued), adaptive, &random) as usize] += 1;
            }
            counts
        };
        // Weights 3, 1, 2 of 6.
        let counts = count(true, &[(0, true), (2, true), (1, true)]);
        for (count, expected) in counts.iter().zip([3000, 1000, 2000]) {
            assert!((expected - 200..expected + 200).contains(count), "{counts:?}");
        }
        let counts = count(false, &[(0, true), (2, true), (0, false)]);
        assert!(counts[2] == 0 && (2700..3300).contains(&counts[0]), "{counts:?}");
        assert!(count(true, &[(0, false), (5, false)]).iter().all(|count| *count > 0), "better than none");
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        let turns = RoundRobin::default();
        let four = loads(&[(0, true), (0, false), (9, true), (0, true)]);
        let chosen: Vec<i32> = (0..6).map(|_| turns.next(&four)).collect();
        assert_eq!(chosen, [0, 2, 3, 0, 2, 3]);
        let chosen: Vec<i32> = (0..2).map(|_| turns.next(&loads(&[(0, false); 2]))).collect();
        assert_eq!(chosen, [0, 1]);
    }
}
