//! Reads for consumers: bounds, epochs, memory or disk.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::replica::Replica;
use super::set::{OWN, OWN_READ, PartitionEvent, PartitionSet, ReplicaIndex};
use crate::buffer::Block;
use crate::log::{self, DiskRead, Now, ReadDone, ReadError, ReadPlan, StorageError};
use crate::mesh::{FetchPart, FetchPartAnswer, Ticket};
use crate::model::{LeaderEpoch, Map, Monotonic, Offset, PartitionIndex, TopicId};
use crate::protocol::ErrorCode;
use crate::reactor::{Io, Job, Operation, Outcome, Piped, Room, Token};

/// Bytes of disk reads that a round begins. What is in the page cache is copied while the ring takes the reads, on this thread:
/// producers must not wait for all that may be under way.
const ROUND_READ_BYTES_MAX: usize = 4 << 20;

/// Reads of at least this are into blocks that are used again. Memory of that size is the kernel's once it is freed, and each of
/// its pages a fault and a page of zeros the next time.
const BLOCK_READ_BYTES_MIN: usize = 64 << 10;

/// How far a reader may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchBound {
    HighWatermark,
    LastStable,
}

fn read_buffer(bytes: usize) -> BytesMut {
    if bytes < BLOCK_READ_BYTES_MIN { BytesMut::with_capacity(bytes) } else { Block::lend(bytes) }
}

/// What a fetch wants of a log.
#[derive(Clone, Copy)]
struct Range {
    offset: Offset,
    end: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

/// The next step of a read that needs the disk.
enum Step {
    Read(DiskRead),
    /// An old segment is opened and searched on the helper thread first.
    Locate(Option<Job>),
}

impl Step {
    /// Memory that the step takes while it is under way.
    fn bytes(&self) -> usize {
        match self {
            Step::Read(disk) => disk.length as usize,
            Step::Locate(_) => 0,
        }
    }
}

/// A read that a fetch order waits for.
pub(super) struct PendingRead {
    /// The partition may be gone, and its slot given to another, before the read is done.
    key: (TopicId, PartitionIndex),
    range: Range,
    step: Step,
    reading: u32,
    /// Its place among those that wait.
    turn: Turn,
    wanted_at: Monotonic,
    /// The answer without its records.
    answer: FetchPartAnswer,
}

/// Reads wait by their number within their order first, then by age: one fetch of many partitions does not stand before
/// everybody else's (start-time fair queuing, Goyal, Vin, Cheng 1996, each read at the same cost).
type Turn = (u64, u64);

/// Disk reads of fetch orders: wanted ones that the loop submits, in turns, and those under way.
#[derive(Default)]
pub(super) struct ReadTable {
    wanted: BTreeMap<Turn, PendingRead>,
    /// The turn that was submitted last: whoever comes is served with it.
    served: u64,
    /// The order that wanted a read last, and its turn.
    last: (u32, u64),
    count: u64,
    /// The round has submitted its share, and could go on.
    is_cut_short: bool,
    running_bytes: usize,
    running: Map<u64, PendingRead>,
    next: u64,
}

impl ReadTable {
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.running.is_empty()
    }

    pub fn running_bytes(&self) -> usize {
        self.running_bytes
    }

    pub fn waiting(&self) -> usize {
        self.wanted.len()
    }

    /// Reads wait for the next round alone: the shard must not sleep.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// The turn of one more read of this order.
    fn next_turn(&mut self, reading: u32) -> Turn {
        let turn = match self.last {
            // All of an order come in a row.
            (last, turn) if last == reading && self.count > 0 => (turn + 1).max(self.served),
            _ => self.served,
        };
        self.last = (reading, turn);
        self.count += 1;
        (turn, self.count)
    }

    /// A read of this partition is wanted or under way.
    pub fn has(&self, key: (TopicId, PartitionIndex)) -> bool {
        self.wanted.values().chain(self.running.values()).any(|read| read.key == key)
    }
}

