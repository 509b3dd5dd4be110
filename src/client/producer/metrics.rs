//! What the pipeline measures of itself, read as a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that the histograms tell apart: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// The state of a producer's pipeline, and what it did since it was made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProducerMetrics {
    pub records_appended: u64,
    pub records_acknowledged: u64,
    pub records_failed: u64,
    pub batches_sent: u64,
    /// Batches that were sent again.
    pub batches_retried: u64,
    pub batches_split: u64,
    /// Of record batches, as sent.
    pub bytes_sent: u64,
    /// Starts of a new epoch after a loss.
    pub epoch_bumps: u64,
    /// Batches without an outcome.
    pub queued_batches: usize,
    pub requests_in_flight: usize,
    pub buffer_bytes: usize,
    pub buffer_free_bytes: usize,
    /// From the first record of a batch to its first sending.
    pub time_in_accumulator: Quantiles,
    /// From a request to its answer.
    pub request_latency: Quantiles,
    /// Mean size of batches before compression, of `batch.size`: 1.0 is full.
    pub batch_fill: f64,
    /// Mean records of a batch.
    pub records_per_batch: f64,
}

/// Some quantiles of a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quantiles {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
    pub count: u64,
}

/// What the pipeline's stages count.
#[derive(Debug)]
pub(super) struct Recorder {
    pub records_appended: AtomicU64,
    pub records_acknowledged: AtomicU64,
    pub records_failed: AtomicU64,
    pub batches_sent: AtomicU64,
    pub batches_retried: AtomicU64,
    pub batches_split: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub epoch_bumps: AtomicU64,
    pub requests_in_flight: AtomicU64,
    batches_drained: AtomicU64,
    records_drained: AtomicU64,
    plain_bytes_drained: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    accumulator: Histogram<u64>,
    request: Histogram<u64>,
}

impl Recorder {
    pub fn new() -> Recorder {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_US, 2).expect("bounds and digits are in range");
        Recorder {
            records_appended: AtomicU64::new(0),
            records_acknowledged: AtomicU64::new(0),
            records_failed: AtomicU64::new(0),
            batches_sent: AtomicU64::new(0),
            batches_retried: AtomicU64::new(0),
            batches_split: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            epoch_bumps: AtomicU64::new(0),
            requests_in_flight: AtomicU64::new(0),
            batches_drained: AtomicU64::new(0),
            records_drained: AtomicU64::new(0),
            plain_bytes_drained: AtomicU64::new(0),
            times: Mutex::new(Times { accumulator: histogram(), request: histogram() }),
        }
    }

    /// A batch leaves the accumulator.
    pub fn drained(&self, waited: Duration, records: i32, plain_bytes: usize) {
        self.batches_drained.fetch_add(1, Ordering::Relaxed);
        self.records_drained.fetch_add(records.unsigned_abs().into(), Ordering::Relaxed);
        self.plain_bytes_drained.fetch_add(plain_bytes as u64, Ordering::Relaxed);
        self.with_times(|times| times.accumulator.saturating_record(micros(waited)));
    }

    pub fn answered(&self, latency: Duration) {
        self.with_times(|times| times.request.saturating_record(micros(latency)));
    }

    fn with_times<T>(&self, body: impl FnOnce(&mut Times) -> T) -> T {
        body(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted so far; queues and memory are for the caller to add.
    pub fn snapshot(&self, batch_bytes: usize) -> ProducerMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (time_in_accumulator, request_latency) =
            self.with_times(|times| (quantiles(&times.accumulator), quantiles(&times.request)));
        let batches = read(&self.batches_drained).max(1) as f64;
        ProducerMetrics {
            records_appended: read(&self.records_appended),
            records_acknowledged: read(&self.records_acknowledged),
            records_failed: read(&self.records_failed),
            batches_sent: read(&self.batches_sent),
            batches_retried: read(&self.batches_retried),
            batches_split: read(&self.batches_split),
            bytes_sent: read(&self.bytes_sent),
            epoch_bumps: read(&self.epoch_bumps),
            requests_in_flight: read(&self.requests_in_flight) as usize,
            time_in_accumulator,
            request_latency,
            batch_fill: read(&self.plain_bytes_drained) as f64 / batches / batch_bytes.max(1) as f64,
            records_per_batch: read(&self.records_drained) as f64 / batches,
            ..ProducerMetrics::default()
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    match histogram.len() {
        0 => Quantiles::default(),
        count => Quantiles { p50: at(0.5), p99: at(0.99), max: at(1.0), count },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_tells_means_and_quantiles() {
        let recorder = Recorder::new();
        assert_eq!(recorder.snapshot(1000), ProducerMetrics::default());
        recorder.drained(Duration::from_millis(5), 10, 1000);
        recorder.drained(Duration::from_millis(15), 20, 500);
        recorder.answered(Duration::from_secs(100_000));
        let metrics = recorder.snapshot(1000);
        assert_eq!((metrics.batch_fill, metrics.records_per_batch), (0.75, 15.0));
        let p50 = metrics.time_in_accumulator.p50.as_micros();
        assert!((4_900..5_100).contains(&p50), "{p50}");
        assert!(metrics.request_latency.max >= Duration::from_secs(3_500));
    }
}
