//! What all shards' histograms say together: series, snapshots of them, and the metrics page (Prometheus text format 0.0.4).

use std::fmt::Write;
use std::sync::Arc;

use super::busiest::Traffic;
use super::catalog::{
    Counter, Gauge, JournalWait, Kind, Metric, PARTITION_METRICS, PROCESS_METRICS, Phase, Timing,
};
use super::counters::ShardMetrics;
use super::histogram::{Distribution, Histogram};
use super::report::BusyPartition;
use super::stages::Class;

/// The label of the stages' sum.
pub const TOTAL: &str = "total";

/// The quantiles that are told, always together with the largest value, the count and the sum.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One series at one moment, all shards that it is of together.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    pub timing: Timing,
    pub labels: Vec<(&'static str, String)>,
    pub values: Distribution,
}

impl Series {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// Powers of two of a microsecond, to 33 s: 26 lines a series say enough for an alert; exact quantiles are in `/latency`.
const BUCKET_BOUNDS: [u64; 26] = {
    let mut bounds = [1; 26];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = bounds[i - 1] * 2;
        i += 1;
    }
    bounds
};

fn series_of(timing: Timing, shards: &[Arc<ShardMetrics>]) -> Vec<Series> {
    type OfShard = fn(&ShardMetrics) -> &Histogram;
    let by_shard = |of: OfShard| -> Vec<Series> {
        let one = |shard: &Arc<ShardMetrics>| Series {
            timing,
            labels: vec![("shard", shard.shard().to_string())],
            values: Distribution::of([of(shard)]),
        };
        shards.iter().map(one).collect()
    };
    match timing {
        Timing::Phase => shards
            .iter()
            .flat_map(|shard| {
                Phase::ALL.map(|phase| Series {
                    timing,
                    labels: vec![("shard", shard.shard().to_string()), ("phase", phase.name().to_owned())],
                    values: Distribution::of([shard.phase(phase)]),
                })
            })
            .collect(),
        Timing::Round => by_shard(ShardMetrics::rounds),
        Timing::Mailbox => by_shard(ShardMetrics::mailboxes),
        Timing::Hop => by_shard(ShardMetrics::hops),
        Timing::Request => {
            let Some(first) = shards.first() else { return Vec::new() };
            let names = first.requests().enumerate();
            names
                .map(|(index, (name, _))| {
                    let histograms =
                        shards.iter().filter_map(|shard| shard.requests().nth(index)).map(|(_, h)| h);
                    let labels = vec![("api", name.to_owned())];
                    Series { timing, labels, values: Distribution::of(histograms) }
                })
                .collect()
        }
        Timing::Produce => classes(timing, shards, Class::is_produce),
        Timing::Fetch => classes(timing, shards, |class| !class.is_produce()),
        Timing::JournalWait => shards
            .iter()
            .flat_map(|shard| {
                JournalWait::ALL.map(|cause| Series {
                    timing,
                    labels: vec![("shard", shard.shard().to_string()), ("cause", cause.name().to_owned())],
                    values: Distribution::of([shard.journal().wait(cause)]),
                })
            })
            .collect(),
        Timing::JournalCommit
        | Timing::JournalCheckpoint
        | Timing::JournalGroupBytes
        | Timing::JournalGroupEntries => shards
            .iter()
            .filter_map(|shard| {
                let histogram = shard.journal().of(timing)?;
                let labels = vec![("shard", shard.shard().to_string())];
                Some(Series { timing, labels, values: Distribution::of([histogram]) })
            })
            .collect(),
    }
}

fn classes(timing: Timing, shards: &[Arc<ShardMetrics>], is_wanted: fn(Class) -> bool) -> Vec<Series> {
    let of_class = |class: Class| {
        let parts: Vec<&[Histogram]> = shards.iter().filter_map(|shard| shard.class(class)).collect();
        let names = class.stages().iter().map(|stage| stage.name()).chain([TOTAL]);
        let series = names.enumerate().map(move |(place, name)| {
            let labels = class.labels().into_iter().chain([("stage", name)]);
            let labels = labels.map(|(label, value)| (label, value.to_owned())).collect();
            Series { timing, labels, values: Distribution::of(parts.iter().map(|part| &part[place])) }
        });
        series.collect::<Vec<_>>()
    };
    Class::all().filter(|class| is_wanted(*class)).flat_map(of_class).collect()
}

/// Every series there can be with these shards, always in the same order; some are empty.
pub fn snapshot(shards: &[Arc<ShardMetrics>]) -> Vec<Series> {
    Timing::ALL.into_iter().flat_map(|timing| series_of(timing, shards)).collect()
}

/// What came between two snapshots of the same shards.
pub fn between(earlier: &[Series], later: &[Series]) -> Vec<Series> {
    assert_eq!(earlier.len(), later.len(), "snapshots of the same shards have the same series");
    let pairs = earlier.iter().zip(later);
    pairs
        .map(|(earlier, later)| Series { values: later.values.since(&earlier.values), ..later.clone() })
        .collect()
}

