//! The command line: what was typed ([`CommandLine`]), and the commands that are no broker.
//!
//! *Owns* the definitions of subcommands and options, and the texts and tables they print. *Never* touches the machine while
//! parsing. `main` calls [`CommandLine`]'s parser and runs what it says; `produce`, `consume`, `topic`, `group`, `config` and
//! `cluster` ask brokers through [`crate::client`], as any program does (`remote` has what they share), `log dump` and
//! `log verify` read files, `top`, `trace` and the `cluster` commands about slots ask the admin server, `bench` and `fsync-lab` start the programs beside this
//! one.

mod admin;
mod arguments;
mod cluster;
mod config;
mod consume;
mod dump;
mod group;
mod produce;
mod remote;
mod slots;
mod table;
mod tool;
mod top;
mod topic;
mod trace;
mod verify;

pub use admin::AdminError;
pub use arguments::{
    Admin, Cluster, Command, CommandLine, Config, Connection, Consume, Format, Group, Log, Produce, Remote,
    Settings, Slots, Start, Subject, Top, Topic, Trace,
};
pub use cluster::run as run_cluster;
pub use config::run as run_config;
pub use consume::{Begin, BeginError, Format as RecordFormat, FormatError, run as run_consume};
pub use dump::{DumpError, run as run_dump};
pub use group::run as run_group;
pub use produce::run as run_produce;
pub use remote::{End, INTERRUPTED, RemoteError, tell};
pub use slots::run as run_slots;
pub use tool::{BENCH, FSYNC_LAB, ToolError, run as run_tool};
pub use top::run as run_top;
pub use topic::run as run_topic;
pub use trace::run as run_trace;
pub use verify::{Outcome as VerifyOutcome, Verified, VerifyError, run as run_verify};
