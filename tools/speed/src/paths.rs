//! Question: what does an acknowledged record cost on each write path, and against the raw disk and Kafka?
//!
//! Workload: one broker with one shard on one CPU, this generator on another, on a file system of its own; contenders are
//! asked in turns (A B C A B C ...), so that what else the machine does meets all of them. Five measurements:
//! `throughput` (paths at many partitions, closed loop), `partitions` (few against many at equal offered load, open loop),
//! `single` (one request at a time against a raw write-fdatasync and an echo), `large` (large groups against the raw
//! disk), `oracle` (against Apache Kafka with `flush.messages=1`). It cannot show: more than one shard, fetches, replicas.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use corelog_measure::device::{Devices, Untraceable};
use corelog_measure::output::{check_target, write_whole};
use corelog_measure::signals;

use crate::bench::{Shape, Timing, Topic, latency_columns, round};
use crate::command::Server;
use crate::kernel::{check_interrupted, pin, sleep};
use crate::load::Pace;
use crate::mount::{Place, Sites};
use crate::raw::{RawFiles, RawOutcome, Way, commits, echo_round_trips};
use crate::report::{Bound, Report, Row, Sample};
use crate::wire::{TopicError, value_bytes_for_batch};

const LARGE_GROUP_BYTES: usize = 1 << 20;
const LARGE_PARTITIONS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    Throughput,
    Partitions,
    Single,
    Large,
    Oracle,
}

#[derive(Args)]
pub struct Paths {
    /// The corelog binary
    #[arg(long, value_name = "FILE")]
    broker: PathBuf,
    #[command(flatten)]
    sites: Sites,
    /// Only these measurements
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<Part>,
    /// Write paths to compare at many partitions
    #[arg(long, value_name = "PATH,...", value_delimiter = ',', default_value = "journal,direct,page-cache")]
    paths: Vec<String>,
    /// The write path of the other measurements
    #[arg(long, value_name = "PATH", default_value = "auto")]
    judged: String,
    #[arg(long, default_value = "fsync")]
    durability: String,
    #[arg(long, default_value_t = 256)]
    partitions: i32,
    /// Partition counts compared at equal offered load; the first is the base
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,1000")]
    open_partitions: Vec<i32>,
    /// Requests a second of the open loop
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Requests in flight on each of the connections that send large groups
    #[arg(long, default_value_t = 4)]
    large_in_flight: usize,
    /// Bytes of the one record in each request
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// What is measured of each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    broker_cpu: usize,
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    load_cpu: usize,
    /// A setting of the broker, repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The folder with `kafka-up` and `kafka-down`, which start Apache Kafka
    #[arg(long, value_name = "PATH")]
    oracle: Option<PathBuf>,
    /// Writes all rounds of everything there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails unless every round had at most this many flushes for a record: a check of counts, which noise does not move
    #[arg(long, value_name = "COUNT")]
    flushes_most: Option<f64>,
}

/// A measurement that fails is told and the next one goes on; only an interrupt ends the run.
pub fn run(options: &Paths) -> io::Result<()> {
    if let Some(file) = &options.json {
        check_target(file).map_err(io::Error::other)?;
    }
    signals::install()?;
    pin(options.load_cpu)?;
    let mut report = Report::default();
    report.commands.push(std::env::args().collect::<Vec<_>>().join(" "));
    let programs = [options.broker.as_path()];
    let outcome =
        options.sites.each(&mut report, &programs, |place, report| measure_place(options, place, report));
    check_interrupted()?;
    report.print_summary();
    if let Some(file) = &options.json {
        write_whole(file, &format!("{:#}\n", report.json())).map_err(io::Error::other)?;
    }
    match options.flushes_most {
        Some(most) => outcome.and_then(|()| report.check_most("flushes/rec", most)),
        None => outcome,
    }
}

