//! The same question put to fio, of the same file, in turns: whether two instruments agree.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::engine::Bench;
use crate::files::CellError;
use crate::pin::OneCpu;
use crate::plan::{BASE_GROUP_BYTES, Cell};
use crate::signals;
use crate::strategy::{Cache, Space, Strategy, Sync};
use corelog_measure::spread::Spread;

/// fio's psync engine with fdatasync after each write does what this strategy does.
const fn same(cache: Cache) -> Strategy {
    Strategy::of(cache, Space::Zeroed, Sync::Syscall)
}

/// Short and many: what else the host does changes from second to second, and both should meet it alike.
const ROUNDS: usize = 7;

/// Medians over the rounds, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Comparison {
    pub cache: Cache,
    pub ours: Parts,
    pub theirs: Parts,
}

/// fio times write and sync apart; so does this tool where it makes the calls one after the other.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Parts {
    pub write_p50_us: f64,
    pub sync_p50_us: f64,
}

impl Parts {
    pub fn sum(self) -> f64 {
        self.write_p50_us + self.sync_p50_us
    }
}

impl Comparison {
    /// How far ours is from fio's, in percent of fio's.
    pub fn difference_percent(self) -> f64 {
        (self.ours.sum() / self.theirs.sum() - 1.0) * 100.0
    }
}

#[derive(Debug)]
pub enum FioError {
    Start(io::Error),
    Cell(CellError),
    Failed {
        stderr: String,
    },
    /// Another version's output.
    Unreadable(Option<serde_json::Error>),
}

impl fmt::Display for FioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FioError::Start(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("fio is not installed; install it, as with apt-get install fio")
            }
            FioError::Start(error) => write!(f, "start fio: {error}"),
            FioError::Cell(error) => error.fmt(f),
            FioError::Failed { stderr } => write!(f, "fio failed: {}", stderr.trim()),
            FioError::Unreadable(Some(error)) => write!(f, "read fio's output: {error}"),
            FioError::Unreadable(None) => f.write_str("fio's output has no median of write and sync"),
        }
    }
}

impl std::error::Error for FioError {}

/// Measures with both, in turns, past the page cache where that is possible and through it.
pub fn compare(bench: &mut Bench<'_>, time: Duration) -> Result<Vec<Comparison>, FioError> {
    // Where this is not allowed they meet by chance.
    let _one_cpu = OneCpu::stay();
    let mut comparisons = Vec::new();
    for cache in [Cache::Direct, Cache::PageCache] {
        match compare_through(cache, bench, time) {
            Ok(comparison) => comparisons.push(comparison),
            Err(FioError::Cell(CellError::Unsupported { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(comparisons)
}

fn compare_through(cache: Cache, bench: &mut Bench<'_>, time: Duration) -> Result<Comparison, FioError> {
    let cell = Cell::closed(same(cache), 1, BASE_GROUP_BYTES, 1);
    let (path, bytes) = bench.stock.zeroed_file(cache).map_err(FioError::Cell)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let sample = bench.run(cell, time, None).map_err(FioError::Cell)?;
        if let (Some(write_p50_us), Some(sync_p50_us)) = (sample.write_p50_us, sample.sync_p50_us) {
            ours.push(Parts { write_p50_us, sync_p50_us });
        }
        theirs.push(ask_fio(cache, &path, bytes, time)?);
        if signals::received().is_some() {
            return Err(FioError::Cell(CellError::Interrupted));
        }
    }
    let median = |parts: &[Parts], of: &dyn Fn(&Parts) -> f64| {
        Spread::of(parts.iter().map(of)).map(|spread| spread.median).ok_or(FioError::Unreadable(None))
    };
    let medians = |parts: &[Parts]| {
        Ok::<Parts, FioError>(Parts {
            write_p50_us: median(parts, &|parts| parts.write_p50_us)?,
            sync_p50_us: median(parts, &|parts| parts.sync_p50_us)?,
        })
    };
    Ok(Comparison { cache, ours: medians(&ours)?, theirs: medians(&theirs)? })
}

fn ask_fio(cache: Cache, path: &Path, bytes: u64, time: Duration) -> Result<Parts, FioError> {
    let output = Command::new("fio")
        .args(["--name=lab", "--ioengine=psync", "--rw=write", "--fdatasync=1", "--numjobs=1"])
        // The pages that were written stay where they are, as they do for this tool.
        .args(["--invalidate=0", if cache == Cache::Direct { "--direct=1" } else { "--direct=0" }])
        .args(["--fallocate=none", "--allow_file_create=0", "--time_based", "--output-format=json"])
        .arg(format!("--filename={}", path.display().to_string().replace(':', "\\:")))
        .arg(format!("--bs={BASE_GROUP_BYTES}"))
        .arg(format!("--size={bytes}"))
        .arg(format!("--runtime={}ms", time.as_millis()))
        .arg(format!("--ramp_time={}ms", time.as_millis() / 10))
        .stdin(Stdio::null())
        .output()
        .map_err(FioError::Start)?;
    if !output.status.success() {
        return Err(FioError::Failed { stderr: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    parse(&output.stdout)
}

fn parse(output: &[u8]) -> Result<Parts, FioError> {
    // Warnings may stand before the object.
    let start = output.iter().position(|byte| *byte == b'{').ok_or(FioError::Unreadable(None))?;
    let value: Value =
        serde_json::from_slice(&output[start..]).map_err(|error| FioError::Unreadable(Some(error)))?;
    let job = &value["jobs"][0];
    let p50 = |part: &Value| part["percentile"]["50.000000"].as_f64().map(|ns| ns / 1e3);
    match (p50(&job["write"]["clat_ns"]), p50(&job["sync"]["lat_ns"])) {
        (Some(write_p50_us), Some(sync_p50_us)) => Ok(Parts { write_p50_us, sync_p50_us }),
        _ => Err(FioError::Unreadable(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_found_in_fios_output() {
        let output = br#"fio: a warning
            {"jobs":[{"write":{"clat_ns":{"percentile":{"50.000000":20480}}},
                      "sync":{"lat_ns":{"percentile":{"50.000000":18304}}}}]}"#;
        let parts = parse(output).unwrap();
        assert_eq!((parts.write_p50_us, parts.sync_p50_us), (20.48, 18.304));
        assert!(matches!(parse(b"{\"jobs\":[]}"), Err(FioError::Unreadable(None))));
        assert!(matches!(parse(b"{"), Err(FioError::Unreadable(Some(_)))));
        let ours = Parts { write_p50_us: 21.0, sync_p50_us: 21.0 };
        let theirs = Parts { write_p50_us: 20.0, sync_p50_us: 20.0 };
        assert!((Comparison { cache: Cache::Direct, ours, theirs }.difference_percent() - 5.0).abs() < 1e-9);
    }
}
