//! Which broker coordinates a group.

use crate::config::Address;
use crate::model::NodeId;
use crate::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::{ApiKey, ErrorCode};

use super::cluster::{Cluster, Node};
use super::error::{ClientError, Fatal};

/// Source: Apache Kafka, `FindCoordinatorRequest.CoordinatorType.GROUP`.
const KEY_TYPE_GROUP: i8 = 0;

/// From this version on, several keys are asked for at once (KIP-699).
const SEVERAL_KEYS: i16 = 4;

/// Asks any broker, once.
pub(super) async fn find(cluster: &Cluster, group: &str) -> Result<Node, ClientError> {
    let api = ApiKey::FindCoordinator;
    let connection = cluster.any_connection().await?;
    let version = connection.version(api)?;
    let keys = [group];
    let request = if version >= SEVERAL_KEYS {
        FindCoordinatorRequest {
            key_type: KEY_TYPE_GROUP,
            coordinator_keys: keys.as_slice().into(),
            ..Default::default()
        }
    } else {
        FindCoordinatorRequest { key: group, ..Default::default() }
    };
    let answer = connection.submit(&request, version, cluster.settings().request_timeout).await?;
    let response: FindCoordinatorResponse<'_> = answer.decode()?;
    let (code, message, id, host, port) = if version >= SEVERAL_KEYS {
        let Some(found) = response.coordinators.iter().find(|found| &*found.key == group) else {
            let code = ErrorCode::CoordinatorNotAvailable.code();
            let refused = ClientError::refused(api, subject(group), code, None);
            return Err(refused.expect("the code is an error's"));
        };
        (found.error_code, found.error_message, found.node_id, found.host, found.port)
    } else {
        (response.error_code, response.error_message, response.node_id, response.host, response.port)
    };
    ClientError::check(api, subject(group), code, message.as_deref())?;
    let port = u16::try_from(port).map_err(|_| Fatal::NotKafka { address: connection.address().clone() })?;
    let address = Address { host: host.as_str().to_owned(), port };
    Ok(Node { id: NodeId(id), address, rack: None })
}

/// How errors name a group.
pub(super) fn subject(group: &str) -> String {
    format!("group {group}")
}

/// Whether another broker coordinates the group by now, or none.
pub(super) fn has_moved(error: &ClientError) -> bool {
    error.is_unreachable()
        || matches!(error.error_code(), Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable))
}
