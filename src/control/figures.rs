//! Figures in the log: one line a minute if there was traffic in it, and one with the totals at the end.

use std::sync::Arc;
use std::time::Duration;

use super::latency::{longest_stage, of_api};
use crate::metrics::{Counter, Series, ShardMetrics, Timing, snapshot};
use crate::trace::{Level, LogLine};

/// How often there is a line.
pub(super) const FIGURES_INTERVAL: Duration = Duration::from_secs(60);

/// What a line counts. The first says whether there was traffic.
const COUNTED: [(&str, Counter); 5] = [
    ("requests", Counter::Requests),
    ("received_bytes", Counter::ReceivedBytes),
    ("sent_bytes", Counter::SentBytes),
    ("appended_records", Counter::AppendedRecords),
    ("appended_bytes", Counter::AppendedBytes),
];

type Counts = [u64; COUNTED.len()];

/// Of produce and fetch a line has quantiles, the longest, and the stage that took most.
const TIMED: [(&str, Timing, [&str; 6]); 2] = [
    (
        "Produce",
        Timing::Produce,
        [
            "produce_p50_us",
            "produce_p99_us",
            "produce_p999_us",
            "produce_p9999_us",
            "produce_max_us",
            "produce_longest_stage",
        ],
    ),
    (
        "Fetch",
        Timing::Fetch,
        [
            "fetch_p50_us",
            "fetch_p99_us",
            "fetch_p999_us",
            "fetch_p9999_us",
            "fetch_max_us",
            "fetch_longest_stage",
        ],
    ),
];

/// What was counted when a line was last due.
#[derive(Default)]
pub(super) struct Figures {
    before: Counts,
}

impl Figures {
    /// The line of the last minute; `None` if nobody asked anything in it. `timed`: what was timed in that minute.
    pub fn line(
        &mut self,
        shards: &[Arc<ShardMetrics>],
        timed: impl FnOnce() -> Vec<Series>,
    ) -> Option<LogLine> {
        let now = counts(shards);
        let before = std::mem::replace(&mut self.before, now);
        let since: Counts = std::array::from_fn(|index| now[index] - before[index]);
        (since[0] > 0).then(|| line("figures of the last minute", &since, &timed()))
    }
}

/// All since the start; `None` if nobody ever asked anything.
pub(super) fn totals(shards: &[Arc<ShardMetrics>]) -> Option<LogLine> {
    let counts = counts(shards);
    (counts[0] > 0).then(|| line("totals", &counts, &snapshot(shards)))
}

fn counts(shards: &[Arc<ShardMetrics>]) -> Counts {
    COUNTED.map(|(_, counter)| shards.iter().map(|shard| shard.counter(counter)).sum())
}

fn line(text: &'static str, counts: &Counts, timed: &[Series]) -> LogLine {
    let mut line = LogLine::new(Level::Info, "control", text);
    for ((name, _), count) in COUNTED.into_iter().zip(counts) {
        line = line.with(name, *count);
    }
    for (api, timing, names) in TIMED {
        let Some(values) = of_api(timed, api) else { continue };
        for (name, quantile) in names.into_iter().zip([0.5, 0.99, 0.999, 0.9999]) {
            line = line.with(name, values.quantile(quantile) / 1000);
        }
        line = line.with(names[4], values.max() / 1000);
        if let Some((stage, percent)) = longest_stage(timed, timing) {
            line = line.with(names[5], format!("{stage}:{percent}%"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::logging::format_line;
    use super::*;
    use crate::config::Durability;
    use crate::metrics::{Class, Meter, Path, Stage, StageClock, Timed, between};
    use crate::model::{Monotonic, ShardId};

    /// One produce request of one record, that waited for its write and then for its flush.
    fn produce(meter: &Meter, written_us: u64, flushed_us: u64) {
        for (counter, amount) in [
            (Counter::Requests, 1),
            (Counter::ReceivedBytes, 200),
            (Counter::SentBytes, 50),
            (Counter::AppendedRecords, 1),
            (Counter::AppendedBytes, 150),
        ] {
            meter.add(counter, amount);
        }
        let mut clock = StageClock::start(Monotonic(0));
        clock.lap(Stage::Written, Monotonic(written_us * 1000));
        clock.lap(Stage::Flushed, Monotonic((written_us + flushed_us) * 1000));
        let class = Some(Class::Produce(Durability::Fsync, Path::Journal));
        meter.timed(&Timed { api_key: 0, api_version: 9, correlation_id: 0, class, clock, partition: None });
    }

    #[test]
    fn a_minute_has_a_line_if_there_was_traffic_and_only_what_was_in_it() {
        let meters = [0, 1].map(|shard| Meter::new(ShardId(shard), &[(0, "Produce")]));
        let shards = meters.each_ref().map(Meter::metrics);
        let mut figures = Figures::default();
        let mut minute = |earlier: &[Series]| {
            let line = figures.line(&shards, || between(earlier, &snapshot(&shards)));
            line.map(|line| format_line(&line, 0))
        };
        let start = snapshot(&shards);
        assert_eq!(minute(&start), None, "nobody asked yet");
        produce(&meters[0], 1, 63);
        produce(&meters[1], 1, 63);
        let first = snapshot(&shards);
        assert_eq!(
            minute(&start).unwrap(),
            "1970-01-01T00:00:00.000Z INFO  control: figures of the last minute requests=2 received_bytes=400 sent_bytes=100 \
             appended_records=2 appended_bytes=300 produce_p50_us=64 produce_p99_us=64 produce_p999_us=64 produce_p9999_us=64 \
             produce_max_us=64 produce_longest_stage=flushed:98%\n"
        );
        assert_eq!(minute(&first), None, "nobody asked in this one");
        produce(&meters[0], 1024, 0);
        let line = minute(&first).unwrap();
        assert!(line.contains(" requests=1 received_bytes=200 "), "{line}");
        assert!(line.contains(" produce_longest_stage=written:100%"), "{line}");
        let all = format_line(&totals(&shards).unwrap(), 0);
        assert!(all.contains("control: totals requests=3 ") && all.contains("produce_max_us=1024"), "{all}");
        assert!(totals(&[]).is_none());
    }
}
