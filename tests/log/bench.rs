//! One log on the fake disk, with what a caller would remember of it.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use corelog::log::{
    AppendError, Appended, Log, LogConfig, LogSlot, Now, ReadDone, ReadPlan, RecoveryError, RecoveryInput,
    RecoveryReport, TailCache,
};
use corelog::model::{
    LeaderEpoch, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, Uuid,
};
use corelog::reactor::{Files, Io};
use corelog::record::{BatchBuilder, BatchView, Batches, InvalidBatch, ProducerStamp};

use crate::disk::{Disk, DiskIo, Seed};

pub const TOPIC_ID: Uuid = Uuid(*b"an id of a topic");

pub fn directory() -> PathBuf {
    PathBuf::from("/data/t-0")
}

pub fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Small segments, so that a short run rolls often.
pub fn small_config() -> LogConfig {
    LogConfig { segment_bytes: 6_000, retention_ms: None, ..LogConfig::default() }
}

/// A batch that was appended: where it went, and its bytes under the CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub sealed: Bytes,
}

impl Kept {
    fn of(bytes: &[u8]) -> Kept {
        let batch = BatchView::parse(bytes).expect("the log gives valid batches");
        batch.check_crc().expect("with a valid CRC");
        Kept {
            base_offset: batch.base_offset(),
            end_offset: batch.end_offset(),
            sealed: Bytes::copy_from_slice(&bytes[17..]),
        }
    }
}

pub struct Bench {
    pub disk: Disk,
    pub io: DiskIo,
    pub cache: TailCache,
    pub log: Log,
    pub seed: Seed,
    /// Everything appended and not known to be lost, in order.
    pub kept: Vec<Kept>,
    /// What has been acknowledged: survives the process.
    pub acknowledged: Offset,
    /// What has been acknowledged under `Fsync`: survives the machine.
    pub acknowledged_flushed: Offset,
    /// What the data directory's checkpoints say: (recovery point, log start).
    pub checkpoint: (Offset, Offset),
    pub next_sequence: i32,
    pub timestamp: Timestamp,
}

pub fn batch_of(timestamp: Timestamp, values: &[&[u8]], producer: Option<ProducerStamp>) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some(stamp) = producer {
        builder.producer(stamp);
    }
    for value in values {
        builder.push(timestamp, None, Some(value));
    }
    builder.finish(0, LeaderEpoch(-1))
}

pub fn recover(
    disk: &Disk,
    config: LogConfig,
    checkpoint: (Offset, Offset),
    is_clean: bool,
) -> Result<(Log, RecoveryReport), RecoveryError> {
    let input =
        RecoveryInput { recovery_point: checkpoint.0, log_start: checkpoint.1, journaled_end: 0, is_clean };
    let mut disk = disk.clone();
    Log::recover(&mut disk, &directory(), partition(), config, input, 1_000_000, &mut |_| ())
}

impl Bench {
    pub fn new(seed: u64, config: LogConfig) -> Bench {
        let disk = Disk::default();
        let mut files = disk.clone();
        let log = Log::create(&mut files, &directory(), partition(), TOPIC_ID, config, 1_000_000).unwrap();
        Bench::around(disk, log, Seed(seed))
    }

    fn around(disk: Disk, mut log: Log, mut seed: Seed) -> Bench {
        log.attach(LogSlot(7));
        let io = DiskIo::new(disk.clone(), Seed(seed.next()));
        Bench {
            disk,
            io,
            cache: TailCache::new(8_000),
            log,
            seed,
            kept: Vec::new(),
            acknowledged: 0,
            acknowledged_flushed: 0,
            checkpoint: (0, 0),
            next_sequence: 0,
            timestamp: 1_000_000,
        }
    }

    pub fn now(&self) -> Now {
        Now::read(&self.io)
    }

    pub fn pass_time(&mut self, ms: u64) {
        self.io.now = Monotonic(self.io.now.0 + ms * 1_000_000);
        self.io.wall += ms as i64;
    }

