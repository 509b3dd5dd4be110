//! What a check found.

use std::fmt;

/// What a log must never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged record is gone.
    LostWrite,
    /// A value of an idempotent producer stands at two offsets.
    Duplicate,
    /// One offset had two values, as acknowledged or as read.
    InconsistentOffsets,
    /// A value was read that nobody sent.
    UnsentRead,
    /// A value was read whose send the broker had refused.
    FailedRead,
    /// A consumer went back without being assigned anew.
    NonMonotonicPoll,
    /// A consumer jumped over an offset that has a record.
    PollSkip,
    /// Sends of one producer stand in a partition in another order than they were sent.
    ReorderedSends,
    /// A send that began after another's acknowledgement stands before it.
    RealtimeOrder,
}

impl Kind {
    /// As in Jepsen's list where it has the anomaly.
    pub fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost-write",
            Self::Duplicate => "duplicate",
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::UnsentRead => "unsent-read",
            Self::FailedRead => "failed-read",
            Self::NonMonotonicPoll => "nonmonotonic-poll",
            Self::PollSkip => "poll-skip",
            Self::ReorderedSends => "nonmonotonic-send",
            Self::RealtimeOrder => "realtime-order",
        }
    }
}

/// One thing that went wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub topic: String,
    pub partition: i32,
    pub offset: Option<i64>,
    /// The values, producers or consumers concerned, for a person.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{}", self.kind.name(), self.topic, self.partition)?;
        if let Some(offset) = self.offset {
            write!(f, "@{offset}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// The outcome of a check, with the counts that tell whether it had anything to look at.
#[derive(Debug, Default)]
pub struct Report {
    pub anomalies: Vec<Anomaly>,
    pub partitions: usize,
    pub sends: usize,
    pub acked: usize,
    pub failed: usize,
    pub unknown: usize,
    pub reads: usize,
    /// Second copies of values of producers without idempotence: allowed.
    pub duplicates_allowed: usize,
    /// Acknowledged, beyond the last offset read, in a partition that nobody read to its end: nothing can be said.
    pub unseen: usize,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "history: {} partitions, {} sends ({} acked, {} failed, {} unknown), {} reads, \
             {} allowed duplicates, {} unseen: {} anomalies",
            self.partitions,
            self.sends,
            self.acked,
            self.failed,
            self.unknown,
            self.reads,
            self.duplicates_allowed,
            self.unseen,
            self.anomalies.len()
        )
    }
}
