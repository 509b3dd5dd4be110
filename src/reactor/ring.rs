//! The door to the kernel: one io_uring per shard, made and used on the shard's thread.
//!
//! An operation goes `submit` -> in-flight slot (`inflight`, owns the buffers) -> submission entries (`submission`) -> kernel ->
//! completion entries -> `completion` (short results go on, linked results are joined) -> one `Completion` for the room.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::clock::{self, Random};
use super::copier::Copiers;
use super::door::{
    Completion, File, Files, Io, Listener, Operation, Outcome, Received, Rejected, Socket, Token,
};
use super::doorbell::Doorbells;
use super::fd::{FileTable, Listeners, Sockets, close_unused};
use super::helper::{HELP, Helper};
use super::inflight::{Durable, InFlight, Key, Work, WriteWork};
use super::listen::listening_socket;
use super::piped::{self, Piped, Pipes};
use super::provided::ProvidedBuffers;
use super::std_files::StdFiles;
use super::timer::Timers;
use crate::model::{Monotonic, ShardId, Timestamp};

/// A bug that the power cuts must catch: writes go without their flush, on every way to the disk.
const PLANTED_NO_FLUSH: bool = cfg!(corelog_planted = "104");

/// How long a dropped ring waits for the kernel to finish with its buffers.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// How long receives take turns after two of them have waited for a buffer at a time. A connection that has more to say than a
/// buffer holds takes all that are free, at once, and does so again in each round: those beside it must not depend on luck.
const CROWDED_ROUNDS: u32 = 64;

/// For how many rounds after a small reply large ones, and what they are read from, give way to the next.
const SMALL_ROUNDS: u32 = 256;

/// With more bytes of writes in flight the thread keeps its core: the workers would have it until all is copied, for
/// milliseconds, and who sends little would wait for who sends much.
const GIVE_WAY_BYTES_MAX: usize = 1 << 20;

/// How often a full submission queue is handed to the kernel before the ring gives up. The kernel refuses only without memory.
const SUBMIT_ATTEMPTS_MAX: u32 = 1000;

/// The sizes of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingOptions {
    /// Connections this shard can have; more are closed as they come. At most 2^20, and at most the limit of open files.
    pub sockets_max: u32,
    /// Listening sockets.
    pub listeners_max: u32,
    /// File operations and jobs in flight beside those of the sockets.
    pub file_operations_max: u32,
    /// Entries of the submission queue; a fuller round takes more than one system call.
    pub submission_entries: u32,
    /// Buffers that the kernel picks from for received bytes: a power of two.
    pub receive_buffer_count: u16,
    pub receive_buffer_bytes: u32,
}

impl Default for RingOptions {
    fn default() -> RingOptions {
        RingOptions {
            sockets_max: 1024,
            listeners_max: 1,
            file_operations_max: 1024,
            submission_entries: 1024,
            // 1 MiB in all: fits into the second-level cache of the cores of interest.
            receive_buffer_count: 16,
            receive_buffer_bytes: 64 << 10,
        }
    }
}

impl RingOptions {
    /// Slots of the in-flight table: per socket a receive, a send and a cancel or close; per listener an accept and a close.
    fn in_flight_max(&self) -> usize {
        3 * self.sockets_max as usize + 2 * self.listeners_max as usize + self.file_operations_max as usize
    }

    /// Entries of the completion queue: more than there can be operations in flight, at least 4096, a power of two.
    pub(super) fn completion_entries(&self) -> u32 {
        // Source: IORING_MAX_CQ_ENTRIES, io_uring/io_uring.c. Above it the kernel keeps the rest in a list of its own.
        const COMPLETION_ENTRIES_MAX: u32 = 65536;
        let wanted = self.in_flight_max() as u32 + u32::from(self.receive_buffer_count);
        (wanted + wanted / 4).next_power_of_two().clamp(4096, COMPLETION_ENTRIES_MAX)
    }

    /// A ring of these sizes with the flags we run with.
    pub(super) fn build(&self) -> io::Result<IoUring> {
        IoUring::<squeue::Entry, cqueue::Entry>::builder()
            .setup_single_issuer()
            // Completion work runs when this thread waits, not in the middle of a handler.
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            // The kernel says in the ring that such work is there, so that a round without waiting can skip the system call.
            .setup_taskrun_flag()
            // One bad entry does not hold back those behind it.
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(self.completion_entries())
            .build(self.submission_entries)
    }
}

