//! The process that is left when all else is killed: it makes the working directory and removes it.
//!
//! The harness proper runs in a child with a mount namespace of its own. Whatever ends the child, a panic or SIGKILL too,
//! the kernel ends its children (they die with their parent), drops the namespace with its mounts, and with the last of
//! these the loop devices. So nothing has to be undone by hand; what is left are files, and they lie in one directory.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};

use crate::kernel::die_with_parent;

/// Tells the child that it is one, and where it works.
const WORK_VARIABLE: &str = "CORELOG_POWERCUT_WORK";
/// As a shell says "ended by SIGINT".
const INTERRUPTED: u8 = 130;

/// The working directory, if this process is the child.
pub fn work_directory() -> Option<PathBuf> {
    std::env::var_os(WORK_VARIABLE).map(PathBuf::from)
}

/// Runs this program again as the child, below `parent`, and answers with its exit code. The directory stays when the child
/// failed.
pub fn supervise(parent: Option<PathBuf>) -> io::Result<ExitCode> {
    let parent = parent.unwrap_or_else(std::env::temp_dir);
    let work = std::path::absolute(parent.join(format!("corelog-powercut-{}", std::process::id())))?;
    std::fs::create_dir_all(&work)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(WORK_VARIABLE, &work);
    let mut child = die_with_parent(&mut command).spawn()?;
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD]);
    signals.thread_block()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if signals.wait()? != Signal::SIGCHLD {
            child.kill()?;
            child.wait()?;
            std::fs::remove_dir_all(&work)?;
            eprintln!("interrupted; {} is removed", work.display());
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if status.success() {
        std::fs::remove_dir_all(&work)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("image, history and logs are kept in {}", work.display());
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(code as u8))
}

/// From here on what is mounted is this thread's own, and that of the threads and processes it starts.
/// Errors: needs the right to administer the system (CAP_SYS_ADMIN).
pub fn keep_mounts_private() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}
