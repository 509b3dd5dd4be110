//! In which steps shards are given what is committed.
//!
//! One image may hold any number of entries, and each shard goes from one to the next by itself. So two things must not come in
//! one step: what was deleted and what takes its name, since another shard would make the new folder while the log of the old
//! one still writes there; and the move of a slot and whatever comes after it, since the new core may be told of a partition
//! that the old one has not closed yet. Of these the later waits until every shard serves by the earlier.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::metadata::{Entry, Image, Record};
use crate::model::TopicName;

/// The committed images that shards have not been given.
///
/// Invariant: `needs` rises from step to step, and each step has all that is in those before it.
#[derive(Default)]
pub(super) struct Publication {
    steps: VecDeque<Step>,
    /// The version of the newest move.
    moved: u64,
    /// Names that have become free, and the version by which they have, until every shard serves by it.
    deleted: BTreeMap<TopicName, u64>,
}

struct Step {
    image: Arc<Image>,
    /// Every shard has to serve by this version first.
    needs: u64,
}

impl Publication {
    /// This entry is committed on top of `before`; `complete` follows the last of several.
    pub fn add(&mut self, entry: &Entry, before: &Image) {
        let needs = self.needs(entry);
        match self.steps.back_mut() {
            Some(last) if needs <= last.needs => {}
            last => {
                let image = Arc::new(before.clone());
                if let Some(last) = last {
                    last.image = Arc::clone(&image);
                }
                self.steps.push_back(Step { image, needs });
            }
        }
        for record in &entry.records {
            match record {
                Record::MoveSlot(_) => self.moved = entry.index,
                Record::RemoveTopic(id) => {
                    let name = before.topic_by_id(*id).map(|topic| Arc::clone(&topic.name));
                    self.deleted.extend(name.map(|name| (name, entry.index)));
                }
                _ => {}
            }
        }
    }

    /// The version that all shards must serve by before they are given this entry.
    fn needs(&self, entry: &Entry) -> u64 {
        if cfg!(corelog_planted = "105") {
            return 0;
        }
        let taken = entry.records.iter().filter_map(|record| match record {
            Record::Topic(topic) => self.deleted.get(&topic.name).copied(),
            _ => None,
        });
        taken.max().unwrap_or(0).max(self.moved)
    }

    /// All entries that were added are in this image.
    pub fn complete(&mut self, image: &Arc<Image>) {
        if let Some(last) = self.steps.back_mut() {
            last.image = Arc::clone(image);
        }
    }

    /// What shards may be given next, now that all of them serve by `everywhere`.
    pub fn next(&mut self, everywhere: u64) -> Option<Arc<Image>> {
        self.deleted.retain(|_, version| *version > everywhere);
        let mut image = None;
        while self.steps.front().is_some_and(|step| step.needs <= everywhere) {
            image = self.steps.pop_front().map(|step| step.image);
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Format, apply, format_records};
    use crate::metadata::{Local, MoveSlotRecord, SlotHome, TopicRecord};
    use crate::model::{Endpoint, NodeId, PlacementSlot, ShardId, Uuid};

    fn moves(slot: u16) -> Record {
        let home = SlotHome { endpoint: Endpoint(1), core: ShardId(1), cores: 2 };
        Record::MoveSlot(MoveSlotRecord { node: NodeId(1), slot: PlacementSlot(slot), home })
    }

    fn makes(id: u8, name: &str) -> Record {
        Record::Topic(TopicRecord { id: Uuid([id; 16]), name: name.into() })
    }

    fn removes(id: u8) -> Record {
        Record::RemoveTopic(Uuid([id; 16]))
    }

    /// Commits the records as one entry each, together, on top of a topic `a` with the id 1, which is version 2; and lets
    /// shards apply each image before they ask for the next.
    fn check(records: &[Record], expected: &[u64]) {
        let format = Format { cluster_id: Uuid([7; 16]), slots: 8, endpoints: 2, min_insync_replicas: 1 };
        let mut image = Image::empty(Local { node: NodeId(1), shards: 2 });
        let first = [format_records(&format).unwrap(), vec![makes(1, "a")]];
        for (index, records) in (1..).zip(first) {
            image = apply(image, &Entry { term: 1, index, records }).unwrap();
        }
        let mut publication = Publication::default();
        let all = publication.next(2);
        assert!(all.is_none(), "nothing is committed");
        for (index, record) in (3..).zip(records) {
            let entry = Entry { term: 1, index, records: vec![record.clone()] };
            publication.add(&entry, &image);
            image = apply(image, &entry).unwrap();
        }
        publication.complete(&Arc::new(image));
        let (mut everywhere, mut given) = (2, Vec::new());
        while let Some(image) = publication.next(everywhere) {
            assert!(
                publication.next(everywhere).is_none(),
                "{records:?}: each step waits for the one before"
            );
            given.push(image.version);
            everywhere = image.version;
        }
        assert_eq!(given, expected, "{records:?}");
        assert!(publication.steps.is_empty(), "{records:?}");
    }

    #[test]
    fn what_must_not_meet_comes_one_after_the_other() {
        check(&[], &[]);
        check(&[makes(2, "b"), removes(1), makes(3, "c")], &[5]);
        // A name that is taken again.
        check(&[removes(1), makes(2, "a")], &[3, 4]);
        check(&[removes(1), makes(2, "b"), makes(3, "a"), makes(4, "c")], &[4, 6]);
        check(&[removes(1), makes(2, "a"), removes(2), makes(3, "a")], &[3, 5, 6]);
        // A slot that moves.
        check(&[makes(2, "b"), moves(0)], &[4]);
        check(&[moves(0), removes(1), makes(2, "a")], &[3, 4, 5]);
        check(&[removes(1), moves(0), makes(2, "a")], &[4, 5]);
        check(&[moves(0), moves(1), makes(2, "b")], &[3, 4, 5]);
    }
}
