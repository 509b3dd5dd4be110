//! What a log that was read whole says about a history.

use std::collections::BTreeMap;

use history_checker::{Event, History, Kind, check};

use crate::client::Partition;
use crate::consumer::WholeLog;

/// What was found after one cut.
#[derive(Default)]
pub struct Verdict {
    /// Acknowledged, or read once, and gone.
    pub lost: usize,
    /// Everything found, losses among it, for people.
    pub findings: Vec<String>,
    pub sends: usize,
    pub acknowledged: usize,
    pub records: usize,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The reads of `logs` as those of one consumer, from each partition's start.
fn reads_of(consumer: &str, logs: &BTreeMap<Partition, WholeLog>, events: &mut Vec<Event>) {
    events.push(Event::Assigned { consumer: consumer.to_owned(), at_ns: 0 });
    for (partition, log) in logs {
        push_reads(consumer, partition, &log.records, events);
        events.push(Event::ReadAll {
            consumer: consumer.to_owned(),
            topic: partition.topic.clone(),
            partition: partition.index,
            start: 0,
        });
    }
}

/// Reads of one partition as events.
pub fn push_reads(consumer: &str, partition: &Partition, records: &[(i64, String)], events: &mut Vec<Event>) {
    events.extend(records.iter().map(|(offset, value)| Event::Read {
        consumer: consumer.to_owned(),
        topic: partition.topic.clone(),
        partition: partition.index,
        offset: *offset,
        value: value.clone(),
        at_ns: 0,
    }));
}

/// Holds `logs`, as they are now, against everything that was sent, acknowledged and read before. Adds those reads to
/// `events`, which is then a whole history of its own.
pub fn judge(events: &mut Vec<Event>, logs: &BTreeMap<Partition, WholeLog>) -> Verdict {
    let mut verdict = Verdict::default();
    for (partition, log) in logs {
        let name = format!("{}-{}", partition.topic, partition.index);
        verdict.records += log.records.len();
        if log.is_unknown {
            verdict.findings.push(format!("missing-partition {name}: its topic was acknowledged"));
        }
        verdict.findings.extend(log.faults.iter().map(|fault| format!("damaged-log {name}: {fault}")));
    }
    reads_of("whole", logs, events);
    let history = match History::from_events(events.clone()) {
        Ok(history) => history,
        Err(error) => {
            verdict.findings.push(format!("no-history: {error}"));
            return verdict;
        }
    };
    let report = check(&history);
    verdict.sends = report.sends;
    verdict.acknowledged = report.acked;
    verdict.lost = report.anomalies.iter().filter(|anomaly| anomaly.kind == Kind::LostWrite).count();
    verdict.findings.extend(report.anomalies.iter().map(|anomaly| anomaly.to_string()));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sequence: u64, acked_at: Option<i64>) -> Vec<Event> {
        let value = format!("p:{sequence}");
        let mut events = vec![Event::Invoked {
            producer: "p".into(),
            sequence,
            topic: "t".into(),
            partition: 0,
            value,
            at_ns: sequence * 10,
        }];
        let acked = |offset| Event::Acked {
            producer: "p".into(),
            sequence,
            offset: Some(offset),
            at_ns: sequence * 10 + 5,
        };
        events.extend(acked_at.map(acked));
        events
    }

    fn log(values: &[&str]) -> BTreeMap<Partition, WholeLog> {
        let records = (0..).zip(values).map(|(offset, value)| (offset, (*value).to_owned())).collect();
        let log = WholeLog { records, ..WholeLog::default() };
        BTreeMap::from([(Partition { topic: "t".into(), index: 0 }, log)])
    }

    #[test]
    fn what_was_not_answered_may_be_there_or_not() {
        let mut events = [sent(0, Some(0)), sent(1, None), sent(2, Some(1))].concat();
        let verdict = judge(&mut events, &log(&["p:0", "p:2"]));
        assert!(verdict.is_clean(), "{:?}", verdict.findings);
        assert_eq!((verdict.sends, verdict.acknowledged, verdict.records), (3, 2, 2));
        let mut events = [sent(0, Some(0)), sent(1, None)].concat();
        assert!(judge(&mut events, &log(&["p:0", "p:1"])).is_clean());
    }

    #[test]
    fn losses_are_counted_for_acknowledged_and_for_read_records() {
        let mut events = [sent(0, Some(0)), sent(1, Some(1)), sent(2, None)].concat();
        push_reads(
            "along",
            &Partition { topic: "t".into(), index: 0 },
            &[(0, "p:0".into()), (1, "p:1".into()), (2, "p:2".into())],
            &mut events,
        );
        assert_eq!(judge(&mut events.clone(), &log(&["p:0", "p:1"])).lost, 1, "read along");
        assert_eq!(judge(&mut events.clone(), &log(&["p:0"])).lost, 2, "acknowledged, and read along");
        assert!(judge(&mut events, &log(&["p:0", "p:1", "p:2"])).is_clean());
    }

    #[test]
    fn a_partition_that_is_gone_has_lost_all_it_had() {
        let mut events = sent(0, Some(0));
        let mut logs = log(&[]);
        logs.values_mut().for_each(|log| log.is_unknown = true);
        let verdict = judge(&mut events, &logs);
        assert_eq!((verdict.lost, verdict.findings.len()), (1, 2), "{:?}", verdict.findings);
    }

    #[test]
    fn a_damaged_log_is_a_finding_even_without_a_loss() {
        let mut logs = log(&["p:0"]);
        logs.values_mut().for_each(|log| log.faults.push("a hole".into()));
        assert!(!judge(&mut sent(0, Some(0)), &logs).is_clean());
    }
}
