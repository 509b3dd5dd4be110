//! `corelog config`: show, set and delete settings of topics and brokers.

use std::collections::BTreeMap;

use serde_json::json;

use super::arguments::{Config, Subject};
use super::remote::{self, RemoteError};
use super::table::Table;
use super::topic::alter_settings;
use crate::client::Admin;
use crate::client::admin::{ConfigChange, ConfigResource, ConfigSource};
use crate::model::NodeId;

/// Runs the command and returns what it prints.
pub fn run(command: &Config) -> Result<String, RemoteError> {
    remote::run(async {
        match command {
            Config::Show { subject, all, connection } => {
                let admin = connection.admin().await?;
                let resource = resource(&admin, subject).await?;
                let is_wanted = |source| *all || source != ConfigSource::Default;
                Ok(connection.table(&setting_table(&admin, &resource, is_wanted).await?))
            }
            Config::Set { subject, settings, connection } => {
                let admin = connection.admin().await?;
                let resource = resource(&admin, subject).await?;
                let done = format!("set {} of {resource}", names(settings.iter().map(|(name, _)| name)));
                let changes = settings.iter().map(|(name, value)| ConfigChange::set(name, value)).collect();
                alter_settings(&admin, resource.clone(), changes).await?;
                let set: BTreeMap<_, _> = settings.iter().cloned().collect();
                Ok(connection.done(&done, json!({ "of": resource.to_string(), "set": set })))
            }
            Config::Delete { subject, settings, connection } => {
                let admin = connection.admin().await?;
                let resource = resource(&admin, subject).await?;
                let done = format!("{} of {resource} back at the default", names(settings.iter()));
                let changes = settings.iter().map(ConfigChange::delete).collect();
                alter_settings(&admin, resource.clone(), changes).await?;
                Ok(connection.done(&done, json!({ "of": resource.to_string(), "deleted": settings })))
            }
        }
    })
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What is meant. A topic has to be there, so that a slip in its name is told with the nearest ones.
async fn resource(admin: &Admin, subject: &Subject) -> Result<ConfigResource, RemoteError> {
    match (&subject.topic, subject.broker_id) {
        (Some(name), _) => {
            remote::topic(admin, name).await?;
            Ok(ConfigResource::topic(name.as_str()))
        }
        (None, Some(id)) => Ok(ConfigResource::Broker(NodeId(id))),
        // The command line has one of the three.
        (None, None) => Ok(ConfigResource::AllBrokers),
    }
}

/// The settings of a resource whose values come from where `is_wanted` says.
pub(super) async fn setting_table(
    admin: &Admin,
    resource: &ConfigResource,
    is_wanted: impl Fn(ConfigSource) -> bool,
) -> Result<Table, RemoteError> {
    let mut table = Table::new(&["setting", "value", "from"]);
    for (_, entries) in admin.describe_configs(std::slice::from_ref(resource)).await? {
        for entry in entries?.into_iter().filter(|entry| is_wanted(entry.source)) {
            table.push(vec![json!(entry.name), json!(entry.value), json!(from(entry.source))]);
        }
    }
    Ok(table)
}

/// Where a value comes from, for people.
fn from(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::DynamicBroker => "broker, at run time",
        ConfigSource::DynamicAllBrokers => "cluster, at run time",
        ConfigSource::StaticBroker => "broker, at start",
        ConfigSource::Default => "default",
        ConfigSource::DynamicBrokerLogger => "broker's logger",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Group => "group",
        ConfigSource::Unknown(_) => "elsewhere",
    }
}
