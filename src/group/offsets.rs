//! The offsets a group has committed: what is durable, what is on its way, and what has expired.
//!
//! A commit shows in OffsetFetch once its record is durable. Until then it stands beside the durable value, so that a
//! deletion or an expiry in between writes its tombstone all the same, and a snapshot does not go back behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Group;
use super::classic::State;
use super::error::GroupError;
use super::message::{
    CommitOffsets, CommittedOffset, DeleteOffsets, FetchOffsets, FetchTopic, FetchedOffset, FetchedTopic,
    GroupId, ReplyToken, Response, Ticket, TopicResults,
};
use super::records::TEXT_BYTES_MAX;
use super::timers::Timer;
use super::turn::{Change, Then, Turn, Write};
use crate::model::{LeaderEpoch, PartitionIndex, Timestamp, TopicName};

/// Fields of a record and its share of a batch header, beside the texts in it.
const RECORD_BYTES: usize = 60;

/// A value on its way to the log.
#[derive(Clone, PartialEq, Debug)]
struct Pending {
    appends: u32,
    newest: Option<CommittedOffset>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct GroupOffsets {
    durable: BTreeMap<TopicName, BTreeMap<PartitionIndex, CommittedOffset>>,
    pending: BTreeMap<TopicName, BTreeMap<PartitionIndex, Pending>>,
    /// The append after which the pending values of this moment are settled.
    last_append: Option<Ticket>,
    /// Fetches that asked for stable offsets, and the append they wait for.
    waiting: Vec<(Ticket, ReplyToken, FetchOffsets)>,
    /// About what a snapshot of the durable values takes.
    durable_bytes: usize,
}

impl GroupOffsets {
    pub fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.durable.get(topic)?.get(&partition)
    }

    /// All that the log says, durable or not.
    pub fn iter_newest(&self) -> impl Iterator<Item = (&TopicName, PartitionIndex, &CommittedOffset)> {
        let durable = self.durable.iter().flat_map(|(topic, partitions)| {
            let pending = self.pending.get(topic);
            partitions
                .iter()
                .filter(move |(partition, _)| !pending.is_some_and(|p| p.contains_key(partition)))
                .map(move |(partition, value)| (topic, *partition, value))
        });
        let pending = self.pending.iter().flat_map(|(topic, partitions)| {
            partitions.iter().filter_map(move |(partition, p)| Some((topic, *partition, p.newest.as_ref()?)))
        });
        durable.chain(pending)
    }

    /// Whether there is no offset, durable or on its way.
    pub fn is_empty(&self) -> bool {
        self.durable.is_empty() && self.pending.is_empty()
    }

