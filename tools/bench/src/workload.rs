//! What load is put on a broker: one value says all of it, so that a table, a file and a command line mean the same.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::wire::{KEY_BYTES, STAMP_BYTES};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Produce requests
    Produce,
    /// Fetch requests over a topic that is filled first, from its start again and again
    Fetch,
    /// From the time a record was due to be sent until a consumer has it
    EndToEnd,
    /// Producers, and consumers that read a backlog meanwhile
    Mixed,
    /// ApiVersions, which asks nothing of the log
    Echo,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Written to the page cache
    Os,
    /// Flushed once a second
    Interval,
    /// Flushed before each acknowledgement
    Fsync,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Os => "os",
            Durability::Interval => "interval",
            Durability::Fsync => "fsync",
        }
    }

    /// The same promise in Kafka's own settings.
    pub fn kafka_setting(self) -> Option<(&'static str, &'static str)> {
        match self {
            Durability::Os => None,
            Durability::Interval => Some(("flush.ms", "1000")),
            Durability::Fsync => Some(("flush.messages", "1")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WritePath {
    /// As the broker decides
    Auto,
    Journal,
    Direct,
    PageCache,
}

impl WritePath {
    pub fn name(self) -> &'static str {
        match self {
            WritePath::Auto => "auto",
            WritePath::Journal => "journal",
            WritePath::Direct => "direct",
            WritePath::PageCache => "page-cache",
        }
    }
}

/// Where records go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keys {
    /// No keys; the partitions in turn
    None,
    /// All keys alike often, each to the partition that Kafka's clients hash it to
    Uniform,
    /// Key n comes 1/n as often as key 1 (Zipf, exponent 1)
    Zipf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Everything about one load, times apart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Workload {
    pub mode: Mode,
    pub durability: Durability,
    pub write_path: WritePath,
    pub partitions: i32,
    pub connections: usize,
    /// Requests without an answer on each connection; closed loop.
    pub in_flight: usize,
    /// Of the value of one record.
    pub record_bytes: usize,
    /// In one batch; one batch in a request.
    pub records: usize,
    pub keys: Keys,
    pub key_count: u32,
    pub compression: Compression,
    pub acks: i16,
    /// Requests a second over all connections: open loop. None: closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What one fetch may bring of a partition.
    pub fetch_bytes: i32,
    /// What lies in the topic before fetches begin.
    pub fill_bytes: u64,
    /// Connections that read, beside those that write.
    pub consumers: usize,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            mode: Mode::Produce,
            durability: Durability::Fsync,
            write_path: WritePath::Auto,
            partitions: 16,
            connections: 8,
            in_flight: 8,
            record_bytes: 1024,
            records: 1,
            keys: Keys::None,
            key_count: 1000,
            compression: Compression::None,
            acks: -1,
            rate: None,
            fetch_bytes: 1 << 20,
            fill_bytes: 256 << 20,
            consumers: 1,
        }
    }
}

/// Why a workload makes no sense.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkloadError {
    Zero { what: &'static str },
    RecordTooSmall { bytes: usize },
    BatchTooLarge { bytes: usize },
    Rate { rate: f64 },
    AcksWithoutAnswers { mode: Mode },
}

/// Kafka's `message.max.bytes` is 1 MiB and a little; ours is the same.
const BATCH_BYTES_MOST: usize = 1_048_588;

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadError::Zero { what } => write!(f, "{what} must be above 0"),
            WorkloadError::RecordTooSmall { bytes } => write!(
                f,
                "records of {bytes} bytes have no room for the {STAMP_BYTES} bytes by which they are known again"
            ),
            WorkloadError::BatchTooLarge { bytes } => write!(
                f,
                "a batch of {bytes} bytes is above what brokers take ({BATCH_BYTES_MOST}); fewer or smaller records"
            ),
            WorkloadError::Rate { rate } => write!(f, "{rate} requests a second are no rate"),
            WorkloadError::AcksWithoutAnswers { mode } => {
                write!(f, "with acks=0 nothing is answered, so {mode:?} cannot be timed; use produce")
            }
        }
    }
}

impl std::error::Error for WorkloadError {}

