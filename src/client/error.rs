//! What can go wrong, told apart by type: worth another try, lost for this one thing, or the end of the client.
//!
//! Every error can be cloned, because the records of one batch share theirs; causes stay reachable through `source()`.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Address;
use crate::protocol::{ApiKey, DecodeError, ErrorCode};

use super::settings::SettingError;

/// Why something was not done. The variant says what the caller can do about it.
#[derive(Clone, Debug)]
pub enum ClientError {
    /// The same may succeed later; the client tried as long as its settings let it.
    Retriable(Retriable),
    /// This record, request or transaction fails as it is, however often it is tried. The client goes on.
    Abortable(Abortable),
    /// The client is of no use any more: close it.
    Fatal(Fatal),
}

/// Worth another try.
#[derive(Clone, Debug)]
pub enum Retriable {
    /// The name of a broker's host has no address now.
    Resolve {
        address: Address,
        source: Arc<io::Error>,
    },
    /// Nobody answers at the address.
    Connect {
        address: Address,
        source: Arc<io::Error>,
    },
    /// The connection ended before the answer came; whether the broker has done what was asked is not known.
    Disconnected {
        address: Address,
        api: Option<ApiKey>,
        source: Arc<io::Error>,
    },
    /// Something did not come in the time that a setting gives it.
    TimedOut {
        what: Waited,
        after: Duration,
        last: Option<Arc<ClientError>>,
    },
    /// No broker leads the partition now.
    NoLeader {
        topic: Arc<str>,
        partition: i32,
    },
    /// None of the brokers could be reached.
    NoBroker {
        last: Option<Arc<ClientError>>,
    },
    /// There is no room now (`try_` functions, which do not wait for it).
    Full,
    /// The topic's partitions are not known yet (`try_` functions, which do not wait for them).
    TopicNotKnown {
        topic: Arc<str>,
    },
    Refused(Refusal),
}

/// What was waited for in vain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waited {
    /// `request.timeout.ms`.
    Response(ApiKey),
    /// `socket.connection.setup.timeout.ms`.
    Connection(Address),
    /// `delivery.timeout.ms`.
    Delivery,
    /// `max.block.ms`, for a topic that nobody knows.
    Topic(Arc<str>),
    /// `max.block.ms`, for `buffer.memory`.
    Buffer,
    /// `metadata` in whatever time the caller gave.
    Metadata,
    /// The time that the caller of `close` or `flush` gave.
    Close,
    /// `default.api.timeout.ms`.
    Api,
}

/// Lost as it is; the client goes on.
#[derive(Clone, Debug)]
pub enum Abortable {
    /// The record does not fit into `setting`.
    RecordTooLarge { size_bytes: usize, limit_bytes: usize, setting: &'static str },
    /// A serializer did not want the record.
    Serialize { part: Part, source: Arc<dyn Error + Send + Sync> },
    /// Code that the caller brought panicked.
    Panicked { part: Part, message: String },
    /// The topic has no such partition.
    NoSuchPartition { topic: Arc<str>, partition: i32, partition_count: i32 },
    /// The batch could not be compressed.
    Compress { source: Arc<crate::record::CompressionError> },
    /// `close` ended the producer before the record was acknowledged; it may have been appended.
    Aborted,
    /// Records before this one in its partition were lost, and it is not known whether they were appended.
    Refused(Refusal),
    /// Needs a broker that speaks a newer version.
    Unsupported { api: ApiKey, address: Address },
    /// The partition has no position, and `auto.offset.reset` is `none`.
    NoOffset { topic: Arc<str>, partition: i32 },
    /// The position is not in the partition's log, and `auto.offset.reset` is `none`.
    OffsetOutOfRange { topic: Arc<str>, partition: i32, offset: i64 },
    /// Records before the position were lost with a change of leader (`diverging`: where the logs part, if known), and
    /// `auto.offset.reset` is `none`.
    Truncated { topic: Arc<str>, partition: i32, offset: i64, diverging: Option<i64> },
    /// What the broker sent at `offset` is no batch of records; seek past it to go on.
    Corrupt { topic: Arc<str>, partition: i32, offset: i64, source: Arc<dyn Error + Send + Sync> },
    /// The call does not fit what the consumer is doing.
    Misuse(Misuse),
    /// The group has members, which would overwrite what was asked.
    GroupNotEmpty { group: Arc<str>, members: usize },
    /// The group went on without this member: its partitions may be another's by now.
    NotAMember { group: Arc<str> },
}

/// A call that does not fit what the consumer is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misuse {
    /// Neither `assign` nor `subscribe` was called.
    NothingAssigned,
    NotAssigned {
        topic: Arc<str>,
        partition: i32,
    },
    /// `group.id` is not set.
    NoGroup,
    /// `assign` while subscribed, or the other way round; `unsubscribe` first.
    AssignedAndSubscribed,
    NegativeOffset {
        offset: i64,
    },
    /// The members of the group have no assignor in common that this one knows.
    UnknownAssignor {
        name: String,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::NothingAssigned => {
                f.write_str("the consumer is not subscribed and has no partitions assigned")
            }
            Misuse::NotAssigned { topic, partition } => {
                write!(f, "the partition {topic}-{partition} is not assigned to this consumer")
            }
            Misuse::NoGroup => f.write_str("`group.id` is not set"),
            Misuse::AssignedAndSubscribed => {
                f.write_str("a consumer either subscribes or assigns partitions itself; unsubscribe first")
            }
            Misuse::NegativeOffset { offset } => write!(f, "the offset {offset} is below zero"),
            Misuse::UnknownAssignor { name } => {
                write!(f, "the group chose the assignor {name}, which is not known here")
            }
        }
    }
}

