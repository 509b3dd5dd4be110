//! Settings: one table of broker keys ([`settings`]), one of topic keys ([`TOPIC_SETTINGS`]), and what they come to.
//!
//! *Owns* names, kinds, units, defaults, ranges and help of every setting; the README's tables, `--help` and
//! DescribeConfigs come from the two tables. *Never* reads a file after start. Called by `main` and `cli` at start
//! ([`load`]), by `controller` and `server` for topic and dynamic settings ([`Levels`], [`describe_topic`]).

mod describe;
mod docs;
mod key;
mod source;
mod topic;
mod topic_table;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{NodeId, Uuid};

pub use describe::{
    BrokerConfigError, Entry, EntrySynonym, check_dynamic_broker_setting, describe_broker, describe_cluster,
    describe_topic, describe_whole_topic,
};
pub use docs::{setting_table, topic_setting_table, without_effect_list};
pub use key::{Setting, Unit, nearest, nearest_setting, setting, settings};
pub use source::{Origin, Written, parse_set};
pub use topic::{
    CleanupPolicy, Compression, Durability, Levels, ListOperation, Overrides, Source, TimestampType,
    TopicConfig, TopicConfigError, WritePath, change_list, check_topic_setting, check_topic_settings,
    nearest_topic_setting,
};
pub use topic_table::{Effect, Synonym, TOPIC_SETTINGS, TopicSetting, topic_setting};
use value::parse_address_count;
pub use value::{Address, CORES_MAX, Check, Cores, InvalidValue, Kind, ListenersMode, Value};

/// Data directories that one broker may have. Each costs a lock, a set of checkpoint files and a journal a shard.
const DATA_DIRECTORIES_MAX: usize = 64;

/// The broker's settings, checked, as the rooms use them. Times in milliseconds, sizes in bytes. One field for each row of
/// the broker table; the rows that give topic settings their defaults are in `topic_defaults`.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `None`: whichever the data directory says.
    pub cluster_id: Option<Uuid>,
    pub node_id: i32,
    pub rack: Option<String>,
    /// At least one; the first holds the cluster metadata.
    pub data_dirs: Vec<PathBuf>,
    pub listen: Address,
    pub listeners_mode: ListenersMode,
    pub advertised: Option<Address>,
    pub admin_listen: Address,
    pub cores: Cores,
    pub placement_slots: u16,
    /// `None`: the number of data cores, at most 16.
    pub advertised_endpoints: Option<u16>,
    pub logging_level: String,

    pub auto_create_topics: bool,
    pub delete_topic_enable: bool,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub partitions_max: u32,

    pub connections_max: u32,
    pub connections_per_address_max: u32,
    pub connections_of_addresses: BTreeMap<IpAddr, u32>,
    pub connections_max_idle_ms: u64,
    pub connection_requests_in_flight_max: u32,
    pub connection_response_bytes_max: u64,
    pub request_bytes_max: u32,
    /// `None`: from the memory of the process.
    pub queued_request_bytes_max: Option<u64>,
    pub fetch_bytes_max: u32,
    pub fetch_sessions_max: u32,
    pub describe_partitions_max: u32,

    pub group_initial_rebalance_delay_ms: u64,
    pub group_session_timeout_ms_min: u64,
    pub group_session_timeout_ms_max: u64,
    pub group_members_max: u32,
    pub groups_max: u32,
    pub offset_metadata_bytes_max: u32,
    pub offsets_commit_timeout_ms: u64,
    pub offsets_retention_ms: u64,
    pub offsets_retention_check_interval_ms: u64,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: u64,

    pub retention_check_interval_ms: u64,
    pub recovery_point_checkpoint_interval_ms: u64,
    pub log_start_checkpoint_interval_ms: u64,
    pub producer_id_expiration_ms: u64,
    /// Of the whole process; 0: no scrubbing.
    pub scrub_bytes_per_second: u64,
    pub scrub_interval_ms: u64,

    /// Produce and fetch requests are timed by stage.
    pub stages_are_timed: bool,
    /// Before the dynamic broker setting: [`Config::slow_request`].
    pub slow_request_us: u64,
    /// Before the dynamic broker setting: [`Config::balancer_enable`].
    pub balancer_is_enabled: bool,
    pub balancer_interval_ms: u64,
    pub balancer_threshold_percent: u32,

    /// Of a shard's thread; 0: that of the process.
    pub shard_nice: i32,
    pub tail_cache_bytes: u64,
    pub journal_bypass_bytes: u64,
    pub journal_memory_bytes: u64,
    pub journal_size_bytes: u64,

    /// What a topic without settings of its own gets, before dynamic broker settings.
    pub topic_defaults: TopicConfig,
    /// What files and options set, by canonical name; the static level of [`Levels`].
    pub explicit: Overrides,
}

