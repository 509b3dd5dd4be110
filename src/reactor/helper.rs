//! One thread per shard that may block: it runs the shard's file-system jobs, one after the other.

use std::any::Any;

use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::door::Job;
use super::inflight::Key;
use super::std_files::StdFiles;
use super::threads::{Duty, Threads};

pub(super) type Helper = Threads<(Key, Job), (Key, Box<dyn Any + Send>)>;

/// One thread: jobs end in the order in which they were submitted.
pub(super) const HELP: Duty<(Key, Job), (Key, Box<dyn Any + Send>)> =
    Duty { name: "helper", count: 1, prepare: leave_the_core, work: |(key, job)| (key, job(&mut StdFiles)) };

/// A thread inherits the pinning of the shard that starts it, and would then take the core away from the shard.
/// The process's first thread is not pinned to a core, so its CPUs are those this process may use.
fn leave_the_core() {
    // Best effort: where affinity cannot be read or set, nothing was pinned either.
    if let Ok(cpus) = sched_getaffinity(Pid::this()) {
        let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
    }
}
