//! Question: what does a durable commit cost on this host's file system, by strategy, and which should the broker use?
//!
//! Workload: cells of {page cache, O_DIRECT} x {extending, fallocated, pre-zeroed} x {ways to sync} and a shared journal, over
//! files, group sizes and depths, in a closed loop and under rates set by the clock; interleaved repetitions, medians.
//! It cannot show: whether a flush reaches the medium (`recommend::UNKNOWABLE`).
//!
//! It shares no code with the broker: an instrument must not have the errors of what it measures.

#![allow(clippy::disallowed_methods, reason = "an instrument has its own clock and threads")]

mod arguments;
mod directory;
mod engine;
mod figures;
mod files;
mod fio;
mod flush;
mod lab;
mod memory;
mod meter;
mod plan;
mod recommend;
mod report;
mod ring;
mod strategy;

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use corelog_measure::output::{OutputError, check_target, print, write_whole};
use corelog_measure::{clock, crowd, device, host, pin, signals, text};

use arguments::Arguments;
use directory::{Directory, DirectoryError};
use engine::Bench;
use files::Stock;
use fio::FioError;
use flush::Verdict;
use host::Host;
use lab::LabError;
use report::Report;

/// Why there is no result.
#[derive(Debug)]
enum RunError {
    Directory(DirectoryError),
    Signals(nix::errno::Errno),
    Stock(io::Error),
    Lab(LabError),
    Fio(FioError),
    /// `--raw-floor` where the strategy is not to be had.
    NoFloor {
        reason: String,
    },
    NoRecommendation,
    Output(OutputError),
    /// The working directory could not be taken down.
    Remove {
        path: PathBuf,
        source: io::Error,
    },
    Pin {
        cpu: usize,
        source: nix::errno::Errno,
    },
    /// What is at the path that the settings are to be written to.
    Applied {
        path: PathBuf,
        source: io::Error,
    },
    /// The operator's own settings are not overwritten.
    NotOurs {
        path: PathBuf,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Directory(error) => error.fmt(f),
            RunError::Signals(error) => write!(f, "handle signals: {error}"),
            RunError::Stock(error) => write!(f, "open the working directory: {error}"),
            RunError::Lab(error) => error.fmt(f),
            RunError::Fio(error) => error.fmt(f),
            RunError::NoFloor { reason } => write!(f, "no floor to measure: {reason}"),
            RunError::NoRecommendation => {
                f.write_str("too little could be measured here to recommend anything; nothing was applied")
            }
            RunError::Output(error) => error.fmt(f),
            RunError::Remove { path, source } => {
                write!(
                    f,
                    "remove the working directory under {}: {source}; remove it by hand",
                    path.display()
                )
            }
            RunError::Applied { path, source } => {
                write!(f, "read what is at {}: {source}; give another FILE", path.display())
            }
            RunError::Pin { cpu, source } => {
                write!(f, "run on CPU {cpu}: {source}; give one that is allowed")
            }
            RunError::NotOurs { path } => write!(
                f,
                "{} is there and was not written by this tool; give another FILE and copy its lines",
                path.display()
            ),
        }
    }
}

