use std::fs;

use super::*;
use crate::log::journal::{Entry, EntrySink, Journal, JournalOptions, PartitionKey, Place, Record};
use crate::log::layout::{self, FileSuffix};
use crate::log::{LeaderEpochCache, LogSlot, ProducerState};
use crate::metrics::JournalMeter;
use crate::model::{LeaderEpoch, Monotonic, Offset, ShardId, Uuid};
use crate::reactor::sim::{SimOptions, SimWorld};
use crate::reactor::{Files, Io, Room, Token};
use crate::record::BatchBuilder;

fn batch(base: Offset, epoch: i32, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(timestamp, Some(b"key"), Some(&[b'v'; 100]));
    builder.push(timestamp, Some(b"key"), Some(b"value"));
    builder.finish(base, LeaderEpoch(epoch)).to_vec()
}

/// Bytes of each batch of the samples.
fn size() -> usize {
    batch(0, 0, 0).len()
}

/// A data directory with the partition `t-0`: two segments of three batches of two records, the first one with indexes.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new(recovery_point: Offset) -> Directory {
        let directory = Directory(tempfile::tempdir().unwrap());
        let meta =
            layout::MetaProperties { cluster_id: "c".to_owned(), node_id: 1, directory_id: Uuid([1; 16]) };
        directory.write(layout::META_PROPERTIES, meta.encode().as_bytes());
        directory.write(layout::RECOVERY_POINTS, format!("0\n1\nt 0 {recovery_point}\n").as_bytes());
        fs::create_dir(directory.0.path().join("t-0")).unwrap();
        let metadata = layout::encode_partition_metadata(Uuid([2; 16]));
        directory.write("t-0/partition.metadata", metadata.as_bytes());
        let mut epochs = LeaderEpochCache::default();
        epochs.assign(LeaderEpoch(1), 0);
        epochs.assign(LeaderEpoch(2), 6);
        directory.write("t-0/leader-epoch-checkpoint", epochs.encode().as_bytes());
        directory.write(&log(0), &[batch(0, 1, 10), batch(2, 1, 30), batch(4, 1, 20)].concat());
        directory.write(&log(6), &[batch(6, 2, 40), batch(8, 2, 50), batch(10, 2, 60)].concat());
        directory.write(&file(0, FileSuffix::OffsetIndex), &index(&[(3, 1), (5, 2)]));
        directory.write(&file(0, FileSuffix::TimeIndex), &times(&[(30, 3)]));
        directory.write(&file(6, FileSuffix::ProducerSnapshot), &ProducerState::default().encode_snapshot());
        directory
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.0.path().join(name)).unwrap();
        change(&mut bytes);
        self.write(name, &bytes);
    }

    fn verify(&self, path: &str) -> Verified {
        run(&self.0.path().join(path), NonZeroUsize::new(2)).unwrap()
    }

    /// Each finding: its kind, file and position.
    fn found(&self) -> Vec<String> {
        let kind = |verdict: &Verdict| match verdict {
            Verdict::Damaged(Fault::Batch(_)) => "batch",
            Verdict::Damaged(Fault::Overlap { .. }) => "overlap",
            Verdict::Damaged(Fault::Short { .. }) => "short",
            Verdict::Damaged(Fault::EpochFalls { .. }) => "epoch falls",
            Verdict::Damaged(Fault::EpochStored { .. }) => "epoch stored",
            Verdict::Damaged(Fault::IndexEntry { .. }) => "index",
            Verdict::Damaged(Fault::TimeEntry { .. }) => "time",
            Verdict::Damaged(Fault::TimeEnd { .. }) => "time end",
            Verdict::Damaged(Fault::PartOfEntry { .. }) => "part",
            Verdict::Damaged(Fault::Snapshot(_)) => "snapshot",
            Verdict::Damaged(Fault::NotCheckpoint | Fault::NotMetadata) => "text",
            Verdict::Damaged(Fault::Missing) => "no file",
            Verdict::Damaged(Fault::Journal(_)) => "journal damaged",
            Verdict::Journal(_) => "journal",
            Verdict::TornTail { .. } => "torn",
            Verdict::BehindTear { .. } => "behind",
            Verdict::CacheMissing => "missing",
            Verdict::NotChecked => "unchecked",
            Verdict::Unreadable(_) => "unreadable",
        };
        let line = |finding: &Finding| {
            let name = finding.path.file_name().unwrap().to_str().unwrap().trim_start_matches('0').to_owned();
            let position = finding.position.map_or(String::new(), |at| format!(" @{at}"));
            format!("{} {name}{position}", kind(&finding.verdict))
        };
        self.verify("").findings.iter().map(line).collect()
    }
}

