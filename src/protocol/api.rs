//! The one table of APIs: key, versions served, and what follows from them.

use std::ops::RangeInclusive;

use crate::protocol::codec::Format;

macro_rules! apis {
    (
        $( $name:ident = $key:literal, served $versions:expr, advertised $advertised:expr, flexible $flexible:expr; )+
        // Not served: what only our client knows.
        [ $( $asked:ident = $asked_key:literal, asked $asked_versions:expr, flexible $asked_flexible:expr; )+ ]
    ) => {
        /// An API that we serve, or that our client asks of others.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $( $name = $key, )+
            $( $asked = $asked_key, )+
        }

        impl ApiKey {
            /// Every API that we serve, by ascending key.
            pub const ALL: &'static [ApiKey] = &[ $( ApiKey::$name, )+ ];

            /// `None`: not an API of ours; the connection is to be closed.
            pub const fn from_key(key: i16) -> Option<ApiKey> {
                match key {
                    $( $key => Some(ApiKey::$name), )+
                    _ => None,
                }
            }

            /// Kafka's name, such as `OffsetForLeaderEpoch`.
            pub const fn name(self) -> &'static str {
                match self {
                    $( ApiKey::$name => stringify!($name), )+
                    $( ApiKey::$asked => stringify!($asked), )+
                }
            }

            /// The versions that we decode and answer, or ask in.
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $( ApiKey::$name => $versions, )+
                    $( ApiKey::$asked => $asked_versions, )+
                }
            }

            /// The versions that ApiVersions tells; see the table for the one that differs. Empty for what we do not serve.
            pub const fn advertised_versions(self) -> RangeInclusive<i16> {
                match self {
                    $( ApiKey::$name => $advertised, )+
                    $( ApiKey::$asked => RangeInclusive::new(0, -1), )+
                }
            }

            /// The first version with compact lengths and tagged fields.
            pub const fn flexible_from(self) -> Option<i16> {
                match self {
                    $( ApiKey::$name => $flexible, )+
                    $( ApiKey::$asked => $asked_flexible, )+
                }
            }
        }
    };
}

// Source: Apache Kafka 4.3.1, `validVersions` and `flexibleVersions` of the message schemas. InitProducerId 6 is marked
// unstable there. Produce is advertised from 0 though 0 to 2 are refused: librdkafka before 2.11.1 turns compression off
// silently if it is not (KAFKA-18659).
apis! {
    Produce = 0,                  served 3..=13, advertised 0..=13, flexible Some(9);
    Fetch = 1,                    served 4..=18, advertised 4..=18, flexible Some(12);
    ListOffsets = 2,              served 1..=11, advertised 1..=11, flexible Some(6);
    Metadata = 3,                 served 0..=13, advertised 0..=13, flexible Some(9);
    OffsetCommit = 8,             served 2..=10, advertised 2..=10, flexible Some(8);
    OffsetFetch = 9,              served 1..=10, advertised 1..=10, flexible Some(6);
    FindCoordinator = 10,         served 0..=6,  advertised 0..=6,  flexible Some(3);
    JoinGroup = 11,               served 0..=9,  advertised 0..=9,  flexible Some(6);
    Heartbeat = 12,               served 0..=4,  advertised 0..=4,  flexible Some(4);
    LeaveGroup = 13,              served 0..=5,  advertised 0..=5,  flexible Some(4);
    SyncGroup = 14,               served 0..=5,  advertised 0..=5,  flexible Some(4);
    DescribeGroups = 15,          served 0..=6,  advertised 0..=6,  flexible Some(5);
    ListGroups = 16,              served 0..=5,  advertised 0..=5,  flexible Some(3);
    ApiVersions = 18,             served 0..=4,  advertised 0..=4,  flexible Some(3);
    CreateTopics = 19,            served 2..=7,  advertised 2..=7,  flexible Some(5);
    DeleteTopics = 20,            served 1..=6,  advertised 1..=6,  flexible Some(4);
    DeleteRecords = 21,           served 0..=2,  advertised 0..=2,  flexible Some(2);
    InitProducerId = 22,          served 0..=5,  advertised 0..=5,  flexible Some(2);
    OffsetForLeaderEpoch = 23,    served 2..=4,  advertised 2..=4,  flexible Some(4);
    DescribeAcls = 29,            served 1..=3,  advertised 1..=3,  flexible Some(2);
    CreateAcls = 30,              served 1..=3,  advertised 1..=3,  flexible Some(2);
    DeleteAcls = 31,              served 1..=3,  advertised 1..=3,  flexible Some(2);
    DescribeConfigs = 32,         served 1..=4,  advertised 1..=4,  flexible Some(4);
    AlterConfigs = 33,            served 0..=2,  advertised 0..=2,  flexible Some(2);
    DescribeLogDirs = 35,         served 1..=5,  advertised 1..=5,  flexible Some(2);
    CreatePartitions = 37,        served 0..=3,  advertised 0..=3,  flexible Some(2);
    DeleteGroups = 42,            served 0..=2,  advertised 0..=2,  flexible Some(2);
    IncrementalAlterConfigs = 44, served 0..=1,  advertised 0..=1,  flexible Some(1);
    OffsetDelete = 47,            served 0..=0,  advertised 0..=0,  flexible None;
    DescribeCluster = 60,         served 0..=2,  advertised 0..=2,  flexible Some(0);
    DescribeProducers = 61,       served 0..=0,  advertised 0..=0,  flexible Some(0);
    ListConfigResources = 74,     served 0..=1,  advertised 0..=1,  flexible Some(0);
    DescribeTopicPartitions = 75, served 0..=0,  advertised 0..=0,  flexible Some(0);
    // Requests for these are of no API of ours. SaslAuthenticate 2 changes the layout alone.
    [
        SaslHandshake = 17,    asked 0..=1, flexible None;
        SaslAuthenticate = 36, asked 0..=1, flexible Some(2);
    ]
}

