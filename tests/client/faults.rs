//! What goes wrong, one thing a test, with its outcome.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelog::client::error::{Part, Waited};
use corelog::client::producer::{BytesSerializer, SerializeError, Serializer};
use corelog::client::{Abortable, ClientError, Fatal, Producer, ProducerRecord, Retriable};
use corelog::protocol::ErrorCode;
use corelog::record::BatchView;

use crate::fixture::{Target, run, settings};
use crate::proxy::{Act, Proxy, moment};

const PATIENCE: Duration = Duration::from_secs(30);
const ONE_BY_ONE: [(&str, &str); 2] = [("batch.size", "0"), ("linger.ms", "0")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&ONE_BY_ONE[..], more].concat()
}

#[test]
fn a_broker_that_is_gone_in_the_middle_gets_the_rest_when_it_is_back() {
    run(async {
        let Some(mut target) = Target::start_own(|options| options) else { return };
        let topic = target.topic(1).await;
        let producer = Producer::new(settings(target.bootstrap(), &[("batch.size", "500")])).unwrap();
        let mut deliveries = Vec::new();
        for n in 0..300 {
            if n == 100 || n == 200 {
                target.broker().kill9();
            }
            let value = format!("{n:03}");
            deliveries
                .push(producer.enqueue(ProducerRecord::to(&topic).value(value.as_bytes())).await.unwrap());
            if n == 120 || n == 220 {
                target.broker().start_again();
            }
        }
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset, Some(n as i64));
        }
        producer.close(PATIENCE).await.unwrap();
        let texts = target.texts(&topic, 0).await;
        assert!(texts.len() == 300 && texts.is_sorted(), "{texts:?}");
        target.finish();
    });
}

#[test]
fn a_leader_that_moved_is_found_by_the_hint_without_a_question() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        // A broker that has just started may refuse the first producer id for a moment; the backoff after that is not meant.
        let earlier = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        earlier.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        earlier.close(PATIENCE).await.unwrap();
        let second = Proxy::pass(target.bootstrap()).await;
        let port = second.port();
        let first =
            Proxy::start(target.bootstrap(), move |_, _| Act::Moved { leader: 99, epoch: 1000, port }).await;
        let pairs = [("retry.backoff.ms", "20000"), ("retry.backoff.max.ms", "20000")];
        let producer = Producer::new(settings(&first.bootstrap(), &pairs)).unwrap();
        let metadata = tokio::time::timeout(
            Duration::from_secs(10),
            producer.send(ProducerRecord::to(&topic).value(b"v")),
        );
        assert_eq!(metadata.await.expect("no backoff towards a new leader").unwrap().offset, Some(1));
        assert_eq!((first.seen().produces, second.seen().produces), (1, 1));
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_leader_that_moved_without_a_hint_is_asked_for() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let not_leader = ErrorCode::NotLeaderOrFollower.code();
        let proxy = Proxy::start(target.bootstrap(), move |at, _| match at {
            0..3 => Act::Refuse(not_leader),
            _ => Act::Pass,
        })
        .await;
        let producer = Producer::new(settings(&proxy.bootstrap(), &[])).unwrap();
        let metadata = producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        assert_eq!((metadata.offset, metadata.stages.retries), (Some(0), 3));
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_response_that_is_lost_is_made_good_after_the_request_timeout() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let proxy =
            Proxy::start(target.bootstrap(), |at, _| if at == 1 { Act::Swallow } else { Act::Pass }).await;
        let pairs = with(&[("request.timeout.ms", "300")]);
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        for n in 0..3 {
            let metadata = producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
            assert_eq!((metadata.offset, metadata.stages.retries), (Some(n), u32::from(n == 1)));
        }
        producer.close(PATIENCE).await.unwrap();
        assert_eq!(target.read(&topic, 0).await.len(), 3, "nothing twice");
        target.finish();
    });
}

