//! Takes back the end of a log: a follower drops what its new leader never had.

use crate::model::{Offset, Timestamp};
use crate::reactor::Files;
use crate::record::InvalidBatch;

use super::error::{Context, Damage, Damaged, RecoveryError};
use super::layout::{self, FileSuffix};
use super::recovery::RecoveryInput;
use super::segment::{Depth, Found, Walk};
use super::{Log, RecoveryReport};

impl Log {
    /// The log without the batches that reach `offset` or beyond; one that contains it goes whole. Blocking: in a job, with
    /// nothing in flight. The slot has to be attached again.
    /// Order: first make a recovery-point checkpoint at or below `offset` durable. A crash in between would else find a log
    /// that is shorter than what was flushed, and call it damaged.
    pub fn truncate_to(
        mut self,
        files: &mut dyn Files,
        offset: Offset,
        now: Timestamp,
    ) -> Result<(Log, RecoveryReport), RecoveryError> {
        assert!(self.is_quiet(), "{} is truncated with operations in flight", self.partition);
        self.finish_direct(files)?;
        assert!(self.stored == self.log_end, "{} is truncated with unwritten bytes", self.partition);
        let offset = offset.max(self.log_start);
        if offset >= self.log_end {
            return Ok((self, RecoveryReport::default()));
        }
        let result = self.cut_files(files, offset);
        self.take_files().for_each(|file| files.close(file));
        let end_offset = result?;
        let log_start = self.log_start;
        let recovery_point = self.recovery_point().min(end_offset);
        let input = RecoveryInput { recovery_point, log_start, journaled_end: 0, is_clean: false };
        let directory = self.directory.clone();
        let (mut log, report) =
            Log::recover(files, &directory, self.partition, self.config, input, now, &mut |_| ())?;
        log.topic_id = self.topic_id;
        Ok((log, report))
    }

    /// Cuts the last file that keeps something. Recovery removes the segments behind the cut, the epochs and the producers
    /// that came with them. Returns where the log ends now.
    fn cut_files(&mut self, files: &mut dyn Files, offset: Offset) -> Result<Offset, RecoveryError> {
        let index = self.segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1);
        for segment in self.segments.iter().skip(index + 1).rev().filter(|s| s.is_named) {
            let path = layout::offset_file(&self.directory, segment.base_offset, FileSuffix::Log);
            files.remove_file(&path).context("remove segment", &path)?;
        }
        let segment = &self.segments[index];
        let path = layout::offset_file(&self.directory, segment.base_offset, FileSuffix::Log);
        let file = files.open(&path, crate::reactor::OpenMode::Write).context("open segment", &path)?;
        let mut walk = Walk::new(file, 0, segment.written_bytes);
        let mut end_offset = segment.base_offset;
        let result = loop {
            let position = walk.position();
            match walk.next(files, Depth::Header).context("read segment", &path) {
                Ok(Found::Batch(batch, _)) if batch.end_offset() <= offset => end_offset = batch.end_offset(),
                Ok(Found::Batch(..) | Found::End) => {
                    // Files that a crash leaves behind the cut are above the recovery point, which the caller lowered.
                    break files
                        .set_size(file, position)
                        .and_then(|()| files.sync(file))
                        .and_then(|()| files.sync_directory(&self.directory))
                        .context("cut segment", &path)
                        .map_err(RecoveryError::from);
                }
                Ok(Found::Invalid(invalid)) => break Err(damaged(&path, position, invalid).into()),
                Err(error) => break Err(error.into()),
            }
        };
        files.close(file);
        result.map(|()| end_offset)
    }
}

fn damaged(path: &std::path::Path, position: u64, invalid: InvalidBatch) -> Damaged {
    Damaged { path: path.to_owned(), position, damage: Damage::Batch(invalid) }
}
