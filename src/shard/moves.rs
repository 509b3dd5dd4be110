//! A slot that moves to another shard of this process, seen from each of them.
//!
//! The decision is a metadata record, durable before anybody acts by it; so whatever is cut off by a crash, the next start knows one
//! owner for each partition, and carries out the journals of all shards before any partition is opened. Without a crash it goes:
//!
//! 1. Each shard serves by the image that has the move (`take_over`): what it sends for the slot from now on goes to the new
//!    shard, which holds it. To the old one it sends `SlotLeft`, behind all that it has sent it for the slot.
//! 2. The old shard goes on serving what it gets. When all peers have left, it ends what is under way and closes the logs
//!    (`partition/handover.rs`); its coordinator resigns from the groups of the slot. `SlotHandedOver` says so.
//! 3. The new shard opens the logs, loads the groups, and serves what it holds, in the order in which it came.
//!
//! So no produce is refused for the move, and the order of a producer's batches holds: whatever went to the old shard was answered
//! for before the new one began. Fetches are held too, unless they wait at the old shard or name the old epoch; those, and what
//! else comes in between (offsets, deletions, group requests), get an error that clients answer by asking again. Clients see other
//! leader epochs, and another leader where the slot's endpoint has changed.
//! At most one slot moves at a time: the next decision waits until every shard has applied this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::boot::{GroupBatches, read_groups};
use super::image::new_partition;
use super::{Shard, ShardEvent};
use crate::log::Now;
use crate::mesh::{HandedPartition, HandedSlot, Mesh, Message};
use crate::metadata::{GROUP_METADATA_TOPIC, Image, MovedSlot};
use crate::metrics::{SlotReport, SlotsReport, Traffic};
use crate::model::{PartitionIndex, PlacementSlot, TopicId, TopicPartition};
use crate::partition::{Arriving, OfflineReason};
use crate::reactor::{Files, Io};
use crate::server::{self, JobFor};

/// What this shard has to do with a slot that moves.
#[derive(Default)]
pub(super) struct Moves {
    leaving: Option<Leaving>,
    /// Shards that send nothing more for the slot that leaves; they may say so before this one knows of the move.
    peers_left: u16,
    arriving: Option<Coming>,
    /// The slot that arrives was handed over; that may be said before this shard knows of the move.
    handed: Option<Box<HandedSlot>>,
}

struct Leaving {
    moved: MovedSlot,
    is_given: bool,
}

struct Coming {
    slot: PlacementSlot,
    /// Partitions that are being opened or whose groups are being loaded, once it was handed over.
    opening: usize,
}

impl Shard {
    /// Takes part in a move that the image has. Returns for how many ends of it the image has to wait here.
    pub(super) fn begin_move(
        &mut self,
        mesh: &mut dyn Mesh,
        now: Now,
        moved: MovedSlot,
        before: &Image,
        image: &Image,
    ) -> usize {
        if moved.from == self.id {
            assert!(self.moves.leaving.is_none(), "one slot moves at a time");
            self.moves.leaving = Some(Leaving { moved, is_given: false });
            return 1;
        }
        mesh.send(moved.from, Message::SlotLeft(moved.slot));
        if moved.to != self.id {
            return 0;
        }
        assert!(self.moves.arriving.is_none(), "one slot moves at a time");
        self.moves.arriving = Some(Coming { slot: moved.slot, opening: 0 });
        let mut keys = in_slot(image, moved.slot);
        // New ones are made here.
        keys.retain(|(at, topic_id)| {
            let known = before.topic_by_id(*topic_id).and_then(|topic| topic.partition(at.partition));
            known.is_some_and(|partition| before.owner_of(partition).is_some())
        });
        for (at, _) in keys.iter().filter(|(at, _)| at.topic.as_ref() == GROUP_METADATA_TOPIC) {
            self.groups.begin_load(now, at.partition);
        }
        self.partitions.await_arrival(keys.into_iter().map(|(at, topic_id)| (topic_id, at.partition)));
        1
    }

