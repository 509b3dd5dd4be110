//! A broker to talk to, topics of a test's own, and what is in them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corelog::client::admin::NewTopic;
use corelog::client::cluster::Lane;
use corelog::client::{ClientSettings, Cluster, ProducerSettings};
use corelog::model::{NodeId, TopicName};
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::record::record::Records;
use corelog::record::{Batches, DecompressBounds, decompress};
use corelog_clients::{Broker, Options};

use crate::admin::admin;

/// A broker of the test's own, or one that was there before.
pub struct Target {
    own: Option<Broker>,
    bootstrap: String,
}

/// A record as it is in a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub producer_epoch: i16,
}

impl Stored {
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().expect("the tests' records have values")).expect("texts")
    }
}

impl Target {
    pub fn start() -> Target {
        match std::env::var("CORELOG_CLIENT_BOOTSTRAP") {
            Ok(bootstrap) => Target { own: None, bootstrap },
            Err(_) => Target::own(corelog_clients::options!()),
        }
    }

    /// A broker that the test may stop; `None`, with a line, where it is another's.
    pub fn start_own(options: impl FnOnce(Options) -> Options) -> Option<Target> {
        if std::env::var("CORELOG_CLIENT_BOOTSTRAP").is_ok() {
            eprintln!(
                "left out: the test needs a broker of its own, and CORELOG_CLIENT_BOOTSTRAP names another"
            );
            return None;
        }
        Some(Target::own(options(corelog_clients::options!())))
    }

    fn own(options: Options) -> Target {
        let broker = options.start();
        Target { bootstrap: broker.bootstrap(), own: Some(broker) }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn broker(&mut self) -> &mut Broker {
        self.own.as_mut().expect("the test started it")
    }

    /// Ends the broker and looks at what it logged.
    pub fn finish(self) {
        if let Some(own) = self.own {
            own.finish();
        }
    }

    pub fn cluster(&self) -> Cluster {
        let settings = ClientSettings::from_pairs([("bootstrap.servers", &self.bootstrap)]).unwrap();
        Cluster::new(settings, false).unwrap()
    }

    /// A new topic with a name of its own.
    pub async fn topic(&self, partition_count: i32) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let topic = NewTopic::new(&name).partitions(partition_count).replication_factor(1);
        let created = admin(self).create_topics(&[topic]).await.unwrap();
        assert!(created.values().all(Result::is_ok), "{created:?}");
        let cluster = self.cluster();
        cluster.topic(&TopicName::from(name.as_str()), Duration::from_secs(30)).await.unwrap();
        name
    }

    /// Everything in a partition, in order.
    pub async fn read(&self, topic: &str, partition: i32) -> Vec<Stored> {
        let mut stored = Vec::new();
        self.visit(topic, partition, |record| stored.push(record)).await;
        stored
    }

    /// Shows everything in a partition, in order, to `visitor`.
    pub async fn visit(&self, topic: &str, partition: i32, mut visitor: impl FnMut(Stored)) {
        let cluster = self.cluster();
        let name = TopicName::from(topic);
        cluster.topic(&name, Duration::from_secs(30)).await.unwrap();
        let leader = leader(&cluster, topic, partition).await;
        let connection = cluster.connection(leader, Lane::Fetch).await.unwrap();
        let mut next = 0;
        loop {
            let part = FetchPartition {
                partition,
                fetch_offset: next,
                partition_max_bytes: 8 << 20,
                ..Default::default()
            };
            let request = FetchRequest {
                max_wait_ms: 0,
                min_bytes: 0,
                max_bytes: 8 << 20,
                topics: vec![FetchTopic { topic, partitions: vec![part].into(), ..Default::default() }]
                    .into(),
                ..Default::default()
            };
            // From version 13 on topics are named by id.
            let version = connection.version_at_most(corelog::protocol::ApiKey::Fetch, 12).unwrap();
            let answer = connection.submit(&request, version, Duration::from_secs(30)).await.unwrap();
            let response: FetchResponse<'_> = answer.decode().unwrap();
            let data = response.responses.first().unwrap().partitions.first().unwrap();
            assert_eq!(data.error_code, 0);
            let records = data.records.clone().unwrap_or_default();
            for batch in Batches::new(&records.to_contiguous()) {
                let Ok(batch) = batch else { break };
                next = batch.end_offset();
                let mut plain = Vec::new();
                let bounds = DecompressBounds { output_bytes_max: 64 << 20, ratio_max: usize::MAX };
                decompress(batch.compression(), batch.records(), bounds, &mut plain).unwrap();
                for record in Records::new(&plain, batch.record_count()) {
                    let record = record.unwrap();
                    visitor(Stored {
                        offset: batch.base_offset() + i64::from(record.offset_delta),
                        timestamp: batch.base_timestamp() + record.timestamp_delta,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: record
                            .headers
                            .map(|h| {
                                (String::from_utf8(h.key.to_vec()).unwrap(), h.value.map(<[u8]>::to_vec))
                            })
                            .collect(),
                        producer_epoch: batch.producer_epoch().0,
                    });
                }
            }
            if next >= data.high_watermark {
                return;
            }
        }
    }

    /// The values of a partition's records, which are texts.
    pub async fn texts(&self, topic: &str, partition: i32) -> Vec<String> {
        self.read(topic, partition).await.iter().map(Stored::text).collect()
    }
}

async fn leader(cluster: &Cluster, topic: &str, partition: i32) -> NodeId {
    for _ in 0..600 {
        if let Some(leader) = cluster.image().leader(topic, partition) {
            return leader.id;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.refresh().await.unwrap();
    }
    panic!("nobody leads {topic}-{partition}");
}

/// Settings for tests: short waits between tries, so that a test of many failures is soon over.
pub fn settings(bootstrap: &str, pairs: &[(&str, &str)]) -> ProducerSettings {
    ProducerSettings::builder()
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "corelog-client-test")
        .set("retry.backoff.ms", 2)
        .set("retry.backoff.max.ms", 20)
        .set("reconnect.backoff.ms", 1)
        .set("reconnect.backoff.max.ms", 20)
        .set_all(pairs.iter().copied())
        .build()
        .unwrap()
}

/// Runs a test on a runtime with two threads; nothing in these tests takes a minute.
pub fn run(test: impl Future<Output = ()>) {
    run_within(Duration::from_secs(120), test);
}

pub fn run_within(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ended = tokio::time::timeout(limit, test).await;
        ended.unwrap_or_else(|_| panic!("the test does not end in {limit:?}"));
    });
}
