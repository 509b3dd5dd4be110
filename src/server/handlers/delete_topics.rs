//! DeleteTopics: served by the controller. The partitions are gone from every shard when the answer leaves.

use super::decision::{decide, message, seat};
use super::encoded;
use crate::controller::{ControllerError, DeletedTopic, TopicToDelete, delete_topics};
use crate::model::Uuid;
use crate::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::controller_error;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DeleteTopicsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let by_name = request.topic_names.iter().map(|name| TopicToDelete { name: Some(name), id: Uuid::ZERO });
    let by_either = request.topics.iter().map(|topic| TopicToDelete { name: topic.name, id: topic.topic_id });
    let topics: Vec<TopicToDelete<'_>> = by_name.chain(by_either).collect();
    let is_enabled = ctx.config.delete_topic_enable;
    let decision = delete_topics(seat(ctx).latest(), &topics, is_enabled);
    let response = DeleteTopicsResponse {
        responses: decision.results.iter().map(|deleted| answer(deleted, asked.version)).collect(),
        ..DeleteTopicsResponse::default()
    };
    let body = encoded(&response, asked.version);
    decide(ctx, asked.ticket, decision.records, body);
    Ok(())
}

fn answer(deleted: &DeletedTopic, version: i16) -> DeletableTopicResult<'static> {
    let error_code = match &deleted.result {
        Ok(()) => ErrorCode::None,
        // Its own code came with version 3.
        Err(ControllerError::TopicDeletionDisabled) if version < 3 => ErrorCode::InvalidRequest,
        Err(error) => controller_error(error),
    };
    DeletableTopicResult {
        name: deleted.name.as_ref().map(Into::into),
        topic_id: deleted.id,
        error_code: error_code.code(),
        error_message: deleted.result.as_ref().err().and_then(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ApiKey;

    #[test]
    fn every_version_tells_what_it_can() {
        let deleted = |name: Option<&str>, result| DeletedTopic {
            name: name.map(Into::into),
            id: Uuid([1; 16]),
            result,
        };
        for version in ApiKey::DeleteTopics.versions() {
            let mut results = vec![
                deleted(Some("t"), Ok(())),
                deleted(Some("u"), Err(ControllerError::TopicDeletionDisabled)),
            ];
            if version >= 6 {
                results.push(deleted(None, Err(ControllerError::UnknownTopicId(Uuid([1; 16])))));
            }
            let response = DeleteTopicsResponse {
                responses: results.iter().map(|result| answer(result, version)).collect(),
                ..DeleteTopicsResponse::default()
            };
            let body = encoded(&response, version);
            let decoded =
                DeleteTopicsResponse::decode(&mut Reader::new(&body), version).unwrap().responses.to_vec();
            let disabled =
                if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
            assert_eq!(
                (decoded[0].error_code, decoded[1].error_code),
                (0, disabled.code()),
                "version {version}"
            );
            assert_eq!(decoded.get(2).map(|topic| topic.name.is_none()), (version >= 6).then_some(true));
        }
    }
}
