//! A disk with a page cache in front: what a running process sees, and what is left of it after a crash.
//!
//! # What can go wrong
//! - **Power loss** keeps, per file, any choice of the 512-byte sectors written since they were last synced: none, all, those
//!   below some point, all but a hole, or each by its own coin; or, over all files and directories together, what came before
//!   or after some moment. The size of a file that grew may come back smaller, or grown with zeros where sectors were lost. A
//!   truncation that was not synced may be undone: the old bytes are there again.
//! - **Directory changes** (create, rename, remove, new directory) have their own durability: `sync_directory` of the directory
//!   that holds the entry. A synced file whose entry was not synced is gone. Of the changes not synced, power loss keeps a
//!   prefix or any subset; a rename is kept or lost as a whole.
//! - **Kill of the process** keeps the page cache. A cached write in flight is there up to some byte (the kernel copies in
//!   order); a direct one is on the device in any choice of its sectors.
//! - **A sync** covers the sectors as they were when it started, and any choice of those written while it ran. A durable write
//!   (`RWF_DSYNC`) covers its own sectors and the file's size, nothing else.
//! - **A failed sync** (EIO) may drop dirty sectors: reads go on to return them, a later sync succeeds, and they are gone after
//!   power loss, or once the page is evicted (at a restart, by a coin). So ext4 and XFS behave (Rebello et al., "Can
//!   applications recover from fsync failures?", USENIX ATC 2020). `syncfs` fails file by file in the same way.
//! - **Write-back by the kernel** may fail before anybody syncs. Each descriptor of the file hears of it once, at its next sync,
//!   however often the sync is tried again. `syncfs` tells of it in the same way, once for each descriptor that was open then;
//!   an error that nobody has been told of is told to the next one that is opened.
//! - **The device** may put a block elsewhere, in this file or in another, flip a bit of what is read for good, or lose the power
//!   to read a sector until it is written again. Each is a fault of its own, off unless asked for.
//! - **No space**: creating, reserving, and writing outside what is reserved fail with ENOSPC beyond the quota.
//!
//! # What cannot
//! Sectors are written whole; a reservation is durable at once (it holds no bytes).
//!
//! Copies are cheap: files and directories are shared until one side changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use super::content::{ErrorCount, FileContent, Loss, Moment, SyncStart, sectors};
use super::random::SimRandom;
use crate::model::Position;
use crate::reactor::{DIRECT_BLOCK_BYTES, FileKind, FileName};

/// What a device writes as a whole.
pub const SECTOR_BYTES: u64 = 512;

/// Space is taken in blocks of this size, one for each file and directory as such.
pub const BLOCK_BYTES: u64 = 4096;

/// Nodes are looked through for those that nothing leads to once in so many removals and closes.
const GARBAGE_BATCH: u64 = 256;

type Inode = u64;
const ROOT: Inode = 0;

#[derive(Clone, Default)]
struct Directory {
    cached: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

#[derive(Clone)]
enum Node {
    File(Arc<FileContent>),
    Directory(Arc<Directory>),
}

/// One change of directory entries, durable as a whole: a rename edits two.
#[derive(Clone)]
struct Change {
    moment: Moment,
    edits: Vec<(Inode, String, Option<Inode>)>,
}

#[derive(Clone)]
struct Open {
    inode: Inode,
    /// It goes past the page cache. The bytes end in the same place: the device's cache is as volatile.
    is_direct: bool,
    is_written_once: bool,
    /// Write-back errors of the file, and of the whole disk, that this descriptor has told of.
    file_errors: u64,
    disk_errors: u64,
}

#[derive(Clone)]
pub struct Disk {
    nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    /// Open files by descriptor number.
    open: BTreeMap<i32, Open>,
    /// Numbers are not used twice: a file used after it was closed is found out.
    next_descriptor: i32,
    /// Changes of entries not yet durable, oldest first.
    changes: Vec<Change>,
    /// Changes so far, of bytes and of names.
    clock: Moment,
    errors: ErrorCount,
    collections_due: u64,
    pub quota_bytes: u64,
    /// Flushes succeed and flush nothing.
    pub is_lying: bool,
    /// Endings of the names of files that are written once.
    pub written_once: &'static [&'static str],
}

