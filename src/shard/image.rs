//! Serving by a newer image: partitions whose names are taken by new ones are removed first, then the new ones are made,
//! then the image is taken, then the other partitions that are gone are removed, then shard 0 is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Shard, ShardEvent};
use crate::config::{Config, Levels, TopicConfig};
use crate::log::Now;
use crate::mesh::{Mesh, Message};
use crate::metadata::{Delta, GROUP_METADATA_TOPIC, Image, Topic};
use crate::model::{PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::partition::NewPartition;
use crate::reactor::Io;

/// Images on their way into service.
#[derive(Default)]
pub struct ImageQueue {
    /// The one being applied, and what it waits for.
    current: Option<Applying>,
    next: VecDeque<Arc<Image>>,
}

struct Applying {
    image: Arc<Image>,
    /// Partitions that the stage makes or removes and that are not done yet.
    awaited: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Deleted partitions leave their folders to new ones of the same name: a log that still rolls or writes an index would
    /// do so in the folder of the other.
    MakingWay,
    Making,
    /// The image is in service; partitions that it lacks are removed, and a slot may be moving.
    Removing,
}

impl ImageQueue {
    /// `serving`: the image in service.
    pub fn push(&mut self, image: Arc<Image>, serving: &Image) {
        // An image holds everything before it: one that has not been started is passed over. But not one that moves a slot, nor
        // for one: all shards must agree about what the old owner has of the slot.
        if let Some(last) = self.next.back() {
            let in_work = self.current.as_ref().map_or(serving, |applying| &applying.image);
            let before = self.next.iter().rev().nth(1).map_or(in_work, |image| image);
            if last.has_slots_as(before) && image.has_slots_as(last) {
                self.next.pop_back();
            }
        }
        self.next.push_back(image);
    }

    /// Partitions that the image waited for have been made or removed.
    pub fn done(&mut self, count: usize) {
        let current = self.current.as_mut().expect("partitions are made and removed for an image");
        assert!(current.awaited >= count, "more partitions are done than were begun");
        current.awaited -= count;
    }

    /// The image waits for so many more.
    pub fn wait_for(&mut self, count: usize) {
        self.current.as_mut().expect("an image that moves a slot is being applied").awaited += count;
    }

    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.next.is_empty()
    }
}

impl Shard {
    pub(super) fn take_image(&mut self, image: Arc<Image>) {
        self.images.push(image, &self.image);
    }

    /// Goes on with the image that is being applied. True if something changed.
    pub(super) fn apply_images(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) -> bool {
        let mut moved = false;
        loop {
            match &mut self.images.current {
                None => {
                    let Some(image) = self.images.next.pop_front() else { return moved };
                    if image.version <= self.image.version {
                        continue;
                    }
                    let awaited = self.make_way(&image);
                    self.images.current = Some(Applying { image, awaited, stage: Stage::MakingWay });
                }
                Some(applying) if applying.awaited > 0 => return moved,
                Some(Applying { image, stage: Stage::MakingWay, .. }) => {
                    let image = Arc::clone(image);
                    let awaited = self.create_partitions(io, &image);
                    self.images.current = Some(Applying { image, awaited, stage: Stage::Making });
                }
                Some(Applying { image, stage: Stage::Making, .. }) => {
                    let image = Arc::clone(image);
                    let awaited = self.take_over(io, mesh, &image);
                    self.images.current = Some(Applying { image, awaited, stage: Stage::Removing });
                }
                Some(Applying { image, stage: Stage::Removing, .. }) => {
                    let version = image.version;
                    self.images.current = None;
                    if self.id == ShardId(0) {
                        self.image_applied(io, mesh, ShardId(0), version);
                    } else {
                        mesh.send(ShardId(0), Message::ImageApplied { version });
                    }
                }
            }
            moved = true;
        }
    }

    /// Begins to remove the partitions whose topic was deleted and made anew between two images. Returns how many.
    fn make_way(&mut self, image: &Image) -> usize {
        let mut removed = 0;
        for (topic, index) in Delta::between(&self.image, image).partitions_deleted() {
            if image.topic(&topic.name).is_some() {
                removed += usize::from(self.remove_partition(topic.id, index));
            }
        }
        removed
    }

    /// Begins to remove a partition, served or offline. False: it is not here.
    fn remove_partition(&mut self, topic_id: TopicId, index: PartitionIndex) -> bool {
        match self.partitions.find(topic_id, index) {
            Some(replica) => {
                self.partitions.remove(replica);
                true
            }
            None => self.partitions.remove_offline(topic_id, index),
        }
    }

    /// Begins to make what the image adds here. Returns how many partitions that is.
    fn create_partitions(&mut self, io: &mut dyn Io, image: &Arc<Image>) -> usize {
        let delta = Delta::between(&self.image, image);
        let mut new = Vec::new();
        for (topic, index) in delta.partitions_created() {
            if owner_here(image, topic, index) == Some(self.id) {
                new.push(new_partition(&self.config, image, topic, index));
            }
        }
        let count = new.len();
        if count > 0 {
            self.partitions.create(new, io.wall_clock());
        }
        count
    }

