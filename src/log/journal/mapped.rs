//! The mapped journal of one shard in one data directory: keeps, without a system call, the batches of topics that are
//! acknowledged without a flush.
//!
//! Under `os` and `interval` an acknowledgement means that a record survives the process. A write to the page cache makes sure
//! of that, one for each partition and round, on ext4 by a thread of the kernel. Memory that is mapped from a file *is* the page
//! cache: what a round's batches were copied to there is as safe, at once, and the segments are written later, many batches at a
//! time.
//!
//! *Owns* the file, its mapping, the ring of blocks in it and the group that forms. *Never* knows a partition beyond its key, and
//! never writes a segment. The format is that of the other journal, but for what `format` says; a group comes to be in place, its
//! header last. Nothing here waits, so nothing is in flight: what a round has appended counts from `commit` on.
//!
//! Invariants: a block is written again only after its group was released; groups are released only once their bytes are in
//! the segments, and a group that says so is there. Nothing is said of the device: after a crash of the machine any part of the
//! file may be missing, or be of a lap before. Then what is carried out is what the newest complete chain says, bytes that were
//! in these places once; and nothing that is missing counts as damage.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{
    self, BLOCK_BYTES, ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES, GroupHeader, JournalKind, Record, group_blocks,
};
use super::growth::{Grower, Growth};
use super::ring::BlockRing;
use super::{EntrySink, JournalCounts, Refusal};
use crate::buffer::{Spares, note_copied};
use crate::log::error::{Context, StorageError};
use crate::log::layout;
use crate::log::write_path::LogSlot;
use crate::log::zeros::write_zeros;
use crate::metrics::JournalWait;
use crate::model::Position;
use crate::reactor::{File, Files, Mapping, OpenMode};

/// What it begins with.
const FIRST_BYTES: u64 = 1024 * 1024;

/// What it grows to, unless the other journal is to be smaller: much of it is in memory twice.
const SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of entries in one group. A round may fill several.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// A group takes at most this part of the ring.
const GROUPS_IN_RING_MIN: u64 = 4;

/// The group that forms.
struct Forming {
    sequence: u64,
    start: Position,
    lap: u32,
    payload_bytes: usize,
    payload_crc: u32,
    entry_count: u32,
}

/// Core: owner shard only.
pub struct MappedJournal {
    /// Dropped before the file is closed.
    mapping: Box<dyn Mapping>,
    file: File,
    path: Arc<Path>,
    id: u64,
    grower: Grower,
    group_bytes_max: usize,
    ring: BlockRing,
    forming: Option<Forming>,
    /// Logs with appends of this round; one that is twice in here has two.
    members: Vec<LogSlot>,
    /// Lists of members that were told, for rounds to come.
    spare_members: Spares<LogSlot>,
    next_sequence: u64,
    first_live: u64,
    /// The newest group with entries.
    last_entries: u64,
    blocked: Option<JournalWait>,
    is_given_up: bool,
    counts: JournalCounts,
}

impl MappedJournal {
    /// Makes the file, in place of an older one of this name, which was carried out. Blocking: at boot, after recovery.
    /// `size_bytes_max`: `journal.size`. Errors: `Unsupported` inside says that there are no mappings here.
    pub fn create(
        files: &mut dyn Files,
        data_directory: &Path,
        shard: u16,
        id: u64,
        size_bytes_max: u64,
    ) -> Result<MappedJournal, StorageError> {
        let path = data_directory.join(layout::mapped_journal_file(shard));
        let file = files.open(&path, OpenMode::Truncate).context("create mapped journal", &path)?;
        let block = BLOCK_BYTES as u64;
        let size_bytes_max = size_bytes_max.min(SIZE_BYTES_MAX).next_multiple_of(block);
        let first_bytes = FIRST_BYTES.min(size_bytes_max);
        let made = make(files, file, id, first_bytes).and_then(|()| files.map(file, size_bytes_max));
        let mapping = match made {
            Ok(mapping) => mapping,
            Err(error) => {
                files.close(file);
                let _ = files.remove_file(&path);
                return Err(StorageError::new("make mapped journal", path, error));
            }
        };
        let path: Arc<Path> = path.into();
        Ok(MappedJournal {
            mapping,
            file,
            grower: Grower::new(file, path.clone(), JournalKind::Mapped, size_bytes_max),
            path,
            id,
            group_bytes_max: GROUP_BYTES_MAX.min((first_bytes / GROUPS_IN_RING_MIN) as usize - BLOCK_BYTES),
            ring: BlockRing::new(first_bytes / block),
            forming: None,
            members: Vec::new(),
            spare_members: Spares::new(),
            next_sequence: 1,
            first_live: 1,
            last_entries: 0,
            blocked: None,
            is_given_up: false,
            counts: JournalCounts::default(),
        })
    }

