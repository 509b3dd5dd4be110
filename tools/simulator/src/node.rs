//! The broker's shards on the model, from start to crash or stop.

use std::path::Path;
use std::sync::Arc;

use corelog::config::{self, Config};
use corelog::controller::{Format, Registration};
use corelog::limits::{Limits, Resources};
use corelog::log::{CheckpointBook, write_clean_shutdown};
use corelog::mesh::sim::SimMesh;
use corelog::metadata::Local;
use corelog::metrics::SlotMoveOutcome;
use corelog::model::{NodeId, PlacementSlot, ShardId, Uuid};
use corelog::net::Entrance;
use corelog::partition::{DataDirectory, DirectorySet};
use corelog::reactor::Io;
use corelog::reactor::sim::{SimIo, SimWorld};
use corelog::shard::{
    self, BootInput, Command, Shard, ShardEvent, admission, boot, format_directory, read_meta_properties,
    recover_metadata,
};

pub const DATA: &str = "/data";

/// No byte of a segment is written over once it is written, whatever the way to the disk.
pub const WRITTEN_ONCE: &[&str] = &[".log", "segment.next"];

/// What came of a move, once that is known: whether the slot is there.
pub type MoveTold = Arc<std::sync::Mutex<Option<bool>>>;

/// A running node.
pub struct Node {
    shards: Vec<(Shard, SimIo, SimMesh)>,
    pub port: u16,
    stopped: usize,
    /// A shard met a storage failure: the real process would stop here.
    pub failed: bool,
    /// Moves of slots that the balancer has begun.
    pub balanced: u32,
}

/// The settings that every simulated node has; small segments and checkpoints make rare things common.
pub fn config(settings: &[String]) -> Arc<Config> {
    let written: Vec<_> =
        settings.iter().map(|text| config::parse_set(text).expect("a setting of the plan")).collect();
    Arc::new(config::parse(None, &written).expect("settings of the plan are valid").config)
}

