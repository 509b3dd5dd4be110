//! What the tool asks of Linux that the standard library does not offer, and all of its `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use corelog_measure::pin::to_cpu;
use corelog_measure::signals;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// What O_DIRECT and every disk here are content with.
pub const BLOCK_BYTES: usize = 4096;

/// Once signals are caught, Ctrl-C and SIGTERM do not end the process: what was mounted and started is taken down on the way
/// out of an error.
pub fn check_interrupted() -> io::Result<()> {
    match signals::received() {
        Some(_) => Err(io::Error::other("interrupted")),
        None => Ok(()),
    }
}

#[allow(clippy::disallowed_methods, reason = "a load generator has its own clock")]
pub fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "nothing is measured while the tool sleeps")]
pub fn sleep(time: Duration) -> io::Result<()> {
    std::thread::sleep(time);
    check_interrupted()
}

/// Binds the calling thread to one CPU, with timers as exact as the kernel has them.
pub fn pin(cpu: usize) -> io::Result<()> {
    to_cpu(cpu)?;
    Ok(nix::sys::prctl::set_timerslack(1)?)
}

/// Which sockets can be read or written. Level-triggered.
pub struct Readiness {
    epoll: nix::sys::epoll::Epoll,
    events: Vec<libc::epoll_event>,
}

impl Readiness {
    pub fn new(count: usize) -> io::Result<Readiness> {
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Readiness { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; count.max(1)] })
    }

    pub fn add(&self, socket: &impl std::os::fd::AsFd, index: usize) -> io::Result<()> {
        Ok(self.epoll.add(socket, Self::event(index, false))?)
    }

    pub fn set(&self, socket: &impl std::os::fd::AsFd, index: usize, writable: bool) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut Self::event(index, writable))?)
    }

    fn event(index: usize, writable: bool) -> nix::sys::epoll::EpollEvent {
        use nix::sys::epoll::{EpollEvent, EpollFlags};
        let writable = if writable { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        EpollEvent::new(EpollFlags::EPOLLIN | writable, index as u64)
    }

    /// Sleeps until a socket is ready or the time is over; zero only looks. Returns indexes and whether each can be written.
    pub fn wait(&mut self, time: Duration) -> io::Result<impl Iterator<Item = (usize, bool)> + use<'_>> {
        let time = libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(time.subsec_nanos()),
        };
        let room = libc::c_int::try_from(self.events.len()).expect("a few thousand sockets");
        // SAFETY: `events` has room for `room` events, `time` lives through the call, and no signal mask is given.
        let count = unsafe {
            libc::epoll_pwait2(
                self.epoll.0.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                &raw const time,
                std::ptr::null(),
            )
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        let writable = libc::EPOLLOUT as u32;
        Ok(self.events[..count].iter().map(move |event| (event.u64 as usize, event.events & writable != 0)))
    }
}

/// Bytes that begin at a block boundary, as O_DIRECT wants them.
pub struct Aligned {
    bytes: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Aligned {
    pub fn filled(length: usize, with: u8) -> Aligned {
        let bytes = vec![with; length + BLOCK_BYTES];
        let begin = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { bytes, begin, length }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.begin..self.begin + self.length]
    }
}

fn ring(entries: u32) -> io::Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().build(entries)
}

/// Durable writes of one buffer into files through a ring: each a write linked to an fdatasync, as a broker would do it.
pub struct Commits {
    ring: IoUring,
    buffer: Aligned,
    files: Vec<File>,
    /// Completions that the commit under way on each file still owes.
    owed: Vec<u8>,
}

impl Commits {
    /// To be used by the thread that made it.
    pub fn new(buffer: Aligned, files: Vec<File>) -> io::Result<Commits> {
        let entries = u32::try_from(files.len() * 2).expect("a few files").max(8);
        Ok(Commits { ring: ring(entries)?, buffer, owed: vec![0; files.len()], files })
    }

