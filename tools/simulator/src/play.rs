//! One seed: a plan drawn from it, played, and checked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corelog::model::{Monotonic, PlacementSlot, ShardId};
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use corelog::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use corelog::protocol::{ApiKey, Message, decode_response_header};
use corelog::reactor::Io;
use corelog::reactor::sim::{CrashKind, Faults, SimOptions, SimRandom, SimWorld, Turn};

use crate::client::Connection;
use crate::consumer::Consumer;
use crate::ledger::Ledger;
use crate::node::{MoveTold, Node, WRITTEN_ONCE, config};
use crate::producer::Producer;

const TOPIC: &str = "t";

const WRITE_PATHS: [&str; 4] = ["auto", "journal", "direct", "page-cache"];

/// Durabilities that acknowledge what is not flushed.
const UNFLUSHED: [&str; 2] = ["os", "interval"];

/// How often clients look again although nothing came.
const CLIENT_PAUSE: Duration = Duration::from_millis(50);

/// Virtual time after which a seed that makes no progress is a violation of liveness.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a seed plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    pub shard_count: u16,
    pub partitions: i32,
    /// Topic durability; power is cut only where it promises to survive that.
    pub durability: &'static str,
    pub crashes: u32,
    pub batches: u64,
    pub producers: u32,
    /// Storage errors in a million operations.
    pub faults: u32,
    pub segment_bytes: u64,
    pub write_path: &'static str,
    /// A small journal wraps and is checkpointed all the time.
    pub journal_bytes: u64,
    pub journal_bypass_bytes: u64,
    /// The second producer wants no answers.
    pub acks_zero: bool,
    /// Records are deleted now and then.
    pub deletes_records: bool,
    /// The disk fills up for a while in each life.
    pub fills_up: bool,
    /// The topic takes another write path now and then.
    pub switches_path: bool,
    /// Slots are moved between shards now and then.
    pub moves_slots: bool,
    /// The node moves slots itself when its shards are unevenly busy.
    pub balances: bool,
    /// Each start may have fewer shards than there are, or more than the one before.
    pub varies_shards: bool,
    /// The disk says that it flushed and did not: a check of the checks, which must then find losses.
    pub lying_disk: bool,
}

impl Plan {
    /// What is acknowledged survives the machine.
    fn is_fsync(&self) -> bool {
        self.durability == "fsync"
    }

    pub fn of_seed(seed: u64) -> Plan {
        let mut random = SimRandom::new(seed, 1);
        Plan {
            shard_count: random.between(1, 4) as u16,
            partitions: random.between(1, 6) as i32,
            durability: if random.below(4) > 0 { "fsync" } else { UNFLUSHED[seed as usize % 2] },
            crashes: random.between(1, 4) as u32,
            batches: random.between(20, 120),
            producers: random.between(1, 3) as u32,
            faults: if random.below(5) == 0 { 2000 } else { 0 },
            segment_bytes: if random.coin() { 2_000 } else { 1 << 20 },
            write_path: WRITE_PATHS[random.below(4) as usize],
            journal_bytes: if random.below(4) > 0 { 256 << 10 } else { 1 << 20 },
            journal_bypass_bytes: if random.coin() { 4096 } else { 64 << 10 },
            acks_zero: random.below(3) == 0,
            deletes_records: random.below(3) == 0,
            fills_up: random.below(4) == 0,
            switches_path: random.below(3) == 0,
            moves_slots: random.below(2) == 0,
            varies_shards: random.below(3) == 0,
            balances: random.below(3) == 0,
            lying_disk: false,
        }
    }
}

/// What came of a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub seed: u64,
    pub event_hash: u64,
    pub acknowledged: u64,
    pub read: u64,
    pub starts: u32,
    pub crashes: u32,
    pub clean_stops: u32,
    /// Slots that were moved, as far as the node lived to say so.
    pub moves: u32,
    /// Moves that the node has begun by itself.
    pub balanced: u32,
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} acknowledged, {} read, {} starts, {} crashes, {} clean stops, {} moves, {} of its own, events {:016x}",
            self.seed,
            self.acknowledged,
            self.read,
            self.starts,
            self.crashes,
            self.clean_stops,
            self.moves,
            self.balanced,
            self.event_hash
        )?;
        for violation in &self.violations {
            write!(f, "\n    {violation}")?;
        }
        Ok(())
    }
}

struct Play {
    seed: u64,
    plan: Plan,
    world: SimWorld,
    config: Arc<corelog::config::Config>,
    random: SimRandom,
    node: Option<Node>,
    ledger: Ledger,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    starts: u32,
    crashes: u32,
    clean_stops: u32,
    /// Slots that were moved, and what came of the last move asked for.
    moves: u32,
    move_told: Option<MoveTold>,
    balanced: u32,
    shards_now: u16,
}

