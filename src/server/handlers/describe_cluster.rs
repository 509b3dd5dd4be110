//! DescribeCluster: brokers and the controller. Any shard serves it.

use super::encoded;
use crate::metadata::{Advertised, Image};
use crate::protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader, Str};
use crate::server::context::{Asked, Context};
use crate::server::handlers::authorized_operations;

/// Source: Apache Kafka, `EndpointType`.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DescribeClusterRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let body = encoded(&answer(ctx.image, &request), asked.version);
    ctx.answer(asked.ticket, Some(body));
    Ok(())
}

fn answer(image: &Image, request: &DescribeClusterRequest) -> DescribeClusterResponse<'static> {
    let refused = |code: ErrorCode, text: &'static str| DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(Str::Borrowed(text)),
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        BROKERS => DescribeClusterResponse {
            cluster_id: image.cluster_id.to_string().into(),
            controller_id: image.controller_id().0,
            brokers: image.advertised().map(broker).collect(),
            cluster_authorized_operations: if request.include_cluster_authorized_operations {
                authorized_operations::CLUSTER
            } else {
                authorized_operations::NOT_ASKED
            },
            ..DescribeClusterResponse::default()
        },
        CONTROLLERS => {
            refused(ErrorCode::MismatchedEndpointType, "this endpoint is a broker's, not a controller's")
        }
        _ => refused(ErrorCode::UnsupportedEndpointType, "unknown endpoint type"),
    }
}

fn broker(broker: Advertised<'_>) -> DescribeClusterBroker<'static> {
    DescribeClusterBroker {
        broker_id: broker.id.0,
        host: broker.host.into(),
        port: i32::from(broker.port),
        rack: broker.rack.map(Into::into),
        is_fenced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::handlers::fixture::image;

    #[test]
    fn brokers_are_told_at_brokers_endpoints() {
        let image = image(&[]);
        for (version, endpoint_type, code, brokers) in [
            (0, BROKERS, ErrorCode::None, 1),
            (1, BROKERS, ErrorCode::None, 1),
            (2, BROKERS, ErrorCode::None, 1),
            (2, CONTROLLERS, ErrorCode::MismatchedEndpointType, 0),
            (2, 3, ErrorCode::UnsupportedEndpointType, 0),
        ] {
            let request = DescribeClusterRequest { endpoint_type, ..DescribeClusterRequest::default() };
            let body = encoded(&answer(&image, &request), version);
            let response = DescribeClusterResponse::decode(&mut Reader::new(&body), version).unwrap();
            assert_eq!(response.error_code, code.code());
            assert_eq!(response.brokers.len(), brokers);
            assert_eq!(response.controller_id, if brokers > 0 { 1 } else { -1 });
        }
    }
}
