//! The records of `__consumer_offsets`, byte for byte as Kafka writes them, so that Kafka's tools read them.
//!
//! Both keys and values start with an `int16`: in a key it says what the record is, in a value the schema's version.
//! Strings have an `int16` length (-1: null) and bytes an `int32` one; from value version 4 on lengths are unsigned
//! varints plus one (0: null) and each structure ends in tagged fields. A null value is a tombstone.
//!
//! ```text
//! key 0, 1   OffsetCommitKey      group string, topic string, partition int32
//! value      OffsetCommitValue    offset int64, [3+] leaderEpoch int32, metadata string, commitTimestamp int64,
//!                                 [1] expireTimestamp int64, [4+, tag 0] topicId uuid
//! key 2      GroupMetadataKey     group string
//! value      GroupMetadataValue   protocolType string, generation int32, protocol string?, leader string?,
//!                                 [2+] currentStateTimestamp int64, members: int32 count of
//!                                   memberId string, [3+] groupInstanceId string?, clientId string, clientHost string,
//!                                   [1+] rebalanceTimeout int32, sessionTimeout int32, subscription bytes,
//!                                   assignment bytes
//! ```
//! Written: OffsetCommitValue 1 with an own retention, 4 with a topic id, else 3; GroupMetadataValue 3.
//! Source: Apache Kafka 4.3, `group-coordinator/src/main/resources/common/message/*.json`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{CommittedOffset, GroupId, GroupRecord, InstanceId, MemberId};
use crate::model::{LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, Uuid};

const OFFSET_COMMIT_KEYS: std::ops::RangeInclusive<i16> = 0..=1;
const GROUP_METADATA_KEY: i16 = 2;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_WITH_TOPIC_ID: i16 = 4;
const GROUP_VALUE: i16 = 3;
const VALUE_VERSION_LAST: i16 = 4;
const FLEXIBLE_FROM: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;

/// The longest text that the records can hold; `Coordinator::step` refuses requests with longer ones.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// A record of the offsets topic, read.
#[derive(Clone, PartialEq, Debug)]
pub enum Stored {
    /// `value: None`: the offset is gone.
    Offset { group: GroupId, topic: TopicName, partition: PartitionIndex, value: Option<CommittedOffset> },
    /// `value: None`: the group is gone.
    Group { group: GroupId, value: Option<GroupMetadata> },
}

/// A classic group as it is stored when a generation has its assignment, or has ended empty.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupMetadata {
    /// Empty: none.
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    /// -1: not known.
    pub state_timestamp: Timestamp,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct MemberMetadata {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// -1: not known.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// Why a record of the offsets topic cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// Kinds that this version does not keep, such as those of Kafka's consumer protocol (3 and above).
    UnknownKey {
        kind: i16,
    },
    UnknownValueVersion {
        kind: i16,
        version: i16,
    },
    Truncated,
    NegativeLength {
        length: i32,
    },
    /// Null where the schema has no null.
    Null,
    NotUtf8,
    VarintTooLong,
    /// A topic id that is not sixteen bytes.
    TopicIdLength {
        bytes: usize,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::UnknownKey { kind } => write!(f, "records of kind {kind} are not known"),
            RecordError::UnknownValueVersion { kind, version } => {
                write!(f, "version {version} of records of kind {kind} is not known")
            }
            RecordError::Truncated => f.write_str("a field reaches past the end of the record"),
            RecordError::NegativeLength { length } => write!(f, "length {length} is not allowed"),
            RecordError::Null => f.write_str("a field is null that cannot be"),
            RecordError::NotUtf8 => f.write_str("a text is not UTF-8"),
            RecordError::VarintTooLong => f.write_str("a varint is longer than its type allows"),
            RecordError::TopicIdLength { bytes } => write!(f, "a topic id has {bytes} bytes"),
        }
    }
}

impl std::error::Error for RecordError {}

/// The record of an offset, or its tombstone.
pub fn offset_record(
    group: &str,
    topic: &str,
    partition: PartitionIndex,
    value: Option<&CommittedOffset>,
) -> GroupRecord {
    let mut key = Writer::default();
    key.int16(*OFFSET_COMMIT_KEYS.end());
    key.text(group);
    key.text(topic);
    key.int32(partition);
    GroupRecord { key: key.finish(), value: value.map(offset_value) }
}