/// What a ring has met, since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingCounters {
    /// System calls that entered the kernel.
    pub enters: u64,
    /// Receives that found no free buffer and waited for one.
    pub receives_starved: u64,
    /// Sends and writes that the kernel did in part and that were continued.
    pub short_transfers: u64,
    /// Times that accepting paused because descriptors or memory were short.
    pub accept_pauses: u64,
    /// Connections closed as they came, for want of a place in the table.
    pub connections_refused: u64,
    /// Doorbells that went through the eventfd because the peer's ring did not take them.
    pub doorbells_by_event: u64,
}

/// One shard's io_uring. Not `Send`: it belongs to the thread that made it.
pub struct Ring {
    // Dropped in this order: the ring before the buffers it fills.
    pub(super) uring: IoUring,
    pub(super) provided: ProvidedBuffers,
    pub(super) in_flight: InFlight,
    pub(super) sockets: Sockets,
    pub(super) listeners: Listeners,
    pub(super) files: FileTable,
    /// Completion entries taken from the ring and not yet looked at.
    pub(super) arrived: VecDeque<cqueue::Entry>,
    /// Finished operations that nobody has reaped.
    pub(super) ready: Vec<Completion>,
    /// Receives that wait for a free buffer, in the order they lost theirs or had their turn.
    pub(super) starved: VecDeque<Key>,
    /// Rounds for which receives take turns still (`CROWDED_ROUNDS`).
    crowded_rounds: u32,
    /// Rounds left in which large replies give way to small ones.
    small_rounds: u32,
    /// Accepts that wait before they try again.
    pub(super) paused: Timers<Key>,
    pub(super) counters: RingCounters,
    pub(super) doorbells: Arc<Doorbells>,
    shard: ShardId,
    helper: Helper,
    pub(super) copiers: Copiers,
    random: Random,
    std_files: StdFiles,
    pipes: Pipes,
}

impl Ring {
    /// Makes the ring of `shard` on the calling thread, which alone may use it, and the shard's helper thread.
    /// Errors: what the kernel refuses; [`ProbeError::from_setup`](super::ProbeError::from_setup) finds cause and remedy.
    pub fn new(shard: ShardId, options: RingOptions, doorbells: Arc<Doorbells>) -> io::Result<Ring> {
        let uring = options.build()?;
        uring.submitter().register_files_sparse(options.sockets_max)?;
        let provided =
            ProvidedBuffers::register(&uring, options.receive_buffer_count, options.receive_buffer_bytes)?;
        let helper = Helper::start(HELP, &doorbells.waker(shard))?;
        let copiers = Copiers::new(doorbells.waker(shard));
        let mut ring = Ring {
            // One more: the read of the eventfd.
            in_flight: InFlight::new(options.in_flight_max() + 1),
            sockets: Sockets::new(options.sockets_max),
            listeners: Listeners::default(),
            files: FileTable::default(),
            arrived: VecDeque::new(),
            ready: Vec::new(),
            starved: VecDeque::new(),
            crowded_rounds: 0,
            small_rounds: 0,
            paused: Timers::new(),
            counters: RingCounters::default(),
            shard,
            helper,
            copiers,
            random: Random::new(),
            std_files: StdFiles,
            pipes: Pipes::default(),
            uring,
            provided,
            doorbells,
        };
        ring.listen_for_wake();
        ring.doorbells.hang(shard, ring.uring.as_raw_fd());
        Ok(ring)
    }

