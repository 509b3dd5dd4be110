//! DescribeAcls, CreateAcls and DeleteAcls: there is no authorizer, and they say so.

use super::encoded;
use crate::protocol::messages::create_acls::{AclCreationResult, CreateAclsRequest, CreateAclsResponse};
use crate::protocol::messages::delete_acls::{DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse};
use crate::protocol::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};

const NO_AUTHORIZER: Option<Str<'static>> = Some(Str::Borrowed("No authorizer is configured on the broker."));

pub fn serve_describe(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    DescribeAclsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let response = DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: NO_AUTHORIZER,
        ..DescribeAclsResponse::default()
    };
    ctx.answer(asked.ticket, Some(encoded(&response, asked.version)));
    Ok(())
}

pub fn serve_create(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = CreateAclsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let refused =
        AclCreationResult { error_code: ErrorCode::SecurityDisabled.code(), error_message: NO_AUTHORIZER };
    let response = CreateAclsResponse {
        results: vec![refused; request.creations.len()].into(),
        ..CreateAclsResponse::default()
    };
    ctx.answer(asked.ticket, Some(encoded(&response, asked.version)));
    Ok(())
}

pub fn serve_delete(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DeleteAclsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let refused = DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: NO_AUTHORIZER,
        ..DeleteAclsFilterResult::default()
    };
    let response = DeleteAclsResponse {
        filter_results: vec![refused; request.filters.len()].into(),
        ..DeleteAclsResponse::default()
    };
    ctx.answer(asked.ticket, Some(encoded(&response, asked.version)));
    Ok(())
}