/// Which code of the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Key,
    Value,
    Partitioner,
    Interceptor,
    Callback,
}

/// The end of the client.
#[derive(Clone, Debug)]
pub enum Fatal {
    /// It was closed.
    Closed,
    /// The broker does not speak a version of `api` that the client can do with.
    Unsupported {
        api: ApiKey,
        address: Address,
    },
    /// The broker's answer is no answer.
    Malformed {
        api: ApiKey,
        address: Address,
        source: DecodeError,
    },
    /// What listens there does not speak the Kafka protocol.
    NotKafka {
        address: Address,
    },
    /// The broker did not accept who we are.
    Authentication {
        address: Address,
        mechanism: String,
        message: String,
    },
    /// The server of a SCRAM exchange could not prove that it knows the password.
    ServerSignature {
        address: Address,
    },
    /// A file that the settings name for TLS is no use.
    TlsFile {
        path: PathBuf,
        source: Arc<io::Error>,
    },
    /// TLS could not be agreed on.
    Tls {
        address: Address,
        source: Arc<io::Error>,
    },
    Settings(Arc<SettingError>),
    /// The thread of a blocking client could not be started.
    Runtime {
        source: Arc<io::Error>,
    },
    Refused(Refusal),
}

/// A broker's no, to all of a request or to one `subject` of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub api: ApiKey,
    /// What it was about, such as `orders-3`.
    pub subject: String,
    /// The number on the wire, which may be newer than we are.
    pub code: i16,
    pub message: Option<String>,
}

impl Refusal {
    /// `None` for a number that Kafka 4.3 does not know.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.code)
    }
}

impl ClientError {
    /// The error of a broker's answer; `None` for "no error".
    pub fn refused(
        api: ApiKey,
        subject: impl Into<String>,
        code: i16,
        message: Option<&str>,
    ) -> Option<ClientError> {
        if code == ErrorCode::None.code() {
            return None;
        }
        let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
        let refusal = Refusal { api, subject: subject.into(), code, message };
        Some(match refusal.error_code() {
            Some(code) if code.is_retriable() => ClientError::Retriable(Retriable::Refused(refusal)),
            Some(code) if ends_the_client(code) => ClientError::Fatal(Fatal::Refused(refusal)),
            _ => ClientError::Abortable(Abortable::Refused(refusal)),
        })
    }

    /// Of something that a broker was asked about and that its answer leaves out.
    pub fn left_out(api: ApiKey, subject: impl Into<String>) -> ClientError {
        let code = ErrorCode::UnknownServerError.code();
        let message = Some("the broker's answer leaves it out".to_owned());
        Abortable::Refused(Refusal { api, subject: subject.into(), code, message }).into()
    }

    /// As [`ClientError::refused`], as a result.
    pub fn check(
        api: ApiKey,
        subject: impl Into<String>,
        code: i16,
        message: Option<&str>,
    ) -> Result<(), ClientError> {
        ClientError::refused(api, subject, code, message).map_or(Ok(()), Err)
    }

    pub fn is_retriable(&self) -> bool {
        matches!(self, ClientError::Retriable(_))
    }

    pub fn is_fatal(&self) -> bool {
        matches!(self, ClientError::Fatal(_))
    }

    /// The broker's no, if that is what it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            ClientError::Retriable(Retriable::Refused(refusal))
            | ClientError::Abortable(Abortable::Refused(refusal))
            | ClientError::Fatal(Fatal::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// The code of the broker's no.
    pub fn error_code(&self) -> Option<ErrorCode> {
        self.refusal().and_then(Refusal::error_code)
    }

    /// Whether the connection was lost or never made, so that another broker may do.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            ClientError::Retriable(
                Retriable::Resolve { .. }
                    | Retriable::Connect { .. }
                    | Retriable::Disconnected { .. }
                    | Retriable::TimedOut { what: Waited::Response(_) | Waited::Connection(_), .. }
                    | Retriable::NoBroker { .. }
            )
        )
    }
}

