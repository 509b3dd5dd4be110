//! The bytes of a journal. All integers are little-endian.
//!
//! A journal file is a header block and a ring of 4 KiB blocks behind it. The header is written once, when the file is made:
//!
//! | byte | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `CLJOURN1`; `CLMAPPD1` for a mapped journal |
//! | 8 | 8 | journal id, random for each file |
//! | 16 | 4 | CRC-32C of bytes 0 to 16 |
//!
//! A group starts on a block and is padded to a whole number of them with zeros:
//!
//! | byte | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `CLJGROUP`; `CLMGROUP` in a mapped journal |
//! | 8 | 4 | CRC-32C of everything from byte 12 to the end of the payload; in a mapped journal of the payload, then of bytes 12 to 64 |
//! | 12 | 4 | payload length in bytes |
//! | 16 | 8 | journal id |
//! | 24 | 8 | sequence: one more than that of the group before |
//! | 32 | 8 | first live sequence: groups before it are in the segments, durably |
//! | 40 | 8 | size of the journal in blocks, header included, when the group was written |
//! | 48 | 4 | lap: how often the ring had wrapped |
//! | 52 | 4 | number of entries |
//! | 56 | 8 | newest durable sequence: this group and all before it had been flushed when the group was written |
//!
//! Entries follow each other without padding:
//!
//! | byte | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 append, 2 extent, 3 truncate, 4 log start, 5 delete, 6 block |
//! | 1 | 3 | zero |
//! | 4 | 4 | partition |
//! | 8 | 16 | topic id |
//! | 24 | 4 | leader epoch |
//! | 28 | 4 | length in bytes: of the bytes that follow (append, block), of those in the segment (extent), else 0 |
//! | 32 | 8 | base offset (append, extent, block); the offset to cut at (truncate) or to start from (log start) |
//! | 40 | 8 | end offset, exclusive (append, extent, block), else 0 |
//! | 48 | 8 | base offset of the segment (append, extent, block), else 0 |
//! | 56 | 8 | position in the segment (append, extent, block), else 0 |
//! | 64 | 4 | CRC-32C of the segment's bytes (extent), else 0 |
//! | 68 | 4 | zero |
//! | 72 | … | the batches as they stand in the segment (append); bytes of them, the first batch perhaps begun before (block) |

use crate::model::{LeaderEpoch, Offset, PartitionIndex, Position, TopicId, Uuid};

/// What the ring is divided into; equal to what direct writes are aligned to.
pub const BLOCK_BYTES: usize = crate::reactor::DIRECT_BLOCK_BYTES;

pub(super) const GROUP_HEADER_BYTES: usize = 64;
pub(super) const ENTRY_HEADER_BYTES: usize = 72;
const FILE_MAGIC: &[u8; 8] = b"CLJOURN1";
const MAPPED_FILE_MAGIC: &[u8; 8] = b"CLMAPPD1";
const GROUP_MAGIC: &[u8; 8] = b"CLJGROUP";
/// A group that comes to be in place: its header, and so what the checksum ends with, is known last.
const MAPPED_GROUP_MAGIC: &[u8; 8] = b"CLMGROUP";
/// The checksum covers what is behind it.
const CRC_START: usize = 12;

/// A group longer than this was never written, whatever its header says.
pub(super) const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;

const _: () = assert!(GROUP_HEADER_BYTES < BLOCK_BYTES);

/// What a journal promises of its groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalKind {
    /// They are on the device.
    Durable,
    /// They are in the page cache: after a crash of the machine any part of them may be missing.
    Mapped,
}

/// A partition, as entries name it: topic ids are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PartitionKey {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
}

/// Where bytes stand in a partition's segments, and which offsets they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    /// Base offset of the segment.
    pub segment: Offset,
    pub position: Position,
}

/// What a group remembers of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry<'a> {
    /// These bytes belong there.
    Append { place: Place, bytes: &'a [u8] },
    /// These bytes belong there, behind others that were written past the journal and perhaps did not arrive: only if those
    /// are there do these count. The offsets are those of the batches that have bytes here; the first may begin before.
    Block { place: Place, bytes: &'a [u8] },
    /// So many bytes were written there past the journal, durably.
    Extent { place: Place, length: u32, crc: u32 },
    /// The log was cut: what earlier entries hold at and above the offset is no longer so.
    Truncate { offset: Offset },
    /// What is below the offset is deleted.
    LogStart { offset: Offset },
    /// The partition is deleted.
    Delete,
}

impl<'a> Entry<'a> {
    /// The bytes that stand behind the entry's fixed part.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Entry::Append { bytes, .. } | Entry::Block { bytes, .. } => bytes,
            Entry::Extent { .. } | Entry::Truncate { .. } | Entry::LogStart { .. } | Entry::Delete => &[],
        }
    }
}

