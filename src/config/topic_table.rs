//! The table of topic settings: every topic config of Kafka 4.3, then corelog's own.
//!
//! Names, kinds, defaults, checks and broker synonyms are Kafka's. Sources: Apache Kafka 4.3.1,
//! `org.apache.kafka.storage.internals.log.LogConfig` and `org.apache.kafka.server.config.ServerTopicConfigSynonyms`.

use super::value::{Check, Kind};

/// One topic setting.
#[derive(Debug)]
pub struct TopicSetting {
    pub name: &'static str,
    pub kind: Kind,
    /// Applies when neither the topic nor the broker says otherwise.
    pub default: &'static str,
    pub check: Check,
    /// The broker settings that give the default, first one first.
    pub synonyms: &'static [Synonym],
    /// What it does today.
    pub effect: Effect,
    pub help: &'static str,
}

/// A broker setting that gives a topic setting its default.
#[derive(Debug)]
pub struct Synonym {
    pub name: &'static str,
    pub kind: Kind,
    /// The broker setting's own default; `None`: not set.
    pub default: Option<&'static str>,
    /// How many of the topic setting's units one of this setting's is.
    pub scale: i64,
    /// `None`: the topic setting's.
    pub check: Option<Check>,
    pub reloadable: bool,
}

/// Whether a topic setting does what it says yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Full,
    /// Accepted and described, but something of it is still to come: what, in words.
    Partial(&'static str),
    /// Accepted and described, nothing more.
    None,
    /// Accepted, never described; for tests.
    Internal,
}

const HOURS: i64 = 3_600_000;
const MINUTES: i64 = 60_000;
const NEVER: &str = "9223372036854775807";

/// A synonym in the same unit that can be changed while the broker runs.
const fn same(name: &'static str, kind: Kind, default: &'static str) -> Synonym {
    Synonym { name, kind, default: Some(default), scale: 1, check: None, reloadable: true }
}

/// As `same`, not set by default.
const fn unset(name: &'static str) -> Synonym {
    Synonym { name, kind: Kind::Long, default: None, scale: 1, check: None, reloadable: true }
}

/// A synonym in a coarser unit, or one that Kafka fixes at start.
const fn fixed(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    scale: i64,
    least: i64,
) -> Synonym {
    Synonym { name, kind, default, scale, check: Some(Check::AtLeast(least)), reloadable: false }
}

use Check::{Any, AtLeast, Between, BetweenOr, EachOneOf, OneOf, Real, ThrottledReplicas};
use Kind::{Boolean, Double, Int, List, Long, String};

