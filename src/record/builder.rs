//! Makes batches from records: for the logs the broker writes itself (offsets, metadata), the client and tests.

use bytes::Bytes;

use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::batch::{Attributes, BATCH_HEADER_BYTES, HeaderFields, ProducerStamp, write_header};
use super::compression::{Codec, CompressionError, compress};
use super::record::{Header, NewRecord};

/// Collects records, then writes the header over them.
pub struct BatchBuilder {
    bytes: Vec<u8>,
    attributes: Attributes,
    producer: ProducerStamp,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    record_count: i32,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        BatchBuilder::in_buffer(Vec::new())
    }

    /// As [`BatchBuilder::new`], in a buffer whose contents are dropped and whose capacity is used.
    pub fn in_buffer(mut bytes: Vec<u8>) -> BatchBuilder {
        bytes.clear();
        bytes.resize(BATCH_HEADER_BYTES, 0);
        BatchBuilder {
            bytes,
            attributes: Attributes::default(),
            producer: ProducerStamp { id: ProducerId(-1), epoch: ProducerEpoch(-1), base_sequence: -1 },
            base_timestamp: -1,
            max_timestamp: -1,
            record_count: 0,
        }
    }

    /// The compression bits must stay clear: they are what `finish_compressed` sets.
    pub fn attributes(&mut self, attributes: Attributes) -> &mut BatchBuilder {
        self.attributes = attributes;
        self
    }

    pub fn producer(&mut self, producer: ProducerStamp) -> &mut BatchBuilder {
        self.producer = producer;
        self
    }

    /// Adds a record. `None` is Kafka's null, which differs from empty.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> &mut BatchBuilder {
        self.push_with_headers(timestamp, key, value, &[])
    }

    pub fn push_with_headers(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> &mut BatchBuilder {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp - self.base_timestamp;
        let offset_delta = self.record_count;
        NewRecord { timestamp_delta, offset_delta, key, value, headers }.encode(&mut self.bytes);
        self.record_count += 1;
        self
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Bytes that `finish` would return now.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The largest of the records so far; -1 before the first.
    pub fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }

    /// The finished batch. Panics if no record was pushed: an empty batch takes no offset and may not be appended.
    pub fn finish(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
        self.write_header(base_offset, leader_epoch);
        Bytes::from(self.bytes)
    }

    /// As [`BatchBuilder::finish`], with the records compressed; also gives the buffer of the plain ones back.
    /// Panics if no record was pushed. Errors: the codec failed.
    pub fn finish_compressed(
        mut self,
        codec: Codec,
        level: Option<i32>,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<(Bytes, Vec<u8>), CompressionError> {
        let mut packed = vec![0; BATCH_HEADER_BYTES];
        compress(codec, level, &self.bytes[BATCH_HEADER_BYTES..], &mut packed)?;
        let plain = std::mem::replace(&mut self.bytes, packed);
        self.attributes = self.attributes.with_compression(codec);
        self.write_header(base_offset, leader_epoch);
        Ok((Bytes::from(self.bytes), plain))
    }

    fn write_header(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        assert!(self.record_count > 0, "a batch has at least one record");
        let fields = HeaderFields {
            base_offset,
            leader_epoch,
            attributes: self.attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: self.record_count,
        };
        write_header(&mut self.bytes, &fields);
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::BatchView;
    use super::*;

    #[test]
    fn a_record_is_the_bytes_of_the_guide() {
        let mut builder = BatchBuilder::new();
        builder.push(5, Some(b"a"), None);
        builder.push_with_headers(4, None, Some(b"xy"), &[Header { key: b"h", value: None }]);
        let bytes = builder.finish(0, LeaderEpoch(0));
        let records = BatchView::parse(&bytes).unwrap().records();
        assert_eq!(
            records,
            // length 7: attributes, delta 0, offset 0, key 1 "a", value null, no headers
            [14, 0, 0, 0, 2, b'a', 1, 0, /* length 11 */ 22, 0, 1, 2, 1, 4, b'x', b'y', 2, 2, b'h', 1]
        );
        assert_eq!(BatchView::parse(&bytes).unwrap().max_timestamp(), 5, "the largest, not the last");
    }
}
