//! Kafka's error codes. Source: Apache Kafka 4.3.1, `org.apache.kafka.common.protocol.Errors` (codes, names, which are
//! retriable); the texts are ours.

use std::fmt;

macro_rules! error_codes {
    ($( $variant:ident = $code:literal, $name:literal, $class:ident, $text:literal; )+) => {
        /// An error code on the wire; `code()` or `into()` gives the `i16` that messages hold.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(i16)]
        pub enum ErrorCode {
            #[default]
            $( $variant = $code, )+
        }

        impl ErrorCode {
            pub const ALL: &'static [ErrorCode] = &[ $( ErrorCode::$variant, )+ ];

            /// `None` for a code that Kafka 4.3 does not know.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $( $code => Some(ErrorCode::$variant), )+
                    _ => None,
                }
            }

            /// Kafka's name, such as `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> &'static str {
                match self { $( ErrorCode::$variant => $name, )+ }
            }

            /// Do clients try again by themselves?
            pub const fn is_retriable(self) -> bool {
                match self { $( ErrorCode::$variant => error_codes!(@$class), )+ }
            }

            /// A short text for a response's error message.
            pub const fn text(self) -> &'static str {
                match self { $( ErrorCode::$variant => $text, )+ }
            }
        }
    };
    (@retriable) => { true };
    (@fatal) => { false };
}

error_codes! {
    None = 0, "NONE", fatal, "no error";
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", fatal, "the broker met an unexpected error";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", fatal, "offset outside the partition's log";
    CorruptMessage = 2, "CORRUPT_MESSAGE", retriable, "record batch fails its checksum or its structure";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", retriable, "no such topic or partition here";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", fatal, "fetch size not allowed";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", retriable, "the partition has no leader at the moment";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", retriable, "this broker does not lead or hold the partition";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", retriable, "not finished within the time allowed";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", fatal, "broker not available";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", retriable, "replica not available";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", fatal, "record batch larger than allowed";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", fatal, "controller epoch has passed";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", fatal, "offset metadata too long";
    NetworkException = 13, "NETWORK_EXCEPTION", retriable, "connection lost before the response";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", retriable, "coordinator is still loading its state";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", retriable, "no coordinator available";
    NotCoordinator = 16, "NOT_COORDINATOR", retriable, "another broker coordinates this";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", fatal, "topic name not allowed";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", fatal, "record batch larger than a segment";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", retriable, "too few replicas in sync to accept the write";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable, "written, but by too few replicas in sync";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", fatal, "acks must be -1, 0 or 1";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", fatal, "group generation does not match";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", fatal, "group protocol does not fit the group's members";
    InvalidGroupId = 24, "INVALID_GROUP_ID", fatal, "group id not allowed";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", fatal, "member not known in this group";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", fatal, "session timeout outside the allowed range";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", fatal, "group is rebalancing; join again";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", fatal, "offset commit too large";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", fatal, "not authorized for the topic";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", fatal, "not authorized for the group";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", fatal, "not authorized for the cluster";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", fatal, "record timestamp outside the allowed range";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", fatal, "SASL mechanism not offered";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", fatal, "request does not fit the SASL handshake's state";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", fatal, "version not served";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", fatal, "topic exists";
    InvalidPartitions = 37, "INVALID_PARTITIONS", fatal, "partition count not allowed";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", fatal, "replication factor not allowed";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", fatal, "replica assignment not allowed";
    InvalidConfig = 40, "INVALID_CONFIG", fatal, "setting not valid";
    NotController = 41, "NOT_CONTROLLER", retriable, "this broker is not the controller";
    InvalidRequest = 42, "INVALID_REQUEST", fatal, "request not valid";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", fatal, "message format does not allow this request";
    PolicyViolation = 44, "POLICY_VIOLATION", fatal, "a policy refuses the request";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", fatal, "sequence number does not follow the last one";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", fatal, "sequence number already written";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", fatal, "producer epoch has passed";
    InvalidTxnState = 48, "INVALID_TXN_STATE", fatal, "not possible in this state of the transaction";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", fatal, "producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", fatal, "transaction timeout longer than allowed";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", retriable, "another operation on the transaction is in progress";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", fatal, "transaction coordinator was replaced";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", fatal, "not authorized for the transactional id";
    SecurityDisabled = 54, "SECURITY_DISABLED", fatal, "no authorizer is configured";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", fatal, "not attempted, since another part of the request failed";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", retriable, "storage failed on this broker";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", fatal, "no such log directory";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", fatal, "authentication failed";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", fatal, "no state of this producer";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", fatal, "partition is being reassigned";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", fatal, "delegation tokens are not enabled";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", fatal, "no such delegation token";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", fatal, "delegation token belongs to another principal";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", fatal, "delegation tokens are not allowed on this connection";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", fatal, "not authorized for the delegation token";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", fatal, "delegation token has expired";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", fatal, "principal type not supported";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", fatal, "group has members";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", fatal, "no such group";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", retriable, "no such fetch session";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", retriable, "fetch session epoch does not follow the last one";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", retriable, "leader lacks the listener of this request";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", fatal, "topic deletion is turned off";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", retriable, "leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", retriable, "leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", fatal, "compression type needs a newer version";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", fatal, "broker epoch has passed";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", retriable, "offset not known yet after an election";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", fatal, "join again with the member id given";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable, "preferred leader not available";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", fatal, "group has as many members as allowed";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", fatal, "another member took this group instance id";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable, "no eligible leader available";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", retriable, "leader is the right one already";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", fatal, "no reassignment in progress";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", fatal, "group is subscribed to the topic";
    InvalidRecord = 87, "INVALID_RECORD", fatal, "record refused";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", retriable, "offsets of an open transaction are pending";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", retriable, "quota used up";
    ProducerFenced = 90, "PRODUCER_FENCED", fatal, "a newer producer took this transactional id";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", fatal, "no such resource";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", fatal, "resource named twice";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", fatal, "credential not acceptable";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", fatal, "voter set does not match";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", fatal, "update version not valid";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", fatal, "feature update failed";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", fatal, "forwarded principal is unreadable";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", fatal, "no such snapshot";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", fatal, "position outside the snapshot";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", retriable, "no such topic id here";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", fatal, "broker id in use";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", fatal, "broker id not registered";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", retriable, "topic id does not match the log's";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", fatal, "cluster id does not match";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", fatal, "no such transactional id";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable, "fetch session mixes topic names and ids";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", fatal, "replica may not join the ISR";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", fatal, "partition changed, but its leader did too";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", fatal, "offset lies in tiered storage";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", fatal, "member epoch has passed; join again";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", fatal, "group instance id is still in use";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", fatal, "assignor not supported";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", fatal, "member epoch is not the latest";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", fatal, "endpoint of the wrong type";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", fatal, "endpoint type not supported";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", fatal, "controller id not known";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", fatal, "telemetry subscription id not valid";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", fatal, "telemetry too large";
    InvalidRegistration = 119, "INVALID_REGISTRATION", fatal, "broker registration not valid";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", fatal, "transaction must be aborted";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", fatal, "record is in another state";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", retriable, "no such share session";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", retriable, "share session epoch does not follow the last one";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", fatal, "share group state epoch does not match";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", fatal, "voter key does not match";
    DuplicateVoter = 126, "DUPLICATE_VOTER", fatal, "voter is in the set already";
    VoterNotFound = 127, "VOTER_NOT_FOUND", fatal, "no such voter";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", fatal, "regular expression not valid";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", fatal, "metadata is of another cluster or time; bootstrap again";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", fatal, "streams topology not valid";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", fatal, "streams topology epoch not valid";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", fatal, "streams topology epoch has passed";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", retriable, "as many share sessions as allowed";
}