    /// Whether no record of an offset is on its way, so that what is known now stays true.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn durable_bytes(&self) -> usize {
        self.durable_bytes
    }

    /// A record with this value is on its way.
    pub fn begin(
        &mut self,
        topic: &TopicName,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
        ticket: Ticket,
    ) {
        let partitions = self.pending.entry(topic.clone()).or_default();
        let pending = partitions.entry(partition).or_insert(Pending { appends: 0, newest: None });
        pending.appends += 1;
        pending.newest = value;
        self.last_append = Some(ticket);
    }

    /// A record that was on its way is durable, or lost.
    pub fn settle(
        &mut self,
        topic: &TopicName,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
        is_durable: bool,
    ) {
        if let Some(partitions) = self.pending.get_mut(topic) {
            if let Some(pending) = partitions.get_mut(&partition) {
                pending.appends -= 1;
                if pending.appends == 0 {
                    partitions.remove(&partition);
                }
            }
            if partitions.is_empty() {
                self.pending.remove(topic);
            }
        }
        if is_durable {
            self.set(topic, partition, value);
        }
    }

    /// The durable value is this one.
    pub fn set(&mut self, topic: &TopicName, partition: PartitionIndex, value: Option<CommittedOffset>) {
        match value {
            Some(value) => {
                self.durable_bytes += record_bytes(topic, &value);
                let partitions = self.durable.entry(topic.clone()).or_default();
                if let Some(former) = partitions.insert(partition, value) {
                    self.durable_bytes -= record_bytes(topic, &former);
                }
            }
            None => {
                let Some(partitions) = self.durable.get_mut(topic) else {
                    return;
                };
                if let Some(former) = partitions.remove(&partition) {
                    self.durable_bytes -= record_bytes(topic, &former);
                }
                if partitions.is_empty() {
                    self.durable.remove(topic);
                }
            }
        }
    }

    /// Durable offsets for a fetch. Partitions without one, or with one of a former topic of the name, have -1.
    pub fn fetch(&self, topics: Option<&[FetchTopic]>) -> Vec<FetchedTopic> {
        match topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(topic)).collect(),
            None => self
                .durable
                .iter()
                .map(|(topic, partitions)| FetchedTopic {
                    topic: topic.clone(),
                    partitions: partitions
                        .iter()
                        .map(|(partition, value)| fetched(*partition, Some(value)))
                        .collect(),
                })
                .collect(),
        }
    }

    fn fetch_topic(&self, wanted: &FetchTopic) -> FetchedTopic {
        let is_of_topic = |value: &&CommittedOffset| {
            value.topic_id.is_zero() || wanted.topic_id.is_zero() || value.topic_id == wanted.topic_id
        };
        let offset_of = |partition: &PartitionIndex| {
            fetched(*partition, self.get(&wanted.topic, *partition).filter(is_of_topic))
        };
        FetchedTopic {
            topic: wanted.topic.clone(),
            partitions: wanted.partitions.iter().map(offset_of).collect(),
        }
    }

    /// Whether a deletion has anything to delete: also where a tombstone is on its way, since it may be lost.
    fn is_known(&self, topic: &str, partition: PartitionIndex) -> bool {
        let is_pending =
            self.pending.get(topic).is_some_and(|partitions| partitions.contains_key(&partition));
        is_pending || self.get(topic, partition).is_some()
    }

    /// The known partitions of a topic.
    fn partitions_of(&self, topic: &str) -> BTreeSet<PartitionIndex> {
        let durable = self.durable.get(topic).into_iter().flat_map(|partitions| partitions.keys());
        let pending = self.pending.get(topic).into_iter().flat_map(|partitions| partitions.keys());
        durable.chain(pending).copied().collect()
    }

    fn topics(&self) -> BTreeSet<&TopicName> {
        self.durable.keys().chain(self.pending.keys()).collect()
    }

    /// Fetches whose append has come back.
    pub fn take_waiting(&mut self, settled: Ticket) -> Vec<(ReplyToken, FetchOffsets)> {
        if self.last_append.is_some_and(|last| last <= settled) {
            self.last_append = None;
        }
        let ready = self.waiting.extract_if(.., |(ticket, ..)| *ticket <= settled);
        ready.map(|(_, token, fetch)| (token, fetch)).collect()
    }

    /// All waiting fetches, as when the group goes.
    pub fn take_all_waiting(&mut self) -> Vec<(ReplyToken, FetchOffsets)> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, token, fetch)| (token, fetch)).collect()
    }
}

fn record_bytes(topic: &str, value: &CommittedOffset) -> usize {
    RECORD_BYTES + topic.len() + value.metadata.len()
}

fn fetched(partition: PartitionIndex, value: Option<&CommittedOffset>) -> FetchedOffset {
    match value {
        Some(value) => FetchedOffset {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
        },
        None => {
            FetchedOffset { partition, offset: -1, leader_epoch: LeaderEpoch(-1), metadata: Arc::from("") }
        }
    }
}

/// Offsets of a group that does not exist: -1 for what was asked by name, nothing for "all".
pub(super) fn fetch_unknown(topics: Option<&[FetchTopic]>) -> Vec<FetchedTopic> {
    topics.map_or_else(Vec::new, |topics| GroupOffsets::default().fetch(Some(topics)))
}

