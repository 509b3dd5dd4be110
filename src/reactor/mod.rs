//! The only room that talks to the kernel's ring, and the door through which every other room does I/O, reads a clock or
//! draws a random number.
//!
//! *Owns* the ring, the in-flight table, provided buffers, direct descriptors and timers. *Never* interprets bytes.
//! Called by `net`, `log` and `shard`. Two implementations stand behind [`Io`]: `ring` (io_uring) and `sim` (a seeded model
//! of disk, network and time). The same `shard` code runs on both. [`probe`] says beforehand whether a ring can run here.

mod clock;
mod completion;
mod copier;
mod door;
mod doorbell;
mod fd;
mod gather;
mod helper;
mod inflight;
mod listen;
mod mapping;
mod piped;
mod priority;
mod probe;
mod provided;
mod ring;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod std_files;
mod submission;
mod threads;
mod timer;

pub use clock::{monotonic, wall};
pub use door::{
    Completion, DIRECT_BLOCK_BYTES, File, FileKind, FileName, Files, Io, Job, Listener, Mapping, OpenMode,
    Operation, Outcome, Received, Rejected, Room, SMALL_WRITE_BYTES_MAX, Slices, Socket, Token,
};
pub use doorbell::{Doorbells, ExternalWaker};
pub use listen::check_port_free;
pub use piped::{PIPE_BYTES, Piped};
pub use priority::run_before_workers;
pub use probe::{HostFacts, ProbeError, probe};
pub use ring::{Ring, RingCounters, RingOptions};
pub use std_files::StdFiles;
pub use timer::{TimerId, Timers};
