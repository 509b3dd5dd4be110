//! Any order of events: no panic, one answer for each request, and a log that says what the coordinator says.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const PARTITION: PartitionIndex = 0;

/// What may happen next. Members are named by the order in which the coordinator gave out their ids, so that most
/// requests meet a real one and some meet one of the past.
#[derive(Clone, Debug)]
enum Action {
    Join {
        member: Option<usize>,
        instance: Option<u8>,
        requires_known_member: bool,
        metadata: u8,
        skips: bool,
    },
    Sync {
        member: usize,
        age: i32,
    },
    Heartbeat {
        member: usize,
        age: i32,
    },
    Leave {
        member: usize,
        by_instance: Option<u8>,
    },
    Commit {
        member: Option<usize>,
        age: i32,
        partition: i32,
    },
    Fetch {
        all: bool,
        stable: bool,
    },
    Describe,
    List,
    Delete,
    DeleteOffsets,
    TopicDeleted,
    /// Time passes.
    Advance {
        ms: u64,
    },
    /// The oldest append comes back.
    Settle {
        is_durable: bool,
    },
    /// The coordinator loses its partitions and reads its log again.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let member = || 0..6usize;
    let age = || prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(-1)];
    let instance = || prop_oneof![2 => Just(None), 1 => (0..2u8).prop_map(Some)];
    prop_oneof![
        6 => (proptest::option::of(member()), instance(), any::<bool>(), 0..3u8, any::<bool>()).prop_map(
            |(member, instance, requires_known_member, metadata, skips)| Action::Join {
                member, instance, requires_known_member, metadata, skips,
            }
        ),
        6 => (member(), age()).prop_map(|(member, age)| Action::Sync { member, age }),
        3 => (member(), age()).prop_map(|(member, age)| Action::Heartbeat { member, age }),
        2 => (member(), instance()).prop_map(|(member, by_instance)| Action::Leave { member, by_instance }),
        4 => (proptest::option::of(member()), age(), 0..2i32)
            .prop_map(|(member, age, partition)| Action::Commit { member, age, partition }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(all, stable)| Action::Fetch { all, stable }),
        1 => Just(Action::Describe),
        1 => Just(Action::List),
        1 => Just(Action::Delete),
        1 => Just(Action::DeleteOffsets),
        1 => Just(Action::TopicDeleted),
        4 => prop_oneof![4 => 0..2_000u64, 2 => 0..15_000u64, 1 => Just(120_000u64), 1 => Just(8 * 86_400_000u64)]
            .prop_map(|ms| Action::Advance { ms }),
        6 => prop_oneof![9 => Just(true), 1 => Just(false)].prop_map(|is_durable| Action::Settle { is_durable }),
        1 => Just(Action::Restart),
    ]
}

/// A harness and what it has been asked.
struct Run {
    h: Harness,
    ids: Vec<MemberId>,
    /// Asked and not answered.
    open: BTreeSet<ReplyToken>,
    /// Accepted commits that may show: the offset of each partition must be one of these, or gone.
    commits: BTreeMap<i32, i64>,
    next_offset: i64,
    /// The generation that each leader was told of, by generation: there is one for each.
    leaders: BTreeMap<(u64, i32), MemberId>,
    /// The record of a group was lost: as in Kafka, the log is behind the coordinator until the next one.
    is_log_behind: bool,
    /// How often the coordinator or the group was made anew: generations may come again then.
    term: u64,
}

impl Run {
    fn new() -> Run {
        let mut h = Harness::with(|limits| {
            limits.initial_rebalance_delay = secs(1);
            limits.group_size_max = 4;
            limits.pending_members_max = 4;
            // Fewer steps for the same paths: one partition, and few sweeps a day.
            limits.offsets_partition_count = 1;
            limits.offsets_retention_check_interval = secs(6 * 60 * 60);
        });
        h.holds_appends = true;
        Run {
            h,
            ids: Vec::new(),
            open: BTreeSet::new(),
            commits: BTreeMap::new(),
            next_offset: 0,
            leaders: BTreeMap::new(),
            is_log_behind: false,
            term: 0,
        }
    }

    fn id(&self, back: usize) -> MemberId {
        self.ids.iter().rev().nth(back).cloned().unwrap_or_else(|| "nobody".into())
    }

