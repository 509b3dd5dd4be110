//! The commands that ask brokers, as a person and a script meet them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Broker, corelog};

/// Runs a command against the broker, with this on its standard input.
fn run(broker: &Broker, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = spawn(broker, arguments);
    // Whoever refuses the command line reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(input);
    ended(child)
}

fn spawn(broker: &Broker, arguments: &[&str]) -> Child {
    let mut command = corelog(arguments);
    command.args(["--bootstrap", &broker.kafka]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary was built")
}

fn ended(child: Child) -> (i32, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it is ours to wait for");
    let text = |bytes| String::from_utf8(bytes).expect("commands print text");
    (status.code().expect("no signal ends it"), text(stdout), text(stderr))
}

/// As [`run`]; it must succeed.
pub fn done(broker: &Broker, arguments: &[&str], input: &[u8]) -> String {
    let (code, out, error) = run(broker, arguments, input);
    assert_eq!(code, 0, "{arguments:?}: {out}{error}");
    out
}

pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The lines that a command prints, as they come.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// So many lines of any of the commands, by command.
fn take(sources: &[&Receiver<String>], count: usize) -> Vec<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut taken = vec![Vec::new(); sources.len()];
    while taken.iter().map(Vec::len).sum::<usize>() < count {
        for (source, taken) in sources.iter().zip(&mut taken) {
            taken.extend(source.recv_timeout(Duration::from_millis(10)));
        }
        assert!(Instant::now() < deadline, "{count} lines do not come: {taken:?}");
    }
    taken
}

fn interrupt(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("pids are small"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
}

#[test]
fn records_come_back_as_they_were_sent() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "3"], b"");
    let sent = done(
        &broker,
        &[
            "produce",
            "t",
            "--key-separator",
            ":",
            "--partition",
            "2",
            "--header",
            "a=b",
            "--header",
            "c=",
            "--compression",
            "lz4",
            "--verbose",
        ],
        b"k:v\n:empty key\nx:\n",
    );
    assert!(sent.starts_with("t-2 offset 0\nt-2 offset 1\nt-2 offset 2\n"), "{sent}");
    assert!(sent.contains("t: 3 records acknowledged; "), "{sent}");
    let read = done(&broker, &["consume", "t", "--format", "%t %p %o %k|%v|%h"], b"");
    assert_eq!(read, "t 2 0 k|v|a=b,c=\nt 2 1 |empty key|a=b,c=\nt 2 2 x||a=b,c=\n");

    // Where to begin, and how many.
    let check = |options: &[&str], expected: &str| {
        let options: Vec<&str> = ["consume", "t"].into_iter().chain(options.iter().copied()).collect();
        assert_eq!(done(&broker, &options, b""), expected, "{options:?}");
    };
    check(&["--from", "1"], "empty key\n\n");
    check(&["--from", "-1", "--format", "%k"], "x\n");
    check(&["--from", "end"], "");
    check(&["--max", "1"], "v\n");
    check(&["--from", "@0", "--max", "2"], "v\nempty key\n");
    check(&["--from", "1970-01-01T00:00:00Z", "--partition", "0"], "");

    // JSON, also of bytes that are no text.
    let file = directory.path().join("lines");
    std::fs::write(&file, b"\xff\n").unwrap();
    let summary =
        done(&broker, &["produce", "t", "--json", "--partition", "0", "--file", file.to_str().unwrap()], b"");
    let summary = json_of(&summary);
    assert_eq!((&summary["acknowledged"], &summary["failed"]), (&json!(1), &json!(0)), "{summary}");
    let read = json_of(&done(&broker, &["consume", "t", "--json", "--partition", "0"], b""));
    assert_eq!(read["value"], json!({ "hex": "ff" }), "{read}");
    assert_eq!((&read["key"], &read["headers"], &read["offset"]), (&Value::Null, &json!([]), &json!(0)));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_group_goes_on_where_it_was_and_can_be_moved() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["--set", "group.initial.rebalance.delay.ms=0"]);
    done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
    done(&broker, &["produce", "t"], b"a\nb\nc\n");
    // Of three, the one that was printed is done with.
    assert_eq!(done(&broker, &["consume", "t", "--group", "g", "--max", "1"], b""), "a\n");
    let lag = json_of(&done(&broker, &["group", "describe", "g", "--json"], b""));
    let row = &lag[0]["partitions"][0];
    assert_eq!(
        (&row["committed"], &row["next_offset"], &row["lag"]),
        (&json!(1), &json!(3), &json!(2)),
        "{lag}"
    );
    assert_eq!(done(&broker, &["consume", "t", "--group", "g"], b""), "b\nc\n");

    let reset = ["group", "reset", "g", "--to", "begin", "--topic", "t"];
    assert!(done(&broker, &reset, b"").contains("nothing was changed; --execute"));
    let committed = || {
        json_of(&done(&broker, &["group", "describe", "g", "--json"], b""))[0]["partitions"][0]["committed"]
            .clone()
    };
    assert_eq!(committed(), json!(3));
    done(&broker, &["group", "reset", "g", "--shift-by", "-2", "--execute"], b"");
    assert_eq!(committed(), json!(1));
    done(&broker, &["group", "delete", "g"], b"");
    let (code, _, error) = run(&broker, &["group", "describe", "g"], b"");
    assert!(code == 1 && error.contains("there is no group g"), "{code} {error}");
    assert_eq!(broker.stop().code(), Some(0));
}

