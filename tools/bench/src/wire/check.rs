//! Whether what is read back is what was sent: the CRC of each batch, offsets without a gap, and the order in which each
//! connection sent to each partition.

use std::collections::BTreeMap;
use std::fmt;

use corelog::protocol::messages::fetch::FetchResponse;
use corelog::record::{BatchView, Batches, Codec, DecompressBounds, Records, decompress};
use serde::{Deserialize, Serialize};

use super::admin::{WireError, error_text};
use super::answers::response;
use super::batch::{Stamp, plain_value};
use super::requests::FETCH_VERSION;

/// What a checker read in whole, and what was wrong in that and in the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Checked {
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    /// The first few things that were wrong, and how many there were.
    pub wrong: Vec<String>,
    pub wrong_count: u64,
}

const WRONG_TOLD: usize = 5;

impl Checked {
    pub fn add(&mut self, other: &Checked) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.wrong_count += other.wrong_count;
        let room = WRONG_TOLD.saturating_sub(self.wrong.len());
        self.wrong.extend(other.wrong.iter().take(room).cloned());
    }

    pub fn wrong(&mut self, what: impl fmt::Display) {
        self.wrong_count += 1;
        if self.wrong.len() < WRONG_TOLD {
            self.wrong.push(what.to_string());
        }
    }
}

/// How far a partition has been read.
#[derive(Default)]
struct Progress {
    next_offset: i64,
    high_watermark: i64,
    /// By connection: the next sequence.
    sequences: BTreeMap<u32, u64>,
}

/// What a fetch brought of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    pub partition: i32,
    pub next_offset: i64,
    pub high_watermark: i64,
    pub log_start: i64,
    pub records: u64,
    pub bytes: u64,
}

/// How closely it looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Headers and offsets: costs the reader nothing that shows.
    Offsets,
    /// Every byte.
    Whole,
}

/// Reads the answers to fetches of one topic by one reader. The topic holds what this tool wrote alone and is read in order, so
/// that offsets and sequences tell of gaps.
pub struct Checker {
    depth: Depth,
    partitions: BTreeMap<i32, Progress>,
    pub checked: Checked,
    value: Vec<u8>,
    unpacked: Vec<u8>,
    record_bytes: usize,
}

impl Checker {
    pub fn new(depth: Depth, record_bytes: usize) -> Checker {
        Checker {
            depth,
            partitions: BTreeMap::new(),
            checked: Checked::default(),
            value: Vec::new(),
            unpacked: Vec::new(),
            record_bytes,
        }
    }

