//! What one fetch brought of one partition: batches that become records when they are asked for.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Offset, Timestamp, TopicName};
use crate::protocol::messages::fetch::AbortedTransaction;
use crate::record::{
    BATCH_HEADER_BYTES, BatchView, Codec, CompressionError, ControlKind, DecompressBounds, InvalidBatch,
    RecordError, Records, TimestampType, decompress,
};

use super::record::{ConsumerHeader, ConsumerRecord};

/// Why a batch cannot be read.
#[derive(Clone, Debug)]
pub enum CorruptBatch {
    Batch(InvalidBatch),
    Compression(Arc<CompressionError>),
    Record(RecordError),
}

impl fmt::Display for CorruptBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorruptBatch::Batch(cause) => cause.fmt(f),
            CorruptBatch::Compression(cause) => cause.fmt(f),
            CorruptBatch::Record(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for CorruptBatch {}

/// The next record to be read, and the epoch of the leader that wrote the one before it, if there was one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub offset: Offset,
    pub epoch: Option<i32>,
}

impl Position {
    pub fn at(offset: Offset) -> Position {
        Position { offset, epoch: None }
    }
}

/// How batches are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub checks_crcs: bool,
    pub decompressed_bytes_max: usize,
    /// Records of aborted transactions are passed over.
    pub only_committed: bool,
}

/// Bytes of a fetch, read from the front.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Whole batches.
    batches: Bytes,
    /// Behind the last batch.
    end: Position,
    /// What follows the batches and is none.
    poison: Option<CorruptBatch>,
    open: Option<OpenBatch>,
    /// By first offset; those not reached yet.
    aborted: VecDeque<AbortedTransaction>,
    /// Producers whose transaction was reached and will be aborted.
    aborting: BTreeSet<i64>,
}

/// A batch that is being read.
#[derive(Debug)]
struct OpenBatch {
    /// Unpacked records that were not read yet.
    payload: Bytes,
    records_left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    /// Of all records, under LogAppendTime.
    append_time: Option<Timestamp>,
    epoch: i32,
    end_offset: Offset,
}

impl Chunk {
    /// Looks at headers only. `None`: not one whole batch, and nothing wrong with what there is.
    pub fn new(fetched: Bytes, aborted: Vec<AbortedTransaction>, from: Position) -> Option<Chunk> {
        let (mut at, mut end, mut poison) = (0, from, None);
        while at < fetched.len() {
            match BatchView::parse(&fetched[at..]) {
                Ok(batch) => {
                    let epoch = Some(batch.leader_epoch().0).filter(|epoch| *epoch >= 0);
                    end = Position { offset: batch.end_offset(), epoch };
                    at += batch.size_bytes();
                }
                // A broker may cut the last batch where its limit is (Kafka protocol guide, Fetch).
                Err(InvalidBatch::Truncated { .. }) => break,
                Err(invalid) => {
                    poison = Some(CorruptBatch::Batch(invalid));
                    break;
                }
            }
        }
        if at == 0 && poison.is_none() {
            return None;
        }
        let mut aborted = VecDeque::from(aborted);
        aborted.make_contiguous().sort_by_key(|transaction| transaction.first_offset);
        let batches = fetched.slice(..at);
        Some(Chunk { batches, end, poison, open: None, aborted, aborting: BTreeSet::new() })
    }

    /// Where the next fetch goes on.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Whether reading it to its end will fail.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// What is left of it in memory.
    pub fn size_bytes(&self) -> usize {
        self.batches.len() + self.open.as_ref().map_or(0, |open| open.payload.len())
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.open.is_none() && self.poison.is_none()
    }

