//! The cluster as a whole.

use std::sync::Arc;

use crate::client::cluster::{ClusterImage, Node};
use crate::client::error::ClientError;
use crate::model::{NodeId, TopicName};

use super::Admin;

/// The brokers of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterDescription {
    pub cluster_id: Option<Arc<str>>,
    /// Whom to send what only the controller may do. Where brokers pass such requests on, it is any of them.
    pub controller: Option<NodeId>,
    /// By id.
    pub nodes: Vec<Node>,
}

impl Admin {
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let image = self.describe(Some(&[])).await?;
        Ok(ClusterDescription {
            cluster_id: image.cluster_id,
            controller: image.controller,
            nodes: image.nodes.into_values().collect(),
        })
    }

    /// What a broker says now of these topics, or of all.
    pub(super) async fn describe(&self, topics: Option<&[TopicName]>) -> Result<ClusterImage, ClientError> {
        let mut patience = self.patience();
        loop {
            match self.cluster.describe(topics).await {
                Ok(image) => return Ok(image),
                Err(error) => patience.after(error).await?,
            }
        }
    }
}
