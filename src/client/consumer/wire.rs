//! What members of a group tell each other through its coordinator, which does not look inside.
//!
//! ```text
//! Subscription  i16 version; topics [string]; user data bytes?;
//!               from 1: owned partitions [{topic string, partitions [i32]}]; from 2: generation i32; from 3: rack string?
//! Assignment    i16 version; partitions [{topic string, partitions [i32]}]; user data bytes?
//! Sticky        user data of the sticky assignor: previous partitions [{topic string, partitions [i32]}]; generation i32
//! Cooperative   user data of the cooperative sticky assignor: generation i32
//! ```
//! Strings have an i16 length, bytes and arrays an i32 length, -1 where null. A newer version only adds at the end, so
//! what is behind the known fields is passed over. Source: Apache Kafka, `ConsumerProtocolSubscription`,
//! `ConsumerProtocolAssignment`, `StickyAssignor`, `CooperativeStickyAssignor`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::model::{TopicName, TopicPartition};

/// The newest version of subscription and assignment that we write.
const VERSION: i16 = 3;

/// Says that a member has no generation.
pub(crate) const NO_GENERATION: i32 = -1;

/// What a member wants and has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subscription {
    pub topics: BTreeSet<TopicName>,
    /// The assignor's own.
    pub user_data: Option<Vec<u8>>,
    pub owned: Vec<TopicPartition>,
    /// In which `owned` was assigned; `None` in versions that do not tell.
    pub generation: Option<i32>,
    pub rack: Option<Arc<str>>,
}

/// What a member gets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assignment {
    pub partitions: Vec<TopicPartition>,
    pub user_data: Option<Vec<u8>>,
}

/// Bytes of another member that are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireError {
    Truncated,
    NotUtf8,
    /// A length that cannot be, or a null where none may be.
    Length(i32),
    Version(i16),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Truncated => f.write_str("a member's data ends inside a field"),
            WireError::NotUtf8 => f.write_str("a member's data has a name that is not UTF-8"),
            WireError::Length(length) => write!(f, "a member's data has the length {length}"),
            WireError::Version(version) => write!(f, "a member's data has the version {version}"),
        }
    }
}

impl std::error::Error for WireError {}

impl Subscription {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_i16(&mut out, VERSION);
        put_count(&mut out, self.topics.len());
        self.topics.iter().for_each(|topic| put_string(&mut out, topic));
        put_bytes(&mut out, self.user_data.as_deref());
        put_partitions(&mut out, &self.owned);
        put_i32(&mut out, self.generation.unwrap_or(NO_GENERATION));
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => put_i16(&mut out, -1),
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Subscription, WireError> {
        let mut cursor = Cursor(bytes);
        let version = cursor.version()?;
        let topics = (0..cursor.count()?).map(|_| cursor.string()).collect::<Result<_, _>>()?;
        let mut subscription = Subscription {
            topics,
            user_data: cursor.bytes()?.map(<[u8]>::to_vec),
            ..Subscription::default()
        };
        if version >= 1 {
            subscription.owned = cursor.partitions()?;
        }
        if version >= 2 {
            subscription.generation = Some(cursor.i32()?);
        }
        if version >= 3 {
            subscription.rack = cursor.nullable_string()?;
        }
        Ok(subscription)
    }
}

impl Assignment {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_i16(&mut out, VERSION);
        put_partitions(&mut out, &self.partitions);
        put_bytes(&mut out, self.user_data.as_deref());
        out
    }

    /// Nothing at all is an assignment of nothing: a coordinator sends that to members that their leader passed over.
    pub fn decode(bytes: &[u8]) -> Result<Assignment, WireError> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let mut cursor = Cursor(bytes);
        cursor.version()?;
        let partitions = cursor.partitions()?;
        Ok(Assignment { partitions, user_data: cursor.bytes()?.map(<[u8]>::to_vec) })
    }
}

/// The sticky assignor's user data.
pub(super) fn encode_sticky(previous: &[TopicPartition], generation: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put_partitions(&mut out, previous);
    put_i32(&mut out, generation);
    out
}

/// The sticky assignor's user data, also of its first version, which has no generation.
pub(super) fn decode_sticky(bytes: &[u8]) -> Result<(Vec<TopicPartition>, i32), WireError> {
    let mut cursor = Cursor(bytes);
    let previous = cursor.partitions()?;
    let generation = if cursor.0.is_empty() { NO_GENERATION } else { cursor.i32()? };
    Ok((previous, generation))
}

/// The cooperative sticky assignor's user data.
pub(super) fn encode_cooperative(generation: i32) -> Vec<u8> {
    generation.to_be_bytes().to_vec()
}

pub(super) fn decode_cooperative(bytes: &[u8]) -> Result<i32, WireError> {
    Cursor(bytes).i32()
}

