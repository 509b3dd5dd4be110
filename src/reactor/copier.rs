//! Threads behind the shard's own that copy large writes into the page cache.
//!
//! A kernel worker would do it at the shard's heels: at the priority that workers have, and a megabyte at a time, which the
//! kernel does not interrupt. On memory that it must get first that is milliseconds, for which whoever sent a kilobyte waits.
//! These threads copy in chunks, have the core when the shard sleeps, and lose it after the chunk when it wakes. They share
//! the shard's CPU as the workers do: each core pays for its own partitions.

use std::time::Duration;

use nix::sys::uio::pwrite;

use super::door::{File, Slices};
use super::doorbell::ExternalWaker;
use super::gather::Progress;
use super::inflight::Key;
use super::priority;
use super::std_files::descriptor;
use super::threads::{Duty, Threads};
use crate::model::Position;

/// Bytes of one call, between which the shard gets its core: 16 µs of copying, and half a millisecond where memory is slow.
const CHUNK_BYTES: usize = 128 << 10;

/// Bytes of one copy; the rest of a larger write is the next one.
const COPY_BYTES_MAX: usize = 1 << 30;

/// Threads of a shard: a file system that lets one wait has others to do. They share one core.
const COPIERS: usize = 4;

/// A large write through the page cache.
pub(super) struct Copy {
    pub key: Key,
    pub file: File,
    /// Where in the file `slices` begins.
    pub position: Position,
    pub slices: Slices,
    /// What of it is written already.
    pub progress: Progress,
}

/// How one ended.
pub(super) struct Copied {
    pub key: Key,
    pub slices: Slices,
    /// Bytes written, fewer than there are if the file system took no more; or an errno below 0, if it took none.
    pub result: i32,
}

/// The threads of one shard. They start with the first large write.
pub(super) struct Copiers {
    waker: ExternalWaker,
    /// `None`: not started yet; or they could not be, and the ring writes all.
    threads: Option<Threads<Copy, Copied>>,
    has_tried: bool,
}

impl Copiers {
    pub fn new(waker: ExternalWaker) -> Copiers {
        Copiers { waker, threads: None, has_tried: false }
    }

    /// There are threads for a copy.
    pub fn are_there(&mut self) -> bool {
        if !self.has_tried {
            self.has_tried = true;
            self.threads = Threads::start(COPY, &self.waker).ok();
        }
        self.threads.is_some()
    }

    pub fn submit(&mut self, copy: Copy) {
        self.threads.as_mut().expect("the caller asked whether they are there").submit(copy);
    }

    /// The result of a copy that is done.
    pub fn try_result(&mut self) -> Option<Copied> {
        self.threads.as_mut()?.try_result()
    }

    /// Waits until no thread uses a descriptor any more. False: one does after this time without a result.
    pub fn drain(&mut self, patience: Duration) -> bool {
        self.threads.as_mut().is_none_or(|threads| threads.drain(patience))
    }
}

const COPY: Duty<Copy, Copied> = Duty {
    name: "copier",
    count: COPIERS,
    prepare: priority::run_behind,
    work: |copy| {
        let result = write(&copy);
        Copied { key: copy.key, slices: copy.slices, result }
    },
};

/// Writes as much as the file system takes at once.
fn write(copy: &Copy) -> i32 {
    let (first, mut skipped) = copy.progress.place();
    let start = copy.position + copy.progress.bytes();
    let mut written = 0;
    for slice in &copy.slices[first..] {
        for chunk in slice[std::mem::take(&mut skipped)..].chunks(CHUNK_BYTES) {
            let position = libc::off_t::try_from(start + written as u64);
            let result = match position {
                Ok(position) => pwrite(descriptor(copy.file), chunk, position),
                Err(_) => Err(nix::errno::Errno::EFBIG),
            };
            match result {
                Ok(count) => written += count,
                Err(error) if written == 0 => return -(error as i32),
                // It comes again with the rest.
                Err(_) => return as_result(written),
            }
            let is_short = result.is_ok_and(|count| count < chunk.len());
            if is_short || written >= COPY_BYTES_MAX {
                return as_result(written);
            }
        }
    }
    as_result(written)
}

fn as_result(written: usize) -> i32 {
    i32::try_from(written).expect("a copy ends at COPY_BYTES_MAX and a chunk")
}
