//! Identities: who and where.

use std::fmt;

/// A broker process. `node.id` in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(pub i32);

/// A broker as clients see it in Metadata: a node, or one endpoint of a node. Never a [`NodeId`] without asking the image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BrokerId(pub i32);

/// A data core of this process, 0-based.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ShardId(pub u16);

/// Where a partition is placed, independent of the number of cores; fixed in count when the directory is formatted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PlacementSlot(pub u16);

/// An advertised endpoint; slot `s` belongs to endpoint `s mod E`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Endpoint(pub u16);

/// The reign of one partition leader; rises with every change of leader. -1 on the wire: not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LeaderEpoch(pub i32);

/// One incarnation of a broker process in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BrokerEpoch(pub i64);

/// An idempotent or transactional producer. -1 on the wire: none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ProducerId(pub i64);

/// Fences older incarnations of one producer id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ProducerEpoch(pub i16);

/// Sixteen bytes, written in text as 22 characters of unpadded base64url, as Kafka does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// A topic's identity; a topic deleted and made again has another.
pub type TopicId = Uuid;

/// A log directory's identity, bound to the disk and not to its path.
pub type DirectoryId = Uuid;

impl NodeId {
    /// The largest id of a node whose endpoints are brokers of their own. It keeps their ids in the lower half of an i32: Java
    /// clients up to 4.3 connect to a group's coordinator under `Integer.MAX_VALUE` minus its id. Source: Apache Kafka,
    /// `AbstractCoordinator`.
    pub const WITH_ENDPOINTS_MAX: NodeId = NodeId(1_000_000);
}

impl BrokerId {
    /// Ids that such a node takes; no layout has more endpoints.
    const PER_NODE: i32 = 1000;

    /// The id of a node's endpoint that is a broker of its own.
    pub fn of_endpoint(node: NodeId, endpoint: Endpoint) -> BrokerId {
        BrokerId(node.0 * BrokerId::PER_NODE + i32::from(endpoint.0))
    }

    /// The inverse, for an id that may be another node's or nobody's.
    pub fn as_endpoint(self) -> (NodeId, Endpoint) {
        let endpoint = self.0.rem_euclid(BrokerId::PER_NODE);
        (NodeId(self.0.div_euclid(BrokerId::PER_NODE)), Endpoint(endpoint as u16))
    }
}

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zero: "no id" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// A version 4 id from two random words. Never one of Kafka's reserved ids (0 and 1), whose version bits are zero.
    /// A text that starts with `-` is avoided as Kafka does, since command lines take it for a flag.
    pub fn from_random(mut next: impl FnMut() -> u64) -> Uuid {
        loop {
            let mut bytes = [0u8; 16];
            bytes[..8].copy_from_slice(&next().to_be_bytes());
            bytes[8..].copy_from_slice(&next().to_be_bytes());
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid(bytes);
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }

    /// Reads the 22 characters that `Display` writes. `None` for anything else.
    pub fn parse(text: &str) -> Option<Uuid> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        let mut last = 0;
        for (i, c) in text.iter().enumerate() {
            let value = BASE64URL.iter().position(|b| b == c)? as u128;
            if i < 21 {
                bits = (bits << 6) | value;
            } else {
                last = value;
            }
        }
        // 21 x 6 = 126 bits; the last character carries the two lowest bits and four padding bits of zero.
        if last & 0x0f != 0 {
            return None;
        }
        Some(Uuid(((bits << 2) | (last >> 4)).to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            let value = if i < 21 { (bits >> (122 - 6 * i)) & 0x3f } else { (bits << 4) & 0x3f };
            *c = BASE64URL[value as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("base64url is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips() {
        for bytes in [[0u8; 16], [0xff; 16], *b"0123456789abcdef"] {
            let text = Uuid(bytes).to_string();
            assert_eq!(text.len(), 22);
            assert_eq!(Uuid::parse(&text), Some(Uuid(bytes)), "{text}");
        }
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::parse("too short"), None);
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAB"), None, "padding bits must be zero");
    }

    #[test]
    fn random_ids_are_version_four_and_no_flag() {
        let mut state = 7u64;
        for _ in 0..200 {
            let id = Uuid::from_random(|| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state
            });
            assert_eq!(id.0[6] >> 4, 4);
            assert!(!id.to_string().starts_with('-'));
        }
    }
}
