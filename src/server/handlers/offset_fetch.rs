//! OffsetFetch: one group before version 8, several from it on, each served by its own coordinator.

use std::sync::Arc;

use bytes::Bytes;

use super::encoded;
use crate::group::{FetchOffsets, FetchTopic, FetchedTopic, GroupError, GroupId, Request, Response};
use crate::metadata::Image;
use crate::model::{LeaderEpoch, PartitionIndex, TopicId};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::{ask_all, ask_one};
use crate::server::{Route, gather};

/// Several groups in one request from this version on.
const NAMES_GROUPS: i16 = 8;
/// Topics have ids instead of names from this version on.
const BY_ID: i16 = 10;
/// An error of the whole group stands at its partitions before this version.
const HAS_GROUP_ERROR: i16 = 2;

/// What a group was asked for and the coordinator is not: topics whose ids nobody has.
struct UnknownTopic {
    id: TopicId,
    partitions: Vec<PartitionIndex>,
}

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = OffsetFetchRequest::decode(&mut Reader::new(body), version)?;
    if version < NAMES_GROUPS {
        return Ok(Route::Whole(gather::coordinator(ctx, request.group_id)));
    }
    let require_stable = request.require_stable;
    let encode = |groups: Vec<_>| {
        let part = OffsetFetchRequest { groups: groups.into(), require_stable, ..Default::default() };
        encoded(&part, version)
    };
    let groups = request.groups.iter().map(|group| (group.group_id, group));
    Ok(gather::to_coordinators(ctx, groups, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let decoded = bodies.iter().map(|body| {
        OffsetFetchResponse::decode(&mut Reader::new(body), version).expect("a shard's body is well formed")
    });
    let groups = decoded.flat_map(|response| response.groups).collect();
    encoded(&OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = OffsetFetchRequest::decode(&mut Reader::new(asked.body), version)?;
    if version < NAMES_GROUPS {
        serve_one(ctx, asked, &request);
    } else {
        serve_groups(ctx, asked, &request);
    }
    Ok(())
}

fn serve_one(ctx: &mut Context<'_>, asked: &Asked<'_>, request: &OffsetFetchRequest<'_>) {
    let version = asked.version;
    let topics: Option<Vec<FetchTopic>> = request.topics.as_ref().map(|topics| {
        let topic =
            |topic: crate::protocol::messages::offset_fetch::OffsetFetchRequestTopic<'_>| FetchTopic {
                topic: topic.name.into(),
                topic_id: TopicId::ZERO,
                partitions: topic.partition_indexes.to_vec(),
            };
        topics.iter().map(topic).collect()
    });
    let wanted = topics.clone().unwrap_or_default();
    let fetch =
        FetchOffsets { group: request.group_id.into(), topics, require_stable: request.require_stable };
    ask_one(ctx, asked, Request::FetchOffsets(fetch), move |response| encode_one(&wanted, response, version));
}

fn encode_one(wanted: &[FetchTopic], response: Response, version: i16) -> Bytes {
    let Response::FetchOffsets(result) = response else { panic!("a fetch of offsets is answered as one") };
    let response = match result {
        Ok(topics) => OffsetFetchResponse {
            topics: topics.into_iter().map(topic_by_name).collect(),
            ..OffsetFetchResponse::default()
        },
        Err(error) if version >= HAS_GROUP_ERROR => {
            OffsetFetchResponse { error_code: group_error(error).code(), ..OffsetFetchResponse::default() }
        }
        Err(error) => {
            let refused = |partition: &PartitionIndex| OffsetFetchResponsePartition {
                partition_index: *partition,
                committed_offset: -1,
                error_code: group_error(error).code(),
                ..OffsetFetchResponsePartition::default()
            };
            let topic = |topic: &FetchTopic| OffsetFetchResponseTopic {
                name: Str::from(&topic.topic),
                partitions: topic.partitions.iter().map(refused).collect(),
            };
            OffsetFetchResponse {
                topics: wanted.iter().map(topic).collect(),
                ..OffsetFetchResponse::default()
            }
        }
    };
    encoded(&response, version)
}

fn topic_by_name(topic: FetchedTopic) -> OffsetFetchResponseTopic<'static> {
    let partitions = topic.partitions.into_iter();
    OffsetFetchResponseTopic {
        name: topic.topic.into(),
        partitions: partitions
            .map(|fetched| OffsetFetchResponsePartition {
                partition_index: fetched.partition,
                committed_offset: fetched.offset,
                committed_leader_epoch: fetched.leader_epoch.0,
                metadata: Some(fetched.metadata.into()),
                error_code: 0,
            })
            .collect(),
    }
}

