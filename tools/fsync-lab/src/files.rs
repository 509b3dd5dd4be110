//! The files that cells write to: laid out, opened as a strategy wants them, and taken away again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

use crate::memory::{ALIGNMENT, Aligned};
use crate::plan::{Cell, FRESH_SETS, JOURNAL_BYTES, MIB};
use crate::signals;
use crate::strategy::{Cache, Space, Strategy, Sync};

/// Why a cell has no figures.
#[derive(Debug)]
pub enum CellError {
    /// This host cannot do it; the next cell may work.
    Unsupported { what: &'static str, source: io::Error },
    /// It should have worked.
    Failed { what: &'static str, source: io::Error },
    /// A write that took fewer bytes than it was given: the space is used up.
    ShortWrite { wrote: usize, wanted: usize },
    /// The operator wants to stop.
    Interrupted,
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CellError::Unsupported { what, source } => {
                write!(f, "{what} is not possible here: {source}")
            }
            CellError::Failed { what, source } => write!(f, "{what}: {source}"),
            CellError::ShortWrite { wrote, wanted } => {
                write!(f, "a write of {wanted} bytes took {wrote}: no space left?")
            }
            CellError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for CellError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CellError::Unsupported { source, .. } | CellError::Failed { source, .. } => Some(source),
            CellError::ShortWrite { .. } | CellError::Interrupted => None,
        }
    }
}

impl CellError {
    /// Sorts an error into "not here" and "should have worked".
    pub fn of(what: &'static str, source: io::Error) -> CellError {
        match source.raw_os_error() {
            Some(libc::EINTR) if signals::received().is_some() => CellError::Interrupted,
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => {
                CellError::Unsupported { what, source }
            }
            _ => CellError::Failed { what, source },
        }
    }
}

fn stop_if_asked() -> Result<(), CellError> {
    if signals::received().is_some() { Err(CellError::Interrupted) } else { Ok(()) }
}

/// The files of one cell, open.
#[derive(Debug)]
pub struct FileSet {
    files: Vec<File>,
    /// Bytes from commit to commit: the group, for O_DIRECT in whole blocks.
    stride: u64,
    /// Commits that fit into one file.
    slots: u64,
    /// Whether the first commit's place follows the last one's.
    is_recycled: bool,
    /// Files to take away after the cell.
    fresh: Vec<PathBuf>,
}

/// Where a commit goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub file: usize,
    pub position: u64,
    pub bytes: u32,
}

impl FileSet {
    /// Commits go over the files in turn. None: the space of a file that is not recycled is used up.
    pub fn place(&self, commit: u64) -> Option<Place> {
        let count = self.files.len() as u64;
        let slot = commit / count;
        if !self.is_recycled && slot >= self.slots {
            return None;
        }
        let bytes = u32::try_from(self.stride).expect("a group is at most some MiB");
        let file = (commit % count) as usize;
        Some(Place { file, position: slot % self.slots * self.stride, bytes })
    }

    pub fn file(&self, index: usize) -> &File {
        &self.files[index]
    }

    pub fn fd(&self, index: usize) -> BorrowedFd<'_> {
        self.files[index].as_fd()
    }

    /// Makes what the cell left dirty clean, so that its writeback does not fall into the next cell.
    pub fn settle(&self, directory: &File) -> io::Result<()> {
        settle(&self.files, directory)
    }
}

impl Drop for FileSet {
    fn drop(&mut self) {
        for path in &self.fresh {
            // What stays goes with the directory.
            let _ = fs::remove_file(path);
        }
    }
}

/// One syncfs is cheaper than many fdatasyncs, but takes everything on that file system with it.
fn settle(files: &[File], directory: &File) -> io::Result<()> {
    if files.len() <= 16 {
        return files.iter().try_for_each(File::sync_data);
    }
    nix::unistd::syncfs(directory.as_fd()).map_err(io::Error::from)
}

/// The stock of files in the directory of this run.
pub struct Stock {
    directory: PathBuf,
    handle: File,
    set_bytes: u64,
    /// Pre-zeroed sets that are laid out, by cache and count; or why they cannot be.
    zeroed: BTreeMap<(Cache, u32), Vec<PathBuf>>,
    journal: Option<PathBuf>,
    next_fresh: u64,
}

impl Stock {
    pub fn new(directory: &Path, set_bytes: u64) -> io::Result<Stock> {
        Ok(Stock {
            directory: directory.to_owned(),
            handle: File::open(directory)?,
            set_bytes,
            zeroed: BTreeMap::new(),
            journal: None,
            next_fresh: 0,
        })
    }

