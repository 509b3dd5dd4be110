//! OffsetForLeaderEpoch: where a leader epoch ends, so that a client sees whether what it has read was truncated.

use bytes::Bytes;

use super::encoded;
use crate::model::LeaderEpoch;
use crate::partition::{EpochOffset, check_epoch};
use crate::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::Route;
use crate::server::by_topic::{self, ByTopic};
use crate::server::context::{Asked, Context};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = OffsetForLeaderEpochRequest::decode(&mut Reader::new(body), version)?;
    let mut named = Vec::new();
    for topic in &request.topics {
        named.extend(topic.partitions.iter().map(|part| (topic.topic, part.partition, part)));
    }
    let encode = |part: &ByTopic<OffsetForLeaderPartition>| {
        let topics = part.iter().map(|(name, partitions)| OffsetForLeaderTopic {
            topic: name,
            partitions: Array::Slice(partitions),
        });
        encoded(&OffsetForLeaderEpochRequest { topics: topics.collect(), ..request.clone() }, version)
    };
    Ok(by_topic::route(ctx, named, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut all = ByTopic::new();
    for body in bodies {
        let response = OffsetForLeaderEpochResponse::decode(&mut Reader::new(body), version)
            .expect("a shard encoded it in this version");
        for topic in &response.topics {
            topic.partitions.iter().for_each(|part| all.push(&topic.topic, part));
        }
    }
    response(version, all)
}

fn response(version: i16, all: ByTopic<EpochEndOffset>) -> Bytes {
    let topics = all.into_iter().map(|(name, partitions)| OffsetForLeaderTopicResult {
        topic: name.into(),
        partitions: partitions.into(),
    });
    let response =
        OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() };
    encoded(&response, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = OffsetForLeaderEpochRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let mut all = ByTopic::new();
    for topic in &request.topics {
        for part in &topic.partitions {
            let mut answer = EpochEndOffset { partition: part.partition, ..EpochEndOffset::default() };
            match look_up(ctx, asked, topic.topic, &part) {
                Ok(Some(found)) => {
                    answer.leader_epoch = found.leader_epoch.0;
                    answer.end_offset = found.offset;
                }
                // An epoch that this log does not know is no error: the client looks further back.
                Ok(None) => {}
                Err(error) => answer.error_code = error.code(),
            }
            all.push(topic.topic, answer);
        }
    }
    ctx.answer(asked.ticket, Some(response(asked.version, all)));
    Ok(())
}

fn look_up(
    ctx: &Context<'_>,
    asked: &Asked<'_>,
    topic: &str,
    part: &OffsetForLeaderPartition,
) -> Result<Option<EpochOffset>, ErrorCode> {
    let leader = by_topic::leader_here(ctx, asked.endpoint, topic, part.partition)?;
    let replica = ctx.partitions.get(leader);
    check_epoch(part.current_leader_epoch, replica.leader_epoch())?;
    Ok(replica.end_offset_for_epoch(LeaderEpoch(part.leader_epoch)))
}
