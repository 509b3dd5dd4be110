//! One shard's door to the model.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::files::SimFiles;
use super::operation::{Finished, SimOutcome};
use super::world::{Event, World, token_words};
use crate::model::{Monotonic, ShardId, Timestamp};
use crate::reactor::{Completion, File, Files, Io, Listener, Operation, Outcome, Received, Rejected, Token};

/// What a buffer given back is filled with: bytes used after that are found out.
const POISON: u8 = 0xdb;

/// The model's [`Io`]. After a crash it leads nowhere: what is submitted never ends.
pub struct SimIo {
    world: Rc<RefCell<World>>,
    shard: ShardId,
    incarnation: u64,
    buffers: Vec<Vec<u8>>,
    /// Buffers not lent out.
    free: Vec<u16>,
    files: SimFiles,
}

impl SimIo {
    pub(super) fn new(world: Rc<RefCell<World>>, shard: ShardId) -> SimIo {
        let (incarnation, count) = {
            let world = world.borrow();
            assert!(shard.0 < world.options.shard_count, "shard {shard} of {}", world.options.shard_count);
            (world.incarnation, world.options.receive_buffer_count)
        };
        SimIo {
            files: SimFiles::new(Rc::clone(&world)),
            world,
            shard,
            incarnation,
            buffers: vec![Vec::new(); usize::from(count)],
            free: (0..count).rev().collect(),
        }
    }

    /// Listens on a port, beside other shards that do; port 0 takes a free one. Then submit `Accept`.
    pub fn listen(&mut self, port: u16) -> (Listener, u16) {
        self.world.borrow_mut().listen(self.shard, port)
    }

    /// What is in a buffer that is not lent out.
    #[cfg(test)]
    pub(super) fn peek_free(&self, buffer: u16) -> &[u8] {
        assert!(self.free.contains(&buffer));
        &self.buffers[usize::from(buffer)]
    }

    /// The world, unless the machine has stopped since this door was made.
    fn alive(&self) -> Option<std::cell::RefMut<'_, World>> {
        let world = self.world.borrow_mut();
        (!world.is_crashed() && world.incarnation == self.incarnation).then_some(world)
    }

    fn outcome(&mut self, outcome: SimOutcome) -> Outcome {
        match outcome {
            SimOutcome::Done => Outcome::Done,
            SimOutcome::Accepted { socket, peer } => Outcome::Accepted { socket, peer: Some(peer) },
            SimOutcome::Received { bytes, .. } => {
                let buffer = self.free.pop().expect("the world hands out no more buffers than there are");
                let (start, length) = (bytes.as_ptr(), bytes.len() as u32);
                self.buffers[usize::from(buffer)] = bytes;
                Outcome::Received(Received { buffer, start, length })
            }
            SimOutcome::EndOfStream => Outcome::EndOfStream,
            SimOutcome::Cancelled => Outcome::Cancelled,
            SimOutcome::Read(bytes) => Outcome::Read(bytes),
            SimOutcome::Job(result) => Outcome::Job(result),
            SimOutcome::Failed(code) => Outcome::Failed(io::Error::from_raw_os_error(code)),
        }
    }
}

fn note(world: &mut World, shard: ShardId, token: Token, outcome: &SimOutcome, more: bool) {
    let kind = match outcome {
        SimOutcome::Done => 1,
        SimOutcome::Accepted { socket, .. } => 2 | u64::from(socket.0) << 8,
        SimOutcome::Received { bytes, .. } => {
            world.note_bytes(bytes);
            3
        }
        SimOutcome::EndOfStream => 4,
        SimOutcome::Cancelled => 5,
        SimOutcome::Read(bytes) => {
            world.note_bytes(bytes);
            6
        }
        SimOutcome::Job(_) => 7,
        SimOutcome::Failed(code) => 8 | (*code as u64) << 8,
    };
    let [room, value] = token_words(token);
    world.note(&[u64::from(shard.0), room, value, kind, u64::from(more)]);
}

impl Io for SimIo {
    fn now(&self) -> Monotonic {
        self.world.borrow().now
    }

    fn wall_clock(&self) -> Timestamp {
        self.world.borrow().wall_clock()
    }

    fn random(&mut self) -> u64 {
        self.world.borrow_mut().shard_random.word()
    }

    fn submit(&mut self, token: Token, operation: Operation) -> Result<(), Rejected> {
        match self.alive() {
            Some(mut world) => world.submit(self.shard, token, operation),
            None => Ok(()),
        }
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        let Some(mut world) = self.alive() else { return };
        let shard = self.shard;
        world.shard(shard).is_rung = false;
        let finished = std::mem::take(&mut world.shard(shard).ready);
        for end in &finished {
            note(&mut world, shard, end.token, &end.outcome, end.more);
        }
        drop(world);
        for end in finished {
            let outcome = self.outcome(end.outcome);
            let Finished { token, more, written, .. } = end;
            completions.push(Completion { token, outcome, more, written });
        }
    }

    /// Does not sleep: it says until when this shard would, and the driver gives the next turn to someone else.
    fn wait(&mut self, until: Monotonic) {
        let Some(mut world) = self.alive() else { return };
        let round = world.options.round.draw(&mut world.disk_random);
        let busy_until = world.now + round;
        let shard = world.shard(self.shard);
        (shard.wake_at, shard.busy_until) = (until, busy_until);
    }

    fn ring_doorbell(&mut self, shard: ShardId) {
        assert_ne!(shard, self.shard, "a shard does not wake itself");
        if let Some(mut world) = self.alive() {
            let delay = world.options.round.draw(&mut world.network_random);
            world.schedule(delay, Event::Doorbell { shard });
        }
    }

    fn bytes<'a>(&'a self, received: &'a Received) -> &'a [u8] {
        assert!(!self.free.contains(&received.buffer), "buffer {} is not lent out", received.buffer);
        &self.buffers[usize::from(received.buffer)][..received.length as usize]
    }

    fn give_back(&mut self, received: Received) {
        assert!(!self.free.contains(&received.buffer), "buffer {} was given back twice", received.buffer);
        self.buffers[usize::from(received.buffer)].fill(POISON);
        self.free.push(received.buffer);
        if let Some(mut world) = self.alive() {
            world.buffer_came_back(self.shard);
        }
    }

    fn close_file(&mut self, file: File) {
        if let Some(mut world) = self.alive() {
            world.close_file(self.shard, file);
        }
    }

    fn in_flight(&self) -> usize {
        self.alive().map_or(0, |mut world| world.shard(self.shard).flights.len())
    }

    fn oldest_file_operation(&self) -> Option<Monotonic> {
        self.alive().and_then(|world| world.oldest_file_operation(self.shard))
    }

    fn files(&mut self) -> &mut dyn Files {
        &mut self.files
    }
}
