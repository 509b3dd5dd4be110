//! What the producer does when all is well.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelog::client::producer::{
    BlockingProducer, BytesSerializer, Choice, Interceptor, JsonSerializer, Partitioner, SerializeError,
    StringSerializer, partition_for_key,
};
use corelog::client::{ClientError, Fatal, Producer, ProducerRecord, RecordMetadata, Retriable};

use crate::fixture::{Target, run, settings};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_record_is_where_its_metadata_says() {
    run(async {
        let target = Target::start();
        let topic = target.topic(3).await;
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let record = ProducerRecord::to(&topic)
            .key(b"k")
            .value(b"value")
            .partition(2)
            .timestamp(1_700_000_000_000)
            .header("a", b"1")
            .header("a", b"");
        let metadata = producer.send(record).await.unwrap();
        assert_eq!((&*metadata.topic, metadata.partition, metadata.offset), (&*topic, 2, Some(0)));
        assert_eq!(metadata.timestamp, 1_700_000_000_000);
        assert_eq!((metadata.serialized_key_bytes, metadata.serialized_value_bytes), (Some(1), Some(5)));
        let tombstone = producer.send(ProducerRecord::to(&topic).key(b"k").partition(2)).await.unwrap();
        assert_eq!((tombstone.offset, tombstone.serialized_value_bytes), (Some(1), None));
        producer.close(PATIENCE).await.unwrap();

        let stored = target.read(&topic, 2).await;
        assert_eq!(stored[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(
            (stored[0].value.as_deref(), stored[0].timestamp),
            (Some(&b"value"[..]), 1_700_000_000_000)
        );
        let header = |value: &[u8]| ("a".to_owned(), Some(value.to_vec()));
        assert_eq!(stored[0].headers, [header(b"1"), header(b"")]);
        assert_eq!(stored[1].value, None);
        target.finish();
    });
}

#[test]
fn every_codec_and_every_acks_brings_all_records_in_order() {
    run(async {
        let target = Target::start();
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            for acks in ["all", "1", "0"] {
                let topic = target.topic(1).await;
                let pairs = [("compression.type", codec), ("acks", acks), ("batch.size", "3000")];
                let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
                let mut deliveries = Vec::new();
                let texts: Vec<String> =
                    (0..500).map(|n| format!("record {n} {}", "x".repeat(n % 50))).collect();
                for text in &texts {
                    let record = ProducerRecord::to(&topic).value(text.as_bytes());
                    deliveries.push(producer.enqueue(record).await.unwrap());
                }
                for (n, delivery) in deliveries.into_iter().enumerate() {
                    let offset = delivery.await.unwrap().offset;
                    assert_eq!(offset, (acks != "0").then_some(n as i64), "{codec} {acks}");
                }
                let metrics = producer.metrics();
                assert_eq!((metrics.records_acknowledged, metrics.records_failed), (500, 0));
                assert!(metrics.records_per_batch > 5.0, "{metrics:?}");
                producer.close(PATIENCE).await.unwrap();
                // Without an ack nobody says when the last records are there.
                let mut stored = target.texts(&topic, 0).await;
                while acks == "0" && stored.len() < 500 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    stored = target.texts(&topic, 0).await;
                }
                assert!(stored == texts, "{codec} {acks}");
            }
        }
        target.finish();
    });
}

#[test]
fn keys_go_where_the_java_client_sends_them_and_others_stick() {
    run(async {
        let target = Target::start();
        let topic = target.topic(8).await;
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        for n in 0..50 {
            let key = format!("key {n}");
            let metadata = producer.send(ProducerRecord::to(&topic).key(key.as_bytes())).await.unwrap();
            assert_eq!(metadata.partition, partition_for_key(key.as_bytes(), 8));
        }
        let mut partitions = Vec::new();
        for _ in 0..50 {
            partitions
                .push(producer.enqueue(ProducerRecord::to(&topic).value(b"v")).await.unwrap().partition());
        }
        assert!(partitions.iter().all(|partition| *partition == partitions[0]), "{partitions:?}");
        producer.close(PATIENCE).await.unwrap();

        let pairs = [("partitioner.class", "round-robin")];
        let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
        let mut counts = [0; 8];
        for _ in 0..16 {
            let delivery = producer.enqueue(ProducerRecord::to(&topic).key(b"same")).await.unwrap();
            counts[delivery.partition() as usize] += 1;
        }
        assert_eq!(counts, [2; 8]);
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

/// Puts everything into the last partition.
struct Last;

impl Partitioner for Last {
    fn partition(&self, choice: &Choice<'_>) -> i32 {
        choice.partition_count - 1
    }
}

/// Marks records and remembers their fates.
struct Mark(Arc<Mutex<Vec<Result<i64, String>>>>);

impl Interceptor<str, Vec<u32>> for Mark {
    fn on_send(&self, record: &mut ProducerRecord<'_, str, Vec<u32>>) -> Result<(), SerializeError> {
        record.timestamp = Some(77);
        if record.key.is_none() {
            return Err("no key".into());
        }
        Ok(())
    }

    fn on_acknowledgement(&self, outcome: Result<&RecordMetadata, &ClientError>) {
        let outcome = outcome.map(|m| m.offset.unwrap()).map_err(ToString::to_string);
        self.0.lock().unwrap().push(outcome);
    }
}

#[test]
fn serializers_interceptors_and_partitioners_are_the_callers() {
    run(async {
        let target = Target::start();
        let topic = target.topic(4).await;
        let seen = Arc::default();
        let producer = Producer::builder(settings(target.bootstrap(), &[]), StringSerializer, JsonSerializer)
            .interceptor(Mark(Arc::clone(&seen)))
            .partitioner(Last)
            .build()
            .unwrap();
        let value = vec![1, 2];
        let record = || ProducerRecord::typed(&topic).value(&value);
        let metadata = producer.send(record().key("é")).await.unwrap();
        assert_eq!((metadata.partition, metadata.timestamp), (3, 77));
        producer.send(record()).await.unwrap();
        producer.send(record().partition(9)).await.unwrap_err();
        producer.close(PATIENCE).await.unwrap();
        let stored = target.read(&topic, 3).await;
        assert_eq!(stored[0].key.as_deref(), Some("é".as_bytes()));
        assert_eq!(stored[1].value.as_deref(), Some(&b"[1,2]"[..]));
        let seen = seen.lock().unwrap();
        assert_eq!(seen[..2], [Ok(0), Ok(1)]);
        assert!(seen[2].as_ref().unwrap_err().contains("has 4 partitions, there is no 9"), "{seen:?}");
        target.finish();
    });
}

#[test]
fn callbacks_come_in_the_order_of_the_records() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let pairs = [("batch.size", "200"), ("linger.ms", "0")];
        let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
        let offsets = Arc::new(Mutex::new(Vec::new()));
        for n in 0..1000 {
            let offsets = Arc::clone(&offsets);
            let told = move |fate: Result<RecordMetadata, ClientError>| {
                let offset = fate.unwrap().offset.unwrap();
                offsets.lock().unwrap().push((n, offset));
                assert_ne!(offset, 500, "planted: a callback that panics harms nobody");
            };
            producer.enqueue_with(ProducerRecord::to(&topic).value(b"0123456789"), told).await;
        }
        producer.flush().await;
        let offsets = offsets.lock().unwrap();
        assert!(offsets.iter().copied().eq((0..1000).map(|n| (n, n))), "{} of them", offsets.len());
        target.finish();
    });
}