/// Refusals after which nothing that this client asks can succeed.
fn ends_the_client(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::SaslAuthenticationFailed
            | ErrorCode::UnsupportedSaslMechanism
            | ErrorCode::IllegalSaslState
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::FencedInstanceId
    )
}

impl From<Retriable> for ClientError {
    fn from(error: Retriable) -> ClientError {
        ClientError::Retriable(error)
    }
}

impl From<Abortable> for ClientError {
    fn from(error: Abortable) -> ClientError {
        ClientError::Abortable(error)
    }
}

impl From<Fatal> for ClientError {
    fn from(error: Fatal) -> ClientError {
        ClientError::Fatal(error)
    }
}

impl From<SettingError> for ClientError {
    fn from(error: SettingError) -> ClientError {
        ClientError::Fatal(Fatal::Settings(Arc::new(error)))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Retriable(error) => error.fmt(f),
            ClientError::Abortable(error) => error.fmt(f),
            ClientError::Fatal(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Retriable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retriable::Resolve { address, source } => {
                write!(f, "cannot find the host {}: {source}", address.host)
            }
            Retriable::Connect { address, source } if source.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "no broker listens on {address}")
            }
            Retriable::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Retriable::Disconnected { address, api: Some(api), source } => {
                write!(f, "the connection to {address} ended before {} was answered: {source}", api.name())
            }
            Retriable::Disconnected { address, api: None, source } => {
                write!(f, "the connection to {address} ended: {source}")
            }
            Retriable::TimedOut { what, after, last } => {
                write!(f, "{what} in {} ms", after.as_millis())?;
                match last {
                    Some(last) => write!(f, "; the last failure was: {last}"),
                    None => Ok(()),
                }
            }
            Retriable::NoLeader { topic, partition } => {
                write!(f, "no broker leads the partition {topic}-{partition} now")
            }
            Retriable::NoBroker { last: Some(last) } => write!(f, "no broker can be reached: {last}"),
            Retriable::NoBroker { last: None } => f.write_str("no broker can be reached"),
            Retriable::Full => f.write_str("`buffer.memory` is full"),
            Retriable::TopicNotKnown { topic } => {
                write!(f, "the partitions of the topic {topic} are not known yet")
            }
            Retriable::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waited::Response(api) => write!(f, "{} was not answered", api.name()),
            Waited::Connection(address) => write!(f, "{address} did not accept the connection"),
            Waited::Delivery => f.write_str("the record was not acknowledged"),
            Waited::Topic(topic) => write!(f, "no broker told of the topic {topic}"),
            Waited::Buffer => f.write_str("`buffer.memory` did not become free"),
            Waited::Metadata => f.write_str("no broker told what the cluster looks like"),
            Waited::Close => f.write_str("not everything was sent"),
            Waited::Api => f.write_str("what was asked was not done"),
        }
    }
}

