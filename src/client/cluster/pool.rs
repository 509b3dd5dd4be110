//! Connections to brokers: one for each and each kind of use, made when needed, made again after they ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::backoff::Backoff;
use crate::client::connection::{Connection, Connector};
use crate::client::error::ClientError;
use crate::client::random::Random;
use crate::client::time::Instant;
use crate::config::Address;

/// Requests that brokers may answer late must not hold back others, since answers come in order: each lane is a
/// connection of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// What is answered soon: produce, metadata, administration.
    Main,
    /// Group membership, whose joins wait for other members.
    Coordinator,
    /// Fetches, which wait for records.
    Fetch,
}

/// The connections of a client, by address and lane.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    backoff: Backoff,
    random: Random,
    slots: Mutex<BTreeMap<(String, u16, Lane), Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Held while a connection is made, so that all who want one wait for the same.
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Connection>,
    /// In a row.
    failures: u32,
    /// Not before this moment again.
    not_before: Option<Instant>,
}

impl Pool {
    pub fn new(connector: Connector, backoff: Backoff) -> Pool {
        Pool { connector, backoff, random: Random::new(), slots: Mutex::default() }
    }

    /// The open connection, or a new one. After a failure the next try waits its backoff.
    pub async fn connection(&self, address: &Address, lane: Lane) -> Result<Connection, ClientError> {
        let slot = self.slot(address, lane);
        let mut state = slot.state.lock().await;
        if let Some(connection) = state.open() {
            return Ok(connection);
        }
        // One that ended is made again at once the first time: brokers close idle ones.
        if let Some(moment) = state.not_before.take() {
            tokio::time::sleep_until(moment).await;
        }
        match self.connector.open(address, state.failures).await {
            Ok(connection) => {
                tracing::debug!(broker = %address, ?lane, "connected");
                *state = SlotState { connection: Some(connection.clone()), failures: 0, not_before: None };
                Ok(connection)
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let wait = self.backoff.wait(state.failures, &self.random);
                state.not_before = Some(Instant::now() + wait);
                tracing::debug!(broker = %address, failures = state.failures, %error, "cannot connect");
                Err(error)
            }
        }
    }

    /// The connection if it is open.
    pub fn open_connection(&self, address: &Address, lane: Lane) -> Option<Connection> {
        self.slot(address, lane).state.try_lock().ok()?.open()
    }

    /// Whether the last try to reach the address failed and the next has to wait.
    pub fn is_in_backoff(&self, address: &Address, lane: Lane) -> bool {
        let slot = self.slot(address, lane);
        // Somebody is connecting: not known to be bad.
        let Ok(state) = slot.state.try_lock() else { return false };
        state.not_before.is_some_and(|moment| moment > Instant::now())
    }

    /// Closes connections that nothing was asked over for `idle_max`, and forgets slots that hold none.
    pub fn sweep(&self, idle_max: Option<Duration>) {
        self.locked().retain(|_, slot| {
            let Ok(mut state) = slot.state.try_lock() else { return true };
            let is_idle = |connection: &Connection| idle_max.is_some_and(|max| connection.idle() >= max);
            if state.connection.as_ref().is_some_and(|open| open.is_closed() || is_idle(open)) {
                state.connection = None;
            }
            state.connection.is_some() || state.not_before.is_some_and(|moment| moment > Instant::now())
        });
    }

    fn slot(&self, address: &Address, lane: Lane) -> Arc<Slot> {
        Arc::clone(self.locked().entry((address.host.clone(), address.port, lane)).or_default())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, u16, Lane), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotState {
    fn open(&self) -> Option<Connection> {
        self.connection.as_ref().filter(|connection| !connection.is_closed()).cloned()
    }
}
