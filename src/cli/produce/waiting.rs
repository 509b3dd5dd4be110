//! Says that records wait for brokers, for what, and what can be done about it.

use std::convert::Infallible;
use std::time::Duration;

use super::bar::Bar;
use crate::cli::remote::RemoteError;
use crate::cli::table::counted;
use crate::client::time::Instant;
use crate::client::{ClientError, Producer, ProducerMetrics};

/// How often it is looked at whether records got their outcome.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A leader that moves is found sooner than this, and nobody needs to know.
const TELL_AFTER: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Looks whether records get their outcome, for as long as it is polled, and says so on standard error when they do not.
pub(super) async fn watch(producer: &Producer, bar: &Bar) -> Infallible {
    let mut waiting = Waiting::new(producer.settings().linger, producer.settings().delivery_timeout);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let seen = Seen::of(&producer.metrics());
        let failure = || producer.last_failure();
        if let Some(line) = waiting.look(Instant::now(), seen, failure) {
            bar.say(&line);
        }
    }
}

/// What counts of a producer's metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// With an outcome.
    ended: u64,
    waiting: u64,
}

impl Seen {
    fn of(metrics: &ProducerMetrics) -> Seen {
        let ended = metrics.records_acknowledged + metrics.records_failed;
        Seen { ended, waiting: metrics.records_appended.saturating_sub(ended) }
    }
}

struct Waiting {
    tell_after: Duration,
    delivery_timeout: Duration,
    /// Of the last outcome, or when the first record came that has none.
    since: Option<(u64, Instant)>,
    told: Option<Instant>,
}

impl Waiting {
    fn new(linger: Duration, delivery_timeout: Duration) -> Waiting {
        Waiting { tell_after: TELL_AFTER + linger, delivery_timeout, since: None, told: None }
    }

    /// What is to be said now, if anything. `failure`: the last one, with its moment.
    fn look(
        &mut self,
        now: Instant,
        seen: Seen,
        failure: impl FnOnce() -> Option<(Instant, ClientError)>,
    ) -> Option<String> {
        let since = match self.since.filter(|(ended, _)| *ended == seen.ended && seen.waiting > 0) {
            Some((_, since)) => since,
            None => {
                let before = self.since.replace((seen.ended, now)).filter(|_| self.told.take().is_some());
                return before
                    .map(|(_, since)| format!("brokers answer again, after {}", shown(now - since)));
            }
        };
        let is_due = self.told.is_none_or(|told| now - told >= TELL_EVERY);
        if now - since < self.tell_after || !is_due {
            return None;
        }
        self.told = Some(now);
        // One from before the last outcome has been got over.
        let why = match failure().filter(|(at, _)| *at >= since) {
            Some((_, error)) => RemoteError::Client(error).to_string(),
            None => "no broker has answered; the broker's log may tell more".to_owned(),
        };
        Some(format!(
            "waiting since {}: {why}. {} without an acknowledgement; a record is given up {} after it was read (delivery.timeout.ms)",
            shown(now - since),
            counted(seen.waiting, "record"),
            shown(self.delivery_timeout),
        ))
    }
}

fn shown(time: Duration) -> String {
    format!("{} s", time.as_secs_f64().round())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{Address, Retriable};

    #[test]
    fn a_wait_is_told_then_told_again_and_its_end_is_told() {
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let mut waiting = Waiting::new(Duration::from_millis(5), Duration::from_secs(120));
        let mut look = |seconds: f64, ended, left, failed_at: Option<f64>| {
            let failure = failed_at.map(|failed_at| {
                let address = Address { host: "b".to_owned(), port: 1 };
                let source = Arc::new(std::io::ErrorKind::ConnectionRefused.into());
                (at(failed_at), Retriable::Connect { address, source }.into())
            });
            waiting.look(at(seconds), Seen { ended, waiting: left }, || failure)
        };
        // Nothing to send for a minute is no wait.
        assert_eq!(look(0.0, 0, 0, None), None);
        assert_eq!(look(60.0, 0, 0, None), None);
        assert_eq!(look(60.5, 0, 2, None), None);
        assert_eq!(look(62.0, 0, 2, None), None);
        let silent = look(63.0, 0, 2, Some(1.0)).unwrap();
        assert!(silent.starts_with("waiting since 3 s: no broker has answered; "), "{silent}");
        assert!(silent.contains("2 records without an acknowledgement"), "{silent}");
        assert!(silent.ends_with("given up 120 s after it was read (delivery.timeout.ms)"), "{silent}");
        assert_eq!(look(67.5, 0, 2, Some(67.0)), None);
        let refused = look(68.0, 0, 3, Some(67.0)).unwrap();
        assert!(
            refused.contains("b:1") && refused.contains("is the broker running? `corelog start`"),
            "{refused}"
        );
        assert_eq!(look(69.0, 2, 1, None).unwrap(), "brokers answer again, after 9 s");
        assert_eq!(look(70.0, 3, 0, None), None);
        assert_eq!(look(99.0, 3, 0, None), None);
    }
}
