//! Which partition a record goes to.

use crate::workload::{Keys, Workload};

use super::batch::KEY_BYTES;

/// Draws keys and partitions. A seed makes the same series.
pub struct Chooser {
    partitions: Vec<i32>,
    next: usize,
    /// How often keys up to each index come, of 1.0 in all. Empty: no keys.
    shares: Vec<f64>,
    /// Partition of each key, as an index into `partitions`.
    homes: Vec<usize>,
    state: u64,
}

impl Chooser {
    /// Over the partitions that a connection may write to, of `all` in the topic.
    pub fn new(workload: &Workload, partitions: Vec<i32>, all: i32, seed: u64) -> Chooser {
        let weight = |rank: u32| match workload.keys {
            Keys::None => 0.0,
            Keys::Uniform => 1.0,
            Keys::Zipf => 1.0 / f64::from(rank + 1),
        };
        let count = if workload.keys == Keys::None { 0 } else { workload.key_count };
        let total: f64 = (0..count).map(weight).sum();
        let mut sum = 0.0;
        let mut shares = Vec::new();
        let mut homes = Vec::new();
        for rank in 0..count {
            sum += weight(rank) / total;
            shares.push(sum);
            let home = partition_of(&key_bytes(u64::from(rank)), all);
            // Another endpoint's partition is another connection's business: its keys go to the nearest of ours.
            homes.push(partitions.iter().position(|partition| *partition >= home).unwrap_or(0));
        }
        // Connections begin at different partitions, so that few of them do not walk in step.
        Chooser { next: seed as usize % partitions.len(), partitions, shares, homes, state: mix(seed) }
    }

    pub fn choose(&mut self) -> (i32, Option<[u8; KEY_BYTES]>) {
        if self.shares.is_empty() {
            let partition = self.partitions[self.next];
            self.next = (self.next + 1) % self.partitions.len();
            return (partition, None);
        }
        self.state = mix(self.state);
        let drawn = (self.state >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = self.shares.partition_point(|share| *share <= drawn).min(self.shares.len() - 1);
        (self.partitions[self.homes[rank]], Some(key_bytes(rank as u64)))
    }
}

fn key_bytes(rank: u64) -> [u8; KEY_BYTES] {
    rank.to_be_bytes()
}

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Kafka's default partitioner for records with a key: murmur2, its sign dropped, modulo the partitions.
fn partition_of(key: &[u8], partitions: i32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions as u32) as i32
}

/// Source: Austin Appleby's MurmurHash2 with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_clients_send_them() {
        // Source: Kafka's UtilsTest.testMurmur2.
        for (text, hash) in
            [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    fn counts(keys: Keys, partitions: i32, draws: usize) -> Vec<usize> {
        let workload = Workload { keys, key_count: 1000, ..Workload::default() };
        let mut chooser = Chooser::new(&workload, (0..partitions).collect(), partitions, 3);
        let mut counts = vec![0; partitions as usize];
        for _ in 0..draws {
            counts[chooser.choose().0 as usize] += 1;
        }
        counts
    }

    #[test]
    fn partitions_get_their_share() {
        assert_eq!(counts(Keys::None, 4, 400), [100; 4]);
        let uniform = counts(Keys::Uniform, 4, 40_000);
        assert!(uniform.iter().all(|count| (7_000..13_000).contains(count)), "{uniform:?}");
        // The first of 1000 keys alone has 1/7.49 of all draws.
        let workload = Workload { keys: Keys::Zipf, key_count: 1000, ..Workload::default() };
        let mut chooser = Chooser::new(&workload, vec![0], 1, 3);
        let first = (0..40_000).filter(|_| chooser.choose().1 == Some(key_bytes(0))).count();
        assert!((4_900..5_800).contains(&first), "{first}");
    }
}
