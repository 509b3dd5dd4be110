//! `corelog cluster describe`: which brokers there are.

use serde_json::json;

use super::arguments::Connection;
use super::remote::{self, RemoteError};
use super::table::{Table, counted, json_text};

/// Runs the command and returns what it prints.
pub fn run(connection: &Connection) -> Result<String, RemoteError> {
    remote::run(async {
        let admin = connection.admin().await?;
        let cluster = admin.describe_cluster().await?;
        let topics = admin.list_topics().await?;
        let partitions: usize = topics.iter().map(|topic| topic.partition_count).sum();
        let mut table = Table::new(&["broker", "address", "rack", "controller"]);
        for node in &cluster.nodes {
            let is_controller = cluster.controller == Some(node.id);
            table.push(vec![
                json!(node.id.0),
                json!(node.address.to_string()),
                json!(node.rack.as_deref()),
                json!(is_controller),
            ]);
        }
        if connection.json {
            return Ok(json_text(&json!({
                "cluster_id": cluster.cluster_id.as_deref(),
                "brokers": table.to_json(),
                "topics": topics.len(),
                "partitions": partitions,
            })));
        }
        let id = cluster.cluster_id.as_deref().unwrap_or("without an id");
        let [brokers, topics, partitions] =
            [(cluster.nodes.len(), "broker"), (topics.len(), "topic"), (partitions, "partition")]
                .map(|(count, noun)| counted(count as u64, noun));
        Ok(format!("cluster {id}: {brokers}, {topics}, {partitions}\n\n{}", table.to_text()))
    })
}
