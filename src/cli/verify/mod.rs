//! `corelog log verify`: whether the files of a data directory are what they must be.
//!
//! Reads only, and only what lies there when it starts; a broker may be running. Below a partition's recovery point everything
//! was flushed, so what is wrong there is damage. Above it a crash or a write under way may have left anything: a torn
//! tail, which the next start cuts, is said and is no error. Without a data directory around the files nothing may be torn.
//!
//! Checked: every batch of every segment (magic, length, CRC-32C, offsets that follow on, leader epochs that do not fall),
//! segments against each other, indexes and time indexes against the batches, stored leader epochs, producer snapshots,
//! checkpoints, and of journals which groups are live, which are stale, and whether one is missing that was durable. Files of
//! other kinds are listed as not checked.

mod indexes;
mod plan;
mod report;
mod segment;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::Damage;
use crate::log::journal::{self, Inspection, JournalError};
use crate::reactor::StdFiles;

use plan::{PartitionPlan, Plan};
use segment::Segment;

pub use report::{Fault, Finding, Outcome, Verdict, Verified};

/// Why nothing could be checked.
#[derive(Debug)]
pub enum VerifyError {
    Read { path: PathBuf, source: io::Error },
    NotSegment { path: PathBuf },
    NotDataDirectory { path: PathBuf },
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Read { path, source } => {
                write!(f, "cannot read {}: {source}; check the path and its owner", path.display())
            }
            VerifyError::NotSegment { path } => write!(
                f,
                "{} is no segment; name a .log file, a partition's folder or a data directory",
                path.display()
            ),
            VerifyError::NotDataDirectory { path } => write!(
                f,
                "{} is neither a data directory (it has no meta.properties) nor a partition's folder (<topic>-<n>); check the path",
                path.display()
            ),
        }
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            VerifyError::Read { source, .. } => Some(source),
            VerifyError::NotSegment { .. } | VerifyError::NotDataDirectory { .. } => None,
        }
    }
}

/// Checks a data directory, a partition's folder or a segment, on so many threads (`None`: one a CPU).
/// Progress goes to standard error if that is a terminal.
pub fn run(path: &Path, threads: Option<NonZeroUsize>) -> Result<Verified, VerifyError> {
    #[allow(clippy::disallowed_methods, reason = "a command has the real clock")]
    let started = Instant::now();
    let mut plan = Plan::make(path)?;
    let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let segments = check_segments(&plan, threads);
    let mut verified = Verified { findings: std::mem::take(&mut plan.findings), ..Verified::default() };
    let mut segments = segments.into_iter();
    for partition in &plan.partitions {
        let checked: Vec<Segment> = segments.by_ref().take(partition.segments.len()).collect();
        verified.partitions += 1;
        verified.segments += checked.len();
        verified.batches += checked.iter().map(|segment| segment.batches).sum::<u64>();
        verified.bytes += checked.iter().map(|segment| segment.bytes).sum::<u64>();
        join(partition, checked, &mut verified.findings);
    }
    verified.findings.extend(plan.journals.iter().filter_map(|path| check_journal(path)));
    verified.findings.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
    verified.took = started.elapsed();
    Ok(verified)
}

/// What is told of a journal; `None`: it is gone, as after a clean stop.
fn check_journal(path: &Path) -> Option<Finding> {
    let look = || journal::inspect(&mut StdFiles, path);
    let mut found = look();
    // A broker that writes to it changes the file between two reads: only what stays is damage.
    while let Ok(Inspection { damage: Some(_), .. }) = found {
        let again = look();
        if matches!((&found, &again), (Ok(before), Ok(after)) if before == after) {
            break;
        }
        found = again;
    }
    let verdict = match found {
        Ok(Inspection { damage: Some(damage), .. }) => Verdict::Damaged(Fault::Journal(damage.kind)),
        Ok(found) => Verdict::Journal(found),
        Err(JournalError::Damaged(damage)) => Verdict::Damaged(Fault::Journal(damage.kind)),
        Err(JournalError::Storage(error)) if error.source.kind() == io::ErrorKind::NotFound => return None,
        Err(JournalError::Storage(error)) => Verdict::Unreadable(Arc::new(error.source)),
    };
    Some(Finding::new(verdict, path.to_owned()))
}

