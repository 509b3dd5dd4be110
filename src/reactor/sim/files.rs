//! Blocking file-system calls on the model's disk.

use std::cell::{RefCell, RefMut};
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::disk::Disk;
use super::moment::Unfinished;
use super::operation::{self, end_sync};
use super::random::SimRandom;
use super::world::{Faults, World};
use crate::model::Position;
use crate::reactor::{File, FileKind, FileName, Files, Mapping, OpenMode};

/// The model's file system. Each call happens at once; the machine may stop in the middle of it (`arm_crash`), and from then on
/// every call fails.
pub struct SimFiles {
    world: Rc<RefCell<World>>,
    incarnation: u64,
}

fn stopped() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn device_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl SimFiles {
    pub(super) fn new(world: Rc<RefCell<World>>) -> SimFiles {
        let incarnation = world.borrow().incarnation;
        SimFiles { world, incarnation }
    }

    /// The world, unless the machine has stopped since these files were made.
    fn alive(&self) -> io::Result<RefMut<'_, World>> {
        let world = self.world.borrow_mut();
        match world.is_crashed() || world.incarnation != self.incarnation {
            true => Err(stopped()),
            false => Ok(world),
        }
    }

    /// One call: `act` does it, `in_part` does what is left of it if the machine stops in its middle.
    fn call<T>(
        &mut self,
        act: impl FnOnce(&mut Disk, &mut SimRandom, Faults) -> io::Result<T>,
        in_part: impl FnOnce(&mut Disk, &mut SimRandom),
    ) -> io::Result<T> {
        let mut world = self.alive()?;
        let stops = world.count_file_operation();
        let World { disk, disk_random, options, .. } = &mut *world;
        if stops {
            in_part(disk, disk_random);
            return Err(stopped());
        }
        act(disk, disk_random, options.faults)
    }

    /// A call after which the machine may be tried: it has changed the disk.
    fn change<T>(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut Disk, &mut SimRandom, Faults) -> io::Result<T>,
        in_part: impl FnOnce(&mut Disk, &mut SimRandom),
    ) -> io::Result<T> {
        let result = self.call(act, in_part);
        if let Ok(mut world) = self.alive() {
            world.note_moment(name, None);
        }
        result
    }

    /// A call that is done in full or not at all.
    fn whole<T>(&mut self, name: &'static str, act: impl Fn(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.change(
            name,
            |disk, _, _| act(disk),
            |disk, random| {
                if random.coin() {
                    drop(act(disk));
                }
            },
        )
    }

    /// A call that changes nothing.
    fn look<T>(&mut self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.call(|disk, _, _| act(disk), |_, _| {})
    }

    fn sync_all(&mut self, through: Option<File>) -> io::Result<()> {
        self.change(
            "syncfs",
            |disk, random, faults| {
                disk.sync_everything(through.map(|file| file.0), random, |random| {
                    random.per_million(faults.sync_error)
                })
            },
            |_, _| {},
        )
    }
}

/// Bytes of a file that a process has mapped. They are there at once, and survive it as what is in the page cache does; a process
/// that is killed in the middle of it has put a part of them.
struct SimMapping {
    files: SimFiles,
    file: File,
    length: u64,
    has_failed: bool,
}