    /// Moves records from `position` on into `out` until that has `count_max`, and the position with them.
    /// Errors: a batch that cannot be read; the position is that batch, and the next call fails again.
    pub fn read(
        &mut self,
        position: &mut Position,
        topic: &TopicName,
        partition: i32,
        count_max: usize,
        reading: Reading,
        out: &mut Vec<ConsumerRecord>,
    ) -> Result<(), CorruptBatch> {
        while out.len() < count_max {
            if self.open.is_none() && !self.open_next(position, reading)? {
                return match &self.poison {
                    Some(poison) => Err(poison.clone()),
                    None => Ok(()),
                };
            }
            let Some(open) = &mut self.open else { continue };
            let mut records = Records::new(&open.payload, open.records_left);
            // A record takes some bytes: a batch that claims more than it holds makes no room.
            let expected = usize::try_from(open.records_left).unwrap_or(0).min(open.payload.len());
            out.reserve(expected.min(count_max - out.len()));
            let mut failed = None;
            for record in &mut records {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => {
                        failed = Some(CorruptBatch::Record(error));
                        break;
                    }
                };
                open.records_left -= 1;
                let offset = open.base_offset + i64::from(record.offset_delta);
                // A fetch brings whole batches: those before the position were read before.
                if offset < position.offset {
                    continue;
                }
                let slice = |bytes: &[u8]| open.payload.slice_ref(bytes);
                let headers = record
                    .headers
                    .map(|header| ConsumerHeader { name: slice(header.key), value: header.value.map(slice) });
                out.push(ConsumerRecord {
                    topic: topic.clone(),
                    partition,
                    offset,
                    timestamp: open.append_time.unwrap_or(open.base_timestamp + record.timestamp_delta),
                    timestamp_type: match open.append_time {
                        Some(_) => TimestampType::LogAppendTime,
                        None => TimestampType::CreateTime,
                    },
                    leader_epoch: open.epoch,
                    key: record.key.map(slice),
                    value: record.value.map(slice),
                    headers: headers.collect(),
                });
                *position = Position { offset: offset + 1, epoch: Some(open.epoch).filter(|e| *e >= 0) };
                if out.len() == count_max {
                    break;
                }
            }
            if let Some(error) = failed {
                // Nothing behind it can be trusted: the next call says so again.
                self.poison = Some(error.clone());
                self.open = None;
                self.batches.clear();
                return Err(error);
            }
            let rest = records.rest();
            if open.records_left <= 0 && rest.is_empty() {
                // The last offsets of a batch may have been compacted away.
                if position.offset < open.end_offset {
                    position.offset = open.end_offset;
                }
                position.epoch = Some(open.epoch).filter(|epoch| *epoch >= 0);
                self.open = None;
            } else {
                let rest = open.payload.slice_ref(rest);
                open.payload = rest;
            }
        }
        Ok(())
    }

    /// Opens the next batch with records to show. False: there is none.
    fn open_next(&mut self, position: &mut Position, reading: Reading) -> Result<bool, CorruptBatch> {
        while !self.batches.is_empty() {
            let batches = self.batches.clone();
            let batch = BatchView::parse(&batches).expect("`new` has parsed it");
            let size = batch.size_bytes();
            let epoch = Some(batch.leader_epoch().0).filter(|epoch| *epoch >= 0);
            if reading.checks_crcs
                && let Err(invalid) = batch.check_crc()
            {
                self.poison = Some(CorruptBatch::Batch(invalid));
                self.batches.clear();
                return Ok(false);
            }
            self.reach(&batch, reading);
            let is_shown = !batch.attributes().is_control()
                && batch.end_offset() > position.offset
                && !(batch.attributes().is_transactional() && self.aborting.contains(&batch.producer_id().0));
            if !is_shown {
                *position = Position { offset: batch.end_offset().max(position.offset), epoch };
                self.batches = self.batches.slice(size..);
                continue;
            }
            let payload = match unpack(&batches, &batch, reading.decompressed_bytes_max) {
                Ok(payload) => payload,
                Err(error) => {
                    self.poison = Some(CorruptBatch::Compression(Arc::new(error)));
                    self.batches.clear();
                    return Ok(false);
                }
            };
            let append_time = match batch.timestamp_type() {
                TimestampType::LogAppendTime => Some(batch.max_timestamp()),
                TimestampType::CreateTime => None,
            };
            self.open = Some(OpenBatch {
                payload,
                records_left: batch.record_count(),
                base_offset: batch.base_offset(),
                base_timestamp: batch.base_timestamp(),
                append_time,
                epoch: batch.leader_epoch().0,
                end_offset: batch.end_offset(),
            });
            self.batches = self.batches.slice(size..);
            return Ok(true);
        }
        Ok(false)
    }

    /// Follows transactions: which of those that will be aborted have begun, and which have ended.
    /// Source: Apache Kafka, `CompletedFetch.consumeAbortedTransactionsUpTo`.
    fn reach(&mut self, batch: &BatchView<'_>, reading: Reading) {
        if !reading.only_committed {
            return;
        }
        while self.aborted.front().is_some_and(|next| next.first_offset <= batch.last_offset()) {
            self.aborting.extend(self.aborted.pop_front().map(|next| next.producer_id));
        }
        let is_abort = || {
            let first = Records::new(batch.records(), batch.record_count()).next();
            let key = first.and_then(Result::ok).and_then(|record| record.key);
            key.and_then(ControlKind::parse) == Some(ControlKind::Abort)
        };
        if batch.attributes().is_control() && is_abort() {
            self.aborting.remove(&batch.producer_id().0);
        }
    }
}

