//! Counts what a thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator with the caller's own arguments; counting touches a thread-local `Cell`
// with a constant initializer and no destructor, which neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: `layout` is the caller's, who promises what `System::alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System::alloc` through `alloc` above, with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and how many bytes it allocated on this thread.
pub fn allocated_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED_BYTES.with(Cell::get);
    let result = work();
    (result, ALLOCATED_BYTES.with(Cell::get) - before)
}

#[test]
fn allocations_are_seen() {
    let (kept, bytes) = allocated_bytes(|| Vec::<u8>::with_capacity(100));
    assert_eq!((kept.capacity(), bytes), (100, 100));
}
