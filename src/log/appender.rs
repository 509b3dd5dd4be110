//! The end of the log: gives offsets, keeps what is not written yet, and hands it to the write path in groups.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::buffer::{Block, Spares, note_copied};
use crate::model::{LeaderEpoch, Monotonic, Offset, Position, Timestamp};
use crate::record::{self, BatchView, TimestampType};

use super::error::AppendError;
use super::producer_state::Sequence;
use super::space::{SpaceAnswer, Spare};
use super::{Log, Now, offset_index, time_index};

/// The first block of a partition: one memory page, so that ten thousand quiet partitions cost 40 MB, and only while
/// they have been written to recently.
const BLOCK_BYTES_MIN: usize = 4 * 1024;

/// The largest block: a group this large is written at the device's speed anyway.
const BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// A block that fills within this time was too small.
const BLOCK_FILL_TIME: Duration = Duration::from_millis(100);

/// Appended bytes that one log may hold unwritten. A disk that stalls then stops producers, not the process.
const UNWRITTEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One write carries at most this much: the flush behind it should not wait for more.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One write has at most this many slices; the kernel's limit (IOV_MAX) is 1024.
const GROUP_PIECES_MAX: usize = 64;

/// Batches of this size get memory that can be written past the page cache as it is.
const ALIGNED_BATCH_BYTES_MIN: usize = 64 * 1024;

/// Where a batch is in the log now. Acknowledge it once `committed_offset` has reached `end_offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    /// The time that the broker gave to the records, if the topic wants that.
    pub log_append_time: Option<Timestamp>,
    /// The batch was in the log already, from an earlier try of the same producer.
    pub is_duplicate: bool,
}

/// Consecutive batches of one segment in one run of bytes.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub segment: Offset,
    /// Where it belongs in the segment.
    pub position: Position,
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub bytes: Bytes,
    /// Blocks of the segment begin where blocks of memory do.
    pub is_aligned: bool,
}

/// What is appended and not written yet.
#[derive(Default)]
pub(super) struct Tail {
    /// The batches since the last group was taken; what is free behind them serves the next ones.
    block: Block,
    /// Bytes that it still takes.
    block_free: usize,
    block_bytes: usize,
    /// The segment whose blocks begin where blocks of memory do, in the bytes from the last open piece on.
    aligned_to: Option<Offset>,
    block_since: Monotonic,
    open: Option<OpenPiece>,
    pieces: VecDeque<Piece>,
    /// Bytes in `pieces`, in the block and in the write in flight.
    pub unwritten_bytes: usize,
    /// Those of them that are not in flight.
    pub waiting_bytes: usize,
}

#[derive(Clone, Copy)]
struct OpenPiece {
    segment: Offset,
    position: Position,
    base_offset: Offset,
    end_offset: Offset,
}

/// Where a batch goes.
struct Destination {
    segment: Offset,
    position: Position,
    /// The segment is written past the page cache.
    is_direct: bool,
    base_offset: Offset,
}

thread_local! {
    static PIECES: Spares<Piece> = const { Spares::new() };
}

/// An empty list for a group.
pub(super) fn spare_pieces() -> Vec<Piece> {
    PIECES.with(Spares::take)
}

/// Keeps the list of a group that is written for the next one.
pub(super) fn keep_pieces(pieces: Vec<Piece>) {
    PIECES.with(|kept| kept.keep(pieces));
}

