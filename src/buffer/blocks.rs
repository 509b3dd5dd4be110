//! Blocks of memory that are filled bit by bit, lent to many, and used again once nobody has any of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use bytes::BytesMut;

/// A larger block is freed by its last user: few have one size.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Sizes are powers of two up to here.
const DOUBLED_BYTES_MAX: usize = 1 << 20;

/// And multiples of this from there on.
const LARGE_STEP: usize = 128 << 10;

/// How many blocks are looked at for one that is free: they rest in the order in which they were filled, and mostly become
/// free in it.
const LOOKS_MAX: usize = 4;

/// The same for blocks that were lent as a whole: many may be out, and one that is found is worth much more than a look.
const NEWEST_LOOKS_MAX: usize = 32;

/// Bytes of free blocks that a thread keeps of one size. Those that somebody has some of are not counted: they cost nothing.
const FREE_BYTES_MAX: usize = 8 << 20;

/// Memory of one size, made by [`Block::take`]. What is split off it may live on; when the block is dropped the memory rests
/// on this thread until that is gone too, and is then taken again.
#[derive(Default, Debug)]
pub struct Block {
    memory: BytesMut,
    /// What was asked for; 0: none.
    size_bytes: usize,
}

impl Block {
    /// The size of a block for so many bytes: few are asked for.
    pub fn size_for(bytes: usize) -> usize {
        if bytes <= DOUBLED_BYTES_MAX {
            bytes.next_power_of_two()
        } else {
            bytes.next_multiple_of(LARGE_STEP)
        }
    }

    /// An empty block with room for so many bytes. Few sizes should be asked for.
    pub fn take(size_bytes: usize) -> Block {
        let rested = RESTING.with_borrow_mut(|resting| resting.size(size_bytes)?.rested.take(size_bytes));
        Block { memory: rested.unwrap_or_else(|| BytesMut::with_capacity(size_bytes)), size_bytes }
    }

    /// All the room of a block for so many bytes, which rests here until whoever fills it, and has what was filled, is done with
    /// it. The block that was lent last goes first, if it is back: the caches have it still.
    pub fn lend(bytes: usize) -> BytesMut {
        let size_bytes = Block::size_for(bytes);
        let rested =
            RESTING.with_borrow_mut(|resting| resting.size(size_bytes)?.rested.take_newest(size_bytes));
        let memory = rested.unwrap_or_else(|| BytesMut::with_capacity(size_bytes));
        Block { memory, size_bytes }.memory.split_off(0)
    }
}

impl Deref for Block {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.memory
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.memory
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if (1..=KEPT_BYTES_MAX).contains(&self.size_bytes) {
            self.memory.clear();
            let memory = std::mem::take(&mut self.memory);
            // Without the list (the thread ends) it is freed by its last user.
            let _ = RESTING.try_with(|resting| resting.borrow_mut().keep(memory, self.size_bytes));
        }
    }
}

/// Full blocks of one size, the one longest full first.
#[derive(Default)]
pub(super) struct Rested(pub VecDeque<BytesMut>);

impl Rested {
    /// One that nobody has any of, and that has room for so many bytes again.
    pub fn take(&mut self, block_bytes: usize) -> Option<BytesMut> {
        for _ in 0..self.0.len().min(LOOKS_MAX) {
            let mut oldest = self.0.pop_front().expect("counted");
            if oldest.try_reclaim(block_bytes) {
                return Some(oldest);
            }
            self.0.push_back(oldest);
        }
        None
    }

    /// As `take`, but of those that came last. They stay where they are meanwhile, and those before them become the oldest.
    fn take_newest(&mut self, block_bytes: usize) -> Option<BytesMut> {
        let mut looked_at = (0..self.0.len()).rev().take(NEWEST_LOOKS_MAX);
        let free = looked_at.find(|index| self.0[*index].try_reclaim(block_bytes))?;
        self.0.remove(free)
    }
}

struct Size {
    block_bytes: usize,
    rested: Rested,
}

impl Size {
    /// Lets go of the oldest block if the one at the bound is free, as those before it will mostly be. If that one is not free,
    /// its last user frees it.
    fn trim(&mut self) {
        let kept = FREE_BYTES_MAX / self.block_bytes;
        if self.rested.0.get_mut(kept).is_some_and(|block| block.try_reclaim(self.block_bytes)) {
            self.rested.0.pop_front();
        }
    }
}

struct Resting {
    sizes: Vec<Size>,
    /// The size that is trimmed next: one that nobody asks for any more has its turn as well.
    trimmed: usize,
}

thread_local! {
    static RESTING: RefCell<Resting> = const { RefCell::new(Resting { sizes: Vec::new(), trimmed: 0 }) };
}

