//! A disk with a volatile write cache: what was written is read back at once, and survives a cut only if it was flushed,
//! or if the disk happened to have put it down by then.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::choices::Choices;

/// Writes are whole numbers of these; a disk may have larger sectors, which it writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Kept by the cut: never more than this; a full cache puts down its oldest writes, as a real one does.
const CACHE_BYTES_MAX: u64 = 64 << 20;

pub struct CachedDisk {
    /// What reads see: the durable content with the cache over it.
    live: File,
    /// What is left after a cut.
    durable: File,
    /// What a cut leaves whole or not at all.
    sector_bytes: usize,
    /// Writes since the last flush, oldest first. A sector may be in several of them, each a content it may be left with.
    cache: VecDeque<Write>,
    cache_bytes: u64,
    /// Sectors that a cut dropped, as ranges of bytes: the live content is ahead of the durable one there.
    dropped: Vec<(u64, usize)>,
}

struct Write {
    position: u64,
    bytes: Vec<u8>,
}

/// What a cut does to the cache. Whatever is kept is put down in the order in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// All of it is lost.
    Nothing,
    /// Each sector by itself, so many in a hundred: torn writes, reordered writes.
    Sectors { percent: u64 },
    /// Each write whole or not at all.
    Writes { percent: u64 },
    /// The first so many writes, then part of one more.
    First { writes: usize },
    /// The first so many writes.
    Prefix { writes: usize },
    /// All but the first so many: later ones overtook them.
    Last { after: usize },
    /// All but one write.
    AllBut { write: usize },
}

/// How much of the cache a cut kept.
pub struct Cut {
    pub what: String,
    pub sectors: usize,
    pub kept: usize,
}

impl CachedDisk {
    /// Both files hold the same content, and have the disk's size.
    pub fn new(live: File, durable: File, sector_bytes: usize) -> CachedDisk {
        let is_whole = sector_bytes >= SECTOR_BYTES && sector_bytes.is_multiple_of(SECTOR_BYTES);
        assert!(is_whole, "no disk has sectors of {sector_bytes} bytes");
        CachedDisk {
            live,
            durable,
            sector_bytes,
            cache: VecDeque::new(),
            cache_bytes: 0,
            dropped: Vec::new(),
        }
    }

    pub fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.live.read_exact_at(bytes, position)
    }

    /// Panics unless whole sectors are written, which is all that a block device does.
    pub fn write(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let is_whole =
            position.is_multiple_of(SECTOR_BYTES as u64) && bytes.len().is_multiple_of(SECTOR_BYTES);
        assert!(is_whole, "{} bytes at {position} are no whole sectors", bytes.len());
        self.live.write_all_at(bytes, position)?;
        self.cache.push_back(Write { position, bytes: bytes.to_vec() });
        self.cache_bytes += bytes.len() as u64;
        while self.cache_bytes > CACHE_BYTES_MAX {
            self.put_down_oldest()?;
        }
        Ok(())
    }

    /// Everything written so far survives from now on.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.cache.is_empty() {
            self.put_down_oldest()?;
        }
        Ok(())
    }

    fn put_down_oldest(&mut self) -> io::Result<()> {
        let Some(write) = self.cache.pop_front() else { return Ok(()) };
        self.cache_bytes -= write.bytes.len() as u64;
        self.durable.write_all_at(&write.bytes, write.position)
    }

    /// The power goes: some of the cache may have been put down before, in any order.
    pub fn cut(&mut self, choices: &mut Choices) -> io::Result<Cut> {
        let fate = draw(choices, self.cache.len());
        self.cut_with(fate, choices)
    }

    /// As `cut`, of a disk that keeps the order of its writes: what is left is what once was there. A file system survives
    /// this without any flush; what was promised on top of it does not.
    pub fn cut_in_order(&mut self, choices: &mut Choices) -> io::Result<Cut> {
        let writes = choices.between(0, self.cache.len() as u64 + 1) as usize;
        self.cut_with(Fate::Prefix { writes }, choices)
    }

    fn cut_with(&mut self, fate: Fate, choices: &mut Choices) -> io::Result<Cut> {
        let mut cut = Cut { what: format!("{fate:?}"), sectors: 0, kept: 0 };
        for (index, write) in std::mem::take(&mut self.cache).into_iter().enumerate() {
            let keeps_whole = match fate {
                Fate::Nothing => Some(false),
                Fate::Sectors { .. } => None,
                Fate::Writes { percent } => Some(choices.percent(percent)),
                Fate::First { writes } if index == writes => None,
                Fate::First { writes } | Fate::Prefix { writes } => Some(index < writes),
                Fate::Last { after } => Some(index >= after),
                Fate::AllBut { write } => Some(index != write),
            };
            let percent = if let Fate::Sectors { percent } = fate { percent } else { 50 };
            let (mut position, mut rest) = (write.position, &write.bytes[..]);
            while !rest.is_empty() {
                let left = self.sector_bytes - position as usize % self.sector_bytes;
                let (bytes, behind) = rest.split_at(left.min(rest.len()));
                cut.sectors += 1;
                if keeps_whole.unwrap_or_else(|| choices.percent(percent)) {
                    cut.kept += 1;
                    self.durable.write_all_at(bytes, position)?;
                }
                position += bytes.len() as u64;
                rest = behind;
            }
            self.dropped.push((write.position, write.bytes.len()));
        }
        self.cache_bytes = 0;
        Ok(cut)
    }

    /// After a cut: reads see what survived it.
    pub fn power_on(&mut self) -> io::Result<()> {
        assert!(self.cache.is_empty(), "the power was not cut");
        let mut bytes = Vec::new();
        for (position, length) in std::mem::take(&mut self.dropped) {
            bytes.resize(length, 0);
            self.durable.read_exact_at(&mut bytes, position)?;
            self.live.write_all_at(&bytes, position)?;
        }
        Ok(())
    }
}

