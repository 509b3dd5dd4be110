//! What a shard says about itself: its last events, written out when an assertion fails, and lines for the log.
//!
//! *Owns* one ring of compact records a thread, and the queue of log lines ([`Logger`]). *Never* formats while the broker is
//! well: an event is a static word and three numbers, a line a static text and values. Written by whatever a shard runs
//! ([`event`], [`Logger::log`]); read by the panic hook ([`install`]) on the thread that failed, and by `control/logging`.

mod log_line;
mod recovery_progress;

use std::cell::RefCell;
use std::fmt::Write;
use std::io;

pub use log_line::{Field, Level, LogLine, LogMessage, LogReceiver, Logger, log_channel};
pub use recovery_progress::{Recovered, RecoveryCounts, RecoveryProgress};

use crate::model::{Monotonic, ShardId};

/// One event: what happened, and up to three numbers that say to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub at: Monotonic,
    /// `room: what`, such as `log: roll`.
    pub what: &'static str,
    pub numbers: [u64; 3],
}

/// A ring of the last events.
struct Trace {
    shard: ShardId,
    events: Box<[Event]>,
    /// Events ever written; the next one's slot is this modulo the length.
    written: u64,
}

thread_local! {
    /// One a thread, so that no shard waits for another and the hook needs no lock.
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Gives the calling thread a ring of `events_max` events. Before this, and on other threads, events vanish.
pub fn start(shard: ShardId, events_max: u32) {
    assert!(events_max > 0, "a trace holds events");
    let empty = Event { at: Monotonic(0), what: "", numbers: [0; 3] };
    let trace = Trace { shard, events: vec![empty; events_max as usize].into_boxed_slice(), written: 0 };
    TRACE.with(|cell| *cell.borrow_mut() = Some(trace));
}

/// Notes an event. Costs a store of 48 bytes; formats nothing.
pub fn event(at: Monotonic, what: &'static str, numbers: [u64; 3]) {
    TRACE.with(|cell| {
        // `try_borrow`: a panic inside the dump must not panic again here.
        if let Ok(mut trace) = cell.try_borrow_mut()
            && let Some(trace) = trace.as_mut()
        {
            let slot = (trace.written % trace.events.len() as u64) as usize;
            trace.events[slot] = Event { at, what, numbers };
            trace.written += 1;
        }
    });
}

/// The calling thread's events, oldest first, one a line; `None` if it has no trace.
pub fn dump() -> Option<String> {
    TRACE.with(|cell| cell.try_borrow().ok()?.as_ref().map(Trace::to_text))
}

impl Trace {
    fn to_text(&self) -> String {
        let length = self.events.len() as u64;
        let first = self.written.saturating_sub(length);
        let mut text = format!(
            "trace of shard {}: {} events, the last {}\n",
            self.shard,
            self.written,
            self.written - first
        );
        let mut last = None;
        for sequence in first..self.written {
            let Event { at, what, numbers: [a, b, c] } = self.events[(sequence % length) as usize];
            let since = last.map_or(0, |last: Monotonic| at.since(last).as_nanos());
            last = Some(at);
            writeln!(text, "{sequence:>10} {:>16} +{since:<10} {what} {a} {b} {c}", at.0)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

/// Makes every panic write its message, its place and the thread's trace to standard error, then abort the process: what a
/// failed assertion left behind is not to be served from, and a shard's death must be the broker's.
pub fn install() {
    std::panic::set_hook(Box::new(|panic| {
        let mut text =
            format!("corelog: assertion failed; this is a bug, please report it with these lines\n{panic}\n");
        text.push_str(&dump().unwrap_or_default());
        text.push_str(&std::backtrace::Backtrace::force_capture().to_string());
        // One write, so that two shards that fail together do not mix their lines. Nothing can be done if it fails.
        let _ = io::Write::write_all(&mut io::stderr().lock(), text.as_bytes());
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_in_order() {
        event(Monotonic(1), "before the start", [0; 3]);
        assert_eq!(dump(), None);
        start(ShardId(2), 4);
        for i in 0..6 {
            event(Monotonic(100 * i), "log: roll", [i, 0, 0]);
        }
        let text = dump().unwrap();
        assert!(text.starts_with("trace of shard 2: 6 events, the last 4\n"), "{text}");
        let firsts: Vec<&str> =
            text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(firsts, ["2", "3", "4", "5"]);
        assert!(text.ends_with("+100        log: roll 5 0 0\n"), "{text}");
    }
}
