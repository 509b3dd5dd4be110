//! FindCoordinator: the broker that leads the partition in which a group keeps its offsets.

use std::sync::Arc;

use super::{auto_create, encoded};
use crate::metadata::{Advertised, GROUP_METADATA_TOPIC, Image};
use crate::model::TopicName;
use crate::protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};

/// From this version on one request names several keys.
const KEYS_FROM: i16 = 4;

const NO_TRANSACTIONS: &str = "transactions are not served yet";
const NO_SHARE_GROUPS: &str = "share groups are not served";
const UNKNOWN_KEY_TYPE: &str = "there is no coordinator of this key type";

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = FindCoordinatorRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let (image, version) = (Arc::clone(ctx.image), asked.version);
    let body = if version >= KEYS_FROM {
        let coordinators = request.coordinator_keys.iter().map(|key| {
            let found = find(&image, request.key_type, key);
            coordinator(key, found)
        });
        let coordinators: Vec<Coordinator<'_>> = coordinators.collect();
        encoded(
            &FindCoordinatorResponse {
                coordinators: coordinators.into(),
                ..FindCoordinatorResponse::default()
            },
            version,
        )
    } else {
        encoded(&single(find(&image, request.key_type, request.key)), version)
    };
    let asks_for_a_group = version < KEYS_FROM || !request.coordinator_keys.is_empty();
    if KeyType::of(request.key_type) == Some(KeyType::Group)
        && asks_for_a_group
        && image.topic(GROUP_METADATA_TOPIC).is_none()
    {
        auto_create::ask(ctx, vec![TopicName::from(GROUP_METADATA_TOPIC)]);
    }
    ctx.answer(asked.ticket, Some(body));
    Ok(())
}

/// Source: Apache Kafka `FindCoordinatorRequest.CoordinatorType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeyType {
    Group,
    Transaction,
    Share,
}

impl KeyType {
    fn of(key_type: i8) -> Option<KeyType> {
        match key_type {
            0 => Some(KeyType::Group),
            1 => Some(KeyType::Transaction),
            2 => Some(KeyType::Share),
            _ => None,
        }
    }
}

/// Why there is no coordinator to name: a code, and a text where the code says too little.
type Refusal = (ErrorCode, &'static str);

fn find<'i>(image: &'i Image, key_type: i8, key: &str) -> Result<Advertised<'i>, Refusal> {
    match KeyType::of(key_type) {
        // An empty group id has a coordinator, as in Kafka: refusing it is for the requests that use it.
        Some(KeyType::Group) => {
            let index = image.group_partition(key);
            let partition = index.and_then(|index| image.partition(GROUP_METADATA_TOPIC, index));
            let leader = partition.and_then(|partition| image.advertised_leader(partition));
            leader.ok_or((ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorNotAvailable.text()))
        }
        Some(KeyType::Transaction) => Err((ErrorCode::InvalidRequest, NO_TRANSACTIONS)),
        Some(KeyType::Share) => Err((ErrorCode::InvalidRequest, NO_SHARE_GROUPS)),
        None => Err((ErrorCode::InvalidRequest, UNKNOWN_KEY_TYPE)),
    }
}

fn coordinator<'a>(key: &'a str, found: Result<Advertised<'_>, Refusal>) -> Coordinator<'a> {
    let single = single(found);
    // The text of a success is empty here and `NONE` in older versions, as clients have always got it.
    let error_message = if found.is_ok() { Some(Str::EMPTY) } else { single.error_message };
    Coordinator {
        key: key.into(),
        node_id: single.node_id,
        host: single.host,
        port: single.port,
        error_code: single.error_code,
        error_message,
    }
}

fn single(found: Result<Advertised<'_>, Refusal>) -> FindCoordinatorResponse<'static> {
    match found {
        Ok(broker) => FindCoordinatorResponse {
            error_message: Some("NONE".into()),
            node_id: broker.id.0,
            host: broker.host.into(),
            port: i32::from(broker.port),
            ..FindCoordinatorResponse::default()
        },
        Err((error, text)) => FindCoordinatorResponse {
            error_code: error.code(),
            error_message: Some(text.into()),
            node_id: -1,
            port: -1,
            ..FindCoordinatorResponse::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn coordinators_are_named_or_refused() {
        let with_offsets = fixture::image(&[(GROUP_METADATA_TOPIC, 4)]);
        let without = fixture::image(&[]);
        let check = |image: &Image, key_type, key, expected: Result<i32, ErrorCode>| {
            let found = find(image, key_type, key).map(|broker| broker.id.0).map_err(|(error, _)| error);
            assert_eq!(found, expected, "key type {key_type}, key {key:?}");
        };
        check(&with_offsets, 0, "orders", Ok(1));
        check(&with_offsets, 0, "", Ok(1));
        let per_core = fixture::per_core_image(&[(GROUP_METADATA_TOPIC, 4)]);
        let partition = per_core.group_partition("orders").expect("the topic is there");
        check(&per_core, 0, "orders", Ok(1000 + partition % 2));
        check(&without, 0, "orders", Err(ErrorCode::CoordinatorNotAvailable));
        check(&with_offsets, 1, "id", Err(ErrorCode::InvalidRequest));
        check(&with_offsets, 2, "g:AAAAAAAAAAAAAAAAAAAAAA:0", Err(ErrorCode::InvalidRequest));
        check(&with_offsets, 9, "orders", Err(ErrorCode::InvalidRequest));
        check(&with_offsets, -1, "orders", Err(ErrorCode::InvalidRequest));
    }
}
