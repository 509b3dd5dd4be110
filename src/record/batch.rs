//! The header of a record batch, format v2.
//!
//! ```text
//! byte  type   field                    in the CRC   who sets it
//!    0  i64    base offset              no           leader, at append
//!    8  i32    length of what follows   no           producer
//!   12  i32    partition leader epoch   no           leader, at append
//!   16  i8     magic, always 2          no           producer
//!   17  u32    CRC-32C of 21..end       -            producer; again by the leader under LogAppendTime
//!   21  i16    attributes               yes          producer; bit 3 by the leader
//!   23  i32    last offset delta        yes          producer
//!   27  i64    base timestamp, ms       yes          producer
//!   35  i64    max timestamp, ms        yes          producer; the leader under LogAppendTime
//!   43  i64    producer id, -1 none     yes          producer
//!   51  i16    producer epoch           yes          producer
//!   53  i32    base sequence            yes          producer
//!   57  i32    record count             yes          producer
//!   61         records, perhaps compressed
//! attributes: 0-2 compression, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon set
//! ```
//! All big-endian. Source: Kafka protocol guide, "Record Batch"; Apache Kafka `DefaultRecordBatch`.

use std::fmt;

use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::compression::Codec;
use super::crc::crc32c;

/// Bytes before the first record.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Base offset and length: what the length field does not count.
pub const BATCH_OVERHEAD_BYTES: usize = 12;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

const MAGIC_V2: i8 = 2;

const _: () = assert!(RECORD_COUNT + 4 == BATCH_HEADER_BYTES);
const _: () = assert!(LENGTH + 4 == BATCH_OVERHEAD_BYTES);
const _: () = assert!(CRC + 4 == ATTRIBUTES);

/// Bits of the attributes field; only what the format defines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes(pub i16);

/// Who chose the timestamps of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// Which idempotent producer wrote a batch, and where the batch stands in its sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: i32,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidBatch {
    /// Fewer bytes than a header, or than the header's length field says.
    Truncated {
        needed_bytes: usize,
        given_bytes: usize,
    },
    /// The length field is smaller than a header or negative.
    Length(i32),
    Magic(i8),
    Crc {
        stored: u32,
        computed: u32,
    },
    /// Compression codes 5 to 7 do not exist.
    Compression(i16),
    /// The record count is not the number of offsets the batch takes, or not positive.
    Count {
        record_count: i32,
        last_offset_delta: i32,
    },
    /// The offsets run past the largest there is, or below zero.
    OffsetRange {
        base_offset: Offset,
        last_offset_delta: i32,
    },
    /// A client's batch starts at another offset than zero.
    BaseOffset(Offset),
    /// A client's batch claims to be a broker's control batch.
    Control,
    /// A client's batch names a producer without epoch or sequence.
    Sequence(ProducerStamp),
}

impl Attributes {
    const COMPRESSION: i16 = 0b0000_0111;
    const LOG_APPEND_TIME: i16 = 0b0000_1000;
    const TRANSACTIONAL: i16 = 0b0001_0000;
    const CONTROL: i16 = 0b0010_0000;
    const DELETE_HORIZON: i16 = 0b0100_0000;

