//! One assigned partition: where the application is, where fetching is, and what lies between.

use std::collections::VecDeque;

use crate::client::cluster::Partition;
use crate::client::error::{Abortable, ClientError};
use crate::client::offsets::{FoundOffset, OffsetSpec};
use crate::client::time::Instant;
use crate::model::{NodeId, Offset, TopicPartition};

use super::chunk::{Chunk, Position};

/// What has to be known before a partition can be fetched.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Where the group is, if there is one; else where `auto.offset.reset` says.
    Unknown,
    /// An offset by name or time.
    Resetting(OffsetSpec),
    /// Whether the log that the position is about is the one that the leader has (KIP-320).
    Validating,
    Fetching,
    /// Told by every `poll` until somebody seeks.
    Failed(ClientError),
}

#[derive(Debug)]
pub(super) struct PartitionState {
    /// Changes whenever what was asked before has become meaningless: answers bring it back and are held against it.
    pub version: u64,
    pub phase: Phase,
    pub is_paused: bool,
    /// What the application gets next.
    pub position: Position,
    /// What is fetched next: behind the chunks.
    pub fetch_from: Position,
    pub chunks: VecDeque<Chunk>,
    /// The leader's epoch against which `fetch_from` was found valid.
    pub validated_epoch: i32,
    pub high_watermark: Option<Offset>,
    pub last_stable: Option<Offset>,
    pub log_start: Option<Offset>,
    /// A replica near us that the leader named (KIP-392), and until when it counts.
    pub replica: Option<(NodeId, Instant)>,
    /// Something about it is being asked: its offset, or its validity.
    pub is_asking: bool,
    /// A fetch for it is under way.
    pub is_fetching: bool,
    pub failures: u32,
    pub not_before: Option<Instant>,
}

/// What became of a position that was held against the leader's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Validity {
    Valid,
    /// The log is another from this offset on.
    Diverged(Offset),
    /// Nothing of our log is left.
    Unknown,
}

/// Judges the leader's answer to where our epoch ends. Source: KIP-320; Apache Kafka,
/// `SubscriptionState.maybeCompleteValidation`.
pub(super) fn validity(position: Position, end_epoch: i32, end_offset: Offset) -> Validity {
    if end_epoch < 0 || end_offset < 0 {
        return Validity::Unknown;
    }
    if end_offset < position.offset { Validity::Diverged(end_offset) } else { Validity::Valid }
}

impl PartitionState {
    pub fn new(version: u64) -> PartitionState {
        PartitionState {
            version,
            phase: Phase::Unknown,
            is_paused: false,
            position: Position::at(0),
            fetch_from: Position::at(0),
            chunks: VecDeque::new(),
            validated_epoch: -1,
            high_watermark: None,
            last_stable: None,
            log_start: None,
            replica: None,
            is_asking: false,
            is_fetching: false,
            failures: 0,
            not_before: None,
        }
    }

    /// The position, if it is known.
    pub fn known_position(&self) -> Option<Position> {
        matches!(self.phase, Phase::Validating | Phase::Fetching).then_some(self.position)
    }

    pub fn buffered_bytes(&self) -> usize {
        self.chunks.iter().map(Chunk::size_bytes).sum()
    }

    /// Goes on at `position`; what was fetched or asked before does not count any more.
    pub fn seek(&mut self, version: u64, position: Position) {
        self.restart(version, Phase::Fetching);
        (self.position, self.fetch_from) = (position, position);
    }

    /// Goes on where `spec` will be found to be.
    pub fn seek_to(&mut self, version: u64, spec: OffsetSpec) {
        self.restart(version, Phase::Resetting(spec));
    }

    fn restart(&mut self, version: u64, phase: Phase) {
        self.version = version;
        self.phase = phase;
        self.chunks.clear();
        self.validated_epoch = -1;
        (self.is_asking, self.is_fetching) = (false, false);
        (self.failures, self.not_before) = (0, None);
    }

    /// The offset that was asked for was found.
    pub fn found(&mut self, version: u64, found: FoundOffset) {
        let epoch = Some(found.leader_epoch).filter(|epoch| *epoch >= 0);
        self.seek(version, Position { offset: found.offset, epoch });
    }

    pub fn fail(&mut self, version: u64, error: ClientError) {
        self.restart(version, Phase::Failed(error));
    }

    /// Nothing more is asked about the partition before that moment.
    pub fn back_off(&mut self, until: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(until);
    }

    /// A leader of a newer epoch: what it has must be compared with what we have read, before anything is fetched of it.
    /// A position without an epoch, such as one that was sought, cannot be compared.
    pub fn notice_leader(&mut self, leader: &Partition) {
        if !matches!(self.phase, Phase::Fetching) || leader.leader_epoch <= self.validated_epoch {
            return;
        }
        if self.fetch_from.epoch.is_some() {
            self.phase = Phase::Validating;
        } else {
            self.validated_epoch = leader.leader_epoch;
        }
    }

