//! The group coordinator of one shard together with the replies it owes.
//!
//! *Owns* the coordinator, the requests it has not answered yet and how long its logs have become. *Never* touches a log or
//! a connection: what is to be written, and what is to be answered, is collected here and carried on by the shard
//! (`drive_groups`), since a timer or a finished write makes answers as well as a request does. *Boundary*: handlers ask
//! ([`GroupSeat::ask`]) with a closure that makes the response body; everything else is called by the shard.
//!
//! | file         | what                                                          |
//! |--------------|---------------------------------------------------------------|
//! | `rewrite.rs` | when a coordinator's log is written anew, and how far it is   |

mod rewrite;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::context::{Asked, Context, Random};
use crate::config::Config;
use crate::group::{
    self, AppendFailure, Coordinator, Effect, Event, GroupError, GroupId, GroupLimits, GroupRecord, Moment,
    RecordError, ReplyToken, Request, Response,
};
use crate::limits::Limits;
use crate::log::Now;
use crate::mesh::Ticket;
use crate::metrics::GroupReport;
use crate::model::{LeaderEpoch, Map, Monotonic, Offset, PartitionIndex};
use crate::record::BatchBuilder;
use rewrite::Rewrites;

pub use rewrite::LogStart;

/// One batch for a partition of `__consumer_offsets`; the seat is told when it is durable.
pub struct GroupAppend {
    pub partition: PartitionIndex,
    pub batch: Bytes,
    pub ticket: u64,
}

/// Makes a response body of the coordinator's answers, which come in the order of the requests.
pub type Encode = Box<dyn FnOnce(Vec<Response>) -> Bytes + Send>;

/// Records of a coordinator partition that this version cannot read, and so passed over.
pub struct SkippedRecord {
    pub partition: PartitionIndex,
    pub cause: RecordError,
}

/// One request of a client that is not answered yet; it may have asked the coordinator several things.
struct Owed {
    ticket: Ticket,
    awaited: usize,
    responses: Vec<Option<Response>>,
    encode: Encode,
}

/// When a commit of offsets that is still on its way to the disk is answered with an error.
struct CommitWait {
    until: Monotonic,
    number: u64,
}

/// Bits of a reply token that number the question within its request; the bits above number the request.
const PART_BITS: u32 = 24;

/// Set in the ticket of an append that is part of a rewrite; the rest of it is the partition.
const REWRITE: u64 = 1 << 63;

/// *Owns* the coordinator. The shard's loop moves its records to the log and wakes it at its deadlines.
pub struct GroupSeat {
    coordinator: Coordinator,
    random: Random,
    owed: Map<u64, Owed>,
    next_owed: u64,
    commit_timeout: Duration,
    /// Oldest first; all wait equally long. Those that are answered in time stay until their turn comes.
    commit_waits: VecDeque<CommitWait>,
    rewrites: Rewrites,
    /// Always empty between two steps; kept for its memory.
    effects: Vec<Effect>,
    appends: Vec<GroupAppend>,
    answers: Vec<(Ticket, Bytes)>,
    skipped: Vec<SkippedRecord>,
}