fn measure_place(options: &Paths, place: &Place, report: &mut Report) -> io::Result<()> {
    let way = |devices: &Result<Devices, Untraceable>| match devices {
        Ok(devices) => devices.way.join(" on "),
        Err(error) => format!("none: {error}"),
    };
    println!("\n#### {}: counters of {}, behind it {}", place.name, way(&place.device), way(&place.disks));
    let parts = [Part::Throughput, Part::Partitions, Part::Single, Part::Large, Part::Oracle];
    for part in parts {
        if !options.only.is_empty() && !options.only.contains(&part) {
            continue;
        }
        // A broker of its own for each measurement, in a folder of its own: what one left behind is not in the next.
        let folder = place.folder.join(part.name());
        std::fs::create_dir(&folder)?;
        let mut bench =
            Bench { options, place, folder: folder.clone(), report, server: None, topic_number: 0 };
        let outcome = match part {
            Part::Throughput => bench.throughput(),
            Part::Partitions => bench.partitions(),
            Part::Single => bench.single(),
            Part::Large => bench.large(),
            Part::Oracle => bench.oracle(),
        };
        drop(bench);
        std::fs::remove_dir_all(&folder)?;
        check_interrupted()?;
        if let Err(error) = outcome {
            report.miss(format!("{} {}: {error}", place.name, part.name()));
        }
    }
    Ok(())
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The broker on a place while one measurement runs.
struct Bench<'a> {
    options: &'a Paths,
    place: &'a Place,
    folder: PathBuf,
    report: &'a mut Report,
    server: Option<Server>,
    topic_number: u32,
}

/// A contender that is asked a round; none once it has failed.
struct Contender {
    topic: Topic,
    shape: Shape,
    samples: Vec<Sample>,
    gone: bool,
}

impl Contender {
    fn new(topic: Topic, shape: Shape) -> Contender {
        Contender { topic, shape, samples: Vec::new(), gone: false }
    }

    fn row(&self) -> Row {
        Row { who: self.topic.who.clone(), samples: self.samples.clone() }
    }
}

