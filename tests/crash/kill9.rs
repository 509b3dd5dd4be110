//! SIGKILL, again and again, under load, on a real file system: nothing acknowledged is lost, no offset used twice,
//! nothing doubled by an idempotent producer, nothing out of order.
//!
//! `CORELOG_CRASH_CYCLES` sets how often the broker is killed (5), `CORELOG_CRASH_SEED` repeats a run's choices, and
//! `CORELOG_TEST_KEEP=DIR` keeps the directories, for `kafka-dump-log.sh`. A kill takes the process and leaves the page
//! cache: what a power cut does is shown by the simulation.
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

mod load;
mod moves;
mod recorder;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use corelog_clients::client::{Reader, configure_topic, create_topic};
use corelog_clients::{Broker, Options};
use history_checker::{Event, History, Kind, Report, check};

use load::Run;

/// Every so many cycles the kill comes right after the answer to a topic's creation.
const TOPIC_EVERY: u32 = 5;

fn cycles() -> u32 {
    std::env::var("CORELOG_CRASH_CYCLES").map_or(5, |n| n.parse().expect("CORELOG_CRASH_CYCLES is a number"))
}

/// The choices of one run: xorshift64, enough to spread the kills.
struct Choices(u64);

impl Choices {
    fn new() -> Self {
        let seed = std::env::var("CORELOG_CRASH_SEED").ok().map(|s| s.parse().expect("a number"));
        let now = || {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as u64
        };
        let seed = seed.unwrap_or_else(now) | 1;
        eprintln!("CORELOG_CRASH_SEED={seed}");
        Self(seed)
    }

    /// In `[low, high)`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + self.0 % (high - low)
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

struct Clients {
    producers: Vec<JoinHandle<()>>,
    consumer: JoinHandle<()>,
}

impl Clients {
    fn start(run: &Arc<Run>, broker: &Broker) -> Self {
        let producers =
            [("plain-1", false), ("plain-2", false), ("idempotent-1", true), ("idempotent-2", true)];
        let producers = producers.map(|(name, idempotent)| {
            let (run, bootstrap) = (Arc::clone(run), broker.bootstrap());
            std::thread::spawn(move || load::produce(&run, &bootstrap, name, idempotent))
        });
        let reader = Reader::assigned(broker, &[], &[("auto.offset.reset", "error")]);
        let run = Arc::clone(run);
        let consumer = std::thread::spawn(move || load::consume(&run, &reader, "continuous"));
        Self { producers: producers.into(), consumer }
    }

