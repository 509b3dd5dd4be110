//! The `corelog` command: takes the command line apart and runs what it says.
//!
//! Exit code: 0, 1 with one line on standard error (cause; remedy), 2 for a command line that makes no sense, or 130 after
//! SIGINT, where a command brings to an end what it had begun.
//! `log verify` says with 1 that it found damage, and with 2 that it could not check everything.

mod start;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use corelog::cli::{
    self, AdminError, Cluster, Command, CommandLine, DumpError, End, RemoteError, ToolError, VerifyError,
    VerifyOutcome,
};
use corelog::config::{self, ConfigError};
use corelog::trace;

use start::StartError;

/// Why a command failed.
#[derive(Debug)]
enum CommandError {
    Config(ConfigError),
    Start(StartError),
    Admin(AdminError),
    Remote(RemoteError),
    Dump(DumpError),
    Tool(ToolError),
    Verify(VerifyError),
    /// The result is there, but nobody takes it.
    Print(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Config(error) => error.fmt(f),
            CommandError::Start(error) => error.fmt(f),
            CommandError::Admin(error) => error.fmt(f),
            CommandError::Remote(error) => error.fmt(f),
            CommandError::Dump(error) => error.fmt(f),
            CommandError::Tool(error) => error.fmt(f),
            CommandError::Verify(error) => error.fmt(f),
            CommandError::Print(error) => write!(f, "cannot write the result: {error}; check where it goes"),
        }
    }
}

fn main() -> ExitCode {
    let line = CommandLine::of_process();
    trace::install();
    match run(&line.command) {
        Ok(code) => code,
        Err(CommandError::Dump(error)) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(CommandError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CommandError::Remote(error)) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            cli::tell(&error);
            match error {
                CommandError::Verify(_) => NOT_CHECKED.into(),
                CommandError::Remote(error) if error.is_usage() => USAGE.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// `log verify` could not look at everything, and found no damage in the rest.
const NOT_CHECKED: u8 = 2;
/// As clap's, for what is found wrong with the command line after it was parsed.
const USAGE: u8 = 2;

fn run(command: &Command) -> Result<ExitCode, CommandError> {
    let done = match command {
        Command::Log(cli::Log::Verify { path, threads, json }) => {
            let verified = cli::run_verify(path, *threads).map_err(CommandError::Verify)?;
            print(&if *json { verified.json() } else { verified.text() })?;
            return Ok(match verified.outcome() {
                VerifyOutcome::Sound => ExitCode::SUCCESS,
                VerifyOutcome::Damaged => ExitCode::FAILURE,
                VerifyOutcome::NotAllChecked => NOT_CHECKED.into(),
            });
        }
        Command::Start(options) => {
            let written = options.written().map_err(CommandError::Config)?;
            let loaded =
                config::load(options.settings.config.as_deref(), &written).map_err(CommandError::Config)?;
            start::start(loaded.config, &loaded.ignored).map_err(CommandError::Start)
        }
        Command::Format(options) => {
            let written = options.written().map_err(CommandError::Config)?;
            let loaded =
                config::load(options.settings.config.as_deref(), &written).map_err(CommandError::Config)?;
            print(&(start::format(&loaded.config).map_err(CommandError::Start)? + "\n"))
        }
        Command::Produce(options) => return ended(cli::run_produce(options)),
        Command::Consume(options) => return ended(cli::run_consume(options)),
        Command::Topic(command) => print(&cli::run_topic(command).map_err(CommandError::Remote)?),
        Command::Group(command) => print(&cli::run_group(command).map_err(CommandError::Remote)?),
        Command::Config(command) => print(&cli::run_config(command).map_err(CommandError::Remote)?),
        Command::Cluster(Cluster::Describe { connection }) => {
            print(&cli::run_cluster(connection).map_err(CommandError::Remote)?)
        }
        Command::Cluster(Cluster::Slots(command)) => {
            print(&cli::run_slots(command).map_err(CommandError::Admin)?)
        }
        Command::Completions { shell } => {
            let mut out = io::stdout().lock();
            out.write_all(&CommandLine::completions(*shell)).map_err(CommandError::Print)
        }
        Command::Trace(command) => print(&cli::run_trace(command).map_err(CommandError::Admin)?),
        Command::Top(options) => print(&cli::run_top(options).map_err(CommandError::Admin)?),
        Command::Log(cli::Log::Dump { files, records }) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let dumped = cli::run_dump(files, *records, &mut out).map_err(CommandError::Dump);
            dumped.and(out.flush().map_err(CommandError::Print))
        }
        Command::Bench { arguments } => Err(CommandError::Tool(cli::run_tool(cli::BENCH, arguments))),
        Command::FsyncLab { arguments } => Err(CommandError::Tool(cli::run_tool(cli::FSYNC_LAB, arguments))),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn ended(result: Result<End, RemoteError>) -> Result<ExitCode, CommandError> {
    match result.map_err(CommandError::Remote)? {
        End::Done => Ok(ExitCode::SUCCESS),
        End::Interrupted => Ok(cli::INTERRUPTED.into()),
    }
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Print)
}