    /// Listens on `address`, beside the other shards (`SO_REUSEPORT`); then submit `Accept`.
    /// Returns the address with the port that the kernel chose if `address` has port 0.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        let (socket, bound) = listening_socket(address)?;
        Ok((self.listeners.add(socket), bound))
    }

    pub fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Receives that could fill all buffers get one, and then wait for those that wait already.
    pub(super) fn receives_take_turns(&self) -> bool {
        self.crowded_rounds > 0
    }

    /// Small replies were sent a moment ago: whoever waits for the next should not wait until a large one is copied.
    pub(super) fn serves_small(&self) -> bool {
        self.small_rounds > 0
    }

    pub fn open_sockets(&self) -> usize {
        self.sockets.open_count()
    }

    fn listen_for_wake(&mut self) {
        let work = Work::Wake { count: Box::new(0) };
        let key = self.in_flight.insert(None, clock::monotonic(), work);
        let key = key.unwrap_or_else(|_| unreachable!("the table was made with a slot for this"));
        self.start(key);
    }

    pub(super) fn waker_fd(&self) -> i32 {
        self.doorbells.event(self.shard).as_raw_fd()
    }

    /// Hands an operation's end to its room.
    pub(super) fn end(&mut self, key: Key, outcome: Outcome) {
        self.end_written(key, outcome, None);
    }

    /// As `end`, of a write that was done at this time, and then flushed.
    pub(super) fn end_written(&mut self, key: Key, outcome: Outcome, written: Option<Monotonic>) {
        if let Some(token) = self.in_flight.finish(key) {
            self.ready.push(Completion { token, outcome, more: false, written });
        }
    }

    /// Moves the kernel's completion entries into our own queue.
    pub(super) fn collect(&mut self) {
        self.arrived.extend(self.uring.completion());
    }

    /// Puts entries into the submission queue, in one piece so that a link between them holds.
    pub(super) fn push(&mut self, entries: &[squeue::Entry]) {
        for _ in 0..SUBMIT_ATTEMPTS_MAX {
            // SAFETY: what the entries point at is owned by the operation's in-flight slot, at addresses that do not change,
            // and the slot is kept until its last completion (`InFlight::finish` asserts `pending == 0`).
            #[allow(unsafe_code)]
            if unsafe { self.uring.submission().push_multiple(entries) }.is_ok() {
                return;
            }
            self.enter_now();
            // Room in the completion queue: a full one is a reason for the kernel to take nothing more.
            self.collect();
        }
        panic!("the kernel takes no submissions: {SUBMIT_ATTEMPTS_MAX} attempts");
    }

    /// Submits what is queued, without waiting.
    fn enter_now(&mut self) {
        let queue = self.uring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return;
        }
        drop(queue);
        self.counters.enters += 1;
        match self.uring.submit() {
            Ok(_) => {}
            Err(error) => check_enter(&error),
        }
    }

    /// Submits what is queued and sleeps until the next completion or `until`.
    fn enter_and_sleep(&mut self, until: Monotonic) {
        self.counters.enters += 1;
        let result = if until == Monotonic::NEVER {
            self.uring.submit_and_wait(1)
        } else {
            let timeout = Timespec::from(until.since(clock::monotonic()));
            self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
        };
        match result {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) => check_enter(&error),
        }
    }

    /// What has waited for a buffer, a slot or a moment and can go on now.
    fn resume_waiting(&mut self) {
        self.crowded_rounds = match self.starved.len() {
            0 | 1 => self.crowded_rounds.saturating_sub(1),
            _ => CROWDED_ROUNDS,
        };
        self.small_rounds = self.small_rounds.saturating_sub(1);
        let mut free = self.provided.free();
        while free > 0 {
            let Some(key) = self.starved.pop_front() else { break };
            // It may have been cancelled meanwhile.
            if self.in_flight.find(key).is_some_and(|slot| slot.pending == 0) {
                self.start(key);
                free -= 1;
            }
        }
        while let Some(key) = self.paused.pop_due(clock::monotonic()) {
            if self.in_flight.find(key).is_some_and(|slot| slot.pending == 0) {
                self.start(key);
            }
        }
        while !self.in_flight.is_full() {
            let Some(file) = self.files.ready_to_close.pop_front() else { break };
            self.files.closed(file);
            let inserted = self.in_flight.insert(None, clock::monotonic(), Work::CloseFile { file });
            let key = inserted.unwrap_or_else(|_| unreachable!("the table has a free slot"));
            self.start(key);
        }
    }

    fn take_jobs(&mut self) {
        while let Some((key, result)) = self.helper.try_result() {
            let work = self.in_flight.take_work(key);
            assert!(matches!(work, Work::Job), "the result of a job for an operation that is none");
            self.end(key, Outcome::Job(result));
        }
    }

    fn take_copies(&mut self) {
        while let Some(copied) = self.copiers.try_result() {
            self.complete_copy(copied);
        }
    }

    /// Turns a room's operation into the table's, or gives it back if the table is full.
    fn admit(&mut self, token: Token, operation: Operation) -> Result<(), Rejected> {
        if self.in_flight.is_full() {
            return Err(Rejected(operation));
        }
        let work = match operation {
            Operation::Accept { listener } => Work::Accept { listener },
            Operation::Receive { socket } => Work::Receive { socket },
            Operation::CancelReceive { socket } => {
                Work::CancelReceive { socket, receive: self.sockets.state(socket).receive }
            }
            Operation::Send { socket, slices } => self.send_work(socket, slices, None),
            Operation::SendPiped { socket, slices, piped } => self.send_work(socket, slices, Some(piped)),
            Operation::CloseSocket { socket } => Work::CloseSocket { socket },
            Operation::CloseListener { listener } => Work::CloseListener { listener },
            Operation::Write { file, position, slices } => {
                self.write_work(file, position, slices, Durable::No)
            }
            Operation::WriteOut { file, position, slices } => {
                self.write_work(file, position, slices, Durable::Begun)
            }
            Operation::WriteThenSync { file, position, slices } => {
                let durable = if PLANTED_NO_FLUSH { Durable::No } else { Durable::LinkedSync };
                self.write_work(file, position, slices, durable)
            }
            Operation::WriteDurable { file, position, slices } => {
                self.write_work(file, position, slices, Durable::Dsync)
            }
            Operation::Sync { file } => Work::Sync { file },
            Operation::Read { file, position, length, mut buffer } => {
                buffer.clear();
                buffer.reserve(length as usize);
                Work::Read { file, position, length, buffer }
            }
            Operation::Reserve { file, position, length } => Work::Reserve { file, position, length },
            Operation::Job(job) => {
                let key = self.in_flight.insert(Some(token), clock::monotonic(), Work::Job);
                let key = key.unwrap_or_else(|_| unreachable!("the table has a free slot"));
                self.helper.submit((key, job));
                return Ok(());
            }
        };
        if let Some(file) = work.file() {
            self.files.begin(file);
        }
        let key = self.in_flight.insert(Some(token), clock::monotonic(), work);
        let key = key.unwrap_or_else(|_| unreachable!("the table has a free slot"));
        self.begin(key);
        Ok(())
    }

    fn send_work(&mut self, socket: Socket, slices: super::Slices, piped: Option<Piped>) -> Work {
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.sockets.state(socket).note_reply(bytes + piped.as_ref().map_or(0, Piped::len)) {
            self.small_rounds = SMALL_ROUNDS;
        }
        let gather = self.in_flight.take_gather();
        Work::Send { socket, slices, progress: Default::default(), gather, piped, sent: None, spliced: None }
    }

    fn write_work(&mut self, file: File, position: u64, slices: super::Slices, durable: Durable) -> Work {
        let gather = self.in_flight.take_gather();
        Work::Write(WriteWork {
            file,
            position,
            bytes: slices.iter().map(|slice| slice.len()).sum(),
            slices,
            progress: Default::default(),
            gather,
            durable,
            written: None,
            asked: 0,
            written_at: None,
            synced: None,
        })
    }
}

