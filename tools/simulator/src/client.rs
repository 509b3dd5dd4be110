//! One connection of a simulated client: requests out, answers in order.

use std::collections::VecDeque;

use bytes::BytesMut;
use corelog::protocol::{ApiKey, Request, write_request};
use corelog::reactor::sim::{ClientId, ClientState, SimWorld};

/// A connection and the requests on it that have no answer yet.
pub struct Connection {
    pub id: ClientId,
    received: Vec<u8>,
    asked: VecDeque<(i32, ApiKey, i16)>,
    next: i32,
}

/// An answer: to which request, in which version, and its body with header.
pub struct Answer {
    pub correlation_id: i32,
    pub api: ApiKey,
    pub version: i16,
    pub frame: Vec<u8>,
}

impl Connection {
    pub fn open(world: &SimWorld, port: u16) -> Connection {
        Connection { id: world.connect(port), received: Vec::new(), asked: VecDeque::new(), next: 0 }
    }

    /// Sends a request; returns its correlation id.
    pub fn ask<'a>(
        &mut self,
        world: &SimWorld,
        request: &impl Request<'a>,
        api: ApiKey,
        version: i16,
    ) -> i32 {
        let id = self.tell(world, request, version);
        self.asked.push_back((id, api, version));
        id
    }

    /// Sends a request that nobody answers: a produce with `acks=0`.
    pub fn tell<'a>(&mut self, world: &SimWorld, request: &impl Request<'a>, version: i16) -> i32 {
        let id = self.next;
        self.next += 1;
        let mut frame = BytesMut::new();
        write_request(request, version, id, Some("sim"), &mut frame);
        world.client_send(self.id, &frame);
        id
    }

    /// Answers that arrived whole. `Err`: the connection is gone, or the stream makes no sense.
    pub fn answers(&mut self, world: &SimWorld) -> Result<Vec<Answer>, &'static str> {
        self.received.extend(world.client_received(self.id));
        let mut answers = Vec::new();
        while let Some(length) = self.received.first_chunk::<4>().map(|b| i32::from_be_bytes(*b)) {
            let length = usize::try_from(length).map_err(|_| "a negative length")?;
            if self.received.len() < 4 + length {
                break;
            }
            let frame: Vec<u8> = self.received.drain(..4 + length).skip(4).collect();
            let (correlation_id, api, version) = self.asked.pop_front().ok_or("an answer to nothing")?;
            let told = i32::from_be_bytes(*frame.first_chunk::<4>().ok_or("an answer without a header")?);
            if told != correlation_id {
                return Err("answers out of order");
            }
            answers.push(Answer { correlation_id, api, version, frame });
        }
        if answers.is_empty()
            && matches!(world.client_state(self.id), ClientState::Ended | ClientState::Reset)
        {
            return Err("closed");
        }
        Ok(answers)
    }

    pub fn in_flight(&self) -> usize {
        self.asked.len()
    }
}
