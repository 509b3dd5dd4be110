//! ListOffsets: the ends of partitions, and offsets by time. Ends are known; a search by time reads files, so it runs as a job.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;

use super::encoded;
use crate::model::{PartitionIndex, Timestamp};
use crate::partition::{EpochOffset, FetchBound, OffsetSearch, check_epoch};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::Route;
use crate::server::by_topic::{self, ByTopic};
use crate::server::context::{Asked, Context};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = ListOffsetsRequest::decode(&mut Reader::new(body), version)?;
    let mut named = Vec::new();
    for topic in &request.topics {
        named.extend(topic.partitions.iter().map(|part| (topic.name, part.partition_index, part)));
    }
    let encode = |part: &ByTopic<ListOffsetsPartition>| {
        let topics = part
            .iter()
            .map(|(name, partitions)| ListOffsetsTopic { name, partitions: Array::Slice(partitions) });
        encoded(&ListOffsetsRequest { topics: topics.collect(), ..request.clone() }, version)
    };
    Ok(by_topic::route(ctx, named, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut all = ByTopic::new();
    for body in bodies {
        let response = ListOffsetsResponse::decode(&mut Reader::new(body), version)
            .expect("a shard encoded it in this version");
        for topic in &response.topics {
            topic.partitions.iter().for_each(|part| all.push(&topic.name, part));
        }
    }
    response(version, all)
}

fn response(version: i16, all: ByTopic<ListOffsetsPartitionResponse>) -> Bytes {
    let topics = all.into_iter().map(|(name, partitions)| ListOffsetsTopicResponse {
        name: name.into(),
        partitions: partitions.into(),
    });
    encoded(&ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = ListOffsetsRequest::decode(&mut Reader::new(asked.body), version)?;
    let bound = if request.isolation_level == 1 { FetchBound::LastStable } else { FetchBound::HighWatermark };
    let mut answers: Vec<(String, ListOffsetsPartitionResponse)> = Vec::new();
    let mut searches: Vec<(usize, OffsetSearch)> = Vec::new();
    let mut places: BTreeMap<(&str, PartitionIndex), usize> = BTreeMap::new();
    for topic in &request.topics {
        for part in &topic.partitions {
            match places.entry((topic.name, part.partition_index)) {
                // Which of the two is meant? One answer says that nobody can tell.
                Entry::Occupied(place) => {
                    answers[*place.get()].1 = refusal(part.partition_index, ErrorCode::InvalidRequest);
                    searches.retain(|(other, _)| other != place.get());
                    continue;
                }
                Entry::Vacant(place) => place.insert(answers.len()),
            };
            let answer = match look_up(ctx, asked, topic.name, &part, bound) {
                Ok(LookUp::Found(found)) => ListOffsetsPartitionResponse {
                    offset: found.offset,
                    leader_epoch: epoch(version, found.leader_epoch.0),
                    ..refusal(part.partition_index, ErrorCode::None)
                },
                Ok(LookUp::Nothing) => refusal(part.partition_index, ErrorCode::None),
                Ok(LookUp::Search(search)) => {
                    searches.push((answers.len(), search));
                    refusal(part.partition_index, ErrorCode::None)
                }
                Err(error) => refusal(part.partition_index, error),
            };
            answers.push((topic.name.to_owned(), answer));
        }
    }
    if searches.is_empty() {
        ctx.answer(asked.ticket, Some(response(version, answers.into_iter().collect())));
        return Ok(());
    }
    ctx.answer_from_job(asked.ticket, move |files| {
        for (place, search) in searches {
            let answer = &mut answers[place].1;
            match search.run(files) {
                Ok(Some(found)) => {
                    answer.timestamp = found.timestamp;
                    answer.offset = found.offset;
                    answer.leader_epoch = epoch(version, found.leader_epoch.0);
                }
                Ok(None) => {}
                Err(error) => answer.error_code = error.code(),
            }
        }
        response(version, answers.into_iter().collect())
    });
    Ok(())
}

/// An answer without an offset: an error, or no such record.
fn refusal(partition_index: PartitionIndex, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: error.code(),
        ..ListOffsetsPartitionResponse::default()
    }
}

/// Leader epochs are told from version 4.
fn epoch(version: i16, leader_epoch: i32) -> i32 {
    if version >= 4 { leader_epoch } else { -1 }
}

/// What one partition's question comes to.
enum LookUp {
    Found(EpochOffset),
    Nothing,
    Search(OffsetSearch),
}

fn look_up(
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    topic: &str,
    part: &ListOffsetsPartition,
    bound: FetchBound,
) -> Result<LookUp, ErrorCode> {
    let wanted = wanted(part.timestamp, asked.version)?;
    let leader = by_topic::leader_here(ctx, asked.endpoint, topic, part.partition_index)?;
    let replica = ctx.partitions.get_mut(leader);
    check_epoch(part.current_leader_epoch, replica.leader_epoch())?;
    let search = match wanted {
        Wanted::Latest => return Ok(LookUp::Found(replica.latest(bound))),
        Wanted::Earliest => return Ok(LookUp::Found(replica.earliest())),
        Wanted::Tiered => None,
        Wanted::MaxTimestamp => replica.search_max_timestamp(bound),
        Wanted::AtOrAfter(timestamp) => replica.search_timestamp(timestamp, bound),
    };
    Ok(search.map_or(LookUp::Nothing, LookUp::Search))
}

/// What the timestamp of a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Latest,
    /// The log start; all of a log is local here.
    Earliest,
    MaxTimestamp,
    /// An offset of a second tier, which no log here has.
    Tiered,
    AtOrAfter(Timestamp),
}

/// Source: Apache Kafka `ListOffsetsRequest`, for each value the version that brought it.
fn wanted(timestamp: Timestamp, version: i16) -> Result<Wanted, ErrorCode> {
    let (wanted, from) = match timestamp {
        0.. => (Wanted::AtOrAfter(timestamp), 0),
        -1 => (Wanted::Latest, 0),
        -2 => (Wanted::Earliest, 0),
        -3 => (Wanted::MaxTimestamp, 7),
        -4 => (Wanted::Earliest, 8),
        -5 => (Wanted::Tiered, 9),
        -6 => (Wanted::Tiered, 11),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    if version >= from { Ok(wanted) } else { Err(ErrorCode::UnsupportedVersion) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_come_with_their_versions() {
        let check = |timestamp, version, expected: Option<Wanted>| {
            assert_eq!(wanted(timestamp, version).ok(), expected, "{timestamp} in version {version}");
        };
        check(0, 1, Some(Wanted::AtOrAfter(0)));
        check(-1, 1, Some(Wanted::Latest));
        check(-2, 1, Some(Wanted::Earliest));
        check(-3, 6, None);
        check(-3, 7, Some(Wanted::MaxTimestamp));
        check(-4, 7, None);
        check(-4, 8, Some(Wanted::Earliest));
        check(-5, 8, None);
        check(-5, 9, Some(Wanted::Tiered));
        check(-6, 10, None);
        check(-6, 11, Some(Wanted::Tiered));
        check(-7, 11, None);
        check(i64::MIN, 11, None);
    }

    #[test]
    fn answers_of_shards_make_one_with_each_topic_once() {
        let body = |entries: &[(&str, i32)]| {
            let answers = entries.iter().map(|(topic, index)| (*topic, refusal(*index, ErrorCode::None)));
            response(7, answers.collect())
        };
        let merged = merge(7, &[body(&[("a", 0), ("b", 0)]), body(&[("a", 1)])]);
        assert_eq!(merged, body(&[("a", 0), ("a", 1), ("b", 0)]));
    }
}
