//! From an operation in the table to entries of the submission queue.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Fixed, FsyncFlags};

use super::copier::Copy;
use super::fd::Sockets;
use super::inflight::{Durable, Key, Stage, Work, WriteWork};
use super::provided::BUFFER_GROUP;
use super::ring::Ring;
use super::{Outcome, SMALL_WRITE_BYTES_MAX, Socket};
use crate::model::ShardId;

/// Bytes of one call while small replies are sent beside large ones: what it copies, the shard's own thread copies. In pieces a
/// large reply costs a quarter more.
const SEND_PIECE_BYTES: usize = 128 << 10;

/// What is larger is read by the kernel's workers then: they let the shard in between two pages.
const SMALL_READ_BYTES_MAX: usize = 64 << 10;

/// User data that names no slot: the upper half is all ones, which no generation and stage give.
const INTERNAL: u64 = 0xffff_ffff_0000_0000;
/// Posted into our ring by another shard.
pub(super) const DOORBELL: u64 = INTERNAL | 0xffff_ffff;
pub(super) const CANCEL_ALL: u64 = INTERNAL | 0xffff_fffe;

/// Entries that belong to no slot: doorbells, both ends.
pub(super) fn is_internal(user_data: u64) -> bool {
    user_data & INTERNAL == INTERNAL
}

/// The shard whose doorbell failed, from the user data of its entry.
pub(super) fn failed_doorbell(user_data: u64) -> Option<ShardId> {
    u16::try_from(user_data & !INTERNAL).ok().map(ShardId)
}

/// Wakes the shard with that ring. Completes on our side only if it fails.
pub(super) fn doorbell(ring: RawFd, shard: ShardId) -> Entry {
    opcode::MsgRingData::new(Fd(ring), 0, DOORBELL, None)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(INTERNAL | u64::from(shard.0))
}

fn fixed(socket: Socket) -> Fixed {
    Fixed(Sockets::index(socket))
}

fn cancel(operation: Key) -> Entry {
    opcode::AsyncCancel::new(operation.user_data(Stage::Main)).build()
}

impl Ring {
    /// Takes note of a new operation at its descriptor and starts it.
    pub(super) fn begin(&mut self, key: Key) {
        let slot = self.in_flight.slot(key);
        match slot.work.as_ref().expect("it was inserted just now") {
            &Work::Accept { listener } => {
                let state = self.listeners.state(listener);
                assert!(
                    state.accept.is_none() && state.close.is_none(),
                    "{listener:?} accepts already, or is closing"
                );
                state.accept = Some(key);
                self.start(key);
            }
            &Work::Receive { socket } => {
                let state = self.open_socket(socket);
                assert!(state.receive.is_none(), "{socket:?} receives already");
                (state.receive, state.cancel_wanted) = (Some(key), false);
                state.in_flight += 1;
                self.start(key);
            }
            &Work::CancelReceive { socket, receive } => {
                let state = self.open_socket(socket);
                state.in_flight += 1;
                state.cancel_wanted = true;
                match receive {
                    Some(receive) if self.in_flight.slot(receive).pending > 0 => self.start(key),
                    // It waits for a buffer, not for the kernel.
                    Some(receive) => {
                        self.end_receive(receive, Outcome::Cancelled);
                        self.end_cancel(key);
                    }
                    None => self.end_cancel(key),
                }
            }
            &Work::Send { socket, .. } => {
                let state = self.open_socket(socket);
                assert!(!state.is_sending, "{socket:?} sends already");
                state.is_sending = true;
                state.in_flight += 1;
                self.start(key);
            }
            &Work::CloseSocket { socket } => self.begin_close_socket(key, socket),
            &Work::CloseListener { listener } => self.begin_close_listener(key, listener),
            Work::Write(_) | Work::Sync { .. } | Work::Read { .. } | Work::Reserve { .. } => self.start(key),
            Work::Job | Work::CloseFile { .. } | Work::Wake { .. } => {
                unreachable!("not an operation of a room for the ring")
            }
        }
    }

    fn open_socket(&mut self, socket: Socket) -> &mut super::fd::SocketState {
        let state = self.sockets.state(socket);
        assert!(state.close.is_none(), "{socket:?} is used after CloseSocket was submitted");
        state
    }

