use proptest::prelude::*;

use super::*;

fn arbitrary_uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn arbitrary_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z._-]{0,12}", ".{0,40}", "x{120,300}"]
}

fn arbitrary_partition() -> impl Strategy<Value = Partition> {
    (
        any::<u16>(),
        any::<Option<i32>>(),
        any::<i32>(),
        any::<i32>(),
        prop::collection::vec((any::<i32>(), arbitrary_uuid()), 0..4),
        prop::collection::vec(any::<i32>(), 0..4),
    )
        .prop_map(|(slot, leader, leader_epoch, partition_epoch, replicas, isr)| Partition {
            slot: PlacementSlot(slot),
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch,
            replicas: replicas
                .into_iter()
                .map(|(n, directory)| Replica { node: NodeId(n), directory })
                .collect(),
            isr: isr.into_iter().map(NodeId).collect(),
        })
}

fn arbitrary_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (arbitrary_uuid(), any::<u16>(), any::<u16>()).prop_map(|(cluster_id, slots, endpoints)| {
            Record::Format(FormatRecord { cluster_id, slots, endpoints })
        }),
        (arbitrary_text(), any::<i16>())
            .prop_map(|(name, level)| Record::FeatureLevel(FeatureLevelRecord { name: name.into(), level })),
        (
            any::<i32>(),
            arbitrary_text(),
            any::<u16>(),
            prop::collection::vec(any::<u16>(), 0..3),
            prop::option::of(arbitrary_text()),
            prop::collection::vec(arbitrary_uuid(), 0..3)
        )
            .prop_map(
                |(node, host, port, endpoint_ports, rack, directories)| Record::RegisterBroker(
                    RegisterBrokerRecord {
                        node: NodeId(node),
                        host: host.into(),
                        port,
                        endpoint_ports,
                        rack: rack.map(Into::into),
                        directories
                    }
                )
            ),
        (arbitrary_uuid(), arbitrary_text())
            .prop_map(|(id, name)| Record::Topic(TopicRecord { id, name: name.into() })),
        (arbitrary_uuid(), 0..i32::MAX, arbitrary_partition()).prop_map(|(topic, index, partition)| {
            Record::Partition(PartitionRecord { topic, index, partition })
        }),
        (
            prop_oneof![
                arbitrary_uuid().prop_map(ConfigResource::Topic),
                any::<i32>().prop_map(|n| ConfigResource::Broker(NodeId(n))),
                Just(ConfigResource::AllBrokers)
            ],
            arbitrary_text(),
            prop::option::of(arbitrary_text())
        )
            .prop_map(|(resource, name, value)| Record::Config(ConfigRecord {
                resource,
                name,
                value
            })),
        arbitrary_uuid().prop_map(Record::RemoveTopic),
        any::<i64>().prop_map(|next| Record::ProducerIds(ProducerIdsRecord { next: ProducerId(next) })),
        Just(Record::NoOp),
        (any::<i32>(), any::<[u16; 4]>()).prop_map(|(node, [slot, endpoint, core, cores])| {
            let home = SlotHome { endpoint: Endpoint(endpoint), core: ShardId(core), cores };
            Record::MoveSlot(MoveSlotRecord { node: NodeId(node), slot: PlacementSlot(slot), home })
        }),
    ]
}

fn decode_all(values: &[Vec<u8>]) -> Result<Entry, DecodeError> {
    Entry::decode(values.iter().map(Vec::as_slice))
}

proptest! {
    #[test]
    fn entries_round_trip(term: u64, index: u64, records in prop::collection::vec(arbitrary_record(), 1..6)) {
        let entry = Entry { term, index, records };
        prop_assert_eq!(decode_all(&entry.encode()), Ok(entry));
    }

    #[test]
    fn a_cut_or_lengthened_value_is_an_error(record in arbitrary_record(), cut: prop::sample::Index) {
        let mut value = Entry { term: 1, index: 2, records: vec![record] }.encode().remove(0);
        let cut = cut.index(value.len());
        prop_assert!(decode_all(&[value[..cut].to_vec()]).is_err());
        value.push(0);
        prop_assert_eq!(decode_all(&[value]), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut value in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..12) {
        if value.len() > 3 {
            value[..3].copy_from_slice(&[1, kind, 0]);
        }
        if let Ok(entry) = decode_all(&[value]) {
            prop_assert_eq!(decode_all(&entry.encode()), Ok(entry));
        }
    }
}

#[test]
fn bytes_are_as_the_table_says() {
    let entry = Entry {
        term: 3,
        index: 7,
        records: vec![Record::Config(ConfigRecord {
            resource: ConfigResource::Broker(NodeId(5)),
            name: "a.b".into(),
            value: Some("1".into()),
        })],
    };
    let expected = [
        &[1, 6, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[1, 0, 0, 0, 5],
        b"\x03a.b",
        b"\x01\x011",
    ]
    .concat();
    assert_eq!(entry.encode(), [expected]);
}

#[test]
fn a_broker_that_clients_see_as_one_is_told_as_before_there_were_several() {
    let version = |endpoint_ports: &[u16]| {
        let broker = RegisterBrokerRecord {
            node: NodeId(1),
            host: "h".into(),
            port: 1,
            endpoint_ports: endpoint_ports.to_vec(),
            rack: None,
            directories: Vec::new(),
        };
        let entry = Entry { term: 1, index: 1, records: vec![Record::RegisterBroker(broker)] };
        entry.encode()[0][2]
    };
    assert_eq!((version(&[]), version(&[1, 2])), (0, 1));
}

#[test]
fn what_is_no_record_is_named() {
    let check =
        |value: &[u8], expected| assert_eq!(decode_all(&[value.to_vec()]), Err(expected), "{value:?}");
    let with_body = |kind: u8, version: u8, body: &[u8]| [&[1, kind, version][..], &[0; 16], body].concat();
    check(&[], DecodeError::Truncated);
    check(&[2], DecodeError::UnknownEnvelope(2));
    check(&with_body(11, 0, &[]), DecodeError::UnknownKind(11));
    check(&with_body(10, 1, &[]), DecodeError::UnknownVersion { kind: 10, version: 1 });
    check(&with_body(9, 1, &[]), DecodeError::UnknownVersion { kind: 9, version: 1 });
    check(&with_body(3, 2, &[]), DecodeError::UnknownVersion { kind: 3, version: 2 });
    check(&with_body(6, 0, &[3]), DecodeError::BadResource(3));
    check(&with_body(6, 0, &[2, 0, 2]), DecodeError::BadFlag(2));
    check(&with_body(2, 0, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]), DecodeError::Truncated);
    check(&with_body(2, 0, &[0x80, 0x80, 0x80, 0x80, 0x80, 0, 0]), DecodeError::LongCount);
    let entry = |index| Entry { term: 1, index, records: vec![Record::NoOp] }.encode().remove(0);
    assert_eq!(
        decode_all(&[entry(1), entry(2)]),
        Err(DecodeError::Mixed { first: (1, 1), other: (1, 2) }),
        "one batch, one entry"
    );
    assert_eq!(decode_all(&[]), Err(DecodeError::Empty));
}
