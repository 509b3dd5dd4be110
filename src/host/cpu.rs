//! Which CPUs carry shards.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::HostError;
use crate::config::Cores;

/// Where one shard runs: pinned to a CPU, or wherever the kernel likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    Pinned(usize),
    /// More shards than CPUs: pinning would tie two of them together while a third CPU may be idle.
    Floating,
}

/// The CPUs this process may run on, ascending. Affinity and cpuset are both in it.
pub fn allowed_cpus() -> Result<Vec<usize>, HostError> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .map_err(|errno| HostError::Look { what: "the CPU affinity", source: errno.into() })?;
    // `is_set` fails only beyond the set's size.
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// One placement for each shard.
pub fn place(cores: &Cores, allowed: &[usize]) -> Result<Vec<Placement>, HostError> {
    match cores {
        Cores::All => Ok(allowed.iter().map(|&cpu| Placement::Pinned(cpu)).collect()),
        Cores::Count(count) if usize::from(*count) <= allowed.len() => {
            Ok(allowed[..usize::from(*count)].iter().map(|&cpu| Placement::Pinned(cpu)).collect())
        }
        Cores::Count(count) => Ok(vec![Placement::Floating; usize::from(*count)]),
        Cores::List(cpus) => cpus
            .iter()
            .map(|&cpu| match allowed.contains(&cpu) {
                true => Ok(Placement::Pinned(cpu)),
                false => Err(HostError::CpuNotAllowed { cpu, allowed: allowed.to_owned() }),
            })
            .collect(),
    }
}

/// Pins the calling thread as its shard's placement says.
pub fn pin(placement: Placement) -> Result<(), HostError> {
    match placement {
        Placement::Floating => Ok(()),
        Placement::Pinned(cpu) if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) => Ok(()),
        Placement::Pinned(cpu) => Err(HostError::Pin { cpu }),
    }
}

/// How many CPUs' time the process's cgroup (version 2) allows; `None` if it sets no bound.
pub fn cpu_quota() -> Option<f64> {
    super::resources::cgroup_file("cpu.max").as_deref().and_then(parse_quota)
}

/// `max 100000` or `<quota> <period>`, in microseconds. Source: kernel, Documentation/admin-guide/cgroup-v2.rst.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_cpus_of_their_own_while_there_are_enough() {
        let check =
            |cores: Cores, expected: Vec<Placement>| assert_eq!(place(&cores, &[0, 2, 5]).unwrap(), expected);
        use Placement::{Floating, Pinned};
        check(Cores::All, vec![Pinned(0), Pinned(2), Pinned(5)]);
        check(Cores::Count(2), vec![Pinned(0), Pinned(2)]);
        check(Cores::Count(4), vec![Floating; 4]);
        check(Cores::List(vec![5, 0]), vec![Pinned(5), Pinned(0)]);
        let error = place(&Cores::List(vec![1]), &[0, 2, 5]).unwrap_err().to_string();
        assert!(error.starts_with("CPU 1 is not one this process may run on (0,2,5)"), "{error}");
    }

    #[test]
    fn quotas() {
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota(""), None);
    }

    #[test]
    fn this_process_runs_somewhere() {
        assert!(!allowed_cpus().unwrap().is_empty());
    }
}
