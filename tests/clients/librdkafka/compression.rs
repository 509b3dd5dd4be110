//! Compression: the broker keeps and hands out what the producer made.

use corelog_clients::client::{Producer, Record, consume, create_topic};

fn check(codec: &str, idempotent: bool) {
    let broker = corelog_clients::options!().start();
    create_topic(&broker, codec, 1, &[]);
    let idempotence = if idempotent { "true" } else { "false" };
    let settings = [("compression.type", codec), ("linger.ms", "20"), ("enable.idempotence", idempotence)];
    let mut producer = Producer::new(&broker, &settings);
    // Repeats itself, so that librdkafka keeps the compressed form.
    let values: Vec<String> = (0..500).map(|n| format!("{n} ").repeat(200)).collect();
    for value in &values {
        producer.send(&Record::new(codec, value));
    }
    producer.flush_ok();
    let read: Vec<String> = consume(&broker, codec, 0, values.len()).iter().map(|r| r.text()).collect();
    assert!(read == values, "{codec}: values came back changed");
    if codec != "none" {
        let sent: usize = values.iter().map(String::len).sum();
        let stored = log_bytes(&broker, codec);
        assert!(stored < sent / 2, "{codec}: {sent} bytes are stored as {stored}: not compressed");
    }
    broker.finish();
}

/// The written bytes of the topic's first segment. The file may be longer: space is reserved ahead of its tail.
fn log_bytes(broker: &corelog_clients::Broker, topic: &str) -> usize {
    let path = broker.data_directory().join(format!("{topic}-0")).join("00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap_or_else(|cause| panic!("read {}: {cause}", path.display()));
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

#[test]
fn librdkafka_compression_none() {
    check("none", false);
}

#[test]
fn librdkafka_compression_gzip() {
    check("gzip", false);
}

#[test]
fn librdkafka_compression_snappy() {
    check("snappy", false);
}

#[test]
fn librdkafka_compression_lz4() {
    check("lz4", false);
}

#[test]
fn librdkafka_compression_zstd() {
    check("zstd", false);
}

#[test]
fn librdkafka_compression_zstd_idempotent() {
    check("zstd", true);
}
