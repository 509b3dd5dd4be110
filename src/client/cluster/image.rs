//! What a cluster looks like: brokers, topics, who leads which partition. A value that never changes; news make another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::Address;
use crate::model::{NodeId, TopicId, TopicName};
use crate::protocol::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};

/// A cluster as its brokers told of it. Topics are those that were asked for, or all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClusterImage {
    pub cluster_id: Option<Arc<str>>,
    pub controller: Option<NodeId>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub topics: BTreeMap<TopicName, Arc<Topic>>,
    /// Topics that were asked for and that no broker would tell of, with its error code.
    pub refused_topics: BTreeMap<TopicName, i16>,
}

/// A broker that clients can connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub id: NodeId,
    pub address: Address,
    pub rack: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub name: TopicName,
    /// Zero where the broker is too old to have ids.
    pub id: TopicId,
    pub is_internal: bool,
    /// By index, from 0 on without gaps.
    pub partitions: Vec<Partition>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    pub index: i32,
    /// `None`: nobody now.
    pub leader: Option<NodeId>,
    /// -1 where the broker does not tell.
    pub leader_epoch: i32,
    pub replicas: Vec<NodeId>,
    pub in_sync: Vec<NodeId>,
    pub offline: Vec<NodeId>,
    /// Why there is no leader; `ErrorCode::None` otherwise.
    pub error_code: i16,
}

impl ClusterImage {
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// 0 for a topic that is not known.
    pub fn partition_count(&self, topic: &str) -> i32 {
        self.topics.get(topic).map_or(0, |topic| topic.partitions.len() as i32)
    }

    /// Of each partition of a topic, the racks where it has replicas, also such as are away.
    pub fn racks(&self, topic: &str) -> Vec<BTreeSet<Arc<str>>> {
        let rack = |replica: &NodeId| self.nodes.get(replica)?.rack.clone();
        let partitions = self.topics.get(topic).map(|topic| topic.partitions.iter());
        partitions.into_iter().flatten().map(|p| p.replicas.iter().filter_map(rack).collect()).collect()
    }

    /// Who leads a partition, if there is such a broker.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&Node> {
        self.nodes.get(&self.partition(topic, partition)?.leader?)
    }

    /// The image after a broker's answer to a question about `asked` topics (`None`: all).
    pub(super) fn after(&self, response: &MetadataResponse<'_>, asked: Option<&[TopicName]>) -> ClusterImage {
        let mut next = ClusterImage {
            cluster_id: response.cluster_id.as_deref().map(Arc::from),
            controller: Some(NodeId(response.controller_id)).filter(|id| id.0 >= 0),
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            refused_topics: BTreeMap::new(),
        };
        for broker in &response.brokers {
            let Ok(port) = u16::try_from(broker.port) else { continue };
            let address = Address { host: broker.host.as_str().to_owned(), port };
            let id = NodeId(broker.node_id);
            next.nodes.insert(id, Node { id, address, rack: broker.rack.as_deref().map(Arc::from) });
        }
        // Topics that were not asked about are as they were.
        if let Some(asked) = asked {
            let kept = |name: &TopicName| !asked.contains(name);
            next.topics.extend(self.topics.iter().filter(|(name, _)| kept(name)).map(clone_entry));
            next.refused_topics =
                self.refused_topics.iter().filter(|(name, _)| kept(name)).map(clone_entry).collect();
        }
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            let before = self.topics.get(name);
            let name = before.map_or_else(|| TopicName::from(name), |before| before.name.clone());
            match topic.error_code {
                0 => {
                    let topic = Arc::new(Topic::new(name.clone(), &topic, before.map(Arc::as_ref)));
                    next.topics.insert(name, topic);
                }
                code => drop(next.refused_topics.insert(name, code)),
            }
        }
        // A leader that another broker named stays reachable while nobody names a newer one.
        let leaders = next.topics.values().flat_map(|topic| &topic.partitions).filter_map(|p| p.leader);
        let missing: Vec<Node> = leaders
            .filter(|id| !next.nodes.contains_key(id))
            .filter_map(|id| self.nodes.get(&id))
            .cloned()
            .collect();
        next.nodes.extend(missing.into_iter().map(|node| (node.id, node)));
        next
    }

    /// The image after a broker named another leader (KIP-951); `None` if it is no news.
    pub(super) fn with_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: NodeId,
        leader_epoch: i32,
        endpoint: Option<Node>,
    ) -> Option<ClusterImage> {
        let known = self.partition(topic, partition)?;
        if leader_epoch <= known.leader_epoch {
            return None;
        }
        let mut next = self.clone();
        next.nodes.extend(endpoint.map(|node| (node.id, node)));
        if !next.nodes.contains_key(&leader) {
            return None;
        }
        let changed = Arc::make_mut(next.topics.get_mut(topic)?);
        let changed = changed.partitions.get_mut(usize::try_from(partition).ok()?)?;
        (changed.leader, changed.leader_epoch, changed.error_code) =
            (Some(leader), leader_epoch, ErrorCode::None.code());
        Some(next)
    }
}

fn clone_entry<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