    /// A peer sends nothing more for the slot that leaves.
    pub(super) fn slot_left(&mut self) {
        self.moves.peers_left += 1;
    }

    pub(super) fn slot_handed_over(&mut self, handed: Box<HandedSlot>) {
        assert!(self.moves.handed.is_none(), "one slot moves at a time");
        self.moves.handed = Some(handed);
    }

    /// Goes on with a move, if one is under way. True if something changed.
    pub(super) fn drive_moves(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) -> bool {
        if let Some(leaving) = self.moves.leaving.as_mut().filter(|leaving| !leaving.is_given)
            && self.moves.peers_left + 1 == mesh.shard_count()
        {
            leaving.is_given = true;
            let slot = leaving.moved.slot;
            self.give_away(Now::read(io), slot);
            return true;
        }
        if let Some(coming) = &self.moves.arriving
            && let Some(handed) = self.moves.handed.take()
        {
            assert_eq!(coming.slot, handed.slot, "another slot was handed over");
            self.open_handed(io, mesh, handed.partitions);
            return true;
        }
        false
    }

    fn give_away(&mut self, now: Now, slot: PlacementSlot) {
        let mut keys = Vec::new();
        for (at, topic_id) in in_slot(&self.image, slot) {
            let is_served = self.partitions.find(topic_id, at.partition).is_some();
            if !is_served && self.partitions.offline(topic_id, at.partition).is_none() {
                continue;
            }
            if at.topic.as_ref() == GROUP_METADATA_TOPIC {
                self.groups.resign(now, at.partition);
            }
            keys.push((topic_id, at.partition));
        }
        self.partitions.give(keys);
    }

    /// What was in the slot is closed: the new shard may have it.
    pub(super) fn partitions_given(&mut self, mesh: &mut dyn Mesh, partitions: Vec<HandedPartition>) {
        let Leaving { moved, .. } = self.moves.leaving.take().expect("partitions are given for a move");
        self.moves.peers_left = 0;
        mesh.send(moved.to, Message::SlotHandedOver(Box::new(HandedSlot { slot: moved.slot, partitions })));
        self.images.done(1);
    }

    fn open_handed(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, handed: Vec<HandedPartition>) {
        let image = Arc::clone(&self.image);
        let mut arriving = Vec::new();
        for handed in handed {
            let topic = image.topic_by_id(handed.topic_id);
            match topic.filter(|topic| topic.partition(handed.partition).is_some()) {
                Some(topic) => {
                    let new = new_partition(&self.config, &image, topic, handed.partition);
                    arriving.push(Arriving { new, handed });
                }
                // Its topic was deleted by an image that the old shard does not serve by yet.
                None => {
                    self.images.wait_for(1);
                    self.partitions.remove_handed(&handed);
                }
            }
        }
        let keys = arriving.iter().map(|arriving| (arriving.new.topic_id, arriving.new.at.partition));
        // Others were deleted by an image that this shard does not serve by yet.
        self.partitions.arrivals.await_only(keys.collect());
        let coming = self.moves.arriving.as_mut().expect("it is on its way here");
        coming.opening = arriving.len();
        self.partitions.receive(arriving, io.wall_clock());
        self.serve_held(io, mesh);
        self.end_arrival_if_done();
    }