    pub fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    pub fn next_offset(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |progress| progress.next_offset)
    }

    pub fn high_watermark(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |progress| progress.high_watermark)
    }

    /// Goes on from another offset: what was known of the order is void.
    pub fn seek(&mut self, partition: i32, offset: i64) {
        let progress = self.partitions.entry(partition).or_default();
        progress.next_offset = offset;
        progress.sequences.clear();
    }

    /// Reads one answer. `batch` is called for each batch that begins at or behind the wanted offset, with its stamp (none
    /// for a packed batch) and records. Returns the correlation id and what came of each partition.
    pub fn read(
        &mut self,
        answer: &[u8],
        reads: &mut Vec<Read>,
        mut batch_seen: impl FnMut(Option<Stamp>, u64),
    ) -> Result<i32, WireError> {
        let (correlation, response) = response::<FetchResponse>(answer, FETCH_VERSION)?;
        if response.error_code != 0 {
            self.checked.wrong(format_args!("a fetch is answered with {}", error_text(response.error_code)));
        }
        for topic in &response.responses {
            for found in &topic.partitions {
                let partition = found.partition_index;
                if found.error_code != 0 && found.error_code != OFFSET_OUT_OF_RANGE {
                    let text = error_text(found.error_code);
                    self.checked
                        .wrong(format_args!("a fetch of partition {partition} is answered with {text}"));
                }
                let records = found.records.unwrap_or_default();
                let bytes = records.to_contiguous();
                let (count, seen) = self.partition(partition, &bytes, &mut batch_seen);
                let progress = self.partitions.entry(partition).or_default();
                progress.high_watermark = found.high_watermark;
                reads.push(Read {
                    partition,
                    next_offset: progress.next_offset,
                    high_watermark: found.high_watermark,
                    log_start: found.log_start_offset,
                    records: count,
                    bytes: seen,
                });
            }
        }
        Ok(correlation)
    }

    fn partition(
        &mut self,
        partition: i32,
        bytes: &[u8],
        batch_seen: &mut impl FnMut(Option<Stamp>, u64),
    ) -> (u64, u64) {
        let (mut count, mut seen) = (0, 0);
        let mut batches = Batches::new(bytes);
        loop {
            // The last batch of an answer may be cut.
            let rest = batches.rest();
            let Some(batch) = batches.next() else { break };
            let batch = match batch {
                Ok(batch) => batch,
                Err(corelog::record::InvalidBatch::Truncated { .. }) if rest.len() < bytes.len() => break,
                Err(error) => {
                    self.checked.wrong(format_args!("partition {partition}: {error}"));
                    break;
                }
            };
            let wanted = self.next_offset(partition);
            if batch.end_offset() <= wanted {
                continue;
            }
            if batch.base_offset() != wanted {
                let base = batch.base_offset();
                self.checked
                    .wrong(format_args!("partition {partition}: offset {base} where {wanted} was to come"));
            }
            count += batch.record_count().max(0) as u64;
            seen += batch.size_bytes() as u64;
            self.batch(partition, &batch, batch_seen);
            self.partitions.entry(partition).or_default().next_offset = batch.end_offset();
        }
        (count, seen)
    }

    fn batch(&mut self, partition: i32, batch: &BatchView, batch_seen: &mut impl FnMut(Option<Stamp>, u64)) {
        let records = batch.record_count().max(0) as u64;
        let offset = batch.base_offset();
        if self.depth == Depth::Whole {
            self.checked.batches += 1;
            self.checked.records += records;
            self.checked.bytes += batch.size_bytes() as u64;
        }
        if self.depth == Depth::Whole
            && let Err(error) = batch.check_crc()
        {
            return self.checked.wrong(format_args!("partition {partition}, offset {offset}: {error}"));
        }
        let codec = batch.compression();
        if codec != Codec::None {
            if self.depth == Depth::Whole {
                let bounds = DecompressBounds { output_bytes_max: 64 << 20, ratio_max: 10_000 };
                let mut unpacked = std::mem::take(&mut self.unpacked);
                match decompress(codec, batch.records(), bounds, &mut unpacked) {
                    Ok(()) => self.contents(partition, offset, &unpacked, batch.record_count()),
                    Err(error) => {
                        self.checked.wrong(format_args!("partition {partition}, offset {offset}: {error}"));
                    }
                }
                self.unpacked = unpacked;
            }
            return batch_seen(None, records);
        }
        if self.depth == Depth::Whole {
            self.contents(partition, offset, batch.records(), batch.record_count());
        }
        let first = Records::new(batch.records(), batch.record_count()).next();
        let stamp = first.and_then(|record| record.ok()?.value).and_then(Stamp::of_value);
        match stamp {
            Some(stamp) => {
                self.order(partition, offset, stamp);
                batch_seen(Some(stamp), records);
            }
            None => self.checked.wrong(format_args!("partition {partition}, offset {offset}: no stamp")),
        }
    }

    /// A connection's batches for a partition are numbered as it sent them, and none may be there twice.
    fn order(&mut self, partition: i32, offset: i64, stamp: Stamp) {
        let sequences = &mut self.partitions.entry(partition).or_default().sequences;
        // The first of a connection may have any number: reading may begin in the middle.
        let next = sequences.insert(stamp.connection, stamp.sequence + 1);
        if let Some(next) = next.filter(|next| *next != stamp.sequence) {
            let (found, who) = (stamp.sequence, stamp.connection);
            self.checked.wrong(format_args!(
                "partition {partition}, offset {offset}: batch {found} of connection {who} where {next} was to come"
            ));
        }
        if stamp.partition != partition as u32 {
            let meant = stamp.partition;
            self.checked
                .wrong(format_args!("partition {partition}, offset {offset}: meant for partition {meant}"));
        }
    }

    /// Every record behind its stamp or number.
    fn contents(&mut self, partition: i32, offset: i64, payload: &[u8], count: i32) {
        let mut found = 0;
        let mut value = std::mem::take(&mut self.value);
        for (number, record) in Records::new(payload, count).enumerate() {
            plain_value(number, self.record_bytes, &mut value);
            let from = super::STAMP_BYTES;
            let is_same = match &record {
                Ok(record) => record.value.is_some_and(|found| {
                    found.len() == value.len()
                        && found[from..] == value[from..]
                        && (number == 0 || found[..from] == value[..from])
                }),
                Err(_) => false,
            };
            if !is_same {
                self.checked.wrong(format_args!(
                    "partition {partition}, offset {offset}: record {number} is another"
                ));
            }
            found += 1;
        }
        self.value = value;
        if found != count {
            self.checked
                .wrong(format_args!("partition {partition}, offset {offset}: {found} records of {count}"));
        }
    }
}

