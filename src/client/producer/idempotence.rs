//! The numbers of an idempotent producer in one partition, and what to do when one of them is missing.
//!
//! Every batch that is sent takes the next sequences. A broker takes a batch only if its sequence follows the last one it
//! has, and knows the last five again, so a batch can be sent as often as it takes. What can break this is a batch that is
//! given up: those behind it can never follow.
//!
//! - given up, and certainly not appended: once nothing before it is open, what is left starts anew, under the next epoch;
//! - given up, and perhaps appended (its answer was lost): the batch behind it is sent as it is. If the broker takes it, the
//!   lost one was appended and nothing is missing; if it says that a sequence is missing, the lost one was not. With nothing
//!   behind it to ask by, the next epoch is begun at once.
//!
//! A broker takes any sequence from a producer that it does not know in a partition, so the first batch goes alone: what
//! overtook it would have to be taken, and it could never follow.
//!
//! *Invariant*: a batch gets another number only when it is certain that the broker does not have it: because one before it
//! is missing there. So nothing is appended twice. Source: KIP-98, KIP-360. (There the epoch is the producer's; a broker
//! compares it per partition, so here each partition has its own, and a loss in one is nothing to the others.)

use crate::model::{ProducerEpoch, ProducerId};
use crate::record::ProducerStamp;

use super::batch::sequence_after;

/// What InitProducerId gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// A batch's place among all of its partition, never changed. A split shares the place's range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place(pub u64);

/// The numbers of one partition.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    identity: Option<Identity>,
    next_sequence: i32,
    /// The last batch that the broker has under this identity.
    last_appended: Option<Place>,
    gap: Option<Gap>,
    needs_new_id: bool,
}

/// Where a sequence may be missing at the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gap {
    place: Place,
    is_certain: bool,
}

/// What may be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Permission {
    /// Anything, in order.
    All,
    /// Anything, in order, one at a time.
    OneByOne,
    /// Only what was sent before, one at a time.
    OldOneByOne,
    /// Nothing: what is left has to start anew first, when nothing is in flight.
    Restart,
}

impl Sequencer {
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Begins at sequence 0 as `identity`. What is not yet acknowledged gets new numbers by `stamp`.
    pub fn start(&mut self, identity: Identity) {
        *self = Sequencer { identity: Some(identity), ..Sequencer::default() };
    }

    /// As whom to start anew: the same producer in its next epoch; `None`: it needs another id.
    pub fn next_identity(&self) -> Option<Identity> {
        let now = self.identity.filter(|_| !self.needs_new_id)?;
        let epoch = now.epoch.0.checked_add(1)?;
        Some(Identity { epoch: ProducerEpoch(epoch), ..now })
    }

    /// The numbers for the next batch of so many records.
    /// Panics before `start`.
    pub fn stamp(&mut self, record_count: i32) -> ProducerStamp {
        let identity = self.identity.expect("nothing is numbered before there is an id");
        let base_sequence = self.next_sequence;
        self.next_sequence = sequence_after(base_sequence, record_count);
        ProducerStamp { id: identity.id, epoch: identity.epoch, base_sequence }
    }

    /// A batch that had numbers was given up.
    pub fn given_up(&mut self, place: Place, may_be_appended: bool) {
        // Something behind it was appended, so it was too.
        if self.last_appended.is_some_and(|last| last > place) {
            return;
        }
        let gap = Gap { place, is_certain: !may_be_appended };
        // The first gap decides: what is behind a missing sequence was not appended either.
        match &mut self.gap {
            Some(first) if first.place <= place => {}
            other => *other = Some(gap),
        }
    }

    /// The broker says that a sequence before this batch is missing there, and nothing before it is open.
    pub fn missing_before(&mut self, place: Place) {
        self.gap = Some(Gap { place, is_certain: true });
    }

    /// The broker does not take this producer's epoch, or does not know it.
    pub fn refused(&mut self, place: Place) {
        self.missing_before(place);
        self.needs_new_id = true;
    }

    /// The broker has this batch, and so everything before it.
    pub fn appended(&mut self, place: Place) {
        self.last_appended = self.last_appended.max(Some(place));
        if self.gap.is_some_and(|gap| gap.place < place) {
            self.gap = None;
        }
    }

