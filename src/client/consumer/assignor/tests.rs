use super::*;
use crate::client::consumer::wire::{encode_cooperative, encode_sticky};

fn topics(counts: &[(&str, i32)]) -> Topics {
    counts.iter().map(|(name, count)| (TopicName::from(*name), GroupTopic::of(*count))).collect()
}

/// Topics with the racks of each partition's replicas, a letter each: `ab b -` has three partitions.
fn racked(topics: &[(&str, &str)]) -> Topics {
    let racks = |word: &str| -> Racks {
        word.chars().filter(|c| *c != '-').map(|c| c.to_string().as_str().into()).collect()
    };
    let topic = |words: &str| {
        let racks: Vec<Racks> = words.split(' ').map(racks).collect();
        GroupTopic { partition_count: racks.len() as i32, racks }
    };
    topics.iter().map(|(name, words)| (TopicName::from(*name), topic(words))).collect()
}

/// Members in racks (`-`: none told), with the topics they subscribe to.
fn members_in(wishes: &[(&str, &str, &str)]) -> Members {
    let plain: Vec<(&str, &str)> = wishes.iter().map(|(id, _, wish)| (*id, *wish)).collect();
    let mut members = members(&plain);
    for (id, rack, _) in wishes {
        let rack = Some(*rack).filter(|rack| *rack != "-").map(Into::into);
        members.get_mut(*id).unwrap().subscription.rack = rack;
    }
    members
}

/// `t0 t1 u2`, as Kafka's papers write partitions.
fn partitions(text: &str) -> Vec<TopicPartition> {
    let parse = |word: &str| {
        let at = word.len() - 1;
        TopicPartition::new(&word[..at], word[at..].parse().unwrap())
    };
    text.split_whitespace().map(parse).collect()
}

fn shown(partitions: &[TopicPartition]) -> String {
    let words: Vec<String> = partitions.iter().map(|p| format!("{}{}", p.topic, p.partition)).collect();
    words.join(" ")
}

/// Members with the topics they subscribe to, in words.
fn members(wishes: &[(&str, &str)]) -> Members {
    let member = |wish: &str| {
        let topics = wish.split_whitespace().map(TopicName::from).collect();
        let subscription = Subscription { topics, generation: Some(-1), ..Subscription::default() };
        GroupMember { instance_id: None, subscription }
    };
    wishes.iter().map(|(id, wish)| ((*id).to_owned(), member(wish))).collect()
}

fn check(assignor: &dyn Assignor, topics: &Topics, members: &Members, expected: &[(&str, &str)]) {
    let assigned = assignor.assign(topics, members);
    let assigned: Vec<(&str, String)> =
        assigned.iter().map(|(id, partitions)| (id.as_str(), shown(partitions))).collect();
    let expected: Vec<(&str, String)> = expected.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
    assert_eq!(assigned, expected, "{}", assignor.name());
}

/// The members of the next round: they had what was assigned, in `generation`.
fn after(assignor: &dyn Assignor, members: &Members, assigned: &Assignments, generation: i32) -> Members {
    let mut next = members.clone();
    for (id, member) in &mut next {
        let owned = assigned.get(id).cloned().unwrap_or_default();
        member.subscription.user_data = assignor.user_data(&owned, generation);
        member.subscription.generation = Some(generation);
        if assignor.protocol() == RebalanceProtocol::Cooperative {
            member.subscription.owned = owned;
        }
    }
    next
}

// Source of the examples: the class documentation of Apache Kafka's assignors.

#[test]
fn range_divides_each_topic() {
    let both = members(&[("C0", "t u"), ("C1", "t u")]);
    check(&RangeAssignor, &topics(&[("t", 3), ("u", 3)]), &both, &[("C0", "t0 t1 u0 u1"), ("C1", "t2 u2")]);
    let some = members(&[("C0", "t"), ("C1", "t u"), ("C2", "u gone")]);
    check(
        &RangeAssignor,
        &topics(&[("t", 1), ("u", 3)]),
        &some,
        &[("C0", "t0"), ("C1", "u0 u1"), ("C2", "u2")],
    );
}

