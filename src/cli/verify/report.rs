//! What a check found, in words and in JSON.

use std::fmt::{self, Write};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::log::journal::{Inspection, JournalDamageKind};
use crate::log::{Damage, InvalidSnapshot};
use crate::model::{LeaderEpoch, Offset, Timestamp};
use crate::record::InvalidBatch;

/// One thing that is worth a line.
#[derive(Debug)]
pub struct Finding {
    pub verdict: Verdict,
    pub path: PathBuf,
    pub position: Option<u64>,
}

#[derive(Debug)]
pub enum Verdict {
    /// What was flushed once is not what it must be.
    Damaged(Fault),
    /// The end of a log that a crash has cut, or that is being written: the next start cuts it there. Nothing that was
    /// flushed is lost.
    TornTail {
        end_offset: Offset,
        bytes: u64,
        damage: Damage,
    },
    /// Behind a torn tail: the next start removes it.
    BehindTear {
        bytes: u64,
    },
    /// A file that was there and is not: a cache that the next start makes anew.
    CacheMissing,
    /// A journal that the next start can carry out.
    Journal(Inspection),
    /// A file of a kind that is not looked into.
    NotChecked,
    Unreadable(Arc<io::Error>),
}

/// What is wrong: what was expected, and what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Batch(Damage),
    /// A segment begins before the one before it ends.
    Overlap {
        expected: Offset,
        found: Offset,
    },
    /// A segment or log ends too early.
    Short {
        expected: Offset,
        found: Offset,
    },
    EpochFalls {
        before: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// The checkpoint of epochs says something else than the batch at this offset.
    EpochStored {
        offset: Offset,
        stored: Option<LeaderEpoch>,
        found: LeaderEpoch,
    },
    /// An index entry leads to no batch that ends with its offset.
    IndexEntry {
        offset: Offset,
        position: u64,
        found: Option<Offset>,
    },
    /// A time index entry names no batch that holds the largest timestamp so far.
    TimeEntry {
        timestamp: Timestamp,
        offset: Offset,
        found: Option<Timestamp>,
    },
    /// The last entry of a closed time index is not the segment's largest timestamp.
    TimeEnd {
        expected: Timestamp,
        found: Option<Timestamp>,
    },
    /// Less than a whole index entry.
    PartOfEntry {
        bytes: u64,
    },
    Snapshot(InvalidSnapshot),
    NotCheckpoint,
    NotMetadata,
    Missing,
    Journal(JournalDamageKind),
}

impl Finding {
    pub fn new(verdict: Verdict, path: PathBuf) -> Finding {
        Finding { verdict, path, position: None }
    }

    pub fn at(mut self, position: u64) -> Finding {
        self.position = Some(position);
        self
    }

    pub fn is_damage(&self) -> bool {
        matches!(self.verdict, Verdict::Damaged(_))
    }

    fn place(&self) -> String {
        let path = self.path.display();
        self.position.map_or(format!("{path}"), |position| format!("{path} at byte {position}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        match &self.verdict {
            Verdict::Damaged(fault) => {
                write!(f, "DAMAGED     {place}: expected {}, found {}", fault.expected(), fault.found())
            }
            Verdict::TornTail { end_offset, bytes, damage } => write!(
                f,
                "torn tail   {place}: {bytes} bytes behind offset {end_offset} are no part of the log ({}); the next start cuts them off, or puts there what a journal holds",
                Fault::Batch(*damage).found()
            ),
            Verdict::BehindTear { bytes } => {
                write!(f, "torn tail   {place}: {bytes} bytes, behind a torn tail")
            }
            Verdict::CacheMissing => write!(f, "missing     {place}: made anew at the next start"),
            Verdict::Journal(found) => write!(
                f,
                "journal     {place}: {} groups with {} entries, {} bytes, that the next start puts into segments; {} stale groups",
                found.live_groups, found.live_entries, found.live_bytes, found.stale_groups
            ),
            Verdict::NotChecked => write!(f, "not checked {place}"),
            Verdict::Unreadable(error) => write!(f, "UNREADABLE  {place}: {error}"),
        }
    }
}

impl Fault {
    pub fn expected(&self) -> String {
        match *self {
            Fault::Batch(Damage::Batch(InvalidBatch::Crc { stored, .. })) => format!("CRC {stored:#010x}"),
            Fault::Batch(Damage::Batch(InvalidBatch::Magic(_))) => "magic 2".to_owned(),
            Fault::Batch(Damage::Batch(InvalidBatch::Truncated { needed_bytes, .. })) => {
                format!("a batch of {needed_bytes} bytes")
            }
            Fault::Batch(Damage::Batch(_)) => "a batch".to_owned(),
            Fault::Batch(Damage::Epoch { expected: before, .. }) | Fault::EpochFalls { before, .. } => {
                format!("leader epoch {} or a later one", before.0)
            }
            Fault::Batch(Damage::TopicId) => "a topic id".to_owned(),
            Fault::Batch(Damage::Folder) => "the partition's folder".to_owned(),
            Fault::Batch(Damage::Offset { expected, .. } | Damage::Short { expected, .. }) => {
                format!("offset {expected}")
            }
            Fault::Overlap { expected, .. } => format!("a segment that starts at offset {expected}"),
            Fault::Short { expected, .. } => format!("records up to offset {expected}"),
            Fault::EpochStored { offset, found, .. } => {
                format!("epoch {} at offset {offset}, as the batch says", found.0)
            }
            Fault::IndexEntry { offset, position, .. } => {
                format!("a batch at byte {position} of the log that ends with offset {offset}")
            }
            Fault::TimeEntry { timestamp, offset, .. } => {
                format!(
                    "a batch that ends with offset {offset} and holds the largest timestamp so far, {timestamp}"
                )
            }
            Fault::TimeEnd { expected, .. } => format!("a last entry with timestamp {expected}"),
            Fault::PartOfEntry { .. } => "whole entries".to_owned(),
            Fault::Snapshot(_) => "a producer snapshot".to_owned(),
            Fault::NotCheckpoint => "a checkpoint of version 0".to_owned(),
            Fault::NotMetadata => "properties of version 0 or 1 with their ids".to_owned(),
            Fault::Missing => "the file".to_owned(),
            Fault::Journal(JournalDamageKind::Header) => "a journal's header".to_owned(),
            Fault::Journal(JournalDamageKind::Missing { sequence, .. }) => {
                format!("group {sequence}, which was durable")
            }
            Fault::Journal(JournalDamageKind::Entry { sequence, position }) => {
                format!("entries of group {sequence} at byte {position}")
            }
        }
    }

