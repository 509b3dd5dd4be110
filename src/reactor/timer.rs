//! Timers of one shard: a binary heap that knows where each timer stands, so that a timer is cancelled for good and not
//! skipped later. Allocates only when more timers are pending than ever before.
//!
//! Invariants: no timer is later than its children in the heap; `entries[heap[i]].place == i`. Timers of the same moment fire
//! in the order they were set, so that a simulated run replays.

use crate::model::Monotonic;

/// One timer that was set. Names nothing once it has fired or was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

pub struct Timers<T> {
    entries: Vec<Entry<T>>,
    /// Indices into `entries`.
    heap: Vec<u32>,
    free: Vec<u32>,
    set_count: u64,
}

struct Entry<T> {
    generation: u32,
    /// Index into `heap`, if the timer is pending.
    place: u32,
    /// Deadline, then order of setting.
    order: (Monotonic, u64),
    /// `None`: the entry is free.
    value: Option<T>,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { entries: Vec::new(), heap: Vec::new(), free: Vec::new(), set_count: 0 }
    }
}

impl<T> Timers<T> {
    pub fn new() -> Timers<T> {
        Timers::default()
    }

    /// Sets a timer; `pop_due` returns `value` once `deadline` is reached.
    pub fn insert(&mut self, deadline: Monotonic, value: T) -> TimerId {
        self.set_count += 1;
        let order = (deadline, self.set_count);
        let place = self.heap.len() as u32;
        let index = match self.free.pop() {
            Some(index) => {
                let entry = &mut self.entries[index as usize];
                (entry.place, entry.order, entry.value) = (place, order, Some(value));
                index
            }
            None => {
                self.entries.push(Entry { generation: 0, place, order, value: Some(value) });
                self.entries.len() as u32 - 1
            }
        };
        self.heap.push(index);
        self.sift_up(place as usize);
        TimerId { index, generation: self.entries[index as usize].generation }
    }

    /// Takes a pending timer back. `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation || entry.value.is_none() {
            return None;
        }
        Some(self.remove(entry.place as usize))
    }

    /// The earliest timer whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Monotonic) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        Some(self.remove(0))
    }

    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.heap.first().map(|&index| self.entries[index as usize].order.0)
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn remove(&mut self, place: usize) -> T {
        let index = self.heap.swap_remove(place);
        if let Some(&moved) = self.heap.get(place) {
            self.entries[moved as usize].place = place as u32;
            // The one moved in from the end may belong further up or further down.
            self.sift_up(place);
            self.sift_down(self.entries[moved as usize].place as usize);
        }
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        entry.value.take().expect("an entry in the heap is pending")
    }

    fn order(&self, place: usize) -> (Monotonic, u64) {
        self.entries[self.heap[place] as usize].order
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            self.entries[self.heap[place] as usize].place = place as u32;
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.order(parent) <= self.order(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let right = left + 1;
            if left >= self.heap.len() {
                return;
            }
            let earlier =
                if right < self.heap.len() && self.order(right) < self.order(left) { right } else { left };
            if self.order(place) <= self.order(earlier) {
                return;
            }
            self.swap(place, earlier);
            place = earlier;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(timers: &mut Timers<u32>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.pop_due(Monotonic(now))).collect()
    }

    #[test]
    fn timers_fire_by_deadline_then_by_order_of_setting() {
        let mut timers = Timers::new();
        for (deadline, value) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            timers.insert(Monotonic(deadline), value);
        }
        assert_eq!(timers.next_deadline(), Some(Monotonic(10)));
        assert_eq!(due(&mut timers, 9), [0u32; 0]);
        assert_eq!(due(&mut timers, 20), [2, 4, 3]);
        assert_eq!(due(&mut timers, 30), [1]);
        assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
    }

    #[test]
    fn a_fired_or_cancelled_timer_cannot_be_cancelled() {
        let mut timers = Timers::new();
        let first = timers.insert(Monotonic(1), 1);
        assert_eq!(timers.cancel(first), Some(1));
        assert_eq!(timers.cancel(first), None);
        let second = timers.insert(Monotonic(1), 2);
        assert_eq!(timers.cancel(first), None, "the entry is in use again, by another timer");
        assert_eq!(due(&mut timers, 1), [2]);
        assert_eq!(timers.cancel(second), None);
    }

    proptest! {
        #[test]
        fn timers_agree_with_a_sorted_list(operations in prop::collection::vec((0u8..3, 0u64..50, 0usize..64), 1..300)) {
            let mut timers = Timers::new();
            let mut model: Vec<(u64, u32, TimerId)> = Vec::new();
            for (i, (kind, at, pick)) in operations.into_iter().enumerate() {
                match kind {
                    0 => {
                        let id = timers.insert(Monotonic(at), i as u32);
                        model.push((at, i as u32, id));
                    }
                    1 if !model.is_empty() => {
                        let (_, value, id) = model.remove(pick % model.len());
                        prop_assert_eq!(timers.cancel(id), Some(value));
                    }
                    _ => {
                        model.sort_by_key(|&(at, value, _)| (at, value));
                        let first_left = model.partition_point(|&(deadline, _, _)| deadline <= at);
                        let expected: Vec<u32> = model.drain(..first_left).map(|(_, value, _)| value).collect();
                        prop_assert_eq!(due(&mut timers, at), expected);
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
            }
        }
    }
}
