//! What a consumer has done so far.

use std::time::Duration;

/// Counts since the consumer was made, and what is there now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsumerMetrics {
    /// Records that `poll` returned.
    pub records: u64,
    /// Bytes of batches that came, packed as they were.
    pub fetched_bytes: u64,
    pub fetches: u64,
    /// Fetches without an answer that could be used.
    pub fetch_failures: u64,
    /// Of the last fetch, the broker's wait for records included.
    pub fetch_latency: Duration,
    /// Bytes that wait for `poll`.
    pub buffered_bytes: usize,
    /// Assignments that came.
    pub rebalances: u64,
    pub commits: u64,
    pub commit_failures: u64,
}
