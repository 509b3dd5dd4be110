//! Offsets that groups have committed: read and written, once, by whoever calls.

use std::collections::BTreeMap;

use crate::model::{Offset, TopicName, TopicPartition};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::cluster::{Cluster, Lane};
use super::connection::Connection;
use super::coordinator::{self, subject};
use super::error::ClientError;

/// Newer versions name topics by id, which a commit for a topic that is gone does not have.
const NEWEST_WITH_NAMES: i16 = 9;

/// From this version on, several groups are asked for at once (KIP-709).
const SEVERAL_GROUPS: i16 = 8;

/// From this version on, `require_stable` is known (KIP-447).
const REQUIRE_STABLE: i16 = 7;

/// From this version on, leader epochs are kept (KIP-320).
const COMMITS_EPOCHS: i16 = 6;

const COMMITS_INSTANCES: i16 = 7;

/// An offset that a group has committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    /// Of the next record to read.
    pub offset: Offset,
    /// Of the record before it; -1 where it was not told.
    pub leader_epoch: i32,
    /// The committer's own words.
    pub metadata: String,
}

impl CommittedOffset {
    pub fn at(offset: Offset) -> CommittedOffset {
        CommittedOffset { offset, leader_epoch: -1, metadata: String::new() }
    }
}

/// Who commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Committer {
    /// Somebody outside the group; brokers refuse it while the group has members.
    Nobody,
    Member {
        generation: i32,
        member_id: String,
        instance_id: Option<String>,
    },
}

/// A result for each partition; `None` where nothing is committed.
pub(super) type Committed = BTreeMap<TopicPartition, Result<Option<CommittedOffset>, ClientError>>;

/// Asks a group's coordinator for some partitions, or all (`None`).
pub(super) async fn fetch(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<Committed, ClientError> {
    let node = coordinator::find(cluster, group).await?;
    fetch_from(&cluster.connection_to(&node.address, Lane::Main).await?, group, partitions).await
}

pub(super) async fn fetch_from(
    connection: &Connection,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<Committed, ClientError> {
    let api = ApiKey::OffsetFetch;
    let version = connection.version_at_most(api, NEWEST_WITH_NAMES)?;
    let topics = partitions.map(|partitions| {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        topics
    });
    let request = if version >= SEVERAL_GROUPS {
        let topics = topics.map(|topics| {
            let topics = topics.into_iter().map(|(name, indexes)| OffsetFetchRequestTopics {
                name,
                partition_indexes: indexes.into(),
                ..Default::default()
            });
            topics.collect::<Vec<_>>().into()
        });
        let group = OffsetFetchRequestGroup { group_id: group, topics, ..Default::default() };
        OffsetFetchRequest { groups: vec![group].into(), require_stable: true, ..Default::default() }
    } else {
        let topics = topics.map(|topics| {
            let topics = topics
                .into_iter()
                .map(|(name, indexes)| OffsetFetchRequestTopic { name, partition_indexes: indexes.into() });
            topics.collect::<Vec<_>>().into()
        });
        let require_stable = version >= REQUIRE_STABLE;
        OffsetFetchRequest { group_id: group, topics, require_stable, ..Default::default() }
    };
    let answer = connection.submit(&request, version, connection.request_timeout()).await?;
    let response: OffsetFetchResponse<'_> = answer.decode()?;
    let told = if version >= SEVERAL_GROUPS {
        // Taken for a group without offsets, it would be read from elsewhere.
        let missing = || ClientError::left_out(api, subject(group));
        response.groups.iter().find(|told| &*told.group_id == group).ok_or_else(missing)?
    } else {
        OffsetFetchResponseGroup {
            topics: response.topics.iter().map(of_one_group).collect(),
            error_code: response.error_code,
            ..Default::default()
        }
    };
    ClientError::check(api, subject(group), told.error_code, None)?;
    let mut each = Committed::new();
    for topic in &told.topics {
        let name = TopicName::from(topic.name.as_str());
        for told in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), told.partition_index);
            let committed = CommittedOffset {
                offset: told.committed_offset,
                leader_epoch: told.committed_leader_epoch,
                metadata: told.metadata.as_deref().unwrap_or("").to_owned(),
            };
            let checked = ClientError::check(api, partition.to_string(), told.error_code, None);
            each.insert(partition, checked.map(|()| (committed.offset >= 0).then_some(committed)));
        }
    }
    Ok(each)
}

/// An old answer, which is about one group, in the words of those about several.
fn of_one_group<'a>(topic: OffsetFetchResponseTopic<'a>) -> OffsetFetchResponseTopics<'a> {
    let partition = |told: OffsetFetchResponsePartition<'a>| OffsetFetchResponsePartitions {
        partition_index: told.partition_index,
        committed_offset: told.committed_offset,
        committed_leader_epoch: told.committed_leader_epoch,
        metadata: told.metadata,
        error_code: told.error_code,
    };
    OffsetFetchResponseTopics {
        name: topic.name,
        partitions: topic.partitions.iter().map(partition).collect(),
        ..Default::default()
    }
}

/// Commits offsets at a group's coordinator.
pub(super) async fn commit(
    cluster: &Cluster,
    group: &str,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
    let node = coordinator::find(cluster, group).await?;
    commit_at(&cluster.connection_to(&node.address, Lane::Main).await?, group, committer, offsets).await
}

/// Errors: what all partitions have in common, such as a coordinator that moved or a generation that is over.
pub(super) async fn commit_at(
    connection: &Connection,
    group: &str,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
    let api = ApiKey::OffsetCommit;
    let version = connection.version_at_most(api, NEWEST_WITH_NAMES)?;
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
    for (partition, committed) in offsets {
        topics.entry(&partition.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: committed.offset,
            committed_leader_epoch: if version >= COMMITS_EPOCHS { committed.leader_epoch } else { -1 },
            committed_metadata: Some(&committed.metadata),
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name,
        partitions: partitions.into(),
        ..Default::default()
    });
    let (generation, member_id, instance_id) = match committer {
        Committer::Nobody => (-1, "", None),
        Committer::Member { generation, member_id, instance_id } => {
            (*generation, member_id.as_str(), instance_id.as_deref())
        }
    };
    let request = OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: generation,
        member_id,
        group_instance_id: instance_id.filter(|_| version >= COMMITS_INSTANCES),
        retention_time_ms: -1,
        topics: topics.collect::<Vec<_>>().into(),
    };
    let answer = connection.submit(&request, version, connection.request_timeout()).await?;
    let response: OffsetCommitResponse<'_> = answer.decode()?;
    let mut each = BTreeMap::new();
    for topic in &response.topics {
        let name = TopicName::from(topic.name.as_str());
        for told in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), told.partition_index);
            if let Some(error) = about_the_group(group, told.error_code) {
                return Err(error);
            }
            let checked = ClientError::check(api, partition.to_string(), told.error_code, None);
            each.insert(partition, checked);
        }
    }
    Ok(each)
}

/// Errors that are the same for every partition of a commit.
fn about_the_group(group: &str, code: i16) -> Option<ClientError> {
    let is_common = matches!(
        ErrorCode::from_code(code)?,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::InvalidGroupId
            | ErrorCode::RequestTimedOut
    );
    is_common.then(|| ClientError::refused(ApiKey::OffsetCommit, subject(group), code, None))?
}
