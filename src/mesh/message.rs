//! The closed set of messages between shards. They carry only types of `model`, `metadata`, `metrics`, `record` and `protocol`.
//! `sent` is the sender's time, which is the receiver's too: shards have one clock.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::metadata::Image;
use crate::metrics::{AppendTimes, Class, Source};
use crate::model::{
    DirectoryId, Endpoint, LeaderEpoch, Monotonic, Offset, PartitionIndex, PlacementSlot, ShardId, Timestamp,
    TopicId, TopicName, TopicPartition,
};
use crate::protocol::{ApiKey, ErrorCode};
use crate::reactor::Piped;

/// Names one pending request of one shard: where an answer goes. A stale ticket (its request timed out or its connection
/// closed) has another generation and its answer is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

/// Names a fetch session: the shard that has it, and its id there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SessionKey {
    pub shard: ShardId,
    pub session: i32,
}

/// A partition of a fetch session, by the number that the session gave it. One that comes late, for a session or a number that
/// means something else by then, has a partition looked at once more than is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionPart {
    pub session: i32,
    pub part: u32,
}

/// What one shard says to another.
pub enum Message {
    Produce(Box<ProduceOrder>),
    ProduceAnswer(Box<ProduceAnswer>),
    Fetch(Box<FetchOrder>),
    FetchAnswer(Box<FetchAnswer>),
    /// Something a watched fetch waits for has happened on the sender's partitions.
    FetchWoken(Ticket),
    /// The fetch is over: forget its watches.
    FetchUnwatch(Ticket),
    /// These partitions of fetch sessions of the receiver have moved since their sessions last read them.
    SessionMoved(Vec<SessionPart>),
    /// A fetch session of the sender has forgotten this partition; `None`: it is over.
    SessionForgets {
        session: i32,
        partition: Option<(TopicId, PartitionIndex)>,
    },
    /// A request, or the part of one, that another shard serves whole (coordinators, the controller, partition queries).
    Relay(Box<Relay>),
    RelayAnswer(Box<RelayAnswer>),
    /// A newer image of the cluster; shard 0 sends them in order.
    Image(Arc<Image>),
    /// The sender serves everything up to this metadata version.
    ImageApplied {
        version: u64,
    },
    /// Ask shard 0 to create topics that a Metadata request named and that may be created by naming them.
    AutoCreate {
        topics: Vec<TopicName>,
    },
    /// The sender serves by an image that has this slot on another shard than before: it sends nothing more for it to the
    /// receiver, which has it still.
    SlotLeft(PlacementSlot),
    /// The partitions of this slot are closed: the receiver has them now.
    SlotHandedOver(Box<HandedSlot>),
    /// How busy the slots of the sender were of late; those that are not named were idle. For shard 0.
    SlotLoads(Box<[SlotLoad]>),
    /// A data directory has failed; which one, and why, is told by `partition::DirectorySet`.
    DirectoryFailed,
    /// The sender owes nothing any more: it stops, cleanly (see `shard/stop.rs`).
    Stopped,
}

/// How busy a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotLoad {
    pub slot: PlacementSlot,
    /// A second (`metrics::Traffic::load`).
    pub load: u64,
}

/// What was in a slot that moves to another shard.
#[derive(Debug)]
pub struct HandedSlot {
    pub slot: PlacementSlot,
    pub partitions: Vec<HandedPartition>,
}

/// A partition as the shard that had it has closed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandedPartition {
    pub topic: TopicName,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// Where it is; zero if that is not among those of this process.
    pub directory: DirectoryId,
    /// Where its log ends; `None`: it was offline.
    pub end_offset: Option<Offset>,
    /// Its indexes, epochs and producers were written too.
    pub is_complete: bool,
}

impl HandedPartition {
    pub fn at(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition: self.partition }
    }
}

/// Appends for partitions that one shard owns; split once by owner.
pub struct ProduceOrder {
    pub ticket: Ticket,
    pub acks: i16,
    pub parts: Vec<ProducePart>,
    pub sent: Monotonic,
}

/// One batch for one partition. `slot` numbers the partition in the request.
pub struct ProducePart {
    pub slot: u32,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub records: Bytes,
}

pub struct ProduceAnswer {
    pub ticket: Ticket,
    pub from: ShardId,
    pub parts: Vec<ProducePartAnswer>,
    pub times: AppendTimes,
    /// What the part met that was committed last, and its number in the request; `None` if none was.
    pub last: Option<(Class, u32)>,
    pub sent: Monotonic,
}

/// What became of one batch; offsets are -1 on error.
#[derive(Clone, Debug)]
pub struct ProducePartAnswer {
    pub slot: u32,
    pub error: ErrorCode,
    /// Only for errors that need one.
    pub message: Option<String>,
    pub base_offset: Offset,
    pub log_append_time_ms: Timestamp,
    pub log_start_offset: Offset,
    /// The leader epoch known to the answering shard, for KIP-951 hints.
    pub leader_epoch: LeaderEpoch,
    /// Index of a refused record in the batch and why.
    pub record_errors: Vec<(i32, String)>,
}

/// Reads of partitions that one shard owns, in request order.
pub struct FetchOrder {
    pub ticket: Ticket,
    pub parts: Vec<FetchPart>,
    pub max_bytes: u32,
    pub read_committed: bool,
    /// If these parts bring fewer bytes than `min_bytes` and no error, watches stay on their partitions until then.
    pub watch_until: Option<Monotonic>,
    /// The session that asks. Its watches outlast the order: on what brings nothing, whatever the others bring.
    pub session: Option<i32>,
    pub min_bytes: u32,
    pub sent: Monotonic,
}

#[derive(Clone, Debug)]
pub struct FetchPart {
    pub slot: u32,
    /// Its number in the session, if there is one.
    pub session_part: u32,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub current_leader_epoch: i32,
    pub fetch_offset: Offset,
    pub last_fetched_epoch: i32,
    pub max_bytes: u32,
}

pub struct FetchAnswer {
    pub ticket: Ticket,
    pub from: ShardId,
    /// Watches were left on the partitions of all these parts.
    pub watched: bool,
    /// They are a session's, and outlast the fetch.
    pub is_of_session: bool,
    pub parts: Vec<FetchPartAnswer>,
    /// When the order was taken up, and when the last of its records were there.
    pub taken: Monotonic,
    pub read: Monotonic,
    pub source: Source,
    pub sent: Monotonic,
}

/// What one partition answers to a fetch. Offsets are exclusive ends, -1 on error.
#[derive(Debug)]
pub struct FetchPartAnswer {
    pub slot: u32,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// (epoch, end offset) where the reader's log parts from ours.
    pub diverging: Option<(i32, Offset)>,
    /// Whole batches, shared with the tail cache or the read buffer.
    pub records: Vec<Bytes>,
    /// Whole batches instead, from the page cache.
    pub pipes: Vec<Piped>,
    pub record_bytes: u32,
}

/// A request body (without its header) that another shard decodes and serves.
pub struct Relay {
    pub ticket: Ticket,
    pub api_key: ApiKey,
    pub version: i16,
    pub client_id: Option<Arc<str>>,
    pub client_host: IpAddr,
    /// Where the client came in, as its connection knows it.
    pub endpoint: Option<Endpoint>,
    pub body: Bytes,
}

/// The encoded response body. `None`: close the connection (malformed, or an error that has no reply).
pub struct RelayAnswer {
    pub ticket: Ticket,
    pub from: ShardId,
    pub body: Option<Bytes>,
}
