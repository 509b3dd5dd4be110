//! Requests that name partitions topic by topic: split by owner on their way in, put together by topic on the way out.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Route;
use super::context::Context;
use super::gather::{Merge, by_owner};
use crate::model::{Endpoint, PartitionIndex, ShardId, TopicId, TopicName};
use crate::partition::ReplicaIndex;
use crate::protocol::ErrorCode;

/// Entries grouped by topic: topics in the order in which they first came, entries in theirs.
pub struct ByTopic<T> {
    topics: Vec<(TopicName, Vec<T>)>,
    /// Names come from peers, hence the ordered map.
    places: BTreeMap<TopicName, usize>,
}

impl<T> ByTopic<T> {
    pub fn new() -> ByTopic<T> {
        ByTopic { topics: Vec::new(), places: BTreeMap::new() }
    }

    pub fn push(&mut self, topic: &str, entry: T) {
        if let Some(place) = self.places.get(topic) {
            self.topics[*place].1.push(entry);
            return;
        }
        let name = TopicName::from(topic);
        self.places.insert(name.clone(), self.topics.len());
        self.topics.push((name, vec![entry]));
    }

    pub fn iter(&self) -> impl Iterator<Item = &(TopicName, Vec<T>)> {
        self.topics.iter()
    }
}

impl<T> IntoIterator for ByTopic<T> {
    type Item = (TopicName, Vec<T>);
    type IntoIter = std::vec::IntoIter<(TopicName, Vec<T>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.topics.into_iter()
    }
}

impl<N: AsRef<str>, T> FromIterator<(N, T)> for ByTopic<T> {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(entries: I) -> ByTopic<T> {
        let mut by_topic = ByTopic::new();
        entries.into_iter().for_each(|(topic, entry)| by_topic.push(topic.as_ref(), entry));
        by_topic
    }
}

/// Routes a request by the owners of the partitions it names, as (topic, partition, entry). Partitions that nobody here
/// owns stay with this shard, which says what is wrong with them.
pub fn route<'a, T>(
    ctx: &Context<'_>,
    named: impl IntoIterator<Item = (&'a str, PartitionIndex, T)>,
    encode: impl Fn(&ByTopic<T>) -> Bytes,
    merge: Merge,
) -> Route {
    let owner = |topic: &str, index| {
        let partition = ctx.image.partition(topic, index);
        partition.and_then(|partition| ctx.image.owner_of(partition)).unwrap_or(ctx.shard)
    };
    route_to(owner, named, encode, merge)
}

fn route_to<'a, T>(
    owner: impl Fn(&str, PartitionIndex) -> ShardId,
    named: impl IntoIterator<Item = (&'a str, PartitionIndex, T)>,
    encode: impl Fn(&ByTopic<T>) -> Bytes,
    merge: Merge,
) -> Route {
    let owned = named.into_iter().map(|(topic, index, entry)| (owner(topic, index), (topic, entry)));
    let groups = by_owner(owned);
    match groups.as_slice() {
        [] => Route::Here,
        [(owner, _)] => Route::Whole(*owner),
        _ => {
            let part =
                |(owner, entries): (ShardId, Vec<(&str, T)>)| (owner, encode(&entries.into_iter().collect()));
            Route::Parts(groups.into_iter().map(part).collect(), merge)
        }
    }
}

/// Why a partition that the image has is not served here: it is offline, its folder is being made still, or another shard owns
/// it by now.
pub fn absent(ctx: &Context<'_>, topic_id: TopicId, index: PartitionIndex) -> ErrorCode {
    match ctx.partitions.offline(topic_id, index) {
        Some(_) => ErrorCode::KafkaStorageError,
        None => ErrorCode::NotLeaderOrFollower,
    }
}

/// The replica of a partition that this shard can answer for as its leader to clients that came in at `endpoint`, or the
/// error to answer with.
pub fn leader_here(
    ctx: &Context<'_>,
    endpoint: Option<Endpoint>,
    topic: &str,
    index: PartitionIndex,
) -> Result<ReplicaIndex, ErrorCode> {
    let topic = ctx.image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !ctx.image.is_at(partition, endpoint) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let replica = ctx.partitions.find(topic.id, index).ok_or_else(|| absent(ctx, topic.id, index))?;
    if !partition.is_led_by(ctx.image.local.node) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    match ctx.partitions.get(replica).log().offline() {
        Some(_) => Err(ErrorCode::KafkaStorageError),
        None => Ok(replica),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(by_topic: &ByTopic<i32>) -> String {
        by_topic.iter().map(|(name, entries)| format!("{name}{entries:?}")).collect()
    }

    #[test]
    fn entries_of_one_topic_come_together() {
        let by_topic: ByTopic<i32> = [("b", 1), ("a", 2), ("b", 3)].into_iter().collect();
        assert_eq!(text(&by_topic), "b[1, 3]a[2]");
    }

    #[test]
    fn requests_are_split_only_between_owners() {
        let check = |named: &[(&'static str, i32)], expected: &str| {
            let named = named.iter().map(|(topic, index)| (*topic, *index, *index));
            let by_index = |_: &str, index: i32| ShardId(index as u16 % 2);
            let found = match route_to(by_index, named, |part| text(part).into(), |_, _| Bytes::new()) {
                Route::Here => "here".to_owned(),
                Route::Whole(shard) => format!("whole {shard}"),
                Route::Parts(parts, _) => parts
                    .iter()
                    .map(|(shard, body)| format!("{shard}:{} ", std::str::from_utf8(body).unwrap()))
                    .collect(),
                Route::Everyone(_) => "everyone".to_owned(),
            };
            assert_eq!(found, expected, "{named:?}", named = expected);
        };
        check(&[], "here");
        check(&[("a", 1), ("b", 3)], "whole 1");
        check(&[("a", 0), ("b", 1), ("a", 2)], "0:a[0, 2] 1:b[1] ");
    }
}
