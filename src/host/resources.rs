//! Memory and resource limits of the process.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::HostError;

/// Rings, event descriptors, checkpoints, the admin server, and a few segments of each shard.
pub(super) const OPEN_FILES_MIN: u64 = 512;

/// CAP_IPC_LOCK: its holder may lock what it likes. Source: kernel, include/uapi/linux/capability.h.
const CAP_IPC_LOCK: u32 = 14;

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_files() -> Result<u64, HostError> {
    let look = |errno: nix::Error| HostError::Look { what: "RLIMIT_NOFILE", source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(look)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(look)?;
    }
    Ok(hard)
}

pub(super) fn memlock_bytes() -> Option<u64> {
    getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft)
}

/// Raises RLIMIT_MEMLOCK as far as it goes and compares it with what the rings will lock.
pub(super) fn check_memlock(needed_bytes: u64) -> Result<(), HostError> {
    let look = |errno: nix::Error| HostError::Look { what: "RLIMIT_MEMLOCK", source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(look)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).map_err(look)?;
    }
    let is_bounded = hard != RLIM_INFINITY && !may_lock_anything();
    if is_bounded && hard < needed_bytes {
        Err(HostError::Memlock { limit_bytes: hard, needed_bytes })
    } else {
        Ok(())
    }
}

fn may_lock_anything() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_capabilities(&status).is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The memory this process may use: the machine's, or its cgroup's bound if that is less.
pub fn memory_bytes() -> Result<u64, HostError> {
    let text = std::fs::read_to_string("/proc/meminfo")
        .map_err(|source| HostError::Look { what: "/proc/meminfo", source })?;
    let machine = parse_meminfo(&text).unwrap_or(0);
    let group = cgroup_file("memory.max").and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Ok(machine.min(group))
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The text of a control file of this process's cgroup (version 2); `None` if there is no such cgroup or file.
pub(super) fn cgroup_file(name: &str) -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = std::path::Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')).join(name);
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(parse_meminfo("MemTotal:       16307500 kB\nMemFree: 1 kB\n"), Some(16_307_500 * 1024));
        assert_eq!(parse_meminfo("MemFree: 1 kB\n"), None);
        let root = effective_capabilities("CapPrm:\t0\nCapEff:\t000001fffeffffff\n").unwrap();
        assert_eq!(root >> CAP_IPC_LOCK & 1, 1);
        assert_eq!(effective_capabilities("CapEff:\t0000000000000000\n"), Some(0));
    }

    #[test]
    fn raising_ends_at_the_hard_limit() {
        let limit = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((limit, limit)));
    }
}
