//! Offsets by time or by name, asked of the partitions' leaders.

use std::collections::BTreeMap;

use crate::model::{NodeId, Offset, Timestamp, TopicName, TopicPartition};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::cluster::{Cluster, Lane};
use super::error::{ClientError, Retriable};
use super::patience::Patience;

/// Which offset of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// The first that can be read.
    Earliest,
    /// The end: the next one to be written, or under `read_committed` the end of what is decided.
    Latest,
    /// Of the record with the largest timestamp. Needs Kafka 3.0 or newer.
    MaxTimestamp,
    /// Of the first record at this moment or after it, in milliseconds since the Unix epoch.
    At(Timestamp),
}

impl OffsetSpec {
    /// Source: Apache Kafka, `ListOffsetsRequest`.
    fn on_the_wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::At(moment) => moment.max(0),
        }
    }

    /// The first version of ListOffsets that knows it.
    fn first_version(self) -> i16 {
        if self == OffsetSpec::MaxTimestamp { 7 } else { 1 }
    }
}

/// What a record visible to a consumer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IsolationLevel {
    /// Every record that is replicated.
    #[default]
    ReadUncommitted,
    /// Records of open transactions, and all behind them, wait; those of aborted ones are not shown.
    ReadCommitted,
}

impl IsolationLevel {
    pub(super) fn on_the_wire(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    pub offset: Offset,
    /// Of the record, where one was asked for by its time.
    pub timestamp: Option<Timestamp>,
    /// -1 where the broker does not tell.
    pub leader_epoch: i32,
}

/// What was found of each partition: `None` where no record is that late.
pub(super) type Found = BTreeMap<TopicPartition, Result<Option<FoundOffset>, ClientError>>;

/// Asks the leaders until each partition has an answer or an error that stays, or the time is over.
pub(super) async fn list(
    cluster: &Cluster,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
    mut patience: Patience,
) -> Found {
    let mut found = Found::new();
    let mut left = wanted.clone();
    loop {
        let round = list_once(cluster, &left, isolation, patience.left_ms()).await;
        let mut last = None;
        for (partition, result) in round {
            match result {
                Err(error) if error.is_retriable() => last = Some((partition, error)),
                result => {
                    left.remove(&partition);
                    found.insert(partition, result);
                }
            }
        }
        let Some((_, error)) = last else { return found };
        if let Err(error) = patience.after(error).await {
            found.extend(left.into_keys().map(|partition| (partition, Err(error.clone()))));
            return found;
        }
        // Whatever it was, the leader may be another by now; a failure shows in the next round.
        drop(cluster.refresh().await);
    }
}

/// One question to each leader, all at the same time. Every partition gets a result.
pub(super) async fn list_once(
    cluster: &Cluster,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
    timeout_ms: i32,
) -> Found {
    let mut found = Found::new();
    let by_leader = by_leader(cluster, wanted.keys()).await;
    let mut pending = Vec::new();
    for (leader, partitions) in by_leader {
        let submitted = match leader {
            Ok(leader) => submit(cluster, leader, &partitions, wanted, isolation, timeout_ms).await,
            Err(error) => Err(error),
        };
        match submitted {
            Ok(answer) => pending.push((partitions, answer)),
            Err(error) => found.extend(partitions.into_iter().map(|p| (p, Err(error.clone())))),
        }
    }
    for (partitions, answer) in pending {
        let result = match answer.await {
            Ok(answer) => read(&answer, &mut found),
            Err(error) => Err(error),
        };
        let error = result.err().unwrap_or_else(no_answer);
        for partition in partitions {
            found.entry(partition).or_insert_with(|| Err(error.clone()));
        }
    }
    found
}

/// Of a partition that the broker was asked about and did not speak of.
fn no_answer() -> ClientError {
    let code = ErrorCode::UnknownTopicOrPartition.code();
    ClientError::refused(ApiKey::ListOffsets, "the partition", code, None).expect("the code is an error's")
}

async fn submit(
    cluster: &Cluster,
    leader: NodeId,
    partitions: &[TopicPartition],
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
    timeout_ms: i32,
) -> Result<super::connection::Pending, ClientError> {
    let connection = cluster.connection(leader, Lane::Main).await?;
    let version = connection.version(ApiKey::ListOffsets)?;
    let needed = partitions.iter().map(|partition| wanted[partition].first_version()).max();
    if needed.is_some_and(|needed| version < needed) {
        let address = connection.address().clone();
        return Err(super::error::Abortable::Unsupported { api: ApiKey::ListOffsets, address }.into());
    }
    let image = cluster.image();
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in partitions {
        let known = image.partition(&partition.topic, partition.partition);
        topics.entry(&partition.topic).or_default().push(ListOffsetsPartition {
            partition_index: partition.partition,
            current_leader_epoch: known.map_or(-1, |known| known.leader_epoch),
            timestamp: wanted[partition].on_the_wire(),
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic { name, partitions: partitions.into() })
        .collect::<Vec<_>>();
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: if version >= 2 { isolation.on_the_wire() } else { 0 },
        topics: topics.into(),
        timeout_ms,
    };
    Ok(connection.submit(&request, version, cluster.settings().request_timeout))
}

fn read(answer: &super::connection::Answer, found: &mut Found) -> Result<(), ClientError> {
    let response: ListOffsetsResponse<'_> = answer.decode()?;
    for topic in &response.topics {
        for told in &topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), told.partition_index);
            let refused =
                ClientError::refused(ApiKey::ListOffsets, partition.to_string(), told.error_code, None);
            let result = match refused {
                Some(error) => Err(error),
                None => Ok((told.offset >= 0).then_some(FoundOffset {
                    offset: told.offset,
                    timestamp: Some(told.timestamp).filter(|moment| *moment >= 0),
                    leader_epoch: told.leader_epoch,
                })),
            };
            found.insert(partition, result);
        }
    }
    Ok(())
}

