//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer reads, and requests and answers carry only
//! what changed. A session lives on the shard whose connection made it; asked elsewhere it is unknown and the client
//! starts a full one, as it does after a broker restart.
//!
//! So does the work: an incremental fetch looks at the partitions that it names, at those whose last read left something to tell,
//! and at those whose owner has said since that they moved. The others are *quiet*: nobody visits them, here or on their owner.

mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::Random;
use crate::mesh::{FetchPartAnswer, SessionPart, Ticket};
use crate::model::{Endpoint, Monotonic, Offset, PartitionIndex, ShardId, TopicId, TopicName};
use crate::protocol::ErrorCode;
use session::Session;

/// One partition that a fetch asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// Empty when a request by id names a topic that is not there.
    pub topic: TopicName,
    /// Zero when the request is by name and the topic is not there.
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub current_leader_epoch: i32,
    pub fetch_offset: Offset,
    pub last_fetched_epoch: i32,
    pub max_bytes: i32,
}

impl Wanted {
    fn is_same_partition(&self, other: &Wanted, by_id: bool) -> bool {
        self.partition == other.partition
            && if by_id { self.topic_id == other.topic_id } else { self.topic == other.topic }
    }
}

/// One partition that a fetch reads, from what is wanted of it to what is answered.
#[derive(Debug)]
pub struct PartRead {
    pub wanted: Wanted,
    /// Its number in the session, if there is one.
    pub part: u32,
    /// Its place in the order of the session.
    pub rank: u64,
    /// It is to be read: for the first time, or again.
    pub is_wanted: bool,
    /// Its owner's answer is awaited.
    pub is_ordered: bool,
    /// The owner, and the topic it was asked for; `None` for one that was answered without. A session by name may remember the
    /// topic under an older id.
    pub owner: Option<(ShardId, TopicId)>,
    pub answer: Option<FetchPartAnswer>,
    /// The answer is in the response.
    pub is_told: bool,
}

impl PartRead {
    fn of(wanted: Wanted, part: u32, rank: u64) -> PartRead {
        PartRead {
            wanted,
            part,
            rank,
            is_wanted: true,
            is_ordered: false,
            owner: None,
            answer: None,
            is_told: true,
        }
    }
}

/// By what a fetch finds the partitions: while it is the same they are where they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    pub metadata_version: u64,
    pub endpoint: Option<Endpoint>,
    pub as_replica: bool,
}

/// What a request says of its session, and by what it is served.
pub struct Ask<'a> {
    pub session_id: i32,
    pub epoch: i32,
    /// Topics are named by id.
    pub by_id: bool,
    pub forgotten: &'a [(TopicName, TopicId, PartitionIndex)],
    pub view: View,
    pub now: Monotonic,
}

/// One fetch of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionFetch {
    pub session_id: i32,
    turn: u64,
}

/// How a request relates to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchScope {
    /// Everything named is read and answered; session id 0.
    Sessionless,
    /// As above, and a session remembers it.
    Full(SessionFetch),
    /// What may have changed is read; what has is answered.
    Incremental(SessionFetch),
}

impl FetchScope {
    pub fn session(&self) -> Option<SessionFetch> {
        match self {
            FetchScope::Sessionless => None,
            FetchScope::Full(fetch) | FetchScope::Incremental(fetch) => Some(*fetch),
        }
    }

    pub fn session_id(&self) -> i32 {
        self.session().map_or(0, |fetch| fetch.session_id)
    }
}

/// A watch that is to go: the shard it is on, the id of the fetch session it belongs to, one partition or (`None`) all.
pub type Unwatched = (ShardId, i32, Option<(TopicId, PartitionIndex)>);

/// The sessions of one shard.
pub struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    sessions_max: usize,
    partitions_max: usize,
    partitions: usize,
    eviction_age: Duration,
    unwatched: Vec<Unwatched>,
}

impl FetchSessions {
    /// `sessions_max` and `eviction_age` are Kafka's `max.incremental.fetch.session.cache.slots` (a shard's share) and
    /// `min.incremental.fetch.session.eviction.ms`; `partitions_max` bounds what all sessions remember together.
    pub fn new(sessions_max: usize, partitions_max: usize, eviction_age: Duration) -> FetchSessions {
        FetchSessions {
            sessions: BTreeMap::new(),
            sessions_max,
            partitions_max,
            partitions: 0,
            eviction_age,
            unwatched: Vec::new(),
        }
    }

