//! All groups of one shard: which event concerns which group, what is on its way to the log, and what has expired.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::classic::{self, ClassicGroup, State};
use super::error::{AppendFailure, GroupError};
use super::message::{
    Effect, Event, GroupId, GroupRecord, Leaving, Left, ListGroups, ListedGroup, ReplyToken, Request,
    Response, Ticket,
};
use super::offsets::{self, GroupOffsets};
use super::records::{self, Stored};
use super::timers::{Timer, Timers};
use super::turn::{Change, Moment, Then, Turn, Write};
use super::{GroupLimits, rebalance};
use crate::metadata::coordinator_partition;
use crate::model::{Monotonic, PartitionIndex, Timestamp, TopicName};

/// The name ListGroups v5 has for groups of this kind.
const GROUP_TYPE: &str = "classic";

/// Offsets looked at in one step of a sweep for expired ones, and the pause between steps: a sweep must not hold up the
/// requests of a shard that has a million offsets.
const SWEEP_OFFSETS_MAX: usize = 4096;
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// Tombstones in one batch; 1000 of them stay far below any `max.message.bytes`.
const TOMBSTONES_MAX: usize = 1000;

/// A group with all that its records say.
pub(super) struct Group {
    pub id: GroupId,
    pub partition: PartitionIndex,
    pub classic: ClassicGroup,
    pub offsets: GroupOffsets,
    /// The durable value of the group's record.
    pub recorded: Option<Bytes>,
    /// The newest value on its way.
    recording: Option<(Ticket, Bytes)>,
    /// Its tombstones are on their way; whoever comes now asks again.
    is_going: bool,
}

impl Group {
    fn new(id: GroupId, partition: PartitionIndex, wall: Timestamp) -> Group {
        Group {
            id,
            partition,
            classic: ClassicGroup::new(wall),
            offsets: GroupOffsets::default(),
            recorded: None,
            recording: None,
            is_going: false,
        }
    }

    fn newest_record(&self) -> Option<&Bytes> {
        self.recording.as_ref().map(|(_, value)| value).or(self.recorded.as_ref())
    }

    fn live_bytes(&self) -> usize {
        let record = self.recorded.as_ref().map_or(0, |value| value.len() + self.id.len());
        record + self.offsets.durable_bytes()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ownership {
    Loading,
    Active,
}

/// The groups of one shard.
pub struct Coordinator {
    limits: GroupLimits,
    partitions: BTreeMap<PartitionIndex, Ownership>,
    /// Ordered: peers choose the ids.
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) timers: Timers,
    in_flight: BTreeMap<Ticket, Write>,
    next_ticket: u64,
    /// The last group that a running sweep for expired offsets has looked at.
    sweep: Option<GroupId>,
    sweeps: bool,
}

impl Coordinator {
    pub fn new(limits: GroupLimits) -> Coordinator {
        Coordinator {
            limits,
            partitions: BTreeMap::new(),
            groups: BTreeMap::new(),
            timers: Timers::default(),
            in_flight: BTreeMap::new(),
            next_ticket: 0,
            sweep: None,
            sweeps: false,
        }
    }

    /// When the next `Timer` is due.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next()
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The offsets topic has so many partitions from here on: it was made, or made larger. Groups that move to another
    /// partition by that are not found there; this is why the count should stay once there are groups.
    pub fn set_offsets_partition_count(&mut self, count: i32) {
        assert!(count > 0, "the offsets topic has {count} partitions");
        self.limits.offsets_partition_count = count;
    }

    /// The groups with their states and how many members each has.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, State, usize)> {
        let groups = self.groups.values();
        groups.map(|group| (&group.id, group.classic.state(), group.classic.members().len()))
    }

