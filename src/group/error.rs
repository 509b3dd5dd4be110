//! Why a group request is refused. `server/error_map.rs` turns each variant into the wire code of the same meaning.

use std::fmt;

/// One variant for each cause; the number behind it is Kafka's wire code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupError {
    /// 12: the metadata of an offset is longer than `offset.metadata.max.bytes`.
    OffsetMetadataTooLarge,
    /// 14: the records of the group's partition are being read.
    CoordinatorLoadInProgress,
    /// 15: the group is being deleted, or its records could not be replicated; the client asks again.
    CoordinatorNotAvailable,
    /// 16: the group's partition is owned elsewhere, or its log cannot be written.
    NotCoordinator,
    /// 22
    IllegalGeneration,
    /// 23: another protocol type, or no protocol that every member has.
    InconsistentGroupProtocol,
    /// 24: the group id is empty, or longer than a record can hold.
    InvalidGroupId,
    /// 25
    UnknownMemberId,
    /// 26: outside `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
    InvalidSessionTimeout,
    /// 27
    RebalanceInProgress,
    /// 44: the coordinator has as many groups as its limits allow.
    TooManyGroups,
    /// 68: the group has members.
    NonEmptyGroup,
    /// 69
    GroupIdNotFound,
    /// 79: a dynamic member joins again with the id it was just given.
    MemberIdRequired,
    /// 81: the group has `group.max.size` members.
    GroupMaxSizeReached,
    /// 82: another member has taken the `group.instance.id`.
    FencedInstanceId,
    /// 86: members of the group subscribe to the topic.
    GroupSubscribedToTopic,
    /// -1: the group does not fit into a record of the offsets topic (Kafka answers UNKNOWN_SERVER_ERROR here too).
    GroupTooLarge,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupError::OffsetMetadataTooLarge => "the offset's metadata is too large",
            GroupError::CoordinatorLoadInProgress => "the coordinator is loading the group",
            GroupError::CoordinatorNotAvailable => "the coordinator is not available",
            GroupError::NotCoordinator => "this is not the coordinator of the group",
            GroupError::IllegalGeneration => "the generation is not the group's",
            GroupError::InconsistentGroupProtocol => "no protocol in common with the group's members",
            GroupError::InvalidGroupId => "the group id is not valid",
            GroupError::UnknownMemberId => "the group has no such member",
            GroupError::InvalidSessionTimeout => "the session timeout is out of range",
            GroupError::RebalanceInProgress => "the group is rebalancing",
            GroupError::TooManyGroups => "the coordinator can hold no more groups",
            GroupError::NonEmptyGroup => "the group is not empty",
            GroupError::GroupIdNotFound => "there is no such group",
            GroupError::MemberIdRequired => "the member must join again with the id it was given",
            GroupError::GroupMaxSizeReached => "the group is full",
            GroupError::FencedInstanceId => "another member has taken the instance id",
            GroupError::GroupSubscribedToTopic => "the group subscribes to the topic",
            GroupError::GroupTooLarge => "the group does not fit into a record",
        })
    }
}

impl std::error::Error for GroupError {}

/// Why records of the offsets topic were not made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendFailure {
    /// The partition has another leader by now.
    NotLeader,
    /// The disk refused: no space to reserve, or the directory is offline.
    Storage,
    /// Too few in-sync replicas, or they did not answer in time.
    NotReplicated,
    /// The batch is longer than the topic's `max.message.bytes`.
    TooLarge,
}

impl From<AppendFailure> for GroupError {
    fn from(failure: AppendFailure) -> GroupError {
        match failure {
            AppendFailure::NotLeader | AppendFailure::Storage => GroupError::NotCoordinator,
            AppendFailure::NotReplicated => GroupError::CoordinatorNotAvailable,
            AppendFailure::TooLarge => GroupError::GroupTooLarge,
        }
    }
}
