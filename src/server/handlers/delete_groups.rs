//! DeleteGroups: each group is deleted by its own coordinator.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::encoded;
use crate::group::{GroupId, Request, Response};
use crate::protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use crate::protocol::{DecodeError, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_all;
use crate::server::{Route, gather};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = DeleteGroupsRequest::decode(&mut Reader::new(body), version)?;
    let encode = |groups: Vec<_>| encoded(&DeleteGroupsRequest { groups_names: groups.into() }, version);
    let groups = request.groups_names.iter().map(|group| (group, group));
    Ok(gather::to_coordinators(ctx, groups, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let decoded = bodies.iter().map(|body| {
        DeleteGroupsResponse::decode(&mut Reader::new(body), version).expect("a shard's body is well formed")
    });
    let results = decoded.flat_map(|response| response.results).collect();
    encoded(&DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = DeleteGroupsRequest::decode(&mut Reader::new(asked.body), version)?;
    // A group that is named twice is deleted, and answered, once.
    let groups: BTreeSet<GroupId> = request.groups_names.iter().map(GroupId::from).collect();
    let requests = groups.iter().map(|group| Request::Delete { group: group.clone() }).collect();
    ask_all(ctx, asked, requests, move |responses| {
        let results = groups.into_iter().zip(responses).map(|(group, response)| {
            let Response::Delete(result) = response else { panic!("a deletion is answered as one") };
            let error_code = result.map_or_else(|error| group_error(error).code(), |()| 0);
            DeletableGroupResult { group_id: group.into(), error_code }
        });
        encoded(
            &DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() },
            version,
        )
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_shards_are_one_response() {
        let body = |results: &[(&'static str, i16)]| {
            let result = |(group, error_code): &(&'static str, i16)| DeletableGroupResult {
                group_id: (*group).into(),
                error_code: *error_code,
            };
            let results = results.iter().map(result).collect();
            encoded(&DeleteGroupsResponse { results, ..Default::default() }, 2)
        };
        assert_eq!(
            merge(2, &[body(&[("a", 0), ("b", 69)]), body(&[("c", 68)])]),
            body(&[("a", 0), ("b", 69), ("c", 68)])
        );
    }
}
