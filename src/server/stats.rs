//! Counts of the server on one shard.

use std::time::Duration;

/// Plain counters; the shard publishes them with its own after each round and sets them back.
#[derive(Clone, Default, Debug)]
pub struct ServerStats {
    pub requests: u64,
    pub malformed: u64,
    /// How long messages of this round were on their way from other shards.
    pub hops: Vec<Duration>,
}
