//! Ours against theirs.

use bytes::BytesMut;
use corelog::protocol::messages::{AnyRequest, AnyResponse};
use corelog::protocol::{ApiKey, Writer};

use crate::codecs::{Direction, Layout, layouts};
use crate::generate::{Generator, Random, UNKNOWN_TAG_PAYLOAD};

const ROUNDS: u64 = 60;

/// What Kafka 4.3 has and `kafka-protocol` 0.18 lacks; `vectors` covers it.
pub const UNKNOWN_TO_THEM: &[Layout] = &[
    Layout { api: ApiKey::ListOffsets, direction: Direction::Request, version: 11 },
    Layout { api: ApiKey::ListOffsets, direction: Direction::Response, version: 11 },
    Layout { api: ApiKey::OffsetCommit, direction: Direction::Request, version: 10 },
    Layout { api: ApiKey::OffsetFetch, direction: Direction::Request, version: 10 },
    Layout { api: ApiKey::DescribeLogDirs, direction: Direction::Request, version: 5 },
    Layout { api: ApiKey::DescribeLogDirs, direction: Direction::Response, version: 5 },
];

fn seed(layout: Layout, round: u64) -> u64 {
    (layout.api.key() as u64) << 48 | (layout.version as u64) << 32 | (layout.direction as u64) << 31 | round
}

#[test]
fn only_the_listed_versions_are_unknown_to_the_other_codec() {
    let unknown: Vec<_> = layouts().filter(|layout| !layout.is_known_to_them()).collect();
    assert_eq!(unknown, UNKNOWN_TO_THEM);
}

