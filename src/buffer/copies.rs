//! How many bytes of records this thread has copied from one place in memory to another.

use std::cell::Cell;

thread_local! {
    static COPIED: Cell<u64> = const { Cell::new(0) };
}

/// Takes note of a copy of record bytes. Whoever copies them says so here; what the kernel copies is not counted.
pub fn note_copied(bytes: usize) {
    COPIED.set(COPIED.get() + bytes as u64);
}

/// Bytes copied on this thread since the last call.
pub fn take_copied() -> u64 {
    COPIED.take()
}