impl Tail {
    /// Copies a batch behind the others and returns the copy, for its offset and epoch to be set.
    fn push(&mut self, to: Destination, batch: &BatchView<'_>, now: Monotonic) -> &mut [u8] {
        let Destination { segment, position, is_direct, base_offset } = to;
        let bytes = batch.bytes();
        let is_aligned = self.aligned_to == Some(segment);
        let wants_aligned = is_direct && !is_aligned && bytes.len() >= ALIGNED_BATCH_BYTES_MIN;
        if self.block_free < bytes.len() || wants_aligned {
            self.close_piece();
            self.grow_block(bytes.len(), now);
            let is_aligned = is_direct && self.block_free >= ALIGNED_BATCH_BYTES_MIN;
            self.aligned_to = is_aligned.then_some(segment);
            self.block = match is_aligned {
                // Blocks of memory begin where those of the segment do.
                true => Block::take_at(position as usize, self.block_free),
                false => Block::take(self.block_free),
            };
        }
        let end_offset = base_offset + i64::from(batch.last_offset_delta()) + 1;
        let open =
            self.open.get_or_insert(OpenPiece { segment, position, base_offset, end_offset: base_offset });
        assert!(
            open.segment == segment,
            "a piece of segment {} cannot take a batch of {segment}",
            open.segment
        );
        assert!(open.end_offset == base_offset, "offset {base_offset} does not follow {}", open.end_offset);
        open.end_offset = end_offset;
        let start = self.block.len();
        self.block.extend_from_slice(bytes);
        note_copied(bytes.len());
        self.block_free -= bytes.len();
        self.unwritten_bytes += bytes.len();
        self.waiting_bytes += bytes.len();
        &mut self.block[start..]
    }

    /// Blocks follow the partition's rate: doubled when the last one filled quickly, halved when it filled slowly. In between a
    /// partition keeps its size, and so uses its own blocks again.
    fn grow_block(&mut self, needed: usize, now: Monotonic) {
        let filled_in = now.since(self.block_since);
        let next = match self.block_bytes {
            0 => 0,
            bytes if filled_in < BLOCK_FILL_TIME => bytes * 2,
            bytes if filled_in > 4 * BLOCK_FILL_TIME => bytes / 2,
            bytes => bytes,
        };
        self.block_bytes = next.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        self.block_since = now;
        self.block_free = self.block_bytes.max(Block::size_for(needed));
    }

    /// Ends the run of bytes that is being appended to.
    pub fn close_piece(&mut self) {
        let Some(OpenPiece { segment, position, base_offset, end_offset }) = self.open.take() else { return };
        let bytes = self.block.split().freeze();
        let is_aligned = self.aligned_to == Some(segment);
        self.pieces.push_back(Piece { segment, position, base_offset, end_offset, bytes, is_aligned });
    }

    /// The next bytes to write, all of one segment, oldest first; left in place until `take` takes them.
    pub fn group(&mut self) -> &[Piece] {
        if self.pieces.len() < GROUP_PIECES_MAX {
            self.close_piece();
        }
        let pieces = self.pieces.make_contiguous();
        let Some(first) = pieces.first() else { return &[] };
        let segment = first.segment;
        let mut group_bytes = 0;
        let count = pieces
            .iter()
            .take(GROUP_PIECES_MAX)
            .take_while(|piece| {
                let fits = group_bytes == 0 || group_bytes + piece.bytes.len() <= GROUP_BYTES_MAX;
                group_bytes += piece.bytes.len();
                piece.segment == segment && fits
            })
            .count();
        &pieces[..count]
    }

    /// Takes the group that was submitted.
    pub fn take(&mut self, count: usize) -> Vec<Piece> {
        let mut taken = spare_pieces();
        taken.extend(self.pieces.drain(..count));
        self.waiting_bytes -= taken.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        taken
    }

    /// The oldest piece that waits.
    pub fn first(&mut self) -> Option<&Piece> {
        if self.pieces.is_empty() {
            self.close_piece();
        }
        self.pieces.front()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.pieces.is_empty()
    }

    /// Gives back the free end of a block that has not been used for a while.
    pub fn release_idle_block(&mut self, now: Monotonic, idle: Duration) {
        if self.open.is_none() && self.block_bytes > 0 && now.since(self.block_since) > idle {
            self.block = Block::default();
            (self.block_free, self.block_bytes, self.aligned_to) = (0, 0, None);
        }
    }
}