#[test]
fn flush_ends_lingering_and_close_sends_what_is_queued() {
    run(async {
        let target = Target::start();
        let topic = target.topic(2).await;
        let pairs = [("linger.ms", "50000"), ("delivery.timeout.ms", "90000")];
        let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
        let put = |partition| ProducerRecord::to(&topic).value(b"v").partition(partition);
        let first = producer.enqueue(put(0)).await.unwrap();
        assert!(first.try_result().is_none());
        producer.flush().await;
        assert_eq!(first.try_result().unwrap().unwrap().offset, Some(0));
        let last = producer.enqueue(put(1)).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
        assert_eq!(last.await.unwrap().offset, Some(0));
        let error = producer.send(put(0)).await.unwrap_err();
        assert!(matches!(error, ClientError::Fatal(Fatal::Closed)), "{error:?}");
        target.finish();
    });
}

#[test]
fn a_program_without_a_runtime_produces_too() {
    let target = Target::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let topic = runtime.block_on(target.topic(1));
    let producer = BlockingProducer::new(settings(target.bootstrap(), &[("linger.ms", "1")])).unwrap();
    let deliveries: Vec<_> =
        (0..100).map(|_| producer.enqueue(ProducerRecord::to(&topic).value(b"v")).unwrap()).collect();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.wait().unwrap().offset, Some(n as i64));
    }
    assert_eq!(producer.send(ProducerRecord::to(&topic)).unwrap().offset, Some(100));
    producer.flush();
    producer.close(PATIENCE).unwrap();

    let entered = runtime.enter();
    let producer = Producer::builder(settings(target.bootstrap(), &[]), BytesSerializer, BytesSerializer);
    let producer = producer.build().unwrap();
    drop(entered);
    assert_eq!(producer.send_blocking(ProducerRecord::to(&topic)).unwrap().offset, Some(101));
    runtime.block_on(producer.close(PATIENCE)).unwrap();
    target.finish();
}

#[test]
fn many_tasks_share_a_producer_and_each_keeps_its_order() {
    run(async {
        let target = Target::start();
        let topic = target.topic(4).await;
        let pairs = [("batch.size", "1000"), ("buffer.memory", "20000")];
        let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (producer, topic) = (producer.clone(), topic.clone());
                tokio::spawn(async move {
                    let mut deliveries = Vec::new();
                    for n in 0..500 {
                        let value = format!("{task} {n}");
                        let record = ProducerRecord::to(&topic).value(value.as_bytes()).partition(n % 4);
                        deliveries.push(producer.enqueue(record).await.unwrap());
                    }
                    for delivery in deliveries {
                        delivery.await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let metrics = producer.metrics();
        assert_eq!(metrics.records_acknowledged, 4000);
        assert_eq!((metrics.buffer_bytes, metrics.buffer_free_bytes), (20_000, 20_000));
        assert!(metrics.request_latency.count > 0);
        producer.close(PATIENCE).await.unwrap();
        for partition in 0..4 {
            let texts = target.texts(&topic, partition).await;
            for task in 0..8 {
                let own = texts.iter().filter_map(|text| text.strip_prefix(&format!("{task} ")));
                let own: Vec<i32> = own.map(|n| n.parse().unwrap()).collect();
                assert!(own.len() == 125 && own.is_sorted(), "{task} in {partition}: {own:?}");
            }
        }
        target.finish();
    });
}

#[test]
fn try_enqueue_waits_for_nothing() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let error = producer.try_enqueue(ProducerRecord::to(&topic)).unwrap_err();
        assert!(matches!(error, ClientError::Retriable(Retriable::TopicNotKnown { .. })), "{error:?}");
        while let Err(error) = producer.try_enqueue(ProducerRecord::to(&topic)).map(drop) {
            assert!(error.is_retriable(), "{error:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        producer.close(PATIENCE).await.unwrap();
        assert_eq!(target.read(&topic, 0).await.len(), 1);
        target.finish();
    });
}
