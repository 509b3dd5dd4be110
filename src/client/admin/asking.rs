//! How a question finds the broker that can answer it, again until it does.

use crate::client::cluster::Lane;
use crate::client::connection::{Answer, Connection};
use crate::client::coordinator;
use crate::client::error::ClientError;
use crate::client::patience::Patience;
use crate::model::NodeId;
use crate::protocol::{ApiKey, ErrorCode, Request};

use super::{Admin, Each};

/// Whose business a question is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'t> {
    Any,
    Controller,
    Node(NodeId),
    /// Of a group.
    Coordinator(&'t str),
}

impl Admin {
    pub(super) fn patience(&self) -> Patience {
        Patience::new(&self.settings.client, self.settings.api_timeout)
    }

    /// The time that brokers are given for what they do before they answer.
    pub(super) fn broker_timeout_ms(&self) -> i32 {
        i32::try_from(self.settings.client.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks until `accept` finds nothing that time may heal. `compose` is told the version of the request; it is at most
    /// `newest`.
    pub(super) async fn ask<'r, Q: Request<'r>>(
        &self,
        target: Target<'_>,
        newest: i16,
        compose: impl Fn(i16) -> Q,
        accept: impl Fn(&Answer) -> Result<(), ClientError>,
    ) -> Result<Answer, ClientError> {
        let mut patience = self.patience();
        loop {
            let asked = match self.submit(target, newest, &compose).await {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            let error = match asked {
                Ok(answer) => match accept(&answer) {
                    Ok(()) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let is_misdirected =
                error.is_unreachable() || error.error_code() == Some(ErrorCode::NotController);
            patience.after(error).await?;
            if is_misdirected {
                // A failure to learn more shows in the next try.
                drop(self.cluster.refresh().await);
            }
        }
    }

    async fn submit<'r, Q: Request<'r>>(
        &self,
        target: Target<'_>,
        newest: i16,
        compose: &impl Fn(i16) -> Q,
    ) -> Result<crate::client::connection::Pending, ClientError> {
        let connection = self.connection(target).await?;
        let version = connection.version_at_most(Q::API, newest)?;
        Ok(connection.submit(&compose(version), version, self.settings.client.request_timeout))
    }

    async fn connection(&self, target: Target<'_>) -> Result<Connection, ClientError> {
        match target {
            Target::Any => self.cluster.any_connection().await,
            Target::Node(node) => {
                self.learn_nodes().await?;
                self.cluster.connection(node, Lane::Main).await
            }
            Target::Controller => {
                self.learn_nodes().await?;
                match self.cluster.image().controller {
                    Some(controller) => self.cluster.connection(controller, Lane::Main).await,
                    // Those that are not it pass it on or say so.
                    None => self.cluster.any_connection().await,
                }
            }
            Target::Coordinator(group) => {
                let node = coordinator::find(&self.cluster, group).await?;
                self.cluster.connection_to(&node.address, Lane::Main).await
            }
        }
    }

    /// Nodes are known after this.
    pub(super) async fn learn_nodes(&self) -> Result<(), ClientError> {
        if self.cluster.image().nodes.is_empty() {
            self.cluster.refresh().await?;
        }
        Ok(())
    }
}

/// Accepts whatever the broker says.
pub(super) fn anything(_answer: &Answer) -> Result<(), ClientError> {
    Ok(())
}

/// The error if it is one that the whole question should be asked again for, elsewhere or later.
pub(super) fn unless_misdirected(error: Option<ClientError>) -> Result<(), ClientError> {
    let again = |error: &ClientError| {
        matches!(
            error.error_code(),
            Some(
                ErrorCode::NotController
                    | ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
            )
        )
    };
    match error {
        Some(error) if again(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A result for each thing that was asked about: what the answer leaves out is an error, not a success.
pub(super) fn for_all<K: Ord, V>(
    api: ApiKey,
    mut told: Each<K, V>,
    asked: impl IntoIterator<Item = (K, String)>,
) -> Each<K, V> {
    for (thing, subject) in asked {
        told.entry(thing).or_insert_with(|| Err(ClientError::left_out(api, subject)));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_leaves_out_is_an_error() {
        let told = Each::from([("a", Ok(1))]);
        let each =
            for_all(ApiKey::DeleteTopics, told, ["a", "b"].map(|name| (name, format!("topic {name}"))));
        assert!(matches!(each["a"], Ok(1)));
        let error = each["b"].as_ref().unwrap_err();
        assert_eq!(error.to_string(), "topic b: UNKNOWN_SERVER_ERROR: the broker's answer leaves it out",);
        assert!(!error.is_retriable() && !error.is_fatal(), "{error:?}");
    }
}
