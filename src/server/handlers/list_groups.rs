//! ListGroups: every shard lists the groups it coordinates, of them those that belong to where the client came in: clients ask
//! all brokers, and some show a group twice that two of them list.

use std::sync::Arc;

use bytes::Bytes;

use super::encoded;
use crate::group::{ListGroups, Request, Response};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::protocol::{Array, DecodeError, Message as _, Reader};
use crate::server::Route;
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;

pub fn route(version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    ListGroupsRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Everyone(merge))
}

/// All groups, or the first error: a part of the groups would pass for all of them.
fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut groups = Vec::new();
    for body in bodies {
        let part = ListGroupsResponse::decode(&mut Reader::new(body), version)
            .expect("a shard's body is well formed");
        if part.error_code != 0 {
            return body.clone();
        }
        groups.extend(part.groups);
    }
    encoded(&ListGroupsResponse { groups: groups.into(), ..ListGroupsResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = ListGroupsRequest::decode(&mut Reader::new(asked.body), version)?;
    let filter = |names: &Array<'_, &str>| names.iter().map(Arc::from).collect();
    let list = ListGroups { states: filter(&request.states_filter), types: filter(&request.types_filter) };
    let (image, endpoint) = (Arc::clone(ctx.image), asked.endpoint);
    ask_one(ctx, asked, Request::List(list), move |response| {
        encode(response, |group| image.is_group_at(group, endpoint), version)
    });
    Ok(())
}

fn encode(response: Response, is_here: impl Fn(&str) -> bool, version: i16) -> Bytes {
    let Response::List(result) = response else { panic!("a list is answered as one") };
    let mut response = ListGroupsResponse::default();
    match result {
        Err(error) => response.error_code = group_error(error).code(),
        Ok(groups) => {
            let groups = groups.into_iter().filter(|group| is_here(&group.group));
            response.groups = groups
                .map(|group| ListedGroup {
                    group_id: group.group.into(),
                    protocol_type: group.protocol_type.into(),
                    group_state: group.state.name().into(),
                    group_type: group.group_type.into(),
                })
                .collect();
        }
    }
    encoded(&response, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{self, GroupError, State};

    fn body(names: &[&str]) -> Bytes {
        let group = |name: &&str| group::ListedGroup {
            group: (*name).into(),
            protocol_type: "consumer".into(),
            state: State::Stable,
            group_type: "classic",
        };
        encode(Response::List(Ok(names.iter().map(group).collect())), |name| name != "elsewhere", 5)
    }

    #[test]
    fn lists_of_all_shards_are_one_unless_one_cannot_tell() {
        let loading = encode(Response::List(Err(GroupError::CoordinatorLoadInProgress)), |_| true, 5);
        let check = |bodies: &[Bytes], expected: Bytes| assert_eq!(merge(5, bodies), expected);
        check(&[body(&["a"]), body(&["elsewhere"]), body(&["b", "c"])], body(&["a", "b", "c"]));
        assert_eq!(body(&["elsewhere"]), body(&[]));
        check(&[body(&["a"]), loading.clone()], loading);
    }
}