    /// Errors: compression codes 5 to 7 do not exist.
    pub fn compression(self) -> Result<Codec, InvalidBatch> {
        Codec::from_attributes(self.0)
            .map_err(|_unknown| InvalidBatch::Compression(self.0 & Self::COMPRESSION))
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is then the moment at which tombstones may go, not the first record's.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    pub fn with_compression(self, codec: Codec) -> Attributes {
        Attributes((self.0 & !Self::COMPRESSION) | codec.attribute_bits())
    }

    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    pub fn with_transactional(self, is_transactional: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, is_transactional)
    }

    pub fn with_control(self, is_control: bool) -> Attributes {
        self.with(Self::CONTROL, is_control)
    }

    pub fn with_delete_horizon(self, has_delete_horizon: bool) -> Attributes {
        self.with(Self::DELETE_HORIZON, has_delete_horizon)
    }

    fn with(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// Exactly one batch, borrowed. Length and magic have been checked; the rest as the constructor says.
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch that `bytes` starts with; what follows it is not looked at. Checks length, magic, compression code and
    /// that the count matches the offsets. The CRC is left to [`BatchView::check_crc`], which reads every byte.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, InvalidBatch> {
        let size = batch_size(bytes)?;
        if bytes.len() < size {
            return Err(InvalidBatch::Truncated { needed_bytes: size, given_bytes: bytes.len() });
        }
        let batch = BatchView { bytes: &bytes[..size] };
        batch.attributes().compression()?;
        batch.check_offsets()?;
        Ok(batch)
    }

    /// The header alone, of a batch whose records are elsewhere: at least 61 bytes. `size_bytes` tells the whole size.
    /// `records`, `check_crc` and `bytes` see only what was given.
    pub fn parse_header(bytes: &'a [u8]) -> Result<BatchView<'a>, InvalidBatch> {
        let size = batch_size(bytes)?;
        let batch = BatchView { bytes: &bytes[..size.min(bytes.len())] };
        batch.attributes().compression()?;
        batch.check_offsets()?;
        Ok(batch)
    }

    fn check_offsets(&self) -> Result<(), InvalidBatch> {
        let (base_offset, last_offset_delta) = (self.base_offset(), self.last_offset_delta());
        // A compacted batch keeps its offsets and has fewer records, so the count is bounded here and compared by the
        // produce path alone (`check_count`).
        if last_offset_delta < 0 || self.record_count() < 0 {
            return Err(InvalidBatch::Count { record_count: self.record_count(), last_offset_delta });
        }
        // The end (exclusive) must be representable too.
        if base_offset < 0 || base_offset.checked_add(i64::from(last_offset_delta) + 1).is_none() {
            return Err(InvalidBatch::OffsetRange { base_offset, last_offset_delta });
        }
        Ok(())
    }

    /// Compares the stored checksum with the bytes.
    pub fn check_crc(&self) -> Result<(), InvalidBatch> {
        let (stored, computed) = (self.crc(), crc32c(&self.bytes[ATTRIBUTES..]));
        if stored == computed { Ok(()) } else { Err(InvalidBatch::Crc { stored, computed }) }
    }

    /// A batch fresh from a producer has one record per offset, and at least one.
    pub fn check_count(&self) -> Result<(), InvalidBatch> {
        let (record_count, last_offset_delta) = (self.record_count(), self.last_offset_delta());
        if record_count > 0 && last_offset_delta == record_count - 1 {
            Ok(())
        } else {
            Err(InvalidBatch::Count { record_count, last_offset_delta })
        }
    }

    /// What a broker asks of a batch that a client sends, beside a valid checksum: counts that agree, a base offset of zero,
    /// no control bit, and a sequence if it names a producer.
    pub fn check_produced(&self) -> Result<(), InvalidBatch> {
        self.check_count()?;
        if self.base_offset() != 0 {
            return Err(InvalidBatch::BaseOffset(self.base_offset()));
        }
        if self.attributes().is_control() {
            return Err(InvalidBatch::Control);
        }
        match self.producer() {
            Some(stamp) if stamp.base_sequence < 0 || stamp.epoch.0 < 0 => Err(InvalidBatch::Sequence(stamp)),
            _ => Ok(()),
        }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records after the header, perhaps compressed.
    pub fn records(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Header and records together, as the length field says.
    pub fn size_bytes(&self) -> usize {
        BATCH_OVERHEAD_BYTES + i32_at(self.bytes, LENGTH) as usize
    }

    pub fn base_offset(&self) -> Offset {
        i64_at(self.bytes, BASE_OFFSET)
    }

    /// The offset of the last record: inclusive.
    pub fn last_offset(&self) -> Offset {
        self.base_offset() + i64::from(self.last_offset_delta())
    }

    /// The offset after the batch: exclusive.
    pub fn end_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32_at(self.bytes, LAST_OFFSET_DELTA)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32_at(self.bytes, LEADER_EPOCH))
    }

    pub fn crc(&self) -> u32 {
        i32_at(self.bytes, CRC) as u32
    }

    pub fn attributes(&self) -> Attributes {
        Attributes(i16_at(self.bytes, ATTRIBUTES))
    }

    pub fn compression(&self) -> Codec {
        self.attributes().compression().expect("checked by parse")
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes().timestamp_type()
    }

    pub fn base_timestamp(&self) -> Timestamp {
        i64_at(self.bytes, BASE_TIMESTAMP)
    }

    pub fn max_timestamp(&self) -> Timestamp {
        i64_at(self.bytes, MAX_TIMESTAMP)
    }

    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64_at(self.bytes, PRODUCER_ID))
    }

    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16_at(self.bytes, PRODUCER_EPOCH))
    }

    pub fn base_sequence(&self) -> i32 {
        i32_at(self.bytes, BASE_SEQUENCE)
    }

    /// The sequence of the last record; sequences wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence() < 0 {
            return self.base_sequence();
        }
        ((i64::from(self.base_sequence()) + i64::from(self.last_offset_delta())) & i64::from(i32::MAX)) as i32
    }

    /// `None` for a batch of no idempotent producer.
    pub fn producer(&self) -> Option<ProducerStamp> {
        (self.producer_id().0 >= 0).then(|| ProducerStamp {
            id: self.producer_id(),
            epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
        })
    }

    pub fn record_count(&self) -> i32 {
        i32_at(self.bytes, RECORD_COUNT)
    }
}

