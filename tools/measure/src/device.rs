//! The block devices below a path, and what the kernel counts on them.
//!
//! A file system names a device; that may be a partition, a loop device, a device-mapper or an md device. Followed down to
//! whole disks, whose counters hold what really went out. Sources: Documentation/block/stat.rst (fields), Documentation/ABI/
//! stable/sysfs-block (slaves, loop, dm, md, queue).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kernel tells; another folder in tests.
#[derive(Clone, Debug)]
struct Sysfs {
    root: PathBuf,
}

/// A device's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceNumber {
    pub major: u64,
    pub minor: u64,
}

impl DeviceNumber {
    pub fn of_path(path: &Path) -> std::io::Result<DeviceNumber> {
        Ok(DeviceNumber::of_raw(fs::metadata(path)?.dev()))
    }

    fn of_raw(raw: u64) -> DeviceNumber {
        DeviceNumber { major: nix::sys::stat::major(raw), minor: nix::sys::stat::minor(raw) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Why a path leads to no disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Untraceable {
    /// The path itself cannot be looked at.
    Path { path: String, error: String },
    /// tmpfs, overlay, network: the number is no block device's.
    NoBlockDevice { number: DeviceNumber },
    /// The loop device's file cannot be seen from here.
    BackingFile { path: String, error: String },
    /// The kernel shows no counters, as in some containers.
    NoCounters { path: String },
    /// Devices above devices above devices.
    TooDeep,
}

impl fmt::Display for Untraceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untraceable::Path { path, error } => write!(f, "{path} cannot be looked at: {error}"),
            Untraceable::NoBlockDevice { number } => {
                write!(f, "device {number} of this file system is no block device")
            }
            Untraceable::BackingFile { path, error } => {
                write!(f, "the backing file {path} of the loop device cannot be followed: {error}")
            }
            Untraceable::NoCounters { path } => write!(f, "{path} cannot be read"),
            Untraceable::TooDeep => f.write_str("more than 16 devices are stacked on each other"),
        }
    }
}

impl std::error::Error for Untraceable {}

/// A whole disk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Disk {
    pub name: String,
    folder: PathBuf,
}

/// What a disk says of itself in `queue/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// `write back` (flushes are sent) or `write through` (the kernel sends none).
    pub write_cache: Option<String>,
    pub fua: Option<bool>,
    pub rotational: Option<bool>,
    pub scheduler: Option<String>,
    pub logical_block_bytes: Option<u64>,
}

impl Disk {
    pub fn queue(&self) -> Queue {
        let read = |name: &str| {
            let text = fs::read_to_string(self.folder.join("queue").join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        let flag = |name: &str| read(name).map(|text| text == "1");
        let chosen = |text: String| match (text.find('['), text.find(']')) {
            (Some(open), Some(close)) if open < close => text[open + 1..close].to_owned(),
            _ => text,
        };
        Queue {
            write_cache: read("write_cache"),
            fua: flag("fua"),
            rotational: flag("rotational"),
            scheduler: read("scheduler").map(chosen),
            logical_block_bytes: read("logical_block_size").and_then(|text| text.parse().ok()),
        }
    }
}

/// What the disks have done so far, or between two readings.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    pub writes: u64,
    pub write_sectors: u64,
    pub flushes: u64,
}

impl Counters {
    pub fn since(self, before: Counters) -> Counters {
        Counters {
            writes: self.writes.wrapping_sub(before.writes),
            write_sectors: self.write_sectors.wrapping_sub(before.write_sectors),
            flushes: self.flushes.wrapping_sub(before.flushes),
        }
    }

    /// The kernel counts in sectors of 512 bytes, whatever the device has.
    pub fn kib(self) -> f64 {
        self.write_sectors as f64 / 2.0
    }
}

/// The disks below a path, and the way to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Devices {
    pub disks: Vec<Disk>,
    /// From the file system down, for the reader: `dm-0`, `sda2`, `sda`.
    pub way: Vec<String>,
}

const DEPTH_MAX: u32 = 16;

impl Sysfs {
    fn of_host() -> Sysfs {
        Sysfs { root: PathBuf::from("/sys") }
    }

