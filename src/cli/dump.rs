//! `corelog log dump`: the files of a data directory in words.
//!
//! Reads only; a broker may be running. Of a log that grows it shows what is there. Checks what the format lets it check: each
//! batch's checksum, that offsets follow on, that a snapshot's checksum fits.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::log::layout::{self, FileSuffix};
use crate::log::{LeaderEpochCache, ProducerState};
use crate::model::Offset;
use crate::record::record::{Header, Record, Records};
use crate::record::{BATCH_HEADER_BYTES, BatchView, ControlKind, DecompressBounds, decompress};

/// `message.max.bytes` can be no larger, so no batch is.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;
/// A batch that unpacks to more is shown without its records.
const UNPACK: DecompressBounds = DecompressBounds { output_bytes_max: 1 << 30, ratio_max: 10_000 };
/// Longer keys and values are cut in the listing.
const SHOWN_BYTES_MAX: usize = 256;

/// Why a file cannot be shown.
#[derive(Debug)]
pub enum DumpError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    UnknownKind {
        path: PathBuf,
    },
    /// Not what its name says; everything up to the fault has been printed.
    Malformed {
        path: PathBuf,
        at: u64,
        what: Fault,
    },
    Write {
        source: io::Error,
    },
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Fault {
    Batch(crate::record::InvalidBatch),
    /// Batches must rise; `found` starts below the end of the one before.
    OffsetsFall {
        expected: Offset,
        found: Offset,
    },
    CutShort {
        bytes: u64,
    },
    Snapshot(crate::log::InvalidSnapshot),
    NotCheckpoint,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DumpError::Read { path, source } => {
                write!(f, "cannot read {}: {source}; check the path", path.display())
            }
            DumpError::UnknownKind { path } => write!(
                f,
                "{} is of no kind that corelog writes; give it .log, .index, .timeindex, .snapshot or checkpoint files",
                path.display()
            ),
            DumpError::Malformed { path, at, what } => write!(f, "{} at byte {at}: {what}", path.display()),
            DumpError::Write { source } => write!(f, "cannot write the listing: {source}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Batch(invalid) => write!(f, "{invalid}"),
            Fault::OffsetsFall { expected, found } => {
                write!(f, "offset {found} where {expected} or a later one is due")
            }
            Fault::CutShort { bytes } => write!(f, "the last {bytes} bytes are less than a whole entry"),
            Fault::Snapshot(invalid) => write!(f, "no sound snapshot: {invalid:?}"),
            Fault::NotCheckpoint => f.write_str("no checkpoint of version 0"),
        }
    }
}

impl std::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DumpError::Read { source, .. } | DumpError::Write { source } => Some(source),
            DumpError::UnknownKind { .. } | DumpError::Malformed { .. } => None,
        }
    }
}

