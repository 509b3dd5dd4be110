//! One file for each API. A handler is one or more of
//!
//! - `accept(ctx, origin, ..)` on the connection's shard (Produce and Fetch, which have messages of their own);
//! - `route(ctx, version, body)`: which shard or shards serve the request; a request for several owners is re-encoded as one
//!   smaller request for each of them, with `merge(version, bodies)` to make one response of theirs;
//! - `serve(ctx, asked)` on the shard that owns what the request is about. It decodes `asked.body`, and answers with
//!   `ctx.answer(asked.ticket, Some(body))`, now or later. `Err` closes the connection: the body does not decode.
//!
//! Errors of decoding are the only `Err`; everything else is answered in the response.

mod acls;
mod alter_configs;
pub mod api_versions;
mod authorized_operations;
pub mod auto_create;
mod config_resource;
mod create_partitions;
mod create_topics;
mod decision;
mod delete_groups;
pub mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
pub mod fetch;
mod find_coordinator;
#[cfg(test)]
mod fixture;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
pub mod produce;
mod sync_group;

use bytes::{Bytes, BytesMut};

use super::Route;
use super::context::{Asked, Context};
use crate::model::ShardId;
use crate::protocol::{ApiKey, DecodeError, Message};

/// The shard that holds the controller.
pub const CONTROLLER: ShardId = ShardId(0);

/// Which shard, or shards, serve a request of these APIs.
pub fn route_of(ctx: &Context<'_>, api: ApiKey, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    match api {
        ApiKey::ApiVersions
        | ApiKey::Metadata
        | ApiKey::DescribeConfigs
        | ApiKey::ListConfigResources
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions
        | ApiKey::DescribeAcls
        | ApiKey::CreateAcls
        | ApiKey::DeleteAcls => Ok(Route::Here),
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::InitProducerId => Ok(Route::Whole(CONTROLLER)),
        ApiKey::ListOffsets => list_offsets::route(ctx, version, body),
        ApiKey::FindCoordinator => Ok(Route::Here),
        ApiKey::JoinGroup => join_group::route(ctx, version, body),
        ApiKey::SyncGroup => sync_group::route(ctx, version, body),
        ApiKey::Heartbeat => heartbeat::route(ctx, version, body),
        ApiKey::LeaveGroup => leave_group::route(ctx, version, body),
        ApiKey::OffsetCommit => offset_commit::route(ctx, version, body),
        ApiKey::OffsetFetch => offset_fetch::route(ctx, version, body),
        ApiKey::OffsetDelete => offset_delete::route(ctx, version, body),
        ApiKey::DescribeGroups => describe_groups::route(ctx, version, body),
        ApiKey::ListGroups => list_groups::route(version, body),
        ApiKey::DeleteGroups => delete_groups::route(ctx, version, body),
        ApiKey::DeleteRecords => delete_records::route(ctx, version, body),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::route(ctx, version, body),
        ApiKey::DescribeLogDirs => Ok(describe_log_dirs::route()),
        ApiKey::DescribeProducers => describe_producers::route(ctx, version, body),
        _ => unreachable!("{} is not routed", api.name()),
    }
}

/// Serves a routed request on its owner.
pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    match asked.api_key {
        ApiKey::ApiVersions => api_versions::serve(ctx, asked),
        ApiKey::Metadata => metadata::serve(ctx, asked),
        ApiKey::CreateTopics => create_topics::serve(ctx, asked),
        ApiKey::DeleteTopics => delete_topics::serve(ctx, asked),
        ApiKey::CreatePartitions => create_partitions::serve(ctx, asked),
        ApiKey::InitProducerId => init_producer_id::serve(ctx, asked),
        ApiKey::DescribeConfigs => describe_configs::serve(ctx, asked),
        ApiKey::AlterConfigs => alter_configs::serve_replacing(ctx, asked),
        ApiKey::IncrementalAlterConfigs => alter_configs::serve_incremental(ctx, asked),
        ApiKey::ListConfigResources => list_config_resources::serve(ctx, asked),
        ApiKey::DescribeCluster => describe_cluster::serve(ctx, asked),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::serve(ctx, asked),
        ApiKey::DescribeAcls => acls::serve_describe(ctx, asked),
        ApiKey::CreateAcls => acls::serve_create(ctx, asked),
        ApiKey::DeleteAcls => acls::serve_delete(ctx, asked),
        ApiKey::ListOffsets => list_offsets::serve(ctx, asked),
        ApiKey::FindCoordinator => find_coordinator::serve(ctx, asked),
        ApiKey::JoinGroup => join_group::serve(ctx, asked),
        ApiKey::SyncGroup => sync_group::serve(ctx, asked),
        ApiKey::Heartbeat => heartbeat::serve(ctx, asked),
        ApiKey::LeaveGroup => leave_group::serve(ctx, asked),
        ApiKey::OffsetCommit => offset_commit::serve(ctx, asked),
        ApiKey::OffsetFetch => offset_fetch::serve(ctx, asked),
        ApiKey::OffsetDelete => offset_delete::serve(ctx, asked),
        ApiKey::DescribeGroups => describe_groups::serve(ctx, asked),
        ApiKey::ListGroups => list_groups::serve(ctx, asked),
        ApiKey::DeleteGroups => delete_groups::serve(ctx, asked),
        ApiKey::DeleteRecords => delete_records::serve(ctx, asked),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::serve(ctx, asked),
        ApiKey::DescribeLogDirs => describe_log_dirs::serve(ctx, asked),
        ApiKey::DescribeProducers => describe_producers::serve(ctx, asked),
        _ => unreachable!("{} is not served by relay", asked.api_key.name()),
    }
}

/// A message's body.
pub fn encoded<'a>(message: &impl Message<'a>, version: i16) -> Bytes {
    let mut body = BytesMut::with_capacity(256);
    message.encode(&mut body, version);
    body.freeze()
}