/// The records of a batch, in the clear: where they lie if they are, else unpacked within the bound.
fn unpack(batches: &Bytes, batch: &BatchView<'_>, bytes_max: usize) -> Result<Bytes, CompressionError> {
    if batch.compression() == Codec::None {
        return Ok(batches.slice(BATCH_HEADER_BYTES..batch.size_bytes()));
    }
    let mut plain = Vec::new();
    let bounds = DecompressBounds { output_bytes_max: bytes_max, ratio_max: usize::MAX };
    decompress(batch.compression(), batch.records(), bounds, &mut plain)?;
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, ProducerEpoch, ProducerId};
    use crate::record::{Attributes, BatchBuilder, Header, ProducerStamp, set_log_append_time};

    const READING: Reading =
        Reading { checks_crcs: true, decompressed_bytes_max: 1 << 20, only_committed: true };

    /// Values `first..first + count` at these offsets, in one batch of leader epoch 3.
    fn batch(first: i64, count: i64, change: impl FnOnce(&mut BatchBuilder)) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        change(&mut builder);
        for n in first..first + count {
            builder.push(1_000 + n, None, Some(n.to_string().as_bytes()));
        }
        builder.finish(first, LeaderEpoch(3)).to_vec()
    }

    fn plain(first: i64, count: i64) -> Vec<u8> {
        batch(first, count, |_| {})
    }

    fn of_transaction(first: i64, count: i64, producer: i64) -> Vec<u8> {
        batch(first, count, |builder| {
            let stamp = ProducerStamp { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: 0 };
            builder.attributes(Attributes::default().with_transactional(true)).producer(stamp);
        })
    }

    fn marker(offset: i64, producer: i64, kind: ControlKind) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        let stamp = ProducerStamp { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: -1 };
        let attributes = Attributes::default().with_transactional(true).with_control(true);
        builder.attributes(attributes).producer(stamp);
        builder.push(0, Some(&kind.to_key()), Some(&[0; 6]));
        builder.finish(offset, LeaderEpoch(3)).to_vec()
    }

    fn chunk(batches: &[Vec<u8>]) -> Chunk {
        Chunk::new(batches.concat().into(), Vec::new(), Position::at(0)).unwrap()
    }

    /// Offsets that are read, `step` at a time, and the position after them.
    fn offsets(mut chunk: Chunk, from: i64, step: usize, reading: Reading) -> (Vec<i64>, Position) {
        let mut position = Position::at(from);
        let mut offsets = Vec::new();
        while !chunk.is_empty() {
            let mut out = Vec::new();
            chunk.read(&mut position, &"t".into(), 0, step, reading, &mut out).unwrap();
            assert!(out.len() <= step);
            for record in &out {
                assert_eq!(record.value.as_deref(), Some(record.offset.to_string().as_bytes()));
                assert_eq!((record.timestamp, record.leader_epoch), (1_000 + record.offset, 3));
            }
            offsets.extend(out.iter().map(|record| record.offset));
        }
        (offsets, position)
    }

    #[test]
    fn records_come_in_steps_of_any_size_from_the_position_on() {
        for step in [1, 2, 3, 7, 100] {
            let (read, position) = offsets(chunk(&[plain(10, 4), plain(14, 3)]), 12, step, READING);
            assert_eq!(read, [12, 13, 14, 15, 16], "{step}");
            assert_eq!(position, Position { offset: 17, epoch: Some(3) });
        }
    }

    #[test]
    fn a_cut_batch_at_the_end_is_left_for_the_next_fetch() {
        let (whole, cut) = (plain(0, 3), plain(3, 3));
        let chunk = chunk(&[whole, cut[..cut.len() - 1].to_vec()]);
        assert_eq!(chunk.end(), Position { offset: 3, epoch: Some(3) });
        assert_eq!(offsets(chunk, 0, 10, READING).0, [0, 1, 2]);
        assert!(Chunk::new(cut[..70].to_vec().into(), Vec::new(), Position::at(3)).is_none());
    }

    #[test]
    fn every_codec_is_unpacked_within_its_bound() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut builder = BatchBuilder::new();
            builder.push(5, Some(b"k"), Some(&[0; 100_000]));
            let mut packed = Vec::new();
            let plain = builder.finish(0, LeaderEpoch(0));
            crate::record::compress(codec, None, &plain[BATCH_HEADER_BYTES..], &mut packed).unwrap();
            let mut bytes = plain[..BATCH_HEADER_BYTES].to_vec();
            bytes.extend(&packed);
            let length = (bytes.len() - crate::record::BATCH_OVERHEAD_BYTES) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[21..23].copy_from_slice(&Attributes::default().with_compression(codec).0.to_be_bytes());
            // Seals the batch again, too.
            set_log_append_time(&mut bytes, 77);
            let read = |bytes_max| {
                let mut out = Vec::new();
                let reading = Reading { decompressed_bytes_max: bytes_max, ..READING };
                let mut position = Position::at(0);
                let result =
                    chunk(&[bytes.clone()]).read(&mut position, &"t".into(), 0, 5, reading, &mut out);
                (result.map(|()| out), position.offset)
            };
            let (records, position) = read(1 << 20);
            let records = records.unwrap();
            assert_eq!((records[0].value.as_ref().unwrap().len(), position), (100_000, 1), "{codec:?}");
            assert_eq!((records[0].timestamp, records[0].timestamp_type), (77, TimestampType::LogAppendTime));
            let (error, position) = read(50_000);
            let error = error.unwrap_err();
            assert!(matches!(error, CorruptBatch::Compression(_)), "{codec:?}: {error}");
            assert_eq!(position, 0);
        }
    }

    #[test]
    fn damage_is_told_after_what_is_before_it_and_again() {
        let mut damaged = plain(3, 3);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let mut chunk = chunk(&[plain(0, 3), damaged.clone()]);
        let mut position = Position::at(0);
        let mut out = Vec::new();
        let mut read = |position: &mut Position, out: &mut Vec<_>| {
            chunk.read(position, &"t".into(), 0, 100, READING, out)
        };
        for _ in 0..2 {
            let error = read(&mut position, &mut out).unwrap_err();
            assert!(matches!(error, CorruptBatch::Batch(InvalidBatch::Crc { .. })), "{error}");
            assert_eq!((out.len(), position.offset), (3, 3));
        }
        // Without the check, what the bytes say is believed.
        let unchecked = Reading { checks_crcs: false, ..READING };
        let mut out = Vec::new();
        self::chunk(&[damaged]).read(&mut position, &"t".into(), 0, 9, unchecked, &mut out).unwrap_or(());
    }

    #[test]
    fn bytes_that_are_no_batch_poison_the_end() {
        let mut old = plain(3, 1);
        old[16] = 1;
        let chunk = chunk(&[plain(0, 3), old]);
        assert!(chunk.is_poisoned());
        assert_eq!(chunk.end().offset, 3);
    }

    #[test]
    fn aborted_transactions_are_seen_by_those_who_want_everything_only() {
        let batches = [
            plain(0, 1),
            of_transaction(1, 2, 7),
            of_transaction(3, 1, 8),
            marker(4, 7, ControlKind::Abort),
            of_transaction(5, 1, 7),
            marker(6, 8, ControlKind::Commit),
            marker(7, 7, ControlKind::Commit),
        ];
        let with = |aborted: &[(i64, i64)]| {
            let aborted = aborted
                .iter()
                .map(|(producer_id, first_offset)| AbortedTransaction {
                    producer_id: *producer_id,
                    first_offset: *first_offset,
                })
                .collect();
            Chunk::new(batches.concat().into(), aborted, Position::at(0)).unwrap()
        };
        let (committed, position) = offsets(with(&[(7, 1)]), 0, 2, READING);
        assert_eq!((committed, position.offset), (vec![0, 3, 5], 8));
        let everything = Reading { only_committed: false, ..READING };
        assert_eq!(offsets(with(&[]), 0, 2, everything).0, [0, 1, 2, 3, 5]);
    }

    #[test]
    fn headers_and_nulls_are_what_they_were() {
        let mut builder = BatchBuilder::new();
        let headers = [Header { key: b"a", value: Some(b"1") }, Header { key: b"a", value: None }];
        builder.push_with_headers(1, Some(b""), None, &headers);
        let bytes = builder.finish(0, LeaderEpoch(0));
        let mut out = Vec::new();
        let mut position = Position::at(0);
        Chunk::new(bytes, Vec::new(), position)
            .unwrap()
            .read(&mut position, &"t".into(), 4, 9, READING, &mut out)
            .unwrap();
        let record = &out[0];
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref(), record.partition),
            (Some(&b""[..]), None, 4)
        );
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.header("a").unwrap().value, None);
        assert_eq!(record.header("b"), None);
    }
}
