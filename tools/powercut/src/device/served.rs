//! The process behind the device: one file by FUSE, orders on standard input, answers on standard output.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, WriteFlags,
};

use super::cache::CachedDisk;
use crate::choices::Choices;
use crate::supervisor::keep_mounts_private;

pub const FILE_NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const ATTRIBUTES_HOLD: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    #[arg(long)]
    live: PathBuf,
    #[arg(long)]
    durable: PathBuf,
    #[arg(long)]
    mountpoint: PathBuf,
    #[arg(long)]
    bytes: u64,
    #[arg(long)]
    sector_bytes: usize,
}

/// What the disk does with a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushes {
    Work,
    FailOnce,
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It is off, and nobody was told yet: what comes waits. Kernels may report a flush as done that was under way when
    /// another one failed, so nothing may fail before the harness has stopped listening.
    Frozen,
    /// Everything fails.
    Off,
}

/// When the power goes. A random moment rarely finds much in the cache of a disk that is flushed all the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PowerOff {
    Never,
    /// With the next flush undone.
    AtFlush,
    /// Right after so many more writes.
    AfterWrites(u64),
}

/// Whoever has little to write gets the cut after this.
const POWER_OFF_WAIT: Duration = Duration::from_millis(200);
const POWER_OFF_WRITES_MAX: u64 = 30;

struct State {
    disk: CachedDisk,
    power: Power,
    power_off: PowerOff,
    is_stalled: bool,
    fails_writes: bool,
    flushes: Flushes,
    lies: bool,
    /// Since the power was on.
    flush_count: u64,
}

