//! Reads a journal after a crash: which groups are whole, which of them count, and whether one is missing that must be there.
//!
//! The ring holds groups of this lap and of laps before it. What counts is the longest chain of sequences that the newest
//! groups vouch for: all groups from the one that the last of them calls the first live to itself. Behind the chain there may
//! be as many groups as were in flight when the machine stopped, torn or whole: none of them was acknowledged. Each group says
//! which one was the newest durable one when it was written: a chain that ends before the newest of these has lost what was
//! durable once. That is damage, and nothing is cut away for it.
//!
//! What nothing can tell: damage to groups that no whole group behind them knows to have been durable looks like a torn end.
//! With one group in flight at a time that is the last one alone, under load the last two.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::GROUPS_IN_FLIGHT_MAX;
use super::format::{self, BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, JournalKind};
use crate::log::error::{Context, StorageError};
use crate::log::layout;
use crate::model::Position;
use crate::reactor::{File, Files, OpenMode};

/// A bug that the tests must catch: groups of laps before count as well.
const PLANTED_STALE_LAP: bool = cfg!(corelog_planted = "101");

/// Bytes read at a time while looking for groups.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A journal that was durable once cannot be read. Never repaired by leaving something out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalDamage {
    pub path: PathBuf,
    pub kind: JournalDamageKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalDamageKind {
    /// The file's first block.
    Header,
    /// A group is missing or damaged although a later one was written after it was durable.
    Missing { sequence: u64, newest: u64 },
    /// A whole group holds an entry that makes no sense.
    Entry { sequence: u64, position: Position },
}

/// Why a journal could not be carried out.
#[derive(Debug)]
pub enum JournalError {
    Storage(StorageError),
    Damaged(JournalDamage),
}

impl From<StorageError> for JournalError {
    fn from(error: StorageError) -> JournalError {
        JournalError::Storage(error)
    }
}

impl fmt::Display for JournalDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            JournalDamageKind::Header => write!(f, "{path} does not begin with a journal's header")?,
            JournalDamageKind::Missing { sequence, newest } => {
                write!(f, "{path}: group {sequence} is damaged, and groups up to {newest} came after it")?;
            }
            JournalDamageKind::Entry { sequence, position } => {
                write!(f, "{path}: group {sequence} at byte {position} holds an entry that makes no sense")?;
            }
        }
        f.write_str(
            "; acknowledged records may be lost: restore the file from a copy of the disk, or move it away to start without them",
        )
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Storage(error) => error.fmt(f),
            JournalError::Damaged(damage) => damage.fmt(f),
        }
    }
}

impl std::error::Error for JournalError {}

/// A group that is whole, and where its entries stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FoundGroup {
    pub header: GroupHeader,
    pub position: Position,
}

impl FoundGroup {
    fn bytes(&self) -> usize {
        GROUP_HEADER_BYTES + self.header.payload_bytes as usize
    }
}

/// The groups that count, in order, of an open journal.
pub(super) struct Scanned {
    pub path: PathBuf,
    pub file: File,
    pub kind: JournalKind,
    pub id: u64,
    pub groups: Vec<FoundGroup>,
}

/// What a journal's file holds.
pub(super) struct Looked {
    pub size_bytes: u64,
    /// Those of earlier laps, which do not count any more, among them.
    pub whole_groups: u64,
    pub live: Result<Scanned, JournalDamage>,
}

