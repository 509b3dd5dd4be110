//! Commands that ask brokers, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Admin;
use super::values::{
    parse_address, parse_bootstrap, parse_pair, parse_rate, parse_reset, parse_separator,
    parse_topic_setting, parse_topic_setting_name,
};
use crate::cli::consume::{Begin, Format as RecordFormat};
use crate::config::Address;

/// Which cluster, and how to talk to it.
#[derive(Args, Debug, Clone, Default)]
pub struct Remote {
    /// The broker to ask first, or several with commas between them [default: 127.0.0.1:9092]
    #[arg(long, alias = "broker", value_name = "HOST:PORT", value_parser = parse_bootstrap)]
    pub bootstrap: Option<String>,
    /// Settings of the client (security.protocol, linger.ms, ...): TOML, or properties, told by its suffix
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

pub(super) const PRODUCE_HELP: &str = "\
A line is a record; its line feed is not. SIGINT ends the reading: what was read is still sent, a second one gives that up.
Exit code: 0 all acknowledged, 1 failed, 2 usage, 130 interrupted.";

pub(super) const CONSUME_HELP: &str = "\
Without --follow it ends where the topic ended at the start, in a group also if other members have all partitions.
SIGINT ends it behind what is printed, which a group then has committed.
Exit code: 0 done, 1 failed, 2 usage, 130 interrupted.";

#[derive(Args, Debug, Clone)]
pub struct Produce {
    /// Where to send to
    pub topic: String,
    #[command(flatten)]
    pub remote: Remote,
    /// Read lines from here [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What is before its first occurrence in a line is the record's key
    #[arg(long, value_name = "S", value_parser = parse_separator)]
    pub key_separator: Option<String>,
    /// Send to this partition, and not where the key or chance says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// A header of every record; may be repeated
    #[arg(long = "header", value_name = "K=V", value_parser = parse_pair)]
    pub headers: Vec<(String, String)>,
    /// Compress batches (compression.type)
    #[arg(long, value_name = "CODEC", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    pub compression: Option<String>,
    /// Who has to have a record before it is acknowledged (acks); 0 and 1 switch idempotence off
    #[arg(long, value_name = "ACKS", allow_hyphen_values = true, value_parser = ["0", "1", "all", "-1"])]
    pub acks: Option<String>,
    /// Send so many records a second, and not as fast as it goes
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Create the topic as the broker's defaults make it, if it is not there
    #[arg(long)]
    pub create: bool,
    /// A setting of the producer; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Print where each record is
    #[arg(long)]
    pub verbose: bool,
    /// Print the first record's way, with a time for every stage
    #[arg(long)]
    pub trace: bool,
    /// Where --trace asks for the broker's stages [default: the broker's host, port 9644]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address, requires = "trace")]
    pub admin: Option<Address>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Produce {
    /// The options as settings of the producer.
    pub fn settings(&self) -> Vec<(String, String)> {
        let named = [("compression.type", &self.compression), ("acks", &self.acks)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        named.chain(self.set.iter().cloned()).collect()
    }
}

#[derive(Args, Debug, Clone)]
pub struct Consume {
    /// What to read
    pub topic: String,
    #[command(flatten)]
    pub remote: Remote,
    /// begin, end, an offset, a count before the end (-10), a moment (2026-01-31T12:00:00Z or @MILLISECONDS)
    /// [default: begin; in a group: where it is]
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = Begin::parse, conflicts_with = "group")]
    pub from: Option<Begin>,
    /// Read as a member of this consumer group, and commit what was printed
    #[arg(long, value_name = "G")]
    pub group: Option<String>,
    /// Read this partition only
    #[arg(long, value_name = "N", conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// What to print of a record: %t topic, %p partition, %o offset, %T timestamp, %k key, %v value, %h headers; or json
    #[arg(long, value_name = "FORMAT", default_value = "%v", value_parser = RecordFormat::parse)]
    format: RecordFormat,
    /// A JSON object a line, as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Go on and wait for more
    #[arg(long)]
    pub follow: bool,
    /// A setting of the consumer; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
}

impl Consume {
    pub fn format(&self) -> &RecordFormat {
        if self.json { &RecordFormat::Json } else { &self.format }
    }

