//! Commands that are programs of their own, installed beside this one, so that what they need stays out of the broker.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program behind `corelog fsync-lab`.
pub const FSYNC_LAB: &str = "corelog-fsync-lab";

/// The program behind `corelog bench`.
pub const BENCH: &str = "corelog-bench";

/// Why a program beside this one does not run.
#[derive(Debug)]
pub enum ToolError {
    /// Where this program lies cannot be told.
    Unlocated(io::Error),
    Missing {
        path: PathBuf,
    },
    Start {
        path: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolError::Unlocated(error) => write!(f, "find the folder of this program: {error}"),
            ToolError::Missing { path } => write!(
                f,
                "{} is not there; build it beside this program with `cargo build --release --workspace`",
                path.display()
            ),
            ToolError::Start { path, source } => write!(f, "start {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ToolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ToolError::Unlocated(source) | ToolError::Start { source, .. } => Some(source),
            ToolError::Missing { .. } => None,
        }
    }
}

/// Becomes the program beside this one, so that signals, terminal and exit code are its own. Returns only if that fails.
pub fn run(name: &str, arguments: &[OsString]) -> ToolError {
    match std::env::current_exe() {
        Ok(this) => become_program(&this.with_file_name(name), arguments),
        Err(error) => ToolError::Unlocated(error),
    }
}

fn become_program(path: &Path, arguments: &[OsString]) -> ToolError {
    let source = Command::new(path).args(arguments).exec();
    match source.kind() {
        io::ErrorKind::NotFound => ToolError::Missing { path: path.to_owned() },
        _ => ToolError::Start { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_way_to_build_it() {
        let error = become_program(Path::new("/no/such/corelog-fsync-lab"), &[]);
        assert!(matches!(error, ToolError::Missing { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("/no/such/corelog-fsync-lab") && text.contains("cargo build"), "{text}");
        // A folder is there, but is no program.
        assert!(matches!(become_program(Path::new("/"), &[]), ToolError::Start { .. }));
    }
}
