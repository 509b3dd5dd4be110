//! Memory for small things that are made one behind the other and are gone soon, such as replies.

use bytes::{Bytes, BytesMut};

use super::blocks::Rested;

/// Blocks that rest until all that was made in them is gone. A small thing that nobody takes keeps its whole block, so there are
/// no more of them: while all are in use, each thing has memory of its own.
const BLOCKS_MAX: usize = 64;

/// Blocks of memory that are filled in turn. A block serves again once nothing in it is used any more, so in the long run
/// nothing is allocated.
pub struct Arena {
    block_bytes: usize,
    /// The one that is being filled; `None` before the first use.
    block: Option<BytesMut>,
    resting: Rested,
    /// `block` is for one thing.
    is_single: bool,
}

impl Arena {
    /// Makes its memory when it is first used.
    pub fn new(block_bytes: usize) -> Arena {
        Arena { block_bytes, block: None, resting: Rested::default(), is_single: false }
    }

    /// An empty buffer with room for `bytes`. What is made in it is split off; what it has left serves the next one. A larger
    /// thing finds memory of its own.
    pub fn buffer(&mut self, bytes: usize) -> &mut BytesMut {
        let block = match self.block.take() {
            Some(block) if block.capacity() >= bytes => block,
            full => self.next_block(full, bytes),
        };
        assert!(block.is_empty(), "what was made in the arena was not split off");
        self.block.insert(block)
    }

    fn next_block(&mut self, full: Option<BytesMut>, bytes: usize) -> BytesMut {
        self.resting.0.extend(full.filter(|_| !self.is_single));
        // One that is not free waits in a slow client's queue.
        if let Some(rested) = self.resting.take(self.block_bytes) {
            self.is_single = false;
            return rested;
        }
        self.is_single = self.resting.0.len() >= BLOCKS_MAX;
        BytesMut::with_capacity(if self.is_single { bytes } else { self.block_bytes })
    }

    /// Makes one thing.
    pub fn make(&mut self, bytes: usize, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
        let buffer = self.buffer(bytes);
        fill(buffer);
        buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn blocks_serve_again_once_nothing_in_them_is_used() {
        let mut arena = Arena::new(1000);
        let mut addresses = std::collections::BTreeSet::new();
        let mut alive = VecDeque::new();
        for round in 0..100u8 {
            let made = arena.make(400, |buffer| buffer.extend_from_slice(&[round; 400]));
            addresses.insert(made.as_ptr().addr());
            alive.push_back((round, made));
            if alive.len() > 3 {
                let (round, oldest) = alive.pop_front().unwrap();
                assert!(oldest.iter().all(|byte| *byte == round), "round {round} was written over");
            }
        }
        assert!(addresses.len() <= 8, "{} places for four things at a time", addresses.len());
    }

    #[test]
    fn things_that_nobody_takes_keep_a_bounded_number_of_blocks() {
        let mut arena = Arena::new(1000);
        let mut kept = Vec::new();
        for round in 0..10 * BLOCKS_MAX {
            // One small thing in each block stays; the rest of the block is used up and gone.
            kept.push(arena.make(10, |buffer| buffer.extend_from_slice(&[round as u8; 10])));
            drop(arena.make(900, |buffer| buffer.extend_from_slice(&[0; 900])));
            assert!(arena.resting.0.len() <= BLOCKS_MAX, "{} blocks", arena.resting.0.len());
        }
        assert!(arena.is_single);
        assert!(kept.iter().enumerate().all(|(round, made)| made == &[round as u8; 10][..]));
        // They are gone: blocks serve again.
        kept.clear();
        (0..BLOCKS_MAX).for_each(|_| drop(arena.make(900, |buffer| buffer.extend_from_slice(&[0; 900]))));
        assert!(!arena.is_single && arena.resting.0.len() <= BLOCKS_MAX);
    }

    #[test]
    fn what_is_larger_than_a_block_is_made_all_the_same() {
        let mut arena = Arena::new(100);
        let made = arena.make(10, |buffer| buffer.extend_from_slice(&[7; 5000]));
        assert_eq!(made, [7; 5000][..]);
        assert_eq!(arena.make(10, |buffer| buffer.extend_from_slice(b"next")), b"next"[..]);
    }
}
