//! Consumer groups: who is in them, how far they are, and where they shall go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::client::committed;
use crate::client::consumer::wire::Assignment;
use crate::client::coordinator::subject;
use crate::client::error::{Abortable, ClientError};
use crate::client::offsets;
use crate::model::{NodeId, Offset, Timestamp, TopicName, TopicPartition};
use crate::protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use crate::protocol::{ApiKey, ErrorCode};

use super::asking::{Target, unless_misdirected};
use super::{Admin, Each, FoundOffset, IsolationLevel, OffsetSpec};

pub use crate::client::committed::CommittedOffset;

/// The groups that could be listed, and the brokers that did not answer.
#[derive(Clone, Debug, Default)]
pub struct GroupListings {
    /// By id.
    pub groups: Vec<GroupListing>,
    pub failures: BTreeMap<NodeId, ClientError>,
}

/// A group in a list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupListing {
    pub id: String,
    /// `consumer` for groups of consumers; empty for offsets without members.
    pub protocol_type: String,
    /// Kafka's name of the state, such as `Stable`; empty where the broker is too old to tell.
    pub state: String,
    /// `classic` or `consumer`; empty where the broker is too old to tell.
    pub kind: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub id: String,
    pub state: String,
    pub protocol_type: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assignment: Vec<TopicPartition>,
}

/// How far a group is in a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLag {
    pub partition: TopicPartition,
    /// `None`: nothing committed.
    pub committed: Option<Offset>,
    pub begin: Option<Offset>,
    pub end: Option<Offset>,
    /// Records that the group has not read, `None` where one of the two is not known.
    pub lag: Option<i64>,
    /// Who reads it now.
    pub member: Option<Arc<MemberDescription>>,
}

/// Where a group shall go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetTo {
    Earliest,
    Latest,
    /// The first record at this moment or after it; the end if there is none.
    Timestamp(Timestamp),
    Offset(Offset),
    /// So many records forward, or back if negative.
    ShiftBy(i64),
}

/// One partition of a reset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedReset {
    pub partition: TopicPartition,
    /// `None`: nothing committed.
    pub from: Option<Offset>,
    /// Within what the partition has.
    pub to: Offset,
    pub leader_epoch: i32,
}

impl Admin {
    /// All groups, asked of every broker.
    pub async fn list_groups(&self) -> Result<GroupListings, ClientError> {
        let mut listings = GroupListings::default();
        let mut groups = BTreeSet::new();
        for node in self.describe_cluster().await?.nodes {
            match self.groups_of(node.id).await {
                Ok(found) => groups.extend(found),
                Err(error) => drop(listings.failures.insert(node.id, error)),
            }
        }
        listings.groups = groups.into_iter().collect();
        Ok(listings)
    }

    async fn groups_of(&self, node: NodeId) -> Result<Vec<GroupListing>, ClientError> {
        let check = |code| ClientError::check(ApiKey::ListGroups, format!("broker {node}"), code, None);
        let compose = |_version| ListGroupsRequest::default();
        let answer = self.ask(Target::Node(node), i16::MAX, compose, |answer| {
            let response: ListGroupsResponse<'_> = answer.decode()?;
            check(response.error_code)
        });
        let answer = answer.await?;
        let response: ListGroupsResponse<'_> = answer.decode()?;
        let listing = response.groups.iter().map(|group| GroupListing {
            id: group.group_id.as_str().to_owned(),
            protocol_type: group.protocol_type.as_str().to_owned(),
            state: group.group_state.as_str().to_owned(),
            kind: group.group_type.as_str().to_owned(),
        });
        Ok(listing.collect())
    }

    /// Groups with their members. A group that nobody knows is one in the state `Dead`, or an error, as the broker says.
    pub async fn describe_groups(&self, ids: &[&str]) -> Each<String, GroupDescription> {
        let mut each = Each::new();
        for id in ids {
            each.insert((*id).to_owned(), self.describe_group(id).await);
        }
        each
    }

    pub async fn describe_group(&self, id: &str) -> Result<GroupDescription, ClientError> {
        let api = ApiKey::DescribeGroups;
        let ids = [id];
        let compose =
            |_version| DescribeGroupsRequest { groups: ids.as_slice().into(), ..Default::default() };
        let answer = self.ask(Target::Coordinator(id), i16::MAX, compose, |answer| {
            let response: DescribeGroupsResponse<'_> = answer.decode()?;
            let first = response.groups.first();
            unless_misdirected(first.and_then(|g| ClientError::refused(api, "", g.error_code, None)))
        });
        let answer = answer.await?;
        let response: DescribeGroupsResponse<'_> = answer.decode()?;
        let told = response.groups.iter().find(|group| &*group.group_id == id);
        let missing = || ClientError::refused(api, subject(id), ErrorCode::GroupIdNotFound.code(), None);
        let told = told.ok_or_else(|| missing().expect("the code is an error's"))?;
        ClientError::check(api, subject(id), told.error_code, told.error_message.as_deref())?;
        Ok(description(&told))
    }

