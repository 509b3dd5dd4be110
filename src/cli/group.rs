//! `corelog group`: list, describe, reset, delete.

use serde_json::{Value, json};

use super::arguments::{Connection, Group};
use super::consume::Begin;
use super::remote::{self, RemoteError, nearest};
use super::table::{Table, counted, json_text};
use crate::client::admin::{GroupDescription, MemberDescription, ResetTo};
use crate::client::{Admin, ClientError};
use crate::protocol::ErrorCode;

/// As Kafka calls the state of a group that is not there.
const DEAD: &str = "Dead";

/// Runs the command and returns what it prints.
pub fn run(command: &Group) -> Result<String, RemoteError> {
    remote::run(async {
        match command {
            Group::List { connection } => list(connection).await,
            Group::Describe { names, connection } => describe(connection, names).await,
            Group::Reset { name, topics, to, shift_by, execute, connection } => {
                let to = match (to, shift_by) {
                    (_, Some(by)) => ResetTo::ShiftBy(*by),
                    (Some(Begin::End), None) => ResetTo::Latest,
                    (Some(Begin::Offset(offset)), None) => ResetTo::Offset(*offset),
                    (Some(Begin::Timestamp(moment)), None) => ResetTo::Timestamp(*moment),
                    // The command line refuses a count before the end, and has one of the two.
                    (Some(Begin::Begin | Begin::Last(_)) | None, None) => ResetTo::Earliest,
                };
                reset(connection, name, topics, to, *execute).await
            }
            Group::Delete { names, connection } => delete(connection, names).await,
        }
    })
}

async fn list(connection: &Connection) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let mut table = Table::new(&["group", "state", "type", "protocol"]);
    let listings = admin.list_groups().await?;
    // Half a list looks like a whole one.
    if let Some((_, error)) = listings.failures.into_iter().next() {
        return Err(error.into());
    }
    for group in listings.groups {
        table.push(vec![json!(group.id), json!(group.state), json!(group.kind), json!(group.protocol_type)]);
    }
    Ok(connection.table(&table))
}

/// The group, or an error with those that have a similar name. One without members may still have offsets.
async fn described(admin: &Admin, name: &str) -> Result<GroupDescription, RemoteError> {
    let is_missing = |error: &ClientError| error.error_code() == Some(ErrorCode::GroupIdNotFound);
    match admin.describe_group(name).await {
        Ok(group) if group.state != DEAD => return Ok(group),
        Ok(group) if !admin.group_offsets(name).await?.is_empty() => return Ok(group),
        Ok(_) => {}
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let groups = admin.list_groups().await?.groups;
    let nearest = nearest(name, groups.iter().map(|group| group.id.as_str()));
    Err(RemoteError::UnknownGroup { name: name.to_owned(), nearest })
}

async fn describe(connection: &Connection, names: &[String]) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    let mut text = String::new();
    let mut all = Vec::new();
    for name in names {
        let group = described(&admin, name).await?;
        let member_table = member_table(&group.members);
        let partitions = lag_table(&admin, name).await?;
        let members = counted(group.members.len() as u64, "member");
        text += &format!("group {name}: {}, {members}", group.state);
        text += &match group.protocol.as_str() {
            "" => "\n\n".to_owned(),
            assignor => format!(", assignor {assignor}\n\n"),
        };
        if !member_table.is_empty() {
            text += &member_table.to_text();
            text.push('\n');
        }
        text +=
            &if partitions.is_empty() { "no committed offsets\n".to_owned() } else { partitions.to_text() };
        text.push('\n');
        all.push(json!({
            "name": name,
            "state": group.state,
            "assignor": group.protocol,
            "members": member_table.to_json(),
            "partitions": partitions.to_json(),
        }));
    }
    Ok(if connection.json { json_text(&Value::Array(all)) } else { text.trim_end().to_owned() + "\n" })
}

fn member_table(members: &[MemberDescription]) -> Table {
    let mut table = Table::new(&["member", "client", "host", "partitions"]);
    for member in members {
        let assigned: Vec<String> = member.assignment.iter().map(ToString::to_string).collect();
        table.push(vec![
            json!(member.member_id),
            json!(member.client_id),
            json!(member.host),
            json!(assigned),
        ]);
    }
    table
}

/// Committed offset, end and lag of every partition that has a committed offset or an owner.
async fn lag_table(admin: &Admin, name: &str) -> Result<Table, RemoteError> {
    let mut table = Table::new(&["topic", "partition", "committed", "next offset", "lag", "member"]);
    for row in admin.group_lag(name).await? {
        let owner = row.member.as_ref().map_or("-", |member| &member.member_id);
        table.push(vec![
            json!(&*row.partition.topic),
            json!(row.partition.partition),
            json!(row.committed),
            json!(row.end),
            json!(row.lag),
            json!(owner),
        ]);
    }
    Ok(table)
}

async fn reset(
    connection: &Connection,
    name: &str,
    topics: &[String],
    to: ResetTo,
    execute: bool,
) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    for topic in topics {
        remote::topic(&admin, topic).await?;
    }
    if topics.is_empty() {
        // A group that is not there has nothing to reset; with topics it is made by it.
        described(&admin, name).await?;
    }
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let planned = admin.plan_reset(name, &topics, to).await?;
    if execute {
        for (_, result) in admin.reset_offsets(name, &planned).await? {
            result?;
        }
    }
    let mut table = Table::new(&["topic", "partition", "from", "to"]);
    for reset in &planned {
        let partition = &reset.partition;
        table.push(vec![
            json!(&*partition.topic),
            json!(partition.partition),
            json!(reset.from),
            json!(reset.to),
        ]);
    }
    if connection.json {
        return Ok(json_text(&json!({ "group": name, "executed": execute, "partitions": table.to_json() })));
    }
    let end = match (planned.is_empty(), execute) {
        (true, _) => "the group has no offsets; --topic gives it some",
        (false, true) => "done",
        (false, false) => "nothing was changed; --execute does it",
    };
    Ok(format!("{}\n{end}\n", table.to_text()))
}

async fn delete(connection: &Connection, names: &[String]) -> Result<String, RemoteError> {
    let admin = connection.admin().await?;
    for name in names {
        described(&admin, name).await?;
    }
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    for (_, result) in admin.delete_groups(&asked).await {
        result?;
    }
    Ok(connection.done(&format!("deleted {}", names.join(", ")), json!({ "deleted": names })))
}
