//! The table of operations in flight.
//!
//! Invariants: a slot is free or holds exactly one operation together with every buffer the kernel may touch for it, until
//! the operation's last completion. Slots finished + slots occupied = slots inserted. A completion names its slot by index and
//! generation; one that names a free slot or an older generation is our own bug and stops the process.

use std::num::NonZeroU32;

use bytes::BytesMut;

use super::door::{File, Listener, Slices, Socket, Token};
use super::gather::{Gather, Progress};
use super::piped::Piped;
use crate::model::{Monotonic, Position};

/// Which completion of an operation: one operation may have several submissions under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Stage {
    Main = 0,
    /// The sync linked behind a write.
    Sync = 1,
    /// A request to cancel another operation.
    Cancel = 2,
    Shutdown = 3,
    Close = 4,
    /// What is in a pipe, linked behind a send.
    Splice = 5,
}

/// An operation in flight: its slot, and which of the slot's operations.
///
/// As `user_data`: | stage: 8 bits | generation: 24 bits | slot index: 32 bits |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

const GENERATION_MASK: u32 = (1 << 24) - 1;

impl Key {
    pub fn user_data(self, stage: Stage) -> u64 {
        (stage as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub fn parse(user_data: u64) -> (Key, Stage) {
        let stage = match user_data >> 56 {
            0 => Stage::Main,
            1 => Stage::Sync,
            2 => Stage::Cancel,
            3 => Stage::Shutdown,
            4 => Stage::Close,
            5 => Stage::Splice,
            _ => panic!("a completion that was never asked for: user data {user_data:#x}"),
        };
        (Key { index: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION_MASK }, stage)
    }
}

/// An operation with what it owns.
pub(super) enum Work {
    Accept {
        listener: Listener,
    },
    Receive {
        socket: Socket,
    },
    CancelReceive {
        socket: Socket,
        receive: Option<Key>,
    },
    Send {
        socket: Socket,
        slices: Slices,
        progress: Progress,
        gather: Box<Gather>,
        /// What follows the slices.
        piped: Option<Piped>,
        /// Results of the calls under way, kept until all have completed.
        sent: Option<i32>,
        spliced: Option<i32>,
    },
    CloseSocket {
        socket: Socket,
    },
    CloseListener {
        listener: Listener,
    },
    Write(WriteWork),
    Sync {
        file: File,
    },
    Read {
        file: File,
        position: Position,
        length: u32,
        buffer: BytesMut,
    },
    Reserve {
        file: File,
        position: Position,
        length: u64,
    },
    Job,
    /// The reactor's own: closing a file on a worker of the kernel.
    CloseFile {
        file: File,
    },
    /// The reactor's own: the read of the eventfd by which other threads wake this one. The kernel fills the box.
    Wake {
        count: Box<u64>,
    },
}

/// What makes written bytes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durable {
    No,
    /// A later flush, which finds them on their way: a linked sync_file_range.
    Begun,
    /// A linked fdatasync.
    LinkedSync,
    /// The write itself (`RWF_DSYNC`).
    Dsync,
}

pub(super) struct WriteWork {
    pub file: File,
    pub position: Position,
    pub slices: Slices,
    /// Of all slices.
    pub bytes: usize,
    pub progress: Progress,
    pub gather: Box<Gather>,
    pub durable: Durable,
    /// Bytes of the call under way.
    pub asked: usize,
    /// Results of the calls under way, kept until all have completed.
    pub written: Option<i32>,
    pub synced: Option<i32>,
    /// When the write ended, if a flush is linked to it.
    pub written_at: Option<Monotonic>,
}

impl Work {
    /// The file whose space, bytes or durability the operation is about.
    pub fn file(&self) -> Option<File> {
        match self {
            Work::Write(write) => Some(write.file),
            Work::Sync { file } | Work::Read { file, .. } | Work::Reserve { file, .. } => Some(*file),
            Work::CloseFile { .. } => None,
            Work::Accept { .. }
            | Work::Receive { .. }
            | Work::CancelReceive { .. }
            | Work::Send { .. }
            | Work::CloseSocket { .. }
            | Work::CloseListener { .. }
            | Work::Job
            | Work::Wake { .. } => None,
        }
    }
}

pub(super) struct Slot {
    generation: u32,
    /// Submissions of this operation whose last completion has not been seen. The slot is kept while it is not zero.
    pub pending: u32,
    /// `None`: the reactor's own operation, which completes towards nobody.
    pub token: Option<Token>,
    /// `None`: the slot is free.
    pub work: Option<Work>,
    submitted: Monotonic,
    is_file: bool,
    /// Neighbours in the list of file operations, oldest first.
    older: Option<Link>,
    newer: Option<Link>,
}

/// A slot index plus one, so that an `Option` costs nothing.
type Link = NonZeroU32;

fn link(index: u32) -> Option<Link> {
    NonZeroU32::new(index + 1)
}

pub(super) struct InFlight {
    slots: Box<[Slot]>,
    /// Last in, first out: the warmest slot first.
    free: Vec<u32>,
    inserted: u64,
    finished: u64,
    internal: usize,
    /// Of the writes in flight.
    write_bytes: usize,
    oldest_file: Option<Link>,
    newest_file: Option<Link>,
    /// Gathers not in use, so that a send or write in steady state allocates none.
    #[allow(clippy::vec_box, reason = "the kernel keeps a gather's address while it is in use")]
    spare: Vec<Box<Gather>>,
}

impl InFlight {
    pub fn new(capacity: usize) -> InFlight {
        let slot = || Slot {
            generation: 0,
            pending: 0,
            token: None,
            work: None,
            submitted: Monotonic(0),
            is_file: false,
            older: None,
            newer: None,
        };
        InFlight {
            slots: (0..capacity).map(|_| slot()).collect(),
            free: (0..capacity as u32).rev().collect(),
            inserted: 0,
            finished: 0,
            internal: 0,
            write_bytes: 0,
            oldest_file: None,
            newest_file: None,
            spare: Vec::new(),
        }
    }

    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a slot for the operation. Errors: the work itself, if the table is full.
    pub fn insert(&mut self, token: Option<Token>, now: Monotonic, work: Work) -> Result<Key, Work> {
        let Some(index) = self.free.pop() else { return Err(work) };
        self.inserted += 1;
        self.internal += usize::from(token.is_none());
        let is_file = work.file().is_some();
        if let Work::Write(write) = &work {
            self.write_bytes += write.bytes;
        }
        let slot = &mut self.slots[index as usize];
        assert!(slot.work.is_none(), "slot {index} is on the free list and holds an operation");
        assert_eq!(slot.pending, 0, "slot {index} is free and the kernel works on it");
        (slot.token, slot.work, slot.submitted, slot.is_file) = (token, Some(work), now, is_file);
        let key = Key { index, generation: slot.generation };
        if is_file {
            self.link_newest(index);
        }
        self.assert_counts();
        Ok(key)
    }