impl ErrorCode {
    pub const fn code(self) -> i16 {
        self as i16
    }

    pub const fn is_error(self) -> bool {
        !matches!(self, ErrorCode::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 {
        error.code()
    }
}

/// The name and the code, as logs show it.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_from_minus_one_to_the_newest() {
        assert_eq!(ErrorCode::ALL.len(), 135);
        for code in -1..=133 {
            let error = ErrorCode::from_code(code).unwrap();
            assert_eq!(i16::from(error), code);
            assert_eq!(error.is_error(), code != 0);
        }
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::default(), ErrorCode::None);
    }

    #[test]
    fn names_and_classes() {
        let check = |error: ErrorCode, shown: &str, retriable| {
            assert_eq!((error.to_string().as_str(), error.is_retriable()), (shown, retriable));
        };
        check(ErrorCode::None, "NONE (0)", false);
        check(ErrorCode::UnknownTopicOrPartition, "UNKNOWN_TOPIC_OR_PARTITION (3)", true);
        check(ErrorCode::OffsetOutOfRange, "OFFSET_OUT_OF_RANGE (1)", false);
        check(ErrorCode::KafkaStorageError, "KAFKA_STORAGE_ERROR (56)", true);
        check(ErrorCode::UnknownServerError, "UNKNOWN_SERVER_ERROR (-1)", false);
    }
}
