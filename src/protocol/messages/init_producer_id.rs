//! InitProducerId: gives a producer its id and epoch.

use crate::protocol::message::message;

message! {
    request InitProducerIdRequest<'a> of InitProducerId {
        transactional_id: Option<&'a str> => 0.., null 0.., default Some("");
        transaction_timeout_ms: i32       => 0..;
        producer_id: i64                  => 3.., default -1;
        producer_epoch: i16               => 3.., default -1;
    }

    response InitProducerIdResponse of InitProducerId {
        throttle_time_ms: i32 => 0..;
        error_code: i16       => 0..;
        producer_id: i64      => 0.., default -1;
        producer_epoch: i16   => 0..;
    }
}
