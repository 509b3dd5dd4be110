//! Requests that several shards serve: split once by owner, one message for each shard, their bodies merged.

use bytes::Bytes;

use super::Route;
use super::context::Context;
use super::pending::{Origin, PendingGather, Waiting};
use crate::mesh::Relay;
use crate::model::ShardId;

/// Makes one response body of those of all shards.
pub type Merge = fn(version: i16, bodies: &[Bytes]) -> Bytes;

/// Who asked.
pub struct Asker {
    pub origin: Origin,
    pub client_id: Option<std::sync::Arc<str>>,
    pub client_host: std::net::IpAddr,
}

/// Sends the whole body to one shard; its answer is the reply.
pub fn relay_whole(ctx: &mut Context<'_>, asker: Asker, to: ShardId, body: Bytes) {
    let ticket = ctx.park(asker.origin, Waiting::Relay, None);
    let (api_key, version) = (asker.origin.api_key, asker.origin.version);
    ctx.relay(
        to,
        Relay {
            ticket,
            api_key,
            version,
            client_id: asker.client_id,
            client_host: asker.client_host,
            endpoint: asker.origin.endpoint,
            body,
        },
    );
}

/// Sends each shard its part. With one part its answer is the reply as it is. Panics without parts: the caller
/// answers a request that names nothing.
pub fn relay_parts(ctx: &mut Context<'_>, asker: Asker, parts: Vec<(ShardId, Bytes)>, merge: Merge) {
    assert!(!parts.is_empty(), "a request that names nothing is answered where it came in");
    let waiting = if parts.len() == 1 {
        Waiting::Relay
    } else {
        Waiting::Gather(PendingGather {
            remaining: parts.len(),
            bodies: Vec::with_capacity(parts.len()),
            merge,
        })
    };
    let ticket = ctx.park(asker.origin, waiting, None);
    let (api_key, version) = (asker.origin.api_key, asker.origin.version);
    for (to, body) in parts {
        let (client_id, client_host) = (asker.client_id.clone(), asker.client_host);
        let endpoint = asker.origin.endpoint;
        ctx.relay(to, Relay { ticket, api_key, version, client_id, client_host, endpoint, body });
    }
}

/// The shard that coordinates a group. While there is none this shard answers: it refuses what no coordinator would take,
/// and says of the rest that it is not the coordinator.
pub fn coordinator(ctx: &Context<'_>, group: &str) -> ShardId {
    ctx.image.group_shard(group).unwrap_or(ctx.shard)
}

/// The way of a request that names several groups, each with what is asked of it: whole if one shard coordinates all of
/// them, otherwise cut into a request for each shard.
pub fn to_coordinators<'n, T>(
    ctx: &Context<'_>,
    groups: impl Iterator<Item = (&'n str, T)>,
    encode: impl Fn(Vec<T>) -> Bytes,
    merge: Merge,
) -> Route {
    let mut parts = by_owner(groups.map(|(group, asked)| (coordinator(ctx, group), asked)));
    match parts.len() {
        0 => Route::Here,
        1 => Route::Whole(parts.remove(0).0),
        _ => Route::Parts(parts.into_iter().map(|(shard, asked)| (shard, encode(asked))).collect(), merge),
    }
}

/// Items grouped by the shard that owns each, in the order of the items; shards in the order they first appear.
pub fn by_owner<T>(items: impl IntoIterator<Item = (ShardId, T)>) -> Vec<(ShardId, Vec<T>)> {
    let mut groups: Vec<(ShardId, Vec<T>)> = Vec::new();
    for (owner, item) in items {
        match groups.iter_mut().find(|(shard, _)| *shard == owner) {
            Some((_, group)) => group.push(item),
            None => groups.push((owner, vec![item])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_grouped_once_by_owner_in_order() {
        let (a, b) = (ShardId(0), ShardId(1));
        let groups = by_owner([(b, 1), (a, 2), (b, 3), (a, 4)]);
        assert_eq!(groups, [(b, vec![1, 3]), (a, vec![2, 4])]);
    }
}
