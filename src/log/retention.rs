//! Which segments go, and when their files may be unlinked.
//!
//! A segment leaves the log in memory first. Its files are unlinked only after the log-start checkpoint that says so is
//! durable: an unlink that a crash undoes then brings back bytes that recovery knows to be deleted.

use crate::model::{Offset, Timestamp};

use super::Log;
use super::roll::Condemned;
use super::segment::{Segment, SegmentState};

impl Log {
    /// Deletes whole segments that are below the log start, too old by their largest timestamp, or beyond the size that
    /// the topic may have; none above `bound` (the high watermark). An expired active segment is rolled; a later call
    /// deletes it. Returns true if the log start moved: write its checkpoint, then call `log_start_is_durable`.
    pub fn enforce_retention(&mut self, now: Timestamp, bound: Offset) -> bool {
        let before = self.log_start;
        let mut size_bytes = self.size_bytes();
        loop {
            let segment = self.segments.front().expect("a log has an active segment");
            let is_breached = segment.end_offset <= self.log_start;
            let is_expired = self.is_expired(segment, now);
            // Whole segments count: what is left is never smaller than the topic may be.
            let is_excess =
                self.config.retention_bytes.is_some_and(|max| size_bytes - segment.size_bytes >= max);
            let is_deletable = is_breached || is_expired || is_excess;
            if !is_deletable || segment.end_offset > bound || segment.is_empty() {
                break;
            }
            match segment.state {
                SegmentState::Sealed => {
                    size_bytes -= segment.size_bytes;
                    self.condemn_first();
                }
                SegmentState::Active => {
                    self.is_roll_wanted = true;
                    break;
                }
                // Its files are still being finished by a job.
                SegmentState::Draining | SegmentState::Sealing => break,
            }
        }
        self.log_start != before
    }

    fn is_expired(&self, segment: &Segment, now: Timestamp) -> bool {
        let age = u64::try_from(now.saturating_sub(segment.newest())).unwrap_or(0);
        self.config.retention_ms.is_some_and(|max| age > max)
    }

    fn condemn_first(&mut self) {
        let segment = self.segments.pop_front().expect("a log has an active segment");
        assert!(segment.state == SegmentState::Sealed, "segment {} is not sealed", segment.base_offset);
        let Segment { base_offset, end_offset, file, loans, .. } = segment;
        self.condemned.push(Condemned { base_offset, end_offset, file, loans });
        self.advance_log_start(end_offset);
    }

    /// A checkpoint with this log start is durable: files below it may be unlinked by the next `drive`.
    pub fn log_start_is_durable(&mut self, log_start: Offset) {
        assert!(log_start <= self.log_start, "log start {log_start} was never {}", self.log_start);
        self.durable_log_start = self.durable_log_start.max(log_start);
        // What is deleted needs no flush. Not before the checkpoint is durable: until then a crash brings the records back,
        // and if they are torn they take all later ones with them.
        self.flushed = self.flushed.max(log_start);
        self.file_flushed = self.file_flushed.max(log_start.min(self.stored));
        self.advance_flushed();
        self.commit();
    }
}
