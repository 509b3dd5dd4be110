//! Settings of the consumer.

use std::time::Duration;

use crate::client::offsets::IsolationLevel;
use crate::config::Check::{Any, AtLeast, Between, OneOf};
use crate::config::Kind::{Boolean, Int, List, String as Text};

use super::SettingsBuilder;
use super::client::{CLIENT, ClientSettings};
use super::reset::OffsetReset;
use super::table::{Given, Setting, SettingError, row};

/// Source of names and defaults: Apache Kafka 4.3, `ConsumerConfig`. `fetch.decompressed.max.bytes` is this client's own.
#[rustfmt::skip]
pub static CONSUMER: &[Setting] = &[
    row("allow.auto.create.topics", Boolean, Some("true"), Any,
        "Brokers may create a topic that is subscribed to and not there."),
    row("auto.commit.interval.ms", Int, Some("5000"), AtLeast(0),
        "How often positions are committed, with `enable.auto.commit`."),
    row("auto.offset.reset", Text, Some("latest"), Any,
        "Where to begin where nothing is committed, or the position is not in the log: latest, earliest, by_duration:PT1H and the like (so long ago), or none, an error."),
    row("check.crcs", Boolean, Some("true"), Any,
        "Whether the checksum of each batch is looked at."),
    row("client.rack", Text, Some(""), Any,
        "Where this consumer is; brokers may name a replica that is near it to read from."),
    row("default.api.timeout.ms", Int, Some("60000"), Between(0, i32::MAX as i64),
        "How long a call that is given no time of its own may take, its retries included."),
    row("enable.auto.commit", Boolean, Some("true"), Any,
        "Positions are committed in the background, up to what the calls of `poll` before have returned."),
    row("exclude.internal.topics", Boolean, Some("true"), Any,
        "A subscription by condition does not see the brokers' own topics."),
    row("fetch.decompressed.max.bytes", Int, Some("134217728"), AtLeast(1024),
        "A batch that becomes longer than this when it is unpacked is an error."),
    row("fetch.max.bytes", Int, Some("52428800"), AtLeast(0),
        "Bytes that one fetch brings, and bytes up to which fetched records wait for `poll`; a larger first batch comes too."),
    row("fetch.max.wait.ms", Int, Some("500"), AtLeast(0),
        "How long a broker waits for `fetch.min.bytes`."),
    row("fetch.min.bytes", Int, Some("1"), AtLeast(0),
        "Bytes that a broker waits for before it answers a fetch."),
    row("group.id", Text, None, Any,
        "The group that the consumer is in, or whose offsets it commits."),
    row("group.instance.id", Text, None, Any,
        "Makes a static member: one that comes back under this name within `session.timeout.ms` gets what it had, without a rebalance."),
    row("group.protocol", Text, Some("classic"), OneOf(&["classic", "consumer"]),
        "How the group rebalances. Only `classic` is offered."),
    row("heartbeat.interval.ms", Int, Some("3000"), AtLeast(1),
        "How often a member shows that it lives; below `session.timeout.ms`, a third of it at most by custom."),
    row("isolation.level", Text, Some("read_uncommitted"), OneOf(&["read_committed", "read_uncommitted"]),
        "Whether records of open and aborted transactions are seen."),
    row("max.partition.fetch.bytes", Int, Some("1048576"), AtLeast(0),
        "Bytes that one fetch brings of one partition; a larger first batch comes too."),
    row("max.poll.interval.ms", Int, Some("300000"), AtLeast(1),
        "A member that does not call `poll` for this time leaves its group; also how long a rebalance waits for it."),
    row("max.poll.records", Int, Some("500"), AtLeast(1),
        "Records that one call of `poll` returns at most."),
    row("partition.assignment.strategy", List, Some("range,cooperative-sticky"), Any,
        "Assignors, the most wanted first: range, roundrobin, sticky, cooperative-sticky, or Java's names of them."),
    row("session.timeout.ms", Int, Some("45000"), AtLeast(1),
        "A member that is not heard of for this time is taken out of its group."),
];

/// An assignor that is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AssignorKind {
    Range,
    RoundRobin,
    Sticky,
    CooperativeSticky,
}

