//! One connection: a task that sends what its work asks for and hands it the answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use corelog_measure::clock::now_ns;
use glommio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, sendmsg};

use crate::wire::{ANSWER_BYTES_MOST, Outgoing};

use super::pacer::Watch;
use super::work::{Work, arrival};
use super::{EngineError, Shared};

/// What the pacer leaves for a connection.
#[derive(Default)]
pub struct Inbox {
    due: RefCell<VecDeque<u64>>,
    waker: RefCell<Option<Waker>>,
    gave_up: Cell<bool>,
}

impl Inbox {
    pub fn hand_over(&self, due: u64) {
        self.due.borrow_mut().push_back(due);
        self.wake();
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// No more is waited for.
    pub fn give_up(&self) {
        self.gave_up.set(true);
        self.wake();
    }

    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    work: Work,
    inbox: Rc<Inbox>,
    shared: Rc<Shared>,
    is_paced: bool,
    out: Outgoing,
    /// With acks=0: when what is in `out` was due.
    unanswered: VecDeque<u64>,
    input: Vec<u8>,
    filled: usize,
}

/// Enough for a system call to bring many answers; what is longer makes it grow.
const INPUT_BYTES: usize = 256 << 10;

/// Turns of sending and receiving before the other connections have theirs.
const TURNS: usize = 8;

/// Pieces of one send; the kernel takes up to 1024.
const SLICES: usize = 64;

impl Connection {
    pub async fn open(
        address: SocketAddr,
        work: Work,
        inbox: Rc<Inbox>,
        shared: Rc<Shared>,
        is_paced: bool,
        (watch, place): (&Watch, u64),
    ) -> Result<Connection, EngineError> {
        let failed = |text: String| EngineError::Connect { address, text };
        let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the descriptor is the stream's, which outlives this call; the kernel forgets it when it is closed.
        let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        watch.add(socket, place).map_err(EngineError::Watch)?;
        let input = vec![0; INPUT_BYTES];
        let out = Outgoing::default();
        let unanswered = VecDeque::new();
        Ok(Connection { address, stream, work, inbox, shared, is_paced, out, unanswered, input, filled: 0 })
    }

    /// Until the window is over and every request has its answer.
    pub async fn run(mut self) -> Result<(), EngineError> {
        let is_producer = self.work.is_producer();
        let outcome = poll_fn(|cx| self.turn(cx)).await;
        self.work.close();
        if is_producer {
            self.shared.control.producers_done.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EngineError>> {
        self.inbox.keep(cx.waker());
        if self.shared.control.is_aborted() {
            return Poll::Ready(Err(EngineError::Interrupted));
        }
        for _ in 0..TURNS {
            self.ask();
            match self.send() {
                Ok(()) => {}
                Err(source) => {
                    return Poll::Ready(Err(EngineError::Exchange { address: self.address, source }));
                }
            }
            match self.receive() {
                Ok(true) => {}
                Ok(false) if self.is_done() => return Poll::Ready(Ok(())),
                Ok(false) if self.work.is_unanswered() && self.out.is_empty() && self.wants_more() => {}
                Ok(false) => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.shared.has_more.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wants_more(&self) -> bool {
        !self.is_paced && self.work.wants_more(now_ns())
    }

    fn is_done(&self) -> bool {
        if self.inbox.gave_up.get() {
            return true;
        }
        let is_over = now_ns() >= self.shared.control.end_ns();
        let has_due = self.is_paced && !self.inbox.due.borrow().is_empty();
        is_over && self.work.waiting() == 0 && self.out.is_empty() && !has_due && !self.wants_more()
    }

    /// Adds the requests that are due, or that the closed loop lets out.
    fn ask(&mut self) {
        if self.is_paced {
            while self.work.can_send()
                && let Some(due) = self.inbox.due.borrow_mut().pop_front()
            {
                self.work.ask(&mut self.out, due);
                if self.work.is_unanswered() {
                    self.unanswered.push_back(due);
                }
            }
            return;
        }
        if self.work.is_unanswered() && !self.out.is_empty() {
            return;
        }
        let now = now_ns();
        let mut asked = 0;
        while self.work.wants_more(now) && (asked < self.shared.workload.in_flight) {
            self.work.ask(&mut self.out, now);
            asked += 1;
            if self.work.is_unanswered() {
                self.unanswered.push_back(now);
            }
        }
    }

    /// Gives the socket what it takes; a full one wakes the connection when it has room.
    fn send(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let slices = self.out.slices(SLICES);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let sent = match sendmsg::<()>(self.stream.as_raw_fd(), &slices, &[], flags, None) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            drop(slices);
            self.out.consume(sent);
        }
        if !self.unanswered.is_empty() {
            let now = now_ns();
            for due in self.unanswered.drain(..) {
                self.work.sent_unanswered(due, now);
            }
        }
        Ok(())
    }

    /// Takes what has arrived; false if there was nothing.
    fn receive(&mut self) -> Result<bool, EngineError> {
        let address = self.address;
        match recv(self.stream.as_raw_fd(), &mut self.input[self.filled..], MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Ok(count) => self.received(count).map(|()| true),
            Err(error) => Err(EngineError::Exchange { address, source: error.into() }),
        }
    }

    fn received(&mut self, count: usize) -> Result<(), EngineError> {
        if count == 0 {
            return Err(EngineError::Closed { address: self.address });
        }
        self.filled += count;
        let now = arrival();
        let mut at = 0;
        while let Some(length) = self.input[at..self.filled].first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > ANSWER_BYTES_MOST {
                return Err(EngineError::Answer { address: self.address, bytes: length });
            }
            let Some(answer) = self.input[at..self.filled].get(4..4 + length) else {
                if self.input.len() < 4 + length {
                    self.input.resize((4 + length).next_power_of_two(), 0);
                }
                break;
            };
            self.work.answer(answer, now)?;
            at += 4 + length;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}
