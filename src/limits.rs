//! Every bound of the process, worked out once at start from the configuration and the host.
//!
//! A room that keeps something per connection, group, fetch or peer asks here how many it may keep, and says at the bound
//! what its comment says here. Nothing grows because a peer wants it to. Requests that wait, for bytes or for their durability
//! level, need no bound of their own: each is one of its connection's requests in flight. Bounds that no setting
//! changes stand beside their user: messages between two shards in `mesh/mailbox`, log lines under way in `control`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::Config;

/// What the host gives, as `host` found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resources {
    /// Memory this process may use: the machine's, or its cgroup's bound if that is less.
    pub memory_bytes: u64,
    /// `RLIMIT_NOFILE` after raising it.
    pub open_files: u64,
}

/// The bounds. Those named `shard_` hold for each shard, the others for the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    pub shards: u16,

    /// At these bounds a new connection is closed at once: of all shards, of a client's address, of some addresses.
    pub connections: u32,
    pub address_connections: u32,
    pub connections_of: BTreeMap<IpAddr, u32>,
    /// As many as a shard has room for. At the bound a new connection is closed at once.
    pub shard_connections: u32,
    /// At the bound the connection is not read from until a reply has left.
    pub connection_requests_in_flight: u32,
    /// At the bound the connection is not read from until bytes have left. One response may go beyond it.
    pub connection_response_bytes: u64,
    /// Unsent replies of all connections. Of what is free of it one connection may hold a quarter: at that bound it is not read
    /// from, and fetches are answered with less, at the bound of the shard with a batch or 64 KiB.
    pub shard_reply_bytes: u64,
    /// A longer frame closes the connection before anything is allocated.
    pub request_bytes: u32,
    /// Unfinished requests of all connections. The connection that brings more is closed.
    pub shard_request_bytes: u64,

    /// At the bound the oldest session of the shard's connections is dropped, or none is given.
    pub shard_fetch_sessions: u32,
    /// Partitions of a large fetch session. The sessions of a shard remember sixteen times as many together; a fetch beyond
    /// that gets no session.
    pub fetch_session_partitions: u32,

    /// A group beyond the bound is refused with COORDINATOR_LOAD_IN_PROGRESS, which clients retry.
    pub groups: u32,
    pub group_members: u32,
    /// Partitions of all topics; creating more is refused with POLICY_VIOLATION.
    pub partitions: u32,

    /// Recent records in memory; the oldest go first.
    pub shard_tail_cache_bytes: u64,
    /// Bytes that disk reads of fetches may bring that are under way; the others wait in order. Enough to keep a disk busy; more
    /// would only stand in its queue, before the writes of producers, and take memory that nobody has bounded.
    pub shard_fetch_read_bytes: u32,
    /// Files of sealed segments held open; the least recently read is closed, and opened again when it is read.
    pub shard_old_files: u32,
    /// Operations on files in flight: a write, a flush and a reservation for each of many logs.
    pub shard_file_operations: u32,
    /// Memory that the kernel locks for a shard's ring.
    pub shard_ring_bytes: u64,

    /// Last events kept for the dump on a failed assertion.
    pub shard_trace_events: u32,
}

/// The memory of requests when `queued.max.request.bytes` leaves it to us.
const REQUEST_MEMORY_BYTES_MAX: u64 = 4 << 30;
const REPLY_MEMORY_BYTES_MAX: u64 = 4 << 30;
const FETCH_SESSION_PARTITIONS: u32 = 10_000;
const FETCH_READ_BYTES: u32 = 16 << 20;
const OLD_FILES_MAX: u64 = 1024;
const FILE_OPERATIONS: u32 = 4096;
const TRACE_EVENTS: u32 = 4096;

/// Fewer connections than this may all come to one shard.
const SPREAD_CONNECTIONS_MIN: u32 = 256;

const _: () = assert!(TRACE_EVENTS > 0, "a trace holds events");
const _: () = assert!(REQUEST_MEMORY_BYTES_MAX > i32::MAX as u64, "one request of any legal size fits");

