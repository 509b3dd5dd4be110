//! Why a command that asks brokers failed, and what the person at the terminal can do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::client::{Abortable, ClientError, Fatal, Retriable, SettingError};
use crate::config::ConfigError;
use crate::protocol::ErrorCode;

/// Why a command that asks brokers failed. One line: cause; remedy.
#[derive(Debug)]
pub enum RemoteError {
    File(ConfigError),
    Settings(SettingError),
    Client(ClientError),
    UnknownTopic {
        name: String,
        nearest: Vec<String>,
    },
    NoSuchPartition {
        topic: String,
        partition: i32,
        count: usize,
    },
    UnknownGroup {
        name: String,
        nearest: Vec<String>,
    },
    /// The file of settings names a group, which has no use for an option that was given.
    NotInGroup {
        group: String,
        option: &'static str,
    },
    /// The records to send cannot be read.
    Input {
        path: Option<PathBuf>,
        source: io::Error,
    },
    LineTooLong {
        line: u64,
        limit_bytes: usize,
    },
    NoSeparator {
        line: u64,
        separator: String,
    },
    /// A record was not acknowledged.
    NotSent {
        line: u64,
        error: ClientError,
    },
    Runtime(io::Error),
    /// The result is there, but nobody takes it.
    Print(io::Error),
}

impl RemoteError {
    /// Whether what was typed makes no sense, whatever the broker says.
    pub fn is_usage(&self) -> bool {
        matches!(self, RemoteError::File(_) | RemoteError::Settings(_) | RemoteError::NotInGroup { .. })
    }

    /// Whether the reader of our output has gone, which is no error.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, RemoteError::Print(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ClientError> for RemoteError {
    fn from(error: ClientError) -> RemoteError {
        match error {
            ClientError::Fatal(Fatal::Settings(error)) => RemoteError::Settings((*error).clone()),
            other => RemoteError::Client(other),
        }
    }
}

impl From<SettingError> for RemoteError {
    fn from(error: SettingError) -> RemoteError {
        RemoteError::Settings(error)
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::File(ConfigError::Read { path, source }) => {
                write!(f, "cannot read {}: {source}; check the path given to --config", path.display())?;
                let is_setting = path.to_string_lossy().contains('=');
                if is_setting { f.write_str(", a topic's settings go to --set") } else { Ok(()) }
            }
            RemoteError::File(error) => error.fmt(f),
            // It names the remedy itself.
            RemoteError::Settings(error @ SettingError::Unknown { nearest: Some(_), .. }) => error.fmt(f),
            RemoteError::Settings(error) => {
                write!(f, "{error}; check the options, and the file given to --config")
            }
            RemoteError::Client(error) => write!(f, "{error}; {}", remedy(error)),
            RemoteError::UnknownTopic { name, nearest } if nearest.is_empty() => {
                write!(
                    f,
                    "there is no topic {name}; create it with `corelog topic create {name}`, `corelog topic list` shows those there are"
                )
            }
            RemoteError::UnknownTopic { name, nearest } => {
                write!(
                    f,
                    "there is no topic {name}; did you mean {}? Or create it with `corelog topic create {name}`",
                    nearest.join(" or ")
                )
            }
            RemoteError::NoSuchPartition { topic, partition, count } => {
                write!(
                    f,
                    "the topic {topic} has no partition {partition}; it has {count}, give --partition 0 to {}",
                    count.saturating_sub(1)
                )
            }
            RemoteError::UnknownGroup { name, nearest } if nearest.is_empty() => {
                write!(f, "there is no group {name}; `corelog group list` shows those there are")
            }
            RemoteError::UnknownGroup { name, nearest } => {
                write!(f, "there is no group {name}; did you mean {}?", nearest.join(" or "))
            }
            RemoteError::NotInGroup { group, option } => {
                write!(
                    f,
                    "{option} is not for a group, and the settings say group.id={group}: it reads what it is given, from where it is; leave one of them out, `corelog group reset` moves the group"
                )
            }
            RemoteError::Input { path: Some(path), source } => {
                write!(f, "cannot read {}: {source}; check the path given to --file", path.display())
            }
            RemoteError::Input { path: None, source } => {
                write!(f, "cannot read standard input: {source}; give a file with --file")
            }
            RemoteError::LineTooLong { line, limit_bytes } => {
                write!(
                    f,
                    "line {line} is longer than `max.request.size` allows ({limit_bytes} bytes); raise it with --set, and the topic's max.message.bytes"
                )
            }
            RemoteError::NoSeparator { line, separator } => {
                write!(
                    f,
                    "line {line} has no key: {separator:?} is not in it; mend the line or leave out --key-separator"
                )
            }
            RemoteError::NotSent { line, error } => write!(f, "line {line}: {error}; {}", remedy(error)),
            RemoteError::Runtime(source) => {
                write!(f, "cannot start a thread: {source}; look at `ulimit -u` and `ulimit -n`")
            }
            RemoteError::Print(source) => {
                write!(f, "cannot write the result: {source}; check where it goes")
            }
        }
    }
}

