//! The background scrubber: reads sealed segments that nobody may ask for in years, and says so when their bytes have rotted.
//!
//! One read of a shard is in flight at most, of 256 KiB, through the ring; the next is due when the pace allows it, and waits
//! while older file operations do. A round visits every sealed segment once; the place where it stands is kept in memory
//! alone, so a start begins a new round. Damage is told once a segment and changes nothing on disk: cutting would turn it
//! into loss, and batches around it are sound. The damaged batch itself is not served: readers check what they send.
//!
//! The reads go through the page cache. Pages read once are the first to be given back, and at the default pace they are
//! 8 MiB a second; an operator who cannot spare them sets the pace to 0 and runs `corelog log verify` when it suits.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::jobs::may_pass;
use super::set::{OWN, OWN_SCRUB, PartitionEvent, PartitionSet, ReplicaIndex};
use crate::log::{Checked, Damage, Damaged, ReadError, SealedSegment, SegmentCheck, StorageError};
use crate::model::{Monotonic, Offset, PartitionIndex, TopicId};
use crate::reactor::{File, Files, Io, OpenMode, Operation, Outcome, Room, Token};

/// A read takes some 100 µs of a disk and 30 µs of a core: short enough to hide behind, long enough to be worth the trip.
const READ_BYTES: u32 = 256 * 1024;

/// While a file operation is older than this the disk has enough to do.
const BUSY: Duration = Duration::from_millis(20);

/// When to look again at a disk that was busy, or at a read that has not come back.
const AGAIN: Duration = Duration::from_millis(50);

/// How fast, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// Of this shard; 0: never.
    pub bytes_per_second: u64,
    /// From the beginning of a round to that of the next, at least.
    pub interval: Duration,
}

/// What was done since the counts were last taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubCounts {
    pub bytes: u64,
    /// Batches that are not what they must be, and segments that cannot be read.
    pub damaged: u64,
    /// Reads that the disk refused, of fetches too.
    pub read_errors: u64,
}

/// Where the scrubber of a shard stands.
pub(super) struct Scrubbing {
    options: ScrubOptions,
    round: Option<Round>,
    next_round: Monotonic,
    segment: Option<Segment>,
    /// When the pace allows the next read.
    due: Monotonic,
    /// Damaged files that were told of.
    told: BTreeSet<PathBuf>,
    /// Files that the disk could not read.
    unreadable: BTreeSet<PathBuf>,
    counts: ScrubCounts,
}

/// A round over the replicas, by slot.
struct Round {
    began: Monotonic,
    slot: u32,
    /// Whose slot it is; another log in it is begun anew.
    key: Option<(TopicId, PartitionIndex)>,
    /// In the log of this slot everything below has been visited.
    offset: Offset,
}

/// The segment that is being read.
struct Segment {
    key: (TopicId, PartitionIndex),
    sealed: SealedSegment,
    check: SegmentCheck,
    read_bytes: u64,
    /// Where the work stands; taken out while it moves.
    stage: Stage,
}

enum Stage {
    /// To be opened on the helper thread.
    Closed,
    Opening,
    /// The buffer goes from read to read.
    Open(File, BytesMut),
    Reading(File),
}

impl Scrubbing {
    pub fn new(options: ScrubOptions) -> Scrubbing {
        Scrubbing {
            options,
            round: None,
            next_round: Monotonic(0),
            segment: None,
            due: Monotonic(0),
            told: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            counts: ScrubCounts::default(),
        }
    }

    /// An operation is in flight.
    pub fn is_busy(&self) -> bool {
        matches!(&self.segment, Some(Segment { stage: Stage::Opening | Stage::Reading(_), .. }))
    }
}