/// Partitions with a common leader, or a common reason to have none.
pub(super) type ByLeader = Vec<(Result<NodeId, ClientError>, Vec<TopicPartition>)>;

/// Sorts partitions by leader; topics that are not in the image are asked about first.
pub(super) async fn by_leader<'p>(
    cluster: &Cluster,
    partitions: impl IntoIterator<Item = &'p TopicPartition>,
) -> ByLeader {
    let partitions: Vec<&TopicPartition> = partitions.into_iter().collect();
    let mut image = cluster.image();
    let unknown = |image: &super::ClusterImage, p: &TopicPartition| {
        image.topic(&p.topic).is_none() && !image.refused_topics.contains_key(&p.topic)
    };
    let topics: Vec<&TopicName> = partitions.iter().map(|partition| &partition.topic).collect();
    cluster.want_topics(topics.iter().copied());
    if partitions.iter().any(|partition| unknown(&image, partition)) {
        match cluster.refresh().await {
            Ok(fresh) => image = fresh,
            Err(error) => return vec![(Err(error), partitions.into_iter().cloned().collect())],
        }
    }
    let mut led: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
    let mut sorted: ByLeader = Vec::new();
    for partition in partitions {
        match image.leader(&partition.topic, partition.partition) {
            Some(leader) => led.entry(leader.id).or_default().push(partition.clone()),
            None => sorted.push((Err(leaderless(&image, partition)), vec![partition.clone()])),
        }
    }
    sorted.extend(led.into_iter().map(|(leader, partitions)| (Ok(leader), partitions)));
    sorted
}

/// Why nobody leads a partition.
pub(super) fn leaderless(image: &super::ClusterImage, partition: &TopicPartition) -> ClientError {
    let TopicPartition { topic, partition: index } = partition;
    if let Some(code) = image.refused_topics.get(topic) {
        let refused = ClientError::refused(ApiKey::Metadata, format!("topic {topic}"), *code, None);
        if let Some(error) = refused {
            return error;
        }
    }
    match image.topic(topic) {
        Some(known) if known.partitions.len() as i64 <= i64::from(*index) || *index < 0 => {
            super::error::Abortable::NoSuchPartition {
                topic: topic.clone(),
                partition: *index,
                partition_count: known.partitions.len() as i32,
            }
            .into()
        }
        _ => Retriable::NoLeader { topic: topic.clone(), partition: *index }.into(),
    }
}
