//! One fetch session: what its client reads and was told, and which of that has to be looked at again.

use std::collections::BTreeMap;

use super::{PartRead, View, Wanted};
use crate::mesh::{FetchPartAnswer, Ticket};
use crate::model::{Monotonic, Offset, PartitionIndex, ShardId, TopicId, TopicName};
use crate::protocol::ErrorCode;

/// What makes it the same partition for a session: the topic's id or its name, whichever the client names topics by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    ById(TopicId, PartitionIndex),
    ByName(TopicName, PartitionIndex),
}

/// What the client was told last, to leave out what it knows.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: Offset,
    log_start_offset: Offset,
}

const NOTHING_TOLD: Told = Told { high_watermark: -1, log_start_offset: -1 };

/// A partition of a session.
struct Part {
    wanted: Wanted,
    told: Told,
    /// Its place in the order in which partitions are read and answered.
    rank: u64,
    /// The next fetch looks at it. Of one that is quiet the client knows everything, and its owner tells when it moves.
    is_live: bool,
    /// It has moved since its last read was ordered.
    has_moved: bool,
    /// The fetch that ordered its last read.
    read_by: u64,
    /// Whose watch it may have.
    owner: Option<(ShardId, TopicId)>,
}

/// A session. Invariant: a partition is live unless its last read found nothing, the client was told so, and it has not moved
/// since; `live` and `moved` hold each partition once that is marked so.
pub(super) struct Session {
    pub epoch: i32,
    pub by_id: bool,
    pub last_used: Monotonic,
    /// The fetch that waits for one of the partitions to move.
    pub waiting: Option<Ticket>,
    parts: Vec<Option<Part>>,
    free: Vec<u32>,
    by_key: BTreeMap<Key, u32>,
    live: Vec<u32>,
    moved: Vec<u32>,
    /// Ranks are given out rising: what brought data gets a new one, so that small limits starve nobody.
    next_rank: u64,
    /// Fetches so far.
    turn: u64,
    /// By what its partitions were found last.
    view: View,
    /// Of all partitions, what their answers may bring.
    max_bytes: u64,
    /// Shards that may hold watches.
    owners: Vec<ShardId>,
}

fn bytes_of(wanted: &Wanted) -> u64 {
    u64::try_from(wanted.max_bytes).unwrap_or(0)
}