    pub fn begin(&mut self, file: usize, position: u64) -> io::Result<()> {
        assert_eq!(self.owed[file], 0, "one commit of a file at a time");
        let fd = types::Fd(self.files[file].as_raw_fd());
        let bytes = self.buffer.as_slice();
        let length = u32::try_from(bytes.len()).expect("at most a few MiB");
        let write = opcode::Write::new(fd, bytes.as_ptr(), length).offset(position).build();
        let write = write.user_data(file as u64 * 2).flags(squeue::Flags::IO_LINK);
        let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let sync = sync.user_data(file as u64 * 2 + 1);
        // SAFETY: the buffer is only read, is never changed or moved while `self` lives, and `drop` waits for all that is
        // under way; the file is open as long as `self`.
        unsafe { self.ring.submission().push_multiple(&[write, sync]) }
            .expect("two entries a file, one commit of a file at a time");
        self.owed[file] = 2;
        Ok(())
    }

    /// Submits what was begun and sleeps until at least one commit is done; appends the files whose commits are.
    pub fn wait(&mut self, done: &mut Vec<usize>) -> io::Result<()> {
        while done.is_empty() {
            self.ring.submit_and_wait(1)?;
            let completions: Vec<cqueue::Entry> = self.ring.completion().collect();
            for completion in completions {
                let file = (completion.user_data() / 2) as usize;
                self.owed[file] -= 1;
                let wanted = match completion.user_data() % 2 {
                    0 => self.buffer.as_slice().len() as i32,
                    _ => 0,
                };
                if completion.result() < 0 {
                    return Err(io::Error::from_raw_os_error(-completion.result()));
                }
                if completion.result() != wanted {
                    return Err(io::Error::other("short write"));
                }
                if self.owed[file] == 0 {
                    done.push(file);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        while self.owed.iter().any(|owed| *owed > 0) {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // The kernel may still read it: leaked, for it must not be given to anyone else.
                    std::mem::forget(std::mem::replace(&mut self.buffer, Aligned::filled(0, 0)));
                    return;
                }
            }
            let completions: Vec<cqueue::Entry> = self.ring.completion().collect();
            for completion in completions {
                self.owed[(completion.user_data() / 2) as usize] -= 1;
            }
        }
    }
}

/// Answers every `request` bytes that arrive with `reply` bytes, through a ring, until the peer closes.
pub fn echo(socket: RawFd, request: usize, reply: usize) -> io::Result<()> {
    const RECEIVE: u64 = 0;
    let mut ring = ring(8)?;
    // Leaked, once a run: an early return must not free what the kernel may still touch.
    let received = vec![0_u8; request].leak();
    let answer = &*vec![b'r'; reply].leak();
    let fd = types::Fd(socket);
    let flags = libc::MSG_WAITALL;
    loop {
        let length = u32::try_from(request).expect("a small request");
        let receive = opcode::Recv::new(fd, received.as_mut_ptr(), length).flags(flags).build();
        // SAFETY: the buffer is never freed, and nobody reads it while the receive is under way.
        unsafe { ring.submission().push(&receive.user_data(RECEIVE)) }.expect("eight entries, two used");
        let mut waiting = true;
        while waiting {
            ring.submit_and_wait(1)?;
            for completion in ring.completion() {
                match completion.result() {
                    error if error < 0 => return Err(io::Error::from_raw_os_error(-error)),
                    _ if completion.user_data() != RECEIVE => {}
                    0 => return Ok(()),
                    count if count as usize == request => waiting = false,
                    _ => return Err(io::Error::other("a torn request")),
                }
            }
        }
        let length = u32::try_from(reply).expect("a small reply");
        let send = opcode::Send::new(fd, answer.as_ptr(), length).build().user_data(RECEIVE + 1);
        // SAFETY: the buffer is never freed and never changed.
        unsafe { ring.submission().push(&send) }.expect("eight entries, two used");
    }
}
