//! The `corelog` command as an operator meets it: it starts, says so, stops; and what keeps it from starting is one line.
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

mod commands;
mod slots;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use bytes::BytesMut;
use corelog::model::LeaderEpoch;
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelog::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{ApiKey, Message as _, Request, decode_response_header, write_request};
use corelog::record::BatchBuilder;

/// A broker on ports of the kernel's choice. Killed when dropped.
struct Broker {
    process: Child,
    kafka: String,
    admin: String,
    /// Id and address of each endpoint that clients see.
    endpoints: Vec<(String, String)>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn corelog(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The options that keep tests apart from each other and from a broker of the user's.
fn start_options<'a>(data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let data = data.to_str().expect("temporary directories have plain names");
    let fixed = ["start", "--data-dir", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

impl Broker {
    /// Starts one on two cores.
    fn start(data: &Path, more: &[&str]) -> Broker {
        Broker::start_telling(data, more, Stdio::null())
    }

    fn start_on(data: &Path, more: &[&str], cores: &str) -> Broker {
        Broker::start_as(data, more, cores, Stdio::null())
    }

    /// Starts one on two cores, whose log goes there.
    fn start_telling(data: &Path, more: &[&str], log: Stdio) -> Broker {
        Broker::start_as(data, more, "2", log)
    }

    /// Starts one and waits for its `ready:` line.
    fn start_as(data: &Path, more: &[&str], cores: &str, log: Stdio) -> Broker {
        let mut command = corelog(&start_options(data, &[&["--cores", cores], more].concat()));
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary was built");
        let mut endpoints = Vec::new();
        let out = BufReader::new(process.stdout.take().expect("piped"));
        for line in out.lines() {
            let line = line.expect("the broker writes text");
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["endpoint:", "broker", id, "kafka", address, "shards", _, ..] => {
                    endpoints.push((id.to_owned(), address.to_owned()));
                }
                ["ready:", "kafka", kafka, "admin", admin, "shards", count, "write", "path", "auto"]
                    if count == cores =>
                {
                    return Broker { kafka: kafka.to_owned(), admin: admin.to_owned(), endpoints, process };
                }
                _ => panic!("not a line of a start: {line:?}"),
            }
        }
        panic!("it ended before it was ready");
    }

    /// Sends SIGTERM and waits for the end.
    fn stop(mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).expect("pids are small"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        self.process.wait().expect("it is ours to wait for")
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin server listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers with text");
        answer
    }
}

/// Runs a start that must fail: exit code 1, one line, and these words in it.
fn check_refused(data: &Path, more: &[&str], expected: &[&str]) {
    let Output { status, stdout, stderr } =
        corelog(&start_options(data, &[&["--cores", "2"], more].concat()))
            .output()
            .expect("the binary was built");
    let text = String::from_utf8(stderr).expect("errors are text");
    assert_eq!(status.code(), Some(1), "{more:?}: {text}");
    assert!(stdout.is_empty(), "{more:?} is not ready");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("corelog: ")).collect();
    let [line] = errors[..] else { panic!("{more:?}: not one line: {text}") };
    for words in expected.iter().chain(&["; "]) {
        assert!(line.contains(words), "{more:?}: {words:?} is not in {line}");
    }
}

/// Sends a request of one connection and reads its answer.
fn ask<'a>(stream: &mut TcpStream, request: &impl Request<'a>, version: i16) -> Vec<u8> {
    let mut frame = BytesMut::new();
    write_request(request, version, 7, Some("start-test"), &mut frame);
    stream.write_all(&frame).expect("the broker reads");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("it answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("it answers");
    answer
}

/// Produces one batch and reads it back, so many times.
fn produce_and_fetch(broker: &Broker, topic: &str, times: i64) {
    produce_and_fetch_at(&broker.kafka, topic, 0, 0..times);
}

/// As above, in one partition at the broker that leads it.
fn produce_and_fetch_at(address: &str, topic: &str, index: i32, offsets: std::ops::Range<i64>) {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    for offset in offsets {
        let mut batch = BatchBuilder::new();
        batch.push(1_700_000_000_000, None, Some(b"value"));
        let records = batch.finish(0, LeaderEpoch(-1));
        let data = PartitionProduceData { index, records: Some(&records) };
        let data = TopicProduceData { name: topic, partition_data: vec![data].into(), ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![data].into(),
            ..Default::default()
        };
        let answer = ask(&mut stream, &request, 9);
        let (_, mut body) = decode_response_header(&answer, ApiKey::Produce, 9).expect("a response");
        let response = ProduceResponse::decode(&mut body, 9).expect("a response");
        let part = response.responses.first().and_then(|topic| topic.partition_responses.first());
        assert_eq!(part.map(|part| (part.error_code, part.base_offset)), Some((0, offset)));
        let part = FetchPartition {
            partition: index,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topics = vec![FetchTopic { topic, partitions: vec![part].into(), ..Default::default() }].into();
        let request = FetchRequest {
            max_wait_ms: 1000,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics,
            ..Default::default()
        };
        assert!(ask(&mut stream, &request, 11).len() > 70, "a record comes back");
    }
}

/// Who leads the partitions of a topic, as the broker at this address says.
fn leaders(address: &str, topic: &str) -> Vec<i32> {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    let named = MetadataRequestTopic { name: Some(topic), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![named].into()), ..Default::default() };
    let answer = ask(&mut stream, &request, 9);
    let (_, mut body) = decode_response_header(&answer, ApiKey::Metadata, 9).expect("a response");
    let response = MetadataResponse::decode(&mut body, 9).expect("a response");
    let partitions = response.topics.iter().flat_map(|topic| topic.partitions);
    partitions.map(|partition| partition.leader_id).collect()
}

/// The last reply's times are published at the end of its round; the shards answer this in a later one.
fn wait_for_rounds(broker: &Broker) {
    broker.get("/state");
}

/// The body of a JSON page.
fn json(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains("application/json"), "{head}");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn where_the_time_goes_is_told_over_http_and_by_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    // Every request is slow.
    let broker = Broker::start(directory.path(), &["--set", "slow.request.us=0"]);
    let created = corelog(&["topic", "create", "t", "--broker", &broker.kafka]).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    produce_and_fetch(&broker, "t", 30);
    wait_for_rounds(&broker);
    let page = json(&broker.get("/latency"));
    for period in ["since_start", "last_10_s", "last_60_s"] {
        let period = &page[period];
        assert_eq!(period["requests"]["Produce"]["count"], 30, "{period:#}");
        let classes = period["produce"].as_array().unwrap();
        let [class] = &classes[..] else { panic!("one way through: {period:#}") };
        assert_eq!(class["durability"], "fsync");
        let mean = |stage: &str| class["stages"][stage]["mean_us"].as_f64().unwrap();
        let sum: f64 =
            ["decoded", "mesh", "appended", "written", "flushed", "replied"].into_iter().map(mean).sum();
        assert!((sum - mean("total")).abs() < 0.1, "{sum} us in all stages: {class:#}");
        assert!(mean("flushed") > 0.0 && mean("decoded") > 0.0, "{class:#}");
        assert_eq!(period["fetch"][0]["source"], "memory", "{period:#}");
        assert_eq!(period["fetch"][0]["stages"]["total"]["count"], 30, "{period:#}");
    }
    let text = broker.get("/metrics");
    for line in [
        "corelog_produce_stage_seconds_count{durability=\"fsync\",path=\"journal\",stage=\"flushed\"} 30",
        "corelog_fetch_stage_seconds_count{source=\"memory\",stage=\"total\"} 30",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let slow = json(&broker.get("/trace/slow"));
    let is_produce = |request: &&serde_json::Value| request["api"] == "Produce";
    let produce = slow["requests"].as_array().unwrap().iter().find(is_produce).expect("all are slow");
    assert_eq!((&produce["topic"], &produce["client_id"]), (&"t".into(), &"start-test".into()));
    let command = |arguments: &[&str]| {
        let output = corelog(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let traced = command(&["trace", "slow", "--admin", &broker.admin]);
    assert!(traced.starts_with("AT ") && traced.contains("fsync/journal"), "{traced}");
    let top = command(&["top", "--once", "--admin", &broker.admin]);
    assert!(top.contains("ready") && top.contains("produce fsync/journal"), "{top}");
    let top: serde_json::Value =
        serde_json::from_str(&command(&["top", "--once", "--json", "--admin", &broker.admin])).unwrap();
    assert_eq!(top["shards"].as_array().map(Vec::len), Some(2), "{top:#}");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn stages_are_not_timed_if_they_are_switched_off() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["--set", "metrics.stages=false"]);
    let created = corelog(&["topic", "create", "t", "--broker", &broker.kafka]).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    produce_and_fetch(&broker, "t", 3);
    wait_for_rounds(&broker);
    let period = &json(&broker.get("/latency"))["since_start"];
    assert_eq!(period["requests"]["Produce"]["count"], 3, "{period:#}");
    assert_eq!((&period["produce"], &period["fetch"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_broker_starts_answers_and_stops_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data, &[]);
    assert!(broker.get("/health").ends_with("\r\n\r\nready\n"));
    assert!(broker.get("/metrics").contains("\ncorelog_ready 1\n"));
    assert!(broker.get("/state").contains("\"health\": \"ready\""));
    assert!(broker.get("/nothing").starts_with("HTTP/1.1 404 "));
    assert_eq!(broker.stop().code(), Some(0));
    assert!(data.join(".kafka_cleanshutdown").exists());
    let again = Broker::start(&data, &[]);
    assert!(!data.join(".kafka_cleanshutdown").exists(), "taken at the start");
    assert_eq!(again.stop().code(), Some(0));
}

#[test]
fn the_note_of_a_failure_is_told_of_and_heeded() {
    let directory = tempfile::tempdir().unwrap();
    let (data, log) = (directory.path().join("data"), directory.path().join("log"));
    assert_eq!(Broker::start(&data, &[]).stop().code(), Some(0));
    let data = data.canonicalize().unwrap();
    let note = data.join(".storage-failed");
    std::fs::write(&note, "").unwrap();
    let broker = Broker::start_telling(&data, &[], std::fs::File::create(&log).unwrap().into());
    assert!(!note.exists(), "it is over");
    assert_eq!(broker.stop().code(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    let told =
        log.lines().find(|line| line.contains(note.to_str().unwrap())).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("WARN") && told.contains("read from the device"), "{told}");
}

#[test]
fn commands_work_against_a_broker() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["--set", "num.partitions=3"]);
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--broker", &broker.kafka]).collect();
        let Output { status, stdout, stderr } = corelog(&arguments).output().expect("the binary was built");
        let text = String::from_utf8([stdout, stderr].concat()).expect("commands print text");
        assert_eq!(status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {expected:?} is not in {text}");
    };
    check(
        &["topic", "create", "orders", "--set", "retention.ms=60000"],
        0,
        "created topic orders: 3 partitions",
    );
    check(&["topic", "create", "orders"], 1, "TOPIC_ALREADY_EXISTS");
    check(&["topic", "create", "orders", "--if-not-exists"], 0, "is there already");
    check(
        &["topic", "alter", "orders", "--partitions", "4", "--set", "durability=os"],
        0,
        "altered topic orders",
    );
    check(&["topic", "list"], 0, "orders           4         1");
    check(&["topic", "describe", "orders"], 0, "durability           os     topic");
    check(&["topic", "describe", "orders", "--json"], 0, "\"next_offset\": 0");
    check(&["group", "list", "--json"], 0, "[]");
    check(&["topic", "delete", "orders"], 0, "deleted orders");
    check(&["topic", "describe", "orders"], 1, "there is no topic orders");
    check(&["topic", "create", "x", "--set", "retension.ms=1"], 2, "did you mean `retention.ms`?");
}

#[test]
fn endpoints_are_brokers_of_their_own_whatever_the_number_of_cores() {
    let directory = tempfile::tempdir().unwrap();
    let per_core = ["--set", "listeners.mode=per-core", "--set", "advertised.endpoints=3"];
    let create = |broker: &Broker| {
        let (_, address) = broker.endpoints.last().expect("there are three");
        // Any of them takes it, and the next one shows it.
        let created =
            corelog(&["topic", "create", "t", "--partitions", "3", "--broker", address]).output().unwrap();
        assert!(created.status.success(), "{created:?}");
    };
    for (round, cores) in (0i64..).zip(["2", "1", "4"]) {
        let broker = Broker::start_on(directory.path(), &per_core, cores);
        let ids: Vec<&str> = broker.endpoints.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["1000", "1001", "1002"], "{cores} cores");
        assert_eq!(broker.endpoints[0].1, broker.kafka);
        if round == 0 {
            create(&broker);
        }
        assert_eq!(leaders(&broker.kafka, "t"), [1000, 1001, 1002], "{cores} cores");
        for (partition, (_, address)) in (0..).zip(&broker.endpoints) {
            produce_and_fetch_at(address, "t", partition, 10 * round..10 * round + 10);
        }
        let told = &json(&broker.get("/state"))["endpoints"];
        assert_eq!(told[2]["broker"], 1002, "{told}");
        assert_eq!(told[2]["kafka"], broker.endpoints[2].1.as_str(), "{told}");
        assert_eq!(broker.stop().code(), Some(0));
    }
    // Seen as one again: what is there is the same.
    let shared = Broker::start(directory.path(), &[]);
    assert!(shared.endpoints.is_empty());
    assert_eq!(leaders(&shared.kafka, "t"), [1, 1, 1]);
    for partition in 0..3 {
        produce_and_fetch_at(&shared.kafka, "t", partition, 30..32);
    }
    assert_eq!(shared.stop().code(), Some(0));
}

#[test]
fn what_keeps_it_from_starting_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let (used, fresh) = (directory.path().join("used"), directory.path().join("fresh"));
    let broker = Broker::start(&used, &[]);
    check_refused(&used, &[], &["is in use by another broker", &broker.process.id().to_string()]);
    let (kafka, admin) = (format!("listeners={}", broker.kafka), format!("admin.listen={}", broker.admin));
    check_refused(&fresh, &["--set", &kafka], &["is in use", "--listen"]);
    check_refused(&fresh, &["--set", &admin], &["is in use", "--admin"]);
    let high = ["--set", "listeners=127.0.0.1:65535", "--set", "listeners.mode=per-core"];
    check_refused(&directory.path().join("high"), &high, &["127.0.0.1:65535", "65535; choose a lower one"]);
    assert_eq!(broker.stop().code(), Some(0));

    check_refused(&used, &["--set", "node.id=7"], &["belongs to node 1", "node.id=1"]);
    check_refused(&used, &["--set", "cluster.id=AAAAAAAAAAAAAAAAAAAAEA"], &["belongs to cluster"]);
    check_refused(
        &fresh,
        &["--set", "num.partition=1"],
        &["`num.partition`", "did you mean `num.partitions`?"],
    );
    check_refused(&fresh, &["--set", "num.partitions=0"], &["num.partitions", "1 to 100000"]);
    check_refused(&fresh, &["--config", "/no/such/file.toml"], &["/no/such/file.toml"]);
    check_refused(
        &fresh,
        &["--set", "listeners=192.0.2.1:0"],
        &["192.0.2.1:0 is no address of this machine"],
    );
    check_refused(&fresh, &["--set", "cores=1023-1023"], &["CPU 1023"]);

    std::fs::write(directory.path().join("file"), "").unwrap();
    check_refused(&directory.path().join("file"), &[], &["cannot use"]);
    check_refused(directory.path(), &[], &["no meta.properties"]);
    std::fs::remove_file(used.join("meta.properties")).unwrap();
    std::fs::create_dir(used.join("orders-0")).unwrap();
    check_refused(&used, &[], &["put meta.properties back"]);
}

/// Checks that a command against the broker prints this.
fn check_prints(broker: &Broker, arguments: &[&str], expected: &str) {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--broker", &broker.kafka]).collect();
    let Output { stdout, stderr, .. } = corelog(&arguments).output().expect("the binary was built");
    let text = String::from_utf8([stdout, stderr].concat()).expect("commands print text");
    assert!(text.contains(expected), "{arguments:?}: {expected:?} is not in {text}");
}

const LED: &str = "\"leader\": 1,";
const OFFLINE: &str = "\"leader\": -1,";

#[test]
fn partitions_wait_for_the_directory_they_are_in() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let second = ["--data-dir", b.to_str().unwrap()];
    let broker = Broker::start(&a, &second);
    for topic in ["x", "y"] {
        check_prints(&broker, &["topic", "create", topic], "created topic");
    }
    assert_eq!(broker.stop().code(), Some(0));
    assert!(a.join("x-0").exists() && b.join("y-0").exists(), "one in each");
    for directory in [&a, &b] {
        assert!(directory.join(".kafka_cleanshutdown").exists(), "{}", directory.display());
    }

    let check = |more: &[&str], expected_of_y: &str| {
        let broker = Broker::start(&a, more);
        check_prints(&broker, &["topic", "describe", "x", "--json"], LED);
        check_prints(&broker, &["topic", "describe", "y", "--json"], expected_of_y);
        assert_eq!(broker.stop().code(), Some(0));
        assert!(!a.join("y-0").exists(), "y is not made anew elsewhere");
    };
    check(&[], OFFLINE);
    check(&second, LED);
    // Something that is no directory.
    std::fs::rename(&b, &c).unwrap();
    std::fs::write(&b, "").unwrap();
    check(&second, OFFLINE);
    // A new disk.
    std::fs::remove_file(&b).unwrap();
    check(&second, OFFLINE);
    check(&["--data-dir", c.to_str().unwrap(), "--data-dir", b.to_str().unwrap()], LED);
}

