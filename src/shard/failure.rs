//! What follows when a data directory fails: who is told, and whether the broker can go on.

use std::sync::Arc;

use super::{Shard, ShardEvent};
use crate::controller::register_broker;
use crate::log::{Now, StorageError};
use crate::mesh::{Mesh, Message};
use crate::metadata::GROUP_METADATA_TOPIC;
use crate::model::ShardId;
use crate::partition::{DirectoryIndex, DirectorySet};
use crate::reactor::Io;

impl Shard {
    /// The partitions of a directory are offline here. The first shard to know wakes the others and tells the operator.
    pub(super) fn directory_offline(
        &mut self,
        io: &mut dyn Io,
        mesh: &mut dyn Mesh,
        directory: DirectoryIndex,
        error: Arc<StorageError>,
        is_news: bool,
    ) {
        let now = Now::read(io);
        let coordinated: Vec<_> = self
            .partitions
            .iter_offline()
            .filter(|replica| replica.directory == Some(directory))
            .filter(|replica| replica.at.topic.as_ref() == GROUP_METADATA_TOPIC)
            .map(|replica| replica.at.partition)
            .collect();
        coordinated.into_iter().for_each(|partition| self.groups.resign(now, partition));
        if directory == DirectorySet::METADATA {
            // Nothing can be decided any more; what was asked is answered when the broker stops, by closing.
            self.metadata_log = None;
        }
        if is_news {
            for peer in (0..mesh.shard_count()).map(ShardId).filter(|peer| *peer != self.id) {
                mesh.send(peer, Message::DirectoryFailed);
            }
            self.tell_failure(directory, error);
        }
        self.register_again();
    }

    pub(super) fn tell_failure(&mut self, directory: DirectoryIndex, error: Arc<StorageError>) {
        let path = self.partitions.directories().get(directory).path.clone();
        let must_stop = directory == DirectorySet::METADATA;
        self.events.push(ShardEvent::DirectoryOffline { path, error, must_stop });
    }

    /// Announces this process anew if that is not known as it is: the record found no room in the metadata log, without which
    /// the broker accepts nobody, or a directory has failed since.
    pub(super) fn register_again(&mut self) {
        let Some(seat) = &mut self.controller else { return };
        let all = self.partitions.directories();
        let directories = &mut self.registration.directories;
        directories.retain(|id| all.is_online(*id));
        let known = seat.latest().local_broker();
        let is_known = known.is_some_and(|broker| broker.directories == *directories);
        if seat.latest().version == self.boot_version || !is_known {
            seat.propose(register_broker(&self.registration));
        }
    }
}