pub const OFFSET_OUT_OF_RANGE: i16 = 1;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use corelog::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
    use corelog::protocol::write_response;
    use corelog::record::set_base_offset;

    use super::*;
    use crate::wire::batch::Template;
    use crate::workload::Workload;

    /// Batches of connection and sequence, as a broker would answer with them, one change made to the bytes.
    fn answer(batches: &[(u32, u64)], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let workload = Workload { records: 2, record_bytes: 100, ..Workload::default() };
        let template = Template::new(&workload).unwrap();
        let mut log = Vec::new();
        for (number, (connection, sequence)) in batches.iter().enumerate() {
            let mut batch = template.bytes.clone();
            let stamp = Stamp { connection: *connection, partition: 3, sequence: *sequence, due_ns: 8 };
            template.stamp(&mut batch, stamp, None);
            set_base_offset(&mut batch, number as i64 * 2);
            log.extend_from_slice(&batch);
        }
        change(&mut log);
        let records = Some(corelog::protocol::Records::Borrowed(&log));
        let data = PartitionData { partition_index: 3, high_watermark: 9, records, ..Default::default() };
        let topic = FetchableTopicResponse { partitions: vec![data].into(), ..Default::default() };
        let response = FetchResponse { responses: vec![topic].into(), ..Default::default() };
        let mut out = BytesMut::new();
        write_response(&response, FETCH_VERSION, 77, &mut out);
        out[4..].to_vec()
    }

    fn wrongs(batches: &[(u32, u64)], change: impl Fn(&mut Vec<u8>)) -> u64 {
        let mut checker = Checker::new(Depth::Whole, 100);
        let mut reads = Vec::new();
        checker.read(&answer(batches, change), &mut reads, |_, _| {}).unwrap();
        checker.checked.wrong_count
    }

    #[test]
    fn what_was_sent_is_found_right() {
        let mut checker = Checker::new(Depth::Whole, 100);
        let (mut reads, mut seen) = (Vec::new(), Vec::new());
        let answer = answer(&[(1, 0), (2, 0), (1, 1)], |_| {});
        let correlation = checker
            .read(&answer, &mut reads, |stamp, records| seen.push((stamp.unwrap().connection, records)));
        assert_eq!(correlation.unwrap(), 77);
        assert_eq!(checker.checked.wrong, Vec::<String>::new());
        assert_eq!((checker.checked.batches, checker.checked.records), (3, 6));
        assert_eq!(seen, [(1, 2), (2, 2), (1, 2)]);
        assert_eq!((reads[0].next_offset, reads[0].high_watermark, checker.next_offset(3)), (6, 9, 6));
    }

    #[test]
    fn a_cut_last_batch_is_read_next_time() {
        let mut checker = Checker::new(Depth::Whole, 100);
        let cut = answer(&[(1, 0), (1, 1)], |log| log.truncate(log.len() - 1));
        checker.read(&cut, &mut Vec::new(), |_, _| {}).unwrap();
        assert_eq!((checker.checked.wrong_count, checker.next_offset(3)), (0, 2));
    }

    #[test]
    fn what_is_wrong_is_found() {
        assert_eq!(wrongs(&[(1, 0), (1, 1)], |_| {}), 0);
        assert_eq!(wrongs(&[(1, 0), (1, 2)], |_| {}), 1, "one is lost");
        assert_eq!(wrongs(&[(1, 0), (1, 0)], |_| {}), 1, "one is there twice");
        assert_eq!(wrongs(&[(1, 1), (1, 0)], |_| {}), 1, "out of order");
        let size = answer(&[(1, 0)], |_| {}).len();
        assert!(size > 200);
        assert_eq!(wrongs(&[(1, 0)], |log| *log.last_mut().unwrap() ^= 1), 1, "a bit fell over");
        let gap = |log: &mut Vec<u8>| {
            let half = log.len() / 2;
            set_base_offset(&mut log[half..], 3);
        };
        assert_eq!(wrongs(&[(1, 0), (1, 1)], gap), 1, "an offset is missing");
    }
}