impl ApiKey {
    pub const fn key(self) -> i16 {
        self as i16
    }

    pub fn serves(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// Also asked for versions that we do not serve: the header of an ApiVersions request from the future is readable.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// How the bodies of this version are laid out; `None` if it is not served.
    pub fn format(self, version: i16) -> Option<Format> {
        self.serves(version).then(|| Format { version, flexible: self.is_flexible(version) })
    }

    /// 1, or 2, which adds tagged fields. (0 was ControlledShutdown's alone.)
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// 0, or 1, which adds tagged fields. ApiVersions stays at 0 for ever: a client reads this answer before it knows
    /// which versions the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) && self != ApiKey::ApiVersions { 1 } else { 0 }
    }
}

/// The table as the README shows it.
pub fn markdown_table() -> String {
    let mut table = String::from("| key | API | versions |\n| --: | --- | --- |\n");
    for &api in ApiKey::ALL {
        let (served, advertised) = (api.versions(), api.advertised_versions());
        let range = |range: &RangeInclusive<i16>| match (*range.start(), *range.end()) {
            (start, end) if start == end => format!("{end}"),
            (start, end) => format!("{start}-{end}"),
        };
        table += &format!("| {} | {} | {}", api.key(), api.name(), range(&served));
        if served != advertised {
            table += &format!(" (advertised {})", range(&advertised));
        }
        table += " |\n";
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise_and_are_found_again() {
        assert!(ApiKey::ALL.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        for &api in ApiKey::ALL {
            assert_eq!(ApiKey::from_key(api.key()), Some(api));
        }
        assert_eq!(ApiKey::from_key(4), None);
        assert_eq!(ApiKey::from_key(-1), None);
    }

    #[test]
    fn header_versions() {
        let check = |api: ApiKey, version, request, response| {
            let headers = (api.request_header_version(version), api.response_header_version(version));
            assert_eq!(headers, (request, response), "{api:?} {version}");
        };
        check(ApiKey::Produce, 8, 1, 0);
        check(ApiKey::Produce, 9, 2, 1);
        check(ApiKey::ApiVersions, 2, 1, 0);
        check(ApiKey::ApiVersions, 3, 2, 0);
        check(ApiKey::ApiVersions, 99, 2, 0);
        check(ApiKey::OffsetDelete, 0, 1, 0);
        check(ApiKey::DescribeCluster, 0, 2, 1);
    }

    #[test]
    fn what_is_only_asked_is_no_api_of_ours() {
        assert_eq!(ApiKey::from_key(ApiKey::SaslHandshake.key()), None);
        assert!(!ApiKey::ALL.contains(&ApiKey::SaslAuthenticate));
        assert!(ApiKey::SaslAuthenticate.advertised_versions().is_empty());
        assert_eq!(ApiKey::SaslAuthenticate.request_header_version(1), 1);
        assert!(!markdown_table().contains("Sasl"));
    }

    #[test]
    fn produce_is_advertised_wider_than_served() {
        assert!(!ApiKey::Produce.serves(2));
        assert!(ApiKey::Produce.advertised_versions().contains(&0));
        assert!(markdown_table().contains("| 0 | Produce | 3-13 (advertised 0-13) |\n"));
        assert!(markdown_table().contains("| 47 | OffsetDelete | 0 |\n"));
    }
}
