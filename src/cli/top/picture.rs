//! What two looks at a broker come to: rates between them, and how it stands at the second.

use serde_json::{Map, Value, json};

use crate::metrics::Stage;

/// The window of `/latency` that is shown.
const WINDOW: &str = "last_10_s";

/// One look: the two pages of the admin server.
pub struct Look {
    pub metrics: Value,
    pub latency: Value,
}

/// A broker at a glance. Rates are per second.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Picture {
    pub version: String,
    pub health: String,
    pub uptime_seconds: f64,
    pub shards: Vec<ShardRow>,
    pub classes: Vec<ClassRow>,
    pub partitions: Vec<BusyRow>,
    pub clients: Vec<BusyRow>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ShardRow {
    pub shard: u64,
    /// Share of the time in which it did not wait, in percent.
    pub busy_percent: f64,
    pub requests: f64,
    pub records: f64,
    pub in_bytes: f64,
    pub out_bytes: f64,
    pub connections: u64,
    pub pending: u64,
    pub in_flight: u64,
    pub oldest_ms: u64,
    /// Messages found in the mailboxes, p99.
    pub mailbox_p99: u64,
    /// Share of reads that found their records in memory, in percent; `None` without reads.
    pub memory_percent: Option<f64>,
}

/// Requests that are timed together.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClassRow {
    /// `produce` or `fetch`.
    pub api: &'static str,
    /// Durability and write path, or where the records were.
    pub kind: String,
    pub requests: f64,
    pub total: Quantiles,
    /// The stages' p99, in the order of a request, in microseconds.
    pub stages_p99_us: Vec<(&'static str, f64)>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Quantiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// A partition or a client.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BusyRow {
    pub name: String,
    pub requests: f64,
    pub records: f64,
    pub in_bytes: f64,
    pub out_bytes: f64,
}

impl Picture {
    pub fn between(before: &Look, now: &Look) -> Picture {
        let metrics = &now.metrics;
        let uptime_seconds = number(&metrics["uptime_seconds"]);
        let span = uptime_seconds - number(&before.metrics["uptime_seconds"]);
        let window = &now.latency[WINDOW];
        let shards = rows(&metrics["shards"]).iter().map(|shard| {
            // A broker that started anew between the looks counts from zero again.
            let is_same = |other: &&Value| other["shard"] == shard["shard"] && span > 0.0;
            let earlier = rows(&before.metrics["shards"]).iter().find(is_same);
            shard_row(shard, earlier, span, window)
        });
        let busy = |rows: &[Value], name: fn(&Value) -> String| -> Vec<BusyRow> {
            rows.iter().map(|row| busy_row(row, name(row))).collect()
        };
        Picture {
            version: metrics["version"].as_str().unwrap_or_default().to_owned(),
            health: metrics["health"].as_str().unwrap_or_default().to_owned(),
            uptime_seconds,
            shards: shards.collect(),
            classes: classes(window),
            partitions: busy(rows(&metrics["partitions"]), |row| {
                format!("{}-{}", row["topic"].as_str().unwrap_or("?"), row["partition"])
            }),
            clients: busy(rows(&metrics["clients"]), |row| {
                let peer = row["peer"].as_str().unwrap_or("?");
                row["client_id"].as_str().map_or(peer.to_owned(), |client| format!("{client}@{peer}"))
            }),
        }
    }

    /// All shards together.
    pub fn total(&self, of: impl Fn(&ShardRow) -> f64) -> f64 {
        self.shards.iter().map(of).sum()
    }

    /// The largest p99 of the classes of one API; 0 without requests.
    pub fn p99_us(&self, api: &str) -> f64 {
        let of_api = self.classes.iter().filter(|class| class.api == api);
        of_api.map(|class| class.total.p99_us).fold(0.0, f64::max)
    }

    pub fn to_json(&self) -> Value {
        let shard = |row: &ShardRow| {
            json!({
                "shard": row.shard,
                "busy_percent": row.busy_percent,
                "requests_per_second": row.requests,
                "records_per_second": row.records,
                "in_bytes_per_second": row.in_bytes,
                "out_bytes_per_second": row.out_bytes,
                "connections": row.connections,
                "pending_requests": row.pending,
                "operations_in_flight": row.in_flight,
                "oldest_file_operation_ms": row.oldest_ms,
                "mailbox_p99": row.mailbox_p99,
                "memory_reads_percent": row.memory_percent,
            })
        };
        let class = |row: &ClassRow| {
            let Quantiles { p50_us, p99_us, p999_us, max_us } = row.total;
            let stages: Map<String, Value> =
                row.stages_p99_us.iter().map(|(name, us)| ((*name).to_owned(), json!(us))).collect();
            json!({
                "api": row.api,
                "kind": row.kind,
                "requests_per_second": row.requests,
                "p50_us": p50_us,
                "p99_us": p99_us,
                "p999_us": p999_us,
                "max_us": max_us,
                "stages_p99_us": stages,
            })
        };
        let busy = |row: &BusyRow| {
            json!({
                "name": row.name,
                "requests_per_second": row.requests,
                "records_per_second": row.records,
                "in_bytes_per_second": row.in_bytes,
                "out_bytes_per_second": row.out_bytes,
            })
        };
        json!({
            "version": self.version,
            "health": self.health,
            "uptime_seconds": self.uptime_seconds,
            "shards": self.shards.iter().map(shard).collect::<Vec<_>>(),
            "latency": self.classes.iter().map(class).collect::<Vec<_>>(),
            "partitions": self.partitions.iter().map(busy).collect::<Vec<_>>(),
            "clients": self.clients.iter().map(busy).collect::<Vec<_>>(),
        })
    }
}

