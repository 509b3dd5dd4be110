//! A file system on a disk whose power can be cut.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use crate::choices::Choices;
use crate::device::Device;
use crate::kernel::{self, LoopDevice};

/// The kernel lets go of the files of a killed process's ring some time after the process is gone.
const UNMOUNT_WAIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// The sectors that it needs whole. XFS trusts the log position in a metadata block of 4 KiB that the power tore, and
    /// then finds its checksum wrong (seen: `xfs_dir3_block_read_verify` fails the mount); ext4 writes blocks from its
    /// journal again whatever they hold.
    pub fn sector_bytes(self) -> usize {
        match self {
            FileSystem::Ext4 => 512,
            FileSystem::Xfs => 4096,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// Errors: the tool is missing or failed; what it said is in the text.
    fn make(self, device: &Path) -> io::Result<()> {
        // Nothing is left for the kernel to do in the background (`lazy_*_init`), where it would add writes of its own.
        let (program, arguments): (_, &[&str]) = match self {
            FileSystem::Ext4 => (
                "mkfs.ext4",
                &["-q", "-F", "-J", "size=16", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
            ),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        };
        let output = Command::new(program).args(arguments).arg(device).output().map_err(|error| {
            io::Error::new(error.kind(), format!("run {program}: {error}; install e2fsprogs and xfsprogs"))
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What stands below the file system.
pub enum Disk {
    /// An ordinary file. The cut is the file system's own: it stops writing, at once and for good.
    Image(PathBuf),
    /// A disk with a volatile cache in a process of ours. The cut takes the cache.
    Device(Device),
}

pub struct Volume {
    file_system: FileSystem,
    options: String,
    /// Before the disk: it is dropped first.
    loop_device: Option<LoopDevice>,
    disk: Disk,
    bytes: u64,
    mountpoint: PathBuf,
    /// Held while mounted: the cut needs the file system, and finding it by name could wait for a disk that stalls.
    root: Option<File>,
}

impl Volume {
    /// A fresh file system, mounted at `mountpoint`, which is made. `options`: as for `mount -o`.
    pub fn make(
        disk: Disk,
        bytes: u64,
        file_system: FileSystem,
        options: &str,
        mountpoint: PathBuf,
    ) -> io::Result<Volume> {
        std::fs::create_dir_all(&mountpoint)?;
        if let Disk::Image(path) = &disk {
            // The old content goes: a file system must not find its former self.
            File::create(path)?.set_len(bytes)?;
        }
        let mut volume = Volume {
            file_system,
            options: options.to_owned(),
            loop_device: None,
            disk,
            bytes,
            mountpoint,
            root: None,
        };
        volume.attach()?;
        file_system.make(volume.device_path())?;
        volume.mount()?;
        Ok(volume)
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    pub fn device(&mut self) -> Option<&mut Device> {
        match &mut self.disk {
            Disk::Image(_) => None,
            Disk::Device(device) => Some(device),
        }
    }

    /// The share of the file system that is in use, in percent.
    pub fn used_percent(&self) -> io::Result<u64> {
        let all = statvfs(&self.mountpoint)?;
        Ok(100 - all.blocks_available() * 100 / all.blocks().max(1))
    }

    /// Takes the power away. Returns what that meant, for the report. `is_over` is set the moment the power goes: whatever
    /// is answered then reaches nobody, and must not be believed.
    ///
    /// Linux 6.18 may report a flush as done that was under way while the file system failed, ext4 and XFS alike: of 24
    /// threads with `pwrite` and `fdatasync` some were told success up to 0.6 ms after the shutdown's ioctl had returned,
    /// for bytes that were gone, in 8 of 25 shutdowns of XFS and 6 of 25 of ext4. Nothing was lost that had been told
    /// before the ioctl began.
    pub fn cut(&mut self, choices: &mut Choices, is_over: &AtomicBool) -> io::Result<String> {
        let root = self.root.as_ref().expect("a cut needs a mounted file system");
        match &mut self.disk {
            Disk::Image(_) => {
                is_over.store(true, Ordering::SeqCst);
                kernel::shut_down(root).map(|()| "went down".to_owned())
            }
            Disk::Device(device) => {
                let what = device.cut(choices)?;
                is_over.store(true, Ordering::SeqCst);
                device.fail_all()?;
                Ok(what)
            }
        }
    }

    /// Back to a mounted file system after a cut, through its own recovery. Nobody may use it any more.
    pub fn power_on(&mut self) -> io::Result<()> {
        self.unmount()?;
        self.loop_device = None;
        if let Disk::Device(device) = &mut self.disk {
            device.power_on()?;
        }
        self.attach()?;
        self.mount()
    }

    fn device_path(&self) -> &Path {
        self.loop_device.as_ref().expect("attached").path()
    }

    fn attach(&mut self) -> io::Result<()> {
        let path = match &self.disk {
            Disk::Image(path) => path.clone(),
            Disk::Device(device) => device.path(),
        };
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        assert_eq!(length, self.bytes, "{} has another size than the disk it is", path.display());
        self.loop_device = Some(LoopDevice::attach(&file)?);
        Ok(())
    }

    fn mount(&mut self) -> io::Result<()> {
        let options = Some(self.options.as_str()).filter(|options| !options.is_empty());
        mount(
            Some(self.device_path()),
            &self.mountpoint,
            Some(self.file_system.name()),
            MsFlags::MS_NOATIME,
            options,
        )
        .map_err(|error| io::Error::other(format!("mount {} again: {error}", self.file_system)))?;
        self.root = Some(File::open(&self.mountpoint)?);
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        let Some(root) = self.root.take() else { return Ok(()) };
        // Without it a file system on a dead disk may try its last writes again and again.
        let _ = kernel::shut_down(&root);
        drop(root);
        let give_up = Instant::now() + UNMOUNT_WAIT;
        loop {
            match umount2(&self.mountpoint, MntFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EBUSY) if Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    return Err(io::Error::other(format!(
                        "unmount {}: {error}, waited up to {} s for its users to go",
                        self.mountpoint.display(),
                        UNMOUNT_WAIT.as_secs()
                    )));
                }
            }
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Best effort: whatever is left goes with the mount namespace and the loop device's last user.
        let _ = self.unmount();
    }
}