    /// Takes one event, and what has become due by now; appends what follows from it to `effects`.
    ///
    /// Panics on an `Appended` for a ticket that is not in flight, or a `Replay` or `Loaded` for a partition that is not
    /// loading: the shard would have lost track.
    pub fn step(&mut self, event: Event, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        if !self.sweeps {
            self.sweeps = true;
            self.timers.set(Timer::Retention, moment.now + self.limits.offsets_retention_check_interval);
        }
        match event {
            Event::Request(token, request) => self.request(token, request, moment, effects),
            Event::Misdirected(token, request) => {
                let error = self.check(&request).err().unwrap_or(GroupError::NotCoordinator);
                effects.push(Effect::Reply(token, request.refused(error)));
            }
            Event::Timer => {}
            Event::PartitionOwned { partition } => {
                self.partitions.insert(partition, Ownership::Loading);
            }
            Event::Replay { partition, records } => self.replay(partition, records, moment, effects),
            Event::Loaded { partition } => self.loaded(partition, moment, effects),
            Event::PartitionResigned { partition } => self.resign(partition, moment, effects),
            Event::Appended { ticket, result } => self.appended(ticket, result, moment, effects),
            Event::TopicDeleted { topic } => self.topic_deleted(&topic, effects),
        }
        // Those that are due now and no others: a timer that sets itself again with no delay must not hold the shard.
        let due: Vec<_> = std::iter::from_fn(|| self.timers.pop_due(moment.now)).collect();
        for timer in due {
            self.fire(timer, moment, effects);
        }
    }

    /// The records of one partition's live state, in an order that can be replayed: newest values, durable or on their
    /// way, since those on their way stand before the snapshot in the log. `None` unless the partition is loaded.
    pub fn snapshot_records(&self, partition: PartitionIndex) -> Option<Vec<GroupRecord>> {
        if self.partitions.get(&partition) != Some(&Ownership::Active) {
            return None;
        }
        let mut snapshot = Vec::new();
        for group in self.groups.values().filter(|group| group.partition == partition && !group.is_going) {
            if let Some(value) = group.newest_record() {
                snapshot.push(records::group_record(&group.id, Some(value.clone())));
            }
            let offsets = group.offsets.iter_newest();
            snapshot.extend(offsets.map(|(topic, partition, value)| {
                records::offset_record(&group.id, topic, partition, Some(value))
            }));
        }
        Some(snapshot)
    }

    /// About what a snapshot of the partition takes, for `should_snapshot`.
    pub fn live_bytes(&self, partition: PartitionIndex) -> u64 {
        let groups = self.groups.values().filter(|group| group.partition == partition);
        groups.map(|group| group.live_bytes() as u64).sum()
    }

    fn request(
        &mut self,
        token: ReplyToken,
        request: Request,
        moment: &mut Moment<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if let Request::List(filters) = &request {
            effects.push(Effect::Reply(token, Response::List(self.list(filters))));
            return;
        }
        let group = request.group().expect("all but List name a group").clone();
        let partition = coordinator_partition(&group, self.limits.offsets_partition_count);
        let ownership = self.partitions.get(&partition).copied();
        let verdict = match (self.check(&request), ownership) {
            (Err(error), _) => request.refused(error),
            (Ok(()), None) => request.refused(GroupError::NotCoordinator),
            // The member need not look for its coordinator: this will be it, and its session starts anew then.
            (Ok(()), Some(Ownership::Loading)) if matches!(request, Request::Heartbeat(_)) => {
                Response::Heartbeat(Ok(()))
            }
            (Ok(()), Some(Ownership::Loading)) => request.refused(GroupError::CoordinatorLoadInProgress),
            (Ok(()), Some(Ownership::Active)) => return self.dispatch(token, request, moment, effects),
        };
        effects.push(Effect::Reply(token, verdict));
    }

