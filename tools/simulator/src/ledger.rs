//! What was promised: values by partition and offset, acknowledged or read.

use std::collections::BTreeMap;

/// A record's content: who sent it, to which partition, as the how-manieth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Value {
    pub producer: u32,
    pub partition: i32,
    pub number: u64,
}

impl Value {
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.producer.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.partition.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Value> {
        let bytes: &[u8; 16] = bytes.get(..16)?.try_into().ok()?;
        Some(Value {
            producer: u32::from_be_bytes(bytes[..4].try_into().ok()?),
            partition: i32::from_be_bytes(bytes[4..8].try_into().ok()?),
            number: u64::from_be_bytes(bytes[8..].try_into().ok()?),
        })
    }
}

/// All that clients were told, and what is wrong with it.
#[derive(Default)]
pub struct Ledger {
    /// (partition, offset) -> value, from acknowledgements and reads alike.
    told: BTreeMap<(i32, i64), Value>,
    pub acknowledged: u64,
    pub read: u64,
    /// Records below were asked to be deleted.
    deleted: BTreeMap<i32, i64>,
    pub violations: Vec<String>,
}

impl Ledger {
    pub fn acknowledge(&mut self, offset: i64, value: Value) {
        self.acknowledged += 1;
        self.note("acknowledged", value.partition, offset, value);
    }

    pub fn read(&mut self, partition: i32, offset: i64, value: Value) {
        self.read += 1;
        self.note("read", partition, offset, value);
    }

    /// The end of what clients know of a partition.
    pub fn told_end(&self, partition: i32) -> i64 {
        let mut told = self.told.range((partition, 0)..(partition + 1, 0));
        told.next_back().map_or(0, |(key, _)| key.1 + 1)
    }

    pub fn delete_below(&mut self, partition: i32, offset: i64) {
        let deleted = self.deleted.entry(partition).or_default();
        *deleted = offset.max(*deleted);
    }

    /// Below it records may be gone, by request.
    pub fn deleted_below(&self, partition: i32) -> i64 {
        self.deleted.get(&partition).copied().unwrap_or(0)
    }

    fn note(&mut self, how: &str, partition: i32, offset: i64, value: Value) {
        if value.partition != partition {
            self.violations.push(format!("{how} in partition {partition}: {value:?} belongs elsewhere"));
        }
        if let Some(before) = self.told.insert((partition, offset), value)
            && before != value
        {
            self.violations.push(format!("{how} at {partition}/{offset}: {value:?}, and {before:?} before"));
        }
    }

    /// Compares the whole of a partition with what was told.
    pub fn compare(&mut self, partition: i32, log: &[(i64, Value)], idempotent: impl Fn(u32) -> bool) {
        let by_offset: BTreeMap<i64, Value> = log.iter().copied().collect();
        for (offset, value) in
            self.told.range((partition, 0)..(partition + 1, 0)).map(|(key, value)| (key.1, *value))
        {
            match by_offset.get(&offset) {
                Some(found) if *found == value => {}
                Some(found) => {
                    self.violations.push(format!("{partition}/{offset} was {value:?} and is {found:?}"));
                }
                None if offset < self.deleted.get(&partition).copied().unwrap_or(0) => {}
                None => self.violations.push(format!("{partition}/{offset} is lost: {value:?}")),
            }
        }
        for pair in log.windows(2) {
            if pair[1].0 != pair[0].0 + 1 {
                self.violations
                    .push(format!("offsets of {partition} jump from {} to {}", pair[0].0, pair[1].0));
            }
        }
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (offset, value) in log {
            if let Some(before) = last.insert(value.producer, value.number) {
                let repeated = value.number <= before;
                if repeated && idempotent(value.producer) {
                    self.violations
                        .push(format!("{partition}/{offset}: {value:?} comes after number {before}"));
                }
                if value.number < before && !idempotent(value.producer) {
                    self.violations
                        .push(format!("{partition}/{offset}: {value:?} is out of order after {before}"));
                }
            }
        }
    }
}
