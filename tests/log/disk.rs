//! A disk in memory with a durable image beside the live one, and an `Io` over it.
//!
//! Fault model: a crash of the process keeps what was written; a power loss keeps the durable image and any subset of the
//! 512-byte sectors written since the file's last sync; directory changes since the directory's last sync survive up to an
//! arbitrary one of them, in order. Writes in flight when the disk stops land in part. Jobs run in order, other operations
//! complete in any order.
#![allow(clippy::disallowed_types, reason = "the fake is shared by the test and its Io")]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use corelog::model::{Monotonic, Position, ShardId, Timestamp};
use corelog::reactor::{
    Completion, File, FileKind, FileName, Files, Io, OpenMode, Operation, Outcome, Received, Rejected, Token,
};

const SECTOR_BYTES: usize = 512;

/// SplitMix64: the test's only source of chance.
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetSize(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    reserved_bytes: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    directories: Vec<PathBuf>,
    open: BTreeMap<i32, usize>,
    next_file: i32,
    operations: usize,
    stop_at: Option<usize>,
    is_stopped: bool,
    /// Bytes that may still be reserved; `None`: any number.
    space_left: Option<u64>,
    fail_syncs: bool,
}

/// Shared by the test, the jobs and the `Io`.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetSize(size) => image.resize(*size, 0),
        Change::Write { position, bytes } => {
            if image.len() < position + bytes.len() {
                image.resize(position + bytes.len(), 0);
            }
            image[*position..position + bytes.len()].copy_from_slice(bytes);
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Link(path, inode) => _ = names.insert(path.clone(), *inode),
        NameChange::Unlink(path) => _ = names.remove(path),
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the disk locked")
    }

    /// The number of changing operations so far.
    pub fn operations(&self) -> usize {
        self.lock().operations
    }

    /// After this many changing operations nothing reaches the disk any more.
    pub fn stop_at(&self, operations: Option<usize>) {
        let mut state = self.lock();
        state.stop_at = operations;
        state.is_stopped = false;
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    pub fn set_space_left(&self, bytes: Option<u64>) {
        self.lock().space_left = bytes;
    }

    pub fn space_left(&self) -> Option<u64> {
        self.lock().space_left
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.lock().fail_syncs = fail;
    }

    /// The process is gone: descriptors close, what was written stays.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.open.clear();
        (state.stop_at, state.is_stopped) = (None, false);
    }

    /// The machine is gone: only the durable image stays, and what the cache happened to write back.
    pub fn lose_power(&self, seed: &mut Seed) {
        self.kill();
        let state = &mut *self.lock();
        let kept = seed.below(state.unsynced_names.len() as u64 + 1) as usize;
        for change in state.unsynced_names.drain(..).take(kept) {
            apply_name(&mut state.durable_names, &change);
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            let mode = seed.below(4);
            for change in std::mem::take(&mut inode.unsynced) {
                match (mode, &change) {
                    (0, _) => (),
                    (1, _) | (_, Change::SetSize(_)) => apply(&mut inode.durable, &change),
                    (_, Change::Write { position, bytes }) => {
                        let mut at = 0;
                        while at < bytes.len() {
                            // Up to the next sector boundary of the file.
                            let length =
                                (SECTOR_BYTES - (position + at) % SECTOR_BYTES).min(bytes.len() - at);
                            if seed.chance(2) {
                                let part = bytes[at..at + length].to_vec();
                                apply(
                                    &mut inode.durable,
                                    &Change::Write { position: position + at, bytes: part },
                                );
                            }
                            at += length;
                        }
                    }
                }
            }
            inode.live = inode.durable.clone();
        }
    }

    /// A file's bytes as a reader sees them.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).map(|inode| state.inodes[*inode].live.clone())
    }

    /// Changes a file behind everybody's back, durably.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.lock();
        let inode = &mut state.inodes[state.names[path]];
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.unsynced.clear();
    }

    pub fn open_files(&self) -> usize {
        self.lock().open.len()
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }
}

impl State {
    /// Counts a changing operation. The last one before the stop lands in part: `Ok(true)`.
    fn begin(&mut self) -> io::Result<bool> {
        if self.is_stopped {
            return Err(io::Error::other("stopped"));
        }
        self.operations += 1;
        self.is_stopped = self.stop_at.is_some_and(|stop| self.operations > stop);
        Ok(self.is_stopped)
    }

    fn inode(&mut self, file: File) -> &mut Inode {
        let inode = self.open[&file.0];
        &mut self.inodes[inode]
    }

