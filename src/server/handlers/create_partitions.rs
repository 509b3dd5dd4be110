//! CreatePartitions: served by the controller.

use super::decision::{decide, message, seat, topic_defaults};
use super::encoded;
use crate::controller::{ControllerError, MorePartitions, create_partitions};
use crate::model::{BrokerId, TopicName};
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::protocol::{DecodeError, Message as _, Reader};
use crate::server::context::{Asked, Context};
use crate::server::error_map::controller_error;

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = CreatePartitionsRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let topics: Vec<MorePartitions<'_>> = request.topics.iter().map(more_partitions).collect();
    let config = ctx.config;
    let seat = seat(ctx);
    let decision = create_partitions(seat.latest(), &topics, &topic_defaults(config, seat));
    let response = CreatePartitionsResponse {
        results: decision.results.iter().map(|(name, result)| answer(name, result)).collect(),
        ..CreatePartitionsResponse::default()
    };
    let body = encoded(&response, asked.version);
    let records = if request.validate_only { Vec::new() } else { decision.records };
    decide(ctx, asked.ticket, records, body);
    Ok(())
}

fn more_partitions<'a>(topic: CreatePartitionsTopic<'a>) -> MorePartitions<'a> {
    let brokers = |ids: crate::protocol::Array<'a, i32>| ids.iter().map(BrokerId).collect();
    let assignments = topic.assignments.map(|all| all.iter().map(|one| brokers(one.broker_ids)).collect());
    MorePartitions { name: topic.name, count: topic.count, assignments }
}

fn answer(name: &TopicName, result: &Result<(), ControllerError>) -> CreatePartitionsTopicResult<'static> {
    let error = result.as_ref().err();
    CreatePartitionsTopicResult {
        name: name.into(),
        error_code: error.map_or(0, |error| controller_error(error).code()),
        error_message: error.and_then(message),
    }
}
