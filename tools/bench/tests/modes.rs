//! The command itself, against brokers that it starts: what it says must agree with itself, and nothing may be left behind.

#![allow(clippy::disallowed_methods, reason = "processes of their own, on a real clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corelog::protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use corelog::protocol::{ApiKey, Message, decode_response_header, write_request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_corelog-bench");

/// The command with a broker that it starts below `folder`.
fn bench(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(BENCH);
    command.args(["--program", env!("CARGO_BIN_EXE_corelog-under-load"), "--dir"]).arg(folder);
    command.args(["--idle", "sleep", "--json"]).arg(json_path(folder));
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::null());
    command
}

fn json_path(folder: &Path) -> std::path::PathBuf {
    folder.with_extension("json")
}

fn told(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs it to its end and returns its JSON; the folder must be as empty as before.
fn results(arguments: &str) -> Value {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = place.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let output = bench(&folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}\n{}", output.status, told(&output));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "something is left behind");
    serde_json::from_str(&std::fs::read_to_string(json_path(&folder)).unwrap()).unwrap()
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// What must hold of every percentile table.
fn check_percentiles(latency: &Value) {
    let names = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];
    let all = names.map(|name| number(latency, name));
    assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "{latency}");
    assert!(all[0] > 0.0 && number(latency, "mean_us") <= all[5], "{latency}");
}

/// The only round of the contender of that number, after everything that must hold of each round.
fn round(results: &Value, contender: usize) -> Value {
    let contended = &results["cells"][0]["contenders"][contender];
    assert_eq!(contended["failed"], Value::Null, "{contended}");
    let round = contended["rounds"][0].clone();
    let (answers, seconds) = (number(&round, "answers"), number(&round, "seconds"));
    assert!(answers > 0.0, "{round}");
    assert!((number(&round, "per_second") * seconds - answers).abs() < 0.5, "{round}");
    assert_eq!(round["unanswered"], 0);
    assert_eq!((&round["errors"]["wrong_count"], &round["checked"]["wrong_count"]), (&0.into(), &0.into()));
    check_percentiles(&round["latency"]);
    for latency in round["beside"].as_object().unwrap().values() {
        check_percentiles(latency);
    }
    let curve = round["curve"].as_array().unwrap();
    assert!(!curve.is_empty());
    assert!(number(&round["cost"], "cpu_us_per_request") > 0.0);
    assert!(number(&round["cost"], "resident_mib") > 0.5);
    round
}

const SHORT: &str = "--seconds 0.4 --warm-up 0.1 --partitions 4 --connections 3 --in-flight 4";

#[test]
fn a_closed_loop_times_every_answer_and_reads_its_records_back() {
    let results = results(&format!("--mode produce --durability os --records 3 --null --rounds 1 {SHORT}"));
    for contender in [0, 1] {
        let round = round(&results, contender);
        let answers = number(&round, "answers");
        assert_eq!(number(&round["latency"], "count"), answers);
        assert_eq!(number(&round, "records"), answers * 3.0);
        assert_eq!(number(&round, "bytes"), answers * 3.0 * 1024.0);
        assert!((number(&round, "seconds") - 0.4).abs() < 0.001);
    }
    let read_back = &results["cells"][0]["contenders"][0]["read_back"];
    assert!(number(read_back, "records") >= number(&round(&results, 0), "records"), "{read_back}");
    assert_eq!(read_back["wrong_count"], 0);
    let ratios = results["cells"][0]["ratios"].as_array().unwrap();
    let rate = ratios.iter().find(|ratio| ratio["figure"] == "requests/s").unwrap();
    let expected = number(&round(&results, 0), "per_second") / number(&round(&results, 1), "per_second");
    assert!((number(rate, "median") / expected - 1.0).abs() < 1e-9);
}

#[test]
fn an_open_loop_offers_the_rate_that_was_asked_for() {
    let results = results(&format!("--mode produce --durability fsync --rate 500 {SHORT}"));
    let round = round(&results, 0);
    assert!((number(&round, "offered") - 500.0).abs() <= 2.5, "{round}");
    // Each that was due in the window has its latency, whenever it was answered.
    assert_eq!(
        number(&round["latency"], "count"),
        (number(&round, "offered") * number(&round, "seconds")).round()
    );
    assert!(number(&round, "late_p99_us") > 0.0);
}

#[test]
fn packed_batches_with_keys_come_back() {
    let results = results(&format!("--durability os --compression zstd --records 8 --keys zipf {SHORT}"));
    round(&results, 0);
    let read_back = &results["cells"][0]["contenders"][0]["read_back"];
    assert!(number(read_back, "records") > 0.0 && read_back["wrong_count"] == 0, "{read_back}");
}

#[test]
fn without_acknowledgements_what_was_sent_is_counted() {
    let results = results(&format!("--acks 0 --durability os {SHORT}"));
    let round = round(&results, 0);
    assert_eq!(number(&round["latency"], "count"), number(&round, "answers"));
}

#[test]
fn a_fetch_brings_what_was_filled_in() {
    let results = results(&format!(
        "--mode fetch --fill-bytes 2000000 --fetch-bytes 100000 --records 16 --null --rounds 1 {SHORT}"
    ));
    for contender in [0, 1] {
        let round = round(&results, contender);
        assert!(number(&round, "bytes") > number(&round, "answers") * 16.0 * 1024.0, "{round}");
        assert!(number(&round["checked"], "batches") > 0.0, "{round}");
    }
}

