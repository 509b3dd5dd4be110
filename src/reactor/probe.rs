//! What the reactor needs of the kernel and of this process's limits, looked at once before anything is started.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use nix::sys::resource::{Resource, getrlimit};

use super::provided::ProvidedBuffers;
use super::ring::RingOptions;

/// The oldest kernel that has all we use: `DEFER_TASKRUN` came with it.
const KERNEL_FLOOR: (u32, u32) = (6, 1);

/// Operations that `submission.rs` and `ring.rs` submit.
const OPERATIONS: [(u8, &str); 11] = [
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::RecvMulti::CODE, "RECV"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Read::CODE, "READ"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::MsgRingData::CODE, "MSG_RING"),
];

/// What was found, for the start-up report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFacts {
    pub kernel: String,
    /// `None`: not limited.
    pub locked_bytes_max: Option<u64>,
    pub open_files_max: u64,
}

/// Why rings cannot run here. Shown as one line: the cause, and what to do.
#[derive(Debug)]
pub enum ProbeError {
    KernelTooOld {
        found: String,
    },
    NotBuilt,
    SwitchedOff {
        value: u32,
    },
    Forbidden,
    LockedMemory {
        limit_bytes: u64,
        ring_count: u16,
    },
    OpenFiles {
        limit: u64,
        sockets_max: u32,
    },
    MissingOperation {
        name: &'static str,
        kernel: String,
    },
    MissingFeature {
        name: &'static str,
        kernel: String,
    },
    /// Anything else the kernel said, and to what.
    Kernel {
        step: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = KERNEL_FLOOR;
        match self {
            ProbeError::KernelTooOld { found } => {
                write!(
                    f,
                    "this kernel is Linux {found}, and {major}.{minor} is the oldest that works: boot a newer one"
                )
            }
            ProbeError::NotBuilt => write!(
                f,
                "the kernel has no io_uring (ENOSYS): it needs CONFIG_IO_URING=y, and a sandbox that passes io_uring_setup on"
            ),
            ProbeError::SwitchedOff { value } => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}): run `sysctl -w kernel.io_uring_disabled=0` as root"
            ),
            ProbeError::Forbidden => write!(
                f,
                "io_uring is forbidden (EPERM), by a seccomp filter as containers have: allow io_uring_setup, io_uring_enter and \
                 io_uring_register, in Docker with `--security-opt seccomp=unconfined` or a profile of your own"
            ),
            ProbeError::LockedMemory { limit_bytes, ring_count } => write!(
                f,
                "locked memory is limited to {} KiB, too little for {ring_count} rings: run `ulimit -l unlimited`, or set \
                 LimitMEMLOCK=infinity in the systemd unit",
                limit_bytes / 1024
            ),
            ProbeError::OpenFiles { limit, sockets_max } => write!(
                f,
                "open files are limited to {limit}, below the {sockets_max} connections of a core: run `ulimit -n {sockets_max}`, \
                 or set LimitNOFILE={sockets_max} in the systemd unit"
            ),
            ProbeError::MissingOperation { name, kernel } => write!(
                f,
                "Linux {kernel} does not offer the io_uring operation {name}: run an unrestricted kernel from {major}.{minor} on"
            ),
            ProbeError::MissingFeature { name, kernel } => write!(
                f,
                "Linux {kernel} does not offer {name} of io_uring: run an unrestricted kernel from {major}.{minor} on"
            ),
            ProbeError::Kernel { step, error } => {
                write!(f, "{step}: {error}: see the kernel's log (`dmesg`) for the reason")
            }
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProbeError::Kernel { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl ProbeError {
    /// The cause behind an error of [`Ring::new`](super::Ring::new).
    pub fn from_setup(error: io::Error, options: &RingOptions, ring_count: u16) -> ProbeError {
        let limit = |resource| getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
        let limits = Limits {
            kernel: kernel_release(),
            switched_off: io_uring_disabled(),
            locked_bytes: limit(Resource::RLIMIT_MEMLOCK),
            open_files: limit(Resource::RLIMIT_NOFILE),
        };
        explain(error, "make an io_uring", options, ring_count, &limits)
    }
}

/// What an error number may come from.
struct Limits {
    kernel: String,
    switched_off: u32,
    locked_bytes: u64,
    open_files: u64,
}

fn explain(
    error: io::Error,
    step: &'static str,
    options: &RingOptions,
    ring_count: u16,
    limits: &Limits,
) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::NotBuilt,
        Some(libc::EPERM | libc::EACCES) if limits.switched_off != 0 => {
            ProbeError::SwitchedOff { value: limits.switched_off }
        }
        Some(libc::EPERM | libc::EACCES) => ProbeError::Forbidden,
        Some(libc::ENOMEM) if limits.locked_bytes != libc::RLIM_INFINITY => {
            ProbeError::LockedMemory { limit_bytes: limits.locked_bytes, ring_count }
        }
        Some(libc::EMFILE) if limits.open_files < u64::from(options.sockets_max) + 64 => {
            ProbeError::OpenFiles { limit: limits.open_files, sockets_max: options.sockets_max }
        }
        Some(libc::EINVAL) => {
            ProbeError::MissingFeature { name: "a flag or size", kernel: limits.kernel.clone() }
        }
        _ => ProbeError::Kernel { step, error },
    }
}

