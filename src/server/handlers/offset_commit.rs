//! OffsetCommit: offsets of partitions that do not exist are refused here, the others go to the coordinator.

use std::time::Duration;

use bytes::Bytes;

use super::encoded;
use crate::group::{CommitOffsets, CommitPartition, CommitTopic, Request, Response};
use crate::model::{LeaderEpoch, PartitionIndex, TopicId};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

/// Topics have ids instead of names from this version on.
const BY_ID: i16 = 10;
/// A generation of a group that does not exist is answered GROUP_ID_NOT_FOUND from this version on.
const KNOWS_GROUP_NOT_FOUND: i16 = 9;

/// A topic as it was asked for. A partition without an error yet is the coordinator's to answer.
struct AskedTopic {
    name: String,
    id: TopicId,
    partitions: Vec<(PartitionIndex, Option<ErrorCode>)>,
}

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = OffsetCommitRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = OffsetCommitRequest::decode(&mut Reader::new(asked.body), version)?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut commits = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let topic = match version {
            BY_ID.. => ctx.image.topic_by_id(wanted.topic_id),
            _ => ctx.image.topic(wanted.name),
        };
        let unknown = match topic {
            None if version >= BY_ID => ErrorCode::UnknownTopicId,
            _ => ErrorCode::UnknownTopicOrPartition,
        };
        let exists = |index| topic.is_some_and(|topic| topic.partition(index).is_some());
        let verdict = |index| (index, (!exists(index)).then_some(unknown));
        topics.push(AskedTopic {
            name: wanted.name.to_owned(),
            id: wanted.topic_id,
            partitions: wanted
                .partitions
                .iter()
                .map(|partition| verdict(partition.partition_index))
                .collect(),
        });
        if let Some(topic) = topic {
            let known = wanted.partitions.iter().filter(|partition| exists(partition.partition_index));
            let partitions: Vec<_> = known.map(commit_of).collect();
            if !partitions.is_empty() {
                commits.push(CommitTopic { topic: topic.name.clone(), topic_id: topic.id, partitions });
            }
        }
    }
    if commits.is_empty() {
        ctx.answer(asked.ticket, Some(encode(topics, None, version)));
        return Ok(());
    }
    let commit = CommitOffsets {
        group: request.group_id.into(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        // -1, or no such field: the broker's own retention.
        retention: u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis),
        expects_group_not_found: version >= KNOWS_GROUP_NOT_FOUND,
        topics: commits,
    };
    ask_one(ctx, asked, Request::CommitOffsets(commit), move |response| {
        encode(topics, Some(response), version)
    });
    Ok(())
}

fn commit_of(partition: OffsetCommitRequestPartition<'_>) -> CommitPartition {
    CommitPartition {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.map(Into::into),
    }
}

/// Puts the coordinator's answers into the places that were left for them; it keeps the order of the request.
fn encode(topics: Vec<AskedTopic>, response: Option<Response>, version: i16) -> Bytes {
    let mut verdicts: Box<dyn Iterator<Item = ErrorCode>> = match response {
        None => Box::new(std::iter::empty()),
        Some(Response::CommitOffsets(Err(error))) => Box::new(std::iter::repeat(group_error(error))),
        Some(Response::CommitOffsets(Ok(results))) => {
            let results = results.into_iter().flat_map(|topic| topic.partitions);
            Box::new(results.map(|(_, result)| result.map_or_else(group_error, |()| ErrorCode::None)))
        }
        Some(_) => panic!("a commit is answered as one"),
    };
    let topics = topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.into(),
            topic_id: topic.id,
            partitions: topic
                .partitions
                .into_iter()
                .map(|(partition_index, refused)| {
                    let verdict = refused.or_else(|| verdicts.next());
                    let verdict = verdict.expect("the coordinator answers each partition it is asked about");
                    OffsetCommitResponsePartition { partition_index, error_code: verdict.code() }
                })
                .collect(),
        })
        .collect();
    encoded(&OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupError, TopicResults};

    fn asked() -> Vec<AskedTopic> {
        let topic = |name: &str, partitions| AskedTopic { name: name.into(), id: TopicId::ZERO, partitions };
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        vec![
            topic("a", vec![(0, None), (9, unknown), (1, None)]),
            topic("none", vec![(0, unknown)]),
            topic("b", vec![(0, None)]),
        ]
    }

    #[test]
    fn answers_stand_in_the_order_of_the_request() {
        let check = |response, expected: &[&[(i32, i16)]]| {
            let body = encode(asked(), response, 8);
            let response = OffsetCommitResponse::decode(&mut Reader::new(&body), 8).expect("our own body");
            let codes: Vec<Vec<(i32, i16)>> = response
                .topics
                .iter()
                .map(|topic| topic.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect())
                .collect();
            assert_eq!(codes, expected);
        };
        let results = vec![
            TopicResults {
                topic: "a".into(),
                partitions: vec![(0, Ok(())), (1, Err(GroupError::OffsetMetadataTooLarge))],
            },
            TopicResults { topic: "b".into(), partitions: vec![(0, Ok(()))] },
        ];
        check(
            Some(Response::CommitOffsets(Ok(results))),
            &[&[(0, 0), (9, 3), (1, 12)], &[(0, 3)], &[(0, 0)]],
        );
        check(
            Some(Response::CommitOffsets(Err(GroupError::IllegalGeneration))),
            &[&[(0, 22), (9, 3), (1, 22)], &[(0, 3)], &[(0, 22)]],
        );
    }
}
