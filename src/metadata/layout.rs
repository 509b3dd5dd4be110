//! Placement: slot to endpoint to shard, as pure functions of three counts.
//!
//! Slots and endpoints are fixed when the directory is formatted; the number of shards is not. A partition keeps its slot for
//! life, so another number of cores moves slots between cores and renumbers nothing that a client can see.

use std::fmt;

use crate::model::{Endpoint, PlacementSlot, ShardId};

/// How partitions are spread inside a node. Fixed at format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    slots: u16,
    endpoints: u16,
}

/// Why no directory can be formatted, or read, with these counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// Both counts are at least one.
    Zero,
    /// An endpoint without a slot would lead nothing, ever.
    MoreEndpointsThanSlots { endpoints: u16, slots: u16 },
    /// Endpoints are numbered inside a thousand of the node id.
    TooManyEndpoints { endpoints: u16 },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Zero => f.write_str("slots and endpoints must be at least 1"),
            LayoutError::MoreEndpointsThanSlots { endpoints, slots } => {
                write!(f, "{endpoints} endpoints need at least as many slots, not {slots}")
            }
            LayoutError::TooManyEndpoints { endpoints } => {
                write!(f, "{endpoints} endpoints are more than 1000")
            }
        }
    }
}

impl std::error::Error for LayoutError {}

impl Layout {
    pub fn new(slots: u16, endpoints: u16) -> Result<Layout, LayoutError> {
        if slots == 0 || endpoints == 0 {
            Err(LayoutError::Zero)
        } else if endpoints > 1000 {
            Err(LayoutError::TooManyEndpoints { endpoints })
        } else if endpoints > slots {
            Err(LayoutError::MoreEndpointsThanSlots { endpoints, slots })
        } else {
            Ok(Layout { slots, endpoints })
        }
    }

    pub fn slots(&self) -> u16 {
        self.slots
    }

    pub fn endpoints(&self) -> u16 {
        self.endpoints
    }

    /// The endpoint that a slot is advertised under until it moves.
    pub fn endpoint(&self, slot: PlacementSlot) -> Endpoint {
        assert!(slot.0 < self.slots, "slot {} of {}", slot.0, self.slots);
        Endpoint(slot.0 % self.endpoints)
    }

    /// Whether a shard serves the clients of an endpoint when `shards` of them run.
    pub fn serves(&self, shard: ShardId, endpoint: Endpoint, shards: u16) -> bool {
        match shards <= self.endpoints {
            true => endpoint.0 % shards == shard.0,
            false => shard.0 % self.endpoints == endpoint.0,
        }
    }

    /// The endpoints whose clients a shard serves: those of its slots, never none.
    pub fn endpoints_of(&self, shard: ShardId, shards: u16) -> impl Iterator<Item = Endpoint> {
        let layout = *self;
        (0..self.endpoints).map(Endpoint).filter(move |endpoint| layout.serves(shard, *endpoint, shards))
    }

    /// The shards that serve the clients of an endpoint, never none; each of its slots is on one of them.
    pub fn shards_of(&self, endpoint: Endpoint, shards: u16) -> impl Iterator<Item = ShardId> {
        let layout = *self;
        (0..shards).map(ShardId).filter(move |shard| layout.serves(*shard, endpoint, shards))
    }

    /// The shard that owns a slot when `shards` of them run.
    ///
    /// Up to as many shards as endpoints, an endpoint lives on one shard as a whole, so that its listener can too. With more
    /// shards, shard `t` serves endpoint `t mod E`, and the slots of an endpoint take turns over its shards. Every shard owns
    /// a slot as long as there are as many slots as shards.
    pub fn shard(&self, slot: PlacementSlot, shards: u16) -> ShardId {
        self.shard_at(slot, self.endpoint(slot), shards)
    }

