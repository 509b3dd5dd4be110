//! The load generator: one pinned glommio executor a core, one task a connection.
//!
//! Closed loop: every connection keeps its requests in flight. Open loop: requests are due at fixed times whatever the broker
//! does, and latency counts from the time one was due, so that a stall counts for all who waited in it (no coordinated
//! omission). The cores share one clock, the edges of the window and a count of bytes; each has its own histograms, which are
//! added at the end.

mod connection;
mod meter;
mod pacer;
mod work;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use corelog_measure::clock::now_ns;
use corelog_measure::signals;
use glommio::{LocalExecutorBuilder, Placement};
use nix::errno::Errno;

use crate::wire::{Layout, WireError};
use crate::workload::{Mode, Workload};

use connection::{Connection, Inbox};
use meter::Meter;
use pacer::Watch;
use work::Work;

#[cfg(test)]
pub use meter::histogram;
pub use meter::{Outcome, Series};

/// One run of one load.
pub struct Load<'a> {
    pub workload: &'a Workload,
    pub layout: &'a Layout,
    /// CPUs of the generator.
    pub cores: &'a [usize],
    /// Whether a core looks for answers without pause instead of sleeping until one comes.
    pub spins: bool,
    pub warm_up: Duration,
    pub window: Duration,
    /// Bytes of requests after which the window ends before its time, so that a fast broker does not fill the disk.
    pub bytes_most: u64,
    /// Number of the first connection: no two that ever write to a topic have the same.
    pub connection_from: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    WindowBegins,
    WindowEnds,
}