    /// Follows a device down to whole disks. `device_of` tells on which device a loop device's file is.
    fn follow(
        &self,
        number: DeviceNumber,
        device_of: &dyn Fn(&Path) -> std::io::Result<DeviceNumber>,
    ) -> Result<Devices, Untraceable> {
        let mut disks = BTreeSet::new();
        let mut way = Vec::new();
        self.follow_into(number, device_of, &mut disks, &mut way, 0)?;
        Ok(Devices { disks: disks.into_iter().collect(), way })
    }

    fn follow_into(
        &self,
        number: DeviceNumber,
        device_of: &dyn Fn(&Path) -> std::io::Result<DeviceNumber>,
        disks: &mut BTreeSet<Disk>,
        way: &mut Vec<String>,
        depth: u32,
    ) -> Result<(), Untraceable> {
        if depth > DEPTH_MAX {
            return Err(Untraceable::TooDeep);
        }
        let folder = self.folder(number)?;
        let name = name_of(&folder);
        way.push(name.clone());
        if let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) {
            let backing = backing.trim_end_matches('\n');
            let below = device_of(Path::new(backing)).map_err(|error| Untraceable::BackingFile {
                path: backing.to_owned(),
                error: error.to_string(),
            })?;
            return self.follow_into(below, device_of, disks, way, depth + 1);
        }
        if let Some(disk) = disk_of_partition(&folder) {
            let name = name_of(disk);
            way.push(name.clone());
            return self.below_disk(disk, name, device_of, disks, way, depth);
        }
        self.below_disk(&folder, name, device_of, disks, way, depth)
    }

    /// The device itself, or the disk of which it is a partition; what lies below a loop, dm or md device is not looked for.
    fn nearest(&self, number: DeviceNumber) -> Result<Devices, Untraceable> {
        let folder = self.folder(number)?;
        let whole = disk_of_partition(&folder).unwrap_or(&folder);
        let disk = Disk { name: name_of(whole), folder: whole.to_owned() };
        read_counters(&disk)?;
        let mut way = vec![name_of(&folder), disk.name.clone()];
        way.dedup();
        Ok(Devices { disks: vec![disk], way })
    }

    fn folder(&self, number: DeviceNumber) -> Result<PathBuf, Untraceable> {
        let link = self.root.join("dev/block").join(number.to_string());
        link.canonicalize().map_err(|_| Untraceable::NoBlockDevice { number })
    }

    /// dm and md devices list their parts in `slaves`; a disk has none.
    fn below_disk(
        &self,
        folder: &Path,
        name: String,
        device_of: &dyn Fn(&Path) -> std::io::Result<DeviceNumber>,
        disks: &mut BTreeSet<Disk>,
        way: &mut Vec<String>,
        depth: u32,
    ) -> Result<(), Untraceable> {
        let slaves = fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
        let mut numbers = Vec::new();
        for slave in slaves {
            let path = slave.path().join("dev");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let number = parse_number(&text)
                .ok_or_else(|| Untraceable::NoCounters { path: path.display().to_string() })?;
            numbers.push(number);
        }
        numbers.sort_unstable();
        if numbers.is_empty() {
            let disk = Disk { name, folder: folder.to_owned() };
            read_counters(&disk)?;
            disks.insert(disk);
        }
        for number in numbers {
            self.follow_into(number, device_of, disks, way, depth + 1)?;
        }
        Ok(())
    }
}

