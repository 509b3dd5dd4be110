//! From data directories to shards that serve: take each over, read the metadata, open each shard's partitions.
//!
//! Blocking throughout, through `Files`: nothing is served yet. Every step can be cut off by a crash and done again.

mod directory;
mod error;
mod groups;
mod metadata;

use std::path::Path;
use std::sync::Arc;

pub use directory::{
    LeftBehind, format_added_directory, format_directory, read_meta_properties, sweep, take_over,
};
pub use error::{BootError, GroupBatchError};
pub use metadata::{MetadataRecovered, recover_metadata};

use self::directory::note_if_failed;
use self::error::storage;
use self::groups::load_groups;
pub(super) use self::groups::{GroupBatches, read_groups};
use self::metadata::{METADATA_TOPIC_ID, metadata_partition};
use super::background::ShardTimer;
use super::event::{RunningJobs, ShardEvent};
use super::image::{ImageQueue, new_partition, slow_request};
use super::loads::LoadsTold;
use super::moves::Moves;
use super::stop::StopStage;
use super::{Shard, milliseconds};
use crate::config::{Config, Levels, TopicConfig};
use crate::controller::{Controller, Registration, SingleWriter, register_broker};
use crate::limits::Limits;
use crate::log::journal::{Journal, JournalOptions, MappedJournal, PartitionKey};
use crate::log::layout::{self, FileSuffix};
use crate::log::{Damage, Damaged, Log, Now, RecoveryError, RecoveryInput, RecoveryReport, sync_file_system};
use crate::metadata::{GROUP_METADATA_TOPIC, Image, Partition};
use crate::metrics::{ApiNames, Meter, SlowRequests};
use crate::model::{LeaderEpoch, Offset, ShardId, TopicPartition};
use crate::net::{Admission, AdmissionLimits, ConnectionLimits, Connections};
use crate::partition::{
    BrokerLogConfig, DirectorySet, JournalNumbers, NewPartition, OfflineReason, PartitionSet,
    PartitionSetOptions, ScrubOptions, open_at_boot,
};
use crate::protocol::ApiKey;
use crate::reactor::{Files, Io, OpenMode, Timers};
use crate::record::{BatchView, Batches};
use crate::server::{ControllerSeat, FetchSessions, GroupSeat, PendingTable, Random, Scratch, ServerStats};

/// What one shard starts from.
pub struct BootInput {
    pub shard: ShardId,
    pub shard_count: u16,
    pub config: Arc<Config>,
    pub limits: Limits,
    pub admission: Arc<Admission>,
    pub directories: Arc<DirectorySet>,
    pub image: Arc<Image>,
    /// On shard 0: the metadata log and what the controller goes on from.
    pub metadata: Option<MetadataRecovered>,
    /// On shard 0: how this process is announced.
    pub registration: Registration,
}

/// What all shards of a process ask before they let a client in.
pub fn admission(limits: &Limits) -> Arc<Admission> {
    Arc::new(Admission::new(AdmissionLimits {
        connections_max: limits.connections,
        address_max: limits.address_connections,
        overrides: limits.connections_of.clone(),
    }))
}

/// How far the start of a shard has come.
pub enum BootStep<'a> {
    /// So many partitions are to be opened.
    Begun {
        partitions: usize,
    },
    /// So many bytes of logs were read since the last step.
    Read {
        bytes: u64,
    },
    Opened(&'a RecoveryReport),
    /// A partition is not served.
    Refused,
}

