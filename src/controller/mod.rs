//! Decides what the cluster is: topics, placements, moves of slots, configs, producer ids. Pure state machines: no I/O, no clock.
//!
//! *Owns* the newest image, proposals included, and the [`MetadataQuorum`] that makes them count. *Never* talks to a socket
//! or a file: its driver on shard 0 appends what [`Controller::ready`] gives to the metadata log, fsynced, and hands the
//! image of what is committed to every shard. Called by `server` on shard 0, for admin requests, and by `shard` at boot.
//!
//! A request goes: decide against [`Controller::latest`] (what was proposed counts already, or two requests in flight could
//! make one topic twice) → [`Controller::propose`] → answer once the image of that index is committed and, where the client
//! expects to use what it asked for at once, every shard has it.
//!
//! Invariant: `latest` is `committed` with the proposals in flight applied, in order.

mod apply;
mod balance;
mod bootstrap;
mod configs;
mod error;
mod placement;
mod producer_ids;
mod publication;
mod quorum;
mod slots;
mod topics;

use std::sync::Arc;

pub use apply::{ApplyError, apply};
pub use balance::{Balancer, Rebalance};
pub use bootstrap::{ForeignLog, Format, Registration, check_cluster, format_records, register_broker};
pub use configs::{
    ConfigAlteration, ConfigChange, ConfigOperation, ConfigTarget, alter_configs, check_own_broker,
    replace_configs,
};
pub use error::ControllerError;
pub use placement::Placement;
pub use producer_ids::{PRODUCER_ID_BLOCK, ProducerIdBlock, allocate_producer_ids};
pub use quorum::{MetadataQuorum, NotLeader, Ready, SingleWriter};
pub use slots::{MoveSlotError, move_slot};
pub use topics::{
    CONFIG_VALUE_BYTES_MAX, CreatedTopic, Decision, DeletedTopic, MorePartitions, NewTopic,
    PARTITIONS_PER_REQUEST_MAX, TopicDefaults, TopicToDelete, check_name, create_partitions, create_topics,
    delete_topics, offsets_topic,
};

use crate::metadata::{Entry, Image, Record};
use publication::Publication;

/// The writer of the metadata log on the node that leads it.
pub struct Controller {
    quorum: Box<dyn MetadataQuorum>,
    committed: Arc<Image>,
    latest: Image,
    /// Proposed and not yet committed.
    in_flight: Vec<Entry>,
    publication: Publication,
}

impl Controller {
    /// Continues after `image`, which is what the log gave.
    pub fn new(quorum: Box<dyn MetadataQuorum>, image: Image) -> Controller {
        Controller {
            quorum,
            latest: image.clone(),
            committed: Arc::new(image),
            in_flight: Vec::new(),
            publication: Publication::default(),
        }
    }

    /// The image of everything committed; shards come to serve by it, in steps.
    pub fn committed(&self) -> &Arc<Image> {
        &self.committed
    }

    /// The image to decide against: proposals in flight count.
    pub fn latest(&self) -> &Image {
        &self.latest
    }

    /// Puts decided records on their way as one atomic step; returns the version to wait for. Nothing to write: the version
    /// of what is in flight, since the decision may rest on it.
    /// Panics if the records do not follow from `latest`: they were decided against something else.
    pub fn propose(&mut self, records: Vec<Record>) -> Result<u64, NotLeader> {
        if records.is_empty() {
            return Ok(self.latest.version);
        }
        let index = self.quorum.propose(records.clone())?;
        let entry = Entry { term: self.quorum.term(), index, records };
        self.latest =
            apply(self.latest.clone(), &entry).expect("records were decided against the latest image");
        self.in_flight.push(entry);
        Ok(index)
    }

    /// The entries to append to the log, one batch each. Applies what has been committed; a new image shows in `committed`.
    pub fn ready(&mut self) -> Vec<Entry> {
        let ready = self.quorum.ready();
        if !ready.committed.is_empty() {
            let mut image = Image::clone(&self.committed);
            for entry in &ready.committed {
                self.publication.add(entry, &image);
                image =
                    apply(image, entry).expect("what is committed was applied to the latest image before");
            }
            self.in_flight.retain(|entry| entry.index > image.version);
            if self.in_flight.is_empty() {
                // Shares all its parts with what the shards hold, so that the next change copies least.
                self.latest = image.clone();
            }
            self.committed = Arc::new(image);
            self.publication.complete(&self.committed);
        }
        ready.append
    }

    /// The image to give to shards next, if there is one that they may have: all of them serve by `everywhere` at least.
    pub fn image_to_publish(&mut self, everywhere: u64) -> Option<Arc<Image>> {
        self.publication.next(everywhere)
    }

    /// The log holds everything up to this index, fsynced. `ready` has more to do now.
    pub fn appended(&mut self, index: u64) {
        self.quorum.appended(index);
    }

    /// The log had no space for the entries from this index on: they are undone.
    pub fn refused(&mut self, index: u64) {
        self.quorum.refused(index);
        self.in_flight.retain(|entry| entry.index < index);
        let mut latest = Image::clone(&self.committed);
        for entry in &self.in_flight {
            latest = apply(latest, entry).expect("it was applied in this order before");
        }
        self.latest = latest;
    }
}

#[cfg(test)]
mod tests;
