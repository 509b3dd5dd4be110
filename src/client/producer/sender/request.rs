//! Produce requests: composed from batches, and their answers taken apart.

use crate::client::cluster::Node;
use crate::client::connection::{Answer, Connection};
use crate::client::error::ClientError;
use crate::client::settings::ProducerSettings;
use crate::client::time::Instant;
use crate::config::Address;
use crate::model::NodeId;
use crate::protocol::messages::produce::{
    PartitionBatches, PartitionProduceResponse, ProduceBatchesRequest, ProduceResponse, TopicBatches,
};
use crate::protocol::{ApiKey, Array};

use super::partition::Placed;

/// From version 13 on topics are named by id; a name finds the topic also after it was made anew.
pub(super) const PRODUCE_VERSION_MAX: i16 = 12;

/// The first version in which brokers take zstd. Source: KIP-110.
pub(super) const ZSTD_VERSION_MIN: i16 = 7;

/// A batch in a request, with the sender's number of its partition.
pub(super) struct InRequest {
    pub slot: usize,
    pub placed: Placed,
}

/// A request under way.
pub(super) struct Sent {
    pub node: NodeId,
    pub at: Instant,
    pub batches: Vec<InRequest>,
}

/// What a broker says of one batch.
#[derive(Debug)]
pub(super) struct Said {
    pub error_code: i16,
    pub message: Option<String>,
    pub base_offset: i64,
    pub log_append_time: i64,
    /// Who leads the partition now, where the broker knows better (KIP-951).
    pub leader: Option<(NodeId, i32)>,
}

/// What a broker says of a request.
pub(super) struct Response {
    /// By batch, in the order of the request; `None`: it says nothing of this one.
    pub said: Vec<Option<Said>>,
    pub endpoints: Vec<Node>,
    pub throttle_ms: u32,
}

/// Queues the request; `then` is called with its answer.
pub(super) fn submit(
    connection: &Connection,
    version: i16,
    settings: &ProducerSettings,
    batches: &mut [InRequest],
    then: impl FnOnce(Result<Option<Answer>, ClientError>) + Send + 'static,
) {
    // Partitions of a topic stand together.
    batches.sort_by(|a, b| topic_of(a).cmp(topic_of(b)));
    let topics = batches.chunk_by(|a, b| topic_of(a) == topic_of(b)).map(|of_topic| {
        let partition = |of: &InRequest| PartitionBatches {
            index: of.placed.batch.shared.partition,
            records: Some(of.placed.batch.bytes.clone().into()),
        };
        TopicBatches {
            name: topic_of(&of_topic[0]),
            partition_data: of_topic.iter().map(partition).collect(),
            ..TopicBatches::default()
        }
    });
    let timeout = settings.client.request_timeout;
    let request = ProduceBatchesRequest {
        transactional_id: None,
        acks: settings.acks.on_the_wire(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: topics.collect::<Array<'_, _>>(),
    };
    let is_answered = request.acks != 0;
    connection.submit_then(&request, version, timeout, is_answered, then);
}

fn topic_of(batch: &InRequest) -> &str {
    &batch.placed.batch.shared.topic
}

/// Takes an answer apart.
pub(super) fn read(answer: &Answer, batches: &[InRequest]) -> Result<Response, ClientError> {
    debug_assert_eq!(answer.api, ApiKey::Produce);
    let response: ProduceResponse<'_> = answer.decode()?;
    let mut said: Vec<Option<Said>> = batches.iter().map(|_| None).collect();
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            // Brokers answer in the order of the request; they need not.
            let at = batches.iter().position(|batch| {
                let shared = &batch.placed.batch.shared;
                shared.partition == partition.index && topic.name == *shared.topic
            });
            if let Some(at) = at {
                said[at] = Some(said_of(&partition));
            }
        }
    }
    let endpoints = response.node_endpoints.iter().filter_map(|endpoint| {
        let address =
            Address { host: endpoint.host.as_str().to_owned(), port: u16::try_from(endpoint.port).ok()? };
        let rack = endpoint.rack.as_deref().map(Into::into);
        Some(Node { id: NodeId(endpoint.node_id), address, rack })
    });
    let throttle_ms = u32::try_from(response.throttle_time_ms).unwrap_or(0);
    Ok(Response { said, endpoints: endpoints.collect(), throttle_ms })
}

fn said_of(partition: &PartitionProduceResponse<'_>) -> Said {
    let leader = &partition.current_leader;
    // Which record of the batch was refused says more than the message of the whole.
    let record_message = partition.record_errors.first().and_then(|error| error.batch_index_error_message);
    let message = record_message.or_else(|| partition.error_message.clone());
    Said {
        error_code: partition.error_code,
        message: message.map(|message| message.as_str().to_owned()),
        base_offset: partition.base_offset,
        log_append_time: partition.log_append_time_ms,
        leader: (leader.leader_id >= 0).then_some((NodeId(leader.leader_id), leader.leader_epoch)),
    }
}
