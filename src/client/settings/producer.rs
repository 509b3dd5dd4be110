//! Settings of the producer.

use std::time::Duration;

use crate::config::Check::{Any, AtLeast, Between, OneOf};
use crate::config::Kind::{Boolean, Int, Long, String as Text};
use crate::record::Codec;

use super::SettingsBuilder;
use super::client::{CLIENT, ClientSettings};
use super::table::{Given, Setting, SettingError, row};

/// More requests in flight than this and a broker, which remembers five batches a producer, could not tell a duplicate.
/// Source: Apache Kafka, `ProducerConfig.MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION_FOR_IDEMPOTENCE`.
const IN_FLIGHT_MAX_FOR_IDEMPOTENCE: u32 = 5;

/// Source of names and defaults: Apache Kafka 4.3, `ProducerConfig`.
#[rustfmt::skip]
pub static PRODUCER: &[Setting] = &[
    row("acks", Text, Some("all"), OneOf(&["all", "-1", "0", "1"]),
        "Who must have a record before it counts as sent: nobody (0), the leader (1), all replicas in sync (all)."),
    row("batch.size", Int, Some("16384"), AtLeast(0),
        "Bytes up to which records of a partition are collected into one batch; 0: each record is one."),
    row("buffer.memory", Long, Some("33554432"), AtLeast(0),
        "Bytes of records that may wait to be sent or acknowledged; beyond it, sending waits for `max.block.ms`."),
    row("compression.gzip.level", Int, Some("-1"), crate::config::Check::BetweenOr(1, 9, -1),
        "1 fast to 9 small; -1: the codec's default."),
    row("compression.lz4.level", Int, Some("9"), Between(1, 17),
        "Accepted for other clients' sake; there is one level here, the fastest."),
    row("compression.type", Text, Some("none"), OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        "How batches are compressed."),
    row("compression.zstd.level", Int, Some("3"), Between(-131_072, 22),
        "Low is fast, 22 is small."),
    row("delivery.timeout.ms", Int, Some("120000"), AtLeast(0),
        "A record that is not acknowledged after this time has failed, retries and waiting included."),
    row("enable.idempotence", Boolean, Some("true"), Any,
        "Each record is appended once and in order, whatever is sent again."),
    row("linger.ms", Long, Some("5"), AtLeast(0),
        "How long a batch that is not full waits for more records."),
    row("max.block.ms", Long, Some("60000"), AtLeast(0),
        "How long sending waits for room in `buffer.memory` and for a topic to be known."),
    row("max.in.flight.requests.per.connection", Int, Some("5"), AtLeast(1),
        "Requests to one broker without an answer yet."),
    row("max.request.size", Int, Some("1048576"), AtLeast(0),
        "Largest request and largest record, before compression."),
    row("partitioner.adaptive.partitioning.enable", Boolean, Some("true"), Any,
        "Records without a key go less often to partitions whose brokers are slow."),
    row("partitioner.availability.timeout.ms", Long, Some("0"), AtLeast(0),
        "A broker that took no request for this time gets no records without a key; 0: it still does."),
    row("partitioner.class", Text, Some("default"), OneOf(&["default", "round-robin"]),
        "Who chooses a record's partition: by key, or sticking to one while a batch fills; or each in turn."),
    row("partitioner.ignore.keys", Boolean, Some("false"), Any,
        "Treat records with a key like those without."),
    row("retries", Int, Some("2147483647"), Between(0, i32::MAX as i64),
        "How often a batch is sent again; `delivery.timeout.ms` usually ends it first."),
    row("transaction.timeout.ms", Int, Some("60000"), AtLeast(1),
        "How long a transaction may stay open. Transactions are not offered yet."),
    row("transactional.id", Text, None, Any,
        "Names the producer across restarts, for transactions. Transactions are not offered yet."),
];

/// Who must have a record before it counts as sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Nobody: the broker does not answer at all.
    None,
    Leader,
    /// All replicas in sync.
    All,
}

impl Acks {
    /// The number in the request.
    pub fn on_the_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Who chooses a record's partition, unless the caller brings a partitioner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionerKind {
    /// Murmur2 of the key; without one, the same partition until a batch's worth of bytes went there.
    Default,
    RoundRobin,
}

/// Settings of a producer, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct ProducerSettings {
    pub client: ClientSettings,
    pub acks: Acks,
    pub batch_size_bytes: usize,
    pub buffer_memory_bytes: usize,
    pub compression: Codec,
    /// Of the codec that is used; `None`: the codec's default.
    pub compression_level: Option<i32>,
    pub delivery_timeout: Duration,
    pub idempotence: bool,
    pub linger: Duration,
    pub max_block: Duration,
    pub in_flight_max: usize,
    pub request_bytes_max: usize,
    pub partitioner: PartitionerKind,
    pub partitioner_adaptive: bool,
    /// `None`: brokers are always taken to be available.
    pub partitioner_availability_timeout: Option<Duration>,
    pub partitioner_ignores_keys: bool,
    pub retries: u32,
}

