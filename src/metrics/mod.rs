//! What the broker counts and times.
//!
//! *Owns* the catalog of metrics (`catalog`: name, kind, unit, labels, help), each shard's counters and histograms, and their
//! text form; the times of a request's stages (`stages`). *Never* locks, allocates or waits on a shard: a shard writes its own words with plain loads and stores, the
//! control thread reads them whenever it likes. Written by `shard` and what it calls through a [`Meter`]; read by `control`.

mod busiest;
mod catalog;
mod counters;
mod export;
mod histogram;
mod journal;
mod report;
mod slow;
mod stages;

pub use busiest::{BUSIEST_MAX, Busiest, Busy, Tally, Traffic};
pub use catalog::{Counter, Gauge, JournalWait, Kind, Metric, PARTITION_METRICS, Phase, Timing, metrics};
pub use counters::{ApiNames, Meter, ShardMetrics};
pub use export::{
    QUANTILES, Series, TOTAL, between, metric_table, prometheus, snapshot, write_partitions, write_process,
};
pub use histogram::{Distribution, Histogram};
pub use journal::{JournalHistograms, JournalMeter};
pub use report::{
    Activity, AskShard, BusyClient, BusyPartition, GroupReport, PartitionReport, ShardReport,
    SlotMoveOutcome, SlotReport, SlotsReport, Tell,
};
pub use slow::{SlowRequest, SlowRequests};
pub use stages::{AppendTimes, Class, Path, Source, Stage, StageClock, Timed, stage_table};