/// Checks a commit and says what to write for it. Replies at once if there is nothing to write.
pub(super) fn commit(
    group: &mut Group,
    turn: &mut Turn,
    token: ReplyToken,
    request: CommitOffsets,
) -> Option<Write> {
    let check = group.classic.check_commit(request.generation, &request.member, request.instance.as_ref());
    if let Err(error) = check {
        turn.reply(token, Response::CommitOffsets(Err(error)));
        return None;
    }
    // A commit is a sign of life, as Kafka takes it.
    if matches!(group.classic.state(), State::Stable | State::PreparingRebalance)
        && let Some(member) = group.classic.members().get(&request.member)
    {
        let session_timeout = member.session_timeout;
        turn.set_timer(Timer::Session(group.id.clone(), request.member.clone()), session_timeout);
    }
    let (results, changes) = commit_changes(&group.id, turn, request);
    let response = Response::CommitOffsets(Ok(results));
    if changes.is_empty() {
        turn.reply(token, response);
        return None;
    }
    Some(Write { partition: group.partition, changes, then: Then::Reply(token, response) })
}

/// The answer to a commit that may be, and what to write for it.
fn commit_changes(group: &GroupId, turn: &Turn, request: CommitOffsets) -> (Vec<TopicResults>, Vec<Change>) {
    let wall = turn.moment.wall;
    let expire_timestamp = request
        .retention
        .map(|retention| wall.saturating_add(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX)));
    let mut changes = Vec::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for commit in topic.partitions {
            let metadata = commit.metadata.unwrap_or_else(|| Arc::from(""));
            if is_too_long(&metadata, turn.limits.offset_metadata_chars_max) {
                partitions.push((commit.partition, Err(GroupError::OffsetMetadataTooLarge)));
                continue;
            }
            partitions.push((commit.partition, Ok(())));
            let value = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata,
                commit_timestamp: wall,
                expire_timestamp,
                topic_id: topic.topic_id,
            };
            changes.push(Change::Offset {
                group: group.clone(),
                topic: topic.topic.clone(),
                partition: commit.partition,
                value: Some(value),
            });
        }
        results.push(TopicResults { topic: topic.topic, partitions });
    }
    (results, changes)
}

/// Kafka counts UTF-16 units; a record holds at most `TEXT_BYTES_MAX` bytes.
fn is_too_long(metadata: &str, chars_max: usize) -> bool {
    metadata.len() > TEXT_BYTES_MAX
        || (metadata.len() > chars_max && metadata.encode_utf16().count() > chars_max)
}

/// Replies with the group's offsets, or parks the fetch behind the commits on their way if it asks for that.
pub(super) fn fetch(group: &mut Group, turn: &mut Turn, token: ReplyToken, request: FetchOffsets) {
    match group.offsets.last_append {
        Some(ticket) if request.require_stable => group.offsets.waiting.push((ticket, token, request)),
        _ => {
            let topics = group.offsets.fetch(request.topics.as_deref());
            turn.reply(token, Response::FetchOffsets(Ok(topics)));
        }
    }
}

/// Says what to write to delete offsets of topics that nobody in the group reads.
pub(super) fn delete(
    group: &Group,
    turn: &mut Turn,
    token: ReplyToken,
    request: DeleteOffsets,
) -> Option<Write> {
    if group.classic.state() != State::Empty && !group.classic.uses_consumer_protocol() {
        turn.reply(token, Response::DeleteOffsets(Err(GroupError::NonEmptyGroup)));
        return None;
    }
    let mut changes = Vec::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for (topic, partitions) in request.topics {
        let verdict = if group.classic.is_subscribed(&topic) {
            Err(GroupError::GroupSubscribedToTopic)
        } else {
            Ok(())
        };
        if verdict.is_ok() {
            let known = partitions.iter().filter(|p| group.offsets.is_known(&topic, **p));
            changes.extend(known.map(|partition| tombstone(&group.id, &topic, *partition)));
        }
        let partitions = partitions.into_iter().map(|partition| (partition, verdict)).collect();
        results.push(TopicResults { topic, partitions });
    }
    let response = Response::DeleteOffsets(Ok(results));
    if changes.is_empty() {
        turn.reply(token, response);
        return None;
    }
    Some(Write { partition: group.partition, changes, then: Then::Reply(token, response) })
}