impl ProducerSettings {
    pub fn builder() -> SettingsBuilder<ProducerSettings> {
        SettingsBuilder::new(ProducerSettings::from_pairs)
    }

    /// Checks the pairs and fills in defaults. Errors: an unknown name, a value out of its range, two that contradict.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ProducerSettings, SettingError> {
        let given = Given::read(&[CLIENT, PRODUCER], pairs)?;
        if let Some(id) = given.text_if_set("transactional.id") {
            return Err(SettingError::NotOffered {
                name: "transactional.id",
                value: id.to_owned(),
                why: "transactions are not offered yet; without it the producer is idempotent within one run",
            });
        }
        let client = ClientSettings::from_given(&given)?;
        if given.number("batch.size") > given.number("buffer.memory") {
            return Err(given.contradiction("batch.size", "buffer.memory", "not one batch would fit"));
        }
        let acks = match given.text("acks") {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        };
        let codec = codec(given.text("compression.type"));
        let availability = given.millis("partitioner.availability.timeout.ms");
        Ok(ProducerSettings {
            idempotence: idempotence(&given, acks)?,
            delivery_timeout: delivery_timeout(&given, client.request_timeout)?,
            client,
            acks,
            batch_size_bytes: given.size("batch.size"),
            buffer_memory_bytes: given.size("buffer.memory"),
            compression: codec,
            compression_level: compression_level(&given, codec),
            linger: given.millis("linger.ms"),
            max_block: given.millis("max.block.ms"),
            in_flight_max: given.size("max.in.flight.requests.per.connection"),
            request_bytes_max: given.size("max.request.size"),
            partitioner: match given.text("partitioner.class") {
                "round-robin" => PartitionerKind::RoundRobin,
                _ => PartitionerKind::Default,
            },
            partitioner_adaptive: given.flag("partitioner.adaptive.partitioning.enable"),
            partitioner_availability_timeout: (!availability.is_zero()).then_some(availability),
            partitioner_ignores_keys: given.flag("partitioner.ignore.keys"),
            retries: given.count("retries"),
        })
    }
}

fn codec(name: &str) -> Codec {
    match name {
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        _ => Codec::None,
    }
}

fn compression_level(given: &Given, codec: Codec) -> Option<i32> {
    let level = |name| i32::try_from(given.number(name)).ok();
    match codec {
        Codec::Gzip => level("compression.gzip.level").filter(|level| *level != -1),
        Codec::Zstd => level("compression.zstd.level"),
        Codec::None | Codec::Snappy | Codec::Lz4 => None,
    }
}

/// On by default. Where another setting rules it out, it is off, unless the caller asked for it: that is a contradiction.
fn idempotence(given: &Given, acks: Acks) -> Result<bool, SettingError> {
    const NAME: &str = "enable.idempotence";
    if !given.flag(NAME) {
        return Ok(false);
    }
    let in_flight = given.count("max.in.flight.requests.per.connection");
    let obstacles = [
        (acks != Acks::All, "acks", "only with all replicas does a broker know what it has"),
        (given.count("retries") == 0, "retries", "without retries there is nothing that could be done twice"),
        (
            in_flight > IN_FLIGHT_MAX_FOR_IDEMPOTENCE,
            "max.in.flight.requests.per.connection",
            "a broker remembers five batches a producer, so at most five may be in flight",
        ),
    ];
    match obstacles.into_iter().find(|(stands, ..)| *stands) {
        None => Ok(true),
        Some((_, name, why)) if given.is_explicit(NAME) => Err(given.contradiction(NAME, name, why)),
        Some(_) => Ok(false),
    }
}