impl fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchView")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("size_bytes", &self.size_bytes())
            .field("leader_epoch", &self.leader_epoch())
            .field("attributes", &self.attributes())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer", &self.producer())
            .finish()
    }
}

/// The size of the batch that `bytes` starts with, from its length field; the rest of the header need not be valid.
fn batch_size(bytes: &[u8]) -> Result<usize, InvalidBatch> {
    if bytes.len() < BATCH_HEADER_BYTES {
        return Err(InvalidBatch::Truncated { needed_bytes: BATCH_HEADER_BYTES, given_bytes: bytes.len() });
    }
    // Older formats have another header behind the same magic byte, so the magic is looked at first.
    let magic = bytes[MAGIC] as i8;
    if magic != MAGIC_V2 {
        return Err(InvalidBatch::Magic(magic));
    }
    let length = i32_at(bytes, LENGTH);
    match usize::try_from(length) {
        Ok(size) if size + BATCH_OVERHEAD_BYTES >= BATCH_HEADER_BYTES => Ok(size + BATCH_OVERHEAD_BYTES),
        _ => Err(InvalidBatch::Length(length)),
    }
}

/// Walks the batches of a byte range one after the other. Ends at the first error, which is returned once.
#[derive(Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes }
    }

    /// What has not been walked over yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, InvalidBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.rest);
        self.rest = batch.map_or(&[], |batch| &self.rest[batch.size_bytes()..]);
        Some(batch)
    }
}

/// Gives a batch its place. Outside the CRC.
pub fn set_base_offset(batch: &mut [u8], base_offset: Offset) {
    batch[BASE_OFFSET..BASE_OFFSET + 8].copy_from_slice(&base_offset.to_be_bytes());
}

/// Stamps the leader's epoch. Outside the CRC.
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    batch[LEADER_EPOCH..LEADER_EPOCH + 4].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Makes `now` the timestamp of every record of a batch and computes the CRC anew. `batch` is one whole batch.
/// The deltas inside the records stay; readers ignore them when the bit is set.
pub fn set_log_append_time(batch: &mut [u8], now: Timestamp) {
    let attributes = Attributes(i16_at(batch, ATTRIBUTES)).with_timestamp_type(TimestampType::LogAppendTime);
    batch[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&attributes.0.to_be_bytes());
    batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&now.to_be_bytes());
    seal(batch);
}

/// Writes the CRC of a finished batch.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES..]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Names the producer and the sequence of a finished batch, which is in the CRC: every byte is read.
pub fn set_producer(batch: &mut [u8], stamp: ProducerStamp) {
    batch[PRODUCER_ID..PRODUCER_ID + 8].copy_from_slice(&stamp.id.0.to_be_bytes());
    batch[PRODUCER_EPOCH..PRODUCER_EPOCH + 2].copy_from_slice(&stamp.epoch.0.to_be_bytes());
    batch[BASE_SEQUENCE..BASE_SEQUENCE + 4].copy_from_slice(&stamp.base_sequence.to_be_bytes());
    seal(batch);
}

