//! Where brokers keep their logs.

use std::sync::Arc;

use crate::client::error::ClientError;
use crate::model::{NodeId, TopicPartition};
use crate::protocol::ApiKey;
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};

use super::asking::{Target, anything};
use super::{Admin, Each};

/// A data directory of a broker.
#[derive(Clone, Debug)]
pub struct LogDir {
    pub path: Arc<str>,
    /// Why it is of no use now, if it is not.
    pub failure: Option<ClientError>,
    pub replicas: Vec<LogDirReplica>,
    /// Of its file system; `None` where the broker does not tell.
    pub total_bytes: Option<i64>,
    pub usable_bytes: Option<i64>,
}

/// A partition's replica in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDirReplica {
    pub partition: TopicPartition,
    pub size_bytes: i64,
    /// How far it is behind: its end to the high watermark, or to the replica that it will replace.
    pub offset_lag: i64,
    /// Being copied from another directory.
    pub is_future: bool,
}

impl Admin {
    /// The directories of all brokers, or of some.
    pub async fn describe_log_dirs(
        &self,
        nodes: Option<&[NodeId]>,
    ) -> Result<Each<NodeId, Vec<LogDir>>, ClientError> {
        let nodes: Vec<NodeId> = match nodes {
            Some(nodes) => nodes.to_vec(),
            None => self.describe_cluster().await?.nodes.into_iter().map(|node| node.id).collect(),
        };
        let mut each = Each::new();
        for node in nodes {
            each.insert(node, self.log_dirs_of(node).await);
        }
        Ok(each)
    }

    async fn log_dirs_of(&self, node: NodeId) -> Result<Vec<LogDir>, ClientError> {
        let compose = |_version| DescribeLogDirsRequest { topics: None };
        let answer = self.ask(Target::Node(node), i16::MAX, compose, anything).await?;
        let response: DescribeLogDirsResponse<'_> = answer.decode()?;
        let subject = format!("broker {node}");
        ClientError::check(ApiKey::DescribeLogDirs, subject, response.error_code, None)?;
        Ok(response.results.iter().map(log_dir).collect())
    }
}

fn log_dir(told: DescribeLogDirsResult<'_>) -> LogDir {
    let known = |bytes: i64| (bytes >= 0).then_some(bytes);
    let replicas = told.topics.iter().flat_map(|topic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.to_vec().into_iter().map(move |replica| LogDirReplica {
            partition: TopicPartition::new(name.clone(), replica.partition_index),
            size_bytes: replica.partition_size,
            offset_lag: replica.offset_lag,
            is_future: replica.is_future_key,
        })
    });
    LogDir {
        replicas: replicas.collect(),
        path: told.log_dir.as_str().into(),
        failure: ClientError::refused(ApiKey::DescribeLogDirs, told.log_dir.as_str(), told.error_code, None),
        total_bytes: known(told.total_bytes),
        usable_bytes: known(told.usable_bytes),
    }
}
