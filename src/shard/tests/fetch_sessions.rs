//! Fetch sessions on the model, against fetches without one: a session may look at what has changed alone, its answers are those
//! of one that looks at everything.

use super::per_core::move_slot;
use super::*;
use crate::protocol::Reader;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::protocol::messages::fetch::ForgottenTopic;

const TOPICS: [(&str, i32); 2] = [("a", 6), ("b", 4)];
const STEPS: usize = 150;
const KINDS: usize = 40;
const KINDS_WHILE_WAITING: usize = 37;

/// One partition as its consumer knows it.
#[derive(Clone, Debug)]
struct Known {
    topic: &'static str,
    topic_id: Uuid,
    partition: i32,
    offset: i64,
    /// High watermark and log start; `None`: nothing, or an error.
    told: Option<(i64, i64)>,
}

impl Known {
    fn is(&self, row: &Row) -> bool {
        self.partition == row.partition
            && (self.topic_id == row.topic_id || !row.topic.is_empty() && self.topic == row.topic)
    }
}

/// What an answer says of one partition.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    topic: String,
    topic_id: Uuid,
    partition: i32,
    error: ErrorCode,
    offsets: (i64, i64),
    records: Vec<u8>,
}

/// How much a fetch wants, and how long it waits.
#[derive(Clone, Copy)]
struct Limits {
    max_bytes: i32,
    max_wait_ms: i32,
}

struct Session {
    version: i16,
    id: i32,
    epoch: i32,
    /// In the order of the session, as Kafka has it.
    parts: Vec<Known>,
}

impl Session {
    fn request<'a>(
        &self,
        epoch: i32,
        named: &'a [Known],
        forgotten: &'a [Known],
        limits: Limits,
    ) -> FetchRequest<'a> {
        let topic = |known: &Known| FetchTopic {
            topic: known.topic,
            topic_id: known.topic_id,
            partitions: vec![FetchPartition {
                partition: known.partition,
                fetch_offset: known.offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }]
            .into(),
        };
        let forget = |known: &'a Known| ForgottenTopic {
            topic: known.topic,
            topic_id: known.topic_id,
            partitions: vec![known.partition].into(),
        };
        FetchRequest {
            max_wait_ms: limits.max_wait_ms,
            min_bytes: 1,
            max_bytes: limits.max_bytes,
            session_id: if epoch > 0 { self.id } else { 0 },
            session_epoch: epoch,
            topics: named.iter().map(topic).collect::<Vec<_>>().into(),
            forgotten_topics_data: forgotten.iter().map(forget).collect::<Vec<_>>().into(),
            ..Default::default()
        }
    }

    fn rows(&self, body: &[u8]) -> (i32, Vec<Row>) {
        let response = FetchResponse::decode(&mut Reader::new(body), self.version).unwrap();
        assert_eq!(response.error_code, 0);
        let mut rows = Vec::new();
        for topic in response.responses.to_vec() {
            for part in topic.partitions.to_vec() {
                // A session knows the name that an id had; a fetch without one does not.
                let error = match ErrorCode::from_code(part.error_code).unwrap() {
                    ErrorCode::InconsistentTopicId => ErrorCode::UnknownTopicId,
                    error => error,
                };
                rows.push(Row {
                    topic: topic.topic.to_string(),
                    topic_id: topic.topic_id,
                    partition: part.partition_index,
                    error,
                    offsets: (part.high_watermark, part.log_start_offset),
                    records: part.records.map_or(Vec::new(), |records| records.to_contiguous().to_vec()),
                });
            }
        }
        (response.session_id, rows)
    }

    /// What an answer of the session has to hold, by a fetch of everything it has: all that has records, an error, or offsets
    /// that the client was not told.
    fn expected(&self, bench: &mut Bench, client: &mut Client, limits: Limits) -> Vec<Row> {
        let limits = Limits { max_wait_ms: 0, ..limits };
        let body = client.ask(bench, &self.request(-1, &self.parts, &[], limits), self.version);
        let (id, rows) = self.rows(&body);
        assert_eq!((id, rows.len()), (0, self.parts.len()));
        let is_new = |(row, known): &(Row, &Known)| {
            let is_told = known.told == Some(row.offsets);
            !row.records.is_empty() || row.error != ErrorCode::None || !is_told
        };
        rows.into_iter().zip(&self.parts).filter(is_new).map(|(row, _)| row).collect()
    }

    /// Takes an answer over as Kafka and its client would; returns whom it brought records.
    fn take(&mut self, rows: &[Row]) -> Vec<Known> {
        let mut advanced = Vec::new();
        for row in rows {
            let place = self.parts.iter().position(|known| known.is(row)).expect("it is in the session");
            let known = &mut self.parts[place];
            known.told = (row.error == ErrorCode::None).then_some(row.offsets);
            if !row.records.is_empty() {
                let known = self.parts.remove(place);
                advanced.push(Known { offset: row.offsets.0, ..known.clone() });
                self.parts.push(known);
            }
        }
        advanced
    }
}

