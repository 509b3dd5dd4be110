//! One partition's bytes on disk.
//!
//! *Owns* segments, indexes, the tail in memory, producer state, leader epochs, recovery and retention. *Never* sees a Kafka
//! request or a socket, and never decides what a consumer may see: callers bound their reads. Called by `partition`,
//! driven by `shard` (which owns one [`TailCache`] and routes completions of [`Room::Log`] by slot).
//!
//! A batch goes `append` (copied into the tail in memory, offsets given) -> `drive` (handed to the journal, or written to its
//! segment and flushed where the topic wants it, in groups) -> `journaled` or `complete` (the offsets below move). Nothing is
//! acknowledged before `committed_offset` has passed it.
//!
//! Invariants, asserted at every change, of exclusive ends: `log_start <= written <= log_end`, `flushed <= written`, and of what
//! the segments' files have, `file_flushed <= stored <= written`, `file_flushed <= flushed`. Sealed segments never change. Base offsets strictly grow and each segment starts where the one before it ends.
//! After a failed write or flush the log is offline: nothing is written or acknowledged until recovery opened it again.

mod appender;
mod checkpoint;
mod close;
mod direct;
mod distrust;
mod error;
pub mod journal;
mod journaling;
pub mod layout;
mod leader_epoch_cache;
mod offset_index;
mod page_cache;
mod producer_state;
mod reader;
mod recovery;
mod retention;
mod roll;
mod scrub;
mod segment;
mod space;
mod tail_cache;
mod time_index;
mod timestamp_search;
mod truncation;
mod walked_headers;
mod write_cost;
mod write_path;
mod zeros;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{LeaderEpoch, Monotonic, Offset, Timestamp, TopicId, TopicPartition};
use crate::reactor::{File, Files, Io};
use crate::record::TimestampType;

pub use appender::Appended;
pub use checkpoint::{
    CheckpointBook, Offsets, PartitionOffsets, parse_offsets, read_offsets, take_clean_shutdown,
    write_clean_shutdown,
};
pub use close::OldFile;
pub use distrust::{heed_storage_failure, note_storage_failure, sync_file_system};
pub use error::{AppendError, Damage, Damaged, ProducerError, ReadError, RecoveryError, StorageError};
pub use leader_epoch_cache::{EpochStart, LeaderEpochCache};
pub use producer_state::{InvalidSnapshot, ProducerEntry, ProducerState, RememberedBatch};
pub use reader::{DiskRead, ReadDone, ReadPlan, discard_located};
pub use recovery::{RecoveryInput, RecoveryReport, read_topic_id};
pub use scrub::{Checked, SealedSegment, SegmentCheck};
pub use tail_cache::{ChunkId, TailCache};
pub use timestamp_search::{RecordAt, SearchError, TimestampPlan, TimestampSearch};
pub use write_path::{LogSlot, Progress};

use appender::Tail;
use direct::{MayBeDirect, Unfinished};
use journal::Place;
use journaling::Unstored;
use reader::{Hint, TailChunk};
use roll::Condemned;
use segment::{Loans, Segment, SegmentState};
use space::{Space, Spare};
use write_cost::{Measured, WriteCosts};
use write_path::InFlight;

/// When appended bytes count as committed. Resolved by the caller from `durability`, `flush.messages` and `flush.ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When flushed; every write is followed by its flush.
    Fsync,
    /// When written; flushed once so much time has passed or so many records came, whichever is first.
    Interval { flush_ms: u64, flush_messages: u64 },
    /// When written; flushed when the kernel likes, and at rolls.
    Os,
}

/// How bytes become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePath {
    /// Of logs that flush every write `Journal`, or `Direct` while their groups are large; of others `PageCache`.
    Auto,
    /// The shard's journal first, the segment later.
    Journal,
    /// The segment, past the page cache, in whole blocks; what is left of a block goes to the journal until it is full.
    Direct,
    /// The segment, through the page cache.
    PageCache,
}