    /// Finds out what a request that names `wanted` reads. Errors are answered at the top level.
    pub fn resolve(
        &mut self,
        ask: &Ask<'_>,
        wanted: &mut Vec<Wanted>,
        reads: &mut Vec<PartRead>,
        random: &mut Random,
    ) -> Result<FetchScope, ErrorCode> {
        let Ask { session_id, epoch, by_id, forgotten, view, now } = *ask;
        if epoch == 0 || epoch == -1 {
            self.remove(session_id);
            if epoch == 0
                && !wanted.is_empty()
                && let Some(fetch) = self.make(ask, wanted, reads, random)
            {
                return Ok(FetchScope::Full(fetch));
            }
            reads.extend((0..).zip(wanted.drain(..)).map(|(rank, wanted)| PartRead::of(wanted, 0, rank)));
            return Ok(FetchScope::Sessionless);
        }
        if self.partitions + wanted.len() > self.partitions_max || forgotten.len() > self.partitions_max {
            // It grows too large: the client asks for everything again, and is served without a session.
            self.remove(session_id);
        }
        let session = self.sessions.get_mut(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.len();
        for wanted in wanted.iter() {
            session.name(wanted);
        }
        let unwatched = &mut self.unwatched;
        session.forget(forgotten, |owner, partition| unwatched.push((owner, session_id, Some(partition))));
        session.last_used = now;
        // The epoch wraps to 1: 0 means a new session.
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        self.partitions = self.partitions - before + session.len();
        if session.len() == 0 {
            self.remove(session_id);
            return Ok(FetchScope::Sessionless);
        }
        session.read_live(view, reads);
        Ok(FetchScope::Incremental(SessionFetch { session_id, turn: session.turn() }))
    }

    /// Most bytes of records that the partitions of this fetch may bring, those included that are quiet when it begins.
    pub fn max_bytes(&self, fetch: SessionFetch) -> u64 {
        self.sessions.get(&fetch.session_id).map_or(0, Session::max_bytes)
    }

    /// A read is ordered from this shard, which may keep a watch.
    pub fn note_owner(&mut self, fetch: SessionFetch, part: u32, owner: ShardId, topic_id: TopicId) {
        if let Some(session) = self.sessions.get_mut(&fetch.session_id) {
            session.note_owner(part, owner, topic_id);
        }
    }

    /// This fetch is told when a partition of the session moves.
    pub fn wait(&mut self, fetch: SessionFetch, ticket: Ticket) {
        if let Some(session) = self.sessions.get_mut(&fetch.session_id) {
            session.waiting = Some(ticket);
        }
    }

    /// The fetch that waits for records of a session's partitions.
    pub fn waiting(&self, session_id: i32) -> Option<Ticket> {
        self.sessions.get(&session_id)?.waiting
    }

    /// It waits no more.
    pub fn end_wait(&mut self, fetch: SessionFetch, ticket: Ticket) {
        if let Some(session) = self.sessions.get_mut(&fetch.session_id)
            && session.waiting == Some(ticket)
        {
            session.waiting = None;
        }
    }

    pub fn has(&self, session_id: i32) -> bool {
        self.sessions.contains_key(&session_id)
    }

    /// A partition has moved. Returns the fetch that waits for that, once.
    pub fn note_moved(&mut self, moved: SessionPart) -> Option<Ticket> {
        self.sessions.get_mut(&moved.session)?.note_moved(moved.part)
    }

    /// Has a fetch that waits read what has moved since it last looked.
    pub fn read_moved(&mut self, fetch: SessionFetch, reads: &mut Vec<PartRead>) {
        if let Some(session) = self.sessions.get_mut(&fetch.session_id) {
            session.read_moved(fetch.turn, reads);
        }
    }

    /// Remembers what is answered, and marks what is left out of the response.
    pub fn note_answers(&mut self, scope: &FetchScope, read_committed: bool, reads: &mut [PartRead]) {
        let Some(fetch) = scope.session() else { return };
        let Some(session) = self.sessions.get_mut(&fetch.session_id) else { return };
        let is_idle = |wanted: &Wanted, answer: &FetchPartAnswer| {
            let end = if read_committed { answer.last_stable_offset } else { answer.high_watermark };
            answer.error == ErrorCode::None && answer.diverging.is_none() && wanted.fetch_offset >= end
        };
        let is_incremental = matches!(scope, FetchScope::Incremental(_));
        session.note_answers(fetch.turn, is_incremental, is_idle, reads);
    }

    /// Watches that are to go since the last call.
    pub fn take_unwatched(&mut self) -> Vec<Unwatched> {
        std::mem::take(&mut self.unwatched)
    }

    fn make(
        &mut self,
        ask: &Ask<'_>,
        wanted: &mut Vec<Wanted>,
        reads: &mut Vec<PartRead>,
        random: &mut Random,
    ) -> Option<SessionFetch> {
        if self.partitions + wanted.len() > self.partitions_max {
            return None;
        }
        if self.sessions.len() >= self.sessions_max {
            let (&oldest, session) = self.sessions.iter().min_by_key(|(_, session)| session.last_used)?;
            if ask.now.since(session.last_used) < self.eviction_age {
                return None;
            }
            self.remove(oldest);
        }
        let session_id = loop {
            let id = (random.word() & 0x7fff_ffff) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session::new(ask.by_id, ask.view, ask.now);
        let numbers: Vec<u32> = wanted.iter().map(|wanted| session.name(wanted)).collect();
        // One that is named twice is answered twice.
        let named = wanted.drain(..).zip(numbers);
        reads.extend(named.map(|(wanted, number)| PartRead { wanted, ..session.read(number) }));
        self.partitions += session.len();
        let turn = session.turn();
        self.sessions.insert(session_id, session);
        Some(SessionFetch { session_id, turn })
    }

    fn remove(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.partitions -= session.len();
            self.unwatched.extend(session.owners().iter().map(|owner| (*owner, session_id, None)));
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, Uuid};

    fn wanted(partition: PartitionIndex) -> Wanted {
        Wanted {
            topic: "t".into(),
            topic_id: Uuid([1; 16]),
            partition,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1000,
        }
    }

    fn answer(high_watermark: Offset, record_bytes: u32) -> FetchPartAnswer {
        FetchPartAnswer {
            slot: 0,
            error: ErrorCode::None,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
            leader_epoch: LeaderEpoch(0),
            diverging: None,
            records: Vec::new(),
            pipes: Vec::new(),
            record_bytes,
        }
    }

    fn sessions() -> (FetchSessions, Random) {
        (FetchSessions::new(2, 100, Duration::from_secs(120)), Random::new(1))
    }

    fn ask<'a>(session_id: i32, epoch: i32, now: u64) -> Ask<'a> {
        let view = View { metadata_version: 1, endpoint: None, as_replica: false };
        Ask { session_id, epoch, by_id: true, forgotten: &[], view, now: Monotonic(now * 1_000_000_000) }
    }

    /// A fetch, as its handler has it.
    #[derive(Debug)]
    struct Fetch {
        scope: FetchScope,
        reads: Vec<PartRead>,
    }

    impl Fetch {
        fn session_id(&self) -> i32 {
            self.scope.session_id()
        }

        fn partitions(&self) -> Vec<PartitionIndex> {
            self.reads.iter().map(|read| read.wanted.partition).collect()
        }

        /// Answers all that is read; returns which partitions are in the response.
        fn answer(
            &mut self,
            sessions: &mut FetchSessions,
            answers: impl IntoIterator<Item = FetchPartAnswer>,
        ) -> Vec<PartitionIndex> {
            let mut answers = answers.into_iter();
            for read in &mut self.reads {
                read.answer = Some(answers.next().expect("an answer for each"));
            }
            assert!(answers.next().is_none(), "more answers than were asked for");
            sessions.note_answers(&self.scope, false, &mut self.reads);
            self.reads.iter().filter(|read| read.is_told).map(|read| read.wanted.partition).collect()
        }
    }

    fn resolve_as(
        sessions: &mut FetchSessions,
        random: &mut Random,
        ask: &Ask<'_>,
        mut wanted: Vec<Wanted>,
    ) -> Result<Fetch, ErrorCode> {
        let mut reads = Vec::new();
        let scope = sessions.resolve(ask, &mut wanted, &mut reads, random)?;
        Ok(Fetch { scope, reads })
    }

    fn resolve(
        sessions: &mut FetchSessions,
        random: &mut Random,
        id: i32,
        epoch: i32,
        parts: &[PartitionIndex],
        now: u64,
    ) -> Result<Fetch, ErrorCode> {
        resolve_as(sessions, random, &ask(id, epoch, now), parts.iter().copied().map(wanted).collect())
    }

    fn moved(sessions: &mut FetchSessions, session: i32, part: u32) -> Option<Ticket> {
        sessions.note_moved(SessionPart { session, part })
    }

    #[test]
    fn an_incremental_answer_leaves_out_what_is_known_and_rotates_what_had_data() {
        let (mut sessions, mut random) = sessions();
        let mut full = resolve(&mut sessions, &mut random, 0, 0, &[0, 1, 2], 0).unwrap();
        let id = full.session_id();
        assert!(id > 0);
        let included = full.answer(&mut sessions, [answer(5, 0), answer(5, 10), answer(1, 0)]);
        assert_eq!(included, [0, 1, 2]);
        let mut next = resolve(&mut sessions, &mut random, id, 1, &[], 0).unwrap();
        assert_eq!(next.partitions(), [0, 1, 2], "all have records that the client has not got");
        let included = next.answer(&mut sessions, [answer(5, 7), answer(5, 0), answer(2, 0)]);
        assert_eq!(included, [0, 2], "data, nothing new, a moved watermark");
        assert_eq!(resolve(&mut sessions, &mut random, id, 2, &[], 0).unwrap().partitions(), [1, 2, 0]);
    }

    #[test]
    fn what_is_quiet_is_read_again_when_it_is_named_or_moves() {
        let (mut sessions, mut random) = sessions();
        let mut full = resolve(&mut sessions, &mut random, 0, 0, &[0, 1, 2, 3], 0).unwrap();
        let id = full.session_id();
        let failing = || FetchPartAnswer { error: ErrorCode::NotLeaderOrFollower, ..answer(-1, 0) };
        full.answer(&mut sessions, [answer(0, 0), answer(0, 0), answer(0, 0), failing()]);
        let mut fetch = resolve(&mut sessions, &mut random, id, 1, &[1], 0).unwrap();
        assert_eq!(fetch.partitions(), [1, 3], "the one that is named, and the one that failed");
        // It moves between its last read and the answer.
        assert_eq!(moved(&mut sessions, id, 1), None);
        assert_eq!(fetch.answer(&mut sessions, [answer(0, 0), failing()]), [3]);
        moved(&mut sessions, id, 2);
        moved(&mut sessions, id, 9);
        moved(&mut sessions, id ^ 1, 0);
        let mut fetch = resolve(&mut sessions, &mut random, id, 2, &[], 0).unwrap();
        assert_eq!(fetch.partitions(), [1, 2, 3]);
        assert_eq!(fetch.answer(&mut sessions, [answer(0, 0), answer(0, 0), answer(0, 0)]), [3]);
        assert_eq!(resolve(&mut sessions, &mut random, id, 3, &[], 0).unwrap().reads.len(), 0);
        let mut other = ask(id, 4, 0);
        other.view.metadata_version = 2;
        let fetch = resolve_as(&mut sessions, &mut random, &other, Vec::new()).unwrap();
        assert_eq!(fetch.partitions(), [0, 1, 2, 3], "they may be elsewhere now");
    }

    #[test]
    fn a_fetch_that_waits_reads_what_moves_in_the_order_of_the_session() {
        let (mut sessions, mut random) = sessions();
        let mut full = resolve(&mut sessions, &mut random, 0, 0, &[0, 1, 2, 3], 0).unwrap();
        let id = full.session_id();
        full.answer(&mut sessions, [0; 4].map(|_| answer(0, 0)));
        let mut fetch = resolve(&mut sessions, &mut random, id, 1, &[2], 0).unwrap();
        let ticket = Ticket { shard: ShardId(0), slot: 3, generation: 0 };
        let session = fetch.scope.session().unwrap();
        sessions.wait(session, ticket);
        fetch.reads.iter_mut().for_each(|read| read.is_wanted = false);
        let woken: Vec<_> = [3, 2, 0, 0].map(|part| moved(&mut sessions, id, part)).to_vec();
        assert_eq!(woken, [Some(ticket), None, None, None], "it is woken once");
        sessions.read_moved(session, &mut fetch.reads);
        assert_eq!(fetch.partitions(), [0, 2, 3]);
        assert!(fetch.reads.iter().all(|read| read.is_wanted));
        assert_eq!(moved(&mut sessions, id, 1), Some(ticket), "it has looked, and is woken again");
        sessions.end_wait(session, ticket);
        let included = fetch.answer(&mut sessions, [answer(1, 5), answer(1, 0), answer(0, 0)]);
        assert_eq!(included, [0, 2]);
        // What had data goes to the back; what moved meanwhile is not lost; 2 has more than the client asked for.
        assert_eq!(resolve(&mut sessions, &mut random, id, 2, &[], 0).unwrap().partitions(), [1, 2, 0]);
    }

    #[test]
    fn an_answer_of_an_older_fetch_makes_nothing_quiet() {
        let (mut sessions, mut random) = sessions();
        let mut full = resolve(&mut sessions, &mut random, 0, 0, &[0], 0).unwrap();
        let id = full.session_id();
        let mut next = resolve(&mut sessions, &mut random, id, 1, &[], 0).unwrap();
        next.answer(&mut sessions, [answer(0, 0)]);
        full.answer(&mut sessions, [answer(0, 0)]);
        assert_eq!(resolve(&mut sessions, &mut random, id, 2, &[], 0).unwrap().partitions(), [0]);
    }

    #[test]
    fn watches_go_with_what_is_forgotten_and_with_the_session() {
        let (mut sessions, mut random) = sessions();
        let full = resolve(&mut sessions, &mut random, 0, 0, &[0, 1], 0).unwrap();
        let (id, session) = (full.session_id(), full.scope.session().unwrap());
        for (part, owner) in [(0, 0), (1, 1)] {
            sessions.note_owner(session, part, ShardId(owner), Uuid([1; 16]));
        }
        let forgotten = [(TopicName::from("t"), Uuid([1; 16]), 1)];
        let fetch = Ask { forgotten: &forgotten, ..ask(id, 1, 0) };
        resolve_as(&mut sessions, &mut random, &fetch, Vec::new()).unwrap();
        assert_eq!(sessions.take_unwatched(), [(ShardId(1), id, Some((Uuid([1; 16]), 1)))]);
        resolve(&mut sessions, &mut random, id, -1, &[], 0).unwrap();
        assert_eq!(sessions.take_unwatched(), [(ShardId(0), id, None), (ShardId(1), id, None)]);
    }

    #[test]
    fn wrong_sessions_are_refused_at_the_top() {
        let (mut sessions, mut random) = sessions();
        let id = resolve(&mut sessions, &mut random, 0, 0, &[0], 0).unwrap().session_id();
        let check = |result: Result<Fetch, ErrorCode>, expected| assert_eq!(result.unwrap_err(), expected);
        check(resolve(&mut sessions, &mut random, id ^ 1, 1, &[], 0), ErrorCode::FetchSessionIdNotFound);
        check(resolve(&mut sessions, &mut random, id, 2, &[], 0), ErrorCode::InvalidFetchSessionEpoch);
        let by_name = Ask { by_id: false, ..ask(id, 1, 0) };
        check(
            resolve_as(&mut sessions, &mut random, &by_name, Vec::new()),
            ErrorCode::FetchSessionTopicIdError,
        );
        let last = resolve(&mut sessions, &mut random, id, -1, &[0], 0).unwrap();
        assert_eq!((last.scope, last.reads.len()), (FetchScope::Sessionless, 1));
        check(resolve(&mut sessions, &mut random, id, 1, &[], 0), ErrorCode::FetchSessionIdNotFound);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_full_table_evicts_only_what_is_old() {
        let (mut sessions, mut random) = sessions();
        resolve(&mut sessions, &mut random, 0, 0, &[0], 0).unwrap();
        resolve(&mut sessions, &mut random, 0, 0, &[0], 50).unwrap();
        assert_eq!(resolve(&mut sessions, &mut random, 0, 0, &[0], 60).unwrap().session_id(), 0);
        assert!(resolve(&mut sessions, &mut random, 0, 0, &[0], 121).unwrap().session_id() > 0);
        assert_eq!(sessions.len(), 2);
    }

    #[test]
    fn a_session_that_grows_too_large_ends() {
        let (mut sessions, mut random) = sessions();
        let first: Vec<_> = (0..60).collect();
        let id = resolve(&mut sessions, &mut random, 0, 0, &first, 0).unwrap().session_id();
        let more: Vec<_> = (60..100).collect();
        assert_eq!(resolve(&mut sessions, &mut random, id, 1, &more, 0).unwrap().reads.len(), 100);
        let refused = resolve(&mut sessions, &mut random, id, 2, &[100], 0);
        assert_eq!(refused.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        assert_eq!((sessions.len(), sessions.partitions), (0, 0));
    }

    #[test]
    fn forgotten_partitions_leave_the_session() {
        let (mut sessions, mut random) = sessions();
        let id = resolve(&mut sessions, &mut random, 0, 0, &[0, 1], 0).unwrap().session_id();
        let forgotten = [(TopicName::from("t"), Uuid([1; 16]), 0)];
        let fetch = Ask { forgotten: &forgotten, ..ask(id, 1, 0) };
        let fetch = resolve_as(&mut sessions, &mut random, &fetch, vec![wanted(7)]).unwrap();
        assert_eq!(fetch.partitions(), [1, 7]);
        assert_eq!(sessions.partitions, 2);
    }
}
