//! Settings as DescribeConfigs shows them: value, where it comes from, and what else stands behind it.

use std::fmt;

use super::key::{Setting, setting, settings};
use super::topic::{Levels, Overrides, Source};
use super::topic_table::{Effect, TOPIC_SETTINGS, TopicSetting};
use super::value::{InvalidValue, Kind, Value};

/// One setting of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub name: &'static str,
    /// `None` if it is not set, or not to be shown.
    pub value: Option<String>,
    pub read_only: bool,
    pub source: Source,
    pub is_sensitive: bool,
    /// Every place that gives this setting a value, the deciding one first.
    pub synonyms: Vec<EntrySynonym>,
    pub kind: Kind,
    pub documentation: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntrySynonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// All of a topic's settings as a client sees them that asked for none by name: Kafka's, and of corelog's own those that
/// somebody has set. Tools that know Kafka's list meet no stranger in it.
pub fn describe_whole_topic(levels: &Levels<'_>) -> Vec<Entry> {
    let mut entries = describe_topic(levels, |_| true);
    entries.retain(|entry| !OWN_SETTINGS.contains(&entry.name) || entry.source != Source::Default);
    entries
}

/// Topic settings that Kafka does not have.
const OWN_SETTINGS: [&str; 2] = ["durability", "write.path"];

/// A topic's settings by name, those that `is_wanted`.
pub fn describe_topic(levels: &Levels<'_>, is_wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
    let described = TOPIC_SETTINGS.iter().filter(|s| s.effect != Effect::Internal && is_wanted(s.name));
    described.map(|setting| topic_entry(levels, setting)).collect()
}

fn topic_entry(levels: &Levels<'_>, setting: &'static TopicSetting) -> Entry {
    let (value, source) = levels.effective(setting);
    let mut synonyms = Vec::new();
    if let Some(text) = levels.topic.get(setting.name) {
        synonyms.push(EntrySynonym { name: setting.name, value: Some(text.clone()), source: Source::Topic });
    }
    for (source, level) in levels.of_broker() {
        for synonym in setting.synonyms {
            if let Some(text) = level.get(synonym.name) {
                synonyms.push(EntrySynonym { name: synonym.name, value: Some(text.clone()), source });
            }
        }
    }
    // Kafka names a default only for the first synonym: `log.retention.hours = 168` does not show behind `retention.ms`.
    if let Some(first) = setting.synonyms.first()
        && let Some(default) = first.default
    {
        synonyms.push(EntrySynonym {
            name: first.name,
            value: Some(default.to_owned()),
            source: Source::Default,
        });
    }
    Entry {
        name: setting.name,
        value: Some(value.to_string()),
        read_only: false,
        source,
        is_sensitive: false,
        synonyms,
        kind: setting.kind,
        documentation: setting.help,
    }
}

/// This broker's settings by name, those that `is_wanted`.
pub fn describe_broker(levels: &Levels<'_>, is_wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
    settings().iter().filter(|s| is_wanted(s.name)).map(|setting| broker_entry(levels, setting)).collect()
}

fn broker_entry(levels: &Levels<'_>, setting: &'static Setting) -> Entry {
    let shown = |text: &str| (setting.kind != Kind::Password).then(|| text.to_owned());
    let mut synonyms: Vec<EntrySynonym> = levels
        .of_broker()
        .into_iter()
        .filter_map(|(source, level)| Some((source, level.get(setting.name)?)))
        .map(|(source, text)| EntrySynonym { name: setting.name, value: shown(text), source })
        .collect();
    if let Some(default) = setting.default {
        synonyms.push(EntrySynonym { name: setting.name, value: shown(default), source: Source::Default });
    }
    Entry {
        name: setting.name,
        value: synonyms.first().and_then(|deciding| deciding.value.clone()),
        read_only: !setting.reloadable,
        source: synonyms.first().map_or(Source::Default, |deciding| deciding.source),
        is_sensitive: setting.kind == Kind::Password,
        synonyms,
        kind: setting.kind,
        documentation: setting.help,
    }
}

/// The cluster's dynamic defaults (the broker resource without a name): only what is set there.
pub fn describe_cluster(cluster: &Overrides, is_wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
    let none = Overrides::new();
    let levels = Levels { topic: &none, broker: &none, cluster, explicit: &none };
    let mut entries = describe_broker(&levels, |name| cluster.contains_key(name) && is_wanted(name));
    for entry in &mut entries {
        entry.synonyms.retain(|synonym| synonym.source == Source::DynamicDefaultBroker);
    }
    entries
}

/// Why a broker setting cannot be changed while the broker runs.
#[derive(Clone, PartialEq, Debug)]
pub enum BrokerConfigError {
    Unknown { name: String },
    ReadOnly { name: &'static str },
    Invalid { name: &'static str, value: String, why: InvalidValue },
}

impl fmt::Display for BrokerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerConfigError::Unknown { name } => write!(f, "Unknown broker config name: {name}"),
            BrokerConfigError::ReadOnly { name } => {
                write!(f, "Cannot update these configs dynamically: [{name}]")
            }
            BrokerConfigError::Invalid { name, value, why } => {
                write!(f, "Invalid value {value} for configuration {name}: {why}")
            }
        }
    }
}

