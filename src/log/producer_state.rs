//! What a partition knows of idempotent producers: the last five batches of each, so that a retry is recognised.
//!
//! ```text
//! snapshot  i16 version (1), u32 CRC-32C of all that follows, i32 count, then per producer 46 bytes:
//!           i64 producer id, i16 epoch, i32 last sequence, i64 last offset, i32 offset delta, i64 timestamp,
//!           i32 coordinator epoch, i64 first offset of the open transaction (-1 none)
//! ```
//! Only the last batch of each producer is in the snapshot; recovery reads older ones back from the log's tail.
//! Source: Apache Kafka `ProducerSnapshot.json`, `ProducerStateManager`, `ProducerAppendInfo`.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::record::{BatchView, crc32c};

use super::error::ProducerError;

/// Batches remembered per producer. Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: clients keep at most five
/// requests in flight, so a retry can be of any of the last five.
/// Planted bug 18, which the tests must catch: one batch only.
pub const BATCHES_REMEMBERED: usize = if cfg!(corelog_planted = "18") { 1 } else { 5 };

const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;
const NO_SEQUENCE: i32 = -1;
const NO_COORDINATOR_EPOCH: i32 = -1;

const _: () = assert!(SNAPSHOT_ENTRY_BYTES == 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8);

/// One remembered batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RememberedBatch {
    pub last_sequence: i32,
    pub last_offset: Offset,
    pub offset_delta: i32,
    pub timestamp: Timestamp,
}

/// One producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerEntry {
    pub epoch: ProducerEpoch,
    /// Oldest first, at most five, all of `epoch`.
    batches: VecDeque<RememberedBatch>,
    /// Of the last batch.
    pub last_timestamp: Timestamp,
    /// When the broker last heard of the producer, which is forgotten `producer.id.expiration.ms` later. Not the batch's own
    /// timestamp: a replay of old records would lose its producer between a batch and its retry.
    last_seen: Timestamp,
    pub coordinator_epoch: i32,
    pub open_transaction_start: Option<Offset>,
}

/// How a producer's batch stands to what is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// It follows: append it.
    Next,
    /// It was appended before, as this.
    Duplicate(RememberedBatch),
}

/// All producers of one log. Ids come from peers, hence the ordered map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerState {
    producers: BTreeMap<ProducerId, ProducerEntry>,
}

/// Why a snapshot file is not used; the state is rebuilt from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidSnapshot {
    Version(i16),
    Crc { stored: u32, computed: u32 },
    Length(usize),
}

impl RememberedBatch {
    fn of(batch: &BatchView<'_>) -> RememberedBatch {
        RememberedBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta(),
            timestamp: batch.max_timestamp(),
        }
    }

    pub fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    pub fn base_sequence(&self) -> i32 {
        // Sequences wrap from 2^31-1 to 0, so counting back from 0 gives 2^31-1.
        ((i64::from(self.last_sequence) - i64::from(self.offset_delta)) & i64::from(i32::MAX)) as i32
    }
}

impl ProducerEntry {
    pub fn last_batch(&self) -> Option<&RememberedBatch> {
        self.batches.back()
    }

    pub fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(NO_SEQUENCE, |b| b.last_sequence)
    }

    fn remember(&mut self, batch: RememberedBatch) {
        if self.batches.len() == BATCHES_REMEMBERED {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }
}

