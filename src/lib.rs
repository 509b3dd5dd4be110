//! corelog: a message broker for dedicated Linux hosts that speaks the Kafka protocol.
//!
//! One pinned thread per core (a *shard*) owns a set of partitions, a share of the connections, one io_uring and its own
//! counters. Nothing is shared between shards: they exchange messages over bounded single-producer, single-consumer
//! rings (`mesh`). Read `shard/run.rs` first, then `server/handlers/produce.rs`; ARCHITECTURE.md has the map.
//!
//! The modules stand in reading order: a room imports only from rooms below it (`tests/architecture.rs` holds the table).
#![deny(unsafe_code)]

pub mod cli;
pub mod control;
pub mod shard;

pub mod server;

pub mod client;
pub mod controller;
pub mod group;
pub mod partition;

pub mod log;
pub mod net;

pub mod mesh;

pub mod protocol;
pub mod reactor;
pub mod record;

pub mod buffer;
pub mod config;
pub mod host;
pub mod limits;
pub mod metadata;
pub mod metrics;
pub mod trace;

pub mod model;