impl PartitionSet {
    /// Reads one part of a fetch order. `Err`: a disk read that may bring so many bytes is under way and fills this place
    /// of the order later.
    #[allow(clippy::too_many_arguments, reason = "each is one fact of the order")]
    pub fn fetch(
        &mut self,
        index: ReplicaIndex,
        part: &FetchPart,
        bound: FetchBound,
        max_bytes: u32,
        at_least_one: bool,
        reading: u32,
        now: Now,
    ) -> Result<FetchPartAnswer, u32> {
        self.read_counts.parts += 1;
        let replica = self.get(index);
        let mut answer = FetchPartAnswer {
            slot: part.slot,
            error: ErrorCode::None,
            high_watermark: replica.high_watermark(),
            last_stable_offset: replica.last_stable_offset(),
            log_start_offset: replica.log().log_start_offset(),
            leader_epoch: replica.leader_epoch,
            diverging: None,
            records: Vec::new(),
            pipes: Vec::new(),
            record_bytes: 0,
        };
        let leader_epoch = answer.leader_epoch;
        let refuse = |error| FetchPartAnswer {
            slot: part.slot,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            leader_epoch,
            diverging: None,
            records: Vec::new(),
            pipes: Vec::new(),
            record_bytes: 0,
        };
        if replica.log().offline().is_some() {
            return Ok(refuse(ErrorCode::KafkaStorageError));
        }
        if let Err(error) = check_epoch(part.current_leader_epoch, replica.leader_epoch) {
            return Ok(refuse(error));
        }
        match diverging_epoch(replica, part) {
            Ok(None) => {}
            Ok(diverging) => {
                answer.diverging = diverging;
                return Ok(answer);
            }
            Err(error) => return Ok(refuse(error)),
        }
        let log_end = replica.log().log_end_offset();
        if part.fetch_offset < answer.log_start_offset || part.fetch_offset > log_end {
            return Ok(refuse(ErrorCode::OffsetOutOfRange));
        }
        let end = match bound {
            FetchBound::HighWatermark => answer.high_watermark,
            FetchBound::LastStable => answer.last_stable_offset,
        };
        if part.fetch_offset >= end {
            return Ok(answer);
        }
        let range = Range { offset: part.fetch_offset, end, max_bytes: max_bytes as usize, at_least_one };
        let key = (part.topic_id, part.partition);
        match self.plan(index, range, now) {
            Ok(Planned::Slices(slices)) => {
                fill(&mut answer, slices);
                self.read_counts.memory += 1;
                self.read_counts.memory_bytes += u64::from(answer.record_bytes);
                self.count_read(index, &answer);
                Ok(answer)
            }
            Ok(Planned::Step(step)) => {
                let planned_bytes = match &step {
                    Step::Read(disk) => disk.length.min(max_bytes),
                    Step::Locate(_) => max_bytes,
                };
                self.read_counts.disk += 1;
                let turn = self.wanted_reads.next_turn(reading);
                let wanted_at = now.monotonic;
                let read = PendingRead { key, range, step, reading, turn, wanted_at, answer };
                self.wanted_reads.wanted.insert(turn, read);
                Err(planned_bytes)
            }
            Err(error) => {
                let answer = refuse(read_error(&error));
                self.tell_unreadable(index, error);
                Ok(answer)
            }
        }
    }

    fn plan(&mut self, index: ReplicaIndex, range: Range, now: Now) -> Result<Planned, ReadError> {
        let (replica, cache) = self.replica_and_cache(index);
        let Range { offset, end, max_bytes, at_least_one } = range;
        Ok(match replica.log.read(cache, offset, end, max_bytes, at_least_one, now)? {
            ReadPlan::Empty => Planned::Slices(Vec::new()),
            ReadPlan::Memory(slices) => Planned::Slices(slices),
            ReadPlan::Disk(disk) => Planned::Step(Step::Read(disk)),
            ReadPlan::Locate(job) => Planned::Step(Step::Locate(Some(job))),
        })
    }

