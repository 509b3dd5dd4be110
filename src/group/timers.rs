//! Deadlines by what they are for. A deadline that is only ever pushed back, as each heartbeat does, moves nothing in
//! the order of times: the old entry comes due, is found to be early, and is put in again.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{GroupId, MemberId};
use crate::model::Monotonic;

/// What a deadline is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A member's session, or a given-out member id that nobody came back with.
    Session(GroupId, MemberId),
    /// The end of the wait for members to join.
    Join(GroupId),
    /// The end of the wait for members to fetch their assignment.
    Sync(GroupId),
    /// The next look for expired offsets.
    Retention,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Monotonic,
    /// Where the timer stands in `by_time`; never later than `at`.
    entry: Monotonic,
}

#[derive(Default, Debug)]
pub(super) struct Timers {
    deadlines: BTreeMap<Timer, Deadline>,
    by_time: BTreeSet<(Monotonic, Timer)>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: Timer, at: Monotonic) {
        match self.deadlines.get_mut(&timer) {
            Some(deadline) if at >= deadline.entry => deadline.at = at,
            Some(deadline) => {
                let old = std::mem::replace(deadline, Deadline { at, entry: at });
                self.by_time.remove(&(old.entry, timer.clone()));
                self.by_time.insert((at, timer));
            }
            None => {
                self.deadlines.insert(timer.clone(), Deadline { at, entry: at });
                self.by_time.insert((at, timer));
            }
        }
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some(deadline) = self.deadlines.remove(timer) {
            self.by_time.remove(&(deadline.entry, timer.clone()));
        }
    }

    /// Takes out one timer whose deadline has come.
    pub fn pop_due(&mut self, now: Monotonic) -> Option<Timer> {
        while let Some((entry, _)) = self.by_time.first()
            && *entry <= now
        {
            let (entry, timer) = self.by_time.pop_first().expect("it has a first entry");
            let deadline = self.deadlines.get_mut(&timer).expect("every entry has a deadline");
            assert!(deadline.entry == entry, "{timer:?} stands at {entry:?}, not at {:?}", deadline.entry);
            if deadline.at <= now {
                self.deadlines.remove(&timer);
                return Some(timer);
            }
            deadline.entry = deadline.at;
            self.by_time.insert((deadline.at, timer));
        }
        None
    }

    /// When `pop_due` may have something next; `None`: no timer is set. May be early, never late.
    pub fn next(&self) -> Option<Monotonic> {
        self.by_time.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        assert_eq!(self.deadlines.len(), self.by_time.len());
        self.deadlines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_move_both_ways() {
        let session = |name: &str| Timer::Session("g".into(), name.into());
        let mut timers = Timers::default();
        timers.set(session("a"), Monotonic(10));
        timers.set(session("b"), Monotonic(20));
        timers.set(session("a"), Monotonic(30));
        assert_eq!(timers.next(), Some(Monotonic(10)), "an early wake-up is the price of a cheap heartbeat");
        assert_eq!(timers.pop_due(Monotonic(19)), None);
        assert_eq!(timers.next(), Some(Monotonic(20)));
        timers.set(session("a"), Monotonic(15));
        assert_eq!(timers.pop_due(Monotonic(15)), Some(session("a")));
        assert_eq!(timers.pop_due(Monotonic(15)), None);
        timers.cancel(&session("b"));
        assert_eq!((timers.next(), timers.count()), (None, 0));
        timers.set(Timer::Retention, Monotonic(1));
        assert_eq!(timers.pop_due(Monotonic(u64::MAX)), Some(Timer::Retention));
    }
}