impl Log {
    /// Appends one batch of a producer and assigns its offsets.
    /// Bytes: `batch` was parsed, and its CRC checked, by the caller; it is copied once.
    /// Errors: nothing has changed, whichever it is. `Wait` and `NoSpace` want a [`Log::drive`].
    /// After return: in memory only. Durable as the topic wants once `committed_offset` reaches `end_offset`.
    pub fn append(
        &mut self,
        batch: &BatchView<'_>,
        leader_epoch: LeaderEpoch,
        now: Now,
    ) -> Result<Appended, AppendError> {
        if let Some(error) = &self.offline {
            return Err(AppendError::Offline(error.clone()));
        }
        self.check_size(batch)?;
        self.check_timestamp(batch, now.wall)?;
        if let Sequence::Duplicate(known) = self.producers.check(batch).map_err(AppendError::Producer)? {
            return Ok(Appended {
                base_offset: known.base_offset(),
                end_offset: known.last_offset + 1,
                // Kafka tells the time of the batch that is there, whatever the topic's timestamp type.
                log_append_time: Some(known.timestamp),
                is_duplicate: true,
            });
        }
        if self.tail.unwritten_bytes >= UNWRITTEN_BYTES_MAX {
            return Err(self.park_append());
        }
        self.judge_group_size(batch.size_bytes());
        if self.must_roll_for(batch, now.wall) {
            self.roll_for_append(now)?;
            self.judge_group_size(batch.size_bytes());
        }
        self.choose_way();
        self.take_space(batch.size_bytes() as u64, now)?;
        Ok(self.place(batch, leader_epoch, now))
    }

