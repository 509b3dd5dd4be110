//! What a topic's settings come to: its own, then the broker's, then the defaults.
//!
//! A value is looked for level by level: the topic's own settings, this broker's dynamic ones, the cluster's dynamic
//! defaults, the start configuration, the table's default. Among the broker settings that give one topic setting its
//! default (`log.retention.ms`, `.minutes`, `.hours`) the finer unit wins, whatever level it stands on.

use std::collections::BTreeMap;
use std::fmt;

use super::key::nearest;
use super::topic_table::{Effect, TOPIC_SETTINGS, TopicSetting, topic_setting};
use super::value::{InvalidValue, Kind, Value};

/// Settings by name, as an admin client sent them (a topic's, a broker's, the cluster's).
pub type Overrides = BTreeMap<String, String>;

/// Where settings come from, most specific first. All but the topic's hold broker names (`log.retention.ms`).
#[derive(Clone, Copy)]
pub struct Levels<'a> {
    pub topic: &'a Overrides,
    /// Dynamic settings of this broker.
    pub broker: &'a Overrides,
    /// Dynamic defaults of all brokers.
    pub cluster: &'a Overrides,
    /// What the configuration file and the command line set, by canonical name ([`super::Config::explicit`]).
    pub explicit: &'a Overrides,
}

/// Which level a value comes from. The number is DescribeConfigs' `config_source`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

impl Source {
    pub fn wire_code(self) -> i8 {
        self as i8
    }
}

/// Why a topic cannot have a setting. The texts are Kafka's, which admin clients show as they are.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicConfigError {
    Unknown {
        name: String,
    },
    Null {
        name: String,
    },
    Invalid {
        name: &'static str,
        value: String,
        kind: Kind,
        why: InvalidValue,
    },
    /// `min.compaction.lag.ms` above `max.compaction.lag.ms`.
    CompactionLags {
        min: i64,
        max: i64,
    },
    /// Append or subtract on a setting that is no list.
    NotAList {
        name: String,
        operation: ListOperation,
    },
}

/// What IncrementalAlterConfigs can do to a list beside setting it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListOperation {
    Append,
    Subtract,
}

impl fmt::Display for TopicConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicConfigError::Unknown { name } => write!(f, "Unknown topic config name: {name}"),
            TopicConfigError::Null { name } => {
                write!(f, "Null value not supported for topic configs: {name}")
            }
            TopicConfigError::Invalid { name, value, kind: Kind::List, why } => {
                // Kafka shows a list that fails as a whole in brackets, and one that fails in an element as the element.
                let value = match why {
                    InvalidValue::NotThrottledReplicas { .. } => {
                        format!("[{}]", value.split(',').collect::<Vec<_>>().join(", "))
                    }
                    _ => value.clone(),
                };
                write!(f, "Invalid value {value} for configuration {name}: {why}")
            }
            TopicConfigError::Invalid { name, value, why, .. } => {
                write!(f, "Invalid value {value} for configuration {name}: {why}")
            }
            TopicConfigError::CompactionLags { min, max } => {
                write!(
                    f,
                    "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
                )
            }
            TopicConfigError::NotAList { name, operation } => {
                let operation = match operation {
                    ListOperation::Append => "APPEND",
                    ListOperation::Subtract => "SUBTRACT",
                };
                write!(f, "Can't {operation} to key {name} because its type is not LIST.")
            }
        }
    }
}

impl std::error::Error for TopicConfigError {}

/// Checks one topic setting as CreateTopics or AlterConfigs brings it; `None` is a null value.
pub fn check_topic_setting(name: &str, value: Option<&str>) -> Result<(), TopicConfigError> {
    let setting = topic_setting(name).ok_or_else(|| TopicConfigError::Unknown { name: name.to_owned() })?;
    let value = value.ok_or_else(|| TopicConfigError::Null { name: name.to_owned() })?;
    parse(setting, value).map(drop)
}

/// Checks all of a topic's own settings together: each one, and those that must agree.
pub fn check_topic_settings(topic: &Overrides) -> Result<(), TopicConfigError> {
    for (name, value) in topic {
        check_topic_setting(name, Some(value))?;
    }
    let number = |name: &str| {
        let setting = topic_setting(name).expect("named here as in the table");
        let text = topic.get(name).map_or(setting.default, String::as_str);
        parse(setting, text).expect("checked above, or a default").number()
    };
    let (min, max) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if min > max { Err(TopicConfigError::CompactionLags { min, max }) } else { Ok(()) }
}

