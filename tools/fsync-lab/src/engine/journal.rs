//! Commits that share a journal: all that waits goes as one O_DIRECT write, linked to one fdatasync. The files get theirs
//! afterwards through the page cache, unsynced; a half of the journal is used again once a `syncfs` has made durable what
//! its commits wrote to the files.
//!
//! Invariant: the half that is written to has no checkpoint outstanding.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::clock::now_ns;
use crate::files::{CellError, FileSet, Place};
use crate::memory::{ALIGNMENT, Aligned};
use crate::meter::{Costs, Latencies, Sample};
use crate::plan::{Cell, JOURNAL_BYTES, MIB};
use crate::ring::{Completion, Ring};
use crate::signals;

use super::pace::Pace;
use super::{WRITE_BYTES_MAX, noise_offset};

/// Of a group, and of each record group in it: as large as the broker's.
const HEADER_BYTES: u64 = 64;
/// A round of the journal takes at most so much; at least one commit.
const GROUP_BYTES_MAX: u64 = 4 * MIB;
const HALF_BYTES: u64 = JOURNAL_BYTES / 2;
/// Below the ring's entries, with room for the group's own two.
const LAZY_WRITES_MAX: usize = 128;

const LAZY: u64 = 0;
const GROUP_WRITE: u64 = 1;
const GROUP_SYNC: u64 = 2;

/// What the run works on.
pub struct Shared<'a> {
    pub journal: &'a File,
    pub files: &'a FileSet,
    /// For `syncfs`.
    pub directory: &'a File,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    number: u64,
    place: Place,
    from_ns: u64,
}

/// A write to a file that no one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LazyWrite {
    half: usize,
    place: Place,
    number: u64,
}

/// What a half of the journal is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Half {
    /// Its lazy writes are all durable, or it is the one in use.
    Free,
    /// Full; some of its lazy writes have not been made.
    Filled,
    /// All made; `syncfs` runs.
    Checkpointing,
}

struct Run<'a> {
    shared: &'a Shared<'a>,
    ring: &'a mut Ring,
    noise: usize,
    pace: Pace,
    waiting: VecDeque<Commit>,
    group: Vec<Commit>,
    group_bytes: u32,
    /// Where the next group goes.
    head: u64,
    current: usize,
    halves: [Half; 2],
    lazy_left: [usize; 2],
    lazy_queue: VecDeque<LazyWrite>,
    lazy_in_flight: usize,
    latencies: Latencies,
    completed: u64,
}

/// Runs the cell until its window ends.
pub fn run(
    cell: Cell,
    shared: &Shared<'_>,
    ring: &mut Ring,
    noise: &Arc<Aligned>,
    pace: Pace,
    costs: &mut Costs<'_>,
) -> Result<Sample, CellError> {
    let (ask, asked) = mpsc::channel::<usize>();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // syncfs blocks and has no op-code: a helper thread calls it, as in the broker.
        scope.spawn(move || {
            for half in asked {
                let outcome = nix::unistd::syncfs(shared.directory.as_fd());
                if tell.send((half, outcome)).is_err() {
                    return;
                }
            }
        });
        let kept = ring.keep(noise.clone());
        let mut run = Run {
            shared,
            ring,
            noise: kept,
            pace,
            waiting: VecDeque::new(),
            group: Vec::new(),
            group_bytes: 0,
            head: 0,
            current: 0,
            halves: [Half::Free; 2],
            lazy_left: [0; 2],
            lazy_queue: VecDeque::new(),
            lazy_in_flight: 0,
            latencies: Latencies::new(false),
            completed: 0,
        };
        // Moved in: dropped at the end of this closure, which ends the helper.
        run.commit_until_end(cell, costs, ask, &told)
    })
}

type Told = mpsc::Receiver<(usize, nix::Result<()>)>;

