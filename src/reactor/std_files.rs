//! [`Files`] on the real system calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{fdatasync, fsync, ftruncate};

use super::door::{File, FileKind, FileName, Files, Mapping, OpenMode};
use super::mapping::SharedMapping;
use crate::model::Position;

/// Stateless: a [`File`] is the kernel's descriptor number. Each call blocks.
pub struct StdFiles;

/// The descriptor for the length of one call.
pub(super) fn descriptor<'a>(file: File) -> BorrowedFd<'a> {
    assert!(file.0 >= 0, "file {} was never opened", file.0);
    // SAFETY: a `File` comes from `open` and stays open until `close`, which ends its use (the contract of `Files`); the
    // borrow lives only for one system call, which takes a stale number for EBADF and touches no memory of ours by it.
    unsafe { BorrowedFd::borrow_raw(file.0) }
}

fn position(position: Position) -> io::Result<libc::off_t> {
    libc::off_t::try_from(position).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// Repeats a call that a signal cut short before it did anything. Not for syncs: their failure is final.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

fn sync_path(path: &Path, sync: impl FnOnce(&std::fs::File) -> io::Result<()>) -> io::Result<()> {
    let directory = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(path)?;
    sync(&directory)
}

fn sync_file_system(descriptor: std::os::fd::RawFd) -> io::Result<()> {
    // SAFETY: a number that is not open gives EBADF; syncfs touches no memory of ours.
    match unsafe { libc::syncfs(descriptor) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Files for StdFiles {
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => _ = options.write(true).create(true),
            OpenMode::Truncate => _ = options.write(true).create(true).truncate(true),
            OpenMode::Direct => _ = options.write(true).create(true).custom_flags(libc::O_DIRECT),
        }
        Ok(File(options.open(path)?.into_raw_fd()))
    }

    fn close(&mut self, file: File) {
        // SAFETY: the caller gives the descriptor up with this call (the contract of `Files`), nothing else owns it.
        let result = unsafe { libc::close(file.0) };
        // Other errors are of earlier writes, which a sync reports to those who care. EBADF is a file closed twice.
        assert!(result == 0 || Errno::last() != Errno::EBADF, "file {} was closed twice", file.0);
    }

    fn size(&mut self, file: File) -> io::Result<u64> {
        Ok(nix::sys::stat::fstat(descriptor(file))?.st_size as u64)
    }

    fn read_at(&mut self, file: File, at: Position, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            let from = position(at + read as u64)?;
            match uninterrupted(|| pread(descriptor(file), &mut into[read..], from))? {
                0 => break,
                count => read += count,
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, file: File, at: Position, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let to = position(at + written as u64)?;
            match uninterrupted(|| pwrite(descriptor(file), &bytes[written..], to))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => written += count,
            }
        }
        Ok(())
    }

    fn set_size(&mut self, file: File, size_bytes: u64) -> io::Result<()> {
        let size = position(size_bytes)?;
        uninterrupted(|| ftruncate(descriptor(file), size))
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        Ok(fdatasync(descriptor(file))?)
    }

    fn map(&mut self, file: File, length: u64) -> io::Result<Box<dyn Mapping>> {
        Ok(Box::new(SharedMapping::new(descriptor(file), length)?))
    }

    fn is_resident(&mut self, file: File, position: Position, length: u64) -> bool {
        super::piped::is_resident(file, position, length)
    }

    fn reserve(&mut self, file: File, at: Position, length: u64) -> io::Result<()> {
        let (start, length) = (position(at)?, position(length)?);
        uninterrupted(|| fallocate(descriptor(file), FallocateFlags::FALLOC_FL_KEEP_SIZE, start, length))
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        sync_path(path, |directory| Ok(fsync(directory)?))
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<FileName>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours; shown with replacement characters, it is reported and left alone.
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(metadata) => entries.push(FileName {
                    name,
                    is_directory: metadata.is_dir(),
                    size_bytes: metadata.len(),
                }),
                // Removed between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn kind(&mut self, path: &Path) -> io::Result<Option<FileKind>> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Some(FileKind::Directory)),
            Ok(_) => Ok(Some(FileKind::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&mut self, path: &Path) -> io::Result<(u64, u64)> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let unit = found.fragment_size();
        Ok((found.blocks_available() * unit, found.blocks() * unit))
    }

    fn sync_file_system(&mut self, path: &Path) -> io::Result<()> {
        sync_path(path, |directory| sync_file_system(directory.as_raw_fd()))
    }

    fn forget_cached(&mut self, file: File) -> io::Result<()> {
        Ok(posix_fadvise(descriptor(file), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn sync_file_system_through(&mut self, file: File) -> io::Result<()> {
        sync_file_system(descriptor(file).as_raw_fd())
    }
}