/// Every field of a header; the length and the CRC follow from the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderFields {
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Fills the first 61 bytes of `batch`, whose records are already behind them.
pub(super) fn write_header(batch: &mut [u8], fields: &HeaderFields) {
    let length = i32::try_from(batch.len() - BATCH_OVERHEAD_BYTES).expect("builders stop below 2 GiB");
    set_base_offset(batch, fields.base_offset);
    batch[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    set_leader_epoch(batch, fields.leader_epoch);
    batch[MAGIC] = MAGIC_V2 as u8;
    batch[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&fields.attributes.0.to_be_bytes());
    batch[LAST_OFFSET_DELTA..LAST_OFFSET_DELTA + 4].copy_from_slice(&fields.last_offset_delta.to_be_bytes());
    batch[BASE_TIMESTAMP..BASE_TIMESTAMP + 8].copy_from_slice(&fields.base_timestamp.to_be_bytes());
    batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&fields.max_timestamp.to_be_bytes());
    batch[PRODUCER_ID..PRODUCER_ID + 8].copy_from_slice(&fields.producer_id.0.to_be_bytes());
    batch[PRODUCER_EPOCH..PRODUCER_EPOCH + 2].copy_from_slice(&fields.producer_epoch.0.to_be_bytes());
    batch[BASE_SEQUENCE..BASE_SEQUENCE + 4].copy_from_slice(&fields.base_sequence.to_be_bytes());
    batch[RECORD_COUNT..RECORD_COUNT + 4].copy_from_slice(&fields.record_count.to_be_bytes());
    seal(batch);
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl fmt::Display for InvalidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidBatch::Truncated { needed_bytes, given_bytes } => {
                write!(f, "the batch needs {needed_bytes} bytes and {given_bytes} are there")
            }
            InvalidBatch::Length(length) => write!(f, "the batch length {length} is too small for a header"),
            InvalidBatch::Magic(magic) => write!(f, "the batch has magic {magic}, not 2"),
            InvalidBatch::Crc { stored, computed } => {
                write!(f, "the batch has CRC {stored:#010x}, its bytes have {computed:#010x}")
            }
            InvalidBatch::Compression(code) => write!(f, "compression code {code} does not exist"),
            InvalidBatch::Count { record_count, last_offset_delta } => {
                write!(
                    f,
                    "the batch counts {record_count} records and its last offset delta is {last_offset_delta}"
                )
            }
            InvalidBatch::OffsetRange { base_offset, last_offset_delta } => {
                write!(f, "offsets from {base_offset} with last delta {last_offset_delta} are out of range")
            }
            InvalidBatch::BaseOffset(offset) => {
                write!(f, "a produced batch starts at offset {offset}, not 0")
            }
            InvalidBatch::Control => f.write_str("clients may not write control batches"),
            InvalidBatch::Sequence(ProducerStamp { id, epoch, base_sequence }) => {
                write!(f, "producer {} has epoch {} and sequence {base_sequence}", id.0, epoch.0)
            }
        }
    }
}

impl std::error::Error for InvalidBatch {}

