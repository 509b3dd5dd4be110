//! Topics and their partitions.

use std::collections::BTreeMap;

use crate::client::cluster::Topic;
use crate::client::error::ClientError;
use crate::model::{NodeId, TopicId, TopicName};
use crate::protocol::ApiKey;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};

use super::asking::{Target, for_all, unless_misdirected};
use super::{Admin, Each};

/// From this version on, topics to delete are structures and not names.
const DELETE_BY_STATE: i16 = 6;

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// `None`: the broker's `num.partitions`.
    pub partition_count: Option<i32>,
    /// `None`: the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, leader first; instead of the two counts.
    pub assignments: Vec<Vec<NodeId>>,
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic as the broker's defaults make it.
    pub fn new(name: impl Into<String>) -> NewTopic {
        NewTopic { name: name.into(), ..NewTopic::default() }
    }

    pub fn partitions(mut self, count: i32) -> NewTopic {
        self.partition_count = Some(count);
        self
    }

    pub fn replication_factor(mut self, factor: i16) -> NewTopic {
        self.replication_factor = Some(factor);
        self
    }

    /// Sets a setting of the topic; a later call with the same name wins.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// What became of a [`NewTopic`]. Counts are `None` where the broker is too old to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partition_count: Option<i32>,
    pub replication_factor: Option<i16>,
}

/// A topic in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicListing {
    pub name: TopicName,
    pub id: TopicId,
    pub is_internal: bool,
    pub partition_count: usize,
}

fn subject(name: &str) -> String {
    format!("topic {name}")
}

fn asked(name: &str) -> (TopicName, String) {
    (TopicName::from(name), subject(name))
}

impl Admin {
    /// Creates topics.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Each<TopicName, CreatedTopic>, ClientError> {
        self.make_topics(topics, false).await
    }

    /// Says whether the topics could be created; creates none.
    pub async fn validate_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Each<TopicName, CreatedTopic>, ClientError> {
        self.make_topics(topics, true).await
    }

    async fn make_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Each<TopicName, CreatedTopic>, ClientError> {
        let api = ApiKey::CreateTopics;
        let compose = |_version| CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect::<Vec<_>>().into(),
            timeout_ms: self.broker_timeout_ms(),
            validate_only,
        };
        let answer = self.ask(Target::Controller, i16::MAX, compose, |answer| {
            let response: CreateTopicsResponse<'_> = answer.decode()?;
            let first = response.topics.first();
            unless_misdirected(first.and_then(|t| ClientError::refused(api, "", t.error_code, None)))
        });
        let answer = answer.await?;
        let response: CreateTopicsResponse<'_> = answer.decode()?;
        let each = response.topics.iter().map(|told| {
            let name = TopicName::from(told.name.as_str());
            let checked =
                ClientError::check(api, subject(&name), told.error_code, told.error_message.as_deref());
            let created = CreatedTopic {
                id: told.topic_id,
                partition_count: Some(told.num_partitions).filter(|count| *count >= 0),
                replication_factor: Some(told.replication_factor).filter(|factor| *factor >= 0),
            };
            (name, checked.map(|()| created))
        });
        Ok(for_all(api, each.collect(), topics.iter().map(|topic| asked(&topic.name))))
    }

    /// Deletes topics, with all their records.
    pub async fn delete_topics(&self, names: &[&str]) -> Result<Each<TopicName, ()>, ClientError> {
        let api = ApiKey::DeleteTopics;
        let compose = |version| {
            let timeout_ms = self.broker_timeout_ms();
            if version >= DELETE_BY_STATE {
                let topics =
                    names.iter().map(|name| DeleteTopicState { name: Some(*name), ..Default::default() });
                DeleteTopicsRequest {
                    topics: topics.collect::<Vec<_>>().into(),
                    timeout_ms,
                    ..Default::default()
                }
            } else {
                DeleteTopicsRequest { topic_names: names.into(), timeout_ms, ..Default::default() }
            }
        };
        let answer = self.ask(Target::Controller, i16::MAX, compose, |answer| {
            let response: DeleteTopicsResponse<'_> = answer.decode()?;
            let first = response.responses.first();
            unless_misdirected(first.and_then(|t| ClientError::refused(api, "", t.error_code, None)))
        });
        let answer = answer.await?;
        let response: DeleteTopicsResponse<'_> = answer.decode()?;
        let each = response.responses.iter().filter_map(|told| {
            let name = TopicName::from(told.name.as_deref()?);
            let checked =
                ClientError::check(api, subject(&name), told.error_code, told.error_message.as_deref());
            Some((name, checked))
        });
        Ok(for_all(api, each.collect(), names.iter().map(|name| asked(name))))
    }

    /// Raises the number of partitions of topics to `count` each. Keys go elsewhere from then on.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<TopicName, i32>,
    ) -> Result<Each<TopicName, ()>, ClientError> {
        let api = ApiKey::CreatePartitions;
        let compose = |_version| {
            let topics = counts.iter().map(|(name, count)| CreatePartitionsTopic {
                name,
                count: *count,
                assignments: None,
            });
            CreatePartitionsRequest {
                topics: topics.collect::<Vec<_>>().into(),
                timeout_ms: self.broker_timeout_ms(),
                validate_only: false,
            }
        };
        let answer = self.ask(Target::Controller, i16::MAX, compose, |answer| {
            let response: CreatePartitionsResponse<'_> = answer.decode()?;
            let first = response.results.first();
            unless_misdirected(first.and_then(|t| ClientError::refused(api, "", t.error_code, None)))
        });
        let answer = answer.await?;
        let response: CreatePartitionsResponse<'_> = answer.decode()?;
        let each = response.results.iter().map(|told| {
            let name = TopicName::from(told.name.as_str());
            let checked =
                ClientError::check(api, subject(&name), told.error_code, told.error_message.as_deref());
            (name, checked)
        });
        Ok(for_all(api, each.collect(), counts.keys().map(|name| asked(name))))
    }

    /// All topics, by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, ClientError> {
        let image = self.describe(None).await?;
        let listing = |topic: &Topic| TopicListing {
            name: topic.name.clone(),
            id: topic.id,
            is_internal: topic.is_internal,
            partition_count: topic.partitions.len(),
        };
        Ok(image.topics.values().map(|topic| listing(topic)).collect())
    }

    /// Topics with the leaders and replicas of their partitions.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Each<TopicName, Topic>, ClientError> {
        let names: Vec<TopicName> = names.iter().map(|name| TopicName::from(*name)).collect();
        let image = self.describe(Some(&names)).await?;
        let described = image.topics.iter().map(|(name, topic)| (name.clone(), Ok((**topic).clone())));
        let refused = image.refused_topics.iter().filter_map(|(name, code)| {
            let error = ClientError::refused(ApiKey::Metadata, subject(name), *code, None)?;
            Some((name.clone(), Err(error)))
        });
        Ok(described.chain(refused).collect())
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic<'_> {
    let assignments: Vec<CreatableReplicaAssignment<'_>> = topic
        .assignments
        .iter()
        .zip(0..)
        .map(|(replicas, partition_index)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: replicas.iter().map(|node| node.0).collect::<Vec<_>>().into(),
        })
        .collect();
    CreatableTopic {
        name: &topic.name,
        // With assignments the counts must be -1 (Kafka protocol guide, CreateTopics).
        num_partitions: if assignments.is_empty() { topic.partition_count.unwrap_or(-1) } else { -1 },
        replication_factor: if assignments.is_empty() { topic.replication_factor.unwrap_or(-1) } else { -1 },
        assignments: assignments.into(),
        configs: topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
            .collect::<Vec<_>>()
            .into(),
    }
}
