//! Connections that were served once and then do nothing, beside a load.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::wire::{Admin, WireError};

/// Descriptors for everything else that the generator has open.
const OTHER_FILES: u64 = 1024;

pub struct IdleConnections(#[expect(dead_code, reason = "they only have to be there")] Vec<Admin>);

/// Why there are not so many.
#[derive(Debug)]
pub enum IdleError {
    Wire(WireError),
    /// The limit of open files is too low for so many.
    OpenFiles {
        limit: u64,
        needed: u64,
    },
}

impl std::fmt::Display for IdleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdleError::Wire(error) => write!(f, "open idle connections: {error}"),
            IdleError::OpenFiles { limit, needed } => {
                write!(
                    f,
                    "so many idle connections need {needed} open files, the limit is {limit}; see ulimit -n"
                )
            }
        }
    }
}

impl std::error::Error for IdleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IdleError::Wire(error) => Some(error),
            IdleError::OpenFiles { .. } => None,
        }
    }
}

impl IdleConnections {
    /// Opens them one after another; each has asked for the versions, so the broker has all it needs for it.
    pub fn open(address: &str, count: usize) -> Result<IdleConnections, IdleError> {
        let needed = count as u64 + OTHER_FILES;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
        if soft < needed && setrlimit(Resource::RLIMIT_NOFILE, needed.max(soft), hard.max(needed)).is_err() {
            return Err(IdleError::OpenFiles { limit: hard, needed });
        }
        let open = || {
            let mut connection = Admin::connect(address)?;
            connection.ask_versions()?;
            Ok(connection)
        };
        let all: Result<Vec<Admin>, WireError> = (0..count).map(|_| open()).collect();
        all.map(IdleConnections).map_err(IdleError::Wire)
    }
}