    /// The slot of an operation in flight. Panics: if the key is stale.
    pub fn slot(&mut self, key: Key) -> &mut Slot {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(slot.generation, key.generation, "slot {} has moved on to another operation", key.index);
        slot
    }

    /// The slot, if that operation is still in flight.
    pub fn find(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = &mut self.slots[key.index as usize];
        (slot.generation == key.generation && slot.work.is_some()).then_some(slot)
    }

    /// Takes the work out, with all it owns. The slot ends with `finish`.
    pub fn take_work(&mut self, key: Key) -> Work {
        let work = self.slot(key).work.take().expect("a slot with this generation holds its operation");
        if let Work::Write(write) = &work {
            self.write_bytes -= write.bytes;
        }
        work
    }

    /// Bytes of the writes in flight, whatever of them is written already.
    pub fn write_bytes(&self) -> usize {
        self.write_bytes
    }

    /// Frees the slot after the operation's last completion; what it owned was taken before. Returns its token.
    pub fn finish(&mut self, key: Key) -> Option<Token> {
        let slot = self.slot(key);
        assert_eq!(slot.pending, 0, "slot {} is freed while the kernel works on it", key.index);
        assert!(slot.work.is_none(), "slot {} is freed with its buffers inside", key.index);
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        let (token, is_file) = (slot.token.take(), slot.is_file);
        if is_file {
            self.unlink(key.index);
        }
        self.free.push(key.index);
        self.finished += 1;
        self.internal -= usize::from(token.is_none());
        self.assert_counts();
        token
    }

    /// Operations of other rooms in flight.
    pub fn count(&self) -> usize {
        self.occupied() - self.internal
    }