/// What makes a group's rebalance a matter of milliseconds.
const QUICK: [&str; 2] = ["--set", "heartbeat.interval.ms=100"];

#[test]
fn a_member_that_gets_no_partition_ends_unless_it_follows() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["--set", "group.initial.rebalance.delay.ms=0"]);
    for assignor in ["range", "cooperative-sticky"] {
        done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
        done(&broker, &["produce", "t"], b"a\n");
        let strategy = format!("partition.assignment.strategy={assignor}");
        let member = ["consume", "t", "--group", assignor, "--set", &strategy, QUICK[0], QUICK[1]];
        // Assignors go by the members' ids, which begin with the clients'.
        let ahead = ["--follow", "--set", "client.id=a"];
        let behind = ["--set", "client.id=b"];
        let mut first = spawn(&broker, &[&member[..], &ahead].concat());
        let printed = lines_of(&mut first);
        assert_eq!(take(&[&printed], 1), [["a"]]);
        let (code, out, error) = run(&broker, &[&member[..], &behind].concat(), b"");
        assert_eq!((code, out.as_str()), (0, ""), "{error}");
        assert!(error.contains("other members of the group have all partitions"), "{error}");
        // The first one has it still.
        done(&broker, &["produce", "t"], b"b\n");
        assert_eq!(take(&[&printed], 1), [["b"]]);
        interrupt(&first);
        assert_eq!(ended(first).0, 130);
        done(&broker, &["topic", "delete", "t"], b"");
    }
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn what_one_member_has_printed_another_does_not_print_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["--set", "group.initial.rebalance.delay.ms=0"]);
    done(&broker, &["topic", "create", "t", "--partitions", "2"], b"");
    let fill = |from: usize| {
        for partition in ["0", "1"] {
            let lines: String = (from..from + 100).map(|n| format!("{partition}-{n}\n")).collect();
            done(&broker, &["produce", "t", "--partition", partition], lines.as_bytes());
        }
    };
    let member = ["consume", "t", "--group", "g", "--follow", QUICK[0], QUICK[1]];
    fill(0);
    let mut first = spawn(&broker, &member);
    let of_first = lines_of(&mut first);
    let mut printed = take(&[&of_first], 200);
    // Long before the next commit by the clock, half of it goes to somebody else.
    let mut second = spawn(&broker, &member);
    let of_second = lines_of(&mut second);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let described = json_of(&done(&broker, &["group", "describe", "g", "--json"], b""));
        let members = described[0]["members"].as_array().expect("a list").clone();
        let shares = members.iter().filter(|member| member["partitions"].as_array().map(Vec::len) == Some(1));
        if shares.count() == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "{described}");
    }
    fill(100);
    let both = take(&[&of_first, &of_second], 200);
    assert!(both.iter().all(|lines| lines.len() == 100), "each has a partition: {both:?}");
    printed.extend(both);
    for member in [first, second] {
        interrupt(&member);
        let (code, out, error) = ended(member);
        assert_eq!((code, out.as_str()), (130, ""), "{error}");
    }
    printed.push(of_first.iter().chain(of_second.iter()).collect());
    let printed: Vec<String> = printed.into_iter().flatten().collect();
    let distinct: BTreeSet<&String> = printed.iter().collect();
    assert_eq!((printed.len(), distinct.len()), (400, 400), "each record once");
    // And all of it is committed.
    assert_eq!(done(&broker, &["consume", "t", "--group", "g"], b""), "");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_topic_that_is_deleted_ends_even_who_follows() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t"], b"");
    done(&broker, &["produce", "t"], b"a\n");
    let mut child = spawn(&broker, &["consume", "t", "--follow"]);
    let printed = lines_of(&mut child);
    assert_eq!(take(&[&printed], 1), [["a"]]);
    done(&broker, &["topic", "delete", "t"], b"");
    let (code, _, error) = ended(child);
    assert!(code == 1 && error.contains("there is no topic t"), "{code} {error}");
    // Nor did reading it make it anew.
    assert_eq!(json_of(&done(&broker, &["topic", "list", "--json"], b"")), json!([]));
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn settings_and_the_cluster_are_told_and_changed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t"], b"");
    done(&broker, &["config", "set", "--topic", "t", "retention.ms=60000", "durability=os"], b"");
    let shown = json_of(&done(&broker, &["config", "show", "--topic", "t", "--json"], b""));
    let value = |shown: &Value, name: &str| {
        let rows = shown.as_array().expect("rows").clone();
        rows.into_iter().find(|row| row["setting"] == name).map(|row| row["value"].clone())
    };
    assert_eq!(value(&shown, "retention.ms"), Some(json!("60000")), "{shown}");
    done(&broker, &["config", "delete", "--topic", "t", "retention.ms"], b"");
    let shown = json_of(&done(&broker, &["config", "show", "--topic", "t", "--json"], b""));
    assert_eq!(value(&shown, "retention.ms"), None, "{shown}");
    assert_eq!(value(&shown, "durability"), Some(json!("os")), "{shown}");
    let all = json_of(&done(&broker, &["config", "show", "--broker-id", "1", "--all", "--json"], b""));
    assert!(value(&all, "num.partitions").is_some(), "{all}");
    let (code, _, error) = run(&broker, &["config", "set", "--topic", "t", "retension.ms=1"], b"");
    assert!(code == 1 && error.contains("retension.ms"), "{code} {error}");

    let cluster = json_of(&done(&broker, &["cluster", "describe", "--json"], b""));
    assert_eq!((&cluster["brokers"][0]["broker"], &cluster["topics"]), (&json!(1), &json!(1)), "{cluster}");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_traced_record_tells_every_stage() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "3"], b"");
    let trace = ["produce", "t", "--trace", "--key-separator", ":"];
    let with_admin: Vec<&str> = trace.into_iter().chain(["--admin", &broker.admin]).collect();
    let told = done(&broker, &with_admin, b"k:v\nl:w\n");
    for stage in
        ["interceptors", "serializers", "partition", "batch", "sent", "acknowledged", "told", "flushed"]
    {
        assert!(told.lines().any(|line| line.trim_start().starts_with(stage)), "{stage}: {told}");
    }
    assert!(told.contains("murmur2 of the key") && told.contains("2 records acknowledged"), "{told}");
    // Nobody listens there.
    let without: Vec<&str> = trace.into_iter().chain(["--admin", "127.0.0.1:1"]).collect();
    let told = done(&broker, &without, b"k:v\n");
    assert!(told.contains("the broker's stages are not known: "), "{told}");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
    // More than a pipe holds.
    let lines: String = (0..20_000).map(|n| format!("line {n} of a text that does not end\n")).collect();
    let mut child = spawn(&broker, &["produce", "t", "--verbose"]);
    drop(child.stdout.take());
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).unwrap();
    let (code, _, error) = ended(child);
    assert_eq!((code, error.as_str()), (0, ""));

    let mut child = spawn(&broker, &["consume", "t", "--follow"]);
    let mut first = [0; 7];
    child.stdout.take().expect("piped").read_exact(&mut first).unwrap();
    assert_eq!(&first, b"line 0 ");
    let (code, _, error) = ended(child);
    assert_eq!((code, error.as_str()), (0, ""));
    // All were sent, though nobody read where to.
    assert_eq!(done(&broker, &["consume", "t"], b""), lines);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn an_interrupt_sends_what_was_read_and_tells_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
    // A line every hour: without the interrupt only the first would be sent.
    let mut child = spawn(&broker, &["produce", "t", "--rate", "0.0003", "--verbose"]);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"a\nb\nc\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "t-0 offset 0\n");
    interrupt(&child);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("interrupted: t: 3 records acknowledged"), "{rest}");
    let (code, _, error) = ended(child);
    assert_eq!(code, 130, "{error}");
    drop(stdin);
    assert_eq!(done(&broker, &["consume", "t"], b""), "a\nb\nc\n");

    let mut child = spawn(&broker, &["consume", "t", "--follow"]);
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    for expected in ["a\n", "b\n", "c\n"] {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
    interrupt(&child);
    assert_eq!(ended(child).0, 130);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn a_producer_whose_broker_is_away_says_what_it_waits_for_and_gives_up_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
    let times = ["--set", "delivery.timeout.ms=4000", "--set", "request.timeout.ms=3000"];
    let arguments: Vec<&str> = ["produce", "t", "--verbose"].into_iter().chain(times).collect();
    let mut child = spawn(&broker, &arguments);
    let out = lines_of(&mut child);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(out.recv().unwrap(), "t-0 offset 0");
    assert_eq!(broker.stop().code(), Some(0));
    stdin.write_all(b"b\n").unwrap();
    drop(stdin);
    let (code, _, error) = ended(child);
    assert_eq!(code, 1, "{error}");
    let lines: Vec<&str> = error.lines().collect();
    let [waiting, lost] = lines[..] else {
        panic!("one line says that it waits, one that it gave up: {error}")
    };
    assert!(
        waiting.starts_with("corelog: waiting since ") && waiting.contains("`corelog start`"),
        "{waiting}"
    );
    assert!(waiting.contains("1 record without an acknowledgement"), "{waiting}");
    assert!(lost.contains("line 2: "), "{lost}");
}