/// Whether the reader of the listing has gone away (`| head`): no error worth a word.
impl DumpError {
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, DumpError::Write { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Shows the files one after the other. Goes on after a damaged one; the first error is returned at the end.
pub fn run(files: &[PathBuf], with_records: bool, out: &mut dyn Write) -> Result<(), DumpError> {
    let mut first = Ok(());
    for path in files {
        let result = dump_file(path, with_records, out);
        if let Err(DumpError::Write { .. }) = result {
            return result;
        }
        first = first.and(result);
    }
    first
}

fn dump_file(path: &Path, with_records: bool, out: &mut dyn Write) -> Result<(), DumpError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    put(out, format_args!("{}", path.display()))?;
    let read = |source| DumpError::Read { path: path.to_owned(), source };
    if let Some((base, FileSuffix::Log)) = layout::parse_offset_file(&name) {
        let file = File::open(path).map_err(read)?;
        let size = file.metadata().map_err(read)?.len();
        return dump_log(path, BufReader::with_capacity(1 << 20, file), size, base, with_records, out);
    }
    let bytes = std::fs::read(path).map_err(read)?;
    match layout::parse_offset_file(&name) {
        Some((base, FileSuffix::OffsetIndex)) => dump_index(path, &bytes, base, out),
        Some((base, FileSuffix::TimeIndex)) => dump_time_index(path, &bytes, base, out),
        Some((_, FileSuffix::ProducerSnapshot)) => dump_snapshot(path, &bytes, out),
        Some(_) => Err(DumpError::UnknownKind { path: path.to_owned() }),
        None => dump_text(path, &name, &bytes, out),
    }
}

fn put(out: &mut dyn Write, line: fmt::Arguments<'_>) -> Result<(), DumpError> {
    writeln!(out, "{line}").map_err(|source| DumpError::Write { source })
}

fn dump_log(
    path: &Path,
    mut file: impl Read,
    size: u64,
    base: Offset,
    with_records: bool,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let read = |source| DumpError::Read { path: path.to_owned(), source };
    let malformed = |at, what| DumpError::Malformed { path: path.to_owned(), at, what };
    let (mut position, mut expected, mut batches, mut records) = (0u64, base, 0u64, 0u64);
    let mut bytes = Vec::new();
    while position < size {
        let rest = size - position;
        bytes.resize(BATCH_HEADER_BYTES.min(usize::try_from(rest).unwrap_or(usize::MAX)), 0);
        file.read_exact(&mut bytes).map_err(read)?;
        let whole =
            BatchView::parse_header(&bytes).map_err(|e| malformed(position, Fault::Batch(e)))?.size_bytes();
        if whole as u64 > rest || whole > BATCH_BYTES_MAX {
            return Err(malformed(position, Fault::CutShort { bytes: rest }));
        }
        bytes.resize(whole, 0);
        file.read_exact(&mut bytes[BATCH_HEADER_BYTES..]).map_err(read)?;
        let batch = BatchView::parse(&bytes).map_err(|e| malformed(position, Fault::Batch(e)))?;
        dump_batch(&batch, position, out)?;
        if with_records {
            dump_records(&batch, out)?;
        }
        batch.check_crc().map_err(|e| malformed(position, Fault::Batch(e)))?;
        if batch.base_offset() < expected {
            return Err(malformed(position, Fault::OffsetsFall { expected, found: batch.base_offset() }));
        }
        expected = batch.end_offset();
        position += whole as u64;
        batches += 1;
        records += u64::try_from(batch.record_count()).unwrap_or(0);
    }
    put(out, format_args!("{batches} batches, {records} records, {size} bytes, next offset {expected}"))
}

fn dump_batch(batch: &BatchView<'_>, position: u64, out: &mut dyn Write) -> Result<(), DumpError> {
    let attributes = batch.attributes();
    let mut line = format!(
        "offset {}..={} position {position} bytes {} records {} epoch {} codec {} {:?} timestamp {}..={} crc {:#010x}",
        batch.base_offset(),
        batch.last_offset(),
        batch.size_bytes(),
        batch.record_count(),
        batch.leader_epoch().0,
        batch.compression().name(),
        batch.timestamp_type(),
        batch.base_timestamp(),
        batch.max_timestamp(),
        batch.crc(),
    );
    if let Some(stamp) = batch.producer() {
        line += &format!(
            " producer {} epoch {} sequence {}..={}",
            stamp.id.0,
            stamp.epoch.0,
            batch.base_sequence(),
            batch.last_sequence()
        );
    }
    for (is_set, word) in
        [(attributes.is_transactional(), " transactional"), (attributes.is_control(), " control")]
    {
        line += if is_set { word } else { "" };
    }
    put(out, format_args!("{line}"))
}

fn dump_records(batch: &BatchView<'_>, out: &mut dyn Write) -> Result<(), DumpError> {
    let mut unpacked = Vec::new();
    if let Err(error) = decompress(batch.compression(), batch.records(), UNPACK, &mut unpacked) {
        return put(out, format_args!("  records do not unpack: {error}"));
    }
    for record in Records::new(&unpacked, batch.record_count()) {
        match record {
            Ok(record) => put(out, format_args!("  {}", record_text(batch, &record)))?,
            Err(error) => return put(out, format_args!("  no further records: {error}")),
        }
    }
    Ok(())
}

fn record_text(batch: &BatchView<'_>, record: &Record<'_>) -> String {
    let offset = batch.base_offset() + i64::from(record.offset_delta);
    let timestamp = batch.base_timestamp() + record.timestamp_delta;
    let mut text = format!("offset {offset} timestamp {timestamp}");
    if batch.attributes().is_control() {
        return match record.key.and_then(ControlKind::parse) {
            Some(kind) => text + &format!(" {kind:?}"),
            None => text + " control record of an unknown kind",
        };
    }
    text += &format!(" key {} value {}", shown(record.key), shown(record.value));
    for Header { key, value } in record.headers {
        text += &format!(" header {}={}", shown(Some(key)), shown(value));
    }
    text
}

/// Text as it is, escaped; other bytes in hexadecimal; cut where it gets long.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let rest = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    match std::str::from_utf8(cut) {
        Ok(text) => format!("{text:?}{rest}"),
        Err(_) => cut.iter().fold("0x".to_owned(), |hex, byte| hex + &format!("{byte:02x}")) + &rest,
    }
}

