//! What was printed of a group's partitions, which is what this member may commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::client::consumer::{CommittedOffset, Rebalance};
use crate::client::time::Instant;
use crate::client::{ClientError, Consumer, ConsumerRecord, RebalanceListener, TopicPartition};

/// Shared by who prints and by the consumer, whose listener it is: before a partition goes to another member, what was
/// printed of it is committed, so that the other one does not print it again.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Behind the last record of each partition that was printed; what is committed is taken out.
    next: BTreeMap<TopicPartition, CommittedOffset>,
    /// When this member was given its partitions, or told that it has none; `None` while the group shares anew.
    given_at: Option<Instant>,
}

impl Printed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are written out.
    pub fn note(&self, records: &[ConsumerRecord]) {
        let mut state = self.state();
        for record in records {
            let next = CommittedOffset {
                offset: record.offset + 1,
                leader_epoch: record.leader_epoch,
                metadata: String::new(),
            };
            state.next.insert(record.topic_partition(), next);
        }
    }

    /// Commits what was printed and is not committed. After an error, or if it is dropped, the next call does it.
    pub async fn commit(&self, consumer: &Consumer) -> Result<(), ClientError> {
        let offsets = self.state().next.clone();
        if offsets.is_empty() {
            return Ok(());
        }
        consumer.commit_offsets(offsets.clone()).await?;
        self.state().next.retain(|partition, next| offsets.get(partition) != Some(next));
        Ok(())
    }

    /// Whether the group gave this member its share, be it nothing, and left it at that for so long.
    pub fn is_settled_for(&self, time: Duration) -> bool {
        self.state().given_at.is_some_and(|at| at.elapsed() >= time)
    }
}

impl RebalanceListener for Printed {
    fn on_assigned(&mut self, _: &mut Rebalance) {
        self.state().given_at = Some(Instant::now());
    }

    fn on_revoked(&mut self, change: &mut Rebalance) {
        let mut state = self.state();
        state.given_at = None;
        for partition in change.partitions().to_vec() {
            if let Some(next) = state.next.remove(&partition) {
                change.commit(partition, next);
            }
        }
    }

    fn on_lost(&mut self, change: &mut Rebalance) {
        let mut state = self.state();
        state.given_at = None;
        for partition in change.partitions() {
            state.next.remove(partition);
        }
    }
}
