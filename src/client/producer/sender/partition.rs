//! What the sender knows of one partition: what is out, what is to be sent again, its numbers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::client::producer::accumulator::PartitionQueue;
use crate::client::producer::batch::Batch;
use crate::client::producer::idempotence::{Permission, Place, Sequencer};
use crate::client::time::Instant;

/// Places between two batches, so that one can be split into as many as it has records.
const PLACE_WIDTH: u64 = 1 << 32;

/// A batch with its place among those of its partition.
pub(super) struct Placed {
    pub place: Place,
    /// The places from `place` on that are its own.
    pub width: u64,
    pub batch: Batch,
}

pub(super) struct PartitionState {
    pub queue: Arc<PartitionQueue>,
    /// To be sent again, in order.
    retries: VecDeque<Placed>,
    /// Sent and not answered, in no order (a leader may have changed in between).
    in_flight: Vec<Place>,
    next_place: u64,
    pub sequencer: Sequencer,
    /// Nothing is sent before this moment.
    pub not_before: Option<Instant>,
    /// Since when something is ready and its leader takes nothing.
    pub blocked_since: Option<Instant>,
    /// In the sender's list.
    pub is_listed: bool,
}

impl PartitionState {
    pub fn new(queue: Arc<PartitionQueue>) -> PartitionState {
        PartitionState {
            queue,
            retries: VecDeque::new(),
            in_flight: Vec::new(),
            next_place: 0,
            sequencer: Sequencer::default(),
            not_before: None,
            blocked_since: None,
            is_listed: false,
        }
    }

    /// A batch that is sent for the first time.
    pub fn place(&mut self, batch: Batch) -> Placed {
        let place = Place(self.next_place);
        self.next_place += PLACE_WIDTH;
        Placed { place, width: PLACE_WIDTH, batch }
    }

    pub fn sent(&mut self, place: Place) {
        self.in_flight.push(place);
    }

    pub fn answered(&mut self, place: Place) {
        let at = self.in_flight.iter().position(|other| *other == place);
        self.in_flight.swap_remove(at.expect("what is answered was in flight"));
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// The first batch that was sent and has no outcome.
    pub fn first_open(&self) -> Option<Place> {
        let waiting = self.retries.front().map(|first| first.place);
        self.in_flight.iter().copied().chain(waiting).min()
    }

    /// Puts a batch back to where it belongs among those to be sent again.
    pub fn retry(&mut self, placed: Placed) {
        let at = self.retries.partition_point(|other| other.place < placed.place);
        self.retries.insert(at, placed);
        self.queue.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub fn first_retry(&self) -> Option<&Batch> {
        self.retries.front().map(|first| &first.batch)
    }

    pub fn take_retry(&mut self) -> Option<Placed> {
        let first = self.retries.pop_front()?;
        self.queue.queued.fetch_sub(1, Ordering::Relaxed);
        Some(first)
    }

    /// All that is to be sent again, for numbering anew.
    pub fn retries_mut(&mut self) -> (&mut Sequencer, impl Iterator<Item = &mut Batch>) {
        (&mut self.sequencer, self.retries.iter_mut().map(|placed| &mut placed.batch))
    }

    /// Whether what is left must start anew, and can: nothing is in flight.
    pub fn restarts(&self) -> bool {
        self.in_flight.is_empty() && self.sequencer.permission(self.first_open()) == Permission::Restart
    }

    /// Whether a batch may be sent: one again, or else a new one.
    pub fn may_send(&self, in_flight_max: usize, keeps_order_alone: bool) -> bool {
        if keeps_order_alone && !self.in_flight.is_empty() {
            return false;
        }
        match self.sequencer.permission(self.first_open()) {
            Permission::All => self.in_flight.len() < in_flight_max,
            Permission::OneByOne => self.in_flight.is_empty(),
            Permission::OldOneByOne => self.in_flight.is_empty() && self.has_retries(),
            Permission::Restart => false,
        }
    }
}
