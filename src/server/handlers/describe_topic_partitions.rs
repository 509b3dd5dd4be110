//! DescribeTopicPartitions: topics and partitions page by page, in the order of names. Any shard serves it.

use std::collections::BTreeSet;

use super::{authorized_operations, encoded};
use crate::metadata::is_internal_topic;
use crate::metadata::{Image, Topic};
use crate::model::{PartitionIndex, check_topic_name};
use crate::protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DescribeTopicPartitionsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let body = encoded(&answer(ctx.image, &request, ctx.config.describe_partitions_max), asked.version);
    ctx.answer(asked.ticket, Some(body));
    Ok(())
}

fn answer(
    image: &Image,
    request: &DescribeTopicPartitionsRequest<'_>,
    partitions_max: u32,
) -> DescribeTopicPartitionsResponse<'static> {
    let (first, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let wants_all = request.topics.is_empty();
    let names: BTreeSet<&str> = if wants_all {
        image.topics_from(first).map(|topic| topic.name.as_ref()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name).filter(|name| *name >= first).collect()
    };
    let is_elsewhere = request.cursor.is_some() && !wants_all && !names.contains(first);
    if is_elsewhere || first_partition < 0 {
        return refused(request);
    }
    let mut left = usize::try_from(partitions_max).unwrap_or(usize::MAX);
    left = left.min(usize::try_from(request.response_partition_limit).unwrap_or(0)).max(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut topics = Vec::new();
    for name in names {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.to_owned().into(), partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic(name) else {
            topics.push(missing(name));
            continue;
        };
        let skipped = if name == first { first_partition } else { 0 };
        let partitions: Vec<_> = page(image, topic, skipped, left).collect();
        left -= partitions.len();
        let next = skipped.saturating_add(partitions.len() as PartitionIndex);
        topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some((&topic.name).into()),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions: partitions.into(),
            topic_authorized_operations: authorized_operations::TOPIC,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        if topic.partition(next).is_some() {
            response.next_cursor = Some(Cursor { topic_name: (&topic.name).into(), partition_index: next });
            break;
        }
    }
    response.topics = topics.into();
    response
}

fn page<'i>(
    image: &'i Image,
    topic: &'i Topic,
    first: PartitionIndex,
    count: usize,
) -> impl Iterator<Item = DescribeTopicPartitionsResponsePartition<'static>> + 'i {
    let skipped = usize::try_from(first).unwrap_or(usize::MAX);
    topic.numbered().skip(skipped).take(count).map(move |(partition_index, partition)| {
        let leader = image.leader_of(partition);
        let id = |node| image.broker_id(node, partition.slot).0;
        let code = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
        DescribeTopicPartitionsResponsePartition {
            error_code: code.code(),
            partition_index,
            leader_id: leader.map_or(-1, id),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: partition.replicas.iter().map(|replica| id(replica.node)).collect(),
            isr_nodes: partition.isr.iter().copied().map(id).collect(),
            eligible_leader_replicas: Some(Array::EMPTY),
            last_known_elr: Some(Array::EMPTY),
            offline_replicas: image.offline_replicas(partition).map(id).collect(),
        }
    })
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic<'static> {
    let code = match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.to_owned().into()),
        is_internal: is_internal_topic(name),
        topic_authorized_operations: authorized_operations::TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// A cursor that leads nowhere: every topic of the request is refused.
fn refused(request: &DescribeTopicPartitionsRequest<'_>) -> DescribeTopicPartitionsResponse<'static> {
    let topics = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.to_owned().into()),
        ..DescribeTopicPartitionsResponseTopic::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..DescribeTopicPartitionsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::describe_topic_partitions::TopicRequest;
    use crate::server::handlers::fixture::{self, image};

    type Page = (Vec<(String, ErrorCode, Vec<i32>)>, Option<(String, i32)>);

    fn ask(names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Page {
        let image = image(&[("a", 3), ("b", 1), ("c", 2)]);
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(|&name| TopicRequest { name }).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(name, partition_index)| Cursor { topic_name: name.into(), partition_index }),
        };
        let response = answer(&image, &request, 4);
        encoded(&response, 0);
        let topics = response.topics.iter().map(|topic| {
            let code = ErrorCode::from_code(topic.error_code).unwrap();
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_deref().unwrap_or("(null)").to_owned(), code, partitions)
        });
        let next =
            response.next_cursor.as_ref().map(|next| (next.topic_name.to_string(), next.partition_index));
        (topics.collect(), next)
    }

    fn ok(name: &str, partitions: &[i32]) -> (String, ErrorCode, Vec<i32>) {
        (name.to_owned(), ErrorCode::None, partitions.to_vec())
    }

    #[test]
    fn pages_follow_each_other_in_the_order_of_names() {
        let next = |name: &str, partition| Some((name.to_owned(), partition));
        let first = ask(&[], 100, None);
        assert_eq!(
            first,
            (vec![ok("a", &[0, 1, 2]), ok("b", &[0])], next("c", 0)),
            "the broker's bound of 4"
        );
        assert_eq!(ask(&[], 100, Some(("c", 0))), (vec![ok("c", &[0, 1])], None));
        assert_eq!(ask(&["c", "a"], 2, None), (vec![ok("a", &[0, 1])], next("a", 2)));
        assert_eq!(ask(&["c", "a"], 2, Some(("a", 2))), (vec![ok("a", &[2]), ok("c", &[0])], next("c", 1)));
        assert_eq!(
            ask(&["a"], 0, None),
            (vec![ok("a", &[0])], next("a", 1)),
            "at least one, or nobody gets on"
        );
        assert_eq!(ask(&["a"], 4, Some(("a", i32::MAX))), (vec![ok("a", &[])], None));
    }

    #[test]
    fn partitions_are_led_and_held_by_the_broker_of_their_slot() {
        let image = fixture::per_core_image(&[("a", 3)]);
        let request = DescribeTopicPartitionsRequest { response_partition_limit: 9, ..Default::default() };
        let told = answer(&image, &request, 9).topics.first().unwrap().partitions.to_vec();
        let leaders: Vec<i32> = told.iter().map(|partition| partition.leader_id).collect();
        assert_eq!(leaders, [1000, 1001, 1000]);
        for partition in told {
            let (replicas, isr) = (partition.replica_nodes.to_vec(), partition.isr_nodes.to_vec());
            assert_eq!((replicas, isr), (vec![partition.leader_id], vec![partition.leader_id]));
        }
    }

    #[test]
    fn missing_topics_and_cursors_that_lead_nowhere_are_told() {
        let (topics, next) = ask(&["x", "a b", "b"], 4, None);
        let codes: Vec<_> = topics.iter().map(|(name, code, _)| (name.as_str(), *code)).collect();
        let expected = [
            ("a b", ErrorCode::InvalidTopicException),
            ("b", ErrorCode::None),
            ("x", ErrorCode::UnknownTopicOrPartition),
        ];
        assert_eq!((codes.as_slice(), next), (&expected[..], None));
        for cursor in [("a", -1), ("b", 0)] {
            assert_eq!(ask(&["a"], 4, Some(cursor)).0, [("a".to_owned(), ErrorCode::InvalidRequest, vec![])]);
        }
    }
}
