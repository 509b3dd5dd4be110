//! The control thread: what a broker does beside moving records.
//!
//! *Owns* the admin HTTP server (`admin`), the history of latencies (`latency`), the log's lines of figures (`figures`), signals
//! and the log's writer (`logging`). *Never* touches a shard's state: it reads the shards' [`ShardMetrics`] words, and asks for a
//! report by message. Called by `main`, in this order:
//!
//! 1. [`Control::start`]: from here on there are a log, `/health` says `starting`, and signals are noted.
//! 2. `main` boots the shards; they log through [`Control::logger`], and recovery tells its progress there.
//! 3. [`Control::ready`]: `/health` says `ready`, `/state` and `/metrics` show the shards.
//! 4. [`Control::wait_for_stop`]: sleeps until a signal, or until a shard gives up through [`Control::stopper`].
//! 5. `main` stops the shards, then [`Control::finish`].

mod admin;
mod figures;
mod latency;
mod logging;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::{Address, Config, Overrides};
use crate::metrics::{AskShard, Series, ShardMetrics, snapshot};
use crate::model::{BrokerId, ShardId};
use crate::trace::{Level, LogLine, Logger, log_channel};
use figures::{FIGURES_INTERVAL, Figures};
use latency::{History, SNAPSHOT_INTERVAL};

/// Log lines under way from all threads together.
const LOG_LINES_MAX: usize = 8192;
/// How long a stopping process waits for its last log lines.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

/// What `/health` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Health {
    Starting,
    Ready,
    Stopping,
}

impl Health {
    pub fn name(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Ready => "ready",
            Health::Stopping => "stopping",
        }
    }
}

/// Why the broker stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    Signal(&'static str),
    /// A shard met a failure that it must not survive, and has logged it.
    Failure,
}

/// A running broker as the control thread shows it.
pub struct Broker {
    pub cluster_id: String,
    pub node_id: i32,
    /// Where it listens for Kafka clients.
    pub kafka: SocketAddr,
    /// The endpoints that clients see as brokers of their own; none if they see one.
    pub endpoints: Vec<ServedEndpoint>,
    /// One a shard, in order.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// One a shard, in order.
    pub ask_shards: Vec<AskShard>,
}

/// An endpoint of its own to clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedEndpoint {
    pub broker: BrokerId,
    /// Where it listens.
    pub kafka: SocketAddr,
    /// Who serves its clients.
    pub shards: Vec<ShardId>,
}

/// What the control thread and its owner both see.
struct Shared {
    health: AtomicU8,
    started: Instant,
    broker: OnceLock<Broker>,
    settings: Overrides,
    /// For the tasks of the control thread.
    history: Mutex<History>,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("a panic on any thread ends the process")
    }

    fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Starting,
            1 => Health::Ready,
            _ => Health::Stopping,
        }
    }

    fn metrics(&self) -> &[Arc<ShardMetrics>] {
        self.broker.get().map_or(&[], |broker| &broker.metrics)
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What came in the last `window`, and how long that is in truth.
    #[allow(clippy::disallowed_methods, reason = "the control room has its own clock")]
    fn last(&self, window: Duration) -> (Vec<Series>, Duration) {
        self.history().last(window, Instant::now(), self.started, &snapshot(self.metrics()))
    }

    #[allow(clippy::disallowed_methods, reason = "the control room has its own clock")]
    fn latency(&self) -> serde_json::Value {
        latency::page(&self.history(), Instant::now(), self.started, self.metrics())
    }
}

/// Why the control thread cannot start.
#[derive(Debug)]
pub enum ControlError {
    Admin { address: Address, source: io::Error },
    Start { what: &'static str, source: io::Error },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Admin { address, source } => {
                write!(
                    f,
                    "{}",
                    ListenError { address: address.clone(), option: "--admin", source: source.kind() }
                )
            }
            ControlError::Start { what, source } => {
                write!(f, "cannot start {what}: {source}; look at the process's limits")
            }
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ControlError::Admin { source, .. } | ControlError::Start { source, .. } => Some(source),
        }
    }
}

