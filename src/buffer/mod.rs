//! Memory that operations own.
//!
//! Shared slices are `bytes::Bytes`: reference-counted, so record bytes travel from a socket to the log, to the tail cache and to
//! any number of fetch replies without a copy. Whichever core drops the last reference, the [`Block`] they are in is used again by
//! the thread that filled it. What is received lives in the reactor's own pool (`reactor/provided.rs`) until it is copied
//! out once, into the frame or batch it belongs to.
//! [`AlignedBuffer`] is such a block for writes past the page cache.

mod aligned;
mod arena;
mod blocks;
mod copies;
mod slices;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use arena::Arena;
pub use blocks::Block;
pub use copies::{note_copied, take_copied};
pub use slices::{Spares, keep_slices, recycle, spare_slices};
