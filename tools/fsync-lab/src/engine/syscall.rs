//! pwrite(2), then fdatasync(2): one thread for each commit in flight.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::now_ns;
use crate::files::{CellError, FileSet};
use crate::memory::Aligned;
use crate::meter::{Costs, Latencies, Sample, Window};
use crate::plan::Cell;
use crate::signals;

use super::noise_offset;

/// Runs the cell until its window ends.
pub fn run(
    cell: Cell,
    files: &FileSet,
    noise: &Aligned,
    window: Window,
    costs: &mut Costs<'_>,
) -> Result<Sample, CellError> {
    let next = AtomicU64::new(0);
    let (ended, ends) = mpsc::channel();
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..cell.depth)
            .map(|_| {
                let (next, ended) = (&next, ended.clone());
                scope.spawn(move || {
                    let outcome = commit_until_end(files, noise, window, next);
                    // Nobody listens any more once the window has ended.
                    let _ = ended.send(());
                    outcome
                })
            })
            .collect();
        // This thread only reads the counters at both ends; an end of the threads before the window's ends it, too.
        let until = |at_ns: u64| ends.recv_timeout(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
        let is_early = until(window.start_ns).is_ok();
        costs.start();
        if !is_early {
            // Either way of ending is the end of the window.
            let _ = until(window.end_ns);
        }
        let ended_costs = costs.end();
        let outcomes: Result<Vec<Thread>, CellError> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        outcomes.map(|outcomes| (outcomes, ended_costs))
    });
    let (threads, ended_costs) = outcomes?;
    let mut latencies = Latencies::new(true);
    threads.iter().for_each(|thread| latencies.add(&thread.latencies));
    let ended_early = threads.iter().any(|thread| thread.is_full);
    Ok(Sample { ended_early, ..Sample::of(&latencies, ended_costs) })
}

struct Thread {
    latencies: Latencies,
    is_full: bool,
}

fn commit_until_end(
    files: &FileSet,
    noise: &Aligned,
    window: Window,
    next: &AtomicU64,
) -> Result<Thread, CellError> {
    let mut latencies = Latencies::new(true);
    let mut start = now_ns();
    while start < window.end_ns {
        if signals::received().is_some() {
            return Err(CellError::Interrupted);
        }
        // Relaxed: the number alone matters.
        let commit = next.fetch_add(1, Ordering::Relaxed);
        let Some(place) = files.place(commit) else { return Ok(Thread { latencies, is_full: true }) };
        let bytes = &noise.as_slice()[noise_offset(commit)..][..place.bytes as usize];
        let file = files.file(place.file);
        let wrote = file.write_at(bytes, place.position).map_err(|error| CellError::of("write", error))?;
        if wrote != bytes.len() {
            return Err(CellError::ShortWrite { wrote, wanted: bytes.len() });
        }
        let written = now_ns();
        sync_data(file).map_err(|error| CellError::of("fdatasync", error))?;
        let done = now_ns();
        if done >= window.start_ns && done < window.end_ns {
            latencies.record_parts(written - start, done - written);
        }
        start = done;
    }
    Ok(Thread { latencies, is_full: false })
}

/// The bare call: std's retries on EINTR, which here means that the operator wants to stop.
fn sync_data(file: &std::fs::File) -> io::Result<()> {
    nix::unistd::fdatasync(file).map_err(io::Error::from)
}
