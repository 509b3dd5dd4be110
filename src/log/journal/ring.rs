//! Which blocks of a journal are free. Pure: no file, no clock.
//!
//! Groups are placed one behind the other; a group that does not fit before the end starts the next lap at the front. A block
//! is given out again only after the group in it was released: acknowledged data is never written over.
//!
//! One block always stays free for a group without appends: the one that says that a checkpoint is done, without which
//! nothing would ever be released.

use std::collections::VecDeque;

use super::format::BLOCK_BYTES;

/// Block 0 is the file's header.
const FIRST_BLOCK: u64 = 1;

/// Blocks of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub start: u64,
    pub blocks: u64,
    pub lap: u32,
}

struct Live {
    sequence: u64,
    placed: Placed,
}

pub(super) struct BlockRing {
    /// Blocks of the file that may be used, the header included.
    end: u64,
    /// More blocks that are zeroed; used from the next lap boundary on.
    grown: Option<u64>,
    head: u64,
    lap: u32,
    live: VecDeque<Live>,
    used: u64,
}

/// The free places: at most two runs of blocks.
#[derive(Clone, Copy)]
struct Free {
    head: u64,
    lap: u32,
    /// Exclusive end of the run at `head`.
    until: u64,
    /// Exclusive end of the run at the front, if a wrap leads to one.
    front: Option<u64>,
}

impl Free {
    fn take(&mut self, blocks: u64) -> Option<Placed> {
        if self.head + blocks > self.until {
            let front = self.front.take()?;
            (self.head, self.lap, self.until) = (FIRST_BLOCK, self.lap + 1, front);
            if self.head + blocks > self.until {
                return None;
            }
        }
        let placed = Placed { start: self.head, blocks, lap: self.lap };
        self.head += blocks;
        Some(placed)
    }
}

impl BlockRing {
    pub fn new(blocks: u64) -> BlockRing {
        assert!(blocks > FIRST_BLOCK + 1, "a journal of {blocks} blocks has no room");
        BlockRing { end: blocks, grown: None, head: FIRST_BLOCK, lap: 0, live: VecDeque::new(), used: 0 }
    }

    /// Blocks of the file in use, the header included.
    pub fn size_blocks(&self) -> u64 {
        self.end
    }

    /// As `size_blocks`, in bytes: where the file ends.
    pub fn size_bytes(&self) -> u64 {
        self.end * BLOCK_BYTES as u64
    }

    /// Bytes of groups that are not released.
    pub fn used_bytes(&self) -> u64 {
        self.used * BLOCK_BYTES as u64
    }

    /// Bytes that groups may take, as the file is now.
    pub fn capacity_bytes(&self) -> u64 {
        (self.end - FIRST_BLOCK) * BLOCK_BYTES as u64
    }

    /// More of the file is zeroed, durably.
    pub fn grow_to(&mut self, blocks: u64) {
        assert!(blocks > self.end, "a journal grows: {} to {blocks} blocks", self.end);
        self.grown = Some(blocks);
    }

    /// A growth waits for the lap to end.
    pub fn has_grown(&self) -> bool {
        self.grown.is_some()
    }

    fn free(&self) -> Free {
        let (until, front) = match self.live.front() {
            None => (self.end, Some(self.head.max(FIRST_BLOCK))),
            Some(oldest) if oldest.placed.start < self.head => (self.end, Some(oldest.placed.start)),
            Some(oldest) => (oldest.placed.start, None),
        };
        Free { head: self.head, lap: self.lap, until, front }
    }

    /// Whether a group of so many blocks has a place, with one left over for the end of a checkpoint.
    pub fn has_room(&self, blocks: u64) -> bool {
        let is_there = |mut free: Free| free.take(blocks).is_some() && free.take(1).is_some();
        is_there(self.free()) || self.grown_free().is_some_and(is_there)
    }

    /// Whether any block is free, the one that is kept for the end of a checkpoint included.
    pub fn has_block(&self) -> bool {
        self.free().take(1).is_some() || self.grown_free().is_some_and(|mut free| free.take(1).is_some())
    }

    /// As `free`, if the lap ended at the grown end.
    fn grown_free(&self) -> Option<Free> {
        let free = self.free();
        let grown = self.grown.filter(|_| free.until == self.end)?;
        Some(Free { until: grown, ..free })
    }

