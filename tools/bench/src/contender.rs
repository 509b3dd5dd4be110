//! A broker in the comparison: where it is, what it costs the host, and the topic that it has for a load.

use std::net::SocketAddr;
use std::time::Duration;

use crate::broker::Server;
use crate::engine::{self, Edge, EngineError, Load};
use crate::idle::{IdleConnections, IdleError};
use crate::null;
use crate::outcome::Round;
use crate::server::Process;
use crate::topic::Topic;
use crate::wire::{Admin, Checked, Layout, TopicError, error_text};
use crate::workload::{Compression, Durability, Keys, Mode, Workload, WritePath};

/// What kind of broker it is, as far as its topic settings go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    Unknown,
    Corelog,
    Kafka,
    Null,
}

pub struct Contender {
    pub name: String,
    pub address: String,
    pub admin: Option<String>,
    pub process: Option<Process>,
    /// Ours to end.
    pub server: Option<Server>,
    dialect: Dialect,
    topic: Option<Topic>,
    topics_made: u32,
    /// Connections that do nothing, beside each round.
    idle: usize,
    /// Of the broker, for each of them, when they were there for the first time: later ones take the memory of earlier ones.
    idle_bytes: Option<f64>,
}

/// A topic that holds more is made anew before the next round, so that the disk does not fill up.
const TOPIC_BYTES_MOST: u64 = 2 << 30;

/// How a round is run.
#[derive(Clone, Copy)]
pub struct Timing {
    pub warm_up: Duration,
    pub window: Duration,
}

/// CPUs of the generator, and whether it spins on them.
#[derive(Clone, Copy)]
pub struct Generator<'a> {
    pub cores: &'a [usize],
    pub spins: bool,
}

/// Why a contender has no figures.
#[derive(Debug)]
pub enum ContenderError {
    Topic(TopicError),
    Engine(EngineError),
    Idle(IdleError),
    /// `syncfs` of the file system that it writes to.
    Settle(std::io::Error),
    /// A partition of a new topic is not served within a minute.
    NotServed {
        partition: i32,
        code: i16,
    },
}

impl std::fmt::Display for ContenderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ContenderError::Topic(error) => error.fmt(f),
            ContenderError::Engine(error) => error.fmt(f),
            ContenderError::Idle(error) => error.fmt(f),
            ContenderError::Settle(source) => write!(f, "write back what the last round left: {source}"),
            ContenderError::NotServed { partition, code } => {
                write!(
                    f,
                    "partition {partition} of a new topic answers with {} for a minute",
                    error_text(*code)
                )
            }
        }
    }
}

impl std::error::Error for ContenderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ContenderError::Topic(error) => Some(error),
            ContenderError::Engine(error) => Some(error),
            ContenderError::Idle(error) => Some(error),
            ContenderError::Settle(source) => Some(source),
            ContenderError::NotServed { .. } => None,
        }
    }
}

impl<E: Into<TopicError>> From<E> for ContenderError {
    fn from(error: E) -> ContenderError {
        ContenderError::Topic(error.into())
    }
}

impl From<IdleError> for ContenderError {
    fn from(error: IdleError) -> ContenderError {
        ContenderError::Idle(error)
    }
}

impl From<EngineError> for ContenderError {
    fn from(error: EngineError) -> ContenderError {
        ContenderError::Engine(error)
    }
}

impl Contender {
    pub fn running(name: &str, address: &str, admin: Option<String>) -> Result<Contender, ContenderError> {
        let resolved = Admin::connect(address)?.address();
        let process = Process::listening(resolved);
        Ok(Contender::new(name, address, admin, process, None, Dialect::Unknown))
    }

    pub fn started(name: &str, server: Server, directory: &std::path::Path) -> Contender {
        let process = Process::of(server.pid(), Some(directory.to_owned()));
        let (address, admin) = (server.address.clone(), server.admin.clone());
        Contender::new(name, &address, admin, Some(process), Some(server), Dialect::Unknown)
    }

    pub fn null(server: Server) -> Contender {
        let process = Process::of(server.pid(), None);
        let address = server.address.clone();
        Contender::new("null", &address, None, Some(process), Some(server), Dialect::Null)
    }

    fn new(
        name: &str,
        address: &str,
        admin: Option<String>,
        process: Option<Process>,
        server: Option<Server>,
        dialect: Dialect,
    ) -> Contender {
        let (name, address) = (name.to_owned(), address.to_owned());
        Contender {
            name,
            address,
            admin,
            process,
            server,
            dialect,
            topic: None,
            topics_made: 0,
            idle: 0,
            idle_bytes: None,
        }
    }

    /// The same broker once more, with idle connections beside its load.
    pub fn beside_idle(&self, count: usize) -> Contender {
        let process =
            self.process.as_ref().map(|process| Process::of(process.pid, process.directory.clone()));
        let name = format!("{} + {count} idle", self.name);
        let mut again = Contender::new(&name, &self.address, self.admin.clone(), process, None, self.dialect);
        again.idle = count;
        again
    }