/// Every topic setting, by name.
#[rustfmt::skip]
pub static TOPIC_SETTINGS: &[TopicSetting] = &[
    TopicSetting { name: "cleanup.policy", kind: List, default: "delete", check: EachOneOf(&["compact", "delete"]),
        synonyms: &[same("log.cleanup.policy", List, "delete")],
        effect: Effect::Partial("`compact` keeps everything"),
        help: "What happens to old segments: `delete` drops them by age and size, `compact` keeps the last record of each key; none of them keeps all." },
    TopicSetting { name: "compression.gzip.level", kind: Int, default: "-1", check: BetweenOr(1, 9, -1),
        synonyms: &[same("compression.gzip.level", Int, "-1")], effect: Effect::None,
        help: "Level when the broker recompresses with gzip." },
    TopicSetting { name: "compression.lz4.level", kind: Int, default: "9", check: Between(1, 17),
        synonyms: &[same("compression.lz4.level", Int, "9")], effect: Effect::None,
        help: "Level when the broker recompresses with lz4." },
    TopicSetting { name: "compression.type", kind: String, default: "producer",
        check: OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        synonyms: &[same("compression.type", String, "producer")],
        effect: Effect::Partial("batches are stored as the producer sent them"),
        help: "Compression of stored batches; `producer` keeps what the producer chose." },
    TopicSetting { name: "compression.zstd.level", kind: Int, default: "3", check: Between(-131_072, 22),
        synonyms: &[same("compression.zstd.level", Int, "3")], effect: Effect::None,
        help: "Level when the broker recompresses with zstd." },
    TopicSetting { name: "delete.retention.ms", kind: Long, default: "86400000", check: AtLeast(0),
        synonyms: &[same("log.cleaner.delete.retention.ms", Long, "86400000")], effect: Effect::None,
        help: "How long a compacted topic keeps the marker of a deleted key." },
    TopicSetting { name: "durability", kind: String, default: "fsync", check: OneOf(&["fsync", "interval", "os"]),
        synonyms: &[same("log.durability", String, "fsync")], effect: Effect::Full,
        help: "What an acknowledgement means: `fsync` flushed to the device, `interval` written and flushed every `flush.ms`, `os` written." },
    TopicSetting { name: "file.delete.delay.ms", kind: Long, default: "60000", check: AtLeast(0),
        synonyms: &[same("log.segment.delete.delay.ms", Long, "60000")], effect: Effect::None,
        help: "How long a removed segment stays on disk before its files are unlinked." },
    TopicSetting { name: "flush.messages", kind: Long, default: NEVER, check: AtLeast(1),
        synonyms: &[same("log.flush.interval.messages", Long, NEVER)], effect: Effect::Full,
        help: "Flush after this many records. Without `durability`: 1 means `fsync`, any other value `interval`." },
    TopicSetting { name: "flush.ms", kind: Long, default: NEVER, check: AtLeast(0),
        synonyms: &[unset("log.flush.interval.ms"), fixed("log.flush.scheduler.interval.ms", Long, Some(NEVER), 1, 0)],
        effect: Effect::Full,
        help: "Flush records this old; 1000 under `durability=interval` unless set. Without `durability` it means `interval`." },
    TopicSetting { name: "follower.replication.throttled.replicas", kind: List, default: "", check: ThrottledReplicas,
        synonyms: &[], effect: Effect::None,
        help: "Replicas whose fetching is throttled, as `partition:broker` pairs or `*`." },
    TopicSetting { name: "index.interval.bytes", kind: Int, default: "4096", check: AtLeast(0),
        synonyms: &[same("log.index.interval.bytes", Int, "4096")], effect: Effect::Full,
        help: "Log bytes between two entries of the offset index." },
    TopicSetting { name: "internal.segment.bytes", kind: Int, default: "0", check: Any,
        synonyms: &[], effect: Effect::Internal,
        help: "Segment size below the floor of `segment.bytes`, for tests of rolling." },
    TopicSetting { name: "leader.replication.throttled.replicas", kind: List, default: "", check: ThrottledReplicas,
        synonyms: &[], effect: Effect::None,
        help: "Replicas whose serving to followers is throttled, as `partition:broker` pairs or `*`." },
    TopicSetting { name: "local.retention.bytes", kind: Long, default: "-2", check: AtLeast(-2),
        synonyms: &[same("log.local.retention.bytes", Long, "-2")], effect: Effect::None,
        help: "Bytes kept on local disk when older segments are in remote storage; -2 follows `retention.bytes`." },
    TopicSetting { name: "local.retention.ms", kind: Long, default: "-2", check: AtLeast(-2),
        synonyms: &[same("log.local.retention.ms", Long, "-2")], effect: Effect::None,
        help: "Age kept on local disk when older segments are in remote storage; -2 follows `retention.ms`." },
    TopicSetting { name: "max.compaction.lag.ms", kind: Long, default: NEVER, check: AtLeast(1),
        synonyms: &[same("log.cleaner.max.compaction.lag.ms", Long, NEVER)], effect: Effect::None,
        help: "A record is compacted at the latest when it is this old." },
    TopicSetting { name: "max.message.bytes", kind: Int, default: "1048588", check: AtLeast(0),
        synonyms: &[same("message.max.bytes", Int, "1048588")], effect: Effect::Full,
        help: "Largest record batch, in bytes as stored." },
    TopicSetting { name: "message.timestamp.after.max.ms", kind: Long, default: "3600000", check: AtLeast(0),
        synonyms: &[same("log.message.timestamp.after.max.ms", Long, "3600000")], effect: Effect::Full,
        help: "How far ahead of the broker's clock a producer's timestamp may be." },
    TopicSetting { name: "message.timestamp.before.max.ms", kind: Long, default: NEVER, check: AtLeast(0),
        synonyms: &[same("log.message.timestamp.before.max.ms", Long, NEVER)], effect: Effect::Full,
        help: "How far behind the broker's clock a producer's timestamp may be." },
    TopicSetting { name: "message.timestamp.type", kind: String, default: "CreateTime",
        check: OneOf(&["CreateTime", "LogAppendTime"]),
        synonyms: &[same("log.message.timestamp.type", String, "CreateTime")], effect: Effect::Full,
        help: "Whose clock gives a record its timestamp: the producer's or, on append, the broker's." },
    TopicSetting { name: "min.cleanable.dirty.ratio", kind: Double, default: "0.5", check: Real(0.0, 1.0),
        synonyms: &[same("log.cleaner.min.cleanable.ratio", Double, "0.5")], effect: Effect::None,
        help: "Share of the log that must be uncompacted before compaction starts." },
    TopicSetting { name: "min.compaction.lag.ms", kind: Long, default: "0", check: AtLeast(0),
        synonyms: &[same("log.cleaner.min.compaction.lag.ms", Long, "0")], effect: Effect::None,
        help: "A record is not compacted before it is this old." },
    TopicSetting { name: "min.insync.replicas", kind: Int, default: "1", check: AtLeast(1),
        synonyms: &[same("min.insync.replicas", Int, "1")], effect: Effect::Full,
        help: "In-sync replicas without which `acks=all` is refused." },
    TopicSetting { name: "preallocate", kind: Boolean, default: "false", check: Any,
        synonyms: &[same("log.preallocate", Boolean, "false")],
        effect: Effect::Partial("space is reserved ahead of the tail in any case"),
        help: "Reserve a new segment's whole space when it is created." },
    TopicSetting { name: "remote.log.copy.disable", kind: Boolean, default: "false", check: Any,
        synonyms: &[], effect: Effect::None,
        help: "Stop copying segments to remote storage." },
    TopicSetting { name: "remote.log.delete.on.disable", kind: Boolean, default: "false", check: Any,
        synonyms: &[], effect: Effect::None,
        help: "Delete the topic's remote data when remote storage is switched off for it." },
    TopicSetting { name: "remote.storage.enable", kind: Boolean, default: "false", check: Any,
        synonyms: &[], effect: Effect::None,
        help: "Keep older segments in remote storage." },
    TopicSetting { name: "retention.bytes", kind: Long, default: "-1", check: Any,
        synonyms: &[same("log.retention.bytes", Long, "-1")], effect: Effect::Full,
        help: "Bytes a partition keeps before its oldest segments are deleted; -1: no bound." },
    TopicSetting { name: "retention.ms", kind: Long, default: "604800000", check: AtLeast(-1),
        synonyms: &[
            unset("log.retention.ms"),
            fixed("log.retention.minutes", Int, None, MINUTES, -1),
            fixed("log.retention.hours", Int, Some("168"), HOURS, -1),
        ],
        effect: Effect::Full,
        help: "Age, by largest record timestamp, at which a segment is deleted; -1: never." },
    TopicSetting { name: "segment.bytes", kind: Int, default: "1073741824", check: AtLeast(1 << 20),
        synonyms: &[same("log.segment.bytes", Int, "1073741824")], effect: Effect::Full,
        help: "Size at which a segment is closed and the next one begun." },
    TopicSetting { name: "segment.index.bytes", kind: Int, default: "10485760", check: AtLeast(4),
        synonyms: &[same("log.index.size.max.bytes", Int, "10485760")], effect: Effect::Full,
        help: "Size of a segment's offset index at which the segment is closed." },
    TopicSetting { name: "segment.jitter.ms", kind: Long, default: "0", check: AtLeast(0),
        synonyms: &[unset("log.roll.jitter.ms"), fixed("log.roll.jitter.hours", Int, Some("0"), HOURS, 0)],
        effect: Effect::Full,
        help: "Random time taken off `segment.ms`, so that segments do not all roll at once." },
    TopicSetting { name: "segment.ms", kind: Long, default: "604800000", check: AtLeast(1),
        synonyms: &[unset("log.roll.ms"), fixed("log.roll.hours", Int, Some("168"), HOURS, 1)],
        effect: Effect::Full,
        help: "Age at which a segment is closed even if it is not full." },
    TopicSetting { name: "unclean.leader.election.enable", kind: Boolean, default: "false", check: Any,
        synonyms: &[same("unclean.leader.election.enable", Boolean, "false")], effect: Effect::None,
        help: "Let a replica outside the in-sync set become leader, losing records." },
    TopicSetting { name: "write.path", kind: String, default: "auto", check: OneOf(&["auto", "journal", "direct", "page-cache"]),
        synonyms: &[same("log.write.path", String, "auto")],
        effect: Effect::Full,
        help: "How records reach the disk: `journal` (first the shard's journal, flushed; later the segment), `direct` (past the page cache into the segment, from its next roll on if it has records already), `page-cache` (the segment, flushed as `durability` says), `auto` (under `durability=fsync` `journal`, and `direct` where groups are above `journal.bypass.bytes` on the average; under `os` and `interval` `journal` for groups up to 32 KiB; else `page-cache`, and `direct` for groups above `journal.bypass.bytes` where that is seen to be faster). Without `fsync` the `journal` is one that is mapped into memory and not flushed." },
];