#[test]
fn a_full_buffer_waits_then_fails_and_goes_on_when_there_is_room() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let pairs = [("buffer.memory", "4000"), ("batch.size", "1000"), ("max.block.ms", "200")];
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        let record = || ProducerRecord::to(&topic).value(&[7; 800]);
        producer.send(record()).await.unwrap();
        proxy.pause(true);
        let mut deliveries = Vec::new();
        for _ in 0..4 {
            deliveries.push(producer.enqueue(record()).await.unwrap());
        }
        let error = producer.try_enqueue(record()).unwrap_err();
        assert!(matches!(error, ClientError::Retriable(Retriable::Full)), "{error:?}");
        let error = producer.enqueue(record()).await.unwrap_err();
        let waited =
            matches!(error, ClientError::Retriable(Retriable::TimedOut { what: Waited::Buffer, .. }));
        assert!(waited, "{error:?}");
        let waiting = tokio::spawn({
            let (producer, topic) = (producer.clone(), topic.clone());
            async move { producer.send(ProducerRecord::to(&topic).value(&[7; 800])).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        proxy.pause(false);
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset, Some(n as i64 + 1));
        }
        assert_eq!(waiting.await.unwrap().unwrap().offset, Some(5), "it waited and got room");
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_record_that_is_too_large_fails_alone() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let error = producer.send(ProducerRecord::to(&topic).value(&vec![0; 2 << 20])).await.unwrap_err();
        let ClientError::Abortable(Abortable::RecordTooLarge { limit_bytes, setting, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!((limit_bytes, setting), (1 << 20, "max.request.size"));
        assert_eq!(producer.send(ProducerRecord::to(&topic)).await.unwrap().offset, Some(0));
        producer.close(PATIENCE).await.unwrap();

        // The broker's limit is lower than what this producer thinks: one record of the batch is too large for it.
        let pairs = [("max.request.size", "9000000"), ("batch.size", "5000000"), ("linger.ms", "100")];
        let producer = Producer::new(settings(target.bootstrap(), &pairs)).unwrap();
        let mut deliveries = Vec::new();
        for n in 0..5u8 {
            let value = vec![n; if n == 2 { 2_000_000 } else { 100 }];
            deliveries.push(producer.enqueue(ProducerRecord::to(&topic).value(&value)).await.unwrap());
        }
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(delivery.await.map(|metadata| metadata.offset.unwrap()));
        }
        let error = offsets.remove(2).unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::MessageTooLarge), "{error:?}");
        let offsets: Vec<i64> = offsets.into_iter().map(Result::unwrap).collect();
        assert_eq!(offsets, [1, 2, 3, 4]);
        assert!(producer.metrics().batches_split >= 2, "{:?}", producer.metrics());
        producer.close(PATIENCE).await.unwrap();
        let stored = target.read(&topic, 0).await;
        let firsts: Vec<u8> = stored[1..].iter().map(|record| record.value.as_ref().unwrap()[0]).collect();
        assert_eq!(firsts, [0, 1, 3, 4]);
        target.finish();
    });
}

#[test]
fn a_batch_that_the_broker_calls_too_large_goes_in_parts() {
    run(async {
        let target = Target::start();
        for codec in ["none", "zstd"] {
            let topic = target.topic(1).await;
            let too_large = ErrorCode::MessageTooLarge.code();
            let proxy = Proxy::start(target.bootstrap(), move |_, request| {
                let records = request.topic_data.first().unwrap().partition_data.first().unwrap().records;
                let count = BatchView::parse(records.unwrap()).unwrap().record_count();
                if count > 3 { Act::Refuse(too_large) } else { Act::Pass }
            })
            .await;
            let pairs = [("batch.size", "100000"), ("linger.ms", "50"), ("compression.type", codec)];
            let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
            let mut deliveries = Vec::new();
            let told = Arc::new(Mutex::new(Vec::new()));
            for n in 0..100 {
                let value = format!("{n:03}");
                let record = || ProducerRecord::to(&topic).value(value.as_bytes());
                if n % 10 == 0 {
                    let told = Arc::clone(&told);
                    let callback = move |fate: Result<corelog::client::RecordMetadata, ClientError>| {
                        told.lock().unwrap().push((n, fate.unwrap().offset.unwrap()));
                    };
                    producer.enqueue_with(record(), callback).await;
                } else {
                    deliveries.push((n, producer.enqueue(record()).await.unwrap()));
                }
            }
            for (n, delivery) in deliveries {
                assert_eq!(delivery.await.unwrap().offset, Some(n));
            }
            producer.close(PATIENCE).await.unwrap();
            assert!(told.lock().unwrap().iter().copied().eq((0..10).map(|n| (n * 10, n * 10))));
            let texts = target.texts(&topic, 0).await;
            assert!(texts.len() == 100 && texts.is_sorted(), "{codec}: {texts:?}");
            assert_eq!(producer.metrics().epoch_bumps, 0);
        }
        target.finish();
    });
}