/// A flush is counted on the whole disk only, so a partition's own counters would not do.
fn disk_of_partition(folder: &Path) -> Option<&Path> {
    let is_partition = folder.join("partition").exists();
    is_partition.then(|| folder.parent().expect("a partition lies in its disk's folder"))
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn number_of(path: &Path) -> Result<DeviceNumber, Untraceable> {
    device_of(path)
        .map_err(|error| Untraceable::Path { path: path.display().to_string(), error: error.to_string() })
}

/// The device of a path. File systems with a number of their own (btrfs) are found by their mount's source.
fn device_of(path: &Path) -> std::io::Result<DeviceNumber> {
    let number = DeviceNumber::of_path(path)?;
    if number.major != 0 {
        return Ok(number);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mount_of(&mounts, &path.canonicalize()?);
    let source = mount.and_then(|mount| fs::metadata(mount.source).ok());
    Ok(source.map(|source| source.rdev()).filter(|raw| *raw != 0).map_or(number, DeviceNumber::of_raw))
}

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    pub point: String,
    pub kind: String,
    pub source: String,
    pub options: String,
}

/// The mount that a path lies on: the last one among those with the longest mount point.
pub fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        Some(Mount {
            point: unescape(before.get(4)?),
            kind: (*after.first()?).to_owned(),
            source: unescape(after.get(1)?),
            options: format!("{},{}", before.get(5)?, after.get(2)?),
        })
    };
    let mounts = mountinfo.lines().filter_map(parse);
    mounts.filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.len())
}

/// Blanks in mountinfo are written `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn read_counters(disk: &Disk) -> Result<Counters, Untraceable> {
    let path = disk.folder.join("stat");
    let text = fs::read_to_string(&path).unwrap_or_default();
    parse_stat(&text).ok_or_else(|| Untraceable::NoCounters { path: path.display().to_string() })
}

/// Fields 5 (writes completed), 7 (sectors written) and 16 (flushes completed, since Linux 5.5).
fn parse_stat(text: &str) -> Option<Counters> {
    let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Counters { writes: *fields.get(4)?, write_sectors: *fields.get(6)?, flushes: *fields.get(15)? })
}

impl Devices {
    /// The whole disks below a path, through everything that lies between.
    pub fn below(path: &Path) -> Result<Devices, Untraceable> {
        Sysfs::of_host().follow(number_of(path)?, &|path| device_of(path))
    }

    /// The device that the file system of a path lies on, or the disk of which that is a partition.
    pub fn holding(path: &Path) -> Result<Devices, Untraceable> {
        Sysfs::of_host().nearest(number_of(path)?)
    }

