//! The journal of one shard in one data directory: makes the batches of all its partitions durable with one write and one flush.
//!
//! *Owns* the file, the ring of blocks in it, the group that forms and the groups in flight. *Never* knows a partition beyond
//! its key, and never writes a segment: logs do that later, through the page cache (`log/journaling.rs`). Called by `partition`,
//! which decides when a checkpoint is due and carries it out.
//!
//! A round's batches go `append` (copied behind each other into an aligned buffer) -> `commit` (one O_DIRECT write, linked to one
//! fdatasync) -> `complete` (groups end in order: one that overtook its predecessor waits for it). Each entry says where its
//! bytes belong in a segment, so recovery (`redo`) just puts them there: doing it twice, or over bytes that arrived by
//! themselves, changes nothing.
//!
//! Invariants: a block is written again only after its group was released; groups are released only once their bytes are in
//! the segments, durably, *and* a durable group says so (`first_live`): before, recovery starts from them. Each group says which
//! one was the newest durable group when it was written, and at most [`GROUPS_IN_FLIGHT_MAX`] are in flight: so recovery can
//! tell a torn end from damage.

mod format;
mod growth;
mod inspect;
mod mapped;
mod redo;
mod ring;
mod scan;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::format::{ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES, GroupHeader, group_blocks};
use self::growth::Grower;
use self::ring::BlockRing;
use super::error::{Context, StorageError};
use super::layout;
use super::write_cost::WriteCosts;
use super::write_path::LogSlot;
use super::zeros::write_zeros;
use crate::buffer::{AlignedBuffer, Spares, note_copied, spare_slices};
use crate::metrics::{JournalMeter, JournalWait};
use crate::model::Monotonic;
use crate::reactor::{File, Files, Io, OpenMode, Operation, Outcome, Token};

pub use format::{BLOCK_BYTES, Entry, JournalKind, PartitionKey, Place, Record};
pub use growth::Growth;
pub use inspect::{Inspection, inspect};
pub use mapped::MappedJournal;
pub use redo::{Redone, redo_all};
pub use scan::{JournalDamage, JournalDamageKind, JournalError};

/// Groups in flight at once: the next one is on its way while the device flushes the one before.
pub const GROUPS_IN_FLIGHT_MAX: usize = 2;

/// Bytes of entries in one group: the flush behind it should not wait for more.
const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a journal begins with: zeroed in a few milliseconds, so that a first start is quick.
pub const FIRST_BYTES: u64 = 4 * 1024 * 1024;

const _: () = assert!(GROUP_BYTES_MAX <= format::PAYLOAD_BYTES_MAX);

/// A group takes at most this part of the ring: the one before is still live, and the next one forms.
const GROUPS_IN_RING_MIN: u64 = 4;

/// Unfinished blocks that checkpoints carry forward take at most one of so many parts of the ring.
const CARRIED_PART: u64 = 8;

/// Bugs that the tests must catch: a group counts as durable once it is written; its flush is submitted beside the write, not
/// behind it.
const PLANTED_NO_FLUSH: bool = cfg!(corelog_planted = "1");
const PLANTED_FLUSH_BESIDE_WRITE: bool = cfg!(corelog_planted = "2");

/// What a journal is made with.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// `journal.size`: where it stops to grow.
    pub size_bytes_max: u64,
    /// The device writes through its cache when asked to (FUA): a durable write costs one request instead of two.
    pub has_fua: bool,
}

/// Numbers since the journal was made, for the metrics page.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JournalCounts {
    pub groups: u64,
    pub entries: u64,
    /// Bytes of entries, and bytes written with headers and padding.
    pub entry_bytes: u64,
    pub written_bytes: u64,
    /// Flushes of the device behind groups; none where the device writes through its cache.
    pub flushes: u64,
    pub checkpoints: u64,
}

impl JournalCounts {
    pub fn add(&mut self, other: &JournalCounts) {
        self.groups += other.groups;
        self.entries += other.entries;
        self.entry_bytes += other.entry_bytes;
        self.written_bytes += other.written_bytes;
        self.flushes += other.flushes;
        self.checkpoints += other.checkpoints;
    }
}

/// The group that forms.
struct Forming {
    buffer: AlignedBuffer,
    entry_count: u32,
    members: Vec<LogSlot>,
}

