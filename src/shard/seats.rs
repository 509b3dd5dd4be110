//! Moving what the controller and the group coordinator decide to their logs, and telling them when it is durable.

use std::sync::Arc;

use super::{Shard, ShardEvent};
use crate::group::AppendFailure;
use crate::log::Now;
use crate::mesh::{Mesh, Message};
use crate::metadata::{Entry, GROUP_METADATA_TOPIC};
use crate::model::{LeaderEpoch, PartitionIndex, ShardId};
use crate::partition::{AppendOutcome, ReplicaIndex, Waiter};
use crate::reactor::Io;
use crate::record::BatchBuilder;
use crate::server::{LogStart, SkippedRecord, error_map};

impl Shard {
    /// Appends the controller's new entries to the metadata log and hands committed images to all shards.
    /// True if something moved.
    pub(super) fn drive_controller(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) -> bool {
        let (Some(seat), Some(log)) = (self.controller.as_mut(), self.metadata_log) else { return false };
        let entries = seat.entries_to_append();
        let mut moved = !entries.is_empty();
        let now = Now::read(io);
        for entry in entries {
            let batch = entry_batch(&entry, now);
            match self.partitions.append_own(log, &batch, Waiter::Metadata { index: entry.index }, now) {
                AppendOutcome::Waits => {}
                AppendOutcome::Done(_) => seat.appended(entry.index),
                AppendOutcome::Refused { .. } => {
                    self.metadata_refused(io, mesh, entry.index);
                    return true;
                }
            }
        }
        let Some(seat) = self.controller.as_mut() else { return moved };
        // Decisions that needed no record rest on what every shard serves by already.
        for (ticket, body) in seat.answers() {
            moved = true;
            super::context!(self, io, mesh).answer(ticket, Some(body));
        }
        let Some(seat) = self.controller.as_mut() else { return moved };
        if let Some(image) = seat.image_to_publish() {
            moved = true;
            for peer in (0..mesh.shard_count()).map(ShardId).filter(|peer| *peer != self.id) {
                mesh.send(peer, Message::Image(Arc::clone(&image)));
            }
            self.take_image(image);
        }
        moved
    }

    /// The metadata log could not take the entries from `index` on: the decisions are undone and their requests closed.
    pub(super) fn metadata_refused(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, index: u64) {
        let Some(seat) = self.controller.as_mut() else { return };
        for ticket in seat.refused(index) {
            super::context!(self, io, mesh).answer(ticket, None);
        }
    }

    /// Appends what the group coordinator wants remembered and sends what it has answered. True if something moved.
    pub(super) fn drive_groups(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) -> bool {
        let now = Now::read(io);
        let appends = self.groups.take_appends(now);
        let mut moved = !appends.is_empty();
        for append in appends {
            let ticket = append.ticket;
            let Some(replica) = self.group_log(append.partition) else {
                self.groups.appended(now, ticket, Err(AppendFailure::NotLeader));
                continue;
            };
            match self.partitions.append_own(replica, &append.batch, Waiter::Group { ticket }, now) {
                AppendOutcome::Waits => {}
                AppendOutcome::Done(appended) => {
                    self.groups.appended(now, ticket, Ok(appended.base_offset));
                }
                AppendOutcome::Refused { error, .. } => {
                    self.groups.appended(now, ticket, Err(error_map::group_append_refused(&error)));
                }
            }
        }
        for (partition, start) in self.groups.take_log_starts() {
            self.raise_group_log_start(partition, start);
        }
        for SkippedRecord { partition, cause } in self.groups.take_skipped() {
            self.events.push(ShardEvent::GroupRecordSkipped { partition, cause });
        }
        for (ticket, body) in self.groups.take_answers() {
            moved = true;
            super::context!(self, io, mesh).answer(ticket, Some(body));
        }
        moved
    }

    fn group_log(&self, partition: PartitionIndex) -> Option<ReplicaIndex> {
        let topic = self.image.topic(GROUP_METADATA_TOPIC)?;
        self.partitions.find(topic.id, partition)
    }

    /// What lies before `start` has been written anew, or is not needed.
    fn raise_group_log_start(&mut self, partition: PartitionIndex, start: LogStart) {
        let Some(replica) = self.group_log(partition) else { return };
        let offset = match start {
            LogStart::At(offset) => offset,
            LogStart::Committed => self.partitions.get(replica).high_watermark(),
        };
        self.partitions.raise_log_start(replica, offset);
    }
}

/// One entry of the metadata log as one batch: its records are the batch's records.
pub(super) fn entry_batch(entry: &Entry, now: Now) -> bytes::Bytes {
    let mut batch = BatchBuilder::new();
    for value in entry.encode() {
        batch.push(now.wall, None, Some(&value));
    }
    batch.finish(0, LeaderEpoch(0))
}