    pub fn counts(&self) -> JournalCounts {
        self.counts
    }

    /// Bytes that groups hold which a start after a crash of the process would need.
    pub fn used_bytes(&self) -> u64 {
        self.ring.used_bytes()
    }

    /// Bytes that groups may take, as the file is now.
    pub fn capacity_bytes(&self) -> u64 {
        self.ring.capacity_bytes()
    }

    /// The number of the next group to begin. What was committed so far is in groups before it.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// A start would find entries in it.
    pub fn has_appends(&self) -> bool {
        self.last_entries >= self.first_live
    }

    /// Why it does not take one more entry with so many bytes behind its header.
    pub fn refusal(&self, bytes: usize) -> Option<Refusal> {
        let fits =
            |forming: &Forming| forming.payload_bytes + ENTRY_HEADER_BYTES + bytes <= self.group_bytes_max;
        if self.is_given_up || bytes > self.entry_bytes_max() {
            Some(Refusal::Busy)
        } else if let Some(cause) = self.blocked {
            Some(Refusal::Waits(cause))
        } else if self.forming.as_ref().is_some_and(fits) || self.ring.has_room(self.group_blocks_max()) {
            None
        } else {
            Some(Refusal::Waits(JournalWait::Ring))
        }
    }

    fn group_blocks_max(&self) -> u64 {
        group_blocks(self.group_bytes_max)
    }

    /// An entry with more bytes than this never has room.
    pub fn entry_bytes_max(&self) -> usize {
        self.group_bytes_max - ENTRY_HEADER_BYTES
    }

    /// While set, nothing is taken.
    pub fn set_blocked(&mut self, cause: Option<JournalWait>) {
        self.blocked = cause;
    }

    /// Ends the group that forms. What was appended since the last call survives the process from now on; the logs that have
    /// appends in it are to be told, in this order, and the list is given back. Errors are final.
    pub fn commit(&mut self) -> Result<Vec<LogSlot>, StorageError> {
        self.seal();
        if self.mapping.has_failed() && !self.is_given_up {
            self.give_up();
            let source = io::Error::from_raw_os_error(libc::EIO);
            return Err(StorageError::new("put into mapped journal", &*self.path, source));
        }
        Ok(match self.members.is_empty() {
            true => Vec::new(),
            false => std::mem::replace(&mut self.members, self.spare_members.take()),
        })
    }

    /// Takes back the list of logs that were told.
    pub fn give_back(&self, members: Vec<LogSlot>) {
        self.spare_members.keep(members);
    }

    /// Begins a group, for which there is room, or one without entries.
    fn begin(&mut self, blocks: u64) -> Forming {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let placed = self.ring.place(sequence, blocks);
        let start = placed.start * BLOCK_BYTES as u64;
        Forming { sequence, start, lap: placed.lap, payload_bytes: 0, payload_crc: 0, entry_count: 0 }
    }

    fn seal(&mut self) {
        let Some(forming) = self.forming.take() else { return };
        let header = GroupHeader {
            journal_id: self.id,
            sequence: forming.sequence,
            first_live: self.first_live,
            durable: 0,
            size_blocks: self.ring.size_blocks(),
            lap: forming.lap,
            entry_count: forming.entry_count,
            payload_bytes: u32::try_from(forming.payload_bytes).expect("a group is bounded"),
        };
        self.mapping.put(forming.start, &format::mapped_group_header(&header, forming.payload_crc));
        self.ring.trim(group_blocks(forming.payload_bytes));
        if forming.entry_count > 0 {
            self.last_entries = forming.sequence;
        }
        self.counts.groups += 1;
        self.counts.entry_bytes += forming.payload_bytes as u64;
        self.counts.written_bytes += (GROUP_HEADER_BYTES + forming.payload_bytes) as u64;
    }