impl From<OutputError> for RunError {
    fn from(error: OutputError) -> RunError {
        RunError::Output(error)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Output(error)) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelog-fsync-lab: {error}");
            // As a shell tells of a program that a signal ended.
            match signals::received() {
                Some(signal) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), RunError> {
    check_outputs(arguments)?;
    signals::install().map_err(RunError::Signals)?;
    // Arrivals by the clock come some 10 µs apart; the kernel may round a sleep up by 50 µs unless told otherwise. Where it
    // cannot be told, latencies only look worse than they are.
    let _ = nix::sys::prctl::set_timerslack(1);
    if let Some(cpu) = arguments.cpu {
        pin::to_cpu(cpu).map_err(|source| RunError::Pin { cpu, source })?;
    }
    let started = Instant::now();
    let plan = arguments.plan();
    let directory = Directory::create(&arguments.path, plan.space_bytes()).map_err(RunError::Directory)?;
    for left in directory.left_behind() {
        eprintln!("note: {} was left by a run that was killed; it can be removed", left.display());
    }
    let host = Host::of(&arguments.path);
    if !arguments.raw_floor {
        announce(&plan, &host);
    }
    let mut stock = Stock::new(directory.path(), plan.set_bytes).map_err(RunError::Stock)?;
    let noise = engine::noise();
    let devices = host.devices.as_ref().ok();
    let mut bench = Bench { stock: &mut stock, devices, noise: noise.clone() };
    let before = crowd::Reading::now();
    let results = lab::measure(&plan, arguments.run_time(), &mut bench).map_err(RunError::Lab)?;
    if arguments.raw_floor {
        let text = report::raw_floor_text(&results).map_err(|reason| RunError::NoFloor { reason })?;
        return Ok(print(&text)?);
    }
    let compared = if arguments.fio { fio::compare(&mut bench, FIO_TIME) } else { Ok(Vec::new()) };
    let fio = compared.map_err(|error| match error {
        FioError::Cell(files::CellError::Interrupted) => RunError::Lab(LabError::Interrupted),
        error => RunError::Fio(error),
    })?;
    let flush_times = match flush::measure(&mut stock, &noise) {
        Err(files::CellError::Interrupted) => return Err(RunError::Lab(LabError::Interrupted)),
        // Without O_DIRECT there is nothing to time; the cells say why.
        Err(_) => Vec::new(),
        Ok(times) => times,
    };
    let verdict = match devices {
        Some(_) => flush::verdict(&flush_times, &host.queues),
        None if host.is_in_memory() => Verdict::Memory,
        None => Verdict::Unknown,
    };
    let crowd = before.zip(crowd::Reading::now()).map(|(before, now)| before.crowd_until(now));
    drop(stock);
    directory.remove().map_err(|source| RunError::Remove { path: arguments.path.clone(), source })?;
    let recommendation = recommend::recommend(&results, verdict);
    let seconds = started.elapsed().as_secs_f64();
    let report = Report { host, plan, results, flush_times, verdict, recommendation, fio, crowd, seconds };
    deliver(arguments, &report)
}

const FIO_TIME: Duration = Duration::from_millis(400);

/// What is about to happen, before it does.
fn announce(plan: &plan::Plan, host: &Host) {
    let total = plan.total.as_secs();
    eprintln!(
        "corelog fsync-lab, {} set: {} cells x {} repetitions in about {}:{:02} min, on {} MiB under {} ({}, {})",
        plan.name,
        plan.cells.len(),
        plan.repetitions,
        total / 60,
        total % 60,
        plan.space_bytes() >> 20,
        host.path.display(),
        host.file_system,
        host.disk_text(),
    );
}

/// A quarter of an hour must not end with a path that cannot be written to.
fn check_outputs(arguments: &Arguments) -> Result<(), RunError> {
    for path in [&arguments.json, &arguments.html, &arguments.apply].into_iter().flatten() {
        check_target(path)?;
    }
    match &arguments.apply {
        Some(path) if path.exists() => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| RunError::Applied { path: path.clone(), source })?;
            if text.starts_with(recommend::CONFIG_HEAD) {
                Ok(())
            } else {
                Err(RunError::NotOurs { path: path.clone() })
            }
        }
        _ => Ok(()),
    }
}

/// Writes what was asked for, and prints: whoever reads the table may go away in the middle of it.
fn deliver(arguments: &Arguments, report: &Report) -> Result<(), RunError> {
    if let Some(path) = &arguments.json {
        write_whole(path, &report::json::text(report))?;
    }
    if let Some(path) = &arguments.html {
        write_whole(path, &report::html::text(report))?;
    }
    let applied = arguments.apply.as_ref().map(|path| apply(path, report)).transpose();
    print(&report::table::text(report, io::stdout().is_terminal()))?;
    // A table without a recommendation is worth reading all the same.
    if let Some(said) = applied? {
        print(&said)?;
    }
    Ok(())
}

/// Writes the recommendation as settings, and says how to use them.
fn apply(path: &Path, report: &Report) -> Result<String, RunError> {
    let recommendation = report.recommendation.as_ref().ok_or(RunError::NoRecommendation)?;
    let text = recommend::config_text(recommendation, &report.host, report.crowd_text().as_deref());
    write_whole(path, &text)?;
    Ok(format!("wrote {}: corelog start --config {}\n", path.display(), path.display()))
}
