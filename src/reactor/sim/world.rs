//! The machine: time, the queue of what is to happen, the shards' turns, crashes.

use std::any::Any;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Disk, Survivors};
use super::files::SimFiles;
use super::io::SimIo;
use super::moment::{SimDisk, SimMoment};
use super::network::{ClientId, Network, Segment};
use super::operation::{Finished, Flight};
use super::random::SimRandom;
use crate::model::{Monotonic, ShardId, Timestamp};
use crate::reactor::{Job, Socket, Token};

/// A span of time that the seed picks from: mostly near `first`, at times up to `last`, rarely ten times that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    pub first: Duration,
    pub last: Duration,
}

impl Delay {
    pub const fn micros(first: u64, last: u64) -> Delay {
        Delay { first: Duration::from_micros(first), last: Duration::from_micros(last) }
    }

    pub(super) fn draw(self, random: &mut SimRandom) -> Duration {
        let (first, last) = (self.first.as_nanos() as u64, self.last.as_nanos() as u64);
        let last = match random.below(64) {
            0 => last * 10,
            1..16 => last,
            _ => first + (last - first) / 8,
        };
        Duration::from_nanos(random.between(first, last))
    }
}

/// How often operations fail: times in a million.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    pub read_error: u32,
    pub write_error: u32,
    /// Of a sync, and of each file in a syncfs.
    pub sync_error: u32,
    /// The kernel fails to write back what a file has, before anybody syncs. Drawn at each cached write.
    pub write_back_error: u32,
    /// A sync ends well, and one block of it is elsewhere.
    pub misdirected_write: u32,
    /// A read finds a sector that cannot be read any more until it is written.
    pub latent_sector: u32,
    /// A read finds a flipped bit, on the device and in the cache.
    pub bit_flip: u32,
    /// An operation is refused as if the table were full.
    pub rejection: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimOptions {
    pub shard_count: u16,
    pub faults: Faults,
    /// Space on the disk; `u64::MAX` for no limit.
    pub quota_bytes: u64,
    pub in_flight_max: usize,
    pub receive_buffer_count: u16,
    pub receive_buffer_bytes: u32,
    /// What a peer that does not read lets us send.
    pub send_window_bytes: usize,
    pub read: Delay,
    pub write: Delay,
    pub sync: Delay,
    pub job: Delay,
    pub network: Delay,
    /// What a round of a shard takes, at least.
    pub round: Delay,
    /// The wall clock jumps by up to this much, both ways, about every ten seconds. Zero: it does not.
    pub wall_clock_jump: Duration,
    /// Files whose names end like this are written once: no write through the ring meets bytes other than zeros, and no zeros
    /// are written over others. The machine panics where that does not hold.
    pub written_once: &'static [&'static str],
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            shard_count: 1,
            faults: Faults::default(),
            quota_bytes: u64::MAX,
            in_flight_max: 4096,
            receive_buffer_count: 16,
            receive_buffer_bytes: 64 << 10,
            send_window_bytes: 256 << 10,
            read: Delay::micros(5, 1_000),
            write: Delay::micros(5, 500),
            sync: Delay::micros(50, 5_000),
            job: Delay::micros(50, 10_000),
            network: Delay::micros(10, 2_000),
            round: Delay::micros(1, 20),
            wall_clock_jump: Duration::ZERO,
            written_once: &[],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashKind {
    /// The process is gone, the page cache stays.
    ProcessKill,
    /// The page cache is gone.
    PowerLoss,
}

/// What the driver does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Run one round of this shard.
    Shard(ShardId),
    /// This client received something, was connected, or lost its connection.
    Client(ClientId),
    /// The machine stopped: drop the shards and `restart`.
    Crashed,
    /// Nothing happens before the given time, which it now is.
    Idle,
}