/// What a topic's configuration says about its logs, as plain values. Kafka's names and units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    pub segment_bytes: u64,
    pub segment_ms: u64,
    pub segment_jitter_ms: u64,
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a full index rolls the segment.
    pub segment_index_bytes: u32,
    /// `None`: for ever.
    pub retention_ms: Option<u64>,
    /// `None`: without limit.
    pub retention_bytes: Option<u64>,
    pub max_message_bytes: usize,
    pub durability: Durability,
    pub write_path: WritePath,
    /// `journal.bypass.bytes`: more than this at once goes to the segment itself.
    pub journal_bypass_bytes: usize,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: u64,
    pub timestamp_after_max_ms: u64,
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka 4.3's defaults, and corelog's `durability`.
    fn default() -> LogConfig {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * HOUR_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(7 * 24 * HOUR_MS),
            retention_bytes: None,
            max_message_bytes: (1 << 20) + 12,
            durability: Durability::Fsync,
            write_path: WritePath::Auto,
            journal_bypass_bytes: 64 * 1024,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX as u64,
            timestamp_after_max_ms: HOUR_MS,
            producer_id_expiration_ms: 24 * HOUR_MS as i64,
        }
    }
}

/// Both clocks, read once a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub monotonic: Monotonic,
    pub wall: Timestamp,
}

impl Now {
    pub fn read(io: &dyn Io) -> Now {
        Now { monotonic: io.now(), wall: io.wall_clock() }
    }
}

/// One partition's log. Core: owner shard only; may be opened on a helper thread and sent to its shard.
pub struct Log {
    slot: LogSlot,
    directory: Arc<Path>,
    partition: TopicPartition,
    topic_id: TopicId,
    config: LogConfig,

    /// Never empty; the last one is active.
    segments: VecDeque<Segment>,
    log_start: Offset,
    /// On the device, in a segment; never above `stored`.
    file_flushed: Offset,
    /// On the device, in a segment or in the journal.
    flushed: Offset,
    /// In a segment.
    stored: Offset,
    /// In a segment or in the journal.
    written: Offset,
    log_end: Offset,
    committed: Offset,
    /// False between a switch to `Fsync` and the moment at which everything committed is flushed.
    is_fsync_in_effect: bool,

    epochs: LeaderEpochCache,
    /// The first epoch that is not in the file yet starts here.
    unsaved_epoch_start: Option<Offset>,
    producers: ProducerState,

    tail: Tail,
    cached: VecDeque<TailChunk>,
    hints: Vec<Hint>,

    space: Space,
    spare: Spare,
    is_roll_wanted: bool,
    condemned: Vec<Condemned>,
    /// Files of segments that are gone, closed when the last read of them is done.
    lent: Vec<(File, Loans)>,
    /// Sealed segments whose files were opened, or left open, since this was last asked.
    opened: Vec<Offset>,
    /// A log start that a checkpoint file holds: what is below it may be unlinked.
    durable_log_start: Offset,
    in_flight: InFlight,
    unflushed_since: Option<Monotonic>,
    /// Where the log ended when the last interval of a topic that is flushed now and then was over.
    interval_end: Offset,
    /// Journaled bytes that are not in their segment yet.
    unstored: Unstored,
    /// The end of a direct segment, less than a block of which is in the journal and not in the segment.
    unfinished: Unfinished,
    may_be_direct: MayBeDirect,
    /// The size of this log's groups lately.
    group_bytes: u64,
    has_large_groups: bool,
    /// Of the log's core and directory, as they were at the last drive, and what is new since.
    costs: WriteCosts,
    measured: Option<Measured>,
    /// By what was measured, as of the last verdict on the size of groups.
    is_direct_better: bool,
    /// What went past the journal last, for its next group to remember.
    bypassed: Option<Place>,
    /// A checkpoint waits for the segments' files to be flushed up to here.
    file_flush_wanted: Offset,
    offline: Option<Arc<StorageError>>,
    is_retired: bool,
}