fn shard_row(shard: &Value, before: Option<&Value>, span: f64, window: &Value) -> ShardRow {
    let counted = |name: &str| {
        let now = number(&shard["counters"][name]);
        let earlier = before.map_or(now, |before| number(&before["counters"][name]));
        (now - earlier).max(0.0)
    };
    let rate = |name: &str| if span > 0.0 { counted(name) / span } else { 0.0 };
    let gauge = |name: &str| number(&shard["gauges"][name]) as u64;
    let number_of_shard = shard["shard"].as_u64().unwrap_or_default();
    let name = number_of_shard.to_string();
    let wait = &window["phases"][&name]["wait"];
    let waited_seconds = number(&wait["count"]) * number(&wait["mean_us"]) / 1e6;
    let seconds = number(&window["seconds"]);
    let (memory, disk) =
        (counted("corelog_fetch_memory_reads_total"), counted("corelog_fetch_disk_reads_total"));
    ShardRow {
        shard: number_of_shard,
        // A wait that goes on is not counted yet: a shard with nothing to do has a short sum of them.
        busy_percent: busy_percent(&window["round"][&name], seconds, waited_seconds),
        requests: rate("corelog_requests_total"),
        records: rate("corelog_appended_records_total"),
        in_bytes: rate("corelog_received_bytes_total"),
        out_bytes: rate("corelog_sent_bytes_total"),
        connections: gauge("corelog_connections"),
        pending: gauge("corelog_pending_requests"),
        in_flight: gauge("corelog_operations_in_flight"),
        oldest_ms: gauge("corelog_oldest_file_operation_ms"),
        mailbox_p99: number(&window["mailbox"][&name]["p99"]) as u64,
        memory_percent: (memory + disk > 0.0).then(|| 100.0 * memory / (memory + disk)),
    }
}

/// Time in rounds against all of the window.
fn busy_percent(round: &Value, seconds: f64, waited_seconds: f64) -> f64 {
    let rounds_seconds = number(&round["count"]) * number(&round["mean_us"]) / 1e6;
    let all = seconds.max(rounds_seconds + waited_seconds);
    if all > 0.0 { 100.0 * rounds_seconds / all } else { 0.0 }
}

fn classes(window: &Value) -> Vec<ClassRow> {
    let seconds = number(&window["seconds"]);
    let of_api = |api: &'static str, stages: &'static [Stage]| {
        rows(&window[api]).iter().map(move |class| {
            let total = &class["stages"]["total"];
            let labels = ["durability", "path", "source"].iter().filter_map(|label| class[*label].as_str());
            let p99 = |stage: &Stage| (stage.name(), number(&class["stages"][stage.name()]["p99_us"]));
            ClassRow {
                api,
                kind: labels.collect::<Vec<_>>().join("/"),
                requests: if seconds > 0.0 { number(&total["count"]) / seconds } else { 0.0 },
                total: Quantiles {
                    p50_us: number(&total["p50_us"]),
                    p99_us: number(&total["p99_us"]),
                    p999_us: number(&total["p999_us"]),
                    max_us: number(&total["max_us"]),
                },
                stages_p99_us: stages.iter().map(p99).collect(),
            }
        })
    };
    let mut all: Vec<ClassRow> =
        of_api("produce", Stage::PRODUCE).chain(of_api("fetch", Stage::FETCH)).collect();
    all.sort_by(|a, b| b.requests.total_cmp(&a.requests));
    all
}