/// Checks all segments, each on one of the threads; the results in the order of the plan.
fn check_segments(plan: &Plan, threads: usize) -> Vec<Segment> {
    let work: Vec<_> =
        plan.partitions.iter().flat_map(|p| p.segments.iter().map(move |segment| (p, segment))).collect();
    // Large ones first, so that no thread is left alone with one at the end.
    let mut order: Vec<usize> = (0..work.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(work[i].1.size_bytes));
    let bar = progress_bar(plan.total_bytes());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(work.len()) {
            scope.spawn(|| {
                while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (partition, segment) = work[i];
                    let checked = segment::check(partition, segment, &|bytes| bar.inc(bytes));
                    done.lock().expect("no thread panics with the lock").insert(i, checked);
                }
            });
        }
    });
    bar.finish_and_clear();
    done.into_inner().expect("no thread panics with the lock").into_values().collect()
}

fn progress_bar(total_bytes: u64) -> ProgressBar {
    // Hides itself where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr_with_hz(10));
    let style =
        "checking [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    bar.with_style(ProgressStyle::with_template(style).expect("the template is sound").progress_chars("=> "))
}

/// Compares the segments of a partition with each other and with its checkpoints.
fn join(partition: &PartitionPlan, mut segments: Vec<Segment>, findings: &mut Vec<Finding>) {
    // Behind a torn tail the log has ended: what is found there is removed at the next start.
    let end = segments.iter().position(|segment| segment.is_torn).map_or(segments.len(), |torn| torn + 1);
    for (plan, _) in partition.segments.iter().zip(&segments).skip(end) {
        findings.push(Finding::new(Verdict::BehindTear { bytes: plan.size_bytes }, plan.path.clone()));
    }
    segments.truncate(end);
    let damaged = |fault, path: &Path| Finding::new(Verdict::Damaged(fault), path.to_owned());
    let mut before: Option<&Segment> = None;
    let mut log_end = None;
    for (plan, segment) in partition.segments.iter().zip(&mut segments) {
        findings.append(&mut segment.findings);
        let segment = &*segment;
        if let (Some(before), Some(found)) = (before.and_then(|s| s.last_epoch), segment.first_epoch)
            && found < before
        {
            findings.push(damaged(Fault::EpochFalls { before, found }, &plan.path).at(0));
        }
        if let (Some(end_offset), Some(next)) = (segment.end_offset, plan.next_base)
            && !segment.is_torn
            && end_offset != next
        {
            let fault = if end_offset > next {
                Fault::Overlap { expected: end_offset, found: next }
            } else if partition.recovery_point.covers(end_offset) {
                Fault::Short { expected: next, found: end_offset }
            } else {
                // The next start cuts the log here: a crash kept the later file and not the end of this one.
                let damage = Damage::Short { end_offset, expected: next };
                let verdict = Verdict::TornTail { end_offset, bytes: 0, damage };
                findings.push(Finding::new(verdict, plan.path.clone()).at(plan.size_bytes));
                log_end = Some(end_offset);
                break;
            };
            findings.push(damaged(fault, &plan.path).at(plan.size_bytes));
        }
        log_end = segment.end_offset;
        before = Some(segment);
    }
    let Some(must_reach) = partition.recovery_point.must_reach().filter(|_| partition.is_whole) else {
        return;
    };
    // Without a segment there is nothing at all; a last one of unknown end has been told of already.
    let log_end = if segments.is_empty() { Some(0) } else { log_end };
    if let Some(found) = log_end.filter(|end| *end < must_reach) {
        findings.push(damaged(Fault::Short { expected: must_reach, found }, &partition.directory));
    }
}

#[cfg(test)]
mod tests;
