//! When a slot is moved for the sake of balance: from the busiest core of this node to the idlest, one at a time, and seldom.
//!
//! A move costs its clients a pause and a redirect, so it must pay: the imbalance has to be large and to have lasted, and the slot to
//! be half of it at most. After such a move the idlest core is still not busier than the busiest was left, so no move asks for
//! its own undoing; a slot that has moved rests for a while, in case its load wanders.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::slots::move_slot;
use crate::metadata::Image;
use crate::model::{PlacementSlot, ShardId};

/// For so many looks in turn the same core has to be the busiest, by enough.
const LOOKS: usize = 3;

/// A slot that was moved stays for so many looks.
const REST_LOOKS: u32 = 30;

/// A core that moves less than this in a second is idle, whatever others do.
const LOAD_MIN: u64 = 1 << 20;

/// Watches the loads of slots.
#[derive(Default)]
pub struct Balancer {
    /// Of each slot, by look, while the same core is too busy; the newest last.
    looks: VecDeque<Vec<u64>>,
    busiest: Option<ShardId>,
    resting: BTreeMap<PlacementSlot, u32>,
}

/// A slot that should move, and why. Loads are in bytes a second, or what costs as much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebalance {
    pub slot: PlacementSlot,
    pub from: ShardId,
    pub to: ShardId,
    pub slot_load: u64,
    pub from_load: u64,
    pub to_load: u64,
}

impl fmt::Display for Rebalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rebalance { slot, from, to, slot_load, from_load, to_load } = self;
        write!(
            f,
            "slot {} with a load of {slot_load} from core {} with {from_load} to core {} with {to_load}",
            slot.0, from.0, to.0
        )
    }
}

impl Balancer {
    /// Looks at the loads of all slots, by number. `threshold_percent`: how much less than the busiest core the idlest has to do.
    pub fn look(&mut self, image: &Image, slot_loads: &[u64], threshold_percent: u32) -> Option<Rebalance> {
        self.resting.retain(|_, looks| {
            *looks -= 1;
            *looks > 0
        });
        let cores = core_loads(image, slot_loads);
        let (busiest, idlest) = ends(&cores);
        if !is_uneven(cores[busiest], cores[idlest], threshold_percent) {
            self.forget();
            return None;
        }
        let core = Some(ShardId(busiest as u16));
        if self.busiest != core {
            self.forget();
            self.busiest = core;
        }
        self.looks.push_back(slot_loads.to_vec());
        if self.looks.len() < LOOKS {
            return None;
        }
        let mean: Vec<u64> = (0..slot_loads.len())
            .map(|slot| self.looks.iter().map(|look| look[slot]).sum::<u64>() / LOOKS as u64)
            .collect();
        self.looks.pop_front();
        let found = self.choose(image, &mean, threshold_percent)?;
        self.forget();
        self.resting.insert(found.slot, REST_LOOKS);
        Some(found)
    }

    /// What was seen counts no more: slots are on other cores, or nobody wants to know.
    pub fn forget(&mut self) {
        self.looks.clear();
        self.busiest = None;
    }

    /// The slot that evens the two out most; the first of equals.
    fn choose(&self, image: &Image, loads: &[u64], threshold_percent: u32) -> Option<Rebalance> {
        let cores = core_loads(image, loads);
        let (busiest, idlest) = ends(&cores);
        let (from_load, to_load) = (cores[busiest], cores[idlest]);
        if !is_uneven(from_load, to_load, threshold_percent) {
            return None;
        }
        let (from, to) = (ShardId(busiest as u16), ShardId(idlest as u16));
        let pays = |slot: &PlacementSlot| {
            let load = loads[usize::from(slot.0)];
            // A twentieth at least: less is not worth a pause.
            load <= (from_load - to_load) / 2 && load >= from_load / 20
        };
        let slots = (0..image.layout.slots()).map(PlacementSlot);
        let slot = slots
            .filter(|slot| image.shard(*slot) == from && !self.resting.contains_key(slot))
            .filter(pays)
            .filter(|slot| move_slot(image, *slot, to).is_ok())
            .max_by_key(|slot| (loads[usize::from(slot.0)], std::cmp::Reverse(*slot)))?;
        Some(Rebalance { slot, from, to, slot_load: loads[usize::from(slot.0)], from_load, to_load })
    }
}

fn core_loads(image: &Image, slot_loads: &[u64]) -> Vec<u64> {
    let mut cores = vec![0; usize::from(image.local.shards)];
    for (slot, load) in (0..image.layout.slots()).map(PlacementSlot).zip(slot_loads) {
        cores[usize::from(image.shard(slot).0)] += load;
    }
    cores
}

