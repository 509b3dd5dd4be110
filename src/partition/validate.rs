//! What a broker checks before it lets a batch into a log. The order of the checks is Kafka's, since it decides the error.
//!
//! The header and the checksum are always checked; plain records are walked; compressed ones are unpacked only where the
//! broker must know their keys (compacted topics). Redpanda does the same; Kafka unpacks every batch.

use std::fmt;

use crate::model::{Offset, Timestamp};
use crate::record::compression::{Codec, DecompressBounds, decompress};
use crate::record::record::Records;
use crate::record::{Attributes, BATCH_HEADER_BYTES, BatchView, InvalidBatch, TimestampType};

/// What a topic allows.
#[derive(Clone, Copy, Debug)]
pub struct BatchRules {
    pub max_message_bytes: u32,
    pub segment_bytes: u64,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub needs_keys: bool,
    pub unpacked_bytes_max: usize,
}

/// A batch that is not let in. Nothing of it is appended.
#[derive(Debug)]
pub enum BatchError {
    /// No batch, more than one batch, or an older format: refused before the log is asked.
    NotOneBatch {
        count: usize,
    },
    /// Not a record format at all.
    UnknownMagic(i8),
    Corrupt(InvalidBatch),
    TooLarge {
        size_bytes: usize,
        max_message_bytes: u32,
    },
    LargerThanSegment {
        size_bytes: usize,
        segment_bytes: u64,
    },
    /// zstd in a request version whose readers may not know it.
    ZstdTooEarly,
    UnknownCompression,
    Transactional,
    /// The header contradicts what a producer may send.
    Header(&'static str),
    /// Records that do not decode, or do not unpack.
    Records(String),
    /// Refused records: (index in the batch, why).
    NoKeys {
        indexes: Vec<i32>,
    },
    Timestamp {
        indexes: Vec<i32>,
    },
}

impl BatchError {
    /// The log itself refused, so its start offset is told with the error (as Kafka does).
    pub fn is_from_the_log(&self) -> bool {
        matches!(
            self,
            BatchError::Header(_)
                | BatchError::Records(_)
                | BatchError::NoKeys { .. }
                | BatchError::Timestamp { .. }
                | BatchError::UnknownCompression
        )
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::NotOneBatch { count } => {
                write!(f, "a partition takes exactly one batch of format 2, not {count}")
            }
            BatchError::UnknownMagic(magic) => write!(f, "Invalid magic found in record: {magic}"),
            BatchError::Corrupt(cause) => write!(f, "the batch is corrupt: {cause:?}"),
            BatchError::TooLarge { size_bytes, max_message_bytes } => {
                write!(
                    f,
                    "the batch of {size_bytes} bytes is larger than max.message.bytes = {max_message_bytes}"
                )
            }
            BatchError::LargerThanSegment { size_bytes, segment_bytes } => {
                write!(f, "the batch of {size_bytes} bytes is larger than segment.bytes = {segment_bytes}")
            }
            BatchError::ZstdTooEarly => f.write_str("zstd needs Produce version 7 or later"),
            BatchError::UnknownCompression => {
                f.write_str("the batch names a compression that does not exist")
            }
            BatchError::Transactional => f.write_str("a transactional batch needs a transactional id"),
            BatchError::Header(why) => f.write_str(why),
            BatchError::Records(why) => write!(f, "the records of the batch cannot be read: {why}"),
            BatchError::NoKeys { indexes } => {
                write!(f, "{} records have no key, which a compacted topic needs", indexes.len())
            }
            BatchError::Timestamp { .. } => {
                f.write_str("One or more records have been rejected due to invalid timestamp")
            }
        }
    }
}

/// The first checks, which need no log: one batch of format 2 (`ProduceRequest.validateRecords` in Apache Kafka). Returns its
/// bytes. A batch that is cut at the end of `records` does not count, and neither do bytes after the first whole batch that
/// are too few to be one.
pub fn the_batch(records: &[u8], produce_version: i16) -> Result<&[u8], BatchError> {
    let mut count = 0;
    let mut rest = records;
    // Length prefix of a batch: base offset (8), length (4); the magic is byte 16.
    while let Some(size) = whole_entry(rest) {
        match rest[16] {
            2 => {}
            0 | 1 => return Err(BatchError::NotOneBatch { count }),
            magic => return Err(BatchError::UnknownMagic(magic as i8)),
        }
        count += 1;
        rest = &rest[size..];
    }
    if count != 1 {
        return Err(BatchError::NotOneBatch { count });
    }
    let bytes = &records[..records.len() - rest.len()];
    let Some(attributes) =
        bytes.get(BATCH_HEADER_BYTES..).map(|_| i16::from_be_bytes([bytes[21], bytes[22]]))
    else {
        return Err(BatchError::NotOneBatch { count: 0 });
    };
    if matches!(Codec::from_attributes(attributes), Ok(Codec::Zstd)) && produce_version < 7 {
        return Err(BatchError::ZstdTooEarly);
    }
    Ok(bytes)
}

