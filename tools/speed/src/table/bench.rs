//! `corelog bench` as the load generator: its command line, and what its JSON says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::rows::{Load, Who};
use crate::command::{Server, call};
use crate::report::Sample;

pub const RATE: &str = "req/s";
pub const MB: &str = "MB/s";
pub const P50: &str = "p50 us";
pub const P99: &str = "p99 us";
pub const P999: &str = "p99.9 us";
pub const CPU: &str = "CPU us/req";
pub const CPU_PER_MB: &str = "CPU us/MB";
pub const FLUSHES: &str = "flushes/req";
/// The times of all stages over the requests' times in all.
pub const STAGES: &str = "stages/total";

/// The program, and how it is to measure.
pub struct Bench<'a> {
    pub program: &'a Path,
    pub seconds: f64,
    pub warm_up: f64,
    pub broker_cpu: usize,
    pub load_cpu: usize,
}

/// The rounds of each contender.
pub type Rounds = Vec<(Who, Vec<Sample>)>;

impl Bench<'_> {
    /// Puts a load on a broker, and in turns with it on Kafka and on a null responder where they are wanted.
    pub fn ask(
        &self,
        told: &mut Vec<String>,
        load: &Load,
        broker: &Server,
        kafka: Option<&Server>,
        null: bool,
        rounds: usize,
    ) -> io::Result<Rounds> {
        let json = JsonFile::new();
        let path = json.0.to_string_lossy().into_owned();
        let (seconds, warm_up, rounds) =
            (self.seconds.to_string(), self.warm_up.to_string(), rounds.to_string());
        let (broker_cpu, load_cpu) = (self.broker_cpu.to_string(), self.load_cpu.to_string());
        let mut arguments = vec!["--broker", &broker.address];
        // A generator that spins would keep its CPU from the kernel's threads that write for the broker; and clients sleep, too.
        arguments.extend(["--cores", &load_cpu, "--broker-cores", &broker_cpu, "--idle", "sleep"]);
        arguments.extend(["--seconds", &seconds, "--rounds", &rounds, "--check", "8388608", "--json", &path]);
        arguments.extend(load.options.split(' '));
        if !arguments.contains(&"--warm-up") {
            arguments.extend(["--warm-up", &warm_up]);
        }
        if let Some(admin) = &broker.admin {
            arguments.extend(["--admin", admin]);
        }
        if let Some(kafka) = kafka {
            arguments.extend(["--against", &kafka.address]);
        }
        if null {
            arguments.push("--null");
        }
        let called = call(told, &self.program.to_string_lossy(), &arguments);
        // Where a contender failed, its exit code says so and the file says why.
        match fs::read_to_string(&json.0) {
            Ok(text) => rounds_of(&serde_json::from_str(&text)?),
            Err(error) => Err(called.err().unwrap_or(error)),
        }
    }
}

/// Where the bench leaves its results; removed with this value.
struct JsonFile(PathBuf);

impl JsonFile {
    fn new() -> JsonFile {
        JsonFile(std::env::temp_dir().join(format!("corelog-speed-{}-bench.json", std::process::id())))
    }
}

impl Drop for JsonFile {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}

/// The rounds of the one load that was asked. A contender that failed or answered wrongly has none: that is an error.
fn rounds_of(results: &Value) -> io::Result<Rounds> {
    let contenders = results["cells"][0]["contenders"].as_array().ok_or_else(|| unlike("no contenders"))?;
    let mut all = Vec::new();
    for contender in contenders {
        let name = contender["name"].as_str().unwrap_or_default();
        let who = match name {
            "broker" => Who::Corelog,
            "against" => Who::Kafka,
            "null" => Who::Null,
            _ => return Err(unlike(name)),
        };
        if let Some(failed) = contender["failed"].as_str() {
            return Err(io::Error::other(format!("{}: {failed}", who.name())));
        }
        let rounds = contender["rounds"].as_array().ok_or_else(|| unlike("no rounds"))?;
        let checks = rounds.iter().flat_map(|round| [&round["errors"], &round["checked"]]);
        let checks = checks.chain(std::iter::once(&contender["read_back"]));
        let wrong: u64 = checks.filter_map(|check| check["wrong_count"].as_u64()).sum();
        let is_empty = rounds.iter().any(|round| round["answers"].as_u64().unwrap_or(0) == 0);
        if is_empty {
            let text = format!("{}: a round without an answer; is the disk too small?", who.name());
            return Err(io::Error::other(text));
        }
        let unanswered: u64 = rounds.iter().filter_map(|round| round["unanswered"].as_u64()).sum();
        if wrong + unanswered > 0 {
            let text = format!("{}: {wrong} wrong and {unanswered} missing answers", who.name());
            return Err(io::Error::other(text));
        }
        let stages = stages_over_total(&contender["stages"]);
        all.push((who, rounds.iter().map(|round| sample(round, stages)).collect()));
    }
    Ok(all)
}

