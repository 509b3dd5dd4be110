//! DescribeLogDirs: the size of the data directories and of the partitions in them. Every shard tells of its partitions, of them
//! those that belong to where the client came in: clients ask all brokers. The shard that the client asked measures the file
//! system.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::encoded;
use crate::metadata::{CLUSTER_METADATA_TOPIC, Partition};
use crate::model::PartitionIndex;
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader};
use crate::server::Route;
use crate::server::by_topic::ByTopic;
use crate::server::context::{Asked, Context};

/// The first version that tells the sizes of the file system.
const SPACE_FROM: i16 = 4;

pub fn route() -> Route {
    Route::Everyone(merge)
}

/// Partitions of all answers, directory by directory; the space from the one that measured it. Every shard names the same
/// directories in the same order.
fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut merged: Vec<Described> = Vec::new();
    for body in bodies {
        let response = DescribeLogDirsResponse::decode(&mut Reader::new(body), version)
            .expect("a shard encoded it in this version");
        for (place, result) in response.results.iter().enumerate() {
            if place == merged.len() {
                merged.push(Described::new(result.log_dir.as_str().to_owned()));
            }
            let directory = &mut merged[place];
            assert_eq!(directory.path, result.log_dir.as_str(), "shards name other directories");
            for topic in &result.topics {
                topic.partitions.iter().for_each(|part| directory.partitions.push(&topic.name, part));
            }
            directory.error_code = directory.error_code.max(result.error_code);
            directory.total_bytes = directory.total_bytes.max(result.total_bytes);
            directory.usable_bytes = directory.usable_bytes.max(result.usable_bytes);
        }
    }
    response(version, merged)
}

/// What is told of one directory.
struct Described {
    path: String,
    error_code: i16,
    partitions: ByTopic<DescribeLogDirsPartition>,
    /// -1: not measured.
    total_bytes: i64,
    usable_bytes: i64,
}

impl Described {
    fn new(path: String) -> Described {
        Described { path, error_code: 0, partitions: ByTopic::new(), total_bytes: -1, usable_bytes: -1 }
    }

    /// Nothing can be said of it or of what is in it.
    fn offline(path: String) -> Described {
        Described { error_code: ErrorCode::KafkaStorageError.code(), ..Described::new(path) }
    }
}

fn response(version: i16, directories: Vec<Described>) -> Bytes {
    let results = directories.into_iter().map(|directory| {
        let is_online = directory.error_code == 0;
        let topics = directory.partitions.into_iter().filter(|_| is_online);
        let topics = topics.map(|(name, partitions)| DescribeLogDirsTopic {
            name: name.into(),
            partitions: partitions.into(),
        });
        DescribeLogDirsResult {
            error_code: directory.error_code,
            log_dir: directory.path.into(),
            topics: topics.collect(),
            total_bytes: if is_online { directory.total_bytes } else { -1 },
            usable_bytes: if is_online { directory.usable_bytes } else { -1 },
            ..DescribeLogDirsResult::default()
        }
    });
    let response =
        DescribeLogDirsResponse { results: results.collect(), ..DescribeLogDirsResponse::default() };
    encoded(&response, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = DescribeLogDirsRequest::decode(&mut Reader::new(asked.body), version)?;
    let set = Arc::clone(ctx.partitions.directories());
    let mut described: Vec<Described> =
        set.iter().map(|(_, directory)| Described::new(directory.path.display().to_string())).collect();
    let wanted = wanted(&request);
    for (_, replica) in ctx.partitions.served() {
        let (topic, partition) = (&*replica.at().topic, replica.at().partition);
        let is_here = |at: &Partition| ctx.image.is_at(at, asked.endpoint);
        // The metadata log is no topic: clients cannot name it.
        if topic == CLUSTER_METADATA_TOPIC
            || !ctx.image.partition(topic, partition).is_none_or(is_here)
            || wanted.as_ref().is_some_and(|wanted| !wanted.contains(&(topic, partition)))
        {
            continue;
        }
        let size_bytes = replica.log().size_bytes();
        let part = DescribeLogDirsPartition {
            partition_index: partition,
            partition_size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
            ..DescribeLogDirsPartition::default()
        };
        described[usize::from(replica.directory().0)].partitions.push(topic, part);
    }
    for ((_, directory), described) in set.iter().zip(&mut described) {
        if directory.failure().is_some() {
            described.error_code = ErrorCode::KafkaStorageError.code();
        }
    }
    let unusable = set.unusable().iter().map(|unusable| unusable.path.display().to_string());
    described.extend(unusable.map(Described::offline));
    let is_asked_by_client = asked.ticket.shard == ctx.shard;
    if version < SPACE_FROM || !is_asked_by_client {
        ctx.answer(asked.ticket, Some(response(version, described)));
        return Ok(());
    }
    ctx.answer_from_job(asked.ticket, move |files| {
        for ((_, directory), described) in set.iter().zip(&mut described) {
            match files.space(&directory.path) {
                Ok((free, total)) => {
                    described.usable_bytes = i64::try_from(free).unwrap_or(i64::MAX);
                    described.total_bytes = i64::try_from(total).unwrap_or(i64::MAX);
                }
                Err(_) => described.error_code = ErrorCode::KafkaStorageError.code(),
            }
        }
        response(version, described)
    });
    Ok(())
}

/// The partitions that a request names; `None`: all.
fn wanted<'a>(request: &DescribeLogDirsRequest<'a>) -> Option<BTreeSet<(&'a str, PartitionIndex)>> {
    let topics = request.topics.as_ref()?;
    let mut wanted = BTreeSet::new();
    for topic in topics {
        wanted.extend(topic.partitions.iter().map(|index| (topic.topic, index)));
    }
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_together_by_directory_with_the_space_that_one_measured() {
        let part = |index, bytes| DescribeLogDirsPartition {
            partition_index: index,
            partition_size: bytes,
            ..DescribeLogDirsPartition::default()
        };
        let directory = |path: &str, total, usable, parts: &[(&str, DescribeLogDirsPartition)]| Described {
            partitions: parts.iter().cloned().collect(),
            total_bytes: total,
            usable_bytes: usable,
            ..Described::new(path.to_owned())
        };
        let bodies = [
            response(4, vec![directory("/a", -1, -1, &[("a", part(0, 10))]), directory("/b", -1, -1, &[])]),
            response(
                4,
                vec![
                    directory("/a", 100, 40, &[("a", part(1, 20)), ("b", part(0, 0))]),
                    directory("/b", 7, 5, &[("b", part(1, 1))]),
                ],
            ),
        ];
        let all = [("a", part(0, 10)), ("a", part(1, 20)), ("b", part(0, 0))];
        let merged = vec![directory("/a", 100, 40, &all), directory("/b", 7, 5, &[("b", part(1, 1))])];
        assert_eq!(merge(4, &bodies), response(4, merged));
    }

    #[test]
    fn of_an_offline_directory_nothing_is_told() {
        let part = DescribeLogDirsPartition { partition_size: 10, ..DescribeLogDirsPartition::default() };
        let told = |error_code| Described {
            error_code,
            partitions: [("t", part.clone())].into_iter().collect(),
            total_bytes: 100,
            ..Described::new("/a".to_owned())
        };
        let error = ErrorCode::KafkaStorageError.code();
        let bodies = [response(4, vec![told(0)]), response(4, vec![told(error)])];
        let offline = response(4, vec![Described::offline("/a".to_owned())]);
        assert_eq!(merge(4, &bodies), offline);
    }
}
