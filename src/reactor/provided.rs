//! The ring of buffers that the kernel picks from when bytes arrive on a socket.
//!
//! Invariant: every buffer is either free (the kernel may fill it) or lent (a `Received` names it): `free + lent == total`.
//! A few large buffers, not one per connection: the pool fits into the second-level cache and is warm when it is read.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, squeue};

use super::door::Received;

/// The only group of buffers in a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// The kernel wants the array of entries at the start of a page.
const PAGE_BYTES: usize = 4096;

pub(super) struct ProvidedBuffers {
    /// `count` entries shared with the kernel; the 16 bits at the end of the first one are the tail (`io_uring_buf_ring`).
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    /// Per buffer: lent out.
    lent: Box<[bool]>,
    lent_count: u16,
    /// Memory that the kernel may still write to is leaked, never freed.
    is_leaked: bool,
}

impl ProvidedBuffers {
    /// Makes the buffers, all free, and registers them with the ring.
    /// `count` is a power of two. Errors: what the kernel says (`EINVAL`: it has no buffer rings).
    pub fn register(
        ring: &IoUring<squeue::Entry, cqueue::Entry>,
        count: u16,
        buffer_bytes: u32,
    ) -> io::Result<ProvidedBuffers> {
        assert!(count.is_power_of_two(), "{count} buffers: not a power of two");
        let entries = allocate(Self::entries_layout(count)).cast();
        let memory = allocate(Self::memory_layout(count, buffer_bytes));
        let mut buffers = ProvidedBuffers {
            entries,
            memory,
            count,
            buffer_bytes,
            tail: 0,
            lent: vec![false; usize::from(count)].into(),
            lent_count: 0,
            is_leaked: false,
        };
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        buffers.publish();
        // SAFETY: `entries` is page-aligned and holds `count` entries; it lives until `ProvidedBuffers` is dropped, which `Ring`
        // does after the kernel has given up the ring, or never (`leak`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, BUFFER_GROUP, 0)?;
        }
        Ok(buffers)
    }

    fn entries_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE_BYTES)
            .expect("an array of at most 2^15 entries is a valid layout")
    }

    fn memory_layout(count: u16, buffer_bytes: u32) -> Layout {
        Layout::from_size_align(usize::from(count) * buffer_bytes as usize, PAGE_BYTES)
            .expect("at most 2^15 buffers of 4 GiB are a valid layout")
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.count, "buffer {buffer} of {}", self.count);
        // SAFETY: `buffer < count`, so the offset stays inside the allocation of `count * buffer_bytes`.
        unsafe { self.memory.as_ptr().add(usize::from(buffer) * self.buffer_bytes as usize) }
    }

    /// Puts a buffer at the tail; the kernel sees it after `publish`.
    fn offer(&mut self, buffer: u16) {
        let address = self.start(buffer) as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index < count`. The kernel reads entries below the published tail only, and no more than `count` buffers are
        // ever offered, so it does not read this one now. Only the setters below are used: they leave the tail field alone.
        let entry = unsafe { &mut *self.entries.as_ptr().add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: `entries` is the start of the ring, so this is the address of its tail field: 16 bits, aligned, shared with
        // the kernel, which only reads it.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        // Release: the entries are written before the tail that offers them.
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes note that the kernel filled a buffer with `length` bytes.
    pub fn lend(&mut self, buffer: u16, length: u32) -> Received {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "the kernel filled buffer {buffer}, which is lent out");
        assert!(length <= self.buffer_bytes, "{length} bytes in a buffer of {}", self.buffer_bytes);
        *lent = true;
        self.lent_count += 1;
        Received { buffer, start: self.start(buffer), length }
    }

    /// No byte more had room in it.
    pub fn is_filled(&self, received: &Received) -> bool {
        received.length == self.buffer_bytes
    }

    pub fn bytes<'a>(&'a self, received: &'a Received) -> &'a [u8] {
        assert!(self.lent[usize::from(received.buffer)], "buffer {} is not lent out", received.buffer);
        assert_eq!(received.start, self.start(received.buffer).cast_const(), "a buffer of another pool");
        // SAFETY: `start` is that of the buffer (asserted), `lend` asserted the length. The buffer is lent out, so the kernel
        // does not write to it before `give_back`, which takes the `Received` that this borrow keeps.
        unsafe { std::slice::from_raw_parts(received.start, received.length as usize) }
    }

    /// Offers a lent buffer to the kernel again.
    pub fn give_back(&mut self, received: Received) {
        let lent = &mut self.lent[usize::from(received.buffer)];
        assert!(*lent, "buffer {} was given back twice", received.buffer);
        *lent = false;
        self.lent_count -= 1;
        self.offer(received.buffer);
        self.publish();
    }

    /// Buffers not lent out. The kernel may have filled some whose completions have not been seen.
    pub fn free(&self) -> u16 {
        debug_assert_eq!(self.lent.iter().filter(|&&lent| lent).count(), usize::from(self.lent_count));
        self.count - self.lent_count
    }

    pub fn leak(&mut self) {
        self.is_leaked = true;
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        // SAFETY: both were allocated in `register` with these layouts; the kernel has given up the ring (else `leak`).
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count, self.buffer_bytes));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0, "no memory asked for");
    // SAFETY: the size is not zero (asserted).
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