struct Play {
    bench: Bench,
    random: Random,
    admin: Client,
    made: usize,
}

impl Play {
    fn below(&mut self, bound: usize) -> usize {
        (self.random.word() % bound as u64) as usize
    }

    fn make(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() };
        self.admin.make(&mut self.bench, &request);
    }

    fn id_of(&self, topic: &str) -> Uuid {
        self.bench.shards[0].0.image().topic(topic).unwrap().id
    }

    /// A place where a client may go on in a partition: its start or end, seldom one that may be gone.
    fn somewhere(&mut self, topic: &'static str, partition: i32) -> Known {
        let topic_id = self.id_of(topic);
        let owner = self.bench.shards.iter().find_map(|(shard, ..)| {
            let index = shard.partitions.find(topic_id, partition)?;
            Some(shard.partitions.get(index))
        });
        let replica = owner.expect("a shard has it");
        let offsets = [replica.log().log_start_offset(), replica.high_watermark(), 0];
        let offset = offsets[[0, 0, 0, 0, 1, 1, 1, 1, 1, 2][self.below(10)]];
        Known { topic, topic_id, partition, offset, told: None }
    }

    fn produce(&mut self, topic: &str, partition: i32) {
        let mut batch = BatchBuilder::new();
        batch.push(1_700_000_000_000, None, Some(&[7; 100]));
        let records = batch.finish(0, LeaderEpoch(-1));
        let data = PartitionProduceData { index: partition, records: Some(&records) };
        let topic = TopicProduceData { name: topic, partition_data: vec![data].into(), ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic].into(),
            ..Default::default()
        };
        self.admin.send(&self.bench, &request, 9);
        assert_eq!(self.admin.produced(&mut self.bench), Some(ErrorCode::None));
    }

    /// Something happens to a partition, or to all of them: one of so many `kinds`.
    fn change(&mut self, kinds: usize) {
        let (topic, partitions) = TOPICS[self.below(2)];
        let partition = self.below(partitions as usize) as i32;
        match self.below(kinds) {
            0..28 => self.produce(topic, partition),
            28..36 => {
                // Up to the high watermark.
                let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset: -1 }];
                let topics = vec![DeleteRecordsTopic { name: topic, partitions: partitions.into() }];
                let request = DeleteRecordsRequest { topics: topics.into(), timeout_ms: 30_000 };
                self.admin.ask(&mut self.bench, &request, 2);
            }
            36 => {
                self.made += 1;
                let name = format!("other-{}", self.made);
                self.make(&name, 1);
            }
            37 => {
                self.admin.ask(&mut self.bench, &delete("b"), 6);
                self.make("b", TOPICS[1].1);
            }
            _ => {
                let slot = self.bench.shards[0].0.image().partition(topic, partition).unwrap().slot;
                let core = self.below(2) as u16;
                // It may be there already.
                let _ = move_slot(&mut self.bench, slot, core);
            }
        }
    }
}

