//! A batch on its way: open while records join it, closed once the sender took it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::client::error::{Abortable, ClientError};
use crate::client::time::Instant;
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::record::Records;
use crate::record::{
    BatchBuilder, BatchView, Codec, DecompressBounds, Header, NewRecord, ProducerStamp, decompress,
    set_producer,
};

use super::delivery::{BatchShared, Notice, Outcome, RecordShare};
use super::record::Stages;

/// Kafka's producers leave these to the leader.
const UNASSIGNED_OFFSET: Offset = 0;
const NO_LEADER_EPOCH: LeaderEpoch = LeaderEpoch(-1);

/// A batch that records join: encoded as they come, so that the sender only writes the header.
pub(super) struct OpenBatch {
    pub shared: Arc<BatchShared>,
    pub opened: Instant,
    /// Of `buffer.memory`.
    pub charged_bytes: usize,
    builder: BatchBuilder,
    notices: Vec<Notice>,
}

/// What a record brings, serialized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// A closed batch: bytes to be sent, perhaps several times.
pub(super) struct Batch {
    pub shared: Arc<BatchShared>,
    /// Under which the accumulator knows it.
    pub number: u64,
    pub bytes: Bytes,
    pub record_count: i32,
    pub opened: Instant,
    pub drained: Instant,
    pub charged_bytes: usize,
    /// `None`: not of an idempotent producer, or not numbered yet.
    pub stamp: Option<ProducerStamp>,
    /// How often it was sent.
    pub attempts: u32,
    /// Its answer was lost once: the broker may have it.
    pub may_be_appended: bool,
    pub last_error: Option<ClientError>,
    notices: Vec<Notice>,
}

/// A batch that was closed just now.
pub(super) struct Closed {
    pub batch: Batch,
    /// The plain records' buffer, if compression left it over.
    pub left_over: Option<Vec<u8>>,
    /// The batch could not be compressed and has no bytes.
    pub fault: Option<ClientError>,
}

/// How batches are closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packing {
    pub codec: Codec,
    pub level: Option<i32>,
}

impl Fields<'_> {
    /// The most bytes that the record takes in a batch: its varints at their longest.
    pub fn bytes_max(&self) -> usize {
        let record = NewRecord {
            timestamp_delta: i64::MIN,
            offset_delta: i32::MAX,
            key: self.key,
            value: self.value,
            headers: self.headers,
        };
        record.encoded_bytes()
    }
}

impl OpenBatch {
    pub fn new(
        shared: Arc<BatchShared>,
        buffer: Vec<u8>,
        charged_bytes: usize,
        opened: Instant,
    ) -> OpenBatch {
        let builder = BatchBuilder::in_buffer(buffer);
        OpenBatch { shared, opened, charged_bytes, builder, notices: Vec::new() }
    }

    /// Bytes so far, header included, before compression.
    pub fn size_bytes(&self) -> usize {
        self.builder.size_bytes()
    }

    pub fn record_count(&self) -> i32 {
        self.builder.record_count()
    }

    /// Appends a record and says which of the batch it is.
    pub fn push(&mut self, fields: &Fields<'_>) -> RecordShare {
        let index = u32::try_from(self.builder.record_count()).expect("a count is not negative");
        self.builder.push_with_headers(fields.timestamp, fields.key, fields.value, fields.headers);
        RecordShare {
            index,
            timestamp: fields.timestamp,
            key_bytes: fields.key.map(<[u8]>::len),
            value_bytes: fields.value.map(<[u8]>::len),
        }
    }

    /// Has somebody told of a record's fate.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Writes the header, and compresses.
    pub fn close(mut self, number: u64, packing: Packing, stamp: Option<ProducerStamp>) -> Closed {
        if let Some(stamp) = stamp {
            self.builder.producer(stamp);
        }
        let record_count = self.builder.record_count();
        let packed = match packing.codec {
            Codec::None => Ok((self.builder.finish(UNASSIGNED_OFFSET, NO_LEADER_EPOCH), None)),
            codec => self
                .builder
                .finish_compressed(codec, packing.level, UNASSIGNED_OFFSET, NO_LEADER_EPOCH)
                .map(|(bytes, plain)| (bytes, Some(plain))),
        };
        let batch = |bytes| Batch {
            shared: self.shared,
            number,
            bytes,
            record_count,
            opened: self.opened,
            drained: Instant::now(),
            charged_bytes: self.charged_bytes,
            stamp,
            attempts: 0,
            may_be_appended: false,
            last_error: None,
            notices: self.notices,
        };
        match packed {
            Ok((bytes, left_over)) => Closed { batch: batch(bytes), left_over, fault: None },
            Err(source) => {
                let fault = Some(Abortable::Compress { source: Arc::new(source) }.into());
                Closed { batch: batch(Bytes::new()), left_over: None, fault }
            }
        }
    }
}

