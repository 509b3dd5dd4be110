//! The command line as typed. No I/O: what can be checked without touching the machine is checked here.

mod remote;
mod values;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Address, ConfigError, Origin, Written};

pub use remote::{Cluster, Config, Connection, Consume, Group, Produce, Remote, Slots, Subject, Topic};

use remote::{CONSUME_HELP, PRODUCE_HELP};
use values::parse_address;

/// A message broker for dedicated Linux hosts that speaks the Kafka protocol.
#[derive(Parser, Debug)]
#[command(name = "corelog", version, max_term_width = 120, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
}

impl CommandLine {
    /// Reads this process's arguments; ends it with help, version or a usage error where clap would.
    pub fn of_process() -> CommandLine {
        <CommandLine as Parser>::parse()
    }

    /// The script that makes a shell complete commands and options.
    pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut CommandLine::command(), "corelog", &mut script);
        script
    }
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the broker; an empty data directory is formatted first
    #[command(after_long_help = settings_help())]
    Start(Start),
    /// Prepare a data directory: identities, placement slots, endpoints
    Format(Format),
    /// Send lines as records
    #[command(after_help = PRODUCE_HELP)]
    Produce(Produce),
    /// Print records as lines
    #[command(after_help = CONSUME_HELP)]
    Consume(Consume),
    /// Create, look at, change and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Look at consumer groups, move their offsets, delete them
    #[command(subcommand)]
    Group(Group),
    /// Show, set and delete settings of topics and brokers
    #[command(subcommand)]
    Config(Config),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Look into the files of a data directory
    #[command(subcommand)]
    Log(Log),
    /// Watch a broker: throughput, latencies by stage, the busiest partitions and clients
    Top(Top),
    /// Look at single requests
    #[command(subcommand)]
    Trace(Trace),
    /// Print what makes a shell complete corelog's commands and options
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Put load on brokers and tell latency, throughput and cost; `bench --help` tells more
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Bench {
        #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure what a durable commit costs on this host, by strategy; `fsync-lab --help` tells more
    // Its options are its own program's, help and version among them.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    FsyncLab {
        #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Where settings come from.
#[derive(Args, Debug, Default, Clone)]
pub struct Settings {
    /// TOML, or a Kafka server.properties as it is (told by its suffix)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A data directory; may be repeated, the first holds the cluster metadata (log.dirs) [default: ./corelog-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Vec<String>,
    /// Any setting; may be repeated, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args, Debug, Default)]
pub struct Start {
    #[command(flatten)]
    pub settings: Settings,
    /// Where to listen for Kafka clients (listeners) [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where to listen for operators, by HTTP (admin.listen) [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// How many shards, or which CPUs carry one: 4, 0-3, 0,2,4-7 [default: all]
    #[arg(long, value_name = "N|LIST")]
    pub cores: Option<String>,
}

#[derive(Args, Debug, Default)]
pub struct Format {
    #[command(flatten)]
    pub settings: Settings,
    /// The cluster's id: 22 characters of base64url; made up if not given
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// This broker's number in the cluster (node.id) [default: 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<String>,
    /// Which CPUs will carry shards; the number of endpoints follows from it
    #[arg(long, value_name = "N|LIST")]
    pub cores: Option<String>,
}

impl Settings {
    /// The options as settings, in the order in which they apply: those with a name of their own, then `--set`.
    fn written(
        &self,
        named: &[(&'static str, &'static str, &Option<String>)],
    ) -> Result<Vec<Written>, ConfigError> {
        let directories = Some(self.data_dir.join(",")).filter(|_| !self.data_dir.is_empty());
        let data_dir = ("--data-dir", "log.dirs", &directories);
        let named = named.iter().chain([&data_dir]).filter_map(|&(option, name, value)| {
            let value = value.clone()?;
            Some(Ok(Written { name: name.to_owned(), value, origin: Origin::Option(option) }))
        });
        named.chain(self.set.iter().map(|text| config::parse_set(text))).collect()
    }
}

impl Start {
    pub fn written(&self) -> Result<Vec<Written>, ConfigError> {
        self.settings.written(&[
            ("--listen", "listeners", &self.listen),
            ("--admin", "admin.listen", &self.admin),
            ("--cores", "cores", &self.cores),
        ])
    }
}

impl Format {
    pub fn written(&self) -> Result<Vec<Written>, ConfigError> {
        self.settings.written(&[
            ("--cluster-id", "cluster.id", &self.cluster_id),
            ("--node-id", "node.id", &self.node_id),
            ("--cores", "cores", &self.cores),
        ])
    }
}

/// How to reach a broker's admin server, and how to print what it says.
#[derive(Args, Debug, Clone)]
pub struct Admin {
    /// The admin server to ask
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644", value_parser = parse_address)]
    pub admin: Address,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug, Clone)]
pub struct Top {
    #[command(flatten)]
    pub admin: Admin,
    /// Print one picture of the broker and end; for scripts
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub interval: u64,
}

#[derive(Subcommand, Debug)]
pub enum Trace {
    /// Show the last requests that took longer than the broker's slow.request.us, with their stages
    Slow {
        #[command(flatten)]
        admin: Admin,
    },
}

#[derive(Subcommand, Debug)]
pub enum Log {
    /// Print .log, .index, .timeindex, .snapshot and checkpoint files
    Dump {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print the records of each batch, too
        #[arg(long)]
        records: bool,
    },
    /// Check every batch, index and checkpoint; a broker may be running
    #[command(after_help = "Exit code: 0 no damage, 1 damage, 2 could not check everything.")]
    Verify {
        /// A data directory, a partition's folder or a .log file
        #[arg(value_name = "DIR")]
        path: PathBuf,
        /// Files checked at the same time [default: one for each CPU]
        #[arg(long, value_name = "N")]
        threads: Option<NonZeroUsize>,
        /// Print JSON instead of lines
        #[arg(long)]
        json: bool,
    },
}

/// The table of settings, for `corelog start --help`.
fn settings_help() -> String {
    let mut help = String::from("Settings (--set KEY=VALUE, or in the file given to --config):\n");
    for setting in config::settings() {
        let default = setting.default.unwrap_or("not set");
        let what = match setting.topic_setting {
            Some(topic) => format!("Default of the topic setting {topic}."),
            None => setting.help.replace('`', ""),
        };
        help += &format!("\n  {} [{default}]\n      {what}\n", setting.name);
    }
    help
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;
    use crate::config::parse;

    fn typed(line: &str) -> Result<Command, clap::Error> {
        CommandLine::try_parse_from(line.split_whitespace()).map(|line| line.command)
    }

    #[test]
    fn definitions_hold_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn start_options_become_settings() {
        let line = "corelog start --listen 0.0.0.0:1 --data-dir /d --data-dir /e --cores 2 --set num.partitions=4 --set cores=3";
        let Ok(Command::Start(start)) = typed(line) else { panic!("not start") };
        let config = parse(None, &start.written().unwrap()).unwrap().config;
        assert_eq!(config.listen.to_string(), "0.0.0.0:1");
        assert_eq!(config.data_dirs, ["/d", "/e"].map(PathBuf::from));
        assert_eq!(config.cores, crate::config::Cores::Count(3), "--set comes after the named options");
        let Ok(Command::Start(start)) = typed("corelog start --listen nowhere") else { panic!("not start") };
        let error = parse(None, &start.written().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("--listen: `listeners` = `nowhere`: Expected HOST:PORT"), "{error}");
    }

    #[test]
    fn slips_are_found_before_the_broker_is_asked() {
        let check = |line: &str, kind: ErrorKind, text: &str| {
            let error = typed(line).expect_err(line);
            assert_eq!(error.kind(), kind, "{line}: {error}");
            assert!(error.to_string().contains(text), "{line}: {error}");
        };
        check(
            "corelog topic create a --set retension.ms=1",
            ErrorKind::ValueValidation,
            "did you mean `retention.ms`?",
        );
        check(
            "corelog topic create a --set retention.ms=soon",
            ErrorKind::ValueValidation,
            "Not a number of type LONG",
        );
        check("corelog topic create a --partitions 0", ErrorKind::ValueValidation, "");
        check("corelog topic alter a", ErrorKind::MissingRequiredArgument, "--partitions");
        check("corelog topic delete", ErrorKind::MissingRequiredArgument, "NAMES");
        check("corelog group list --broker nowhere", ErrorKind::ValueValidation, "HOST:PORT");
        check("corelog produce t --header x", ErrorKind::ValueValidation, "NAME=VALUE");
        check("corelog produce t --rate 0", ErrorKind::ValueValidation, "above zero");
        check("corelog produce t --compression rar", ErrorKind::InvalidValue, "zstd");
        check("corelog consume t --format %s", ErrorKind::ValueValidation, "%s stands for nothing");
        check("corelog consume t --from soon", ErrorKind::ValueValidation, "write begin, end");
        check("corelog consume t --from 5 --group g", ErrorKind::ArgumentConflict, "--group");
        check("corelog group reset g", ErrorKind::MissingRequiredArgument, "--to");
        check("corelog group reset g --to=-5", ErrorKind::ValueValidation, "--shift-by");
        check("corelog config show", ErrorKind::MissingRequiredArgument, "--topic");
        check("corelog stop", ErrorKind::InvalidSubcommand, "stop");
    }

    #[test]
    fn options_of_the_programs_beside_pass_as_they_are() {
        let line = "corelog bench --load A --acks -1 --help";
        let Ok(Command::Bench { arguments }) = typed(line) else { panic!("not bench") };
        assert_eq!(arguments, ["--load", "A", "--acks", "-1", "--help"]);
        let Ok(Command::Bench { arguments }) = typed("corelog bench") else { panic!("not bench") };
        assert!(arguments.is_empty());
        let line = "corelog fsync-lab --full /data --json a.json --help -V";
        let Ok(Command::FsyncLab { arguments }) = typed(line) else { panic!("not fsync-lab") };
        assert_eq!(arguments, ["--full", "/data", "--json", "a.json", "--help", "-V"]);
    }

    #[test]
    fn every_shell_completes_every_command() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let script = String::from_utf8(CommandLine::completions(*shell)).unwrap();
            for command in CommandLine::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn help_lists_every_setting() {
        let help = settings_help();
        for setting in config::settings() {
            assert!(help.contains(&format!("\n  {} [", setting.name)), "{}", setting.name);
        }
    }
}
