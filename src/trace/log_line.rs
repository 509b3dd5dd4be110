//! What a room has to say to the operator: a level, a static text and a few values, on their way to the thread that writes.
//!
//! A shard fills in a [`LogLine`] and goes on; formatting, the clock and standard error are the writer's (`control/logging`).
//! The queue is bounded: a line that finds no room is counted, and the count is written as soon as there is room again.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::recovery_progress::RecoveryCounts;
use crate::model::{TopicName, TopicPartition};

/// How much a line matters. ERROR: a person must look. WARN: odd, but served. INFO: a state changed. Nothing that happens
/// with every request is above TRACE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }

    /// Reads a value of the setting `logging.level`, which has been checked.
    pub fn of_setting(name: &str) -> Level {
        match name {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => Level::Info,
        }
    }
}

/// A value of a line. Shared or static, so that a shard copies no text.
pub enum Field {
    Signed(i64),
    Unsigned(u64),
    Word(&'static str),
    Text(Arc<str>),
    Partition(TopicPartition),
    /// Written with its causes.
    Error(Arc<dyn Error + Send + Sync>),
}

/// One line, not yet formatted.
pub struct LogLine {
    pub level: Level,
    /// The room that speaks.
    pub room: &'static str,
    pub text: &'static str,
    pub fields: Vec<(&'static str, Field)>,
}

impl LogLine {
    pub fn new(level: Level, room: &'static str, text: &'static str) -> LogLine {
        LogLine { level, room, text, fields: Vec::new() }
    }

    pub fn with(mut self, key: &'static str, value: impl Into<Field>) -> LogLine {
        self.fields.push((key, value.into()));
        self
    }
}

macro_rules! fields {
    ($($from:ty => |$value:ident| $field:expr;)+) => {
        $( impl From<$from> for Field { fn from($value: $from) -> Field { $field } } )+
    };
}

fields! {
    i32 => |value| Field::Signed(i64::from(value));
    i64 => |value| Field::Signed(value);
    u16 => |value| Field::Unsigned(u64::from(value));
    u32 => |value| Field::Unsigned(u64::from(value));
    u64 => |value| Field::Unsigned(value);
    usize => |value| Field::Unsigned(value as u64);
    &'static str => |value| Field::Word(value);
    String => |value| Field::Text(value.into());
    TopicName => |value| Field::Text(value);
    TopicPartition => |value| Field::Partition(value);
}

impl<E: Error + Send + Sync + 'static> From<Arc<E>> for Field {
    fn from(error: Arc<E>) -> Field {
        Field::Error(error)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Signed(number) => write!(f, "{number}"),
            Field::Unsigned(number) => write!(f, "{number}"),
            Field::Word(word) => f.write_str(word),
            Field::Text(text) => f.write_str(text),
            Field::Partition(partition) => write!(f, "{partition}"),
            Field::Error(error) => {
                write!(f, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

/// What travels to the writer.
pub enum LogMessage {
    Line(LogLine),
    /// Recovery has come further: one line on a terminal, a log line now and then elsewhere.
    Progress(Arc<RecoveryCounts>),
    /// Everything before this is to be written; then the sender is dropped.
    Flush(SyncSender<()>),
}

/// A room's way to the log. Cheap to clone; sending never waits.
#[derive(Clone)]
pub struct Logger {
    sender: SyncSender<LogMessage>,
    level: Level,
    dropped: Arc<AtomicU64>,
}

/// The writer's end.
pub struct LogReceiver {
    receiver: Receiver<LogMessage>,
    dropped: Arc<AtomicU64>,
}

/// A log of at most `lines_max` lines under way; lines less severe than `level` are not even sent.
pub fn log_channel(lines_max: usize, level: Level) -> (Logger, LogReceiver) {
    let (sender, receiver) = sync_channel(lines_max);
    let dropped = Arc::new(AtomicU64::new(0));
    (Logger { sender, level, dropped: Arc::clone(&dropped) }, LogReceiver { receiver, dropped })
}

impl Logger {
    pub fn is_on(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Sends the line, or counts it as dropped. Returns whether it was sent, for the shard's own count.
    pub fn log(&self, line: LogLine) -> bool {
        !self.is_on(line.level) || self.send(LogMessage::Line(line))
    }

    /// Waits until everything sent before is written, at most `wait`. Not for shards.
    pub fn flush(&self, wait: Duration) {
        let (sender, receiver) = sync_channel(1);
        if self.sender.send(LogMessage::Flush(sender)).is_ok() {
            // The answer and the writer's end both mean that there is nothing more to wait for.
            let _ = receiver.recv_timeout(wait);
        }
    }

    /// False: there was no room, which nobody need know.
    pub(super) fn tell_progress(&self, counts: &Arc<RecoveryCounts>) -> bool {
        self.sender.try_send(LogMessage::Progress(Arc::clone(counts))).is_ok()
    }

    fn send(&self, message: LogMessage) -> bool {
        let is_sent = self.sender.try_send(message).is_ok();
        if !is_sent {
            // Rare and off every hot path: a read-modify-write does no harm here.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_sent
    }
}

impl LogReceiver {
    /// The next message; `Timeout` if none comes in time, `Disconnected` once every logger is gone.
    pub fn next(&self, wait: Duration) -> Result<LogMessage, RecvTimeoutError> {
        self.receiver.recv_timeout(wait)
    }

    /// Lines dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level) -> LogLine {
        LogLine::new(level, "log", "segment rolled")
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (logger, receiver) = log_channel(2, Level::Info);
        let sent: Vec<bool> = (0..4).map(|_| logger.log(line(Level::Warn))).collect();
        assert_eq!(sent, [true, true, false, false]);
        assert_eq!((receiver.take_dropped(), receiver.take_dropped()), (2, 0));
    }

    #[test]
    fn lines_below_the_level_take_no_room() {
        let (logger, receiver) = log_channel(1, Level::Info);
        assert!(logger.log(line(Level::Debug)));
        assert!(logger.log(line(Level::Info)));
        assert!(matches!(
            receiver.next(Duration::ZERO),
            Ok(LogMessage::Line(LogLine { level: Level::Info, .. }))
        ));
        assert!(receiver.next(Duration::ZERO).is_err());
    }

    #[test]
    fn errors_are_written_with_their_causes() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("open segment")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(Field::from(Arc::new(error)).to_string(), "open segment: no storage space");
    }
}
