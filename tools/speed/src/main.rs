//! Load on brokers, compared in turns: two running ones, the write paths of one that the tool starts, or that one with
//! Apache Kafka and a broker that does nothing.

mod bench;
mod command;
mod compare;
mod kernel;
mod load;
mod mount;
mod paths;
mod raw;
mod report;
mod table;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Asks brokers the same produce requests in turns and prints the ratios
#[derive(Parser)]
#[command(name = "corelog-speed", args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Option<compare::Compare>,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a broker on file systems of its own and compares its write paths, the raw disk and Apache Kafka
    Paths(paths::Paths),
    /// Starts a broker and Apache Kafka on file systems of their own, puts the loads of `corelog bench` on both and on a null
    /// responder, and holds each ratio against its bar
    Table(table::Table),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (&options.command, &options.compare) {
        (Some(Command::Paths(options)), _) => paths::run(options),
        (Some(Command::Table(options)), _) => table::run(options),
        (None, Some(options)) => compare::run(options)
            .map_err(|error| std::io::Error::other(format!("{error}; are both brokers running?"))),
        (None, None) => Err(std::io::Error::other("name a --broker, or see --help")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelog-speed: {error}");
            ExitCode::FAILURE
        }
    }
}