/// An entry with whom it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub key: PartitionKey,
    pub leader_epoch: LeaderEpoch,
    pub entry: Entry<'a>,
}

/// What a group says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupHeader {
    pub journal_id: u64,
    pub sequence: u64,
    pub first_live: u64,
    /// This group and all before it were durable when the group was written; 0: none, or none that was known to be.
    pub durable: u64,
    pub size_blocks: u64,
    pub lap: u32,
    pub entry_count: u32,
    pub payload_bytes: u32,
}

impl GroupHeader {
    /// Blocks of the whole group.
    pub fn blocks(&self) -> u64 {
        group_blocks(self.payload_bytes as usize)
    }
}

/// Blocks that a group with so many bytes of entries takes.
pub(super) fn group_blocks(payload_bytes: usize) -> u64 {
    (GROUP_HEADER_BYTES + payload_bytes).div_ceil(BLOCK_BYTES) as u64
}

/// Why bytes are no group. A group that was torn, or never written, is no error: the journal ends before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoGroup {
    Magic,
    Journal,
    Length,
    Crc,
}

/// A group that was written whole holds entries that make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidEntry {
    /// Byte in the payload.
    pub at: usize,
}

fn file_magic(kind: JournalKind) -> &'static [u8; 8] {
    match kind {
        JournalKind::Durable => FILE_MAGIC,
        JournalKind::Mapped => MAPPED_FILE_MAGIC,
    }
}

pub(super) fn encode_file_header(kind: JournalKind, journal_id: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..8].copy_from_slice(file_magic(kind));
    block[8..16].copy_from_slice(&journal_id.to_le_bytes());
    let crc = crate::record::crc32c(&block[..16]);
    block[16..20].copy_from_slice(&crc.to_le_bytes());
    block
}

