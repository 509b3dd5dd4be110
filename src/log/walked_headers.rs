//! The headers of the batches that recovery has just walked over, so that producers and epochs are made from memory: reading
//! the segments again for them would copy every byte twice, and where the page cache is small read them from the disk twice.

use crate::model::Offset;
use crate::record::{BATCH_HEADER_BYTES, BatchView};

/// 61 MiB of headers, for each shard that recovers; a log with more batches is read again.
const HEADERS_MAX: usize = 1 << 20;

type Header = [u8; BATCH_HEADER_BYTES];

/// Headers of a log from some segment's first batch to its last batch, without a gap.
pub(super) struct WalkedHeaders {
    /// The base offset of the first segment; `None`: no segment is held as a whole.
    from: Option<Offset>,
    headers: Vec<Header>,
    headers_max: usize,
    is_over: bool,
}

impl Default for WalkedHeaders {
    fn default() -> WalkedHeaders {
        WalkedHeaders { from: None, headers: Vec::new(), headers_max: HEADERS_MAX, is_over: false }
    }
}

impl WalkedHeaders {
    /// The walk enters the next segment, at its first batch or further on: then that segment is not held as a whole, and
    /// those before it no longer touch what comes.
    pub fn begin_segment(&mut self, base_offset: Offset, is_at_start: bool) {
        if !is_at_start {
            self.clear();
        } else if self.from.is_none() && !self.is_over {
            self.from = Some(base_offset);
        } else {
            // Begun anew from its start: its indexes led nowhere.
            let count = self.headers.partition_point(|header| base_of(header) < base_offset);
            self.headers.truncate(count);
        }
    }

    /// The walk has passed this batch.
    pub fn push(&mut self, batch: &BatchView<'_>) {
        if self.from.is_none() {
            return;
        }
        if self.headers.len() == self.headers_max {
            self.is_over = true;
            self.clear();
            return;
        }
        let header = batch.bytes().first_chunk().expect("a batch has a header");
        self.headers.push(*header);
    }

    /// The batches of the segment from `base_offset` to `end_offset`; `None`: they have to be read.
    pub fn segment(
        &self,
        base_offset: Offset,
        end_offset: Offset,
    ) -> Option<impl Iterator<Item = BatchView<'_>>> {
        if self.from.is_none_or(|from| base_offset < from) {
            return None;
        }
        let first = self.headers.partition_point(|header| base_of(header) < base_offset);
        let end = self.headers.partition_point(|header| base_of(header) < end_offset);
        Some(self.headers[first..end].iter().map(view))
    }

    fn clear(&mut self) {
        self.from = None;
        self.headers = Vec::new();
    }
}

fn view(header: &Header) -> BatchView<'_> {
    BatchView::parse_header(header).expect("it was parsed when it was walked over")
}

fn base_of(header: &Header) -> Offset {
    view(header).base_offset()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::BatchBuilder;

    fn push(walked: &mut WalkedHeaders, base: Offset) {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(b"v"));
        builder.push(1, None, Some(b"v"));
        let batch = builder.finish(base, LeaderEpoch(0));
        walked.push(&BatchView::parse(&batch).unwrap());
    }

    /// Base offsets of what is held of the segment of four offsets from `base` on.
    fn held(walked: &WalkedHeaders, base: Offset) -> Option<Vec<Offset>> {
        walked.segment(base, base + 4).map(|batches| batches.map(|batch| batch.base_offset()).collect())
    }

    #[test]
    fn whole_segments_at_the_end_are_held() {
        let mut walked = WalkedHeaders::default();
        walked.begin_segment(0, true);
        [0, 2].into_iter().for_each(|base| push(&mut walked, base));
        // Its indexes are believed first, and then not.
        walked.begin_segment(4, false);
        push(&mut walked, 6);
        assert_eq!((held(&walked, 0), held(&walked, 4)), (None, None));
        walked.begin_segment(4, true);
        [4, 6].into_iter().for_each(|base| push(&mut walked, base));
        walked.begin_segment(8, true);
        [8, 10].into_iter().for_each(|base| push(&mut walked, base));
        assert_eq!(held(&walked, 0), None);
        assert_eq!((held(&walked, 4), held(&walked, 8)), (Some(vec![4, 6]), Some(vec![8, 10])));
        assert_eq!(held(&walked, 12), Some(vec![]));
    }

    #[test]
    fn a_log_with_too_many_batches_is_not_held() {
        let mut walked = WalkedHeaders { headers_max: 3, ..WalkedHeaders::default() };
        for segment in 0..2 {
            walked.begin_segment(segment * 4, true);
            [0, 2].into_iter().for_each(|base| push(&mut walked, segment * 4 + base));
        }
        assert_eq!((held(&walked, 0), held(&walked, 4)), (None, None));
        walked.begin_segment(8, true);
        push(&mut walked, 8);
        assert_eq!(held(&walked, 8), None);
    }
}
