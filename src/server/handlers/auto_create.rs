//! Topics that come into being because a client named them.

use super::decision::{seat, topic_defaults};
use crate::controller::{NewTopic, create_topics, offsets_topic};
use crate::mesh::Message;
use crate::metadata::{GROUP_METADATA_TOPIC, Record, is_internal_topic};
use crate::model::TopicName;
use crate::server::context::Context;
use crate::server::handlers::CONTROLLER;

/// Asks the controller to make topics; whoever named them finds them with a later request.
pub fn ask(ctx: &mut Context<'_>, topics: Vec<TopicName>) {
    if topics.is_empty() {
        return;
    }
    if ctx.shard == CONTROLLER {
        create(ctx, topics);
    } else {
        ctx.mesh.send(CONTROLLER, Message::AutoCreate { topics });
    }
}

/// Makes topics with the broker's defaults, on the controller's shard. Names that exist, or cannot, are passed over, and so
/// are the internal topics of what is not served.
pub fn create(ctx: &mut Context<'_>, topics: Vec<TopicName>) {
    for name in &topics {
        let records = decided(ctx, name);
        if !records.is_empty() {
            seat(ctx).propose(records);
        }
    }
}

fn decided(ctx: &mut Context<'_>, name: &str) -> Vec<Record> {
    let segment_bytes = ctx.config.offsets_topic_segment_bytes.to_string();
    let topic = match name {
        GROUP_METADATA_TOPIC => offsets_topic(
            ctx.config.offsets_topic_partitions,
            ctx.config.offsets_topic_replication_factor,
            &segment_bytes,
        ),
        _ if is_internal_topic(name) => return Vec::new(),
        _ => NewTopic { name, partitions: -1, replication_factor: -1, ..NewTopic::default() },
    };
    let random = &mut *ctx.random;
    let seat = ctx.controller.as_deref().expect("requests for the controller are routed to its shard");
    let defaults = topic_defaults(ctx.config, seat);
    // Refused if it is there already; a proposal in flight counts.
    create_topics(seat.latest(), &[topic], &defaults, &mut || random.word()).records
}
