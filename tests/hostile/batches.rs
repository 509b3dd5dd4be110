//! Batches that may not enter a log.

use corelog::protocol::ErrorCode;
use corelog::record::crc32c;
use corelog_clients::options;

use crate::wire::{Client, batch, wait_until};

// Kafka protocol guide, "Record Batch".
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const PRODUCER_ID: usize = 43;
const RECORD_COUNT: usize = 57;

/// A batch with other bytes at one place and a checksum that agrees with them.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch(b"value");
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[ATTRIBUTES..]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn bad_batches_are_refused_and_nothing_is_appended() {
    let broker = options!().cores(2).start();
    let mut client = Client::connect(broker.address());
    client.create_topic("t", 1);
    wait_until("the topic", || client.produce("t", &batch(b"good")).0 == 0);
    let wrong_crc = {
        let mut batch = batch(b"value");
        batch[CRC] ^= 1;
        batch
    };
    let two = [batch(b"one"), batch(b"two")].concat();
    let short = batch(b"value")[..40].to_vec();
    let (corrupt, invalid) = (ErrorCode::CorruptMessage, ErrorCode::InvalidRecord);
    let cases: [(&str, Vec<u8>, &[ErrorCode]); 12] = [
        ("no such magic", changed(MAGIC, &[9]), &[corrupt]),
        ("negative magic", changed(MAGIC, &[0xff]), &[corrupt]),
        ("wrong checksum", wrong_crc, &[corrupt]),
        ("more records than said", changed(RECORD_COUNT, &2i32.to_be_bytes()), &[corrupt, invalid]),
        ("no records", changed(RECORD_COUNT, &0i32.to_be_bytes()), &[corrupt, invalid]),
        ("negative count", changed(RECORD_COUNT, &(-1i32).to_be_bytes()), &[corrupt, invalid]),
        ("last offset", changed(LAST_OFFSET_DELTA, &i32::MAX.to_be_bytes()), &[corrupt, invalid]),
        ("control batch", changed(ATTRIBUTES, &0x20i16.to_be_bytes()), &[corrupt, invalid]),
        ("producer without epoch", changed(PRODUCER_ID, &5i64.to_be_bytes()), &[corrupt, invalid]),
        (
            "unknown compression",
            changed(ATTRIBUTES, &7i16.to_be_bytes()),
            &[corrupt, ErrorCode::UnsupportedCompressionType],
        ),
        ("two batches", two, &[invalid]),
        ("half a header", short, &[corrupt, invalid]),
    ];
    for (what, records, expected) in cases {
        let (error, offset) = client.produce("t", &records);
        assert!(expected.iter().any(|code| code.code() == error), "{what}: error {error}");
        assert_eq!(offset, -1, "{what}");
        assert_eq!(client.fetch("t", 0).1, 1, "{what}: something was appended");
    }
    assert_eq!(client.produce("t", &batch(b"good")), (0, 1), "the offset after the first good one");
    broker.finish();
}
