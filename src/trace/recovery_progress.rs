//! How far the shards have come with opening their partitions, added up for whoever shows it.
//!
//! Every shard adds to the same counts. At most one message about them is on its way to the writer, however many partitions
//! there are: it carries the counts themselves, so the writer always shows the newest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::log_line::Logger;

/// What all shards have done so far. Readers may see one count ahead of another.
#[derive(Debug, Default)]
pub struct RecoveryCounts {
    partitions: AtomicU64,
    done: AtomicU64,
    read_bytes: AtomicU64,
    checked_bytes: AtomicU64,
    cut: AtomicU64,
    offline: AtomicU64,
    /// A message about these counts waits for the writer.
    is_told: AtomicBool,
}

/// The counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// All that there are, and those that are open or have failed.
    pub partitions: u64,
    pub done: u64,
    /// Read in all, and of these bytes those whose checksums were compared.
    pub read_bytes: u64,
    pub checked_bytes: u64,
    /// Partitions whose torn tail was cut, and that are not served.
    pub cut: u64,
    pub offline: u64,
}

impl RecoveryCounts {
    /// The newest counts; a change after this call makes a new message.
    pub fn take(&self) -> Recovered {
        // Before the counts are read: what is added from here on is told again.
        self.is_told.store(false, Ordering::Release);
        self.get()
    }

    fn get(&self) -> Recovered {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Recovered {
            partitions: get(&self.partitions),
            done: get(&self.done),
            read_bytes: get(&self.read_bytes),
            checked_bytes: get(&self.checked_bytes),
            cut: get(&self.cut),
            offline: get(&self.offline),
        }
    }
}

/// A shard's hand on the counts. Cheap to clone.
#[derive(Clone)]
pub struct RecoveryProgress {
    logger: Logger,
    counts: Arc<RecoveryCounts>,
}

impl RecoveryProgress {
    pub fn new(logger: &Logger) -> RecoveryProgress {
        RecoveryProgress { logger: logger.clone(), counts: Arc::default() }
    }

    /// So many partitions are to be opened, beside those of other shards.
    pub fn begin(&self, partitions: u64) {
        self.add(&self.counts.partitions, partitions);
    }

    pub fn read(&self, bytes: u64) {
        self.add(&self.counts.read_bytes, bytes);
    }

    /// A partition is open; of what was read for it so many bytes were compared with their checksums.
    pub fn opened(&self, checked_bytes: u64, is_cut: bool) {
        self.counts.checked_bytes.fetch_add(checked_bytes, Ordering::Relaxed);
        self.counts.cut.fetch_add(u64::from(is_cut), Ordering::Relaxed);
        self.add(&self.counts.done, 1);
    }

    /// A partition is not served.
    pub fn refused(&self) {
        self.counts.offline.fetch_add(1, Ordering::Relaxed);
        self.add(&self.counts.done, 1);
    }

    /// The counts as they are now.
    pub fn so_far(&self) -> Recovered {
        self.counts.get()
    }

    fn add(&self, count: &AtomicU64, amount: u64) {
        count.fetch_add(amount, Ordering::Relaxed);
        if !self.counts.is_told.swap(true, Ordering::AcqRel) && !self.logger.tell_progress(&self.counts) {
            // The next change tries again.
            self.counts.is_told.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::{Level, LogMessage, LogReceiver, log_channel};

    fn told(receiver: &LogReceiver) -> Vec<Recovered> {
        let messages = std::iter::from_fn(|| receiver.next(Duration::ZERO).ok());
        let counts = messages.map(|message| match message {
            LogMessage::Progress(counts) => counts.take(),
            _ => panic!("not progress"),
        });
        counts.collect()
    }

    #[test]
    fn one_message_is_on_its_way_and_has_the_newest_counts() {
        let (logger, receiver) = log_channel(8, Level::Info);
        let progress = RecoveryProgress::new(&logger);
        progress.begin(2);
        progress.clone().begin(1);
        for _ in 0..100 {
            progress.clone().read(10);
        }
        progress.opened(500, true);
        progress.refused();
        let counts =
            Recovered { partitions: 3, done: 2, read_bytes: 1000, checked_bytes: 500, cut: 1, offline: 1 };
        assert_eq!(told(&receiver), [counts]);
        progress.opened(0, false);
        assert_eq!(told(&receiver), [Recovered { done: 3, ..counts }]);
        assert_eq!(told(&receiver), []);
        assert_eq!(progress.so_far().done, 3);
    }

    #[test]
    fn a_full_queue_drops_progress_and_counts_no_line() {
        let (logger, receiver) = log_channel(1, Level::Info);
        logger.log(crate::trace::LogLine::new(Level::Info, "a", "line"));
        let progress = RecoveryProgress::new(&logger);
        progress.begin(1);
        assert_eq!(receiver.take_dropped(), 0);
        assert!(matches!(receiver.next(Duration::ZERO), Ok(LogMessage::Line(_))));
        progress.read(7);
        assert_eq!(told(&receiver).len(), 1, "the message that was lost is made good");
    }
}
