//! Metadata: brokers, topics and who leads their partitions. Any shard serves it.
//!
//! Naming a topic that is not there can make it, if both the broker and the request allow it: the first answer says that it
//! is unknown, and the client asks again. Source: Apache Kafka, `KafkaApis.handleTopicMetadataRequest`.

use std::collections::BTreeSet;

use super::{authorized_operations, auto_create, encoded};
use crate::metadata::{Advertised, Image, Partition, Topic, is_internal_topic};
use crate::model::{PartitionIndex, TopicName, check_topic_name};
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};

/// The first version in which a topic may be named by its id alone.
const IDS_FROM: i16 = 12;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = MetadataRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let (response, missing) = answer(ctx.image, &request, asked.version);
    let body = encoded(&response, asked.version);
    ctx.answer(asked.ticket, Some(body));
    if ctx.config.auto_create_topics && request.allow_auto_topic_creation {
        auto_create::ask(ctx, missing);
    }
    Ok(())
}

/// The response, and the valid names in the request that no topic has.
fn answer(
    image: &Image,
    request: &MetadataRequest<'_>,
    version: i16,
) -> (MetadataResponse<'static>, Vec<TopicName>) {
    let mut missing = Vec::new();
    let topics = match wanted(request, version) {
        Wanted::All => image.topics().map(|topic| found(image, topic)).collect(),
        Wanted::Topics(topics) => {
            let Some(topics) = named(image, topics, version, &mut missing) else {
                return (refused(topics), Vec::new());
            };
            topics
        }
    };
    let topics = topics.into_iter().map(|topic: MetadataResponseTopic<'static>| {
        let is_known = topic.name.is_some();
        let asked = request.include_topic_authorized_operations && is_known;
        let operations = if asked { authorized_operations::TOPIC } else { authorized_operations::NOT_ASKED };
        MetadataResponseTopic { topic_authorized_operations: operations, ..topic }
    });
    let response = MetadataResponse {
        brokers: image.advertised().map(broker).collect(),
        cluster_id: Some(image.cluster_id.to_string().into()),
        controller_id: image.controller_id().0,
        topics: topics.collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::CLUSTER
        } else {
            authorized_operations::NOT_ASKED
        },
        ..MetadataResponse::default()
    };
    (response, missing)
}

enum Wanted<'r, 'a> {
    All,
    Topics(&'r Array<'a, MetadataRequestTopic<'a>>),
}

/// Null means all topics; an empty list means none, except in version 0, which has no null.
fn wanted<'r, 'a>(request: &'r MetadataRequest<'a>, version: i16) -> Wanted<'r, 'a> {
    match &request.topics {
        None => Wanted::All,
        Some(topics) if version == 0 && topics.is_empty() => Wanted::All,
        Some(topics) => Wanted::Topics(topics),
    }
}

/// The topics of the request, each once. `None` if the request names one in a way its version does not allow.
fn named(
    image: &Image,
    topics: &Array<'_, MetadataRequestTopic<'_>>,
    version: i16,
    missing: &mut Vec<TopicName>,
) -> Option<Vec<MetadataResponseTopic<'static>>> {
    let is_allowed = |topic: &MetadataRequestTopic<'_>| match (topic.name, topic.topic_id.is_zero()) {
        (Some(_), true) => true,
        (_, false) => version >= IDS_FROM,
        (None, true) => false,
    };
    if !topics.iter().all(|topic| is_allowed(&topic)) {
        return None;
    }
    let mut answered = BTreeSet::new();
    let mut results = Vec::new();
    // Ids win over names: a request has the one or the other.
    if topics.iter().any(|topic| !topic.topic_id.is_zero()) {
        for id in topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero()) {
            if answered.insert(id) {
                results.push(image.topic_by_id(id).map_or_else(
                    || MetadataResponseTopic {
                        error_code: ErrorCode::UnknownTopicId.code(),
                        name: None,
                        topic_id: id,
                        ..MetadataResponseTopic::default()
                    },
                    |topic| found(image, topic),
                ));
            }
        }
        return Some(results);
    }
    let mut answered = BTreeSet::new();
    for name in topics.iter().filter_map(|topic| topic.name) {
        if !answered.insert(name) {
            continue;
        }
        results.push(match image.topic(name) {
            Some(topic) => found(image, topic),
            None => {
                let is_valid = check_topic_name(name).is_ok();
                if is_valid {
                    missing.push(name.into());
                }
                unknown(name, is_valid)
            }
        });
    }
    Some(results)
}

fn found(image: &Image, topic: &Topic) -> MetadataResponseTopic<'static> {
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some((&topic.name).into()),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: topic.numbered().map(|(index, partition)| leadership(image, index, partition)).collect(),
        ..MetadataResponseTopic::default()
    }
}

/// A partition that nobody leads, or whose leader has not got its directory, is listed all the same.
fn leadership(
    image: &Image,
    partition_index: PartitionIndex,
    partition: &Partition,
) -> MetadataResponsePartition<'static> {
    let leader = image.leader_of(partition);
    let id = |node| image.broker_id(node, partition.slot).0;
    let code = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    MetadataResponsePartition {
        error_code: code.code(),
        partition_index,
        leader_id: leader.map_or(-1, id),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: partition.replicas.iter().map(|replica| id(replica.node)).collect(),
        isr_nodes: partition.isr.iter().copied().map(id).collect(),
        offline_replicas: image.offline_replicas(partition).map(id).collect(),
    }
}

