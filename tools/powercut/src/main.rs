//! Cuts the power of a broker on a real kernel, again and again, and looks for what was acknowledged.
//!
//! ```text
//! producers, consumer ──> broker (its own process) ──> ext4 or XFS ──> loop device ──> image file    (godown)
//!                                                                                 └──> device process (device)
//! ```
//!
//! A cut comes at a seeded moment under load. The broker is killed, the file system mounted again through its own
//! recovery, the broker started again; it must get ready, and every record from the first to the last is read and held
//! against all that was ever acknowledged or read. Needs root: loop devices and mounts, all of them private to the run.
#![allow(
    clippy::disallowed_methods,
    reason = "a harness has the host's clock and threads; the broker's rooms have not"
)]

mod broker;
mod choices;
mod client;
mod consumer;
mod device;
mod kernel;
mod life;
mod options;
mod producer;
mod run;
mod supervisor;
mod value;
mod verdict;
mod volume;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use options::Harness;

/// Cuts the power of a broker on a real kernel and looks for what was acknowledged
#[derive(Parser)]
#[command(name = "corelog-powercut")]
struct Arguments {
    #[command(subcommand)]
    harness: Harness,
}

fn main() -> ExitCode {
    let Arguments { harness } = Arguments::parse();
    let (options, faults) = match harness {
        Harness::Godown(options) => (options, None),
        Harness::Device { run, faults } => (run, Some(faults)),
        Harness::ServeDevice(options) => return report(device::serve(&options)),
    };
    report(match supervisor::work_directory() {
        None => supervisor::supervise(options.dir),
        Some(work) => run::run(&options, faults.as_ref(), &work),
    })
}

fn report(result: io::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("corelog-powercut: {error}");
        ExitCode::from(2)
    })
}
