//! From entries of the completion queue to completions for the rooms.
//!
//! Each kind of operation has one function here, with a branch for every way it can come back: in part, interrupted, cancelled,
//! with a broken link, or failed.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{cqueue, opcode, types::Fixed};

use super::clock;
use super::copier::Copied;
use super::door::{Completion, File, Listener, Outcome, Socket};
use super::fd::{Sockets, close_unused, peer_address};
use super::inflight::{Durable, Key, Stage, Work};
use super::ring::Ring;
use super::submission::{self, CANCEL_ALL, DOORBELL};
use crate::buffer::keep_slices;

/// How long accepting pauses when descriptors or memory are short. Long against a round, short against a client's patience.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn failed(result: i32) -> Outcome {
    assert!(result < 0, "{result} is no error");
    Outcome::Failed(io::Error::from_raw_os_error(-result))
}

/// Nothing was done, and trying again is right: a signal came, or the kernel wants to be asked once more.
fn is_interrupted(result: i32) -> bool {
    result == -libc::EINTR || result == -libc::EAGAIN
}

impl Ring {
    /// One entry of the completion queue.
    pub(super) fn complete(&mut self, user_data: u64, result: i32, flags: u32) {
        if submission::is_internal(user_data) {
            return self.complete_internal(user_data);
        }
        let (key, stage) = Key::parse(user_data);
        let has_more = cqueue::more(flags);
        let slot = self.in_flight.slot(key);
        assert!(slot.pending > 0, "a completion for {key:?}, which has nothing under way");
        slot.pending -= u32::from(!has_more);
        let work = slot.work.as_ref().expect("a slot with this generation holds its operation");
        match *work {
            Work::Accept { listener } => self.complete_accept(key, listener, result, has_more),
            Work::Receive { socket } => self.complete_receive(key, socket, result, flags),
            Work::CancelReceive { receive, .. } => self.complete_cancel(key, receive, result),
            Work::Send { piped: Some(_), .. } => self.complete_piped(key, stage, result),
            Work::Send { .. } => self.complete_send(key, result),
            Work::CloseSocket { socket } => self.complete_close_socket(key, socket, stage, result),
            // The cancel of the accept; the accept's own end matters, not whether this came in time.
            Work::CloseListener { listener } => self.advance_close_listener(listener),
            Work::Write(_) => self.complete_write(key, stage, result),
            // Interrupted or not: a sync that failed is never tried again. What it left dirty may have been thrown away.
            Work::Sync { .. } => self.end_file(key, if result < 0 { failed(result) } else { Outcome::Done }),
            Work::Read { .. } => self.complete_read(key, result),
            Work::Reserve { .. } if is_interrupted(result) => self.start(key),
            Work::Reserve { .. } => {
                self.end_file(key, if result < 0 { failed(result) } else { Outcome::Done })
            }
            Work::CloseFile { .. } => {
                // Its error is of an earlier write, which the sync of that write has told. The descriptor is gone in any case.
                drop(self.in_flight.take_work(key));
                self.end(key, Outcome::Done);
            }
            Work::Wake { .. } => {
                // The loop is awake, that was all. The read goes on; what was written meanwhile completes it at once.
                assert!(result == 8 || is_interrupted(result), "read of the eventfd: {result}");
                self.start(key);
            }
            Work::Job => unreachable!("jobs do not pass through the kernel's ring"),
        }
    }

    fn complete_internal(&mut self, user_data: u64) {
        match user_data {
            // Another shard woke this one: the loop looks into its mailboxes anyway.
            DOORBELL | CANCEL_ALL => {}
            _ => {
                // The peer's ring is going away, or is of a kernel that cannot be rung: its eventfd still works.
                let shard =
                    submission::failed_doorbell(user_data).expect("the only entries of ours without a slot");
                self.counters.doorbells_by_event += 1;
                self.doorbells.ring_event(shard);
            }
        }
    }

