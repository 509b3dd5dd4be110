//! Range: of each topic, every member gets neighbouring partitions.

use std::collections::BTreeMap;

use crate::model::{TopicName, TopicPartition};

use super::{Assignments, Assignor, GroupTopic, Members, Topics, in_order, nothing_for, rack};

/// Topic by topic, in ranges; the first members get one more where it does not come out even. Topics with the same number
/// of partitions are divided in the same way, so that partitions of one number are with one member.
///
/// Where racks matter (KIP-881), members first get partitions with a replica in their rack, as many as are theirs by count;
/// what is left goes in ranges as ever. Topics that are divided in the same way stay so: a number goes by rack only if it
/// fits in all of them. Source: Apache Kafka, `RangeAssignor`.
#[derive(Clone, Copy, Debug)]
pub struct RangeAssignor;

/// Who reads a topic, in the order of assignment, with the racks of those who tell one.
type Readers<'a> = Vec<(&'a String, Option<&'a str>)>;

/// A topic while it is divided.
struct Division<'a> {
    name: &'a TopicName,
    topic: &'a GroupTopic,
    readers: &'a Readers<'a>,
    /// In order.
    left: Vec<i32>,
    /// By reader.
    given: Vec<usize>,
    each: usize,
    /// Readers that may still get one more than `each`.
    extra: usize,
    minds_racks: bool,
}

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, topics: &Topics, members: &Members) -> Assignments {
        let mut readers: BTreeMap<&TopicName, Readers<'_>> = BTreeMap::new();
        for (id, member) in in_order(members) {
            for topic in &member.subscription.topics {
                readers.entry(topic).or_default().push((id, member.rack()));
            }
        }
        let mut divisions: Vec<Division<'_>> = readers
            .iter()
            .filter_map(|(name, readers)| Some(Division::new(name, topics.get(*name)?, readers)))
            .collect();
        let mut assignments = nothing_for(members);
        let minds_racks = divisions.iter().any(|division| division.minds_racks);
        if minds_racks {
            by_rack(&mut divisions, &mut assignments);
        }
        for division in &mut divisions {
            division.give_ranges(|_, _, _| true, &mut assignments);
        }
        if minds_racks {
            assignments.values_mut().for_each(|partitions| partitions.sort());
        }
        assignments
    }
}

/// Gives what fits by rack: together where topics with the same readers have the same number of partitions, else alone.
fn by_rack(divisions: &mut [Division<'_>], assignments: &mut Assignments) {
    let mut alike: BTreeMap<(&Readers<'_>, i32), Vec<&mut Division<'_>>> = BTreeMap::new();
    for division in divisions {
        alike.entry((division.readers, division.topic.partition_count)).or_default().push(division);
    }
    for ((readers, partition_count), mut divisions) in alike {
        if let [alone] = &mut divisions[..] {
            if alone.minds_racks {
                alone.give_ranges(|division, at, partition| division.is_near(at, partition), assignments);
            }
            continue;
        }
        // Without a rack among the readers there is nothing to go by.
        if readers.iter().all(|(_, rack)| rack.is_none()) {
            continue;
        }
        for partition in 0..partition_count {
            let fits = |at: &usize| {
                divisions.iter().all(|division| division.is_near(*at, partition) && division.room(*at) > 0)
            };
            if let Some(at) = (0..readers.len()).find(fits) {
                for division in &mut divisions {
                    division.give(at, &[partition], assignments);
                }
            }
        }
    }
}

impl<'a> Division<'a> {
    fn new(name: &'a TopicName, topic: &'a GroupTopic, readers: &'a Readers<'a>) -> Division<'a> {
        let left: Vec<i32> = (0..topic.partition_count).collect();
        let racks = left.iter().map(|partition| topic.racks_of(*partition));
        Division {
            name,
            topic,
            readers,
            given: vec![0; readers.len()],
            each: left.len() / readers.len(),
            extra: left.len() % readers.len(),
            minds_racks: rack::matter(readers.iter().filter_map(|(_, rack)| *rack), racks),
            left,
        }
    }

    /// Whether the reader has a replica in its rack, or tells none.
    fn is_near(&self, at: usize, partition: i32) -> bool {
        let (_, rack) = self.readers[at];
        rack.is_none_or(|rack| self.topic.racks_of(partition).contains(rack))
    }

    /// Partitions that the reader may still get.
    fn room(&self, at: usize) -> usize {
        (self.each + usize::from(self.extra > 0)).saturating_sub(self.given[at])
    }

    /// Every reader in turn gets the first of those left that it may have.
    fn give_ranges(&mut self, may: impl Fn(&Self, usize, i32) -> bool, assignments: &mut Assignments) {
        for at in 0..self.readers.len() {
            let its = self.left.iter().copied().filter(|partition| may(self, at, *partition));
            let its: Vec<i32> = its.take(self.room(at)).collect();
            self.give(at, &its, assignments);
        }
    }

    fn give(&mut self, at: usize, partitions: &[i32], assignments: &mut Assignments) {
        if partitions.is_empty() {
            return;
        }
        self.given[at] += partitions.len();
        if self.given[at] > self.each {
            self.extra -= 1;
        }
        self.left.retain(|partition| !partitions.contains(partition));
        let named = partitions.iter().map(|partition| TopicPartition::new(self.name.clone(), *partition));
        assignments.entry(self.readers[at].0.clone()).or_default().extend(named);
    }
}