    /// Serves by the image from here on, and begins to remove what it lacks and to move what it moves. Returns how many
    /// partitions, and ends of moves, that is.
    fn take_over(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, image: &Arc<Image>) -> usize {
        let was_registered = self.is_registered();
        let before = std::mem::replace(&mut self.image, Arc::clone(image));
        if !was_registered {
            self.open_entrances(io);
        }
        let delta = Delta::between(&before, image);
        self.follow_groups(Now::read(io), &delta, &before, image);
        let mut removed = 0;
        for (topic, index) in delta.partitions_deleted() {
            removed += usize::from(self.remove_partition(topic.id, index));
        }
        for moved in &delta.moved_slots {
            removed += self.begin_move(mesh, Now::read(io), *moved, &before, image);
        }
        self.serve_held(io, mesh);
        let everything = delta.broker_configs_changed;
        if everything {
            self.slow.set_threshold(slow_request(&self.config, image));
        }
        let changed = delta.changed.iter().filter(|change| change.before.configs != change.after.configs);
        let mut topics: Vec<Arc<Topic>> = changed.map(|change| Arc::clone(&change.after)).collect();
        if everything {
            topics = image.topics().cloned().collect();
        }
        for topic in topics {
            let config = Arc::new(topic_config(&self.config, image, &topic));
            for (index, _) in topic.numbered() {
                if let Some(replica) = self.partitions.find(topic.id, index) {
                    self.partitions.set_config(replica, Arc::clone(&config));
                }
            }
        }
        for topic in delta.created.iter().chain(delta.changed.iter().map(|change| &change.after)) {
            if topic_config(&self.config, image, topic).cleanup_policy.compact
                && topic.name.as_ref() != GROUP_METADATA_TOPIC
                && self.id == ShardId(0)
            {
                self.events.push(ShardEvent::CompactionPending { topic: Arc::clone(&topic.name) });
            }
        }
        removed
    }

    /// Tells the group coordinator which partitions of its topic came and went, and which topics are gone.
    fn follow_groups(&mut self, now: Now, delta: &Delta, before: &Image, image: &Image) {
        for (topic, index) in delta.partitions_deleted() {
            if topic.name.as_ref() == GROUP_METADATA_TOPIC
                && owner_here(before, topic, index) == Some(self.id)
            {
                self.groups.resign(now, index);
            }
        }
        for (topic, index) in delta.partitions_created() {
            if topic.name.as_ref() != GROUP_METADATA_TOPIC {
                continue;
            }
            if index == 0 || delta.changed.iter().any(|change| change.after.id == topic.id) {
                let count = i32::try_from(topic.partitions.len()).expect("partition counts fit an i32");
                self.groups.set_partition_count(count);
            }
            if owner_here(image, topic, index) == Some(self.id) {
                // It was made a moment ago and is empty.
                self.groups.begin_load(now, index);
                self.groups.end_load(now, index);
            }
        }
        for topic in &delta.deleted {
            self.groups.topic_deleted(now, &topic.name);
        }
    }

    /// A shard serves by `version`: decisions that waited for all shards are answered.
    pub(super) fn image_applied(
        &mut self,
        io: &mut dyn Io,
        mesh: &mut dyn Mesh,
        from: ShardId,
        version: u64,
    ) {
        let seat = self.controller.as_mut().expect("only shard 0 is told what others have applied");
        for (ticket, body) in seat.applied(from, version) {
            super::context!(self, io, mesh).answer(ticket, Some(body));
        }
    }
}

fn owner_here(image: &Image, topic: &Topic, index: PartitionIndex) -> Option<ShardId> {
    image.owner_of(topic.partition(index)?)
}

/// What a topic's settings come to on this broker.
pub fn topic_config(config: &Config, image: &Image, topic: &Topic) -> TopicConfig {
    let own = image.broker_configs(image.local.node);
    TopicConfig::effective(&Levels {
        topic: &topic.configs,
        broker: &own,
        cluster: image.default_broker_configs(),
        explicit: &config.explicit,
    })
}

/// What a request has to take longer than to be slow on this broker.
pub(super) fn slow_request(config: &Config, image: &Image) -> Duration {
    config.slow_request(image.dynamic_broker_config("slow.request.us"))
}

pub(super) fn new_partition(
    config: &Config,
    image: &Image,
    topic: &Arc<Topic>,
    index: PartitionIndex,
) -> NewPartition {
    let partition = topic.partition(index).expect("the image names this partition");
    NewPartition {
        at: TopicPartition { topic: Arc::clone(&topic.name), partition: index },
        topic_id: topic.id,
        directory: image.directory_of(partition),
        leader_epoch: partition.leader_epoch,
        config: Arc::new(topic_config(config, image, topic)),
        is_internal: topic.name.as_ref() == GROUP_METADATA_TOPIC,
    }
}