/// The metrics page.
pub fn prometheus(shards: &[Arc<ShardMetrics>]) -> String {
    let mut page = String::with_capacity(64 << 10);
    for &counter in Counter::ALL {
        write_scalars(&mut page, counter.metric(), shards, |shard| shard.counter(counter));
    }
    for &gauge in Gauge::ALL {
        write_scalars(&mut page, gauge.metric(), shards, |shard| shard.gauge(gauge));
    }
    for timing in Timing::ALL {
        write_head(&mut page, timing.metric());
        for series in series_of(timing, shards).iter().filter(|series| !series.values.is_empty()) {
            match timing.metric().kind {
                Kind::Summary => write_summary(&mut page, series),
                _ => write_histogram(&mut page, series),
            }
        }
    }
    page
}

fn write_line(page: &mut String, arguments: std::fmt::Arguments<'_>) {
    page.write_fmt(arguments).expect("writing to a String cannot fail");
    page.push('\n');
}

/// The two comment lines before a metric's values.
fn write_head(page: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Summary => "summary",
    };
    write_line(page, format_args!("# HELP {} {}", metric.name, metric.help));
    write_line(page, format_args!("# TYPE {} {kind}", metric.name));
}

fn write_scalars(
    page: &mut String,
    metric: &Metric,
    shards: &[Arc<ShardMetrics>],
    value: impl Fn(&ShardMetrics) -> u64,
) {
    write_head(page, metric);
    for shard in shards {
        write_line(page, format_args!("{}{{shard=\"{}\"}} {}", metric.name, shard.shard(), value(shard)));
    }
}

/// The name, the labels, and what a value is divided by.
fn head_of(series: &Series) -> (&'static str, String, f64) {
    let labels: Vec<String> =
        series.labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    (series.timing.metric().name, labels.join(","), if series.timing.is_time() { 1e9 } else { 1.0 })
}

