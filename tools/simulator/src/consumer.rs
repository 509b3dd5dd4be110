//! A simulated consumer: fetches partitions from wherever it is, and now and then from somewhere else.

use std::collections::BTreeMap;

use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::{ApiKey, ErrorCode, Message, decode_response_header};
use corelog::reactor::sim::{ClientId, SimRandom, SimWorld};
use corelog::record::Batches;
use corelog::record::record::Records;

use crate::client::Connection;
use crate::ledger::{Ledger, Value};

pub struct Consumer {
    connection: Option<Connection>,
    positions: BTreeMap<i32, i64>,
    asked: Vec<(i32, i64)>,
    random: SimRandom,
    /// Reads everything once, from the start, and keeps it.
    pub audit: Option<BTreeMap<i32, Vec<(i64, Value)>>>,
    ends: BTreeMap<i32, i64>,
}

impl Consumer {
    pub fn new(number: u64, seed: u64) -> Consumer {
        Consumer {
            connection: None,
            positions: BTreeMap::new(),
            asked: Vec::new(),
            random: SimRandom::new(seed, 200 + number),
            audit: None,
            ends: BTreeMap::new(),
        }
    }

    pub fn auditor(partitions: i32) -> Consumer {
        let mut consumer = Consumer::new(99, 0);
        consumer.audit = Some((0..partitions).map(|partition| (partition, Vec::new())).collect());
        consumer
    }

    pub fn owns(&self, client: ClientId) -> bool {
        self.connection.as_ref().is_some_and(|c| c.id == client)
    }

    pub fn disconnected(&mut self) {
        self.connection = None;
        self.asked.clear();
        self.ends.clear();
    }

    /// An audit has read every partition to its end.
    pub fn is_done(&self, partitions: i32) -> bool {
        (0..partitions).all(|p| {
            self.ends.get(&p).is_some_and(|end| self.positions.get(&p).copied().unwrap_or(0) >= *end)
        })
    }

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
                    ledger.violations.push(format!("consumer: {what}"));
                    return self.disconnected();
                }
            },
        };
        for answer in answers {
            let (_, mut body) =
                decode_response_header(&answer.frame, answer.api, answer.version).expect("a header");
            let response = FetchResponse::decode(&mut body, answer.version).expect("a body");
            self.take(&response, ledger);
        }
        let connection = self.connection.as_mut().expect("opened above");
        if connection.in_flight() > 0 {
            return;
        }
        self.asked.clear();
        for partition in 0..partitions {
            if self.audit.is_none() && self.random.below(3) == 0 {
                continue;
            }
            let position = self.positions.get(&partition).copied().unwrap_or(0);
            let back = if self.audit.is_none() && self.random.below(8) == 0 {
                self.random.below(50) as i64
            } else {
                0
            };
            self.asked.push((partition, (position - back).max(0)));
        }
        let max_bytes = if self.random.coin() { 1 << 20 } else { 300 };
        let parts = self.asked.iter().map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: max_bytes,
            ..Default::default()
        });
        let request = FetchRequest {
            max_wait_ms: 20,
            min_bytes: if self.audit.is_some() { 0 } else { 1 },
            max_bytes: 1 << 20,
            topics: vec![FetchTopic { topic, partitions: parts.collect(), ..Default::default() }].into(),
            ..Default::default()
        };
        connection.ask(world, &request, ApiKey::Fetch, 11);
    }

    fn take(&mut self, response: &FetchResponse<'_>, ledger: &mut Ledger) {
        for part in response.responses.iter().flat_map(|topic| topic.partitions.to_vec()) {
            let partition = part.partition_index;
            if part.error_code != 0 {
                if ErrorCode::from_code(part.error_code) == Some(ErrorCode::OffsetOutOfRange) {
                    let asked =
                        self.asked.iter().find(|(p, _)| *p == partition).map_or(0, |(_, offset)| *offset);
                    let position = self.positions.entry(partition).or_insert(0);
                    if asked < ledger.deleted_below(partition) {
                        *position = (*position).max(ledger.deleted_below(partition));
                        continue;
                    }
                    ledger
                        .violations
                        .push(format!("{partition}/{position} was readable and is out of range"));
                }
                if ErrorCode::from_code(part.error_code) == Some(ErrorCode::CorruptMessage) {
                    ledger.violations.push(format!("partition {partition} is served as corrupt"));
                }
                continue;
            }
            // On one connection it does not go back; over a crash it may, as long as everything told stays readable.
            if let Some(before) = self.ends.insert(partition, part.high_watermark)
                && part.high_watermark < before
            {
                let now = part.high_watermark;
                ledger.violations.push(format!("high watermark of {partition} went from {before} to {now}"));
            }
            let asked = self.asked.iter().find(|(p, _)| *p == partition).map_or(0, |(_, offset)| *offset);
            let records = part.records.as_ref().map(|r| r.to_contiguous()).unwrap_or_default();
            for batch in Batches::new(&records) {
                let Ok(batch) = batch else { break };
                if batch.check_crc().is_err() {
                    ledger.violations.push(format!("{partition}/{}: bad checksum", batch.base_offset()));
                    break;
                }
                for record in Records::new(batch.records(), batch.record_count()) {
                    let Ok(record) = record else {
                        ledger.violations.push(format!("{partition}/{}: bad record", batch.base_offset()));
                        break;
                    };
                    let offset = batch.base_offset() + i64::from(record.offset_delta);
                    let Some(value) = record.value.and_then(Value::decode) else {
                        ledger.violations.push(format!("{partition}/{offset}: not a value of ours"));
                        continue;
                    };
                    if offset >= part.high_watermark {
                        ledger
                            .violations
                            .push(format!("{partition}/{offset} is shown above {}", part.high_watermark));
                    }
                    ledger.read(partition, offset, value);
                    let position = self.positions.entry(partition).or_insert(0);
                    if offset < asked || offset < *position && self.audit.is_some() {
                        continue;
                    }
                    if let Some(audit) = &mut self.audit {
                        audit.entry(partition).or_default().push((offset, value));
                    }
                    *position = (*position).max(offset + 1);
                }
            }
        }
    }
}
