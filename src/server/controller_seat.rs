//! The controller on shard 0 together with the requests that wait for its decisions to take effect.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::controller::{
    Balancer, Controller, MoveSlotError, ProducerIdBlock, Rebalance, allocate_producer_ids, move_slot,
};
use crate::mesh::{SlotLoad, Ticket};
use crate::metadata::{Entry, Image, Record};
use crate::metrics::{SlotMoveOutcome, Tell};
use crate::model::{PlacementSlot, ProducerId, ShardId};

/// A decision whose answer waits until every shard serves by it.
struct Waiting {
    version: u64,
    ticket: Ticket,
    body: Bytes,
}

/// Moves of slots since the counts were last taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MoveCounts {
    /// That are over.
    pub done: u64,
    /// That the balancer has begun.
    pub balanced: u64,
}

/// *Owns* the controller. The shard's loop moves its entries to the metadata log and its images to the other shards.
pub struct ControllerSeat {
    controller: Controller,
    /// What each shard has applied.
    applied: Vec<u64>,
    waiting: VecDeque<Waiting>,
    published: u64,
    /// The newest move of a slot, and who waits until it is over; it is when every shard serves by its version.
    moving: u64,
    move_asked: Option<Tell<SlotMoveOutcome>>,
    /// Ids to give out, and the version that makes them ours.
    producer_ids: ProducerIdBlock,
    producer_ids_version: u64,
    balancer: Balancer,
    counts: MoveCounts,
    /// How busy the slots of this node were when their shards last told, by number.
    slot_loads: Vec<u64>,
}

impl ControllerSeat {
    pub fn new(controller: Controller, shard_count: u16) -> ControllerSeat {
        let version = controller.committed().version;
        let slots = usize::from(controller.committed().layout.slots());
        ControllerSeat {
            balancer: Balancer::default(),
            counts: MoveCounts::default(),
            slot_loads: vec![0; slots],
            controller,
            applied: vec![version; usize::from(shard_count)],
            waiting: VecDeque::new(),
            published: version,
            moving: version,
            move_asked: None,
            producer_ids: ProducerIdBlock::EMPTY,
            producer_ids_version: version,
        }
    }

    /// The image to decide against: what was proposed counts already.
    pub fn latest(&self) -> &Image {
        self.controller.latest()
    }

    /// Puts decided records on their way. The answer `body` goes to `ticket` once every shard serves by them; a decision
    /// without records is answered after those in flight that it may rest on.
    pub fn decide(&mut self, records: Vec<Record>, ticket: Ticket, body: Bytes) {
        let version = self.propose(records);
        self.waiting.push_back(Waiting { version, ticket, body });
    }

    /// Moves a slot of this node to another of its cores; `tell` hears when it is there, or why it is not moved.
    pub fn move_slot(&mut self, slot: PlacementSlot, core: ShardId, tell: Tell<SlotMoveOutcome>) {
        let decided = match self.is_moving() {
            true => Err(MoveSlotError::Moving),
            false => move_slot(self.controller.latest(), slot, core),
        };
        match decided {
            Ok(records) => {
                self.moving = self.propose(records);
                self.move_asked = Some(tell);
            }
            Err(error) => tell(Err(Box::new(error))),
        }
    }

    /// How busy the slots are, by number.
    pub fn slot_loads(&self) -> &[u64] {
        &self.slot_loads
    }

    /// Looks at how busy the cores are, and moves a slot if that is worth it.
    pub fn balance(&mut self, threshold_percent: u32) -> Option<Rebalance> {
        if self.is_moving() {
            self.balancer.forget();
            return None;
        }
        let found = self.balancer.look(self.controller.latest(), &self.slot_loads, threshold_percent)?;
        self.counts.balanced += 1;
        // Why it failed, if it does, is what the next look finds.
        self.move_slot(found.slot, found.to, Box::new(drop));
        Some(found)
    }

    /// Nobody looks for now.
    pub fn rest_balancer(&mut self) {
        self.balancer.forget();
    }

    pub fn take_move_counts(&mut self) -> MoveCounts {
        std::mem::take(&mut self.counts)
    }

    fn is_moving(&self) -> bool {
        self.moving > self.served_everywhere()
    }

    /// A shard says how busy its slots were; those that it does not name were idle.
    pub fn take_loads(&mut self, from: ShardId, loads: &[SlotLoad]) {
        let image = self.controller.latest();
        self.slot_loads.resize(usize::from(image.layout.slots()), 0);
        for (slot, load) in (0..).map(PlacementSlot).zip(&mut self.slot_loads) {
            if image.shard(slot) == from {
                *load = 0;
            }
        }
        for SlotLoad { slot, load } in loads {
            self.slot_loads[usize::from(slot.0)] = *load;
        }
    }

    /// What every shard serves by, at least.
    fn served_everywhere(&self) -> u64 {
        self.applied.iter().copied().min().unwrap_or(0)
    }

    /// A producer id that nobody has, and the version from which on it may be told. `None`: all are gone.
    pub fn take_producer_id(&mut self) -> Option<(ProducerId, u64)> {
        if self.producer_ids.remaining() == 0 {
            let (records, block) = allocate_producer_ids(self.controller.latest())?;
            self.producer_ids_version = self.propose(records);
            self.producer_ids = block;
        }
        let id = self.producer_ids.take().expect("a new block is not empty");
        Some((id, self.producer_ids_version))
    }

