//! Fetch sessions (KIP-227): a broker remembers what is fetched, and each request tells only what changed.

use std::collections::BTreeMap;

use crate::model::{Offset, TopicId, TopicPartition};

/// The epoch that makes a session; and the one that wants none. Source: Apache Kafka, `FetchMetadata`.
const INITIAL_EPOCH: i32 = 0;
const NO_SESSION_EPOCH: i32 = -1;

/// What is asked of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub offset: Offset,
    /// -1: not known.
    pub current_leader_epoch: i32,
    pub bytes_max: i32,
    pub topic_id: TopicId,
}

/// A broker's memory of what this consumer fetches, as this side knows it.
#[derive(Debug)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    parts: BTreeMap<TopicPartition, Part>,
    uses_ids: bool,
}

/// What to send.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct SessionRequest {
    pub id: i32,
    pub epoch: i32,
    /// In the order of partitions: new ones, changed ones; all of them in a full request.
    pub parts: Vec<(TopicPartition, Part)>,
    pub forgotten: Vec<(TopicPartition, TopicId)>,
}

impl Default for Session {
    fn default() -> Session {
        Session { id: 0, epoch: INITIAL_EPOCH, parts: BTreeMap::new(), uses_ids: false }
    }
}

impl Session {
    /// The next request, for all of `wanted` and nothing else. With `uses_ids`, topics are named by id.
    pub fn next(&mut self, wanted: &BTreeMap<TopicPartition, Part>, uses_ids: bool) -> SessionRequest {
        // A session speaks of topics in one way only (KIP-516), and a topic that was made anew is another.
        let is_another = |partition: &TopicPartition, part: &Part| {
            self.parts.get(partition).is_some_and(|known| known.topic_id != part.topic_id)
        };
        if uses_ids != self.uses_ids || wanted.iter().any(|(partition, part)| is_another(partition, part)) {
            self.restart();
        }
        self.uses_ids = uses_ids;
        if self.is_full() {
            self.parts.clone_from(wanted);
            let parts = wanted.iter().map(|(partition, part)| (partition.clone(), *part)).collect();
            return SessionRequest { id: self.id, epoch: self.epoch, parts, forgotten: Vec::new() };
        }
        let forgotten: Vec<(TopicPartition, TopicId)> = self
            .parts
            .iter()
            .filter(|(partition, _)| !wanted.contains_key(*partition))
            .map(|(partition, part)| (partition.clone(), part.topic_id))
            .collect();
        let changed = wanted.iter().filter(|(partition, part)| self.parts.get(*partition) != Some(*part));
        let parts = changed.map(|(partition, part)| (partition.clone(), *part)).collect();
        self.parts.clone_from(wanted);
        SessionRequest { id: self.id, epoch: self.epoch, parts, forgotten }
    }

    fn is_full(&self) -> bool {
        matches!(self.epoch, INITIAL_EPOCH | NO_SESSION_EPOCH)
    }

    /// The broker answered without an error, and named its session (0: it has none for us).
    pub fn answered(&mut self, id: i32) {
        if id == 0 {
            // The next request is full again; a broker that has room then makes a session.
            *self = Session { uses_ids: self.uses_ids, ..Session::default() };
        } else if self.is_full() {
            (self.id, self.epoch) = (id, 1);
        } else {
            self.epoch = next_epoch(self.epoch);
        }
    }

    /// What the broker remembers is not known any more, or it has forgotten: the session is closed, and another made, by
    /// the next request.
    pub fn restart(&mut self) {
        self.epoch = INITIAL_EPOCH;
        self.parts.clear();
    }

    /// The broker does not know the session.
    pub fn forget(&mut self) {
        *self = Session { uses_ids: self.uses_ids, ..Session::default() };
    }
}

/// Epochs run from 1 on, and again from 1 after the largest.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;

    fn wanted(parts: &[(i32, Offset)]) -> BTreeMap<TopicPartition, Part> {
        let part = |offset| Part { offset, current_leader_epoch: 3, bytes_max: 10, topic_id: Uuid([1; 16]) };
        parts.iter().map(|(index, offset)| (TopicPartition::new("t", *index), part(*offset))).collect()
    }

    fn shown(request: &SessionRequest) -> (i32, i32, Vec<(i32, Offset)>, Vec<i32>) {
        let parts =
            request.parts.iter().map(|(partition, part)| (partition.partition, part.offset)).collect();
        let forgotten = request.forgotten.iter().map(|(partition, _)| partition.partition).collect();
        (request.id, request.epoch, parts, forgotten)
    }

    #[test]
    fn after_the_first_request_only_changes_are_told() {
        let mut session = Session::default();
        let check = |session: &mut Session, parts: &[(i32, Offset)], expected| {
            assert_eq!(shown(&session.next(&wanted(parts), true)), expected);
        };
        check(&mut session, &[(0, 5), (1, 6)], (0, 0, vec![(0, 5), (1, 6)], vec![]));
        session.answered(77);
        check(&mut session, &[(0, 5), (1, 9)], (77, 1, vec![(1, 9)], vec![]));
        session.answered(77);
        check(&mut session, &[(1, 9), (2, 0)], (77, 2, vec![(2, 0)], vec![0]));
        session.answered(77);
        check(&mut session, &[(1, 9), (2, 0)], (77, 3, vec![], vec![]));
    }

    #[test]
    fn a_broker_without_room_for_a_session_is_asked_in_full_each_time() {
        let mut session = Session::default();
        for _ in 0..2 {
            assert_eq!(shown(&session.next(&wanted(&[(0, 5)]), true)), (0, 0, vec![(0, 5)], vec![]));
            session.answered(0);
        }
    }

    #[test]
    fn a_lost_answer_closes_the_session_and_an_unknown_one_is_forgotten() {
        let mut session = Session::default();
        session.next(&wanted(&[(0, 5)]), true);
        session.answered(77);
        session.restart();
        assert_eq!(shown(&session.next(&wanted(&[(0, 5)]), true)), (77, 0, vec![(0, 5)], vec![]));
        session.answered(78);
        session.forget();
        assert_eq!(shown(&session.next(&wanted(&[(0, 5)]), true)), (0, 0, vec![(0, 5)], vec![]));
    }

    #[test]
    fn another_topic_of_the_same_name_needs_another_session() {
        let mut session = Session::default();
        session.next(&wanted(&[(0, 5)]), true);
        session.answered(77);
        let mut other = wanted(&[(0, 5)]);
        other.values_mut().for_each(|part| part.topic_id = Uuid([2; 16]));
        assert_eq!(shown(&session.next(&other, true)), (77, 0, vec![(0, 5)], vec![]));
        session.answered(78);
        assert_eq!(shown(&session.next(&other, false)), (78, 0, vec![(0, 5)], vec![]));
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));
    }
}