impl GroupSeat {
    /// `partition_count` is that of `__consumer_offsets` once it exists.
    pub fn new(config: &Config, limits: &Limits, partition_count: Option<i32>, seed: u64) -> GroupSeat {
        let millis = Duration::from_millis;
        let group_limits = GroupLimits {
            offsets_partition_count: partition_count.unwrap_or(config.offsets_topic_partitions),
            group_size_max: limits.group_members as usize,
            session_timeout_min: millis(config.group_session_timeout_ms_min),
            session_timeout_max: millis(config.group_session_timeout_ms_max),
            initial_rebalance_delay: millis(config.group_initial_rebalance_delay_ms),
            offset_metadata_chars_max: config.offset_metadata_bytes_max as usize,
            offsets_retention: millis(config.offsets_retention_ms),
            offsets_retention_check_interval: millis(config.offsets_retention_check_interval_ms),
            groups_max: limits.groups as usize,
            ..GroupLimits::default()
        };
        GroupSeat {
            coordinator: Coordinator::new(group_limits),
            random: Random::new(seed),
            owed: Map::default(),
            next_owed: 0,
            commit_timeout: millis(config.offsets_commit_timeout_ms),
            commit_waits: VecDeque::new(),
            rewrites: Rewrites::default(),
            effects: Vec::new(),
            appends: Vec::new(),
            answers: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// This shard leads a partition of `__consumer_offsets`; its records follow, in log order.
    pub fn begin_load(&mut self, now: Now, partition: PartitionIndex) {
        self.rewrites.own(partition);
        self.step(now, Event::PartitionOwned { partition });
    }

    /// Records of one batch, and the bytes the batch has in the log.
    pub fn load(&mut self, now: Now, partition: PartitionIndex, records: Vec<GroupRecord>, bytes: usize) {
        self.rewrites.appended(partition, bytes);
        self.step(now, Event::Replay { partition, records });
    }

    pub fn end_load(&mut self, now: Now, partition: PartitionIndex) {
        self.step(now, Event::Loaded { partition });
    }

    /// `__consumer_offsets` has so many partitions from here on.
    pub fn set_partition_count(&mut self, count: i32) {
        self.coordinator.set_offsets_partition_count(count);
    }

    /// A partition of `__consumer_offsets` is gone from this shard: its groups are forgotten here.
    pub fn resign(&mut self, now: Now, partition: PartitionIndex) {
        self.rewrites.resign(partition);
        self.step(now, Event::PartitionResigned { partition });
    }

    /// Asks the coordinator for one client. When all answers are there, `encode` makes the response body of them. Groups that
    /// are not here, for where the client came in, are refused by the coordinator too, in its order of checks.
    pub fn ask(
        &mut self,
        now: Now,
        ticket: Ticket,
        requests: Vec<Request>,
        is_here: impl Fn(&GroupId) -> bool,
        encode: Encode,
    ) {
        if requests.is_empty() {
            self.answers.push((ticket, encode(Vec::new())));
            return;
        }
        assert!(requests.len() < 1 << PART_BITS, "a frame has no room for so many groups");
        self.next_owed += 1;
        let number = self.next_owed;
        if requests.iter().any(|request| matches!(request, Request::CommitOffsets(_))) {
            self.commit_waits.push_back(CommitWait { until: now.monotonic + self.commit_timeout, number });
        }
        let responses = requests.iter().map(|_| None).collect();
        self.owed.insert(number, Owed { ticket, awaited: requests.len(), responses, encode });
        for (part, request) in (0u64..).zip(requests) {
            let token = ReplyToken(number << PART_BITS | part);
            let event = match request.group().is_none_or(&is_here) {
                true => Event::Request(token, request),
                false => Event::Misdirected(token, request),
            };
            self.step(now, event);
        }
    }

    /// The batch of `ticket` is durable from its base offset on, or never will be.
    pub fn appended(&mut self, now: Now, ticket: u64, result: Result<Offset, AppendFailure>) {
        if ticket & REWRITE != 0 {
            let partition = PartitionIndex::try_from(ticket & !REWRITE).expect("it was made of a partition");
            self.rewrites.part_done(partition, result.ok());
            return;
        }
        self.step(now, Event::Appended { ticket: group::Ticket(ticket), result: result.map(|_| ()) });
    }

    /// A topic is gone, and with it what groups committed for it.
    pub fn topic_deleted(&mut self, now: Now, topic: &crate::model::TopicName) {
        self.step(now, Event::TopicDeleted { topic: topic.clone() });
    }

    /// When the seat wants to be woken although nothing happens.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let commit = self.commit_waits.front().map(|wait| wait.until);
        self.coordinator.next_deadline().into_iter().chain(commit).min()
    }

    /// Wakes the coordinator if its deadline is here, and gives up on commits that take too long.
    pub fn fire_timers(&mut self, now: Now) {
        if self.coordinator.next_deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            self.step(now, Event::Timer);
        }
        while self.commit_waits.front().is_some_and(|wait| wait.until <= now.monotonic) {
            let CommitWait { number, .. } = self.commit_waits.pop_front().expect("it was just looked at");
            // The commit may still become durable; its answer finds nobody then.
            if let Some(Owed { ticket, responses, encode, .. }) = self.owed.remove(&number) {
                let late = Response::CommitOffsets(Err(GroupError::CoordinatorNotAvailable));
                let responses =
                    responses.into_iter().map(|response| response.unwrap_or_else(|| late.clone()));
                self.answers.push((ticket, encode(responses.collect())));
            }
        }
    }

