//! Single behaviours, each named.

use bytes::BytesMut;
use corelog::log::{
    AppendError, Durability, Log, LogConfig, ReadDone, ReadError, ReadPlan, RecordAt, TailCache,
    TimestampPlan,
};
use corelog::model::{LeaderEpoch, Offset, Timestamp};
use corelog::reactor::Files;
use corelog::record::{BatchBuilder, BatchView, DecompressBounds, TimestampType};

use crate::bench::{Bench, batch_of, close, recover, small_config};

fn find(log: &Log, disk: &crate::disk::Disk, plan: TimestampPlan) -> Option<(Timestamp, Offset)> {
    let bounds = DecompressBounds { output_bytes_max: 1 << 20, ratio_max: 100 };
    let found: Option<RecordAt> = match plan {
        TimestampPlan::None => None,
        TimestampPlan::Search(search) => search.run(&mut disk.clone(), bounds).unwrap(),
    };
    assert!(found.is_none_or(|r| r.offset >= log.log_start_offset()));
    found.map(|r| (r.timestamp, r.offset))
}

fn search(bench: &mut Bench, plan: impl FnOnce(&mut Log) -> TimestampPlan) -> Option<(Timestamp, Offset)> {
    let plan = plan(&mut bench.log);
    find(&bench.log, &bench.disk, plan)
}

#[test]
fn timestamps_are_found_inside_batches_of_all_segments() {
    let mut bench = Bench::new(1, small_config());
    let mut expected = Vec::new();
    for i in 0..60i64 {
        let mut builder = BatchBuilder::new();
        for j in 0..5i64 {
            let timestamp = 1_000_000 + i * 50 + j * 10;
            builder.push(timestamp, None, Some(&[7; 100]));
            expected.push(timestamp);
        }
        bench.try_append(&builder.finish(0, LeaderEpoch(0)), 0).unwrap();
    }
    bench.settle();
    assert!(bench.log.segment_count() > 3);
    let end = bench.log.log_end_offset();
    for target in (999_990..1_003_020).step_by(7) {
        let want = expected.iter().position(|t| *t >= target).map(|i| (expected[i], i as Offset));
        let found = search(&mut bench, |log| log.plan_timestamp(target, end));
        assert_eq!(found, want, "at or after {target}");
    }
    let last = expected.len() - 1;
    let found = search(&mut bench, |log| log.plan_max_timestamp(end));
    assert_eq!(found, Some((expected[last], last as Offset)));
    // Deleted records are not found.
    bench.log.advance_log_start(42);
    assert_eq!(search(&mut bench, |log| log.plan_timestamp(0, end)), Some((expected[42], 42)));
    assert_eq!(search(&mut bench, |log| log.plan_timestamp(0, 42)), None, "nothing below the bound");
}

#[test]
fn log_append_time_replaces_the_producers_time() {
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..small_config() };
    let mut bench = Bench::new(1, config);
    bench.io.wall = 5_000_000;
    let appended = bench.try_append(&batch_of(1_000_000, &[b"a", b"b"], None), 0).unwrap();
    assert_eq!(appended.log_append_time, Some(5_000_000));
    bench.settle();
    let found = search(&mut bench, |log| log.plan_timestamp(1, 2));
    assert_eq!(found, Some((5_000_000, 0)));
}

#[test]
fn batches_outside_the_topics_bounds_are_refused() {
    let mut bench = Bench::new(1, LogConfig { max_message_bytes: 1_000, ..small_config() });
    let check = |bench: &mut Bench, bytes, expected: &str| {
        let error = bench.try_append(&bytes, 0).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(bench.log.log_end_offset(), 0);
    };
    check(&mut bench, batch_of(1_000_000, &[&[0; 1_000]], None), "the topic allows 1000");
    let hour = 60 * 60 * 1000;
    check(&mut bench, batch_of(1_000_000 + hour + 1, &[b"late"], None), "is not allowed");
    let mut bytes = batch_of(1_000_000, &[b"a"], None).to_vec();
    corelog::record::set_log_append_time(&mut bytes, 1_000_000);
    check(&mut bench, bytes.into(), "is not allowed");
    assert!(bench.try_append(&batch_of(1_000_000 + hour, &[b"just"], None), 0).is_ok());
    assert!(bench.try_append(&batch_of(0, &[b"old"], None), 0).is_ok(), "the past is unlimited by default");
}

