//! An allocator that counts, for each thread that wants it: what a shard allocates, and not what the test beside it does.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What one thread has asked of the heap.
#[derive(Default)]
pub struct Tally {
    pub allocations: AtomicU64,
    pub bytes: AtomicU64,
}

thread_local! {
    static TALLY: Cell<Option<&'static Tally>> = const { Cell::new(None) };
}

/// While set, a counted allocation tells where it comes from, on standard error: for whoever looks for one.
pub static TELLS: AtomicBool = AtomicBool::new(false);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what the calling thread allocates from now on.
pub fn count_this_thread(tally: &'static Tally) {
    TALLY.set(Some(tally));
}

fn note(bytes: usize) {
    let Some(tally) = TALLY.try_with(Cell::get).ok().flatten() else { return };
    tally.allocations.fetch_add(1, Ordering::Relaxed);
    tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    if TELLS.load(Ordering::Relaxed) {
        TALLY.set(None);
        eprintln!("{bytes} bytes allocated by\n{}", std::backtrace::Backtrace::force_capture());
        TALLY.set(Some(tally));
    }
}

// SAFETY: everything is handed on to the system's allocator as it came; what is added only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}