impl Limits {
    /// The bounds of a process with this many shards.
    pub fn new(config: &Config, shards: u16, host: Resources) -> Limits {
        assert!(shards > 0, "a broker has a shard");
        let each = |total: u32| total.div_ceil(u32::from(shards)).max(1);
        let request_memory = config
            .queued_request_bytes_max
            .unwrap_or_else(|| (host.memory_bytes / 4).min(REQUEST_MEMORY_BYTES_MAX))
            // One whole request must fit on each shard, or a legal one could never be received.
            .max(u64::from(config.request_bytes_max) * u64::from(shards));
        // SO_REUSEPORT spreads connections by hash, not evenly: a shard may take a quarter more than its share, and all of few.
        let shard_connections = each(config.connections_max + config.connections_max / 4)
            .max(config.connections_max.min(SPREAD_CONNECTIONS_MIN))
            // Direct descriptors take none of the process's, but the kernel bounds the table of each ring by RLIMIT_NOFILE
            // (io_uring/rsrc.c, io_sqe_files_register).
            .min(u32::try_from(host.open_files).unwrap_or(u32::MAX));
        let limits = Limits {
            shards,
            connections: config.connections_max,
            address_connections: config.connections_per_address_max,
            connections_of: config.connections_of_addresses.clone(),
            shard_connections,
            connection_requests_in_flight: config.connection_requests_in_flight_max,
            connection_response_bytes: config.connection_response_bytes_max,
            shard_reply_bytes: (host.memory_bytes / 8).min(REPLY_MEMORY_BYTES_MAX) / u64::from(shards),
            request_bytes: config.request_bytes_max,
            shard_request_bytes: request_memory / u64::from(shards),
            shard_fetch_sessions: if config.fetch_sessions_max == 0 {
                0
            } else {
                each(config.fetch_sessions_max)
            },
            fetch_session_partitions: FETCH_SESSION_PARTITIONS,
            groups: config.groups_max,
            group_members: config.group_members_max,
            partitions: config.partitions_max,
            shard_tail_cache_bytes: config.tail_cache_bytes,
            shard_fetch_read_bytes: FETCH_READ_BYTES,
            // Of the process's files an eighth: a partition that is written to has one of its own.
            shard_old_files: (host.open_files / 8 / u64::from(shards)).clamp(16, OLD_FILES_MAX) as u32,
            shard_file_operations: FILE_OPERATIONS,
            shard_ring_bytes: ring_bytes(shard_connections),
            shard_trace_events: TRACE_EVENTS,
        };
        assert!(
            limits.shard_request_bytes >= u64::from(limits.request_bytes),
            "{} request bytes on a shard, {} for one request",
            limits.shard_request_bytes,
            limits.request_bytes
        );
        limits
    }
}

/// What a ring takes of RLIMIT_MEMLOCK: 16 bytes for each entry of a completion queue that holds three operations of every
/// connection and those of files, with a quarter to spare; 68 bytes for each of 1024 submissions; and the pages around them.
/// The sizes are `reactor::RingOptions`'.
fn ring_bytes(connections: u32) -> u64 {
    let in_flight = 3 * u64::from(connections) + u64::from(FILE_OPERATIONS);
    let completions = (in_flight + in_flight / 4).next_power_of_two().clamp(4096, 65_536);
    16 * completions + 68 * 1024 + (64 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Resources = Resources { memory_bytes: 8 << 30, open_files: 65_536 };

    #[test]
    fn shares_of_the_shards_cover_the_process() {
        let config = Config::default();
        for shards in [1, 2, 3, 7, 64] {
            let limits = Limits::new(&config, shards, HOST);
            let all = limits.shard_connections * u32::from(shards);
            assert!(all >= config.connections_max, "{all} connections on {shards} shards");
            assert!(limits.shard_fetch_sessions * u32::from(shards) >= config.fetch_sessions_max);
        }
    }

    #[test]
    fn few_connections_may_all_come_to_one_shard() {
        let config = Config { connections_max: 10, ..Config::default() };
        assert_eq!(Limits::new(&config, 4, HOST).shard_connections, 10);
    }

    #[test]
    fn one_whole_request_fits_on_every_shard_of_a_small_host() {
        let host = Resources { memory_bytes: 64 << 20, open_files: 64 };
        let config = Config::default();
        let limits = Limits::new(&config, 8, host);
        assert!(limits.shard_request_bytes >= u64::from(config.request_bytes_max));
        assert!(limits.shard_connections <= 64, "a ring's table is bounded by the open files");
    }

    #[test]
    fn no_fetch_sessions_means_none() {
        let config = Config { fetch_sessions_max: 0, ..Config::default() };
        assert_eq!(Limits::new(&config, 4, HOST).shard_fetch_sessions, 0);
    }
}
