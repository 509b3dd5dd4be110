//! One thread per shard that may block: it runs the shard's file-system jobs, one after the other.

use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::door::Job;
use super::doorbell::ExternalWaker;
use super::inflight::Key;
use super::std_files::StdFiles;

type JobResult = (Key, Box<dyn Any + Send>);

pub(super) struct Helper {
    /// `None`: the thread has been told to end.
    jobs: Option<Sender<(Key, Job)>>,
    results: Receiver<JobResult>,
    thread: Option<JoinHandle<()>>,
    /// Jobs submitted whose results were not taken.
    outstanding: usize,
}

impl Helper {
    /// Starts the thread; after each job it puts the result into a queue and wakes the shard.
    pub fn start(waker: ExternalWaker) -> io::Result<Helper> {
        let (jobs, jobs_end) = channel::<(Key, Job)>();
        let (results_end, results) = channel();
        let thread =
            std::thread::Builder::new().name(format!("helper-{}", waker.shard())).spawn(move || {
                leave_the_core();
                for (key, job) in jobs_end {
                    let result = job(&mut StdFiles);
                    if results_end.send((key, result)).is_err() {
                        // The ring is gone and with it everyone who could want the result.
                        return;
                    }
                    waker.wake();
                }
            })?;
        Ok(Helper { jobs: Some(jobs), results, thread: Some(thread), outstanding: 0 })
    }

    pub fn submit(&mut self, key: Key, job: Job) {
        self.outstanding += 1;
        let jobs = self.jobs.as_ref().expect("the ring is not being dropped");
        jobs.send((key, job)).expect("the helper thread ends only with the ring, or by a panic in a job");
    }

    /// The result of a finished job.
    pub fn try_result(&mut self) -> Option<JobResult> {
        match self.results.try_recv() {
            Ok(result) => {
                self.outstanding -= 1;
                Some(result)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the helper thread ended: a job panicked"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.take().expect("joined once, here");
        if self.outstanding > 0 {
            // In a job that does not end, on a disk that does not answer, perhaps. The process can end without it.
            return;
        }
        if thread.join().is_err() && !std::thread::panicking() {
            panic!("the helper thread panicked");
        }
    }
}

/// A thread inherits the pinning of the shard that starts it, and would then take the core away from the shard.
/// The process's first thread is not pinned to a core, so its CPUs are those this process may use.
fn leave_the_core() {
    // Best effort: where affinity cannot be read or set, nothing was pinned either.
    if let Ok(cpus) = sched_getaffinity(Pid::this()) {
        let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
    }
}
