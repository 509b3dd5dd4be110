//! The client's two clocks. Deadlines, backoff and latencies are on the monotonic one, so a wall clock that jumps moves
//! none of them; the wall clock gives timestamps to records that bring none, and does nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

pub use tokio::time::Instant;

/// Milliseconds since the Unix epoch. Zero on a host whose clock stands before it.
#[expect(
    clippy::disallowed_methods,
    reason = "the client runs on tokio, beside no shard and in no simulation"
)]
pub fn wall_clock_ms() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