    /// Slots in use, the reactor's own included.
    pub fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Operations that the kernel works on.
    pub fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.pending > 0).count()
    }

    /// The kernel works on none.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.pending == 0)
    }

    /// When the oldest file operation in flight was submitted.
    pub fn oldest_file_operation(&self) -> Option<Monotonic> {
        self.oldest_file.map(|oldest| self.slots[oldest.get() as usize - 1].submitted)
    }

    pub fn take_gather(&mut self) -> Box<Gather> {
        self.spare.pop().unwrap_or_else(Gather::new)
    }

    pub fn keep_gather(&mut self, gather: Box<Gather>) {
        self.spare.push(gather);
    }

    fn assert_counts(&self) {
        let occupied = self.occupied() as u64;
        assert_eq!(
            self.finished + occupied,
            self.inserted,
            "operations got lost: {} finished, {occupied} in flight",
            self.finished
        );
    }

    fn link_newest(&mut self, index: u32) {
        let newest = std::mem::replace(&mut self.newest_file, link(index));
        let slot = &mut self.slots[index as usize];
        (slot.older, slot.newer) = (newest, None);
        match newest {
            Some(newest) => self.slots[newest.get() as usize - 1].newer = link(index),
            None => self.oldest_file = link(index),
        }
    }

    fn unlink(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let (older, newer) = (slot.older.take(), slot.newer.take());
        match older {
            Some(older) => self.slots[older.get() as usize - 1].newer = newer,
            None => self.oldest_file = newer,
        }
        match newer {
            Some(newer) => self.slots[newer.get() as usize - 1].older = older,
            None => self.newest_file = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Room;

    fn insert(table: &mut InFlight, at: u64, work: Work) -> Key {
        table.insert(Some(Token::new(Room::Log, at)), Monotonic(at), work).ok().expect("there is room")
    }

    fn finish(table: &mut InFlight, key: Key) -> Option<Token> {
        drop(table.take_work(key));
        table.finish(key)
    }

    #[test]
    fn user_data_names_slot_generation_and_stage() {
        let key = Key { index: u32::MAX, generation: GENERATION_MASK };
        for stage in [Stage::Main, Stage::Sync, Stage::Cancel, Stage::Shutdown, Stage::Close, Stage::Splice] {
            assert_eq!(Key::parse(key.user_data(stage)), (key, stage));
        }
    }

    #[test]
    fn a_full_table_gives_the_operation_back() {
        let mut table = InFlight::new(2);
        let first = insert(&mut table, 1, Work::Job);
        insert(&mut table, 2, Work::Job);
        let refused = table.insert(None, Monotonic(3), Work::Sync { file: File(7) });
        assert!(matches!(refused, Err(Work::Sync { file: File(7) })));
        assert_eq!(finish(&mut table, first), Some(Token::new(Room::Log, 1)));
        assert!(!table.is_full());
        insert(&mut table, 4, Work::Job);
        assert_eq!(table.count(), 2);
    }

    #[test]
    fn the_reactors_own_operations_are_not_counted() {
        let mut table = InFlight::new(2);
        table.insert(None, Monotonic(0), Work::Wake { count: Box::new(0) }).ok().unwrap();
        assert_eq!((table.count(), table.occupied()), (0, 1));
    }

    #[test]
    fn the_oldest_file_operation_is_known_through_any_order_of_ends() {
        let mut table = InFlight::new(8);
        assert_eq!(table.oldest_file_operation(), None);
        insert(&mut table, 1, Work::Job);
        let keys: Vec<Key> = (2..6).map(|at| insert(&mut table, at, Work::Sync { file: File(1) })).collect();
        let mut check = |end: usize, oldest: Option<u64>| {
            finish(&mut table, keys[end]);
            assert_eq!(table.oldest_file_operation(), oldest.map(Monotonic));
        };
        check(1, Some(2));
        check(0, Some(4));
        check(3, Some(4));
        check(2, None);
    }

    #[test]
    fn bytes_of_writes_are_counted_until_their_end() {
        let mut table = InFlight::new(3);
        let write = |table: &mut InFlight, bytes| {
            let gather = table.take_gather();
            let work = WriteWork {
                file: File(1),
                position: 0,
                slices: Default::default(),
                bytes,
                progress: Progress::default(),
                gather,
                durable: Durable::No,
                written: None,
                synced: None,
                asked: 0,
                written_at: None,
            };
            insert(table, 1, Work::Write(work))
        };
        let keys = [write(&mut table, 10), write(&mut table, 300)];
        insert(&mut table, 1, Work::Sync { file: File(1) });
        assert_eq!(table.write_bytes(), 310);
        for (key, left) in keys.into_iter().zip([300, 0]) {
            finish(&mut table, key);
            assert_eq!(table.write_bytes(), left);
        }
    }

    #[test]
    #[should_panic(expected = "moved on")]
    fn a_stale_key_is_our_own_bug() {
        let mut table = InFlight::new(1);
        let key = insert(&mut table, 1, Work::Job);
        finish(&mut table, key);
        insert(&mut table, 2, Work::Job);
        table.slot(key);
    }

    #[test]
    #[should_panic(expected = "the kernel works on it")]
    fn a_slot_is_not_freed_under_the_kernel() {
        let mut table = InFlight::new(1);
        let key = insert(&mut table, 1, Work::Job);
        table.slot(key).pending = 1;
        finish(&mut table, key);
    }
}
