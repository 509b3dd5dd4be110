//! Settings of the admin client.

use std::time::Duration;

use crate::config::Check::Between;
use crate::config::Kind::Int;

use super::SettingsBuilder;
use super::client::{CLIENT, ClientSettings};
use super::table::{Given, Setting, SettingError, row};

/// Source of names and defaults: Apache Kafka 4.3, `AdminClientConfig`.
#[rustfmt::skip]
pub static ADMIN: &[Setting] = &[
    row("default.api.timeout.ms", Int, Some("60000"), Between(0, i32::MAX as i64),
        "How long a call may take in all, its retries included."),
];

/// Settings of an admin client, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct AdminSettings {
    pub client: ClientSettings,
    pub api_timeout: Duration,
}

impl AdminSettings {
    pub fn builder() -> SettingsBuilder<AdminSettings> {
        SettingsBuilder::new(AdminSettings::from_pairs)
    }

    /// Checks the pairs and fills in defaults. Errors: an unknown name, a value out of its range, two that contradict.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<AdminSettings, SettingError> {
        let given = Given::read(&[CLIENT, ADMIN], pairs)?;
        let client = ClientSettings::from_given(&given)?;
        const NAME: &str = "default.api.timeout.ms";
        let api_timeout = given.millis(NAME);
        if api_timeout < client.request_timeout && given.is_explicit(NAME) {
            let why = "not one try could end";
            return Err(given.contradiction(NAME, "request.timeout.ms", why));
        }
        Ok(AdminSettings { api_timeout: api_timeout.max(client.request_timeout), client })
    }
}