impl std::error::Error for RemoteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RemoteError::File(error) => Some(error),
            RemoteError::Settings(error) => Some(error),
            RemoteError::Client(error) | RemoteError::NotSent { error, .. } => Some(error),
            RemoteError::Input { source, .. } | RemoteError::Runtime(source) | RemoteError::Print(source) => {
                Some(source)
            }
            RemoteError::UnknownTopic { .. }
            | RemoteError::NoSuchPartition { .. }
            | RemoteError::UnknownGroup { .. }
            | RemoteError::NotInGroup { .. }
            | RemoteError::LineTooLong { .. }
            | RemoteError::NoSeparator { .. } => None,
        }
    }
}

/// What the person at the terminal can do about it.
fn remedy(error: &ClientError) -> &'static str {
    match error {
        ClientError::Retriable(Retriable::Resolve { .. }) => "check --bootstrap",
        ClientError::Retriable(Retriable::NoBroker { last: Some(last) }) => remedy(last),
        error if error.is_unreachable() => {
            "is the broker running? `corelog start` starts one, --bootstrap says where it is"
        }
        ClientError::Retriable(Retriable::TimedOut { last: Some(last), .. }) => remedy(last),
        ClientError::Fatal(Fatal::NotKafka { .. }) => {
            "give the address of the broker's Kafka listener with --bootstrap; its `ready:` line names it"
        }
        ClientError::Fatal(Fatal::Authentication { .. } | Fatal::ServerSignature { .. }) => {
            "check sasl.mechanism, sasl.username and sasl.password in the file given to --config"
        }
        ClientError::Fatal(Fatal::Tls { .. } | Fatal::TlsFile { .. }) => {
            "check security.protocol and the ssl settings in the file given to --config"
        }
        ClientError::Abortable(Abortable::RecordTooLarge { .. }) => {
            "send less in one record, or raise the setting with --set"
        }
        ClientError::Abortable(Abortable::Aborted) => {
            "it may be there all the same: look at the end of the topic before it is sent again"
        }
        ClientError::Abortable(Abortable::NotAMember { .. }) => {
            "records printed since the last commit will be read again; `corelog group describe` shows who has them"
        }
        ClientError::Abortable(Abortable::NoSuchPartition { .. }) => {
            "`corelog topic describe` shows the partitions there are"
        }
        ClientError::Abortable(Abortable::GroupNotEmpty { .. }) => {
            "`corelog group describe` shows who they are"
        }
        _ => remedy_of_refusal(error.error_code()),
    }
}

fn remedy_of_refusal(code: Option<ErrorCode>) -> &'static str {
    match code {
        Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge) => {
            "raise the topic's max.message.bytes with `corelog topic alter TOPIC --set max.message.bytes=BYTES`"
        }
        Some(ErrorCode::UnknownTopicOrPartition) => "`corelog topic list` shows the topics there are",
        Some(ErrorCode::GroupIdNotFound) => "`corelog group list` shows the groups there are",
        Some(ErrorCode::TopicAlreadyExists) => "--if-not-exists makes that no error",
        Some(ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend) => {
            "bring replicas back, or lower the topic's min.insync.replicas"
        }
        Some(ErrorCode::InvalidConfig | ErrorCode::InvalidRequest) => {
            "`corelog config show` tells the settings there are"
        }
        _ => "the broker's log may tell more",
    }
}
