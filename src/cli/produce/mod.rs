//! `corelog produce`: a record for each line.
//!
//! A thread reads lines, this task makes records of them, the client's sender takes them to the brokers. *Invariant*: what
//! the command says was acknowledged was; a record that is lost, a line that is none and SIGINT end the reading, never the
//! waiting for records that were taken.

mod bar;
mod input;
mod journey;
mod places;
mod tally;
mod waiting;

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::arguments::Produce;
use super::remote::{self, End, Interrupts, RemoteError, tell};
use super::table::json_text;
use crate::client::admin::NewTopic;
use crate::client::settings::{Acks, CLIENT, PRODUCER};
use crate::client::time::Instant;
use crate::client::{Abortable, Producer, ProducerRecord, ProducerSettings};
use crate::protocol::ErrorCode;

use bar::Bar;
use input::{Chunk, Input};
use journey::Journey;
use places::Places;
use tally::{Summary, Tally};

/// After SIGINT: lines that were read and are not here by now are on no way to us.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
/// Behind `delivery.timeout.ms`, after which every record has its outcome.
const CLOSE_MARGIN: Duration = Duration::from_secs(5);
/// The first ends the reading, the second the waiting.
const INTERRUPTS_HEARD: u32 = 2;

/// Runs the command, which prints by itself.
pub fn run(options: &Produce) -> Result<End, RemoteError> {
    remote::run(produce(options))
}

async fn produce(options: &Produce) -> Result<End, RemoteError> {
    let settings =
        ProducerSettings::from_pairs(options.remote.pairs(&[CLIENT, PRODUCER], options.settings())?)?;
    let mut input = Input::open(options.file.as_deref(), settings.request_bytes_max)?;
    let partitions = partition_count(options).await?;
    if input.is_terminal {
        tell("a line is a record; Ctrl-D ends");
    }
    // Until here nothing was sent, and SIGINT ends the process as ever.
    let interrupts = Interrupts::watch(INTERRUPTS_HEARD)?;
    let patience = settings.delivery_timeout + CLOSE_MARGIN;
    let is_acknowledged = settings.acks != Acks::None;
    let journey = options.trace.then(|| Journey::new(&settings, options, partitions));
    let producer = match &journey {
        None => Producer::new(settings)?,
        Some(journey) => journey.producer(settings)?,
    };
    let (places, printing) = options.verbose.then(|| Places::open(options.json)).unzip();
    let mut sending = Sending {
        options,
        producer: &producer,
        tally: Arc::new(Tally::new(places)),
        interrupts: interrupts.clone(),
        journey: journey.as_ref(),
        began: Instant::now(),
        line: 0,
        // Lines of --verbose and a bar would write over each other.
        bar: Bar::new(input.total_bytes, !input.is_terminal && !options.verbose),
    };
    let bar = sending.bar.clone();
    let sent = async {
        let outcome = sending.all(&mut input).await;
        close(&producer, patience, &interrupts).await;
        outcome
    };
    let outcome = tokio::select! {
        outcome = sent => outcome,
        never = waiting::watch(&producer, &bar) => match never {},
    };
    let Sending { tally, began, bar, .. } = sending;
    bar.finish();
    let is_interrupted = interrupts.count() > 0;
    let summary =
        Summary { is_acknowledged, is_interrupted, ..tally.summary(&options.topic, began.elapsed()) };
    let failure = tally.first_failure();
    // The callbacks have been called: with the last sender the printing ends.
    drop(tally);
    let printed = finish(&report(options, &summary, journey.as_ref()), printing, &interrupts).await;
    // A record that was lost weighs more than a result that nobody takes.
    outcome?;
    if let Some((line, error)) = failure {
        return Err(RemoteError::NotSent { line, error });
    }
    printed?;
    Ok(if interrupts.count() > 0 { End::Interrupted } else { End::Done })
}

