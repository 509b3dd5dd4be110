//! Connections that end at every byte of a produce exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corelog::client::{Delivery, Producer, ProducerRecord};

use crate::fixture::{Target, run, settings};
use crate::proxy::{Act, Proxy};

const PATIENCE: Duration = Duration::from_secs(30);

/// Each record is a batch and a request of its own, up to five on the way.
const ONE_BY_ONE: [(&str, &str); 2] = [("batch.size", "0"), ("linger.ms", "0")];

#[test]
fn a_cut_at_any_byte_of_a_produce_exchange_loses_doubles_and_reorders_nothing() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let producer = Producer::new(settings(&proxy.bootstrap(), &ONE_BY_ONE)).unwrap();
        let value = |n: usize| format!("{n:06}");
        let mut expected = vec![value(0)];
        producer.send(ProducerRecord::to(&topic).value(value(0).as_bytes())).await.unwrap();
        let seen = proxy.seen();
        let (request_bytes, answer_bytes) = (seen.request_bytes, seen.answer_bytes);
        assert!(request_bytes > 100 && answer_bytes > 20, "{seen:?}");
        let cuts = (0..=request_bytes).map(Act::CutRequest).chain((0..answer_bytes).map(Act::CutAnswer));
        for act in cuts {
            // The first request after this is cut; those behind it go down with it.
            let mut once = Some(act.clone());
            proxy.set_script(move |_, _| once.take().unwrap_or(Act::Pass));
            let mut deliveries: Vec<Delivery> = Vec::new();
            for _ in 0..4 {
                let text = value(expected.len());
                expected.push(text.clone());
                let record = ProducerRecord::to(&topic).value(text.as_bytes());
                deliveries.push(producer.enqueue(record).await.unwrap());
            }
            for (back, delivery) in deliveries.into_iter().rev().enumerate() {
                let offset = delivery.await.unwrap_or_else(|error| panic!("{act:?}: {error}")).offset;
                assert_eq!(offset, Some((expected.len() - 1 - back) as i64), "{act:?}");
            }
        }
        let metrics = producer.metrics();
        assert!(metrics.batches_retried as usize > request_bytes + answer_bytes, "{metrics:?}");
        assert_eq!((metrics.epoch_bumps, metrics.records_failed), (0, 0), "{metrics:?}");
        producer.close(PATIENCE).await.unwrap();
        assert_eq!(target.texts(&topic, 0).await, expected);
        target.finish();
    });
}

#[test]
fn cuts_at_random_under_load_lose_double_and_reorder_nothing() {
    run(async {
        const RECORDS: usize = 20_000;
        let target = Target::start();
        let topic = target.topic(3).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let pairs = [("batch.size", "300"), ("linger.ms", "1"), ("compression.type", "lz4")];
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let cutting = {
            let acknowledged = Arc::clone(&acknowledged);
            let mut chance = 12345u64;
            tokio::spawn(async move {
                let mut cut_at = 0;
                while acknowledged.load(Ordering::Relaxed) < RECORDS {
                    // Every few hundred records, at whatever byte the exchange stands.
                    if acknowledged.load(Ordering::Relaxed) >= cut_at {
                        proxy.cut();
                        chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        cut_at = acknowledged.load(Ordering::Relaxed) + (chance >> 55) as usize;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                proxy.seen().cuts
            })
        };
        for n in 0..RECORDS {
            let value = n.to_string();
            let acknowledged = Arc::clone(&acknowledged);
            let record = ProducerRecord::to(&topic).value(value.as_bytes()).partition((n % 3) as i32);
            let told = move |fate: Result<_, _>| {
                let _: corelog::client::RecordMetadata = fate.unwrap();
                acknowledged.fetch_add(1, Ordering::Relaxed);
            };
            producer.enqueue_with(record, told).await;
        }
        producer.close(Duration::from_secs(60)).await.unwrap();
        assert_eq!(acknowledged.load(Ordering::Relaxed), RECORDS);
        let cuts = cutting.await.unwrap();
        assert!(cuts >= 10, "{cuts} cuts");
        for partition in 0..3 {
            let texts = target.texts(&topic, partition).await;
            let expected: Vec<String> =
                (0..RECORDS).filter(|n| n % 3 == partition as usize).map(|n| n.to_string()).collect();
            assert!(texts == expected, "partition {partition}: {} records", texts.len());
        }
        target.finish();
    });
}

#[test]
fn without_idempotence_a_cut_may_double_but_never_loses() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        // The answer to every third request is lost.
        let proxy = Proxy::start(target.bootstrap(), |at, _| match at % 3 {
            1 => Act::CutAnswer(0),
            _ => Act::Pass,
        })
        .await;
        let pairs = [
            ONE_BY_ONE[0],
            ONE_BY_ONE[1],
            ("enable.idempotence", "false"),
            ("max.in.flight.requests.per.connection", "1"),
        ];
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        let mut deliveries = Vec::new();
        for n in 0..60 {
            let value = format!("{n:03}");
            deliveries
                .push(producer.enqueue(ProducerRecord::to(&topic).value(value.as_bytes())).await.unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        producer.close(PATIENCE).await.unwrap();
        let mut texts = target.texts(&topic, 0).await;
        assert!(texts.len() > 60 && texts.is_sorted(), "one in flight keeps the order: {texts:?}");
        texts.dedup();
        assert_eq!(texts.len(), 60);
        assert_eq!(proxy.seen().in_flight_max, 1);
        target.finish();
    });
}