/// Plays one seed.
pub fn run(seed: u64, plan: Plan) -> Report {
    let options = SimOptions {
        shard_count: plan.shard_count,
        wall_clock_jump: if seed.is_multiple_of(3) { Duration::from_secs(3600) } else { Duration::ZERO },
        written_once: WRITTEN_ONCE,
        ..SimOptions::default()
    };
    let settings = vec![
        "log.flush.offset.checkpoint.interval.ms=500".to_owned(),
        "log.retention.check.interval.ms=700".to_owned(),
        "message.timestamp.after.max.ms=9223372036854775807".to_owned(),
        "log.retention.ms=-1".to_owned(),
        format!("journal.size={}", plan.journal_bytes),
        format!("journal.bypass.bytes={}", plan.journal_bypass_bytes),
        format!("balancer.enable={}", plan.balances),
        "balancer.interval.ms=10".to_owned(),
        "balancer.threshold.percent=10".to_owned(),
    ];
    let settings = settings
        .into_iter()
        .filter(|s| corelog::config::parse_set(s).is_ok_and(|w| corelog::config::parse(None, &[w]).is_ok()))
        .collect::<Vec<_>>();
    let world = SimWorld::new(seed, options);
    world.set_lying(plan.lying_disk);
    let producers = (0..plan.producers)
        .map(|number| {
            let is_unanswered = plan.acks_zero && number == 1;
            Producer::new(
                number,
                number % 2 == 0,
                is_unanswered,
                plan.batches / u64::from(plan.producers),
                seed,
            )
        })
        .collect();
    let mut play = Play {
        seed,
        plan,
        world,
        config: config(&settings),
        random: SimRandom::new(seed, 2),
        node: None,
        ledger: Ledger::default(),
        producers,
        consumers: (0..2).map(|number| Consumer::new(number, seed)).collect(),
        starts: 0,
        crashes: 0,
        clean_stops: 0,
        moves: 0,
        move_told: None,
        balanced: 0,
        shards_now: plan.shard_count,
    };
    play.play();
    Report {
        seed,
        event_hash: play.world.event_hash(),
        acknowledged: play.ledger.acknowledged,
        read: play.ledger.read,
        starts: play.starts,
        crashes: play.crashes,
        clean_stops: play.clean_stops,
        moves: play.moves,
        balanced: play.balanced,
        violations: play.ledger.violations,
    }
}

impl Play {
    fn play(&mut self) {
        if !self.start() {
            return;
        }
        self.create_topic();
        let faults = Faults {
            write_error: self.plan.faults,
            // Without fsync nobody promises to hear of these before the records are gone.
            sync_error: if self.plan.is_fsync() { self.plan.faults } else { 0 },
            write_back_error: if self.plan.is_fsync() { self.plan.faults } else { 0 },
            ..Faults::default()
        };
        for _ in 0..self.plan.crashes {
            self.world.set_faults(faults);
            let life = Duration::from_millis(self.random.between(5, 400));
            self.live(life);
            self.world.set_quota(u64::MAX);
            self.end_life();
            self.world.set_faults(Faults::default());
            if !self.start() {
                return;
            }
        }
        // The faults are over: everything settles.
        let deadline = self.world.now() + PATIENCE;
        while !self.producers.iter().all(Producer::is_done) {
            if self.world.now() >= deadline {
                self.ledger.violations.push("producers do not finish after the faults are over".to_owned());
                return;
            }
            let until = self.world.now() + Duration::from_millis(100);
            if !self.serve_on_until(until) {
                return;
            }
        }
        self.audit(deadline);
        if self.ledger.acknowledged == 0 {
            self.ledger.violations.push("nothing was acknowledged: the seed shows nothing".to_owned());
        }
    }

    /// Serves for a while, with what the plan wants to happen meanwhile.
    fn live(&mut self, life: Duration) {
        let end = self.world.now() + life;
        for _ in 0..4 {
            let until = self.world.now() + life / 4;
            self.serve_until(until.min(end));
            if self.world.crashed() || self.node.as_ref().is_some_and(|node| node.failed) {
                return;
            }
            if self.plan.deletes_records {
                self.delete_records();
            }
            if self.plan.switches_path {
                self.switch_path();
            }
            if self.plan.moves_slots {
                self.move_slot();
            }
            if self.plan.fills_up {
                let free = if self.random.coin() { self.random.below(64 << 10) } else { u64::MAX / 2 };
                self.world.set_free(free);
            }
        }
    }

