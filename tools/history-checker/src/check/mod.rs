//! The anomalies, each found in one pass over sorted lists.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use crate::history::{Outcome, PartitionIndex, ReadValue, Send, SendIndex, Step};
use crate::{Anomaly, History, Kind, Report};

#[cfg(test)]
mod tests;

type Place = (PartitionIndex, i64);

/// Returns every anomaly of `history`, in the order: places, losses, orders, polls.
pub fn check(history: &History) -> Report {
    let mut checker =
        Checker { history, report: counts(history), log: BTreeMap::new(), read: BTreeSet::new() };
    checker.place_values();
    checker.find_duplicates();
    checker.find_lost_writes();
    checker.find_reordered_sends();
    checker.find_realtime_violations();
    checker.find_poll_faults();
    checker.report
}

fn counts(history: &History) -> Report {
    let count = |wanted: fn(&Outcome) -> bool| history.sends.iter().filter(|s| wanted(&s.outcome)).count();
    Report {
        partitions: history.partitions.len(),
        sends: history.sends.len(),
        acked: count(|o| matches!(o, Outcome::Acked { .. })),
        failed: count(|o| matches!(o, Outcome::Failed)),
        unknown: count(|o| matches!(o, Outcome::Unknown | Outcome::Open)),
        reads: history.steps.iter().filter(|s| matches!(s, Step::Read { .. })).count(),
        ..Report::default()
    }
}

struct Checker<'a> {
    history: &'a History,
    report: Report,
    /// What stands where, from acknowledgements and reads together; the first claim of an offset stays.
    log: BTreeMap<Place, SendIndex>,
    /// The places that somebody read, whatever was found there.
    read: BTreeSet<Place>,
}

