//! The rows of the table: which loads are put on whom, and what must hold between their figures.

use super::bench::{CPU, CPU_PER_MB, FLUSHES, MB, P50, P99, P999, RATE, STAGES};
use crate::report::Bound;

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    Corelog,
    Kafka,
    Null,
    /// What is measured beside the brokers: [`Beside`].
    Beside,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Corelog => "corelog",
            Who::Kafka => "K",
            Who::Null => "N",
            Who::Beside => "beside",
        }
    }
}

/// What else is measured in each repetition of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beside {
    /// 4 KiB, one after another: O_DIRECT, a write linked to an fdatasync.
    RawCommits,
    /// Groups of 1 MiB: the fastest of the ways that `raw.rs` knows.
    RawGroups,
    /// The same load on the same broker by this tool's own generator, which shares nothing with the bench's.
    OtherGenerator { partitions: i32, connections: usize, in_flight: usize },
}

/// What is asked, in the words of `corelog bench`.
#[derive(Debug)]
pub struct Load {
    pub name: &'static str,
    pub options: &'static str,
    pub beside: Option<Beside>,
}

/// One figure of one load.
#[derive(Debug)]
pub struct Term {
    pub load: &'static str,
    pub who: Who,
    pub column: &'static str,
}

/// A figure over the sum of others (over 1 where there are none), and where it must be.
#[derive(Debug)]
pub struct Bar {
    pub of: Term,
    pub over: &'static [Term],
    pub bound: Bound,
}

#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    /// The loads of the row in turns, each repetition on new topics; else the contenders of each load in turns.
    pub in_turns: bool,
    pub loads: &'static [Load],
    pub bars: &'static [Bar],
}

impl Row {
    /// Whether a contender's figures of a load are wanted.
    pub fn wants(&self, load: &str, who: Who) -> bool {
        let mut terms = self.bars.iter().flat_map(|bar| std::iter::once(&bar.of).chain(bar.over));
        terms.any(|term| term.load == load && term.who == who)
    }
}

const fn load(name: &'static str, options: &'static str) -> Load {
    Load { name, options, beside: None }
}

const fn corelog(load: &'static str, column: &'static str) -> Term {
    Term { load, who: Who::Corelog, column }
}

const fn kafka(load: &'static str, column: &'static str) -> Term {
    Term { load, who: Who::Kafka, column }
}

const fn null(load: &'static str, column: &'static str) -> Term {
    Term { load, who: Who::Null, column }
}

const fn beside(load: &'static str, column: &'static str) -> Term {
    Term { load, who: Who::Beside, column }
}

/// Of corelog and Kafka under the same load.
macro_rules! over_kafka {
    ($load:literal, $column:expr, $bound:expr) => {
        Bar { of: corelog($load, $column), over: &[kafka($load, $column)], bound: $bound }
    };
}

/// Of corelog and the null responder under the same load.
macro_rules! over_null {
    ($load:literal, $column:expr, $bound:expr) => {
        Bar { of: corelog($load, $column), over: &[null($load, $column)], bound: $bound }
    };
}

/// A figure by itself.
macro_rules! alone {
    ($load:literal, $column:expr, $bound:expr) => {
        Bar { of: corelog($load, $column), over: &[], bound: $bound }
    };
}

use Bound::{AtLeast, AtMost, Within};

