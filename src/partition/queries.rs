//! What clients ask about a partition without reading its records: offsets by time, ends of epochs.

use super::fetching::{FetchBound, read_error};
use super::replica::{Replica, UNPACKED_BYTES_MAX};
use crate::log::{LeaderEpochCache, RecordAt, SearchError, TimestampPlan, TimestampSearch};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::protocol::ErrorCode;
use crate::reactor::Files;
use crate::record::DecompressBounds;

/// A batch that unpacks to more is taken for an attack on memory.
const UNPACKING_BOUNDS: DecompressBounds =
    DecompressBounds { output_bytes_max: UNPACKED_BYTES_MAX, ratio_max: 4096 };

/// An offset of a log and the epoch that it was written in, or will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochOffset {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// A search through a log by time, to be run where it may block.
pub struct OffsetSearch(TimestampSearch);

impl Replica {
    /// The exclusive end of what may be read.
    pub fn bound(&self, bound: FetchBound) -> Offset {
        match bound {
            FetchBound::HighWatermark => self.high_watermark(),
            FetchBound::LastStable => self.last_stable_offset(),
        }
    }

    /// The first offset that can be read.
    pub fn earliest(&self) -> EpochOffset {
        let offset = self.log.log_start_offset();
        // An empty log starts with what this leader will write.
        let written_in = self.log.leader_epochs().epoch_of(offset);
        let is_empty = offset == self.log.log_end_offset();
        let leader_epoch = written_in.filter(|_| !is_empty).unwrap_or(self.leader_epoch);
        EpochOffset { offset, leader_epoch }
    }

    /// The offset after the last one that can be read.
    pub fn latest(&self, bound: FetchBound) -> EpochOffset {
        EpochOffset { offset: self.bound(bound), leader_epoch: self.leader_epoch }
    }

    /// A search for the first record at or after `timestamp`; `None`: there is none.
    pub fn search_timestamp(&mut self, timestamp: Timestamp, bound: FetchBound) -> Option<OffsetSearch> {
        let bound = self.bound(bound);
        OffsetSearch::of(self.log.plan_timestamp(timestamp, bound))
    }

    /// A search for the first record with the largest timestamp; `None`: there is none.
    pub fn search_max_timestamp(&mut self, bound: FetchBound) -> Option<OffsetSearch> {
        let bound = self.bound(bound);
        OffsetSearch::of(self.log.plan_max_timestamp(bound))
    }

    /// Where records of `epoch` end, under the largest known epoch at or below it; `None`: not known (yet).
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochOffset> {
        end_of_epoch(self.log.leader_epochs(), self.leader_epoch, self.log.log_end_offset(), epoch)
    }
}

/// The log learns of an epoch with its first batch; the leader's own counts from the moment it leads.
fn end_of_epoch(
    written: &LeaderEpochCache,
    leading: LeaderEpoch,
    log_end: Offset,
    epoch: LeaderEpoch,
) -> Option<EpochOffset> {
    if epoch.0 < 0 || epoch > leading {
        return None;
    }
    let (leader_epoch, offset) = match written.latest().map(|latest| latest.epoch) {
        Some(latest) if epoch <= latest => written.end_offset_for(epoch, log_end)?,
        Some(latest) if epoch < leading => (latest, log_end),
        Some(_) | None => (epoch, log_end),
    };
    Some(EpochOffset { offset, leader_epoch })
}

impl OffsetSearch {
    fn of(plan: TimestampPlan) -> Option<OffsetSearch> {
        match plan {
            TimestampPlan::None => None,
            TimestampPlan::Search(search) => Some(OffsetSearch(search)),
        }
    }

    /// Blocking: in a job.
    pub fn run(self, files: &mut dyn Files) -> Result<Option<RecordAt>, ErrorCode> {
        self.0.run(files, UNPACKING_BOUNDS).map_err(|error| match error {
            SearchError::Read(error) => read_error(&error),
            SearchError::Unpack { .. } | SearchError::Records { .. } => ErrorCode::CorruptMessage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_as_in_a_log_that_knows_its_leader() {
        let check = |written: &[(i32, Offset)], leading: i32, epoch: i32, expected: Option<(i32, Offset)>| {
            let mut cache = LeaderEpochCache::default();
            written.iter().for_each(|(epoch, start)| _ = cache.assign(LeaderEpoch(*epoch), *start));
            let found = end_of_epoch(&cache, LeaderEpoch(leading), 40, LeaderEpoch(epoch));
            let found = found.map(|found| (found.leader_epoch.0, found.offset));
            assert_eq!(found, expected, "epoch {epoch} of {written:?} under leader epoch {leading}");
        };
        let written = [(1, 10), (3, 20)];
        check(&written, 3, 3, Some((3, 40)));
        check(&written, 3, 2, Some((1, 20)));
        check(&written, 3, 4, None);
        check(&written, 3, -1, None);
        // Nothing is written in the leader's epoch yet.
        check(&written, 5, 5, Some((5, 40)));
        check(&written, 5, 4, Some((3, 40)));
        check(&written, 5, 3, Some((3, 40)));
        check(&[], 0, 0, Some((0, 40)));
        check(&[], 2, 1, Some((1, 40)));
        check(&[], 0, 1, None);
    }
}
