//! Partitions whose bytes are damaged when the node starts.

use super::*;
use crate::log::journal::Redone;
use crate::partition::OfflineReason;
use crate::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse,
};

/// Byte 16 of a batch: its magic.
const MAGIC: u64 = 16;

fn segment(partition: &str) -> std::path::PathBuf {
    layout::offset_file(&Path::new(DATA).join(partition), 0, layout::FileSuffix::Log)
}

impl Bench {
    fn damage(&self, partition: &str, position: u64) {
        self.world.flip_bit(&segment(partition), position, 4).unwrap();
    }

    /// The partitions that were told to be offline.
    fn unopened(&mut self) -> Vec<String> {
        let events = self.shards.iter_mut().flat_map(|(shard, ..)| shard.take_events());
        let unopened = events.filter_map(|event| match event {
            ShardEvent::Unopened { at, reason: OfflineReason::Damaged(damaged) } => {
                Some(format!("{at}: {damaged}"))
            }
            _ => None,
        });
        unopened.collect()
    }
}

/// A node with these topics and a batch in each, stopped.
fn stopped(shard_count: u16, topics: &[&str]) -> Bench {
    let mut bench = Bench::new(shard_count, SimOptions::default());
    let mut client = bench.client();
    for topic in topics {
        client.create(&mut bench, topic);
        assert_eq!(client.produce(&mut bench, topic), Some(ErrorCode::None));
    }
    bench.stop();
    bench
}

#[test]
fn a_damaged_partition_is_offline_and_the_others_are_served() {
    let bench = stopped(2, &["a", "b"]);
    bench.damage("a-0", MAGIC);
    let open_files = bench.world.open_files();
    let mut bench = bench.restart();
    assert!(bench.world.open_files() >= open_files);
    let told = bench.unopened();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .starts_with("a-0: damaged: /data/a-0/00000000000000000000.log at byte 0: the batch has magic"),
        "{told:?}"
    );
    let mut client = bench.client();
    assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::KafkaStorageError));
    client.send_fetch(&bench, "a", 0, 1);
    assert_eq!(client.fetched(&mut bench), Some((ErrorCode::KafkaStorageError, 0)));
    assert_eq!(client.produce(&mut bench, "b"), Some(ErrorCode::None));
    // Nothing was cut: with the bit turned back everything is there again.
    bench.stop();
    bench.damage("a-0", MAGIC);
    let mut bench = bench.restart();
    assert_eq!(bench.unopened(), Vec::<String>::new());
    let mut client = bench.client();
    client.send_fetch(&bench, "a", 0, 1);
    let (error, bytes) = client.fetched(&mut bench).unwrap();
    assert!(error == ErrorCode::None && bytes > 100, "{error:?}, {bytes} bytes");
}

#[test]
fn a_damaged_partition_can_be_deleted_and_made_anew() {
    let bench = stopped(1, &["a"]);
    bench.damage("a-0", MAGIC);
    let mut bench = bench.restart();
    let mut client = bench.client();
    client.send(&bench, &delete("a"), 6);
    assert!(client.answer(&mut bench).is_some());
    client.create(&mut bench, "a");
    assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::None));
}

#[test]
fn a_folder_that_does_not_say_whose_it_is_is_kept() {
    for is_gone in [false, true] {
        let bench = stopped(1, &["a"]);
        let path = Path::new(DATA).join("a-0").join(layout::PARTITION_METADATA);
        if is_gone {
            bench.world.files().remove_file(&path).unwrap();
        } else {
            bench.world.flip_bit(&path, 3, 1).unwrap();
        }
        let mut bench = bench.restart();
        assert_eq!(bench.unopened().len(), 1);
        let mut files = bench.world.files();
        let files: &mut dyn Files = &mut files;
        assert!(!files.read_all(&segment("a-0")).unwrap().is_empty());
    }
}

