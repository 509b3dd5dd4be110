//! What was found, as values that JSON holds: one round, the rounds of a contender, a load with all its contenders.

use std::collections::BTreeMap;

use corelog_measure::spread::Spread;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Series};
use crate::latency::Stage;
use crate::server::Cost;
use crate::wire::Checked;
use crate::workload::{Mode, Workload};

/// Microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

impl Percentiles {
    pub fn of(latency: &Histogram<u64>) -> Percentiles {
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            count: latency.len(),
            mean_us: latency.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: latency.max() as f64 / 1e3,
        }
    }
}

/// One window of load on one contender.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    pub seconds: f64,
    /// Open loop: requests a second that were due.
    pub offered: Option<f64>,
    /// In the window; of the mode's own requests, as are the next four.
    pub answers: u64,
    pub records: u64,
    pub bytes: u64,
    pub per_second: f64,
    pub megabytes_per_second: f64,
    /// What the mode is about: requests, or records end to end.
    pub latency: Percentiles,
    /// Whatever else was timed, by name.
    pub beside: BTreeMap<String, Percentiles>,
    /// Open loop: how late the generator itself handed requests over.
    pub late_p99_us: Option<f64>,
    pub unanswered: u64,
    pub errors: Checked,
    /// What was read back meanwhile.
    pub checked: Checked,
    pub ended_early: bool,
    pub cost: Option<Cost>,
    /// One in so many is slower: x, and how slow, microseconds.
    pub curve: Vec<(f64, f64)>,
}

/// Points of a curve: 50 %, 75 %, 87.5 % and so on as far as there are values.
fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let points = (1..).map(|step| f64::powf(2.0, f64::from(step) / 2.0));
    let seen = points.take_while(|one_in| *one_in <= latency.len() as f64);
    seen.map(|one_in| (one_in, latency.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1e3)).collect()
}

impl Round {
    pub fn of(mode: Mode, outcome: engine::Outcome, cost: Option<Cost>) -> Round {
        let tally = outcome.tally;
        let all = [
            ("produce", &tally.produce),
            ("fetch", &tally.fetch),
            ("echo", &tally.echo),
            ("end-to-end", &tally.end_to_end),
        ];
        let own_name = match mode {
            Mode::Produce | Mode::Mixed => "produce",
            Mode::Fetch => "fetch",
            Mode::Echo => "echo",
            Mode::EndToEnd => "end-to-end",
        };
        let own: &Series =
            all.iter().find(|(name, _)| *name == own_name).expect("each mode has its series").1;
        let beside = all
            .iter()
            .filter(|(name, series)| *name != own_name && !series.latency.is_empty())
            .map(|(name, series)| ((*name).to_owned(), Percentiles::of(&series.latency)));
        Round {
            seconds: outcome.seconds,
            offered: outcome.offered,
            answers: own.answers,
            records: own.records,
            bytes: own.bytes,
            per_second: own.answers as f64 / outcome.seconds,
            megabytes_per_second: own.bytes as f64 / 1e6 / outcome.seconds,
            latency: Percentiles::of(&own.latency),
            beside: beside.collect(),
            late_p99_us: outcome.offered.map(|_| tally.late.value_at_quantile(0.99) as f64 / 1e3),
            unanswered: tally.unanswered,
            errors: tally.errors,
            checked: tally.checked,
            ended_early: outcome.ended_early,
            cost,
            curve: curve(&own.latency),
        }
    }
}

/// One broker under one load.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Contended {
    pub name: String,
    pub rounds: Vec<Round>,
    /// What was read back of the topic after the last round.
    pub read_back: Option<Checked>,
    /// The broker's own times by stage, of the last round.
    pub stages: Vec<Stage>,
    /// Why nothing was measured.
    pub failed: Option<String>,
}

/// A figure of a round, by its name.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub of: fn(&Round) -> Option<f64>,
}

pub const RATE: Figure = Figure { name: "requests/s", of: |round| Some(round.per_second) };
pub const P50: Figure = Figure { name: "p50", of: |round| Some(round.latency.p50_us) };
pub const P99: Figure = Figure { name: "p99", of: |round| Some(round.latency.p99_us) };
pub const P999: Figure = Figure { name: "p99.9", of: |round| Some(round.latency.p999_us) };
pub const CPU: Figure =
    Figure { name: "CPU/request", of: |round| round.cost.as_ref().map(|cost| cost.cpu_us_per_request) };
pub const FLUSHES: Figure = Figure {
    name: "flushes/request",
    of: |round| round.cost.as_ref().and_then(|cost| cost.flushes_per_request),
};
pub const KIB: Figure =
    Figure { name: "KiB/request", of: |round| round.cost.as_ref().and_then(|cost| cost.kib_per_request) };

pub const MEMORY: Figure =
    Figure { name: "resident MiB", of: |round| round.cost.as_ref().map(|cost| cost.resident_mib) };