/// Settings of a consumer, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerSettings {
    pub client: ClientSettings,
    pub allow_auto_create_topics: bool,
    /// `None`: not by itself.
    pub auto_commit_interval: Option<Duration>,
    /// `None`: an error.
    pub auto_offset_reset: Option<OffsetReset>,
    pub check_crcs: bool,
    pub rack: String,
    pub api_timeout: Duration,
    pub excludes_internal_topics: bool,
    pub decompressed_bytes_max: usize,
    pub fetch_bytes_max: usize,
    pub fetch_wait_max: Duration,
    pub fetch_bytes_min: usize,
    pub partition_fetch_bytes_max: usize,
    pub group_id: Option<String>,
    pub group_instance_id: Option<String>,
    pub heartbeat_interval: Duration,
    pub isolation: IsolationLevel,
    pub poll_interval_max: Duration,
    pub poll_records_max: usize,
    /// The most wanted first; at least one.
    pub assignors: Vec<AssignorKind>,
    pub session_timeout: Duration,
}

impl ConsumerSettings {
    pub fn builder() -> SettingsBuilder<ConsumerSettings> {
        SettingsBuilder::new(ConsumerSettings::from_pairs)
    }

    /// Checks the pairs and fills in defaults. Errors: an unknown name, a value out of its range, two that contradict.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ConsumerSettings, SettingError> {
        let given = Given::read(&[CLIENT, CONSUMER], pairs)?;
        let client = ClientSettings::from_given(&given)?;
        check_times(&given)?;
        if given.text("group.protocol") == "consumer" {
            return Err(SettingError::NotOffered {
                name: "group.protocol",
                value: "consumer".to_owned(),
                why: "only the classic protocol is offered; its cooperative-sticky assignor moves no more than it must",
            });
        }
        let group_id = given.text_if_set("group.id").map(str::to_owned);
        let needs_group = |name: &'static str| SettingError::Incomplete {
            name,
            value: given.shown(name).1,
            missing: "group.id",
        };
        if group_id.is_none() && given.text_if_set("group.instance.id").is_some() {
            return Err(needs_group("group.instance.id"));
        }
        let commits = given.flag("enable.auto.commit");
        if group_id.is_none() && commits && given.is_explicit("enable.auto.commit") {
            return Err(needs_group("enable.auto.commit"));
        }
        Ok(ConsumerSettings {
            allow_auto_create_topics: given.flag("allow.auto.create.topics"),
            auto_commit_interval: (commits && group_id.is_some())
                .then(|| given.millis("auto.commit.interval.ms")),
            auto_offset_reset: reset(&given)?,
            check_crcs: given.flag("check.crcs"),
            rack: given.text("client.rack").to_owned(),
            api_timeout: given.millis("default.api.timeout.ms").max(client.request_timeout),
            excludes_internal_topics: given.flag("exclude.internal.topics"),
            decompressed_bytes_max: given.size("fetch.decompressed.max.bytes"),
            fetch_bytes_max: given.size("fetch.max.bytes"),
            fetch_wait_max: given.millis("fetch.max.wait.ms"),
            fetch_bytes_min: given.size("fetch.min.bytes"),
            partition_fetch_bytes_max: given.size("max.partition.fetch.bytes"),
            group_instance_id: given.text_if_set("group.instance.id").map(str::to_owned),
            group_id,
            heartbeat_interval: given.millis("heartbeat.interval.ms"),
            isolation: match given.text("isolation.level") {
                "read_committed" => IsolationLevel::ReadCommitted,
                _ => IsolationLevel::ReadUncommitted,
            },
            poll_interval_max: given.millis("max.poll.interval.ms"),
            poll_records_max: given.size("max.poll.records"),
            assignors: assignors(&given)?,
            session_timeout: given.millis("session.timeout.ms"),
            client,
        })
    }
}

fn reset(given: &Given) -> Result<Option<OffsetReset>, SettingError> {
    let value = given.text("auto.offset.reset");
    OffsetReset::parse(value).map_err(|why| SettingError::Reset { value: value.to_owned(), why })
}

/// Times of which one must fit into the other.
fn check_times(given: &Given) -> Result<(), SettingError> {
    let must_be_below = [
        (
            "heartbeat.interval.ms",
            "session.timeout.ms",
            "a member would be taken out between two of its heartbeats",
        ),
        ("fetch.max.wait.ms", "request.timeout.ms", "each fetch that finds nothing new would fail"),
    ];
    for (below, above, why) in must_be_below {
        if given.number(below) >= given.number(above) {
            return Err(given.contradiction(below, above, why));
        }
    }
    const API: &str = "default.api.timeout.ms";
    if given.is_explicit(API) && given.millis(API) < given.millis("request.timeout.ms") {
        return Err(given.contradiction(API, "request.timeout.ms", "not one try could end"));
    }
    Ok(())
}