/// The list `operand` appended to or taken from `current`, both as text. Only list settings have this.
/// Appending what is there already changes nothing, as in Kafka.
pub fn change_list(
    name: &str,
    operation: ListOperation,
    current: &str,
    operand: &str,
) -> Result<String, TopicConfigError> {
    let setting = topic_setting(name).ok_or_else(|| TopicConfigError::Unknown { name: name.to_owned() })?;
    if setting.kind != Kind::List {
        return Err(TopicConfigError::NotAList { name: name.to_owned(), operation });
    }
    let elements = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect()
    };
    let mut list = elements(current);
    for element in elements(operand) {
        match operation {
            ListOperation::Append if list.contains(&element) => {}
            ListOperation::Append => list.push(element),
            ListOperation::Subtract => list.retain(|kept| *kept != element),
        }
    }
    Ok(list.join(","))
}

/// The topic setting a wrong name was probably meant to be; for the command line.
pub fn nearest_topic_setting(name: &str) -> Option<&'static str> {
    nearest(name, TOPIC_SETTINGS.iter().filter(|s| s.effect != Effect::Internal).map(|s| s.name))
}

fn parse(setting: &'static TopicSetting, text: &str) -> Result<Value, TopicConfigError> {
    Value::parse(setting.name, setting.kind, setting.check, text).map_err(|why| TopicConfigError::Invalid {
        name: setting.name,
        value: text.to_owned(),
        kind: setting.kind,
        why,
    })
}

impl<'a> Levels<'a> {
    /// The levels of a topic that has nothing of its own, under a broker configured at start alone.
    pub fn of_explicit(explicit: &'a Overrides) -> Levels<'a> {
        static NONE: Overrides = Overrides::new();
        Levels { topic: &NONE, broker: &NONE, cluster: &NONE, explicit }
    }

    /// The broker's levels, most specific first.
    pub(super) fn of_broker(&self) -> [(Source, &'a Overrides); 3] {
        [
            (Source::DynamicBroker, self.broker),
            (Source::DynamicDefaultBroker, self.cluster),
            (Source::StaticBroker, self.explicit),
        ]
    }

    /// A topic setting's value and the level that decided it. Values are checked before they are stored, so one that does
    /// not parse comes from a later version's table; the next level stands in for it.
    pub fn effective(&self, setting: &'static TopicSetting) -> (Value, Source) {
        if setting.name == "durability" {
            let (durability, source) = self.durability();
            return (Value::Text(durability.name().to_owned()), source);
        }
        self.as_set(setting)
    }

    fn as_set(&self, setting: &'static TopicSetting) -> (Value, Source) {
        if let Some(value) = self.topic.get(setting.name).and_then(|text| parse(setting, text).ok()) {
            return (value, Source::Topic);
        }
        for synonym in setting.synonyms {
            for (source, level) in self.of_broker() {
                let text = level.get(synonym.name);
                let check = synonym.check.unwrap_or(setting.check);
                if let Some(value) =
                    text.and_then(|t| Value::parse(synonym.name, synonym.kind, check, t).ok())
                {
                    return (scaled(value, synonym.scale), source);
                }
            }
        }
        (parse(setting, setting.default).expect("defaults pass their checks (test)"), Source::Default)
    }

    fn named(&self, name: &'static str) -> (Value, Source) {
        self.as_set(topic_setting(name).expect("a name of the table"))
    }

    /// Inside each level an explicit `durability` decides, else `flush.messages`, else `flush.ms`; a topic's level stands
    /// above the broker's three together, since Kafka merges those into one before a topic sees them.
    fn durability(&self) -> (Durability, Source) {
        let explicit = self.named("durability");
        let messages = self.named("flush.messages");
        let interval = self.named("flush.ms");
        let is_topic = |source| source == Source::Topic;
        let is_set = |source| source != Source::Default;
        for chosen in [is_topic as fn(Source) -> bool, is_set] {
            if chosen(explicit.1) {
                return (Durability::of_name(explicit.0.text()), explicit.1);
            }
            if chosen(messages.1) {
                let durability =
                    if messages.0.number() == 1 { Durability::Fsync } else { Durability::Interval };
                return (durability, messages.1);
            }
            if chosen(interval.1) {
                return (Durability::Interval, interval.1);
            }
        }
        (Durability::Fsync, Source::Default)
    }
}

fn scaled(value: Value, scale: i64) -> Value {
    match value {
        // -1 hours is "never", not -3600000 ms.
        Value::Number(number) if number > 0 => Value::Number(number.saturating_mul(scale)),
        other => other,
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Flushed to the device.
    Fsync,
    /// Written; flushed after `flush_ms` or `flush_messages` at the latest.
    Interval,
    /// Written; flushed when the kernel likes.
    Os,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Interval => "interval",
            Durability::Os => "os",
        }
    }

    fn of_name(name: &str) -> Durability {
        match name {
            "interval" => Durability::Interval,
            "os" => Durability::Os,
            _ => Durability::Fsync,
        }
    }
}

/// Which segments go, and how. Both may hold; neither keeps everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub compact: bool,
    pub delete: bool,
}

