//! One connection of the null responder: whole frames in, answers out, and pressure where a peer does not take them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use corelog::protocol::{DecodeError, Response, response_slices, write_response};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

/// Pieces of one send; the kernel takes up to 1024.
const SLICES: usize = 64;
const INPUT_BYTES: usize = 256 << 10;
/// Kafka's `socket.request.max.bytes`.
const REQUEST_BYTES_MOST: usize = 100 << 20;

/// Why a connection is closed.
#[derive(Debug)]
pub enum PeerError {
    Io(io::Error),
    Unreadable(DecodeError),
    /// Not one of the few APIs that are answered.
    Api(i16),
    /// A request of so many bytes.
    Request(usize),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Io(error) => error.fmt(f),
            PeerError::Unreadable(error) => error.fmt(f),
            PeerError::Api(key) => write!(f, "API {key} is not answered here"),
            PeerError::Request(bytes) => {
                write!(f, "a request of {bytes} bytes is above {REQUEST_BYTES_MOST}")
            }
        }
    }
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> PeerError {
        PeerError::Io(error)
    }
}

impl From<DecodeError> for PeerError {
    fn from(error: DecodeError) -> PeerError {
        PeerError::Unreadable(error)
    }
}

pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    small: BytesMut,
    out: VecDeque<Bytes>,
    sent: usize,
    watches_write: bool,
}

impl Peer {
    /// Takes a connection; the epoll tells of it by `index`.
    pub fn new(stream: TcpStream, epoll: &Epoll, index: usize) -> io::Result<Peer> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        Ok(Peer {
            stream,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            small: BytesMut::new(),
            out: VecDeque::new(),
            sent: 0,
            watches_write: false,
        })
    }

    /// Takes what has arrived and hands each whole frame, without its length, to `serve`.
    pub fn receive(
        &mut self,
        mut serve: impl FnMut(&mut Peer, &[u8]) -> Result<(), PeerError>,
    ) -> Result<(), PeerError> {
        // Pressure: what is not taken is not answered.
        if self.watches_write {
            return Ok(());
        }
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        let mut wanted = 0;
        let mut served = Ok(());
        while let Some(length) = input[at..self.filled].first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > REQUEST_BYTES_MOST {
                served = Err(PeerError::Request(length));
                break;
            }
            let Some(frame) = input[at..self.filled].get(4..4 + length) else {
                wanted = 4 + length;
                break;
            };
            served = serve(self, frame);
            if served.is_err() {
                break;
            }
            at += 4 + length;
        }
        self.input = input;
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        if wanted > self.input.len() {
            self.input.resize(wanted.next_power_of_two(), 0);
        }
        served
    }

    pub fn answer<'a>(&mut self, response: &impl Response<'a>, version: i16, correlation: i32) {
        write_response(response, version, correlation, &mut self.small);
    }

    /// As `answer`, but what is large in the response is not copied.
    pub fn answer_slices<'a>(&mut self, response: &impl Response<'a>, version: i16, correlation: i32) {
        self.queue_small();
        let mut scratch = BytesMut::new();
        self.out.extend(response_slices(response, version, correlation, &mut scratch));
    }

    fn queue_small(&mut self) {
        if !self.small.is_empty() {
            self.out.push_back(self.small.split().freeze());
        }
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self, epoll: &Epoll, index: usize) -> io::Result<()> {
        self.queue_small();
        while let Some(first) = self.out.front() {
            let rest = self.out.iter().skip(1).take(SLICES - 1).map(|piece| IoSlice::new(piece));
            let slices: Vec<IoSlice> =
                std::iter::once(IoSlice::new(&first[self.sent..])).chain(rest).collect();
            match self.stream.write_vectored(&slices) {
                Ok(count) => {
                    self.sent += count;
                    while let Some(first) = self.out.front().filter(|first| first.len() <= self.sent) {
                        self.sent -= first.len();
                        self.out.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.out.is_empty() == self.watches_write {
            self.watches_write = !self.out.is_empty();
            let wanted = if self.watches_write { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            epoll.modify(&self.stream, &mut EpollEvent::new(wanted, index as u64))?;
        }
        Ok(())
    }
}