    /// The offsets that a group has committed.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let mut patience = self.patience();
        loop {
            match committed::fetch(&self.cluster, group, None).await {
                Ok(each) => {
                    return each
                        .into_iter()
                        .filter_map(|(partition, result)| match result {
                            Ok(Some(committed)) => Some(Ok((partition, committed))),
                            Ok(None) => None,
                            Err(error) => Some(Err(error)),
                        })
                        .collect();
                }
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// How far a group is in every partition that it has committed an offset of or that a member reads. By partition.
    pub async fn group_lag(&self, group: &str) -> Result<Vec<PartitionLag>, ClientError> {
        let readers = match self.describe_group(group).await {
            Ok(description) => readers(description),
            Err(error) if error.error_code() == Some(ErrorCode::GroupIdNotFound) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let offsets = self.group_offsets(group).await?;
        let partitions: BTreeSet<&TopicPartition> = offsets.keys().chain(readers.keys()).collect();
        let bounds = self.bounds(partitions.iter().copied()).await?;
        let row = |partition: &TopicPartition| {
            let committed = offsets.get(partition).map(|committed| committed.offset);
            let (begin, end) = match &bounds[partition] {
                Ok((begin, end)) => (Some(begin.offset), Some(end.offset)),
                // A topic that is gone has no bounds; the offsets are still there.
                Err(_) => (None, None),
            };
            PartitionLag {
                partition: partition.clone(),
                committed,
                begin,
                end,
                lag: committed.zip(end).map(|(committed, end)| (end - committed).max(0)),
                member: readers.get(partition).cloned(),
            }
        };
        Ok(partitions.into_iter().map(row).collect())
    }

    /// What a reset of a group's offsets would do; nothing is changed. It is about the partitions of `topics`; if there
    /// are none, about those with committed offsets.
    pub async fn plan_reset(
        &self,
        group: &str,
        topics: &[&str],
        to: ResetTo,
    ) -> Result<Vec<PlannedReset>, ClientError> {
        let offsets = self.group_offsets(group).await?;
        let mut partitions: BTreeSet<TopicPartition> = BTreeSet::new();
        if topics.is_empty() {
            partitions.extend(offsets.keys().cloned());
        }
        for (name, topic) in self.describe_topics(topics).await? {
            let indexes = topic?.partitions.len() as i32;
            partitions.extend((0..indexes).map(|index| TopicPartition::new(name.clone(), index)));
        }
        let by_time: Each<TopicPartition, Option<FoundOffset>> = match to {
            ResetTo::Timestamp(moment) => {
                let wanted = partitions.iter().map(|p| (p.clone(), OffsetSpec::At(moment))).collect();
                self.list_offsets(&wanted, IsolationLevel::ReadUncommitted).await
            }
            _ => Each::new(),
        };
        let bounds = self.bounds(&partitions).await?;
        let mut planned = Vec::new();
        for partition in partitions {
            let (begin, end) = bounds[&partition].clone()?;
            let from = offsets.get(&partition).map(|committed| committed.offset);
            let target = match to {
                ResetTo::Earliest => begin,
                ResetTo::Latest => end,
                ResetTo::Timestamp(_) => by_time[&partition].clone()?.unwrap_or(end),
                ResetTo::Offset(offset) => FoundOffset { offset, leader_epoch: -1, ..end },
                ResetTo::ShiftBy(by) => {
                    let offset = from.unwrap_or(begin.offset).saturating_add(by);
                    FoundOffset { offset, leader_epoch: -1, ..end }
                }
            };
            let to = target.offset.clamp(begin.offset, end.offset);
            let leader_epoch = if to == target.offset { target.leader_epoch } else { -1 };
            planned.push(PlannedReset { partition, from, to, leader_epoch });
        }
        Ok(planned)
    }

    /// Does what [`Admin::plan_reset`] planned. Errors: the group has members, which would go on where they are.
    pub async fn reset_offsets(
        &self,
        group: &str,
        planned: &[PlannedReset],
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        match self.describe_group(group).await {
            Ok(description) if !description.members.is_empty() => {
                let members = description.members.len();
                return Err(Abortable::GroupNotEmpty { group: group.into(), members }.into());
            }
            Ok(_) => {}
            Err(error) if error.error_code() == Some(ErrorCode::GroupIdNotFound) => {}
            Err(error) => return Err(error),
        }
        let offsets: BTreeMap<TopicPartition, CommittedOffset> = planned
            .iter()
            .map(|reset| {
                let committed = CommittedOffset {
                    offset: reset.to,
                    leader_epoch: reset.leader_epoch,
                    metadata: String::new(),
                };
                (reset.partition.clone(), committed)
            })
            .collect();
        let mut patience = self.patience();
        loop {
            match committed::commit(&self.cluster, group, &committed::Committer::Nobody, &offsets).await {
                Ok(each) => return Ok(each),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Deletes groups that have no members, with their offsets.
    pub async fn delete_groups(&self, ids: &[&str]) -> Each<String, ()> {
        let mut each = Each::new();
        for id in ids {
            each.insert((*id).to_owned(), self.delete_group(id).await);
        }
        each
    }

    async fn delete_group(&self, id: &str) -> Result<(), ClientError> {
        let api = ApiKey::DeleteGroups;
        let ids = [id];
        let compose = |_version| DeleteGroupsRequest { groups_names: ids.as_slice().into() };
        let answer = self.ask(Target::Coordinator(id), i16::MAX, compose, |answer| {
            let response: DeleteGroupsResponse<'_> = answer.decode()?;
            let first = response.results.first();
            unless_misdirected(first.and_then(|g| ClientError::refused(api, "", g.error_code, None)))
        });
        let answer = answer.await?;
        let response: DeleteGroupsResponse<'_> = answer.decode()?;
        let told = response.results.first();
        ClientError::check(api, subject(id), told.map_or(0, |told| told.error_code), None)
    }

    /// Deletes the offsets of some partitions. Errors, for each: a member is subscribed to the topic.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        let api = ApiKey::OffsetDelete;
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            let partition = OffsetDeleteRequestPartition { partition_index: *partition };
            topics.entry(topic).or_default().push(partition);
        }
        let compose = |_version| {
            let topics = topics.iter().map(|(name, partitions)| OffsetDeleteRequestTopic {
                name,
                partitions: partitions.as_slice().into(),
            });
            OffsetDeleteRequest { group_id: group, topics: topics.collect::<Vec<_>>().into() }
        };
        let answer = self.ask(Target::Coordinator(group), i16::MAX, compose, |answer| {
            let response: OffsetDeleteResponse<'_> = answer.decode()?;
            unless_misdirected(ClientError::refused(api, "", response.error_code, None))
        });
        let answer = answer.await?;
        let response: OffsetDeleteResponse<'_> = answer.decode()?;
        ClientError::check(api, subject(group), response.error_code, None)?;
        let mut each = Each::new();
        for topic in &response.topics {
            let name = TopicName::from(topic.name.as_str());
            for told in &topic.partitions {
                let partition = TopicPartition::new(name.clone(), told.partition_index);
                let checked = ClientError::check(api, partition.to_string(), told.error_code, None);
                each.insert(partition, checked);
            }
        }
        Ok(each)
    }

    /// Begin and end of each partition. Those that are not there are errors at once.
    async fn bounds<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<Each<TopicPartition, (FoundOffset, FoundOffset)>, ClientError> {
        let partitions: BTreeSet<&TopicPartition> = partitions.into_iter().collect();
        let topics: BTreeSet<&TopicName> = partitions.iter().map(|partition| &partition.topic).collect();
        let topics: Vec<TopicName> = topics.into_iter().cloned().collect();
        let image = self.describe(Some(&topics)).await?;
        let (there, gone): (Vec<&TopicPartition>, Vec<_>) = partitions
            .into_iter()
            .partition(|partition| image.partition(&partition.topic, partition.partition).is_some());
        let wanted = |spec| there.iter().map(|p| ((*p).clone(), spec)).collect();
        let (earliest, latest) = (wanted(OffsetSpec::Earliest), wanted(OffsetSpec::Latest));
        let isolation = IsolationLevel::ReadUncommitted;
        let (begins, mut ends) =
            tokio::join!(self.list_offsets(&earliest, isolation), self.list_offsets(&latest, isolation));
        let none = FoundOffset { offset: 0, timestamp: None, leader_epoch: -1 };
        let both = begins.into_iter().map(|(partition, begin)| {
            let end = ends.remove(&partition).unwrap_or(Ok(None));
            let bounds = begin.and_then(|begin| Ok((begin.unwrap_or(none), end?.unwrap_or(none))));
            (partition, bounds)
        });
        let gone = gone
            .into_iter()
            .map(|partition| (partition.clone(), Err(offsets::leaderless(&image, partition))));
        Ok(both.chain(gone).collect())
    }
}

fn description(told: &DescribedGroup<'_>) -> GroupDescription {
    GroupDescription {
        id: told.group_id.as_str().to_owned(),
        state: told.group_state.as_str().to_owned(),
        protocol_type: told.protocol_type.as_str().to_owned(),
        protocol: told.protocol_data.as_str().to_owned(),
        members: told.members.iter().map(|member| member_description(&member)).collect(),
    }
}

fn member_description(told: &DescribedGroupMember<'_>) -> MemberDescription {
    // Members of other kinds of groups speak another language here; they have no partitions.
    let assignment = Assignment::decode(&told.member_assignment).unwrap_or_default();
    MemberDescription {
        member_id: told.member_id.as_str().to_owned(),
        instance_id: told.group_instance_id.as_deref().map(str::to_owned),
        client_id: told.client_id.as_str().to_owned(),
        host: told.client_host.as_str().to_owned(),
        assignment: assignment.partitions,
    }
}

fn readers(description: GroupDescription) -> BTreeMap<TopicPartition, Arc<MemberDescription>> {
    let mut readers = BTreeMap::new();
    for member in description.members {
        let member = Arc::new(member);
        readers.extend(member.assignment.iter().map(|partition| (partition.clone(), member.clone())));
    }
    readers
}