    fn check_size(&self, batch: &BatchView<'_>) -> Result<(), AppendError> {
        let size_bytes = batch.size_bytes();
        assert!(batch.bytes().len() == size_bytes, "a batch is appended whole");
        if size_bytes > self.config.max_message_bytes {
            return Err(AppendError::TooLarge { size_bytes, max_bytes: self.config.max_message_bytes });
        }
        if size_bytes as u64 > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment {
                size_bytes,
                segment_bytes: self.config.segment_bytes,
            });
        }
        Ok(())
    }

    fn check_timestamp(&self, batch: &BatchView<'_>, now: Timestamp) -> Result<(), AppendError> {
        let timestamp = batch.max_timestamp();
        let refused = Err(AppendError::Timestamp { timestamp, now });
        if batch.timestamp_type() == TimestampType::LogAppendTime {
            return refused;
        }
        // The oldest record is not known without a walk over the records; the largest timestamp stands for all.
        if self.config.timestamp_type == TimestampType::LogAppendTime || timestamp < 0 {
            return Ok(());
        }
        let (before, after) = (now.saturating_sub(timestamp), timestamp.saturating_sub(now));
        let is_allowed = u64::try_from(before).is_ok_and(|b| b <= self.config.timestamp_before_max_ms)
            || u64::try_from(after).is_ok_and(|a| a <= self.config.timestamp_after_max_ms);
        if is_allowed { Ok(()) } else { refused }
    }

    /// Kafka's `LogSegment.shouldRoll`: size, age of the first record, full indexes, relative offsets that do not fit.
    fn must_roll_for(&self, batch: &BatchView<'_>, now: Timestamp) -> bool {
        let active = self.active();
        if active.is_empty() {
            return false;
        }
        let indexes = active.indexes.as_ref().expect("an active segment has its indexes in memory");
        let index_bytes_max = self.config.segment_index_bytes as usize;
        let last_offset = self.log_end + i64::from(batch.last_offset_delta());
        // Age counts in the records' own time, so that a replay of old data rolls as it did when it was new.
        let batch_time = match self.config.timestamp_type {
            TimestampType::CreateTime => batch.max_timestamp(),
            TimestampType::LogAppendTime => now,
        };
        let age = match active.first_timestamp.filter(|t| *t >= 0) {
            Some(first) => batch_time.saturating_sub(first),
            None => now.saturating_sub(active.created),
        };
        self.is_roll_wanted
            || self.is_way_over()
            || active.size_bytes + batch.size_bytes() as u64 > self.config.segment_bytes
            || u64::try_from(age).is_ok_and(|age| age > self.segment_age_max(active.base_offset))
            || (indexes.offset.len() + 1) * offset_index::ENTRY_BYTES > index_bytes_max
            || (indexes.time.len() + 1) * time_index::ENTRY_BYTES > index_bytes_max
            || last_offset - active.base_offset > i64::from(i32::MAX)
    }

    /// `segment.ms` less a share of `segment.jitter.ms`, which keeps partitions made together from rolling together.
    pub(super) fn segment_age_max(&self, base_offset: Offset) -> u64 {
        let jitter = match self.config.segment_jitter_ms {
            0 => 0,
            // Spread by name and offset: no random number is needed, and a run replays.
            max => {
                let mut hash = base_offset as u64 ^ (self.partition.partition as u64) << 40;
                for byte in self.partition.topic.bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                hash % max
            }
        };
        self.config.segment_ms.saturating_sub(jitter)
    }

    /// Rolls now, or says why not yet.
    fn roll_for_append(&mut self, now: Now) -> Result<(), AppendError> {
        match self.spare {
            Spare::Ready { .. } if self.active().is_named => {
                self.roll(now.wall);
                Ok(())
            }
            Spare::Refused { until } if now.monotonic < until => Err(AppendError::NoSpace),
            Spare::Ready { .. } | Spare::Making => Err(self.park_append()),
            Spare::None | Spare::Wanted | Spare::Refused { .. } => {
                self.spare = Spare::Wanted;
                Err(self.park_append())
            }
        }
    }

    /// Makes sure that the bytes have a place on the file system before they enter the tail.
    fn take_space(&mut self, size_bytes: u64, now: Now) -> Result<(), AppendError> {
        let end = self.active().size_bytes + size_bytes;
        match self.ask_space(end, now.monotonic) {
            SpaceAnswer::Yes => Ok(()),
            SpaceAnswer::Wait => Err(self.park_append()),
            SpaceAnswer::Refused => Err(AppendError::NoSpace),
        }
    }

    fn park_append(&mut self) -> AppendError {
        self.in_flight.is_append_parked = true;
        AppendError::Wait
    }

    /// Everything that must be true has been checked: the batch becomes part of the log.
    fn place(&mut self, batch: &BatchView<'_>, leader_epoch: LeaderEpoch, now: Now) -> Appended {
        let base_offset = self.log_end;
        let is_log_append_time = self.config.timestamp_type == TimestampType::LogAppendTime;
        let interval_bytes = self.config.index_interval_bytes;
        let segment_base = self.active().base_offset;

        let position = self.active().size_bytes;
        let is_direct = self.active().direct.is_some();
        let to = Destination { segment: segment_base, position, is_direct, base_offset };
        let copy = self.tail.push(to, batch, now.monotonic);
        record::set_base_offset(copy, base_offset);
        record::set_leader_epoch(copy, leader_epoch);
        if is_log_append_time {
            record::set_log_append_time(copy, now.wall);
        }
        let placed = BatchView::parse(copy).expect("a parsed batch stays one when it is placed");
        let end_offset = placed.end_offset();

        self.producers.update(&placed, now.wall);
        let segment = self.segments.back_mut().expect("a log has an active segment");
        segment.indexes_mut().note(&placed, position, interval_bytes);
        segment.largest_timestamp = segment.largest_timestamp.max(Some(placed.max_timestamp()));
        segment.first_timestamp.get_or_insert(placed.max_timestamp());
        segment.size_bytes += placed.size_bytes() as u64;
        segment.end_offset = end_offset;
        if self.epochs.assign(leader_epoch, base_offset) {
            self.unsaved_epoch_start.get_or_insert(base_offset);
        }
        self.log_end = end_offset;
        self.assert_offsets();
        Appended {
            base_offset,
            end_offset,
            log_append_time: is_log_append_time.then_some(now.wall),
            is_duplicate: false,
        }
    }
}
