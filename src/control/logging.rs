//! Writes the log: the one thread that formats lines and touches standard error.
//!
//! A thread of its own, because standard error may be a pipe that nobody reads: neither a shard nor the admin server may
//! wait for that.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;
use crate::trace::{Level, LogLine, LogMessage, LogReceiver, Recovered};

/// How often the line on a terminal is drawn anew.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often progress is worth a log line where there is no terminal to overwrite a line on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long the writer sleeps before it looks whether lines were dropped.
const IDLE: Duration = Duration::from_secs(1);

/// Starts the writer's thread; it ends when every [`crate::trace::Logger`] is gone.
pub(super) fn start(receiver: LogReceiver) -> std::io::Result<()> {
    let writer = Writer {
        receiver,
        is_terminal: std::io::stderr().is_terminal(),
        has_progress_line: false,
        progress: None,
    };
    #[allow(clippy::disallowed_methods, reason = "the control room makes its own threads")]
    std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run()).map(drop)
}

struct Writer {
    receiver: LogReceiver,
    is_terminal: bool,
    /// The terminal's last line shows progress and is to be overwritten.
    has_progress_line: bool,
    /// When recovery began to tell, and when it was last shown.
    progress: Option<(Instant, Instant)>,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.receiver.next(IDLE) {
                Ok(LogMessage::Line(line)) => self.write_line(&line),
                Ok(LogMessage::Progress(counts)) => self.write_progress(&counts.take()),
                Ok(LogMessage::Flush(answer)) => {
                    self.clear_progress();
                    drop(answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let dropped = self.receiver.take_dropped();
            if dropped > 0 {
                self.write_line(
                    &LogLine::new(Level::Warn, "control", "log lines dropped").with("count", dropped),
                );
            }
        }
    }

    fn write_line(&mut self, line: &LogLine) {
        self.clear_progress();
        put(&format_line(line, now()));
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.has_progress_line) {
            put("\r\x1b[K");
        }
    }

    #[allow(clippy::disallowed_methods, reason = "this thread is beside the simulation, not in it")]
    fn write_progress(&mut self, recovered: &Recovered) {
        let now = Instant::now();
        // A recovery that is over before the first line was due is told by its last line alone.
        let &mut (began, ref mut shown) = self.progress.get_or_insert((now, now));
        let interval = if self.is_terminal { DRAW_INTERVAL } else { PROGRESS_INTERVAL };
        if now - *shown < interval {
            return;
        }
        *shown = now;
        if self.is_terminal {
            put(&format!("\r{}\x1b[K", progress_line(recovered, now - began)));
            self.has_progress_line = true;
        } else {
            let Recovered { partitions, done, read_bytes, .. } = *recovered;
            self.write_line(
                &LogLine::new(Level::Info, "control", "recovering")
                    .with("partitions", partitions)
                    .with("open", done)
                    .with("read_mib", read_bytes >> 20),
            );
        }
    }
}

/// `recovering [======>             ] 30 of 100 partitions, 3072 MiB read, 512 MiB/s, 14 s left`
fn progress_line(recovered: &Recovered, elapsed: Duration) -> String {
    const CELLS: u64 = 20;
    let Recovered { partitions, done, read_bytes, .. } = *recovered;
    let filled = (done * CELLS).checked_div(partitions).unwrap_or(0).min(CELLS) as usize;
    let bar = format!("{}>", "=".repeat(filled));
    let rate = (read_bytes >> 20) as f64 / elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "recovering [{bar:<20.20}] {done} of {partitions} partitions, {} MiB read, {rate:.0} MiB/s",
        read_bytes >> 20
    );
    // Partitions are all that is known beforehand: how much of each has to be read shows only when it is.
    if done > 0 && done < partitions {
        let left = elapsed.mul_f64((partitions - done) as f64 / done as f64);
        line += &format!(", {} s left", left.as_secs_f64().ceil());
    }
    line
}

fn put(text: &str) {
    // Nothing can be done, and nobody told, if standard error is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[allow(clippy::disallowed_methods, reason = "this thread is beside the simulation, not in it")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as Timestamp
}

/// `2026-01-31T12:00:00.000Z WARN log: segment rolled partition=a-0 cause="..."`
pub(super) fn format_line(line: &LogLine, at: Timestamp) -> String {
    let mut text = format!("{} {:5} {}: {}", format_time(at), line.level.name(), line.room, line.text);
    for (key, field) in &line.fields {
        write!(text, " {key}={}", quoted(&field.to_string())).expect("writing to a String cannot fail");
    }
    text.push('\n');
    text
}

/// A value as it is, or in quotes if a reader could not tell where it ends. Control characters never reach a terminal.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(is_plain) { value.to_owned() } else { format!("{value:?}") }
}

/// RFC 3339 in UTC, with milliseconds.
pub(super) fn format_time(at: Timestamp) -> String {
    let (days, ms) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// The date of a day counted from 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that a leap day is a year's last; eras are 400 years, always of 146097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicPartition;

    #[test]
    fn times() {
        let check = |at, expected| assert_eq!(format_time(at), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_700_000_000_123, "2023-11-14T22:13:20.123Z");
        check(4_102_444_799_999, "2099-12-31T23:59:59.999Z");
        check(-1, "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn progress_is_drawn_as_far_as_it_is() {
        let check = |done, partitions, expected: &str| {
            let recovered = Recovered { partitions, done, read_bytes: 3 << 30, ..Recovered::default() };
            assert_eq!(progress_line(&recovered, Duration::from_secs(6)), expected);
        };
        check(0, 0, "recovering [>                   ] 0 of 0 partitions, 3072 MiB read, 512 MiB/s");
        check(
            30,
            100,
            "recovering [======>             ] 30 of 100 partitions, 3072 MiB read, 512 MiB/s, 14 s left",
        );
        check(7, 7, "recovering [====================] 7 of 7 partitions, 3072 MiB read, 512 MiB/s");
    }

    #[test]
    fn a_line_can_be_taken_apart_again() {
        let line = LogLine::new(Level::Warn, "log", "torn tail cut")
            .with("partition", TopicPartition::new("a", 0))
            .with("offset", 42i64)
            .with("path", "/a b/c".to_owned())
            .with("peer", "x\n\u{1b}[31m".to_owned())
            .with("empty", "");
        let expected = "1970-01-01T00:00:00.000Z WARN  log: torn tail cut partition=a-0 offset=42 path=\"/a b/c\" \
                        peer=\"x\\n\\u{1b}[31m\" empty=\"\"\n";
        assert_eq!(format_line(&line, 0), expected);
    }
}