fn file(base: Offset, suffix: FileSuffix) -> String {
    layout::offset_file(Path::new("t-0"), base, suffix).to_str().unwrap().to_owned()
}

fn log(base: Offset) -> String {
    file(base, FileSuffix::Log)
}

/// Offset index entries: last offset, and which batch of its segment.
fn index(entries: &[(i32, usize)]) -> Vec<u8> {
    let entry = |&(offset, batch): &(i32, usize)| {
        [offset.to_be_bytes(), ((batch * size()) as i32).to_be_bytes()].concat()
    };
    entries.iter().flat_map(entry).collect()
}

fn times(entries: &[(i64, i32)]) -> Vec<u8> {
    let entry =
        |(timestamp, offset): &(i64, i32)| [&timestamp.to_be_bytes()[..], &offset.to_be_bytes()].concat();
    entries.iter().flat_map(entry).collect()
}

/// What is found after a change, with everything below offset 8 flushed.
#[track_caller]
fn check(expected: &[&str], change: impl FnOnce(&Directory)) {
    let directory = Directory::new(8);
    change(&directory);
    assert_eq!(directory.found(), expected);
}

#[test]
fn a_sound_directory_passes() {
    let verified = Directory::new(12).verify("");
    assert_eq!(verified.findings.len(), 0, "{}", verified.text());
    assert_eq!(verified.outcome(), Outcome::Sound);
    let Verified { partitions, segments, batches, bytes, .. } = verified;
    assert_eq!((partitions, segments, batches, bytes), (1, 2, 6, 6 * size() as u64));
}

#[test]
fn damage_is_told_from_a_torn_tail_by_the_recovery_point() {
    let flip = |base: Offset, at: usize| move |d: &Directory| d.change(&log(base), |bytes| bytes[at] ^= 1);
    let (second, third, end) = (size(), 2 * size(), 3 * size());
    check(&[&format!("batch .log @{second}")], flip(0, second + 70));
    check(&["batch 6.log @0"], flip(6, 70));
    check(&[&format!("torn 6.log @{second}")], flip(6, second + 70));
    check(&[&format!("torn 6.log @{third}")], flip(6, third + 16));
    check(&[&format!("torn 6.log @{third}")], |d| d.change(&log(6), |bytes| bytes.truncate(third + 3)));
    check(&[&format!("torn 6.log @{end}")], |d| d.change(&log(6), |bytes| bytes.resize(end + 4096, 0)));
    // A clean stop leaves nothing torn.
    check(&[&format!("batch 6.log @{third}")], |d| {
        d.write(layout::CLEAN_SHUTDOWN, b"");
        d.change(&log(6), |bytes| bytes.truncate(third + 3));
    });
}

#[test]
fn every_damaged_batch_is_told() {
    check(&["batch .log @0", &format!("batch .log @{}", 2 * size())], |d| {
        d.change(&log(0), |bytes| {
            bytes[70] ^= 1;
            bytes[2 * size() + 70] ^= 1;
        });
    });
}

#[test]
fn segments_join_without_gap_or_overlap() {
    let at = format!(".log @{}", 3 * size());
    check(&[&format!("short {at}")], |d| {
        let last = fs::read(d.0.path().join(log(6))).unwrap();
        fs::remove_file(d.0.path().join(log(6))).unwrap();
        d.write(&log(8), &last[size()..]);
    });
    check(&[&format!("overlap .log @{}", 4 * size())], |d| {
        d.change(&log(0), |bytes| bytes.extend(batch(6, 2, 5)));
        d.write(&file(0, FileSuffix::OffsetIndex), &index(&[]));
    });
    check(&["short t-0"], |d| {
        d.change(&log(6), |bytes| bytes.clear());
    });
    check(&["short t-0"], |d| {
        fs::remove_file(d.0.path().join(log(0))).unwrap();
        fs::remove_file(d.0.path().join(log(6))).unwrap();
    });
    check(&["epoch falls 6.log @0"], |d| {
        d.write("t-0/leader-epoch-checkpoint", b"0\n1\n1 0\n");
        d.write(&log(6), &batch(6, 0, 40));
        d.write(layout::RECOVERY_POINTS, b"0\n1\nt 0 6\n");
    });
}

