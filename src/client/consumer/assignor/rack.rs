//! Members near replicas: what KIP-881 asks of assignors.
//!
//! A member that tells its rack (`client.rack`) should read partitions with a replica in that rack, as far as balance allows;
//! brokers then name that replica to it (KIP-392). All replicas count, also those that are away: they will be back sooner than
//! the group rebalances.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::TopicPartition;

use super::{Members, Racks, Topics};

/// Whether who gets what makes a difference: some member is in the rack of some replica, and not every partition has replicas
/// in the same racks. Source: Apache Kafka, `AbstractPartitionAssignor.useRackAwareAssignment`.
pub(super) fn matter<'a>(
    members: impl IntoIterator<Item = &'a str>,
    partitions: impl IntoIterator<Item = &'a Racks> + Clone,
) -> bool {
    let all: BTreeSet<&str> = partitions.clone().into_iter().flatten().map(|rack| &**rack).collect();
    members.into_iter().any(|rack| all.contains(rack))
        && partitions.into_iter().any(|racks| racks.len() != all.len())
}

/// Who is far from what, in a group for which racks matter; in another one nobody is.
pub(super) struct RackMap<'a> {
    topics: &'a Topics,
    /// Of members that tell one.
    members: BTreeMap<&'a str, &'a str>,
}

impl<'a> RackMap<'a> {
    pub fn new(topics: &'a Topics, members: &'a Members, wanted: &BTreeSet<TopicPartition>) -> RackMap<'a> {
        let told: BTreeMap<&str, &str> =
            members.iter().filter_map(|(id, member)| Some((id.as_str(), member.rack()?))).collect();
        let racks = wanted.iter().map(|partition| topics[&partition.topic].racks_of(partition.partition));
        let members = if matter(told.values().copied(), racks) { told } else { BTreeMap::new() };
        RackMap { topics, members }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the member is in a rack where the partition has no replica.
    pub fn is_far(&self, member: &str, partition: &TopicPartition) -> bool {
        self.members.get(member).is_some_and(|rack| {
            let racks = self.topics.get(&partition.topic).map(|topic| topic.racks_of(partition.partition));
            racks.is_none_or(|racks| !racks.contains(*rack))
        })
    }
}