fn draw(choices: &mut Choices, writes: usize) -> Fate {
    let any = |choices: &mut Choices| choices.between(0, writes.max(1) as u64) as usize;
    let percent = |choices: &mut Choices| [10, 50, 90][choices.between(0, 3) as usize];
    match choices.between(0, 8) {
        0 => Fate::Nothing,
        1..=3 => Fate::Sectors { percent: percent(choices) },
        4 => Fate::Writes { percent: percent(choices) },
        5 => Fate::First { writes: any(choices) },
        6 => Fate::Last { after: any(choices) },
        _ => Fate::AllBut { write: any(choices) },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const SECTORS: usize = 64;

    fn disk() -> CachedDisk {
        disk_of(SECTOR_BYTES)
    }

    fn disk_of(sector_bytes: usize) -> CachedDisk {
        let [live, durable] = ["live", "durable"].map(|name| {
            let file = File::from(memfd_create(name, MFdFlags::empty()).unwrap());
            file.set_len((SECTORS * SECTOR_BYTES) as u64).unwrap();
            file
        });
        CachedDisk::new(live, durable, sector_bytes)
    }

    fn write(disk: &mut CachedDisk, sector: usize, fill: &[u8]) {
        let bytes: Vec<u8> = fill.iter().flat_map(|byte| [*byte; SECTOR_BYTES]).collect();
        disk.write((sector * SECTOR_BYTES) as u64, &bytes).unwrap();
    }

    /// One byte a sector; every sector must be of one piece.
    fn content(disk: &CachedDisk) -> [u8; SECTORS] {
        std::array::from_fn(|sector| {
            let mut bytes = [0; SECTOR_BYTES];
            disk.read((sector * SECTOR_BYTES) as u64, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "sector {sector} is torn");
            bytes[0]
        })
    }

    fn cut(disk: &mut CachedDisk, choices: &mut Choices) {
        disk.cut(choices).unwrap();
        disk.power_on().unwrap();
    }

    #[test]
    fn what_was_flushed_survives_every_cut_and_reads_see_everything_before() {
        for seed in 0..200 {
            let mut disk = disk();
            write(&mut disk, 3, &[1, 2, 3]);
            disk.flush().unwrap();
            write(&mut disk, 10, &[4, 5]);
            assert_eq!(content(&disk)[3..12], [1, 2, 3, 0, 0, 0, 0, 4, 5]);
            cut(&mut disk, &mut Choices::new(seed));
            assert_eq!(content(&disk)[3..6], [1, 2, 3]);
            assert!([0, 4].contains(&content(&disk)[10]) && [0, 5].contains(&content(&disk)[11]));
        }
    }

    #[test]
    fn cuts_leave_every_subset_of_the_cache_and_every_version_of_a_sector() {
        let mut found = BTreeSet::new();
        for seed in 0..2000 {
            let mut disk = disk();
            write(&mut disk, 0, &[1]);
            write(&mut disk, 0, &[2, 2]);
            write(&mut disk, 2, &[3]);
            cut(&mut disk, &mut Choices::new(seed));
            found.insert(content(&disk)[..3].to_vec());
        }
        // Sector 0: nothing, the first or the second content; the others: there or not.
        assert_eq!(found.len(), 3 * 2 * 2, "{found:?}");
    }

    #[test]
    fn a_large_sector_is_kept_or_lost_as_a_whole() {
        for seed in 0..200 {
            let mut disk = disk_of(8 * SECTOR_BYTES);
            write(&mut disk, 6, &[1; 12]);
            cut(&mut disk, &mut Choices::new(seed));
            let content = content(&disk);
            assert!(content[6] == content[7] && content[8..16].iter().all(|byte| *byte == content[8]));
            assert!(content[16] == content[17] && content[18] == 0);
        }
    }

    #[test]
    fn a_cut_does_not_bring_back_what_an_earlier_one_took() {
        for seed in 0..200 {
            let mut choices = Choices::new(seed);
            let mut disk = disk();
            write(&mut disk, 0, &[1; 8]);
            cut(&mut disk, &mut choices);
            let after_first = content(&disk);
            disk.flush().unwrap();
            cut(&mut disk, &mut choices);
            assert_eq!(content(&disk), after_first);
        }
    }
}
