//! What the null responder remembers of a partition: its end, and the newest batches where they are wanted.

use std::collections::VecDeque;

use bytes::Bytes;
use corelog::record::{BatchView, set_base_offset};

const KEEP_BYTES: usize = 2 << 20;

#[derive(Default)]
pub struct Partition {
    pub next_offset: i64,
    kept: VecDeque<(i64, Bytes)>,
    kept_bytes: usize,
}

impl Partition {
    pub fn log_start(&self) -> i64 {
        self.kept.front().map_or(self.next_offset, |(offset, _)| *offset)
    }

    pub fn append(&mut self, records: &[u8], keeps: bool) -> i64 {
        let base = self.next_offset;
        let count = BatchView::parse_header(records).map_or(1, |batch| i64::from(batch.record_count()));
        self.next_offset += count;
        if keeps {
            let mut batch = records.to_vec();
            set_base_offset(&mut batch, base);
            self.kept_bytes += batch.len();
            self.kept.push_back((base, batch.into()));
            while self.kept_bytes > KEEP_BYTES && self.kept.len() > 1 {
                let (_, dropped) = self.kept.pop_front().expect("more than one");
                self.kept_bytes -= dropped.len();
            }
        }
        base
    }

    /// Whole batches from an offset on; None: the offset is not there.
    pub fn read(&self, offset: i64, bytes_most: usize) -> Option<Vec<Bytes>> {
        if offset < self.log_start() || offset > self.next_offset {
            return None;
        }
        let first = self.kept.partition_point(|(base, _)| *base <= offset).saturating_sub(1);
        let mut bytes = 0;
        let mut found = Vec::new();
        for (base, batch) in self.kept.iter().skip(first).filter(|_| offset < self.next_offset) {
            let is_room = found.is_empty() || bytes + batch.len() <= bytes_most;
            if !is_room || *base >= self.next_offset {
                break;
            }
            bytes += batch.len();
            found.push(batch.clone());
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use corelog::model::LeaderEpoch;
    use corelog::record::BatchBuilder;

    use super::*;

    #[test]
    fn a_partition_remembers_the_newest_batches_at_their_offsets() {
        let mut batch = BatchBuilder::new();
        batch.push(0, None, Some(&vec![0; 900_000])).push(0, None, Some(b"x"));
        let batch = batch.finish(0, LeaderEpoch(-1));
        let mut partition = Partition::default();
        for n in 0..4 {
            assert_eq!(partition.append(&batch, true), n * 2);
        }
        assert_eq!((partition.log_start(), partition.next_offset), (4, 8));
        assert!(partition.read(3, 1 << 20).is_none());
        assert!(partition.read(9, 1 << 20).is_none());
        assert_eq!(partition.read(8, 1 << 20).unwrap().len(), 0);
        let read = |offset, bytes| {
            let found = partition.read(offset, bytes).unwrap();
            found.iter().map(|batch| BatchView::parse(batch).unwrap().base_offset()).collect::<Vec<_>>()
        };
        assert_eq!(read(4, 10), [4], "one whole batch, at least");
        assert_eq!(read(5, 2 << 20), [4, 6]);
        assert_eq!(read(6, 2 << 20), [6]);
    }
}
