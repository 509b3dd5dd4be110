//! One batch as a template: every batch sent is this one with another stamp, and its CRC follows without reading it again.
//!
//! | bytes of a stamp | what |
//! | --: | --- |
//! | 0..4 | connection, counted over all cores |
//! | 4..8 | partition |
//! | 8..16 | how many batches this connection sent to this partition before |
//! | 16..24 | when it was due, nanoseconds of the generator's clock |
//!
//! The stamp begins the value of a batch's first record; the other records hold their number in the batch at that place. In a
//! compressed batch nothing can be changed from outside, so its stamp stays zero and only its CRC and count are checked.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use corelog::model::LeaderEpoch;
use corelog::record::{
    Attributes, BATCH_HEADER_BYTES, BatchBuilder, BatchView, Codec, Records, crc32c, crc32c_append,
};

use crate::workload::{Compression, Keys, Workload};

pub const STAMP_BYTES: usize = 24;
pub const KEY_BYTES: usize = 8;

/// Source: Kafka documentation, "Record Batch": the CRC field, and the first byte that it covers.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    pub connection: u32,
    pub partition: u32,
    pub sequence: u64,
    pub due_ns: u64,
}

impl Stamp {
    fn bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.connection.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.partition.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..].copy_from_slice(&self.due_ns.to_be_bytes());
        bytes
    }

    /// None: the value is shorter than a stamp.
    pub fn of_value(value: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP_BYTES] = value.first_chunk()?;
        let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let first = long(0);
        Some(Stamp {
            connection: (first >> 32) as u32,
            partition: first as u32,
            sequence: long(8),
            due_ns: long(16),
        })
    }
}

/// What a record holds behind its stamp or number: half of it words without a pattern, half of it zeros, so that compression
/// finds what it finds in common data. From the record's number, so that a checker can make it anew.
pub fn filling(record: usize, length: usize, out: &mut Vec<u8>) {
    let mut state = (record as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let end = out.len() + length;
    while out.len() < end {
        // xorshift64: Marsaglia, "Xorshift RNGs".
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
    }
    out.truncate(end);
}

/// The value of record `number` of a batch without its stamp.
pub fn plain_value(number: usize, length: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; STAMP_BYTES]);
    out[STAMP_BYTES - 4..].copy_from_slice(&(number as u32).to_be_bytes());
    filling(number, length - STAMP_BYTES, out);
}

/// A batch whose stamp is zero, and what it takes to give it one.
pub struct Template {
    pub bytes: Vec<u8>,
    stamping: Option<Stamping>,
}

/// Where what changes lies.
struct Stamping {
    key_at: Option<usize>,
    stamp_at: usize,
    /// Over the bytes behind the stamp.
    shift: Shift,
    /// Of the template.
    crc: u32,
}

impl Template {
    pub fn new(workload: &Workload) -> io::Result<Template> {
        let key = (workload.keys != Keys::None).then_some([0; KEY_BYTES]);
        // Of today: brokers drop segments whose records are older than the topic's retention.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let mut builder = BatchBuilder::new();
        let mut value = Vec::new();
        for number in 0..workload.records {
            plain_value(number, workload.record_bytes, &mut value);
            builder.push(now, key.as_ref().map(|key| &key[..]), Some(&value));
        }
        let bytes = builder.finish(0, LeaderEpoch(-1)).to_vec();
        if let Some(codec) = codec(workload.compression) {
            return Ok(Template { bytes: compressed(&bytes, codec)?, stamping: None });
        }
        let at = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
        let first = Records::new(&bytes[BATCH_HEADER_BYTES..], workload.records as i32).next();
        let first = first.expect("at least one record").expect("the builder writes records that can be read");
        let stamp_at = at(first.value.expect("it was given a value"));
        let key_at = first.key.map(at);
        let shift = Shift::over(bytes.len() - stamp_at - STAMP_BYTES);
        let crc = crc32c(&bytes[CRC_FROM..]);
        Ok(Template { stamping: Some(Stamping { key_at, stamp_at, shift, crc }), bytes })
    }

    /// How many bytes from the start hold everything that a stamp changes.
    pub fn changing_bytes(&self) -> usize {
        self.stamping.as_ref().map_or(0, |stamping| stamping.stamp_at + STAMP_BYTES)
    }

