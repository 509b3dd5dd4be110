//! Reads a partition's folder as Apache's DumpLogSegments does, without any code of the log room, and names mismatches.

use std::collections::BTreeMap;
use std::path::Path;

use crate::disk::Disk;

const INDEX_INTERVAL_BYTES: usize = 4096;

struct Batch {
    position: usize,
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    size: usize,
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn batches(log: &[u8], name: &str) -> Vec<Batch> {
    let mut found = Vec::new();
    let mut position = 0;
    while position < log.len() {
        assert!(log.len() - position >= 61, "{name}: {} stray bytes at {position}", log.len() - position);
        let bytes = &log[position..];
        let size = 12 + i32_at(bytes, 8) as usize;
        assert!(size <= bytes.len(), "{name}: batch at {position} runs past the end");
        assert_eq!(i32_at(bytes, 17) as u32, crc32c(&bytes[21..size]), "{name}: CRC at {position}");
        let base_offset = i64_at(bytes, 0);
        found.push(Batch {
            position,
            base_offset,
            last_offset: base_offset + i64::from(i32_at(bytes, 23)),
            max_timestamp: i64_at(bytes, 35),
            size,
        });
        position += size;
    }
    found
}

/// Bit by bit, to share nothing with the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The index entries that Kafka would have written for these batches: (relative last offset, position).
fn index_entries(batches: &[Batch]) -> Vec<(i32, i32)> {
    let mut since_entry = 0;
    let mut entries = Vec::new();
    for batch in batches {
        if since_entry > INDEX_INTERVAL_BYTES {
            entries.push(((batch.last_offset - batches[0].base_offset) as i32, batch.position as i32));
            since_entry = 0;
        }
        since_entry += batch.size;
    }
    entries
}

/// Checks every segment of a cleanly stopped folder.
pub fn check_closed(disk: &Disk, directory: &Path) {
    let mut logs: BTreeMap<i64, Vec<Batch>> = BTreeMap::new();
    for path in disk.files().iter().filter(|p| p.parent() == Some(directory)) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap();
        assert!(!name.ends_with(".tmp") && name != "segment.next", "{name} is left over");
        if let Some(stem) = name.strip_suffix(".log") {
            logs.insert(stem.parse().unwrap(), batches(&disk.read(path).unwrap(), name));
        }
    }
    assert!(!logs.is_empty(), "no segment");
    let mut expected = None;
    for (base_offset, batches) in &logs {
        assert!(
            expected.is_none_or(|e| e == *base_offset),
            "segment {base_offset} does not follow {expected:?}"
        );
        let mut next = *base_offset;
        for batch in batches {
            assert_eq!(batch.base_offset, next, "offsets of segment {base_offset} are dense");
            next = batch.last_offset + 1;
        }
        expected = Some(next);
        check_indexes(disk, directory, *base_offset, batches);
    }
    let end = expected.unwrap();
    assert!(
        disk.read(&directory.join(format!("{end:020}.snapshot"))).is_some(),
        "no snapshot at the end {end}"
    );
}

fn check_indexes(disk: &Disk, directory: &Path, base_offset: i64, batches: &[Batch]) {
    let index = disk.read(&directory.join(format!("{base_offset:020}.index"))).expect("an offset index");
    let entries: Vec<(i32, i32)> = index.chunks(8).map(|e| (i32_at(e, 0), i32_at(e, 4))).collect();
    // A log that was opened after a clean stop counts its interval anew, so entries may be fewer, never wrong.
    for (relative, position) in &entries {
        let batch =
            batches.iter().find(|b| b.position as i32 == *position).expect("an entry points at a batch");
        assert_eq!(batch.last_offset - base_offset, i64::from(*relative), "index of segment {base_offset}");
    }
    assert!(
        entries.len() <= index_entries(batches).len(),
        "index of segment {base_offset} has too many entries"
    );

    let times = disk.read(&directory.join(format!("{base_offset:020}.timeindex"))).expect("a time index");
    let mut last = -1;
    for entry in times.chunks(12) {
        let (timestamp, offset) = (i64_at(entry, 0), base_offset + i64::from(i32_at(entry, 8)));
        assert!(timestamp > last, "time index of segment {base_offset} grows");
        last = timestamp;
        let batch =
            batches.iter().find(|b| b.last_offset == offset).expect("a time entry names a batch's end");
        assert_eq!(batch.max_timestamp, timestamp, "time index of segment {base_offset} at offset {offset}");
        let before = batches.iter().filter(|b| b.last_offset <= offset).map(|b| b.max_timestamp).max();
        assert_eq!(before, Some(timestamp), "largest timestamp up to {offset}");
    }
    let largest = batches.iter().map(|b| b.max_timestamp).max();
    assert_eq!(
        largest.unwrap_or(-1),
        last,
        "time index of segment {base_offset} ends with the largest timestamp"
    );
}

/// Checks that the folder's offset indexes have every entry that a rebuild gives.
pub fn check_indexes_complete(disk: &Disk, directory: &Path) {
    for path in disk.files() {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap().to_owned();
        let (Some(stem), true) = (name.strip_suffix(".log"), path.parent() == Some(directory)) else {
            continue;
        };
        let index = disk.read(&directory.join(format!("{stem}.index"))).expect("an offset index");
        let entries: Vec<(i32, i32)> = index.chunks(8).map(|e| (i32_at(e, 0), i32_at(e, 4))).collect();
        assert_eq!(entries, index_entries(&batches(&disk.read(&path).unwrap(), &name)), "{name}");
    }
}
