//! The table of broker settings, and what a name that is not in it was probably meant to be.

use std::sync::OnceLock;

use super::topic_table::TOPIC_SETTINGS;
use super::value::{Check, Kind};

/// One broker setting.
#[derive(Debug)]
pub struct Setting {
    /// Kafka's name where Kafka has one.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    pub unit: Unit,
    /// `None`: not set.
    pub default: Option<&'static str>,
    pub check: Check,
    /// Whether IncrementalAlterConfigs may change it while the broker runs.
    pub reloadable: bool,
    /// The topic setting whose default this is.
    pub topic_setting: Option<&'static str>,
    pub help: &'static str,
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    None,
    Bytes,
    Microseconds,
    Milliseconds,
    Minutes,
    Hours,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::Microseconds => "us",
            Unit::Milliseconds => "ms",
            Unit::Minutes => "minutes",
            Unit::Hours => "hours",
        }
    }

    /// Kafka's names end in their unit.
    fn of_name(name: &str) -> Unit {
        match name.rsplit('.').next() {
            Some("ms") => Unit::Milliseconds,
            Some("us") => Unit::Microseconds,
            Some("minutes") => Unit::Minutes,
            Some("hours") => Unit::Hours,
            _ if name.contains("bytes") => Unit::Bytes,
            _ => Unit::None,
        }
    }
}

