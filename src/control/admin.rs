//! The admin HTTP server: health, metrics, latencies, slow requests, state, slots. It has no authentication and listens on
//! loopback by default. All but one of its pages are reads; a slot is moved with `PUT`, which no page of another site can make
//! a browser send.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Health, ServedEndpoint, Shared};
use crate::metrics::{
    Activity, AskShard, BUSIEST_MAX, BusyClient, BusyPartition, Counter, Gauge, PartitionReport,
    ShardMetrics, ShardReport, SlotReport, SlotsReport, SlowRequest, Tell, Timed, Traffic, prometheus,
    write_partitions, write_process,
};
use crate::model::{PlacementSlot, ShardId};
use crate::protocol::ApiKey;

/// How long `/state` waits for a shard. A shard that is silent for so long is itself the news.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// How long a move may take until whoever asked is told to look later: what is under way on the partitions has to end.
const MOVE_WAIT: Duration = Duration::from_secs(60);

/// Serves until the runtime goes.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/latency", get(latency))
        .route("/state", get(state))
        .route("/trace/slow", get(trace_slow))
        .route("/slots", get(slots))
        .route("/slots/{slot}/core/{core}", put(move_slot))
        .with_state(shared);
    axum::serve(listener, router).await
}

async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let health = shared.health();
    let status = if health == Health::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", health.name()))
}

/// How `/metrics` is wanted.
enum Format {
    Text,
    Json,
}

impl Format {
    /// `?format=json`; anything else is Prometheus' text.
    fn of_query(query: Option<&str>) -> Format {
        let is_json = query.is_some_and(|query| query.split('&').any(|pair| pair == "format=json"));
        if is_json { Format::Json } else { Format::Text }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let activities = activities(&shared).await;
    match Format::of_query(query.as_deref()) {
        Format::Json => json_page(&metrics_json(&shared, activities)).into_response(),
        Format::Text => metrics_text(&shared, activities).into_response(),
    }
}

fn metrics_text(shared: &Shared, activities: Vec<Activity>) -> impl IntoResponse + use<> {
    let mut page = prometheus(shared.metrics());
    let partitions: Vec<BusyPartition> = activities.into_iter().flat_map(|a| a.partitions).collect();
    write_partitions(&mut page, &partitions);
    let is_ready = shared.health() == Health::Ready;
    write_process(&mut page, env!("CARGO_PKG_VERSION"), shared.uptime().as_secs_f64(), is_ready);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page)
}

async fn latency(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    json_page(&shared.latency())
}

/// Indented: people read this with curl.
fn json_page(page: &Value) -> impl IntoResponse + use<> {
    let text = serde_json::to_string_pretty(page).expect("a tree of texts and numbers is always JSON");
    ([(header::CONTENT_TYPE, "application/json")], text + "\n")
}

async fn state(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut body = state_head(&shared);
    body["shards"] = reports(&shared).await;
    json_page(&body)
}

fn state_head(shared: &Shared) -> Value {
    let shards = shared.metrics();
    let total = |value: &dyn Fn(usize) -> u64| (0..shards.len()).map(value).sum::<u64>();
    let counters: serde_json::Map<String, Value> = Counter::ALL
        .iter()
        .map(|&counter| (counter.metric().name.to_owned(), total(&|i| shards[i].counter(counter)).into()))
        .collect();
    let gauges: serde_json::Map<String, Value> = Gauge::ALL
        .iter()
        .map(|&gauge| (gauge.metric().name.to_owned(), total(&|i| shards[i].gauge(gauge)).into()))
        .collect();
    let mut state = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "health": shared.health().name(),
        "uptime_seconds": shared.uptime().as_secs_f64(),
        "settings": shared.settings,
        "counters": counters,
        "gauges": gauges,
    });
    if let Some(broker) = shared.broker.get() {
        state["cluster_id"] = broker.cluster_id.clone().into();
        state["node_id"] = broker.node_id.into();
        state["kafka"] = broker.kafka.to_string().into();
        let endpoint = |served: &ServedEndpoint| {
            let shards: Vec<u16> = served.shards.iter().map(|shard| shard.0).collect();
            json!({ "broker": served.broker.0, "kafka": served.kafka.to_string(), "shards": shards })
        };
        state["endpoints"] = broker.endpoints.iter().map(endpoint).collect();
    }
    state
}

