//! The command line as typed. What can be checked without touching the machine is checked here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::presets::{self, Named, PRESETS};
use crate::workload::{Compression, Durability, Keys, Mode, Workload, WritePath};

/// Puts load on Kafka brokers and tells latency, throughput and what it cost the server.
///
/// Without options: starts a broker in a temporary directory, measures for half a minute, prints a table, removes everything.
#[derive(Parser, Clone, Debug)]
#[command(name = "corelog bench", version, max_term_width = 120, after_long_help = loads_help())]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub run: RunOptions,
    #[command(flatten)]
    pub who: WhoOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Be a null responder: answer the same requests from one thread and do nothing else
    Null {
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
    },
}

/// What is asked.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Load")]
pub struct LoadOptions {
    /// Loads by letter, as A or A,C,H; other options change them. See below
    #[arg(long, value_name = "LETTERS", value_delimiter = ',')]
    pub load: Vec<char>,
    /// A matrix: TOML with these options as keys; lists are axes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["load", "ramp"])]
    pub sweep: Option<PathBuf>,
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Of the topic that is made [default: fsync; os for --load]
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    #[arg(long, value_enum)]
    pub write_path: Option<WritePath>,
    #[arg(long, value_name = "N")]
    pub partitions: Option<i32>,
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Requests without an answer on each connection; closed loop
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Bytes of one record's value
    #[arg(long, value_name = "BYTES")]
    pub record_bytes: Option<usize>,
    /// Records in a batch; a request has one batch
    #[arg(long, value_name = "N")]
    pub records: Option<usize>,
    /// How records get to partitions
    #[arg(long, value_enum)]
    pub keys: Option<Keys>,
    #[arg(long, value_name = "N")]
    pub key_count: Option<u32>,
    #[arg(long, value_enum)]
    pub compression: Option<Compression>,
    #[arg(long, value_name = "-1|0|1", allow_hyphen_values = true)]
    pub acks: Option<i16>,
    /// Requests a second over all connections: open loop, latency from when each was due
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Open loop at rising rates, from --rate (1000) on, until the broker falls behind or p99 passes --ramp-p99-ms
    #[arg(long)]
    pub ramp: bool,
    /// The latency that is too much
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub ramp_p99_ms: f64,
    /// Bytes that one fetch may bring of a partition
    #[arg(long, value_name = "BYTES")]
    pub fetch_bytes: Option<i32>,
    /// Bytes in the topic before fetches begin
    #[arg(long, value_name = "BYTES")]
    pub fill_bytes: Option<u64>,
    /// Connections that read; end-to-end and mixed
    #[arg(long, value_name = "N")]
    pub consumers: Option<usize>,
}

/// For how long, and where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct RunOptions {
    /// Of each measurement [default: 10; 3 without options and in a sweep or ramp]
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Load before each measurement [default: a fifth of it, at least 0.5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Option<Duration>,
    /// Measurements of each broker, in turns [default: 1; 5 with more than one broker]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// CPUs of the load generator [default: the last one allowed]
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub cores: Option<Cpus>,
    /// CPUs of the broker that is started [default: the others]
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub broker_cores: Option<Cpus>,
    /// What the generator does while no answer is there [default: spin where it has its CPUs alone]
    #[arg(long, value_enum)]
    pub idle: Option<Idle>,
    /// Bytes of each topic that are read back and checked after the last round; 0: none
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub check: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Idle {
    Spin,
    Sleep,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Brokers")]
pub struct WhoOptions {
    /// A running broker, instead of starting one
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: Option<String>,
    /// Its admin port, for its own latencies
    #[arg(long, value_name = "HOST:PORT", requires = "broker")]
    pub admin: Option<String>,
    /// A running broker to compare with, in turns
    #[arg(long, value_name = "HOST:PORT")]
    pub against: Option<String>,
    /// Compare with a null responder on the broker's CPU, too: what is left of a latency is the broker's
    #[arg(long)]
    pub null: bool,
    /// Measure the broker a second time in turns, with so many idle connections beside the load
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub idle_connections: Option<u32>,
    /// The corelog to start [default: the one beside this program]
    #[arg(long, value_name = "PATH", conflicts_with = "broker")]
    pub program: Option<PathBuf>,
    /// Where the temporary directory of the broker is made [default: the system's]
    #[arg(long, value_name = "PATH", conflicts_with = "broker")]
    pub dir: Option<PathBuf>,
    /// A setting of the broker that is started; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "broker")]
    pub set: Vec<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots that needs no network
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print ratios to an earlier --json of the same loads
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// CPUs as a list: 0,2-3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpus(pub Vec<usize>);

fn cpus(text: &str) -> Result<Cpus, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is no CPU number"));
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => all.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last > 4096 {
                    return Err(format!("{part:?} is no range"));
                }
                all.extend(first..=last);
            }
        }
    }
    Ok(Cpus(all))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if number.is_finite() && (0.0..=86_400.0).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err("between 0 and 86400".to_owned())
    }
}

