//! The seam: operations, completions, and the [`Io`] trait.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::piped::Piped;
use crate::model::{Monotonic, Position, ShardId, Timestamp};

/// Which room submitted an operation and gets its completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Room {
    Net = 1,
    Log = 2,
    Shard = 3,
}

/// The submitter's word for an operation; comes back unchanged with each of its completions. `value` has 56 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    pub room: Room,
    pub value: u64,
}

impl Token {
    pub fn new(room: Room, value: u64) -> Token {
        assert!(value < 1 << 56, "token value {value} does not fit in 56 bits");
        Token { room, value }
    }
}

/// A connected stream socket: a direct descriptor of the ring, or a stream of the model. Valid until `CloseSocket` completes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Socket(pub u32);

/// A listening socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Listener(pub u32);

/// An open file. Copied freely; closed once, by `Io::close_file`, which waits for operations in flight on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct File(pub i32);

/// Bytes to send or write, in order, shared with whoever else reads them. The operation owns them until its last completion.
pub type Slices = Vec<Bytes>;

/// Bytes that arrived on a socket, in a buffer lent by the reactor's pool. Goes back with [`Io::give_back`], exactly once.
#[derive(Debug)]
pub struct Received {
    /// The buffer's number in the pool, for the reactor alone.
    pub(in crate::reactor) buffer: u16,
    pub(in crate::reactor) start: *const u8,
    pub(in crate::reactor) length: u32,
}

/// A blocking file-system job run on a helper thread (in the model: at a later moment chosen by the seed).
/// Its result comes back in [`Outcome::Job`] for the submitter to downcast.
pub type Job = Box<dyn FnOnce(&mut dyn Files) -> Box<dyn Any + Send> + Send>;

/// What a room can ask of the kernel. Every operation ends in exactly one completion with `more == false`;
/// `Accept` and `Receive` are multishot and give any number of completions with `more == true` before it.
pub enum Operation {
    /// Accepts connections. Completions: `Accepted`; at last `Cancelled` after `CloseListener`, or `Failed`. A shortage of
    /// descriptors or memory pauses inside the reactor and is not seen.
    Accept { listener: Listener },
    /// Receives until end of stream, error or `CancelReceive`. Completions: `Received`; at last `EndOfStream`, `Cancelled`
    /// or `Failed`. A shortage of pool buffers re-arms inside the reactor and is not seen.
    Receive { socket: Socket },
    /// Stops the `Receive` of this socket; what already arrived is still delivered. Completes with `Done` itself.
    CancelReceive { socket: Socket },
    /// Sends all bytes (gather; short sends go on inside). One in flight per socket. Completion: `Done` or `Failed`.
    Send { socket: Socket, slices: Slices },
    /// `Send`, and behind it what is in the pipe. Completion: as of `Send`.
    SendPiped { socket: Socket, slices: Slices, piped: Piped },
    /// Shuts the stream down both ways and closes the descriptor once nothing is in flight on it. The operations in flight end
    /// before it, each with its own completion; nothing more is received. Completion: `Done`.
    CloseSocket { socket: Socket },
    /// Stops accepting and closes. Completion: `Done`.
    CloseListener { listener: Listener },
    /// Writes all bytes at `position` (short writes go on inside). Completion: `Done` or `Failed`; after `Failed` any
    /// subset of the bytes may have been written.
    Write { file: File, position: Position, slices: Slices },
    /// `Write`, behind which the kernel is told to send the bytes on to the device now and not when it likes (sync_file_range).
    /// Nobody waits for them there; what becomes of them the next flush tells. Completion: as of `Write`.
    WriteOut { file: File, position: Position, slices: Slices },
    /// `Write`, then fdatasync of the file, linked: the sync starts after the last byte is written, both results are
    /// checked. Completion: `Done` once both succeeded, else `Failed` with the first error.
    WriteThenSync { file: File, position: Position, slices: Slices },
    /// Writes all bytes so that each is on the device when its write completes (`RWF_DSYNC`). For devices with FUA only: without
    /// it the kernel flushes on a worker of the interrupt's core, which costs a scheduler tick when that core is busy.
    /// Completion: `Done` or `Failed`.
    WriteDurable { file: File, position: Position, slices: Slices },
    /// fdatasync. Completion: `Done` or `Failed`. Orders nothing that is still in flight: submit after those completions.
    Sync { file: File },
    /// Reads up to `length` bytes at `position` into `buffer` (cleared first). Completion: `Read` with the bytes read,
    /// fewer only at end of file; or `Failed`.
    Read { file: File, position: Position, length: u32, buffer: BytesMut },
    /// Reserves space without changing the file's size (`FALLOC_FL_KEEP_SIZE`). Completion: `Done` or `Failed`.
    Reserve { file: File, position: Position, length: u64 },
    /// Runs a blocking job on a helper thread; jobs of one shard run in the order of submission.
    Job(Job),
}

