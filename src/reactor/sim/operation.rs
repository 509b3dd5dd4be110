//! Operations of the shards in flight: when they touch the disk, and how they end.

use std::any::Any;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use super::content::SyncStart;
use super::disk::Disk;
use super::moment::Unfinished;
use super::network::SocketState;
use super::random::SimRandom;
use super::world::{Event, Faults, World, token_words};
use crate::model::{Monotonic, Position, ShardId};
use crate::reactor::{DIRECT_BLOCK_BYTES, File, Job, Listener, Operation, Rejected, Socket, Token};

/// How an operation ended, before the shard's door turns it into a completion.
pub(super) enum SimOutcome {
    Done,
    Accepted { socket: Socket, peer: SocketAddr },
    Received { socket: Socket, bytes: Vec<u8> },
    EndOfStream,
    Cancelled,
    Read(BytesMut),
    Job(Box<dyn Any + Send>),
    Failed(i32),
}

pub(super) struct Finished {
    pub token: Token,
    pub outcome: SimOutcome,
    pub more: bool,
    pub written: Option<Monotonic>,
}

pub(super) struct Flight {
    pub token: Token,
    pub submitted: Monotonic,
    pub work: Work,
    /// When the write was done whose flush it is now.
    pub written: Option<Monotonic>,
}

pub(super) enum Work {
    Accept { listener: Listener },
    Receive { socket: Socket },
    Send { socket: Socket, bytes: Vec<u8> },
    CloseSocket { socket: Socket },
    File { file: File, work: FileWork },
    Job(Option<Job>),
}

pub(super) enum FileWork {
    /// `error`: it failed, and its completion is on the way.
    Write {
        position: Position,
        bytes: Bytes,
        then_sync: Option<ThenSync>,
        is_applied: bool,
        error: Option<i32>,
    },
    Sync {
        start: Option<SyncStart>,
    },
    Read {
        position: Position,
        length: u32,
        buffer: BytesMut,
        error: Option<i32>,
    },
    Reserve {
        position: Position,
        length: u64,
        error: Option<i32>,
    },
}

/// What is made durable behind a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ThenSync {
    File,
    /// Its own bytes.
    Own,
}

impl FileWork {
    /// A write that has not touched the disk yet.
    pub fn unfinished(&self, file: File) -> Option<Unfinished> {
        match self {
            FileWork::Write { position, bytes, is_applied: false, .. } => {
                Some(Unfinished { descriptor: file.0, position: *position, bytes: bytes.clone() })
            }
            _ => None,
        }
    }
}

/// What a disk does at the end of a sync, faults included.
pub(super) fn end_sync(
    disk: &mut Disk,
    random: &mut SimRandom,
    faults: Faults,
    file: File,
    mut start: SyncStart,
) -> io::Result<()> {
    if random.per_million(faults.sync_error) {
        return Err(disk.fail_sync(file.0, start, random));
    }
    if random.per_million(faults.misdirected_write) {
        disk.misdirect(file.0, &mut start, random);
    }
    disk.end_sync(file.0, start, random)
}