/// What shards hold; those that are silent are named.
async fn reports(shared: &Shared) -> Value {
    let answers = ask(shared, |shard, tell| (shard.report)(tell)).await;
    let silent = |shard: usize| json!({ "shard": shard, "silent": true });
    answers
        .into_iter()
        .enumerate()
        .map(|(shard, report)| report.map_or_else(|| silent(shard), report_json))
        .collect()
}

/// What goes on on the shards that answer.
async fn activities(shared: &Shared) -> Vec<Activity> {
    ask(shared, |shard, tell| (shard.activity)(tell)).await.into_iter().flatten().collect()
}

/// Asks all shards at once; `None` for one that does not answer in time.
async fn ask<T: Send + 'static>(shared: &Shared, question: impl Fn(&AskShard, Tell<T>)) -> Vec<Option<T>> {
    let Some(broker) = shared.broker.get() else { return Vec::new() };
    let asked: Vec<oneshot::Receiver<T>> = broker
        .ask_shards
        .iter()
        .map(|shard| {
            let (sender, receiver) = oneshot::channel();
            // Whoever asked may be gone by the time the shard answers.
            question(shard, Box::new(move |answer| drop(sender.send(answer))));
            receiver
        })
        .collect();
    let deadline = tokio::time::Instant::now() + REPORT_WAIT;
    let mut answers = Vec::new();
    for receiver in asked {
        answers.push(tokio::time::timeout_at(deadline, receiver).await.ok().and_then(Result::ok));
    }
    answers
}

/// The busiest of all shards together, first the one that moves most.
fn busiest<T>(mut all: Vec<T>, moved: impl Fn(&T) -> &Traffic) -> Vec<T> {
    all.sort_by_key(|one| std::cmp::Reverse(moved(one).weight()));
    all.truncate(BUSIEST_MAX);
    all
}

/// Per second, over a window.
fn rates(moved: &Traffic, window: Duration) -> Value {
    let rate = |count: u64| (count as f64 / window.as_secs_f64().max(0.001)).round();
    json!({
        "requests_per_second": rate(moved.requests),
        "records_per_second": rate(moved.records),
        "in_bytes_per_second": rate(moved.in_bytes),
        "out_bytes_per_second": rate(moved.out_bytes),
    })
}

fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// The metrics page in JSON, with the busiest partitions and connections of the last second or so.
fn metrics_json(shared: &Shared, activities: Vec<Activity>) -> Value {
    let shard = |shard: &Arc<ShardMetrics>| {
        let counters: serde_json::Map<String, Value> = Counter::ALL
            .iter()
            .map(|counter| (counter.metric().name.to_owned(), shard.counter(*counter).into()))
            .collect();
        let gauges: serde_json::Map<String, Value> = Gauge::ALL
            .iter()
            .map(|gauge| (gauge.metric().name.to_owned(), shard.gauge(*gauge).into()))
            .collect();
        json!({ "shard": shard.shard().0, "counters": counters, "gauges": gauges })
    };
    let (mut partitions, mut clients) = (Vec::new(), Vec::new());
    for Activity { shard, window, partitions: p, clients: c, .. } in activities {
        partitions.extend(p.into_iter().map(|partition| (shard, window, partition)));
        clients.extend(c.into_iter().map(|client| (shard, window, client)));
    }
    let partition = |(shard, window, busy): (ShardId, Duration, BusyPartition)| {
        let who = json!({ "topic": &*busy.topic, "partition": busy.partition, "shard": shard.0 });
        with(who, rates(&busy.moved, window))
    };
    let client = |(shard, window, busy): (ShardId, Duration, BusyClient)| {
        let who = json!({ "client_id": busy.client_id.as_deref(), "peer": busy.peer, "shard": shard.0 });
        with(who, rates(&busy.moved, window))
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "health": shared.health().name(),
        "uptime_seconds": shared.uptime().as_secs_f64(),
        "shards": shared.metrics().iter().map(shard).collect::<Vec<_>>(),
        "partitions": busiest(partitions, |p| &p.2.moved).into_iter().map(partition).collect::<Vec<_>>(),
        "clients": busiest(clients, |c| &c.2.moved).into_iter().map(client).collect::<Vec<_>>(),
    })
}

/// Slow requests of all shards, the newest first.
async fn trace_slow(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut slow: Vec<(ShardId, SlowRequest)> = Vec::new();
    let activities = activities(&shared).await;
    // The same on all, but for the moment of a change; none if no shard answers.
    let threshold_us = activities.first().map(|activity| activity.slow_request.as_micros() as u64);
    for activity in activities {
        slow.extend(activity.slow.into_iter().map(|request| (activity.shard, request)));
    }
    slow.sort_by_key(|(_, request)| std::cmp::Reverse(request.at));
    let requests: Vec<Value> = slow.iter().map(|(shard, request)| slow_json(*shard, request)).collect();
    json_page(&json!({ "threshold_us": threshold_us, "requests": requests }))
}