/// How an operation ended, or what a multishot operation brought.
pub enum Outcome {
    Done,
    Accepted {
        socket: Socket,
        peer: Option<SocketAddr>,
    },
    Received(Received),
    EndOfStream,
    Cancelled,
    Read(BytesMut),
    Job(Box<dyn Any + Send>),
    /// The errno of the kernel or of the model. Never retried inside for writes and syncs.
    Failed(io::Error),
}

/// One completion.
pub struct Completion {
    pub token: Token,
    pub outcome: Outcome,
    /// More completions of this operation will come.
    pub more: bool,
    /// Of a write with a linked flush that is done: when the write was, before the flush began. For measuring alone.
    pub written: Option<Monotonic>,
}

/// The in-flight table is full: the operation comes back, nothing was submitted. Try again after the next reap.
pub struct Rejected(pub Operation);

/// One shard's door to the kernel or to the model. Not shared between threads.
pub trait Io {
    /// The monotonic clock, read anew at each call.
    fn now(&self) -> Monotonic;

    /// The wall clock in milliseconds. For record timestamps only: it may jump.
    fn wall_clock(&self) -> Timestamp;

    /// A random word; from the kernel in production, from the seed in the model.
    fn random(&mut self) -> u64;

    /// Queues an operation; it reaches the kernel at the next `wait` at the latest.
    fn submit(&mut self, token: Token, operation: Operation) -> Result<(), Rejected>;

    /// Moves finished operations to the end of `completions`, without waiting.
    fn reap(&mut self, completions: &mut Vec<Completion>);

    /// Submits what is queued and sleeps until a completion, a doorbell or `until`, whichever is first.
    /// With `until` at or before `now` it submits and returns at once.
    fn wait(&mut self, until: Monotonic);

    /// Wakes another shard from its `wait` (MSG_RING, carrying nothing). At most one a round and shard is useful.
    fn ring_doorbell(&mut self, shard: ShardId);

    /// Lets the kernel's workers of this thread have its core until they have to wait, if what they write is little enough for
    /// that. Call it after `wait`, when it falls behind.
    fn give_way(&mut self) {}

    /// The bytes of a lent buffer.
    fn bytes<'a>(&'a self, received: &'a Received) -> &'a [u8];

    /// Takes a lent buffer back into the pool.
    fn give_back(&mut self, received: Received);

    /// All these bytes of a file are in the page cache. False where nobody can say.
    fn is_resident(&mut self, _file: File, _position: Position, _length: u64) -> bool {
        false
    }

    /// Takes the pages of such bytes for [`Operation::SendPiped`], as many as go into a pipe. `None`: there is no pipe.
    fn take_pages(&mut self, _file: File, _position: Position, _length: usize) -> Option<Piped> {
        None
    }

    /// Copies the first bytes of a file at a position that are in memory, without waiting; 0: none are, or nobody can say.
    fn peek(&mut self, _file: File, _position: Position, _into: &mut [u8]) -> usize {
        0
    }

    /// Closes the file once nothing is in flight on it.
    fn close_file(&mut self, file: File);

    /// Operations submitted and not yet completed.
    fn in_flight(&self) -> usize;

    /// System calls that handed operations to the kernel or waited for their ends, since the start; 0 where there are none.
    fn enters(&self) -> u64 {
        0
    }

    /// Connections that were accepted and closed at once, because there was no place for them, since the start.
    fn refused(&self) -> u64 {
        0
    }

    /// When the oldest unfinished file operation was submitted; `None` if there is none.
    fn oldest_file_operation(&self) -> Option<Monotonic>;

    /// Blocking file-system calls. Only before the shard serves (recovery) and after it has stopped serving (clean stop).
    fn files(&mut self) -> &mut dyn Files;
}

/// What direct writes and reads are aligned to: the largest logical block and page in use, so that no device refuses it.
pub const DIRECT_BLOCK_BYTES: usize = crate::buffer::ALIGNMENT;