/// Opens a journal and finds the groups that recovery must carry out. `progress` gets the bytes read since the last call.
pub(super) fn scan(
    files: &mut dyn Files,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Scanned, JournalError> {
    look(files, path, progress)?.live.map_err(JournalError::Damaged)
}

/// As `scan`, with what else is there. The file stays open if its groups can be read.
pub(super) fn look(
    files: &mut dyn Files,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Looked, StorageError> {
    let file = files.open(path, OpenMode::Read).context("open journal", path)?;
    let looked = look_into(files, file, path, progress);
    if !matches!(looked, Ok(Looked { live: Ok(_), .. })) {
        files.close(file);
    }
    looked
}

fn look_into(
    files: &mut dyn Files,
    file: File,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Looked, StorageError> {
    let damaged = |kind| JournalDamage { path: path.to_owned(), kind };
    let size_bytes = files.size(file).context("read journal size", path)?;
    let mut header = vec![0; BLOCK_BYTES];
    let read = files.read_at(file, 0, &mut header).context("read journal header", path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = if layout::is_mapped_journal(&name) { JournalKind::Mapped } else { JournalKind::Durable };
    let scanned = |id, groups| Scanned { path: path.to_owned(), file, kind, id, groups };
    let Some(id) = format::decode_file_header(kind, &header[..read]) else {
        let live = match kind {
            JournalKind::Durable => Err(damaged(JournalDamageKind::Header)),
            // Of the page cache a crash of the machine leaves what it likes.
            JournalKind::Mapped => Ok(scanned(0, Vec::new())),
        };
        return Ok(Looked { size_bytes, whole_groups: 0, live });
    };
    let all = find_groups(files, file, path, id, size_bytes, progress)?;
    let whole_groups = all.len() as u64;
    let live = match kind {
        JournalKind::Durable => live_groups(all).map(|groups| scanned(id, groups)),
        JournalKind::Mapped => Ok(scanned(id, live_mapped_groups(all))),
    };
    let live = live.map_err(|(sequence, newest)| damaged(JournalDamageKind::Missing { sequence, newest }));
    Ok(Looked { size_bytes, whole_groups, live })
}

/// Every whole group in the file, by position.
fn find_groups(
    files: &mut dyn Files,
    file: File,
    path: &Path,
    id: u64,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<FoundGroup>, StorageError> {
    let mut found = Vec::new();
    let mut window = vec![0; WINDOW_BYTES];
    let (mut start, mut length) = (0u64, 0usize);
    let mut whole = Vec::new();
    let mut at = BLOCK_BYTES as u64;
    while at < size {
        if at < start || at + BLOCK_BYTES as u64 > start + length as u64 {
            start = at;
            length = files.read_at(file, at, &mut window).context("read journal", path)?;
            progress(length as u64);
            if length < GROUP_HEADER_BYTES {
                break;
            }
        }
        let from = (at - start) as usize;
        let Ok(header) = format::peek_group(&window[from..length], id) else {
            at += BLOCK_BYTES as u64;
            continue;
        };
        let group = FoundGroup { header, position: at };
        let is_whole = match window[from..length].get(..group.bytes()) {
            Some(bytes) => format::decode_group(bytes, id).is_ok(),
            None => {
                whole.resize(group.bytes(), 0);
                let read = files.read_at(file, at, &mut whole).context("read journal", path)?;
                format::decode_group(&whole[..read], id).is_ok()
            }
        };
        if is_whole {
            found.push(group);
            at += header.blocks() * BLOCK_BYTES as u64;
        } else {
            at += BLOCK_BYTES as u64;
        }
    }
    Ok(found)
}

/// The chain that counts. `Err`: the sequence that is missing, and the newest that was found.
fn live_groups(found: Vec<FoundGroup>) -> Result<Vec<FoundGroup>, (u64, u64)> {
    if PLANTED_STALE_LAP {
        return Ok(found);
    }
    let by_sequence: BTreeMap<u64, FoundGroup> =
        found.into_iter().map(|group| (group.header.sequence, group)).collect();
    let Some((&newest, last)) = by_sequence.last_key_value() else { return Ok(Vec::new()) };
    let is_complete = |group: &FoundGroup| {
        let GroupHeader { first_live, sequence, .. } = group.header;
        by_sequence.range(first_live..sequence).count() as u64 == sequence - first_live
    };
    // The second: a group goes out only when no more than so many are in flight.
    let told = by_sequence.values().map(|group| group.header.durable).max().unwrap_or(0);
    let durable = told.max(newest.saturating_sub(GROUPS_IN_FLIGHT_MAX as u64));
    let end =
        match by_sequence.range(durable..).rev().map(|(_, group)| group).find(|group| is_complete(group)) {
            Some(group) => group,
            // Nothing was ever acknowledged.
            None if durable == 0 => return Ok(Vec::new()),
            // There is a chain to the newest durable group, and its blocks are kept until a later one is durable.
            None => {
                let oldest = by_sequence.get(&durable).unwrap_or(last).header.first_live;
                let missing = (oldest..=durable).find(|sequence| !by_sequence.contains_key(sequence));
                return Err((missing.unwrap_or(durable), newest));
            }
        };
    Ok(by_sequence.range(end.header.first_live..=end.header.sequence).map(|(_, group)| *group).collect())
}

/// The newest complete chain of a mapped journal. After a crash of the process alone it ends with the last group that was told
/// of; after one of the machine it may be an older one, or none.
fn live_mapped_groups(found: Vec<FoundGroup>) -> Vec<FoundGroup> {
    let by_sequence: BTreeMap<u64, FoundGroup> =
        found.into_iter().map(|group| (group.header.sequence, group)).collect();
    let is_complete = |group: &&FoundGroup| {
        let GroupHeader { first_live, sequence, .. } = group.header;
        by_sequence.range(first_live..sequence).count() as u64 == sequence - first_live
    };
    let Some(end) = by_sequence.values().rev().find(is_complete) else { return Vec::new() };
    by_sequence.range(end.header.first_live..=end.header.sequence).map(|(_, group)| *group).collect()
}

/// The entries of a group, read again.
pub(super) fn read_payload<'a>(
    files: &mut dyn Files,
    scanned: &Scanned,
    group: &FoundGroup,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], JournalError> {
    buffer.resize(group.bytes(), 0);
    let read = files.read_at(scanned.file, group.position, buffer).context("read journal", &scanned.path)?;
    let GroupHeader { sequence, .. } = group.header;
    match format::decode_group(&buffer[..read], scanned.id) {
        Ok((header, payload)) if header.sequence == sequence => Ok(payload),
        // It was whole a moment ago.
        _ => Err(JournalError::Damaged(JournalDamage {
            path: scanned.path.clone(),
            kind: JournalDamageKind::Missing { sequence, newest: sequence },
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(sequence: u64, first_live: u64, durable: u64) -> FoundGroup {
        let header = GroupHeader {
            journal_id: 1,
            sequence,
            first_live,
            durable,
            size_blocks: 100,
            lap: 0,
            entry_count: 0,
            payload_bytes: 0,
        };
        FoundGroup { header, position: sequence % 10 }
    }

    const NONE: std::ops::RangeInclusive<u64> = std::ops::RangeInclusive::new(1, 0);

    type Expected = Result<std::ops::RangeInclusive<u64>, (u64, u64)>;

    /// Groups as (sequence, first live, newest durable).
    fn check_told(found: &[(u64, u64, u64)], expected: Expected) {
        let found =
            found.iter().map(|(sequence, first, durable)| group(*sequence, *first, *durable)).collect();
        let live = live_groups(found);
        let live = live.map(|groups| groups.iter().map(|group| group.header.sequence).collect::<Vec<_>>());
        assert_eq!(live, expected.map(|range| range.collect::<Vec<_>>()));
    }

    /// As it is under load: each group went out while the one before was in flight.
    fn check(found: &[(u64, u64)], expected: Expected) {
        let told = found.iter().map(|(sequence, first)| (*sequence, *first, sequence.saturating_sub(2)));
        check_told(&told.collect::<Vec<_>>(), expected.clone());
        // A journal whose groups do not tell is judged by what can be in flight.
        let silent = found.iter().map(|(sequence, first)| (*sequence, *first, 0));
        check_told(&silent.collect::<Vec<_>>(), expected);
    }

    fn run(range: std::ops::RangeInclusive<u64>, first_live: u64) -> Vec<(u64, u64)> {
        range.map(|sequence| (sequence, first_live)).collect()
    }

    #[test]
    fn the_newest_complete_chain_counts() {
        check(&[], Ok(NONE));
        check(&run(1..=5, 1), Ok(1..=5));
        // Two were in flight; the first of them is torn, or both are.
        check(&[run(1..=5, 1), run(7..=7, 1)].concat(), Ok(1..=5));
        // Nothing but what was in flight when the journal was new.
        check(&run(2..=2, 1), Ok(NONE));
    }

    #[test]
    fn groups_of_an_earlier_lap_do_not_count() {
        check(&[run(40..=60, 30), run(90..=100, 90)].concat(), Ok(90..=100));
        // The group that told of the checkpoint is torn: everything since the one before counts.
        check(&[run(50..=59, 50), run(61..=61, 58)].concat(), Ok(50..=59));
        // Of the older lap, parts are written over.
        check(&[run(41..=43, 30), run(80..=90, 80)].concat(), Ok(80..=90));
    }

    #[test]
    fn a_hole_with_more_behind_it_than_was_in_flight_is_damage() {
        check(&[run(1..=4, 1), run(6..=9, 1)].concat(), Err((5, 9)));
        check(&run(4..=9, 1), Err((1, 9)));
        check(&[run(1..=4, 1), run(7..=8, 1)].concat(), Err((5, 8)));
        // The group of a checkpoint: what it released may be written over only because it was durable.
        check(&run(100..=100, 99), Err((98, 100)));
    }

    #[test]
    fn a_group_that_was_told_to_be_durable_must_be_there() {
        let alone = |range: std::ops::RangeInclusive<u64>| range.map(|sequence| (sequence, 1, sequence - 1));
        let without =
            |gone: u64| -> Vec<_> { alone(1..=6).filter(|(sequence, ..)| *sequence != gone).collect() };
        for gone in 1..=5 {
            check_told(&without(gone), Err((gone, 6)));
        }
        // Nobody knows that the last one was durable.
        check_told(&without(6), Ok(1..=5));
        // The very first one, and the second was written after it.
        check_told(&[(2, 1, 1)], Err((1, 2)));
        // Of two in flight the second tells what the first did: nothing of each other.
        check_told(&[(1, 1, 0), (2, 1, 1), (4, 1, 2)], Ok(1..=2));
        check_told(&[(1, 1, 0), (4, 1, 2)], Err((2, 4)));
        // What a stale lap tells is true, and long past.
        check_told(&[(3, 1, 2), (50, 50, 49), (51, 50, 50)], Ok(50..=51));
        // Entries that may be lost can be in flight when a checkpoint tells that they need not be looked at.
        check_told(&[(1, 1, 0), (2, 1, 1), (4, 4, 2)], Ok(4..=4));
    }

    #[test]
    fn of_a_mapped_journal_the_newest_complete_chain_counts_and_nothing_is_damage() {
        let check = |found: &[(u64, u64)], expected: std::ops::RangeInclusive<u64>| {
            let found = found.iter().map(|(sequence, first)| group(*sequence, *first, 0)).collect();
            let live: Vec<u64> =
                live_mapped_groups(found).iter().map(|group| group.header.sequence).collect();
            assert_eq!(live, expected.collect::<Vec<_>>());
        };
        check(&[], NONE);
        check(&run(1..=5, 1), 1..=5);
        check(&[run(40..=60, 30), run(90..=100, 90)].concat(), 90..=100);
        // Parts of it never reached the device.
        check(&[run(1..=4, 1), run(6..=9, 1)].concat(), 1..=4);
        check(&run(4..=9, 1), NONE);
        check(&[run(20..=25, 20), run(51..=60, 50)].concat(), 20..=25);
    }
}