impl Log {
    /// Makes a new partition on disk, durable on return, and opens it. Blocking: at boot or in a job.
    /// Errors: the directory exists, or cannot be made.
    pub fn create(
        files: &mut dyn Files,
        directory: &Path,
        partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        now: Timestamp,
    ) -> Result<Log, StorageError> {
        use error::Context;
        files.create_directory(directory).context("create partition directory", directory)?;
        let metadata = directory.join(layout::PARTITION_METADATA);
        files
            .replace(&metadata, layout::encode_partition_metadata(topic_id).as_bytes())
            .context("write partition metadata", &metadata)?;
        let log = Log::new(directory, partition, topic_id, config);
        let log = log.with_first_segment(files, 0, now)?;
        let parent = directory.parent().expect("a partition directory lies in a data directory");
        files.sync_directory(parent).context("sync data directory", parent)?;
        Ok(log)
    }

    /// A log without segments, for `create` and `recover` to fill.
    fn new(directory: &Path, partition: TopicPartition, topic_id: TopicId, config: LogConfig) -> Log {
        Log {
            slot: LogSlot(0),
            directory: directory.into(),
            partition,
            topic_id,
            config,
            segments: VecDeque::new(),
            log_start: 0,
            file_flushed: 0,
            flushed: 0,
            stored: 0,
            written: 0,
            log_end: 0,
            committed: 0,
            is_fsync_in_effect: config.durability == Durability::Fsync,
            epochs: LeaderEpochCache::default(),
            unsaved_epoch_start: None,
            producers: ProducerState::default(),
            tail: Tail::default(),
            cached: VecDeque::new(),
            hints: Vec::new(),
            space: Space::default(),
            spare: Spare::None,
            is_roll_wanted: false,
            condemned: Vec::new(),
            lent: Vec::new(),
            opened: Vec::new(),
            durable_log_start: 0,
            in_flight: InFlight::default(),
            unflushed_since: None,
            interval_end: 0,
            unstored: Unstored::default(),
            unfinished: Unfinished::default(),
            may_be_direct: MayBeDirect::default(),
            group_bytes: 0,
            has_large_groups: false,
            costs: WriteCosts::default(),
            measured: None,
            is_direct_better: false,
            bypassed: None,
            file_flush_wanted: 0,
            offline: None,
            is_retired: false,
        }
    }

    /// Starts at `base_offset` with one empty segment.
    fn with_first_segment(
        mut self,
        files: &mut dyn Files,
        base_offset: Offset,
        now: Timestamp,
    ) -> Result<Log, StorageError> {
        use error::Context;
        assert!(self.segments.is_empty(), "{} has a segment already", self.partition);
        let path = layout::offset_file(&self.directory, base_offset, layout::FileSuffix::Log);
        let file = files.open(&path, crate::reactor::OpenMode::Truncate).context("create segment", &path)?;
        files.sync_directory(&self.directory).context("sync partition directory", &self.directory)?;
        let mut segment = Segment::new(base_offset, now);
        segment.file = Some(file);
        self.segments.push_back(segment);
        self.log_start = base_offset;
        self.set_end(base_offset);
        self.durable_log_start = base_offset;
        Ok(self)
    }

    /// Everything up to this offset, and nothing else, is there and on the device.
    fn set_end(&mut self, end: Offset) {
        (self.file_flushed, self.flushed, self.stored, self.written) = (end, end, end, end);
        (self.log_end, self.committed) = (end, end);
    }

    /// Gives the log its place in the shard; completions come back with it.
    pub fn attach(&mut self, slot: LogSlot) {
        self.slot = slot;
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end
    }

    /// Below it the bytes are in the kernel, in a segment or in the journal: they survive the process.
    pub fn written_offset(&self) -> Offset {
        self.written
    }

    /// Below it the bytes are on the device, or are durably deleted.
    pub fn flushed_offset(&self) -> Offset {
        self.flushed
    }

    /// Below it the topic's durability level has been reached. Never goes back.
    pub fn committed_offset(&self) -> Offset {
        self.committed
    }