#[test]
fn both_codecs_read_each_other() {
    let mut compared = 0;
    for layout in layouts().filter(|layout| layout.is_known_to_them()) {
        for round in 0..ROUNDS {
            let mut random = Random::new(seed(layout, round));
            let (body, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
            let context = || format!("{layout:?} round {round}: {}", hex(&body));
            let ours = layout.ours(&body).unwrap_or_else(|error| panic!("{error} {}", context()));
            let theirs = layout.theirs(&body).unwrap_or_else(|error| panic!("{error} {}", context()));
            assert_eq!(hex(&ours), hex(&theirs), "{}", context());
            // Each reads what the other wrote, and writes it again.
            assert_eq!(hex(&layout.ours(&theirs).unwrap()), hex(&theirs), "{}", context());
            assert_eq!(hex(&layout.theirs(&ours).unwrap()), hex(&ours), "{}", context());
            compared += 1;
        }
    }
    println!("{compared} bodies");
}

#[test]
fn random_bodies_survive_every_version_also_those_unknown_to_them() {
    for layout in layouts() {
        for round in 0..ROUNDS {
            let mut random = Random::new(seed(layout, round));
            let (body, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
            let once = layout.ours(&body).unwrap();
            assert_eq!(hex(&layout.ours(&once).unwrap()), hex(&once), "{layout:?} round {round}");
        }
    }
}

/// A tag that we do not know must be unknown to the other codec too, or we lack a field; and it must change nothing.
#[test]
fn unknown_tags_are_skipped_and_no_known_tag_is_missing() {
    let payload = format!("{:?}", bytes::Bytes::from_static(UNKNOWN_TAG_PAYLOAD));
    for layout in layouts().filter(|layout| layout.api.is_flexible(layout.version)) {
        for tag in 0..8 {
            for round in 0..4 {
                let mut random = Random::new(seed(layout, round));
                let (plain, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
                let mut random = Random::new(seed(layout, round));
                let (tagged, count) = Generator::new(layout.api, layout.version, &mut random)
                    .with_unknown_tag(tag)
                    .body(layout.shape());
                assert_eq!(layout.ours(&tagged), layout.ours(&plain), "{layout:?} tag {tag}");
                if layout.is_known_to_them() {
                    let (_, text) = layout
                        .theirs_in(&tagged, layout.version)
                        .unwrap_or_else(|error| panic!("{error}: {layout:?} tag {tag}"));
                    assert_eq!(text.matches(&payload).count(), count, "{layout:?} tag {tag}: {text}");
                }
            }
        }
    }
}

/// A field absent in the version read has its default, which shows in a later version that has the field.
#[test]
fn absent_fields_have_the_same_defaults() {
    let mut compared = 0;
    for layout in layouts().filter(|layout| layout.is_known_to_them()) {
        for version in layout.version..=*layout.api.versions().end() {
            if !(Layout { version, ..layout }).is_known_to_them() {
                continue;
            }
            for round in 0..4 {
                let mut random = Random::new(seed(layout, round));
                let (body, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
                // They refuse what the version cannot express; our debug assertions do too.
                let Ok((theirs, _)) = layout.theirs_in(&body, version) else {
                    continue;
                };
                let ours = layout.ours_in(&body, version).unwrap();
                assert_eq!(hex(&ours), hex(&theirs), "{layout:?} in version {version}, round {round}");
                compared += 1;
            }
        }
    }
    println!("{compared} bodies");
    assert!(compared > 1000, "{compared} bodies only");
}

/// Two fields of one type with their names swapped would pass every comparison of bytes.
#[test]
fn fields_have_the_same_names_in_the_same_order() {
    let has_newer_fields =
        |layout: &Layout| layout.api == ApiKey::DescribeLogDirs && layout.direction == Direction::Response;
    for layout in layouts().filter(|layout| layout.is_known_to_them() && !has_newer_fields(layout)) {
        for round in 0..8 {
            let mut random = Random::new(seed(layout, round));
            let (body, _) = Generator::new(layout.api, layout.version, &mut random).body(layout.shape());
            let (_, theirs) = layout.theirs_in(&body, layout.version).unwrap();
            assert_eq!(field_names(&layout.ours_as_text(&body)), field_names(&theirs), "{layout:?}");
        }
    }
}

/// Of InitProducerId 6, which is unstable in Kafka 4.3 and not served.
const UNSTABLE_FIELDS: &[&str] =
    &["enable_2_pc", "keep_prepared_txn", "ongoing_txn_producer_id", "ongoing_txn_producer_epoch"];

/// The words before a colon in what `Debug` shows. (No generated string has a colon.)
fn field_names(text: &str) -> Vec<&str> {
    text.split(": ")
        .filter_map(|before| before.rsplit([' ', ',', '{']).next())
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| !word.is_empty() && *word != "unknown_tagged_fields")
        .filter(|word| !UNSTABLE_FIELDS.contains(word))
        .collect()
}

#[test]
fn defaults_are_the_same() {
    macro_rules! check {
        ($($api:ident $request:ident $response:ident;)+) => {$(
            for version in ApiKey::$api.versions() {
                let theirs = |message: &dyn Fn(&mut BytesMut) -> bool| {
                    let mut out = BytesMut::new();
                    message(&mut out).then(|| hex(&out))
                };
                let ours = |message: &dyn Fn(&mut Writer<'_>)| {
                    let mut out = BytesMut::new();
                    message(&mut Writer::contiguous(&mut out));
                    hex(&out)
                };
                use kafka_protocol::protocol::Encodable;
                let request = theirs(&|out| kafka_protocol::messages::$request::default().encode(out, version).is_ok());
                let response = theirs(&|out| kafka_protocol::messages::$response::default().encode(out, version).is_ok());
                for (direction, theirs, ours) in [
                    (Direction::Request, request, ours(&|out| AnyRequest::default_of(ApiKey::$api).encode_to(out, version))),
                    (Direction::Response, response, ours(&|out| AnyResponse::default_of(ApiKey::$api).encode_to(out, version))),
                ] {
                    let layout = Layout { api: ApiKey::$api, direction, version };
                    if layout.is_known_to_them() {
                        assert_eq!(Some(ours), theirs, "{layout:?}");
                    }
                }
            }
        )+};
    }
    check! {
        Produce ProduceRequest ProduceResponse;
        Fetch FetchRequest FetchResponse;
        ListOffsets ListOffsetsRequest ListOffsetsResponse;
        Metadata MetadataRequest MetadataResponse;
        OffsetCommit OffsetCommitRequest OffsetCommitResponse;
        OffsetFetch OffsetFetchRequest OffsetFetchResponse;
        FindCoordinator FindCoordinatorRequest FindCoordinatorResponse;
        JoinGroup JoinGroupRequest JoinGroupResponse;
        Heartbeat HeartbeatRequest HeartbeatResponse;
        LeaveGroup LeaveGroupRequest LeaveGroupResponse;
        SyncGroup SyncGroupRequest SyncGroupResponse;
        DescribeGroups DescribeGroupsRequest DescribeGroupsResponse;
        ListGroups ListGroupsRequest ListGroupsResponse;
        ApiVersions ApiVersionsRequest ApiVersionsResponse;
        CreateTopics CreateTopicsRequest CreateTopicsResponse;
        DeleteTopics DeleteTopicsRequest DeleteTopicsResponse;
        DeleteRecords DeleteRecordsRequest DeleteRecordsResponse;
        InitProducerId InitProducerIdRequest InitProducerIdResponse;
        OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
        DescribeAcls DescribeAclsRequest DescribeAclsResponse;
        CreateAcls CreateAclsRequest CreateAclsResponse;
        DeleteAcls DeleteAclsRequest DeleteAclsResponse;
        DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse;
        AlterConfigs AlterConfigsRequest AlterConfigsResponse;
        DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse;
        CreatePartitions CreatePartitionsRequest CreatePartitionsResponse;
        DeleteGroups DeleteGroupsRequest DeleteGroupsResponse;
        IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
        OffsetDelete OffsetDeleteRequest OffsetDeleteResponse;
        DescribeCluster DescribeClusterRequest DescribeClusterResponse;
        DescribeProducers DescribeProducersRequest DescribeProducersResponse;
        ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse;
        DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
