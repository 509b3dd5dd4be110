//! Whether a flush does anything: its time after more and more bytes that a volatile cache would have to put on the medium.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use crate::clock::now_ns;
use crate::device::Queue;
use crate::files::{CellError, Stock};
use crate::memory::Aligned;
use crate::plan::MIB;
use crate::signals;
use crate::strategy::Cache;
use corelog_measure::spread::Spread;

/// Overwritten before the flush, in MiB.
const STEPS_MIB: [u64; 4] = [0, 1, 16, 64];
const ROUNDS_MIN: usize = 5;
/// On a busy host it takes more to see one that waited for the disk alone.
const ROUNDS_MAX: usize = 15;
const TIME_MAX_NS: u64 = 2_500_000_000;

/// One flush after so many bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FlushTime {
    pub overwritten_bytes: u64,
    pub flush_us: Spread,
}

/// What the times say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// 64 MiB became durable faster than any medium writes them.
    AboutNothing,
    /// The kernel sends no flushes: the disk says that it has no volatile cache.
    NotSent,
    /// It takes as long as a medium may.
    Real,
    /// There is no disk: the file system is in memory.
    Memory,
    /// No way to time it here.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::AboutNothing => {
                "this disk's flush costs about nothing: it is virtual, cached, or lying"
            }
            Verdict::NotSent => {
                "this disk says that it writes through, so the kernel sends it no flushes: it may be right, or lying"
            }
            Verdict::Real => "this disk's flush takes time, as a real one does",
            Verdict::Memory => "this file system is in memory: nothing on it is durable",
            Verdict::Unknown => "nothing is known of this disk's flush",
        })
    }
}

/// No medium takes 64 MiB, or what a cache still holds of them, in less.
const MEDIUM_US_MIN: f64 = 1_000.0;

/// Decides by the time after the largest overwrite: by its fastest flush, as a busy host only adds to it.
pub fn verdict(times: &[FlushTime], queues: &[Queue]) -> Verdict {
    let Some(largest) = times.iter().max_by_key(|time| time.overwritten_bytes) else {
        return Verdict::Unknown;
    };
    let writes_through = |queue: &Queue| queue.write_cache.as_deref() == Some("write through");
    if !queues.is_empty() && queues.iter().all(writes_through) {
        return Verdict::NotSent;
    }
    if largest.flush_us.low < MEDIUM_US_MIN { Verdict::AboutNothing } else { Verdict::Real }
}

/// Times flushes after overwrites of a pre-zeroed file, with O_DIRECT so that the flush has nothing else to do.
pub fn measure(stock: &mut Stock, noise: &Arc<Aligned>) -> Result<Vec<FlushTime>, CellError> {
    let (path, bytes) = stock.zeroed_file(Cache::Direct)?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(|error| CellError::of("open with O_DIRECT", error))?;
    let mut times = vec![Vec::new(); STEPS_MIB.len()];
    let end = now_ns() + TIME_MAX_NS;
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS_MIN && now_ns() > end {
            break;
        }
        for (step, &mib) in STEPS_MIB.iter().enumerate() {
            if mib * MIB > bytes {
                continue;
            }
            for block in 0..mib {
                if signals::received().is_some() {
                    return Err(CellError::Interrupted);
                }
                let data = &noise.as_slice()[..MIB as usize];
                file.write_all_at(data, block * MIB).map_err(|error| CellError::of("write", error))?;
            }
            let start = now_ns();
            file.sync_data().map_err(|error| CellError::of("fdatasync", error))?;
            times[step].push((now_ns() - start) as f64 / 1e3);
        }
    }
    let time = |(mib, times): (&u64, Vec<f64>)| {
        Some(FlushTime { overwritten_bytes: mib * MIB, flush_us: Spread::of(times)? })
    };
    Ok(STEPS_MIB.iter().zip(times).filter_map(time).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(write_cache: &str) -> Queue {
        Queue {
            write_cache: Some(write_cache.to_owned()),
            fua: None,
            rotational: None,
            scheduler: None,
            logical_block_bytes: None,
        }
    }

    fn times(us: &[(u64, f64)]) -> Vec<FlushTime> {
        let time = |&(mib, us)| FlushTime {
            overwritten_bytes: mib * MIB,
            flush_us: Spread { median: us, low: us, high: us },
        };
        us.iter().map(time).collect()
    }

    #[test]
    fn the_time_after_the_largest_overwrite_decides() {
        let check = |us: &[(u64, f64)], write_cache: &str, expected: Verdict| {
            assert_eq!(verdict(&times(us), &[queue(write_cache)]), expected, "{us:?} {write_cache}");
        };
        // A virtual disk, a SATA SSD, a rotating disk, a small set.
        check(&[(0, 18.0), (1, 52.0), (16, 69.0), (64, 95.0)], "write back", Verdict::AboutNothing);
        check(&[(0, 500.0), (64, 45_000.0)], "write back", Verdict::Real);
        check(&[(0, 8_000.0), (64, 400_000.0)], "write back", Verdict::Real);
        check(&[(0, 20.0), (16, 60.0)], "write back", Verdict::AboutNothing);
        check(&[(0, 2.0), (64, 3.0)], "write through", Verdict::NotSent);
        check(&[], "write back", Verdict::Unknown);
        assert_eq!(verdict(&times(&[(64, 95.0)]), &[]), Verdict::AboutNothing);
    }
}