/// Whether a batch says that it belongs to a transaction. `bytes` are as `the_batch` gives them.
pub fn is_transactional(bytes: &[u8]) -> bool {
    Attributes(i16::from_be_bytes([bytes[21], bytes[22]])).is_transactional()
}

/// Why bytes with the outline of a batch are not one.
pub fn not_a_batch(error: InvalidBatch) -> BatchError {
    match error {
        InvalidBatch::Compression(_) => BatchError::UnknownCompression,
        InvalidBatch::Count { .. } => {
            BatchError::Header("the record count does not fit the offsets of the batch")
        }
        InvalidBatch::OffsetRange { .. } => {
            BatchError::Header("the base offset of a produced batch must be 0")
        }
        other => BatchError::Corrupt(other),
    }
}

/// Whether compressed records begin as their codec's streams do. Not a proof, and it costs nothing: it refuses what names
/// the wrong codec, which no consumer could read.
fn starts_as(codec: Codec, records: &[u8]) -> bool {
    match codec {
        Codec::None => true,
        // RFC 1952; LZ4 frame format 1.6; RFC 8878.
        Codec::Gzip => records.starts_with(&[0x1f, 0x8b]),
        Codec::Lz4 => records.starts_with(&[0x04, 0x22, 0x4d, 0x18]),
        Codec::Zstd => records.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        // Java's framing, or one raw block, which starts with its length.
        Codec::Snappy => records.starts_with(b"\x82SNAPPY\0") || snap::raw::decompress_len(records).is_ok(),
    }
}

/// The size of the record entry at the front, if it is whole.
fn whole_entry(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(bytes.get(8..12)?.try_into().expect("four bytes"));
    let size = usize::try_from(length).ok()?.checked_add(12)?;
    (size > 16 && bytes.len() >= size).then_some(size)
}

/// Checks a batch against its topic's rules. Returns the largest record timestamp for topics with CreateTime.
pub fn check_batch(
    batch: &BatchView<'_>,
    rules: &BatchRules,
    now: Timestamp,
    scratch: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let size_bytes = batch.size_bytes();
    if size_bytes > rules.max_message_bytes as usize {
        return Err(BatchError::TooLarge { size_bytes, max_message_bytes: rules.max_message_bytes });
    }
    batch.check_crc().map_err(BatchError::Corrupt)?;
    if size_bytes as u64 > rules.segment_bytes {
        return Err(BatchError::LargerThanSegment { size_bytes, segment_bytes: rules.segment_bytes });
    }
    if batch.base_offset() != 0 as Offset {
        return Err(BatchError::Header("the base offset of a produced batch must be 0"));
    }
    if batch.check_count().is_err() {
        return Err(BatchError::Header("the record count does not fit the offsets of the batch"));
    }
    if batch.attributes().is_control() {
        return Err(BatchError::Header("clients may not write control batches"));
    }
    if batch.producer_id().0 >= 0 && (batch.base_sequence() < 0 || batch.producer_epoch().0 < 0) {
        return Err(BatchError::Header("a batch with a producer id needs a sequence and an epoch"));
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::Timestamp { indexes: all_indexes(batch) });
    }
    if !starts_as(batch.compression(), batch.records()) {
        return Err(BatchError::Records("the records are not what the batch's codec writes".to_owned()));
    }
    if batch.compression() == Codec::None {
        check_records(batch, batch.records(), rules)?;
    } else if rules.needs_keys {
        let codec =
            Codec::from_attributes(batch.attributes().0).map_err(|_| BatchError::UnknownCompression)?;
        let bounds = DecompressBounds { output_bytes_max: rules.unpacked_bytes_max, ratio_max: 4096 };
        decompress(codec, batch.records(), bounds, scratch)
            .map_err(|error| BatchError::Records(error.to_string()))?;
        check_records(batch, scratch, rules)?;
    }
    if rules.timestamp_type == TimestampType::CreateTime {
        check_timestamps(batch, rules, now)?;
    }
    Ok(())
}

/// Walks the records: their lengths, their number, their order, their keys.
fn check_records(batch: &BatchView<'_>, payload: &[u8], rules: &BatchRules) -> Result<(), BatchError> {
    let mut keyless = Vec::new();
    for (expected, record) in (0..).zip(Records::new(payload, batch.record_count())) {
        let record = record.map_err(|error| BatchError::Records(error.to_string()))?;
        if record.offset_delta != expected {
            return Err(BatchError::Header("the offsets inside the batch are not consecutive"));
        }
        if rules.needs_keys && record.key.is_none() {
            keyless.push(expected);
        }
    }
    if keyless.is_empty() { Ok(()) } else { Err(BatchError::NoKeys { indexes: keyless }) }
}

