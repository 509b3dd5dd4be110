//! Who moves most: exact counts for each partition and connection, and the few busiest of the last seconds.
//!
//! Counting costs a few additions, and one entry in a list for whoever moves for the first time in a window. At a window's end
//! only that list is looked at: ten thousand idle partitions cost nothing.

use std::time::Duration;

use crate::model::Monotonic;

/// How many of the busiest are kept.
pub const BUSIEST_MAX: usize = 16;

/// How long a window lasts, at least.
const WINDOW: Duration = Duration::from_secs(1);

/// What went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Batches appended and reads of a partition; requests of a connection.
    pub requests: u64,
    /// Of a partition's appended batches.
    pub records: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
}

impl Traffic {
    pub fn add(&mut self, more: &Traffic) {
        self.requests += more.requests;
        self.records += more.records;
        self.in_bytes += more.in_bytes;
        self.out_bytes += more.out_bytes;
    }

    /// What it takes of a core, in bytes moved: a request costs about as much as so many bytes, whatever it carries (4 µs against
    /// 0.25 ms for 1 MiB).
    pub fn load(&self) -> u64 {
        const REQUEST_BYTES: u64 = 16 << 10;
        self.in_bytes + self.out_bytes + self.requests * REQUEST_BYTES
    }

    fn since(&self, before: &Traffic) -> Traffic {
        Traffic {
            requests: self.requests - before.requests,
            records: self.records - before.records,
            in_bytes: self.in_bytes - before.in_bytes,
            out_bytes: self.out_bytes - before.out_bytes,
        }
    }

    /// Whoever moves more bytes is busier; of those that move none, whoever asks more often.
    pub fn weight(&self) -> (u64, u64) {
        (self.in_bytes + self.out_bytes, self.requests)
    }
}

/// One's counts, kept with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    total: Traffic,
    /// As it was before the first of the window.
    before: Traffic,
    window: u32,
}

impl Tally {
    pub fn total(&self) -> Traffic {
        self.total
    }
}

/// One of the busiest: its share of the last window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy<K> {
    pub key: K,
    pub moved: Traffic,
}

/// Finds the busiest of all that are counted here.
#[derive(Debug)]
pub struct Busiest<K> {
    /// Who moved in this window. *Invariant*: a key is pushed when its tally's window becomes this one.
    moved: Vec<K>,
    window: u32,
    since: Monotonic,
    /// Of the window before, the busiest first.
    last: Vec<Busy<K>>,
    last_length: Duration,
}

impl<K> Default for Busiest<K> {
    fn default() -> Busiest<K> {
        Busiest {
            moved: Vec::new(),
            // A new tally's window is 0: never this one.
            window: 1,
            since: Monotonic(0),
            last: Vec::with_capacity(BUSIEST_MAX + 1),
            last_length: WINDOW,
        }
    }
}

impl<K: Copy + PartialEq> Busiest<K> {
    pub fn add(&mut self, key: K, tally: &mut Tally, more: &Traffic) {
        if tally.window != self.window {
            (tally.window, tally.before) = (self.window, tally.total);
            self.moved.push(key);
        }
        tally.total.add(more);
    }

    /// Ends the window if it has lasted long enough. `tally_of`: `None` for whoever is gone.
    pub fn turn(&mut self, now: Monotonic, tally_of: impl Fn(K) -> Option<Tally>) {
        let length = now.since(self.since);
        if length < WINDOW {
            return;
        }
        self.last.clear();
        for key in self.moved.drain(..) {
            let Some(tally) = tally_of(key).filter(|tally| tally.window == self.window) else { continue };
            let moved = tally.total.since(&tally.before);
            let place = self.last.partition_point(|other| other.moved.weight() >= moved.weight());
            // A place that was given to another within the window is named twice.
            if place < BUSIEST_MAX && self.last.iter().all(|other| other.key != key) {
                self.last.insert(place, Busy { key, moved });
                self.last.truncate(BUSIEST_MAX);
            }
        }
        self.window = self.window.wrapping_add(1).max(1);
        (self.since, self.last_length) = (now, length);
    }

    /// The busiest of the last window, most first, and how long that was.
    pub fn last(&self) -> (&[Busy<K>], Duration) {
        (&self.last, self.last_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bytes(in_bytes: u64) -> Traffic {
        Traffic { requests: 1, in_bytes, ..Traffic::default() }
    }

    #[test]
    fn the_busiest_of_the_last_window_are_kept_and_totals_go_on() {
        let mut tallies = vec![Tally::default(); 100];
        let mut busiest = Busiest::default();
        let mut second = 0;
        let mut turn = |busiest: &mut Busiest<usize>, tallies: &[Tally]| {
            second += 1;
            busiest.turn(Monotonic(second * SECOND), |key| tallies.get(key).copied());
        };
        turn(&mut busiest, &tallies);
        for (key, tally) in tallies.iter_mut().enumerate() {
            for _ in 0..2 {
                busiest.add(key, tally, &bytes(key as u64));
            }
        }
        turn(&mut busiest, &tallies);
        let keys =
            |busiest: &Busiest<usize>| busiest.last().0.iter().map(|busy| busy.key).collect::<Vec<_>>();
        assert_eq!(keys(&busiest), (100 - BUSIEST_MAX..100).rev().collect::<Vec<_>>());
        assert_eq!(busiest.last().0[0].moved, Traffic { requests: 2, in_bytes: 198, ..Traffic::default() });
        busiest.add(3, &mut tallies[3], &bytes(5));
        // The window is not over yet.
        busiest.turn(Monotonic(2 * SECOND + 1), |key| tallies.get(key).copied());
        assert_eq!(keys(&busiest)[0], 99);
        turn(&mut busiest, &tallies);
        assert_eq!(keys(&busiest), [3]);
        assert_eq!(busiest.last().0[0].moved.in_bytes, 5);
        assert_eq!(tallies[3].total().in_bytes, 11);
        turn(&mut busiest, &tallies);
        assert!(keys(&busiest).is_empty(), "nobody moved");
    }

    #[test]
    fn whoever_is_gone_or_new_in_its_place_is_not_mistaken() {
        let mut busiest = Busiest::default();
        let (mut old, mut new) = (Tally::default(), Tally::default());
        busiest.add(0, &mut old, &bytes(100));
        busiest.add(1, &mut old, &bytes(100));
        busiest.add(0, &mut new, &bytes(7));
        busiest.turn(Monotonic(SECOND), |key| (key == 0).then_some(new));
        assert_eq!(busiest.last().0, [Busy { key: 0, moved: bytes(7) }]);
    }
}
