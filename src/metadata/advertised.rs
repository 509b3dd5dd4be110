//! What clients are told of brokers. To them a node is one broker, or, with `listeners.mode=per-core`, one for each of its
//! endpoints: with an id of its own, node id x 1000 + endpoint, and a port of its own. A partition is led by the endpoint of
//! its slot, so who leads it is the same from wherever it is asked, and stays the same with another number of cores. Only an
//! operator who moves the slot changes that.
//!
//! `Option<Endpoint>` says where a client has come in; `None`: at a port that all endpoints of the node share.

use std::sync::Arc;

use super::GROUP_METADATA_TOPIC;
use super::image::{Broker, Image, Partition};
use crate::model::{BrokerId, Endpoint, NodeId, PlacementSlot};

/// A broker as clients see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertised<'i> {
    pub id: BrokerId,
    pub host: &'i Arc<str>,
    pub port: u16,
    pub rack: Option<&'i Arc<str>>,
}

impl Broker {
    /// As clients see its endpoint.
    fn at(&self, endpoint: Endpoint) -> Advertised<'_> {
        let (id, port) = match self.endpoint_ports.get(usize::from(endpoint.0)) {
            Some(port) => (BrokerId::of_endpoint(self.node, endpoint), *port),
            None => (BrokerId(self.node.0), self.port),
        };
        Advertised { id, host: &self.host, port, rack: self.rack.as_ref() }
    }
}

impl Image {
    /// All brokers that clients see.
    pub fn advertised(&self) -> impl Iterator<Item = Advertised<'_>> {
        self.brokers().flat_map(|broker| {
            let count = broker.endpoint_ports.len().max(1) as u16;
            (0..count).map(move |endpoint| broker.at(Endpoint(endpoint)))
        })
    }

    /// Under which id clients know a node where it holds what is in this slot.
    pub fn broker_id(&self, node: NodeId, slot: PlacementSlot) -> BrokerId {
        let endpoint = self.endpoint(node, slot);
        self.broker(node).map_or(BrokerId(node.0), |broker| broker.at(endpoint).id)
    }

    /// Whom clients ask for what the partition's leader serves. `None`: nobody can lead it now.
    pub fn advertised_leader(&self, partition: &Partition) -> Option<Advertised<'_>> {
        let broker = self.broker(self.leader_of(partition)?)?;
        Some(broker.at(self.endpoint(broker.node, partition.slot)))
    }

    /// Whom clients ask for decisions; the others pass them on. The same from wherever it is asked.
    pub fn controller_id(&self) -> BrokerId {
        self.broker_id(self.local.node, PlacementSlot(0))
    }

    /// Under which id clients that have come in at `endpoint` know this node.
    pub fn own_id(&self, endpoint: Option<Endpoint>) -> BrokerId {
        let node = self.local.node;
        endpoint.map_or(BrokerId(node.0), |endpoint| BrokerId::of_endpoint(node, endpoint))
    }

    /// The node behind an id that clients were told, and which of its endpoints if they see several.
    pub fn node_of(&self, id: BrokerId) -> Option<(NodeId, Option<Endpoint>)> {
        let (node, endpoint) = id.as_endpoint();
        let has = |broker: &Broker| usize::from(endpoint.0) < broker.endpoint_ports.len();
        if self.broker(node).is_some_and(has) {
            return Some((node, Some(endpoint)));
        }
        let whole = NodeId(id.0);
        self.broker(whole).filter(|broker| broker.endpoint_ports.is_empty()).map(|_| (whole, None))
    }

    /// Whether this node serves the partition to clients that have come in at `endpoint`, as far as its slot says.
    pub fn is_at(&self, partition: &Partition, endpoint: Option<Endpoint>) -> bool {
        endpoint.is_none_or(|endpoint| self.endpoint(self.local.node, partition.slot) == endpoint)
    }

    /// Whether a group is coordinated at `endpoint`. One that no partition is there for is nowhere else.
    pub fn is_group_at(&self, group: &str, endpoint: Option<Endpoint>) -> bool {
        let partition = || self.partition(GROUP_METADATA_TOPIC, self.group_partition(group)?);
        endpoint.is_none() || partition().is_none_or(|partition| self.is_at(partition, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::image::tests::partition;
    use crate::metadata::{Layout, Local};
    use crate::model::{BrokerEpoch, Uuid};

    /// Two nodes, the second of which is one broker to clients.
    fn image() -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 2 });
        image.put_format(Uuid([9; 16]), Layout::new(8, 3).unwrap());
        for (node, endpoint_ports) in [(1, vec![9092, 9093, 19094]), (2, vec![])] {
            image.put_broker(Broker {
                node: NodeId(node),
                epoch: BrokerEpoch(1),
                host: "h".into(),
                port: 9092,
                endpoint_ports,
                rack: None,
                directories: Vec::new(),
            });
        }
        image
    }

    #[test]
    fn each_endpoint_is_a_broker_where_they_have_ports() {
        let image = image();
        let brokers: Vec<(i32, u16)> = image.advertised().map(|broker| (broker.id.0, broker.port)).collect();
        assert_eq!(brokers, [(1000, 9092), (1001, 9093), (1002, 19094), (2, 9092)]);
        assert_eq!(
            (image.controller_id(), image.own_id(Some(Endpoint(2)))),
            (BrokerId(1000), BrokerId(1002))
        );
    }

    #[test]
    fn the_slot_says_under_which_id_a_partition_is_led() {
        let image = image();
        let check = |slot, node, expected: (i32, u16)| {
            let leader = image.advertised_leader(&partition(slot, node)).unwrap();
            assert_eq!((leader.id.0, leader.port), expected, "slot {slot} on node {node}");
            assert_eq!(image.broker_id(NodeId(node), PlacementSlot(slot)), leader.id);
        };
        check(0, 1, (1000, 9092));
        check(5, 1, (1002, 19094));
        check(5, 2, (2, 9092));
        assert_eq!(image.advertised_leader(&partition(0, 7)), None);
        let at = |slot, endpoint: Option<u16>| image.is_at(&partition(slot, 1), endpoint.map(Endpoint));
        assert_eq!((at(4, Some(1)), at(4, Some(0)), at(4, None)), (true, false, true));
    }

    #[test]
    fn ids_lead_back_to_nodes() {
        let image = image();
        let check = |id, expected: Option<(i32, Option<u16>)>| {
            let expected = expected.map(|(node, endpoint)| (NodeId(node), endpoint.map(Endpoint)));
            assert_eq!(image.node_of(BrokerId(id)), expected, "{id}");
        };
        check(1000, Some((1, Some(0))));
        check(1002, Some((1, Some(2))));
        check(1003, None);
        check(1, None);
        check(2, Some((2, None)));
        check(2000, None);
        check(-1, None);
        check(i32::MAX, None);
        let ids: Vec<_> =
            image.advertised().map(|broker| image.node_of(broker.id).map(|(node, _)| node.0)).collect();
        assert_eq!(ids, [Some(1), Some(1), Some(1), Some(2)]);
    }
}
