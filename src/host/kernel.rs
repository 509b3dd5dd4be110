//! The kernel's version, and why it may refuse io_uring.

use std::fmt;
use std::io;

use super::HostError;

/// A kernel's version; the patch level does not matter here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kernel {
    pub major: u32,
    pub minor: u32,
}

/// 6.1: `IORING_SETUP_DEFER_TASKRUN`, on which the shard's loop rests. Source: kernel commit c0e0d6ba25f1.
pub const KERNEL_FLOOR: Kernel = Kernel { major: 6, minor: 1 };

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Kernel {
    /// Reads a release such as `6.1.0-18-amd64`.
    fn parse(release: &str) -> Option<Kernel> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Kernel { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

pub(super) fn check() -> Result<(), HostError> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| HostError::Look { what: "the kernel's release", source: errno.into() })?;
    let release = name.release().to_string_lossy();
    match Kernel::parse(&release) {
        Some(found) if found < KERNEL_FLOOR => Err(HostError::Kernel { found }),
        Some(_) => Ok(()),
        None => Err(HostError::UnknownKernel { release: release.into_owned() }),
    }
}

/// The likely cause of a ring that could not be made, for `main` to print; `needed_bytes` is what all rings lock. `None`: the error says enough itself.
/// Source of the cases: io_uring_setup(2), ERRORS.
pub fn why_io_uring_is_refused(error: &io::Error, needed_bytes: u64) -> Option<HostError> {
    match error.raw_os_error()? {
        libc::ENOSYS => Some(HostError::IoUringMissing),
        libc::ENOMEM => {
            let limit_bytes = super::resources::memlock_bytes().unwrap_or(0);
            Some(HostError::Memlock { limit_bytes, needed_bytes })
        }
        libc::EPERM | libc::EACCES => {
            let level = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match level.ok().and_then(|text| text.trim().parse().ok()) {
                Some(level @ 1..) => Some(HostError::IoUringDisabled { level }),
                _ => Some(HostError::IoUringFiltered),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let check = |release: &str, expected: Option<(u32, u32)>| {
            assert_eq!(Kernel::parse(release).map(|k| (k.major, k.minor)), expected, "{release}");
        };
        check("6.1.0-18-amd64", Some((6, 1)));
        check("6.18.44", Some((6, 18)));
        check("5.15", Some((5, 15)));
        check("6.1-rc3", Some((6, 1)));
        check("next", None);
        assert!(
            Kernel { major: 5, minor: 19 } < KERNEL_FLOOR && Kernel { major: 6, minor: 10 } > KERNEL_FLOOR
        );
    }

    #[test]
    fn refusals_have_a_cause() {
        let why = |errno| why_io_uring_is_refused(&io::Error::from_raw_os_error(errno), 2);
        assert!(matches!(why(libc::ENOSYS), Some(HostError::IoUringMissing)));
        assert!(matches!(why(libc::ENOMEM), Some(HostError::Memlock { .. })));
        assert!(matches!(
            why(libc::EPERM),
            Some(HostError::IoUringFiltered | HostError::IoUringDisabled { .. })
        ));
        assert!(why(libc::EINVAL).is_none());
    }
}