/// Plays a session among changes of all kinds. Returns how many answers left something out, and how many were waited for.
fn play(seed: u64, version: i16) -> (usize, usize) {
    let bench = Bench::of_seed(seed, 2, SimOptions::default());
    let mut play = Play {
        admin: Client { id: bench.world.connect(bench.ports[0]), received: Vec::new() },
        bench,
        random: Random::new(seed),
        made: 0,
    };
    TOPICS.iter().for_each(|(name, partitions)| play.make(name, *partitions));
    let (mut consumer, mut reference) = (play.bench.client(), play.bench.client());
    let mut session = Session { version, id: 0, epoch: 0, parts: Vec::new() };
    for (topic, partitions) in TOPICS {
        let topic_id = play.id_of(topic);
        let known = |partition| Known { topic, topic_id, partition, offset: 0, told: None };
        session.parts.extend((0..partitions).map(known));
    }
    let limits = Limits { max_bytes: 1 << 20, max_wait_ms: 0 };
    let body = consumer.ask(&mut play.bench, &session.request(0, &session.parts, &[], limits), version);
    let (id, rows) = session.rows(&body);
    assert!(id > 0 && rows.len() == session.parts.len(), "a full fetch names everything");
    let mut named = session.take(&rows);
    session.id = id;
    let mut gone: Vec<Known> = Vec::new();
    let (mut left_out, mut waited) = (0, 0);
    for step in 0..STEPS {
        session.epoch += 1;
        for _ in 0..play.below(3) {
            play.change(KINDS);
        }
        // The client may stay where it is, start anew, take something up or leave it.
        named.retain(|_| play.below(10) > 0);
        if play.below(4) == 0 {
            let (topic, partitions) = TOPICS[play.below(2)];
            let partition = play.below(partitions as usize) as i32;
            let any = play.somewhere(topic, partition);
            let is_named = |known: &Known| known.topic == any.topic && known.partition == any.partition;
            named.retain(|known| !is_named(known));
            named.push(any);
        }
        let mut forgotten = std::mem::take(&mut gone);
        if session.parts.len() > 3 && play.below(5) == 0 {
            let known = session.parts.remove(play.below(session.parts.len()));
            named.retain(|other| (other.topic, other.partition) != (known.topic, known.partition));
            forgotten.push(known);
        }
        for wanted in &named {
            let is_it = |known: &&mut Known| match version {
                13.. => (known.topic_id, known.partition) == (wanted.topic_id, wanted.partition),
                _ => (known.topic, known.partition) == (wanted.topic, wanted.partition),
            };
            match session.parts.iter_mut().find(is_it) {
                Some(known) => (known.offset, known.topic_id) = (wanted.offset, wanted.topic_id),
                None => session.parts.push(Known { told: None, ..wanted.clone() }),
            }
        }
        let max_bytes = [1, 300, 1 << 20, 1 << 20, 1 << 20][play.below(5)];
        let limits = Limits { max_bytes, max_wait_ms: 20_000 };
        let mut expected = session.expected(&mut play.bench, &mut reference, limits);
        let request = session.request(session.epoch, &named, &forgotten, limits);
        consumer.send(&play.bench, &request, version);
        let is_quiet = |row: &Row| row.records.is_empty() && row.error == ErrorCode::None;
        if expected.iter().all(is_quiet) {
            // It waits: for whatever comes to one of its partitions.
            let long_enough = Duration::from_millis(5);
            let any = |bench: &mut Bench| !bench.world.client_received(consumer.id).is_empty();
            assert!(!play.bench.run_until(long_enough, any), "seed {seed}, step {step}: it does not wait");
            loop {
                // A topic that goes, or a slot that moves, ends the wait halfway through.
                play.change(KINDS_WHILE_WAITING);
                expected = session.expected(&mut play.bench, &mut reference, limits);
                if !expected.iter().all(is_quiet) {
                    break;
                }
            }
            waited += 1;
        }
        let answer = consumer.answer(&mut play.bench).expect("it is answered");
        let (_, body) = decode_response_header(&answer, ApiKey::Fetch, version).unwrap();
        let (id, rows) = session.rows(body.remaining());
        assert_eq!(id, session.id);
        assert_eq!(rows, expected, "seed {seed}, step {step}");
        left_out += usize::from(rows.len() < session.parts.len());
        named = session.take(&rows);
        for row in rows.iter().filter(|row| row.error != ErrorCode::None) {
            let known =
                session.parts.iter().find(|known| known.is(row)).expect("it is in the session").clone();
            if known.topic_id == play.id_of(known.topic) {
                named.push(play.somewhere(known.topic, known.partition));
            } else {
                // By id it is another partition now, by name the same.
                let place = session.parts.iter().position(|known| known.is(row)).expect("it was there");
                if version >= 13 {
                    gone.push(session.parts.remove(place));
                }
                named.push(play.somewhere(known.topic, known.partition));
            }
        }
    }
    (left_out, waited)
}

#[test]
fn a_session_tells_what_a_fetch_of_everything_would_find_new() {
    for seed in 0..8 {
        let version = if seed % 2 == 0 { 12 } else { 13 };
        let (left_out, waited) = play(seed, version);
        assert!(left_out > STEPS / 2 && waited > 10, "seed {seed}: {left_out} and {waited} of {STEPS}");
    }
}