    /// Somebody deletes records that clients know of, and does not wait for the answer.
    fn delete_records(&mut self) {
        let partition = self.random.below(self.plan.partitions as u64) as i32;
        let offset = self.random.below(self.ledger.told_end(partition) as u64 + 1) as i64;
        self.ledger.delete_below(partition, offset);
        let part = DeleteRecordsPartition { partition_index: partition, offset };
        let topic = DeleteRecordsTopic { name: TOPIC, partitions: vec![part].into() };
        let request = DeleteRecordsRequest { topics: vec![topic].into(), timeout_ms: 30_000 };
        let port = self.node.as_ref().expect("it runs").port;
        Connection::open(&self.world, port).tell(&self.world, &request, 1);
    }

    /// Somebody wants a slot on another shard. Partitions go into the first slots, one in each.
    fn move_slot(&mut self) {
        if let Some(told) = self.move_told.take() {
            self.moves += u32::from(told.lock().expect("nobody panics with it").is_some_and(|done| done));
        }
        let slot = PlacementSlot(self.random.below(self.plan.partitions as u64 + 1) as u16);
        let core = ShardId(self.random.below(u64::from(self.shards_now)) as u16);
        let told = MoveTold::default();
        self.move_told = Some(Arc::clone(&told));
        self.node.as_mut().expect("it runs").move_slot(slot, core, told);
    }

