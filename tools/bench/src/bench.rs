//! A run: brokers are started or found, each load is put on all of them in turns, and everything is taken down again.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use corelog_measure::host::Host;
use corelog_measure::signals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::errno::Errno;

use crate::arguments::Arguments;
use crate::broker::{BrokerError, Server, Temporary};
use crate::contender::{Contender, ContenderError, Generator, Timing};
use crate::cpus::{Cpus, CpusError};
use crate::engine::EngineError;
use crate::latency;
use crate::outcome::{Cell, Contended, Environment, Results, Round};
use crate::presets::{self, Named};
use crate::ramp::{Search, keeps_up};
use crate::sweep::{self, SweepError};
use crate::wire::{TopicError, WireError};
use crate::workload::{Workload, WorkloadError};

/// Why there are no results.
#[derive(Debug)]
pub enum BenchError {
    Broker(BrokerError),
    Contender { name: String, source: ContenderError },
    Letter(char),
    Sweep(SweepError),
    Workload { name: String, source: WorkloadError },
    Signals(Errno),
    Cpus(CpusError),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Broker(error) => error.fmt(f),
            BenchError::Contender { name, source } => write!(f, "{name}: {source}"),
            BenchError::Letter(letter) => write!(f, "no load has the letter {letter}; see --help"),
            BenchError::Sweep(error) => error.fmt(f),
            BenchError::Workload { name, source } if name.is_empty() => source.fmt(f),
            BenchError::Workload { name, source } => write!(f, "load {name}: {source}"),
            BenchError::Signals(error) => write!(f, "handle signals: {error}"),
            BenchError::Cpus(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BenchError::Broker(error) => Some(error),
            BenchError::Contender { source, .. } => Some(source),
            BenchError::Sweep(error) => Some(error),
            BenchError::Workload { source, .. } => Some(source),
            BenchError::Signals(error) => Some(error),
            BenchError::Cpus(error) => Some(error),
            BenchError::Letter(_) => None,
        }
    }
}

/// What was found, and whether the run was cut short by a signal.
pub struct Found {
    pub results: Results,
    pub is_interrupted: bool,
}