#[test]
fn a_tear_between_segments_ends_the_log() {
    let directory = Directory::new(2);
    directory.change(&log(0), |bytes| bytes[size() + 70] ^= 1);
    assert_eq!(directory.found(), [format!("torn .log @{}", size()), "behind 6.log".to_owned()]);
    let directory = Directory::new(2);
    directory.change(&log(0), |bytes| bytes.truncate(2 * size()));
    assert_eq!(directory.found(), [format!("torn .log @{}", 3 * size() - size())]);
}

#[test]
fn indexes_are_held_against_the_log() {
    let offsets = |entries: &'static [(i32, usize)]| {
        move |d: &Directory| d.write(&file(0, FileSuffix::OffsetIndex), &index(entries))
    };
    check(&[], offsets(&[(5, 2)]));
    check(&["index .index @0"], offsets(&[(4, 1)]));
    check(&["index .index @8"], offsets(&[(3, 1), (5, 7)]));
    check(&["part .index @8"], |d| {
        d.change(&file(0, FileSuffix::OffsetIndex), |bytes| bytes.truncate(11));
    });
    let timed = |entries: &'static [(i64, i32)]| {
        move |d: &Directory| d.write(&file(0, FileSuffix::TimeIndex), &times(entries))
    };
    check(&[], timed(&[(10, 1), (30, 3)]));
    check(&["time .timeindex @12"], timed(&[(10, 1), (20, 5)]));
    check(&["time .timeindex @0"], timed(&[(11, 1)]));
    check(&["time end .timeindex @12"], timed(&[(10, 1)]));
    check(&["missing .index"], |d| {
        fs::remove_file(d.0.path().join(file(0, FileSuffix::OffsetIndex))).unwrap();
    });
    // Of a segment above the recovery point the next start makes them anew.
    check(&[], |d| d.write(&file(6, FileSuffix::OffsetIndex), b"whatever"));
}

#[test]
fn what_stands_beside_the_logs_is_read_too() {
    check(&["epoch stored leader-epoch-checkpoint"], |d| {
        d.write("t-0/leader-epoch-checkpoint", b"0\n1\n1 0\n");
    });
    check(&["text leader-epoch-checkpoint"], |d| d.write("t-0/leader-epoch-checkpoint", b"x"));
    check(&["snapshot 6.snapshot"], |d| d.change(&file(6, FileSuffix::ProducerSnapshot), |b| b[3] ^= 1));
    check(&["text partition.metadata"], |d| d.write("t-0/partition.metadata", b"x"));
    check(&["no file partition.metadata"], |d| {
        fs::remove_file(d.0.path().join("t-0/partition.metadata")).unwrap();
    });
    check(&["text log-start-offset-checkpoint"], |d| d.write(layout::LOG_STARTS, b"1"));
    check(&["unchecked journal-0", "unchecked lost+found", "unchecked notes.txt"], |d| {
        d.write("journal-0", b"");
        d.write("t-0/notes.txt", b"");
        fs::create_dir(d.0.path().join("lost+found")).unwrap();
        d.write("t-0/segment.next", b"\0\0");
    });
}

#[test]
fn what_is_deleted_need_not_be_there() {
    check(&[], |d| {
        d.write(layout::LOG_STARTS, b"0\n1\nt 0 7\n");
        d.change(&log(0), |bytes| bytes.fill(7));
    });
    check(&[], |d| {
        d.write(layout::LOG_STARTS, b"0\n1\nt 0 20\n");
        fs::remove_file(d.0.path().join(log(0))).unwrap();
        d.write(&log(6), b"");
    });
}

