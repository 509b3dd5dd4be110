//! What `/latency` says: quantiles of everything that is timed, since the start and of the last seconds.
//!
//! Windows are differences of snapshots that the control thread takes every few seconds: shards know nothing of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::metrics::{Distribution, QUANTILES, Series, ShardMetrics, TOTAL, Timing, between, snapshot};

/// How often a snapshot is taken. A window is at most so much longer than it is asked to be.
pub(super) const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5);

/// The windows that are told.
const WINDOWS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Enough to look back over the longest window. One holds what the histograms hold in their used buckets: some 100 KiB.
const SNAPSHOTS_MAX: usize = (WINDOWS[1].as_secs() / SNAPSHOT_INTERVAL.as_secs()) as usize + 2;

/// Names of [`QUANTILES`], in microseconds.
const QUANTILE_NAMES: [&str; QUANTILES.len()] = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us"];

/// The last minute's snapshots, oldest first.
#[derive(Default)]
pub(super) struct History {
    snapshots: VecDeque<(Instant, Vec<Series>)>,
}

impl History {
    pub fn note(&mut self, now: Instant, shards: &[Arc<ShardMetrics>]) {
        if self.snapshots.len() == SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back((now, snapshot(shards)));
    }

    /// What came in the last `window`, or a little more, and in how long; since the start if that is shorter.
    pub fn last(
        &self,
        window: Duration,
        now: Instant,
        started: Instant,
        current: &[Series],
    ) -> (Vec<Series>, Duration) {
        let is_old_enough = |(at, _): &&(Instant, Vec<Series>)| now - *at >= window;
        match self.snapshots.iter().rev().find(is_old_enough) {
            Some((at, earlier)) => (between(earlier, current), now - *at),
            None => (current.to_vec(), now - started),
        }
    }
}

/// The whole page.
pub(super) fn page(history: &History, now: Instant, started: Instant, shards: &[Arc<ShardMetrics>]) -> Value {
    let current = snapshot(shards);
    let mut page = json!({ "since_start": period(&current, now - started) });
    for window in WINDOWS {
        let (series, length) = history.last(window, now, started, &current);
        page[format!("last_{}_s", window.as_secs())] = period(&series, length);
    }
    page
}

/// One period: requests by API, produce and fetch by class and stage, the shards' loops and mailboxes.
fn period(series: &[Series], length: Duration) -> Value {
    let of = |timing: Timing| series.iter().filter(move |s| s.timing == timing && !s.values.is_empty());
    let by_label = |timing, label| -> Map<String, Value> {
        of(timing)
            .map(|series| (series.label(label).unwrap_or_default().to_owned(), figures(series)))
            .collect()
    };
    let nested = |timing, label| -> Map<String, Value> {
        let mut shards = Map::new();
        for series in of(timing) {
            let shard = series.label("shard").unwrap_or_default();
            let inner = series.label(label).unwrap_or_default();
            shards.entry(shard).or_insert_with(|| json!({}))[inner] = figures(series);
        }
        shards
    };
    json!({
        "seconds": length.as_secs_f64(),
        "requests": by_label(Timing::Request, "api"),
        "produce": classes(of(Timing::Produce)),
        "fetch": classes(of(Timing::Fetch)),
        "round": by_label(Timing::Round, "shard"),
        "phases": nested(Timing::Phase, "phase"),
        "mesh_hop": by_label(Timing::Hop, "shard"),
        "mailbox": by_label(Timing::Mailbox, "shard"),
        "journal": {
            "commit": by_label(Timing::JournalCommit, "shard"),
            "checkpoint": by_label(Timing::JournalCheckpoint, "shard"),
            "group_bytes": by_label(Timing::JournalGroupBytes, "shard"),
            "group_entries": by_label(Timing::JournalGroupEntries, "shard"),
            "wait": nested(Timing::JournalWait, "cause"),
        },
    })
}

/// Consecutive series of one class become one object, their stages inside it.
fn classes<'a>(series: impl Iterator<Item = &'a Series>) -> Value {
    let mut all: Vec<Map<String, Value>> = Vec::new();
    for series in series {
        let stage = series.label("stage").unwrap_or_default();
        let labels = || series.labels.iter().filter(|(label, _)| *label != "stage");
        let is_same = |class: &Map<String, Value>| {
            labels().all(|(label, value)| class[*label].as_str() == Some(value.as_str()))
        };
        if !all.last().is_some_and(is_same) {
            let mut class: Map<String, Value> =
                labels().map(|(label, value)| ((*label).to_owned(), value.clone().into())).collect();
            class.insert("stages".to_owned(), json!({}));
            all.push(class);
        }
        let class = all.last_mut().expect("there is one now");
        class["stages"][stage] = figures(series);
    }
    all.into_iter().map(Value::Object).collect()
}