/// Opens this shard's partitions and makes its state. `progress` hears of each step.
pub fn boot(
    io: &mut dyn Io,
    input: BootInput,
    progress: &mut dyn FnMut(BootStep<'_>),
) -> Result<Shard, BootError> {
    let directories = Arc::clone(&input.directories);
    let shard = open_shard(io, input, progress);
    // Other directories fail alone, and leave their notes by themselves.
    note_if_failed(io.files(), &directories.metadata().path, |_| shard)
}

fn open_shard(
    io: &mut dyn Io,
    input: BootInput,
    progress: &mut dyn FnMut(BootStep<'_>),
) -> Result<Shard, BootError> {
    let BootInput {
        shard: id,
        shard_count,
        config,
        limits,
        admission,
        directories,
        image,
        metadata,
        registration,
    } = input;
    let seed = io.random();
    let mut partitions = PartitionSet::new(PartitionSetOptions {
        directories: Arc::clone(&directories),
        broker: broker_log_config(&config),
        tail_cache_bytes: usize::try_from(limits.shard_tail_cache_bytes).unwrap_or(usize::MAX),
        old_files_max: limits.shard_old_files as usize,
        fetch_read_bytes_max: limits.shard_fetch_read_bytes as usize,
        scrub: ScrubOptions {
            bytes_per_second: config.scrub_bytes_per_second.div_ceil(u64::from(shard_count)),
            interval: milliseconds(config.scrub_interval_ms),
        },
    });
    let group_partitions = image.topic(GROUP_METADATA_TOPIC).map(|topic| topic.partitions.len());
    let group_partitions =
        group_partitions.map(|count| i32::try_from(count).expect("partition counts fit an i32"));
    let mut groups = GroupSeat::new(&config, &limits, group_partitions, io.random());
    let mut events = Vec::new();
    let is_ours = |partition: &&Partition| image.owner_of(partition) == Some(id);
    let partitions_here = image.topics().map(|topic| topic.partitions.iter().filter(is_ours).count()).sum();
    progress(BootStep::Begun { partitions: partitions_here });
    for topic in image.topics() {
        for (index, partition) in topic.numbered() {
            if image.owner_of(partition) != Some(id) {
                continue;
            }
            let new = new_partition(&config, &image, topic, index);
            match open_partition(io, &config, &directories, &new, &mut groups, progress)? {
                Ok(log) => _ = partitions.insert(new, log),
                Err(reason) => {
                    progress(BootStep::Refused);
                    partitions.insert_offline(&new, reason.clone());
                    match (directories.index_of(new.directory), reason) {
                        // The others carry on; what is open of this one goes offline with it.
                        (Some(directory), OfflineReason::Storage(error)) => {
                            partitions.fail_directory(directory, error);
                        }
                        (_, reason @ OfflineReason::Damaged(_)) => {
                            events.push(ShardEvent::Unopened { at: new.at.clone(), reason });
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    end_recovery(io, id, &directories, &mut partitions)?;
    let mut metadata_log = None;
    let controller = metadata.map(|metadata| {
        let at = metadata_partition();
        let settings = Arc::new(TopicConfig::effective(&Levels::of_explicit(&config.explicit)));
        let new = NewPartition {
            at,
            topic_id: METADATA_TOPIC_ID,
            directory: directories.metadata().id,
            leader_epoch: LeaderEpoch(0),
            config: settings,
            is_internal: true,
        };
        metadata_log = Some(partitions.insert(new, metadata.log));
        let quorum = SingleWriter::new(image.local.node, metadata.last_term, metadata.last_index);
        let mut seat = ControllerSeat::new(Controller::new(Box::new(quorum), metadata.image), shard_count);
        seat.propose(register_broker(&registration));
        seat
    });
    events.extend(open_journals(io, id, &config, &directories, &mut partitions)?);
    let connection_limits = ConnectionLimits {
        requests_max: limits.connection_requests_in_flight as usize,
        response_bytes_max: usize::try_from(limits.connection_response_bytes).unwrap_or(usize::MAX),
        shard_reply_bytes_max: usize::try_from(limits.shard_reply_bytes).unwrap_or(usize::MAX),
        request_bytes_max: limits.request_bytes,
        connections_max: limits.shard_connections as usize,
        unfinished_bytes_max: usize::try_from(limits.shard_request_bytes).unwrap_or(usize::MAX),
    };
    let mut shard = Shard {
        id,
        connections: Connections::new(
            connection_limits,
            admission,
            milliseconds(config.connections_max_idle_ms),
        ),
        partitions,
        pending: PendingTable::new(id),
        sessions: FetchSessions::new(
            limits.shard_fetch_sessions as usize,
            limits.fetch_session_partitions as usize * 16,
            milliseconds(FETCH_SESSION_EVICTION_MS),
        ),
        groups,
        controller,
        metadata_log,
        server_timers: Timers::new(),
        timers: Timers::<ShardTimer>::new(),
        random: Random::new(seed),
        jobs: Vec::new(),
        running_jobs: RunningJobs::default(),
        stats: ServerStats::default(),
        scratch: Scratch::default(),
        meter: Meter::new(id, api_names()),
        slow: SlowRequests::new(slow_request(&config, &image)),
        enters: 0,
        refused: 0,
        journal_numbers: JournalNumbers::default(),
        completions: Vec::new(),
        doorbells: Vec::new(),
        events,
        images: ImageQueue::default(),
        moves: Moves::default(),
        loads_told: LoadsTold::default(),
        stop: StopStage::Running,
        stopped_peers: 0,
        entrances: Vec::new(),
        boot_version: image.version,
        registration,
        config,
        image,
    };
    shard.partitions.meter_journals(shard.meter.journal());
    shard.start_background(io);
    Ok(shard)
}

/// Opens one of this shard's partitions, or says why it is offline. Errors: the broker cannot start with what was found.
fn open_partition(
    io: &mut dyn Io,
    config: &Config,
    directories: &DirectorySet,
    new: &NewPartition,
    groups: &mut GroupSeat,
    progress: &mut dyn FnMut(BootStep<'_>),
) -> Result<Result<Log, OfflineReason>, BootError> {
    let Some(index) = directories.index_of(new.directory) else {
        return Ok(Err(OfflineReason::NoDirectory(new.directory)));
    };
    let directory = directories.get(index);
    if let Some(error) = directory.failure() {
        return Ok(Err(OfflineReason::Storage(Arc::clone(error))));
    }
    let (recovery_point, log_start) = directory.book.adopt(&new.at, new.topic_id);
    let key = PartitionKey { topic_id: new.topic_id, partition: new.at.partition };
    let redone = directory.redone.partitions.get(&key);
    if let Some(damaged) = redone.and_then(|redone| redone.damaged.clone()) {
        return Ok(Err(OfflineReason::Damaged(damaged)));
    }
    let journaled_end = redone.map_or(0, |redone| redone.end_offset);
    let recovery = RecoveryInput { recovery_point, log_start, journaled_end, is_clean: directory.was_clean };
    let now = Now::read(io);
    let opened = open_at_boot(
        io.files(),
        &directory.path,
        &directory.book,
        new,
        broker_log_config(config),
        &recovery,
        now.wall,
        &mut |bytes| progress(BootStep::Read { bytes }),
    );
    // Without the first directory there is no broker, so its storage errors keep it from starting.
    let may_fail = index != DirectorySet::METADATA;
    let (log, report) = match opened {
        Ok(opened) => opened,
        // The others are served.
        Err(RecoveryError::Damaged(damaged)) => return Ok(Err(OfflineReason::Damaged(damaged))),
        Err(RecoveryError::Storage(error)) if may_fail => {
            return Ok(Err(OfflineReason::Storage(Arc::new(error))));
        }
        Err(error) => return Err(BootError::Recovery { at: new.at.clone(), error }),
    };
    if new.is_internal
        && let Err(error) = load_groups(io.files(), now, &new.at, &log, groups)
    {
        log.close_files(io);
        return match error {
            // A coordinator whose records are damaged is none: its groups are never shown empty.
            BootError::Recovery { error: RecoveryError::Damaged(damaged), .. } => {
                groups.resign(now, new.at.partition);
                Ok(Err(OfflineReason::Damaged(damaged)))
            }
            BootError::Storage(error) if may_fail => {
                groups.resign(now, new.at.partition);
                Ok(Err(OfflineReason::Storage(Arc::new(error))))
            }
            error => Err(error),
        };
    }
    progress(BootStep::Opened(&report));
    Ok(Ok(log))
}

/// Sees to it that each directory can be built upon: the checkpoints know the partitions that were made just now, and nothing that
/// was read is in the page cache alone.
fn end_recovery(
    io: &mut dyn Io,
    shard: ShardId,
    directories: &DirectorySet,
    partitions: &mut PartitionSet,
) -> Result<(), BootError> {
    for (index, directory) in directories.iter().filter(|(_, directory)| directory.failure().is_none()) {
        let files = io.files();
        // What recovery read is flushed by now. But a flush that failed before the process was killed is not repeated, and has no
        // note; the kernel remembers it. One shard asks for all.
        let asks = shard == ShardId(0) && !directory.was_clean;
        let flushed = directory.book.flush(files);
        let ended = flushed.and_then(|()| match asks {
            true => sync_file_system(files, &directory.path, None),
            false => Ok(()),
        });
        match ended {
            Ok(()) => {}
            Err(error) if index != DirectorySet::METADATA => {
                partitions.fail_directory(index, Arc::new(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn broker_log_config(config: &Config) -> BrokerLogConfig {
    BrokerLogConfig {
        producer_id_expiration_ms: config.producer_id_expiration_ms,
        journal_bypass_bytes: config.journal_bypass_bytes,
    }
}

/// Makes this shard's journals, one in each directory that can have one. Returns what is to be told of the others.
fn open_journals(
    io: &mut dyn Io,
    shard: ShardId,
    config: &Config,
    directories: &DirectorySet,
    partitions: &mut PartitionSet,
) -> Result<Vec<ShardEvent>, BootError> {
    let mut events = Vec::new();
    for (index, directory) in directories.iter() {
        // Drawn for each, so that a failure changes no other random number.
        let id = io.random();
        if directory.failure().is_some() {
            continue;
        }
        let options =
            JournalOptions { size_bytes_max: config.journal_size_bytes, has_fua: directory.has_fua };
        let files = io.files();
        match Journal::create(files, &directory.path, shard.0, id, options) {
            Ok(journal) => {
                let path = journal.path().to_owned();
                let sync_file = files.open(&path, OpenMode::Read).map_err(storage("open journal", &path))?;
                partitions.use_journal(index, journal, sync_file, config.journal_memory_bytes);
                if directory.can_map {
                    let size = config.journal_size_bytes;
                    match MappedJournal::create(files, &directory.path, shard.0, id, size) {
                        Ok(mapped) => partitions.use_mapped_journal(index, mapped),
                        Err(error) => events.push(ShardEvent::NoMappedJournal { error }),
                    }
                }
            }
            Err(error) if error.is_unsupported() => {
                if shard == ShardId(0) {
                    events.push(ShardEvent::NoJournal { path: directory.path.clone() });
                }
            }
            Err(error) if index != DirectorySet::METADATA => {
                partitions.fail_directory(index, Arc::new(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(events)
}

/// The APIs whose requests are timed.
fn api_names() -> ApiNames {
    static NAMES: std::sync::OnceLock<Vec<(i16, &'static str)>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| ApiKey::ALL.iter().map(|api| (api.key(), api.name())).collect())
}

/// A session in use for less than this is not evicted for another. Source: Apache Kafka,
/// `min.incremental.fetch.session.eviction.ms`.
const FETCH_SESSION_EVICTION_MS: u64 = 120_000;

/// Walks the batches of a recovered log between two offsets and checks each: recovery has not read what was flushed.
/// Errors: Damaged; what was taken before is then not to be used.
fn for_each_batch(
    files: &mut dyn Files,
    at: &TopicPartition,
    directory: &Path,
    log_start: Offset,
    log_end: Offset,
    take: &mut dyn FnMut(&BatchView<'_>) -> Result<(), BootError>,
) -> Result<(), BootError> {
    let names = files.list(directory).map_err(storage("list", directory))?;
    let mut bases: Vec<Offset> = names
        .iter()
        .filter_map(|entry| layout::parse_offset_file(&entry.name))
        .filter(|(_, suffix)| *suffix == FileSuffix::Log)
        .map(|(base, _)| base)
        .collect();
    bases.sort_unstable();
    for base in bases {
        let path = layout::offset_file(directory, base, FileSuffix::Log);
        let bytes = files.read_all(&path).map_err(storage("read segment", &path))?;
        let mut position = 0;
        for batch in Batches::new(&bytes) {
            let checked = batch.and_then(|batch| batch.check_crc().map(|()| batch));
            let batch = checked.map_err(|invalid| {
                let damaged = Damaged { path: path.clone(), position, damage: Damage::Batch(invalid) };
                BootError::Recovery { at: at.clone(), error: damaged.into() }
            })?;
            position += batch.size_bytes() as u64;
            if batch.last_offset() >= log_start && batch.last_offset() < log_end {
                take(&batch)?;
            }
        }
    }
    Ok(())
}
