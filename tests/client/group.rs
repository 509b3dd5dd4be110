//! What consumers of one group do together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corelog::client::admin::NewTopic;
use corelog::client::consumer::{Rebalance, RebalanceListener};
use corelog::client::{Abortable, ClientError, Consumer, ConsumerRecord, TopicPartition};
use corelog::model::TopicName;

use crate::admin::{admin, fill};
use crate::consume::{consumer_settings, group, number, take};
use crate::fixture::{Target, run};

const PATIENCE: Duration = Duration::from_secs(30);
const ASSIGNORS: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];

/// What was told, with the partitions.
type Entry = (&'static str, Vec<i32>);

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Entry>>>);

impl Diary {
    fn note(&self, what: &'static str, change: &Rebalance) {
        let partitions = change.partitions().iter().map(|partition| partition.partition).collect();
        self.0.lock().unwrap().push((what, partitions));
    }

    fn taken(&self) -> Vec<Entry> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl RebalanceListener for Diary {
    fn on_assigned(&mut self, change: &mut Rebalance) {
        self.note("assigned", change);
    }

    fn on_revoked(&mut self, change: &mut Rebalance) {
        self.note("revoked", change);
    }

    fn on_lost(&mut self, change: &mut Rebalance) {
        self.note("lost", change);
    }
}

fn member(target: &Target, group: &str, pairs: &[(&str, &str)]) -> (Consumer, Diary) {
    let mut all = vec![("group.id", group), ("heartbeat.interval.ms", "50"), ("session.timeout.ms", "6000")];
    all.extend(pairs);
    let diary = Diary::default();
    let settings = consumer_settings(target.bootstrap(), &all);
    (Consumer::builder(settings).listener(diary.clone()).build().unwrap(), diary)
}

fn indexes(consumer: &Consumer) -> BTreeSet<i32> {
    consumer.assignment().iter().map(|partition| partition.partition).collect()
}

/// Polls all of them until what they have is what `wanted` says, and returns what came meanwhile.
async fn settle(
    consumers: &mut [&mut Consumer],
    wanted: impl Fn(&[BTreeSet<i32>]) -> bool,
) -> Vec<ConsumerRecord> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    loop {
        for consumer in consumers.iter_mut() {
            records.extend(consumer.poll(Duration::from_millis(20)).await.unwrap());
        }
        let have: Vec<BTreeSet<i32>> = consumers.iter().map(|consumer| indexes(consumer)).collect();
        if wanted(&have) {
            return records;
        }
        assert!(Instant::now() < deadline, "{have:?}");
    }
}

#[test]
fn two_members_share_with_every_assignor_and_one_takes_over_from_the_other() {
    run(async {
        let target = Target::start();
        for assignor in ASSIGNORS {
            let topic = target.topic(4).await;
            for index in 0..4 {
                fill(&target, &topic, index, 50).await;
            }
            let group = group(assignor);
            let pairs = [("partition.assignment.strategy", assignor), ("auto.commit.interval.ms", "100")];
            let (mut first, first_diary) = member(&target, &group, &pairs);
            first.subscribe([topic.as_str()]).unwrap();
            let mut records = settle(&mut [&mut first], |have| have[0].len() == 4).await;
            assert_eq!(first_diary.taken(), [("assigned", vec![0, 1, 2, 3])], "{assignor}");
            records.extend(take(&mut first, 200 - records.len()).await);

            let (mut second, second_diary) = member(&target, &group, &pairs);
            second.subscribe([topic.as_str()]).unwrap();
            records.extend(
                settle(&mut [&mut first, &mut second], |have| {
                    have[0].len() == 2 && have[1].len() == 2 && have[0].is_disjoint(&have[1])
                })
                .await,
            );
            let revoked = first_diary.taken();
            if assignor == "cooperative-sticky" {
                // What stays was never taken away.
                assert_eq!(revoked[0], ("revoked", vec![2, 3]), "{revoked:?}");
                assert!(revoked[1..].iter().all(|(_, partitions)| partitions.is_empty()), "{revoked:?}");
            } else {
                assert_eq!(revoked[0], ("revoked", vec![0, 1, 2, 3]), "{assignor}");
            }
            // Whatever the rounds were, nobody was given what another had.
            assert!(second_diary.taken().iter().all(|(what, _)| *what != "lost"));

            for index in 0..4 {
                fill(&target, &topic, index, 10).await;
            }
            let deadline = Instant::now() + PATIENCE;
            while records.len() < 240 && Instant::now() < deadline {
                records.extend(first.poll(Duration::from_millis(20)).await.unwrap());
                records.extend(second.poll(Duration::from_millis(20)).await.unwrap());
            }
            second.close(PATIENCE).await.unwrap();
            settle(&mut [&mut first], |have| have[0].len() == 4).await;
            assert!(first.poll(Duration::from_millis(200)).await.unwrap().is_empty(), "{assignor}");
            first.close(PATIENCE).await.unwrap();
            // Positions were committed with every change of hands: each record came once.
            let mut seen = BTreeMap::new();
            for record in &records {
                *seen.entry((record.partition, record.offset)).or_insert(0) += 1;
            }
            assert_eq!((records.len(), seen.len()), (240, 240), "{assignor}");
            let description = admin(&target).describe_group(&group).await.unwrap();
            assert_eq!((description.state.as_str(), description.members.len()), ("Empty", 0), "{assignor}");
        }
        target.finish();
    });
}

