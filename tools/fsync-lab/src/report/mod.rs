//! What the operator gets: a table, JSON, a page.

pub mod html;
pub mod json;
pub mod table;

use serde_json::json;

use crate::crowd::Crowd;
use crate::figures::Results;
use crate::fio::Comparison;
use crate::flush::{FlushTime, Verdict};
use crate::host::Host;
use crate::plan::Plan;
use crate::recommend::Recommendation;

/// All that a run found.
pub struct Report {
    pub host: Host,
    pub plan: Plan,
    pub results: Results,
    pub flush_times: Vec<FlushTime>,
    pub verdict: Verdict,
    pub recommendation: Option<Recommendation>,
    /// Empty: it was not asked.
    pub fio: Vec<Comparison>,
    pub crowd: Option<Crowd>,
    /// From the start to the end of measuring.
    pub seconds: f64,
}

impl Report {
    /// A warning if the host was busy with other things.
    pub fn crowd_text(&self) -> Option<String> {
        self.crowd.and_then(Crowd::warning)
    }
}

/// One line of JSON about the only cell. Errors: why it was skipped.
pub fn raw_floor_text(results: &Results) -> Result<String, String> {
    let measured = results.cells.first().ok_or_else(|| "nothing was measured".to_owned())?;
    let figures = measured.outcome.as_ref().map_err(String::clone)?;
    let line = json!({
        "strategy": measured.cell.strategy.to_string(),
        "files": measured.cell.files,
        "depth": measured.cell.depth,
        "group_bytes": measured.cell.group_bytes,
        "repetitions": figures.runs,
        "p50_us": figures.latency_us.p50,
        "p50_us_low": figures.p50_us.low,
        "p50_us_high": figures.p50_us.high,
        "p99_us": figures.latency_us.p99,
        "commits_per_second": figures.commits_per_second.median,
    });
    Ok(format!("{line}\n"))
}

#[cfg(test)]
pub mod sample {
    //! A report of figures that follow a formula, for the tests of this room.

    use super::*;
    use crate::device::{DeviceNumber, Untraceable};
    use crate::figures::{DeviceCost, Figures, Measured};
    use crate::meter::Percentiles;
    use crate::plan::{Cell, Load};
    use crate::strategy::{Cache, Strategy};
    use corelog_measure::spread::Spread;

    pub fn figures(cell: Cell) -> Figures {
        let spread = |median: f64| Spread { median, low: median * 0.9, high: median * 1.2 };
        let p50 = 40.0 + cell.group_bytes as f64 / 1e3;
        let rate = 1e6 / p50 * f64::from(cell.depth).sqrt();
        Figures {
            runs: 3,
            commits: 1_000,
            commits_per_second: spread(rate),
            megabytes_per_second: rate * cell.group_bytes as f64 / 1e6,
            latency_us: Percentiles { p50, p90: p50 * 2.0, p99: p50 * 4.0, p999: p50 * 8.0, max: p50 * 9.0 },
            p50_us: spread(p50),
            p99_us: spread(p50 * 4.0),
            write_p50_us: None,
            sync_p50_us: None,
            device: Some(DeviceCost { writes: 2.0, flushes: 1.0, kib: 4.0 }),
            cpu_us: 12.0,
            offered: (cell.load != Load::Closed).then_some(rate / 2.0),
            ended_early: false,
            is_saturated: false,
        }
    }

    /// The quick set; with `is_direct` false, on a file system that refuses O_DIRECT.
    pub fn report(is_direct: bool) -> Report {
        let plan = Plan::quick();
        let is_refused = |cell: &Cell| {
            let wants = !matches!(cell.strategy, Strategy::PerFile { cache: Cache::PageCache, .. });
            wants && !is_direct
        };
        let outcome = |cell: &Cell| {
            if is_refused(cell) { Err("no <O_DIRECT> & no journal".to_owned()) } else { Ok(figures(*cell)) }
        };
        let cells = plan.cells.iter().map(|cell| Measured { cell: *cell, outcome: outcome(cell) }).collect();
        let results = Results { cells };
        let number = DeviceNumber { major: 0, minor: 42 };
        Report {
            host: Host {
                kernel: "6.1".to_owned(),
                cpus: 2,
                cpu_model: "<b>CPU</b>".to_owned(),
                path: "/data & more".into(),
                file_system: "ext4".to_owned(),
                mount_point: "/".to_owned(),
                mount_options: "rw".to_owned(),
                devices: Err(Untraceable::NoBlockDevice { number }),
                queues: Vec::new(),
                when: 0,
            },
            recommendation: crate::recommend::recommend(&results, Verdict::Real),
            plan,
            results,
            flush_times: vec![FlushTime {
                overwritten_bytes: 1 << 20,
                flush_us: Spread { median: 5_000.0, low: 4_000.0, high: 6_000.0 },
            }],
            verdict: Verdict::Real,
            fio: Vec::new(),
            crowd: Some(Crowd { cpus: 2, others: 1.5, stolen: 0.0 }),
            seconds: 50.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Measured;
    use crate::plan::{Cell, DIRECT};

    #[test]
    fn the_floor_is_one_line_or_the_reason_why_there_is_none() {
        let cell = Cell::closed(DIRECT, 1, 4096, 1);
        let of = |outcome| Results { cells: vec![Measured { cell, outcome }] };
        let line = raw_floor_text(&of(Ok(sample::figures(cell)))).unwrap();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["p50_us"], 44.096);
        assert_eq!(value["strategy"], "direct/zeroed/linked");
        assert_eq!(raw_floor_text(&of(Err("no".to_owned()))), Err("no".to_owned()));
    }
}
