//! A block device of our own, whose cache can be lost: a file served by a process of ours, and a loop device on it.
//!
//! The loop driver turns each flush of the file system into an fsync of the file, which FUSE passes to the process, so the
//! process knows exactly what a disk would have promised. It is a process of its own: it must never wait for a file system
//! that waits for it.

mod cache;
mod served;

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::broker::spawn;
use crate::choices::Choices;
use crate::kernel::die_with_parent;

pub use served::{ServeOptions, serve};

/// For an answer of the process: it has to put down a cache of 64 MiB at most.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The device, seen from the harness.
pub struct Device {
    process: Child,
    orders: ChildStdin,
    answers: mpsc::Receiver<String>,
    mountpoint: PathBuf,
}

/// What the disk does wrong from now on, until the power was off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// Every write fails.
    Writes,
    /// One flush fails, or all of them; the cache stays what it is.
    Flushes { once: bool },
}

impl Device {
    /// Starts the process, which serves a blank disk of `bytes` below `work`. A cut leaves sectors whole.
    pub fn start(work: &Path, bytes: u64, sector_bytes: usize) -> io::Result<Device> {
        let mountpoint = work.join("device");
        std::fs::create_dir_all(&mountpoint)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve-device").arg("--live").arg(work.join("disk.live"));
        command.arg("--durable").arg(work.join("disk")).arg("--mountpoint").arg(&mountpoint);
        command.args(["--bytes", &bytes.to_string(), "--sector-bytes", &sector_bytes.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = die_with_parent(&mut command).spawn()?;
        let orders = process.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let (sender, answers) = mpsc::channel();
        spawn("device-answers", move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let device = Device { process, orders, answers, mountpoint };
        device.answer("serve")?;
        Ok(device)
    }

    /// The file that is the disk.
    pub fn path(&self) -> PathBuf {
        self.mountpoint.join(served::FILE_NAME)
    }

    /// Power off, at once or at one of the next writes or flushes; a part of the cache is left. All by the choices. Nothing
    /// is answered until `fail_all`.
    pub fn cut(&mut self, choices: &mut Choices) -> io::Result<String> {
        self.ask(&format!("cut {}", choices.word()))
    }

    /// After a cut: whatever is under way or comes fails.
    pub fn fail_all(&mut self) -> io::Result<()> {
        self.ask("off").map(|_| ())
    }

    /// Power on: what survived is there, and nothing is wrong any more.
    pub fn power_on(&mut self) -> io::Result<()> {
        self.ask("on").map(|_| ())
    }

    pub fn fail(&mut self, fault: DiskFault) -> io::Result<()> {
        let order = match fault {
            DiskFault::Writes => "fail-writes",
            DiskFault::Flushes { once: true } => "fail-flush",
            DiskFault::Flushes { once: false } => "fail-flushes",
        };
        self.ask(order).map(|_| ())
    }

    /// From now on no flush is done, and each reported as done; cuts leave the order of the writes alone.
    pub fn lie(&mut self) -> io::Result<()> {
        self.ask("lie").map(|_| ())
    }

    /// Nothing is answered any more, until `resume`.
    pub fn stall(&mut self) -> io::Result<()> {
        self.ask("stall").map(|_| ())
    }

    pub fn resume(&mut self) -> io::Result<()> {
        self.ask("resume").map(|_| ())
    }

    fn ask(&mut self, order: &str) -> io::Result<String> {
        writeln!(self.orders, "{order}")?;
        self.answer(order)
    }

    fn answer(&self, order: &str) -> io::Result<String> {
        let line = self.answers.recv_timeout(ANSWER_WAIT).map_err(|error| {
            io::Error::other(format!("the device process did not answer {order:?}: {error}"))
        })?;
        match line.strip_prefix("ok ") {
            Some(answer) => Ok(answer.to_owned()),
            None => Err(io::Error::other(format!("the device process on {order:?}: {line}"))),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Nobody is left to serve it; a loop device that still has the file open must not keep the place taken.
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
    }
}
