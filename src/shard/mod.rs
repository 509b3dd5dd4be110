//! One data core: owns the state of all its rooms and runs the loop that carries effects between them.
//!
//! *Owns* connections, partitions, pending requests, sessions, the group seat, timers; on shard 0 the controller seat and the
//! metadata log too. *Never* blocks, takes a lock or formats a log line once it serves. Read [`Shard::turn`] first: it is the
//! whole life of a data core. The same code runs on the kernel's ring (`run`) and on the seeded model (`tools/simulator`).

mod background;
pub mod boot;
mod event;
mod failure;
mod image;
mod loads;
mod moves;
mod run;
mod seats;
mod stop;

use std::sync::Arc;
use std::time::Duration;

pub use boot::{
    BootError, BootInput, BootStep, LeftBehind, MetadataRecovered, admission, boot, format_added_directory,
    format_directory, read_meta_properties, recover_metadata, sweep, take_over,
};
use event::Finished;
pub use event::{Command, ShardEvent};
pub use run::{run, wait};

use crate::buffer::take_copied;
use crate::config::Config;
use crate::controller::Registration;
use crate::log::Now;
use crate::mesh::{Mesh, Message, SessionPart};
use crate::metadata::Image;
use crate::metrics::{
    Activity, Counter, Gauge, Meter, PartitionReport, Phase, ShardReport, SlowRequest, SlowRequests, Timed,
};
use crate::model::{Monotonic, ShardId};
use crate::net::{
    ConnectionId, Connections, Entrance, ROUND_REQUEST_BYTES_MAX, TURN_REQUEST_BYTES_MAX, Taken,
};
use crate::partition::{JournalNumbers, PartitionEvent, PartitionSet, ReplicaIndex, Waiter};
use crate::reactor::{Completion, Io, Job, Operation, Outcome, Room, Timers, Token};
use crate::server::{
    self, ControllerSeat, FetchSessions, GroupSeat, JobFor, PendingTable, Random, Scratch, ServerStats,
    ServerTimer,
};
use crate::trace;
use background::ShardTimer;
use stop::StopStage;

/// Rounds of settling inside one turn. Each round exists because the one before made new work (an append that completes a
/// decision that makes an image); more than this many is a loop.
const SETTLE_ROUNDS_MAX: usize = 64;

/// All state of one data core.
pub struct Shard {
    pub id: ShardId,
    config: Arc<Config>,
    image: Arc<Image>,
    connections: Connections,
    partitions: PartitionSet,
    pending: PendingTable,
    sessions: FetchSessions,
    groups: GroupSeat,
    controller: Option<ControllerSeat>,
    /// The replica of the metadata log, on shard 0.
    metadata_log: Option<ReplicaIndex>,
    server_timers: Timers<ServerTimer>,
    timers: Timers<ShardTimer>,
    random: Random,
    jobs: Vec<(JobFor, Job)>,
    running_jobs: event::RunningJobs,
    stats: ServerStats,
    scratch: Scratch,
    meter: Meter,
    slow: SlowRequests,
    /// What the meter was told of the ring.
    enters: u64,
    /// Connections that the reactor had no place for, at the last publication.
    refused: u64,
    /// What the meter was told of the journals.
    journal_numbers: JournalNumbers,
    completions: Vec<Completion>,
    doorbells: Vec<ShardId>,
    /// What the control thread is told: log lines, readiness, failures.
    events: Vec<ShardEvent>,
    /// Images that came while an earlier one was being applied.
    images: image::ImageQueue,
    /// A slot on its way from or to this shard.
    moves: moves::Moves,
    loads_told: loads::LoadsTold,
    stop: StopStage,
    stopped_peers: usize,
    entrances: Vec<Entrance>,
    /// The image the shard was booted with. It knows this process from before, or not at all.
    boot_version: u64,
    /// How this process is announced.
    registration: Registration,
}