fn loads_help() -> String {
    let mut text = String::from("Loads (records of 1 KiB, acks=all, durability os):\n");
    for preset in &PRESETS {
        text += &format!("  {}  {}\n", preset.letter, preset.what);
    }
    text += "\nAn example: corelog bench --load C --durability fsync --against HOST:PORT --null\n\n\
             A sweep's file:\n  load = \"C\"\n  durability = [\"os\", \"fsync\"]\n  records = [1, 64]\n  partitions = [16, 256]\n";
    text
}

impl LoadOptions {
    fn is_empty(&self) -> bool {
        let of = |workload: &Workload| {
            let mut changed = workload.clone();
            self.change(&mut changed);
            changed != *workload
        };
        // Options that say what the default says are options all the same, but lead to the same load.
        self.load.is_empty()
            && self.sweep.is_none()
            && !self.ramp
            && !of(&Workload::default())
            && self.durability.is_none()
    }

    /// What was typed, over what a letter or a file says.
    pub fn change(&self, workload: &mut Workload) {
        macro_rules! take {
            ($($field:ident),+) => { $( if let Some(value) = self.$field { workload.$field = value; } )+ };
        }
        take!(
            mode,
            durability,
            write_path,
            partitions,
            connections,
            in_flight,
            record_bytes,
            records,
            keys,
            key_count,
            compression,
            acks,
            fetch_bytes,
            fill_bytes,
            consumers
        );
        if self.rate.is_some() {
            workload.rate = self.rate;
        }
        if workload.mode == Mode::EndToEnd && workload.rate.is_none() && self.mode.is_some() {
            // A closed loop that is full all the time says how long its queue is.
            workload.rate = Some(100.0);
        }
    }

    /// The loads to measure, sweeps apart. Errors: a letter without a load.
    pub fn loads(&self) -> Result<Vec<Named>, char> {
        if self.is_empty() {
            return Ok(presets::first_look());
        }
        let mut all = Vec::new();
        for letter in &self.load {
            let loads = presets::loads(*letter);
            if loads.is_empty() {
                return Err(*letter);
            }
            all.extend(loads);
        }
        if all.is_empty() {
            all.push((String::new(), Workload::default()));
        }
        for (_, workload) in &mut all {
            self.change(workload);
        }
        Ok(all)
    }
}

impl Arguments {
    pub fn is_first_look(&self) -> bool {
        self.load.is_empty()
    }

    pub fn window(&self) -> Duration {
        let is_many = self.is_first_look() || self.load.sweep.is_some() || self.load.ramp;
        self.run.seconds.unwrap_or(Duration::from_millis(if is_many { 3_000 } else { 10_000 }))
    }

    pub fn warm_up(&self) -> Duration {
        self.run.warm_up.unwrap_or((self.window() / 5).max(Duration::from_millis(500)))
    }

    pub fn rounds(&self) -> u32 {
        let is_compared = self.who.against.is_some() || self.who.null || self.who.idle_connections.is_some();
        self.run.rounds.unwrap_or(if is_compared { 5 } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent_and_its_help_lists_every_load() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        for preset in &PRESETS {
            assert!(help.contains(&format!("{}  {}", preset.letter, preset.what)), "{help}");
        }
    }

    #[test]
    fn options_change_the_loads_of_letters() {
        let loads = parse("bench --load C,a --durability fsync --partitions 1000").load.loads().unwrap();
        let names: Vec<&str> = loads.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["C", "A"]);
        let (_, c) = &loads[0];
        assert_eq!((c.partitions, c.connections, c.durability), (1000, 32, Durability::Fsync));
        assert_eq!(parse("bench --load Q").load.loads(), Err('Q'));
        let (_, own) = &parse("bench --rate 500 --mode echo").load.loads().unwrap()[0];
        assert_eq!((own.mode, own.rate, own.durability), (Mode::Echo, Some(500.0), Durability::Fsync));
    }

    #[test]
    fn nothing_typed_is_a_first_look() {
        assert!(parse("bench").is_first_look());
        assert!(parse("bench --seconds 1 --json x").is_first_look());
        assert!(!parse("bench --durability fsync").is_first_look());
        assert!(!parse("bench --records 64").is_first_look());
        assert_eq!(parse("bench").window(), Duration::from_secs(3));
        assert_eq!(parse("bench --load A").window(), Duration::from_secs(10));
        assert_eq!((parse("bench --load A").rounds(), parse("bench --null").rounds()), (1, 5));
        assert_eq!(parse("bench --load C --idle-connections 10000").rounds(), 5);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("0,2-4"), Ok(Cpus(vec![0, 2, 3, 4])));
        for text in ["", "a", "3-1", "1-", "0,,1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
