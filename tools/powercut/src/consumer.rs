//! Reading: along with the load, and everything from the beginning after each cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corelog::record::{Batches, InvalidBatch, Records};
use history_checker::Event;

use crate::client::{Connection, Fetched, Partition, error_name};
use crate::producer::Round;
use crate::value;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LONG_POLL: Duration = Duration::from_millis(50);
/// Without a step forward in so many fetches a partition will not be read.
const IDLE_FETCHES_MAX: u32 = 20;

/// Where a reader is in each partition.
pub type Positions = BTreeMap<Partition, i64>;

/// The log of one partition, read whole.
#[derive(Default)]
pub struct WholeLog {
    /// The offsets in the order they were read, with the names of the values.
    pub records: Vec<(i64, String)>,
    /// What no log may look like, whatever was lost.
    pub faults: Vec<String>,
    /// The broker does not know the partition.
    pub is_unknown: bool,
}

/// Reads every partition from where `positions` stand until the connection breaks or the round is over.
/// Pushes what it read to `events`.
pub fn read_along(
    name: &str,
    positions: &mut Positions,
    round: &Round,
    events: &mut Vec<Event>,
) -> io::Result<()> {
    let mut connection = Connection::open(round.address)?;
    loop {
        let from: Vec<(&Partition, i64)> = positions.iter().map(|(p, offset)| (p, *offset)).collect();
        let all = connection.fetch(&from, LONG_POLL)?;
        if round.is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
        for fetched in all {
            if fetched.error_code != 0 {
                return Err(io::Error::other(format!(
                    "fetch {:?}: {}",
                    fetched.partition,
                    error_name(fetched.error_code)
                )));
            }
            let position = positions.get_mut(&fetched.partition).expect("only what was asked is answered");
            let at_ns = round.now_ns();
            let read = each_record(&fetched, position, |offset, value| {
                events.push(Event::Read {
                    consumer: name.to_owned(),
                    topic: fetched.partition.topic.clone(),
                    partition: fetched.partition.index,
                    offset,
                    value,
                    at_ns,
                });
            });
            read.map_err(io::Error::other)?;
        }
    }
}

/// Reads all `partitions` from offset 0 to their high watermark.
pub fn read_all(
    connection: &mut Connection,
    partitions: &[Partition],
) -> io::Result<BTreeMap<Partition, WholeLog>> {
    let mut logs: BTreeMap<Partition, WholeLog> =
        partitions.iter().map(|partition| (partition.clone(), WholeLog::default())).collect();
    let mut open: Positions = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
    let mut idle = 0;
    while !open.is_empty() {
        let from: Vec<(&Partition, i64)> = open.iter().map(|(p, offset)| (p, *offset)).collect();
        let mut has_moved = false;
        for fetched in connection.fetch(&from, Duration::ZERO)? {
            let log = logs.get_mut(&fetched.partition).expect("only what was asked is answered");
            let position = open.get_mut(&fetched.partition).expect("only what was asked is answered");
            let before = *position;
            let is_done = read_part(&fetched, position, log);
            has_moved |= is_done || *position > before;
            if is_done {
                open.remove(&fetched.partition);
            }
        }
        idle = if has_moved { 0 } else { idle + 1 };
        if idle > IDLE_FETCHES_MAX {
            for (partition, position) in std::mem::take(&mut open) {
                let log = logs.get_mut(&partition).expect("it is one of them");
                log.faults.push(format!("nothing comes from offset {position} on"));
            }
        }
    }
    Ok(logs)
}

/// Takes in one answer. True: there is nothing more to read.
fn read_part(fetched: &Fetched, position: &mut i64, log: &mut WholeLog) -> bool {
    if fetched.error_code != 0 {
        log.is_unknown = fetched.error_code == UNKNOWN_TOPIC_OR_PARTITION;
        if !log.is_unknown {
            log.faults.push(format!("offset {position} cannot be read: {}", error_name(fetched.error_code)));
        }
        return true;
    }
    if fetched.log_start != 0 {
        log.faults.push(format!("the log starts at {} and nothing was deleted", fetched.log_start));
        return true;
    }
    let records = &mut log.records;
    if let Err(fault) = each_record(fetched, position, |offset, value| records.push((offset, value))) {
        log.faults.push(fault);
        return true;
    }
    *position >= fetched.high_watermark
}

/// Tells each record from `position` on, which moves behind the last. Errors: a bad batch, a hole, a changed value.
fn each_record(
    fetched: &Fetched,
    position: &mut i64,
    mut tell: impl FnMut(i64, String),
) -> Result<(), String> {
    for batch in Batches::new(&fetched.records) {
        // An answer ends where its bound is, in the middle of a batch if need be: the next one begins with it. One that
        // stays cut off is noticed by the reader, which gets no further.
        if let Err(InvalidBatch::Truncated { .. }) = batch {
            break;
        }
        let batch = batch.map_err(|error| format!("a bad batch at offset {position}: {error}"))?;
        batch.check_crc().map_err(|error| format!("a bad batch at offset {position}: {error}"))?;
        for record in Records::new(batch.records(), batch.record_count()) {
            let record = record.map_err(|error| format!("a bad record at offset {position}: {error}"))?;
            let offset = batch.base_offset() + i64::from(record.offset_delta);
            // A fetch answers with whole batches: the first may begin earlier.
            if offset < *position {
                continue;
            }
            if offset > *position {
                return Err(format!("offset {offset} follows {}: a hole", *position - 1));
            }
            let name = value::name_of(record.value.unwrap_or_default())
                .map_err(|what| format!("offset {offset}: {what}"))?;
            tell(offset, name.to_owned());
            *position += 1;
        }
    }
    Ok(())
}
