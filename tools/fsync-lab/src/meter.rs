//! What one run of one cell shows: commits, their latencies, and what they cost the disk and the CPU.

use hdrhistogram::Histogram;

use crate::clock::{now_ns, process_cpu_ns};
use crate::device::{Counters, Devices};

/// A minute; what takes longer counts as that.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

pub fn histogram() -> Histogram<u64> {
    // Three digits: the error is below that of any repetition.
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants that fit")
}

/// When a run records.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start_ns: u64,
    pub end_ns: u64,
}

impl Window {
    /// From now on, the first tenth not recorded: it pays for cold caches and the previous cell's writeback.
    pub fn from_now(run_ns: u64) -> Window {
        let now = now_ns();
        Window { start_ns: now + run_ns / 10, end_ns: now + run_ns }
    }
}

/// Takes the counters of disk and CPU at both ends of the window.
pub struct Costs<'a> {
    devices: Option<&'a Devices>,
    start: Option<(u64, u64, Option<Counters>)>,
}

impl<'a> Costs<'a> {
    pub fn new(devices: Option<&'a Devices>) -> Costs<'a> {
        Costs { devices, start: None }
    }

    fn read(&self) -> (u64, u64, Option<Counters>) {
        let counters = self.devices.and_then(|devices| devices.counters().ok());
        (now_ns(), process_cpu_ns(), counters)
    }

    pub fn has_started(&self) -> bool {
        self.start.is_some()
    }

    pub fn start(&mut self) {
        self.start = Some(self.read());
    }

    /// Seconds, CPU nanoseconds and device counters since the start.
    pub fn end(&self) -> (f64, u64, Option<Counters>) {
        let (now, cpu, counters) = self.read();
        let Some((then, cpu_then, counters_then)) = self.start else { return (0.0, 0, None) };
        let delta = counters.zip(counters_then).map(|(now, then)| now.since(then));
        ((now - then) as f64 / 1e9, cpu - cpu_then, delta)
    }
}

/// What was seen of the commits.
pub struct Latencies {
    pub whole: Histogram<u64>,
    /// Where write and sync are told apart: the write, then the sync.
    pub parts: Option<(Histogram<u64>, Histogram<u64>)>,
}

impl Latencies {
    pub fn new(has_parts: bool) -> Latencies {
        Latencies { whole: histogram(), parts: has_parts.then(|| (histogram(), histogram())) }
    }

    pub fn record(&mut self, whole_ns: u64) {
        self.whole.saturating_record(whole_ns.max(1));
    }

    pub fn record_parts(&mut self, write_ns: u64, sync_ns: u64) {
        self.record(write_ns + sync_ns);
        if let Some((write, sync)) = &mut self.parts {
            write.saturating_record(write_ns.max(1));
            sync.saturating_record(sync_ns.max(1));
        }
    }

    pub fn add(&mut self, other: &Latencies) {
        let same_bounds = "all histograms have the same bounds";
        self.whole.add(&other.whole).expect(same_bounds);
        if let (Some((write, sync)), Some((other_write, other_sync))) = (&mut self.parts, &other.parts) {
            write.add(other_write).expect(same_bounds);
            sync.add(other_sync).expect(same_bounds);
        }
    }
}

/// The latencies of one run, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Percentiles {
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// One run of one cell.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sample {
    pub commits: u64,
    pub seconds: f64,
    pub latency_us: Percentiles,
    pub write_p50_us: Option<f64>,
    pub sync_p50_us: Option<f64>,
    pub device: Option<Counters>,
    pub cpu_ns: u64,
    /// Open loop: arrivals a second that were asked for.
    pub offered: Option<f64>,
    /// The space of files that grow was used up before the time was.
    pub ended_early: bool,
    /// Open loop: commits were still waiting long after the end.
    pub is_saturated: bool,
}

impl Sample {
    pub fn of(latencies: &Latencies, costs: (f64, u64, Option<Counters>)) -> Sample {
        let (seconds, cpu_ns, device) = costs;
        let p50 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64 / 1e3;
        Sample {
            commits: latencies.whole.len(),
            seconds,
            latency_us: Percentiles::of(&latencies.whole),
            write_p50_us: latencies.parts.as_ref().map(|(write, _)| p50(write)),
            sync_p50_us: latencies.parts.as_ref().map(|(_, sync)| p50(sync)),
            device,
            cpu_ns,
            ..Sample::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut latencies = Latencies::new(true);
        for us in 1..=1000 {
            latencies.record_parts(us * 400, us * 600);
        }
        let check = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} for {expected}");
        };
        let found = Percentiles::of(&latencies.whole);
        check(found.p50, 500.0);
        check(found.p90, 900.0);
        check(found.p99, 990.0);
        check(found.p999, 999.0);
        check(found.max, 1000.0);
        let sample = Sample::of(&latencies, (2.0, 5, None));
        assert_eq!(sample.commits, 1000);
        check(sample.write_p50_us.unwrap(), 200.0);
        check(sample.sync_p50_us.unwrap(), 300.0);
    }

    #[test]
    fn what_takes_too_long_is_counted_all_the_same() {
        let mut latencies = Latencies::new(false);
        latencies.record(u64::MAX);
        latencies.record(0);
        assert_eq!(latencies.whole.len(), 2);
        assert!(Percentiles::of(&latencies.whole).max >= 59e6);
        let mut sum = Latencies::new(false);
        sum.add(&latencies);
        sum.add(&latencies);
        assert_eq!(sum.whole.len(), 4);
    }
}
