//! The real mesh: rings of shared memory between pinned threads.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Mesh;
use super::message::Message;
use super::spsc::{self, Receiver, Sender, SleepFlag};
use crate::model::ShardId;

/// Messages one ring holds. 1024: a shard drains its mailboxes every round, and a round meets a few hundred frames.
const RING_MESSAGES: usize = 1024;

/// All mailboxes of a process, to be handed out one to each shard before their threads start.
pub struct MailboxSet {
    mailboxes: Vec<Option<Mailboxes>>,
}

impl MailboxSet {
    pub fn new(shard_count: u16) -> MailboxSet {
        let count = usize::from(shard_count);
        let flags: Arc<Vec<SleepFlag>> = Arc::new((0..count).map(|_| SleepFlag::new()).collect());
        let mut outgoing: Vec<Vec<Option<Outbox>>> = (0..count).map(|_| Vec::new()).collect();
        let mut incoming: Vec<Vec<Option<Receiver<Message>>>> = (0..count).map(|_| Vec::new()).collect();
        for (from, outgoing) in outgoing.iter_mut().enumerate() {
            for (to, incoming) in incoming.iter_mut().enumerate() {
                if from == to {
                    outgoing.push(None);
                    incoming.push(None);
                    continue;
                }
                let (ring, receiver) = spsc::channel(RING_MESSAGES);
                outgoing.push(Some(Outbox { ring, waiting: VecDeque::new(), unpublished: false }));
                incoming.push(Some(receiver));
            }
        }
        let mailboxes = outgoing
            .into_iter()
            .zip(incoming)
            .enumerate()
            .map(|(shard, (outgoing, incoming))| {
                Some(Mailboxes { shard, outgoing, incoming, flags: Arc::clone(&flags), next: 0, waiting: 0 })
            })
            .collect();
        MailboxSet { mailboxes }
    }

    /// The ends of one shard. Panics if taken twice: two owners of one ring end would break its single-producer rule.
    pub fn take(&mut self, shard: ShardId) -> Mailboxes {
        self.mailboxes[usize::from(shard.0)].take().expect("each shard takes its mailboxes once")
    }
}

struct Outbox {
    ring: Sender<Message>,
    /// Messages the full ring did not take, oldest first.
    waiting: VecDeque<Message>,
    unpublished: bool,
}

/// One shard's ends of the rings.
pub struct Mailboxes {
    shard: usize,
    outgoing: Vec<Option<Outbox>>,
    incoming: Vec<Option<Receiver<Message>>>,
    flags: Arc<Vec<SleepFlag>>,
    /// The sender that is asked first by the next `receive`.
    next: usize,
    /// Messages in all `waiting` queues.
    waiting: usize,
}

impl Mailboxes {
    fn flush(&mut self) {
        if self.waiting == 0 {
            return;
        }
        for outbox in self.outgoing.iter_mut().flatten() {
            while let Some(message) = outbox.waiting.pop_front() {
                match outbox.ring.push(message) {
                    Ok(()) => {
                        self.waiting -= 1;
                        outbox.unpublished = true;
                    }
                    Err(message) => {
                        outbox.waiting.push_front(message);
                        break;
                    }
                }
            }
        }
    }
}

impl Mesh for Mailboxes {
    fn shard_count(&self) -> u16 {
        self.outgoing.len() as u16
    }

    fn send(&mut self, to: ShardId, message: Message) {
        let outbox = self.outgoing[usize::from(to.0)].as_mut().expect("a shard does not send to itself");
        if outbox.waiting.is_empty() {
            match outbox.ring.push(message) {
                Ok(()) => outbox.unpublished = true,
                Err(message) => {
                    outbox.waiting.push_back(message);
                    self.waiting += 1;
                }
            }
        } else {
            outbox.waiting.push_back(message);
            self.waiting += 1;
        }
    }

    fn receive(&mut self) -> Option<(ShardId, Message)> {
        let count = self.incoming.len();
        for step in 0..count {
            let from = (self.next + step) % count;
            if let Some(ring) = self.incoming[from].as_mut()
                && let Some(message) = ring.pop()
            {
                self.next = (from + 1) % count;
                return Some((ShardId(from as u16), message));
            }
        }
        None
    }

    fn is_congested(&self) -> bool {
        self.waiting > 0
    }

    fn publish(&mut self, doorbells: &mut Vec<ShardId>) {
        self.flush();
        for (to, outbox) in self.outgoing.iter_mut().enumerate() {
            let Some(outbox) = outbox else { continue };
            if std::mem::take(&mut outbox.unpublished) {
                outbox.ring.publish();
                if self.flags[to].take() {
                    doorbells.push(ShardId(to as u16));
                }
            }
        }
    }

    fn prepare_to_sleep(&mut self) -> bool {
        let flag = &self.flags[self.shard];
        flag.announce();
        if self.incoming.iter_mut().flatten().any(|ring| !ring.is_empty()) {
            flag.awake();
            return false;
        }
        true
    }

    fn woken(&mut self) {
        self.flags[self.shard].awake();
    }
}
