//! DeleteRecords: raises log starts. Answered once the new starts are durable, so that a restart does not bring records
//! back that a client was told are gone. `timeout_ms` is for replicas to follow; the leader is the only one so far.

use bytes::Bytes;

use super::encoded;
use crate::model::{Offset, TopicName};
use crate::partition::{Deletion, DeletionPart};
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::Route;
use crate::server::by_topic::{self, ByTopic};
use crate::server::context::{Asked, Context};

/// The low watermark of an answer that has none.
const NO_LOW_WATERMARK: Offset = -1;

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = DeleteRecordsRequest::decode(&mut Reader::new(body), version)?;
    let mut named = Vec::new();
    for topic in &request.topics {
        named.extend(topic.partitions.iter().map(|part| (topic.name, part.partition_index, part)));
    }
    let encode = |part: &ByTopic<DeleteRecordsPartition>| {
        let topics = part
            .iter()
            .map(|(name, partitions)| DeleteRecordsTopic { name, partitions: Array::Slice(partitions) });
        encoded(&DeleteRecordsRequest { topics: topics.collect(), timeout_ms: request.timeout_ms }, version)
    };
    Ok(by_topic::route(ctx, named, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut all = ByTopic::new();
    for body in bodies {
        let response = DeleteRecordsResponse::decode(&mut Reader::new(body), version)
            .expect("a shard encoded it in this version");
        for topic in &response.topics {
            topic.partitions.iter().for_each(|part| all.push(&topic.name, part));
        }
    }
    response(version, all)
}

fn response(version: i16, all: ByTopic<DeleteRecordsPartitionResult>) -> Bytes {
    let topics = all.into_iter().map(|(name, partitions)| DeleteRecordsTopicResult {
        name: name.into(),
        partitions: partitions.into(),
    });
    encoded(&DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DeleteRecordsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let mut parts = Vec::new();
    for topic in &request.topics {
        let name = TopicName::from(topic.name);
        for part in &topic.partitions {
            let outcome = delete(ctx, asked, topic.name, &part);
            parts.push(DeletionPart { topic: name.clone(), partition: part.partition_index, outcome });
        }
    }
    let has_deleted = parts.iter().any(|part| part.outcome.is_ok());
    let deletion = Deletion { ticket: asked.ticket, version: asked.version, parts };
    if has_deleted {
        ctx.partitions.make_durable(deletion);
    } else {
        finish(ctx, deletion, true);
    }
    Ok(())
}

fn delete(
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    topic: &str,
    part: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    let replica = by_topic::leader_here(ctx, asked.endpoint, topic, part.partition_index)?;
    if ctx.image.topic(topic).is_some_and(|topic| topic.internal) {
        return Err(ErrorCode::InvalidTopicException);
    }
    ctx.partitions.delete_records(replica, part.offset)
}

/// The checkpoint that a deletion waited for is written, or failed.
pub fn finish(ctx: &mut Context<'_>, deletion: Deletion, is_durable: bool) {
    let results = deletion.parts.into_iter().map(|part| {
        let is_served = by_topic::leader_here(ctx, None, &part.topic, part.partition).is_ok();
        let outcome = part.outcome.and_then(|start| {
            // In force until the process ends; it may not outlive it. Nor is a checkpoint of a failed directory written.
            if is_durable && is_served { Ok(start) } else { Err(ErrorCode::KafkaStorageError) }
        });
        let result = DeleteRecordsPartitionResult {
            partition_index: part.partition,
            low_watermark: outcome.unwrap_or(NO_LOW_WATERMARK),
            error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
        };
        (part.topic, result)
    });
    let body = response(deletion.version, results.collect());
    ctx.answer(deletion.ticket, Some(body));
}