#[test]
fn static_members_come_first_in_the_order_of_their_names() {
    let mut three = members(&[("a", "t"), ("b", "t"), ("c", "t")]);
    three.get_mut("c").unwrap().instance_id = Some("1".to_owned());
    three.get_mut("b").unwrap().instance_id = Some("2".to_owned());
    let topics = topics(&[("t", 4)]);
    check(&RangeAssignor, &topics, &three, &[("a", "t3"), ("b", "t2"), ("c", "t0 t1")]);
    check(&RoundRobinAssignor, &topics, &three, &[("a", "t2"), ("b", "t1"), ("c", "t0 t3")]);
}

#[test]
fn round_robin_goes_on_from_topic_to_topic() {
    let both = members(&[("C0", "t u"), ("C1", "t u")]);
    let even = topics(&[("t", 3), ("u", 3)]);
    check(&RoundRobinAssignor, &even, &both, &[("C0", "t0 t2 u1"), ("C1", "t1 u0 u2")]);
    let uneven = members(&[("C0", "t"), ("C1", "t u"), ("C2", "t u v")]);
    let counts = topics(&[("t", 1), ("u", 2), ("v", 3)]);
    check(&RoundRobinAssignor, &counts, &uneven, &[("C0", "t0"), ("C1", "u0"), ("C2", "u1 v0 v1 v2")]);
}

#[test]
fn sticky_moves_only_what_a_lost_member_had() {
    let four = topics(&[("t", 2), ("u", 2), ("v", 2), ("w", 2)]);
    let three = members(&[("C0", "t u v w"), ("C1", "t u v w"), ("C2", "t u v w")]);
    let assignors: [&dyn Assignor; 2] = [&StickyAssignor, &CooperativeStickyAssignor];
    for assignor in assignors {
        check(assignor, &four, &three, &[("C0", "t0 u1 w0"), ("C1", "t1 v0 w1"), ("C2", "u0 v1")]);
        let first = assignor.assign(&four, &three);
        let mut two = after(assignor, &three, &first, 1);
        two.remove("C1");
        check(assignor, &four, &two, &[("C0", "t0 u1 v0 w0"), ("C2", "t1 u0 v1 w1")]);
    }
}

#[test]
fn sticky_balances_members_that_want_different_topics() {
    let uneven = members(&[("C0", "t"), ("C1", "t u"), ("C2", "t u v")]);
    let counts = topics(&[("t", 1), ("u", 2), ("v", 3)]);
    check(&StickyAssignor, &counts, &uneven, &[("C0", "t0"), ("C1", "u0 u1"), ("C2", "v0 v1 v2")]);
    let mut two = after(&StickyAssignor, &uneven, &StickyAssignor.assign(&counts, &uneven), 1);
    two.remove("C0");
    check(&StickyAssignor, &counts, &two, &[("C1", "t0 u0 u1"), ("C2", "v0 v1 v2")]);
}

#[test]
fn of_two_claims_the_newer_counts_and_of_equal_ones_none() {
    let counts = topics(&[("t", 2)]);
    let mut two = members(&[("C0", "t"), ("C1", "t")]);
    let claim = |members: &mut Members, id: &str, text: &str, generation| {
        let subscription = &mut members.get_mut(id).unwrap().subscription;
        subscription.user_data = Some(encode_sticky(&partitions(text), generation));
    };
    claim(&mut two, "C0", "t1", 1);
    claim(&mut two, "C1", "t1", 2);
    check(&StickyAssignor, &counts, &two, &[("C0", "t0"), ("C1", "t1")]);
    claim(&mut two, "C0", "t1", 2);
    check(&StickyAssignor, &counts, &two, &[("C0", "t0"), ("C1", "t1")]);
    two.get_mut("C0").unwrap().subscription.user_data = Some(vec![1, 2, 3]);
    check(&StickyAssignor, &counts, &two, &[("C0", "t0"), ("C1", "t1")]);
}

