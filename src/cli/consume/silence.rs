//! What to make of brokers that send nothing: there may be nothing to send, or they may be gone.

use std::time::Duration;

use crate::cli::remote::{self, RemoteError, tell};
use crate::client::time::Instant;
use crate::client::{Admin, ClientError};
use crate::model::TopicName;

/// Nothing for so long, and a broker is asked; and again after the same time.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// Asks, while no records come, whether any can: a topic that was deleted has none any more, and a consumer by itself tells
/// nobody that it finds no broker.
pub(super) struct Silence {
    admin: Admin,
    topic: TopicName,
    /// How long brokers may be away; `None`: for ever.
    patience: Option<Duration>,
    /// Of the last record, or the last look.
    since: Instant,
    away_since: Option<Instant>,
}

impl Silence {
    pub fn new(admin: Admin, topic: &str, patience: Option<Duration>) -> Silence {
        Silence { admin, topic: topic.into(), patience, since: Instant::now(), away_since: None }
    }

    /// Records came.
    pub fn ends(&mut self) {
        (self.since, self.away_since) = (Instant::now(), None);
    }

    /// Nothing came. Errors: nothing will.
    pub async fn goes_on(&mut self) -> Result<(), RemoteError> {
        if self.since.elapsed() < LOOK_AFTER {
            return Ok(());
        }
        let found = self.look().await;
        self.since = Instant::now();
        let Err(error) = found else {
            self.away_since = None;
            return Ok(());
        };
        match error {
            RemoteError::Client(error) if error.is_retriable() => self.note_away(error),
            error => Err(error),
        }
    }

    async fn look(&self) -> Result<(), RemoteError> {
        // Once, without further tries: those are ours to make.
        let image = self.admin.cluster().describe(Some(std::slice::from_ref(&self.topic))).await?;
        if image.topic(&self.topic).is_none() {
            remote::topic(&self.admin, &self.topic).await?;
        }
        Ok(())
    }

    fn note_away(&mut self, error: ClientError) -> Result<(), RemoteError> {
        let now = Instant::now();
        let since = *self.away_since.get_or_insert_with(|| {
            tell(format_args!("waiting: {}", RemoteError::Client(error.clone())));
            now
        });
        match self.patience {
            Some(patience) if now - since >= patience => Err(error.into()),
            _ => Ok(()),
        }
    }
}