    /// Shuts down both ways first: that ends a pending receive or send, and tells the peer even on kernels that keep a direct
    /// descriptor's file alive as long as older operations of any socket run (before 6.4).
    fn begin_close_socket(&mut self, key: Key, socket: Socket) {
        let state = self.open_socket(socket);
        state.close = Some(key);
        let receive = state.receive;
        let shutdown = opcode::Shutdown::new(fixed(socket), libc::SHUT_RDWR).build();
        self.push_for(key, &[shutdown.user_data(key.user_data(Stage::Shutdown))]);
        if let Some(receive) = receive {
            if self.in_flight.slot(receive).pending > 0 {
                let entry = cancel(receive).user_data(key.user_data(Stage::Cancel));
                self.push_for(key, &[entry]);
            } else {
                self.end_receive(receive, Outcome::Cancelled);
            }
        }
    }

    fn begin_close_listener(&mut self, key: Key, listener: super::Listener) {
        let state = self.listeners.state(listener);
        assert!(state.close.is_none(), "{listener:?} is closed twice");
        state.close = Some(key);
        match state.accept {
            Some(accept) if self.in_flight.slot(accept).pending > 0 => {
                let entry = cancel(accept).user_data(key.user_data(Stage::Cancel));
                self.push_for(key, &[entry]);
            }
            // It pauses.
            Some(accept) => self.end_accept(accept, Outcome::Cancelled),
            None => self.advance_close_listener(listener),
        }
    }

    /// Queues entries of an operation, counting the completions to expect.
    pub(super) fn push_for(&mut self, key: Key, entries: &[Entry]) {
        self.in_flight.slot(key).pending += entries.len() as u32;
        self.push(entries);
    }

