//! DescribeLogDirs: log directories, their partitions' sizes and lags.

use crate::protocol::message::message;
use crate::protocol::{Array, Str};

message! {
    request DescribeLogDirsRequest<'a> of DescribeLogDirs {
        topics: Option<Array<'a, DescribableLogDirTopic<'a>>> => 1.., null 1.., default Some(Array::EMPTY);
    }

    struct DescribableLogDirTopic<'a> {
        topic: &'a str             => 1..;
        partitions: Array<'a, i32> => 1..;
    }

    response DescribeLogDirsResponse<'a> of DescribeLogDirs {
        throttle_time_ms: i32                         => 1..;
        error_code: i16                               => 3.., ignorable;
        results: Array<'a, DescribeLogDirsResult<'a>> => 1..;
    }

    struct DescribeLogDirsResult<'a> {
        error_code: i16                             => 1..;
        log_dir: Str<'a>                            => 1..;
        topics: Array<'a, DescribeLogDirsTopic<'a>> => 1..;
        total_bytes: i64                            => 4.., default -1, ignorable;
        usable_bytes: i64                           => 4.., default -1, ignorable;
        is_cordoned: bool                           => 5.., ignorable;
    }

    struct DescribeLogDirsTopic<'a> {
        name: Str<'a>                                   => 1..;
        partitions: Array<'a, DescribeLogDirsPartition> => 1..;
    }

    struct DescribeLogDirsPartition {
        partition_index: i32 => 1..;
        partition_size: i64  => 1..;
        offset_lag: i64      => 1..;
        is_future_key: bool  => 1..;
    }
}
