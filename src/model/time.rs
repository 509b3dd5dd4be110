//! The two clocks: monotonic for every timeout, wall for record timestamps only.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on the monotonic clock; only differences mean anything. All timeouts use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The last moment there is: a timer set to it never fires.
    pub const NEVER: Monotonic = Monotonic(u64::MAX);

    /// Nanoseconds from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;
    /// Saturates at `NEVER`.
    fn add(self, wait: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Monotonic {
    type Output = Duration;
    fn sub(self, earlier: Monotonic) -> Duration {
        self.since(earlier)
    }
}

/// Milliseconds since the Unix epoch on the wall clock, as Kafka's record timestamps. -1: none.
pub type Timestamp = i64;
