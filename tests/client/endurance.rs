//! Many records through a leader whose connections are cut while requests are out: every future resolves, nothing is lost,
//! doubled or reordered.
//!
//! `CORELOG_CUT_RECORDS` and `CORELOG_CUTS` say how many; 100,000 and 20 if they are not set. The large form, a minute or
//! two and a GB of disk:
//!
//! `CORELOG_CUT_RECORDS=10000000 CORELOG_CUTS=100 cargo test -p corelog-clients --test client endurance -- --nocapture`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corelog::client::{Delivery, Producer, ProducerRecord};
use tokio::sync::mpsc;

use crate::fixture::{Target, run_within, settings};
use crate::proxy::Proxy;

const PARTITIONS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// Futures that nobody awaits yet.
const DELIVERIES_MAX: usize = 100_000;

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a count"))
}

fn value(n: u64) -> [u8; 64] {
    let mut value = [b'.'; 64];
    value[..8].copy_from_slice(&n.to_be_bytes());
    value
}

/// Cuts all connections so often, evenly over the records, each time with requests on the way.
async fn cut(proxy: Proxy, producer: Producer, acknowledged: Arc<AtomicU64>, records: u64, cuts: u64) -> u64 {
    let mut chance = 12345u64;
    for n in 0..cuts {
        while acknowledged.load(Ordering::Relaxed) < n * records / cuts {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // At whatever byte the exchange stands a moment later.
        chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        tokio::time::sleep(Duration::from_micros(chance >> 54)).await;
        while producer.metrics().requests_in_flight == 0 {
            assert!(acknowledged.load(Ordering::Relaxed) < records, "all is sent after {n} cuts");
            tokio::task::yield_now().await;
        }
        proxy.cut();
    }
    cuts
}

#[test]
fn cuts_cost_a_stream_of_records_nothing_but_time() {
    let records = count("CORELOG_CUT_RECORDS", 100_000);
    let cuts = count("CORELOG_CUTS", 20);
    // A tenth of what a debug build does.
    let limit = Duration::from_secs(120 + records / 5_000);
    run_within(limit, async {
        let target = Target::start();
        let topic = target.topic(PARTITIONS as i32).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        // Small batches, so that there are requests enough to be cut.
        let pairs = [("linger.ms", "1"), ("batch.size", "2000")];
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let cutting = tokio::spawn(cut(proxy, producer.clone(), Arc::clone(&acknowledged), records, cuts));
        let (sender, mut deliveries) = mpsc::channel::<Delivery>(DELIVERIES_MAX);
        let awaiting = tokio::spawn(async move {
            let mut awaited = 0;
            while let Some(delivery) = deliveries.recv().await {
                let metadata = delivery.await.unwrap_or_else(|error| panic!("record {awaited}: {error}"));
                // A broker that has forgotten where a duplicate is does not tell.
                if let Some(offset) = metadata.offset {
                    assert_eq!(offset as u64, awaited / PARTITIONS, "record {awaited}");
                }
                awaited += 1;
                acknowledged.store(awaited, Ordering::Relaxed);
            }
            awaited
        });
        let began = Instant::now();
        for n in 0..records {
            let value = value(n);
            let record = ProducerRecord::to(&topic).value(&value).partition((n % PARTITIONS) as i32);
            sender.send(producer.enqueue(record).await.unwrap()).await.unwrap();
        }
        drop(sender);
        assert_eq!(awaiting.await.unwrap(), records, "every future resolved");
        let elapsed = began.elapsed();
        assert_eq!(cutting.await.unwrap(), cuts);
        let metrics = producer.metrics();
        assert!(metrics.batches_retried >= cuts, "each cut met a request: {metrics:?}");
        assert_eq!((metrics.records_acknowledged, metrics.records_failed), (records, 0), "{metrics:?}");
        producer.close(PATIENCE).await.unwrap();

        for partition in 0..PARTITIONS {
            // What is missing, double or in another place makes the numbers differ from there on.
            let mut next = partition;
            let check = |stored: crate::fixture::Stored| {
                assert_eq!(stored.value.as_deref(), Some(&value(next)[..]), "at {}", stored.offset);
                next += PARTITIONS;
            };
            target.visit(&topic, partition as i32, check).await;
            let expected = (records + PARTITIONS - 1 - partition) / PARTITIONS * PARTITIONS + partition;
            assert_eq!(next, expected, "the end of partition {partition}");
        }
        eprintln!(
            "{records} records through {cuts} cuts in {:.1} s: {} batches sent, {} sent again, 0 lost, 0 doubled",
            elapsed.as_secs_f64(),
            metrics.batches_sent,
            metrics.batches_retried,
        );
        target.finish();
    });
}
