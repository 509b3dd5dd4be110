//! `corelog produce --trace`: the way of the first record, with a time for every stage.
//!
//! The client's half is measured: an interceptor and serializers note when the record passes them, and the record's metadata
//! tells of its batch. The broker's half comes from its histograms, looked at before and after: what came between is this
//! request, and those of others at the same time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::places::place;
use crate::cli::admin::{self, AdminError};
use crate::cli::arguments::Produce;
use crate::cli::table::{Table, counted};
use crate::client::producer::{Interceptor, SerializeError, Serializer, murmur2};
use crate::client::settings::PartitionerKind;
use crate::client::time::Instant;
use crate::client::{ClientError, Codec, Producer, ProducerRecord, ProducerSettings, RecordMetadata};
use crate::config::Address;
use crate::metrics::Stage;

/// Since the start, for the difference of two looks, and a window for when there were too many requests for that: means
/// come rounded to 10 ns, which this many requests make 20 us.
const SINCE_START: &str = "since_start";
const WINDOW: &str = "last_10_s";
const DIFFERENCE_COUNT_MAX: u64 = 2000;
/// A request is counted when its answer has left, which is about when the answer is here: some looks may be too early.
const LOOKS_MAX: usize = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Where the admin server is if nobody says so: the broker's host, and `admin.listen`'s default port.
const ADMIN_PORT: u16 = 9644;

/// The way of one record.
#[derive(Clone)]
pub struct Journey {
    marks: Arc<Mutex<Marks>>,
    plan: Arc<Plan>,
}

/// What is known before the record is sent.
struct Plan {
    partitioner: PartitionerKind,
    ignores_keys: bool,
    /// `--partition`.
    partition: Option<i32>,
    partition_count: usize,
    linger: Duration,
    codec: Codec,
    admin: Option<Address>,
}

/// Why the broker's stages are not known.
#[derive(Debug)]
enum Unseen {
    NoAddress,
    Admin(AdminError),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::NoAddress => f.write_str("nobody said where its admin server is; give it with --admin"),
            Unseen::Admin(error) => error.fmt(f),
        }
    }
}

/// When the first record passed what, and what became of it.
#[derive(Default)]
struct Marks {
    called: Option<Instant>,
    intercepted: Option<Instant>,
    key: Option<Instant>,
    value: Option<Instant>,
    told: Option<Instant>,
    key_hash: Option<i32>,
    arrival: Option<Arrival>,
}

/// The end of the way.
struct Arrival {
    metadata: RecordMetadata,
    /// The ways through the broker at that time.
    broker: Result<Vec<Class>, Unseen>,
}

#[derive(Clone, Copy)]
enum Half {
    Key,
    Value,
}

/// Bytes as they are, and a note of when.
struct Timed {
    journey: Journey,
    half: Half,
}

impl Serializer<[u8]> for Timed {
    fn serialize<'v>(
        &self,
        _: &str,
        value: &'v [u8],
        _: &'v mut Vec<u8>,
    ) -> Result<&'v [u8], SerializeError> {
        let mut marks = self.journey.marks();
        match self.half {
            Half::Key => {
                stamp(&mut marks.key);
                marks.key_hash.get_or_insert_with(|| murmur2(value));
            }
            Half::Value => stamp(&mut marks.value),
        }
        Ok(value)
    }
}

/// Only the first record leaves a mark.
fn stamp(mark: &mut Option<Instant>) {
    mark.get_or_insert_with(Instant::now);
}

/// Notes when a record comes, and when its fate is told.
struct Watcher(Journey);

impl Interceptor for Watcher {
    fn on_send(&self, _: &mut ProducerRecord<'_>) -> Result<(), SerializeError> {
        stamp(&mut self.0.marks().intercepted);
        Ok(())
    }

    fn on_acknowledgement(&self, _: Result<&RecordMetadata, &ClientError>) {
        stamp(&mut self.0.marks().told);
    }
}

/// One line of the way.
struct Step {
    name: &'static str,
    took: Duration,
    what: String,
}

