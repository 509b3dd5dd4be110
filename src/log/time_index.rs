//! From a timestamp to an offset, sparse: the largest timestamp so far, noted beside each entry of the offset index.
//!
//! ```text
//! entry  i64 timestamp in ms, i32 offset minus base offset   big-endian, 12 bytes
//! ```
//! The offset is the *last* one of the batch that holds the largest timestamp seen so far; timestamps strictly grow. One
//! entry more closes the index at a roll or a clean stop. A cache: rebuilt from the log. Source: Apache Kafka `TimeIndex`.

use crate::model::{Offset, Timestamp};

pub const ENTRY_BYTES: usize = 12;

/// A timestamp and the last offset of the batch that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampAt {
    pub timestamp: Timestamp,
    pub last_offset: Offset,
}

/// The index of one segment, in memory. Timestamps strictly grow, offsets never fall.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeIndex {
    base_offset: Offset,
    entries: Vec<TimestampAt>,
}

impl TimeIndex {
    pub fn new(base_offset: Offset) -> TimeIndex {
        TimeIndex { base_offset, entries: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes the largest timestamp so far, unless it is noted already.
    pub fn push(&mut self, largest: TimestampAt) {
        if let Some(last) = self.entries.last() {
            if largest.timestamp <= last.timestamp {
                return;
            }
            assert!(last.last_offset <= largest.last_offset, "time index entry {largest:?} after {last:?}");
        }
        if largest.timestamp >= 0 {
            self.entries.push(largest);
        }
    }

    pub fn last(&self) -> Option<TimestampAt> {
        self.entries.last().copied()
    }

    /// Every record below the returned offset is older than `timestamp`; the base offset if nothing is known.
    pub fn offset_before(&self, timestamp: Timestamp) -> Offset {
        let count = self.entries.partition_point(|e| e.timestamp < timestamp);
        // The entry says that up to its batch nothing is later than its timestamp, so the search may start behind it.
        count.checked_sub(1).map_or(self.base_offset, |i| self.entries[i].last_offset)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            let relative = u32::try_from(entry.last_offset - self.base_offset)
                .expect("a segment rolls before 2^31 offsets");
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&relative.to_be_bytes());
        }
        bytes
    }

    /// The longest sound beginning of an index file. `sound` tells whether that was all of it.
    pub fn decode(base_offset: Offset, bytes: &[u8]) -> (TimeIndex, bool) {
        let mut entries: Vec<TimestampAt> = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
        for chunk in bytes.chunks(ENTRY_BYTES) {
            let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *chunk else {
                return (TimeIndex { base_offset, entries }, false);
            };
            let timestamp = i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
            let relative = i32::from_be_bytes([o0, o1, o2, o3]);
            let entry = TimestampAt { timestamp, last_offset: base_offset + i64::from(relative) };
            let follows = match entries.last() {
                // Zeros are what a power loss leaves of a file that had grown; they would say that the segment is as old as 1970.
                None => timestamp > 0 || timestamp == 0 && relative > 0,
                Some(last) => timestamp > last.timestamp && entry.last_offset >= last.last_offset,
            };
            if !follows || relative < 0 {
                return (TimeIndex { base_offset, entries }, false);
            }
            entries.push(entry);
        }
        (TimeIndex { base_offset, entries }, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> TimeIndex {
        let mut index = TimeIndex::new(100);
        for (timestamp, last_offset) in [(-1, 101), (1_000, 109), (1_000, 119), (900, 120), (2_000, 130)] {
            index.push(TimestampAt { timestamp, last_offset });
        }
        index
    }

    #[test]
    fn only_growing_timestamps_are_noted() {
        assert_eq!(sample().len(), 2);
        assert_eq!(sample().last(), Some(TimestampAt { timestamp: 2_000, last_offset: 130 }));
    }

    #[test]
    fn a_search_may_start_where_all_before_is_older() {
        let check =
            |timestamp, expected| assert_eq!(sample().offset_before(timestamp), expected, "{timestamp}");
        check(0, 100);
        check(1_000, 100);
        check(1_001, 109);
        check(2_000, 109);
        check(2_001, 130);
    }

    #[test]
    fn bytes_read_back() {
        let bytes = sample().encode();
        assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 9]);
        assert_eq!(TimeIndex::decode(100, &bytes), (sample(), true));
    }

    #[test]
    fn unsound_tails_are_left_out() {
        let check = |change: fn(&mut Vec<u8>), count| {
            let mut bytes = sample().encode();
            change(&mut bytes);
            let (index, sound) = TimeIndex::decode(100, &bytes);
            assert_eq!((index.len(), sound), (count, false));
        };
        check(|b| b.extend([0; 12]), 2);
        check(|b| b.truncate(23), 1);
        check(|b| b[0] = 0x80, 0);
        check(|b| b.fill(0), 0);
        check(|b| b[..12].fill(0), 0);
    }
}
