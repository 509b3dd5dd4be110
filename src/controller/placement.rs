//! Where a new partition goes: which brokers keep it, in which slot and directory. Decided once, kept in its record.
//!
//! A function of the image and of what the slots move, so that deciding again gives the same. The partitions of one topic are
//! spread over the endpoints first, since a topic is usually busy as a whole; among equals the core of this node with most room
//! wins (`Cores`), then the endpoint and the slot with the fewest partitions, then the lowest number. Where nothing is moved, or
//! for other nodes, cores play no part: their numbers differ between brokers and change.

use std::collections::BTreeMap;

use crate::metadata::{Broker, Image, Layout, Partition, Replica, Topic};
use crate::model::{DirectoryId, Endpoint, LeaderEpoch, NodeId, PlacementSlot, ShardId};

/// Places the partitions of one topic one after the other.
pub struct Placement<'a> {
    image: &'a Image,
    layout: Layout,
    /// Partitions by slot, of all topics and of this one.
    all: Load,
    own: Load,
    placed: usize,
    /// Partitions placed here that the image does not count yet, by directory.
    added: BTreeMap<DirectoryId, u32>,
    cores: Cores,
}

/// How full the cores of this node are.
///
/// Nobody knows how busy a new partition will be. So each that there is counts for what it moves and, since the idle may wake, for
/// twice the mean of all: where one core does everything, the others get three quarters of the partitions and not all.
struct Cores {
    /// Of each slot.
    home: Vec<ShardId>,
    /// Of each core.
    load: Vec<u64>,
    partitions: Vec<u32>,
    /// Of all cores.
    load_sum: u128,
    partition_sum: u128,
}

impl Cores {
    fn new(image: &Image, slot_loads: &[u64]) -> Cores {
        let home: Vec<ShardId> =
            (0..image.layout.slots()).map(|slot| image.shard(PlacementSlot(slot))).collect();
        let count = usize::from(image.local.shards);
        let (mut load, mut partitions) = (vec![0; count], vec![0; count]);
        for (slot, core) in home.iter().enumerate() {
            load[usize::from(core.0)] += slot_loads.get(slot).copied().unwrap_or(0);
            partitions[usize::from(core.0)] += image.slot_partitions()[slot];
        }
        let load_sum = load.iter().copied().map(u128::from).sum();
        let partition_sum = partitions.iter().copied().map(u128::from).sum();
        Cores { home, load, partitions, load_sum, partition_sum }
    }

    fn add(&mut self, slot: PlacementSlot) {
        self.partitions[usize::from(self.home[usize::from(slot.0)].0)] += 1;
        self.partition_sum += 1;
    }

    /// The same for all while nothing is moved.
    fn fullness(&self, slot: usize) -> u128 {
        let core = usize::from(self.home[slot].0);
        let (load, partitions) = (u128::from(self.load[core]), u128::from(self.partitions[core]));
        load * self.partition_sum + 2 * self.load_sum * partitions
    }
}

/// Partitions by slot.
struct Load(Vec<u32>);

impl Load {
    fn add(&mut self, slot: PlacementSlot) {
        self.0[usize::from(slot.0)] += 1;
    }

    /// The same by endpoint, given those of the slots.
    fn by_endpoint(&self, layout: Layout, endpoints: &[Endpoint]) -> Vec<u32> {
        let mut sums = vec![0; usize::from(layout.endpoints())];
        for (endpoint, count) in endpoints.iter().zip(&self.0) {
            sums[usize::from(endpoint.0)] += count;
        }
        sums
    }
}