#[test]
fn a_folder_that_is_gone_is_damage_and_no_new_partition() {
    let bench = stopped(1, &["a", "b"]);
    let folder = Path::new(DATA).join("a-0");
    bench.world.files().remove_directory(&folder).unwrap();
    let mut bench = bench.restart();
    let told = bench.unopened();
    let expected =
        "a-0: damaged: /data/a-0 at byte 0: the folder of a partition that had been made is not there";
    assert_eq!(told, [expected]);
    let mut client = bench.client();
    assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::KafkaStorageError));
    assert_eq!(client.produce(&mut bench, "b"), Some(ErrorCode::None));
    assert_eq!(bench.world.files().kind(&folder).unwrap(), None, "nothing is made in its place");
    // Nor later, until its topic is deleted; then the name is free.
    bench.stop();
    let mut bench = bench.restart();
    assert_eq!(bench.unopened(), [expected]);
    let mut client = bench.client();
    client.send(&bench, &delete("a"), 6);
    assert!(client.answer(&mut bench).is_some());
    client.create(&mut bench, "a");
    assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::None));
    let mut bench = bench.restart();
    assert_eq!(bench.unopened(), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_gone_before_any_checkpoint_is_damage_too() {
    for write_path in ["page-cache", "journal"] {
        let mut bench = Bench::new(1, SimOptions::default());
        let mut client = bench.client();
        client.make(&mut bench, &create_with("a", write_path));
        assert_eq!(client.produce(&mut bench, "a"), Some(ErrorCode::None));
        let world = bench.kill();
        world.files().remove_directory(&Path::new(DATA).join("a-0")).unwrap();
        let mut bench = Bench::start(world, 1, &[DATA]);
        let told = bench.unopened();
        assert!(told.len() == 1 && told[0].starts_with("a-0: damaged: /data"), "{write_path}: {told:?}");
        assert_eq!(bench.client().produce(&mut bench, "a"), Some(ErrorCode::KafkaStorageError));
    }
}

#[test]
fn damaged_metadata_refuses_the_start() {
    let mut bench = Bench::new(1, SimOptions::default());
    bench.client().create(&mut bench, "a");
    bench.stop();
    // Below the recovery point, and nothing that a header shows.
    bench.damage("__cluster_metadata-0", 100);
    let files: &mut dyn Files = &mut bench.world.files();
    let path = Path::new(DATA);
    let properties = read_meta_properties(files, path).unwrap().unwrap();
    let book = CheckpointBook::load(files, path).unwrap();
    let local = Local { node: NodeId(1), shards: 1 };
    let result = recover_metadata(files, path, &properties, local, &book, &Redone::default(), 0);
    let error = result.err().expect("the damage is found").to_string();
    assert!(error.contains("__cluster_metadata-0/00000000000000000000.log at byte 0"), "{error}");
}

/// Commits offset 5 of `a-0`, or fetches it: error and offset.
fn group_offset(bench: &mut Bench, client: &mut Client, commit: bool) -> (ErrorCode, i64) {
    if commit {
        let part =
            OffsetCommitRequestPartition { partition_index: 0, committed_offset: 5, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: "a", partitions: vec![part].into(), ..Default::default() };
        let request = OffsetCommitRequest { group_id: "g", topics: vec![topic].into(), ..Default::default() };
        client.send(bench, &request, 6);
        let answer = client.answer(bench).unwrap();
        let (_, mut body) = decode_response_header(&answer, ApiKey::OffsetCommit, 6).unwrap();
        let response = OffsetCommitResponse::decode(&mut body, 6).unwrap();
        let part = response.topics.first().unwrap().partitions.first().unwrap();
        return (ErrorCode::from_code(part.error_code).unwrap(), 5);
    }
    let topic = OffsetFetchRequestTopic { name: "a", partition_indexes: vec![0].into() };
    let request =
        OffsetFetchRequest { group_id: "g", topics: Some(vec![topic].into()), ..Default::default() };
    client.send(bench, &request, 5);
    let answer = client.answer(bench).unwrap();
    let (_, mut body) = decode_response_header(&answer, ApiKey::OffsetFetch, 5).unwrap();
    let response = OffsetFetchResponse::decode(&mut body, 5).unwrap();
    let offset = response.topics.first().and_then(|topic| Some(topic.partitions.first()?.committed_offset));
    (ErrorCode::from_code(response.error_code).unwrap(), offset.unwrap_or(-1))
}

fn find_coordinator(bench: &mut Bench, client: &mut Client) -> ErrorCode {
    client.send(bench, &FindCoordinatorRequest { key: "g", ..Default::default() }, 3);
    let answer = client.answer(bench).unwrap();
    let (_, mut body) = decode_response_header(&answer, ApiKey::FindCoordinator, 3).unwrap();
    let response = FindCoordinatorResponse::decode(&mut body, 3).unwrap();
    ErrorCode::from_code(response.error_code).unwrap()
}

#[test]
fn groups_whose_records_are_damaged_are_not_shown_empty() {
    let mut bench = Bench::new(2, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "a");
    while find_coordinator(&mut bench, &mut client) != ErrorCode::None {
        bench.run_until(Duration::from_millis(100), |_| false);
    }
    assert_eq!(group_offset(&mut bench, &mut client, true).0, ErrorCode::None);
    let mut bench = bench.restart();
    let mut client = bench.client();
    assert_eq!(group_offset(&mut bench, &mut client, false), (ErrorCode::None, 5));
    bench.stop();
    // In a record: recovery does not look at what was flushed, the coordinator does.
    let files: &mut dyn Files = &mut bench.world.files();
    let partition = (0..50)
        .map(|index| format!("__consumer_offsets-{index}"))
        .find(|name| files.read_all(&segment(name)).is_ok_and(|bytes| !bytes.is_empty()))
        .expect("the commit is in one of them");
    bench.damage(&partition, 80);
    let mut bench = bench.restart();
    assert_eq!(bench.unopened().len(), 1);
    let mut client = bench.client();
    assert_eq!(group_offset(&mut bench, &mut client, false).0, ErrorCode::NotCoordinator);
    assert_eq!(group_offset(&mut bench, &mut client, true).0, ErrorCode::NotCoordinator);
}
