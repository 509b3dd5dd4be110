//! The immutable snapshot of the metadata that every shard holds behind an `Arc`.
//!
//! Cloning an image copies pointers; changing the clone copies what it touches (`persistent_map`). Only `controller` changes
//! images, through the `put_*` and `remove_*` methods; everybody else reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delta::MovedSlot;
use super::homes::{SlotHome, SlotHomes};
use super::layout::Layout;
use super::persistent_map::PersistentMap;
use super::{GROUP_METADATA_TOPIC, METADATA_VERSION_FEATURE, is_internal_topic};
use crate::model::{
    BrokerEpoch, DirectoryId, Endpoint, LeaderEpoch, NodeId, PartitionIndex, PlacementSlot, ProducerId,
    ShardId, TopicId, TopicName, TopicPartition, Uuid,
};

/// Overrides by name. Shared: most topics have none or the same few.
pub type Configs = Arc<BTreeMap<String, String>>;

/// What differs between the processes that hold one image: who reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Local {
    pub node: NodeId,
    /// Data cores of this process, at least 1.
    pub shards: u16,
}

/// A broker process as it registered last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub node: NodeId,
    pub epoch: BrokerEpoch,
    pub host: Arc<str>,
    /// Of its first endpoint, or of all.
    pub port: u16,
    /// Of each endpoint, by number, if clients see them as brokers of their own; empty: they see one.
    pub endpoint_ports: Vec<u16>,
    pub rack: Option<Arc<str>>,
    pub directories: Vec<DirectoryId>,
}

/// One copy of a partition: on which broker, in which log directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replica {
    pub node: NodeId,
    pub directory: DirectoryId,
}

/// One partition as the controller decided it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    pub slot: PlacementSlot,
    /// `None`: nobody can lead it now.
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of this partition.
    pub partition_epoch: i32,
    pub replicas: Arc<[Replica]>,
    /// A subset of the replicas' nodes.
    pub isr: Arc<[NodeId]>,
}

/// One topic with all its partitions, numbered from 0 without holes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub internal: bool,
    pub partitions: Vec<Partition>,
    pub configs: Configs,
}

/// The metadata after the entry with index `version`. All fields are as of that entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Image {
    /// Index of the last entry applied; 0: none.
    pub version: u64,
    /// Term of that entry.
    pub term: u64,
    pub local: Local,
    /// `Uuid::ZERO` until a format record was applied.
    pub cluster_id: Uuid,
    pub layout: Layout,
    /// Finalized feature levels by name.
    pub features: Arc<BTreeMap<Arc<str>, i16>>,
    /// The first producer id that nobody was given.
    pub next_producer_id: ProducerId,
    brokers: Arc<BTreeMap<NodeId, Broker>>,
    topics: PersistentMap<TopicName, Arc<Topic>>,
    topic_ids: PersistentMap<TopicId, TopicName>,
    /// Names with `.` or `_`, found by what they look like with `_` for `.`: two such names would share metric names.
    unified_names: PersistentMap<String, TopicName>,
    broker_configs: Arc<BTreeMap<NodeId, Configs>>,
    default_broker_configs: Configs,
    /// The slots that are not where the layout has them.
    homes: SlotHomes,
    /// Partitions per slot, for placement.
    slot_partitions: Arc<Vec<u32>>,
    /// Replicas in each data directory.
    directory_replicas: Arc<BTreeMap<DirectoryId, u32>>,
    partition_count: usize,
}

impl Image {
    /// The image before the first entry.
    pub fn empty(local: Local) -> Image {
        assert!(local.shards > 0, "a node has at least one shard");
        let layout = Layout::new(1, 1).expect("one slot on one endpoint is a layout");
        Image {
            version: 0,
            term: 0,
            local,
            cluster_id: Uuid::ZERO,
            layout,
            features: Arc::default(),
            next_producer_id: ProducerId(0),
            brokers: Arc::default(),
            topics: PersistentMap::default(),
            topic_ids: PersistentMap::default(),
            unified_names: PersistentMap::default(),
            broker_configs: Arc::default(),
            default_broker_configs: Arc::default(),
            homes: SlotHomes::default(),
            slot_partitions: Arc::new(vec![0; usize::from(layout.slots())]),
            directory_replicas: Arc::default(),
            partition_count: 0,
        }
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        let name = self.topic_ids.get(&id)?;
        Some(self.topics.get(name).expect("an id leads to a topic that is there"))
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// The topics at or after `name`, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter_from(name).map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partition(partition)
    }

