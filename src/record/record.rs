//! One record inside the payload of a v2 batch: a borrowing reader that checks every length against the bytes left,
//! and the encoder.
//!
//! ```text
//! length           varint   bytes of the record after this field
//! attributes       i8       unused, 0
//! timestampDelta   varlong  from the batch's base timestamp
//! offsetDelta      varint   from the batch's base offset
//! keyLength        varint   -1: null
//! key              bytes
//! valueLength      varint   -1: null
//! value            bytes
//! headersCount     varint
//! each header      key: varint length, UTF-8 bytes (never null); value: varint length (-1: null), bytes
//! ```
//! Varints are zigzag, low seven bits first. Source: Kafka documentation, "Message Format", section "Record".

use std::fmt;

/// Longest varint of an `i32` and of an `i64`: ceil(32 / 7) and ceil(64 / 7) bytes.
const VARINT_BYTES_MAX: u32 = 5;
const VARLONG_BYTES_MAX: u32 = 10;

/// A record, borrowed from its (decompressed) batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A record header. Clients write UTF-8 keys; a broker has no reason to refuse others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Why bytes are not the records their batch promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// A field reaches past the end of its record, or a record past the end of the payload.
    Truncated,
    /// A varint has more bytes than its type can hold.
    VarintTooLong,
    /// A length below zero where null is not allowed, or below -1.
    NegativeLength { length: i32 },
    /// The fields of a record end before the length it declares.
    RecordLength { declared: usize, read: usize },
    /// The payload goes on after the last record the batch header counts.
    BytesAfterLastRecord { bytes: usize },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Truncated => f.write_str("a field reaches past the end of its record"),
            RecordError::VarintTooLong => f.write_str("a varint is longer than its type allows"),
            RecordError::NegativeLength { length } => write!(f, "length {length} is not allowed"),
            RecordError::RecordLength { declared, read } => {
                write!(f, "a record declares {declared} bytes and its fields take {read}")
            }
            RecordError::BytesAfterLastRecord { bytes } => write!(f, "{bytes} bytes follow the last record"),
        }
    }
}

impl std::error::Error for RecordError {}

/// The records of one batch payload, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: u32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Reads `count` records (the batch header's `recordsCount`; below zero counts as none) from the decompressed
    /// `payload`. Bytes after the last record are an error of the iteration, as too few are.
    pub fn new(payload: &'a [u8], count: i32) -> Records<'a> {
        Records { cursor: Cursor(payload), left: u32::try_from(count).unwrap_or(0), failed: false }
    }

    /// The bytes of the payload that were not read yet, so that a reader can stop and go on later.
    pub fn rest(&self) -> &'a [u8] {
        self.cursor.0
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = if self.left > 0 {
            self.left -= 1;
            self.cursor.record()
        } else if self.cursor.0.is_empty() {
            return None;
        } else {
            Err(RecordError::BytesAfterLastRecord { bytes: self.cursor.0.len() })
        };
        self.failed = next.is_err();
        Some(next)
    }
}

/// The headers of one record, checked when the record was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> Headers<'a> {
    /// How many headers are still to come.
    pub fn count(&self) -> usize {
        self.left as usize
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.cursor.header().expect("Cursor::record has read every header once"))
    }
}

/// The bytes not read yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let declared = self.length()?;
        let mut body = Cursor(self.take(declared)?);
        let attributes = body.take(1)?[0] as i8;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable_bytes()?;
        let value = body.nullable_bytes()?;
        let header_count = body.length()?;
        // No reservation by count: a header takes at least two bytes, so a false count ends in `Truncated`.
        let headers = Headers { cursor: body, left: header_count as u32 };
        for _ in 0..header_count {
            body.header()?;
        }
        if !body.0.is_empty() {
            return Err(RecordError::RecordLength { declared, read: declared - body.0.len() });
        }
        Ok(Record { attributes, timestamp_delta, offset_delta, key, value, headers })
    }

    fn header(&mut self) -> Result<Header<'a>, RecordError> {
        let key_bytes = self.length()?;
        Ok(Header { key: self.take(key_bytes)?, value: self.nullable_bytes()? })
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, RecordError> {
        let length = self.varint()?;
        usize::try_from(length).map_err(|_negative| RecordError::NegativeLength { length })
    }

    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length if length < 0 => Err(RecordError::NegativeLength { length }),
            length => self.take(length as usize).map(Some),
        }
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = self.unsigned(VARINT_BYTES_MAX)?;
        // The fifth byte carries four bits; Kafka drops what stands above them, and so do we.
        let raw = raw as u32;
        Ok(((raw >> 1) as i32) ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = self.unsigned(VARLONG_BYTES_MAX)?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    fn unsigned(&mut self, bytes_max: u32) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for i in 0..bytes_max {
            let byte = *self.0.get(i as usize).ok_or(RecordError::Truncated)?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i as usize + 1..];
                return Ok(value);
            }
        }
        Err(RecordError::VarintTooLong)
    }
}

/// A record to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

impl NewRecord<'_> {
    /// Bytes that `encode` will append.
    pub fn encoded_bytes(&self) -> usize {
        let body = self.body_bytes();
        varint_bytes(body as i32) + body
    }

    /// Appends the record to `out`.
    ///
    /// Panics when a key, a value or the record as a whole is longer than an `i32` can say: records are made by our own
    /// code, far below that.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body = self.body_bytes();
        put_length(out, body);
        let start = out.len();
        out.push(0);
        put_varlong(out, self.timestamp_delta);
        put_varint(out, self.offset_delta);
        put_nullable_bytes(out, self.key);
        put_nullable_bytes(out, self.value);
        put_length(out, self.headers.len());
        for header in self.headers {
            put_length(out, header.key.len());
            out.extend_from_slice(header.key);
            put_nullable_bytes(out, header.value);
        }
        assert!(out.len() - start == body, "record of {} bytes was sized as {body}", out.len() - start);
    }

    fn body_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|h| varint_bytes(h.key.len() as i32) + h.key.len() + nullable_bytes_size(h.value))
            .sum();
        1 + varlong_bytes(self.timestamp_delta)
            + varint_bytes(self.offset_delta)
            + nullable_bytes_size(self.key)
            + nullable_bytes_size(self.value)
            + varint_bytes(self.headers.len() as i32)
            + headers
    }
}