#[test]
fn cooperative_gives_what_moves_in_the_second_round_only() {
    let counts = topics(&[("t", 4)]);
    let assignor = &CooperativeStickyAssignor;
    let one = members(&[("C0", "t")]);
    let first = assignor.assign(&counts, &one);
    let mut two = after(assignor, &one, &first, 1);
    two.extend(members(&[("C1", "t")]));
    check(assignor, &counts, &two, &[("C0", "t0 t1"), ("C1", "")]);
    let second = after(assignor, &two, &assignor.assign(&counts, &two), 2);
    check(assignor, &counts, &second, &[("C0", "t0 t1"), ("C1", "t2 t3")]);
    let third = after(assignor, &second, &assignor.assign(&counts, &second), 3);
    check(assignor, &counts, &third, &[("C0", "t0 t1"), ("C1", "t2 t3")]);
}

#[test]
fn members_that_own_one_partition_both_let_go_of_it() {
    let counts = topics(&[("t", 1)]);
    let mut two = members(&[("C0", "t"), ("C1", "t")]);
    for member in two.values_mut() {
        member.subscription.owned = partitions("t0");
        member.subscription.user_data = Some(encode_cooperative(3));
        member.subscription.generation = Some(3);
    }
    check(&CooperativeStickyAssignor, &counts, &two, &[("C0", ""), ("C1", "")]);
}

/// Range and both sticky ones; round robin takes no notice of racks.
const MIND_RACKS: [&dyn Assignor; 3] = [&RangeAssignor, &StickyAssignor, &CooperativeStickyAssignor];

#[test]
fn members_get_what_has_a_replica_near_them() {
    let three = members_in(&[("C0", "c", "t"), ("C1", "a", "t"), ("C2", "b", "t")]);
    let apart = racked(&[("t", "a b c")]);
    for assignor in MIND_RACKS {
        check(assignor, &apart, &three, &[("C0", "t2"), ("C1", "t0"), ("C2", "t1")]);
    }
    check(&RoundRobinAssignor, &apart, &three, &[("C0", "t0"), ("C1", "t1"), ("C2", "t2")]);
    // Where every rack has everything, and where none has anything that a member could want, nothing changes.
    for topics in [racked(&[("t", "abc abc abc")]), racked(&[("t", "x y z")]), racked(&[("t", "- - -")])] {
        for assignor in MIND_RACKS {
            check(assignor, &topics, &three, &[("C0", "t0"), ("C1", "t1"), ("C2", "t2")]);
        }
    }
}

#[test]
fn balance_comes_before_racks() {
    let two = members_in(&[("C0", "b", "t"), ("C1", "a", "t")]);
    let lopsided = racked(&[("t", "a a a ab")]);
    for assignor in MIND_RACKS {
        let assigned = assignor.assign(&lopsided, &two);
        assert_eq!((assigned["C0"].len(), assigned["C1"].len()), (2, 2), "{}: {assigned:?}", assignor.name());
        assert!(assigned["C0"].contains(&TopicPartition::new("t", 3)), "{}: {assigned:?}", assignor.name());
    }
}

#[test]
fn topics_that_are_divided_alike_stay_so_by_rack() {
    let three = members_in(&[("C0", "c", "t u"), ("C1", "a", "t u"), ("C2", "-", "t u")]);
    // Partition 0 fits C1 in both; 1 and 2 fit C0 in one of them only, and C2, who tells no rack, gets the first of those.
    let alike = racked(&[("t", "a c c"), ("u", "a a b")]);
    check(&RangeAssignor, &alike, &three, &[("C0", "t2 u2"), ("C1", "t0 u0"), ("C2", "t1 u1")]);
}

#[test]
fn racks_come_before_what_a_sticky_member_had() {
    let two = members_in(&[("C0", "a", "t"), ("C1", "b", "t")]);
    let without = racked(&[("t", "- - - -")]);
    let first = StickyAssignor.assign(&without, &two);
    check(&StickyAssignor, &without, &two, &[("C0", "t0 t2"), ("C1", "t1 t3")]);
    // Replicas were moved; what is near both stays.
    let now = racked(&[("t", "b a ab ab")]);
    let next = after(&StickyAssignor, &two, &first, 1);
    check(&StickyAssignor, &now, &next, &[("C0", "t1 t2"), ("C1", "t0 t3")]);
}

mod any_group {
    use super::*;
    use proptest::prelude::*;

    const ROUNDS_MAX: i32 = 3;