#[test]
fn end_to_end_times_each_batch_once() {
    let results = results(&format!("--mode end-to-end --durability os --rate 200 --null --rounds 1 {SHORT}"));
    for contender in [0, 1] {
        let round = round(&results, contender);
        let produced = number(&round["beside"]["produce"], "count");
        assert_eq!(produced, (number(&round, "offered") * number(&round, "seconds")).round());
        assert_eq!(
            number(&round["latency"], "count"),
            produced,
            "each batch that was due in the window was read once"
        );
        // Every byte is looked at: those of the warm-up and the drain as well.
        assert!(number(&round["checked"], "batches") >= produced);
    }
}

#[test]
fn mixed_reads_and_writes_at_once() {
    let results =
        results(&format!("--mode mixed --durability os --fill-bytes 1000000 --consumers 2 {SHORT}"));
    let round = round(&results, 0);
    assert!(number(&round["beside"]["fetch"], "count") > 0.0, "{round}");
}

#[test]
fn an_echo_needs_no_topic() {
    let results = results(&format!("--mode echo --null --rounds 2 {SHORT}"));
    for contender in [0, 1] {
        let round = round(&results, contender);
        assert_eq!(number(&round["latency"], "count"), number(&round, "answers"));
        assert_eq!(results["cells"][0]["contenders"][contender]["rounds"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_sweep_measures_each_combination_and_writes_its_page() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, page) = (place.path().join("sweep.toml"), place.path().join("page.html"));
    std::fs::write(&file, "durability = [\"os\", \"fsync\"]\nconnections = [1, 2, 3]\npartitions = 2\n")
        .unwrap();
    let arguments =
        format!("--sweep {} --report {} --seconds 0.1 --warm-up 0", file.display(), page.display());
    let results = results(&arguments);
    assert_eq!(results["cells"].as_array().unwrap().len(), 6);
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("Over the sweep") && page.contains("</html>"));
}

#[test]
fn a_ramp_ends_and_says_where() {
    let results = results(
        "--ramp --mode echo --rate 1000 --seconds 0.1 --warm-up 0.05 --connections 2 --ramp-p99-ms 1000",
    );
    let cells = results["cells"].as_array().unwrap();
    assert!(!cells.is_empty() && cells.iter().all(|cell| cell["ramp"] == 0));
    let rates: Vec<f64> = cells.iter().map(|cell| number(&cell["workload"], "rate")).collect();
    assert_eq!(rates[0], 1000.0);
    // A busy host may fail at once; else the second rate is twice the first.
    assert!(rates.get(1).is_none_or(|rate| *rate == 2000.0), "{rates:?}");
    let notes = results["environment"]["notes"].to_string();
    let kept = rates.len() > 1;
    assert!(notes.contains(if kept { "keeps up to" } else { "does not keep up" }), "{notes}");
}

/// Processes whose command line has the text.
fn running(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("cmdline")).ok();
    entries.filter_map(line).filter(|line| line.contains(text)).collect()
}

fn wait(child: &mut Child, limit: Duration) -> std::process::ExitStatus {
    let give_up = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > give_up {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = place.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let mut child = bench(&folder, "--load C --null --seconds 60");
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let name = place.path().file_name().unwrap().to_str().unwrap().to_owned();
    let give_up = Instant::now() + Duration::from_secs(60);
    // Its own line, the broker's; some partitions of the topic.
    let has_topic = || {
        let data =
            std::fs::read_dir(&folder).unwrap().flatten().next().map(|entry| entry.path().join("data"));
        data.and_then(|data| std::fs::read_dir(data).ok()).is_some_and(|entries| entries.count() > 100)
    };
    while !has_topic() {
        assert!(Instant::now() < give_up, "no load was begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(running(&name).len() >= 2);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = wait(&mut child, Duration::from_secs(60));
    assert_eq!(status.code(), Some(130));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "something is left behind");
    assert_eq!(running(&name), Vec::<String>::new());
}

/// A null responder of the test's own.
struct Null(Child, String);

impl Null {
    fn start() -> Null {
        let mut child = Command::new(BENCH).arg("null").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready: null ").unwrap().to_owned();
        Null(child, address)
    }

    fn topics(&self) -> usize {
        let mut frame = BytesMut::new();
        let request = MetadataRequest { topics: None, ..Default::default() };
        write_request(&request, 9, 1, None, &mut frame);
        let mut stream = TcpStream::connect(&self.1).unwrap();
        stream.write_all(&frame).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        let (_, mut body) = decode_response_header(&answer, ApiKey::Metadata, 9).unwrap();
        MetadataResponse::decode(&mut body, 9).unwrap().topics.len()
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn topics_made_on_a_running_broker_are_removed_and_the_other_broker_is_compared() {
    let (one, other) = (Null::start(), Null::start());
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let json = place.path().join("a.json");
    let run = |more: &[&str]| {
        let mut command = Command::new(BENCH);
        command.args(["--broker", &one.1, "--against", &other.1, "--idle", "sleep", "--rounds", "2"]);
        command.args(SHORT.split_whitespace()).args(more).output().unwrap()
    };
    let output = run(&["--json", json.to_str().unwrap()]);
    // A null responder gives nothing back: what it was sent is missing in the check, which says so.
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("WRONG"));
    assert_eq!((one.topics(), other.topics()), (0, 0));
    let output = run(&["--check", "0", "--compare", json.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("broker/against") && told(&output).contains("new/old"),
        "{}",
        told(&output)
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let refused = |arguments: &str, why: &str| {
        let output = Command::new(BENCH).args(arguments.split_whitespace()).output().unwrap();
        assert!(!output.status.success());
        assert!(told(&output).contains(why), "{arguments}: {}", told(&output));
    };
    refused("--broker 127.0.0.1:1", "is the broker running?");
    refused("--load X", "no load has the letter X");
    refused("--records 5000", "fewer or smaller records");
    refused("--json /no/such/folder/file", "/no/such/folder/file");
    refused("--cores 999", "CPU 999");
}
