//! What a connection asks, and what it makes of the answers.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use corelog_measure::clock::now_ns;

use crate::wire::{
    Checker, Chooser, Depth, EchoFrame, Outgoing, ProduceFrame, Read, Stamp, error_text, fetch_frame,
    produced,
};
use crate::workload::Workload;

use super::meter::Kind;
use super::{EngineError, Plan, Role, Shared};

/// Requests that all connections of a core send.
pub struct Frames {
    produce: ProduceFrame,
    echo: EchoFrame,
}

impl Frames {
    pub fn new(workload: &Workload, topic: &str) -> io::Result<Frames> {
        Ok(Frames { produce: ProduceFrame::new(workload, topic)?, echo: EchoFrame::new() })
    }
}

/// A request without an answer.
struct Waiting {
    since: u64,
    correlation: i32,
    partition: i32,
}

pub struct Work {
    shared: Rc<Shared>,
    frames: Rc<Frames>,
    asks: Asks,
    waiting: VecDeque<Waiting>,
    correlation: i32,
    /// At most.
    in_flight: usize,
}

enum Asks {
    Produce {
        chooser: Chooser,
        connection: u32,
        /// Of each partition: batches sent.
        sequences: Vec<u64>,
    },
    Echo,
    Backlog {
        checker: Checker,
        /// Partitions that no request under way asks for.
        idle: VecDeque<i32>,
        reads: Vec<Read>,
    },
    Tail {
        checker: Checker,
        partitions: Vec<i32>,
        reads: Vec<Read>,
        /// Whether the last answer came with nothing, after all that was sent had been acknowledged.
        is_dry: bool,
    },
}

/// A tail is asked for at most so long, so that its reader sees the end of a run.
const TAIL_WAIT_MS: i32 = 100;
const BACKLOG_WAIT_MS: i32 = 500;

impl Work {
    pub fn new(
        plan: &Plan,
        shared: &Rc<Shared>,
        frames: Rc<Frames>,
        topic_partitions: i32,
        connection_from: u32,
    ) -> Work {
        let workload = &shared.workload;
        let asks = match plan.role {
            Role::Produce => Asks::Produce {
                chooser: Chooser::new(
                    workload,
                    plan.partitions.clone(),
                    topic_partitions,
                    plan.number as u64,
                ),
                connection: connection_from + plan.number as u32,
                sequences: vec![0; topic_partitions as usize],
            },
            Role::Echo => Asks::Echo,
            Role::Backlog => Asks::Backlog {
                checker: Checker::new(Depth::Whole, workload.record_bytes),
                idle: plan.partitions.iter().copied().collect(),
                reads: Vec::new(),
            },
            Role::Tail => Asks::Tail {
                checker: Checker::new(Depth::Whole, workload.record_bytes),
                partitions: plan.partitions.clone(),
                reads: Vec::new(),
                is_dry: false,
            },
        };
        let in_flight = if plan.role == Role::Tail { 1 } else { workload.in_flight };
        Work { shared: Rc::clone(shared), frames, asks, waiting: VecDeque::new(), correlation: 0, in_flight }
    }

    pub fn is_producer(&self) -> bool {
        matches!(self.asks, Asks::Produce { .. })
    }