    /// The answer `body` goes to `ticket` once every shard serves by `version`.
    pub fn answer_at(&mut self, version: u64, ticket: Ticket, body: Bytes) {
        self.waiting.push_back(Waiting { version, ticket, body });
    }

    /// Puts records on their way that nobody asked for (auto-creation, registration).
    pub fn propose(&mut self, records: Vec<Record>) -> u64 {
        self.controller.propose(records).expect("a single writer always leads")
    }

    /// Entries for the metadata log, one batch each, in order.
    pub fn entries_to_append(&mut self) -> Vec<Entry> {
        self.controller.ready()
    }

    /// The log holds everything up to `index`, fsynced.
    pub fn appended(&mut self, index: u64) {
        self.controller.appended(index);
    }

    /// The log had no space for the entries from `index` on. Returns the tickets whose decisions are undone. Entries that
    /// are refused one by one are undone with the first of them.
    pub fn refused(&mut self, index: u64) -> Vec<Ticket> {
        if index > self.controller.latest().version {
            return Vec::new();
        }
        self.controller.refused(index);
        let undone = self.waiting.iter().filter(|w| w.version >= index).map(|w| w.ticket).collect();
        self.waiting.retain(|waiting| waiting.version < index);
        if self.moving >= index {
            self.moving = self.published;
            if let Some(tell) = self.move_asked.take() {
                tell(Err(Box::new(MoveSlotError::NoSpace)));
            }
        }
        if self.producer_ids_version >= index {
            self.producer_ids = ProducerIdBlock::EMPTY;
            self.producer_ids_version = self.published;
        }
        undone
    }

    /// The newest committed image that shards may be given, if they have not been given it yet.
    pub fn image_to_publish(&mut self) -> Option<Arc<Image>> {
        let image = self.controller.image_to_publish(self.served_everywhere())?;
        self.published = image.version;
        Some(image)
    }

    /// A shard serves by this version. Returns the answers that may go out now.
    pub fn applied(&mut self, shard: ShardId, version: u64) -> Vec<(Ticket, Bytes)> {
        let applied = &mut self.applied[usize::from(shard.0)];
        assert!(version >= *applied, "shard {shard} went back from version {applied} to {version}");
        *applied = version;
        self.answers()
    }

    /// The answers whose versions every shard serves by.
    pub fn answers(&mut self) -> Vec<(Ticket, Bytes)> {
        let everywhere = self.served_everywhere();
        if self.moving <= everywhere
            && let Some(tell) = self.move_asked.take()
        {
            self.counts.done += 1;
            tell(Ok(()));
        }
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|waiting| waiting.version <= everywhere) {
            let waiting = self.waiting.pop_front().expect("the front is there");
            ready.push((waiting.ticket, waiting.body));
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Format, SingleWriter, apply, format_records};
    use crate::metadata::Local;
    use crate::model::{NodeId, Uuid};

    fn seat(shards: u16) -> ControllerSeat {
        let format = Format { cluster_id: Uuid([7; 16]), slots: 8, endpoints: 2, min_insync_replicas: 1 };
        let records = format_records(&format).unwrap();
        let empty = Image::empty(Local { node: NodeId(1), shards });
        let image = apply(empty, &Entry { term: 1, index: 1, records }).unwrap();
        ControllerSeat::new(Controller::new(Box::new(SingleWriter::new(NodeId(1), 1, 1)), image), shards)
    }

    fn ticket(slot: u32) -> Ticket {
        Ticket { shard: ShardId(0), slot, generation: 0 }
    }

    fn slots(answers: &[(Ticket, Bytes)]) -> Vec<u32> {
        answers.iter().map(|(ticket, _)| ticket.slot).collect()
    }

    /// Makes everything proposed durable and published.
    fn settle(seat: &mut ControllerSeat) -> u64 {
        let last = seat.entries_to_append().last().expect("something was proposed").index;
        seat.appended(last);
        assert!(seat.entries_to_append().is_empty());
        assert_eq!(seat.image_to_publish().map(|image| image.version), Some(last));
        assert!(seat.image_to_publish().is_none(), "each image is published once");
        last
    }

    #[test]
    fn a_decision_is_answered_when_every_shard_serves_by_it() {
        let mut seat = seat(2);
        seat.decide(vec![Record::NoOp], ticket(1), Bytes::new());
        seat.decide(Vec::new(), ticket(2), Bytes::new());
        assert!(seat.answers().is_empty(), "the second rests on the first");
        let version = settle(&mut seat);
        assert!(seat.applied(ShardId(0), version).is_empty());
        assert_eq!(slots(&seat.applied(ShardId(1), version)), [1, 2]);
        seat.decide(Vec::new(), ticket(3), Bytes::new());
        assert_eq!(slots(&seat.answers()), [3], "nothing to wait for");
    }

    #[test]
    fn a_refused_decision_is_undone_with_its_producer_ids() {
        let mut seat = seat(1);
        let (id, version) = seat.take_producer_id().unwrap();
        assert_eq!((id, version), (ProducerId(0), 2));
        seat.answer_at(version, ticket(1), Bytes::new());
        seat.propose(vec![Record::NoOp]);
        seat.entries_to_append();
        assert_eq!(seat.refused(version), [ticket(1)]);
        assert_eq!(seat.refused(version + 1), [], "undone with the one before it");
        let (id, version) = seat.take_producer_id().unwrap();
        assert_eq!((id, version), (ProducerId(0), 2), "nobody was told of it: it is given anew");
        settle(&mut seat);
        assert_eq!(seat.take_producer_id(), Some((ProducerId(1), 2)), "a block serves many");
    }
}
