//! DescribeGroups: each group is described by its own coordinator.

use bytes::Bytes;

use super::{authorized_operations, encoded};
use crate::group::{GroupDescription, GroupError, GroupId, Request, Response, State};
use crate::protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use crate::protocol::{DecodeError, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_all;
use crate::server::{Route, gather};

/// From this version on a group that does not exist is an error; before it is Dead and no error.
const TELLS_NOT_FOUND: i16 = 6;

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = DescribeGroupsRequest::decode(&mut Reader::new(body), version)?;
    let include_authorized_operations = request.include_authorized_operations;
    let encode = |groups: Vec<_>| {
        encoded(&DescribeGroupsRequest { groups: groups.into(), include_authorized_operations }, version)
    };
    let groups = request.groups.iter().map(|group| (group, group));
    Ok(gather::to_coordinators(ctx, groups, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let decoded = bodies.iter().map(|body| {
        DescribeGroupsResponse::decode(&mut Reader::new(body), version)
            .expect("a shard's body is well formed")
    });
    let groups = decoded.flat_map(|response| response.groups).collect();
    encoded(&DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = DescribeGroupsRequest::decode(&mut Reader::new(asked.body), version)?;
    let asks_operations = request.include_authorized_operations;
    let operations =
        if asks_operations { authorized_operations::GROUP } else { authorized_operations::NOT_ASKED };
    let groups: Vec<GroupId> = request.groups.iter().map(GroupId::from).collect();
    let requests = groups.iter().map(|group| Request::Describe { group: group.clone() }).collect();
    ask_all(ctx, asked, requests, move |responses| {
        let groups = groups.into_iter().zip(responses);
        let groups = groups.map(|(group, response)| {
            let Response::Describe(result) = response else { panic!("a description is answered as one") };
            match result {
                Ok(description) => described(description, operations),
                Err(error) => refused(group, error, operations, version),
            }
        });
        encoded(
            &DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() },
            version,
        )
    });
    Ok(())
}

fn described(description: GroupDescription, authorized_operations: i32) -> DescribedGroup<'static> {
    let members = description.members.into_iter();
    DescribedGroup {
        group_id: description.group.into(),
        group_state: description.state.name().into(),
        protocol_type: description.protocol_type.into(),
        protocol_data: description.protocol.into(),
        members: members
            .map(|member| DescribedGroupMember {
                member_id: member.member.into(),
                group_instance_id: member.instance.map(Str::from),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                member_metadata: member.metadata.into(),
                member_assignment: member.assignment.into(),
            })
            .collect(),
        authorized_operations,
        ..DescribedGroup::default()
    }
}

fn refused(group: GroupId, error: GroupError, operations: i32, version: i16) -> DescribedGroup<'static> {
    match error {
        GroupError::GroupIdNotFound if version < TELLS_NOT_FOUND => DescribedGroup {
            group_id: group.into(),
            group_state: State::Dead.name().into(),
            authorized_operations: operations,
            ..DescribedGroup::default()
        },
        GroupError::GroupIdNotFound => DescribedGroup {
            error_code: group_error(error).code(),
            error_message: Some(format!("Group {group} not found.").into()),
            group_id: group.into(),
            group_state: State::Dead.name().into(),
            ..DescribedGroup::default()
        },
        _ => DescribedGroup {
            error_code: group_error(error).code(),
            group_id: group.into(),
            ..DescribedGroup::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_several_shards_are_one_response() {
        let body = |names: &[&str]| {
            let groups = names.iter().map(|name| refused((*name).into(), GroupError::GroupIdNotFound, 7, 5));
            encoded(&DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }, 5)
        };
        assert_eq!(merge(5, &[body(&["a", "b"]), body(&["c"])]), body(&["a", "b", "c"]));
    }

    #[test]
    fn a_missing_group_is_dead_and_an_error_from_version_6_on() {
        let check = |version, error, state, code| {
            let group = refused("g".into(), error, 7, version);
            assert_eq!((&*group.group_state, group.error_code), (state, code), "{error:?} in {version}");
        };
        check(5, GroupError::GroupIdNotFound, "Dead", 0);
        check(6, GroupError::GroupIdNotFound, "Dead", 69);
        check(5, GroupError::CoordinatorLoadInProgress, "", 14);
    }
}
