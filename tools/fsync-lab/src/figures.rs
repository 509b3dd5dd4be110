//! The runs of a cell taken together: medians, and how far apart the runs were.

use corelog_measure::spread::Spread;

use crate::meter::{Percentiles, Sample};
use crate::plan::Cell;

/// What a commit costs the disks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeviceCost {
    pub writes: f64,
    pub flushes: f64,
    pub kib: f64,
}

/// A cell's figures: medians over its runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    pub runs: usize,
    /// Over all runs.
    pub commits: u64,
    pub commits_per_second: Spread,
    pub megabytes_per_second: f64,
    /// Medians; `max` is the worst of all runs.
    pub latency_us: Percentiles,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub write_p50_us: Option<f64>,
    pub sync_p50_us: Option<f64>,
    pub device: Option<DeviceCost>,
    pub cpu_us: f64,
    pub offered: Option<f64>,
    pub ended_early: bool,
    pub is_saturated: bool,
}

impl Figures {
    /// None: no run saw a commit.
    pub fn of(cell: Cell, samples: &[Sample]) -> Option<Figures> {
        let seen: Vec<Sample> =
            samples.iter().copied().filter(|sample| sample.commits > 0 && sample.seconds > 0.0).collect();
        let spread = |figure: &dyn Fn(&Sample) -> f64| Spread::of(seen.iter().map(figure));
        let median = |figure: &dyn Fn(&Sample) -> f64| spread(figure).map(|spread| spread.median);
        let part = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            Spread::of(seen.iter().filter_map(figure)).map(|spread| spread.median)
        };
        let per_commit = |figure: &dyn Fn(crate::device::Counters) -> f64| {
            part(&|sample| sample.device.map(|device| figure(device) / sample.commits as f64))
        };
        let rate = |sample: &Sample| sample.commits as f64 / sample.seconds;
        let commits_per_second = spread(&rate)?;
        let device = match (
            per_commit(&|device| device.writes as f64),
            per_commit(&|device| device.flushes as f64),
            per_commit(&|device| device.kib()),
        ) {
            (Some(writes), Some(flushes), Some(kib)) => Some(DeviceCost { writes, flushes, kib }),
            _ => None,
        };
        Some(Figures {
            runs: seen.len(),
            commits: seen.iter().map(|sample| sample.commits).sum(),
            commits_per_second,
            megabytes_per_second: commits_per_second.median * cell.group_bytes as f64 / 1e6,
            latency_us: Percentiles {
                p50: median(&|sample| sample.latency_us.p50)?,
                p90: median(&|sample| sample.latency_us.p90)?,
                p99: median(&|sample| sample.latency_us.p99)?,
                p999: median(&|sample| sample.latency_us.p999)?,
                max: spread(&|sample| sample.latency_us.max)?.high,
            },
            p50_us: spread(&|sample| sample.latency_us.p50)?,
            p99_us: spread(&|sample| sample.latency_us.p99)?,
            write_p50_us: part(&|sample| sample.write_p50_us),
            sync_p50_us: part(&|sample| sample.sync_p50_us),
            device,
            cpu_us: median(&|sample| sample.cpu_ns as f64 / 1e3 / sample.commits as f64)?,
            offered: part(&|sample| sample.offered),
            ended_early: seen.iter().any(|sample| sample.ended_early),
            is_saturated: seen.iter().any(|sample| sample.is_saturated),
        })
    }
}

/// A cell with its figures, or why it has none.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    pub cell: Cell,
    pub outcome: Result<Figures, String>,
}

/// All cells of a run, in the plan's order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Results {
    pub cells: Vec<Measured>,
}

impl Results {
    pub fn figures(&self, cell: Cell) -> Option<&Figures> {
        let found = self.cells.iter().find(|measured| measured.cell == cell)?;
        found.outcome.as_ref().ok()
    }

    /// What was not measured, by reason, with how many cells it took.
    pub fn skipped(&self) -> Vec<(String, Vec<Cell>)> {
        let mut by_reason = std::collections::BTreeMap::<String, Vec<Cell>>::new();
        for measured in &self.cells {
            if let Err(reason) = &measured.outcome {
                by_reason.entry(reason.clone()).or_default().push(measured.cell);
            }
        }
        by_reason.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Counters;
    use crate::plan::DIRECT;

    #[test]
    fn costs_are_per_commit_and_empty_runs_do_not_count() {
        let run = |commits: u64, p50: f64| Sample {
            commits,
            seconds: 0.5,
            latency_us: Percentiles { p50, max: p50 * 10.0, ..Percentiles::default() },
            device: Some(Counters { writes: 2 * commits, write_sectors: 8 * commits, flushes: commits }),
            cpu_ns: 3_000 * commits,
            ..Sample::default()
        };
        let cell = Cell::closed(DIRECT, 1, 4096, 1);
        let figures = Figures::of(cell, &[run(100, 7.0), run(0, 0.0), run(300, 5.0), run(200, 6.0)]).unwrap();
        assert_eq!(figures.runs, 3);
        assert_eq!(figures.commits, 600);
        assert_eq!(figures.commits_per_second.median, 400.0);
        assert_eq!(figures.megabytes_per_second, 400.0 * 4096.0 / 1e6);
        assert_eq!((figures.latency_us.p50, figures.latency_us.max), (6.0, 70.0));
        assert_eq!(figures.device, Some(DeviceCost { writes: 2.0, flushes: 1.0, kib: 4.0 }));
        assert_eq!(figures.cpu_us, 3.0);
        assert_eq!(Figures::of(cell, &[run(0, 0.0)]), None);
    }

    #[test]
    fn what_was_skipped_is_grouped_by_reason() {
        let cell = |depth| Cell::closed(DIRECT, 1, 4096, depth);
        let skipped = |depth| Measured { cell: cell(depth), outcome: Err("no".to_owned()) };
        let results = Results { cells: vec![skipped(1), skipped(4)] };
        assert_eq!(results.skipped(), [("no".to_owned(), vec![cell(1), cell(4)])]);
        assert_eq!(results.figures(cell(1)), None);
    }
}