    /// Whether requests are sent that nobody answers.
    pub fn is_unanswered(&self) -> bool {
        self.is_producer() && self.shared.workload.acks == 0
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the loop is closed and lets another request out; a reader stops when there is nothing left to read.
    pub fn wants_more(&self, now: u64) -> bool {
        if self.waiting.len() >= self.in_flight {
            return false;
        }
        match &self.asks {
            Asks::Tail { is_dry, .. } => !is_dry,
            Asks::Backlog { idle, .. } => now < self.shared.control.end_ns() && !idle.is_empty(),
            _ => now < self.shared.control.end_ns(),
        }
    }

    /// An open loop's request waits for a partition that no other asks for.
    pub fn can_send(&self) -> bool {
        match &self.asks {
            Asks::Backlog { idle, .. } => !idle.is_empty(),
            _ => true,
        }
    }

    /// Adds the next request, sent or due at `since`. A fetch of an open loop waits if each partition is asked for already.
    pub fn ask(&mut self, out: &mut Outgoing, since: u64) {
        self.correlation = self.correlation.wrapping_add(1) & i32::MAX;
        let correlation = self.correlation;
        let (bytes, partition) = match &mut self.asks {
            Asks::Produce { chooser, connection, sequences } => {
                let (partition, key) = chooser.choose();
                let sequence = sequences[partition as usize];
                sequences[partition as usize] += 1;
                let stamp =
                    Stamp { connection: *connection, partition: partition as u32, sequence, due_ns: since };
                self.frames.produce.push(out, correlation, partition, stamp, key);
                (self.frames.produce.len(), partition)
            }
            Asks::Echo => {
                self.frames.echo.push(out, correlation);
                // What is not stored does not fill a disk.
                (0, -1)
            }
            Asks::Backlog { checker, idle, .. } => {
                let partition = idle.pop_front().expect("asked only while a partition is idle");
                let from = std::iter::once((partition, checker.next_offset(partition)));
                let workload = &self.shared.workload;
                fetch_frame(
                    out,
                    correlation,
                    &self.shared.topic,
                    from,
                    workload.fetch_bytes,
                    BACKLOG_WAIT_MS,
                );
                (0, partition)
            }
            Asks::Tail { checker, partitions, .. } => {
                let from = partitions.iter().map(|partition| (*partition, checker.next_offset(*partition)));
                let workload = &self.shared.workload;
                fetch_frame(out, correlation, &self.shared.topic, from, workload.fetch_bytes, TAIL_WAIT_MS);
                (0, -1)
            }
        };
        if bytes > 0 {
            self.shared.control.sent(bytes as u64);
        }
        if self.is_unanswered() {
            return;
        }
        self.waiting.push_back(Waiting { since, correlation, partition });
    }

    /// With acks=0: the request due at `since` is with the kernel.
    pub fn sent_unanswered(&mut self, since: u64, now: u64) {
        let control = &self.shared.control;
        let workload = &self.shared.workload;
        let edges = (control.begin_ns(), control.end_ns());
        let mut meter = self.shared.meter.borrow_mut();
        meter.answered(Kind::Produce, edges, since, now, workload.records as u64, workload.value_bytes());
    }

    /// Takes one answer, without its length, that came at `now`.
    pub fn answer(&mut self, answer: &[u8], now: u64) -> Result<(), EngineError> {
        let Some(waiting) = self.waiting.pop_front() else {
            return Err(EngineError::Correlation { expected: -1, found: correlation_of(answer) });
        };
        let control = &self.shared.control;
        let workload = &self.shared.workload;
        let edges = (control.begin_ns(), control.end_ns());
        let mut meter = self.shared.meter.borrow_mut();
        let found = match &mut self.asks {
            Asks::Produce { .. } => {
                let produced = produced(answer)?;
                let records = workload.records as u64;
                if produced.error == 0 && produced.partition == waiting.partition {
                    meter.tally.acknowledged[waiting.partition as usize] += records;
                    let bytes = workload.value_bytes();
                    meter.answered(Kind::Produce, edges, waiting.since, now, records, bytes);
                } else if produced.error == 0 {
                    let (asked, found) = (waiting.partition, produced.partition);
                    meter
                        .tally
                        .errors
                        .wrong(format_args!("an answer for partition {found} to one for {asked}"));
                } else {
                    let text = error_text(produced.error);
                    meter.tally.errors.wrong(format_args!("a produce request is answered with {text}"));
                }
                produced.correlation
            }
            Asks::Echo => {
                meter.answered(Kind::Echo, edges, waiting.since, now, 0, answer.len() as u64);
                correlation_of(answer)
            }
            Asks::Backlog { checker, idle, reads } => {
                // Reading every byte takes the generator as long as it takes the broker to send them: once is enough.
                if now >= edges.0 {
                    checker.set_depth(Depth::Offsets);
                }
                reads.clear();
                let correlation = checker.read(answer, reads, |_, _| {})?;
                let (mut records, mut bytes) = (0, 0);
                for read in reads.iter() {
                    records += read.records;
                    bytes += read.bytes;
                    if read.next_offset >= read.high_watermark || read.next_offset < read.log_start {
                        checker.seek(read.partition, read.log_start.max(0));
                    }
                }
                idle.push_back(waiting.partition);
                meter.answered(Kind::Fetch, edges, waiting.since, now, records, bytes);
                correlation
            }
            Asks::Tail { checker, reads, is_dry, .. } => {
                reads.clear();
                // Looked at first: what was acknowledged before this answer was made is in it or was in one before it.
                let was_over = control.are_producers_done();
                let correlation = checker.read(answer, reads, |stamp, records| {
                    if let Some(stamp) = stamp {
                        let bytes = records * workload.record_bytes as u64;
                        meter.answered(Kind::EndToEnd, edges, stamp.due_ns, now, records, bytes);
                    }
                })?;
                let records: u64 = reads.iter().map(|read| read.records).sum();
                let bytes = reads.iter().map(|read| read.bytes).sum();
                for read in reads.iter().filter(|read| read.next_offset < read.log_start) {
                    checker.seek(read.partition, read.log_start);
                }
                if records > 0 {
                    meter.answered(Kind::Fetch, edges, waiting.since, now, records, bytes);
                }
                // The request of an answer that was over must have been sent after the end, or it may have been made before it.
                *is_dry = was_over && records == 0 && waiting.since >= edges.1;
                correlation
            }
        };
        if found == waiting.correlation {
            Ok(())
        } else {
            Err(EngineError::Correlation { expected: waiting.correlation, found })
        }
    }

    /// Tells the meter what is left when the connection is done.
    pub fn close(&mut self) {
        let mut meter = self.shared.meter.borrow_mut();
        meter.tally.unanswered += self.waiting.len() as u64;
        if let Asks::Backlog { checker, .. } | Asks::Tail { checker, .. } = &self.asks {
            meter.tally.checked.add(&checker.checked);
        }
    }
}

fn correlation_of(answer: &[u8]) -> i32 {
    answer.first_chunk().map_or(-1, |bytes| i32::from_be_bytes(*bytes))
}

/// The time, once for all that has arrived together.
pub fn arrival() -> u64 {
    now_ns()
}