/// The rooms of the shard as the server sees them, for one request.
macro_rules! context {
    ($shard:expr, $io:expr, $mesh:expr) => {
        $crate::shard::context!($shard, $io, $mesh, $crate::log::Now::read($io))
    };
    ($shard:expr, $io:expr, $mesh:expr, $now:expr) => {{
        let now: $crate::log::Now = $now;
        $crate::server::Context {
            shard: $shard.id,
            now: now.monotonic,
            wall: now.wall,
            clock: $shard.config.stages_are_timed.then_some(&*$io),
            config: &$shard.config,
            image: &$shard.image,
            connections: &mut $shard.connections,
            partitions: &mut $shard.partitions,
            pending: &mut $shard.pending,
            sessions: &mut $shard.sessions,
            groups: &mut $shard.groups,
            controller: $shard.controller.as_mut(),
            mesh: $mesh,
            timers: &mut $shard.server_timers,
            random: &mut $shard.random,
            jobs: &mut $shard.jobs,
            stats: &mut $shard.stats,
            scratch: &mut $shard.scratch,
        }
    }};
}
pub(crate) use context;

impl Shard {
    /// One round of the loop: everything that can be done without waiting, in bounded phases. Where a phase has nothing to do,
    /// reading the clock would be most of it: it is told to have taken no time.
    pub fn turn(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        let began = io.now();
        let mut clock = RoundClock(began);
        self.partitions.heed_failures();
        self.reap(io, mesh, began);
        clock.end(&self.meter, Phase::Reap, io.now());
        let had_mail = self.drain_mailboxes(io, mesh);
        clock.end_of(&self.meter, Phase::Mailboxes, had_mail, io);
        let is_due = self.next_deadline() <= clock.0;
        if is_due {
            self.fire_timers(io, mesh, clock.0);
        }
        clock.end_of(&self.meter, Phase::Timers, is_due, io);
        let had_input = self.connections.has_input();
        self.handle_requests(io, mesh);
        clock.end_of(&self.meter, Phase::Requests, had_input, io);
        self.settle(io, mesh);
        clock.end(&self.meter, Phase::Commit, io.now());
        self.connections.flush(io, clock.0);
        self.forget_orphans(io, mesh);
        clock.end(&self.meter, Phase::Sends, io.now());
        let mut doorbells = std::mem::take(&mut self.doorbells);
        mesh.publish(&mut doorbells);
        let rings = !doorbells.is_empty();
        for shard in doorbells.drain(..) {
            io.ring_doorbell(shard);
        }
        self.doorbells = doorbells;
        clock.end_of(&self.meter, Phase::Doorbells, rings, io);
        self.meter.add(Counter::Rounds, 1);
        self.meter.round(clock.0.since(began));
        self.publish_numbers(io, clock.0);
    }

    /// Work is left that no completion will announce: the loop goes on without sleeping.
    pub fn has_work(&self) -> bool {
        (self.connections.has_input() && self.stop == StopStage::Running)
            || self.connections.has_sends()
            || self.partitions.has_events()
            || self.partitions.has_reads_to_begin()
    }

    /// When the loop has to go on at the latest.
    pub fn next_deadline(&self) -> Monotonic {
        let timers = [self.server_timers.next_deadline(), self.timers.next_deadline()];
        let rooms = [self.partitions.next_deadline(), self.groups.next_deadline()];
        timers.into_iter().chain(rooms).flatten().min().unwrap_or(Monotonic::NEVER)
    }

    /// Log lines and state changes for the control thread.
    pub fn take_events(&mut self) -> Vec<ShardEvent> {
        std::mem::take(&mut self.events)
    }

    /// Starts to accept connections, now or with the first image: the shard is recovered and so are all others. Whoever
    /// connects before waits in the kernel's queue: a client that is told of no broker does not ask again for minutes.
    pub fn serve(&mut self, io: &mut dyn Io, entrances: Vec<Entrance>) {
        self.entrances = entrances;
        if self.is_registered() {
            self.open_entrances(io);
        }
    }

