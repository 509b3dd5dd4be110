//! A whole node in one thread: the shards of the broker, on the seeded model of disk, network and time, with producers and
//! consumers that speak the protocol, crashes of every kind, and a model of what was promised.
//!
//! [`run`] plays one seed and returns what went wrong. The same seed and build give the same events, to the last bit of
//! [`Report::event_hash`]. Checked: no acknowledged record is lost; what was read once stays there; offsets are dense and
//! never reused; records of one producer keep their order in a partition; an idempotent producer's records are there once;
//! the high watermark never goes back.

mod client;
mod consumer;
pub mod crash_points;
mod ledger;
mod node;
mod play;
mod producer;

pub use play::{Plan, Report, run};