#[test]
fn whoever_reads_slowly_gets_every_line_and_two_interrupts_end_the_wait_for_him() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    done(&broker, &["topic", "create", "t", "--partitions", "1"], b"");
    // More lines than may wait to be printed, and than a pipe holds.
    let lines = "x\n".repeat(70_000);
    let mut child = spawn(&broker, &["produce", "t", "--verbose", "--json"]);
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).unwrap();
    let (code, out, error) = ended(child);
    assert_eq!((code, error.as_str()), (0, ""));
    let told: Vec<Value> = out.lines().map(json_of).collect();
    assert_eq!(told.len(), 70_001, "one each, and what became of all");
    assert!(told[..70_000].iter().enumerate().all(|(n, line)| line["offset"] == json!(n)));
    assert_eq!(told[70_000]["acknowledged"], json!(70_000));

    // Nobody reads at all, also when all is on the disk.
    let mut child = spawn(&broker, &["produce", "t", "--verbose"]);
    let stdout = child.stdout.take().expect("piped");
    child.stdin.take().expect("piped").write_all("x\n".repeat(20_000).as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let end = || {
        let described = json_of(&done(&broker, &["topic", "describe", "t", "--json"], b""));
        described[0]["partitions"][0]["next_offset"].clone()
    };
    while end() != json!(90_000) {
        assert!(Instant::now() < deadline, "{}", end());
    }
    // Two that come together count as one.
    while child.try_wait().expect("it is ours to wait for").is_none() {
        interrupt(&child);
        thread::sleep(Duration::from_secs(1));
        assert!(Instant::now() < deadline, "it waits on");
    }
    let (code, _, error) = ended(child);
    assert!(code == 130 && error.contains("t: 20000 records acknowledged"), "{code} {error}");
    drop(stdout);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn what_is_wrong_is_one_line_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &[]);
    for topic in ["orders", "billing"] {
        done(
            &broker,
            &["topic", "create", topic, "--partitions", "2", "--set", "max.message.bytes=1000"],
            b"",
        );
    }
    let check = |arguments: &[&str], input: &[u8], code: i32, expected: &[&str]| {
        let (found, out, error) = run(&broker, arguments, input);
        assert_eq!(found, code, "{arguments:?}: {out}{error}");
        for words in expected {
            assert!(error.contains(words), "{arguments:?}: {words:?} is not in {error}");
        }
        if code == 1 {
            let lines = error.lines().filter(|line| line.starts_with("corelog: ") && line.contains("; "));
            assert_eq!(lines.count(), 1, "{arguments:?}: {error}");
        }
    };
    check(&["produce", "oders"], b"a\n", 1, &["there is no topic oders", "did you mean orders"]);
    check(&["consume", "oders"], b"", 1, &["did you mean orders"]);
    check(&["produce", "zzzzzz"], b"a\n", 1, &["corelog topic create zzzzzz"]);
    check(&["produce", "orders", "--partition", "2"], b"a\n", 1, &["has no partition 2", "0 to 1"]);
    check(&["produce", "orders", "--key-separator", ":"], b"a:b\nc\n", 1, &["line 2 has no key"]);
    let long = [b'x'; 3000];
    check(&["produce", "orders"], &long, 1, &["line 1: ", "max.message.bytes"]);
    let check_max = ["produce", "orders", "--set", "max.request.size=100"];
    check(&check_max, &long, 1, &["line 1 is longer", "max.request.size"]);
    check(&["produce", "orders", "--file", "/no/such/file"], b"", 1, &["/no/such/file", "--file"]);
    check(&["produce", "orders", "--set", "linger=5"], b"", 2, &["did you mean `linger.ms`?"]);
    check(&["produce", "orders", "--config", "/no/such.toml"], b"", 2, &["/no/such.toml", "--config"]);
    check(&["consume", "orders", "--format", "%s"], b"", 2, &["%s stands for nothing", "%v value"]);
    check(&["consume", "orders", "--from", "soon"], b"", 2, &["write begin, end"]);
    check(&["group", "describe", "nobody"], b"", 1, &["there is no group nobody"]);
    // What was read before the wrong line is there.
    assert_eq!(done(&broker, &["consume", "orders", "--format", "%k=%v"], b""), "a=b\n");
    // A topic that is wanted is made.
    done(&broker, &["produce", "fresh", "--create"], b"a\n");
    assert_eq!(done(&broker, &["consume", "fresh"], b""), "a\n");

    let output = corelog(&["produce", "orders", "--bootstrap", "127.0.0.1:1"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("no broker listens on 127.0.0.1:1") && error.contains("corelog start"), "{error}");
    let output = corelog(&["consume", "orders", "--bootstrap", &broker.admin]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("--bootstrap"), "{error}");
    assert_eq!(broker.stop().code(), Some(0));
}
