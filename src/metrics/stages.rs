//! Where the time of a request goes: stages, one behind the other without a gap, so that they add up to the whole.
//!
//! A [`StageClock`] goes with its request. Whatever carries the request on ends a stage with [`StageClock::lap`]; a request that
//! several shards serve goes by the one that answers last. At the end the times go into the histograms of the request's
//! [`Class`]: what durability and write path a produce met, where a fetch found its records.

use std::fmt::Write;
use std::time::Duration;

use crate::config::Durability;
use crate::model::{Monotonic, PartitionIndex, TopicId};

/// What a request spends its time on, in the order of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Stage {
    Decoded,
    Mesh,
    Appended,
    Written,
    Flushed,
    Read,
    Waited,
    Replied,
}

impl Stage {
    pub const ALL: [Stage; 8] = [
        Stage::Decoded,
        Stage::Mesh,
        Stage::Appended,
        Stage::Written,
        Stage::Flushed,
        Stage::Read,
        Stage::Waited,
        Stage::Replied,
    ];

    pub const PRODUCE: &'static [Stage] =
        &[Stage::Decoded, Stage::Mesh, Stage::Appended, Stage::Written, Stage::Flushed, Stage::Replied];

    pub const FETCH: &'static [Stage] =
        &[Stage::Decoded, Stage::Mesh, Stage::Read, Stage::Waited, Stage::Replied];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Decoded => "decoded",
            Stage::Mesh => "mesh",
            Stage::Appended => "appended",
            Stage::Written => "written",
            Stage::Flushed => "flushed",
            Stage::Read => "read",
            Stage::Waited => "waited",
            Stage::Replied => "replied",
        }
    }

    /// What the stage holds, for people.
    pub fn help(self) -> &'static str {
        match self {
            Stage::Decoded => "from its last byte: waiting for its turn, decoding, first checks",
            Stage::Mesh => "to the shard that owns the partition and back; 0 if it is the connection's own",
            Stage::Appended => "batches checked and copied into the log; waiting for room in it",
            Stage::Written => "waiting for the group before, and the write",
            Stage::Flushed => "the flush, where the durability level wants one",
            Stage::Read => "finding the records, and reading them from the disk if they are not in memory",
            Stage::Waited => "the long poll, for records that were not there yet",
            Stage::Replied => {
                "encoding, waiting for earlier replies of the connection, handing over to the ring"
            }
        }
    }
}

/// The stages, as a Markdown table.
pub fn stage_table() -> String {
    let mut table = String::from("| stage | of | holds |\n|---|---|---|\n");
    for stage in Stage::ALL {
        let of = [("produce", Stage::PRODUCE), ("fetch", Stage::FETCH)];
        let of = of.iter().filter(|(_, stages)| stages.contains(&stage)).map(|(api, _)| *api);
        let of = of.collect::<Vec<_>>().join(", ");
        writeln!(table, "| `{}` | {of} | {} |", stage.name(), stage.help())
            .expect("writing to a String cannot fail");
    }
    table
}

/// The stopwatch of one request. *Invariant*: the stages add up to the time from `received` to the last lap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageClock {
    received: Monotonic,
    last: Monotonic,
    spent_ns: [u64; Stage::ALL.len()],
}

impl StageClock {
    /// A request whose last byte was there at this time.
    pub fn start(received: Monotonic) -> StageClock {
        StageClock { received, last: received, spent_ns: [0; Stage::ALL.len()] }
    }

    /// Ends a stage at `now`. A time before the last lap's counts as that: what is read once for several requests may be
    /// older than what was read for one of them.
    pub fn lap(&mut self, stage: Stage, now: Monotonic) {
        if now > self.last {
            self.spent_ns[stage as usize] += now.0 - self.last.0;
            self.last = now;
        }
    }

    pub fn spent(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.spent_ns[stage as usize])
    }

    pub fn total(&self) -> Duration {
        self.last.since(self.received)
    }
}

/// How a batch came to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Path {
    Journal,
    Direct,
    PageCache,
}

impl Path {
    pub const ALL: [Path; 3] = [Path::Journal, Path::Direct, Path::PageCache];

    /// As in the topic setting `write.path`.
    pub fn name(self) -> &'static str {
        match self {
            Path::Journal => "journal",
            Path::Direct => "direct",
            Path::PageCache => "page-cache",
        }
    }
}

