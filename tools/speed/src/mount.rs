//! Where the brokers write: a folder that is there, or a file system of its own on a loop device.
//!
//! Nothing outlives the tool, however it ends: the mount is in a mount namespace of its own, the image has no name any more
//! once it is attached, and the loop device detaches itself when nobody uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use corelog_measure::device::{Devices, Untraceable};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use crate::command::{call, quiet};
use crate::kernel::{Aligned, check_interrupted, sleep};
use crate::report::Report;

/// Which places are measured, one after another.
#[derive(Args)]
pub struct Sites {
    /// File systems to make on loop devices (root only)
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', default_value = "ext4,xfs")]
    fs: Vec<String>,
    /// A folder to measure in, instead of file systems of its own
    #[arg(long, value_name = "PATH", conflicts_with = "fs")]
    dir: Option<PathBuf>,
    /// Where the images of the loop devices are written [default: the folder for temporary files]
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    #[arg(long, value_name = "GIB", default_value_t = 12)]
    image_gib: u64,
    /// Options for mount, such as lazytime
    #[arg(long, value_name = "OPTIONS", default_value = "defaults")]
    mount_options: String,
}

impl Sites {
    /// Makes each place, has it measured, and takes it down. One that fails is told and the next one goes on; only an
    /// interrupt ends the run. `programs` must be reachable while the file systems are mounted.
    pub fn each(
        &self,
        report: &mut Report,
        programs: &[&Path],
        mut measure: impl FnMut(&Place, &mut Report) -> io::Result<()>,
    ) -> io::Result<()> {
        let images = self.images.clone().unwrap_or_else(std::env::temp_dir);
        let places = match self.dir {
            Some(_) => vec![String::new()],
            None => {
                let mut folders = vec![fs::canonicalize(&images)?, std::env::temp_dir()];
                for program in programs {
                    folders.push(fs::canonicalize(program)?);
                }
                own_namespace(&mut report.commands, &folders)?;
                self.fs.clone()
            }
        };
        let mut failed = Ok(());
        for kind in places {
            let place = match &self.dir {
                Some(folder) => Place::below(folder),
                None => {
                    let bytes = self.image_gib << 30;
                    Place::mounted(&mut report.commands, &kind, &self.mount_options, &images, bytes)
                }
            };
            let outcome = place.and_then(|place| measure(&place, report));
            check_interrupted()?;
            if let Err(error) = outcome {
                report.miss(format!("{kind}: {error}"));
                failed = Err(io::Error::other("a place could not be measured"));
            }
        }
        failed
    }
}

pub struct Place {
    /// What the report calls it: the file system's type, or the folder.
    pub name: String,
    pub folder: PathBuf,
    /// The device of the file system.
    pub device: Result<Devices, Untraceable>,
    /// What lies below it, all the way down.
    pub disks: Result<Devices, Untraceable>,
    made: Made,
}

enum Made {
    Mount,
    Folder,
}

/// From here on mounts are seen by this process and its children only. The file systems of others on loop devices are left
/// out: held here, they could not be unmounted where they belong.
fn own_namespace(told: &mut Vec<String>, needed: &[PathBuf]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| io::Error::other(format!("a mount namespace needs root: {error}; or use --dir")))?;
    call(told, "mount", &["--make-rprivate", "/"])?;
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut words = line.split(' ');
        if let (Some(device), Some(folder)) = (words.next(), words.next())
            && device.starts_with("/dev/loop")
            && !needed.iter().any(|path| path.starts_with(folder))
        {
            quiet("umount", &["--lazy", folder])?;
        }
    }
    Ok(())
}