pub(super) enum Event {
    /// A file operation touches the disk, or a sync begins.
    Effect {
        shard: ShardId,
        operation: u64,
    },
    /// The sync behind a write begins, a sync ends, or an operation completes.
    Complete {
        shard: ShardId,
        operation: u64,
    },
    RunJob {
        shard: ShardId,
        operation: u64,
    },
    Doorbell {
        shard: ShardId,
    },
    /// A client's connection request reaches the machine.
    Connect {
        client: ClientId,
    },
    ToServer {
        client: ClientId,
        segment: Segment,
    },
    ToClient {
        client: ClientId,
        segment: Segment,
    },
    WallClockJump,
}

struct Queued {
    /// Time, then a random word: of events at one moment any may come first.
    order: (Monotonic, u64, u64),
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.order == other.order
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

#[derive(Default)]
pub(super) struct Shard {
    /// By number, which grows: the first is the oldest.
    pub flights: BTreeMap<u64, Flight>,
    /// Completions not yet reaped.
    pub ready: Vec<Finished>,
    pub is_rung: bool,
    /// Its `wait` ends then.
    pub wake_at: Monotonic,
    /// Its round lasts until then.
    pub busy_until: Monotonic,
    /// When the last of its jobs is done.
    pub jobs_until: Monotonic,
    pub free_buffers: u16,
    /// Whose receives wait for a buffer, in the order in which they get one.
    pub starved: VecDeque<Socket>,
    /// Files to close once nothing is in flight on them.
    pub closing: BTreeSet<i32>,
}

pub(super) struct World {
    pub options: SimOptions,
    pub now: Monotonic,
    queue: BinaryHeap<Reverse<Queued>>,
    queued_count: u64,
    pub next_operation: u64,
    pub shards: Vec<Shard>,
    pub disk: Disk,
    pub disk_random: SimRandom,
    pub network: Network,
    pub network_random: SimRandom,
    schedule_random: SimRandom,
    /// For the shards themselves.
    pub shard_random: SimRandom,
    wall_clock: Timestamp,
    disk_stalled_until: Monotonic,
    /// File-system operations left until the machine stops.
    armed: Option<(CrashKind, u64)>,
    pub file_operations: u64,
    crashed: Option<CrashKind>,
    /// Counts restarts: a door from before one leads nowhere.
    pub incarnation: u64,
    hash: u64,
    /// What `SimWorld::take_moments` takes; `None`: moments are not kept.
    pub moments: Option<Vec<SimMoment>>,
}

impl World {
    fn new(seed: u64, options: SimOptions, disk: Disk) -> World {
        assert!(options.shard_count > 0, "a machine has a shard");
        let mut world = World {
            options,
            // Not zero: a time that was never set is found out.
            now: Monotonic(1_000_000_000),
            queue: BinaryHeap::new(),
            queued_count: 0,
            next_operation: 0,
            shards: Vec::new(),
            disk,
            disk_random: SimRandom::new(seed, 1),
            network: Network::default(),
            network_random: SimRandom::new(seed, 2),
            schedule_random: SimRandom::new(seed, 3),
            shard_random: SimRandom::new(seed, 4),
            wall_clock: 1_700_000_000_000,
            disk_stalled_until: Monotonic(0),
            armed: None,
            file_operations: 0,
            crashed: None,
            incarnation: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            moments: None,
        };
        world.boot();
        world
    }

    fn boot(&mut self) {
        let shard = || Shard { free_buffers: self.options.receive_buffer_count, ..Shard::default() };
        self.shards = (0..self.options.shard_count).map(|_| shard()).collect();
        self.queue.clear();
        if self.options.wall_clock_jump > Duration::ZERO {
            self.schedule(Duration::from_secs(10), Event::WallClockJump);
        }
    }

    pub fn shard(&mut self, shard: ShardId) -> &mut Shard {
        &mut self.shards[usize::from(shard.0)]
    }

