//! Moving a slot, with all partitions in it, to another core of this node.

use std::fmt;

use crate::metadata::{Image, MoveSlotRecord, Record, SlotHome};
use crate::model::{Endpoint, PlacementSlot, ShardId};

/// Why a slot is not moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveSlotError {
    NoSuchSlot {
        slot: PlacementSlot,
        slots: u16,
    },
    NoSuchCore {
        core: ShardId,
        cores: u16,
    },
    /// It is there.
    AlreadyThere {
        core: ShardId,
    },
    /// Nothing new could be placed at an endpoint without slots, and clients would be told of a broker that leads nothing.
    LastOfEndpoint {
        endpoint: Endpoint,
    },
    /// Another one is on its way.
    Moving,
    /// The metadata log has no room for the decision.
    NoSpace,
}

impl fmt::Display for MoveSlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoveSlotError::NoSuchSlot { slot, slots } => {
                write!(f, "there is no slot {}: they are numbered from 0 to {}", slot.0, slots - 1)
            }
            MoveSlotError::NoSuchCore { core, cores } => {
                write!(f, "there is no core {}: this broker runs cores 0 to {}", core.0, cores - 1)
            }
            MoveSlotError::AlreadyThere { core } => write!(f, "the slot is on core {} already", core.0),
            MoveSlotError::LastOfEndpoint { endpoint } => write!(
                f,
                "it is the last slot of endpoint {}, which would lead nothing; move another one there first",
                endpoint.0
            ),
            MoveSlotError::Moving => f.write_str("another slot is being moved; try again when it is there"),
            MoveSlotError::NoSpace => f.write_str(
                "the metadata log could not be written; free some space in the first data directory",
            ),
        }
    }
}

impl std::error::Error for MoveSlotError {}

/// Decides to move a slot of this node to another of its cores.
///
/// It stays at its endpoint if the clients of that are served on the new core too, else it goes to that endpoint of the new
/// core that has the fewest partitions: so a slot is always where the clients of its endpoint come in.
pub fn move_slot(image: &Image, slot: PlacementSlot, core: ShardId) -> Result<Vec<Record>, MoveSlotError> {
    let (layout, node, cores) = (image.layout, image.local.node, image.local.shards);
    if slot.0 >= layout.slots() {
        return Err(MoveSlotError::NoSuchSlot { slot, slots: layout.slots() });
    }
    if core.0 >= cores {
        return Err(MoveSlotError::NoSuchCore { core, cores });
    }
    if image.shard(slot) == core {
        return Err(MoveSlotError::AlreadyThere { core });
    }
    let now = image.endpoint(node, slot);
    let endpoint = match layout.serves(core, now, cores) {
        true => now,
        false => {
            let slots_of = |endpoint| {
                let all = (0..layout.slots()).map(PlacementSlot);
                all.filter(move |slot| image.endpoint(node, *slot) == endpoint)
            };
            if slots_of(now).count() == 1 {
                return Err(MoveSlotError::LastOfEndpoint { endpoint: now });
            }
            let partitions = |endpoint: &Endpoint| -> u32 {
                slots_of(*endpoint).map(|slot| image.slot_partitions()[usize::from(slot.0)]).sum()
            };
            let there = layout.endpoints_of(core, cores).min_by_key(partitions);
            there.expect("each core serves the clients of an endpoint")
        }
    };
    let home = SlotHome { endpoint, core, cores };
    Ok(vec![Record::MoveSlot(MoveSlotRecord { node, slot, home })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Layout, Local, Partition, Replica};
    use crate::model::{LeaderEpoch, NodeId, Uuid};

    fn image(slots: u16, endpoints: u16, cores: u16) -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: cores });
        image.put_format(Uuid([9; 16]), Layout::new(slots, endpoints).unwrap());
        image.put_topic(Uuid([1; 16]), "t".into());
        for index in 0..i32::from(slots) {
            let partition = Partition {
                slot: PlacementSlot(index as u16),
                leader: Some(NodeId(1)),
                leader_epoch: LeaderEpoch(4),
                partition_epoch: 0,
                replicas: [Replica { node: NodeId(1), directory: Uuid::ZERO }].into(),
                isr: [NodeId(1)].into(),
            };
            image.put_partition(Uuid([1; 16]), index, partition);
        }
        image
    }

    fn moved(image: &mut Image, slot: u16, core: u16) -> Result<(u16, u16), MoveSlotError> {
        let records = move_slot(image, PlacementSlot(slot), ShardId(core))?;
        let [Record::MoveSlot(record)] = records.as_slice() else { panic!("{records:?}") };
        assert!(image.move_slot(record.node, record.slot, record.home));
        Ok((image.endpoint(NodeId(1), PlacementSlot(slot)).0, image.shard(PlacementSlot(slot)).0))
    }

    #[test]
    fn a_slot_moves_to_a_core_and_to_an_endpoint_of_it() {
        let check = |(slots, endpoints, cores), slot, core, expected| {
            let mut image = image(slots, endpoints, cores);
            assert_eq!(
                moved(&mut image, slot, core),
                expected,
                "slot {slot} of {slots} to {core} of {cores}"
            );
        };
        // One endpoint a core: the leader changes.
        check((8, 2, 2), 2, 1, Ok((1, 1)));
        // Several endpoints on a core: the first of those with the fewest partitions.
        check((8, 4, 2), 0, 1, Ok((1, 1)));
        // Several cores of an endpoint: the leader stays.
        check((8, 2, 4), 0, 2, Ok((0, 2)));
        check((8, 2, 2), 8, 1, Err(MoveSlotError::NoSuchSlot { slot: PlacementSlot(8), slots: 8 }));
        check((8, 2, 2), 7, 2, Err(MoveSlotError::NoSuchCore { core: ShardId(2), cores: 2 }));
        check((8, 2, 2), 7, 1, Err(MoveSlotError::AlreadyThere { core: ShardId(1) }));
        check((2, 2, 2), 0, 1, Err(MoveSlotError::LastOfEndpoint { endpoint: Endpoint(0) }));
    }

    #[test]
    fn what_moves_is_led_in_a_new_epoch_and_nothing_else() {
        let mut image = image(8, 2, 2);
        moved(&mut image, 2, 1).unwrap();
        moved(&mut image, 2, 0).unwrap();
        let epochs: Vec<i32> =
            image.topic("t").unwrap().partitions.iter().map(|partition| partition.leader_epoch.0).collect();
        assert_eq!(epochs, [4, 4, 6, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn an_endpoint_may_be_emptied_down_to_its_last_slot() {
        let mut image = image(6, 2, 2);
        assert_eq!(moved(&mut image, 0, 1), Ok((1, 1)));
        assert_eq!(moved(&mut image, 2, 1), Ok((1, 1)));
        let last = MoveSlotError::LastOfEndpoint { endpoint: Endpoint(0) };
        assert_eq!(moved(&mut image, 4, 1), Err(last));
        assert_eq!(moved(&mut image, 0, 0), Ok((0, 0)));
    }
}
