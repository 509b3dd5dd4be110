//! Memory that O_DIRECT takes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// O_DIRECT wants addresses, lengths and positions in multiples of the device's block; none in use is larger.
pub const ALIGNMENT: usize = 4096;

/// Zeroed bytes at an aligned address that never moves.
pub struct Aligned {
    start: NonNull<u8>,
    layout: Layout,
}

impl Aligned {
    /// Panics: if `bytes` is 0 or there is no memory.
    pub fn zeroed(bytes: usize) -> Aligned {
        assert!(bytes > 0, "no memory of no bytes");
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("4096 is a power of two");
        // SAFETY: the layout has a size above 0 (asserted above).
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Aligned { start, layout }
    }

    /// Bytes that no compressing or deduplicating device can make small: a fixed xorshift sequence.
    pub fn noise(bytes: usize) -> Aligned {
        let mut memory = Aligned::zeroed(bytes);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in memory.as_mut().chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        memory
    }

    pub fn len(&self) -> usize {
        self.layout.size()
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points to `len` bytes that this owns, initialised by alloc_zeroed; writers need `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` keeps every other reference away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once, here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

// SAFETY: this owns its bytes alone, like a Box<[u8]>; shared references only read.
unsafe impl Send for Aligned {}
// SAFETY: as above.
unsafe impl Sync for Aligned {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_noise_does_not_repeat() {
        let noise = Aligned::noise(3 * ALIGNMENT + 5);
        assert_eq!(noise.as_slice().as_ptr() as usize % ALIGNMENT, 0);
        let blocks: Vec<&[u8]> = noise.as_slice().chunks(ALIGNMENT).collect();
        assert_ne!(blocks[0], blocks[1]);
        assert_ne!(blocks[1], blocks[2]);
        assert!(Aligned::zeroed(10).as_slice().iter().all(|byte| *byte == 0));
    }
}