/// Whose clock stamps records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The codec of stored batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// How records reach the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePath {
    Auto,
    Journal,
    Direct,
    PageCache,
}

/// A topic's settings as the rooms use them. Times in milliseconds, sizes in bytes; `None` is no bound.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression: Compression,
    pub durability: Durability,
    /// Only under `Durability::Interval`.
    pub flush_messages: Option<u64>,
    /// Only under `Durability::Interval`, where it always has a value.
    pub flush_ms: Option<u64>,
    pub write_path: WritePath,
    pub segment_bytes: u64,
    pub segment_ms: u64,
    pub segment_jitter_ms: u64,
    pub segment_index_bytes: u64,
    pub index_interval_bytes: u64,
    pub file_delete_delay_ms: u64,
    pub preallocate: bool,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    pub delete_retention_ms: u64,
    pub max_message_bytes: u32,
    pub timestamp_type: TimestampType,
    /// How far behind the clock a producer's timestamp may be.
    pub timestamp_before_max_ms: u64,
    /// How far ahead.
    pub timestamp_after_max_ms: u64,
    pub min_insync_replicas: u32,
}

/// `flush.ms` under `durability=interval` unless it is set: what a power cut may cost at most, in a unit people think in.
const FLUSH_MS_OF_INTERVAL: u64 = 1000;

impl TopicConfig {
    /// What the levels come to.
    pub fn effective(levels: &Levels<'_>) -> TopicConfig {
        let value = |name| levels.named(name).0;
        // Below zero means "no bound" for the settings read with `bound`, and cannot be for those read with `count`.
        let bound = |name| u64::try_from(value(name).number()).ok();
        let count = |name| bound(name).expect("the check of this setting excludes negative numbers");
        let finite = |name| Some(count(name)).filter(|&number| number != i64::MAX as u64);
        let durability = levels.durability().0;
        let is_interval = durability == Durability::Interval;
        let policies = value("cleanup.policy");
        let has_policy = |name: &str| policies.list().iter().any(|policy| policy == name);
        let small_segment = bound("internal.segment.bytes").filter(|&bytes| bytes > 0);
        TopicConfig {
            cleanup_policy: CleanupPolicy { compact: has_policy("compact"), delete: has_policy("delete") },
            compression: match value("compression.type").text() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::Producer,
            },
            durability,
            flush_messages: finite("flush.messages").filter(|_| is_interval),
            flush_ms: is_interval.then(|| finite("flush.ms").unwrap_or(FLUSH_MS_OF_INTERVAL)),
            write_path: match value("write.path").text() {
                "journal" => WritePath::Journal,
                "direct" => WritePath::Direct,
                "page-cache" => WritePath::PageCache,
                _ => WritePath::Auto,
            },
            segment_bytes: small_segment.unwrap_or_else(|| count("segment.bytes")),
            segment_ms: count("segment.ms"),
            segment_jitter_ms: count("segment.jitter.ms"),
            segment_index_bytes: count("segment.index.bytes"),
            index_interval_bytes: count("index.interval.bytes"),
            file_delete_delay_ms: count("file.delete.delay.ms"),
            preallocate: value("preallocate").boolean(),
            retention_bytes: bound("retention.bytes"),
            retention_ms: bound("retention.ms"),
            delete_retention_ms: count("delete.retention.ms"),
            max_message_bytes: count("max.message.bytes") as u32,
            timestamp_type: match value("message.timestamp.type").text() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: count("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: count("message.timestamp.after.max.ms"),
            min_insync_replicas: count("min.insync.replicas") as u32,
        }
    }
}