impl Run<'_> {
    fn commit_until_end(
        &mut self,
        cell: Cell,
        costs: &mut Costs<'_>,
        ask: mpsc::Sender<usize>,
        told: &Told,
    ) -> Result<Sample, CellError> {
        let is_open = self.pace.is_open();
        let window = self.pace.window;
        let mut started: u64 = 0;
        let mut end_costs = None;
        loop {
            let now = now_ns();
            if signals::received().is_some() {
                return Err(CellError::Interrupted);
            }
            if !costs.has_started() && now >= window.start_ns {
                costs.start();
            }
            if end_costs.is_none() && now >= window.end_ns {
                end_costs = Some(costs.end());
            }
            while is_open || started - self.completed < u64::from(cell.depth) {
                let Some(from_ns) = self.pace.arrive(now) else { break };
                let place = self.shared.files.place(started).expect("zeroed files are recycled");
                self.waiting.push_back(Commit { number: started, place, from_ns });
                started += 1;
            }
            while let Ok((half, outcome)) = told.try_recv() {
                self.checkpointed(half, outcome)?;
            }
            self.start_lazy_writes();
            self.start_checkpoints(&ask);
            if self.group.is_empty() && !self.waiting.is_empty() {
                self.start_group();
            }
            let is_over = self.pace.is_over(now) && self.waiting.is_empty() && self.group.is_empty();
            if is_over || is_open && now >= self.pace.give_up_ns() {
                break;
            }
            if self.ring.in_flight() == 0
                && self.halves.contains(&Half::Checkpointing)
                && !self.waiting.is_empty()
            {
                // Nothing but the checkpoint can free the way.
                let (half, outcome) = told.recv().expect("the helper lives as long as this run asks");
                self.checkpointed(half, outcome)?;
                continue;
            }
            let limit = self.pace.sleep(now);
            self.ring.submit_and_wait(limit).map_err(|error| CellError::of("wait for the ring", error))?;
            let now = now_ns();
            while let Some(completion) = self.ring.next() {
                self.complete(completion, now)?;
            }
        }
        let is_saturated = !self.waiting.is_empty();
        self.drain()?;
        let costs = end_costs.unwrap_or_else(|| costs.end());
        Ok(Sample { is_saturated, ..Sample::of(&self.latencies, costs) })
    }

    /// Takes from the queue what fits into one group, and starts write and sync. Like all cells it writes from memory that
    /// is ready: what copying records together costs is the broker's matter, not the disk's.
    fn start_group(&mut self) {
        let mut bytes = HEADER_BYTES;
        let mut count = 0;
        for commit in &self.waiting {
            let with_it = bytes + HEADER_BYTES + u64::from(commit.place.bytes);
            if count > 0 && with_it > GROUP_BYTES_MAX {
                break;
            }
            bytes = with_it;
            count += 1;
        }
        let bytes = bytes.next_multiple_of(ALIGNMENT as u64);
        if self.head + bytes > HALF_BYTES {
            let other = 1 - self.current;
            if self.halves[other] != Half::Free {
                return;
            }
            self.halves[self.current] = Half::Filled;
            self.current = other;
            self.head = 0;
        }
        self.group.extend(self.waiting.drain(..count));
        let length = u32::try_from(bytes).expect("a group is at most some MiB");
        let source = self.ring.source(self.noise, noise_offset(self.group[0].number), length);
        let position = self.current as u64 * HALF_BYTES + self.head;
        self.head += bytes;
        self.group_bytes = length;
        self.ring.write_then_sync(self.shared.journal.as_fd(), source, position, GROUP_WRITE, GROUP_SYNC);
    }

    fn complete(&mut self, completion: Completion, now: u64) -> Result<(), CellError> {
        match completion.token & 3 {
            GROUP_WRITE => {
                let wrote =
                    completion.outcome().map_err(|error| CellError::of("write the journal", error))?;
                let wanted = self.group_bytes as usize;
                if wrote != wanted {
                    return Err(CellError::ShortWrite { wrote, wanted });
                }
            }
            GROUP_SYNC => {
                completion.outcome().map_err(|error| CellError::of("fdatasync of the journal", error))?;
                self.finish_group(now);
            }
            _ => {
                let bytes = completion.outcome().map_err(|error| CellError::of("write a file", error))?;
                assert!(bytes > 0, "a write of nothing");
                let half = (completion.token >> 2) as usize;
                self.lazy_left[half] -= 1;
                self.lazy_in_flight -= 1;
            }
        }
        Ok(())
    }

    fn finish_group(&mut self, now: u64) {
        let mut group = std::mem::take(&mut self.group);
        self.completed += group.len() as u64;
        for commit in &group {
            if self.pace.records(commit.from_ns, now) {
                self.latencies.record(now.saturating_sub(commit.from_ns));
            }
        }
        let writes = coalesce(self.current, &mut group);
        self.lazy_left[self.current] += writes.len();
        self.lazy_queue.extend(writes);
        group.clear();
        self.group = group;
    }

    fn start_lazy_writes(&mut self) {
        while self.lazy_in_flight < LAZY_WRITES_MAX {
            let Some(write) = self.lazy_queue.pop_front() else { return };
            // What the bytes are does not matter to the file's cost: no reader looks at them.
            let source = self.ring.source(self.noise, noise_offset(write.number), write.place.bytes);
            let token = (write.half as u64) << 2 | LAZY;
            self.ring.write(self.shared.files.fd(write.place.file), source, write.place.position, 0, token);
            self.lazy_in_flight += 1;
        }
    }

    fn start_checkpoints(&mut self, ask: &mpsc::Sender<usize>) {
        for half in 0..2 {
            if self.halves[half] == Half::Filled && self.lazy_left[half] == 0 {
                self.halves[half] = Half::Checkpointing;
                ask.send(half).expect("the helper lives as long as this run asks");
            }
        }
    }

    fn checkpointed(&mut self, half: usize, outcome: nix::Result<()>) -> Result<(), CellError> {
        outcome.map_err(|errno| CellError::of("syncfs", errno.into()))?;
        assert_eq!(self.halves[half], Half::Checkpointing, "half {half}");
        self.halves[half] = Half::Free;
        Ok(())
    }

    /// Lets end what is in flight, and what of it is still queued.
    fn drain(&mut self) -> Result<(), CellError> {
        loop {
            self.start_lazy_writes();
            if self.ring.in_flight() == 0 {
                return Ok(());
            }
            self.ring.submit_and_wait(None).map_err(|error| CellError::of("wait for the ring", error))?;
            let now = now_ns();
            while let Some(completion) = self.ring.next() {
                self.complete(completion, now)?;
            }
        }
    }
}

