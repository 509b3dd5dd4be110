//! Where the figures come from: kernel, CPUs, file system, disks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::crowd::cpus_of_host;
use crate::device::{self, Devices, Queue, Untraceable};

#[derive(Clone, Debug)]
pub struct Host {
    pub kernel: String,
    pub cpus: usize,
    pub cpu_model: String,
    /// Measured under here.
    pub path: PathBuf,
    pub file_system: String,
    pub mount_point: String,
    pub mount_options: String,
    pub devices: Result<Devices, Untraceable>,
    pub queues: Vec<Queue>,
    /// Seconds since 1970.
    pub when: u64,
}

impl Host {
    pub fn of(path: &Path) -> Host {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mount = device::mount_of(&read("/proc/self/mountinfo"), &path);
        let devices = Devices::below(&path);
        let disks = devices.as_ref().map(|devices| devices.disks.as_slice()).unwrap_or_default();
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
        let when = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Host {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: cpus_of_host(),
            cpu_model: model.unwrap_or_else(|| "unknown".to_owned()),
            file_system: mount.as_ref().map_or_else(|| "unknown".to_owned(), |mount| mount.kind.clone()),
            mount_point: mount.as_ref().map_or_else(String::new, |mount| mount.point.clone()),
            mount_options: mount.map_or_else(String::new, |mount| mount.options),
            queues: disks.iter().map(device::Disk::queue).collect(),
            devices,
            path,
            when: when.map_or(0, |since| since.as_secs()),
        }
    }

    /// Whether nothing under the path outlives the power.
    pub fn is_in_memory(&self) -> bool {
        ["tmpfs", "ramfs", "devtmpfs"].contains(&self.file_system.as_str())
    }

    /// The way to the disks and what they say of themselves, or why there is none.
    pub fn disk_text(&self) -> String {
        let devices = match &self.devices {
            Ok(devices) => devices,
            Err(error) => return format!("no disk found: {error}"),
        };
        let queue = |queue: &Queue| {
            let mut said = Vec::new();
            said.extend(queue.write_cache.as_ref().map(|cache| format!("cache {cache}")));
            said.extend(queue.fua.map(|fua| if fua { "FUA" } else { "no FUA" }.to_owned()));
            said.extend(queue.scheduler.as_ref().map(|scheduler| format!("scheduler {scheduler}")));
            said.join(", ")
        };
        let mut said: Vec<String> = self.queues.iter().map(queue).collect();
        said.dedup();
        format!("{} ({})", devices.way.join(" on "), said.join("; "))
    }

    /// 2026-01-31 12:34 UTC.
    pub fn when_text(&self) -> String {
        let (year, month, day) = civil(self.when / 86_400);
        let minutes = self.when % 86_400 / 60;
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
    }
}

/// The date of a day since 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_819, (2027, 1, 1)),
        ] {
            assert_eq!(civil(days), date);
        }
    }
}
