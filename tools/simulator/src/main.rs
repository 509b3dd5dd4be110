//! Plays seeds of the simulation until one shows a violation.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use corelog_simulator::crash_points::{CrashPoints, explore};
use corelog_simulator::{Plan, run};

/// Plays seeds of the simulation; stops at the first whose promises do not hold
#[derive(Parser)]
#[command(name = "simulator")]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    seeds: Seeds,
}

#[derive(Subcommand)]
enum Command {
    /// Crashes one node at every point of a trace, in many ways at each, and checks what it promised
    CrashPoints {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Operations of clients in the trace
        #[arg(long, default_value_t = 1000)]
        operations: u64,
        /// Crashes at each point
        #[arg(long, default_value_t = 64)]
        subsets: u64,
        /// The node's `log.write.path`
        #[arg(long, default_value = "auto")]
        path: String,
        /// One point in so many
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// Only this point of the trace
        #[arg(long)]
        point: Option<usize>,
    },
}

#[derive(Args)]
struct Seeds {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Play each seed twice and compare what happened
    #[arg(long)]
    twice: bool,
    /// The disk lies about flushes: the run must find losses, and fails if it does not
    #[arg(long)]
    lying_disk: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.command {
        None => play_seeds(&options.seeds),
        Some(Command::CrashPoints { seed, operations, subsets, path, every, point }) => {
            crash_points(&CrashPoints { seed, operations, subsets, path, every, point })
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the tool tells how fast it is")]
fn crash_points(asked: &CrashPoints) -> ExitCode {
    let started = Instant::now();
    let found = match explore(asked) {
        Ok(found) => found,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("write path {}, seed {}: {found}", asked.path, asked.seed);
    println!("  {:.1} s", started.elapsed().as_secs_f64());
    if let Some(why) = found.is_idle() {
        println!("the run proves nothing: {why}");
        return ExitCode::FAILURE;
    }
    if found.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::disallowed_methods, reason = "the tool tells how fast it is")]
fn play_seeds(options: &Seeds) -> ExitCode {
    let started = Instant::now();
    let (mut acknowledged, mut crashes, mut moves, mut caught) = (0, 0, 0, 0);
    for seed in options.seed..options.seed + options.seeds {
        let plan = Plan { lying_disk: options.lying_disk, ..Plan::of_seed(seed) };
        if options.seeds == 1 {
            println!("{plan:?}");
        }
        let report = run(seed, plan);
        acknowledged += report.acknowledged;
        crashes += report.crashes;
        moves += report.moves + report.balanced;
        if options.twice {
            let again = run(seed, plan);
            if again != report {
                println!("not deterministic:\n  {report}\n  {again}");
                return ExitCode::FAILURE;
            }
        }
        if options.lying_disk {
            caught += u64::from(!report.violations.is_empty());
            continue;
        }
        if !report.violations.is_empty() || options.seeds == 1 {
            println!("{report}");
        }
        if !report.violations.is_empty() {
            println!("play it again: cargo run --release -p corelog-simulator -- --seed {seed}");
            return ExitCode::FAILURE;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s: {acknowledged} records acknowledged, {crashes} crashes, {moves} moves of slots, {} violations",
        options.seeds,
        if options.lying_disk { caught } else { 0 }
    );
    if options.lying_disk && caught == 0 {
        println!("a disk that lies was not caught: the checks check nothing");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