/// Where a fetch found its records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(usize)]
pub enum Source {
    /// It found none, or an error.
    #[default]
    Nowhere,
    /// All in the tail cache, or on their way from the journal to the segment.
    Memory,
    /// Some had to be read.
    Disk,
}

impl Source {
    pub const ALL: [Source; 3] = [Source::Nowhere, Source::Memory, Source::Disk];

    pub fn name(self) -> &'static str {
        match self {
            Source::Nowhere => "none",
            Source::Memory => "memory",
            Source::Disk => "disk",
        }
    }
}

/// Requests that are timed together. Of a request for several partitions the one that answered last decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Produce(Durability, Path),
    /// No batch of it came to a log: refused, or not acknowledged in time.
    ProduceRefused,
    Fetch(Source),
}

const DURABILITIES: [Durability; 3] = [Durability::Fsync, Durability::Interval, Durability::Os];
const REFUSED: usize = DURABILITIES.len() * Path::ALL.len();

impl Class {
    pub const COUNT: usize = REFUSED + 1 + Source::ALL.len();

    /// Every class, by index.
    pub fn all() -> impl Iterator<Item = Class> {
        let appended = DURABILITIES.into_iter().flat_map(|d| Path::ALL.map(|path| Class::Produce(d, path)));
        appended.chain([Class::ProduceRefused]).chain(Source::ALL.map(Class::Fetch))
    }

    pub(super) fn index(self) -> usize {
        match self {
            Class::Produce(durability, path) => {
                let durability = match durability {
                    Durability::Fsync => 0,
                    Durability::Interval => 1,
                    Durability::Os => 2,
                };
                durability * Path::ALL.len() + path as usize
            }
            Class::ProduceRefused => REFUSED,
            Class::Fetch(source) => REFUSED + 1 + source as usize,
        }
    }

    pub fn is_produce(self) -> bool {
        !matches!(self, Class::Fetch(_))
    }

    pub fn stages(self) -> &'static [Stage] {
        if self.is_produce() { Stage::PRODUCE } else { Stage::FETCH }
    }

    /// What tells it from other classes of its API.
    pub fn labels(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Class::Produce(durability, path) => {
                vec![("durability", durability.name()), ("path", path.name())]
            }
            Class::ProduceRefused => vec![("durability", "none"), ("path", "none")],
            Class::Fetch(source) => vec![("source", source.name())],
        }
    }
}

/// When a shard had done what it does for an order of batches; of several parts, that of the one that ended last.
/// `Monotonic(0)`: it did not come to that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppendTimes {
    /// The order was taken out of the mailbox.
    pub taken: Monotonic,
    pub appended: Monotonic,
    pub written: Monotonic,
    /// The durability level is reached.
    pub committed: Monotonic,
}

impl AppendTimes {
    /// A part ended; those before it ended earlier.
    pub fn ended(&mut self, part: &AppendTimes) {
        self.appended = self.appended.max(part.appended);
        self.written = self.written.max(part.written);
        self.committed = self.committed.max(part.committed);
    }
}

/// A request that is answered, on its way to the socket with its times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timed {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// `None`: only the whole is timed.
    pub class: Option<Class>,
    pub clock: StageClock,
    /// The partition that answered last.
    pub partition: Option<(TopicId, PartitionIndex)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stages_add_up_to_the_whole(laps in proptest::collection::vec((0usize..8, 0u64..2_000), 0..40)) {
            let mut clock = StageClock::start(Monotonic(500));
            let mut latest = 500;
            for (stage, now) in laps {
                clock.lap(Stage::ALL[stage], Monotonic(now));
                latest = latest.max(now);
            }
            let sum: Duration = Stage::ALL.into_iter().map(|stage| clock.spent(stage)).sum();
            prop_assert_eq!(sum, clock.total());
            prop_assert_eq!(clock.total(), Duration::from_nanos(latest - 500));
        }
    }

    #[test]
    fn classes_have_a_place_each() {
        let indexes: Vec<usize> = Class::all().map(Class::index).collect();
        assert_eq!(indexes, (0..Class::COUNT).collect::<Vec<_>>());
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
            assert!(
                Stage::PRODUCE.contains(&stage) || Stage::FETCH.contains(&stage),
                "{stage:?} is nobody's"
            );
        }
    }
}
