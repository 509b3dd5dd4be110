//! What a run shows, on one core and then over all.

use corelog_measure::clock::now_ns;
use hdrhistogram::Histogram;

use crate::wire::Checked;

/// Latencies from 1 ns to 10 minutes with an error below 0.1 %.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are constants that fit")
}

/// Requests of one kind.
#[derive(Clone)]
pub struct Series {
    /// Nanoseconds. Closed loop: of the answers in the window; open loop: of the requests that were due in it.
    pub latency: Histogram<u64>,
    /// In the window, as are records and bytes (of values when produced, of batches when fetched).
    pub answers: u64,
    pub records: u64,
    pub bytes: u64,
}

impl Series {
    fn new() -> Series {
        Series { latency: histogram(), answers: 0, records: 0, bytes: 0 }
    }

    fn add(&mut self, other: &Series) {
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
        self.answers += other.answers;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// What is counted, on one core or over all.
pub struct Tally {
    pub produce: Series,
    pub fetch: Series,
    pub echo: Series,
    /// From when a record was due to be sent until a consumer has it; one value a batch.
    pub end_to_end: Series,
    /// Open loop: from when a request was due until it was handed to its connection. The generator's own fault.
    pub late: Histogram<u64>,
    /// Records acknowledged, by partition, all of the run.
    pub acknowledged: Vec<u64>,
    pub checked: Checked,
    /// Requests that were due in the window or sent in the run, without an answer at the end.
    pub unanswered: u64,
    /// Answers that are errors, and the first few of them.
    pub errors: Checked,
}

impl Tally {
    fn new(partitions: i32) -> Tally {
        Tally {
            produce: Series::new(),
            fetch: Series::new(),
            echo: Series::new(),
            end_to_end: Series::new(),
            late: histogram(),
            acknowledged: vec![0; partitions as usize],
            checked: Checked::default(),
            unanswered: 0,
            errors: Checked::default(),
        }
    }

    fn add(&mut self, other: &Tally) {
        self.produce.add(&other.produce);
        self.fetch.add(&other.fetch);
        self.echo.add(&other.echo);
        self.end_to_end.add(&other.end_to_end);
        self.late.add(&other.late).expect("all histograms have the same bounds");
        for (sum, one) in self.acknowledged.iter_mut().zip(&other.acknowledged) {
            *sum += one;
        }
        self.checked.add(&other.checked);
        self.unanswered += other.unanswered;
        self.errors.add(&other.errors);
    }
}

/// Of one core.
pub struct Meter {
    is_open: bool,
    pub tally: Tally,
}

impl Meter {
    pub fn new(partitions: i32, is_open: bool) -> Meter {
        Meter { is_open, tally: Tally::new(partitions) }
    }

    /// An answer that came at `now` to a request sent or due at `since`.
    pub fn answered(
        &mut self,
        kind: Kind,
        edges: (u64, u64),
        since: u64,
        now: u64,
        records: u64,
        bytes: u64,
    ) {
        let (begin, end) = edges;
        let is_open = self.is_open && kind != Kind::EndToEnd;
        let series = match kind {
            Kind::Produce => &mut self.tally.produce,
            Kind::Fetch => &mut self.tally.fetch,
            Kind::Echo => &mut self.tally.echo,
            Kind::EndToEnd => &mut self.tally.end_to_end,
        };
        let is_within = |time: u64| time >= begin && time < end;
        if is_within(now) {
            series.answers += 1;
            series.records += records;
            series.bytes += bytes;
        }
        // What a consumer has is timed by when it was due as well: a record sent before the window is not of it.
        if is_within(if is_open || kind == Kind::EndToEnd { since } else { now }) {
            series.latency.saturating_record(now.saturating_sub(since).max(1));
        }
    }

    pub fn handed_over(&mut self, due: u64) {
        self.tally.late.saturating_record(now_ns().saturating_sub(due).max(1));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Produce,
    Fetch,
    Echo,
    EndToEnd,
}

/// Of all cores.
pub struct Outcome {
    pub seconds: f64,
    /// Open loop: requests that were due in the window, a second.
    pub offered: Option<f64>,
    pub tally: Tally,
    /// The bytes were used up before the time was.
    pub ended_early: bool,
}

impl Outcome {
    /// Of at least one core; `due` requests between `begin` and `end`.
    pub fn of(meters: Vec<Meter>, begin: u64, end: u64, due: Option<u64>, ended_early: bool) -> Outcome {
        let mut tallies = meters.into_iter().map(|meter| meter.tally);
        let mut sum = tallies.next().expect("at least one core");
        tallies.for_each(|tally| sum.add(&tally));
        let seconds = end.saturating_sub(begin).max(1) as f64 / 1e9;
        Outcome { seconds, offered: due.map(|due| due as f64 / seconds), tally: sum, ended_early }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_by_when_they_came_and_open_latencies_by_when_they_were_due() {
        let check = |is_open, since, now, (answers, timed): (u64, u64)| {
            let mut meter = Meter::new(1, is_open);
            meter.answered(Kind::Produce, (100, 200), since, now, 3, 30);
            let produce = &meter.tally.produce;
            let found = (produce.answers, produce.latency.len());
            assert_eq!(found, (answers, timed), "{is_open} {since} {now}");
            assert_eq!((produce.records, produce.bytes), (answers * 3, answers * 30));
        };
        check(false, 90, 110, (1, 1));
        check(false, 150, 199, (1, 1));
        check(false, 150, 200, (0, 0));
        check(true, 90, 110, (1, 0));
        check(true, 150, 199, (1, 1));
        // Late: the throughput of the window does not have it, its percentiles do.
        check(true, 150, 900, (0, 1));
        check(true, 200, 900, (0, 0));
    }
}