impl Contended {
    /// Over the rounds.
    pub fn spread(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure.of))
    }

    pub fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        Spread::of(self.rounds.iter().map(figure)).map_or(0.0, |spread| spread.median)
    }

    /// Medians over the rounds; the largest of the largest.
    pub fn latency(&self) -> Percentiles {
        let median = |of: fn(&Percentiles) -> f64| self.median(|round| of(&round.latency));
        Percentiles {
            count: self.rounds.iter().map(|round| round.latency.count).sum(),
            mean_us: median(|p| p.mean_us),
            p50_us: median(|p| p.p50_us),
            p90_us: median(|p| p.p90_us),
            p99_us: median(|p| p.p99_us),
            p999_us: median(|p| p.p999_us),
            p9999_us: median(|p| p.p9999_us),
            max_us: self.rounds.iter().map(|round| round.latency.max_us).fold(0.0, f64::max),
        }
    }

    /// How much was wrong with answers and with what was read back, and the first of it.
    pub fn wrong(&self) -> Checked {
        let mut wrong = Checked::default();
        for round in &self.rounds {
            wrong.add(&round.errors);
            wrong.add(&round.checked);
            if round.unanswered > 0 {
                let (count, all) = (round.unanswered, round.answers + round.unanswered);
                wrong.wrong(format_args!("{count} of {all} requests had no answer 30 s after the window"));
            }
        }
        if let Some(read_back) = &self.read_back {
            wrong.add(read_back);
        }
        wrong
    }
}

/// A figure of the first contender over that of another, by round.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ratio {
    pub figure: String,
    pub of: String,
    pub to: String,
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// One load with all its contenders, asked in turns.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub title: String,
    pub workload: Workload,
    pub contenders: Vec<Contended>,
    pub ratios: Vec<Ratio>,
    /// A part of a ramp: which, counted over the run.
    pub ramp: Option<usize>,
}

impl Cell {
    pub fn new(title: String, workload: Workload, contenders: Vec<Contended>, ramp: Option<usize>) -> Cell {
        let ratios = ratios(&contenders);
        Cell { title, workload, contenders, ratios, ramp }
    }
}

/// Round by round: the host's mood then counts for both.
fn ratios(contenders: &[Contended]) -> Vec<Ratio> {
    let Some((first, others)) = contenders.split_first() else { return Vec::new() };
    let mut ratios = Vec::new();
    for other in others {
        for figure in [RATE, P50, P99, P999, CPU, FLUSHES] {
            let pairs = first.rounds.iter().zip(&other.rounds);
            let pairs = pairs.filter_map(|(a, b)| (figure.of)(a).zip((figure.of)(b)));
            // Other programs flush, too: a ratio of next to nothing says nothing.
            let pairs = pairs.filter(|(_, b)| figure.name != FLUSHES.name || *b >= 0.02);
            let values = pairs.map(|(a, b)| a / b).filter(|ratio| ratio.is_finite());
            if let Some(Spread { median, low, high }) = Spread::of(values) {
                let (of, to) = (first.name.clone(), other.name.clone());
                ratios.push(Ratio { figure: figure.name.to_owned(), of, to, median, low, high });
            }
        }
    }
    ratios
}

/// Where and how it was measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    pub version: String,
    pub when: String,
    pub kernel: String,
    pub cpus: usize,
    pub cpu_model: String,
    /// Where the broker that this tool started had its data.
    pub file_system: Option<String>,
    pub disk: Option<String>,
    pub generator_cpus: Vec<usize>,
    pub broker_cpus: Vec<usize>,
    pub spins: bool,
    /// This tool's own command line, and those of what it started.
    pub commands: Vec<String>,
    /// What to know before a figure is believed.
    pub notes: Vec<String>,
}

/// All of a run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub environment: Environment,
    pub cells: Vec<Cell>,
}

impl Results {
    /// Whether every broker answered rightly and gave back what it took.
    pub fn is_right(&self) -> bool {
        let all = self.cells.iter().flat_map(|cell| &cell.contenders);
        all.into_iter().all(|contended| contended.failed.is_none() && contended.wrong().wrong_count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contended(name: &str, rates: &[f64]) -> Contended {
        let round = |rate: &f64| Round { per_second: *rate, ..Round::default() };
        Contended { name: name.to_owned(), rounds: rates.iter().map(round).collect(), ..Contended::default() }
    }

    #[test]
    fn ratios_are_of_rounds_that_were_neighbours() {
        let found = ratios(&[contended("a", &[10.0, 40.0, 90.0]), contended("b", &[10.0, 20.0, 30.0])]);
        let rate = found.iter().find(|ratio| ratio.figure == "requests/s").unwrap();
        assert_eq!((rate.low, rate.median, rate.high), (1.0, 2.0, 3.0));
        assert_eq!((rate.of.as_str(), rate.to.as_str()), ("a", "b"));
        // A latency of nothing has no ratio.
        assert_eq!(found.len(), 1);
        assert_eq!(ratios(&[contended("a", &[1.0])]), []);
    }

    #[test]
    fn percentiles_and_curve_are_those_of_the_values() {
        let mut latency = engine::histogram();
        for us in 1..=10_000_u64 {
            latency.record(us * 1000).unwrap();
        }
        let found = Percentiles::of(&latency);
        for (found, expected) in [
            (found.p50_us, 5_000.0),
            (found.p90_us, 9_000.0),
            (found.p99_us, 9_900.0),
            (found.p999_us, 9_990.0),
            (found.p9999_us, 9_999.0),
            (found.max_us, 10_000.0),
            (found.mean_us, 5_000.5),
        ] {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} for {expected}");
        }
        let curve = curve(&latency);
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!(curve.last().unwrap().0 > 8_000.0 && curve.last().unwrap().0 <= 10_000.0);
    }
}