/// The header's largest timestamp stands for all records when it is in range, so the records are not walked for it.
fn check_timestamps(batch: &BatchView<'_>, rules: &BatchRules, now: Timestamp) -> Result<(), BatchError> {
    let allowed = |timestamp: Timestamp| {
        timestamp < 0
            || (now.saturating_sub(timestamp) <= rules.timestamp_before_max_ms
                && timestamp.saturating_sub(now) <= rules.timestamp_after_max_ms)
    };
    if allowed(batch.max_timestamp())
        && (rules.timestamp_before_max_ms == i64::MAX || allowed(batch.base_timestamp()))
    {
        return Ok(());
    }
    Err(BatchError::Timestamp { indexes: all_indexes(batch) })
}

fn all_indexes(batch: &BatchView<'_>) -> Vec<i32> {
    (0..batch.record_count().min(1000)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, ProducerEpoch, ProducerId};
    use crate::record::compression::tests::compress;
    use crate::record::{BatchBuilder, ProducerStamp, crc32c, set_base_offset};

    const NOW: Timestamp = 1_700_000_000_000;
    const DAY_MS: i64 = 86_400_000;

    fn rules() -> BatchRules {
        BatchRules {
            max_message_bytes: 1000,
            segment_bytes: 10_000,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 1000,
            needs_keys: false,
            unpacked_bytes_max: 1000,
        }
    }

    fn batch(change: impl FnOnce(&mut BatchBuilder)) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        change(&mut builder);
        if builder.record_count() == 0 {
            builder.push(NOW, Some(b"key"), Some(b"value"));
        }
        builder.finish(0, LeaderEpoch(-1)).to_vec()
    }

    /// The same batch with its records replaced, and its length and checksum made right again.
    fn with_records(batch: &[u8], attributes: Attributes, records: &[u8]) -> Vec<u8> {
        let mut bytes = [&batch[..BATCH_HEADER_BYTES], records].concat();
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[21..23].copy_from_slice(&attributes.0.to_be_bytes());
        sign(bytes)
    }

    fn with_bytes(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        sign(batch)
    }

    fn sign(mut batch: Vec<u8>) -> Vec<u8> {
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    fn packed(codec: Codec, records: &[u8]) -> Vec<u8> {
        with_records(&batch(|_| {}), Attributes::default().with_compression(codec), records)
    }

    /// What becomes of a batch, in one word.
    fn verdict(bytes: &[u8], rules: &BatchRules) -> &'static str {
        let result = BatchView::parse(bytes)
            .map_err(not_a_batch)
            .and_then(|batch| check_batch(&batch, rules, NOW, &mut Vec::new()));
        match result {
            Ok(()) => "taken",
            Err(BatchError::Corrupt(_)) => "corrupt",
            Err(BatchError::TooLarge { .. }) => "too large",
            Err(BatchError::LargerThanSegment { .. }) => "larger than a segment",
            Err(BatchError::UnknownCompression) => "unknown compression",
            Err(BatchError::Header(_)) => "header",
            Err(BatchError::Records(_)) => "records",
            Err(BatchError::NoKeys { .. }) => "no keys",
            Err(BatchError::Timestamp { .. }) => "timestamp",
            Err(other) => panic!("not from here: {other}"),
        }
    }

    #[test]
    fn batches_are_refused_for_what_is_wrong_with_them() {
        let check = |what: &str, bytes: &[u8], rules: BatchRules, expected: &str| {
            assert_eq!(verdict(bytes, &rules), expected, "{what}");
        };
        let good = batch(|_| {});
        check("plain", &good, rules(), "taken");
        check("larger", &good, BatchRules { max_message_bytes: 50, ..rules() }, "too large");
        check("segment", &good, BatchRules { segment_bytes: 50, ..rules() }, "larger than a segment");
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        check("flipped", &flipped, rules(), "corrupt");
        let mut moved = good.clone();
        set_base_offset(&mut moved, 7);
        check("base offset", &moved, rules(), "header");
        check("count", &with_bytes(good.clone(), 57, &2i32.to_be_bytes()), rules(), "header");
        check("no records", &with_bytes(good.clone(), 57, &(-1i32).to_be_bytes()), rules(), "header");
        let control = batch(|b| _ = b.attributes(Attributes::default().with_control(true)));
        check("control", &control, rules(), "header");
        let produced = |base_sequence, epoch| {
            let stamp = ProducerStamp { id: ProducerId(1), epoch: ProducerEpoch(epoch), base_sequence };
            batch(|b| _ = b.producer(stamp))
        };
        check("a producer", &produced(0, 0), rules(), "taken");
        check("no sequence", &produced(-1, 0), rules(), "header");
        check("no epoch", &produced(0, -1), rules(), "header");
        let append_time = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
        check("the broker's bit", &batch(|b| _ = b.attributes(append_time)), rules(), "timestamp");
        check("cut records", &with_records(&good, Attributes::default(), &[30, 0]), rules(), "records");
    }

    #[test]
    fn timestamps_are_held_against_the_clock() {
        let at = |timestamp| batch(|b| _ = b.push(timestamp, None, None));
        let check = |timestamp, rules: BatchRules, expected: &str| {
            assert_eq!(verdict(&at(timestamp), &rules), expected, "{timestamp}");
        };
        check(NOW + 1000, rules(), "taken");
        check(NOW + 1001, rules(), "timestamp");
        check(i64::MAX, rules(), "timestamp");
        check(i64::MAX, BatchRules { timestamp_after_max_ms: i64::MAX, ..rules() }, "taken");
        check(NOW - DAY_MS, rules(), "taken");
        check(NOW - DAY_MS, BatchRules { timestamp_before_max_ms: 1000, ..rules() }, "timestamp");
        check(-1, BatchRules { timestamp_before_max_ms: 1000, ..rules() }, "taken");
        let of_the_broker = BatchRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
        check(i64::MAX, of_the_broker, "taken");
    }

    #[test]
    fn compressed_records_begin_as_their_codec_says() {
        let plain = batch(|_| {});
        let records = &plain[BATCH_HEADER_BYTES..];
        let compacted = BatchRules { needs_keys: true, ..rules() };
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let good = packed(codec, &compress(codec, records));
            assert_eq!(verdict(&good, &rules()), "taken", "{codec:?}");
            assert_eq!(verdict(&good, &compacted), "taken", "{codec:?} unpacked");
            // 0xff runs on as a length: not even a raw snappy block starts so.
            let other = packed(codec, &[0xff; 20]);
            assert_eq!(verdict(&other, &rules()), "records", "{codec:?} in name only");
            let bomb = packed(codec, &compress(codec, &[0; 10_000]));
            assert_eq!(verdict(&bomb, &compacted), "records", "{codec:?} that unpacks to too much");
        }
        assert_eq!(verdict(&packed(Codec::Lz4, &compress(Codec::Zstd, records)), &rules()), "records");
        let unknown = with_records(&plain, Attributes(5), records);
        assert_eq!(verdict(&unknown, &rules()), "unknown compression");
    }

    #[test]
    fn a_compacted_topic_names_the_records_without_a_key() {
        let bytes = batch(|b| _ = b.push(NOW, None, None).push(NOW, Some(b"k"), None).push(NOW, None, None));
        assert_eq!(verdict(&bytes, &rules()), "taken");
        let rules = BatchRules { needs_keys: true, ..rules() };
        let batch = BatchView::parse(&bytes).unwrap();
        match check_batch(&batch, &rules, NOW, &mut Vec::new()) {
            Err(BatchError::NoKeys { indexes }) => assert_eq!(indexes, [0, 2]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_partition_takes_exactly_one_batch() {
        let check = |what: &str, bytes: &[u8], version, expected: &str| {
            let found = match the_batch(bytes, version) {
                Ok(_) => "one",
                Err(BatchError::NotOneBatch { .. }) => "not one",
                Err(BatchError::UnknownMagic(_)) => "magic",
                Err(BatchError::ZstdTooEarly) => "zstd",
                Err(other) => panic!("{what}: {other}"),
            };
            assert_eq!(found, expected, "{what}");
        };
        let good = batch(|_| {});
        check("one", &good, 3, "one");
        check("none", &[], 3, "not one");
        check("cut", &good[..good.len() - 1], 3, "not one");
        check("two", &[good.clone(), good.clone()].concat(), 3, "not one");
        check("one and a cut one", &[good.clone(), good[..30].to_vec()].concat(), 3, "one");
        check("a negative length", &with_bytes(good.clone(), 8, &(-1i32).to_be_bytes()), 3, "not one");
        check("the largest length", &with_bytes(good.clone(), 8, &i32::MAX.to_be_bytes()), 3, "not one");
        check("less than a header", &with_bytes(good[..40].to_vec(), 8, &28i32.to_be_bytes()), 3, "not one");
        check("message set", &with_bytes(good.clone(), 16, &[1]), 3, "not one");
        check("magic 3", &with_bytes(good.clone(), 16, &[3]), 3, "magic");
        let zstd = packed(Codec::Zstd, &compress(Codec::Zstd, b"records"));
        check("zstd", &zstd, 6, "zstd");
        check("zstd", &zstd, 7, "one");
    }
}
