//! One file: what reads return, what is on the device, and what of the difference a sync or a crash settles.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;

use super::disk::{BLOCK_BYTES, SECTOR_BYTES, errno};
use super::pages::Pages;
use super::random::SimRandom;

/// Counts all changes of the disk, bytes and names alike: which came first.
pub type Moment = u64;

#[derive(Clone, Default)]
pub struct FileContent {
    /// What reads return. Its length is the file's size.
    cached: Pages,
    /// What power loss leaves.
    durable: Pages,
    /// Sectors of `cached` that differ in age from `durable`, and when they changed last.
    dirty: BTreeMap<u64, Moment>,
    /// The size differs in age, since then.
    size_dirty: Option<Moment>,
    /// Truncations not yet durable: when, and to what size.
    truncations: Vec<(Moment, u64)>,
    /// Sectors that the kernel holds for clean although the device has something else: a failed sync dropped them, or the
    /// device wrote elsewhere.
    dropped: BTreeSet<u64>,
    /// Sectors that the device cannot read until they are written again.
    unreadable: BTreeSet<u64>,
    /// End of the space taken, at or behind the size.
    reserved_end: u64,
    pub errors: ErrorCount,
}

/// Write-back errors of a file or of the whole disk. Each descriptor reports those since it was opened, once; one that
/// nobody has reported yet is reported to whoever opens next (Linux, `lib/errseq.c`).
#[derive(Clone, Copy, Default)]
pub struct ErrorCount {
    count: u64,
    is_reported: bool,
}

impl ErrorCount {
    pub fn add(&mut self) {
        self.count += 1;
        self.is_reported = false;
    }

    /// What a descriptor opened now has reported already.
    pub fn sample(self) -> u64 {
        if self.is_reported { self.count } else { self.count.saturating_sub(1) }
    }

    /// A descriptor that has reported so many has nothing to report.
    pub fn is_told(self, reported: u64) -> bool {
        reported == self.count
    }

    /// Errors: EIO, if there is one that this descriptor has not reported.
    pub fn report(&mut self, reported: &mut u64) -> io::Result<()> {
        if self.is_told(*reported) {
            return Ok(());
        }
        *reported = self.count;
        self.is_reported = true;
        Err(errno(libc::EIO))
    }
}

/// The sectors that a running sync will have made durable.
pub struct SyncStart {
    sectors: BTreeMap<u64, Moment>,
    /// The bytes as they were.
    cached: Pages,
    /// Truncations up to here are covered.
    moment: Moment,
}

/// What of the changes not synced a power loss leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    KeepNothing,
    KeepAll,
    /// Of every file and directory, what came before.
    KeepBefore(Moment),
    /// Of every file and directory, what came at or after.
    KeepFrom(Moment),
    /// Each file and the directories for themselves, as chance wants.
    Each,
}

pub fn sectors(position: u64, length: u64) -> Range<u64> {
    position / SECTOR_BYTES..(position + length).div_ceil(SECTOR_BYTES)
}

impl FileContent {
    pub fn size(&self) -> u64 {
        self.cached.len()
    }

    pub fn reserved_end(&self) -> u64 {
        self.reserved_end
    }

    pub fn reserve(&mut self, end: u64) {
        self.reserved_end = self.reserved_end.max(end);
    }

    pub fn space_bytes(&self) -> u64 {
        BLOCK_BYTES + self.reserved_end.max(self.cached.len()).next_multiple_of(BLOCK_BYTES)
    }

