//! The one table of metrics.

/// What a metric is, in Prometheus' terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Quantiles; 1 is the largest value.
    Summary,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    /// As Prometheus wants it, the unit is in the name; empty for what is counted.
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        let units = [("microseconds", "µs"), ("seconds", "s"), ("_ms", "ms"), ("_bytes", "bytes")];
        units.iter().find(|(ending, _)| name.ends_with(ending)).map_or("", |(_, unit)| unit)
    }
}

macro_rules! scalars {
    ($(#[$doc:meta])* $enum:ident of $kind:ident { $($variant:ident = $name:literal, $help:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum $enum { $( #[doc = $help] $variant, )+ }

        impl $enum {
            pub const ALL: &'static [$enum] = &[ $( $enum::$variant, )+ ];

            pub fn metric(self) -> &'static Metric {
                match self {
                    $( $enum::$variant => &Metric { name: $name, kind: Kind::$kind, labels: &["shard"], help: $help }, )+
                }
            }
        }
    };
}

scalars! {
    /// What a shard counts; only ever rises.
    Counter of Counter {
        ConnectionsAccepted = "corelog_connections_accepted_total", "Connections accepted.";
        ConnectionsRefused = "corelog_connections_refused_total", "Connections closed at once because a bound was reached.";
        ConnectionsIdle = "corelog_connections_idle_total", "Connections closed because they were idle for too long.";
        ConnectionsMalformed = "corelog_connections_malformed_total", "Connections closed because what they sent made no sense.";
        ReceivedBytes = "corelog_received_bytes_total", "Bytes received from clients.";
        SentBytes = "corelog_sent_bytes_total", "Bytes sent to clients.";
        Sends = "corelog_sends_total", "Sends to clients, each of all replies that a connection had ready.";
        Requests = "corelog_requests_total", "Requests taken up.";
        AppendedBatches = "corelog_appended_batches_total", "Record batches appended.";
        AppendedRecords = "corelog_appended_records_total", "Records appended.";
        AppendedBytes = "corelog_appended_bytes_total", "Bytes of record batches appended.";
        FetchParts = "corelog_fetch_partitions_total", "Partitions that fetches looked at; those of a session in which nothing has changed are not.";
        MemoryReads = "corelog_fetch_memory_reads_total", "Reads of a partition that found their records in memory: hits of the tail cache.";
        DiskReads = "corelog_fetch_disk_reads_total", "Reads of a partition that went to the disk.";
        MemoryReadBytes = "corelog_fetch_memory_read_bytes_total", "Bytes that fetches found in memory.";
        DiskReadBytes = "corelog_fetch_disk_read_bytes_total", "Bytes that were read from segments for fetches, from the page cache or the device.";
        PipedBytes = "corelog_fetch_piped_bytes_total", "Bytes of segments that went from the page cache to clients without a copy.";
        DiskReadsWaitedUs = "corelog_fetch_disk_reads_waited_us_total", "Time that reads from the disk waited for their turn, in microseconds, added up.";
        OldFilesClosed = "corelog_old_segment_files_closed_total", "Files of old segments that were closed to hold no more of them open than may be.";
        DuplicateBatches = "corelog_duplicate_batches_total", "Batches that an idempotent producer had sent before.";
        ScrubBytes = "corelog_scrub_bytes_total", "Bytes of old segments read again and checked.";
        ScrubDamaged = "corelog_scrub_damaged_total", "Batches found damaged, and segments that could not be read, while checking old segments.";
        ReadErrors = "corelog_read_errors_total", "Reads of segments that the disk refused; a second file of a data directory takes it offline.";
        Rounds = "corelog_rounds_total", "Rounds of the loop.";
        RingEnters = "corelog_ring_enters_total", "System calls that handed operations to the ring, or waited for their ends.";
        GaveWay = "corelog_gave_way_total", "Rounds after which a shard let the kernel's workers have its core: stores of a mapped journal were behind.";
        MeshMessages = "corelog_mesh_messages_total", "Messages received from other shards.";
        CopiedBytes = "corelog_copied_bytes_total", "Bytes of records copied in memory on their way from the socket to the log.";
        JournalGroups = "corelog_journal_groups_total", "Groups written to journals, each with one flush.";
        JournalEntries = "corelog_journal_entries_total", "Entries in these groups.";
        JournalEntryBytes = "corelog_journal_entry_bytes_total", "Bytes of these entries.";
        JournalWrittenBytes = "corelog_journal_written_bytes_total", "Bytes written to journals, headers and padding included.";
        JournalCheckpoints = "corelog_journal_checkpoints_total", "Checkpoints, each of which released a part of a journal.";
        JournalWaits = "corelog_journal_waits_total", "Times that a partition's batches waited for a checkpoint or for memory: back-pressure.";
        JournalWaitedUs = "corelog_journal_waited_microseconds_total", "How long they waited, in microseconds.";
        JournalFlushes = "corelog_journal_flushes_total", "Flushes of the device for groups of journals.";
        MappedGroups = "corelog_mapped_journal_groups_total", "Groups put into mapped journals, for topics that are acknowledged without a flush: no write, no flush.";
        MappedEntryBytes = "corelog_mapped_journal_entry_bytes_total", "Bytes of their entries.";
        MappedCheckpoints = "corelog_mapped_journal_checkpoints_total", "Checkpoints of mapped journals: all they held was written to segments.";
        SegmentFlushes = "corelog_segment_flushes_total", "Flushes of segment files (fdatasync), with a write or alone.";
        SlotMoves = "corelog_slot_moves_total", "Slots that have come to another core, whoever wanted it; counted on the first shard.";
        BalancerMoves = "corelog_balancer_moves_total", "Moves of slots that the balancer has begun; counted on the first shard.";
        FileSystemFlushes = "corelog_file_system_flushes_total", "Flushes of a whole file system (syncfs) for checkpoints of journals.";
    }
}