    pub fn found(&self) -> String {
        let none = || "none".to_owned();
        match *self {
            Fault::Batch(Damage::Batch(InvalidBatch::Crc { computed, .. })) => format!("{computed:#010x}"),
            Fault::Batch(Damage::Batch(InvalidBatch::Truncated { given_bytes, .. })) => {
                format!("{given_bytes} bytes")
            }
            Fault::Batch(Damage::Batch(invalid)) => invalid.to_string(),
            Fault::Batch(Damage::Offset { found, .. }) => format!("offset {found}"),
            Fault::Batch(Damage::Epoch { found, .. }) | Fault::EpochFalls { found, .. } => {
                format!("epoch {}", found.0)
            }
            Fault::Batch(Damage::TopicId | Damage::Folder) => none(),
            Fault::Batch(Damage::Short { end_offset, .. }) => format!("an end at offset {end_offset}"),
            Fault::Overlap { found, .. } => format!("one that starts at {found}"),
            Fault::Short { found, .. } => format!("an end at offset {found}"),
            Fault::EpochStored { stored, .. } => {
                stored.map_or_else(none, |stored| format!("epoch {}", stored.0))
            }
            Fault::IndexEntry { found, .. } => {
                found.map_or_else(none, |found| format!("one that ends with {found}"))
            }
            Fault::TimeEntry { found, .. } | Fault::TimeEnd { found, .. } => {
                found.map_or_else(none, |found| format!("timestamp {found}"))
            }
            Fault::PartOfEntry { bytes } => format!("{bytes} bytes behind the last one"),
            Fault::Snapshot(invalid) => format!("{invalid:?}"),
            Fault::NotCheckpoint | Fault::NotMetadata => "something else".to_owned(),
            Fault::Missing => none(),
            Fault::Journal(JournalDamageKind::Missing { newest, .. }) => {
                format!("groups up to {newest} without it")
            }
            Fault::Journal(JournalDamageKind::Header | JournalDamageKind::Entry { .. }) => {
                "something else".to_owned()
            }
        }
    }

    /// The log itself is sound and the file is made from it again.
    fn is_of_cache(&self) -> bool {
        match self {
            Fault::EpochStored { .. }
            | Fault::IndexEntry { .. }
            | Fault::TimeEntry { .. }
            | Fault::TimeEnd { .. }
            | Fault::PartOfEntry { .. }
            | Fault::Snapshot(_) => true,
            Fault::Batch(_)
            | Fault::Overlap { .. }
            | Fault::Short { .. }
            | Fault::EpochFalls { .. }
            | Fault::NotCheckpoint
            | Fault::NotMetadata
            | Fault::Missing
            | Fault::Journal(_) => false,
        }
    }

    fn remedy(&self) -> &'static str {
        if self.is_of_cache() {
            "stop the broker and delete the file: it is made anew from the log at the next start"
        } else if matches!(self, Fault::Journal(_)) {
            "acknowledged records may be lost: restore the journal from a copy of the disk, or move it away to start without them"
        } else {
            "nothing here is repaired by cutting: bring the file back from a replica or a backup, or delete the topic"
        }
    }
}