    /// What is on the device is what reads return.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
            && self.size_dirty.is_none()
            && self.truncations.is_empty()
            && self.dropped.is_empty()
    }

    /// When something changed that is not durable.
    pub fn dirty_moments(&self) -> impl Iterator<Item = Moment> {
        self.dirty.values().copied().chain(self.size_dirty)
    }

    /// Errors: EIO, where the device cannot read.
    pub fn read(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let wanted = sectors(position, into.len() as u64);
        if !self.unreadable.is_empty() && self.unreadable.range(wanted).next().is_some() {
            return Err(errno(libc::EIO));
        }
        Ok(self.cached.read(position, into))
    }

    pub fn write(&mut self, moment: Moment, position: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len() as u64;
        let size = self.cached.len();
        if end > size {
            // A gap before the write reads as zeros and is new as well.
            self.cached.resize(end);
            self.size_dirty = Some(moment);
            self.touch(moment, size, end - size);
        }
        self.cached.write(position, bytes);
        self.reserved_end = self.reserved_end.max(end);
        self.touch(moment, position, bytes.len() as u64);
    }

    fn touch(&mut self, moment: Moment, position: u64, length: u64) {
        for sector in sectors(position, length) {
            self.dirty.insert(sector, moment);
            self.dropped.remove(&sector);
            self.unreadable.remove(&sector);
        }
    }

    pub fn set_size(&mut self, moment: Moment, size: u64) {
        let before = self.cached.len();
        if size == before {
            return;
        }
        if size < before {
            self.truncations.push((moment, size));
            // The kept part of the last sector changes as well: what was behind it reads as zeros from now on.
            drop(self.dirty.split_off(&size.div_ceil(SECTOR_BYTES)));
            drop(self.dropped.split_off(&size.div_ceil(SECTOR_BYTES)));
            drop(self.unreadable.split_off(&size.div_ceil(SECTOR_BYTES)));
            self.cached.resize(size);
            self.reserved_end = size;
        } else {
            self.cached.resize(size);
            self.touch(moment, before, size - before);
        }
        self.size_dirty = Some(moment);
    }

    /// A sync of all bytes, or of some alone: an O_DSYNC write vouches for its own.
    pub fn start_sync(&self, moment: Moment, only: Option<Range<u64>>) -> SyncStart {
        let sectors = match only {
            Some(only) => self.dirty.range(only).map(|(&sector, &changed)| (sector, changed)).collect(),
            None => self.dirty.clone(),
        };
        SyncStart { sectors, cached: self.cached.clone(), moment }
    }

    /// Makes truncations up to a moment durable.
    fn cut_durable(&mut self, moment: Moment) {
        let durable = &mut self.durable;
        self.truncations.retain(|&(truncated, size)| {
            if truncated <= moment {
                durable.resize(size.min(durable.len()));
            }
            truncated > moment
        });
    }

    /// Makes truncations up to a moment, and a size, durable.
    fn resize_durable(&mut self, moment: Moment, size: u64) {
        self.cut_durable(moment);
        self.durable.resize(size);
    }

    pub fn end_sync(&mut self, start: SyncStart, random: &mut SimRandom) {
        // A size changed while the sync ran is durable or not.
        if self.cached.len() == start.cached.len() || random.coin() {
            self.resize_durable(Moment::MAX, self.cached.len());
            self.size_dirty = None;
        } else {
            self.cut_durable(start.moment);
            // A sync that began later and ended sooner may have made more durable.
            self.durable.resize(self.durable.len().max(start.cached.len()));
        }
        for (sector, changed) in start.sectors {
            match self.dirty.get(&sector) {
                Some(&latest) if latest == changed => {
                    self.durable.copy_sector(sector, &start.cached);
                    self.dirty.remove(&sector);
                }
                // Written again while the sync ran: the older or the newer bytes.
                Some(_) => self.durable.copy_sector(sector, &start.cached),
                // Cut off while the sync ran.
                None => {}
            }
        }
        for &sector in self.dirty.keys().filter(|_| random.coin()) {
            self.durable.copy_sector(sector, &self.cached);
        }
    }

    pub fn fail_sync(&mut self, start: SyncStart, random: &mut SimRandom) {
        self.errors.add();
        for (sector, changed) in start.sectors {
            if self.dirty.get(&sector) != Some(&changed) {
                continue;
            }
            match random.below(3) {
                // Still dirty: a later sync may bring it.
                0 => {}
                1 => {
                    self.durable.copy_sector(sector, &start.cached);
                    self.dirty.remove(&sector);
                }
                _ => {
                    self.dirty.remove(&sector);
                    self.dropped.insert(sector);
                }
            }
        }
    }

    /// Takes one block out of a sync that ends: the device will put it elsewhere. Its sectors; none if nothing is to be synced.
    pub fn lose_block(&mut self, start: &mut SyncStart, random: &mut SimRandom) -> Vec<u64> {
        let Some(nth) = (start.sectors.len() as u64).checked_sub(1).map(|last| random.between(0, last))
        else {
            return Vec::new();
        };
        let chosen = *start.sectors.keys().nth(nth as usize).expect("drawn from as many");
        let first = chosen - chosen % (BLOCK_BYTES / SECTOR_BYTES);
        let block = first..first + BLOCK_BYTES / SECTOR_BYTES;
        let lost: Vec<u64> = start.sectors.range(block).map(|(&sector, _)| sector).collect();
        for sector in &lost {
            let changed = start.sectors.remove(sector).expect("listed just now");
            if self.dirty.get(sector) == Some(&changed) {
                self.dirty.remove(sector);
                self.dropped.insert(*sector);
            }
        }
        lost
    }

    /// A block that was meant for another place arrives on the device, unknown to the kernel.
    pub fn take_block(&mut self, start: &SyncStart, lost: &[u64], random: &mut SimRandom) {
        let blocks = self.durable.len() / BLOCK_BYTES;
        if blocks == 0 {
            return;
        }
        let first = random.below(blocks) * (BLOCK_BYTES / SECTOR_BYTES);
        for from in lost {
            let to = first + from % (BLOCK_BYTES / SECTOR_BYTES);
            self.durable.copy_sector_to(to, *from, &start.cached);
            if !self.dirty.contains_key(&to) {
                self.dropped.insert(to);
            }
        }
    }

    pub fn lose_power(&mut self, loss: Loss, random: &mut SimRandom) {
        match loss {
            Loss::KeepNothing => {}
            Loss::KeepAll => self.keep(Moment::MAX, |_| true),
            Loss::KeepBefore(end) => self.keep(end.saturating_sub(1), |moment| moment < end),
            Loss::KeepFrom(start) => {
                let size = self.size_dirty.filter(|changed| *changed >= start).map(|_| Moment::MAX);
                self.keep(size.unwrap_or(0), |moment| moment >= start);
            }
            Loss::Each => self.keep_some(random),
        }
        self.become_durable();
    }

    /// Keeps the size if it changed last by `size_until`, and the sectors that changed when `is_kept` says.
    fn keep(&mut self, size_until: Moment, is_kept: impl Fn(Moment) -> bool) {
        let kept: Vec<u64> =
            self.dirty.iter().filter(|(_, moment)| is_kept(**moment)).map(|(sector, _)| *sector).collect();
        match self.size_dirty {
            Some(changed) if changed > size_until => {
                // It grew in steps: as far as what is kept of them.
                let end = kept.last().map_or(0, |last| (last + 1) * SECTOR_BYTES).min(self.cached.len());
                self.cut_durable(size_until);
                self.durable.resize(self.durable.len().max(end));
            }
            _ => self.resize_durable(Moment::MAX, self.cached.len()),
        }
        for sector in kept {
            self.durable.copy_sector(sector, &self.cached);
        }
    }

    fn keep_some(&mut self, random: &mut SimRandom) {
        let mut kept: Vec<u64> = self.dirty.keys().copied().collect();
        let count = kept.len() as u64;
        match random.below(6) {
            0 => kept.clear(),
            1 => {}
            2 => kept.truncate(random.below(count + 1) as usize),
            3 if count > 0 => {
                let first = random.below(count);
                let last = random.between(first, count - 1);
                kept.drain(first as usize..=last as usize);
            }
            _ => kept.retain(|_| random.coin()),
        }
        let grown = self.cached.len().saturating_sub(self.durable.len());
        if self.size_dirty.is_none() || random.coin() {
            self.resize_durable(Moment::MAX, self.cached.len());
        } else if grown > 0 && random.coin() {
            // Grown in steps: some of them.
            self.durable.resize(self.durable.len() + random.below(grown));
        }
        for sector in kept {
            self.durable.copy_sector(sector, &self.cached);
        }
    }

    /// The cache is gone: what is on the device is all there is.
    fn become_durable(&mut self) {
        let durable = std::mem::take(&mut self.durable);
        let mut unreadable = std::mem::take(&mut self.unreadable);
        drop(unreadable.split_off(&durable.len().div_ceil(SECTOR_BYTES)));
        let reserved_end = self.reserved_end.max(durable.len());
        *self = FileContent {
            cached: durable.clone(),
            durable,
            unreadable,
            reserved_end,
            ..FileContent::default()
        };
    }

    /// Pages that the kernel holds for clean may be read from the device again.
    pub fn evict_dropped(&mut self, random: &mut SimRandom) {
        let (evicted, kept): (BTreeSet<u64>, _) =
            std::mem::take(&mut self.dropped).into_iter().partition(|_| random.coin());
        self.dropped = kept;
        evicted.into_iter().for_each(|sector| self.evict(sector));
    }

    /// A direct read sees the device.
    pub fn evict_range(&mut self, range: Range<u64>) {
        let within: Vec<u64> = self.dropped.range(range).copied().collect();
        for sector in within {
            self.dropped.remove(&sector);
            self.evict(sector);
        }
    }

    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    fn evict(&mut self, sector: u64) {
        // Where the file on the device ends earlier, it reads as zeros.
        let position = sector * SECTOR_BYTES;
        let length = SECTOR_BYTES.min(self.cached.len().saturating_sub(position));
        let mut bytes = [0; SECTOR_BYTES as usize];
        self.durable.read(position, &mut bytes);
        self.cached.write(position, &bytes[..length as usize]);
    }

    /// Flips one bit, on the device and in the cache.
    pub fn flip_bit(&mut self, position: u64, bit: u8) {
        self.cached.flip_bit(position, bit);
        self.durable.flip_bit(position, bit);
    }

    /// The device cannot read this sector any more, until it is written.
    pub fn fail_sector(&mut self, position: u64) {
        if position < self.cached.len() {
            self.unreadable.insert(position / SECTOR_BYTES);
        }
    }
}

impl Hash for FileContent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cached.hash(state);
        if !self.is_clean() {
            self.durable.hash(state);
        }
    }
}