    /// Hands wanted reads to the reactor, as many as may be under way and as a round may begin; the others wait.
    pub(super) fn submit_reads(&mut self, io: &mut dyn Io) {
        let mut round_bytes = 0;
        self.wanted_reads.is_cut_short = false;
        while let Some((turn, mut read)) = self.wanted_reads.wanted.pop_first() {
            let table = &mut self.wanted_reads;
            let bytes = read.step.bytes();
            // Whatever its size, one of them runs.
            let is_over =
                table.running_bytes > 0 && table.running_bytes + bytes > self.options.fetch_read_bytes_max;
            let is_cut_short = round_bytes > 0 && round_bytes + bytes > ROUND_READ_BYTES_MAX;
            if is_over || is_cut_short {
                table.is_cut_short = !is_over;
                table.wanted.insert(turn, read);
                return;
            }
            if let Some(pipes) = self.take_pages(io, &read) {
                self.wanted_reads.served = turn.0;
                round_bytes += pipes.iter().map(Piped::len).sum::<usize>();
                self.finish_read(io, read, Ok(Found::Pages(pipes)));
                continue;
            }
            let table = &mut self.wanted_reads;
            let number = table.next;
            let token = Token::new(Room::Log, OWN | OWN_READ << 48 | number);
            let operation = match &mut read.step {
                Step::Read(disk) => Operation::Read {
                    file: disk.file,
                    position: disk.position,
                    length: disk.length,
                    buffer: read_buffer(disk.length as usize),
                },
                Step::Locate(job) => Operation::Job(job.take().expect("a job is submitted once")),
            };
            match io.submit(token, operation) {
                Ok(()) => {
                    round_bytes += bytes;
                    table.served = turn.0;
                    table.next = (number + 1) & 0xffff_ffff_ffff;
                    table.running_bytes += bytes;
                    let waited = io.now().since(read.wanted_at).as_micros();
                    self.read_counts.waited_us += u64::try_from(waited).unwrap_or(u64::MAX);
                    table.running.insert(number, read);
                }
                Err(rejected) => {
                    if let (Step::Locate(place), Operation::Job(job)) = (&mut read.step, rejected.0) {
                        *place = Some(job);
                    }
                    // The ring is full: what ends next makes room.
                    table.wanted.insert(turn, read);
                    return;
                }
            }
        }
    }

    /// A read, or the search before it, is done.
    pub(super) fn read_done(&mut self, io: &mut dyn Io, number: u64, outcome: Outcome, now: Monotonic) {
        let mut read = self.wanted_reads.running.remove(&number).expect("a read ends once");
        self.wanted_reads.running_bytes -= read.step.bytes();
        if let Outcome::Read(bytes) = &outcome {
            self.read_counts.disk_bytes += bytes.len() as u64;
        }
        let result = match self.find(read.key.0, read.key.1) {
            None => {
                if let (Step::Locate(_), Outcome::Job(result)) = (&read.step, outcome) {
                    log::discard_located(io, result);
                }
                Err(match self.offline(read.key.0, read.key.1) {
                    Some(_) => ErrorCode::KafkaStorageError,
                    None => ErrorCode::UnknownTopicOrPartition,
                })
            }
            Some(index) => match self.go_on_reading(io, index, &read, outcome) {
                Ok(Planned::Step(step)) => {
                    read.step = step;
                    read.wanted_at = now;
                    // It had its turn, and goes on with it.
                    self.wanted_reads.wanted.insert(read.turn, read);
                    return;
                }
                Ok(Planned::Slices(slices)) => Ok(Found::Slices(slices)),
                Err(error) => {
                    let code = read_error(&error);
                    self.tell_unreadable(index, error);
                    Err(code)
                }
            },
        };
        self.finish_read(io, read, result);
    }

    /// What the read wants, if it is in the page cache and may go from there.
    fn take_pages(&mut self, io: &mut dyn Io, read: &PendingRead) -> Option<Vec<Piped>> {
        let Step::Read(disk) = &read.step else { return None };
        let index = self.find(read.key.0, read.key.1)?;
        let pipes = self.get_mut(index).log.take_pages(io, disk);
        (!pipes.is_empty()).then_some(pipes)
    }

    /// Puts what was found, or why nothing was, into the order's answer.
    fn finish_read(&mut self, io: &mut dyn Io, read: PendingRead, result: Result<Found, ErrorCode>) {
        let now = io.now();
        let PendingRead { key, mut answer, reading, step, .. } = read;
        // With it goes the loan of the file.
        drop(step);
        self.trim_old_files(io);
        match result {
            Ok(found) => {
                match found {
                    Found::Slices(slices) => fill(&mut answer, slices),
                    Found::Pages(pipes) => {
                        answer.record_bytes = pipes.iter().map(|piped| piped.len() as u32).sum();
                        answer.pipes = pipes;
                        self.read_counts.piped_bytes += u64::from(answer.record_bytes);
                    }
                }
                if let Some(index) = self.find(key.0, key.1) {
                    self.count_read(index, &answer);
                }
            }
            Err(error) => {
                answer.error = error;
                (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset) = (-1, -1, -1);
            }
        }
        if self.reads.fill(reading, answer) {
            self.reads.note_read(reading, now);
            self.events.push(PartitionEvent::ReadsDone { reading });
        }
    }

