//! What a tool leaves behind: text on the terminal, and files that are there whole or not at all.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a result could not be delivered.
#[derive(Debug)]
pub enum OutputError {
    File { path: PathBuf, source: io::Error },
    Print(io::Error),
}

impl OutputError {
    /// Whether the reader of the output has gone, as `head` does: no failure of the tool.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, OutputError::Print(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::File { path, source } => write!(f, "write {}: {source}", path.display()),
            OutputError::Print(source) => write!(f, "cannot write the result: {source}"),
        }
    }
}

impl std::error::Error for OutputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OutputError::File { source, .. } | OutputError::Print(source) => Some(source),
        }
    }
}

/// Whether a file can be written there, asked first: a long run must not end with a path that cannot be written to.
pub fn check_target(path: &Path) -> Result<(), OutputError> {
    let temporary = temporary_path(path);
    let checked = match path.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => std::fs::write(&temporary, "").and_then(|()| std::fs::remove_file(&temporary)),
    };
    checked.map_err(|source| OutputError::File { path: path.to_owned(), source })
}

/// Whole or not at all: the new text takes the old one's place when it is complete.
pub fn write_whole(path: &Path, text: &str) -> Result<(), OutputError> {
    let temporary = temporary_path(path);
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // It may never have been made; the error that is told is the first.
        let _ = std::fs::remove_file(&temporary);
        OutputError::File { path: path.to_owned(), source }
    })
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// On standard output, flushed.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = std::env::temp_dir().join(format!("corelog-measure-output-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("report.html");
        for text in ["first, and longer", "second"] {
            check_target(&path).unwrap();
            write_whole(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        // A folder stands where the file should: the rename fails, and the temporary file goes.
        std::fs::create_dir(folder.join("taken")).unwrap();
        std::fs::write(folder.join("taken/x"), "").unwrap();
        let error = write_whole(&folder.join("taken"), "x").unwrap_err();
        assert!(error.to_string().contains("taken") && !error.is_broken_pipe(), "{error}");
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["report.html", "taken"]);
        for wrong in ["report.html/below", "gone/below", "taken"] {
            assert!(check_target(&folder.join(wrong)).is_err(), "{wrong}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
