//! The reply to a fetch: what the owners brought, in request order, as slices of the log.

use bytes::BytesMut;

use super::PendingFetch;
use crate::buffer::{keep_slices, recycle};
use crate::mesh::FetchPartAnswer;
use crate::metadata::Advertised;
use crate::metrics::{Class, Timed};
use crate::model::{PartitionIndex, TopicId, TopicName};
use crate::net::Response;
use crate::protocol::messages::fetch::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use crate::protocol::{Array, ErrorCode, Message as _, Records};
use crate::server::context::Context;
use crate::server::fetch_session::{PartRead, Wanted};
use crate::server::frame_out::frame_of;
use crate::server::leaders_told::LeadersTold;
use crate::server::pending::Origin;

/// An answer says where the leaders are that it names from this version on (KIP-951).
const TELLS_LEADERS: i16 = 16;

pub(super) fn top_level_error(ctx: &mut Context<'_>, origin: Origin, error: ErrorCode) {
    let response = FetchResponse { error_code: error.code(), ..FetchResponse::default() };
    let mut body = BytesMut::with_capacity(32);
    response.encode(&mut body, origin.version);
    ctx.reply(&origin, Response::Send(frame_of(&origin, body)));
}

pub(super) fn reply(ctx: &mut Context<'_>, origin: Origin, pending: PendingFetch) {
    let class = Some(Class::Fetch(pending.source));
    let timed = Timed { class, clock: pending.clock, partition: first_partition(&pending), ..origin.timed() };
    let PendingFetch { scope, max_bytes, mut reads, as_replica, read_committed, .. } = pending;
    hold_to_limit(&mut reads, max_bytes);
    ctx.sessions.note_answers(&scope, read_committed, &mut reads);
    let mut rows: Vec<PartitionData<'_>> = recycle(std::mem::take(&mut ctx.scratch.fetch.rows));
    // (where its rows end, what is wanted of it)
    let mut topics: Vec<(usize, &Wanted)> = recycle(std::mem::take(&mut ctx.scratch.fetch.topics));
    let mut leaders = LeadersTold::default();
    let mut pipes = Vec::new();
    for PartRead { wanted, owner, answer, .. } in reads.iter_mut().filter(|read| read.is_told) {
        let part: &Wanted = wanted;
        let mut answer = answer.take().expect("every part is answered");
        match topics.last_mut() {
            Some((end, topic)) if topic.topic_id == part.topic_id && topic.topic == part.topic => *end += 1,
            _ => topics.push((rows.len() + 1, part)),
        }
        if answer.error == ErrorCode::NotLeaderOrFollower
            && let Some(partition) = ctx.image.partition(&part.topic, part.partition)
        {
            leaders.tell(ctx.image, partition);
        }
        let unasked = owner.is_none() && !as_replica;
        let left_out = answer.pipes.len();
        pipes.append(&mut answer.pipes);
        let mut row = partition_data(ctx, part, answer, left_out, read_committed, unasked, origin.version);
        if as_replica {
            // There is no leader for a replica that is none.
            row.current_leader = LeaderIdAndEpoch::default();
        }
        rows.push(row);
    }
    let mut responses: Vec<FetchableTopicResponse<'_>> =
        recycle(std::mem::take(&mut ctx.scratch.fetch.responses));
    let mut start = 0;
    for (end, topic) in &topics {
        let (name, topic_id) =
            if origin.version >= 13 { ("", topic.topic_id) } else { (&*topic.topic, TopicId::ZERO) };
        let partitions = rows[start..*end].into();
        responses.push(FetchableTopicResponse { topic: name.into(), topic_id, partitions });
        start = *end;
    }
    let endpoint = |broker: Advertised<'_>| NodeEndpoint {
        node_id: broker.id.0,
        host: broker.host.into(),
        port: i32::from(broker.port),
        rack: broker.rack.map(Into::into),
    };
    let node_endpoints: Array<'_, NodeEndpoint<'_>> = match origin.version {
        TELLS_LEADERS.. => leaders.brokers(ctx.image).map(endpoint).collect(),
        _ => Array::EMPTY,
    };
    let session_id = if origin.version >= 7 { scope.session_id() } else { 0 };
    let responses_sent = responses[..].into();
    let response =
        FetchResponse { session_id, responses: responses_sent, node_endpoints, ..FetchResponse::default() };
    let frame = ctx.scratch.frames.slices(&origin, &response, pipes);
    drop(response);
    let scratch = &mut ctx.scratch.fetch;
    scratch.responses = recycle(responses);
    scratch.topics = recycle(topics);
    for row in &mut rows {
        if let Some(Records::Slices(slices)) = row.records.take() {
            keep_slices(slices);
        }
    }
    scratch.rows = recycle(rows);
    scratch.reads.keep(reads);
    ctx.reply_timed(&origin, frame, timed);
}

/// The first partition that brings records, else the first that is asked for.
fn first_partition(pending: &PendingFetch) -> Option<(TopicId, PartitionIndex)> {
    let has_records = |read: &&PartRead| read.answer.as_ref().is_some_and(|answer| answer.record_bytes > 0);
    let read = pending.reads.iter().find(has_records).or_else(|| pending.reads.first())?;
    Some((read.wanted.topic_id, read.wanted.partition))
}

/// Owners read in parallel, each within the whole limit; here it is applied once, in request order. The first records
/// are kept whatever their size.
fn hold_to_limit(reads: &mut [PartRead], max_bytes: u32) {
    let mut total = 0u64;
    for answer in reads.iter_mut().filter_map(|read| read.answer.as_mut()) {
        if total > 0 && total + u64::from(answer.record_bytes) > u64::from(max_bytes) {
            answer.records.clear();
            answer.pipes.clear();
            answer.record_bytes = 0;
        }
        total += u64::from(answer.record_bytes);
    }
}

fn partition_data(
    ctx: &Context<'_>,
    part: &Wanted,
    answer: FetchPartAnswer,
    left_out: usize,
    read_committed: bool,
    unasked: bool,
    version: i16,
) -> PartitionData<'static> {
    let leader = |at: &TopicName, index: PartitionIndex| {
        let partition = ctx.image.partition(at, index)?;
        Some(LeaderIdAndEpoch {
            leader_id: ctx.image.advertised_leader(partition).map_or(-1, |leader| leader.id.0),
            leader_epoch: partition.leader_epoch.0,
        })
    };
    let error = match answer.error {
        // Clients of versions 0 to 5 do not know the storage error.
        ErrorCode::KafkaStorageError if version < 6 => ErrorCode::NotLeaderOrFollower,
        error => error,
    };
    let tell_leader =
        version >= 12 && matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    PartitionData {
        partition_index: part.partition,
        error_code: error.code(),
        high_watermark: answer.high_watermark,
        last_stable_offset: answer.last_stable_offset,
        log_start_offset: answer.log_start_offset,
        diverging_epoch: answer
            .diverging
            .map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset })
            .unwrap_or_default(),
        current_leader: if tell_leader {
            leader(&part.topic, part.partition).unwrap_or_default()
        } else {
            Default::default()
        },
        // Kafka answers an empty list, and not null, for partitions that no log was asked about.
        aborted_transactions: (unasked || read_committed && error == ErrorCode::None).then_some(Array::EMPTY),
        preferred_read_replica: -1,
        records: Some(match left_out {
            0 => Records::Slices(answer.records),
            parts => Records::Elsewhere { bytes: answer.record_bytes as usize, parts },
        }),
        ..PartitionData::default()
    }
}