impl Place {
    /// A folder of the tool's own below the one given.
    fn below(folder: &Path) -> io::Result<Place> {
        let folder = fs::canonicalize(folder)?.join(format!("corelog-speed-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let (device, disks) = (Devices::holding(&folder), Devices::below(&folder));
        Ok(Place { name: folder.to_string_lossy().into_owned(), folder, device, disks, made: Made::Folder })
    }

    /// A new file system, made as its mkfs makes it by default, on a loop device whose image is written in full: what is
    /// measured is not the allocation of the image's own blocks.
    fn mounted(
        told: &mut Vec<String>,
        kind: &str,
        options: &str,
        images: &Path,
        image_bytes: u64,
    ) -> io::Result<Place> {
        let images = fs::canonicalize(images)?;
        let image = images.join(format!("corelog-speed-{}.{kind}", std::process::id()));
        let attached = write_image(told, &image, image_bytes).and_then(|()| {
            call(told, "losetup", &["--find", "--show", "--direct-io=on", &image.to_string_lossy()])
        });
        fs::remove_file(&image)?;
        let attached = attached?;
        let made = Place::mount(told, kind, options, &images, &attached);
        // The mount keeps it; without one it is gone now.
        let detached = quiet("losetup", &["--detach", &attached]);
        let place = made?;
        detached?;
        Ok(place)
    }

    fn mount(
        told: &mut Vec<String>,
        kind: &str,
        options: &str,
        images: &Path,
        attached: &str,
    ) -> io::Result<Place> {
        // The options keep the layout: no discards, which would punch holes into the image, and nothing left for the
        // kernel to initialise while it is measured.
        match kind {
            "ext4" => {
                let lazy = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
                call(told, "mkfs.ext4", &["-q", "-F", "-E", lazy, attached])?
            }
            "xfs" => call(told, "mkfs.xfs", &["-q", "-f", "-K", attached])?,
            _ => return Err(io::Error::other(format!("{kind}: ext4 and xfs are what the tool makes"))),
        };
        let folder = std::env::temp_dir().join(format!("corelog-speed-{}-{kind}", std::process::id()));
        fs::create_dir(&folder)?;
        if let Err(error) = call(told, "mount", &["-o", options, attached, &folder.to_string_lossy()]) {
            fs::remove_dir(&folder)?;
            return Err(error);
        }
        // The image has no name to be found by, so its disks are looked for where it was made.
        let (device, disks) = (Devices::holding(&folder), Devices::below(images));
        Ok(Place { name: kind.to_owned(), folder, device, disks, made: Made::Mount })
    }

    /// Writes what the file system holds back, and its own journal.
    pub fn settle(&self) -> io::Result<()> {
        Ok(nix::unistd::syncfs(File::open(&self.folder)?)?)
    }

    /// The share of the file system that is free.
    pub fn free(&self) -> io::Result<f64> {
        let all = statvfs(&self.folder)?;
        Ok(all.blocks_available() as f64 / all.blocks() as f64)
    }

    pub fn free_bytes(&self) -> io::Result<u64> {
        let all = statvfs(&self.folder)?;
        Ok(all.blocks_available() * all.fragment_size())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let folder = self.folder.to_string_lossy();
        let removed = match self.made {
            Made::Mount => {
                // A process that has just been killed may hold it for a moment.
                let mut unmounted = quiet("umount", &[&folder]);
                for _ in 0..50 {
                    if unmounted.is_ok() {
                        break;
                    }
                    let _ = sleep(Duration::from_millis(100));
                    unmounted = quiet("umount", &[&folder]);
                }
                unmounted.and_then(|_| fs::remove_dir(&self.folder))
            }
            Made::Folder => fs::remove_dir_all(&self.folder),
        };
        if let Err(error) = removed {
            eprintln!("{folder} could not be taken down: {error}");
        }
    }
}

fn write_image(told: &mut Vec<String>, image: &Path, bytes: u64) -> io::Result<()> {
    const STEP_BYTES: usize = 4 << 20;
    let line = format!("{} bytes of zeros written with O_DIRECT to {}", bytes, image.display());
    eprintln!("{line}");
    told.push(line);
    let mut file =
        OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(image)?;
    let zeros = Aligned::filled(STEP_BYTES, 0);
    for _ in 0..bytes / STEP_BYTES as u64 {
        check_interrupted()?;
        file.write_all(zeros.as_slice())?;
    }
    file.sync_all()
}
