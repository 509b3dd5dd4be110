//! The loop of a pinned thread.

use std::sync::mpsc::Receiver;

use super::{Command, Shard, ShardEvent};
use crate::mesh::Mesh;
use crate::metrics::{Counter, Phase};
use crate::model::Monotonic;
use crate::reactor::Io;

/// Runs a shard until it has stopped. `commands` come from the control thread, which wakes the ring after each;
/// `tell` hands it what the shard has to say and must not block.
pub fn run(
    shard: &mut Shard,
    io: &mut dyn Io,
    mesh: &mut dyn Mesh,
    commands: &Receiver<Command>,
    tell: &mut dyn FnMut(&Shard, Vec<ShardEvent>),
) {
    while !shard.has_stopped() {
        while let Ok(command) = commands.try_recv() {
            shard.command(io, command);
        }
        shard.turn(io, mesh);
        let events = shard.take_events();
        if !events.is_empty() {
            tell(shard, events);
        }
        let before = io.now();
        wait(shard, io, mesh);
        shard.meter().phase(Phase::Wait, io.now().since(before));
    }
    tell(shard, vec![ShardEvent::Stopped]);
}

/// Submits what the round queued, and sleeps unless there is more to do.
pub fn wait(shard: &Shard, io: &mut dyn Io, mesh: &mut dyn Mesh) {
    if shard.has_work() || mesh.is_congested() || !mesh.prepare_to_sleep() {
        io.wait(Monotonic(0));
    } else {
        io.wait(shard.next_deadline());
        mesh.woken();
    }
    if shard.partitions.stores_are_behind() {
        // A busy shard never sleeps, and the kernel would take its core away only for milliseconds at a time, and only when
        // all commits wait for a full journal. So it gives a little of it after each round.
        shard.meter().add(Counter::GaveWay, 1);
        io.give_way();
    }
}