fn serve_groups(ctx: &mut Context<'_>, asked: &Asked<'_>, request: &OffsetFetchRequest<'_>) {
    let version = asked.version;
    let mut wanted: Vec<(GroupId, Vec<UnknownTopic>)> = Vec::with_capacity(request.groups.len());
    let mut requests = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        let id: GroupId = group.group_id.into();
        let mut unknown = Vec::new();
        let topics = group.topics.as_ref().map(|topics| {
            let mut known = Vec::with_capacity(topics.len());
            for topic in topics {
                let partitions = topic.partition_indexes.to_vec();
                let (name, topic_id) = if version < BY_ID {
                    (topic.name.into(), TopicId::ZERO)
                } else if let Some(found) = ctx.image.topic_by_id(topic.topic_id) {
                    (found.name.clone(), found.id)
                } else {
                    unknown.push(UnknownTopic { id: topic.topic_id, partitions });
                    continue;
                };
                known.push(FetchTopic { topic: name, topic_id, partitions });
            }
            known
        });
        let require_stable = request.require_stable;
        requests.push(Request::FetchOffsets(FetchOffsets { group: id.clone(), topics, require_stable }));
        wanted.push((id, unknown));
    }
    // For the ids of topics by their names.
    let image = Arc::clone(ctx.image);
    ask_all(ctx, asked, requests, move |responses| {
        let groups = wanted.into_iter().zip(responses);
        let groups = groups.map(|((id, unknown), response)| {
            let Response::FetchOffsets(result) = response else {
                panic!("a fetch of offsets is answered as one")
            };
            group_answer(id, result, unknown, version, &image)
        });
        encoded(&OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() }, version)
    });
}

fn group_answer(
    id: GroupId,
    result: Result<Vec<FetchedTopic>, GroupError>,
    unknown: Vec<UnknownTopic>,
    version: i16,
    image: &Image,
) -> OffsetFetchResponseGroup<'static> {
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => {
            return OffsetFetchResponseGroup {
                group_id: id.into(),
                error_code: group_error(error).code(),
                ..OffsetFetchResponseGroup::default()
            };
        }
    };
    let mut topics = Vec::with_capacity(fetched.len() + unknown.len());
    for topic in fetched {
        let topic_id = match version {
            BY_ID.. => match image.topic(&topic.topic) {
                Some(topic) => topic.id,
                // All offsets were asked for, and this topic is just being deleted: it has no id to go by.
                None => continue,
            },
            _ => TopicId::ZERO,
        };
        let partitions = topic.partitions.into_iter();
        topics.push(OffsetFetchResponseTopics {
            name: topic.topic.into(),
            topic_id,
            partitions: partitions
                .map(|fetched| {
                    let metadata = Str::from(fetched.metadata);
                    partition(
                        fetched.partition,
                        fetched.offset,
                        fetched.leader_epoch,
                        metadata,
                        ErrorCode::None,
                    )
                })
                .collect(),
        });
    }
    for topic in unknown {
        let refused = |index| partition(index, -1, LeaderEpoch(-1), Str::EMPTY, ErrorCode::UnknownTopicId);
        topics.push(OffsetFetchResponseTopics {
            name: Str::EMPTY,
            topic_id: topic.id,
            partitions: topic.partitions.into_iter().map(refused).collect(),
        });
    }
    OffsetFetchResponseGroup { group_id: id.into(), topics: topics.into(), error_code: 0 }
}