impl Node {
    /// Starts the node on whatever the disk holds. Errors: why it did not come up; a machine that stopped meanwhile is why
    /// enough, anything else means that what was on the disk is gone or was not understood.
    pub fn start(
        world: &SimWorld,
        config: &Arc<Config>,
        shard_count: u16,
        seed: u64,
    ) -> Result<Node, String> {
        let mut files = world.files();
        let path = Path::new(DATA);
        let mut io = world.io(ShardId(0));
        let (now, id) = (io.wall_clock(), |io: &mut SimIo| Uuid::from_random(|| io.random()));
        let files: &mut dyn corelog::reactor::Files = &mut files;
        if files.kind(path).map_err(|error| error.to_string())?.is_none() {
            files.create_directory(path).map_err(|error| error.to_string())?;
            files.sync_directory(Path::new("/")).map_err(|error| error.to_string())?;
        }
        let properties = match read_meta_properties(files, path).map_err(|error| error.to_string())? {
            Some(properties) => properties,
            None => {
                let format = Format {
                    cluster_id: id(&mut io),
                    slots: 64,
                    endpoints: shard_count.min(16),
                    min_insync_replicas: 1,
                };
                format_directory(files, path, NodeId(1), &format, id(&mut io), now)
                    .map_err(|error| error.to_string())?
            }
        };
        let left = shard::take_over(files, path, &mut |_| ()).map_err(|error| error.to_string())?;
        let shard::LeftBehind { was_clean, redone, .. } = left;
        let book = Arc::new(CheckpointBook::load(files, path).map_err(|error| error.to_string())?);
        let local = Local { node: NodeId(1), shards: shard_count };
        let metadata = recover_metadata(files, path, &properties, local, &book, &redone, now);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => return Err(format!("the metadata does not come back: {error}")),
        };
        let directory = DataDirectory::new(path.to_owned(), properties.directory_id, book, was_clean)
            .with_journals(redone, false, true);
        let directories = Arc::new(DirectorySet::of_one(directory));
        shard::sweep(files, &directories, DirectorySet::METADATA, &metadata.image)
            .map_err(|error| error.to_string())?;
        let image = Arc::new(metadata.image.clone());
        let mut metadata = Some(metadata);
        let limits =
            Limits::new(config, shard_count, Resources { memory_bytes: 1 << 30, open_files: 100_000 });
        let admission = admission(&limits);
        let mut meshes = corelog::mesh::sim::mesh(shard_count, seed).into_iter();
        let mut shards = Vec::new();
        let mut port = 0;
        let mut listeners = Vec::new();
        for index in 0..shard_count {
            let mut io = world.io(ShardId(index));
            let (listener, bound) = io.listen(port);
            port = bound;
            let input = BootInput {
                shard: ShardId(index),
                shard_count,
                config: Arc::clone(config),
                limits: limits.clone(),
                admission: Arc::clone(&admission),
                directories: Arc::clone(&directories),
                image: Arc::clone(&image),
                metadata: metadata.take(),
                registration: Registration {
                    node: NodeId(1),
                    host: "sim".into(),
                    port,
                    endpoint_ports: Vec::new(),
                    rack: None,
                    directories: vec![properties.directory_id],
                },
            };
            let shard = match boot(&mut io, input, &mut |_| {}) {
                Ok(shard) => shard,
                Err(error) => return Err(format!("shard {index} does not come back: {error}")),
            };
            // A real node serves the others; here nothing may be damaged.
            if let Some(offline) = shard.partitions().iter_offline().next() {
                return Err(format!("{} does not come back: {}", offline.at, offline.reason));
            }
            listeners.push(listener);
            shards.push((shard, io, meshes.next().expect("a mesh end for each shard")));
        }
        for ((shard, io, _), listener) in shards.iter_mut().zip(listeners) {
            shard.serve(io, vec![Entrance { listener, endpoint: None }]);
        }
        Ok(Node { shards, port, stopped: 0, failed: false, balanced: 0 })
    }

    /// One round of one shard.
    pub fn turn(&mut self, shard: ShardId) {
        let (shard, io, mesh) = &mut self.shards[usize::from(shard.0)];
        if shard.has_stopped() {
            io.wait(corelog::model::Monotonic::NEVER);
            return;
        }
        shard.turn(io, mesh);
        for event in shard.take_events() {
            self.balanced += u32::from(matches!(event, ShardEvent::Balanced(_)));
            self.failed |= matches!(event, ShardEvent::DirectoryOffline { .. } | ShardEvent::AcceptFailed(_));
        }
        if shard.has_stopped() {
            self.stopped += 1;
            io.wait(corelog::model::Monotonic::NEVER);
            return;
        }
        shard::wait(shard, io, mesh);
    }

    /// Asks for a slot to be moved to another shard; `told` hears what came of it, unless the node ends before.
    pub fn move_slot(&mut self, slot: PlacementSlot, core: ShardId, told: MoveTold) {
        let (first, io, _) = &mut self.shards[0];
        let tell = Box::new(move |outcome: SlotMoveOutcome| {
            *told.lock().expect("nobody panics with it") = Some(outcome.is_ok());
        });
        first.command(io, Command::MoveSlot { slot, core, tell });
        io.wait(corelog::model::Monotonic(0));
    }

    /// Begins a clean stop.
    pub fn stop(&mut self) {
        for (shard, io, _) in &mut self.shards {
            shard.command(io, Command::Stop);
            io.wait(corelog::model::Monotonic(0));
        }
    }

    /// All shards have stopped.
    pub fn has_stopped(&self) -> bool {
        self.stopped == self.shards.len()
    }

    /// What `main` does after the last shard has stopped.
    pub fn mark_clean(&self, world: &SimWorld) {
        if !self.failed {
            let _ = write_clean_shutdown(&mut world.files(), Path::new(DATA), 0);
        }
    }
}