/// Fails for "bad", panics for "worse".
struct Moody;

impl Serializer<[u8]> for Moody {
    fn serialize<'v>(
        &self,
        _: &str,
        value: &'v [u8],
        _: &'v mut Vec<u8>,
    ) -> Result<&'v [u8], SerializeError> {
        match value {
            b"bad" => Err("bad mood".into()),
            b"worse" => panic!("worse mood"),
            _ => Ok(value),
        }
    }
}

#[test]
fn a_serializer_that_fails_or_panics_loses_its_record_alone_and_loudly() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let producer =
            Producer::builder(settings(target.bootstrap(), &[]), BytesSerializer, Moody).build().unwrap();
        let error = producer.send(ProducerRecord::to(&topic).value(b"bad")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot serialize the value: bad mood");
        let error = producer.send(ProducerRecord::to(&topic).value(b"worse")).await.unwrap_err();
        let ClientError::Abortable(Abortable::Panicked { part: Part::Value, message }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(message, "worse mood");
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let record = ProducerRecord::to(&topic).value(b"worse");
        producer
            .enqueue_with(record, move |fate| {
                count.fetch_add(usize::from(fate.is_err()), Ordering::Relaxed);
            })
            .await;
        assert_eq!(told.load(Ordering::Relaxed), 1, "callbacks are told too");
        assert_eq!(producer.send(ProducerRecord::to(&topic).value(b"good")).await.unwrap().offset, Some(0));
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_topic_that_nobody_knows_fails_after_max_block() {
    run(async {
        let Some(target) = Target::start_own(|options| options.set("auto.create.topics.enable", "false"))
        else {
            return;
        };
        let producer = Producer::new(settings(target.bootstrap(), &[("max.block.ms", "1000")])).unwrap();
        let started = std::time::Instant::now();
        let error = producer.send(ProducerRecord::to("nowhere").value(b"v")).await.unwrap_err();
        assert!(started.elapsed() >= Duration::from_millis(990), "{:?}", started.elapsed());
        let ClientError::Retriable(Retriable::TimedOut { what: Waited::Topic(topic), last, .. }) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(&*topic, "nowhere");
        assert_eq!(last.unwrap().error_code(), Some(ErrorCode::UnknownTopicOrPartition));
        // A name that can never be is told at once.
        let started = std::time::Instant::now();
        let error = producer.send(ProducerRecord::to("no where").value(b"v")).await.unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::InvalidTopicException));
        assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_topic_that_the_broker_may_create_is_created_by_the_first_record() {
    run(async {
        let Some(target) = Target::start_own(|options| options) else { return };
        let producer = Producer::new(settings(target.bootstrap(), &[])).unwrap();
        let metadata = producer.send(ProducerRecord::to("made-by-sending").value(b"v")).await.unwrap();
        assert_eq!(metadata.offset, Some(0));
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_wall_clock_that_jumps_moves_timestamps_and_nothing_else() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = now.clone();
        let settings = settings(target.bootstrap(), &[("linger.ms", "20")]);
        let producer = Producer::builder(settings, BytesSerializer, BytesSerializer)
            .clock(move || clock.load(Ordering::Relaxed))
            .build()
            .unwrap();
        let mut deliveries = Vec::new();
        let year = 365 * 24 * 3_600_000;
        let jumps = [0, year, -2 * year, 5, -1_600_000_000_000];
        let mut expected = Vec::new();
        for jump in jumps {
            expected.push(now.fetch_add(jump, Ordering::Relaxed) + jump);
            deliveries.push(producer.enqueue(ProducerRecord::to(&topic)).await.unwrap());
        }
        for (delivery, timestamp) in deliveries.into_iter().zip(&expected) {
            assert_eq!(delivery.await.unwrap().timestamp, *timestamp);
        }
        producer.close(PATIENCE).await.unwrap();
        let stored: Vec<i64> = target.read(&topic, 0).await.iter().map(|record| record.timestamp).collect();
        assert_eq!(stored, expected);
        target.finish();
    });
}

#[test]
fn a_broker_that_is_never_there_fails_every_record_in_time() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let pairs = with(&[("request.timeout.ms", "500"), ("delivery.timeout.ms", "1500")]);
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        // Nothing goes on, neither new records nor those on the way.
        proxy.pause(true);
        let started = std::time::Instant::now();
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            deliveries.push(producer.enqueue(ProducerRecord::to(&topic).value(b"w")).await.unwrap());
        }
        for delivery in deliveries {
            let error = delivery.await.unwrap_err();
            let timed_out =
                matches!(error, ClientError::Retriable(Retriable::TimedOut { what: Waited::Delivery, .. }));
            assert!(timed_out, "{error:?}");
        }
        assert!((1400..10_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        // What was given up and what comes after it do not get into each other's way.
        proxy.pause(false);
        let mut last = 0;
        for _ in 0..5 {
            let offset = producer.send(ProducerRecord::to(&topic).value(b"x")).await.unwrap().offset.unwrap();
            assert!(offset > last, "{offset} after {last}");
            last = offset;
        }
        assert_eq!(producer.metrics().buffer_free_bytes, producer.metrics().buffer_bytes);
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_batch_that_is_refused_for_good_leaves_no_hole_for_those_behind_it() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let invalid = ErrorCode::InvalidRecord.code();
        // The second of a row of batches is refused; those behind it are on the way already.
        let proxy = Proxy::start(target.bootstrap(), move |at, _| match at {
            2 => Act::Refuse(invalid),
            _ => Act::Pass,
        })
        .await;
        let producer = Producer::new(settings(&proxy.bootstrap(), &ONE_BY_ONE)).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"0")).await.unwrap();
        let mut deliveries = Vec::new();
        for n in 1..40 {
            let value = n.to_string();
            deliveries
                .push(producer.enqueue(ProducerRecord::to(&topic).value(value.as_bytes())).await.unwrap());
        }
        let mut failed = Vec::new();
        for (n, delivery) in (1..).zip(deliveries) {
            if let Err(error) = delivery.await {
                assert_eq!(error.error_code(), Some(ErrorCode::InvalidRecord));
                failed.push(n);
            }
        }
        assert_eq!(failed, [2]);
        assert_eq!(producer.metrics().epoch_bumps, 1);
        producer.close(PATIENCE).await.unwrap();
        let expected: Vec<String> = (0..40).filter(|n| *n != 2).map(|n| n.to_string()).collect();
        assert_eq!(target.texts(&topic, 0).await, expected);
        target.finish();
    });
}