    pub fn schedule(&mut self, after: Duration, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    pub fn schedule_at(&mut self, time: Monotonic, event: Event) {
        self.queued_count += 1;
        let order = (time, self.schedule_random.word(), self.queued_count);
        self.queue.push(Reverse(Queued { order, event }));
    }

    pub fn disk_delay(&mut self, delay: Delay) -> Monotonic {
        let delay = delay.draw(&mut self.disk_random);
        self.now.max(self.disk_stalled_until) + delay
    }

    /// Mixes words into the hash of all that happened (FNV-1a, a word at a time).
    pub fn note(&mut self, words: &[u64]) {
        for word in [self.now.0].iter().chain(words) {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    pub fn note_bytes(&mut self, bytes: &[u8]) {
        let mut hash = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.note(&[hash]);
    }

    pub fn wall_clock(&self) -> Timestamp {
        self.wall_clock + (self.now.0 / 1_000_000) as i64
    }

    pub fn is_crashed(&self) -> bool {
        self.crashed.is_some()
    }

    /// Counts an operation of the file system. True if the machine stops in the middle of it.
    pub fn count_file_operation(&mut self) -> bool {
        self.file_operations += 1;
        match &mut self.armed {
            Some((kind, left)) => {
                *left -= 1;
                if *left > 0 {
                    return false;
                }
                let kind = *kind;
                self.crash(kind);
                true
            }
            None => false,
        }
    }

    fn crash(&mut self, kind: CrashKind) {
        assert!(self.crashed.is_none(), "a machine that stopped stops again");
        self.note(&[0xdead, kind as u64]);
        self.armed = None;
        self.crashed = Some(kind);
        self.queue.clear();
        self.network.lose_machine();
    }

    fn restart(&mut self) {
        let kind = self.crashed.take().expect("only a machine that stopped is started again");
        self.apply_writes_in_flight();
        match kind {
            CrashKind::ProcessKill => self.disk.kill(&mut self.disk_random),
            CrashKind::PowerLoss => {
                // First what a process that dies leaves in the cache, then what of it the cache loses.
                self.disk.lose_power(Survivors::Drawn, &mut self.disk_random);
            }
        }
        self.incarnation += 1;
        self.disk_stalled_until = Monotonic(0);
        self.boot();
        let incarnation = self.incarnation;
        self.note(&[0xb007, incarnation]);
    }

    fn is_runnable(&self, shard: &Shard) -> bool {
        shard.busy_until <= self.now
            && (shard.is_rung || !shard.ready.is_empty() || shard.wake_at <= self.now)
    }

    fn pick_shard(&mut self) -> Option<ShardId> {
        let runnable: Vec<u16> = (0..self.options.shard_count)
            .filter(|&s| self.is_runnable(&self.shards[usize::from(s)]))
            .collect();
        if runnable.is_empty() {
            return None;
        }
        let picked = runnable[self.schedule_random.below(runnable.len() as u64) as usize];
        self.note(&[0x5a4d, u64::from(picked)]);
        Some(ShardId(picked))
    }

    fn next_event_time(&self) -> Option<Monotonic> {
        self.queue.peek().map(|Reverse(queued)| queued.order.0)
    }

    /// The next moment at which an event happens or a shard can run.
    fn next_time(&self) -> Monotonic {
        let shards = self.shards.iter().map(|shard| match shard.is_rung || !shard.ready.is_empty() {
            true => shard.busy_until,
            false => shard.busy_until.max(shard.wake_at),
        });
        shards.chain(self.next_event_time()).min().unwrap_or(Monotonic::NEVER).max(self.now)
    }

    /// Does what is due first. A job is handed out: it runs without a hold on the world.
    fn step(&mut self) -> Option<(ShardId, u64, Job)> {
        let Reverse(queued) = self.queue.pop()?;
        self.now = self.now.max(queued.order.0);
        match queued.event {
            Event::Effect { shard, operation } => self.effect(shard, operation),
            Event::Complete { shard, operation } => self.complete(shard, operation),
            Event::RunJob { shard, operation } => return self.take_job(shard, operation),
            Event::Doorbell { shard } => {
                self.note(&[0xbe11, u64::from(shard.0)]);
                self.shard(shard).is_rung = true;
            }
            Event::Connect { client } => self.connection_arrives(client),
            Event::ToServer { client, segment } => self.segment_arrives(client, segment),
            Event::ToClient { client, segment } => self.segment_reaches_client(client, segment),
            Event::WallClockJump => {
                let span = self.options.wall_clock_jump.as_millis() as u64;
                self.wall_clock += self.schedule_random.between(0, 2 * span) as i64 - span as i64;
                let after = Duration::from_millis(self.schedule_random.between(1, 20_000));
                self.schedule(after, Event::WallClockJump);
            }
        }
        None
    }

    fn finish_job(&mut self, shard: ShardId, operation: u64, result: Box<dyn Any + Send>) {
        if self.is_crashed() {
            return;
        }
        self.note(&[0x10b, u64::from(shard.0), operation]);
        self.finish(shard, operation, super::operation::SimOutcome::Job(result));
    }
}

/// One machine in a seeded world. A handle: clones are of the same machine.
#[derive(Clone)]
pub struct SimWorld {
    world: Rc<RefCell<World>>,
}

impl SimWorld {
    pub fn new(seed: u64, options: SimOptions) -> SimWorld {
        SimWorld::on(seed, options, SimDisk(Disk::new(options.quota_bytes)))
    }

    /// A machine that starts on the disk of another one.
    pub fn on(seed: u64, options: SimOptions, SimDisk(mut disk): SimDisk) -> SimWorld {
        disk.written_once = options.written_once;
        SimWorld { world: Rc::new(RefCell::new(World::new(seed, options, disk))) }
    }

    /// Keeps, from now on, every moment between two changes of the disk for `take_moments`.
    pub fn keep_moments(&self) {
        self.world.borrow_mut().moments.get_or_insert_default();
    }

    /// The moments since the last call.
    pub fn take_moments(&self) -> Vec<SimMoment> {
        self.world.borrow_mut().moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The machine as it is now.
    pub fn moment(&self) -> SimMoment {
        self.world.borrow().moment("nothing", None)
    }

    /// The door of one shard. After a restart, ask again.
    pub fn io(&self, shard: ShardId) -> SimIo {
        SimIo::new(Rc::clone(&self.world), shard)
    }

    /// Blocking calls on the disk, for a test's own use.
    pub fn files(&self) -> SimFiles {
        SimFiles::new(Rc::clone(&self.world))
    }

    pub fn now(&self) -> Monotonic {
        self.world.borrow().now
    }

    /// Runs the world until a shard or a client has something to do, or `until`.
    pub fn next_turn(&self, until: Monotonic) -> Turn {
        loop {
            let mut world = self.world.borrow_mut();
            if world.is_crashed() {
                return Turn::Crashed;
            }
            if let Some(client) = world.network.take_changed() {
                return Turn::Client(client);
            }
            // What is due happens before a shard runs on: an event of this moment is seen by the round of this moment.
            let is_event_due = world.next_event_time().is_some_and(|time| time <= world.now);
            if !is_event_due {
                if let Some(shard) = world.pick_shard() {
                    return Turn::Shard(shard);
                }
                let next = world.next_time();
                if next > until {
                    world.now = world.now.max(until);
                    return Turn::Idle;
                }
                if world.next_event_time().is_none_or(|time| time > next) {
                    world.now = next;
                    continue;
                }
            }
            let job = world.step();
            drop(world);
            if let Some((shard, operation, job)) = job {
                let result = job(&mut self.files());
                self.world.borrow_mut().finish_job(shard, operation, result);
            }
        }
    }

    /// Does the next event alone and returns its time. `None`: nothing is to happen. Shards get no turn.
    pub fn advance_to_next_event(&self) -> Option<Monotonic> {
        self.world.borrow().next_event_time()?;
        let job = self.world.borrow_mut().step();
        if let Some((shard, operation, job)) = job {
            let result = job(&mut self.files());
            self.world.borrow_mut().finish_job(shard, operation, result);
        }
        Some(self.now())
    }

    /// Two runs in which the same happened have the same hash.
    pub fn event_hash(&self) -> u64 {
        self.world.borrow().hash
    }

    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().options.faults = faults;
    }

    /// Makes the disk smaller or larger; what is on it stays.
    pub fn set_quota(&self, quota_bytes: u64) {
        self.world.borrow_mut().disk.quota_bytes = quota_bytes;
    }

    /// Leaves so much room on the disk.
    pub fn set_free(&self, free_bytes: u64) {
        let disk = &mut self.world.borrow_mut().disk;
        disk.quota_bytes = disk.used_bytes().saturating_add(free_bytes);
    }

    /// Flushes succeed and flush nothing, as on a disk that lies: what a checker is tried on.
    pub fn set_lying(&self, is_lying: bool) {
        self.world.borrow_mut().disk.is_lying = is_lying;
    }

    /// No file operation that is not yet under way touches the disk for so long.
    pub fn stall_disk(&self, how_long: Duration) {
        let mut world = self.world.borrow_mut();
        let until = world.now + how_long;
        world.disk_stalled_until = until;
    }

    pub fn jump_wall_clock(&self, milliseconds: i64) {
        self.world.borrow_mut().wall_clock += milliseconds;
    }

    /// Flips one bit of a file, on the device and in the cache.
    pub fn flip_bit(&self, path: &std::path::Path, position: u64, bit: u8) -> std::io::Result<()> {
        self.world.borrow_mut().disk.flip_bit(path, position, bit)
    }

    /// From now on a sector of a file cannot be read, until it is written again.
    pub fn fail_sector(&self, path: &std::path::Path, position: u64) -> std::io::Result<()> {
        self.world.borrow_mut().disk.fail_sector(path, position)
    }

    /// Stops the machine now.
    pub fn crash(&self, kind: CrashKind) {
        self.world.borrow_mut().crash(kind);
    }

    /// Stops the machine in the middle of the `nth` file-system operation from now, counted from 1: of the ring or blocking.
    pub fn arm_crash(&self, kind: CrashKind, nth: u64) {
        assert!(nth > 0, "operations are counted from 1");
        self.world.borrow_mut().armed = Some((kind, nth));
    }

    pub fn disarm_crash(&self) {
        self.world.borrow_mut().armed = None;
    }

    /// File-system operations since the beginning: what `arm_crash` counts.
    pub fn file_operations(&self) -> u64 {
        self.world.borrow().file_operations
    }

    pub fn crashed(&self) -> bool {
        self.world.borrow().is_crashed()
    }

    /// Starts the machine again on what the crash left of the disk. Doors of before lead nowhere.
    pub fn restart(&self) {
        self.world.borrow_mut().restart();
    }

    /// A client connects to a port; which of the shards that listen on it accepts is the seed's choice.
    pub fn connect(&self, port: u16) -> ClientId {
        self.world.borrow_mut().connect(port)
    }

    pub fn client_send(&self, client: ClientId, bytes: &[u8]) {
        self.world.borrow_mut().client_send(client, bytes);
    }

    /// What arrived at the client since the last call.
    pub fn client_received(&self, client: ClientId) -> Vec<u8> {
        self.world.borrow_mut().network.take_received(client)
    }

    pub fn client_state(&self, client: ClientId) -> super::network::ClientState {
        self.world.borrow().network.state(client)
    }

    /// The client stops to read: the server's sends stand still once its window is full.
    pub fn client_pause(&self, client: ClientId) {
        self.world.borrow_mut().client_pause(client);
    }

    pub fn client_resume(&self, client: ClientId) {
        self.world.borrow_mut().client_resume(client);
    }

    /// The client ends its stream after what it sent; it goes on to receive.
    pub fn client_close(&self, client: ClientId) {
        self.world.borrow_mut().client_end(client, Segment::End);
    }

    /// The client breaks the connection: what is under way may be lost.
    pub fn client_reset(&self, client: ClientId) {
        self.world.borrow_mut().client_end(client, Segment::Reset);
    }

    /// Open files, to find those that were forgotten.
    pub fn open_files(&self) -> usize {
        self.world.borrow().disk.open_count()
    }
}

/// Words of a token, for the hash.
pub(super) fn token_words(token: Token) -> [u64; 2] {
    [token.room as u64, token.value]
}
