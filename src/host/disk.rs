//! The file system under the data directory.

use std::fmt;
use std::path::Path;

use nix::sys::statfs::{FsType, statfs};

use super::HostError;

/// Room for the metadata log, the checkpoints and one reservation of each shard of a small host.
pub const FREE_BYTES_MIN: u64 = 16 << 20;

/// A file system and the room on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSystem {
    pub kind: FileSystemKind,
    /// Free for this process; root's reserve is not in it unless this is root.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystemKind {
    Ext,
    Xfs,
    Btrfs,
    F2fs,
    Zfs,
    Overlay,
    Tmpfs,
    Nfs,
    Smb,
    Fuse,
    Plan9,
    Other(u64),
}

impl FileSystemKind {
    /// Source: statfs(2) and the kernel's include/uapi/linux/magic.h; ZFS: OpenZFS, sys/fs/zfs.h.
    fn of_magic(magic: u64) -> FileSystemKind {
        match magic {
            0xef53 => FileSystemKind::Ext,
            0x5846_5342 => FileSystemKind::Xfs,
            0x9123_683e => FileSystemKind::Btrfs,
            0xf2f5_2010 => FileSystemKind::F2fs,
            0x2fc1_2fc1 => FileSystemKind::Zfs,
            0x794c_7630 => FileSystemKind::Overlay,
            0x0102_1994 => FileSystemKind::Tmpfs,
            0x6969 => FileSystemKind::Nfs,
            0xff53_4d42 | 0xfe53_4d42 | 0x517b => FileSystemKind::Smb,
            0x6573_5546 => FileSystemKind::Fuse,
            0x0102_1997 => FileSystemKind::Plan9,
            other => FileSystemKind::Other(other),
        }
    }

    /// Whether bytes that are written again go where they were: a store into a mapped page then needs no space, which it could
    /// be refused. Those that copy on write, keep checksums or speak to another machine may find none.
    pub fn keeps_blocks(self) -> bool {
        matches!(self, FileSystemKind::Ext | FileSystemKind::Xfs | FileSystemKind::Tmpfs)
    }

    /// Whether a flush reaches a local device. An unknown file system gets the benefit of the doubt.
    pub fn is_durable(self) -> bool {
        !matches!(
            self,
            FileSystemKind::Tmpfs
                | FileSystemKind::Nfs
                | FileSystemKind::Smb
                | FileSystemKind::Fuse
                | FileSystemKind::Plan9
        )
    }
}

impl fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSystemKind::Ext => f.write_str("ext4"),
            FileSystemKind::Xfs => f.write_str("XFS"),
            FileSystemKind::Btrfs => f.write_str("btrfs"),
            FileSystemKind::F2fs => f.write_str("F2FS"),
            FileSystemKind::Zfs => f.write_str("ZFS"),
            FileSystemKind::Overlay => f.write_str("overlayfs"),
            FileSystemKind::Tmpfs => f.write_str("tmpfs"),
            FileSystemKind::Nfs => f.write_str("NFS"),
            FileSystemKind::Smb => f.write_str("SMB"),
            FileSystemKind::Fuse => f.write_str("FUSE"),
            FileSystemKind::Plan9 => f.write_str("9P"),
            FileSystemKind::Other(magic) => write!(f, "a file system of type {magic:#x}"),
        }
    }
}

/// The file system that holds `path`, or will: a path that does not exist yet is on its parent's.
pub fn file_system(path: &Path) -> Result<FileSystem, HostError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| HostError::Look { what: "the working directory", source })?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let stat = statfs(existing).map_err(|errno| HostError::Look {
        what: "the data directory's file system",
        source: errno.into(),
    })?;
    let FsType(magic) = stat.filesystem_type();
    // The magic is 32 bits; some C libraries hand it out sign-extended.
    let kind = FileSystemKind::of_magic(magic as u64 & 0xffff_ffff);
    let block_bytes = stat.block_size().max(0) as u64;
    Ok(FileSystem {
        kind,
        free_bytes: stat.blocks_available() * block_bytes,
        total_bytes: stat.blocks() * block_bytes,
    })
}

/// Whether the disk that holds `path` writes through its cache when asked to (FUA). Where nothing says so it does not.
/// Source: Documentation/ABI/stable/sysfs-block, `queue/fua`; a partition's queue is its disk's.
pub fn has_fua(path: &Path) -> bool {
    let Ok(stat) = nix::sys::stat::stat(path) else { return false };
    let (major, minor) = (nix::sys::stat::major(stat.st_dev), nix::sys::stat::minor(stat.st_dev));
    let device = std::path::PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let says_so =
        |queue: &str| std::fs::read_to_string(device.join(queue)).is_ok_and(|text| text.trim() == "1");
    says_so("queue/fua") || says_so("../queue/fua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_on_its_parents_file_system() {
        let root = file_system(Path::new("/")).unwrap();
        let missing = file_system(Path::new("/no-such-directory/below")).unwrap();
        assert_eq!((missing.kind, missing.total_bytes), (root.kind, root.total_bytes));
        assert!(root.total_bytes > 0);
    }

    #[test]
    fn memory_is_no_disk() {
        assert!(FileSystemKind::of_magic(0xef53).is_durable());
        assert!(!FileSystemKind::of_magic(0x0102_1994).is_durable());
        assert_eq!(FileSystemKind::of_magic(0xff53_4d42), FileSystemKind::Smb);
    }
}