/// Quantiles in microseconds; plain numbers for what is no time.
pub(super) fn figures(series: &Series) -> Value {
    let values = &series.values;
    let mut figures = json!({ "count": values.count() });
    if series.timing.is_time() {
        let us = |ns: f64| (ns / 10.0).round() / 100.0;
        for (name, quantile) in QUANTILE_NAMES.into_iter().zip(QUANTILES) {
            figures[name] = us(values.quantile(quantile) as f64).into();
        }
        figures["max_us"] = us(values.max() as f64).into();
        figures["mean_us"] = us(values.mean()).into();
    } else {
        for (name, quantile) in QUANTILE_NAMES.into_iter().zip(QUANTILES) {
            figures[name.trim_end_matches("_us")] = values.quantile(quantile).into();
        }
        figures["max"] = values.max().into();
        figures["mean"] = values.mean().into();
    }
    figures
}

/// All requests of one API together, if there were any.
pub(super) fn of_api<'a>(series: &'a [Series], api: &str) -> Option<&'a Distribution> {
    let is_wanted = |s: &&Series| s.timing == Timing::Request && s.label("api") == Some(api);
    series.iter().find(is_wanted).map(|series| &series.values).filter(|values| !values.is_empty())
}

/// The stage that took most of the time of all requests of this kind, and its share in percent.
pub(super) fn longest_stage(series: &[Series], timing: Timing) -> Option<(&str, u64)> {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    let mut total = 0;
    for series in series.iter().filter(|s| s.timing == timing) {
        let stage = series.label("stage").unwrap_or_default();
        match sums.iter_mut().find(|(name, _)| *name == stage) {
            _ if stage == TOTAL => total += series.values.sum(),
            Some((_, sum)) => *sum += series.values.sum(),
            None => sums.push((stage, series.values.sum())),
        }
    }
    let (stage, sum) = sums.into_iter().max_by_key(|(_, sum)| *sum)?;
    (total > 0).then(|| (stage, sum * 100 / total))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any moment will do: only differences matter")]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::metrics::{Class, Meter, Path, Stage, StageClock, Timed};
    use crate::model::{Monotonic, ShardId};

    fn produce(meter: &Meter, written_us: u64, replied_us: u64) {
        let mut clock = StageClock::start(Monotonic(0));
        clock.lap(Stage::Written, Monotonic(written_us * 1000));
        clock.lap(Stage::Replied, Monotonic((written_us + replied_us) * 1000));
        let class = Some(Class::Produce(Durability::Os, Path::PageCache));
        meter.timed(&Timed { api_key: 0, api_version: 9, correlation_id: 0, class, clock, partition: None });
    }

    #[test]
    fn the_page_tells_stages_since_the_start_and_of_windows() {
        let meter = Meter::new(ShardId(0), &[(0, "Produce")]);
        let shards = [meter.metrics()];
        let started = Instant::now();
        let after = |seconds| started + Duration::from_secs(seconds);
        let mut history = History::default();
        produce(&meter, 900, 100);
        history.note(after(5), &shards);
        for seconds in [10, 15, 20] {
            history.note(after(seconds), &shards);
        }
        produce(&meter, 10, 30);
        let page = page(&history, after(22), started, &shards);
        let check = |period: &str, pointer: &str, expected: Value| {
            assert_eq!(page[period].pointer(pointer), Some(&expected), "{period} {pointer} in {page:#}");
        };
        check("since_start", "/requests/Produce/count", json!(2));
        check("since_start", "/produce/0/stages/total/max_us", json!(1000.0));
        check("since_start", "/produce/0/durability", json!("os"));
        check("since_start", "/produce/0/path", json!("page-cache"));
        check("last_10_s", "/seconds", json!(12.0));
        check("last_10_s", "/produce/0/stages/total/count", json!(1));
        check("last_10_s", "/produce/0/stages/total/mean_us", json!(40.0));
        check("last_10_s", "/produce/0/stages/replied/mean_us", json!(30.0));
        check("last_60_s", "/seconds", json!(22.0));
        check("last_60_s", "/produce/0/stages/total/count", json!(2));
        assert_eq!(page["last_10_s"]["produce"].as_array().map(Vec::len), Some(1));
        let current = snapshot(&shards);
        assert_eq!(longest_stage(&current, Timing::Produce), Some(("written", 87)));
        assert_eq!(longest_stage(&current, Timing::Fetch), None);
    }

    #[test]
    fn the_history_forgets_what_no_window_reaches() {
        let meter = Meter::new(ShardId(0), &[(0, "Produce")]);
        let shards = [meter.metrics()];
        let started = Instant::now();
        let mut history = History::default();
        for round in 0..100 {
            history.note(started + SNAPSHOT_INTERVAL * round, &shards);
        }
        assert_eq!(history.snapshots.len(), SNAPSHOTS_MAX);
        let now = started + SNAPSHOT_INTERVAL * 99 + Duration::from_secs(4);
        let (_, length) = history.last(WINDOWS[1], now, started, &snapshot(&shards));
        assert_eq!(length, Duration::from_secs(64));
    }
}