/// A configuration and what of its files has no counterpart here.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Names in a `server.properties` that corelog has no use for, in order; to be listed once as a warning.
    pub ignored: Vec<String>,
}

/// Why there is no configuration. One line each: where, what, and what would do.
#[derive(Debug)]
pub enum ConfigError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    Toml {
        path: PathBuf,
        line: usize,
        source: Box<toml::de::Error>,
    },
    /// A TOML value of a type that no setting has.
    Unreadable {
        path: PathBuf,
        name: String,
    },
    NotKeyValue {
        text: String,
    },
    Unknown {
        origin: Origin,
        name: String,
    },
    Invalid {
        origin: Origin,
        setting: &'static Setting,
        value: String,
        why: InvalidValue,
    },
    DataDirectories {
        count: usize,
    },
    Listeners {
        value: String,
        plaintext: usize,
    },
    SessionTimeouts {
        min: u64,
        max: u64,
    },
    /// The ids of its endpoints would be too large.
    PerCoreNodeId {
        node_id: i32,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { path, source } => {
                write!(f, "cannot read {}: {source}; check the path given to --config", path.display())
            }
            ConfigError::Toml { path, line, source } => {
                write!(
                    f,
                    "{} line {line}: {}; the file must be TOML, or end in .properties",
                    path.display(),
                    source.message()
                )
            }
            ConfigError::Unreadable { path, name } => {
                write!(
                    f,
                    "{}: `{name}` is a date; settings are texts, numbers, booleans or arrays of them",
                    path.display()
                )
            }
            ConfigError::NotKeyValue { text } => {
                write!(f, "--set {text}: not of the form KEY=VALUE; write --set num.partitions=4")
            }
            ConfigError::Unknown { origin, name } => {
                write!(f, "{origin}: there is no setting `{name}`")?;
                if let Some(default) = default_of_topics(name) {
                    return write!(f, "; it is a topic's, whose default is `{default}`");
                }
                match nearest_setting(name).map(|nearest| (nearest, default_of_topics(nearest))) {
                    Some((nearest, Some(default))) if setting(nearest).is_none() => {
                        write!(f, "; did you mean `{default}`, the default of the topic setting `{nearest}`?")
                    }
                    Some((nearest, _)) => write!(f, "; did you mean `{nearest}`?"),
                    None => write!(f, "; the README lists all settings"),
                }
            }
            ConfigError::Invalid { origin, setting, value, why } => {
                write!(f, "{origin}: `{}` = `{value}`: {why}", setting.name)?;
                let range = setting.check.range();
                match setting.default {
                    _ if range.is_empty() => write!(f, "; it is of type {}", setting.kind),
                    Some(default) => write!(f, "; allowed: {range} (default {default})"),
                    None => write!(f, "; allowed: {range}"),
                }
            }
            ConfigError::DataDirectories { count } => {
                write!(f, "`log.dirs` names {count} directories; name 1 to {DATA_DIRECTORIES_MAX}")
            }
            ConfigError::Listeners { value, plaintext } => {
                write!(
                    f,
                    "`listeners` = `{value}` has {plaintext} PLAINTEXT listeners; corelog serves one, name exactly one"
                )
            }
            ConfigError::SessionTimeouts { min, max } => write!(
                f,
                "`group.min.session.timeout.ms` = {min} is above `group.max.session.timeout.ms` = {max}; lower one or raise the other"
            ),
            ConfigError::PerCoreNodeId { node_id } => write!(
                f,
                "`node.id` = {node_id} is above {}, the most that `listeners.mode` = `per-core` has broker ids for; choose a smaller one",
                NodeId::WITH_ENDPOINTS_MAX
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Read { source, .. } => Some(source),
            ConfigError::Toml { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// The broker setting that is the default of a topic setting, as it is said first.
fn default_of_topics(name: &str) -> Option<&'static str> {
    topic_setting(name)?.synonyms.first().map(|synonym| synonym.name)
}

/// Reads the configuration file, if there is one, then applies the options over it in order.
pub fn load(file: Option<&Path>, options: &[Written]) -> Result<Loaded, ConfigError> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        None => String::new(),
    };
    parse(file.map(|path| (path, text.as_str())), options)
}

