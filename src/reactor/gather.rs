//! What the kernel reads of a send or write: an array of `iovec`s over shared slices, and how far it has come.
#![allow(unsafe_code)]

use bytes::Bytes;

use super::door::Slices;

/// Slices that one system call takes. Source: `UIO_MAXIOV`, linux/uio.h.
const SLICES_PER_CALL_MAX: usize = 1024;

/// Slices that a gather has room for from the start.
const SLICES_USUAL: usize = 256;

/// Bytes that one call takes at most. The kernel cuts at `MAX_RW_COUNT` (2 GiB less a page) and does not count that as short,
/// so a linked sync would run before the rest is written; stay below it.
const BYTES_PER_CALL_MAX: usize = 1 << 30;

/// The first byte not yet sent or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    slice: usize,
    /// Bytes done of that slice.
    within: usize,
    bytes: u64,
}

impl Progress {
    /// Bytes done in all.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// The slice that is next, and its bytes that are done.
    pub fn place(self) -> (usize, usize) {
        (self.slice, self.within)
    }

    /// Nothing is left. Skips empty slices.
    pub fn is_done(&mut self, slices: &[Bytes]) -> bool {
        while self.slice < slices.len() && self.within == slices[self.slice].len() {
            (self.slice, self.within) = (self.slice + 1, 0);
        }
        self.slice == slices.len()
    }

    pub fn advance(&mut self, slices: &[Bytes], mut done: usize) {
        self.bytes += done as u64;
        while done > 0 {
            let left = slices[self.slice].len() - self.within;
            if done < left {
                self.within += done;
                return;
            }
            done -= left;
            (self.slice, self.within) = (self.slice + 1, 0);
        }
    }
}

/// The part of the slices that one system call is given. On the heap: the kernel keeps its address while the operation runs.
pub(super) struct Gather {
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
    /// Bytes in `iovecs`.
    pub bytes: usize,
    /// `iovecs` reaches the end of the slices.
    pub is_last: bool,
}

impl Gather {
    pub fn new() -> Box<Gather> {
        // SAFETY: `msghdr` is a C struct of integers and pointers; all zero is its documented "nothing set" state.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Gather { iovecs: Vec::with_capacity(SLICES_USUAL), header, bytes: 0, is_last: false })
    }

    /// Points at the bytes from `progress` on, at most so many. The slices must live, unmoved, until the call's last completion: they are in the
    /// same in-flight slot, and a `Bytes` does not move what it points at.
    pub fn fill(&mut self, slices: &Slices, progress: Progress, bytes_max: usize) {
        let bytes_max = bytes_max.min(BYTES_PER_CALL_MAX);
        self.iovecs.clear();
        self.bytes = 0;
        self.is_last = true;
        for (i, slice) in slices.iter().enumerate().skip(progress.slice) {
            let skip = if i == progress.slice { progress.within } else { 0 };
            if self.iovecs.len() == SLICES_PER_CALL_MAX || self.bytes == bytes_max {
                self.is_last = false;
                break;
            }
            let length = (slice.len() - skip).min(bytes_max - self.bytes);
            self.is_last = skip + length == slice.len();
            self.bytes += length;
            if length > 0 {
                let base = slice[skip..].as_ptr().cast_mut().cast();
                self.iovecs.push(libc::iovec { iov_base: base, iov_len: length });
            }
            if !self.is_last {
                break;
            }
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len() as _;
    }

    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }

    pub fn header(&self) -> *const libc::msghdr {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `step` bytes a call and returns the sizes of the calls.
    fn drive(slices: &Slices, step: usize) -> Vec<usize> {
        let (mut gather, mut progress, mut calls, mut seen) =
            (Gather::new(), Progress::default(), Vec::new(), Vec::new());
        while !progress.is_done(slices) {
            gather.fill(slices, progress, usize::MAX);
            assert!(gather.bytes > 0);
            for iovec in gather.iovecs() {
                // SAFETY: the iovec points into `slices`, which outlives this loop.
                seen.extend_from_slice(unsafe {
                    std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len)
                });
            }
            seen.truncate(progress.bytes() as usize + step.min(gather.bytes));
            calls.push(gather.bytes);
            progress.advance(slices, step.min(gather.bytes));
        }
        assert_eq!(seen, slices.concat());
        assert_eq!(progress.bytes() as usize, seen.len());
        calls
    }

    #[test]
    fn short_calls_go_on_where_they_stopped() {
        let slices: Slices = ["abc", "", "defgh", "i", ""].into_iter().map(Bytes::from).collect();
        let check = |step, expected: &[usize]| assert_eq!(drive(&slices, step), expected, "step {step}");
        check(100, &[9]);
        check(9, &[9]);
        check(4, &[9, 5, 1]);
        check(3, &[9, 6, 3]);
        assert_eq!(drive(&Vec::new(), 1), &[] as &[usize]);
        assert_eq!(drive(&vec![Bytes::new()], 1), &[] as &[usize]);
    }

    #[test]
    fn more_slices_than_a_call_takes_go_in_several_calls() {
        let slices: Slices = (0..2500u32).map(|i| Bytes::copy_from_slice(&i.to_be_bytes())).collect();
        assert_eq!(drive(&slices, usize::MAX), &[4096, 4096, 1808]);
        let mut gather = Gather::new();
        gather.fill(&slices, Progress::default(), usize::MAX);
        assert!(!gather.is_last);
        gather.fill(&slices[..1024].to_vec(), Progress::default(), usize::MAX);
        assert!(gather.is_last);
    }

    #[test]
    fn a_call_is_given_no_more_than_it_may_have() {
        let slices: Slices = ["abc", "defgh", "i"].into_iter().map(Bytes::from).collect();
        let mut progress = Progress::default();
        let mut check = |bytes_max, expected: &[usize], is_last| {
            let mut gather = Gather::new();
            gather.fill(&slices, progress, bytes_max);
            let lengths: Vec<usize> = gather.iovecs().iter().map(|iovec| iovec.iov_len).collect();
            assert_eq!((&lengths[..], gather.is_last), (expected, is_last), "{bytes_max} from {progress:?}");
            assert_eq!(gather.bytes, expected.iter().sum::<usize>());
            progress.advance(&slices, gather.bytes);
        };
        check(2, &[2], false);
        check(1, &[1], false);
        check(5, &[5], false);
        check(1, &[1], true);
    }
}
