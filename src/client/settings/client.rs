//! What all clients share: where the brokers are, how to reach them, how long to wait.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::backoff::Backoff;
use crate::config::Check::{Any, AtLeast, Between, OneOf};
use crate::config::Kind::{Int, List, Long, Password, String as Text};
use crate::config::{Address, Check};

use super::table::{Given, Setting, SettingError, row};

const I32: Check = Between(0, i32::MAX as i64);

/// Source of names and defaults: Apache Kafka 4.3, `CommonClientConfigs`, `SaslConfigs`, `SslConfigs`; of
/// `sasl.username`, `sasl.password` and `ssl.*.location` in PEM: librdkafka and KIP-651.
#[rustfmt::skip]
pub static CLIENT: &[Setting] = &[
    row("bootstrap.servers", List, Some("127.0.0.1:9092"), Any,
        "Brokers to ask first, as HOST:PORT; the others are learnt from them."),
    row("client.id", Text, Some(""), Any,
        "The name under which brokers log and count this client."),
    row("connections.max.idle.ms", Long, Some("540000"), AtLeast(-1),
        "A connection that nothing was asked over for this time is closed; -1: never."),
    row("metadata.max.age.ms", Long, Some("300000"), AtLeast(0),
        "What the cluster looks like is asked again after this time, even if nothing seems to have changed."),
    row("metadata.max.idle.ms", Long, Some("300000"), AtLeast(5000),
        "A topic that was not used for this time is forgotten."),
    row("metadata.recovery.rebootstrap.trigger.ms", Long, Some("300000"), AtLeast(0),
        "If no known broker has answered for this time, `bootstrap.servers` are asked again."),
    row("metadata.recovery.strategy", Text, Some("rebootstrap"), OneOf(&["none", "rebootstrap"]),
        "Whether `bootstrap.servers` are asked again when no known broker answers."),
    row("receive.buffer.bytes", Int, Some("65536"), AtLeast(-1),
        "SO_RCVBUF of the sockets; -1: as the kernel likes."),
    row("reconnect.backoff.max.ms", Long, Some("1000"), AtLeast(0),
        "Longest wait before a broker that cannot be reached is tried again."),
    row("reconnect.backoff.ms", Long, Some("50"), AtLeast(0),
        "First wait before a broker that cannot be reached is tried again; doubled after each failure, with jitter."),
    row("request.timeout.ms", Int, Some("30000"), I32,
        "A request without an answer after this time has failed, and its connection with it."),
    row("retry.backoff.max.ms", Long, Some("1000"), AtLeast(0),
        "Longest wait before a failed request is sent again."),
    row("retry.backoff.ms", Long, Some("100"), AtLeast(0),
        "First wait before a failed request is sent again; doubled after each failure, with jitter."),
    row("sasl.mechanism", Text, Some("PLAIN"), OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        "How to log in, where `security.protocol` asks for a login."),
    row("sasl.password", Password, None, Any,
        "The password to log in with."),
    row("sasl.username", Text, None, Any,
        "The name to log in with."),
    row("security.protocol", Text, Some("PLAINTEXT"), OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        "Whether connections are encrypted and whether they log in."),
    row("send.buffer.bytes", Int, Some("131072"), AtLeast(-1),
        "SO_SNDBUF of the sockets; -1: as the kernel likes."),
    row("socket.connection.setup.timeout.max.ms", Long, Some("30000"), AtLeast(1),
        "Longest time for a connection to be made."),
    row("socket.connection.setup.timeout.ms", Long, Some("10000"), AtLeast(1),
        "Time for a connection to be made, login and TLS included; doubled after each failure."),
    row("ssl.endpoint.identification.algorithm", Text, Some("https"), OneOf(&["https", ""]),
        "Whether the broker's certificate must be for the host that was asked for; empty: no."),
    row("ssl.key.password", Password, None, Any,
        "The password of the private key; encrypted keys are not read, so this is an error."),
    row("ssl.keystore.location", Text, None, Any,
        "A PEM file with this client's certificate and private key, for brokers that ask for one."),
    row("ssl.truststore.location", Text, None, Any,
        "A PEM file with the certificates of the authorities to trust."),
];

/// What all clients share.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientSettings {
    /// At least one.
    pub bootstrap: Vec<Address>,
    pub client_id: String,
    /// `None`: never.
    pub connections_max_idle: Option<Duration>,
    pub metadata_max_age: Duration,
    pub metadata_max_idle: Duration,
    /// `None`: never.
    pub rebootstrap_after: Option<Duration>,
    pub request_timeout: Duration,
    pub retry_backoff: Backoff,
    pub reconnect_backoff: Backoff,
    pub connection_setup_timeout: Duration,
    pub connection_setup_timeout_max: Duration,
    /// `None`: as the kernel likes.
    pub send_buffer_bytes: Option<u32>,
    /// `None`: as the kernel likes.
    pub receive_buffer_bytes: Option<u32>,
    pub security: Security,
}