impl Session {
    pub fn new(by_id: bool, view: View, now: Monotonic) -> Session {
        Session {
            epoch: 1,
            by_id,
            last_used: now,
            waiting: None,
            parts: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            live: Vec::new(),
            moved: Vec::new(),
            next_rank: 0,
            turn: 0,
            view,
            max_bytes: 0,
            owners: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn turn(&self) -> u64 {
        self.turn
    }

    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub fn owners(&self) -> &[ShardId] {
        &self.owners
    }

    fn key(&self, topic: &TopicName, topic_id: TopicId, partition: PartitionIndex) -> Key {
        if self.by_id { Key::ById(topic_id, partition) } else { Key::ByName(topic.clone(), partition) }
    }

    fn part(&mut self, number: u32) -> &mut Part {
        self.parts[number as usize].as_mut().expect("the session has the partition")
    }

    fn set_live(&mut self, number: u32) {
        let part = self.part(number);
        if !part.is_live {
            part.is_live = true;
            self.live.push(number);
        }
    }

    /// Takes over what a request names; of what it names twice the last word counts. Returns the partition's number.
    pub fn name(&mut self, wanted: &Wanted) -> u32 {
        let key = self.key(&wanted.topic, wanted.topic_id, wanted.partition);
        self.max_bytes += bytes_of(wanted);
        if let Some(&number) = self.by_key.get(&key) {
            self.set_live(number);
            let before = std::mem::replace(&mut self.part(number).wanted, wanted.clone());
            self.max_bytes -= bytes_of(&before);
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.parts.push(None);
            (self.parts.len() - 1) as u32
        });
        let place = &mut self.parts[number as usize];
        assert!(place.is_none(), "a free number has a partition");
        *place = Some(Part {
            wanted: wanted.clone(),
            told: NOTHING_TOLD,
            rank: self.next_rank,
            is_live: false,
            has_moved: false,
            read_by: 0,
            owner: None,
        });
        self.next_rank += 1;
        self.by_key.insert(key, number);
        self.set_live(number);
        number
    }

    /// Takes partitions out; `unwatched` gets whose watches are to go.
    pub fn forget(
        &mut self,
        forgotten: &[(TopicName, TopicId, PartitionIndex)],
        mut unwatched: impl FnMut(ShardId, (TopicId, PartitionIndex)),
    ) {
        let mut any = false;
        for (topic, topic_id, partition) in forgotten {
            let Some(number) = self.by_key.remove(&self.key(topic, *topic_id, *partition)) else { continue };
            let part = self.parts[number as usize].take().expect("a key leads to its partition");
            self.free.push(number);
            self.max_bytes -= bytes_of(&part.wanted);
            if let Some((owner, topic_id)) = part.owner {
                unwatched(owner, (topic_id, *partition));
            }
            any = true;
        }
        if any {
            let parts = &self.parts;
            self.live.retain(|number| parts[*number as usize].is_some());
            self.moved.retain(|number| parts[*number as usize].is_some());
        }
    }

    /// Begins a fetch of what is live, in the order of the session. When partitions may be found elsewhere than last time, or
    /// not at all, that is everything.
    pub fn read_live(&mut self, view: View, reads: &mut Vec<PartRead>) {
        self.turn += 1;
        if self.view != view {
            self.view = view;
            let all: Vec<u32> = self.by_key.values().copied().collect();
            all.into_iter().for_each(|number| self.set_live(number));
        }
        let parts = &self.parts;
        let rank = |number: &u32| parts[*number as usize].as_ref().map(|part| part.rank);
        self.live.sort_unstable_by_key(rank);
        for place in 0..self.live.len() {
            let number = self.live[place];
            reads.push(self.read(number));
        }
        self.moved.clear();
    }

    /// Has one partition read.
    pub fn read(&mut self, number: u32) -> PartRead {
        let turn = self.turn;
        let part = self.part(number);
        part.has_moved = false;
        part.read_by = turn;
        PartRead::of(part.wanted.clone(), number, part.rank)
    }

    /// A partition has moved. Returns the fetch that waits for that, unless it was woken already.
    pub fn note_moved(&mut self, number: u32) -> Option<Ticket> {
        let part = self.parts.get_mut(number as usize)?.as_mut()?;
        if std::mem::replace(&mut part.has_moved, true) {
            return None;
        }
        self.set_live(number);
        self.moved.push(number);
        if self.moved.len() == 1 { self.waiting } else { None }
    }

    /// Has the waiting fetch `turn` read what has moved: `reads` are its partitions so far, and get those that were quiet when
    /// it began.
    pub fn read_moved(&mut self, turn: u64, reads: &mut Vec<PartRead>) {
        if turn != self.turn {
            // It is another one's to read.
            return;
        }
        let known = reads.len();
        let mut moved = std::mem::take(&mut self.moved);
        for number in moved.drain(..) {
            let read = self.read(number);
            match reads[..known].binary_search_by_key(&read.rank, |known| known.rank) {
                Ok(place) => reads[place].is_wanted = true,
                Err(_) => reads.push(read),
            }
        }
        self.moved = moved;
        if reads.len() > known {
            reads.sort_unstable_by_key(|read| read.rank);
        }
    }

    /// A read of a partition is ordered from this shard, which may keep a watch.
    pub fn note_owner(&mut self, number: u32, owner: ShardId, topic_id: TopicId) {
        if let Some(part) = self.parts.get_mut(number as usize).and_then(Option::as_mut) {
            part.owner = Some((owner, topic_id));
        }
        if !self.owners.contains(&owner) {
            self.owners.push(owner);
        }
    }

    /// Remembers what is answered to the fetch `turn`, and of an incremental one marks what is left out.
    pub fn note_answers(
        &mut self,
        turn: u64,
        is_incremental: bool,
        is_idle: impl Fn(&Wanted, &FetchPartAnswer) -> bool,
        reads: &mut [PartRead],
    ) {
        for read in reads {
            let answer = read.answer.as_ref().expect("every part is answered");
            let has_data = answer.record_bytes > 0;
            let is_error = answer.error != ErrorCode::None;
            let told =
                Told { high_watermark: answer.high_watermark, log_start_offset: answer.log_start_offset };
            // A client that overlaps requests may have forgotten it meanwhile, and its number may be another's.
            let by_id = self.by_id;
            let part = self.parts.get_mut(read.part as usize).and_then(Option::as_mut);
            let Some(part) = part.filter(|part| part.wanted.is_same_partition(&read.wanted, by_id)) else {
                continue;
            };
            // Kafka sends an error again and again until the client reacts: nothing counts as told.
            let before = std::mem::replace(&mut part.told, if is_error { NOTHING_TOLD } else { told });
            let is_news = has_data || is_error || answer.diverging.is_some() || before != told;
            read.is_told = is_news || !is_incremental;
            if has_data && is_incremental {
                part.rank = self.next_rank;
                self.next_rank += 1;
            }
            if part.read_by == turn && !part.has_moved && is_idle(&read.wanted, answer) {
                part.is_live = false;
            } else if !part.is_live {
                part.is_live = true;
                self.live.push(read.part);
            }
        }
        let parts = &self.parts;
        self.live.retain(|number| parts[*number as usize].as_ref().is_some_and(|part| part.is_live));
    }
}