impl PartitionSet {
    /// Goes on with the scrubbing as far as pace and disk allow. Returns when to call again.
    pub fn scrub(&mut self, io: &mut dyn Io) -> Monotonic {
        let now = io.now();
        if self.scrubbing.options.bytes_per_second == 0 {
            return Monotonic::NEVER;
        }
        if now < self.scrubbing.due {
            return self.scrubbing.due;
        }
        let is_disk_busy = io.oldest_file_operation().is_some_and(|oldest| now.since(oldest) > BUSY);
        if self.scrubbing.is_busy() || is_disk_busy {
            return now + AGAIN;
        }
        if self.scrubbing.segment.is_none() {
            if self.scrubbing.round.is_none() && now < self.scrubbing.next_round {
                return self.scrubbing.next_round;
            }
            self.scrubbing.segment = self.next_segment(now);
            if self.scrubbing.segment.is_none() {
                return self.scrubbing.next_round.max(now + AGAIN);
            }
        }
        self.submit_scrub(io);
        self.scrubbing.due.max(now + Duration::from_millis(1))
    }

    /// Bytes checked and damage found since the last call.
    pub fn take_scrub_counts(&mut self) -> ScrubCounts {
        std::mem::take(&mut self.scrubbing.counts)
    }

    /// The next segment of the round; `None` ends it.
    fn next_segment(&mut self, now: Monotonic) -> Option<Segment> {
        let mut round =
            self.scrubbing.round.take().unwrap_or(Round { began: now, slot: 0, key: None, offset: 0 });
        while let Some(slot) = self.replicas.get_mut(round.slot as usize) {
            if let Some(replica) = slot.as_mut().filter(|replica| !replica.is_withdrawn) {
                let key = (replica.topic_id, replica.at.partition);
                if round.key != Some(key) {
                    (round.key, round.offset) = (Some(key), 0);
                }
                if let Some(sealed) = replica.log.sealed_segment_from(round.offset) {
                    round.offset = sealed.end_offset;
                    let check = SegmentCheck::new(sealed.base_offset, sealed.size_bytes);
                    self.scrubbing.round = Some(round);
                    return Some(Segment { key, sealed, check, read_bytes: 0, stage: Stage::Closed });
                }
            }
            round.slot += 1;
        }
        self.scrubbing.next_round = round.began + self.scrubbing.options.interval;
        None
    }

    fn submit_scrub(&mut self, io: &mut dyn Io) {
        let token = Token::new(Room::Log, OWN | OWN_SCRUB << 48);
        let Some(segment) = &mut self.scrubbing.segment else { return };
        match std::mem::replace(&mut segment.stage, Stage::Closed) {
            Stage::Closed => {
                let path = segment.sealed.path.clone();
                let open = move |files: &mut dyn Files| -> Box<dyn std::any::Any + Send> {
                    Box::new(files.open(&path, OpenMode::Read))
                };
                if io.submit(token, Operation::Job(Box::new(open))).is_ok() {
                    segment.stage = Stage::Opening;
                }
            }
            Stage::Open(file, buffer) => {
                let left = segment.sealed.size_bytes - segment.read_bytes;
                let length = READ_BYTES.min(u32::try_from(left).unwrap_or(u32::MAX));
                let read = Operation::Read { file, position: segment.read_bytes, length, buffer };
                match io.submit(token, read) {
                    Ok(()) => {
                        segment.stage = Stage::Reading(file);
                        let rate = self.scrubbing.options.bytes_per_second;
                        let nanoseconds = u64::from(length).saturating_mul(1_000_000_000) / rate;
                        self.scrubbing.due = io.now() + Duration::from_nanos(nanoseconds);
                    }
                    Err(_full) => {
                        segment.stage = Stage::Open(file, BytesMut::with_capacity(READ_BYTES as usize));
                    }
                }
            }
            stage @ (Stage::Opening | Stage::Reading(_)) => segment.stage = stage,
        }
    }

    /// The scrubber's operation has ended.
    pub(super) fn scrub_done(&mut self, io: &mut dyn Io, outcome: Outcome) {
        let mut segment =
            self.scrubbing.segment.take().expect("an operation of the scrubber has its segment");
        match (std::mem::replace(&mut segment.stage, Stage::Closed), outcome) {
            (Stage::Opening, Outcome::Job(result)) => {
                match *result.downcast::<io::Result<File>>().expect("the scrubber's job opens a file") {
                    Ok(file) if segment.sealed.size_bytes > 0 => {
                        segment.stage = Stage::Open(file, BytesMut::with_capacity(READ_BYTES as usize));
                        self.scrubbing.segment = Some(segment);
                    }
                    Ok(file) => io.close_file(file),
                    // Retention was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => self.scrub_failed(segment, "open segment", source),
                }
            }
            (Stage::Reading(file), Outcome::Read(bytes)) => self.scrub_bytes(io, segment, file, bytes),
            (Stage::Reading(file), Outcome::Failed(source)) => {
                io.close_file(file);
                self.scrub_failed(segment, "read segment", source);
            }
            _ => panic!("no operation of the scrubber ends like this"),
        }
    }

