//! Where slots are that somebody has moved.
//!
//! A slot that was never moved is at the endpoint and on the core that the layout gives it. One that was moved keeps its new
//! endpoint for good, since clients know partitions by it; the core it moved to counts only while the node runs as many cores
//! as then. With another number the slot is on one of the cores that serve its endpoint, as the layout has it; so a start with
//! fewer cores leaves none of its partitions without one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::Local;
use super::layout::Layout;
use crate::model::{Endpoint, NodeId, PlacementSlot, ShardId};

/// Where a slot has moved to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotHome {
    pub endpoint: Endpoint,
    pub core: ShardId,
    /// How many cores the node ran then.
    pub cores: u16,
}

/// The moved slots of all nodes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct SlotHomes(Arc<BTreeMap<(NodeId, PlacementSlot), SlotHome>>);

impl SlotHomes {
    pub fn put(&mut self, node: NodeId, slot: PlacementSlot, home: SlotHome) {
        Arc::make_mut(&mut self.0).insert((node, slot), home);
    }

    pub fn endpoint(&self, layout: &Layout, node: NodeId, slot: PlacementSlot) -> Endpoint {
        self.0.get(&(node, slot)).map_or_else(|| layout.endpoint(slot), |home| home.endpoint)
    }

    pub fn shard(&self, layout: &Layout, local: Local, slot: PlacementSlot) -> ShardId {
        match self.0.get(&(local.node, slot)) {
            None => layout.shard(slot, local.shards),
            // A record of other cores than it says would name one that is not there.
            Some(home) if home.cores == local.shards && home.core.0 < local.shards => home.core,
            Some(home) => layout.shard_at(slot, home.endpoint, local.shards),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_slot_keeps_its_endpoint_and_its_core_while_there_are_as_many() {
        let layout = Layout::new(8, 4).unwrap();
        let mut homes = SlotHomes::default();
        let home = SlotHome { endpoint: Endpoint(3), core: ShardId(1), cores: 2 };
        homes.put(NodeId(1), PlacementSlot(4), home);
        let check = |node, slot, shards, expected: (u16, u16)| {
            let local = Local { node: NodeId(node), shards };
            let slot = PlacementSlot(slot);
            let found = (homes.endpoint(&layout, local.node, slot).0, homes.shard(&layout, local, slot).0);
            assert_eq!(found, expected, "{slot:?} of node {node} with {shards} cores");
        };
        check(1, 4, 2, (3, 1));
        check(1, 4, 4, (3, 3));
        check(1, 4, 1, (3, 0));
        check(1, 4, 8, (3, 7));
        check(1, 3, 2, (3, 1));
        check(2, 4, 2, (0, 0));
    }

    #[test]
    fn a_moved_slot_is_where_the_clients_of_its_endpoint_are_served() {
        let layout = Layout::new(16, 4).unwrap();
        for shards in 1..=9 {
            for (slot, endpoint) in (0..16).flat_map(|slot| (0..4).map(move |endpoint| (slot, endpoint))) {
                let shard = layout.shard_at(PlacementSlot(slot), Endpoint(endpoint), shards);
                assert!(
                    layout.serves(shard, Endpoint(endpoint), shards),
                    "slot {slot} at {endpoint} of {shards}"
                );
            }
        }
    }
}