/// int32 offset less the base, int32 position. Layout: `log/offset_index`.
fn dump_index(path: &Path, bytes: &[u8], base: Offset, out: &mut dyn Write) -> Result<(), DumpError> {
    let (entries, rest) = bytes.as_chunks::<8>();
    for entry in entries {
        let relative = i32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let position = i32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]]);
        if position == 0 {
            // A running Kafka keeps its indexes longer than they are, with zeros behind the last entry. The batch at
            // position 0 never has an entry: nothing lies before it.
            break;
        }
        put(out, format_args!("offset {} position {position}", base + i64::from(relative)))?;
    }
    whole(path, bytes, rest.len())
}

/// int64 timestamp, int32 offset less the base. Layout: `log/time_index`.
fn dump_time_index(path: &Path, bytes: &[u8], base: Offset, out: &mut dyn Write) -> Result<(), DumpError> {
    let (entries, rest) = bytes.as_chunks::<12>();
    for entry in entries {
        let (timestamp, relative) = entry.split_first_chunk::<8>().expect("an entry has twelve bytes");
        let relative = i32::from_be_bytes(relative.try_into().expect("an entry has twelve bytes"));
        let timestamp = i64::from_be_bytes(*timestamp);
        if timestamp == 0 && relative == 0 {
            break;
        }
        put(out, format_args!("timestamp {timestamp} offset {}", base + i64::from(relative)))?;
    }
    whole(path, bytes, rest.len())
}

fn whole(path: &Path, bytes: &[u8], rest: usize) -> Result<(), DumpError> {
    if rest == 0 {
        return Ok(());
    }
    let at = (bytes.len() - rest) as u64;
    Err(DumpError::Malformed { path: path.to_owned(), at, what: Fault::CutShort { bytes: rest as u64 } })
}

fn dump_snapshot(path: &Path, bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let state = ProducerState::decode_snapshot(bytes).map_err(|e| DumpError::Malformed {
        path: path.to_owned(),
        at: 0,
        what: Fault::Snapshot(e),
    })?;
    for (id, entry) in state.iter() {
        let last = entry.last_batch().map_or("no batch".to_owned(), |batch| {
            let (first, last) = (batch.base_offset(), batch.last_offset);
            format!(
                "last batch offset {first}..={last} sequence {}..={}",
                batch.base_sequence(),
                batch.last_sequence
            )
        });
        let open = entry
            .open_transaction_start
            .map_or(String::new(), |start| format!(" transaction open since {start}"));
        let (epoch, seen) = (entry.epoch.0, entry.last_timestamp);
        put(out, format_args!("producer {} epoch {epoch} {last} timestamp {seen}{open}", id.0))?;
    }
    put(out, format_args!("{} producers", state.len()))
}

