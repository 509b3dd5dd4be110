//! What a reader wants and the page cache has: its pages go to the socket as they are, and nothing is copied.
//!
//! Only bytes that this process knows to be good go this way (`Segment::known`), and only while they have stayed in memory. What
//! comes from the device is read, compared with its checksums, and sent from where it was read.

use crate::model::{Offset, Position};
use crate::reactor::{File, Io, PIPE_BYTES, Piped};
use crate::record::{BATCH_HEADER_BYTES, BatchView};

use super::Log;
use super::reader::{DiskRead, Hint};

/// Less is copied: that costs no more than the pipe and the kernel's worker behind it.
const PIPED_BYTES_MIN: u64 = 128 << 10;

/// More is copied: a reader would have pipes that others want.
const PIPES_PER_READ_MAX: u64 = 4;

/// Looks at headers for one reader. Where batches are so small, looking at them costs as much as copying them.
const LOOKS_MAX: u32 = 512;

/// Behind a batch smaller than half of this a look brings several headers.
const LOOK_BYTES: usize = 4096;

/// How far the kernel may read ahead of a reader. Most devices are left at 128 KiB (/sys/block/*/queue/read_ahead_kb).
pub(super) const READ_AHEAD_BYTES: u64 = 4 << 20;

impl Log {
    /// A read of the segment's file is about to begin, submitted or not: what it may bring from the device is not known to be good
    /// until it is checked. Returns what of the segment is known from the read's position on.
    fn note_reading(&mut self, io: &mut dyn Io, read: &DiskRead) -> Option<Position> {
        let segment = self.segment_mut(read.segment)?;
        let end = segment.known.end.min(segment.written_bytes);
        if read.position < segment.known.start || read.position >= end {
            return None;
        }
        let read_end = end.min(read.position + u64::from(read.length));
        let ahead_end = end.min(read_end + READ_AHEAD_BYTES);
        if !io.is_resident(read.file, read.position, read_end - read.position) {
            segment.known.end = read.position;
            return None;
        }
        // What stands in memory is no reason for the kernel to read; but it may have noted there to read more before it is needed.
        if ahead_end > read_end && !io.is_resident(read.file, read_end, ahead_end - read_end) {
            segment.known.end = read_end;
        }
        Some(read_end)
    }

    /// Takes whole batches for this read out of the page cache, in order. Empty: submit the read.
    pub fn take_pages(&mut self, io: &mut dyn Io, read: &DiskRead) -> Vec<Piped> {
        let pipes = self.note_reading(io, read).and_then(|end| self.try_take_pages(io, read, end));
        pipes.unwrap_or_default()
    }

    fn try_take_pages(&mut self, io: &mut dyn Io, read: &DiskRead, end: Position) -> Option<Vec<Piped>> {
        let segment = self.segment_mut(read.segment)?;
        // No batch of the segment is beyond the bound, or on its way to the file.
        let is_all = segment.is_quiet() && read.bound >= segment.end_offset;
        let max_bytes = read.max_bytes as u64;
        let is_wanted = (PIPED_BYTES_MIN..=PIPES_PER_READ_MAX * PIPE_BYTES).contains(&max_bytes);
        if !is_all || !is_wanted {
            return None;
        }
        let mut walk = HeaderWalk::new(read.file, read.position);
        let mut batch = walk.next(io)?;
        while batch.last_offset < read.offset {
            batch = walk.next(io)?;
        }
        // Another batch than the one that is looked for: whoever reads it all says what is wrong.
        if batch.base_offset > read.offset {
            return None;
        }
        let start = batch.position;
        let end = end.min(start + max_bytes);
        let (mut next_offset, mut whole_end) = (batch.base_offset, start);
        while batch.base_offset == next_offset && batch.end <= end {
            (next_offset, whole_end) = (batch.last_offset + 1, batch.end);
            match walk.next(io) {
                Some(next) if whole_end < end => batch = next,
                _ => break,
            }
        }
        if whole_end < start + PIPED_BYTES_MIN {
            return None;
        }
        let mut pipes = Vec::new();
        let mut at = start;
        while at < whole_end {
            // Without a pipe for all of it those that there are go back, and none is empty: they are made anew.
            let piped = io.take_pages(read.file, at, (whole_end - at) as usize)?;
            at += piped.len() as u64;
            pipes.push(piped);
        }
        self.remember(Hint { segment: read.segment, offset: next_offset, position: whole_end });
        Some(pipes)
    }
}

/// What a header says.
struct Seen {
    base_offset: Offset,
    last_offset: Offset,
    position: Position,
    end: Position,
}

/// Goes from header to header through what is in memory.
struct HeaderWalk {
    file: File,
    position: Position,
    window: [u8; LOOK_BYTES],
    window_at: Position,
    window_bytes: usize,
    last_batch_bytes: usize,
    looks: u32,
}

impl HeaderWalk {
    fn new(file: File, position: Position) -> HeaderWalk {
        HeaderWalk {
            file,
            position,
            window: [0; LOOK_BYTES],
            window_at: position,
            window_bytes: 0,
            last_batch_bytes: 0,
            looks: 0,
        }
    }

    /// The next batch. `None`: its header is not in memory, or is none, or there were too many.
    fn next(&mut self, io: &mut dyn Io) -> Option<Seen> {
        let at = self.position;
        if at + BATCH_HEADER_BYTES as u64 > self.window_at + self.window_bytes as u64 {
            if self.looks == LOOKS_MAX {
                return None;
            }
            self.looks += 1;
            let bytes = if self.last_batch_bytes < LOOK_BYTES / 2 { LOOK_BYTES } else { BATCH_HEADER_BYTES };
            self.window_bytes = io.peek(self.file, at, &mut self.window[..bytes]);
            self.window_at = at;
        }
        let window = &self.window[(at - self.window_at) as usize..self.window_bytes];
        let batch = BatchView::parse_header(window).ok()?;
        self.last_batch_bytes = batch.size_bytes();
        self.position = at + batch.size_bytes() as u64;
        Some(Seen {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            position: at,
            end: self.position,
        })
    }
}