fn unknown(name: &str, is_valid: bool) -> MetadataResponseTopic<'static> {
    let code = if is_valid { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
    MetadataResponseTopic {
        error_code: code.code(),
        name: Some(name.to_owned().into()),
        is_internal: is_internal_topic(name),
        ..MetadataResponseTopic::default()
    }
}

/// The request as a whole is not one of its version.
fn refused(topics: &Array<'_, MetadataRequestTopic<'_>>) -> MetadataResponse<'static> {
    let topics = topics.iter().map(|topic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.unwrap_or_default().to_owned().into()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    });
    MetadataResponse { topics: topics.collect(), ..MetadataResponse::default() }
}

fn broker(broker: Advertised<'_>) -> MetadataResponseBroker<'static> {
    MetadataResponseBroker {
        node_id: broker.id.0,
        host: broker.host.into(),
        port: i32::from(broker.port),
        rack: broker.rack.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TopicId, Uuid};
    use crate::protocol::ApiKey;
    use crate::server::handlers::fixture::image;

    fn request<'a>(topics: Option<&[(Option<&'a str>, TopicId)]>) -> MetadataRequest<'a> {
        let topics = topics.map(|topics| {
            topics.iter().map(|&(name, topic_id)| MetadataRequestTopic { name, topic_id }).collect()
        });
        MetadataRequest { topics, ..MetadataRequest::default() }
    }

    fn named<'a>(names: &[&'a str]) -> MetadataRequest<'a> {
        let topics: Vec<_> = names.iter().map(|name| (Some(*name), Uuid::ZERO)).collect();
        request(Some(&topics))
    }

    /// Name, code and number of partitions of each topic answered, and the names that may be made.
    fn check(
        request: &MetadataRequest<'_>,
        version: i16,
        expected: &[(&str, ErrorCode, usize)],
        made: &[&str],
    ) {
        let image = image(&[("a", 1), ("b", 3)]);
        let (response, missing) = answer(&image, request, version);
        let topics = response.topics.to_vec();
        let found: Vec<_> = topics
            .iter()
            .map(|topic| {
                let code = ErrorCode::from_code(topic.error_code).unwrap();
                (topic.name.as_deref().unwrap_or("(null)"), code, topic.partitions.len())
            })
            .collect();
        assert_eq!(found, expected, "version {version}: {request:?}");
        assert_eq!(missing.iter().map(AsRef::as_ref).collect::<Vec<_>>(), made);
    }

    const ALL: &[(&str, ErrorCode, usize)] = &[("a", ErrorCode::None, 1), ("b", ErrorCode::None, 3)];

    #[test]
    fn null_means_all_and_empty_means_none_but_in_version_0() {
        check(&request(None), 1, ALL, &[]);
        check(&request(Some(&[])), 1, &[], &[]);
        check(&request(Some(&[])), 0, ALL, &[]);
        check(&named(&["b"]), 0, &[("b", ErrorCode::None, 3)], &[]);
    }

    #[test]
    fn each_name_is_answered_once_and_missing_ones_may_be_made() {
        use ErrorCode::{InvalidTopicException, UnknownTopicOrPartition};
        check(&named(&["a", "a"]), 12, &[("a", ErrorCode::None, 1)], &[]);
        check(
            &named(&["x", "a b", "x"]),
            12,
            &[("x", UnknownTopicOrPartition, 0), ("a b", InvalidTopicException, 0)],
            &["x"],
        );
    }

    #[test]
    fn ids_name_topics_from_version_12_on() {
        let id = image(&[("a", 1), ("b", 3)]).topic("b").unwrap().id;
        let unknown = Uuid([9; 16]);
        check(&request(Some(&[(None, id)])), 12, &[("b", ErrorCode::None, 3)], &[]);
        check(&request(Some(&[(None, unknown)])), 12, &[("(null)", ErrorCode::UnknownTopicId, 0)], &[]);
        check(&request(Some(&[(None, id)])), 10, &[("", ErrorCode::InvalidRequest, 0)], &[]);
        check(&request(Some(&[(None, Uuid::ZERO)])), 12, &[("", ErrorCode::InvalidRequest, 0)], &[]);
    }

    #[test]
    fn every_version_can_be_encoded() {
        let image = image(&[("a", 1), ("__consumer_offsets", 2)]);
        for version in ApiKey::Metadata.versions() {
            let operations = MetadataRequest {
                include_topic_authorized_operations: version >= 8,
                include_cluster_authorized_operations: (8..=10).contains(&version),
                ..named(&["a", "x", "__consumer_offsets"])
            };
            let (response, _) = answer(&image, &operations, version);
            let body = encoded(&response, version);
            let decoded = MetadataResponse::decode(&mut Reader::new(&body), version).unwrap();
            assert_eq!(decoded.topics.len(), 3);
            let internal: Vec<bool> = decoded.topics.iter().map(|topic| topic.is_internal).collect();
            assert_eq!(internal, [false, false, version >= 1]);
            if version >= 8 {
                assert_eq!(decoded.topics.first().unwrap().topic_authorized_operations, 3576);
            }
        }
    }
}