impl fmt::Display for Abortable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Abortable::RecordTooLarge { size_bytes, limit_bytes, setting } => {
                write!(f, "the record takes {size_bytes} bytes, `{setting}` allows {limit_bytes}")
            }
            Abortable::Serialize { part, source } => write!(f, "cannot serialize the {part}: {source}"),
            Abortable::Panicked { part, message } => write!(f, "the {part} code panicked: {message}"),
            Abortable::NoSuchPartition { topic, partition, partition_count } => {
                write!(f, "the topic {topic} has {partition_count} partitions, there is no {partition}")
            }
            Abortable::Compress { source } => write!(f, "cannot compress the batch: {source}"),
            Abortable::Aborted => f.write_str("the producer was closed before the record was acknowledged"),
            Abortable::NoOffset { topic, partition } => {
                write!(f, "{topic}-{partition} has no position, and `auto.offset.reset` is `none`")
            }
            Abortable::OffsetOutOfRange { topic, partition, offset } => {
                write!(f, "{topic}-{partition} has no offset {offset}, and `auto.offset.reset` is `none`")
            }
            Abortable::Truncated { topic, partition, offset, diverging } => {
                write!(
                    f,
                    "records of {topic}-{partition} before offset {offset} were lost with a change of leader"
                )?;
                match diverging {
                    Some(diverging) => write!(f, "; the log is another from offset {diverging} on"),
                    None => Ok(()),
                }
            }
            Abortable::Corrupt { topic, partition, offset, source } => {
                write!(f, "what {topic}-{partition} has at offset {offset} cannot be read: {source}")
            }
            Abortable::Misuse(misuse) => misuse.fmt(f),
            Abortable::GroupNotEmpty { group, members } => {
                write!(f, "the group {group} has {members} members; stop them first")
            }
            Abortable::NotAMember { group } => {
                write!(f, "the group {group} went on without this consumer")
            }
            Abortable::Refused(refusal) => refusal.fmt(f),
            Abortable::Unsupported { api, address } => {
                write!(f, "the broker at {address} is too old for this {} request", api.name())
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Key => "key",
            Part::Value => "value",
            Part::Partitioner => "partitioner",
            Part::Interceptor => "interceptor",
            Part::Callback => "callback",
        })
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Closed => f.write_str("the client is closed"),
            Fatal::Unsupported { api, address } => {
                write!(
                    f,
                    "the broker at {address} does not serve {} in a version known here; it is too old or too new",
                    api.name()
                )
            }
            Fatal::Malformed { api, address, source } => {
                write!(f, "the answer of {address} to {} makes no sense: {source}", api.name())
            }
            Fatal::NotKafka { address } => {
                write!(f, "what listens on {address} does not speak the Kafka protocol, or wants TLS")
            }
            Fatal::Authentication { address, mechanism, message } => {
                write!(f, "the broker at {address} refuses the {mechanism} login: {message}")
            }
            Fatal::ServerSignature { address } => {
                write!(f, "the broker at {address} does not know the password it asks for")
            }
            Fatal::TlsFile { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Fatal::Tls { address, source } => write!(f, "no TLS with {address}: {source}"),
            Fatal::Settings(error) => error.fmt(f),
            Fatal::Runtime { source } => write!(f, "cannot start the client's thread: {source}"),
            Fatal::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.error_code();
        write!(f, "{}: {}", self.subject, known.map_or("unknown error", ErrorCode::name))?;
        match (&self.message, known) {
            (Some(message), _) => write!(f, ": {message}"),
            (None, Some(known)) => write!(f, ": {}", known.text()),
            (None, None) => write!(f, " {}", self.code),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ClientError::Retriable(
                Retriable::Resolve { source, .. }
                | Retriable::Connect { source, .. }
                | Retriable::Disconnected { source, .. },
            )
            | ClientError::Fatal(
                Fatal::Tls { source, .. } | Fatal::TlsFile { source, .. } | Fatal::Runtime { source },
            ) => Some(source.as_ref()),
            ClientError::Retriable(
                Retriable::TimedOut { last: Some(last), .. } | Retriable::NoBroker { last: Some(last) },
            ) => Some(last.as_ref()),
            ClientError::Abortable(
                Abortable::Serialize { source, .. } | Abortable::Corrupt { source, .. },
            ) => Some(source.as_ref()),
            ClientError::Abortable(Abortable::Compress { source }) => Some(source.as_ref()),
            ClientError::Fatal(Fatal::Malformed { source, .. }) => Some(source),
            ClientError::Fatal(Fatal::Settings(error)) => Some(error.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sorted_by_what_can_be_done() {
        let check = |code: ErrorCode, expected: &str| {
            let class = match ClientError::refused(ApiKey::Produce, "orders-0", code.code(), None) {
                None => "none",
                Some(ClientError::Retriable(_)) => "retriable",
                Some(ClientError::Abortable(_)) => "abortable",
                Some(ClientError::Fatal(_)) => "fatal",
            };
            assert_eq!(class, expected, "{code}");
        };
        check(ErrorCode::None, "none");
        check(ErrorCode::NotLeaderOrFollower, "retriable");
        check(ErrorCode::UnknownTopicOrPartition, "retriable");
        check(ErrorCode::MessageTooLarge, "abortable");
        check(ErrorCode::InvalidRecord, "abortable");
        check(ErrorCode::TopicAuthorizationFailed, "abortable");
        check(ErrorCode::ProducerFenced, "fatal");
        check(ErrorCode::ClusterAuthorizationFailed, "fatal");
    }

    #[test]
    fn refusals_are_told_with_name_and_text() {
        let check = |code, message: Option<&str>, expected: &str| {
            let error = ClientError::refused(ApiKey::CreateTopics, "topic a", code, message).unwrap();
            assert_eq!(error.to_string(), expected);
        };
        check(
            36,
            Some("Topic 'a' already exists."),
            "topic a: TOPIC_ALREADY_EXISTS: Topic 'a' already exists.",
        );
        check(3, Some(""), "topic a: UNKNOWN_TOPIC_OR_PARTITION: no such topic or partition here");
        check(9999, None, "topic a: unknown error 9999");
    }

    #[test]
    fn causes_are_kept() {
        let address = Address { host: "a".to_owned(), port: 1 };
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        let error =
            ClientError::from(Retriable::Disconnected { address, api: Some(ApiKey::Produce), source });
        assert!(error.source().unwrap().to_string().contains("reset"));
        assert!(error.is_unreachable() && error.is_retriable());
    }
}