    /// Drives and completes one operation. False: nothing was in flight.
    pub fn step(&mut self) -> bool {
        let now = self.now();
        let is_driven = self.log.drive(&mut self.io, now);
        let Some(completion) = self.io.reap_one() else { return !is_driven };
        assert_eq!(LogSlot::of(completion.token), LogSlot(7));
        let progress = self.log.complete(
            &mut self.io,
            &mut self.cache,
            completion.token,
            completion.outcome,
            now.monotonic,
        );
        if progress.failed.is_some() {
            return true;
        }
        self.acknowledged = self.log.committed_offset();
        if self.log.config().durability == corelog::log::Durability::Fsync {
            self.acknowledged_flushed =
                self.acknowledged_flushed.max(self.log.flushed_offset().min(self.acknowledged));
        }
        true
    }

    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Appends, waiting for room as a caller would.
    pub fn try_append(&mut self, bytes: &Bytes, epoch: i32) -> Result<Appended, AppendError> {
        loop {
            let now = self.now();
            let batch = BatchView::parse(bytes).expect("tests append valid batches");
            match self.log.append(&batch, LeaderEpoch(epoch), now) {
                Err(AppendError::Wait) if !self.step() => panic!("an append waits for nothing"),
                Err(AppendError::Wait) if self.disk.is_stopped() => return Err(AppendError::Wait),
                Err(AppendError::Wait) => (),
                Ok(appended) => {
                    if !appended.is_duplicate {
                        self.kept.push(Kept {
                            base_offset: appended.base_offset,
                            end_offset: appended.end_offset,
                            sealed: bytes.slice(17..),
                        });
                    }
                    return Ok(appended);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub fn append(&mut self, count: usize, value_bytes: usize) -> Appended {
        self.timestamp += self.seed.below(20) as i64 - 5;
        let value = vec![self.seed.next() as u8; value_bytes];
        let bytes = batch_of(self.timestamp, &vec![&value[..]; count], None);
        self.try_append(&bytes, 0).unwrap()
    }

    pub fn idempotent_batch(&mut self, base_sequence: i32, count: usize) -> Bytes {
        let stamp = ProducerStamp { id: ProducerId(5), epoch: ProducerEpoch(0), base_sequence };
        batch_of(self.timestamp, &vec![b"idempotent".as_slice(); count], Some(stamp))
    }

    /// Reads like a fetch does, doing what the plan says.
    pub fn read(&mut self, offset: Offset, bound: Offset, max_bytes: usize) -> Vec<Kept> {
        loop {
            let now = self.now();
            let bytes = match self.log.read(&self.cache, offset, bound, max_bytes, true, now).unwrap() {
                ReadPlan::Empty => Vec::new(),
                ReadPlan::Memory(slices) => slices,
                ReadPlan::Locate(job) => {
                    let mut files = self.disk.clone();
                    let result = job(&mut files);
                    self.log.finish_locate(&mut self.io, result).unwrap();
                    continue;
                }
                ReadPlan::Disk(mut read) => loop {
                    let mut buffer = BytesMut::zeroed(read.length as usize);
                    let length = self.disk.clone().read_at(read.file, read.position, &mut buffer).unwrap();
                    buffer.truncate(length);
                    match self.log.finish_read(&read, buffer).unwrap() {
                        ReadDone::Batches(bytes) => break vec![bytes],
                        ReadDone::Again(again) => read = again,
                    }
                },
            };
            let total: usize = bytes.iter().map(Bytes::len).sum();
            let mut found = Vec::new();
            for (i, slice) in bytes.iter().enumerate() {
                for batch in Batches::new(slice) {
                    match batch {
                        Ok(batch) => found.push(Kept::of(batch.bytes())),
                        // A limit may cut the batch behind the last whole one.
                        Err(InvalidBatch::Truncated { .. }) => {
                            assert!(i == bytes.len() - 1 && !found.is_empty(), "a cut batch in front");
                            assert_eq!(total, max_bytes, "cut before the limit");
                        }
                        Err(invalid) => panic!("{invalid}"),
                    }
                }
            }
            assert!(total <= max_bytes || found.len() == 1, "{total} bytes in {} batches", found.len());
            return found;
        }
    }

    /// Everything from the log start to `bound`, in reads of random size.
    pub fn read_everything(&mut self, bound: Offset) -> Vec<Kept> {
        let mut found: Vec<Kept> = Vec::new();
        let mut offset = self.log.log_start_offset();
        while offset < bound {
            let max_bytes = 1 + self.seed.below(5_000) as usize;
            let read = self.read(offset, bound, max_bytes);
            assert!(!read.is_empty(), "no batch at {offset} below {bound}");
            offset = read.last().unwrap().end_offset;
            found.extend(read);
        }
        found
    }

    /// What the model says lies between the log start and `bound`.
    pub fn expected(&self, bound: Offset) -> Vec<Kept> {
        let start = self.log.log_start_offset();
        self.kept.iter().filter(|k| k.end_offset > start && k.end_offset <= bound).cloned().collect()
    }

    pub fn check_reads(&mut self) {
        let bound = self.log.written_offset();
        let found = self.read_everything(bound);
        let places = |kept: &[Kept]| kept.iter().map(|k| (k.base_offset, k.end_offset)).collect::<Vec<_>>();
        let expected = self.expected(bound);
        assert_eq!(places(&found), places(&expected));
        assert!(found == expected, "bytes differ");
    }

    /// Writes the checkpoints, as the shard's periodic job does.
    pub fn write_checkpoint(&mut self) {
        self.checkpoint = (self.log.recovery_point(), self.log.log_start_offset());
        self.log.log_start_is_durable(self.checkpoint.1);
    }

    /// Opens the log again after `kill` or `lose_power`, and checks everything that must hold then.
    pub fn recover_and_check(mut self, must_survive: Offset) -> Bench {
        let config = *self.log.config();
        let (log, report) =
            recover(&self.disk, config, self.checkpoint, false).expect("recovery of an undamaged log");
        let (log_start, log_end) = (log.log_start_offset(), log.log_end_offset());
        assert!(
            log_end >= must_survive,
            "acknowledged up to {must_survive}, recovered up to {log_end}: {report:?}, {:?}, {:?}",
            self.checkpoint,
            self.disk.files()
        );
        assert!(log_start >= self.checkpoint.1, "log start {log_start} went back from {}", self.checkpoint.1);
        self.kept.retain(|k| k.end_offset <= log_end);
        let last = self.kept.last().map_or(log_end, |k| k.end_offset);
        assert!(
            last == log_end || log_start == log_end,
            "recovered up to {log_end}, which was never a batch's end"
        );
        let epochs = log.leader_epochs().entries();
        assert!(
            epochs.iter().all(|epoch| epoch.start_offset < log_end),
            "epochs begin behind the records, which end at {log_end}: {epochs:?}"
        );

        let mut bench = Bench::around(self.disk.clone(), log, self.seed.clone());
        bench.kept = self.kept;
        bench.checkpoint = self.checkpoint;
        bench.timestamp = self.timestamp;
        (bench.acknowledged, bench.acknowledged_flushed) = (log_end, log_end);
        bench.check_reads();
        bench.check_recovery_is_idempotent(config);
        bench
    }

    fn check_recovery_is_idempotent(&mut self, config: LogConfig) {
        let checkpoint = (self.checkpoint.0, self.checkpoint.1);
        let before: Vec<(PathBuf, Vec<u8>)> = contents(&self.disk, &directory());
        let (again, report) =
            recover(&self.disk, config, checkpoint, false).expect("recovery after recovery");
        assert_eq!(report.cut, None, "a second recovery cuts nothing");
        assert_eq!(again.log_start_offset(), self.log.log_start_offset());
        assert_eq!(again.log_end_offset(), self.log.log_end_offset());
        assert!(again.producers() == self.log.producers(), "producers differ after a second recovery");
        assert_eq!(again.leader_epochs(), self.log.leader_epochs());
        let after = contents(&self.disk, &directory());
        let names = |a: &[(PathBuf, Vec<u8>)], b: &[(PathBuf, Vec<u8>)]| -> Vec<(PathBuf, usize)> {
            a.iter().filter(|f| !b.contains(f)).map(|(p, c)| (p.clone(), c.len())).collect()
        };
        assert_eq!(names(&before, &after), names(&after, &before), "a second recovery changes files");
        again.close_files(&mut self.io);
    }
}

fn contents(disk: &Disk, directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let here = disk.files().into_iter().filter(|p| p.parent() == Some(directory));
    here.map(|p| (p.clone(), disk.read(&p).unwrap())).collect()
}

/// `Io` is used through the trait by the log; here only to close descriptors.
pub fn close(bench: Bench) -> (Disk, (Offset, Offset), Vec<Kept>) {
    let Bench { disk, log, kept, mut io, .. } = bench;
    let log_start = log.log_start_offset();
    let recovery_point = log.close(io.files()).unwrap();
    (disk, (recovery_point, log_start), kept)
}
