//! What brokers answer, as far as the load looks at it.

use corelog::protocol::messages::produce::ProduceResponse;
use corelog::protocol::{ApiKey, Response, decode_response_header};

use super::admin::WireError;
use super::requests::PRODUCE_VERSION;

/// An answer without the length before it: its correlation id and its body.
pub fn response<'a, R: Response<'a>>(answer: &'a [u8], version: i16) -> Result<(i32, R), WireError> {
    let unreadable = |source| WireError::Unreadable { api: R::API, source };
    let (correlation, mut body) = decode_response_header(answer, R::API, version).map_err(unreadable)?;
    Ok((correlation, R::decode(&mut body, version).map_err(unreadable)?))
}

/// The answer to a produce request of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Produced {
    pub correlation: i32,
    pub partition: i32,
    pub error: i16,
}

pub fn produced(answer: &[u8]) -> Result<Produced, WireError> {
    let (correlation, response) = response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    let partition = partition.ok_or(WireError::Incomplete { api: ApiKey::Produce })?;
    Ok(Produced { correlation, partition: partition.index, error: partition.error_code })
}