/// The settings that a file holds, whatever they are for: properties if its name ends so, else TOML.
pub fn read_settings(path: &Path) -> Result<Vec<Written>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    if is_properties(path) {
        Ok(source::parse_properties(path, &text))
    } else {
        source::parse_toml(path, &text)
    }
}

fn is_properties(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "properties")
}

/// As [`load`], from the file's text.
pub fn parse(file: Option<(&Path, &str)>, options: &[Written]) -> Result<Loaded, ConfigError> {
    let mut explicit = Overrides::new();
    let mut ignored = Vec::new();
    if let Some((path, text)) = file {
        if is_properties(path) {
            for written in source::parse_properties(path, text) {
                match setting(&written.name) {
                    Some(setting) => apply_kafka(setting, written, &mut explicit)?,
                    None => ignored.push(written.name),
                }
            }
        } else {
            for written in source::parse_toml(path, text)? {
                apply(written, &mut explicit)?;
            }
        }
    }
    for written in options {
        apply(written.clone(), &mut explicit)?;
    }
    Ok(Loaded { config: Config::from_explicit(explicit)?, ignored })
}

fn apply(written: Written, explicit: &mut Overrides) -> Result<(), ConfigError> {
    let Written { name, value, origin } = written;
    let Some(setting) = setting(&name) else { return Err(ConfigError::Unknown { origin, name }) };
    if let Err(why) = Value::parse(setting.name, setting.kind, setting.check, &value) {
        return Err(ConfigError::Invalid { origin, setting, value, why });
    }
    explicit.insert(setting.name.to_owned(), value.trim().to_owned());
    Ok(())
}

/// A line of a `server.properties`. Kafka's file may name listeners that corelog does not have (controller, TLS); the one
/// plaintext listener counts, and an empty value is "not set".
fn apply_kafka(
    setting: &'static Setting,
    mut written: Written,
    explicit: &mut Overrides,
) -> Result<(), ConfigError> {
    if matches!(setting.name, "listeners" | "advertised.listeners") {
        let plaintext: Vec<&str> =
            written.value.split(',').map(str::trim).filter(|l| l.starts_with("PLAINTEXT://")).collect();
        match plaintext[..] {
            [one] => written.value = one.to_owned(),
            _ if setting.name == "listeners" => {
                return Err(ConfigError::Listeners { plaintext: plaintext.len(), value: written.value });
            }
            _ => return Ok(()),
        }
    }
    if written.value.is_empty() && setting.default.is_none() {
        return Ok(());
    }
    apply(written, explicit)
}

/// Reads rows of the broker table and notes which, so that a test can tell that every row is read.
struct Rows<'a> {
    explicit: &'a Overrides,
    read: BTreeSet<&'static str>,
}

impl Rows<'_> {
    fn value(&mut self, name: &'static str) -> Option<Value> {
        let setting = setting(name).expect("a name of the table");
        self.read.insert(setting.name);
        let text = self.explicit.get(setting.name).map(String::as_str).or(setting.default)?;
        Some(
            Value::parse(name, setting.kind, setting.check, text)
                .expect("checked when it was written, or a default"),
        )
    }

    fn number(&mut self, name: &'static str) -> i64 {
        self.value(name).expect("has a default").number()
    }

    /// A number whose check excludes what does not fit into `T`.
    fn count<T: TryFrom<i64>>(&mut self, name: &'static str) -> T {
        let number = self.number(name);
        T::try_from(number).unwrap_or_else(|_| panic!("the check of {name} lets {number} through"))
    }

    fn boolean(&mut self, name: &'static str) -> bool {
        self.value(name).expect("has a default").boolean()
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.value(name).map(|value| value.text().to_owned())
    }

    fn connections_of_addresses(&mut self) -> BTreeMap<IpAddr, u32> {
        let value = self.value("max.connections.per.ip.overrides").expect("has a default");
        let counts = value.list().iter().map(|element| parse_address_count(element));
        counts.map(|count| count.expect("checked when it was written")).collect()
    }

    fn address(&mut self, name: &'static str) -> Option<Address> {
        self.text(name).map(|text| Address::parse(&text).expect("checked when it was written, or a default"))
    }
}