    fn send(&mut self, request: impl Into<Request>) {
        let token = self.h.send(request);
        self.open.insert(token);
    }

    fn generation(&self, age: i32) -> i32 {
        self.h.coordinator.groups.get(GROUP).map_or(0, |group| group.classic.generation()) + age
    }

    fn act(&mut self, action: Action) {
        let group = || GroupId::from(GROUP);
        match action {
            Action::Join { member, instance, requires_known_member, metadata, skips } => {
                let member = member.map_or_else(|| "".into(), |back| self.id(back));
                let protocols = match metadata {
                    0 => vec![protocol("range", &subscription(&["t"]))],
                    1 => vec![protocol("sticky", b""), protocol("range", &subscription(&["u"]))],
                    _ => vec![protocol("range", b"unreadable"), protocol("sticky", b"")],
                };
                let rebalance_timeout_ms = if skips { 0 } else { 60_000 };
                self.send(JoinGroup {
                    instance: instance.map(|i| format!("i{i}").into()),
                    requires_known_member,
                    can_skip_assignment: skips,
                    protocols,
                    rebalance_timeout_ms,
                    ..join(&member)
                });
            }
            Action::Sync { member, age } => {
                let assignments = self.ids.iter().map(|id| (id.clone(), number(self.ids.len()))).collect();
                self.send(SyncGroup { assignments, ..sync(&self.id(member), self.generation(age)) });
            }
            Action::Heartbeat { member, age } => {
                let (member, generation) = (self.id(member), self.generation(age));
                self.send(Heartbeat { group: group(), generation, member, instance: None });
            }
            Action::Leave { member, by_instance } => {
                let leaving = match by_instance {
                    Some(i) => Leaving { member: "".into(), instance: Some(format!("i{i}").into()) },
                    None => Leaving { member: self.id(member), instance: None },
                };
                self.send(LeaveGroup { group: group(), members: vec![leaving] });
            }
            Action::Commit { member, age, partition } => {
                self.next_offset += 1;
                let (member, generation) = match member {
                    Some(back) => (self.id(back), self.generation(age)),
                    None => ("".into(), -1),
                };
                let mut request = commit(&member, generation, self.next_offset);
                request.topics[0].partitions[0].partition = partition;
                self.send(request);
            }
            Action::Fetch { all, stable } => {
                let topics = fetch("t", 0).topics.filter(|_| !all);
                self.send(FetchOffsets { topics, require_stable: stable, ..fetch("t", 0) });
            }
            Action::Describe => self.send(Request::Describe { group: group() }),
            Action::List => self.send(ListGroups::default()),
            Action::Delete => self.send(Request::Delete { group: group() }),
            Action::DeleteOffsets => {
                self.send(DeleteOffsets { group: group(), topics: vec![("t".into(), vec![0, 1])] });
            }
            Action::TopicDeleted => self.h.step(Event::TopicDeleted { topic: "t".into() }),
            Action::Advance { ms } => self.h.advance(Duration::from_millis(ms)),
            Action::Settle { is_durable } => {
                if let Some((_, _, records)) = self.h.held.front() {
                    let is_group = records.iter().any(|record| record.key[..2] == [0, 2]);
                    self.is_log_behind = is_group && !is_durable || self.is_log_behind && !is_group;
                    self.h.settle(if is_durable { Ok(()) } else { Err(AppendFailure::Storage) });
                }
            }
            Action::Restart => self.restart(),
        }
        self.look();
    }

    /// Moves the partitions away and back, as a restart of the shard does, without losing who has asked.
    fn restart(&mut self) {
        let partition = PARTITION;
        self.h.step(Event::PartitionResigned { partition });
        while !self.h.held.is_empty() {
            self.h.settle(Ok(()));
        }
        self.term += 1;
        self.is_log_behind = false;
        let records = self.h.log.iter().map(|(_, record)| record.clone()).collect();
        self.h.step(Event::PartitionOwned { partition });
        self.h.step(Event::Replay { partition, records });
        self.h.step(Event::Loaded { partition });
    }

