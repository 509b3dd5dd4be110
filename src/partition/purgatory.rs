//! What waits on one partition: appends until they are durable enough, fetches until there is something to read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::mesh::{SessionKey, Ticket};
use crate::model::{Monotonic, Offset, Timestamp};

/// Who is told when an append has reached the topic's durability level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiter {
    /// Part `part` of a produce order on this shard.
    Produce { order: u32, part: u32 },
    /// A coordinator's record append.
    Group { ticket: u64 },
    /// The metadata log, up to this index.
    Metadata { index: u64 },
    /// Nobody asks.
    Nobody,
}

/// One append that waits.
#[derive(Clone, Copy, Debug)]
pub struct WaitingAppend {
    /// Satisfied once the committed offset is at or past this (exclusive end of the batch).
    pub end_offset: Offset,
    pub base_offset: Offset,
    pub log_append_time: Timestamp,
    pub waiter: Waiter,
    /// When it came into the log, if it had to wait for that; else whoever asked knows.
    pub appended: Monotonic,
}

/// The waiting room of one partition.
#[derive(Default)]
pub struct Purgatory {
    /// In offset order.
    appends: VecDeque<WaitingAppend>,
    /// Fetches that are told when the readable end moves. Clients can make them many: each comes and goes in logarithmic time.
    watches: BTreeSet<Ticket>,
    /// Fetch sessions that are told of any change, and what each calls this partition.
    sessions: BTreeMap<SessionKey, u32>,
}

impl Purgatory {
    pub fn wait_for(&mut self, append: WaitingAppend) {
        let last = self.appends.back().map_or(Offset::MIN, |a| a.end_offset);
        // A duplicate waits for an older batch; it is put in its place so that the front is always the smallest.
        if append.end_offset >= last {
            self.appends.push_back(append);
        } else {
            let place = self.appends.partition_point(|a| a.end_offset <= append.end_offset);
            self.appends.insert(place, append);
        }
    }

    /// The next append that `committed` satisfies.
    pub fn pop_satisfied(&mut self, committed: Offset) -> Option<WaitingAppend> {
        if self.appends.front()?.end_offset <= committed { self.appends.pop_front() } else { None }
    }

    /// All appends, when the partition goes away or offline.
    pub fn pop_any(&mut self) -> Option<WaitingAppend> {
        self.appends.pop_front()
    }

    pub fn has_appends(&self) -> bool {
        !self.appends.is_empty()
    }

    /// Remembers a fetch until it is woken or takes its watch back, which it does when its wait ends for whatever cause.
    pub fn watch(&mut self, ticket: Ticket) {
        self.watches.insert(ticket);
    }

    pub fn unwatch(&mut self, ticket: Ticket) {
        self.watches.remove(&ticket);
    }

    /// Takes all watches: each is told once.
    pub fn take_watches(&mut self, woken: &mut Vec<Ticket>) {
        woken.extend(std::mem::take(&mut self.watches));
    }

    pub fn has_watches(&self) -> bool {
        !self.watches.is_empty()
    }

    pub fn watch_for_session(&mut self, session: SessionKey, part: u32) {
        self.sessions.insert(session, part);
    }

    pub fn unwatch_for_session(&mut self, session: SessionKey) {
        self.sessions.remove(&session);
    }

    /// Takes one session's watch. One by one: the map keeps its memory for the watches that come next.
    pub fn take_session_watch(&mut self) -> Option<(SessionKey, u32)> {
        self.sessions.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ShardId;

    fn append(end_offset: Offset) -> WaitingAppend {
        WaitingAppend {
            end_offset,
            base_offset: end_offset - 1,
            log_append_time: -1,
            waiter: Waiter::Nobody,
            appended: Monotonic(0),
        }
    }

    #[test]
    fn appends_are_satisfied_in_offset_order_duplicates_included() {
        let mut purgatory = Purgatory::default();
        for end in [5, 9, 5, 12] {
            purgatory.wait_for(append(end));
        }
        let mut satisfied = Vec::new();
        while let Some(waiting) = purgatory.pop_satisfied(9) {
            satisfied.push(waiting.end_offset);
        }
        assert_eq!(satisfied, [5, 5, 9]);
        assert!(purgatory.has_appends());
    }

    #[test]
    fn watches_end_by_name_or_by_waking() {
        let ticket = |slot| Ticket { shard: ShardId(0), slot, generation: 0 };
        let mut purgatory = Purgatory::default();
        for slot in [1, 2, 3, 3] {
            purgatory.watch(ticket(slot));
        }
        purgatory.unwatch(ticket(2));
        let mut woken = Vec::new();
        purgatory.take_watches(&mut woken);
        assert_eq!(woken, [ticket(1), ticket(3)], "2 was taken back, 3 is told once");
        assert!(!purgatory.has_watches());
    }
}
