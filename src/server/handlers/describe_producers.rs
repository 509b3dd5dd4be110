//! DescribeProducers: the producers that partitions remember.

use bytes::Bytes;

use super::encoded;
use crate::model::PartitionIndex;
use crate::protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicRequest,
    TopicResponse,
};
use crate::protocol::{Array, DecodeError, ErrorCode, Message as _, Reader};
use crate::server::Route;
use crate::server::by_topic::{self, ByTopic};
use crate::server::context::{Asked, Context};

pub fn route(ctx: &Context<'_>, version: i16, body: &[u8]) -> Result<Route, DecodeError> {
    let request = DescribeProducersRequest::decode(&mut Reader::new(body), version)?;
    let mut named = Vec::new();
    for topic in &request.topics {
        named.extend(topic.partition_indexes.iter().map(|index| (topic.name, index, index)));
    }
    let encode = |part: &ByTopic<PartitionIndex>| {
        let topics = part
            .iter()
            .map(|(name, indexes)| TopicRequest { name, partition_indexes: Array::Slice(indexes) });
        encoded(&DescribeProducersRequest { topics: topics.collect() }, version)
    };
    Ok(by_topic::route(ctx, named, encode, merge))
}

fn merge(version: i16, bodies: &[Bytes]) -> Bytes {
    let mut all = ByTopic::new();
    for body in bodies {
        let response = DescribeProducersResponse::decode(&mut Reader::new(body), version)
            .expect("a shard encoded it in this version");
        for topic in &response.topics {
            topic.partitions.iter().for_each(|part| all.push(&topic.name, part));
        }
    }
    response(version, all)
}

fn response(version: i16, all: ByTopic<PartitionResponse<'_>>) -> Bytes {
    let topics = all
        .into_iter()
        .map(|(name, partitions)| TopicResponse { name: name.into(), partitions: partitions.into() });
    let response =
        DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() };
    encoded(&response, version)
}

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = DescribeProducersRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let mut all = ByTopic::new();
    for topic in &request.topics {
        for index in &topic.partition_indexes {
            let (error, active_producers) = match producers(ctx, asked, topic.name, index) {
                Ok(producers) => (ErrorCode::None, producers),
                Err(error) => (error, Vec::new()),
            };
            let answer = PartitionResponse {
                partition_index: index,
                error_code: error.code(),
                error_message: (error != ErrorCode::None).then(|| error.text().into()),
                active_producers: active_producers.into(),
            };
            all.push(topic.name, answer);
        }
    }
    ctx.answer(asked.ticket, Some(response(asked.version, all)));
    Ok(())
}

fn producers(
    ctx: &Context<'_>,
    asked: &Asked<'_>,
    topic: &str,
    index: PartitionIndex,
) -> Result<Vec<ProducerState>, ErrorCode> {
    let replica = ctx.partitions.get(by_topic::leader_here(ctx, asked.endpoint, topic, index)?);
    let described = replica.log().producers().iter().map(|(id, producer)| ProducerState {
        producer_id: id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence(),
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.open_transaction_start.unwrap_or(-1),
    });
    Ok(described.collect())
}