pub fn run(arguments: &Arguments) -> Result<Found, BenchError> {
    signals::install().map_err(BenchError::Signals)?;
    let loads = match &arguments.load.sweep {
        Some(path) => {
            let mut loads = sweep::of_file(path).map_err(BenchError::Sweep)?;
            loads.iter_mut().for_each(|(_, workload)| arguments.load.change(workload));
            loads
        }
        None => arguments.load.loads().map_err(BenchError::Letter)?,
    };
    for (name, workload) in &loads {
        let checked = workload.check();
        checked.map_err(|source| BenchError::Workload { name: name.clone(), source })?;
    }
    let cpus = Cpus::of(arguments).map_err(BenchError::Cpus)?;
    // Declared before the brokers, so that it goes after them.
    let mut directory: Option<Temporary> = None;
    let contenders = contenders(arguments, &cpus, &mut directory)?;
    let mut bench = Bench::new(arguments, &cpus, contenders, directory.as_ref().map(|d| d.path().to_owned()));
    let outcome = bench.measure(loads);
    bench.progress.finish_and_clear();
    // Those of a run that was cut short, too.
    bench.results.environment.notes = std::mem::take(&mut bench.notes).into_iter().collect();
    match outcome {
        Ok(()) => Ok(Found { results: bench.results, is_interrupted: false }),
        Err(Stop::Interrupted) => Ok(Found { results: bench.results, is_interrupted: true }),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn contenders(
    arguments: &Arguments,
    cpus: &Cpus,
    directory: &mut Option<Temporary>,
) -> Result<Vec<Contender>, BenchError> {
    let who = &arguments.who;
    let running = |name: &str, address: &str, admin: Option<String>| {
        let found = Contender::running(name, address, admin);
        found.map_err(|source| BenchError::Contender { name: name.to_owned(), source })
    };
    // Looked for first: it is soon said that it is not there.
    let against = who.against.as_ref().map(|address| running("against", address, None)).transpose()?;
    let mut temporary = || -> Result<PathBuf, BenchError> {
        if directory.is_none() {
            let parent = who.dir.clone().unwrap_or_else(std::env::temp_dir);
            *directory = Some(Temporary::new(&parent).map_err(BenchError::Broker)?);
        }
        Ok(directory.as_ref().expect("made above").path().to_owned())
    };
    let mut all = Vec::new();
    all.push(match &who.broker {
        Some(address) => running("broker", address, who.admin.clone())?,
        None => {
            let path = temporary()?;
            let server = Server::start(who.program.as_deref(), &path, &cpus.broker, &who.set);
            Contender::started("corelog", server.map_err(BenchError::Broker)?, &path)
        }
    });
    if let Some(count) = who.idle_connections {
        // First: ratios are those of the first to the others. And it goes before the broker does.
        all.insert(0, all[0].beside_idle(count as usize));
    }
    all.extend(against);
    if who.null {
        let server = Server::start_null(&temporary()?, cpus.broker[0]);
        all.push(Contender::null(server.map_err(BenchError::Broker)?));
    }
    Ok(all)
}

enum Stop {
    Interrupted,
    Failed(BenchError),
}

struct Bench<'a> {
    arguments: &'a Arguments,
    cpus: &'a Cpus,
    contenders: Vec<Contender>,
    results: Results,
    progress: ProgressBar,
    notes: BTreeSet<String>,
}

impl<'a> Bench<'a> {
    fn new(
        arguments: &'a Arguments,
        cpus: &'a Cpus,
        contenders: Vec<Contender>,
        directory: Option<PathBuf>,
    ) -> Bench<'a> {
        let host = Host::of(directory.as_deref().unwrap_or(std::path::Path::new("/")));
        let own: Vec<String> = std::env::args().skip(1).collect();
        let mut commands = vec![format!("corelog bench {}", own.join(" ")).trim_end().to_owned()];
        commands.extend(contenders.iter().filter_map(|c| c.server.as_ref()).map(|s| s.command.clone()));
        let environment = Environment {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            when: host.when_text(),
            kernel: host.kernel.clone(),
            cpus: host.cpus,
            cpu_model: host.cpu_model.clone(),
            file_system: directory.as_ref().map(|_| host.file_system.clone()),
            disk: directory.as_ref().map(|_| host.disk_text()),
            generator_cpus: cpus.generator.clone(),
            broker_cpus: cpus.broker.clone(),
            spins: cpus.spins,
            commands,
            notes: Vec::new(),
        };
        let results = Results { environment, cells: Vec::new() };
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left  {wide_msg}");
        progress.set_style(style.expect("the template is a constant that fits"));
        Bench { arguments, cpus, contenders, results, progress, notes: BTreeSet::new() }
    }

    fn timing(&self) -> Timing {
        Timing { warm_up: self.arguments.warm_up(), window: self.arguments.window() }
    }

    fn measure(&mut self, loads: Vec<Named>) -> Result<(), Stop> {
        let is_ramp = self.arguments.load.ramp;
        if !is_ramp {
            let rounds = u64::from(self.arguments.rounds());
            self.progress.set_length(loads.len() as u64 * rounds * self.contenders.len() as u64);
            self.progress.enable_steady_tick(Duration::from_millis(500));
        }
        for (name, mut workload) in loads {
            if name == "D" && workload.rate.is_none() {
                workload.rate = Some(self.half_of_c(&workload)?);
            }
            if is_ramp {
                self.ramp(&name, &workload)?;
            } else {
                self.cell(name, workload)?;
            }
        }
        Ok(())
    }

    /// All contenders in turns: A B A B.
    fn cell(&mut self, name: String, workload: Workload) -> Result<(), Stop> {
        let mut found: Vec<Contended> = self.contenders.iter().map(|c| named(&c.name)).collect();
        for _ in 0..self.arguments.rounds() {
            for (index, found) in found.iter_mut().enumerate() {
                if found.failed.is_none() {
                    self.progress.set_message(format!("{} {}: {}", name, found.name, workload.text()));
                    match self.round(index, &workload)? {
                        Ok(round) => found.rounds.push(round),
                        Err(error) => found.failed = Some(error.to_string()),
                    }
                }
                self.progress.inc(1);
            }
        }
        for (index, found) in found.iter_mut().enumerate() {
            self.conclude(index, &workload, found)?;
        }
        self.results.cells.push(Cell::new(name, workload, found, None));
        Ok(())
    }

    /// One round. An interrupt stops everything; another error is that contender's alone.
    fn round(&mut self, index: usize, workload: &Workload) -> Result<Result<Round, ContenderError>, Stop> {
        let generator = Generator { cores: &self.cpus.generator, spins: self.cpus.spins };
        let timing = self.timing();
        let round = self.contenders[index].round(workload, generator, timing);
        stopped(round)
    }

    /// What is done once after the rounds of a load: the broker's own times, the records read back, the topic removed.
    fn conclude(&mut self, index: usize, workload: &Workload, found: &mut Contended) -> Result<(), Stop> {
        let contender = &mut self.contenders[index];
        self.notes.extend(contender.notes(workload));
        if let Some(admin) = &contender.admin {
            match latency::stages(admin) {
                Ok(stages) => found.stages = stages,
                Err(why) => {
                    self.notes.insert(format!("{}: no times by stage of {admin}: {why}", contender.name));
                }
            }
        }
        if found.failed.is_none() {
            let read_back = stopped(contender.read_back(self.arguments.run.check))?;
            match read_back {
                Ok(checked) => found.read_back = checked,
                Err(error) => found.failed = Some(format!("read back: {error}")),
            }
        }
        if let Err(error) = stopped(contender.remove())? {
            self.notes.insert(format!("{}: {error}", contender.name));
        }
        Ok(())
    }

    /// The rate of load D: half of what the other broker does in C, or this one if it is alone.
    fn half_of_c(&mut self, workload: &Workload) -> Result<f64, Stop> {
        let reference = self.contenders.iter().position(|c| c.name == "against").unwrap_or(0);
        let (_, mut closed) = presets::loads('C').swap_remove(0);
        closed.durability = workload.durability;
        let name = self.contenders[reference].name.clone();
        self.progress.set_message(format!("C on {name}, for the rate of D"));
        let failed = |source| Stop::Failed(BenchError::Contender { name: name.clone(), source });
        let round = self.round(reference, &closed)?.map_err(failed)?;
        stopped(self.contenders[reference].remove())?.map_err(failed)?;
        let rate = (round.per_second / 2.0).max(1.0).round();
        self.notes
            .insert(format!("D's rate is half of the {:.0}/s that {name} reached in C", round.per_second));
        Ok(rate)
    }

    /// Rates that double until the broker falls behind, then halves of the step in which it did.
    fn ramp(&mut self, name: &str, workload: &Workload) -> Result<(), Stop> {
        let limit_us = self.arguments.load.ramp_p99_ms * 1e3;
        for index in 0..self.contenders.len() {
            let ramp =
                self.results.cells.iter().filter_map(|cell| cell.ramp).max().map_or(0, |last| last + 1);
            let mut search = Search::from(workload.rate.unwrap_or(1000.0));
            while let Some(rate) = search.next() {
                let workload = Workload { rate: Some(rate), ..workload.clone() };
                let who = self.contenders[index].name.clone();
                self.progress.set_message(format!("{name} {who}: {rate:.0}/s"));
                let mut found = named(&who);
                match self.round(index, &workload)? {
                    Ok(round) => {
                        search.saw(rate, keeps_up(&round, limit_us));
                        found.rounds.push(round);
                    }
                    Err(error) => {
                        search.saw(rate, false);
                        found.failed = Some(error.to_string());
                    }
                }
                let has_failed = found.failed.is_some();
                let cell = Cell::new(format!("{name} at {rate:.0}/s"), workload, vec![found], Some(ramp));
                self.results.cells.push(cell);
                if has_failed {
                    break;
                }
            }
            let mut last = named(&self.contenders[index].name.clone());
            self.conclude(index, workload, &mut last)?;
            let summary = match search.kept {
                Some(rate) => format!("{}: keeps up to {rate:.0} requests a second", last.name),
                None => format!("{}: does not keep up with the first rate", last.name),
            };
            self.notes.insert(summary);
            if let Some(cell) = self.results.cells.last_mut() {
                let contended = &mut cell.contenders[0];
                (contended.read_back, contended.stages) = (last.read_back, last.stages);
                contended.failed = contended.failed.take().or(last.failed);
            }
        }
        Ok(())
    }
}

fn named(name: &str) -> Contended {
    Contended { name: name.to_owned(), ..Contended::default() }
}

fn stopped<T>(found: Result<T, ContenderError>) -> Result<Result<T, ContenderError>, Stop> {
    match found {
        Err(ContenderError::Engine(EngineError::Interrupted))
        | Err(ContenderError::Topic(TopicError::Wire(WireError::Interrupted))) => Err(Stop::Interrupted),
        _ if signals::received().is_some() => Err(Stop::Interrupted),
        found => Ok(found),
    }
}