#[test]
fn partitions_and_segments_can_be_named_alone() {
    let directory = Directory::new(8);
    directory.change(&log(6), |bytes| bytes[2 * size() + 70] ^= 1);
    let count = |path: &str| {
        let verified = directory.verify(path);
        (verified.segments, verified.findings.len(), verified.outcome())
    };
    assert_eq!(count("t-0"), (2, 1, Outcome::Sound));
    assert_eq!(count(&log(0)), (1, 0, Outcome::Sound));
    assert_eq!(count(&log(6)), (1, 1, Outcome::Sound));
    // Away from its data directory nobody knows what was flushed: everything is held to be.
    let copy = directory.0.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let name = copy.join("00000000000000000006.log");
    fs::copy(directory.0.path().join(log(6)), &name).unwrap();
    assert_eq!(run(&name, None).unwrap().outcome(), Outcome::Damaged);
    assert!(matches!(run(&copy, None), Err(VerifyError::NotDataDirectory { .. })));
    assert!(matches!(run(&copy.join("no"), None), Err(VerifyError::Read { .. })));
}

#[test]
fn lines_and_json_say_what_and_where() {
    let directory = Directory::new(8);
    directory.change(&log(0), |bytes| bytes[70] ^= 1);
    let verified = directory.verify("");
    let text = verified.text();
    assert!(text.contains("00000000000000000000.log at byte 0: expected CRC 0x"), "{text}");
    assert!(text.contains("\nremedy: nothing here is repaired by cutting"), "{text}");
    assert!(text.ends_with("1 place is damaged\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&verified.json()).unwrap();
    assert_eq!(json["outcome"], "damaged");
    assert_eq!(json["damaged"][0]["position"], 0);
    assert!(json["damaged"][0]["expected"].as_str().unwrap().starts_with("CRC 0x"), "{json}");
}

/// The journal of a machine that went down: two laps' worth of groups, of which those since the checkpoint count.
fn journal_file() -> Vec<u8> {
    let world = SimWorld::new(1, SimOptions::default());
    let files: &mut dyn Files = &mut world.files();
    let data = Path::new("/data");
    files.create_directory(data).unwrap();
    let options = JournalOptions { size_bytes_max: 64 * 1024, has_fua: false };
    let mut journal = Journal::create(files, data, 0, 77, options).unwrap();
    let mut io = world.io(ShardId(0));
    for round in 0..8 {
        let key = PartitionKey { topic_id: Uuid([2; 16]), partition: 0 };
        let place = Place { base_offset: round, end_offset: round + 1, segment: 0, position: 0 };
        let entry = Entry::Append { place, bytes: &[7; 100] };
        journal.append(Some(LogSlot(0)), &Record { key, leader_epoch: LeaderEpoch(1), entry });
        assert!(journal.commit(&mut io, |sequence| Token::new(Room::Log, sequence)));
        let mut completions = Vec::new();
        while completions.is_empty() {
            io.wait(Monotonic::NEVER);
            world.next_turn(Monotonic::NEVER);
            io.reap(&mut completions);
        }
        for completion in completions {
            let (sequence, meter) = (completion.token.value as u32, JournalMeter::detached());
            let committed = journal.complete(sequence, completion.outcome, world.now(), &meter);
            assert_eq!(committed.unwrap().groups.len(), 1);
        }
        if round == 4 {
            journal.checkpointed(journal.next_sequence());
        }
    }
    files.read_all(journal.path()).unwrap()
}

#[test]
fn journals_are_looked_into() {
    let name = layout::journal_file(0);
    check(&[&format!("journal {name}")], |d| d.write(&name, &journal_file()));
    let directory = Directory::new(8);
    directory.write(&name, &journal_file());
    let verified = directory.verify("");
    assert_eq!(verified.outcome(), Outcome::Sound);
    let Verdict::Journal(found) = &verified.findings[0].verdict else { panic!("{}", verified.text()) };
    let counts = (found.live_groups, found.live_entries, found.live_bytes, found.stale_groups);
    assert_eq!(counts, (3, 3, 3 * 172, 5));
    assert!(verified.text().contains("3 groups with 3 entries, 516 bytes"), "{}", verified.text());
    assert!(verified.json().contains("\"stale_groups\": 5"), "{}", verified.json());
    // The group before the last: the last one knows that it was durable. And the header.
    for at in [4096 * 7 + 100, 3] {
        check(&[&format!("journal damaged {name}")], |d| {
            d.write(&name, &journal_file());
            d.change(&name, |bytes| bytes[at] ^= 1);
        });
    }
    // A torn end is none.
    check(&[&format!("journal {name}")], |d| {
        d.write(&name, &journal_file());
        d.change(&name, |bytes| bytes[4096 * 8 + 100] ^= 1);
    });
}
