//! A simulated producer: batches to random partitions, several in flight; an idempotent one sends again what it does not
//! know the fate of, with the same sequences.

use std::collections::{BTreeMap, VecDeque};

use corelog::model::{LeaderEpoch, ProducerEpoch, ProducerId};
use corelog::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{ApiKey, ErrorCode, Message, decode_response_header};
use corelog::reactor::sim::{ClientId, SimRandom, SimWorld};
use corelog::record::{BatchBuilder, ProducerStamp};

use crate::client::{Answer, Connection};
use crate::ledger::{Ledger, Value};

/// Requests in flight on one connection; what idempotent clients keep to.
const IN_FLIGHT_MAX: usize = 5;

struct Batch {
    partition: i32,
    values: Vec<Value>,
    base_sequence: i32,
    /// The request that carries it now.
    correlation_id: Option<i32>,
}

pub struct Producer {
    number: u32,
    pub idempotent: bool,
    /// `acks=0`: it never learns what became of its batches.
    is_unanswered: bool,
    id: Option<(i64, i16)>,
    connection: Option<Connection>,
    /// Not answered yet, in the order of sending.
    batches: VecDeque<Batch>,
    sequences: BTreeMap<i32, i32>,
    numbers: BTreeMap<i32, u64>,
    made: u64,
    made_max: u64,
    /// An answer on this connection was an error: what follows it may be out of order.
    troubled: bool,
    random: SimRandom,
}

impl Producer {
    pub fn new(number: u32, idempotent: bool, is_unanswered: bool, made_max: u64, seed: u64) -> Producer {
        assert!(!(idempotent && is_unanswered), "an idempotent producer wants its answers");
        Producer {
            number,
            idempotent,
            is_unanswered,
            id: None,
            connection: None,
            batches: VecDeque::new(),
            sequences: BTreeMap::new(),
            numbers: BTreeMap::new(),
            made: 0,
            made_max,
            troubled: false,
            random: SimRandom::new(seed, 100 + u64::from(number)),
        }
    }

    pub fn owns(&self, client: ClientId) -> bool {
        self.connection.as_ref().is_some_and(|c| c.id == client)
    }

    pub fn is_done(&self) -> bool {
        self.made >= self.made_max && self.batches.is_empty()
    }

    /// The connection is gone, with the node or alone. What an idempotent producer does not know the fate of is sent again;
    /// another's is forgotten.
    pub fn disconnected(&mut self) {
        self.connection = None;
        self.troubled = false;
        for batch in &mut self.batches {
            batch.correlation_id = None;
        }
        if !self.idempotent {
            self.batches.clear();
        }
    }

    /// Takes answers and sends what may be sent.
    pub fn go_on(&mut self, world: &SimWorld, port: u16, partitions: i32, topic: &str, ledger: &mut Ledger) {
        let answers = match &mut self.connection {
            None => {
                self.connection = Some(Connection::open(world, port));
                Vec::new()
            }
            Some(connection) => match connection.answers(world) {
                Ok(answers) => answers,
                Err("closed") => return self.disconnected(),
                Err(what) => {
                    ledger.violations.push(format!("producer {}: {what}", self.number));
                    return self.disconnected();
                }
            },
        };
        for answer in answers {
            if !self.take(&answer, ledger) {
                // Whatever is still in flight has to be sent again in order: start over on another connection.
                if let Some(connection) = self.connection.take() {
                    world.client_reset(connection.id);
                }
                return self.disconnected();
            }
        }
        if self.idempotent && self.id.is_none() {
            let connection = self.connection.as_mut().expect("opened above");
            if connection.in_flight() == 0 {
                let request = InitProducerIdRequest {
                    transactional_id: None,
                    transaction_timeout_ms: 60_000,
                    ..Default::default()
                };
                connection.ask(world, &request, ApiKey::InitProducerId, 4);
            }
            return;
        }
        self.send(world, partitions, topic);
    }