    /// Takes blocks for a group. Panics if there is no room: ask `has_room` first (for more than one block).
    pub fn place(&mut self, sequence: u64, blocks: u64) -> Placed {
        let mut free = self.free();
        // At the end of a lap the ring grows instead, if it can.
        if free.head + blocks > free.until
            && let Some(grown) = self.grown_free()
        {
            self.end = grown.until;
            self.grown = None;
            free = grown;
        }
        let placed = free.take(blocks).expect("the caller asked for room");
        (self.head, self.lap) = (free.head, free.lap);
        assert!(placed.start + blocks <= self.end, "{placed:?} is outside of {} blocks", self.end);
        if let Some(last) = self.live.back() {
            assert!(last.sequence < sequence, "{sequence} after {}", last.sequence);
        }
        self.live.push_back(Live { sequence, placed });
        self.used += blocks;
        placed
    }

    /// The group that was placed last turned out to be shorter: what it has left over goes to the next one.
    pub fn trim(&mut self, blocks: u64) {
        let last = self.live.back_mut().expect("a group was placed");
        assert!(blocks <= last.placed.blocks, "{:?} grows to {blocks} blocks", last.placed);
        self.used -= last.placed.blocks - blocks;
        last.placed.blocks = blocks;
        self.head = last.placed.start + blocks;
    }

    /// Groups before this one are in the segments, durably, and a durable group says so.
    pub fn release_below(&mut self, sequence: u64) {
        while self.live.front().is_some_and(|live| live.sequence < sequence) {
            let live = self.live.pop_front().expect("looked at a moment ago");
            self.used -= live.placed.blocks;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_follow_each_other_and_wrap_into_what_was_released() {
        let mut ring = BlockRing::new(11);
        assert_eq!(ring.place(1, 4), Placed { start: 1, blocks: 4, lap: 0 });
        assert_eq!(ring.place(2, 4), Placed { start: 5, blocks: 4, lap: 0 });
        assert!(!ring.has_room(2), "two fit behind, and nothing for the checkpoint");
        assert!(ring.has_room(1));
        ring.release_below(2);
        assert!(ring.has_room(3), "three in front");
        assert!(!ring.has_room(5), "never over the live group");
        assert_eq!(ring.place(3, 3), Placed { start: 1, blocks: 3, lap: 1 });
        assert_eq!(ring.used, 7);
    }

    #[test]
    fn it_grows_at_the_end_of_a_lap_only() {
        let mut ring = BlockRing::new(5);
        ring.place(1, 1);
        ring.grow_to(9);
        assert_eq!(ring.size_blocks(), 5);
        assert_eq!(ring.place(2, 2).start, 2);
        assert_eq!(ring.size_blocks(), 5);
        assert!(ring.has_room(3));
        assert_eq!(ring.place(3, 3), Placed { start: 4, blocks: 3, lap: 0 });
        assert_eq!(ring.size_blocks(), 9);
    }

    proptest! {
        /// Against a list of live groups: none overlaps another, and a checkpoint can always be told.
        #[test]
        fn live_groups_never_overlap(steps in prop::collection::vec((1u64..9, 0u64..5, prop::bool::weighted(0.05)), 1..400)) {
            let mut ring = BlockRing::new(40);
            let mut live: Vec<(u64, Placed)> = Vec::new();
            let (mut sequence, mut released) = (0, 0);
            for (blocks, release, grows) in steps {
                if grows && ring.grown.is_none() {
                    ring.grow_to(ring.size_blocks() + 16);
                }
                let is_append = ring.has_room(blocks);
                let blocks = if is_append { blocks } else { 1 };
                if !is_append {
                    // The checkpoint: everything before is released once its group is written.
                    released = sequence;
                }
                sequence += 1;
                let placed = ring.place(sequence, blocks);
                for (_, other) in &live {
                    let is_apart = placed.start + placed.blocks <= other.start
                        || other.start + other.blocks <= placed.start;
                    prop_assert!(is_apart, "{placed:?} over {other:?}");
                }
                prop_assert!(placed.start >= FIRST_BLOCK && placed.start + placed.blocks <= ring.size_blocks());
                live.push((sequence, placed));
                released = released.max(sequence.saturating_sub(20 + release));
                live.retain(|(number, _)| *number >= released);
                ring.release_below(released);
                let used: u64 = live.iter().map(|(_, placed)| placed.blocks).sum();
                prop_assert_eq!(ring.used, used);
            }
        }
    }
}