impl ProducerState {
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(id, entry)| (*id, entry))
    }

    /// Judges a batch before it is appended. Batches of no producer are always next.
    pub fn check(&self, batch: &BatchView<'_>) -> Result<Sequence, ProducerError> {
        let Some(stamp) = batch.producer() else { return Ok(Sequence::Next) };
        // Unknown (new, expired, or its records deleted): any first sequence will do.
        let Some(entry) = self.producers.get(&stamp.id) else { return Ok(Sequence::Next) };
        if stamp.epoch < entry.epoch {
            return Err(ProducerError::OldEpoch { id: stamp.id, epoch: stamp.epoch, current: entry.epoch });
        }
        let last_sequence = if stamp.epoch == entry.epoch { entry.last_sequence() } else { NO_SEQUENCE };
        if stamp.epoch == entry.epoch {
            let (base, last) = (stamp.base_sequence, batch.last_sequence());
            if let Some(known) =
                entry.batches.iter().find(|b| b.base_sequence() == base && b.last_sequence == last)
            {
                return Ok(Sequence::Duplicate(*known));
            }
        }
        // A new epoch starts at 0, which is also what follows "no sequence" (-1) and the largest sequence.
        let next = if last_sequence == i32::MAX { 0 } else { last_sequence + 1 };
        if stamp.base_sequence == next {
            Ok(Sequence::Next)
        } else {
            Err(ProducerError::OutOfOrderSequence {
                id: stamp.id,
                last_sequence,
                base_sequence: stamp.base_sequence,
            })
        }
    }

    /// Remembers a batch of the log that is replayed; it is not judged again.
    pub fn replay(&mut self, batch: &BatchView<'_>) {
        self.update(batch, batch.max_timestamp());
    }

    /// Remembers a batch that has just been appended, with its final offsets.
    pub fn update(&mut self, batch: &BatchView<'_>, now: Timestamp) {
        let Some(stamp) = batch.producer() else { return };
        let remembered = RememberedBatch::of(batch);
        let entry = self.producers.entry(stamp.id).or_insert_with(|| ProducerEntry {
            epoch: stamp.epoch,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
            last_timestamp: remembered.timestamp,
            last_seen: now,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            open_transaction_start: None,
        });
        if entry.epoch != stamp.epoch {
            entry.epoch = stamp.epoch;
            entry.batches.clear();
        }
        entry.last_timestamp = remembered.timestamp;
        entry.last_seen = now;
        // A control batch moves the epoch and has no sequence.
        if !batch.attributes().is_control() {
            entry.remember(remembered);
        }
    }

    /// Forgets producers that have been silent for `expiration_ms` and have no transaction open.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, entry| {
            entry.open_transaction_start.is_some() || now.saturating_sub(entry.last_seen) < expiration_ms
        });
    }

    /// Fills in older batches that a snapshot does not carry, from `window`, a replay of the log's tail.
    pub fn complete_from(&mut self, window: &ProducerState) {
        for (id, entry) in &mut self.producers {
            let Some(seen) = window.producers.get(id) else { continue };
            let same_tail = seen.epoch == entry.epoch && seen.batches.back() == entry.batches.back();
            if same_tail && seen.batches.len() > entry.batches.len() {
                entry.batches.clone_from(&seen.batches);
            }
        }
    }

    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(SNAPSHOT_HEADER_BYTES + self.producers.len() * SNAPSHOT_ENTRY_BYTES);
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let count = i32::try_from(self.producers.len()).expect("producers expire long before 2^31");
        bytes.extend_from_slice(&count.to_be_bytes());
        for (id, entry) in &self.producers {
            let none = RememberedBatch {
                last_sequence: NO_SEQUENCE,
                last_offset: -1,
                offset_delta: 0,
                timestamp: entry.last_timestamp,
            };
            let last = entry.last_batch().unwrap_or(&none);
            bytes.extend_from_slice(&id.0.to_be_bytes());
            bytes.extend_from_slice(&entry.epoch.0.to_be_bytes());
            bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&last.last_offset.to_be_bytes());
            bytes.extend_from_slice(&last.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&entry.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&entry.open_transaction_start.unwrap_or(-1).to_be_bytes());
        }
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub fn decode_snapshot(bytes: &[u8]) -> Result<ProducerState, InvalidSnapshot> {
        if bytes.len() < SNAPSHOT_HEADER_BYTES {
            return Err(InvalidSnapshot::Length(bytes.len()));
        }
        let mut fields = Fields { rest: bytes };
        let version = i16::from_be_bytes(fields.take());
        if version != SNAPSHOT_VERSION {
            return Err(InvalidSnapshot::Version(version));
        }
        let (stored, computed) = (u32::from_be_bytes(fields.take()), crc32c(&bytes[6..]));
        if stored != computed {
            return Err(InvalidSnapshot::Crc { stored, computed });
        }
        let count = i32::from_be_bytes(fields.take());
        if usize::try_from(count).ok().and_then(|c| c.checked_mul(SNAPSHOT_ENTRY_BYTES))
            != Some(fields.rest.len())
        {
            return Err(InvalidSnapshot::Length(bytes.len()));
        }
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let id = ProducerId(i64::from_be_bytes(fields.take()));
            let epoch = ProducerEpoch(i16::from_be_bytes(fields.take()));
            let last_sequence = i32::from_be_bytes(fields.take());
            let last_offset = i64::from_be_bytes(fields.take());
            let offset_delta = i32::from_be_bytes(fields.take());
            let timestamp = i64::from_be_bytes(fields.take());
            let coordinator_epoch = i32::from_be_bytes(fields.take());
            let transaction_start = i64::from_be_bytes(fields.take());
            let mut batches = VecDeque::with_capacity(BATCHES_REMEMBERED);
            if last_offset >= 0 {
                batches.push_back(RememberedBatch { last_sequence, last_offset, offset_delta, timestamp });
            }
            let open_transaction_start = (transaction_start >= 0).then_some(transaction_start);
            let entry = ProducerEntry {
                epoch,
                batches,
                last_timestamp: timestamp,
                last_seen: timestamp,
                coordinator_epoch,
                open_transaction_start,
            };
            producers.insert(id, entry);
        }
        Ok(ProducerState { producers })
    }
}

