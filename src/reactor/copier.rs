//! Threads behind the shard's own that copy large writes into the page cache.
//!
//! A kernel worker would do it at the shard's heels: at the priority that workers have, and a megabyte at a time, which the
//! kernel does not interrupt. On memory that it must get first that is milliseconds, for which whoever sent a kilobyte waits.
//! These threads copy in chunks, have the core when the shard sleeps, and lose it after the chunk when it wakes. They share
//! the shard's CPU as the workers do: each core pays for its own partitions.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::uio::pwrite;

use super::door::{File, Slices};
use super::doorbell::ExternalWaker;
use super::gather::Progress;
use super::inflight::Key;
use super::priority;
use super::std_files::descriptor;
use crate::model::Position;

/// Writes from here on are theirs. Smaller ones the kernel copies within a tenth of a millisecond, and what a shard must write
/// in time (stores of its journals) is not larger.
pub const COPY_BYTES_MIN: usize = (256 << 10) + 1;

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

struct Threads {
    /// `None`: they have been told to end.
    copies: Option<Sender<Copy>>,
    results: Receiver<Copied>,
    handles: Vec<JoinHandle<()>>,
}

/// The threads of one shard. They start with the first large write.
pub(super) struct Copiers {
    waker: ExternalWaker,
    /// `None`: not started yet; or they could not be, and the ring writes all.
    threads: Option<Threads>,
    has_tried: bool,
    /// Copies submitted whose results were not taken.
    outstanding: usize,
}

impl Copiers {
    pub fn new(waker: ExternalWaker) -> Copiers {
        Copiers { waker, threads: None, has_tried: false, outstanding: 0 }
    }

    /// There are threads for a copy.
    pub fn are_there(&mut self) -> bool {
        if !self.has_tried {
            self.has_tried = true;
            self.threads = Threads::start(&self.waker);
        }
        self.threads.is_some()
    }

    pub fn submit(&mut self, copy: Copy) {
        let threads = self.threads.as_ref().expect("the caller asked whether they are there");
        let copies = threads.copies.as_ref().expect("the ring is not being dropped");
        self.outstanding += 1;
        copies.send(copy).expect("the threads end only with the ring, or all by a panic");
    }

    /// The result of a copy that is done.
    pub fn try_result(&mut self) -> Option<Copied> {
        if self.outstanding == 0 {
            return None;
        }
        let threads = self.threads.as_ref().expect("something was submitted");
        match threads.results.try_recv() {
            Ok(copied) => {
                self.outstanding -= 1;
                Some(copied)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the copying threads ended: all have panicked"),
        }
    }

    /// Waits until no thread uses a descriptor any more. False: one does after this time without a result.
    pub fn drain(&mut self, patience: Duration) -> bool {
        let Some(threads) = &self.threads else { return true };
        while self.outstanding > 0 {
            match threads.results.recv_timeout(patience) {
                Ok(_) => self.outstanding -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }
}

impl Drop for Copiers {
    fn drop(&mut self) {
        let Some(threads) = &mut self.threads else { return };
        threads.copies = None;
        // One may wait for a disk that does not answer. The process can end without it; what it writes it owns.
        if self.outstanding == 0 {
            for thread in threads.handles.drain(..) {
                assert!(thread.join().is_ok() || std::thread::panicking(), "a copying thread panicked");
            }
        }
    }
}

impl Threads {
    /// As many as the process may have. `None`: not one.
    fn start(waker: &ExternalWaker) -> Option<Threads> {
        let (copies, copies_end) = channel::<Copy>();
        let (results_end, results) = channel();
        let copies_end = Arc::new(Mutex::new(copies_end));
        let start = |number: usize| {
            let (copies, results, waker) = (Arc::clone(&copies_end), results_end.clone(), waker.clone());
            let name = format!("copier-{}.{number}", waker.shard());
            std::thread::Builder::new().name(name).spawn(move || {
                priority::run_behind();
                loop {
                    // One waits for a copy, the others for the lock.
                    let copy = copies.lock().expect("nothing panics under this lock").recv();
                    let Ok(copy) = copy else { return };
                    let result = write(&copy);
                    if results.send(Copied { key: copy.key, slices: copy.slices, result }).is_err() {
                        // The ring is gone and with it everyone who could want the result.
                        return;
                    }
                    waker.wake();
                }
            })
        };
        let handles: Vec<_> = (0..COPIERS).map_while(|number| start(number).ok()).collect();
        (!handles.is_empty()).then_some(Threads { copies: Some(copies), results, handles })
    }
}

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