impl Resting {
    fn size(&mut self, block_bytes: usize) -> Option<&mut Size> {
        self.sizes.iter_mut().find(|size| size.block_bytes == block_bytes)
    }

    fn keep(&mut self, memory: BytesMut, block_bytes: usize) {
        match self.size(block_bytes) {
            Some(size) => size.rested.0.push_back(memory),
            None => self.sizes.push(Size { block_bytes, rested: Rested(VecDeque::from([memory])) }),
        }
        // More often than blocks come to rest, so that what is free gets less.
        for _ in 0..2 {
            self.trimmed = (self.trimmed + 1) % self.sizes.len();
            self.sizes[self.trimmed].trim();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::collections::BTreeSet;

    /// Fills a block of this size, and gives back its pieces.
    fn fill(size_bytes: usize, piece_bytes: usize, with: u8) -> Vec<Bytes> {
        let mut block = Block::take(size_bytes);
        assert!(block.is_empty() && block.capacity() >= size_bytes);
        let pieces = (0..size_bytes / piece_bytes).map(|_| {
            block.extend_from_slice(&vec![with; piece_bytes]);
            block.split().freeze()
        });
        pieces.collect()
    }

    fn resting(block_bytes: usize) -> usize {
        RESTING.with_borrow_mut(|resting| resting.size(block_bytes).map_or(0, |size| size.rested.0.len()))
    }

    #[test]
    fn a_block_is_taken_again_once_all_of_it_is_gone() {
        let mut lent = VecDeque::new();
        let mut places = BTreeSet::new();
        for round in 0..200u8 {
            let pieces = fill(1000, 100, round);
            places.insert(pieces[0].as_ptr().addr());
            // One piece of each block stays for a while, and not always the same.
            lent.push_back((round, pieces[usize::from(round) % 10].clone()));
            if lent.len() > 5 {
                let (round, oldest) = lent.pop_front().unwrap();
                assert!(oldest.iter().all(|byte| *byte == round), "block {round} was written over");
            }
        }
        assert!(places.len() <= 8, "{} places for six blocks at a time", places.len());
    }

    #[test]
    fn a_block_that_was_lent_as_a_whole_is_taken_again() {
        let lend = || {
            let mut lent = Block::lend(7000);
            assert!(lent.is_empty() && lent.capacity() >= 7000);
            lent.extend_from_slice(&[1; 6999]);
            lent.freeze()
        };
        let first = lend();
        let place = first.as_ptr().addr();
        let second = lend();
        assert_ne!(second.as_ptr().addr(), place, "the first is in use");
        let rest = first.slice(6000..);
        drop(first);
        let newest = second.as_ptr().addr();
        drop(second);
        for _ in 0..10 {
            assert_eq!(
                lend().as_ptr().addr(),
                newest,
                "a part of the other is in use, and this one was lent last"
            );
        }
        drop(rest);
        let again = lend();
        assert_eq!((again.as_ptr().addr(), lend().as_ptr().addr()), (newest, place));
    }

    #[test]
    fn one_that_stays_in_use_does_not_stop_the_others() {
        let pinned = fill(2000, 500, 7);
        let mut places = BTreeSet::new();
        for round in 0..100 {
            places.insert(fill(2000, 500, round)[0].as_ptr().addr());
        }
        assert!(places.len() <= 2, "{} places", places.len());
        assert!(pinned.iter().all(|piece| *piece == [7; 500][..]));
    }

    #[test]
    fn free_blocks_are_bounded_also_of_a_size_that_is_not_asked_for_any_more() {
        const LARGE: usize = 1 << 20;
        let lent: Vec<_> = (0..100).map(|_| fill(LARGE, LARGE, 1)).collect();
        assert_eq!(resting(LARGE), 100);
        drop(lent);
        for _ in 0..1000 {
            fill(3000, 1000, 2);
        }
        assert_eq!(resting(LARGE), FREE_BYTES_MAX / LARGE);
        assert!(resting(3000) <= 2);
    }

    #[test]
    fn very_large_blocks_are_not_kept() {
        fill(KEPT_BYTES_MAX + 1, 1000, 1);
        assert_eq!(resting(KEPT_BYTES_MAX + 1), 0);
    }

    #[test]
    fn what_another_thread_drops_last_comes_back() {
        let pieces = fill(5000, 5000, 1);
        let place = pieces[0].as_ptr().addr();
        #[allow(clippy::disallowed_methods, reason = "a test has threads of its own")]
        std::thread::spawn(move || drop(pieces)).join().unwrap();
        assert_eq!(fill(5000, 5000, 2)[0].as_ptr().addr(), place);
    }
}
