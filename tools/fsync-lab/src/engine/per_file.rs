//! Commits that go through the ring to a file each, `depth` of them in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::now_ns;
use crate::files::{CellError, FileSet, Place};
use crate::memory::Aligned;
use crate::meter::{Costs, Latencies, Sample};
use crate::plan::Cell;
use crate::ring::{Completion, Ring};
use crate::signals;
use crate::strategy::Sync;

use super::noise_offset;
use super::pace::Pace;

/// A commit in flight.
#[derive(Clone, Copy, Debug)]
struct Commit {
    place: Place,
    /// What its latency counts from: its start, or when it should have started.
    from_ns: u64,
    written_ns: u64,
}

const WRITE: u64 = 0;
const SYNC: u64 = 1;

struct Run<'a> {
    sync: Sync,
    files: &'a FileSet,
    ring: &'a mut Ring,
    noise: usize,
    pace: Pace,
    /// By slot; the slot and what completed make the token.
    commits: Vec<Option<Commit>>,
    free: Vec<usize>,
    started: u64,
    latencies: Latencies,
}

/// Runs the cell until its window ends.
pub fn run(
    cell: Cell,
    sync: Sync,
    files: &FileSet,
    ring: &mut Ring,
    noise: &Arc<Aligned>,
    pace: Pace,
    costs: &mut Costs<'_>,
) -> Result<Sample, CellError> {
    let noise = ring.keep(noise.clone());
    let depth = cell.depth as usize;
    // Arrivals that found no free place.
    let mut waiting = VecDeque::new();
    let mut is_full = false;
    let is_open = pace.is_open();
    let (start_ns, end_ns, give_up_ns) = (pace.window.start_ns, pace.window.end_ns, pace.give_up_ns());
    let latencies = Latencies::new(sync == Sync::Ring);
    let commits = vec![None; depth];
    let free = (0..depth).collect();
    let mut run = Run { sync, files, ring, noise, pace, commits, free, started: 0, latencies };
    let mut end_costs = None;
    loop {
        let now = now_ns();
        if signals::received().is_some() {
            return Err(CellError::Interrupted);
        }
        if !costs.has_started() && now >= start_ns {
            costs.start();
        }
        if end_costs.is_none() && now >= end_ns {
            end_costs = Some(costs.end());
        }
        while is_open && let Some(due) = run.pace.arrive(now) {
            waiting.push_back(due);
        }
        while !is_full && !run.free.is_empty() {
            let from = if is_open { waiting.pop_front() } else { run.pace.arrive(now) };
            let Some(from) = from else { break };
            is_full = !run.start(from);
        }
        let is_over = run.pace.is_over(now) && waiting.is_empty();
        let in_flight = depth - run.free.len();
        if in_flight == 0 && (is_full || is_over) || is_open && now >= give_up_ns {
            break;
        }
        let limit = run.pace.sleep(now).filter(|_| waiting.is_empty());
        run.ring.submit_and_wait(limit).map_err(|error| CellError::of("wait for the ring", error))?;
        let now = now_ns();
        while let Some(completion) = run.ring.next() {
            run.complete(completion, now)?;
        }
    }
    let is_saturated = !waiting.is_empty();
    let costs = end_costs.unwrap_or_else(|| costs.end());
    Ok(Sample { ended_early: is_full, is_saturated, ..Sample::of(&run.latencies, costs) })
}

impl Run<'_> {
    /// Starts a commit in a free slot; false: the files have no more space.
    fn start(&mut self, from_ns: u64) -> bool {
        let Some(place) = self.files.place(self.started) else { return false };
        let slot = self.free.pop().expect("the caller found a free slot");
        let source = self.ring.source(self.noise, noise_offset(self.started), place.bytes);
        self.started += 1;
        self.commits[slot] = Some(Commit { place, from_ns, written_ns: 0 });
        let token = (slot as u64) << 1;
        let fd = self.files.fd(place.file);
        match self.sync {
            Sync::Linked => {
                self.ring.write_then_sync(fd, source, place.position, token | WRITE, token | SYNC);
            }
            Sync::RwfDsync => self.ring.write(fd, source, place.position, libc::RWF_DSYNC, token | WRITE),
            Sync::None | Sync::Syscall | Sync::Ring | Sync::ODsync => {
                self.ring.write(fd, source, place.position, 0, token | WRITE);
            }
        }
        true
    }

    fn complete(&mut self, completion: Completion, now: u64) -> Result<(), CellError> {
        let slot = (completion.token >> 1) as usize;
        let mut commit = self.commits[slot].expect("a completion belongs to a commit in flight");
        if completion.token & 1 == SYNC {
            completion.outcome().map_err(|error| CellError::of("fdatasync", error))?;
            self.finish(slot, commit, now);
            return Ok(());
        }
        let what = match self.sync {
            Sync::RwfDsync => "write with RWF_DSYNC",
            _ => "write",
        };
        let wrote = completion.outcome().map_err(|error| CellError::of(what, error))?;
        let wanted = commit.place.bytes as usize;
        if wrote != wanted {
            return Err(CellError::ShortWrite { wrote, wanted });
        }
        match self.sync {
            // Its sync is on the way, or done: completions come in any order, but a sync's means both.
            Sync::Linked => {}
            Sync::Ring => {
                commit.written_ns = now;
                self.commits[slot] = Some(commit);
                self.ring.sync(self.files.fd(commit.place.file), completion.token | SYNC);
            }
            Sync::None | Sync::Syscall | Sync::RwfDsync | Sync::ODsync => self.finish(slot, commit, now),
        }
        Ok(())
    }

    fn finish(&mut self, slot: usize, commit: Commit, now: u64) {
        self.commits[slot] = None;
        self.free.push(slot);
        if !self.pace.records(commit.from_ns, now) {
            return;
        }
        if self.sync == Sync::Ring {
            let written = commit.written_ns.max(commit.from_ns);
            self.latencies.record_parts(written - commit.from_ns, now - written);
        } else {
            self.latencies.record(now.saturating_sub(commit.from_ns));
        }
    }
}
