//! A broker of a few shards in this process, each on a thread and a ring of its own, whose work can be counted from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use corelog::config;
use corelog::controller::{Format, Registration};
use corelog::limits::{Limits, Resources};
use corelog::log::{CheckpointBook, write_clean_shutdown};
use corelog::mesh::MailboxSet;
use corelog::metadata::Local;
use corelog::metrics::{Counter, ShardMetrics};
use corelog::model::{Endpoint, NodeId, ShardId, Uuid};
use corelog::net::Entrance;
use corelog::partition::{DataDirectory, DirectorySet};
use corelog::reactor::{Doorbells, ExternalWaker, Ring, RingOptions, StdFiles};
use corelog::shard::{
    self, BootInput, Command, admission, boot, format_directory, read_meta_properties, recover_metadata,
};

use crate::allocator::{self, Tally};

/// What the threads of the shards did since they started, all together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    pub allocations: u64,
    pub enters: u64,
    pub requests: u64,
    pub sends: u64,
    pub messages: u64,
    pub copied_bytes: u64,
    pub fetch_parts: u64,
    pub memory_reads: u64,
    pub disk_reads: u64,
    pub disk_read_bytes: u64,
    pub piped_bytes: u64,
    pub rounds: u64,
}

impl Work {
    pub fn since(self, before: Work) -> Work {
        Work {
            allocations: self.allocations - before.allocations,
            enters: self.enters - before.enters,
            requests: self.requests - before.requests,
            sends: self.sends - before.sends,
            messages: self.messages - before.messages,
            copied_bytes: self.copied_bytes - before.copied_bytes,
            fetch_parts: self.fetch_parts - before.fetch_parts,
            memory_reads: self.memory_reads - before.memory_reads,
            disk_reads: self.disk_reads - before.disk_reads,
            disk_read_bytes: self.disk_read_bytes - before.disk_read_bytes,
            piped_bytes: self.piped_bytes - before.piped_bytes,
            rounds: self.rounds - before.rounds,
        }
    }
}

struct Running {
    commands: Sender<Command>,
    waker: ExternalWaker,
    thread: JoinHandle<()>,
    tally: &'static Tally,
    metrics: Option<Arc<ShardMetrics>>,
}

/// A running broker.
pub struct Node {
    shards: Vec<Running>,
    /// Of the whole node, or one for each endpoint.
    pub addresses: Vec<SocketAddr>,
}