/// The busiest core and the idlest; the first of equals.
fn ends(cores: &[u64]) -> (usize, usize) {
    let busiest = (0..cores.len()).min_by_key(|core| std::cmp::Reverse(cores[*core]));
    let idlest = (0..cores.len()).min_by_key(|core| cores[*core]);
    busiest.zip(idlest).expect("a node has a core")
}

fn is_uneven(busiest: u64, idlest: u64, threshold_percent: u32) -> bool {
    let enough = u128::from(busiest) * u128::from(threshold_percent);
    busiest >= LOAD_MIN && u128::from(busiest - idlest) * 100 >= enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Layout, Local, Record};
    use crate::model::{NodeId, Uuid};

    const MIB: u64 = 1 << 20;

    /// Slots 0 to 7 on cores 0 and 1 in turn.
    fn image() -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 2 });
        image.put_format(Uuid([9; 16]), Layout::new(8, 2).unwrap());
        image
    }

    /// What a balancer does of these loads, in MiB, one look after the other: slot and core, or nothing.
    fn balanced(image: &mut Image, looks: &[[u64; 8]]) -> Vec<Option<(u16, u16)>> {
        let mut balancer = Balancer::default();
        let mut look = |loads: &[u64; 8]| {
            let found = balancer.look(image, &loads.map(|load| load * MIB), 25)?;
            for record in move_slot(image, found.slot, found.to).unwrap() {
                let Record::MoveSlot(record) = record else { panic!("{record:?}") };
                assert!(image.move_slot(record.node, record.slot, record.home));
            }
            Some((found.slot.0, found.to.0))
        };
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn a_slot_moves_when_it_helps_and_the_imbalance_has_lasted() {
        let check = |looks: &[[u64; 8]], expected: &[Option<(u16, u16)>]| {
            assert_eq!(balanced(&mut image(), looks), expected, "{looks:?}");
        };
        let even = [5, 5, 5, 5, 5, 5, 5, 5];
        let skewed = [10, 1, 30, 1, 20, 1, 0, 1];
        check(&[even; 4], &[None; 4]);
        // 60 against 4: of 10, 20 and 30, 20 is the most within half of 56.
        check(&[skewed; 3], &[None, None, Some((4, 1))]);
        // Once it is gone, 40 against 24: 10 would leave 30 against 34.
        check(&[skewed; 9], &[&[None, None, Some((4, 1))][..], &[None; 6]].concat());
        // It has to last.
        check(&[skewed, skewed, even, skewed, skewed], &[None; 5]);
        let other = [1, 10, 1, 30, 1, 20, 1, 0];
        check(&[skewed, skewed, other, other, other], &[None, None, None, None, Some((5, 0))]);
        // One slot does it all: moving it would move the trouble.
        check(&[[90, 0, 0, 0, 0, 0, 0, 0]; 9], &[None; 9]);
        // Two do it all: they part.
        check(&[[50, 0, 50, 0, 0, 0, 0, 0]; 9], &[&[None, None, Some((0, 1))][..], &[None; 6]].concat());
        // Crumbs do not pay.
        check(&[[90, 0, 2, 0, 1, 0, 0, 0]; 9], &[None; 9]);
        // Less than the threshold; next to nothing.
        check(&[[5, 4, 5, 4, 5, 4, 5, 4]; 4], &[None; 4]);
        check(&[[0; 8]; 4], &[None; 4]);
    }

    #[test]
    fn it_comes_to_rest_and_no_slot_goes_back() {
        for seed in 0..200_u64 {
            let mut word = seed;
            let mut loads = [0; 8];
            for load in &mut loads {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *load = (word >> 33) % 100;
            }
            let moves = balanced(&mut image(), &[loads; 60]);
            let moved: Vec<u16> = moves.iter().flatten().map(|(slot, _)| *slot).collect();
            let mut once = moved.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), moved.len(), "{loads:?}: {moved:?}");
            assert!(moves[30..].iter().all(Option::is_none), "{loads:?} does not come to rest: {moves:?}");
        }
    }

    #[test]
    fn a_slot_whose_load_wanders_does_not_wander_with_it() {
        // Whichever core is looked at, it is the one that is too busy, for three looks in turn.
        let mut image = image();
        let (even, odd) = ([20, 1, 20, 1, 20, 1, 20, 1], [1, 20, 1, 20, 1, 20, 1, 20]);
        let looks: Vec<[u64; 8]> = (0..30).map(|look| if look / 3 % 2 == 0 { even } else { odd }).collect();
        let moves = balanced(&mut image, &looks);
        let mut moved: Vec<u16> = moves.iter().flatten().map(|(slot, _)| *slot).collect();
        let count = moved.len();
        moved.sort_unstable();
        moved.dedup();
        assert!(count > 0 && moved.len() == count, "{moves:?}");
    }
}