    /// An option that was given and that a group has no use for.
    pub fn only_without_group(&self) -> Option<&'static str> {
        let given = [("--from", self.from.is_some()), ("--partition", self.partition.is_some())];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }

    /// The options as settings of the consumer, which commits nothing by itself: a record is done with once it is printed.
    /// And whoever looks at a topic that somebody deletes does not want to make it anew.
    pub fn settings(&self) -> Vec<(String, String)> {
        let named = [
            ("enable.auto.commit", Some("false")),
            ("allow.auto.create.topics", Some("false")),
            ("group.id", self.group.as_deref()),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        named.chain(self.set.iter().cloned()).collect()
    }
}

/// How to reach the broker, and how to print what it says.
#[derive(Args, Debug, Clone)]
pub struct Connection {
    #[command(flatten)]
    pub remote: Remote,
    /// Give up after this many seconds [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Topic {
    /// Create a topic
    Create {
        name: String,
        /// How many [default: the broker's num.partitions]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Replicas of each partition [default: the broker's default.replication.factor]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A topic setting; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_topic_setting)]
        settings: Vec<(String, String)>,
        /// It is no error if the topic is there already
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// List topics
    List {
        /// Show topics of the broker's own, too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show partitions, offsets and settings of topics
    Describe {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change settings of a topic, or add partitions
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Alter {
        name: String,
        /// The new number of partitions; it can only grow
        #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// A setting to set; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", group = "change", value_parser = parse_topic_setting)]
        settings: Vec<(String, String)>,
        /// A setting to take back to its default; may be repeated
        #[arg(long = "unset", value_name = "KEY", group = "change", value_parser = parse_topic_setting_name)]
        delete_settings: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete topics with all their records
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand, Debug)]
pub enum Group {
    /// List consumer groups
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show members, committed offsets and lag of groups
    Describe {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Move a group's offsets; shows what it would do unless --execute is given
    #[command(group = clap::ArgGroup::new("where").required(true))]
    Reset {
        name: String,
        /// Of this topic only; may be repeated [default: where the group has offsets]
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// begin, end, an offset, or a moment (2026-01-31T12:00:00Z or @MILLISECONDS)
        #[arg(long, value_name = "WHERE", group = "where", value_parser = parse_reset)]
        to: Option<Begin>,
        /// So many records forward, or back if negative
        #[arg(long, value_name = "N", group = "where", allow_hyphen_values = true)]
        shift_by: Option<i64>,
        /// Do it; the group must have no members
        #[arg(long)]
        execute: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete groups that have no members, with their offsets
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Whose settings.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub struct Subject {
    /// Of this topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Of the broker with this number
    #[arg(long = "broker-id", value_name = "N")]
    pub broker_id: Option<i32>,
    /// Of all brokers that say nothing of their own
    #[arg(long)]
    pub all_brokers: bool,
}

#[derive(Subcommand, Debug)]
pub enum Config {
    /// Show settings with where their values come from
    Show {
        #[command(flatten)]
        subject: Subject,
        /// Those at their default, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Give settings a value; others stay
    Set {
        #[command(flatten)]
        subject: Subject,
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_pair)]
        settings: Vec<(String, String)>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take settings back to their default
    Delete {
        #[command(flatten)]
        subject: Subject,
        #[arg(required = true, value_name = "KEY")]
        settings: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand, Debug)]
pub enum Cluster {
    /// Show the brokers, and how much they carry
    Describe {
        #[command(flatten)]
        connection: Connection,
    },
    #[command(flatten)]
    Slots(Slots),
}

/// What the admin server of a broker is asked of its placement slots.
#[derive(Subcommand, Debug)]
pub enum Slots {
    /// Show the placement slots of a broker: core, endpoint, partitions, and what goes through them in a second
    Slots {
        #[command(flatten)]
        admin: Admin,
    },
    /// Move a placement slot, with all partitions and groups in it, to another core of a running broker
    MoveSlot {
        /// The slot, as `corelog cluster slots` numbers it
        slot: u16,
        /// The core to move it to, from 0
        core: u16,
        #[command(flatten)]
        admin: Admin,
    },
}