#[test]
fn directories_that_do_not_belong_together_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, copy, other, empty, link] =
        ["a", "b", "copy", "other", "empty", "link"].map(|name| directory.path().join(name));
    let format = |paths: &[&Path]| {
        let named = paths.iter().flat_map(|path| ["--data-dir", path.to_str().unwrap()]);
        let arguments: Vec<&str> = ["format"].into_iter().chain(named).collect();
        corelog(&arguments).output().expect("the binary was built")
    };
    let formatted = format(&[&a, &b]);
    let text = String::from_utf8(formatted.stdout).unwrap();
    assert!(text.contains("/a, ") && text.contains("/b: cluster "), "{text}");
    assert!(b.join("meta.properties").exists() && !b.join("__cluster_metadata-0").exists());
    assert_eq!(format(&[&other]).status.code(), Some(0));
    assert_eq!(format(&[&empty, &b]).status.code(), Some(1), "one of them is formatted");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(b.join("meta.properties"), copy.join("meta.properties")).unwrap();
    std::os::unix::fs::symlink(&b, &link).unwrap();

    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let check = |first: &Path, second: &Path, expected: &str| {
        check_refused(first, &["--data-dir", &name(second)], &[expected]);
    };
    check(&a, &a, "is given twice");
    check_refused(&a, &["--data-dir", &name(&b), "--data-dir", &name(&link)], &["is given twice"]);
    check_refused(&a, &["--data-dir", &name(&b), "--data-dir", &name(&copy)], &["one is a copy"]);
    check(&a, &other, "name only directories of one broker");
    check(&b, &a, "name that one first");
    check(&empty, &b, "bring the first directory back");
    std::fs::create_dir(empty.join("orders-0")).unwrap();
    check(&a, &empty, "put meta.properties back");
}

