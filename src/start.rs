//! `corelog start`: from a configuration to shards that serve, and back.

mod addresses;
mod directories;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corelog::config::{Address, Config};
use corelog::control::{Broker, Control, ControlError, ListenError, ServedEndpoint, StopReason, Stopper};
use corelog::controller::{Format, Registration};
use corelog::host::{self, HostError, Placement};
use corelog::limits::Limits;
use corelog::log::StorageError;
use corelog::log::layout::MetaProperties;
use corelog::mesh::{MailboxSet, Mailboxes};
use corelog::metadata::{ENDPOINTS_DEFAULT_MAX, Local};
use corelog::metrics::{AskShard, ShardMetrics};
use corelog::model::{NodeId, ShardId, Uuid};
use corelog::net::Entrance;
use corelog::partition::DirectorySet;
use corelog::reactor::{
    Doorbells, ExternalWaker, Ring, RingOptions, StdFiles, check_port_free, run_before_workers, wall,
};
use corelog::shard::{self, BootError, BootInput, BootStep, Command, ShardEvent, recover_metadata};
use corelog::trace::{self, Level, LogLine, Logger, Recovered, RecoveryProgress};

use addresses::{Addresses, Announced, Place, PortsError};
use directories::{DirectoriesError, LockedDirectories};

/// Why the broker did not start, or stopped by itself. One line: cause; remedy.
#[derive(Debug)]
pub enum StartError {
    Host(HostError),
    Control(ControlError),
    Listen(ListenError),
    Resolve {
        address: Address,
        source: io::Error,
    },
    Ports(PortsError),
    /// What is wrong with the data directories together.
    Directories(DirectoriesError),
    Boot(BootError),
    Ring {
        source: io::Error,
        why: Option<HostError>,
    },
    Thread {
        source: io::Error,
    },
    /// It served, and could not go on.
    Failed,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Host(error) => error.fmt(f),
            StartError::Control(error) => error.fmt(f),
            StartError::Listen(error) => error.fmt(f),
            StartError::Resolve { address, source } => {
                write!(f, "{address} cannot be resolved: {source}; give --listen an address of this machine")
            }
            StartError::Ports(error) => error.fmt(f),
            StartError::Directories(error) => error.fmt(f),
            StartError::Boot(BootError::Storage(error)) if error.is_no_space() => {
                write!(f, "{error}; free some space, or choose another --data-dir")
            }
            StartError::Boot(error) if error.storage().is_some_and(StorageError::is_of_device) => {
                write!(
                    f,
                    "{error}; `dmesg` tells what the disk said; the next start reads from the device what the kernel had cached"
                )
            }
            StartError::Boot(error) => error.fmt(f),
            StartError::Ring { why: Some(why), .. } => why.fmt(f),
            StartError::Ring { source, why: None } => {
                write!(
                    f,
                    "cannot make an io_uring: {source}; `uname -r` must say 6.1 or later, and `ulimit -l` enough"
                )
            }
            StartError::Failed => {
                f.write_str("the broker stopped because of a failure; the errors above say which; start it again once the cause is gone")
            }
            StartError::Thread { source } => {
                write!(f, "cannot start a thread: {source}; look at `ulimit -u` and the cgroup's pids.max")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<BootError> for StartError {
    fn from(error: BootError) -> StartError {
        StartError::Boot(error)
    }
}

impl From<DirectoriesError> for StartError {
    fn from(error: DirectoriesError) -> StartError {
        StartError::Directories(error)
    }
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> StartError {
        StartError::Boot(BootError::Storage(error))
    }
}

/// How long a start waits for what a process that was killed a moment ago still holds: the kernel closes the sockets and
/// files of its rings some milliseconds after the process itself is gone.
const RELEASE_WAIT: Duration = Duration::from_secs(3);

/// Tries again while `is_held` says that somebody else holds what is wanted, for a moment.
#[allow(clippy::disallowed_methods, reason = "nothing is served yet, and there is no event to wait for")]
fn once_released<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let give_up = std::time::Instant::now() + RELEASE_WAIT;
    loop {
        match attempt() {
            Err(error) if is_held(&error) && std::time::Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// The format of a new directory, as the configuration wants it.
pub fn format_of(config: &Config, cluster_id: Uuid, shards: usize) -> Format {
    let shards = u16::try_from(shards).unwrap_or(u16::MAX);
    let endpoints = config.advertised_endpoints.unwrap_or_else(|| shards.clamp(1, ENDPOINTS_DEFAULT_MAX));
    Format {
        cluster_id,
        slots: config.placement_slots,
        endpoints,
        min_insync_replicas: i32::try_from(config.topic_defaults.min_insync_replicas).unwrap_or(i32::MAX),
    }
}

/// Random words from the kernel, for ids that are made before there is a ring.
fn random_word() -> u64 {
    let mut bytes = [0u8; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.expect("a Linux host has /dev/urandom");
    u64::from_ne_bytes(bytes)
}

/// A new random id.
pub fn random_id() -> Uuid {
    Uuid::from_random(random_word)
}

/// `corelog format`: formats the directories and says what it did.
pub fn format(config: &Config) -> Result<String, StartError> {
    let locked = LockedDirectories::lock(&config.data_dirs)?;
    locked.check_all_usable()?;
    let allowed = host::allowed_cpus().map_err(StartError::Host)?;
    let shards = host::place(&config.cores, &allowed).map_err(StartError::Host)?.len();
    let format = format_of(config, config.cluster_id.unwrap_or_else(random_id), shards);
    let formatted = locked.format(NodeId(config.node_id), &format)?;
    formatted.check_all_usable()?;
    let properties = formatted.properties();
    Ok(format!(
        "formatted {}: cluster {}, node {}, {} slots on {} endpoints",
        formatted.names(),
        properties.cluster_id,
        properties.node_id,
        format.slots,
        format.endpoints
    ))
}

/// One running shard thread.
struct ShardThread {
    commands: Sender<Command>,
    waker: ExternalWaker,
    thread: JoinHandle<()>,
}

impl ShardThread {
    /// Gives the shard a command, from any thread.
    fn caller(&self) -> impl Fn(Command) + Send + Sync + use<> {
        let (commands, waker) = (self.commands.clone(), self.waker.clone());
        move |command| {
            // A shard that has stopped is told no more.
            let _ = commands.send(command);
            waker.wake();
        }
    }
}

/// What a shard thread says while it starts.
enum StartReport {
    /// With the ports that the kernel has chosen.
    Listening(Vec<Place>),
    Booted(Arc<ShardMetrics>),
    Failed(StartError),
}

/// What a shard thread takes along.
struct ShardStart {
    shard: ShardId,
    placement: Placement,
    nice: i32,
    ring: RingOptions,
    doorbells: Arc<Doorbells>,
    mailboxes: Mailboxes,
    boot: BootInput,
    commands: Receiver<Command>,
    listen: Receiver<Vec<Place>>,
    /// Once all shards listen.
    announced: Receiver<Announced>,
    go: Receiver<()>,
    report: Sender<StartReport>,
    logger: Logger,
    progress: RecoveryProgress,
    stopper: Stopper,
}

/// Runs a broker until it is told to stop. Errors: it did not start, or did not stop cleanly.
pub fn start(config: Config, ignored: &[String]) -> Result<(), StartError> {
    let locked = LockedDirectories::lock(&config.data_dirs)?;
    locked.check_identities(&config)?;
    let config = Arc::new(locked.adopt(config));
    let host = host::check(&config, &locked.paths()).map_err(StartError::Host)?;
    let listen = resolve(&config.listen)?;
    check_free(listen, &config.listen)?;
    let is_held = |error: &ControlError| matches!(error, ControlError::Admin { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
    let control = once_released(|| Control::start(&config), is_held).map_err(StartError::Control)?;
    let logger = control.logger().clone();
    if !ignored.is_empty() {
        logger.log(
            LogLine::new(Level::Warn, "config", "settings without a counterpart here")
                .with("names", ignored.join(" ")),
        );
    }
    for warning in &host.warnings {
        logger.log(LogLine::new(Level::Warn, "host", "odd but served").with("what", warning.to_string()));
    }
    let outcome = run(&config, locked, &host, listen, &control);
    // A failed start is told by `main`, on one line and once.
    control.finish();
    outcome
}

/// Checks that nobody listens there, unless the kernel is to choose the port.
fn check_free(address: SocketAddr, named: &Address) -> Result<(), StartError> {
    if address.port() == 0 {
        return Ok(());
    }
    let is_held = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    once_released(|| check_port_free(address), is_held).map_err(|source| {
        StartError::Listen(ListenError { address: named.clone(), option: "--listen", source: source.kind() })
    })
}

fn resolve(address: &Address) -> Result<SocketAddr, StartError> {
    let refused = |source| StartError::Resolve { address: address.clone(), source };
    let mut found = (address.host.as_str(), address.port).to_socket_addrs().map_err(refused)?;
    found.next().ok_or_else(|| refused(io::Error::from(io::ErrorKind::NotFound)))
}

fn run(
    config: &Arc<Config>,
    locked: LockedDirectories,
    host: &host::Host,
    listen: SocketAddr,
    control: &Control,
) -> Result<(), StartError> {
    let logger = control.logger();
    let shard_count = u16::try_from(host.placements.len()).expect("`cores` bounds the number of shards");
    let node = NodeId(config.node_id);
    let is_new = locked.is_new();
    let cluster_id = config.cluster_id.unwrap_or_else(random_id);
    let format = format_of(config, cluster_id, usize::from(shard_count));
    let formatted = if is_new { locked.format(node, &format)? } else { locked.format_added()? };
    let properties = formatted.properties().clone();
    let (directories, _locks) = formatted.open(logger)?;
    let local = Local { node, shards: shard_count };
    let first = directories.metadata();
    let metadata =
        recover_metadata(&mut StdFiles, &first.path, &properties, local, &first.book, &first.redone, wall())?;
    directories::sweep(&directories, &metadata.image, logger)?;
    directories::tell(&directories, &metadata.image, logger);
    if directories.iter().any(|(_, directory)| !directory.was_clean) {
        logger.log(
            LogLine::new(Level::Info, "start", "the last stop was not a clean one: recovering")
                .with("cluster", properties.cluster_id.clone()),
        );
    }
    let limits = Limits::new(config, shard_count, host.resources);
    let addresses = Addresses::new(config, listen, metadata.image.layout, shard_count);
    let addresses = addresses.map_err(StartError::Ports)?;
    for address in addresses.iter() {
        check_free(address, &Address { host: config.listen.host.clone(), port: address.port() })?;
    }
    let (threads, reports) = prepare(config, &directories, host, metadata, &limits, &addresses, control)?;
    let outcome = bring_up(config, addresses, &threads, reports, control, &properties, shard_count);
    let served = outcome.is_ok();
    if served {
        let reason = control.wait_for_stop();
        let why = match reason {
            StopReason::Signal(name) => name,
            StopReason::Failure => "failure",
        };
        logger.log(LogLine::new(Level::Info, "start", "stopping").with("reason", why));
    }
    let mut clean = true;
    let Threads { shards, listen, announced, go, failed, .. } = threads;
    // After a failed start a shard may wait for one of these; it ends when nobody can send any more.
    drop((listen, announced, go));
    for thread in &shards {
        let _ = thread.commands.send(Command::Stop);
        thread.waker.wake();
    }
    for thread in shards {
        clean &= thread.thread.join().is_ok();
    }
    outcome?;
    if !clean || failed.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(StartError::Failed);
    }
    directories::mark_clean(&directories)
}

/// The shard threads and the ends of what they are told while they start.
struct Threads {
    shards: Vec<ShardThread>,
    listen: Vec<Sender<Vec<Place>>>,
    announced: Vec<Sender<Announced>>,
    go: Vec<Sender<()>>,
    /// A shard met a storage failure: no clean-shutdown marker.
    failed: Arc<std::sync::atomic::AtomicBool>,
    progress: RecoveryProgress,
    started: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the shard threads are made here, and their start is timed")]
fn prepare(
    config: &Arc<Config>,
    directories: &Arc<DirectorySet>,
    host: &host::Host,
    metadata: shard::MetadataRecovered,
    limits: &Limits,
    addresses: &Addresses,
    control: &Control,
) -> Result<(Threads, Vec<Receiver<StartReport>>), StartError> {
    let shard_count = u16::try_from(host.placements.len()).expect("`cores` bounds the number of shards");
    let image = Arc::new(metadata.image.clone());
    let mut metadata = Some(metadata);
    let doorbells = Doorbells::new(shard_count).map_err(|source| StartError::Ring { source, why: None })?;
    let mut mailboxes = MailboxSet::new(shard_count);
    let advertised = config.advertised.clone();
    let progress = RecoveryProgress::new(control.logger());
    let mut threads = Threads {
        shards: Vec::new(),
        listen: Vec::new(),
        announced: Vec::new(),
        go: Vec::new(),
        failed: Arc::default(),
        progress: progress.clone(),
        started: Instant::now(),
    };
    let admission = shard::admission(limits);
    let mut reports = Vec::new();
    for (index, placement) in (0u16..).zip(&host.placements) {
        let shard = ShardId(index);
        let (commands, commands_end) = channel();
        let (listen, listen_end) = channel();
        let (announced, announced_end) = channel();
        let (go, go_end) = channel();
        let (report, report_end) = channel();
        let registration = Registration {
            node: image.local.node,
            host: advertised
                .as_ref()
                .map_or_else(|| host_name(&config.listen), |address| address.host.clone())
                .into(),
            // The ports come with `announced`.
            port: 0,
            endpoint_ports: Vec::new(),
            rack: config.rack.as_deref().map(Into::into),
            directories: directories.online_ids(),
        };
        let start = ShardStart {
            shard,
            placement: *placement,
            nice: config.shard_nice,
            ring: RingOptions {
                sockets_max: limits.shard_connections,
                listeners_max: addresses.of_shard(shard).len() as u32,
                file_operations_max: limits.shard_file_operations,
                ..RingOptions::default()
            },
            doorbells: Arc::clone(&doorbells),
            mailboxes: mailboxes.take(shard),
            boot: BootInput {
                shard,
                shard_count,
                config: Arc::clone(config),
                limits: limits.clone(),
                admission: Arc::clone(&admission),
                directories: Arc::clone(directories),
                image: Arc::clone(&image),
                metadata: if index == 0 { metadata.take() } else { None },
                registration,
            },
            commands: commands_end,
            listen: listen_end,
            announced: announced_end,
            go: go_end,
            report,
            logger: control.logger().clone(),
            progress: progress.clone(),
            stopper: control.stopper(),
        };
        let failed = Arc::clone(&threads.failed);
        let waker = doorbells.waker(shard);
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || shard_thread(start, &failed))
            .map_err(|source| StartError::Thread { source })?;
        threads.shards.push(ShardThread { commands, waker, thread });
        threads.listen.push(listen);
        threads.announced.push(announced);
        threads.go.push(go);
        reports.push(report_end);
    }
    Ok((threads, reports))
}

/// A name that clients elsewhere can use, if the broker listens on all interfaces.
fn host_name(listen: &Address) -> String {
    if listen.is_wildcard() {
        let name =
            std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        name.unwrap_or_else(|| "localhost".to_owned())
    } else {
        listen.host.clone()
    }
}

/// Waits until every shard has opened its partitions, lets them serve, and prints the `ready:` line.
fn bring_up(
    config: &Config,
    mut addresses: Addresses,
    threads: &Threads,
    reports: Vec<Receiver<StartReport>>,
    control: &Control,
    properties: &MetaProperties,
    shard_count: u16,
) -> Result<(), StartError> {
    let mut metrics = Vec::new();
    // The first listener of an endpoint settles its port; all listeners are there before any shard reads its logs.
    for ((shard, report), sender) in (0..).map(ShardId).zip(&reports).zip(&threads.listen) {
        let _ = sender.send(addresses.of_shard(shard));
        match report.recv() {
            Ok(StartReport::Listening(places)) => {
                places.into_iter().for_each(|place| addresses.settle(place))
            }
            Ok(StartReport::Failed(error)) => return Err(error),
            Ok(StartReport::Booted(_)) | Err(_) => panic!("a shard listens before it boots, or says why not"),
        }
    }
    let announced = addresses.announced(config.advertised.as_ref());
    for sender in &threads.announced {
        let _ = sender.send(announced.clone());
    }
    for report in &reports {
        match report.recv() {
            Ok(StartReport::Booted(shard)) => metrics.push(shard),
            Ok(StartReport::Failed(error)) => return Err(error),
            Ok(StartReport::Listening(_)) | Err(_) => panic!("a shard boots once, or says why not"),
        }
    }
    tell_recovered(control.logger(), threads);
    for go in &threads.go {
        let _ = go.send(());
    }
    let ask_shards: Vec<AskShard> = threads
        .shards
        .iter()
        .map(|thread| {
            let (for_report, for_activity) = (thread.caller(), thread.caller());
            let (for_slots, for_moves) = (thread.caller(), thread.caller());
            AskShard {
                report: Box::new(move |tell| for_report(Command::Report(tell))),
                activity: Box::new(move |tell| for_activity(Command::Activity(tell))),
                slots: Box::new(move |tell| for_slots(Command::Slots(tell))),
                move_slot: Box::new(move |slot, core, tell| {
                    for_moves(Command::MoveSlot { slot, core, tell });
                }),
            }
        })
        .collect();
    let endpoints = addresses.endpoints(NodeId(config.node_id));
    for ServedEndpoint { broker, kafka, shards } in &endpoints {
        let shards: Vec<String> = shards.iter().map(ShardId::to_string).collect();
        println!("endpoint: broker {broker}, kafka {kafka}, shards {}", shards.join(" "));
    }
    control.ready(Broker {
        cluster_id: properties.cluster_id.clone(),
        node_id: config.node_id,
        kafka: addresses.first(),
        endpoints,
        metrics,
        ask_shards,
    });
    println!(
        "ready: kafka {}, admin {}, shards {shard_count}, write path auto",
        addresses.first(),
        control.admin_address()
    );
    Ok(())
}

/// What the start has read and done, on one line.
fn tell_recovered(logger: &Logger, threads: &Threads) {
    let Recovered { partitions, read_bytes, checked_bytes, cut, offline, .. } = threads.progress.so_far();
    if partitions > 0 {
        logger.log(
            LogLine::new(Level::Info, "start", "partitions opened")
                .with("partitions", partitions)
                .with("read_bytes", read_bytes)
                .with("checked_bytes", checked_bytes)
                .with("cut", cut)
                .with("offline", offline)
                .with("seconds", format!("{:.2}", threads.started.elapsed().as_secs_f64())),
        );
    }
}

/// The life of a shard's thread.
fn shard_thread(start: ShardStart, failed: &std::sync::atomic::AtomicBool) {
    let ShardStart {
        shard: id,
        placement,
        nice,
        ring,
        doorbells,
        mut mailboxes,
        mut boot,
        commands,
        listen,
        announced,
        go,
        report,
        logger,
        progress,
        stopper,
    } = start;
    trace::start(id, boot.limits.shard_trace_events);
    let fail = |error| {
        let _ = report.send(StartReport::Failed(error));
    };
    if let Err(error) = host::pin(placement) {
        return fail(StartError::Host(error));
    }
    if let Err(error) = run_before_workers(nice)
        && id == ShardId(0)
    {
        logger.log(
            LogLine::new(
                Level::Info,
                "host",
                "small requests may wait for large writes: the shards keep the priority of the process",
            )
            .with("cause", error.to_string())
            .with(
                "remedy",
                "run tuning/priority/apply as root, or set LimitNICE in the unit, or shard.nice=0",
            ),
        );
    }
    let ring_bytes = boot.limits.shard_ring_bytes * u64::from(boot.shard_count);
    let mut io = match Ring::new(id, ring, doorbells) {
        Ok(io) => io,
        Err(source) => {
            let why = host::why_io_uring_is_refused(&source, ring_bytes);
            return fail(StartError::Ring { source, why });
        }
    };
    let Ok(mut places) = listen.recv() else { return };
    let mut entrances = Vec::new();
    for place in &mut places {
        match io.listen(place.address) {
            Ok((listener, bound)) => {
                place.address = bound;
                entrances.push(Entrance { listener, endpoint: place.endpoint });
            }
            Err(source) => return fail(StartError::Listen(addresses::refused(place.address, &source))),
        }
    }
    let _ = report.send(StartReport::Listening(places));
    let Ok(announced) = announced.recv() else { return };
    boot.registration.port = announced.port;
    boot.registration.endpoint_ports = announced.endpoint_ports;
    let told = &mut |step: BootStep<'_>| match step {
        BootStep::Begun { partitions } => progress.begin(partitions as u64),
        BootStep::Read { bytes } => progress.read(bytes),
        BootStep::Opened(report) => progress.opened(report.checked_bytes, report.cut.is_some()),
        BootStep::Refused => progress.refused(),
    };
    let mut shard = match shard::boot(&mut io, boot, told) {
        Ok(shard) => shard,
        Err(error) => return fail(StartError::Boot(error)),
    };
    let _ = report.send(StartReport::Booted(shard.meter().metrics()));
    // Without a word the start has failed elsewhere: this shard has changed nothing that a recovery would not change.
    if go.recv().is_err() {
        return;
    }
    shard.serve(&mut io, entrances);
    shard::run(&mut shard, &mut io, &mut mailboxes, &commands, &mut |_, events| {
        for event in events {
            if tell(&logger, id, event) {
                failed.store(true, std::sync::atomic::Ordering::Relaxed);
                stopper.stop(StopReason::Failure);
            }
        }
    });
}

/// Puts a shard's event into the log. True: the broker must not go on.
fn tell(logger: &Logger, shard: ShardId, event: ShardEvent) -> bool {
    let line = |level, text| LogLine::new(level, "shard", text).with("shard", u64::from(shard.0));
    match event {
        ShardEvent::AcceptFailed(error) => {
            logger.log(line(Level::Error, "accepting connections ended").with("cause", Arc::new(error)));
            true
        }
        ShardEvent::DirectoryOffline { path, error, must_stop } => {
            let text = if must_stop {
                "storage failed: the data directory is offline, and the broker stops without its metadata"
            } else {
                "storage failed: the data directory is offline until a new start, the others carry on"
            };
            logger.log(
                line(Level::Error, text)
                    .with("path", path.display().to_string())
                    .with("cause", error.to_string()),
            );
            must_stop
        }
        ShardEvent::Unopened { at, reason } => {
            logger.log(
                line(Level::Error, "the partition is offline: its clients get KAFKA_STORAGE_ERROR")
                    .with("partition", at.to_string())
                    .with("cause", reason.to_string())
                    .with("remedy", "bring its folder back from a replica or a backup and start again, or delete the topic; `corelog log verify` lists all damage"),
            );
            false
        }
        ShardEvent::Damaged { at, error } => {
            logger.log(
                line(Level::Error, "stored bytes are damaged: those batches are not served")
                    .with("partition", at.to_string())
                    .with("cause", error.to_string())
                    .with("remedy", "bring the segment back from a replica or a backup; `corelog log verify` lists all damage"),
            );
            false
        }
        ShardEvent::NoJournal { path } => {
            logger.log(
                line(
                    Level::Warn,
                    "no journal: the file system has no O_DIRECT; records go through the page cache",
                )
                .with("directory", path.display().to_string()),
            );
            false
        }
        ShardEvent::NoMappedJournal { error } => {
            logger.log(
                line(
                    Level::Warn,
                    "no mapped journal: batches of `os` topics are written to their segments one by one",
                )
                .with("cause", error.to_string()),
            );
            false
        }
        ShardEvent::NoSpace { at, error } => {
            let line = line(Level::Warn, "a file could not be written; tried again");
            let line = match at {
                Some(at) => line.with("partition", at.to_string()),
                None => line,
            };
            logger.log(line.with("cause", error.to_string()));
            false
        }
        ShardEvent::CompactionPending { topic } => {
            logger.log(
                line(Level::Warn, "cleanup.policy=compact keeps everything until compaction comes")
                    .with("topic", topic.to_string()),
            );
            false
        }
        ShardEvent::GroupRecordSkipped { partition, cause } => {
            logger.log(
                line(
                    Level::Warn,
                    "a record of __consumer_offsets was passed over: this version cannot read it",
                )
                .with("partition", partition.to_string())
                .with("cause", cause.to_string()),
            );
            false
        }
        ShardEvent::GroupsUnread { error } => {
            logger.log(
                line(Level::Error, "the groups of a slot that was moved have no coordinator")
                    .with("cause", error.to_string())
                    .with("remedy", "bring the partition back from a replica or a backup and start again; `corelog log verify` lists all damage"),
            );
            false
        }
        ShardEvent::Balanced(rebalance) => {
            logger.log(
                line(Level::Info, "the balancer moves a slot, since the cores have been uneven for a while")
                    .with("slot", u64::from(rebalance.slot.0))
                    .with("from", u64::from(rebalance.from.0))
                    .with("to", u64::from(rebalance.to.0))
                    .with("slot_load", rebalance.slot_load)
                    .with("from_load", rebalance.from_load)
                    .with("to_load", rebalance.to_load),
            );
            false
        }
        ShardEvent::Stopped => false,
    }
}