/// Errors of io_uring_enter that pass by themselves. All others are bugs of ours.
fn check_enter(error: &io::Error) {
    match error.raw_os_error() {
        // A signal; completions that must be taken first; no memory for a request right now.
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => {}
        _ => panic!("io_uring_enter: {error}"),
    }
}

impl Io for Ring {
    fn now(&self) -> Monotonic {
        clock::monotonic()
    }

    fn wall_clock(&self) -> Timestamp {
        clock::wall()
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn submit(&mut self, token: Token, operation: Operation) -> Result<(), Rejected> {
        self.admit(token, operation)
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        self.collect();
        while let Some(entry) = self.arrived.pop_front() {
            self.complete(entry.user_data(), entry.result(), entry.flags());
        }
        self.take_jobs();
        self.take_copies();
        completions.append(&mut self.ready);
    }

    fn wait(&mut self, until: Monotonic) {
        self.resume_waiting();
        let until = self.paused.next_deadline().map_or(until, |paused| until.min(paused));
        // Receives still starved with buffers free: arm the next of them in the next round, not after a sleep.
        let is_busy = !self.ready.is_empty()
            || !self.arrived.is_empty()
            || (!self.starved.is_empty() && self.provided.free() > 0);
        if is_busy || until <= clock::monotonic() {
            self.enter_now();
        } else {
            self.enter_and_sleep(until);
        }
    }

    fn give_way(&mut self) {
        if self.in_flight.write_bytes() <= GIVE_WAY_BYTES_MAX {
            std::thread::yield_now();
        }
    }

    fn ring_doorbell(&mut self, shard: ShardId) {
        assert_ne!(shard, self.shard, "a shard does not wake itself");
        match self.doorbells.ring(shard) {
            Some(ring) => {
                let entry = super::submission::doorbell(ring, shard);
                self.push(&[entry]);
            }
            // Not up yet, or gone: the eventfd keeps the news for whoever comes.
            None => self.doorbells.ring_event(shard),
        }
    }

    fn bytes<'a>(&'a self, received: &'a Received) -> &'a [u8] {
        self.provided.bytes(received)
    }

    fn give_back(&mut self, received: Received) {
        self.provided.give_back(received);
    }

    fn is_resident(&mut self, file: File, position: u64, length: u64) -> bool {
        piped::is_resident(file, position, length)
    }

    fn take_pages(&mut self, file: File, position: u64, length: usize) -> Option<Piped> {
        self.pipes.take(file, position, length)
    }

    fn peek(&mut self, file: File, position: u64, into: &mut [u8]) -> usize {
        piped::peek(file, position, into)
    }

    fn close_file(&mut self, file: File) {
        self.files.close(file);
    }

    fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    fn enters(&self) -> u64 {
        self.counters.enters
    }

    fn refused(&self) -> u64 {
        self.counters.connections_refused
    }

    fn oldest_file_operation(&self) -> Option<Monotonic> {
        self.in_flight.oldest_file_operation()
    }

    fn files(&mut self) -> &mut dyn Files {
        &mut self.std_files
    }
}

impl Drop for Ring {
    /// Cancels what runs and waits for it, so that the kernel lets go of every buffer before it is freed.
    /// What does not end in time is leaked on purpose: freeing it would let the kernel write into someone else's memory.
    fn drop(&mut self) {
        self.doorbells.take_down(self.shard);
        for file in self.files.ready_to_close.drain(..) {
            self.std_files.close(file);
        }
        if std::thread::panicking() {
            // The state that panicked is not to be trusted with a drain.
            self.leak();
            return;
        }
        let deadline = clock::monotonic() + DRAIN_WAIT;
        if !self.copiers.drain(DRAIN_WAIT) {
            eprintln!(
                "reactor: a large write of shard {} does not end; its thread is left to it",
                self.shard
            );
        }
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        self.push(&[everything.user_data(super::submission::CANCEL_ALL)]);
        loop {
            self.collect();
            while let Some(entry) = self.arrived.pop_front() {
                self.note_end(entry.user_data(), entry.result(), entry.flags());
            }
            if self.in_flight.is_idle() {
                return;
            }
            if clock::monotonic() >= deadline {
                self.leak();
                return;
            }
            self.enter_and_sleep(deadline);
        }
    }
}

impl Ring {
    /// A completion that nobody will hear of: only takes note that the kernel is done.
    fn note_end(&mut self, user_data: u64, result: i32, flags: u32) {
        if super::submission::is_internal(user_data) {
            return;
        }
        let (key, _) = Key::parse(user_data);
        let slot = self.in_flight.slot(key);
        if !cqueue::more(flags) {
            slot.pending -= 1;
        }
        if result >= 0 && matches!(slot.work, Some(Work::Accept { .. })) {
            close_unused(result);
        }
    }

    fn leak(&mut self) {
        eprintln!(
            "reactor: the kernel still works on {} operations of shard {}; their memory is left to it",
            self.in_flight.busy(),
            self.shard
        );
        self.provided.leak();
        std::mem::forget(std::mem::replace(&mut self.in_flight, InFlight::new(0)));
    }
}

/// A connected socket's place in the table, for tests and traces.
impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Sockets::index(*self))
    }
}
