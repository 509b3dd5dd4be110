//! Who may write the metadata log, and when what was written counts.
//!
//! The trait is sans-I/O, in the shape of a Raft node that is driven from outside (raft-rs: `RawNode` and `Ready`): the driver
//! takes a [`Ready`], appends its entries to the log, applies its committed ones, and tells what has become durable. A Raft
//! node behind the same trait takes messages and ticks too, and its `Ready` sends messages; that stays between it and its
//! driver, and the rooms above see no more than here.

use std::collections::VecDeque;
use std::fmt;

use crate::metadata::{Entry, Record};
use crate::model::NodeId;

/// The metadata log's order and agreement.
pub trait MetadataQuorum {
    /// The current reign.
    fn term(&self) -> u64;

    /// Who may propose; `None` while nobody is known.
    fn leader(&self) -> Option<NodeId>;

    /// Puts an atomic step at the end of the log; returns its index. It counts once `ready` gives it back as committed.
    /// Errors: `NotLeader`. Nothing is proposed then.
    fn propose(&mut self, records: Vec<Record>) -> Result<u64, NotLeader>;

    /// What to do now. Each entry is given once for appending and once, later, as committed.
    fn ready(&mut self) -> Ready;

    /// Everything up to this index is durable here (fsynced, whatever the topics' durability).
    fn appended(&mut self, index: u64);

    /// The log could not take the entries from this index on (no space): they never were, and their indices are given anew.
    /// Panics if one of them is durable already.
    fn refused(&mut self, index: u64);
}

/// Work for the driver, in this order.
#[derive(Default, PartialEq, Debug)]
pub struct Ready {
    /// One batch each, in order.
    pub append: Vec<Entry>,
    /// Decided for good: to be applied in order.
    pub committed: Vec<Entry>,
}

/// Somebody else writes the metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotLeader {
    pub leader: Option<NodeId>,
}

impl fmt::Display for NotLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leader {
            Some(leader) => write!(f, "node {leader} writes the metadata"),
            None => f.write_str("nobody writes the metadata now"),
        }
    }
}

impl std::error::Error for NotLeader {}

/// A group of one: what is durable here is committed.
///
/// Invariant: `durable <= handed <= last`; the entries kept are those above the last one given out as committed.
pub struct SingleWriter {
    node: NodeId,
    term: u64,
    /// The last index proposed, handed out for appending, and durable.
    last: u64,
    handed: u64,
    durable: u64,
    entries: VecDeque<Entry>,
}

impl SingleWriter {
    /// Takes over after the last entry of the log, in a new term: entries of one term come from one process.
    pub fn new(node: NodeId, last_term: u64, last_index: u64) -> SingleWriter {
        SingleWriter {
            node,
            term: last_term + 1,
            last: last_index,
            handed: last_index,
            durable: last_index,
            entries: VecDeque::new(),
        }
    }
}

impl MetadataQuorum for SingleWriter {
    fn term(&self) -> u64 {
        self.term
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.node)
    }

    fn propose(&mut self, records: Vec<Record>) -> Result<u64, NotLeader> {
        assert!(!records.is_empty(), "an entry has at least one record");
        self.last += 1;
        self.entries.push_back(Entry { term: self.term, index: self.last, records });
        Ok(self.last)
    }

    fn ready(&mut self) -> Ready {
        let append = self.entries.iter().filter(|entry| entry.index > self.handed).cloned().collect();
        self.handed = self.last;
        let done = self.entries.partition_point(|entry| entry.index <= self.durable);
        Ready { append, committed: self.entries.drain(..done).collect() }
    }

    fn appended(&mut self, index: u64) {
        assert!(index <= self.handed, "entry {index} is durable and was never handed out ({})", self.handed);
        self.durable = self.durable.max(index);
    }

    fn refused(&mut self, index: u64) {
        assert!(index > self.durable, "entry {index} is refused, and {} are durable", self.durable);
        assert!(index <= self.last, "entry {index} is refused, and the last is {}", self.last);
        self.entries.retain(|entry| entry.index < index);
        self.last = index - 1;
        self.handed = self.handed.min(self.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn entries_are_appended_once_and_committed_once_when_durable() {
        let mut quorum = SingleWriter::new(NodeId(1), 3, 7);
        assert_eq!(quorum.propose(vec![Record::NoOp]), Ok(8));
        assert_eq!(quorum.propose(vec![Record::NoOp]), Ok(9));
        let ready = quorum.ready();
        assert_eq!((indices(&ready.append), indices(&ready.committed)), (vec![8, 9], vec![]));
        assert!(ready.append.iter().all(|entry| entry.term == 4), "a new process, a new term");
        assert_eq!(quorum.propose(vec![Record::NoOp]), Ok(10));
        quorum.appended(8);
        let ready = quorum.ready();
        assert_eq!((indices(&ready.append), indices(&ready.committed)), (vec![10], vec![8]));
        quorum.appended(10);
        assert_eq!(indices(&quorum.ready().committed), [9, 10]);
        assert_eq!(quorum.ready(), Ready::default());
    }

    #[test]
    fn a_refused_index_is_given_anew() {
        let mut quorum = SingleWriter::new(NodeId(1), 0, 0);
        for _ in 0..3 {
            quorum.propose(vec![Record::NoOp]).unwrap();
        }
        quorum.ready();
        quorum.refused(2);
        assert_eq!(quorum.propose(vec![Record::NoOp]), Ok(2));
        quorum.appended(1);
        let ready = quorum.ready();
        assert_eq!((indices(&ready.append), indices(&ready.committed)), (vec![2], vec![1]));
    }

    #[test]
    #[should_panic(expected = "never handed out")]
    fn what_was_not_handed_out_cannot_be_durable() {
        let mut quorum = SingleWriter::new(NodeId(1), 0, 0);
        quorum.propose(vec![Record::NoOp]).unwrap();
        quorum.appended(1);
    }
}