impl Forming {
    fn new(members: Vec<LogSlot>) -> Forming {
        let mut buffer = AlignedBuffer::with_capacity(GROUP_HEADER_BYTES + GROUP_BYTES_MAX + BLOCK_BYTES);
        buffer.extend_from_slice(&[0; GROUP_HEADER_BYTES]);
        Forming { buffer, entry_count: 0, members }
    }

    fn payload_bytes(&self) -> usize {
        self.buffer.len() - GROUP_HEADER_BYTES
    }
}

/// A group that is not known to be durable yet.
struct Flight {
    sequence: u64,
    first_live: u64,
    /// Logs with appends in it; one that is twice in here has two entries.
    members: Vec<LogSlot>,
    bytes: u64,
    entry_count: u32,
    submitted: Monotonic,
    /// One, but with a planted bug.
    completions_left: u8,
    is_durable: bool,
}

/// Groups that became durable.
#[derive(Debug, Default)]
#[must_use]
pub struct Committed {
    /// For each group, in order, the logs that have appends in it.
    pub groups: Vec<Vec<LogSlot>>,
}

/// Why a journal takes no entry now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// As many groups as may be are in flight: those that wait form the next one together. Or none will be any more.
    Busy,
    Waits(JournalWait),
}

/// What takes a log's batches: the journal of its shard and directory, or the mapped one.
pub trait EntrySink {
    /// Whether it takes one more entry with so many bytes behind its header.
    fn has_room(&self, bytes: usize) -> bool;

    /// Adds one entry. `slot`: whom to tell once it counts. Panics without `has_room`.
    fn append(&mut self, slot: Option<LogSlot>, record: &Record<'_>);
}

/// The journals of a log's shard and directory.
pub struct Journals<'a> {
    pub journal: &'a mut Journal,
    /// Where there is one.
    pub mapped: Option<&'a mut MappedJournal>,
}

/// Core: owner shard only.
pub struct Journal {
    file: File,
    path: Arc<Path>,
    id: u64,
    options: JournalOptions,
    ring: BlockRing,
    group_bytes_max: usize,
    forming: Option<Forming>,
    /// A group that the reactor had no room for.
    unsubmitted: Option<(Flight, Token, Operation)>,
    /// Lists of members that were told, for groups to come.
    spare_members: Spares<LogSlot>,
    spare_groups: Spares<Vec<LogSlot>>,
    in_flight: VecDeque<Flight>,
    next_sequence: u64,
    /// The newest group that is durable, with all before it; told in each group from now on.
    durable: u64,
    /// Groups before it are in the segments, durably; told in each group from now on.
    first_live: u64,
    /// A group has to go out, appends or not, to tell `first_live`.
    is_telling: bool,
    grower: Grower,
    /// Takes nothing for now, for a reason of the owner's.
    blocked: Option<JournalWait>,
    /// Nothing will be durable by it any more.
    is_given_up: bool,
    /// The newest group with entries.
    last_entries: u64,
    /// Logs whose unfinished block each checkpoint carries forward.
    carried: BTreeSet<LogSlot>,
    /// What large writes to segments cost, kept here because it is the directory's and the core's.
    pub(super) costs: WriteCosts,
    /// A log was refused for want of room.
    is_too_small: bool,
    counts: JournalCounts,
}