    /// The leader of `leader_epoch` told where our log and its own part. `reset`: what `auto.offset.reset` says.
    pub fn validated(
        &mut self,
        version: u64,
        partition: &TopicPartition,
        leader_epoch: i32,
        validity: Validity,
        reset: Option<OffsetSpec>,
    ) {
        let offset = self.fetch_from.offset;
        let error = |diverging| -> ClientError {
            let TopicPartition { topic, partition } = partition.clone();
            Abortable::Truncated { topic, partition, offset, diverging }.into()
        };
        match (validity, reset) {
            (Validity::Valid, _) => {
                self.phase = Phase::Fetching;
                self.validated_epoch = leader_epoch;
            }
            // What the application has not seen yet is fetched anew, and nobody is the wiser.
            (Validity::Diverged(end), _) if self.position.offset <= end => {
                let position = self.position;
                self.seek(version, position);
                self.validated_epoch = leader_epoch;
            }
            (Validity::Diverged(end), Some(_)) => {
                tracing::warn!(%partition, offset, diverging = end, "records that were read are not in the log any more");
                self.seek(version, Position::at(end));
                self.validated_epoch = leader_epoch;
            }
            (Validity::Unknown, Some(spec)) => {
                tracing::warn!(%partition, offset, "the log that was read is not there any more");
                self.seek_to(version, spec);
            }
            (Validity::Diverged(end), None) => self.fail(version, error(Some(end))),
            (Validity::Unknown, None) => self.fail(version, error(None)),
        }
    }

    /// Records between the position and what can be read.
    pub fn lag(&self, only_committed: bool) -> Option<i64> {
        let end = if only_committed { self.last_stable } else { self.high_watermark };
        Some((end? - self.known_position()?.offset).max(0))
    }

    /// Whether the next fetch may name it.
    pub fn is_fetchable(&self, now: Instant, bytes_max: usize) -> bool {
        matches!(self.phase, Phase::Fetching)
            && !self.is_paused
            && !self.is_fetching
            && self.not_before.is_none_or(|moment| moment <= now)
            && !self.chunks.iter().any(Chunk::is_poisoned)
            && (self.chunks.is_empty() || self.buffered_bytes() < bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIEST: Option<OffsetSpec> = Some(OffsetSpec::Earliest);

    fn at(offset: Offset, epoch: i32) -> PartitionState {
        let mut state = PartitionState::new(1);
        state.seek(1, Position { offset, epoch: Some(epoch) });
        state
    }

    fn leader(leader_epoch: i32) -> Partition {
        Partition {
            index: 0,
            leader: Some(NodeId(1)),
            leader_epoch,
            replicas: Vec::new(),
            in_sync: Vec::new(),
            offline: Vec::new(),
            error_code: 0,
        }
    }

    fn judged(position: Offset, validity: Validity, reset: Option<OffsetSpec>) -> PartitionState {
        let mut state = at(10, 3);
        state.notice_leader(&leader(4));
        assert!(matches!(state.phase, Phase::Validating));
        state.position.offset = position;
        state.validated(2, &TopicPartition::new("t", 0), 4, validity, reset);
        state
    }

    #[test]
    fn a_position_is_valid_up_to_where_its_epoch_ends() {
        let check = |offset, end_epoch, end_offset, expected| {
            assert_eq!(validity(Position { offset, epoch: Some(3) }, end_epoch, end_offset), expected);
        };
        check(10, 3, 10, Validity::Valid);
        check(10, 3, 50, Validity::Valid);
        check(10, 3, 9, Validity::Diverged(9));
        check(10, 2, 4, Validity::Diverged(4));
        check(10, -1, -1, Validity::Unknown);
    }

    #[test]
    fn only_a_newer_leader_is_asked_and_only_about_a_known_epoch() {
        let mut state = at(10, 3);
        state.validated_epoch = 4;
        state.notice_leader(&leader(4));
        assert!(matches!(state.phase, Phase::Fetching));
        state.notice_leader(&leader(5));
        assert!(matches!(state.phase, Phase::Validating));
        let mut sought = PartitionState::new(1);
        sought.seek(1, Position::at(10));
        sought.notice_leader(&leader(5));
        assert!(matches!(sought.phase, Phase::Fetching));
        assert_eq!(sought.validated_epoch, 5);
    }

    #[test]
    fn what_was_read_and_lost_is_told_or_gone_back_to() {
        let valid = judged(10, Validity::Valid, None);
        assert!(matches!(valid.phase, Phase::Fetching));
        assert_eq!((valid.position.offset, valid.validated_epoch, valid.version), (10, 4, 1));
        let unseen = judged(5, Validity::Diverged(7), None);
        assert_eq!((unseen.position.offset, unseen.fetch_from.offset, unseen.version), (5, 5, 2));
        let seen = judged(10, Validity::Diverged(7), EARLIEST);
        assert_eq!((seen.position.offset, seen.fetch_from.offset), (7, 7));
        let told = judged(10, Validity::Diverged(7), None);
        assert!(matches!(
            told.phase,
            Phase::Failed(ClientError::Abortable(Abortable::Truncated {
                diverging: Some(7),
                offset: 10,
                ..
            }))
        ));
        let gone = judged(10, Validity::Unknown, EARLIEST);
        assert!(matches!(gone.phase, Phase::Resetting(OffsetSpec::Earliest)));
        let told = judged(10, Validity::Unknown, None);
        assert!(matches!(
            told.phase,
            Phase::Failed(ClientError::Abortable(Abortable::Truncated { diverging: None, .. }))
        ));
    }

    #[test]
    fn a_seek_makes_everything_before_it_meaningless() {
        let mut state = at(10, 3);
        (state.is_fetching, state.is_asking, state.failures) = (true, true, 3);
        state.seek_to(9, OffsetSpec::Latest);
        assert_eq!((state.version, state.is_fetching, state.is_asking, state.failures), (9, false, false, 0));
        assert_eq!(state.known_position(), None);
        state.found(10, FoundOffset { offset: 44, timestamp: None, leader_epoch: 2 });
        assert_eq!(state.known_position(), Some(Position { offset: 44, epoch: Some(2) }));
    }
}