fn unlike(what: &str) -> io::Error {
    io::Error::other(format!("the bench's results are not as expected: {what}"))
}

fn sample(round: &Value, stages: Option<f64>) -> Sample {
    let (latency, cost) = (&round["latency"], &round["cost"]);
    let mut columns = Vec::new();
    let mut add = |column, value: Option<f64>| columns.extend(value.map(|value| (column, value)));
    let megabytes = round["megabytes_per_second"].as_f64();
    add(RATE, round["per_second"].as_f64());
    add(MB, megabytes);
    add(P50, latency["p50_us"].as_f64());
    add("p90 us", latency["p90_us"].as_f64());
    add(P99, latency["p99_us"].as_f64());
    add(P999, latency["p999_us"].as_f64());
    add("max us", latency["max_us"].as_f64());
    add(CPU, cost["cpu_us_per_request"].as_f64());
    let cpu_us_per_second = cost["cpu_percent"].as_f64().map(|percent| percent * 1e4);
    let per_mb = cpu_us_per_second.zip(megabytes.filter(|rate| *rate > 0.0));
    add(CPU_PER_MB, per_mb.map(|(cpu, rate)| cpu / rate));
    add(FLUSHES, cost["flushes_per_request"].as_f64());
    add("writes/req", cost["writes_per_request"].as_f64());
    add("KiB/req", cost["kib_per_request"].as_f64());
    add("RSS MiB", cost["resident_mib"].as_f64());
    add(STAGES, stages);
    Sample(columns)
}

/// Over all requests: the sum of what each stage took, over the sum of what they took in all.
fn stages_over_total(stages: &Value) -> Option<f64> {
    let (mut parts, mut total) = (0.0, 0.0);
    for stage in stages.as_array()? {
        let sum = stage["mean_us"].as_f64()? * stage["count"].as_f64()?;
        match stage["stage"].as_str()? {
            "total" => total += sum,
            _ => parts += sum,
        }
    }
    (total > 0.0).then_some(parts / total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(change: impl FnOnce(&mut Value)) -> Value {
        let mut round = json!({
            "answers": 3, "per_second": 100.0, "megabytes_per_second": 2.0, "unanswered": 0,
            "latency": {"p50_us": 5.0, "p90_us": 6.0, "p99_us": 7.0, "p999_us": 8.0, "max_us": 9.0},
            "errors": {"wrong_count": 0}, "checked": {"wrong_count": 0},
            "cost": {"cpu_us_per_request": 50.0, "cpu_percent": 10.0, "flushes_per_request": null},
        });
        change(&mut round);
        let stages = json!([
            {"stage": "written", "count": 10, "mean_us": 3.0},
            {"stage": "replied", "count": 5, "mean_us": 4.0},
            {"stage": "total", "count": 10, "mean_us": 10.0},
        ]);
        let of = |name: &str, stages: Value| json!({"name": name, "rounds": [round], "stages": stages});
        json!({"cells": [{"contenders": [of("broker", stages), of("against", json!([]))]}]})
    }

    #[test]
    fn a_round_becomes_columns_and_what_was_not_measured_has_none() {
        let rounds = rounds_of(&results(|_| ())).unwrap();
        let [(Who::Corelog, ours), (Who::Kafka, theirs)] = rounds.as_slice() else { panic!("{rounds:?}") };
        let expected = [(RATE, Some(100.0)), (P99, Some(7.0)), (CPU_PER_MB, Some(50_000.0)), (FLUSHES, None)];
        for (column, value) in expected {
            assert_eq!((ours[0].get(column), theirs[0].get(column)), (value, value), "{column}");
        }
        assert_eq!((ours[0].get(STAGES), theirs[0].get(STAGES)), (Some(0.5), None));
    }

    #[test]
    fn wrong_answers_are_no_figures() {
        assert!(rounds_of(&results(|round| round["errors"]["wrong_count"] = 1.into())).is_err());
        assert!(rounds_of(&results(|round| round["unanswered"] = 2.into())).is_err());
        assert!(rounds_of(&results(|round| round["answers"] = 0.into())).is_err());
        let mut failed = results(|_| ());
        failed["cells"][0]["contenders"][1]["failed"] = "gone".into();
        assert_eq!(rounds_of(&failed).unwrap_err().to_string(), "K: gone");
        assert!(rounds_of(&json!({"cells": []})).is_err());
    }
}
