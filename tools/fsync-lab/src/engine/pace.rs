//! When commits start: at once while there is a free place (closed loop), or by the clock (open loop).

use std::time::Duration;

use crate::clock::now_ns;
use crate::meter::Window;

/// The arrivals of one run.
pub struct Pace {
    pub window: Window,
    /// Nanoseconds between arrivals, for the open loop.
    interval_ns: Option<f64>,
    first_ns: u64,
    arrived: u64,
}

impl Pace {
    pub fn new(window: Window, rate: Option<f64>) -> Pace {
        let interval_ns = rate.map(|rate| 1e9 / rate.max(1e-3));
        Pace { window, interval_ns, first_ns: now_ns(), arrived: 0 }
    }

    pub fn is_open(&self) -> bool {
        self.interval_ns.is_some()
    }

    /// When the next arrival is due by the clock; the closed loop has no such time.
    fn due_ns(&self) -> Option<u64> {
        let interval = self.interval_ns?;
        // From the first on, not from the one before: rounding must not add up.
        Some(self.first_ns + (self.arrived as f64 * interval) as u64)
    }

    /// Takes the next arrival if it is due: the time that its latency counts from.
    pub fn arrive(&mut self, now: u64) -> Option<u64> {
        let due = self.due_ns().unwrap_or(now);
        if due > now || due >= self.window.end_ns {
            return None;
        }
        self.arrived += 1;
        Some(due)
    }

    /// How long the caller may sleep before the next arrival; None: until a completion, nothing else will come.
    pub fn sleep(&self, now: u64) -> Option<Duration> {
        let due = self.due_ns()?;
        (due < self.window.end_ns).then(|| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Whether all arrivals have been taken.
    pub fn is_over(&self, now: u64) -> bool {
        match self.due_ns() {
            Some(due) => due >= self.window.end_ns,
            None => now >= self.window.end_ns,
        }
    }

    /// Open loop: so long after the end those that still wait are given up.
    pub fn give_up_ns(&self) -> u64 {
        self.window.end_ns + (self.window.end_ns - self.window.start_ns)
    }

    /// Whether a commit is recorded. In the open loop its arrival decides, so that those that come late are not left out.
    pub fn records(&self, from_ns: u64, done_ns: u64) -> bool {
        let at = if self.is_open() { from_ns } else { done_ns };
        at >= self.window.start_ns && at < self.window.end_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: Option<f64>) -> Pace {
        let window = Window { start_ns: 1_100, end_ns: 2_000 };
        Pace { window, interval_ns: rate.map(|rate| 1e9 / rate), first_ns: 1_000, arrived: 0 }
    }

    #[test]
    fn the_clock_sets_arrivals_however_late_they_are_taken() {
        let mut open = pace(Some(2_500_000.0));
        assert_eq!(open.arrive(1_000), Some(1_000));
        assert_eq!(open.arrive(1_000), None);
        assert_eq!(open.sleep(1_100), Some(Duration::from_nanos(300)));
        // Taken late, counted from when it was due.
        assert_eq!(open.arrive(1_900), Some(1_400));
        assert_eq!(open.arrive(1_900), Some(1_800));
        assert!(open.is_over(1_900), "the next is due at 2,200");
        assert_eq!(open.arrive(9_000), None);
        assert_eq!(open.sleep(1_900), None);
    }

    #[test]
    fn open_loop_records_by_arrival_and_closed_loop_by_completion() {
        let (open, closed) = (pace(Some(1.0)), pace(None));
        assert!(open.records(1_500, 9_000));
        assert!(!open.records(1_050, 1_500));
        assert!(!closed.records(1_500, 9_000));
        assert!(closed.records(1_050, 1_500));
        assert!(!closed.is_over(1_999) && closed.is_over(2_000));
    }
}