pub const ROWS: &[Row] = &[
    Row {
        name: "A",
        what: "produce: 1 partition, 1 connection, 1 in flight, 1 KiB",
        in_turns: true,
        loads: &[
            load("A os", "--load A"),
            Load {
                name: "A fsync",
                options: "--load A --durability fsync",
                beside: Some(Beside::RawCommits),
            },
        ],
        bars: &[
            over_null!("A os", P50, AtMost(1.2)),
            over_null!("A os", P99, AtMost(1.3)),
            over_kafka!("A os", P999, AtMost(0.5)),
            over_null!("A os", CPU, AtMost(1.5)),
            Bar {
                of: corelog("A fsync", P50),
                over: &[null("A fsync", P50), beside("A fsync", P50)],
                bound: AtMost(1.3),
            },
            over_kafka!("A fsync", P99, AtMost(0.4)),
            alone!("A fsync", FLUSHES, AtMost(1.0)),
        ],
    },
    Row {
        name: "B",
        what: "produce: 16 partitions, 8 connections x 5, 64 records of 1 KiB a batch",
        in_turns: false,
        loads: &[load("B os", "--load B"), load("B fsync", "--load B --durability fsync")],
        bars: &[
            over_kafka!("B os", MB, AtLeast(2.5)),
            over_kafka!("B os", P99, AtMost(0.2)),
            over_kafka!("B fsync", MB, AtLeast(3.0)),
            over_kafka!("B fsync", P99, AtMost(0.3)),
        ],
    },
    Row {
        name: "C",
        what: "produce: 256 partitions, 32 connections x 8, one record of 1 KiB a batch",
        in_turns: false,
        loads: &[load("C os", "--load C"), load("C fsync", "--load C --durability fsync")],
        bars: &[
            over_kafka!("C os", RATE, AtLeast(8.0)),
            over_kafka!("C os", CPU, AtMost(0.12)),
            over_kafka!("C os", P99, AtMost(0.1)),
            over_kafka!("C fsync", RATE, AtLeast(25.0)),
            over_kafka!("C fsync", P99, AtMost(0.04)),
            alone!("C fsync", FLUSHES, AtMost(0.05)),
            Bar { of: corelog("C fsync", RATE), over: &[kafka("C os", RATE)], bound: AtLeast(4.0) },
            Bar { of: corelog("C fsync", P99), over: &[kafka("C os", P99)], bound: AtMost(0.2) },
        ],
    },
    Row {
        name: "C1000",
        what: "as C, with 1,000 partitions",
        in_turns: false,
        loads: &[load("C1000 os", "--load C --partitions 1000")],
        bars: &[
            over_kafka!("C1000 os", RATE, AtLeast(8.0)),
            over_kafka!("C1000 os", CPU, AtMost(0.12)),
            over_kafka!("C1000 os", P99, AtMost(0.1)),
        ],
    },
    Row {
        name: "D",
        what: "as C, open loop at half of the rate that Kafka has in C",
        in_turns: false,
        loads: &[load("D os", "--load D")],
        bars: &[over_kafka!("D os", P99, AtMost(0.1)), over_kafka!("D os", P999, AtMost(0.1))],
    },
    Row {
        name: "E",
        what: "fetch of 1 GiB from the page cache, 4 connections, 1 MiB a partition",
        in_turns: false,
        loads: &[load("E", "--load E")],
        bars: &[over_kafka!("E", MB, AtLeast(1.0)), over_kafka!("E", CPU_PER_MB, AtMost(0.9))],
    },
    Row {
        name: "F",
        what: "end to end, 100 records a second",
        in_turns: false,
        loads: &[load("F os", "--load F"), load("F fsync", "--load F --durability fsync")],
        bars: &[
            over_null!("F os", P50, AtMost(1.5)),
            over_kafka!("F os", P99, AtMost(0.25)),
            over_kafka!("F fsync", P99, AtMost(0.25)),
        ],
    },
    Row {
        name: "G",
        what: "produce: 4 partitions, 4 connections x 5, 1 MiB a batch",
        in_turns: true,
        loads: &[
            load("G os", "--load G"),
            Load { name: "G fsync", options: "--load G --durability fsync", beside: Some(Beside::RawGroups) },
        ],
        bars: &[
            over_kafka!("G os", MB, AtLeast(2.0)),
            over_kafka!("G os", P99, AtMost(0.25)),
            over_kafka!("G fsync", MB, AtLeast(2.0)),
            Bar { of: corelog("G fsync", MB), over: &[beside("G fsync", MB)], bound: AtLeast(0.85) },
        ],
    },
    Row {
        name: "H",
        what: "ApiVersions: 1 in flight, and 32 connections x 8",
        in_turns: false,
        loads: &[
            load("H1", "--load A --mode echo"),
            load("H256", "--load A --mode echo --connections 32 --in-flight 8"),
        ],
        bars: &[over_null!("H1", P50, AtMost(1.25)), over_kafka!("H256", RATE, AtLeast(15.0))],
    },
    Row {
        name: "partitions",
        what: "1,000 partitions against 16 at the same 20,000 requests a second, fsync",
        in_turns: true,
        loads: &[
            load("16", "--load C --durability fsync --rate 20000 --warm-up 2 --partitions 16"),
            load("1000", "--load C --durability fsync --rate 20000 --warm-up 2 --partitions 1000"),
        ],
        bars: &[Bar { of: corelog("1000", P99), over: &[corelog("16", P99)], bound: AtMost(2.0) }],
    },
    Row {
        name: "generator",
        what: "the percentiles of corelog bench and of another generator, same broker and load",
        in_turns: true,
        loads: &[
            Load {
                name: "1 in flight",
                options: "--load A",
                beside: Some(Beside::OtherGenerator { partitions: 1, connections: 1, in_flight: 1 }),
            },
            Load {
                name: "32 x 8",
                options: "--load C",
                beside: Some(Beside::OtherGenerator { partitions: 256, connections: 32, in_flight: 8 }),
            },
        ],
        bars: &[
            Bar {
                of: corelog("1 in flight", P50),
                over: &[beside("1 in flight", P50)],
                bound: Within(0.9, 1.1),
            },
            Bar {
                of: corelog("1 in flight", P99),
                over: &[beside("1 in flight", P99)],
                bound: Within(0.8, 1.2),
            },
            Bar { of: corelog("32 x 8", P50), over: &[beside("32 x 8", P50)], bound: Within(0.9, 1.1) },
            Bar { of: corelog("32 x 8", P99), over: &[beside("32 x 8", P99)], bound: Within(0.8, 1.2) },
        ],
    },
    Row {
        name: "stages",
        what: "the times of a request's stages over its time in all, as the broker tells them",
        in_turns: true,
        loads: &[
            load("produce os", "--load C"),
            load("produce fsync", "--load C --durability fsync"),
            load("fetch", "--load E --fill-bytes 134217728"),
        ],
        bars: &[
            alone!("produce os", STAGES, Within(0.95, 1.05)),
            alone!("produce fsync", STAGES, Within(0.95, 1.05)),
            alone!("fetch", STAGES, Within(0.95, 1.05)),
        ],
    },
];

/// The row that is no load: what a broker with many partitions has in memory when nobody asks it anything.
pub const MEMORY: &str = "memory";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_about_loads_of_its_row_and_what_is_measured_there() {
        for row in ROWS {
            for bar in row.bars {
                assert_eq!(bar.of.who, Who::Corelog, "{bar:?}");
                for term in std::iter::once(&bar.of).chain(bar.over) {
                    let load = row.loads.iter().find(|load| load.name == term.load);
                    let load = load.unwrap_or_else(|| panic!("{}: no load {}", row.name, term.load));
                    // What is measured beside a load is measured between the repetitions of one.
                    let is_there = term.who != Who::Beside || (load.beside.is_some() && row.in_turns);
                    assert!(is_there, "{}: {term:?}", row.name);
                }
            }
            for load in row.loads {
                assert!(row.wants(load.name, Who::Corelog), "{} is measured for nothing", load.name);
            }
        }
    }

    #[test]
    fn names_are_not_given_twice() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.push(MEMORY);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
