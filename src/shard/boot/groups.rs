//! The records of `__consumer_offsets` at a start, for the coordinator that they are of.

use std::path::Path;

use bytes::Bytes;

use super::error::{BootError, GroupBatchError};
use super::for_each_batch;
use crate::group::GroupRecord;
use crate::log::{Log, Now};
use crate::model::{Offset, TopicPartition};
use crate::reactor::Files;
use crate::record::BatchView;
use crate::record::compression::{Codec, DecompressBounds, decompress};
use crate::record::record::Records;
use crate::server::GroupSeat;

/// Unpacked bytes of one batch of group records that another tool has compressed. Our own are never compressed, and no
/// client may write there; this only bounds what a damaged length can make us take.
const GROUP_BATCH_BOUNDS: DecompressBounds =
    DecompressBounds { output_bytes_max: 256 << 20, ratio_max: 4096 };

/// Replays a partition of `__consumer_offsets` into the coordinator.
pub(super) fn load_groups(
    files: &mut dyn Files,
    now: Now,
    at: &TopicPartition,
    log: &Log,
    groups: &mut GroupSeat,
) -> Result<(), BootError> {
    groups.begin_load(now, at.partition);
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let loaded = for_each_group_batch(files, at, log.directory(), start, end, &mut |records, bytes| {
        groups.load(now, at.partition, records, bytes);
    });
    match loaded {
        Ok(()) => groups.end_load(now, at.partition),
        Err(_) => groups.resign(now, at.partition),
    }
    loaded
}

/// The records of each batch of a partition of `__consumer_offsets`, and the bytes that it has in the log.
pub type GroupBatches = Result<Vec<(Vec<GroupRecord>, usize)>, BootError>;

/// Reads a partition of `__consumer_offsets`, for a coordinator that gets it while the broker serves. Blocking.
pub fn read_groups(
    files: &mut dyn Files,
    at: &TopicPartition,
    directory: &Path,
    log_start: Offset,
    log_end: Offset,
) -> GroupBatches {
    let mut batches = Vec::new();
    let mut take = |records, bytes| batches.push((records, bytes));
    for_each_group_batch(files, at, directory, log_start, log_end, &mut take)?;
    Ok(batches)
}

fn for_each_group_batch(
    files: &mut dyn Files,
    at: &TopicPartition,
    directory: &Path,
    log_start: Offset,
    log_end: Offset,
    take: &mut dyn FnMut(Vec<GroupRecord>, usize),
) -> Result<(), BootError> {
    let mut unpacked = Vec::new();
    for_each_batch(files, at, directory, log_start, log_end, &mut |batch| {
        let records = if batch.attributes().is_control() {
            Vec::new()
        } else {
            group_records(batch, &mut unpacked).map_err(|error| BootError::GroupRecords {
                at: at.clone(),
                offset: batch.base_offset(),
                error,
            })?
        };
        take(records, batch.size_bytes());
        Ok(())
    })
}

/// The records of one batch. One without a key belongs to no group and is passed over.
fn group_records(batch: &BatchView<'_>, unpacked: &mut Vec<u8>) -> Result<Vec<GroupRecord>, GroupBatchError> {
    let payload = match batch.compression() {
        Codec::None => batch.records(),
        codec => {
            decompress(codec, batch.records(), GROUP_BATCH_BOUNDS, unpacked)?;
            unpacked.as_slice()
        }
    };
    let mut records = Vec::new();
    for record in Records::new(payload, batch.record_count()) {
        let record = record?;
        if let Some(key) = record.key {
            records.push(GroupRecord {
                key: Bytes::copy_from_slice(key),
                value: record.value.map(Bytes::copy_from_slice),
            });
        }
    }
    Ok(records)
}