/// All that was looked at and found.
#[derive(Debug, Default)]
pub struct Verified {
    pub partitions: usize,
    pub segments: usize,
    pub batches: u64,
    pub bytes: u64,
    pub took: Duration,
    pub findings: Vec<Finding>,
}

/// How a check came out, worst first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Damaged,
    NotAllChecked,
    Sound,
}

impl Verified {
    pub fn outcome(&self) -> Outcome {
        if self.findings.iter().any(Finding::is_damage) {
            Outcome::Damaged
        } else if self.findings.iter().any(|f| matches!(f.verdict, Verdict::Unreadable(_))) {
            Outcome::NotAllChecked
        } else {
            Outcome::Sound
        }
    }

    fn damaged(&self) -> impl Iterator<Item = (&Finding, &Fault)> {
        self.findings.iter().filter_map(|finding| match &finding.verdict {
            Verdict::Damaged(fault) => Some((finding, fault)),
            _ => None,
        })
    }

    /// One line a finding, the remedies, and a summary.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let line = |text: &mut String, what: fmt::Arguments<'_>| {
            writeln!(text, "{what}").expect("writing to a String cannot fail");
        };
        for finding in &self.findings {
            line(&mut text, format_args!("{finding}"));
        }
        let mut remedies: Vec<&str> = self.damaged().map(|(_, fault)| fault.remedy()).collect();
        remedies.sort_unstable();
        remedies.dedup();
        for remedy in remedies {
            line(&mut text, format_args!("remedy: {remedy}"));
        }
        let Verified { partitions, segments, batches, bytes, took, .. } = self;
        let found = match (self.outcome(), self.damaged().count()) {
            (Outcome::Damaged, 1) => "1 place is damaged".to_owned(),
            (Outcome::Damaged, count) => format!("{count} places are damaged"),
            (Outcome::NotAllChecked, _) => "not everything could be read".to_owned(),
            (Outcome::Sound, _) => "no damage".to_owned(),
        };
        let seconds = took.as_secs_f64();
        let rate = *bytes as f64 / (1 << 20) as f64 / seconds.max(0.001);
        line(
            &mut text,
            format_args!(
                "{partitions} partitions, {segments} segments, {batches} batches, {bytes} bytes in {seconds:.1} s ({rate:.0} MiB/s): {found}"
            ),
        );
        text
    }

    pub fn json(&self) -> String {
        let row = |finding: &Finding| {
            let mut row = json!({ "file": finding.path.display().to_string() });
            if let Some(position) = finding.position {
                row["position"] = position.into();
            }
            match &finding.verdict {
                Verdict::Damaged(fault) => {
                    row["expected"] = fault.expected().into();
                    row["found"] = fault.found().into();
                    row["remedy"] = fault.remedy().into();
                }
                Verdict::TornTail { end_offset, bytes, damage } => {
                    row["end_offset"] = (*end_offset).into();
                    row["bytes"] = (*bytes).into();
                    row["found"] = Fault::Batch(*damage).found().into();
                }
                Verdict::BehindTear { bytes } => row["bytes"] = (*bytes).into(),
                Verdict::Unreadable(error) => row["error"] = error.to_string().into(),
                Verdict::Journal(found) => {
                    row["live_groups"] = found.live_groups.into();
                    row["live_entries"] = found.live_entries.into();
                    row["live_bytes"] = found.live_bytes.into();
                    row["stale_groups"] = found.stale_groups.into();
                }
                Verdict::CacheMissing | Verdict::NotChecked => {}
            }
            row
        };
        let rows = |is_wanted: fn(&Verdict) -> bool| -> Vec<Value> {
            self.findings.iter().filter(|finding| is_wanted(&finding.verdict)).map(row).collect()
        };
        let outcome = match self.outcome() {
            Outcome::Damaged => "damaged",
            Outcome::NotAllChecked => "not all checked",
            Outcome::Sound => "sound",
        };
        let value = json!({
            "outcome": outcome,
            "partitions": self.partitions,
            "segments": self.segments,
            "batches": self.batches,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "damaged": rows(|verdict| matches!(verdict, Verdict::Damaged(_))),
            "torn": rows(|verdict| matches!(verdict, Verdict::TornTail { .. } | Verdict::BehindTear { .. })),
            "missing": rows(|verdict| matches!(verdict, Verdict::CacheMissing)),
            "unreadable": rows(|verdict| matches!(verdict, Verdict::Unreadable(_))),
            "journals": rows(|verdict| matches!(verdict, Verdict::Journal(_))),
            "not_checked": rows(|verdict| matches!(verdict, Verdict::NotChecked)),
        });
        format!("{value:#}\n")
    }
}
