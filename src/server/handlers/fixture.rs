//! An image to test handlers against.

use crate::controller::{
    Format, NewTopic, Registration, TopicDefaults, apply, create_topics, format_records, register_broker,
};
use crate::metadata::{Entry, Image, Local, Record};
use crate::model::{NodeId, Uuid};

/// As [`image`], with its two endpoints as brokers at 9092 and 9093.
pub fn per_core_image(topics: &[(&str, i32)]) -> Image {
    image_of(&[9092, 9093], topics)
}

/// Node 1 at 127.0.0.1:9092 with these topics of so many partitions; each keeps `retention.ms=5`.
pub fn image(topics: &[(&str, i32)]) -> Image {
    image_of(&[], topics)
}

fn image_of(endpoint_ports: &[u16], topics: &[(&str, i32)]) -> Image {
    let format = Format { cluster_id: Uuid([7; 16]), slots: 8, endpoints: 2, min_insync_replicas: 1 };
    let registration = Registration {
        node: NodeId(1),
        host: "127.0.0.1".into(),
        port: 9092,
        endpoint_ports: endpoint_ports.to_vec(),
        rack: None,
        directories: vec![Uuid([8; 16])],
    };
    let empty = Image::empty(Local { node: NodeId(1), shards: 2 });
    let image = applied(empty, format_records(&format).expect("a usable format"));
    let image = applied(image, register_broker(&registration));
    let topics: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|&(name, partitions)| NewTopic {
            name,
            partitions,
            replication_factor: 1,
            configs: vec![("retention.ms", Some("5"))],
            ..NewTopic::default()
        })
        .collect();
    let defaults =
        TopicDefaults { partitions: 1, replication_factor: 1, partitions_max: 1000, slot_loads: &[] };
    let mut word = 0u64;
    let mut random = || {
        word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        word
    };
    let decision = create_topics(&image, &topics, &defaults, &mut random);
    assert!(decision.results.iter().all(|(_, result)| result.is_ok()));
    if decision.records.is_empty() { image } else { applied(image, decision.records) }
}

fn applied(image: Image, records: Vec<Record>) -> Image {
    let entry = Entry { term: 1, index: image.version + 1, records };
    apply(image, &entry).expect("decided against this image")
}