impl Checker<'_> {
    /// Fills `log` and `read`; finds two values at one offset and values that should not be there.
    fn place_values(&mut self) {
        let mut conflicts = BTreeSet::new();
        for (index, send) in self.history.sends.iter().enumerate() {
            if let Outcome::Acked { offset: Some(offset), .. } = send.outcome {
                self.place((send.partition, offset), index, &mut conflicts);
            }
        }
        for step in &self.history.steps {
            let Step::Read { partition, offset, value, consumer } = step else { continue };
            let place = (*partition, *offset);
            let first_read = self.read.insert(place);
            match value {
                ReadValue::Unsent(value) => {
                    if first_read {
                        let detail = format!(
                            "{} read {value:?}, which nobody sent",
                            self.history.consumers[*consumer]
                        );
                        self.found(Kind::UnsentRead, place, detail);
                    }
                }
                ReadValue::Sent(send) => {
                    if first_read && self.history.sends[*send].outcome == Outcome::Failed {
                        let detail =
                            format!("{:?} was read after its send failed", self.history.sends[*send].value);
                        self.found(Kind::FailedRead, place, detail);
                    }
                    if first_read && self.history.sends[*send].partition != *partition {
                        let detail =
                            format!("{:?} was sent to another partition", self.history.sends[*send].value);
                        self.found(Kind::UnsentRead, place, detail);
                    }
                    self.place(place, *send, &mut conflicts);
                }
            }
        }
        for (place, first, second) in conflicts {
            let detail =
                format!("{:?} and {:?}", self.history.sends[first].value, self.history.sends[second].value);
            self.found(Kind::InconsistentOffsets, place, detail);
        }
    }

    fn place(
        &mut self,
        place: Place,
        send: SendIndex,
        conflicts: &mut BTreeSet<(Place, SendIndex, SendIndex)>,
    ) {
        let first = *self.log.entry(place).or_insert(send);
        if first != send {
            conflicts.insert((place, first, send));
        }
    }

    /// One value at two offsets.
    fn find_duplicates(&mut self) {
        let mut first_at: BTreeMap<SendIndex, Place> = BTreeMap::new();
        let mut copies = Vec::new();
        for (place, send) in &self.log {
            if let Some(first) = first_at.insert(*send, *place) {
                copies.push((first, *place, *send));
            }
        }
        for (first, second, send) in copies {
            if self.producer_of(send).idempotent {
                let detail = format!("{:?} stands at {} as well", self.history.sends[send].value, first.1);
                self.found(Kind::Duplicate, second, detail);
            } else {
                self.report.duplicates_allowed += 1;
            }
        }
    }

    /// Acknowledged or read once, and gone at the end.
    fn find_lost_writes(&mut self) {
        let seen: BTreeSet<SendIndex> = self.history.steps.iter().filter_map(read_send).collect();
        let at_the_end = self.read_at_the_end();
        let mut lost: BTreeMap<Place, String> = BTreeMap::new();
        for (index, send) in self.history.sends.iter().enumerate() {
            let Outcome::Acked { offset, .. } = send.outcome else { continue };
            match (self.must_be_there(send.partition, offset), offset) {
                (Some(true), Some(offset)) if !at_the_end.contains(&(send.partition, offset)) => {
                    lost.insert((send.partition, offset), format!("{:?} was acknowledged", send.value));
                }
                (Some(true), None) if !seen.contains(&index) => {
                    let detail =
                        format!("{:?} was acknowledged without an offset and never read", send.value);
                    self.lost_anywhere(send, detail);
                }
                (None, _) if !seen.contains(&index) => self.report.unseen += 1,
                _ => {}
            }
        }
        // What one consumer saw was committed: it must not vanish either, acknowledged or not.
        for place in self.read.difference(&at_the_end) {
            if self.must_be_there(place.0, Some(place.1)) == Some(true) {
                lost.entry(*place).or_insert_with(|| "the record was read".to_owned());
            }
        }
        for (place, what) in lost {
            self.found(Kind::LostWrite, place, format!("{what} and cannot be read any more"));
        }
    }

    /// The places that count as readable: those of the last read of a partition, or all reads where there was none.
    fn read_at_the_end(&self) -> BTreeSet<Place> {
        let last_reader = |partition| self.history.final_reads.get(&partition).map(|f| f.consumer);
        let steps = self.history.steps.iter().filter_map(|step| match step {
            Step::Read { consumer, partition, offset, .. }
                if last_reader(*partition).is_none_or(|last| last == *consumer) =>
            {
                Some((*partition, *offset))
            }
            _ => None,
        });
        steps.collect()
    }

    /// Whether a place must be readable at the end: `None` when nobody got that far, `Some(false)` below the log start.
    fn must_be_there(&self, partition: PartitionIndex, offset: Option<i64>) -> Option<bool> {
        if let Some(last) = self.history.final_reads.get(&partition) {
            return Some(offset.is_none_or(|offset| offset >= last.log_start));
        }
        let of_partition = (Included((partition, 0)), Included((partition, i64::MAX)));
        let (_, last_read) = self.read.range(of_partition).next_back()?;
        offset.and_then(|offset| (offset <= *last_read).then_some(true))
    }

    /// Per producer and partition: places grow with the sequence. A value with copies counts where it stands first.
    fn find_reordered_sends(&mut self) {
        let mut first_place: BTreeMap<SendIndex, i64> = BTreeMap::new();
        for ((_, offset), send) in &self.log {
            first_place.entry(*send).or_insert(*offset);
        }
        let mut order: Vec<(PartitionIndex, usize, u64, i64, SendIndex)> = first_place
            .into_iter()
            .map(|(index, offset)| {
                let send = &self.history.sends[index];
                (send.partition, send.producer, send.sequence, offset, index)
            })
            .filter(|(_, producer, ..)| self.history.producers[*producer].ordered)
            .collect();
        order.sort_unstable();
        for pair in order.windows(2) {
            let [(partition, producer, _, earlier, a), (partition_b, producer_b, _, later, b)] = pair else {
                continue;
            };
            if (partition, producer) == (partition_b, producer_b) && later < earlier {
                let detail = format!(
                    "{}: {:?} stands before {:?}, at {earlier}, which was sent first",
                    self.history.producers[*producer].name,
                    self.history.sends[*b].value,
                    self.history.sends[*a].value
                );
                self.found(Kind::ReorderedSends, (*partition, *later), detail);
            }
        }
    }

    /// Going back from the end of each partition: nothing behind may have been acknowledged before this send began.
    fn find_realtime_violations(&mut self) {
        let mut acked: Vec<(PartitionIndex, i64, SendIndex, u64)> = Vec::new();
        for (index, send) in self.history.sends.iter().enumerate() {
            if let Outcome::Acked { offset: Some(offset), at_ns } = send.outcome {
                acked.push((send.partition, offset, index, at_ns));
            }
        }
        acked.sort_unstable();
        let mut earliest_behind: Option<(PartitionIndex, u64, SendIndex)> = None;
        for (partition, offset, index, acked_ns) in acked.into_iter().rev() {
            let send = &self.history.sends[index];
            let behind = earliest_behind.filter(|(p, ..)| *p == partition);
            if let Some((_, behind_ns, behind_index)) = behind
                && behind_ns < send.invoked_ns
            {
                let detail = format!(
                    "{:?} began after {:?} was acknowledged, and stands before it",
                    send.value, self.history.sends[behind_index].value
                );
                self.found(Kind::RealtimeOrder, (partition, offset), detail);
            }
            earliest_behind = match behind {
                Some((p, ns, i)) if ns <= acked_ns => Some((p, ns, i)),
                _ => Some((partition, acked_ns, index)),
            };
        }
    }

    /// Each consumer's reads of a partition grow, and pass over nothing that is there.
    fn find_poll_faults(&mut self) {
        let mut last: BTreeMap<(usize, PartitionIndex), i64> = BTreeMap::new();
        for step in &self.history.steps {
            match step {
                Step::Assigned { consumer } => {
                    last =
                        std::mem::take(&mut last).into_iter().filter(|((c, _), _)| c != consumer).collect();
                }
                Step::Read { consumer, partition, offset, .. } => {
                    let name = &self.history.consumers[*consumer];
                    let Some(before) = last.insert((*consumer, *partition), *offset) else { continue };
                    if *offset <= before {
                        let detail = format!("{name} read it after {before}");
                        self.found(Kind::NonMonotonicPoll, (*partition, *offset), detail);
                        continue;
                    }
                    let between = (Excluded((*partition, before)), Excluded((*partition, *offset)));
                    if let Some(((_, skipped), send)) = self.log.range(between).next() {
                        let value = &self.history.sends[*send].value;
                        let detail = format!("{name} went from {before} to {offset}, past {value:?}");
                        self.found(Kind::PollSkip, (*partition, *skipped), detail);
                    }
                }
            }
        }
    }

    fn lost_anywhere(&mut self, send: &Send, detail: String) {
        let (topic, partition) = self.history.partitions[send.partition].clone();
        self.report.anomalies.push(Anomaly { kind: Kind::LostWrite, topic, partition, offset: None, detail });
    }

    fn producer_of(&self, send: SendIndex) -> &crate::history::Producer {
        &self.history.producers[self.history.sends[send].producer]
    }

    fn found(&mut self, kind: Kind, (partition, offset): Place, detail: String) {
        let (topic, partition) = self.history.partitions[partition].clone();
        self.report.anomalies.push(Anomaly { kind, topic, partition, offset: Some(offset), detail });
    }
}

fn read_send(step: &Step) -> Option<SendIndex> {
    match step {
        Step::Read { value: ReadValue::Sent(send), .. } => Some(*send),
        _ => None,
    }
}
