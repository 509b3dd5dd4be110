//! InitProducerId: ids for idempotent producers, from the controller's blocks. Transactions are refused until they come.

use super::decision::seat;
use super::encoded;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::{DecodeError, ErrorCode, Message as _, Reader};
use crate::server::context::{Asked, Context};

pub fn serve(ctx: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), DecodeError> {
    let request = InitProducerIdRequest::decode(&mut Reader::new(asked.body), asked.version)?;
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    // An id without an epoch, or the other way round, is nothing that a producer can have been given.
    let is_half_known = (request.producer_id == -1) != (request.producer_epoch == -1);
    if request.transactional_id.is_some() || is_half_known {
        ctx.answer(asked.ticket, Some(encoded(&refused(ErrorCode::InvalidRequest), asked.version)));
        return Ok(());
    }
    let Some((id, version)) = seat(ctx).take_producer_id() else {
        ctx.answer(asked.ticket, Some(encoded(&refused(ErrorCode::UnknownServerError), asked.version)));
        return Ok(());
    };
    let given =
        InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..InitProducerIdResponse::default() };
    let body = encoded(&given, asked.version);
    let seat = seat(ctx);
    seat.answer_at(version, asked.ticket, body);
    for (ticket, body) in seat.answers() {
        ctx.answer(ticket, Some(body));
    }
    Ok(())
}