#[cfg(test)]
mod tests {
    use super::super::builder::BatchBuilder;
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.producer(ProducerStamp {
            id: ProducerId(7),
            epoch: ProducerEpoch(2),
            base_sequence: i32::MAX,
        });
        builder.push(1_000, Some(b"k"), Some(b"value"));
        builder.push(1_005, None, None);
        builder.finish(40, LeaderEpoch(3)).to_vec()
    }

    #[test]
    fn header_fields_read_back() {
        let bytes = sample();
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        batch.check_count().unwrap();
        assert_eq!(batch.size_bytes(), bytes.len());
        assert_eq!((batch.base_offset(), batch.last_offset(), batch.end_offset()), (40, 41, 42));
        assert_eq!(batch.leader_epoch(), LeaderEpoch(3));
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_000, 1_005));
        assert_eq!(batch.last_sequence(), 0, "sequences wrap to zero");
        assert_eq!(batch.producer().map(|p| p.id), Some(ProducerId(7)));
        assert_eq!(batch.compression(), Codec::None);
    }

    #[test]
    fn broken_bytes_are_named() {
        let check = |change: fn(&mut Vec<u8>), expected: InvalidBatch| {
            let mut bytes = sample();
            change(&mut bytes);
            let found = BatchView::parse(&bytes).and_then(|b| b.check_crc());
            assert_eq!(found, Err(expected));
        };
        check(|b| b.truncate(60), InvalidBatch::Truncated { needed_bytes: 61, given_bytes: 60 });
        check(|b| b[MAGIC] = 1, InvalidBatch::Magic(1));
        check(|b| b[LENGTH..LENGTH + 4].fill(0), InvalidBatch::Length(0));
        check(|b| b[LENGTH] = 0x80, InvalidBatch::Length(i32::from_be_bytes([0x80, 0, 0, 69])));
        check(|b| b[ATTRIBUTES + 1] = 5, InvalidBatch::Compression(5));
        check(
            |b| b[LAST_OFFSET_DELTA] = 0xff,
            InvalidBatch::Count { record_count: 2, last_offset_delta: i32::from_be_bytes([0xff, 0, 0, 1]) },
        );
        check(
            |b| set_base_offset(b, i64::MAX - 1),
            InvalidBatch::OffsetRange { base_offset: i64::MAX - 1, last_offset_delta: 1 },
        );
    }

    #[test]
    fn any_flipped_bit_under_the_crc_is_seen() {
        let good = sample();
        for at in ATTRIBUTES..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert!(BatchView::parse(&bytes).and_then(|b| b.check_crc()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn placing_a_batch_keeps_its_crc() {
        let mut bytes = sample();
        set_base_offset(&mut bytes, 1 << 40);
        set_leader_epoch(&mut bytes, LeaderEpoch(9));
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert_eq!((batch.base_offset(), batch.leader_epoch()), (1 << 40, LeaderEpoch(9)));
    }

    #[test]
    fn log_append_time_overwrites_and_reseals() {
        let mut bytes = sample();
        set_log_append_time(&mut bytes, 77_777);
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_000, 77_777));
    }

    #[test]
    fn batches_end_at_the_first_error() {
        let mut bytes = sample();
        let one = bytes.len();
        bytes.extend_from_within(..);
        bytes.extend_from_slice(&[1, 2, 3]);
        let found: Vec<_> = Batches::new(&bytes).map(|b| b.map(|b| b.size_bytes())).collect();
        assert_eq!(
            found,
            [
                Ok(one),
                Ok(one),
                Err(InvalidBatch::Truncated { needed_bytes: BATCH_HEADER_BYTES, given_bytes: 3 })
            ]
        );
    }

    #[test]
    fn what_clients_may_not_send_is_named() {
        let check = |change: fn(&mut Vec<u8>), expected: Result<(), InvalidBatch>| {
            let mut bytes = sample();
            set_base_offset(&mut bytes, 0);
            change(&mut bytes);
            assert_eq!(BatchView::parse(&bytes).unwrap().check_produced(), expected);
        };
        check(|_| (), Ok(()));
        check(|b| set_base_offset(b, 3), Err(InvalidBatch::BaseOffset(3)));
        check(|b| b[ATTRIBUTES + 1] |= 0x20, Err(InvalidBatch::Control));
        check(|b| b[PRODUCER_ID..PRODUCER_ID + 8].fill(0xff), Ok(()));
        let stamp = ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(2), base_sequence: -1 };
        check(|b| b[BASE_SEQUENCE..BASE_SEQUENCE + 4].fill(0xff), Err(InvalidBatch::Sequence(stamp)));
    }

    #[test]
    fn count_of_a_produced_batch_matches_its_offsets() {
        let mut bytes = sample();
        bytes[RECORD_COUNT + 3] = 1;
        let batch = BatchView::parse(&bytes).unwrap();
        assert_eq!(batch.check_count(), Err(InvalidBatch::Count { record_count: 1, last_offset_delta: 1 }));
    }
}