fn assignors(given: &Given) -> Result<Vec<AssignorKind>, SettingError> {
    const NAME: &str = "partition.assignment.strategy";
    let mut kinds = Vec::new();
    for text in given.list(NAME) {
        let kind = match text.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(text) {
            "range" | "RangeAssignor" => AssignorKind::Range,
            "roundrobin" | "RoundRobinAssignor" => AssignorKind::RoundRobin,
            "sticky" | "StickyAssignor" => AssignorKind::Sticky,
            "cooperative-sticky" | "CooperativeStickyAssignor" => AssignorKind::CooperativeSticky,
            _ => {
                return Err(SettingError::NotOffered {
                    name: NAME,
                    value: text.clone(),
                    why: "there is range, roundrobin, sticky and cooperative-sticky; others are given to the consumer's builder",
                });
            }
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        let why = "a group needs an assignor";
        return Err(SettingError::NotOffered { name: NAME, value: String::new(), why });
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pairs: &[(&str, &str)]) -> String {
        ConsumerSettings::from_pairs(pairs.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_kafkas_and_pass_their_own_checks() {
        let settings = ConsumerSettings::from_pairs([("group.id", "g")]).unwrap();
        assert_eq!((settings.fetch_bytes_max, settings.partition_fetch_bytes_max), (52_428_800, 1_048_576));
        assert_eq!((settings.fetch_wait_max.as_millis(), settings.fetch_bytes_min), (500, 1));
        assert_eq!((settings.poll_records_max, settings.poll_interval_max.as_secs()), (500, 300));
        assert_eq!((settings.session_timeout.as_secs(), settings.heartbeat_interval.as_secs()), (45, 3));
        assert_eq!(settings.auto_commit_interval, Some(Duration::from_secs(5)));
        assert_eq!(settings.auto_offset_reset, Some(OffsetReset::Latest));
        assert_eq!(settings.assignors, [AssignorKind::Range, AssignorKind::CooperativeSticky]);
        assert!(CONSUMER.is_sorted_by_key(|setting| setting.name));
        for setting in CONSUMER {
            assert!(setting.help.ends_with('.'), "{}", setting.name);
            assert!(CLIENT.iter().all(|other| other.name != setting.name), "{}", setting.name);
        }
    }

    #[test]
    fn contradictions_and_unknown_names_are_errors() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let error = error(pairs);
            assert!(error.contains(expected), "{error}");
        };
        check(&[("max.poll.record", "1")], "did you mean `max.poll.records`?");
        check(&[("heartbeat.interval.ms", "45000")], "contradicts `session.timeout.ms` = `45000`");
        check(&[("fetch.max.wait.ms", "30000")], "contradicts `request.timeout.ms` = `30000`");
        check(&[("default.api.timeout.ms", "100")], "not one try could end");
        check(&[("auto.offset.reset", "smallest")], "`auto.offset.reset` = `smallest`: there is earliest");
        check(&[("auto.offset.reset", "by_duration:1h")], "not a duration of ISO 8601");
        check(&[("group.instance.id", "a")], "needs `group.id`");
        check(&[("enable.auto.commit", "true")], "needs `group.id`");
        check(&[("group.protocol", "consumer")], "only the classic protocol");
        check(&[("partition.assignment.strategy", "mine")], "there is range");
        check(&[("partition.assignment.strategy", "")], "needs an assignor");
    }

    #[test]
    fn without_a_group_nothing_is_committed() {
        assert_eq!(ConsumerSettings::from_pairs::<&str, &str>([]).unwrap().auto_commit_interval, None);
    }

    #[test]
    fn javas_names_of_assignors_are_understood() {
        let java = "org.apache.kafka.clients.consumer.StickyAssignor,RoundRobinAssignor,sticky";
        let settings = ConsumerSettings::from_pairs([("partition.assignment.strategy", java)]).unwrap();
        assert_eq!(settings.assignors, [AssignorKind::Sticky, AssignorKind::RoundRobin]);
    }
}