    fn write(&mut self, file: File, position: Position, bytes: &[u8]) -> io::Result<()> {
        let is_partial = self.begin()?;
        let length = if is_partial { bytes.len() / 2 } else { bytes.len() };
        let change = Change::Write { position: position as usize, bytes: bytes[..length].to_vec() };
        let inode = self.inode(file);
        apply(&mut inode.live, &change);
        inode.unsynced.push(change);
        if is_partial { Err(io::Error::other("stopped")) } else { Ok(()) }
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        if self.begin()? {
            return Err(io::Error::other("stopped"));
        }
        if self.fail_syncs {
            return Err(io::Error::from_raw_os_error(5));
        }
        let inode = self.inode(file);
        inode.unsynced.clear();
        inode.durable = inode.live.clone();
        Ok(())
    }

    fn reserve(&mut self, file: File, end: u64) -> io::Result<()> {
        if self.begin()? {
            return Err(io::Error::other("stopped"));
        }
        let before = self.inode(file).reserved_bytes;
        let more = end.saturating_sub(before);
        if let Some(left) = self.space_left {
            self.space_left =
                Some(left.checked_sub(more).ok_or(io::Error::from(io::ErrorKind::StorageFull))?);
        }
        self.inode(file).reserved_bytes = before.max(end);
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        if self.begin()? {
            return Err(io::Error::other("stopped"));
        }
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
        Ok(())
    }
}

