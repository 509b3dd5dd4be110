//! Assignments of groups with racks (KIP-881), held against those of Java's client.
//!
//! Needs Java and Kafka's jars (`questions.rs`). Left out, with a line, without them.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelog::client::TopicPartition;
use corelog::client::consumer::Subscription;
use corelog::client::consumer::assignor::{
    Assignments, Assignor, GroupMember, GroupTopic, Members, RangeAssignor, StickyAssignor, Topics,
};
use corelog::client::random::Random;

use crate::questions::asked;

const PROGRAM: &str = "Assignments.java";

const GROUPS: usize = 400;

const RACKS: [&str; 4] = ["a", "b", "c", "d"];

struct Group {
    topics: Topics,
    members: Members,
}

impl Group {
    /// Any, of a size that tells the rules apart. Half of them have one set of topics for all members, topics of one size, or
    /// no rack for anybody.
    fn any(random: &Random) -> Group {
        let below = |count: u64| random.next() % count;
        let names = ["t", "u", "v"];
        let (is_uniform, has_one_size, has_racks) = (below(2) == 0, below(2) == 0, below(8) > 0);
        let size = 1 + below(8);
        let topics = names.map(|name| {
            let partition_count = if has_one_size { size } else { 1 + below(8) } as i32;
            let racks = |_| -> BTreeSet<Arc<str>> {
                let count = below(3) + u64::from(below(5) > 0);
                (0..count).map(|_| RACKS[below(4) as usize].into()).collect()
            };
            (name.into(), GroupTopic { partition_count, racks: (0..partition_count).map(racks).collect() })
        });
        let members = (0..1 + below(5)).map(|index| {
            let wish = names.into_iter().filter(|_| is_uniform || below(3) > 0).map(Into::into);
            let rack = (has_racks && below(4) > 0).then(|| RACKS[below(3) as usize].into());
            let subscription = Subscription { topics: wish.collect(), rack, ..Subscription::default() };
            (format!("C{index}"), GroupMember { instance_id: None, subscription })
        });
        Group { topics: topics.into(), members: members.collect() }
    }

    fn question(&self, assignor: &str) -> String {
        let mut words = vec![assignor.to_owned()];
        for (name, topic) in &self.topics {
            // Java's assignors are not given topics that nobody wants.
            if self.members.values().any(|member| member.subscription.topics.contains(name)) {
                let racks: Vec<String> =
                    topic.racks.iter().map(|racks| racks.iter().map(|rack| &**rack).collect()).collect();
                words.push(format!("{name}={}", racks.join("|")));
            }
        }
        words.push("/".to_owned());
        for (id, member) in &self.members {
            let topics: Vec<&str> = member.subscription.topics.iter().map(|topic| &**topic).collect();
            words.push(format!("{id}@{}={}", member.rack().unwrap_or("-"), topics.join(",")));
        }
        words.join(" ")
    }

    /// Partitions without a replica in the rack of their member.
    fn far_count(&self, assignments: &Assignments) -> usize {
        let is_far = |id: &String, partition: &TopicPartition| {
            let racks = self.topics[&partition.topic].racks_of(partition.partition);
            self.members[id].rack().is_some_and(|rack| !racks.contains(rack))
        };
        assignments.iter().map(|(id, its)| its.iter().filter(|p| is_far(id, p)).count()).sum()
    }
}

fn shown(assignments: &Assignments) -> String {
    let of = |its: &Vec<TopicPartition>| its.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let each: Vec<String> = assignments.iter().map(|(id, its)| format!("{id}={}", of(its))).collect();
    each.join(" ")
}

fn parsed(answer: &str) -> Assignments {
    let member = |word: &str| {
        let (id, list) = word.split_once('=').expect("the program writes it");
        let its = list.split(',').filter(|each| !each.is_empty()).map(|each| {
            let (topic, partition) = each.rsplit_once('-').expect("the program writes it");
            TopicPartition::new(topic, partition.parse().expect("a number"))
        });
        (id.to_owned(), its.collect())
    };
    answer.split(' ').map(member).collect()
}

fn groups() -> Vec<Group> {
    let random = Random::seeded(881);
    (0..GROUPS).map(|_| Group::any(&random)).collect()
}

#[test]
fn ranges_are_javas_with_racks_and_without() {
    let groups = groups();
    let questions: Vec<String> = groups.iter().map(|group| group.question("range")).collect();
    let Some(answers) = asked(PROGRAM, &questions) else { return };
    for ((group, question), answer) in groups.iter().zip(&questions).zip(&answers) {
        let ours = RangeAssignor.assign(&group.topics, &group.members);
        assert_eq!(&shown(&ours), answer, "{question}");
    }
}

/// The sticky assignors keep Java's rules, not its order: as even, and no farther from replicas.
#[test]
fn sticky_shares_are_as_even_as_javas_and_no_farther_from_replicas() {
    // Where the first member wants nothing, Java's takes all to want the same, and gives it partitions all the same.
    let wants = |member: &GroupMember| !member.subscription.topics.is_empty();
    let groups: Vec<Group> = groups().into_iter().filter(|group| group.members.values().all(wants)).collect();
    let questions: Vec<String> = groups.iter().map(|group| group.question("sticky")).collect();
    let Some(answers) = asked(PROGRAM, &questions) else { return };
    let (mut far, mut javas_far) = (0, 0);
    for ((group, question), answer) in groups.iter().zip(&questions).zip(&answers) {
        let (ours, javas) = (StickyAssignor.assign(&group.topics, &group.members), parsed(answer));
        let squares = |of: &Assignments| of.values().map(|its| its.len().pow(2)).sum::<usize>();
        assert!(squares(&ours) <= squares(&javas), "{question}\nours  {}\njavas {answer}", shown(&ours));
        far += group.far_count(&ours);
        javas_far += group.far_count(&javas);
    }
    println!("partitions far from their member's rack: {far}, in Java's assignments {javas_far}");
    assert!(far <= javas_far, "{far} partitions are far, {javas_far} in Java's assignments");
}