    fn open_idle(&mut self) -> Result<Option<IdleConnections>, ContenderError> {
        if self.idle == 0 {
            return Ok(None);
        }
        let resident = |process: &Option<Process>| process.as_ref().map(Process::resident_mib);
        let before = resident(&self.process);
        let opened = IdleConnections::open(&self.address, self.idle)?;
        let more = before.zip(resident(&self.process)).map(|(before, after)| after - before);
        self.idle_bytes = self.idle_bytes.or(more.map(|mib| mib * f64::from(1 << 20) / self.idle as f64));
        Ok(Some(opened))
    }

    pub fn is_null(&self) -> bool {
        self.dialect == Dialect::Null
    }

    /// One round of a load, on a topic that is made if it is not there.
    pub fn round(
        &mut self,
        workload: &Workload,
        generator: Generator,
        timing: Timing,
    ) -> Result<Round, ContenderError> {
        let _idle = self.open_idle()?;
        if workload.mode == Mode::Echo {
            let address: SocketAddr = Admin::connect(&self.address)?.address();
            let layout = Layout { topic: String::new(), partitions: 0, leaders: vec![(address, Vec::new())] };
            return self.load(workload, &layout, generator, timing, 0, u64::MAX).map(|(round, _)| round);
        }
        self.prepare(workload, generator)?;
        self.settle()?;
        let topic = self.topic.take().expect("made by prepare");
        let from = topic.connections_used;
        let found = self.load(workload, &topic.layout, generator, timing, from, self.bytes_most());
        if workload.is_writing() {
            self.settle()?;
        }
        let topic = self.topic.insert(topic);
        topic.connections_used += workload.connections as u32;
        match found {
            Ok((round, acknowledged)) => {
                topic.note(&acknowledged, workload);
                topic.is_uncertain |= round.unanswered > 0 || round.errors.wrong_count > 0;
                Ok(round)
            }
            Err(error) => {
                topic.is_uncertain = true;
                Err(error)
            }
        }
    }

    fn settle(&self) -> Result<(), ContenderError> {
        self.process.as_ref().map_or(Ok(()), Process::settle).map_err(ContenderError::Settle)
    }

    /// What may be sent before the disk has too little left for what else lies there: a third of what is free, for a journal
    /// holds for a while what the log has as well.
    fn bytes_most(&self) -> u64 {
        self.process.as_ref().and_then(Process::free_bytes).map_or(u64::MAX, |free| free / 3)
    }

    fn load(
        &self,
        workload: &Workload,
        layout: &Layout,
        generator: Generator,
        timing: Timing,
        connection_from: u32,
        bytes_most: u64,
    ) -> Result<(Round, Vec<u64>), ContenderError> {
        let load = Load {
            workload,
            layout,
            cores: generator.cores,
            spins: generator.spins,
            warm_up: timing.warm_up,
            window: timing.window,
            bytes_most,
            connection_from,
        };
        let (mut begin, mut end) = (None, None);
        let mut edge = |edge| {
            let reading = self.process.as_ref().map(Process::read).transpose()?;
            match edge {
                Edge::WindowBegins => begin = reading,
                Edge::WindowEnds => end = reading,
            }
            Ok(())
        };
        let outcome = engine::run(&load, &mut edge)?;
        let acknowledged = outcome.tally.acknowledged.clone();
        let mut round = Round::of(workload.mode, outcome, None);
        if let (Some(process), Some(begin), Some(end)) = (&self.process, &begin, &end) {
            round.cost = Some(process.cost(begin, end, round.seconds, round.answers));
        }
        Ok((round, acknowledged))
    }

    /// Makes the topic of a load, or keeps the one that is there for it.
    fn prepare(&mut self, workload: &Workload, generator: Generator) -> Result<(), ContenderError> {
        if let Some(topic) = &self.topic {
            if topic.serves(workload) && (!workload.is_writing() || topic.sent_bytes < TOPIC_BYTES_MOST) {
                return Ok(());
            }
            self.remove()?;
        }
        self.topics_made += 1;
        // One broker may be measured twice, in turns.
        let beside = if self.idle > 0 { "-idle" } else { "" };
        let name = format!("corelog-bench-{}-{}{beside}", std::process::id(), self.topics_made);
        let mut admin = Admin::connect(&self.address)?;
        self.create(&mut admin, &name, workload)?;
        // From here on it is there to be removed, whatever happens.
        let topic = self.topic.insert(Topic::new(name.clone(), workload));
        topic.layout = admin.layout(&name, workload.partitions)?;
        topic.wait_until_served()?;
        if matches!(workload.mode, Mode::Fetch | Mode::Mixed) {
            self.fill(workload, generator)?;
        }
        Ok(())
    }