    /// The directory, open: for `syncfs`.
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// The files for a cell; for the journal those of the partitions.
    pub fn open(&mut self, cell: Cell) -> Result<FileSet, CellError> {
        match cell.strategy {
            Strategy::Journal => self.open_zeroed(cell, Cache::PageCache, Sync::None),
            Strategy::PerFile { cache, space: Space::Zeroed, sync } => self.open_zeroed(cell, cache, sync),
            Strategy::PerFile { cache, space, sync } => self.open_fresh(cell, cache, space, sync),
        }
    }

    fn open_zeroed(&mut self, cell: Cell, cache: Cache, sync: Sync) -> Result<FileSet, CellError> {
        let paths = self.zeroed_set(cache, cell.files)?;
        let opened = paths.iter().map(|path| open(path, cache, sync, false));
        let files = opened.collect::<Result<Vec<File>, _>>()?;
        let stride = stride(cell.group_bytes, cache);
        let slots = self.set_bytes / u64::from(cell.files) / stride;
        assert!(slots > 0, "{cell}: no group fits into {} bytes", self.set_bytes);
        Ok(FileSet { files, stride, slots, is_recycled: true, fresh: Vec::new() })
    }

    /// The paths of a pre-zeroed set; writes it first if it is not there.
    fn zeroed_set(&mut self, cache: Cache, count: u32) -> Result<Vec<PathBuf>, CellError> {
        if let Some(paths) = self.zeroed.get(&(cache, count)) {
            return Ok(paths.clone());
        }
        let bytes = self.set_bytes / u64::from(count);
        let name = |n| self.directory.join(format!("zeroed-{}-{count}-{n}", cache.name()));
        let paths: Vec<PathBuf> = (0..count).map(name).collect();
        let mut files = Vec::new();
        for path in &paths {
            stop_if_asked()?;
            files.push(write_zeros(path, cache, bytes)?);
        }
        settle(&files, &self.handle).map_err(|error| CellError::of("flush the zeroed files", error))?;
        self.handle.sync_all().map_err(|error| CellError::of("flush the directory", error))?;
        self.zeroed.insert((cache, count), paths.clone());
        Ok(paths)
    }

    fn open_fresh(
        &mut self,
        cell: Cell,
        cache: Cache,
        space: Space,
        sync: Sync,
    ) -> Result<FileSet, CellError> {
        let stride = stride(cell.group_bytes, cache);
        let slots = (FRESH_SETS * self.set_bytes / u64::from(cell.files) / stride).max(1);
        let number = self.next_fresh;
        self.next_fresh += 1;
        let mut set = FileSet { files: Vec::new(), stride, slots, is_recycled: false, fresh: Vec::new() };
        for n in 0..cell.files {
            let path = self.directory.join(format!("fresh-{number}-{n}"));
            // Before it is there: so that it goes if the rest fails.
            set.fresh.push(path.clone());
            let file = open(&path, cache, sync, true)?;
            if space == Space::Fallocated {
                let bytes = libc::off_t::try_from(slots * stride).expect("some GiB at most");
                fallocate(&file, FallocateFlags::empty(), 0, bytes)
                    .map_err(|errno| CellError::of("fallocate", errno.into()))?;
            }
            set.files.push(file);
        }
        // The new names belong to no commit. A file system with a journal makes all of them durable with the last one; where
        // it does not, the first commits pay, which are not recorded.
        let last = set.files.last().expect("a cell has a file");
        last.sync_all().map_err(|error| CellError::of("flush new files", error))?;
        Ok(set)
    }

    /// The shared journal, pre-zeroed, for O_DIRECT.
    pub fn open_journal(&mut self) -> Result<File, CellError> {
        let path = match &self.journal {
            Some(path) => path.clone(),
            None => {
                let path = self.directory.join("journal");
                let file = write_zeros(&path, Cache::Direct, JOURNAL_BYTES)?;
                file.sync_all().map_err(|error| CellError::of("flush the journal", error))?;
                self.journal.insert(path).clone()
            }
        };
        open(&path, Cache::Direct, Sync::None, false)
    }

    /// The only file of a pre-zeroed set of one, and its length.
    pub fn zeroed_file(&mut self, cache: Cache) -> Result<(PathBuf, u64), CellError> {
        let paths = self.zeroed_set(cache, 1)?;
        Ok((paths[0].clone(), self.set_bytes))
    }
}

