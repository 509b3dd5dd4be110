//! Producer ids, given out in blocks: one metadata entry serves a thousand producers.

use crate::metadata::{Image, ProducerIdsRecord, Record};
use crate::model::ProducerId;

/// Ids in one block. Source: Apache Kafka, `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Ids that belong to one shard alone. What it does not give out before it stops is lost, never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProducerIdBlock {
    next: i64,
    end: i64,
}

impl ProducerIdBlock {
    /// A block with nothing in it: the state of a shard before its first.
    pub const EMPTY: ProducerIdBlock = ProducerIdBlock { next: 0, end: 0 };

    /// `first..first + count`.
    pub fn new(first: ProducerId, count: i64) -> ProducerIdBlock {
        assert!(first.0 >= 0 && count >= 0, "a block of {count} ids from {}", first.0);
        ProducerIdBlock { next: first.0, end: first.0 + count }
    }

    /// An id that nobody has. `None`: a new block is needed.
    pub fn take(&mut self) -> Option<ProducerId> {
        let id = ProducerId(self.next);
        (self.next < self.end).then(|| {
            self.next += 1;
            id
        })
    }

    pub fn remaining(&self) -> i64 {
        self.end - self.next
    }
}

/// The next block and the record that makes it belong to somebody. It may be used once that is committed. `None` when all
/// 2^63 ids are gone.
pub fn allocate_producer_ids(image: &Image) -> Option<(Vec<Record>, ProducerIdBlock)> {
    let first = image.next_producer_id;
    let next = ProducerId(first.0.checked_add(PRODUCER_ID_BLOCK)?);
    let block = ProducerIdBlock::new(first, PRODUCER_ID_BLOCK);
    Some((vec![Record::ProducerIds(ProducerIdsRecord { next })], block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_each_id_once() {
        let mut block = ProducerIdBlock::new(ProducerId(5), 2);
        assert_eq!(block.take(), Some(ProducerId(5)));
        assert_eq!(block.remaining(), 1);
        assert_eq!(block.take(), Some(ProducerId(6)));
        assert_eq!(block.take(), None);
        assert_eq!(ProducerIdBlock::EMPTY.clone().take(), None);
    }
}