/// Checks that `ring_count` rings of these sizes can be made and do what we need. Makes them all for a moment, so that limits
/// that add up are met here and not at the last shard.
pub fn probe(options: &RingOptions, ring_count: u16) -> Result<HostFacts, ProbeError> {
    let kernel = kernel_release();
    if kernel_version(&kernel).is_some_and(|version| version < KERNEL_FLOOR) {
        return Err(ProbeError::KernelTooOld { found: kernel });
    }
    let limit = |resource, step| {
        getrlimit(resource)
            .map(|(soft, _)| soft)
            .map_err(|error| ProbeError::Kernel { step, error: error.into() })
    };
    let limits = Limits {
        switched_off: io_uring_disabled(),
        locked_bytes: limit(Resource::RLIMIT_MEMLOCK, "read the limit of locked memory")?,
        open_files: limit(Resource::RLIMIT_NOFILE, "read the limit of open files")?,
        kernel: kernel.clone(),
    };
    let explained = |step| {
        let limits = &limits;
        move |error| explain(error, step, options, ring_count, limits)
    };
    let mut rings: Vec<(IoUring, ProvidedBuffers)> = Vec::new();
    for _ in 0..ring_count {
        let ring = options.build().map_err(explained("make an io_uring"))?;
        check_operations(&ring, &kernel)?;
        let files = ring.submitter().register_files_sparse(options.sockets_max);
        files.map_err(explained("register a table of direct descriptors"))?;
        let buffers =
            ProvidedBuffers::register(&ring, options.receive_buffer_count, options.receive_buffer_bytes);
        rings.push((ring, buffers_of(&kernel, buffers)?));
    }
    Ok(HostFacts {
        kernel,
        locked_bytes_max: (limits.locked_bytes != libc::RLIM_INFINITY).then_some(limits.locked_bytes),
        open_files_max: limits.open_files,
    })
}

fn buffers_of(kernel: &str, buffers: io::Result<ProvidedBuffers>) -> Result<ProvidedBuffers, ProbeError> {
    buffers.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => {
            ProbeError::MissingFeature { name: "provided buffer rings", kernel: kernel.to_owned() }
        }
        _ => ProbeError::Kernel { step: "register a ring of buffers", error },
    })
}

fn check_operations(ring: &IoUring, kernel: &str) -> Result<(), ProbeError> {
    let mut found = Probe::new();
    let probed = ring.submitter().register_probe(&mut found);
    probed.map_err(|error| ProbeError::Kernel { step: "ask for the operations of io_uring", error })?;
    for (code, name) in OPERATIONS {
        if !found.is_supported(code) {
            return Err(ProbeError::MissingOperation { name, kernel: kernel.to_owned() });
        }
    }
    let parameters = ring.params();
    let features = [
        (parameters.is_feature_nodrop(), "completions that are never dropped (NODROP)"),
        (parameters.is_feature_ext_arg(), "waiting with a timeout (EXT_ARG)"),
        (parameters.is_feature_skip_cqe_on_success(), "success without a completion (CQE_SKIP)"),
        (parameters.is_feature_submit_stable(), "stable submissions (SUBMIT_STABLE)"),
    ];
    match features.into_iter().find(|(is_there, _)| !is_there) {
        Some((_, name)) => Err(ProbeError::MissingFeature { name, kernel: kernel.to_owned() }),
        None => Ok(()),
    }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::from("unknown"), |name| name.release().to_string_lossy().into_owned())
}

/// Major and minor number of a release such as `6.1.0-13-amd64`. `None` if it does not start so: then the kernel's own answers decide.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// 0 on kernels before 6.6, which do not have the switch.
fn io_uring_disabled() -> u32 {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    value.ok().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        let check = |release, expected| assert_eq!(kernel_version(release), expected, "{release}");
        check("6.1.0-13-amd64", Some((6, 1)));
        check("5.15.0-91-generic", Some((5, 15)));
        check("6.18", Some((6, 18)));
        check("7.0-rc3", Some((7, 0)));
        check("mainline", None);
        assert!(
            kernel_version("5.19.17") < Some(KERNEL_FLOOR) && kernel_version("10.0.1") > Some(KERNEL_FLOOR)
        );
    }

    #[test]
    fn every_cause_has_a_remedy_in_one_line() {
        let limits = |switched_off, locked_bytes, open_files| Limits {
            kernel: String::from("6.1.0"),
            switched_off,
            locked_bytes,
            open_files,
        };
        let unlimited = libc::RLIM_INFINITY;
        let check = |code, limits: Limits, expected: &str| {
            let error = io::Error::from_raw_os_error(code);
            let text = explain(error, "make an io_uring", &RingOptions::default(), 4, &limits).to_string();
            assert!(text.contains(expected), "{text:?} does not say {expected:?}");
            assert!(!text.contains('\n'));
        };
        check(libc::ENOSYS, limits(0, unlimited, 9999), "CONFIG_IO_URING=y");
        check(libc::EPERM, limits(2, unlimited, 9999), "sysctl -w kernel.io_uring_disabled=0");
        check(libc::EPERM, limits(0, unlimited, 9999), "seccomp");
        check(
            libc::ENOMEM,
            limits(0, 65536, 9999),
            "limited to 64 KiB, too little for 4 rings: run `ulimit -l unlimited`",
        );
        check(libc::ENOMEM, limits(0, unlimited, 9999), "Cannot allocate memory");
        check(libc::EMFILE, limits(0, unlimited, 256), "ulimit -n 1024");
        check(libc::EMFILE, limits(0, unlimited, 99999), "Too many open files");
        check(libc::EINVAL, limits(0, unlimited, 9999), "Linux 6.1.0 does not offer");
    }
}