    fn create(&mut self, admin: &mut Admin, name: &str, workload: &Workload) -> Result<(), ContenderError> {
        let own = || {
            let mut settings = vec![("durability", workload.durability.name())];
            if workload.write_path != WritePath::Auto {
                settings.push(("write.path", workload.write_path.name()));
            }
            settings
        };
        let kafka: Vec<(&str, &str)> = workload.durability.kafka_setting().into_iter().collect();
        let partitions = workload.partitions;
        let is_read = workload.mode != Mode::Produce;
        match self.dialect {
            Dialect::Null if is_read => admin.create(name, partitions, &[(null::KEEP, "true")])?,
            Dialect::Null => admin.create(name, partitions, &[])?,
            Dialect::Corelog => admin.create(name, partitions, &own())?,
            Dialect::Kafka => admin.create(name, partitions, &kafka)?,
            Dialect::Unknown => {
                // Whose settings it takes is who it is; a setting of ours that it does not know is told by the second try.
                let only_durability = [("durability", workload.durability.name())];
                match admin.create(name, partitions, &only_durability) {
                    Ok(()) => {
                        self.dialect = Dialect::Corelog;
                        if own().len() > 1 {
                            admin.delete(name)?;
                            admin.create(name, partitions, &own())?;
                        }
                    }
                    Err(error) if error.is_about_settings() => {
                        admin.create(name, partitions, &kafka)?;
                        self.dialect = Dialect::Kafka;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Writes what fetches are to bring, with nobody timing it.
    fn fill(&mut self, workload: &Workload, generator: Generator) -> Result<(), ContenderError> {
        let filling = Workload {
            mode: Mode::Produce,
            connections: workload.connections.max(4),
            in_flight: 4,
            rate: None,
            keys: Keys::None,
            acks: -1,
            ..workload.clone()
        };
        let hour = Duration::from_secs(3600);
        let timing = Timing { warm_up: Duration::ZERO, window: hour };
        let topic = self.topic.take().expect("the caller has made it");
        // What a null responder keeps is soon there.
        let bytes = if self.is_null() { workload.fill_bytes.min(64 << 20) } else { workload.fill_bytes };
        let bytes = bytes.min(self.bytes_most());
        let filled = self.load(&filling, &topic.layout, generator, timing, topic.connections_used, bytes);
        let topic = self.topic.insert(topic);
        topic.connections_used += filling.connections as u32;
        let (_, acknowledged) = filled?;
        topic.note(&acknowledged, &filling);
        Ok(())
    }

    /// Reads back the beginning of each partition, `bytes_most` in all, and holds the logs' ends against what was
    /// acknowledged. None: nothing of ours to be read.
    pub fn read_back(&mut self, bytes_most: u64) -> Result<Option<Checked>, ContenderError> {
        let Some(topic) = &self.topic else { return Ok(None) };
        if self.is_null() || bytes_most == 0 || !topic.workload.is_writing() || topic.workload.acks == 0 {
            return Ok(None);
        }
        topic.read_back(bytes_most).map(Some)
    }

    /// Removes the topic, if there is one.
    pub fn remove(&mut self) -> Result<(), ContenderError> {
        match self.topic.take() {
            Some(topic) => Ok(Admin::connect(&self.address)?.delete(&topic.layout.topic)?),
            None => Ok(()),
        }
    }

    /// What to know about its figures: whose settings its topic has, and what cannot be told.
    pub fn notes(&self, workload: &Workload) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(bytes) = self.idle_bytes {
            notes.push(format!("{}: {bytes:.0} bytes of its memory for each idle connection", self.name));
        }
        if self.dialect == Dialect::Kafka && workload.is_writing() {
            let settings = match workload.durability.kafka_setting() {
                Some((name, value)) => format!("{name}={value}"),
                None => "no flush settings".to_owned(),
            };
            notes.push(format!(
                "{}: topics of durability {} were made with {settings}: this broker does not know the setting",
                self.name,
                workload.durability.name()
            ));
        }
        match &self.process {
            None => {
                notes.push(format!("{}: not a process of this host, so no CPU, memory or disk", self.name))
            }
            Some(process) if !self.is_null() => {
                notes.extend(
                    process.untold.as_ref().map(|why| format!("{}: no disk counters: {why}", self.name)),
                );
            }
            Some(_) => {}
        }
        if workload.compression != Compression::None && workload.is_writing() {
            notes.push(
                "packed batches are all alike: read back by CRC and contents, without their order".to_owned(),
            );
        }
        if workload.durability == Durability::Fsync
            && let Some(process) = &self.process
            && let Some(directory) = process.directory.as_ref().filter(|_| !self.is_null())
            && corelog_measure::host::Host::of(directory).is_in_memory()
        {
            notes.push(format!(
                "{}: its data lies in memory, where fsync costs and promises nothing",
                self.name
            ));
        }
        notes
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // What goes with its broker need not be removed from it.
        if self.server.is_none()
            && let Err(error) = self.remove()
        {
            eprintln!("corelog-bench: a topic stays on {}: {error}", self.address);
        }
    }
}