    /// What can be said of a request before its group is looked at. Commits, fetches, descriptions and deletions of the
    /// group with the empty id are allowed, as old clients use it.
    fn check(&self, request: &Request) -> Result<(), GroupError> {
        let needs_group_id = match request {
            Request::Join(_) | Request::Sync(_) | Request::Heartbeat(_) => true,
            Request::Leave(_) | Request::DeleteOffsets(_) => true,
            Request::CommitOffsets(_) | Request::FetchOffsets(_) | Request::Describe { .. } => false,
            Request::Delete { .. } | Request::List(_) => false,
        };
        let group = request.group().map_or("", |group| group);
        if (needs_group_id && group.is_empty()) || group.len() > records::TEXT_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        if let Request::Join(join) = request {
            let session_timeout = classic::millis(join.session_timeout_ms);
            if !(self.limits.session_timeout_min..=self.limits.session_timeout_max).contains(&session_timeout)
            {
                return Err(GroupError::InvalidSessionTimeout);
            }
        }
        if request.longest_recorded_text() > records::TEXT_BYTES_MAX
            || request.member_metadata_bytes() > self.limits.member_metadata_bytes_max
        {
            return Err(GroupError::GroupTooLarge);
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        token: ReplyToken,
        request: Request,
        moment: &mut Moment<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let id = request.group().expect("a listing is answered before").clone();
        if let Err(verdict) = self.find_or_make(&id, &request, moment.wall) {
            effects.push(Effect::Reply(token, verdict));
            return;
        }
        let Coordinator { limits, groups, timers, .. } = self;
        let group = groups.get_mut(&id).expect("find_or_make has found or made it");
        let mut turn = Turn { moment, limits, timers, effects };
        let write = match request {
            Request::FetchOffsets(fetch) => {
                offsets::fetch(group, &mut turn, token, fetch);
                None
            }
            Request::Describe { .. } => {
                turn.reply(token, Response::Describe(Ok(group.classic.describe(&id))));
                None
            }
            request if group.is_going => {
                turn.reply(token, request.refused(GroupError::CoordinatorNotAvailable));
                None
            }
            Request::Join(join) => rebalance::join(group, &mut turn, token, join),
            Request::Sync(sync) => rebalance::sync(group, &mut turn, token, sync),
            Request::Heartbeat(heartbeat) => {
                let result = rebalance::heartbeat(group, &mut turn, &heartbeat);
                turn.reply(token, Response::Heartbeat(result));
                None
            }
            Request::Leave(leave) => rebalance::leave(group, &mut turn, token, leave),
            Request::CommitOffsets(commit) => offsets::commit(group, &mut turn, token, commit),
            Request::DeleteOffsets(delete) => offsets::delete(group, &mut turn, token, delete),
            Request::Delete { .. } if group.classic.state() != State::Empty => {
                turn.reply(token, Response::Delete(Err(GroupError::NonEmptyGroup)));
                None
            }
            Request::Delete { .. } => {
                let mut changes = offsets::tombstones(group);
                changes.push(Change::GroupGone { group: id });
                let then = Then::Reply(token, Response::Delete(Ok(())));
                Some(Write { partition: group.partition, changes, then })
            }
            Request::List(_) => unreachable!("a listing is answered before"),
        };
        self.begin(write, effects);
    }

    /// Makes sure the group exists if the request may make it; otherwise what a request to no group is answered.
    fn find_or_make(&mut self, id: &GroupId, request: &Request, wall: Timestamp) -> Result<(), Response> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        let makes_group = match request {
            Request::Join(join) => join.member.is_empty(),
            // A consumer that assigns its partitions itself has a group in name only.
            Request::CommitOffsets(commit) => commit.generation < 0,
            _ => false,
        };
        if makes_group {
            if self.groups.len() >= self.limits.groups_max {
                return Err(request.refused(GroupError::TooManyGroups));
            }
            let partition = coordinator_partition(id, self.limits.offsets_partition_count);
            self.groups.insert(id.clone(), Group::new(id.clone(), partition, wall));
            return Ok(());
        }
        Err(match request {
            Request::Join(_) | Request::Sync(_) | Request::Heartbeat(_) => {
                request.refused(GroupError::UnknownMemberId)
            }
            Request::Leave(leave) => {
                let result = Err(GroupError::UnknownMemberId);
                let left =
                    |m: &Leaving| Left { member: m.member.clone(), instance: m.instance.clone(), result };
                Response::Leave(Ok(leave.members.iter().map(left).collect()))
            }
            Request::CommitOffsets(commit) if !commit.expects_group_not_found => {
                request.refused(GroupError::IllegalGeneration)
            }
            Request::FetchOffsets(fetch) => {
                Response::FetchOffsets(Ok(offsets::fetch_unknown(fetch.topics.as_deref())))
            }
            Request::CommitOffsets(_) | Request::Describe { .. } | Request::Delete { .. } => {
                request.refused(GroupError::GroupIdNotFound)
            }
            Request::DeleteOffsets(_) | Request::List(_) => request.refused(GroupError::GroupIdNotFound),
        })
    }

