//! ListConfigResources: names of the things that have settings. Any shard serves it.

use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::encoded;
use crate::metadata::Image;
use crate::protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = ListConfigResourcesRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    // Version 0 was ListClientMetricsResources, of which there are none.
    let wanted = if asked.version == 0 { vec![CLIENT_METRICS] } else { request.resource_types.to_vec() };
    let body = encoded(&answer(ctx.image, &wanted), asked.version);
    ctx.answer(asked.ticket, Some(body));
    Ok(())
}

/// The resources of these types; no types means all that there are.
fn answer(image: &Image, wanted: &[i8]) -> ListConfigResourcesResponse<'static> {
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    if wanted.iter().any(|kind| !known.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
    }
    let is_wanted = |kind: i8| wanted.is_empty() || wanted.contains(&kind);
    let named = |resource_name: Str<'static>, resource_type| ConfigResource { resource_name, resource_type };
    let brokers = image.advertised().filter(|_| is_wanted(BROKER));
    let topics = image.topics().filter(|_| is_wanted(TOPIC));
    let brokers = brokers.map(|broker| named(broker.id.to_string().into(), BROKER));
    let topics = topics.map(|topic| named((&topic.name).into(), TOPIC));
    ListConfigResourcesResponse {
        config_resources: brokers.chain(topics).collect(),
        ..ListConfigResourcesResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::handlers::fixture::{image, per_core_image};

    #[test]
    fn resources_are_listed_by_type() {
        let image = image(&[("t", 1), ("u", 1)]);
        let check = |wanted: &[i8], expected: &[(&str, i8)]| {
            let response = answer(&image, wanted);
            encoded(&response, 1);
            let listed = response.config_resources.to_vec();
            let listed: Vec<_> = listed.iter().map(|r| (r.resource_name.as_str(), r.resource_type)).collect();
            assert_eq!(listed, expected, "{wanted:?}");
            assert_eq!(response.error_code, 0);
        };
        check(&[], &[("1", BROKER), ("t", TOPIC), ("u", TOPIC)]);
        check(&[TOPIC], &[("t", TOPIC), ("u", TOPIC)]);
        check(&[BROKER], &[("1", BROKER)]);
        check(&[CLIENT_METRICS, GROUP, BROKER_LOGGER], &[]);
        let per_core = answer(&per_core_image(&[]), &[BROKER]).config_resources.to_vec();
        assert_eq!(per_core.iter().map(|r| r.resource_name.as_str()).collect::<Vec<_>>(), ["1000", "1001"]);
        assert_eq!(answer(&image, &[99]).error_code, ErrorCode::UnsupportedVersion.code());
        encoded(&answer(&image, &[CLIENT_METRICS]), 0);
    }
}