impl Journey {
    pub fn new(settings: &ProducerSettings, options: &Produce, partition_count: usize) -> Journey {
        let beside = |broker: &Address| Address { host: broker.host.clone(), port: ADMIN_PORT };
        let plan = Plan {
            partitioner: settings.partitioner,
            ignores_keys: settings.partitioner_ignores_keys,
            partition: options.partition,
            partition_count,
            linger: settings.linger,
            codec: settings.compression,
            admin: options.admin.clone().or_else(|| settings.client.bootstrap.first().map(beside)),
        };
        Journey { marks: Arc::default(), plan: Arc::new(plan) }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer that leaves marks.
    pub fn producer(&self, settings: ProducerSettings) -> Result<Producer, ClientError> {
        let half = |half| Timed { journey: self.clone(), half };
        Producer::builder(settings, half(Half::Key), half(Half::Value))
            .interceptor(Watcher(self.clone()))
            .build()
    }

    /// Sends the record and waits for its fate.
    pub async fn follow(
        &self,
        producer: &Producer,
        record: ProducerRecord<'_>,
    ) -> Result<RecordMetadata, ClientError> {
        // Learning about the topic is the first record's to wait for, but no part of a record's way.
        producer.partition_count(&record.topic).await?;
        let before = self.look().await;
        stamp(&mut self.marks().called);
        let metadata = producer.send(record).await?;
        let broker = match before {
            Ok(before) => self.ways_since(&before).await,
            Err(why) => Err(why),
        };
        self.marks().arrival = Some(Arrival { metadata: metadata.clone(), broker });
        Ok(metadata)
    }

    /// The broker's page about latency.
    async fn look(&self) -> Result<Value, Unseen> {
        let address = self.plan.admin.clone().ok_or(Unseen::NoAddress)?;
        let asked = tokio::task::spawn_blocking(move || admin::get(&address, "/latency")).await;
        let page = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        page.map_err(Unseen::Admin)
    }

    /// The ways that produce requests went since an earlier look; none if the broker times none.
    async fn ways_since(&self, before: &Value) -> Result<Vec<Class>, Unseen> {
        for _ in 1..LOOKS_MAX {
            let found = classes(before, &self.look().await?);
            if !found.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(classes(before, &self.look().await?))
    }

    /// The way as tables; `None` if there was no record, or if it was lost.
    pub fn to_text(&self) -> Option<String> {
        let marks = self.marks();
        let arrival = marks.arrival.as_ref()?;
        Some(as_text(&arrival.metadata, &self.steps(&marks, &arrival.metadata)?, &arrival.broker))
    }

    /// As [`Journey::to_text`], for programs; null if there was no record, or if it was lost.
    pub fn to_json(&self) -> Value {
        let marks = self.marks();
        let Some(arrival) = &marks.arrival else { return Value::Null };
        match self.steps(&marks, &arrival.metadata) {
            Some(steps) => as_json(&arrival.metadata, &steps, &arrival.broker),
            None => Value::Null,
        }
    }

    fn steps(&self, marks: &Marks, metadata: &RecordMetadata) -> Option<Vec<Step>> {
        let Plan { partition_count, linger, codec, .. } = &*self.plan;
        let stages = &metadata.stages;
        let (called, intercepted, told) = (marks.called?, marks.intercepted?, marks.told?);
        let serialized = marks.value.or(marks.key).unwrap_or(intercepted);
        let size = |bytes: Option<usize>| {
            bytes.map_or_else(|| "null".to_owned(), |bytes| counted(bytes as u64, "byte"))
        };
        let (key, value) = (size(metadata.serialized_key_bytes), size(metadata.serialized_value_bytes));
        let compressed = match codec {
            Codec::None => "not compressed".to_owned(),
            codec => format!("compressed with {}", codec.name()),
        };
        let tries = match stages.retries {
            0 => "request written".to_owned(),
            retries => format!("the last of {} tries", retries + 1),
        };
        let step = |name, from: Instant, to: Instant, what: String| Step {
            name,
            took: to.saturating_duration_since(from),
            what,
        };
        Some(vec![
            step("interceptors", called, intercepted, "one, which notes the time".to_owned()),
            step("serializers", intercepted, serialized, format!("key {key}, value {value}")),
            step(
                "partition",
                serialized,
                stages.opened,
                format!("{} of {partition_count}: {}", metadata.partition, self.plan.why(marks.key_hash)),
            ),
            step(
                "batch",
                stages.opened,
                stages.drained,
                format!(
                    "waited for more records (linger.ms={}), a connection and a producer id; {compressed}",
                    linger.as_millis()
                ),
            ),
            step("sent", stages.drained, stages.sent, tries),
            step(
                "acknowledged",
                stages.sent,
                stages.acknowledged,
                "network, and the broker's stages below".to_owned(),
            ),
            step("told", stages.acknowledged, told, "interceptors hear of it, the caller goes on".to_owned()),
        ])
    }
}

impl Plan {
    /// Why the record went to its partition.
    fn why(&self, key_hash: Option<i32>) -> String {
        match (self.partition, key_hash, self.partitioner) {
            (Some(_), ..) => "as asked by --partition".to_owned(),
            (None, _, PartitionerKind::RoundRobin) => "its turn (round robin)".to_owned(),
            (None, Some(hash), PartitionerKind::Default) if !self.ignores_keys => {
                format!("murmur2 of the key is {:#010x}", hash as u32)
            }
            (None, ..) => {
                "no key that counts; one partition until a batch's bytes went there (sticky)".to_owned()
            }
        }
    }
}

/// A way through the broker: its name, how many requests went it, and the mean time of every stage.
#[derive(PartialEq, Debug)]
struct Class {
    name: String,
    count: u64,
    /// In microseconds, in the order of a request.
    stages: Vec<(Stage, f64)>,
    total_us: f64,
    /// All of the last seconds, because those between the looks could not be told apart.
    is_window: bool,
}

/// The ways that produce requests went between two looks.
fn classes(before: &Value, after: &Value) -> Vec<Class> {
    let rows = |page: &Value, period: &str| page[period]["produce"].as_array().cloned().unwrap_or_default();
    let earlier = rows(before, SINCE_START);
    if earlier.iter().any(|class| count(class) > DIFFERENCE_COUNT_MAX) {
        return rows(after, WINDOW).iter().filter_map(|class| Class::of(&Value::Null, class, true)).collect();
    }
    let class = |class: &Value| {
        let is_same =
            |other: &&Value| other["durability"] == class["durability"] && other["path"] == class["path"];
        Class::of(earlier.iter().find(is_same).unwrap_or(&Value::Null), class, false)
    };
    rows(after, SINCE_START).iter().filter_map(class).collect()
}

fn count(class: &Value) -> u64 {
    class["stages"]["total"]["count"].as_u64().unwrap_or(0)
}

impl Class {
    /// What came to a class between two looks; `None` if nothing did.
    fn of(before: &Value, after: &Value, is_window: bool) -> Option<Class> {
        let (earlier, later) = (count(before), count(after));
        let came = later.checked_sub(earlier).filter(|came| *came > 0)?;
        let mean = |stage: &str| {
            let later_us = after["stages"][stage]["mean_us"].as_f64()? * later as f64;
            let earlier_us = before["stages"][stage]["mean_us"].as_f64().unwrap_or(0.0) * earlier as f64;
            // To a tenth, as the client's own.
            Some(((later_us - earlier_us).max(0.0) / came as f64 * 10.0).round() / 10.0)
        };
        Some(Class {
            name: format!("{}/{}", after["durability"].as_str()?, after["path"].as_str()?),
            count: came,
            stages: Stage::PRODUCE.iter().filter_map(|stage| Some((*stage, mean(stage.name())?))).collect(),
            total_us: mean("total")?,
            is_window,
        })
    }
}

fn us(took: Duration) -> f64 {
    (took.as_nanos() as f64 / 100.0).round() / 10.0
}

fn as_text(metadata: &RecordMetadata, steps: &[Step], broker: &Result<Vec<Class>, Unseen>) -> String {
    let mut table = Table::new(&["stage", "us", "what"]);
    let mut total = Duration::ZERO;
    for step in steps {
        total += step.took;
        table.push(vec![json!(step.name), json!(us(step.took)), json!(step.what)]);
    }
    table.push(vec![json!("in all"), json!(us(total)), json!(place(metadata))]);
    let mut text = table.to_text() + "\n";
    match broker {
        Err(why) => text += &format!("the broker's stages are not known: {why}\n"),
        Ok(classes) if classes.is_empty() => {
            text += "the broker did not time the request; its setting metrics.stages says whether it does\n";
        }
        Ok(classes) => {
            for class in classes {
                let requests = match (class.count, class.is_window) {
                    (1, false) => "this request".to_owned(),
                    (count, false) => format!("mean of {count} requests at the same time"),
                    (count, true) => format!("mean of {count} requests in the last 10 s"),
                };
                let mut table = Table::new(&["stage", "us", "what"]);
                for (stage, us) in &class.stages {
                    table.push(vec![json!(stage.name()), json!(us), json!(stage.help())]);
                }
                table.push(vec![json!("in all"), json!(class.total_us), json!("")]);
                text += &format!("in the broker, {}, {requests}:\n{}", class.name, table.to_text());
            }
        }
    }
    text + "\n"
}

fn as_json(metadata: &RecordMetadata, steps: &[Step], broker: &Result<Vec<Class>, Unseen>) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| json!({ "stage": step.name, "us": us(step.took), "what": step.what }))
        .collect();
    let mut trace = json!({
        "topic": &*metadata.topic,
        "partition": metadata.partition,
        "offset": metadata.offset,
        "stages": steps,
    });
    match broker {
        Err(why) => trace["broker_not_known"] = json!(why.to_string()),
        Ok(classes) => {
            let class = |class: &Class| {
                let stages: serde_json::Map<String, Value> =
                    class.stages.iter().map(|(stage, us)| (stage.name().to_owned(), json!(us))).collect();
                json!({ "path": class.name, "requests": class.count, "mean_us": stages, "total_us": class.total_us })
            };
            trace["broker"] = classes.iter().map(class).collect();
        }
    }
    trace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: u64, total_us: f64, flushed_us: f64) -> Value {
        let stages = json!({
            "total": { "count": count, "mean_us": total_us },
            "flushed": { "count": count, "mean_us": flushed_us },
        });
        let class = json!({ "durability": "fsync", "path": "journal", "stages": stages });
        json!({ SINCE_START: { "produce": [class] }, WINDOW: { "produce": [class] } })
    }

    #[test]
    fn what_came_between_two_looks_is_told_apart() {
        let check = |before: Value, after: Value, expected: Option<(u64, f64, f64, bool)>| {
            let found = classes(&before, &after);
            let found: Vec<_> = found
                .iter()
                .map(|class| (class.count, class.total_us, class.stages[0].1, class.is_window))
                .collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{before} {after}");
        };
        check(page(3, 100.0, 50.0), page(4, 150.0, 60.0), Some((1, 300.0, 90.0, false)));
        check(page(3, 100.0, 50.0), page(3, 100.0, 50.0), None);
        // A broker that has just started.
        check(json!({}), page(2, 100.0, 50.0), Some((2, 100.0, 50.0, false)));
        // Too many for a difference of means.
        check(page(5000, 100.0, 50.0), page(5001, 100.0, 50.0), Some((5001, 100.0, 50.0, true)));
    }

    #[test]
    fn the_reason_for_a_partition_is_the_one_that_decided() {
        let plan = |partition, partitioner, ignores_keys| Plan {
            partitioner,
            ignores_keys,
            partition,
            partition_count: 3,
            linger: Duration::ZERO,
            codec: Codec::None,
            admin: None,
        };
        let check = |plan: Plan, key_hash: Option<i32>, expected: &str| {
            let why = plan.why(key_hash);
            assert!(why.contains(expected), "{why}");
        };
        let default = PartitionerKind::Default;
        check(plan(Some(1), default, false), Some(7), "--partition");
        check(plan(None, default, false), Some(-1), "0xffffffff");
        check(plan(None, default, true), Some(7), "sticky");
        check(plan(None, default, false), None, "sticky");
        check(plan(None, PartitionerKind::RoundRobin, false), Some(7), "round robin");
    }
}