    /// As `shard`, for a slot that has moved to this endpoint.
    pub fn shard_at(&self, slot: PlacementSlot, endpoint: Endpoint, shards: u16) -> ShardId {
        assert!(shards > 0, "a node has at least one shard");
        assert!(endpoint.0 < self.endpoints, "endpoint {} of {}", endpoint.0, self.endpoints);
        let endpoint = endpoint.0;
        if shards <= self.endpoints {
            return ShardId(endpoint % shards);
        }
        let shards_of_endpoint = (shards - endpoint).div_ceil(self.endpoints);
        let turn = (slot.0 / self.endpoints) % shards_of_endpoint;
        ShardId(endpoint + turn * self.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_directory_can_have() {
        let check = |slots, endpoints, expected| assert_eq!(Layout::new(slots, endpoints).err(), expected);
        check(64, 16, None);
        check(1, 1, None);
        check(0, 1, Some(LayoutError::Zero));
        check(64, 0, Some(LayoutError::Zero));
        check(4, 5, Some(LayoutError::MoreEndpointsThanSlots { endpoints: 5, slots: 4 }));
        check(2000, 1001, Some(LayoutError::TooManyEndpoints { endpoints: 1001 }));
    }

    #[test]
    fn every_shard_gets_work() {
        for (slots, endpoints) in [(64, 1), (64, 2), (64, 4), (64, 16), (8, 3), (64, 64), (10, 7)] {
            let layout = Layout::new(slots, endpoints).unwrap();
            for shards in 1..=slots {
                let mut owned = vec![0u16; usize::from(shards)];
                for slot in 0..slots {
                    owned[usize::from(layout.shard(PlacementSlot(slot), shards).0)] += 1;
                }
                assert!(
                    owned.iter().all(|n| *n > 0),
                    "{slots} slots, {endpoints} endpoints, {shards} shards: {owned:?}"
                );
            }
        }
    }

    #[test]
    fn clients_of_an_endpoint_are_served_where_its_slots_are() {
        for (slots, endpoints) in [(64, 1), (64, 4), (64, 16), (8, 3), (10, 7), (2, 2)] {
            let layout = Layout::new(slots, endpoints).unwrap();
            for shards in 1..=20 {
                for slot in (0..slots).map(PlacementSlot) {
                    let (endpoint, shard) = (layout.endpoint(slot), layout.shard(slot, shards));
                    assert!(
                        layout.shards_of(endpoint, shards).any(|other| other == shard),
                        "{slot:?} of {shards}"
                    );
                    assert!(layout.endpoints_of(shard, shards).any(|other| other == endpoint));
                }
                for shard in (0..shards).map(ShardId) {
                    assert!(
                        layout.endpoints_of(shard, shards).count() > 0,
                        "{shard} of {shards} serves nobody"
                    );
                }
            }
        }
        let layout = Layout::new(64, 4).unwrap();
        let endpoints =
            |shard, shards| layout.endpoints_of(ShardId(shard), shards).map(|e| e.0).collect::<Vec<_>>();
        assert_eq!((endpoints(0, 1), endpoints(1, 3)), (vec![0, 1, 2, 3], vec![1]));
        assert_eq!((endpoints(1, 2), endpoints(6, 8)), (vec![1, 3], vec![2]));
    }

    #[test]
    fn an_endpoint_stays_whole_up_to_as_many_shards() {
        let layout = Layout::new(64, 4).unwrap();
        for shards in 1..=4 {
            for slot in 0..64 {
                let first = PlacementSlot(slot % 4);
                assert_eq!(layout.shard(PlacementSlot(slot), shards), layout.shard(first, shards));
            }
        }
        assert_eq!(layout.shard(PlacementSlot(1), 8), ShardId(1));
        assert_eq!(
            layout.shard(PlacementSlot(5), 8),
            ShardId(5),
            "the endpoint's slots take turns over its shards"
        );
        assert_eq!(layout.shard(PlacementSlot(9), 8), ShardId(1));
    }
}