#[test]
fn the_leader_sees_new_partitions_and_conditions_see_new_topics() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let prefix = group("seen");
        let condition = prefix.clone();
        let (mut consumer, _) = member(&target, &group("where"), &[("metadata.max.age.ms", "100")]);
        consumer.subscribe_where(move |name| name.starts_with(&condition)).unwrap();
        let create = async |name: &str| {
            let topics = [NewTopic::new(format!("{prefix}-{name}")).partitions(1)];
            assert!(admin.create_topics(&topics).await.unwrap().values().all(Result::is_ok));
        };
        create("a").await;
        let count = |consumer: &Consumer| consumer.assignment().len();
        let until = async |consumer: &mut Consumer, expected: usize| {
            let deadline = Instant::now() + PATIENCE;
            while count(consumer) != expected {
                consumer.poll(Duration::from_millis(20)).await.unwrap();
                assert!(Instant::now() < deadline, "{:?}", consumer.assignment());
            }
        };
        until(&mut consumer, 1).await;
        create("b").await;
        until(&mut consumer, 2).await;
        let more = BTreeMap::from([(TopicName::from(format!("{prefix}-b")), 4)]);
        admin.create_partitions(&more).await.unwrap().into_values().for_each(|result| result.unwrap());
        until(&mut consumer, 5).await;
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_topic_that_comes_later_is_assigned_when_it_is_there_and_one_that_goes_is_given_up() {
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        let name = group("later");
        let pairs = [("metadata.max.age.ms", "100"), ("allow.auto.create.topics", "false")];
        let (mut consumer, _) = member(&target, &name, &pairs);
        consumer.subscribe([name.as_str()]).unwrap();
        assert!(consumer.poll(Duration::from_millis(500)).await.unwrap().is_empty());
        assert!(consumer.assignment().is_empty());
        let topics = [NewTopic::new(&name).partitions(2)];
        assert!(admin.create_topics(&topics).await.unwrap().values().all(Result::is_ok));
        settle(&mut [&mut consumer], |have| have[0].len() == 2).await;
        fill(&target, &name, 0, 3).await;
        assert_eq!(take(&mut consumer, 3).await.len(), 3);
        consumer.commit().await.unwrap();
        admin.delete_topics(&[&name]).await.unwrap().into_values().for_each(|result| result.unwrap());
        settle(&mut [&mut consumer], |have| have[0].is_empty()).await;
        let begun = Instant::now();
        let rows = admin.group_lag(&name).await.unwrap();
        assert!(rows.iter().all(|row| row.lag.is_none()), "{rows:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "what is not there is not waited for");
        consumer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    run(async {
        let target = Target::start();
        let topic = target.topic(4).await;
        let group = group("static");
        let (mut other, diary) = member(&target, &group, &[("group.instance.id", "a")]);
        let (mut first, _) = member(&target, &group, &[("group.instance.id", "b")]);
        other.subscribe([topic.as_str()]).unwrap();
        first.subscribe([topic.as_str()]).unwrap();
        settle(&mut [&mut other, &mut first], |have| have[0].len() == 2 && have[1].len() == 2).await;
        let had = indexes(&first);
        diary.taken();
        first.close(PATIENCE).await.unwrap();
        let (mut again, _) = member(&target, &group, &[("group.instance.id", "b")]);
        again.subscribe([topic.as_str()]).unwrap();
        settle(&mut [&mut other, &mut again], |have| have[1] == had).await;
        assert_eq!(diary.taken(), [], "the other noticed nothing");
        again.close(PATIENCE).await.unwrap();
        other.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn who_does_not_poll_is_left_out_and_cannot_commit() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 10).await;
        let group = group("lazy");
        let pairs =
            [("max.poll.interval.ms", "300"), ("enable.auto.commit", "false"), ("max.poll.records", "5")];
        let (mut lazy, diary) = member(&target, &group, &pairs);
        lazy.subscribe([topic.as_str()]).unwrap();
        assert_eq!(take(&mut lazy, 5).await.len(), 5);
        let (mut other, _) = member(&target, &group, &pairs);
        other.subscribe([topic.as_str()]).unwrap();
        settle(&mut [&mut other], |have| have[0].len() == 1).await;
        let error = lazy.commit().await.unwrap_err();
        assert!(matches!(error, ClientError::Abortable(Abortable::NotAMember { .. })), "{error}");
        other.close(PATIENCE).await.unwrap();
        // It comes back by polling.
        diary.taken();
        let records = settle(&mut [&mut lazy], |have| have[0].len() == 1).await;
        assert_eq!(diary.taken(), [("lost", vec![0]), ("assigned", vec![0])]);
        let more = if records.is_empty() { take(&mut lazy, 1).await } else { records };
        assert_eq!(more[0].offset, 0, "nobody has committed");
        lazy.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

/// Commits and begins where it wants.
struct Own(TopicPartition);

impl RebalanceListener for Own {
    fn on_assigned(&mut self, change: &mut Rebalance) {
        change.seek(self.0.clone(), 7);
    }

    fn on_revoked(&mut self, change: &mut Rebalance) {
        assert_eq!(change.position(&self.0), Some(10));
        change.commit(self.0.clone(), corelog::client::consumer::CommittedOffset::at(3));
    }
}

#[test]
fn a_listener_says_where_to_begin_and_what_to_commit() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        fill(&target, &topic, 0, 10).await;
        let group = group("listener");
        let pairs = [("group.id", &*group), ("enable.auto.commit", "false")];
        let here = TopicPartition::new(topic.as_str(), 0);
        let settings = consumer_settings(target.bootstrap(), &pairs);
        let mut consumer = Consumer::builder(settings).listener(Own(here.clone())).build().unwrap();
        consumer.subscribe([topic.as_str()]).unwrap();
        let numbers: Vec<u64> = take(&mut consumer, 3).await.iter().map(number).collect();
        assert_eq!(numbers, [7, 8, 9]);
        consumer.close(PATIENCE).await.unwrap();
        let committed = admin(&target).group_offsets(&group).await.unwrap();
        assert_eq!(committed[&here].offset, 3);
        target.finish();
    });
}

#[test]
fn offsets_and_membership_survive_a_broker_that_restarts() {
    run(async {
        let Some(mut target) = Target::start_own(|options| options) else { return };
        let topic = target.topic(2).await;
        fill(&target, &topic, 0, 30).await;
        fill(&target, &topic, 1, 30).await;
        let group = group("restart");
        let pairs = [("enable.auto.commit", "false")];
        let (mut consumer, diary) = member(&target, &group, &pairs);
        consumer.subscribe([topic.as_str()]).unwrap();
        assert_eq!(take(&mut consumer, 60).await.len(), 60);
        consumer.commit().await.unwrap();
        target.broker().kill9();
        assert!(consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty());
        target.broker().start_again();
        fill(&target, &topic, 0, 5).await;
        let records = take(&mut consumer, 5).await;
        assert!(records.iter().all(|record| record.offset >= 30), "{records:?}");
        assert_eq!(records.len(), 5);
        consumer.commit().await.unwrap();
        consumer.close(PATIENCE).await.unwrap();
        drop(diary);
        let lag: i64 = admin(&target).group_lag(&group).await.unwrap().iter().filter_map(|row| row.lag).sum();
        assert_eq!(lag, 0);
        target.finish();
    });
}
