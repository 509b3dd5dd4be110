//! Sticky: as even as can be, and as little moved as can be.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::TopicPartition;

use super::super::wire::{
    NO_GENERATION, decode_cooperative, decode_sticky, encode_cooperative, encode_sticky,
};
use super::rack::RackMap;
use super::{
    Assignments, Assignor, GroupMember, Members, RebalanceProtocol, Topics, in_order, nothing_for,
    wanted_partitions,
};

/// Balanced, and members keep what they had, though they give everything back in between.
/// Source of the rules: KIP-54; of the data: Apache Kafka, `StickyAssignor`.
#[derive(Clone, Copy, Debug)]
pub struct StickyAssignor;

/// As [`StickyAssignor`], and what stays with a member is read on while the rest moves. Source: KIP-429;
/// Apache Kafka, `CooperativeStickyAssignor`.
#[derive(Clone, Copy, Debug)]
pub struct CooperativeStickyAssignor;

/// What a member says it had, and in which generation.
type Claim = (Vec<TopicPartition>, i32);

impl Assignor for StickyAssignor {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, owned: &[TopicPartition], generation: i32) -> Option<Vec<u8>> {
        (!owned.is_empty()).then(|| encode_sticky(owned, generation))
    }

    fn assign(&self, topics: &Topics, members: &Members) -> Assignments {
        balance(
            topics,
            members,
            &owners(topics, members, |member| {
                // Data that cannot be read costs stickiness and nothing else.
                let data = member.subscription.user_data.as_deref();
                data.and_then(|data| decode_sticky(data).ok()).unwrap_or_default()
            }),
        )
    }
}

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn user_data(&self, _owned: &[TopicPartition], generation: i32) -> Option<Vec<u8>> {
        Some(encode_cooperative(generation))
    }

    fn assign(&self, topics: &Topics, members: &Members) -> Assignments {
        let owners = owners(topics, members, |member| {
            let data = member.subscription.user_data.as_deref();
            let told = data.and_then(|data| decode_cooperative(data).ok());
            let generation = member.subscription.generation.or(told).unwrap_or(NO_GENERATION);
            (member.subscription.owned.clone(), generation)
        });
        let mut assignments = balance(topics, members, &owners);
        // What another holds is with nobody until that one has let go of it: the next round gives it.
        let mut holders: BTreeMap<&TopicPartition, Vec<&String>> = BTreeMap::new();
        for (id, member) in members {
            for partition in &member.subscription.owned {
                holders.entry(partition).or_default().push(id);
            }
        }
        for (id, partitions) in &mut assignments {
            partitions.retain(|partition| match owners.get(partition) {
                Some(owner) => owner == id,
                None => {
                    holders.get(partition).is_none_or(|holders| holders.iter().all(|holder| *holder == id))
                }
            });
        }
        assignments
    }
}

/// Who had what, of that which still is and which its owner still wants. The newest claim counts; two claims of one
/// generation are none.
fn owners(
    topics: &Topics,
    members: &Members,
    claim: impl Fn(&GroupMember) -> Claim,
) -> BTreeMap<TopicPartition, String> {
    let mut claims: BTreeMap<TopicPartition, (i32, Option<&String>)> = BTreeMap::new();
    for (id, member) in members {
        let (partitions, generation) = claim(member);
        for partition in partitions {
            let known = claims.entry(partition).or_insert((generation, Some(id)));
            if generation > known.0 {
                *known = (generation, Some(id));
            } else if generation == known.0 && known.1 != Some(id) {
                known.1 = None;
            }
        }
    }
    let exists = |partition: &TopicPartition| {
        topics
            .get(&partition.topic)
            .is_some_and(|topic| (0..topic.partition_count).contains(&partition.partition))
    };
    claims
        .into_iter()
        .filter_map(|(partition, (_, owner))| Some((partition, owner?)))
        .filter(|(partition, owner)| {
            exists(partition) && members[*owner].subscription.topics.contains(&partition.topic)
        })
        .map(|(partition, owner)| (partition, owner.clone()))
        .collect()
}

