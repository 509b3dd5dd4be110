//! Works through a plan: lays out files, runs every cell in every repetition within the time, and gathers the figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Bench;
use crate::figures::{Figures, Measured, Results};
use crate::files::CellError;
use crate::meter::Sample;
use crate::plan::{self, Cell, Load, Plan};

/// The run cannot go on.
#[derive(Debug)]
pub enum LabError {
    Interrupted,
    /// No space, or a disk that fails.
    Broken {
        cell: Cell,
        error: CellError,
    },
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabError::Interrupted => f.write_str("interrupted; everything is cleaned up"),
            LabError::Broken { cell, error } => write!(f, "{cell}: {error}"),
        }
    }
}

impl std::error::Error for LabError {}

/// Cells so far, and what is left of the time.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    total: Duration,
}

impl Progress {
    /// Draws on standard error if that is a terminal.
    fn new(plan: &Plan) -> Progress {
        let bar = ProgressBar::new(plan.runs() as u64);
        let style = ProgressStyle::with_template("{bar:32.cyan/blue} {pos:>4}/{len}  {msg}");
        bar.set_style(style.expect("the template is a constant").progress_chars("━╸─"));
        Progress { bar, started: Instant::now(), total: plan.total }
    }

    fn left(&self) -> Duration {
        self.total.saturating_sub(self.started.elapsed())
    }

    fn show(&self, doing: &str) {
        let left = self.left().as_secs();
        self.bar.set_message(format!("{}:{:02} left  {doing}", left / 60, left % 60));
        self.bar.tick();
    }

    /// The plan's time and a tenth more: nothing is started after that.
    fn is_over(&self) -> bool {
        self.started.elapsed() > self.total + self.total / 10
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What became of the cells so far.
#[derive(Default)]
struct Book {
    samples: BTreeMap<Cell, Vec<Sample>>,
    refused: BTreeMap<Cell, String>,
    /// Of open-loop cells: set once, so that all repetitions are asked the same.
    rates: BTreeMap<Cell, f64>,
}

/// Runs the plan. `run_time`: a fixed length of each run; otherwise the runs share the plan's time.
pub fn measure(plan: &Plan, run_time: Option<Duration>, bench: &mut Bench<'_>) -> Result<Results, LabError> {
    let progress = Progress::new(plan);
    lay_out(plan, bench, &progress)?;
    let mut book = Book::default();
    let mut runs_left = plan.runs();
    // A guess until the first runs have told.
    let mut overhead = Duration::from_millis(15);
    for cell in plan::runs(plan) {
        let time = run_time.unwrap_or_else(|| plan::run_time(progress.left(), runs_left, overhead));
        runs_left -= 1;
        progress.bar.inc(1);
        if book.refused.contains_key(&cell) {
            continue;
        }
        if run_time.is_none() && progress.is_over() {
            if !book.samples.contains_key(&cell) {
                book.refused.insert(cell, "the time was used up: this disk is slow".to_owned());
            }
            continue;
        }
        progress.show(&cell.to_string());
        let before = Instant::now();
        book.run(cell, time, bench)?;
        let beside = before.elapsed().saturating_sub(time);
        overhead = overhead.mul_f64(0.9) + beside.mul_f64(0.1);
    }
    Ok(book.results(plan))
}

/// Pre-zeroed files first: their writing belongs to no cell. What cannot be laid out is told by the cells that want it.
fn lay_out(plan: &Plan, bench: &mut Bench<'_>, progress: &Progress) -> Result<(), LabError> {
    progress.show("laying out files");
    let mut done = std::collections::BTreeSet::new();
    for &cell in &plan.cells {
        let Some(set) = plan::zeroed_set(cell) else { continue };
        if !done.insert(set) {
            continue;
        }
        match bench.stock.open(cell) {
            Ok(_) => {}
            Err(CellError::Interrupted) => return Err(LabError::Interrupted),
            Err(error) if is_final(&error) => return Err(LabError::Broken { cell, error }),
            Err(_) => {}
        }
    }
    Ok(())
}

/// A disk that is full or fails has no figures worth having.
fn is_final(error: &CellError) -> bool {
    match error {
        CellError::ShortWrite { .. } => true,
        CellError::Failed { source, .. } => {
            matches!(source.raw_os_error(), Some(libc::EIO | libc::ENOSPC | libc::EDQUOT | libc::EROFS))
        }
        CellError::Unsupported { .. } | CellError::Interrupted => false,
    }
}

impl Book {
    fn run(&mut self, cell: Cell, time: Duration, bench: &mut Bench<'_>) -> Result<(), LabError> {
        let rate = match cell.load {
            Load::Closed => None,
            Load::Open { percent } => match self.rate(cell, percent) {
                Some(rate) => Some(rate),
                None => {
                    self.refused.insert(cell, "the closed loop that sets its rate was skipped".to_owned());
                    return Ok(());
                }
            },
        };
        match bench.run(cell, time, rate) {
            Ok(sample) => self.samples.entry(cell).or_default().push(sample),
            Err(CellError::Interrupted) => return Err(LabError::Interrupted),
            Err(error) if is_final(&error) => return Err(LabError::Broken { cell, error }),
            Err(error) => {
                self.refused.insert(cell, error.to_string());
            }
        }
        Ok(())
    }

    fn rate(&mut self, cell: Cell, percent: u32) -> Option<f64> {
        if let Some(rate) = self.rates.get(&cell) {
            return Some(*rate);
        }
        let reference = Figures::of(cell.reference(), self.samples.get(&cell.reference())?)?;
        let rate = reference.commits_per_second.median * f64::from(percent) / 100.0;
        self.rates.insert(cell, rate);
        Some(rate)
    }

    fn results(mut self, plan: &Plan) -> Results {
        let measured = |&cell: &Cell| {
            let outcome = match self.refused.remove(&cell) {
                Some(reason) => Err(reason),
                None => Figures::of(cell, self.samples.get(&cell).map_or(&[], Vec::as_slice))
                    .ok_or_else(|| "its space was used up before a commit was counted".to_owned()),
            };
            Measured { cell, outcome }
        };
        Results { cells: plan.cells.iter().map(measured).collect() }
    }
}