impl Journal {
    /// Makes the journal's file anew, zeroed and durable, in place of an older one of this name. Blocking: at boot, after
    /// recovery. Errors: `InvalidInput` or `Unsupported` inside says that the file system has no O_DIRECT.
    pub fn create(
        files: &mut dyn Files,
        data_directory: &Path,
        shard: u16,
        id: u64,
        options: JournalOptions,
    ) -> Result<Journal, StorageError> {
        let path = data_directory.join(layout::journal_file(shard));
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        match files.remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::new("remove unfinished journal", temporary, error));
            }
            _ => {}
        }
        let file = files.open(&temporary, OpenMode::Direct).context("create journal", &temporary)?;
        let first_bytes = FIRST_BYTES.min(options.size_bytes_max).next_multiple_of(BLOCK_BYTES as u64);
        let made = make(files, file, &temporary, &path, id, first_bytes);
        if let Err(error) = made {
            files.close(file);
            let _ = files.remove_file(&temporary);
            return Err(error);
        }
        let path: Arc<Path> = path.into();
        Ok(Journal {
            file,
            grower: Grower::new(file, path.clone(), JournalKind::Durable, options.size_bytes_max),
            path,
            id,
            options,
            ring: BlockRing::new(first_bytes / BLOCK_BYTES as u64),
            group_bytes_max: GROUP_BYTES_MAX.min((first_bytes / GROUPS_IN_RING_MIN) as usize - BLOCK_BYTES),
            forming: None,
            unsubmitted: None,
            spare_members: Spares::new(),
            spare_groups: Spares::new(),
            in_flight: VecDeque::new(),
            next_sequence: 1,
            durable: 0,
            first_live: 1,
            is_telling: false,
            blocked: None,
            is_given_up: false,
            last_entries: 0,
            carried: BTreeSet::new(),
            costs: WriteCosts::default(),
            is_too_small: false,
            counts: JournalCounts::default(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn counts(&self) -> JournalCounts {
        self.counts
    }

    /// Bytes that groups hold which recovery would need.
    pub fn used_bytes(&self) -> u64 {
        self.ring.used_bytes()
    }

    /// Bytes that groups may take, as the file is now.
    pub fn capacity_bytes(&self) -> u64 {
        self.ring.capacity_bytes()
    }

    /// The number of the group that forms. What was appended so far is in groups before or in it.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The next group waits for one in flight to end.
    pub fn is_busy(&self) -> bool {
        self.in_flight.len() >= GROUPS_IN_FLIGHT_MAX || self.unsubmitted.is_some()
    }

    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Nothing is in flight, and nothing waits to be. The result of a growth does not matter to one that was given up.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
            && self.unsubmitted.is_none()
            && self.forming.is_none()
            && (self.is_given_up || !self.grower.is_growing())
    }

    /// Nothing will be durable by it any more: its directory has failed.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Why the forming group does not take one more entry with so many bytes behind its header.
    pub fn refusal(&self, bytes: usize) -> Option<Refusal> {
        let payload = self.forming.as_ref().map_or(0, Forming::payload_bytes) + ENTRY_HEADER_BYTES + bytes;
        if self.is_given_up {
            Some(Refusal::Busy)
        } else if let Some(cause) = self.blocked {
            Some(Refusal::Waits(cause))
        } else if self.is_busy() {
            Some(Refusal::Busy)
        } else if payload > self.group_bytes_max {
            Some(Refusal::Waits(JournalWait::Group))
        } else if !self.ring.has_room(group_blocks(payload)) {
            Some(Refusal::Waits(JournalWait::Ring))
        } else {
            None
        }
    }

    /// A group goes out at the end of this round.
    pub fn is_forming(&self) -> bool {
        self.forming.is_some()
    }

    /// An entry with more bytes than this never has room.
    pub fn entry_bytes_max(&self) -> usize {
        self.group_bytes_max - ENTRY_HEADER_BYTES
    }

    /// While set, nothing is taken.
    pub fn set_blocked(&mut self, cause: Option<JournalWait>) {
        self.blocked = cause;
    }

    /// Recovery would find entries in it.
    pub fn has_appends(&self) -> bool {
        self.last_entries >= self.first_live || self.forming.is_some()
    }

    /// Whether this log may leave unfinished blocks here, which stay until they are full: each checkpoint carries them forward,
    /// so all of them together take a small part of the ring. Asking again is free.
    pub fn may_carry(&mut self, slot: LogSlot) -> bool {
        let count_max = self.capacity_bytes() / CARRIED_PART / (BLOCK_BYTES + ENTRY_HEADER_BYTES) as u64;
        if self.carried.contains(&slot) {
            return true;
        }
        let is_granted = (self.carried.len() as u64) < count_max;
        if is_granted {
            self.carried.insert(slot);
        }
        self.is_too_small |= !is_granted;
        is_granted
    }

    /// The log leaves no unfinished blocks here any more.
    pub fn carries_no_more(&mut self, slot: LogSlot) {
        self.carried.remove(&slot);
    }

    /// Sends the forming group on its way. `token`: of the group with this sequence. False: the reactor was full, try again.
    pub fn commit(&mut self, io: &mut dyn Io, token: impl Fn(u64) -> Token) -> bool {
        if let Some((flight, token, operation)) = self.unsubmitted.take() {
            return self.submit(io, flight, token, operation);
        }
        if self.is_busy() || (self.forming.is_none() && !self.is_telling) {
            return true;
        }
        if self.forming.is_none() && !self.ring.has_block() {
            // The group in flight tells of a checkpoint too, and makes room when it ends.
            assert!(!self.in_flight.is_empty(), "a full journal has nothing to tell");
            return true;
        }
        let Forming { mut buffer, entry_count, members } =
            self.forming.take().unwrap_or_else(|| Forming::new(Vec::new()));
        let payload_bytes = buffer.len() - GROUP_HEADER_BYTES;
        let sequence = self.next_sequence;
        let placed = self.ring.place(sequence, group_blocks(payload_bytes));
        let header = GroupHeader {
            journal_id: self.id,
            sequence,
            first_live: self.first_live,
            durable: self.durable,
            size_blocks: self.ring.size_blocks(),
            lap: placed.lap,
            entry_count,
            payload_bytes: u32::try_from(payload_bytes).expect("a group is bounded"),
        };
        format::finish_group(buffer.as_mut(), &header);
        buffer.pad();
        if entry_count > 0 {
            self.last_entries = sequence;
        }
        self.next_sequence += 1;
        self.is_telling = false;
        self.counts.groups += 1;
        self.counts.entry_bytes += payload_bytes as u64;
        self.counts.written_bytes += buffer.len() as u64;
        self.counts.flushes += u64::from(!self.options.has_fua);
        let bytes = buffer.len() as u64;
        let (file, position) = (self.file, placed.start * BLOCK_BYTES as u64);
        let mut slices = spare_slices();
        slices.push(buffer.freeze());
        let operation = if self.options.has_fua {
            Operation::WriteDurable { file, position, slices }
        } else {
            Operation::WriteThenSync { file, position, slices }
        };
        let flight = Flight {
            sequence,
            first_live: self.first_live,
            members,
            bytes,
            entry_count,
            submitted: io.now(),
            completions_left: 1,
            is_durable: false,
        };
        self.submit(io, flight, token(sequence), operation)
    }

    fn submit(&mut self, io: &mut dyn Io, mut flight: Flight, token: Token, operation: Operation) -> bool {
        let operation = match operation {
            Operation::WriteThenSync { file, position, slices }
                if PLANTED_NO_FLUSH || PLANTED_FLUSH_BESIDE_WRITE =>
            {
                Operation::Write { file, position, slices }
            }
            operation => operation,
        };
        match io.submit(token, operation) {
            Ok(()) => {
                if PLANTED_FLUSH_BESIDE_WRITE && io.submit(token, Operation::Sync { file: self.file }).is_ok()
                {
                    flight.completions_left += 1;
                }
                self.in_flight.push_back(flight);
                true
            }
            Err(rejected) => {
                self.unsubmitted = Some((flight, token, rejected.0));
                false
            }
        }
    }

    /// Takes the completion of the group with this sequence (its low 32 bits). Errors are final: whatever is in this group or
    /// comes after it will never be durable by this journal.
    pub fn complete(
        &mut self,
        sequence: u32,
        outcome: Outcome,
        now: Monotonic,
        meter: &JournalMeter,
    ) -> Result<Committed, StorageError> {
        let place = self.in_flight.iter().position(|flight| flight.sequence as u32 == sequence);
        let place = place.expect("a group ends once, and is in flight before");
        if self.is_given_up {
            self.in_flight.remove(place);
            return Ok(Committed::default());
        }
        let flight = &mut self.in_flight[place];
        match outcome {
            Outcome::Done => {
                flight.completions_left -= 1;
                flight.is_durable = flight.completions_left == 0;
            }
            Outcome::Failed(source) => {
                self.in_flight.remove(place);
                self.give_up();
                return Err(StorageError::new("write and flush journal", &*self.path, source));
            }
            _ => panic!("a journal write cannot end like this"),
        }
        let mut groups = self.spare_groups.take();
        while self.in_flight.front().is_some_and(|flight| flight.is_durable) {
            let flight = self.in_flight.pop_front().expect("looked at a moment ago");
            self.durable = flight.sequence;
            meter.committed(now.since(flight.submitted), flight.bytes, flight.entry_count.into());
            // Recovery starts behind them from now on, so their blocks may be written again.
            self.ring.release_below(flight.first_live);
            groups.push(flight.members);
        }
        Ok(Committed { groups })
    }

    /// Takes back the lists once the members were told.
    pub fn give_back(&self, mut committed: Committed) {
        committed.groups.drain(..).for_each(|members| self.spare_members.keep(members));
        self.spare_groups.keep(committed.groups);
    }

    /// Sends nothing more, and tells of nothing that still ends: a write or flush under it has failed.
    pub fn give_up(&mut self) {
        self.is_given_up = true;
        self.is_telling = false;
        (self.forming, self.unsubmitted) = (None, None);
    }

    /// Everything in groups before `sequence` is in the segments, durably: the next group tells it.
    pub fn checkpointed(&mut self, sequence: u64) {
        assert!(
            self.first_live <= sequence && sequence <= self.next_sequence,
            "checkpoint {sequence} outside {}..={}",
            self.first_live,
            self.next_sequence
        );
        self.first_live = sequence;
        self.is_telling = true;
        self.counts.checkpoints += 1;
    }

    /// The job that zeroes more of the file, if the journal would use it; its result goes to `grown`.
    pub fn grow(&mut self) -> Option<Growth> {
        let growth = self.grower.grow(&self.ring, self.is_too_small);
        self.is_too_small &= growth.is_none();
        growth
    }

    /// Takes the result of a `Growth`. Want of space is no failure: the journal stays as it is.
    pub fn grown(&mut self, result: Result<u64, StorageError>) -> Result<(), StorageError> {
        self.grower.grown(&mut self.ring, result)
    }

    /// Closes the file.
    pub fn close(self, files: &mut dyn Files) {
        files.close(self.file);
    }

    /// Removes the file: everything in it is in the segments, durably. Panics with groups in flight.
    pub fn remove(self, files: &mut dyn Files) -> Result<(), StorageError> {
        assert!(self.in_flight.is_empty(), "a journal is removed with groups in flight");
        files.close(self.file);
        files.remove_file(&self.path).context("remove journal", &self.path)?;
        let directory = self.path.parent().expect("a journal lies in a data directory");
        files.sync_directory(directory).context("sync data directory", directory)
    }
}

impl EntrySink for Journal {
    fn has_room(&self, bytes: usize) -> bool {
        self.refusal(bytes).is_none()
    }

    fn append(&mut self, slot: Option<LogSlot>, record: &Record<'_>) {
        let bytes = record.entry.bytes();
        assert!(self.has_room(bytes.len()), "{} bytes for a journal that has no room", bytes.len());
        let forming = self.forming.get_or_insert_with(|| Forming::new(self.spare_members.take()));
        forming.buffer.extend_from_slice(&format::entry_header(record));
        forming.buffer.extend_from_slice(bytes);
        note_copied(bytes.len());
        forming.entry_count += 1;
        forming.members.extend(slot);
        self.counts.entries += 1;
    }
}

/// Writes zeros and makes them durable: a commit must not find a hole, which would cost it a second flush.
fn zero(files: &mut dyn Files, file: File, start: u64, end: u64) -> std::io::Result<()> {
    write_zeros(files, file, start, end)?;
    files.sync(file)
}

fn make(
    files: &mut dyn Files,
    file: File,
    temporary: &Path,
    path: &Path,
    id: u64,
    first_bytes: u64,
) -> Result<(), StorageError> {
    zero(files, file, 0, first_bytes).context("write zeros to journal", temporary)?;
    let mut header = AlignedBuffer::with_capacity(BLOCK_BYTES);
    header.extend_from_slice(&format::encode_file_header(JournalKind::Durable, id));
    files.write_at(file, 0, header.as_ref()).context("write journal header", temporary)?;
    files.sync(file).context("flush journal header", temporary)?;
    files.rename(temporary, path).context("name journal", path)?;
    let directory = path.parent().expect("a journal lies in a data directory");
    files.sync_directory(directory).context("sync data directory", directory)
}

#[cfg(test)]
mod tests;