    /// The shard of this process that owns the partition, whoever leads it. `None`: there is no such partition, or no copy
    /// of it on this node.
    pub fn owner(&self, at: &TopicPartition) -> Option<ShardId> {
        self.owner_of(self.partition(&at.topic, at.partition)?)
    }

    /// As `owner`, for a partition at hand.
    pub fn owner_of(&self, partition: &Partition) -> Option<ShardId> {
        let here = partition.replicas.iter().any(|replica| replica.node == self.local.node);
        here.then(|| self.shard(partition.slot))
    }

    /// The data directory of this node that holds the partition; zero, which is the first one, if the record says nothing.
    pub fn directory_of(&self, partition: &Partition) -> DirectoryId {
        let here = partition.replicas.iter().find(|replica| replica.node == self.local.node);
        here.map_or(DirectoryId::ZERO, |replica| replica.directory)
    }

    /// Who leads the partition and can: a broker cannot serve what is in a data directory that it has not got, or not any
    /// more.
    pub fn leader_of(&self, partition: &Partition) -> Option<NodeId> {
        let leader = partition.leader?;
        (!self.offline_replicas(partition).any(|node| node == leader)).then_some(leader)
    }

    /// The brokers whose copy of the partition is in a data directory that they do not have online.
    pub fn offline_replicas(&self, partition: &Partition) -> impl Iterator<Item = NodeId> {
        partition.replicas.iter().filter(|replica| self.is_offline(replica)).map(|replica| replica.node)
    }

    /// A replica without a directory is in the first one, which every registered broker has. Source: Apache Kafka,
    /// `DirectoryId.isOnline`.
    fn is_offline(&self, replica: &Replica) -> bool {
        let online = self.broker(replica.node).map_or(&[][..], |broker| &broker.directories);
        !replica.directory.is_zero() && !online.is_empty() && !online.contains(&replica.directory)
    }

    /// The shard of this process that owns a slot.
    pub fn shard(&self, slot: PlacementSlot) -> ShardId {
        self.homes.shard(&self.layout, self.local, slot)
    }

    /// The endpoint under which a node advertises what is in a slot.
    pub fn endpoint(&self, node: NodeId, slot: PlacementSlot) -> Endpoint {
        self.homes.endpoint(&self.layout, node, slot)
    }

    /// An existing topic whose name differs from `name` at most in `.` against `_`.
    pub fn colliding_topic(&self, name: &str) -> Option<&TopicName> {
        self.unified_names.get(&unify(name)?)
    }

