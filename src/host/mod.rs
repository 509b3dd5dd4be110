//! The machine under the process: CPUs, memory, resource limits, kernel, file system. Looked at once, at start.
//!
//! *Owns* the words for what is wrong with a host: every failure is one line with its cause and its remedy. *Never* changes
//! anything but this process's own limits and its threads' CPUs. Called by `main`; what io_uring itself can do is probed by
//! `reactor`, which makes the ring.

mod cpu;
mod disk;
mod kernel;
mod resources;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use cpu::{Placement, allowed_cpus, cpu_quota, pin, place};
pub use disk::{FREE_BYTES_MIN, FileSystem, FileSystemKind, file_system, has_fua};
pub use kernel::{KERNEL_FLOOR, Kernel, why_io_uring_is_refused};
pub use resources::{memory_bytes, raise_open_files};

use crate::config::Config;
use crate::limits::{Limits, Resources};

/// What a broker starts with.
#[derive(Clone, PartialEq, Debug)]
pub struct Host {
    /// Where each shard runs.
    pub placements: Vec<Placement>,
    pub resources: Resources,
    /// Odd but served: to be logged as warnings.
    pub warnings: Vec<HostWarning>,
}

/// Why a broker cannot run here. One line: cause; remedy.
#[derive(Debug)]
pub enum HostError {
    Kernel {
        found: Kernel,
    },
    UnknownKernel {
        release: String,
    },
    IoUringDisabled {
        level: u8,
    },
    IoUringFiltered,
    IoUringMissing,
    Memlock {
        limit_bytes: u64,
        needed_bytes: u64,
    },
    OpenFiles {
        limit: u64,
        needed: u64,
    },
    CpuNotAllowed {
        cpu: usize,
        allowed: Vec<usize>,
    },
    Pin {
        cpu: usize,
    },
    /// A look at the host itself failed.
    Look {
        what: &'static str,
        source: io::Error,
    },
    DiskFull {
        path: PathBuf,
        free_bytes: u64,
    },
}

/// What an operator should know about this host.
#[derive(Clone, PartialEq, Debug)]
pub enum HostWarning {
    /// More shards than CPUs: they take turns.
    SharedCpus { shards: usize, cpus: usize },
    /// A cgroup gives the process less CPU time than its shards could use.
    CpuQuota { cpus: f64, shards: usize },
    /// Fewer open files than the configured connections and a few segments need.
    OpenFiles { limit: u64, wanted: u64 },
    /// What is written here does not outlive the machine, or flushes are not to be relied on.
    FileSystem { path: PathBuf, kind: FileSystemKind },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::Kernel { found } => {
                write!(f, "Linux {found} is older than {KERNEL_FLOOR}, whose io_uring corelog needs; boot a newer kernel")
            }
            HostError::UnknownKernel { release } => {
                write!(f, "the kernel's release `{release}` is no version; corelog needs Linux {KERNEL_FLOOR} or newer")
            }
            HostError::IoUringDisabled { level } => write!(
                f,
                "io_uring is forbidden here (kernel.io_uring_disabled = {level}); run tuning/io_uring/apply as root, or `sysctl kernel.io_uring_disabled=0`"
            ),
            HostError::IoUringFiltered => f.write_str(
                "io_uring is forbidden to this process (a seccomp filter, as containers set); allow io_uring_setup, io_uring_enter and io_uring_register in the container's profile",
            ),
            HostError::IoUringMissing => f.write_str("this kernel is built without io_uring; boot one with CONFIG_IO_URING=y"),
            HostError::Memlock { limit_bytes, needed_bytes } => write!(
                f,
                "too little lockable memory: RLIMIT_MEMLOCK is {} KiB, the shards' rings need {} KiB; run tuning/memory/apply as root, or set LimitMEMLOCK=infinity in the unit, or lower max.connections",
                limit_bytes / 1024,
                needed_bytes / 1024
            ),
            HostError::OpenFiles { limit, needed } => write!(
                f,
                "too few open files: RLIMIT_NOFILE is {limit}, corelog needs {needed} before the first connection; run tuning/files/apply as root, or set LimitNOFILE=1048576 in the unit"
            ),
            HostError::CpuNotAllowed { cpu, allowed } => write!(
                f,
                "CPU {cpu} is not one this process may run on ({}); correct --cores, or the process's affinity or cpuset",
                ranges(allowed)
            ),
            HostError::Pin { cpu } => {
                write!(f, "cannot pin a shard to CPU {cpu}; take it out of --cores, or allow it in the process's cpuset")
            }
            HostError::Look { what, source } => write!(f, "cannot read {what}: {source}; mount /proc and /sys as usual"),
            HostError::DiskFull { path, free_bytes } => write!(
                f,
                "the disk under {} is full: {} MiB free, {} MiB needed to start; make room, or name another --data-dir",
                path.display(),
                free_bytes >> 20,
                FREE_BYTES_MIN >> 20
            ),
        }
    }
}