impl Batch {
    /// Numbers the batch, anew if it has a number. Must not be on its way.
    pub fn set_stamp(&mut self, stamp: ProducerStamp) {
        if self.stamp == Some(stamp) {
            return;
        }
        self.stamp = Some(stamp);
        // The connection that had a share of the bytes has let go of them, or goes on with its own.
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        set_producer(&mut bytes, stamp);
        self.bytes = bytes.freeze();
    }

    pub fn stages(&self, sent: Instant, acknowledged: Instant) -> Stages {
        let retries = self.attempts.saturating_sub(1);
        Stages { opened: self.opened, drained: self.drained, sent, acknowledged, retries }
    }

    /// Decides what became of the batch and tells callbacks and interceptors, in the order of the records. The futures are
    /// for the caller to make ready, by `publish`.
    pub fn tell(&mut self, outcome: Outcome) {
        self.shared.decide(outcome);
        for notice in std::mem::take(&mut self.notices) {
            notice.tell(&self.shared);
        }
    }

    /// The buffer, if nobody else holds it.
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        self.bytes.try_into_mut().ok().map(Vec::from)
    }

    /// Whether everybody has been told already.
    pub fn is_given_up(&self) -> bool {
        self.shared.outcome().is_some()
    }

    /// Two batches of about half the bytes each, with the sequences of the one; `number` names the second. `Err`: a single
    /// record, or bytes that this producer did not write.
    pub fn split(
        self,
        packing: Packing,
        number: impl FnOnce(&Arc<BatchShared>) -> u64,
    ) -> Result<[Batch; 2], Box<Batch>> {
        if self.record_count < 2 {
            return Err(Box::new(self));
        }
        let Some(plain) = self.plain_records() else { return Err(Box::new(self)) };
        let view = BatchView::parse(&self.bytes).expect("plain_records has parsed it");
        let half = plain.len() / 2;
        let mut parts: Vec<OpenBatch> = Vec::new();
        let mut moved = 0;
        let mut headers = Vec::new();
        for record in Records::new(&plain, self.record_count) {
            let Ok(record) = record else { return Err(Box::new(self)) };
            // The second part gets at least the last record.
            let starts_second =
                parts.len() == 1 && (moved >= half || record.offset_delta + 1 == self.record_count);
            if parts.is_empty() || starts_second {
                let shared = BatchShared::new(self.shared.topic.clone(), self.shared.partition);
                parts.push(OpenBatch::new(shared, Vec::with_capacity(half + 4096), 0, self.opened));
            }
            headers.clear();
            headers.extend(record.headers);
            let fields = Fields {
                timestamp: view.base_timestamp() + record.timestamp_delta,
                key: record.key,
                value: record.value,
                headers: &headers,
            };
            let part = parts.last_mut().expect("one was just made");
            part.push(&fields);
            moved += fields.bytes_max();
        }
        let Ok([mut first, mut second]) = <[OpenBatch; 2]>::try_from(parts) else {
            return Err(Box::new(self));
        };
        let boundary = first.record_count() as u32;
        first.charged_bytes = self.charged_bytes / 2;
        second.charged_bytes = self.charged_bytes - first.charged_bytes;
        for mut notice in self.notices {
            if notice.record.index < boundary {
                first.notify(notice);
            } else {
                notice.record.index -= boundary;
                second.notify(notice);
            }
        }
        let second_stamp = self.stamp.map(|stamp| ProducerStamp {
            base_sequence: sequence_after(stamp.base_sequence, first.record_count()),
            ..stamp
        });
        let parts = vec![(0, first.shared.clone()), (boundary, second.shared.clone())];
        self.shared.decide(Outcome::Split(parts));
        self.shared.publish();
        let number = number(&second.shared);
        // A part of what was compressed can be compressed; if not, the broker will tell.
        let close = |part: OpenBatch, number, stamp| part.close(number, packing, stamp).batch;
        let mut halves = [close(first, self.number, self.stamp), close(second, number, second_stamp)];
        for part in &mut halves {
            part.attempts = self.attempts;
        }
        Ok(halves)
    }

    fn plain_records(&self) -> Option<Vec<u8>> {
        let view = BatchView::parse(&self.bytes).ok()?;
        let mut plain = Vec::new();
        // What we packed ourselves is no bomb.
        let bounds = DecompressBounds { output_bytes_max: i32::MAX as usize, ratio_max: usize::MAX };
        decompress(view.compression(), view.records(), bounds, &mut plain).ok()?;
        Some(plain)
    }
}

