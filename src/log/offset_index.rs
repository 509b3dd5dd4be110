//! From an offset to a byte position near it, sparse: one entry after each `index.interval.bytes` of batches.
//!
//! ```text
//! entry  i32 offset minus base offset, i32 position          big-endian, 8 bytes
//! ```
//! The offset is the *last* one of the batch that starts at the position. A cache: rebuilt from the log when in doubt.
//! Source: Apache Kafka `OffsetIndex`.

use std::io;

use crate::model::{Offset, Position};
use crate::reactor::{File, Files};

pub const ENTRY_BYTES: usize = 8;

/// One batch the index points at. Relative to the segment's base offset, as on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    relative_offset: u32,
    position: u32,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

/// The index of one segment, in memory. Offsets and positions strictly grow from entry to entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetIndex {
    base_offset: Offset,
    entries: Vec<Entry>,
}

impl OffsetIndex {
    pub fn new(base_offset: Offset) -> OffsetIndex {
        OffsetIndex { base_offset, entries: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes that the batch ending with `last_offset` starts at `position`.
    pub fn push(&mut self, last_offset: Offset, position: Position) {
        let relative =
            u32::try_from(last_offset - self.base_offset).expect("a segment rolls before 2^31 offsets");
        let entry =
            Entry { relative_offset: relative, position: u32::try_from(position).expect("below 2 GiB") };
        if let Some(last) = self.entries.last() {
            assert!(
                last.relative_offset < entry.relative_offset && last.position < entry.position,
                "index entry {entry:?} does not follow {last:?}"
            );
        }
        self.entries.push(entry);
    }

    /// A position at or before the batch that contains `offset`: the last entry at or below it, else the file's start.
    pub fn position_before(&self, offset: Offset) -> Position {
        let count =
            self.entries.partition_point(|e| self.base_offset + i64::from(e.relative_offset) <= offset);
        count.checked_sub(1).map_or(0, |i| Position::from(self.entries[i].position))
    }

    /// The last offset of the last indexed batch that starts at or before `position`; the base offset if there is none.
    pub fn offset_at(&self, position: Position) -> Offset {
        let count = self.entries.partition_point(|e| Position::from(e.position) <= position);
        count
            .checked_sub(1)
            .map_or(self.base_offset, |i| self.base_offset + i64::from(self.entries[i].relative_offset))
    }

    /// The last entry: (last offset of the batch, its position).
    pub fn last(&self) -> Option<(Offset, Position)> {
        self.entries
            .last()
            .map(|e| (self.base_offset + i64::from(e.relative_offset), Position::from(e.position)))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
        }
        bytes
    }

    /// The longest sound beginning of an index file. `sound` tells whether that was all of it.
    /// A preallocated tail of zeroes, a torn entry and entries past the log's end are not sound.
    pub fn decode(base_offset: Offset, bytes: &[u8], log_bytes: u64) -> (OffsetIndex, bool) {
        let mut entries: Vec<Entry> = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
        for chunk in bytes.chunks(ENTRY_BYTES) {
            let Some(entry) = decode_entry(chunk) else {
                return (OffsetIndex { base_offset, entries }, false);
            };
            let follows = match entries.last() {
                None => entry.position > 0,
                Some(last) => entry.relative_offset > last.relative_offset && entry.position > last.position,
            };
            if !follows || u64::from(entry.position) >= log_bytes || entry.relative_offset > i32::MAX as u32 {
                return (OffsetIndex { base_offset, entries }, false);
            }
            entries.push(entry);
        }
        (OffsetIndex { base_offset, entries }, true)
    }
}

fn decode_entry(chunk: &[u8]) -> Option<Entry> {
    let [o0, o1, o2, o3, p0, p1, p2, p3] = *chunk else { return None };
    Some(Entry {
        relative_offset: u32::from_be_bytes([o0, o1, o2, o3]),
        position: u32::from_be_bytes([p0, p1, p2, p3]),
    })
}

/// [`OffsetIndex::position_before`] on a file: a binary search of about 18 small reads instead of loading megabytes.
/// A damaged file gives a wrong position or none; the caller checks the batch it finds there.
pub fn position_before_in_file(
    files: &mut dyn Files,
    file: File,
    base_offset: Offset,
    offset: Offset,
) -> io::Result<Position> {
    let (mut low, mut high) = (0, files.size(file)? / ENTRY_BYTES as u64);
    let mut position = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; ENTRY_BYTES];
        files.read_at(file, middle * ENTRY_BYTES as u64, &mut bytes)?;
        let entry = decode_entry(&bytes).expect("the array has an entry's size");
        if base_offset + i64::from(entry.relative_offset) <= offset {
            position = Position::from(entry.position);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> OffsetIndex {
        let mut index = OffsetIndex::new(100);
        index.push(109, 500);
        index.push(119, 9_000);
        index.push(120, 9_100);
        index
    }

    #[test]
    fn lookups_find_the_entry_at_or_below() {
        let check = |offset, expected| assert_eq!(sample().position_before(offset), expected, "{offset}");
        check(100, 0);
        check(108, 0);
        check(109, 500);
        check(118, 500);
        check(119, 9_000);
        check(1_000, 9_100);
    }

    #[test]
    fn bytes_read_back() {
        let bytes = sample().encode();
        assert_eq!(bytes[..8], [0, 0, 0, 9, 0, 0, 1, 244]);
        assert_eq!(OffsetIndex::decode(100, &bytes, 10_000), (sample(), true));
    }

    #[test]
    fn unsound_tails_are_left_out() {
        let check = |change: fn(&mut Vec<u8>), log_bytes, count| {
            let mut bytes = sample().encode();
            change(&mut bytes);
            let (index, sound) = OffsetIndex::decode(100, &bytes, log_bytes);
            assert_eq!((index.len(), sound), (count, false));
        };
        check(|b| b.extend([0; 16]), 10_000, 3);
        check(|b| b.truncate(20), 10_000, 2);
        check(|b| b[8..16].fill(0), 10_000, 1);
        check(|b| b.fill(0), 10_000, 0);
        check(|_| (), 9_100, 2);
    }
}
