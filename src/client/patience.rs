//! Trying again until a time is over.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::error::{ClientError, Retriable, Waited};
use super::random::Random;
use super::settings::ClientSettings;
use super::time::Instant;

/// How long a call may take in all, and how it spaces its tries.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    after: Duration,
    backoff: Backoff,
    random: Random,
    failures: u32,
}

impl Patience {
    /// Begins now and is over `after` that long.
    pub fn new(settings: &ClientSettings, after: Duration) -> Patience {
        Patience {
            deadline: Instant::now() + after,
            after,
            backoff: settings.retry_backoff,
            random: Random::new(),
            failures: 0,
        }
    }

    /// Waits before the next try. Errors: what failed is no matter of time, or there is no time left.
    pub async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(error);
        }
        self.failures = self.failures.saturating_add(1);
        let next = Instant::now() + self.backoff.wait(self.failures, &self.random);
        if next >= self.deadline {
            return Err(self.over(Some(error)));
        }
        tokio::time::sleep_until(next).await;
        Ok(())
    }

    /// The error that says that the time is over.
    pub fn over(&self, last: Option<ClientError>) -> ClientError {
        Retriable::TimedOut { what: Waited::Api, after: self.after, last: last.map(Arc::new) }.into()
    }

    /// What is left of the time, in the unit of requests.
    pub fn left_ms(&self) -> i32 {
        let left = self.deadline.saturating_duration_since(Instant::now());
        i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
    }
}
