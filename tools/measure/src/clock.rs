//! One clock for everything that is measured.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first call.
pub fn now_ns() -> u64 {
    duration_ns(START.get_or_init(Instant::now).elapsed())
}

/// 584 years fit.
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of CPU that this process has used, all its threads, also those that have ended, and the kernel's workers of
/// its rings among them: they belong to the thread group.
pub fn process_cpu_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(0, |time| duration_ns(Duration::from(time)))
}