/// The record of a group, or its tombstone.
pub fn group_record(group: &str, value: Option<Bytes>) -> GroupRecord {
    let mut key = Writer::default();
    key.int16(GROUP_METADATA_KEY);
    key.text(group);
    GroupRecord { key: key.finish(), value }
}

/// The value of a group's record.
pub fn group_value(metadata: &GroupMetadata) -> Bytes {
    let mut value = Writer::default();
    value.int16(GROUP_VALUE);
    value.text(&metadata.protocol_type);
    value.int32(metadata.generation);
    value.nullable_text(metadata.protocol.as_deref());
    value.nullable_text(metadata.leader.as_deref());
    value.int64(metadata.state_timestamp);
    value.length(metadata.members.len());
    for member in &metadata.members {
        value.text(&member.member);
        value.nullable_text(member.instance.as_deref());
        value.text(&member.client_id);
        value.text(&member.client_host);
        value.int32(member.rebalance_timeout_ms);
        value.int32(member.session_timeout_ms);
        value.bytes(&member.subscription);
        value.bytes(&member.assignment);
    }
    value.finish()
}

fn offset_value(committed: &CommittedOffset) -> Bytes {
    let version = match (committed.expire_timestamp, committed.topic_id.is_zero()) {
        (Some(_), _) => OFFSET_VALUE_WITH_EXPIRY,
        (None, false) => OFFSET_VALUE_WITH_TOPIC_ID,
        (None, true) => OFFSET_VALUE,
    };
    let mut value = Writer::default();
    value.int16(version);
    value.int64(committed.offset);
    if version >= 3 {
        value.int32(committed.leader_epoch.0);
    }
    if version >= FLEXIBLE_FROM {
        value.varint(committed.metadata.len() as u32 + 1);
        value.0.extend_from_slice(committed.metadata.as_bytes());
    } else {
        value.text(&committed.metadata);
    }
    value.int64(committed.commit_timestamp);
    if let Some(expires) = committed.expire_timestamp {
        value.int64(expires);
    }
    if version == OFFSET_VALUE_WITH_TOPIC_ID {
        value.varint(1);
        value.varint(TOPIC_ID_TAG);
        value.varint(committed.topic_id.0.len() as u32);
        value.0.extend_from_slice(&committed.topic_id.0);
    }
    value.finish()
}

/// Reads a record of the offsets topic. Bytes after the last field are passed over, as Kafka does.
pub fn decode(record: &GroupRecord) -> Result<Stored, RecordError> {
    let mut key = Reader { rest: record.key.clone(), flexible: false };
    let kind = key.int16()?;
    if OFFSET_COMMIT_KEYS.contains(&kind) {
        let (group, topic, partition) = (key.text()?, key.text()?, key.int32()?);
        let value = record.value.clone().map(|value| decode_offset(kind, value)).transpose()?;
        Ok(Stored::Offset { group, topic, partition, value })
    } else if kind == GROUP_METADATA_KEY {
        let group = key.text()?;
        let value = record.value.clone().map(|value| decode_group(kind, value)).transpose()?;
        Ok(Stored::Group { group, value })
    } else {
        Err(RecordError::UnknownKey { kind })
    }
}

fn decode_version(kind: i16, value: &mut Reader) -> Result<i16, RecordError> {
    let version = value.int16()?;
    if !(0..=VALUE_VERSION_LAST).contains(&version) {
        return Err(RecordError::UnknownValueVersion { kind, version });
    }
    value.flexible = version >= FLEXIBLE_FROM;
    Ok(version)
}