    fn groups() -> impl Strategy<Value = (Topics, Members)> {
        let names = ["t", "u", "v", "w"];
        let counts = proptest::collection::vec(0..7i32, names.len());
        let wishes = proptest::collection::vec(proptest::collection::vec(any::<bool>(), names.len()), 1..6);
        // The racks of each partition's replicas, and of each member, as bits and as a number.
        let replicas = proptest::collection::vec(0..8u8, 7 * names.len());
        let places = proptest::collection::vec(0..4usize, 6);
        (counts, wishes, replicas, places).prop_map(move |(counts, wishes, replicas, places)| {
            const RACKS: [&str; 4] = ["a", "b", "c", "-"];
            let racks = |bits: &u8| (0..3).filter(|n| bits >> n & 1 == 1).map(|n| RACKS[n].into()).collect();
            let topics = names.iter().zip(counts).zip(replicas.chunks(7)).map(|((name, count), replicas)| {
                let racks = replicas[..count as usize].iter().map(racks).collect();
                (TopicName::from(*name), GroupTopic { partition_count: count, racks })
            });
            let topics = topics.collect();
            let ids: Vec<String> = (0..wishes.len()).map(|n| format!("C{n}")).collect();
            let words: Vec<String> = wishes
                .iter()
                .map(|wish| {
                    names
                        .iter()
                        .zip(wish)
                        .filter(|(_, on)| **on)
                        .map(|(n, _)| *n)
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            let of = |((id, word), place): ((&'_ String, &'_ String), &usize)| {
                (id.clone(), RACKS[*place], word.clone())
            };
            let each: Vec<(String, &str, String)> = ids.iter().zip(&words).zip(&places).map(of).collect();
            let each: Vec<(&str, &str, &str)> =
                each.iter().map(|(id, rack, word)| (id.as_str(), *rack, word.as_str())).collect();
            (topics, members_in(&each))
        })
    }

    fn all(topics: &Topics, members: &Members, assigned: &Assignments) {
        let mut given: Vec<TopicPartition> = assigned.values().flatten().cloned().collect();
        given.sort();
        let wanted: Vec<TopicPartition> = wanted_partitions(topics, members).into_iter().collect();
        assert_eq!(given, wanted, "each partition is with one member");
        for (id, partitions) in assigned {
            let wish = &members[id].subscription.topics;
            assert!(partitions.iter().all(|partition| wish.contains(&partition.topic)), "{id}: {assigned:?}");
        }
    }

    proptest! {
        #[test]
        fn gets_every_partition_once((topics, members) in groups()) {
            for assignor in [&RangeAssignor as &dyn Assignor, &RoundRobinAssignor, &StickyAssignor, &CooperativeStickyAssignor] {
                all(&topics, &members, &assignor.assign(&topics, &members));
            }
        }

        #[test]
        fn is_balanced_and_comes_to_rest((topics, members) in groups(), lost in any::<prop::sample::Index>()) {
            for assignor in [&StickyAssignor as &dyn Assignor, &CooperativeStickyAssignor] {
                let first = assignor.assign(&topics, &members);
                for (id, partitions) in &first {
                    for partition in partitions {
                        for (other, member) in &members {
                            let may = member.subscription.topics.contains(&partition.topic);
                            let differs = first[id].len() >= first[other].len() + 2;
                            prop_assert!(!(may && differs), "{id} could give {partition} to {other}: {first:?}");
                        }
                    }
                }
                let again = after(assignor, &members, &first, 1);
                prop_assert_eq!(&assignor.assign(&topics, &again), &first, "nothing moves without a reason");
                // A few rounds after a member has gone nothing moves any more, and everything is with somebody again. Two are
                // enough without racks; where racks matter what was given may change places once more.
                let mut rest = again.clone();
                rest.remove(&format!("C{}", lost.index(members.len())));
                let mut given = Assignments::new();
                let mut rounds = 0;
                while !rest.is_empty() {
                    let next = assignor.assign(&topics, &rest);
                    if next == given {
                        all(&topics, &rest, &given);
                        break;
                    }
                    rounds += 1;
                    prop_assert!(rounds <= ROUNDS_MAX, "does not come to rest: {given:?}, then {next:?}");
                    rest = after(assignor, &rest, &next, 1 + rounds);
                    given = next;
                }
            }
        }
    }
}