    /// The brokers by node id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    pub fn broker(&self, node: NodeId) -> Option<&Broker> {
        self.brokers.get(&node)
    }

    /// This process as it registered; `None` only before its first registration.
    pub fn local_broker(&self) -> Option<&Broker> {
        self.broker(self.local.node)
    }

    /// Overrides set at run time for one broker.
    pub fn broker_configs(&self, node: NodeId) -> Configs {
        self.broker_configs.get(&node).cloned().unwrap_or_default()
    }

    /// Brokers that have overrides of their own.
    pub fn brokers_with_configs(&self) -> impl Iterator<Item = NodeId> {
        self.broker_configs.keys().copied()
    }

    /// Overrides set at run time for all brokers.
    pub fn default_broker_configs(&self) -> &Configs {
        &self.default_broker_configs
    }

    /// What this broker runs with on top of its file: its own overrides before those for all.
    pub fn dynamic_broker_config(&self, name: &str) -> Option<&str> {
        let own = self.broker_configs.get(&self.local.node).and_then(|configs| configs.get(name));
        own.or_else(|| self.default_broker_configs.get(name)).map(String::as_str)
    }

    /// The level of `metadata.version`; 0 before it is set.
    pub fn metadata_level(&self) -> i16 {
        self.features.get(METADATA_VERSION_FEATURE).copied().unwrap_or(0)
    }

    /// The partition of `__consumer_offsets` that coordinates a group; `None` while that topic is missing.
    pub fn group_partition(&self, group: &str) -> Option<PartitionIndex> {
        let count = self.topic(GROUP_METADATA_TOPIC)?.partitions.len();
        Some(coordinator_partition(group, i32::try_from(count).expect("partition counts fit an i32")))
    }

    /// The shard that coordinates a group; `None` while `__consumer_offsets` is missing or its partition is elsewhere.
    pub fn group_shard(&self, group: &str) -> Option<ShardId> {
        self.owner_of(self.partition(GROUP_METADATA_TOPIC, self.group_partition(group)?)?)
    }

    /// Partitions in each slot, by slot number.
    pub fn slot_partitions(&self) -> &[u32] {
        &self.slot_partitions
    }

    /// Replicas in a data directory, whichever broker's it is.
    pub fn directory_replicas(&self, directory: DirectoryId) -> u32 {
        self.directory_replicas.get(&directory).copied().unwrap_or(0)
    }

    /// Sets the counts that the format fixed. Before any topic.
    pub fn put_format(&mut self, cluster_id: Uuid, layout: Layout) {
        assert_eq!(self.partition_count, 0, "the layout is set before any partition");
        self.cluster_id = cluster_id;
        self.layout = layout;
        self.slot_partitions = Arc::new(vec![0; usize::from(layout.slots())]);
    }

    pub fn put_feature(&mut self, name: Arc<str>, level: i16) {
        Arc::make_mut(&mut self.features).insert(name, level);
    }

    pub fn put_broker(&mut self, broker: Broker) {
        Arc::make_mut(&mut self.brokers).insert(broker.node, broker);
    }

    /// Adds a topic without partitions. Neither its name nor its id may be there.
    pub fn put_topic(&mut self, id: TopicId, name: TopicName) {
        let topic = Topic {
            id,
            internal: is_internal_topic(&name),
            name: name.clone(),
            partitions: Vec::new(),
            configs: Arc::default(),
        };
        if let Some(unified) = unify(&name) {
            self.unified_names.insert(unified, name.clone());
        }
        let same_id = self.topic_ids.insert(id, name.clone());
        assert!(same_id.is_none(), "topic id {id} is there already");
        let same_name = self.topics.insert(name, Arc::new(topic));
        assert!(same_name.is_none(), "topic name is there already");
    }

    /// Adds the next partition of a topic or replaces one. Returns false, and changes nothing, if there is no such topic, the
    /// number is beyond the next, or the slot is not in the layout.
    pub fn put_partition(&mut self, topic: TopicId, index: PartitionIndex, partition: Partition) -> bool {
        let slot = usize::from(partition.slot.0);
        let Some(topic) = self.topic_ids.get(&topic).and_then(|name| self.topics.get_mut(name)) else {
            return false;
        };
        let Ok(index) = usize::try_from(index) else { return false };
        if slot >= self.slot_partitions.len() || index > topic.partitions.len() {
            return false;
        }
        let slots = Arc::make_mut(&mut self.slot_partitions);
        slots[slot] += 1;
        let directories = Arc::make_mut(&mut self.directory_replicas);
        for replica in partition.replicas.iter() {
            *directories.entry(replica.directory).or_default() += 1;
        }
        let topic = Arc::make_mut(topic);
        if index == topic.partitions.len() {
            topic.partitions.push(partition);
            self.partition_count += 1;
        } else {
            let old = std::mem::replace(&mut topic.partitions[index], partition);
            slots[usize::from(old.slot.0)] -= 1;
            forget_replicas(directories, &old);
        }
        true
    }

    /// Moves a slot of a node. What the node leads in it is led from a new core, and so in a new epoch: entries of one
    /// partition in the journals of two cores stay in order, and clients that know the old leader find out. False, and nothing
    /// is changed: the layout has no such slot or endpoint.
    pub fn move_slot(&mut self, node: NodeId, slot: PlacementSlot, home: SlotHome) -> bool {
        if slot.0 >= self.layout.slots() || home.endpoint.0 >= self.layout.endpoints() {
            return false;
        }
        self.homes.put(node, slot, home);
        let is_led = |partition: &&mut Partition| partition.slot == slot && partition.leader == Some(node);
        let in_slot =
            |topic: &&Arc<Topic>| topic.partitions.iter().any(|p| p.slot == slot && p.is_led_by(node));
        let names: Vec<TopicName> =
            self.topics().filter(in_slot).map(|topic| Arc::clone(&topic.name)).collect();
        for name in names {
            let topic = Arc::make_mut(self.topics.get_mut(&name).expect("it was listed a moment ago"));
            for partition in topic.partitions.iter_mut().filter(is_led) {
                partition.leader_epoch.0 += 1;
                partition.partition_epoch += 1;
            }
        }
        true
    }

    /// Removes a topic with its configs; returns it.
    pub fn remove_topic(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let name = self.topic_ids.remove(&id)?;
        let topic = self.topics.remove(&name).expect("an id leads to a topic that is there");
        if let Some(unified) = unify(&name)
            && self.unified_names.get(&unified) == Some(&name)
        {
            self.unified_names.remove(&unified);
        }
        let slots = Arc::make_mut(&mut self.slot_partitions);
        topic.partitions.iter().for_each(|partition| slots[usize::from(partition.slot.0)] -= 1);
        let directories = Arc::make_mut(&mut self.directory_replicas);
        topic.partitions.iter().for_each(|partition| forget_replicas(directories, partition));
        self.partition_count -= topic.partitions.len();
        Some(topic)
    }

    /// Sets or removes an override of a topic. False if there is no such topic.
    pub fn put_topic_config(&mut self, topic: TopicId, name: &str, value: Option<&str>) -> bool {
        let Some(topic) = self.topic_ids.get(&topic).and_then(|name| self.topics.get_mut(name)) else {
            return false;
        };
        put_config(&mut Arc::make_mut(topic).configs, name, value);
        true
    }

    /// Sets or removes an override of one broker.
    pub fn put_broker_config(&mut self, node: NodeId, name: &str, value: Option<&str>) {
        let all = Arc::make_mut(&mut self.broker_configs);
        let configs = all.entry(node).or_default();
        put_config(configs, name, value);
        if configs.is_empty() {
            all.remove(&node);
        }
    }

    /// Sets or removes an override of all brokers.
    pub fn put_default_broker_config(&mut self, name: &str, value: Option<&str>) {
        put_config(&mut self.default_broker_configs, name, value);
    }

    /// No slot has moved between this image and another one.
    pub fn has_slots_as(&self, other: &Image) -> bool {
        self.homes == other.homes
    }

    /// The slots of this node that are on another core in a later image.
    pub(super) fn moved_slots(&self, after: &Image) -> Vec<MovedSlot> {
        if self.has_slots_as(after) || self.layout != after.layout {
            return Vec::new();
        }
        let slots = (0..self.layout.slots()).map(PlacementSlot);
        let moved = slots.map(|slot| MovedSlot { slot, from: self.shard(slot), to: after.shard(slot) });
        moved.filter(|moved| moved.from != moved.to).collect()
    }

    pub(super) fn topic_map(&self) -> &PersistentMap<TopicName, Arc<Topic>> {
        &self.topics
    }
}