/// What a disk does to a read, faults included.
pub(super) fn read(
    disk: &mut Disk,
    random: &mut SimRandom,
    faults: Faults,
    file: File,
    position: Position,
    into: &mut [u8],
) -> io::Result<usize> {
    if random.per_million(faults.read_error) {
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    let any = |random: &mut SimRandom| position + random.below(into.len().max(1) as u64);
    if random.per_million(faults.latent_sector) {
        let position = any(random);
        disk.fail_sector_of(file.0, position);
    }
    if random.per_million(faults.bit_flip) {
        let position = any(random);
        disk.flip_bit_of(file.0, position, random.below(8) as u8);
    }
    disk.read(file.0, position, into)
}

fn concatenate(slices: &[Bytes]) -> Vec<u8> {
    slices.concat()
}

impl World {
    pub fn submit(&mut self, shard: ShardId, token: Token, operation: Operation) -> Result<(), Rejected> {
        let in_flight_max = self.options.in_flight_max;
        let rejection = self.options.faults.rejection;
        if self.shard(shard).flights.len() >= in_flight_max || self.disk_random.per_million(rejection) {
            return Err(Rejected(operation));
        }
        self.next_operation += 1;
        let number = self.next_operation;
        let work = match operation {
            Operation::Accept { listener } => Work::Accept { listener },
            Operation::Receive { socket } => Work::Receive { socket },
            Operation::Send { socket, slices } => Work::Send { socket, bytes: concatenate(&slices) },
            Operation::SendPiped { .. } => unreachable!("the model has no pages to give (`Io::take_pages`)"),
            Operation::CloseSocket { socket } => Work::CloseSocket { socket },
            Operation::CancelReceive { socket } => {
                self.cancel_receive(shard, token, socket);
                return Ok(());
            }
            Operation::CloseListener { listener } => {
                self.close_listener(shard, token, listener);
                return Ok(());
            }
            // What is on its way to the device the model chooses anyway.
            Operation::Write { file, position, slices } | Operation::WriteOut { file, position, slices } => {
                self.write(file, position, &slices, None)
            }
            Operation::WriteThenSync { file, position, slices } => {
                self.write(file, position, &slices, Some(ThenSync::File))
            }
            Operation::WriteDurable { file, position, slices } => {
                self.write(file, position, &slices, Some(ThenSync::Own))
            }
            Operation::Sync { file } => self.file(file, FileWork::Sync { start: None }),
            Operation::Read { file, position, length, mut buffer } => {
                buffer.clear();
                self.file(file, FileWork::Read { position, length, buffer, error: None })
            }
            Operation::Reserve { file, position, length } => {
                self.file(file, FileWork::Reserve { position, length, error: None })
            }
            Operation::Job(job) => Work::Job(Some(job)),
        };
        self.note(&[0x5b, u64::from(shard.0), number, token_words(token)[0], token_words(token)[1]]);
        let submitted = self.now;
        if let Work::File { file, .. } = work {
            assert!(!self.shard(shard).closing.contains(&file.0), "{file:?} is used after it was closed");
        }
        let is_write = matches!(work, Work::File { work: FileWork::Write { .. }, .. });
        self.shard(shard).flights.insert(number, Flight { token, submitted, work, written: None });
        if is_write {
            self.note_moment("a write is submitted", None);
        }
        self.begin(shard, number);
        Ok(())
    }

    fn file(&self, file: File, work: FileWork) -> Work {
        assert!(self.disk.is_open(file.0), "{file:?} is used, and is not open");
        Work::File { file, work }
    }

    fn write(&self, file: File, position: Position, slices: &[Bytes], then_sync: Option<ThenSync>) -> Work {
        if self.disk.is_direct(file.0) {
            let is_aligned = |value: usize| value.is_multiple_of(DIRECT_BLOCK_BYTES);
            assert!(is_aligned(position as usize), "a direct write at {position}");
            for slice in slices {
                assert!(is_aligned(slice.len()), "a direct write of {} bytes", slice.len());
                assert!(
                    is_aligned(slice.as_ptr().addr()),
                    "a direct write from an address that is not aligned"
                );
            }
        }
        let bytes = Bytes::from(concatenate(slices));
        self.file(file, FileWork::Write { position, bytes, then_sync, is_applied: false, error: None })
    }

    fn begin(&mut self, shard: ShardId, operation: u64) {
        let options = self.options;
        match &self.shard(shard).flights[&operation].work {
            &Work::Accept { listener } => self.begin_accept(shard, operation, listener),
            &Work::Receive { socket } => self.begin_receive(shard, operation, socket),
            &Work::Send { socket, .. } => self.begin_send(shard, operation, socket),
            &Work::CloseSocket { socket } => self.begin_close(shard, operation, socket),
            Work::File { work, .. } => {
                let delay = match work {
                    FileWork::Read { .. } => options.read,
                    FileWork::Write { .. } | FileWork::Reserve { .. } => options.write,
                    // It starts soon; how long it takes is drawn then.
                    FileWork::Sync { .. } => options.round,
                };
                let time = self.disk_delay(delay);
                self.schedule_at(time, Event::Effect { shard, operation });
            }
            Work::Job(_) => {
                let after = self.shard(shard).jobs_until;
                let time = self.disk_delay(options.job).max(after + std::time::Duration::from_nanos(1));
                self.shard(shard).jobs_until = time;
                self.schedule_at(time, Event::RunJob { shard, operation });
            }
        }
    }

    /// The operation touches the disk. Its completion follows after a while of its own.
    pub fn effect(&mut self, shard: ShardId, operation: u64) {
        let Some(mut flight) = self.shard(shard).flights.remove(&operation) else {
            unreachable!("operation {operation} ended before it began")
        };
        let Work::File { file, work } = &mut flight.work else {
            unreachable!("only file operations touch the disk")
        };
        let file = *file;
        if self.count_file_operation() {
            // Stopped in the middle of it: `apply_writes_in_flight` decides what was done.
            self.shard(shard).flights.insert(operation, flight);
            return;
        }
        self.note(&[0xeff, u64::from(shard.0), operation]);
        let was_write = matches!(work, FileWork::Write { .. });
        let (options, faults) = (self.options, self.options.faults);
        let now = self.now;
        let (disk, random) = (&mut self.disk, &mut self.disk_random);
        let delay = match work {
            FileWork::Write { position, bytes, then_sync, is_applied, error } => {
                *is_applied = true;
                disk.assert_unwritten(file.0, *position, bytes);
                if random.per_million(faults.write_error) {
                    disk.write_in_part(file.0, *position, bytes, random);
                    *error = Some(libc::EIO);
                } else if let Err(failure) = disk.write(file.0, *position, bytes) {
                    disk.write_in_part(file.0, *position, bytes, random);
                    *error = failure.raw_os_error();
                }
                if error.is_none() && !disk.is_direct(file.0) && random.per_million(faults.write_back_error) {
                    disk.fail_write_back(file.0, random);
                }
                if let (Some(then_sync), None) = (*then_sync, *error) {
                    // Linked: the sync starts behind the last byte.
                    let own = *position..*position + bytes.len() as u64;
                    let start = disk.start_sync(file.0, (then_sync == ThenSync::Own).then_some(own));
                    *work = FileWork::Sync { start: Some(start) };
                    flight.written = Some(now);
                    options.sync
                } else {
                    options.round
                }
            }
            FileWork::Sync { start } => {
                *start = Some(disk.start_sync(file.0, None));
                options.sync
            }
            FileWork::Read { position, length, buffer, error } => {
                buffer.resize(*length as usize, 0);
                match read(disk, random, faults, file, *position, buffer) {
                    Ok(read) => buffer.truncate(read),
                    Err(failure) => *error = failure.raw_os_error(),
                }
                options.round
            }
            FileWork::Reserve { position, length, error } => {
                if let Err(failure) = disk.reserve(file.0, *position + *length) {
                    *error = failure.raw_os_error();
                }
                options.round
            }
        };
        let after = match work {
            FileWork::Write { .. } | FileWork::Sync { start: Some(_) } if was_write => {
                Some("a write is done")
            }
            FileWork::Reserve { .. } => Some("space is reserved"),
            _ => None,
        };
        self.shard(shard).flights.insert(operation, flight);
        if let Some(after) = after {
            self.note_moment(after, None);
        }
        let time = self.disk_delay(delay);
        self.schedule_at(time, Event::Complete { shard, operation });
    }

    pub fn complete(&mut self, shard: ShardId, operation: u64) {
        // A send that broke has ended before its time.
        let Some(flight) = self.shard(shard).flights.get(&operation) else { return };
        let file = match flight.work {
            Work::Send { socket, .. } => return self.sent(shard, operation, socket),
            Work::CloseSocket { socket } => return self.closed(shard, operation, socket),
            Work::File { file, .. } => file,
            _ => unreachable!("operation {operation} completes by an event of its own kind"),
        };
        // A sync is worth nothing until its end: the machine may stop just before.
        let is_sync = matches!(flight.work, Work::File { work: FileWork::Sync { .. }, .. });
        if is_sync && self.count_file_operation() {
            return;
        }
        let flight =
            self.shards[usize::from(shard.0)].flights.get_mut(&operation).expect("looked up just now");
        let Work::File { work, .. } = &mut flight.work else { unreachable!("looked at just now") };
        let outcome = match work {
            FileWork::Sync { start } => {
                let start = start.take().expect("a sync that ends has started");
                let faults = self.options.faults;
                match end_sync(&mut self.disk, &mut self.disk_random, faults, file, start) {
                    Ok(()) => SimOutcome::Done,
                    Err(error) => {
                        SimOutcome::Failed(error.raw_os_error().expect("the disk's errors have numbers"))
                    }
                }
            }
            FileWork::Write { error: Some(error), .. }
            | FileWork::Read { error: Some(error), .. }
            | FileWork::Reserve { error: Some(error), .. } => SimOutcome::Failed(*error),
            FileWork::Write { .. } | FileWork::Reserve { .. } => SimOutcome::Done,
            FileWork::Read { buffer, .. } => SimOutcome::Read(std::mem::take(buffer)),
        };
        self.finish(shard, operation, outcome);
        if is_sync {
            self.note_moment("a sync is done", None);
        }
        self.close_if_idle(shard, file);
    }

    pub fn take_job(&mut self, shard: ShardId, operation: u64) -> Option<(ShardId, u64, Job)> {
        let flight = self.shard(shard).flights.get_mut(&operation).expect("a job ends by running");
        let Work::Job(job) = &mut flight.work else { unreachable!("only jobs are run") };
        Some((shard, operation, job.take().expect("a job runs once")))
    }

    /// The operation's last completion.
    pub fn finish(&mut self, shard: ShardId, operation: u64, outcome: SimOutcome) {
        let flight = self.shard(shard).flights.remove(&operation).expect("an operation ends once");
        self.shard(shard).ready.push(Finished {
            token: flight.token,
            outcome,
            more: false,
            written: flight.written,
        });
    }

    pub fn close_file(&mut self, shard: ShardId, file: File) {
        assert!(self.disk.is_open(file.0), "{file:?} is closed, and is not open");
        assert!(self.shard(shard).closing.insert(file.0), "{file:?} is closed twice");
        self.close_if_idle(shard, file);
    }

    fn close_if_idle(&mut self, shard: ShardId, file: File) {
        let state = self.shard(shard);
        let is_used = state
            .flights
            .values()
            .any(|flight| matches!(flight.work, Work::File { file: used, .. } if used == file));
        if !is_used && state.closing.remove(&file.0) {
            self.disk.close(file.0);
        }
    }

    pub fn oldest_file_operation(&self, shard: ShardId) -> Option<Monotonic> {
        let mut flights = self.shards[usize::from(shard.0)].flights.values();
        flights.find(|flight| matches!(flight.work, Work::File { .. })).map(|flight| flight.submitted)
    }
}

/// Panics: if the socket is closed or closing.
pub(super) fn assert_usable(socket: Socket, state: &SocketState) {
    assert!(state.close.is_none(), "{socket:?} is used after CloseSocket was submitted");
}