    /// Submits an operation to the kernel, from where it stands: also after a short result, a lost buffer or a pause.
    pub(super) fn start(&mut self, key: Key) {
        let waker = self.waker_fd();
        let take_turns = self.receives_take_turns();
        let in_pieces = self.serves_small();
        let slot = self.in_flight.slot(key);
        let work = slot.work.as_mut().expect("an operation that starts is in its slot");
        let entry = match work {
            Work::Accept { listener } => {
                let fd = Fd(self.listeners.raw(*listener));
                // An ordinary descriptor first: a multishot accept brings no address, and a direct descriptor has no getpeername.
                opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
            }
            Work::Receive { socket } if take_turns && !self.sockets.state(*socket).says_little => {
                // No length: that of the buffer.
                let entry = opcode::Recv::new(fixed(*socket), std::ptr::null_mut(), 0);
                entry.buf_group(BUFFER_GROUP).build().flags(Flags::BUFFER_SELECT)
            }
            Work::Receive { socket } => opcode::RecvMulti::new(fixed(*socket), BUFFER_GROUP).build(),
            Work::CancelReceive { receive, .. } => {
                let receive = receive.expect("a cancel is started only for a receive");
                let entry = cancel(receive).user_data(key.user_data(Stage::Cancel));
                return self.push_for(key, &[entry]);
            }
            Work::Send { piped: Some(_), .. } => return self.start_piped(key),
            Work::Send { socket, slices, progress, gather, .. } => {
                if progress.is_done(slices) {
                    // Nothing to send.
                    return self.end_send(key, Outcome::Done);
                }
                gather.fill(slices, *progress, if in_pieces { SEND_PIECE_BYTES } else { usize::MAX });
                opcode::SendMsg::new(fixed(*socket), gather.header())
                    .flags((libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
                    .build()
            }
            Work::Write(write) => {
                if write.progress.is_done(&write.slices) && write.durable != Durable::LinkedSync {
                    return self.end_file(key, Outcome::Done);
                }
                return self.start_write(key);
            }
            Work::Sync { file } => sync(*file),
            Work::Read { file, position, length, buffer } => {
                let left = *length as usize - buffer.len();
                let spare = buffer.spare_capacity_mut();
                assert!(spare.len() >= left, "a read of {left} bytes into {}", spare.len());
                let read = opcode::Read::new(Fd(file.0), spare.as_mut_ptr().cast(), left as u32);
                let entry = read.offset(*position + buffer.len() as u64).build();
                if in_pieces && left > SMALL_READ_BYTES_MAX { entry.flags(Flags::ASYNC) } else { entry }
            }
            Work::Reserve { file, position, length } => opcode::Fallocate::new(Fd(file.0), *length)
                .offset(*position)
                .mode(libc::FALLOC_FL_KEEP_SIZE)
                .build(),
            // On a worker of the kernel: the last close of a removed file frees its blocks, which takes time.
            Work::CloseFile { file } => opcode::Close::new(Fd(file.0)).build().flags(Flags::ASYNC),
            Work::Wake { count } => {
                opcode::Read::new(Fd(waker), (&raw mut **count).cast(), size_of::<u64>() as u32).build()
            }
            Work::CloseSocket { .. } | Work::CloseListener { .. } | Work::Job => {
                unreachable!("started by its own function")
            }
        };
        self.push_for(key, &[entry.user_data(key.user_data(Stage::Main))]);
    }

    /// What is left of the slices, and behind their last part what is left in the pipe, linked: it goes only if that part was
    /// sent in full. A worker of the kernel moves it, and waits for the peer.
    fn start_piped(&mut self, key: Key) {
        let slot = self.in_flight.slot(key);
        let Some(Work::Send { socket, slices, progress, gather, piped: Some(piped), sent, spliced }) =
            &mut slot.work
        else {
            unreachable!("the caller saw a send with a pipe")
        };
        (*sent, *spliced) = (None, None);
        let length = u32::try_from(piped.len()).expect("a pipe holds a megabyte");
        let splice = opcode::Splice::new(Fd(piped.read_end()), -1, fixed(*socket), -1, length);
        let splice = splice.build().user_data(key.user_data(Stage::Splice));
        if progress.is_done(slices) {
            return self.push_for(key, &[splice]);
        }
        gather.fill(slices, *progress, usize::MAX);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | libc::MSG_MORE;
        let send = opcode::SendMsg::new(fixed(*socket), gather.header()).flags(flags as u32).build();
        let send = send.user_data(key.user_data(Stage::Main));
        if gather.is_last {
            self.push_for(key, &[send.flags(Flags::IO_LINK), splice]);
        } else {
            self.push_for(key, &[send]);
        }
    }

    /// The next part of a write, and behind its last part the sync, linked: it runs only if that part was written in full.
    fn start_write(&mut self, key: Key) {
        let slot = self.in_flight.slot(key);
        let Some(Work::Write(write)) = &mut slot.work else { unreachable!("the caller saw a write here") };
        let WriteWork {
            file,
            position,
            slices,
            bytes,
            progress,
            gather,
            durable,
            asked,
            written,
            synced,
            ..
        } = write;
        (*written, *synced) = (None, None);
        let sync = sync(*file).user_data(key.user_data(Stage::Sync));
        if progress.is_done(slices) {
            assert!(*durable == Durable::LinkedSync, "a write that is done was started again");
            *written = Some(0);
            return self.push_for(key, &[sync]);
        }
        // Only the kernel's own write is durable by itself.
        let is_copied = *bytes > SMALL_WRITE_BYTES_MAX && *durable != Durable::Dsync;
        if is_copied && self.files.is_cached(*file) && self.copiers.are_there() {
            // Its end comes from `take_copies`; a flush is submitted then.
            *asked = *bytes - progress.bytes() as usize;
            let (file, position, slices) = (*file, *position, std::mem::take(slices));
            return self.copiers.submit(Copy { key, file, position, slices, progress: *progress });
        }
        gather.fill(slices, *progress, usize::MAX);
        *asked = gather.bytes;
        let iovecs = gather.iovecs();
        let flags = if *durable == Durable::Dsync { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Writev::new(Fd(file.0), iovecs.as_ptr(), iovecs.len() as u32)
            .offset(*position + progress.bytes())
            .rw_flags(flags)
            .build()
            .user_data(key.user_data(Stage::Main));
        let behind = match durable {
            Durable::LinkedSync => sync,
            Durable::Begun => {
                let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
                let length = u32::try_from(bytes).expect("a write is bounded");
                let start = opcode::SyncFileRange::new(Fd(file.0), length).offset(*position);
                start.flags(libc::SYNC_FILE_RANGE_WRITE).build().user_data(key.user_data(Stage::Sync))
            }
            Durable::No | Durable::Dsync => return self.push_for(key, &[entry]),
        };
        if gather.is_last {
            self.push_for(key, &[entry.flags(Flags::IO_LINK), behind]);
        } else {
            self.push_for(key, &[entry]);
        }
    }
}

fn sync(file: super::File) -> Entry {
    opcode::Fsync::new(Fd(file.0)).flags(FsyncFlags::DATASYNC).build()
}