impl Workload {
    pub fn check(&self) -> Result<(), WorkloadError> {
        let positive = [
            (self.partitions > 0, "partitions"),
            (self.connections > 0, "connections"),
            (self.in_flight > 0, "in-flight"),
            (self.records > 0, "records"),
            (self.key_count > 0, "key-count"),
            (self.fetch_bytes > 0, "fetch-bytes"),
            (self.consumers > 0, "consumers"),
        ];
        if let Some((_, what)) = positive.into_iter().find(|(is_positive, _)| !is_positive) {
            return Err(WorkloadError::Zero { what });
        }
        if self.record_bytes < STAMP_BYTES {
            return Err(WorkloadError::RecordTooSmall { bytes: self.record_bytes });
        }
        let batch_bytes = self.batch_bytes();
        if batch_bytes > BATCH_BYTES_MOST {
            return Err(WorkloadError::BatchTooLarge { bytes: batch_bytes });
        }
        if let Some(rate) = self.rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(WorkloadError::Rate { rate });
        }
        match self.mode {
            Mode::EndToEnd | Mode::Mixed | Mode::Fetch if self.acks == 0 => {
                Err(WorkloadError::AcksWithoutAnswers { mode: self.mode })
            }
            _ => Ok(()),
        }
    }

    /// At most: 61 bytes of header, and around each record up to 16 bytes (two lengths of up to 4 bytes, an offset, a time,
    /// attributes, counts) and its key.
    fn batch_bytes(&self) -> usize {
        let key_bytes = if self.keys == Keys::None { 0 } else { KEY_BYTES };
        61 + self.records * (self.record_bytes + 16 + key_bytes)
    }

    /// Bytes of the values of one batch.
    pub fn value_bytes(&self) -> u64 {
        (self.records * self.record_bytes) as u64
    }

    pub fn is_writing(&self) -> bool {
        matches!(self.mode, Mode::Produce | Mode::EndToEnd | Mode::Mixed)
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let plural =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let pace = match self.rate {
            Some(rate) => format!("open loop at {rate:.0}/s"),
            None => format!("{} in flight each", self.in_flight),
        };
        let who = plural(self.connections, "connection");
        let partitions = plural(self.partitions as usize, "partition");
        let records = format!("{} of {} B", plural(self.records, "record"), self.record_bytes);
        let topic = match self.write_path {
            WritePath::Auto => self.durability.name().to_owned(),
            path => format!("{}, {}", self.durability.name(), path.name()),
        };
        let mut said = match self.mode {
            Mode::Produce => vec!["produce".to_owned(), topic, partitions, who, pace, records],
            Mode::Fetch => {
                vec!["fetch".to_owned(), partitions, who, pace, format!("up to {} B", self.fetch_bytes)]
            }
            Mode::EndToEnd => vec!["end to end".to_owned(), topic, partitions, who, pace, records],
            Mode::Mixed => vec!["mixed".to_owned(), topic, partitions, who, pace, records],
            Mode::Echo => vec!["ApiVersions".to_owned(), who, pace],
        };
        if matches!(self.mode, Mode::EndToEnd | Mode::Mixed) {
            said.push(plural(self.consumers, "consumer"));
        }
        if self.is_writing() {
            if self.acks != -1 {
                said.push(format!("acks={}", self.acks));
            }
            if self.compression != Compression::None {
                said.push(format!("{:?}", self.compression).to_lowercase());
            }
            if self.keys != Keys::None {
                said.push(format!("{:?} over {} keys", self.keys, self.key_count).to_lowercase());
            }
        }
        said.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_that_make_no_sense_are_refused() {
        let check = |change: &dyn Fn(&mut Workload), expected: Result<(), WorkloadError>| {
            let mut workload = Workload::default();
            change(&mut workload);
            assert_eq!(workload.check(), expected);
        };
        check(&|_| {}, Ok(()));
        check(&|w| w.partitions = 0, Err(WorkloadError::Zero { what: "partitions" }));
        check(&|w| w.record_bytes = 23, Err(WorkloadError::RecordTooSmall { bytes: 23 }));
        check(&|w| w.record_bytes = 24, Ok(()));
        check(&|w| w.records = 1024, Err(WorkloadError::BatchTooLarge { bytes: 61 + 1024 * 1040 }));
        check(&|w| w.rate = Some(0.0), Err(WorkloadError::Rate { rate: 0.0 }));
        check(&|w| w.acks = 0, Ok(()));
        let unanswered = |w: &mut Workload| (w.acks, w.mode) = (0, Mode::EndToEnd);
        check(&unanswered, Err(WorkloadError::AcksWithoutAnswers { mode: Mode::EndToEnd }));
    }
}
