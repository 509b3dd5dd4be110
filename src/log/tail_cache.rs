//! Recently written bytes of all logs of a shard, kept in memory within one budget; the oldest go first.
//!
//! The cache is one queue for the shard, so dropping the oldest costs nothing per log and ten thousand idle partitions
//! cost nothing at all. A log remembers which chunk holds which offsets and asks for the bytes by chunk number.

use std::collections::VecDeque;

use bytes::Bytes;

/// Names a chunk; numbers grow with time and are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChunkId(u64);

/// What a chunk costs beside its bytes: its place in the queue and in its log's list.
const CHUNK_OVERHEAD_BYTES: usize = 96;

/// Core: owner shard only.
pub struct TailCache {
    chunks: VecDeque<Bytes>,
    /// The number of the chunk at the front.
    first: u64,
    used_bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub fn new(bytes_max: usize) -> TailCache {
        TailCache { chunks: VecDeque::new(), first: 0, used_bytes: 0, bytes_max }
    }

    /// Keeps a chunk for as long as the budget allows, at the cost of the oldest ones.
    pub fn insert(&mut self, bytes: Bytes) -> ChunkId {
        let id = ChunkId(self.first + self.chunks.len() as u64);
        self.used_bytes += bytes.len() + CHUNK_OVERHEAD_BYTES;
        self.chunks.push_back(bytes);
        while self.used_bytes > self.bytes_max {
            let oldest = self.chunks.pop_front().expect("a cache in use holds a chunk");
            self.used_bytes -= oldest.len() + CHUNK_OVERHEAD_BYTES;
            self.first += 1;
        }
        id
    }

    /// The chunk's bytes, unless they have been dropped.
    pub fn get(&self, id: ChunkId) -> Option<&Bytes> {
        let index = id.0.checked_sub(self.first)?;
        self.chunks.get(usize::try_from(index).expect("an index of a queue in memory"))
    }

    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_budget_holds() {
        let mut cache = TailCache::new(3 * (100 + CHUNK_OVERHEAD_BYTES));
        let ids: Vec<ChunkId> = (0..5u8).map(|i| cache.insert(Bytes::from(vec![i; 100]))).collect();
        let kept: Vec<Option<u8>> = ids.iter().map(|id| cache.get(*id).map(|b| b[0])).collect();
        assert_eq!(kept, [None, None, Some(2), Some(3), Some(4)]);
        assert!(cache.used_bytes() <= 3 * (100 + CHUNK_OVERHEAD_BYTES));
    }

    #[test]
    fn a_chunk_larger_than_the_budget_is_not_kept() {
        let mut cache = TailCache::new(10);
        let id = cache.insert(Bytes::from_static(&[0; 100]));
        assert_eq!(cache.get(id), None);
        assert_eq!(cache.used_bytes(), 0);
    }
}
