//! How busy the slots of a shard are, told to the controller: new partitions are placed by that, and slots moved.

use std::collections::BTreeMap;

use super::stop::StopStage;
use super::{Shard, ShardEvent, milliseconds};
use crate::mesh::{Mesh, Message, SlotLoad};
use crate::model::{Monotonic, PlacementSlot, ShardId};
use crate::reactor::Io;

/// What this shard has told.
#[derive(Default)]
pub(super) struct LoadsTold {
    at: Monotonic,
    /// It had nothing to tell, and says so once.
    was_idle: bool,
}

impl Shard {
    /// Tells shard 0 what went through the slots of this shard, if anything did. Costs in proportion to the partitions through
    /// which something went.
    pub(super) fn tell_loads(&mut self, io: &mut dyn Io, mesh: &mut dyn Mesh) {
        let (image, now) = (&self.image, io.now());
        let interval = now.since(std::mem::replace(&mut self.loads_told.at, now));
        let interval = interval.max(milliseconds(1)).as_nanos();
        let mut moved: BTreeMap<PlacementSlot, u64> = BTreeMap::new();
        self.partitions.take_traffic(|topic_id, index, traffic| {
            let partition = image.topic_by_id(topic_id).and_then(|topic| topic.partition(index));
            if let Some(partition) = partition {
                *moved.entry(partition.slot).or_default() += traffic.load();
            }
        });
        let is_idle = moved.is_empty();
        if std::mem::replace(&mut self.loads_told.was_idle, is_idle) && is_idle {
            return;
        }
        let a_second = |moved: u64| (u128::from(moved) * 1_000_000_000 / interval) as u64;
        let loads: Box<[SlotLoad]> =
            moved.into_iter().map(|(slot, moved)| SlotLoad { slot, load: a_second(moved) }).collect();
        if self.id == ShardId(0) {
            self.loads_came(ShardId(0), &loads);
        } else {
            mesh.send(ShardId(0), Message::SlotLoads(loads));
        }
    }

    /// Moves a slot if the cores have been uneven for long enough, and somebody wants that. On shard 0.
    pub(super) fn balance(&mut self) {
        let config = &self.config;
        let is_wanted = config.balancer_enable(self.image.dynamic_broker_config("balancer.enable"));
        let Some(seat) = &mut self.controller else { return };
        if !is_wanted || self.stop != StopStage::Running {
            seat.rest_balancer();
        } else if let Some(rebalance) = seat.balance(config.balancer_threshold_percent) {
            self.events.push(ShardEvent::Balanced(rebalance));
        }
    }

    pub(super) fn loads_came(&mut self, from: ShardId, loads: &[SlotLoad]) {
        let seat = self.controller.as_mut().expect("only shard 0 is told of loads");
        seat.take_loads(from, loads);
    }
}