fn nullable_bytes_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint_bytes(b.len() as i32) + b.len())
}

fn put_nullable_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, i32::try_from(length).expect("our own records are far below 2 GiB"));
}

fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_bytes(value: i32) -> usize {
    varlong_bytes(i64::from(value))
}

fn varlong_bytes(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(payload: &[u8], count: i32, expected: Result<usize, RecordError>) {
        let read: Result<Vec<_>, _> = Records::new(payload, count).collect();
        assert_eq!(read.map(|records| records.len()), expected, "{payload:02x?} as {count} records");
    }

    #[test]
    fn payloads_are_read_or_refused() {
        // length 6, attributes, timestamp delta, offset delta, null key, null value, no headers
        let least = [12, 0, 0, 0, 1, 1, 0];
        check(&least, 1, Ok(1));
        check(&[least, least].concat(), 2, Ok(2));
        check(&[], 0, Ok(0));
        check(&[], -1, Ok(0));
        check(&[], 1, Err(RecordError::Truncated));
        check(&least, 2, Err(RecordError::Truncated));
        check(&[least, least].concat(), 1, Err(RecordError::BytesAfterLastRecord { bytes: 7 }));
        check(&least, 0, Err(RecordError::BytesAfterLastRecord { bytes: 7 }));
        check(&least[..6], 1, Err(RecordError::Truncated));
        check(&[1], 1, Err(RecordError::NegativeLength { length: -1 }));
        check(&[14, 0, 0, 0, 1, 1, 0, 9], 1, Err(RecordError::RecordLength { declared: 7, read: 6 }));
        check(&[10, 0, 0, 0, 1, 1], 1, Err(RecordError::Truncated));
        check(&[12, 0, 0, 0, 3, 1, 0], 1, Err(RecordError::NegativeLength { length: -2 }));
        check(&[12, 0, 0, 0, 1, 8, 0], 1, Err(RecordError::Truncated));
        check(&[12, 0, 0, 0, 1, 1, 1], 1, Err(RecordError::NegativeLength { length: -1 }));
        check(&[12, 0, 0, 0, 1, 1, 2], 1, Err(RecordError::Truncated));
        check(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1, Err(RecordError::NegativeLength { length: -1 }));
        check(&[16, 0, 0, 0, 1, 1, 2, 0, 1], 1, Ok(1));
    }

    #[test]
    fn a_huge_count_of_headers_or_a_huge_length_costs_nothing() {
        // headersCount = i32::MAX
        check(&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], 1, Err(RecordError::Truncated));
        // record length = i32::MAX
        check(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0], i32::MAX, Err(RecordError::Truncated));
    }

    #[test]
    fn overlong_varints_are_refused() {
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 1, Err(RecordError::VarintTooLong));
        check(&[0x80; 4], 1, Err(RecordError::Truncated));
        let mut record = vec![40, 0];
        record.extend_from_slice(&[0xff; 10]);
        record.extend_from_slice(&[0; 20]);
        check(&record, 1, Err(RecordError::VarintTooLong));
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let record = NewRecord {
            timestamp_delta: -1,
            offset_delta: 64,
            key: Some(b"k"),
            value: None,
            headers: &[Header { key: b"h", value: Some(b"") }],
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(bytes, [22, 0, 1, 0x80, 0x01, 2, b'k', 1, 2, 2, b'h', 0]);
    }

    #[test]
    fn extremes_of_the_varints_round_trip() {
        for value in
            [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, i64::from(i32::MAX), i64::from(i32::MIN)]
        {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            assert_eq!(Cursor(&bytes).varlong(), Ok(value));
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(Cursor(&bytes).varint(), Ok(small));
            }
        }
    }

    type Owned = (i64, i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn records() -> impl Strategy<Value = Vec<Owned>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..80);
        let optional = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80));
        let headers = proptest::collection::vec((bytes(), optional()), 0..4);
        proptest::collection::vec((any::<i64>(), any::<i32>(), optional(), optional(), headers), 0..6)
    }

    fn encode(records: &[Owned]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (timestamp_delta, offset_delta, key, value, headers) in records {
            let headers: Vec<_> =
                headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let record = NewRecord {
                timestamp_delta: *timestamp_delta,
                offset_delta: *offset_delta,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            };
            let before = payload.len();
            record.encode(&mut payload);
            assert_eq!(payload.len() - before, record.encoded_bytes());
        }
        payload
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn records_round_trip(written in records()) {
            let payload = encode(&written);
            let read: Vec<Owned> = Records::new(&payload, written.len() as i32)
                .map(|r| {
                    let r = r.unwrap();
                    let headers = r.headers.map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
                    (r.timestamp_delta, r.offset_delta, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), headers)
                })
                .collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn a_cut_payload_is_refused(written in records(), cut in any::<prop::sample::Index>()) {
            let payload = encode(&written);
            if !payload.is_empty() {
                let cut = cut.index(payload.len());
                let read: Result<Vec<_>, _> = Records::new(&payload[..cut], written.len() as i32).collect();
                prop_assert!(read.is_err());
            }
        }

        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<i32>()) {
            for record in Records::new(&bytes, count).flatten() {
                assert!(record.headers.count() <= bytes.len());
            }
        }
    }
}
