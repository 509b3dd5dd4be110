//! OffsetDelete: offsets of partitions that do not exist are refused here, the others go to the coordinator.

use bytes::Bytes;

use super::encoded;
use crate::group::{DeleteOffsets, Request, Response};
use crate::model::PartitionIndex;
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::group_error;
use crate::server::group_seat::ask_one;
use crate::server::{Route, gather};

/// A topic as it was asked for. A partition without an error yet is the coordinator's to answer.
struct AskedTopic {
    name: String,
    partitions: Vec<(PartitionIndex, Option<ErrorCode>)>,
}

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = OffsetDeleteRequest::decode(&mut Reader::new(body), version)?;
    Ok(Route::Whole(gather::coordinator(ctx, request.group_id)))
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let version = asked.version;
    let request = OffsetDeleteRequest::decode(&mut Reader::new(asked.body), version)?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut deletions = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let topic = ctx.image.topic(wanted.name);
        let exists = |index| topic.is_some_and(|topic| topic.partition(index).is_some());
        let indexes: Vec<PartitionIndex> =
            wanted.partitions.iter().map(|partition| partition.partition_index).collect();
        if let Some(topic) = topic {
            let known: Vec<_> = indexes.iter().copied().filter(|index| exists(*index)).collect();
            if !known.is_empty() {
                deletions.push((topic.name.clone(), known));
            }
        }
        let unknown = |index| (!exists(index)).then_some(ErrorCode::UnknownTopicOrPartition);
        topics.push(AskedTopic {
            name: wanted.name.to_owned(),
            partitions: indexes.into_iter().map(|index| (index, unknown(index))).collect(),
        });
    }
    if deletions.is_empty() {
        let nothing = Response::DeleteOffsets(Ok(Vec::new()));
        ctx.answer(asked.ticket, Some(encode(topics, nothing, version)));
        return Ok(());
    }
    let delete = DeleteOffsets { group: request.group_id.into(), topics: deletions };
    ask_one(ctx, asked, Request::DeleteOffsets(delete), move |response| encode(topics, response, version));
    Ok(())
}

/// Puts the coordinator's answers into the places that were left for them; it keeps the order of the request.
fn encode(topics: Vec<AskedTopic>, response: Response, version: i16) -> Bytes {
    let Response::DeleteOffsets(result) = response else { panic!("a deletion is answered as one") };
    let results = match result {
        Ok(results) => results,
        // Kafka names no partition then.
        Err(error) => {
            let error_code = group_error(error).code();
            return encoded(&OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }, version);
        }
    };
    let mut verdicts = results
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .map(|(_, result)| result.map_or_else(group_error, |()| ErrorCode::None));
    let topics = topics
        .into_iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name.into(),
            partitions: topic
                .partitions
                .into_iter()
                .map(|(partition_index, refused)| {
                    let verdict = refused.or_else(|| verdicts.next());
                    let verdict = verdict.expect("the coordinator answers each partition it is asked about");
                    OffsetDeleteResponsePartition { partition_index, error_code: verdict.code() }
                })
                .collect(),
        })
        .collect();
    encoded(&OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupError, TopicResults};

    #[test]
    fn answers_stand_in_the_order_of_the_request_unless_all_is_refused() {
        let check = |response, expected: (i16, &[(i32, i16)])| {
            let unknown = Some(ErrorCode::UnknownTopicOrPartition);
            let asked = AskedTopic { name: "a".into(), partitions: vec![(3, unknown), (0, None), (1, None)] };
            let body = encode(vec![asked], Response::DeleteOffsets(response), 0);
            let response = OffsetDeleteResponse::decode(&mut Reader::new(&body), 0).expect("our own body");
            let partitions = response.topics.iter().flat_map(|topic| topic.partitions);
            let codes: Vec<_> = partitions.map(|p| (p.partition_index, p.error_code)).collect();
            assert_eq!((response.error_code, codes.as_slice()), expected);
        };
        let refused = Err(GroupError::GroupSubscribedToTopic);
        let results = vec![TopicResults { topic: "a".into(), partitions: vec![(0, Ok(())), (1, refused)] }];
        check(Ok(results), (0, &[(3, 3), (0, 0), (1, 86)]));
        check(Err(GroupError::GroupIdNotFound), (69, &[]));
    }
}