    /// Somebody wants another write path for the topic under load, and does not wait for the answer.
    fn switch_path(&mut self) {
        let value = Some(WRITE_PATHS[self.random.below(4) as usize]);
        let config = AlterableConfig { name: "write.path", config_operation: 0, value };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: TOPIC, configs: vec![config].into() };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource].into(), validate_only: false };
        let port = self.node.as_ref().expect("it runs").port;
        Connection::open(&self.world, port).tell(&self.world, &request, 1);
    }

    /// Starts the node, again and again if the machine stops meanwhile. False: it does not come up, which is a violation.
    fn start(&mut self) -> bool {
        let mut tries = 0;
        loop {
            tries += 1;
            if tries < 3 && self.random.below(4) == 0 {
                let nth = self.random.between(1, 60);
                let kind = self.crash_kind();
                self.world.arm_crash(kind, nth);
            }
            self.starts += 1;
            let seed = self.random.word();
            // The first one formats: it has them all.
            if self.plan.varies_shards && self.starts > 1 {
                self.shards_now = self.random.between(1, u64::from(self.plan.shard_count)) as u16;
            }
            for idle in self.shards_now..self.plan.shard_count {
                self.world.io(ShardId(idle)).wait(Monotonic::NEVER);
            }
            let node = Node::start(&self.world, &self.config, self.shards_now, seed);
            self.world.disarm_crash();
            match node {
                Ok(node) if !self.world.crashed() => {
                    self.node = Some(node);
                    return true;
                }
                // A flush told of what the kernel could not write in the life before: the next start reads what is really there.
                Err(error)
                    if !self.world.crashed() && self.plan.faults > 0 && error.contains("os error 5") =>
                {
                    assert!(tries < 20, "faults end, and a node that starts comes up: {error}");
                    self.world.crash(CrashKind::ProcessKill);
                }
                Err(error) if !self.world.crashed() => {
                    self.ledger.violations.push(format!("the node does not come up again: {error}"));
                    return false;
                }
                Ok(_) | Err(_) => {}
            }
            self.crashes += 1;
            self.world.restart();
        }
    }

    fn crash_kind(&mut self) -> CrashKind {
        if self.plan.is_fsync() && self.random.coin() { CrashKind::PowerLoss } else { CrashKind::ProcessKill }
    }

    /// Ends this life of the node: a crash, or a clean stop.
    fn end_life(&mut self) {
        let failed = self.node.as_ref().is_some_and(|node| node.failed);
        if !failed && !self.world.crashed() && self.random.below(3) == 0 {
            self.stop();
        } else if !self.world.crashed() {
            let kind = if failed { CrashKind::ProcessKill } else { self.crash_kind() };
            self.world.crash(kind);
            self.crashes += 1;
        }
        self.node = None;
        if !self.world.crashed() {
            // After a clean stop the process ends, and nothing else.
            self.world.crash(CrashKind::ProcessKill);
        }
        self.world.restart();
        self.producers.iter_mut().for_each(Producer::disconnected);
        self.consumers.iter_mut().for_each(Consumer::disconnected);
    }

    fn stop(&mut self) {
        if let Some(node) = &mut self.node {
            node.stop();
        }
        let deadline = self.world.now() + PATIENCE;
        while self.node.as_ref().is_some_and(|node| !node.has_stopped()) {
            if self.world.now() >= deadline {
                self.ledger.violations.push("a clean stop does not end".to_owned());
                return;
            }
            let until = self.world.now() + Duration::from_millis(50);
            self.serve_until(until);
            if self.node.as_ref().is_some_and(|node| node.failed) {
                return;
            }
        }
        self.clean_stops += 1;
        if let Some(node) = &self.node {
            node.mark_clean(&self.world);
        }
        // What a clean stop left must be on the device, not in the page cache alone.
        if self.plan.is_fsync() {
            self.world.crash(CrashKind::PowerLoss);
        }
    }

    /// Runs node and clients until `until`, a crash, or a storage failure.
    fn serve_until(&mut self, until: Monotonic) {
        let mut look = self.world.now();
        loop {
            if self.world.now() >= look {
                look = self.world.now() + CLIENT_PAUSE;
                self.all_clients();
            }
            match self.world.next_turn(look.min(until)) {
                Turn::Shard(shard) => {
                    let node = self.node.as_mut().expect("only a running node gets turns");
                    node.turn(shard);
                    self.balanced += std::mem::take(&mut node.balanced);
                    if node.failed {
                        return;
                    }
                }
                Turn::Client(client) => self.client(client),
                Turn::Crashed => return,
                Turn::Idle if self.world.now() >= until => return,
                Turn::Idle => {}
            }
        }
    }

    /// As `serve_until` once the faults are over. A flush may still tell of what could not be written before: the process ends,
    /// and its supervisor starts it again. False: it does not come up.
    fn serve_on_until(&mut self, until: Monotonic) -> bool {
        self.serve_until(until);
        if !self.node.as_ref().is_some_and(|node| node.failed) {
            return true;
        }
        self.end_life();
        self.start()
    }

    fn all_clients(&mut self) {
        let port = self.node.as_ref().map_or(0, |node| node.port);
        let Play { world, plan, ledger, producers, consumers, .. } = self;
        for producer in producers {
            producer.go_on(world, port, plan.partitions, TOPIC, ledger);
        }
        for consumer in consumers {
            consumer.go_on(world, port, plan.partitions, TOPIC, ledger);
        }
    }

    fn client(&mut self, client: corelog::reactor::sim::ClientId) {
        let port = self.node.as_ref().map_or(0, |node| node.port);
        let Play { world, plan, ledger, producers, consumers, .. } = self;
        if let Some(producer) = producers.iter_mut().find(|producer| producer.owns(client)) {
            producer.go_on(world, port, plan.partitions, TOPIC, ledger);
        } else if let Some(consumer) = consumers.iter_mut().find(|consumer| consumer.owns(client)) {
            consumer.go_on(world, port, plan.partitions, TOPIC, ledger);
        }
    }

    fn create_topic(&mut self) {
        let segment_bytes = self.plan.segment_bytes.to_string();
        let config = |name, value| CreatableTopicConfig { name, value: Some(value) };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: TOPIC,
                num_partitions: self.plan.partitions,
                replication_factor: 1,
                configs: vec![
                    config("durability", self.plan.durability),
                    // Of `interval`: some flushes in each life.
                    config("flush.ms", "20"),
                    config("internal.segment.bytes", &segment_bytes),
                    config("index.interval.bytes", "300"),
                    config("retention.ms", "-1"),
                    config("write.path", self.plan.write_path),
                ]
                .into(),
                ..Default::default()
            }]
            .into(),
            timeout_ms: 30_000,
            ..Default::default()
        };
        let port = self.node.as_ref().expect("it has just started").port;
        let mut connection = Connection::open(&self.world, port);
        connection.ask(&self.world, &request, ApiKey::CreateTopics, 5);
        let deadline = self.world.now() + PATIENCE;
        loop {
            match self.world.next_turn(deadline) {
                Turn::Shard(shard) => self.node.as_mut().expect("it runs").turn(shard),
                Turn::Client(_) => {
                    let answers = connection.answers(&self.world).expect("the connection stays");
                    if let Some(answer) = answers.first() {
                        let (_, mut body) = decode_response_header(&answer.frame, answer.api, answer.version)
                            .expect("a header");
                        let response =
                            CreateTopicsResponse::decode(&mut body, answer.version).expect("a body");
                        let topic = response.topics.first().expect("one topic");
                        assert_eq!(
                            topic.error_code, 0,
                            "the topic cannot be made: {:?}",
                            topic.error_message
                        );
                        return;
                    }
                }
                Turn::Crashed | Turn::Idle => panic!("seed {}: the topic is not made", self.seed),
            }
        }
    }

    /// Reads all partitions from their start to their end and compares.
    fn audit(&mut self, deadline: Monotonic) {
        self.consumers = vec![Consumer::auditor(self.plan.partitions)];
        while !self.consumers[0].is_done(self.plan.partitions) {
            if self.world.now() >= deadline {
                self.ledger.violations.push("the audit does not end".to_owned());
                return;
            }
            let until = self.world.now() + Duration::from_millis(20);
            if !self.serve_on_until(until) {
                return;
            }
        }
        let audit = self.consumers[0].audit.take().expect("an auditor keeps what it reads");
        for (partition, log) in audit {
            self.ledger.compare(partition, &log, |producer| producer % 2 == 0);
        }
    }
}
