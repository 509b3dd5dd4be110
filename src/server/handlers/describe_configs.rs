//! DescribeConfigs: settings of topics and brokers, with where each value comes from. Any shard serves it.

use super::config_resource::{BROKER, OwnSettings, TOPIC};
use super::decision::with_levels;
use super::encoded;
use crate::config::{
    Entry, EntrySynonym, Overrides, describe_broker, describe_cluster, describe_topic, describe_whole_topic,
};
use crate::controller::{ControllerError, check_name, check_own_broker};
use crate::metadata::Image;
use crate::model::Endpoint;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::controller_error;

/// How much of each setting to show.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DescribeConfigsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let response = answer(ctx.image, &ctx.config.explicit, asked.endpoint, &request);
    let body = encoded(&response, asked.version);
    ctx.answer(asked.ticket, Some(body));
    Ok(())
}

fn answer<'a>(
    image: &Image,
    explicit: &Overrides,
    endpoint: Option<Endpoint>,
    request: &DescribeConfigsRequest<'a>,
) -> DescribeConfigsResponse<'a> {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.iter().map(|resource| {
        let described = describe(image, explicit, endpoint, &resource);
        let (error_code, error_message, entries) = match described {
            Ok(entries) => (ErrorCode::None, Str::EMPTY, entries),
            Err((code, text)) => (code, text, Vec::new()),
        };
        DescribeConfigsResult {
            error_code: error_code.code(),
            error_message: Some(error_message),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.into(),
            configs: entries.into_iter().map(|entry| shown(entry, detail)).collect(),
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn describe(
    image: &Image,
    explicit: &Overrides,
    endpoint: Option<Endpoint>,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry>, (ErrorCode, Str<'static>)> {
    let keys: Vec<&str> = resource.configuration_keys.iter().flat_map(|keys| keys.iter()).collect();
    // No keys, as null, means all of them.
    let is_wanted = |name: &str| keys.is_empty() || keys.contains(&name);
    let refused = |error: ControllerError| (controller_error(&error), error.to_string().into());
    let name = resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            check_name(name).map_err(refused)?;
            let topic = image.topic(name).ok_or((ErrorCode::UnknownTopicOrPartition, Str::EMPTY))?;
            Ok(with_levels(image, explicit, &topic.configs, |levels| {
                if keys.is_empty() { describe_whole_topic(levels) } else { describe_topic(levels, is_wanted) }
            }))
        }
        BROKER if name.is_empty() => Ok(describe_cluster(image.default_broker_configs(), is_wanted)),
        BROKER => {
            let own = OwnSettings::new(image, endpoint);
            check_own_broker(image, own.kept_under(name))
                .map_err(|error| refused(own.in_its_terms(error)))?;
            Ok(with_levels(image, explicit, &Overrides::new(), |levels| describe_broker(levels, is_wanted)))
        }
        _ => Err((ErrorCode::InvalidRequest, "Resources of this type have no settings here.".into())),
    }
}

fn shown(entry: Entry, detail: Detail) -> DescribeConfigsResourceResult<'static> {
    let synonyms = if detail.synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.wire_code(),
        is_sensitive: entry.is_sensitive,
        synonyms: synonyms.into_iter().map(shown_synonym).collect(),
        config_type: entry.kind.wire_code(),
        documentation: detail.documentation.then(|| entry.documentation.into()),
    }
}

fn shown_synonym(synonym: EntrySynonym) -> DescribeConfigsSynonym<'static> {
    DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source.wire_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ApiKey;
    use crate::server::handlers::fixture::image;

    /// Name, value, source.
    type Told<'a> = (&'a str, Option<&'a str>, i8);

    fn check(kind: i8, name: &str, keys: Option<&[&str]>, expected: Result<&[Told<'_>], ErrorCode>) {
        let image = image(&[("t", 1)]);
        let explicit = Overrides::from([("num.partitions".to_owned(), "4".to_owned())]);
        for version in ApiKey::DescribeConfigs.versions() {
            let resource = DescribeConfigsResource {
                resource_type: kind,
                resource_name: name,
                configuration_keys: keys.map(|keys| keys.iter().copied().collect()),
            };
            let request = DescribeConfigsRequest {
                resources: vec![resource].into(),
                include_synonyms: true,
                include_documentation: version >= 3,
            };
            let body = encoded(&answer(&image, &explicit, None, &request), version);
            let response = DescribeConfigsResponse::decode(&mut Reader::new(&body), version).unwrap();
            let result = response.results.first().unwrap();
            let entries = result.configs.to_vec();
            let found: Vec<_> =
                entries.iter().map(|e| (e.name.as_str(), e.value.as_deref(), e.config_source)).collect();
            let found = match ErrorCode::from_code(result.error_code).unwrap() {
                ErrorCode::None => Ok(found.as_slice()),
                code => Err(code),
            };
            assert_eq!(found, expected, "{kind} {name}, version {version}");
        }
    }

    #[test]
    fn settings_come_with_their_source() {
        let keys: &[&str] = &["retention.ms", "min.insync.replicas", "no.such"];
        let expected: &[_] = &[("min.insync.replicas", Some("1"), 3), ("retention.ms", Some("5"), 1)];
        check(TOPIC, "t", Some(keys), Ok(expected));
        check(BROKER, "1", Some(&["num.partitions"]), Ok(&[("num.partitions", Some("4"), 4)]));
        check(BROKER, "", None, Ok(&[("min.insync.replicas", Some("1"), 3)]));
    }

    #[test]
    fn resources_that_are_not_there_are_told() {
        check(TOPIC, "none", None, Err(ErrorCode::UnknownTopicOrPartition));
        check(TOPIC, "a b", None, Err(ErrorCode::InvalidTopicException));
        check(BROKER, "77", None, Err(ErrorCode::InvalidRequest));
        check(BROKER, "one", None, Err(ErrorCode::InvalidRequest));
        check(99, "x", None, Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn no_keys_means_all() {
        let image = image(&[("t", 1)]);
        let count = |keys: Option<&[&str]>| {
            let resource = DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: "t",
                configuration_keys: keys.map(|keys| keys.iter().copied().collect()),
            };
            describe(&image, &Overrides::new(), None, &resource).unwrap().len()
        };
        assert_eq!(count(None), count(Some(&[])));
        assert!(count(None) >= 33, "Kafka 4.3 has 33 topic settings");
    }
}