/// Not below what one try may take. A default that is too short for longer waits that the caller asked for grows with them.
fn delivery_timeout(given: &Given, request_timeout: Duration) -> Result<Duration, SettingError> {
    const NAME: &str = "delivery.timeout.ms";
    let least = given.millis("linger.ms") + request_timeout;
    let timeout = given.millis(NAME);
    if timeout >= least {
        return Ok(timeout);
    }
    if given.is_explicit(NAME) {
        let other = if given.millis("linger.ms") > timeout { "linger.ms" } else { "request.timeout.ms" };
        return Err(given.contradiction(
            NAME,
            other,
            "it must be at least `linger.ms` and `request.timeout.ms` together, or not one try could end",
        ));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pairs: &[(&str, &str)]) -> String {
        ProducerSettings::from_pairs(pairs.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_kafkas() {
        let settings = ProducerSettings::from_pairs::<&str, &str>([]).unwrap();
        assert_eq!((settings.acks, settings.idempotence, settings.in_flight_max), (Acks::All, true, 5));
        assert_eq!((settings.batch_size_bytes, settings.buffer_memory_bytes), (16_384, 33_554_432));
        assert_eq!((settings.linger.as_millis(), settings.delivery_timeout.as_secs()), (5, 120));
        assert_eq!((settings.compression, settings.request_bytes_max), (Codec::None, 1_048_576));
        assert_eq!(settings.client.bootstrap[0].to_string(), "127.0.0.1:9092");
        assert_eq!(settings.partitioner_availability_timeout, None);
    }

    #[test]
    fn every_default_passes_its_own_check_and_names_are_unique() {
        let rows: Vec<&Setting> = CLIENT.iter().chain(PRODUCER).collect();
        for setting in &rows {
            if let Some(default) = setting.default {
                let value = crate::config::Value::parse(setting.name, setting.kind, setting.check, default);
                assert!(value.is_ok(), "{}: {value:?}", setting.name);
            }
            assert!(setting.help.ends_with('.'), "{}", setting.name);
            assert_eq!(rows.iter().filter(|other| other.name == setting.name).count(), 1, "{}", setting.name);
        }
        for table in [CLIENT, PRODUCER] {
            assert!(table.is_sorted_by_key(|setting| setting.name));
        }
    }

    #[test]
    fn unknown_names_are_answered_with_the_nearest() {
        let check = |name: &str, expected: &str| assert_eq!(error(&[(name, "1")]), expected);
        check("batchsize", "there is no setting `batchsize`; did you mean `batch.size`?");
        check(
            "delivery.timeout",
            "there is no setting `delivery.timeout`; did you mean `delivery.timeout.ms`?",
        );
        check("völlig.anders.und.lang", "there is no setting `völlig.anders.und.lang`");
    }

    #[test]
    fn values_are_checked() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = error(&[(name, value)]);
            assert!(error.contains(expected), "{error}");
        };
        check("acks", "2", "`acks` = `2`: String must be one of: all, -1, 0, 1");
        check("linger.ms", "-1", "Value must be at least 0; allowed: >= 0");
        check("linger.ms", "5ms", "Not a number of type LONG");
        check("enable.idempotence", "yes", "true or false");
        check("bootstrap.servers", "", "is no list of HOST:PORT");
        check("bootstrap.servers", "a:1,b", "`a:1,b` is no list of HOST:PORT");
        check("transactional.id", "t", "transactions are not offered yet");
        check("security.protocol", "SASL_SSL", "needs `ssl.truststore.location`");
        check("security.protocol", "SASL_PLAINTEXT", "needs `sasl.username`");
    }

    #[test]
    fn contradictions_name_both_sides() {
        let check = |pairs: &[(&str, &str)], expected: &[&str]| {
            let error = error(pairs);
            assert!(expected.iter().all(|text| error.contains(text)), "{error}");
        };
        let on = ("enable.idempotence", "true");
        check(&[on, ("acks", "1")], &["`enable.idempotence` = `true`", "`acks` = `1`"]);
        check(&[on, ("retries", "0")], &["`retries` = `0`"]);
        check(
            &[on, ("max.in.flight.requests.per.connection", "6")],
            &["`max.in.flight.requests.per.connection` = `6`", "at most five"],
        );
        check(
            &[("delivery.timeout.ms", "30000")],
            &["`delivery.timeout.ms` = `30000`", "`request.timeout.ms` = `30000`"],
        );
        check(&[("batch.size", "2000"), ("buffer.memory", "1000")], &["`batch.size` = `2000`", "`1000`"]);
        check(&[("sasl.username", "me")], &["`sasl.username` = `me`", "`security.protocol` = `PLAINTEXT`"]);
    }

    #[test]
    fn idempotence_yields_where_it_was_not_asked_for() {
        let idempotence = |name, value| ProducerSettings::from_pairs([(name, value)]).unwrap().idempotence;
        assert!(idempotence("acks", "-1"));
        assert!(!idempotence("acks", "1"));
        assert!(!idempotence("acks", "0"));
        assert!(!idempotence("retries", "0"));
        assert!(!idempotence("max.in.flight.requests.per.connection", "6"));
    }

    #[test]
    fn the_default_delivery_timeout_grows_with_longer_waits() {
        let settings = ProducerSettings::builder().set("request.timeout.ms", 200_000).build().unwrap();
        assert_eq!(settings.delivery_timeout.as_millis(), 200_005);
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings = ProducerSettings::builder()
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.username", "me")
            .set("sasl.password", "secret")
            .build()
            .unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