struct Row(&'static str, Kind, Option<&'static str>, Check, &'static str);

use Check::{Address, AddressCounts, Any, AtLeast, Between, Cores, OneOf, Uuid};
use Kind::{Boolean, Int, List, Long, Short, String};

/// Settings that are no topic setting's default. Those are made from the topic table, so that each fact is said once.
#[rustfmt::skip]
static OWN: &[Row] = &[
    Row("admin.listen", String, Some("127.0.0.1:9644"), Address,
        "Where the admin HTTP server listens: `/health`, `/metrics`, `/latency`, `/trace/slow`, `/state`, `/slots`. It has no authentication, and moves slots: keep it on a trusted network."),
    Row("advertised.endpoints", Int, Some("0"), Between(0, 1024),
        "Endpoints of this node, fixed when the data directory is formatted; 0: the number of data cores, at most 16."),
    Row("advertised.listeners", String, None, Address,
        "The address that clients are told to connect to; if not set, the one in `listeners`, or the host's name for a wildcard."),
    Row("auto.create.topics.enable", Boolean, Some("true"), Any,
        "Create a topic when a client asks for its metadata and lets the broker create it."),
    Row("balancer.enable", Boolean, Some("false"), Any,
        "Move slots from the busiest core to the idlest, one at a time, where that evens them out. Clients of what moves see a short \
         pause and a new leader epoch. May be changed while the broker runs."),
    Row("balancer.interval.ms", Long, Some("10000"), Between(10, 86_400_000),
        "How often cores tell how busy their slots are. New partitions go to cores that do less; the balancer, if it is on, acts \
         when three such looks in turn show the same core too busy."),
    Row("balancer.threshold.percent", Int, Some("25"), Between(1, 100),
        "By how much of its load the busiest core has to be ahead of the idlest for the balancer to move a slot."),
    Row("broker.rack", String, None, Any,
        "The rack that clients are told this broker is in."),
    Row("cluster.id", String, None, Uuid,
        "The cluster this broker belongs to: given to a new data directory, and one of another cluster is refused."),
    Row("connection.requests.in.flight.max", Int, Some("256"), Between(1, 65_536),
        "Requests of one connection in progress at once; further ones wait in the socket."),
    Row("connection.response.bytes.max", Int, Some("8388608"), Between(65_536, 1 << 30),
        "Response bytes queued for one connection above which no further request is read from it."),
    Row("connections.max.idle.ms", Long, Some("600000"), AtLeast(1),
        "A connection without a request in progress is closed after this time."),
    Row("cores", String, Some("all"), Cores,
        "CPUs that carry shards: `all` that the process is allowed, a count, or a list such as `0-3,6`."),
    Row("default.replication.factor", Int, Some("1"), Between(1, 32_767),
        "Replicas of a topic that is created without saying how many."),
    Row("delete.topic.enable", Boolean, Some("true"), Any,
        "Allow topics to be deleted."),
    Row("fetch.max.bytes", Int, Some("57671680"), AtLeast(1024),
        "Most bytes in one fetch response, whatever the client asks for; the first batch is sent whole even if it is larger."),
    Row("group.initial.rebalance.delay.ms", Int, Some("3000"), Between(0, i32::MAX as i64),
        "How long the first join of an empty group waits for more members."),
    Row("group.max.session.timeout.ms", Int, Some("1800000"), AtLeast(1),
        "Longest session timeout a group member may ask for."),
    Row("group.max.size", Int, Some("2147483647"), AtLeast(1),
        "Most members of one consumer group."),
    Row("group.min.session.timeout.ms", Int, Some("6000"), AtLeast(1),
        "Shortest session timeout a group member may ask for."),
    Row("groups.max", Int, Some("100000"), AtLeast(1),
        "Most consumer groups; one more is refused."),
    Row("listeners", String, Some("127.0.0.1:9092"), Address,
        "Where the broker listens for Kafka clients. `PLAINTEXT://HOST:PORT` is understood too."),
    Row("listeners.mode", String, Some("shared"), OneOf(&["shared", "per-core"]),
        "`shared`: clients see one broker, and all cores accept on one port. `per-core`: they see each endpoint as a broker of its own, \
         with the id node.id x 1000 + endpoint and a port of its own, counted up from the one in `listeners`, and connect to the \
         core that owns a partition; all these ports must be open to them."),
    Row("log.dirs", List, Some("./corelog-data"), Any,
        "Data directories. A new partition goes to the one with the fewest; the first holds the cluster metadata, and the broker \
         does without any other that fails."),
    Row("log.flush.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(1),
        "How often recovery points and the high watermarks are written to their checkpoint files."),
    Row("log.flush.start.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(1),
        "How often log start offsets are written to their checkpoint file."),
    Row("log.retention.check.interval.ms", Long, Some("300000"), AtLeast(1),
        "How often segments are checked against the retention settings."),
    Row("log.scrub.bytes.per.second", Long, Some("8388608"), AtLeast(0),
        "How fast old segments are read again to find bytes that have rotted, all shards together; 0: never."),
    Row("log.scrub.interval.ms", Long, Some("604800000"), AtLeast(1),
        "How long from the start of one such reading of all old segments to the start of the next, at least."),
    Row("logging.level", String, Some("info"), OneOf(&["error", "warn", "info", "debug", "trace"]),
        "Least severe log line that is written to standard error."),
    Row("max.connections", Int, Some("16384"), Between(1, 1 << 20),
        "Most client connections of the process; one more is closed at once."),
    Row("max.connections.per.ip", Int, Some("2147483647"), AtLeast(0),
        "Most client connections from one address; one more is closed at once."),
    Row("max.connections.per.ip.overrides", List, Some(""), AddressCounts,
        "Addresses with a bound of their own in the place of `max.connections.per.ip`. Host names are not looked up."),
    Row("max.incremental.fetch.session.cache.slots", Int, Some("1000"), Between(0, 1 << 20),
        "Most incremental fetch sessions kept."),
    Row("max.request.partition.size.limit", Int, Some("2000"), AtLeast(1),
        "Most partitions in one DescribeTopicPartitions response."),
    Row("metrics.stages", Boolean, Some("true"), Any,
        "Time produce and fetch requests by stage. Off only to measure what that costs."),
    Row("node.id", Int, Some("1"), AtLeast(0),
        "This broker's number in the cluster, fixed when the data directory is formatted."),
    Row("num.partitions", Int, Some("1"), Between(1, 100_000),
        "Partitions of a topic that is created without saying how many."),
    Row("offset.metadata.max.bytes", Int, Some("4096"), AtLeast(0),
        "Longest text a client may store with a committed offset."),
    Row("offsets.commit.timeout.ms", Int, Some("5000"), AtLeast(1),
        "An offset commit that is not durable after this time is answered with an error."),
    Row("offsets.retention.check.interval.ms", Long, Some("600000"), AtLeast(1),
        "How often committed offsets are checked for expiry."),
    Row("offsets.retention.minutes", Int, Some("10080"), AtLeast(1),
        "How long the committed offsets of an empty group are kept."),
    Row("offsets.topic.num.partitions", Int, Some("50"), Between(1, 10_000),
        "Partitions of `__consumer_offsets`, fixed when it is created."),
    Row("offsets.topic.replication.factor", Short, Some("1"), AtLeast(1),
        "Replicas of `__consumer_offsets`, fixed when it is created."),
    Row("offsets.topic.segment.bytes", Int, Some("104857600"), AtLeast(1 << 20),
        "Segment size of `__consumer_offsets`."),
    Row("partitions.max", Int, Some("100000"), AtLeast(1),
        "Most partitions of the cluster; creating more is refused."),
    Row("placement.slots", Int, Some("64"), Between(1, 65_535),
        "Placement slots of the cluster, fixed when the data directory is formatted. Partitions belong to slots, slots to cores."),
    Row("producer.id.expiration.ms", Int, Some("86400000"), AtLeast(1),
        "The sequence state of a producer that has been silent for this long is dropped."),
    Row("queued.max.request.bytes", Long, Some("-1"), AtLeast(-1),
        "Memory for requests that are being received, all shards together, where a connection that brings more is closed; -1: a quarter of the memory the process may use, at most 4 GiB."),
    Row("journal.bypass.bytes", Int, Some("65536"), Between(4096, 1 << 20),
        "More than this for one partition at once goes to its segment itself, with a flush of its own, instead of through the journal."),
    Row("journal.memory.bytes", Long, Some("67108864"), AtLeast(1 << 20),
        "Journaled records of each shard and data directory that may be in memory only, on their way to their segments; beyond it producers wait."),
    Row("journal.size", Long, Some("268435456"), Between(256 << 10, 1 << 36),
        "What the journal of each shard and data directory grows to; the mapped journal for `os` and `interval` topics to no more than 64 MiB of it."),
    Row("shard.nice", Int, Some("-5"), Between(-20, 0),
        "The nice value of the threads that serve clients, so that the kernel's copying and flushing for them does not come before small \
         requests; 0: that of the process. Root and whoever has RLIMIT_NICE may have less than 0."),
    Row("shard.tail.cache.bytes", Long, Some("67108864"), AtLeast(1 << 20),
        "Memory for recent records on each shard, from which most reads are served. Taken as it is needed."),
    Row("slow.request.us", Long, Some("100000"), AtLeast(0),
        "A request that takes longer than this is kept, with its stages, for `corelog trace slow`. The wait of a long poll does not count. May be changed while the broker runs."),
    Row("socket.request.max.bytes", Int, Some("104857600"), Between(1024, i32::MAX as i64),
        "Largest request; a connection that announces a larger one is closed."),
];

const ALIASES: &[(&str, &[&str])] =
    &[("listeners", &["listen"]), ("log.dirs", &["log.dir", "data.dir"]), ("node.id", &["broker.id"])];

/// Those of [`OWN`] that may be changed while the broker runs. Topic settings' defaults say so in the topic table.
const RELOADABLE: &[&str] = &["balancer.enable", "slow.request.us"];

/// Every broker setting, by name.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let own = OWN.iter().map(|&Row(name, kind, default, check, help)| Setting {
            name,
            aliases: ALIASES.iter().find(|(of, _)| *of == name).map_or(&[], |(_, aliases)| aliases),
            kind,
            unit: Unit::of_name(name),
            default,
            check,
            reloadable: RELOADABLE.contains(&name),
            topic_setting: None,
            help,
        });
        let defaults = TOPIC_SETTINGS.iter().flat_map(|topic| {
            topic.synonyms.iter().map(move |synonym| Setting {
                name: synonym.name,
                aliases: &[],
                kind: synonym.kind,
                unit: Unit::of_name(synonym.name),
                default: synonym.default,
                check: synonym.check.unwrap_or(topic.check),
                reloadable: synonym.reloadable,
                topic_setting: Some(topic.name),
                help: topic.help,
            })
        });
        let mut settings: Vec<Setting> = own.chain(defaults).collect();
        settings.sort_by_key(|setting| setting.name);
        settings
    })
}

