//! A history with its names resolved to small numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead};

use crate::Event;

/// A topic's partition, as an index into `History::partitions`.
pub(crate) type PartitionIndex = usize;
/// A value, as an index into `History::sends`: values are unique, so the send stands for its value.
pub(crate) type SendIndex = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Neither answered nor given up: treated as unknown.
    Open,
    Acked {
        offset: Option<i64>,
        at_ns: u64,
    },
    Failed,
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Send {
    pub producer: usize,
    pub sequence: u64,
    pub partition: PartitionIndex,
    pub value: String,
    pub invoked_ns: u64,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub(crate) struct Producer {
    pub name: String,
    pub idempotent: bool,
    pub ordered: bool,
}

/// One step of a consumer, in the order of the history.
#[derive(Debug)]
pub(crate) enum Step {
    Assigned { consumer: usize },
    Read { consumer: usize, partition: PartitionIndex, offset: i64, value: ReadValue },
}

#[derive(Debug)]
pub(crate) enum ReadValue {
    Sent(SendIndex),
    /// Nobody sent it.
    Unsent(String),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FinalRead {
    pub consumer: usize,
    pub log_start: i64,
}

/// A whole history, ready to be checked.
#[derive(Debug, Default)]
pub struct History {
    pub(crate) partitions: Vec<(String, i32)>,
    pub(crate) producers: Vec<Producer>,
    pub(crate) consumers: Vec<String>,
    pub(crate) sends: Vec<Send>,
    pub(crate) steps: Vec<Step>,
    /// Who read each partition once more after the last fault, and from where.
    pub(crate) final_reads: BTreeMap<PartitionIndex, FinalRead>,
    partition_by_name: BTreeMap<(String, i32), PartitionIndex>,
    producer_by_name: BTreeMap<String, usize>,
    consumer_by_name: BTreeMap<String, usize>,
    send_by_value: BTreeMap<String, SendIndex>,
    send_by_sequence: BTreeMap<(usize, u64), SendIndex>,
}

/// Why a text is no history. These are faults of the harness, not of the broker.
#[derive(Debug)]
pub enum HistoryError {
    Read(io::Error),
    Parse { line: usize, cause: serde_json::Error },
    ValueSentTwice { value: String },
    SequenceUsedTwice { producer: String, sequence: u64 },
    AnswerWithoutSend { producer: String, sequence: u64 },
    AnsweredTwice { producer: String, sequence: u64 },
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(cause) => write!(f, "read the history: {cause}"),
            Self::Parse { line, cause } => write!(f, "line {line}: {cause}"),
            Self::ValueSentTwice { value } => write!(f, "value {value:?} was sent twice"),
            Self::SequenceUsedTwice { producer, sequence } => {
                write!(f, "producer {producer} used sequence {sequence} twice")
            }
            Self::AnswerWithoutSend { producer, sequence } => {
                write!(f, "producer {producer} got an answer for sequence {sequence}, which it did not send")
            }
            Self::AnsweredTwice { producer, sequence } => {
                write!(f, "producer {producer} got two answers for sequence {sequence}")
            }
        }
    }
}

