//! What a failed write or flush leaves in doubt: the page cache.
//!
//! After a failed flush the kernel goes on holding the bytes, for clean, and gives them to whoever reads; a later flush succeeds
//! and writes nothing (Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020). A recovery that read
//! them would build upon records that the next power loss takes, and all behind them. So the broker leaves a note in a directory
//! that failed, and the next start makes the kernel forget what it has cached before it reads anything.
//!
//! The note needs no flush: it is for the kernel that has those pages. A file system that takes no note takes no records either.
//!
//! A process that is killed before it could leave the note has a witness. The kernel counts failed write-backs of a file system
//! too, and `syncfs` tells of the last one through a descriptor that was opened after it, once (`s_wb_err`, since Linux 5.8). So
//! a start that does not follow a clean stop asks before it serves, and whoever hears of a failure by `syncfs` leaves the note in
//! the next call ([`sync_file_system`]). Two things stay unknown then: what another program's `syncfs` was told, and a flush that
//! the device refused although it had taken the bytes.

use std::path::Path;

use crate::reactor::{File, Files, OpenMode};

use super::error::{Context, StorageError};
use super::layout;

/// Leaves the note. Errors: it may not be there; then nothing can be written to this directory until somebody mends it.
pub fn note_storage_failure(files: &mut dyn Files, data_directory: &Path) -> Result<(), StorageError> {
    let path = data_directory.join(layout::STORAGE_FAILED);
    let file = files.open(&path, OpenMode::Write).context("note storage failure", &path)?;
    files.close(file);
    Ok(())
}

/// Flushes the file system of a data directory: through this file, of which it tells all failed write-backs since it was opened,
/// or through a new descriptor, of which it tells the last one if nobody has been told of it. Blocking.
/// Errors: the note is there.
pub fn sync_file_system(
    files: &mut dyn Files,
    data_directory: &Path,
    through: Option<File>,
) -> Result<(), StorageError> {
    let synced = match through {
        Some(file) => files.sync_file_system_through(file),
        None => files.sync_file_system(data_directory),
    };
    if synced.is_err() {
        // What cannot be noted cannot be written either.
        let _ = note_storage_failure(files, data_directory);
    }
    synced.context("sync file system", data_directory)
}

/// Makes the kernel forget what it has cached of a directory with a note; the next read sees the device. Blocking, before anything
/// else is read. Returns whether there was a note.
pub fn heed_storage_failure(files: &mut dyn Files, data_directory: &Path) -> Result<bool, StorageError> {
    let note = data_directory.join(layout::STORAGE_FAILED);
    if files.kind(&note).context("look for note of storage failure", &note)?.is_none() {
        return Ok(false);
    }
    // What it tells of is what the note is for; what it tells of from now on is news.
    let _ = files.sync_file_system(data_directory);
    forget_cached(files, data_directory)?;
    for entry in files.list(data_directory).context("list data directory", data_directory)? {
        if entry.is_directory {
            forget_cached(files, &data_directory.join(&entry.name))?;
        }
    }
    files.remove_file(&note).context("remove note of storage failure", &note)?;
    Ok(true)
}

fn forget_cached(files: &mut dyn Files, directory: &Path) -> Result<(), StorageError> {
    for entry in files.list(directory).context("list directory", directory)? {
        let path = directory.join(&entry.name);
        if entry.is_directory || entry.name == layout::LOCK {
            continue;
        }
        let file = files.open(&path, OpenMode::Read).context("open file", &path)?;
        // What is dirty stays cached, and may be all there is of it. An error is of what a life before could not write, or of what
        // cannot be written now: either way what is read next is on the device, or is flushed when it has been recovered.
        let _ = files.sync(file);
        let forgotten = files.forget_cached(file);
        files.close(file);
        forgotten.context("forget what is cached of file", &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::sim::{CrashKind, Faults, SimOptions, SimWorld, Survivors};

    fn content(world: &SimWorld, path: &Path) -> Vec<u8> {
        let files: &mut dyn Files = &mut world.files();
        files.read_all(path).unwrap()
    }

    #[test]
    fn after_a_noted_failure_reads_give_what_a_power_loss_leaves() {
        let world = SimWorld::new(5, SimOptions::default());
        let data = Path::new("/data");
        let (folder, path) = (data.join("t-0"), data.join("t-0/0.log"));
        let files: &mut dyn Files = &mut world.files();
        files.create_directory(data).unwrap();
        files.create_directory(&folder).unwrap();
        let file = files.open(&path, OpenMode::Write).unwrap();
        files.write_at(file, 0, &[1; 65_536]).unwrap();
        [Path::new("/"), data, &folder].iter().for_each(|path| files.sync_directory(path).unwrap());
        files.sync(file).unwrap();
        files.write_at(file, 0, &[2; 65_536]).unwrap();
        world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
        files.sync(file).unwrap_err();
        world.set_faults(Faults::default());
        files.close(file);

        assert_eq!(content(&world, &path), [2; 65_536], "the page cache lies");
        assert!(!heed_storage_failure(files, data).unwrap(), "nobody left a note");
        note_storage_failure(files, data).unwrap();
        assert!(heed_storage_failure(files, data).unwrap());
        let disk = world.moment().crash(CrashKind::PowerLoss, Survivors::Nothing, 0);
        let left = content(&SimWorld::on(1, SimOptions::default(), disk), &path);
        assert!(left.contains(&1), "some of it was dropped");
        assert_eq!(content(&world, &path), left);
        assert!(!heed_storage_failure(files, data).unwrap(), "it is over");
    }

    /// A file whose bytes the kernel could not write back, and nobody has been told.
    fn unwritten(world: &SimWorld, data: &Path) {
        let files: &mut dyn Files = &mut world.files();
        if files.kind(data).unwrap().is_none() {
            files.create_directory(data).unwrap();
        }
        let file = files.open(&data.join("file"), OpenMode::Write).unwrap();
        world.set_faults(Faults { write_back_error: 1_000_000, ..Faults::default() });
        files.write_at(file, 0, &[2; 65_536]).unwrap();
        world.set_faults(Faults::default());
        files.close(file);
    }

    #[test]
    fn a_note_is_heeded_at_once_though_the_kernel_still_tells_of_what_it_is_for() {
        let world = SimWorld::new(5, SimOptions::default());
        let data = Path::new("/data");
        let files: &mut dyn Files = &mut world.files();
        unwritten(&world, data);
        note_storage_failure(files, data).unwrap();
        assert!(heed_storage_failure(files, data).unwrap());
        sync_file_system(files, data, None).unwrap();
        let file = files.open(&data.join("file"), OpenMode::Read).unwrap();
        files.sync(file).unwrap();
    }

    #[test]
    fn a_failure_without_a_note_is_told_once_and_noted() {
        let world = SimWorld::new(5, SimOptions::default());
        let data = Path::new("/data");
        let files: &mut dyn Files = &mut world.files();
        unwritten(&world, data);
        assert!(!heed_storage_failure(files, data).unwrap());
        let error = sync_file_system(files, data, None).unwrap_err();
        assert_eq!(error.path, data);
        sync_file_system(files, data, None).unwrap();
        assert!(heed_storage_failure(files, data).unwrap(), "it was noted");
    }
}