impl Topic {
    fn new(name: TopicName, told: &MetadataResponseTopic<'_>, before: Option<&Topic>) -> Topic {
        // A topic that was deleted and made again counts its epochs anew.
        let before = before.filter(|before| before.id == told.topic_id);
        let mut partitions: Vec<Partition> = told.partitions.iter().map(|told| partition(&told)).collect();
        partitions.sort_unstable_by_key(|partition| partition.index);
        // Kafka names every partition; one after a gap could not be found by its index, so what follows a gap is left out.
        let dense =
            partitions.iter().zip(0..).take_while(|(partition, index)| partition.index == *index).count();
        partitions.truncate(dense);
        for partition in &mut partitions {
            let known = before.and_then(|before| before.partitions.get(partition.index as usize));
            // A broker that is behind must not undo what another has told.
            if let Some(known) = known.filter(|known| known.leader_epoch > partition.leader_epoch)
                && partition.leader_epoch >= 0
            {
                *partition = known.clone();
            }
        }
        Topic { name, id: told.topic_id, is_internal: told.is_internal, partitions }
    }
}

fn partition(told: &MetadataResponsePartition<'_>) -> Partition {
    Partition {
        index: told.partition_index,
        leader: Some(NodeId(told.leader_id)).filter(|id| id.0 >= 0),
        leader_epoch: told.leader_epoch,
        replicas: told.replica_nodes.iter().map(NodeId).collect(),
        in_sync: told.isr_nodes.iter().map(NodeId).collect(),
        offline: told.offline_replicas.iter().map(NodeId).collect(),
        error_code: told.error_code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;
    use crate::protocol::messages::metadata::MetadataResponseBroker;

    fn told(topic_id: u8, leaders: &[(i32, i32)]) -> MetadataResponse<'static> {
        let partitions = leaders.iter().zip(0..).map(|(&(leader_id, leader_epoch), partition_index)| {
            MetadataResponsePartition { partition_index, leader_id, leader_epoch, ..Default::default() }
        });
        let topic = MetadataResponseTopic {
            name: Some("orders".into()),
            topic_id: Uuid([topic_id; 16]),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let brokers = [1, 2].map(|node_id| MetadataResponseBroker {
            node_id,
            host: "localhost".into(),
            port: 9000 + node_id,
            rack: None,
        });
        MetadataResponse { brokers: brokers.into(), topics: vec![topic].into(), ..Default::default() }
    }

    fn leaders(image: &ClusterImage) -> Vec<(Option<i32>, i32)> {
        let topic = image.topic("orders").unwrap();
        topic.partitions.iter().map(|p| (p.leader.map(|id| id.0), p.leader_epoch)).collect()
    }

    #[test]
    fn an_older_epoch_undoes_nothing_unless_the_topic_is_another() {
        let image = ClusterImage::default().after(&told(1, &[(1, 5), (2, 5), (-1, 6)]), None);
        assert_eq!(leaders(&image), [(Some(1), 5), (Some(2), 5), (None, 6)]);
        let image = image.after(&told(1, &[(2, 6), (1, 4), (1, 7)]), None);
        assert_eq!(leaders(&image), [(Some(2), 6), (Some(2), 5), (Some(1), 7)]);
        let image = image.after(&told(2, &[(1, 0)]), None);
        assert_eq!(leaders(&image), [(Some(1), 0)]);
    }

    #[test]
    fn a_hint_counts_only_with_a_newer_epoch_and_a_broker_that_can_be_reached() {
        let image = ClusterImage::default().after(&told(1, &[(1, 5)]), None);
        let third =
            Node { id: NodeId(3), address: Address { host: "localhost".to_owned(), port: 9003 }, rack: None };
        assert_eq!(image.with_leader("orders", 0, NodeId(2), 5, None), None);
        assert_eq!(image.with_leader("orders", 0, NodeId(3), 6, None), None);
        assert_eq!(image.with_leader("orders", 9, NodeId(2), 6, None), None);
        assert_eq!(image.with_leader("other", 0, NodeId(2), 6, None), None);
        let next = image.with_leader("orders", 0, NodeId(3), 6, Some(third)).unwrap();
        assert_eq!(leaders(&next), [(Some(3), 6)]);
        assert_eq!(next.leader("orders", 0).unwrap().address.port, 9003);
        let behind = next.after(&told(1, &[(1, 5)]), None);
        assert_eq!(behind.leader("orders", 0).unwrap().address.port, 9003, "it is not forgotten");
        let newer = behind.after(&told(1, &[(1, 7)]), None);
        assert_eq!((newer.leader("orders", 0).unwrap().id.0, newer.nodes.len()), (1, 2));
    }

    #[test]
    fn topics_not_asked_about_stay_and_refused_ones_go() {
        let image = ClusterImage::default().after(&told(1, &[(1, 5)]), None);
        let gone = MetadataResponseTopic {
            name: Some("orders".into()),
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..Default::default()
        };
        let none = MetadataResponse::default();
        assert!(image.after(&none, Some(&["else".into()])).topic("orders").is_some());
        assert!(image.after(&none, None).topic("orders").is_none());
        let refused = MetadataResponse { topics: vec![gone].into(), ..Default::default() };
        let image = image.after(&refused, Some(&["orders".into()]));
        assert_eq!((image.topic("orders"), image.refused_topics.get("orders")), (None, Some(&3)));
    }
}