impl<'a> Placement<'a> {
    /// For a topic that has these partitions so far (`None`: it is new).
    /// `slot_loads`: what the slots of this node move, by number; empty: nothing is known.
    pub fn new(image: &'a Image, topic: Option<&Topic>, slot_loads: &[u64]) -> Placement<'a> {
        let layout = image.layout;
        let all = Load(image.slot_partitions().to_vec());
        let mut own = Load(vec![0; all.0.len()]);
        topic.into_iter().flat_map(|topic| &topic.partitions).for_each(|partition| own.add(partition.slot));
        let (placed, cores) = (image.partition_count(), Cores::new(image, slot_loads));
        Placement { image, layout, all, own, placed, added: BTreeMap::new(), cores }
    }

    /// A new partition on `factor` brokers, or `None` if there are fewer.
    pub fn place(&mut self, factor: i16) -> Option<Partition> {
        let factor = usize::try_from(factor).ok()?;
        let brokers: Vec<&Broker> = self.image.brokers().collect();
        if factor == 0 || factor > brokers.len() {
            return None;
        }
        let first = self.placed;
        let nodes: Vec<NodeId> = (first..first + factor).map(|at| brokers[at % brokers.len()].node).collect();
        Some(self.place_on(&nodes, None))
    }

    /// A new partition on these registered brokers, led by the first; at this endpoint, if the client chose one.
    pub fn place_on(&mut self, nodes: &[NodeId], endpoint: Option<Endpoint>) -> Partition {
        let leader = nodes.first().copied();
        let slot = self.slot(leader.unwrap_or(self.image.local.node), endpoint);
        self.all.add(slot);
        self.own.add(slot);
        if leader == Some(self.image.local.node) {
            self.cores.add(slot);
        }
        let replicas =
            nodes.iter().map(|&node| Replica { node, directory: self.take_directory(node) }).collect();
        self.placed += 1;
        Partition {
            slot,
            leader,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas,
            isr: nodes.into(),
        }
    }

    fn slot(&self, leader: NodeId, wanted: Option<Endpoint>) -> PlacementSlot {
        let endpoints: Vec<Endpoint> =
            (0..self.layout.slots()).map(|slot| self.image.endpoint(leader, PlacementSlot(slot))).collect();
        let own_by_endpoint = self.own.by_endpoint(self.layout, &endpoints);
        let all_by_endpoint = self.all.by_endpoint(self.layout, &endpoints);
        let is_here = leader == self.image.local.node;
        let fullness = |slot| if is_here { self.cores.fullness(slot) } else { 0 };
        let is_wanted = |slot: &usize| wanted.is_none_or(|wanted| endpoints[*slot] == wanted);
        let best = (0..endpoints.len()).filter(is_wanted).min_by_key(|&slot| {
            let endpoint = usize::from(endpoints[slot].0);
            let (own, all) = (self.own.0[slot], self.all.0[slot]);
            (own_by_endpoint[endpoint], fullness(slot), all_by_endpoint[endpoint], own, all, slot)
        });
        PlacementSlot(best.expect("an endpoint keeps at least one slot") as u16)
    }

    /// The directory with the fewest partitions among those that the broker has online; the first of equals. Source: Apache
    /// Kafka, `LogManager.nextLogDirs`.
    fn take_directory(&mut self, node: NodeId) -> DirectoryId {
        let directories = self.image.broker(node).map_or(&[][..], |broker| &broker.directories);
        let load = |directory: &&DirectoryId| {
            self.image.directory_replicas(**directory) + self.added.get(*directory).copied().unwrap_or(0)
        };
        let Some(&directory) = directories.iter().min_by_key(load) else { return DirectoryId::ZERO };
        *self.added.entry(directory).or_default() += 1;
        directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Local;
    use crate::model::{BrokerEpoch, Uuid};

    fn image(slots: u16, endpoints: u16, nodes: i32) -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 1 });
        image.put_format(Uuid([9; 16]), Layout::new(slots, endpoints).unwrap());
        for node in 1..=nodes {
            image.put_broker(Broker {
                node: NodeId(node),
                epoch: BrokerEpoch(1),
                host: "127.0.0.1".into(),
                port: 9092,
                endpoint_ports: Vec::new(),
                rack: None,
                directories: vec![Uuid([node as u8; 16])],
            });
        }
        image
    }

    fn add_topic(image: &mut Image, id: u8, partitions: i32) -> Vec<u16> {
        let mut placement = Placement::new(image, None, &[]);
        let placed: Vec<Partition> = (0..partitions).map(|_| placement.place(1).unwrap()).collect();
        image.put_topic(Uuid([id; 16]), format!("topic-{id}").into());
        let slots = placed.iter().map(|partition| partition.slot.0).collect();
        for (index, partition) in (0..).zip(placed) {
            assert!(image.put_partition(Uuid([id; 16]), index, partition));
        }
        slots
    }

    #[test]
    fn a_topic_goes_around_the_endpoints_first() {
        let mut image = image(8, 4, 1);
        assert_eq!(add_topic(&mut image, 1, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(add_topic(&mut image, 2, 2), [6, 7], "the endpoints with the fewest partitions");
        assert_eq!(add_topic(&mut image, 3, 5), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn topics_of_one_partition_fill_every_shard_alike() {
        for (endpoints, shards) in [(1, 1), (1, 4), (2, 2), (4, 2), (4, 16), (16, 3)] {
            let mut image = image(64, endpoints, 1);
            for id in 0..128 {
                add_topic(&mut image, id, 1);
            }
            assert!(
                image.slot_partitions().iter().all(|count| *count == 2),
                "{endpoints} endpoints, {shards} shards"
            );
        }
    }

    #[test]
    fn a_deleted_topic_leaves_room_that_is_filled_first() {
        let mut image = image(4, 2, 1);
        assert_eq!(add_topic(&mut image, 1, 2), [0, 1]);
        assert_eq!(add_topic(&mut image, 2, 2), [2, 3]);
        image.remove_topic(Uuid([1; 16]));
        assert_eq!(add_topic(&mut image, 3, 2), [0, 1]);
    }

    #[test]
    fn a_partition_goes_where_least_is_moved() {
        // On slots 0 to 7, which are on cores and endpoints 0 and 1 in turn; what there is, one partition in each.
        let check = |loads: [u64; 8], partitions: [i32; 3], expected: [&[u16]; 3]| {
            let mut image = image(8, 2, 1);
            image.local.shards = 2;
            add_topic(&mut image, 1, 8);
            for (id, (count, expected)) in (2..).zip(partitions.into_iter().zip(expected)) {
                let mut placement = Placement::new(&image, None, &loads);
                let placed: Vec<Partition> = (0..count).map(|_| placement.place(1).unwrap()).collect();
                let slots: Vec<u16> = placed.iter().map(|partition| partition.slot.0).collect();
                assert_eq!(slots, expected, "topic {id}, {loads:?}");
                image.put_topic(Uuid([id; 16]), format!("topic-{id}").into());
                for (index, partition) in (0..).zip(placed) {
                    assert!(image.put_partition(Uuid([id; 16]), index, partition));
                }
            }
        };
        check([0; 8], [1, 1, 1], [&[0], &[1], &[2]]);
        check([7, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1], [&[1], &[3], &[5]]);
        check([0, 3, 0, 4, 0, 0, 0, 0], [1, 1, 1], [&[0], &[2], &[4]]);
        // As much on each: by their number.
        check([5, 5, 0, 0, 0, 0, 0, 0], [1, 1, 1], [&[0], &[1], &[2]]);
        // A topic is spread, whatever is busy.
        check([7, 0, 0, 0, 0, 0, 0, 0], [4, 1, 2], [&[1, 0, 3, 2], &[5], &[7, 4]]);
    }

    #[test]
    fn a_core_without_load_gets_most_of_what_is_new_and_not_all() {
        let mut image = image(8, 2, 1);
        image.local.shards = 2;
        for id in 0..200 {
            let mut placement = Placement::new(&image, None, &[1 << 30]);
            let partition = placement.place(1).unwrap();
            image.put_topic(Uuid([id; 16]), format!("topic-{id}").into());
            assert!(image.put_partition(Uuid([id; 16]), 0, partition));
        }
        let on_busy: u32 = image.slot_partitions().iter().step_by(2).sum();
        assert!((48..=52).contains(&on_busy), "{on_busy} of 200 are on the busy core");
    }

    #[test]
    fn a_partition_goes_to_the_directory_with_the_fewest() {
        let mut image = image(8, 1, 1);
        let [a, b, c] = [[1; 16], [2; 16], [3; 16]].map(Uuid);
        let broker = image.broker(NodeId(1)).unwrap().clone();
        let with = |directories: &[Uuid]| Broker { directories: directories.to_vec(), ..broker.clone() };
        image.put_broker(with(&[a]));
        add_topic(&mut image, 1, 3);
        image.put_broker(with(&[a, b]));
        let placed = |image: &Image, count| {
            let mut placement = Placement::new(image, None, &[]);
            (0..count).map(|_| placement.place(1).unwrap().replicas[0].directory).collect::<Vec<_>>()
        };
        assert_eq!(placed(&image, 5), [b, b, b, a, b], "the new one catches up first");
        image.put_broker(with(&[a, c]));
        assert_eq!(placed(&image, 1), [c], "one that is offline gets nothing");
        image.remove_topic(Uuid([1; 16]));
        assert_eq!(placed(&image, 2), [a, c]);
    }

    #[test]
    fn replicas_are_on_different_brokers_and_leaders_take_turns() {
        let image = image(8, 1, 3);
        let mut placement = Placement::new(&image, None, &[]);
        let mut leaders = [0; 4];
        for _ in 0..9 {
            let partition = placement.place(2).unwrap();
            assert_eq!(partition.replicas.len(), 2);
            assert_ne!(partition.replicas[0].node, partition.replicas[1].node);
            assert_eq!(partition.isr.len(), 2);
            leaders[partition.leader.unwrap().0 as usize] += 1;
        }
        assert_eq!(leaders, [0, 3, 3, 3]);
        assert_eq!(Placement::new(&image, None, &[]).place(4), None);
        assert_eq!(Placement::new(&image, None, &[]).place(0), None);
    }
}