    fn go_on_reading(
        &mut self,
        io: &mut dyn Io,
        index: ReplicaIndex,
        read: &PendingRead,
        outcome: Outcome,
    ) -> Result<Planned, ReadError> {
        match (&read.step, outcome) {
            (Step::Locate(_), Outcome::Job(result)) => {
                self.get_mut(index).log.finish_locate(io, result)?;
                let planned = self.plan(index, read.range, Now::read(io));
                // Now that it is lent it is not closed.
                self.note_old_files(io, index);
                planned
            }
            (Step::Read(disk), Outcome::Read(bytes)) => {
                Ok(match self.get_mut(index).log.finish_read(disk, bytes)? {
                    ReadDone::Batches(bytes) => {
                        Planned::Slices(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
                    }
                    ReadDone::Again(disk) => Planned::Step(Step::Read(disk)),
                })
            }
            (Step::Read(disk), Outcome::Failed(source)) => {
                let path = self.get(index).log.directory();
                Err(ReadError::Storage(StorageError::new("read segment", path, source).at(disk.position)))
            }
            _ => panic!("a read cannot end like this"),
        }
    }

    /// Leaves a watch for a fetch until `until`.
    pub fn watch(&mut self, index: ReplicaIndex, ticket: Ticket) {
        self.get_mut(index).purgatory.watch(ticket);
        self.watched.entry(ticket).or_default().push(index);
    }

    /// Takes the watches of a fetch back.
    pub fn unwatch(&mut self, ticket: Ticket) {
        for index in self.watched.remove(&ticket).unwrap_or_default() {
            if let Some(replica) = self.replicas[index.0 as usize].as_mut() {
                replica.purgatory.unwatch(ticket);
            }
        }
    }

    /// Tells the fetches that watch this replica, each once however many of its partitions move, and the sessions.
    pub(super) fn wake_watchers(&mut self, index: ReplicaIndex) {
        self.tell_sessions(index);
        if !self.get(index).purgatory.has_watches() {
            return;
        }
        let mut woken = std::mem::take(&mut self.woken);
        self.get_mut(index).purgatory.take_watches(&mut woken);
        for ticket in woken.drain(..) {
            self.unwatch(ticket);
            self.events.push(PartitionEvent::Woken(ticket));
        }
        self.woken = woken;
    }
}

/// What a read brought.
enum Found {
    Slices(Vec<Bytes>),
    Pages(Vec<Piped>),
}

/// What a plan came to: bytes, or a step that needs the disk.
enum Planned {
    Slices(Vec<Bytes>),
    Step(Step),
}

pub(super) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
    }
}

fn fill(answer: &mut FetchPartAnswer, slices: Vec<Bytes>) {
    answer.record_bytes = slices.iter().map(|slice| slice.len() as u32).sum();
    answer.records = slices;
}

/// Fences a client that knows another leader epoch; -1 asks for no check.
pub fn check_epoch(asked: i32, ours: LeaderEpoch) -> Result<(), ErrorCode> {
    match asked {
        -1 => Ok(()),
        epoch if epoch < ours.0 => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > ours.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the reader's log parts from ours, if the epoch of the record before its offset says so (KIP-595).
/// Errors: OffsetOutOfRange if this log knows nothing of that epoch, as Kafka answers (`Partition.readRecords`).
fn diverging_epoch(replica: &Replica, part: &FetchPart) -> Result<Option<(i32, Offset)>, ErrorCode> {
    if part.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let asked = LeaderEpoch(part.last_fetched_epoch);
    let end = replica.end_offset_for_epoch(asked).ok_or(ErrorCode::OffsetOutOfRange)?;
    let parts = end.leader_epoch < asked || end.offset < part.fetch_offset;
    Ok(parts.then_some((end.leader_epoch.0, end.offset)))
}