fn busy_row(row: &Value, name: String) -> BusyRow {
    BusyRow {
        name,
        requests: number(&row["requests_per_second"]),
        records: number(&row["records_per_second"]),
        in_bytes: number(&row["in_bytes_per_second"]),
        out_bytes: number(&row["out_bytes_per_second"]),
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// 0 for what is not there: an older or newer broker may not tell it.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn look(uptime: f64, requests: u64) -> Look {
        let shard = |shard: u64| {
            json!({
                "shard": shard,
                "counters": {
                    "corelog_requests_total": requests * (shard + 1),
                    "corelog_received_bytes_total": requests * 1000,
                    "corelog_sent_bytes_total": requests * 100,
                    "corelog_appended_records_total": requests * 10,
                    "corelog_fetch_memory_reads_total": requests * 3,
                    "corelog_fetch_disk_reads_total": requests,
                },
                "gauges": { "corelog_connections": 16, "corelog_pending_requests": 5, "corelog_operations_in_flight": 20, "corelog_oldest_file_operation_ms": 2 },
            })
        };
        let quantiles = |p99: f64| json!({ "count": 5000, "p50_us": p99 / 2.0, "p99_us": p99, "p999_us": p99 * 2.0, "max_us": p99 * 4.0 });
        let stages = |names: &[&str]| -> Map<String, Value> {
            names
                .iter()
                .enumerate()
                .map(|(i, name)| ((*name).to_owned(), quantiles(10.0 * (i + 1) as f64)))
                .collect()
        };
        let busy = |bytes: f64| json!({ "requests_per_second": 100.0, "records_per_second": 1000.0, "in_bytes_per_second": bytes, "out_bytes_per_second": bytes * 2.0 });
        let with = |mut row: Value, key: &str, value: Value| {
            row[key] = value;
            row
        };
        let partition =
            |topic: &str, bytes: f64| with(with(busy(bytes), "topic", json!(topic)), "partition", json!(3));
        Look {
            metrics: json!({
                "version": "0.1.0", "health": "ready", "uptime_seconds": uptime,
                "shards": [shard(0), shard(1)],
                "partitions": [partition("orders", 3e6), partition("a-topic-with-a-name-that-is-much-too-long-for-its-column", 2e6)],
                "clients": [with(with(busy(5e6), "client_id", json!("app")), "peer", json!("10.0.0.7")), with(with(busy(1e3), "client_id", Value::Null), "peer", json!("::1"))],
            }),
            latency: json!({ "last_10_s": {
                "seconds": 10.0,
                "produce": [
                    { "durability": "fsync", "path": "journal", "stages": stages(&["decoded", "mesh", "appended", "written", "flushed", "replied", "total"]) },
                    { "durability": "os", "path": "page-cache", "stages": stages(&["decoded", "mesh", "appended", "written", "flushed", "replied", "total"]) },
                ],
                "fetch": [{ "source": "memory", "stages": stages(&["decoded", "mesh", "read", "waited", "replied", "total"]) }],
                "round": { "0": { "count": 1000, "mean_us": 2500.0 } },
                "phases": { "0": { "wait": { "count": 1000, "mean_us": 7500.0 } } },
                "mailbox": { "0": { "p99": 12 } },
            }}),
        }
    }

    /// Two shards under load.
    pub fn picture() -> Picture {
        Picture::between(&look(100.0, 1000), &look(102.0, 5000))
    }

    #[test]
    fn rates_are_differences_of_counters_over_the_brokers_own_time() {
        let picture = picture();
        let shard = &picture.shards[0];
        assert_eq!((shard.requests, picture.shards[1].requests), (2000.0, 4000.0));
        assert_eq!((shard.in_bytes, shard.records), (2e6, 2e4));
        assert_eq!((shard.busy_percent, picture.shards[1].busy_percent), (25.0, 0.0));
        assert_eq!((shard.memory_percent, shard.mailbox_p99), (Some(75.0), 12));
        assert_eq!(picture.total(|shard| shard.requests), 6000.0);
        let class = &picture.classes[0];
        assert_eq!((class.api, class.kind.as_str(), class.requests), ("produce", "fsync/journal", 500.0));
        assert_eq!((class.total.p99_us, class.stages_p99_us[4]), (70.0, ("flushed", 50.0)));
        assert_eq!((picture.p99_us("fetch"), picture.p99_us("metadata")), (60.0, 0.0));
        assert_eq!(picture.partitions[0].name, "orders-3");
        assert_eq!(
            (picture.clients[0].name.as_str(), picture.clients[1].name.as_str()),
            ("app@10.0.0.7", "::1")
        );
    }

    #[test]
    fn a_broker_that_started_anew_or_says_nothing_has_no_rates() {
        let again = Picture::between(&look(100.0, 5000), &look(3.0, 10));
        assert_eq!(again.total(|shard| shard.requests), 0.0);
        let nothing = Look { metrics: json!({}), latency: json!({}) };
        assert_eq!(Picture::between(&nothing, &nothing), Picture::default());
    }

    #[test]
    fn json_has_what_the_screen_has() {
        let json = picture().to_json();
        assert_eq!(json["shards"][0]["requests_per_second"], 2000.0);
        assert_eq!(json["latency"][0]["stages_p99_us"]["flushed"], 50.0);
        assert_eq!(json["partitions"][1]["in_bytes_per_second"], 2e6);
        assert_eq!(json["clients"][0]["name"], "app@10.0.0.7");
    }
}