fn write_histogram(page: &mut String, series: &Series) {
    let (name, labels, unit) = head_of(series);

    for bound in BUCKET_BOUNDS {
        // `le` is inclusive, and a bucket of ours is as wide as 1.6 % of its values: the edge does not matter for times.
        let bound = if series.timing.is_time() { bound * 1000 } else { bound };
        let below = series.values.below(bound + u64::from(!series.timing.is_time()));
        write_line(page, format_args!("{name}_bucket{{{labels},le=\"{}\"}} {below}", bound as f64 / unit));
    }
    let (count, sum) = (series.values.count(), series.values.sum() as f64 / unit);
    write_line(page, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
    write_line(page, format_args!("{name}_sum{{{labels}}} {sum}"));
    write_line(page, format_args!("{name}_count{{{labels}}} {count}"));
}

fn write_summary(page: &mut String, series: &Series) {
    let (name, labels, unit) = head_of(series);
    for quantile in QUANTILES.into_iter().chain([1.0]) {
        let value = series.values.quantile(quantile) as f64 / unit;
        write_line(page, format_args!("{name}{{{labels},quantile=\"{quantile}\"}} {value}"));
    }
    let (count, sum) = (series.values.count(), series.values.sum() as f64 / unit);
    write_line(page, format_args!("{name}_sum{{{labels}}} {sum}"));
    write_line(page, format_args!("{name}_count{{{labels}}} {count}"));
}

/// The counts of the busiest partitions, for the end of the metrics page.
pub fn write_partitions(page: &mut String, partitions: &[BusyPartition]) {
    let values: [fn(&Traffic) -> u64; 3] = [|t| t.in_bytes, |t| t.records, |t| t.out_bytes];
    for (metric, value) in PARTITION_METRICS.iter().zip(values) {
        write_head(page, metric);
        for BusyPartition { topic, partition, total, .. } in partitions {
            let (name, value) = (metric.name, value(total));
            // A topic's name needs no escape: letters, digits, '.', '_' and '-'.
            write_line(page, format_args!("{name}{{topic=\"{topic}\",partition=\"{partition}\"}} {value}"));
        }
    }
}

/// What the process says of itself: its version, its age, whether it serves.
pub fn write_process(page: &mut String, version: &str, uptime_seconds: f64, is_ready: bool) {
    let [info, uptime, ready] = &PROCESS_METRICS;
    write_head(page, info);
    write_line(page, format_args!("{}{{version=\"{version}\"}} 1", info.name));
    write_head(page, uptime);
    write_line(page, format_args!("{} {uptime_seconds}", uptime.name));
    write_head(page, ready);
    write_line(page, format_args!("{} {}", ready.name, u8::from(is_ready)));
}

/// Every metric, as a Markdown table.
pub fn metric_table() -> String {
    let mut table = String::from("| metric | labels | unit | what it says |\n|---|---|---|---|\n");
    for metric in super::metrics() {
        let labels = metric.labels.join(", ");
        write_line(
            &mut table,
            format_args!("| `{}` | {labels} | {} | {} |", metric.name, metric.unit(), metric.help),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Durability;
    use crate::metrics::{Meter, Path, Stage, StageClock, Timed};
    use crate::model::{Monotonic, ShardId};

    fn timed(class: Class, laps: &[(Stage, u64)]) -> Timed {
        let mut clock = StageClock::start(Monotonic(1_000_000));
        for (stage, microseconds) in laps {
            clock.lap(*stage, Monotonic(1_000_000 + microseconds * 1000));
        }
        Timed { api_key: 0, api_version: 9, correlation_id: 1, class: Some(class), clock, partition: None }
    }

    #[test]
    fn page_has_every_metric_and_merges_shards_where_it_says_so() {
        let meters: Vec<Meter> = (0..2).map(|shard| Meter::new(ShardId(shard), &[(0, "Produce")])).collect();
        meters[0].add(Counter::Requests, 5);
        meters[0].request(0, Duration::from_micros(3));
        meters[1].request(0, Duration::from_millis(40));
        meters[1].phase(Phase::Commit, Duration::from_micros(700));
        meters[1].mailbox(4);
        let journal = meters[1].journal();
        journal.waited(JournalWait::Memory, Duration::from_millis(2));
        journal.committed(Duration::from_micros(90), 8192, 3);
        let shards: Vec<_> = meters.iter().map(Meter::metrics).collect();
        let mut page = prometheus(&shards);
        let total = Traffic { requests: 9, records: 20, in_bytes: 300, out_bytes: 4000 };
        let busy = BusyPartition { topic: "t".into(), partition: 7, moved: Traffic::default(), total };
        write_partitions(&mut page, &[busy]);
        write_process(&mut page, "1.2.3", 4.5, true);
        for metric in super::super::metrics() {
            assert!(page.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        }
        for line in [
            "corelog_requests_total{shard=\"0\"} 5",
            "corelog_requests_total{shard=\"1\"} 0",
            "corelog_request_seconds_bucket{api=\"Produce\",le=\"0.000002\"} 0",
            "corelog_request_seconds_bucket{api=\"Produce\",le=\"0.000004\"} 1",
            "corelog_request_seconds_bucket{api=\"Produce\",le=\"+Inf\"} 2",
            "corelog_request_seconds_count{api=\"Produce\"} 2",
            "corelog_request_seconds_sum{api=\"Produce\"} 0.040003",
            "corelog_loop_phase_seconds_count{shard=\"1\",phase=\"commit\"} 1",
            "corelog_partition_fetched_bytes_total{topic=\"t\",partition=\"7\"} 4000",
            "corelog_mailbox_messages_bucket{shard=\"1\",le=\"2\"} 0",
            "corelog_mailbox_messages_bucket{shard=\"1\",le=\"4\"} 1",
            "corelog_journal_wait_seconds_count{shard=\"1\",cause=\"memory\"} 1",
            "corelog_journal_commit_seconds_sum{shard=\"1\"} 0.00009",
            "corelog_journal_group_bytes_bucket{shard=\"1\",le=\"4096\"} 0",
            "corelog_journal_group_bytes_bucket{shard=\"1\",le=\"8192\"} 1",
            "corelog_journal_group_entries_sum{shard=\"1\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("phase=\"reap\""), "series without a value are left out");
    }

    #[test]
    fn stages_are_told_by_class_and_windows_are_differences() {
        let meters: Vec<Meter> = (0..2).map(|shard| Meter::new(ShardId(shard), &[(0, "Produce")])).collect();
        let shards: Vec<_> = meters.iter().map(Meter::metrics).collect();
        let class = Class::Produce(Durability::Fsync, Path::Journal);
        meters[0].timed(&timed(class, &[(Stage::Written, 10), (Stage::Flushed, 40)]));
        let earlier = snapshot(&shards);
        meters[1].timed(&timed(class, &[(Stage::Written, 10), (Stage::Flushed, 60)]));
        let later = snapshot(&shards);
        let page = prometheus(&shards);
        let labels = "durability=\"fsync\",path=\"journal\",stage=\"flushed\"";
        for line in [
            format!("corelog_produce_stage_seconds_sum{{{labels}}} 0.00008"),
            format!("corelog_produce_stage_seconds_count{{{labels}}} 2"),
            format!("corelog_produce_stage_seconds{{{labels},quantile=\"1\"}} 0.00005"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("path=\"page-cache\""), "{page}");
        let is_total = |series: &&Series| {
            series.timing == Timing::Produce
                && series.label("stage") == Some(TOTAL)
                && !series.values.is_empty()
        };
        let window = between(&earlier, &later);
        let total = window.iter().find(is_total).expect("the second request is in it");
        assert_eq!((total.values.count(), total.values.sum()), (1, 60_000));
        let all = later.iter().find(is_total).expect("both are in it");
        assert_eq!((all.values.count(), all.values.sum()), (2, 100_000));
    }

    #[test]
    fn a_broker_without_shards_has_an_empty_page() {
        assert!(prometheus(&[]).lines().all(|line| line.starts_with('#')));
        assert!(snapshot(&[]).iter().all(|series| series.values.is_empty()));
    }
}
