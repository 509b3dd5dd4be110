//! Memory for writes past the page cache: aligned, padded with zeros, used again.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

use bytes::Bytes;

/// Address and length of every buffer are multiples of this.
pub const ALIGNMENT: usize = 4096;

/// Memory that one thread keeps for its next buffers. A shard has two commit groups of a few MiB in flight at most.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Capacities are powers of two from here on, so that a kept buffer fits the next need.
const CAPACITY_BYTES_MIN: usize = 16 * 1024;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { memory: Vec::new(), bytes: 0 }) };
}

/// Buffers without a user on this thread.
struct Kept {
    memory: Vec<Memory>,
    bytes: usize,
}

/// An allocation, every byte initialised.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the memory belongs to this value alone, whichever thread has it.
unsafe impl Send for Memory {}
// SAFETY: a shared reference gives only shared access to initialised bytes.
unsafe impl Sync for Memory {}

impl Memory {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGNMENT)
            .expect("a capacity is a power of two that memory can hold")
    }

    fn allocate(capacity: usize) -> Memory {
        let layout = Memory::layout(capacity);
        // SAFETY: the size is not zero: capacities start at `CAPACITY_BYTES_MIN`.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory { start, capacity },
            None => handle_alloc_error(layout),
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` points at `capacity` initialised bytes that live as long as this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.capacity) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the mutable borrow of `self` is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), Memory::layout(self.capacity)) }
    }
}

/// A buffer to fill and to write past the page cache. Its memory goes back to the thread that drops the last slice of it.
pub struct AlignedBuffer {
    /// `None` only while it is being dropped.
    memory: Option<Memory>,
    length: usize,
}

impl AlignedBuffer {
    /// An empty buffer with room for at least so many bytes.
    pub fn with_capacity(bytes: usize) -> AlignedBuffer {
        let capacity = bytes.next_power_of_two().max(CAPACITY_BYTES_MIN);
        let kept = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            let index = kept.memory.iter().position(|memory| memory.capacity == capacity)?;
            kept.bytes -= capacity;
            Some(kept.memory.swap_remove(index))
        });
        let memory = kept.ok().flatten().unwrap_or_else(|| Memory::allocate(capacity));
        AlignedBuffer { memory: Some(memory), length: 0 }
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("memory is there until the drop")
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("memory is there until the drop")
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends bytes. Panics beyond the capacity asked for, rounded up.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.length;
        self.memory_mut().bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Pads with zeros to a whole number of blocks. What an earlier user left never reaches a disk.
    pub fn pad(&mut self) {
        let (start, end) = (self.length, self.length.next_multiple_of(ALIGNMENT));
        self.memory_mut().bytes_mut()[start..end].fill(0);
        self.length = end;
    }

    /// Shares the bytes; the first is aligned.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory().bytes()[..self.length]
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        &mut self.memory_mut().bytes_mut()[..length]
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        // Without the list (the thread ends) the memory is freed.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.bytes + memory.capacity <= KEPT_BYTES_MAX {
                kept.bytes += memory.capacity;
                kept.memory.push(memory);
            }
        });
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
    fn what_a_thread_keeps_is_bounded() {
        let buffers: Vec<AlignedBuffer> = (0..64).map(|_| AlignedBuffer::with_capacity(1 << 20)).collect();
        drop(buffers);
        KEPT.with(|kept| assert!(kept.borrow().bytes <= KEPT_BYTES_MAX));
    }
}