/// The bytes not read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> Result<i16, WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(i16::from_be_bytes(*taken))
    }

    fn i32(&mut self) -> Result<i32, WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*taken))
    }

    fn version(&mut self) -> Result<i16, WireError> {
        match self.i16()? {
            version if version < 0 => Err(WireError::Version(version)),
            version => Ok(version),
        }
    }

    /// Null counts as none, as in Java's reader. Every element takes at least two bytes, so a false count ends soon.
    fn count(&mut self) -> Result<i32, WireError> {
        match self.i32()? {
            -1 => Ok(0),
            count if count < 0 => Err(WireError::Length(count)),
            count => Ok(count),
        }
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, WireError> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| WireError::Length(length.into()))?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| WireError::NotUtf8)?;
        Ok(Some(text.into()))
    }

    fn string(&mut self) -> Result<Arc<str>, WireError> {
        self.nullable_string()?.ok_or(WireError::Length(-1))
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| WireError::Length(length))?;
                self.take(length).map(Some)
            }
        }
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, WireError> {
        let mut partitions = Vec::new();
        for _ in 0..self.count()? {
            let topic = self.string()?;
            for _ in 0..self.count()? {
                partitions.push(TopicPartition::new(topic.clone(), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_i32(out, i32::try_from(count).expect("a group has fewer than 2^31 of anything"));
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_i16(out, i16::try_from(text.len()).expect("names of topics and racks are far below 32 KiB"));
    out.extend_from_slice(text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_count(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    put_count(out, topics.len());
    for (topic, partitions) in topics {
        put_string(out, topic);
        put_count(out, partitions.len());
        partitions.into_iter().for_each(|partition| put_i32(out, partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(topic: &str, indexes: &[i32]) -> Vec<TopicPartition> {
        indexes.iter().map(|index| TopicPartition::new(topic, *index)).collect()
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: [TopicName::from("a"), TopicName::from("b")].into(),
            user_data: Some(vec![7, 8]),
            owned: partitions("a", &[0, 2]),
            generation: Some(5),
            rack: Some("r".into()),
        }
    }

    #[test]
    fn layouts_are_javas() {
        #[rustfmt::skip]
        let expected = [
            0, 3, // version
            0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b', // topics
            0, 0, 0, 2, 7, 8, // user data
            0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, // owned
            0, 0, 0, 5, // generation
            0, 1, b'r', // rack
        ];
        assert_eq!(subscription().encode(), expected);
        #[rustfmt::skip]
        let expected = [
            0, 3,
            0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 9,
            255, 255, 255, 255,
        ];
        let assignment = Assignment { partitions: partitions("t", &[9]), user_data: None };
        assert_eq!(assignment.encode(), expected);
        let sticky = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 4];
        assert_eq!(encode_sticky(&partitions("t", &[9]), 4), sticky);
        assert_eq!(decode_sticky(&sticky), Ok((partitions("t", &[9]), 4)));
        assert_eq!(decode_sticky(&sticky[..15]), Ok((partitions("t", &[9]), NO_GENERATION)));
        assert_eq!(encode_cooperative(4), [0, 0, 0, 4]);
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let encoded = subscription().encode();
        assert_eq!(Subscription::decode(&encoded), Ok(subscription()));
        let mut newer = encoded.clone();
        newer[1] = 9;
        newer.extend([1, 2, 3]);
        assert_eq!(Subscription::decode(&newer), Ok(subscription()));
        let with_version = |version: u8, length: usize| {
            let mut bytes = encoded[..length].to_vec();
            bytes[1] = version;
            Subscription::decode(&bytes)
        };
        let first = Subscription { owned: Vec::new(), generation: None, rack: None, ..subscription() };
        assert_eq!(with_version(0, 18), Ok(first));
        assert_eq!(with_version(1, 37), Ok(Subscription { generation: None, rack: None, ..subscription() }));
        assert_eq!(with_version(2, 41), Ok(Subscription { rack: None, ..subscription() }));
    }

    #[test]
    fn what_is_cut_or_false_is_an_error_and_no_memory() {
        let encoded = subscription().encode();
        for end in 0..encoded.len() {
            assert!(Subscription::decode(&encoded[..end]).is_err(), "{end}");
        }
        assert_eq!(Subscription::decode(&[0, 0, 127, 255, 255, 255]), Err(WireError::Truncated));
        assert_eq!(Subscription::decode(&[0, 0, 255, 255, 255, 254]), Err(WireError::Length(-2)));
        assert_eq!(Assignment::decode(&[255, 255, 0, 0]), Err(WireError::Version(-1)));
        assert_eq!(Assignment::decode(&[]), Ok(Assignment::default()));
    }
}