    /// What may be sent, when `first_open` is the first batch that was sent and has no outcome.
    pub fn permission(&self, first_open: Option<Place>) -> Permission {
        match self.gap {
            None if self.identity.is_some() && self.last_appended.is_none() => Permission::OneByOne,
            None => Permission::All,
            // What stands before the gap keeps its numbers until its outcome is known.
            Some(gap) if first_open.is_some_and(|first| first < gap.place) => Permission::OldOneByOne,
            Some(gap) if gap.is_certain || first_open.is_none() => Permission::Restart,
            Some(_) => Permission::OldOneByOne,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Sequencer {
        let mut sequencer = Sequencer::default();
        sequencer.start(Identity { id: ProducerId(7), epoch: ProducerEpoch(0) });
        assert_eq!(sequencer.permission(None), Permission::OneByOne);
        sequencer.appended(Place(0));
        sequencer
    }

    #[test]
    fn numbers_follow_each_other_and_wrap() {
        let mut sequencer = started();
        assert_eq!(sequencer.stamp(3).base_sequence, 0);
        assert_eq!(sequencer.stamp(i32::MAX - 3).base_sequence, 3);
        assert_eq!(sequencer.stamp(2).base_sequence, i32::MAX);
        assert_eq!(sequencer.stamp(1).base_sequence, 1);
        assert_eq!(sequencer.permission(Some(Place(1))), Permission::All);
    }

    #[test]
    fn what_was_certainly_not_appended_leads_to_the_next_epoch() {
        let mut sequencer = started();
        sequencer.given_up(Place(5), false);
        assert_eq!(sequencer.permission(Some(Place(4))), Permission::OldOneByOne, "4 may have been appended");
        assert_eq!(sequencer.permission(Some(Place(6))), Permission::Restart);
        assert_eq!(sequencer.permission(None), Permission::Restart);
        let next = sequencer.next_identity().unwrap();
        assert_eq!((next.id, next.epoch), (ProducerId(7), ProducerEpoch(1)));
        sequencer.start(next);
        assert_eq!(sequencer.stamp(1).base_sequence, 0);
        assert_eq!(sequencer.permission(Some(Place(6))), Permission::OneByOne, "the first goes alone");
        sequencer.appended(Place(6));
        assert_eq!(sequencer.permission(None), Permission::All);
    }

    #[test]
    fn what_was_perhaps_appended_is_found_out_by_the_batch_behind_it() {
        let mut sequencer = started();
        sequencer.given_up(Place(5), true);
        assert_eq!(sequencer.permission(Some(Place(6))), Permission::OldOneByOne);
        sequencer.appended(Place(4));
        assert_eq!(sequencer.permission(Some(Place(6))), Permission::OldOneByOne, "4 says nothing of 5");
        sequencer.appended(Place(6));
        assert_eq!(sequencer.permission(Some(Place(7))), Permission::All);

        sequencer.given_up(Place(9), true);
        sequencer.missing_before(Place(10));
        assert_eq!(sequencer.permission(Some(Place(10))), Permission::Restart);

        let mut later = started();
        later.appended(Place(6));
        later.given_up(Place(5), true);
        assert_eq!(later.permission(Some(Place(7))), Permission::All, "what is behind it is there already");

        let mut alone = started();
        alone.given_up(Place(5), true);
        assert_eq!(alone.permission(None), Permission::Restart, "nobody to ask by");
    }

    #[test]
    fn the_first_gap_decides() {
        let mut sequencer = started();
        sequencer.given_up(Place(5), true);
        sequencer.given_up(Place(6), false);
        assert_eq!(sequencer.permission(Some(Place(7))), Permission::OldOneByOne);
        sequencer.given_up(Place(4), false);
        assert_eq!(sequencer.permission(Some(Place(7))), Permission::Restart);
    }

    #[test]
    fn used_up_and_refused_epochs_need_another_id() {
        let mut sequencer = Sequencer::default();
        sequencer.start(Identity { id: ProducerId(7), epoch: ProducerEpoch(i16::MAX) });
        assert_eq!(sequencer.next_identity(), None);
        let mut refused = started();
        refused.refused(Place(1));
        assert_eq!(refused.next_identity(), None);
        assert_eq!(refused.permission(Some(Place(1))), Permission::Restart);
    }
}
