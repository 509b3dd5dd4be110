//! Checks bytes that nobody may ever read again: a segment's batches, streamed through in pieces.
//!
//! [`SegmentCheck`] takes the bytes of one segment in order, cut anywhere, and says what is wrong with them: it holds one
//! header and a running checksum, so a batch of any size costs no memory. `partition/scrubbing` feeds it sealed segments
//! at its own pace, `corelog log verify` whole directories. What is found is told and never repaired: these bytes were
//! right once, and only another copy of them can say what they were.

use std::path::PathBuf;

use crate::model::{Offset, Position};
use crate::record::{BATCH_HEADER_BYTES, BatchView, InvalidBatch, crc32c, crc32c_append};

use super::error::Damage;
use super::layout::FileSuffix;
use super::segment::SegmentState;
use super::{Log, layout};

/// The part of a header that its batch's checksum covers starts here. Layout: `record/batch`.
const CHECKSUM_FROM: usize = 21;

/// What a check comes across.
pub enum Checked<'a> {
    /// A sound batch, by its header, and where it starts.
    Batch(BatchView<'a>, Position),
    /// What starts at `position` is not the batch with `offset` that must be there.
    Damaged { position: Position, offset: Offset, damage: Damage },
}

/// One segment under check.
pub struct SegmentCheck {
    size_bytes: u64,
    /// Where the batch under way starts.
    position: Position,
    next_offset: Offset,
    /// Where the batch behind a wrong offset may go on instead: if the field was wrong and not the place, nothing is missing.
    other_offset: Option<Offset>,
    header: [u8; BATCH_HEADER_BYTES],
    header_bytes: usize,
    body_bytes_left: usize,
    crc: u32,
    is_lost: bool,
}

impl SegmentCheck {
    /// A check of `size_bytes` bytes whose first batch has `base_offset`.
    pub fn new(base_offset: Offset, size_bytes: u64) -> SegmentCheck {
        SegmentCheck {
            size_bytes,
            position: 0,
            next_offset: base_offset,
            other_offset: None,
            header: [0; BATCH_HEADER_BYTES],
            header_bytes: 0,
            body_bytes_left: 0,
            crc: 0,
            is_lost: false,
        }
    }

    /// The offset that follows on what was taken so far (exclusive end).
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Where the next batch starts, or the one under way.
    pub fn position(&self) -> Position {
        self.position
    }

    /// A header made no sense: where the next batch starts is not known, and nothing more is looked at.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Takes the bytes that follow on those before. After damage it goes on with the next batch while it can tell where
    /// that starts.
    pub fn take(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Checked<'_>)) {
        while !bytes.is_empty() && !self.is_lost {
            if self.header_bytes < BATCH_HEADER_BYTES {
                let count = bytes.len().min(BATCH_HEADER_BYTES - self.header_bytes);
                self.header[self.header_bytes..][..count].copy_from_slice(&bytes[..count]);
                self.header_bytes += count;
                bytes = &bytes[count..];
                if self.header_bytes < BATCH_HEADER_BYTES || !self.begin_batch(tell) {
                    continue;
                }
            }
            let count = bytes.len().min(self.body_bytes_left);
            self.crc = crc32c_append(self.crc, &bytes[..count]);
            self.body_bytes_left -= count;
            bytes = &bytes[count..];
            if self.body_bytes_left == 0 {
                self.end_batch(tell);
            }
        }
    }