/// Gives what nobody has to those who have least, then moves one partition at a time from one who has more to one who has
/// at least two less, until there is no such pair. Where racks matter (KIP-881), partitions then change places until no two
/// members could bring more of them near a replica; balance comes before racks, racks before what members had.
fn balance(topics: &Topics, members: &Members, owners: &BTreeMap<TopicPartition, String>) -> Assignments {
    let wanted = wanted_partitions(topics, members);
    let mut shares = Shares::new(topics, members, &wanted);
    let (owned, mut free): (Vec<_>, Vec<_>) = wanted.iter().partition(|p| owners.contains_key(*p));
    let place: BTreeMap<&String, usize> =
        shares.members.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    for partition in owned {
        shares.loads[place[&owners[partition]]].insert(partition.clone());
    }
    // Those that few may have first, then those that few are near: the others can make up for it.
    free.sort_by_key(|partition| {
        (shares.readers(partition).len(), shares.near_count(partition), (*partition).clone())
    });
    for partition in free {
        let at = shares.least(partition);
        shares.loads[at].insert(partition.clone());
    }
    // A move makes the sum of squares of loads smaller, a step towards racks keeps it and brings more partitions near: so
    // this ends, and where it has ended it begins and ends the next time.
    loop {
        shares.even_out(&wanted);
        if !shares.bring_near(&wanted) {
            break;
        }
    }
    let mut assignments = nothing_for(members);
    for ((id, _), load) in shares.members.into_iter().zip(shares.loads) {
        assignments.insert(id.clone(), load.into_iter().collect());
    }
    assignments
}

/// Who has what while it is being shared out.
struct Shares<'a> {
    /// In the order of assignment.
    members: Vec<(&'a String, &'a GroupMember)>,
    loads: Vec<BTreeSet<TopicPartition>>,
    /// By topic: who may have it.
    readers: BTreeMap<&'a str, Vec<usize>>,
    racks: RackMap<'a>,
}

impl<'a> Shares<'a> {
    fn new(topics: &'a Topics, members: &'a Members, wanted: &BTreeSet<TopicPartition>) -> Shares<'a> {
        let racks = RackMap::new(topics, members, wanted);
        let members = in_order(members);
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (_, member)) in members.iter().enumerate() {
            for topic in &member.subscription.topics {
                readers.entry(topic).or_default().push(at);
            }
        }
        Shares { loads: vec![BTreeSet::new(); members.len()], members, readers, racks }
    }

    /// Somebody subscribes to what is wanted.
    fn readers(&self, partition: &TopicPartition) -> &[usize] {
        &self.readers[&*partition.topic]
    }

    fn may_have(&self, at: usize, partition: &TopicPartition) -> bool {
        self.readers(partition).binary_search(&at).is_ok()
    }

    fn is_far(&self, at: usize, partition: &TopicPartition) -> bool {
        self.racks.is_far(self.members[at].0, partition)
    }

    fn near_count(&self, partition: &TopicPartition) -> usize {
        self.readers(partition).iter().filter(|at| !self.is_far(**at, partition)).count()
    }

    fn holder(&self, partition: &TopicPartition) -> usize {
        self.loads.iter().position(|load| load.contains(partition)).expect("every partition has one")
    }

    /// Of those who may have it, who has least; among equals one that is near.
    fn least(&self, partition: &TopicPartition) -> usize {
        let key = |at: &&usize| (self.loads[**at].len(), self.is_far(**at, partition), **at);
        *self.readers(partition).iter().min_by_key(key).expect("somebody subscribes to what is wanted")
    }

    fn even_out(&mut self, wanted: &BTreeSet<TopicPartition>) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            // From the last on: a member that gives something up keeps its first.
            for partition in wanted.iter().rev() {
                let (from, to) = (self.holder(partition), self.least(partition));
                if self.loads[from].len() >= self.loads[to].len() + 2 {
                    self.loads[from].remove(partition);
                    self.loads[to].insert(partition.clone());
                    moved = true;
                }
            }
        }
    }

    /// Brings partitions that are far from their holder to members that are near, in exchange for another where those would
    /// have too many then. Says whether anything moved.
    fn bring_near(&mut self, wanted: &BTreeSet<TopicPartition>) -> bool {
        if self.racks.is_empty() {
            return false;
        }
        let mut moved = false;
        for partition in wanted {
            let from = self.holder(partition);
            if !self.is_far(from, partition) {
                continue;
            }
            let near = self.readers(partition).iter().copied().filter(|at| !self.is_far(*at, partition));
            let step = near.clone().find(|to| self.loads[from].len() > self.loads[*to].len());
            let step = step.map(|to| (to, None)).or_else(|| {
                near.clone().find_map(|to| {
                    // From the last on, as above; it must not come to be farther than it was.
                    let back = self.loads[to].iter().rev().find(|back| {
                        self.may_have(from, back) && (!self.is_far(from, back) || self.is_far(to, back))
                    });
                    Some((to, Some(back?.clone())))
                })
            });
            let Some((to, back)) = step else { continue };
            self.loads[from].remove(partition);
            self.loads[to].insert(partition.clone());
            if let Some(back) = back {
                self.loads[to].remove(&back);
                self.loads[from].insert(back);
            }
            moved = true;
        }
        moved
    }
}