    /// Looks at the answers.
    fn look(&mut self) {
        for (token, response) in std::mem::take(&mut self.h.replies) {
            assert!(self.open.remove(&token), "{token:?} was not open: {response:?}");
            match response {
                Response::Join(Ok(joined)) => {
                    if !joined.members.is_empty() {
                        let key = (self.term, joined.generation);
                        let leader = self.leaders.entry(key).or_insert_with(|| joined.leader.clone());
                        let instances = joined.members.iter().any(|m| m.instance.is_some());
                        assert!(*leader == joined.leader || instances, "two leaders in {key:?}");
                    }
                    self.learn(joined.member);
                }
                Response::Join(Err(refused)) if refused.error == GroupError::MemberIdRequired => {
                    self.learn(refused.member);
                }
                _ => {}
            }
        }
        // Durable offsets never regress: offsets are committed in rising order and the log keeps their order.
        let Some(group) = self.h.coordinator.groups.get(GROUP) else {
            // A group that comes again starts over.
            self.term += 1;
            return;
        };
        for partition in 0..2 {
            if let Some(value) = group.offsets.get("t", partition) {
                let former = self.commits.insert(partition, value.offset).unwrap_or(0);
                assert!(
                    value.offset >= former,
                    "partition {partition} went from {former} to {}",
                    value.offset
                );
            }
        }
    }

    fn learn(&mut self, id: MemberId) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    /// Lets all come to rest: everybody who asked is answered, and the log says the same as the coordinator.
    fn rest(&mut self) {
        self.h.holds_appends = false;
        while !self.h.held.is_empty() {
            self.h.settle(Ok(()));
        }
        self.look();
        self.compare_with_replay();
        self.h.advance(secs(3 * 60 * 60));
        self.look();
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        self.compare_with_replay();
        self.h.advance(secs(15 * 24 * 60 * 60));
        assert_eq!((self.h.coordinator.group_count(), self.h.coordinator.timers.count()), (0, 1));
        assert_eq!(self.h.restarted().coordinator.group_count(), 0);
    }

    fn compare_with_replay(&mut self) {
        // What is due now would otherwise happen between the two looks.
        self.h.advance(Duration::ZERO);
        let mut next = self.h.restarted();
        let all = FetchOffsets { topics: None, ..fetch("t", 0) };
        assert_eq!(next.ask(all.clone()), self.h.ask(all));
        // A generation is recorded with its assignment, or when it is empty; one that is forming is not. A group that
        // never had one and has no offsets is nothing.
        let shown = |h: &mut Harness| h.describe().ok().filter(|group| !group.protocol_type.is_empty());
        let is_settled = |group: &Group| matches!(group.classic.state(), State::Stable | State::Empty);
        if self.h.coordinator.groups.get(GROUP).is_some_and(is_settled) && !self.is_log_behind {
            assert_eq!(shown(&mut next), shown(&mut self.h));
        }
        let snapshot: Vec<_> = self.h.coordinator.snapshot_records(PARTITION).unwrap();
        let mut from_snapshot = Harness::unloaded(self.h.limits.clone());
        (from_snapshot.now, from_snapshot.wall) = (self.h.now, self.h.wall);
        from_snapshot.load(snapshot.into_iter().map(|record| (PARTITION, record)).collect());
        let all = FetchOffsets { topics: None, ..fetch("t", 0) };
        assert_eq!(from_snapshot.ask(all.clone()), next.ask(all));
        assert_eq!(shown(&mut from_snapshot), shown(&mut next));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_answers_everybody_once_and_can_be_replayed(
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let mut run = Run::new();
        for action in actions {
            run.act(action);
        }
        run.rest();
    }
}

/// The random test is only worth something if it gets into every state.
#[test]
fn random_events_reach_every_state_and_answer() {
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..150 {
        let actions = proptest::collection::vec(action(), 60..120);
        let actions = proptest::strategy::Strategy::new_tree(&actions, &mut runner).unwrap();
        let mut run = Run::new();
        for action in proptest::strategy::ValueTree::current(&actions) {
            run.act(action);
            if let Some(group) = run.h.coordinator.groups.get(GROUP) {
                seen.borrow_mut().insert(group.classic.state().name());
            }
        }
        run.rest();
    }
    assert_eq!(
        seen.into_inner().into_iter().collect::<Vec<_>>(),
        ["CompletingRebalance", "Empty", "PreparingRebalance", "Stable",]
    );
}
