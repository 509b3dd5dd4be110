//! CreateTopics: served by the controller.

use super::decision::{decide, message, topic_defaults, with_levels};
use super::encoded;
use crate::config::{Overrides, describe_whole_topic};
use crate::controller::{ControllerError, CreatedTopic, NewTopic, create_topics};
use crate::metadata::Image;
use crate::model::{BrokerId, TopicName};
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::protocol::{Array, DecodeError, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::controller_error;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = CreateTopicsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let topics: Vec<NewTopic<'_>> = request.topics.iter().map(new_topic).collect();
    let random = &mut *ctx.random;
    let seat = ctx.controller.as_deref().expect("requests for the controller are routed to its shard");
    let (image, defaults) = (seat.latest(), topic_defaults(ctx.config, seat));
    let decision = create_topics(image, &topics, &defaults, &mut || random.word());
    let results = decision.results.iter();
    let response = CreateTopicsResponse {
        topics: results.map(|(name, result)| answer(image, &ctx.config.explicit, name, result)).collect(),
        ..CreateTopicsResponse::default()
    };
    let body = encoded(&response, asked.version);
    let records = if request.validate_only { Vec::new() } else { decision.records };
    decide(ctx, asked.ticket, records, body);
    Ok(())
}

fn new_topic<'a>(topic: CreatableTopic<'a>) -> NewTopic<'a> {
    NewTopic {
        name: topic.name,
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assigned| (assigned.partition_index, assigned.broker_ids.iter().map(BrokerId).collect()))
            .collect(),
        configs: topic.configs.iter().map(|config| (config.name, config.value)).collect(),
    }
}

fn answer(
    image: &Image,
    explicit: &Overrides,
    name: &TopicName,
    result: &Result<CreatedTopic, ControllerError>,
) -> CreatableTopicResult<'static> {
    match result {
        Ok(created) => CreatableTopicResult {
            name: name.into(),
            topic_id: created.id,
            error_message: None,
            num_partitions: created.partitions,
            replication_factor: created.replication_factor,
            configs: Some(configs_of(image, explicit, created)),
            ..CreatableTopicResult::default()
        },
        Err(error) => CreatableTopicResult {
            name: name.into(),
            error_code: controller_error(error).code(),
            error_message: message(error),
            ..CreatableTopicResult::default()
        },
    }
}

fn configs_of(
    image: &Image,
    explicit: &Overrides,
    created: &CreatedTopic,
) -> Array<'static, CreatableTopicConfigs<'static>> {
    let entries = with_levels(image, explicit, &created.configs, describe_whole_topic);
    entries
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: entry.name.into(),
            value: entry.value.map(Into::into),
            read_only: entry.read_only,
            config_source: entry.source.wire_code(),
            is_sensitive: entry.is_sensitive,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;
    use crate::protocol::{ApiKey, ErrorCode};
    use crate::server::handlers::fixture::image;

    #[test]
    fn success_tells_counts_and_all_settings_and_refusal_tells_none() {
        let image = image(&[("t", 2)]);
        let topic = image.topic("t").unwrap();
        let created = CreatedTopic {
            id: topic.id,
            partitions: 2,
            replication_factor: 1,
            configs: topic.configs.clone(),
        };
        let refused = ControllerError::TopicExists { name: "t".into() };
        for version in ApiKey::CreateTopics.versions() {
            let results = [Ok(created.clone()), Err(refused.clone())];
            let topics = results.iter().map(|result| answer(&image, &Overrides::new(), &topic.name, result));
            let response =
                CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() };
            let body = encoded(&response, version);
            let decoded =
                CreateTopicsResponse::decode(&mut Reader::new(&body), version).unwrap().topics.to_vec();
            assert_eq!(decoded[0].error_code, 0);
            assert_eq!(decoded[1].error_code, ErrorCode::TopicAlreadyExists.code());
            let configs = |at: usize| decoded[at].configs.as_ref().unwrap().to_vec();
            if version >= 5 {
                assert_eq!((decoded[0].num_partitions, decoded[1].num_partitions), (2, -1));
                let own: Vec<_> = configs(0).into_iter().filter(|config| config.config_source == 1).collect();
                assert_eq!(own.len(), 1, "only `retention.ms` is the topic's own");
                assert!(configs(1).is_empty());
            }
            if version >= 7 {
                assert_eq!((decoded[0].topic_id, decoded[1].topic_id), (topic.id, Uuid::ZERO));
            }
        }
    }
}
