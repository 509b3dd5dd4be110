//! Requests of this shard's connections that wait for an answer from an owner, a coordinator or a timer.

use bytes::Bytes;

use super::handlers::fetch::PendingFetch;
use super::handlers::produce::PendingProduce;
use crate::mesh::Ticket;
use crate::model::{Endpoint, Monotonic, ShardId};
use crate::net::{ConnectionId, Sequence};
use crate::protocol::ApiKey;
use crate::reactor::TimerId;

/// What is needed to send a reply, whatever the request was.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub connection: ConnectionId,
    /// Where the connection came in.
    pub endpoint: Option<Endpoint>,
    pub sequence: Sequence,
    pub api_key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// When its last byte was there.
    pub received: Monotonic,
}

/// A request that waits.
pub enum Waiting {
    Produce(PendingProduce),
    Fetch(PendingFetch),
    /// One shard answers with the whole body.
    Relay,
    Gather(PendingGather),
}

/// A request whose parts several shards serve. `merge` makes one body of theirs.
pub struct PendingGather {
    pub remaining: usize,
    pub bodies: Vec<Bytes>,
    pub merge: fn(version: i16, bodies: &[Bytes]) -> Bytes,
}

struct Slot {
    generation: u32,
    entry: Option<(Origin, Waiting)>,
    timer: Option<TimerId>,
}

/// The table of pending requests. A slot's generation rises each time it is freed, so a late answer finds nobody.
pub struct PendingTable {
    shard: ShardId,
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
}

impl PendingTable {
    pub fn new(shard: ShardId) -> PendingTable {
        PendingTable { shard, slots: Vec::new(), free: Vec::new(), count: 0 }
    }

    /// Stores a waiting request.
    pub fn insert(&mut self, origin: Origin, waiting: Waiting) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None, timer: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.entry.is_none(), "a free slot holds a request");
        slot.entry = Some((origin, waiting));
        self.count += 1;
        Ticket { shard: self.shard, slot: index, generation: slot.generation }
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut (Origin, Waiting)> {
        assert_eq!(ticket.shard, self.shard, "a ticket came to a shard that did not hand it out");
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        if slot.generation == ticket.generation { slot.entry.as_mut() } else { None }
    }

    /// Remembers the timer that ends this request's wait.
    pub fn set_timer(&mut self, ticket: Ticket, timer: TimerId) {
        assert!(self.get_mut(ticket).is_some(), "a timer for a request that does not wait");
        self.slots[ticket.slot as usize].timer = Some(timer);
    }

    /// Takes a request out: it is answered or given up. The caller cancels the timer that ends its wait.
    pub fn remove(&mut self, ticket: Ticket) -> Option<(Origin, Waiting, Option<TimerId>)> {
        self.get_mut(ticket)?;
        let slot = &mut self.slots[ticket.slot as usize];
        let (origin, waiting) = slot.entry.take().expect("get_mut found it");
        slot.generation = slot.generation.wrapping_add(1);
        let timer = slot.timer.take();
        self.free.push(ticket.slot);
        self.count -= 1;
        Some((origin, waiting, timer))
    }

    /// The current ticket of a slot, if a request waits there.
    pub fn ticket_of(&self, slot: u32) -> Option<Ticket> {
        let entry = self.slots.get(slot as usize)?;
        entry.entry.as_ref()?;
        Some(Ticket { shard: self.shard, slot, generation: entry.generation })
    }

    /// Slots there are, used or free; `ticket_of` tells them apart.
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