impl State {
    fn write(&mut self, position: u64, bytes: &[u8]) -> Result<(), Errno> {
        if self.fails_writes {
            return Err(Errno::EIO);
        }
        self.disk.write(position, bytes).map_err(|error| errno(&error))?;
        if let PowerOff::AfterWrites(count) = &mut self.power_off {
            *count -= 1;
            if *count == 0 {
                self.power = Power::Frozen;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if self.power_off == PowerOff::AtFlush {
            self.power = Power::Frozen;
            return Err(Errno::EIO);
        }
        match self.flushes {
            Flushes::Work => {
                self.flush_count += 1;
                if self.lies {
                    return Ok(());
                }
                self.disk.flush().map_err(|error| errno(&error))
            }
            Flushes::FailOnce => {
                self.flushes = Flushes::Work;
                Err(Errno::EIO)
            }
            Flushes::Fail => Err(Errno::EIO),
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// The stall is over, or the power is off.
    moves_on: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The disk, once it answers. Errors: it has no power.
    fn wait(&self) -> Result<MutexGuard<'_, State>, Errno> {
        self.wait_with(self.lock())
    }

    fn wait_with<'a>(&'a self, state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, Errno> {
        let silent = |state: &mut State| match state.power {
            Power::On => state.is_stalled,
            Power::Frozen => true,
            Power::Off => false,
        };
        let state = self.moves_on.wait_while(state, silent).expect("no holder panics");
        if state.power == Power::On { Ok(state) } else { Err(Errno::EIO) }
    }

    /// A write or a flush, which may be the disk's last.
    fn run(&self, work: impl FnOnce(&mut State) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = self.wait()?;
        let done = work(&mut state);
        if state.power != Power::On {
            self.moves_on.notify_all();
            drop(self.wait_with(state)?);
        }
        done
    }

    /// Waits for the moment that the choices draw, and takes the power away. Nothing is answered before `off`.
    fn cut(&self, choices: &mut Choices) -> io::Result<String> {
        let mut state = self.lock();
        let power_off = match choices.between(0, 4) {
            0 => PowerOff::Never,
            1 | 2 => PowerOff::AtFlush,
            _ => PowerOff::AfterWrites(choices.between(1, POWER_OFF_WRITES_MAX)),
        };
        state.power_off = power_off;
        if power_off != PowerOff::Never {
            let on = |state: &mut State| state.power == Power::On;
            state = self.moves_on.wait_timeout_while(state, POWER_OFF_WAIT, on).expect("no holder panics").0;
        }
        state.power = Power::Frozen;
        let cut = if state.lies { state.disk.cut_in_order(choices)? } else { state.disk.cut(choices)? };
        Ok(format!(
            "lost {} of {} sectors ({}), {} flushes before",
            cut.sectors - cut.kept,
            cut.sectors,
            cut.what,
            std::mem::take(&mut state.flush_count)
        ))
    }

    fn obey(&self, order: &str) -> io::Result<String> {
        let (verb, argument) = order.split_once(' ').unwrap_or((order, ""));
        let answer = match verb {
            "cut" => self.cut(&mut Choices::new(argument.parse().map_err(io::Error::other)?))?,
            _ => {
                let mut state = self.lock();
                match verb {
                    "on" => {
                        state.disk.power_on()?;
                        state.power = Power::On;
                        state.power_off = PowerOff::Never;
                        state.fails_writes = false;
                        state.flushes = Flushes::Work;
                    }
                    "off" => state.power = Power::Off,
                    "fail-writes" => state.fails_writes = true,
                    "fail-flush" => state.flushes = Flushes::FailOnce,
                    "fail-flushes" => state.flushes = Flushes::Fail,
                    "lie" => state.lies = true,
                    "stall" => state.is_stalled = true,
                    "resume" => state.is_stalled = false,
                    _ => return Err(io::Error::other("no such order")),
                }
                verb.to_owned()
            }
        };
        self.moves_on.notify_all();
        Ok(answer)
    }
}

/// Serves until standard input ends.
pub fn serve(options: &ServeOptions) -> io::Result<ExitCode> {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            disk: CachedDisk::new(
                blank(&options.live, options.bytes)?,
                blank(&options.durable, options.bytes)?,
                options.sector_bytes,
            ),
            power: Power::On,
            power_off: PowerOff::Never,
            is_stalled: false,
            fails_writes: false,
            flushes: Flushes::Work,
            lies: false,
            flush_count: 0,
        }),
        moves_on: Condvar::new(),
    });
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("corelog-powercut".to_owned()), MountOption::NoAtime];
    let served = Served { shared: Arc::clone(&shared), bytes: options.bytes };
    let session = Session::new(served, &options.mountpoint, &config)?;
    // Out of the namespace in which the disk will be mounted, and before there are threads. The last process to leave that
    // one unmounts the disk; if this one did, it would wait for itself, and for ever.
    keep_mounts_private()?;
    let session = session.spawn()?;
    println!("ok serving");
    for order in io::stdin().lock().lines() {
        match shared.obey(&order?) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("{error}"),
        }
        io::stdout().flush()?;
    }
    drop(session);
    Ok(ExitCode::SUCCESS)
}

fn blank(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

/// The file system of one file.
struct Served {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Served {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let is_file = node == FILE;
        FileAttr {
            ino: node,
            size: if is_file { self.bytes } else { 0 },
            blocks: if is_file { self.bytes / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Filesystem for Served {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == FILE_NAME {
            reply.entry(&ATTRIBUTES_HOLD, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&ATTRIBUTES_HOLD, &self.attributes(node));
    }

    /// Past the kernel's cache of this file: it would hold what a cut has dropped.
    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.bytes.saturating_sub(offset));
        let mut bytes = vec![0; length as usize];
        let read = self
            .shared
            .wait()
            .and_then(|state| state.disk.read(offset, &mut bytes).map_err(|error| errno(&error)));
        match read {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.shared.run(|state| state.write(offset, data));
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    /// The disk's flush: the loop driver asks for it when the file system flushes the device.
    fn fsync(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let flushed = self.shared.run(State::flush);
        match flushed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    /// A close is no flush of the disk.
    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