#[test]
fn a_kafka_configuration_applies_and_the_rest_is_listed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("server.properties"), directory.path().join("data"));
    let text = "process.roles=broker,controller\nnode.id=3\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://:9093\nnum.io.threads=8\n";
    std::fs::write(&file, text).unwrap();
    let options = [
        "start",
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--admin",
        "127.0.0.1:0",
    ];
    let mut process = corelog(&options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let warning = lines.next().expect("a warning comes before anything else").unwrap();
    assert!(
        warning.contains("WARN") && warning.ends_with("names=\"process.roles num.io.threads\""),
        "{warning}"
    );
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready: "), "{ready}");
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(std::fs::read_to_string(data.join("meta.properties")).unwrap().contains("node.id=3\n"));
}

#[test]
fn format_fixes_what_a_start_then_finds() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let format = [
        "format",
        "--data-dir",
        data,
        "--node-id",
        "5",
        "--cluster-id",
        "MkU3OEVBNTcwNTJENDM2Qg",
        "--set",
        "placement.slots=8",
        "--cores",
        "2",
    ];
    let output = corelog(&format).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("cluster MkU3OEVBNTcwNTJENDM2Qg, node 5, 8 slots on 2 endpoints\n"), "{text}");
    let twice = corelog(&format).output().unwrap();
    assert_eq!(twice.status.code(), Some(1));
    let broker = Broker::start(directory.path(), &[]);
    let state = broker.get("/state");
    assert!(
        state.contains("\"cluster_id\": \"MkU3OEVBNTcwNTJENDM2Qg\"") && state.contains("\"node_id\": 5"),
        "{state}"
    );
}