impl Mapping for SimMapping {
    fn put(&mut self, position: Position, bytes: &[u8]) {
        assert!(
            position + bytes.len() as u64 <= self.length,
            "bytes outside of the {} that are mapped",
            self.length
        );
        let file = self.file.0;
        if let Ok(mut world) = self.files.alive() {
            assert!(
                position + bytes.len() as u64 <= world.disk.size(file),
                "a mapping is used behind the file's end"
            );
            let bytes = || Bytes::copy_from_slice(bytes);
            let put =
                world.moments.is_some().then(|| Unfinished { descriptor: file, position, bytes: bytes() });
            world.note_moment("put", put);
        }
        // Of a machine that has stopped nobody asks any more.
        let put = self.files.change(
            "put",
            |disk, random, faults| {
                if random.per_million(faults.write_error) {
                    disk.cut_write(file, position, bytes, random);
                    return Err(device_error());
                }
                disk.write(file, position, bytes).expect("a mapped file has its blocks");
                Ok(())
            },
            |disk, random| disk.cut_write(file, position, bytes, random),
        );
        self.has_failed |= put.is_err();
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Files for SimFiles {
    fn map(&mut self, file: File, length: u64) -> io::Result<Box<dyn Mapping>> {
        let files = SimFiles { world: Rc::clone(&self.world), incarnation: self.incarnation };
        self.look(|_| Ok(()))?;
        Ok(Box::new(SimMapping { files, file, length, has_failed: false }))
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        let (creates, truncates) = (mode != OpenMode::Read, mode == OpenMode::Truncate);
        let open = |disk: &mut Disk| disk.open(path, creates, truncates, mode == OpenMode::Direct).map(File);
        if creates { self.whole("open", open) } else { self.look(open) }
    }

    fn close(&mut self, file: File) {
        let mut world = self.world.borrow_mut();
        if !world.is_crashed() && world.incarnation == self.incarnation {
            world.disk.close(file.0);
        }
    }

    fn size(&mut self, file: File) -> io::Result<u64> {
        self.look(|disk| Ok(disk.size(file.0)))
    }

    fn read_at(&mut self, file: File, position: Position, into: &mut [u8]) -> io::Result<usize> {
        self.call(
            |disk, random, faults| operation::read(disk, random, faults, file, position, into),
            |_, _| {},
        )
    }

    fn write_at(&mut self, file: File, position: Position, bytes: &[u8]) -> io::Result<()> {
        if let Ok(mut world) = self.alive() {
            let bytes = || Bytes::copy_from_slice(bytes);
            let write =
                world.moments.is_some().then(|| Unfinished { descriptor: file.0, position, bytes: bytes() });
            world.note_moment("write", write);
        }
        let are_zeros = bytes.iter().all(|byte| *byte == 0);
        self.change(
            "write",
            |disk, random, faults| {
                if are_zeros {
                    disk.assert_unwritten(file.0, position, bytes);
                }
                let written = match random.per_million(faults.write_error) {
                    true => Err(device_error()),
                    false => disk.write(file.0, position, bytes),
                };
                if written.is_err() {
                    disk.write_in_part(file.0, position, bytes, random);
                } else if !disk.is_direct(file.0) && random.per_million(faults.write_back_error) {
                    disk.fail_write_back(file.0, random);
                }
                written
            },
            |disk, random| disk.cut_write(file.0, position, bytes, random),
        )
    }

    fn set_size(&mut self, file: File, size_bytes: u64) -> io::Result<()> {
        self.whole("set size", |disk| {
            disk.set_size(file.0, size_bytes);
            Ok(())
        })
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        self.change(
            "sync",
            |disk, random, faults| {
                let start = disk.start_sync(file.0, None);
                end_sync(disk, random, faults, file, start)
            },
            // What of it reached the device is what the crash makes of it.
            |_, _| {},
        )
    }

    fn reserve(&mut self, file: File, position: Position, length: u64) -> io::Result<()> {
        self.whole("reserve", |disk| disk.reserve(file.0, position + length))
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.whole("create directory", |disk| disk.create_directory(path))
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.whole("sync directory", |disk| disk.sync_directory(path))
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<FileName>> {
        self.look(|disk| disk.list(path))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole("rename", |disk| disk.rename(from, to))
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.whole("remove file", |disk| disk.remove_file(path))
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.whole("remove directory", |disk| disk.remove_directory(path))
    }

    fn kind(&mut self, path: &Path) -> io::Result<Option<FileKind>> {
        self.look(|disk| disk.kind(path))
    }

    fn space(&mut self, path: &Path) -> io::Result<(u64, u64)> {
        self.look(|disk| {
            disk.kind(path)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
            // Without a limit: as large a disk as makes no difference.
            let size = disk.quota_bytes.min(1 << 50);
            Ok((size.saturating_sub(disk.used_bytes()), size))
        })
    }

    fn sync_file_system(&mut self, _path: &Path) -> io::Result<()> {
        self.sync_all(None)
    }

    fn forget_cached(&mut self, file: File) -> io::Result<()> {
        self.look(|disk| {
            disk.forget_cached(file.0);
            Ok(())
        })
    }

    fn sync_file_system_through(&mut self, file: File) -> io::Result<()> {
        self.sync_all(Some(file))
    }
}
