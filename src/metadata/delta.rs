//! What changed between two images, for shards to act on: open, close, reconfigure.

use std::sync::Arc;

use super::image::{Image, Topic};
use crate::model::{PartitionIndex, PlacementSlot, ShardId, TopicPartition};

/// The way from one image to a later one. Finding it costs in proportion to what changed, not to what there is.
#[derive(Clone, PartialEq, Debug)]
pub struct Delta {
    /// Versions of the two images.
    pub from: u64,
    pub to: u64,
    /// By name. A topic deleted and made again between the two images is in both lists, under its two ids.
    pub created: Vec<Arc<Topic>>,
    pub deleted: Vec<Arc<Topic>>,
    pub changed: Vec<TopicChange>,
    /// Overrides for this broker or for all brokers changed.
    pub broker_configs_changed: bool,
    /// A broker came, went or came back elsewhere.
    pub brokers_changed: bool,
    /// Slots of this node that are on another core.
    pub moved_slots: Vec<MovedSlot>,
}

/// A slot of this node and the cores it was moved between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedSlot {
    pub slot: PlacementSlot,
    pub from: ShardId,
    pub to: ShardId,
}

/// One topic that is in both images and not the same.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicChange {
    pub before: Arc<Topic>,
    pub after: Arc<Topic>,
}

impl Delta {
    /// What happened between `before` and the later image `after`.
    pub fn between(before: &Image, after: &Image) -> Delta {
        assert!(after.version >= before.version, "version {} before {}", after.version, before.version);
        let node = after.local.node;
        let mut delta = Delta {
            from: before.version,
            to: after.version,
            created: Vec::new(),
            deleted: Vec::new(),
            changed: Vec::new(),
            broker_configs_changed: before.default_broker_configs() != after.default_broker_configs()
                || before.broker_configs(node) != after.broker_configs(node),
            brokers_changed: !before.brokers().eq(after.brokers()),
            moved_slots: before.moved_slots(after),
        };
        let same = |a: &Arc<Topic>, b: &Arc<Topic>| Arc::ptr_eq(a, b) || a == b;
        before.topic_map().compare(after.topic_map(), same, |before, after| match (before, after) {
            (Some(before), Some(after)) if before.id == after.id => {
                delta.changed.push(TopicChange { before: before.clone(), after: after.clone() });
            }
            (before, after) => {
                delta.deleted.extend(before.cloned());
                delta.created.extend(after.cloned());
            }
        });
        delta
    }

    /// Nothing that a shard would act on.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.deleted.is_empty()
            && self.changed.is_empty()
            && !self.broker_configs_changed
            && !self.brokers_changed
            && self.moved_slots.is_empty()
    }

    /// The partitions that came: those of new topics and those added to old ones.
    pub fn partitions_created(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex)> {
        let of_new =
            self.created.iter().flat_map(|topic| topic.numbered().map(move |(index, _)| (topic, index)));
        let added = self.changed.iter().flat_map(|change| {
            let old = change.before.partitions.len();
            change.after.numbered().skip(old).map(move |(index, _)| (&change.after, index))
        });
        of_new.chain(added)
    }

    /// The partitions that went with their topics.
    pub fn partitions_deleted(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex)> {
        self.deleted.iter().flat_map(|topic| topic.numbered().map(move |(index, _)| (topic, index)))
    }
}

impl TopicChange {
    pub fn configs_changed(&self) -> bool {
        self.before.configs != self.after.configs
    }

    /// Partitions in both images whose leader, epoch, ISR, replicas or slot changed.
    pub fn partitions_changed(&self) -> impl Iterator<Item = TopicPartition> {
        let pairs = self.before.partitions.iter().zip(self.after.numbered());
        pairs
            .filter(|(before, (_, after))| before != after)
            .map(|(_, (index, _))| TopicPartition { topic: self.after.name.clone(), partition: index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Layout, Local, Partition, Replica};
    use crate::model::{LeaderEpoch, NodeId, PlacementSlot, Uuid};

    fn partition(epoch: i32) -> Partition {
        Partition {
            slot: PlacementSlot(0),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: 0,
            replicas: [Replica { node: NodeId(1), directory: Uuid([1; 16]) }].into(),
            isr: [NodeId(1)].into(),
        }
    }

    fn image() -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 1 });
        image.put_format(Uuid([9; 16]), Layout::new(8, 2).unwrap());
        for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
            image.put_topic(Uuid([id; 16]), name.into());
            image.put_partition(Uuid([id; 16]), 0, partition(0));
        }
        image
    }

    fn names(topics: &[Arc<Topic>]) -> Vec<&str> {
        topics.iter().map(|topic| topic.name.as_ref()).collect()
    }

    #[test]
    fn equal_images_have_no_delta() {
        assert!(Delta::between(&image(), &image()).is_empty());
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let before = image();
        let mut after = before.clone();
        after.remove_topic(Uuid([1; 16]));
        after.put_topic(Uuid([4; 16]), "a".into());
        after.put_partition(Uuid([4; 16]), 0, partition(0));
        after.put_partition(Uuid([2; 16]), 0, partition(1));
        after.put_partition(Uuid([2; 16]), 1, partition(0));
        after.put_topic_config(Uuid([3; 16]), "retention.ms", Some("1"));
        let delta = Delta::between(&before, &after);
        assert_eq!(names(&delta.deleted), ["a"]);
        assert_eq!(names(&delta.created), ["a"]);
        assert_eq!(delta.created[0].id, Uuid([4; 16]));
        assert_eq!(delta.changed.len(), 2);
        let came: Vec<_> =
            delta.partitions_created().map(|(topic, index)| (topic.name.to_string(), index)).collect();
        assert_eq!(came, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert_eq!(delta.partitions_deleted().count(), 1);
        assert!(!delta.changed[0].configs_changed());
        assert_eq!(delta.changed[0].partitions_changed().collect::<Vec<_>>(), [TopicPartition::new("b", 0)]);
        assert!(delta.changed[1].configs_changed());
        assert_eq!(delta.changed[1].partitions_changed().count(), 0);
        assert!(!delta.broker_configs_changed && !delta.brokers_changed);
    }

    #[test]
    fn configs_of_other_brokers_are_none_of_our_business() {
        let before = image();
        let mut after = before.clone();
        after.put_broker_config(NodeId(2), "message.max.bytes", Some("1"));
        assert!(!Delta::between(&before, &after).broker_configs_changed);
        after.put_default_broker_config("message.max.bytes", Some("1"));
        assert!(Delta::between(&before, &after).broker_configs_changed);
    }
}