impl Config {
    /// Checks what one setting cannot tell alone, and makes the typed form.
    fn from_explicit(explicit: Overrides) -> Result<Config, ConfigError> {
        Config::from_rows(explicit).map(|(config, _)| config)
    }

    fn from_rows(explicit: Overrides) -> Result<(Config, BTreeSet<&'static str>), ConfigError> {
        let topic_defaults = TopicConfig::effective(&Levels::of_explicit(&explicit));
        let mut rows = Rows { explicit: &explicit, read: BTreeSet::new() };
        let directories = rows.value("log.dirs").expect("has a default");
        let data_dirs: Vec<PathBuf> = directories.list().iter().map(PathBuf::from).collect();
        if !(1..=DATA_DIRECTORIES_MAX).contains(&data_dirs.len()) {
            return Err(ConfigError::DataDirectories { count: data_dirs.len() });
        }
        let config = Config {
            cluster_id: rows
                .text("cluster.id")
                .map(|id| Uuid::parse(&id).expect("checked when it was written")),
            node_id: rows.count("node.id"),
            rack: rows.text("broker.rack"),
            data_dirs,
            listen: rows.address("listeners").expect("has a default"),
            listeners_mode: ListenersMode::parse(&rows.text("listeners.mode").expect("has a default"))
                .expect("checked when it was written"),
            advertised: rows.address("advertised.listeners"),
            admin_listen: rows.address("admin.listen").expect("has a default"),
            cores: Cores::parse(&rows.text("cores").expect("has a default"))
                .expect("checked when it was written"),
            placement_slots: rows.count("placement.slots"),
            advertised_endpoints: Some(rows.count("advertised.endpoints")).filter(|&count: &u16| count > 0),
            logging_level: rows.text("logging.level").expect("has a default"),
            auto_create_topics: rows.boolean("auto.create.topics.enable"),
            delete_topic_enable: rows.boolean("delete.topic.enable"),
            num_partitions: rows.count("num.partitions"),
            default_replication_factor: rows.count("default.replication.factor"),
            partitions_max: rows.count("partitions.max"),
            connections_max: rows.count("max.connections"),
            connections_per_address_max: rows.count("max.connections.per.ip"),
            connections_of_addresses: rows.connections_of_addresses(),
            connections_max_idle_ms: rows.count("connections.max.idle.ms"),
            connection_requests_in_flight_max: rows.count("connection.requests.in.flight.max"),
            connection_response_bytes_max: rows.count("connection.response.bytes.max"),
            request_bytes_max: rows.count("socket.request.max.bytes"),
            queued_request_bytes_max: u64::try_from(rows.number("queued.max.request.bytes")).ok(),
            fetch_bytes_max: rows.count("fetch.max.bytes"),
            fetch_sessions_max: rows.count("max.incremental.fetch.session.cache.slots"),
            describe_partitions_max: rows.count("max.request.partition.size.limit"),
            group_initial_rebalance_delay_ms: rows.count("group.initial.rebalance.delay.ms"),
            group_session_timeout_ms_min: rows.count("group.min.session.timeout.ms"),
            group_session_timeout_ms_max: rows.count("group.max.session.timeout.ms"),
            group_members_max: rows.count("group.max.size"),
            groups_max: rows.count("groups.max"),
            offset_metadata_bytes_max: rows.count("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: rows.count("offsets.commit.timeout.ms"),
            offsets_retention_ms: rows.count::<u64>("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: rows.count("offsets.retention.check.interval.ms"),
            offsets_topic_partitions: rows.count("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: rows.count("offsets.topic.replication.factor"),
            offsets_topic_segment_bytes: rows.count("offsets.topic.segment.bytes"),
            retention_check_interval_ms: rows.count("log.retention.check.interval.ms"),
            recovery_point_checkpoint_interval_ms: rows.count("log.flush.offset.checkpoint.interval.ms"),
            log_start_checkpoint_interval_ms: rows.count("log.flush.start.offset.checkpoint.interval.ms"),
            scrub_bytes_per_second: rows.count("log.scrub.bytes.per.second"),
            scrub_interval_ms: rows.count("log.scrub.interval.ms"),
            producer_id_expiration_ms: rows.count("producer.id.expiration.ms"),
            stages_are_timed: rows.boolean("metrics.stages"),
            balancer_is_enabled: rows.boolean("balancer.enable"),
            balancer_threshold_percent: rows.count("balancer.threshold.percent"),
            balancer_interval_ms: rows.count("balancer.interval.ms"),
            slow_request_us: rows.count("slow.request.us"),
            shard_nice: rows.count("shard.nice"),
            tail_cache_bytes: rows.count("shard.tail.cache.bytes"),
            journal_bypass_bytes: rows.count("journal.bypass.bytes"),
            journal_memory_bytes: rows.count("journal.memory.bytes"),
            journal_size_bytes: rows.count("journal.size"),
            topic_defaults,
            explicit: Overrides::new(),
        };
        let (min, max) = (config.group_session_timeout_ms_min, config.group_session_timeout_ms_max);
        if min > max {
            return Err(ConfigError::SessionTimeouts { min, max });
        }
        if config.listeners_mode == ListenersMode::PerCore && config.node_id > NodeId::WITH_ENDPOINTS_MAX.0 {
            return Err(ConfigError::PerCoreNodeId { node_id: config.node_id });
        }
        let read = rows.read;
        Ok((Config { explicit, ..config }, read))
    }

    /// What a request has to take longer than to be slow. `dynamic`: the setting as it was made while the broker ran.
    pub fn slow_request(&self, dynamic: Option<&str>) -> Duration {
        let setting = setting("slow.request.us").expect("a name of the table");
        let parse = |text| Value::parse(setting.name, setting.kind, setting.check, text).ok();
        // It was checked when it was made: one that another version let through counts for nothing.
        let dynamic = dynamic.and_then(parse).and_then(|value| u64::try_from(value.number()).ok());
        Duration::from_micros(dynamic.unwrap_or(self.slow_request_us))
    }

    /// Whether slots are moved for the sake of balance. `dynamic`: the setting as it was made while the broker ran.
    pub fn balancer_enable(&self, dynamic: Option<&str>) -> bool {
        let setting = setting("balancer.enable").expect("a name of the table");
        let parse = |text| Value::parse(setting.name, setting.kind, setting.check, text).ok();
        dynamic.and_then(parse).map_or(self.balancer_is_enabled, |value| value.boolean())
    }

    /// Every setting that differs from its default, one `name = value` a line; for the start-up log.
    pub fn dump(&self) -> impl Iterator<Item = String> + '_ {
        self.explicit.iter().map(|(name, value)| format!("{name} = {value}"))
    }
}

/// Every default of the table.
impl Default for Config {
    fn default() -> Config {
        Config::from_explicit(Overrides::new()).expect("the table's defaults agree (test)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[&str]) -> Result<Config, String> {
        let written: Vec<Written> = options.iter().map(|o| parse_set(o).unwrap()).collect();
        parse(None, &written).map(|loaded| loaded.config).map_err(|e| e.to_string())
    }

    #[test]
    fn every_row_of_the_table_reaches_the_configuration() {
        let (_, read) = Config::from_rows(Overrides::new()).unwrap();
        for setting in settings() {
            assert!(
                setting.topic_setting.is_some() || read.contains(setting.name),
                "{} is read nowhere",
                setting.name
            );
        }
    }

    #[test]
    fn later_options_win_and_aliases_are_the_same_setting() {
        let config =
            with(&["listen=0.0.0.0:1", "listeners=PLAINTEXT://127.0.0.1:2", "num.partitions=4"]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:2");
        assert_eq!(config.num_partitions, 4);
        assert_eq!(config.explicit.get("num.partitions").map(String::as_str), Some("4"));
        assert_eq!(with(&["data.dir=/x"]).unwrap().data_dirs, [PathBuf::from("/x")]);
        assert_eq!(with(&["log.dirs=/b, /a"]).unwrap().data_dirs, ["/b", "/a"].map(PathBuf::from));
    }

    #[test]
    fn wrong_settings_are_one_line_with_the_remedy() {
        let check = |option: &str, expected: &str| assert_eq!(with(&[option]).unwrap_err(), expected);
        check(
            "num.partition=4",
            "--set: there is no setting `num.partition`; did you mean `num.partitions`?",
        );
        check(
            "zookeeper.connect=x",
            "--set: there is no setting `zookeeper.connect`; the README lists all settings",
        );
        check(
            "wrte.path=direct",
            "--set: there is no setting `wrte.path`; did you mean `log.write.path`, the default of the topic setting `write.path`?",
        );
        check(
            "segment.bytes=9",
            "--set: there is no setting `segment.bytes`; it is a topic's, whose default is `log.segment.bytes`",
        );
        check(
            "num.partitions=0",
            "--set: `num.partitions` = `0`: Value must be at least 1; allowed: 1 to 100000 (default 1)",
        );
        check(
            "delete.topic.enable=yes",
            "--set: `delete.topic.enable` = `yes`: Expected value to be either true or false; it is of type boolean",
        );
        let many = format!("log.dirs={}", ["/d"; 65].join(","));
        check(&many, "`log.dirs` names 65 directories; name 1 to 64");
        check(
            "cores=0",
            "--set: `cores` = `0`: Expected 'all', a count of 1 to 1024, or a list of CPUs such as 0-3,6; allowed: `all`, a count, or CPUs such as `0-3,6` (default all)",
        );
        assert!(with(&["group.min.session.timeout.ms=5", "group.max.session.timeout.ms=4"]).is_err());
        assert!(with(&["node.id=1000001"]).is_ok());
        assert!(with(&["node.id=1000001", "listeners.mode=per-core"]).is_err());
        assert!(with(&["node.id=1000000", "listeners.mode=per-core"]).is_ok());
    }

    #[test]
    fn what_is_slow_may_change_while_the_broker_runs() {
        let config = with(&["slow.request.us=7"]).unwrap();
        let us = |dynamic| config.slow_request(dynamic).as_micros();
        assert_eq!((us(None), us(Some("250")), us(Some("soon")), us(Some("-1"))), (7, 250, 7, 7));
        assert_eq!(check_dynamic_broker_setting("slow.request.us", "250"), Ok("slow.request.us"));
    }

    #[test]
    fn kafkas_own_file_applies_where_it_can_and_the_rest_is_listed() {
        let text = "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.voters=1@localhost:9093\n\
            listeners=PLAINTEXT://:9092,CONTROLLER://:9093\nadvertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
            num.network.threads=3\nlog.dirs=/tmp/kraft-combined-logs\nnum.partitions=3\nlog.retention.hours=24\nbroker.rack=\n";
        let loaded =
            parse(Some((Path::new("server.properties"), text)), &[parse_set("num.partitions=5").unwrap()])
                .unwrap();
        assert_eq!(loaded.ignored, ["process.roles", "controller.quorum.voters", "num.network.threads"]);
        let config = loaded.config;
        assert_eq!((config.node_id, config.num_partitions, config.rack), (7, 5, None));
        assert_eq!(config.listen.to_string(), "0.0.0.0:9092");
        assert_eq!(config.advertised.map(|a| a.to_string()).as_deref(), Some("localhost:9092"));
        assert_eq!(config.topic_defaults.retention_ms, Some(86_400_000));
        let error =
            parse(Some((Path::new("s.properties"), "listeners=SSL://:9093")), &[]).unwrap_err().to_string();
        assert!(error.contains("has 0 PLAINTEXT listeners"), "{error}");
    }

    #[test]
    fn toml_refuses_what_properties_pass_over() {
        let error = parse(Some((Path::new("c.toml"), "[process]\nroles = \"broker\"\n")), &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("c.toml: there is no setting `process.roles`"), "{error}");
    }
}