/// Why an address cannot be listened on, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenError {
    pub address: Address,
    /// The option that names another.
    pub option: &'static str,
    pub source: io::ErrorKind,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, option, source } = self;
        match source {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use by another process; stop it (`ss -ltnp` names it), or choose another {option}"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "this user may not listen on {address}; choose a port above 1023 with {option}")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "{address} is no address of this machine; choose another {option} (`ip address` lists them)"
                )
            }
            other => write!(f, "cannot listen on {address}: {other}; choose another {option}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// Lets a shard stop the whole broker. Cheap to clone.
#[derive(Clone)]
pub struct Stopper(Sender<StopReason>);

impl Stopper {
    pub fn stop(&self, reason: StopReason) {
        // Nobody listens any more: the broker is stopping.
        let _ = self.0.send(reason);
    }
}

/// `main`'s hold on the control thread.
pub struct Control {
    shared: Arc<Shared>,
    logger: Logger,
    admin: SocketAddr,
    stop: Receiver<StopReason>,
    stopper: Stopper,
    finish: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts log, signals and admin server.
    #[allow(
        clippy::disallowed_methods,
        reason = "the control room has its own clock and makes its own threads"
    )]
    pub fn start(config: &Config) -> Result<Control, ControlError> {
        let start = |what| move |source| ControlError::Start { what, source };
        let (logger, lines) = log_channel(LOG_LINES_MAX, Level::of_setting(&config.logging_level));
        logging::start(lines).map_err(start("the log's thread"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(start("the control thread's runtime"))?;
        let address = &config.admin_listen;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((address.host.as_str(), address.port)))
            .map_err(|source| ControlError::Admin { address: address.clone(), source })?;
        let admin = listener
            .local_addr()
            .map_err(|source| ControlError::Admin { address: address.clone(), source })?;
        let signals = {
            let _inside = runtime.enter();
            signals::Signals::take().map_err(start("signal handling"))?
        };
        let shared = Arc::new(Shared {
            health: AtomicU8::new(Health::Starting as u8),
            started: Instant::now(),
            broker: OnceLock::new(),
            settings: config.explicit.clone(),
            history: Mutex::default(),
        });
        let (sender, stop) = channel();
        let (finish, finished) = tokio::sync::oneshot::channel();
        let task = run(listener, signals, finished, sender.clone(), Arc::clone(&shared), logger.clone());
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || runtime.block_on(task))
            .map_err(start("the control thread"))?;
        Ok(Control { shared, logger, admin, stop, stopper: Stopper(sender), finish, thread })
    }

    /// The way to the log; every thread takes a clone.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// For shards that must not go on.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Where the admin server listens; the port is the kernel's choice if the setting leaves it open.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The broker serves.
    pub fn ready(&self, broker: Broker) {
        assert!(self.shared.broker.set(broker).is_ok(), "a broker becomes ready once");
        self.set_health(Health::Ready);
    }

    /// Sleeps until the broker is to stop. `/health` says so from then on.
    pub fn wait_for_stop(&self) -> StopReason {
        let reason = self.stop.recv().expect("this Control holds a sender itself");
        self.set_health(Health::Stopping);
        reason
    }

    /// Whether a stop has been asked for; for long steps before the broker is ready.
    pub fn stop_requested(&self) -> Option<StopReason> {
        let reason = self.stop.try_recv().ok()?;
        self.set_health(Health::Stopping);
        Some(reason)
    }

    /// After the shards have stopped: logs the totals, ends the admin server, writes the last lines.
    pub fn finish(self) {
        if let Some(line) = figures::totals(self.shared.metrics()) {
            self.logger.log(line);
        }
        // The thread ends by itself if it is no longer listening.
        let _ = self.finish.send(());
        self.thread.join().expect("a panic on any thread ends the process");
        self.logger.flush(LAST_LINES_WAIT);
    }

    fn set_health(&self, health: Health) {
        self.shared.health.store(health as u8, Ordering::Relaxed);
    }
}

/// The control thread's one task.
async fn run(
    listener: tokio::net::TcpListener,
    signals: signals::Signals,
    finished: tokio::sync::oneshot::Receiver<()>,
    stop: Sender<StopReason>,
    shared: Arc<Shared>,
    logger: Logger,
) {
    let serve = async {
        if let Err(error) = admin::serve(listener, Arc::clone(&shared)).await {
            logger.log(
                LogLine::new(Level::Error, "control", "admin server ended").with("cause", Arc::new(error)),
            );
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve => {}
        () = signals.watch(stop, logger.clone()) => {}
        () = tell_figures(&shared, &logger) => {}
        () = keep_history(&shared) => {}
        // An error means that `main` has gone without a word: end as well.
        _ = finished => {}
    }
}

/// Takes the snapshots that windows are made of.
#[allow(clippy::disallowed_methods, reason = "the control room has its own clock")]
async fn keep_history(shared: &Shared) {
    let mut interval = tokio::time::interval(SNAPSHOT_INTERVAL);
    // A machine that stood still is no reason for several snapshots of one moment.
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if shared.broker.get().is_some() {
            shared.history().note(Instant::now(), shared.metrics());
        }
    }
}

/// One line a minute, if there was traffic in it.
async fn tell_figures(shared: &Shared, logger: &Logger) {
    let mut interval = tokio::time::interval(FIGURES_INTERVAL);
    let mut figures = Figures::default();
    loop {
        interval.tick().await;
        if let Some(line) = figures.line(shared.metrics(), || shared.last(FIGURES_INTERVAL).0) {
            logger.log(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_errors_name_the_remedy() {
        let check = |source, expected: &str| {
            let address = Address { host: "127.0.0.1".to_owned(), port: 9092 };
            let text = ListenError { address, option: "--listen", source }.to_string();
            assert!(
                text.contains("127.0.0.1:9092") && text.contains(expected) && text.contains("--listen"),
                "{text}"
            );
        };
        check(io::ErrorKind::AddrInUse, "ss -ltnp");
        check(io::ErrorKind::PermissionDenied, "above 1023");
        check(io::ErrorKind::AddrNotAvailable, "ip address");
        check(io::ErrorKind::OutOfMemory, "out of memory");
    }
}