/// The sequence `count` after `sequence`; they wrap from 2^31-1 to 0.
pub(super) fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProducerEpoch, ProducerId};

    fn open(values: &[&[u8]]) -> OpenBatch {
        let shared = BatchShared::new("t".into(), 0);
        let mut batch = OpenBatch::new(shared, Vec::new(), 1000, Instant::now());
        for (value, timestamp) in values.iter().zip(70..) {
            batch.push(&Fields { timestamp, key: Some(b"k"), value: Some(value), headers: &[] });
        }
        batch
    }

    fn values(batch: &Batch) -> Vec<(i64, Vec<u8>)> {
        let view = BatchView::parse(&batch.bytes).unwrap();
        view.check_crc().unwrap();
        view.check_produced().unwrap();
        let plain = batch.plain_records().unwrap();
        Records::new(&plain, view.record_count())
            .map(|record| record.unwrap())
            .map(|record| (view.base_timestamp() + record.timestamp_delta, record.value.unwrap().to_vec()))
            .collect()
    }

    fn stamp(base_sequence: i32) -> ProducerStamp {
        ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence }
    }

    #[test]
    fn a_record_is_never_longer_than_it_was_said_to_be() {
        let headers = [Header { key: b"name", value: Some(b"value") }, Header { key: b"", value: None }];
        for (key, value) in [(None, None), (Some(&b"key"[..]), Some(&[7u8; 300][..]))] {
            let fields = Fields { timestamp: 5, key, value, headers: &headers };
            let mut batch = open(&[]);
            let before = batch.size_bytes();
            batch.push(&fields);
            let taken = batch.size_bytes() - before;
            assert!(taken <= fields.bytes_max() && fields.bytes_max() <= taken + 16);
        }
    }

    #[test]
    fn halves_have_all_records_once_in_order_and_the_sequences_of_the_whole() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let packing = Packing { codec, level: None };
            let batch = open(&[b"a", b"bb", b"ccc", &[9; 100], b"e"])
                .close(1, packing, Some(stamp(i32::MAX - 1)))
                .batch;
            let whole = values(&batch);
            let [first, second] = batch.split(packing, |_| 2).map_err(|_| "not split").unwrap();
            assert_eq!([values(&first), values(&second)].concat(), whole);
            assert!(first.record_count > 0 && second.record_count > 0);
            let expected = sequence_after(i32::MAX - 1, first.record_count);
            let view = BatchView::parse(&second.bytes).unwrap();
            assert_eq!((first.stamp, second.stamp), (Some(stamp(i32::MAX - 1)), Some(stamp(expected))));
            assert_eq!(view.base_sequence(), expected);
        }
    }

    #[test]
    fn any_batch_splits_down_to_single_records() {
        let packing = Packing { codec: Codec::None, level: None };
        let long = [1; 500];
        let cases: [&[&[u8]]; 3] = [&[b"a", b"b"], &[&long, b"b", b"c"], &[b"a", b"b", &long]];
        for case in cases {
            let batch = open(case).close(1, packing, None).batch;
            let mut waiting = vec![batch];
            let mut singles = 0;
            while let Some(batch) = waiting.pop() {
                match batch.split(packing, |_| 2) {
                    Ok(parts) => waiting.extend(parts),
                    Err(single) => {
                        assert_eq!(single.record_count, 1);
                        singles += 1;
                    }
                }
            }
            assert_eq!(singles, case.len());
        }
    }

    #[test]
    fn a_batch_can_be_numbered_anew() {
        let packing = Packing { codec: Codec::None, level: None };
        let mut batch = open(&[b"a"]).close(1, packing, Some(stamp(4))).batch;
        let held_elsewhere = batch.bytes.clone();
        batch.set_stamp(ProducerStamp { epoch: ProducerEpoch(2), ..stamp(0) });
        let view = BatchView::parse(&batch.bytes).unwrap();
        view.check_crc().unwrap();
        assert_eq!((view.producer_epoch(), view.base_sequence()), (ProducerEpoch(2), 0));
        assert_eq!(
            BatchView::parse(&held_elsewhere).unwrap().base_sequence(),
            4,
            "what is out stays as it is"
        );
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 5), 2);
    }
}