    fn scrub_bytes(&mut self, io: &mut dyn Io, mut segment: Segment, file: File, bytes: BytesMut) {
        let mut found = Vec::new();
        let mut tell = |checked: Checked<'_>| {
            if let Checked::Damaged { position, damage, .. } = checked {
                found.push((position, damage));
            }
        };
        segment.check.take(&bytes, &mut tell);
        segment.read_bytes += bytes.len() as u64;
        self.scrubbing.counts.bytes += bytes.len() as u64;
        let is_over =
            bytes.is_empty() || segment.read_bytes == segment.sealed.size_bytes || segment.check.is_lost();
        if is_over {
            segment.check.finish(&mut tell);
            let (end_offset, expected) = (segment.check.next_offset(), segment.sealed.end_offset);
            if found.is_empty() && !segment.check.is_lost() && end_offset != expected {
                found.push((segment.read_bytes, Damage::Short { end_offset, expected }));
            }
        }
        self.scrubbing.counts.damaged += found.len() as u64;
        if let Some(&(position, damage)) = found.first() {
            let path = segment.sealed.path.clone();
            self.scrub_found(&segment, ReadError::Corrupt(Damaged { path, position, damage }));
        }
        if is_over {
            io.close_file(file);
        } else {
            segment.stage = Stage::Open(file, bytes);
            self.scrubbing.segment = Some(segment);
        }
    }

    fn scrub_failed(&mut self, segment: Segment, operation: &'static str, source: io::Error) {
        self.scrubbing.counts.damaged += 1;
        let error = StorageError::new(operation, &segment.sealed.path, source).at(segment.read_bytes);
        self.scrub_found(&segment, ReadError::Storage(error));
    }

    fn scrub_found(&mut self, segment: &Segment, error: ReadError) {
        // A segment of a topic that is being deleted is no loss to anybody.
        if let Some(index) = self.find(segment.key.0, segment.key.1) {
            self.tell_damaged(index, segment.sealed.path.clone(), error);
        }
    }

    /// A reader came upon bytes that it does not serve.
    pub(super) fn tell_unreadable(&mut self, index: ReplicaIndex, error: ReadError) {
        let path = match &error {
            ReadError::Corrupt(damaged) => damaged.path.clone(),
            // The lookup raced with a deletion.
            ReadError::Storage(error) if error.source.kind() == io::ErrorKind::NotFound => return,
            ReadError::Storage(error) => error.path.clone(),
            ReadError::OutOfRange { .. } => return,
        };
        self.tell_damaged(index, path, error);
    }

    /// Once a file: a reader that comes back for the same batch, or the next round, has nothing new to say.
    fn tell_damaged(&mut self, index: ReplicaIndex, path: PathBuf, error: ReadError) {
        let replica = self.get(index);
        let (at, directory) = (replica.at.clone(), replica.directory);
        let failure = match &error {
            ReadError::Storage(error) if !may_pass(error) => Some(error.again()),
            _ => None,
        };
        if self.scrubbing.told.insert(path.clone()) {
            self.events.push(PartitionEvent::Damaged { at, error: Arc::new(error) });
        }
        let Some(failure) = failure else { return };
        self.scrubbing.counts.read_errors += 1;
        if self.scrubbing.unreadable.insert(path) && self.directories().get(directory).note_unreadable_file()
        {
            self.fail_directory(directory, Arc::new(failure));
        }
    }

    /// Closes the file under check. Panics if an operation is in flight on it.
    pub(super) fn stop_scrubbing(&mut self, io: &mut dyn Io) {
        assert!(!self.scrubbing.is_busy(), "the scrubber's operation has not ended");
        if let Some(Segment { stage: Stage::Open(file, _), .. }) = self.scrubbing.segment.take() {
            io.close_file(file);
        }
    }
}

#[cfg(test)]
mod tests;
