//! DeleteRecords: raises partitions' log start offsets.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DeleteRecordsRequest<'a> of DeleteRecords {
        topics: Array<'a, DeleteRecordsTopic<'a>> => 0..;
        timeout_ms: i32                           => 0..;
    }

    struct DeleteRecordsTopic<'a> {
        name: &'a str                                 => 0..;
        partitions: Array<'a, DeleteRecordsPartition> => 0..;
    }

    struct DeleteRecordsPartition {
        partition_index: i32 => 0..;
        offset: i64          => 0..;
    }

    response DeleteRecordsResponse<'a> of DeleteRecords {
        throttle_time_ms: i32                           => 0..;
        topics: Array<'a, DeleteRecordsTopicResult<'a>> => 0..;
    }

    struct DeleteRecordsTopicResult<'a> {
        name: Str<'a>                                       => 0..;
        partitions: Array<'a, DeleteRecordsPartitionResult> => 0..;
    }

    struct DeleteRecordsPartitionResult {
        partition_index: i32 => 0..;
        low_watermark: i64   => 0..;
        error_code: i16      => 0..;
    }
}
