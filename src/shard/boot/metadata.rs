//! The metadata log at a start: recovered and replayed, for the image that everything else is opened by.

use std::path::Path;

use super::directory::note_if_failed;
use super::error::BootError;
use super::for_each_batch;
use crate::controller::{apply, check_cluster};
use crate::log::journal::{PartitionKey, Redone};
use crate::log::layout::{self, MetaProperties};
use crate::log::{CheckpointBook, Log, LogConfig, RecoveryInput};
use crate::metadata::{CLUSTER_METADATA_TOPIC, Entry, Image, Local};
use crate::model::{Timestamp, TopicId, TopicPartition, Uuid};
use crate::reactor::Files;
use crate::record::record::Records;

/// The id of the metadata log's topic. Source: Apache Kafka, `Uuid.METADATA_TOPIC_ID`.
pub(super) const METADATA_TOPIC_ID: TopicId = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// The metadata log, read from end to end.
pub struct MetadataRecovered {
    pub log: Log,
    pub image: Image,
    pub last_term: u64,
    pub last_index: u64,
}

pub(super) fn metadata_partition() -> TopicPartition {
    TopicPartition::new(CLUSTER_METADATA_TOPIC, 0)
}

pub(super) fn metadata_log_config() -> LogConfig {
    LogConfig {
        retention_ms: None,
        retention_bytes: None,
        max_message_bytes: 64 << 20,
        ..LogConfig::default()
    }
}

/// Recovers the metadata log and replays it.
pub fn recover_metadata(
    files: &mut dyn Files,
    data_directory: &Path,
    properties: &MetaProperties,
    local: Local,
    book: &CheckpointBook,
    redone: &Redone,
    now: Timestamp,
) -> Result<MetadataRecovered, BootError> {
    note_if_failed(files, data_directory, |files| {
        if properties.node_id != local.node.0 {
            return Err(BootError::OtherNode {
                path: data_directory.to_owned(),
                expected: local.node,
                found: properties.node_id,
            });
        }
        let at = metadata_partition();
        let path = layout::partition_directory(data_directory, &at);
        let (recovery_point, log_start) = book.adopt(&at, METADATA_TOPIC_ID);
        // Always verified: it is small, and everything rests on it.
        let key = PartitionKey { topic_id: METADATA_TOPIC_ID, partition: 0 };
        let journaled_end = redone.partitions.get(&key).map_or(0, |redone| redone.end_offset);
        let input = RecoveryInput { recovery_point, log_start, journaled_end, is_clean: false };
        let (log, _) = Log::recover(files, &path, at.clone(), metadata_log_config(), input, now, &mut |_| {})
            .map_err(|error| BootError::Recovery { at, error })?;
        let mut image = Image::empty(local);
        let (mut last_term, mut last_index) = (0, 0);
        for_each_batch(
            files,
            &metadata_partition(),
            &path,
            log.log_start_offset(),
            log.log_end_offset(),
            &mut |batch| {
                let records: Result<Vec<_>, _> =
                    Records::new(batch.records(), batch.record_count()).collect();
                let values: Vec<&[u8]> = records.iter().flatten().filter_map(|record| record.value).collect();
                let entry = Entry::decode(values)
                    .map_err(|error| BootError::Metadata { path: path.clone(), error })?;
                (last_term, last_index) = (entry.term, entry.index);
                let before = std::mem::replace(&mut image, Image::empty(local));
                image =
                    apply(before, &entry).map_err(|error| BootError::Apply { path: path.clone(), error })?;
                Ok(())
            },
        )?;
        let cluster_id = Uuid::parse(&properties.cluster_id).ok_or_else(|| BootError::MetaProperties {
            path: data_directory.join(layout::META_PROPERTIES),
        })?;
        check_cluster(&image, cluster_id).map_err(BootError::Foreign)?;
        Ok(MetadataRecovered { log, image, last_term, last_index })
    })
}