    /// Batches to append, in this order and before those of any later call. If there are none, a log that has grown long
    /// may be written anew: only then is everything that the rewrite must come after in the log.
    pub fn take_appends(&mut self, now: Now) -> Vec<GroupAppend> {
        if self.appends.is_empty() {
            self.rewrite_long_logs(now);
        }
        std::mem::take(&mut self.appends)
    }

    /// Response bodies that are ready.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Bytes)> {
        std::mem::take(&mut self.answers)
    }

    /// Log starts to raise: what lies before has been written anew.
    pub fn take_log_starts(&mut self) -> Vec<(PartitionIndex, LogStart)> {
        self.rewrites.take_log_starts()
    }

    pub fn take_skipped(&mut self) -> Vec<SkippedRecord> {
        std::mem::take(&mut self.skipped)
    }

    /// The groups as they are at this moment.
    pub fn report(&self) -> Vec<GroupReport> {
        let report = |(id, state, members): (&group::GroupId, group::State, usize)| GroupReport {
            name: id.to_string(),
            state: state.name(),
            members,
        };
        self.coordinator.groups().map(report).collect()
    }

    fn step(&mut self, now: Now, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut random = || self.random.word();
        let mut moment = Moment { now: now.monotonic, wall: now.wall, random: &mut random };
        self.coordinator.step(event, &mut moment, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply(token, response) => self.replied(token, response),
                Effect::Append { partition, records, ticket } => {
                    assert!(ticket.0 & REWRITE == 0, "{ticket:?} has the bit of a rewrite");
                    self.append(now, partition, &records, ticket.0);
                }
                Effect::RecordSkipped { partition, cause } => {
                    self.skipped.push(SkippedRecord { partition, cause });
                }
            }
        }
        self.effects = effects;
    }

    fn replied(&mut self, token: ReplyToken, response: Response) {
        let number = token.0 >> PART_BITS;
        let part = (token.0 & ((1 << PART_BITS) - 1)) as usize;
        // Only a commit that was given up has nobody who waits for it.
        let Some(owed) = self.owed.get_mut(&number) else { return };
        assert!(owed.responses[part].is_none(), "question {part} of request {number} is answered twice");
        owed.responses[part] = Some(response);
        owed.awaited -= 1;
        if owed.awaited == 0 {
            let Owed { ticket, responses, encode, .. } = self.owed.remove(&number).expect("it is there");
            let responses =
                responses.into_iter().map(|response| response.expect("none is awaited")).collect();
            self.answers.push((ticket, encode(responses)));
        }
    }

    fn append(&mut self, now: Now, partition: PartitionIndex, records: &[GroupRecord], ticket: u64) {
        let mut builder = BatchBuilder::new();
        for record in records {
            builder.push(now.wall, Some(&record.key), record.value.as_deref());
        }
        // The log puts in offset and epoch.
        let batch = builder.finish(0, LeaderEpoch(0));
        self.rewrites.appended(partition, batch.len());
        self.appends.push(GroupAppend { partition, batch, ticket });
    }

    fn rewrite_long_logs(&mut self, now: Now) {
        let coordinator = &self.coordinator;
        let Some(partition) = self.rewrites.take_due(|partition| coordinator.live_bytes(partition)) else {
            return;
        };
        let Some(records) = self.coordinator.snapshot_records(partition) else { return };
        let batches = rewrite::batches(&records);
        self.rewrites.begin(partition, batches.len());
        for batch in batches {
            let number = u64::try_from(partition).expect("partitions are numbered from 0");
            self.append(now, partition, batch, REWRITE | number);
        }
    }
}

/// Asks the coordinator one thing for the client behind `asked`.
pub fn ask_one(
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    request: Request,
    encode: impl FnOnce(Response) -> Bytes + Send + 'static,
) {
    let encode =
        |responses: Vec<Response>| encode(responses.into_iter().next().expect("one question has one answer"));
    ask_all(ctx, asked, vec![request], encode);
}

/// As `ask_one` for several questions at once.
pub fn ask_all(
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    requests: Vec<Request>,
    encode: impl FnOnce(Vec<Response>) -> Bytes + Send + 'static,
) {
    let image = ctx.image;
    let is_here = |group: &GroupId| image.is_group_at(group, asked.endpoint);
    let now = Now { monotonic: ctx.now, wall: ctx.wall };
    ctx.groups.ask(now, asked.ticket, requests, is_here, Box::new(encode));
}

#[cfg(test)]
mod tests;
