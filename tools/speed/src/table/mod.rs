//! Question: by how much is corelog faster than Apache Kafka, and how near is it to a broker that does nothing?
//!
//! Workload: the loads A to H of `corelog bench`, each put on corelog, on Kafka (K) and on a null responder (N) in turns. All
//! of them run on one CPU, the generator on another; both brokers' data lie on the same file system, and everything is
//! written back between rounds. Each bar holds the median of the rounds' ratios. Beside the loads: the memory of idle
//! partitions, the bench's percentiles against another generator's, and whether the stages of a request add up to its time.
//! It cannot show: more than one core, more than one host, days of load.

mod bench;
mod rows;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use corelog_measure::output::{check_target, write_whole};
use corelog_measure::signals;

use self::bench::{Bench, MB, RATE};
use self::rows::{Beside, Load, MEMORY, ROWS, Row, Term, Who};
use crate::bench::{Shape, Timing, Topic, latency_columns, round};
use crate::command::Server;
use crate::kernel::{check_interrupted, sleep};
use crate::load::Pace;
use crate::mount::{Place, Sites};
use crate::paths::ratios;
use crate::raw::{RawFiles, Way, commits, on_cpu};
use crate::report::{self, Bound, Report, Sample, number};

#[derive(Args)]
pub struct Table {
    /// The folder with `kafka-up` and `kafka-down`, which start Apache Kafka
    #[arg(long, value_name = "PATH")]
    oracle: PathBuf,
    /// Only these rows
    #[arg(long, value_name = "ROW,...", value_delimiter = ',', value_parser = row_names())]
    only: Vec<String>,
    /// Repetitions, in turns
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// What is measured of each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// The corelog binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    broker: Option<PathBuf>,
    /// The corelog-bench binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    #[command(flatten)]
    sites: Sites,
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    broker_cpu: usize,
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    load_cpu: usize,
    /// A setting of corelog, repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Writes all rounds of everything there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn row_names() -> PossibleValuesParser {
    PossibleValuesParser::new(ROWS.iter().map(|row| row.name).chain([MEMORY]))
}

