//! Pages of the cache on their way to a socket without a copy: a pipe holds them in between (splice(2)).
//!
//! The pages are taken at once, while they are known to be there, so that no shard waits for a disk; the way from the pipe to
//! the socket is an operation of the ring. A pipe goes back to its shard's pool when it is empty, and is closed when it is not.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::door::File;
use crate::model::Position;

/// What a pipe holds at most, if it begins and ends at a page. Source: /proc/sys/fs/pipe-max-size, without privileges.
pub const PIPE_BYTES: u64 = 1 << 20;

const PAGE_BYTES: u64 = 4096;

/// Pipes of a shard. Each is a send under way or about to be: a client that takes its time keeps one, and a kernel thread.
const PIPES_MAX: usize = 16;

/// Source: include/uapi/asm-generic/unistd.h; since Linux 6.5.
const SYS_CACHESTAT: libc::c_long = 451;

/// Bytes of a file in a pipe.
pub struct Piped {
    left: usize,
    /// `None` once it is given back.
    ends: Option<Ends>,
    pool: Arc<Pool>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

#[derive(Default)]
struct Pool {
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<Ends>,
    made: usize,
    /// The kernel gave not even the first.
    is_refused: bool,
}

/// The pipes of one shard.
#[derive(Default)]
pub(super) struct Pipes(Arc<Pool>);

impl Piped {
    /// As of so many bytes, without any.
    #[cfg(test)]
    pub fn hollow(bytes: usize) -> Piped {
        Piped { left: bytes, ends: None, pool: Arc::default() }
    }

    /// Bytes that have not gone to a socket yet.
    pub fn len(&self) -> usize {
        self.left
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The end that is read from.
    pub(super) fn read_end(&self) -> i32 {
        self.ends.as_ref().expect("a pipe has its ends until it is dropped").read.as_raw_fd()
    }

    /// So many bytes have left it.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.left = self.left.checked_sub(bytes).expect("no more leaves a pipe than is in it");
    }
}

impl fmt::Debug for Piped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in a pipe", self.left)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        let mut state = self.pool.lock();
        if self.left == 0 {
            state.idle.push(ends);
        } else {
            state.made -= 1;
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Nothing is done under it that could fail half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipes {
    /// Puts these bytes of a file into a pipe, as many as it holds; they should be in memory. `None`: all pipes are in use, or
    /// the kernel gives none.
    pub fn take(&self, file: File, position: Position, length: usize) -> Option<Piped> {
        let mut piped = Piped { left: 0, ends: Some(self.idle()?), pool: Arc::clone(&self.0) };
        let length = length.min((PIPE_BYTES - position % PAGE_BYTES) as usize);
        // Of a file system that has no such way, or a disk that fails: whoever copies finds out.
        piped.left = piped.fill(file, position, length).ok()?;
        (piped.left > 0).then_some(piped)
    }

    fn idle(&self) -> Option<Ends> {
        let mut state = self.0.lock();
        if let Some(ends) = state.idle.pop() {
            return Some(ends);
        }
        if state.made == PIPES_MAX || state.is_refused {
            return None;
        }
        match new_pipe() {
            Ok(ends) => {
                state.made += 1;
                Some(ends)
            }
            // Descriptors or pages of pipes are short for this user: those that there are go round.
            Err(_) => {
                state.is_refused = state.made == 0;
                None
            }
        }
    }
}

impl Piped {
    fn fill(&self, file: File, position: Position, length: usize) -> io::Result<usize> {
        let ends = self.ends.as_ref().expect("a new one has its ends");
        let mut offset = i64::try_from(position).expect("a position in a file");
        // SAFETY: both descriptors are open (the pipe's are owned, the file is the caller's), and `offset` outlives the call.
        let taken = unsafe {
            libc::splice(
                file.0,
                &raw mut offset,
                ends.write.as_raw_fd(),
                std::ptr::null_mut(),
                length,
                libc::SPLICE_F_NONBLOCK,
            )
        };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }
}

fn new_pipe() -> io::Result<Ends> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let bytes = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32))?;
    if u64::try_from(bytes).unwrap_or(0) < PIPE_BYTES {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(Ends { read, write })
}

/// Every page of these bytes is in the page cache. False as well if the kernel cannot say.
pub(super) fn is_resident(file: File, position: Position, length: u64) -> bool {
    #[repr(C)]
    struct Range {
        position: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Pages {
        cached: u64,
        dirty: u64,
        in_writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let range = Range { position, length };
    let mut pages = Pages::default();
    // SAFETY: both structures are as include/uapi/linux/mman.h has them, and outlive the call.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.0, &raw const range, &raw mut pages, 0) };
    let wanted = (position + length).div_ceil(PAGE_BYTES) - position / PAGE_BYTES;
    result == 0 && pages.cached >= wanted
}

/// Copies the first bytes at a position that are in memory; none if the disk would be needed, or somebody writes to the file.
pub(super) fn peek(file: File, position: Position, into: &mut [u8]) -> usize {
    let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let offset = i64::try_from(position).expect("a position in a file");
    // SAFETY: the one entry names memory that is borrowed for the call.
    let read = unsafe { libc::preadv2(file.0, &raw const part, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(read).unwrap_or(0)
}
