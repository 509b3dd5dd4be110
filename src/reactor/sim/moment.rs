//! The moments at which a machine might have stopped, kept while it runs on: each can be tried with any number of crashes.

use bytes::Bytes;

use super::disk::{Disk, Survivors};
use super::operation::{FileWork, Work};
use super::random::SimRandom;
use super::world::{CrashKind, World};
use crate::model::Position;

/// A write that the disk had not done when the machine stopped.
#[derive(Clone)]
pub(super) struct Unfinished {
    pub descriptor: i32,
    pub position: Position,
    pub bytes: Bytes,
}

impl Unfinished {
    /// It was done in full, in part, or not at all.
    pub fn happen(&self, disk: &mut Disk, survivors: Survivors, random: &mut SimRandom) {
        let Unfinished { descriptor, position, bytes } = self;
        let extent = match survivors {
            Survivors::Nothing => 0,
            Survivors::Everything => 2,
            Survivors::Drawn => random.below(3),
        };
        match extent {
            0 => {}
            1 => disk.cut_write(*descriptor, *position, bytes, random),
            _ => _ = disk.write(*descriptor, *position, bytes),
        }
    }
}

/// The disk of a machine that has stopped.
#[derive(Clone)]
pub struct SimDisk(pub(super) Disk);

impl SimDisk {
    /// Equal for disks that no process can tell apart, whether the power goes or not.
    pub fn content_hash(&self) -> u64 {
        self.0.content_hash()
    }
}

/// The machine between two changes of its disk.
#[derive(Clone)]
pub struct SimMoment {
    disk: Disk,
    unfinished: Vec<Unfinished>,
    /// What has just happened.
    pub after: &'static str,
    /// File operations submitted and not completed, by name.
    pub in_flight: Vec<&'static str>,
}

impl SimMoment {
    /// What a crash at this moment leaves. Equal arguments leave equal disks.
    pub fn crash(&self, kind: CrashKind, survivors: Survivors, seed: u64) -> SimDisk {
        let mut random = SimRandom::new(seed, 5);
        let mut disk = self.disk.clone();
        for write in &self.unfinished {
            write.happen(&mut disk, survivors, &mut random);
        }
        match kind {
            CrashKind::ProcessKill => disk.kill(&mut random),
            CrashKind::PowerLoss => disk.lose_power(survivors, &mut random),
        }
        SimDisk(disk)
    }

    /// A power loss could lose something here.
    pub fn has_unsynced(&self) -> bool {
        !self.unfinished.is_empty() || self.disk.has_unsynced()
    }
}

impl World {
    /// Keeps this moment, if moments are kept. `calling`: a blocking write is about to be done.
    pub fn note_moment(&mut self, after: &'static str, calling: Option<Unfinished>) {
        if self.moments.is_none() {
            return;
        }
        let moment = self.moment(after, calling);
        self.moments.get_or_insert_default().push(moment);
    }

    pub fn moment(&self, after: &'static str, calling: Option<Unfinished>) -> SimMoment {
        let mut in_flight = Vec::new();
        let mut unfinished = Vec::new();
        for flight in self.shards.iter().flat_map(|shard| shard.flights.values()) {
            if let Work::File { file, work } = &flight.work {
                in_flight.push(work.name());
                unfinished.extend(work.unfinished(*file));
            }
        }
        if let Some(calling) = calling {
            in_flight.push(after);
            unfinished.push(calling);
        }
        SimMoment { disk: self.disk.clone(), unfinished, after, in_flight }
    }

    /// Each write in flight when the machine stopped was applied in full, in part, or not at all.
    pub fn apply_writes_in_flight(&mut self) {
        for shard in &mut self.shards {
            for flight in std::mem::take(&mut shard.flights).into_values() {
                if let Work::File { file, work } = &flight.work
                    && let Some(write) = work.unfinished(*file)
                {
                    write.happen(&mut self.disk, Survivors::Drawn, &mut self.disk_random);
                }
            }
        }
    }
}

impl FileWork {
    pub(super) fn name(&self) -> &'static str {
        match self {
            FileWork::Write { then_sync: None, .. } => "write",
            FileWork::Write { .. } => "write and sync",
            FileWork::Sync { .. } => "sync",
            FileWork::Read { .. } => "read",
            FileWork::Reserve { .. } => "reserve",
        }
    }
}
