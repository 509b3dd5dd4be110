//! Asks a new leader whether what was read is still what it has (KIP-320).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::cluster::Lane;
use crate::client::error::ClientError;
use crate::model::{NodeId, TopicPartition};
use crate::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::chunk::Position;
use super::partition::{Phase, Validity, validity};
use super::state::Shared;

/// Below this version the answer does not tell its epoch in all cases (KIP-320).
const FIRST_OF_USE: i16 = 3;

#[derive(Debug)]
pub(super) struct Question {
    pub partition: TopicPartition,
    pub version: u64,
    pub position: Position,
    pub leader_epoch: i32,
}

/// `None`: the leader is too old to say, and is believed.
type Ends = Option<BTreeMap<TopicPartition, Result<(i32, i64), ClientError>>>;

pub(super) async fn ask(shared: Arc<Shared>, node: NodeId, questions: Vec<Question>) {
    let ends = ends(&shared, node, &questions).await;
    let reset = shared.reset();
    let mut needs_refresh = false;
    let mut state = shared.state();
    for Question { partition, version, position, leader_epoch } in questions {
        let next_version = state.next_version();
        let Some(known) = state.asked(&partition, version) else { continue };
        known.is_asking = false;
        if !matches!(known.phase, Phase::Validating) {
            continue;
        }
        let result = match &ends {
            Ok(None) => Ok(Validity::Valid),
            Ok(Some(ends)) => match ends.get(&partition) {
                Some(Ok((epoch, offset))) => Ok(validity(position, *epoch, *offset)),
                Some(Err(error)) => Err(error.clone()),
                None => continue,
            },
            Err(error) => Err(error.clone()),
        };
        match result {
            Ok(validity) => known.validated(next_version, &partition, leader_epoch, validity, reset),
            Err(error) => {
                tracing::debug!(%partition, %error, "cannot compare the position with the leader's log");
                needs_refresh = true;
                known.back_off(shared.next_try(known.failures + 1));
            }
        }
    }
    state.wake();
    drop(state);
    if needs_refresh {
        shared.cluster.request_refresh();
    }
    shared.work.notify_one();
}

async fn ends(shared: &Shared, node: NodeId, questions: &[Question]) -> Result<Ends, ClientError> {
    let api = ApiKey::OffsetForLeaderEpoch;
    let connection = shared.cluster.connection(node, Lane::Main).await?;
    let version = match connection.version(api) {
        Ok(version) if version >= FIRST_OF_USE => version,
        _ => return Ok(None),
    };
    let mut topics: BTreeMap<&str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for question in questions {
        topics.entry(&question.partition.topic).or_default().push(OffsetForLeaderPartition {
            partition: question.partition.partition,
            current_leader_epoch: question.leader_epoch,
            leader_epoch: question.position.epoch.unwrap_or(-1),
        });
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions: partitions.into() });
    let request = OffsetForLeaderEpochRequest {
        // A consumer is no replica (Apache Kafka, `OffsetsForLeaderEpochRequest.CONSUMER_REPLICA_ID`).
        replica_id: -1,
        topics: topics.collect::<Vec<_>>().into(),
    };
    let answer = connection.submit(&request, version, connection.request_timeout()).await?;
    let response: OffsetForLeaderEpochResponse<'_> = answer.decode()?;
    let mut ends = BTreeMap::new();
    for topic in &response.topics {
        for told in &topic.partitions {
            let partition = TopicPartition::new(topic.topic.as_str(), told.partition);
            // The partition is not here any more or not yet: asked again, as any other of these.
            let code = ErrorCode::from_code(told.error_code);
            let checked = ClientError::check(api, partition.to_string(), told.error_code, None);
            let end = checked.map(|()| (told.leader_epoch, told.end_offset));
            tracing::trace!(%partition, ?code, "epoch's end told");
            ends.insert(partition, end);
        }
    }
    Ok(Some(ends))
}