impl Files for Disk {
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        let state = &mut *self.lock();
        let existing = state.names.get(path).copied();
        let inode = match (existing, mode) {
            (None, OpenMode::Read) => return Err(io::Error::from(io::ErrorKind::NotFound)),
            (None, OpenMode::Write | OpenMode::Truncate | OpenMode::Direct) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change_names(NameChange::Link(path.to_owned(), inode))?;
                inode
            }
            (Some(inode), OpenMode::Truncate) => {
                if state.begin()? {
                    return Err(io::Error::other("stopped"));
                }
                state.inodes[inode].live.clear();
                state.inodes[inode].unsynced.push(Change::SetSize(0));
                inode
            }
            (Some(inode), OpenMode::Read | OpenMode::Write | OpenMode::Direct) => inode,
        };
        state.next_file += 1;
        state.open.insert(state.next_file, inode);
        Ok(File(state.next_file))
    }

    fn close(&mut self, file: File) {
        let mut state = self.lock();
        assert!(state.open.remove(&file.0).is_some() || state.is_stopped, "{file:?} is closed twice");
    }

    fn size(&mut self, file: File) -> io::Result<u64> {
        Ok(self.lock().inode(file).live.len() as u64)
    }

    fn read_at(&mut self, file: File, position: Position, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let live = &state.inode(file).live;
        let from = live.get(position as usize..).unwrap_or_default();
        let length = from.len().min(into.len());
        into[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn write_at(&mut self, file: File, position: Position, bytes: &[u8]) -> io::Result<()> {
        self.lock().write(file, position, bytes)
    }

    fn set_size(&mut self, file: File, size_bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        if state.begin()? {
            return Err(io::Error::other("stopped"));
        }
        let change = Change::SetSize(size_bytes as usize);
        let inode = state.inode(file);
        apply(&mut inode.live, &change);
        inode.unsynced.push(change);
        let given_back = inode.reserved_bytes.saturating_sub(size_bytes);
        inode.reserved_bytes = inode.reserved_bytes.min(size_bytes);
        if let Some(left) = &mut state.space_left {
            *left += given_back;
        }
        Ok(())
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        self.lock().sync(file)
    }

    fn reserve(&mut self, file: File, position: Position, length: u64) -> io::Result<()> {
        self.lock().reserve(file, position + length)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        if state.directories.iter().any(|d| d == path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.directories.push(path.to_owned());
        Ok(())
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        if state.begin()? {
            return Err(io::Error::other("stopped"));
        }
        let is_here = |change: &NameChange| match change {
            NameChange::Link(name, _) | NameChange::Unlink(name) | NameChange::Rename(name, _) => {
                name.parent() == Some(path)
            }
        };
        for change in state.unsynced_names.iter().filter(|change| is_here(change)) {
            apply_name(&mut state.durable_names, change);
        }
        state.unsynced_names.retain(|change| !is_here(change));
        Ok(())
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<FileName>> {
        let state = self.lock();
        let entries = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        Ok(entries
            .map(|(name, inode)| FileName {
                name: name.file_name().and_then(|n| n.to_str()).expect("test names are UTF-8").to_owned(),
                is_directory: false,
                size_bytes: state.inodes[*inode].live.len() as u64,
            })
            .collect())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if !state.names.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        if !state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.change_names(NameChange::Unlink(path.to_owned()))
    }

    fn remove_directory(&mut self, _path: &Path) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn kind(&mut self, path: &Path) -> io::Result<Option<FileKind>> {
        Ok(self.lock().names.contains_key(path).then_some(FileKind::File))
    }

    fn space(&mut self, _path: &Path) -> io::Result<(u64, u64)> {
        Ok((1 << 40, 1 << 40))
    }

    fn forget_cached(&mut self, _file: File) -> io::Result<()> {
        Ok(())
    }

    fn sync_file_system_through(&mut self, _file: File) -> io::Result<()> {
        self.sync_file_system(Path::new("/"))
    }

    fn sync_file_system(&mut self, _path: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        if state.begin()? {
            return Err(io::Error::other("stopped"));
        }
        if state.fail_syncs {
            return Err(io::Error::from_raw_os_error(5));
        }
        for inode in &mut state.inodes {
            inode.unsynced.clear();
            inode.durable = inode.live.clone();
        }
        for change in state.unsynced_names.drain(..) {
            apply_name(&mut state.durable_names, &change);
        }
        Ok(())
    }
}

/// The `Io` of one shard over the disk.
pub struct DiskIo {
    disk: Disk,
    pub seed: Seed,
    pub now: Monotonic,
    pub wall: Timestamp,
    operations: Vec<(Token, Operation)>,
    jobs: VecDeque<(Token, Operation)>,
    closing: Vec<File>,
    /// One submission in so many is rejected, as by a full ring.
    pub reject_one_in: Option<u64>,
}

impl DiskIo {
    pub fn new(disk: Disk, seed: Seed) -> DiskIo {
        DiskIo {
            disk,
            seed,
            now: Monotonic(1_000_000_000),
            wall: 1_000_000,
            operations: Vec::new(),
            jobs: VecDeque::new(),
            closing: Vec::new(),
            reject_one_in: None,
        }
    }

    fn run(&mut self, operation: Operation) -> Outcome {
        let mut disk = self.disk.clone();
        let write = |file, position, slices: Vec<bytes::Bytes>| {
            let bytes: Vec<u8> = slices.iter().flat_map(|s| s.to_vec()).collect();
            disk.lock().write(file, position, &bytes)
        };
        let result = match operation {
            Operation::Write { file, position, slices } | Operation::WriteOut { file, position, slices } => {
                write(file, position, slices)
            }
            Operation::WriteThenSync { file, position, slices }
            | Operation::WriteDurable { file, position, slices } => {
                write(file, position, slices).and_then(|()| self.disk.lock().sync(file))
            }
            Operation::Sync { file } => disk.lock().sync(file),
            Operation::Reserve { file, position, length } => disk.lock().reserve(file, position + length),
            Operation::Read { file, position, length, mut buffer } => {
                buffer.resize(length as usize, 0);
                return match disk.read_at(file, position, &mut buffer) {
                    Ok(read) => {
                        buffer.truncate(read);
                        Outcome::Read(buffer)
                    }
                    Err(error) => Outcome::Failed(error),
                };
            }
            Operation::Job(job) => return Outcome::Job(job(&mut disk)),
            _ => panic!("the log uses no sockets"),
        };
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    /// Completes one operation, any of those that may be next. Nothing if none is in flight.
    pub fn reap_one(&mut self) -> Option<Completion> {
        let choices = self.operations.len() + usize::from(!self.jobs.is_empty());
        if choices == 0 {
            let mut disk = self.disk.clone();
            self.closing.drain(..).for_each(|file| disk.close(file));
            return None;
        }
        let choice = self.seed.below(choices as u64) as usize;
        let (token, operation) = if choice < self.operations.len() {
            self.operations.remove(choice)
        } else {
            self.jobs.pop_front().expect("counted above")
        };
        Some(Completion { token, outcome: self.run(operation), more: false, written: None })
    }
}

impl Io for DiskIo {
    fn now(&self) -> Monotonic {
        self.now
    }

    fn wall_clock(&self) -> Timestamp {
        self.wall
    }

    fn random(&mut self) -> u64 {
        self.seed.next()
    }

    fn submit(&mut self, token: Token, operation: Operation) -> Result<(), Rejected> {
        if self.reject_one_in.is_some_and(|one_in| self.seed.chance(one_in)) {
            return Err(Rejected(operation));
        }
        match operation {
            Operation::Job(_) => self.jobs.push_back((token, operation)),
            _ => self.operations.push((token, operation)),
        }
        Ok(())
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        completions.extend(self.reap_one());
    }

    fn wait(&mut self, _until: Monotonic) {}

    fn ring_doorbell(&mut self, _shard: ShardId) {}

    fn bytes<'a>(&'a self, _received: &'a Received) -> &'a [u8] {
        unreachable!("the log receives nothing")
    }

    fn give_back(&mut self, _received: Received) {}

    fn close_file(&mut self, file: File) {
        // As the ring does: not before what is in flight on it has ended.
        self.closing.push(file);
    }

    fn in_flight(&self) -> usize {
        self.operations.len() + self.jobs.len()
    }

    fn oldest_file_operation(&self) -> Option<Monotonic> {
        None
    }

    fn files(&mut self) -> &mut dyn Files {
        &mut self.disk
    }
}