/// How connections are protected.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Security {
    /// `None`: in the clear.
    pub tls: Option<TlsSettings>,
    /// `None`: no login.
    pub sasl: Option<SaslMechanism>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// A PEM file with authorities.
    pub truststore: PathBuf,
    /// A PEM file with a certificate chain and its private key.
    pub keystore: Option<PathBuf>,
    pub checks_host: bool,
}

/// A login. Never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain { username: String, password: String },
    ScramSha256 { username: String, password: String },
    ScramSha512 { username: String, password: String },
}

impl SaslMechanism {
    /// The name in SaslHandshake.
    pub fn name(&self) -> &'static str {
        match self {
            SaslMechanism::Plain { .. } => "PLAIN",
            SaslMechanism::ScramSha256 { .. } => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 { .. } => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Debug for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ClientSettings {
    /// The settings of a client that is no producer and no consumer.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ClientSettings, SettingError> {
        ClientSettings::from_given(&Given::read(&[CLIENT], pairs)?)
    }

    /// The shared part of a larger table's values.
    pub fn from_given(given: &Given) -> Result<ClientSettings, SettingError> {
        let buffer = |name| u32::try_from(given.number(name)).ok();
        let wait = |first, longest| Backoff { first: given.millis(first), longest: given.millis(longest) };
        let rebootstraps = given.text("metadata.recovery.strategy") == "rebootstrap";
        let setup = given.millis("socket.connection.setup.timeout.ms");
        let setup_max = given.millis("socket.connection.setup.timeout.max.ms");
        if setup > setup_max && given.is_explicit("socket.connection.setup.timeout.max.ms") {
            let (first, second) =
                ("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms");
            return Err(given.contradiction(first, second, "the first time is above the longest"));
        }
        Ok(ClientSettings {
            bootstrap: bootstrap(given)?,
            client_id: given.text("client.id").to_owned(),
            connections_max_idle: u64::try_from(given.number("connections.max.idle.ms"))
                .ok()
                .map(Duration::from_millis),
            metadata_max_age: given.millis("metadata.max.age.ms"),
            metadata_max_idle: given.millis("metadata.max.idle.ms"),
            rebootstrap_after: rebootstraps.then(|| given.millis("metadata.recovery.rebootstrap.trigger.ms")),
            request_timeout: given.millis("request.timeout.ms"),
            retry_backoff: wait("retry.backoff.ms", "retry.backoff.max.ms"),
            reconnect_backoff: wait("reconnect.backoff.ms", "reconnect.backoff.max.ms"),
            connection_setup_timeout: setup,
            connection_setup_timeout_max: setup_max.max(setup),
            send_buffer_bytes: buffer("send.buffer.bytes"),
            receive_buffer_bytes: buffer("receive.buffer.bytes"),
            security: security(given)?,
        })
    }
}

fn bootstrap(given: &Given) -> Result<Vec<Address>, SettingError> {
    let list = given.list("bootstrap.servers");
    let wrong = || SettingError::Bootstrap { value: list.join(",") };
    let addresses: Option<Vec<Address>> = list.iter().map(|text| Address::parse(text)).collect();
    addresses.filter(|addresses| !addresses.is_empty()).ok_or_else(wrong)
}

fn security(given: &Given) -> Result<Security, SettingError> {
    let protocol = given.text("security.protocol");
    let needs = |name: &'static str| match given.text_if_set(name) {
        Some(text) => Ok(text.to_owned()),
        None => Err(SettingError::Incomplete {
            name: "security.protocol",
            value: protocol.to_owned(),
            missing: name,
        }),
    };
    let tls = if protocol.ends_with("SSL") {
        if given.text_if_set("ssl.key.password").is_some() {
            return Err(SettingError::NotOffered {
                name: "ssl.key.password",
                value: "(hidden)".to_owned(),
                why: "encrypted private keys are not read; give one in the clear, readable by this user alone",
            });
        }
        Some(TlsSettings {
            truststore: needs("ssl.truststore.location")?.into(),
            keystore: given.text_if_set("ssl.keystore.location").map(PathBuf::from),
            checks_host: !given.text("ssl.endpoint.identification.algorithm").is_empty(),
        })
    } else {
        None
    };
    let sasl = if protocol.starts_with("SASL") {
        let (username, password) = (needs("sasl.username")?, needs("sasl.password")?);
        Some(match given.text("sasl.mechanism") {
            "PLAIN" => SaslMechanism::Plain { username, password },
            "SCRAM-SHA-256" => SaslMechanism::ScramSha256 { username, password },
            _ => SaslMechanism::ScramSha512 { username, password },
        })
    } else if given.is_explicit("sasl.username") || given.is_explicit("sasl.password") {
        return Err(given.contradiction(
            "sasl.username",
            "security.protocol",
            "without SASL nobody logs in, and the password would not be used",
        ));
    } else {
        None
    };
    Ok(Security { tls, sasl })
}
