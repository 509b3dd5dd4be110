//! How a sleeping shard is woken: by another shard through its ring (`MSG_RING`), by any other thread through an eventfd.
//!
//! Neither carries anything but "look": the message is in the mesh or in a queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::model::ShardId;

const NO_RING: RawFd = -1;

/// The doorbells of all shards. Made before the shards start; each [`Ring`](super::Ring) hangs its own bell.
pub struct Doorbells {
    bells: Box<[Bell]>,
}

struct Bell {
    /// The ring's descriptor, while the shard has a ring.
    ring: AtomicI32,
    event: EventFd,
}

impl Doorbells {
    /// Errors: no descriptors left.
    pub fn new(shard_count: u16) -> io::Result<Arc<Doorbells>> {
        let bell = |_| {
            // Blocking: a read through the ring then waits in the ring instead of failing with EAGAIN.
            let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?;
            Ok(Bell { ring: AtomicI32::new(NO_RING), event })
        };
        let bells = (0..shard_count).map(bell).collect::<io::Result<_>>()?;
        Ok(Arc::new(Doorbells { bells }))
    }

    /// A handle by which a thread that has no ring wakes the shard.
    pub fn waker(self: &Arc<Doorbells>, shard: ShardId) -> ExternalWaker {
        assert!(usize::from(shard.0) < self.bells.len(), "shard {shard} of {}", self.bells.len());
        ExternalWaker { doorbells: Arc::clone(self), shard }
    }

    pub fn shard_count(&self) -> u16 {
        self.bells.len() as u16
    }

    /// Release and acquire: who sees the descriptor sees a ring that is set up.
    pub(super) fn hang(&self, shard: ShardId, ring: RawFd) {
        let before = self.bells[usize::from(shard.0)].ring.swap(ring, Ordering::Release);
        assert_eq!(before, NO_RING, "shard {shard} has a ring already");
    }

    pub(super) fn take_down(&self, shard: ShardId) {
        self.bells[usize::from(shard.0)].ring.store(NO_RING, Ordering::Release);
    }

    /// The ring of a shard, if it has one now.
    pub(super) fn ring(&self, shard: ShardId) -> Option<RawFd> {
        let ring = self.bells[usize::from(shard.0)].ring.load(Ordering::Acquire);
        (ring != NO_RING).then_some(ring)
    }

    pub(super) fn event(&self, shard: ShardId) -> BorrowedFd<'_> {
        self.bells[usize::from(shard.0)].event.as_fd()
    }

    pub(super) fn ring_event(&self, shard: ShardId) {
        let event = &self.bells[usize::from(shard.0)].event;
        // Cannot block: that would take 2^64 - 1 wake-ups between two rounds of the shard.
        let written = event.write(1);
        assert!(written.is_ok(), "write eventfd {} of shard {shard}: {written:?}", event.as_raw_fd());
    }
}

/// Wakes one shard from its `wait`, from any thread.
#[derive(Clone)]
pub struct ExternalWaker {
    doorbells: Arc<Doorbells>,
    shard: ShardId,
}

impl ExternalWaker {
    /// The shard's present or next `wait` returns. One system call; calls before the shard wakes count as one.
    pub fn wake(&self) {
        self.doorbells.ring_event(self.shard);
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }
}