    fn complete_accept(&mut self, key: Key, listener: Listener, result: i32, has_more: bool) {
        let is_closing = self.listeners.state(listener).close.is_some();
        if result >= 0 {
            if is_closing {
                close_unused(result);
            } else {
                self.accepted(key, result);
            }
        }
        if has_more {
            return;
        }
        match -result {
            _ if is_closing => self.end_accept(key, Outcome::Cancelled),
            // Descriptors or memory are short. The connection stays in the backlog: asking again at once would spin.
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                self.counters.accept_pauses += 1;
                self.paused.insert(clock::monotonic() + ACCEPT_PAUSE, key);
            }
            // The listening socket itself is of no use.
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT => {
                self.end_accept(key, failed(result));
            }
            // Accepted as the last of a series, or one connection failed before it was accepted (accept(2) passes on
            // network errors of the new connection): the next may be fine.
            _ => self.start(key),
        }
    }

    /// Moves a new connection into the ring's table.
    fn accepted(&mut self, key: Key, fd: RawFd) {
        let peer = peer_address(fd).ok().flatten();
        let Some(socket) = self.sockets.open() else {
            self.counters.connections_refused += 1;
            return close_unused(fd);
        };
        let registered = self.uring.submitter().register_files_update(Sockets::index(socket), &[fd]);
        close_unused(fd);
        match registered {
            Ok(count) => {
                assert_eq!(count, 1, "one descriptor was to be registered");
                let token = self.in_flight.slot(key).token.expect("accepts are a room's");
                self.ready.push(Completion {
                    token,
                    outcome: Outcome::Accepted { socket, peer },
                    more: true,
                    written: None,
                });
            }
            Err(_) => {
                // No memory in the kernel: as if the table were full.
                self.counters.connections_refused += 1;
                self.sockets.closed(socket);
            }
        }
    }

    pub(super) fn end_accept(&mut self, key: Key, outcome: Outcome) {
        let Work::Accept { listener } = self.in_flight.take_work(key) else {
            unreachable!("the caller saw an accept")
        };
        self.listeners.state(listener).accept = None;
        self.end(key, outcome);
        self.advance_close_listener(listener);
    }

    /// Closes the listening socket if that was asked for and the accept and its cancel have ended.
    pub(super) fn advance_close_listener(&mut self, listener: Listener) {
        let state = self.listeners.state(listener);
        let Some(close) = state.close else { return };
        if state.accept.is_some() || self.in_flight.slot(close).pending > 0 {
            return;
        }
        self.listeners.remove(listener);
        drop(self.in_flight.take_work(close));
        self.end(close, Outcome::Done);
    }

    fn complete_receive(&mut self, key: Key, socket: Socket, result: i32, flags: u32) {
        let state = self.sockets.state(socket);
        let is_closing = state.close.is_some();
        let is_over = is_closing || state.cancel_wanted;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let received = self.provided.lend(buffer, u32::try_from(result).unwrap_or(0));
            state.says_little = !self.provided.is_filled(&received);
            if result > 0 && !is_closing {
                let token = self.in_flight.slot(key).token.expect("receives are a room's");
                let outcome = Outcome::Received(received);
                self.ready.push(Completion { token, outcome, more: true, written: None });
            } else {
                self.provided.give_back(received);
            }
        } else {
            assert!(result <= 0, "{result} bytes arrived in no buffer");
        }
        if cqueue::more(flags) {
            return;
        }
        match -result {
            0 => self.end_receive(key, Outcome::EndOfStream),
            libc::ECANCELED => self.end_receive(key, Outcome::Cancelled),
            _ if is_over && (result > 0 || result == -libc::ENOBUFS || is_interrupted(result)) => {
                self.end_receive(key, Outcome::Cancelled);
            }
            libc::ENOBUFS => {
                self.counters.receives_starved += 1;
                self.starved.push_back(key);
            }
            // It had its turn.
            _ if result > 0 => self.starved.push_back(key),
            _ if is_interrupted(result) => self.start(key),
            _ => self.end_receive(key, failed(result)),
        }
    }

    pub(super) fn end_receive(&mut self, key: Key, outcome: Outcome) {
        let Work::Receive { socket } = self.in_flight.take_work(key) else {
            unreachable!("the caller saw a receive")
        };
        self.sockets.state(socket).receive = None;
        self.end(key, outcome);
        self.end_on_socket(socket);
    }

    fn complete_cancel(&mut self, key: Key, receive: Option<Key>, result: i32) {
        let receive = receive.expect("a cancel is submitted only for a receive");
        // Just then the kernel was at work on it, and left it armed: ask again. Any other answer means that its end is on the way.
        if result == -libc::EALREADY && self.in_flight.find(receive).is_some() {
            return self.start(key);
        }
        self.end_cancel(key);
    }

    pub(super) fn end_cancel(&mut self, key: Key) {
        let Work::CancelReceive { socket, .. } = self.in_flight.take_work(key) else {
            unreachable!("the caller saw a cancel")
        };
        self.end(key, Outcome::Done);
        self.end_on_socket(socket);
    }

    fn complete_send(&mut self, key: Key, result: i32) {
        if is_interrupted(result) {
            return self.start(key);
        }
        if result < 0 {
            return self.end_send(key, failed(result));
        }
        let slot = self.in_flight.slot(key);
        let Some(Work::Send { slices, progress, gather, .. }) = &mut slot.work else {
            unreachable!("the caller saw a send")
        };
        let is_short = (result as usize) < gather.bytes;
        progress.advance(slices, result as usize);
        if progress.is_done(slices) {
            return self.end_send(key, Outcome::Done);
        }
        assert!(result > 0, "a send of {} bytes sent nothing and did not fail", gather.bytes);
        self.counters.short_transfers += u64::from(is_short);
        self.start(key);
    }

    /// The send of the slices or that of what is in the pipe, in whichever order they come.
    fn complete_piped(&mut self, key: Key, stage: Stage, result: i32) {
        let slot = self.in_flight.slot(key);
        let is_last = slot.pending == 0;
        let Some(Work::Send { slices, progress, gather, piped: Some(piped), sent, spliced, .. }) =
            &mut slot.work
        else {
            unreachable!("the caller saw a send with a pipe")
        };
        match stage {
            Stage::Main => *sent = Some(result),
            Stage::Splice => *spliced = Some(result),
            _ => unreachable!("a send has no stage {stage:?}"),
        }
        if !is_last {
            return;
        }
        let mut is_short = false;
        match *sent {
            Some(result) if is_interrupted(result) => is_short = true,
            Some(result) if result < 0 => return self.end_send(key, failed(result)),
            Some(result) => {
                is_short = (result as usize) < gather.bytes;
                progress.advance(slices, result as usize);
            }
            None => {}
        }
        match *spliced {
            // What was to go before it did not go in full.
            Some(result) if result == -libc::ECANCELED && is_short => {}
            Some(result) if is_interrupted(result) => is_short = true,
            Some(result) if result < 0 => return self.end_send(key, failed(result)),
            // The pages were cut off the file.
            Some(0) => return self.end_send(key, Outcome::Failed(io::ErrorKind::UnexpectedEof.into())),
            Some(result) => {
                piped.advance(result as usize);
                is_short = !piped.is_empty();
            }
            None => {}
        }
        if progress.is_done(slices) && piped.is_empty() {
            return self.end_send(key, Outcome::Done);
        }
        self.counters.short_transfers += u64::from(is_short);
        self.start(key);
    }

    pub(super) fn end_send(&mut self, key: Key, outcome: Outcome) {
        let Work::Send { socket, gather, slices, .. } = self.in_flight.take_work(key) else {
            unreachable!("the caller saw a send")
        };
        keep_slices(slices);
        self.in_flight.keep_gather(gather);
        self.sockets.state(socket).is_sending = false;
        self.end(key, outcome);
        self.end_on_socket(socket);
    }

    fn end_on_socket(&mut self, socket: Socket) {
        let state = self.sockets.state(socket);
        state.in_flight -= 1;
        if let Some(close) = state.close {
            self.advance_close_socket(close, socket);
        }
    }

    fn complete_close_socket(&mut self, key: Key, socket: Socket, stage: Stage, result: i32) {
        if stage == Stage::Close {
            assert_eq!(result, 0, "close of {socket:?}");
            self.sockets.closed(socket);
            drop(self.in_flight.take_work(key));
            return self.end(key, Outcome::Done);
        }
        // What the shutdown and the cancel answered does not matter: the receive and the send end by one of them, or had ended.
        self.advance_close_socket(key, socket);
    }

    /// Closes the descriptor once nothing is in flight on it and the shutdown is through.
    fn advance_close_socket(&mut self, key: Key, socket: Socket) {
        if self.sockets.state(socket).in_flight > 0 || self.in_flight.slot(key).pending > 0 {
            return;
        }
        let close = opcode::Close::new(Fixed(Sockets::index(socket))).build();
        self.push_for(key, &[close.user_data(key.user_data(Stage::Close))]);
    }

    /// A thread's write, as one of the ring's.
    pub(super) fn complete_copy(&mut self, copied: Copied) {
        let Copied { key, slices, result } = copied;
        let Some(Work::Write(write)) = &mut self.in_flight.slot(key).work else {
            unreachable!("only writes are copied")
        };
        write.slices = slices;
        self.complete_write(key, Stage::Main, result);
    }

    fn complete_write(&mut self, key: Key, stage: Stage, result: i32) {
        let slot = self.in_flight.slot(key);
        let is_last = slot.pending == 0;
        let Some(Work::Write(write)) = &mut slot.work else { unreachable!("the caller saw a write") };
        match stage {
            Stage::Main => {
                write.written = Some(result);
                // One reading for a group of batches; the flush behind it takes a thousand times as long.
                write.written_at = (write.durable == Durable::LinkedSync).then(clock::monotonic);
            }
            Stage::Sync => write.synced = Some(result),
            _ => unreachable!("a write has no stage {stage:?}"),
        }
        // Both results of a link, in whichever order they come.
        if !is_last {
            return;
        }
        let written = write.written.expect("the write of a link completes as well");
        if is_interrupted(written) {
            return self.start(key);
        }
        if written < 0 {
            return self.end_file(key, failed(written));
        }
        let is_short = (written as usize) < write.asked;
        write.progress.advance(&write.slices, written as usize);
        let is_done = write.progress.is_done(&write.slices);
        // The next flush tells of bytes that could not be sent on.
        match write.synced.filter(|_| write.durable == Durable::LinkedSync) {
            // A short write broke the link: the sync did not start, which is no failure. The rest first, then the sync.
            Some(result) if result == -libc::ECANCELED && !is_done => {}
            Some(result) if result < 0 => return self.end_file(key, failed(result)),
            // Synced, and all bytes were written before the sync started.
            Some(_) if is_done => return self.end_file(key, Outcome::Done),
            None if is_done && write.durable != Durable::LinkedSync => {
                return self.end_file(key, Outcome::Done);
            }
            _ => {}
        }
        if written == 0 && !is_done {
            return self.end_file(key, Outcome::Failed(io::ErrorKind::WriteZero.into()));
        }
        self.counters.short_transfers += u64::from(is_short);
        self.start(key);
    }

    fn complete_read(&mut self, key: Key, result: i32) {
        if is_interrupted(result) {
            return self.start(key);
        }
        if result < 0 {
            return self.end_file(key, failed(result));
        }
        let slot = self.in_flight.slot(key);
        let Some(Work::Read { length, buffer, .. }) = &mut slot.work else {
            unreachable!("the caller saw a read")
        };
        let read = buffer.len() + result as usize;
        assert!(read <= *length as usize && read <= buffer.capacity(), "{read} bytes read of {length}");
        // SAFETY: the kernel wrote `result` bytes behind the `len` that were there: the entry pointed at the spare capacity,
        // and the buffer did not move or grow since. `read` is within the capacity (asserted).
        #[allow(unsafe_code)]
        unsafe {
            buffer.set_len(read);
        }
        if result > 0 && read < *length as usize {
            return self.start(key);
        }
        let buffer = std::mem::take(buffer);
        self.end_file(key, Outcome::Read(buffer));
    }

    pub(super) fn end_file(&mut self, key: Key, outcome: Outcome) {
        let work = self.in_flight.take_work(key);
        let file: File = work.file().expect("the caller saw a file operation");
        let mut written = None;
        if let Work::Write(write) = work {
            written = write.written_at;
            keep_slices(write.slices);
            self.in_flight.keep_gather(write.gather);
        }
        self.files.end(file);
        self.end_written(key, outcome, written);
    }
}