fn partition(
    partition_index: PartitionIndex,
    committed_offset: i64,
    leader_epoch: LeaderEpoch,
    metadata: Str<'static>,
    error: ErrorCode,
) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset,
        committed_leader_epoch: leader_epoch.0,
        metadata: Some(metadata),
        error_code: error.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::FetchedOffset;
    use crate::metadata::Local;
    use crate::model::{NodeId, Uuid};

    fn fetched(topic: &str, offsets: &[(i32, i64)]) -> FetchedTopic {
        let offset = |(partition, offset): &(i32, i64)| FetchedOffset {
            partition: *partition,
            offset: *offset,
            leader_epoch: LeaderEpoch(4),
            metadata: "m".into(),
        };
        FetchedTopic { topic: topic.into(), partitions: offsets.iter().map(offset).collect() }
    }

    #[test]
    fn an_error_of_the_group_stands_where_the_version_has_a_place_for_it() {
        let wanted = [FetchTopic { topic: "t".into(), topic_id: TopicId::ZERO, partitions: vec![0, 3] }];
        for version in 1..NAMES_GROUPS {
            let refused = Response::FetchOffsets(Err(GroupError::NotCoordinator));
            let body = encode_one(&wanted, refused, version);
            let response =
                OffsetFetchResponse::decode(&mut Reader::new(&body), version).expect("our own body");
            let partitions = response.topics.iter().flat_map(|topic| topic.partitions);
            let codes: Vec<_> = partitions.map(|p| (p.partition_index, p.error_code)).collect();
            let expected: (i16, &[(i32, i16)]) =
                if version == 1 { (0, &[(0, 16), (3, 16)]) } else { (16, &[]) };
            assert_eq!((response.error_code, codes.as_slice()), expected, "version {version}");
        }
    }

    #[test]
    fn topics_have_ids_from_version_10_on_and_unknown_ones_are_told() {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 1 });
        image.put_topic(Uuid([1; 16]), "a".into());
        let all = vec![fetched("a", &[(0, 7)]), fetched("being-deleted", &[(0, 8)])];
        let check = |version, expected: &[(&str, TopicId, i64, i16)]| {
            let unknown = vec![UnknownTopic { id: Uuid([9; 16]), partitions: vec![2] }];
            let unknown = if version < BY_ID { Vec::new() } else { unknown };
            let group = group_answer("g".into(), Ok(all.clone()), unknown, version, &image);
            let topics: Vec<_> = group.topics.to_vec();
            let seen: Vec<_> = topics
                .iter()
                .flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(|p| (&*topic.name, topic.topic_id, p.committed_offset, p.error_code))
                })
                .collect();
            assert_eq!(seen, expected, "version {version}");
        };
        check(9, &[("a", TopicId::ZERO, 7, 0), ("being-deleted", TopicId::ZERO, 8, 0)]);
        check(10, &[("a", Uuid([1; 16]), 7, 0), ("", Uuid([9; 16]), -1, 100)]);
    }

    #[test]
    fn groups_of_several_shards_are_one_response() {
        let body = |names: &[&str]| {
            let group = |name: &&str| OffsetFetchResponseGroup {
                group_id: Str::from(*name).into_owned(),
                topics: vec![topic_by_group()].into(),
                error_code: 0,
            };
            let groups = names.iter().map(group).collect();
            encoded(&OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }, 9)
        };
        assert_eq!(merge(9, &[body(&["a"]), body(&["b", "c"])]), body(&["a", "b", "c"]));
    }

    fn topic_by_group() -> OffsetFetchResponseTopics<'static> {
        let partitions = [partition(1, 5, LeaderEpoch(2), "m".into(), ErrorCode::None)];
        OffsetFetchResponseTopics { name: "t".into(), topic_id: TopicId::ZERO, partitions: partitions.into() }
    }
}