/// A program of this build: as named, or the one beside this one.
fn beside_this(named: &Option<PathBuf>, name: &str) -> io::Result<PathBuf> {
    let path = match named {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name(name),
    };
    std::fs::canonicalize(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

pub fn run(options: &Table) -> io::Result<()> {
    if let Some(file) = &options.json {
        check_target(file).map_err(io::Error::other)?;
    }
    signals::install()?;
    let broker = beside_this(&options.broker, "corelog")?;
    let program = beside_this(&options.bench, "corelog-bench")?;
    let oracle = std::fs::canonicalize(&options.oracle)?;
    let mut report = Report::default();
    report.commands.push(std::env::args().collect::<Vec<_>>().join(" "));
    let outcome = options.sites.each(&mut report, &[&broker, &program, &oracle], |place, report| {
        let bench = Bench {
            program: &program,
            seconds: options.seconds,
            warm_up: options.warm_up,
            broker_cpu: options.broker_cpu,
            load_cpu: options.load_cpu,
        };
        let place =
            Judged { options, place, broker: &broker, oracle: &oracle, bench, report, topic_number: 0 };
        place.measure()
    });
    check_interrupted()?;
    report.print_summary();
    if let Some(file) = &options.json {
        write_whole(file, &format!("{:#}\n", report.json())).map_err(io::Error::other)?;
    }
    outcome
}

/// The rows on one file system.
struct Judged<'a> {
    options: &'a Table,
    place: &'a Place,
    broker: &'a Path,
    oracle: &'a Path,
    bench: Bench<'a>,
    report: &'a mut Report,
    topic_number: u32,
}

/// The figures of a row: of each load, of each contender, round by round.
type Figures = BTreeMap<(&'static str, Who), Vec<Sample>>;

impl Judged<'_> {
    fn is_wanted(&self, name: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|only| only == name)
    }

    /// A row that fails is told, and the next one goes on.
    fn measure(mut self) -> io::Result<()> {
        println!("\n#### {}", self.place.name);
        if self.is_wanted(MEMORY)
            && let Err(error) = self.memory()
        {
            self.report.miss(format!("{} {MEMORY}: {error}", self.place.name));
        }
        check_interrupted()?;
        let rows: Vec<&Row> = ROWS.iter().filter(|row| self.is_wanted(row.name)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let (corelog, mut kafka) = (self.start_corelog("corelog")?, None);
        for row in rows {
            if kafka.is_none() && row.loads.iter().any(|load| row.wants(load.name, Who::Kafka)) {
                kafka = Some(self.start_kafka("kafka", true)?);
            }
            let outcome = self.row(row, &corelog, kafka.as_ref());
            check_interrupted()?;
            if let Err(error) = outcome {
                self.report.miss(format!("{} {}: {error}", self.place.name, row.name));
                eprintln!("corelog said last:\n{}", corelog.last_words());
            }
        }
        Ok(())
    }

    fn start_corelog(&mut self, folder: &str) -> io::Result<Server> {
        let folder = self.place.folder.join(folder);
        let (told, settings) = (&mut self.report.commands, &self.options.settings);
        Server::start(told, self.broker, &folder, self.options.broker_cpu, settings)
    }

    /// Kafka; its machine code is made while it is under load, so it has had some before it is measured.
    fn start_kafka(&mut self, folder: &str, warm_up: bool) -> io::Result<Server> {
        let folder = self.place.folder.join(folder);
        let told = &mut self.report.commands;
        let kafka = Server::start_oracle(told, self.oracle, &folder, self.options.broker_cpu)?;
        if warm_up {
            for options in ["--load C", "--load A", "--load E --fill-bytes 134217728"] {
                let load = Load { name: "warm-up", options, beside: None };
                self.bench.ask(told, &load, &kafka, None, false, 1)?;
            }
        }
        Ok(kafka)
    }

    fn row(&mut self, row: &'static Row, corelog: &Server, kafka: Option<&Server>) -> io::Result<()> {
        let mut figures = Figures::new();
        let rounds = self.options.rounds;
        // Either all rounds of a load at once, with the contenders in turns, or one of each load in turns.
        let (turns, at_once) = if row.in_turns { (rounds, 1) } else { (1, rounds) };
        let mut topics: BTreeMap<&'static str, Topic> = BTreeMap::new();
        for _ in 0..turns {
            for load in row.loads {
                if let Some(beside) = load.beside {
                    let sample = self.beside(beside, load.name, corelog, &mut topics)?;
                    figures.entry((load.name, Who::Beside)).or_default().push(sample);
                }
                let kafka = kafka.filter(|_| row.wants(load.name, Who::Kafka));
                let null = row.wants(load.name, Who::Null);
                let asked = self.bench.ask(&mut self.report.commands, load, corelog, kafka, null, at_once)?;
                for (who, samples) in asked {
                    figures.entry((load.name, who)).or_default().extend(samples);
                }
                check_interrupted()?;
            }
        }
        for topic in topics.values_mut() {
            topic.remove(corelog, self.place).map_err(|error| io::Error::other(error.to_string()))?;
        }
        self.judge(row, &figures);
        Ok(())
    }

    /// What is measured beside a load, on the CPUs of the broker and of the generator.
    fn beside(
        &mut self,
        beside: Beside,
        name: &'static str,
        corelog: &Server,
        topics: &mut BTreeMap<&'static str, Topic>,
    ) -> io::Result<Sample> {
        let (cpu, window) = (self.options.broker_cpu, Duration::from_secs_f64(self.options.seconds));
        let raw = |files: &RawFiles, count, way, bytes, window| {
            let written = commits(files, count, way, bytes, cpu, window)?;
            let mut columns = vec![(RATE, written.per_second), (MB, written.mb_per_second)];
            columns.extend(latency_columns(&written.latency));
            io::Result::Ok(Sample(columns))
        };
        let sample = match beside {
            Beside::RawCommits => {
                let files = RawFiles::zeroed(&self.place.folder, 1, 64 << 20)?;
                raw(&files, 1, Way::DirectLinked, 4096, window)?
            }
            Beside::RawGroups => {
                let files = RawFiles::zeroed(&self.place.folder, 4, 128 << 20)?;
                let ways = [
                    (Way::PageCacheLinked, 1),
                    (Way::PageCacheLinked, 4),
                    (Way::DirectLinked, 1),
                    (Way::DirectLinked, 4),
                ];
                let mut best = Sample::default();
                for (way, count) in ways {
                    let found = raw(&files, count, way, 1 << 20, window / 2)?;
                    self.place.settle()?;
                    if found.get(MB) > best.get(MB) {
                        best = found;
                    }
                }
                best
            }
            Beside::OtherGenerator { partitions, connections, in_flight } => {
                let new = || Topic::new(name, partitions, 1024, &[("durability", "os")]);
                let topic = topics.entry(name).or_insert_with(new);
                let prepared = topic.prepare(corelog, self.place, &mut self.topic_number);
                prepared.map_err(|error| io::Error::other(error.to_string()))?;
                self.place.settle()?;
                let shape = match connections * in_flight {
                    1 => Shape::OneByOne,
                    _ => Shape::Many { connections, pace: Pace::Closed { in_flight } },
                };
                let timing = Timing { warm_up: Duration::from_secs_f64(self.options.warm_up), window };
                let (place, topic) = (self.place, &*topic);
                on_cpu(self.options.load_cpu, || round(corelog, place, topic, shape, timing))?
            }
        };
        self.place.settle()?;
        Ok(sample)
    }

    /// Both brokers with a topic of 1,000 partitions and a record in each, left alone.
    fn memory(&mut self) -> io::Result<()> {
        const PARTITIONS: i32 = 1000;
        const LEFT_ALONE: Duration = Duration::from_secs(3);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Memory has no noise that more rounds would show.
        for (who, found) in [("corelog-idle", &mut ours), ("kafka-idle", &mut theirs)] {
            let server = match who {
                "corelog-idle" => self.start_corelog(who)?,
                _ => self.start_kafka(who, false)?,
            };
            let mut topic = Topic::new(who, PARTITIONS, 1024, &[]);
            let prepared = topic.prepare(&server, self.place, &mut self.topic_number);
            prepared.map_err(|error| io::Error::other(error.to_string()))?;
            sleep(LEFT_ALONE)?;
            found.push(Sample(vec![("RSS MiB", server.resident()?)]));
        }
        let values = |samples: &[Sample]| -> Vec<f64> {
            samples.iter().filter_map(|sample| sample.get("RSS MiB")).collect()
        };
        let (of, over) = (values(&ours), values(&theirs));
        let what = format!(
            "{MEMORY}: RSS MiB with {PARTITIONS} partitions, corelog {} / K {}",
            number(of[0]),
            number(over[0])
        );
        self.report.judge(&self.place.name, what, ratios(&of, &over), Bound::AtMost(0.35));
        Ok(())
    }

    fn judge(&mut self, row: &Row, figures: &Figures) {
        let contenders = figures.iter().map(|((load, who), samples)| report::Row {
            who: format!("{load} {}", who.name()),
            samples: samples.clone(),
        });
        let name = &self.place.name;
        self.report.table(name, format!("{}: {}", row.name, row.what), again(row.name), contenders.collect());
        let values = |term: &Term| -> Vec<f64> {
            let samples = figures.get(&(term.load, term.who)).map_or(&[][..], Vec::as_slice);
            samples.iter().filter_map(|sample| sample.get(term.column)).collect()
        };
        for bar in row.bars {
            let of = values(&bar.of);
            let terms: Vec<Vec<f64>> = bar.over.iter().map(values).collect();
            // Round by round: the host's mood then counts for both.
            let over: Vec<f64> = match terms.is_empty() {
                true => vec![1.0; of.len()],
                false => {
                    let rounds = terms.iter().map(Vec::len).min().unwrap_or(0);
                    (0..rounds).map(|round| terms.iter().map(|term| term[round]).sum()).collect()
                }
            };
            self.report.judge(name, words(bar, &of, &terms), ratios(&of, &over), bar.bound);
        }
    }
}

/// What is compared, with the medians of both sides.
fn words(bar: &rows::Bar, of: &[f64], over: &[Vec<f64>]) -> String {
    let median = |values: &[f64]| {
        let spread = corelog_measure::spread::Spread::of(values.iter().copied());
        spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median))
    };
    let mut text = format!("{}: {}, {} {}", bar.of.load, bar.of.column, bar.of.who.name(), median(of));
    for (index, (term, values)) in bar.over.iter().zip(over).enumerate() {
        text += if index == 0 { " / " } else { " + " };
        if term.load != bar.of.load {
            text += &format!("{} ", term.load);
        }
        text += &format!("{} {}", term.who.name(), median(values));
    }
    text
}

/// The command that would measure a row alone.
fn again(row: &str) -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "--only") {
        words.drain(at..at + 2);
    }
    words.retain(|word| !word.starts_with("--only="));
    words.extend(["--only".to_owned(), row.to_owned()]);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::bench::P50;
    use super::*;

    #[test]
    fn a_bar_says_both_sides() {
        let row = ROWS.iter().find(|row| row.name == "A").unwrap();
        let bar = row.bars.iter().find(|bar| bar.of.load == "A fsync" && bar.of.column == P50).unwrap();
        let text = words(bar, &[130.0, 150.0, 140.0], &[vec![60.0], vec![55.0]]);
        assert_eq!(text, "A fsync: p50 us, corelog 140 / N 60.0 + beside 55.0");
    }
}
