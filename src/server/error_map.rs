//! From the rooms' errors to Kafka's numbers. Every match is exhaustive: a new error must be given its number here.

use crate::config::BrokerConfigError;
use crate::controller::ControllerError;
use crate::group::{AppendFailure, GroupError};
use crate::log::{AppendError, ProducerError};
use crate::partition::{AppendRefusal, BatchError, Failure};
use crate::protocol::ErrorCode;

/// Refused records that a producer is told one by one; Kafka names three in its text and all in the list.
const KEYLESS: &str = "a compacted topic takes no record without a key";
const BAD_TIMESTAMP: &str = "the timestamp is outside what the topic allows around the broker's clock";

/// A batch that was refused: its code, and (index, text) of refused records.
pub fn batch_error(error: &BatchError) -> (ErrorCode, Vec<(i32, String)>) {
    let code = match error {
        BatchError::NotOneBatch { .. }
        | BatchError::Header(_)
        | BatchError::Records(_)
        | BatchError::NoKeys { .. } => ErrorCode::InvalidRecord,
        BatchError::UnknownMagic(_) | BatchError::Corrupt(_) => ErrorCode::CorruptMessage,
        BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        BatchError::ZstdTooEarly | BatchError::UnknownCompression => ErrorCode::UnsupportedCompressionType,
        BatchError::Timestamp { .. } => ErrorCode::InvalidTimestamp,
        BatchError::Transactional => ErrorCode::InvalidTxnState,
    };
    let named = |indexes: &[i32], text: &str| indexes.iter().map(|index| (*index, text.to_owned())).collect();
    let records = match error {
        BatchError::NoKeys { indexes } => named(indexes, KEYLESS),
        BatchError::Timestamp { indexes } => named(indexes, BAD_TIMESTAMP),
        _ => Vec::new(),
    };
    (code, records)
}

/// An append that was refused: code, text, refused records.
pub fn append_error(error: &AppendRefusal) -> (ErrorCode, Option<String>, Vec<(i32, String)>) {
    match error {
        AppendRefusal::Batch(batch) => {
            let (code, records) = batch_error(batch);
            (code, Some(batch.to_string()), records)
        }
        AppendRefusal::Log(log) => (log_error(log), Some(log.to_string()), Vec::new()),
        AppendRefusal::Overloaded => (
            ErrorCode::KafkaStorageError,
            Some("too many batches wait for this partition's log".to_owned()),
            Vec::new(),
        ),
    }
}

/// A batch that its log refused.
fn log_error(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::Timestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::Producer(ProducerError::OldEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::OutOfOrderSequence { .. }) => {
            ErrorCode::OutOfOrderSequenceNumber
        }
        // `Wait` is the partition's to handle; a client that hears of it may try again.
        AppendError::Wait | AppendError::NoSpace | AppendError::Offline(_) => ErrorCode::KafkaStorageError,
    }
}

/// Kafka tells the log start with errors that its log found, and not with those found before.
pub fn tells_log_start(error: &AppendRefusal) -> bool {
    match error {
        AppendRefusal::Batch(batch) => batch.is_from_the_log(),
        AppendRefusal::Log(AppendError::Producer(_) | AppendError::Timestamp { .. }) => true,
        AppendRefusal::Log(_) | AppendRefusal::Overloaded => false,
    }
}

/// An append that waited in vain.
pub fn failure(failure: &Failure) -> ErrorCode {
    match failure {
        Failure::Storage | Failure::NoSpace => ErrorCode::KafkaStorageError,
        Failure::Gone => ErrorCode::NotLeaderOrFollower,
        Failure::Refused(error) => log_error(error),
    }
}

/// A group request that was refused.
pub fn group_error(error: GroupError) -> ErrorCode {
    match error {
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::TooManyGroups => ErrorCode::PolicyViolation,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::GroupTooLarge => ErrorCode::UnknownServerError,
    }
}

/// What an append that was refused means to the group coordinator.
pub fn group_append_refused(refusal: &AppendRefusal) -> AppendFailure {
    match refusal {
        AppendRefusal::Batch(BatchError::TooLarge { .. } | BatchError::LargerThanSegment { .. })
        | AppendRefusal::Log(AppendError::TooLarge { .. } | AppendError::LargerThanSegment { .. }) => {
            AppendFailure::TooLarge
        }
        AppendRefusal::Batch(_) | AppendRefusal::Log(_) | AppendRefusal::Overloaded => AppendFailure::Storage,
    }
}

/// As `group_append_refused`, for an append that waited in vain.
pub fn group_append_failed(failure: &Failure) -> AppendFailure {
    match failure {
        Failure::Gone => AppendFailure::NotLeader,
        Failure::Storage | Failure::NoSpace | Failure::Refused(_) => AppendFailure::Storage,
    }
}

/// A topic or config resource that the controller refused.
pub fn controller_error(error: &ControllerError) -> ErrorCode {
    use ControllerError as E;
    match error {
        E::DuplicateTopic
        | E::DuplicateTopicId
        | E::DuplicateResource
        | E::DuplicateConfigs { .. }
        | E::NameOrIdMissing
        | E::NameAndIdGiven
        | E::NameOfGivenId
        | E::ReservedTopic { .. }
        | E::AssignmentAndFactor
        | E::AssignmentAndPartitions
        | E::NullConfigs { .. }
        | E::NoDefaultTopicConfigs
        | E::OtherBroker { .. }
        | E::BadBrokerId { .. } => ErrorCode::InvalidRequest,
        E::InvalidTopicName { .. } | E::TopicCollides { .. } => ErrorCode::InvalidTopicException,
        E::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        E::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
        E::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
        E::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        E::InvalidPartitions | E::SameCount { .. } | E::NoIncrease { .. } => ErrorCode::InvalidPartitions,
        E::InvalidReplicationFactor | E::TooFewBrokers { .. } => ErrorCode::InvalidReplicationFactor,
        E::ExcessivePartitions { .. } | E::PartitionLimit { .. } => ErrorCode::PolicyViolation,
        E::RepeatedAssignment { .. }
        | E::EmptyAssignment
        | E::UnknownBrokerInAssignment { .. }
        | E::BrokerTwiceInAssignment { .. }
        | E::NodeTwiceInAssignment { .. }
        | E::EndpointsInAssignment
        | E::UnevenAssignment { .. }
        | E::HoleInAssignment
        | E::AssignmentCount { .. } => ErrorCode::InvalidReplicaAssignment,
        E::TopicConfig(_) | E::NotAList { .. } | E::LongConfig { .. } => ErrorCode::InvalidConfig,
        E::BrokerConfig(BrokerConfigError::Unknown { .. }) => ErrorCode::InvalidConfig,
        // What Kafka answers for settings that it knows and cannot change so.
        E::BrokerConfig(BrokerConfigError::ReadOnly { .. } | BrokerConfigError::Invalid { .. }) => {
            ErrorCode::InvalidRequest
        }
        E::NotController(_) => ErrorCode::NotController,
    }
}
