//! What a shard does on its own, by timer: retention, checkpoints, idle connections, expiry.

use std::time::Duration;

use super::stop::StopStage;
use super::{Shard, milliseconds};
use crate::mesh::Mesh;
use crate::reactor::Io;

/// How often connections are looked at for idleness.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// How often a shard tries again what there was no room for.
const RETRY: Duration = Duration::from_secs(1);

/// Clients that come back to a broker that has just started need the disk more.
const SCRUB_START: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ShardTimer {
    Retention,
    Checkpoint,
    IdleConnections,
    /// The next read of old bytes.
    Scrub,
    /// What there was no room for.
    Retry,
    /// How busy the slots are.
    Loads,
    /// Of a stop: connections that have not taken their last replies are closed.
    LastReplies,
}

const PERIODIC: [ShardTimer; 6] = [
    ShardTimer::Retention,
    ShardTimer::Checkpoint,
    ShardTimer::IdleConnections,
    ShardTimer::Scrub,
    ShardTimer::Retry,
    ShardTimer::Loads,
];

impl Shard {
    /// Starts the clockwork; each timer of `PERIODIC` sets itself again.
    pub(super) fn start_background(&mut self, io: &mut dyn Io) {
        for timer in PERIODIC {
            self.set_again(io, timer);
        }
    }

    fn set_again(&mut self, io: &mut dyn Io, timer: ShardTimer) {
        let wait = match timer {
            ShardTimer::Retention => milliseconds(self.config.retention_check_interval_ms),
            ShardTimer::Checkpoint => milliseconds(
                self.config
                    .recovery_point_checkpoint_interval_ms
                    .min(self.config.log_start_checkpoint_interval_ms),
            ),
            ShardTimer::IdleConnections => IDLE_CHECK.min(milliseconds(self.config.connections_max_idle_ms)),
            ShardTimer::Scrub => SCRUB_START,
            ShardTimer::Retry => RETRY,
            ShardTimer::Loads => milliseconds(self.config.balancer_interval_ms),
            ShardTimer::LastReplies => return,
        };
        self.timers.insert(io.now() + wait, timer);
    }

    pub(super) fn background(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh, timer: ShardTimer) {
        match timer {
            ShardTimer::Retention => self.partitions.enforce_retention(io),
            ShardTimer::Checkpoint => {
                self.partitions.checkpoint_journals();
                self.partitions.checkpoint();
            }
            ShardTimer::IdleConnections => {
                let now = io.now();
                self.connections.close_idle(io, now);
            }
            ShardTimer::Scrub => {
                if self.stop == StopStage::Running {
                    let again = self.partitions.scrub(io);
                    self.timers.insert(again, ShardTimer::Scrub);
                }
                return;
            }
            ShardTimer::Retry if self.stop == StopStage::Running => {
                self.partitions.retry_creation(io.wall_clock());
                self.partitions.retry_arrivals(io.wall_clock());
                self.register_again();
            }
            ShardTimer::Retry => {}
            ShardTimer::Loads => {
                self.tell_loads(io, mesh);
                self.balance();
            }
            ShardTimer::LastReplies => self.connections.close_all(io),
        }
        self.set_again(io, timer);
    }
}