impl std::error::Error for BrokerConfigError {}

/// Checks one dynamic broker setting as AlterConfigs brings it. Returns its canonical name.
pub fn check_dynamic_broker_setting(name: &str, value: &str) -> Result<&'static str, BrokerConfigError> {
    let setting = setting(name).ok_or_else(|| BrokerConfigError::Unknown { name: name.to_owned() })?;
    if !setting.reloadable {
        return Err(BrokerConfigError::ReadOnly { name: setting.name });
    }
    Value::parse(setting.name, setting.kind, setting.check, value)
        .map(|_| setting.name)
        .map_err(|why| BrokerConfigError::Invalid { name: setting.name, value: value.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// An entry as Kafka's answers to the same question show it: name, value, source, and the same of its synonyms.
    type Shown<'a> = (&'a str, Option<&'a str>, i8, &'a [(&'a str, &'a str, i8)]);

    fn check(entries: &[Entry], expected: &[Shown<'_>]) {
        let shown: Vec<_> = entries
            .iter()
            .map(|e| {
                let synonyms: Vec<_> = e
                    .synonyms
                    .iter()
                    .map(|s| (s.name, s.value.as_deref().unwrap_or("(null)"), s.source.wire_code()))
                    .collect();
                (e.name, e.value.as_deref(), e.source.wire_code(), synonyms)
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|&(n, v, s, synonyms)| (n, v, s, synonyms.to_vec())).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_topic_is_described_as_kafka_does() {
        let topic = overrides(&[("max.message.bytes", "200"), ("retention.ms", "1234567")]);
        let cluster = overrides(&[("min.insync.replicas", "1")]);
        let none = Overrides::new();
        let levels = Levels { topic: &topic, broker: &none, cluster: &cluster, explicit: &none };
        let wanted =
            ["cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.ms", "no.such"];
        check(
            &describe_topic(&levels, |name| wanted.contains(&name)),
            &[
                ("cleanup.policy", Some("delete"), 5, &[("log.cleanup.policy", "delete", 5)]),
                (
                    "max.message.bytes",
                    Some("200"),
                    1,
                    &[("max.message.bytes", "200", 1), ("message.max.bytes", "1048588", 5)],
                ),
                (
                    "min.insync.replicas",
                    Some("1"),
                    3,
                    &[("min.insync.replicas", "1", 3), ("min.insync.replicas", "1", 5)],
                ),
                ("retention.ms", Some("1234567"), 1, &[("retention.ms", "1234567", 1)]),
            ],
        );
        assert_eq!(describe_topic(&levels, |_| true).len(), 35);
    }

    #[test]
    fn a_broker_is_described_as_kafka_does() {
        let explicit = overrides(&[("num.partitions", "4")]);
        let levels = Levels::of_explicit(&explicit);
        let wanted = ["message.max.bytes", "log.retention.hours", "log.segment.bytes", "num.partitions"];
        let entries = describe_broker(&levels, |name| wanted.contains(&name));
        check(
            &entries,
            &[
                ("log.retention.hours", Some("168"), 5, &[("log.retention.hours", "168", 5)]),
                ("log.segment.bytes", Some("1073741824"), 5, &[("log.segment.bytes", "1073741824", 5)]),
                ("message.max.bytes", Some("1048588"), 5, &[("message.max.bytes", "1048588", 5)]),
                ("num.partitions", Some("4"), 4, &[("num.partitions", "4", 4), ("num.partitions", "1", 5)]),
            ],
        );
        let read_only: Vec<bool> = entries.iter().map(|e| e.read_only).collect();
        assert_eq!(read_only, [true, false, false, true]);
        let unset = describe_broker(&levels, |name| name == "broker.rack");
        check(&unset, &[("broker.rack", None, 5, &[])]);
    }

    #[test]
    fn the_nameless_broker_shows_only_what_is_set_for_all() {
        check(&describe_cluster(&Overrides::new(), |_| true), &[]);
        let cluster = overrides(&[("log.retention.ms", "5")]);
        check(
            &describe_cluster(&cluster, |_| true),
            &[("log.retention.ms", Some("5"), 3, &[("log.retention.ms", "5", 3)])],
        );
    }

    #[test]
    fn only_reloadable_settings_change_at_run_time() {
        assert_eq!(check_dynamic_broker_setting("log.retention.ms", "5"), Ok("log.retention.ms"));
        let error = |name, value| check_dynamic_broker_setting(name, value).map_err(|e| e.to_string());
        assert_eq!(
            error("num.partitions", "5"),
            Err("Cannot update these configs dynamically: [num.partitions]".to_owned())
        );
        assert_eq!(error("no.such", "5"), Err("Unknown broker config name: no.such".to_owned()));
        assert_eq!(
            error("log.segment.bytes", "5"),
            Err("Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576"
                .to_owned())
        );
    }
}
