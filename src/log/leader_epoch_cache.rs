//! Where each leader epoch starts. Followers and consumers find from it where two histories part.
//!
//! ```text
//! 0                      version
//! <count>
//! <epoch> <start offset> one line each; epochs strictly grow, start offsets never fall
//! ```
//! A cache: rebuilt from the epochs in the batches. Source: Apache Kafka `LeaderEpochCheckpointFile`, `LeaderEpochFileCache`.

use std::fmt::Write;

use crate::model::{LeaderEpoch, Offset};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

/// The epochs of one log. Epochs strictly grow, start offsets never fall.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochCache {
    entries: Vec<EpochStart>,
}

impl LeaderEpochCache {
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// Whether a batch of a log cannot have this epoch if the cache is right: a later epoch at an earlier place, or an
    /// earlier epoch at a later place.
    pub fn contradicts(&self, epoch: LeaderEpoch, base_offset: Offset) -> bool {
        match self.entries.last() {
            Some(last) if epoch > last.epoch => base_offset < last.start_offset,
            Some(_) => epoch.0 >= 0 && self.epoch_of(base_offset).is_some_and(|stored| stored != epoch),
            None => false,
        }
    }

    /// Notes that a batch of `epoch` starts at `start_offset`. True if that began a new epoch.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch.0 < 0 || self.entries.last().is_some_and(|last| last.epoch >= epoch) {
            return false;
        }
        if let Some(last) = self.entries.last() {
            assert!(last.start_offset <= start_offset, "epoch {epoch:?} at {start_offset} after {last:?}");
        }
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The largest known epoch at or below `epoch` and where it ends (exclusive); `None` for an epoch unknown or older
    /// than the log. The latest epoch ends at `log_end`.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.entries.last()?;
        if epoch.0 < 0 || epoch > latest.epoch {
            return None;
        }
        let after = self.entries.partition_point(|e| e.epoch <= epoch);
        match after.checked_sub(1) {
            // Older than all that is left: its records are gone, and so is the way to tell how far it reached.
            // Kafka answers with the asked epoch and the first start it knows.
            None => Some((epoch, self.entries[0].start_offset)),
            Some(i) => Some((
                self.entries[i].epoch,
                self.entries.get(after).map_or(log_end, |next| next.start_offset),
            )),
        }
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let count = self.entries.partition_point(|e| e.start_offset <= offset);
        count.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// The log now ends at `end_offset`: forgets epochs that start there or later. True if something changed.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let count = self.entries.partition_point(|e| e.start_offset < end_offset);
        let changed = count < self.entries.len();
        self.entries.truncate(count);
        changed
    }

    /// The log now starts at `start_offset`: keeps one epoch for it and those after. True if something changed.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let covering = self.entries.partition_point(|e| e.start_offset <= start_offset);
        let Some(first) = covering.checked_sub(1) else { return false };
        let changed = first > 0 || self.entries[0].start_offset < start_offset;
        self.entries.drain(..first);
        self.entries[0].start_offset = self.entries[0].start_offset.max(start_offset);
        changed
    }

    pub fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            writeln!(text, "{} {}", entry.epoch.0, entry.start_offset)
                .expect("writing to a String cannot fail");
        }
        text
    }

    /// `None` if the text is not a checkpoint of version 0 or breaks an invariant.
    pub fn parse(text: &str) -> Option<LeaderEpochCache> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut entries: Vec<EpochStart> = Vec::new();
        for line in lines {
            let (epoch, start_offset) = line.split_once(' ')?;
            let entry = EpochStart {
                epoch: LeaderEpoch(epoch.parse().ok()?),
                start_offset: start_offset.parse().ok()?,
            };
            let follows = entries
                .last()
                .is_none_or(|last| last.epoch < entry.epoch && last.start_offset <= entry.start_offset);
            if !follows || entry.epoch.0 < 0 || entry.start_offset < 0 {
                return None;
            }
            entries.push(entry);
        }
        (entries.len() == count).then_some(LeaderEpochCache { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> LeaderEpochCache {
        let mut cache = LeaderEpochCache::default();
        for (epoch, start) in [(1, 10), (1, 15), (3, 20), (2, 25), (4, 30)] {
            cache.assign(LeaderEpoch(epoch), start);
        }
        cache
    }

    #[test]
    fn end_offsets_follow_kafka() {
        let check = |epoch, expected: Option<(i32, Offset)>| {
            let found = sample().end_offset_for(LeaderEpoch(epoch), 40).map(|(e, o)| (e.0, o));
            assert_eq!(found, expected, "epoch {epoch}");
        };
        check(-1, None);
        check(0, Some((0, 10)));
        check(1, Some((1, 20)));
        check(2, Some((1, 20)));
        check(3, Some((3, 30)));
        check(4, Some((4, 40)));
        check(5, None);
        assert_eq!(LeaderEpochCache::default().end_offset_for(LeaderEpoch(0), 40), None);
    }

    #[test]
    fn epochs_of_offsets() {
        let check = |offset, expected| assert_eq!(sample().epoch_of(offset), expected, "{offset}");
        check(9, None);
        check(10, Some(LeaderEpoch(1)));
        check(29, Some(LeaderEpoch(3)));
        check(99, Some(LeaderEpoch(4)));
    }

    #[test]
    fn truncation_follows_the_log() {
        let starts =
            |cache: &LeaderEpochCache| cache.entries().iter().map(|e| e.start_offset).collect::<Vec<_>>();
        let mut cache = sample();
        assert!(cache.truncate_from_end(30));
        assert_eq!(starts(&cache), [10, 20]);
        assert!(!cache.truncate_from_end(30));
        assert!(cache.truncate_from_start(25));
        assert_eq!(starts(&cache), [25]);
        assert!(!cache.truncate_from_start(25));
        assert!(!cache.truncate_from_start(5));
    }

    #[test]
    fn text_reads_back_and_nonsense_does_not() {
        assert_eq!(sample().encode(), "0\n3\n1 10\n3 20\n4 30\n");
        assert_eq!(LeaderEpochCache::parse(&sample().encode()), Some(sample()));
        let check = |text| assert_eq!(LeaderEpochCache::parse(text), None, "{text}");
        check("");
        check("1\n0\n");
        check("0\n2\n1 10\n");
        check("0\n2\n1 10\n1 20\n");
        check("0\n2\n1 10\n2 5\n");
        check("0\n1\n1 x\n");
    }
}