/// Why a run has no outcome.
#[derive(Debug)]
pub enum EngineError {
    Executor {
        cpu: usize,
        text: String,
    },
    Connect {
        address: SocketAddr,
        text: String,
    },
    Exchange {
        address: SocketAddr,
        source: std::io::Error,
    },
    Closed {
        address: SocketAddr,
    },
    /// Longer than any that was asked for.
    Answer {
        address: SocketAddr,
        bytes: usize,
    },
    Frame(std::io::Error),
    Watch(Errno),
    Wire(WireError),
    /// An answer to another request than the oldest.
    Correlation {
        expected: i32,
        found: i32,
    },
    /// More leaders than connections.
    TooFewConnections {
        leaders: usize,
    },
    /// What reads the counters at the edges of the window.
    Edge(std::io::Error),
    Interrupted,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Executor { cpu, text } => write!(f, "start an executor on CPU {cpu}: {text}"),
            EngineError::Connect { address, text } => write!(f, "connect to {address}: {text}"),
            EngineError::Exchange { address, source } => write!(f, "talk to {address}: {source}"),
            EngineError::Closed { address } => write!(f, "{address} closed a connection with requests on it"),
            EngineError::Answer { address, bytes } => {
                write!(f, "{address} announces an answer of {bytes} bytes; does it speak Kafka's protocol?")
            }
            EngineError::Frame(source) => write!(f, "make a request: {source}"),
            EngineError::Watch(error) => write!(f, "watch a connection: {error}"),
            EngineError::Wire(error) => error.fmt(f),
            EngineError::Correlation { expected, found } => {
                write!(f, "an answer with correlation id {found} where {expected} was to come")
            }
            EngineError::TooFewConnections { leaders } => {
                write!(f, "the partitions have {leaders} leaders: as many connections, at least")
            }
            EngineError::Edge(source) => write!(f, "read the host's counters: {source}"),
            EngineError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Exchange { source, .. } | EngineError::Frame(source) | EngineError::Edge(source) => {
                Some(source)
            }
            EngineError::Wire(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WireError> for EngineError {
    fn from(error: WireError) -> EngineError {
        EngineError::Wire(error)
    }
}

/// What all cores see.
struct Control {
    /// 0: not yet.
    start_ns: AtomicU64,
    begin_ns: AtomicU64,
    end_ns: AtomicU64,
    aborted: AtomicBool,
    /// Producers with nothing left to send or to hear, and all of them.
    producers_done: AtomicU64,
    producers: u64,
    bytes_sent: AtomicU64,
    bytes_most: u64,
}

impl Control {
    // Relaxed throughout: each word stands for itself, and being some microseconds late at an edge moves no figure.
    fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    fn begin_ns(&self) -> u64 {
        self.begin_ns.load(Ordering::Relaxed)
    }

    fn end_ns(&self) -> u64 {
        self.end_ns.load(Ordering::Relaxed)
    }

    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    fn are_producers_done(&self) -> bool {
        self.producers_done.load(Ordering::Relaxed) >= self.producers
    }

    /// Counts bytes of requests; at the bound the window ends.
    fn sent(&self, bytes: u64) {
        let before = self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        if before < self.bytes_most && before + bytes >= self.bytes_most {
            self.end_ns.fetch_min(now_ns(), Ordering::Relaxed);
        }
    }
}

/// What one connection is for.
#[derive(Clone, Debug)]
struct Plan {
    /// Over all cores.
    number: usize,
    address: SocketAddr,
    role: Role,
    partitions: Vec<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Produce,
    Echo,
    /// Over what is there, from the start again and again.
    Backlog,
    /// What is new.
    Tail,
}

/// Which connection speaks to which leader about which partitions.
fn plans(workload: &Workload, layout: &Layout) -> Result<Vec<Plan>, EngineError> {
    let leaders = layout.leaders.len();
    let (first, second) = match workload.mode {
        Mode::Produce => (Role::Produce, None),
        Mode::Echo => (Role::Echo, None),
        Mode::Fetch => (Role::Backlog, None),
        Mode::EndToEnd => (Role::Produce, Some(Role::Tail)),
        Mode::Mixed => (Role::Produce, Some(Role::Backlog)),
    };
    let mut plans = Vec::new();
    let mut add = |role: Role, count: usize| {
        if count < leaders && role != Role::Echo {
            return Err(EngineError::TooFewConnections { leaders });
        }
        for index in 0..count {
            let (address, owned) = &layout.leaders[index % leaders];
            // Those who read share the partitions out; who writes, writes to all.
            let (rank, ranks) = (index / leaders, (count + leaders - 1 - index % leaders) / leaders);
            let mine = |at: &usize| matches!(role, Role::Produce | Role::Echo) || at % ranks == rank;
            let partitions = (0..owned.len()).filter(mine).map(|at| owned[at]).collect();
            plans.push(Plan { number: plans.len(), address: *address, role, partitions });
        }
        Ok(())
    };
    add(first, workload.connections)?;
    if let Some(second) = second {
        add(second, workload.consumers)?;
    }
    // More readers than partitions: the rest has nothing to do.
    plans.retain(|plan| !plan.partitions.is_empty() || plan.role == Role::Echo);
    Ok(plans)
}

/// How long after the window answers are waited for.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the load: warm-up, window, and until every request has its answer or 30 s are over. `edge` is called at both ends of
/// the window.
pub fn run(
    load: &Load,
    edge: &mut dyn FnMut(Edge) -> Result<(), std::io::Error>,
) -> Result<Outcome, EngineError> {
    let plans = plans(load.workload, load.layout)?;
    let producers = plans.iter().filter(|plan| plan.role == Role::Produce).count();
    let control = Arc::new(Control {
        start_ns: AtomicU64::new(0),
        begin_ns: AtomicU64::new(u64::MAX),
        end_ns: AtomicU64::new(u64::MAX),
        aborted: AtomicBool::new(false),
        producers_done: AtomicU64::new(0),
        producers: producers as u64,
        bytes_sent: AtomicU64::new(0),
        bytes_most: load.bytes_most,
    });
    let (ready, is_ready) = mpsc::channel::<()>();
    let mut cores = Vec::new();
    for (index, cpu) in load.cores.iter().copied().enumerate() {
        let plans: Vec<Plan> =
            plans.iter().filter(|plan| plan.number % load.cores.len() == index).cloned().collect();
        let core = Core {
            control: Arc::clone(&control),
            workload: load.workload.clone(),
            topic: load.layout.topic.clone(),
            topic_partitions: load.layout.partitions,
            connection_from: load.connection_from,
            connections: load.workload.connections,
            spins: load.spins,
            plans,
        };
        let ready = ready.clone();
        let handle = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name("load")
            // Nothing here reads files: the least that there is.
            .io_memory(64 << 10)
            .ring_depth(512)
            .spawn(move || core.run(ready));
        let handle = handle.map_err(|error| EngineError::Executor { cpu, text: error.to_string() });
        match handle {
            Ok(handle) => cores.push((cpu, handle)),
            Err(error) => {
                control.aborted.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
    }
    drop(ready);
    // An executor that fails drops its end unsent; its error is found when it is joined.
    let are_ready = cores.iter().filter(|_| is_ready.recv().is_ok()).count() == cores.len();
    let edges = if are_ready { conduct(load, &control, edge) } else { Ok(()) };
    if edges.is_err() || !are_ready {
        control.aborted.store(true, Ordering::Relaxed);
    }
    let mut meters = Vec::new();
    let mut failed = None;
    for (cpu, handle) in cores {
        match handle.join() {
            Ok(Ok(meter)) => meters.push(meter),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(error) => failed = failed.or(Some(EngineError::Executor { cpu, text: error.to_string() })),
        }
    }
    if signals::received().is_some() {
        return Err(EngineError::Interrupted);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    edges?;
    let (begin, end) = (control.begin_ns(), control.end_ns());
    let due = load.workload.rate.map(|rate| pacer::due_between(rate, control.start_ns(), begin, end));
    Ok(Outcome::of(meters, begin, end, due, control.bytes_sent.load(Ordering::Relaxed) >= load.bytes_most))
}

/// Sets the edges, waits for them, and tells.
fn conduct(
    load: &Load,
    control: &Control,
    edge: &mut dyn FnMut(Edge) -> Result<(), std::io::Error>,
) -> Result<(), EngineError> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
    let start = now_ns() + 2_000_000;
    let begin = start + nanoseconds(load.warm_up);
    control.begin_ns.store(begin, Ordering::Relaxed);
    control.end_ns.store(begin + nanoseconds(load.window), Ordering::Relaxed);
    control.start_ns.store(start, Ordering::Relaxed);
    for which in [Edge::WindowBegins, Edge::WindowEnds] {
        loop {
            let at = if which == Edge::WindowBegins { begin.min(control.end_ns()) } else { control.end_ns() };
            let now = now_ns();
            if now >= at {
                break;
            }
            if signals::received().is_some() {
                control.aborted.store(true, Ordering::Relaxed);
                return Err(EngineError::Interrupted);
            }
            if control.is_aborted() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_nanos((at - now).min(5_000_000)));
        }
        edge(which).map_err(EngineError::Edge)?;
        if which == Edge::WindowBegins && control.end_ns() <= begin {
            // The bytes were used up in the warm-up: what there was of it is the window.
            control.begin_ns.store(start, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// What one executor needs; sent to its thread.
struct Core {
    control: Arc<Control>,
    workload: Workload,
    topic: String,
    topic_partitions: i32,
    connection_from: u32,
    /// Of those that are paced, over all cores.
    connections: usize,
    spins: bool,
    plans: Vec<Plan>,
}

/// What the tasks of one executor share.
struct Shared {
    control: Arc<Control>,
    workload: Workload,
    topic: String,
    meter: std::cell::RefCell<Meter>,
    /// A connection stopped in the middle of its work to let others have their turn.
    has_more: std::cell::Cell<bool>,
    /// Why the core sees and hears nothing any more.
    watch_failed: std::cell::Cell<Option<EngineError>>,
}

impl Core {
    async fn run(self, ready: mpsc::Sender<()>) -> Result<Meter, EngineError> {
        // Where it cannot be told, sleeps only end a little later.
        let _ = nix::sys::prctl::set_timerslack(1);
        let control = Arc::clone(&self.control);
        let outcome = self.drive(ready).await;
        if outcome.is_err() {
            control.aborted.store(true, Ordering::Relaxed);
        }
        outcome
    }

    async fn drive(self, ready: mpsc::Sender<()>) -> Result<Meter, EngineError> {
        let Core { control, workload, topic, topic_partitions, connection_from, connections, spins, plans } =
            self;
        let is_open = workload.rate.is_some();
        let meter = std::cell::RefCell::new(Meter::new(topic_partitions, is_open));
        let (has_more, watch_failed) = (std::cell::Cell::new(false), std::cell::Cell::new(None));
        let shared = Rc::new(Shared { control, workload, topic, meter, has_more, watch_failed });
        let frames = work::Frames::new(&shared.workload, &shared.topic).map_err(EngineError::Frame)?;
        let frames = Rc::new(frames);
        let watch = Watch::new(spins).map_err(EngineError::Watch)?;
        let mut tasks = Vec::new();
        let mut inboxes = Vec::new();
        for plan in plans {
            let work = Work::new(&plan, &shared, Rc::clone(&frames), topic_partitions, connection_from);
            let inbox = Rc::new(Inbox::default());
            let is_paced = is_open && plan.number < connections;
            inboxes.push((is_paced.then_some(plan.number), Rc::clone(&inbox)));
            let place = inboxes.len() as u64 - 1;
            tasks.push(
                Connection::open(plan.address, work, inbox, Rc::clone(&shared), is_paced, (&watch, place))
                    .await?,
            );
        }
        // The other end is gone only if the run was given up.
        let _ = ready.send(());
        while shared.control.start_ns() == 0 {
            if shared.control.is_aborted() {
                return Err(EngineError::Interrupted);
            }
            glommio::timer::sleep(Duration::from_micros(200)).await;
        }
        let keeper = pacer::keep(Rc::clone(&shared), inboxes, connections, watch);
        let keeper = glommio::spawn_local(keeper).detach();
        let tasks: Vec<_> = tasks.into_iter().map(|task| glommio::spawn_local(task.run()).detach()).collect();
        let mut failed = None;
        for task in tasks {
            match task.await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    shared.control.aborted.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
                None => failed = failed.or(Some(EngineError::Interrupted)),
            }
        }
        keeper.cancel();
        match shared.watch_failed.take().or(failed) {
            Some(error) => Err(error),
            None => Ok(shared.meter.replace(Meter::new(0, is_open))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(leaders: &[&[i32]]) -> Layout {
        let leader = |(index, owned): (usize, &&[i32])| {
            (SocketAddr::from(([127, 0, 0, 1], 9000 + index as u16)), owned.to_vec())
        };
        let partitions = leaders.iter().map(|owned| owned.len()).sum::<usize>() as i32;
        Layout {
            topic: "t".to_owned(),
            partitions,
            leaders: leaders.iter().enumerate().map(leader).collect(),
        }
    }

    #[test]
    fn every_partition_is_written_to_and_read_once() {
        let check = |mode, connections, consumers, leaders: &[&[i32]]| {
            let workload = Workload { mode, connections, consumers, ..Workload::default() };
            let layout = layout(leaders);
            let plans = plans(&workload, &layout).unwrap();
            let of = |role: Role| plans.iter().filter(move |plan| plan.role == role);
            let all: Vec<i32> = (0..layout.partitions).collect();
            for role in [Role::Produce, Role::Backlog, Role::Tail] {
                let mut seen: Vec<i32> = of(role).flat_map(|plan| plan.partitions.clone()).collect();
                if seen.is_empty() {
                    continue;
                }
                seen.sort_unstable();
                if role == Role::Produce {
                    seen.dedup();
                }
                assert_eq!(seen, all, "{role:?}");
                for plan in of(role) {
                    let (_, owned) =
                        layout.leaders.iter().find(|(address, _)| *address == plan.address).unwrap();
                    assert!(plan.partitions.iter().all(|partition| owned.contains(partition)), "{plan:?}");
                }
            }
        };
        check(Mode::Produce, 1, 1, &[&[0, 1, 2]]);
        check(Mode::Produce, 5, 1, &[&[0, 2], &[1]]);
        check(Mode::Fetch, 4, 1, &[&[0, 1, 2, 3, 4, 5, 6]]);
        check(Mode::Fetch, 5, 1, &[&[0, 2, 4], &[1, 3]]);
        check(Mode::Fetch, 9, 1, &[&[0, 1]]);
        check(Mode::EndToEnd, 3, 2, &[&[0, 1], &[2]]);
        check(Mode::Mixed, 2, 2, &[&[0, 1, 2]]);
        let workload = Workload { connections: 1, ..Workload::default() };
        let refused = plans(&workload, &layout(&[&[0], &[1]]));
        assert!(matches!(refused, Err(EngineError::TooFewConnections { leaders: 2 })));
    }
}
