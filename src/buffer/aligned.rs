//! Memory for writes past the page cache: aligned, padded with zeros, used again.

use bytes::{Buf, Bytes};

use super::Block;

/// Address and length of every buffer are multiples of this.
pub const ALIGNMENT: usize = 4096;

/// Smaller ones have this capacity too: few sizes are kept.
const CAPACITY_BYTES_MIN: usize = 16 * 1024;

/// A buffer to fill and to write past the page cache. Its memory rests where it was filled until the last slice of it is gone.
pub struct AlignedBuffer {
    block: Block,
    capacity: usize,
}

impl Block {
    /// An empty block with room for so many bytes, of which the first has this address, modulo [`ALIGNMENT`].
    pub fn take_at(address: usize, size_bytes: usize) -> Block {
        let mut block = Block::take(size_bytes + ALIGNMENT);
        let skipped = address.wrapping_sub(block.as_ptr().addr()) % ALIGNMENT;
        block.resize(skipped, 0);
        block.advance(skipped);
        block
    }
}

impl AlignedBuffer {
    /// An empty buffer with room for at least so many bytes.
    pub fn with_capacity(bytes: usize) -> AlignedBuffer {
        let capacity = Block::size_for(bytes).max(CAPACITY_BYTES_MIN);
        AlignedBuffer { block: Block::take_at(0, capacity), capacity }
    }

    pub fn len(&self) -> usize {
        self.block.len()
    }

    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Appends bytes. Panics beyond the capacity asked for, rounded up.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity - self.block.len(), "a buffer of {} overflows", self.capacity);
        self.block.extend_from_slice(bytes);
    }

    /// Pads with zeros to a whole number of blocks. What an earlier user left never reaches a disk.
    pub fn pad(&mut self) {
        let end = self.block.len().next_multiple_of(ALIGNMENT);
        self.block.resize(end, 0);
    }

    /// Shares the bytes; the first is aligned.
    pub fn freeze(mut self) -> Bytes {
        self.block.split().freeze()
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.block
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_padded_with_zeros_and_used_again() {
        let mut first = AlignedBuffer::with_capacity(20_000);
        first.extend_from_slice(&[0xff; 20_000]);
        let address = first.as_ref().as_ptr();
        assert_eq!(address.addr() % ALIGNMENT, 0);
        let shared = first.freeze();
        assert_eq!(shared.as_ptr(), address);
        let slice = shared.slice(8192..);
        drop(shared);
        let other = AlignedBuffer::with_capacity(20_000);
        assert_ne!(other.as_ref().as_ptr(), address, "memory in use is not given out");
        drop(slice);
        let mut second = AlignedBuffer::with_capacity(30_000);
        assert_eq!(second.as_ref().as_ptr(), address);
        second.extend_from_slice(b"abc");
        second.pad();
        assert_eq!(second.len(), ALIGNMENT);
        assert_eq!(&second.as_ref()[..3], b"abc");
        assert!(second.as_ref()[3..].iter().all(|byte| *byte == 0));
    }

    #[test]
    #[should_panic(expected = "overflows")]
    fn a_buffer_does_not_move() {
        AlignedBuffer::with_capacity(1000).extend_from_slice(&[1; CAPACITY_BYTES_MIN + 1]);
    }

    #[test]
    fn a_block_begins_where_it_was_asked_for_also_when_it_is_used_again() {
        let mut lent = Vec::new();
        for round in 0..50usize {
            let mut block = Block::take_at(round * 777, 64 << 10);
            assert_eq!(block.as_ptr().addr() % ALIGNMENT, round * 777 % ALIGNMENT);
            block.extend_from_slice(&[round as u8; 64 << 10]);
            lent.push((round as u8, block.split().freeze()));
            if round % 3 > 0 {
                lent.remove(0);
            }
        }
        assert!(lent.iter().all(|(round, bytes)| bytes.iter().all(|byte| byte == round)));
    }
}
