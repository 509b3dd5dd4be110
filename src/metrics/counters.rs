//! One shard's numbers: written by the shard alone, read by the control thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalog::{Counter, Gauge, Phase};
use super::histogram::{Histogram, add};
use super::journal::{JournalHistograms, JournalMeter};
use super::stages::{Class, Timed};
use crate::model::ShardId;

/// The APIs whose requests are timed, as (key, name), ascending by key.
pub type ApiNames = &'static [(i16, &'static str)];

/// One shard's numbers as its readers see them. 128: the prefetcher of x86 takes cache lines in pairs, so two shards' words
/// must lie that far apart.
#[repr(align(128))]
pub struct ShardMetrics {
    shard: ShardId,
    counters: [AtomicU64; Counter::ALL.len()],
    gauges: [AtomicU64; Gauge::ALL.len()],
    phases: [Histogram; Phase::ALL.len()],
    rounds: Histogram,
    mailbox: Histogram,
    hops: Histogram,
    requests: Box<[Histogram]>,
    apis: ApiNames,
    /// Of each class its stages, then their sum. Made when the class is first met: most brokers meet two or three.
    classes: [OnceLock<Box<[Histogram]>>; Class::COUNT],
    journal: Arc<JournalHistograms>,
}

/// The shard's pen. Not `Clone` and not `Sync`: the words behind it have one writer.
pub struct Meter {
    metrics: Arc<ShardMetrics>,
    one_thread: PhantomData<Cell<()>>,
}

impl Meter {
    /// A shard's numbers, all zero, and the pen for them.
    pub fn new(shard: ShardId, apis: ApiNames) -> Meter {
        assert!(apis.windows(2).all(|pair| pair[0].0 < pair[1].0), "API keys ascend");
        let histograms = |count: usize| (0..count).map(|_| Histogram::new()).collect();
        let metrics = Arc::new(ShardMetrics {
            shard,
            counters: [const { AtomicU64::new(0) }; Counter::ALL.len()],
            gauges: [const { AtomicU64::new(0) }; Gauge::ALL.len()],
            phases: std::array::from_fn(|_| Histogram::new()),
            rounds: Histogram::new(),
            mailbox: Histogram::new(),
            hops: Histogram::new(),
            requests: histograms(apis.len()),
            apis,
            classes: [const { OnceLock::new() }; Class::COUNT],
            journal: Arc::new(JournalHistograms::new()),
        });
        Meter { metrics, one_thread: PhantomData }
    }

    /// The reader's side.
    pub fn metrics(&self) -> Arc<ShardMetrics> {
        Arc::clone(&self.metrics)
    }

    /// The pen for the shard's journals. To be taken once: its words have one writer too.
    pub fn journal(&self) -> JournalMeter {
        JournalMeter::of(Arc::clone(&self.metrics.journal))
    }

    pub fn add(&self, counter: Counter, amount: u64) {
        add(&self.metrics.counters[counter as usize], amount);
    }

    pub fn set(&self, gauge: Gauge, value: u64) {
        self.metrics.gauges[gauge as usize].store(value, Ordering::Relaxed);
    }

    pub fn phase(&self, phase: Phase, duration: Duration) {
        self.metrics.phases[phase as usize].record(duration);
    }

    pub fn round(&self, duration: Duration) {
        self.metrics.rounds.record(duration);
    }

    /// So many messages were in the mailboxes.
    pub fn mailbox(&self, messages: u64) {
        self.metrics.mailbox.record_value(messages);
    }

    /// A message came from another shard in this time.
    pub fn hop(&self, duration: Duration) {
        self.metrics.hops.record(duration);
    }

    /// A request is answered.
    pub fn timed(&self, timed: &Timed) {
        self.request(timed.api_key, timed.clock.total());
        let Some(class) = timed.class else { return };
        let stages = class.stages();
        let histograms = self.metrics.classes[class.index()]
            .get_or_init(|| (0..=stages.len()).map(|_| Histogram::new()).collect());
        for (stage, histogram) in stages.iter().zip(histograms) {
            histogram.record(timed.clock.spent(*stage));
        }
        histograms[stages.len()].record(timed.clock.total());
    }

    /// A request of this API took so long. An API that was not named at the start is not timed.
    pub fn request(&self, api_key: i16, duration: Duration) {
        if let Ok(index) = self.metrics.apis.binary_search_by_key(&api_key, |&(key, _)| key) {
            self.metrics.requests[index].record(duration);
        }
    }
}

impl ShardMetrics {
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    pub fn phase(&self, phase: Phase) -> &Histogram {
        &self.phases[phase as usize]
    }

    pub(super) fn rounds(&self) -> &Histogram {
        &self.rounds
    }

    pub(super) fn mailboxes(&self) -> &Histogram {
        &self.mailbox
    }

    pub(super) fn hops(&self) -> &Histogram {
        &self.hops
    }

    /// The stages of a class, and behind them their sum; `None` until there was a request.
    pub(super) fn class(&self, class: Class) -> Option<&[Histogram]> {
        self.classes[class.index()].get().map(|histograms| &**histograms)
    }

    pub fn journal(&self) -> &JournalHistograms {
        &self.journal
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        self.apis.iter().map(|&(_, name)| name).zip(self.requests.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Distribution;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let meter = Meter::new(ShardId(3), &[(0, "Produce"), (1, "Fetch")]);
        meter.add(Counter::Requests, 2);
        meter.add(Counter::Requests, 3);
        meter.set(Gauge::Connections, 7);
        meter.phase(Phase::Wait, Duration::from_micros(5));
        meter.request(1, Duration::from_micros(9));
        meter.request(77, Duration::from_micros(9));
        let metrics = meter.metrics();
        assert_eq!(metrics.counter(Counter::Requests), 5);
        assert_eq!(metrics.gauge(Gauge::Connections), 7);
        assert_eq!(Distribution::of([metrics.phase(Phase::Wait)]).count(), 1);
        let is_used = |histogram: &Histogram| !Distribution::of([histogram]).is_empty();
        let timed: Vec<&str> = metrics.requests().filter(|(_, h)| is_used(h)).map(|(name, _)| name).collect();
        assert_eq!(timed, ["Fetch"]);
    }

    #[test]
    fn shards_do_not_share_cache_lines() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
        assert_eq!(size_of::<ShardMetrics>() % 128, 0);
    }
}