    fn open_entrances(&mut self, io: &mut dyn Io) {
        self.entrances.iter().for_each(|entrance| self.connections.listen(io, *entrance));
    }

    /// The image has this process as it is now: its registration is the first entry after boot.
    fn is_registered(&self) -> bool {
        self.image.version > self.boot_version
    }

    /// The shard's numbers, for whoever reads them from another thread.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    fn publish_numbers(&mut self, io: &dyn Io, now: Monotonic) {
        let stats = &mut self.stats;
        self.meter.add(Counter::Requests, std::mem::take(&mut stats.requests));
        self.meter.add(Counter::ConnectionsMalformed, std::mem::take(&mut stats.malformed));
        for duration in stats.hops.drain(..) {
            self.meter.hop(duration);
        }
        self.publish_replied(io);
        self.connections.turn_busiest(now);
        self.partitions.turn_busiest(now);
        let net = self.connections.take_counts();
        let refused = io.refused();
        let beyond = refused - std::mem::replace(&mut self.refused, refused);
        self.meter.add(Counter::ConnectionsAccepted, net.accepted + beyond);
        self.meter.add(Counter::ConnectionsRefused, net.refused + beyond);
        self.meter.add(Counter::ConnectionsIdle, net.idle);
        self.meter.add(Counter::ReceivedBytes, net.received_bytes);
        self.meter.add(Counter::SentBytes, net.sent_bytes);
        self.meter.add(Counter::Sends, net.sends);
        self.meter.add(Counter::CopiedBytes, take_copied());
        let enters = io.enters();
        self.meter.add(Counter::RingEnters, enters - std::mem::replace(&mut self.enters, enters));
        let appended = self.partitions.take_counts();
        self.meter.add(Counter::AppendedBatches, appended.batches);
        self.meter.add(Counter::AppendedRecords, appended.records);
        self.meter.add(Counter::AppendedBytes, appended.bytes);
        self.meter.add(Counter::DuplicateBatches, appended.duplicates);
        let read = self.partitions.take_read_counts();
        self.meter.add(Counter::FetchParts, read.parts);
        self.meter.add(Counter::MemoryReads, read.memory);
        self.meter.add(Counter::MemoryReadBytes, read.memory_bytes);
        self.meter.add(Counter::DiskReads, read.disk);
        self.meter.add(Counter::DiskReadBytes, read.disk_bytes);
        self.meter.add(Counter::PipedBytes, read.piped_bytes);
        self.meter.add(Counter::DiskReadsWaitedUs, read.waited_us);
        let scrubbed = self.partitions.take_scrub_counts();
        self.meter.add(Counter::ScrubBytes, scrubbed.bytes);
        self.meter.add(Counter::ScrubDamaged, scrubbed.damaged);
        self.meter.add(Counter::ReadErrors, scrubbed.read_errors);
        if let Some(seat) = &mut self.controller {
            let moves = seat.take_move_counts();
            self.meter.add(Counter::SlotMoves, moves.done);
            self.meter.add(Counter::BalancerMoves, moves.balanced);
        }
        self.publish_journal_numbers();
        let oldest = io.oldest_file_operation().map_or(Duration::ZERO, |since| now.since(since));
        self.meter.set(Gauge::OldestFileOperationMs, oldest.as_millis() as u64);
        self.meter.set(Gauge::PendingRequests, self.pending.len() as u64);
        let (read_bytes, reads_waiting) = self.partitions.disk_reads();
        self.meter.set(Gauge::ReadBytes, read_bytes as u64);
        self.meter.set(Gauge::ReadsWaiting, reads_waiting as u64);
        let (old_files, old_files_closed) = self.partitions.old_file_counts();
        self.meter.set(Gauge::OldFiles, old_files as u64);
        self.meter.add(Counter::OldFilesClosed, old_files_closed);
        self.meter.set(Gauge::TailCacheBytes, self.partitions.tail_cache_bytes() as u64);
        self.meter.set(Gauge::ReplyBytes, self.connections.unsent_bytes() as u64);
        self.meter.set(Gauge::Connections, self.connections.open_count() as u64);
        self.meter.set(Gauge::OperationsInFlight, io.in_flight() as u64);
        self.meter.set(Gauge::FetchSessions, self.sessions.len() as u64);
        self.meter.set(Gauge::Partitions, self.partitions.len() as u64);
        self.meter.set(Gauge::MetadataVersion, self.image.version);
    }

    /// Requests that were answered in this round.
    fn publish_replied(&mut self, io: &dyn Io) {
        let mut replied = self.connections.take_replied();
        for (connection, timed) in replied.drain(..) {
            self.meter.timed(&timed);
            if self.slow.is_slow(&timed) {
                self.keep_slow(io, connection, timed);
            }
        }
        self.connections.give_back_replied(replied);
    }

    fn keep_slow(&mut self, io: &dyn Io, connection: ConnectionId, timed: Timed) {
        let us = timed.clock.total().as_micros() as u64;
        let about = [timed.api_key as u64, timed.correlation_id as u64, us];
        trace::event(io.now(), "shard: slow reply (api, correlation, microseconds)", about);
        let Some(connection) = self.connections.get_mut(connection) else { return };
        let named = |(id, partition)| Some((Arc::clone(&self.image.topic_by_id(id)?.name), partition));
        self.slow.keep(SlowRequest {
            at: io.wall_clock(),
            timed,
            client_id: connection.client_id.clone(),
            peer: connection.peer,
            partition: timed.partition.and_then(named),
        });
    }

    /// Who is busy here, and what was slow.
    fn activity(&mut self, now: Monotonic) -> Activity {
        self.connections.turn_busiest(now);
        self.partitions.turn_busiest(now);
        let (partitions, window) = self.partitions.busiest();
        let (clients, slow) = (self.connections.busiest(), self.slow.iter().cloned().collect());
        Activity { shard: self.id, window, partitions, clients, slow_request: self.slow.threshold(), slow }
    }

    fn publish_journal_numbers(&mut self) {
        let now = self.partitions.journal_numbers();
        let before = std::mem::replace(&mut self.journal_numbers, now);
        let added = [
            (Counter::JournalGroups, now.counts.groups, before.counts.groups),
            (Counter::JournalEntries, now.counts.entries, before.counts.entries),
            (Counter::JournalEntryBytes, now.counts.entry_bytes, before.counts.entry_bytes),
            (Counter::JournalWrittenBytes, now.counts.written_bytes, before.counts.written_bytes),
            (Counter::JournalCheckpoints, now.counts.checkpoints, before.counts.checkpoints),
            (Counter::JournalFlushes, now.counts.flushes, before.counts.flushes),
            (Counter::MappedGroups, now.mapped.counts.groups, before.mapped.counts.groups),
            (Counter::MappedEntryBytes, now.mapped.counts.entry_bytes, before.mapped.counts.entry_bytes),
            (Counter::MappedCheckpoints, now.mapped.counts.checkpoints, before.mapped.counts.checkpoints),
            (Counter::SegmentFlushes, now.segment_flushes, before.segment_flushes),
            (Counter::FileSystemFlushes, now.file_system_flushes, before.file_system_flushes),
            (Counter::JournalWaits, now.waits, before.waits),
            (Counter::JournalWaitedUs, now.waited.as_micros() as u64, before.waited.as_micros() as u64),
        ];
        for (counter, now, before) in added {
            // A stop closes the journals, and their numbers with them.
            self.meter.add(counter, now.saturating_sub(before));
        }
        self.meter.set(Gauge::MappedUsedBytes, now.mapped.used_bytes);
        self.meter.set(Gauge::MappedCapacityBytes, now.mapped.capacity_bytes);
        self.meter.set(Gauge::JournalUsedBytes, now.used_bytes);
        self.meter.set(Gauge::JournalCapacityBytes, now.capacity_bytes);
        self.meter.set(Gauge::JournalPinnedBytes, now.pinned_bytes);
    }

    /// What the shard holds at this moment, for `/state`.
    fn report(&self) -> ShardReport {
        let partition = |replica: &crate::partition::Replica| PartitionReport {
            topic: Arc::clone(&replica.at().topic),
            partition: replica.at().partition,
            durability: replica.config().durability,
            log_start_offset: replica.log().log_start_offset(),
            flushed_offset: replica.log().flushed_offset(),
            high_watermark: replica.high_watermark(),
            log_end_offset: replica.log().log_end_offset(),
            size_bytes: replica.log().size_bytes(),
            segments: replica.log().segment_count(),
            is_offline: replica.log().offline().is_some(),
        };
        let offline = |replica: &crate::partition::OfflineReplica| PartitionReport {
            topic: Arc::clone(&replica.at.topic),
            partition: replica.at.partition,
            durability: replica.config.durability,
            log_start_offset: -1,
            flushed_offset: -1,
            high_watermark: -1,
            log_end_offset: -1,
            size_bytes: 0,
            segments: 0,
            is_offline: true,
        };
        let served = self.partitions.served().map(|(_, replica)| partition(replica));
        let partitions = served.chain(self.partitions.iter_offline().map(offline)).collect();
        ShardReport { shard: self.id, partitions, groups: self.groups.report() }
    }

    pub fn stats(&self) -> &ServerStats {
        &self.stats
    }

    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    pub fn partitions(&self) -> &PartitionSet {
        &self.partitions
    }

    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    fn reap(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, now: Monotonic) {
        let mut completions = std::mem::take(&mut self.completions);
        io.reap(&mut completions);
        for completion in completions.drain(..) {
            match completion.token.room {
                Room::Net => {
                    if let Err(error) = self.connections.complete(io, completion, now) {
                        self.events.push(ShardEvent::AcceptFailed(error));
                    }
                }
                Room::Log => self.partitions.complete(io, completion, now),
                Room::Shard => {
                    let Outcome::Job(result) = completion.outcome else {
                        panic!("only jobs are the shard's own operations")
                    };
                    match self.running_jobs.finish(completion.token.value, result) {
                        Finished::Reply { ticket, body } => {
                            context!(self, io, mesh).answer(ticket, Some(body));
                        }
                        Finished::Groups { partition, batches } => self.groups_read(io, partition, batches),
                    }
                }
            }
        }
        self.completions = completions;
        for ticket in self.connections.take_unheard() {
            server::client_ended(&mut context!(self, io, mesh), ticket);
        }
    }

    /// Whether there was any message.
    fn drain_mailboxes(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) -> bool {
        let mut count = 0;
        while let Some((from, message)) = mesh.receive() {
            count += 1;
            let now = Now::read(io);
            trace::event(now.monotonic, "mesh: message (from)", [u64::from(from.0), 0, 0]);
            let left = server::take_message(&mut context!(self, io, mesh, now), from, message);
            match left {
                None => {}
                Some(Message::Image(image)) => self.take_image(image),
                Some(Message::ImageApplied { version }) => self.image_applied(io, mesh, from, version),
                Some(Message::SlotLeft(_)) => self.slot_left(),
                Some(Message::SlotLoads(loads)) => self.loads_came(from, &loads),
                Some(Message::SlotHandedOver(handed)) => self.slot_handed_over(handed),
                // It only wakes: what has failed stands in the set of directories.
                Some(Message::DirectoryFailed) => {}
                Some(Message::Stopped) => self.peer_stopped(),
                Some(_) => panic!("a message that nobody takes"),
            }
        }
        if count > 0 {
            self.meter.add(Counter::MeshMessages, count);
            self.meter.mailbox(count);
        }
        count > 0
    }

    fn fire_timers(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, now: Monotonic) {
        while let Some(timer) = self.server_timers.pop_due(now) {
            server::timer_fired(&mut context!(self, io, mesh), timer);
        }
        while let Some(timer) = self.timers.pop_due(now) {
            self.background(io, mesh, timer);
        }
        self.partitions.fire_timers(now);
        self.groups.fire_timers(Now::read(io));
    }

    /// Splits what arrived into frames and hands them to the server. A full mesh towards any shard stops the intake: the
    /// buffers stay lent, the kernel runs out of them, and the pressure reaches the clients. Connections take turns, each with
    /// some bytes, until the round has enough: nobody waits for all that another has sent.
    fn handle_requests(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        if self.stop != StopStage::Running {
            return;
        }
        let mut turns = self.connections.open_count() + 1;
        let mut round_bytes = 0;
        while turns > 0
            && round_bytes < ROUND_REQUEST_BYTES_MAX
            && !mesh.is_congested()
            && let Some(id) = self.connections.take_readable()
        {
            turns -= 1;
            let mut turn_bytes = 0;
            let Some(mut reading) = self.connections.start_reading(id) else { continue };
            let limits = self.connections.limits();
            if self.connections.get_mut(id).is_some_and(|connection| connection.is_full(&limits)) {
                self.connections.finish_reading(io, reading, None, false);
                continue;
            }
            let (now, wall) = (io.now(), io.wall_clock());
            let result = reading.frames(io, |input| {
                turn_bytes += input.frame.bytes().len();
                let mut ctx = server::Context {
                    shard: self.id,
                    now,
                    wall,
                    clock: self.config.stages_are_timed.then_some(input.io),
                    config: &self.config,
                    image: &self.image,
                    connections: &mut self.connections,
                    partitions: &mut self.partitions,
                    pending: &mut self.pending,
                    sessions: &mut self.sessions,
                    groups: &mut self.groups,
                    controller: self.controller.as_mut(),
                    mesh,
                    timers: &mut self.server_timers,
                    random: &mut self.random,
                    jobs: &mut self.jobs,
                    stats: &mut self.stats,
                    scratch: &mut self.scratch,
                };
                server::take_frame(&mut ctx, input.connection, &input.frame, input.received);
                let full = ctx.connections.get_mut(id).is_none_or(|connection| connection.is_full(&limits));
                let had_turn = turn_bytes >= TURN_REQUEST_BYTES_MAX && ctx.connections.has_input();
                let is_later = full || had_turn || ctx.mesh.is_congested();
                if is_later { Taken::Later } else { Taken::Next }
            });
            round_bytes += turn_bytes;
            let blocked = mesh.is_congested();
            self.connections.finish_reading(io, reading, result.err(), blocked);
        }
    }

    /// Carries effects between rooms until nothing new comes of them, and hands the logs' work to the reactor.
    fn settle(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        self.settle_rooms(io, mesh);
        self.partitions.drive(io);
        if self.partitions.has_events() {
            // What the mapped journals took counts already: its answers leave with this round.
            self.settle_rooms(io, mesh);
            self.partitions.drive(io);
        }
        self.drive_stop(io, mesh);
    }

    fn settle_rooms(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let mut events = self.partitions.take_events();
            let mut moved = !events.is_empty();
            // One reading for all of them: they are what a few completions made.
            let now = Now::read(io);
            for event in events.drain(..) {
                self.partition_event(io, mesh, event, now);
            }
            self.partitions.give_back_events(events);
            moved |= self.carry_session_moves(io, mesh, now);
            moved |= self.drive_controller(io, mesh);
            moved |= self.drive_groups(io, mesh);
            moved |= self.apply_images(io, mesh);
            moved |= self.drive_moves(io, mesh);
            self.submit_jobs(io);
            if !moved {
                break;
            }
        }
    }

    /// Tells fetch sessions, here and on other shards, which of their partitions have moved: each shard once.
    fn carry_session_moves(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, now: Now) -> bool {
        let moves = self.partitions.take_session_moves();
        let any = !moves.is_empty();
        let mut afar: Vec<(ShardId, Vec<SessionPart>)> = Vec::new();
        for (shard, part) in &moves {
            if *shard == self.id {
                let from = self.id;
                server::handlers::fetch::session_moved(&mut context!(self, io, mesh, now), from, *part);
            } else if let Some((_, parts)) = afar.iter_mut().find(|(other, _)| other == shard) {
                parts.push(*part);
            } else {
                afar.push((*shard, vec![*part]));
            }
        }
        for (shard, parts) in afar {
            mesh.send(shard, Message::SessionMoved(parts));
        }
        self.partitions.give_back_session_moves(moves);
        any
    }

    fn partition_event(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, event: PartitionEvent, now: Now) {
        let mut ctx = context!(self, io, mesh, now);
        match event {
            PartitionEvent::Satisfied { waiter, appended, ended } => {
                server::append_done(&mut ctx, waiter, &appended, &ended)
            }
            PartitionEvent::Failed { waiter, failure } => {
                server::append_failed(&mut ctx, waiter, failure);
                if let Waiter::Metadata { index } = waiter {
                    self.metadata_refused(io, mesh, index);
                }
            }
            PartitionEvent::Woken(ticket) => {
                if ticket.shard == self.id {
                    server::handlers::fetch::woken(&mut ctx, self.id, ticket);
                } else {
                    mesh.send(ticket.shard, Message::FetchWoken(ticket));
                }
            }
            PartitionEvent::ReadsDone { reading } => server::handlers::fetch::finish_reads(&mut ctx, reading),
            PartitionEvent::Opened { .. } | PartitionEvent::Unopened | PartitionEvent::Removed => {
                self.images.done(1)
            }
            PartitionEvent::Given(partitions) => self.partitions_given(mesh, partitions),
            PartitionEvent::Arrived { at, topic_id, refused } => {
                self.partition_arrived(io, mesh, at, topic_id, refused);
            }
            PartitionEvent::Deleted { deletion, is_durable } => {
                server::handlers::delete_records::finish(&mut ctx, deletion, is_durable)
            }
            PartitionEvent::DirectoryOffline { directory, error, is_news } => {
                self.directory_offline(io, mesh, directory, error, is_news);
            }
            PartitionEvent::Damaged { at, error } => self.events.push(ShardEvent::Damaged { at, error }),
            PartitionEvent::NoSpace { at, error } => self.events.push(ShardEvent::NoSpace { at, error }),
        }
    }

    /// Hands the jobs that handlers asked for to the helper thread. How many there are is for clients to say, so those
    /// that the in-flight table has no room for wait, in order, until completions make some.
    fn submit_jobs(&mut self, io: &mut dyn Io) {
        let mut jobs = std::mem::take(&mut self.jobs).into_iter();
        for (job_for, job) in jobs.by_ref() {
            let slot = self.running_jobs.add(job_for);
            if let Err(rejected) = io.submit(Token::new(Room::Shard, slot), Operation::Job(job)) {
                let Operation::Job(job) = rejected.0 else { panic!("a rejected job comes back as a job") };
                self.jobs.push((self.running_jobs.take(slot), job));
                break;
            }
        }
        self.jobs.extend(jobs);
    }

    fn forget_orphans(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        for ticket in self.connections.take_orphans() {
            server::connection_gone(&mut context!(self, io, mesh), ticket);
        }
    }
}

/// A span in milliseconds, as settings give them.
fn milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The clock of one round: each phase ends where the next begins.
struct RoundClock(Monotonic);

impl RoundClock {
    fn end(&mut self, meter: &Meter, phase: Phase, now: Monotonic) {
        meter.phase(phase, now.since(self.0));
        self.0 = now;
    }

    fn end_of(&mut self, meter: &Meter, phase: Phase, did_something: bool, io: &dyn Io) {
        let now = if did_something { io.now() } else { self.0 };
        self.end(meter, phase, now);
    }
}

#[cfg(test)]
mod tests;
