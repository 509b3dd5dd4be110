//! Descriptors and what is in flight on them: sockets in the ring's own table (direct descriptors), listeners and files.
//!
//! Invariant: a descriptor is closed when nothing is in flight on it, and not before: the kernel would go on with the old
//! operation while the number already names something else.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;

use super::door::{File, Listener, Socket};
use super::inflight::Key;
use super::std_files::descriptor;

/// A `Socket` is | generation: 12 bits | index in the ring's table: 20 bits |.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << (32 - INDEX_BITS)) - 1;

/// Most sockets a ring can have. The kernel's own limit for direct descriptors is the same.
pub(super) const SOCKETS_MAX: u32 = 1 << INDEX_BITS;

/// A send of up to so many bytes is a small reply.
const SMALL_SEND_BYTES_MAX: usize = 64 << 10;

/// A peer that was sent a large reply waits for small ones again after so many of them: it has read what there was.
const SMALLS_AFTER_LARGE: u8 = 64;

#[derive(Default)]
pub(super) struct SocketState {
    generation: u32,
    is_open: bool,
    /// Operations of other rooms on it, `CloseSocket` aside.
    pub in_flight: u32,
    pub receive: Option<Key>,
    /// What it received last left room in the buffer: there was no more. Nothing is known of one that is new.
    pub says_little: bool,
    /// A `CancelReceive` was asked for while the receive ran: it is not armed again.
    pub cancel_wanted: bool,
    pub is_sending: bool,
    /// It was sent a large reply: its small ones wait behind such, not beside them, until so many in a row were small.
    smalls_until_waiting: u8,
    /// The `CloseSocket` that waits for the rest to end.
    pub close: Option<Key>,
}

impl SocketState {
    /// Takes note of a reply. Whether the peer is one that waits for small ones.
    pub fn note_reply(&mut self, bytes: usize) -> bool {
        if bytes > SMALL_SEND_BYTES_MAX {
            self.smalls_until_waiting = SMALLS_AFTER_LARGE;
            return false;
        }
        let waits = self.smalls_until_waiting == 0;
        self.smalls_until_waiting = self.smalls_until_waiting.saturating_sub(1);
        waits
    }
}

/// The ring's table of direct descriptors.
pub(super) struct Sockets {
    states: Box<[SocketState]>,
    free: Vec<u32>,
}

impl Sockets {
    pub fn new(capacity: u32) -> Sockets {
        assert!(capacity <= SOCKETS_MAX, "{capacity} sockets, at most {SOCKETS_MAX}");
        Sockets {
            states: (0..capacity).map(|_| SocketState::default()).collect(),
            free: (0..capacity).rev().collect(),
        }
    }

    /// Takes a place in the table. `None`: all are in use.
    pub fn open(&mut self) -> Option<Socket> {
        let index = self.free.pop()?;
        let state = &mut self.states[index as usize];
        assert!(!state.is_open, "place {index} is on the free list and in use");
        let generation = state.generation;
        *state = SocketState { generation, is_open: true, ..SocketState::default() };
        Some(Socket(generation << INDEX_BITS | index))
    }

    /// Panics: if the socket was closed.
    pub fn state(&mut self, socket: Socket) -> &mut SocketState {
        let state = &mut self.states[Self::index(socket) as usize];
        assert!(
            state.is_open && state.generation == socket.0 >> INDEX_BITS,
            "{socket:?} is used after its CloseSocket completed"
        );
        state
    }

    /// Gives the place back after the kernel closed the descriptor.
    pub fn closed(&mut self, socket: Socket) {
        let state = self.state(socket);
        assert_eq!(state.in_flight, 0, "{socket:?} was closed under operations in flight");
        state.is_open = false;
        state.generation = (state.generation + 1) & GENERATION_MASK;
        self.free.push(Self::index(socket));
    }

    pub fn index(socket: Socket) -> u32 {
        socket.0 & INDEX_MASK
    }

    pub fn open_count(&self) -> usize {
        self.states.len() - self.free.len()
    }
}

pub(super) struct ListenerState {
    pub socket: OwnedFd,
    pub accept: Option<Key>,
    /// The `CloseListener` that waits for the accept to end.
    pub close: Option<Key>,
}

#[derive(Default)]
pub(super) struct Listeners {
    states: Vec<Option<ListenerState>>,
}

impl Listeners {
    pub fn add(&mut self, socket: OwnedFd) -> Listener {
        self.states.push(Some(ListenerState { socket, accept: None, close: None }));
        Listener(self.states.len() as u32 - 1)
    }

    pub fn state(&mut self, listener: Listener) -> &mut ListenerState {
        self.states[listener.0 as usize]
            .as_mut()
            .expect("a listener is not used after its CloseListener completed")
    }

    pub fn raw(&mut self, listener: Listener) -> i32 {
        self.state(listener).socket.as_raw_fd()
    }

    /// Closes the listening socket.
    pub fn remove(&mut self, listener: Listener) {
        self.states[listener.0 as usize] = None;
    }
}

#[derive(Default, Clone, Copy)]
struct FileState {
    in_flight: u32,
    is_closing: bool,
    /// It is a regular file that is written through the page cache; `None`: nobody has asked yet.
    is_cached: Option<bool>,
}

/// Files by descriptor number, with what this ring has in flight on them.
#[derive(Default)]
pub(super) struct FileTable {
    /// As long as the largest descriptor seen; the process's limit of open files bounds it.
    states: Vec<FileState>,
    /// Closed by their owner, nothing in flight, not yet given to the kernel to close.
    pub ready_to_close: VecDeque<File>,
}

