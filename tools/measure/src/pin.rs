//! On which CPU this program runs: any, or one, as a shard of the broker does.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread, those that it starts and the kernel's workers of its rings stay on one CPU.
pub fn to_cpu(cpu: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Stays on the last CPU that is allowed until dropped, and so do programs that it starts meanwhile: how far a CPU is from
/// the disk's interrupt shows in every latency.
pub struct OneCpu {
    before: CpuSet,
}

impl OneCpu {
    pub fn stay() -> Result<OneCpu, Errno> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let allowed = (0..CpuSet::count()).rev().find(|cpu| before.is_set(*cpu) == Ok(true));
        to_cpu(allowed.ok_or(Errno::ENODEV)?)?;
        Ok(OneCpu { before })
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        // It was allowed a moment ago.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_is_kept_until_dropped() {
        let of_now = || sched_getaffinity(Pid::from_raw(0)).unwrap();
        let count = |set: &CpuSet| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).count();
        let before = of_now();
        let one = OneCpu::stay().unwrap();
        assert_eq!(count(&of_now()), 1);
        drop(one);
        assert_eq!(of_now(), before);
    }
}
