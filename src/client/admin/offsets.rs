//! Offsets of partitions, and records below one.

use std::collections::BTreeMap;

use crate::client::cluster::Lane;
use crate::client::connection::Pending;
use crate::client::error::ClientError;
use crate::client::offsets;
use crate::model::{NodeId, Offset, TopicPartition};
use crate::protocol::ApiKey;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};

use super::{Admin, Each, FoundOffset, IsolationLevel, OffsetSpec};

impl Admin {
    /// Offsets by time or by name. `None` where no record is that late.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: IsolationLevel,
    ) -> Each<TopicPartition, Option<FoundOffset>> {
        offsets::list(&self.cluster, wanted, isolation, self.patience()).await
    }

    /// Deletes the records below an offset of each partition; -1 is the high watermark. Returns the offsets at which the
    /// partitions begin now.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Each<TopicPartition, Offset> {
        let mut patience = self.patience();
        let mut done = Each::new();
        let mut left = before.clone();
        loop {
            let mut last = None;
            for (partition, result) in self.delete_records_once(&left).await {
                match result {
                    Err(error) if error.is_retriable() => last = Some(error),
                    result => {
                        left.remove(&partition);
                        done.insert(partition, result);
                    }
                }
            }
            let Some(error) = last else { return done };
            if let Err(error) = patience.after(error).await {
                done.extend(left.into_keys().map(|partition| (partition, Err(error.clone()))));
                return done;
            }
            // The leader may be another by now; a failure shows in the next round.
            drop(self.cluster.refresh().await);
        }
    }

    async fn delete_records_once(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Each<TopicPartition, Offset> {
        let mut results = Each::new();
        let mut pending = Vec::new();
        for (leader, partitions) in offsets::by_leader(&self.cluster, before.keys()).await {
            let submitted = match leader {
                Ok(leader) => self.submit_delete_records(leader, &partitions, before).await,
                Err(error) => Err(error),
            };
            match submitted {
                Ok(answer) => pending.push((partitions, answer)),
                Err(error) => results.extend(partitions.into_iter().map(|p| (p, Err(error.clone())))),
            }
        }
        for (partitions, answer) in pending {
            let read = async {
                let answer = answer.await?;
                let response: DeleteRecordsResponse<'_> = answer.decode()?;
                for topic in &response.topics {
                    for told in &topic.partitions {
                        let partition = TopicPartition::new(topic.name.as_str(), told.partition_index);
                        let subject = partition.to_string();
                        let checked =
                            ClientError::check(ApiKey::DeleteRecords, subject, told.error_code, None);
                        results.insert(partition, checked.map(|()| told.low_watermark));
                    }
                }
                Ok(())
            };
            if let Err(error) = read.await {
                results.extend(partitions.into_iter().map(|p| (p, Err(ClientError::clone(&error)))));
            }
        }
        results
    }

    async fn submit_delete_records(
        &self,
        leader: NodeId,
        partitions: &[TopicPartition],
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<Pending, ClientError> {
        let connection = self.cluster.connection(leader, Lane::Main).await?;
        let version = connection.version(ApiKey::DeleteRecords)?;
        let mut topics: BTreeMap<&str, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(DeleteRecordsPartition {
                partition_index: partition.partition,
                offset: before[partition],
            });
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| DeleteRecordsTopic { name, partitions: partitions.into() })
            .collect::<Vec<_>>();
        let request = DeleteRecordsRequest { topics: topics.into(), timeout_ms: self.broker_timeout_ms() };
        Ok(connection.submit(&request, version, self.settings.client.request_timeout))
    }
}
