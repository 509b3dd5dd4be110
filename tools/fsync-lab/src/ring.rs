//! A small io_uring: writes from memory that it keeps alive, fdatasync, and waiting with a time limit.
//!
//! Invariant: `in_flight` operations have been pushed whose completion was not yet seen; the memory they read is dropped
//! only when there are none.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use crate::memory::Aligned;

const ENTRIES: u32 = 512;

pub struct Ring {
    ring: IoUring,
    in_flight: usize,
    /// What operations in flight may read. Only grows, until the ring goes.
    sources: Vec<Arc<Aligned>>,
}

/// Bytes of a memory that the ring keeps.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    memory: usize,
    offset: usize,
    length: u32,
}

/// One completion: the token of its submission and the kernel's result.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: u64,
    pub result: i32,
}

impl Completion {
    /// The number of bytes, or the error that the kernel answered.
    pub fn outcome(self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

impl Ring {
    /// A ring as the broker has it: completions run on this thread only, when it asks for them.
    /// Older kernels that do not know the flags get a plain one.
    pub fn new() -> io::Result<Ring> {
        let like_broker = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .build(ENTRIES);
        let ring = match like_broker {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(ENTRIES)?,
            other => other?,
        };
        Ok(Ring { ring, in_flight: 0, sources: Vec::new() })
    }

    /// Has the ring keep a memory; the number is for [`Ring::source`].
    pub fn keep(&mut self, memory: Arc<Aligned>) -> usize {
        self.sources.push(memory);
        self.sources.len() - 1
    }

    /// Panics: if the range leaves the memory.
    pub fn source(&self, memory: usize, offset: usize, length: u32) -> Source {
        let held = self.sources[memory].len();
        assert!(offset + length as usize <= held, "{offset} + {length} of {held}");
        Source { memory, offset, length }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a write. `rw_flags`: RWF_*.
    pub fn write(&mut self, fd: BorrowedFd<'_>, source: Source, position: u64, rw_flags: i32, token: u64) {
        self.push(self.write_entry(fd, source, position, rw_flags).user_data(token));
    }

    /// Queues a write and an fdatasync that starts when the write has succeeded.
    pub fn write_then_sync(
        &mut self,
        fd: BorrowedFd<'_>,
        source: Source,
        position: u64,
        write_token: u64,
        sync_token: u64,
    ) {
        // Both or none: a chain must not be cut by a full queue.
        self.make_room(2);
        let write = self.write_entry(fd, source, position, 0).user_data(write_token);
        self.push(write.flags(squeue::Flags::IO_LINK));
        self.sync(fd, sync_token);
    }

    /// Queues an fdatasync.
    pub fn sync(&mut self, fd: BorrowedFd<'_>, token: u64) {
        let entry = opcode::Fsync::new(Fd(fd.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
        self.push(entry.user_data(token));
    }

    fn write_entry(&self, fd: BorrowedFd<'_>, source: Source, position: u64, rw_flags: i32) -> squeue::Entry {
        let memory = &self.sources[source.memory];
        let start = memory.as_slice()[source.offset..].as_ptr();
        opcode::Write::new(Fd(fd.as_raw_fd()), start, source.length)
            .offset(position)
            .rw_flags(rw_flags)
            .build()
    }

    fn make_room(&mut self, count: usize) {
        let queue = self.ring.submission();
        if queue.capacity() - queue.len() < count {
            drop(queue);
            self.ring.submit().expect("the kernel takes what fits into its own queue");
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.make_room(1);
        // SAFETY: the entry reads, if anything, from a memory in `sources`, which stays until no operation is in flight
        // (`drop`); its descriptor is open now, and the kernel holds the file from submission on.
        unsafe { self.ring.submission().push(&entry) }.expect("room was made above");
        self.in_flight += 1;
    }

    /// Submits what is queued and waits for a completion, or until the limit.
    pub fn submit_and_wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let result = match limit {
            None => self.ring.submit_and_wait(1),
            Some(limit) => {
                let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
        };
        match result {
            Ok(_) => Ok(()),
            // The time is up, or a signal came: the caller looks at both.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next completion that is there.
    pub fn next(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        assert!(self.in_flight > 0, "a completion of nothing");
        self.in_flight -= 1;
        Some(Completion { token: entry.user_data(), result: entry.result() })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.submit_and_wait(None).is_err() {
                // The kernel may still read them: give them up rather than free them.
                self.sources.drain(..).for_each(std::mem::forget);
                return;
            }
            while self.next().is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_broken_link_cancels_the_sync() {
        let Ok(mut ring) = Ring::new() else { return };
        let memory = ring.keep(Arc::new(Aligned::noise(4096)));
        // Not open for writing: the write fails, its sync must not run.
        let null = std::fs::File::open("/dev/null").unwrap();
        let source = ring.source(memory, 0, 4096);
        ring.write_then_sync(null.as_fd(), source, 0, 1, 2);
        let mut results = std::collections::BTreeMap::new();
        while ring.in_flight() > 0 {
            ring.submit_and_wait(None).unwrap();
            while let Some(completion) = ring.next() {
                results.insert(completion.token, completion.result);
            }
        }
        assert_eq!(results[&1], -libc::EBADF);
        assert_eq!(results[&2], -libc::ECANCELED);
    }

    #[test]
    fn waiting_ends_at_the_limit() {
        let Ok(mut ring) = Ring::new() else { return };
        ring.submit_and_wait(Some(Duration::from_millis(1))).unwrap();
        assert!(ring.next().is_none());
    }
}
