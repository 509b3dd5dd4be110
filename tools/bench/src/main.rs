//! Question: what do produce, fetch, end-to-end and plain requests cost on a Kafka broker of this host, in time and in work?
//!
//! Workload: see [`workload`]; from pinned cores, in a closed loop or at rates set by the clock, against one broker or several in
//! turns. It cannot show: what a network between hosts adds, and what clients that batch by time of their own add.
//!
//! Of the broker's code it has the message definitions and the batch format alone: an instrument must not have the errors of
//! what it measures.

#![allow(clippy::disallowed_methods, reason = "a load generator has its own clock and threads")]

mod arguments;
mod bench;
mod broker;
mod contender;
mod cpus;
mod engine;
mod idle;
mod latency;
mod null;
mod outcome;
mod presets;
mod ramp;
mod report;
mod server;
mod sweep;
mod topic;
mod wire;
mod workload;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corelog_measure::output::{OutputError, check_target, print, write_whole};
use corelog_measure::signals;

use arguments::{Arguments, Command};
use bench::BenchError;
use outcome::Results;

#[derive(Debug)]
enum RunError {
    Bench(BenchError),
    Null(io::Error),
    Earlier { path: PathBuf, source: io::Error },
    Output(OutputError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Bench(error) => error.fmt(f),
            RunError::Null(error) => write!(f, "null responder: {error}"),
            RunError::Earlier { path, source } => write!(f, "read {}: {source}", path.display()),
            RunError::Output(error) => error.fmt(f),
        }
    }
}

impl From<OutputError> for RunError {
    fn from(error: OutputError) -> RunError {
        RunError::Output(error)
    }
}

/// A broker answered wrongly, or did not give back what it took.
const WRONG: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Null { listen }) => {
            let ready = |address| println!("ready: null {address}");
            null::serve(*listen, ready).map(|()| ExitCode::SUCCESS).map_err(RunError::Null)
        }
        None => run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(RunError::Output(error)) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelog bench: {error}");
            // As a shell tells of a program that a signal ended.
            signal_code().unwrap_or(ExitCode::FAILURE)
        }
    }
}

fn signal_code() -> Option<ExitCode> {
    signals::received().map(|signal| ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)))
}

fn run(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let output = &arguments.output;
    // Half an hour must not end with a path that cannot be written to, or a file that cannot be read.
    for path in [&output.json, &output.report].into_iter().flatten() {
        check_target(path)?;
    }
    let earlier = output.compare.as_ref().map(|path| {
        let read = std::fs::read_to_string(path).and_then(|text| Ok(serde_json::from_str::<Results>(&text)?));
        read.map_err(|source| RunError::Earlier { path: path.clone(), source })
    });
    let earlier = earlier.transpose()?;
    let found = bench::run(arguments).map_err(RunError::Bench)?;
    let results = &found.results;
    // Files first: whoever reads the table may go away in the middle of it.
    if let Some(path) = &output.json {
        let text = serde_json::to_string_pretty(results).expect("results are plain values") + "\n";
        write_whole(path, &text)?;
    }
    if let Some(path) = &output.report {
        write_whole(path, &report::html::text(results))?;
    }
    if !results.cells.is_empty() {
        print(&report::table::text(results))?;
    }
    if let Some(earlier) = &earlier {
        print(&report::compare::text(results, earlier))?;
    }
    if found.is_interrupted {
        eprintln!("corelog bench: interrupted; what was measured before is above");
        return Ok(signal_code().unwrap_or(ExitCode::FAILURE));
    }
    Ok(if results.is_right() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}
