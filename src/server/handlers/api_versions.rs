//! ApiVersions: what this broker speaks. Answered before anything else is known of the client.

use bytes::BytesMut;

use super::encoded;
use crate::net::Response;
use crate::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::{ApiKey, Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::frame_out::frame_of;
use crate::server::pending::Origin;

/// The one feature that clients are told of so far, and the lowest level we could run at: 3.3-IV3, Kafka's floor.
const METADATA_VERSION_MIN: i16 = 7;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = ApiVersionsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let names_itself = asked.version < 3
        || (is_software_name(request.client_software_name)
            && is_software_name(request.client_software_version));
    let response = if names_itself {
        answer(ctx)
    } else {
        ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() }
    };
    ctx.answer(asked.ticket, Some(encoded(&response, asked.version)));
    Ok(())
}

/// A version from the future: answered as version 0 with the range of this API, so that the client can ask again (KIP-511).
pub fn refuse_version(ctx: &mut Context<'_>, origin: Origin) {
    let own = version_of(ApiKey::ApiVersions);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: Array::from(vec![own]),
        ..ApiVersionsResponse::default()
    };
    let mut body = BytesMut::with_capacity(16);
    response.encode(&mut body, 0);
    ctx.reply(&origin, Response::Send(frame_of(&origin, body)));
}

fn answer(ctx: &Context<'_>) -> ApiVersionsResponse<'static> {
    let level = ctx.image.metadata_level();
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().copied().map(version_of).collect(),
        supported_features: Array::from(vec![SupportedFeatureKey {
            name: crate::metadata::METADATA_VERSION_FEATURE.into(),
            min_version: METADATA_VERSION_MIN,
            max_version: crate::metadata::METADATA_VERSION_LEVEL,
        }]),
        // Never goes back: it is the index of the last metadata entry.
        finalized_features_epoch: i64::try_from(ctx.image.version).unwrap_or(i64::MAX),
        finalized_features: Array::from(vec![FinalizedFeatureKey {
            name: crate::metadata::METADATA_VERSION_FEATURE.into(),
            max_version_level: level,
            min_version_level: level,
        }]),
        ..ApiVersionsResponse::default()
    }
}

fn version_of(api: ApiKey) -> ApiVersion {
    let versions = api.advertised_versions();
    ApiVersion { api_key: api.key(), min_version: *versions.start(), max_version: *versions.end() }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` (KIP-511).
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        let check = |name: &str, expected| assert_eq!(is_software_name(name), expected, "{name:?}");
        check("librdkafka", true);
        check("a", true);
        check("2.1-x", true);
        check("", false);
        check("-a", false);
        check("a.", false);
        check("a b", false);
    }
}