/// A write of up to so many bytes through the page cache is the kernel's, within a tenth of a millisecond. Larger ones are copied
/// by threads behind the shard: they take longer, and the shard need not wait for them.
pub const SMALL_WRITE_BYTES_MAX: usize = 256 << 10;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    Read,
    /// Read and write; created if missing.
    Write,
    /// Read and write; emptied if it exists, created if missing.
    Truncate,
    /// Read and write past the page cache (`O_DIRECT`); created if missing. Positions, lengths and addresses of all that is
    /// read and written are multiples of [`DIRECT_BLOCK_BYTES`]; see `buffer::AlignedBuffer`. `InvalidInput` or `Unsupported`:
    /// the file system has no such way.
    Direct,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    File,
    Directory,
}

/// One entry of a directory listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileName {
    pub name: String,
    pub is_directory: bool,
    pub size_bytes: u64,
}

/// A file's first bytes as memory that this process shares with the page cache: what is put there survives the process as a
/// write to the page cache does, and costs no system call. Unmapped when dropped.
pub trait Mapping {
    /// Puts bytes at a position of the file, where it has its blocks. Panics outside of what is mapped.
    fn put(&mut self, position: Position, bytes: &[u8]);

    /// Something that was put could not be, and never will: the file system has failed. Asked before what was put is relied on.
    fn has_failed(&self) -> bool;
}

/// Blocking file-system calls, for recovery, jobs on helper threads and clean stops. Errors are the kernel's, untouched;
/// the caller adds path and operation. A `File` opened here may be used in ring operations of any shard.
pub trait Files {
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File>;
    fn close(&mut self, file: File);
    fn size(&mut self, file: File) -> io::Result<u64>;
    /// Reads until `into` is full or the file ends; returns the bytes read.
    fn read_at(&mut self, file: File, position: Position, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&mut self, file: File, position: Position, bytes: &[u8]) -> io::Result<()>;
    fn set_size(&mut self, file: File, size_bytes: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync(&mut self, file: File) -> io::Result<()>;
    /// Drops what is cached of a file and clean: the next read sees the device.
    fn forget_cached(&mut self, file: File) -> io::Result<()>;
    /// Maps a file's first `length` bytes, shared. What lies behind the file's end may be used once it has grown there.
    /// Errors: `Unsupported` where there is no such way.
    fn map(&mut self, _file: File, _length: u64) -> io::Result<Box<dyn Mapping>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// As [`Io::is_resident`].
    fn is_resident(&mut self, _file: File, _position: Position, _length: u64) -> bool {
        false
    }
    /// `FALLOC_FL_KEEP_SIZE`.
    fn reserve(&mut self, file: File, position: Position, length: u64) -> io::Result<()>;
    fn create_directory(&mut self, path: &Path) -> io::Result<()>;
    /// fsync of a directory: makes creations, renames and removals in it durable.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Entries sorted by name.
    fn list(&mut self, path: &Path) -> io::Result<Vec<FileName>>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&mut self, path: &Path) -> io::Result<()>;
    /// Removes a directory and what is in it.
    fn remove_directory(&mut self, path: &Path) -> io::Result<()>;
    /// `None` if nothing is there.
    fn kind(&mut self, path: &Path) -> io::Result<Option<FileKind>>;
    /// Bytes free for this process on the file system of `path`, and its size.
    fn space(&mut self, path: &Path) -> io::Result<(u64, u64)>;
    /// syncfs on the file system that holds `path`, through a new descriptor. Of write-back errors from before the call it
    /// reports the last one, if no syncfs has (since Linux 5.8).
    fn sync_file_system(&mut self, path: &Path) -> io::Result<()>;
    /// syncfs on the file system that holds an open file. Reports every write-back error since that file was opened, once
    /// (syncfs(2), since Linux 5.8): keep one file open for this alone.
    fn sync_file_system_through(&mut self, file: File) -> io::Result<()>;
}

impl dyn Files + '_ {
    /// The whole file; `NotFound` if it is missing.
    pub fn read_all(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let result = self.size(file).and_then(|size| {
            let mut bytes =
                vec![0; usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?];
            let read = self.read_at(file, 0, &mut bytes)?;
            bytes.truncate(read);
            Ok(bytes)
        });
        self.close(file);
        result
    }

    /// Replaces a file as a whole: temporary file beside it, fdatasync, rename, fsync of the directory.
    /// After a crash either the old or the new content is there.
    pub fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let file = self.open(temporary, OpenMode::Truncate)?;
        let written = self.write_at(file, 0, bytes).and_then(|()| self.sync(file));
        self.close(file);
        written?;
        self.rename(temporary, path)?;
        self.sync_directory(path.parent().expect("a file path has a directory"))
    }
}