/// The journal id; `None` if the block is no header of such a journal.
pub(super) fn decode_file_header(kind: JournalKind, block: &[u8]) -> Option<u64> {
    let is_header = block.len() >= 20 && &block[..8] == file_magic(kind);
    (is_header && crate::record::crc32c(&block[..16]) == u32_at(block, 16)).then(|| u64_at(block, 8))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

/// Fills in the header of a group whose entries stand behind `GROUP_HEADER_BYTES`.
pub(super) fn finish_group(group: &mut [u8], header: &GroupHeader) {
    assert!(group.len() == GROUP_HEADER_BYTES + header.payload_bytes as usize, "a group has its length");
    write_header(group, GROUP_MAGIC, header);
    let crc = crate::record::crc32c(&group[CRC_START..]);
    group[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// The header of a group of a mapped journal. `payload_crc`: of its entries' bytes.
pub(super) fn mapped_group_header(header: &GroupHeader, payload_crc: u32) -> [u8; GROUP_HEADER_BYTES] {
    let mut bytes = [0; GROUP_HEADER_BYTES];
    write_header(&mut bytes, MAPPED_GROUP_MAGIC, header);
    let crc = crate::record::crc32c_append(payload_crc, &bytes[CRC_START..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Everything but the checksum.
fn write_header(group: &mut [u8], magic: &[u8; 8], header: &GroupHeader) {
    group[..8].copy_from_slice(magic);
    group[12..16].copy_from_slice(&header.payload_bytes.to_le_bytes());
    group[16..24].copy_from_slice(&header.journal_id.to_le_bytes());
    group[24..32].copy_from_slice(&header.sequence.to_le_bytes());
    group[32..40].copy_from_slice(&header.first_live.to_le_bytes());
    group[40..48].copy_from_slice(&header.size_blocks.to_le_bytes());
    group[48..52].copy_from_slice(&header.lap.to_le_bytes());
    group[52..56].copy_from_slice(&header.entry_count.to_le_bytes());
    group[56..64].copy_from_slice(&header.durable.to_le_bytes());
}

/// The header, if the bytes look like the beginning of a group of this journal; its checksum is not looked at.
pub(super) fn peek_group(bytes: &[u8], journal_id: u64) -> Result<GroupHeader, NoGroup> {
    let has_magic = |bytes: &[u8]| &bytes[..8] == GROUP_MAGIC || &bytes[..8] == MAPPED_GROUP_MAGIC;
    if bytes.len() < GROUP_HEADER_BYTES || !has_magic(bytes) {
        return Err(NoGroup::Magic);
    }
    let header = GroupHeader {
        payload_bytes: u32_at(bytes, 12),
        journal_id: u64_at(bytes, 16),
        sequence: u64_at(bytes, 24),
        first_live: u64_at(bytes, 32),
        size_blocks: u64_at(bytes, 40),
        lap: u32_at(bytes, 48),
        entry_count: u32_at(bytes, 52),
        durable: u64_at(bytes, 56),
    };
    if header.journal_id != journal_id {
        return Err(NoGroup::Journal);
    }
    let is_possible = header.payload_bytes as usize <= PAYLOAD_BYTES_MAX
        && header.first_live <= header.sequence
        && header.durable < header.sequence
        && header.blocks() < header.size_blocks;
    if is_possible { Ok(header) } else { Err(NoGroup::Length) }
}

/// A whole group: its header and its entries' bytes.
pub(super) fn decode_group(bytes: &[u8], journal_id: u64) -> Result<(GroupHeader, &[u8]), NoGroup> {
    let header = peek_group(bytes, journal_id)?;
    let end = GROUP_HEADER_BYTES + header.payload_bytes as usize;
    let payload = bytes.get(GROUP_HEADER_BYTES..end).ok_or(NoGroup::Length)?;
    let crc = match &bytes[..8] == MAPPED_GROUP_MAGIC {
        true => {
            let payload_crc = crate::record::crc32c(payload);
            crate::record::crc32c_append(payload_crc, &bytes[CRC_START..GROUP_HEADER_BYTES])
        }
        false => crate::record::crc32c(&bytes[CRC_START..end]),
    };
    if crc != u32_at(bytes, 8) {
        return Err(NoGroup::Crc);
    }
    Ok((header, payload))
}

/// The fixed part of an entry; its bytes follow it.
pub(super) fn entry_header(record: &Record<'_>) -> [u8; ENTRY_HEADER_BYTES] {
    let nowhere = |offset| Place { base_offset: offset, end_offset: 0, segment: 0, position: 0 };
    let length_of = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a group is far smaller than 4 GiB");
    let (kind, place, length, crc) = match record.entry {
        Entry::Append { place, bytes } => (1, place, length_of(bytes), 0),
        Entry::Extent { place, length, crc } => (2, place, length, crc),
        Entry::Truncate { offset } => (3, nowhere(offset), 0, 0),
        Entry::LogStart { offset } => (4, nowhere(offset), 0, 0),
        Entry::Delete => (5, nowhere(0), 0, 0),
        Entry::Block { place, bytes } => (6, place, length_of(bytes), 0),
    };
    let mut header = [0; ENTRY_HEADER_BYTES];
    header[0] = kind;
    header[4..8].copy_from_slice(&record.key.partition.to_le_bytes());
    header[8..24].copy_from_slice(&record.key.topic_id.0);
    header[24..28].copy_from_slice(&record.leader_epoch.0.to_le_bytes());
    header[28..32].copy_from_slice(&length.to_le_bytes());
    header[32..40].copy_from_slice(&place.base_offset.to_le_bytes());
    header[40..48].copy_from_slice(&place.end_offset.to_le_bytes());
    header[48..56].copy_from_slice(&place.segment.to_le_bytes());
    header[56..64].copy_from_slice(&place.position.to_le_bytes());
    header[64..68].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Takes the entry at the start of `payload` apart; returns it and what follows. `None`: it makes no sense.
fn decode_entry(payload: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let header = payload.get(..ENTRY_HEADER_BYTES)?;
    let rest = &payload[ENTRY_HEADER_BYTES..];
    let signed = |at| i64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let int = |at| i32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let key = PartitionKey {
        partition: int(4),
        topic_id: Uuid(header[8..24].try_into().expect("an id has 16 bytes")),
    };
    let length = u32_at(header, 28);
    let place = Place {
        base_offset: signed(32),
        end_offset: signed(40),
        segment: signed(48),
        position: u64_at(header, 56),
    };
    let is_placed = 0 <= place.segment
        && place.segment <= place.base_offset
        && place.base_offset < place.end_offset
        && place.position.checked_add(u64::from(length)).is_some_and(|end| end <= i64::MAX as u64);
    let (entry, rest) = match header[0] {
        1 if is_placed => {
            let (bytes, rest) = rest.split_at_checked(length as usize)?;
            (Entry::Append { place, bytes }, rest)
        }
        2 if is_placed => (Entry::Extent { place, length, crc: u32_at(header, 64) }, rest),
        3 if place.base_offset >= 0 => (Entry::Truncate { offset: place.base_offset }, rest),
        4 if place.base_offset >= 0 => (Entry::LogStart { offset: place.base_offset }, rest),
        5 => (Entry::Delete, rest),
        6 if is_placed => {
            let (bytes, rest) = rest.split_at_checked(length as usize)?;
            (Entry::Block { place, bytes }, rest)
        }
        _ => return None,
    };
    if key.partition < 0 {
        return None;
    }
    Some((Record { key, leader_epoch: LeaderEpoch(int(24)), entry }, rest))
}

/// The entries of a group, in order.
pub fn entries(payload: &[u8]) -> impl Iterator<Item = Result<Record<'_>, InvalidEntry>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match decode_entry(rest) {
            Some((record, left)) => {
                rest = left;
                Some(Ok(record))
            }
            None => {
                let at = payload.len() - rest.len();
                rest = &[];
                Some(Err(InvalidEntry { at }))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(entry: Entry<'_>) -> Record<'_> {
        let key = PartitionKey { topic_id: Uuid([7; 16]), partition: 3 };
        Record { key, leader_epoch: LeaderEpoch(5), entry }
    }

    fn place() -> Place {
        Place { base_offset: 100, end_offset: 110, segment: 40, position: 1 << 33 }
    }

    fn group(records: &[Record<'_>]) -> Vec<u8> {
        let mut bytes = vec![0; GROUP_HEADER_BYTES];
        for record in records {
            bytes.extend_from_slice(&entry_header(record));
            bytes.extend_from_slice(record.entry.bytes());
        }
        let header = GroupHeader {
            journal_id: 9,
            sequence: 12,
            first_live: 4,
            durable: 11,
            size_blocks: 1024,
            lap: 2,
            entry_count: records.len() as u32,
            payload_bytes: (bytes.len() - GROUP_HEADER_BYTES) as u32,
        };
        finish_group(&mut bytes, &header);
        bytes
    }

    #[test]
    fn groups_come_back_as_they_were_written() {
        let records = [
            record(Entry::Append { place: place(), bytes: b"batches" }),
            record(Entry::Extent { place: place(), length: 70_000, crc: 0xdead_beef }),
            record(Entry::Truncate { offset: 8 }),
            record(Entry::LogStart { offset: 9 }),
            record(Entry::Delete),
            record(Entry::Block { place: place(), bytes: b"end of a batch" }),
            record(Entry::Append { place: place(), bytes: b"more" }),
        ];
        let bytes = group(&records);
        let (header, payload) = decode_group(&bytes, 9).unwrap();
        assert_eq!((header.sequence, header.first_live, header.durable), (12, 4, 11));
        assert_eq!((header.lap, header.entry_count), (2, 7));
        let found: Vec<Record<'_>> = entries(payload).map(Result::unwrap).collect();
        assert_eq!(found, records);
    }

    #[test]
    fn a_group_of_another_journal_or_with_any_bit_flipped_is_none() {
        let bytes = group(&[record(Entry::Append { place: place(), bytes: b"batches" })]);
        assert_eq!(decode_group(&bytes, 8), Err(NoGroup::Journal));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_group(&bad, 9).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(decode_group(&bytes[..end], 9).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn entries_that_make_no_sense_are_told() {
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut payload = entry_header(&record(Entry::Append { place: place(), bytes: b"abc" })).to_vec();
            payload.extend_from_slice(b"abc");
            change(&mut payload);
            let found: Vec<_> = entries(&payload).collect();
            assert_eq!(found, [Err(InvalidEntry { at: 0 })]);
        };
        check(&|p| p[0] = 0);
        check(&|p| p[0] = 9);
        check(&|p| p[28] = 4);
        check(&|p| p.truncate(20));
        check(&|p| p[7] = 0x80);
        check(&|p| p[40] = 0);
        check(&|p| p[55] = 0x80);
        check(&|p| p[56..64].fill(0xff));
    }

    #[test]
    fn a_file_header_comes_back_and_nothing_else_does() {
        let mut block = encode_file_header(JournalKind::Durable, 0x1234_5678_9abc_def0);
        assert_eq!(decode_file_header(JournalKind::Durable, &block), Some(0x1234_5678_9abc_def0));
        block[9] ^= 1;
        assert_eq!(decode_file_header(JournalKind::Durable, &block), None);
        assert_eq!(decode_file_header(JournalKind::Durable, &[0; BLOCK_BYTES]), None);
        assert_eq!(decode_file_header(JournalKind::Durable, &[]), None);
    }
}