scalars! {
    /// What a shard has at the moment.
    Gauge of Gauge {
        Connections = "corelog_connections", "Open connections.";
        OperationsInFlight = "corelog_operations_in_flight", "Operations in the ring.";
        OldestFileOperationMs = "corelog_oldest_file_operation_ms", "Age of the oldest unfinished disk operation, in milliseconds.";
        PendingRequests = "corelog_pending_requests", "Requests waiting: for bytes, for a durability level, for another shard or a coordinator.";
        ReplyBytes = "corelog_reply_bytes", "Bytes of replies that clients have not taken yet; above its bound fetches bring less.";
        TailCacheBytes = "corelog_tail_cache_bytes", "Recent records kept in memory.";
        ReadBytes = "corelog_fetch_read_bytes", "Bytes that reads from the disk may bring which are under way for fetches.";
        ReadsWaiting = "corelog_fetch_reads_waiting", "Reads from the disk that wait until others have ended.";
        OldFiles = "corelog_old_segment_files", "Files of old segments that are held open.";
        FetchSessions = "corelog_fetch_sessions", "Incremental fetch sessions.";
        JournalUsedBytes = "corelog_journal_used_bytes", "Bytes of journals that recovery would need.";
        JournalCapacityBytes = "corelog_journal_capacity_bytes", "Bytes that journals have room for, as they are now.";
        JournalPinnedBytes = "corelog_journal_pinned_bytes", "Journaled bytes in memory, on their way to segments.";
        MappedUsedBytes = "corelog_mapped_journal_used_bytes", "Bytes of mapped journals that a start after `kill -9` would need.";
        MappedCapacityBytes = "corelog_mapped_journal_capacity_bytes", "Bytes that mapped journals have room for, as they are now.";
        Partitions = "corelog_partitions", "Partitions this shard owns.";
        MetadataVersion = "corelog_metadata_version", "Version of the metadata image this shard serves by.";
    }
}

/// A phase of the loop, in the order of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Phase {
    Reap,
    Mailboxes,
    Timers,
    Requests,
    Commit,
    Sends,
    Doorbells,
    Wait,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Reap,
        Phase::Mailboxes,
        Phase::Timers,
        Phase::Requests,
        Phase::Commit,
        Phase::Sends,
        Phase::Doorbells,
        Phase::Wait,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Reap => "reap",
            Phase::Mailboxes => "mailboxes",
            Phase::Timers => "timers",
            Phase::Requests => "requests",
            Phase::Commit => "commit",
            Phase::Sends => "sends",
            Phase::Doorbells => "doorbells",
            Phase::Wait => "wait",
        }
    }
}

/// Why the journal takes no more of a partition's batches for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum JournalWait {
    /// Its blocks are taken until a checkpoint ends: back-pressure.
    Ring,
    /// Too much of what it holds is in memory only: back-pressure.
    Memory,
    /// The group that forms is full; the next one takes the rest.
    Group,
}

impl JournalWait {
    pub const ALL: [JournalWait; 3] = [JournalWait::Ring, JournalWait::Memory, JournalWait::Group];

    pub fn name(self) -> &'static str {
        match self {
            JournalWait::Ring => "ring",
            JournalWait::Memory => "memory",
            JournalWait::Group => "group",
        }
    }

    pub fn is_back_pressure(self) -> bool {
        self != JournalWait::Group
    }
}

/// A family of histograms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timing {
    Phase,
    Round,
    Mailbox,
    Hop,
    Request,
    Produce,
    Fetch,
    JournalWait,
    JournalCommit,
    JournalCheckpoint,
    JournalGroupBytes,
    JournalGroupEntries,
}

impl Timing {
    pub const ALL: [Timing; 12] = [
        Timing::Phase,
        Timing::Round,
        Timing::Mailbox,
        Timing::Hop,
        Timing::Request,
        Timing::Produce,
        Timing::Fetch,
        Timing::JournalWait,
        Timing::JournalCommit,
        Timing::JournalCheckpoint,
        Timing::JournalGroupBytes,
        Timing::JournalGroupEntries,
    ];

