//! Settings of the clients: Kafka's names, units and defaults, checked when built.
//!
//! *Owns* one table of what all clients share ([`CLIENT`]) and one for each kind of client; each fact is said once. A name
//! that no table has is an error with the nearest one, and so are two settings that cannot both hold. What Kafka names by a
//! class (serializers, interceptors, assignors of one's own) is code here, given to the builders.
//!
//! ```
//! use corelog::client::{ProducerSettings, SettingError};
//!
//! let settings = ProducerSettings::builder().set("bootstrap.servers", "broker:9092").set("linger.ms", 20).build()?;
//! assert_eq!(settings.linger.as_millis(), 20);
//!
//! let error = ProducerSettings::from_pairs([("linger", "20")]).unwrap_err();
//! assert_eq!(error.to_string(), "there is no setting `linger`; did you mean `linger.ms`?");
//!
//! let error = ProducerSettings::from_pairs([("enable.idempotence", "true"), ("acks", "1")]).unwrap_err();
//! assert!(error.to_string().starts_with("`enable.idempotence` = `true` contradicts `acks` = `1`"));
//! # Ok::<(), SettingError>(())
//! ```

mod admin;
mod client;
mod consumer;
mod producer;
mod reset;
mod table;

pub use admin::{ADMIN, AdminSettings};
pub use client::{CLIENT, ClientSettings, SaslMechanism, Security, TlsSettings};
pub use consumer::{AssignorKind, CONSUMER, ConsumerSettings};
pub use producer::{Acks, PRODUCER, PartitionerKind, ProducerSettings};
pub use reset::{InvalidReset, OffsetReset};
pub use table::{Given, Setting, SettingError, markdown_table, row};

/// Makes settings of one kind from pairs of names and values.
type FromPairs<S> = fn(Vec<(String, String)>) -> Result<S, SettingError>;

/// Collects pairs; `build` checks them.
#[derive(Clone, Debug)]
pub struct SettingsBuilder<S> {
    pairs: Vec<(String, String)>,
    build: FromPairs<S>,
}

impl<S> SettingsBuilder<S> {
    /// A builder of settings that `build` makes from pairs.
    pub fn new(build: FromPairs<S>) -> SettingsBuilder<S> {
        SettingsBuilder { pairs: Vec::new(), build }
    }

    /// Sets `name`; a later call with the same name wins.
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> SettingsBuilder<S> {
        self.pairs.push((name.into(), value.to_string()));
        self
    }

    /// As many calls of [`SettingsBuilder::set`].
    pub fn set_all<K: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> SettingsBuilder<S> {
        self.pairs.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    pub fn build(self) -> Result<S, SettingError> {
        (self.build)(self.pairs)
    }
}