/// Tombstones of all the group's offsets.
pub(super) fn tombstones(group: &Group) -> Vec<Change> {
    group.offsets.topics().into_iter().flat_map(|topic| topic_tombstones(group, topic)).collect()
}

/// Tombstones of the group's offsets of one topic.
pub(super) fn topic_tombstones(group: &Group, topic: &TopicName) -> Vec<Change> {
    let partitions = group.offsets.partitions_of(topic).into_iter();
    partitions.map(|partition| tombstone(&group.id, topic, partition)).collect()
}

/// Tombstones of the offsets whose retention is over, and whether that is all the group has.
pub(super) fn expired(group: &Group, wall: Timestamp, retention_ms: i64) -> (Vec<Change>, bool) {
    let is_expired = |topic: &str, value: &CommittedOffset| {
        if group.classic.is_subscribed(topic) {
            return false;
        }
        let Some(start) = group.classic.retention_start(value.commit_timestamp) else {
            return false;
        };
        match value.expire_timestamp {
            Some(at) => wall >= at,
            None => wall.saturating_sub(start) >= retention_ms,
        }
    };
    let mut changes = Vec::new();
    let mut is_all = true;
    for (topic, partition, value) in group.offsets.iter_newest() {
        if is_expired(topic, value) {
            changes.push(tombstone(&group.id, topic, partition));
        } else {
            is_all = false;
        }
    }
    (changes, is_all)
}

fn tombstone(group: &GroupId, topic: &TopicName, partition: PartitionIndex) -> Change {
    Change::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn value(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: LeaderEpoch(0),
            metadata: "".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id: TopicId::ZERO,
        }
    }

    #[test]
    fn pending_values_are_newest_and_become_durable_in_order() {
        let topic: TopicName = "t".into();
        let mut offsets = GroupOffsets::default();
        let seen = |offsets: &GroupOffsets| {
            (offsets.get("t", 0).map(|v| v.offset), offsets.iter_newest().next().map(|(.., v)| v.offset))
        };
        offsets.begin(&topic, 0, Some(value(1)), Ticket(1));
        assert_eq!(seen(&offsets), (None, Some(1)));
        offsets.begin(&topic, 0, Some(value(2)), Ticket(2));
        offsets.settle(&topic, 0, Some(value(1)), true);
        assert_eq!(seen(&offsets), (Some(1), Some(2)));
        offsets.settle(&topic, 0, Some(value(2)), false);
        assert_eq!(seen(&offsets), (Some(1), Some(1)), "a lost commit leaves the durable one");
        offsets.begin(&topic, 0, None, Ticket(3));
        assert_eq!((seen(&offsets), offsets.is_empty()), ((Some(1), None), false));
        offsets.settle(&topic, 0, None, true);
        assert_eq!((seen(&offsets), offsets.durable_bytes()), ((None, None), 0));
        assert!(offsets.is_empty() && offsets.is_settled());
    }

    #[test]
    fn metadata_is_counted_in_utf16_units() {
        let check =
            |metadata: &str, chars_max, expected| assert_eq!(is_too_long(metadata, chars_max), expected);
        check("ééé", 3, false);
        check("éééé", 3, true);
        check("𝄞𝄞", 3, true);
        check("𝄞𝄞", 4, false);
        check(&"x".repeat(TEXT_BYTES_MAX + 1), usize::MAX, true);
    }
}