/// Every default of the table.
impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::effective(&Levels::of_explicit(&Overrides::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn error_texts_are_those_of_kafka() {
        let check = |name: &str, value: Option<&str>, expected: &str| {
            let error = check_topic_setting(name, value).map_err(|e| e.to_string());
            assert_eq!(error, Err(expected.to_owned()), "{name}={value:?}");
        };
        check("no.such.config", Some("1"), "Unknown topic config name: no.such.config");
        check("retention.ms", None, "Null value not supported for topic configs: retention.ms");
        check(
            "retention.ms",
            Some("soon"),
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        );
        check(
            "segment.bytes",
            Some("1"),
            "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
        );
        check(
            "cleanup.policy",
            Some("foo"),
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        );
        check(
            "durability",
            Some("maybe"),
            "Invalid value maybe for configuration durability: String must be one of: fsync, interval, os",
        );
        assert_eq!(check_topic_setting("cleanup.policy", Some("compact,delete")), Ok(()));
        let lags = overrides(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]);
        assert_eq!(check_topic_settings(&lags), Err(TopicConfigError::CompactionLags { min: 10, max: 5 }));
    }

    #[test]
    fn lists_grow_and_shrink_and_nothing_else_does() {
        let check = |operation, current: &str, operand: &str, expected: &str| {
            assert_eq!(change_list("cleanup.policy", operation, current, operand).as_deref(), Ok(expected));
        };
        check(ListOperation::Append, "delete", "compact", "delete,compact");
        check(ListOperation::Append, "delete", "delete", "delete");
        check(ListOperation::Append, "", "compact", "compact");
        check(ListOperation::Subtract, "delete,compact", "delete", "compact");
        check(ListOperation::Subtract, "delete", "compact", "delete");
        let error = change_list("retention.ms", ListOperation::Append, "1", "2").map_err(|e| e.to_string());
        assert_eq!(error, Err("Can't APPEND to key retention.ms because its type is not LIST.".to_owned()));
    }

    fn effective(topic: &[(&str, &str)], cluster: &[(&str, &str)], explicit: &[(&str, &str)]) -> TopicConfig {
        let (topic, cluster, explicit) = (overrides(topic), overrides(cluster), overrides(explicit));
        TopicConfig::effective(&Levels {
            topic: &topic,
            broker: &Overrides::new(),
            cluster: &cluster,
            explicit: &explicit,
        })
    }

    #[test]
    fn the_finer_unit_and_the_nearer_level_win() {
        let retention = |topic, cluster, explicit| effective(topic, cluster, explicit).retention_ms;
        assert_eq!(retention(&[], &[], &[]), Some(604_800_000));
        assert_eq!(retention(&[], &[], &[("log.retention.hours", "2")]), Some(7_200_000));
        assert_eq!(
            retention(&[], &[], &[("log.retention.hours", "2"), ("log.retention.minutes", "1")]),
            Some(60_000)
        );
        assert_eq!(retention(&[], &[("log.retention.ms", "5")], &[("log.retention.minutes", "1")]), Some(5));
        assert_eq!(retention(&[], &[("log.retention.ms", "5")], &[("log.retention.ms", "6")]), Some(5));
        assert_eq!(retention(&[("retention.ms", "7")], &[("log.retention.ms", "5")], &[]), Some(7));
        assert_eq!(retention(&[("retention.ms", "-1")], &[], &[]), None);
        assert_eq!(retention(&[], &[], &[("log.retention.hours", "-1")]), None);
    }

    #[test]
    fn durability_is_explicit_or_follows_the_flush_settings() {
        let check = |topic: &[(&str, &str)],
                     explicit: &[(&str, &str)],
                     expected: (Durability, Option<u64>, Option<u64>)| {
            let config = effective(topic, &[], explicit);
            assert_eq!(
                (config.durability, config.flush_messages, config.flush_ms),
                expected,
                "{topic:?} {explicit:?}"
            );
        };
        use Durability::{Fsync, Interval, Os};
        check(&[], &[], (Fsync, None, None));
        check(&[("flush.messages", "1")], &[("log.durability", "os")], (Fsync, None, None));
        check(&[("flush.messages", "100")], &[], (Interval, Some(100), Some(1000)));
        check(&[("flush.ms", "50")], &[], (Interval, None, Some(50)));
        check(&[("durability", "os"), ("flush.messages", "1")], &[], (Os, None, None));
        check(&[("durability", "interval")], &[], (Interval, None, Some(1000)));
        check(&[("durability", "fsync")], &[("log.durability", "os")], (Fsync, None, None));
        check(&[], &[("log.durability", "os")], (Os, None, None));
        check(
            &[],
            &[("log.flush.interval.messages", "10000"), ("log.flush.interval.ms", "1000")],
            (Interval, Some(10000), Some(1000)),
        );
        check(
            &[],
            &[("log.flush.interval.messages", "10000"), ("log.durability", "fsync")],
            (Fsync, None, None),
        );
        check(&[], &[("log.flush.interval.messages", "1")], (Fsync, None, None));
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = TopicConfig::default();
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(config.cleanup_policy, CleanupPolicy { compact: false, delete: true });
        assert_eq!(config.timestamp_after_max_ms, 3_600_000);
        assert_eq!(effective(&[("internal.segment.bytes", "4096")], &[], &[]).segment_bytes, 4096);
    }
}