    fn list(&self, filters: &ListGroups) -> Result<Vec<ListedGroup>, GroupError> {
        if self.partitions.values().any(|ownership| *ownership == Ownership::Loading) {
            // A part of the groups would pass for all of them.
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        let matches = |filter: &[std::sync::Arc<str>], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        if !matches(&filters.types, GROUP_TYPE) {
            return Ok(Vec::new());
        }
        let groups = self.groups.values().filter(|g| matches(&filters.states, g.classic.state().name()));
        let listed = groups.map(|g| ListedGroup {
            group: g.id.clone(),
            protocol_type: g.classic.protocol_type.clone().unwrap_or_else(|| "".into()),
            state: g.classic.state(),
            group_type: GROUP_TYPE,
        });
        Ok(listed.collect())
    }

    /// Sends records on their way and remembers what they are.
    fn begin(&mut self, write: Option<Write>, effects: &mut Vec<Effect>) {
        let Some(write) = write else {
            return;
        };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let mut batch = Vec::with_capacity(write.changes.len());
        for change in &write.changes {
            let group = self.groups.get_mut(change.group()).expect("a step changes groups that there are");
            batch.push(match change {
                Change::Offset { group: id, topic, partition, value } => {
                    group.offsets.begin(topic, *partition, value.clone(), ticket);
                    records::offset_record(id, topic, *partition, value.as_ref())
                }
                Change::Group { group: id, value } => {
                    group.recording = Some((ticket, value.clone()));
                    records::group_record(id, Some(value.clone()))
                }
                Change::GroupGone { group: id } => {
                    group.is_going = true;
                    records::group_record(id, None)
                }
            });
        }
        effects.push(Effect::Append { partition: write.partition, records: batch, ticket });
        self.in_flight.insert(ticket, write);
    }

    fn appended(
        &mut self,
        ticket: Ticket,
        result: Result<(), AppendFailure>,
        moment: &mut Moment<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let write = self.in_flight.remove(&ticket);
        let Write { partition, changes, then } =
            write.unwrap_or_else(|| panic!("{ticket:?} is not in flight"));
        debug_assert!(
            self.in_flight.range(..ticket).all(|(_, earlier)| earlier.partition != partition),
            "{ticket:?} overtook an earlier append to partition {partition}"
        );
        let touched: BTreeSet<GroupId> = changes.iter().map(|change| change.group().clone()).collect();
        for change in changes {
            self.settle(change, ticket, result.is_ok(), moment, effects);
        }
        let Coordinator { limits, groups, timers, .. } = self;
        let mut turn = Turn { moment, limits, timers, effects };
        let write = match then {
            Then::Nothing => None,
            Then::Reply(token, response) => {
                turn.reply(
                    token,
                    match result {
                        Ok(()) => response,
                        Err(failure) => response.failed(failure.into()),
                    },
                );
                None
            }
            Then::Assign { group, generation, assignments } => groups
                .get_mut(&group)
                .and_then(|group| rebalance::assigned(group, &mut turn, generation, assignments, result)),
            Then::Replace(replacement) => groups
                .get_mut(&replacement.group)
                .and_then(|group| rebalance::replaced(group, &mut turn, *replacement, result)),
        };
        for id in touched {
            let Some(group) = groups.get_mut(&id) else {
                continue;
            };
            for (token, fetch) in group.offsets.take_waiting(ticket) {
                turn.reply(token, Response::FetchOffsets(Ok(group.offsets.fetch(fetch.topics.as_deref()))));
            }
        }
        self.begin(write, effects);
    }

    /// One change is durable, or lost.
    fn settle(
        &mut self,
        change: Change,
        ticket: Ticket,
        is_durable: bool,
        moment: &mut Moment<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(change.group()) else {
            return;
        };
        match change {
            Change::Offset { topic, partition, value, .. } => {
                group.offsets.settle(&topic, partition, value, is_durable);
            }
            Change::Group { value, .. } => {
                if is_durable {
                    group.recorded = Some(value);
                }
                if group.recording.as_ref().is_some_and(|(newest, _)| *newest == ticket) {
                    group.recording = None;
                }
            }
            Change::GroupGone { group: id } => {
                group.is_going = false;
                if is_durable {
                    self.forget(&id, moment, effects);
                }
            }
        }
    }

    /// Drops a group that is gone, with its timers; who waits for it is answered.
    fn forget(&mut self, id: &GroupId, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        let Some(mut group) = self.groups.remove(id) else {
            return;
        };
        let mut turn = Turn { moment, limits: &self.limits, timers: &mut self.timers, effects };
        for (token, fetch) in group.offsets.take_all_waiting() {
            let topics = offsets::fetch_unknown(fetch.topics.as_deref());
            turn.reply(token, Response::FetchOffsets(Ok(topics)));
        }
        rebalance::dissolve(&mut group, &mut turn, GroupError::UnknownMemberId);
    }

    fn replay(
        &mut self,
        partition: PartitionIndex,
        records: Vec<GroupRecord>,
        moment: &mut Moment<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let ownership = self.partitions.get(&partition);
        assert!(
            ownership == Some(&Ownership::Loading),
            "partition {partition} is {ownership:?}, not loading"
        );
        for record in records {
            let stored = match records::decode(&record) {
                Ok(stored) => stored,
                Err(cause) => {
                    effects.push(Effect::RecordSkipped { partition, cause });
                    continue;
                }
            };
            let make = |id: &GroupId| Group::new(id.clone(), partition, moment.wall);
            match stored {
                Stored::Offset { group, topic, partition, value: Some(value) } => {
                    let group = self.groups.entry(group.clone()).or_insert_with(|| make(&group));
                    group.offsets.set(&topic, partition, Some(value));
                }
                Stored::Offset { group, topic, partition, value: None } => {
                    if let Some(group) = self.groups.get_mut(&group) {
                        group.offsets.set(&topic, partition, None);
                    }
                }
                Stored::Group { group, value: Some(value) } => {
                    let group = self.groups.entry(group.clone()).or_insert_with(|| make(&group));
                    group.classic = ClassicGroup::restore(value);
                    group.recorded = record.value;
                }
                Stored::Group { group, value: None } => {
                    self.groups.remove(&group);
                }
            }
        }
    }

    fn loaded(&mut self, partition: PartitionIndex, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        let former = self.partitions.insert(partition, Ownership::Active);
        assert!(former == Some(Ownership::Loading), "partition {partition} was {former:?}, not loading");
        let Coordinator { limits, groups, timers, .. } = self;
        // Of some groups the log has nothing left but tombstones of their offsets.
        groups.retain(|_, g| g.partition != partition || g.recorded.is_some() || !g.offsets.is_empty());
        let mut writes = Vec::new();
        for group in groups.values_mut().filter(|group| group.partition == partition) {
            let mut turn = Turn { moment, limits, timers, effects };
            writes.extend(rebalance::resume(group, &mut turn));
        }
        for write in writes {
            self.begin(Some(write), effects);
        }
    }

    fn resign(&mut self, partition: PartitionIndex, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        self.partitions.remove(&partition);
        let of_partition = self.groups.values().filter(|group| group.partition == partition);
        for id in of_partition.map(|group| group.id.clone()).collect::<Vec<_>>() {
            let mut group = self.groups.remove(&id).expect("it was just listed");
            let mut turn = Turn { moment, limits: &self.limits, timers: &mut self.timers, effects };
            for (token, _) in group.offsets.take_all_waiting() {
                turn.reply(token, Response::FetchOffsets(Err(GroupError::NotCoordinator)));
            }
            rebalance::dissolve(&mut group, &mut turn, GroupError::NotCoordinator);
        }
        // What comes back from the log later must not change groups that were loaded anew by then.
        for write in self.in_flight.values_mut().filter(|write| write.partition == partition) {
            write.changes.clear();
            if !matches!(write.then, Then::Reply(..)) {
                write.then = Then::Nothing;
            }
        }
    }

    fn topic_deleted(&mut self, topic: &TopicName, effects: &mut Vec<Effect>) {
        let mut by_partition: BTreeMap<PartitionIndex, Vec<Change>> = BTreeMap::new();
        for group in self.groups.values().filter(|group| self.is_active(group.partition)) {
            let tombstones = offsets::topic_tombstones(group, topic);
            by_partition.entry(group.partition).or_default().extend(tombstones);
        }
        for (partition, changes) in by_partition {
            self.begin_tombstones(partition, changes, effects);
        }
    }

    fn begin_tombstones(
        &mut self,
        partition: PartitionIndex,
        changes: Vec<Change>,
        effects: &mut Vec<Effect>,
    ) {
        for batch in changes.chunks(TOMBSTONES_MAX) {
            let write = Write { partition, changes: batch.to_vec(), then: Then::Nothing };
            self.begin(Some(write), effects);
        }
    }

    fn is_active(&self, partition: PartitionIndex) -> bool {
        self.partitions.get(&partition) == Some(&Ownership::Active)
    }

    fn fire(&mut self, timer: Timer, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        let id = match &timer {
            Timer::Retention => return self.sweep(moment, effects),
            Timer::Session(group, _) | Timer::Join(group) | Timer::Sync(group) => group,
        };
        let Coordinator { limits, groups, timers, .. } = self;
        let Some(group) = groups.get_mut(id) else {
            return;
        };
        let mut turn = Turn { moment, limits, timers, effects };
        let write = match &timer {
            Timer::Session(_, member) => rebalance::session_timer(group, &mut turn, member),
            Timer::Join(_) => rebalance::join_timer(group, &mut turn),
            Timer::Sync(_) => rebalance::sync_timer(group, &mut turn),
            Timer::Retention => unreachable!("returned above"),
        };
        self.begin(write, effects);
    }

    /// Looks at some groups for expired offsets, and for groups that are empty and have none left.
    fn sweep(&mut self, moment: &mut Moment<'_>, effects: &mut Vec<Effect>) {
        let retention_ms = i64::try_from(self.limits.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let start = self.sweep.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut by_partition: BTreeMap<PartitionIndex, Vec<Change>> = BTreeMap::new();
        let mut unrecorded = Vec::new();
        let mut looked_at = 0;
        for group in self.groups.range::<GroupId, _>((start, Bound::Unbounded)).map(|(_, group)| group) {
            if looked_at >= SWEEP_OFFSETS_MAX {
                break;
            }
            self.sweep = Some(group.id.clone());
            looked_at += 1 + group.offsets.iter_newest().count();
            if !self.is_active(group.partition) || group.is_going {
                continue;
            }
            let (mut changes, is_all) = offsets::expired(group, moment.wall, retention_ms);
            let is_unused = group.classic.state() == State::Empty && group.classic.pending_joins().is_empty();
            // What is on its way may be lost, and then the log says otherwise: such a group waits for the next sweep.
            if is_all && is_unused && group.offsets.is_settled() && group.recording.is_none() {
                if !group.offsets.is_empty() || group.recorded.is_some() {
                    changes.push(Change::GroupGone { group: group.id.clone() });
                } else {
                    unrecorded.push(group.id.clone());
                }
            }
            by_partition.entry(group.partition).or_default().extend(changes);
        }
        let is_done = looked_at < SWEEP_OFFSETS_MAX;
        for (partition, changes) in by_partition {
            self.begin_tombstones(partition, changes, effects);
        }
        for id in unrecorded {
            self.forget(&id, moment, effects);
        }
        let pause = if is_done { self.limits.offsets_retention_check_interval } else { SWEEP_PAUSE };
        if is_done {
            self.sweep = None;
        }
        self.timers.set(Timer::Retention, moment.now + pause);
    }
}