    /// The values are nanoseconds; else they are counts.
    pub fn is_time(self) -> bool {
        !matches!(self, Timing::Mailbox | Timing::JournalGroupBytes | Timing::JournalGroupEntries)
    }

    pub fn metric(self) -> &'static Metric {
        match self {
            Timing::Phase => &Metric {
                name: "corelog_loop_phase_seconds",
                kind: Kind::Histogram,
                labels: &["shard", "phase"],
                help: "Time in each phase of a shard's loop.",
            },
            Timing::Round => &Metric {
                name: "corelog_loop_round_seconds",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Time of a whole round of a shard's loop, without the wait at its end.",
            },
            Timing::Mailbox => &Metric {
                name: "corelog_mailbox_messages",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Messages that a shard found in its mailboxes, of rounds that found any.",
            },
            Timing::Hop => &Metric {
                name: "corelog_mesh_hop_seconds",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Time from sending a produce or fetch message to another shard until that one (the label) took it.",
            },
            Timing::Request => &Metric {
                name: "corelog_request_seconds",
                kind: Kind::Histogram,
                labels: &["api"],
                help: "Time from a request's last byte to its reply on the way, waiting included.",
            },
            Timing::Produce => &Metric {
                name: "corelog_produce_stage_seconds",
                kind: Kind::Summary,
                labels: &["durability", "path", "stage"],
                help: "Time of produce requests in each stage, and in all of them (`total`), by durability and write path; `none`: refused.",
            },
            Timing::Fetch => &Metric {
                name: "corelog_fetch_stage_seconds",
                kind: Kind::Summary,
                labels: &["source", "stage"],
                help: "Time of fetch requests in each stage, and in all of them (`total`), by where the records were; `none`: there were none.",
            },
            Timing::JournalWait => &Metric {
                name: "corelog_journal_wait_seconds",
                kind: Kind::Histogram,
                labels: &["shard", "cause"],
                help: "Time that a partition's batches waited to be taken by the journal: `ring` and `memory` are back-pressure, `group` is a full group that the next one follows.",
            },
            Timing::JournalCommit => &Metric {
                name: "corelog_journal_commit_seconds",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Time from submitting a group of the journal until it is flushed.",
            },
            Timing::JournalCheckpoint => &Metric {
                name: "corelog_journal_checkpoint_seconds",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Time of a checkpoint, from its begin until everything is in the segments, flushed.",
            },
            Timing::JournalGroupBytes => &Metric {
                name: "corelog_journal_group_bytes",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Bytes written for a group of the journal, header and padding included.",
            },
            Timing::JournalGroupEntries => &Metric {
                name: "corelog_journal_group_entries",
                kind: Kind::Histogram,
                labels: &["shard"],
                help: "Entries in a group of the journal.",
            },
        }
    }
}

/// Counts of the busiest partitions of each shard; a partition is named as long as it is one of them.
pub const PARTITION_METRICS: [Metric; 3] = [
    Metric {
        name: "corelog_partition_appended_bytes_total",
        kind: Kind::Counter,
        labels: &["topic", "partition"],
        help: "Bytes appended to a partition, of the busiest ones.",
    },
    Metric {
        name: "corelog_partition_appended_records_total",
        kind: Kind::Counter,
        labels: &["topic", "partition"],
        help: "Records appended to a partition, of the busiest ones.",
    },
    Metric {
        name: "corelog_partition_fetched_bytes_total",
        kind: Kind::Counter,
        labels: &["topic", "partition"],
        help: "Bytes read from a partition by clients, of the busiest ones.",
    },
];

/// What the process says of itself.
pub const PROCESS_METRICS: [Metric; 3] = [
    Metric { name: "corelog_info", kind: Kind::Gauge, labels: &["version"], help: "What runs; always 1." },
    Metric {
        name: "corelog_uptime_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Time since the process started.",
    },
    Metric {
        name: "corelog_ready",
        kind: Kind::Gauge,
        labels: &[],
        help: "Whether the broker serves clients.",
    },
];

/// Every metric, in the order of the metrics page.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    let counters = Counter::ALL.iter().map(|counter| counter.metric());
    let gauges = Gauge::ALL.iter().map(|gauge| gauge.metric());
    counters
        .chain(gauges)
        .chain(Timing::ALL.iter().map(|timing| timing.metric()))
        .chain(&PARTITION_METRICS)
        .chain(&PROCESS_METRICS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_prometheus() {
        let mut seen = BTreeSet::new();
        for metric in metrics() {
            assert!(seen.insert(metric.name), "{} twice", metric.name);
            assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
        for timing in Timing::ALL {
            assert_eq!(timing.is_time(), timing.metric().unit() == "s", "{timing:?}");
        }
        for (index, wait) in JournalWait::ALL.iter().enumerate() {
            assert_eq!(*wait as usize, index);
        }
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
        for (index, gauge) in Gauge::ALL.iter().enumerate() {
            assert_eq!(*gauge as usize, index);
        }
    }
}