impl std::error::Error for HistoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(cause) => Some(cause),
            Self::Parse { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl History {
    /// Reads one event a line; empty lines are skipped.
    /// A read may stand before the send's own line: a consumer can be faster than the producer's writer.
    pub fn from_lines(lines: impl BufRead) -> Result<Self, HistoryError> {
        let mut events = Vec::new();
        for (n, line) in lines.lines().enumerate() {
            let line = line.map_err(HistoryError::Read)?;
            if !line.trim().is_empty() {
                let parsed = serde_json::from_str(&line);
                events.push(parsed.map_err(|cause| HistoryError::Parse { line: n + 1, cause })?);
            }
        }
        Self::from_events(events)
    }

    pub fn from_events(events: Vec<Event>) -> Result<Self, HistoryError> {
        let mut history = Self::default();
        // Sends first: a read is resolved to the send of its value, whichever was written down earlier.
        let (sends, rest): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|e| matches!(e, Event::Invoked { .. } | Event::Producer { .. }));
        for event in sends.into_iter().chain(rest) {
            history.push(event)?;
        }
        Ok(history)
    }

    fn push(&mut self, event: Event) -> Result<(), HistoryError> {
        match event {
            Event::Producer { producer, idempotent, ordered } => {
                let index = self.producer(&producer);
                self.producers[index].idempotent = idempotent;
                self.producers[index].ordered = ordered;
            }
            Event::Invoked { producer, sequence, topic, partition, value, at_ns } => {
                let index = self.sends.len();
                let (producer_index, partition) =
                    (self.producer(&producer), self.partition(topic, partition));
                if self.send_by_sequence.insert((producer_index, sequence), index).is_some() {
                    return Err(HistoryError::SequenceUsedTwice { producer, sequence });
                }
                if self.send_by_value.insert(value.clone(), index).is_some() {
                    return Err(HistoryError::ValueSentTwice { value });
                }
                self.sends.push(Send {
                    producer: producer_index,
                    sequence,
                    partition,
                    value,
                    invoked_ns: at_ns,
                    outcome: Outcome::Open,
                });
            }
            Event::Acked { producer, sequence, offset, at_ns } => {
                self.answer(producer, sequence, Outcome::Acked { offset, at_ns })?;
            }
            Event::Failed { producer, sequence, .. } => self.answer(producer, sequence, Outcome::Failed)?,
            Event::Unknown { producer, sequence, .. } => self.answer(producer, sequence, Outcome::Unknown)?,
            Event::Assigned { consumer, .. } => {
                let consumer = self.consumer(consumer);
                self.steps.push(Step::Assigned { consumer });
            }
            Event::Read { consumer, topic, partition, offset, value, .. } => {
                let (consumer, partition) = (self.consumer(consumer), self.partition(topic, partition));
                let value = match self.send_by_value.get(&value) {
                    Some(send) => ReadValue::Sent(*send),
                    None => ReadValue::Unsent(value),
                };
                self.steps.push(Step::Read { consumer, partition, offset, value });
            }
            Event::ReadAll { consumer, topic, partition, start } => {
                let (consumer, partition) = (self.consumer(consumer), self.partition(topic, partition));
                self.final_reads.insert(partition, FinalRead { consumer, log_start: start });
            }
        }
        Ok(())
    }

    fn answer(&mut self, producer: String, sequence: u64, outcome: Outcome) -> Result<(), HistoryError> {
        let index = self.producer(&producer);
        let Some(send) = self.send_by_sequence.get(&(index, sequence)) else {
            return Err(HistoryError::AnswerWithoutSend { producer, sequence });
        };
        let send = &mut self.sends[*send];
        if send.outcome != Outcome::Open {
            return Err(HistoryError::AnsweredTwice { producer, sequence });
        }
        send.outcome = outcome;
        Ok(())
    }

    fn producer(&mut self, name: &str) -> usize {
        if let Some(index) = self.producer_by_name.get(name) {
            return *index;
        }
        self.producers.push(Producer { name: name.to_owned(), ..Producer::default() });
        self.producer_by_name.insert(name.to_owned(), self.producers.len() - 1);
        self.producers.len() - 1
    }

    fn consumer(&mut self, name: String) -> usize {
        if let Some(index) = self.consumer_by_name.get(&name) {
            return *index;
        }
        self.consumers.push(name.clone());
        self.consumer_by_name.insert(name, self.consumers.len() - 1);
        self.consumers.len() - 1
    }

    fn partition(&mut self, topic: String, partition: i32) -> PartitionIndex {
        let name = (topic, partition);
        if let Some(index) = self.partition_by_name.get(&name) {
            return *index;
        }
        self.partitions.push(name.clone());
        self.partition_by_name.insert(name, self.partitions.len() - 1);
        self.partitions.len() - 1
    }
}