#[test]
fn a_full_disk_refuses_appends_and_recovers_by_itself() {
    let mut bench = Bench::new(1, LogConfig { segment_bytes: 100_000, ..small_config() });
    bench.append(1, 10);
    bench.settle();
    bench.disk.set_space_left(Some(0));
    let big = batch_of(1_000_000, &[&[1; 900]], None);
    let refused = loop {
        match bench.try_append(&big, 0) {
            Ok(_) => bench.settle(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NoSpace), "{refused}");
    bench.check_reads();
    let end = bench.log.log_end_offset();
    assert!(end > 50, "what was reserved is used first");
    bench.settle();
    assert_eq!(bench.log.committed_offset(), end, "what was appended is committed");
    bench.disk.set_space_left(Some(1 << 30));
    assert!(matches!(bench.try_append(&big, 0), Err(AppendError::NoSpace)), "not asked again at once");
    bench.pass_time(1_000);
    assert_eq!(bench.try_append(&big, 0).unwrap().base_offset, end);
    assert!(bench.log.offline().is_none());
}

#[test]
fn a_disk_without_room_for_a_large_step_is_filled_in_small_ones() {
    let mut bench = Bench::new(1, LogConfig { segment_bytes: 1 << 30, ..small_config() });
    let [big, small] = [900_000, 60_000].map(|bytes| batch_of(1_000_000, &[&vec![1; bytes]], None));
    for _ in 0..40 {
        bench.try_append(&big, 0).unwrap();
        bench.settle();
    }
    // Less than the step that comes next.
    bench.disk.set_space_left(Some(3 << 20));
    for batch in [big, small] {
        while bench.try_append(&batch, 0).is_ok() {
            bench.settle();
        }
        bench.pass_time(1_000);
    }
    let left = bench.disk.space_left().unwrap();
    assert!(left < 64 * 1024, "{left} bytes are left");
    bench.settle();
    assert_eq!(bench.log.committed_offset(), bench.log.log_end_offset());
    assert!(bench.log.offline().is_none());
}

#[test]
fn a_failed_flush_takes_the_log_offline_for_good() {
    let mut bench = Bench::new(1, small_config());
    bench.append(1, 10);
    bench.settle();
    bench.append(1, 10);
    bench.disk.fail_syncs(true);
    bench.settle();
    bench.disk.fail_syncs(false);
    let error = bench.log.offline().expect("the log is offline").to_string();
    assert!(error.contains("write and flush segment: /data/t-0/00000000000000000000.log at byte"), "{error}");
    assert_eq!(bench.log.committed_offset(), 1, "the second batch is never acknowledged");
    let bytes = batch_of(1_000_000, &[b"a"], None);
    assert!(matches!(bench.try_append(&bytes, 0), Err(AppendError::Offline(_))));
    bench.settle();
    assert_eq!(bench.log.committed_offset(), 1);
    assert!(bench.log.is_quiet());
    let Bench { log, mut io, .. } = bench;
    log.close_files(&mut io);
}

#[test]
fn expired_segments_go_and_the_last_one_rolls_first() {
    let config = LogConfig { retention_ms: Some(1_000), durability: Durability::Os, ..small_config() };
    let mut bench = Bench::new(1, config);
    for _ in 0..20 {
        bench.append(5, 200);
        bench.settle();
    }
    let end = bench.log.log_end_offset();
    assert!(!bench.log.enforce_retention(bench.io.wall, end), "nothing is old yet");
    bench.pass_time(10_000);
    assert!(!bench.log.enforce_retention(bench.io.wall, 0), "nothing above the bound goes");
    assert!(bench.log.enforce_retention(bench.io.wall, end));
    bench.settle();
    assert_eq!(bench.log.log_end_offset(), end);
    bench.log.enforce_retention(bench.io.wall, end);
    assert_eq!((bench.log.log_start_offset(), bench.log.segment_count()), (end, 1));
    let before = bench.disk.files().len();
    bench.settle();
    assert_eq!(bench.disk.files().len(), before, "files stay until the log start is durable");
    bench.write_checkpoint();
    bench.settle();
    let logs = bench.disk.files().iter().filter(|p| p.extension().is_some_and(|e| e == "log")).count();
    assert_eq!(logs, 1);
    let now = bench.now();
    let read = bench.log.read(&bench.cache, 0, end, 100, true, now);
    assert!(matches!(read, Err(ReadError::OutOfRange { .. })));
}

#[test]
fn a_switch_to_fsync_never_moves_committed_back() {
    let mut bench = Bench::new(5, LogConfig { durability: Durability::Os, ..small_config() });
    for _ in 0..10 {
        bench.append(3, 100);
    }
    bench.settle();
    assert!(bench.log.flushed_offset() < bench.log.committed_offset());
    bench.log.set_config(LogConfig { durability: Durability::Fsync, ..small_config() });
    let before = bench.log.committed_offset();
    bench.append(3, 100);
    while bench.step() {
        assert!(bench.log.committed_offset() >= before);
    }
    assert_eq!(bench.log.flushed_offset(), bench.log.log_end_offset());
    assert_eq!(bench.log.committed_offset(), bench.log.log_end_offset());
}

#[test]
fn interval_flushes_by_time_and_by_count() {
    let durability = Durability::Interval { flush_ms: 100, flush_messages: 10 };
    let mut bench = Bench::new(5, LogConfig { durability, ..small_config() });
    bench.append(3, 10);
    bench.settle();
    assert_eq!((bench.log.committed_offset(), bench.log.flushed_offset()), (3, 0));
    let due = bench.log.next_deadline();
    assert_eq!(due.since(bench.io.now).as_millis(), 100);
    bench.pass_time(100);
    bench.settle();
    assert_eq!(bench.log.flushed_offset(), 3);
    bench.append(9, 10);
    bench.settle();
    assert_eq!(bench.log.flushed_offset(), 3);
    bench.append(1, 10);
    bench.settle();
    assert_eq!(bench.log.flushed_offset(), 13);
}

#[test]
fn the_last_five_batches_are_known_after_a_clean_stop() {
    let mut bench = Bench::new(5, small_config());
    let batches: Vec<_> = (0..8).map(|i| bench.idempotent_batch(i, 1)).collect();
    for bytes in &batches {
        bench.try_append(bytes, 0).unwrap();
    }
    bench.settle();
    let config = *bench.log.config();
    let (disk, checkpoint, _) = close(bench);
    let (mut log, _) = recover(&disk, config, checkpoint, true).unwrap();
    let now = corelog::log::Now { monotonic: Default::default(), wall: 1_000_000 };
    for (i, bytes) in batches.iter().enumerate() {
        let again = log.append(&BatchView::parse(bytes).unwrap(), LeaderEpoch(0), now);
        match again {
            Ok(appended) => assert!(i >= 3 && appended.is_duplicate && appended.base_offset == i as i64),
            Err(error) => assert!(i < 3 && matches!(error, AppendError::Producer(_)), "batch {i}: {error}"),
        }
    }
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset() {
    let mut bench = Bench::new(5, small_config());
    for _ in 0..30 {
        bench.append(10, 50);
    }
    bench.settle();
    for offset in [0, 5, 9, 10, 123, 299] {
        let found = bench.read(offset, 300, 1);
        assert_eq!(found.len(), 1, "at least one batch");
        assert_eq!(found[0].base_offset, offset / 10 * 10);
    }
    assert!(bench.read(300, 300, 1_000).is_empty(), "the end is empty");
    assert!(bench.read(290, 295, 1_000).is_empty(), "a batch beyond the bound is not given in part");
    let now = bench.now();
    assert!(matches!(
        bench.log.read(&bench.cache, 301, 301, 1, true, now),
        Err(ReadError::OutOfRange { .. })
    ));
}

#[test]
fn truncation_drops_whole_batches_and_the_state_that_came_with_them() {
    for offset in [0, 1, 7, 60, 61, 99] {
        let mut bench = Bench::new(5, small_config());
        for epoch in 0..4 {
            for _ in 0..5 {
                let bytes = batch_of(1_000_000, &[[1; 300].as_slice(); 5], None);
                bench.try_append(&bytes, epoch).unwrap();
            }
        }
        bench.settle();
        let Bench { mut disk, log, mut io, kept, .. } = bench;
        assert_eq!(log.log_end_offset(), 100);
        let (log, _) = log.truncate_to(&mut disk, offset, 1_000_000).unwrap();
        let end = offset / 5 * 5;
        assert_eq!(log.log_end_offset(), end);
        assert_eq!(log.flushed_offset(), end);
        let latest = log.leader_epochs().latest().map(|e| e.start_offset);
        assert_eq!(latest, kept.iter().map(|k| k.base_offset).rfind(|b| *b < end && b % 25 == 0));
        log.close_files(&mut io);
        let (again, report) = recover(&disk, small_config(), (end, 0), false).unwrap();
        assert_eq!((again.log_end_offset(), report.cut), (end, None));
    }
}

#[test]
fn a_planned_read_keeps_its_file_open_after_the_segment_is_gone() {
    let config = LogConfig { durability: Durability::Os, ..small_config() };
    let mut bench = Bench::new(5, config);
    for _ in 0..30 {
        bench.append(5, 200);
    }
    bench.settle();
    bench.cache = TailCache::new(0);
    bench.check_reads();
    let (now, end) = (bench.now(), bench.log.log_end_offset());
    let first = bench.log.read(&bench.cache, 0, end, 1_000, true, now).unwrap();
    let read = match first {
        ReadPlan::Disk(read) => read,
        _ => panic!("the first segment was opened by the reads before"),
    };
    bench.log.set_config(LogConfig { retention_bytes: Some(0), ..config });
    bench.log.enforce_retention(now.wall, end);
    bench.write_checkpoint();
    bench.settle();
    assert!(!bench.disk.files().iter().any(|p| p.ends_with("00000000000000000000.log")), "unlinked");
    let mut buffer = BytesMut::zeroed(read.length as usize);
    let length = bench.disk.read_at(read.file, read.position, &mut buffer).unwrap();
    buffer.truncate(length);
    assert!(
        matches!(bench.log.finish_read(&read, buffer), Ok(ReadDone::Batches(bytes)) if !bytes.is_empty())
    );
    assert!(!bench.log.is_quiet());
    drop(read);
    assert!(bench.log.is_quiet());
    let open_before = bench.disk.open_files();
    bench.log.tidy(&mut bench.io, &bench.cache, now, std::time::Duration::from_secs(1));
    bench.settle();
    assert!(bench.disk.open_files() < open_before, "closed once nobody reads it");
}