/// Takes fixed-size fields from the front; the caller has checked the length.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) =
            self.rest.split_first_chunk::<N>().expect("the length was checked against the count");
        self.rest = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;
    use crate::record::{BatchBuilder, ProducerStamp};
    use bytes::Bytes;

    fn batch(epoch: i16, base_sequence: i32, count: usize, base_offset: Offset) -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.producer(ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(epoch), base_sequence });
        for _ in 0..count {
            builder.push(1_000 + base_offset, None, Some(b"v"));
        }
        builder.finish(base_offset, LeaderEpoch(0))
    }

    fn append(state: &mut ProducerState, bytes: &Bytes) -> Result<Sequence, ProducerError> {
        let view = BatchView::parse(bytes).unwrap();
        let sequence = state.check(&view)?;
        if sequence == Sequence::Next {
            state.update(&view, 1_010);
        }
        Ok(sequence)
    }

    fn five_batches() -> ProducerState {
        let mut state = ProducerState::default();
        for i in 0..6 {
            assert_eq!(append(&mut state, &batch(1, i * 2, 2, i64::from(i) * 2)), Ok(Sequence::Next));
        }
        state
    }

    #[test]
    fn sequences_are_judged_as_kafka_does() {
        let check = |epoch, base_sequence, count, expected: Result<Option<Offset>, &str>| {
            let found = append(&mut five_batches(), &batch(epoch, base_sequence, count, 12));
            let found = match found {
                Ok(Sequence::Next) => Ok(None),
                Ok(Sequence::Duplicate(known)) => Ok(Some(known.base_offset())),
                Err(ProducerError::OldEpoch { .. }) => Err("old epoch"),
                Err(ProducerError::OutOfOrderSequence { .. }) => Err("out of order"),
            };
            assert_eq!(found, expected, "epoch {epoch} sequence {base_sequence} count {count}");
        };
        check(1, 12, 2, Ok(None));
        check(1, 13, 2, Err("out of order"));
        check(1, 10, 2, Ok(Some(10)));
        check(1, 2, 2, Ok(Some(2)));
        check(1, 0, 2, Err("out of order"));
        check(1, 10, 1, Err("out of order"));
        check(0, 12, 2, Err("old epoch"));
        check(2, 0, 2, Ok(None));
        check(2, 12, 2, Err("out of order"));
    }

    #[test]
    fn sequences_wrap_and_the_wrapped_batch_is_recognised() {
        let mut state = ProducerState::default();
        let wrapping = batch(0, i32::MAX - 1, 3, 0);
        assert_eq!(
            append(&mut state, &wrapping),
            Ok(Sequence::Next),
            "an unknown producer may start anywhere"
        );
        assert_eq!(state.get(ProducerId(9)).unwrap().last_sequence(), 0);
        assert!(matches!(append(&mut state, &wrapping), Ok(Sequence::Duplicate(_))));
        assert_eq!(append(&mut state, &batch(0, 1, 1, 3)), Ok(Sequence::Next));
        let mut state = ProducerState::default();
        append(&mut state, &batch(0, i32::MAX, 1, 0)).unwrap();
        assert_eq!(append(&mut state, &batch(0, 0, 1, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut state = five_batches();
        state.expire(1_010 + 99, 100);
        assert_eq!(state.len(), 1);
        state.expire(1_010 + 100, 100);
        assert!(state.is_empty());
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_and_the_tail_the_others() {
        let state = five_batches();
        let mut loaded = ProducerState::decode_snapshot(&state.encode_snapshot()).unwrap();
        assert!(append(&mut loaded.clone(), &batch(1, 8, 2, 12)).is_err(), "the snapshot has one batch only");
        loaded.complete_from(&state);
        assert_eq!(loaded, state);
        assert_eq!(append(&mut loaded, &batch(1, 8, 2, 12)).map(|s| s != Sequence::Next), Ok(true));
    }

    #[test]
    fn broken_snapshots_are_named() {
        let good = five_batches().encode_snapshot();
        assert_eq!(good.len(), 10 + 46);
        assert_eq!(ProducerState::decode_snapshot(&good[..9]), Err(InvalidSnapshot::Length(9)));
        let mut bytes = good.clone();
        bytes[1] = 2;
        assert_eq!(ProducerState::decode_snapshot(&bytes), Err(InvalidSnapshot::Version(2)));
        let mut bytes = good.clone();
        bytes[20] ^= 1;
        assert!(matches!(ProducerState::decode_snapshot(&bytes), Err(InvalidSnapshot::Crc { .. })));
        let mut bytes = good.clone();
        bytes.truncate(50);
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(ProducerState::decode_snapshot(&bytes), Err(InvalidSnapshot::Length(50)));
    }
}
