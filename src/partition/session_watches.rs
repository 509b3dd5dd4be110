//! Watches that fetch sessions leave on partitions, so that a session reads again only what has moved.
//!
//! A session's watch says: tell it once when anything changes that the session's client would be told (its end, its log start,
//! that it is served here). It is left by a read that finds nothing and goes when it is told, so a session that nobody uses costs
//! nothing once all its partitions have moved. A partition that is told of too often is read in vain; one that is told of too
//! seldom would be read no more: so watches go with everything that takes a replica out of service.

use std::collections::{BTreeMap, BTreeSet};

use super::set::{PartitionSet, ReplicaIndex};
use crate::mesh::{SessionKey, SessionPart};
use crate::model::{PartitionIndex, ShardId, TopicId};

/// Who watches what, seen from the sessions; seen from a replica it is in its purgatory. As many as the sessions of all shards
/// have partitions, at most, and those are bounded.
#[derive(Default)]
pub(super) struct SessionWatches {
    watched: BTreeMap<SessionKey, BTreeSet<ReplicaIndex>>,
    /// Watches that were met and are to be told of.
    moved: Vec<(ShardId, SessionPart)>,
}

impl SessionWatches {
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }
}

impl PartitionSet {
    /// Leaves a session's watch; `part` is what the session calls this partition.
    pub fn watch_for_session(&mut self, index: ReplicaIndex, session: SessionKey, part: u32) {
        self.get_mut(index).purgatory.watch_for_session(session, part);
        self.session_watches.watched.entry(session).or_default().insert(index);
    }

    /// Takes back a session's watch on one partition, or (`None`) all of them: it is over.
    pub fn forget_session(&mut self, session: SessionKey, partition: Option<(TopicId, PartitionIndex)>) {
        let Some((topic_id, partition)) = partition else {
            for index in self.session_watches.watched.remove(&session).unwrap_or_default() {
                self.get_mut(index).purgatory.unwatch_for_session(session);
            }
            return;
        };
        // One that is not here any more has told its watchers.
        if let Some(index) = self.find(topic_id, partition) {
            self.get_mut(index).purgatory.unwatch_for_session(session);
            if let Some(watched) = self.session_watches.watched.get_mut(&session) {
                watched.remove(&index);
            }
        }
    }

    /// Tells the sessions that watch this replica.
    pub(super) fn tell_sessions(&mut self, index: ReplicaIndex) {
        let replica = self.replicas[index.0 as usize].as_mut().expect("a replica that moves is there");
        while let Some((SessionKey { shard, session }, part)) = replica.purgatory.take_session_watch() {
            let watched = self.session_watches.watched.get_mut(&SessionKey { shard, session });
            let was_watched = watched.expect("a session has its watches").remove(&index);
            assert!(was_watched, "a session's watch on {} is not the session's", replica.at);
            self.session_watches.moved.push((shard, SessionPart { session, part }));
        }
    }

    /// What sessions are to be told since the last call, each with the shard that has the session.
    pub fn take_session_moves(&mut self) -> Vec<(ShardId, SessionPart)> {
        std::mem::take(&mut self.session_watches.moved)
    }

    /// Takes the list back when all are told.
    pub fn give_back_session_moves(&mut self, mut moved: Vec<(ShardId, SessionPart)>) {
        moved.clear();
        if self.session_watches.moved.is_empty() {
            self.session_watches.moved = moved;
        }
    }
}