    /// Writes stamp, key and CRC into a copy of the template's beginning, of at least [`Template::changing_bytes`].
    pub fn stamp(&self, copy: &mut [u8], stamp: Stamp, key: Option<[u8; KEY_BYTES]>) {
        let Some(stamping) = &self.stamping else { return };
        let from = match (stamping.key_at, key) {
            (Some(at), Some(key)) => {
                copy[at..at + KEY_BYTES].copy_from_slice(&key);
                at
            }
            _ => stamping.stamp_at,
        };
        copy[stamping.stamp_at..stamping.stamp_at + STAMP_BYTES].copy_from_slice(&stamp.bytes());
        // A CRC is linear: that of two texts of one length differ by the CRC, begun at zero, of where they differ.
        let mut change = [0; 64];
        let change = &mut change[..stamping.stamp_at + STAMP_BYTES - from];
        for (at, byte) in change.iter_mut().enumerate() {
            *byte = copy[from + at] ^ self.bytes[from + at];
        }
        let crc = stamping.crc ^ stamping.shift.apply(crc_from_zero(change));
        copy[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Without the inversions at both ends that the CRC of a whole text has.
fn crc_from_zero(bytes: &[u8]) -> u32 {
    !crc32c_append(!0, bytes)
}

/// What a CRC register becomes after a number of zero bytes, for any register: a linear map over bits, as four tables of bytes.
struct Shift {
    tables: Box<[[u32; 256]; 4]>,
}

impl Shift {
    fn over(zeros: usize) -> Shift {
        // One column for each bit, doubled as a power is: O(log zeros) compositions of maps of 32 bits.
        let mut result: [u32; 32] = std::array::from_fn(|bit| 1 << bit);
        let mut power: [u32; 32] = std::array::from_fn(|bit| zero_byte(1 << bit));
        let mut left = zeros;
        while left > 0 {
            if left & 1 == 1 {
                result = std::array::from_fn(|bit| map(&power, result[bit]));
            }
            power = std::array::from_fn(|bit| map(&power, power[bit]));
            left >>= 1;
        }
        let mut tables = Box::new([[0; 256]; 4]);
        for (byte, table) in tables.iter_mut().enumerate() {
            for (value, entry) in table.iter_mut().enumerate() {
                *entry = map(&result, (value as u32) << (8 * byte));
            }
        }
        Shift { tables }
    }

    fn apply(&self, crc: u32) -> u32 {
        let [a, b, c, d] = crc.to_le_bytes();
        let tables = &self.tables;
        tables[0][a as usize] ^ tables[1][b as usize] ^ tables[2][c as usize] ^ tables[3][d as usize]
    }
}

fn map(columns: &[u32; 32], vector: u32) -> u32 {
    (0..32).filter(|bit| vector >> bit & 1 == 1).fold(0, |sum, bit| sum ^ columns[bit])
}

fn zero_byte(register: u32) -> u32 {
    !crc32c_append(!register, &[0])
}

pub fn codec(compression: Compression) -> Option<Codec> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Snappy => Some(Codec::Snappy),
        Compression::Lz4 => Some(Codec::Lz4),
        Compression::Zstd => Some(Codec::Zstd),
    }
}

/// The same batch with its records packed.
fn compressed(batch: &[u8], codec: Codec) -> io::Result<Vec<u8>> {
    let records = &batch[BATCH_HEADER_BYTES..];
    let packed = match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()?
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(records)?,
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records)?;
            encoder.finish().map_err(io::Error::other)?
        }
        Codec::Zstd => zstd::bulk::compress(records, 3)?,
    };
    let mut bytes = batch[..BATCH_HEADER_BYTES].to_vec();
    bytes.extend_from_slice(&packed);
    // The length counts what follows it, from byte 12 on.
    let length = i32::try_from(bytes.len() - 12).expect("at most 1 MiB");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let attributes = Attributes::default().with_compression(codec);
    bytes[CRC_FROM..CRC_FROM + 2].copy_from_slice(&attributes.0.to_be_bytes());
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    BatchView::parse(&bytes).and_then(|batch| batch.check_crc()).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use corelog::record::{DecompressBounds, decompress};

    use super::*;

    #[test]
    fn a_stamped_batch_has_the_crc_of_its_bytes() {
        let check = |records: usize, record_bytes: usize, keys: Keys| {
            let workload = Workload { records, record_bytes, keys, ..Workload::default() };
            let template = Template::new(&workload).unwrap();
            let key = (keys != Keys::None).then_some([7; KEY_BYTES]);
            for stamp in [
                Stamp::default(),
                Stamp { connection: 1, partition: 2, sequence: 3, due_ns: u64::MAX },
                Stamp { connection: u32::MAX, partition: 0, sequence: 1 << 40, due_ns: 12_345 },
            ] {
                let mut copy = template.bytes.clone();
                template.stamp(&mut copy, stamp, key);
                let batch = BatchView::parse(&copy).unwrap();
                batch.check_crc().unwrap();
                let first = Records::new(batch.records(), batch.record_count()).next().unwrap().unwrap();
                assert_eq!(Stamp::of_value(first.value.unwrap()), Some(stamp));
                assert_eq!(first.key, key.as_ref().map(|key| &key[..]));
                assert_eq!(copy[template.changing_bytes()..], template.bytes[template.changing_bytes()..]);
            }
        };
        for keys in [Keys::None, Keys::Uniform] {
            check(1, STAMP_BYTES, keys);
            check(1, 1024, keys);
            check(64, 1024, keys);
            check(1, 1_000_000, keys);
        }
    }

    #[test]
    fn a_stamp_outside_the_crc_would_be_found() {
        let template = Template::new(&Workload::default()).unwrap();
        let mut copy = template.bytes.clone();
        template.stamp(&mut copy, Stamp { sequence: 1, ..Stamp::default() }, None);
        copy[template.changing_bytes() - 1] ^= 1;
        assert!(BatchView::parse(&copy).unwrap().check_crc().is_err());
    }

    #[test]
    fn packed_batches_hold_the_same_records() {
        let plain = Template::new(&Workload { records: 8, ..Workload::default() }).unwrap();
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let workload = Workload { records: 8, compression, ..Workload::default() };
            let packed = Template::new(&workload).unwrap();
            let batch = BatchView::parse(&packed.bytes).unwrap();
            batch.check_crc().unwrap();
            assert!(packed.bytes.len() < plain.bytes.len() * 3 / 4, "{compression:?}");
            let mut out = Vec::new();
            let bounds = DecompressBounds { output_bytes_max: 1 << 20, ratio_max: 1000 };
            decompress(batch.compression(), batch.records(), bounds, &mut out).unwrap();
            assert_eq!(out, plain.bytes[BATCH_HEADER_BYTES..], "{compression:?}");
        }
    }
}
