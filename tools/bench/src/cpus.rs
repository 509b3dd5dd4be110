//! Who runs where: the CPUs of the generator and those of the broker.

use std::collections::BTreeSet;
use std::fmt;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::arguments::{self, Arguments, Idle};
use crate::broker::cpu_list;

/// Why CPUs cannot be shared out.
#[derive(Debug)]
pub enum CpusError {
    Affinity(Errno),
    /// Typed, but this process may not run on it.
    NotAllowed {
        cpu: usize,
        allowed: Vec<usize>,
    },
}

impl fmt::Display for CpusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpusError::Affinity(source) => write!(f, "ask which CPUs may be used: {source}"),
            CpusError::NotAllowed { cpu, allowed } => {
                write!(f, "CPU {cpu} is not among those that this program may use: {}", cpu_list(allowed))
            }
        }
    }
}

impl std::error::Error for CpusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CpusError::Affinity(source) => Some(source),
            CpusError::NotAllowed { .. } => None,
        }
    }
}

/// Who runs where.
pub struct Cpus {
    pub generator: Vec<usize>,
    pub broker: Vec<usize>,
    /// Whether the generator looks for answers without pause.
    pub spins: bool,
}

impl Cpus {
    /// As typed; what was not is shared out.
    pub fn of(arguments: &Arguments) -> Result<Cpus, CpusError> {
        let set = sched_getaffinity(Pid::from_raw(0)).map_err(CpusError::Affinity)?;
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect();
        let typed = |list: &Option<arguments::Cpus>| list.as_ref().map(|cpus| cpus.0.clone());
        Cpus::divide(
            &allowed,
            typed(&arguments.run.cores),
            typed(&arguments.run.broker_cores),
            arguments.run.idle,
        )
    }

    fn divide(
        allowed: &[usize],
        generator: Option<Vec<usize>>,
        broker: Option<Vec<usize>>,
        idle: Option<Idle>,
    ) -> Result<Cpus, CpusError> {
        let all: BTreeSet<usize> = allowed.iter().copied().collect();
        let free = |taken: &Option<Vec<usize>>| {
            let taken = taken.clone().unwrap_or_default();
            all.iter().copied().filter(|cpu| !taken.contains(cpu)).collect::<Vec<_>>()
        };
        let last = |of: Vec<usize>| of.last().or(allowed.last()).copied().into_iter().collect::<Vec<_>>();
        let generator = generator.clone().unwrap_or_else(|| last(free(&broker)));
        let others = free(&Some(generator.clone()));
        // On a single CPU they share it.
        let broker = broker.unwrap_or(if others.is_empty() { generator.clone() } else { others });
        if let Some(cpu) = generator.iter().chain(&broker).find(|cpu| !all.contains(cpu)) {
            return Err(CpusError::NotAllowed { cpu: *cpu, allowed: allowed.to_vec() });
        }
        let is_alone = generator.iter().all(|cpu| !broker.contains(cpu));
        let spins = idle.map_or(is_alone, |idle| idle == Idle::Spin);
        Ok(Cpus { generator, broker, spins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_and_broker_share_the_cpus_out() {
        let check = |allowed: &[usize],
                     generator: Option<&[usize]>,
                     broker: Option<&[usize]>,
                     expected: (&[usize], &[usize], bool)| {
            let typed = |list: Option<&[usize]>| list.map(<[usize]>::to_vec);
            let cpus = Cpus::divide(allowed, typed(generator), typed(broker), None).unwrap();
            assert_eq!((&cpus.generator[..], &cpus.broker[..], cpus.spins), expected);
        };
        check(&[0, 1], None, None, (&[1], &[0], true));
        check(&[5], None, None, (&[5], &[5], false));
        check(&[0, 1, 2, 3], None, None, (&[3], &[0, 1, 2], true));
        check(&[0, 1, 2, 3], Some(&[0, 1]), None, (&[0, 1], &[2, 3], true));
        check(&[0, 1, 2, 3], None, Some(&[3]), (&[2], &[3], true));
        check(&[0, 1], Some(&[0]), Some(&[0]), (&[0], &[0], false));
        let refused = Cpus::divide(&[0, 1], Some(vec![2]), None, None).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("CPU 2 is not among those that this program may use: 0,1"));
    }
}
