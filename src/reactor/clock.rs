//! The kernel's clocks and random bytes.
#![allow(unsafe_code)]

use crate::model::{Monotonic, Timestamp};

/// `CLOCK_MONOTONIC`, through the vDSO: no system call. One clock for all threads of the process.
pub fn monotonic() -> Monotonic {
    let (seconds, nanos) = read(libc::CLOCK_MONOTONIC);
    Monotonic(seconds as u64 * 1_000_000_000 + nanos as u64)
}

/// Milliseconds since the Unix epoch on `CLOCK_REALTIME`.
pub fn wall() -> Timestamp {
    let (seconds, nanos) = read(libc::CLOCK_REALTIME);
    seconds * 1000 + nanos / 1_000_000
}

fn read(clock: libc::clockid_t) -> (i64, i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock {clock} cannot be read: {}", std::io::Error::last_os_error());
    (time.tv_sec, time.tv_nsec)
}

/// Random words from the kernel, drawn 32 at a time.
pub(super) struct Random {
    words: [u64; 32],
    used: usize,
}

/// getrandom(2): requests of up to 256 bytes are neither cut short nor interrupted once the kernel's pool is ready.
const _: () = assert!(size_of::<[u64; 32]>() == 256);

impl Random {
    pub fn new() -> Random {
        Random { words: [0; 32], used: 32 }
    }

    pub fn next(&mut self) -> u64 {
        if self.used == self.words.len() {
            let size = size_of_val(&self.words);
            // SAFETY: the pointer and length name `words`, which lives through the call.
            let read = unsafe { libc::getrandom(self.words.as_mut_ptr().cast(), size, 0) };
            assert_eq!(read, size as isize, "no random bytes: {}", std::io::Error::last_os_error());
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }
}
