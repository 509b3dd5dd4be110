//! Memory that operations own.
//!
//! Shared slices are `bytes::Bytes`: reference-counted, so record bytes travel from a socket to the log, to the tail cache and to
//! any number of fetch replies without a copy. Whichever core drops the last reference frees the memory; the allocator, not a
//! pool, is where it goes home to. What is received lives in the reactor's own pool (`reactor/provided.rs`) until it is copied
//! out once, into the frame or batch it belongs to.
//! [`AlignedBuffer`] is memory for writes past the page cache; each thread keeps what it frees for its next ones.

mod aligned;
mod arena;
mod copies;
mod slices;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use arena::Arena;
pub use copies::{note_copied, take_copied};
pub use slices::{Spares, keep_slices, recycle, spare_slices};
