//! A clean stop: finish what was begun, flush, close files. Every shard goes through the same stages; none closes its
//! files before all have answered what they owe each other.

use std::time::Duration;

use super::background::ShardTimer;
use super::{Command, Shard};
use crate::mesh::{Mesh, Message};
use crate::model::ShardId;
use crate::net::Response;
use crate::partition::PartitionEvent;
use crate::reactor::Io;

/// What a stop gives clients to take their last replies.
const LAST_REPLIES_MAX: Duration = Duration::from_secs(3);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum StopStage {
    Running,
    /// No more requests are read; appends under way are awaited.
    Finishing,
    /// This shard owes nothing; it waits until no other does.
    Waiting,
    /// Connections are closing.
    Closing,
    Stopped,
}

impl Shard {
    /// Takes a command of the control thread.
    pub fn command(&mut self, io: &mut dyn Io, command: Command) {
        match command {
            Command::Stop if self.stop == StopStage::Running => {
                self.stop = StopStage::Finishing;
                for entrance in std::mem::take(&mut self.entrances) {
                    self.connections.stop_listening(io, entrance.listener);
                }
            }
            Command::Stop => {}
            Command::Report(tell) => tell(self.report()),
            Command::Slots(tell) => tell(self.slots_report()),
            // While it stops, the shard keeps what it has: whoever asked hears nothing.
            Command::MoveSlot { slot, core, tell } if self.stop == StopStage::Running => {
                let Some(seat) = &mut self.controller else { return };
                seat.move_slot(slot, core, tell);
            }
            Command::MoveSlot { .. } => {}
            Command::Activity(tell) => tell(self.activity(io.now())),
        }
    }

    pub fn has_stopped(&self) -> bool {
        self.stop == StopStage::Stopped
    }

    pub(super) fn peer_stopped(&mut self) {
        self.stopped_peers += 1;
    }

    /// Goes on with the stop, if one is under way.
    pub(super) fn drive_stop(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        if self.stop == StopStage::Finishing && self.owes_nothing() {
            self.stop = StopStage::Waiting;
            for peer in (0..mesh.shard_count()).map(ShardId).filter(|peer| *peer != self.id) {
                mesh.send(peer, Message::Stopped);
            }
        }
        // Whoever waits for this shard's answers has got them: its own `Stopped` came after.
        if self.stop == StopStage::Waiting
            && self.stopped_peers + 1 == usize::from(mesh.shard_count())
            && self.owes_nothing()
        {
            self.stop = StopStage::Closing;
            self.give_up_waits();
            let now = io.now();
            self.connections.flush(io, now);
            self.timers.insert(now + LAST_REPLIES_MAX, ShardTimer::LastReplies);
        }
        if self.stop == StopStage::Closing {
            // Again in every round: the kernel may have accepted one more before the listener was closed.
            self.connections.close_all_after_replies(io);
        }
        // A log may have begun something meanwhile: what there was no room for is tried again after a while.
        if self.stop == StopStage::Closing && self.connections.open_count() == 0 && self.owes_nothing() {
            self.close_files(io);
            self.stop = StopStage::Stopped;
        }
    }

    fn owes_nothing(&self) -> bool {
        let no_jobs = self.jobs.is_empty() && self.running_jobs.is_empty();
        // A partition that there is no room for is made, or opened, by the next start; who waits for it waits in vain.
        let is_short = self.partitions.has_unmade() || self.partitions.has_unopened();
        let images_rest = self.images.is_idle() || is_short;
        no_jobs && self.partitions.is_quiet() && images_rest
    }

    /// Requests that still wait (long polls, group joins) are closed without a reply: clients try another time.
    fn give_up_waits(&mut self) {
        for slot in 0..self.pending.slot_count() {
            if let Some(ticket) = self.pending.ticket_of(slot)
                && let Some((origin, _, timer)) = self.pending.remove(ticket)
            {
                if let Some(timer) = timer {
                    self.server_timers.cancel(timer);
                }
                self.connections.respond(origin.connection, origin.sequence, Response::Close, None);
            }
        }
    }

    /// Flushes and closes all logs: the next start trusts what it finds.
    fn close_files(&mut self, io: &mut dyn Io) {
        self.partitions.close_all(io);
        for event in self.partitions.take_events() {
            if let PartitionEvent::DirectoryOffline { directory, error, is_news: true } = event {
                self.tell_failure(directory, error);
            }
        }
    }
}