    /// A partition is here, served or offline.
    pub(super) fn partition_arrived(
        &mut self,
        io: &mut dyn Io,
        mesh: &mut dyn Mesh,
        at: TopicPartition,
        topic_id: TopicId,
        refused: Option<OfflineReason>,
    ) {
        self.partitions.arrivals.arrived(topic_id, at.partition);
        self.serve_held(io, mesh);
        let is_of_groups = at.topic.as_ref() == GROUP_METADATA_TOPIC;
        match (refused, self.partitions.find(topic_id, at.partition)) {
            (None, Some(replica)) if is_of_groups => {
                let log = self.partitions.get(replica).log();
                let (start, end, directory) =
                    (log.log_start_offset(), log.log_end_offset(), log.directory().to_owned());
                let partition = at.partition;
                let read = move |files: &mut dyn Files| -> Box<dyn std::any::Any + Send> {
                    Box::new(read_groups(files, &at, &directory, start, end))
                };
                self.jobs.push((JobFor::Groups { partition }, Box::new(read)));
                return;
            }
            (refused, _) => {
                if is_of_groups {
                    self.groups.resign(Now::read(io), at.partition);
                }
                if let Some(reason @ OfflineReason::Damaged(_)) = refused {
                    self.events.push(ShardEvent::Unopened { at, reason });
                }
            }
        }
        self.one_is_open();
    }

    /// The records of a coordinator's partition that has arrived were read.
    pub(super) fn groups_read(&mut self, io: &dyn Io, partition: PartitionIndex, batches: GroupBatches) {
        let now = Now::read(io);
        match batches {
            Ok(batches) => {
                for (records, bytes) in batches {
                    self.groups.load(now, partition, records, bytes);
                }
                self.groups.end_load(now, partition);
            }
            Err(error) => {
                // A coordinator whose records cannot be read is none: its groups are never shown empty.
                self.groups.resign(now, partition);
                self.events.push(ShardEvent::GroupsUnread { error });
            }
        }
        self.one_is_open();
    }

    fn one_is_open(&mut self) {
        let coming = self.moves.arriving.as_mut().expect("partitions arrive in a slot");
        coming.opening -= 1;
        self.end_arrival_if_done();
    }

    fn end_arrival_if_done(&mut self) {
        if self.moves.arriving.as_ref().is_some_and(|coming| coming.opening == 0) {
            self.moves.arriving = None;
            self.images.done(1);
        }
    }

    /// The slots of this shard, with what they hold and how busy they are.
    pub(super) fn slots_report(&self) -> SlotsReport {
        let image = &self.image;
        let here = (0..image.layout.slots()).map(PlacementSlot).filter(|slot| image.shard(*slot) == self.id);
        let report = |slot| {
            let endpoint = image.endpoint(image.local.node, slot);
            SlotReport { slot, endpoint, partitions: 0, size_bytes: 0, total: Traffic::default() }
        };
        let mut slots: BTreeMap<PlacementSlot, SlotReport> = here.map(|slot| (slot, report(slot))).collect();
        let slot_of = |topic_id, index| Some(image.topic_by_id(topic_id)?.partition(index)?.slot);
        for (_, replica) in self.partitions.served() {
            let slot = slot_of(replica.topic_id(), replica.at().partition);
            if let Some(report) = slot.and_then(|slot| slots.get_mut(&slot)) {
                report.partitions += 1;
                report.size_bytes += replica.log().size_bytes();
                report.total.add(&replica.traffic());
            }
        }
        SlotsReport { shard: self.id, slots: slots.into_values().collect() }
    }

    /// Serves requests that were held for partitions that were not here, and are or will not be.
    pub(super) fn serve_held(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        let (appends, fetches) = self.partitions.arrivals.take_ready();
        if appends.is_empty() && fetches.is_empty() {
            return;
        }
        let mut ctx = super::context!(self, io, mesh);
        server::handlers::produce::append_held(&mut ctx, appends);
        for order in fetches {
            server::handlers::fetch::read_order(&mut ctx, order);
        }
    }
}

/// The partitions in a slot of which this node has a replica.
fn in_slot(image: &Image, slot: PlacementSlot) -> Vec<(TopicPartition, TopicId)> {
    let mut found = Vec::new();
    for topic in image.topics() {
        for (index, partition) in topic.numbered() {
            if partition.slot == slot && image.owner_of(partition).is_some() {
                let at = TopicPartition { topic: Arc::clone(&topic.name), partition: index };
                found.push((at, topic.id));
            }
        }
    }
    found
}
