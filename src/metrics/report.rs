//! What a shard says of itself when the control thread asks: a picture of one moment, for `/state`, and what is
//! going on, for `/metrics`, `/trace/slow` and `corelog top`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::busiest::Traffic;
use super::slow::SlowRequest;
use crate::config::Durability;
use crate::model::{Endpoint, Offset, PartitionIndex, PlacementSlot, ShardId, TopicName};

/// One shard at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct ShardReport {
    pub shard: ShardId,
    pub partitions: Vec<PartitionReport>,
    pub groups: Vec<GroupReport>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct PartitionReport {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    pub durability: Durability,
    pub log_start_offset: Offset,
    pub flushed_offset: Offset,
    pub high_watermark: Offset,
    pub log_end_offset: Offset,
    pub size_bytes: u64,
    pub segments: usize,
    /// A storage error took it offline, or its directory is not there; offsets are -1 then.
    pub is_offline: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct GroupReport {
    pub name: String,
    pub state: &'static str,
    pub members: usize,
}

/// What happens on one shard: the busiest, and what was slow.
#[derive(Clone, PartialEq, Debug)]
pub struct Activity {
    pub shard: ShardId,
    /// How long the window was that the rates are of.
    pub window: Duration,
    /// The busiest first.
    pub partitions: Vec<BusyPartition>,
    pub clients: Vec<BusyClient>,
    /// What a request has to take longer than to be slow.
    pub slow_request: Duration,
    /// Oldest first.
    pub slow: Vec<SlowRequest>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct BusyPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    /// In the window.
    pub moved: Traffic,
    /// Since the shard has it.
    pub total: Traffic,
}

/// One connection.
#[derive(Clone, PartialEq, Debug)]
pub struct BusyClient {
    pub client_id: Option<Arc<str>>,
    pub peer: IpAddr,
    pub moved: Traffic,
    pub total: Traffic,
}

/// The slots that one shard has.
#[derive(Clone, PartialEq, Debug)]
pub struct SlotsReport {
    pub shard: ShardId,
    pub slots: Vec<SlotReport>,
}

/// One slot at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SlotReport {
    pub slot: PlacementSlot,
    /// The endpoint at which clients find it.
    pub endpoint: Endpoint,
    pub partitions: usize,
    pub size_bytes: u64,
    /// Since the shard has its partitions.
    pub total: Traffic,
}

/// That a slot is on another core now, or why it is not.
pub type SlotMoveOutcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Takes an answer, once.
pub type Tell<T> = Box<dyn FnOnce(T) + Send>;

/// Asks one shard, from any thread. The shard tells in a later round; one that is stopping may never do.
pub struct AskShard {
    pub report: Box<dyn Fn(Tell<ShardReport>) + Send + Sync>,
    pub activity: Box<dyn Fn(Tell<Activity>) + Send + Sync>,
    pub slots: Box<dyn Fn(Tell<SlotsReport>) + Send + Sync>,
    /// The first shard moves slots; others do not answer.
    pub move_slot: Box<dyn Fn(PlacementSlot, ShardId, Tell<SlotMoveOutcome>) + Send + Sync>,
}
