//! A producer that lives through cuts: it sends until its connection breaks, and remembers what it was not told.
//!
//! A plain producer sends nothing twice; what was not answered stays unknown. An idempotent one sends the same batches
//! again once the broker is back, in the same order, and each must be appended once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use corelog::model::{LeaderEpoch, ProducerEpoch, ProducerId};
use corelog::record::{BatchBuilder, ProducerStamp};
use history_checker::Event;

use crate::broker::pause;
use crate::choices::Choices;
use crate::client::{Answer, Connection, Partition, error_name};
use crate::value;

/// Kafka's bound for idempotent producers: the broker remembers this many batches.
const IN_FLIGHT_MAX: usize = 5;
const BATCH_BYTES_MIN: u64 = 100;
const BATCH_BYTES_MAX: u64 = 200 << 10;
/// Once the bytes of a round are spent, only small batches go on, now and then: the file system has to last for several
/// cuts, and all of it is read after each.
const THRIFTY_BYTES_MAX: u64 = 1 << 10;
const THRIFTY_PAUSE: Duration = Duration::from_millis(2);
const RECORDS_MAX: u64 = 8;
const PARTITIONS_MAX: u64 = 4;

/// What all producers of a round share.
pub struct Round {
    pub address: SocketAddr,
    pub partitions: Vec<Partition>,
    pub clock: Instant,
    /// From now on no answer counts, whatever it says; see `Volume::cut`.
    pub is_over: AtomicBool,
    /// How many bytes may still be sent before the producers become thrifty.
    pub bytes_left: AtomicI64,
    pub acknowledged: AtomicU64,
}

impl Round {
    fn is_thrifty(&self) -> bool {
        self.bytes_left.load(Ordering::Relaxed) <= 0
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

pub struct Producer {
    name: String,
    choices: Choices,
    /// Some for an idempotent one: id, epoch, next sequence of each partition.
    identity: Option<Identity>,
    is_idempotent: bool,
    /// Of the next record.
    sequence: u64,
    /// Requests sent and not answered, oldest first. After a break only an idempotent producer keeps them.
    under_way: VecDeque<Vec<Batch>>,
    pub events: Vec<Event>,
}

struct Identity {
    id: i64,
    epoch: i16,
    next: BTreeMap<Partition, i32>,
}

struct Batch {
    partition: Partition,
    first: u64,
    records: Bytes,
    answered: bool,
}

/// How a producer's round ended.
pub enum Ended {
    /// The connection broke, or could not be made.
    Broken(io::Error),
    /// The broker refused a batch; nothing more was sent.
    Refused(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Broken(error) => write!(f, "the connection broke: {error}"),
            Ended::Refused(what) => write!(f, "refused: {what}"),
        }
    }
}

impl Producer {
    pub fn new(name: String, is_idempotent: bool, choices: Choices) -> Producer {
        // Requests of one connection are served in order and nothing is sent twice out of order.
        let declared = Event::Producer { producer: name.clone(), idempotent: true, ordered: true };
        Producer {
            name,
            choices,
            identity: None,
            is_idempotent,
            sequence: 0,
            under_way: VecDeque::new(),
            events: vec![declared],
        }
    }

    /// Sends until the connection breaks, or something is refused.
    pub fn run(&mut self, round: &Round) -> Ended {
        let ended = self.send_and_receive(round);
        if !self.is_idempotent {
            self.under_way.clear();
        }
        match ended {
            Ok(refused) => Ended::Refused(refused),
            Err(error) => Ended::Broken(error),
        }
    }

    /// Returns what was refused.
    fn send_and_receive(&mut self, round: &Round) -> io::Result<String> {
        let mut connection = Connection::open(round.address)?;
        if self.is_idempotent && self.identity.is_none() {
            let (id, epoch) = connection.init_producer()?;
            self.identity = Some(Identity { id, epoch, next: BTreeMap::new() });
        }
        // What the broker may have or not have: the same again, before anything new.
        for request in &self.under_way {
            send(&mut connection, request)?;
        }
        while !self.under_way.is_empty() {
            if let Some(refused) = self.receive(&mut connection, round)? {
                return Ok(format!("sent again: {refused}"));
            }
        }
        let window = self.choices.between(1, IN_FLIGHT_MAX as u64 + 1) as usize;
        loop {
            if round.is_thrifty() {
                pause(THRIFTY_PAUSE);
            }
            while self.under_way.len() < window {
                let request = self.compose(round);
                // It counts as sent whatever comes of it.
                self.under_way.push_back(request);
                send(&mut connection, self.under_way.back().expect("just pushed"))?;
            }
            if let Some(refused) = self.receive(&mut connection, round)? {
                return Ok(refused);
            }
        }
    }

