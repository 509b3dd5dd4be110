//! When requests are due, and who wakes the connections.

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use corelog_measure::clock::now_ns;
use corelog_measure::signals;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::connection::Inbox;
use super::{DRAIN, EngineError, Shared};

/// When request `k` of a run is due: the run's start, and its share of the seconds. From `k` anew each time, so that no error adds up.
fn due_ns(rate: f64, start: u64, k: u64) -> u64 {
    start + (k as f64 * 1e9 / rate) as u64
}

/// How many requests are due from `begin` on and before `end`.
pub fn due_between(rate: f64, start: u64, begin: u64, end: u64) -> u64 {
    let before = |time: u64| {
        let mut k = ((time.saturating_sub(start)) as f64 * rate / 1e9) as u64;
        // The estimate may be one off either way.
        k = k.saturating_sub(2);
        while due_ns(rate, start, k) < time {
            k += 1;
        }
        k
    };
    before(end).saturating_sub(before(begin))
}

/// The part of a schedule that one core has: request `k` of all belongs to connection `k mod connections`.
struct Schedule {
    rate: f64,
    start: u64,
    connections: u64,
    /// Numbers of this core's, ascending.
    ours: Vec<u64>,
    cycle: u64,
    at: usize,
}

impl Schedule {
    /// When the next request is due, and which of ours has it.
    fn next(&self) -> (u64, usize) {
        (due_ns(self.rate, self.start, self.cycle * self.connections + self.ours[self.at]), self.at)
    }

    fn advance(&mut self) {
        self.at += 1;
        if self.at == self.ours.len() {
            self.at = 0;
            self.cycle += 1;
        }
    }
}

/// No sleep is longer, so that an interrupt, an error on another core and the end of the drain are seen.
const LOOK_AROUND_NS: u64 = 10_000_000;
const DRAIN_NS: u64 = DRAIN.as_secs() * 1_000_000_000;

/// Hands due requests to their connections (those with a number), and wakes all at the run's edges.
struct Keeper {
    shared: Rc<Shared>,
    inboxes: Vec<Rc<Inbox>>,
    /// Of the connections that are paced, by their place in the schedule.
    paced: Vec<Rc<Inbox>>,
    schedule: Option<Schedule>,
    waking: u64,
}

impl Keeper {
    fn new(shared: Rc<Shared>, inboxes: Vec<(Option<usize>, Rc<Inbox>)>, connections: usize) -> Keeper {
        let is_paced = |(number, _): &&(Option<usize>, Rc<Inbox>)| number.is_some();
        let paced: Vec<Rc<Inbox>> =
            inboxes.iter().filter(is_paced).map(|(_, inbox)| Rc::clone(inbox)).collect();
        let schedule = shared.workload.rate.filter(|_| !paced.is_empty()).map(|rate| Schedule {
            rate,
            start: shared.control.start_ns(),
            connections: connections as u64,
            ours: inboxes.iter().filter_map(|(number, _)| Some((*number)? as u64)).collect(),
            cycle: 0,
            at: 0,
        });
        let inboxes = inboxes.into_iter().map(|(_, inbox)| inbox).collect();
        Keeper { shared, inboxes, paced, schedule, waking: 0 }
    }