fn slow_json(shard: ShardId, request: &SlowRequest) -> Value {
    let Timed { api_key, api_version, correlation_id, class, clock, .. } = request.timed;
    let us = |duration: Duration| (duration.as_nanos() as f64 / 10.0).round() / 100.0;
    let mut row = json!({
        "at": super::logging::format_time(request.at),
        "shard": shard.0,
        "api": ApiKey::from_key(api_key).map(ApiKey::name),
        "api_version": api_version,
        "correlation_id": correlation_id,
        "client_id": request.client_id.as_deref(),
        "peer": request.peer,
        "topic": request.partition.as_ref().map(|(topic, _)| &**topic),
        "partition": request.partition.as_ref().map(|(_, partition)| *partition),
        "total_us": us(clock.total()),
    });
    if let Some(class) = class {
        for (label, value) in class.labels() {
            row[label] = value.into();
        }
        let stages: serde_json::Map<String, Value> = class
            .stages()
            .iter()
            .map(|stage| (stage.name().to_owned(), us(clock.spent(*stage)).into()))
            .collect();
        row["stages"] = stages.into();
    }
    row
}

/// The slots of all shards that answer, by number.
async fn slots(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let reports: Vec<SlotsReport> =
        ask(&shared, |shard, tell| (shard.slots)(tell)).await.into_iter().flatten().collect();
    let mut slots: Vec<(ShardId, SlotReport)> = Vec::new();
    for SlotsReport { shard, slots: here } in reports {
        slots.extend(here.into_iter().map(|slot| (shard, slot)));
    }
    slots.sort_by_key(|(_, report)| report.slot);
    let slot = |(shard, report): (ShardId, SlotReport)| {
        json!({
            "slot": report.slot.0,
            "core": shard.0,
            "endpoint": report.endpoint.0,
            "partitions": report.partitions,
            "size_bytes": report.size_bytes,
            "requests": report.total.requests,
            "in_bytes": report.total.in_bytes,
            "out_bytes": report.total.out_bytes,
        })
    };
    json_page(
        &json!({ "cores": shared.metrics().len(), "slots": slots.into_iter().map(slot).collect::<Vec<_>>() }),
    )
}

/// Moves a slot, and answers when it is there.
async fn move_slot(
    State(shared): State<Arc<Shared>>,
    Path((slot, core)): Path<(u16, u16)>,
) -> impl IntoResponse {
    let refused = |status, why: String| (status, json_page(&json!({ "error": why })));
    let Some(first) = shared.broker.get().and_then(|broker| broker.ask_shards.first()) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the broker is starting".to_owned());
    };
    let (sender, receiver) = oneshot::channel();
    // Whoever asked may be gone by the time it is done.
    let tell = Box::new(move |outcome| drop(sender.send(outcome)));
    (first.move_slot)(PlacementSlot(slot), ShardId(core), tell);
    match tokio::time::timeout(MOVE_WAIT, receiver).await {
        Ok(Ok(Ok(()))) => (StatusCode::OK, json_page(&json!({ "slot": slot, "core": core }))),
        Ok(Ok(Err(refusal))) => refused(StatusCode::CONFLICT, refusal.to_string()),
        Ok(Err(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, "the broker is stopping".to_owned()),
        Err(_) => {
            let why = format!(
                "not done in {} s; it goes on, `corelog cluster slots` shows when it is there",
                MOVE_WAIT.as_secs()
            );
            refused(StatusCode::GATEWAY_TIMEOUT, why)
        }
    }
}

fn report_json(report: ShardReport) -> Value {
    let partition = |p: PartitionReport| {
        json!({
            "topic": &*p.topic,
            "partition": p.partition,
            "durability": p.durability.name(),
            "log_start_offset": p.log_start_offset,
            "flushed_offset": p.flushed_offset,
            "high_watermark": p.high_watermark,
            "log_end_offset": p.log_end_offset,
            "size_bytes": p.size_bytes,
            "segments": p.segments,
            "offline": p.is_offline,
        })
    };
    let groups =
        report.groups.into_iter().map(|g| json!({ "name": g.name, "state": g.state, "members": g.members }));
    json!({
        "shard": report.shard.0,
        "partitions": report.partitions.into_iter().map(partition).collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
    })
}
