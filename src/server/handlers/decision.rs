//! What the handlers of the controller's APIs share: deciding on shard 0, and answering once the decision holds everywhere.

use bytes::Bytes;

use crate::config::{Config, Levels};
use crate::controller::{ControllerError, TopicDefaults};
use crate::mesh::Ticket;
use crate::metadata::{Image, Record};
use crate::protocol::Str;
use crate::server::context::Context;
use crate::server::controller_seat::ControllerSeat;

/// The controller. Only for requests that were routed to its shard.
pub fn seat<'c>(ctx: &'c mut Context<'_>) -> &'c mut ControllerSeat {
    ctx.controller.as_deref_mut().expect("requests for the controller are routed to its shard")
}

/// Puts decided records on their way; `body` answers `ticket` when every shard serves by them. Without records it answers
/// when every shard serves by what the decision may rest on, which can be now.
pub fn decide(ctx: &mut Context<'_>, ticket: Ticket, records: Vec<Record>, body: Bytes) {
    let seat = seat(ctx);
    seat.decide(records, ticket, body);
    for (ticket, body) in seat.answers() {
        ctx.answer(ticket, Some(body));
    }
}

/// What the configuration says of topics that do not say it themselves, and where there is room for them. Only for requests that
/// were routed to the controller's shard.
pub fn topic_defaults<'c>(config: &Config, seat: &'c ControllerSeat) -> TopicDefaults<'c> {
    TopicDefaults {
        partitions: config.num_partitions,
        replication_factor: config.default_replication_factor,
        partitions_max: usize::try_from(config.partitions_max).unwrap_or(usize::MAX),
        slot_loads: seat.slot_loads(),
    }
}

/// The text that goes with a refusal.
pub fn message(error: &ControllerError) -> Option<Str<'static>> {
    Some(error.to_string().into())
}

/// Calls `read` with the levels of settings that hold for a topic with these own settings on this broker.
pub fn with_levels<T>(
    image: &Image,
    explicit: &crate::config::Overrides,
    topic: &crate::config::Overrides,
    read: impl FnOnce(&Levels<'_>) -> T,
) -> T {
    let broker = image.broker_configs(image.local.node);
    read(&Levels { topic, broker: &broker, cluster: image.default_broker_configs(), explicit })
}
