//! The door of [`Io`](super::Io) over a seeded model of one machine: disk, network, clocks, and the order in which its shards run.
//!
//! One thread, virtual time. All that happens, and when, follows from the seed and from what the shards ask for: two runs with
//! the same seed and the same build have the same [`event_hash`](SimWorld::event_hash). A driver runs the shards:
//!
//! ```text
//! let world = SimWorld::new(seed, SimOptions::default());
//! let mut shards = ..;                       // each with `world.io(ShardId(n))`
//! loop {
//!     match world.next_turn(until) {
//!         Turn::Shard(shard) => ..,          // one round of that shard's loop; its `wait` returns at once
//!         Turn::Client(client) => ..,        // it received something, or its connection ended
//!         Turn::Crashed => ..,               // drop the shards, `world.restart()`, make new ones
//!         Turn::Idle => break,               // nothing happens before `until`
//!     }
//! }
//! ```
//!
//! Faults of the disk are written down at the top of `disk.rs`, those of the network at the top of `network.rs`. Of the ring
//! itself: operations complete in any order after any delay; a sync runs beside writes unless linked behind them; buffers given
//! back are overwritten; a full table refuses. Short transfers, broken links and interrupted calls end inside the real reactor
//! and have their tests there; the model shows what is left of them: a failure, and then any part done.

mod content;
mod disk;
mod files;
mod io;
mod moment;
mod network;
mod operation;
mod pages;
mod random;
mod world;

#[cfg(test)]
mod tests;

pub use disk::{SECTOR_BYTES, Survivors};
pub use files::SimFiles;
pub use io::SimIo;
pub use moment::{SimDisk, SimMoment};
pub use network::{ClientId, ClientState};
pub use random::SimRandom;
pub use world::{CrashKind, Delay, Faults, SimOptions, SimWorld, Turn};
