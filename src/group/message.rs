//! What goes into the coordinator and what comes out, in the terms of groups. The server's handlers translate to and
//! from the wire; all bytes here are owned copies, so that a group never pins the frame it came in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::{AppendFailure, GroupError};
use crate::model::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicName};

pub type GroupId = Arc<str>;
pub type MemberId = Arc<str>;
/// `group.instance.id` of a static member.
pub type InstanceId = Arc<str>;

/// Which request a reply belongs to. Opaque here; the shard knows the connection behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ReplyToken(pub u64);

/// Which `Effect::Append` an `Event::Appended` answers. Tickets of one partition rise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(pub u64);

/// A record of the offsets topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRecord {
    pub key: Bytes,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Request(ReplyToken, Request),
    /// A request that names a group, asked where that group is not coordinated although this shard does so elsewhere.
    Misdirected(ReplyToken, Request),
    /// Time has passed; any other event does the same as a side effect.
    Timer,
    /// This shard now leads a partition of the offsets topic; until `Loaded` its groups answer LOAD_IN_PROGRESS.
    PartitionOwned {
        partition: PartitionIndex,
    },
    /// Records of an owned partition in log order, before `Loaded`. As many events as the reader likes.
    Replay {
        partition: PartitionIndex,
        records: Vec<GroupRecord>,
    },
    Loaded {
        partition: PartitionIndex,
    },
    /// This shard no longer leads the partition.
    PartitionResigned {
        partition: PartitionIndex,
    },
    /// The records of a ticket are durable, or never will be. Tickets of one partition come back in order.
    Appended {
        ticket: Ticket,
        result: Result<(), AppendFailure>,
    },
    TopicDeleted {
        topic: TopicName,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    Reply(ReplyToken, Response),
    /// One batch for a partition of the offsets topic, with the durability of committed offsets: `fsync`.
    Append {
        partition: PartitionIndex,
        records: Vec<GroupRecord>,
        ticket: Ticket,
    },
    /// A record that this version cannot read was passed over; worth a warning.
    RecordSkipped {
        partition: PartitionIndex,
        cause: super::records::RecordError,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    Describe { group: GroupId },
    List(ListGroups),
    Delete { group: GroupId },
    DeleteOffsets(DeleteOffsets),
}

/// One assignor a member offers, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

#[derive(Clone, PartialEq, Debug)]
pub struct JoinGroup {
    pub group: GroupId,
    /// Empty: a member that has no id yet.
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    /// As Kafka shows it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    /// The session timeout for version 0, which has no such field.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    pub protocols: Vec<Protocol>,
    /// Version 4 and later: a new dynamic member is sent away once, to come back with its id.
    pub requires_known_member: bool,
    /// Version 9 and later: a static leader that comes back is told to leave the assignment alone.
    pub can_skip_assignment: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SyncGroup {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    /// Version 5 and later; checked if given.
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// From the leader: the assignment of each member.
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Heartbeat {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct LeaveGroup {
    pub group: GroupId,
    /// One of them before version 3.
    pub members: Vec<Leaving>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Empty: an administrator removes whoever has the instance id.
    pub member: MemberId,
    pub instance: Option<InstanceId>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CommitOffsets {
    pub group: GroupId,
    /// Below zero: a consumer that assigns its partitions itself.
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    /// Versions 2 to 4 may ask for an own retention.
    pub retention: Option<Duration>,
    /// Version 9 and later: a generation of an unknown group is answered GROUP_ID_NOT_FOUND, before ILLEGAL_GENERATION.
    pub expects_group_not_found: bool,
    /// Only partitions that exist: the server has answered for the others.
    pub topics: Vec<CommitTopic>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CommitTopic {
    pub topic: TopicName,
    /// `TopicId::ZERO` if not known.
    pub topic_id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CommitPartition {
    pub partition: PartitionIndex,
    pub offset: Offset,
    /// -1: not known.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FetchOffsets {
    pub group: GroupId,
    /// `None`: all that the group has committed.
    pub topics: Option<Vec<FetchTopic>>,
    /// Wait for commits that are on their way to the disk.
    pub require_stable: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FetchTopic {
    pub topic: TopicName,
    /// If given, offsets committed to a former topic of this name are not shown.
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionIndex>,
}

/// Filters of ListGroups; empty: all. Compared without regard to case.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ListGroups {
    pub states: Vec<Arc<str>>,
    pub types: Vec<Arc<str>>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct DeleteOffsets {
    pub group: GroupId,
    pub topics: Vec<(TopicName, Vec<PartitionIndex>)>,
}

/// The answer to the request of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    Leave(Result<Vec<Left>, GroupError>),
    CommitOffsets(Result<Vec<TopicResults>, GroupError>),
    FetchOffsets(Result<Vec<FetchedTopic>, GroupError>),
    Describe(Result<GroupDescription, GroupError>),
    List(Result<Vec<ListedGroup>, GroupError>),
    Delete(Result<(), GroupError>),
    DeleteOffsets(Result<Vec<TopicResults>, GroupError>),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Joined {
    pub member: MemberId,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    pub skip_assignment: bool,
    /// All members for the leader, none for the others.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub metadata: Bytes,
}

#[derive(Clone, PartialEq, Debug)]
pub struct JoinRefused {
    pub error: GroupError,
    /// The id for the answer: given with `MemberIdRequired`, otherwise the asker's own or empty.
    pub member: MemberId,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// What came of one member's leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub result: Result<(), GroupError>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct TopicResults {
    pub topic: TopicName,
    pub partitions: Vec<(PartitionIndex, Result<(), GroupError>)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FetchedTopic {
    pub topic: TopicName,
    pub partitions: Vec<FetchedOffset>,
}

/// Nothing committed is offset -1, leader epoch -1 and no metadata; it is no error.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchedOffset {
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// An unknown group is `GroupIdNotFound`: before DescribeGroups v6 that is shown as state Dead without an error.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupDescription {
    pub group: GroupId,
    pub state: super::classic::State,
    /// Empty if the group never had a member.
    pub protocol_type: Arc<str>,
    /// Empty unless Stable, and so is the members' metadata.
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct DescribedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol_type: Arc<str>,
    pub state: super::classic::State,
    /// `classic`, as ListGroups v5 names it.
    pub group_type: &'static str,
}

/// What a consumer has read of a partition.
#[derive(Clone, PartialEq, Debug)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// -1: not known.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_timestamp: Timestamp,
    /// Set by OffsetCommit v2 to v4 with an own retention.
    pub expire_timestamp: Option<Timestamp>,
    /// `TopicId::ZERO` if not known.
    pub topic_id: TopicId,
}

impl Request {
    /// The group that decides where the request goes; a listing goes to every coordinator.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Request::Join(JoinGroup { group, .. })
            | Request::Sync(SyncGroup { group, .. })
            | Request::Heartbeat(Heartbeat { group, .. })
            | Request::Leave(LeaveGroup { group, .. })
            | Request::CommitOffsets(CommitOffsets { group, .. })
            | Request::FetchOffsets(FetchOffsets { group, .. })
            | Request::Describe { group }
            | Request::Delete { group }
            | Request::DeleteOffsets(DeleteOffsets { group, .. }) => Some(group),
            Request::List(_) => None,
        }
    }

    /// Bytes of the longest text that may end up in a record, the group id aside.
    pub(super) fn longest_recorded_text(&self) -> usize {
        match self {
            Request::Join(join) => {
                let texts = [&join.client_id, &join.client_host, &join.protocol_type].into_iter();
                let texts = texts.chain(&join.instance).chain(join.protocols.iter().map(|p| &p.name));
                texts.map(|text| text.len()).max().unwrap_or(0)
            }
            Request::CommitOffsets(commit) => commit.topics.iter().map(|t| t.topic.len()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What a member wants the group to remember of it.
    pub(super) fn member_metadata_bytes(&self) -> usize {
        match self {
            Request::Join(join) => join.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum(),
            _ => 0,
        }
    }

    /// The answer that refuses this request as a whole.
    pub fn refused(&self, error: GroupError) -> Response {
        match self {
            Request::Join(join) => Response::Join(Err(JoinRefused { error, member: join.member.clone() })),
            Request::Sync(_) => Response::Sync(Err(error)),
            Request::Heartbeat(_) => Response::Heartbeat(Err(error)),
            Request::Leave(_) => Response::Leave(Err(error)),
            Request::CommitOffsets(_) => Response::CommitOffsets(Err(error)),
            Request::FetchOffsets(_) => Response::FetchOffsets(Err(error)),
            Request::Describe { .. } => Response::Describe(Err(error)),
            Request::List(_) => Response::List(Err(error)),
            Request::Delete { .. } => Response::Delete(Err(error)),
            Request::DeleteOffsets(_) => Response::DeleteOffsets(Err(error)),
        }
    }
}

impl Response {
    /// The answer in place of this one when its records could not be written.
    pub(super) fn failed(&self, error: GroupError) -> Response {
        match self {
            Response::Join(_) => Response::Join(Err(JoinRefused { error, member: Arc::from("") })),
            Response::Sync(_) => Response::Sync(Err(error)),
            Response::Heartbeat(_) => Response::Heartbeat(Err(error)),
            Response::Leave(_) => Response::Leave(Err(error)),
            Response::CommitOffsets(_) => Response::CommitOffsets(Err(error)),
            Response::FetchOffsets(_) => Response::FetchOffsets(Err(error)),
            Response::Describe(_) => Response::Describe(Err(error)),
            Response::List(_) => Response::List(Err(error)),
            Response::Delete(_) => Response::Delete(Err(error)),
            Response::DeleteOffsets(_) => Response::DeleteOffsets(Err(error)),
        }
    }
}
