//! Replies of one connection, in request order.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::keep_slices;
use crate::metrics::Timed;
use crate::reactor::Piped;

/// The place of one request among those of its connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sequence(u64);

/// What answers a request.
#[derive(Debug)]
pub enum Response {
    /// A whole frame, length prefix included.
    Frame(Bytes),
    /// Such a frame in pieces.
    Send(Vec<Bytes>),
    /// Such a frame, part of which is not in memory of ours.
    Pieces(VecDeque<Piece>),
    /// Nothing is sent (`acks=0`).
    Nothing,
    /// The connection closes after the replies before this one are sent.
    Close,
}

/// A piece of a frame.
#[derive(Debug)]
pub enum Piece {
    Bytes(Bytes),
    Piped(Piped),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Piped(piped) => piped.len(),
        }
    }
}

/// What `ResponseQueue::take_ready` left off at.
#[derive(Debug)]
pub enum Ready {
    /// There is no more, or enough was taken.
    Taken,
    /// This comes behind what was taken, and is part of the same send.
    Piped(Piped),
    /// The connection is to be closed once what was taken is sent.
    Close,
}

/// One request that has not been answered, or whose reply has not left.
#[derive(Debug)]
struct Place {
    request_bytes: usize,
    /// What the reply may bring, while it is not there.
    promised_bytes: usize,
    response: Option<Response>,
    timed: Option<Timed>,
}

/// Replies wait here until those of all earlier requests are there.
#[derive(Debug, Default)]
pub struct ResponseQueue {
    first: u64,
    slots: VecDeque<Place>,
    request_bytes: usize,
    promised_bytes: usize,
    queued_bytes: usize,
    /// One of the replies closes the connection.
    closes: bool,
    /// Of the front a part is taken.
    has_begun: bool,
}

impl ResponseQueue {
    /// Takes the place of the next request, which has so many bytes.
    pub fn reserve(&mut self, request_bytes: usize) -> Sequence {
        self.request_bytes += request_bytes;
        self.slots.push_back(Place { request_bytes, promised_bytes: 0, response: None, timed: None });
        Sequence(self.first + self.slots.len() as u64 - 1)
    }

    /// Counts a reply of so many bytes before it is there: work that will make it is about to begin.
    pub fn promise(&mut self, sequence: Sequence, bytes: usize) {
        let place = &mut self.slots[(sequence.0 - self.first) as usize];
        assert!(place.response.is_none(), "request {} has its reply", sequence.0);
        self.promised_bytes = self.promised_bytes - place.promised_bytes + bytes;
        place.promised_bytes = bytes;
    }

    /// Puts a reply in its place. Panics if the place is filled already: a request is answered once.
    pub fn fill(&mut self, sequence: Sequence, response: Response, timed: Option<Timed>) {
        assert!(sequence.0 >= self.first, "reply {} comes after {} was sent", sequence.0, self.first);
        let place = &mut self.slots[(sequence.0 - self.first) as usize];
        assert!(place.response.is_none(), "request {} is answered twice", sequence.0);
        match &response {
            Response::Frame(frame) => self.queued_bytes += frame.len(),
            Response::Send(slices) => self.queued_bytes += slices.iter().map(Bytes::len).sum::<usize>(),
            Response::Pieces(pieces) => self.queued_bytes += pieces.iter().map(Piece::len).sum::<usize>(),
            Response::Nothing => {}
            Response::Close => self.closes = true,
        }
        self.promised_bytes -= std::mem::take(&mut place.promised_bytes);
        place.response = Some(response);
        place.timed = timed;
    }

    /// Moves the replies that may leave now to the end of `slices`, at most until `bytes_max` is passed.
    /// `leave` gets the times of each. A reply with pipes goes in parts, each of them a pipe and the bytes before it.
    pub fn take_ready(
        &mut self,
        slices: &mut Vec<Bytes>,
        bytes_max: usize,
        mut leave: impl FnMut(Timed),
    ) -> Ready {
        let mut taken = 0;
        while taken < bytes_max && self.is_ready() {
            let front = self.slots.front_mut().and_then(|place| place.response.as_mut());
            if let Some(Response::Pieces(pieces)) = front {
                let piece = pieces.pop_front().expect("a reply that is taken whole leaves the queue");
                self.has_begun = !pieces.is_empty();
                self.queued_bytes -= piece.len();
                taken += piece.len();
                if !self.has_begun {
                    self.pop(&mut leave);
                }
                match piece {
                    Piece::Bytes(bytes) => slices.push(bytes),
                    Piece::Piped(piped) => return Ready::Piped(piped),
                }
                continue;
            }
            match self.pop(&mut leave) {
                Response::Send(mut reply) => {
                    let bytes = reply.iter().map(Bytes::len).sum::<usize>();
                    self.queued_bytes -= bytes;
                    taken += bytes;
                    slices.append(&mut reply);
                    keep_slices(reply);
                }
                Response::Frame(frame) => {
                    self.queued_bytes -= frame.len();
                    taken += frame.len();
                    slices.push(frame);
                }
                Response::Pieces(_) => unreachable!("they go one by one"),
                Response::Nothing => {}
                Response::Close => return Ready::Close,
            }
        }
        Ready::Taken
    }

