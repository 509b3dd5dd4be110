//! `corelog topic`: create, list, describe, alter, delete.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::arguments::{Connection, Topic};
use super::config::setting_table;
use super::remote::{self, RemoteError};
use super::table::{Table, counted, json_text};
use crate::client::admin::{
    ConfigChange, ConfigResource, ConfigSource, IsolationLevel, NewTopic, OffsetSpec,
};
use crate::client::cluster::Topic as Told;
use crate::client::{Admin, TopicPartition};
use crate::model::{NodeId, TopicName};
use crate::protocol::ErrorCode;

/// Runs the command and returns what it prints.
pub fn run(command: &Topic) -> Result<String, RemoteError> {
    remote::run(async {
        match command {
            Topic::Create { name, partitions, replication_factor, settings, if_not_exists, connection } => {
                let topic = NewTopic {
                    name: name.clone(),
                    partition_count: *partitions,
                    replication_factor: *replication_factor,
                    configs: settings.iter().cloned().collect(),
                    ..NewTopic::default()
                };
                create(connection, topic, *if_not_exists).await
            }
            Topic::List { internal, connection } => list(connection, *internal).await,
            Topic::Describe { names, connection } => describe(connection, names).await,
            Topic::Alter { name, partitions, settings, delete_settings, connection } => {
                let admin = connection.admin().await?;
                remote::topic(&admin, name).await?;
                let set = settings.iter().map(|(name, value)| ConfigChange::set(name, value));
                let changes = set.chain(delete_settings.iter().map(ConfigChange::delete)).collect();
                // Settings first: they can be refused for more reasons, and adding partitions cannot be taken back.
                alter_settings(&admin, ConfigResource::topic(name.as_str()), changes).await?;
                if let Some(count) = partitions {
                    let counts = BTreeMap::from([(TopicName::from(name.as_str()), *count)]);
                    for (_, result) in admin.create_partitions(&counts).await? {
                        result?;
                    }
                }
                Ok(connection.done(&format!("altered topic {name}"), json!({ "altered": name })))
            }
            Topic::Delete { names, connection } => delete(connection, names).await,
        }
    })
}

/// Makes the changes, if there are any.
pub(super) async fn alter_settings(
    admin: &Admin,
    resource: ConfigResource,
    changes: Vec<ConfigChange>,
) -> Result<(), RemoteError> {
    if changes.is_empty() {
        return Ok(());
    }
    for (_, result) in admin.alter_configs(&BTreeMap::from([(resource, changes)])).await? {
        result?;
    }
    Ok(())
}

async fn create(
    connection: &Connection,
    topic: NewTopic,
    if_not_exists: bool,
) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let name = topic.name.clone();
    let mut each = admin.create_topics(&[topic]).await?;
    let created = match each.remove(name.as_str()).expect("a result for each topic that was asked for") {
        Err(error) if if_not_exists && error.error_code() == Some(ErrorCode::TopicAlreadyExists) => {
            let text = format!("topic {name} is there already");
            return Ok(connection.done(&text, json!({ "existed": name })));
        }
        result => result?,
    };
    let partitions = created.partition_count.map(|count| counted(count.max(0) as u64, "partition"));
    let partitions = partitions.map_or_else(String::new, |partitions| format!(": {partitions}"));
    Ok(connection.done(
        &format!("created topic {name}{partitions}, id {}", created.id),
        json!({ "created": name, "id": created.id.to_string(), "partitions": created.partition_count }),
    ))
}

async fn list(connection: &Connection, with_internal: bool) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let mut table = Table::new(&["topic", "partitions", "replicas", "id"]);
    let listed = admin.list_topics().await?;
    let names: Vec<&str> =
        listed.iter().filter(|topic| with_internal || !topic.is_internal).map(|topic| &*topic.name).collect();
    // No names are no topics; asked for none, `describe_topics` tells of none.
    for (name, topic) in admin.describe_topics(&names).await? {
        // A topic that went meanwhile is not listed.
        let Ok(topic) = topic else { continue };
        let replicas = topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
        table.push(vec![
            json!(&*name),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(topic.id.to_string()),
        ]);
    }
    Ok(connection.table(&table))
}

async fn describe(connection: &Connection, names: &[String]) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let mut text = String::new();
    let mut all = Vec::new();
    for name in names {
        let topic = remote::topic(&admin, name).await?;
        let partitions = partition_table(&admin, &topic).await?;
        let is_set = |source| source != ConfigSource::Default;
        let settings = setting_table(&admin, &ConfigResource::topic(name.as_str()), is_set).await?;
        let count = counted(topic.partitions.len() as u64, "partition");
        text += &format!("topic {} ({}), {count}\n\n", topic.name, topic.id);
        text += &partitions.to_text();
        text += "\nsettings that are not at their default:\n";
        text += &if settings.is_empty() { "none\n".to_owned() } else { settings.to_text() };
        text.push('\n');
        all.push(json!({
            "name": &*topic.name,
            "id": topic.id.to_string(),
            "internal": topic.is_internal,
            "partitions": partitions.to_json(),
            "settings": settings.to_json(),
        }));
    }
    Ok(if connection.json { json_text(&Value::Array(all)) } else { text.trim_end().to_owned() + "\n" })
}

async fn partition_table(admin: &Admin, topic: &Told) -> Result<Table, RemoteError> {
    // A partition that nobody leads has offsets, and nobody to tell them.
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    let led: Vec<TopicPartition> =
        led.map(|partition| TopicPartition::new(topic.name.clone(), partition.index)).collect();
    let offsets = async |spec| remote::offsets(admin, led.clone(), spec, IsolationLevel::default()).await;
    let (starts, ends) = (offsets(OffsetSpec::Earliest).await?, offsets(OffsetSpec::Latest).await?);
    let ids = |nodes: &[NodeId]| json!(nodes.iter().map(|node| node.0).collect::<Vec<_>>());
    let mut table =
        Table::new(&["partition", "leader", "epoch", "replicas", "isr", "first offset", "next offset"]);
    for partition in &topic.partitions {
        let key = TopicPartition::new(topic.name.clone(), partition.index);
        table.push(vec![
            json!(partition.index),
            json!(partition.leader.map_or(-1, |leader| leader.0)),
            json!(partition.leader_epoch),
            ids(&partition.replicas),
            ids(&partition.in_sync),
            json!(starts.get(&key)),
            json!(ends.get(&key)),
        ]);
    }
    Ok(table)
}

async fn delete(connection: &Connection, names: &[String]) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    for (name, result) in admin.delete_topics(&asked).await? {
        match result {
            Err(error) if error.error_code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                // Tells which names are near, unless somebody has made the topic meanwhile.
                remote::topic(&admin, &name).await?;
                return Err(error.into());
            }
            result => result?,
        }
    }
    Ok(connection.done(&format!("deleted {}", names.join(", ")), json!({ "deleted": names })))
}