#[test]
fn a_batch_that_is_given_up_but_was_appended_costs_no_epoch() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let unsure = ErrorCode::RequestTimedOut.code();
        // The broker has the batch and is said to have timed out, for as long as the producer tries.
        let proxy = Proxy::start(target.bootstrap(), move |at, request| {
            let records = request.topic_data.first().unwrap().partition_data.first().unwrap().records;
            let sequence = BatchView::parse(records.unwrap()).unwrap().base_sequence();
            if sequence == 1 && at > 0 { Act::AnswerWith(unsure) } else { Act::Pass }
        })
        .await;
        let pairs = with(&[("retries", "2")]);
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"0")).await.unwrap();
        let mut deliveries = Vec::new();
        for n in 1..10 {
            let value = n.to_string();
            deliveries
                .push(producer.enqueue(ProducerRecord::to(&topic).value(value.as_bytes())).await.unwrap());
        }
        let mut failed = Vec::new();
        for (n, delivery) in (1..).zip(deliveries) {
            if delivery.await.is_err() {
                failed.push(n);
            }
        }
        assert_eq!(failed, [1], "not known to be appended, so it failed");
        assert_eq!(producer.metrics().epoch_bumps, 0, "the next batch showed that nothing is missing");
        producer.close(PATIENCE).await.unwrap();
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(target.texts(&topic, 0).await, expected, "appended once all the same");
        target.finish();
    });
}