    /// What the recovery-point checkpoint may say: below it bytes are flushed in their segments, and so are the epochs they
    /// began. What only the journal has is above it.
    pub fn recovery_point(&self) -> Offset {
        self.unsaved_epoch_start
            .map_or(self.file_flushed, |start| self.file_flushed.min(start))
            .max(self.durable_log_start)
    }

    pub fn leader_epochs(&self) -> &LeaderEpochCache {
        &self.epochs
    }

    /// Where records of `epoch` end; see [`LeaderEpochCache::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.log_end)
    }

    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// Bytes of all segments, the unwritten tail included.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size_bytes).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Why the log takes nothing any more, if so.
    pub fn offline(&self) -> Option<&Arc<StorageError>> {
        self.offline.as_ref()
    }

    /// Changes the configuration of a live log. A switch to `Fsync` takes effect for `committed_offset` once everything
    /// committed so far is flushed, so that it never goes back.
    pub fn set_config(&mut self, config: LogConfig) {
        let is_fsync = config.durability == Durability::Fsync;
        self.is_fsync_in_effect = is_fsync && (self.is_fsync_in_effect || self.flushed >= self.committed);
        self.config = config;
        if is_fsync && self.mapped_end().is_some() {
            // What only the mapped journal has is to be flushed as well.
            self.want_stored();
        }
        // The last block is written in another way from now on, and finished for that.
        self.is_roll_wanted |= self.is_padding_over();
        self.commit();
    }

    /// Raises the log start, as DeleteRecords does. Returns the log start that now holds: it never goes back.
    /// Panics if `offset` lies above what is written; callers bound it by the high watermark.
    pub fn advance_log_start(&mut self, offset: Offset) -> Offset {
        assert!(
            offset <= self.written,
            "log start {offset} above written offset {} in {}",
            self.written,
            self.partition
        );
        if offset > self.log_start {
            self.log_start = offset;
            // Recovery cuts the epochs at the log start, so their file may keep older ones until it is written again.
            self.epochs.truncate_from_start(offset);
            self.assert_offsets();
        }
        self.log_start
    }

    fn active(&self) -> &Segment {
        self.segments.back().expect("a log has an active segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log has an active segment")
    }

    fn segment_mut(&mut self, base_offset: Offset) -> Option<&mut Segment> {
        self.segments.iter_mut().rev().find(|s| s.base_offset == base_offset)
    }

    fn log_path(&self, base_offset: Offset) -> PathBuf {
        layout::offset_file(&self.directory, base_offset, layout::FileSuffix::Log)
    }

    fn assert_offsets(&self) {
        let Log { log_start, durable_log_start, flushed, written, log_end, committed, .. } = *self;
        let Log { file_flushed, stored, .. } = *self;
        assert!(file_flushed <= stored, "flushed {file_flushed} > stored {stored} in {}", self.partition);
        assert!(
            stored <= written && file_flushed <= flushed,
            "stored {stored}, flushed {file_flushed} of written {written}, flushed {flushed} in {}",
            self.partition
        );
        assert!(log_start <= written, "log start {log_start} > written {written} in {}", self.partition);
        assert!(
            durable_log_start <= flushed,
            "{durable_log_start} > flushed {flushed} in {}",
            self.partition
        );
        assert!(flushed <= written, "flushed {flushed} > written {written} in {}", self.partition);
        assert!(written <= log_end, "written {written} > log end {log_end} in {}", self.partition);
        assert!(committed <= written, "committed {committed} > written {written} in {}", self.partition);
        if self.is_fsync_in_effect {
            assert!(committed <= flushed, "committed {committed} > flushed {flushed} in {}", self.partition);
        }
        let active = self.active();
        assert!(
            active.end_offset == log_end,
            "active segment ends at {}, log at {log_end}",
            active.end_offset
        );
        assert!(active.state == SegmentState::Active, "the last segment is {:?}", active.state);
    }
}
