//! What a load cost the server, where it is a process of this host: CPU, memory, and what reached its disks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corelog_measure::device::{Counters, Devices};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process of this host, and the disks below the files that it has open for writing.
pub struct Process {
    pub pid: u32,
    pub directory: Option<PathBuf>,
    devices: Option<Devices>,
    /// Why the disks are not told.
    pub untold: Option<String>,
}

/// One look at the counters.
#[derive(Clone, Debug)]
pub struct Reading {
    cpu_ns: u64,
    device: Option<Counters>,
}

/// Between two looks, by request.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    pub cpu_us_per_request: f64,
    /// Of one CPU.
    pub cpu_percent: f64,
    pub resident_mib: f64,
    pub resident_most_mib: f64,
    /// Of all disks below its files, whoever caused them.
    pub flushes_per_request: Option<f64>,
    pub writes_per_request: Option<f64>,
    pub kib_per_request: Option<f64>,
}

impl Process {
    pub fn of(pid: u32, directory: Option<PathBuf>) -> Process {
        let directory = directory.or_else(|| written_directory(pid));
        let found = match &directory {
            None => Err("no file that it has open for writing was found".to_owned()),
            // Below a loop device whose file has no name any more nothing is found: then its own counters.
            Some(path) => Devices::below(path)
                .or_else(|error| Devices::holding(path).map_err(|_| error))
                .map_err(|error| format!("{}: {error}", path.display())),
        };
        let (devices, untold) = match found {
            Ok(devices) => (Some(devices), None),
            Err(error) => (None, Some(error)),
        };
        Process { pid, directory, devices, untold }
    }

    /// The process that listens on an address of this host.
    pub fn listening(address: SocketAddr) -> Option<Process> {
        if !is_local(address.ip()) {
            return None;
        }
        let mut inodes = BTreeSet::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            inodes.extend(text.lines().filter_map(|line| listening_inode(line, address.port())));
        }
        let wanted: BTreeSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
        let pids = fs::read_dir("/proc").ok()?.flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let holds = |pid: &u32| {
            open_files(*pid).iter().any(|(_, target)| wanted.contains(&*target.to_string_lossy()))
        };
        pids.into_iter().find(holds).map(|pid| Process::of(pid, None))
    }

    pub fn read(&self) -> io::Result<Reading> {
        let device = self.devices.as_ref().and_then(|devices| devices.counters().ok());
        Ok(Reading { cpu_ns: cpu_ns(self.pid)?, device })
    }

    pub fn cost(&self, begin: &Reading, end: &Reading, seconds: f64, requests: u64) -> Cost {
        let cpu_ns = end.cpu_ns.saturating_sub(begin.cpu_ns) as f64;
        let requests = requests.max(1) as f64;
        let device = end.device.zip(begin.device).map(|(end, begin)| end.since(begin));
        let per = |of: fn(Counters) -> f64| device.map(|device| of(device) / requests);
        let (resident_mib, resident_most_mib) = memory_mib(self.pid);
        Cost {
            cpu_us_per_request: cpu_ns / 1e3 / requests,
            cpu_percent: cpu_ns / 1e9 / seconds * 100.0,
            resident_mib,
            resident_most_mib,
            flushes_per_request: per(|device| device.flushes as f64),
            writes_per_request: per(|device| device.writes as f64),
            kib_per_request: per(Counters::kib),
        }
    }

    pub fn resident_mib(&self) -> f64 {
        memory_mib(self.pid).0
    }

    /// Writes back what its file system holds in memory, so that the next to be measured does not pay for it.
    pub fn settle(&self) -> io::Result<()> {
        let Some(directory) = self.lasting_directory() else { return Ok(()) };
        Ok(nix::unistd::syncfs(fs::File::open(directory)?)?)
    }

    /// The folder that was found to be written to, or what is left above it: it may have been a topic's that is gone.
    fn lasting_directory(&self) -> Option<&Path> {
        self.directory.as_ref()?.ancestors().find(|folder| folder.is_dir())
    }

    /// What is free where it writes.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(self.lasting_directory()?).ok()?;
        Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }
}

fn is_local(ip: IpAddr) -> bool {
    // An address can be bound only where it is one of the host's.
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// Source: proc_net(5), Documentation/networking/proc_net_tcp.rst: local address and port in hexadecimal, state 0A listens.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let is_it = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16) == Ok(port);
    fields.get(9).filter(|_| is_it)?.parse().ok()
}

fn open_files(pid: u32) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?))).collect()
}

/// The folder of a file that is open for writing, logs apart: those that hold records are the most.
fn written_directory(pid: u32) -> Option<PathBuf> {
    let is_written = |link: &Path| {
        let mode = fs::symlink_metadata(link).map_or(0, |link| link.mode());
        let is_regular = fs::metadata(link).is_ok_and(|file| file.is_file());
        mode & 0o200 != 0 && is_regular
    };
    let mut folders = std::collections::BTreeMap::<PathBuf, usize>::new();
    for (link, target) in open_files(pid) {
        let is_log = target.extension().is_some_and(|end| end == "out") || target.ends_with("server.log");
        if is_written(&link) && !is_log && !target.starts_with("/dev") && !target.starts_with("/proc") {
            *folders.entry(target.parent()?.to_owned()).or_default() += 1;
        }
    }
    folders.into_iter().max_by_key(|(_, count)| *count).map(|(folder, _)| folder)
}

/// Nanoseconds on a CPU, those of threads that have ended and of the ring's kernel workers with them.
/// Source: clock_getcpuclockid(3).
fn cpu_ns(pid: u32) -> io::Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32))?;
    let time = clock_gettime(clock)?;
    Ok(u64::try_from(std::time::Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

/// Now, and at most so far. Source: proc_pid_status(5).
fn memory_mib(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok()
    };
    (field("VmRSS").unwrap_or(0.0) / 1024.0, field("VmHWM").unwrap_or(0.0) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_the_kernels_table() {
        let line = "   0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0";
        assert_eq!(listening_inode(line, 9092), Some(4711));
        assert_eq!(listening_inode(line, 9093), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 9092), None);
        assert_eq!(listening_inode("  sl  local_address rem_address   st", 9092), None);
    }

    #[test]
    fn this_process_is_found_by_its_port_and_has_used_a_cpu() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Process::listening(listener.local_addr().unwrap()).unwrap();
        assert_eq!(process.pid, std::process::id());
        let begin = process.read().unwrap();
        while process.read().unwrap().cpu_ns == begin.cpu_ns {
            std::hint::black_box(0);
        }
        let cost = process.cost(&begin, &process.read().unwrap(), 1.0, 1);
        assert!(cost.cpu_us_per_request > 0.0 && cost.resident_mib > 1.0, "{cost:?}");
    }
}