    fn send(&mut self, world: &SimWorld, partitions: i32, topic: &str) {
        // Without answers nothing else would hold it back.
        let unanswered_max = self.random.below(3) as usize;
        let mut unanswered = 0;
        loop {
            let in_flight = self.connection.as_ref().map_or(0, Connection::in_flight);
            if in_flight >= IN_FLIGHT_MAX || self.is_unanswered && unanswered >= unanswered_max {
                return;
            }
            let place = match self.batches.iter().position(|batch| batch.correlation_id.is_none()) {
                Some(place) => place,
                None if self.made < self.made_max => {
                    self.make(partitions);
                    self.batches.len() - 1
                }
                None => return,
            };
            let batch = &self.batches[place];
            let mut builder = BatchBuilder::new();
            if let Some((id, epoch)) = self.id {
                builder.producer(ProducerStamp {
                    id: ProducerId(id),
                    epoch: ProducerEpoch(epoch),
                    base_sequence: batch.base_sequence,
                });
            }
            for value in &batch.values {
                builder.push(1_700_000_000_000, None, Some(&value.encode()));
            }
            let records = builder.finish(0, LeaderEpoch(-1));
            let request = ProduceRequest {
                acks: if self.is_unanswered { 0 } else { -1 },
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: topic,
                    partition_data: vec![PartitionProduceData {
                        index: batch.partition,
                        records: Some(&records),
                    }]
                    .into(),
                    ..Default::default()
                }]
                .into(),
                ..Default::default()
            };
            let connection = self.connection.as_mut().expect("sending needs a connection");
            if self.is_unanswered {
                connection.tell(world, &request, 9);
                self.batches.remove(place);
                unanswered += 1;
                continue;
            }
            let id = connection.ask(world, &request, ApiKey::Produce, 9);
            self.batches[place].correlation_id = Some(id);
        }
    }

    fn make(&mut self, partitions: i32) {
        let partition = self.random.below(partitions as u64) as i32;
        let count = self.random.between(1, 8);
        let number = self.numbers.entry(partition).or_insert(0);
        let values =
            (0..count).map(|i| Value { producer: self.number, partition, number: *number + i }).collect();
        *number += count;
        let sequence = self.sequences.entry(partition).or_insert(0);
        let base_sequence = *sequence;
        *sequence += count as i32;
        self.made += 1;
        self.batches.push_back(Batch { partition, values, base_sequence, correlation_id: None });
    }

    /// False: the connection is to be given up.
    fn take(&mut self, answer: &Answer, ledger: &mut Ledger) -> bool {
        let (_, mut body) =
            decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
        if answer.api == ApiKey::InitProducerId {
            let response = InitProducerIdResponse::decode(&mut body, answer.version).expect("a body");
            if response.error_code == 0 {
                self.id = Some((response.producer_id, response.producer_epoch));
            }
            return true;
        }
        let response = ProduceResponse::decode(&mut body, answer.version).expect("a body");
        let place = self.batches.iter().position(|b| b.correlation_id == Some(answer.correlation_id));
        let place = place.expect("an answer to a batch in flight");
        let part = response.responses.first().and_then(|t| t.partition_responses.first()).expect("one part");
        let error = ErrorCode::from_code(part.error_code);
        if part.error_code == 0 {
            let batch = self.batches.remove(place).expect("it was found");
            for (offset, value) in (part.base_offset..).zip(batch.values) {
                ledger.acknowledge(offset, value);
            }
            return true;
        }
        if error == Some(ErrorCode::OutOfOrderSequenceNumber) && ledger.deleted_below(part.index) > 0 {
            // Of a batch whose records are deleted a start remembers nothing, unless it is its producer's last.
            self.batches.remove(place);
            return false;
        }
        if matches!(error, Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch))
            && !self.troubled
        {
            ledger.violations.push(format!("producer {} is refused: {error:?}", self.number));
        }
        self.troubled = true;
        if self.idempotent {
            return false;
        }
        self.batches.remove(place);
        true
    }
}
