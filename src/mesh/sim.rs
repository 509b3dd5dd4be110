//! The mesh of the simulation: queues whose delivery the seed delays, order per pair of shards kept.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Mesh, Message};
use crate::model::ShardId;

struct Queues {
    /// `[from][to]`
    queues: Vec<Vec<VecDeque<Message>>>,
    /// Shards whose `wait` goes on, as far as the others know: until they look into their mailbox again.
    asleep: Vec<bool>,
    random: u64,
}

/// Makes one end for each shard of a simulated node.
pub fn mesh(shard_count: u16, seed: u64) -> Vec<SimMesh> {
    let count = usize::from(shard_count);
    let queues = Rc::new(RefCell::new(Queues {
        queues: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
        asleep: vec![false; count],
        random: seed | 1,
    }));
    (0..count).map(|shard| SimMesh { shard, shared: Rc::clone(&queues), sent: vec![false; count] }).collect()
}

/// One simulated shard's end of the mesh.
pub struct SimMesh {
    shard: usize,
    shared: Rc<RefCell<Queues>>,
    sent: Vec<bool>,
}

impl Mesh for SimMesh {
    fn shard_count(&self) -> u16 {
        self.sent.len() as u16
    }

    fn send(&mut self, to: ShardId, message: Message) {
        let to = usize::from(to.0);
        assert_ne!(to, self.shard, "a shard does not send to itself");
        self.shared.borrow_mut().queues[self.shard][to].push_back(message);
        self.sent[to] = true;
    }

    fn receive(&mut self) -> Option<(ShardId, Message)> {
        let mut shared = self.shared.borrow_mut();
        shared.asleep[self.shard] = false;
        let count = self.sent.len();
        // xorshift64: which sender is heard first is the seed's choice.
        shared.random ^= shared.random << 13;
        shared.random ^= shared.random >> 7;
        shared.random ^= shared.random << 17;
        let first = (shared.random % count as u64) as usize;
        (0..count).map(|step| (first + step) % count).find_map(|from| {
            let message = shared.queues[from][self.shard].pop_front()?;
            Some((ShardId(from as u16), message))
        })
    }

    fn is_congested(&self) -> bool {
        false
    }

    fn publish(&mut self, doorbells: &mut Vec<ShardId>) {
        let mut shared = self.shared.borrow_mut();
        for (to, sent) in self.sent.iter_mut().enumerate() {
            if std::mem::take(sent) && std::mem::take(&mut shared.asleep[to]) {
                doorbells.push(ShardId(to as u16));
            }
        }
    }

    fn prepare_to_sleep(&mut self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let empty = shared.queues.iter().all(|to| to[self.shard].is_empty());
        shared.asleep[self.shard] = empty;
        empty
    }

    /// Nothing: the model's `wait` returns at once, and it is the driver that lets the shard sleep.
    fn woken(&mut self) {}
}