/// How a process or a machine ends, as far as the disk is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivors {
    /// Nothing that was not synced.
    Nothing,
    Everything,
    /// As chance wants.
    Drawn,
}

pub fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Disk {
    pub fn new(quota_bytes: u64) -> Disk {
        Disk {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Arc::default()))]),
            next_inode: ROOT + 1,
            open: BTreeMap::new(),
            next_descriptor: 3,
            changes: Vec::new(),
            clock: 0,
            errors: ErrorCount::default(),
            collections_due: 0,
            quota_bytes,
            is_lying: false,
            written_once: &[],
        }
    }

    fn tick(&mut self) -> Moment {
        self.clock += 1;
        self.clock
    }

    // Names.

    fn names(path: &Path) -> io::Result<Vec<&str>> {
        path.components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .map(|part| match part {
                Component::Normal(name) => name.to_str().ok_or_else(|| errno(libc::EILSEQ)),
                _ => Err(errno(libc::EINVAL)),
            })
            .collect()
    }

    fn entries(&self, directory: Inode) -> io::Result<&BTreeMap<String, Inode>> {
        match &self.nodes[&directory] {
            Node::Directory(directory) => Ok(&directory.cached),
            Node::File(_) => Err(errno(libc::ENOTDIR)),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for name in Self::names(path)? {
            inode = *self.entries(inode)?.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(inode)
    }

    fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(Inode, &'a str)> {
        let names = Self::names(path)?;
        let (name, parents) = names.split_last().ok_or_else(|| errno(libc::EEXIST))?;
        let mut inode = ROOT;
        for parent in parents {
            inode = *self.entries(inode)?.get(*parent).ok_or_else(|| errno(libc::ENOENT))?;
        }
        self.entries(inode)?;
        Ok((inode, name))
    }

    fn change(&mut self, edits: Vec<(Inode, String, Option<Inode>)>) {
        for (directory, name, inode) in &edits {
            self.edit(*directory, name, *inode, |directory| &mut directory.cached);
        }
        let moment = self.tick();
        self.changes.push(Change { moment, edits });
    }

    fn edit(
        &mut self,
        directory: Inode,
        name: &str,
        inode: Option<Inode>,
        view: impl Fn(&mut Directory) -> &mut BTreeMap<String, Inode>,
    ) {
        // A directory that is gone for good takes no more edits.
        if let Some(Node::Directory(directory)) = self.nodes.get_mut(&directory) {
            let entries = view(Arc::make_mut(directory));
            match inode {
                Some(inode) => _ = entries.insert(name.to_owned(), inode),
                None => _ = entries.remove(name),
            }
        }
    }

    fn make_durable(&mut self, change: &Change) {
        for (directory, name, inode) in &change.edits {
            self.edit(*directory, name, *inode, |directory| &mut directory.durable);
        }
    }

    fn add(&mut self, node: Node) -> io::Result<Inode> {
        if self.quota_bytes != u64::MAX && self.used_bytes() + BLOCK_BYTES > self.quota_bytes {
            return Err(errno(libc::ENOSPC));
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        Ok(inode)
    }

    pub fn open(&mut self, path: &Path, creates: bool, truncates: bool, is_direct: bool) -> io::Result<i32> {
        let inode = match self.find(path) {
            Ok(inode) => inode,
            Err(error) if creates && error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = self.find_parent(path)?;
                let inode = self.add(Node::File(Arc::default()))?;
                self.change(vec![(parent, name.to_owned(), Some(inode))]);
                inode
            }
            Err(error) => return Err(error),
        };
        let moment = self.tick();
        let content = match self.nodes.get_mut(&inode).expect("entries name nodes that exist") {
            Node::Directory(_) => return Err(errno(libc::EISDIR)),
            Node::File(content) => content,
        };
        if truncates && content.size() > 0 {
            Arc::make_mut(content).set_size(moment, 0);
        }
        let (file_errors, disk_errors) = (content.errors.sample(), self.errors.sample());
        let descriptor = self.next_descriptor;
        self.next_descriptor += 1;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_written_once = self.written_once.iter().any(|ending| name.ends_with(ending));
        self.open.insert(descriptor, Open { inode, is_direct, is_written_once, file_errors, disk_errors });
        Ok(descriptor)
    }

    pub fn is_direct(&self, descriptor: i32) -> bool {
        self.opened(descriptor).is_direct
    }

    pub fn close(&mut self, descriptor: i32) {
        assert!(
            self.open.remove(&descriptor).is_some(),
            "file {descriptor} is closed twice, or was never open"
        );
        self.collect_garbage();
    }

    pub fn is_open(&self, descriptor: i32) -> bool {
        self.open.contains_key(&descriptor)
    }

    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn opened(&self, descriptor: i32) -> &Open {
        self.open.get(&descriptor).unwrap_or_else(|| panic!("file {descriptor} is used, and is not open"))
    }

    fn content(&self, descriptor: i32) -> &FileContent {
        match self.nodes.get(&self.opened(descriptor).inode) {
            Some(Node::File(content)) => content,
            _ => unreachable!("only files are opened"),
        }
    }

    fn content_mut(&mut self, descriptor: i32) -> &mut FileContent {
        let inode = self.opened(descriptor).inode;
        self.file(inode)
    }

    fn file(&mut self, inode: Inode) -> &mut FileContent {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(content)) => Arc::make_mut(content),
            _ => unreachable!("only files are opened"),
        }
    }

    // Bytes.

    pub fn size(&self, descriptor: i32) -> u64 {
        self.content(descriptor).size()
    }

    /// Errors: EIO, where the device cannot read.
    pub fn read(&mut self, descriptor: i32, position: Position, into: &mut [u8]) -> io::Result<usize> {
        if self.is_direct(descriptor) && self.content(descriptor).has_dropped() {
            self.content_mut(descriptor).evict_range(sectors(position, into.len() as u64));
        }
        self.content(descriptor).read(position, into)
    }

    pub fn write(&mut self, descriptor: i32, position: Position, bytes: &[u8]) -> io::Result<()> {
        let end = position + bytes.len() as u64;
        self.take_space(descriptor, end)?;
        let moment = self.tick();
        self.content_mut(descriptor).write(moment, position, bytes);
        Ok(())
    }

    /// Clean pages go: what the kernel held for clean and the device has not got is gone.
    pub fn forget_cached(&mut self, descriptor: i32) {
        if self.content(descriptor).has_dropped() {
            let size = self.size(descriptor);
            self.content_mut(descriptor).evict_range(sectors(0, size));
        }
    }

    /// Panics if bytes are about to go where others are, in a file that is written once. The first block of a direct write may
    /// be there in part, if what is there stays.
    pub fn assert_unwritten(&self, descriptor: i32, position: Position, bytes: &[u8]) {
        if !self.opened(descriptor).is_written_once {
            return;
        }
        let mut there = vec![0; bytes.len()];
        // Where the device cannot read nobody knows.
        let length = self.content(descriptor).read(position, &mut there).unwrap_or(0);
        let again = if self.is_direct(descriptor) { DIRECT_BLOCK_BYTES } else { 0 };
        let stays = |at: usize, byte: u8| at < again && byte == bytes[at];
        let written = there[..length].iter().enumerate().find(|&(at, &byte)| byte != 0 && !stays(at, byte));
        if let Some((at, _)) = written {
            panic!("a write at {position} covers what was written at {}", position + at as u64);
        }
    }

    /// What is left of a write whose process was killed: of a cached one the bytes up to some point, of a direct one some
    /// of its sectors.
    pub fn cut_write(&mut self, descriptor: i32, position: Position, bytes: &[u8], random: &mut SimRandom) {
        if self.is_direct(descriptor) {
            return self.write_some_sectors(descriptor, position, bytes, random);
        }
        let length = random.below(bytes.len() as u64 + 1) as usize;
        // No space is no error here: nobody hears of it.
        let _ = self.write(descriptor, position, &bytes[..length]);
    }

    /// Any part of a write that failed: a prefix, or some of its sectors.
    pub fn write_in_part(
        &mut self,
        descriptor: i32,
        position: Position,
        bytes: &[u8],
        random: &mut SimRandom,
    ) {
        match random.coin() {
            true => self.cut_write(descriptor, position, bytes, random),
            false => self.write_some_sectors(descriptor, position, bytes, random),
        }
    }

    fn write_some_sectors(
        &mut self,
        descriptor: i32,
        position: Position,
        bytes: &[u8],
        random: &mut SimRandom,
    ) {
        for sector in sectors(position, bytes.len() as u64) {
            if random.coin() {
                let start = (sector * SECTOR_BYTES).max(position);
                let end = ((sector + 1) * SECTOR_BYTES).min(position + bytes.len() as u64);
                let part = &bytes[(start - position) as usize..(end - position) as usize];
                let _ = self.write(descriptor, start, part);
            }
        }
    }

    pub fn set_size(&mut self, descriptor: i32, size: u64) {
        let moment = self.tick();
        self.content_mut(descriptor).set_size(moment, size);
    }

    pub fn reserve(&mut self, descriptor: i32, end: u64) -> io::Result<()> {
        self.take_space(descriptor, end)?;
        self.content_mut(descriptor).reserve(end);
        Ok(())
    }

    fn take_space(&self, descriptor: i32, end: u64) -> io::Result<()> {
        if self.quota_bytes == u64::MAX {
            return Ok(());
        }
        let content = self.content(descriptor);
        let before = content.space_bytes();
        let wanted = BLOCK_BYTES + end.max(content.reserved_end()).next_multiple_of(BLOCK_BYTES);
        if wanted > before && self.used_bytes() + (wanted - before) > self.quota_bytes {
            return Err(errno(libc::ENOSPC));
        }
        Ok(())
    }

    // Syncs.

    /// A sync of a whole file, or of the bytes of one durable write.
    pub fn start_sync(&self, descriptor: i32, only: Option<Range<u64>>) -> SyncStart {
        let only = only.map(|bytes| sectors(bytes.start, bytes.end - bytes.start));
        self.content(descriptor).start_sync(self.clock, only)
    }

    /// Errors: EIO, once for each descriptor, where the kernel could not write back what it had.
    pub fn end_sync(&mut self, descriptor: i32, start: SyncStart, random: &mut SimRandom) -> io::Result<()> {
        if !self.is_lying {
            self.content_mut(descriptor).end_sync(start, random);
        }
        self.report_errors(descriptor)
    }

    /// A sync ends with EIO.
    pub fn fail_sync(&mut self, descriptor: i32, start: SyncStart, random: &mut SimRandom) -> io::Error {
        self.errors.add();
        self.content_mut(descriptor).fail_sync(start, random);
        self.report_errors(descriptor).expect_err("it has failed just now")
    }

    fn report_errors(&mut self, descriptor: i32) -> io::Result<()> {
        let Open { inode, mut file_errors, .. } = *self.opened(descriptor);
        if self.content(descriptor).errors.is_told(file_errors) {
            return Ok(());
        }
        let told = self.file(inode).errors.report(&mut file_errors);
        self.open.get_mut(&descriptor).expect("looked up above").file_errors = file_errors;
        told
    }

    /// The kernel writes back what a file has, unasked, and fails: whoever syncs next hears of it.
    pub fn fail_write_back(&mut self, descriptor: i32, random: &mut SimRandom) {
        let start = self.start_sync(descriptor, None);
        self.errors.add();
        self.content_mut(descriptor).fail_sync(start, random);
    }

    /// The device puts one block of a sync that ends elsewhere.
    pub fn misdirect(&mut self, descriptor: i32, start: &mut SyncStart, random: &mut SimRandom) {
        let inode = self.opened(descriptor).inode;
        let lost = self.file(inode).lose_block(start, random);
        let files: Vec<Inode> = self
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(inode, _)| *inode)
            .collect();
        let victim = if random.coin() { inode } else { files[random.below(files.len() as u64) as usize] };
        self.file(victim).take_block(start, &lost, random);
    }

    /// syncfs: all names, and the bytes of each file unless `fails` says that it cannot be written.
    /// Errors: EIO if one failed, or failed before and `through` has not told of it.
    pub fn sync_everything(
        &mut self,
        through: Option<i32>,
        random: &mut SimRandom,
        mut fails: impl FnMut(&mut SimRandom) -> bool,
    ) -> io::Result<()> {
        let mut told = through.map_or(self.errors.sample(), |through| self.opened(through).disk_errors);
        if !self.is_lying {
            for change in std::mem::take(&mut self.changes) {
                self.make_durable(&change);
            }
            let clock = self.clock;
            for node in self.nodes.values_mut() {
                let Node::File(content) = node else { continue };
                if content.dirty_moments().next().is_none() {
                    continue;
                }
                let content = Arc::make_mut(content);
                let start = content.start_sync(clock, None);
                if fails(random) {
                    content.fail_sync(start, random);
                    self.errors.add();
                } else {
                    content.end_sync(start, random);
                }
            }
        }
        let result = self.errors.report(&mut told);
        if let Some(through) = through {
            self.open.get_mut(&through).expect("looked up above").disk_errors = told;
        }
        result
    }

    // Directories.

    pub fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path).is_ok() {
            return Err(errno(libc::EEXIST));
        }
        let (parent, name) = self.find_parent(path)?;
        let inode = self.add(Node::Directory(Arc::default()))?;
        self.change(vec![(parent, name.to_owned(), Some(inode))]);
        Ok(())
    }

    pub fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.find(path)?;
        self.entries(directory)?;
        // A rename belongs to two directories. What is older in the other one goes first, or it would overwrite the rename later.
        let mut touched = BTreeSet::from([directory]);
        let mut chosen = vec![false; self.changes.len()];
        loop {
            let before = touched.len();
            for (i, change) in self.changes.iter().enumerate() {
                if change.edits.iter().any(|(directory, ..)| touched.contains(directory)) {
                    chosen[i] = true;
                    touched.extend(change.edits.iter().map(|(directory, ..)| *directory));
                }
            }
            if touched.len() == before {
                break;
            }
        }
        let mut chosen = chosen.into_iter();
        let (durable, left): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.changes).into_iter().partition(|_| chosen.next() == Some(true));
        durable.iter().for_each(|change| self.make_durable(change));
        self.changes = left;
        Ok(())
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<FileName>> {
        let entries = self.entries(self.find(path)?)?;
        let name = |(name, inode): (&String, &Inode)| {
            let (is_directory, size_bytes) = match &self.nodes[inode] {
                Node::Directory(_) => (true, BLOCK_BYTES),
                Node::File(content) => (false, content.size()),
            };
            FileName { name: name.clone(), is_directory, size_bytes }
        };
        Ok(entries.iter().map(name).collect())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = self.find(from)?;
        let (from_parent, from_name) = self.find_parent(from)?;
        let (to_parent, to_name) = self.find_parent(to)?;
        if let Ok(replaced) = self.find(to) {
            if replaced == moved {
                return Ok(());
            }
            match (&self.nodes[&moved], &self.nodes[&replaced]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Directory(_), Node::Directory(target)) if target.cached.is_empty() => {}
                (Node::Directory(_), Node::Directory(_)) => return Err(errno(libc::ENOTEMPTY)),
                (Node::Directory(_), Node::File(_)) => return Err(errno(libc::ENOTDIR)),
                (Node::File(_), Node::Directory(_)) => return Err(errno(libc::EISDIR)),
            }
        }
        self.change(vec![
            (from_parent, from_name.to_owned(), None),
            (to_parent, to_name.to_owned(), Some(moved)),
        ]);
        self.collect_garbage();
        Ok(())
    }

    pub fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        if matches!(self.nodes[&inode], Node::Directory(_)) {
            return Err(errno(libc::EISDIR));
        }
        let (parent, name) = self.find_parent(path)?;
        self.change(vec![(parent, name.to_owned(), None)]);
        self.collect_garbage();
        Ok(())
    }

    /// With all that is in it, entry by entry as `rm -r` does: a crash may leave any part.
    pub fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let inner = path.join(&entry.name);
            match entry.is_directory {
                true => self.remove_directory(&inner)?,
                false => self.remove_file(&inner)?,
            }
        }
        let (parent, name) = self.find_parent(path)?;
        self.change(vec![(parent, name.to_owned(), None)]);
        self.collect_garbage();
        Ok(())
    }

    pub fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        match self.find(path) {
            Ok(inode) => Ok(Some(match self.nodes[&inode] {
                Node::Directory(_) => FileKind::Directory,
                Node::File(_) => FileKind::File,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Space taken by what has a name or is open. What only a crash could bring back is not counted.
    pub fn used_bytes(&self) -> u64 {
        let mut reachable = BTreeSet::new();
        self.reach(ROOT, false, &mut reachable);
        reachable.extend(self.open.values().map(|open| open.inode));
        let space = |inode: &Inode| match &self.nodes[inode] {
            Node::File(content) => content.space_bytes(),
            Node::Directory(_) => BLOCK_BYTES,
        };
        reachable.iter().map(space).sum()
    }

    fn reach(&self, inode: Inode, includes_durable: bool, reachable: &mut BTreeSet<Inode>) {
        if !reachable.insert(inode) {
            return;
        }
        if let Some(Node::Directory(directory)) = self.nodes.get(&inode) {
            let durable = directory.durable.values().filter(|_| includes_durable);
            for &entry in directory.cached.values().chain(durable) {
                self.reach(entry, includes_durable, reachable);
            }
        }
    }

    /// Something may have lost its last name. What is found out about that now and then only takes memory until then.
    fn collect_garbage(&mut self) {
        self.collections_due += 1;
        if self.collections_due.is_multiple_of(GARBAGE_BATCH) {
            self.forget_unreachable();
        }
    }

    /// Drops what no name, open file, durable name or pending change leads to.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::new();
        self.reach(ROOT, true, &mut reachable);
        let pending: Vec<Inode> = self
            .changes
            .iter()
            .flat_map(|change| &change.edits)
            .flat_map(|(directory, _, inode)| inode.iter().chain([directory]))
            .copied()
            .chain(self.open.values().map(|open| open.inode))
            .collect();
        for inode in pending {
            self.reach(inode, true, &mut reachable);
        }
        self.nodes.retain(|inode, _| reachable.contains(inode));
    }

    // Damage.

    fn damaged(&mut self, path: &Path) -> io::Result<&mut FileContent> {
        let inode = self.find(path)?;
        match self.nodes.get_mut(&inode) {
            Some(Node::File(content)) => Ok(Arc::make_mut(content)),
            _ => Err(errno(libc::EISDIR)),
        }
    }

    /// Flips one bit, on the device and in the cache.
    pub fn flip_bit(&mut self, path: &Path, position: Position, bit: u8) -> io::Result<()> {
        self.damaged(path)?.flip_bit(position, bit);
        Ok(())
    }

    pub fn flip_bit_of(&mut self, descriptor: i32, position: Position, bit: u8) {
        self.content_mut(descriptor).flip_bit(position, bit);
    }

    /// One sector cannot be read until it is written again.
    pub fn fail_sector(&mut self, path: &Path, position: Position) -> io::Result<()> {
        self.damaged(path)?.fail_sector(position);
        Ok(())
    }

    pub fn fail_sector_of(&mut self, descriptor: i32, position: Position) {
        self.content_mut(descriptor).fail_sector(position);
    }

    // Crashes.

    /// The process is gone, the kernel runs on.
    pub fn kill(&mut self, random: &mut SimRandom) {
        self.open.clear();
        for node in self.nodes.values_mut() {
            if let Node::File(content) = node
                && content.has_dropped()
            {
                Arc::make_mut(content).evict_dropped(random);
            }
        }
        self.collect_garbage();
    }

    /// The cache is gone: entries and sectors not synced survive as chance, or the caller, says.
    pub fn lose_power(&mut self, survivors: Survivors, random: &mut SimRandom) {
        self.open.clear();
        let loss = self.draw_loss(survivors, random);
        let mut changes = std::mem::take(&mut self.changes);
        match loss {
            Loss::KeepNothing => changes.clear(),
            Loss::KeepAll => {}
            Loss::KeepBefore(end) => changes.retain(|change| change.moment < end),
            Loss::KeepFrom(start) => changes.retain(|change| change.moment >= start),
            Loss::Each => match random.below(4) {
                0 => changes.clear(),
                1 => {}
                2 => changes.truncate(random.below(changes.len() as u64 + 1) as usize),
                _ => changes.retain(|_| random.coin()),
            },
        }
        for change in changes {
            self.make_durable(&change);
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::File(content) if content.is_clean() => {}
                Node::File(content) => Arc::make_mut(content).lose_power(loss, random),
                Node::Directory(directory) if directory.cached == directory.durable => {}
                Node::Directory(directory) => {
                    let directory = Arc::make_mut(directory);
                    directory.cached = directory.durable.clone();
                }
            }
        }
        self.collect_garbage();
    }

    fn draw_loss(&self, survivors: Survivors, random: &mut SimRandom) -> Loss {
        match survivors {
            Survivors::Nothing => Loss::KeepNothing,
            Survivors::Everything => Loss::KeepAll,
            Survivors::Drawn => match random.below(8) {
                0 | 1 => {
                    let moments: BTreeSet<Moment> = self.unsynced_moments().collect();
                    let nth = random.below(moments.len() as u64 + 1) as usize;
                    let chosen = moments.into_iter().nth(nth).unwrap_or(Moment::MAX);
                    if random.below(3) > 0 { Loss::KeepBefore(chosen) } else { Loss::KeepFrom(chosen) }
                }
                _ => Loss::Each,
            },
        }
    }

    fn unsynced_moments(&self) -> impl Iterator<Item = Moment> {
        let bytes = self.nodes.values().filter_map(|node| match node {
            Node::File(content) => Some(content.dirty_moments()),
            Node::Directory(_) => None,
        });
        bytes.flatten().chain(self.changes.iter().map(|change| change.moment))
    }

    /// Something would be lost if the power went now.
    pub fn has_unsynced(&self) -> bool {
        self.unsynced_moments().next().is_some()
    }

    /// Equal for disks that no process can tell apart, whether the power goes or not.
    pub fn content_hash(&self) -> u64 {
        let mut state = rustc_hash::FxHasher::default();
        self.hash_node(ROOT, &mut state);
        state.finish()
    }

    fn hash_node(&self, inode: Inode, state: &mut impl Hasher) {
        let Some(node) = self.nodes.get(&inode) else { return };
        match node {
            Node::File(content) => content.hash(state),
            Node::Directory(directory) => {
                self.hash_entries(&directory.cached, state);
                if directory.cached != directory.durable {
                    self.hash_entries(&directory.durable, state);
                }
            }
        }
    }

    fn hash_entries(&self, entries: &BTreeMap<String, Inode>, state: &mut impl Hasher) {
        entries.len().hash(state);
        for (name, inode) in entries {
            name.hash(state);
            self.hash_node(*inode, state);
        }
    }
}
