//! A group with members of two kinds: this client and Java's, each as the leader once.
//!
//! Needs Kafka's command-line tools: `CORELOG_KAFKA_TOOLS` names the folder with `kafka-console-consumer.sh`. Left out, with
//! a line, without it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelog::client::Consumer;

use crate::admin::admin;
use crate::consume::{consumer_settings, group};
use crate::fixture::{Target, run};

const PATIENCE: Duration = Duration::from_secs(60);

const ASSIGNORS: [(&str, &str); 4] = [
    ("range", "RangeAssignor"),
    ("roundrobin", "RoundRobinAssignor"),
    ("sticky", "StickyAssignor"),
    ("cooperative-sticky", "CooperativeStickyAssignor"),
];

/// Ends with the test.
struct Java(Child);

impl Drop for Java {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn java(target: &Target, tools: &Path, group: &str, topic: &str, assignor: &str) -> Java {
    let child = Command::new(tools.join("kafka-console-consumer.sh"))
        .args(["--bootstrap-server", target.bootstrap(), "--topic", topic, "--group", group])
        .args(["--command-property", "heartbeat.interval.ms=200"])
        .arg("--command-property")
        .arg(format!("partition.assignment.strategy=org.apache.kafka.clients.consumer.{assignor}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Java(child.unwrap())
}

async fn until(consumer: &mut Consumer, partitions: usize, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while consumer.assignment().len() != partitions {
        consumer.poll(Duration::from_millis(50)).await.unwrap();
        assert!(Instant::now() < deadline, "{what}: {:?}", consumer.assignment());
    }
}

#[test]
fn members_of_both_kinds_share_whoever_leads() {
    let Some(tools) = std::env::var_os("CORELOG_KAFKA_TOOLS").map(PathBuf::from) else {
        eprintln!("left out: the test needs Kafka's tools, and CORELOG_KAFKA_TOOLS does not name them");
        return;
    };
    run(async {
        let target = Target::start();
        let admin = admin(&target);
        for (ours, javas) in ASSIGNORS {
            let topic = target.topic(4).await;
            let group = group(&format!("java-{ours}"));
            let pairs = [
                ("group.id", &*group),
                ("partition.assignment.strategy", ours),
                ("heartbeat.interval.ms", "100"),
            ];
            let make = || {
                let mut consumer = Consumer::new(consumer_settings(target.bootstrap(), &pairs)).unwrap();
                consumer.subscribe([topic.as_str()]).unwrap();
                consumer
            };
            // We are there first, and lead.
            let mut consumer = make();
            until(&mut consumer, 4, ours).await;
            let other = java(&target, &tools, &group, &topic, javas);
            until(&mut consumer, 2, ours).await;
            // Its share is the rest: the coordinator has what we wrote, and Java read it.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let description = admin.describe_group(&group).await.unwrap();
                let shares: Vec<usize> = description.members.iter().map(|m| m.assignment.len()).collect();
                if shares == [2, 2] && description.state == "Stable" {
                    break;
                }
                assert!(Instant::now() < deadline, "{ours}: {description:?}");
                consumer.poll(Duration::from_millis(50)).await.unwrap();
            }
            // Now it leads, and we are new.
            consumer.close(PATIENCE).await.unwrap();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let description = admin.describe_group(&group).await.unwrap();
                if description.members.first().is_some_and(|member| member.assignment.len() == 4) {
                    break;
                }
                assert!(Instant::now() < deadline, "{ours}: {description:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut consumer = make();
            until(&mut consumer, 2, ours).await;
            consumer.close(PATIENCE).await.unwrap();
            drop(other);
        }
        target.finish();
    });
}