impl Topic {
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// The partitions with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        (0..).zip(&self.partitions)
    }

    /// Copies of each partition; as many for all of a topic until one is reassigned.
    pub fn replication_factor(&self) -> i16 {
        self.partitions
            .first()
            .map_or(0, |partition| i16::try_from(partition.replicas.len()).unwrap_or(i16::MAX))
    }
}

impl Partition {
    /// Whether this node leads it.
    pub fn is_led_by(&self, node: NodeId) -> bool {
        self.leader == Some(node)
    }
}

fn forget_replicas(directories: &mut BTreeMap<DirectoryId, u32>, partition: &Partition) {
    for replica in partition.replicas.iter() {
        let count = directories.get_mut(&replica.directory).expect("it was counted when it was put");
        *count -= 1;
        if *count == 0 {
            directories.remove(&replica.directory);
        }
    }
}

fn put_config(configs: &mut Configs, name: &str, value: Option<&str>) {
    let configs = Arc::make_mut(configs);
    match value {
        Some(value) => configs.insert(name.to_owned(), value.to_owned()),
        None => configs.remove(name),
    };
}

/// The name with `_` for `.`; `None` if it has neither. Source: Apache Kafka, `Topic.unifyCollisionChars`.
fn unify(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// The partition of a coordinator's topic that a key, such as a group's id, belongs to: Java's hash without its sign, modulo
/// the count. Source: Apache Kafka, `GroupCoordinatorService.partitionFor`, `Utils.abs`.
pub fn coordinator_partition(key: &str, partition_count: i32) -> PartitionIndex {
    assert!(partition_count > 0, "a topic has {partition_count} partitions");
    // The one hash without a positive counterpart counts as zero.
    java_hash(key).checked_abs().unwrap_or(0) % partition_count
}

/// `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::empty(Local { node: NodeId(1), shards: 2 });
        image.put_format(Uuid([9; 16]), Layout::new(8, 2).unwrap());
        image
    }

    /// A partition with one replica.
    pub(in crate::metadata) fn partition(slot: u16, node: i32) -> Partition {
        Partition {
            slot: PlacementSlot(slot),
            leader: Some(NodeId(node)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: [Replica { node: NodeId(node), directory: Uuid([1; 16]) }].into(),
            isr: [NodeId(node)].into(),
        }
    }

    #[test]
    fn topics_are_found_by_name_id_and_partition() {
        let mut image = image();
        image.put_topic(Uuid([1; 16]), "a".into());
        assert!(image.put_partition(Uuid([1; 16]), 0, partition(0, 1)));
        assert!(image.put_partition(Uuid([1; 16]), 1, partition(3, 1)));
        assert!(image.put_partition(Uuid([1; 16]), 2, partition(3, 2)), "a partition of another node");
        assert_eq!(image.topic("a").unwrap().id, Uuid([1; 16]));
        assert_eq!(image.topic_by_id(Uuid([1; 16])).unwrap().name.as_ref(), "a");
        let check = |partition, expected| {
            assert_eq!(image.owner(&TopicPartition::new("a", partition)), expected, "{partition}");
        };
        check(0, Some(ShardId(0)));
        check(1, Some(ShardId(1)));
        check(2, None);
        check(3, None);
        check(-1, None);
        assert_eq!(image.owner(&TopicPartition::new("b", 0)), None);
        assert_eq!(image.partition_count(), 3);
        assert_eq!(image.slot_partitions(), [1, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn nobody_leads_from_a_directory_that_is_not_online() {
        let (here, gone) = (Uuid([1; 16]), Uuid([2; 16]));
        let check = |online: &[Uuid], directory, expected: Option<i32>| {
            let mut image = image();
            image.put_broker(Broker {
                node: NodeId(1),
                epoch: BrokerEpoch(1),
                host: "h".into(),
                port: 1,
                endpoint_ports: Vec::new(),
                rack: None,
                directories: online.to_vec(),
            });
            let replicas = [Replica { node: NodeId(1), directory }].into();
            let partition = Partition { replicas, ..partition(0, 1) };
            assert_eq!(image.leader_of(&partition), expected.map(NodeId), "{directory} of {online:?}");
            assert_eq!(image.offline_replicas(&partition).count(), usize::from(expected.is_none()));
            assert_eq!(image.directory_of(&partition), directory);
        };
        check(&[here, gone], gone, Some(1));
        check(&[here], gone, None);
        check(&[here], here, Some(1));
        // From before directories were told.
        check(&[here], Uuid::ZERO, Some(1));
        check(&[], gone, Some(1));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut image = image();
        image.put_topic(Uuid([1; 16]), "a".into());
        let before = image.clone();
        assert!(!image.put_partition(Uuid([2; 16]), 0, partition(0, 1)), "no such topic");
        assert!(!image.put_partition(Uuid([1; 16]), 1, partition(0, 1)), "a hole");
        assert!(!image.put_partition(Uuid([1; 16]), 0, partition(8, 1)), "no such slot");
        assert!(!image.put_partition(Uuid([1; 16]), -1, partition(0, 1)), "a negative number");
        assert!(!image.put_topic_config(Uuid([2; 16]), "retention.ms", Some("1")));
        assert_eq!(image, before);
    }

    #[test]
    fn an_older_image_does_not_see_changes() {
        let mut image = image();
        image.put_topic(Uuid([1; 16]), "a_b".into());
        image.put_partition(Uuid([1; 16]), 0, partition(2, 1));
        let before = image.clone();
        image.put_partition(Uuid([1; 16]), 0, partition(3, 1));
        image.put_topic_config(Uuid([1; 16]), "retention.ms", Some("1"));
        image.put_topic(Uuid([2; 16]), "b".into());
        assert_eq!(before.slot_partitions()[2], 1);
        assert!(before.topic("b").is_none());
        assert!(before.topic("a_b").unwrap().configs.is_empty());
        assert_eq!(image.colliding_topic("a.b").map(AsRef::as_ref), Some("a_b"));
        image.remove_topic(Uuid([1; 16]));
        assert_eq!(image.colliding_topic("a.b"), None);
        assert_eq!(image.slot_partitions().iter().sum::<u32>(), 0);
        assert_eq!(before.topic_count(), 1);
    }

    #[test]
    fn own_broker_overrides_come_before_those_for_all() {
        let mut image = image();
        image.put_default_broker_config("message.max.bytes", Some("1"));
        assert_eq!(image.dynamic_broker_config("message.max.bytes"), Some("1"));
        image.put_broker_config(NodeId(1), "message.max.bytes", Some("2"));
        assert_eq!(image.dynamic_broker_config("message.max.bytes"), Some("2"));
        image.put_broker_config(NodeId(1), "message.max.bytes", None);
        image.put_default_broker_config("message.max.bytes", None);
        assert_eq!(image.dynamic_broker_config("message.max.bytes"), None);
        assert_eq!(image.brokers_with_configs().count(), 0);
    }

    #[test]
    fn groups_hash_as_in_java() {
        // Values of `"...".hashCode()` on the JVM.
        let check = |text, expected| assert_eq!(java_hash(text), expected, "{text}");
        check("", 0);
        check("a", 97);
        check("hello", 99162322);
        check("g-group", -1_689_460_327);
        check("polygenelubricants", i32::MIN);
    }
}
