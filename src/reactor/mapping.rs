//! Memory that is a file's page cache.
//!
//! A store has no error to return: where the kernel cannot make the page writable (the file system has failed, the file was cut)
//! it sends SIGBUS. Left alone that ends the process, other data directories included. So a handler puts memory of our own in
//! the place of such a page, and the mapping says from then on that it has failed: what was put there counts for nothing.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::door::Mapping;
use crate::model::Position;

/// Mappings of a process at a time: one for each core and data directory.
const MAPPINGS_MAX: usize = 1024;

/// Where a mapping is, for the handler of SIGBUS.
struct Registered {
    /// 0: free; 1: being taken.
    start: AtomicUsize,
    end: AtomicUsize,
    has_failed: AtomicBool,
}

static REGISTRY: [Registered; MAPPINGS_MAX] = [const {
    Registered { start: AtomicUsize::new(0), end: AtomicUsize::new(0), has_failed: AtomicBool::new(false) }
}; MAPPINGS_MAX];

/// What handled SIGBUS before, and the size of a page.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// Installs the handler, once; whoever comes meanwhile waits for it.
fn handle_bus_errors() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed =
        INSTALLED.get_or_init(|| install().map_err(|error| error.raw_os_error().unwrap_or(libc::ENOSYS)));
    installed.map_err(io::Error::from_raw_os_error)
}

fn install() -> io::Result<()> {
    // SAFETY: plain system calls; the structures are filled before they are read, by us or by the kernel, and the handler does
    // only what is allowed in one (atomics and system calls).
    unsafe {
        let page_bytes = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).map_err(io::Error::other)?;
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) != 0 {
            return Err(io::Error::last_os_error());
        }
        // Before the handler is there, which reads it.
        BEFORE.get_or_init(|| (before, page_bytes));
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        if libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = Errno::last_raw();
    let Some((before, page_bytes)) = BEFORE.get() else { return };
    // SAFETY: the kernel hands a valid `siginfo_t` to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    let is_in = |registered: &&Registered| {
        let start = registered.start.load(Ordering::Acquire);
        start > 1 && start <= address && address < registered.end.load(Ordering::Acquire)
    };
    if let Some(registered) = REGISTRY.iter().find(is_in) {
        let page = address & !(page_bytes - 1);
        // SAFETY: the page belongs to a mapping of ours, which only `put` touches, by pointers alone; it is replaced as a whole by
        // memory that may be read and written. The store that failed is done again when the handler returns.
        let replaced = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                *page_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if replaced != libc::MAP_FAILED {
            registered.has_failed.store(true, Ordering::Release);
            Errno::set_raw(errno);
            return;
        }
    }
    // Not of ours: whoever was here before decides. A plain handler or none is put back, and the access fails again.
    // SAFETY: the address in `before` is that of a handler with this signature, as its flag says; or `before` is what the kernel
    // gave for this signal.
    unsafe {
        if before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_sigaction > libc::SIG_IGN {
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(before.sa_sigaction);
            handler(signal, info, context);
        } else {
            libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut());
        }
    }
}

/// A file's first bytes, mapped shared and writable.
pub(super) struct SharedMapping {
    start: NonNull<libc::c_void>,
    length: NonZeroUsize,
    registered: &'static Registered,
}

impl SharedMapping {
    /// The file may be closed afterwards.
    pub fn new(file: BorrowedFd<'_>, length: u64) -> io::Result<SharedMapping> {
        let length = usize::try_from(length).ok().and_then(NonZeroUsize::new);
        let length = length.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        handle_bus_errors()?;
        let take = |registered: &&Registered| {
            registered.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let registered = REGISTRY.iter().find(take).ok_or(io::Error::from(io::ErrorKind::QuotaExceeded))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so no other memory is touched; nobody is given a reference into it.
        let start = match unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) } {
            Ok(start) => start,
            Err(error) => {
                registered.start.store(0, Ordering::Release);
                return Err(error.into());
            }
        };
        // Pages that were used stay, or a page fault would wait for the disk. Where the limit forbids it they stay as long as the
        // kernel has memory to spare. Never an error: what is mapped works without.
        // SAFETY: the range was mapped a moment ago; the call changes no byte of it.
        let _ = unsafe { libc::mlock2(start.as_ptr(), length.get(), libc::MLOCK_ONFAULT as _) };
        registered.has_failed.store(false, Ordering::Relaxed);
        registered.end.store(start.as_ptr() as usize + length.get(), Ordering::Relaxed);
        registered.start.store(start.as_ptr() as usize, Ordering::Release);
        Ok(SharedMapping { start, length, registered })
    }
}

impl Mapping for SharedMapping {
    fn put(&mut self, position: Position, bytes: &[u8]) {
        let start = usize::try_from(position).expect("a position inside of the mapping");
        let end = start.checked_add(bytes.len()).expect("a length inside of the mapping");
        assert!(end <= self.length.get(), "bytes up to {end} of {} that are mapped", self.length);
        // SAFETY: `start..end` lies within the mapping, as was asserted, which lives as long as `self`; nobody else in this process
        // has a pointer into it, so the source cannot overlap. A page that cannot be had is replaced by the handler above.
        unsafe {
            let to = self.start.as_ptr().cast::<u8>().add(start);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    fn has_failed(&self) -> bool {
        // The handler runs on the thread that puts.
        self.registered.has_failed.load(Ordering::Acquire)
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `mmap` gave, is unmapped once, and is not used afterwards.
        let result = unsafe { munmap(self.start, self.length.get()) };
        self.registered.start.store(0, Ordering::Release);
        assert!(result.is_ok(), "{} bytes were unmapped twice", self.length);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_put_into_a_mapping_is_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mut mapping = SharedMapping::new(file.as_fd(), 16384).unwrap();
        mapping.put(4090, b"across two pages");
        let mut found = [0; 16];
        file.read_exact_at(&mut found, 4090).unwrap();
        assert_eq!(&found, b"across two pages");
        // What was behind the end can be used once the file has grown.
        file.set_len(16384).unwrap();
        mapping.put(16380, b"last");
        drop(mapping);
        file.read_exact_at(&mut found[..4], 16380).unwrap();
        assert_eq!(&found[..4], b"last");
    }

    #[test]
    #[should_panic(expected = "bytes up to 4100 of 4096")]
    fn nothing_is_put_outside() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        SharedMapping::new(file.as_fd(), 4096).unwrap().put(4090, &[1; 10]);
    }

    #[test]
    fn a_page_that_cannot_be_had_is_told_of_and_ends_nothing() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16384).unwrap();
        let mut mapping = SharedMapping::new(file.as_fd(), 16384).unwrap();
        let mut other = SharedMapping::new(file.as_fd(), 4096).unwrap();
        mapping.put(0, b"there");
        assert!(!mapping.has_failed());
        file.set_len(4096).unwrap();
        // Across the end of the file.
        mapping.put(4090, b"half of it is gone");
        mapping.put(12288, &[1; 4096]);
        assert!(mapping.has_failed());
        other.put(0, b"still");
        assert!(!other.has_failed());
        let mut found = [0; 5];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"still");
        drop(mapping);
        // Its place is taken by another, which has not failed.
        let again = SharedMapping::new(file.as_fd(), 4096).unwrap();
        assert!(!again.has_failed());
    }
}