/// The broker setting of this name or alias.
pub fn setting(name: &str) -> Option<&'static Setting> {
    let settings = settings();
    match settings.binary_search_by(|setting| setting.name.cmp(name)) {
        Ok(index) => Some(&settings[index]),
        Err(_) => settings.iter().find(|setting| setting.aliases.contains(&name)),
    }
}

/// The known name nearest to `name`, if it is near enough to have been meant: at most a third of its letters differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= name.len().max(candidate.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The broker setting that `name` was probably meant to be, or the topic setting that a broker setting is the default of.
pub fn nearest_setting(name: &str) -> Option<&'static str> {
    let of_broker = settings().iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied()));
    let of_topics = TOPIC_SETTINGS.iter().filter(|topic| !topic.synonyms.is_empty()).map(|topic| topic.name);
    nearest(name, of_broker.chain(of_topics))
}

/// Insertions, deletions and substitutions that turn `a` into `b` (Levenshtein), in one row of memory.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_pass_their_own_checks() {
        let names = settings().iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied()));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        for setting in settings() {
            if let Some(default) = setting.default {
                let parsed = Value::parse(setting.name, setting.kind, setting.check, default);
                assert_eq!(parsed.map(|v| v.to_string()).as_deref(), Ok(default), "{}", setting.name);
            }
        }
    }

    #[test]
    fn aliases_lead_to_their_setting() {
        assert_eq!(setting("listen").map(|s| s.name), Some("listeners"));
        assert_eq!(setting("log.dir").map(|s| s.name), Some("log.dirs"));
        assert_eq!(setting("log.retention.hours").map(|s| s.topic_setting), Some(Some("retention.ms")));
        assert!(setting("no.such.name").is_none());
    }

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let check = |name: &str, expected| assert_eq!(nearest_setting(name), expected, "{name}");
        check("num.partition", Some("num.partitions"));
        check("log.retension.ms", Some("log.retention.ms"));
        check("listners", Some("listeners"));
        check("auto.create.topic.enable", Some("auto.create.topics.enable"));
        check("zookeeper.connect", None);
        // A topic's: nearer than `log.write.path`.
        check("wrte.path", Some("write.path"));
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