    /// All bytes that there are have been taken: a batch under way is cut short.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Checked<'_>)) {
        if self.header_bytes > 0 && !self.is_lost {
            let (needed_bytes, given_bytes) = if self.header_bytes < BATCH_HEADER_BYTES {
                (BATCH_HEADER_BYTES, self.header_bytes)
            } else {
                let size = self.batch().size_bytes();
                (size, size - self.body_bytes_left)
            };
            self.lose(InvalidBatch::Truncated { needed_bytes, given_bytes }, tell);
        }
    }

    fn batch(&self) -> BatchView<'_> {
        BatchView::parse_header(&self.header).expect("parsed when it was complete")
    }

    fn lose(&mut self, invalid: InvalidBatch, tell: &mut dyn FnMut(Checked<'_>)) {
        self.is_lost = true;
        let damage = Damage::Batch(invalid);
        tell(Checked::Damaged { position: self.position, offset: self.next_offset, damage });
    }

    /// The header is complete. False: it makes no sense.
    fn begin_batch(&mut self, tell: &mut dyn FnMut(Checked<'_>)) -> bool {
        let size = match BatchView::parse_header(&self.header) {
            Ok(batch) => batch.size_bytes(),
            Err(invalid) => {
                self.lose(invalid, tell);
                return false;
            }
        };
        let left = self.size_bytes.saturating_sub(self.position);
        if size as u64 > left {
            let given_bytes = usize::try_from(left).unwrap_or(usize::MAX);
            self.lose(InvalidBatch::Truncated { needed_bytes: size, given_bytes }, tell);
            return false;
        }
        self.body_bytes_left = size - BATCH_HEADER_BYTES;
        self.crc = crc32c(&self.header[CHECKSUM_FROM..]);
        true
    }

    fn end_batch(&mut self, tell: &mut dyn FnMut(Checked<'_>)) {
        let header = self.header;
        let batch = BatchView::parse_header(&header).expect("parsed when it was complete");
        let (position, size, found) = (self.position, batch.size_bytes() as u64, batch.base_offset());
        let count = i64::from(batch.last_offset_delta()) + 1;
        let (stored, computed) = (batch.crc(), self.crc);
        let expected = match self.other_offset.take() {
            Some(other) if other == found => other,
            _ => self.next_offset,
        };
        if stored != computed {
            let damage = Damage::Batch(InvalidBatch::Crc { stored, computed });
            tell(Checked::Damaged { position, offset: expected, damage });
        } else if found != expected {
            let damage = Damage::Offset { expected, found };
            tell(Checked::Damaged { position, offset: expected, damage });
        } else {
            tell(Checked::Batch(batch, position));
        }
        // A header that parses has an end that is representable; the expected place may be near the largest offset.
        self.next_offset = expected.saturating_add(count);
        self.other_offset = (found != expected).then_some(found.saturating_add(count));
        self.position = position + size;
        self.header_bytes = 0;
    }
}

/// A segment that never changes again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub size_bytes: u64,
    pub path: PathBuf,
}

impl Log {
    /// The first sealed segment that starts at `offset` or later. It may be deleted at any time: whoever reads it opens it
    /// for himself, and what he reads is not known any more to be in memory as it was written (`Segment::known`).
    pub fn sealed_segment_from(&mut self, offset: Offset) -> Option<SealedSegment> {
        let first = self.segments.partition_point(|segment| segment.base_offset < offset);
        let segment = self.segments.get_mut(first).filter(|s| s.state == SegmentState::Sealed)?;
        segment.forget_known(0);
        Some(SealedSegment {
            base_offset: segment.base_offset,
            end_offset: segment.end_offset,
            size_bytes: segment.size_bytes,
            path: layout::offset_file(&self.directory, segment.base_offset, FileSuffix::Log),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::BatchBuilder;

    fn batch(base: Offset, values: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for value in 0..values {
            builder.push(7, Some(b"key"), Some(format!("value {value}").as_bytes()));
        }
        builder.finish(base, LeaderEpoch(1)).to_vec()
    }

    /// Batches from offset 100 on: 2, 3 and 1 records.
    fn sample() -> Vec<u8> {
        [batch(100, 2), batch(102, 3), batch(105, 1)].concat()
    }

    /// What is found in `bytes`, handed over in pieces: sound batches as `base@position`, damage as `!position`.
    fn check(bytes: &[u8], piece: usize) -> (Vec<String>, Offset) {
        let mut check = SegmentCheck::new(100, bytes.len() as u64);
        let mut found = Vec::new();
        let mut tell = |checked: Checked<'_>| match checked {
            Checked::Batch(batch, position) => found.push(format!("{}@{position}", batch.base_offset())),
            Checked::Damaged { position, .. } => found.push(format!("!{position}")),
        };
        bytes.chunks(piece).for_each(|piece| check.take(piece, &mut tell));
        check.finish(&mut tell);
        (found, check.next_offset())
    }

    #[test]
    fn sound_segments_pass_however_they_are_cut() {
        let (second, third) = (batch(0, 2).len(), batch(0, 2).len() + batch(0, 3).len());
        let expected = vec!["100@0".to_owned(), format!("102@{second}"), format!("105@{third}")];
        for piece in [1, 7, 60, 61, 62, 100, 4096] {
            assert_eq!(check(&sample(), piece), (expected.clone(), 106), "pieces of {piece}");
        }
        assert_eq!(check(&[], 1), (vec![], 100));
    }

    #[test]
    fn every_changed_bit_is_found() {
        // All but the leader epoch (12..16), which no checksum covers and no neighbour contradicts.
        for at in (0..sample().len()).filter(|at| !(12..16).contains(at)) {
            let mut bytes = sample();
            let size = batch(0, 2).len();
            let in_epoch = |start: usize| (start + 12..start + 16).contains(&at);
            if in_epoch(size) || in_epoch(size + batch(0, 3).len()) {
                continue;
            }
            bytes[at] ^= 0x10;
            let (found, _) = check(&bytes, 64);
            assert!(found.iter().any(|found| found.starts_with('!')), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn the_check_goes_on_behind_damage() {
        let second = batch(0, 2).len();
        let third = second + batch(0, 3).len();
        let changed = |at: usize| {
            let mut bytes = sample();
            bytes[at] ^= 1;
            check(&bytes, 50)
        };
        let (first_good, last_good) = ("100@0".to_owned(), format!("105@{third}"));
        let middle_damaged = vec![first_good.clone(), format!("!{second}"), last_good];
        assert_eq!(changed(third - 1), (middle_damaged.clone(), 106), "a record's byte");
        assert_eq!(
            changed(second + 7),
            (middle_damaged, 106),
            "a base offset: the next batch fits all the same"
        );
        assert_eq!(changed(second + 16).0, [first_good, format!("!{second}")], "no batch header: lost");
        let missing = [batch(100, 2), batch(105, 1), batch(106, 1)].concat();
        let after = third - second + batch(0, 1).len() - batch(0, 3).len();
        let expected = ["100@0".to_owned(), format!("!{second}"), format!("106@{}", second + after)];
        assert_eq!(check(&missing, 50).0, expected, "a missing batch is told once");
    }

    #[test]
    fn ends_inside_a_batch_are_found() {
        let (bytes, second) = (sample(), batch(0, 2).len());
        for cut in [1, 60, 61, 70] {
            let (found, next) = check(&bytes[..second + cut], 33);
            assert_eq!((found, next), (vec!["100@0".to_owned(), format!("!{second}")], 102), "cut at {cut}");
        }
        // The file turned out shorter than it was said to be.
        let mut short = SegmentCheck::new(100, bytes.len() as u64);
        short.take(&bytes[..second + 70], &mut |_| ());
        let mut damage = None;
        short.finish(&mut |checked| {
            if let Checked::Damaged { position, offset: 102, damage: what } = checked {
                damage = Some((position, what));
            }
        });
        let needed_bytes = batch(0, 3).len();
        let cut = Damage::Batch(InvalidBatch::Truncated { needed_bytes, given_bytes: 70 });
        assert_eq!(damage, Some((second as u64, cut)));
    }
}