fn dump_text(path: &Path, name: &str, bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let not_checkpoint = || DumpError::Malformed { path: path.to_owned(), at: 0, what: Fault::NotCheckpoint };
    let text = std::str::from_utf8(bytes).map_err(|_| not_checkpoint());
    match name {
        layout::LEADER_EPOCHS => {
            let cache = LeaderEpochCache::parse(text?).ok_or_else(not_checkpoint)?;
            for entry in cache.entries() {
                put(out, format_args!("epoch {} from offset {}", entry.epoch.0, entry.start_offset))?;
            }
            Ok(())
        }
        layout::META_PROPERTIES | layout::PARTITION_METADATA => {
            put(out, format_args!("{}", text?.trim_end()))
        }
        _ if name.ends_with("-checkpoint") => {
            let mut lines = text?.lines();
            let head = (lines.next(), lines.next().and_then(|count| count.parse::<usize>().ok()));
            let (Some("0"), Some(count)) = head else { return Err(not_checkpoint()) };
            let entries: Vec<&str> = lines.collect();
            for entry in &entries {
                let mut words = entry.split(' ');
                let (Some(topic), Some(partition), Some(offset), None) =
                    (words.next(), words.next(), words.next(), words.next())
                else {
                    return Err(not_checkpoint());
                };
                put(out, format_args!("{topic}-{partition} offset {offset}"))?;
            }
            if entries.len() == count { Ok(()) } else { Err(not_checkpoint()) }
        }
        _ => Err(DumpError::UnknownKind { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::BatchBuilder;

    fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.push(1_700_000_000_000, Some(b"k"), Some(value));
        }
        builder.finish(base, LeaderEpoch(3)).to_vec()
    }

    fn dump(name: &str, bytes: &[u8]) -> (String, Result<(), String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        let result = run(std::slice::from_ref(&path), true, &mut out);
        let prefix = format!("{}\n", path.display());
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix(&prefix).expect("the path comes first").to_owned();
        (text, result.map_err(|e| e.to_string().replace(path.to_str().unwrap(), "FILE")))
    }

    #[test]
    fn batches_and_records_are_shown() {
        let bytes = [batch(5, &[b"one", b"t\n"]), batch(7, &[b"\xff"])].concat();
        let (text, result) = dump("00000000000000000005.log", &bytes);
        assert_eq!(result, Ok(()));
        assert!(text.starts_with("offset 5..=6 position 0 bytes "), "{text}");
        assert!(text.contains("\n  offset 6 timestamp 1700000000000 key \"k\" value \"t\\n\"\n"), "{text}");
        assert!(text.contains(" value 0xff\n"), "{text}");
        assert!(
            text.ends_with(&format!("2 batches, 3 records, {} bytes, next offset 8\n", bytes.len())),
            "{text}"
        );
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let check = |bytes: &[u8], expected: &str| {
            let error = dump("00000000000000000000.log", bytes).1.unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let good = batch(0, &[b"one"]);
        let mut flipped = [good.clone(), batch(1, &[b"two"])].concat();
        *flipped.last_mut().unwrap() ^= 1;
        check(&flipped, &format!("FILE at byte {}: ", good.len()));
        check(&good[..good.len() - 1], "FILE at byte 0: ");
        check(&[good.clone(), good.clone()].concat(), "offset 0 where 1 or a later one is due");
        check(&[good, vec![0; 10]].concat(), "FILE at byte ");
    }

    #[test]
    fn indexes_and_checkpoints_are_shown() {
        let check = |name: &str, bytes: &[u8], expected: &str| {
            assert_eq!(dump(name, bytes), (expected.to_owned(), Ok(())), "{name}")
        };
        check("00000000000000000010.index", b"\0\0\0\x05\0\0\x10\0", "offset 15 position 4096\n");
        check("00000000000000000010.timeindex", b"\0\0\0\0\0\0\0\x07\0\0\0\x05", "timestamp 7 offset 15\n");
        check(
            "leader-epoch-checkpoint",
            b"0\n2\n0 0\n3 40\n",
            "epoch 0 from offset 0\nepoch 3 from offset 40\n",
        );
        check("recovery-point-offset-checkpoint", b"0\n1\na 0 42\n", "a-0 offset 42\n");
        check("partition.metadata", b"version: 0\ntopic_id: x\n", "version: 0\ntopic_id: x\n");
        check("00000000000000000010.snapshot", &ProducerState::default().encode_snapshot(), "0 producers\n");
        let error = |name: &str, bytes: &[u8]| dump(name, bytes).1.unwrap_err();
        assert!(
            error("00000000000000000010.index", b"\0\0\0\x05\0").contains("FILE at byte 0: the last 5 bytes")
        );
        assert!(error("recovery-point-offset-checkpoint", b"0\n2\na 0 42\n").contains("no checkpoint"));
        assert!(error("notes.txt", b"").contains("is of no kind"));
    }
}
