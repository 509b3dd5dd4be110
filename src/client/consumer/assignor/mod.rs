//! Who of a group reads what: decided by one of its members, its leader.
//!
//! The four of Kafka are built in; an [`Assignor`] of one's own is given to the consumer's builder. All members of a group
//! must know one assignor in common, by name; names and data are those of the Java client, so that both may be in a group.

mod rack;
mod range;
mod round_robin;
mod sticky;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::client::settings::AssignorKind;
use crate::model::{TopicName, TopicPartition};

use super::wire::Subscription;

pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use sticky::{CooperativeStickyAssignor, StickyAssignor};

/// How partitions change hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RebalanceProtocol {
    /// Every member gives back everything first.
    Eager,
    /// Members keep what stays theirs, and give back the rest before another gets it, in a second round (KIP-429).
    Cooperative,
}

/// What a group reads. Topics that do not exist are not there.
pub type Topics = BTreeMap<TopicName, GroupTopic>;

/// The racks where a partition has replicas.
pub type Racks = BTreeSet<Arc<str>>;

/// A topic as its group's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupTopic {
    pub partition_count: i32,
    /// By partition; those behind the end have replicas in no rack that is known.
    pub racks: Vec<Racks>,
}

impl GroupTopic {
    /// Without racks.
    pub fn of(partition_count: i32) -> GroupTopic {
        GroupTopic { partition_count, racks: Vec::new() }
    }

    pub fn racks_of(&self, partition: i32) -> &Racks {
        const NOWHERE: &Racks = &Racks::new();
        usize::try_from(partition).ok().and_then(|index| self.racks.get(index)).unwrap_or(NOWHERE)
    }
}

/// Members by id.
pub type Members = BTreeMap<String, GroupMember>;

/// Partitions by member; every member is there.
pub type Assignments = BTreeMap<String, Vec<TopicPartition>>;

/// A member as its group's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupMember {
    /// Of a static member.
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

impl GroupMember {
    /// Where it is, if it tells.
    pub fn rack(&self) -> Option<&str> {
        self.subscription.rack.as_deref().filter(|rack| !rack.is_empty())
    }
}

/// Decides who reads what.
pub trait Assignor: Send + Sync {
    /// The name that members agree on.
    fn name(&self) -> &str;

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// What the leader is to know beside the subscription: `owned` in `generation` was the last that this member got.
    fn user_data(&self, owned: &[TopicPartition], generation: i32) -> Option<Vec<u8>> {
        let _ = (owned, generation);
        None
    }

    /// Partitions for every member. Only of topics that it subscribes to, each to one member.
    fn assign(&self, topics: &Topics, members: &Members) -> Assignments;
}

impl fmt::Debug for dyn Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub(super) fn built_in(kind: AssignorKind) -> Box<dyn Assignor> {
    match kind {
        AssignorKind::Range => Box::new(RangeAssignor),
        AssignorKind::RoundRobin => Box::new(RoundRobinAssignor),
        AssignorKind::Sticky => Box::new(StickyAssignor),
        AssignorKind::CooperativeSticky => Box::new(CooperativeStickyAssignor),
    }
}

/// Members in the order of assignment: static ones by their instance, then the others by their id.
/// Source: Apache Kafka, `AbstractPartitionAssignor.MemberInfo`.
fn in_order(members: &Members) -> Vec<(&String, &GroupMember)> {
    let mut ordered: Vec<(&String, &GroupMember)> = members.iter().collect();
    ordered.sort_by_key(|(id, member)| {
        (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
    });
    ordered
}

fn nothing_for(members: &Members) -> Assignments {
    members.keys().map(|id| (id.clone(), Vec::new())).collect()
}

/// All partitions of the topics that somebody subscribes to.
fn wanted_partitions(topics: &Topics, members: &Members) -> BTreeSet<TopicPartition> {
    let wanted: BTreeSet<&TopicName> =
        members.values().flat_map(|member| &member.subscription.topics).collect();
    let counts = wanted.into_iter().filter_map(|name| Some((name, topics.get(name)?.partition_count)));
    counts
        .flat_map(|(name, count)| (0..count).map(|index| TopicPartition::new(name.clone(), index)))
        .collect()
}

#[cfg(test)]
mod tests;