impl Bench<'_> {
    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_secs_f64(self.options.warm_up),
            window: Duration::from_secs_f64(self.options.seconds),
        }
    }

    /// The command that would measure this alone.
    fn again(&self, part: Part) -> String {
        let mut words: Vec<String> = std::env::args().collect();
        if let Some(at) = words.iter().position(|word| word == "--only") {
            words.drain(at..at + 2);
        }
        words.retain(|word| !word.starts_with("--only="));
        words.extend(["--only".to_owned(), part.name()]);
        words.join(" ")
    }

    fn path_topic(&self, path: &str, partitions: i32, value_bytes: usize) -> Topic {
        let durability = self.options.durability.as_str();
        Topic::new(path, partitions, value_bytes, &[("durability", durability), ("write.path", path)])
    }

    fn closed(&self) -> Shape {
        let (connections, in_flight) = (self.options.connections, self.options.in_flight);
        Shape::Many { connections, pace: Pace::Closed { in_flight } }
    }

    /// The running broker; started if it is not there or no longer.
    fn broker(&mut self) -> io::Result<&Server> {
        if self.server.as_mut().is_none_or(|server| !server.is_running()) {
            self.server = None;
            // A crashed broker's data is left where it is: a new one has a folder of its own.
            self.topic_number += 1;
            let folder = self.folder.join(format!("corelog-{}", self.topic_number));
            let (binary, cpu) = (&self.options.broker, self.options.broker_cpu);
            let told = &mut self.report.commands;
            self.server = Some(Server::start(told, binary, &folder, cpu, &self.options.settings)?);
        }
        Ok(self.server.as_ref().expect("it has just been started"))
    }

    /// One round of a contender on the broker; what fails is told and ends this contender alone.
    fn ask(&mut self, contender: &mut Contender, part: Part, index: usize) -> io::Result<()> {
        self.broker()?;
        let server = self.server.take().expect("it runs");
        let outcome = self.ask_server(contender, &server, index);
        if outcome.is_err() {
            eprintln!("the broker said last:\n{}", server.last_words());
        }
        self.server = Some(server);
        self.settle_outcome(contender, part, outcome)
    }

    fn ask_server(
        &mut self,
        contender: &mut Contender,
        server: &Server,
        index: usize,
    ) -> Result<(), TopicError> {
        if contender.gone {
            return Ok(());
        }
        contender.topic.prepare(server, self.place, &mut self.topic_number)?;
        self.place.settle()?;
        sleep(Duration::from_millis(100))?;
        let sample = round(server, self.place, &contender.topic, contender.shape, self.timing())?;
        let column = |name| sample.get(name).unwrap_or(0.0);
        eprintln!(
            "{} {} round {}: {:.0} requests/s, p50 {:.0} us, p99 {:.0} us",
            self.place.name,
            contender.topic.who,
            index + 1,
            column("req/s"),
            column("p50 us"),
            column("p99 us")
        );
        contender.samples.push(sample);
        Ok(())
    }

    fn settle_outcome(
        &mut self,
        contender: &mut Contender,
        part: Part,
        outcome: Result<(), TopicError>,
    ) -> io::Result<()> {
        check_interrupted()?;
        if let Err(error) = outcome {
            contender.gone = true;
            self.report.miss(format!("{} {} {}: {error}", self.place.name, part.name(), contender.topic.who));
        }
        Ok(())
    }

    fn throughput(&mut self) -> io::Result<()> {
        let (partitions, bytes) = (self.options.partitions, self.options.record_bytes);
        let mut contenders = Vec::new();
        for path in &self.options.paths {
            contenders.push(Contender::new(self.path_topic(path, partitions, bytes), self.closed()));
        }
        for index in 0..self.options.rounds {
            for contender in &mut contenders {
                self.ask(contender, Part::Throughput, index)?;
            }
        }
        let rows: Vec<Row> = contenders.iter().map(Contender::row).collect();
        let title = format!(
            "{partitions} partitions, {} connections x {} in flight, {bytes} B, durability {}",
            self.options.connections, self.options.in_flight, self.options.durability
        );
        let (name, again) = (self.place.name.clone(), self.again(Part::Throughput));
        self.report.table(&name, title, again, rows.clone());
        let row = |who: &str| rows.iter().find(|row| row.who == who && !row.samples.is_empty());
        let pairs = [
            ("page-cache", "req/s", Bound::AtLeast(5.0)),
            ("page-cache", "p99 us", Bound::AtMost(1.0)),
            ("direct", "req/s", Bound::AtLeast(1.5)),
        ];
        let asked = |path: &str| self.options.paths.iter().any(|asked| asked == path);
        for (other, column, bound) in pairs {
            if !asked("journal") || !asked(other) {
                continue;
            }
            let what = format!("{column} at {partitions} partitions, journal / {other}");
            let values = match (row("journal"), row(other)) {
                (Some(journal), Some(other)) => ratios(&journal.column(column), &other.column(column)),
                _ => Vec::new(),
            };
            self.report.judge(&name, what, values, bound);
        }
        if asked("journal") {
            let flushes = row("journal").map_or_else(Vec::new, |row| row.column("flushes/rec"));
            let what = format!("flushes per acknowledged record at {partitions} partitions, journal");
            self.report.judge(&name, what, flushes, Bound::AtMost(0.05));
        }
        Ok(())
    }

    fn partitions(&mut self) -> io::Result<()> {
        let (rate, bytes) = (self.options.rate, self.options.record_bytes);
        let shape =
            Shape::Many { connections: self.options.connections, pace: Pace::Open { per_second: rate } };
        let mut contenders = Vec::new();
        for &count in &self.options.open_partitions {
            let mut topic = self.path_topic(&self.options.judged, count, bytes);
            topic.who = format!("{count} partitions");
            contenders.push(Contender::new(topic, shape));
        }
        for index in 0..self.options.rounds {
            for contender in &mut contenders {
                self.ask(contender, Part::Partitions, index)?;
            }
        }
        let rows: Vec<Row> = contenders.iter().map(Contender::row).collect();
        let (name, again, path) =
            (self.place.name.clone(), self.again(Part::Partitions), &self.options.judged);
        let title = format!(
            "open loop of {rate} requests/s over {} connections, {bytes} B, write.path {path}, latency from the time due",
            self.options.connections
        );
        self.report.table(&name, title, again, rows.clone());
        for row in &rows {
            let slowest = row.column("req/s").into_iter().fold(f64::INFINITY, f64::min);
            let fastest = row.column("req/s").into_iter().fold(0.0, f64::max);
            // Faster means that the window saw what had piled up before it.
            if slowest < rate * 0.95 || fastest > rate * 1.05 {
                self.report.note(format!(
                    "{name} {}: {slowest:.0} to {fastest:.0} answers/s where {rate} are offered: overload, not latency",
                    row.who
                ));
            }
        }
        if let Some((base, others)) = rows.split_first() {
            for other in others {
                let what = format!("p99 at {rate} requests/s, {} / {}, {path}", other.who, base.who);
                let values = ratios(&other.column("p99 us"), &base.column("p99 us"));
                self.report.judge(&name, what, values, Bound::AtMost(2.0));
            }
        }
        Ok(())
    }

    fn single(&mut self) -> io::Result<()> {
        const RAW_FILE_BYTES: u64 = 64 << 20;
        let cpu = self.options.broker_cpu;
        let window = self.timing().window;
        let mut contender = Contender::new(
            self.path_topic(&self.options.judged, 1, self.options.record_bytes),
            Shape::OneByOne,
        );
        let files = RawFiles::zeroed(&self.folder, 1, RAW_FILE_BYTES)?;
        let (mut raw, mut echo) = (Vec::new(), Vec::new());
        for index in 0..self.options.rounds {
            let written = commits(&files, 1, Way::DirectLinked, 4096, cpu, window)?;
            raw.push(raw_sample(&written));
            let echoed = echo_round_trips(1024, 64, cpu, window)?;
            let mut columns = vec![("req/s", echoed.per_second())];
            columns.extend(latency_columns(&echoed.latency));
            echo.push(Sample(columns));
            self.ask(&mut contender, Part::Single, index)?;
        }
        let floor: Vec<f64> = raw
            .iter()
            .zip(&echo)
            .filter_map(|(raw, echo)| Some(raw.get("p50 us")? + echo.get("p50 us")?))
            .collect();
        let p50 = contender.row().column("p50 us");
        let rows = vec![
            contender.row(),
            Row { who: "raw 4 KiB O_DIRECT, linked write-fdatasync".to_owned(), samples: raw },
            Row { who: "echo 1 KiB / 64 B".to_owned(), samples: echo },
        ];
        let (name, again) = (self.place.name.clone(), self.again(Part::Single));
        let title = format!(
            "1 partition, 1 in flight, {} B, durability {}",
            self.options.record_bytes, self.options.durability
        );
        self.report.table(&name, title, again, rows);
        let what = format!("p50 of 1 in flight, {} / (raw write-fdatasync + echo)", self.options.judged);
        self.report.judge(&name, what, ratios(&p50, &floor), Bound::AtMost(1.3));
        Ok(())
    }

    fn large(&mut self) -> io::Result<()> {
        const RAW_FILE_BYTES: u64 = 128 << 20;
        const WAYS: [(Way, usize); 6] = [
            (Way::PageCacheCalls, 1),
            (Way::PageCacheLinked, 1),
            (Way::PageCacheLinked, LARGE_PARTITIONS),
            (Way::DirectCalls, 1),
            (Way::DirectLinked, 1),
            (Way::DirectLinked, LARGE_PARTITIONS),
        ];
        let (cpu, window) = (self.options.broker_cpu, self.timing().window);
        let files = RawFiles::zeroed(&self.folder, LARGE_PARTITIONS, RAW_FILE_BYTES)?;
        let mut rows: Vec<Row> = WAYS
            .iter()
            .map(|(way, count)| Row {
                who: format!("raw {}, {count} files", way.name()),
                samples: Vec::new(),
            })
            .collect();
        let value_bytes = value_bytes_for_batch(LARGE_GROUP_BYTES);
        let pace = Pace::Closed { in_flight: self.options.large_in_flight };
        let topic = self.path_topic(&self.options.judged, LARGE_PARTITIONS as i32, value_bytes);
        let mut contender = Contender::new(topic, Shape::Many { connections: LARGE_PARTITIONS, pace });
        for index in 0..self.options.rounds {
            for ((way, count), row) in WAYS.iter().zip(&mut rows) {
                let written = commits(&files, *count, *way, LARGE_GROUP_BYTES, cpu, window)?;
                row.samples.push(raw_sample(&written));
                self.place.settle()?;
            }
            self.ask(&mut contender, Part::Large, index)?;
            // A round writes gigabytes.
            if let Some(server) = &self.server
                && let Err(error) = contender.topic.remove(server, self.place)
            {
                return Err(io::Error::other(error.to_string()));
            }
        }
        let median = |row: &Row| row.spread("MB/s").map_or(0.0, |spread| spread.median);
        let best = rows.iter().max_by(|a, b| median(a).total_cmp(&median(b))).expect("six ways").clone();
        let broker = contender.row();
        rows.insert(0, broker.clone());
        let (name, again) = (self.place.name.clone(), self.again(Part::Large));
        let title = format!(
            "1 MiB groups, {LARGE_PARTITIONS} partitions, {} in flight on each",
            self.options.large_in_flight
        );
        self.report.table(&name, title, again, rows);
        let what = format!("MB/s of 1 MiB groups, {} / best raw ({})", broker.who, best.who);
        self.report.judge(
            &name,
            what,
            ratios(&broker.column("MB/s"), &best.column("MB/s")),
            Bound::AtLeast(0.85),
        );
        Ok(())
    }

    fn oracle(&mut self) -> io::Result<()> {
        let Some(folder) = &self.options.oracle else {
            self.report.miss(format!("{}: against Apache Kafka: no --oracle PATH is given", self.place.name));
            return Ok(());
        };
        let (partitions, bytes) = (self.options.partitions, self.options.record_bytes);
        let kafka_folder = self.folder.join("kafka");
        let told = &mut self.report.commands;
        let kafka = Server::start_oracle(told, folder, &kafka_folder, self.options.broker_cpu)?;
        let mut ours =
            Contender::new(self.path_topic(&self.options.judged, partitions, bytes), self.closed());
        let topic = Topic::new("Kafka flush.messages=1", partitions, bytes, &[("flush.messages", "1")]);
        let mut theirs = Contender::new(topic, self.closed());
        // The first round warms up the machine code of a JVM and is not counted.
        for index in 0..=self.options.rounds {
            self.ask(&mut ours, Part::Oracle, index)?;
            let outcome = self.ask_server(&mut theirs, &kafka, index);
            self.settle_outcome(&mut theirs, Part::Oracle, outcome)?;
        }
        for contender in [&mut ours, &mut theirs] {
            contender.samples.drain(..1.min(contender.samples.len()));
        }
        let (ours, theirs) = (ours.row(), theirs.row());
        let (name, again) = (self.place.name.clone(), self.again(Part::Oracle));
        let title = format!(
            "{partitions} partitions, {} connections x {} in flight, {bytes} B, flushed before the answer",
            self.options.connections, self.options.in_flight
        );
        self.report.table(&name, title, again, vec![ours.clone(), theirs.clone()]);
        for (column, bound) in [("req/s", Bound::AtLeast(10.0)), ("p99 us", Bound::AtMost(0.1))] {
            let what = format!("{column} at {partitions} partitions, {} / {}", ours.who, theirs.who);
            self.report.judge(&name, what, ratios(&ours.column(column), &theirs.column(column)), bound);
        }
        Ok(())
    }
}

fn raw_sample(written: &RawOutcome) -> Sample {
    let mut columns = vec![("req/s", written.per_second), ("MB/s", written.mb_per_second)];
    columns.extend(latency_columns(&written.latency));
    Sample(columns)
}

/// Round by round.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}