    /// Ends the load; what is under way is answered first. Then everything is read once more, while the old reader goes on.
    fn finish(self, run: &Run, broker: &Broker) {
        run.producers_stop.store(true, Ordering::Relaxed);
        for producer in self.producers {
            producer.join().expect("the producer met nothing unexpected");
        }
        load::read_all(run, broker, "final");
        run.consumer_stop.store(true, Ordering::Relaxed);
        self.consumer.join().expect("the consumer met nothing unexpected");
    }
}

/// Runs the load over `cycles` kills and returns the whole history, read to the end. Under the load one topic takes each of
/// `paths` in turn.
fn kill_under_load(broker: &mut Broker, cycles: u32, paths: &[&str]) -> Vec<Event> {
    let mut choices = Choices::new();
    let run = Run::new(true);
    for (name, partitions) in [("wide", 6), ("narrow", 1)] {
        create_topic(broker, name, partitions, &[("segment.bytes", "1048576")]);
        run.topics.add(name, partitions);
    }
    let clients = Clients::start(&run, broker);
    let begin = Instant::now();
    for cycle in 0..cycles {
        // The load runs while this thread waits; that is the point of the wait.
        std::thread::sleep(choices.millis(200, 900));
        for path in paths {
            configure_topic(broker, "wide", &[("segment.bytes", "1048576"), ("write.path", path)]);
            std::thread::sleep(choices.millis(50, 300));
        }
        if cycle % TOPIC_EVERY == TOPIC_EVERY - 1 {
            let name = format!("late-{cycle}");
            create_topic(broker, &name, 2, &[]);
            broker.kill9();
            run.topics.add(&name, 2);
        } else {
            broker.kill9();
        }
        for _ in 0..choices.between(0, 3) {
            // In the middle of the recovery, or right after it.
            broker.start_and_kill9(choices.millis(0, 80));
        }
        broker.start_again();
    }
    eprintln!("{cycles} cycles in {:.1} s", begin.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_millis(500));
    clients.finish(&run, broker);
    Arc::into_inner(run).expect("the clients are gone").recorder.into_events()
}

fn checked(events: &[Event]) -> Report {
    let history = History::from_events(events.to_vec()).expect("a history");
    let report = check(&history);
    eprintln!("{}", report.summary());
    report
}

/// Leaves the history beside the broker's log, for `history-checker`.
fn write_history(broker: &Broker, events: &[Event]) {
    let mut file =
        BufWriter::new(File::create(broker.directory().join("history.jsonl")).expect("make the history"));
    for event in events {
        serde_json::to_writer(&mut file, event).expect("write the history");
        file.write_all(b"\n").expect("write the history");
    }
    file.flush().expect("write the history");
}

fn survives(options: Options, cycles: u32, paths: &[&str]) {
    // A start after a kill may say what it cut off.
    let mut broker = options.allow_warning("unclean").allow_warning("torn").start();
    let events = kill_under_load(&mut broker, cycles, paths);
    write_history(&broker, &events);
    let report = checked(&events);
    assert!(report.is_clean(), "{:#?}", &report.anomalies[..report.anomalies.len().min(20)]);
    // A run without load, or one whose load never got through, would prove nothing.
    assert!(report.acked > 100 * cycles as usize, "{}", report.summary());
    assert_eq!(report.unknown, 0, "records were never answered: {}", report.summary());
    the_checker_sees_a_loss(events);
    broker.finish();
}

/// The same history with one acknowledged record unread: the check that passed above must fail.
fn the_checker_sees_a_loss(mut events: Vec<Event>) {
    let acked = events.iter().rev().find_map(|e| match e {
        Event::Acked { producer, sequence, offset: Some(_), .. } => Some(format!("{producer}:{sequence}")),
        _ => None,
    });
    let acked = acked.expect("something was acknowledged");
    events.retain(|e| !matches!(e, Event::Read { value, .. } if *value == acked));
    let report = checked(&events);
    assert!(report.anomalies.iter().any(|a| a.kind == Kind::LostWrite), "a lost record was not noticed");
}

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing_with_fsync() {
    survives(corelog_clients::options!(), cycles(), &[]);
}

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing_without_fsync() {
    // The kernel keeps what was written when only the process dies.
    survives(corelog_clients::options!().set("log.durability", "os"), cycles().div_ceil(5), &[]);
}

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing_flushed_now_and_then() {
    let options = corelog_clients::options!().set("log.durability", "interval");
    survives(options.set("log.flush.interval.ms", "100"), cycles().div_ceil(5), &[]);
}

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing_past_the_page_cache() {
    survives(corelog_clients::options!().set("log.write.path", "direct"), cycles().div_ceil(5), &[]);
}

#[test]
fn kill_9_under_load_loses_doubles_and_reorders_nothing_past_the_page_cache_without_fsync() {
    let options = corelog_clients::options!().set("log.write.path", "direct").set("log.durability", "os");
    survives(options, cycles().div_ceil(5), &[]);
}

#[test]
fn a_topic_changes_its_write_path_under_load_and_kill_9() {
    survives(
        corelog_clients::options!(),
        cycles().div_ceil(5),
        &["direct", "page-cache", "direct", "journal"],
    );
}

/// The broker is killed while slots move between its cores, and comes up with one core or with two. With `endpoints` a move
/// changes the leader.
fn survives_moves(options: Options, cycles: u32, endpoints: bool) {
    let options = options.cores(2).allow_warning("unclean").allow_warning("torn");
    let mut broker = options.start();
    let mut choices = Choices::new();
    let run = Run::new(!endpoints);
    create_topic(&broker, "wide", 6, &[("segment.bytes", "1048576")]);
    run.topics.add("wide", 6);
    let clients = Clients::start(&run, &broker);
    let mut done = 0;
    for _ in 0..cycles {
        for _ in 0..choices.between(1, 6) {
            // Partitions are put into the first slots, one in each. A slot that is on that core already takes the other
            // one, so that every request moves something while there are two.
            let (slot, core) = (choices.between(0, 6), choices.between(0, 2));
            let moved = moves::move_slot(&broker, slot, core) || moves::move_slot(&broker, slot, 1 - core);
            done += u32::from(moved);
            std::thread::sleep(choices.millis(0, 60));
        }
        let (slot, core) = (choices.between(0, 6), choices.between(0, 2));
        let address = broker.admin_address();
        let last = std::thread::spawn(move || moves::ask_to_move(address, slot, core));
        std::thread::sleep(choices.millis(0, 40));
        broker.kill9();
        last.join().expect("whoever asks is told, or not").ok();
        broker.use_cores(choices.between(1, 3) as usize);
        broker.start_again();
    }
    std::thread::sleep(Duration::from_millis(500));
    clients.finish(&run, &broker);
    let events = Arc::into_inner(run).expect("the clients are gone").recorder.into_events();
    write_history(&broker, &events);
    let report = checked(&events);
    assert!(report.is_clean(), "{:#?}", &report.anomalies[..report.anomalies.len().min(20)]);
    assert!(report.acked > 50 * cycles as usize, "{}", report.summary());
    assert_eq!(report.unknown, 0, "records were never answered: {}", report.summary());
    assert!(done > 0, "no slot was moved");
    eprintln!("{done} slots were moved");
    broker.finish();
}

#[test]
fn kill_9_while_slots_move_loses_doubles_and_reorders_nothing() {
    survives_moves(corelog_clients::options!(), cycles().div_ceil(2), false);
}

#[test]
fn kill_9_while_slots_move_between_endpoints_loses_doubles_and_reorders_nothing() {
    let options =
        corelog_clients::options!().set("listeners.mode", "per-core").set("advertised.endpoints", "3");
    survives_moves(options, cycles().div_ceil(2), true);
}

#[test]
fn a_log_that_lost_its_last_batch_is_caught() {
    let mut broker = corelog_clients::options!().allow_warning("").start();
    // What is lost of a segment the journal would bring back.
    create_topic(&broker, "lossy", 1, &[("write.path", "page-cache")]);
    let run = Run::new(true);
    run.topics.add("lossy", 1);
    let clients = Clients::start(&run, &broker);
    std::thread::sleep(Duration::from_millis(500));
    run.producers_stop.store(true, Ordering::Relaxed);
    while !clients.producers.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.consumer_stop.store(true, Ordering::Relaxed);
    while !clients.consumer.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
    broker.kill9();
    wipe_tail(&broker, "lossy-0", 150);
    broker.start_again();
    clients.finish(&run, &broker);
    let events = Arc::into_inner(run).expect("the clients are gone").recorder.into_events();
    let report = checked(&events);
    assert!(report.anomalies.iter().any(|a| a.kind == Kind::LostWrite), "the loss was not noticed");
    broker.finish();
}

/// Puts zeros over the last written bytes of a partition's log, as if they had never arrived.
fn wipe_tail(broker: &Broker, partition: &str, bytes: usize) {
    let path = broker.data_directory().join(partition).join("00000000000000000000.log");
    let content = std::fs::read(&path).expect("read the log");
    let last = content.iter().rposition(|b| *b != 0).expect("a written log");
    let log = OpenOptions::new().write(true).open(&path).expect("open the log");
    log.write_all_at(&vec![0; bytes], (last + 1 - bytes) as u64).expect("write the log");
}
