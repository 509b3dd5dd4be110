//! Both indexes of a segment, entry by entry against the batches that the walk passes. Of each file the first entry that
//! does not hold is told.
//!
//! A running Kafka keeps its indexes longer than they are, with zeros behind the last entry; those end the file here too.

use crate::model::{Offset, Timestamp};
use crate::record::BatchView;

use super::report::Fault;

/// A fault, and the byte of the index file at which its entry starts.
type At = Option<(u64, Fault)>;

/// An offset index. Layout: `log/offset_index`.
pub(super) struct OffsetEntries {
    base_offset: Offset,
    bytes: Vec<u8>,
    /// Where the next entry starts.
    next: usize,
    fault: At,
}

impl OffsetEntries {
    const ENTRY_BYTES: usize = 8;

    pub fn new(base_offset: Offset, bytes: Vec<u8>) -> OffsetEntries {
        OffsetEntries { base_offset, bytes, next: 0, fault: None }
    }

    /// The next entry: an offset and a position.
    fn entry(&self) -> Option<(Offset, u64)> {
        let bytes = self.bytes.get(self.next..self.next + Self::ENTRY_BYTES)?;
        let (relative, position) = bytes.split_at(4);
        let number =
            |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("half an entry is four bytes"));
        let position = u64::from(number(position));
        // The batch at position 0 never has an entry: nothing lies before it.
        (position > 0).then_some((self.base_offset + i64::from(number(relative)), position))
    }

    /// The walk is at this batch.
    pub fn pass(&mut self, batch: &BatchView<'_>, at: u64) {
        while self.fault.is_none()
            && let Some((offset, position)) = self.entry()
            && position <= at
        {
            let found = (position == at).then_some(batch.last_offset());
            if found != Some(offset) {
                self.fault = Some((self.next as u64, Fault::IndexEntry { offset, position, found }));
            }
            self.next += Self::ENTRY_BYTES;
        }
    }

    /// The walk is over.
    pub fn finish(self) -> At {
        let behind_the_end = self.entry().map(|(offset, position)| {
            (self.next as u64, Fault::IndexEntry { offset, position, found: None })
        });
        self.fault.or(behind_the_end).or_else(|| part_of_entry(&self.bytes, Self::ENTRY_BYTES))
    }
}

/// A time index. Layout: `log/time_index`.
pub(super) struct TimeEntries {
    base_offset: Offset,
    bytes: Vec<u8>,
    next: usize,
    last: Option<Timestamp>,
    fault: At,
}

impl TimeEntries {
    const ENTRY_BYTES: usize = 12;

    pub fn new(base_offset: Offset, bytes: Vec<u8>) -> TimeEntries {
        TimeEntries { base_offset, bytes, next: 0, last: None, fault: None }
    }

    fn entry(&self) -> Option<(Timestamp, Offset)> {
        let bytes = self.bytes.get(self.next..self.next + Self::ENTRY_BYTES)?;
        let (timestamp, relative) = bytes.split_at(8);
        let timestamp = i64::from_be_bytes(timestamp.try_into().expect("an entry starts with eight bytes"));
        let relative = u32::from_be_bytes(relative.try_into().expect("an entry ends with four bytes"));
        let is_padding = timestamp == 0 && relative == 0 && self.next > 0;
        (!is_padding).then_some((timestamp, self.base_offset + i64::from(relative)))
    }

    /// The walk is at this batch; `largest` is the largest timestamp up to its end.
    pub fn pass(&mut self, batch: &BatchView<'_>, largest: Timestamp) {
        while self.fault.is_none()
            && let Some((timestamp, offset)) = self.entry()
            && offset <= batch.last_offset()
        {
            let found = (offset == batch.last_offset()).then_some(batch.max_timestamp());
            if found != Some(timestamp) || timestamp != largest {
                self.fault = Some((self.next as u64, Fault::TimeEntry { timestamp, offset, found }));
            }
            self.last = Some(timestamp);
            self.next += Self::ENTRY_BYTES;
        }
    }

    /// The walk is over. A closed index ends with the largest timestamp, by which retention and searches go; records
    /// without timestamps leave none.
    pub fn finish(self, largest: Option<Timestamp>) -> At {
        let behind_the_end = self.entry().map(|(timestamp, offset)| {
            (self.next as u64, Fault::TimeEntry { timestamp, offset, found: None })
        });
        let is_closed = largest.is_none_or(|largest| largest < 0 || self.last == Some(largest));
        let end = largest
            .filter(|_| !is_closed)
            .map(|expected| (self.bytes.len() as u64, Fault::TimeEnd { expected, found: self.last }));
        self.fault.or(behind_the_end).or_else(|| part_of_entry(&self.bytes, Self::ENTRY_BYTES)).or(end)
    }
}

fn part_of_entry(bytes: &[u8], entry_bytes: usize) -> At {
    let rest = bytes.len() % entry_bytes;
    (rest > 0).then(|| ((bytes.len() - rest) as u64, Fault::PartOfEntry { bytes: rest as u64 }))
}