    /// A request of one to four batches for as many partitions.
    fn compose(&mut self, round: &Round) -> Vec<Batch> {
        let count = self.choices.between(1, PARTITIONS_MAX + 1);
        let mut batches: Vec<Batch> = Vec::new();
        for _ in 0..count {
            let partition = self.choices.between(0, round.partitions.len() as u64) as usize;
            let partition = &round.partitions[partition];
            if batches.iter().all(|batch| batch.partition != *partition) {
                batches.push(self.compose_batch(partition, round));
            }
        }
        batches
    }

    fn compose_batch(&mut self, partition: &Partition, round: &Round) -> Batch {
        let bytes_max = if round.is_thrifty() { THRIFTY_BYTES_MAX } else { BATCH_BYTES_MAX };
        let bytes = self.choices.spread(BATCH_BYTES_MIN, bytes_max);
        let count = self.choices.between(1, RECORDS_MAX + 1).min(bytes / BATCH_BYTES_MIN).max(1);
        let mut batch = BatchBuilder::new();
        if let Some(Identity { id, epoch, next }) = &mut self.identity {
            let next = next.entry(partition.clone()).or_default();
            batch.producer(ProducerStamp {
                id: ProducerId(*id),
                epoch: ProducerEpoch(*epoch),
                base_sequence: *next,
            });
            *next += count as i32;
        }
        let (first, mut body) = (self.sequence, Vec::new());
        for _ in 0..count {
            let name = format!("{}:{}", self.name, self.sequence);
            value::make(&name, (bytes / count) as usize, &mut body);
            batch.push(wall_ms(), None, Some(&body));
            self.events.push(Event::Invoked {
                producer: self.name.clone(),
                sequence: self.sequence,
                topic: partition.topic.clone(),
                partition: partition.index,
                value: name,
                at_ns: round.now_ns(),
            });
            self.sequence += 1;
        }
        let records = batch.finish(0, LeaderEpoch(-1));
        round.bytes_left.fetch_sub(records.len() as i64, Ordering::Relaxed);
        Batch { partition: partition.clone(), first, records, answered: false }
    }

    /// Takes one answer. Returns what was refused, if anything was.
    fn receive(&mut self, connection: &mut Connection, round: &Round) -> io::Result<Option<String>> {
        let answers = connection.receive_produced()?;
        if round.is_over.load(Ordering::SeqCst) {
            return Err(io::Error::other("answered after the cut"));
        }
        let at_ns = round.now_ns();
        let request = self.under_way.front_mut().expect("an answer to a request");
        let mut refused = None;
        for (partition, answer) in answers {
            let batch = request.iter_mut().find(|batch| batch.partition == partition);
            let Some(batch) = batch else {
                return Err(io::Error::other(format!("an answer for {partition:?}, which was not asked")));
            };
            match answer {
                Answer::Appended { base_offset } => {
                    batch.answered = true;
                    let count = corelog::record::BatchView::parse(&batch.records)
                        .expect("our own batch")
                        .record_count();
                    for n in 0..count as u64 {
                        self.events.push(Event::Acked {
                            producer: self.name.clone(),
                            sequence: batch.first + n,
                            offset: Some(base_offset + n as i64),
                            at_ns,
                        });
                    }
                    round.acknowledged.fetch_add(count as u64, Ordering::Relaxed);
                }
                // It may be in the log for all we know.
                Answer::Refused { code } => {
                    let what = format!("{} {}-{}", error_name(code), partition.topic, partition.index);
                    refused = Some(what);
                }
            }
        }
        if refused.is_none() {
            if let Some(batch) = request.iter().find(|batch| !batch.answered) {
                return Err(io::Error::other(format!("no answer for {:?}", batch.partition)));
            }
            self.under_way.pop_front();
        } else {
            request.retain(|batch| !batch.answered);
        }
        Ok(refused)
    }
}

/// The time of day: a broker forgets producers whose last records are older than `producer.id.expiration.ms`, by the
/// records' own timestamps.
fn wall_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

fn send(connection: &mut Connection, request: &[Batch]) -> io::Result<()> {
    let batches: Vec<_> = request.iter().map(|batch| (&batch.partition, &batch.records)).collect();
    connection.send_produce(&batches)
}
