//! Who else was at work: on a busy host a commit waits for a CPU as well as for the disk.

use crate::clock::{now_ns, process_cpu_ns};

/// CPU time of the host so far.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at_ns: u64,
    own_ns: u64,
    /// Of the whole host, the kernel's own included.
    busy_ns: u64,
    stolen_ns: u64,
}

/// CPUs that were in use by others, on average over a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Crowd {
    pub cpus: usize,
    pub others: f64,
    /// Taken by the hypervisor.
    pub stolen: f64,
}

impl Reading {
    /// None: the kernel does not tell.
    pub fn now() -> Option<Reading> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let (busy, stolen) = parse_stat(&text)?;
        let tick_ns = 1_000_000_000 / u64::try_from(hertz).ok().filter(|hertz| *hertz > 0)?;
        Some(Reading {
            at_ns: now_ns(),
            own_ns: process_cpu_ns(),
            busy_ns: busy * tick_ns,
            stolen_ns: stolen * tick_ns,
        })
    }

    /// What others did between then and now.
    pub fn crowd_until(self, now: Reading) -> Crowd {
        let span = (now.at_ns - self.at_ns).max(1) as f64;
        let own = now.own_ns.saturating_sub(self.own_ns);
        let others = now.busy_ns.saturating_sub(self.busy_ns).saturating_sub(own);
        Crowd {
            cpus: cpus_of_host(),
            others: others as f64 / span,
            stolen: now.stolen_ns.saturating_sub(self.stolen_ns) as f64 / span,
        }
    }
}

/// All that are online, however few of them this program may use.
pub fn cpus_of_host() -> usize {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().and_then(|online| usize::try_from(online).ok()).unwrap_or(1)
}

/// Ticks of all CPUs: busy, stolen. Source: proc_stat(5); guest time is in user time already.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq, steal))
}

impl Crowd {
    /// A sentence if it was more than the kernel does on this tool's behalf.
    pub fn warning(self) -> Option<String> {
        let taken = self.others + self.stolen;
        // Kernel threads that serve the disk stay below a tenth of the host.
        (taken > 0.2 * self.cpus as f64).then(|| {
            format!(
                "Others used {taken:.1} of {} CPUs while this ran: latencies hold waits for a CPU and differ from run to \
                 run; measure again on a quiet host before deciding by them.",
                self.cpus
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_and_own_time_is_no_crowd() {
        let text = "cpu  100 5 50 9000 70 3 2 40 0 0\ncpu0 1 2 3 4 5 6 7 8\n";
        assert_eq!(parse_stat(text), Some((160, 40)));
        assert_eq!(parse_stat("intr 1"), None);
        let reading = |at_ns, own_ns, busy_ns| Reading { at_ns, own_ns, busy_ns, stolen_ns: 0 };
        let crowd = reading(0, 0, 0).crowd_until(reading(1_000, 400, 1_400));
        assert_eq!((crowd.others, crowd.stolen), (1.0, 0.0));
        assert!(Crowd { cpus: 2, others: 1.0, stolen: 0.0 }.warning().is_some());
        assert!(Crowd { cpus: 2, others: 0.2, stolen: 0.0 }.warning().is_none());
        assert!(Crowd { cpus: 2, others: 0.2, stolen: 0.5 }.warning().is_some());
    }
}
