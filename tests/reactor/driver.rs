//! A loop around one ring, as small as a test allows.

use std::sync::Arc;
use std::time::Duration;

use corelog::model::ShardId;
use corelog::reactor::{
    Completion, Doorbells, Io, Operation, Outcome, Rejected, Ring, RingOptions, Room, Token,
};

/// Far beyond anything a healthy machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Driver {
    pub ring: Ring,
    pub doorbells: Arc<Doorbells>,
    finished: Vec<Completion>,
    next_value: u64,
}

impl Driver {
    pub fn new() -> Driver {
        Driver::with_options(RingOptions::default())
    }

    pub fn with_options(options: RingOptions) -> Driver {
        let doorbells = Doorbells::new(1).expect("eventfd");
        Driver::with_doorbells(ShardId(0), options, doorbells)
    }

    pub fn with_doorbells(shard: ShardId, options: RingOptions, doorbells: Arc<Doorbells>) -> Driver {
        let ring = Ring::new(shard, options, doorbells.clone()).expect("make the ring");
        Driver { ring, doorbells, finished: Vec::new(), next_value: 0 }
    }

    /// Submits under a token of its own.
    pub fn submit(&mut self, operation: Operation) -> Token {
        self.next_value += 1;
        let token = Token::new(Room::Shard, self.next_value);
        if let Err(Rejected(_)) = self.ring.submit(token, operation) {
            panic!("the in-flight table is full");
        }
        token
    }

    /// Runs rounds until `pick` takes a completion; those it leaves wait for a later call, in order.
    pub fn next<T>(&mut self, mut pick: impl FnMut(&mut Ring, Completion) -> Result<T, Completion>) -> T {
        let deadline = self.ring.now() + DEADLINE;
        let mut left = Vec::new();
        loop {
            let mut taken = None;
            for completion in std::mem::take(&mut self.finished) {
                match taken {
                    Some(_) => left.push(completion),
                    None => match pick(&mut self.ring, completion) {
                        Ok(value) => taken = Some(value),
                        Err(completion) => left.push(completion),
                    },
                }
            }
            if let Some(value) = taken {
                self.finished = left;
                return value;
            }
            assert!(self.ring.now() < deadline, "{} completions, none is the one", left.len());
            self.ring.wait(deadline);
            self.ring.reap(&mut self.finished);
        }
    }

    /// The next completion of an operation.
    pub fn outcome(&mut self, token: Token) -> (Outcome, bool) {
        self.next(|_, completion| match completion.token == token {
            true => Ok((completion.outcome, completion.more)),
            false => Err(completion),
        })
    }

    /// The only completion of an operation.
    pub fn end(&mut self, token: Token) -> Outcome {
        let (outcome, more) = self.outcome(token);
        assert!(!more, "one completion was expected");
        outcome
    }

    /// As `end`; `None` if it does not come in so long.
    pub fn end_within(&mut self, token: Token, patience: Duration) -> Option<Outcome> {
        let until = self.ring.now() + patience;
        loop {
            if let Some(at) = self.finished.iter().position(|completion| completion.token == token) {
                return Some(self.finished.remove(at).outcome);
            }
            if self.ring.now() >= until {
                return None;
            }
            self.ring.wait(until);
            self.ring.reap(&mut self.finished);
        }
    }

    pub fn run(&mut self, operation: Operation) -> Outcome {
        let token = self.submit(operation);
        self.end(token)
    }

    /// Submits what is queued and takes what is there, without waiting.
    pub fn poll(&mut self) {
        self.ring.wait(self.ring.now());
        self.ring.reap(&mut self.finished);
    }
}

pub fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done)
}

/// The errno of a failed operation.
pub fn errno(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Failed(error) => error.raw_os_error().expect("an error of the kernel"),
        other => panic!("did not fail: {}", name(&other)),
    }
}

pub fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "Done",
        Outcome::Accepted { .. } => "Accepted",
        Outcome::Received(_) => "Received",
        Outcome::EndOfStream => "EndOfStream",
        Outcome::Cancelled => "Cancelled",
        Outcome::Read(_) => "Read",
        Outcome::Job(_) => "Job",
        Outcome::Failed(_) => "Failed",
    }
}