/// The topic setting of this name.
pub fn topic_setting(name: &str) -> Option<&'static TopicSetting> {
    TOPIC_SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|index| &TOPIC_SETTINGS[index])
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::*;

    #[test]
    fn table_is_sorted_and_its_defaults_pass_their_own_checks() {
        for pair in TOPIC_SETTINGS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for setting in TOPIC_SETTINGS {
            let default = Value::parse(setting.name, setting.kind, setting.check, setting.default);
            assert_eq!(default.map(|v| v.to_string()).as_deref(), Ok(setting.default), "{}", setting.name);
            // A topic's default and its broker synonym's must not drift apart.
            if let Some((text, scale)) = setting.synonyms.iter().find_map(|s| Some((s.default?, s.scale))) {
                let text = match text.parse::<i64>() {
                    Ok(number) if scale != 1 => (number * scale).to_string(),
                    _ => text.to_owned(),
                };
                assert_eq!(text, setting.default, "{}", setting.name);
            }
        }
    }

    #[test]
    fn all_33_topic_configs_of_kafka_4_3_are_known() {
        let own = ["durability", "write.path"];
        let described =
            TOPIC_SETTINGS.iter().filter(|s| s.effect != Effect::Internal && !own.contains(&s.name));
        assert_eq!(described.count(), 33);
    }
}