    fn put(&mut self, bytes: &[u8]) {
        let forming = self.forming.as_mut().expect("a group was begun");
        let position = forming.start + (GROUP_HEADER_BYTES + forming.payload_bytes) as u64;
        self.mapping.put(position, bytes);
        forming.payload_crc = crate::record::crc32c_append(forming.payload_crc, bytes);
        forming.payload_bytes += bytes.len();
    }

    /// Everything in groups before `sequence` is in the segments. Panics while a group forms: after `commit`.
    pub fn checkpointed(&mut self, sequence: u64) {
        assert!(
            self.first_live <= sequence && sequence <= self.next_sequence,
            "checkpoint {sequence} outside {}..={}",
            self.first_live,
            self.next_sequence
        );
        assert!(self.forming.is_none(), "a checkpoint ends while a group forms");
        self.first_live = sequence;
        // It is told before any of their blocks is written again: a start that found a part of them only would carry out none.
        self.forming = Some(self.begin(1));
        self.seal();
        self.ring.release_below(sequence);
        self.counts.checkpoints += 1;
    }

    /// So much is in use that a checkpoint should begin.
    pub fn is_checkpoint_due(&self) -> bool {
        self.used_bytes() * 2 > self.capacity_bytes()
    }

    /// The job that makes the file larger, if the journal would use it; its result goes to `grown`.
    pub fn grow(&mut self) -> Option<Growth> {
        self.grower.grow(&self.ring, false)
    }

    /// Takes the result of a growth.
    pub fn grown(&mut self, result: Result<u64, StorageError>) -> Result<(), StorageError> {
        self.grower.grown(&mut self.ring, result)
    }

    /// No job works on its file, and all of its appends were told.
    pub fn is_quiet(&self) -> bool {
        self.forming.is_none() && self.members.is_empty() && (self.is_given_up || !self.grower.is_growing())
    }

    /// Takes nothing more: its directory has failed.
    pub fn give_up(&mut self) {
        self.is_given_up = true;
        self.forming = None;
        self.members.clear();
    }

    /// Closes the file.
    pub fn close(self, files: &mut dyn Files) {
        drop(self.mapping);
        files.close(self.file);
    }

    /// Removes the file: everything in it is in the segments, durably.
    pub fn remove(self, files: &mut dyn Files) -> Result<(), StorageError> {
        drop(self.mapping);
        files.close(self.file);
        files.remove_file(&self.path).context("remove mapped journal", &self.path)
    }
}

impl EntrySink for MappedJournal {
    fn has_room(&self, bytes: usize) -> bool {
        self.refusal(bytes).is_none()
    }

    fn append(&mut self, slot: Option<LogSlot>, record: &Record<'_>) {
        let bytes = record.entry.bytes();
        assert!(self.has_room(bytes.len()), "{} bytes for a mapped journal that has no room", bytes.len());
        let needed = ENTRY_HEADER_BYTES + bytes.len();
        if self.forming.as_ref().is_some_and(|forming| forming.payload_bytes + needed > self.group_bytes_max)
        {
            self.seal();
        }
        if self.forming.is_none() {
            self.forming = Some(self.begin(self.group_blocks_max()));
        }
        self.put(&format::entry_header(record));
        self.put(bytes);
        note_copied(bytes.len());
        self.forming.as_mut().expect("begun above").entry_count += 1;
        self.members.extend(slot);
        self.counts.entries += 1;
    }
}

/// Written, and not only reserved: a store into a page without a block could find no space, which nobody would be told of.
fn make(files: &mut dyn Files, file: File, id: u64, first_bytes: u64) -> io::Result<()> {
    files.write_at(file, 0, &format::encode_file_header(JournalKind::Mapped, id))?;
    write_zeros(files, file, BLOCK_BYTES as u64, first_bytes)
}