/// O_DIRECT writes whole blocks: a smaller group is padded, as the broker's journal pads.
fn stride(group_bytes: u64, cache: Cache) -> u64 {
    match cache {
        Cache::PageCache => group_bytes,
        Cache::Direct => group_bytes.next_multiple_of(ALIGNMENT as u64),
    }
}

fn open(path: &Path, cache: Cache, sync: Sync, is_new: bool) -> Result<File, CellError> {
    let mut flags = libc::O_NOFOLLOW;
    if cache == Cache::Direct {
        flags |= libc::O_DIRECT;
    }
    if sync == Sync::ODsync {
        flags |= libc::O_DSYNC;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(is_new).custom_flags(flags);
    let what = if cache == Cache::Direct { "open with O_DIRECT" } else { "open a file" };
    options.open(path).map_err(|error| CellError::of(what, error))
}

/// A new file full of zeros. Through the page cache its pages stay there, as those of a log that was just zeroed ahead of
/// its tail would; otherwise none is left.
fn write_zeros(path: &Path, cache: Cache, bytes: u64) -> Result<File, CellError> {
    let zeros = Aligned::zeroed(MIB as usize);
    let file = open(path, cache, Sync::None, true)?;
    let mut position = 0;
    while position < bytes {
        stop_if_asked()?;
        // Whole blocks for O_DIRECT, also where the set does not divide evenly.
        let length = (bytes - position).min(MIB).next_multiple_of(ALIGNMENT as u64) as usize;
        let wrote = match file.write_at(&zeros.as_slice()[..length], position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|error| CellError::of("write zeros", error))?,
        };
        if wrote == 0 {
            return Err(CellError::ShortWrite { wrote, wanted: length });
        }
        position += wrote as u64;
    }
    if cache == Cache::Direct {
        match posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED) {
            // Advice is all it is.
            Ok(()) | Err(Errno::ENOSYS | Errno::EINVAL) => {}
            Err(errno) => return Err(CellError::of("drop cached pages", errno.into())),
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BYPASS, DIRECT, KAFKA_WAY, KIB};

    fn with_stock(name: &str, test: impl FnOnce(&mut Stock)) {
        let path = std::env::temp_dir().join(format!("corelog-fsync-lab-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        test(&mut Stock::new(&path, MIB).unwrap());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn commits_go_over_the_files_in_turn() {
        with_stock("turn", |stock| {
            let set = stock.open(Cell::closed(BYPASS, 4, 64 * KIB, 1)).unwrap();
            let place = |commit| set.place(commit).map(|place| (place.file, place.position));
            assert_eq!(place(0), Some((0, 0)));
            assert_eq!(place(3), Some((3, 0)));
            assert_eq!(place(4), Some((0, 65536)));
            // 256 KiB in each of the four: recycled after four commits each.
            assert_eq!(place(16), Some((0, 0)));
            assert_eq!(set.place(0).unwrap().bytes, 65536);
        });
    }

    #[test]
    fn a_growing_file_ends_and_goes_away() {
        with_stock("grow", |stock| {
            let set = stock.open(Cell::closed(KAFKA_WAY, 2, 512, 1)).unwrap();
            assert_eq!(set.place(2 * 2048 - 1).unwrap().position, 2047 * 512);
            assert_eq!(set.place(2 * 2048), None, "two sets' bytes, no more");
            let paths = set.fresh.clone();
            assert!(paths.iter().all(|path| path.exists()));
            drop(set);
            assert!(!paths.iter().any(|path| path.exists()));
        });
    }

    #[test]
    fn direct_groups_are_padded_to_blocks() {
        assert_eq!(stride(512, Cache::PageCache), 512);
        assert_eq!(stride(512, Cache::Direct), 4096);
        assert_eq!(stride(8192, Cache::Direct), 8192);
        with_stock("pad", |stock| match stock.open(Cell::closed(DIRECT, 1, 512, 1)) {
            Ok(set) => assert_eq!(set.place(1).unwrap().position, 4096),
            Err(error) => assert!(matches!(error, CellError::Unsupported { .. }), "{error}"),
        });
    }

    #[test]
    fn errors_are_sorted_into_not_here_and_wrong() {
        let of = |errno| CellError::of("x", io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EOPNOTSUPP), CellError::Unsupported { .. }));
        assert!(matches!(of(libc::EINVAL), CellError::Unsupported { .. }));
        assert!(matches!(of(libc::EIO), CellError::Failed { .. }));
        assert!(matches!(of(libc::ENOSPC), CellError::Failed { .. }));
    }
}