    /// Takes the front out of the queue.
    fn pop(&mut self, leave: &mut impl FnMut(Timed)) -> Response {
        let place = self.slots.pop_front().expect("the front is there");
        self.request_bytes -= place.request_bytes;
        self.first += 1;
        if let Some(timed) = place.timed {
            leave(timed);
        }
        place.response.expect("the front is filled")
    }

    /// A reply was taken in part: what follows on the stream is the rest of it.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Requests whose reply has not been taken.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A reply can leave now.
    pub fn is_ready(&self) -> bool {
        self.slots.front().is_some_and(|place| place.response.is_some())
    }

    /// Bytes of the requests whose reply has not been taken.
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// The connection is to be closed, at the latest after the other replies: no more requests need be taken.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Bytes of replies that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Bytes that replies may bring which are not there yet.
    pub fn promised_bytes(&self) -> usize {
        self.promised_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &'static str) -> Response {
        Response::Send(vec![Bytes::from_static(text.as_bytes())])
    }

    #[test]
    fn replies_leave_in_request_order() {
        let mut queue = ResponseQueue::default();
        let (a, b, c) = (queue.reserve(10), queue.reserve(10), queue.reserve(10));
        let mut sent = Vec::new();
        queue.fill(c, reply("c"), None);
        queue.fill(b, Response::Nothing, None);
        assert!(matches!(queue.take_ready(&mut sent, usize::MAX, |_| ()), Ready::Taken));
        assert!(sent.is_empty());
        queue.fill(a, reply("a"), None);
        assert!(matches!(queue.take_ready(&mut sent, usize::MAX, |_| ()), Ready::Taken));
        assert_eq!(sent, [&b"a"[..], b"c"]);
        assert_eq!((queue.len(), queue.queued_bytes(), queue.request_bytes()), (0, 0, 0));
    }

    #[test]
    fn a_promise_counts_until_the_reply_is_there() {
        let mut queue = ResponseQueue::default();
        let (a, b) = (queue.reserve(10), queue.reserve(10));
        queue.promise(a, 1000);
        queue.promise(b, 500);
        assert_eq!((queue.promised_bytes(), queue.queued_bytes()), (1500, 0));
        queue.fill(a, reply("a"), None);
        assert_eq!((queue.promised_bytes(), queue.queued_bytes()), (500, 1));
        queue.fill(b, Response::Nothing, None);
        assert_eq!((queue.promised_bytes(), queue.queued_bytes()), (0, 1));
    }

    #[test]
    fn a_close_waits_for_the_replies_before_it() {
        let mut queue = ResponseQueue::default();
        let (a, b, c) = (queue.reserve(10), queue.reserve(10), queue.reserve(10));
        queue.fill(b, Response::Close, None);
        queue.fill(c, reply("c"), None);
        let mut sent = Vec::new();
        assert!(matches!(queue.take_ready(&mut sent, usize::MAX, |_| ()), Ready::Taken));
        queue.fill(a, reply("a"), None);
        assert!(matches!(queue.take_ready(&mut sent, usize::MAX, |_| ()), Ready::Close));
        assert_eq!(sent, [&b"a"[..]], "nothing after the close is sent");
    }

    #[test]
    fn a_reply_with_pipes_goes_in_parts() {
        let mut queue = ResponseQueue::default();
        let (a, b, c) = (queue.reserve(10), queue.reserve(20), queue.reserve(30));
        queue.fill(a, reply("a"), None);
        let bytes = |text: &'static str| Piece::Bytes(Bytes::from_static(text.as_bytes()));
        let pipe = |bytes| Piece::Piped(Piped::hollow(bytes));
        let pieces = [bytes("b1"), pipe(100), pipe(200), bytes("b2"), pipe(300)];
        queue.fill(b, Response::Pieces(pieces.into()), None);
        queue.fill(c, reply("c"), None);
        let mut part = |slices: &[&str], pipe: Option<usize>, left: (usize, usize), has_begun| {
            let mut sent = Vec::new();
            let piped = match queue.take_ready(&mut sent, 1000, |_| ()) {
                Ready::Piped(piped) => Some(piped.len()),
                Ready::Taken => None,
                Ready::Close => panic!("nothing closes"),
            };
            assert_eq!(sent, slices);
            assert_eq!((piped, (queue.len(), queue.queued_bytes())), (pipe, left));
            assert_eq!(queue.has_begun(), has_begun);
        };
        part(&["a", "b1"], Some(100), (2, 503), true);
        part(&[], Some(200), (2, 303), true);
        // Its last piece ends it.
        part(&["b2"], Some(300), (1, 1), false);
        part(&["c"], None, (0, 0), false);
        assert_eq!(queue.request_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "answered twice")]
    fn a_second_answer_is_our_fault() {
        let mut queue = ResponseQueue::default();
        let a = queue.reserve(10);
        queue.fill(a, Response::Nothing, None);
        queue.fill(a, Response::Nothing, None);
    }
}