impl Node {
    pub fn start(path: &Path, shard_count: u16, is_per_core: bool, settings: &[&str]) -> Node {
        let settings: Vec<_> =
            settings.iter().map(|text| config::parse_set(text).expect("a setting")).collect();
        let config = Arc::new(config::parse(None, &settings).expect("settings are valid").config);
        let mut files = StdFiles;
        let mut word = 7u64;
        let mut id = || {
            Uuid::from_random(|| {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                word
            })
        };
        let now = 1_700_000_000_000;
        let properties = match read_meta_properties(&mut files, path).expect("a directory that can be read") {
            Some(properties) => properties,
            None => {
                let format =
                    Format { cluster_id: id(), slots: 64, endpoints: shard_count, min_insync_replicas: 1 };
                format_directory(&mut files, path, NodeId(1), &format, id(), now).expect("format")
            }
        };
        let shard::LeftBehind { was_clean, redone, .. } =
            shard::take_over(&mut files, path, &mut |_| ()).expect("take over");
        let book = Arc::new(CheckpointBook::load(&mut files, path).expect("checkpoints"));
        let local = Local { node: NodeId(1), shards: shard_count };
        let metadata = recover_metadata(&mut files, path, &properties, local, &book, &redone, now);
        let metadata = metadata.expect("metadata");
        let directory = DataDirectory::new(path.to_owned(), properties.directory_id, book, was_clean)
            .with_journals(redone, false, true);
        let directories = Arc::new(DirectorySet::of_one(directory));
        let image = Arc::new(metadata.image.clone());
        let mut metadata = Some(metadata);
        let limits = Limits::new(&config, shard_count, Resources { memory_bytes: 1 << 30, open_files: 4096 });
        let admission = admission(&limits);
        let doorbells = Doorbells::new(shard_count).expect("eventfds");
        let mut mailboxes = MailboxSet::new(shard_count);
        let mut started = Vec::new();
        for shard in (0..shard_count).map(ShardId) {
            let (commands, commands_end) = channel();
            let (boot_with, boot_end) = channel::<BootInput>();
            let (bound, bound_end) = channel();
            let (booted, booted_end) = channel();
            let (go, go_end) = channel::<()>();
            let tally: &'static Tally = Box::leak(Box::default());
            let bells = Arc::clone(&doorbells);
            let mut mesh = mailboxes.take(shard);
            let port = started.first().map_or(
                0,
                |(_, _, address, ..): &(_, _, SocketAddr, _, _, _)| {
                    if is_per_core { 0 } else { address.port() }
                },
            );
            let options = RingOptions { file_operations_max: 4096, ..RingOptions::default() };
            let work = move || {
                let mut io = Ring::new(shard, options, bells).expect("a ring");
                let (listener, address) = io.listen(([127, 0, 0, 1], port).into()).expect("a port");
                bound.send(address).expect("the test waits");
                let input = boot_end.recv().expect("the test says what to boot from");
                let mut shard_state = boot(&mut io, input, &mut |_| {}).expect("it boots");
                booted.send(shard_state.meter().metrics()).expect("the test waits");
                go_end.recv().expect("the test lets it serve");
                let endpoint = is_per_core.then_some(Endpoint(shard.0));
                shard_state.serve(&mut io, vec![Entrance { listener, endpoint }]);
                allocator::count_this_thread(tally);
                while !shard_state.has_stopped() {
                    while let Ok(command) = commands_end.try_recv() {
                        shard_state.command(&mut io, command);
                    }
                    shard_state.turn(&mut io, &mut mesh);
                    drop(shard_state.take_events());
                    shard::wait(&shard_state, &mut io, &mut mesh);
                }
            };
            let name = format!("shard-{}", shard.0);
            let thread = std::thread::Builder::new().name(name).spawn(work).expect("a thread");
            let address = bound_end.recv().expect("the shard listens");
            let waker = doorbells.waker(shard);
            started.push((
                Running { commands, waker, thread, tally, metrics: None },
                boot_with,
                address,
                booted_end,
                go,
                shard,
            ));
        }
        let ports: Vec<u16> = started.iter().map(|(_, _, address, ..)| address.port()).collect();
        for (_, boot_with, _, _, _, shard) in &started {
            let registration = Registration {
                node: NodeId(1),
                host: "127.0.0.1".into(),
                port: ports[0],
                endpoint_ports: if is_per_core { ports.clone() } else { Vec::new() },
                rack: None,
                directories: vec![properties.directory_id],
            };
            let input = BootInput {
                shard: *shard,
                shard_count,
                config: Arc::clone(&config),
                limits: limits.clone(),
                admission: Arc::clone(&admission),
                directories: Arc::clone(&directories),
                image: Arc::clone(&image),
                metadata: metadata.take(),
                registration,
            };
            boot_with.send(input).expect("the shard waits");
        }
        for (running, _, _, booted, ..) in &mut started {
            running.metrics = Some(booted.recv().expect("the shard boots"));
        }
        let addresses: Vec<SocketAddr> = started.iter().map(|(_, _, address, ..)| *address).collect();
        let addresses = if is_per_core { addresses } else { addresses[..1].to_vec() };
        let mut shards = Vec::new();
        for (running, _, _, _, go, _) in started {
            go.send(()).expect("the shard waits");
            shards.push(running);
        }
        Node { shards, addresses }
    }

    /// What was done so far.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for shard in &self.shards {
            work.allocations += shard.tally.allocations.load(Ordering::Relaxed);
            let metrics = shard.metrics.as_ref().expect("it has booted");
            let count = |counter| metrics.counter(counter);
            work.enters += count(Counter::RingEnters);
            work.requests += count(Counter::Requests);
            work.sends += count(Counter::Sends);
            work.messages += count(Counter::MeshMessages);
            work.copied_bytes += count(Counter::CopiedBytes);
            work.fetch_parts += count(Counter::FetchParts);
            work.memory_reads += count(Counter::MemoryReads);
            work.disk_reads += count(Counter::DiskReads);
            work.disk_read_bytes += count(Counter::DiskReadBytes);
            work.piped_bytes += count(Counter::PipedBytes);
            work.rounds += count(Counter::Rounds);
        }
        work
    }
}

impl Node {
    /// Stops cleanly, as the command does.
    pub fn stop(mut self, path: &Path) {
        self.join();
        write_clean_shutdown(&mut StdFiles, path, 0).expect("a marker");
    }

    fn join(&mut self) {
        for shard in &self.shards {
            let _ = shard.commands.send(Command::Stop);
            shard.waker.wake();
        }
        for shard in self.shards.drain(..) {
            let _ = shard.thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.join();
    }
}
