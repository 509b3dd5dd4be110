//! IncrementalAlterConfigs and AlterConfigs: served by the controller.

use bytes::Bytes;

use super::config_resource::{BROKER, OwnSettings, TOPIC};
use super::decision::{decide, message, seat};
use super::encoded;
use crate::controller::{
    ConfigAlteration, ConfigChange, ConfigOperation, ConfigTarget, ControllerError, Decision, alter_configs,
    replace_configs,
};
use crate::protocol::messages::{alter_configs as replacing, incremental_alter_configs as incremental};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::error_map::controller_error;

/// What a resource of a request comes to before the controller sees it.
enum Asking<'a> {
    Alteration(ConfigAlteration<'a>),
    UnknownResource,
    UnknownOperation(i8),
}

/// IncrementalAlterConfigs.
pub fn serve_incremental(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    use incremental::{
        AlterConfigsResourceResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    };
    let request = IncrementalAlterConfigsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let own = OwnSettings::new(ctx.image, asked.endpoint);
    let asking = request.resources.iter().map(|resource| {
        let target = config_target(resource.resource_type, resource.resource_name, &own)?;
        let changes = resource.configs.iter().map(|config| {
            let operation = operation(config.config_operation)?;
            Ok(ConfigChange { name: config.name, operation, value: config.value })
        });
        let changes = changes.collect::<Result<_, Asking<'_>>>()?;
        Ok(ConfigAlteration { target, changes })
    });
    let asking: Vec<Asking<'_>> =
        asking.map(|one| one.map_or_else(|refused| refused, Asking::Alteration)).collect();
    let config = ctx.config.clone();
    let decision = alter_configs(seat(ctx).latest(), &alterations(&asking), &config.explicit);
    let mut verdicts = verdicts(&asking, &decision, &own).into_iter();
    let responses = request.resources.iter().map(|resource| {
        let (error_code, error_message) = verdicts.next().expect("one for each resource");
        AlterConfigsResourceResponse {
            error_code: error_code.code(),
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.into(),
        }
    });
    let response = IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() };
    let body = encoded(&response, asked.version);
    finish(ctx, asked, request.validate_only, decision, body);
    Ok(())
}

/// AlterConfigs.
pub fn serve_replacing(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    use replacing::{AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse};
    let request = AlterConfigsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let own = OwnSettings::new(ctx.image, asked.endpoint);
    let asking = request.resources.iter().map(|resource| {
        let target = config_target(resource.resource_type, resource.resource_name, &own)?;
        let changes = resource.configs.iter().map(|config| ConfigChange {
            name: config.name,
            operation: ConfigOperation::Set,
            value: config.value,
        });
        Ok(ConfigAlteration { target, changes: changes.collect() })
    });
    let asking: Vec<Asking<'_>> =
        asking.map(|one| one.map_or_else(|refused| refused, Asking::Alteration)).collect();
    let decision = replace_configs(seat(ctx).latest(), &alterations(&asking));
    let mut verdicts = verdicts(&asking, &decision, &own).into_iter();
    let responses = request.resources.iter().map(|resource| {
        let (error_code, error_message) = verdicts.next().expect("one for each resource");
        AlterConfigsResourceResponse {
            error_code: error_code.code(),
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.into(),
        }
    });
    let response = AlterConfigsResponse { responses: responses.collect(), ..Default::default() };
    let body = encoded(&response, asked.version);
    finish(ctx, asked, request.validate_only, decision, body);
    Ok(())
}

fn finish(
    ctx: &mut Context<'_>,
    asked: &Asked<'_>,
    validate_only: bool,
    decision: Decision<Result<(), ControllerError>>,
    body: Bytes,
) {
    let records = if validate_only { Vec::new() } else { decision.records };
    decide(ctx, asked.ticket, records, body);
}

fn config_target<'a>(
    resource_type: i8,
    name: &'a str,
    own: &'a OwnSettings,
) -> Result<ConfigTarget<'a>, Asking<'a>> {
    match resource_type {
        TOPIC => Ok(ConfigTarget::Topic(name)),
        BROKER => Ok(ConfigTarget::Broker(own.kept_under(name))),
        _ => Err(Asking::UnknownResource),
    }
}

/// Source: Apache Kafka, `AlterConfigOp.OpType`.
fn operation<'a>(code: i8) -> Result<ConfigOperation, Asking<'a>> {
    match code {
        0 => Ok(ConfigOperation::Set),
        1 => Ok(ConfigOperation::Delete),
        2 => Ok(ConfigOperation::Append),
        3 => Ok(ConfigOperation::Subtract),
        other => Err(Asking::UnknownOperation(other)),
    }
}

fn alterations<'a>(asking: &[Asking<'a>]) -> Vec<ConfigAlteration<'a>> {
    let known = asking.iter().filter_map(|one| match one {
        Asking::Alteration(alteration) => Some(alteration.clone()),
        Asking::UnknownResource | Asking::UnknownOperation(_) => None,
    });
    known.collect()
}

/// Code and text for each resource of the request.
fn verdicts(
    asking: &[Asking<'_>],
    decision: &Decision<Result<(), ControllerError>>,
    own: &OwnSettings,
) -> Vec<(ErrorCode, Option<Str<'static>>)> {
    let mut decided = decision.results.iter();
    let verdict = |one: &Asking<'_>| match one {
        Asking::UnknownResource => {
            (ErrorCode::InvalidRequest, Some("Resources of this type have no settings to change.".into()))
        }
        Asking::UnknownOperation(code) => {
            (ErrorCode::InvalidRequest, Some(format!("Unknown config operation {code}.").into()))
        }
        Asking::Alteration(_) => match decided.next().expect("one for each alteration") {
            Ok(()) => (ErrorCode::None, None),
            Err(error) => (controller_error(error), message(&own.in_its_terms(error.clone()))),
        },
    };
    asking.iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;
    use crate::server::handlers::fixture::image;

    #[test]
    fn each_resource_gets_its_own_verdict_in_order() {
        let asking = [
            Asking::UnknownResource,
            Asking::Alteration(ConfigAlteration { target: ConfigTarget::Topic("t"), changes: Vec::new() }),
            Asking::UnknownOperation(9),
            Asking::Alteration(ConfigAlteration { target: ConfigTarget::Topic("u"), changes: Vec::new() }),
        ];
        let unknown = ControllerError::UnknownTopic { name: "u".into() };
        let decision = Decision { records: Vec::new(), results: vec![Ok(()), Err(unknown)] };
        let own = OwnSettings::new(&image(&[]), Some(Endpoint(0)));
        let codes: Vec<ErrorCode> =
            verdicts(&asking, &decision, &own).into_iter().map(|(code, _)| code).collect();
        use ErrorCode::{InvalidRequest, None, UnknownTopicOrPartition};
        assert_eq!(codes, [InvalidRequest, None, InvalidRequest, UnknownTopicOrPartition]);
    }

    #[test]
    fn resource_types_and_operations_are_kafkas() {
        let own = OwnSettings::new(&image(&[]), Some(Endpoint(1)));
        assert!(matches!(config_target(2, "t", &own), Ok(ConfigTarget::Topic("t"))));
        assert!(matches!(config_target(4, "", &own), Ok(ConfigTarget::Broker(""))));
        assert!(matches!(config_target(4, "1001", &own), Ok(ConfigTarget::Broker("1"))));
        assert!(config_target(8, "1", &own).is_err());
        assert!(matches!(operation(3), Ok(ConfigOperation::Subtract)));
        assert!(operation(4).is_err());
        assert!(operation(-1).is_err());
    }
}
