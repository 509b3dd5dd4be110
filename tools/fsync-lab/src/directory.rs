//! The one place on disk that this tool touches: a directory of its own, made here and removed here.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PREFIX: &str = "corelog-fsync-lab.";

/// Why there is no place to work in.
#[derive(Debug)]
pub enum DirectoryError {
    Unreachable { path: PathBuf, source: io::Error },
    Device { path: PathBuf },
    NotADirectory { path: PathBuf },
    NoSpace { path: PathBuf, needed_bytes: u64, free_bytes: u64 },
    Create { path: PathBuf, source: io::Error },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Unreachable { path, source } => write!(f, "{}: {source}", path.display()),
            DirectoryError::Device { path } => write!(
                f,
                "{} is a device; this tool never writes to devices: give a directory on a file system that lies on it",
                path.display()
            ),
            DirectoryError::NotADirectory { path } => write!(f, "{} is not a directory", path.display()),
            DirectoryError::NoSpace { path, needed_bytes, free_bytes } => write!(
                f,
                "{} has {} MiB free, and {} MiB are needed (with a tenth to spare); free some, or measure less",
                path.display(),
                free_bytes >> 20,
                needed_bytes >> 20
            ),
            DirectoryError::Create { path, source } => write!(f, "create {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DirectoryError::Unreachable { source, .. } | DirectoryError::Create { source, .. } => {
                Some(source)
            }
            _ => None,
        }
    }
}

/// For the hook that runs when this program panics: release builds abort, and nothing is dropped then.
static IN_USE: OnceLock<PathBuf> = OnceLock::new();

/// A directory that exists as long as this value.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory under `parent`, where `needed_bytes` and a tenth more must be free.
    pub fn create(parent: &Path, needed_bytes: u64) -> Result<Directory, DirectoryError> {
        let unreachable = |source| DirectoryError::Unreachable { path: parent.to_owned(), source };
        let kind = fs::metadata(parent).map_err(unreachable)?.file_type();
        if kind.is_block_device() || kind.is_char_device() {
            return Err(DirectoryError::Device { path: parent.to_owned() });
        }
        if !kind.is_dir() {
            return Err(DirectoryError::NotADirectory { path: parent.to_owned() });
        }
        let parent = parent.canonicalize().map_err(unreachable)?;
        let free_bytes = free_bytes(&parent).map_err(unreachable)?;
        let needed_bytes = needed_bytes + needed_bytes / 10;
        if free_bytes < needed_bytes {
            return Err(DirectoryError::NoSpace { path: parent, needed_bytes, free_bytes });
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        // Fails if anything is there: what was not made here is not touched.
        fs::create_dir(&path).map_err(|source| DirectoryError::Create { path: path.clone(), source })?;
        if IN_USE.set(path.clone()).is_ok() {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                before(panic);
                if let Some(path) = IN_USE.get() {
                    let _ = fs::remove_dir_all(path);
                }
            }));
        }
        Ok(Directory { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directories of runs that were killed with no chance to clean up.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let is_left = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        };
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(is_left).collect()
    }

    /// Removes the directory, and says so if it cannot.
    pub fn remove(self) -> io::Result<()> {
        let removed = fs::remove_dir_all(&self.path);
        std::mem::forget(self);
        removed
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("corelog-fsync-lab: {} could not be removed: {error}", self.path.display());
        }
    }
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_with_room_will_do() {
        let refused = |path: &str, bytes: u64| Directory::create(Path::new(path), bytes).unwrap_err();
        assert!(matches!(refused("/dev/null", 0), DirectoryError::Device { .. }));
        assert!(matches!(refused("/proc/self/status", 0), DirectoryError::NotADirectory { .. }));
        assert!(matches!(refused("/no/such/place", 0), DirectoryError::Unreachable { .. }));
        let parent = std::env::temp_dir();
        let parent = parent.to_str().unwrap();
        assert!(matches!(refused(parent, u64::MAX / 2), DirectoryError::NoSpace { .. }));
    }

    #[test]
    fn the_directory_goes_with_its_value() {
        let parent = std::env::temp_dir().join(format!("corelog-fsync-lab-parent-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let directory = Directory::create(&parent, 0).unwrap();
        let path = directory.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        let again = Directory::create(&parent, 0).unwrap_err();
        assert!(matches!(again, DirectoryError::Create { .. }), "it takes over nothing");
        drop(directory);
        assert!(!path.exists());
        // No process has this number: PID_MAX_LIMIT is 2^22.
        fs::create_dir(parent.join("corelog-fsync-lab.99999999")).unwrap();
        let directory = Directory::create(&parent, 0).unwrap();
        assert_eq!(directory.left_behind().len(), 1);
        directory.remove().unwrap();
        fs::remove_dir_all(&parent).unwrap();
    }
}
