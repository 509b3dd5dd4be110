//! Core-to-core messages: N x N bounded single-producer, single-consumer rings, one for each ordered pair of shards.
//!
//! *Owns* the rings and the sleeping flags. *Never* looks inside a message. *Invariant*: messages from one shard to another
//! arrive in the order they were sent; a partition has one owner at a time, and a message to a former owner is answered
//! with "not leader", never served. *Boundary*: [`Mesh`], with real rings (`mailbox`) or seeded queues (`sim`) behind it.

mod mailbox;
mod message;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod spsc;

pub use mailbox::{MailboxSet, Mailboxes};
pub use message::{
    FetchAnswer, FetchOrder, FetchPart, FetchPartAnswer, HandedPartition, HandedSlot, Message, ProduceAnswer,
    ProduceOrder, ProducePart, ProducePartAnswer, Relay, RelayAnswer, SessionKey, SessionPart, SlotLoad,
    Ticket,
};

use crate::model::ShardId;

/// One shard's end of the mesh.
pub trait Mesh {
    /// How many shards there are, this one included.
    fn shard_count(&self) -> u16;

    /// Hands a message to the ring towards `to`. When that ring is full the message waits in order on this side and
    /// [`Mesh::is_congested`] holds until the ring has taken it: the shard then takes no new requests.
    fn send(&mut self, to: ShardId, message: Message);

    /// The next message from any shard, round robin over senders.
    fn receive(&mut self) -> Option<(ShardId, Message)>;

    /// Messages wait on this side because a ring is full.
    fn is_congested(&self) -> bool;

    /// Publishes what was sent since the last call and names, into `doorbells`, the shards that sleep and must be woken.
    fn publish(&mut self, doorbells: &mut Vec<ShardId>);

    /// Announces that this shard is about to sleep. False if a message arrived meanwhile: do not sleep then.
    fn prepare_to_sleep(&mut self) -> bool;

    /// Ends the announcement of `prepare_to_sleep`.
    fn woken(&mut self);
}