/// How many partitions the topic has. A slip in its name must not make a topic, so one that is not there is made only if
/// that was asked for.
async fn partition_count(options: &Produce) -> Result<usize, RemoteError> {
    let admin = options.remote.admin(None).await?;
    if options.create {
        for (_, created) in admin.create_topics(&[NewTopic::new(&options.topic)]).await? {
            match created {
                Err(error) if error.error_code() != Some(ErrorCode::TopicAlreadyExists) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }
    let count = remote::topic(&admin, &options.topic).await?.partitions.len();
    match options.partition {
        Some(partition) if partition as usize >= count => {
            let topic = options.topic.clone();
            Err(RemoteError::NoSuchPartition { topic, partition, count })
        }
        _ => Ok(count),
    }
}

/// Waits until every record has its outcome, which its callback is told. A second SIGINT gives up what has none.
async fn close(producer: &Producer, patience: Duration, interrupts: &Interrupts) {
    {
        let mut closing = pin!(producer.close(patience));
        tokio::select! {
            _ = &mut closing => {}
            () = interrupts.reached(2) => {}
        }
    }
    if interrupts.count() >= 2 {
        // The error says no more than the records do.
        drop(producer.close(Duration::ZERO).await);
    }
}

/// What stands behind the lines of `--verbose`.
fn report(options: &Produce, summary: &Summary, journey: Option<&Journey>) -> String {
    if !options.json {
        return journey.and_then(Journey::to_text).unwrap_or_default() + &summary.to_text();
    }
    let mut all = summary.to_json();
    if let Some(journey) = journey {
        all["trace"] = journey.to_json();
    }
    // One more line behind those that are objects of their own.
    if options.verbose { format!("{all}\n") } else { json_text(&all) }
}

/// Prints the report, once all lines before it are out.
async fn finish(
    report: &str,
    printing: Option<JoinHandle<Result<(), RemoteError>>>,
    interrupts: &Interrupts,
) -> Result<(), RemoteError> {
    let given_up = async {
        interrupts.reached(2).await;
        // It may need a moment to write out what it has.
        tokio::time::sleep(DRAIN_WAIT).await;
    };
    let lines = match printing {
        None => Ok(()),
        Some(printing) => tokio::select! {
            biased;
            lines = printing => lines.unwrap_or_else(|panic| resume_unwind(panic.into_panic())),
            // Nobody reads standard output, and somebody does not want to wait for that.
            () = given_up => {
                tell(report.trim_end());
                return Ok(());
            }
        },
    };
    lines.and_then(|()| print(report))
}

struct Sending<'a> {
    options: &'a Produce,
    producer: &'a Producer,
    tally: Arc<Tally>,
    interrupts: Interrupts,
    /// Of the first record.
    journey: Option<&'a Journey>,
    began: Instant,
    /// Lines that were taken.
    line: u64,
    bar: Bar,
}

impl Sending<'_> {
    /// Until the input's end, the first record that is lost, or what SIGINT leaves.
    async fn all(&mut self, input: &mut Input) -> Result<(), RemoteError> {
        loop {
            let chunk = if self.interrupts.count() > 0 {
                tokio::time::timeout(DRAIN_WAIT, input.next()).await.unwrap_or(None)
            } else {
                tokio::select! {
                    biased;
                    () = self.interrupts.reached(1) => {
                        input.stop();
                        tell("interrupted; sending what was read, a second interrupt gives that up");
                        continue;
                    }
                    chunk = input.next() => chunk,
                }
            };
            let Some(chunk) = chunk else { return Ok(()) };
            if !self.chunk(&chunk?).await? {
                return Ok(());
            }
        }
    }

    /// False: enough.
    async fn chunk(&mut self, chunk: &Chunk) -> Result<bool, RemoteError> {
        for line in chunk.lines() {
            self.keep_pace().await;
            if self.tally.has_failures() || self.interrupts.count() >= 2 {
                return Ok(false);
            }
            self.line += 1;
            self.send(self.line, line).await?;
        }
        self.bar.advance(chunk.size_bytes(), self.line, self.began);
        Ok(true)
    }

    /// Waits for the line's turn under `--rate`; whoever has interrupted does not.
    async fn keep_pace(&self) {
        if let Some(rate) = self.options.rate {
            let turn = self.began + Duration::from_secs_f64(self.line as f64 / rate);
            tokio::select! {
                () = tokio::time::sleep_until(turn) => {}
                () = self.interrupts.reached(1) => {}
            }
        }
    }

    /// Gives the line to the client, which waits for room while the broker is slow: `max.block.ms` at most.
    async fn send(&self, number: u64, line: &[u8]) -> Result<(), RemoteError> {
        let record = self.record(number, line)?;
        let bytes = line.len() as u64;
        let taken = async {
            let turn = self.tally.turn().await;
            if let Some(journey) = self.journey.filter(|_| number == 1) {
                self.tally.note(number, bytes, turn, journey.follow(self.producer, record).await);
            } else {
                let tally = Arc::clone(&self.tally);
                let told = move |outcome| tally.note(number, bytes, turn, outcome);
                self.producer.enqueue_with(record, told).await;
            }
        };
        tokio::select! {
            biased;
            () = taken => {}
            // What is not taken yet nobody else will tell of.
            () = self.interrupts.reached(2) => {
                self.tally.note(number, bytes, None, Err(Abortable::Aborted.into()));
            }
        }
        Ok(())
    }

    fn record<'r>(&'r self, number: u64, line: &'r [u8]) -> Result<ProducerRecord<'r>, RemoteError> {
        let mut record = ProducerRecord::to(&self.options.topic);
        record.partition = self.options.partition;
        for (name, value) in &self.options.headers {
            record = record.header(name, value.as_bytes());
        }
        let Some(separator) = &self.options.key_separator else { return Ok(record.value(line)) };
        match split(line, separator.as_bytes()) {
            Some((key, value)) => Ok(record.key(key).value(value)),
            None => Err(RemoteError::NoSeparator { line: number, separator: separator.clone() }),
        }
    }
}

/// What is before and behind the first `separator`.
fn split<'l>(line: &'l [u8], separator: &[u8]) -> Option<(&'l [u8], &'l [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

fn print(text: &str) -> Result<(), RemoteError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(RemoteError::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_separator() {
        let check = |line: &str, separator: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
            assert_eq!(split(line.as_bytes(), separator.as_bytes()), expected, "{line:?} {separator:?}");
        };
        check("a:b:c", ":", Some(("a", "b:c")));
        check(":b", ":", Some(("", "b")));
        check("a::", "::", Some(("a", "")));
        check("ab", ":", None);
        check("", ":", None);
    }
}
