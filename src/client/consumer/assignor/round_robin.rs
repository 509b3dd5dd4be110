//! Round robin: all partitions in turn to all members.

use super::{Assignments, Assignor, Members, Topics, in_order, nothing_for, wanted_partitions};

/// Partitions of all topics, in order, go to the members in turn; a member that does not subscribe to the topic is passed
/// over. Source: Apache Kafka, `RoundRobinAssignor`.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, topics: &Topics, members: &Members) -> Assignments {
        let mut assignments = nothing_for(members);
        let ordered = in_order(members);
        let mut turn = 0;
        for partition in wanted_partitions(topics, members) {
            // Somebody subscribes, or the partition would not be wanted.
            while !ordered[turn % ordered.len()].1.subscription.topics.contains(&partition.topic) {
                turn += 1;
            }
            let (id, _) = ordered[turn % ordered.len()];
            assignments.entry(id.clone()).or_default().push(partition);
            turn += 1;
        }
        assignments
    }
}
