//! What the commands that ask brokers have in common: settings, runtime, interrupts, errors with their remedy, and what is
//! said beside the result.

mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::arguments::{Connection, Remote};
use super::table::{Table, json_text};
use crate::client::admin::{IsolationLevel, OffsetSpec};
use crate::client::cluster::Topic;
use crate::client::settings::{ADMIN, CLIENT, CONSUMER, PRODUCER, Setting};
use crate::client::{Admin, AdminSettings, TopicPartition};
use crate::config;
use crate::model::Offset;
use crate::protocol::ErrorCode;

pub use error::RemoteError;

/// The name under which brokers know the commands, unless the settings give another.
const CLIENT_ID: &str = "corelog-cli";

/// The exit code after SIGINT, as a shell tells of a process that it ended.
pub const INTERRUPTED: u8 = 130;

/// How a command came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Done,
    /// By SIGINT, and what was begun was brought to an end.
    Interrupted,
}

impl Remote {
    /// What the file and the options say, for a client that knows `tables`. Settings of other kinds of clients are passed
    /// over, so that one file does for all; what no client knows stays, to be refused with the nearest name.
    pub fn pairs(
        &self,
        tables: &[&'static [Setting]],
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<(String, String)>, RemoteError> {
        let knows = |tables: &[&'static [Setting]], name: &str| {
            tables.iter().any(|table| table.iter().any(|setting| setting.name == name))
        };
        let is_wanted =
            |name: &str| knows(tables, name) || !knows(&[CLIENT, ADMIN, PRODUCER, CONSUMER], name);
        let mut pairs = vec![("client.id".to_owned(), CLIENT_ID.to_owned())];
        if let Some(path) = &self.config {
            let written = config::read_settings(path).map_err(RemoteError::File)?;
            let wanted = written.into_iter().filter(|written| is_wanted(&written.name));
            pairs.extend(wanted.map(|written| (written.name, written.value)));
        }
        if let Some(bootstrap) = &self.bootstrap {
            pairs.push(("bootstrap.servers".to_owned(), bootstrap.clone()));
        }
        pairs.extend(options);
        Ok(pairs)
    }

    /// A client for administration that has reached a broker: who is not there is told at once, not after all retries.
    pub async fn admin(&self, timeout: Option<Duration>) -> Result<Admin, RemoteError> {
        let times = timeout.into_iter().flat_map(|timeout| {
            let all = timeout.as_millis();
            [("default.api.timeout.ms", all), ("request.timeout.ms", all.min(30_000))]
        });
        let times = times.map(|(name, value)| (name.to_owned(), value.to_string()));
        let admin = Admin::new(AdminSettings::from_pairs(self.pairs(&[CLIENT, ADMIN], times)?)?)?;
        admin.cluster().describe(Some(&[])).await?;
        Ok(admin)
    }
}

impl Connection {
    pub async fn admin(&self) -> Result<Admin, RemoteError> {
        self.remote.admin(self.timeout.map(Duration::from_secs)).await
    }

    /// What a command says that has done something.
    pub fn done(&self, text: &str, json: Value) -> String {
        if self.json { json_text(&json) } else { format!("{text}\n") }
    }

    pub fn table(&self, table: &Table) -> String {
        if self.json { json_text(&table.to_json()) } else { table.to_text() }
    }
}

/// The topic, or an error that names those with a similar name.
pub async fn topic(admin: &Admin, name: &str) -> Result<Topic, RemoteError> {
    match admin.describe_topics(&[name]).await?.remove(name) {
        Some(Ok(topic)) => Ok(topic),
        Some(Err(error)) if error.error_code() != Some(ErrorCode::UnknownTopicOrPartition) => {
            Err(error.into())
        }
        _ => {
            let topics = admin.list_topics().await?;
            let names = topics.iter().filter(|topic| !topic.is_internal).map(|topic| &*topic.name);
            Err(RemoteError::UnknownTopic { name: name.to_owned(), nearest: nearest(name, names) })
        }
    }
}

/// Offsets of partitions, asked of those who lead them.
pub async fn offsets(
    admin: &Admin,
    partitions: impl IntoIterator<Item = TopicPartition>,
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, Offset>, RemoteError> {
    let wanted = partitions.into_iter().map(|partition| (partition, spec)).collect();
    let mut offsets = BTreeMap::new();
    for (partition, found) in admin.list_offsets(&wanted, isolation).await {
        offsets.extend(found?.map(|found| (partition, found.offset)));
    }
    Ok(offsets)
}

/// The names that may have been meant, the nearest first: a few at most.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    const COUNT_MAX: usize = 3;
    let mut left: Vec<&str> = known.collect();
    let mut found = Vec::new();
    while let Some(next) = config::nearest(name, left.iter().copied())
        && found.len() < COUNT_MAX
    {
        found.push(next.to_owned());
        left.retain(|known| *known != next);
    }
    found
}

/// Runs a command on a runtime of its own. A thread that waits for input when it ends is left behind.
pub fn run<T>(command: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(RemoteError::Runtime)?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// Says something beside the result, on standard error. Where nobody takes it, nobody misses it.
pub fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "corelog: {line}"));
}

/// Counts SIGINT, instead of being ended by it.
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From now on the first `heard_max` are counted. The one after them ends the process, whatever it waits for. Must be
    /// called on a tokio runtime.
    pub fn watch(heard_max: u32) -> Result<Interrupts, RemoteError> {
        let (sender, receiver) = watch::channel(0);
        let mut signals = signal(SignalKind::interrupt()).map_err(RemoteError::Runtime)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_modify(|count| *count += 1);
                if *sender.borrow() > heard_max {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
        Ok(Interrupts(receiver))
    }

    pub fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Ready once there were so many.
    pub async fn reached(&self, count: u32) {
        if self.0.clone().wait_for(|now| *now >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_strangers_do_not() {
        let known = ["order", "orders", "billing", "orders2", "ordersx"];
        assert_eq!(nearest("ordrs", known.into_iter()), ["orders", "orders2", "ordersx"]);
        assert!(nearest("zzz", known.into_iter()).is_empty());
    }

    #[test]
    fn a_file_may_hold_the_settings_of_all_clients() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.properties");
        std::fs::write(&path, "acks=1\nauto.offset.reset=earliest\nlinger=3\nbootstrap.servers=a:1\n")
            .unwrap();
        let remote = Remote { bootstrap: Some("b:2".to_owned()), config: Some(path) };
        let pairs = remote.pairs(&[CLIENT, ADMIN], []).unwrap();
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["client.id", "linger", "bootstrap.servers", "bootstrap.servers"]);
        assert_eq!(pairs[3].1, "b:2", "the option wins over the file");
        let error = RemoteError::from(AdminSettings::from_pairs(pairs).unwrap_err());
        assert!(error.is_usage() && error.to_string().contains("`linger`"), "{error}");
    }
}