impl std::error::Error for HostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HostError::Look { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for HostWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostWarning::SharedCpus { shards, cpus } => {
                write!(f, "{shards} shards share {cpus} CPUs; for speed give each its own with --cores")
            }
            HostWarning::CpuQuota { cpus, shards } => write!(
                f,
                "the cgroup allows {cpus:.1} CPUs' time to {shards} shards; a shard that is throttled delays all its partitions: raise the quota or lower --cores"
            ),
            HostWarning::OpenFiles { limit, wanted } => write!(
                f,
                "RLIMIT_NOFILE is {limit}, max.connections and open segments may want {wanted}; run tuning/files/apply as root"
            ),
            HostWarning::FileSystem { path, kind } => write!(
                f,
                "{} is on {kind}, where a flush does not make records durable; use ext4 or XFS for anything but tests",
                path.display()
            ),
        }
    }
}

/// `0-3,6` for `[0, 1, 2, 3, 6]`.
fn ranges(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let part = |(first, last): (usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

/// Looks at everything that can be known before the first ring is made. A data directory need not exist: its nearest parent
/// that does stands for it.
pub fn check(config: &Config, data_directories: &[&Path]) -> Result<Host, HostError> {
    kernel::check()?;
    let allowed = allowed_cpus()?;
    let placements = place(&config.cores, &allowed)?;
    let mut warnings = Vec::new();
    if placements.len() > allowed.len() {
        warnings.push(HostWarning::SharedCpus { shards: placements.len(), cpus: allowed.len() });
    }
    if let Some(cpus) = cpu_quota()
        && cpus < placements.len() as f64
    {
        warnings.push(HostWarning::CpuQuota { cpus, shards: placements.len() });
    }
    let open_files = raise_open_files()?;
    if open_files < resources::OPEN_FILES_MIN {
        return Err(HostError::OpenFiles { limit: open_files, needed: resources::OPEN_FILES_MIN });
    }
    let wanted = u64::from(config.connections_max) + resources::OPEN_FILES_MIN;
    if open_files < wanted {
        warnings.push(HostWarning::OpenFiles { limit: open_files, wanted });
    }
    for path in data_directories {
        let disk = file_system(path)?;
        if disk.free_bytes < FREE_BYTES_MIN {
            return Err(HostError::DiskFull { path: path.to_path_buf(), free_bytes: disk.free_bytes });
        }
        if !disk.kind.is_durable() {
            warnings.push(HostWarning::FileSystem { path: path.to_path_buf(), kind: disk.kind });
        }
    }
    let resources = Resources { memory_bytes: memory_bytes()?, open_files };
    let shards = u16::try_from(placements.len()).expect("`cores` bounds the number of shards");
    let limits = Limits::new(config, shards, resources);
    resources::check_memlock(limits.shard_ring_bytes * u64::from(shards))?;
    Ok(Host { placements, resources, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_short() {
        assert_eq!(ranges(&[0, 1, 2, 3, 6]), "0-3,6");
        assert_eq!(ranges(&[5]), "5");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn every_error_is_one_line_with_a_remedy() {
        let errors = [
            HostError::Kernel { found: Kernel { major: 5, minor: 15 } },
            HostError::IoUringDisabled { level: 2 },
            HostError::IoUringFiltered,
            HostError::Memlock { limit_bytes: 65_536, needed_bytes: 4 << 20 },
            HostError::OpenFiles { limit: 64, needed: 512 },
            HostError::CpuNotAllowed { cpu: 9, allowed: vec![0, 1] },
            HostError::DiskFull { path: "/d".into(), free_bytes: 0 },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("; ") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn this_host_is_looked_at_without_changing_it() {
        let host = check(&Config::default(), &[Path::new("/")]).expect("the tests run where corelog runs");
        assert!(!host.placements.is_empty());
        assert!(host.resources.memory_bytes > 0);
    }
}