/// One write for each run of neighbouring places in a file, as long as the noise has bytes for it.
fn coalesce(half: usize, group: &mut [Commit]) -> Vec<LazyWrite> {
    group.sort_unstable_by_key(|commit| (commit.place.file, commit.place.position));
    let mut writes: Vec<LazyWrite> = Vec::new();
    for commit in group {
        let place = commit.place;
        if let Some(LazyWrite { place: last, .. }) = writes.last_mut() {
            let is_next = last.file == place.file && last.position + u64::from(last.bytes) == place.position;
            if is_next && u64::from(last.bytes) + u64::from(place.bytes) <= WRITE_BYTES_MAX {
                last.bytes += place.bytes;
                continue;
            }
        }
        writes.push(LazyWrite { half, place, number: commit.number });
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_file_become_one_write() {
        let check = |places: &[(usize, u64)], expected: &[(usize, u64, u32)]| {
            let commit = |(number, &(file, position)): (usize, &(usize, u64))| Commit {
                number: number as u64,
                place: Place { file, position, bytes: 4096 },
                from_ns: 0,
            };
            let mut group: Vec<Commit> = places.iter().enumerate().map(commit).collect();
            let writes = coalesce(1, &mut group);
            let found: Vec<_> =
                writes.iter().map(|w| (w.place.file, w.place.position, w.place.bytes)).collect();
            assert_eq!(found, expected);
        };
        check(&[(0, 0), (1, 0), (0, 4096)], &[(0, 0, 8192), (1, 0, 4096)]);
        check(&[(0, 8192), (0, 0)], &[(0, 0, 4096), (0, 8192, 4096)]);
        // The end of a recycled file and its start are no neighbours.
        check(&[(0, 61440), (0, 0)], &[(0, 0, 4096), (0, 61440, 4096)]);
    }
}