#[test]
fn a_broker_that_forgot_the_producer_gets_everything_under_the_next_epoch() {
    run(async {
        let target = Target::start();
        for code in [
            ErrorCode::OutOfOrderSequenceNumber,
            ErrorCode::UnknownProducerId,
            ErrorCode::InvalidProducerEpoch,
        ] {
            let topic = target.topic(1).await;
            let mut refused = 0;
            let proxy = Proxy::start(target.bootstrap(), move |at, _| {
                // Whatever is on the way when the broker forgets is refused.
                if (3..6).contains(&at) && refused < 3 {
                    refused += 1;
                    Act::Refuse(code.code())
                } else {
                    Act::Pass
                }
            })
            .await;
            let producer = Producer::new(settings(&proxy.bootstrap(), &ONE_BY_ONE)).unwrap();
            let mut deliveries = Vec::new();
            for n in 0..20 {
                let value = n.to_string();
                deliveries.push(
                    producer.enqueue(ProducerRecord::to(&topic).value(value.as_bytes())).await.unwrap(),
                );
            }
            for (n, delivery) in deliveries.into_iter().enumerate() {
                let offset = delivery.await.unwrap_or_else(|error| panic!("{code} {n}: {error}")).offset;
                assert_eq!(offset, Some(n as i64), "{code}");
            }
            assert!(producer.metrics().epoch_bumps >= 1, "{code}");
            producer.close(PATIENCE).await.unwrap();
            let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
            assert_eq!(target.texts(&topic, 0).await, expected, "{code}");
        }
        target.finish();
    });
}

#[test]
fn a_refusal_that_ends_the_producer_fails_everything_with_it() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let fenced = ErrorCode::ClusterAuthorizationFailed.code();
        let proxy = Proxy::start(target.bootstrap(), move |at, _| match at {
            0 => Act::Pass,
            _ => Act::Refuse(fenced),
        })
        .await;
        let producer = Producer::new(settings(&proxy.bootstrap(), &ONE_BY_ONE)).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            match producer.enqueue(ProducerRecord::to(&topic).value(b"v")).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => assert!(error.is_fatal(), "{error:?}"),
            }
        }
        for delivery in deliveries {
            let error = delivery.await.unwrap_err();
            assert!(matches!(error, ClientError::Fatal(Fatal::Refused(_))), "{error:?}");
        }
        let error = producer.send(ProducerRecord::to(&topic)).await.unwrap_err();
        assert_eq!(error.error_code(), Some(ErrorCode::ClusterAuthorizationFailed));
        producer.close(PATIENCE).await.unwrap();
        target.finish();
    });
}

#[test]
fn a_close_that_runs_out_of_time_gives_up_what_is_left_and_says_so() {
    run(async {
        let target = Target::start();
        let topic = target.topic(1).await;
        let proxy = Proxy::pass(target.bootstrap()).await;
        let producer = Producer::new(settings(&proxy.bootstrap(), &ONE_BY_ONE)).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        proxy.pause(true);
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            deliveries.push(producer.enqueue(ProducerRecord::to(&topic).value(b"w")).await.unwrap());
        }
        moment().await;
        let error = producer.close(Duration::from_millis(200)).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Retriable(Retriable::TimedOut { what: Waited::Close, .. })),
            "{error:?}"
        );
        for delivery in deliveries {
            let error = delivery.await.unwrap_err();
            assert!(matches!(error, ClientError::Abortable(Abortable::Aborted)), "{error:?}");
        }
        target.finish();
    });
}

#[test]
fn a_producer_that_is_dropped_still_sends_and_a_runtime_that_ends_loses_nothing_silently() {
    let target = Target::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let topic = runtime.block_on(target.topic(1));
    let proxy = runtime.block_on(Proxy::pass(target.bootstrap()));
    let dropped = runtime.block_on(async {
        let pairs = [("linger.ms", "50000"), ("delivery.timeout.ms", "90000")];
        let producer = Producer::new(settings(&proxy.bootstrap(), &pairs)).unwrap();
        producer.enqueue(ProducerRecord::to(&topic).value(b"v")).await.ok()
    });
    assert_eq!(dropped.unwrap().wait().unwrap().offset, Some(0));

    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lost = other.block_on(async {
        let producer = Producer::new(settings(&proxy.bootstrap(), &[])).unwrap();
        producer.send(ProducerRecord::to(&topic).value(b"v")).await.unwrap();
        proxy.pause(true);
        producer.enqueue(ProducerRecord::to(&topic).value(b"w")).await.ok()
    });
    drop(other);
    let error = lost.unwrap().wait().unwrap_err();
    assert!(matches!(error, ClientError::Abortable(Abortable::Aborted)), "{error:?}");
    target.finish();
}
