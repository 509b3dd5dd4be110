//! Files of old segments on the model: consumers of the past hold no more of them open than may be.

use super::*;

const SEGMENTS: usize = 40;

/// A node with a topic `old`, a segment for each of its records.
fn node() -> (Bench, Client, usize) {
    let mut bench = Bench::new(1, SimOptions::default());
    let mut client = bench.client();
    let settings = [("write.path", "page-cache"), ("internal.segment.bytes", "1024"), ("durability", "os")];
    let settings = settings.map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let topic = CreatableTopic {
        name: "old",
        num_partitions: 1,
        replication_factor: 1,
        configs: settings.to_vec().into(),
        ..Default::default()
    };
    let before = bench.world.open_files();
    client.make(
        &mut bench,
        &CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() },
    );
    for _ in 0..SEGMENTS {
        client.send_batch(&bench, "old", &[7; 700]);
        assert_eq!(client.produced(&mut bench), Some(ErrorCode::None));
    }
    bench.run_until(Duration::from_secs(5), |_| false);
    let segments = |bench: &Bench| {
        bench.shards[0].0.partitions.iter().map(|(_, replica)| replica.log().segment_count()).max().unwrap()
    };
    assert!(segments(&bench) >= SEGMENTS - 1, "{} segments", segments(&bench));
    (bench, client, before)
}

/// Reads the record at this offset.
fn read(bench: &mut Bench, client: &mut Client, offset: usize) {
    client.send_fetch(bench, "old", offset as i64, 1);
    let (error, bytes) = client.fetched(bench).expect("it is answered");
    assert_eq!(error, ErrorCode::None);
    assert!(bytes > 700, "nothing at {offset}");
}

#[test]
fn reads_of_many_old_segments_hold_few_files_open() {
    let (mut bench, mut client, before) = node();
    // Beside the old ones: the file that is written to, the space for the one after it, and the metadata's.
    let allowed = before + 3 + OLD_FILES as usize;
    assert!(bench.world.open_files() <= allowed, "{} open after writing", bench.world.open_files());
    let mut at_the_bound = 0;
    for round in 0..3 {
        for offset in 0..SEGMENTS {
            // From the newest to the oldest, and back: none that is read is open still, but for the last few.
            let offset = if round % 2 == 0 { SEGMENTS - 1 - offset } else { offset };
            read(&mut bench, &mut client, offset);
            let open = bench.world.open_files();
            assert!(
                open <= allowed,
                "{open} files are open after {offset} of round {round}, {allowed} may be"
            );
            at_the_bound += usize::from(open == allowed || open + 1 == allowed);
        }
    }
    assert!(at_the_bound > SEGMENTS, "the bound was hardly ever reached");
}

#[test]
fn what_is_read_again_and_again_stays_open() {
    let (mut bench, mut client, _) = node();
    let is_open = |bench: &Bench, offset: usize| {
        bench.shards[0]
            .0
            .partitions
            .iter()
            .any(|(_, replica)| &*replica.at().topic == "old" && replica.log().is_open_at(offset as i64))
    };
    for other in 10..SEGMENTS - 10 {
        read(&mut bench, &mut client, 0);
        read(&mut bench, &mut client, other);
        assert!(is_open(&bench, 0), "closed for {other}");
        assert!(is_open(&bench, other) && !is_open(&bench, other - OLD_FILES as usize));
    }
}
