//! What became of the records so far, and what is told of it in the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::places::{Places, Turn};
use crate::cli::table::counted;
use crate::client::{ClientError, RecordMetadata};

/// The outcomes so far. Noted from the client's tasks.
pub(super) struct Tally {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    acknowledged_bytes: AtomicU64,
    first_failure: Mutex<Option<(u64, ClientError)>>,
    /// Where `--verbose` shows them.
    places: Option<Places>,
}

impl Tally {
    pub fn new(places: Option<Places>) -> Tally {
        Tally {
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            acknowledged_bytes: AtomicU64::new(0),
            first_failure: Mutex::default(),
            places,
        }
    }

    /// Waits for the right to take one more record; `None` where places are not shown.
    pub async fn turn(&self) -> Option<Turn> {
        match &self.places {
            Some(places) => Some(places.turn().await),
            None => None,
        }
    }

    pub fn note(
        &self,
        line: u64,
        bytes: u64,
        turn: Option<Turn>,
        outcome: Result<RecordMetadata, ClientError>,
    ) {
        match outcome {
            Ok(metadata) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.acknowledged_bytes.fetch_add(bytes, Ordering::Relaxed);
                if let (Some(places), Some(turn)) = (&self.places, turn) {
                    places.print(metadata, turn);
                }
            }
            Err(error) => {
                let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                // Partitions fail one by one: the first line is not always told first.
                if first.as_ref().is_none_or(|(other, _)| line < *other) {
                    *first = Some((line, error));
                }
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub fn has_failures(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    pub fn first_failure(&self) -> Option<(u64, ClientError)> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn summary(&self, topic: &str, elapsed: Duration) -> Summary {
        Summary {
            topic: topic.to_owned(),
            sent: self.acknowledged.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            bytes: self.acknowledged_bytes.load(Ordering::Relaxed),
            elapsed,
            is_acknowledged: true,
            is_interrupted: false,
        }
    }
}

/// What the command did.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub topic: String,
    /// And acknowledged, if brokers are asked to.
    pub sent: u64,
    pub failed: u64,
    /// Of the lines that were sent.
    pub bytes: u64,
    pub elapsed: Duration,
    /// False with `acks=0`, after which nobody knows.
    pub is_acknowledged: bool,
    pub is_interrupted: bool,
}

impl Summary {
    pub fn to_json(&self) -> Value {
        json!({
            "topic": self.topic,
            "acknowledged": self.is_acknowledged.then_some(self.sent),
            "sent": self.sent,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "interrupted": self.is_interrupted,
        })
    }

    pub fn to_text(&self) -> String {
        let interrupted = if self.is_interrupted { "interrupted: " } else { "" };
        let what = match self.is_acknowledged {
            true => "acknowledged",
            false => "sent, which no broker acknowledges (acks=0)",
        };
        let lost = if self.failed > 0 { format!(", {} lost", self.failed) } else { String::new() };
        format!(
            "{interrupted}{}: {} {what}{lost}; {} in {:.3} s\n",
            self.topic,
            counted(self.sent, "record"),
            counted(self.bytes, "byte"),
            self.elapsed.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Abortable;

    #[test]
    fn the_first_line_that_was_lost_is_the_one_that_is_told() {
        let tally = Tally::new(None);
        assert!(!tally.has_failures() && tally.first_failure().is_none());
        for line in [7, 3, 5] {
            tally.note(line, 10, None, Err(Abortable::Aborted.into()));
        }
        assert!(matches!(tally.first_failure(), Some((3, _))));
        let text = tally.summary("t", Duration::from_millis(1500)).to_text();
        assert_eq!(text, "t: 0 records acknowledged, 3 lost; 0 bytes in 1.500 s\n");
    }

    #[test]
    fn what_nobody_acknowledges_is_not_said_to_be_acknowledged() {
        let tally = Tally::new(None);
        let summary = Summary {
            sent: 1,
            is_acknowledged: false,
            is_interrupted: true,
            ..tally.summary("t", Duration::ZERO)
        };
        let text = summary.to_text();
        assert!(text.starts_with("interrupted: t: 1 record sent, which no broker acknowledges"), "{text}");
        assert_eq!(summary.to_json()["acknowledged"], Value::Null);
        assert_eq!(summary.to_json()["sent"], json!(1));
    }
}