    /// The sum over all disks.
    pub fn counters(&self) -> Result<Counters, Untraceable> {
        self.disks.iter().map(read_counters).try_fold(Counters::default(), |sum, one| {
            let one = one?;
            Ok(Counters {
                writes: sum.writes + one.writes,
                write_sectors: sum.write_sectors + one.write_sectors,
                flushes: sum.flushes + one.flushes,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const STAT: &str = "1 2 3 4 5 6 70 8 0 9 10 11 12 13 14 15 16\n";

    /// A folder that looks like /sys; gone when dropped.
    struct FakeSysfs(PathBuf);

    impl FakeSysfs {
        fn new(name: &str) -> FakeSysfs {
            let root = std::env::temp_dir().join(format!("corelog-fsync-lab-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("dev/block")).unwrap();
            FakeSysfs(root)
        }

        fn device(&self, number: &str, folder: &str, files: &[(&str, &str)]) -> &FakeSysfs {
            let folder = self.0.join("devices").join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dev"), number).unwrap();
            fs::write(folder.join("stat"), STAT).unwrap();
            for (name, text) in files {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            symlink(&folder, self.0.join("dev/block").join(number)).unwrap();
            self
        }

        fn slave(&self, of: &str, is: &str) -> &FakeSysfs {
            let slaves = self.0.join("devices").join(of).join("slaves");
            fs::create_dir_all(&slaves).unwrap();
            let is = self.0.join("devices").join(is);
            symlink(&is, slaves.join(is.file_name().unwrap())).unwrap();
            self
        }

        fn follow(&self, number: &str) -> Result<(Vec<String>, String), Untraceable> {
            let sysfs = Sysfs { root: self.0.clone() };
            let on_sda1 = |path: &Path| match path.to_str() {
                Some("/images/disk.img") => Ok(parse_number("8:1").unwrap()),
                _ => Err(std::io::Error::from_raw_os_error(libc::ENOENT)),
            };
            let devices = sysfs.follow(parse_number(number).unwrap(), &on_sda1)?;
            Ok((devices.disks.iter().map(|disk| disk.name.clone()).collect(), devices.way.join(" > ")))
        }
    }

    impl Drop for FakeSysfs {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn devices_are_followed_to_whole_disks() {
        let sys = FakeSysfs::new("follow");
        sys.device("8:0", "sda", &[("queue/write_cache", "write back\n"), ("queue/fua", "0\n")])
            .device("8:1", "sda/sda1", &[("partition", "1\n")])
            .device("8:16", "sdb", &[])
            .device("253:0", "dm-0", &[])
            .slave("dm-0", "sda/sda1")
            .device("9:0", "md0", &[])
            .slave("md0", "sdb")
            .slave("md0", "dm-0")
            .device("7:0", "loop0", &[("loop/backing_file", "/images/disk.img\n")])
            .device("7:1", "loop1", &[("loop/backing_file", "/gone.img\n")]);
        let check = |number: &str, disks: &[&str], way: &str| {
            let (found, path) = sys.follow(number).unwrap_or_else(|error| panic!("{number}: {error}"));
            assert_eq!(found, disks, "{number}");
            assert_eq!(path, way, "{number}");
        };
        check("8:0", &["sda"], "sda");
        check("8:1", &["sda"], "sda1 > sda");
        check("253:0", &["sda"], "dm-0 > sda1 > sda");
        check("9:0", &["sda", "sdb"], "md0 > sdb > dm-0 > sda1 > sda");
        check("7:0", &["sda"], "loop0 > sda1 > sda");
        // The nearest one is not followed, but a partition is of a disk.
        let nearest = |number: &str| {
            let sysfs = Sysfs { root: sys.0.clone() };
            sysfs.nearest(parse_number(number).unwrap()).map(|devices| devices.way.join(" > "))
        };
        assert_eq!(nearest("8:0").unwrap(), "sda");
        assert_eq!(nearest("8:1").unwrap(), "sda1 > sda");
        assert_eq!(nearest("7:1").unwrap(), "loop1");
        assert!(matches!(nearest("0:42"), Err(Untraceable::NoBlockDevice { .. })));
        assert!(matches!(sys.follow("7:1"), Err(Untraceable::BackingFile { .. })));
        assert!(matches!(sys.follow("0:42"), Err(Untraceable::NoBlockDevice { .. })));
    }

    #[test]
    fn a_ring_of_devices_ends() {
        let sys = FakeSysfs::new("cycle");
        sys.device("253:0", "dm-0", &[]).device("253:1", "dm-1", &[]);
        sys.slave("dm-0", "dm-1").slave("dm-1", "dm-0");
        assert_eq!(sys.follow("253:0"), Err(Untraceable::TooDeep));
    }

    #[test]
    fn counters_and_queue_are_read() {
        let sys = FakeSysfs::new("queue");
        let files = [("queue/write_cache", "write back\n"), ("queue/scheduler", "none [mq-deadline] bfq\n")];
        sys.device("8:0", "sda", &files);
        let sysfs = Sysfs { root: sys.0.clone() };
        let devices = sysfs.follow(parse_number("8:0").unwrap(), &DeviceNumber::of_path).unwrap();
        let counters = devices.counters().unwrap();
        assert_eq!(counters, Counters { writes: 5, write_sectors: 70, flushes: 15 });
        assert_eq!(counters.kib(), 35.0);
        let queue = devices.disks[0].queue();
        assert_eq!(queue.write_cache.as_deref(), Some("write back"));
        assert_eq!(queue.scheduler.as_deref(), Some("mq-deadline"));
        assert_eq!(queue.fua, None);
        // A kernel before 5.5 counts no flushes.
        assert_eq!(parse_stat("1 2 3 4 5 6 7 8 9 10 11"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_mount_is_found_by_its_longest_point() {
        let mountinfo = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                         30 22 0:30 / /data rw - btrfs /dev/sdb1 rw,ssd\n\
                         31 22 0:31 / /data\\040two rw shared:1 - tmpfs tmpfs rw\n";
        let check = |path: &str, kind: &str| {
            let mount = mount_of(mountinfo, Path::new(path));
            assert_eq!(mount.map(|mount| mount.kind).as_deref(), Some(kind), "{path}");
        };
        check("/data/x", "btrfs");
        check("/data two/x", "tmpfs");
        check("/database", "ext4");
    }
}