fn decode_offset(kind: i16, value: Bytes) -> Result<CommittedOffset, RecordError> {
    let mut value = Reader { rest: value, flexible: false };
    let version = decode_version(kind, &mut value)?;
    let offset = value.int64()?;
    let leader_epoch = LeaderEpoch(if version >= 3 { value.int32()? } else { -1 });
    let metadata = value.text()?;
    let commit_timestamp = value.int64()?;
    let expire_timestamp = if version == OFFSET_VALUE_WITH_EXPIRY { Some(value.int64()?) } else { None };
    let mut topic_id = TopicId::ZERO;
    value.tagged_fields(|tag, field| {
        if tag == TOPIC_ID_TAG {
            let bytes = <[u8; 16]>::try_from(&field[..])
                .map_err(|_length| RecordError::TopicIdLength { bytes: field.len() })?;
            topic_id = Uuid(bytes);
        }
        Ok(())
    })?;
    let expire_timestamp = expire_timestamp.filter(|at| *at != -1);
    Ok(CommittedOffset { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
}

fn decode_group(kind: i16, value: Bytes) -> Result<GroupMetadata, RecordError> {
    let mut value = Reader { rest: value, flexible: false };
    let version = decode_version(kind, &mut value)?;
    let protocol_type = value.text()?;
    let generation = value.int32()?;
    let protocol = value.nullable_text()?;
    let leader = value.nullable_text()?;
    let state_timestamp = if version >= 2 { value.int64()? } else { -1 };
    let member_count = value.array_length()?;
    // No reservation by count: a false one ends in `Truncated`.
    let mut members = Vec::new();
    for _ in 0..member_count {
        let member = value.text()?;
        let instance = if version >= 3 { value.nullable_text()? } else { None };
        let (client_id, client_host) = (value.text()?, value.text()?);
        let rebalance_timeout_ms = if version >= 1 { value.int32()? } else { -1 };
        let session_timeout_ms = value.int32()?;
        let (subscription, assignment) = (value.bytes()?, value.bytes()?);
        value.tagged_fields(|_, _| Ok(()))?;
        members.push(MemberMetadata {
            member,
            instance,
            client_id,
            client_host,
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription,
            assignment,
        });
    }
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_timestamp, members })
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn int16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn int32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn int64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn length(&mut self, length: usize) {
        self.int32(i32::try_from(length).expect("a group's members are bounded far below 2 GiB"));
    }

    fn text(&mut self, text: &str) {
        self.int16(i16::try_from(text.len()).expect("Coordinator::step refuses longer texts"));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn nullable_text(&mut self, text: Option<&str>) {
        match text {
            None => self.int16(-1),
            Some(text) => self.text(text),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

struct Reader {
    rest: Bytes,
    /// Compact lengths and tagged fields.
    flexible: bool,
}

impl Reader {
    fn take(&mut self, bytes: usize) -> Result<Bytes, RecordError> {
        if bytes > self.rest.len() {
            return Err(RecordError::Truncated);
        }
        Ok(self.rest.split_to(bytes))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let taken = self.take(N)?;
        Ok(<[u8; N]>::try_from(&taken[..]).expect("take returns as many bytes as it was asked for"))
    }

    fn int16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    fn int64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::VarintTooLong)
    }

    /// A length as the version writes it; `None`: null.
    fn compact_or(
        &mut self,
        plain: impl FnOnce(&mut Self) -> Result<i32, RecordError>,
    ) -> Result<Option<usize>, RecordError> {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match plain(self)? {
            -1 => Ok(None),
            length => {
                usize::try_from(length).map(Some).map_err(|_negative| RecordError::NegativeLength { length })
            }
        }
    }

    fn array_length(&mut self) -> Result<usize, RecordError> {
        self.compact_or(Self::int32)?.ok_or(RecordError::Null)
    }

    fn nullable_text(&mut self) -> Result<Option<Arc<str>>, RecordError> {
        let Some(length) = self.compact_or(|reader| reader.int16().map(i32::from))? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_position| RecordError::NotUtf8)?;
        Ok(Some(Arc::from(text)))
    }

    fn text(&mut self) -> Result<Arc<str>, RecordError> {
        self.nullable_text()?.ok_or(RecordError::Null)
    }

    fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let length = self.compact_or(Self::int32)?.ok_or(RecordError::Null)?;
        // A copy: a slice would keep the whole record, or the whole batch it was read from.
        self.take(length).map(|bytes| Bytes::copy_from_slice(&bytes))
    }

    fn tagged_fields(
        &mut self,
        mut each: impl FnMut(u32, Bytes) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.flexible {
            for _ in 0..self.varint()? {
                let tag = self.varint()?;
                let length = self.varint()? as usize;
                each(tag, self.take(length)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        assert!(digits.len().is_multiple_of(2));
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Holds the bytes against the record, both ways.
    fn check(key: &str, value: Option<&str>, expected: Stored) {
        let record = GroupRecord { key: hex(key), value: value.map(hex) };
        let written = match &expected {
            Stored::Offset { group, topic, partition, value } => {
                offset_record(group, topic, *partition, value.as_ref())
            }
            Stored::Group { group, value } => group_record(group, value.as_ref().map(group_value)),
        };
        assert_eq!(decode(&record), Ok(expected));
        assert_eq!(written, record);
    }

    fn committed(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: LeaderEpoch(-1),
            metadata: "hé".into(),
            commit_timestamp: 1795328302802,
            expire_timestamp: None,
            topic_id: TopicId::ZERO,
        }
    }

    const OFFSET_KEY: &str = "0001 00026732 00027431 00000000";

    // The bytes are those of a log segment that Kafka 4.3.1 wrote.
    #[test]
    fn offset_commits_are_those_kafka_writes() {
        let offset =
            |partition, value| Stored::Offset { group: "g2".into(), topic: "t1".into(), partition, value };
        check(
            OFFSET_KEY,
            Some("0001 0000000000000005 000368c3a9 000001a201e7ded2 000001a2021ecd52"),
            offset(0, Some(CommittedOffset { expire_timestamp: Some(1795331902802), ..committed(5) })),
        );
        check(
            "0001 00026732 00027431 00000001",
            Some(
                "0004 0000000000000005 ffffffff 0468c3a9 000001a201e7dee1 01 00 10 43b964b7dee844169ded699acdf2ea93",
            ),
            offset(
                1,
                Some(CommittedOffset {
                    commit_timestamp: 1795328302817,
                    topic_id: Uuid::parse("Q7lkt97oRBad7WmazfLqkw").unwrap(),
                    ..committed(5)
                }),
            ),
        );
        check(OFFSET_KEY, None, offset(0, None));
        // Without a topic id, as Kafka before 4.1 writes.
        check(
            OFFSET_KEY,
            Some("0003 0000000000000007 00000003 0000 0000000000000009"),
            offset(
                0,
                Some(CommittedOffset {
                    leader_epoch: LeaderEpoch(3),
                    metadata: "".into(),
                    commit_timestamp: 9,
                    ..committed(7)
                }),
            ),
        );
    }

    #[test]
    fn group_metadata_is_what_kafka_writes() {
        let member = "c1-7dc0c6fa-8308-4279-afe3-669f2dbb7ec7";
        let group = |value| Stored::Group { group: "g1".into(), value };
        check(
            "0002 00026731",
            Some(
                "0003 0008636f6e73756d6572 00000001 000572616e6765 \
                 002763312d37646330633666612d383330382d343237392d616665332d363639663264626237656337 \
                 000001a201e6e954 00000001 \
                 002763312d37646330633666612d383330382d343237392d616665332d363639663264626237656337 \
                 ffff 00026331 000a2f3132372e302e302e31 000493e0 0000afc8 \
                 00000018 00030000000100027431ffffffff00000000ffffffffffff \
                 0000001a 00030000000100027431000000020000000000000001ffffffff",
            ),
            group(Some(GroupMetadata {
                protocol_type: "consumer".into(),
                generation: 1,
                protocol: Some("range".into()),
                leader: Some(member.into()),
                state_timestamp: 1795328239956,
                members: vec![MemberMetadata {
                    member: member.into(),
                    instance: None,
                    client_id: "c1".into(),
                    client_host: "/127.0.0.1".into(),
                    rebalance_timeout_ms: 300000,
                    session_timeout_ms: 45000,
                    subscription: hex("00030000000100027431ffffffff00000000ffffffffffff"),
                    assignment: hex("00030000000100027431000000020000000000000001ffffffff"),
                }],
            })),
        );
        check(
            "0002 00026731",
            Some("0003 0008636f6e73756d6572 00000002 ffff ffff 000001a201e6ebbc 00000000"),
            group(Some(GroupMetadata {
                protocol_type: "consumer".into(),
                generation: 2,
                protocol: None,
                leader: None,
                state_timestamp: 1795328240572,
                members: vec![],
            })),
        );
        check("0002 00026731", None, group(None));
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let read = |key: &str, value: &str| decode(&GroupRecord { key: hex(key), value: Some(hex(value)) });
        let offset = |value| {
            Ok(Stored::Offset { group: "g2".into(), topic: "t1".into(), partition: 0, value: Some(value) })
        };
        let bare = CommittedOffset { metadata: "m".into(), commit_timestamp: 2, ..committed(1) };
        let rest = "0000000000000001 00016d 0000000000000002";
        assert_eq!(read("0000 00026732 00027431 00000000", &format!("0000 {rest}")), offset(bare.clone()));
        assert_eq!(read(OFFSET_KEY, &format!("0001 {rest} ffffffffffffffff")), offset(bare.clone()));
        assert_eq!(read(OFFSET_KEY, &format!("0002 {rest}")), offset(bare.clone()));
        // A tagged field of the future is passed over.
        assert_eq!(
            read(OFFSET_KEY, "0004 0000000000000001 ffffffff 026d 0000000000000002 01 09 02 abcd"),
            offset(bare)
        );
        let member = |instance: Option<&str>, rebalance_timeout_ms| MemberMetadata {
            member: "m".into(),
            instance: instance.map(Arc::from),
            client_id: "c".into(),
            client_host: "h".into(),
            rebalance_timeout_ms,
            session_timeout_ms: 9,
            subscription: hex("aa"),
            assignment: hex("bbbb"),
        };
        let group = |state_timestamp, member| {
            Ok(Stored::Group {
                group: "g".into(),
                value: Some(GroupMetadata {
                    protocol_type: "p".into(),
                    generation: 1,
                    protocol: Some("r".into()),
                    leader: Some("m".into()),
                    state_timestamp,
                    members: vec![member],
                }),
            })
        };
        let key = "0002 000167";
        let head = "000170 00000001 000172 00016d";
        let (client, tail) = ("000163 000168", "00000009 00000001 aa 00000002 bbbb");
        assert_eq!(
            read(key, &format!("0000 {head} 00000001 00016d {client} {tail}")),
            group(-1, member(None, -1))
        );
        assert_eq!(
            read(key, &format!("0001 {head} 00000001 00016d {client} 00000007 {tail}")),
            group(-1, member(None, 7))
        );
        assert_eq!(
            read(key, &format!("0002 {head} 0000000000000005 00000001 00016d {client} 00000007 {tail}")),
            group(5, member(None, 7))
        );
        assert_eq!(
            read(
                key,
                "0004 0270 00000001 0272 026d 0000000000000005 02 026d 0269 0263 0268 00000007 00000009 02aa 03bbbb 00 00"
            ),
            group(5, member(Some("i"), 7))
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let refused = |key: &str, value: &str, expected| {
            assert_eq!(
                decode(&GroupRecord { key: hex(key), value: Some(hex(value)) }),
                Err(expected),
                "{key} {value}"
            );
        };
        refused("", "", RecordError::Truncated);
        refused("0003 000167", "", RecordError::UnknownKey { kind: 3 });
        refused("ffff", "", RecordError::UnknownKey { kind: -1 });
        refused(OFFSET_KEY, "0005", RecordError::UnknownValueVersion { kind: 1, version: 5 });
        refused("0002 000167", "ffff", RecordError::UnknownValueVersion { kind: 2, version: -1 });
        refused("0002 ffff", "", RecordError::Null);
        refused("0002 8000", "", RecordError::NegativeLength { length: -32768 });
        refused("0002 0001ff", "", RecordError::NotUtf8);
        refused("0002 000267", "", RecordError::Truncated);
        refused(
            "0002 000167",
            "0003 0000 00000001 ffff ffff 0000000000000000 7fffffff",
            RecordError::Truncated,
        );
        let offset = "0004 0000000000000001 ffffffff 01 0000000000000002";
        refused(OFFSET_KEY, &format!("{offset} 01 00 02 abcd"), RecordError::TopicIdLength { bytes: 2 });
        refused(OFFSET_KEY, &format!("{offset} ffffffffff"), RecordError::VarintTooLong);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(kind in 0u8..4, key in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut prefixed = vec![0, kind];
            prefixed.extend(key);
            let _ = decode(&GroupRecord { key: prefixed.into(), value: Some(value.into()) });
        }
    }
}