impl FileTable {
    fn state(&mut self, file: File) -> &mut FileState {
        let index = usize::try_from(file.0).expect("a file that was opened has a descriptor");
        if index >= self.states.len() {
            self.states.resize(index + 1, FileState::default());
        }
        &mut self.states[index]
    }

    /// It is written through the page cache. Asks the kernel once for each file.
    pub fn is_cached(&mut self, file: File) -> bool {
        *self.state(file).is_cached.get_or_insert_with(|| {
            let is_regular =
                fstat(descriptor(file)).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
            is_regular
                && fcntl(descriptor(file), FcntlArg::F_GETFL).is_ok_and(|flags| flags & libc::O_DIRECT == 0)
        })
    }

    pub fn begin(&mut self, file: File) {
        let state = self.state(file);
        assert!(!state.is_closing, "{file:?} is used after it was closed");
        state.in_flight += 1;
    }

    pub fn end(&mut self, file: File) {
        let state = self.state(file);
        assert!(state.in_flight > 0, "{file:?} has nothing in flight that could end");
        state.in_flight -= 1;
        if state.is_closing && state.in_flight == 0 {
            self.ready_to_close.push_back(file);
        }
    }

    pub fn close(&mut self, file: File) {
        let state = self.state(file);
        assert!(!state.is_closing, "{file:?} is closed twice");
        state.is_closing = true;
        if state.in_flight == 0 {
            self.ready_to_close.push_back(file);
        }
    }

    /// The kernel takes the descriptor to close it: from now on the number may come back for another file.
    pub fn closed(&mut self, file: File) {
        let state = self.state(file);
        assert!(state.is_closing && state.in_flight == 0, "{file:?} is closed under operations in flight");
        *state = FileState::default();
    }
}

/// Closes a descriptor that no operation ever used.
pub(super) fn close_unused(fd: i32) {
    // SAFETY: the kernel just handed `fd` to us in a completion, and nothing else knows it.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
}

/// The peer of a connected stream. `None` if it has gone already or is of another family.
pub(super) fn peer_address(fd: i32) -> io::Result<Option<std::net::SocketAddr>> {
    use nix::sys::socket::{SockaddrLike, SockaddrStorage, getpeername};
    let address: SockaddrStorage = match getpeername(fd) {
        Ok(address) => address,
        Err(nix::errno::Errno::ENOTCONN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    debug_assert!(address.len() > 0);
    Ok(socket_address(&address))
}

pub(super) fn socket_address(address: &nix::sys::socket::SockaddrStorage) -> Option<std::net::SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(std::net::SocketAddr::V4((*v4).into()));
    }
    address.as_sockaddr_in6().map(|v6| std::net::SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_table_comes_back_under_another_name() {
        let mut sockets = Sockets::new(2);
        let (first, second) = (sockets.open().unwrap(), sockets.open().unwrap());
        assert_eq!(sockets.open(), None);
        sockets.closed(first);
        let third = sockets.open().unwrap();
        assert_eq!(Sockets::index(third), Sockets::index(first));
        assert_ne!(third, first);
        assert_ne!(Sockets::index(third), Sockets::index(second));
        assert_eq!(sockets.open_count(), 2);
    }

    #[test]
    fn a_peer_waits_for_small_replies_when_its_large_ones_are_long_past() {
        let mut state = SocketState::default();
        assert!(state.note_reply(SMALL_SEND_BYTES_MAX));
        assert!(!state.note_reply(SMALL_SEND_BYTES_MAX + 1));
        for _ in 1..SMALLS_AFTER_LARGE {
            assert!(!state.note_reply(100), "one between large ones");
        }
        assert!(!state.note_reply(SMALL_SEND_BYTES_MAX + 1), "counted anew");
        let until = (1..=100).find(|_| state.note_reply(100));
        assert_eq!(until, Some(u32::from(SMALLS_AFTER_LARGE) + 1));
    }

    #[test]
    #[should_panic(expected = "used after its CloseSocket completed")]
    fn a_closed_socket_has_no_state() {
        let mut sockets = Sockets::new(1);
        let socket = sockets.open().unwrap();
        sockets.closed(socket);
        sockets.open().unwrap();
        sockets.state(socket);
    }

    #[test]
    fn a_file_closes_when_the_last_operation_on_it_ends() {
        let mut files = FileTable::default();
        files.begin(File(5));
        files.begin(File(5));
        files.close(File(5));
        files.end(File(5));
        assert_eq!(files.ready_to_close.pop_front(), None);
        files.end(File(5));
        assert_eq!(files.ready_to_close.pop_front(), Some(File(5)));
        files.closed(File(5));
        files.begin(File(5));
        files.end(File(5));
        assert_eq!(files.ready_to_close.pop_front(), None, "the number names another file now");
    }

    #[test]
    fn only_regular_files_without_o_direct_are_cached() {
        use std::os::fd::IntoRawFd;
        let directory = tempfile::tempdir().unwrap();
        let check = |fd: i32, expected| {
            // A new table: numbers come back.
            assert_eq!(FileTable::default().is_cached(File(fd)), expected);
            close_unused(fd);
        };
        let open = |flags| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
            options.open(directory.path().join("a"))
        };
        check(open(0).unwrap().into_raw_fd(), true);
        check(nix::unistd::pipe().unwrap().1.into_raw_fd(), false);
        // Some file systems have no such way.
        if let Ok(direct) = open(libc::O_DIRECT) {
            check(direct.into_raw_fd(), false);
        }
    }

    #[test]
    #[should_panic(expected = "used after it was closed")]
    fn a_closed_file_takes_no_operation() {
        let mut files = FileTable::default();
        files.close(File(3));
        files.begin(File(3));
    }
}