    /// Does what is due; returns when it wants to be called again.
    fn step(&mut self, now: u64) -> u64 {
        let end = self.shared.control.end_ns();
        let mut next = now + LOOK_AROUND_NS;
        if let Some(schedule) = &mut self.schedule {
            loop {
                let (due, index) = schedule.next();
                if due >= end {
                    break;
                }
                if due > now {
                    next = next.min(due);
                    break;
                }
                self.paced[index].hand_over(due);
                self.shared.meter.borrow_mut().handed_over(due);
                schedule.advance();
            }
        }
        // Connections look at the edges of the window when something wakes them, which may be nothing else.
        if now >= self.waking {
            let is_stopped = signals::received().is_some();
            if is_stopped {
                self.shared.control.aborted.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            let is_over = now > end.saturating_add(DRAIN_NS);
            for inbox in &self.inboxes {
                if is_stopped || is_over {
                    inbox.give_up();
                } else {
                    inbox.wake();
                }
            }
            self.waking = now + LOOK_AROUND_NS;
        }
        next
    }

    /// Until the core drops it.
    async fn run(&mut self, watch: &Watch) -> Result<(), EngineError> {
        let mut events = vec![EpollEvent::empty(); self.inboxes.len() + 1];
        let (mut next, mut armed) = (0_u64, 0);
        loop {
            // Woken tasks ran before this one runs again; only one that woke itself may be waiting.
            let sleeps = !watch.spins && next > 0 && !self.shared.has_more.take();
            if sleeps && armed != next {
                let left = Duration::from_nanos(next.saturating_sub(now_ns()).max(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                watch.timer.set(expiration, TimerSetTimeFlags::empty()).map_err(EngineError::Watch)?;
                armed = next;
            }
            let timeout = if sleeps { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let count = match watch.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                count => count.map_err(EngineError::Watch)?,
            };
            for event in events[..count].iter().filter(|event| event.data() != TIMER) {
                self.inboxes[event.data() as usize].wake();
            }
            let now = now_ns();
            if now >= next || signals::received().is_some() {
                next = self.step(now);
            }
            futures_lite::future::yield_now().await;
        }
    }
}

/// What tells a core of answers, of room to send and of the time.
pub struct Watch {
    epoll: Epoll,
    timer: TimerFd,
    spins: bool,
}

/// Not a connection's place.
const TIMER: u64 = u64::MAX;

impl Watch {
    pub fn new(spins: bool) -> Result<Watch, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        Ok(Watch { epoll, timer, spins })
    }

    /// Each time that there is more to receive or room to send, the inbox of that place is woken.
    pub fn add(&self, socket: BorrowedFd, place: u64) -> Result<(), Errno> {
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(both, place))
    }
}

/// Runs as long as the core: looks for answers and for what is due, and where the core does not spin, sleeps in between.
///
/// The ring of the executor is not asked, neither for sockets nor for the time. A poll in it completes by an interrupt of a core
/// that spins, which the *broker's* core has to send: 45 µs at p50 and 3 µs of the server's CPU for each request on a virtual
/// machine, and a sleep in it is some 10 µs longer than one in epoll.
pub async fn keep(
    shared: Rc<Shared>,
    inboxes: Vec<(Option<usize>, Rc<Inbox>)>,
    connections: usize,
    watch: Watch,
) {
    let mut keeper = Keeper::new(shared, inboxes, connections);
    if let Err(error) = keeper.run(&watch).await {
        // The connections end with the next turn, and the run with this error.
        keeper.shared.watch_failed.set(Some(error));
        keeper.shared.control.aborted.store(true, std::sync::atomic::Ordering::Relaxed);
        keeper.inboxes.iter().for_each(|inbox| inbox.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_even_and_has_no_drift() {
        // 0.1 µs is no whole number of nanoseconds a request: after 10 million requests nothing has added up.
        assert_eq!(due_ns(3_000_000.0, 5, 0), 5);
        assert_eq!(due_ns(3_000_000.0, 0, 30_000_000), 10_000_000_000);
        let gaps: Vec<u64> = (0..100).map(|k| due_ns(7.0, 0, k + 1) - due_ns(7.0, 0, k)).collect();
        assert!(gaps.iter().all(|gap| (142_857_142..=142_857_143).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn what_is_due_in_a_window_is_counted_as_it_is_handed_out() {
        for rate in [1.0, 3.0, 1000.0, 12_345.6, 999_999.0] {
            for (begin, end) in [(0, 1_000_000_000), (500_000_001, 700_000_000), (10, 10)] {
                let start = 77;
                let (begin, end) = (begin + start, end + start);
                let counted = (0..2_000_000).map(|k| due_ns(rate, start, k)).take_while(|due| *due < end);
                let counted = counted.filter(|due| *due >= begin).count() as u64;
                assert_eq!(due_between(rate, start, begin, end), counted, "{rate} {begin} {end}");
            }
        }
    }

    #[test]
    fn cores_share_one_schedule() {
        let part = |ours: Vec<u64>| Schedule { rate: 100.0, start: 0, connections: 5, ours, cycle: 0, at: 0 };
        let mut parts = [part(vec![0, 2, 4]), part(vec![1, 3])];
        let mut all = Vec::new();
        for part in &mut parts {
            for _ in 0..10 * part.ours.len() {
                all.push(part.next().0);
                part.advance();
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..50).map(|k| due_ns(100.0, 0, k)).collect::<Vec<_>>());
    }
}
